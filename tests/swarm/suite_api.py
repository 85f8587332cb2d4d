"""The API on a real Swarm: a gate with ``api.operations``, asked by a router with basicAuth that its labels make."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from typing import Any

from swarmgate.middlewares.basic_auth import parse_users
from tests.swarm import image, suite_gate
from tests.swarm.lab import IMAGE, LabError, wait_until
from tests.swarm.shared import lab
from tests.swarm.suite_gate import GateCase, measured

PORT = 8086
GENEROUS = 60.0  # seconds for what is usually there at once
SOON = 2.0  # seconds from a service's creation to the event that tells of its router
# ann, secret; of SHA-1, so that nothing waits for bcrypt.
USER = "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="
AUTHORIZATION = "Basic YW5uOnNlY3JldA=="
COMMAND = (
    "--providers.swarm.exposedbydefault=false",
    "--providers.swarm.network=golf",
    "--entrypoints.web.address=:80",
    "--ping.entrypoint=web",
    "--api.operations=true",
    "--api.logs=true",
)
LABELS = {
    "traefik.enable": "true",
    "traefik.http.routers.api.rule": "!Host(`open.example`) && PathPrefix(`/api`)",
    "traefik.http.routers.api.service": "api@internal",
    "traefik.http.routers.api.middlewares": "auth",
    "traefik.http.middlewares.auth.basicauth.users": USER,
    "traefik.http.routers.open.rule": "Host(`open.example`) && PathPrefix(`/api`)",
    "traefik.http.routers.open.service": "api@internal",
}


class ApiTests(GateCase):
    """One gate with the API, on the node n1."""

    def setUp(self) -> None:
        parse_users([("test", USER)])
        # Only this one gate: the pair of the stack file would take its time.
        self.stacks = suite_gate._stacks or suite_gate.Stacks(lab())
        self.lab = self.stacks.lab
        self.addCleanup(self.clear)
        with contextlib.suppress(LabError):
            self.lab.network("golf")  # another suite may have made it
        self.stacks.deploy(
            *("agents", "stack-agent.yml"), IMAGE=image.GATE, DOCKER_SOCKET=self.stacks.socket,
            DOCKER_GID=self.stacks.group,
        )  # fmt: skip
        # One after the other: each start takes its time on a machine that starts many at once.
        self.lab.await_running("agents_agent", 3, 2 * GENEROUS)
        options = [word for label, value in LABELS.items() for word in ("--label", f"{label}={value}")]
        options += ["--network", "swarmgate-agents"]
        self.address = self.gate("apigate", COMMAND, PORT, self.lab.engines[0].socket, options=options)
        wait_until(lambda: self.call("/api/version")[0] == 200, "the API to answer", GENEROUS)

    def call(
        self, path: str, body: Any = None, host: str = "gate.example", auth: str = AUTHORIZATION, at: str = ""
    ) -> tuple[int, Any]:
        """Ask the API from the LAN; status 0 where nobody answers."""
        command = [
            *(sys.executable, "-c", _CALL, at or self.address, host, path, auth),
            "" if body is None else json.dumps(body),
        ]
        status, _, text = self.lab.lan.run(*command, timeout=40).partition(" ")
        try:
            return int(status), json.loads(text)
        except ValueError:
            return int(status), text

    def swarm(self, name: str) -> dict[str, Any]:
        """What the API tells of a service, nothing if it does not know it."""
        status, told = self.call("/api/swarm")
        self.assertEqual(200, status, told)
        found: dict[str, Any] = next((one for one in told["services"] if one["name"] == name), {})
        return found

    def running(self, name: str) -> int:
        return sum(task["state"] == "running" for task in self.swarm(name).get("tasks", ()))

    def soon(self, true: Any, what: str) -> None:
        try:
            wait_until(true, what, GENEROUS, 0.2)
        except LabError as error:
            raise LabError(
                f"{error}; the API: {self.call('/api/swarm')}; the gate: {self.log('apigate', 'n1')}"
            ) from None

    def audit(self) -> list[Any]:
        """The lines of the audit log."""
        lines = [line.partition("audit: ")[2] for line in self.log("apigate", "n1").splitlines() if "audit: {" in line]
        return [json.loads(line) for line in lines]

    def findings(self, service: str) -> str:
        """What the command ``swarmgate why --service`` prints."""
        words = ("why", "--service", service, "--api", f"http://ann:secret@{self.address}")
        return self.lab.lan.run(sys.executable, "-c", _COMMAND, *words, check=False)

    def test_all(self) -> None:
        """What the API tells and does on a Swarm; one test, as each gate takes its time to start."""
        self.closed()
        self.told()
        self.used()
        self.together()
        self.asked_why()
        self.live()
        self.operated()

    def closed(self) -> None:
        """Nobody gets in without a password, and there is no entry point for everybody."""
        self.assertEqual(401, self.call("/api/overview", auth="")[0])
        names = [one["name"] for one in self.call("/api/entrypoints")[1]]
        self.assertEqual(["web"], names)
        self.assertEqual(
            [True, True], [self.call("/api/overview")[1]["features"][key] for key in ("operations", "logs")]
        )

    def told(self) -> None:
        """Nodes and tasks are those that the engine knows."""
        self.lab.service("web", labels=self.routed("web"), networks=["golf"], replicas=3)
        self.soon(lambda: self.running("web") == 3, "three tasks in the API")
        tasks = {task["ID"]: task for task in self.lab.running("web")}
        hosts = {node["ID"]: node["Description"]["Hostname"] for node in self.nodes()}
        shown = {task["id"]: task["node"] for task in self.swarm("web")["tasks"] if task["state"] == "running"}
        self.assertEqual({name: hosts[task["NodeID"]] for name, task in tasks.items()}, shown)
        nodes = {node["hostname"]: node["state"] for node in self.call("/api/swarm")[1]["nodes"]}
        self.assertEqual({"n1": "ready", "n2": "ready", "n3": "ready"}, nodes)

    def pause(self, host: str, container: str) -> None:
        """Pause a container; where cgroups are of version 1 the kernel may take more than one attempt to freeze it."""

        def is_paused() -> bool:
            with contextlib.suppress(LabError):
                self.engine(host).docker("pause", container)
                return True
            return False

        wait_until(is_paused, "a container to be paused", GENEROUS, 0.5)

    def usage(self) -> dict[str, Any]:
        """What the API tells of the usage of each node that has one, by host name."""
        nodes = self.call("/api/swarm")[1]["nodes"]
        return {node["hostname"]: node["usage"] for node in nodes if node["usage"] is not None}

    def used(self) -> None:
        """The agents of a global service are found; nodes and tasks have usage; a node whose agent stops says so."""
        self.lab.await_running("agents_agent", 3)
        names = {"n1", "n2", "n3"}

        def all_told() -> bool:
            told = self.usage()
            return set(told) == names and all(one["error"] is None for one in told.values())

        self.soon(all_told, "the usage of all nodes")
        for name, one in self.usage().items():
            self.assertEqual(os.cpu_count(), one["cpus"], name)
            self.assertTrue(0 <= one["cpu"] <= 1, name)
            self.assertTrue(0 < one["memory"]["used"] < one["memory"]["total"], name)
            self.assertTrue(0 < one["disk"]["used"] <= one["disk"]["total"], name)
            self.assertLess(abs(one["at"] - time.time()), 15, name)

        def tasks() -> list[Any]:
            return [task["usage"] for task in self.swarm("web")["tasks"] if task["state"] == "running"]

        self.soon(lambda: len(tasks()) == 3 and None not in tasks(), "the usage of three tasks")
        for one in tasks():
            self.assertGreater(one["memory"], 1_000_000)
            self.assertGreaterEqual(one["cpu"], 0)
        # The task that is asked is the one that is busy.
        busy = self.lab.lan.popen(sys.executable, "-c", _BUSY, self.address)
        try:
            self.soon(lambda: self.swarm("web")["usage"]["cpu"] > 0.02, "a task that is busy")
            self.soon(lambda: self.swarm("web")["usage"]["network"]["sent"] > 10_000, "what it sends")
        finally:
            busy.kill()
            busy.wait()
        measured(f"usage of web while it is asked: {self.swarm('web')['usage']}")
        agent = self.placed("agents_agent")["n3"]
        cost = self.engine("n3").docker("exec", agent, "cat", "/proc/1/status", "/proc/1/stat")
        measured(f"an agent: {next(line for line in cost.splitlines() if line.startswith('VmRSS'))}")
        self.pause("n3", agent)
        try:
            self.soon(lambda: self.usage()["n3"]["error"] is not None, "the node of a paused agent to say so")
            self.assertIn("no answer within", self.usage()["n3"]["error"])
            self.assertIsNone(self.usage()["n1"]["error"])
        finally:
            self.engine("n3").docker("unpause", agent)
        self.soon(all_told, "the agent to be back")
        self.lab.docker("service", "rm", "agents_agent")
        self.soon(lambda: not self.usage(), "nodes without agents to have no usage")

    def together(self) -> None:
        """Any of three replicas tells of the requests of all, and which of them does not answer."""
        self.lab.docker(
            *("service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", "wholegate"),
            *("--mode", "global", "--network", "golf", "--user", f"65532:{self.stacks.group}"),
            *("--publish", f"mode=host,target=80,published={PORT + 1}"),
            *("--mount", f"type=bind,source={self.stacks.socket},target=/var/run/docker.sock,readonly"),
            *(image.GATE, *COMMAND),
        )
        self.lab.await_running("wholegate", 3, 60)
        places = {host: f"{self.engine(host).address}:{PORT + 1}" for host in ("n1", "n2", "n3")}
        for at in places.values():
            self.until(at, "web.example", 200)
        names = [f"wholegate.{host}" for host in places]

        def listed(at: str) -> list[Any]:
            status, told = self.call("/api/replicas", at=at)
            return list(told["replicas"]) if status == 200 else []

        for at in places.values():
            self.soon(lambda at=at: [one["answered"] for one in listed(at)] == [True] * 3, "all to answer all")
            self.assertEqual(names, sorted(one["task"] for one in listed(at)))

        def requests(at: str, query: str = "") -> int:
            told = self.call(f"/api/traffic{query}", at=at)[1]["services"]
            return int(told.get("web@swarm", {"requests": 0})["requests"])

        time.sleep(1.1)  # what is told may be a second old
        before = {host: requests(at, "?replica=self") for host, at in places.items()}
        for number, at in enumerate(places.values(), 1):
            self.ask(at, "web.example", 10 * number)
        wanted = sum(before.values()) + 60
        for host, at in places.items():
            self.soon(lambda at=at: requests(at) == wanted, f"{wanted} requests as {host} tells")
        self.assertEqual(before["n2"] + 20, requests(places["n2"], "?replica=self"))
        paused = self.placed("wholegate")["n3"]
        self.pause("n3", paused)
        try:
            for host in ("n1", "n2"):
                at = places[host]
                self.soon(lambda at=at: self.call("/api/traffic", at=at)[1]["silent"] == ["wholegate.n3"], "silence")
                began = time.monotonic()
                self.assertEqual(wanted, requests(at))
                measured(f"with a paused replica {host} answers /api/traffic in {time.monotonic() - began:.2f} s")
                self.assertEqual(["wholegate.n3"], self.call("/api/swarm", at=at)[1]["silent"])
        finally:
            self.engine("n3").docker("unpause", paused)
        self.soon(lambda: not self.call("/api/traffic", at=places["n1"])[1]["silent"], "n3 to answer again")
        self.lab.docker("service", "rm", "wholegate")

    def asked_why(self) -> None:
        """A network that the gate is not on, and a label that is misspelt, are named."""
        self.lab.network("elsewhere")
        self.lab.service("lost", labels=self.routed("lost"), networks=["elsewhere"])
        slip = self.routed("slip")
        slip["traefik.http.routers.slip.rulle"] = slip.pop("traefik.http.routers.slip.rule")
        self.lab.service("slip", labels=slip, networks=["golf"])
        self.soon(lambda: "docker service update --network-add golf lost" in self.findings("lost"), "the network")
        self.soon(lambda: "did you mean rule" in self.findings("slip"), "the label")
        self.lab.docker("service", "rm", "lost", "slip")

    def live(self) -> None:
        """An event tells of a service that is deployed."""
        seen: queue.Queue[float] = queue.Queue()
        viewer = self.lab.lan.popen(
            *(sys.executable, "-c", _WATCH, self.address, AUTHORIZATION), stdout=subprocess.PIPE
        )
        try:
            assert viewer.stdout is not None
            self.assertEqual(b"open\n", viewer.stdout.readline())

            def read() -> None:
                for line in viewer.stdout:  # type: ignore[union-attr]
                    if b"fresh@swarm" in line:
                        seen.put(time.monotonic())

            threading.Thread(target=read, daemon=True).start()
            began = time.monotonic()
            self.lab.service("fresh", labels=self.routed("fresh"), networks=["golf"])
            created = time.monotonic()
            told = seen.get(timeout=GENEROUS)
        finally:
            viewer.kill()
            viewer.wait()
            viewer.stdout.close()
        measured(f"an event told of a service's router {told - began:.2f} s after its creation was asked for")
        self.assertLess(told - created, SOON)

    def operated(self) -> None:
        """Scale, roll back, drain and activate work and are in the audit log; without authentication they don't."""
        path = "/api/operations"
        scale = {"operation": "scale", "service": "web", "replicas": 4}
        self.assertEqual(401, self.call(path, scale, auth="")[0])
        status, told = self.call(path, scale, host="open.example")
        self.assertEqual(403, status, told)
        self.assertIn("basicAuth", told["message"])
        self.assertEqual(404, self.call(path, {"operation": "restart", "service": "nobody"})[0])
        self.assertEqual((200, {"message": "scale web to 4: done"}), self.call(path, scale))
        self.soon(lambda: self.running("web") == 4, "four tasks")
        status, told = self.call(path, {"operation": "rollback", "service": "web"})
        self.assertEqual(200, status, told)
        self.soon(lambda: self.running("web") == 3, "three tasks again")
        self.assertEqual(200, self.call(path, {"operation": "drain", "node": "n3"})[0])
        self.soon(lambda: self.availability("n3") == "drain", "n3 to be drained")
        self.assertEqual(200, self.call(path, {"operation": "activate", "node": "n3"})[0])
        self.soon(lambda: self.availability("n3") == "active", "n3 to be active")
        told = [(one["operation"], one["user"], one["status"]) for one in self.audit()]
        self.assertEqual(
            [
                ("", "", 403),
                ("restart", "ann", 404),
                *((kind, "ann", 200) for kind in ("scale", "rollback", "drain", "activate")),
            ],
            told,
        )
        self.logged()

    def logged(self) -> None:
        """What a service logs can be read, and why its tasks do not start."""
        command = ["/usr/bin/python3", "-u", "-c", "import sys; print('hello out'); sys.exit(3)"]
        mount = ("--mount", "type=bind,source=/usr,target=/usr,readonly")
        self.lab.docker(
            *("service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", "brief", *mount),
            *("--restart-delay", "1s", "--network", "golf", IMAGE, *command),
        )

        def failed() -> list[Any]:
            return [one for one in self.swarm("brief").get("tasks", ()) if one["state"] == "failed"]

        self.soon(failed, "a failed task")
        self.assertEqual(3, failed()[0]["exitCode"])
        self.assertIn("non-zero exit", failed()[0]["error"])

        def lines() -> list[Any]:
            status, told = self.call("/api/swarm/services/brief/logs?tail=50&search=HELLO")
            return list(told["lines"]) if status == 200 else []

        self.soon(lines, "lines of its log")
        (line, *_) = lines()
        self.assertEqual(("hello out", "stdout"), (line["text"], line["stream"]))
        self.assertIn(line["node"], ("n1", "n2", "n3"))

    def availability(self, host: str) -> str:
        nodes = self.call("/api/swarm")[1]["nodes"]
        return next(str(node["availability"]) for node in nodes if node["hostname"] == host)


