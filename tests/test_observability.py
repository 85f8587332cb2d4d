"""Tests for swarmgate.dynamic.observability, and of what is told of requests in the access log, metrics and traces."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate import service, serving
from swarmgate.config.load import load
from swarmgate.dynamic.file_format import decode_file
from swarmgate.dynamic.observability import Observability, Observed
from swarmgate.dynamic.table import compile_table
from swarmgate.observe.access_log import AccessLog, AccessLogSettings
from swarmgate.observe.tracing import Recording, Spans, Tracing, TracingSettings
from tests.memory_network import OK, MemoryNetwork, MemoryTransport

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ROUTERS = """
http:
  routers:
    plain:
      rule: Host(`plain.example`)
      service: app
    quiet:
      rule: Host(`quiet.example`)
      service: app
      observability: {accessLogs: false, metrics: false, tracing: false}
    loud:
      rule: Host(`loud.example`)
      service: app
      observability: {accessLogs: true, metrics: true, tracing: true, traceVerbosity: detailed}
    secret:
      rule: Host(`secret.example`)
      service: app
      tls: {options: strict}
  services:
    app:
      loadBalancer:
        servers: [{url: "http://10.0.0.1:80"}]
tls:
  options:
    strict: {minVersion: VersionTLS13}
"""


class Lines:
    """A sink of lines, as they are written."""

    def __init__(self) -> None:
        self.written = b""

    def start(self) -> None:
        """Nothing is to be opened."""

    def write(self, lines: bytes) -> None:
        self.written += lines

    def reopen(self) -> None:
        """Nothing is to be opened."""

    def close(self) -> None:
        """Nothing is waiting."""


class Told:
    """A gate that has two entry points, ``web`` and ``hidden``, with what it tells.

    :ivar noted: what is recorded in traces.
    """

    def __init__(self, case: SynchronousTestCase) -> None:
        self.clock = Clock()
        self.noted: list[Recording] = []
        self._lines = Lines()
        log = AccessLog(self._lines, AccessLogSettings(format="json"), self.clock)
        case.patch(serving, "_access_log", lambda configuration, reactor: log)
        case.patch(serving, "_tracing", lambda options, reactor: (Tracing(TracingSettings(), self.noted.append), None))
        hidden = [f"--entryPoints.hidden.observability.{one}=false" for one in ("accessLogs", "metrics", "tracing")]
        configuration = load(
            [
                "--entryPoints.web.address=:80",
                "--entryPoints.hidden.address=:81",
                *hidden,
                "--tracing",
                "--metrics.prometheus",
            ],
            {},
        )
        self.network = MemoryNetwork()
        self.serving = serving.Serving(
            configuration, self.clock, self.network, {}, lambda: True, b"0123456789abcdef0123456789abcdef"
        )
        configurations = {"file": decode_file(ROUTERS, "routers.yml", {})}
        self.serving.apply(compile_table(configurations, service._facts(configuration)))

    def ask(self, host: str, entry_point: str = "web", *lines: str, secure: bool = False) -> bytes:
        """Ask for / of *host*. Returns what the server was asked, ``b""`` if it wasn't."""
        return self.send("\r\n".join(("GET / HTTP/1.1", f"Host: {host}", *lines, "", "")), entry_point, secure)

    def send(self, request: str, entry_point: str = "web", secure: bool = False) -> bytes:
        """Send *request* to an entry point. Returns what the server was asked, ``b""`` if it wasn't."""
        one = self.serving.entry_points[entry_point]
        protocol = one.secured("default", None) if secure else one.plain()
        client = MemoryTransport(protocol)
        protocol.makeConnection(client)
        client.receive(request.encode("ascii"))
        asked = self.network.servers[-1].take() if self.network.servers else b""
        if asked:
            self.network.servers[-1].receive(OK)
        return asked

    @property
    def logged(self) -> list[dict[str, Any]]:
        """What is in the access log."""
        self.clock.advance(1)
        return [json.loads(line) for line in self._lines.written.splitlines()]

    @property
    def counted(self) -> int:
        """The requests that metrics tell of."""
        assert self.serving.traffic is not None
        return sum(tally.requests for _, tally in self.serving.traffic.kinds())


