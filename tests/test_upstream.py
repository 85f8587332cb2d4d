"""Servers that can't be reached, break, or fall silent cost as little as possible, and come back."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.upstream import UpstreamSettings
from swarmgate.transport.network import ConnectTimeout
from tests.memory_network import GET, OK, MemoryGate, MemoryNetwork, MemoryTransport

ONE, TWO, THREE = (f"http://10.0.0.{number}:80" for number in (1, 2, 3))
POST = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nab"


class Network(MemoryNetwork):
    """Remembers how long each connect might take."""

    def __init__(self) -> None:
        super().__init__()
        self.timeouts: list[float] = []

    def connect(self, host: str, port: int, timeout: float, protocol: Any, failed: Any) -> None:
        self.timeouts.append(timeout)
        super().connect(host, port, timeout, protocol, failed)


def gate_of(*servers: str, **upstream: Any) -> MemoryGate:
    gate = MemoryGate(servers, UpstreamSettings(**upstream))
    gate.network = Network()
    for each in gate.upstreams:
        each._network = gate.network
    return gate


def ask(gate: MemoryGate, request: bytes = GET) -> MemoryTransport:
    client = gate.client()
    client.receive(request)
    return client


class ConnectTests(SynchronousTestCase):
    def test_time_is_shared(self) -> None:
        """All the tries of one request take no longer than a connection may."""
        for servers, share in (((ONE,), 3.0), ((ONE, TWO), 1.5), ((ONE, TWO, THREE, "http://10.0.0.4:80"), 1.0)):
            gate = gate_of(*servers)
            gate.network.accepts = False
            client = ask(gate)
            for _ in range(min(3, len(servers))):
                gate.network.refuse(ConnectTimeout("no answer"))
            self.assertEqual(gate.network.timeouts, [share] * min(3, len(servers)))
            self.assertEqual(gate.network.connecting, [])
            self.assertIn(b"HTTP/1.1 504 ", client.take())

    def test_trial_without_a_request(self) -> None:
        """A server that could not be reached is tried without a request before it gets one."""
        gate = gate_of(ONE, TWO)
        gate.network.accepts = False
        ask(gate)
        gate.network.refuse()
        gate.network.accept()
        gate.server.receive(OK)
        gate.advance(11)
        for _ in range(2):
            ask(gate)
            gate.server.receive(OK)
        (host, *_), *others = gate.network.connecting
        self.assertEqual((host, others), ("10.0.0.1", []))
        self.assertEqual({e.server for e in gate.finished_exchanges}, {TWO})
        gate.network.accept()
        ask(gate)
        ask(gate)
        self.assertEqual({e.server for e in list(gate.finished_exchanges)[-3:]}, {TWO})
        self.assertEqual([upstream.in_flight for upstream in gate.upstreams], [1, 1])

    def test_out_for_longer_each_time(self) -> None:
        """Each failure in a row doubles the time until the next trial, up to ten seconds."""
        gate = gate_of(ONE, TWO)
        upstream = gate.upstreams[0]
        gate.deadlines.now = 100.0
        rests = []
        for _ in range(8):
            upstream._failed()
            rests.append(upstream._out_until - 100.0)
        self.assertEqual(rests, [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0])


class BreakTests(SynchronousTestCase):
    def test_another_server(self) -> None:
        """A GET on a new connection that breaks is asked of another server; a POST is not."""
        gate = gate_of(ONE, TWO)
        client = ask(gate)
        gate.server.reset()
        self.assertEqual(len(gate.network.servers), 2)
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)
        gate = gate_of(ONE, TWO)
        client = ask(gate, POST)
        gate.server.reset()
        self.assertIn(b"HTTP/1.1 502 ", client.take())
        self.assertEqual(len(gate.network.servers), 1)

    def test_no_loop(self) -> None:
        """A request that breaks every server's connection is answered 502 after three."""
        gate = gate_of(ONE, TWO, THREE, "http://10.0.0.4:80")
        client = ask(gate)
        for _ in range(3):
            gate.server.reset()
        self.assertIn(b"HTTP/1.1 502 ", client.take())
        self.assertEqual(len(gate.network.servers), 3)

    def test_left_out(self) -> None:
        """A server that takes connections and breaks them is left out, tried by one request, and comes back."""
        gate = gate_of(ONE, TWO)
        bad, good = gate.upstreams
        for _ in range(3):
            bad.broke()
        self.assertEqual(bad.failures, 1)
        for _ in range(4):
            ask(gate)
            gate.server.receive(OK)
        self.assertEqual({e.server for e in gate.finished_exchanges}, {good.url})
        gate.advance(1)
        client = ask(gate)
        self.assertEqual(gate.server.getPeer().host, "10.0.0.1")
        self.assertFalse(bad.may_be_tried())
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual((bad.failures, bad.is_troubled), (0, False))


