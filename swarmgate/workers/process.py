"""A worker: a process that serves what its parent tells it to."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import stdio
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from swarmgate.dynamic.difference import applied
from swarmgate.dynamic.table import RoutingTable
from swarmgate.dynamic.tls import Certificate
from swarmgate.internal import NOOP, PING
from swarmgate.limits.shared import SharedLimits
from swarmgate.observe.logs import Logging, start_logging
from swarmgate.resources.noop import Noop
from swarmgate.resources.ping import PingResource
from swarmgate.serving import Serving, network_of
from swarmgate.transport.reactor import install_reactor
from swarmgate.workers import messages
from swarmgate.workers.cores import usable_cores
from swarmgate.workers.visits import Visit, parent_upstream

_log = Logger("swarmgate")

#: Seconds between two reports.
_TELL_EVERY = 0.5


class Worker:
    """Serves, and tells its parent how it goes.

    :param loop: the reactor's asyncio loop.
    :param door: see :mod:`swarmgate.workers.visits`.
    :param limits: the descriptor of limits that all workers share, see :mod:`swarmgate.limits.shared`.
    :param sockets: the descriptors of its listening sockets.
    """

    def __init__(
        self,
        reactor: Any,
        loop: asyncio.AbstractEventLoop,
        door: socket.socket,
        limits: int,
        sockets: Sequence[int],
    ) -> None:
        self._reactor = reactor
        self._loop = loop
        self._door = door
        self._limits = limits
        self._sockets = sockets
        self._messages: messages.Messages | None = None
        self._serving: Serving | None = None
        self._table = RoutingTable()
        self._known = messages.Know(False, False)
        self._staples: dict[bytes, bytes | None] = {}
        self._digests: dict[Certificate, bytes] = {}
        self._terminating_status = 503
        self._logging: Logging | None = None
        self._is_terminating = False
        self._telling = LoopingCall(self._tell)
        self._telling.clock = reactor
        self._does: dict[type[Any], Callable[[Any], object]] = {
            messages.Start: self._start,
            messages.Listen: self._listen,
            messages.Apply: self._apply,
            messages.Judge: self._judge,
            messages.Know: self._know,
            messages.Show: self._show,
            messages.Staple: self._staple,
            messages.Reconfigure: self._reconfigure,
            messages.ReopenLogs: self._reopen_logs,
            messages.Drain: self.drain,
        }

    def receive(self, message: Any) -> None:
        """Do what the parent says."""
        self._does[type(message)](message)

    def talk(self, to_parent: messages.Messages) -> None:
        """Tell the parent by *to_parent*."""
        self._messages = to_parent

    # What the parent says.

    def _start(self, start: messages.Start) -> None:
        configuration = start.configuration
        log = configuration.log
        self._logging = start_logging(log.level, log.format, log.file_path)
        network = network_of(self._reactor)
        resources: dict[str, Any] = {NOOP: Noop(), PING: PingResource(self._ping_status)}
        ping = configuration.ping
        self._terminating_status = ping.terminating_status_code if ping is not None else 503
        serving = Serving(
            configuration,
            self._reactor,
            network,
            resources,
            lambda: self._known.is_routed,
            start.ticket_secret,
            self._staple_of if configuration.ocsp is not None else None,
            limits=SharedLimits.open(self._limits, start.number),
            processes=configuration.workers or usable_cores(),
        )
        parent = parent_upstream(self._loop, self._door, serving.deadlines)
        for name in start.resources:
            if name not in resources:
                serving.gate.answer(name, Visit(name, parent))
        self._serving = serving
        serving.prepare()

    def _listen(self, listen: messages.Listen) -> None:
        assert self._serving is not None
        sockets = {
            name: [socket.socket(fileno=self._sockets[place]) for place in places]
            for name, places in listen.sockets.items()
        }
        listening = self._serving.listen(sockets)
        listening.addCallbacks(self._listens, self._cannot_listen)

    def _listens(self, _: object) -> None:
        self._send(messages.Listening())
        self._telling.start(_TELL_EVERY)

    def _cannot_listen(self, failure: Any) -> None:
        self._send(messages.CannotStart(failure.getErrorMessage()))

    def _apply(self, apply: messages.Apply) -> None:
        self._table = applied(self._table, apply.changes)
        if self._serving is not None:
            self._serving.apply(self._table)

    def _judge(self, judge: messages.Judge) -> None:
        if self._serving is not None:
            self._serving.judge(judge.service, judge.url, judge.is_well)

    def _know(self, know: messages.Know) -> None:
        self._known = know

    def _show(self, show: messages.Show) -> None:
        if self._serving is not None:
            self._serving.show(show.challenges)

    def _staple(self, staple: messages.Staple) -> None:
        self._staples.update(staple.responses)

    def _staple_of(self, certificate: Certificate) -> bytes | None:
        digest = self._digests.get(certificate)
        if digest is None:
            if len(self._digests) > 10_000:
                self._digests.clear()
            digest = self._digests[certificate] = digest_of(certificate)
        return self._staples.get(digest)

    def _reconfigure(self, reconfigure: messages.Reconfigure) -> None:
        if self._serving is not None:
            ping = reconfigure.configuration.ping
            self._terminating_status = ping.terminating_status_code if ping is not None else 503
            with contextlib.suppress(OSError):  # The parent has tried to open the file before.
                self._serving.reconfigure(reconfigure.configuration)
        if self._logging is not None:
            self._logging.change_level(reconfigure.configuration.log.level)

    def _reopen_logs(self, _: messages.ReopenLogs) -> None:
        if self._serving is not None:
            self._serving.reopen_logs()
        if self._logging is not None:
            self._logging.reopen()

    def drain(self, _: object = None) -> None:
        """Accept nobody any more, and end when what is under way is done."""
        if self._is_terminating:
            return
        self._is_terminating = True
        if self._serving is None:
            self._reactor.stop()
            return
        drained = self._serving.drain()
        drained.addCallback(self._drained)

    def _drained(self, _: object) -> Any:
        assert self._serving is not None
        if self._telling.running:
            self._telling.stop()
            self._tell()
        stopped = self._serving.stop()
        # What is to be told is written first.
        return stopped.addBoth(lambda _: self._reactor.callLater(0.05, self._reactor.stop))

    # What it tells.

    def _ping_status(self) -> int:
        if self._is_terminating:
            return self._terminating_status
        refuses = self._serving is not None and self._serving.refuses_all
        return 200 if self._known.is_ready and not refuses else 503

    def _tell(self) -> None:
        serving = self._serving
        assert serving is not None
        traffic = None if serving.traffic is None else serving.traffic.take()
        self._send(messages.Tell(serving.report(), traffic, serving.take_lag()))

    def _send(self, message: Any) -> None:
        if self._messages is not None:
            self._messages.send(message)


def digest_of(certificate: Certificate) -> bytes:
    """What a certificate is called by where it is known already."""
    return hashlib.sha256(certificate.chain.encode()).digest()


def run(descriptors: Sequence[int]) -> None:
    """Serve until the parent says otherwise, or is no more.

    :param descriptors: messages of the parent and to it, the socket for visits, the memory of limits, and listening
        sockets.
    """
    from_parent, to_parent, door, limits, *sockets = descriptors
    install_reactor()
    from twisted.internet import reactor

    running: Any = reactor
    worker = Worker(running, running._asyncioEventloop, socket.socket(fileno=door), limits, sockets)
    telling = messages.Messages(worker.receive, worker.drain)
    worker.talk(telling)
    stdio.StandardIO(telling, from_parent, to_parent, running)  # type: ignore[call-arg]
    signal.signal(signal.SIGTERM, lambda *_: running.callFromThread(worker.drain))
    running.run(installSignalHandlers=False)
