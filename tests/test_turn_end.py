"""What HTTP/2 connections write in one turn of the loop: gathered, in order, nothing lost, and bounded."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from swarmgate.http2.codec import SETTINGS_ACK
from swarmgate.transport.turn_end import TurnEnd
from tests.http2_peers import HEAD, Http2Client, Http2Server, frame, gate_of
from tests.memory_network import OK

PING = frame(6, 0, 0, bytes(8))
PONG = frame(6, 1, 0, bytes(8))


class _Connection:
    def __init__(self, name: str, told: list[str]) -> None:
        self.name = name
        self.told = told

    def turn_ends(self) -> None:
        self.told.append(self.name)
        if self.name == "faulty":
            raise RuntimeError("broken")


class TurnEndTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.calls: list[object] = []
        self.told: list[str] = []
        self.turn_end = TurnEnd(self.calls.append)

    def test_one_call_for_all(self) -> None:
        """Connections write in the order in which they have come; each turn has one call."""
        for name in ("a", "b", "c"):
            self.turn_end.add(_Connection(name, self.told))
        self.assertEqual((len(self.calls), self.told), (1, []))
        self.calls.pop()()  # type: ignore[operator]
        self.assertEqual(self.told, ["a", "b", "c"])
        self.turn_end.add(_Connection("d", self.told))
        self.calls.pop()()  # type: ignore[operator]
        self.assertEqual(self.told, ["a", "b", "c", "d"])

    def test_faults(self) -> None:
        """A fault of one keeps no other from writing."""
        for name in ("faulty", "b"):
            self.turn_end.add(_Connection(name, self.told))
        self.calls.pop()()  # type: ignore[operator]
        self.assertEqual(self.told, ["faulty", "b"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class GatheringTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.gate = gate_of()
        self.client = Http2Client(self.gate)
        self.transport = self.client.transport

    def _answer(self, *answers: bytes) -> None:
        """Answer a request for each of *answers*, all within a turn."""
        for _ in answers:
            self.client.ask()
        self.assertEqual(self.transport.writes, [])
        for server, answer in zip(self.gate.network.servers, answers, strict=True):
            server.receive(answer)

    def test_one_write(self) -> None:
        """Answers of a turn are one write, in their order, with what the client's own frames are answered."""
        self._answer(OK, OK.replace(b"ok", b"no"))
        self.transport.receive(PING + frame(4, 0, 0))
        self.assertEqual(self.transport.writes, [])
        self.gate.turn.end()
        self.assertEqual(len(self.transport.writes), 1)
        self.assertTrue(self.transport.writes[0].endswith(PONG + SETTINGS_ACK))
        self.client.read()
        self.assertEqual(self.client.bodies, {1: b"ok", 3: b"no"})
        self.gate.turn.end()
        self.assertEqual(self.transport.writes, [])

    def test_bound(self) -> None:
        """What is too much to be gathered is written at once, and what comes then is gathered again."""
        body = bytes(40_000)
        long = b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" + body
        self.client.h2.increment_flow_control_window(1_000_000)
        self.client.flush()
        self._answer(long, long)
        self.assertEqual(len(self.transport.writes), 1)
        self.assertGreater(len(self.transport.writes[0]), 80_000)
        self.transport.receive(PING)
        self.assertEqual(len(self.transport.writes), 1)
        self.client.read()
        self.assertEqual(self.client.bodies, {1: body, 3: body})

    def test_end_of_the_connection(self) -> None:
        """What was gathered goes before the announcement of the end, which is written at once."""
        self._answer(OK)
        (connection,) = self.gate.connections
        connection.close_when_idle()
        self.assertEqual(len(self.transport.writes), 2)
        self.client.read()
        self.assertEqual(self.client.bodies, {1: b"ok"})
        self.assertEqual(len(self.client.goaways), 1)

    def test_fault_of_the_client(self) -> None:
        """Answers that were gathered reach a client that breaks the protocol in the same turn; then it is told."""
        self._answer(OK)
        self.transport.receive(frame(0, 0, 0, b"x"))
        self.assertEqual((len(self.transport.writes), self.transport.closed), (2, "lost"))
        self.client.read()
        self.assertEqual((self.client.bodies, self.client.goaways), ({1: b"ok"}, [(1, 1)]))

    def test_connection_lost(self) -> None:
        """Nothing is written to a connection that has broken."""
        self._answer(OK)
        written: list[bytes] = []
        self.transport.reset()
        self.transport.write = written.append  # type: ignore[method-assign, assignment]
        self.gate.turn.end()
        self.assertEqual(written, [])

    def test_fills_the_transport(self) -> None:
        """A long answer that fills the transport, of which the kernel takes a part, is no fault of the client's."""
        write = self.transport.write

        def fill(data: bytes) -> None:
            write(data)
            if len(data) > 60_000:
                self.transport.producer.pauseProducing()

        self.transport.write = fill  # type: ignore[method-assign]
        self._answer(b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000)
        self.gate.turn.end()
        self.assertFalse(self.transport.closed)
        self.assertEqual(self.gate.refusals, [])
        self.transport.producer.resumeProducing()
        self.client.read()
        self.assertEqual(len(self.client.bodies[1]), 65_535)

    def test_reads_nothing(self) -> None:
        """What is gathered for a client that reads nothing counts as what was written to it, before the turn ends."""
        answers = [b"HTTP/1.1 204 None\r\nX-A: %d%b\r\n\r\n" % (number, b"x" * 1000) for number in range(80)]
        for _ in answers:
            self.client.ask()
        self.transport.producer.pauseProducing()
        for server, answer in zip(self.gate.network.servers, answers, strict=True):
            server.receive(answer)
        self.assertEqual(self.transport.closed, "aborted")
        self.assertEqual(self.gate.refusals[-1].reason, "http2: acknowledgements not read")


class UpstreamTests(SynchronousTestCase):
    def test_one_write_to_a_server(self) -> None:
        """Requests of a turn go to a server that speaks HTTP/2 in one write."""
        gate = gate_of("h2c://10.0.0.1:80")
        client = Http2Client(gate)
        client.ask()
        server = Http2Server(gate)
        server.answer(1)
        client.read()
        for stream in (3, 5):
            client.h2.send_headers(stream, HEAD, end_stream=True)
        gate.server.take()
        client.transport.receive(client.h2.data_to_send())
        self.assertEqual(gate.server.writes, [])
        gate.turn.end()
        self.assertEqual(len(gate.server.writes), 1)
        server.read()
        self.assertEqual(sorted(server.heads), [1, 3, 5])


class ReactorTests(TestCase):
    def test_same_turn(self) -> None:
        """A reactor's turn ends without a wait."""
        from twisted.internet import reactor

        from swarmgate.transport.classic import ReactorNetwork

        ended: Deferred[None] = Deferred()

        class Connection:
            def turn_ends(self) -> None:
                ended.callback(None)

        turn_end = ReactorNetwork(reactor).turn_end
        assert turn_end is not None
        turn_end.add(Connection())
        self.assertFalse(ended.called)
        return ended  # type: ignore[return-value]
