"""HTTP/2 from peers that do anything: what arrives never breaks the gate, and nothing is left behind."""

from __future__ import annotations

from hpack import Encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.http2_peers import HEAD, POST, frame, gate_of
from tests.memory_network import OK, MemoryGate

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
_quietly = settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))

_streams = st.sampled_from((0, 1, 1, 1, 3, 3, 5, 2, 2**31 - 1))
_payloads = st.one_of(
    st.sampled_from(
        (
            b"",
            Encoder().encode(HEAD),
            Encoder().encode([*POST, (b"content-length", b"3")]),
            Encoder().encode([(b":status", b"200")]),
            Encoder().encode([(b":status", b"200"), (b"content-length", b"3")]),
            Encoder().encode([(b"x-after", b"1")]),
            Encoder().encode([(b":status", b"103")]),
            b"abc",
            b"\x00\x00\x00\x01",
            b"\x00\x00\x00\x08",
            b"\x7f\xff\xff\xff",
            bytes(8),
            b"\x00\x04\x00\x00\x00\x00",
            b"\x00\x04\x7f\xff\xff\xff",
            b"\x00\x01\x00\x00\x00\x00",
            b"\x00\x05\x00\x00\x40\x00",
        )
    ),
    st.binary(max_size=24),
)
_frames = st.builds(frame, st.integers(0, 11), st.sampled_from((0, 1, 4, 5, 5, 5, 8, 0x2D, 0xFF)), _streams, _payloads)
#: Frames, and what else happens: octets of other kinds, the servers' answers, time.
_events = st.lists(
    st.one_of(
        _frames, _frames, _frames, st.binary(max_size=20), st.sampled_from((b"answer", b"time", b"end", b"full"))
    ),
    max_size=25,
)


class RandomTests(SynchronousTestCase):
    def _settle(self, gate: MemoryGate, client: object) -> None:
        """Everybody leaves: no exchange, no connection and no deadline may remain."""
        client.reset()  # type: ignore[attr-defined]
        for _ in range(3):
            for server in list(gate.network.servers):
                server.reset()
        self.assertEqual(gate.connections, set())
        self.assertEqual([upstream.in_flight for upstream in gate.upstreams], [0] * len(gate.upstreams))
        for upstream in gate.upstreams:
            upstream.retire()
        gate.advance(30)
        for server in list(gate.network.servers):
            server.reset()
        self.assertEqual(len(gate.deadlines), 0)

    @_quietly
    @given(_events)
    def test_clients(self, events: list[bytes]) -> None:
        """A client sends anything, in any order, while its servers answer now and then."""
        gate = gate_of()
        client = gate.client()
        client.receive(PREFACE)
        for event in events:
            if event == b"answer":
                for server in gate.network.servers:
                    if not server.closed and server.take():
                        server.receive(OK)
            elif event == b"time":
                gate.advance(20)
            elif event == b"full" and client.producer is not None:
                client.producer.pauseProducing()
            elif event == b"end":
                client.end()
            elif not client.closed:
                client.receive(event)
            client.settle()
        self._settle(gate, client)

    @_quietly
    @given(_events)
    def test_servers(self, events: list[bytes]) -> None:
        """A server sends anything, in any order, while its client waits for three answers."""
        gate = gate_of("h2c://10.0.0.1:80")
        client = gate.client()
        encoder = Encoder()
        client.receive(
            PREFACE
            + frame(1, 5, 1, encoder.encode(HEAD))
            + frame(1, 4, 3, encoder.encode(POST))
            + frame(0, 0, 3, b"abc")
            + frame(1, 5, 5, encoder.encode(HEAD))
        )
        for event in events:
            server = gate.server
            if event == b"time":
                gate.advance(20)
            elif event == b"full" and server.producer is not None:
                server.producer.pauseProducing()
            elif event == b"end":
                server.reset()
            elif event == b"answer":
                client.receive(frame(0, 0, 3, b"more"))
            elif not server.closed:
                server.receive(event)
            server.settle()
        self._settle(gate, client)
