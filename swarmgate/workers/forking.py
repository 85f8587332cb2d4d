"""The parent's side of the fork server: starts it, asks it for workers, and starts it anew if it dies."""

from __future__ import annotations

import pickle
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from swarmgate.processes import command_of
from swarmgate.workers import messages
from swarmgate.workers.fork_server import CONTROL, LONGEST
from swarmgate.workers.restarts import Restarts

_log = Logger("swarmgate")


class ForkServer(ProcessProtocol):
    """Has workers forked.

    :param told: called with what it tells of its workers.
    :param gone: called when it has ended: nobody will tell how those workers end that are there.
    :ivar process: the process's id, 0 while there is none.
    """

    def __init__(self, reactor: Any, told: Callable[[Any], object], gone: Callable[[], object]) -> None:
        self._reactor = reactor
        self._told = told
        self._gone = gone
        self.process = 0
        self._control: _Control | None = None
        self._began = 0.0
        self._restarts = Restarts()
        self._timer: Any = None
        self._stopped: Deferred[None] | None = None

    def start(self) -> None:
        """Start it. It can be asked for workers at once, and forks them when it has imported all.

        :raises OSError: there can be no process.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = ["--without-uvloop"] if sys.modules.get("uvloop", self) is None else []
        arguments, environ = command_of("swarmgate.workers.fork_server", *words)
        descriptors = {0: 0, 1: 1, 2: 2, CONTROL: theirs.fileno()}
        ours.setblocking(False)
        self._control = control = _Control(ours, self._reactor, self._told)
        self._began = self._reactor.seconds()
        try:
            self._reactor.spawnProcess(self, arguments[0], arguments, environ, childFDs=descriptors)
        except OSError:
            self._control = None
            control.close()
            raise
        finally:
            theirs.close()

    def fork(self, number: int, descriptors: Sequence[int]) -> None:
        """Ask for a worker, whose copies of *descriptors* are its own.

        :raises OSError: there is no fork server now.
        """
        if self._control is None:
            raise OSError("there is no fork server")
        self._control.send(messages.Fork(number), descriptors)

    def stop(self) -> Deferred[None]:
        """End it, which its workers outlive. The Deferred fires when it has ended."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if not self.process:
            return succeed(None)
        if self._stopped is None:
            self._stopped = Deferred()
            self.transport.signalProcess("KILL")  # type: ignore[union-attr]
        return self._stopped

    # From the process.

    def makeConnection(self, process: Any) -> None:
        self.process = process.pid
        ProcessProtocol.makeConnection(self, process)

    def processEnded(self, reason: Failure) -> None:
        process, self.process = self.process, 0
        control, self._control = self._control, None
        if control is not None:
            # What it has told last, first.
            control.doRead()
            control.close()
        if self._stopped is not None:
            self._stopped.callback(None)
            return
        self._start_again(f"the fork server, process {process}, has ended: {how(code_of(reason))}")
        self._gone()

    def _start_again(self, why: str) -> None:
        self._restarts = self._restarts.died(self._reactor.seconds() - self._began)
        _log.error("{why}; {then}", why=why, then=self._restarts.said)
        if self._restarts.pause:
            self._timer = self._reactor.callLater(self._restarts.pause, self._try)
        else:
            self._try()

    def _try(self) -> None:
        try:
            self.start()
        except OSError as error:
            self._start_again(f"the fork server can't be started: {error.strerror or error}")


class _Control:
    """The parent's end of the socket to the fork server (IReadDescriptor)."""

    def __init__(self, control: socket.socket, reactor: Any, told: Callable[[Any], object]) -> None:
        self._socket = control
        self._reactor = reactor
        self._told = told
        reactor.addReader(self)

    def send(self, message: Any, descriptors: Sequence[int]) -> None:
        """Send *message*, and *descriptors* with it."""
        socket.send_fds(self._socket, [pickle.dumps(message)], descriptors)

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "fork server"

    def doRead(self) -> None:
        """Take all that was told."""
        while True:
            try:
                data = self._socket.recv(LONGEST)
            except OSError:
                return
            if not data:
                # The end of the process tells the rest.
                self._reactor.removeReader(self)
                return
            self._told(pickle.loads(data))  # noqa: S301 -- of our own other process

    def connectionLost(self, reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Hear no more."""
        self._reactor.removeReader(self)
        self._socket.close()


def code_of(reason: Failure) -> int:
    """The exit code of a process that has ended for *reason*: negative for a signal."""
    if reason.check(ProcessDone):
        return 0
    number: int | None = getattr(reason.value, "signal", None)
    return -number if number else int(getattr(reason.value, "exitCode", None) or 0)


def how(code: int) -> str:
    """How a process has ended that has this exit code, for people."""
    if code < 0:
        return f"by {signal.Signals(-code).name}"
    return f"with exit status {code}" if code else "by itself"
