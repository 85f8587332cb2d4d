"""What connections to clients and to servers have in common: frames, and streams that send as the windows let them.

The states of streams are those of RFC 9113, 5.1, as far as anybody asks for them: which sides of a stream have ended,
and of streams that are no more, which were reset. What is kept for a stream is in its :class:`Stream` alone.

A fault of one stream ends that stream; where the peers can't go on together, :exc:`~swarmgate.http2.codec.Fault` is
raised.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hpack import HPACKError, OversizedHeaderListError

from swarmgate.http.deadlines import NEVER, Deadlines
from swarmgate.http.message import Fields
from swarmgate.http2 import codec
from swarmgate.http2.codec import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FIRST_WINDOW,
    FLOW_CONTROL_ERROR,
    FRAME_AT_MOST,
    FRAME_SIZE_ERROR,
    HEADERS,
    PADDED,
    PING,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    STREAM_CLOSED,
    WINDOW_AT_MOST,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Fault,
)
from swarmgate.http2.compression import Decoder, Encoder
from swarmgate.http2.heads import lowered
from swarmgate.http2.octets import frame_head

#: Octets that a peer may send on a stream before the other side has taken them, and on the connection on the way.
STREAM_WINDOW = 262144
CONNECTION_WINDOW = 1048576
#: After how many of them the window is opened again.
_OPEN_STREAM_AT = STREAM_WINDOW // 4
_OPEN_CONNECTION_AT = CONNECTION_WINDOW // 4
#: Octets that a stream holds for a peer whose window is closed before whoever produces them is paused; and when he is
#: resumed.
HELD_AT_MOST = 65536
HELD_AT_LEAST = 16384
#: Octets that are gathered before they are written, for one write at the end of the loop's turn.
_GATHERED_AT_MOST = 65536
#: Frames that a field section may come in after the first.
_CONTINUATIONS_AT_MOST = 64
#: Streams of which is remembered that they were reset: what was on the way then is not the peer's fault.
_RESETS_REMEMBERED = 1024


class Stream:
    """A stream: a body that is sent as the windows let it pass, and its end.

    :ivar id: of the stream.
    :ivar held: octets that wait for the windows.
    :ivar window: octets that the peer still takes.
    :ivar has_ended: the peer has said that it sends nothing more on it, or the stream was reset.
    :ivar has_sent_all: so has the gate.
    """

    __slots__ = (
        "_connection",
        "_done",
        "_has_head",
        "_left",
        "_out",
        "_trailers",
        "_unopened",
        "deadline",
        "has_ended",
        "has_sent_all",
        "held",
        "id",
        "window",
    )

    def __init__(self, connection: Connection, stream_id: int) -> None:
        self.open(connection, stream_id)

    def open(self, connection: Connection, stream_id: int) -> None:
        """The stream is *connection*'s, and has the number *stream_id*."""
        self.id = stream_id
        self.deadline = NEVER
        self.held = 0
        self.has_ended = False
        self.has_sent_all = False
        self._connection: Any = connection
        self.window = connection.first_window
        #: A request's, or an answer's, field section has come.
        self._has_head = False
        #: Octets that the peer may send.
        self._left = STREAM_WINDOW
        self._out = b""
        self._done = False
        self._trailers: Fields = []
        #: Octets that were received and for which the window was not opened again.
        self._unopened = 0

    @property
    def connection(self) -> Any:
        """Its connection."""
        return self._connection

    # What is sent.

    def put(self, data: bytes) -> None:
        """Send *data*, now or when the windows open."""
        was_held = self.held
        self._out = self._out + data if was_held else data
        self.held = len(self._out)
        if not was_held:
            self._connection.send_soon(self)
        if self.held:
            self.watch()

    def put_end(self, trailers: Fields) -> None:
        """End the stream when all is sent."""
        self._done = True
        self._trailers = lowered(trailers) if trailers else trailers
        if not self.held:
            self._connection.send_soon(self)

    def put_last(self, data: bytes) -> None:
        """Send *data* and the stream's end."""
        self._done = True
        self.put(data)

    def drop(self) -> None:
        """Send nothing of what is held."""
        self._out = b""
        self.held = 0

    def send_some(self, at_most: int) -> bool:
        """Send what the windows let pass, up to *at_most* octets; whether nothing is left."""
        connection = self._connection
        out = self._out
        if out:
            room = min(self.window, connection.window, at_most)
            if room <= 0:
                return False
            if room < len(out):
                connection.send_data(self, out[:room], False)
                self._out = out[room:]
                self.held = len(self._out)
                self.moved()
                return False
            self._out = b""
            self.held = 0
            connection.send_data(self, out, self._done and not self._trailers)
        if self._done:
            if self._trailers:
                connection.send_head(self, self._trailers, True)
            elif not out:
                connection.send_data(self, b"", True)
            self.sent_all()
        else:
            self.moved()
        return True

    def open_window(self) -> None:
        """The other side has taken what was received: let the peer send as much again."""
        if self._unopened >= _OPEN_STREAM_AT:
            size, self._unopened = self._unopened, 0
            self._connection.open_window(self, size)

    def watch(self) -> None:
        """Octets are held."""

    def moved(self) -> None:
        """Some of what was held has been sent."""

    def sent_all(self) -> None:
        """The stream's end has been sent."""

    # What comes.

    def received_section(self, fields: Fields, ends: bool) -> None:
        """A field section has come, not a request's; *ends*: and the stream's end comes next."""

    def received(self, data: bytes, size: int, ends: bool) -> None:
        """*data* of the body has come, for *size* octets of the window; *ends*: its end comes next."""

    def received_end(self, trailers: Fields) -> None:
        """The peer has ended the stream."""

    def was_reset(self, error: int) -> None:
        """The peer has reset the stream."""

    def is_faulty(self, error: int) -> None:
        """The peer has done what may not be done on the stream: it is to be reset."""


