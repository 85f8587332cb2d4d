"""Tests for swarmgate.observe.access_log."""

from __future__ import annotations

import json
import re
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.client import ClientSettings
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.entry_point import EntryPoint
from swarmgate.http.exchange import Exchange
from swarmgate.http.forwarded import ForwardedPolicy
from swarmgate.http.refused import refused_head
from swarmgate.http2.client import Http2Settings
from swarmgate.middlewares import strip_prefix
from swarmgate.observe.access_log import AccessLog, AccessLogSettings, escaped
from tests.exchanges import MemoryClient, Origin, context_of, exchange_of, lead
from tests.memory_network import MemoryNetwork, MemoryTransport

#: 2026-07-24 10:00:00 UTC.
START = 1784887200.0


class MemorySink:
    """Remembers what it was given."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

    def write(self, lines: bytes) -> None:
        self.calls.append("write")
        self.writes.append(lines)

    def reopen(self) -> None:
        self.calls.append("reopen")

    def close(self) -> None:
        self.calls.append("close")


class AccessLogCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sink = MemorySink()

    def log(self, seconds: float = 0.0035, **settings: Any) -> AccessLog:
        """A log to which all exchanges took *seconds*, from START on."""
        log = AccessLog(
            self.sink,
            AccessLogSettings(**settings),
            self.clock,
            wall=lambda: START + seconds,
            now=lambda: 1000.0 + seconds,
        )
        log.start()
        return log

    def done(self, target: str = "/x", *fields: tuple[str, str], origin: Origin | None = None, **more: Any) -> Exchange:
        """An exchange that was answered."""
        exchange = exchange_of(target, *fields, **more)
        exchange.started = 1000.0
        lead(exchange, origin=origin or Origin(body=b"twelve bytes"))
        exchange.router, exchange.origin_started = "web@swarm", 1000.0005
        return exchange

    def line(self, exchange: Exchange, **settings: Any) -> str:
        log = self.log(**settings)
        log.record(exchange)
        log.stop()
        [line] = self.sink.writes
        self.assertTrue(line.endswith(b"\n"))
        self.assertEqual(line.count(b"\n"), 1)
        self.sink.writes.clear()
        return line[:-1].decode("ascii")


class CommonTests(AccessLogCase):
    def test_line(self) -> None:
        """A line is Traefik's."""
        self.assertEqual(
            self.line(self.done("/x?a=1", peer="10.0.0.2")),
            '10.0.0.2 - - [24/Jul/2026:10:00:00 +0000] "GET /x?a=1 HTTP/1.1" 200 12 "-" "-" 1 "web@swarm" '
            '"http://10.0.0.9:80" 3ms',
        )

    def test_not_routed(self) -> None:
        """A request that no router took is logged as Traefik does."""
        exchange = exchange_of("/z", peer="10.0.0.2", method="POST", minor=0)
        exchange.started = 1000.0
        exchange.answer(404, b"404 page not found\n")
        self.assertEqual(
            self.line(exchange),
            '10.0.0.2 - - [24/Jul/2026:10:00:00 +0000] "POST /z HTTP/1.0" 404 19 "-" "-" 1 "-" "-" 3ms',
        )

    def test_generic(self) -> None:
        """genericCLF ends after the user agent."""
        self.assertEqual(
            self.line(self.done(peer="10.0.0.2"), format="genericCLF"),
            '10.0.0.2 - - [24/Jul/2026:10:00:00 +0000] "GET /x HTTP/1.1" 200 12 "-" "-"',
        )

    def test_client_and_user(self) -> None:
        """The client is what a trusted peer says in X-Forwarded-For, the user who was authenticated."""
        exchange = self.done("/", ("X-Forwarded-For", "1.2.3.4, 5.6.7.8"), trusted=True)
        exchange.user = "bob"
        self.assertTrue(self.line(exchange).startswith("1.2.3.4, 5.6.7.8 - bob ["))
        self.assertTrue(self.line(self.done("/", ("X-Forwarded-For", "1.2.3.4"))).startswith("192.0.2.7 - - ["))

    def test_headers(self) -> None:
        """Referer and User-Agent appear where headers are kept, and only then."""
        fields = (("Referer", "https://a.example/"), ("User-Agent", "curl/8"))
        for settings, shown in (
            ({}, '"-" "-"'),
            ({"header_mode": "keep"}, '"https://a.example/" "curl/8"'),
            ({"headers": {"user-agent": "keep"}}, '"-" "curl/8"'),
            ({"headers": {"Referer": "redact", "User-Agent": "drop"}}, '"REDACTED" "-"'),
        ):
            self.assertIn(f" 12 {shown} 1 ", self.line(self.done("/", *fields), **settings))
        self.assertIn(' 12 "-" "-" 1 ', self.line(self.done("/"), header_mode="keep"))

    def test_what_was_asked(self) -> None:
        """The path is the client's, whatever a middleware made of it."""
        exchange = exchange_of("/api/x?q")
        exchange.started = 1000.0
        lead(exchange, strip_prefix.build(strip_prefix.Settings(prefixes=("/api",)), context_of()))
        self.assertIn('"GET /api/x?q HTTP/1.1"', self.line(exchange))

    def test_without_query(self) -> None:
        """queryParameters can be left away."""
        self.assertIn('"GET /x HTTP/1.1"', self.line(self.done("/x?secret=1"), keep_query=False))
        self.assertIn('"GET /x HTTP/1.1"', self.line(self.done("/x?secret=1"), keep_query=False, names={"a": "drop"}))

    def test_dropped_fields(self) -> None:
        """A dropped field leaves a dash, as with Traefik."""
        names = ("ClientHost", "StartUTC", "StartLocal", "duration", "RouterName", "DownstreamStatus", "RequestPath")
        self.assertEqual(
            self.line(self.done(), names=dict.fromkeys(names, "drop")),
            '- - - [-] "GET - HTTP/1.1" - 12 "-" "-" 1 "-" "http://10.0.0.9:80" 0ms',
        )

    def test_dropped_by_default(self) -> None:
        """With everything dropped, what is named is kept."""
        self.assertEqual(
            self.line(self.done(), default_mode="drop", names={"RequestMethod": "keep", "StartUTC": "keep"}),
            '- - - [24/Jul/2026:10:00:00 +0000] "GET - -" - - "-" "-" - "-" "-" 0ms',
        )

    def test_both_ways_agree(self) -> None:
        """The quick way and the one that can leave fields away write the same line."""
        exchange = self.done("/x?a=1", ("Referer", "r"), ("User-Agent", 'u"\\\xe9'))
        exchange.user = "bob"
        settings = {"headers": {"Referer": "keep", "User-Agent": "redact"}}
        self.assertEqual(self.line(exchange, **settings), self.line(exchange, names={"Other": "drop"}, **settings))

    def test_counted(self) -> None:
        """Requests are numbered, also those that are not logged."""
        log = self.log(statuses=(range(404, 405),))
        exchange = self.done()
        log.record(exchange)
        exchange.status = 404
        log.record(exchange)
        log.stop()
        self.assertEqual(len(self.sink.writes), 1)
        self.assertIn(b' 404 12 "-" "-" 2 ', self.sink.writes[0])


