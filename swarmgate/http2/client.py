"""A client's connection that speaks HTTP/2: streams, each the client of an exchange.

What must hold:

* Nothing of a request goes on before its field section has been accepted whole.
* A client's body is taken as fast as its server takes it, stream by stream: a stream's window is opened again when the
  server has had the octets, the connection's at once, so that no stream waits for another's server.
* An answer is taken from its server as fast as its client takes it: what a stream's window does not let pass is
  bounded.
* A fault of one stream ends that stream. What costs the others, floods above all, ends the connection.
"""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import attrs
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.python.failure import Failure
from zope.interface import classImplements

from swarmgate.http.client import ClientSettings, Site
from swarmgate.http.deadlines import FLUSH_FOR, NEVER, Deadlines
from swarmgate.http.errors import BadRequest
from swarmgate.http.exchange import PLAIN_TEXT, Exchange, reason_of
from swarmgate.http.forwarded import Forwarded
from swarmgate.http.message import UNKNOWN, FieldBlock, Fields, Request, Response
from swarmgate.http.refused import refused_before, refused_section
from swarmgate.http.request_head import RequestHeads
from swarmgate.http2 import budgets, codec
from swarmgate.http2.budgets import Allowances, Budget, Overdrawn
from swarmgate.http2.codec import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    HIGHEST_STREAM,
    INTERNAL_ERROR,
    NO_ERROR,
    PADDED,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Fault,
)
from swarmgate.http2.connection import (
    HELD_AT_LEAST,
    HELD_AT_MOST,
    Connection,
    Stream,
)
from swarmgate.http2.heads import Malformed, Requests, read_trailers, response_fields
from swarmgate.http2.tunnel import StreamTransport

#: Octets that a frame must have to count as an answer's: a client that opens its window by single octets earns nothing.
_EARNS = 512
#: Octets of acknowledgements that are written for a client that reads nothing.
_UNREAD_AT_MOST = 65536
#: Seconds from the announcement that the connection ends to the end of new requests, if the client does not say that
#: it has heard it.
_ANNOUNCED_FOR = 1.0
#: What is done in one turn of the reactor for one connection, so that no client waits for what another sends: frames,
#: of which one with a field section counts for so many, more by its length; and requests that are passed on.
_FRAMES_A_TURN = 128
_SECTION_COUNTS = 4
_SECTION_OCTETS_COUNT = 1 / 256
_REQUESTS_A_TURN = 16
#: A field section of so many octets is long; what an answer earns, for those that come after it.
_LONG = 1024
_LONG_EARNS = 8192
#: A field section may be so many times as long as is answered, so that what is too long can be answered, too.
_SECTION_FACTOR = 2
#: Answers' field sections of one connection that are remembered as they are sent.
_SECTIONS_REMEMBERED = 64


@attrs.frozen
class Http2Settings:
    """What an entry point asks of clients that speak HTTP/2 (Traefik ``entryPoints.X.http2``).

    :ivar streams_at_most: streams that a client may have open (``maxConcurrentStreams``).
    :ivar decoder_table: octets of the table for field sections of clients (``maxDecoderHeaderTableSize``).
    :ivar encoder_table: the most of that for the gate's own (``maxEncoderHeaderTableSize``).
    :ivar websockets: whether websockets are served over HTTP/2 (RFC 8441).
    """

    streams_at_most: int = 250
    decoder_table: int = 4096
    encoder_table: int = 4096
    websockets: bool = False
    #: What reads the requests of all connections; made with the first of them.
    _requests: list[Requests] = attrs.field(init=False, factory=list, eq=False, repr=False)

    def requests(self, heads: RequestHeads) -> Requests:
        """What reads requests, and *heads* what is left of them in HTTP/1.1."""
        if not self._requests or self._requests[0].heads is not heads:
            self._requests[:] = [Requests(heads, self.websockets)]
        return self._requests[0]

    def connection(self, site: Site, settings: ClientSettings, deadlines: Deadlines) -> Http2Connection:
        """The protocol of a client's connection."""
        return Http2Connection(site, settings, self, deadlines)


