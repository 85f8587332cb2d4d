"""Requests are asked again where that is allowed, and nowhere else."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http import gathering
from swarmgate.http.exchange import Exchange
from swarmgate.middlewares import add_prefix, retry
from swarmgate.middlewares.chain import Chain
from swarmgate.middlewares.interface import Middleware
from swarmgate.structure import StructureError, structure
from tests.exchanges import context_of
from tests.memory_network import GET, OK, MemoryGate, MemoryTransport

BAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nbad"
POST = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\n\r\n"
TWO = ("http://10.0.0.1:80", "http://10.0.0.2:80")


def gate_of(*servers: str, after: tuple[Any, ...] = (), **options: Any) -> tuple[MemoryGate, MemoryTransport]:
    """A gate whose only route has the middleware, and a client of it."""
    gate = MemoryGate(servers or TWO)
    settings = structure(retry.Settings, options, "retry")
    step = retry.build(settings, context_of(gate.clock))
    gate.leaf = Chain("r@test", (step, *after), gate.leaf)
    return gate, gate.client()


class Refusal(Middleware):
    """Answers every request."""

    def __init__(self, status: int) -> None:
        self.status = status

    def request(self, exchange: Exchange) -> None:
        exchange.answer(self.status, b"no")


class RetryTests(SynchronousTestCase):
    def test_status(self) -> None:
        """An answer of a wanted status is not passed on: another server is asked, with all that there was."""
        prefix = add_prefix.build(structure(add_prefix.Settings, {"prefix": "/p"}, ""), context_of())
        gate, client = gate_of(attempts="3", status="500-599", after=(prefix,))
        client.receive(GET)
        gate.server.receive(BAD)
        self.assertEqual(client.take(), b"")
        gate.clock.advance(0)
        first, second = gate.network.servers
        self.assertEqual(second.getPeer().host, "10.0.0.2")
        asked = second.take()
        self.assertTrue(asked.startswith(b"GET /p/ HTTP/1.1\r\n"), asked)
        self.assertEqual(first.take(), asked.replace(b"10.0.0.2", b"10.0.0.1"))
        second.receive(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual([exchange.retries for exchange in gate.finished_exchanges], [1])
        self.assertEqual([upstream.in_flight for upstream in gate.upstreams], [0, 0])

    def test_last_attempt(self) -> None:
        """The answer of the last attempt goes out, whatever it is."""
        gate, client = gate_of(attempts="2", status="503")
        client.receive(GET)
        gate.server.receive(BAD)
        gate.clock.advance(0)
        self.assertEqual(client.take(), b"")
        gate.server.receive(BAD)
        self.assertEqual(client.take(), BAD)
        self.assertEqual(len(gate.network.servers), 2)

    def test_other_status(self) -> None:
        """An answer that is not asked for again goes out at once."""
        gate, client = gate_of(attempts="2", status="502,504")
        client.receive(GET)
        gate.server.receive(BAD)
        self.assertEqual(client.take(), BAD)

    def test_answer_still_under_way(self) -> None:
        """Of an answer that is given up nothing more is read, and nothing of it is mistaken for the next one."""
        gate, client = gate_of("http://10.0.0.1:80", attempts="2", status="503")
        client.receive(GET)
        gate.server.receive(BAD[:-1])
        self.assertEqual(gate.server.closed, "aborted")
        gate.clock.advance(0)
        self.assertEqual(len(gate.network.servers), 2)
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)

    def test_body(self) -> None:
        """A body is held back, and sent with each attempt of a method that may be repeated."""
        gate, client = gate_of(attempts="2", status="503")
        client.receive(POST.replace(b"POST", b"PUT") + b"ab")
        self.assertEqual(gate.network.servers, [])
        self.assertFalse(client.paused)
        client.receive(b"cd")
        for answer in (BAD, OK):
            self.assertTrue(gate.server.take().endswith(b"Content-Length: 4\r\n\r\nabcd"))
            gate.server.receive(answer)
            gate.clock.advance(0)
        self.assertEqual(client.take(), OK)

    def test_expected_continue(self) -> None:
        """Who waits for a word before sending the body gets it, since the body is wanted here."""
        gate, client = gate_of(attempts="2", status="503")
        client.receive(POST.replace(b"POST", b"PUT").replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        self.assertEqual(client.take(), b"HTTP/1.1 100 Continue\r\n\r\n")
        client.receive(b"abcd")
        asked = gate.server.take()
        self.assertTrue(asked.endswith(b"\r\n\r\nabcd"))
        self.assertNotIn(b"xpect", asked)

    def test_long_body(self) -> None:
        """A body of more than is held back streams, and its request is asked once."""
        gate, client = gate_of(attempts="2", status="503", maxRequestBodyBytes="3")
        client.receive(POST.replace(b"POST", b"PUT") + b"ab")
        self.assertTrue(gate.server.take().endswith(b"\r\n\r\nab"))
        client.receive(b"cd")
        gate.server.receive(BAD)
        self.assertEqual(client.take(), BAD)
        client.receive(
            b"PUT / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"
        )
        self.assertTrue(gate.server.take().endswith(b"abcd"))
        gate.server.receive(BAD)
        self.assertEqual(client.take(), BAD)

    def test_methods(self) -> None:
        """A POST is not sent twice by status, unless that is asked for."""
        for option, answers in (("false", [BAD]), ("true", [BAD, OK])):
            gate, client = gate_of(attempts="2", status="503", retryNonIdempotentMethod=option)
            client.receive(POST + b"abcd")
            for answer in answers:
                gate.server.receive(answer)
                gate.clock.advance(0)
            self.assertEqual(client.take(), answers[-1])

    def test_unreached(self) -> None:
        """When no server could be reached all are asked once more, whatever the method, after the pause."""
        gate, client = gate_of(attempts="3", initialInterval="1s")
        gate.network.accepts = False
        client.receive(POST + b"abcd")
        for pause in (1.0, 2**0.5):
            while gate.network.connecting:
                gate.network.refuse()
            gate.clock.advance(pause - 0.01)
            self.assertNotIn(b"POST", b"".join(server.written for server in gate.network.servers))
            gate.clock.advance(0.01)
        while gate.network.connecting:
            gate.network.accept()
        self.assertEqual(client.take(), b"")
        self.assertTrue(gate.server.take().endswith(b"\r\n\r\nabcd"))
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)

    def test_unreached_at_last(self) -> None:
        """When nobody can be reached in all attempts, or there shall be none, the answer is 502."""
        for options in ({"attempts": "1"}, {"attempts": "2", "disableRetryOnNetworkError": "true"}):
            gate, client = gate_of("http://10.0.0.1:80", **options)
            gate.network.accepts = False
            client.receive(GET)
            gate.network.refuse()
            self.assertIn(b"HTTP/1.1 502 ", client.take())

    def test_timeout(self) -> None:
        """After the time for it there is no further attempt."""
        gate, client = gate_of(attempts="9", status="503", initialInterval="2s", timeout="3s")
        client.receive(GET)
        gate.server.receive(BAD)
        gate.clock.advance(2)
        gate.server.receive(BAD)
        self.assertEqual(client.take(), BAD)

    def test_client_leaves(self) -> None:
        """Nobody is asked for a client that has left in the pause."""
        gate, client = gate_of(attempts="2", status="503", initialInterval="1s")
        client.receive(GET)
        gate.server.receive(BAD)
        client.reset()
        gate.clock.advance(2)
        self.assertEqual(len(gate.network.servers), 1)
        self.assertEqual([exchange.status for exchange in gate.finished_exchanges], [499])
        gate, client = gate_of(attempts="2", status="503")
        client.receive(POST.replace(b"POST", b"PUT"))
        client.reset()
        self.assertEqual(gate.network.servers, [])

    def test_middlewares_are_final(self) -> None:
        """What a middleware behind it answers is not asked for again: nobody gets past one by its own refusal."""
        for status in (401, 403, 503):
            gate, client = gate_of(attempts="3", status="400-599", after=(Refusal(status),))
            for request in (GET, POST.replace(b"POST", b"PUT") + b"abcd"):
                client.receive(request)
                self.assertIn(b"HTTP/1.1 %d " % status, client.take())
                gate.clock.advance(1)
            self.assertEqual((gate.network.servers, client.take()), ([], b""))

    def test_no_server(self) -> None:
        """A service without a server is asked again, if 503 is a wanted status."""
        gate, client = gate_of("http://10.0.0.1:80", attempts="2", status="503")
        (member,) = gate.leaf._leaf.members
        member.judge(False)
        client.receive(GET)
        self.assertEqual(client.take(), b"")
        member.judge(True)
        gate.clock.advance(0)
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)

    def test_many_bodies(self) -> None:
        """Bodies of many requests are held back up to a bound for all of them; the others stream."""
        self.patch(gathering, "TOGETHER_AT_MOST", 5)
        # Other tests leave exchanges that never end.
        self.patch(gathering._Held, "octets", 0)
        gate, first = gate_of(attempts="2", status="503")
        first.receive(POST.replace(b"POST", b"PUT") + b"abc")
        self.assertEqual(gate.network.servers, [])
        second = gate.client()
        second.receive(POST.replace(b"POST", b"PUT") + b"abc")
        self.assertTrue(gate.server.take().endswith(b"\r\n\r\nabc"))
        first.reset()
        second.reset()
        self.assertEqual(gathering._Held.octets, 0)

    def test_whole_body(self) -> None:
        """A body that is whole is counted until its exchange has ended: it may be sent once more."""
        self.patch(gathering._Held, "octets", 0)
        gate, client = gate_of(attempts="2", status="503")
        client.receive(POST.replace(b"POST", b"PUT"))
        client.receive(b"abcd")
        self.assertEqual(gathering._Held.octets, 4)
        gate.server.receive(OK)
        self.assertEqual(gathering._Held.octets, 0)

    def test_wrong_options(self) -> None:
        """Attempts have to be given, and one is the least."""
        for options, reason in (({}, "attempts"), ({"attempts": "0"}, "at least 1"), ({"status": "5xx"}, "400-499")):
            error = self.assertRaises(StructureError, structure, retry.Settings, options, "retry")
            self.assertIn(reason, str(error))
