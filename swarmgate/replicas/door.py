"""Where other replicas ask this one: :class:`Door` lets in nobody else.

It listens at this task's own address in a network that the replicas share, and only while the Swarm says that there are
others. A connection from any other address than a running task's of the gate's own service is closed before anything
of it is read: what counts is where TCP says it comes from, never what a request says of itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from swarmgate.providers.swarm.replicas import Replica

_log = Logger("swarmgate")

_EVERY = 1.0  # Seconds between two looks at who the replicas are.
_IDLE = 30.0  # Seconds that a connection may wait for its next question.


class TrafficResource(Resource):
    """Answers ``/traffic``."""

    isLeaf = True

    def __init__(self, told: Callable[[], Deferred[bytes]]) -> None:
        Resource.__init__(self)
        self._told = told

    def render(self, request: Any) -> Any:
        if request.path != b"/traffic" or request.method != b"GET":
            request.setResponseCode(404)
            return b"there is /traffic\n"
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def tell(body: bytes) -> None:
            if not gone:
                request.setHeader(b"Content-Type", b"application/x-ndjson")
                request.setHeader(b"Content-Length", b"%d" % len(body))
                request.write(body)
                request.finish()

        def failed(failure: Any) -> None:
            _log.failure("while telling another replica", failure)
            if not gone:
                request.setResponseCode(500)
                request.finish()

        self._told().addCallback(tell).addErrback(failed)
        return NOT_DONE_YET


class Guarded(Site):
    """A server for a few addresses alone.

    :ivar refused: how many connections came from others.
    """

    noisy = False

    def __init__(self, resource: Resource, admitted: Callable[[], frozenset[str]]) -> None:
        Site.__init__(self, resource, timeout=_IDLE)
        self._admitted = admitted
        self.refused = 0

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if getattr(addr, "host", "") not in self._admitted():
            self.refused += 1
            return None
        return Site.buildProtocol(self, addr)

    def log(self, request: Any) -> None:
        """The access log is for clients."""


class Door:
    """Listens while there are other replicas.

    :param reactor: for TCP and time.
    :param replicas: gives those that run, this one first.
    :param told: what they are told.
    :ivar answered: how many questions were let in; ``refused``: connections of others.
    """

    def __init__(
        self,
        reactor: Any,
        replicas: Callable[[], tuple[Replica, ...]],
        told: Callable[[], Deferred[bytes]],
        port: int,
    ) -> None:
        self._reactor = reactor
        self._replicas = replicas
        self._told = told
        self._port = port
        self.answered = 0
        self._site = Guarded(TrafficResource(self._tell), self._admitted)
        self._listening: Any = None
        self._address = ""
        self._fault = ""
        clock: IReactorTime = reactor
        self._tending = LoopingCall(self._tend)
        self._tending.clock = clock

    @property
    def refused(self) -> int:
        """Connections that came from elsewhere."""
        return self._site.refused

    def start(self) -> None:
        """Listen as soon as there are others."""
        self._tending.start(_EVERY, now=True)

    def stop(self) -> Deferred[Any]:
        """Listen no more."""
        if self._tending.running:
            self._tending.stop()
        return self._close()

    def _tell(self) -> Deferred[bytes]:
        self.answered += 1
        return self._told()

    def _admitted(self) -> frozenset[str]:
        return frozenset(one.address for one in self._replicas() if one.address and not one.is_self)

    def _tend(self) -> None:
        replicas = self._replicas()
        own = next((one.address for one in replicas if one.is_self), "")
        wanted = own if len(replicas) > 1 else ""
        if wanted == self._address:
            return
        self._close()
        if not wanted:
            return
        try:
            self._listening = self._reactor.listenTCP(self._port, self._site, interface=wanted)
            self._address, self._fault = wanted, ""
        except OSError as error:
            # As while another process of this gate, which is about to end, has the port.
            if str(error) != self._fault:
                self._fault = str(error)
                _log.warn("api.replicas: other replicas can't ask this one: {reason}", reason=self._fault)

    def _close(self) -> Deferred[Any]:
        listening, self._listening, self._address = self._listening, None, ""
        if listening is None:
            return succeed(None)
        closing: Deferred[Any] = listening.stopListening()
        return closing
