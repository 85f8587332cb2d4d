"""Peers that speak HTTP/2, in memory: h2 as a client of the gate's, and as a server behind it."""

from __future__ import annotations

from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from swarmgate.http2.client import Http2Settings
from tests.memory_network import MemoryGate, MemoryTransport

HEAD = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a.example"), (b":path", b"/")]
POST = [(b":method", b"POST"), *HEAD[1:]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame as it is on the wire."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def gate_of(*servers: str, http2: Http2Settings | None = None, **given: Any) -> MemoryGate:
    """A gate whose entry point takes HTTP/2."""
    settings = http2 or Http2Settings()
    if servers:
        given["servers"] = servers
    return MemoryGate(http2=settings.connection, **given)


class Peer:
    """What a peer has been told, by stream.

    :ivar heads: the fields of each answer's, or request's, head.
    :ivar interim: of informational answers.
    :ivar bodies: the octets of each body.
    :ivar trailers: the fields after a body.
    :ivar ended: streams that have ended as they should.
    :ivar resets: the error that each reset stream has.
    :ivar goaways: ``(last stream, error)`` of each GOAWAY.
    """

    def __init__(self, transport: MemoryTransport, is_client: bool) -> None:
        self.transport = transport
        self.h2 = H2Connection(
            H2Configuration(
                client_side=is_client,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                validate_inbound_headers=True,
            )
        )
        self.heads: dict[int, dict[bytes, bytes]] = {}
        self.interim: dict[int, list[dict[bytes, bytes]]] = {}
        self.bodies: dict[int, bytes] = {}
        self.trailers: dict[int, dict[bytes, bytes]] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goaways: list[tuple[int, int]] = []
        #: Whether windows are opened again as data comes.
        self.takes = True
        self.h2.initiate_connection()

    def flush(self) -> None:
        """Send what there is, and read what comes back, until nothing does."""
        while True:
            data = self.h2.data_to_send()
            if data:
                self.transport.receive(data)
            if not self.read() and not data:
                return

    def send(self, octets: bytes) -> None:
        """Send *octets* as they are."""
        self.flush()
        self.transport.receive(octets)
        self.read()

    def read(self) -> bool:
        """Read what the gate has written; whether there was something."""
        written = self.transport.take()
        rest = written
        # h2 takes no more after a GOAWAY, which the peer may well follow with the rest of what is under way.
        while len(rest) >= 9:
            end = 9 + int.from_bytes(rest[:3], "big")
            one, rest = rest[:end], rest[end:]
            if one[3] == 7:
                self.goaways.append((int.from_bytes(one[9:13], "big"), int.from_bytes(one[13:17], "big")))
                continue
            for event in self.h2.receive_data(one):
                self._note(event)
        return bool(written)

    def _note(self, event: Any) -> None:
        if isinstance(event, RequestReceived | ResponseReceived):
            self.heads[event.stream_id] = dict(event.headers)
        elif isinstance(event, InformationalResponseReceived):
            self.interim.setdefault(event.stream_id, []).append(dict(event.headers))
        elif isinstance(event, DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            if self.takes and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            self.trailers[event.stream_id] = dict(event.headers)
        elif isinstance(event, StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, StreamReset):
            self.resets[event.stream_id] = int(event.error_code)
        elif isinstance(event, ConnectionTerminated):
            raise AssertionError("kept from h2")


class Http2Client(Peer):
    """A client of a gate in memory."""

    def __init__(self, gate: MemoryGate) -> None:
        super().__init__(gate.client(), True)
        self.flush()

    def ask(self, fields: list[tuple[bytes, bytes]] = HEAD, body: bytes | None = None, ends: bool = True) -> int:
        """Send a request, with *body* if it is given; *ends*: and its end. Its stream."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, fields, end_stream=body is None and ends)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=ends)
        self.flush()
        return stream


class Http2Server(Peer):
    """A server behind a gate in memory: the other end of the gate's connection number *number*."""

    def __init__(self, gate: MemoryGate, number: int = -1) -> None:
        super().__init__(gate.network.servers[number], False)
        self.flush()

    def answer(self, stream: int, body: bytes = b"ok", status: bytes = b"200", *fields: tuple[bytes, bytes]) -> None:
        """Answer the request on *stream*."""
        self.h2.send_headers(stream, [(b":status", status), *fields], end_stream=not body)
        if body:
            self.h2.send_data(stream, body, end_stream=True)
        self.flush()
