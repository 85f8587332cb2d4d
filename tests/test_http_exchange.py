"""Requests through the gate on a network in memory."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.upstream import UpstreamSettings
from swarmgate.transport.network import ConnectTimeout
from tests.memory_network import GET, OK, MemoryGate

POST = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc"


class ForwardingTests(SynchronousTestCase):
    def test_request_and_answer_pass(self) -> None:
        """A request reaches the server with what it said, and its answer the client."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(b"GET /x?y=1 HTTP/1.1\r\nHost: a.example:81\r\nAccept: */*\r\n\r\n")
        self.assertEqual(
            gate.server.take(),
            b"GET /x?y=1 HTTP/1.1\r\nHost: a.example:81\r\nAccept: */*\r\n"
            b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Host: a.example:81\r\nX-Forwarded-Port: 81\r\n"
            b"X-Forwarded-Proto: http\r\nX-Forwarded-Server: gate\r\nX-Real-Ip: 192.0.2.7\r\n\r\n",
        )
        gate.server.receive(b"HTTP/1.1 201 Made\r\nX-A: b\r\nContent-Length: 2\r\n\r\nok")
        self.assertEqual(client.take(), b"HTTP/1.1 201 Made\r\nX-A: b\r\nContent-Length: 2\r\n\r\nok")
        self.assertEqual([e.status for e in gate.finished_exchanges], [201])

    def test_connection_is_used_again(self) -> None:
        """The second request goes over the connection that the first has made."""
        gate = MemoryGate()
        client = gate.client()
        for _ in range(2):
            client.receive(GET)
            gate.server.receive(OK)
        self.assertEqual(len(gate.network.servers), 1)
        self.assertEqual(client.take(), OK * 2)

    def test_turns(self) -> None:
        """Servers are asked in turn."""
        gate = MemoryGate(("http://10.0.0.1:80", "http://10.0.0.2:80"))
        client = gate.client()
        for _ in range(4):
            client.receive(GET)
            for server in gate.network.servers:
                if server.take():
                    server.receive(OK)
        self.assertEqual(
            [e.server for e in gate.finished_exchanges],
            ["http://10.0.0.1:80", "http://10.0.0.2:80", "http://10.0.0.1:80", "http://10.0.0.2:80"],
        )

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        """Of three requests in one piece each waits for the answer before it."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(GET.replace(b"/ ", b"/1 ") + GET.replace(b"/ ", b"/2 ") + GET.replace(b"/ ", b"/3 "))
        for number in (b"1", b"2", b"3"):
            self.assertIn(b"GET /" + number, gate.server.take())
            gate.server.receive(OK.replace(b"ok", b"n" + number))
        self.assertEqual(client.take(), b"".join(OK.replace(b"ok", b"n%d" % n) for n in (1, 2, 3)))
        self.assertFalse(client.paused)

    def test_no_server(self) -> None:
        """A service without servers answers as Traefik does."""
        gate = MemoryGate(())
        client = gate.client()
        client.receive(GET)
        self.assertEqual(
            client.take(),
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"X-Content-Type-Options: nosniff\r\nRetry-After: 1\r\nContent-Length: 20\r\n\r\nno available server\n",
        )

    def test_sized_body_streams(self) -> None:
        """A body goes on piece by piece, and its sender is paused with the server."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nab")
        self.assertTrue(gate.server.take().endswith(b"Content-Length: 6\r\n\r\nab"))
        gate.server.producer.pauseProducing()
        self.assertTrue(client.paused)
        gate.server.producer.resumeProducing()
        self.assertFalse(client.paused)
        client.receive(b"cdef" + GET)
        self.assertEqual(gate.server.take(), b"cdef")
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)
        self.assertIn(b"GET / ", gate.server.take())

    def test_body_waits_for_the_connection(self) -> None:
        """While there is no connection to the server the client is not read, and nothing of its body is lost."""
        gate = MemoryGate()
        gate.network.accepts = False
        client = gate.client()
        client.receive(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        self.assertTrue(client.paused)
        gate.network.accept()
        self.assertFalse(client.paused)
        client.receive(b"cd")
        self.assertTrue(gate.server.take().endswith(b"\r\n\r\nabcd"))

    def test_chunked_body_is_framed_anew(self) -> None:
        """A chunked body that came whole is sent with its length; one that goes on is chunked."""
        gate = MemoryGate()
        client = gate.client()
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.receive(head + b"3;x=y\r\nabc\r\n0\r\n\r\n")
        self.assertTrue(gate.server.take().endswith(b"Content-Length: 3\r\n\r\nabc"))
        gate.server.receive(OK)
        client.receive(head + b"3\r\nabc\r\n")
        self.assertEqual(gate.server.take(), b"")
        gate.advance(1)
        self.assertTrue(gate.server.take().endswith(b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"))
        client.receive(b"2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n")
        self.assertEqual(gate.server.take(), b"2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n")

    def test_broken_chunk_reaches_no_server(self) -> None:
        """A body that is framed wrongly is refused before anything of it was sent on."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        client.receive(b"3\nabc\r\n0\r\n\r\n")
        self.assertEqual(gate.network.servers, [])
        self.assertTrue(client.take().startswith(b"HTTP/1.1 400 Bad Request\r\n"))
        self.assertTrue(client.half_closed)
        client.receive(GET)
        self.assertEqual(client.take(), b"")
        gate.advance(2)
        self.assertEqual(client.closed, "aborted")

    def test_answer_in_pieces(self) -> None:
        """An answer is passed on as it comes; the server is paused with the client."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(GET)
        gate.server.receive(b"HTTP/1.1 200 OK\r\nContent-")
        gate.server.receive(b"Length: 6\r\n\r\nab")
        self.assertTrue(client.take().endswith(b"\r\n\r\nab"))
        client.producer.pauseProducing()
        self.assertTrue(gate.server.paused)
        client.producer.resumeProducing()
        self.assertFalse(gate.server.paused)
        gate.server.receive(b"cdef")
        self.assertEqual(client.take(), b"cdef")
        self.assertIsNone(client.producer)
        self.assertEqual(gate.upstreams[0].idle(), 1)

    def test_chunked_answer(self) -> None:
        """Chunks are passed on, trailers too."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(GET)
        gate.server.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        self.assertEqual(client.take(), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        gate.server.receive(b"1\r\nc\r\n0\r\nX-Sum: 3\r\n\r\n")
        self.assertEqual(client.take(), b"1\r\nc\r\n0\r\nX-Sum: 3\r\n\r\n")

    def test_answer_until_close(self) -> None:
        """An answer that ends with its connection is chunked for HTTP/1.1, and ends in order."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(GET)
        gate.server.receive(b"HTTP/1.0 200 OK\r\n\r\nabc")
        gate.server.end()
        self.assertEqual(client.take(), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        self.assertIsNone(client.closed)

    def test_answer_until_reset(self) -> None:
        """If the connection breaks instead, the client's is broken off: half an answer is not a whole one."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(GET)
        gate.server.receive(b"HTTP/1.0 200 OK\r\n\r\nabc")
        gate.server.reset()
        self.assertEqual(client.closed, "aborted")
        self.assertFalse(client.take().endswith(b"0\r\n\r\n"))

    def test_answer_cut_short(self) -> None:
        """A sized answer that ends early breaks the client's connection off."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(GET)
        gate.server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        gate.server.end()
        self.assertEqual(client.closed, "aborted")

    def test_octets_behind_an_answer(self) -> None:
        """What follows an answer is nobody's: it is thrown away with the connection."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(GET)
        gate.server.receive(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        self.assertEqual(client.take(), OK)
        self.assertEqual(gate.server.closed, "lost")
        client.receive(GET)
        self.assertEqual(len(gate.network.servers), 2)

    def test_octets_on_an_idle_connection(self) -> None:
        """An answer to no question closes the connection that it came over."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(GET)
        gate.server.receive(OK)
        gate.server.receive(OK)
        self.assertEqual(gate.server.closed, "aborted")
        client.receive(GET)
        self.assertEqual(len(gate.network.servers), 2)


class FailureTests(SynchronousTestCase):
    def test_refused_goes_to_the_next(self) -> None:
        """A server that refuses the connection costs nobody an answer."""
        gate = MemoryGate(("http://10.0.0.1:80", "http://10.0.0.2:80"))
        gate.network.accepts = False
        client = gate.client()
        client.receive(POST)
        gate.network.refuse()
        gate.network.accept()
        self.assertTrue(gate.server.take().endswith(b"\r\n\r\nabc"))
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual(gate.finished_exchanges[0].retries, 1)
        self.assertEqual([upstream.in_flight for upstream in gate.upstreams], [0, 0])

    def test_all_refuse(self) -> None:
        """If none can be reached the answer is 502."""
        gate = MemoryGate(("http://10.0.0.1:80", "http://10.0.0.2:80"))
        gate.network.accepts = False
        client = gate.client()
        client.receive(GET)
        gate.network.refuse()
        gate.network.refuse()
        self.assertEqual(client.take(), b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 11\r\n\r\nBad Gateway")

    def test_connect_timeout(self) -> None:
        """If a connect gets no answer it is 504."""
        gate = MemoryGate()
        gate.network.accepts = False
        client = gate.client()
        client.receive(GET)
        gate.network.refuse(ConnectTimeout("late"))
        self.assertIn(b"504 Gateway Timeout", client.take())

    def test_stale_connection(self) -> None:
        """A kept connection that turns out closed is no reason to fail a GET."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(GET)
        gate.server.receive(OK)
        client.receive(GET)
        gate.server.reset()
        self.assertEqual(len(gate.network.servers), 2)
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK * 2)
        self.assertEqual(gate.upstreams[0].in_flight, 0)

    def test_stale_connection_post(self) -> None:
        """A POST may have been acted on: it is not sent again."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(GET)
        gate.server.receive(OK)
        client.take()
        client.receive(POST)
        gate.server.reset()
        self.assertIn(b"502 Bad Gateway", client.take())
        self.assertEqual(len(gate.network.servers), 1)

    def test_fresh_connection_that_closes(self) -> None:
        """A server that closes a new connection without an answer is not asked again and again."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(GET)
        gate.server.end()
        self.assertIn(b"502 Bad Gateway", client.take())
        self.assertEqual(len(gate.network.servers), 1)

    def test_silent_server(self) -> None:
        """A server that does not answer in time is given up."""
        gate = MemoryGate(upstream=UpstreamSettings(response_timeout=5))
        client = gate.client()
        client.receive(GET)
        gate.advance(5.5)
        self.assertIn(b"504 Gateway Timeout", client.take())
        self.assertEqual(gate.server.closed, "aborted")

    def test_client_that_stalls(self) -> None:
        """A client that does not go on with its body is told that it was too slow, not that the server was."""
        gate = MemoryGate(progress_timeout=5, upstream=UpstreamSettings(response_timeout=5, progress_timeout=5))
        client = gate.client()
        client.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        gate.advance(6)
        self.assertIn(b"408 Request Timeout", client.take())
        self.assertEqual(gate.server.closed, "aborted")

    def test_server_that_stalls(self) -> None:
        """A server that does not take the rest of a body is given up."""
        gate = MemoryGate(progress_timeout=5, upstream=UpstreamSettings(response_timeout=60, progress_timeout=5))
        client = gate.client()
        client.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        gate.server.producer.pauseProducing()
        gate.advance(6)
        self.assertIn(b"504 Gateway Timeout", client.take())

    def test_client_leaves(self) -> None:
        """Nobody waits for the answer any more: the server's connection is closed, and nothing is left."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(GET)
        client.reset()
        self.assertEqual(gate.server.closed, "aborted")
        self.assertEqual([e.status for e in gate.finished_exchanges], [499])
        self.assertEqual(gate.upstreams[0].in_flight, 0)
        gate.server.settle()
        self.assertEqual(len(gate.deadlines), 0)

    def test_client_leaves_while_connecting(self) -> None:
        """A connection that comes about for nobody is kept for the next one."""
        gate = MemoryGate()
        gate.network.accepts = False
        client = gate.client()
        client.receive(GET)
        client.reset()
        gate.network.accept()
        self.assertEqual(gate.upstreams[0].idle(), 1)
        self.assertEqual(gate.upstreams[0].in_flight, 0)
        self.assertEqual(gate.server.take(), b"")

    def test_bad_answers(self) -> None:
        """What no client should see becomes a 502, and its connection is not used again."""
        for answer in (
            b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" * 17,
            b"SSH-2.0-OpenSSH\r\n\r\n",
        ):
            gate = MemoryGate()
            client = gate.client()
            client.receive(GET)
            gate.server.receive(answer)
            self.assertIn(b"HTTP/1.1 502 Bad Gateway\r\n", client.take(), answer)
            self.assertEqual(gate.server.closed, "aborted", answer)
            self.assertEqual(gate.upstreams[0].idle(), 0)


class ConnectionTests(SynchronousTestCase):
    def test_slow_head(self) -> None:
        """A head must be there within its deadline, however busily it trickles."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(b"GET / HTTP/1.1\r\n")
        for _ in range(12):
            client.receive(b"X: y\r\n")
            gate.advance(1)
        self.assertIn(b"408 Request Timeout", client.take())

    def test_idle_connection(self) -> None:
        """A connection without requests is closed after a while."""
        gate = MemoryGate(idle_timeout=30)
        client = gate.client()
        client.receive(GET)
        gate.server.receive(OK)
        gate.advance(29)
        self.assertIsNone(client.closed)
        gate.advance(2)
        self.assertEqual(client.closed, "lost")

    def test_many_at_once(self) -> None:
        """Of many requests that need no server a number is answered in one turn, then others have theirs."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n" * 150)
        self.assertEqual((client.take().count(b"HTTP/1.1 200 OK"), client.paused), (64, True))
        gate.clock.advance(0)
        self.assertEqual((client.take().count(b"HTTP/1.1 200 OK"), client.paused), (86, False))
        client.receive(GET)
        self.assertIn(b"GET / ", gate.server.take())

    def test_many_at_once_and_gone(self) -> None:
        """Who is gone before its turn is served no more."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n" * 64 + GET)
        client.reset()
        gate.clock.advance(0)
        self.assertEqual(gate.network.servers, [])

    def test_answers_not_read(self) -> None:
        """A client that has much to read yet gets no further request served until it has read that."""
        gate = MemoryGate()
        client: Any = gate.client()
        client.receive(GET + GET)
        self.assertIn(b"GET / ", gate.server.take())
        client.full = True
        gate.server.receive(OK)
        self.assertEqual((gate.server.take(), client.paused), (b"", True))
        gate.advance(30)
        client.full = False
        client.producer.resumeProducing()
        self.assertIn(b"GET / ", gate.server.take())
        gate.server.receive(OK)
        self.assertEqual((client.producer, client.paused, client.take().count(OK)), (None, False, 2))

    def test_answers_never_read(self) -> None:
        """One that reads nothing at all is not waited for endlessly."""
        gate = MemoryGate()
        client: Any = gate.client()
        client.receive(GET + GET)
        client.full = True
        gate.server.receive(OK)
        gate.advance(61)
        gate.advance(2)
        self.assertIsNotNone(client.closed)
        self.assertNotIn(b"GET / HTTP", gate.server.take().partition(b"\r\n\r\n")[2])

    def test_http_1_0(self) -> None:
        """An HTTP/1.0 client gets an answer that it understands, and its connection closed or kept as it asks."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        gate.server.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        gate.server.receive(b"0\r\n\r\n")
        self.assertEqual(client.take(), b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nab")
        self.assertEqual(client.closed, "lost")
        client = gate.client()
        client.receive(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        gate.server.receive(OK)
        self.assertIn(b"Connection: keep-alive\r\n", client.take())
        self.assertIsNone(client.closed)

    def test_head_and_no_content(self) -> None:
        """An answer that has no body has none, whatever the server sends behind it."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(GET.replace(b"GET", b"HEAD"))
        gate.server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
        self.assertEqual(client.take(), b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
        client.receive(GET)
        gate.server.receive(b"HTTP/1.1 204 No Content\r\n\r\nbody")
        self.assertEqual(client.take(), b"HTTP/1.1 204 No Content\r\n\r\n")
        self.assertEqual(gate.server.closed, "lost")

    def test_expectation(self) -> None:
        """A client that waits for a 100 gets the server's."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        self.assertIn(b"Expect: 100-continue\r\n", gate.server.take())
        gate.server.receive(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(client.take(), b"HTTP/1.1 100 Continue\r\n\r\n")
        client.receive(b"ab")
        self.assertEqual(gate.server.take(), b"ab")

    def test_expectation_that_nobody_answers(self) -> None:
        """A server that knows no 100 does not keep the client waiting."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        gate.advance(1.5)
        self.assertEqual(client.take(), b"HTTP/1.1 100 Continue\r\n\r\n")

    def test_early_answer(self) -> None:
        """An answer that comes before the body has ended is passed on, and the connections are closed."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        gate.server.receive(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        self.assertIn(b"Connection: close\r\n", client.take())
        self.assertTrue(client.half_closed)
        self.assertEqual(gate.server.closed, "lost")
        self.assertEqual(gate.upstreams[0].in_flight, 0)

    def test_websocket(self) -> None:
        """After a 101 octets pass both ways, and each side's end is told to the other."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: k\r\n\r\nearly"
        )
        self.assertIn(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", gate.server.take())
        gate.server.receive(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: x\r\n\r\nhello"
        )
        self.assertEqual(
            client.take(),
            b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
        )
        self.assertEqual(gate.server.take(), b"early")
        client.receive(b"\x00\xff")
        self.assertEqual(gate.server.take(), b"\x00\xff")
        gate.server.receive(b"\x01")
        self.assertEqual(client.take(), b"\x01")
        client.end()
        self.assertTrue(gate.server.half_closed)
        client.reset()
        self.assertEqual(gate.server.closed, "lost")
        gate.server.settle()
        self.assertEqual(gate.upstreams[0].in_flight, 0)
        self.assertEqual(len(gate.deadlines), 0)

    def test_websocket_refused(self) -> None:
        """A server that answers otherwise is just a server that answers."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)

    def test_draining(self) -> None:
        """A gate that is being stopped tells its clients to come back elsewhere."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(GET)
        gate.draining = True
        gate.server.receive(OK)
        self.assertIn(b"Connection: close\r\n", client.take())
        self.assertEqual(client.closed, "lost")


class MutatedTests(SynchronousTestCase):
    """What mutated requests have found."""

    def test_bad_chunks_that_nobody_waits_for(self) -> None:
        """Who expects a 100, but sends bad chunks without waiting for it, gets 400; the server gets nothing."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5g\r\nAAAAA\r\n0\r\n\r\n"
        )
        self.assertEqual(gate.network.servers, [])
        self.assertTrue(client.take().startswith(b"HTTP/1.1 400 "))

    def test_answer_before_what_else_was_sent(self) -> None:
        """Octets behind a last request don't break the connection before its answer has arrived."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + GET)
        gate.server.receive(OK)
        self.assertIn(b"Connection: close", client.take())
        self.assertTrue(client.half_closed)
        self.assertIsNone(client.closed)
        client.end()
        self.assertEqual(client.closed, "lost")

    def test_empty_line_alone(self) -> None:
        """An empty line behind a request is no request: in time the connection is closed, without an answer."""
        gate = MemoryGate()
        client = gate.client()
        client.receive(GET)
        gate.server.receive(OK)
        client.receive(b"\r\n")
        client.take()
        gate.advance(200)
        self.assertEqual(client.take(), b"")
        self.assertIsNotNone(client.closed)

    def test_empty_line_in_pieces(self) -> None:
        """One empty line before a request is forgiven and two are refused, wherever they are cut."""
        for lines, status in ((b"\r\n", b"200"), (b"\r\n\r\n", b"400")):
            octets = lines + GET
            for cut in range(len(octets)):
                gate = MemoryGate()
                client = gate.client()
                client.receive(octets[:cut])
                if not client.half_closed:
                    client.receive(octets[cut:])
                for server in gate.network.servers:
                    server.receive(OK)
                self.assertEqual(client.take().split(b" ")[1], status, (lines, cut))

    def test_connection_that_breaks_while_it_is_written_to(self) -> None:
        """Whichever side breaks as it is written to, the other gets what is due, and nothing is raised."""
        for is_client in (True, False):
            gate = MemoryGate()
            client = gate.client()
            client.receive(GET)
            server = gate.server
            server.receive(OK)
            client.take()
            server.take()

            def broken(data: bytes) -> None:
                raise RuntimeError("the handler is closed")

            (client if is_client else server).write = broken  # type: ignore[method-assign]
            client.receive(GET)
            if is_client:
                server.receive(OK)
                client.reset()
                self.assertEqual(gate.upstreams[0].in_flight, 0)
            else:
                server.reset()
                self.assertEqual(len(gate.network.servers), 2)
                gate.network.servers[1].receive(OK)
                self.assertEqual(client.take(), OK)
