"""A connection to a server: kept alive, one exchange at a time.

What must hold:

* The octets of one answer never reach two clients. A connection is used again only after an answer whose end was
  certain, with nothing behind it, and to a request that was sent whole; in doubt it is closed.
* An answer that is cut short is never made to look whole: its client's connection is broken off.
* A request is sent a second time only where the server cannot have acted on it, or may be asked twice: after a
  connect that failed; or, for methods that are idempotent (RFC 9110, 9.2.2) and without a body, when the connection
  broke before the first byte of an answer, or the server turns out to have fallen silent.
* Neither side is read faster than the other takes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.python.failure import Failure
from zope.interface import classImplements

from swarmgate.http.bodies import BodyReader, ChunkedBody, OpenBody, SizedBody, chunk, last_chunk
from swarmgate.http.deadlines import FLUSH_FOR, HALF_OPEN_FOR, NEVER
from swarmgate.http.errors import BadResponse, MessageError
from swarmgate.http.exchange import Exchange
from swarmgate.http.message import UNKNOWN, Fields, Response
from swarmgate.http.request_head import write_request
from swarmgate.http.response_head import CHUNKED, ResponseHead, parse_response
from swarmgate.http.tries import (
    CONTINUE_AFTER,
    INTERIM_AT_MOST,
    LOOK_AGAIN,
    Chooser,
    answer_due,
    may_be_repeated,
    tell_break,
)
from swarmgate.transport.network import LARGE_READ, give_way

if TYPE_CHECKING:
    from swarmgate.http.upstream import Upstream

_LARGE_READ = LARGE_READ  # In C's terms.
#: Octets that the head of an answer may have.
_LONGEST_HEAD = 65536


def _nothing() -> None:
    pass


class ServerConnection:
    """A connection to a server.

    :ivar was_kept: it has been among those that are kept, so that the server may have closed it by now.
    """

    __slots__ = (
        "_answer_by",
        "_buffer",
        "_chooser",
        "_client",
        "_exchange",
        "_half_ended",
        "_interim",
        "_last",
        "_paused",
        "_reader",
        "_reusable",
        "_tunnel",
        "_upstream",
        "deadline",
        "made",
        "transport",
        "was_kept",
    )

    factory = None

    def __init__(self, upstream: Upstream) -> None:
        # Given.
        self._upstream = upstream
        self.made = _nothing
        # Per connection.
        self.transport: Any = None
        self.deadline = NEVER
        self.was_kept = False
        #: The last head: within a second a server often repeats itself.
        self._last: ResponseHead | None = None
        # Per exchange.
        self._answer_by = NEVER
        self._exchange: Exchange | None = None
        self._chooser: Chooser | None = None
        self._reader: BodyReader | None = None
        self._reusable = False
        self._interim = 0
        self._buffer = b""
        #: Whose tunnel leads here, and its transport.
        self._client: Any = None
        self._tunnel: Any = None
        self._half_ended: Any = None
        self._paused = False

    # From the network.

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self._upstream.deadlines.add(self)
        self.connectionMade()

    def connectionMade(self) -> None:
        made, self.made = self.made, _nothing
        made()

    def dataReceived(self, data: bytes) -> None:
        if len(data) >= _LARGE_READ:
            give_way(self.transport)
        exchange = self._exchange
        if exchange is None:
            if self._tunnel is not None:
                self._tunnel.write(data)
            elif not self.transport.disconnecting:
                # Nothing was asked: whatever this is, it must not become the answer to the next request.
                self.close(abort=True)
            return
        reader = self._reader
        if reader is None:
            self._read_head(exchange, self._buffer + data if self._buffer else data)
            return
        try:
            piece = reader.feed(data)
        except MessageError:
            self._break_off()
            return
        timeout = self._upstream.settings.progress_timeout
        if timeout:
            self.deadline = self._upstream.deadlines.now + timeout
        if piece:
            exchange.data(piece)
        if reader.done and self._exchange is exchange:
            if reader.rest:
                self._reusable = False
            exchange.client.feed_from(None)
            self._finish(exchange)
            exchange.end(reader.trailers)

    def readConnectionLost(self) -> None:
        if self._tunnel is not None:
            self.deadline = self._upstream.deadlines.now + HALF_OPEN_FOR
            self._end_half(self._tunnel)
        else:
            # Not to be kept for a moment longer: that the connection is closed is told later.
            self._upstream.lost(self)
            self.close()
            self._ended(clean=True)

    def writeConnectionLost(self) -> None:
        """Part of IHalfCloseableProtocol; what is written after it is lost, as to any closed connection."""

    def connectionLost(self, reason: Failure) -> None:
        self._ended(clean=reason.check(ConnectionDone) is not None)
        self._upstream.deadlines.discard(self)
        self._upstream.lost(self)
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            self._upstream.in_flight -= 1
            self._client.close()

    def overdue(self) -> None:
        """Called by :class:`~swarmgate.http.deadlines.Deadlines`."""
        exchange = self._exchange
        if exchange is None:
            # A tunnel of which one side has ended has had its time; so has what was closed, and is not flushed yet.
            self.close(abort=self.transport.disconnecting or self._tunnel is not None)
        elif self._reader is None:
            if exchange.request.expects_continue and not self._interim and not exchange.body_done:
                self._continue(exchange)
                return
            if self._upstream.deadlines.now < self._answer_by:
                self._wait_on(exchange)
                return
            tell_break(self._chooser, exchange)
            self._leave()
            exchange.fail(504)
        else:
            self._break_off()

    def _wait_on(self, exchange: Exchange) -> None:
        """There is no answer yet: wait on, unless the server is not there any more and another can be asked."""
        upstream, chooser = self._upstream, self._chooser
        if upstream.is_silent and chooser is not None and may_be_repeated(exchange) and chooser.has_next(exchange):
            tell_break(self._chooser, exchange)
            self._leave()
            chooser.try_next(exchange, 504, True)
            return
        upstream.question()
        self.deadline = min(upstream.deadlines.now + LOOK_AGAIN, self._answer_by)

    # The exchange.

    def send(self, exchange: Exchange, chooser: Chooser) -> None:
        """Send the exchange's request, and its body as it comes."""
        request = exchange.request
        body = exchange.connect(self)
        self._exchange = exchange
        self._chooser = chooser
        self._interim = 0
        done = exchange.body_done
        if done and request.length == UNKNOWN and body and not exchange.trailers:
            # All of it is here: a length says so in fewer octets, and servers that know no chunks understand it.
            request.length = len(body)
        data = write_request(request)
        if body:
            data += chunk(body) if request.length == UNKNOWN else body
        if done and request.length == UNKNOWN:
            data += last_chunk(exchange.trailers)
        try:
            self.transport.write(data)
        except RuntimeError:
            # The server broke it this very moment. connectionLost is about to be called, and decides what comes now.
            return
        if done:
            self._answer_by, self.deadline = answer_due(self._upstream)
            return
        self._answer_by = 0.0
        # As long as the body goes on it is the client that is waited for, unless the server stops taking it. A client
        # that expects a 100 sends when it is told to, which the server, or a deadline, decides.
        self.deadline = self._upstream.deadlines.now + CONTINUE_AFTER if request.expects_continue else NEVER
        self.transport.registerProducer(_BodyFlow(exchange, self), True)
        exchange.client.resume_body()

    def body_data(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if self._reader is None:
            self.deadline = NEVER
        self._write(chunk(data) if exchange.request.length == UNKNOWN else data)

    def body_stalls(self, stalls: bool) -> None:
        """The server takes no more of the request's body, or takes it again."""
        if self._exchange is not None and self._reader is None:
            timeout = self._upstream.settings.progress_timeout
            self.deadline = self._upstream.deadlines.now + timeout if stalls and timeout else NEVER

    def body_end(self, trailers: Fields) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if exchange.request.length == UNKNOWN:
            self._write(last_chunk(trailers))
        self.transport.unregisterProducer()
        if self._reader is None:
            self._answer_by, self.deadline = answer_due(self._upstream)

    def _write(self, data: bytes) -> None:
        try:
            self.transport.write(data)
        except RuntimeError:
            # The server broke the connection this very moment, and connectionLost is about to be called.
            return

    def cancel(self) -> None:
        """The client has left: this connection's answer, if any is still to come, has nobody to go to."""
        if self._exchange is not None:
            self._leave()

    def _read_head(self, exchange: Exchange, data: bytes) -> None:
        self._buffer = b""
        while True:
            head = self._last
            if head is not None and data.startswith(head.octets):
                end = len(head.octets)
            else:
                end = data.find(b"\r\n\r\n") + 4
                if end < 4:
                    if len(data) > _LONGEST_HEAD or b"\n\n" in data:
                        self._refuse(exchange)
                    else:
                        self._buffer = data
                    return
                try:
                    head = parse_response(data[:end])
                except BadResponse:
                    self._refuse(exchange)
                    return
                self._last = head if head.octets else None
            response = head.response()
            reusable = head.is_reusable
            octets = data
            rest = octets[end : len(data)]
            status = response.status
            if status >= 200:
                break
            if status == 101:
                if exchange.request.upgrade and exchange.request.upgrade == head.upgrade:
                    self._switch(exchange, response, rest)
                else:
                    self._refuse(exchange)
                return
            self._interim += 1
            if self._interim > INTERIM_AT_MOST:
                self._refuse(exchange)
                return
            if exchange.request.minor == 1 and (status != 100 or exchange.request.expects_continue):
                exchange.client.send_interim(response)
            if status == 100 and not exchange.body_done:
                self.deadline = NEVER
            if not rest or self._exchange is not exchange:
                return
            data = rest

        reader: BodyReader | None = None
        length = response.length
        if status == 204 or status == 304 or exchange.request.method == b"HEAD":
            if rest:
                reusable = False
                rest = b""
            if length == CHUNKED:
                response.length = UNKNOWN
            done = True
        elif length >= 0:
            size = len(rest)
            if size > length:
                reusable = False
                rest = rest[:length]
            done = size >= length
            if not done:
                reader = SizedBody(length - size)
        elif length == CHUNKED:
            response.length = UNKNOWN
            reader = ChunkedBody()
            try:
                rest = reader.feed(rest)
            except MessageError:
                self._refuse(exchange)
                return
            done = reader.done
            if done and reader.rest:
                reusable = False
        else:
            reusable = False
            reader = OpenBody()
            done = False
        self._reusable = reusable
        upstream = self._upstream
        upstream.heard = upstream.deadlines.now
        if upstream.is_troubled:
            upstream.recovered()
        if self._chooser.listens:  # type: ignore[union-attr]
            self._chooser.answered(exchange, response)  # type: ignore[union-attr]
        if done and (reader is None or not reader.trailers):
            self._finish(exchange)
            exchange.respond(response, rest, True)
            return
        exchange.respond(response, rest, False)
        if self._exchange is not exchange:
            return
        if done and reader is not None:
            self._finish(exchange)
            exchange.end(reader.trailers)
            return
        self._reader = reader
        timeout = self._upstream.settings.progress_timeout
        self.deadline = self._upstream.deadlines.now + timeout if timeout else NEVER
        exchange.client.feed_from(self)

    def _finish(self, exchange: Exchange) -> None:
        """The answer has ended as it should: keep the connection, or close it."""
        exchange.connection = None
        self._exchange = self._chooser = self._reader = None
        upstream = self._upstream
        upstream.in_flight -= 1
        if self._paused:
            self.resumeProducing()
        if self._reusable and exchange.body_done:
            upstream.release(self)
        else:
            if not exchange.body_done:
                self.transport.unregisterProducer()
            self.close()

    def _leave(self) -> None:
        """Let go of the exchange, and of the connection, on which something of it may still be under way."""
        exchange = self._exchange
        if exchange is None:
            return
        exchange.connection = None
        exchange.client.feed_from(None)
        self._exchange = self._chooser = self._reader = None
        self._upstream.in_flight -= 1
        self.close(abort=True)

    def _refuse(self, exchange: Exchange) -> None:
        """What the server sent cannot be passed on."""
        tell_break(self._chooser, exchange)
        self._leave()
        exchange.fail(502)

    def _break_off(self) -> None:
        """The answer, already begun, cannot be finished."""
        exchange = self._exchange
        if exchange is not None:
            tell_break(self._chooser, exchange)
            self._leave()
            exchange.fail(502)

    def _ended(self, clean: bool) -> None:
        """The server has closed the connection, or it broke."""
        exchange, chooser = self._exchange, self._chooser
        if exchange is None:
            return
        if isinstance(self._reader, OpenBody) and clean:
            exchange.client.feed_from(None)
            self._finish(exchange)
            exchange.end([])
            return
        unanswered = self._reader is None and not self._buffer and not self._interim and not exchange.status
        tell_break(self._chooser, exchange)
        self._leave()
        if not unanswered or chooser is None:
            exchange.fail(502)
            return
        if self.was_kept:
            self._upstream.doubt()
        else:
            self._upstream.broke()
        if not may_be_repeated(exchange):
            exchange.fail(502)
        elif self.was_kept and not chooser.has_next(exchange):
            # Other kept connections may be as stale, so a new one is made.
            exchange.retries += 1
            self._upstream.send(exchange, chooser, fresh=True)
        else:
            chooser.try_next(exchange, 502, True)

    def _continue(self, exchange: Exchange) -> None:
        """The server is silent about the expectation: let the client send its body."""
        self._interim += 1
        self.deadline = NEVER
        exchange.client.send_interim(Response(100, b"Continue", [], 0))

    def _switch(self, exchange: Exchange, response: Response, rest: bytes) -> None:
        chooser, self._chooser = self._chooser, None
        self._exchange = None
        self.deadline = NEVER
        if chooser is not None and chooser.listens:
            chooser.answered(exchange, response)
        exchange.client.switch(response, self)
        if rest and self._tunnel is not None:
            self._tunnel.write(rest)

    def tunnel_to(self, client: Any) -> None:
        """Write all that comes to *client*'s transport, be paused as it fills, and close *client* at the end."""
        self._client = client
        self._tunnel = client.transport
        self._tunnel.registerProducer(self.transport, True)

    def client_has_ended(self) -> None:
        """The client will send nothing more through the tunnel."""
        self._end_half(self.transport)

    def _end_half(self, transport: Any) -> None:
        """Tell the end of one direction of the tunnel on; when both have ended, close."""
        if self._half_ended is not None and self._half_ended is not transport:
            self._half_ended.loseConnection()
            transport.loseConnection()
        else:
            self._half_ended = transport
            transport.loseWriteConnection()

    def tunnel_ended(self) -> None:
        """The client's side of the tunnel is closed."""
        if self._tunnel is not None:
            self._upstream.in_flight -= 1
            self._tunnel = None
            self.close()

    # As a producer of the answer's body.

    def pauseProducing(self) -> None:
        self._paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        timeout = self._upstream.settings.progress_timeout
        if timeout and self._exchange is not None:
            self.deadline = self._upstream.deadlines.now + timeout
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The client's transport is closing; that it has closed is told otherwise."""

    def close(self, abort: bool = False) -> None:
        """Close the connection; *abort*: at once, whatever is still to be sent."""
        self.deadline = NEVER if abort else self._upstream.deadlines.now + FLUSH_FOR
        self._upstream.forget(self)
        if abort:
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()

    def __repr__(self) -> str:
        return f"<ServerConnection {self._upstream.url} {self._exchange or 'idle'}>"


classImplements(ServerConnection, IProtocol, IHalfCloseableProtocol)


class _BodyFlow:
    """Pauses and resumes the client's body as the server takes it."""

    __slots__ = ("_connection", "_exchange")

    def __init__(self, exchange: Exchange, connection: ServerConnection) -> None:
        self._exchange = exchange
        self._connection = connection

    def pauseProducing(self) -> None:
        self._exchange.client.pause_body()
        self._connection.body_stalls(True)

    def resumeProducing(self) -> None:
        if not self._exchange.ended:
            self._connection.body_stalls(False)
            self._exchange.client.resume_body()

    def stopProducing(self) -> None:
        pass
