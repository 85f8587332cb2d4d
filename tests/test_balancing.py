"""Which server is asked next: in turns, by load, by time, by client and by cookie; and who is left out."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.balancing.member import Member
from swarmgate.balancing.sticky import Stickiness, cookie_name, value_of
from swarmgate.balancing.strategies import STRATEGIES, PowerOfTwoChoices, Rotation
from swarmgate.dynamic.cookie import StickyCookie
from swarmgate.dynamic.model import Balancing, PassiveHealthCheck, Server
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.upstream import Upstream, UpstreamSettings
from tests.exchanges import exchange_of
from tests.memory_network import GET, OK, MemoryGate, MemoryNetwork

ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
THREE = tuple(f"http://10.0.0.{number}:80" for number in (1, 2, 3))


def answer_all(gate: MemoryGate, answer: bytes) -> None:
    """Every server that was asked something answers."""
    for server in gate.network.servers:
        if server.take():
            server.receive(answer)


class World:
    """Members of one service, and time."""

    def __init__(self, *weights: int) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.chance = 0.5
        network = MemoryNetwork()
        self.members = []
        for number, weight in enumerate(weights, 1):
            server = Server(f"http://10.0.0.{number}:80", weight, f"app.{number}")
            upstream = Upstream(server.url, network, self.deadlines, UpstreamSettings())
            self.members.append(Member(server, upstream, lambda: self.chance))

    def choices(self, strategy: str, count: int, peer: str = "192.0.2.7", tried: tuple[str, ...] = ()) -> list[int]:
        """Whom a strategy chooses, by number; 0 for nobody."""
        chosen = STRATEGIES[strategy](self.members, Rotation())
        exchange = exchange_of(peer=peer)
        return [self.number(chosen.choose(exchange, tried)) for _ in range(count)]

    def number(self, member: Member | None) -> int:
        return 0 if member is None else self.members.index(member) + 1

    def at(self, seconds: float) -> None:
        self.deadlines.now = seconds


class StrategyTests(SynchronousTestCase):
    def test_round_robin(self) -> None:
        """In turns, in proportion to the weights; who has none is never asked, nor who was tried or is out."""
        world = World(2, 1, 0)
        self.assertEqual(world.choices("wrr", 6), [1, 2, 1, 1, 2, 1])
        self.assertEqual(world.choices("wrr", 2, tried=(world.members[0].server.url,)), [2, 2])
        world.members[0].upstream.failures = 1
        world.members[0].upstream._out_until = 9.0
        self.assertEqual(world.choices("wrr", 3), [2, 2, 2])
        world.members[1].judge(False)
        for strategy in STRATEGIES:
            self.assertEqual(world.choices(strategy, 1), [0], strategy)
        self.assertEqual(World().choices("wrr", 1), [0])

    def test_least_connections(self) -> None:
        """Who has the least under way for its weight, in turns among equals."""
        world = World(1, 1, 2)
        self.assertEqual(world.choices("leastconn", 2), [3, 3])
        world.members[2].upstream.in_flight = 3
        self.assertEqual(world.choices("leastconn", 4), [1, 2, 1, 2])

    def test_least_time(self) -> None:
        """Who is unknown is asked first, then who begins to answer soonest for what it has under way."""
        world = World(1, 1)
        slow, quick = world.members
        slow.answered(0.2)
        self.assertEqual(world.choices("leasttime", 1), [2])
        quick.answered(0.1)
        self.assertEqual(world.choices("leasttime", 1), [2])
        quick.upstream.in_flight = 2
        self.assertEqual(world.choices("leasttime", 1), [1])

    def test_average_of_the_last_answers(self) -> None:
        """A slow time is forgotten after a hundred answers."""
        member = World(1).members[0]
        member.answered(100.0)
        for _ in range(99):
            member.answered(1.0)
        self.assertAlmostEqual(member.seconds, 1.99)
        member.answered(1.0)
        self.assertAlmostEqual(member.seconds, 1.0)

    def test_two_choices(self) -> None:
        """Of two that are drawn, never the same twice, the one with less under way."""
        world = World(1, 1, 1)
        world.members[0].upstream.in_flight = 1
        for first, second, expected in ((0, 0, 2), (1, 0, 2), (0, 1, 3), (2, 0, 3), (1, 1, 2)):
            draws = iter((first, second))
            strategy = PowerOfTwoChoices(world.members, Rotation(), lambda below, draws=draws: next(draws))
            self.assertEqual(world.number(strategy.choose(exchange_of())), expected, (first, second))
        self.assertEqual(set(World(1, 1, 1).choices("p2c", 200)), {1, 2, 3})
        self.assertEqual(World(0, 1).choices("p2c", 2), [2, 2])

    def test_by_address(self) -> None:
        """A client has always the same server; when one goes only its clients move; shares follow the weights."""
        world = World(1, 1, 2)
        peers = [f"192.0.2.{number}" for number in range(200)]
        before = {peer: world.choices("hrw", 1, peer)[0] for peer in peers}
        counts = Counter(before.values())
        self.assertEqual(set(counts), {1, 2, 3})
        self.assertGreater(counts[3], counts[1])
        self.assertGreater(counts[3], counts[2])
        world.members[1].judge(False)
        after = {peer: world.choices("hrw", 1, peer)[0] for peer in peers}
        self.assertEqual({peer for peer in peers if before[peer] != after[peer]},
                         {peer for peer in peers if before[peer] == 2})  # fmt: skip

    @given(st.lists(st.integers(-1, 5), max_size=6), st.sets(st.integers(0, 5)), st.sampled_from(sorted(STRATEGIES)))
    def test_nobody_wrong(self, weights: list[int], out: set[int], strategy: str) -> None:
        """Whoever is chosen may be asked, and somebody is chosen as long as anybody may be."""
        world = World(*weights)
        for place, member in enumerate(world.members):
            if place in out:
                member.judge(False)
        able = {place + 1 for place, weight in enumerate(weights) if weight > 0 and place not in out}
        chosen = set(world.choices(strategy, 20))
        self.assertLessEqual(chosen, able or {0})


class MemberTests(SynchronousTestCase):
    def test_slow_start(self) -> None:
        """A new server's share grows from nothing to all of it in the time that is set."""
        world = World(1)
        (member,) = world.members
        member.start_slowly(10.0)
        for now, chance, admitted in ((1.0, 0.85, False), (1.0, 0.95, True), (9.0, 0.05, False), (9.0, 0.15, True)):
            world.at(now)
            world.chance = chance
            self.assertEqual(member.admits(), admitted, (now, chance))
        world.chance = 0.0
        world.at(10.0)
        self.assertTrue(member.admits())
        self.assertFalse(member.restricted)

    def test_passive_check(self) -> None:
        """So many failures in a row cost a server its place for a while; a good answer starts the count anew."""
        world = World(1)
        (member,) = world.members
        check = PassiveHealthCheck(10.0, 2)
        for well in (False, True, False):
            member.did(well, check)
        self.assertFalse(member.restricted)
        member.did(False, check)
        self.assertFalse(member.admits())
        world.at(9.9)
        self.assertFalse(member.admits())
        world.at(10.0)
        self.assertTrue(member.admits())


