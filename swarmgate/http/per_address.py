"""How many connections clients of one address may have (Traefik's ``inFlightConn``, here of a whole entry point)."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Any, Protocol

from swarmgate.http.forwarded import Networks, is_within

#: Addresses whose network is remembered.
_REMEMBERED = 4096


class Counts(Protocol):
    """What connections are counted with."""

    def enter(self, source: str, at_most: int) -> Any:
        """A place for one more of *source*, None if *at_most* are there."""

    def leave(self, place: Any) -> None:
        """Give *place* back."""


class ConnectionsPerAddress:
    """Counts connections by their client's address.

    One connection has several protocols, one after the other: it has one place, for as long as any of them is open.

    :param amount: so many connections each address may have.
    :param ipv6_subnet: IPv6 addresses whose first bits, so many, are the same are one.
    :param proxies: the networks of those that are not counted, since they connect for many clients.
    """

    def __init__(self, counts: Counts, amount: int, ipv6_subnet: int = 64, proxies: Networks = ()) -> None:
        self._counts = counts
        self._amount = amount
        self._shift = 128 - ipv6_subnet
        self._proxies = proxies
        #: By what is below all protocols of a connection: the place, and how many of them.
        self._held: dict[Any, list[Any]] = {}
        self._below: dict[Any, Any] = {}
        self._sources: dict[str, str | None] = {}

    def opened(self, protocol: Any) -> bool:
        """*protocol* begins to serve its connection. Returns whether the connection may be there."""
        transport = protocol.transport
        if transport is None or protocol in self._below:
            return True
        below = getattr(transport, "transport", transport)  # of TLS
        held = self._held.get(below)
        if held is None:
            source = self._source(getattr(transport.getPeer(), "host", None) or "")
            if source is None:
                return True
            place = self._counts.enter(source, self._amount)
            if place is None:
                return False
            held = self._held[below] = [place, 0]
        held[1] += 1
        self._below[protocol] = below
        return True

    def closed(self, protocol: Any) -> None:
        """*protocol* does not serve its connection any more."""
        below = self._below.pop(protocol, None)
        if below is None:
            return
        held = self._held[below]
        held[1] -= 1
        if not held[1]:
            del self._held[below]
            self._counts.leave(held[0])

    def _source(self, host: str) -> str | None:
        """What *host* counts as, None if it does not count."""
        try:
            return self._sources[host]
        except KeyError:
            pass
        source: str | None = host
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            address = None
        if isinstance(address, IPv6Address):
            if address.ipv4_mapped is not None:
                source = host = str(address.ipv4_mapped)
            else:
                source = f"{int(address) >> self._shift:x}"
        if address is not None and is_within(host, self._proxies):
            source = None
        if len(self._sources) >= _REMEMBERED:
            self._sources.clear()
        self._sources[host] = source
        return source
