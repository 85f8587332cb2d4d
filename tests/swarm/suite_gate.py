"""The gate on a real Swarm: its image from the recipe, deployed by the stack files, asked by clients on the LAN.

``SWARMGATE_LAB_OUTAGE`` is how long the daemon stays away in the tests of that, in seconds; 20 if it isn't set.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.swarm import image
from tests.swarm.convergence import Probe, percentile, running_since
from tests.swarm.lab import Engine, Lab, LabError, wait_until
from tests.swarm.shared import lab

ASK = Path(__file__).with_name("ask.py")
DEPLOY = image.ROOT / "deploy"
OUTAGE = float(os.environ.get("SWARMGATE_LAB_OUTAGE", "20"))
COUNT = 20
SOON = 1.5  # seconds, for 95 % of the changes
PORT = 8083  # where the stack's gate listens on its nodes
NOT_FOUND = "404 page not found\n"
# What people start Traefik 2.10 with.
TRAEFIK_COMMAND = (
    "--providers.docker",
    "--providers.docker.swarmMode",
    "--entrypoints.web.address=:80",
    "--providers.docker.exposedbydefault=false",
    "--providers.docker.network=golf",
    "--api.dashboard=true",
    "--ping.entryPoint=web",
    "--accessLog={}",
)


def measured(line: str) -> None:
    """Print a figure that was measured, on a line of its own."""
    print(f"\nmeasured: {line}", flush=True)


class Stacks:
    """The gate as ``deploy/stack.yml`` deploys it, with variables only, and what it needs."""

    def __init__(self, of: Lab) -> None:
        self.lab = of
        image.build(of)
        # One stack file, a socket per node: Swarm fills in the node's name as it places the task.
        self.socket = str(of.folder / "{{.Node.Hostname}}" / "docker.sock")
        self.group = str(of.engines[0].socket.stat().st_gid)

    def deploy(self, name: str, file: str, **variables: str) -> None:
        """Deploy a stack file of the project with these variables."""
        environment = {**os.environ, **variables}
        command = ["docker", "--host", self.lab.engines[0].endpoint, "stack", "deploy", "--detach=true"]
        command += ["--resolve-image", "never", "-c", str(DEPLOY / file), name]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
        if done.returncode:
            raise LabError(f"{' '.join(command)}: {done.stderr.decode(errors='replace')}")

    def gate(self) -> None:
        """Deploy the gate, and block until both replicas are healthy; a task without that is not yet running."""
        with contextlib.suppress(LabError):
            self.lab.network("golf")  # another suite may have made it
        began = time.monotonic()
        variables = {"IMAGE": image.GATE, "NETWORK": "golf", "HTTP_PORT": str(PORT)}
        self.deploy("gate", "stack.yml", **variables, DOCKER_SOCKET=self.socket, DOCKER_GID=self.group)
        self.lab.await_running("gate_swarmgate", 2)
        measured(f"both replicas of the gate run and are healthy {time.monotonic() - began:.1f} s after the deployment")


_stacks: Stacks | None = None


def stacks() -> Stacks:
    """The laboratory's stacks, with the gate deployed."""
    global _stacks
    if _stacks is None:
        begun = Stacks(lab())
        begun.gate()
        _stacks = begun
    return _stacks