class StickyTests(SynchronousTestCase):
    def ask(self, gate: MemoryGate, cookie: bytes = b"") -> tuple[str, bytes]:
        """Who answers a request with *cookie*, and the cookie that comes with the answer."""
        client = gate.client()
        client.receive(GET.replace(b"\r\n\r\n", b"\r\nCookie: %b\r\n\r\n" % cookie) if cookie else GET)
        gate.server.receive(OK)
        head = client.take().decode()
        cookies = [line[12:] for line in head.split("\r\n") if line.startswith("Set-Cookie: ")]
        self.assertLess(len(cookies), 2)
        return gate.finished_exchanges[-1].server, cookies[0].encode() if cookies else b""

    def test_comes_back(self) -> None:
        """A client that brings its cookie has the server that it had, and is given the cookie once."""
        gate = MemoryGate(THREE, balancing=Balancing(sticky=StickyCookie("s", path="/")))
        server, cookie = self.ask(gate)
        self.assertTrue(cookie.startswith(b"s="))
        for _ in range(4):
            self.assertEqual(self.ask(gate, b"a=b; " + cookie.partition(b";")[0] + b"; c=d"), (server, b""))

    def test_moves_on(self) -> None:
        """When its server can't be asked a client gets another, and that one's cookie; so does one with nonsense."""
        gate = MemoryGate(THREE, balancing=Balancing(sticky=StickyCookie("s")))
        server, cookie = self.ask(gate)
        next(one for one in gate.leaf.members if one.server.url == server).judge(False)
        other, another = self.ask(gate, cookie.partition(b";")[0])
        self.assertNotEqual(other, server)
        self.assertEqual(self.ask(gate, another.partition(b";")[0]), (other, b""))
        self.assertTrue(self.ask(gate, b"s=nonsense")[1].startswith(b"s="))

    def test_slot(self) -> None:
        """The cookie means the slot of a task: after a roll the client comes to the task in the same slot."""
        old, new = Server("http://10.0.0.1:80", task="app.2"), Server("http://10.0.0.9:80", task="app.2")
        self.assertEqual(value_of(old), value_of(new))
        self.assertNotEqual(value_of(old), value_of(Server("http://10.0.0.1:80", task="app.1")))

    def test_traefiks_cookies(self) -> None:
        """The cookies that Traefik has set lead where they led, and are then replaced."""
        world = World(1, 1)
        stickiness = Stickiness("app@swarm", StickyCookie("s"), world.members)
        member = world.members[1]
        # SHA-256, FNV-1 and FNV-1a of its URL.
        for value in (b"e0c6f0ca44f87f06", b"4c6738eb2f66e70e", b"99973b1dcba43988"):
            fields = [(b"cookie", b"s=" + value)]
            self.assertIs(stickiness.member(fields), member, value)
            self.assertFalse(stickiness.leads_to(member, fields))
        self.assertIsNone(stickiness.member([(b"Cookie", b"s=4eee3b9a3d06e8e0")]))

    def test_name_and_attributes(self) -> None:
        """A cookie without a name has the one that Traefik gives it; its attributes are as configured."""
        self.assertRegex(cookie_name("app@swarm"), "^_[0-9a-f]{5}$")
        self.assertNotEqual(cookie_name("app@swarm"), cookie_name("app@file"))
        world = World(1)
        cases: tuple[tuple[StickyCookie, bytes], ...] = (
            (StickyCookie("s"), b"; Path=/"),
            (
                StickyCookie("s", True, True, "strict", 60, "/a", "a.example"),
                b"; Path=/a; Domain=a.example; Max-Age=60; HttpOnly; Secure; SameSite=Strict",
            ),
            (StickyCookie("s", max_age=-1), b"; Path=/; Max-Age=0"),
        )
        for cookie, attributes in cases:
            fields: Any = []
            Stickiness("app@swarm", cookie, world.members).set(world.members[0], fields)
            self.assertEqual(fields, [(b"Set-Cookie", b"s=" + value_of(world.members[0].server) + attributes)])


