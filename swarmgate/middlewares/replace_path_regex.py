"""``replacePathRegex``: what matches in a path is replaced.

The expression sees the path as it is forwarded, with its escapes and without the query. ``$1`` and ``${name}`` in the
replacement are groups of the expression. ``X-Replaced-Path`` tells the server the old path. A new one that is not in
normal form is answered 400.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.middlewares.patterns import pattern_of, replacement_of
from swarmgate.middlewares.replace_path import replace
from swarmgate.middlewares.rewriting import quoted
from swarmgate.structure import option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange

KIND = "replacePathRegex"


@attrs.frozen
class Settings:
    """Options of ``replacePathRegex``."""

    regex: str = option(doc="A regular expression (RE2); it may match anywhere unless anchored.")
    replacement: str = option(default="", doc="What takes the place of each match.")


class ReplacePathRegex(Middleware):
    """Replaces what matches in paths."""

    __slots__ = ("_pattern", "_replacement")

    def __init__(self, settings: Settings) -> None:
        self._pattern = pattern_of(settings.regex, "regex")
        self._replacement = replacement_of(settings.replacement.strip(), self._pattern, quoted)

    def request(self, exchange: Exchange) -> None:
        path = exchange.request.path.decode("ascii")
        if self._pattern.search(path):
            replace(exchange, self._pattern.sub(self._replacement, path).encode("ascii"))


def build(settings: Settings, context: Context) -> Middleware:
    """The step for one route.

    :raises ValueError: the expression is none.
    """
    return ReplacePathRegex(settings)
