"""What every Swarm has to do, be it real or in memory: one suite of tests for all implementations of ``ISwarm``.

A subclass with :class:`twisted.trial.unittest.TestCase` says how to get a Swarm, and how to change it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from swarmgate.providers.swarm.interface import ISwarm, Refused, SwarmError
from swarmgate.providers.swarm.operate import Operation
from swarmgate.providers.swarm.snapshot import Snapshot, SwarmService, Task

T = TypeVar("T")


class World(Protocol):
    """What a test can do to the Swarm that it looks at. What is done may take a moment to be seen."""

    def create(
        self, name: str, labels: Mapping[str, str], networks: Sequence[str], replicas: int, published: int
    ) -> Deferred[Any]:
        """Create a service; ``published`` is a port in host mode, 0 for none."""

    def label(self, name: str, label: str, value: str) -> Deferred[Any]:
        """Give a service a label more."""

    def scale(self, name: str, replicas: int) -> Deferred[Any]:
        """Say how many tasks there should be."""

    def remove(self, name: str) -> Deferred[Any]:
        """Remove a service."""


class SwarmContract:
    """The tests; ``swarm`` and ``world`` are set by the subclass's ``setUp``, with a network ``golf`` in them.

    :ivar pause: returns a Deferred that fires when it is worth looking again.
    """

    swarm: Any
    world: World
    pause: Callable[[], Deferred[None]]

    async def eventually(self, look: Callable[[], Deferred[T]], true: Callable[[T], bool]) -> T:
        """Return the first answer of a look that is as it should be."""
        for _ in range(200):
            seen = await look()
            if true(seen):
                return seen
            await self.pause()
        raise AssertionError(f"never came to be; seen last: {seen}")

    async def running(self, name: str, count: int) -> tuple[SwarmService, tuple[Task, ...]]:
        """Wait until a service has so many running tasks and no others; return it and them."""

        def of(snapshot: Snapshot) -> tuple[Task, ...]:
            ids = [service.id for service in snapshot.services if service.name == name]
            return tuple(task for task in snapshot.tasks if task.service_id in ids)

        seen = await self.eventually(
            self.swarm.look, lambda s: len(of(s)) == count and all(task.is_running for task in of(s))
        )
        (found,) = [service for service in seen.services if service.name == name]
        return found, of(seen)

    def test_interface(self) -> None:
        """It has all that the interface asks for."""
        verifyObject(ISwarm, self.swarm)

    async def test_networks_and_nodes(self) -> None:
        """A look tells of the networks by name, of which one is the routing mesh's, and of the nodes."""
        seen = await self.swarm.look()
        self.assertEqual(
            {"golf": False, "ingress": True},
            {n.name: n.ingress for n in seen.networks if n.name in ("golf", "ingress")},
        )
        self.assertTrue(seen.nodes)
        self.assertTrue(all(node.hostname and node.state == "ready" for node in seen.nodes))

    async def test_service(self) -> None:
        """A service is told of with its name, labels, networks, ports and tasks, each task with its address."""
        await self.world.create("web", {"traefik.enable": "true", "a.b": "c=d"}, ["golf"], 2, 8083)
        service, tasks = await self.running("web", 2)
        golf = next(n.id for n in (await self.swarm.look()).networks if n.name == "golf")
        self.assertEqual((("a.b", "c=d"), ("traefik.enable", "true")), service.labels)
        self.assertEqual((golf,), service.networks)
        self.assertEqual([(8083, "host", "tcp")], [(port.target, port.mode, port.protocol) for port in service.ports])
        self.assertEqual(2, service.replicas)
        self.assertGreater(service.created, 0)
        self.assertEqual([1, 2], sorted(task.slot for task in tasks))
        addresses = [address for task in tasks for address in task.addresses if address.network == golf]
        self.assertEqual(2, len({address.ip for address in addresses}))
        nodes = {node.id for node in (await self.swarm.look()).nodes}
        self.assertTrue(all(task.node_id in nodes for task in tasks))

    async def test_equal_worlds(self) -> None:
        """Two looks at a Swarm in which nothing happens are equal, which is how it is told that nothing has."""
        await self.world.create("web", {}, ["golf"], 2, 0)
        await self.running("web", 2)
        await self.eventually(self._two_looks, lambda pair: pair[0] == pair[1])

    async def _look_twice(self) -> tuple[Snapshot, Snapshot]:
        return await self.swarm.look(), await self.swarm.look()

    def _two_looks(self) -> Deferred[tuple[Snapshot, Snapshot]]:
        return Deferred.fromCoroutine(self._look_twice())

    async def test_order(self) -> None:
        """Everything in a look is sorted by id, so that the order in which an engine tells of it is no change."""
        for name in ("b", "a", "c"):
            await self.world.create(name, {}, ["golf"], 1, 0)
        await self.running("c", 1)
        seen = await self.swarm.look()
        for part in (seen.services, seen.tasks, seen.networks, seen.nodes):
            ids = [value.id for value in part]
            self.assertEqual(sorted(ids), ids)

    async def test_tasks_alone(self) -> None:
        """A look at the tasks tells of the same tasks as a full one."""
        await self.world.create("web", {}, ["golf"], 2, 0)
        _, tasks = await self.running("web", 2)
        self.assertTrue(set(tasks) <= set(await self.swarm.tasks()))

    async def test_scaled_down(self) -> None:
        """Tasks that are wanted no longer are not told of, and those that stay are."""
        await self.world.create("web", {}, ["golf"], 3, 0)
        await self.running("web", 3)
        await self.world.scale("web", 1)
        service, _ = await self.running("web", 1)
        await self.world.scale("web", 0)
        await self.eventually(self.swarm.tasks, lambda tasks: all(task.service_id != service.id for task in tasks))
        self.assertEqual(0, (await self.running("web", 0))[0].replicas)

    async def test_removed(self) -> None:
        """A service that is removed is gone, and so are its tasks."""
        await self.world.create("web", {}, ["golf"], 1, 0)
        service, _ = await self.running("web", 1)
        await self.world.remove("web")
        await self.eventually(
            self.swarm.look,
            lambda seen: (
                all(s.id != service.id for s in seen.services)
                and all(task.service_id != service.id for task in seen.tasks)
            ),
        )

    async def test_label_changed(self) -> None:
        """A service whose labels change is told of anew, under the same id."""
        await self.world.create("web", {"one": "1"}, ["golf"], 1, 0)
        before, _ = await self.running("web", 1)
        await self.world.label("web", "two", "2")
        after = await self.eventually(
            self.swarm.look, lambda seen: any(("two", "2") in s.labels for s in seen.services)
        )
        (found,) = [service for service in after.services if service.id == before.id]
        self.assertEqual((("one", "1"), ("two", "2")), found.labels)
        self.assertGreater(found.version, before.version)

    async def _heard(self, rings: list[None], count: int) -> None:
        async def now() -> int:
            return len(rings)

        await self.eventually(lambda: Deferred.fromCoroutine(now()), lambda heard: heard > count)

    async def test_rings(self) -> None:
        """It rings when the subscription begins, and when a service is created, changed and removed."""
        rings: list[None] = []
        lost: list[SwarmError] = []
        cancel = self.swarm.subscribe(lambda: rings.append(None), lost.append)
        await self._heard(rings, 0)
        for change in (
            lambda: self.world.create("web", {}, ["golf"], 0, 0),
            lambda: self.world.label("web", "a", "b"),
            lambda: self.world.remove("web"),
        ):
            before = len(rings)
            await change()
            await self._heard(rings, before)
        cancel()
        self.assertEqual([], lost)

    async def test_cancelled(self) -> None:
        """Once it is cancelled a subscription neither rings nor is lost, and to cancel it again does no harm."""
        rings: list[None] = []
        lost: list[SwarmError] = []
        cancel = self.swarm.subscribe(lambda: rings.append(None), lost.append)
        other: list[None] = []
        await self._heard(rings, 0)
        cancel()
        cancel()
        heard = len(rings)
        keep = self.swarm.subscribe(lambda: other.append(None), lost.append)
        await self._heard(other, 0)
        before = len(other)
        await self.world.create("web", {}, ["golf"], 0, 0)
        await self._heard(other, before)
        keep()
        self.assertEqual((heard, []), (len(rings), lost))

    async def test_operations(self) -> None:
        """A service is scaled, rolled back and restarted, a node drained and activated."""
        await self.world.create("web", {}, ["golf"], 1, 0)
        await self.running("web", 1)
        await self.swarm.operate(Operation("scale", "web", 2))
        self.assertEqual(2, (await self.running("web", 2))[0].replicas)
        await self.swarm.operate(Operation("rollback", "web"))
        _, before = await self.running("web", 1)
        await self.swarm.operate(Operation("restart", "web"))
        ids = {task.id for task in before}
        await self.eventually(self.swarm.tasks, lambda tasks: tasks and not ids & {task.id for task in tasks})
        host = (await self.swarm.look()).nodes[0].hostname
        for kind, availability in (("drain", "drain"), ("activate", "active")):
            await self.swarm.operate(Operation(kind, host))  # type: ignore[arg-type]
            seen = await self.swarm.look()
            self.assertEqual([availability], [node.availability for node in seen.nodes if node.hostname == host])

    async def test_refused(self) -> None:
        """What names nothing is refused as not found, in the engine's words."""
        asked = [Operation("restart", "nobody"), Operation("scale", "nobody", 1), Operation("drain", "nobody")]
        for call in (*(lambda one=one: self.swarm.operate(one) for one in asked), lambda: self.swarm.log("nobody", 5)):
            try:
                await call()
            except Refused as refusal:
                self.assertEqual(404, refusal.status, str(refusal))
                self.assertIn("nobody", str(refusal))
            else:
                self.fail("it was not refused")

    async def test_nothing_failed(self) -> None:
        """Where no task has failed, none is told of; a service that says nothing has no lines."""
        await self.world.create("web", {}, ["golf"], 1, 0)
        service, _ = await self.running("web", 1)
        self.assertEqual([], [task for task in await self.swarm.failed() if task.service_id == service.id])
        self.assertEqual((), (await self.swarm.log("web", 5)).lines)

    async def test_closed(self) -> None:
        """After it is closed, looks fail and no subscription is told anything."""
        rings: list[None] = []
        lost: list[SwarmError] = []
        self.swarm.subscribe(lambda: rings.append(None), lost.append)
        await self._heard(rings, 0)
        await self.swarm.close()
        heard = len(rings)
        for look in (self.swarm.look, self.swarm.tasks):
            try:
                await look()
            except SwarmError as error:
                self.assertIn("closed", str(error))
            else:
                self.fail("a look at a Swarm that is closed has succeeded")
        await self.world.create("web", {}, ["golf"], 0, 0)
        await self.swarm.close()
        self.assertEqual((heard, []), (len(rings), lost))
