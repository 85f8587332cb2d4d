"""TLS between any of the transports and any protocol: a protocol to the one, a transport to the other.

It is CPython's ssl on two buffers in memory. So it works alike on uvloop's sockets and on Twisted's, may begin in the
middle of a connection, and adds two calls to each read and write.

What must hold:

* A read of the socket is at most one ``dataReceived``, as without TLS: who has paused is given nothing that has not
  been read before.
* An end that the peer has not announced (RFC 8446, 6.1) is a connection lost, not one that was ended: what is read
  until the end may have been cut short.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.python.failure import Failure
from zope.interface import classImplements

from swarmgate.transport.network import LARGE_READ, give_way, is_full

_LARGE_READ = LARGE_READ  # In C's terms.
#: Octets of a record's data at most (RFC 8446, 5.1).
_RECORD = 16384
_NEVER = float("inf")
#: Octets that are encrypted in one go: it bounds how long one answer keeps all others waiting.
_AT_ONCE = 262144
#: Octets of TLS's own, tickets and updates of keys, that wait for the next write.
_OWED_AT_MOST = 4096
#: Octets in a row that bring the protocol nothing: a record has 16,384, of which parts may come one after the other.
#: More are a flood of updates of keys, each of which costs more than its 27 octets; Python's ssl does not show them.
_NOTHING_AT_MOST = 65536


def _ignore(error: Exception) -> None:
    """It did come about."""


class HandshakeError(Exception):
    """A handshake did not come about; says why, for people."""


class TLSTransport:
    """One connection's TLS.

    :ivar negotiatedProtocol: what ALPN has chosen (:class:`twisted.internet.interfaces.INegotiated`), None for
        nothing, and before the handshake is over.
    :ivar disconnecting: no more can be written.
    :ivar deadline: for whoever watches over the handshake; nothing here looks at it.
    """

    __slots__ = (
        "_below",
        "_failed",
        "_incoming",
        "_inner",
        "_nothing",
        "_outgoing",
        "_protocol",
        "_secured",
        "_server_side",
        "_tls",
        "deadline",
        "disconnecting",
        "negotiatedProtocol",
    )

    factory = None

    def __init__(
        self,
        context: ssl.SSLContext,
        secured: Callable[[TLSTransport], IProtocol],
        failed: Callable[[Exception], None],
        server_side: bool = True,
        server_name: str | None = None,
    ) -> None:
        """
        :param secured: called when the handshake is over; returns the protocol.
        :param failed: called if it does not come about, with a :exc:`HandshakeError`, or what has ended the
            connection.
        :param server_name: of the server that is connected to, for a client.
        """
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side, server_name)
        # What is called again and again: without the methods in Python around it, where CPython has them.
        self._inner: Any = getattr(self._tls, "_sslobj", self._tls)
        self._secured: Callable[[TLSTransport], IProtocol] | None = secured
        self._failed = failed
        self._server_side = server_side
        self._nothing = 0
        self._protocol: Any = None
        self._below: Any = None
        self.negotiatedProtocol: bytes | None = None
        self.disconnecting = False
        self.deadline = _NEVER

    # From the transport below.

    @property
    def transport(self) -> Any:
        """The transport below."""
        return self._below

    def makeConnection(self, transport: Any) -> None:
        self._below = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        # A server waits for what the client says first.
        if not self._server_side:
            self._shake_hands()

    def dataReceived(self, data: bytes) -> None:
        if len(data) >= _LARGE_READ:
            give_way(self._below)
        self._incoming.write(data)
        begins = self._protocol is None
        if begins and (self._secured is None or not self._shake_hands() or not self._incoming.pending):
            return
        if self.disconnecting:
            return
        ended = False
        received = b""
        # Nearly always what has come is one record, of which less than its own length is data.
        size = min(len(data), _RECORD)
        pieces = None
        try:
            while True:
                piece = self._inner.read(size)
                if not piece:
                    ended = True
                    break
                if pieces is not None:
                    pieces.append(piece)
                elif received:
                    pieces = [received, piece]
                else:
                    received = piece
                if not self._incoming.pending and (len(piece) < size or not self._inner.pending()):
                    break
                size = _RECORD
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._flush()
            self._break(ConnectionLost(_reason(error)))
            return
        if self._outgoing.pending > _OWED_AT_MOST:
            self._flush()
        if received:
            self._nothing = 0
            self._protocol.dataReceived(received if pieces is None else b"".join(pieces))
        elif not ended:
            self._nothing += len(data)
            if self._nothing > _NOTHING_AT_MOST:
                self._break(ConnectionLost("the peer sends no data, but what is TLS's own without end"))
                return
        if ended and self._protocol is not None:
            half_closed = getattr(self._protocol, "readConnectionLost", None)
            if half_closed is not None and not self.disconnecting:
                half_closed()
            else:
                self.loseConnection()

    def readConnectionLost(self) -> None:
        """The peer has closed its side; had it said so within TLS, the protocol would have done what is to be done."""
        if self._protocol is None:
            self._give_up(HandshakeError("the peer closed the connection during the handshake"))
            self._below.loseConnection()
        elif self.disconnecting:
            self._below.loseConnection()
        else:
            self._break(ConnectionLost("closed without an end of TLS"))

    def writeConnectionLost(self) -> None:
        """Part of IHalfCloseableProtocol."""

    def connectionLost(self, reason: Failure) -> None:
        self.disconnecting = True
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connectionLost(reason)
        else:
            self._give_up(reason.value if isinstance(reason.value, Exception) else ConnectionLost(str(reason.value)))

    def _shake_hands(self) -> bool:
        """Go on with the handshake. Returns whether it is over."""
        try:
            self._inner.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._flush()  # The alert that tells the peer.
            self._give_up(HandshakeError(_reason(error)))
            self._below.loseConnection()
            return False
        if not self._server_side or self._inner.version() != "TLSv1.3":
            self._flush()
        # Else all that is left are tickets, which go with the answer.
        protocol: str | None = self._inner.selected_alpn_protocol()
        self.negotiatedProtocol = protocol.encode("ascii") if protocol is not None else None
        secured, self._secured = self._secured, None
        assert secured is not None
        self._failed = _ignore  # So that no circle of references is left for the collector.
        self._protocol = secured(self)
        self._protocol.makeConnection(self)
        return True

    def _give_up(self, error: Exception) -> None:
        self.disconnecting = True
        if self._secured is not None:
            self._secured = None
            self._failed(error)

    def _break(self, error: Exception) -> None:
        self.disconnecting = True
        protocol, self._protocol = self._protocol, None
        self._below.abortConnection()
        if protocol is not None:
            protocol.connectionLost(Failure(error))

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._below.write(self._outgoing.read())

    # What the protocol calls.

    def write(self, data: bytes) -> None:
        if self.disconnecting:
            return
        self._encrypt(data)
        self._flush()

    def write_last(self, data: bytes) -> None:
        """Write what loseConnection() or loseWriteConnection() follows at once: it goes with the end, in one piece."""
        if not self.disconnecting:
            self._encrypt(data)

    def _encrypt(self, data: bytes) -> None:
        try:
            if len(data) <= _AT_ONCE:
                if data:
                    self._inner.write(data)
            else:
                for start in range(0, len(data), _AT_ONCE):
                    self._inner.write(data[start : start + _AT_ONCE])
        except ssl.SSLError:
            # loseWriteConnection() has ended it: as on a socket, what is written after that is lost.
            return

    def writeSequence(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def loseConnection(self) -> None:
        if not self.disconnecting:
            self._end()
        self.disconnecting = True
        self._below.loseConnection()

    def loseWriteConnection(self) -> None:
        if not self.disconnecting:
            self._end()
            self._below.loseWriteConnection()

    def _end(self) -> None:
        """Say that nothing will follow."""
        if self._protocol is not None:
            self._announce_end()
        try:
            self._flush()
        except RuntimeError:
            # It broke this very moment, and connectionLost is about to be called.
            return

    def _announce_end(self) -> None:
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            # It wants the peer's answer, which nobody waits for.
            return

    def abortConnection(self) -> None:
        self.disconnecting = True
        self._below.abortConnection()

    def overdue(self) -> None:
        """Whoever watches over the handshake has found the deadline passed."""
        self.deadline = _NEVER
        self._give_up(HandshakeError("the handshake was not over in time"))
        self._below.abortConnection()

    def getPeer(self) -> Any:
        return self._below.getPeer()

    def getHost(self) -> Any:
        return self._below.getHost()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._below.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._below.unregisterProducer()

    def pauseProducing(self) -> None:
        self._below.pauseProducing()

    def resumeProducing(self) -> None:
        self._below.resumeProducing()

    @property
    def full(self) -> bool:
        """See :func:`~swarmgate.transport.network.is_full`."""
        return is_full(self._below)

    def stopProducing(self) -> None:
        self.loseConnection()

    # What there is to know of it.

    def version(self) -> str:
        """Of TLS, as ``TLSv1.3``; ``""`` before the handshake is over."""
        return self._tls.version() or ""

    def cipher(self) -> str:
        """The cipher suite's name in IANA's register; ``""`` before the handshake is over."""
        cipher = self._tls.cipher()
        return registered_name(cipher[0]) if cipher else ""

    def peer_certificate(self) -> bytes:
        """The peer's certificate (DER), ``b""`` if it has shown none."""
        return self._tls.getpeercert(True) or b""

    def is_resumed(self) -> bool:
        """Whether a session of an earlier connection was taken up again."""
        return bool(self._tls.session_reused)


classImplements(TLSTransport, IProtocol, IHalfCloseableProtocol)


def registered_name(cipher: str) -> str:
    """The name in IANA's register of a cipher suite that OpenSSL calls *cipher*."""
    if cipher.startswith("TLS_"):
        return cipher
    exchange = next((one for one in ("ECDHE-ECDSA-", "ECDHE-RSA-", "DHE-RSA-") if cipher.startswith(one)), "")
    rest = re.sub(r"AES(\d+)-(?=SHA)", r"AES\1-CBC-", cipher.removeprefix(exchange))
    rest = re.sub(r"AES(\d+)", r"AES-\1", rest)
    if rest.endswith("POLY1305"):
        rest += "-SHA256"
    return f"TLS-{exchange or 'RSA-'}WITH-{rest}".replace("-", "_")


def _reason(error: Exception) -> str:
    """What is wrong, without OpenSSL's file and line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error)
