"""No request fails while the Swarm changes: rolls, scaling, crashes, and nodes that go.

The application exits at once on SIGTERM unless a test says otherwise. ``ROLLS`` (1) is how often each roll is made,
``USERS`` (30) how many users there are, each with a request every 0.1 s, ``CUT_SECONDS`` (20) how long a node is
unplugged.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from swarmgate.providers.swarm.decode import nanoseconds
from tests.swarm.lab import Engine, LabError, run, wait_until
from tests.swarm.suite_gate import PORT, GateCase, measured

ROLLS = int(os.environ.get("ROLLS", "1"))
USERS = int(os.environ.get("USERS", "30"))
CUT = float(os.environ.get("CUT_SECONDS", "20"))
LOAD = Path(__file__).with_name("load.py")
HEALTHY = "python3 -c \"import urllib.request as u; u.urlopen('http://127.0.0.1:8083/health', timeout=1)\""
CHECKED = ("--health-cmd", HEALTHY, "--health-interval", "1s", "--health-timeout", "2s", "--health-retries", "2")


@attrs.define
class Told:
    """What a load has told after its end; times in seconds."""

    asked: int = 0
    failed: int = 0
    failures: list[dict[str, Any]] = attrs.field(factory=list)
    slow: list[dict[str, Any]] = attrs.field(factory=list)
    slowest: float = 0.0
    ids: list[str] = attrs.field(factory=list)
    tasks: dict[str, list[float]] = attrs.field(factory=dict)
    tunnels: dict[str, Any] = attrs.field(factory=dict)


class RolloutCase(GateCase):
    """A test with load on an application that is changed."""

    def setUp(self) -> None:
        super().setUp()
        self.ids = self.lab.folder / "ids"
        self.ids.mkdir(exist_ok=True)
        self.ids.chmod(0o777)
        self.addCleanup(self.forget_ids)

    def forget_ids(self) -> None:
        for file in self.ids.glob("*"):
            file.unlink()

    def app(
        self,
        replicas: int,
        *options: str,
        name: str = "web",
        labels: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        at: Sequence[str] = (),
    ) -> None:
        """Start the application, and block until each gate routes to all of its tasks."""
        self.lab.service(
            name,
            labels={**self.routed(name), **(labels or {})},
            networks=["golf"],
            replicas=replicas,
            options=["--mount", f"type=bind,source={self.ids},target=/data", "--restart-delay", "1s", *options],
            arguments=["--ids", "/data", *arguments],
        )
        self.lab.await_running(name, replicas)
        for each in at or self.at():
            self.until(each, f"{name}.example", 200)
            answers: list[Any] = []

            def all_answer(each: str = each, answers: list[Any] = answers) -> bool:
                answers[:] = self.ask(each, f"{name}.example", replicas * 2)
                return len({json.loads(told["body"])["task"] for told in answers if told["status"] == 200}) == replicas

            try:
                wait_until(all_answer, f"all tasks of {name} to answer at {each}", 60)
            except LabError as error:
                tasks = self.lab.docker("service", "ps", "--no-trunc", name)
                direct = self.reached_without_gate(name, each)
                logs = "\n".join(self.log("gate_swarmgate", node) for node in self.placed("gate_swarmgate"))
                raise LabError(
                    f"{error}; it last answered {answers};\n{tasks}\n"
                    f"from the gate's container, without the gate: {direct}\nthe gates' logs:\n{logs}"
                ) from None

    def reached_without_gate(self, name: str, at: str) -> dict[str, str]:
        """What becomes of a connection to each task from within the container of the gate at *at*."""
        engine = next(one for one in self.lab.engines if at.startswith(f"{one.address}:"))
        container = engine.docker("ps", "--quiet", "--filter", "label=com.docker.swarm.service.name=gate_swarmgate")
        process = engine.docker("inspect", "--format", "{{.State.Pid}}", container.split()[0])
        told = {}
        for task in self.lab.running(name):
            address = task["NetworksAttachments"][-1]["Addresses"][0].partition("/")[0]
            script = f"import socket; socket.create_connection(({address!r}, 8083), 3); print('reached')"
            command = ["nsenter", f"--net=/proc/{process}/ns/net", "--", sys.executable, "-c", script]
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
            told[f"{name}.{task['Slot']} {address}"] = (done.stdout or done.stderr).strip().rpartition("\n")[2]
        return told

    @contextlib.contextmanager
    def load(
        self, *options: str, at: Sequence[str] = (), host: str = "web.example", users: int = USERS
    ) -> Iterator[Told]:
        """Let users ask all through the block; what they tell is there after its end."""
        told = Told()
        command = [sys.executable, "-u", str(LOAD), ",".join(at or self.at()), host, "--users", str(users), *options]
        process = self.lab.lan.popen(*command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(1)
            yield told
            time.sleep(1)
            process.terminate()
            written, _ = process.communicate(timeout=30)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        for key, value in json.loads(written.splitlines()[-1]).items():
            setattr(told, key, value)

    def update(self, service: str, *options: str, seconds: float = 120) -> str:
        """Update a service, wait for the end of that, and return how it ended."""
        self.lab.docker("service", "update", "--detach", "--quiet", *options, service)
        time.sleep(0.5)

        def state() -> str:
            (told,) = self.lab.inspect(service)
            return str((told.get("UpdateStatus") or {}).get("State", ""))

        wait_until(
            lambda: state() in ("completed", "rollback_completed", "paused"), f"{service}'s update", seconds, 0.2
        )
        return state()

    def nothing_failed(self, what: str, told: Told, least: int = 100) -> None:
        """Check that no request failed, and that no POST was processed twice."""
        processed = collections.Counter(
            line for file in self.ids.glob("*") for line in file.read_text().splitlines() if line
        )
        twice = [id_ for id_, count in processed.items() if count > 1]
        lost = set(told.ids) - set(processed)
        measured(
            f"{what}: {told.failed} of {told.asked} failed, slowest {told.slowest:.2f} s, "
            f"{len(processed)} POSTs processed, {len(twice)} twice"
        )
        self.assertEqual((0, [], set()), (told.failed, twice, lost), json.dumps(told.failures, indent=1))
        self.assertGreater(told.asked, least)


class RollTests(RolloutCase):
    """Rolling updates."""

    def roll(self, order: str, parallelism: int = 1) -> None:
        self.app(6, "--update-order", order, "--update-parallelism", str(parallelism), "--update-delay", "0s")
        with self.load("--posts") as told:
            for _ in range(ROLLS):
                self.assertEqual("completed", self.update("web", "--force"))
        self.nothing_failed(f"{ROLLS} x roll of 6 tasks, {order}, {parallelism} at once", told)
        self.assertGreaterEqual(len(told.tasks), 12)

    def test_start_first(self):
        """Six tasks are replaced, each by one that starts before it stops."""
        self.roll("start-first")

    def test_stop_first(self):
        """Six tasks are replaced, each stopped before another starts."""
        self.roll("stop-first")

    def test_half_at_once(self):
        """Three of six tasks are replaced at a time."""
        self.roll("stop-first", 3)

    def test_single_task(self):
        """The only task is replaced by one that is taken once its health check passes."""
        self.app(1, "--update-order", "start-first", *CHECKED, arguments=["--start", "1"])
        with self.load("--posts") as told:
            for _ in range(ROLLS):
                self.assertEqual("completed", self.update("web", "--force"))
        self.nothing_failed(f"{ROLLS} x roll of 1 task with a health check", told)

    def test_single_task_stop_first(self):
        """The only task is stopped before another starts: requests wait for that, as long as a label lets them."""
        wait = {"traefik.http.services.web.loadbalancer.waitforserver": "20s"}
        self.app(1, "--update-order", "stop-first", labels=wait)
        with self.load("--posts") as told:
            for _ in range(ROLLS):
                self.assertEqual("completed", self.update("web", "--force"))
        self.nothing_failed(f"{ROLLS} x roll of 1 task, stop-first", told)

    def test_roll_back(self):
        """New tasks never become healthy, and the Swarm rolls back."""
        self.app(
            3,
            *("--update-order", "start-first", "--update-failure-action", "rollback", "--update-monitor", "2s"),
            *("--rollback-order", "start-first", "--update-max-failure-ratio", "0"),
            *CHECKED,
        )
        with self.load("--posts") as told:
            state = self.update("web", "--health-cmd", "false", "--health-interval", "500ms", "--health-retries", "1")
        self.assertEqual("rollback_completed", state)
        self.nothing_failed("an update that is rolled back", told)

    def test_slow_answers(self):
        """Answers of 5 s are all completed, if the application finishes them."""
        self.app(2, "--update-order", "start-first", "--stop-grace-period", "20s", arguments=["--drain"])
        with self.load("--path", "/slow?5") as told:
            self.assertEqual("completed", self.update("web", "--force"))
        self.nothing_failed("a roll amid answers of 5 s", told, 50)

    def test_tunnels(self):
        """Tunnels stay open until their task stops, are closed in good order, and opened anew at once."""
        self.app(3, "--update-order", "start-first")
        with self.load("--tunnels", "9", users=3) as told:
            self.assertEqual("completed", self.update("web", "--force"))
        measured(f"9 tunnels during a roll of 3 tasks: {told.tunnels}")
        self.assertEqual((0, 0), (told.tunnels["broken"], told.tunnels["refused"]), told.tunnels)
        self.assertGreaterEqual(told.tunnels["opened"], 18)
        self.assertLess(told.tunnels["longest_gap"], 1)
        self.nothing_failed("a roll with tunnels", told, 20)


class ScaleTests(RolloutCase):
    """More and fewer tasks, and more services."""

    def test_scale(self):
        """Tasks come and go; a new one gets requests within 1.5 s of running, if it listens then."""
        self.app(2)
        since: dict[str, float] = {}
        start = time.time()
        with self.load("--posts") as told:
            for _ in range(ROLLS):
                self.lab.docker("service", "scale", "--detach", "web=12")
                self.lab.await_running("web", 12)
                for task in self.lab.running("web"):
                    since[f"web.{task['Slot']}.{task['ID']}"] = nanoseconds(task["Status"]["Timestamp"]) / 1e9
                time.sleep(2)
                self.lab.docker("service", "scale", "--detach", "web=2")
                self.lab.await_running("web", 2)
        self.nothing_failed(f"{ROLLS} x scale 2 -> 12 -> 2", told)
        # An application that takes its time until it listens, as ten do that start at once, is not what is measured.
        delays = [
            told.tasks[name][0] - max(begun, told.tasks[name][3])
            for name, begun in since.items()
            if name in told.tasks and told.tasks[name][3] > start
        ]
        measured(f"{len(delays)} tasks: first answer at most {max(delays):.2f} s after running and listening")
        self.assertGreaterEqual(len(delays), 10 * ROLLS)
        self.assertLess(max(delays), 1.5)

    def test_domain_added(self):
        """A service is added amid the load, which does not notice; it answers within 1.5 s of running."""
        self.app(2)
        at = self.at()
        with self.load("--posts") as told:
            self.lab.service("new", labels=self.routed("new"), networks=["golf"])
            seen: dict[str, float] = {}
            deadline = time.monotonic() + 30
            while len(seen) < len(at) and time.monotonic() < deadline:
                for each in at:
                    if each not in seen and self.ask(each, "new.example")[0]["status"] == 200:
                        seen[each] = time.time()
            (task,) = self.lab.running("new")
        begun = nanoseconds(task["Status"]["Timestamp"]) / 1e9
        delay = max(seen.values()) - begun
        measured(f"a domain added amid load answers {delay:.2f} s after its task runs")
        self.assertEqual(len(at), len(seen))
        self.assertLess(delay, 1.5)
        self.nothing_failed("a domain added", told)


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
