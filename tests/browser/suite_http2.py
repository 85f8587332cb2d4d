"""A browser's view of the gate's TLS and HTTP/2."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from twisted.trial.unittest import SynchronousTestCase

from tests.browser import chromium
from tests.e2e.gate import Gate
from tests.pki import authority

ROUTES = """\
http:
  routers:
    a: {rule: Host(`localhost`), service: app, tls: {}}
  services:
    app: {loadBalancer: {servers: [{url: "http://127.0.0.1:%d"}]}}
tls:
  certificates: [{certFile: "%s", keyFile: "%s"}]
"""
PAGE = b"<!doctype html><title>there</title><p>over the gate</p>"


class Page(http.server.BaseHTTPRequestHandler):
    """Answers every request with a page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: object) -> None:
        pass


class BrowserTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="swarmgate-browser-"))
        self.addCleanup(shutil.rmtree, self.folder, True)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        pair = authority().issue("localhost")
        self.leaf = x509.load_pem_x509_certificate(pair.chain.encode())
        self.gate = Gate(ROUTES % (server.server_address[1], *pair.write(self.folder, "a")))
        self.addCleanup(self.gate.stop)

    def browser(self) -> Any:
        """Chromium, which trusts the gate's key and no other that it does not know."""
        key = self.leaf.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        trusted = base64.b64encode(hashlib.sha256(key).digest()).decode()
        argument = f"--ignore-certificate-errors-spki-list={trusted}"
        browser = chromium.start(self.folder, argument, logs=("performance",))
        self.addCleanup(browser.quit)
        return browser

    def test_http2(self) -> None:
        """Chromium gets its pages over HTTP/2 and TLS 1.3."""
        browser = self.browser()
        browser.get(f"https://localhost:{self.gate.port}/")
        self.assertEqual("there", browser.title)
        used = browser.execute_script("return performance.getEntriesByType('navigation')[0].nextHopProtocol")
        self.assertEqual("h2", used)
        security = [
            message["params"]["response"]["securityDetails"]["protocol"]
            for message in (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
            if message["method"] == "Network.responseReceived" and "securityDetails" in message["params"]["response"]
        ]
        self.assertIn("TLS 1.3", security)
