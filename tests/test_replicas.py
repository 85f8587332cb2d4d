"""Replicas of the gate: who they are, what they tell each other, and how it adds up."""

from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import NOT_DONE_YET
from twisted.web.test.requesthelper import DummyRequest

from swarmgate.fetch import NoAnswer
from swarmgate.observe.summary import BOUNDS, InFlight, Meter
from swarmgate.observe.traffic import Traffic
from swarmgate.observe.turns import Turns, finished
from swarmgate.providers.swarm.replicas import Replica, replicas_of
from swarmgate.replicas.document import BadDocument, Counted, Document, Place, document_of, reading, writing
from swarmgate.replicas.door import Door, TrafficResource
from swarmgate.replicas.peers import EVERY, PATIENCE, WITHIN, Peers
from swarmgate.replicas.sums import adding, rebucketed, subtracting, telling
from swarmgate.replicas.whole import Whole
from swarmgate.testing import network, node, service, snapshot, task
from tests.exchanges import exchange_of

GATE = service("gate")
SELF = Replica("task-gate-1", "gate.1", "n1", "10.0.0.1", True)
OTHER = Replica("task-gate-2", "gate.2", "n2", "10.0.0.2")
THIRD = Replica("task-gate-3", "gate.3", "n2", "10.0.0.3")
WEB: Place = ("", "web@swarm", "")


def document(requests: int, since: float = 5.0, **more: Any) -> Document:
    """What a replica tells that has had so many requests, each within the first bound."""
    one = Counted(requests, 0, 1, [requests, 0, 0])
    places = {("web", "", ""): one, WEB: one, ("", "web@swarm", "http://10.0.0.9:80"): one}
    return attrs.evolve(Document(10.0, since, 5.0, (0.1, 1.0), places), **more)


class FindTests(SynchronousTestCase):
    def world(self, *more: Any) -> Any:
        return snapshot(
            GATE,
            service("web"),
            node("n1"),
            node("n2"),
            task(GATE, 1, container="c" * 64),
            task(GATE, 2, on="n2"),
            task("web", 1, ip="10.0.0.9"),
            *more,
        )

    def test_found(self) -> None:
        """Replicas are the running tasks of the gate's own service; this one comes first."""
        starting = task(GATE, 3, state="starting")
        self.assertEqual(replicas_of(self.world(starting), "c" * 12), (SELF, OTHER))

    def test_nobody(self) -> None:
        """A gate that is in no task has no replicas: it believes nobody."""
        self.assertEqual(replicas_of(self.world(), ""), ())
        self.assertEqual(replicas_of(self.world(), "d" * 12), ())

    def test_networks(self) -> None:
        """They meet in a network that they share, and not in the mesh's own."""
        both = {"ingress": "10.255.0.2", "golf": "10.0.0.3"}
        world = snapshot(
            GATE,
            network(),
            network("ingress", ingress=True),
            task(GATE, 1, container="c" * 64, networks={"ingress": "10.255.0.1", "golf": "10.0.0.1"}),
            task(GATE, 2, networks=both),
            task(GATE, 3, networks={"ingress": "10.255.0.3"}),
        )
        self.assertEqual([one.address for one in replicas_of(world, "c" * 12)], ["10.0.0.1", "10.0.0.3", ""])


class DocumentTests(SynchronousTestCase):
    def test_both_ways(self) -> None:
        """What is sent is read again."""
        body = finished(writing(document(7)))
        self.assertEqual(finished(reading(body)), document(7))

    def test_strict(self) -> None:
        """Only what is exactly as it should be is taken."""
        head = [1.0, 2.0, 3.0, [0.1, 1.0]]
        line = ["", "web@swarm", "", 1, 0, 0, [[0, 1]]]
        good = "\n".join(map(json.dumps, (head, line))).encode()
        self.assertEqual(finished(reading(good)).places[WEB].counts, [1, 0, 0])
        for wrong in (
            *([*head[:3], bounds] for bounds in ([], [1.0, 0.1], [1.0, 1.0], "ab", [float("nan")], [1.0] * 999)),
            *([value, *head[1:]] for value in (None, "1", True, -1.0, float("inf"))),
            head[:3],
            {},
        ):
            with self.assertRaises(BadDocument, msg=str(wrong)):
                finished(reading("\n".join(map(json.dumps, (wrong, line))).encode()))
        for at, value in (
            (0, "both"), (0, 1), (1, ""), (1, None), (3, -1), (3, 1.5), (3, True), (4, "1"), (5, 2**60),
            (6, [[3, 1]]), (6, [[-1, 1]]), (6, [[0, -1]]), (6, [[0]]), (6, 1),
        ):  # fmt: skip
            wrong = [*line[:at], value, *line[at + 1 :]]
            with self.assertRaises(BadDocument, msg=str(wrong)):
                finished(reading("\n".join(map(json.dumps, (head, wrong))).encode()))
        for body in (b"", b"\xff", b"[" * 100_000, good + b"\n"):
            with self.assertRaises(BadDocument):
                finished(reading(body))

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.binary(max_size=200))
    def test_anything(self, body: bytes) -> None:
        """Whatever is answered is a document or a BadDocument."""
        for one in (body, b"[1,2,3,[1]]\n" + body):
            try:
                finished(reading(one))
            except BadDocument:
                continue


