"""Tests for swarmgate.middlewares.in_flight_req."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.limits.local import LocalCounts
from swarmgate.middlewares import build, in_flight_req, retry
from swarmgate.middlewares.chain import Chain
from swarmgate.middlewares.interface import Middleware
from swarmgate.structure import StructureError, structure
from tests.exchanges import Kept, client_of, context_of, exchange_of, lead
from tests.http2_peers import Http2Client
from tests.http2_peers import gate_of as http2_gate_of
from tests.memory_network import GET, OK, MemoryGate, MemoryTransport

WEBSOCKET = b"GET /ws HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def settings_of(**tree: Any) -> in_flight_req.Settings:
    return structure(in_flight_req.Settings, tree, "inFlightReq")


class Silent:
    """A service that does not answer yet."""

    def serve(self, exchange: Any) -> None:
        """Nothing happens."""


class CountingTests(SynchronousTestCase):
    """Who counts as whom, and for how long."""

    def setUp(self) -> None:
        self.kept = Kept()

    def limit(self, name: str = "busy@test", **tree: Any) -> Middleware:
        return build("inflightreq", settings_of(**tree), context_of(keep=self.kept, name=name))

    def ask(self, limit: Middleware, *fields: tuple[str, str], **more: Any) -> Any:
        """A request that is not answered by its service."""
        exchange = exchange_of("/", *fields, **more)
        lead(exchange, limit, origin=Silent())  # type: ignore[arg-type]
        return exchange

    def statuses(self, limit: Middleware, count: int, *fields: tuple[str, str], **more: Any) -> list[int]:
        return [client_of(self.ask(limit, *fields, **more)).status for _ in range(count)]

    def test_one_more_is_refused(self) -> None:
        """So many may be under way, one more is told that they are too many."""
        limit = self.limit(amount=2)
        self.assertEqual(self.statuses(limit, 2), [0, 0])
        client = client_of(self.ask(limit))
        self.assertEqual((client.status, client.body), (429, b"Too Many Requests"))

    def test_by_host_unless_told_otherwise(self) -> None:
        """By default each host that is asked for counts for itself, whoever asks."""
        limit = self.limit(amount=1)
        self.assertEqual(self.statuses(limit, 1, peer="192.0.2.1"), [0])
        self.assertEqual(self.statuses(limit, 1, peer="192.0.2.2", host="A.example:80"), [429])
        self.assertEqual(self.statuses(limit, 1, host="b.example"), [0])

    def test_empty_criterion_is_the_host(self) -> None:
        """A criterion that says nothing is the default, as with Traefik."""
        limit = self.limit(amount=1, sourceCriterion={"requestHost": "false"})
        self.assertEqual(self.statuses(limit, 1, peer="192.0.2.1"), [0])
        self.assertEqual(self.statuses(limit, 1, peer="192.0.2.2"), [429])

    def test_by_address(self) -> None:
        """ipStrategy: each address counts for itself."""
        limit = self.limit(amount=1, sourceCriterion={"ipStrategy": {"depth": "0"}})
        self.assertEqual(self.statuses(limit, 2, peer="192.0.2.1"), [0, 429])
        self.assertEqual(self.statuses(limit, 2, peer="192.0.2.2", host="b.example"), [0, 429])

    def test_none(self) -> None:
        """amount 0 lets nothing pass."""
        self.assertEqual(self.statuses(self.limit(amount=0), 1), [429])

    def test_answered(self) -> None:
        """What has been answered makes room, also when it was answered with an error."""
        limit = self.limit(amount=1)
        first = self.ask(limit)
        self.assertEqual(self.statuses(limit, 1), [429])
        first.fail(502)
        self.assertEqual(self.statuses(limit, 2), [0, 429])

    def test_refused_takes_no_place(self) -> None:
        """What was refused takes nobody's place, and gives none back."""
        limit = self.limit(amount=1)
        first = self.ask(limit)
        self.assertEqual(self.statuses(limit, 50), [429] * 50)
        first.answer(200)
        self.assertEqual(self.statuses(limit, 2), [0, 429])

    def test_refused_further_down(self) -> None:
        """A request that another middleware refuses is not under way any more."""
        outer = self.limit(amount=1)
        inner = self.limit("other@test", amount=0)
        for _ in range(3):
            exchange = exchange_of()
            self.assertEqual(lead(exchange, outer, inner).status, 429)
        self.assertEqual(self.statuses(outer, 1), [0])

    def test_two_limits(self) -> None:
        """A request that two limits let pass is under way for both."""
        by_host = self.limit("host@test", amount=2)
        by_address = self.limit("address@test", amount=1, sourceCriterion={"ipStrategy": {"depth": "0"}})
        first = exchange_of()
        lead(first, by_host, by_address, origin=Silent())  # type: ignore[arg-type]
        self.assertEqual(self.statuses(by_address, 1), [429])
        self.assertEqual(self.statuses(by_host, 2), [0, 429])
        first.client_gone()
        self.assertEqual(self.statuses(by_address, 2), [0, 429])
        self.assertEqual(self.statuses(by_host, 2), [0, 429])

    def test_new_table(self) -> None:
        """A new configuration forgets nothing that is under way, also not if only the amount changes."""
        first = self.ask(self.limit(amount=1))
        self.assertEqual(self.statuses(self.limit(amount=1), 1), [429])
        self.assertEqual(self.statuses(self.limit(amount=2), 2), [0, 429])
        first.answer(200)
        self.assertEqual(self.statuses(self.limit(amount=2), 2), [0, 429])

    def test_other_middleware_counts_for_itself(self) -> None:
        """Two limits that look the same count for themselves."""
        self.assertEqual(self.statuses(self.limit(amount=1), 1), [0])
        self.assertEqual(self.statuses(self.limit("other@test", amount=1), 1), [0])

    def test_nothing_is_left_behind(self) -> None:
        """Hosts that nobody asks for any more cost no memory."""
        counts = LocalCounts()
        places = [counts.enter(f"{number}.example", 1) for number in range(100)]
        self.assertEqual(len(counts), 100)
        for place in places:
            assert place is not None
            counts.leave(place)
        self.assertEqual((len(counts), counts._counts), (0, {}))

    def test_mistakes(self) -> None:
        """An amount has to be given, and not a negative one; two criteria contradict each other."""
        self.assertRaises(StructureError, settings_of)
        self.assertRaises(StructureError, settings_of, amount="-1")
        with self.assertRaises(ValueError) as caught:
            self.limit(amount=1, sourceCriterion={"requestHost": "true", "ipStrategy": {"depth": "1"}})
        self.assertIn("ipStrategy and requestHost", str(caught.exception))