class ForgeryTests(AccessLogCase):
    LINE = re.compile(
        r"(?:[^\"\n\\]|\\.)+ - (?:[^\"\n\\]|\\.)+ \[[^]]+\] \"(?:[^\"\n\\]|\\.)*\" [0-9]+ [0-9]+"
        r" \"(?:[^\"\n\\]|\\.)*\" \"(?:[^\"\n\\]|\\.)*\" [0-9]+ \"web@swarm\" \"http://10\.0\.0\.9:80\" 3ms"
    )

    def test_quotes_in_the_path(self) -> None:
        """A quote in a path doesn't end it."""
        line = self.line(self.done('/a?b="c\\'))
        self.assertIn('"GET /a?b=\\"c\\\\ HTTP/1.1"', line)

    @given(st.text("ab\"\\\t\x80\xff ' -[]", max_size=12))
    def test_nobody_forges(self, text: str) -> None:
        """Whatever a client sends, a line stays one line, and its quoted parts stay what they are."""
        fields = (("Referer", text), ("User-Agent", text), ("X-Forwarded-For", text))
        exchange = self.done("/a?" + re.sub(r"[^!-~]", "", text), *fields, trusted=True)
        exchange.user = text + "\r\n"
        for names in ({}, {"Other": "drop"}):
            line = self.line(exchange, header_mode="keep", names=names)
            self.assertIsNotNone(self.LINE.fullmatch(line), line)

    @given(st.binary())
    def test_escaped(self, value: bytes) -> None:
        """Escaped text is ASCII on one line, and says what it was."""
        text = escaped(value).decode("ascii")
        self.assertTrue(text == "" or text.isprintable())
        back = re.sub(
            rb'\\(x([0-9a-f]{2})|["\\])', lambda f: bytes([int(f[2], 16)]) if f[2] else f[1], text.encode("ascii")
        )
        self.assertEqual(back, value)


