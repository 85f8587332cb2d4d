"""Tests for the parent's side of the fork server and of a worker, on no process but this one."""

from __future__ import annotations

import os
import pickle
import socket
from types import SimpleNamespace
from typing import Any

from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.config.load import load
from swarmgate.serving import Report
from swarmgate.workers import messages
from swarmgate.workers.fork_server import CONTROL
from swarmgate.workers.forking import ForkServer, code_of, how
from swarmgate.workers.parent import Workers, _Worker

KILLED = Failure(ProcessTerminated(signal=9))


class Processes(Clock):
    """A reactor whose processes are fork servers that nobody runs.

    :ivar started: their ends of the socket to the parent.
    """

    def __init__(self) -> None:
        super().__init__()
        self.started: list[socket.socket] = []
        self.readers: list[Any] = []
        self.signals: list[str] = []
        self.has_room = True

    def spawnProcess(self, protocol: Any, executable: str, arguments: Any, environ: Any, childFDs: Any) -> None:
        if not self.has_room:
            raise BlockingIOError(11, "no more processes")
        self.started.append(socket.socket(fileno=os.dup(childFDs[CONTROL])))
        self.started[-1].settimeout(5)
        protocol.makeConnection(SimpleNamespace(pid=100 + len(self.started), signalProcess=self.signals.append))

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)

    def read(self) -> None:
        """Have all be read that is there to be."""
        for reader in list(self.readers):
            reader.doRead()


class ForkServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Processes()
        self.told: list[Any] = []
        self.server = ForkServer(self.reactor, self.told.append, lambda: self.told.append("gone"))
        self.server.start()
        self.addCleanup(lambda: [one.close() for one in self.reactor.started])
        self.addCleanup(lambda: [reader.close() for reader in list(self.reactor.readers)])

    def die(self) -> None:
        self.server.processEnded(KILLED)

    def test_fork(self) -> None:
        """A request comes with the worker's descriptors, and answers are passed on."""
        reading, writing = os.pipe()
        self.server.fork(1, [writing])
        os.close(writing)
        (other,) = self.reactor.started
        data, (descriptor,), _, _ = socket.recv_fds(other, 4096, 10)
        self.assertEqual(pickle.loads(data), messages.Fork(1))
        os.write(descriptor, b"its own")
        self.assertEqual(os.read(reading, 100), b"its own")
        os.close(descriptor)
        os.close(reading)
        for answer in (messages.Forked(1, 4711), messages.Ended(1, 4711, -9)):
            other.send(pickle.dumps(answer))
        self.reactor.read()
        self.assertEqual(self.told, [messages.Forked(1, 4711), messages.Ended(1, 4711, -9)])

    def test_dies(self) -> None:
        """There is another one at once, which can be asked; what the old one has told last is heard before its end."""
        self.reactor.started[0].send(pickle.dumps(messages.Ended(0, 4711, 0)))
        self.die()
        self.assertEqual(self.told, [messages.Ended(0, 4711, 0), "gone"])
        self.server.fork(0, [])
        self.assertEqual(pickle.loads(self.reactor.started[1].recv(4096)), messages.Fork(0))
        self.assertEqual(len(self.reactor.readers), 1)

    def test_loop(self) -> None:
        """One that dies again and again is started after pauses, in which nothing can be forked."""
        self.die()
        self.die()
        self.assertEqual(len(self.reactor.started), 2)
        self.assertRaises(OSError, self.server.fork, 0, [])
        self.reactor.advance(0.25)
        self.assertEqual(len(self.reactor.started), 3)
        self.server.fork(0, [])

    def test_cannot_be_started(self) -> None:
        """Where there can be no process for it, it is tried again until there can."""
        self.reactor.has_room = False
        self.die()
        self.reactor.pump([0.25, 0.5])
        self.assertRaises(OSError, self.server.fork, 0, [])
        self.reactor.has_room = True
        self.reactor.advance(1)
        self.server.fork(0, [])
        self.assertEqual(len(self.reactor.started), 2)

    def test_stop(self) -> None:
        """It is ended by force, since it has nothing to lose, and not started again."""
        stopped = self.server.stop()
        self.assertEqual(self.reactor.signals, ["KILL"])
        self.assertNoResult(stopped)
        self.die()
        self.successResultOf(stopped)
        self.successResultOf(self.server.stop())
        self.assertEqual((len(self.reactor.started), self.reactor.getDelayedCalls(), self.told), (1, [], []))

    def test_stop_in_a_pause(self) -> None:
        """Nothing is left of one that was to be started later."""
        self.die()
        self.die()
        self.successResultOf(self.server.stop())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_how(self) -> None:
        """The log says how a process has ended."""
        reasons = [KILLED, Failure(ProcessTerminated(exitCode=3)), Failure(ProcessDone(0))]
        self.assertEqual([code_of(reason) for reason in reasons], [-9, 3, 0])
        self.assertEqual([how(code) for code in (-9, 3, 0)], ["by SIGKILL", "with exit status 3", "by itself"])


