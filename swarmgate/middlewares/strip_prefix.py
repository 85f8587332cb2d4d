"""``stripPrefix``: the first of the prefixes that a path begins with is taken away from it.

The server sees the rest, with a slash before it, and the prefix in ``X-Forwarded-Prefix``. Prefix and path are compared
as the path is forwarded, with its escapes. A rest that is no path in normal form, as that of ``/api../x``, is
answered 400.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.middlewares.rewriting import path_of, rewrite
from swarmgate.structure import option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange

KIND = "stripPrefix"
FORWARDED_PREFIX = b"X-Forwarded-Prefix"


@attrs.frozen
class Settings:
    """Options of ``stripPrefix``."""

    prefixes: tuple[str, ...] = option(
        doc="Prefixes, each beginning with a slash. The first that fits is stripped; /api fits /apis too."
    )
    force_slash: bool = option(default=True, doc="Deprecated, without effect: the rest always begins with a slash.")


def strip(exchange: Exchange, prefix: bytes) -> None:
    """Take *prefix* away from the beginning of the path."""
    request = exchange.request
    rest = request.path[len(prefix) :]
    if rewrite(exchange, rest if rest.startswith(b"/") else b"/" + rest):
        request.fields.append((FORWARDED_PREFIX, prefix))


class StripPrefix(Middleware):
    """Takes a prefix away from paths."""

    __slots__ = ("_prefixes",)

    def __init__(self, settings: Settings) -> None:
        self._prefixes = tuple(path_of(prefix.strip(), "prefixes") for prefix in settings.prefixes)

    def request(self, exchange: Exchange) -> None:
        path = exchange.request.path
        for prefix in self._prefixes:
            if path.startswith(prefix):
                strip(exchange, prefix)
                return


def build(settings: Settings, context: Context) -> Middleware:
    """The step for one route.

    :raises ValueError: a prefix is none.
    """
    return StripPrefix(settings)
