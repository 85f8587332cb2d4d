"""What the gate tells a server about the client: X-Forwarded fields and X-Real-Ip (Traefik ``forwardedHeaders``)."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

import attrs

from swarmgate.http.message import FieldBlock, Fields, Request, field

Networks = tuple[IPv4Network | IPv6Network, ...]


def is_within(address: str, networks: Networks) -> bool:
    """Whether the IP *address* is in one of *networks*."""
    if not networks:
        return False
    parsed = ip_address(address.partition("%")[0])
    return any(parsed in network for network in networks)


@attrs.frozen
class ForwardedPolicy:
    """Whose word about the client is taken, and what is told.

    :ivar server_name: what X-Forwarded-Server says.
    :ivar insecure: every peer is trusted (Traefik ``forwardedHeaders.insecure``).
    :ivar trusted: the networks of trusted peers (``forwardedHeaders.trustedIPs``).
    :ivar append: the peer is added to X-Forwarded-For (the reverse of ``notAppendXForwardedFor``).
    """

    server_name: bytes
    insecure: bool = False
    trusted: Networks = ()
    append: bool = True

    def trusts(self, peer: str) -> bool:
        """Whether what *peer*, an address, says about the client is passed on."""
        return self.insecure or (bool(peer) and is_within(peer, self.trusted))

    def own_fields(self, request: Request) -> Fields:
        """The fields for a request of a peer that is not trusted."""
        peer = request.client_ip.encode("ascii")
        proto = _scheme(request)
        return [
            (b"X-Forwarded-For", peer),
            (b"X-Forwarded-Host", request.authority),
            (b"X-Forwarded-Port", _port(request, proto)),
            (b"X-Forwarded-Proto", proto),
            (b"X-Forwarded-Server", self.server_name),
            (b"X-Real-Ip", peer),
        ]

    def trusted_fields(self, request: Request, received: Fields) -> Fields:
        """The fields for a request of a trusted peer that sent *received*: what it says, completed."""
        peer = request.client_ip.encode("ascii")
        proto = field(received, b"x-forwarded-proto")
        request.scheme = _http_scheme(proto) or request.scheme
        chain = [value for name, value in received if name.lower() == b"x-forwarded-for" and value]
        request.forwarded_for = b", ".join(chain)
        if self.append:
            chain.append(peer)
        kept = [
            pair for pair in received if pair[1] and pair[0].lower() not in (b"x-forwarded-for", b"x-forwarded-server")
        ]
        present = {name.lower() for name, _ in kept}
        told = proto or _scheme(request)
        for name, value in (
            (b"X-Forwarded-Host", request.authority),
            (b"X-Forwarded-Port", _port(request, told)),
            (b"X-Forwarded-Proto", told),
            (b"X-Real-Ip", peer),
        ):
            if name.lower() not in present:
                kept.append((name, value))
        if chain:
            kept.append((b"X-Forwarded-For", b", ".join(chain)))
        kept.append((b"X-Forwarded-Server", self.server_name))
        return kept


class Forwarded:
    """What is told about the client of one connection: made once for requests that are alike in it."""

    __slots__ = ("_known", "_policy", "_trusts")

    def __init__(self, policy: ForwardedPolicy, peer: str) -> None:
        self._policy = policy
        self._trusts = policy.trusts(peer)
        #: The authority and the upgrade of the last request, and what was told.
        self._known: tuple[bytes, bytes, FieldBlock] | None = None

    def add(self, request: Request) -> None:
        """Add the fields to *request*, in place of those that came with it."""
        received, request.forwarded = request.forwarded, None
        if self._trusts:
            request.fields += self._policy.trusted_fields(request, received or [])
            return
        known = self._known
        if known is None or known[0] != request.authority or known[1] != request.upgrade:
            known = self._known = (request.authority, request.upgrade, FieldBlock(self._policy.own_fields(request)))
        request.add(known[2])


def _scheme(request: Request) -> bytes:
    if request.upgrade == b"websocket":
        return b"wss" if request.secure else b"ws"
    return b"https" if request.secure else b"http"


def _http_scheme(proto: bytes | None) -> bytes:
    return {b"http": b"http", b"https": b"https", b"ws": b"http", b"wss": b"https"}.get((proto or b"").lower(), b"")


def _port(request: Request, proto: bytes) -> bytes:
    _, mark, port = request.authority.rpartition(b":")
    if mark and port.isdigit():
        return port
    return b"443" if proto in (b"https", b"wss") else b"80"
