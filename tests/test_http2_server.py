"""Servers that speak HTTP/2: what they are asked, how often, and what becomes of answers that go wrong."""

from __future__ import annotations

from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.upstream import UpstreamSettings
from tests.http2_peers import HEAD, POST, Http2Client, Http2Server, frame, gate_of
from tests.memory_network import GET, MemoryGate

SERVER = "h2c://10.0.0.1:80"
GOAWAY = 7


def both(**given: object) -> tuple[MemoryGate, Http2Client]:
    """A gate with one server that speaks HTTP/2, and a client."""
    gate = gate_of(SERVER, **given)  # type: ignore[arg-type]
    return gate, Http2Client(gate)


class ForwardingTests(SynchronousTestCase):
    def test_request_and_answer_pass(self) -> None:
        """A request reaches the server with what it said, and its answer the client."""
        gate, client = both()
        stream = client.ask([*HEAD, (b"accept", b"*/*"), (b"te", b"trailers")])
        server = Http2Server(gate)
        self.assertEqual(
            server.heads[1],
            {
                **dict(HEAD),
                b"accept": b"*/*",
                b"te": b"trailers",
                b"x-forwarded-for": b"192.0.2.7",
                b"x-forwarded-host": b"a.example",
                b"x-forwarded-port": b"80",
                b"x-forwarded-proto": b"http",
                b"x-forwarded-server": b"gate",
                b"x-real-ip": b"192.0.2.7",
            },
        )
        self.assertEqual(server.ended, {1})
        server.answer(1, b"ok", b"201", (b"x-a", b"b"))
        client.flush()
        self.assertEqual(client.heads[stream], {b":status": b"201", b"x-a": b"b", b"content-length": b"2"})
        self.assertEqual(client.bodies[stream], b"ok")
        self.assertEqual([e.server for e in gate.finished_exchanges], [SERVER])
        self.assertEqual(gate.upstreams[0].in_flight, 0)

    def test_client_of_http_1_1(self) -> None:
        """A client that speaks HTTP/1.1 does not notice what its server speaks."""
        gate = gate_of(SERVER)
        client = gate.client()
        client.receive(GET)
        Http2Server(gate).answer(1)
        self.assertEqual(client.take(), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".replace(b"OK", b""))

    def test_one_connection(self) -> None:
        """All requests go over one connection, and their answers come in any order."""
        gate, client = both()
        streams = [client.ask() for _ in range(20)]
        server = Http2Server(gate)
        for stream in reversed(range(1, 41, 2)):
            server.answer(stream, b"answer %d" % stream)
        client.flush()
        self.assertEqual(len(gate.network.servers), 1)
        self.assertEqual([client.bodies[stream] for stream in streams], [b"answer %d" % s for s in range(1, 41, 2)])

    def test_requests_that_wait_for_the_connection(self) -> None:
        """Requests that come while the connection is being made share it."""
        gate, client = both()
        gate.network.accepts = False
        for _ in range(3):
            client.ask()
        gone = client.ask()
        client.h2.reset_stream(gone)
        client.flush()
        self.assertEqual(len(gate.network.connecting), 1)
        gate.network.accept()
        server = Http2Server(gate)
        self.assertEqual(sorted(server.heads), [1, 3, 5])
        self.assertEqual(gate.upstreams[0].in_flight, 3)

    def test_connection_that_cannot_be_made(self) -> None:
        """Requests that wait for a connection that does not come about go to another server, or are answered 502."""
        gate = gate_of(SERVER, "h2c://10.0.0.2:80")
        gate.network.accepts = False
        client = Http2Client(gate)
        client.ask()
        gate.network.refuse()
        gate.network.accept()
        Http2Server(gate).answer(1)
        client.flush()
        self.assertEqual(client.bodies[1], b"ok")
        self.assertEqual([e.retries for e in gate.finished_exchanges], [1])

    def test_streams_at_most(self) -> None:
        """What is too much for one connection goes over another."""
        gate, client = both()
        client.ask()
        server = Http2Server(gate)
        server.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 2})
        server.flush()
        client.ask()
        client.ask()
        self.assertEqual(len(gate.network.servers), 2)

    def test_body_and_trailers_pass(self) -> None:
        """A body, and what follows it, pass both ways as they come."""
        gate, client = both()
        stream = client.ask(POST, b"abc", ends=False)
        server = Http2Server(gate)
        self.assertEqual(server.bodies[1], b"abc")
        server.h2.send_headers(1, [(b":status", b"200")])
        server.h2.send_data(1, b"one")
        server.flush()
        client.flush()
        self.assertEqual(client.bodies[stream], b"one")
        client.h2.send_headers(stream, [(b"x-sum", b"1")], end_stream=True)
        client.flush()
        server.flush()
        self.assertEqual(server.trailers[1], {b"x-sum": b"1"})
        server.h2.send_headers(1, [(b"grpc-status", b"0")], end_stream=True)
        server.flush()
        client.flush()
        self.assertEqual(client.trailers[stream], {b"grpc-status": b"0"})
        self.assertIn(stream, client.ended)

    def test_answer_of_trailers_only(self) -> None:
        """An answer without a body is one field section, with no length made up."""
        gate, client = both()
        stream = client.ask(POST, b"abc")
        Http2Server(gate).answer(1, b"", b"200", (b"grpc-status", b"12"))
        client.flush()
        self.assertEqual(client.heads[stream], {b":status": b"200", b"grpc-status": b"12"})
        self.assertIn(stream, client.ended)

    def test_long_answer(self) -> None:
        """An answer that is longer than all windows passes whole."""
        gate, client = both()
        stream = client.ask()
        server = Http2Server(gate)
        server.h2.send_headers(1, [(b":status", b"200")])
        for number in range(200):
            server.h2.send_data(1, bytes((number,)) * 16_000)
            server.flush()
            client.flush()
        server.h2.end_stream(1)
        server.flush()
        client.flush()
        self.assertEqual(client.bodies[stream], b"".join(bytes((number,)) * 16_000 for number in range(200)))

    def test_server_waits_for_its_client(self) -> None:
        """A server cannot send more than a window's worth of what the client does not take; to others it can."""
        gate, client = both()
        client.takes = False
        client.ask()
        server = Http2Server(gate)
        server.h2.send_headers(1, [(b":status", b"200")])
        sent = 0
        while room := min(server.h2.local_flow_control_window(1), 16_384):
            server.h2.send_data(1, b"a" * room)
            server.flush()
            sent += room
        self.assertLessEqual(sent, 500_000)
        client.h2.increment_flow_control_window(1_000_000)
        other = client.ask()
        server.read()
        server.answer(3)
        client.flush()
        self.assertEqual(client.bodies[other], b"ok")

    def test_client_waits_for_its_server(self) -> None:
        """A body of which the server takes nothing is not read from the client for long; then it passes whole."""
        gate, client = both()
        stream = client.ask(POST, b"", ends=False)
        server = Http2Server(gate)
        server.takes = False
        sent = 0
        while room := min(client.h2.local_flow_control_window(stream), 16_384):
            client.h2.send_data(stream, b"a" * room)
            client.flush()
            server.flush()
            sent += room
        self.assertLess(sent, 600_000)
        self.assertEqual(len(server.bodies[1]), 65_535)
        server.takes = True
        server.h2.increment_flow_control_window(600_000)
        server.h2.increment_flow_control_window(600_000, 1)
        server.flush()
        client.flush()
        client.h2.end_stream(stream)
        client.flush()
        server.flush()
        self.assertEqual(len(server.bodies[1]), sent)
        self.assertIn(1, server.ended)

    def test_cancelled_request(self) -> None:
        """A client that leaves ends its stream, not the connection."""
        gate, client = both()
        stream = client.ask()
        server = Http2Server(gate)
        client.h2.reset_stream(stream, ErrorCodes.CANCEL)
        client.flush()
        server.read()
        self.assertEqual(server.resets, {1: ErrorCodes.CANCEL})
        self.assertIsNone(gate.server.closed)
        self.assertEqual(gate.upstreams[0].in_flight, 0)

    def test_early_answer(self) -> None:
        """A server that answers before it has the body is sent no more of it."""
        gate, client = both()
        stream = client.ask(POST, b"abc", ends=False)
        server = Http2Server(gate)
        server.answer(1, b"no", b"413")
        client.flush()
        server.read()
        self.assertEqual((client.bodies[stream], server.resets), (b"no", {1: ErrorCodes.CANCEL}))

    def test_websocket_goes_over_http_1_1(self) -> None:
        """A websocket gets a connection of its own, which is switched as HTTP/1.1 does it."""
        gate = gate_of(SERVER)
        client = gate.client()
        client.receive(
            b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.assertTrue(gate.server.take().startswith(b"GET / HTTP/1.1\r\n"))


class FailureTests(SynchronousTestCase):
    def test_refused_stream(self) -> None:
        """A request that the server refused to look at is sent again, body and all."""
        gate, client = both()
        stream = client.ask(POST, b"abc")
        server = Http2Server(gate)
        server.h2.reset_stream(1, ErrorCodes.REFUSED_STREAM)
        server.flush()
        server.answer(3)
        client.flush()
        self.assertEqual((server.bodies[3], client.bodies[stream]), (b"abc", b"ok"))
        self.assertEqual([e.retries for e in gate.finished_exchanges], [1])

    def test_refused_for_ever(self) -> None:
        """A server that refuses everything is not asked for ever."""
        gate, client = both()
        stream = client.ask()
        server = Http2Server(gate)
        for number in range(1, 21, 2):
            if number in server.heads:
                server.h2.reset_stream(number, ErrorCodes.REFUSED_STREAM)
                server.flush()
        client.flush()
        self.assertEqual(client.heads[stream][b":status"], b"502")
        self.assertLess(len(server.heads), 6)

    def test_goaway(self) -> None:
        """What a server that is leaving did not look at goes over a new connection; what it did is finished."""
        gate, client = both()
        first, second = client.ask(), client.ask(POST, b"abc")
        server = Http2Server(gate)
        server.send(frame(GOAWAY, 0, 0, b"\x00\x00\x00\x01" + bytes(4)))
        self.assertEqual(len(gate.network.servers), 2)
        replacement = Http2Server(gate)
        self.assertEqual(replacement.bodies, {1: b"abc"})
        replacement.answer(1, b"second")
        server.answer(1, b"first")
        client.flush()
        self.assertEqual((client.bodies[first], client.bodies[second]), (b"first", b"second"))
        self.assertEqual(gate.network.servers[0].closed, "lost")
        client.ask()
        self.assertEqual(len(gate.network.servers), 2)

    def test_goaway_of_an_idle_connection(self) -> None:
        """A server that closes a connection that is not used is not asked over it any more."""
        gate, client = both()
        client.ask()
        server = Http2Server(gate)
        server.answer(1)
        server.send(frame(GOAWAY, 0, 0, b"\x00\x00\x00\x01" + bytes(4)))
        self.assertEqual(gate.server.closed, "lost")
        client.ask()
        self.assertEqual(len(gate.network.servers), 2)

    def test_reset_before_the_answer(self) -> None:
        """A request that the server breaks off is answered 502, and not sent again."""
        gate, client = both()
        stream = client.ask()
        server = Http2Server(gate)
        server.h2.reset_stream(1, ErrorCodes.INTERNAL_ERROR)
        server.flush()
        client.flush()
        self.assertEqual(client.heads[stream][b":status"], b"502")
        self.assertEqual(sorted(server.heads), [1])

    def test_reset_in_the_answer(self) -> None:
        """An answer that the server breaks off is broken off for the client, with the same error."""
        gate, client = both()
        stream = client.ask()
        server = Http2Server(gate)
        server.h2.send_headers(1, [(b":status", b"200")])
        server.h2.send_data(1, b"some")
        server.h2.reset_stream(1, ErrorCodes.CANCEL)
        server.flush()
        client.flush()
        self.assertEqual((client.bodies[stream], client.resets), (b"some", {stream: ErrorCodes.CANCEL}))

    def test_connection_lost(self) -> None:
        """A connection that had served breaks: what may be asked twice is, the rest is answered 502."""
        gate, client = both()
        client.ask()
        Http2Server(gate).answer(1)
        again, once = client.ask(), client.ask(POST, b"abc")
        gate.server.reset()
        client.flush()
        self.assertEqual(client.heads[once][b":status"], b"502")
        Http2Server(gate).answer(1, b"again")
        client.flush()
        self.assertEqual(client.bodies[again], b"again")
        self.assertEqual(gate.upstreams[0].in_flight, 0)

    def test_malformed_answers(self) -> None:
        """An answer that is none is answered 502; the others on the connection are not touched."""
        for fields in (
            [(b":status", b"200"), (b"X-Upper", b"1")],
            [(b":status", b"200"), (b"x-a", b"b\r\nset-cookie: c")],
            [(b":status", b"200"), (b"connection", b"close")],
            [(b":status", b"20")],
            [(b":status", b"101")],
            [(b":status", b"200"), (b"content-length", b"x")],
            [(b"x-a", b"b")],
            [(b":status", b"200"), (b":path", b"/")],
        ):
            gate, client = both()
            bad, good = client.ask(), client.ask()
            server = Http2Server(gate)
            server.h2.send_headers(1, fields, end_stream=fields[0][1] != b"101")
            server.flush()
            server.answer(3)
            client.flush()
            self.assertEqual(client.heads[bad][b":status"], b"502", fields)
            self.assertEqual(client.bodies[good], b"ok", fields)

    def test_wrong_length(self) -> None:
        """A body that is longer or shorter than it should be is broken off."""
        for body, told in ((b"abc", b"2"), (b"abc", b"4")):
            gate, client = both()
            stream = client.ask()
            server = Http2Server(gate)
            server.h2.send_headers(1, [(b":status", b"200"), (b"content-length", told)])
            server.flush()
            server.h2.send_data(1, body, end_stream=True)
            server.flush()
            client.flush()
            self.assertNotIn(stream, client.ended)
            self.assertIn(stream, client.resets)

    def test_nonsense(self) -> None:
        """What is no HTTP/2 ends the connection, and is answered 502."""
        gate, client = both()
        stream = client.ask()
        gate.server.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        client.flush()
        self.assertEqual(client.heads[stream][b":status"], b"502")
        self.assertEqual(gate.server.closed, "lost")

    def test_no_answer(self) -> None:
        """A server that does not answer in time costs its request 504, and its stream."""
        gate, client = both(upstream=UpstreamSettings(response_timeout=5, silence_timeout=0))
        stream = client.ask()
        server = Http2Server(gate)
        gate.advance(6)
        client.read()
        server.read()
        self.assertEqual(client.heads[stream][b":status"], b"504")
        self.assertEqual(server.resets, {1: ErrorCodes.CANCEL})

    def test_silent_server_is_questioned(self) -> None:
        """A server that is silent is asked whether it is there in the language that it speaks."""
        gate, client = both()
        client.ask()
        gate.advance(2)
        self.assertEqual(len(gate.network.servers), 2)
        self.assertTrue(gate.server.take().startswith(b"PRI * HTTP/2.0"))

    def test_idle_connection_is_closed(self) -> None:
        """A connection that is not used is closed in the end."""
        gate, client = both(upstream=UpstreamSettings(idle_timeout=10))
        client.ask()
        Http2Server(gate).answer(1)
        gate.advance(11)
        self.assertEqual(gate.server.closed, "lost")

    def test_retired(self) -> None:
        """A server that no table names any more finishes what it has, and is left."""
        gate, client = both()
        stream = client.ask()
        server = Http2Server(gate)
        gate.upstreams[0].retire()
        self.assertIsNone(gate.server.closed)
        server.answer(1)
        client.flush()
        self.assertEqual(client.bodies[stream], b"ok")
        self.assertEqual(gate.server.closed, "lost")
