"""Tests for swarmgate.middlewares.buffering, and for what it is made of."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.exchange import Exchange
from swarmgate.http.message import Response
from swarmgate.middlewares import buffering, circuit_breaker, compress, retry, spool
from swarmgate.middlewares.buffering import Attempt, retry_condition
from swarmgate.middlewares.chain import Chain
from swarmgate.middlewares.interface import Middleware
from swarmgate.structure import StructureError, structure
from tests.exchanges import context_of
from tests.memory_network import GET, OK, MemoryGate, MemoryTransport

TWO = ("http://10.0.0.1:80", "http://10.0.0.2:80")
BAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nbad"


class Threads:
    """Threads that work when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, work: Callable[..., Any], *args: Any) -> Deferred[Any]:
        result: Deferred[Any] = Deferred()
        self.waiting.append(lambda: maybeDeferred(work, *args).chainDeferred(result))
        return result

    def work(self) -> int:
        """Do what is waiting, and what that leads to; returns how much it was."""
        done = 0
        while self.waiting:
            self.waiting.pop(0)()
            done += 1
        return done


def step_of(gate: MemoryGate, threads: Threads | None = None, **options: Any) -> Middleware:
    settings = structure(buffering.Settings, options, "buffering")
    return buffering.build(settings, context_of(gate.clock, in_thread=threads))


def post(length: int, body: bytes = b"", method: bytes = b"POST", extra: bytes = b"") -> bytes:
    return b"%b / HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n%b\r\n%b" % (method, length, extra, body)


def asked(gate: MemoryGate) -> MemoryTransport:
    """The connection to a server that a request has come over."""
    [transport] = [one for one in gate.network.servers if one.written]
    return transport


class Fixture(SynchronousTestCase):
    def setUp(self) -> None:
        self.threads = Threads()
        self.addCleanup(self.assert_nothing_kept)

    def assert_nothing_kept(self) -> None:
        self.assertEqual((spool._Kept.in_memory, spool._Kept.in_files), (0, 0))

    def gate(
        self, *servers: str, before: tuple[Any, ...] = (), after: tuple[Any, ...] = (), **options: Any
    ) -> tuple[MemoryGate, MemoryTransport]:
        """A gate whose only route has the middleware, and a client of it."""
        gate = MemoryGate(servers or TWO)
        gate.leaf = Chain("r@test", (*before, step_of(gate, self.threads, **options), *after), gate.leaf)
        return gate, gate.client()


