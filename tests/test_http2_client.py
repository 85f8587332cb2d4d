"""Clients that speak HTTP/2: what they are answered, what is refused, how they are slowed down and sent away."""

from __future__ import annotations

from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hpack import Encoder
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.request_head import HeadLimits
from swarmgate.http2.client import Http2Settings
from tests.http2_peers import HEAD, POST, Http2Client, frame, gate_of
from tests.memory_network import GET, OK

Fields = list[tuple[bytes, bytes]]


def changed(name: bytes, value: bytes | None) -> Fields:
    """The fields of a GET with another value of *name*, or without it."""
    return [(key, old if key != name else value) for key, old in HEAD if key != name or value is not None]  # type: ignore[misc]


class ForwardingTests(SynchronousTestCase):
    def test_request_and_answer_pass(self) -> None:
        """A request reaches the server with what it said, and its answer the client."""
        gate = gate_of()
        client = Http2Client(gate)
        stream = client.ask([*HEAD[:-1], (b":path", b"/x?y=1"), (b"accept", b"*/*")])
        self.assertEqual(
            gate.server.take(),
            b"GET /x?y=1 HTTP/1.1\r\nHost: a.example\r\naccept: */*\r\n"
            b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Host: a.example\r\nX-Forwarded-Port: 80\r\n"
            b"X-Forwarded-Proto: http\r\nX-Forwarded-Server: gate\r\nX-Real-Ip: 192.0.2.7\r\n\r\n",
        )
        gate.server.receive(b"HTTP/1.1 201 Made\r\nX-A: b\r\nKeep-Alive: x\r\nContent-Length: 2\r\n\r\nok")
        client.flush()
        self.assertEqual(client.heads[stream], {b":status": b"201", b"x-a": b"b", b"content-length": b"2"})
        self.assertEqual((client.bodies[stream], client.ended), (b"ok", {stream}))
        self.assertEqual([(e.status, e.sent) for e in gate.finished_exchanges], [(201, 2)])

    def test_preface_in_pieces(self) -> None:
        """It does not matter in what pieces the first octets come."""
        for size in (1, 2, 17, 18, 19, 24, 25):
            gate = gate_of()
            transport = gate.client()
            client = Http2Client(gate)
            client.transport.take()
            twin = Http2Client.__new__(Http2Client)
            super(Http2Client, twin).__init__(transport, True)
            octets = twin.h2.data_to_send()
            for at in range(0, len(octets), size):
                transport.receive(octets[at : at + size])
            twin.flush()
            stream = twin.ask()
            gate.server.receive(OK)
            twin.flush()
            self.assertEqual(twin.bodies[stream], b"ok", size)

    def test_preface_is_refused_after_a_request(self) -> None:
        """A connection that began with HTTP/1.1 does not become another."""
        gate = gate_of()
        client = gate.client()
        client.receive(GET)
        gate.server.receive(OK)
        client.take()
        client.receive(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.assertTrue(client.take().startswith(b"HTTP/1.1 505 "))

    def test_streams_are_answered_as_answers_come(self) -> None:
        """A request does not wait for the answer of another."""
        gate = gate_of()
        client = Http2Client(gate)
        first, second = client.ask(), client.ask()
        gate.network.servers[1].receive(OK)
        client.flush()
        self.assertEqual(client.ended, {second})
        gate.network.servers[0].receive(OK)
        client.flush()
        self.assertEqual(client.ended, {first, second})

    def test_body_and_trailers_pass(self) -> None:
        """A body without a length is passed on in chunks, with what follows it."""
        gate = gate_of()
        client = Http2Client(gate)
        stream = client.ask([*POST, (b"te", b"trailers")], ends=False)
        client.h2.send_data(stream, b"abc")
        client.h2.send_headers(stream, [(b"x-sum", b"1"), (b"content-length", b"7")], end_stream=True)
        client.flush()
        self.assertTrue(gate.server.take().endswith(b"\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"))
        gate.server.receive(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-After: yes\r\n\r\n"
        )
        client.flush()
        self.assertEqual((client.bodies[stream], client.trailers[stream]), (b"ok", {b"x-after": b"yes"}))
        self.assertIn(stream, client.ended)

    def test_length_is_passed_on(self) -> None:
        """A body with a length keeps it."""
        gate = gate_of()
        client = Http2Client(gate)
        client.ask([*POST, (b"content-length", b"3")], b"abc")
        self.assertIn(b"Content-Length: 3\r\n\r\nabc", gate.server.take())

    def test_cookies_are_joined(self) -> None:
        """Cookies that came in crumbs reach a server as one field."""
        gate = gate_of()
        Http2Client(gate).ask([*HEAD, (b"cookie", b"a=1"), (b"x-a", b"b"), (b"cookie", b"c=2")])
        self.assertIn(b"\r\ncookie: a=1; c=2\r\n", gate.server.take())

    def test_interim_answers(self) -> None:
        """An informational answer reaches the client before the final one."""
        gate = gate_of()
        client = Http2Client(gate)
        stream = client.ask()
        gate.server.receive(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + OK)
        client.flush()
        self.assertEqual(client.interim[stream], [{b":status": b"103", b"link": b"</a.css>"}])
        self.assertEqual(client.heads[stream][b":status"], b"200")

    def test_expectation(self) -> None:
        """A client that waits for a 100 gets the server's."""
        gate = gate_of()
        client = Http2Client(gate)
        stream = client.ask([*POST, (b"content-length", b"2"), (b"expect", b"100-continue")], ends=False)
        self.assertIn(b"Expect: 100-continue", gate.server.take())
        gate.server.receive(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.flush()
        self.assertEqual(client.interim[stream], [{b":status": b"100"}])
        client.h2.send_data(stream, b"ab", end_stream=True)
        client.flush()
        self.assertEqual(gate.server.take(), b"ab")

    def test_head(self) -> None:
        """An answer to HEAD tells the length of what a GET would get, and ends."""
        gate = gate_of()
        client = Http2Client(gate)
        stream = client.ask([(b":method", b"HEAD"), *HEAD[1:]])
        gate.server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        client.flush()
        self.assertEqual(client.heads[stream][b"content-length"], b"1000")
        self.assertIn(stream, client.ended)

    def test_answer_before_the_body_has_ended(self) -> None:
        """A server may answer early: the client gets the answer, and is told to send no more."""
        gate = gate_of()
        client = Http2Client(gate)
        stream = client.ask([*POST, (b"content-length", b"10")], b"abc", ends=False)
        gate.server.receive(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        client.flush()
        self.assertEqual((client.bodies[stream], client.resets[stream]), (b"no", ErrorCodes.NO_ERROR))

    def test_answer_that_is_cut_short(self) -> None:
        """An answer of which the server does not send all is not made to look whole."""
        gate = gate_of()
        client = Http2Client(gate)
        stream = client.ask()
        gate.server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        gate.server.end()
        client.flush()
        self.assertEqual(client.resets, {stream: ErrorCodes.INTERNAL_ERROR})
        self.assertNotIn(stream, client.ended)
        self.assertEqual(len(gate.finished_exchanges), 1)

    def test_no_server(self) -> None:
        """A request whose server cannot be reached is answered 502."""
        gate = gate_of()
        gate.network.accepts = False
        client = Http2Client(gate)
        stream = client.ask()
        gate.network.refuse()
        client.flush()
        self.assertEqual(client.heads[stream][b":status"], b"502")

    def test_reset_ends_the_request(self) -> None:
        """What the client does not want any more its server is not asked for any more; other streams go on."""
        gate = gate_of()
        client = Http2Client(gate)
        first, second = client.ask(), client.ask()
        client.h2.reset_stream(first, ErrorCodes.CANCEL)
        client.flush()
        self.assertEqual(gate.network.servers[0].closed, "aborted")
        gate.network.servers[1].receive(OK)
        client.flush()
        self.assertEqual(client.ended, {second})
        self.assertEqual([e.status for e in gate.finished_exchanges], [499, 200])

    def test_lost_connection_ends_all(self) -> None:
        """A client that leaves leaves nothing behind."""
        gate = gate_of()
        client = Http2Client(gate)
        client.ask()
        client.ask(POST, b"abc", ends=False)
        client.transport.reset()
        self.assertEqual([server.closed for server in gate.network.servers], ["aborted"] * 2)
        self.assertEqual(gate.connections, set())
        self.assertEqual([e.status for e in gate.finished_exchanges], [499, 499])
        for server in gate.network.servers:
            server.settle()
        self.assertEqual(len(gate.deadlines), 0)

    def test_more_streams_than_allowed(self) -> None:
        """A stream too many is refused, so that the client may ask again, and reaches no server."""
        gate = gate_of(http2=Http2Settings(streams_at_most=2))
        client = Http2Client(gate)
        self.assertEqual(client.h2.remote_settings.max_concurrent_streams, 2)
        client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 100
        client.h2.remote_settings.acknowledge()
        streams = [client.ask() for _ in range(3)]
        self.assertEqual(client.resets, {streams[2]: ErrorCodes.REFUSED_STREAM})
        self.assertEqual(len(gate.network.servers), 2)
        gate.server.receive(OK)
        client.flush()
        client.ask()
        self.assertEqual(len(client.resets), 1)


class RefusalTests(SynchronousTestCase):
    """RFC 9113, 8.1.1: a malformed request's stream is reset; nothing of it reaches a server; others are served."""

    def _assert_reset(self, fields: Fields, body: bytes | None = None) -> None:
        gate = gate_of()
        client = Http2Client(gate)
        stream = client.ask(fields, body)
        self.assertEqual(client.resets, {stream: ErrorCodes.PROTOCOL_ERROR}, fields)
        self.assertEqual(gate.network.servers, [], fields)
        self.assertEqual(len(gate.refusals), 1)
        good = client.ask()
        gate.server.receive(OK)
        client.flush()
        self.assertEqual(client.bodies[good], b"ok")

    def _assert_answered(self, status: bytes, fields: Fields) -> None:
        gate = gate_of()
        client = Http2Client(gate)
        stream = client.ask(fields)
        self.assertEqual(client.heads.get(stream, {}).get(b":status"), status, fields)
        self.assertIn(stream, client.ended)
        self.assertEqual(gate.network.servers, [], fields)
        self.assertEqual(len(gate.refusals), 1)

    def test_names(self) -> None:
        """A field's name has no upper case, and nothing that is no token's."""
        for name in (b"X-Upper", b"x-a\x00", b"x a", b"x\r\ny", b"x:", b"", b"x\xe9", b"x-a\t", b"x(y)"):
            self._assert_reset([*HEAD, (name, b"1")])

    def test_values(self) -> None:
        """A field's value has no control characters, and no white space around it."""
        for value in (b"a\r\nx-b: c", b"a\rb", b"a\nb", b"a\x00b", b" a", b"a ", b"\ta", b"a\x7f", b"\n", b"a\x01"):
            self._assert_reset([*HEAD, (b"x-a", value)])

    def test_line_breaks_in_pseudo_header_fields(self) -> None:
        """Nothing in the request line can begin another line."""
        for name in (b":path", b":method", b":authority", b":scheme"):
            for value in (b"/ HTTP/1.1\r\nX-Evil: 1", b"/\nX: 1", b"/\x00", b"/\r"):
                self._assert_reset(changed(name, value))

    def test_fields_of_the_connection(self) -> None:
        """What frames a message in HTTP/1.1 has no place in HTTP/2."""
        for name, value in (
            (b"connection", b"close"),
            (b"connection", b"x-forwarded-for"),
            (b"keep-alive", b"timeout=5"),
            (b"proxy-connection", b"keep-alive"),
            (b"transfer-encoding", b"chunked"),
            (b"upgrade", b"h2c"),
            (b"te", b"gzip"),
            (b"te", b"trailers, deflate"),
        ):
            self._assert_reset([*HEAD, (name, value)])

    def test_pseudo_header_fields(self) -> None:
        """Pseudo-header fields are all there, once, first, and known."""
        for name in (b":method", b":path", b":scheme"):
            self._assert_reset(changed(name, None))
            self._assert_reset([*HEAD, (name, b"/")])
        for fields in (
            [*HEAD, (b":authority", b"a.example")],
            [*HEAD, (b":status", b"200")],
            [*HEAD, (b":unknown", b"1")],
            [*HEAD[:3], (b"x-a", b"b"), HEAD[3]],
            [*HEAD, (b":protocol", b"websocket")],
            [(b":method", b"CONNECT"), *HEAD[1:], (b":protocol", b"websocket")],
            changed(b":authority", None),
            changed(b":authority", b""),
            changed(b":path", b""),
            changed(b":path", b"x"),
            changed(b":path", b"*"),
            changed(b":path", b"http://b.example/"),
            changed(b":method", b""),
            changed(b":method", b"GET /evil"),
            [(b":method", b"CONNECT"), *HEAD[1:]],
        ):
            self._assert_reset(fields)

    def test_two_hosts(self) -> None:
        """:authority and Host do not tell of two hosts."""
        self._assert_reset([*HEAD, (b"host", b"b.example")])
        self._assert_reset([*HEAD, (b"host", b"a.example"), (b"host", b"a.example")])

    def test_host_alone(self) -> None:
        """Host stands in for an :authority that is not there."""
        gate = gate_of()
        Http2Client(gate).ask([*changed(b":authority", None), (b"host", b"a.example")])
        self.assertIn(b"Host: a.example\r\n", gate.server.take())

    def test_length_without_body(self) -> None:
        """A Content-Length that no body follows is a lie."""
        self._assert_reset([*POST, (b"content-length", b"5")])

    def test_answered_like_http_1_1(self) -> None:
        """What is refused in HTTP/1.1 is answered with the same status."""
        for status, fields in (
            (b"400", changed(b":path", b"/%2e%2e/%2e%2e")),
            (b"400", changed(b":path", b"/a%2Fb")),
            (b"400", changed(b":path", b"/a#b")),
            (b"400", changed(b":path", b"/a b")),
            (b"400", changed(b":path", b"/a\\b")),
            (b"400", changed(b":authority", b"user@a.example")),
            (b"400", changed(b":authority", b"a.example, b.example")),
            (b"400", changed(b":scheme", b"gopher")),
            (b"400", [*POST, (b"content-length", b"+1")]),
            (b"400", [*POST, (b"content-length", b"1"), (b"content-length", b"1")]),
            (b"414", changed(b":path", b"/" + b"a" * 8200)),
            (b"431", [*HEAD, *((b"x-%d" % number, b"1") for number in range(101))]),
            (b"431", [*HEAD, (b"x-a", b"a" * 33_000)]),
            (b"417", [*HEAD, (b"expect", b"miracles")]),
            (b"405", changed(b":method", b"TRACE")),
            (b"501", [(b":method", b"CONNECT"), (b":authority", b"a.example:443")]),
        ):
            self._assert_answered(status, fields)

    def test_underscores(self) -> None:
        """A name that could be taken for one that the gate writes does not pass."""
        gate = gate_of()
        Http2Client(gate).ask([*HEAD, (b"x_forwarded_for", b"6.6.6.6"), (b"x-forwarded-for", b"6.6.6.6")])
        self.assertNotIn(b"6.6.6.6", gate.server.take())

    def test_wrong_length(self) -> None:
        """A body that is longer or shorter than its length ends its stream, and its request at the server."""
        for told, body in ((b"3", b"QQQQ"), (b"0", b"QQQQ"), (b"5", b"QQQQ")):
            gate = gate_of()
            client = Http2Client(gate)
            stream = client.ask([*POST, (b"content-length", told)], ends=False)
            client.h2.send_data(stream, body, end_stream=True)
            client.flush()
            self.assertEqual(client.resets, {stream: ErrorCodes.PROTOCOL_ERROR})
            self.assertNotIn(body, gate.server.take())
            self.assertEqual(gate.server.closed, "aborted")

    def test_lengths_that_are_wrong_at_once(self) -> None:
        """If the body comes with its head, a wrong length is seen before a server is asked."""
        for told, body in ((b"3", b"QQQQ"), (b"5", b"QQQQ")):
            gate = gate_of()
            client = Http2Client(gate)
            stream = client.ask([*POST, (b"content-length", told)], body)
            self.assertEqual(client.resets, {stream: ErrorCodes.PROTOCOL_ERROR})
            self.assertEqual(gate.network.servers, [])

    def test_malformed_trailers(self) -> None:
        """What follows a body is checked like what comes before it."""
        for name in (b":path", b"X-Upper", b"connection"):
            gate = gate_of()
            client = Http2Client(gate)
            stream = client.ask(POST, b"abc", ends=False)
            client.h2.send_headers(stream, [(name, b"1")], end_stream=True)
            client.flush()
            self.assertEqual(client.resets, {stream: ErrorCodes.PROTOCOL_ERROR})
            self.assertNotIn(b"0\r\n\r\n", gate.server.take())


class RememberedTests(SynchronousTestCase):
    """What comes again is remembered; nobody notices."""

    def setUp(self) -> None:
        self.gate = gate_of()
        self.client = Http2Client(self.gate)
        self._answered: list[int] = []

    def _ask(self, fields: Fields, answer: bytes = OK) -> bytes:
        """Ask, have it answered, and what the server was sent."""
        stream = self.client.ask(fields)
        sent = self.gate.server.take()
        self.gate.server.receive(answer)
        self.client.flush()
        self._answered.append(stream)
        return sent

    def test_paths(self) -> None:
        """Requests that differ in their paths alone reach the server as they were meant, in any order."""
        targets = (b"/", b"/a?b=1", b"/", b"/a?b=2", b"/c/../d", b"/a?b=1", b"/%7Ex", b"/c/../d", b"/%7Ex?")
        for target in targets:
            sent = self._ask([*changed(b":path", target), (b"x-a", b"1")])
            expected = {b"/c/../d": b"/d", b"/%7Ex": b"/~x", b"/%7Ex?": b"/~x?"}.get(target, target)
            self.assertTrue(sent.startswith(b"GET " + expected + b" HTTP/1.1\r\nHost: a.example\r\nx-a: 1\r\n"), sent)
        self.assertEqual([self.client.bodies[stream] for stream in self._answered], [b"ok"] * len(targets))

    def test_methods(self) -> None:
        """A path that is known is asked for with the method that was sent now."""
        for method in (b"GET", b"DELETE", b"GET", b"OPTIONS", b"DELETE"):
            self.assertTrue(self._ask(changed(b":method", method)).startswith(method + b" / HTTP/1.1\r\n"))

    def test_misplaced_path(self) -> None:
        """A path behind other fields, or a second one, is refused, however often the rest was accepted."""
        others, path = [*changed(b":path", None), (b"x-a", b"1")], (b":path", b"/")
        for _ in range(2):
            self._ask([path, *others])
        for fields in ([*others, path], [path, *others, path], [path, path, *others], others):
            stream = self.client.ask(fields)
            self.assertEqual(self.client.resets.get(stream), ErrorCodes.PROTOCOL_ERROR, fields)

    def test_line_too_long(self) -> None:
        """A method and a path that were accepted, each with another, can be too long together."""
        gate = gate_of(limits=HeadLimits(line=60))
        client = Http2Client(gate)
        for method, path, status in (
            (b"GET", b"/" * 40, None),
            (b"M" * 30, b"/", None),
            (b"M" * 30, b"/" * 40, b"414"),
        ):
            stream = client.ask([(b":method", method), *changed(b":method", None)[:-1], (b":path", path)])
            self.assertEqual(client.heads.get(stream, {}).get(b":status"), status)

    def test_lengths(self) -> None:
        """A request that says how long its body is needs that body, whether it is known or not."""
        fields = [*POST, (b"content-length", b"2")]
        for _ in range(3):
            stream = self.client.ask(fields, b"ab")
            self.assertTrue(self.gate.server.take().endswith(b"Content-Length: 2\r\n\r\nab"))
            self.gate.server.receive(OK)
            self.client.flush()
            self.assertEqual(self.client.bodies[stream], b"ok")
            self.assertEqual(self.client.resets.get(self.client.ask(fields)), ErrorCodes.PROTOCOL_ERROR)
        for body in (None, b"ab"):
            stream = self.client.ask(POST, body)
            sent = self.gate.server.take()
            self.assertTrue(sent.endswith(b"\r\n0\r\n\r\n" if body else b"Content-Length: 0\r\n\r\n"), sent)
            self.gate.server.receive(OK)
            self.client.flush()

    def test_answers(self) -> None:
        """Answers are what their servers said, whether they come again or not, and whatever the table's size."""
        plain = b"HTTP/1.1 200 OK\r\nServer: a\r\nX-A: %b\r\nContent-Length: %d\r\n\r\n%b"
        for number, said in enumerate(
            (b"1", b"1", b"1", b"2", b"1", b"2", b"2", b"3" * 3000, b"1", b"1", b"4" * 900, b"1")
        ):
            if number == 5:
                self.client.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: 100})
            body = b"x" * (number % 3)
            self._ask(HEAD, plain % (said, len(body), body))
            told = self.client.heads[self._answered[-1]]
            self.assertEqual(
                told,
                {b":status": b"200", b"server": b"a", b"x-a": said, b"content-length": b"%d" % len(body)},
            )
        not_found = plain.replace(b"200 OK", b"404 Not Found") % (b"1", 0, b"")
        self._ask(HEAD, not_found)
        self._ask(HEAD, not_found)
        self.assertEqual(self.client.heads[self._answered[-1]][b":status"], b"404")


class FrameTests(SynchronousTestCase):
    """RFC 9113, 5 and 6: what a frame may be, and when it may come."""

    def setUp(self) -> None:
        self.gate = gate_of()
        self.client = Http2Client(self.gate)

    def _assert_closed(self, error: int, *octets: bytes) -> None:
        gate = gate_of()
        client = Http2Client(gate)
        client.ask(POST, b"a", ends=False)
        for one in octets:
            client.send(one)
        self.assertEqual([error for _, error in client.goaways], [error], octets)
        self.assertIsNotNone(client.transport.closed)

    def test_streams_that_nobody_has_opened(self) -> None:
        """A frame of a stream that nobody has opened, or that the gate would have to, ends the connection."""
        for stream in (2, 3):
            for kind, payload in ((0, b"a"), (3, b"\x00\x00\x00\x08"), (8, b"\x00\x00\x00\x01")):
                self._assert_closed(ErrorCodes.PROTOCOL_ERROR, frame(kind, 0, stream, payload))
        self._assert_closed(ErrorCodes.PROTOCOL_ERROR, frame(1, 5, 2, Encoder().encode(HEAD)))
        self._assert_closed(ErrorCodes.PROTOCOL_ERROR, frame(1, 5, 0, Encoder().encode(HEAD)))

    def test_sizes(self) -> None:
        """A frame whose size is none that it can have ends the connection."""
        for one in (
            frame(3, 0, 1, b"\x00"),
            frame(4, 0, 0, b"\x00"),
            frame(4, 1, 0, bytes(6)),
            frame(6, 0, 0, b"1234567"),
            frame(8, 0, 0, b"\x01"),
            frame(0, 0x8, 1),
            frame(1, 0x25, 3, b"\x00\x00"),
        ):
            self._assert_closed(ErrorCodes.FRAME_SIZE_ERROR, one)

    def test_values(self) -> None:
        """So does one with values that it can't have."""
        for error, one in (
            (ErrorCodes.PROTOCOL_ERROR, frame(0, 0x8, 1, b"\x02a")),
            (ErrorCodes.PROTOCOL_ERROR, frame(4, 0, 0, b"\x00\x02\x00\x00\x00\x02")),
            (ErrorCodes.PROTOCOL_ERROR, frame(4, 0, 0, b"\x00\x05\x00\x00\x3f\xff")),
            (ErrorCodes.FLOW_CONTROL_ERROR, frame(4, 0, 0, b"\x00\x04\x80\x00\x00\x00")),
            (ErrorCodes.PROTOCOL_ERROR, frame(4, 0, 1)),
            (ErrorCodes.PROTOCOL_ERROR, frame(6, 0, 1, bytes(8))),
            (ErrorCodes.PROTOCOL_ERROR, frame(8, 0, 0, bytes(4))),
            (ErrorCodes.FLOW_CONTROL_ERROR, frame(8, 0, 0, b"\x7f\xff\xff\xff")),
            (ErrorCodes.PROTOCOL_ERROR, frame(5, 4, 1, bytes(4))),
            (ErrorCodes.PROTOCOL_ERROR, frame(9, 4, 1)),
            (ErrorCodes.PROTOCOL_ERROR, frame(1, 0x25, 3, b"\x00\x00\x00\x03\x00" + Encoder().encode(HEAD))),
            (ErrorCodes.COMPRESSION_ERROR, frame(1, 5, 3, b"\xff")),
        ):
            self._assert_closed(error, one)

    def test_section_that_is_interrupted(self) -> None:
        """Between the pieces of a field section there is nothing else."""
        begin = frame(1, 1, 3, Encoder().encode(HEAD))
        for one in (frame(0, 0, 1, b"a"), frame(9, 4, 1), frame(2, 0, 1, bytes(5)), frame(7, 0, 0, bytes(8)), begin):
            self._assert_closed(ErrorCodes.PROTOCOL_ERROR, begin + one)

    def test_section_in_pieces(self) -> None:
        """A field section in pieces, padded and with a priority, is a request like any other."""
        section = Encoder().encode([*HEAD, (b"x-a", b"1")])
        self.client.send(frame(1, 0x29, 1, b"\x02\x00\x00\x00\x00\x10" + section[:3] + b"\x00\x00"))
        self.client.send(frame(9, 0, 1, section[3:5]))
        self.assertEqual(self.gate.network.servers, [])
        self.client.send(frame(9, 4, 1, section[5:]))
        self.assertIn(b"x-a: 1\r\n", self.gate.server.take())

    def test_window_of_a_stream(self) -> None:
        """A window that is opened by nothing, or too far, ends its stream alone."""
        for error, size in ((ErrorCodes.PROTOCOL_ERROR, 0), (ErrorCodes.FLOW_CONTROL_ERROR, 2**31 - 1)):
            stream = self.client.ask(POST, b"a", ends=False)
            self.client.send(frame(8, 0, stream, size.to_bytes(4, "big")))
            self.assertEqual(self.client.resets.get(stream), error)
        self.assertIsNone(self.client.transport.closed)

    def test_more_than_the_window(self) -> None:
        """A client that sends more than it may loses the connection."""
        stream = self.client.ask(POST, ends=False)
        self.gate.server.producer.pauseProducing()
        for _ in range(17):
            self.assertEqual(self.client.goaways, [])
            self.client.transport.receive(frame(0, 0, stream, b"a" * 16384))
            self.client.read()
        self.assertEqual([error for _, error in self.client.goaways], [ErrorCodes.FLOW_CONTROL_ERROR])

    def test_data_after_the_end(self) -> None:
        """Who goes on with a request that he has ended is told so; the others are served."""
        stream = self.client.ask()
        self.client.send(frame(0, 0, stream, b"a"))
        self.assertEqual(self.client.resets, {stream: ErrorCodes.STREAM_CLOSED})
        good = self.client.ask()
        self.gate.network.servers[-1].receive(OK)
        self.client.flush()
        self.assertEqual(self.client.bodies[good], b"ok")

    def test_what_was_on_the_way(self) -> None:
        """What comes of a request that the gate has answered before its end is nobody's fault."""
        stream = self.client.ask(POST, b"a", ends=False)
        self.gate.server.receive(OK)
        self.assertTrue(self.client.transport.take().endswith(frame(3, 0, stream, bytes(4))))
        trailers = self.client.h2.encoder.encode([(b"x-a", b"1")])
        self.client.transport.receive(frame(0, 0, stream, b"b") + frame(1, 5, stream, trailers))
        self.assertEqual(self.client.transport.take(), b"")
        self.assertEqual(self.gate.refusals, [])
        self.assertIsNone(self.client.transport.closed)

    def test_section_after_the_end(self) -> None:
        """A field section of a stream that has ended ends the connection: its number can't be used again."""
        stream = self.client.ask()
        self.gate.server.receive(OK)
        self.client.flush()
        self.client.send(frame(1, 5, stream, Encoder().encode(HEAD)))
        self.assertEqual([error for _, error in self.client.goaways], [ErrorCodes.STREAM_CLOSED])

    def test_windows_by_settings(self) -> None:
        """A client that changes the windows of new streams changes those of its streams, too (RFC 9113, 6.9.2)."""
        client = self.client
        client.takes = False
        client.send(frame(4, 0, 0, b"\x00\x04\x00\x00\x00\x05"))
        stream = client.ask()
        self.gate.server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789")
        client.flush()
        self.assertEqual(client.bodies[stream], b"12345")
        client.send(frame(4, 0, 0, b"\x00\x04\x00\x00\x00\x07"))
        self.assertEqual(client.bodies[stream], b"1234567")
        client.send(frame(4, 0, 0, b"\x00\x04\x00\x00\x00\x00"))
        client.send(frame(8, 0, stream, b"\x00\x00\x00\x07"))
        self.assertEqual(client.bodies[stream], b"1234567")
        client.send(frame(8, 0, stream, b"\x00\x00\x00\x02"))
        self.assertEqual(client.bodies[stream], b"123456789")
        self.assertEqual(client.ended, {stream})


class FlowTests(SynchronousTestCase):
    def test_body_waits_for_its_server(self) -> None:
        """A client cannot send more than a window's worth of what its server does not take; others can."""
        gate = gate_of()
        client = Http2Client(gate)
        slow = client.ask(POST, b"", ends=False)
        gate.server.producer.pauseProducing()
        sent = 0
        while room := min(client.h2.local_flow_control_window(slow), 16384):
            client.h2.send_data(slow, b"a" * room)
            client.flush()
            sent += room
        self.assertLessEqual(sent, 262144)
        other = client.ask(POST, b"b" * 16384)
        self.assertIn(b"b" * 1000, gate.server.take())
        self.assertNotIn(other, client.resets)
        gate.network.servers[0].producer.resumeProducing()
        client.flush()
        self.assertGreater(client.h2.local_flow_control_window(slow), 0)

    def test_long_upload(self) -> None:
        """A body that is much longer than all windows passes whole."""
        gate = gate_of()
        client = Http2Client(gate)
        stream = client.ask([*POST, (b"content-length", b"3000000")], ends=False)
        for _ in range(300):
            client.h2.send_data(stream, b"a" * 10_000)
            client.flush()
        client.h2.end_stream(stream)
        client.flush()
        self.assertEqual(gate.server.take().count(b"a" * 10_000), 300)

    def test_server_waits_for_the_client(self) -> None:
        """A server is paused when its client takes nothing, and another's answer passes."""
        gate = gate_of()
        client = Http2Client(gate)
        client.takes = False
        slow = client.ask()
        server = gate.server
        server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        pieces = 0
        while not server.paused and pieces < 100:
            server.receive(b"a" * 10_000)
            pieces += 1
        self.assertTrue(server.paused)
        client.flush()
        self.assertEqual(len(client.bodies[slow]), 65535)
        client.h2.increment_flow_control_window(100_000)
        client.flush()
        other = client.ask()
        gate.server.receive(OK)
        client.flush()
        self.assertEqual(client.bodies[other], b"ok")
        client.takes = True
        client.h2.increment_flow_control_window(900_000)
        client.h2.increment_flow_control_window(900_000, slow)
        client.flush()
        self.assertFalse(server.paused)
        server.receive(b"a" * (1_000_000 - 10_000 * pieces))
        client.flush()
        self.assertEqual(client.bodies[slow], b"a" * 1_000_000)
        self.assertIn(slow, client.ended)

    def test_client_that_reads_nothing(self) -> None:
        """An answer of which the client takes nothing for too long is broken off; the server is let go."""
        gate = gate_of()
        client = Http2Client(gate)
        client.takes = False
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        stream = client.ask()
        gate.server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + b"a" * 100_000)
        self.assertTrue(gate.server.paused)
        gate.advance(61)
        client.flush()
        self.assertIn(stream, client.resets)
        self.assertEqual(gate.server.closed, "aborted")

    def test_answers_share_the_connection(self) -> None:
        """Two long answers come piece by piece, neither waits for the whole of the other."""
        gate = gate_of()
        client = Http2Client(gate)
        client.takes = False
        first, second = client.ask(), client.ask()
        for server in gate.network.servers:
            server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"a" * 60_000)
        client.flush()
        client.h2.increment_flow_control_window(20_000)
        client.flush()
        self.assertEqual((len(client.bodies[first]), len(client.bodies[second])), (60_000, 25_535))

    def test_body_that_does_not_come(self) -> None:
        """A client that does not go on with its body is answered 408."""
        gate = gate_of()
        client = Http2Client(gate)
        stream = client.ask(POST, b"abc", ends=False)
        gate.advance(61)
        client.flush()
        self.assertEqual(client.heads[stream][b":status"], b"408")