_COMMAND = f"""
import sys
sys.path.insert(0, {str(image.ROOT)!r})
from swarmgate.cli import main
sys.exit(main())
"""
# Run on the LAN: prints status and body.
_CALL = """
import http.client, sys
at, host, path, auth, body = sys.argv[1:]
fields = {"Host": host, "Connection": "close"}
if auth:
    fields["Authorization"] = auth
if body:
    fields |= {"Content-Type": "application/json", "X-Swarmgate-Operation": "1"}
connection = http.client.HTTPConnection(at, timeout=30)
try:
    connection.request("POST" if body else "GET", path, body or None, fields)
    answer = connection.getresponse()
    print(answer.status, answer.read().decode())
except (OSError, http.client.HTTPException) as error:
    print(0, error)
"""
# Run on the LAN: asks web, over and over.
_BUSY = """
import http.client, sys
while True:
    connection = http.client.HTTPConnection(sys.argv[1], timeout=10)
    for _ in range(1000):
        connection.request("GET", "/", headers={"Host": "web.example"})
        connection.getresponse().read()
    connection.close()
"""
# Run on the LAN: prints "open", and then the lines of the event stream.
_WATCH = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=120)
connection.request("GET", "/api/events", headers={"Host": "gate.example", "Authorization": sys.argv[2]})
answer = connection.getresponse()
assert answer.status == 200, answer.status
answer.readline()
print("open", flush=True)
while line := answer.readline():
    print(line.decode().rstrip(), flush=True)
"""
