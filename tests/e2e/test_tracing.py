"""Traces from a gate that runs to a collector, over real sockets."""

from __future__ import annotations

import http.server
import json
import queue
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import PATIENCE, Gate, free_port, routes
from tests.pki import authority

_LOST = "spans do not get through"
TRACE = "0af7651916cd43dd8448eb211c80319c"


@contextmanager
def listening(answer: Any, tls: ssl.SSLContext | None = None) -> Iterator[int]:
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
    server.handle_error = lambda request, address: None  # type: ignore[method-assign] # Handshakes that fail.
    if tls is not None:
        # Each connection's handshake is its own thread's.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
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


class Collected(TraceServiceServicer):
    """A collector that is spoken to over gRPC: it remembers headers and services' names."""

    def __init__(self) -> None:
        self.said: queue.Queue[tuple[str | None, str]] = queue.Queue()

    def Export(self, request: Any, context: Any) -> Any:
        [resource] = request.resource_spans
        names = {one.key: one.value.string_value for one in resource.resource.attributes}
        metadata = dict(context.invocation_metadata())
        self.said.put((metadata.get("x-key"), names["service.name"]))
        return ExportTraceServiceResponse()


class SecureCollectorTests(SynchronousTestCase):
    """Collectors that are spoken to over TLS."""

    def setUp(self) -> None:
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        self.ca = folder / "ca.pem"
        self.ca.write_text(authority().pem)
        self.server = authority().issue("localhost", "127.0.0.1").write(folder, "server")
        self.client = authority().issue("gate.example").write(folder, "client")

    def said_of(self, *options: str, until: Callable[[str], bool]) -> str:
        """What a gate with these options for traces says; it is stopped once what it has said is enough."""
        with listening(lambda request, body: 200) as backend:
            gate = Gate(
                routes({"s": [backend]}, {"a.example": "s"}),
                "--tracing.servicename=edge",
                *(f"--tracing.otlp.{option}" for option in options),
            )
            self.addCleanup(gate.stop)
            self.assertEqual(get(gate.port), 200)
            deadline = time.monotonic() + PATIENCE
            while not until(gate.said()) and time.monotonic() < deadline:
                time.sleep(0.05)  # Spans are sent every other second, and nobody tells that they aren't.
            said = gate.said()
            self.assertEqual(gate.stop(), 0)
            return said

    def http(self, *options: str) -> tuple[list[tuple[str, str | None, str]], str]:
        """What a collector over HTTPS gets that asks for a certificate, and what the gate says."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.server)
        context.load_verify_locations(self.ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        got: list[tuple[str, str | None, str]] = []

        def collect(request: Any, body: bytes) -> int:
            shown = request.connection.getpeercert() or {}
            names = [value for kind, value in shown.get("subjectAltName", ()) if kind == "DNS"]
            got.append((request.path, request.headers["X-Key"], ",".join(names)))
            return 200

        with listening(collect, context) as port:
            said = self.said_of(
                f"http.endpoint=https://127.0.0.1:{port}", *options, until=lambda said: bool(got) or _LOST in said
            )
        return got, said

    def test_certificates(self) -> None:
        """With the right authority spans get through, headers too, and the gate shows its certificate."""
        certificate, key = self.client
        got, said = self.http(
            f"http.tls.ca={self.ca}", f"http.tls.cert={certificate}", f"http.tls.key={key}", "http.headers.X-Key=open"
        )
        self.assertEqual(got, [("/v1/traces", "open", "gate.example")], said)
        self.assertNotIn(_LOST, said)

    def test_unknown_authority(self) -> None:
        """A collector whose authority is not known gets nothing, and the log says so."""
        got, said = self.http()
        self.assertEqual(got, [])
        self.assertIn(_LOST, said)

    def test_not_verified(self) -> None:
        """With insecureSkipVerify it does, and nobody is warned each time."""
        got, said = self.http("http.tls.insecureSkipVerify=true")
        self.assertEqual(got, [("/v1/traces", None, "")], said)
        self.assertNotIn("InsecureRequestWarning", said)

    def grpc(self, options: Callable[[int], list[str]], secure: bool = False) -> list[tuple[str | None, str]]:
        """What a collector over gRPC gets from a gate with the options for its port."""
        collected = Collected()
        server = grpc.server(futures.ThreadPoolExecutor(2))
        add_TraceServiceServicer_to_server(collected, server)
        if secure:
            certificate, key = (Path(path).read_bytes() for path in self.server)
            asked = grpc.ssl_server_credentials([(key, certificate)], self.ca.read_bytes(), True)
            port = server.add_secure_port("127.0.0.1:0", asked)
        else:
            port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            self.said_of(*options(port), until=lambda said: not collected.said.empty())
        finally:
            server.stop(None).wait(PATIENCE)
        got = []
        while not collected.said.empty():
            got.append(collected.said.get())
        return got

    def test_grpc(self) -> None:
        """Spans get through over gRPC, without TLS and with certificates on both sides."""
        headers = "grpc.headers.X-Key=open"
        plain = self.grpc(lambda port: [f"grpc.endpoint=127.0.0.1:{port}", "grpc.insecure=true", headers])
        self.assertEqual(plain, [("open", "edge")])
        certificate, key = self.client
        files = [f"grpc.tls.ca={self.ca}", f"grpc.tls.cert={certificate}", f"grpc.tls.key={key}"]
        secure = self.grpc(lambda port: [f"grpc.endpoint=127.0.0.1:{port}", headers, *files], secure=True)
        self.assertEqual(secure, [("open", "edge")])


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