class RequestTests(Fixture):
    def test_whole(self) -> None:
        """A server is asked when all of the body is here."""
        gate, client = self.gate()
        client.receive(post(4, b"ab"))
        self.assertEqual(gate.network.servers, [])
        client.receive(b"cd")
        self.assertTrue(gate.server.take().endswith(b"Content-Length: 4\r\n\r\nabcd"))
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)

    def test_chunked_gets_a_length(self) -> None:
        """A body that came in chunks goes on with its length."""
        gate, client = self.gate()
        client.receive(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        client.receive(b"2\r\ncd\r\n0\r\n\r\n")
        self.assertTrue(gate.server.take().endswith(b"Content-Length: 4\r\n\r\nabcd"))
        gate.server.receive(OK)

    def test_too_long_by_its_head(self) -> None:
        """A Content-Length beyond the limit is refused at once, before a 100 and before any body."""
        gate, client = self.gate(maxRequestBodyBytes="3")
        client.receive(post(4, extra=b"Expect: 100-continue\r\n"))
        self.assertTrue(client.take().startswith(b"HTTP/1.1 413 "))
        self.assertEqual(gate.network.servers, [])

    def test_too_long(self) -> None:
        """A body in chunks is refused when it is too long; the server hears nothing of it."""
        gate, client = self.gate(maxRequestBodyBytes="3")
        client.receive(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        gate.advance(1)
        self.assertEqual(client.take(), b"")
        client.receive(b"2\r\ncd\r\n")
        self.assertTrue(client.take().startswith(b"HTTP/1.1 413 "))
        self.assertEqual(gate.network.servers, [])

    def test_just_not_too_long(self) -> None:
        """A body of just the limit passes."""
        gate, client = self.gate(maxRequestBodyBytes="4")
        client.receive(post(4, b"abcd"))
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)

    def test_file(self) -> None:
        """A body beyond memRequestBodyBytes waits in a file; the client waits while it is written."""
        body = bytes(range(256)) * 4096
        gate, client = self.gate(memRequestBodyBytes="1000")
        client.receive(post(len(body), body[:300000]))
        self.assertTrue(client.paused)
        self.threads.work()
        self.assertFalse(client.paused)
        client.receive(body[300000:])
        self.threads.work()
        sent = gate.server.take()
        self.assertTrue(sent.endswith(b"Content-Length: %d\r\n\r\n%b" % (len(body), body)))
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual(gate.finished_exchanges[0].received, len(body))

    def test_server_is_slow(self) -> None:
        """A body in a file goes on no faster than the server takes it."""
        body = b"x" * (3 * spool.PIECE)
        gate, client = self.gate(memRequestBodyBytes="1000")
        client.receive(post(len(body), body[:1000]))
        client.receive(body[1000:])
        while not gate.network.servers:
            self.threads.waiting.pop(0)()
        gate.server.producer.pauseProducing()
        self.threads.work()
        self.assertLess(len(gate.server.written), 2 * spool.PIECE)
        gate.server.producer.resumeProducing()
        self.threads.work()
        self.assertTrue(gate.server.take().endswith(body))
        gate.server.receive(OK)

    def test_client_leaves(self) -> None:
        """Of a client that leaves nothing is kept, wherever its body is."""
        for work in (0, 1):
            _, client = self.gate(memRequestBodyBytes="1000")
            client.receive(post(5000000, b"x" * 300000))
            if work:
                self.threads.work()
            client.reset()
            self.threads.work()
            self.assert_nothing_kept()

    def test_no_room(self) -> None:
        """A body for which there is no room is answered 503."""
        self.patch(spool, "IN_FILES_AT_MOST", 1000)
        gate, client = self.gate(memRequestBodyBytes="1000")
        client.receive(post(5000, b"x" * 2000))
        self.threads.work()
        self.assertTrue(client.take().startswith(b"HTTP/1.1 503 "))
        self.assertEqual(gate.network.servers, [])

    def test_disk_is_full(self) -> None:
        """A disk that can't be written costs the request, and is told of."""

        def full(**options: Any) -> Any:
            raise OSError(28, "No space left on device")

        self.patch(tempfile, "TemporaryFile", full)
        _, client = self.gate(memRequestBodyBytes="1000")
        client.receive(post(3000, b"x" * 2000))
        self.threads.work()
        self.assertTrue(client.take().startswith(b"HTTP/1.1 503 "))

    def test_much_in_memory(self) -> None:
        """Beyond what all may have of memory, bodies go to files though they are not long."""
        self.patch(spool, "IN_MEMORY_AT_MOST", 1000)
        gate, client = self.gate()
        body = b"x" * (spool.PIECE + 1)
        client.receive(post(len(body), body[:1]))
        client.receive(body[1:])
        self.assertTrue(self.threads.work())
        self.assertTrue(gate.server.take().endswith(body))
        gate.server.receive(OK)

    def test_trailers(self) -> None:
        """Trailers of a body are kept with it."""
        gate, client = self.gate()
        client.receive(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n"
        )
        self.assertTrue(gate.server.take().endswith(b"2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n"))
        gate.server.receive(OK)

    def test_upgrade(self) -> None:
        """A tunnel passes."""
        gate, client = self.gate(maxRequestBodyBytes="1", maxResponseBodyBytes="1")
        client.receive(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        gate.server.receive(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello"
        )
        self.assertTrue(client.take().endswith(b"\r\n\r\nhello"))
        client.receive(b"back")
        self.assertTrue(gate.server.take().endswith(b"back"))


class AnswerTests(Fixture):
    def test_whole(self) -> None:
        """An answer goes out when it is whole, with its length."""
        gate, client = self.gate()
        client.receive(GET)
        gate.server.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        self.assertEqual(client.take(), b"")
        gate.server.receive(b"2\r\ncd\r\n0\r\n\r\n")
        self.assertEqual(client.take(), b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd")
        [exchange] = gate.finished_exchanges
        self.assertEqual((exchange.sent, exchange.status), (4, 200))

    def test_to_the_end_of_the_connection(self) -> None:
        """An answer that ends with its connection gets a length too."""
        gate, client = self.gate()
        client.receive(GET)
        gate.server.receive(b"HTTP/1.0 200 OK\r\n\r\nabcd")
        gate.server.end()
        gate.server.settle()
        self.assertEqual(client.take(), b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd")

    def test_too_long(self) -> None:
        """In place of an answer that is too long, by its head or by its body, goes a 500."""
        for begin, rest in (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na", b""),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"2\r\ncd\r\n0\r\n\r\n"),
            (b"HTTP/1.0 200 OK\r\n\r\nab", b"cd"),
        ):
            gate, client = self.gate(maxResponseBodyBytes="3")
            client.receive(GET)
            gate.server.receive(begin)
            if rest:
                self.assertEqual(client.take(), b"")
                gate.server.receive(rest)
            answer = client.take()
            self.assertTrue(answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n"), answer)
            self.assertTrue(answer.endswith(b"Internal Server Error"))
            self.assertEqual([one.in_flight for one in gate.upstreams], [0, 0])
            # The client's connection serves on.
            client.receive(GET)
            gate.server.receive(OK.replace(b": 2", b": 3").replace(b"ok", b"oki"))
            self.assertTrue(client.take().endswith(b"oki"))

    def test_file(self) -> None:
        """A long answer waits in a file, the server waits while it is written, and the client takes it as it can."""
        body = bytes(range(256)) * 8192
        gate, client = self.gate(memResponseBodyBytes="1000")
        client.receive(GET)
        gate.server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body[:500000]))
        self.assertTrue(gate.server.paused)
        self.threads.work()
        self.assertFalse(gate.server.paused)
        gate.server.receive(body[500000:])
        while not client.written:
            self.threads.waiting.pop(0)()
        client.producer.pauseProducing()
        self.threads.work()
        self.assertLess(len(client.written), 2 * spool.PIECE)
        client.producer.resumeProducing()
        self.threads.work()
        self.assertEqual(client.take(), b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        [exchange] = gate.finished_exchanges
        self.assertEqual((exchange.sent, exchange.origin_sent), (len(body), len(body)))
        self.assertIsNone(client.producer)
        client.receive(GET)
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)

    def test_client_leaves(self) -> None:
        """Nothing is kept for a client that has left, and that it left is told."""
        for pieces in (1, 2):
            gate, client = self.gate(memResponseBodyBytes="1000")
            client.receive(GET)
            gate.server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n" + b"x" * 300000 * pieces)
            client.reset()
            self.threads.work()
            self.assert_nothing_kept()
            self.assertEqual([one.status for one in gate.finished_exchanges], [499])

    def test_no_room(self) -> None:
        """An answer for which there is no room becomes a 503."""
        self.patch(spool, "IN_FILES_AT_MOST", 1000)
        gate, client = self.gate(memResponseBodyBytes="1000")
        client.receive(GET)
        gate.server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 2000)
        self.assertTrue(client.take().startswith(b"HTTP/1.1 503 "))

    def test_server_breaks_off(self) -> None:
        """An answer that is not finished is none: the client gets a 502 instead of half of it."""
        gate, client = self.gate()
        client.receive(GET)
        gate.server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 2000)
        gate.server.reset()
        self.assertTrue(client.take().startswith(b"HTTP/1.1 502 "))

    def test_head_and_not_modified(self) -> None:
        """Answers without a body keep the length that they tell, whatever that is."""
        for asked, status in ((GET.replace(b"GET", b"HEAD"), b"200 OK"), (GET, b"304 Not Modified")):
            gate, client = self.gate(maxResponseBodyBytes="3")
            client.receive(asked)
            answer = b"HTTP/1.1 %b\r\nContent-Length: 5000\r\n\r\n" % status
            gate.server.receive(answer)
            self.assertEqual(client.take(), answer)

    def test_trailers(self) -> None:
        """An answer's trailers follow it."""
        gate, client = self.gate()
        client.receive(GET)
        answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n"
        gate.server.receive(answer)
        self.assertEqual(client.take(), answer)

    def test_old_client(self) -> None:
        """HTTP/1.0 gets its answers whole too."""
        gate, client = self.gate()
        client.receive(b"GET / HTTP/1.0\r\n\r\n")
        gate.server.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
        self.assertTrue(client.take().endswith(b"Content-Length: 2\r\nConnection: close\r\n\r\nab"))

    def test_streams(self) -> None:
        """Events, and what gRPC answers, go out as they come."""
        for kind in (b"text/event-stream; charset=utf-8", b"application/grpc+proto"):
            gate, client = self.gate()
            client.receive(GET)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % kind
            gate.server.receive(head + b"2\r\nab\r\n")
            self.assertEqual(client.take(), head + b"2\r\nab\r\n")
            client.reset()

    def test_compress(self) -> None:
        """What is kept may be compressed before, or after."""
        body = b"hello " * 1000
        packing = compress.build(structure(compress.Settings, {}, ""), context_of())
        asked = GET.replace(b"\r\n\r\n", b"\r\nAccept-Encoding: gzip\r\n\r\n")
        for places in ({"before": (packing,)}, {"after": (packing,)}):
            gate, client = self.gate(**places)  # type: ignore[arg-type]
            client.receive(asked)
            gate.server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            head, _, packed = client.take().partition(b"\r\n\r\n")
            self.assertIn(b"Content-Encoding: gzip", head)
            self.assertIn(b"Content-Length: %d" % len(packed), head)
            self.assertEqual(zlib.decompress(packed, 31), body)

    def test_broken_step(self) -> None:
        """If a middleware before it fails on the answer, the client gets a 500."""

        class Broken(Middleware):
            def response(self, exchange: Exchange, response: Response) -> None:
                raise ZeroDivisionError

        gate, client = self.gate(before=(Broken(),))
        client.receive(GET)
        gate.server.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        gate.server.receive(b"2\r\ncd\r\n0\r\n\r\n")
        self.assertTrue(client.take().startswith(b"HTTP/1.1 500 "))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class RetryTests(Fixture):
    def test_again(self) -> None:
        """A request is asked again with its body, at another server, as long as the expression holds."""
        gate, client = self.gate(retryExpression="ResponseCode() == 503 && Attempts() < 3")
        client.receive(post(4, b"abcd"))
        for host in ("10.0.0.1", "10.0.0.2", "10.0.0.1"):
            server = asked(gate)
            self.assertEqual(server.getPeer().host, host)
            self.assertTrue(server.take().endswith(b"\r\n\r\nabcd"))
            self.assertEqual(client.take(), b"")
            server.receive(BAD)
            gate.clock.advance(0)
        self.assertEqual(client.take(), BAD)
        self.assertEqual([exchange.retries for exchange in gate.finished_exchanges], [2])

    def test_again_from_a_file(self) -> None:
        """A body in a file is sent with each attempt."""
        body = bytes(range(256)) * 4096
        gate, client = self.gate(retryExpression="Attempts() < 3 && ResponseCode() > 500", memRequestBodyBytes="1000")
        client.receive(post(len(body), body[:1000]))
        client.receive(body[1000:])
        self.assertTrue(self.threads.work())
        self.assertTrue(gate.server.take().endswith(body))
        gate.server.receive(BAD)
        gate.clock.advance(0)
        self.threads.work()
        self.assertTrue(gate.server.take().endswith(body))
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)

    def test_answered_early(self) -> None:
        """A server that answers before it has the body is replaced by one that gets all of it."""
        body = b"x" * (3 * spool.PIECE)
        gate, client = self.gate(retryExpression="ResponseCode() == 503", memRequestBodyBytes="1000")
        client.receive(post(len(body), body[:1000]))
        client.receive(body[1000:])
        while not gate.network.servers:
            self.threads.waiting.pop(0)()
        gate.server.receive(BAD)
        gate.clock.advance(0)
        self.threads.work()
        self.assertTrue(gate.server.take().endswith(b"\r\n\r\n" + body))
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)

    def test_no_server(self) -> None:
        """No server, or one that breaks off within its answer, is a network error."""
        gate, client = self.gate(retryExpression="IsNetworkError() && Attempts() <= 2")
        gate.network.accepts = False
        client.receive(GET)
        gate.network.refuse()
        gate.network.refuse()
        gate.network.accepts = True
        gate.clock.advance(0)
        gate.server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        gate.server.reset()
        gate.clock.advance(0)
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)

    def test_at_most(self) -> None:
        """An expression that always holds has an end."""
        gate, client = self.gate("http://10.0.0.1:80", retryExpression="Attempts() > 0")
        client.receive(GET)
        asked = 0
        while not client.written:
            gate.server.receive(BAD)
            asked += 1
            gate.clock.advance(0)
        self.assertEqual(asked, 10)

    def test_client_leaves(self) -> None:
        """Nobody is asked again for a client that has left."""
        gate, client = self.gate(retryExpression="ResponseCode() == 503")
        client.receive(GET)
        gate.server.receive(BAD)
        client.reset()
        gate.clock.advance(1)
        self.assertEqual(len(gate.network.servers), 1)

    def test_with_retry(self) -> None:
        """It goes together with retry, before it or after it; each attempt of one may have several of the other."""
        for place in ("before", "after"):
            step = retry.build(structure(retry.Settings, {"attempts": "2", "status": "503"}, ""), context_of())
            gate, client = self.gate(**{place: (step,)}, retryExpression="ResponseCode() == 500 && Attempts() < 3")
            step._clock = gate.clock  # type: ignore[attr-defined]
            client.receive(post(4, b"abcd", b"PUT"))
            for answer in (BAD, BAD.replace(b"503", b"500"), OK):
                server = asked(gate)
                self.assertTrue(server.take().endswith(b"\r\n\r\nabcd"), place)
                server.receive(answer)
                gate.clock.advance(0)
            self.assertEqual(client.take(), OK, place)

    def test_with_circuit_breaker(self) -> None:
        """A circuit breaker before it sees the answers that clients get."""
        settings = structure(
            circuit_breaker.Settings,
            {"expression": "ResponseCodeRatio(500, 600, 0, 600) > 0.3", "checkPeriod": "1s"},
            "",
        )
        breaker = circuit_breaker.build(settings, context_of())
        gate, client = self.gate(before=(breaker,), retryExpression="ResponseCode() == 503 && Attempts() < 2")
        client.receive(GET)
        gate.server.receive(BAD)
        gate.clock.advance(0)
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)
        circuit: Any = breaker._circuit  # type: ignore[attr-defined]
        self.assertEqual([one.statuses for one in circuit._window.lately(0)], [{200: 1}])