class FilterTests(AccessLogCase):
    def kept(self, status: int = 200, retries: int = 0, seconds: float = 0.0035, **settings: Any) -> bool:
        exchange = self.done()
        exchange.status, exchange.retries = status, retries
        log = self.log(seconds, **settings)
        log.record(exchange)
        log.stop()
        written, self.sink.writes = self.sink.writes, []
        return bool(written)

    def test_filters(self) -> None:
        """A request is logged if one of the filters asks for it."""
        filters = {"statuses": (range(404, 405), range(500, 600)), "retried": True, "min_duration": 0.5}
        self.assertFalse(self.kept(**filters))
        self.assertTrue(self.kept(404, **filters))
        self.assertTrue(self.kept(599, **filters))
        self.assertFalse(self.kept(403, **filters))
        self.assertTrue(self.kept(retries=1, **filters))
        self.assertTrue(self.kept(seconds=0.6, **filters))
        self.assertFalse(self.kept(seconds=0.4, **filters))

    def test_internals(self) -> None:
        """The gate's own services are logged only when that is asked for."""
        for internals in (False, True):
            exchange = self.done()
            exchange.service = "ping@internal"
            log = self.log(internals=internals)
            log.record(exchange)
            log.stop()
            self.assertEqual(len(self.sink.writes), int(internals))


