"""No request fails while tasks, nodes and managers go without a word, or the gate itself is replaced.

``ROLLS`` and ``USERS`` are those of ``suite_rollout``; ``CUT_SECONDS`` (20) is how long a node is unplugged.
"""

from __future__ import annotations

import os
import time

from tests.swarm.lab import Engine, LabError, run, wait_until
from tests.swarm.suite_gate import PORT, measured
from tests.swarm.suite_rollout import ROLLS, RolloutCase

CUT = float(os.environ.get("CUT_SECONDS", "20"))


class CrashTests(RolloutCase):
    """Tasks and nodes that go without a word."""

    def test_killed(self):
        """A container is killed: no GET fails."""
        self.app(6)
        with self.load() as told:
            for round_ in range(max(2, ROLLS)):
                task = self.lab.running("web")[round_ % 6]
                hosts = {node["ID"]: node["Description"]["Hostname"] for node in self.nodes()}
                self.engine(hosts[task["NodeID"]]).docker("kill", task["Status"]["ContainerStatus"]["ContainerID"])
                time.sleep(2)
                self.lab.await_running("web", 6)
        self.nothing_failed(f"{max(2, ROLLS)} x a container killed", told)
        self.assertLess(told.slowest, 1)

    def test_paused(self):
        """A container is paused: its server is left out within two connect deadlines, and what was sent to it moves."""
        self.app(6)
        task = self.lab.running("web")[0]
        hosts = {node["ID"]: node["Description"]["Hostname"] for node in self.nodes()}
        engine, container = self.engine(hosts[task["NodeID"]]), task["Status"]["ContainerStatus"]["ContainerID"]
        with self.load() as told:
            paused = time.time()
            engine.docker("pause", container)
            try:
                time.sleep(12)
            finally:
                engine.docker("unpause", container)
            time.sleep(1)
        late = [each for each in told.slow if each["began"] > paused + 6]
        measured(f"a container paused: {len(told.slow)} requests were slow, the last of them began "
                 f"{max((each['began'] for each in told.slow), default=paused) - paused:.1f} s after")  # fmt: skip
        self.assertEqual([], late)
        self.nothing_failed("a container paused", told)

    def test_unplugged(self):
        """A node's link is cut for a while: after the first 3 s nothing fails."""
        self.app(6)
        engine = self.engine("n3")
        at = [each for each in self.at() if not each.startswith(f"{engine.address}:")]
        cut = 0.0
        port = f"p{engine.host[1:]}"
        try:
            with self.load("--posts", at=at) as told:
                cut = time.time()
                run("ip", "-n", self.lab.lan.name, "link", "set", port, "down")
                time.sleep(CUT)
                run("ip", "-n", self.lab.lan.name, "link", "set", port, "up")
                time.sleep(3)
        finally:
            run("ip", "-n", self.lab.lan.name, "link", "set", port, "up")
        wait_until(self.lab.is_settled, "all managers to be back", 120)
        late = [each for each in told.failures if each["began"] > cut + 3]
        measured(
            f"a node unplugged for {CUT:g} s: {told.failed} of {told.asked} failed, {len(late)} of them began after 3 s"
        )
        self.assertEqual([], late)
        self.assertLess(told.failed, 50)
        gets = [each for each in told.failures if each["method"] == "GET"]
        self.assertEqual([], gets)


class ManagersTests(RolloutCase):
    """The managers change."""

    def test_leader_changes(self):
        """Another manager becomes the leader."""
        self.app(3)
        leader = next(node for node in self.nodes() if (node.get("ManagerStatus") or {}).get("Leader"))
        host = leader["Description"]["Hostname"]
        other = next(engine for engine in self.lab.engines if engine.host != host)
        with self.load("--posts") as told:
            other.docker("node", "demote", leader["ID"])
            wait_until(lambda: "Leader" in other.docker("node", "ls"), "a new leader")
            # Docker refuses to change a node that it is just changing itself ("update out of sequence").
            wait_until(lambda: self.promoted(other, leader["ID"]), f"{host} to be promoted", every=0.5)
            time.sleep(3)
        wait_until(lambda: self.manages(host), f"{host} to be a manager again", 60)
        self.nothing_failed("another leader", told)

    def test_engine_killed(self):
        """The engine of a gate's node is killed and started again, which ends its containers: others serve on."""
        self.app(3)
        host = next(host for host in sorted(self.placed("gate_swarmgate")) if host != "n1")
        engine = self.engine(host)
        at = [f"{each.address}:{PORT}" for each in self.lab.engines]
        try:
            with self.load("--turn", at=at) as told:
                engine.kill()
                time.sleep(5)
                engine.start()
                engine.await_up()
                wait_until(lambda: self.manages(host), f"{host} to be a manager again", 60)
                time.sleep(5)
        finally:
            if engine.process is None:
                engine.start()
                engine.await_up()
        self.nothing_failed("the engine of a gate's node killed and started again", told)

    @staticmethod
    def promoted(engine: Engine, node: str) -> bool:
        try:
            engine.docker("node", "promote", node)
        except LabError:
            return False
        return True

    def manages(self, host: str) -> bool:
        try:
            self.engine(host).docker("service", "ls", "--quiet", timeout=5)
        except LabError:
            return False
        return True


class GateRollTests(RolloutCase):
    """The gate itself is replaced."""

    def test_roll(self):
        """Both replicas are replaced; who is refused turns to the other node, and nothing is lost."""
        self.app(3)
        at = [f"{engine.address}:{PORT}" for engine in self.lab.engines]
        with self.load("--posts", "--turn", at=at) as told:
            self.assertEqual("completed", self.update("gate_swarmgate", "--force", seconds=180))
        self.lab.await_running("gate_swarmgate", 2)
        self.nothing_failed("a roll of the gate", told)
