"""``stripPrefixRegex``: what matches at the beginning of a path is taken away from it.

It is like ``stripPrefix``, with regular expressions, which see the path as it is forwarded, with its escapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.middlewares.patterns import pattern_of
from swarmgate.middlewares.strip_prefix import strip
from swarmgate.structure import option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange

KIND = "stripPrefixRegex"


@attrs.frozen
class Settings:
    """Options of ``stripPrefixRegex``."""

    regex: tuple[str, ...] = option(doc="Regular expressions (RE2) of prefixes. The first that matches is stripped.")


class StripPrefixRegex(Middleware):
    """Takes what matches away from the beginning of paths."""

    __slots__ = ("_patterns",)

    def __init__(self, settings: Settings) -> None:
        self._patterns = tuple(pattern_of(text, "regex") for text in settings.regex)

    def request(self, exchange: Exchange) -> None:
        path = exchange.request.path.decode("ascii")
        for pattern in self._patterns:
            found = pattern.search(path)
            if found is not None and found.start() == 0 and found.end() > 0:
                strip(exchange, path[: found.end()].encode("ascii"))
                return


def build(settings: Settings, context: Context) -> Middleware:
    """The step for one route.

    :raises ValueError: an expression is none.
    """
    return StripPrefixRegex(settings)
