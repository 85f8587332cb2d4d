"""Middlewares that keep bodies, ask others or speak another protocol, in a gate that runs, with real clients."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import struct
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import Gate, free_port
from tests.e2e.test_grpc import Echo

PATIENCE = 20
LARGE = bytes(range(256)) * 20000


class Handler(BaseHTTPRequestHandler):
    """A server that does what its path says: app, auth server and pages at once."""

    protocol_version = "HTTP/1.1"
    #: Paths that were asked for, with the method, the user that was told and the body.
    seen: list[tuple[str, str, str, bytes]]
    fails: int

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        user = self.headers.get("X-User", "")
        self.seen.append((self.command, self.path, user, body))
        cls = type(self)
        if self.path.startswith("/auth"):
            if self.headers.get("Authorization") == "Bearer good":
                self._answer(200, b"", ("X-User", "ann"))
            else:
                self._answer(302, b"sign in", ("Location", "/login"))
        elif self.path.startswith("/page"):
            self._answer(200, f"page {self.path}".encode())
        elif self.path.startswith("/flaky") and cls.fails > 0:
            cls.fails -= 1
            self._answer(503, b"not now")
        elif self.path == "/gone":
            self._answer(404, b"gone")
        elif self.path == "/large":
            self._answer(200, LARGE)
        elif self.path == "/html":
            self._answer(200, b"<html>")
        else:
            self._answer(200, body or b"hello")

    do_POST = do_PUT = do_GET

    def _answer(self, status: int, body: bytes, *fields: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing."""


_ROUTES = """
http:
  routers:
    buffered: {{rule: Host(`buffered`), service: app, middlewares: [buffered]}}
    digest: {{rule: Host(`digest`), service: app, middlewares: [digest]}}
    forward: {{rule: Host(`forward`), service: app, middlewares: [forward]}}
    down: {{rule: Host(`down`), service: app, middlewares: [down]}}
    pages: {{rule: Host(`pages`), service: app, middlewares: [pages]}}
    lost: {{rule: Host(`lost`), service: app, middlewares: [lost]}}
    typed: {{rule: Host(`typed`), service: app, middlewares: [typed]}}
    web: {{rule: Host(`web`), service: echo, middlewares: [web]}}
  services:
    app: {{loadBalancer: {{servers: [{{url: "http://127.0.0.1:{app}"}}]}}}}
    echo: {{loadBalancer: {{servers: [{{url: "h2c://127.0.0.1:{echo}"}}]}}}}
  middlewares:
    buffered:
      buffering:
        maxRequestBodyBytes: 10000000
        memRequestBodyBytes: 1000
        memResponseBodyBytes: 1000
        retryExpression: ResponseCode() == 503 && Attempts() < 4
    digest: {{digestAuth: {{users: ["bob:traefik:{ha1}"], headerField: X-User, removeHeader: true}}}}
    forward: {{forwardAuth: {{address: "http://127.0.0.1:{app}/auth", authResponseHeaders: [X-User]}}}}
    down: {{forwardAuth: {{address: "http://127.0.0.1:{nobody}/"}}}}
    pages: {{errors: {{status: ["404"], service: app, query: "/page/{{status}}?u={{url}}"}}}}
    lost: {{errors: {{status: ["404"], service: nowhere}}}}
    typed: {{contentType: {{}}}}
    web: {{grpcWeb: {{allowOrigins: ["*"]}}}}
"""


class MiddlewareTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.handler: Any = type("_Handler", (Handler,), {"seen": [], "fails": 0})
        server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.addCleanup(thread.join, PATIENCE)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        echo = grpc.server(ThreadPoolExecutor(4), handlers=(Echo(),))
        port = echo.add_insecure_port("127.0.0.1:0")
        echo.start()
        self.addCleanup(lambda: echo.stop(None).wait(PATIENCE))
        ha1 = hashlib.md5(b"bob:traefik:secret").hexdigest()
        text = _ROUTES.format(app=server.server_port, echo=port, nobody=free_port(), ha1=ha1)
        self.gate = Gate(text, "--workers=2")
        self.addCleanup(self.gate.stop)

    def ask(
        self, host: str, path: str = "/", method: str = "GET", body: bytes | None = None, **fields: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.gate.port, timeout=PATIENCE)
        self.addCleanup(connection.close)
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.request(method, path, body, {"Host": host, **named})
        answer = connection.getresponse()
        return answer, answer.read()

    def curl(self, host: str, *options: str) -> list[str]:
        """The statuses that curl gets for two requests, one after the other."""
        url = f"http://{host}:{self.gate.port}/"
        done = subprocess.run(
            [
                *("curl", "-sS", "-o", "/dev/null", "-o", "/dev/null", "-w", "%{http_code} ", "--noproxy", "*"),
                *("--resolve", f"{host}:{self.gate.port}:127.0.0.1", *options, f"{url}a?b=c", f"{url}d"),
            ],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        return done.stdout.split()

    def test_buffering(self) -> None:
        """Long bodies pass by way of files, both ways; a server that fails is asked again with the same body."""
        answer, body = self.ask("buffered", "/echo", "POST", LARGE)
        self.assertEqual((answer.status, body == LARGE), (200, True))
        self.assertEqual(self.ask("buffered", "/large")[1], LARGE)
        self.handler.fails = 2
        answer, body = self.ask("buffered", "/flaky", "PUT", LARGE)
        self.assertEqual((answer.status, body == LARGE), (200, True))
        self.assertEqual([seen[3] == LARGE for seen in self.handler.seen if seen[1] == "/flaky"], [True] * 3)
        self.handler.fails = 9
        self.assertEqual(self.ask("buffered", "/flaky", "POST", b"x")[0].status, 503)
        asked = len(self.handler.seen)
        self.assertEqual(self.ask("buffered", "/", "POST", None, Content_Length="10000001")[0].status, 413)
        self.assertEqual(len(self.handler.seen), asked)
        workers = self.gate.workers()
        self.assertEqual(len(workers), 2)
        links = [os.readlink(one) for worker in workers for one in Path(f"/proc/{worker}/fd").iterdir()]
        self.assertEqual(
            [one for one in links if one.startswith(f"{tempfile.gettempdir()}/") and one.endswith("(deleted)")], []
        )

    def test_http2(self) -> None:
        """The same over HTTP/2: long bodies both ways, an auth server, pages."""
        folder = tempfile.TemporaryDirectory(prefix="swarmgate-e2e-")
        self.addCleanup(folder.cleanup)
        sent = Path(folder.name) / "sent"
        sent.write_bytes(LARGE)

        def curl(host: str, path: str, *options: str) -> tuple[str, bytes]:
            took = Path(folder.name) / "took"
            done = subprocess.run(
                [
                    *("curl", "-sS", "-o", str(took), "-w", "%{http_version} %{http_code}", "--noproxy", "*"),
                    *("--http2-prior-knowledge", "--resolve", f"{host}:{self.gate.port}:127.0.0.1", *options),
                    f"http://{host}:{self.gate.port}{path}",
                ],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=True,
            )
            return done.stdout, took.read_bytes()

        self.handler.fails = 1
        told, body = curl("buffered", "/flaky", "--data-binary", f"@{sent}")
        self.assertEqual((told, body == LARGE), ("2 200", True))
        told, body = curl("buffered", "/large")
        self.assertEqual((told, body == LARGE), ("2 200", True))
        self.assertEqual(curl("forward", "/x", "-H", "Authorization: Bearer good"), ("2 200", b"hello"))
        self.assertEqual(curl("forward", "/x"), ("2 302", b"sign in"))
        self.assertEqual(curl("pages", "/gone"), ("2 404", b"page /page/404?u=%2Fgone"))
        self.assertEqual(curl("typed", "/html"), ("2 200", b"<html>"))

    def test_digest(self) -> None:
        """curl gets in with the password, and not without; also where each connection has another worker."""
        for _ in range(6):
            self.assertEqual(self.curl("digest", "--digest", "-u", "bob:secret"), ["200", "200"])
        self.assertEqual({seen[2] for seen in self.handler.seen}, {"bob"})
        asked = len(self.handler.seen)
        self.assertEqual(self.curl("digest", "--digest", "-u", "bob:wrong"), ["401", "401"])
        self.assertEqual(self.curl("digest"), ["401", "401"])
        self.assertEqual(len(self.handler.seen), asked)

    def test_forward_auth(self) -> None:
        """The auth server decides, with whoever else says X-User; one that is down keeps everybody out."""
        answer, body = self.ask("forward", "/x", Authorization="Bearer good", X_User="root")
        self.assertEqual((answer.status, body), (200, b"hello"))
        self.assertEqual([(path, user) for _, path, user, _ in self.handler.seen], [("/auth", "root"), ("/x", "ann")])
        answer, body = self.ask("forward", "/x", "POST", b"data", X_User="root")
        self.assertEqual((answer.status, body), (302, b"sign in"))
        self.assertRegex(answer.headers["Location"], r"^http://127\.0\.0\.1:\d+/login$")
        self.assertEqual(self.ask("down", "/x")[0].status, 500)
        self.assertEqual([path for _, path, _, _ in self.handler.seen], ["/auth", "/x", "/auth"])

    def test_errors(self) -> None:
        """A page takes the place of an answer; a router whose page service is not there is not in force."""
        answer, body = self.ask("pages", "/gone")
        self.assertEqual((answer.status, body), (404, b"page /page/404?u=%2Fgone"))
        self.assertEqual(self.ask("pages", "/")[1], b"hello")
        answer, body = self.ask("lost", "/")
        self.assertEqual((answer.status, body), (404, b"404 page not found\n"))
        self.assertIn("nowhere", self.gate.said(100_000))

    def test_content_type(self) -> None:
        """What an answer is shows in its body."""
        self.assertEqual(self.ask("typed", "/html")[0].headers["Content-Type"], "text/html; charset=utf-8")
        self.assertIsNone(self.ask("pages", "/html")[0].headers["Content-Type"])

    def test_grpc_web(self) -> None:
        """A call in both forms, and one that fails."""
        message = struct.pack(">BI", 0, 5) + b"hello"
        answer, body = self.ask("web", "/echo/Unary", "POST", message, Content_Type="application/grpc-web+proto")
        self.assertEqual((answer.status, answer.headers["Content-Type"]), (200, "application/grpc-web"))
        self.assertTrue(body.startswith(message + b"\x80"), body)
        self.assertIn(b"grpc-status: 0\r\n", body)
        self.assertIn(b"x-after: yes\r\n", body)
        text = base64.b64encode(message)
        answer, body = self.ask("web", "/echo/Unary", "POST", text, Content_Type="application/grpc-web-text")
        self.assertTrue(body.startswith(text), body)
        answer, body = self.ask("web", "/echo/Fail", "POST", message, Content_Type="application/grpc-web")
        told = body + str(answer.headers).lower().encode()
        self.assertIn(b"grpc-status: 9", told)