class Http2Connection(Connection):
    """A client's connection, from its first octet to its last."""

    factory = None

    def __init__(self, site: Site, settings: ClientSettings, http2: Http2Settings, deadlines: Deadlines) -> None:
        told = [(codec.MAX_CONCURRENT_STREAMS, http2.streams_at_most)]
        if http2.websockets:
            told.append((codec.ENABLE_CONNECT_PROTOCOL, 1))
        section_at_most = settings.limits.head * _SECTION_FACTOR
        Connection.__init__(self, deadlines, False, section_at_most, told, http2.decoder_table, http2.encoder_table)
        # Given.
        self.site = site
        self.settings = settings
        self._is_secure = settings.secure
        self.http2 = http2
        self.requests = http2.requests(settings.heads)
        # Per connection.
        self.client_ip = ""
        self.deadline = NEVER
        self._preface = codec.PREFACE
        self._begun = 0.0
        self._requests = 0
        self._closing = False
        #: The last stream that is served, once that is settled; whether the end was announced.
        self._last = HIGHEST_STREAM
        self._ending = False
        # What has come.
        #: Octets of the field section that is not complete, 0 if there is none.
        self._section = 0
        #: When the frame, or the field section, has to be complete; when an idle connection is closed.
        self._partial_until = NEVER
        self._idle_until = NEVER
        self._allowances = Allowances()
        #: Streams whose requests have come with what is being read now.
        self._accepted: list[ClientStream] = []
        #: Whether what has come waits for its next turn, while no more is read.
        self._waits = False
        #: What the turn has left, in frames.
        self._turn = 0.0
        self._answers_earned = self._data_earned = self._frames_earned = self._sections_earned = 0.0
        self._unread = 0
        #: Field sections of answers as they were sent, by the fields; valid as long as the encoder's table is.
        self._sections: dict[FieldBlock, tuple[int, int, bytes]] = {}
        self._sections_of = 0

    # From the network.

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        peer = getattr(transport.getPeer(), "host", None) or ""
        self.client_ip = peer[7:] if peer.startswith("::ffff:") and "." in peer else peer
        self._forwarded = Forwarded(self.settings.forwarded, self.client_ip)
        self._begun = self.deadlines.now
        self.deadlines.add(self)
        self.deadline = self._in(self.settings.head_timeout)
        self._idle_until = self._in(self.settings.idle_timeout)
        self.connectionMade()

    def connectionMade(self) -> None:
        self.site.opened(self)  # type: ignore[arg-type]
        self.transport.registerProducer(self, True)
        self.flush()

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        if self._preface:
            data = self._rest + data
            self._rest = b""
            size = len(self._preface)
            if not data.startswith(self._preface):
                if self._preface.startswith(data):
                    self._rest = data
                else:
                    self._fail(PROTOCOL_ERROR, "http2: no preface")
                return
            self._preface = b""
            data = data[size:]
        if self._waits:
            self._rest += data
        else:
            self._take_turn(data)

    def _take_turn(self, data: bytes) -> None:
        """Read what has come, then serve its requests; what is too much for one turn of the reactor waits for the next.

        All is read before the first is served: a client that takes back what it has just asked for reaches no server.
        """
        self._reading = True
        self._turn = _FRAMES_A_TURN
        progress = False
        try:
            progress = self.take_frames(data)
            if self._closing:
                return
            if self._turn > 0 and self._accepted:
                self._serve_accepted()
        except Overdrawn as error:
            self._fail(ENHANCE_YOUR_CALM, error.reason)
        except Fault as error:
            self._fail(error.error, error.reason)
        finally:
            self._reading = False
        if not self._closing:
            self._watch_partial(progress)
            self._wait_for_turn(self._turn <= 0 or bool(self._accepted))
        self.flush()

    def take(self, kind: int, flags: int, stream_id: int, data: bytes, at: int, end: int) -> bool:
        """As long as the turn lasts, and the connection."""
        self._receive(kind, flags, stream_id, data, at, end)
        if kind in (HEADERS, CONTINUATION):
            self._turn -= _SECTION_COUNTS + (end - at + 9) * _SECTION_OCTETS_COUNT
        else:
            self._turn -= 1
        return self._turn > 0 and not self._closing

    def _wait_for_turn(self, waits: bool) -> None:
        """Go on in the reactor's next turn, and read nothing before; or read on."""
        if waits:
            self.deadlines.call_later(0, self._go_on)
        if waits != self._waits:
            self._waits = waits
            if waits:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def _go_on(self) -> None:
        if not self._closing:
            self._take_turn(b"")

    def readConnectionLost(self) -> None:
        # A client that has ended its side can neither cancel nor open a window: there is no half-closed HTTP/2.
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Part of IHalfCloseableProtocol."""

    def connectionLost(self, reason: Failure) -> None:
        self.deadlines.discard(self)
        self.deadline = NEVER
        self._closing = True
        self.forget()
        streams, self.streams = self.streams, {}
        self._waiting.clear()
        for stream in streams.values():
            stream.gone()
        self.site.closed(self)  # type: ignore[arg-type]

    def overdue(self) -> None:
        """Called by :class:`~swarmgate.http.deadlines.Deadlines`."""
        if self._closing:
            self.transport.abortConnection()
        elif self._preface:
            self.close()
        elif self.is_full and self.deadlines.now - self.full_since >= self._patience():
            self._fail(ENHANCE_YOUR_CALM, "http2: answers not read in time")
        elif self.deadlines.now >= self._partial_until:
            self._fail(ENHANCE_YOUR_CALM, "http2: frame not complete in time")
        elif (self._ending and self._last == HIGHEST_STREAM) or not self.streams:
            self._settle_end()
        else:
            self._set_deadline()
        self.flush()

    def _in(self, seconds: float) -> float:
        return self.deadlines.now + seconds if seconds else NEVER

    def _patience(self) -> float:
        return self.settings.progress_timeout or NEVER

    def _watch_partial(self, progress: bool) -> None:
        """Watch the time of a frame that is not complete, or of a field section.

        :param progress: a frame was completed. A field section has its time however many frames it comes in.
        """
        if self._section:
            if self._partial_until == NEVER:
                self._partial_until = self._in(self.settings.head_timeout)
        elif not self._rest:
            self._partial_until = NEVER
        elif progress or self._partial_until == NEVER:
            self._partial_until = self._in(self.settings.progress_timeout)
        self._set_deadline()

    def _set_deadline(self) -> None:
        if self._closing or self._preface or (self._ending and self._last == HIGHEST_STREAM):
            return
        deadline = self._partial_until
        if self.is_full:
            deadline = min(deadline, self.full_since + self._patience())
        if not self.streams:
            deadline = min(deadline, self._idle_until)
        self.deadline = deadline

    # Frames.

    def _receive(self, kind: int, flags: int, stream_id: int, data: bytes, at: int, end: int) -> None:
        """Act on a frame whose payload is ``data[at:end]``, unless it is one too many."""
        size = end - at
        if self._section:
            if kind == CONTINUATION:
                self._section += size + 32
                if self._section > self._section_at_most:
                    raise Overdrawn(_SECTION)
        elif kind == HEADERS:
            self._section = size + 1
        elif kind == DATA:
            if not flags & END_STREAM and (size == 0 or (flags & PADDED and size <= 1 + data[at])):
                self._spend(budgets.EMPTY_DATA)
            else:
                self._data_earned += 1
        elif not self._is_wanted(kind, flags, stream_id):
            return
        if self._section and flags & END_HEADERS:
            if self._section > _LONG:
                self._allowances.spend(budgets.LONG_SECTIONS, self.deadlines.now, self._sections_earned, self._section)
                self._sections_earned = 0.0
            self._section = 0
        self.receive(kind, flags, stream_id, data, at, end)

    def _is_wanted(self, kind: int, flags: int, stream_id: int) -> bool:
        """Whether a frame that carries nothing of a request is acted on, after it was paid for."""
        now = self.deadlines.now
        if kind == WINDOW_UPDATE:
            self._allowances.spend(budgets.WINDOW_UPDATES, now, 4 * self._frames_earned)
            self._frames_earned = 0.0
        elif kind == SETTINGS:
            if not flags & ACK:
                self._spend(budgets.SETTINGS)
        elif kind == PING:
            if not flags & ACK:
                self._allowances.spend(budgets.PINGS, now, self._data_earned + self._frames_earned)
                self._data_earned = self._frames_earned = 0.0
        elif kind == RST_STREAM:
            if stream_id in self.streams:
                self._allowances.spend(budgets.RESETS, now, self._answers_earned / 2)
                self._answers_earned = 0.0
        elif kind == PRIORITY:
            # They are no more than hints, and RFC 9113, 5.3 has done away with them.
            self._spend(budgets.PRIORITIES)
            return False
        elif kind == GOAWAY:
            # The client opens no more streams; those that are there go on.
            self._announce_end()
            return False
        elif kind > CONTINUATION:
            self._spend(budgets.UNKNOWN_FRAMES)
            return False
        return True

    def _spend(self, budget: Budget) -> None:
        self._allowances.spend(budget, self.deadlines.now)

    def opened(self, stream_id: int, fields: Fields, ends: bool) -> None:
        if stream_id > self._last or len(self.streams) >= self.http2.streams_at_most:
            if stream_id <= self._last:
                self.spend_stream_error()
            self.refuse(stream_id, REFUSED_STREAM)
            return
        self._requests += 1
        stream = ClientStream(self, stream_id)
        stream.has_ended = ends
        self.streams[stream_id] = stream
        try:
            request = self.requests.read(fields, ends)
        except Malformed as error:
            error.request = refused_section(fields, self.settings.secure)
            self.site.refused(self, error)  # type: ignore[arg-type]
            self.spend_stream_error()
            stream.end(PROTOCOL_ERROR)
            return
        except BadRequest as error:
            without_body = (b":method", b"HEAD") in fields
            error.request = refused_section(fields, self.settings.secure)
            error.sent = 0 if without_body else len(reason_of(error.status))
            self.site.refused(self, error)  # type: ignore[arg-type]
            self.spend_stream_error()
            stream.refuse(error, without_body)
            return
        request.client_ip = self.client_ip
        if self._is_secure:
            request.secure = True
            request.scheme = b"https"
        self._forwarded.add(request)
        stream.accept(request, ends)
        self._accepted.append(stream)

    def _serve_accepted(self) -> None:
        """Serve requests that have come, as many as one turn is good for, but for those that were taken back."""
        accepted = self._accepted[:_REQUESTS_A_TURN]
        del self._accepted[:_REQUESTS_A_TURN]
        for stream in accepted:
            stream.begin()

    def late(self) -> None:
        self.spend_stream_error()

    def ping_acknowledged(self) -> None:
        if self._ending:
            self._settle_end()

    def spend_stream_error(self) -> None:
        """A fault of the client's has ended a stream."""
        self._allowances.spend(budgets.STREAM_ERRORS, self.deadlines.now)

    # What the streams ask for.

    def send_section(self, stream: Stream, section: bytes, done: bool) -> None:
        Connection.send_section(self, stream, section, done)
        self._frames_earned += 1

    def send_data(self, stream: Stream, data: bytes, done: bool) -> None:
        Connection.send_data(self, stream, data, done)
        if len(data) >= _EARNS:
            self._frames_earned += 1

    def section_of(self, response: Response, length: int) -> bytes:
        """The field section of *response*, of whose body *length* octets are told, to be sent now."""
        encoder, block = self._encoder, response.block
        if block is None:
            return encoder.encode(response_fields(response, length))
        sections = self._sections
        if self._sections_of != encoder.changes or len(sections) >= _SECTIONS_REMEMBERED:
            self._sections_of = encoder.changes
            sections.clear()
        known = sections.get(block)
        if known is not None and known[0] == response.status and known[1] == length:
            return known[2]
        section = encoder.encode(response_fields(response, length))
        if self._sections_of == encoder.changes:
            sections[block] = (response.status, length, section)
        return section

    def answered(self, stream: ClientStream) -> None:
        """The answer of *stream* has been sent whole."""
        self._answers_earned += 1
        self._sections_earned += _LONG_EARNS
        self.discard(stream)

    def discard(self, stream: ClientStream) -> None:
        """*stream* is over."""
        if self.streams.pop(stream.id, None) is not None:
            if self._waiting:
                self._waiting.pop(stream, None)
            self._stream_gone()

    def _stream_gone(self) -> None:
        if self.streams or self._closing:
            return
        if self._ending:
            if self._last != HIGHEST_STREAM:
                self.close()
        else:
            self._idle_until = self._in(self.settings.idle_timeout)
            self._set_deadline()

    def wrote_beyond(self, size: int) -> None:
        self._unread += size
        if self._unread > _UNREAD_AT_MOST and not self._closing:
            self._fail(ENHANCE_YOUR_CALM, "http2: acknowledgements not read")

    # As a producer of the transport.

    def pauseProducing(self) -> None:
        if not self.is_full:
            Connection.pauseProducing(self)
            self._unread = 0
            self._set_deadline()

    def resumeProducing(self) -> None:
        Connection.resumeProducing(self)
        self._set_deadline()

    # The connection.

    def is_closing(self) -> bool:
        """Whether it takes nothing more."""
        return self._closing

    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return not self.streams

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return len(self.streams)

    def close_when_idle(self) -> None:
        """Take no new requests, say so, and close when those under way are answered."""
        self._announce_end()
        self.flush()

    def announce_end_if_worn(self) -> None:
        """Begin to end the connection if it has had its requests or its time, or the entry point ends."""
        settings = self.settings
        if not self._ending and (
            self.site.draining
            or (settings.ends_connections and settings.is_worn(self._requests, self._begun, self.deadlines.now))
        ):
            self._announce_end()

    def _announce_end(self) -> None:
        """Say that the connection will end, and find out when the client knows (RFC 9113, 6.8)."""
        if self._ending or self._closing:
            return
        self._ending = True
        if self._preface:
            self.close()
            return
        self.flush_now()
        self.transport.write(codec.goaway(HIGHEST_STREAM, NO_ERROR) + codec.PING_FRAME)
        self.deadline = self._in(_ANNOUNCED_FOR)

    def _settle_end(self) -> None:
        """No stream that comes from now on is served."""
        if self._last == HIGHEST_STREAM:
            self._ending = True
            self._last = self._highest
            self.flush_now()
            self.transport.write(codec.goaway(self._last, NO_ERROR))
            self._set_deadline()
        if not self.streams:
            self.close()

    def _fail(self, error: int, reason: str) -> None:
        """End the connection, and with it all its streams, for a fault of the client's."""
        self.site.refused(self, BadRequest(reason))  # type: ignore[arg-type]
        self._reading = False
        self._closing = True
        if not self.is_full:
            # Answers that were gathered in this turn are the client's, whatever it has done since.
            self.flush_now()
        self.forget()
        self.transport.write(codec.goaway(self._highest, error))
        streams, self.streams = self.streams, {}
        self._waiting.clear()
        for stream in streams.values():
            stream.gone()
        if self.is_full:
            self.transport.abortConnection()
        else:
            self.close()

    def close(self) -> None:
        """Close after what is still to be sent."""
        self.flush_now()
        self._closing = True
        self.deadline = self._in(FLUSH_FOR)
        self.transport.loseConnection()

    def send_away(self) -> None:
        """Its time is over."""
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self.transport.abortConnection()

    def __repr__(self) -> str:
        return f"<Http2Connection {self.client_ip} {len(self.streams)} streams>"


