"""``addPrefix``: the server is asked for the path with a prefix before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.middlewares.rewriting import path_of, rewrite
from swarmgate.structure import option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange

KIND = "addPrefix"


def _not_empty(instance: Any, attribute: Any, value: str) -> None:
    if not value.strip("/ "):
        raise ValueError("a prefix such as /api")


@attrs.frozen
class Settings:
    """Options of ``addPrefix``."""

    prefix: str = option(validator=_not_empty, doc="The prefix; slashes around it make no difference.")


class AddPrefix(Middleware):
    """Puts a prefix before paths."""

    __slots__ = ("_prefix",)

    def __init__(self, settings: Settings) -> None:
        self._prefix = path_of("/" + settings.prefix.strip().strip("/"), "prefix")

    def request(self, exchange: Exchange) -> None:
        rewrite(exchange, self._prefix + exchange.request.path)


def build(settings: Settings, context: Context) -> Middleware:
    """The step for one route.

    :raises ValueError: the prefix is no path.
    """
    return AddPrefix(settings)
