"""Room for connections: beyond it newcomers wait, and those that are accepted can still be served."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.admission import Admission, TurnedAway, make_room, room_for
from swarmgate.http.client import ClientSettings
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.entry_point import EntryPoint
from swarmgate.http.exchange import Exchange
from swarmgate.http.forwarded import ForwardedPolicy
from swarmgate.http.tries import is_own_fault, status_of
from swarmgate.transport.network import ConnectTimeout
from tests.memory_network import MemoryTransport

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class _Listening:
    def __init__(self) -> None:
        self.accepts = True

    def pause(self) -> None:
        self.accepts = False

    def resume(self) -> None:
        self.accepts = True


def _answer(exchange: Exchange) -> None:
    exchange.answer(200, b"ok")


class AdmissionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.addCleanup(self.deadlines.stop)

    def _entry_point(self, admission: Admission | None) -> tuple[EntryPoint, _Listening]:
        settings = ClientSettings("web", ForwardedPolicy(b"gate"))
        network: Any = None
        entry_point = EntryPoint(
            network,
            self.clock,
            "",
            0,
            settings,
            self.deadlines,
            _answer,
            admission=admission,  # type: ignore[arg-type]
        )
        listening = _Listening()
        entry_point._listening = [listening]  # type: ignore[list-item]
        return entry_point, listening

    def _connect(self, entry_point: EntryPoint) -> MemoryTransport:
        protocol = entry_point._connection()
        transport = MemoryTransport(protocol)
        protocol.makeConnection(transport)
        return transport

    def _advance(self, seconds: float) -> None:
        for _ in range(int(seconds / 0.25)):
            self.clock.advance(0.25)

    def test_full(self) -> None:
        """With the last connection that there is room for nobody is accepted, on any entry point, until one ends."""
        admission = Admission(self.deadlines, 3)
        (first, here), (second, there) = self._entry_point(admission), self._entry_point(admission)
        clients = [self._connect(first), self._connect(second)]
        self.assertTrue(here.accepts and there.accepts)
        clients.append(self._connect(first))
        self.assertFalse(here.accepts or there.accepts)
        admission.look()
        self.assertFalse(here.accepts)
        clients[0].reset()
        admission.look()
        self.assertTrue(here.accepts and there.accepts)

    def test_room_is_made(self) -> None:
        """Who has been idle for longest makes room for newcomers; who is being answered does not."""
        admission = Admission(self.deadlines, 40)
        entry_point, listening = self._entry_point(admission)
        served = []
        entry_point.serve = served.append  # type: ignore[method-assign]
        busy = self._connect(entry_point)
        busy.receive(REQUEST)
        entry_point.serve = _answer  # type: ignore[method-assign]
        idle = []
        for _ in range(39):
            idle.append(self._connect(entry_point))
            idle[-1].receive(REQUEST)
            self._advance(0.25)
        self.assertFalse(listening.accepts)
        self._advance(0.75)
        self.assertEqual([one.closed for one in idle[:4]], ["lost"] * 4)
        self.assertEqual([one.closed for one in idle[4:]], [None] * 35)
        self.assertFalse(listening.accepts)
        for one in idle[:4]:
            one.settle()
        self.assertTrue(listening.accepts)
        self.assertIsNone(busy.closed)

    def test_more_room(self) -> None:
        """Where that does not help, because those who come are idle too, more and more of them have to go."""
        admission = Admission(self.deadlines, 40)
        entry_point, _ = self._entry_point(admission)
        clients = [self._connect(entry_point) for _ in range(40)]
        for _ in range(8):
            self._advance(0.25)
            admission.look()
        self.assertGreater(sum(one.closed is not None for one in clients), 20)

    def test_most_clients(self) -> None:
        """A number of clients that was configured is not exceeded, whatever room there is for descriptors."""
        admission = Admission(self.deadlines, 1000, 2)
        entry_point, listening = self._entry_point(admission)
        clients = [self._connect(entry_point)]
        self.assertTrue(listening.accepts)
        clients.append(self._connect(entry_point))
        self.assertFalse(listening.accepts)

    def test_room(self) -> None:
        """A quarter of the descriptors is for servers, and what the process has already is not given away again."""
        self.assertEqual(room_for(1000, 50), 700)
        self.assertEqual(room_for(40, 10), 14)
        self.assertEqual(room_for(10, 10), 1)

    def test_memory(self) -> None:
        """Connections without a request can be closed at once to make room, after a moment for one on its way."""
        entry_point, _ = self._entry_point(None)
        idle = self._connect(entry_point)
        make_room([entry_point])
        self.assertIsNone(idle.closed)
        self._advance(0.75)
        self.assertEqual(idle.closed, "lost")


class TurnedAwayTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.addCleanup(self.deadlines.stop)
        self.protocol = TurnedAway(self.deadlines)
        self.transport = MemoryTransport(self.protocol)
        self.protocol.makeConnection(self.transport)

    def test_http(self) -> None:
        """A client gets its answer, which says when to come again, and the connection is closed."""
        self.transport.receive(REQUEST)
        written = self.transport.take()
        self.assertTrue(written.startswith(b"HTTP/1.1 503 Service Unavailable\r\n"), written)
        self.assertIn(b"\r\nRetry-After: 2\r\n", written)
        self.assertTrue(written.endswith(b"\r\nConnection: close\r\n\r\nService Unavailable"), written)
        self.assertEqual(self.transport.closed, "lost")
        self.transport.settle()
        self.assertEqual(len(self.deadlines), 0)

    def test_tls(self) -> None:
        """No handshake is begun."""
        self.transport.receive(b"\x16\x03\x01")
        self.assertEqual((self.transport.closed, self.transport.written), ("aborted", b""))

    def test_silent(self) -> None:
        """Who says nothing is gone in a second or so."""
        for _ in range(5):
            self.clock.advance(0.25)
        self.assertEqual(self.transport.closed, "aborted")


class OwnFaultTests(SynchronousTestCase):
    def test_descriptors(self) -> None:
        """That there are no descriptors is not held against the server, and the client is told to come again."""
        self.assertTrue(is_own_fault(OSError(errno.EMFILE, "Too many open files")))
        self.assertEqual(status_of(OSError(errno.EMFILE, "Too many open files")), 503)
        self.assertFalse(is_own_fault(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")))
        self.assertEqual(status_of(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")), 502)
        self.assertEqual(status_of(ConnectTimeout("no answer")), 504)