class SumTests(SynchronousTestCase):
    def told(self, *documents: Document, **more: Any) -> Any:
        bounds = documents[0].bounds
        return finished(telling(finished(adding(documents, bounds)), bounds, **more))

    def test_added(self) -> None:
        """Requests add up, and histograms bucket by bucket; quantiles are of all."""
        slow = Counted(10, 4, 2, [0, 10, 0])
        told = self.told(document(10), attrs.evolve(document(0), places={WEB: slow}), with_counts=True)
        web = told["services"]["web@swarm"]
        self.assertEqual((web["requests"], web["errors"], web["inFlight"]), (20, 4, 3))
        self.assertEqual((web["counts"], web["p50"], web["p95"]), ([10, 10, 0], 0.1, 0.91))
        self.assertEqual(told["entryPoints"]["web"]["requests"], 10)
        self.assertEqual(told["servers"]["web@swarm"]["http://10.0.0.9:80"]["requests"], 10)

    def test_most(self) -> None:
        """Of too many services those with errors come first, then those with most requests."""
        places = {("", f"s{number}", ""): Counted(number, 0, 0, [number, 0, 0]) for number in range(1, 6)}
        places["", "s1", ""] = Counted(1, 1, 0, [1, 0, 0])
        told = self.told(attrs.evolve(document(0), places=places), most=2)
        self.assertEqual((list(told["services"]), told["others"]), (["s1", "s5"], 3))

    def test_other_buckets(self) -> None:
        """Whoever counts by other bounds, as during an update, adds up all the same: no request is lost."""
        self.assertEqual(rebucketed([1, 2, 4], (0.1, 1.0), (0.1, 0.5, 2.0)), [1, 0, 2, 4])
        self.assertEqual(sum(rebucketed([1, 2, 4, 8], (0.1, 0.5, 2.0), (0.3,))), 15)

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3), min_size=1, max_size=5))
    def test_counts(self, many: list[list[int]]) -> None:
        """The sum has the requests of each bucket of all."""
        documents = [attrs.evolve(document(0), places={WEB: Counted(sum(counts), 0, 0, counts)}) for counts in many]
        total = finished(adding(documents, (0.1, 1.0)))[WEB]
        self.assertEqual(list(total.counts), [sum(column) for column in zip(*many, strict=True)])
        self.assertEqual(total.requests, sum(map(sum, many)))

    def test_subtracted(self) -> None:
        """What has come between two documents; of a replica that has begun anew it is all, and none is below zero."""
        self.assertEqual(finished(subtracting(document(9), document(4))).places[WEB], Counted(5, 0, 1, [5, 0, 0]))
        self.assertEqual(finished(subtracting(document(3, since=9.0), document(4))).places[WEB].requests, 3)
        self.assertEqual(finished(subtracting(document(3), document(4))).places[WEB].requests, 0)
        new = attrs.evolve(document(4), places={})
        self.assertEqual(finished(subtracting(document(9), new)).places[WEB].requests, 9)


class PeerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        self.replicas: tuple[Replica, ...] = (SELF, OTHER, THIRD)
        self.asked: list[tuple[str, Deferred[bytes]]] = []
        self.turns = Turns(self.clock)
        self.peers = Peers(
            self.clock, self.fetch, lambda: self.replicas, 9182, lambda: 1e9 + self.clock.seconds(), self.turns
        )

    def fetch(self, url: str, *, seconds: float, longest: int) -> Deferred[bytes]:
        self.assertEqual(seconds, WITHIN)
        answer: Deferred[bytes] = Deferred()
        self.asked.append((url, answer))
        return answer

    def answer(self, *requests: int | str) -> None:
        """Let those who were asked answer with so many requests, or fail for a reason."""
        asked, self.asked = self.asked, []
        for (_, answer), one in zip(asked, requests, strict=True):
            if isinstance(one, str):
                answer.errback(NoAnswer(one))
            else:
                answer.callback(finished(writing(document(one))))
        self.clock.pump([0.005] * 4)


class PeerTests(PeerCase):
    def test_asked(self) -> None:
        """The others are asked at their addresses, all at once; when they have answered it is known what they tell."""
        asking = self.peers.ask()
        self.assertEqual([url for url, _ in self.asked], [f"http://10.0.0.{number}:9182/traffic" for number in (2, 3)])
        self.assertNoResult(asking)
        self.answer(7, 8)
        self.successResultOf(asking)
        told = self.peers.told()
        self.assertEqual([one.places[WEB].requests for one in told.documents.values()], [7, 8])
        self.assertEqual(told.silent, ())

    def test_once_a_second(self) -> None:
        """However many want to know, each replica is asked once a second at most."""
        asking = [self.peers.ask() for _ in range(5)]
        self.assertEqual(len(self.asked), 2)
        self.answer(7, 8)
        for one in asking:
            self.successResultOf(one)
        self.successResultOf(self.peers.ask())
        self.assertEqual(self.asked, [])
        self.clock.advance(EVERY)
        self.peers.ask()
        self.assertEqual(len(self.asked), 2)

    def test_slow(self) -> None:
        """A slow replica holds nobody up for longer than a moment, and the next time not at all; it is named."""
        asking = self.peers.ask()
        (_, first), (_, slow) = self.asked
        first.callback(finished(writing(document(7))))
        self.assertNoResult(asking)
        self.clock.advance(PATIENCE)
        self.successResultOf(asking)
        self.assertEqual(self.peers.told().silent, ("gate.3",))
        slow.errback(NoAnswer("no answer within 0.8 s"))
        self.asked = []
        self.clock.advance(EVERY)
        asking = self.peers.ask()
        self.assertEqual(len(self.asked), 2)
        self.asked[0][1].callback(finished(writing(document(9))))
        self.clock.pump([0.005] * 4)
        self.successResultOf(asking)

    def test_never_twice(self) -> None:
        """Who has not answered yet is not asked again meanwhile."""
        self.peers.ask()
        self.clock.advance(EVERY)
        self.peers.ask()
        self.assertEqual(len(self.asked), 2)

    def test_silent(self) -> None:
        """What a silent replica has told before counts on, but for what it was answering; it says why."""
        self.peers.ask()
        self.answer(7, 8)
        self.clock.advance(EVERY)
        self.peers.ask()
        self.answer("connection refused", 9)
        told = self.peers.told()
        self.assertEqual(told.silent, ("gate.2",))
        self.assertEqual(told.documents[OTHER.task].places[WEB], Counted(7, 0, 0, [7, 0, 0]))
        own, other, third = self.peers.listed()
        self.assertEqual((own["self"], own["answered"], own["error"]), (True, True, None))
        self.assertEqual((other["task"], other["answered"], other["error"]), ("gate.2", False, "connection refused"))
        self.assertLess(other["at"], third["at"])
        self.assertEqual((self.peers.answers, self.peers.silences), (3, 1))

    def test_nonsense(self) -> None:
        """A replica that answers with nonsense costs nothing but its own numbers."""
        self.peers.ask()
        asked, self.asked = self.asked, []
        asked[0][1].callback(b"nonsense")
        asked[1][1].callback(finished(writing(document(8))))
        self.clock.pump([0.005] * 4)
        told = self.peers.told()
        self.assertEqual((list(told.documents), told.silent), ([THIRD.task], ("gate.2",)))

    def test_gone(self) -> None:
        """What a replica has told that is gone is forgotten; one that has no address says so, unasked."""
        self.peers.ask()
        self.answer(7, 8)
        self.replicas = (SELF, attrs.evolve(THIRD, address=""))
        self.clock.advance(EVERY)
        self.successResultOf(self.peers.ask())
        self.assertEqual(self.asked, [])
        self.assertEqual(list(self.peers.told().documents), [THIRD.task])
        self.assertIn("no network", self.peers.listed()[1]["error"])

    def test_alone(self) -> None:
        """Without others nobody is asked, and nothing waits."""
        self.replicas = (SELF,)
        self.successResultOf(self.peers.ask())
        self.assertFalse(self.clock.getDelayedCalls())

    def test_stopped(self) -> None:
        """A gate that stops waits for nobody."""
        asking = self.peers.ask()
        for _, answer in self.asked:
            answer._canceller = lambda one: one.errback(NoAnswer("nobody waits"))
        self.peers.stop()
        self.successResultOf(asking)
        self.assertFalse(self.clock.getDelayedCalls())


