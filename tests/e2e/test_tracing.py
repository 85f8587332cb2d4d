"""Traces from a gate that runs to a collector, over real sockets."""

from __future__ import annotations

import http.server
import json
import queue
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import PATIENCE, Gate, free_port, routes

TRACE = "0af7651916cd43dd8448eb211c80319c"


@contextmanager
def listening(answer: Any) -> Iterator[int]:
    """A server whose requests are given to *answer*; its port."""

    class Requests(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status = answer(self, body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Nothing is to be printed."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


def get(port: int, **headers: str) -> int:
    """Ask the gate for /x; the answer's status."""
    headers = {"Host": "a.example", **headers}
    with urllib.request.urlopen(
        urllib.request.Request(f"http://127.0.0.1:{port}/x", headers=headers), timeout=PATIENCE
    ) as answer:
        status: int = answer.status
        return status


class TracingTests(SynchronousTestCase):
    def test_one_trace(self) -> None:
        """Server, access log and collector are told of one trace; at its end the gate sends what is left."""
        seen: queue.Queue[str] = queue.Queue()
        collected: queue.Queue[tuple[str, str | None, bytes]] = queue.Queue()

        def serve(request: Any, body: bytes) -> int:
            seen.put(request.headers["traceparent"])
            return 200

        def collect(request: Any, body: bytes) -> int:
            collected.put((request.path, request.headers["X-Key"], body))
            return 200

        with listening(serve) as backend, listening(collect) as collector:
            gate = Gate(
                routes({"s": [backend]}, {"a.example": "s"}),
                "--accesslog.format=json",
                "--tracing.servicename=edge",
                f"--tracing.otlp.http.endpoint=http://127.0.0.1:{collector}",
                "--tracing.otlp.http.headers.X-Key=open",
            )
            self.addCleanup(gate.stop)
            self.assertEqual(get(gate.port), 200)
            begun = seen.get(timeout=PATIENCE)
            self.assertEqual(get(gate.port, traceparent=f"00-{TRACE}-b7ad6b7169203331-01"), 200)
            given = seen.get(timeout=PATIENCE)
            deadline = time.monotonic() + PATIENCE
            while gate.access_log.read_text().count('"/x"') < 2 and time.monotonic() < deadline:
                time.sleep(0.02)  # Until lines are written, of which nobody tells.
            logged = [json.loads(line) for line in gate.access_log.read_text().splitlines() if '"/x"' in line]
            self.assertEqual(gate.stop(), 0)
            spans = []
            while not collected.empty():
                path, key, body = collected.get()
                self.assertEqual((path, key), ("/v1/traces", "open"))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    names = {one.key: one.value.string_value for one in resource.resource.attributes}
                    self.assertEqual(names["service.name"], "edge")
                    spans += [span for scope in resource.scope_spans for span in scope.spans]
        self.assertEqual(given.split("-")[1], TRACE)
        self.assertEqual(len(spans), 4, "a request and a try each")
        for told, line in zip((begun, given), logged, strict=True):
            trace, above = told.split("-")[1:3]
            self.assertEqual(line["TraceId"], trace)
            ours = {span.span_id.hex(): span for span in spans if span.trace_id.hex() == trace}
            self.assertEqual(set(ours), {above, line["SpanId"]})
            self.assertEqual(ours[above].parent_span_id.hex(), line["SpanId"])

    def test_no_collector(self) -> None:
        """Without a collector requests are answered all the same, the log says so once, and the gate ends in time."""
        with listening(lambda request, body: 200) as backend:
            gate = Gate(
                routes({"s": [backend]}, {"a.example": "s"}),
                f"--tracing.otlp.http.endpoint=http://127.0.0.1:{free_port()}",
            )
            self.addCleanup(gate.stop)
            deadline = time.monotonic() + PATIENCE
            while "spans do not get through" not in gate.said() and time.monotonic() < deadline:
                self.assertEqual(get(gate.port), 200)
                time.sleep(0.05)  # Spans are sent every other second.
            begun = time.monotonic()
            said = gate.said()
            gate_ended = gate.stop()
        self.assertEqual(said.count("spans do not get through"), 1, said)
        self.assertEqual(gate_ended, 0)
        self.assertLess(time.monotonic() - begun, 10)

    def test_silent_collector(self) -> None:
        """A collector that takes connections and says nothing holds up neither requests nor the gate's end."""
        with listening(lambda request, body: 200) as backend, socket.create_server(("127.0.0.1", 0)) as silent:
            gate = Gate(
                routes({"s": [backend]}, {"a.example": "s"}),
                f"--tracing.otlp.http.endpoint=http://127.0.0.1:{silent.getsockname()[1]}",
            )
            self.addCleanup(gate.stop)
            for _ in range(20):
                self.assertEqual(get(gate.port), 200)
            begun = time.monotonic()
            self.assertEqual(gate.stop(), 0)
        self.assertLess(time.monotonic() - begun, 10)
