"""A connection to a server that speaks HTTP/2: many exchanges at a time, each on a stream.

What must hold:

* The octets of one answer never reach two clients; what is malformed ends its stream and is answered 502.
* A request is sent again only where the server has said that it did nothing with it (GOAWAY with a lower stream,
  REFUSED_STREAM; RFC 9113, 8.7), or where HTTP/1.1 would send it again.
* Neither side is read faster than the other takes it, stream by stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure
from zope.interface import classImplements

from swarmgate.http.deadlines import FLUSH_FOR, NEVER
from swarmgate.http.errors import BadRequest, BadResponse
from swarmgate.http.exchange import Exchange
from swarmgate.http.message import UNKNOWN, Fields, Response
from swarmgate.http.tries import (
    CONTINUE_AFTER,
    INTERIM_AT_MOST,
    LOOK_AGAIN,
    Chooser,
    answer_due,
    may_be_repeated,
    tell_break,
)
from swarmgate.http2 import codec
from swarmgate.http2.codec import (
    CANCEL,
    CONTINUATION,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HIGHEST_STREAM,
    NO_ERROR,
    PRIORITY,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Fault,
)
from swarmgate.http2.connection import HELD_AT_LEAST, HELD_AT_MOST, Connection, Stream
from swarmgate.http2.heads import read_response, read_trailers, request_fields
from swarmgate.transport.network import LARGE_READ, give_way

if TYPE_CHECKING:
    from swarmgate.http2.upstream import Http2Upstream

#: Octets that the field section of an answer may have.
_LONGEST_SECTION = 65536
#: Streams of a connection, whatever more the server would take; and before it has said what it takes.
_STREAMS_AT_MOST = 250
_STREAMS_AT_FIRST = 100
#: How often an exchange that a server did nothing with is sent to it again.
_AGAIN_AT_MOST = 3
#: A connection that has had so many streams is replaced: their numbers do not start again.
_LAST_STREAM = 2**30
#: Octets of a request's body that are kept until the server begins to answer, so that it can be sent again.
_KEPT_AT_MOST = 65536


def _nothing() -> None:
    pass


class Http2ServerConnection(Connection):
    """A connection to a server.

    :ivar was_used: a request was answered over it, so that the server may have closed it by now.
    :ivar is_ending: it takes no new exchanges.
    """

    factory = None

    def __init__(self, upstream: Http2Upstream) -> None:
        Connection.__init__(self, upstream.deadlines, True, _LONGEST_SECTION, ((codec.ENABLE_PUSH, 0),))
        self.upstream = upstream
        self.made = _nothing
        self.deadline = NEVER
        self.was_used = False
        self.is_ending = False
        self._room = _STREAMS_AT_FIRST
        self._closed = False
        #: Those of which the head of the answer has come with what is being read now.
        self._begun: dict[ServerStream, None] = {}

    # From the network.

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.deadlines.add(self)
        transport.registerProducer(self, True)
        self.connectionMade()

    def connectionMade(self) -> None:
        made, self.made = self.made, _nothing
        made()
        self.flush()

    def dataReceived(self, data: bytes) -> None:
        if self._closed:
            return
        if len(data) >= LARGE_READ:
            give_way(self.transport)
        self._reading = True
        try:
            self.take_frames(data)
            if self.is_closed():
                return
            self._tell_begun()
        except Fault as error:
            self._break(error.error)
        finally:
            self._reading = False
        if not self._closed:
            self.flush()

    def take(self, kind: int, flags: int, stream_id: int, data: bytes, at: int, end: int) -> bool:
        """Those that mean something, until the connection is closed."""
        if self._pieces_of or (kind <= CONTINUATION and kind != PRIORITY and kind != GOAWAY):
            self.receive(kind, flags, stream_id, data, at, end)
        elif kind == GOAWAY:
            self._goaway(data[at:end])
        return not self._closed

    def connectionLost(self, reason: Failure) -> None:
        self._closed = True
        self.deadline = NEVER
        self.deadlines.discard(self)
        self.upstream.ends(self)
        self.forget()
        self._waiting.clear()
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.connection_lost()

    def overdue(self) -> None:
        """Called by :class:`~swarmgate.http.deadlines.Deadlines`."""
        if self._closed:
            self.transport.abortConnection()
        else:
            # Nothing was asked for too long.
            self.close()

    # Its streams.

    def has_room(self) -> bool:
        """Whether it takes another exchange."""
        return not self.is_ending and len(self.streams) < self._room

    def is_closed(self) -> bool:
        """Whether it has been closed, from this side or the other."""
        return self._closed

    def is_idle(self) -> bool:
        """Whether no exchange is under way."""
        return not self.streams

    def send(self, exchange: Exchange, chooser: Chooser) -> None:
        """Send the exchange's request on a stream of its own, and its body as it comes."""
        stream_id = self._highest = self._highest + 2 if self._highest else 1
        if stream_id >= _LAST_STREAM:
            self.retire()
        stream = ServerStream(self, stream_id, exchange, chooser)
        self.streams[stream_id] = stream
        self.deadline = NEVER
        stream.begin()
        self.flush()

    def discard(self, stream: ServerStream) -> None:
        """*stream* is over."""
        self._waiting.pop(stream, None)
        if self.streams.pop(stream.id, None) is None:
            return
        if self.streams or self._closed:
            return
        if self.is_ending:
            self.close()
        else:
            timeout = self.upstream.settings.idle_timeout
            self.deadline = self.deadlines.now + timeout if timeout else NEVER

    # Events.

    def begun(self, stream: ServerStream) -> None:
        """The head of *stream*'s answer has come: it is passed on with what has come of the body."""
        self._begun[stream] = None

    def settings_changed(self) -> None:
        self._room = max(1, min(_STREAMS_AT_MOST, self.streams_at_most))
        self.send_waiting()

    def _goaway(self, payload: bytes) -> None:
        if len(payload) < 8:
            raise Fault(FRAME_SIZE_ERROR)
        last = int.from_bytes(payload[:4], "big") & HIGHEST_STREAM
        self.retire()
        # The server has not looked at those above the last, and will not (RFC 9113, 6.8).
        for stream_id in [stream_id for stream_id in self.streams if stream_id > last]:
            self.streams[stream_id].was_refused()
        if not self.streams:
            self.close()

    def _tell_begun(self) -> None:
        """Pass on the heads whose bodies have not begun with the same read."""
        begun, self._begun = self._begun, {}
        for stream in begun:
            stream.respond(b"", False)

    # The connection.

    def retire(self) -> None:
        """Take no new exchanges; close when the last has ended."""
        self.is_ending = True
        self.upstream.ends(self)

    def close(self) -> None:
        """Close after what is still to be sent."""
        if self._closed:
            return
        self.retire()
        self.flush_now()
        self._closed = True
        self.transport.write(codec.goaway(0, NO_ERROR))
        self.deadline = self.deadlines.now + FLUSH_FOR
        self.transport.loseConnection()

    def _break(self, error: int) -> None:
        """What the server sends is no HTTP/2."""
        self.retire()
        self._closed = True
        self.forget()
        self.transport.write(codec.goaway(0, error))
        self.deadline = self.deadlines.now + FLUSH_FOR
        streams, self.streams = self.streams, {}
        self._waiting.clear()
        try:
            for stream in streams.values():
                stream.fail()
        finally:
            self.transport.loseConnection()

    def __repr__(self) -> str:
        return f"<Http2ServerConnection {self.upstream.url} {len(self.streams)} streams>"


