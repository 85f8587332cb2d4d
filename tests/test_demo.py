"""Tests for swarmgate.demo."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.demo import ROLL_EVERY, Town


class TownTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.said: list[str] = []
        self.town = Town(self.reactor, self.said.append, lambda: 1795893865.0 + self.reactor.seconds())
        self.town.startService()

    def golf(self) -> list[tuple[int, str, bool]]:
        """Slot and state of each task of golf, and whether it is of before the last update."""
        spec = self.town.swarm.service("golf").spec
        return [(task.slot, task.state, task.spec != spec) for task in self.town.swarm.tasks_of("golf")]

    def update(self) -> str:
        """The state of golf's last update."""
        update = self.town.swarm.service("golf").update
        return "" if update is None else update.state

    def test_update(self) -> None:
        """A service is updated task by task: the new one is there before the old one leaves."""
        self.assertEqual([(slot, "running", False) for slot in (1, 2, 3)], self.golf())
        self.assertEqual("", self.update())
        self.reactor.advance(ROLL_EVERY)
        self.reactor.advance(0)
        self.assertEqual("updating", self.update())
        self.assertEqual(
            [(1, "running", True), (1, "starting", False), (2, "running", True), (3, "running", True)],
            sorted(self.golf(), key=lambda one: (one[0], one[1])),
        )
        self.reactor.advance(1.5)
        self.assertEqual([(1, "running", False), (2, "running", True), (3, "running", True)], self.golf())
        self.reactor.pump([0.5] * 18)
        self.assertEqual([(slot, "running", False) for slot in (1, 2, 3)], self.golf())
        self.assertEqual("completed", self.update())
        self.assertIn("rolling golf", self.said[0])

    def test_to_show(self) -> None:
        """There are three nodes, one of which leads, a task that has failed, and what it logged."""
        nodes = [(node.hostname, node.role, node.leader) for node in self.town.swarm.now().nodes]
        self.assertEqual([("n1", "manager", True), ("n2", "worker", False), ("n3", "worker", False)], nodes)
        (failed,) = self.successResultOf(self.town.swarm.failed())
        self.assertEqual("task: non-zero exit (3)", failed.error)
        (line,) = self.successResultOf(self.town.swarm.log("brief", 10, failed.id)).lines
        self.assertEqual(("stderr", "2026-11-28T"), (line.stream, line.time[:11]))