class JSONTests(AccessLogCase):
    def data(self, exchange: Exchange, **settings: Any) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.line(exchange, format="json", **settings))
        return data

    def test_line(self) -> None:
        """A line has Traefik's names and units."""
        exchange = self.done("/a?b<c", host="plain:81", method="POST", peer="127.0.0.1")
        exchange.received = 3
        data = self.data(exchange)
        for name in ("StartLocal", "time"):
            self.assertRegex(data.pop(name), r"^2026-07-2[345]T[0-9:.]+(Z|[+-][0-9:]{5})$")
        for name, about in (("Duration", 3_500_000), ("OriginDuration", 3_000_000), ("Overhead", 500_000)):
            self.assertEqual(round(data.pop(name), -3), about)
        self.assertEqual(
            data,
            {
                "ClientAddr": "127.0.0.1",
                "ClientHost": "127.0.0.1",
                "ClientPort": "-",
                "ClientUsername": "-",
                "DownstreamContentSize": 12,
                "DownstreamStatus": 200,
                "OriginContentSize": 12,
                "OriginStatus": 200,
                "RequestAddr": "plain:81",
                "RequestContentSize": 3,
                "RequestCount": 1,
                "RequestHost": "plain",
                "RequestMethod": "POST",
                "RequestPath": "/a?b<c",
                "RequestPort": "81",
                "RequestProtocol": "HTTP/1.1",
                "RequestScheme": "http",
                "RetryAttempts": 0,
                "RouterName": "web@swarm",
                "ServiceAddr": "10.0.0.9:80",
                "ServiceName": "app@test",
                "ServiceURL": "http://10.0.0.9:80",
                "StartUTC": "2026-07-24T10:00:00.000000000Z",
                "entryPointName": "web",
                "level": "info",
                "msg": "",
            },
        )

    def test_not_routed(self) -> None:
        """What isn't known is left away."""
        exchange = exchange_of("/z")
        exchange.started = 1000.0
        exchange.answer(404, b"404 page not found\n")
        data = self.data(exchange)
        for name in ("RouterName", "ServiceName", "ServiceURL", "ServiceAddr"):
            self.assertNotIn(name, data)
        self.assertEqual((data["OriginStatus"], data["OriginDuration"]), (0, 0))

    def test_headers(self) -> None:
        """Headers are kept, dropped and redacted by name, in both directions."""
        fields = (("x-a", "1"), ("X-A", "2"), ("X-Gone", "3"), ("X-Hidden", "4"))
        exchange = self.done("/", *fields, origin=Origin(fields=[(b"server", b"s")]))
        modes = {"x-gone": "drop", "X-HIDDEN": "redact"}
        data = self.data(exchange, header_mode="keep", headers=modes)
        self.assertEqual(data["request_X-A"], "1,2")
        self.assertEqual(data["request_X-Hidden"], "REDACTED")
        self.assertNotIn("request_X-Gone", data)
        self.assertEqual((data["origin_Server"], data["downstream_Server"]), ("s", "s"))
        self.assertEqual(data["downstream_Content-Length"], "5")

    def test_credentials(self) -> None:
        """Credentials are not logged by keeping all headers, only by their own name."""
        fields = (("Authorization", "Basic c2VjcmV0"), ("Cookie", "c2VjcmV0"))
        exchange = self.done("/", *fields, origin=Origin(fields=[(b"Set-Cookie", b"c2VjcmV0")]))
        self.assertNotIn("c2VjcmV0", self.line(exchange, format="json", header_mode="keep"))
        data = self.data(exchange, header_mode="keep", headers={"Cookie": "keep"})
        self.assertEqual((data["request_Cookie"], data["request_Authorization"]), ("c2VjcmV0", "REDACTED"))

    def test_fields(self) -> None:
        """Fields are kept and dropped by name."""
        self.assertNotIn("ClientHost", self.data(self.done(), names={"clienthost": "drop"}))
        data = self.data(self.done(), default_mode="drop", names={"RequestPath": "keep"})
        self.assertEqual(sorted(data), ["RequestPath", "level", "msg", "time"])

    @given(st.text('ab"\\\t\x80\xff{}', max_size=12))
    def test_any_text(self, text: str) -> None:
        """Whatever a client sends, a line is one JSON object."""
        self.assertIn("request_X-A", self.data(self.done("/", ("X-A", f"x{text}")), header_mode="keep"))