class GateCase(SynchronousTestCase):
    """A test with the gate of the stack file running; what it adds to the Swarm is removed afterwards."""

    def setUp(self) -> None:
        self.stacks = stacks()
        self.lab = self.stacks.lab
        self.addCleanup(self.clear)
        # An engine that an earlier test has killed took its replica with it: the Swarm needs a while to start another.
        try:
            self.lab.await_running("gate_swarmgate", 2)
        except LabError as error:
            told = self.lab.docker("service", "ps", "--no-trunc", "gate_swarmgate")
            raise LabError(f"{error}:\n{told}") from None

    def clear(self) -> None:
        """Remove all services but the stack's gate, and all networks but its own."""
        names = self.lab.docker("service", "ls", "--format", "{{.Name}}").split()
        if added := [name for name in names if name != "gate_swarmgate"]:
            self.lab.docker("service", "rm", *added)

        def gone() -> bool:
            networks = self.lab.docker("network", "ls", "--filter", "driver=overlay", "--format", "{{.Name}}").split()
            added = set(networks) - {"ingress", "golf"}
            for name in added:
                with contextlib.suppress(LabError):  # its tasks are still leaving it
                    self.lab.docker("network", "rm", name)
            return not added

        wait_until(gone, "the networks to be free", 60, 0.5)

    def placed(self, service: str) -> dict[str, str]:
        """Return the containers of a service's running tasks, by the host name of their node."""
        hosts = {node["ID"]: node["Description"]["Hostname"] for node in self.nodes()}
        return {
            hosts[task["NodeID"]]: task["Status"]["ContainerStatus"]["ContainerID"]
            for task in self.lab.running(service)
        }

    def nodes(self) -> list[Any]:
        return self.lab.inspect(*self.lab.docker("node", "ls", "--quiet").split())

    def engine(self, host: str) -> Engine:
        (engine,) = [engine for engine in self.lab.engines if engine.host == host]
        return engine

    def at(self, service: str = "gate_swarmgate", port: int = PORT) -> list[str]:
        """Return where the replicas of a gate are to be asked, as ``198.18.0.11:80``."""
        return [f"{self.engine(host).address}:{port}" for host in sorted(self.placed(service))]

    def ask(self, at: str, host: str, count: int = 1, path: str = "/", keep: bool = False) -> list[Any]:
        """Ask a gate from the LAN, over one connection if it is to ``keep`` it, and return the answers."""
        command = [sys.executable, str(ASK), at, host, "--count", str(count), "--path", path, *["--keep"][: int(keep)]]
        return [json.loads(line) for line in self.lab.lan.run(*command, timeout=120).splitlines()]

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

    def routed(self, name: str, prefix: str = "traefik", host: str = "", **more: str) -> dict[str, str]:
        """Return the labels that route a host, ``NAME.example`` if none is given, to a service of the application."""
        return {
            f"{prefix}.enable": "true",
            f"{prefix}.http.routers.{name}.rule": f"Host(`{host or name + '.example'}`)",
            f"{prefix}.http.services.{name}.loadbalancer.server.port": "8083",
            **more,
        }

    def until(self, at: str, host: str, status: int, seconds: float = 15.0) -> None:
        """Block until a gate answers a host with this status."""
        answers: list[Any] = []

        def so() -> bool:
            answers[:] = self.ask(at, host)
            return bool(answers[0]["status"] == status)

        try:
            wait_until(so, f"{host} at {at} to answer {status}", seconds)
        except LabError as error:
            logs = "\n".join(self.log("gate_swarmgate", node) for node in self.placed("gate_swarmgate"))
            raise LabError(f"{error}; it last answered {answers[0]}; the gates' logs:\n{logs}") from None

    def gate(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        socket: Path | str,
        host: str = "n1",
        options: Sequence[str] = (),
        target: str = "/var/run/docker.sock",
    ) -> str:
        """Start one more gate, on the node ``host``; return where it answers."""
        self.lab.docker(
            *("service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", name, "--network", "golf"),
            *("--constraint", f"node.hostname=={host}", "--user", f"65532:{self.stacks.group}"),
            *("--publish", f"mode=host,target=80,published={port}"),
            *("--mount", f"type=bind,source={socket},target={target},readonly"),
            *(*options, image.GATE, *command),
        )
        try:
            self.lab.await_running(name, 1, 40)
        except LabError as error:
            told = self.lab.docker("service", "ps", "--no-trunc", name)
            raise LabError(f"{error}: {told}\n{self.lab.docker('service', 'logs', '--raw', name)}") from None
        return f"{self.engine(host).address}:{port}"

    def log(self, service: str, host: str) -> str:
        """Return what a gate has logged, its access log left out."""
        lines = self.engine(host).docker("logs", self.placed(service)[host]).splitlines(keepends=True)
        return "".join(line for line in lines if '"GET ' not in line)