def _is_of_grpc(fields: Fields) -> bool:
    """Whether *fields* are those of an answer that has nothing but trailers, as gRPC calls them."""
    return any(name == b"grpc-status" for name, _ in fields)


class ServerStream(Stream):
    """A stream to a server: :class:`~swarmgate.http.exchange.Server` of one exchange."""

    __slots__ = (
        "_answer_by",
        "_chooser",
        "_exchange",
        "_expected",
        "_first",
        "_interim",
        "_is_answered",
        "_paused",
        "_response",
        "_sends",
        "_stalls",
        "_upstream",
    )

    def __init__(self, connection: Http2ServerConnection, stream_id: int, exchange: Exchange, chooser: Chooser) -> None:
        self.open(connection, stream_id)
        self._upstream = connection.upstream
        self._exchange: Exchange | None = exchange
        self._chooser = chooser
        self._answer_by = NEVER
        # The request's body.
        self._sends = True
        self._stalls = False
        #: What was sent of it, to be sent again if the server has done nothing with it; None if that was too much.
        self._first: bytes | None = b""
        # The answer.
        self._interim = 0
        self._response: Response | None = None
        self._is_answered = False
        self._expected = UNKNOWN
        self._paused = False

    # The request.

    def begin(self) -> None:
        """Send the request, and its body as far as it is there."""
        exchange, connection = self._exchange, self._connection
        assert exchange is not None
        request = exchange.request
        body = exchange.connect(self)
        done = exchange.body_done
        if done and request.length == UNKNOWN and not exchange.trailers:
            request.length = len(body)
        connection.deadlines.add(self)
        connection.send_head(self, request_fields(request), done and not body and not exchange.trailers)
        self._keep(body)
        if done:
            if not body and not exchange.trailers:
                self._sends = False
            elif exchange.trailers:
                if body:
                    self.put(body)
                self.put_end(exchange.trailers)
            else:
                self.put_last(body)
            self._answer_by, self.deadline = answer_due(self._upstream)
            return
        self.deadline = self._upstream.deadlines.now + CONTINUE_AFTER if request.expects_continue else NEVER
        if body:
            self.put(body)
        if not self._stalls:
            exchange.client.resume_body()

    def _keep(self, data: bytes) -> None:
        if self._first is not None:
            self._first = self._first + data if len(self._first) + len(data) <= _KEPT_AT_MOST else None

    def body_data(self, data: bytes) -> None:
        if self._exchange is None or not self._sends:
            return
        if not self._is_answered:
            self.deadline = NEVER
        self._keep(data)
        self.put(data)
        self._connection.flush()

    def body_end(self, trailers: Fields) -> None:
        if self._exchange is None or not self._sends:
            return
        self.put_end(trailers)
        if not self._is_answered:
            self._answer_by, self.deadline = answer_due(self._upstream)
        self._connection.flush()

    def watch(self) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if self.held > HELD_AT_MOST:
            if not self._stalls:
                self._stalls = True
                exchange.client.pause_body()
                timeout = self._upstream.settings.progress_timeout
                if timeout and not self._is_answered:
                    self.deadline = self._upstream.deadlines.now + timeout
        elif self._stalls and self.held <= HELD_AT_LEAST:
            self._stalls = False
            if not self._is_answered and not self._done:
                self.deadline = NEVER
            exchange.client.resume_body()

    def moved(self) -> None:
        self.watch()

    def sent_all(self) -> None:
        self._sends = False

    def cancel(self) -> None:
        """The client has left, or is answered otherwise."""
        self._leave(CANCEL)

    def _leave(self, error: int | None) -> None:
        """Let go of the exchange; *error*: and reset the stream."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        exchange.connection = None
        exchange.client.feed_from(None)
        self._over(error)

    def _over(self, error: int | None) -> None:
        connection = self._connection
        self._upstream.in_flight -= 1
        self.drop()
        self._sends = False
        self.deadline = NEVER
        connection.deadlines.discard(self)
        if error is not None:
            connection.reset(self, error)
        connection.discard(self)
        connection.flush()

    # Its time.

    def overdue(self) -> None:
        """Called by :class:`~swarmgate.http.deadlines.Deadlines`."""
        exchange, upstream = self._exchange, self._upstream
        if exchange is None:
            self.deadline = NEVER
        elif self._is_answered:
            self.fail()
        elif exchange.request.expects_continue and not self._interim and not exchange.body_done:
            self._interim += 1
            self.deadline = NEVER
            exchange.client.send_interim(Response(100, b"Continue", [], 0))
        elif self._stalls or upstream.deadlines.now >= self._answer_by:
            self._give_up(504)
        elif upstream.is_silent and may_be_repeated(exchange) and self._chooser.has_next(exchange):
            chooser = self._chooser
            tell_break(self._chooser, exchange)
            self._leave(CANCEL)
            chooser.try_next(exchange, 504, True)
        else:
            upstream.question()
            self.deadline = min(upstream.deadlines.now + LOOK_AGAIN, self._answer_by)

    # The answer.

    def received_section(self, fields: Fields, ends: bool) -> None:
        if self._has_head:
            self._received_trailers(fields, ends)
        elif fields and fields[0][0] == b":status" and fields[0][1][:1] == b"1":
            if ends:
                self.is_malformed()
            else:
                self.interim(fields)
        else:
            self._has_head = True
            self.head(fields, ends)
            connection = self._connection
            connection.begun(self)
            if ends:
                self.received_end([])

    def _received_trailers(self, fields: Fields, ends: bool) -> None:
        try:
            if not ends:
                raise BadRequest("trailers that do not end the stream")
            trailers = read_trailers(fields)
        except BadRequest:
            self.is_malformed()
        else:
            self.received_end(trailers)

    def interim(self, fields: Fields) -> None:
        """An informational answer has come."""
        exchange = self._exchange
        if exchange is None:
            return
        self._interim += 1
        try:
            response = read_response(fields)
        except BadResponse:
            self.is_malformed()
            return
        if self._interim > INTERIM_AT_MOST:
            self.is_malformed()
            return
        if exchange.request.minor == 1 and (response.status != 100 or exchange.request.expects_continue):
            exchange.client.send_interim(response)
        if response.status == 100 and not exchange.body_done:
            self.deadline = NEVER

    def head(self, fields: Fields, ends: bool) -> None:
        """The head of the answer has come; *ends*: and its end comes next."""
        exchange = self._exchange
        if exchange is None:
            return
        try:
            response = read_response(fields)
        except BadResponse:
            self.is_malformed()
            return
        if exchange.request.method == b"HEAD" or response.status in (204, 304):
            self._expected = 0
        else:
            self._expected = response.length
            if ends and response.length == UNKNOWN and not _is_of_grpc(fields):
                response.length = 0
        self._response = response
        if ends and self._expected <= 0:
            self.respond(b"", True)

    def respond(self, data: bytes, done: bool) -> None:
        """Pass the head on, if that has not been done, with *data*; *done*: and the end."""
        exchange, response = self._exchange, self._response
        if exchange is None or response is None:
            return
        self._response = None
        self._is_answered = True
        connection = self._connection
        connection.was_used = True
        upstream = self._upstream
        upstream.heard = upstream.deadlines.now
        if upstream.is_troubled:
            upstream.recovered()
        if self._chooser.listens:
            self._chooser.answered(exchange, response)
        if done:
            self._finish(exchange)
            exchange.respond(response, data, True)
            return
        self._first = None
        self._expect_progress()
        exchange.respond(response, data, False)
        if self._exchange is exchange:
            exchange.client.feed_from(self)

    def _expect_progress(self) -> None:
        timeout = self._upstream.settings.progress_timeout
        self.deadline = self._upstream.deadlines.now + timeout if timeout else NEVER

    def received(self, data: bytes, size: int, ends: bool) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if self._expected != UNKNOWN:
            self._expected -= len(data)
            if self._expected < 0:
                self.is_malformed()
                return
        self._unopened += size
        whole = ends and self._expected <= 0
        if self._response is not None:
            if data or whole:
                self.respond(data, whole)
        elif data:
            self._expect_progress()
            exchange.data(data)
        if not self._paused and not ends:
            self.open_window()

    def received_end(self, trailers: Fields) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if self._expected > 0:
            self.is_malformed()
            return
        if self._response is not None:
            self.respond(b"", not trailers)
            if not trailers or self._exchange is not exchange:
                return
        exchange.client.feed_from(None)
        self._finish(exchange)
        exchange.end(trailers)

    def _finish(self, exchange: Exchange) -> None:
        """The answer has ended as it should."""
        exchange.connection = None
        self._exchange = None
        # What is left of the request is not wanted any more.
        self._over(CANCEL if self._sends else None)

    # What goes wrong.

    def is_malformed(self) -> None:
        """What the server sent cannot be passed on."""
        self.fail(PROTOCOL_ERROR)

    def fail(self, error: int = CANCEL) -> None:
        """There will be no answer, or no whole one."""
        exchange = self._exchange
        if exchange is None:
            return
        tell_break(self._chooser, exchange)
        self._leave(error)
        exchange.fail(502)

    def _give_up(self, status: int) -> None:
        exchange = self._exchange
        if exchange is not None:
            tell_break(self._chooser, exchange)
            self._leave(CANCEL)
            exchange.fail(status)

    def is_faulty(self, error: int) -> None:
        self._tell_begun_first()
        self.fail(error)

    def was_reset(self, error: int) -> None:
        exchange = self._exchange
        if error == REFUSED_STREAM and exchange is not None and not self._is_answered:
            self.was_refused()
            return
        if exchange is not None and hasattr(exchange.client, "error"):
            exchange.client.error = error  # What a client that speaks HTTP/2 gets to know, if its answer has begun.
        self._tell_begun_first()
        self.fail()

    def _tell_begun_first(self) -> None:
        if self._response is not None:
            self.respond(b"", False)

    def was_refused(self) -> None:
        """The server has done nothing with the request: send it again, if all of it is still here."""
        exchange, first, chooser = self._exchange, self._first, self._chooser
        if exchange is None:
            return
        if self._is_answered or first is None or exchange.retries >= _AGAIN_AT_MOST:
            self.fail()
            return
        self._leave(CANCEL)
        exchange.taken = False
        exchange.pending = first
        exchange.client.pause_body()
        exchange.retries += 1
        self._upstream.send(exchange, chooser)

    def connection_lost(self) -> None:
        """The connection has broken, or the server has closed it."""
        exchange, chooser = self._exchange, self._chooser
        if exchange is None:
            return
        unanswered = not self._is_answered and self._response is None and not self._interim
        tell_break(self._chooser, exchange)
        self._leave(None)
        was_used = self._connection.was_used
        if not unanswered:
            exchange.fail(502)
            return
        if was_used:
            self._upstream.doubt()
        else:
            self._upstream.broke()
        if not may_be_repeated(exchange):
            exchange.fail(502)
        elif was_used and exchange.retries < _AGAIN_AT_MOST and not chooser.has_next(exchange):
            exchange.retries += 1
            self._upstream.send(exchange, chooser)
        else:
            chooser.try_next(exchange, 502, True)

    # As a producer of the answer's body.

    def pauseProducing(self) -> None:
        self._paused = True
        self.deadline = NEVER

    def resumeProducing(self) -> None:
        self._paused = False
        if self._exchange is not None:
            self._expect_progress()
            self.open_window()

    def stopProducing(self) -> None:
        """The client's transport is closing; that it has closed is told otherwise."""

    def __repr__(self) -> str:
        return f"<ServerStream {self.id} {self._exchange or '-'}>"


classImplements(Http2ServerConnection, IProtocol)
