"""A client's connection: HTTP/1.1, strict, pipelined requests in order.

What must hold:

* Nothing of a request goes on before its head has been accepted whole. A chunked body is held back until it has
  ended, has grown to 16 KiB or has taken a second, so that one that is framed wrongly does not reach a server.
* Answers leave in the order of the requests: the next one is read when the last has been sent.
* After a refusal nothing more is read as a request: where the next one begins cannot be known.
* What is buffered is bounded: by the limits of a head, and by one read's worth of what came too early.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from time import time
from typing import Any, Protocol

import attrs
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import classImplements, implementer

from swarmgate.http.bodies import BodyReader, ChunkedBody, SizedBody, chunk, last_chunk
from swarmgate.http.deadlines import FLUSH_FOR, HALF_OPEN_FOR, NEVER, Deadlines
from swarmgate.http.errors import BadRequest, MessageError
from swarmgate.http.exchange import Exchange, reason_of
from swarmgate.http.forwarded import Forwarded, ForwardedPolicy
from swarmgate.http.message import UNKNOWN, Fields, Request, Response, lines_of
from swarmgate.http.paths import PathPolicy
from swarmgate.http.refused import refused_head
from swarmgate.http.request_head import HeadLimits, OtherVersion, RequestFields, RequestHeads, refuse_early
from swarmgate.http.response_head import write_response
from swarmgate.transport.network import LARGE_READ, give_way, hand_over, is_full
from swarmgate.transport.tls import TLSTransport

_LARGE_READ = LARGE_READ  # In C's terms.
#: Requests of one connection that are answered at once before others have their turn.
_REQUESTS_A_TURN = 64
_HOLD_BACK_AT_MOST = 16384
_HOLD_BACK_FOR = 1.0
#: Seconds in which a request that is on its way still arrives, when the connection is about to be closed.
_LAST_REQUEST_WITHIN = 0.5
#: How long and how much is still read and thrown away after a refusal, so that the client gets to read it: closing a
#: socket with unread octets makes the kernel send a reset (RFC 9112, 9.6).
_LINGER_FOR = 1.0
_LINGER_AT_MOST = 65536
#: How long a client that has closed its side of the connection is still answered.
_HALF_CLOSED_FOR = 1.0


@attrs.frozen
class ClientSettings:
    """What an entry point asks of its clients; times in seconds, 0 for ever unless said otherwise.

    :ivar head_timeout: from the first octet of a request, or from the connection's begin, to the end of its head.
    :ivar idle_timeout: how long a connection is kept between two requests (``respondingTimeouts.idleTimeout``).
    :ivar progress_timeout: the longest pause within a request's body.
    :ivar request_timeout: from a request's head to the end of its body (``respondingTimeouts.readTimeout``).
    :ivar answer_timeout: from the head of an answer to its end (``respondingTimeouts.writeTimeout``).
    :ivar underscores: ``keep``, ``delete`` or ``reject`` (``http.underscoreHeadersStrategy``).
    :ivar requests_at_most: requests of one connection, 0 for any number (``transport.keepAliveMaxRequests``).
    :ivar seconds_at_most: age of a connection that takes another request (``transport.keepAliveMaxTime``).
    :ivar http2: makes the protocol of a connection that turns out to speak HTTP/2; None: it is refused.
    """

    entry_point: str
    forwarded: ForwardedPolicy
    limits: HeadLimits = attrs.field(factory=HeadLimits)
    paths: PathPolicy = attrs.field(factory=PathPolicy)
    underscores: str = "keep"
    head_timeout: float = 10.0
    idle_timeout: float = 180.0
    progress_timeout: float = 60.0
    request_timeout: float = 0.0
    answer_timeout: float = 0.0
    requests_at_most: int = 0
    seconds_at_most: float = 0.0
    secure: bool = False
    http2: Http2Protocol | None = attrs.field(default=None, eq=False, repr=False)
    heads: RequestHeads = attrs.field(init=False, eq=False, repr=False)

    #: Whether a connection can become too old for another request.
    ends_connections: bool = attrs.field(init=False, eq=False, repr=False)

    @ends_connections.default
    def _ends_connections(self) -> bool:
        return bool(self.requests_at_most or self.seconds_at_most)

    @heads.default
    def _heads(self) -> RequestHeads:
        return RequestHeads(self.limits, self.paths, self.underscores)

    def is_worn(self, requests: int, begun: float, now: float) -> bool:
        """Whether a connection that was accepted at *begun*, and has had so many requests, takes no more of them."""
        if self.requests_at_most and requests >= self.requests_at_most:
            return True
        return bool(self.seconds_at_most) and now - begun >= self.seconds_at_most


class Http2Protocol(Protocol):
    """Makes the protocol of a client's connection that speaks HTTP/2."""

    def __call__(self, site: Site, settings: ClientSettings, deadlines: Deadlines) -> Any: ...


