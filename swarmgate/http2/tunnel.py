"""A stream as the client's end of a tunnel: what a websocket over HTTP/2 is (RFC 8441)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swarmgate.http2.client import ClientStream


class StreamTransport:
    """A stream as a transport: of what a server's connection, and its transport as a producer, ask one for."""

    __slots__ = ("_stream", "disconnecting")

    def __init__(self, stream: ClientStream) -> None:
        self._stream = stream
        self.disconnecting = False

    def write(self, data: bytes) -> None:
        """Send *data*."""
        if not self.disconnecting:
            self._stream.send_data(data)

    def loseWriteConnection(self) -> None:
        """End the direction to the client."""
        if not self.disconnecting:
            self.disconnecting = True
            self._stream.send_end([])

    def loseConnection(self) -> None:
        """End the stream when all is sent."""
        self.loseWriteConnection()

    def abortConnection(self) -> None:
        """End the stream at once."""
        self.disconnecting = True
        self._stream.abort()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pause and resume *producer* as the client takes what is sent."""
        self._stream.feed_from(producer)

    def unregisterProducer(self) -> None:
        """Nobody is paused any more."""
        self._stream.feed_from(None)

    def pauseProducing(self) -> None:
        """Take no more from the client than its window allows."""
        self._stream.pause_body()

    def resumeProducing(self) -> None:
        """Take more from the client."""
        self._stream.resume_body()

    def stopProducing(self) -> None:
        """The server's transport is closing; that it has closed is told otherwise."""
