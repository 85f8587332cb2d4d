"""Where a request comes from, as the middlewares that count or choose clients see it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

import attrs

from swarmgate.http.message import Request, field
from swarmgate.structure import IPNetwork, option

#: Octets of a source beyond which its digest takes its place, since clients choose some of them.
_LONGEST = 64


def _prefix_length(instance: Any, attribute: Any, value: int | None) -> None:
    if value is not None and not 1 <= value <= 128:
        raise ValueError("a prefix length from 1 to 128")


def _depth(instance: Any, attribute: Any, value: int) -> None:
    if value < 0:
        raise ValueError("0 or more")


@attrs.frozen
class IPStrategy:
    """Which address counts as the client's (Traefik ``ipStrategy``)."""

    depth: int = option(
        default=0,
        validator=_depth,
        doc="Take the address at this place of X-Forwarded-For, counted from the right; 0: the peer's. With fewer "
        "addresses there the client's is unknown. What an untrusted peer says in X-Forwarded-For counts as nothing.",
    )
    excluded_ips: tuple[IPNetwork, ...] = option(
        default=(),
        key="excludedIPs",
        doc="Take the first address of X-Forwarded-For, from the right, that is in none of these networks. Has no "
        "effect beside depth.",
    )
    ipv6_subnet: int | None = option(
        default=None,
        key="ipv6Subnet",
        validator=_prefix_length,
        doc="IPv6 addresses with the same prefix of this many bits are one client. Has no effect beside excludedIPs.",
    )


@attrs.frozen
class SourceCriterion:
    """What makes requests come from the same source (Traefik ``sourceCriterion``); at most one of these."""

    ip_strategy: IPStrategy | None = option(default=None, doc="The client's address; this is the default.")
    request_header_name: str = option(
        default="",
        doc="The value of the request's header of this name. Requests without it have one source together.",
    )
    request_host: bool = option(default=False, doc="The host that is asked for, without port, in lower case.")


def address_of(strategy: IPStrategy | None) -> Callable[[Request], str]:
    """What tells the client's address of a request, ``""`` where *strategy* finds none."""
    if strategy is None:
        return _peer
    bits = strategy.ipv6_subnet
    if strategy.depth:
        depth = strategy.depth

        def from_the_right(request: Request) -> str:
            chain = request.forwarded_for.split(b",")
            if len(chain) < depth:
                return ""
            address = chain[-depth].strip().decode("latin-1")
            return address if bits is None else masked(address, bits)

        return from_the_right
    if strategy.excluded_ips:
        is_excluded = within(strategy.excluded_ips)

        def first_of_others(request: Request) -> str:
            for member in reversed(request.forwarded_for.split(b",")):
                address = member.strip().decode("latin-1")
                if address and not is_excluded(address):
                    return address
            return ""

        return first_of_others
    if bits is not None:
        return lambda request: masked(request.client_ip, bits)
    return _peer


def source_of(criterion: SourceCriterion | None) -> Callable[[Request], str | bytes]:
    """What tells the source of a request: a short text, the same for all that count as one.

    :raises ValueError: *criterion* names more than one way.
    """
    if criterion is None:
        return _peer
    given = [
        name
        for name, value in (
            ("ipStrategy", criterion.ip_strategy is not None),
            ("requestHeaderName", criterion.request_header_name),
            ("requestHost", criterion.request_host),
        )
        if value
    ]
    if len(given) > 1:
        raise ValueError(f"sourceCriterion: {' and '.join(given)} exclude each other, expected one of them")
    if criterion.request_host:
        return lambda request: _short(request.host)
    if criterion.request_header_name:
        name = criterion.request_header_name.lower().encode("latin-1", "replace")
        return lambda request: _short(field(request.fields, name) or b"")
    address = address_of(criterion.ip_strategy)
    if address is _peer:
        return _peer
    return lambda request: _short(address(request).encode("latin-1"))


def _peer(request: Request) -> str:
    return request.client_ip


def _short(source: bytes) -> bytes:
    return source if len(source) <= _LONGEST else blake2b(source, digest_size=16).digest()


@lru_cache(4096)
def masked(address: str, bits: int) -> str:
    """The network of an IPv6 *address*, as its first address; any other text as it is."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address) or parsed.ipv4_mapped is not None:
        return address
    return str(ip_network((parsed, bits), strict=False).network_address)


def within(networks: tuple[IPNetwork, ...]) -> Callable[[str], bool]:
    """What tells whether an address, any text, is an IP address in one of *networks*.

    An IPv4 address that is mapped into IPv6 is that IPv4 address.
    """

    @lru_cache(4096)
    def is_within(address: str) -> bool:
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in networks)

    return is_within
