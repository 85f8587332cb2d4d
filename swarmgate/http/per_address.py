"""How many connections clients of one address may have (Traefik's ``inFlightConn``, here of a whole entry point)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Any, Protocol

from swarmgate.http.forwarded import ForwardedPolicy

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
    :param trusted: whose peers are not counted, since they connect for many clients: proxies and load balancers.
    """

    def __init__(
        self, counts: Counts, amount: int, ipv6_subnet: int = 64, trusted: Callable[[str], bool] | None = None
    ) -> None:
        self._counts = counts
        self._amount = amount
        self._shift = 128 - ipv6_subnet
        self._trusted = trusted
        #: By the address and port of the peer: the place, and how many protocols.
        self._held: dict[tuple[str, int], list[Any]] = {}
        self._peers: dict[Any, tuple[str, int]] = {}
        self._sources: dict[str, str | None] = {}

    def opened(self, protocol: Any) -> bool:
        """*protocol* begins to serve its connection. Returns whether the connection may be there."""
        transport = protocol.transport
        if transport is None or protocol in self._peers:
            return True
        peer = transport.getPeer()
        key = (getattr(peer, "host", None) or "", getattr(peer, "port", 0))
        held = self._held.get(key)
        if held is None:
            source = self._source(key[0])
            if source is None:
                return True
            place = self._counts.enter(source, self._amount)
            if place is None:
                return False
            held = self._held[key] = [place, 0]
        held[1] += 1
        self._peers[protocol] = key
        return True

    def closed(self, protocol: Any) -> None:
        """*protocol* does not serve its connection any more."""
        key = self._peers.pop(protocol, None)
        if key is None:
            return
        held = self._held[key]
        held[1] -= 1
        if not held[1]:
            del self._held[key]
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
        if self._trusted is not None and self._trusted(host):
            source = None
        if len(self._sources) >= _REMEMBERED:
            self._sources.clear()
        self._sources[host] = source
        return source


def per_address(counts: Counts, amount: int, ipv6_subnet: int, policy: ForwardedPolicy) -> ConnectionsPerAddress:
    """Connections counted so, but for those of peers whose X-Forwarded-For is believed one by one."""
    trusted = None if policy.insecure or not policy.trusted else policy.trusts
    return ConnectionsPerAddress(counts, amount, ipv6_subnet, trusted)
