"""How much a node's containers are using, as its Docker engine tells.

Asked for are ``GET /containers/json``, for the containers of Swarm's tasks alone, and ``GET /containers/ID/stats`` with
``one-shot``, which the engine answers at once from its cgroups (API 1.41, Docker 20.10), whatever their version. A
socket proxy has to allow just these: ``CONTAINERS``. Nothing that they tell of labels, environment or commands is kept
but the names of the service and of the task.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import attrs
from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore

from swarmgate.agent.document import MOST_TASKS, TaskCounters
from swarmgate.fetch import NoAnswer

_TASK = "com.docker.swarm.task.id"
_NAME = "com.docker.swarm.task.name"
_SERVICE = "com.docker.swarm.service.name"
_LIST = "/containers/json?filters=" + quote(json.dumps({"label": [_TASK], "status": ["running"]}), safe="")
_TOGETHER = 8  # Containers that are asked for at a time.
_WITHIN = 5.0  # Seconds for each answer.
_LONGEST_LIST = 16 * 1024 * 1024
_LONGEST_STATS = 1024 * 1024

Ask = Callable[..., Deferred[bytes]]


@attrs.frozen
class Running:
    """A container of a task.

    :ivar slot: what the service's tasks are told apart by: the number of a replica, or the id of a global one's node.
    """

    id: str
    task: str
    service: str
    slot: str
    created: int = 0


@attrs.frozen
class Containers:
    """What is running on a node.

    :ivar counters: by the task's id. Containers that have ended meanwhile are none of them.
    :ivar running: the tasks by their ids.
    :ivar fault: why the engine told nothing, ``""`` if it did.
    """

    counters: Mapping[str, TaskCounters] = attrs.field(factory=dict)
    running: Mapping[str, Running] = attrs.field(factory=dict)
    fault: str = ""


class Engine:
    """The engine of this node.

    :param fetch: asks it, as :class:`~swarmgate.fetch.Fetch` does.
    :param base: what its URLs begin with.
    """

    def __init__(self, fetch: Ask, base: str) -> None:
        self._fetch = fetch
        self._base = base
        self._places = DeferredSemaphore(_TOGETHER)

    def look(self, memory: int) -> Deferred[Containers]:
        """What the containers of Swarm's tasks are using; it never fails.

        :param memory: octets that the node has: who may take as much has no limit.
        """
        asking: Deferred[Any] = self._fetch(self._base + _LIST, seconds=_WITHIN, longest=_LONGEST_LIST)
        asking.addCallback(lambda body: self._each(running_of(json.loads(body)), memory))
        return asking.addErrback(_not_told)

    def _each(self, running: list[Running], memory: int) -> Deferred[Containers]:
        def ask(one: Running) -> Deferred[TaskCounters]:
            url = f"{self._base}/containers/{quote(one.id, safe='')}/stats?stream=false&one-shot=true"
            asking = self._fetch(url, seconds=_WITHIN, longest=_LONGEST_STATS)
            return asking.addCallback(lambda body: counters_of(json.loads(body), memory))

        def told(results: list[tuple[bool, Any]]) -> Containers:
            pairs = [(one, value) for one, (good, value) in zip(running, results, strict=True) if good]
            reason = next((value.getErrorMessage() for good, value in results if not good), "") if not pairs else ""
            return Containers(
                {one.task: value for one, value in pairs},
                {one.task: one for one, _ in pairs},
                f"its engine does not tell of containers: {reason}" if reason else "",
            )

        return DeferredList([self._places.run(ask, one) for one in running], consumeErrors=True).addCallback(told)


def _not_told(failure: Any) -> Containers:
    reason = str(failure.value) if failure.check(NoAnswer) else "its answer can't be read"
    if reason.startswith("it answers 403"):
        reason = "not allowed (403); a socket proxy has to allow CONTAINERS"
    return Containers(fault=f"its engine does not tell of containers: {reason}")


def running_of(told: Any) -> list[Running]:
    """The tasks' containers of what ``GET /containers/json`` tells, the newest first; as many as are told of at most.

    :raises ValueError, TypeError, AttributeError, KeyError: it tells something else.
    """
    found = []
    for one in told:
        labels = one.get("Labels") or {}
        task, service = labels.get(_TASK, ""), labels.get(_SERVICE, "")
        if task and service:
            name = labels.get(_NAME, "").removeprefix(f"{service}.")
            found.append(Running(one["Id"], task, service, name.partition(".")[0], int(one.get("Created") or 0)))
    return sorted(found, key=lambda one: (-one.created, one.id))[:MOST_TASKS]


def counters_of(told: Any, memory: int) -> TaskCounters:
    """What ``GET /containers/ID/stats`` tells; what the engine leaves out is 0.

    Memory is what ``docker stats`` shows: without the files that were not used lately, which the kernel gives back.

    :param memory: octets that the node has.

    :raises ValueError, TypeError, AttributeError, KeyError: it tells something else.
    """
    stats = told.get("memory_stats") or {}
    details = stats.get("stats") or {}
    used = int(stats.get("usage") or 0)
    given_back = int(details.get("total_inactive_file", details.get("inactive_file", 0)) or 0)
    limit = int(stats.get("limit") or 0)
    networks = (told.get("networks") or {}).values()
    moved = {"read": 0, "write": 0}
    for one in (told.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ():
        kind = str(one.get("op")).lower()
        if kind in moved:
            moved[kind] += int(one.get("value") or 0)
    return TaskCounters(
        cpu=int(((told.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage") or 0) / 1e9,
        memory=used - given_back if given_back < used else used,
        memory_limit=limit if 0 < limit < memory else None,
        received=sum(int(one.get("rx_bytes") or 0) for one in networks),
        sent=sum(int(one.get("tx_bytes") or 0) for one in networks),
        read=moved["read"],
        written=moved["write"],
    )