class Connection:
    """A connection: reads frames, and is shared by its streams in turn for what they send.

    :param is_client: it is the gate that opens streams.
    :param section_at_most: octets of a decoded field section; more end the connection.
    :param told: settings that the peer is told, beside those that follow from the others.
    :param decoder_table: octets of the table for decoding; :param encoder_table: the most of that for encoding.
    :ivar streams: those that have not ended, by number.
    :ivar window: octets that the peer still takes, whatever the stream.
    :ivar first_window: octets that it takes on a new stream.
    :ivar streams_at_most: how many streams it takes.
    """

    def __init__(
        self,
        deadlines: Deadlines,
        is_client: bool,
        section_at_most: int,
        told: Iterable[tuple[int, int]],
        decoder_table: int = 4096,
        encoder_table: int = 4096,
    ) -> None:
        self.deadlines = deadlines
        self._turn_end = deadlines.turn_end
        self.transport: Any = None
        self.is_full = False
        self.full_since = 0.0
        self.streams: dict[int, Any] = {}
        self.window = FIRST_WINDOW
        self.first_window = FIRST_WINDOW
        self.streams_at_most = WINDOW_AT_MOST
        self._is_client = is_client
        #: The highest stream that was opened, by whoever opens them.
        self._highest = 0
        #: Streams that were reset, the latest last; whether the gate has done so.
        self._resets: dict[int, bool] = {}
        # What is sent.
        self._frame_at_most = FRAME_AT_MOST
        self._encoder = Encoder()
        self._encoder_table = encoder_table
        self._encoder.header_table_size = min(encoder_table, 4096)
        self._out: list[bytes] = [
            codec.PREFACE if is_client else b"",
            codec.settings(
                (
                    (codec.HEADER_TABLE_SIZE, decoder_table),
                    (codec.INITIAL_WINDOW_SIZE, STREAM_WINDOW),
                    (codec.MAX_HEADER_LIST_SIZE, section_at_most),
                    *told,
                )
            ),
            codec.window_update(0, CONNECTION_WINDOW - FIRST_WINDOW),
        ]
        #: How many octets they are, and whether they are written when the loop's turn ends.
        self._gathered = sum(map(len, self._out))
        self._is_due = False
        #: The streams that wait for their, or the connection's, window, longest waiting first.
        self._waiting: dict[Any, None] = {}
        # What comes.
        self._decoder = Decoder(section_at_most, decoder_table)
        self._section_at_most = section_at_most
        #: Octets of a frame that is not complete, and of those that were not taken.
        self._rest = b""
        self._reading = False
        #: Octets that the peer may send, whatever the stream; and those for which the window was not opened again.
        self._left = CONNECTION_WINDOW
        self._consumed = 0
        #: A field section that comes in pieces, its stream, and how many there are; 0: there is none.
        self._pieces = b""
        self._pieces_of = 0
        self._pieces_end = False
        self._continuations = 0

    # What comes.

    def take_frames(self, data: bytes) -> bool:
        """Take the frames of *data*, behind what was left before, as long as :meth:`take` wants more; the rest is left.

        :returns: whether there was one.
        :raises Fault: the connection can't go on.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, size = 0, len(data)
        try:
            while size - at >= 9:
                length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
                if length > FRAME_AT_MOST:
                    raise Fault(FRAME_SIZE_ERROR, "http2: frame too long")
                begin = at + 9
                if begin + length > size:
                    break
                kind = data[at + 3]
                stream_id = (data[at + 5] & 0x7F) << 24 | data[at + 6] << 16 | data[at + 7] << 8 | data[at + 8]
                flags = data[at + 4]
                at = begin + length
                if not self.take(kind, flags, stream_id, data, begin, at):
                    break
        finally:
            if at < size:
                self._rest = data[at:]
        return at > 0

    def take(self, kind: int, flags: int, stream_id: int, data: bytes, at: int, end: int) -> bool:
        """Act on a frame whose payload is ``data[at:end]``, of any kind; whether the next one is wanted.

        :raises Fault: the connection can't go on.
        """
        raise NotImplementedError

    def receive(self, kind: int, flags: int, stream_id: int, data: bytes, at: int, end: int) -> None:
        """Act on a frame whose payload is ``data[at:end]``.

        Not called with PRIORITY, GOAWAY and what RFC 9113 doesn't know, unless a field section is not complete.

        :raises Fault: the connection can't go on.
        """
        if self._pieces_of and (kind != CONTINUATION or stream_id != self._pieces_of):
            raise Fault(PROTOCOL_ERROR)
        if kind == DATA:
            self._receive_data(flags, stream_id, data, at, end)
        elif kind == HEADERS:
            self._receive_headers(flags, stream_id, data, at, end)
        elif kind == WINDOW_UPDATE:
            self._receive_window_update(stream_id, data, at, end)
        elif kind == RST_STREAM:
            self._receive_reset(stream_id, data, at, end)
        elif kind == CONTINUATION:
            self._receive_continuation(flags, stream_id, data[at:end])
        elif kind == SETTINGS:
            self._receive_settings(flags, stream_id, data[at:end])
        elif kind == PING:
            self._receive_ping(flags, stream_id, data[at:end])
        elif kind == PUSH_PROMISE:
            raise Fault(PROTOCOL_ERROR)

    def _receive_data(self, flags: int, stream_id: int, data: bytes, at: int, end: int) -> None:
        size = end - at
        if flags & PADDED:
            at, end = _unpadded(data, at, end)
        self._left -= size
        if self._left < 0:
            raise Fault(FLOW_CONTROL_ERROR)
        self.consumed(size)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_not_idle(stream_id)
            self._late(stream_id)
            return
        if stream.has_ended:
            stream.is_faulty(STREAM_CLOSED)
            return
        if not stream._has_head:
            raise Fault(PROTOCOL_ERROR)
        stream._left -= size
        if stream._left < 0:
            raise Fault(FLOW_CONTROL_ERROR)
        ends = flags & END_STREAM != 0
        stream.has_ended = ends
        stream.received(data[at:end], size, ends)
        if ends and stream_id in self.streams:
            stream.received_end([])

    def _receive_headers(self, flags: int, stream_id: int, data: bytes, at: int, end: int) -> None:
        if not stream_id:
            raise Fault(PROTOCOL_ERROR)
        if flags & PADDED:
            at, end = _unpadded(data, at, end)
        if flags & WITH_PRIORITY:
            # It is of no use any more, but has to be what it was (RFC 9113, 6.2).
            if end - at < 5:
                raise Fault(FRAME_SIZE_ERROR)
            if int.from_bytes(data[at : at + 4], "big") & codec.HIGHEST_STREAM == stream_id:
                raise Fault(PROTOCOL_ERROR)
            at += 5
        if flags & END_HEADERS:
            self._receive_section(stream_id, flags & END_STREAM != 0, data, at, end)
        else:
            self._pieces = data[at:end]
            self._pieces_of = stream_id
            self._pieces_end = flags & END_STREAM != 0
            self._continuations = 0

    def _receive_continuation(self, flags: int, stream_id: int, piece: bytes) -> None:
        if not self._pieces_of:
            raise Fault(PROTOCOL_ERROR)
        self._pieces += piece
        self._continuations += 1
        if self._continuations > _CONTINUATIONS_AT_MOST or len(self._pieces) > self._section_at_most:
            raise Fault(ENHANCE_YOUR_CALM, "http2: field section too long")
        if flags & END_HEADERS:
            section, self._pieces, self._pieces_of = self._pieces, b"", 0
            self._receive_section(stream_id, self._pieces_end, section, 0, len(section))

    def _receive_section(self, stream_id: int, ends: bool, data: bytes, at: int, end: int) -> None:
        """A field section, ``data[at:end]``, has come whole."""
        try:
            # Even if nobody wants it: those that follow need what it has put into the table.
            fields = self._decoder.decode(data, at, end)
        except OversizedHeaderListError:
            raise Fault(ENHANCE_YOUR_CALM, "http2: field section too long") from None
        except HPACKError:
            raise Fault(COMPRESSION_ERROR) from None
        stream = self.streams.get(stream_id)
        if stream is None:
            if self._is_client or stream_id <= self._highest or stream_id & 1 == 0:
                self._check_not_idle(stream_id)
                if stream_id not in self._resets:
                    raise Fault(STREAM_CLOSED)
                self._late(stream_id)
                return
            self._highest = stream_id
            self.opened(stream_id, fields, ends)
            return
        if stream.has_ended:
            stream.is_faulty(STREAM_CLOSED)
            return
        stream.has_ended = ends
        stream.received_section(fields, ends)

    def opened(self, stream_id: int, fields: Fields, ends: bool) -> None:
        """The peer has opened a stream with a field section; *ends*: and ended its side of it."""

    def _receive_reset(self, stream_id: int, data: bytes, at: int, end: int) -> None:
        if end - at != 4:
            raise Fault(FRAME_SIZE_ERROR)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_not_idle(stream_id)
            return
        stream.has_ended = stream.has_sent_all = True
        self._remember_reset(stream_id, False)
        stream.was_reset(int.from_bytes(data[at:end], "big"))

    def _receive_window_update(self, stream_id: int, data: bytes, at: int, end: int) -> None:
        if end - at != 4:
            raise Fault(FRAME_SIZE_ERROR)
        size = (data[at] & 0x7F) << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]
        if not stream_id:
            self.window += size
            if not size:
                raise Fault(PROTOCOL_ERROR)
            if self.window > WINDOW_AT_MOST:
                raise Fault(FLOW_CONTROL_ERROR)
            if self._waiting:
                self.send_waiting()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_not_idle(stream_id)
            return
        stream.window += size
        if not size:
            stream.is_faulty(PROTOCOL_ERROR)
        elif stream.window > WINDOW_AT_MOST:
            stream.is_faulty(FLOW_CONTROL_ERROR)
        elif self._waiting:
            self.send_waiting()

    def _receive_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise Fault(PROTOCOL_ERROR)
        size = len(payload)
        if size % 6 or (flags & ACK and size):
            raise Fault(FRAME_SIZE_ERROR)
        if flags & ACK:
            return
        for at in range(0, size, 6):
            self._receive_setting(
                int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            )
        self._put(SETTINGS_ACK)
        self.settings_changed()

    def _receive_setting(self, key: int, value: int) -> None:
        if key == codec.HEADER_TABLE_SIZE:
            self._encoder.header_table_size = min(value, self._encoder_table)
        elif key in (codec.ENABLE_PUSH, codec.ENABLE_CONNECT_PROTOCOL):
            if value > 1:
                raise Fault(PROTOCOL_ERROR)
        elif key == codec.MAX_CONCURRENT_STREAMS:
            self.streams_at_most = value
        elif key == codec.INITIAL_WINDOW_SIZE:
            if value > WINDOW_AT_MOST:
                raise Fault(FLOW_CONTROL_ERROR)
            more, self.first_window = value - self.first_window, value
            for stream in self.streams.values():
                stream.window += more
                if stream.window > WINDOW_AT_MOST:
                    raise Fault(FLOW_CONTROL_ERROR)
        elif key == codec.MAX_FRAME_SIZE and not FRAME_AT_MOST <= value < 2**24:
            # Longer ones than what is the least for all are of no use.
            raise Fault(PROTOCOL_ERROR)

    def settings_changed(self) -> None:
        """The peer has sent settings."""
        self.send_waiting()

    def _receive_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise Fault(PROTOCOL_ERROR)
        if len(payload) != 8:
            raise Fault(FRAME_SIZE_ERROR)
        if flags & ACK:
            self.ping_acknowledged()
        else:
            self._put(frame_head(8, PING, ACK, 0) + payload)

    def ping_acknowledged(self) -> None:
        """The peer has answered a PING."""

    def _check_not_idle(self, stream_id: int) -> None:
        """Refuse a stream that nobody has opened (RFC 9113, 5.1)."""
        if stream_id > self._highest or stream_id & 1 == 0:
            raise Fault(PROTOCOL_ERROR)

    def _late(self, stream_id: int) -> None:
        """Something has come on a stream that is no more."""
        if not self._resets.get(stream_id):
            self._put(codec.reset(stream_id, STREAM_CLOSED))
            self.late()

    def late(self) -> None:
        """The peer has gone on with a stream that it has ended itself."""

    def consumed(self, size: int) -> None:
        """*size* octets of the connection's window have come."""
        self._consumed += size
        if self._consumed >= _OPEN_CONNECTION_AT:
            self._put(codec.window_update(0, self._consumed))
            self._left += self._consumed
            self._consumed = 0

    def open_window(self, stream: Stream, size: int) -> None:
        """*size* octets of what came on the stream were taken."""
        if not stream.has_ended and self.streams.get(stream.id) is stream:
            self._put(codec.window_update(stream.id, size))
            stream._left += size
            self.flush()

    # What is sent.

    def send_head(self, stream: Stream, fields: Fields, done: bool) -> None:
        """Send a field section; *done*: and the stream's end."""
        self.send_section(stream, self._encoder.encode(fields), done)

    def send_section(self, stream: Stream, section: bytes, done: bool) -> None:
        """Send a field section that is compressed; *done*: and the stream's end."""
        kind, flags = HEADERS, END_STREAM if done else 0
        at_most = self._frame_at_most
        while len(section) > at_most:
            self._put(frame_head(at_most, kind, flags, stream.id))
            self._put(section[:at_most])
            section = section[at_most:]
            kind, flags = CONTINUATION, 0
        self._put(frame_head(len(section), kind, flags | END_HEADERS, stream.id))
        self._put(section)
        if done:
            stream.has_sent_all = True

    def send_data(self, stream: Stream, data: bytes, done: bool) -> None:
        """Send *data*, which the windows let pass, in frames; *done*: and the stream's end."""
        at_most = self._frame_at_most
        size = len(data)
        stream.window -= size
        self.window -= size
        at = 0
        while size - at > at_most:
            self._put(frame_head(at_most, DATA, 0, stream.id))
            self._put(data[at : at + at_most])
            at += at_most
        self._put(frame_head(size - at, DATA, END_STREAM if done else 0, stream.id))
        self._put(data[at:] if at else data)
        if done:
            stream.has_sent_all = True

    def send_soon(self, stream: Stream) -> None:
        """Send of *stream* what the windows let pass; the rest as they open."""
        # Whoever waits while the connection's window is open waits for the window of his own stream.
        if self.is_full or self.window <= 0 or not stream.send_some(WINDOW_AT_MOST):
            self._waiting[stream] = None

    def send_waiting(self) -> None:
        """Send what the windows and the transport let pass, a frame of each stream in turn."""
        waiting = self._waiting
        stuck = 0
        while waiting and not self.is_full and stuck < len(waiting):
            stream = next(iter(waiting))
            del waiting[stream]
            before = stream.held
            if stream.send_some(FRAME_AT_MOST):
                continue
            waiting[stream] = None
            if stream.held == before:
                stuck += 1
            else:
                stuck = 0
                if not self._reading:
                    self.flush()

    def is_open(self, stream: Stream) -> bool:
        """Whether something can still be sent or received on *stream*."""
        return self.streams.get(stream.id) is stream and not (stream.has_ended and stream.has_sent_all)

    def reset(self, stream: Stream, error: int) -> None:
        """Reset *stream*, unless it has ended."""
        if self.is_open(stream):
            stream.has_ended = stream.has_sent_all = True
            self.refuse(stream.id, error)

    def refuse(self, stream_id: int, error: int) -> None:
        """Reset a stream."""
        self._put(codec.reset(stream_id, error))
        self._remember_reset(stream_id, True)

    def _remember_reset(self, stream_id: int, is_own: bool) -> None:
        resets = self._resets
        resets[stream_id] = is_own
        if len(resets) > _RESETS_REMEMBERED:
            del resets[next(iter(resets))]

    def _put(self, octets: bytes) -> None:
        """Send *octets*, a frame or a part of one, with what is to be sent."""
        self._out.append(octets)
        self._gathered += len(octets)

    def flush(self) -> None:
        """Write what is to be sent, at the end of the loop's turn at the latest, unless it is being read."""
        if self._reading or not self._out or self.transport is None:
            return
        if self._turn_end is None or self._gathered > _GATHERED_AT_MOST:
            self.flush_now()
        elif not self._is_due:
            self._is_due = True
            self._turn_end.add(self)

    def turn_ends(self) -> None:
        """Called by :class:`~swarmgate.transport.turn_end.TurnEnd`."""
        self._is_due = False
        self.flush_now()

    def forget(self) -> None:
        """Send nothing of what is to be sent."""
        self._out = []
        self._gathered = 0

    def flush_now(self) -> None:
        """Write what is to be sent, whatever follows."""
        out = self._out
        if out:
            self._out = []
            self._gathered = 0
            data = b"".join(out)
            was_full = self.is_full
            self.transport.write(data)
            if was_full:
                # What fills the transport is an answer that was let go while there was room, however long.
                self.wrote_beyond(len(data))

    def wrote_beyond(self, size: int) -> None:
        """*size* octets were written though the peer reads too slowly: what is no body is not held back."""

    # As a producer of the transport.

    def pauseProducing(self) -> None:
        """The peer reads too slowly: send no more bodies."""
        if not self.is_full:
            self.is_full = True
            self.full_since = self.deadlines.now

    def resumeProducing(self) -> None:
        self.is_full = False
        self.send_waiting()
        self.flush()

    def stopProducing(self) -> None:
        """The transport is closing; that it has closed is told otherwise."""


def _unpadded(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Where what is between the padding begins and ends, of a payload ``data[at:end]`` (RFC 9113, 6.1)."""
    if at == end:
        raise Fault(FRAME_SIZE_ERROR)
    at += 1
    end -= data[at - 1]
    if end < at:
        raise Fault(PROTOCOL_ERROR)
    return at, end