class LifeTests(SynchronousTestCase):
    def test_end_of_the_entry_point(self) -> None:
        """A connection that is to end says so, finishes what is under way, refuses what is new, and closes."""
        gate = gate_of()
        client = Http2Client(gate)
        stream = client.ask()
        for connection in list(gate.connections):
            connection.close_when_idle()
        client.flush()
        self.assertEqual(client.goaways, [(2**31 - 1, 0), (stream, 0)])
        late = client.ask()
        self.assertEqual(client.resets, {late: ErrorCodes.REFUSED_STREAM})
        self.assertIsNone(client.transport.closed)
        gate.server.receive(OK)
        client.flush()
        self.assertEqual(client.bodies[stream], b"ok")
        self.assertEqual(client.transport.closed, "lost")

    def test_too_late(self) -> None:
        """A connection that is not finished when the time for it is over is cut off."""
        gate = gate_of()
        client = Http2Client(gate)
        client.ask()
        for connection in list(gate.connections):
            connection.close_when_idle()
            connection.send_away()
        self.assertEqual(client.transport.closed, "aborted")

    def test_end_of_a_silent_client(self) -> None:
        """A client that does not react to the announcement is closed all the same, with nothing under way."""
        gate = gate_of()
        client = Http2Client(gate)
        for connection in list(gate.connections):
            connection.close_when_idle()
        gate.advance(1.5)
        self.assertEqual(client.transport.closed, "lost")

    def test_idle_connection_is_closed(self) -> None:
        """A connection without requests is closed when its time is over, however often it pings."""
        gate = gate_of(idle_timeout=10.0)
        client = Http2Client(gate)
        client.ask()
        gate.server.receive(OK)
        client.flush()
        for _ in range(5):
            gate.advance(2)
            client.h2.ping(b"01234567")
            client.flush()
        gate.advance(1)
        client.read()
        self.assertEqual((client.goaways, client.transport.closed), ([(1, 0)], "lost"))

    def test_requests_at_most(self) -> None:
        """A connection that has had its requests announces its end."""
        gate = gate_of(requests_at_most=2)
        client = Http2Client(gate)
        for _ in range(2):
            client.ask()
            gate.server.receive(OK)
            client.flush()
        self.assertEqual(client.goaways[0], (2**31 - 1, 0))
        self.assertEqual(client.transport.closed, "lost")

    def test_client_says_goodbye(self) -> None:
        """A client that ends the connection gets the answers that it waits for."""
        gate = gate_of()
        client = Http2Client(gate)
        stream = client.ask()
        client.send(frame(7, 0, 0, bytes(8)))
        gate.server.receive(OK)
        client.flush()
        self.assertEqual(client.bodies[stream], b"ok")
        self.assertEqual(client.transport.closed, "lost")

    def test_silent_connection(self) -> None:
        """A client that sends half a preface and no more is closed."""
        gate = gate_of()
        transport = gate.client()
        transport.receive(b"PRI * HTTP/2.0\r\n\r\nSM")
        gate.advance(11)
        self.assertEqual(transport.closed, "lost")


