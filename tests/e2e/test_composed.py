"""Services that are made of other services, in a gate that runs, with servers that come and go."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import Gate

PATIENCE = 20
BODY = bytes(range(256)) * 4000

_ROUTES = """
http:
  routers:
    canary: {{rule: Host(`canary`), service: canary}}
    near: {{rule: Host(`near`), service: near}}
    standby: {{rule: Host(`standby`), service: standby}}
    strict: {{rule: Host(`strict`), service: strict}}
    seen: {{rule: Host(`seen`), service: seen}}
    turn: {{rule: Host(`turn`), service: turn}}
  services:
    old: {{loadBalancer: {{servers: [{{url: "http://127.0.0.1:{old}"}}]}}}}
    new: {{loadBalancer: {{servers: [{{url: "http://127.0.0.1:{new}"}}]}}}}
    canary: {{weighted: {{services: [{{name: old, weight: 90}}, {{name: new, weight: 10}}], sticky: {{cookie: {{}}}}}}}}
    near: {{highestRandomWeight: {{services: [{{name: old}}, {{name: new}}]}}}}
    standby: {{failover: {{service: new, fallback: old}}}}
    strict: {{failover: {{service: new, fallback: old, errors: {{status: ["500-599"]}}}}}}
    seen: {{mirroring: {{service: old, mirrors: [{{name: new, percent: 100}}]}}}}
    turn: {{weighted: {{services: [{{name: turn}}]}}}}
"""


class Server:
    """A server that tells its name, and remembers what it was sent.

    :ivar seen: method, path and body of each request.
    :ivar status: what it answers.
    :ivar pause: it answers when this is set.
    """

    def __init__(self, name: str) -> None:
        self.seen: Queue[tuple[str, str, bytes]] = Queue()
        self.status = 200
        self.pause = threading.Event()
        self.pause.set()
        mine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                mine.seen.put((self.command, self.path, body))
                mine.pause.wait(PATIENCE)
                self.send_response(mine.status)
                self.send_header("Content-Length", str(len(name)))
                self.end_headers()
                self.wfile.write(name.encode())

            do_POST = do_GET

            def log_message(self, *args: Any) -> None:
                """Nothing."""

        class Listening(ThreadingHTTPServer):
            daemon_threads = True
            #: Connections end with it, as those of a process do.
            connections: list[Any]

            def process_request(self, request: Any, client_address: Any) -> None:
                self.connections.append(request)
                ThreadingHTTPServer.process_request(self, request, client_address)

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A connection that has ended."""

        self._server = Listening(("127.0.0.1", 0), Handler)
        self._server.connections = []
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections from now on, and end those that there are."""
        self.pause.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self._server.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Fixture(SynchronousTestCase):
    workers = 1

    def setUp(self) -> None:
        self.old, self.new = Server("old"), Server("new")
        self.addCleanup(self.old.stop)
        self.addCleanup(self.new.stop)
        routes = _ROUTES.format(old=self.old.port, new=self.new.port)
        self.gate = Gate(routes, f"--workers={self.workers}")
        self.addCleanup(self.gate.stop)

    def ask(self, host: str, body: bytes | None = None, cookie: str = "") -> tuple[int, str, str]:
        """Status, body and cookie of an answer, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.gate.port, timeout=PATIENCE)
        method = "GET" if body is None else "POST"
        connection.request(method, "/x?y", body, {"Host": host, **({"Cookie": cookie} if cookie else {})})
        answer = connection.getresponse()
        found = answer.status, answer.read().decode(), (answer.headers["Set-Cookie"] or "").partition(";")[0]
        connection.close()
        return found


class WeightedTests(Fixture):
    def test_weighted(self) -> None:
        """A canary gets its tenth; who came to it comes back; and without it nobody notices anything."""
        answers = [self.ask("canary") for _ in range(100 * self.workers)]
        counts = Counter(name for _, name, _ in answers)
        self.assertTrue(8 * self.workers <= counts["new"] <= 12 * self.workers, counts)
        (cookie,) = {cookie for _, name, cookie in answers if name == "new"}
        self.assertEqual({self.ask("canary", cookie=cookie)[1] for _ in range(10)}, {"new"})
        self.new.stop()
        self.assertEqual({self.ask("canary", cookie=cookie)[:2] for _ in range(10)}, {(200, "old")})


class ComposedTests(Fixture):
    def test_highest_random_weight(self) -> None:
        """A client has the same service each time, and the other one when that is gone."""
        (name,) = {self.ask("near")[1] for _ in range(10)}
        (self.old if name == "old" else self.new).stop()
        (other,) = {self.ask("near")[:2] for _ in range(10)}
        self.assertEqual(other, (200, "new" if name == "old" else "old"))

    def test_failover(self) -> None:
        """The fallback answers when the service ends, and for answers that don't count, with the whole body."""
        self.assertEqual(self.ask("standby")[1], "new")
        self.assertEqual(self.ask("strict", BODY)[1], "new")
        self.new.status = 503
        self.assertEqual(self.ask("standby")[:2], (503, "new"))
        self.assertEqual(self.ask("strict", BODY)[:2], (200, "old"))
        self.assertEqual(self.old.seen.get(timeout=PATIENCE), ("POST", "/x?y", BODY))
        self.new.stop()
        self.assertEqual([self.ask("standby", b"body")[:2] for _ in range(5)], [(200, "old")] * 5)

    def test_mirroring(self) -> None:
        """The mirror gets the same, body and all; that it is slow, in trouble or gone costs the client nothing."""
        self.new.pause.clear()
        for body in (None, BODY):
            before = time.monotonic()
            self.assertEqual(self.ask("seen", body)[:2], (200, "old"))
            self.assertLess(time.monotonic() - before, PATIENCE / 2)
            mirrored = self.new.seen.get(timeout=PATIENCE)
            self.assertEqual(mirrored, ("GET" if body is None else "POST", "/x?y", body or b""))
            self.assertEqual(self.old.seen.get(timeout=PATIENCE), mirrored)
        self.new.stop()
        self.assertEqual([self.ask("seen", BODY)[:2] for _ in range(5)], [(200, "old")] * 5)

    def test_circle(self) -> None:
        """A service that leads to itself is reported with its way, and its router answers 404."""
        self.assertEqual(self.ask("turn")[0], 404)
        self.assertIn("it leads back to itself: turn@file -> turn@file", self.gate.said(100_000))


class WorkersTests(WeightedTests):
    """The same with two processes that serve."""

    workers = 2
