"""Tests for swarmgate.observe.tracing."""

from __future__ import annotations

import logging
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from swarmgate import service
from swarmgate.config.load import ConfigurationError, load
from swarmgate.http.exchange import Exchange
from swarmgate.http.message import field_values
from swarmgate.middlewares import retry
from swarmgate.middlewares.chain import Chain
from swarmgate.observe.tracing import Collector, Complaints, Spans, Tracing, TracingSettings
from swarmgate.transport.network import ConnectTimeout
from tests.exchanges import context_of, exchange_of
from tests.http2_peers import HEAD, Http2Client, Http2Server, gate_of
from tests.memory_network import GET, OK, MemoryGate

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-1] + "0"
TRACE = 0x0AF7651916CD43DD8448EB211C80319C


def asked(*lines: str, target: str = "/x?a=1&b=2", method: str = "GET") -> bytes:
    """A request."""
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: a.example:8000", *lines, "", "")).encode("latin-1")


def header(request: bytes, name: str) -> list[str]:
    """The values of a header of *request*."""
    lines = request.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    pairs = [line.split(": ", 1) for line in lines]
    return [value for key, value in pairs if key.lower() == name]


class TracingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.exporter = InMemorySpanExporter()

    def tracing(self, gate: MemoryGate, **settings: Any) -> Tracing:
        """Trace what *gate* does."""
        wanted = TracingSettings(**settings)
        spans = Spans(wanted)
        tracing = Tracing(
            wanted,
            lambda noted: self.exporter.export(spans.of(noted)),
            wall=lambda: 10**18 + int(gate.clock.seconds() * 1e9),
            now=gate.clock.seconds,
        )
        traced = tracing.leaf(gate)

        def serve(exchange: Exchange) -> None:
            exchange.started = gate.clock.seconds()  # Exchanges have the test's clock, as spans do.
            traced.serve(exchange)

        gate.serve = serve  # type: ignore[method-assign]
        gate.finished = tracing.finished  # type: ignore[method-assign, assignment]
        for upstream in gate.upstreams:
            tracing.watch(upstream)
        return tracing

    def gate(self, *servers: str, **settings: Any) -> MemoryGate:
        gate = MemoryGate(servers or ("http://10.0.0.1:80",), trusted=True)
        self.tracing(gate, **settings)
        return gate

    @property
    def server_span(self) -> ReadableSpan:
        """Of the request."""
        [span] = [one for one in self.exporter.get_finished_spans() if one.kind is SpanKind.SERVER]
        return span

    @property
    def tries(self) -> list[ReadableSpan]:
        """Of the tries on servers, in order."""
        return [one for one in self.exporter.get_finished_spans() if one.kind is SpanKind.CLIENT]

    def attributes(self, span: ReadableSpan) -> dict[str, Any]:
        return dict(span.attributes or {})


