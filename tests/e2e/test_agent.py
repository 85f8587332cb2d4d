"""An agent as a process, a stand-in for its engine on a Unix socket, and a gate that finds it in a Swarm in memory."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.agent.document import decoded
from tests.e2e.gate import PATIENCE, Gate, free_port, routes
from tests.test_agent import LABELS, STATS_2

TOKEN = "0123456789abcdef0123"
_RUN = "import sys; from swarmgate.cli import main; sys.exit(main())"
#: A gate whose Swarm has an agent at 127.0.0.1 on its only node, and a task of web beside it.
SWARM = """
import sys
from swarmgate import service
from swarmgate.cli import start_reactor
from swarmgate.config.load import load
from swarmgate.testing import MemorySwarm
swarm = MemorySwarm()
swarm.add_service("agent", {{"swarmgate.agent": "true", "swarmgate.agent.port": "{port}"}}, replicas=0)
swarm.start_task("agent", "127.0.0.1")
swarm.add_service("web", replicas=0)
web = swarm.start_task("web", "127.0.0.1")
assert web.id == "{task}", web.id
words = [word for word in sys.argv[2:] if "providers" not in word]
sys.exit(service.run(load([*words, "--providers.swarm.exposedbydefault=false"], {{}}), start_reactor(), swarm))
"""
TASK = "task-000004"


class Engine(http.server.BaseHTTPRequestHandler):
    """Answers for one container, as an engine does; what is asked for is kept by the server."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        self.server.asked.append(self.path.partition("?")[0])  # type: ignore[attr-defined]
        told: Any = STATS_2
        if self.path.startswith("/containers/json?"):
            told = [{"Id": "c1", "Created": 5, "Labels": {**LABELS, "com.docker.swarm.task.id": TASK}}]
        else:
            self.server.used += 10**8  # type: ignore[attr-defined]
            told = {**STATS_2, "cpu_stats": {"cpu_usage": {"total_usage": self.server.used}}}  # type: ignore[attr-defined]
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        """A Unix socket's clients have no address."""
        return ""


class EngineServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The engine."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        super().__init__(path, Engine)
        self.asked: list[str] = []
        self.used = 0


def until(true: Callable[[], bool]) -> None:
    """Block until it is true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError("it has not come true")
        time.sleep(0.1)


class AgentTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="swarmgate-agent-")
        self.addCleanup(folder.cleanup)
        self.token = Path(folder.name, "token")
        self.token.write_text(TOKEN)
        self.engine = EngineServer(str(Path(folder.name, "docker.sock")))
        threading.Thread(target=self.engine.serve_forever, daemon=True).start()
        self.addCleanup(self.engine.server_close)
        self.addCleanup(self.engine.shutdown)
        self.port = free_port()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", _RUN, "agent", f"--agent.address=127.0.0.1:{self.port}"),
                *(f"--agent.endpoint=unix://{folder.name}/docker.sock", f"--agent.tokenfile={self.token}"),
                "--agent.node=n1",
            ],
            stdout=subprocess.DEVNULL,
            cwd=Path(__file__).resolve().parent.parent.parent,
        )
        self.addCleanup(self.stop)
        until(lambda: self.ask("/ping")[0] == 200)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)

    def ask(self, path: str, token: str = TOKEN) -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def test_told(self) -> None:
        """Node and container are told to who knows the token; the engine is asked for lists and statistics alone."""
        self.assertEqual(self.ask("/usage", "")[0], 401)
        self.assertEqual(self.engine.asked, [])
        document = decoded(self.ask("/usage")[1])
        self.assertEqual(document.node.cpus, os.cpu_count())
        self.assertEqual((document.tasks[TASK].memory, document.tasks[TASK].cpu), (600, 0.1))
        text = self.ask("/metrics")[1].decode()
        self.assertIn('swarmgate_task_memory_bytes{node="n1",service="web",task="web.3"} 600.0', text)
        self.assertNotIn("SECRET", text)
        self.assertEqual(set(self.engine.asked), {"/containers/json", "/containers/c1/stats"})
        self.bodies()

    def bodies(self) -> None:
        """Whoever sends a body is cut off: nothing of it is kept in memory or in a file."""
        for head in (b"Content-Length: 1000000000", b"Transfer-Encoding: chunked"):
            with socket.create_connection(("127.0.0.1", self.port), 10) as client:
                client.sendall(b"POST /usage HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    self.assertEqual(client.recv(100), b"")
        self.assertEqual(self.ask("/ping")[0], 200)

    def test_gate(self) -> None:
        """A gate finds it, and tells how much is in use; when it hangs, and when it is gone, the node says so."""
        api = free_port()
        gate = Gate(
            routes({}, {}),
            *(f"--entrypoints.traefik.address=127.0.0.1:{api}", "--api.insecure", "--workers=1"),
            f"--agent.tokenfile={self.token}",
            program=SWARM.format(port=self.port, task=TASK),
        )
        self.addCleanup(gate.stop)

        def swarm() -> Any:
            with urllib.request.urlopen(f"http://127.0.0.1:{api}/api/swarm", timeout=10) as answer:
                return json.load(answer)

        def node() -> Any:
            return swarm()["nodes"][0]["usage"]

        until(lambda: node() is not None and node()["error"] is None)
        (web,) = [one for one in swarm()["services"] if one["name"] == "web"]
        self.assertGreater(web["tasks"][0]["usage"]["cpu"], 0)
        self.assertEqual(web["usage"], web["tasks"][0]["usage"])
        self.assertEqual(web["usage"]["memory"], 600)
        self.process.send_signal(signal.SIGSTOP)
        until(lambda: "no answer within" in (node()["error"] or ""))
        self.assertEqual(node()["cpus"], os.cpu_count())
        self.process.send_signal(signal.SIGCONT)
        until(lambda: node()["error"] is None)
        self.stop()
        until(lambda: "connection refused" in (node()["error"] or ""))
