"""The parent's side: has workers forked, tells them what to serve, and starts those anew that die."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet import stdio
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from swarmgate.acme.challenge import Challenge
from swarmgate.config.model import StaticConfiguration
from swarmgate.dynamic.difference import difference
from swarmgate.dynamic.table import RoutingTable
from swarmgate.http.deadlines import Deadlines
from swarmgate.limits.shared import SharedLimits
from swarmgate.observe.lag import ReactorLag
from swarmgate.resources.gate import leaf_of
from swarmgate.serving import Report, spare_collector, traffic_of
from swarmgate.tls.contexts import Staples
from swarmgate.transport.native import share_again, steer_to_next
from swarmgate.transport.sockets import bind, dealt, take
from swarmgate.workers import messages
from swarmgate.workers.forking import ForkServer, how
from swarmgate.workers.process import digest_of
from swarmgate.workers.restarts import Restarts
from swarmgate.workers.visits import Reception

_log = Logger("swarmgate")

#: Seconds between two looks at what workers have to know.
_TEND_EVERY = 0.2
#: Seconds that connections which are half made have to be made, before their socket is closed.
_HALF_MADE_WITHIN = 0.25
#: Seconds between two looks whether an orphan that ends has ended.
_REAP_EVERY = 0.1
#: Seconds in which workers that were told to end have closed their listening sockets.
_CLOSED_WITHIN = 0.25
#: Seconds that workers may take to end beyond what entry points are given.
_END_WITHIN = 5.0


class Workers:
    """Has worker processes serve; what :class:`~swarmgate.serving.Serving` has, it has.

    :param loop: the reactor's asyncio loop.
    :param count: of the workers.
    :param resources: what answers for the gate's own services, by their qualified names.
    :param is_ready: says whether all providers were seen, *is_routed* whether all routers are known.
    :param handed: listening sockets that the process was started with, see :mod:`swarmgate.transport.sockets`.
    """

    def __init__(
        self,
        configuration: StaticConfiguration,
        reactor: Any,
        loop: asyncio.AbstractEventLoop,
        count: int,
        resources: Mapping[str, Any],
        is_ready: Callable[[], bool],
        is_routed: Callable[[], bool],
        ticket_secret: bytes,
        staples: Staples | None = None,
        handed: dict[str, list[socket.socket]] | None = None,
    ) -> None:
        # Given.
        self._configuration = configuration
        self._reactor = reactor
        self._resources = tuple(resources)
        self._is_ready, self._is_routed = is_ready, is_routed
        self._ticket_secret = ticket_secret
        self._staples = staples
        self._handed = handed or {}
        # What all of them are told.
        self.deadlines = Deadlines(reactor)
        self._reception = Reception(
            reactor, loop, self.deadlines, {name: leaf_of(name, one) for name, one in resources.items()}
        )
        self._table = RoutingTable()
        self._judged: dict[tuple[str, str], bool] = {}
        self._challenges: tuple[Challenge, ...] = ()
        self._stapled: dict[bytes, bytes | None] = {}
        self._known = messages.Know(False, False)
        # What they tell.
        self.traffic = traffic_of(configuration)
        self.lag = ReactorLag(reactor)
        # Themselves.
        self._limits: SharedLimits | None = SharedLimits.open(SharedLimits.create(count))
        self._fork_server = ForkServer(reactor, self._told_of, self._orphaned)
        self._workers = [_Worker(self, number) for number in range(count)]
        self._sockets: dict[str, list[socket.socket]] = {}
        self._draining = False
        self._tending = LoopingCall(self._tend)
        self._tending.clock = reactor

    # What it is given.

    def apply(self, table: RoutingTable) -> None:
        """Have all workers serve by *table*."""
        changes = difference(self._table, table)
        self._table = table
        served = {(name, server.url) for name, service in table.services.items() for server in service.servers}
        self._judged = {key: is_well for key, is_well in self._judged.items() if key in served}
        self._tell(messages.Apply(changes))
        if self.traffic is not None:
            routers = {route.name for routes in table.routes.values() for route in routes}
            servers = {name: {one.url for one in service.servers} for name, service in table.services.items()}
            self.traffic.keep(routers, servers)

    def judge(self, service: str, url: str, is_well: bool) -> None:
        """Take what a health check says of a server."""
        self._judged[service, url] = is_well
        self._tell(messages.Judge(service, url, is_well))

    def show(self, challenges: Sequence[Challenge]) -> None:
        """Answer these challenges of authorities in handshakes, and no others."""
        self._challenges = tuple(challenges)
        self._tell(messages.Show(self._challenges))

    def reconfigure(self, configuration: StaticConfiguration) -> None:
        """Put in force what of *configuration* needs no restart.

        :raises OSError: the new access log can't be opened; nothing has been changed then.
        """
        access_log = configuration.access_log
        if access_log is not None and access_log != self._configuration.access_log and access_log.file_path:
            with open(access_log.file_path, "ab"):
                pass
        self._configuration = configuration
        self._tell(messages.Reconfigure(configuration))

    def reopen_logs(self) -> None:
        """Open log files anew, after they were moved away."""
        self._tell(messages.ReopenLogs())

    # What it tells.

    def report(self) -> Report:
        """How all of them do."""
        return sum_of([worker.report for worker in self._workers])

    def take_lag(self) -> float:
        """The longest that a reactor was late by since this was last asked, the parent's included, in seconds."""
        lags = [self.lag.take()]
        for worker in self._workers:
            lags.append(worker.lag)
            worker.lag = 0.0
        return max(lags)

    def sockets(self) -> dict[str, list[socket.socket]]:
        """The listening sockets, by entry point."""
        return dict(self._sockets)

    @property
    def processes(self) -> list[int]:
        """The ids of the workers' processes that are there."""
        return [worker.process for worker in self._workers if worker.process]

    @property
    def refuses_all(self) -> bool:
        """Each worker says for itself whether it refuses all new requests."""
        return False

    # Its life.

    def prepare(self) -> None:
        """Be ready to serve, once entry points listen."""
        self.lag.start()
        self._fork_server.start()

    @inlineCallbacks
    def listen(self) -> Any:
        """Start workers that accept clients.

        Returns a Deferred that fails with :exc:`OSError` if an address can't be had or a worker can't start.
        """
        for name, options in self._configuration.entry_points.items():
            host, port = options.address.host, options.address.port
            handed = take(self._handed, name, port)
            try:
                self._sockets[name] = bind(host, port, len(self._workers), options.reuse_port, handed)
            except OSError as error:
                raise OSError(f"entry point {name}: {error.strerror or error}") from error
        self._known = messages.Know(self._is_ready(), self._is_routed())
        dealt_out = dealt(self._sockets, len(self._workers))
        ready = [worker.start(sockets) for worker, sockets in zip(self._workers, dealt_out, strict=True)]
        try:
            yield DeferredList(ready, fireOnOneErrback=True, consumeErrors=True)
        except Exception as error:
            self._draining = True
            for worker in self._workers:
                worker.kill()
            failure: Any = getattr(error, "subFailure", None)
            raise OSError(failure.getErrorMessage() if failure is not None else str(error)) from None
        self._tending.start(_TEND_EVERY, now=False)
        # To look at all there is takes it longer than a request does, and workers may have to share a core with it.
        spare_collector()
        for name, options in self._configuration.entry_points.items():
            number = self._sockets[name][0].getsockname()[1]
            _log.info(
                "entry point {name} listens on {host}:{port}",
                name=name,
                host=options.address.host or "*",
                port=number,
            )
        _log.info(
            "{count} workers serve, processes {processes}",
            count=len(self._workers),
            processes=", ".join(map(str, self.processes)),
        )

    @inlineCallbacks
    def drain(self) -> Any:
        """Accept nobody any more; the Deferred fires when the last worker has ended."""
        self._draining = True
        if self._tending.running:
            self._tending.stop()
        steered = [
            self._sockets.pop(name)
            for name, options in self._configuration.entry_points.items()
            if options.reuse_port and name in self._sockets
        ]
        for sockets in steered:
            steer_to_next(sockets[0], len(sockets))
        if steered:
            yield deferLater(self._reactor, _HALF_MADE_WITHIN)
        self._close(self._sockets.values())
        ended = [worker.drain(self._end_within()) for worker in self._workers]
        if steered:
            # Until no worker has any of them: what comes must go elsewhere until there is nothing to come to.
            yield deferLater(self._reactor, _CLOSED_WITHIN)
            for sockets in steered:
                share_again(sockets[0])
            self._close(steered)
        yield DeferredList(ended)

    def _end_within(self) -> float:
        """Seconds that workers have to end."""
        cycles = [options.transport.life_cycle for options in self._configuration.entry_points.values()]
        longest = max((one.request_accept_grace_timeout + one.grace_time_out for one in cycles), default=0.0)
        return longest + _END_WITHIN

    def stop(self) -> Deferred[Any]:
        """Let go of what is left, after the last worker has ended."""
        self._reception.close()
        self.deadlines.stop()
        self.lag.stop()
        limits, self._limits = self._limits, None
        if limits is not None:
            limits.close()
            os.close(limits.descriptor)
        return self._fork_server.stop()

    @staticmethod
    def _close(many: Iterable[Sequence[socket.socket]]) -> None:
        for sockets in many:
            for one in sockets:
                one.close()

    # Its workers.

    def _tell(self, message: Any) -> None:
        for worker in self._workers:
            worker.send(message)

    def _tend(self) -> None:
        """Tell what has changed by itself."""
        known = messages.Know(self._is_ready(), self._is_routed())
        if known != self._known:
            self._known = known
            self._tell(known)
        if self._staples is not None:
            tls = self._table.tls
            shown = (*tls.certificates, *(() if tls.default is None else (tls.default,)))
            now = {digest_of(one): self._staples(one) for one in shown}
            changed = {digest: response for digest, response in now.items() if self._stapled.get(digest) != response}
            if changed:
                self._stapled = now
                self._tell(messages.Staple(changed))

    def briefing(self, number: int) -> list[Any]:
        """What a worker has to be told at its start."""
        return [
            messages.Start(number, self._configuration, self._resources, self._ticket_secret),
            self._known,
            messages.Staple(self._stapled),
            messages.Show(self._challenges),
            messages.Apply(difference(RoutingTable(), self._table)),
            *(messages.Judge(service, url, is_well) for (service, url), is_well in self._judged.items()),
        ]

    def spawn(self, worker: _Worker, sockets: Mapping[str, Sequence[socket.socket]]) -> tuple[int, int]:
        """Have the process of *worker* forked; returns the descriptors of its pipes, which the worker closes."""
        assert self._limits is not None
        from_parent, to_worker = os.pipe()
        from_worker, to_parent = os.pipe()
        stdio.StandardIO(worker.messages, from_worker, to_worker, self._reactor)  # type: ignore[call-arg]
        door = self._reception.open()
        listening = [one.fileno() for of_one in sockets.values() for one in of_one]
        try:
            self._fork_server.fork(
                worker.number, [from_parent, to_parent, door.fileno(), self._limits.descriptor, *listening]
            )
        except OSError as error:
            worker.has_ended(error.strerror or str(error))
        finally:
            os.close(from_parent)
            os.close(to_parent)
            door.close()
        return from_worker, to_worker

    def _told_of(self, message: Any) -> None:
        """The fork server says what has become of a worker."""
        worker = self._workers[message.number]
        if isinstance(message, messages.Forked):
            worker.forked(message.process)
        elif isinstance(message, messages.CannotFork):
            worker.has_ended(message.reason)
        elif isinstance(message, messages.Ended) and message.process == worker.process:
            worker.has_ended(how(message.code))

    def _orphaned(self) -> None:
        """The fork server is no more."""
        for worker in self._workers:
            worker.orphaned()

    def reap(self, process: int) -> None:
        """Take note of the end of an orphan: orphans fall to the first process of a container, which this may be."""
        with contextlib.suppress(ChildProcessError):
            child, _ = os.waitpid(process, os.WNOHANG)
            if not child:
                self.later(_REAP_EVERY, lambda: self.reap(process))

    def ended(self, worker: _Worker) -> None:
        """The process of *worker* is no more: what it had under way is over."""
        if self._limits is not None:
            self._limits.clear(worker.number)

    def told(self, worker: _Worker, tell: messages.Tell) -> None:
        """A worker says how it does."""
        worker.report = tell.report
        worker.lag = max(worker.lag, tell.lag)
        if self.traffic is not None and tell.traffic:
            self.traffic.add(tell.traffic)

    def later(self, seconds: float, call: Callable[[], object]) -> Any:
        """Call *call* after so many seconds."""
        return self._reactor.callLater(seconds, call)

    def seconds(self) -> float:
        """The time by the reactor's clock."""
        return float(self._reactor.seconds())

    @property
    def is_draining(self) -> bool:
        """Whether workers are to end."""
        return self._draining


