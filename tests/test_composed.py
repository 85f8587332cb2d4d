"""Services that are made of other services: who answers, and what the others notice of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.file_format import decode_file
from swarmgate.dynamic.model import Configuration, Server, Service
from swarmgate.dynamic.table import Compiler, EntryPointFacts
from swarmgate.http.upstream import UpstreamSettings
from swarmgate.middlewares import KINDS
from swarmgate.resources import mirroring
from swarmgate.resources.composed import Handed
from swarmgate.resources.gate import Gate
from tests.memory_network import GET, OK, MemoryGate, MemoryNetwork, MemoryTransport

ROUTER = "http:\n  routers:\n    all: {rule: PathPrefix(`/`), service: all}\n  services:\n    all: "
ROUTER_WITH = "http:\n  routers:\n    all: {rule: PathPrefix(`/`), service: all, middlewares: [m]}\n"
HALVES = "weighted: {services: [{name: a@swarm}, {name: b@swarm}]}"
PUT = b"PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello"
POST = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello"


def answer(status: int, body: bytes = b"no") -> bytes:
    """An answer of a server."""
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


class ComposedTests(SynchronousTestCase):
    """A gate with services ``a``, ``b`` and ``c``, whose servers are at 10.0.0.1 and so on."""

    def setUp(self) -> None:
        self.patch(mirroring._Seen, "kept", 0)
        self.memory = MemoryGate()
        self.clock = self.memory.clock
        self.network = MemoryNetwork(self.memory.turn)
        self.gate = Gate(
            ("web",), self.network, self.clock, self.memory.deadlines, UpstreamSettings(), {"own@internal": None}
        )
        self.memory.leaf = self.gate.roots["web"]
        self.client = self.memory.client()
        self.compiler = Compiler()
        self.down: set[str] = set()

    def apply(self, text: str, **servers: str) -> None:
        """Put a file in force: the service ``all``, or a whole file, beside services with these servers, if any."""
        text = text if text.startswith("http:") else f"{ROUTER}{{{text}}}"
        addresses = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3", **servers}
        swarm = Configuration(
            services={
                name: Service(name, tuple(Server(f"http://{one}:80") for one in of.split()))
                for name, of in addresses.items()
            }
        )
        self.table = self.compiler.compile(
            {"swarm": swarm, "file": decode_file(text, "gate.yml", KINDS)}, {"web": EntryPointFacts()}
        )
        self.gate.apply(self.table)

    def judge(self, **services: bool) -> None:
        """Have health checks say of all servers whether they are well."""
        for name, is_well in services.items():
            for server in self.table.services[f"{name}@swarm"].servers:
                self.gate.judge(f"{name}@swarm", server.url, is_well)

    def asked(self) -> list[MemoryTransport]:
        """The servers that have got something since this was last asked."""
        return [server for server in self.network.servers if server.writes]

    def ask(self, request: bytes = GET, reply: bytes = OK) -> str:
        """The address of the server that answers a request, ``""`` if none does."""
        self.client.receive(request)
        found = ""
        for server in self.asked():
            if server.take():
                found = server.getPeer().host
                server.receive(reply)
        return found

    def ask_often(self, times: int, request: bytes = GET) -> Counter[str]:
        """How often each server answers."""
        counts: Counter[str] = Counter()
        for _ in range(times):
            counts[self.ask(request)] += 1
            self.client.take()
        return counts


class WeightedTests(ComposedTests):
    def test_shares(self) -> None:
        """Of ten requests nine go to the one and one to the other, which is what a canary gets."""
        self.apply(
            "weighted: {services: "
            "[{name: a@swarm, weight: 90}, {name: b@swarm, weight: 10}, {name: c@swarm, weight: 0}]}"
        )
        for _ in range(3):
            self.assertEqual(self.ask_often(10), {"10.0.0.1": 9, "10.0.0.2": 1})

    def test_turns_outlive_tables(self) -> None:
        """Whose turn it is stays from one table to the next, and what is the same is not made anew."""
        self.apply("weighted: {services: [{name: a@swarm}, {name: b@swarm}]}", c="10.0.0.3")
        before = self.gate._leaves["all@file"]
        self.assertEqual(self.ask(), "10.0.0.1")
        self.apply(HALVES, c="10.0.0.3 10.0.0.4")
        self.assertIs(self.gate._leaves["all@file"].leaf, before.leaf)
        self.apply(HALVES, b="10.0.0.2 10.0.0.4")
        self.assertIsNot(self.gate._leaves["all@file"].leaf, before.leaf)
        self.assertNotEqual(self.ask(), "10.0.0.1")
        self.assertEqual(self.ask(), "10.0.0.1")

    def test_told_of_as_the_child(self) -> None:
        """The access log and metrics tell which child has answered."""
        self.apply(HALVES)
        self.ask_often(2)
        self.assertEqual(
            [(one.router, one.service) for one in self.memory.finished_exchanges],
            [("all@file", "a@swarm"), ("all@file", "b@swarm")],
        )

    def test_child_without_servers(self) -> None:
        """A child that has no server, or none that is well, gets nothing, and the others share what it would get."""
        self.apply("weighted: {services: [{name: a@swarm, weight: 8}, {name: b@swarm}, {name: c@swarm}]}", a="")
        self.assertEqual(self.ask_often(10), {"10.0.0.2": 5, "10.0.0.3": 5})
        self.judge(b=False)
        self.assertEqual(self.ask_often(4), {"10.0.0.3": 4})
        self.judge(b=True)
        self.assertEqual(self.ask_often(4), {"10.0.0.2": 2, "10.0.0.3": 2})

    def test_slow_start(self) -> None:
        """A child whose servers all start slowly is up."""
        self.apply(HALVES, a="")
        (member,) = self.gate._leaves["b@swarm"].leaf.members  # type: ignore[attr-defined]
        member.start_slowly(60)
        self.assertTrue(member.restricted)
        self.assertEqual(self.ask(), "10.0.0.2")

    def test_nobody_is_up(self) -> None:
        """With no child that could answer the answer is that for a service without servers; and they may come back."""
        self.apply(HALVES, a="", b="")
        self.assertEqual(self.ask(), "")
        self.assertTrue(self.client.take().endswith(b"\r\n\r\nno available server\n"))
        self.apply(HALVES)
        self.assertEqual(self.ask_often(2), {"10.0.0.1": 1, "10.0.0.2": 1})

    def test_waits(self) -> None:
        """While a child's servers change, a request that nobody else can answer waits for them."""
        self.apply(HALVES, b="")
        self.apply(HALVES, a="", b="")
        self.assertEqual(self.ask(), "")
        self.assertEqual(self.client.take(), b"")
        self.apply(HALVES, a="10.0.0.9", b="")
        (server,) = self.asked()
        server.receive(OK)
        self.assertEqual((server.getPeer().host, self.client.take()), ("10.0.0.9", OK))

    def test_unreachable(self) -> None:
        """A child whose servers refuse costs no request: another child gets it, with its body."""
        self.apply(HALVES)
        self.network.accepts = False
        self.client.receive(POST)
        self.assertEqual([one[0] for one in self.network.connecting], ["10.0.0.1"])
        self.network.refuse()
        self.assertEqual([one[0] for one in self.network.connecting], ["10.0.0.2"])
        server = self.network.accept()
        self.assertTrue(server.take().endswith(b"\r\n\r\nhello"))
        server.receive(OK)
        self.assertEqual(self.client.take(), OK)
        (exchange,) = self.memory.finished_exchanges
        self.assertEqual((exchange.service, exchange.retries), ("b@swarm", 1))

    def test_many_unreachable(self) -> None:
        """However many servers of one child were tried, of another one as many are."""
        self.apply(HALVES, a="10.0.1.1 10.0.1.2", b="10.0.2.1 10.0.2.2")
        self.network.accepts = False
        self.client.receive(GET)
        hosts = []
        for _ in range(4):
            hosts.append(self.network.connecting[0][0])
            self.network.refuse()
        self.assertEqual(sorted(hosts), ["10.0.1.1", "10.0.1.2", "10.0.2.1", "10.0.2.2"])
        self.assertIn(b"502 Bad Gateway", self.client.take())

    def test_all_unreachable(self) -> None:
        """When nobody can be reached each child is asked once, and the answer is the gate's."""
        self.apply(HALVES)
        self.network.accepts = False
        self.client.receive(GET)
        self.network.refuse()
        self.network.refuse()
        self.assertEqual(self.network.connecting, [])
        self.assertIn(b"502 Bad Gateway", self.client.take())

    def test_host(self) -> None:
        """A child that gets its own address as Host leaves the next one the client's."""
        text = (
            ROUTER + "{weighted: {services: [{name: x}, {name: b@swarm}]}}\n"
            "    x: {loadBalancer: {passHostHeader: false, servers: [{url: 'http://10.0.0.7'}]}}\n"
        )
        self.apply(text)
        self.network.accepts = False
        self.client.receive(GET)
        self.network.refuse()
        self.assertIn(b"\r\nHost: a.example\r\n", self.network.accept().take())

    def test_sticky(self) -> None:
        """A client comes back to the child that it had, also when that gets no new ones; not when it is down."""
        sticky = "weighted: {sticky: {cookie: {name: c}}, services: [{name: a@swarm, weight: %d}, {name: b@swarm}]}"
        self.apply(sticky % 1)
        cookies = []
        for _ in range(2):
            self.client.receive(GET)
            for server in self.asked():
                server.take()
                server.receive(OK)
            head = self.client.take()
            cookies.append(head.partition(b"Set-Cookie: ")[2].partition(b";")[0])
        self.assertEqual(len(set(cookies)), 2, cookies)
        back = GET[:-2] + b"Cookie: %b\r\n\r\n" % cookies[0]
        self.assertEqual(self.ask_often(3, back), {"10.0.0.1": 3})
        self.ask(back)
        self.assertNotIn(b"Set-Cookie", self.client.take())
        self.apply(sticky % 0)
        self.assertEqual(self.ask_often(3, back), {"10.0.0.1": 3})
        self.assertEqual(self.ask_often(3), {"10.0.0.2": 3})
        self.judge(a=False)
        self.assertEqual(self.ask(back), "10.0.0.2")
        self.assertIn(b"Set-Cookie: " + cookies[1], self.client.take())

    def test_sticky_below_sticky(self) -> None:
        """A child has a cookie of its own, for its servers."""
        text = (
            ROUTER + "{weighted: {sticky: {cookie: {name: outer}}, services: [{name: x}, {name: b@swarm}]}}\n"
            "    x: {loadBalancer: {sticky: {cookie: {name: inner}}, "
            "servers: [{url: 'http://10.0.0.7'}, {url: 'http://10.0.0.8'}]}}\n"
        )
        self.apply(text)
        self.ask()
        cookies = [line for line in self.client.take().split(b"\r\n") if line.startswith(b"Set-Cookie: ")]
        self.assertEqual([one[12:18] for one in cookies], [b"inner=", b"outer="])

    def test_nested(self) -> None:
        """Services that are made of others can be children too, and are down when theirs are."""
        text = f"{ROUTER}{{weighted: {{services: [{{name: ab}}, {{name: c@swarm}}]}}}}\n    ab: {{{HALVES}}}\n"
        self.apply(text)
        self.assertEqual(self.ask_often(8), {"10.0.0.1": 2, "10.0.0.2": 2, "10.0.0.3": 4})
        self.judge(a=False, b=False)
        self.assertEqual(self.ask_often(4), {"10.0.0.3": 4})

    def test_nested_unreachable(self) -> None:
        """When none of an inner service's children can be reached, the outer one asks another."""
        text = f"{ROUTER}{{weighted: {{services: [{{name: ab}}, {{name: c@swarm}}]}}}}\n    ab: {{{HALVES}}}\n"
        self.apply(text)
        self.network.accepts = False
        self.client.receive(GET)
        hosts = []
        for _ in range(2):
            hosts.append(self.network.connecting[0][0])
            self.network.refuse()
        self.assertEqual(sorted(hosts), ["10.0.0.1", "10.0.0.2"])
        server = self.network.accept()
        self.assertEqual(server.getPeer().host, "10.0.0.3")

    def test_retried(self) -> None:
        """The middleware retry works over a service of several as over any other."""
        text = (
            f"{ROUTER_WITH}  middlewares: {{m: {{retry: {{attempts: 3, status: ['503']}}}}}}\n"
            f"  services:\n    all: {{{HALVES}}}\n"
        )
        self.apply(text)
        self.client.receive(PUT)
        for host in ("10.0.0.1", "10.0.0.2"):
            (server,) = self.asked()
            self.assertEqual(server.getPeer().host, host)
            self.assertTrue(server.take().endswith(b"\r\n\r\nhello"))
            server.receive(answer(503))
            self.clock.advance(0)
        (server,) = self.asked()
        # What stands behind the attempts before is let go of.
        exchange: Any = self.client.protocol._exchange
        self.assertNotIsInstance(exchange.retrying._outer, Handed)
        server.receive(OK)
        self.assertEqual(self.client.take(), OK)

    def test_pages_of_errors(self) -> None:
        """A middleware that leads to a service may lead to one that is made of others."""
        text = (
            ROUTER_WITH + "  middlewares: {m: {errors: {status: ['500'], service: pages}}}\n"
            "  services:\n    all: {weighted: {services: [{name: a@swarm}]}}\n"
            "    pages: {weighted: {services: [{name: b@swarm}]}}\n"
        )
        self.apply(text)
        self.client.receive(GET)
        self.asked()[0].take()
        self.network.servers[0].receive(answer(500))
        (server,) = self.asked()
        self.assertEqual(server.getPeer().host, "10.0.0.2")
        server.receive(answer(200, b"sorry"))
        self.assertTrue(self.client.take().endswith(b"sorry"))


