"""What a gate has to do with its replicas, in one: :class:`Replicas`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from prometheus_client.metrics_core import Metric
from twisted.internet.defer import Deferred, succeed

from swarmgate.fetch import Fetch
from swarmgate.observe.summary import Meter
from swarmgate.observe.turns import Turns
from swarmgate.providers.swarm.replicas import Replica, replicas_of
from swarmgate.providers.swarm.snapshot import Snapshot
from swarmgate.replicas import metrics
from swarmgate.replicas.door import Door
from swarmgate.replicas.peers import Peers
from swarmgate.replicas.whole import Whole


class Replicas:
    """The gate's replicas, as this one sees them.

    :param meter: of this replica's own traffic.
    :param seen: gives the last look at the Swarm, None before the first.
    :param own_container: id of the container that this process runs in, ``""`` for none.
    :param port: where replicas are asked; 0: they don't ask each other.
    :param wall: seconds since 1970.
    :ivar whole: tells of the traffic of all; ``alone``: of this one's.
    """

    def __init__(
        self,
        reactor: Any,
        meter: Meter,
        turns: Turns,
        seen: Callable[[], Snapshot | None],
        own_container: str,
        port: int,
        wall: Callable[[], float],
    ) -> None:
        self._seen = seen
        self._own_container = own_container
        self._known: tuple[Snapshot, tuple[Replica, ...]] | None = None
        self._peers: Peers | None = None
        self._door: Door | None = None
        if port:
            # Others know this one by the address that the Swarm tells of.
            self._peers = Peers(reactor, Fetch(reactor, source=self._own_address), self.running, port, wall, turns)
            self.alone = Whole(meter, None, reactor.seconds, turns, is_only=False)
            self.whole = Whole(meter, self._peers, reactor.seconds, turns)
            self._door = Door(reactor, self.running, self.alone.for_others, port)
        else:
            self.whole = self.alone = Whole(meter, None, reactor.seconds, turns)

    def start(self) -> None:
        """Answer other replicas, as soon as there are any."""
        if self._door is not None:
            self._door.start()

    def stop(self) -> Deferred[Any]:
        """Ask and answer nobody any more."""
        if self._peers is not None:
            self._peers.stop()
        return succeed(None) if self._door is None else self._door.stop()

    def running(self) -> tuple[Replica, ...]:
        """Those that run, see :func:`~swarmgate.providers.swarm.replicas.replicas_of`."""
        snapshot = self._seen()
        if snapshot is None:
            return ()
        if self._known is None or self._known[0] is not snapshot:
            self._known = snapshot, replicas_of(snapshot, self._own_container)
        return self._known[1]

    def _own_address(self) -> str:
        return next((one.address for one in self.running() if one.is_self), "")

    def listed(self) -> Deferred[list[dict[str, Any]]]:
        """The replicas as the API lists them, when they have been asked."""
        peers = self._peers
        return succeed([]) if peers is None else peers.ask().addCallback(lambda _: peers.listed())

    def metrics(self, prefix: str) -> Callable[[], Iterable[Metric]]:
        """What gives, in any thread, the metrics of questions until now."""
        if self._peers is None or self._door is None:
            return lambda: ()
        counts = (self._peers.answers, self._peers.silences, self._door.answered, self._door.refused)
        return partial(metrics.families, prefix, *counts)