class _Worker:
    """One worker, whatever process it is for the time being.

    A process has ended when the pipe from it has, and when it is known how, or that nobody will know.

    :ivar process: the process's id, 0 while there is none.
    :ivar messages: what it is told, and tells.
    :ivar report: what it has told last; :ivar lag: the longest of its reactor's since that was last asked.
    """

    def __init__(self, parent: Workers, number: int) -> None:
        self._parent = parent
        self.number = number
        self.process = 0
        self.messages = messages.Messages(self._received, self._cut)
        self.report = Report()
        self.lag = 0.0
        self._sockets: Mapping[str, Sequence[socket.socket]] = {}
        self._restarts = Restarts()
        self._began = 0.0
        self._is_there = self._is_cut = self._is_orphan = False
        self._how = ""
        self._pipes: tuple[int, ...] = ()
        self._listening: Deferred[None] | None = None
        self._ended: Deferred[None] | None = None
        self._timer: Any = None

    def start(self, sockets: Mapping[str, Sequence[socket.socket]]) -> Deferred[None]:
        """Start it; the Deferred fires when it accepts clients, or fails if it can't."""
        self._sockets = sockets
        listening: Deferred[None] = Deferred()
        self._listening = listening
        self._spawn()
        return listening

    def _spawn(self) -> None:
        self._timer = None
        self._began = self._parent.seconds()
        self._is_there, self._is_cut, self._is_orphan, self._how = True, False, False, ""
        self.messages = messages.Messages(self._received, self._cut)
        self._pipes = self._parent.spawn(self, self._sockets)

    def send(self, message: Any) -> None:
        """Tell it, if it is there."""
        if self.process:
            self.messages.send(message)

    def drain(self, within: float) -> Deferred[None]:
        """Have it end; it is killed after so many seconds. The Deferred fires when it has ended."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if not self.process:
            self._leave()
            return succeed(None)
        self._ended = Deferred()
        self._timer = self._parent.later(within, self.kill)
        self.send(messages.Drain())
        return self._ended

    def kill(self) -> None:
        """End its process at once."""
        if self.process:
            _log.error("worker {number} is killed: it has not ended in time", number=self.number)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)
        else:
            self._leave()

    def _leave(self) -> None:
        """Have the process end that is being forked, or has been, unknown to anybody: it finds its pipe closed."""
        if self._is_there and not self._is_cut:
            self.messages.transport.loseConnection()  # type: ignore[union-attr]

    # From the fork server.

    def forked(self, process: int) -> None:
        """It is there, as this process."""
        self.process = process
        places = itertools.count()
        listen = messages.Listen({name: [next(places) for _ in of_one] for name, of_one in self._sockets.items()})
        for message in (*self._parent.briefing(self.number), listen):
            self.send(message)

    def has_ended(self, how: str) -> None:
        """Its process has ended, or could not be forked."""
        self._how = how
        self._end()

    def orphaned(self) -> None:
        """There is no fork server any more that would tell how it ends."""
        self._is_orphan = True
        if not self.process:
            self._leave()
        self.has_ended("nobody has seen how")

    # From the process.

    def _received(self, message: Any) -> None:
        if isinstance(message, messages.Tell):
            self._parent.told(self, message)
        elif isinstance(message, messages.Listening):
            listening, self._listening = self._listening, None
            if listening is not None:
                listening.callback(None)
            else:
                _log.info("worker {number} serves again, process {process}", number=self.number, process=self.process)
        elif isinstance(message, messages.CannotStart):
            self._cannot_start(message.reason)

    def _cannot_start(self, reason: str) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.errback(OSError(reason))

    def _cut(self) -> None:
        self._is_cut = True
        for descriptor in self._pipes:
            os.close(descriptor)
        self._pipes = ()
        self._end()

    def _end(self) -> None:
        if not (self._is_there and self._is_cut and self._how):
            return
        self._is_there = False
        process, self.process, self.report = self.process, 0, Report()
        self._parent.ended(self)
        if process and self._is_orphan:
            self._parent.reap(process)
        if self._ended is not None:
            if self._timer.active():
                self._timer.cancel()
            ended, self._ended = self._ended, None
            ended.callback(None)
            return
        if self._listening is not None:
            self._cannot_start(f"worker {self.number} has ended before it could serve: {self._how}")
            return
        if self._parent.is_draining:
            return
        self._restarts = self._restarts.died(self._parent.seconds() - self._began)
        _log.error(
            "worker {number}{what}: {how}; {then}",
            number=self.number,
            what=f", process {process}, has ended" if process else " could not be forked",
            how=self._how,
            then=self._restarts.said,
        )
        self._timer = self._parent.later(self._restarts.pause, self._spawn)


def sum_of(reports: Sequence[Report]) -> Report:
    """What all of them say together."""
    connections: dict[str, int] = {}
    refusals: dict[str, dict[str, int]] = {}
    in_flight: dict[str, int] = {}
    troubles: dict[str, str] = {}
    draining: dict[tuple[str, str, str, str], int] = {}
    redis: dict[str, tuple[bool, int, int]] = {}
    requests: dict[str, int] = {}
    for report in reports:
        for name, count in report.connections.items():
            connections[name] = connections.get(name, 0) + count
        for name, reasons in report.refusals.items():
            total = refusals.setdefault(name, {})
            for reason, count in reasons.items():
                total[reason] = total.get(reason, 0) + count
        for name, count in report.requests.items():
            requests[name] = requests.get(name, 0) + count
        for url, count in report.in_flight.items():
            in_flight[url] = in_flight.get(url, 0) + count
        troubles.update(report.troubles)
        for name, (is_well, decided, alone) in report.redis.items():
            others = redis.get(name, (True, 0, 0))
            redis[name] = (is_well and others[0], decided + others[1], alone + others[2])
        for *who, count in report.draining:
            key = (who[0], who[1], who[2], who[3])
            draining[key] = draining.get(key, 0) + count
    share = sum(report.refused_share for report in reports) / max(1, len(reports))
    left = [(*who, count) for who, count in draining.items()]
    return Report(connections, refusals, in_flight, troubles, left, redis, share, requests)
