"""How long it takes from a task's start until the gate sends it requests."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

import attrs

from swarmgate.providers.swarm.decide import Decision
from swarmgate.providers.swarm.decode import nanoseconds
from swarmgate.providers.swarm.snapshot import Snapshot, Task

#: Upper bounds in seconds, and the last for all above.
BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, float("inf"))


def newly_served(before: Snapshot, after: Snapshot, decision: Decision) -> list[Task]:
    """The tasks that run in *after*, did not in *before*, and are of services that *decision* has servers of."""
    old = {task.id for task in before.tasks if task.is_running}
    found = []
    for task in after.tasks:
        if task.is_running and task.id not in old:
            share = decision.shares.get(task.service_id)
            if share is not None and any(service.servers for service in share.services):
                found.append(task)
    return found


@attrs.frozen
class Counted:
    """How many tasks took how long, by :data:`BOUNDS`, how long together, and of how many it can't be said."""

    counts: tuple[int, ...] = (0,) * len(BOUNDS)
    seconds: float = 0.0
    unknown: int = 0

    def with_tasks(self, tasks: Iterable[Task], now: float) -> Counted:
        """The same with *tasks*, which are served since *now*, in seconds since 1970.

        When a task has started its node tells by its own clock (Docker API ``Status.Timestamp``). A node whose clock
        is ahead of the gate's by more than all this takes would make it negative: that is no time, but unknown. A
        difference that is smaller, or a clock that is behind, goes into what is told: nodes need NTP.
        """
        counts, seconds, unknown = list(self.counts), self.seconds, self.unknown
        for task in tasks:
            try:
                took = now - nanoseconds(task.since) / 1e9 if task.since else -1.0
            except ValueError:
                took = -1.0
            if took < 0:
                unknown += 1
            else:
                counts[bisect_left(BOUNDS, took)] += 1
                seconds += took
        return Counted(tuple(counts), seconds, unknown)

    def cumulative(self) -> Mapping[str, int]:
        """How many took at most how long, by bounds as Prometheus writes them."""
        so_far, told = 0, {}
        for bound, count in zip(BOUNDS, self.counts, strict=True):
            so_far += count
            told["+Inf" if bound == float("inf") else str(bound)] = so_far
        return told