class WritingTests(AccessLogCase):
    def test_collected(self) -> None:
        """Lines are written together after a moment, in order."""
        log = self.log()
        for _ in range(3):
            log.record(self.done())
        self.assertEqual(self.sink.writes, [])
        self.clock.advance(0.2)
        [lines] = self.sink.writes
        self.assertEqual([line.split()[12] for line in lines.splitlines()], [b"1", b"2", b"3"])
        log.record(self.done())
        self.clock.advance(0.2)
        self.assertEqual(len(self.sink.writes), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many(self) -> None:
        """So many lines are never collected that they need much memory."""
        log = self.log()
        exchange = self.done("/" + "x" * 1000)
        for _ in range(800):
            log.record(exchange)
        self.assertEqual(len(self.sink.writes), 3)
        self.assertLess(max(map(len, self.sink.writes)), 270_000)

    def test_reopened(self) -> None:
        """What was collected goes to the old file."""
        log = self.log()
        log.record(self.done())
        log.reopen()
        log.stop()
        self.assertEqual(self.sink.calls, ["start", "write", "reopen", "close"])

    def test_time_of_day_is_set(self) -> None:
        """When the system's clock is set, lines soon follow it."""
        day = [START]
        log = AccessLog(self.sink, AccessLogSettings(), self.clock, wall=lambda: day[0], now=lambda: 1000.0)
        log.record(self.done())
        self.clock.advance(0.2)
        day[0] += 3600
        log.record(self.done())
        self.clock.advance(0.2)
        log.record(self.done())
        self.clock.advance(0.2)
        times = [line.decode().split(" +0000]")[0].split("[")[1] for line in self.sink.writes]
        self.assertEqual((times[0], times[-1]), ("24/Jul/2026:10:00:00", "24/Jul/2026:11:00:00"))


class RefusedTests(AccessLogCase):
    """What was refused before it was a request."""

    def refused(self, data: bytes, secure: bool = False, **settings: Any) -> dict[str, Any]:
        exchange = Exchange(MemoryClient(), refused_head(data, secure), "web")
        exchange.request.client_ip = "192.0.2.7"
        exchange.started, exchange.status, exchange.sent = 1000.0, 400, 11
        data_of: dict[str, Any] = json.loads(self.line(exchange, format="json", **settings))
        self.common = self.line(exchange, **settings)
        return data_of

    def test_what_is_known(self) -> None:
        """A refused request is logged with what it said, whole or not."""
        told = self.refused(b"GET /a?b=1 HTTP/1.1\r\nHost: A.example:81\r\nContent-Length: x\r\n\r\n", True)
        for name, value in (
            ("RequestMethod", "GET"),
            ("RequestPath", "/a?b=1"),
            ("RequestProtocol", "HTTP/1.1"),
            ("RequestHost", "A.example"),
            ("RequestPort", "81"),
            ("RequestScheme", "https"),
            ("DownstreamStatus", 400),
            ("DownstreamContentSize", 11),
            ("ClientHost", "192.0.2.7"),
            ("entryPointName", "web"),
        ):
            self.assertEqual(told[name], value, name)
        self.assertNotIn("RouterName", told)
        expected = '192.0.2.7 - - [24/Jul/2026:10:00:00 +0000] "GET /a?b=1 HTTP/1.1" 400 11 "-" "-" 1 "-" "-" 3ms'
        self.assertEqual(self.common, expected)

    def test_settings(self) -> None:
        """Queries and headers are kept or not as of any request."""
        data = b"GET /a?secret=1 HTTP/1.1\r\nUser-Agent: probe\r\nCookie: hunter2\r\nX\x00: y\r\n\r\n"
        told = self.refused(data, keep_query=False, header_mode="keep")
        self.assertEqual((told["RequestPath"], told["request_User-Agent"]), ("/a", "probe"))
        self.assertEqual(told["request_Cookie"], "REDACTED")
        self.assertIn(' 11 "-" "probe" 1 ', self.common)

    def test_nothing_known(self) -> None:
        """What is not even a request line is a line with dashes."""
        told = self.refused(b"\x16\x03\x01")
        self.assertEqual((told["RequestPath"], told["RequestProtocol"], told["RequestHost"]), ("-", "-", ""))

    @given(st.binary(max_size=200))
    def test_any(self, data: bytes) -> None:
        """Whatever a client sends, it is one line of printable characters."""
        self.refused(data)
        self.assertTrue(self.common.isprintable())

    def test_gate(self) -> None:
        """Each refused request has one line, over HTTP/1.1 and HTTP/2, and no other."""
        lines: list[Exchange] = []
        entry_point = EntryPoint(
            MemoryNetwork(),
            self.clock,
            "",
            0,
            ClientSettings("web", ForwardedPolicy(b"gate"), http2=Http2Settings().connection),
            Deadlines(self.clock),
            lambda exchange: exchange.answer(404, b"no"),
            lines.append,
            record_refused=lines.append,
        )

        def said(*pieces: bytes) -> list[tuple[bytes, int]]:
            lines.clear()
            protocol = entry_point.plain()
            protocol.makeConnection(MemoryTransport(protocol))
            for piece in pieces:
                protocol.dataReceived(piece)
            self.clock.advance(11)
            return [(exchange.request.path, exchange.status) for exchange in lines]

        head = b"Host: a\r\n\r\n"
        self.assertEqual(said(b"GET /ok HTTP/1.1\r\n" + head), [(b"/ok", 404)])
        self.assertEqual(said(b"GET /%2F HTTP/1.1\r\n" + head), [(b"/%2F", 400)])
        self.assertEqual(said(b"GET /a HTTP/1.1\r\n", head, b"GET  /b HTTP/1.1\r\n" + head)[0], (b"/a", 404))
        self.assertEqual(len(lines), 2)
        self.assertEqual(said(b"GET /a HTTP/3.1\r\n" + head), [(b"/a", 505)])
        self.assertEqual(said(b"GET /slow HTTP/1.1\r\nHo"), [(b"/slow", 408)])
        bad_body = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        self.assertEqual(said(bad_body), [(b"/x", 400)])
        self.assertEqual(said(b""), [])

        lines.clear()
        protocol: Any = Http2Settings().connection(entry_point, entry_point._settings, Deadlines(self.clock))
        transport = MemoryTransport(protocol)
        protocol.makeConnection(transport)
        peer = H2Connection(H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False))
        peer.initiate_connection()
        for stream, path in ((1, "/ok"), (3, "/%2F"), (5, "no-slash")):
            peer.send_headers(
                stream, [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)], True
            )
        short = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/short"),
            ("content-length", "9"),
        ]
        peer.send_headers(7, short)
        peer.send_data(7, b"abc", True)
        protocol.dataReceived(peer.data_to_send())
        self.assertEqual(
            sorted((exchange.request.path, exchange.status, exchange.sent) for exchange in lines),
            [(b"/%2F", 400, 11), (b"/ok", 404, 2), (b"/short", 400, 0), (b"no-slash", 400, 0)],
        )
        # A stream's client is known by its connection.
        port = str(transport.getPeer().port)
        for exchange in lines:
            told = json.loads(self.line(exchange, format="json"))
            self.assertEqual((told["ClientPort"], told["RequestProtocol"]), (port, "HTTP/2.0"), told)


class TracedTests(AccessLogCase):
    def test_trace(self) -> None:
        """A traced request's line has the numbers of its trace, under both of Traefik's spellings."""
        exchange = self.done()

        class Told:
            trace_id = "0af7651916cd43dd8448eb211c80319c"
            span_id = "b7ad6b7169203331"

        exchange.trace = Told()
        data = json.loads(self.line(exchange, format="json"))
        self.assertEqual((data["TraceId"], data["SpanId"]), (Told.trace_id, Told.span_id))
        self.assertEqual((data["trace_id"], data["span_id"]), (Told.trace_id, Told.span_id))
        self.assertNotIn("TraceId", json.loads(self.line(self.done(), format="json")))

    def test_request_line(self) -> None:
        """RequestLine is there for those who ask for it by name."""
        self.assertNotIn("RequestLine", json.loads(self.line(self.done("/x?a"), format="json")))
        data = json.loads(self.line(self.done("/x?a"), format="json", names={"RequestLine": "keep"}))
        self.assertEqual(data["RequestLine"], "GET /x?a HTTP/1.1")