class StackTests(GateCase):
    """A pair of stacks as people deploy them."""

    def test_example(self):
        """The example's host is answered by its three tasks in turn, through both replicas; another host is a 404.

        Exactly in turn over one connection, which is one worker's; connections of their own may come to any worker, and
        each of these takes its own turns.
        """
        workers = len(os.sched_getaffinity(0))
        self.stacks.deploy(
            *("shop", "example.yml"), APP_IMAGE=image.EXAMPLE, HOST="golf.example", APP_PORT="8083", NETWORK="golf"
        )
        self.lab.await_running("shop_web", 3)
        places = self.at()
        self.assertEqual(2, len(places))
        for at in places:
            self.until(at, "golf.example", 200)
            time.sleep(2)  # a task that has just come is tried before it takes its turn
            for keep, apart in ((True, 0), (False, workers)):
                answers = self.ask(at, "golf.example", 60, keep=keep)
                self.assertEqual({200}, {answer["status"] for answer in answers})
                counts = collections.Counter(json.loads(answer["body"])["task"] for answer in answers)
                measured(f"60 requests at {at}, one connection: {keep}, were answered by tasks {dict(counts)}")
                self.assertEqual(3, len(counts))
                self.assertLessEqual(max(counts.values()) - min(counts.values()), apart)
            (other,) = self.ask(at, "other.example")
            self.assertEqual((404, NOT_FOUND), (other["status"], other["body"]))

    def test_stack_files(self):
        """Docker takes all stack files without an objection."""
        for file in sorted(DEPLOY.glob("*.yml")):
            command = ["docker", "stack", "config", "-c", str(file)]
            done = subprocess.run(
                command,
                env={**os.environ, "APP_IMAGE": "app", "EMAIL": "a@gate.example"},
                capture_output=True,
                timeout=60,
                check=False,
            )
            self.assertEqual((0, b""), (done.returncode, done.stderr), file)

    def test_healthy(self):
        """Both replicas are healthy by the image's own check, and on different nodes."""
        placed = self.placed("gate_swarmgate")
        self.assertEqual(2, len(placed))
        for host, container in placed.items():
            (told,) = json.loads(self.engine(host).docker("inspect", container))
            self.assertEqual("healthy", told["State"]["Health"]["Status"])
            self.assertTrue(told["Config"]["User"].startswith("65532:"))

    def test_not_enabled(self):
        """A service that does not say so itself is not routed."""
        labels = self.routed("shy")
        del labels["traefik.enable"]
        self.lab.service("shy", labels=labels, networks=["golf"])
        self.lab.service("open", labels=self.routed("open"), networks=["golf"])
        for at in self.at():
            self.until(at, "open.example", 200)
            (answer,) = self.ask(at, "shy.example")
            self.assertEqual((404, NOT_FOUND), (answer["status"], answer["body"]))

    def both_networks(self, prefix: str, label: Mapping[str, str]) -> None:
        self.lab.network("other")
        self.lab.service("web", labels=self.routed("web", prefix, **label), networks=["other", "golf"], replicas=3)
        self.lab.await_running("web", 3)
        for at in self.at():
            self.until(at, "web.example", 200)
            time.sleep(2)
            answers = self.ask(at, "web.example", 12)
            # From another network it would be a timeout: the gate is on golf alone.
            self.assertEqual({200}, {answer["status"] for answer in answers}, answers)
            self.assertLess(max(answer["seconds"] for answer in answers), 1)
            tasks = {json.loads(answer["body"])["task"].rsplit(".", 1)[0] for answer in answers}
            self.assertEqual({"web.1", "web.2", "web.3"}, tasks)

    def test_two_networks(self):
        """A service on two networks is reached on the gate's own, as its option says."""
        self.both_networks("traefik", {})

    def test_two_networks_by_label(self):
        """The same with labels under the project's own name, and one that names the network."""
        self.both_networks("swarmgate", {"swarmgate.swarm.network": "golf"})

    def test_traefik_command(self):
        """The command list of a Traefik 2.10 stack starts the gate, and routes."""
        self.lab.service("web", labels=self.routed("web"), networks=["golf"], replicas=2)
        at = self.gate("traefik", TRAEFIK_COMMAND, 8084, self.lab.engines[0].socket)
        self.until(at, "web.example", 200)
        (ping,) = self.ask(at, "anything", path="/ping")
        self.assertEqual((200, "OK"), (ping["status"], ping["body"]))
        (other,) = self.ask(at, "other.example")
        self.assertEqual((404, NOT_FOUND), (other["status"], other["body"]))


