"""The API of a gate that runs, over real sockets."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.why import command
from tests.e2e.gate import Gate, free_port, routes


def get(port: int, path: str) -> Any:
    """What the API says."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return json.loads(answer.read())


class ApiTests(SynchronousTestCase):
    def test_insecure(self) -> None:
        """With api.insecure the API is on the entry point traefik, and on no other; the why command asks it."""
        port = free_port()
        options = (f"--entrypoints.traefik.address=127.0.0.1:{port}", "--api.insecure")
        gate = Gate(routes({"s": [9]}, {"a.example": "s"}), *options)
        self.addCleanup(gate.stop)
        self.assertEqual(get(port, "/api/overview")["http"]["routers"]["errors"], 0)
        self.assertEqual(get(port, "/api/http/routers/router0@file")["status"], "enabled")
        error = self.assertRaises(urllib.error.HTTPError, get, gate.port, "/api/overview")
        self.assertEqual(error.code, 404)
        error.close()
        api = f"http://127.0.0.1:{port}"
        self.assertEqual(command.why([f"http://a.example:{gate.port}/", "--api", api]), 0)
        self.assertEqual(command.why([f"http://b.example:{gate.port}/", "--api", api]), 1)

    def test_closed(self) -> None:
        """Without api.insecure nobody can ask."""
        gate = Gate(routes({"s": [9]}, {"a.example": "s"}), "--api")
        self.addCleanup(gate.stop)
        error = self.assertRaises(urllib.error.HTTPError, get, gate.port, "/api/overview")
        self.assertEqual(error.code, 404)
        error.close()
