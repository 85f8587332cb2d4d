"""What connections to clients and to servers have in common: streams that send as the windows let them."""

from __future__ import annotations

import contextlib
from typing import Any

from h2.exceptions import ProtocolError

from swarmgate.http.deadlines import NEVER, Deadlines
from swarmgate.http.message import Fields
from swarmgate.http2 import codec
from swarmgate.http2.codec import Codec, Frames
from swarmgate.http2.heads import lowered

#: Octets that a peer may send on a stream before the other side has taken them, and on the connection on the way.
STREAM_WINDOW = 262144
CONNECTION_WINDOW = 1048576
#: Octets that a stream holds for a peer whose window is closed before whoever produces them is paused; and when he is
#: resumed.
HELD_AT_MOST = 65536
HELD_AT_LEAST = 16384


class Stream:
    """A stream's sending side: a body, as the windows let it pass, and its end.

    :ivar id: of the stream.
    :ivar held: octets that wait for the windows.
    """

    __slots__ = ("_connection", "_done", "_out", "_trailers", "_unopened", "deadline", "held", "id")

    def __init__(self, connection: Connection, stream_id: int) -> None:
        self.id = stream_id
        self.deadline = NEVER
        self.held = 0
        self._connection: Any = connection
        self._out = b""
        self._done = False
        self._trailers: Fields = []
        #: Octets that were received and for which the window was not opened again.
        self._unopened = 0

    @property
    def connection(self) -> Any:
        """Its connection."""
        return self._connection

    def put(self, data: bytes) -> None:
        """Send *data*, now or when the windows open."""
        self._out = self._out + data if self._out else data
        was_held = self.held
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
            room = min(connection.codec.room(self.id), at_most)
            if room <= 0:
                return False
            if room < len(out):
                connection.send_data(self.id, out[:room], False)
                self._out = out[room:]
                self.held = len(self._out)
                self.moved()
                return False
            self._out = b""
            self.held = 0
            connection.send_data(self.id, out, self._done and not self._trailers)
        if self._done:
            if self._trailers:
                connection.send_head(self.id, self._trailers, True)
            elif not out:
                connection.send_data(self.id, b"", True)
            self.sent_all()
        else:
            self.moved()
        return True

    def open_window(self) -> None:
        """The other side has taken what was received: let the peer send as much again."""
        if self._unopened >= STREAM_WINDOW // 4:
            size, self._unopened = self._unopened, 0
            self._connection.open_window(self.id, size)

    def watch(self) -> None:
        """Octets are held."""

    def moved(self) -> None:
        """Some of what was held has been sent."""

    def sent_all(self) -> None:
        """The stream's end has been sent."""


class Connection:
    """The sending side of a connection, shared by its streams in turn."""

    def __init__(self, deadlines: Deadlines, made: Codec) -> None:
        self.deadlines = deadlines
        self.codec = made
        self.transport: Any = None
        self.is_full = False
        self.full_since = 0.0
        self._frames = Frames()
        self._reading = False
        self._consumed = 0
        #: The streams that wait for their, or the connection's, window, longest waiting first.
        self._waiting: dict[Stream, None] = {}

    def send_head(self, stream_id: int, fields: Fields, done: bool) -> None:
        """Send a field section; *done*: and the stream's end."""
        self.codec.send_headers(stream_id, fields, done)

    def send_soon(self, stream: Stream) -> None:
        """Send of *stream* what the windows let pass; the rest as they open."""
        # Whoever waits while the connection's window is open waits for the window of his own stream.
        shut = self.is_full or self.codec.outbound_flow_control_window <= 0
        if shut or not stream.send_some(codec.HIGHEST_STREAM):
            self._waiting[stream] = None

    def send_waiting(self) -> None:
        """Send what the windows and the transport let pass, a frame of each stream in turn."""
        waiting = self._waiting
        stuck = 0
        while waiting and not self.is_full and stuck < len(waiting):
            stream = next(iter(waiting))
            del waiting[stream]
            before = stream.held
            if stream.send_some(codec.FRAME_AT_MOST):
                continue
            waiting[stream] = None
            if stream.held == before:
                stuck += 1
            else:
                stuck = 0
                if not self._reading:
                    self.flush()

    def send_data(self, stream_id: int, data: bytes, done: bool) -> None:
        """Send *data*, which the windows let pass, in frames; *done*: and the stream's end."""
        size = min(self.codec.max_outbound_frame_size, codec.FRAME_AT_MOST)
        if len(data) <= size:
            self.codec.send_data(stream_id, data, done)
            return
        for at in range(0, len(data), size):
            self.codec.send_data(stream_id, data[at : at + size], done and at + size >= len(data))

    def consumed(self, size: int) -> None:
        """*size* octets of the connection's window have come."""
        self._consumed += size
        if self._consumed >= CONNECTION_WINDOW // 4:
            self.codec.increment_flow_control_window(self._consumed)
            self._consumed = 0

    def open_window(self, stream_id: int, size: int) -> None:
        """*size* octets of what came on the stream were taken."""
        if self.codec.is_open(stream_id):
            self.codec.increment_flow_control_window(size, stream_id)
            self.flush()

    def reset(self, stream_id: int, error: int) -> None:
        """Reset the stream."""
        if self.codec.is_open(stream_id):
            # What has broken the connection's rules has closed it for h2, too.
            with contextlib.suppress(ProtocolError):
                self.codec.reset_stream(stream_id, error)
        self.codec.forget(stream_id)

    def flush(self) -> None:
        """Write what is to be sent, unless more may follow at once."""
        if not self._reading and self.transport is not None:
            self.flush_now()

    def flush_now(self) -> None:
        """Write what is to be sent, whatever follows."""
        data = self.codec.data_to_send()
        if data:
            self.transport.write(data)
            self.wrote(len(data))

    def wrote(self, size: int) -> None:
        """*size* octets were written."""

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