class WebsocketTests(SynchronousTestCase):
    """Websockets over HTTP/2 (RFC 8441), where they are wanted."""

    FIELDS: Fields = [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        *HEAD[1:],
        (b"sec-websocket-version", b"13"),
    ]

    def setUp(self) -> None:
        self.gate = gate_of(http2=Http2Settings(websockets=True))
        self.client = Http2Client(self.gate)
        self.stream = self.client.ask(self.FIELDS, ends=False)

    def _switch(self) -> None:
        self.gate.server.receive(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\nhello"
        )
        self.client.flush()

    def test_octets_pass(self) -> None:
        """The server is asked as in HTTP/1.1; then all that one side says reaches the other."""
        asked = self.gate.server.take()
        self.assertTrue(asked.startswith(b"GET / HTTP/1.1\r\n"))
        self.assertIn(b"Connection: Upgrade\r\nUpgrade: websocket\r\n", asked)
        self.assertRegex(asked, rb"Sec-WebSocket-Key: [A-Za-z0-9+/]{22}==\r\n")
        self._switch()
        self.assertEqual(self.client.heads[self.stream], {b":status": b"200", b"sec-websocket-protocol": b"chat"})
        self.assertEqual(self.client.bodies[self.stream], b"hello")
        self.client.h2.send_data(self.stream, b"how are you")
        self.client.flush()
        self.assertEqual(self.gate.server.take(), b"how are you")
        for _ in range(100):
            self.client.h2.send_data(self.stream, b"a" * 16_000)
            self.client.flush()
        self.assertEqual(self.gate.server.take(), b"a" * 1_600_000)

    def test_offered(self) -> None:
        """A client is told that it may ask; without the option it is not, and its request is none."""
        self.assertEqual(self.client.h2.remote_settings.enable_connect_protocol, 1)
        other = Http2Client(gate_of())
        self.assertEqual(other.h2.remote_settings.enable_connect_protocol, 0)
        stream = other.ask(self.FIELDS, ends=False)
        self.assertEqual(other.resets, {stream: ErrorCodes.PROTOCOL_ERROR})

    def test_refused_by_the_server(self) -> None:
        """A server may say no."""
        self.gate.server.receive(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        self.client.flush()
        self.assertEqual(self.client.heads[self.stream][b":status"], b"403")
        self.assertEqual(self.client.bodies[self.stream], b"no")

    def test_server_closes(self) -> None:
        """The server's end is the stream's; the connection lives on."""
        self._switch()
        self.gate.server.end()
        self.client.flush()
        self.assertIn(self.stream, self.client.ended)
        self.client.h2.end_stream(self.stream)
        self.client.flush()
        self.gate.server.settle()
        self.client.flush()
        self.assertIsNone(self.client.transport.closed)
        self.assertEqual([e.status for e in self.gate.finished_exchanges], [200])
        self.assertEqual(self.gate.upstreams[0].in_flight, 0)

    def test_client_closes(self) -> None:
        """The client's end is told to the server, whose last words still arrive."""
        self._switch()
        self.client.h2.end_stream(self.stream)
        self.client.flush()
        self.assertTrue(self.gate.server.half_closed)
        self.gate.server.receive(b"goodbye")
        self.gate.server.end()
        self.gate.server.settle()
        self.client.flush()
        self.assertEqual(self.client.bodies[self.stream], b"hellogoodbye")
        self.assertIn(self.stream, self.client.ended)
        self.assertEqual(self.gate.upstreams[0].in_flight, 0)

    def test_client_leaves(self) -> None:
        """A client that resets the stream, or is gone, closes the server's connection."""
        for leave in ("reset", "gone"):
            self.setUp()
            self._switch()
            if leave == "reset":
                self.client.h2.reset_stream(self.stream)
                self.client.flush()
            else:
                self.client.transport.reset()
            self.assertIsNotNone(self.gate.server.closed)
            self.gate.server.settle()
            self.assertEqual(self.gate.upstreams[0].in_flight, 0)
            self.assertEqual(len(self.gate.finished_exchanges), 1)

    def test_server_that_reads_nothing(self) -> None:
        """What the server does not take is not taken from the client for long."""
        self._switch()
        self.gate.server.producer.pauseProducing()
        sent = 0
        while room := min(self.client.h2.local_flow_control_window(self.stream), 16_384):
            self.client.h2.send_data(self.stream, b"a" * room)
            self.client.flush()
            sent += room
        self.assertLessEqual(sent, 300_000)
        self.gate.server.producer.resumeProducing()
        self.client.flush()
        self.assertGreater(self.client.h2.local_flow_control_window(self.stream), 0)
