"""OCSP stapling by a running gate, as OpenSSL's client sees it."""

from __future__ import annotations

import datetime
import http.server
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import Gate
from tests.e2e.test_tls import wait_until
from tests.pki import Authority, authority

ROUTES = """\
http:
  routers:
    a: {rule: Host(`a.example`), service: app, tls: {}}
  services:
    app: {loadBalancer: {servers: [{url: "http://127.0.0.1:1"}]}}
tls:
  certificates: [{certFile: "%s", keyFile: "%s"}]
"""


class Responder:
    """Says of a certificate that it is good, and counts how often it was asked."""

    def __init__(self, leaf: x509.Certificate, issuer: Authority) -> None:
        self.asked = 0
        responder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ocsp.load_der_ocsp_request(self.rfile.read(int(self.headers["Content-Length"])))
                body = responder.answer(leaf, issuer) if request.serial_number == leaf.serial_number else b""
                self.send_response(200)
                self.send_header("Content-Type", "application/ocsp-response")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/ocsp"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, leaf: x509.Certificate, issuer: Authority) -> bytes:
        self.asked += 1
        now = datetime.datetime.now(datetime.UTC)
        hour = datetime.timedelta(hours=1)
        builder = ocsp.OCSPResponseBuilder().add_response(
            leaf,
            issuer.certificate,
            hashes.SHA1(),
            ocsp.OCSPCertStatus.GOOD,
            now - hour,
            now + hour,
            None,
            None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.NAME, issuer.certificate)
        return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


class StaplingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="swarmgate-ocsp-"))
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.issuer = Authority("intermediate", authority())

    def gate(self, *options: str, responder: str = "http://ocsp.invalid/") -> Gate:
        pair = self.issuer.issue("a.example", responder=responder)
        self.leaf = x509.load_pem_x509_certificates(pair.chain.encode())[0]
        gate = Gate(ROUTES % pair.write(self.folder, "a"), *options)
        self.addCleanup(gate.stop)
        return gate

    def said(self, gate: Gate) -> str:
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{gate.port}", "-servername", "a.example", "-status"],
            input=b"",
            capture_output=True,
            timeout=20,
        )
        return done.stdout.decode("utf-8", "replace")

    def test_stapled(self) -> None:
        """Clients are shown what the responder has said; it is asked once, and where the options say."""
        config = self.folder / "static.yml"
        gate_options = f"--config={config}"
        pair = self.issuer.issue("a.example", responder="http://ocsp.invalid/")
        responder = Responder(x509.load_pem_x509_certificates(pair.chain.encode())[0], self.issuer)
        self.addCleanup(responder.server.server_close)
        self.addCleanup(responder.server.shutdown)
        config.write_text(f'ocsp:\n  responderOverrides:\n    "http://ocsp.invalid/": "{responder.url}"\n')
        gate = Gate(ROUTES % pair.write(self.folder, "a"), gate_options)
        self.addCleanup(gate.stop)
        wait_until(lambda: "Cert Status: good" in self.said(gate))
        for _ in range(5):
            self.assertIn("OCSP Response Status: successful", self.said(gate))
        self.assertEqual(1, responder.asked)

    def test_off(self) -> None:
        """Without the option nobody is asked and nothing shown."""
        gate = self.gate()
        wait_until(lambda: "a.example" in self.said(gate))
        self.assertIn("OCSP response: no response sent", self.said(gate))

    def test_unreachable(self) -> None:
        """While the responder can't be reached handshakes go on without, and the log says why, once."""
        gate = self.gate("--ocsp", responder="http://127.0.0.1:1/")
        wait_until(lambda: "nothing to staple" in gate.said())
        self.assertIn("OCSP response: no response sent", self.said(gate))
        self.assertEqual(1, gate.said(100_000).count("nothing to staple"))