class HighestRandomWeightTests(ComposedTests):
    def test_by_address(self) -> None:
        """A client has the same child each time, clients spread over all, and those of a child that is down move."""
        self.apply("highestRandomWeight: {services: [{name: a@swarm}, {name: b@swarm}, {name: c@swarm, weight: 0}]}")
        clients = [f"192.0.2.{number}" for number in range(100)]

        def served() -> dict[str, str]:
            hosts = {}
            for client in clients:
                self.client.protocol.client_ip = client
                (host,) = self.ask_often(2)
                hosts[client] = host
            return hosts

        before = served()
        self.assertEqual(set(before.values()), {"10.0.0.1", "10.0.0.2"})
        self.judge(a=False)
        self.assertEqual(set(served().values()), {"10.0.0.2"})
        self.judge(a=True)
        self.assertEqual(served(), before)


class FailoverTests(ComposedTests):
    TWO = "failover: {service: a@swarm, fallback: b@swarm}"
    ERRORS = "failover: {service: a@swarm, fallback: b@swarm, errors: {status: ['500-504']%s}}"

    def test_falls_over(self) -> None:
        """The fallback answers while the service is down, and no longer."""
        self.apply(self.TWO)
        self.assertEqual(self.ask(), "10.0.0.1")
        self.judge(a=False)
        self.assertEqual(self.ask(), "10.0.0.2")
        self.judge(a=True)
        self.assertEqual(self.ask(), "10.0.0.1")
        self.apply(self.TWO, a="")
        self.assertEqual(self.ask(), "10.0.0.2")

    def test_refused(self) -> None:
        """A service whose servers refuse costs not even the first request."""
        self.apply(self.TWO)
        self.network.accepts = False
        self.client.receive(POST)
        self.network.refuse()
        server = self.network.accept()
        self.assertEqual(server.getPeer().host, "10.0.0.2")
        self.assertTrue(server.take().endswith(b"\r\n\r\nhello"))

    def test_refused_and_failing(self) -> None:
        """What the fallback answers is final, also when the service was not reached."""
        self.apply(self.ERRORS % "")
        self.network.accepts = False
        self.client.receive(POST)
        self.network.refuse()
        server = self.network.accept()
        server.take()
        server.receive(answer(503))
        self.clock.advance(0)
        self.assertIn(b" 503 ", self.client.take())
        self.assertEqual(server.take(), b"")

    def test_both_down(self) -> None:
        """With both down the answer is Traefik's."""
        self.apply(self.TWO)
        self.judge(a=False, b=False)
        self.assertEqual(self.ask(), "")
        answered = self.client.take()
        self.assertTrue(answered.startswith(b"HTTP/1.1 503 Service Unavailable\r\n"))
        self.assertTrue(answered.endswith(b"\r\n\r\nService Unavailable\n"))
        self.assertEqual(self.memory.finished_exchanges[-1].service, "all@file")

    def test_answers_are_the_servers_own(self) -> None:
        """Without errors what a server answers is passed on, whatever it is."""
        self.apply(self.TWO)
        self.assertEqual(self.ask(reply=answer(503)), "10.0.0.1")
        self.assertIn(b" 503 ", self.client.take())

    def test_errors(self) -> None:
        """In place of certain answers the fallback is asked the same, body and all, and its answer is final."""
        self.apply(self.ERRORS % "")
        self.assertEqual(self.ask(POST, answer(404)), "10.0.0.1")
        self.assertIn(b" 404 ", self.client.take())
        for request in (
            POST,
            GET,
            POST.replace(
                b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            ),
        ):
            self.assertEqual(self.ask(request, answer(503)), "10.0.0.1")
            self.clock.advance(0)
            (server,) = self.asked()
            self.assertEqual(server.getPeer().host, "10.0.0.2")
            self.assertEqual(b"hello" in server.take(), request != GET)
            server.receive(answer(502, b"neither"))
            self.assertTrue(self.client.take().endswith(b"neither"))

    def test_broken(self) -> None:
        """A server that breaks off before it answers counts as 502."""
        self.apply(self.ERRORS % "")
        self.client.receive(POST)
        self.network.servers[0].reset()
        self.clock.advance(0)
        self.assertEqual(self.network.servers[1].getPeer().host, "10.0.0.2")

    def test_client_leaves(self) -> None:
        """Who has left is not asked for again."""
        self.apply(self.ERRORS % "")
        self.ask(reply=answer(503))
        self.client.reset()
        self.clock.advance(0)
        self.assertEqual(len(self.network.servers), 1)
        self.assertEqual(self.memory.finished_exchanges[-1].status, 499)

    def test_fallback_down(self) -> None:
        """While the fallback is down too, what the service answers is better than nothing."""
        self.apply(self.ERRORS % "")
        self.judge(b=False)
        self.assertEqual(self.ask(reply=answer(503)), "10.0.0.1")
        self.assertIn(b" 503 ", self.client.take())

    def test_too_long(self) -> None:
        """A body that is longer than may be kept is refused; one that just fits is not."""
        self.apply(self.ERRORS % ", maxRequestBodyBytes: 5")
        self.assertEqual(self.ask(POST), "10.0.0.1")
        self.assertEqual(self.client.take(), OK)
        chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello!\r\n0\r\n\r\n"
        for request in (POST.replace(b"5", b"6") + b"!", chunked):
            client = self.client = self.memory.client()
            self.assertEqual(self.ask(request), "")
            self.assertIn(b" 413 ", client.take())

    def test_down_meanwhile(self) -> None:
        """A service that goes down while the body is waited for is not asked."""
        self.apply(self.ERRORS % "")
        self.client.receive(POST[:-3])
        self.assertEqual(self.network.servers, [])
        self.judge(a=False)
        self.assertEqual(self.ask(b"llo"), "10.0.0.2")

    def test_tunnel(self) -> None:
        """WebSockets pass."""
        self.apply(self.ERRORS % "")
        self.client.receive(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        self.network.servers[0].receive(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        self.assertIn(b" 101 ", self.client.take())

    def test_within_retry(self) -> None:
        """Each attempt of the middleware retry asks the service first."""
        text = (
            ROUTER_WITH + "  middlewares: {m: {retry: {attempts: 2, status: ['503']}}}\n"
            "  services:\n    all: {%s}\n" % (self.ERRORS % "")
        )
        self.apply(text)
        self.client.receive(PUT)
        for host in ("10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.2"):
            (server,) = self.asked()
            self.assertEqual(server.getPeer().host, host)
            self.assertTrue(server.take().endswith(b"\r\n\r\nhello"))
            server.receive(answer(503))
            self.clock.advance(0)
        self.assertIn(b" 503 ", self.client.take())

    def test_part_missing(self) -> None:
        """A service that there isn't leaves its requests to the other one."""
        self.apply("failover: {service: x@swarm, fallback: b@swarm}")
        self.assertEqual(self.ask(), "10.0.0.2")
        self.apply("failover: {service: a@swarm, fallback: x@swarm}")
        self.assertEqual(self.ask(), "10.0.0.1")


class MirroringTests(ComposedTests):
    def mirrored(self, *, percent: int = 100, more: str = "") -> None:
        self.apply(f"mirroring: {{service: a@swarm, mirrors: [{{name: b@swarm, percent: {percent}}}]{more}}}")

    def copies(self) -> list[bytes]:
        """What mirrors get after the main answer."""
        self.clock.advance(0)
        return [server.take() for server in self.asked()]

    def test_copies(self) -> None:
        """A mirror gets what was asked, after the client has its answer; what it answers is thrown away."""
        self.mirrored()
        self.client.receive(POST.replace(b"/ ", b"/x?y "))
        (main,) = self.asked()
        asked = main.take()
        self.clock.advance(0)
        self.assertEqual(self.asked(), [])
        main.receive(OK)
        self.assertEqual(self.client.take(), OK)
        self.assertEqual(self.copies(), [asked])
        self.assertEqual(self.network.servers[1].getPeer().host, "10.0.0.2")
        self.network.servers[1].receive(answer(500, b"oops"))
        self.assertEqual(self.client.take(), b"")
        self.assertEqual(len(self.memory.finished_exchanges), 1)
        # Its connection can be used again.
        self.assertEqual(self.ask(), "10.0.0.1")
        self.assertEqual((len(self.copies()), len(self.network.servers)), (1, 2))
        self.assertEqual(mirroring._Seen.kept, 0)

    def test_percent(self) -> None:
        """As many requests are mirrored as are asked for, evenly spread, and none for 0."""
        for percent, expected in ((0, 0), (10, 2), (25, 5), (100, 20)):
            self.setUp()
            self.mirrored(percent=percent)
            count = 0
            for _ in range(20):
                self.ask()
                count += len(self.copies())
                for server in self.network.servers[1:]:
                    server.receive(OK)
            self.assertEqual(count, expected, percent)

    def test_spread_over_tables(self) -> None:
        """Another table begins no new count."""
        self.mirrored(percent=50)
        counts = []
        for number in range(4):
            self.apply(
                "mirroring: {service: a@swarm, mirrors: [{name: b@swarm, percent: 50}]}", a=f"10.0.0.1 10.0.1.{number}"
            )
            self.client.receive(GET)
            for server in self.asked():
                server.take()
                server.receive(OK)
            counts.append(len(self.copies()))
        self.assertEqual(counts, [1, 0, 1, 0])

    def test_without_body(self) -> None:
        """``mirrorBody: false`` keeps nothing of bodies, however long they are."""
        self.mirrored(more=", mirrorBody: false, maxBodySize: 4")
        self.ask(POST)
        (copy,) = self.copies()
        self.assertTrue(copy.startswith(b"POST / HTTP/1.1\r\n"))
        self.assertTrue(copy.endswith(b"Content-Length: 0\r\n\r\n"), copy)

    def test_streams(self) -> None:
        """A body reaches the server as it comes; the mirror gets all of it, with its length, in chunks or not."""
        self.mirrored()
        self.client.receive(POST[:-3])
        (main,) = self.asked()
        self.assertTrue(main.take().endswith(b"Content-Length: 5\r\n\r\nhe"))
        self.client.receive(b"llo")
        self.assertEqual(main.take(), b"llo")
        main.receive(OK)
        (copy,) = self.copies()
        self.assertTrue(copy.endswith(b"Content-Length: 5\r\n\r\nhello"), copy)
        self.network.servers[1].receive(OK)
        self.client.receive(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n")
        self.client.receive(b"3\r\nllo\r\n0\r\n\r\n")
        main.take()
        main.receive(OK)
        (copy,) = self.copies()
        self.assertTrue(copy.endswith(b"Content-Length: 5\r\n\r\nhello"), copy)

    def test_too_long(self) -> None:
        """What is longer than may be kept is answered, and not mirrored, whether its length was told or not."""
        self.mirrored(more=", maxBodySize: 4")
        chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        for request in (POST, chunked):
            self.assertEqual(self.ask(request), "10.0.0.1")
            self.assertEqual((self.client.take(), self.copies()), (OK, []))
        self.assertEqual(mirroring._Seen.kept, 0)

    def test_no_room(self) -> None:
        """Bodies that take all the room that there is are not mirrored, and those after them are."""
        self.patch(mirroring, "KEPT_AT_MOST", 8)
        self.mirrored()
        other = self.memory.client()
        for client in (self.client, other):
            client.receive(POST)
        mains = [(server, server.take()) for server in self.asked()]
        for server, _ in mains:
            server.receive(OK)
        self.assertEqual(len(self.copies()), 1)
        self.network.servers[-1].receive(OK)
        self.assertEqual(mirroring._Seen.kept, 0)
        self.ask(POST)
        self.assertEqual(len(self.copies()), 1)

    def test_bounded(self) -> None:
        """A mirror that does not answer gets a few copies, each for a while, and costs the client nothing."""
        self.patch(mirroring, "COPIES_AT_MOST", 2)
        self.mirrored()
        counts = []
        for _ in range(4):
            self.assertEqual(self.ask(), "10.0.0.1")
            self.assertEqual(self.client.take(), OK)
            counts.append(len(self.copies()))
        self.assertEqual(counts, [1, 1, 0, 0])
        self.memory.advance(mirroring.COPY_WITHIN + 1)
        self.assertEqual([server.closed for server in self.network.servers[1:3]], ["aborted", "aborted"])
        self.ask()
        self.assertEqual(len(self.copies()), 1)

    def test_mirror_down(self) -> None:
        """A mirror that is down, or refuses, is not waited for."""
        self.mirrored()
        self.network.accepts = False
        self.client.receive(GET)
        main = self.network.accept()
        refused = 0
        for _ in range(3):
            main.take()
            main.receive(OK)
            self.assertEqual(self.client.take(), OK)
            self.clock.advance(0)
            while self.network.connecting:
                self.network.refuse()
                refused += 1
            self.client.receive(GET)
        self.assertEqual(refused, 1)
        leaf: Any = self.gate._leaves["all@file"].leaf
        self.assertEqual(leaf._copies.under_way, {"b@swarm": 0})

    def test_mirror_changes(self) -> None:
        """Copies don't wait for a mirror whose servers are changing: clients may need the room."""
        self.mirrored()
        changed = "mirroring: {service: a@swarm, mirrors: [{name: b@swarm, percent: 100}]}"
        self.apply(changed, b="10.0.0.9")
        self.ask()
        self.network.accepts = False
        self.clock.advance(0)
        self.network.refuse()
        leaf: Any = self.gate._leaves["all@file"].leaf
        self.assertEqual(leaf._copies.under_way, {"b@swarm": 0})

    def test_mirror_fails(self) -> None:
        """A fault of the gate's own at a mirror is logged, and that is all."""
        self.mirrored()
        leaf: Any = self.gate._leaves["all@file"].leaf
        broken = self.gate._leaves["b@swarm"].leaf

        class Broken:
            def is_up(self) -> bool:
                return broken.is_up()

            def serve(self, exchange: Any) -> None:
                raise RuntimeError("broken")

        leaf._children["b@swarm"] = Broken()
        self.assertEqual(self.ask(POST), "10.0.0.1")
        self.assertEqual((self.client.take(), self.copies()), (OK, []))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual((leaf._copies.under_way, mirroring._Seen.kept), ({"b@swarm": 0}, 0))

    def test_client_leaves(self) -> None:
        """What a client did not wait for is not mirrored."""
        self.mirrored()
        self.client.receive(POST)
        self.client.reset()
        self.assertEqual((self.copies()[1:], mirroring._Seen.kept), ([], 0))

    def test_tunnels(self) -> None:
        """WebSockets are not mirrored."""
        self.mirrored()
        self.client.receive(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        self.network.servers[0].take()
        self.network.servers[0].receive(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        self.assertEqual(self.copies(), [])

    def test_retried(self) -> None:
        """However often a request is asked again, a mirror gets it once."""
        text = (
            ROUTER_WITH + "  middlewares: {m: {retry: {attempts: 3%s}}}\n"
            "  services:\n    all: {mirroring: {service: a@swarm, mirrors: [{name: b@swarm, percent: 100}]}}\n"
        )
        self.apply(text % ", status: ['503']")
        self.ask(PUT, answer(503))
        self.clock.advance(0)
        (main,) = self.asked()
        self.assertTrue(main.take().endswith(b"hello"))
        main.receive(OK)
        (copy,) = self.copies()
        self.assertTrue(copy.endswith(b"\r\n\r\nhello"))
        self.network.servers[-1].receive(OK)
        self.client.take()
        self.apply(text % "", a="10.0.0.9")
        self.memory.advance(6)
        self.network.accepts = False
        self.client.receive(PUT[:-3])
        self.network.refuse()
        self.client.receive(b"llo")
        self.clock.advance(0)
        main = self.network.accept()
        self.assertTrue(main.take().endswith(b"\r\n\r\nhello"))
        main.receive(OK)
        self.assertEqual(self.client.take(), OK)
        (copy,) = self.copies()
        self.assertTrue(copy.endswith(b"\r\n\r\nhello"))
