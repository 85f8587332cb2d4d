"""``replacePath``: the server is asked for another path. The query stays; ``X-Replaced-Path`` tells the old path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from swarmgate.middlewares.fields import spelling, without
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.middlewares.rewriting import path_of, rewrite
from swarmgate.structure import option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange

KIND = "replacePath"
REPLACED_PATH = b"X-Replaced-Path"
_SPELLINGS = frozenset((spelling(REPLACED_PATH),))


@attrs.frozen
class Settings:
    """Options of ``replacePath``."""

    path: str = option(doc="The path that is asked for instead.")


def replace(exchange: Exchange, path: bytes) -> None:
    """Forward *path*, and tell the server the old one."""
    request = exchange.request
    old = request.path
    if rewrite(exchange, path):
        # What the client says under this name is not what was replaced.
        request.fields = [*without(request.fields, _SPELLINGS), (REPLACED_PATH, old)]


class ReplacePath(Middleware):
    """Puts another path in place of any."""

    __slots__ = ("_path",)

    def __init__(self, settings: Settings) -> None:
        self._path = path_of(settings.path.strip(), "path")

    def request(self, exchange: Exchange) -> None:
        replace(exchange, self._path)


def build(settings: Settings, context: Context) -> Middleware:
    """The step for one route.

    :raises ValueError: the path is none.
    """
    return ReplacePath(settings)