class ChangeTests(GateCase):
    """The Swarm changes under load."""

    def test_convergence(self):
        """Twenty services: nearly all answer 1.5 s after they run, and are gone 1.5 s after they are removed."""
        places = self.at()
        came, went = [], []
        for number in range(COUNT):
            name = f"web{number}"
            with Probe(self.lab.lan, places, [f"{name}.example"]) as probe:
                self.lab.service(name, labels=self.routed(name), networks=["golf"])
                try:
                    seen = probe.wait(f"{name}.example", 200)
                except LabError as error:
                    direct = [self.reached_without_gate(name, at) for at in places]
                    raise LabError(f"{error}; from the gates' containers, without the gates: {direct}") from None
            came.append(seen - running_since(self.lab, name))
        for number in range(COUNT):
            name = f"web{number}"
            with Probe(self.lab.lan, places, [f"{name}.example"]) as probe:
                probe.wait(f"{name}.example", 200)
                self.lab.docker("service", "rm", name)
                removed = time.time()
                seen = probe.wait(f"{name}.example", 404)
            went.append(max(0.0, seen - removed))
        for what, times in (("first 200 after the task runs", came), ("404 after the removal", went)):
            worst = f"at most {max(times):.2f} s"
            measured(f"{what}: median {percentile(times, 50):.2f} s, 95 % {percentile(times, 95):.2f} s, {worst}")
        self.assertLessEqual(percentile(came, 95), SOON)
        self.assertLessEqual(percentile(went, 95), SOON)

    def test_rolling_update(self):
        """All tasks are replaced, and no request fails."""
        options = ["--update-order", "start-first", "--update-parallelism", "1", "--update-delay", "0s"]
        self.lab.service("web", labels=self.routed("web"), networks=["golf"], replicas=3, options=options)
        self.lab.await_running("web", 3)
        places = self.at()
        for at in places:
            self.until(at, "web.example", 200)
        before = {task["ID"] for task in self.lab.running("web")}
        with Probe(self.lab.lan, places, ["web.example"], 0.005) as probe:
            probe.wait("web.example", 200)
            began = time.monotonic()
            self.lab.docker("service", "update", "--force", "--detach", "--quiet", "web")
            wait_until(lambda: self.update_state("web") == "completed", "the update", 60)
            wait_until(lambda: len(self.lab.running("web")) == 3, "three tasks", 60)
            took = time.monotonic() - began
            time.sleep(2)
        after = {task["ID"] for task in self.lab.running("web")}
        measured(f"a rolling update of 3 tasks in {took:.1f} s: {probe.failed} of {probe.asked} requests failed")
        self.assertEqual(set(), before & after)
        self.assertGreater(probe.asked, 500)
        self.assertEqual(0, probe.failed, probe.told)

    def test_update_of_the_gate(self):
        """The gate's own replicas are replaced, a new one first, and whoever asks where one is gets an answer."""
        self.lab.service("web", labels=self.routed("web"), networks=["golf"], replicas=2)
        before = {task["ID"] for task in self.lab.running("gate_swarmgate")}
        for at in self.at():
            self.until(at, "web.example", 200)
        began = time.monotonic()
        self.lab.docker("service", "update", "--force", "--detach", "--quiet", "gate_swarmgate")
        wait_until(lambda: self.update_state("gate_swarmgate") in ("completed", "paused"), "the update", 120, 0.5)
        self.assertEqual("completed", self.update_state("gate_swarmgate"))
        self.lab.await_running("gate_swarmgate", 2)
        measured(f"a rolling update of the gate's 2 replicas took {time.monotonic() - began:.1f} s")
        self.assertEqual(set(), before & {task["ID"] for task in self.lab.running("gate_swarmgate")})
        for at in self.at():
            self.assertEqual({200}, {answer["status"] for answer in self.ask(at, "web.example", 20)})

    def update_state(self, name: str) -> str:
        (service,) = self.lab.inspect(name)
        return str((service.get("UpdateStatus") or {}).get("State", ""))


def manages(engine: Engine) -> bool:
    """Return whether an engine knows the Swarm: one that has just been started has to find the other managers first."""
    try:
        engine.docker("service", "ls", "--quiet", timeout=5)
    except LabError:
        return False
    return True


