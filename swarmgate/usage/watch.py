"""Asks the Swarm's agents, while somebody wants to know, and keeps what they have told last: :class:`UsageWatch`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from swarmgate.agent.document import LONGEST, BadDocument, Document, decoded
from swarmgate.agent.proof import proof
from swarmgate.fetch import NoAnswer
from swarmgate.providers.swarm.agents import Agent, agents_of, has_agents
from swarmgate.providers.swarm.snapshot import Snapshot
from swarmgate.usage.decide import NodeUsage, TaskUsage, node_told, silent_node, task_told, total, usage_of

_log = Logger("swarmgate")

EVERY = 5.0  # Seconds between two questions to an agent,
FIRST = 1.0  # and between the first two: one document tells no rates.
WITHIN = 3.0  # Seconds that an agent may take to answer.
VIEWED = 30.0  # Seconds for which agents are asked after somebody has looked,
SCRAPED = 150.0  # and after a scrape: Prometheus asks every two minutes at the least.
_SLACK = 0.1  # Seconds: a question that is due at a tick is not left to the next one.
OLD = 30.0  # Seconds after which what was told tells nothing of now, if nobody was asked meanwhile.

Ask = Callable[..., Deferred[bytes]]


@attrs.frozen
class Told:
    """How much is in use, as the API tells it.

    :ivar nodes: by the node's id; nodes without an agent are none of them, if there is no service of agents.
    :ivar tasks: by the task's id; ``services``: by the service's.
    """

    nodes: Mapping[str, Any] = attrs.field(factory=dict)
    tasks: Mapping[str, Any] = attrs.field(factory=dict)
    services: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Measured:
    """The same as values, for metrics.

    :ivar nodes: by host name, with whether the agent has answered; ``services``: by the service's name.
    :ivar answers: how many questions agents have answered; ``silences``: and not.
    """

    nodes: Mapping[str, tuple[NodeUsage | None, bool]] = attrs.field(factory=dict)
    services: Mapping[str, TaskUsage] = attrs.field(factory=dict)
    answers: int = 0
    silences: int = 0


class _Node:
    """What is known of a node.

    :ivar document: the last that its agent has told, None if the next one begins anew.
    :ivar error: why it did not answer the last time, ``""`` if it did.
    """

    def __init__(self) -> None:
        self.task = ""
        self.document: Document | None = None
        self.usage: NodeUsage | None = None
        self.tasks: Mapping[str, TaskUsage] = {}
        self.error = ""
        self.asking: Deferred[Any] | None = None
        self.asked = self.due = 0.0


class UsageWatch:
    """Keeps how much is in use.

    :param clock: the reactor's clock.
    :param fetch: asks, as :class:`~swarmgate.fetch.Fetch` does.
    :param seen: gives the last look at the Swarm and the ids of the gate's own networks; None: there was none yet.
    :param port: that agents listen on where no label says it.
    :param wall: seconds since 1970.
    :param token: what agents want to be shown that it is known, ``b""`` for nothing.
    """

    def __init__(
        self,
        clock: IReactorTime,
        fetch: Ask,
        seen: Callable[[], tuple[Snapshot, frozenset[str] | None] | None],
        port: int,
        wall: Callable[[], float],
        token: bytes = b"",
    ) -> None:
        self._clock = clock
        self._fetch = fetch
        self._seen = seen
        self._port = port
        self._wall = wall
        self._token = token
        self._nodes: dict[str, _Node] = {}
        self._found: tuple[Snapshot, dict[str, Agent]] | None = None
        self._wanted_until = 0.0
        self._answers = self._silences = 0
        self._told: tuple[object, Told] | None = None
        self._version = 0
        self._asking = LoopingCall(self._ask)
        self._asking.clock = clock

    # Who wants to know.

    def want(self, seconds: float) -> None:
        """Ask for so long from now on."""
        self._wanted_until = max(self._wanted_until, self._clock.seconds() + seconds)
        if not self._asking.running:
            self._forget_old()
            self._asking.start(FIRST, now=True)

    def stop(self) -> None:
        """Ask nobody any more."""
        if self._asking.running:
            self._asking.stop()
        for node in self._nodes.values():
            if node.asking is not None:
                node.asking.cancel()

    def _forget_old(self) -> None:
        """What was told before nobody wanted to know is of another time."""
        for known in self._nodes.values():
            known.document, known.due = None, 0.0
            if known.usage is not None and self._wall() - known.usage.at > OLD:
                known.usage, known.tasks, known.error = None, {}, ""
        self._version += 1

    # Asking.

    def _ask(self) -> None:
        now = self._clock.seconds()
        if now > self._wanted_until:
            self._asking.stop()
            return
        seen = self._seen()
        if seen is None:
            return
        if self._found is None or self._found[0] is not seen[0]:
            # Of thousands of services that takes a while; most seconds nothing has changed.
            agents = agents_of(*seen, self._port)
            self._found = seen[0], agents
            expected = bool(agents) or has_agents(seen[0])
            self._nodes = {node.id: self._nodes.get(node.id) or _Node() for node in seen[0].nodes if expected}
            self._version += 1  # Of this very snapshot, what was known before may have been told meanwhile.
        for node, known in self._nodes.items():
            agent = self._found[1].get(node)
            if agent is None or not agent.url:
                self._silent(known, agent.fault if agent is not None else "no agent runs on it")
            elif known.asking is None and now >= known.due - _SLACK:
                self._ask_one(agent, known)

    def _ask_one(self, agent: Agent, known: _Node) -> None:
        if known.task != agent.task:
            known.task, known.document = agent.task, None
        known.asked = self._clock.seconds()
        known.due = known.asked + EVERY
        fields = {"Authorization": self._proof(agent)} if self._token else {}
        asking = self._fetch(agent.url, seconds=WITHIN, longest=LONGEST, fields=fields)
        known.asking = asking
        asking.addCallback(decoded).addCallback(self._answered, known)
        asking.addErrback(self._failed, known)

    def _proof(self, agent: Agent) -> str:
        at = urlsplit(agent.url)
        return proof(self._token, at.hostname or "", at.port or 0, self._wall())

    def _answered(self, document: Document, known: _Node) -> None:
        known.asking = None
        self._answers += 1
        before, known.document = known.document, document
        usage = None if before is None else usage_of(before, document, self._wall())
        if usage is None:
            # The first of two, or the node has begun anew.
            known.due = known.asked + FIRST
            return
        known.usage, known.tasks = usage
        known.error = ""
        self._version += 1

    def _failed(self, failure: Any, known: _Node) -> None:
        known.asking = None
        self._silences += 1
        if not failure.check(NoAnswer, BadDocument):
            _log.failure("while asking an agent", failure)
        self._silent(known, f"its agent does not answer: {failure.value}")

    def _silent(self, known: _Node, error: str) -> None:
        if known.error != error:
            known.tasks = {}
            known.error = error
            self._version += 1

    # What is told.

    def told(self) -> Told:
        """How much is in use, as the API tells it."""
        seen = self._seen()
        if seen is None:
            return Told()
        mark = (seen[0], self._version)
        if self._told is None or self._told[0] != mark:
            self._told = mark, self._tell(seen[0])
        return self._told[1]

    def _tell(self, snapshot: Snapshot) -> Told:
        nodes = {
            name: node_told(known.usage, known.error) if known.usage is not None else silent_node(known.error)
            for name, known in self._nodes.items()
            if known.usage is not None or known.error
        }
        tasks, services = self._of_tasks(snapshot)
        return Told(
            nodes,
            {name: task_told(one) for name, one in tasks.items()},
            {name: task_told(one) for name, one in services.items()},
        )

    def _of_tasks(self, snapshot: Snapshot) -> tuple[dict[str, TaskUsage], dict[str, TaskUsage]]:
        """Usage by the task's id, and by the service's. An agent is believed of its own node's tasks alone."""
        tasks: dict[str, TaskUsage] = {}
        of_services: dict[str, list[TaskUsage]] = {}
        for task in snapshot.tasks:
            known = self._nodes.get(task.node_id)
            one = known.tasks.get(task.id) if known is not None else None
            if one is not None:
                tasks[task.id] = one
                of_services.setdefault(task.service_id, []).append(one)
        sums = {name: total(many) for name, many in of_services.items()}
        return tasks, {name: one for name, one in sums.items() if one is not None}

    def measured(self) -> Measured:
        """The same as values; of nodes and services that are there."""
        seen = self._seen()
        if seen is None:
            return Measured()
        snapshot = seen[0]
        hosts = {node.id: node.hostname for node in snapshot.nodes}
        names = {service.id: service.name for service in snapshot.services}
        _, services = self._of_tasks(snapshot)
        return Measured(
            {
                hosts[name]: (known.usage, not known.error)
                for name, known in self._nodes.items()
                if name in hosts and (known.usage is not None or known.error)
            },
            {names[name]: one for name, one in services.items() if name in names},
            self._answers,
            self._silences,
        )
