"""A gate that has no memory left: it refuses, says so, goes on with what it has begun, and recovers."""

from __future__ import annotations

import http.client
import signal
import socket
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import Gate, free_port, routes

_PATIENCE = 10.0


class OverloadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.backend = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.backend.close)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name, "gate.yml")
        self.own = free_port()
        self.bound(-1)
        port = self.backend.getsockname()[1]
        self.gate = Gate(
            routes({"app": [port]}, {"a": "app"}),
            f"--config={self.file}",
            f"--entrypoints.own.address=127.0.0.1:{self.own}",
            "--metrics.prometheus.entryPoint=own",
            "--workers=1",
        )
        self.addCleanup(self.gate.stop)

    def bound(self, octets: int) -> None:
        """Let the file say so much for ``overload.maxMemory``."""
        self.file.write_text(f"overload:\n  maxMemory: {octets}\n")

    def ask(self, path: str = "/", port: int = 0) -> tuple[int, dict[str, str], str]:
        """The answer to a request over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.gate.port, timeout=_PATIENCE)
        try:
            connection.request("GET", path, headers={"Host": "a"})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read().decode()
        finally:
            connection.close()

    def until_ping(self, status: int) -> None:
        """Wait until ping says *status*."""
        deadline = time.monotonic() + _PATIENCE
        while (said := self.ask("/ping")[0]) != status:
            self.assertLess(time.monotonic(), deadline, f"ping says {said}; {self.gate.said()}")

    def until_said(self, words: str) -> None:
        """Wait until the log, which is written in the background, has *words*."""
        deadline = time.monotonic() + _PATIENCE
        while words not in self.gate.said(100_000):
            self.assertLess(time.monotonic(), deadline, self.gate.said())
            self.ask("/ping")

    def test_memory(self) -> None:
        """Beyond its bound the gate answers 503 with Retry-After and ping 503; a request under way gets its answer."""
        client = socket.create_connection(("127.0.0.1", self.gate.port), _PATIENCE)
        self.addCleanup(client.close)
        client.sendall(b"GET /under-way HTTP/1.1\r\nHost: a\r\n\r\n")
        server, _ = self.backend.accept()
        self.addCleanup(server.close)
        server.settimeout(_PATIENCE)
        self.assertIn(b"/under-way", server.recv(10_000))
        self.bound(1_000_000)
        self.gate.process.send_signal(signal.SIGHUP)
        self.until_ping(503)
        status, headers, _ = self.ask()
        self.assertEqual((status, headers["Retry-After"]), (503, "2"))
        metrics = self.ask("/metrics", self.own)[2]
        self.assertIn("\ntraefik_overload_refused_share 1.0\n", metrics)
        self.assertRegex(
            metrics, r'traefik_entrypoint_refused_total\{entrypoint="web",reason="overload: memory"\} 1\.0'
        )
        server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.assertTrue(client.recv(10_000).endswith(b"ok"))
        self.bound(-1)
        self.gate.process.send_signal(signal.SIGHUP)
        self.until_ping(200)
        self.until_said("the overload is over")
        self.assertEqual(self.gate.said(100_000).count("new requests are refused"), 1)
        self.assertEqual(self.gate.said(100_000).count("the overload is over"), 1)
