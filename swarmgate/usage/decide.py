"""From what agents have told to how much is in use: two documents of an agent come to rates. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from swarmgate.agent.document import Document, TaskCounters


@attrs.frozen
class Moved:
    """Octets a second, to and from somewhere."""

    here: float = 0.0
    there: float = 0.0


@attrs.frozen
class TaskUsage:
    """How much a task is using.

    :ivar cpu: processors that it keeps busy; ``memory``: octets; ``memory_limit``: None for no limit.
    :ivar network: received and sent; ``disk``: read and written.
    """

    cpu: float
    memory: int
    memory_limit: int | None = None
    network: Moved = attrs.field(factory=Moved)
    disk: Moved = attrs.field(factory=Moved)


@attrs.frozen
class NodeUsage:
    """How much of a node is in use.

    :ivar at: when it was so, in seconds since 1970, by the gate's clock.
    :ivar cpu: share of all processors that is in use, from 0 to 1.
    :ivar network: None where the agent sees no network card.
    :ivar fault: why the agent tells nothing of tasks, ``""`` if it does.
    """

    at: float
    cpus: int
    cpu: float
    load: tuple[float, float, float]
    memory_total: int
    memory_used: int
    disk_total: int
    disk_used: int
    network: Moved | None = None
    disk: Moved = attrs.field(factory=Moved)
    fault: str = ""


def usage_of(before: Document, now: Document, at: float) -> tuple[NodeUsage, dict[str, TaskUsage]] | None:
    """How much was in use between two documents of an agent, and of each task that both tell of.

    None: there is no time between them, or the agent has begun anew, or the machine has.
    """
    seconds = now.seconds - before.seconds
    if seconds <= 0 or now.node.busy < before.node.busy:
        return None
    node, earlier = now.node, before.node
    busy = (node.busy - earlier.busy) / seconds / max(node.cpus, 1)
    network = None
    if node.received is not None and node.sent is not None and earlier.received is not None:
        network = Moved(_rate(node.received, earlier.received, seconds), _rate(node.sent, earlier.sent or 0, seconds))
    told = NodeUsage(
        at,
        node.cpus,
        min(1.0, busy),
        node.load,
        node.memory_total,
        node.memory_used,
        node.disk_total,
        node.disk_used,
        network,
        Moved(_rate(node.read, earlier.read, seconds), _rate(node.written, earlier.written, seconds)),
        now.fault,
    )
    tasks = {name: _task(before.tasks[name], one, seconds) for name, one in now.tasks.items() if name in before.tasks}
    return told, tasks


def _task(before: TaskCounters, now: TaskCounters, seconds: float) -> TaskUsage:
    return TaskUsage(
        _rate(now.cpu, before.cpu, seconds),
        now.memory,
        now.memory_limit,
        Moved(_rate(now.received, before.received, seconds), _rate(now.sent, before.sent, seconds)),
        Moved(_rate(now.read, before.read, seconds), _rate(now.written, before.written, seconds)),
    )


def _rate(now: float, before: float, seconds: float) -> float:
    return max(0.0, now - before) / seconds


def total(tasks: Iterable[TaskUsage]) -> TaskUsage | None:
    """What tasks are using together, None if there are none; there is no limit if one of them has none."""
    all_of_them = list(tasks)
    if not all_of_them:
        return None
    limits = [one.memory_limit for one in all_of_them]
    return TaskUsage(
        sum(one.cpu for one in all_of_them),
        sum(one.memory for one in all_of_them),
        None if None in limits else sum(limit or 0 for limit in limits),
        _sum(one.network for one in all_of_them),
        _sum(one.disk for one in all_of_them),
    )


def _sum(many: Iterable[Moved]) -> Moved:
    pairs = [(one.here, one.there) for one in many]
    return Moved(sum(here for here, _ in pairs), sum(there for _, there in pairs))


# ---- as JSON


def node_told(usage: NodeUsage, error: str) -> Mapping[str, Any]:
    """A node's usage as the API tells it."""
    return {
        "at": round(usage.at, 3),
        "cpus": usage.cpus,
        "cpu": round(usage.cpu, 4),
        "load": [round(one, 2) for one in usage.load],
        "memory": {"total": usage.memory_total, "used": usage.memory_used},
        "network": None if usage.network is None else _moved(usage.network, "received", "sent"),
        "disk": {"total": usage.disk_total, "used": usage.disk_used, **_moved(usage.disk, "read", "written")},
        "error": error or usage.fault or None,
    }


def silent_node(error: str) -> Mapping[str, Any]:
    """The same of a node whose agent has told nothing yet, and why it has not."""
    return {
        "at": None,
        "cpus": None,
        "cpu": None,
        "load": None,
        "memory": None,
        "network": None,
        "disk": None,
        "error": error,
    }


def task_told(usage: TaskUsage) -> Mapping[str, Any]:
    """A task's usage, or that of tasks together, as the API tells it."""
    return {
        "cpu": round(usage.cpu, 4),
        "memory": usage.memory,
        "memoryLimit": usage.memory_limit,
        "network": _moved(usage.network, "received", "sent"),
        "disk": _moved(usage.disk, "read", "written"),
    }


def _moved(moved: Moved, here: str, there: str) -> dict[str, int]:
    return {here: round(moved.here), there: round(moved.there)}