class ObservabilityTests(SynchronousTestCase):
    def test_inherited(self) -> None:
        """A router says of each thing by itself whether it differs from its entry point."""
        quiet = Observed(access_logs=False, metrics=False, tracing=False, detailed=True)
        self.assertEqual(Observability().over(quiet), quiet)
        said = Observability(metrics=True, trace_verbosity="minimal")
        self.assertEqual(said.over(quiet), Observed(access_logs=False, metrics=True, tracing=False, detailed=False))


class RouterTests(SynchronousTestCase):
    def test_told(self) -> None:
        """By default everything is told of a request."""
        told = Told(self)
        self.assertIn(b"traceparent", told.ask("plain.example"))
        self.assertEqual((len(told.logged), told.counted, len(told.noted)), (1, 1, 1))
        self.assertFalse(told.noted[0].detailed)

    def test_untold(self) -> None:
        """A router of which nothing is to be told is in no log, metric or trace; what the client sent is passed on."""
        told = Told(self)
        self.assertNotIn(b"traceparent", told.ask("quiet.example"))
        self.assertIn(PARENT.encode(), told.ask("quiet.example", "web", f"traceparent: {PARENT}"))
        self.assertEqual((told.logged, told.counted, told.noted), ([], 0, []))

    def test_entry_point(self) -> None:
        """An entry point's word holds for its routers, and for what none takes, unless a router has its own."""
        told = Told(self)
        told.ask("plain.example", "hidden")
        told.ask("nobody.example", "hidden")
        told.send("BROKEN\r\n\r\n", "hidden")
        self.assertEqual((told.logged, told.counted, told.noted), ([], 0, []))
        told.ask("loud.example", "hidden")
        self.assertEqual((len(told.logged), told.counted, len(told.noted)), (1, 1, 1))

    def test_detailed(self) -> None:
        """Detailed traces show the router below the request, the service below that, and the server at the end."""
        told = Told(self)
        told.ask("loud.example")
        router, below, attempt, request = Spans(TracingSettings()).of(told.noted[0])
        self.assertEqual([router.name, below.name, attempt.name], ["Router", "Service", "GET"])
        for span, above in ((router, request), (below, router), (attempt, below)):
            assert span.parent is not None and above.context is not None
            self.assertEqual(span.parent.span_id, above.context.span_id)
        self.assertEqual(dict(router.attributes or {}), {"traefik.router.name": "loud@file"})
        self.assertEqual(dict(below.attributes or {}), {"traefik.service.name": "app@file"})


class NobodyTests(SynchronousTestCase):
    """What no router has taken."""

    def told_of(self, told: Told) -> tuple[dict[str, Any], dict[str, Any]]:
        """The attributes of the only span, and the only line of the log, which are of one trace."""
        [noted] = told.noted
        [span] = Spans(TracingSettings()).of(noted)
        [line] = told.logged
        assert span.context is not None
        self.assertEqual(line["TraceId"], f"{span.context.trace_id:032x}")
        self.assertEqual(line["SpanId"], f"{span.context.span_id:016x}")
        return dict(span.attributes or {}), line

    def test_not_found(self) -> None:
        """A request that no router takes has a trace, below the client's."""
        told = Told(self)
        told.ask("nobody.example", "web", f"traceparent: {PARENT}")
        attributes, line = self.told_of(told)
        self.assertEqual((attributes["http.response.status_code"], line["DownstreamStatus"]), (404, 404))
        self.assertEqual(attributes["server.address"], "nobody.example")
        self.assertNotIn("swarmgate.refused", attributes)
        self.assertEqual(line["TraceId"], PARENT[3:35])

    def test_misdirected(self) -> None:
        """One that is answered 421 has a trace that says why."""
        told = Told(self)
        told.ask("secret.example", secure=True)
        attributes, line = self.told_of(told)
        self.assertEqual((attributes["http.response.status_code"], line["DownstreamStatus"]), (421, 421))
        self.assertIn("TLS options", attributes["swarmgate.refused"])
        self.assertEqual(attributes["url.scheme"], "https")

    def test_refused(self) -> None:
        """One that is refused before it is a request has a trace with status and reason."""
        told = Told(self)
        told.send("GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n")
        attributes, line = self.told_of(told)
        self.assertEqual((attributes["http.response.status_code"], line["DownstreamStatus"]), (400, 400))
        [reason] = told.serving.entry_points["web"].refusals
        self.assertEqual(attributes["swarmgate.refused"], reason)
        self.assertEqual(told.counted, 0)