class ServiceTests(SynchronousTestCase):
    def test_passive_check(self) -> None:
        """A server that answers with errors gets nothing for a while, if that was asked for."""
        gate = MemoryGate(THREE[:2], balancing=Balancing(passive_health_check=PassiveHealthCheck(10.0, 1)))
        servers = []
        for answer in (ERROR, OK, OK, OK):
            client = gate.client()
            client.receive(GET)
            answer_all(gate, answer)
            servers.append(gate.finished_exchanges[-1].server)
        self.assertEqual(servers, [THREE[0], THREE[1], THREE[1], THREE[1]])
        gate.advance(10.25)
        for _ in range(2):
            gate.client().receive(GET)
            answer_all(gate, OK)
        self.assertEqual({e.server for e in gate.finished_exchanges[-2:]}, set(THREE[:2]))

    def test_all_unwell(self) -> None:
        """When the health check of all servers fails nobody is asked: 503, and when to come again."""
        gate = MemoryGate(THREE[:2])
        for member in gate.leaf.members:
            member.judge(False)
        client = gate.client()
        client.receive(GET)
        answer = client.take()
        self.assertTrue(answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n"))
        self.assertIn(b"\r\nRetry-After: 1\r\n", answer)
        self.assertEqual(gate.network.servers, [])

    def test_least_time_learns(self) -> None:
        """The times of real answers decide."""
        gate = MemoryGate(THREE[:2], balancing=Balancing(strategy="leasttime"))
        for _ in range(2):
            gate.client().receive(GET)
            answer_all(gate, OK)
        self.assertEqual({e.server for e in gate.finished_exchanges}, set(THREE[:2]))
        self.assertTrue(all(member.seconds > 0 for member in gate.leaf.members))
