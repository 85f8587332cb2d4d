"""Tests for swarmgate.testing: the Swarm in memory does what every Swarm does, and what tests ask of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase, TestCase

from swarmgate.providers.swarm.interface import SwarmError
from swarmgate.providers.swarm.snapshot import Port
from swarmgate.testing import MemorySwarm, network, node, service, snapshot, task
from tests.contract_swarm import SwarmContract


class MemoryWorld:
    """Changes a Swarm in memory."""

    def __init__(self, swarm: MemorySwarm) -> None:
        self.swarm = swarm

    def create(
        self, name: str, labels: Mapping[str, str], networks: Sequence[str], replicas: int, published: int
    ) -> Deferred[None]:
        ports = [Port(published, published, "host")] if published else []
        self.swarm.add_service(name, labels, networks=networks, replicas=replicas, ports=ports)
        return succeed(None)

    def label(self, name: str, label: str, value: str) -> Deferred[None]:
        self.swarm.update_service(name, labels={**dict(self.swarm.service(name).labels), label: value})
        return succeed(None)

    def scale(self, name: str, replicas: int) -> Deferred[None]:
        self.swarm.scale(name, replicas)
        return succeed(None)

    def remove(self, name: str) -> Deferred[None]:
        self.swarm.remove_service(name)
        return succeed(None)


class MemorySwarmContractTests(SwarmContract, TestCase):
    """The Swarm in memory keeps the contract."""

    def setUp(self) -> None:
        self.swarm = MemorySwarm()
        self.world = MemoryWorld(self.swarm)

    def pause(self) -> Deferred[None]:
        return succeed(None)


class MemorySwarmTests(SynchronousTestCase):
    """What only a Swarm in memory can do."""

    def test_roll(self) -> None:
        """A roll leaves as many tasks as before, in the same slots, none of them at its old address."""
        swarm = MemorySwarm()
        swarm.add_service("web", replicas=3)
        before = swarm.tasks_of("web")
        swarm.roll("web")
        after = swarm.tasks_of("web")
        self.assertEqual([1, 2, 3], [each.slot for each in after])
        self.assertFalse({each.addresses for each in before} & {each.addresses for each in after})

    def test_fails(self) -> None:
        """While it is told to fail, looks fail with the reason; afterwards they succeed."""
        swarm = MemorySwarm()
        swarm.fail("out of order")
        self.assertEqual("out of order", str(self.failureResultOf(swarm.look(), SwarmError).value))
        swarm.recover()
        self.assertEqual(swarm.now(), self.successResultOf(swarm.look()))

    def test_held(self) -> None:
        """A look that is held is answered when the test says so, with what there was when it was asked for."""
        swarm = MemorySwarm()
        before = swarm.now()
        swarm.hold()
        look = swarm.look()
        swarm.add_service("web")
        self.assertNoResult(look)
        swarm.release()
        self.assertEqual(before, self.successResultOf(look))

    def test_close_waits(self) -> None:
        """Closing waits for looks that are held."""
        swarm = MemorySwarm()
        swarm.hold()
        look = swarm.look()
        closed = swarm.close()
        self.assertNoResult(closed)
        swarm.release()
        self.successResultOf(look)
        self.successResultOf(closed)

    def test_close_after_cancel(self) -> None:
        """A look that was cancelled is not waited for."""
        swarm = MemorySwarm()
        swarm.hold()
        look = swarm.look()
        closed = swarm.close()
        look.cancel()
        self.failureResultOf(look)
        self.successResultOf(closed)

    def test_subscription_ends(self) -> None:
        """When event streams are dropped each subscriber is told once, and hears no more rings."""
        swarm = MemorySwarm()
        rings: list[None] = []
        lost: list[str] = []
        swarm.subscribe(lambda: rings.append(None), lambda error: lost.append(str(error)))
        swarm.drop_subscriptions("gone")
        heard = len(rings)
        swarm.add_service("web")
        self.assertEqual((["gone"], heard, 0), (lost, len(rings), swarm.subscriptions))

    def test_tasks_do_not_ring(self) -> None:
        """As in Docker, nobody is told of a task's change."""
        swarm = MemorySwarm()
        swarm.add_service("web")
        rings: list[None] = []
        swarm.subscribe(lambda: rings.append(None), lambda error: None)
        heard = len(rings)
        started = swarm.start_task("web", "127.0.0.9", state="starting")
        swarm.set_task(started, state="running")
        swarm.stop_task(started)
        self.assertEqual(heard, len(rings))

    def test_global_service(self) -> None:
        """A service with a task on each node has as many as there are nodes."""
        swarm = MemorySwarm()
        swarm.add_node("n2")
        swarm.add_service("agent", replicas=None)
        self.assertEqual({"node-n1", "node-n2"}, {each.node_id for each in swarm.tasks_of("agent")})


class BuilderTests(SynchronousTestCase):
    """The builders fit together."""

    def test_snapshot(self) -> None:
        """Parts in any order are the same snapshot, and those built by name belong together."""
        web, first, second = service("web"), task("web", 1), task("web", 2)
        seen = snapshot(second, web, first)
        self.assertEqual(snapshot(first, second, web), seen)
        self.assertEqual({seen.services[0].id}, {each.service_id for each in seen.tasks})
        self.assertEqual((network("golf"),), seen.networks)
        self.assertEqual((node("n1"),), seen.nodes)
        self.assertEqual(seen.services[0].networks, (seen.tasks[0].addresses[0].network,))