_SECTION = Budget(0, 0, "http2: field section too long")


class ClientStream(Stream):
    """A stream of a client: :class:`~swarmgate.http.exchange.Client` of one exchange.

    :ivar error: what the stream is reset with if the answer is broken off.
    """

    __slots__ = (
        "_accepted",
        "_early",
        "_exchange",
        "_expected",
        "_in_body",
        "_is_tunnel",
        "_paused",
        "_producer",
        "_producer_paused",
        "_stalled_at",
        "_tunnel",
        "_until",
        "error",
        "transport",
    )

    def __init__(self, connection: Http2Connection, stream_id: int) -> None:
        self.open(connection, stream_id)
        self._has_head = True
        self._accepted: Request | None = None
        self._exchange: Exchange | None = None
        self.error: int = INTERNAL_ERROR
        # The request's body.
        self._in_body = False
        self._expected = UNKNOWN
        self._paused = False
        self._until = NEVER
        # The answer's.
        self._producer: Any = None
        self._producer_paused = False
        self._stalled_at = NEVER
        # A websocket's: the server's connection, and what came before it was switched.
        self._is_tunnel = False
        self._tunnel: Any = None
        self.transport: Any = None
        self._early = b""

    # The request.

    def accept(self, request: Request, ended: bool) -> None:
        """The request's field section has been accepted; *ended*: there is no body."""
        self._accepted = request
        self._in_body = not ended
        self._is_tunnel = bool(request.upgrade)
        self._expected = UNKNOWN if self._is_tunnel else request.length

    def begin(self) -> None:
        """Serve the request that was accepted, if that has not been done and it was not taken back."""
        request, self._accepted = self._accepted, None
        if request is None:
            return
        connection = self._connection
        settings = connection.settings
        exchange = Exchange(self, request, settings.entry_point)
        self._exchange = exchange
        if self._in_body and not self._is_tunnel:
            self._until = connection._in(settings.request_timeout)
            connection.deadlines.add(self)
            self.deadline = self._body_deadline()
        if request.path == b"*":
            exchange.answer(200)
            return
        connection.site.serve(exchange)
        if self._in_body and self._exchange is exchange and not exchange.taken:
            self.pause_body()

    def refuse(self, error: BadRequest, without_body: bool) -> None:
        """Answer what is no request for the gate."""
        connection = self._connection
        body = b"" if without_body else reason_of(error.status)
        response = Response(error.status, body, [(b"date", formatdate(usegmt=True).encode("ascii")), PLAIN_TEXT], 0)
        connection.send_head(self, response_fields(response, len(body)), False)
        self.put_last(body)

    def received(self, data: bytes, size: int, ends: bool) -> None:
        if self._expected != UNKNOWN:
            self._expected -= len(data)
            if self._expected < 0:
                self.is_malformed(Malformed("more body than Content-Length says"))
                return
            if ends and self._expected:
                self.is_malformed(Malformed("less body than Content-Length says"))
                return
        self.begin()
        exchange = self._exchange
        self._unopened += size
        if self._is_tunnel:
            self._tunnel_data(data)
            return
        if exchange is None:
            return
        if not self._paused:
            self.deadline = self._body_deadline()
            if not ends:
                self.open_window()
        if data:
            if ends and exchange.request.length:
                self._in_body = False
                self._until = self.deadline = NEVER
                exchange.body_data(data, True, [])
            else:
                exchange.body_data(data, False, [])

    def _tunnel_data(self, data: bytes) -> None:
        if self._tunnel is None:
            self._early += data  # No more than the window allows, which is not opened before the answer.
            return
        if data:
            self._tunnel.transport.write(data)
        if not self._paused:
            self.open_window()

    def received_section(self, fields: Fields, ends: bool) -> None:
        try:
            if not ends:
                raise Malformed("trailers that do not end the stream")
            trailers = read_trailers(fields)
        except Malformed as error:
            self.is_malformed(error)
        else:
            self.received_end(trailers)

    def received_end(self, trailers: Fields) -> None:
        if not self._in_body:
            return
        if self._expected > 0:
            self.is_malformed(Malformed("less body than Content-Length says"))
            return
        self.begin()
        self._in_body = False
        self._until = NEVER
        self.deadline = NEVER
        if self._is_tunnel:
            if self._tunnel is not None:
                self._tunnel.client_has_ended()
            return
        exchange = self._exchange
        if exchange is not None and exchange.request.length:
            exchange.body_data(b"", True, trailers)

    def was_reset(self, error: int) -> None:
        connection = self._connection
        connection.discard(self)
        self.gone()

    def is_faulty(self, error: int) -> None:
        connection = self._connection
        self.end(error)
        connection.spend_stream_error()

    def is_malformed(self, error: Malformed) -> None:
        """What follows the field section shows that this is no request."""
        if self._accepted is not None:
            error.request = refused_before(self._accepted)
        connection = self._connection
        connection.site.refused(connection, error)
        connection.reset(self, PROTOCOL_ERROR)
        connection.discard(self)
        self.gone()
        connection.spend_stream_error()

    def _body_deadline(self) -> float:
        connection = self._connection
        return connection._in(connection.settings.progress_timeout) if self._until == NEVER else self._until

    def overdue(self) -> None:
        """Called by :class:`~swarmgate.http.deadlines.Deadlines`."""
        connection = self._connection
        exchange = self._exchange
        if exchange is None:
            # Nothing more is to come of it but what its client does not take.
            self.end(CANCEL)
            connection.flush()
        elif self._stalled_at != NEVER or exchange.status:
            # The client does not take the answer, or it takes longer than it may.
            connection.site.refused(connection, BadRequest("http2: answer not read in time"))
            self.end(CANCEL)
            connection.flush()
        else:
            self.deadline = NEVER
            exchange.fail(408)

    # The answer: Exchange's Client.

    def send_head(self, exchange: Exchange, response: Response, data: bytes, done: bool) -> None:
        connection = self._connection
        request = exchange.request
        status = response.status
        length = response.length
        if self._exchange is None:
            return
        if data and done and length == UNKNOWN:
            length = len(data)
        if status == 204 or status == 304 or request.method == b"HEAD":
            data = b""
            if status == 204:
                length = UNKNOWN
        connection.announce_end_if_worn()
        connection.send_section(self, connection.section_of(response, length), done and not data)
        if not done:
            seconds = connection.settings.answer_timeout
            if seconds:
                connection.deadlines.add(self)
                self._until = self.deadline = connection._in(seconds)
        if data:
            if done:
                self.put_last(data)
            else:
                self.put(data)
        elif done:
            self.sent_all()
        connection.flush()

    def send_interim(self, response: Response) -> None:
        if self._exchange is None:
            return
        self._connection.send_head(self, response_fields(response, UNKNOWN), False)
        self._connection.flush()

    def send_data(self, data: bytes) -> None:
        if self._exchange is None:
            return
        self.put(data)
        self._connection.flush()

    def send_end(self, trailers: Fields) -> None:
        if self._exchange is None:
            return
        self.put_end(trailers)
        self._connection.flush()

    def moved(self) -> None:
        self._stalled_at = NEVER
        self.watch()

    def watch(self) -> None:
        """Pause or resume who produces the answer, and watch the time in which the client takes something of it."""
        connection = self._connection
        if not self.held:
            self.deadline = self._until
        elif self._stalled_at == NEVER:
            self._stalled_at = connection.deadlines.now
            connection.deadlines.add(self)
            self.deadline = min(self._until, connection._in(connection.settings.progress_timeout))
        if self.held > HELD_AT_MOST:
            if self._producer is not None and not self._producer_paused:
                self._producer_paused = True
                self._producer.pauseProducing()
        elif self._producer_paused and self.held <= HELD_AT_LEAST:
            self._producer_paused = False
            if self._producer is not None:
                self._producer.resumeProducing()

    def abort(self) -> None:
        self.end(self.error)
        self._connection.flush()

    def feed_from(self, producer: Any) -> None:
        self._producer = producer
        self._producer_paused = False
        if producer is not None and self.held > HELD_AT_MOST:
            self._producer_paused = True
            producer.pauseProducing()

    def pause_body(self) -> None:
        if self._in_body:
            self._paused = True
            if self._stalled_at == NEVER:
                self.deadline = self._until

    def resume_body(self) -> None:
        if self._in_body and self._paused:
            self._paused = False
            if self._stalled_at == NEVER:
                self.deadline = self._body_deadline()
            self.open_window()

    def switch(self, response: Response, server: Any) -> None:
        connection, exchange = self._connection, self._exchange
        if exchange is None:
            return
        # In HTTP/2 it is not the connection that is switched, and the key proves nothing (RFC 8441, 5).
        fields = [pair for pair in response.fields if pair[0].lower() != b"sec-websocket-accept"]
        connection.send_head(self, response_fields(Response(200, b"", fields, UNKNOWN), UNKNOWN), False)
        exchange.status = 200
        exchange.origin_status = 101
        exchange.connection = None
        self._tunnel = server
        self._until = self.deadline = NEVER
        self.transport = StreamTransport(self)
        server.tunnel_to(self)
        server.transport.registerProducer(self.transport, True)
        early, self._early = self._early, b""
        if early:
            server.transport.write(early)
        self._paused = False
        self.open_window()
        if not self._in_body:
            server.client_has_ended()
        connection.flush()

    def close(self) -> None:
        """The tunnel's server has closed it."""
        self._tunnel = None
        self._in_body = False
        if not self._done:
            self.send_end([])
        elif not self.held:
            self.sent_all()

    # Its end.

    def sent_all(self) -> None:
        if self._tunnel is not None:
            return  # The client may still have something to say.
        exchange, self._exchange = self._exchange, None
        connection = self._connection
        connection.deadlines.discard(self)
        self._in_body = False
        if not self.has_ended:
            # The rest of the body is not wanted (RFC 9113, 8.1).
            connection.reset(self, NO_ERROR)
        connection.answered(self)
        if exchange is not None:
            exchange.ended = True
            if exchange.places is not None:
                exchange.leave()
            connection.site.finished(exchange)

    def end(self, error: int) -> None:
        """Reset the stream."""
        connection = self._connection
        connection.reset(self, error)
        connection.discard(self)
        self.gone()

    def gone(self) -> None:
        """The stream is over, whatever was still to be sent."""
        self._connection.deadlines.discard(self)
        self.drop()
        self._accepted = None
        self._in_body = False
        exchange, self._exchange = self._exchange, None
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.tunnel_ended()
        if exchange is not None:
            exchange.client_gone()
            self._connection.site.finished(exchange)

    def __repr__(self) -> str:
        return f"<ClientStream {self.id} {self._exchange or '-'}>"


classImplements(Http2Connection, IProtocol, IHalfCloseableProtocol)