class RequestTests(TracingCase):
    def test_server_span(self) -> None:
        """A request is told of by the stable names of the semantic conventions."""
        gate = self.gate(service_name="edge", resource_attributes={"deployment.environment.name": "test"})
        client = gate.client()
        client.receive(asked("User-Agent: probe/1", "X-Forwarded-For: 203.0.113.9"))
        gate.clock.advance(0.5)
        gate.server.receive(OK)
        span = self.server_span
        self.assertEqual(
            self.attributes(span),
            {
                "http.request.method": "GET",
                "url.scheme": "http",
                "url.path": "/x",
                "url.query": "a=REDACTED&b=REDACTED",
                "server.address": "a.example",
                "server.port": 8000,
                "client.address": "203.0.113.9",
                "network.peer.address": "192.0.2.7",
                "network.protocol.version": "1.1",
                "user_agent.original": "probe/1",
                "entry_point": "web",
                "traefik.service.name": "app@test",
                "http.response.status_code": 200,
                "http.request.body.size": 0,
                "http.response.body.size": 2,
            },
        )
        self.assertEqual((span.start_time, span.end_time), (10**18, 10**18 + 500_000_000))
        self.assertIs(span.status.status_code, StatusCode.UNSET)
        self.assertIsNone(span.parent)
        resource = span.resource.attributes
        self.assertEqual((resource["service.name"], resource["deployment.environment.name"]), ("edge", "test"))

    def test_name(self) -> None:
        """A span is called by method and router, which are few, whatever clients send."""
        for method, name in (("GET", "GET web@swarm"), ("BREW", "HTTP web@swarm")):
            gate = self.gate()
            leaf, gate.leaf = gate.leaf, None
            gate.leaf = Chain("web@swarm", [], leaf)
            gate.client().receive(asked(method=method))
            gate.server.receive(OK)
            self.assertEqual(self.server_span.name, name)
            self.assertEqual(self.attributes(self.server_span)["traefik.router.name"], "web@swarm")
            self.exporter.clear()
        gate = self.gate()
        gate.client().receive(asked(method="BREW"))
        gate.server.receive(OK)
        told = self.attributes(self.server_span)
        self.assertEqual((told["http.request.method"], told["http.request.method_original"]), ("_OTHER", "BREW"))

    def test_try(self) -> None:
        """The server's part is a span below the request's, and what the server gets names it."""
        gate = self.gate()
        gate.client().receive(asked())
        [sent] = header(gate.server.take(), "traceparent")
        gate.clock.advance(0.25)
        gate.server.receive(OK)
        [span] = self.tries
        above = self.server_span.context
        self.assertEqual(
            self.attributes(span),
            {
                "http.request.method": "GET",
                "url.full": "http://10.0.0.1:80/x?a=REDACTED&b=REDACTED",
                "url.scheme": "http",
                "server.address": "10.0.0.1",
                "server.port": 80,
                "http.response.status_code": 200,
            },
        )
        assert span.context is not None and span.parent is not None and above is not None
        self.assertEqual((span.parent.trace_id, span.parent.span_id), (above.trace_id, above.span_id))
        self.assertEqual(sent, f"00-{above.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}")
        self.assertEqual((span.start_time, span.end_time), (10**18, 10**18 + 250_000_000))

    def test_parent(self) -> None:
        """A client's trace is gone on with, and its state is passed on once."""
        gate = self.gate(sample_rate=0.0)
        gate.client().receive(asked(f"traceparent: {PARENT}", "tracestate: a=1,b=2"))
        request = gate.server.take()
        gate.server.receive(OK)
        parent = self.server_span.parent
        assert parent is not None
        self.assertEqual((parent.trace_id, f"{parent.span_id:016x}"), (TRACE, "b7ad6b7169203331"))
        [sent] = header(request, "traceparent")
        self.assertTrue(sent.startswith(f"00-{TRACE:032x}-"), sent)
        self.assertTrue(sent.endswith("-01"), sent)
        self.assertNotIn("b7ad6b7169203331", sent)
        self.assertEqual(header(request, "tracestate"), ["a=1,b=2"])

    def test_parent_not_sampled(self) -> None:
        """What a client has decided not to record is not recorded, and its servers are told the same."""
        gate = self.gate()
        gate.client().receive(asked(f"traceparent: {UNSAMPLED}"))
        [sent] = header(gate.server.take(), "traceparent")
        gate.server.receive(OK)
        self.assertEqual(self.exporter.get_finished_spans(), ())
        self.assertTrue(sent.startswith(f"00-{TRACE:032x}-"), sent)
        self.assertTrue(sent.endswith("-00"), sent)

    def test_broken_parent(self) -> None:
        """What can't be read as a trace, or is not one but two, begins a new one."""
        for lines in (
            ("traceparent: 00-junk", "tracestate: a=1"),
            (f"traceparent: {PARENT}", f"traceparent: {PARENT}"),
            ("traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01",),
            ("tracestate: a=1",),
        ):
            gate = self.gate()
            gate.client().receive(asked(*lines))
            request = gate.server.take()
            gate.server.receive(OK)
            self.assertIsNone(self.server_span.parent, lines)
            self.assertEqual(len(header(request, "traceparent")), 1)
            self.assertEqual(header(request, "tracestate"), [])
            self.exporter.clear()

    def test_parents(self) -> None:
        """What is a client's trace, and what is none, is as W3C Trace Context has it."""
        later = "cc" + PARENT[2:]
        for sent, is_read in (
            (PARENT, True),
            (UNSAMPLED, True),
            (PARENT[:-2] + "ff", True),
            (PARENT + "-more", False),
            (PARENT + "-", False),
            (later, True),
            (later + "-more", True),
            (later + "more", False),
            ("ff" + PARENT[2:], False),
            (PARENT.upper(), False),
            (PARENT[:-1], False),
            (PARENT.replace("b7ad6b7169203331", "0" * 16), False),
        ):
            gate = self.gate()
            gate.client().receive(asked(f"TraceParent: {sent}"))
            [told] = header(gate.server.take(), "traceparent")
            gate.server.receive(OK)
            self.assertEqual(told[3:35] == f"{TRACE:032x}", is_read, sent)
            self.assertEqual(told[:3], "00-")
            self.assertIn(told[-3:], ("-00", "-01"))

    def test_states(self) -> None:
        """The state of a trace is passed on as one field, if it can be read; the trace is gone on with in any case."""
        many = [f"k{number}={number}" for number in range(33)]
        for lines, expected in (
            (["a=1"], ["a=1"]),
            (["a=1", "b=2"], ["a=1,b=2"]),
            (["a=1 , b=2,,", ""], ["a=1,b=2"]),
            (["t@v=x y"], ["t@v=x y"]),
            ([",".join(many[:32])], [",".join(many[:32])]),
            ([",".join(many)], []),
            (["A=1"], []),
            (["a"], []),
            (["a=1=2"], []),
        ):
            for parent in (PARENT, UNSAMPLED):
                gate = self.gate()
                gate.client().receive(asked(*(f"tracestate: {one}" for one in lines), f"traceparent: {parent}"))
                request = gate.server.take()
                gate.server.receive(OK)
                self.assertEqual(header(request, "tracestate"), expected, lines)
                [told] = header(request, "traceparent")
                self.assertEqual(told[3:35], f"{TRACE:032x}")

    def test_rate(self) -> None:
        """At a rate of 0 nothing is recorded; the servers still get one trace, and the log its number."""
        gate = self.gate(sample_rate=0.0)
        ended: list[Any] = []
        finished = gate.finished
        gate.finished = lambda exchange: (finished(exchange), ended.append(exchange))  # type: ignore
        gate.client().receive(GET)
        [sent] = header(gate.server.take(), "traceparent")
        gate.server.receive(OK)
        self.assertEqual(self.exporter.get_finished_spans(), ())
        [exchange] = ended
        version, trace_id, span_id, flags = sent.split("-")
        self.assertEqual((version, trace_id, span_id), ("00", exchange.trace.trace_id, exchange.trace.span_id))
        self.assertEqual(int(flags, 16) & 1, 0)

    def test_share(self) -> None:
        """About the share that was asked for is recorded."""
        gate = self.gate(sample_rate=0.5)
        client = gate.client()
        for _ in range(400):
            client.receive(GET)
            gate.server.receive(OK)
        recorded = len(self.exporter.get_finished_spans()) / 2
        # A fair coin is outside of this once in 10^14 times.
        self.assertTrue(120 < recorded < 280, recorded)

    def test_headers(self) -> None:
        """Captured headers are lists, below their names in lower case."""
        gate = self.gate(request_headers=("X-Tenant", "X-None"), response_headers=("X-Shard",))
        gate.client().receive(asked("x-tenant: a", "X-Tenant: b", "X-Other: c"))
        gate.server.receive(b"HTTP/1.1 200 OK\r\nX-Shard: 7\r\nContent-Length: 0\r\n\r\n")
        told = self.attributes(self.server_span)
        self.assertEqual(told["http.request.header.x-tenant"], ("a", "b"))
        self.assertEqual(told["http.response.header.x-shard"], ("7",))
        self.assertFalse(any("none" in name or "x-other" in name for name in told))

    def test_safe_query(self) -> None:
        """Values of queries are hidden, but for those that are named."""
        gate = self.gate(safe_query=("page", "a b"))
        gate.client().receive(asked(target="/?page=2&token=hunter2&flag&a+b=c;x=y&page=3"))
        gate.server.receive(OK)
        expected = "page=2&token=REDACTED&flag&a+b=c&x=REDACTED&page=3"
        self.assertEqual(self.attributes(self.server_span)["url.query"], expected)
        self.assertTrue(self.attributes(self.tries[0])["url.full"].endswith("/?" + expected))

    def test_internals(self) -> None:
        """The gate's own services are traced if that is asked for."""
        for internals, spans in ((False, 0), (True, 1)):
            gate = self.gate(internals=internals)

            def serve(exchange: Exchange) -> None:
                exchange.service = "ping@internal"
                exchange.answer(200)

            gate.leaf = SimpleNamespace(service="ping@internal", serve=serve)
            gate.client().receive(GET)
            self.assertEqual(len(self.exporter.get_finished_spans()), spans)

    def test_http2(self) -> None:
        """It is the same for streams, and for servers that speak HTTP/2."""
        gate = gate_of("h2c://10.0.0.1:80")
        self.tracing(gate)
        client = Http2Client(gate)
        client.ask([*HEAD, (b"traceparent", PARENT.encode())])
        server = Http2Server(gate)
        [sent] = [value for name, value in server.heads[1].items() if name == b"traceparent"]
        server.answer(1, b"ok")
        client.flush()
        [attempt] = self.tries
        told = self.attributes(self.server_span)
        self.assertEqual((told["network.protocol.version"], told["http.response.status_code"]), ("2", 200))
        assert attempt.context is not None
        self.assertEqual(sent.decode(), f"00-{TRACE:032x}-{attempt.context.span_id:016x}-01")
        self.assertEqual(self.attributes(attempt)["url.full"], "http://10.0.0.1:80/")

    @given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60))
    def test_any_context(self, text: str) -> None:
        """Whatever a client sends as its trace, the request is served, with one trace and no second field."""
        exchange = exchange_of("/", ("X", "y"))
        exchange.request.fields += [(b"Traceparent", text.encode("latin-1")), (b"tracestate", text.encode("latin-1"))]
        spans = Spans(TracingSettings())
        tracing = Tracing(TracingSettings(), lambda noted: self.exporter.export(spans.of(noted)))
        tracing.begin(exchange)
        self.assertEqual(len(exchange.trace.trace_id), 32)
        exchange.status = 200
        tracing.finished(exchange)
        self.assertEqual(len(field_values(exchange.request.fields, b"traceparent")), 1)