class EndTests(SynchronousTestCase):
    """A place is given back once, whatever way an exchange ends."""

    def setUp(self) -> None:
        self.counts = LocalCounts()

    def limited(self, gate: MemoryGate, *before: Middleware, amount: int = 1) -> MemoryGate:
        """*gate* with the limit on its only route."""
        self.kept = Kept()
        context = context_of(gate.clock, keep=self.kept)
        gate.leaf = Chain("r@test", (*before, build("inflightreq", settings_of(amount=amount), context)), gate.leaf)
        (self.counts,) = self.kept.things.values()
        return gate

    def gate(self, *before: Middleware, **options: Any) -> tuple[MemoryGate, MemoryTransport]:
        gate = self.limited(MemoryGate(**options), *before)
        client = gate.client()
        return gate, client

    def begin(self, request: bytes = GET, **options: Any) -> tuple[MemoryGate, MemoryTransport]:
        gate, client = self.gate(**options)
        client.receive(request)
        self.assertEqual(len(self.counts), 1)
        other = gate.client()
        other.receive(GET)
        self.assertTrue(other.take().startswith(b"HTTP/1.1 429 Too Many Requests\r\n"))
        return gate, client

    def test_answered(self) -> None:
        """The answer has been sent to its last octet."""
        gate, client = self.begin()
        gate.server.receive(OK[:-1])
        self.assertEqual(len(self.counts), 1)
        gate.server.receive(OK[-1:])
        self.assertEqual(len(self.counts), 0)
        client.take()
        client.receive(GET)
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)
        self.assertEqual(len(self.counts), 0)

    def test_pipelined(self) -> None:
        """Requests sent ahead come one after another: they take no two places."""
        gate, client = self.gate()
        client.receive(GET * 3)
        for _ in range(3):
            self.assertEqual(len(self.counts), 1)
            gate.server.receive(OK)
        self.assertEqual((client.take(), len(self.counts)), (OK * 3, 0))

    def test_client_gone(self) -> None:
        """The client breaks its connection off before the answer, or in the middle of it."""
        for answered in (b"", OK[:-1]):
            gate, client = self.begin()
            if answered:
                gate.server.receive(answered)
            client.reset()
            self.assertEqual(len(self.counts), 0)

    def test_client_gone_in_its_body(self) -> None:
        """The client leaves before it has said all."""
        _, client = self.begin(b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\nab")
        client.end()
        self.assertEqual(len(self.counts), 0)

    def test_server_gone(self) -> None:
        """The server breaks off: before the answer, which is then 502, and in the middle of it."""
        gate, client = self.begin(b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nab")
        gate.server.reset()
        self.assertTrue(client.take().startswith(b"HTTP/1.1 502 "))
        self.assertEqual(len(self.counts), 0)
        gate, client = self.begin()
        gate.server.receive(OK[:-1])
        gate.server.reset()
        self.assertEqual(client.closed, "aborted")
        client.settle()
        self.assertEqual(len(self.counts), 0)

    def test_no_server(self) -> None:
        """There is no server at all."""
        gate = self.limited(MemoryGate(servers=()))
        client = gate.client()
        client.receive(GET)
        self.assertTrue(client.take().startswith(b"HTTP/1.1 503 "))
        self.assertEqual(len(self.counts), 0)

    def test_websocket(self) -> None:
        """A websocket is under way until it is closed, by whichever side."""
        for closes in ("client", "server"):
            gate, client = self.begin(WEBSOCKET)
            gate.server.receive(SWITCHED)
            client.receive(b"ping")
            gate.server.receive(b"pong")
            self.assertEqual(len(self.counts), 1)
            if closes == "client":
                client.reset()
            else:
                gate.server.reset()
                client.settle()
            self.assertEqual(len(self.counts), 0, closes)

    def test_asked_again(self) -> None:
        """A request that is asked again counts once, and only until its last answer."""
        again = retry.build(
            structure(retry.Settings, {"attempts": "3", "status": "503"}, ""), context_of(clock := Clock())
        )
        gate, client = self.gate(again)
        client.receive(GET)
        for _ in range(2):
            gate.server.receive(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nbad")
            self.assertEqual(len(self.counts), 1)
            clock.advance(1)
            self.assertEqual(len(self.counts), 1)
        gate.server.receive(OK)
        self.assertEqual((client.take(), len(self.counts)), (OK, 0))

    def test_http2(self) -> None:
        """Streams of one connection count each, and give their places back when answered, reset, or cut off."""
        gate = self.limited(http2_gate_of(), amount=3)
        client = Http2Client(gate)
        first, second, _, fourth = (client.ask() for _ in range(4))
        client.flush()
        self.assertEqual(client.heads[fourth][b":status"], b"429")
        self.assertEqual(len(self.counts), 3)
        gate.network.servers[0].receive(OK)
        client.flush()
        self.assertEqual((client.bodies[first], len(self.counts)), (b"ok", 2))
        client.h2.reset_stream(second)
        client.flush()
        self.assertEqual(len(self.counts), 1)
        client.transport.reset()
        self.assertEqual(len(self.counts), 0)