class SilenceTests(SynchronousTestCase):
    """A process that is paused, or a machine that is unplugged: requests go out and nothing comes back."""

    def silent(self, *servers: str, request: bytes = GET) -> tuple[MemoryGate, MemoryTransport, MemoryTransport]:
        """A gate, a client whose request is under way, and the connection on which the server is questioned."""
        gate = gate_of(*servers)
        client = ask(gate, request)
        self.assertEqual(len(gate.network.servers), 1)
        gate.advance(1.25)
        self.assertEqual(len(gate.network.servers), 2)
        self.assertEqual(gate.server.take(), b"OPTIONS * HTTP/1.1\r\nHost: 10.0.0.1:80\r\nConnection: close\r\n\r\n")
        return gate, client, gate.server

    def test_moved(self) -> None:
        """A GET without an answer moves to another server when its own does not even show that it is there."""
        gate, client, question = self.silent(ONE, TWO)
        gate.advance(1.75)
        self.assertEqual(question.closed, "aborted")
        self.assertEqual(gate.network.servers[0].closed, "aborted")
        self.assertEqual(gate.server.getPeer().host, "10.0.0.2")
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual([exchange.retries for exchange in gate.finished_exchanges], [1])
        for _ in range(3):
            ask(gate)
            gate.network.servers[2].receive(OK)
        self.assertEqual([e.server for e in gate.finished_exchanges], [TWO] * 4)

    def test_comes_back(self) -> None:
        """It gets requests again when it has shown that it is there, being asked now and then."""
        gate, _, _ = self.silent(ONE, TWO)
        gate.advance(1.75)
        gate.server.receive(OK)
        gate.advance(3)
        ask(gate)
        questions = [server for server in gate.network.servers if b"OPTIONS *" in server.written]
        self.assertEqual([question.getPeer().host for question in questions], ["10.0.0.1"])
        self.assertTrue(gate.upstreams[0].is_silent)
        questions[0].receive(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
        self.assertEqual((gate.upstreams[0].is_silent, gate.upstreams[0].failures), (False, 0))

    def test_only_slow(self) -> None:
        """A server that is slow but shows that it is there keeps its request, and is not asked all the time."""
        gate, client, question = self.silent(ONE, TWO)
        question.receive(b"HTTP/1.1 404 Not Found\r\n")
        gate.advance(2.5)
        self.assertEqual(len(gate.network.servers), 2)
        gate.advance(2)
        self.assertEqual(len(gate.network.servers), 3)
        gate.server.end()
        gate.network.servers[0].receive(OK)
        self.assertEqual(client.take(), OK)

    def test_answers_others(self) -> None:
        """A server that answers other requests meanwhile is not asked whether it is there."""
        gate = gate_of(ONE)
        client = ask(gate)
        for _ in range(12):
            gate.advance(0.5)
            ask(gate)
            gate.network.servers[1].receive(OK)
        self.assertEqual(len(gate.network.servers), 2)
        gate.network.servers[0].receive(OK)
        self.assertEqual(client.take(), OK)

    def test_post_stays(self) -> None:
        """A POST is not sent twice: it waits for its server, which may come to itself."""
        gate, client, _ = self.silent(ONE, TWO, request=POST)
        gate.advance(5)
        self.assertEqual(client.take(), b"")
        gate.network.servers[0].receive(OK)
        self.assertEqual(client.take(), OK)
        self.assertFalse(gate.upstreams[0].is_silent)

    def test_last_server(self) -> None:
        """Where there is no other server a request waits for its own, as long as answers may take."""
        gate, client, _ = self.silent(ONE)
        gate.advance(30)
        self.assertEqual(client.take(), b"")
        gate.advance(30)
        self.assertIn(b"HTTP/1.1 504 ", client.take())

    def test_unplugged(self) -> None:
        """The question needs no connection to be without an answer."""
        gate = gate_of(ONE, TWO)
        client = ask(gate)
        gate.network.accepts = False
        gate.advance(1.25)
        gate.network.refuse(ConnectTimeout("no answer"))
        gate.advance(0.5)
        self.assertEqual([host for host, *_ in gate.network.connecting], ["10.0.0.2"])
        gate.network.accept().receive(OK)
        self.assertEqual(client.take(), OK)

    def test_slow_handshake(self) -> None:
        """A question has its time, whatever takes it: a connection that comes later is not needed."""
        gate = gate_of(ONE, TWO)
        client = ask(gate)
        gate.network.accepts = False
        gate.advance(3.5)
        self.assertTrue(gate.upstreams[0].is_silent)
        late = gate.network.accept()
        self.assertEqual((late.closed, late.take()), ("aborted", b""))
        gate.network.accept().receive(OK)
        self.assertEqual(client.take(), OK)

    def test_off(self) -> None:
        """Nobody is questioned where that is switched off."""
        gate = gate_of(ONE, TWO, silence_timeout=0.0)
        ask(gate)
        gate.advance(30)
        self.assertEqual(len(gate.network.servers), 1)


class DoubtTests(SynchronousTestCase):
    """A server that has closed its kept connections may be gone, without anybody to refuse new ones."""

    def kept(self, *servers: str) -> MemoryGate:
        """A gate with a kept connection to each server."""
        gate = gate_of(*servers)
        for _ in servers:
            ask(gate)
            gate.server.receive(OK)
        gate.network.accepts = False
        gate.network.servers[0].end()
        return gate

    def test_others_first(self) -> None:
        """Requests go to others until it accepts a connection again."""
        gate = self.kept(ONE, TWO)
        for _ in range(3):
            ask(gate)
            gate.network.servers[1].receive(OK)
        self.assertEqual([e.server for e in gate.finished_exchanges[2:]], [TWO] * 3)
        ((host, _, _, _),) = gate.network.connecting
        self.assertEqual(host, "10.0.0.1")
        gate.network.accept()
        ask(gate)
        gate.server.receive(OK)
        self.assertEqual(gate.finished_exchanges[-1].server, ONE)

    def test_only_one(self) -> None:
        """The only server of a service is asked over one new connection, as if nothing had been."""
        gate = self.kept(ONE)
        client = ask(gate)
        self.assertEqual(len(gate.network.connecting), 1)
        gate.network.accept().receive(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual(gate.upstreams[0].failures, 0)

    def test_one_of_several_connections(self) -> None:
        """One that closes what was idle for long, and keeps another, is not doubted."""
        gate = gate_of(ONE, TWO)
        for _ in range(4):
            ask(gate)
        for server in gate.network.servers:
            server.receive(OK)
        gate.network.servers[0].end()
        self.assertFalse(gate.upstreams[0].is_doubtful)

    def test_killed_amid_a_request(self) -> None:
        """A GET on a kept connection that breaks goes to another server at once."""
        gate = gate_of(ONE, TWO)
        for _ in range(2):
            ask(gate)
            gate.server.receive(OK)
        client = ask(gate)
        gate.network.servers[0].reset()
        gate.network.servers[1].receive(OK)
        self.assertEqual(client.take(), OK)
        self.assertTrue(gate.upstreams[0].is_doubtful)


class StartTests(SynchronousTestCase):
    def test_tried_often(self) -> None:
        """A server that is starting is tried ten times a second, whether anybody asks for it or not."""
        gate = gate_of(ONE, TWO)
        gate.network.accepts = False
        gate.upstreams[0].probe()
        for _ in range(5):
            gate.network.refuse()
            self.assertEqual(gate.network.connecting, [])
            gate.clock.advance(0.1)
        gate.network.accept()
        self.assertEqual((gate.upstreams[0].failures, gate.upstreams[0].idle()), (0, 1))

    def test_not_for_ever(self) -> None:
        """One that does not come up is tried as any other after a while, and one that is gone not at all."""
        for gone in (False, True):
            gate = gate_of(ONE, TWO)
            gate.network.accepts = False
            gate.upstreams[0].probe()
            gate.deadlines.now = 11.0
            if gone:
                gate.deadlines.now = 0.0
                gate.upstreams[0].retire()
            gate.network.refuse()
            gate.clock.advance(1)
            self.assertEqual(gate.network.connecting, [])