class RetryTests(TracingCase):
    def test_next_server(self) -> None:
        """A server that refuses has a span of its own, and so has the one that is asked instead."""
        gate = self.gate("http://10.0.0.1:80", "http://10.0.0.2:80")
        gate.network.accepts = False
        gate.client().receive(asked())
        gate.network.refuse(ConnectionRefusedError())
        gate.clock.advance(0.25)
        gate.network.accept()
        [sent] = header(gate.server.take(), "traceparent")
        gate.server.receive(OK)
        first, second = self.tries
        self.assertEqual(self.attributes(first)["error.type"], "connection_failed")
        self.assertIs(first.status.status_code, StatusCode.ERROR)
        self.assertNotIn("http.request.resend_count", self.attributes(first))
        self.assertEqual(first.end_time, 10**18)
        self.assertEqual(self.attributes(second)["http.request.resend_count"], 1)
        self.assertNotIn("error.type", self.attributes(second))
        addresses = {self.attributes(one)["server.address"] for one in (first, second)}
        self.assertEqual(addresses, {"10.0.0.1", "10.0.0.2"})
        assert second.context is not None
        self.assertIn(f"{second.context.span_id:016x}", sent)
        self.assertIs(self.server_span.status.status_code, StatusCode.UNSET)

    def test_nobody_there(self) -> None:
        """When no server can be reached in time each try says so, and the request fails."""
        gate = self.gate()
        gate.network.accepts = False
        gate.client().receive(asked())
        gate.network.refuse(ConnectTimeout("late"))
        [span] = self.tries
        self.assertEqual(self.attributes(span)["error.type"], "timeout")
        self.assertEqual(self.attributes(self.server_span)["error.type"], "504")
        self.assertIs(self.server_span.status.status_code, StatusCode.ERROR)

    def test_stale_connection(self) -> None:
        """A kept connection that turns out closed and the new one are two tries, each seen once."""
        gate = self.gate()
        client = gate.client()
        client.receive(asked())
        gate.server.receive(OK)
        self.exporter.clear()
        client.receive(asked())
        gate.server.reset()
        gate.server.receive(OK)
        first, second = self.tries
        self.assertEqual(self.attributes(first)["error.type"], "connection_broken")
        self.assertEqual(self.attributes(second)["http.response.status_code"], 200)

    def test_middleware(self) -> None:
        """An answer that the middleware retry does not pass on is a try with its status."""
        gate = self.gate()
        context = context_of(clock=gate.clock)
        leaf = gate.leaf
        gate.leaf = Chain(
            "web@swarm", [retry.build(retry.Settings(attempts=2, status=(range(503, 504),)), context)], leaf
        )
        gate.client().receive(asked(f"traceparent: {PARENT}"))
        gate.server.take()
        gate.server.receive(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
        gate.clock.advance(0.25)
        self.assertEqual(len(header(gate.server.take(), "traceparent")), 1)
        gate.server.receive(OK)
        statuses = [self.attributes(span)["http.response.status_code"] for span in self.tries]
        self.assertEqual(statuses, [503, 200])
        self.assertEqual(self.attributes(self.server_span)["http.response.status_code"], 200)

    def test_broken_answer(self) -> None:
        """An answer that breaks off is an error of the try, though it had a status."""
        gate = self.gate()
        gate.client().receive(asked())
        gate.server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
        gate.server.reset()
        for transport in [connection.transport for connection in list(gate.connections)]:
            transport.settle()
        [span] = self.tries
        told = self.attributes(span)
        self.assertEqual((told["http.response.status_code"], told["error.type"]), (200, "connection_broken"))

    def test_client_left(self) -> None:
        """A client that leaves ends both spans as cancelled, which is nobody's fault."""
        gate = self.gate()
        client = gate.client()
        client.receive(asked())
        client.reset()
        [span] = self.tries
        self.assertEqual(self.attributes(span)["error.type"], "cancelled")
        self.assertEqual(self.attributes(self.server_span)["error.type"], "cancelled")
        self.assertIs(self.server_span.status.status_code, StatusCode.UNSET)


class SendingTests(SynchronousTestCase):
    def test_url(self) -> None:
        """An endpoint without a path gets OTLP's."""
        for endpoint, url in (
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/v1/traces"),
            ("https://c/x", "https://c/x"),
        ):
            self.assertEqual(Collector(endpoint).url, url)

    def test_secrets(self) -> None:
        """Headers for the collector are shown nowhere."""
        self.assertNotIn("hunter2", repr(Collector("http://c", {"Authorization": "hunter2"})))
        options = ["--entryPoints.web.address=:80", "--tracing.otlp.http.headers.Authorization=hunter2"]
        configuration = load(options, {})
        assert configuration.tracing is not None
        self.assertEqual(configuration.tracing.otlp.http.headers, {"Authorization": "hunter2"})
        self.assertNotIn("hunter2", repr(configuration))

    def test_complaints(self) -> None:
        """What is wrong with sending is told once in a while, not each time."""
        said: list[str] = []

        def observe(event: dict[str, Any]) -> None:
            if event.get("log_namespace") == "swarmgate.observe.tracing":
                said.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        times = [0.0]
        complaints = Complaints(lambda call, *given: call(*given), lambda: times[0])
        for second in (0.0, 1.0, 59.0, 61.0):
            times[0] = second
            complaints.handle(logging.makeLogRecord({"levelno": logging.ERROR, "msg": "no %s", "args": ("route",)}))
        self.assertEqual(len(said), 2)
        self.assertIn("no route", said[0])
        self.assertIn("(2 such complaints left out)", said[1])


class WithoutTests(SynchronousTestCase):
    def test_not_loaded(self) -> None:
        """A gate that does not trace does not load OpenTelemetry."""
        code = "import sys, swarmgate.service; print(sum(name.startswith('opentelemetry') for name in sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        self.assertEqual(done.stdout.strip(), "0")

    def test_not_installed(self) -> None:
        """Where it is missing, whoever wants traces is told which extra has it."""
        configuration = load(["--entryPoints.web.address=:80", "--tracing"], {})
        self.assertEqual(service.fault_of(configuration), "")

        def missing(name: str) -> None:
            raise ModuleNotFoundError(name)

        self.patch(service.importlib.util, "find_spec", missing)
        self.assertEqual(service.fault_of(load(["--entryPoints.web.address=:80"], {})), "")
        fault = service.fault_of(configuration)
        self.assertTrue(fault.startswith("tracing: "), fault)
        self.assertIn("swarmgate[tracing]", fault)
        error = self.assertRaises(ValueError, service.make_service, configuration, Clock())
        self.assertIn("swarmgate[tracing]", str(error))

    def test_options(self) -> None:
        """An endpoint that is no URL, a rate beyond 1 and a certificate that can't be read are told of."""
        for option, expected in (
            ("otlp.http.endpoint=collector:4318", "a URL, as http://collector:4318/v1/traces"),
            ("sampleRate=1.5", "a number from 0 to 1"),
            ("otlp.grpc.endpoint=http://collector:4317", "a host and a port, as collector:4317"),
            ("otlp.grpc.tls.insecureSkipVerify=true", "name the certificate's authority in tls.ca"),
        ):
            error = self.assertRaises(
                ConfigurationError, load, ["--entryPoints.web.address=:80", f"--tracing.{option}"], {}
            )
            self.assertIn(expected, str(error))
        for protocol in ("http", "grpc"):
            options = ["--entryPoints.web.address=:80", f"--tracing.otlp.{protocol}.tls.ca=/nowhere/ca.pem"]
            self.assertEqual(
                service.fault_of(load(options, {})), f"tracing.otlp.{protocol}.tls.ca: /nowhere/ca.pem can't be read"
            )

    def test_grpc_not_installed(self) -> None:
        """Where only the exporter over gRPC is missing, its extra is named, and only to those who want it."""
        found = service.importlib.util.find_spec
        self.patch(service.importlib.util, "find_spec", lambda name: None if ".grpc." in name else found(name))
        options = ["--entryPoints.web.address=:80", "--tracing"]
        self.assertEqual(service.fault_of(load(options, {})), "")
        self.assertIn("swarmgate[tracing,grpc]", service.fault_of(load([*options, "--tracing.otlp.grpc"], {})))
