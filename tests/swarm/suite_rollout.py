"""No request fails while the Swarm changes: rolls and scaling.

The application exits at once on SIGTERM unless a test says otherwise. ``ROLLS`` (1) is how often each roll is made,
``USERS`` (30) how many users there are, each with a request every 0.1 s.
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
from tests.swarm.lab import LabError, wait_until
from tests.swarm.suite_gate import GateCase, measured

ROLLS = int(os.environ.get("ROLLS", "1"))
USERS = int(os.environ.get("USERS", "30"))
LOAD = Path(__file__).with_name("load.py")
# A check that takes too long is one that fails, and two of these have a task killed that is well: it starts no Python,
# which takes seconds where other suites run as well.
HEALTHY = (
    """bash -c 'exec 3<>/dev/tcp/127.0.0.1/8083; printf "GET /health HTTP/1.0\\r\\n\\r\\n" >&3; grep -q " 200 " <&3'"""
)
CHECKED = ("--health-cmd", HEALTHY, "--health-interval", "1s", "--health-timeout", "10s", "--health-retries", "2")


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
        tasks = self.lab.docker("service", "ps", "--no-trunc", "web") if told.failed else ""
        happened = json.dumps(told.failures, indent=1) + tasks
        self.assertEqual((0, [], set()), (told.failed, twice, lost), happened)
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

    def test_new_release(self):
        """A new release beside the old one gets a share by its labels, then another one, and is taken away again."""
        share = "swarmgate.http.services.canary.weighted.services[1].weight"
        canary = {
            "traefik.http.routers.next.service": "next",
            "swarmgate.http.routers.canary.rule": "Host(`web.example`)",
            "swarmgate.http.routers.canary.priority": "1000",
            "swarmgate.http.routers.canary.service": "canary",
            "swarmgate.http.services.canary.weighted.services[0].name": "web",
            "swarmgate.http.services.canary.weighted.services[1].name": "next",
            share: "1",
        }
        self.app(2)
        with self.load("--posts") as told:
            self.app(1, name="next", labels=canary)
            time.sleep(2)
            self.lab.docker("service", "update", "--detach", "--quiet", "--label-add", f"{share}=3", "next")
            time.sleep(3)
            self.lab.docker("service", "rm", "next")
            time.sleep(3)
        self.nothing_failed("a new release that comes, grows and goes", told)
        new = sum(task[2] for name, task in told.tasks.items() if name.startswith("next."))
        measured(f"the new release answered {new:.0f} of {told.asked} requests")
        self.assertGreater(new, 100)

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