class ExpressionTests(SynchronousTestCase):
    def holds(self, text: str, number: int = 1, status: int = 200) -> bool:
        condition = retry_condition(text)
        assert condition is not None
        return condition(Attempt(number, status))

    def test_expressions(self) -> None:
        """Functions, comparisons, and, or, not and parentheses mean what they say."""
        for text, number, status, expected in (
            ("IsNetworkError()", 1, 502, True),
            ("IsNetworkError()", 1, 504, True),
            ("IsNetworkError()", 1, 500, False),
            ("!IsNetworkError()", 1, 500, True),
            ("IsNetworkError() && Attempts() <= 2", 2, 502, True),
            ("IsNetworkError() && Attempts() <= 2", 3, 502, False),
            ("Attempts() < 2 || ResponseCode() == 503", 4, 503, True),
            ("Attempts()<2&&(ResponseCode()>=500||ResponseCode()==429)", 1, 429, True),
            ("ResponseCode() != 200", 1, 200, False),
        ):
            self.assertEqual(self.holds(text, number, status), expected, text)
        self.assertIsNone(retry_condition(""))

    def test_mistakes(self) -> None:
        """A mistake is told with what was expected, and the nearest right function."""
        for text, told in (
            ("IsNetworkErorr()", "did you mean IsNetworkError?"),
            ("Attempt() < 2", "did you mean Attempts?"),
            ("ResponseCode()", "expected a comparison such as >, not the end"),
            ("ResponseCode() == x", "expected a number, not x"),
            ("IsNetworkError", "expected (, not the end"),
            ("IsNetworkError() > 1", "expected &&, || or the end, not >"),
            ("Attempts(1) < 2", "takes 0 numbers, not 1"),
            ("__import__('os')", "can't be understood"),
            ("Attempts() < 2 &", "can't be understood"),
            ("(" * 60 + "IsNetworkError()", "at most 50 parentheses"),
        ):
            with self.assertRaises(ValueError) as caught:
                retry_condition(text)
            self.assertIn(told, str(caught.exception), text)
            self.assertIn("retryExpression", str(caught.exception))

    @given(st.text(max_size=60) | st.text("()!&|<>=1 AtempsRCod", max_size=60))
    def test_any_text(self, text: str) -> None:
        """Whatever is given is an expression or a mistake with a reason."""
        try:
            condition = retry_condition(text)
        except ValueError as error:
            self.assertIn("retryExpression", str(error))
        else:
            self.assertIn(condition is None or condition(Attempt(1, 200)), (True, False))

    def test_settings(self) -> None:
        """Limits are 0 or more."""
        for name in (
            "maxRequestBodyBytes",
            "memRequestBodyBytes",
            "maxResponseBodyBytes",
            "memResponseBodyBytes",
        ):
            with self.assertRaises(StructureError):
                structure(buffering.Settings, {name: "-1"}, "buffering")
        self.assertRaises(
            ValueError, buffering.build, structure(buffering.Settings, {"retryExpression": "x"}, ""), context_of()
        )
