"""A Swarm in memory, and builders for what is seen of one: for our tests, the demo, and other people's tests.

::

    swarm = MemorySwarm()
    swarm.add_service("web", {"traefik.enable": "true"}, replicas=2)
    swarm.roll("web")
    swarm.fail("the daemon is gone")

Nothing in here reads a clock, waits, or opens a socket: what the Swarm does, it does when the test says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from swarmgate.providers.swarm.interface import ISwarm, Refused, SwarmError
from swarmgate.providers.swarm.operate import Log, LogLine, Operation
from swarmgate.providers.swarm.snapshot import Address, Network, Node, Port, Snapshot, SwarmService, Task

T = TypeVar("T")


def network(name: str = "golf", *, ingress: bool = False) -> Network:
    """Return an overlay network; its id is ``net-NAME``."""
    return Network(f"net-{name}", name, "overlay", ingress)


def node(hostname: str = "n1", **fields: Any) -> Node:
    """Return a node that is ready; its id is ``node-HOSTNAME``.

    :param fields: any others of :class:`Node`.
    """
    return Node(f"node-{hostname}", hostname, **fields)


def service(
    name: str = "web",
    labels: Mapping[str, str] | None = None,
    *,
    networks: Iterable[str] = ("golf",),
    ports: Iterable[Port | int] = (),
    vips: Mapping[str, str] | None = None,
    **fields: Any,
) -> SwarmService:
    """Return a Swarm service; its id is ``svc-NAME``.

    :param networks: names.
    :param ports: what it publishes; a number is a port published under the same number.
    :param vips: virtual addresses by the name of their network.
    :param fields: any others of :class:`SwarmService`.
    """
    return SwarmService(
        id=fields.pop("id", f"svc-{name}"),
        name=name,
        labels=tuple(sorted((labels or {}).items())),
        networks=tuple(sorted(f"net-{each}" for each in networks)),
        ports=tuple(port if isinstance(port, Port) else Port(port, port) for port in ports),
        vips=tuple(Address(f"net-{each}", ip) for each, ip in sorted((vips or {}).items())),
        **fields,
    )


def task(
    of: SwarmService | str = "web",
    slot: int = 1,
    ip: str = "",
    *,
    networks: Mapping[str, str] | None = None,
    on: str = "n1",
    state: str = "running",
    **fields: Any,
) -> Task:
    """Return a task of a service; its id is ``task-SERVICE-SLOT`` and its address ``10.0.0.SLOT`` in ``golf``.

    :param networks: its addresses by the name of their network, instead of ``ip``.
    :param on: host name of its node.
    :param fields: any others of :class:`Task`.
    """
    name, service_id = (of, f"svc-{of}") if isinstance(of, str) else (of.name, of.id)
    addresses = {"golf": ip or f"10.0.0.{slot}"} if networks is None else networks
    return Task(
        id=fields.pop("id", f"task-{name}-{slot}"),
        service_id=service_id,
        slot=slot,
        node_id=f"node-{on}",
        state=state,
        addresses=tuple(Address(f"net-{each}", address) for each, address in sorted(addresses.items())),
        **fields,
    )


def snapshot(*parts: SwarmService | Task | Network | Node) -> Snapshot:
    """Return the snapshot of these parts, in any order, with ``golf`` and ``n1`` where no network or node is given."""

    def kind(wanted: type[T]) -> tuple[T, ...]:
        return tuple(sorted((part for part in parts if isinstance(part, wanted)), key=lambda part: part.id))

    return Snapshot(kind(SwarmService), kind(Task), kind(Network) or (network(),), kind(Node) or (node(),))


@implementer(ISwarm)
class MemorySwarm:
    """A Swarm in memory: it is changed by methods, rings when Docker would, and answers, fails or waits as it is told.

    It begins with the networks ``ingress`` and ``golf`` and the node ``n1``. Tasks run at once on the nodes in turn,
    with the next free address of each network of their service.

    :ivar looks: how many full looks were asked for.
    :ivar task_looks: how many looks at the tasks.
    :ivar subscriptions: how many subscribers there are now.
    """

    def __init__(self, own_container: str = "") -> None:
        self.own_container = own_container
        self.looks = 0
        self.task_looks = 0
        self._services: dict[str, SwarmService] = {}
        self._before: dict[str, SwarmService] = {}
        self._refusal: Refused | None = None
        self._lines: dict[str, list[LogLine]] = {}
        self._failed: dict[str, Task] = {}
        self._tasks: dict[str, Task] = {}
        self._networks: dict[str, Network] = {}
        self._nodes: dict[str, Node] = {}
        self._numbers = itertools.count(1)
        self._hosts: dict[str, Iterable[int]] = {}
        self._listeners: list[tuple[Callable[[], None], Callable[[SwarmError], None]]] = []
        self._deaf = False
        self._failure = ""
        self._holding = False
        self._held: list[tuple[Deferred[Any], Any]] = []
        self._closed: Deferred[None] | None = None
        self.add_network("ingress", ingress=True)
        self.add_network("golf")
        self.add_node("n1")

    def __repr__(self) -> str:
        state = f" failing: {self._failure}" if self._failure else " closed" if self._closed else ""
        return f"<MemorySwarm {len(self._services)} services, {len(self._tasks)} tasks{state}>"

    # The interface.

    def look(self) -> Deferred[Snapshot]:
        """See :meth:`ISwarm.look`."""
        self.looks += 1
        return self._answer(self.now())

    def tasks(self) -> Deferred[tuple[Task, ...]]:
        """See :meth:`ISwarm.tasks`."""
        self.task_looks += 1
        return self._answer(self.now().tasks)

    def failed(self) -> Deferred[tuple[Task, ...]]:
        """See :meth:`ISwarm.failed`."""
        return self._answer(tuple(sorted(self._failed.values(), key=lambda task: task.id)))

    def operate(self, operation: Operation) -> Deferred[None]:
        """See :meth:`ISwarm.operate`."""
        if self._refusal is not None:
            return fail(self._refusal)
        done = self._answer(None)
        if done.called and not self._failure and self._closed is None:
            try:
                self._operate(operation)
            except Refused as error:
                return fail(error)
        return done

    def log(self, service: str, tail: int, task: str = "") -> Deferred[Log]:
        """See :meth:`ISwarm.log`."""
        if service not in self._services:
            return fail(Refused(404, f"service {service} not found"))
        lines = [line for line in self._lines.get(service, ()) if not task or line.task == task]
        return self._answer(Log(tuple(lines[-tail:])))

    def _operate(self, operation: Operation) -> None:
        name = operation.name
        if operation.is_of_node:
            if name not in self._nodes:
                raise Refused(404, f"node {name} not found")
            wanted = "drain" if operation.kind == "drain" else "active"
            self._nodes[name] = attrs.evolve(self._nodes[name], availability=wanted)
            self.ring()
            return
        if name not in self._services:
            raise Refused(404, f"service {name} not found")
        before = self._services[name]
        if operation.kind == "rollback":
            previous = self._before.pop(name, None)
            if previous is None:
                raise Refused(400, f"service {name} does not have a previous spec")
            self._services[name] = attrs.evolve(previous, version=next(self._numbers))
            if previous.replicas is not None:
                self.scale(name, previous.replicas)
        elif operation.kind == "scale":
            if before.replicas is None:
                raise Refused(400, f"{name} can't be scaled: its mode is Global")
            self.scale(name, operation.replicas)
        else:
            self.roll(name)
        if operation.kind != "rollback":
            self._before[name] = before

    def subscribe(self, ring: Callable[[], None], lost: Callable[[SwarmError], None]) -> Callable[[], None]:
        """See :meth:`ISwarm.subscribe`. Where it fails, ``lost`` is called before this returns."""
        listener = (ring, lost)

        def cancel() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        if self._failure or self._closed is not None:
            lost(SwarmError(self._failure or "the Swarm has been closed"))
        else:
            self._listeners.append(listener)
            ring()
        return cancel

    def close(self) -> Deferred[None]:
        """See :meth:`ISwarm.close`. What is held is waited for."""
        self._listeners.clear()
        if self._closed is None:
            self._closed = Deferred()
        self._finish()
        done: Deferred[None] = Deferred()
        self._closed.chainDeferred(done) if not self._closed.called else done.callback(None)
        return done

    # What is in it.

    @property
    def subscriptions(self) -> int:
        """How many subscribers there are."""
        return len(self._listeners)

    def now(self) -> Snapshot:
        """Return what a look would find."""

        def by_id(values: Mapping[str, Any]) -> tuple[Any, ...]:
            return tuple(sorted(values.values(), key=lambda value: value.id))

        return Snapshot(by_id(self._services), by_id(self._tasks), by_id(self._networks), by_id(self._nodes))

    def service(self, name: str) -> SwarmService:
        """Return the service of this name.

        :raises KeyError: there is none.
        """
        return self._services[name]

    def tasks_of(self, name: str) -> tuple[Task, ...]:
        """Return the tasks of a service that are wanted to run, by slot."""
        of = self._services[name].id
        return tuple(sorted((task for task in self._tasks.values() if task.service_id == of), key=lambda t: t.slot))

    # What happens to it.

    def add_network(self, name: str, *, ingress: bool = False) -> Network:
        """Add an overlay network, and ring."""
        added = self._networks[name] = network(name, ingress=ingress)
        self._hosts[added.id] = itertools.count(2)
        self.ring()
        return added

    def add_node(self, hostname: str, **fields: Any) -> Node:
        """Add a node, or put it in the place of the one of this name, and ring.

        :param fields: as for :func:`node`.
        """
        added = self._nodes[hostname] = node(hostname, **fields)
        self.ring()
        return added

    def add_service(
        self, name: str, labels: Mapping[str, str] | None = None, *, replicas: int = 1, **fields: Any
    ) -> SwarmService:
        """Add a service with its tasks running, and ring.

        :param fields: as for :func:`service`. It is younger than all before it unless ``created`` says otherwise.
        """
        number = next(self._numbers)
        fields.setdefault("created", number * 1_000_000_000)
        fields.setdefault("version", number)
        self._services[name] = service(name, labels, replicas=replicas, **fields)
        self._fill(name)
        self.ring()
        return self._services[name]

    def update_service(self, name: str, **changes: Any) -> SwarmService:
        """Change a service (``labels``, ``networks``, ``ports`` as for :func:`service`, or any field), and ring.

        Its tasks stay as they are, as with an update of labels; :meth:`roll` replaces them.
        """
        old = self._services[name]
        if "labels" in changes:
            changes["labels"] = tuple(sorted(changes["labels"].items()))
        if "networks" in changes:
            changes["networks"] = tuple(sorted(f"net-{each}" for each in changes["networks"]))
        if "ports" in changes:
            changes["ports"] = tuple(port if isinstance(port, Port) else Port(port, port) for port in changes["ports"])
        self._services[name] = attrs.evolve(old, version=next(self._numbers), **changes)
        self.ring()
        return self._services[name]

    def break_service(self, name: str, fault: str) -> None:
        """Let what is told of a service be unreadable, until its fault is updated to ``""``; and ring."""
        self.update_service(name, fault=fault)

    def scale(self, name: str, replicas: int) -> None:
        """Start or stop tasks of a service until there are so many, and ring."""
        self._services[name] = attrs.evolve(self._services[name], replicas=replicas, version=next(self._numbers))
        for task in self.tasks_of(name)[replicas:]:
            del self._tasks[task.id]
        self._fill(name)
        self.ring()

    def roll(self, name: str) -> None:
        """Replace all tasks of a service by new ones at new addresses, and ring."""
        for task in self.tasks_of(name):
            del self._tasks[task.id]
        self.update_service(name)
        self._fill(name)

    def remove_service(self, name: str) -> None:
        """Remove a service and its tasks, and ring."""
        for task in self.tasks_of(name):
            del self._tasks[task.id]
        del self._services[name]
        self.ring()

    def start_task(
        self, name: str, ip: str = "", *, slot: int = 0, state: str = "running", on: str = "", **fields: Any
    ) -> Task:
        """Start a task of a service, as the next slot unless one is given; this does not ring.

        :param ip: its address in all of the service's networks; by default the next free one of each.
        :param on: host name of its node; by default the nodes take turns.
        :param fields: any others of :class:`Task`.
        """
        of = self._services[name]
        number = next(self._numbers)
        nodes = sorted(self._nodes)
        added = Task(
            id=f"task-{number:06}",
            service_id=of.id,
            slot=slot or max((task.slot for task in self.tasks_of(name)), default=0) + 1,
            node_id=self._nodes[on or nodes[number % len(nodes)]].id,
            state=state,
            addresses=tuple(Address(each, ip or self._next_address(each)) for each in of.networks),
            **fields,
        )
        self._tasks[added.id] = added
        return added

    def set_task(self, task: Task, **changes: Any) -> Task:
        """Change fields of a task, as its ``state``; this does not ring."""
        changed = self._tasks[task.id] = attrs.evolve(self._tasks[task.id], **changes)
        return changed

    def stop_task(self, task: Task) -> None:
        """Let a task be wanted no longer; this does not ring."""
        del self._tasks[task.id]

    def _fill(self, name: str) -> None:
        wanted = self._services[name].replicas
        slots = {task.slot for task in self.tasks_of(name)}
        for slot in range(1, (len(self._nodes) if wanted is None else wanted) + 1):
            if slot not in slots:
                self.start_task(name, slot=slot)

    def _next_address(self, network_id: str) -> str:
        order = sorted(each.id for each in self._networks.values())
        host = next(iter(self._hosts[network_id]))
        return f"10.{order.index(network_id)}.{host >> 8}.{host & 255}"

    # What it tells, and how it fails.

    def fail_task(self, name: str, error: str, exit_code: int | None = None, *, slot: int = 0) -> Task:
        """Let a task of a service have failed, in the next slot unless one is given."""
        ended = next(self._numbers)
        task = self.start_task(name, slot=slot, state="failed", error=error, exit_code=exit_code, ended=ended)
        self._failed[task.id] = self._tasks.pop(task.id)
        return task

    def say(self, name: str, text: str, stream: str = "stdout", *, by: Task | None = None, at: str = "") -> None:
        """Let a task of a service log a line: the first unless *by* is given.

        :param at: when, in RFC 3339's form; each line has another time by default.
        """
        task = by or self.tasks_of(name)[0]
        moment = at or f"2026-01-31T12:00:{next(self._numbers) % 60:02}Z"
        self._lines.setdefault(name, []).append(LogLine(moment, task.id, task.node_id, stream, text))

    def refuse(self, status: int, message: str) -> None:
        """Let the engine refuse all operations from now on."""
        self._refusal = Refused(status, message)

    def ring(self) -> None:
        """Ring at all subscribers, unless :meth:`deafen` was called."""
        if not self._deaf:
            for ring, _ in list(self._listeners):
                ring()

    def deafen(self, deaf: bool = True) -> None:
        """Let changes ring no more, as an event stream does that has died without ending; or again."""
        self._deaf = deaf

    def drop_subscriptions(self, reason: str = "the event stream has ended") -> None:
        """Let the event stream end for all subscribers."""
        listeners, self._listeners = self._listeners, []
        for _, lost in listeners:
            lost(SwarmError(reason))

    def fail(self, reason: str = "the engine is gone") -> None:
        """Let every look and subscription fail from now on; subscriptions that are open stay so."""
        self._failure = reason

    def recover(self) -> None:
        """Let looks succeed again."""
        self._failure = ""

    def hold(self) -> None:
        """Hold the answers of looks that are asked for from now on, until :meth:`release`."""
        self._holding = True

    def release(self) -> None:
        """Give the answers that are held, as they were when asked for, and hold none from now on."""
        self._holding = False
        held, self._held = self._held, []
        for deferred, answer in held:
            if not deferred.called:
                deferred.callback(answer) if not isinstance(answer, SwarmError) else deferred.errback(answer)
        self._finish()

    def _answer(self, value: T) -> Deferred[T]:
        if self._closed is not None:
            return fail(SwarmError("the Swarm has been closed"))
        if self._holding:
            held: Deferred[T] = Deferred(lambda deferred: self._forget(deferred))
            self._held.append((held, SwarmError(self._failure) if self._failure else value))
            return held
        return fail(SwarmError(self._failure)) if self._failure else succeed(value)

    def _forget(self, deferred: Deferred[Any]) -> None:
        self._held = [pair for pair in self._held if pair[0] is not deferred]
        self._finish()

    def _finish(self) -> None:
        if self._closed is not None and not self._closed.called and not self._held:
            self._closed.callback(None)