class WorkerTests(SynchronousTestCase):
    """One worker of a parent that notes what it is asked."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.spawned = 0
        self.reaped: list[int] = []
        self.cleared = 0
        self.is_draining = False
        self.worker = _Worker(self, 0)  # type: ignore[arg-type]
        self.listening = self.worker.start({"web": []})

    # What a parent has.

    def spawn(self, worker: Any, sockets: Any) -> tuple[int, ...]:
        self.spawned += 1
        self.transport = StringTransport()
        worker.messages.makeConnection(self.transport)
        return ()

    def briefing(self, number: int) -> list[Any]:
        return [messages.Know(True, True)]

    def ended(self, worker: Any) -> None:
        self.cleared += 1

    def reap(self, process: int) -> None:
        self.reaped.append(process)

    def later(self, seconds: float, call: Any) -> Any:
        return self.clock.callLater(seconds, call)

    def seconds(self) -> float:
        return self.clock.seconds()

    # What happens.

    def serve(self, process: int = 7) -> None:
        self.worker.forked(process)
        self.worker._received(messages.Listening())

    def cut(self) -> None:
        self.worker.messages.connectionLost()

    def test_told_when_it_is_there(self) -> None:
        """It is told what to serve once it has been forked, and nothing before."""
        self.worker.send(messages.Know(False, False))
        self.assertEqual(self.transport.value(), b"")
        self.worker.forked(7)
        got: list[Any] = []
        reading = messages.Messages(got.append)
        reading.makeConnection(StringTransport())
        reading.dataReceived(self.transport.value())
        self.assertEqual(got, [messages.Know(True, True), messages.Listen({"web": []})])

    def test_dies(self) -> None:
        """It is another's turn when the pipe has ended and it is known how, whichever comes first."""
        self.serve()
        self.successResultOf(self.listening)
        self.cut()
        self.assertEqual((self.cleared, self.worker.process), (0, 7))
        self.worker.has_ended("by SIGKILL")
        self.clock.advance(0)
        self.assertEqual((self.cleared, self.worker.process, self.spawned), (1, 0, 2))
        self.serve(8)
        self.clock.advance(60)
        self.worker.has_ended("by SIGKILL")
        self.assertEqual(self.cleared, 1)
        self.cut()
        self.clock.advance(0)
        self.assertEqual((self.cleared, self.spawned, self.reaped), (2, 3, []))

    def test_orphan(self) -> None:
        """Without the fork server it goes on; the end of its pipe alone is its own then."""
        self.serve()
        self.worker.orphaned()
        self.assertEqual((self.cleared, self.worker.process, self.transport.disconnecting), (0, 7, False))
        self.cut()
        self.clock.advance(0)
        self.assertEqual((self.cleared, self.spawned, self.reaped), (1, 2, [7]))

    def test_orphan_whose_end_was_not_told(self) -> None:
        """It had ended, and the fork server ended before it told how."""
        self.serve()
        self.cut()
        self.worker.orphaned()
        self.clock.advance(0)
        self.assertEqual((self.cleared, self.spawned), (1, 2))

    def test_unknown(self) -> None:
        """The fork server ended before it told of what it may have forked: that is left, and another one asked for."""
        self.serve()
        self.cut()
        self.worker.has_ended("by SIGKILL")
        self.clock.advance(0)
        self.worker.orphaned()
        self.assertTrue(self.transport.disconnecting)
        self.cut()
        self.clock.advance(0.25)
        self.assertEqual((self.spawned, self.reaped), (3, []))

    def test_unknown_has_ended(self) -> None:
        """The same, and it has ended already."""
        self.serve()
        self.cut()
        self.worker.has_ended("by SIGKILL")
        self.clock.advance(0)
        self.cut()
        self.worker.orphaned()
        self.clock.advance(0.25)
        self.assertEqual(self.spawned, 3)

    def test_orphaned_in_a_pause(self) -> None:
        """Who waits to be started again is not started twice."""
        self.serve()
        for _ in range(2):
            self.cut()
            self.worker.has_ended("by SIGKILL")
            self.clock.advance(0)
        self.worker.orphaned()
        self.assertEqual(self.spawned, 2)
        self.clock.advance(0.25)
        self.assertEqual((self.spawned, self.clock.getDelayedCalls()), (3, []))
        self.worker.forked(9)
        self.cut()
        self.assertEqual(self.worker.process, 9)

    def test_cannot_start(self) -> None:
        """A gate whose first worker can't be forked is told why."""
        self.worker.has_ended("no more processes")
        self.cut()
        self.assertIn("no more processes", self.failureResultOf(self.listening).getErrorMessage())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drain(self) -> None:
        """It has drained when it has ended; nobody is killed then."""
        self.serve()
        self.worker.report = Report({"web": 1})
        drained = self.worker.drain(10)
        self.cut()
        self.assertNoResult(drained)
        self.worker.has_ended("by itself")
        self.successResultOf(drained)
        self.assertEqual((self.clock.getDelayedCalls(), self.spawned), ([], 1))
        self.assertEqual(self.worker.report, Report())

    def test_drain_before_it_is_there(self) -> None:
        """One that is being forked finds that nobody wants it."""
        self.successResultOf(self.worker.drain(10))
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class WorkersTests(SynchronousTestCase):
    def test_whose_end(self) -> None:
        """What is told of a process that a worker is no more says nothing of the one that it is."""
        configuration = load(["--entryPoints.web.address=127.0.0.1:0"], {})
        workers = Workers(configuration, Processes(), None, 2, {}, lambda: True, lambda: True, b"")  # type: ignore[arg-type]
        self.addCleanup(workers.stop)
        told: list[tuple[int, Any]] = []
        for one in workers._workers:
            self.patch(one, "forked", lambda process, number=one.number: told.append((number, process)))
            self.patch(one, "has_ended", lambda how, number=one.number: told.append((number, how)))
        workers._workers[1].process = 8
        for message in (
            messages.Forked(0, 7),
            messages.Ended(1, 6, 0),
            messages.Ended(1, 8, -9),
            messages.CannotFork(0, "no more processes"),
        ):
            workers._told_of(message)
        self.assertEqual(told, [(0, 7), (1, "by SIGKILL"), (0, "no more processes")])
