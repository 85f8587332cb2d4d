"""A client's first octets, which tell TLS from plain HTTP, and what is decided before the handshake."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from swarmgate.http.deadlines import FLUSH_FOR, NEVER, Deadlines
from swarmgate.http.exchange import NO_SNIFFING, PLAIN_TEXT, Exchange
from swarmgate.transport.client_hello import HANDSHAKE, ClientHello, NotTLS, read_client_hello
from swarmgate.transport.network import hand_over
from swarmgate.transport.tls import TLSTransport

if TYPE_CHECKING:
    from swarmgate.http.entry_point import EntryPoint

_log = Logger("swarmgate.tls")

#: A fatal alert, unrecognized_name (RFC 6066, 3), in a record of its own.
_UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"


#: Seconds in which a handshake that is on its way still comes about, when the connection is about to be closed.
_LAST_WORDS_WITHIN = 1.0


class Accepted(Protocol):
    """How a client's handshake goes on."""

    @property
    def context(self) -> ssl.SSLContext:
        """OpenSSL's context for it."""

    @property
    def options(self) -> str:
        """The name of the options that the connection is under."""


class Acceptor(Protocol):
    """Decides what TLS clients get."""

    def accept(self, hello: ClientHello) -> Accepted | None:
        """How the handshake of a client that says *hello* goes on, None for not at all."""

    def options_of(self, host: str) -> str:
        """The name of the options that a connection has to be under for requests to *host*."""


class Greeting:
    """A client of which it is not known yet what it speaks, or whose handshake is not over."""

    __slots__ = ("_acceptor", "_data", "_deadlines", "_entry_point", "_options", "_timeout", "deadline", "transport")

    factory = None

    def __init__(self, entry_point: EntryPoint, acceptor: Acceptor, deadlines: Deadlines, timeout: float) -> None:
        """
        :param timeout: seconds from the connection's begin to the end of the handshake; 0 for ever.
        """
        # Given.
        self._entry_point = entry_point
        self._acceptor = acceptor
        self._deadlines = deadlines
        self._timeout = timeout
        # Per connection.
        self._data = b""
        self._options = ""
        self.deadline = NEVER
        self.transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.deadline = self._deadlines.now + self._timeout if self._timeout else NEVER
        self._deadlines.add(self)
        self.connectionMade()

    def connectionMade(self) -> None:
        self._entry_point.opened(self)

    def dataReceived(self, data: bytes) -> None:
        self._data = data = self._data + data
        if data[0] != HANDSHAKE:
            self._go_on(self._entry_point.plain(), data)
            return
        try:
            hello = read_client_hello(data)
        except NotTLS:
            hello = ClientHello()
        if hello is None:
            return
        accepted = self._acceptor.accept(hello)
        if accepted is None:
            _log.debug("no certificate is for {name}: refused", name=hello.server_name or "a client that names no host")
            self.transport.write(_UNRECOGNIZED_NAME)
            self.deadline = self._deadlines.now + FLUSH_FOR
            self.transport.loseConnection()
            return
        self._data = b""
        self._options = accepted.options
        tls = TLSTransport(accepted.context, self._secured, self._failed)
        hand_over(self.transport, tls)
        tls.makeConnection(self.transport)
        tls.dataReceived(data)

    def _go_on(self, protocol: Any, data: bytes) -> None:
        self._entry_point.opened(protocol)
        self._leave()
        hand_over(self.transport, protocol)
        protocol.makeConnection(self.transport)
        protocol.dataReceived(data)

    def _secured(self, tls: TLSTransport) -> Any:
        protocol = self._entry_point.secured(self._options, tls.negotiatedProtocol)
        self._entry_point.opened(protocol)  # Before this one leaves, so that it isn't taken for the last.
        self._leave()
        return protocol

    def _failed(self, error: Exception) -> None:
        _log.debug("a handshake on {name} failed: {error}", name=self._entry_point.name, error=error)
        self._leave()

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
        """Close soon: what is said now is still heard, and the connection's first answer its last."""
        self.deadline = min(self.deadline, self._deadlines.now + _LAST_WORDS_WITHIN)

    def send_away(self) -> None:
        """Its time is over."""
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        self.deadline = NEVER
        self.transport.abortConnection()


classImplements(Greeting, IProtocol, IHalfCloseableProtocol)


class SecureSite:
    """What connections under certain TLS options hand their requests to.

    A request for a host of other options is misdirected (RFC 9110, 15.5.20): those may want a certificate that this
    connection's client was not asked for.
    """

    __slots__ = ("_entry_point", "_options", "closed", "opened", "refused")

    def __init__(self, entry_point: EntryPoint, options: str) -> None:
        self._entry_point = entry_point
        self._options = options
        self.opened = entry_point.opened
        self.closed = entry_point.closed
        self.refused = entry_point.refused

    @property
    def draining(self) -> bool:
        """The entry point is being stopped."""
        return self._entry_point.draining

    def finished(self, exchange: Exchange) -> None:
        """*exchange* has ended."""
        self._entry_point.finished(exchange)

    def serve(self, exchange: Exchange) -> None:
        """Answer *exchange*, unless it belongs on another connection."""
        entry_point = self._entry_point
        acceptor = entry_point.acceptor
        if acceptor is not None and acceptor.options_of(exchange.request.host.decode("latin-1")) != self._options:
            exchange.answer(421, b"Misdirected Request\n", (PLAIN_TEXT, NO_SNIFFING))
        else:
            exchange.tls_options = self._options
            entry_point.serve_secure(exchange)
