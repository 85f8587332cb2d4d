"""``ipAllowList``: requests of other addresses are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from swarmgate.http.exchange import reason_of
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.middlewares.source import IPStrategy, address_of, within
from swarmgate.structure import IPNetwork, option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange

KIND = "ipAllowList"


def not_empty(instance: Any, attribute: Any, value: tuple[IPNetwork, ...]) -> None:
    """A validator: an empty list would refuse everybody, and is never meant."""
    if not value:
        raise ValueError("at least one address or network")


def _status(instance: Any, attribute: Any, value: int) -> None:
    if value < 200 or not reason_of(value):
        raise ValueError("a status code of HTTP such as 403")


@attrs.frozen
class Settings:
    """Options of ``ipAllowList``."""

    source_range: tuple[IPNetwork, ...] = option(
        validator=not_empty, doc="Addresses and networks whose requests pass; all others are refused."
    )
    ip_strategy: IPStrategy | None = option(
        default=None, doc="Which address counts as the client's; the peer's if nothing else is given."
    )
    reject_status_code: int = option(default=403, validator=_status, doc="What the others are answered.")


class IPAllowList(Middleware):
    """Lets requests of some addresses pass."""

    __slots__ = ("_address", "_allowed", "_status")

    def __init__(self, settings: Settings) -> None:
        self._address = address_of(settings.ip_strategy)
        self._allowed = within(settings.source_range)
        self._status = settings.reject_status_code

    def request(self, exchange: Exchange) -> None:
        # An unknown address, "", is in no network.
        if not self._allowed(self._address(exchange.request)):
            exchange.answer(self._status, reason_of(self._status))


def build(settings: Settings, context: Context) -> Middleware:
    """The check for one route."""
    return IPAllowList(settings)
