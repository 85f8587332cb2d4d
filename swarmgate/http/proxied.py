"""Connections that proxies make for their clients, and say so first (Traefik ``entryPoints.*.proxyProtocol``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from swarmgate.http.deadlines import NEVER, Deadlines
from swarmgate.http.forwarded import Networks, is_within
from swarmgate.transport.network import hand_over, speak_for
from swarmgate.transport.proxy_protocol import MalformedHeader, read_proxy_header

if TYPE_CHECKING:
    from swarmgate.http.entry_point import EntryPoint

_log = Logger("swarmgate")

#: Seconds between two warnings about headers that can't be understood.
_TELL_EVERY = 60.0
#: Seconds in which a header that is on its way still arrives, when the connection is about to be closed.
_LAST_WORDS_WITHIN = 1.0
#: Octets of a malformed header that are shown.
_SHOWN = 64


class Proxies:
    """Whose headers an entry point believes.

    :param insecure: everybody's.
    :param trusted: the networks of proxies.
    """

    def __init__(self, insecure: bool, trusted: Networks) -> None:
        self._insecure = insecure
        self._trusted = trusted
        self._told = -NEVER

    def trusts(self, peer: str) -> bool:
        """Whether it is believed what *peer*, an address, says of its connection's client."""
        return self._insecure or (bool(peer) and is_within(peer, self._trusted))

    def connection(self, entry_point: EntryPoint, deadlines: Deadlines, timeout: float) -> Proxied:
        """The protocol of a connection that has just been accepted."""
        return Proxied(entry_point, self, deadlines, timeout)

    def is_told(self, now: float) -> bool:
        """Whether a proxy that is misconfigured is told of: now and then one is, for all of them."""
        due = now - self._told >= _TELL_EVERY
        if due:
            self._told = now
        return due


@implementer(IProtocol, IHalfCloseableProtocol)
class Proxied:
    """A connection that may begin with a header.

    Without one it is its peer's. So it is if the peer is not believed: the header is taken off then.
    """

    __slots__ = (
        "_believed",
        "_data",
        "_deadlines",
        "_entry_point",
        "_peer",
        "_proxies",
        "_timeout",
        "deadline",
        "transport",
    )

    factory = None

    def __init__(self, entry_point: EntryPoint, proxies: Proxies, deadlines: Deadlines, timeout: float) -> None:
        """
        :param timeout: seconds from the connection's begin to the end of what the client says first; 0 for ever.
        """
        # Given.
        self._entry_point = entry_point
        self._proxies = proxies
        self._deadlines = deadlines
        self._timeout = timeout
        # Per connection.
        self._data = b""
        self._peer = ""
        self._believed = False
        self.deadline = NEVER
        self.transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        peer = getattr(transport.getPeer(), "host", None) or ""
        self._peer = peer[7:] if peer.startswith("::ffff:") and "." in peer else peer
        self._believed = self._proxies.trusts(self._peer)
        self.deadline = self._deadlines.now + (self._timeout or NEVER)
        self._deadlines.add(self)
        self.connectionMade()

    def connectionMade(self) -> None:
        if self._believed:
            # A proxy has as many as its clients make.
            self._entry_point.announced(self)
        else:
            self._entry_point.opened(self)

    def dataReceived(self, data: bytes) -> None:
        self._data = data = self._data + data
        try:
            header = read_proxy_header(data)
        except MalformedHeader as error:
            self._refuse(error)
            return
        if header is None:
            return
        if header.source is not None:
            if self._believed:
                host, port = header.source
                speak_for(self.transport, (IPv6Address if ":" in host else IPv4Address)("TCP", host, port))
            else:
                _log.debug(
                    "entry point {name}: {peer} is no trusted proxy, what it says of its client is ignored",
                    name=self._entry_point.name,
                    peer=self._peer,
                )
        self._go_on(data[header.size :])

    def _go_on(self, data: bytes) -> None:
        """What the client has sent follows."""
        protocol = self._entry_point.greeting()
        hand_over(self.transport, protocol)
        protocol.makeConnection(self.transport)
        self._leave()
        if not self.transport.disconnecting:
            protocol.deadline = min(protocol.deadline, self.deadline)
            if data:
                protocol.dataReceived(data)

    def _refuse(self, error: MalformedHeader) -> None:
        self._entry_point.refusals[f"PROXY header: {error}"] += 1
        if self._believed and self._proxies.is_told(self._deadlines.now):
            _log.warn(
                "entry point {name}: {peer} begins a connection with a malformed PROXY header, {reason}, and so it is "
                "closed: {data!r}",
                name=self._entry_point.name,
                peer=self._peer,
                reason=str(error),
                data=self._data[:_SHOWN],
            )
        self.abort()

    def _leave(self) -> None:
        self._deadlines.discard(self)
        self._entry_point.closed(self)

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Part of IHalfCloseableProtocol."""

    def connectionLost(self, reason: Failure) -> None:
        self._leave()

    def overdue(self) -> None:
        """Called by :class:`~swarmgate.http.deadlines.Deadlines`."""
        self.abort()

    def is_idle(self) -> bool:
        """Whether nothing has come yet."""
        return not self._data

    @property
    def in_flight(self) -> int:
        """How many requests are being answered: none yet."""
        return 0

    def close_when_idle(self) -> None:
        """Close soon: what is said now is still heard."""
        self.deadline = min(self.deadline, self._deadlines.now + _LAST_WORDS_WITHIN)

    def send_away(self) -> None:
        """Its time is over."""
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        self.deadline = NEVER
        self.transport.abortConnection()
