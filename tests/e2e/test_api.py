"""The API of a gate that runs, over real sockets."""

from __future__ import annotations

import base64
import http.client
import json
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.why import command
from tests.e2e.gate import Gate, free_port, routes


def get(port: int, path: str) -> Any:
    """What the API says."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return json.loads(answer.read())


_ROUTES = """
http:
  routers:
    api: {rule: "Host(`gate.example`) || Host(`127.0.0.1`)", service: api@internal, middlewares: [auth]}
    open: {rule: Host(`open.example`), service: api@internal}
  middlewares:
    auth: {basicAuth: {users: ["ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="]}}
"""


def restart(port: int, host: str, user: str) -> tuple[int, Any]:
    """Ask for a restart as *user*; status and answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    fields = {"Host": host, "Content-Type": "application/json", "X-Swarmgate-Operation": "1"}
    if user:
        fields["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    connection.request("POST", "/api/operations", json.dumps({"operation": "restart", "service": "web"}), fields)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


class ApiTests(SynchronousTestCase):
    def test_insecure(self) -> None:
        """With api.insecure the API is on the entry point traefik, and on no other; the why command asks it."""
        port = free_port()
        options = (f"--entrypoints.traefik.address=127.0.0.1:{port}", "--api.insecure")
        gate = Gate(routes({"s": [9]}, {"a.example": "s"}), *options)
        self.addCleanup(gate.stop)
        self.assertEqual(get(port, "/api/overview")["http"]["routers"]["errors"], 0)
        self.assertEqual(get(port, "/api/http/routers/router0@file")["status"], "enabled")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            self.assertEqual(answer.url, f"http://127.0.0.1:{port}/dashboard/")
            self.assertIn(b"<title>swarmgate</title>", answer.read())
        error = self.assertRaises(urllib.error.HTTPError, get, gate.port, "/api/overview")
        self.assertEqual(error.code, 404)
        error.close()
        api = f"http://127.0.0.1:{port}"
        self.assertEqual(command.why([f"http://a.example:{gate.port}/", "--api", api]), 0)
        self.assertEqual(command.why([f"http://b.example:{gate.port}/", "--api", api]), 1)
        # A port of none leads to all entry points; the API's routers are not what was asked for.
        self.assertEqual(command.why(["http://a.example/", "--api", api]), 0)
        self.assertEqual(command.why(["http://b.example/", "--api", api]), 1)

    def test_operations(self) -> None:
        """Operations are for users that a middleware has authenticated, and each attempt is in the audit log."""
        with tempfile.TemporaryDirectory() as folder:
            audit = Path(folder, "audit.log")
            gate = Gate(_ROUTES, "--api.operations", f"--api.auditlog.filepath={audit}")
            self.addCleanup(gate.stop)
            asked = [("gate.example", "ann:wrong"), ("open.example", ""), ("gate.example", "ann:secret")]
            self.assertEqual([restart(gate.port, host, user)[0] for host, user in asked], [401, 403, 503])
            # The command that asks why has its password from the URL of the API.
            for password, status in (("secret", 0), ("wrong", 1)):
                words = ["http://open.example/", "--api", f"http://ann:{password}@127.0.0.1:{gate.port}"]
                self.assertEqual(command.why(words), status, password)
            self.assertEqual(gate.stop(), 0)
            lines = [json.loads(line) for line in audit.read_text().splitlines()]
        self.assertEqual(
            [(one["user"], one["client"], one["status"]) for one in lines][1:], [("ann", "127.0.0.1", 503)]
        )
        self.assertEqual((lines[0]["user"], lines[0]["status"], lines[1]["service"]), ("", 403, "web"))

    def test_closed(self) -> None:
        """Without api.insecure nobody can ask."""
        gate = Gate(routes({"s": [9]}, {"a.example": "s"}), "--api")
        self.addCleanup(gate.stop)
        error = self.assertRaises(urllib.error.HTTPError, get, gate.port, "/api/overview")
        self.assertEqual(error.code, 404)
        error.close()