class Site(Protocol):
    """What a connection hands its requests to, and tells of itself."""

    @property
    def draining(self) -> bool:
        """It is being stopped."""

    def serve(self, exchange: Exchange) -> None:
        """Answer *exchange*, now or later."""

    def opened(self, connection: ClientConnection) -> None:
        """*connection* has been accepted."""

    def closed(self, connection: ClientConnection) -> None:
        """*connection* is no more."""

    def finished(self, exchange: Exchange) -> None:
        """*exchange* has ended, for better or worse."""

    def refused(self, connection: ClientConnection, error: BadRequest) -> None:
        """Something that is no acceptable request has been answered with an error."""


class ClientConnection:
    """A client's connection, from its first octet to its last."""

    __slots__ = (
        "_answer_timeout",
        "_begun",
        "_buffer",
        "_chunked",
        "_closing",
        "_deadlines",
        "_ends",
        "_entry_point",
        "_exchange",
        "_forwarded",
        "_heads",
        "_holding",
        "_idle_timeout",
        "_is_secure",
        "_keep_alive",
        "_last",
        "_lingering",
        "_paused",
        "_reader",
        "_reading",
        "_requests",
        "_settings",
        "_site",
        "_tunnel",
        "_until",
        "client_ip",
        "deadline",
        "transport",
    )

    factory = None

    def __init__(self, site: Site, settings: ClientSettings, deadlines: Deadlines) -> None:
        # Given; what each request asks for is taken out of the settings here.
        self._site = site
        self._settings = settings
        self._deadlines = deadlines
        self._heads = settings.heads
        self._entry_point = settings.entry_point
        self._is_secure = settings.secure
        self._idle_timeout = settings.idle_timeout or NEVER
        self._answer_timeout = settings.answer_timeout
        self._ends = settings.ends_connections
        # Per connection.
        self.transport: Any = None
        self.client_ip = ""
        self.deadline = NEVER
        self._begun = 0.0
        self._requests = 0
        #: What the field lines of the last request said: most clients send them again.
        self._last: RequestFields | None = None
        self._buffer = b""
        self._keep_alive = True
        self._paused = False
        self._closing = False
        self._lingering = -1
        self._tunnel: Any = None
        #: Set while requests are taken from the buffer, so that an answer given at once does not recurse.
        self._reading = False
        # Per exchange.
        self._exchange: Exchange | None = None
        self._reader: BodyReader | None = None
        self._holding = False
        self._chunked = False
        #: When the body has to be here, whoever is slow.
        self._until = NEVER

    # From the network.

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        peer = getattr(transport.getPeer(), "host", None) or ""
        self.client_ip = peer[7:] if peer.startswith("::ffff:") and "." in peer else peer
        self._forwarded = Forwarded(self._settings.forwarded, self.client_ip)
        self._begun = self._deadlines.now
        self._deadlines.add(self)
        self.deadline = self._in(self._settings.head_timeout)
        self.connectionMade()

    def connectionMade(self) -> None:
        self._site.opened(self)

    def dataReceived(self, data: bytes) -> None:
        if len(data) >= _LARGE_READ:
            give_way(self.transport)
        if self._exchange is None:
            if self._lingering >= 0 or self._closing:
                self._linger(len(data))
                return
            seen = len(self._buffer)
            if seen:
                data = self._buffer + data
            else:
                # Nearly all requests: a head and nothing else, with the field lines of one before.
                try:
                    request = self._heads.read_again(data, self._last)
                except BadRequest as error:
                    self._refuse(error, data)
                    return
                if request is not None:
                    self._begin(request, b"")
                    return
                if self._requests:
                    self.deadline = self._in(self._settings.head_timeout)
            self._read(data, seen)
        elif self._tunnel is not None:
            self._tunnel.transport.write(data)
        elif self._reader is not None:
            self._read_body(self._exchange, self._reader, data)
        else:
            # The next request, come early: it waits, and what follows it stays in the kernel.
            self._buffer += data
            self._pause()

    def readConnectionLost(self) -> None:
        exchange = self._exchange
        if self._tunnel is not None:
            self._tunnel.client_has_ended()
            self.deadline = self._in(HALF_OPEN_FOR)
        elif exchange is None:
            # Between requests, or in the middle of a head: there is nothing to answer.
            if self._closing:
                self.transport.loseConnection()
            else:
                self.close()
        elif self._reader is not None or exchange.request.upgrade:
            self._give_up(exchange, None)
        else:
            self._keep_alive = False
            self.deadline = min(self.deadline, self._in(_HALF_CLOSED_FOR))

    def writeConnectionLost(self) -> None:
        """Part of IHalfCloseableProtocol."""

    def connectionLost(self, reason: Failure) -> None:
        self._deadlines.discard(self)
        self.deadline = NEVER
        exchange, self._exchange = self._exchange, None
        tunnel, self._tunnel = self._tunnel, None
        self._reader = None
        self._closing = True
        if tunnel is not None:
            tunnel.tunnel_ended()
        if exchange is not None:
            exchange.client_gone()
            self._site.finished(exchange)
        self._site.closed(self)

    def overdue(self) -> None:
        """Called by :class:`~swarmgate.http.deadlines.Deadlines`."""
        exchange = self._exchange
        if exchange is None:
            if self._closing or self._lingering >= 0:
                self.transport.abortConnection()
            elif self._buffer and not self.is_idle():
                self._refuse(BadRequest("head not complete in time", 408), self._buffer)
            else:
                self.close()
        elif self._holding:
            self._let_go(exchange)
        elif self._reader is not None:
            self._keep_alive = False
            self.deadline = self._in(FLUSH_FOR)
            exchange.fail(408)
        else:
            self.transport.abortConnection()

    def _in(self, seconds: float) -> float:
        return self._deadlines.now + seconds if seconds else NEVER

    # Requests.

    def _read(self, data: bytes, seen: int = 0) -> None:
        """Take requests from *data* for as long as each is answered at once.

        :param seen: how many of its octets were looked at before, in vain: a head that trickles in is not searched
            from its begin each time.
        """
        self._buffer = b""
        self._reading = True
        turn = _REQUESTS_A_TURN
        try:
            while data and self._exchange is None and not self._closing:
                if turn <= 0 or is_full(self.transport):
                    self._wait(data)
                    return
                turn -= 1
                if data[:2] == b"\r\n" and data[2:3] not in (b"", b"\r"):
                    # One empty line before a request is forgiven (RFC 9112, 2.2), however it is cut to pieces.
                    data = data[2:]
                    seen = max(0, seen - 2)
                    continue
                end = data.find(b"\r\n\r\n", max(0, seen - 3))
                if end < 0:
                    refuse_early(data, self._settings.limits, seen)
                    self._buffer = data
                    return
                end += 4
                seen = 0
                if end == len(data):
                    self._begin(self._heads.read(data), b"")
                else:
                    self._begin(self._heads.read(data[:end]), data[end:])
                data, self._buffer = self._buffer, b""
            if data and not self._closing:
                self._buffer = data
                self._pause()
        except OtherVersion as error:
            if self._settings.http2 is None or self._requests or self._settings.secure:
                # Over TLS it is agreed on in the handshake (RFC 9113, 3.2).
                self._refuse(error, data)
            else:
                self._hand_over(self._settings.http2, data)
        except BadRequest as error:
            self._refuse(error, data)
        finally:
            self._reading = False

    def _wait(self, data: bytes) -> None:
        """Take no request of *data* before others had their turn, and the client has read what it was answered."""
        self._buffer = data
        self._pause()
        if is_full(self.transport):
            self.deadline = self._in(self._settings.progress_timeout)
            self.transport.registerProducer(_Reading(self), True)
        else:
            self._deadlines.call_later(0, self.go_on)

    def go_on(self) -> None:
        """Take the requests that have come and had to wait, unless that is being done."""
        if self._exchange is None and self._buffer and not self._closing:
            self.deadline = self._in(self._settings.head_timeout)
            if not self._reading:
                self._resume()
                self._read(self._buffer)

    def _hand_over(self, http2: Http2Protocol, data: bytes) -> None:
        """The client speaks HTTP/2: another protocol goes on with all that it has sent."""
        self._closing = True
        self._buffer = b""
        self._deadlines.discard(self)
        protocol = http2(self._site, self._settings, self._deadlines)
        hand_over(self.transport, protocol)
        protocol.makeConnection(self.transport)
        self._site.closed(self)
        protocol.dataReceived(data)

    def _begin(self, request: Request, rest: bytes) -> None:
        """Answer *request*, whose head has been read; *rest* is what came behind that."""
        lines: RequestFields = request.block  # type: ignore[assignment]
        self._last = lines if lines.octets else None
        request.client_ip = self.client_ip
        if self._is_secure:
            request.secure = True
            request.scheme = b"https"
        self._requests += 1
        self._forwarded.add(request)
        exchange = Exchange(self, request, self._entry_point)
        self._exchange = exchange
        self._chunked = False
        length = request.length
        if length == 0:
            self._buffer = rest
            self.deadline = NEVER
            if request.path == b"*":
                exchange.answer(200)
            else:
                self._site.serve(exchange)
            return
        reader: BodyReader = ChunkedBody() if length == UNKNOWN else SizedBody(length)
        self._reader = reader
        self._until = self._in(self._settings.request_timeout)
        self.deadline = self._body_deadline()
        if length == UNKNOWN and (rest or not request.expects_continue):
            # Who sends on without being told to is not waiting for it.
            self._holding = True
            self.deadline = self._in(_HOLD_BACK_FOR)
            if rest:
                self._read_body(exchange, reader, rest)
            return
        if rest:
            self._read_body(exchange, reader, rest)
        self._serve_with_body(exchange)

    def _serve_with_body(self, exchange: Exchange) -> None:
        if exchange.request.path == b"*":
            exchange.answer(200)
            return
        self._site.serve(exchange)
        if self._exchange is exchange and self._reader is not None and not exchange.taken:
            self.pause_body()

    def _body_deadline(self) -> float:
        """When more of the body has to be here, or, under a request timeout, all of it."""
        return self._in(self._settings.progress_timeout) if self._until == NEVER else self._until

    def _read_body(self, exchange: Exchange, reader: BodyReader, data: bytes) -> None:
        try:
            piece = reader.feed(data)
        except MessageError as error:
            self._give_up(exchange, BadRequest(error.reason))
            return
        if reader.done:
            self._reader = None
            if reader.rest:
                self._buffer = reader.rest
                if not self._reading:
                    self._pause()
            self.deadline = NEVER
            exchange.body_data(piece, True, reader.trailers)
        else:
            if not self._holding:
                self.deadline = self._body_deadline()
            if piece:
                exchange.body_data(piece, False, [])
        if self._holding and (reader.done or len(exchange.pending) > _HOLD_BACK_AT_MOST):
            self._let_go(exchange)

    def _let_go(self, exchange: Exchange) -> None:
        """Serve what was held back until now."""
        self._holding = False
        self.deadline = self._body_deadline() if self._reader is not None else NEVER
        self._serve_with_body(exchange)

    def _give_up(self, exchange: Exchange, error: BadRequest | None) -> None:
        """The client has left before it has said all, or, with *error*, its body is framed wrongly."""
        self._reader = None
        self._holding = False
        self._exchange = None
        begun = exchange.status
        exchange.client_gone()
        if begun:
            self.transport.abortConnection()
        elif error is None:
            self.close()
        else:
            exchange.status = error.status
            self._refuse(error)
        self._site.finished(exchange)

    def _refuse(self, error: BadRequest, data: bytes = b"") -> None:
        """Answer with an error; nothing after it is a request.

        :param data: what there is of the request, if nothing was begun with it.
        """
        if data:
            error.request = refused_head(data, self._settings.secure)
        body = reason_of(error.status)
        error.sent = len(body)
        self._site.refused(self, error)
        self.transport.write(
            write_response(
                error.status,
                body,
                lines_of(((b"Date", _http_date()), (b"Content-Type", b"text/plain; charset=utf-8"))),
                b"\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body),
            )
        )
        self._start_lingering()

    def _start_lingering(self) -> None:
        self._buffer = b""
        self._closing = True
        self._lingering = 0
        self._resume()
        self.transport.loseWriteConnection()
        self.deadline = self._in(_LINGER_FOR)

    def _linger(self, size: int) -> None:
        self._lingering += size
        if self._lingering > _LINGER_AT_MOST:
            self.transport.abortConnection()

    # Answers: Exchange's Client.

    def send_head(self, exchange: Exchange, response: Response, data: bytes, done: bool) -> None:
        request = exchange.request
        status = response.status
        keep_alive = request.keep_alive and self._keep_alive and self._reader is None and not self._site.draining
        if self._ends and self._settings.is_worn(self._requests, self._begun, self._deadlines.now):
            keep_alive = False
        length = response.length
        if done and length == UNKNOWN and status != 304 and request.method != b"HEAD":
            length = len(data)
        if status == 204:
            end = b"\r\n\r\n"
        elif length >= 0:
            end = _LENGTHS[length] if length < 4096 else b"\r\nContent-Length: %d\r\n\r\n" % length
            if request.method == b"HEAD" or status == 304:
                data = b""
        elif done:
            end = b"\r\n\r\n"
        elif request.minor:
            self._chunked = True
            end = b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        else:
            keep_alive = False
            end = b"\r\n\r\n"
        if not keep_alive:
            end = end[:-2] + b"Connection: close\r\n\r\n"
        elif not request.minor:
            end = end[:-2] + b"Connection: keep-alive\r\n\r\n"
        self._keep_alive = keep_alive
        if data and self._chunked:
            data = chunk(data)
        head = write_response(status, response.reason, response.lines(), end, data)
        if done and not keep_alive and isinstance(self.transport, TLSTransport):
            self.transport.write_last(head)
        else:
            self._write(head)
        if done:
            self._answered(exchange)
        elif self._answer_timeout:
            self.deadline = self._in(self._answer_timeout)

    def send_interim(self, response: Response) -> None:
        self._write(write_response(response.status, response.reason, response.lines(), b"\r\n\r\n"))

    def send_data(self, data: bytes) -> None:
        self._write(chunk(data) if self._chunked else data)

    def send_end(self, trailers: Fields) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if self._chunked:
            self._write(last_chunk(trailers))
        self._answered(exchange)

    def _write(self, data: bytes) -> None:
        try:
            self.transport.write(data)
        except RuntimeError:
            # It broke this very moment, and connectionLost is about to be called.
            self._keep_alive = False

    def abort(self) -> None:
        self.transport.abortConnection()

    def feed_from(self, producer: Any) -> None:
        if producer is None:
            self.transport.unregisterProducer()
        else:
            self.transport.registerProducer(producer, True)

    def pause_body(self) -> None:
        if self._reader is not None:
            self.deadline = self._until
            self._pause()

    def resume_body(self) -> None:
        if self._reader is not None:
            self.deadline = self._body_deadline()
            self._resume()

    def switch(self, response: Response, server: Any) -> None:
        exchange = self._exchange
        assert exchange is not None
        exchange.status = exchange.origin_status = 101
        self.transport.write(
            write_response(
                101,
                response.reason,
                response.lines(),
                b"\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % exchange.request.upgrade,
            )
        )
        exchange.connection = None
        self._tunnel = server
        self.deadline = NEVER
        server.tunnel_to(self)
        server.transport.registerProducer(self.transport, True)
        early, self._buffer = self._buffer, b""
        if early:
            server.transport.write(early)
        self._resume()

    def _answered(self, exchange: Exchange) -> None:
        self._exchange = None
        exchange.ended = True
        if exchange.places is not None:
            exchange.leave()
        self._site.finished(exchange)
        if not self._keep_alive:
            if self._reader is not None or self._buffer or self._paused:
                # What else has come is not wanted, but the answer should arrive: to close with anything unread breaks
                # the connection off (RFC 9112, 9.6).
                self._reader = None
                self._start_lingering()
            else:
                self.close()
            return
        if not self._buffer:
            self.deadline = self._deadlines.now + self._idle_timeout
            if self._paused:
                self._resume()
            return
        self.go_on()

    # The connection.

    def is_idle(self) -> bool:
        """Whether it waits for a request of which nothing has come."""
        return self._exchange is None and self._buffer in (b"", b"\r\n")

    @property
    def in_flight(self) -> int:
        """How many requests are being answered: one at most."""
        return 0 if self._exchange is None else 1

    def close_when_idle(self) -> None:
        """Close soon if nothing is under way, else after the answer.

        Not at once: a request may be on its way, above all on a connection that has just been made.
        """
        self._keep_alive = False
        if self.is_idle() and not self._closing:
            self.deadline = min(self.deadline, self._in(_LAST_REQUEST_WITHIN))

    def send_away(self) -> None:
        """Its time is over: close a tunnel in good order, break anything else off."""
        tunnel = self._tunnel
        if tunnel is None:
            self.abort()
        else:
            self.close()
            tunnel.close()

    def close(self) -> None:
        """Close after what is still to be sent."""
        self._closing = True
        self._buffer = b""
        self.deadline = self._in(FLUSH_FOR)
        self.transport.loseConnection()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pauseProducing()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()

    def __repr__(self) -> str:
        return f"<ClientConnection {self.client_ip} {self._exchange or 'idle'}>"


classImplements(ClientConnection, IProtocol, IHalfCloseableProtocol)


@implementer(IPushProducer)
class _Reading:
    """Waits until a client has read its answers."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    def pauseProducing(self) -> None:
        """There is nothing to pause."""

    def resumeProducing(self) -> None:
        connection = self._connection
        connection.transport.unregisterProducer()
        connection.go_on()

    def stopProducing(self) -> None:
        """The connection ends."""


#: The line that tells the length of a short body, and the empty one.
_LENGTHS = [b"\r\nContent-Length: %d\r\n\r\n" % length for length in range(4096)]
_date: tuple[int, bytes] = (0, b"")


def _http_date() -> bytes:
    global _date
    now = int(time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True).encode("ascii"))
    return _date[1]


def connections(site: Site, settings: ClientSettings, deadlines: Deadlines) -> Callable[[], ClientConnection]:
    """Makes a connection's protocol for each client that is accepted."""
    return lambda: ClientConnection(site, settings, deadlines)
