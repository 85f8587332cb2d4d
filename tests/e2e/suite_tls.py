"""What others judge of the gate's TLS, with its default options: sslyze by Mozilla's profile, testssl.sh by its own.

Not part of ``trial tests``, for it takes minutes; ``make test-tls`` runs it.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.e2e.gate import Gate, free_port
from tests.pki import Authority

ROUTES = """\
http:
  routers:
    a: {rule: Host(`localhost`), service: app, tls: {}, middlewares: [careful]}
  middlewares:
    careful: {headers: {stsSeconds: 63072000, contentTypeNosniff: true, frameDeny: true}}
  services:
    app: {loadBalancer: {servers: [{url: "http://127.0.0.1:%d"}]}}
tls:
  stores:
    default:
      defaultCertificate: {certFile: "%s", keyFile: "%s"}
"""


class JudgedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="swarmgate-judged-"))
        self.addCleanup(shutil.rmtree, self.folder, True)

    def gate(self, kind: str) -> Gate:
        root = Authority("judged root")
        (self.folder / "root.pem").write_text(root.pem)
        start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        issuer = Authority("judged intermediate", root)
        # It names a responder, as testssl.sh thinks less of one that names nobody.
        pair = issuer.issue("localhost", days=89, kind=kind, start=start, responder="http://127.0.0.1:1/")
        gate = Gate(ROUTES % (free_port(), *pair.write(self.folder, kind)))
        self.addCleanup(gate.stop)
        return gate

    def by_sslyze(self, kind: str) -> None:
        program = os.environ.get("SSLYZE") or shutil.which("sslyze")
        if not program:
            raise SkipTest("sslyze is not there: SSLYZE names the program")
        judged = subprocess.run(
            [
                program,
                "--mozilla_config=intermediate",
                f"--certinfo_ca_file={self.folder}/root.pem",
                f"localhost:{self.gate(kind).port}",
            ],
            capture_output=True,
            text=True,
            timeout=200,
        )
        self.assertIn("OK - Compliant", judged.stdout[-1500:])
        self.assertEqual(0, judged.returncode, judged.stdout[-1500:])

    def by_testssl(self, kind: str) -> None:
        program = shutil.which("testssl") or shutil.which("testssl.sh")
        if program is None:
            raise SkipTest("Debian's package testssl.sh is not installed")
        told = self.folder / f"{kind}.json"
        subprocess.run(
            [
                program,
                *("--quiet", "--color", "0", "--warnings", "batch", "--connect-timeout", "5", "--openssl-timeout", "5"),
                *("--add-ca", str(self.folder / "root.pem"), "--ip", "127.0.0.1", "--jsonfile", str(told)),
                f"localhost:{self.gate(kind).port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=400,
        )
        found = json.loads(told.read_text())
        self.assertGreater(len(found), 100, "testssl.sh broke off")
        bad = {one["id"]: one["finding"] for one in found if one["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")}
        self.assertEqual({}, bad)

    def test_sslyze_ecdsa(self) -> None:
        """sslyze finds Mozilla's intermediate profile kept with an ECDSA certificate."""
        self.by_sslyze("EC")

    def test_sslyze_rsa(self) -> None:
        """sslyze finds Mozilla's intermediate profile kept with an RSA certificate."""
        self.by_sslyze("RSA")

    def test_testssl_ecdsa(self) -> None:
        """testssl.sh finds nothing of medium severity or above with an ECDSA certificate."""
        self.by_testssl("EC")

    def test_testssl_rsa(self) -> None:
        """testssl.sh finds nothing of medium severity or above with an RSA certificate."""
        self.by_testssl("RSA")