class OutageTests(GateCase):
    """The daemon that the gate listens to goes away, and comes back."""

    def outage(self, at: str, gate: str, engine: Engine, stop: Any, start: Any) -> None:
        """Let a daemon stop under load and start again; requests, log and changes are as they should be.

        :param at: where the gate answers.
        :param gate: the name of its service; its log is read on the node n1.
        """
        docker = self.engine("n2").docker
        self.until(at, "web.example", 200)
        self.until(at, "later.example", 404)
        before = len(self.log(gate, "n1"))
        with Probe(self.lab.lan, [at], ["web.example"], 0.005) as probe:
            probe.wait("web.example", 200)
            stop()
            time.sleep(OUTAGE)
            start()
            wait_until(lambda: manages(engine), f"{engine.host} to be a manager again", 60, 0.05)
            back = time.time()
            docker(
                "service", "update", "--detach", "--quiet", "--label-add", f"{self.later}=Host(`later.example`)", "web"
            )
            with Probe(self.lab.lan, [at], ["later.example"]) as later:
                seen = later.wait("later.example", 200, seconds=20)
            time.sleep(2)
        lines = self.log(gate, "n1")[before:].splitlines()
        measured(f"a daemon away for {OUTAGE:g} s: {probe.failed} of {probe.asked} requests failed")
        measured(f"a change made after its return was in force after {seen - back:.2f} s")
        self.assertEqual(0, probe.failed, probe.told)
        self.assertGreater(probe.asked, 500)
        self.assertEqual(1, len([line for line in lines if "can't be looked at" in line]), lines)
        self.assertEqual(1, len([line for line in lines if "answers again" in line]), lines)
        self.assertLess(seen - back, 5)

    later = "traefik.http.routers.later.rule"

    def test_daemon_frozen(self):
        """The daemon of the gate's own node answers no more: nothing changes for clients until it does again."""
        first = self.engine("n1")
        # Without this the Swarm would move the tasks of a node that it takes for dead.
        self.lab.docker("swarm", "update", "--dispatcher-heartbeat", "60s")
        labels = self.routed("web")
        self.lab.service("web", labels=labels, networks=["golf"], replicas=3)
        at = self.gate("lone", GATE_COMMAND, 8085, first.socket)
        try:
            self.outage(
                *(at, "lone", first),
                lambda: first.signal(signal.SIGSTOP),
                lambda: first.signal(signal.SIGCONT),
            )
        finally:
            first.signal(signal.SIGCONT)
            self.engine("n2").docker("swarm", "update", "--dispatcher-heartbeat", "5s")

    def test_daemon_killed(self):
        """The daemon that the gate looks at dies, and another is started in its place."""
        third = self.engine("n3")
        # Those of n3 end with its daemon's return.
        options = ["--constraint", "node.hostname!=n3"]
        self.lab.service("web", labels=self.routed("web"), networks=["golf"], replicas=3, options=options)
        endpoint = "--providers.swarm.endpoint=unix:///engine/docker.sock"
        at = self.gate("lone", (*GATE_COMMAND, endpoint), 8085, third.folder, target="/engine")

        def start() -> None:
            third.start()
            third.await_up()

        try:
            self.outage(at, "lone", third, third.kill, start)
        finally:
            if third.process is None:
                start()


GATE_COMMAND = (
    "--providers.swarm.exposedbydefault=false",
    "--providers.swarm.network=golf",
    "--entrypoints.web.address=:80",
    "--ping.entrypoint=web",
    "--accesslog",
)


class StopTests(GateCase):
    """A gate is told to stop."""

    def test_drain(self):
        """A request of 3 s that is under way is completed, nobody new gets in, and the gate exits with 0."""
        self.lab.service("web", labels=self.routed("web"), networks=["golf"], replicas=2)
        at = self.gate("lone", GATE_COMMAND, 8085, self.lab.engines[0].socket, options=["--restart-condition", "none"])
        self.until(at, "web.example", 200)
        container = self.placed("lone")["n1"]
        command = [sys.executable, str(ASK), at, "web.example", "--path", "/slow?3"]
        slow = self.lab.lan.popen(*command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        try:
            time.sleep(1)
            self.engine("n1").docker("kill", "--signal", "TERM", container)
            told = time.monotonic()
            time.sleep(0.3)
            (late,) = self.ask(at, "web.example")
            written, _ = slow.communicate(timeout=20)
        finally:
            if slow.poll() is None:
                slow.kill()
                slow.wait()
        code = self.engine("n1").docker("wait", container)
        measured(
            f"a gate that was told to stop has drained and ended after {time.monotonic() - told:.1f} s, code {code}"
        )
        self.assertEqual(200, json.loads(written)["status"], written)
        self.assertEqual(0, late["status"], late)
        self.assertEqual("0", code)
