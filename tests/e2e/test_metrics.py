"""The metrics of a gate that runs, over real sockets."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import threading
import urllib.error
import urllib.request
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import Gate, free_port, routes


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers every request with 5 octets."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(201)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: Any) -> None:
        pass


class MetricsTests(SynchronousTestCase):
    def test_scrape(self) -> None:
        """Requests, what was refused and servers are told on the entry point traefik, and on no other."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        port = free_port()
        text = routes({"app": [server.server_address[1]], "none": []}, {"a.example": "app", "b.example": "none"})
        gate = Gate(text, f"--entrypoints.traefik.address=127.0.0.1:{port}", "--metrics.prometheus.addRoutersLabels")
        self.addCleanup(gate.stop)
        for host, status in (("a.example", 201), ("a.example", 201), ("b.example", 503), ("c.example", 404)):
            self.assertEqual(self.post(gate.port, host), status)
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", gate.port, timeout=10)) as bad:
            bad.request("GET", "/%zz", headers={"Host": "a.example"})
            self.assertEqual(bad.getresponse().status, 400)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        told = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        posts = {
            (name, dict(labels)["code"]): value
            for (name, labels), value in told.items()
            if dict(labels).get("method") == "POST" and name.endswith("_total")
        }
        self.assertEqual(posts["traefik_entrypoint_requests_total", "201"], 2)
        self.assertEqual(posts["traefik_entrypoint_requests_total", "503"], 1)
        self.assertEqual(posts["traefik_entrypoint_requests_total", "404"], 1)
        self.assertEqual(posts["traefik_router_requests_total", "201"], 2)
        self.assertEqual(posts["traefik_service_requests_total", "201"], 2)
        self.assertEqual(posts["traefik_service_requests_bytes_total", "201"], 6)
        self.assertEqual(posts["traefik_service_responses_bytes_total", "201"], 10)
        up = {dict(labels)["service"]: value for (name, labels), value in told.items() if name.endswith("server_up")}
        self.assertEqual(up, {"app@file": 1.0})
        refused = {
            dict(labels)["reason"]: value for (name, labels), value in told.items() if name.endswith("_refused_total")
        }
        self.assertEqual(refused, {"broken escape in path": 1.0})
        error = self.assertRaises(
            urllib.error.HTTPError, urllib.request.urlopen, f"http://127.0.0.1:{gate.port}/metrics", timeout=10
        )
        self.assertEqual(error.code, 404)
        error.close()

    def test_traffic(self) -> None:
        """The API tells of requests and errors, in all and as they happen, without the option metrics."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        good, dead, port = server.server_address[1], free_port(), free_port()
        text = routes({"app": [good, dead], "none": []}, {"a.example": "app", "b.example": "none"})
        gate = Gate(text, f"--entrypoints.traefik.address=127.0.0.1:{port}", "--api.insecure")
        self.addCleanup(gate.stop)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/traffic", timeout=10) as answer:
            # Whoever waits until a gate answers has asked it something.
            before = json.loads(answer.read())["entryPoints"].get("web", {"requests": 0})["requests"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/events?traffic=true", timeout=10) as events:
            events.readline()
            for host in ["a.example"] * 4 + ["b.example"] * 2:
                self.post(gate.port, host)
            seen: list[Any] = []
            while sum(one["entryPoints"].get("web", {}).get("requests", 0) for one in seen) < 6 and len(seen) < 10:
                line = events.readline()
                if line.startswith(b"data:"):
                    seen.append(json.loads(line[5:]))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/traffic", timeout=10) as answer:
            told = json.loads(answer.read())
        whole = told["entryPoints"]["web"]
        self.assertEqual((whole["requests"] - before, whole["errors"], whole["inFlight"]), (6, 2, 0))
        # The gate's own answers are none of them.
        self.assertEqual(told["entryPoints"].get("traefik", {"requests": 0})["requests"], 0)
        self.assertEqual((told["services"]["app@file"]["requests"], told["services"]["app@file"]["errors"]), (4, 0))
        self.assertEqual(told["servers"]["app@file"][f"http://127.0.0.1:{good}"]["requests"], 4)
        self.assertTrue(0 < whole["p50"] <= whole["p99"] < 5, whole)
        for name, number in (("requests", 6), ("errors", 2)):
            self.assertEqual(sum(one["entryPoints"].get("web", {}).get(name, 0) for one in seen), number)
        for one in seen:
            self.assertTrue(0.9 < one["seconds"] < 5, one["seconds"])

    def post(self, port: int, host: str) -> int:
        """Send three octets, and give the status."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            connection.request("POST", "/", b"abc", {"Host": host})
            answer = connection.getresponse()
            answer.read()
            return answer.status
