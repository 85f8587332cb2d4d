"""Servers behind TLS speak what the handshake agrees on."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.upstream import UpstreamSettings
from swarmgate.http2.codec import PREFACE
from swarmgate.http2.negotiated import NegotiatedUpstream
from swarmgate.transport.tls import HandshakeError
from tests.memory_network import GET, OK, MemoryGate, MemoryNetwork, MemoryTransport, MemoryTurn, members_of

URL = "https://10.0.0.1:443"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class Negotiating(MemoryNetwork):
    """A network on which each handshake agrees on *agreed*."""

    def __init__(self, agreed: bytes | None, turn: MemoryTurn) -> None:
        super().__init__(turn)
        self.agreed = agreed

    def accept(self) -> MemoryTransport:
        host, port, protocol, failed = self.connecting.pop(0)
        self.connecting.insert(0, (host, port, protocol.agreed(self.agreed), failed))
        return super().accept()


class NegotiatedTests(SynchronousTestCase):
    def gate(self, agreed: bytes | None) -> MemoryGate:
        """A gate with one server."""
        gate = MemoryGate()
        self.plain, self.offering = MemoryNetwork(), Negotiating(agreed, gate.turn)
        self.upstream = NegotiatedUpstream(URL, self.plain, self.offering, gate.deadlines, UpstreamSettings())
        gate.leaf.members = ()
        gate.upstreams = [self.upstream]
        gate.leaf = type(gate.leaf)(
            "app@test", members_of(gate.upstreams), gate.leaf._strategy._rotation, gate.leaf.room, gate.leaf.balancing
        )
        return gate

    def ask(self, gate: MemoryGate, request: bytes = GET) -> Any:
        client = gate.client()
        client.receive(request)
        return client

    def test_http1(self) -> None:
        """With a server that speaks HTTP/1.1 alone, each request has a connection, which is kept, as without TLS."""
        for agreed in (b"http/1.1", None):
            gate = self.gate(agreed)
            client = self.ask(gate)
            (server,) = self.offering.servers
            self.assertTrue(server.take().startswith(b"GET / HTTP/1.1\r\n"))
            server.receive(OK)
            self.assertEqual(client.take(), OK)
            self.assertEqual((self.upstream.idle(), self.upstream.in_flight), (1, 0))
            self.ask(gate)
            self.ask(gate)
            self.assertEqual((len(self.offering.servers), len(self.plain.servers)), (1, 1))

    def test_http2(self) -> None:
        """With one that speaks HTTP/2 all requests share a connection."""
        gate = self.gate(b"h2")
        self.ask(gate)
        self.ask(gate)
        (server,) = self.offering.servers
        self.assertTrue(server.take().startswith(PREFACE))
        self.assertEqual((self.plain.servers, self.upstream.in_flight), ([], 2))

    def test_waiting_together(self) -> None:
        """Requests that wait for the first handshake are all served, whatever it agrees on."""
        for agreed, connections in ((b"h2", (1, 0)), (b"http/1.1", (1, 2))):
            gate = self.gate(agreed)
            self.offering.accepts = False
            clients = [self.ask(gate) for _ in range(4)]
            clients[1].reset()
            self.assertEqual(len(self.offering.connecting), 1)
            self.offering.accept()
            self.assertEqual((len(self.offering.servers), len(self.plain.servers)), connections)
            self.assertEqual(self.upstream.in_flight, 3)
            if agreed != b"h2":
                for server in (*self.offering.servers, *self.plain.servers):
                    server.receive(OK)
                self.assertEqual([client.take() for client in clients], [OK, b"", OK, OK])
                self.assertEqual(self.upstream.in_flight, 0)

    def test_nobody_waits_any_more(self) -> None:
        """A connection whose client has left meanwhile is kept for the next."""
        gate = self.gate(b"http/1.1")
        self.offering.accepts = False
        self.ask(gate).reset()
        self.offering.accept()
        self.assertEqual((self.upstream.idle(), self.upstream.in_flight), (1, 0))

    def test_websocket(self) -> None:
        """A websocket has a connection that was made for HTTP/1.1, whatever the server speaks else."""
        gate = self.gate(b"h2")
        self.ask(gate)
        self.ask(gate, UPGRADE)
        self.assertTrue(self.plain.servers[0].take().startswith(b"GET / HTTP/1.1\r\n"))

    def test_probe(self) -> None:
        """A new server is tried with a connection, which tells what it speaks."""
        for agreed in (b"h2", b"http/1.1"):
            gate = self.gate(agreed)
            self.upstream.probe()
            self.assertEqual((self.upstream.failures, self.upstream.idle()), (0, 1))
            self.ask(gate)
            self.assertEqual((len(self.offering.servers), len(self.plain.servers)), (1, 0))

    def test_unreachable(self) -> None:
        """A server that can't be reached, or refuses the handshake, is answered for with 502."""
        for error in (ConnectionRefusedError("refused"), HandshakeError("not accepted")):
            gate = self.gate(b"h2")
            self.offering.accepts = False
            client = self.ask(gate)
            self.offering.refuse(error)
            self.assertIn(b"HTTP/1.1 502 ", client.take())
            self.assertEqual(self.upstream.in_flight, 0)

    def test_refused_question(self) -> None:
        """A server that refuses a handshake has shown that it is there."""
        gate = self.gate(b"h2")
        self.ask(gate)
        self.plain.accepts = False
        self.upstream.question()
        self.plain.refuse(HandshakeError("no application protocol"))
        self.assertFalse(self.upstream.is_silent)
        gate.deadlines.now += 5
        self.upstream.question()
        self.plain.refuse()
        self.assertTrue(self.upstream.is_silent)