class WholeTests(PeerCase):
    def setUp(self) -> None:
        super().setUp()
        self.traffic = Traffic(BOUNDS, now=self.clock.seconds)
        self.meter = Meter(self.traffic, InFlight, lambda: 1e9 + self.clock.seconds(), self.clock.seconds, self.turns)
        self.whole = Whole(self.meter, self.peers, self.clock.seconds, self.turns)
        self.alone = Whole(self.meter, None, self.clock.seconds, self.turns, is_only=False)

    def ended(self, count: int) -> None:
        for _ in range(count):
            exchange = exchange_of()
            exchange.entry_point, exchange.service, exchange.server = "web", "web@swarm", "http://10.0.0.9:80"
            exchange.status, exchange.started = 200, self.clock.seconds() - 0.05
            self.traffic.record(exchange)

    def now(self, asking: Deferred[bytes], *answers: int | str) -> Any:
        """What it says when the others have answered."""
        self.answer(*answers)
        self.clock.pump([0.005] * 10)
        return json.loads(self.successResultOf(asking))

    def requests(self, told: Any) -> int:
        return int(told["services"].get("web@swarm", {"requests": 0})["requests"])

    def test_altogether(self) -> None:
        """The whole gate's requests are those of all replicas; this one's can be had alone."""
        self.ended(3)
        told = self.now(self.whole.altogether(), 7, "gone")
        self.assertEqual((self.requests(told), told["replicas"], told["silent"]), (10, 2, ["gate.3"]))
        self.assertEqual(told["servers"]["web@swarm"]["http://10.0.0.9:80"]["requests"], 10)
        self.assertEqual(sum(told["services"]["web@swarm"]["counts"]), 10)
        self.assertEqual(self.requests(self.whole.told), 10)
        alone = self.now(self.alone.altogether())
        self.assertEqual((self.requests(alone), alone["replicas"], alone["silent"]), (3, 1, []))

    def test_once(self) -> None:
        """It is summed up once for all who ask within a second."""
        first, second = self.whole.altogether(), self.whole.altogether()
        self.assertEqual(self.now(first, 7, 8), json.loads(self.successResultOf(second)))
        self.ended(5)
        self.assertEqual(self.requests(json.loads(self.successResultOf(self.whole.altogether()))), 15)

    def test_lately(self) -> None:
        """Each second has what ended in it, in all replicas."""
        self.ended(3)
        self.whole.begin()
        self.answer(7, 8)
        self.clock.pump([0.005] * 10)
        self.clock.advance(EVERY)
        self.ended(2)
        told = self.now(self.whole.lately(), 8, 12)
        self.assertEqual((self.requests(told), told["replicas"], told["silent"]), (7, 3, []))
        self.clock.advance(EVERY)
        told = self.now(self.whole.lately(), 8, "gone")
        self.assertEqual((self.requests(told), told["silent"]), (0, ["gate.3"]))
        self.clock.advance(EVERY)
        self.assertEqual(self.requests(self.now(self.whole.lately(), 8, 13)), 1)

    def test_others_come_and_go(self) -> None:
        """A replica that has just come adds what comes from then on; without others nothing is told twice."""
        self.replicas = (SELF,)
        self.whole.begin()
        self.clock.advance(EVERY)
        self.ended(2)
        self.assertEqual(self.requests(self.now(self.whole.lately())), 2)
        self.replicas = (SELF, OTHER)
        self.clock.advance(EVERY)
        self.now(self.whole.lately(), 100)
        self.clock.advance(EVERY)
        self.ended(1)
        self.assertEqual(self.requests(self.now(self.whole.lately(), 104)), 5)
        self.replicas = (SELF,)
        self.clock.advance(EVERY)
        self.now(self.whole.lately())
        self.clock.advance(EVERY)
        self.ended(6)
        self.assertEqual(self.requests(self.now(self.whole.lately())), 6)

    def test_both_at_once(self) -> None:
        """Who views this replica alone takes nothing from those who view all."""
        self.replicas = (SELF,)
        self.whole.begin()
        self.alone.begin()
        self.clock.pump([0.005] * 10)
        self.ended(4)
        self.assertEqual(self.requests(self.now(self.alone.lately())), 4)
        self.assertEqual(self.requests(self.now(self.whole.lately())), 4)

    def test_for_others(self) -> None:
        """Others are told of this replica alone."""
        self.ended(3)
        asking = self.alone.for_others()
        self.clock.pump([0.005] * 10)
        told = finished(reading(self.successResultOf(asking)))
        self.assertEqual(told.places[WEB].requests, 3)
        self.assertEqual(told, finished(document_of(self.meter.told)))

    def test_takes_long(self) -> None:
        """Where it takes long to write what others are told, they get what was written last, at once."""
        self.ended(3)
        first = self.alone.for_others()
        self.clock.advance(2.0)
        self.clock.pump([0.005] * 10)
        body = self.successResultOf(first)
        self.ended(4)
        self.clock.advance(EVERY)
        self.assertEqual(self.successResultOf(self.alone.for_others()), body)
        self.clock.pump([0.005] * 10)
        told = finished(reading(self.successResultOf(self.alone.for_others())))
        self.assertEqual(told.places[WEB].requests, 7)
        self.clock.advance(60)
        self.clock.pump([0.005] * 10)
        self.assertNoResult(self.alone.for_others())


class DoorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.replicas: tuple[Replica, ...] = (SELF,)
        self.door = Door(self.reactor, lambda: self.replicas, lambda: succeed(b"told"), 9182)

    def listening(self) -> list[tuple[int, str]]:
        return [(port, interface) for port, _, _, interface in self.reactor.tcpServers]

    def test_closed(self) -> None:
        """Without other replicas, or outside of a Swarm, nothing listens."""
        self.door.start()
        self.replicas = ()
        self.reactor.advance(1)
        self.replicas = (attrs.evolve(SELF, address=""), OTHER)
        self.reactor.advance(1)
        self.assertEqual(self.listening(), [])

    def test_open(self) -> None:
        """It listens at the task's own address in the network that they share, and at no other."""
        self.door.start()
        self.replicas = (SELF, OTHER)
        self.reactor.advance(1)
        self.reactor.advance(1)
        self.assertEqual(self.listening(), [(9182, "10.0.0.1")])
        self.door.stop()

    def test_who(self) -> None:
        """Only a connection from a running replica's address is let in; the others are counted."""
        self.door.start()
        self.replicas = (SELF, OTHER)
        self.reactor.advance(1)
        site = self.reactor.tcpServers[0][1]

        def admits(address: str) -> bool:
            return site.buildProtocol(IPv4Address("TCP", address, 4711)) is not None

        self.assertTrue(admits("10.0.0.2"))
        for stranger in ("10.0.0.1", "10.0.0.3", "10.0.0.20", "127.0.0.1", ""):
            self.assertFalse(admits(stranger), stranger)
        self.replicas = (SELF, THIRD)
        self.assertFalse(admits("10.0.0.2"))
        self.assertTrue(admits("10.0.0.3"))
        self.assertEqual(self.door.refused, 6)

    def test_taken(self) -> None:
        """A port that another process still has is tried again."""
        listen = self.reactor.listenTCP

        def taken(*given: Any, **more: Any) -> Any:
            raise OSError("Address already in use")

        self.reactor.listenTCP = taken
        self.door.start()
        self.replicas = (SELF, OTHER)
        self.reactor.advance(1)
        self.reactor.listenTCP = listen
        self.reactor.advance(1)
        self.assertEqual(self.listening(), [(9182, "10.0.0.1")])

    def test_answers(self) -> None:
        """There is traffic to be had, and nothing else."""
        for path, method, status in ((b"/traffic", b"GET", None), (b"/", b"GET", 404), (b"/traffic", b"POST", 404)):
            request: Any = DummyRequest([])
            request.path, request.method = path, method
            answer = TrafficResource(lambda: succeed(b"told")).render(request)
            self.assertEqual(request.responseCode, status)
            self.assertEqual(b"".join(request.written) if answer is NOT_DONE_YET else b"", b"" if status else b"told")
