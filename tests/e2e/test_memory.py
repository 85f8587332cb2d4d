"""What a gate has in memory when nobody asks."""

from __future__ import annotations

import ssl
import urllib.request
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import Gate, free_port, routes
from tests.pki import authority

_AT_MOST = 60e6
"""Octets: what a process of a gate takes that has TLS, checks, an access log and metrics."""


class MemoryTests(SynchronousTestCase):
    def test_idle(self) -> None:
        """A gate that has read its certificate, made its own, and told its metrics takes no more than 60 MB."""
        folder, secure = Path(self.mktemp()).absolute(), free_port()
        folder.mkdir()
        certificate, key = authority().issue("a.example").write(folder, "a")
        tls = f"tls: {{certificates: [{{certFile: {certificate}, keyFile: {key}}}]}}\n"
        gate = Gate(
            routes({"app": [free_port()]}, {"a.example": "app"}) + tls,
            f"--entrypoints.websecure.address=127.0.0.1:{secure}",
            *("--entrypoints.websecure.http.tls", "--metrics.prometheus", "--metrics.prometheus.entryPoint=web"),
            "--workers=1",
        )
        self.addCleanup(gate.stop)
        shown = ssl.get_server_certificate(("127.0.0.1", secure))
        self.assertIn("BEGIN CERTIFICATE", shown)
        with urllib.request.urlopen(f"http://127.0.0.1:{gate.port}/metrics", timeout=10) as answer:
            self.assertIn(
                'traefik_tls_certs_not_after{cn="a.example",sans="a.example",serial="', answer.read().decode()
            )
        status = Path(f"/proc/{gate.process.pid}/status").read_text()
        (resident,) = [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")]
        self.assertLess(resident, _AT_MOST)
