"""Two gates of one service in a Swarm in memory, each at an address of its own on loopback: each shows both."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import PATIENCE, Gate, free_port, routes

#: A gate that is one of two tasks of a service.
REPLICA = """
import sys
from swarmgate import service
from swarmgate.cli import start_reactor
from swarmgate.config.load import load
from swarmgate.testing import MemorySwarm
swarm = MemorySwarm("container{own}")
swarm.add_service("gate", replicas=0)
for number in (1, 2):
    swarm.start_task("gate", f"127.0.77.{{number}}", slot=number, container=f"container{{number}}")
swarm.add_service("web", {{
    "traefik.enable": "true",
    "traefik.http.routers.web.rule": "Host(`web.example`)",
    "traefik.http.services.web.loadbalancer.server.port": "{backend}",
}}, replicas=0)
swarm.start_task("web", "127.0.0.1")
words = [word for word in sys.argv[2:] if "providers" not in word]
sys.exit(service.run(load([*words, "--providers.swarm.exposedbydefault=false"], {{}}), start_reactor(), swarm))
"""


def until(true: Callable[[], bool]) -> None:
    """Block until it is true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError("it has not come true")
        time.sleep(0.1)


class ReplicaTests(SynchronousTestCase):
    workers = 1

    def setUp(self) -> None:
        self.port = free_port()
        backend = free_port()  # Nobody listens there: each request is answered 502.
        self.apis = [free_port(), free_port()]
        self.gates = []
        for own, api in enumerate(self.apis, 1):
            gate = Gate(
                routes({}, {}),
                *(f"--entrypoints.traefik.address=127.0.0.1:{api}", "--api.insecure", f"--workers={self.workers}"),
                *(f"--api.replicasport={self.port}", "--metrics.prometheus"),
                program=REPLICA.format(own=own, backend=backend),
            )
            self.addCleanup(gate.stop)
            self.gates.append(gate)

    def ask(self, number: int, path: str) -> Any:
        """What the API of a gate answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.apis[number]}{path}", timeout=10) as answer:
            body = answer.read()
        return json.loads(body) if path.startswith("/api") else body.decode()

    def send(self, number: int, count: int) -> None:
        """Requests to a gate."""
        client = http.client.HTTPConnection("127.0.0.1", self.gates[number].port, timeout=10)
        for _ in range(count):
            client.request("GET", "/", headers={"Host": "web.example"})
            client.getresponse().read()
        client.close()

    def requests(self, number: int, query: str = "") -> int:
        """How many requests there were, as a gate tells."""
        told = self.ask(number, f"/api/traffic{query}")["services"].get("web@swarm", {"requests": 0})
        return int(told["requests"])

    def test_whole(self) -> None:
        """Each tells of the requests of both; one that is silent is named, and holds no answer up."""
        until(lambda: all(one["answered"] for one in self.ask(0, "/api/replicas")["replicas"]))
        self.assertEqual(
            [(one["task"], one["address"], one["self"]) for one in self.ask(0, "/api/replicas")["replicas"]],
            [("gate.1", "127.0.77.1", True), ("gate.2", "127.0.77.2", False)],
        )
        self.send(0, 3)
        self.send(1, 4)
        for number, own in ((0, 3), (1, 4)):
            until(lambda number=number: self.requests(number) == 7)
            until(lambda number=number, own=own: self.requests(number, "?replica=self") == own)
        (web,) = [one for one in self.ask(1, "/api/swarm")["services"] if one["name"] == "web"]
        self.assertEqual(web["tasks"][0]["requests"], 7)
        self.assertEqual(self.ask(1, "/api/http/services/web@swarm")["requests"], 7)
        self.assertEqual(self.ask(1, "/api/http/services/web@swarm?replica=self")["requests"], 4)
        self.events()
        # Prometheus asks each of them, and adds up itself.
        own = 'traefik_service_requests_total{code="502",method="GET",protocol="http",service="web@swarm"} 7.0'
        self.assertTrue(own in self.ask(0, "/metrics"))
        until(lambda: self.requests(0) == 21)
        self.silent()

    def events(self) -> None:
        """An event has the requests of both in that second, or of this one."""
        for query, wanted in (("", 7), ("&replica=self", 2)):
            client = http.client.HTTPConnection("127.0.0.1", self.apis[0], timeout=10)
            client.request("GET", f"/api/events?traffic=true{query}")
            answer = client.getresponse()
            seen, ready = 0, 0
            deadline = time.monotonic() + PATIENCE
            while seen < wanted and time.monotonic() < deadline:
                line = answer.readline()
                if line.startswith(b"data: ") and b"entryPoints" in line:
                    told = json.loads(line[6:])
                    seen += told["services"].get("web@swarm", {"requests": 0})["requests"]
                    ready += 1
                    if ready == 2:
                        self.send(0, 2)
                        self.send(1, 5)
            client.close()
            self.assertEqual(seen, wanted)

    def silent(self) -> None:
        """While one is paused the other says so, at once, with what it has told before."""
        before = self.requests(0)
        self.gates[1].process.send_signal(signal.SIGSTOP)
        try:
            until(lambda: self.ask(0, "/api/traffic")["silent"] == ["gate.2"])
            began = time.monotonic()
            for _ in range(5):
                self.assertEqual(self.requests(0), before)
                time.sleep(0.3)
            self.assertLess(time.monotonic() - began, 3.0)
            self.assertEqual(self.ask(0, "/api/swarm")["silent"], ["gate.2"])
            listed = self.ask(0, "/api/replicas")["replicas"][1]
            self.assertFalse(listed["answered"])
            self.assertIn("no answer within", listed["error"])
            with urllib.request.urlopen(f"http://127.0.0.1:{self.apis[0]}/api/http/services", timeout=10) as answer:
                self.assertEqual(answer.headers["X-Silent-Replicas"], "gate.2")
        finally:
            self.gates[1].process.send_signal(signal.SIGCONT)
        until(lambda: self.ask(0, "/api/traffic")["silent"] == [])

    def test_door(self) -> None:
        """Nobody but a replica is let in, whatever a request says of where it comes from."""
        until(lambda: all(one["answered"] for one in self.ask(0, "/api/replicas")["replicas"]))
        for source, answered in (("127.0.0.1", False), ("127.0.77.1", False), ("127.0.77.2", True)):
            with socket.create_connection(("127.0.77.1", self.port), 10, (source, 0)) as client:
                client.sendall(b"GET /traffic HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 127.0.77.2\r\n\r\n")
                try:
                    got = client.recv(1000)
                except ConnectionError:
                    got = b""
            self.assertEqual(got.startswith(b"HTTP/1.1 200"), answered, source)
        self.assertIn('traefik_replica_answers_total{outcome="refused"} 2.0', self.ask(0, "/metrics"))
        with self.assertRaises(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1)

    def test_question(self) -> None:
        """Only oneself can be asked for alone."""
        with self.assertRaises(urllib.error.HTTPError) as caught:
            self.ask(0, "/api/traffic?replica=gate.2")
        self.assertEqual(caught.exception.code, 400)


class WorkersTests(ReplicaTests):
    """The same with workers: their parents ask and answer."""

    workers = 2
