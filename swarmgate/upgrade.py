"""Another process takes the place of this one, with the same listening sockets (SIGUSR2).

The new process is started by the command line of the old one, so that it is whatever is installed now. Readiness is
told as to systemd (sd_notify(3)), by the new process to the old one and by both to systemd.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger("swarmgate")

#: Seconds that a new process may take until it serves.
_READY_WITHIN = 60.0
_FIRST = 3


def notify(environ: Mapping[str, str], *states: str) -> None:
    """Tell whoever has started the process how it is (sd_notify(3)); nobody, if ``NOTIFY_SOCKET`` is not set.

    :param states: as ``"READY=1"``.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
        try:
            sending.sendto("\n".join(states).encode(), address)
        except OSError as error:
            _log.warn("NOTIFY_SOCKET: {reason}", reason=error.strerror or str(error))


class Upgrade(ProcessProtocol):
    """Starts a process that takes the place of this one.

    :param sockets: the listening sockets, by entry point.
    :param leave: called when the new process serves.
    """

    def __init__(
        self,
        reactor: Any,
        sockets: Callable[[], Mapping[str, Sequence[socket.socket]]],
        leave: Callable[[], object],
        command: Sequence[str] = (),
    ) -> None:
        self._reactor = reactor
        self._sockets = sockets
        self._leave = leave
        self._command = tuple(command) or (sys.executable, *sys.orig_argv[1:])
        self._process: Any = None
        self._hearing: _Hearing | None = None
        self._too_late: Any = None

    def start(self) -> None:
        """Start it, unless one is being started."""
        if os.getpid() == 1:
            _log.error("SIGUSR2: the first process of a container can't be replaced; update the service instead")
            return
        if self._process is not None:
            _log.warn("SIGUSR2: a new process is being started already")
            return
        sockets = [(name, one) for name, of_one in self._sockets().items() for one in of_one]
        self._hearing = _Hearing(self._reactor, self._told)
        descriptors = {_FIRST + place: one.fileno() for place, (_, one) in enumerate(sockets)}
        environ = started_with(os.environ, [name for name, _ in sockets], self._hearing.address)
        self._process = self._reactor.spawnProcess(
            self, self._command[0], self._command, environ, childFDs={0: 0, 1: 1, 2: 2, **descriptors}
        )
        self._too_late = self._reactor.callLater(_READY_WITHIN, self._give_up)
        _log.info("SIGUSR2: process {process} is to take the place of this one", process=self._process.pid)

    def _told(self, states: Sequence[str]) -> None:
        if "READY=1" not in states or self._process is None:
            return
        process, self._process = self._process, None
        self._forget()
        _log.info("process {process} serves; this one ends", process=process.pid)
        notify(os.environ, f"MAINPID={process.pid}")
        self._leave()

    def _give_up(self) -> None:
        _log.error("SIGUSR2: the new process does not serve after {within:g} s and is ended", within=_READY_WITHIN)
        self._process.signalProcess("KILL")

    def processEnded(self, reason: Failure) -> None:
        if self._process is not None:
            self._process = None
            self._forget()
            _log.error("SIGUSR2: the new process has ended before it served; this one goes on")

    def _forget(self) -> None:
        if self._too_late.active():
            self._too_late.cancel()
        if self._hearing is not None:
            self._hearing.close()


def started_with(environ: Mapping[str, str], names: Sequence[str], address: str) -> MutableMapping[str, str]:
    """The environment of the new process.

    :param names: the entry point of each socket that it gets.
    :param address: where it tells that it serves.
    """
    return {
        **environ,
        "LISTEN_FDS": str(len(names)),
        "LISTEN_FDNAMES": ":".join(names),
        "NOTIFY_SOCKET": address,
    }


class _Hearing:
    """A socket on which a process tells how it is (IReadDescriptor)."""

    def __init__(self, reactor: Any, told: Callable[[Sequence[str]], None]) -> None:
        self._reactor = reactor
        self._told = told
        self._folder = tempfile.mkdtemp(prefix="swarmgate-")
        self.address = os.path.join(self._folder, "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.bind(self.address)
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "upgrade"

    def doRead(self) -> None:
        try:
            data = self._socket.recv(4096)
        except BlockingIOError:
            return
        self._told(data.decode("utf-8", "replace").split("\n"))

    def connectionLost(self, reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Hear no more."""
        if self._socket.fileno() < 0:
            return
        self._reactor.removeReader(self)
        self._socket.close()
        os.unlink(self.address)
        os.rmdir(self._folder)
