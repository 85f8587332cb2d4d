"""Requests reach the router that Traefik's rules say, however many routers there are."""

from __future__ import annotations

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.matching import RouteIndex, compile_rule, split_host
from swarmgate.dynamic.rules import parse_rule
from swarmgate.dynamic.table import INTERNAL, Route, precedence
from swarmgate.http.message import Request


def request(
    host: str = "a.example",
    target: bytes = b"/",
    method: bytes = b"GET",
    fields: list[tuple[bytes, bytes]] | None = None,
    client_ip: str = "192.0.2.1",
    upgrade: bytes = b"",
) -> Request:
    """A request as the data plane hands it on."""
    path, mark, query = target.partition(b"?")
    one = Request(method, path, query if mark else None, 1, host.encode(), host.encode(), fields or [])
    one.client_ip = client_ip
    one.upgrade = upgrade
    return one


def route(rule: str, name: str = "", priority: int = 0, provider: str = "swarm", syntax: str = "v3") -> Route:
    """A route that leads nowhere, called like its rule."""
    return Route(
        name=name or rule,
        entry_point="web",
        rule=parse_rule(rule, syntax),
        rule_text=rule,
        priority=priority or len(rule),
        middlewares=(),
        service=None,
        service_name="",
        provider=provider,
    )


class PredicateTests(SynchronousTestCase):
    """Single rules."""

    def check(self, rule: str, matching: list[Request], other: list[Request], syntax: str = "v3") -> None:
        predicate = compile_rule(parse_rule(rule, syntax))
        for one in matching:
            self.assertTrue(predicate(one), f"{rule} should match {one!r}")
        for one in other:
            self.assertFalse(predicate(one), f"{rule} should not match {one!r}")

    def test_host(self) -> None:
        """A host is compared whole; *. stands for exactly one label; * for any host, and none."""
        a, b, sub, deep, none = map(request, ("a.example", "b.example", "s.a.example", "t.s.a.example", ""))
        self.check("Host(`A.example.`)", [a], [b, sub, none])
        self.check("Host(`a.example`,`b.example`)", [a, b], [sub, none])
        self.check("Host(`*.a.example`)", [sub], [a, b, deep, none, request(".a.example")])
        self.check("Host(`*.a.example`, `b.example`)", [sub, b], [a, deep])
        self.check("Host(`*`)", [a, b, deep, none], [])

    def test_host_regexp(self) -> None:
        """A regular expression looks anywhere in the host; a template of v2 describes all of it."""
        self.check("HostRegexp(`a.ex`)", [request(), request("s.a.example")], [request("b.example")])
        self.check("HostRegexp(`{s:[a-z]}.A.example`)", [request("s.a.example")], [request("ss.a.example")], "v2")

    def test_paths(self) -> None:
        """Path is exact, PathPrefix any beginning, PathRegexp looks anywhere."""
        x, xy, xz, y = (request(target=path) for path in (b"/x", b"/x/y", b"/xz", b"/y"))
        self.check("Path(`/x`)", [x, request(target=b"/x?q=1")], [xy, xz, y, request(target=b"/x/")])
        self.check("Path(`/x`,`/y`)", [x, y], [xy, xz])
        self.check("PathPrefix(`/x`)", [x, xy, xz], [y])
        self.check("PathPrefix(`/x/`,`/y`)", [xy, y], [x, xz])
        self.check("PathRegexp(`y$`)", [xy, y], [x, xz])
        self.check("Path(`/u/{id:[0-9]+}`)", [request(target=b"/u/12")], [request(target=b"/u/12/a")], "v2")

    def test_escaped_path(self) -> None:
        """Escaped characters are compared as what they stand for, but for those that have a meaning in a path."""
        self.check("Path(`/é`)", [request(target=b"/%C3%A9")], [request(target=b"/e")])
        self.check("Path(`/a/b`)", [request(target=b"/a/b")], [request(target=b"/a%2Fb")])
        # An octet that is no UTF-8 counts as a character: a rule that protects a path is not got round with it.
        self.check("PathRegexp(`^/admin/.*$`)", [request(target=b"/admin/%FF"), request(target=b"/admin/")], [])

    def test_method(self) -> None:
        """Methods are compared as they are on the wire."""
        self.check("Method(`get`)", [request()], [request(method=b"POST"), request(method=b"get")])
        self.check("Method(`GET`,`PUT`)", [request(), request(method=b"PUT")], [request(method=b"POST")])

    def test_headers(self) -> None:
        """Any one of a header's values decides, whatever the case of its name."""
        two = request(fields=[(b"x-a", b"1"), (b"X-A", b"22")])
        self.check("Header(`X-a`, `22`)", [two], [request(), request(fields=[(b"X-B", b"22")])])
        self.check("HeaderRegexp(`x-a`, `^2+$`)", [two], [request(), request(fields=[(b"X-A", b"12")])])

    def test_websockets(self) -> None:
        """A rule can ask for the handshake of a websocket, though its fields belong to the connection."""
        handshake = request(upgrade=b"websocket")
        self.check("Headers(`Upgrade`,`WebSocket`)", [handshake], [request(), request(upgrade=b"h2c")])
        self.check("HeadersRegexp(`Connection`,`(?i)Upgrade`)", [handshake], [request()])

    def test_query(self) -> None:
        """A query's names and values are compared decoded; without a value, the empty one is meant."""
        self.check(
            "Query(`a b`,`c&d`)",
            [request(target=b"/?x=1&a+b=c%26d"), request(target=b"/?a%20b=0;a%20b=c%26d")],
            [request(), request(target=b"/?"), request(target=b"/?a+b=c"), request(target=b"/?A+b=c%26d")],
        )
        self.check("Query(`a`)", [request(target=b"/?a"), request(target=b"/?b&a=")], [request(target=b"/?a=1")])
        self.check("QueryRegexp(`a`,`^[0-9]+$`)", [request(target=b"/?a=x&a=12")], [request(target=b"/?a=x&b=12")])

    def test_client_ip(self) -> None:
        """The peer's address decides, IPv4 also where it comes in IPv6's clothes."""
        four, mapped, six = (request(client_ip=one) for one in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7"))
        self.check("ClientIP(`10.0.0.0/8`)", [four, mapped], [six, request(), request(client_ip="")])
        self.check("ClientIP(`10.1.2.3`,`2001:db8::/32`)", [four, six], [request(), request(client_ip="10.1.2.4")])

    def test_operators(self) -> None:
        """&&, || and ! combine as in logic."""
        x, y = request(target=b"/x"), request(target=b"/y")
        b = request("b.example", b"/x")
        self.check("Host(`a.example`) && !PathPrefix(`/x`)", [y], [x, b])
        self.check("Path(`/y`) || Host(`b.example`)", [y, b], [x])
        self.check("Method(`GET`) && Path(`/x`) && !Host(`b.example`)", [x], [y, b])
        self.check("Path(`/0`) || Path(`/1`) || Path(`/y`)", [y], [x, b])


class PrecedenceTests(SynchronousTestCase):
    """Which of several matching routers gets the request."""

    def winner(self, *routes: Route) -> str:
        found = RouteIndex(sorted(routes, key=precedence)).find(request(target=b"/x/y"))
        assert found is not None
        return found.name

    def test_longer_rule_first(self) -> None:
        """Without priorities the longer rule is the more specific one."""
        self.assertIn("/x/y", self.winner(route("PathPrefix(`/x`)"), route("PathPrefix(`/x/y`)")))

    def test_priority(self) -> None:
        """A priority counts in place of the rule's length, also over a rule for the host."""
        self.assertEqual(self.winner(route("Host(`a.example`)"), route("Path(`/x/y`)", "low", 1)), "Host(`a.example`)")
        self.assertEqual(self.winner(route("Host(`a.example`)"), route("Host(`*`)", "high", 100)), "high")
        self.assertEqual(self.winner(route("Host(`*`)", "negative", -1), route("Host(`*`)", "b")), "b")

    def test_ties(self) -> None:
        """Equal priorities are decided by provider, then by name, always alike."""
        rule = "Host(`a.example`)"
        self.assertEqual(self.winner(route(rule, "b@swarm"), route(rule, "a@file", provider="file")), "b@swarm")
        self.assertEqual(
            self.winner(route(rule, "b@file", provider="file"), route(rule, "a", provider=INTERNAL)), "b@file"
        )
        self.assertEqual(self.winner(route(rule, "b@swarm"), route(rule, "a@swarm")), "a@swarm")


class CountingRequest(Request):
    """A request that counts how often rules look at it."""

    __slots__ = ("looks",)

    @property
    def routing_path(self) -> bytes:
        self.looks = getattr(self, "looks", 0) + 1
        return self.path


def looks_of(routes: int, host: bytes) -> int:
    """How many rules of *routes* hosts are asked before a request for *host* has its route."""
    index = RouteIndex([route(f"Host(`h{number}.example`) && PathPrefix(`/x`)") for number in range(routes)])
    one = CountingRequest(b"GET", b"/x", None, 1, host, host, [])
    one.looks = 0
    index.find(one)
    return one.looks


class IndexTests(SynchronousTestCase):
    """Routes are found by host."""

    def test_ten_thousand_routes_cost_what_ten_cost(self) -> None:
        """Only the rules of the request's own host are asked."""
        for host, expected in ((b"h7.example", 1), (b"unknown.example", 0)):
            self.assertEqual(looks_of(10, host), expected)
            self.assertEqual(looks_of(10_000, host), expected)

    def test_rule_for_a_host_alone_is_not_asked(self) -> None:
        """Where the host says all, finding it is all there is to do."""
        self.assertEqual(split_host(parse_rule("Host(`a`) || Host(`b`,`*.c`)")), (frozenset(("a", "b", "*.c")), None))
        self.assertEqual(
            split_host(parse_rule("Host(`a`,`b`) && Path(`/x`) && Host(`b`)")),
            (frozenset("b"), parse_rule("Host(`a`,`b`) && Path(`/x`)")),
        )
        for general in ("!Host(`a`)", "Host(`a`) || Path(`/x`)", "Path(`/x`)"):
            self.assertEqual(split_host(parse_rule(general)), (None, parse_rule(general)))

    def test_unknown_hosts_leave_no_trace(self) -> None:
        """However many host names strangers ask for, memory does not grow."""
        index = RouteIndex([route("Host(`*.a.example`)"), route("Host(`b.example`)"), route("Path(`/x`)")])
        one = request()

        def ask(prefix: str) -> None:
            for number in range(2000):
                one.host = f"{prefix}{number}.a.example".encode()
                index.find(one)
                one.host = f"{number}.{prefix}.example".encode()
                index.find(one)

        growths = []
        ask("warm")
        tracemalloc.start()
        try:
            for prefix in ("one", "two", "three"):
                before, _ = tracemalloc.get_traced_memory()
                ask(prefix)
                after, _ = tracemalloc.get_traced_memory()
                growths.append(after - before)
        finally:
            tracemalloc.stop()
        # Threads that other tests have left may take some, but not each time.
        self.assertLess(min(growths), 20_000)

    def test_merged_lists_are_bounded(self) -> None:
        """Many hosts beside many rules for any host still find their routes, within bounded memory."""
        self.patch(__import__("swarmgate.dynamic.matching", fromlist=["_MOST_MERGED"]), "_MOST_MERGED", 50)
        general = [route(f"Path(`/p{number}`)", priority=1000) for number in range(10)]
        index = RouteIndex([*general, *(route(f"Host(`h{number}.example`)") for number in range(100))])
        for number in [*range(100), *range(100)]:
            host = f"h{number}.example"
            found = index.find(request(host))
            assert found is not None
            self.assertEqual(found.name, f"Host(`{host}`)")
            at_path = index.find(request(host, b"/p3"))
            assert at_path is not None
            self.assertEqual(at_path.name, "Path(`/p3`)")

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_index_finds_what_asking_all_finds(self, data: st.DataObject) -> None:
        """The index changes nothing but the time that it takes."""
        hosts = ["a.example", "b.example", "s.a.example", "t.s.a.example", "s.b.example", ""]
        atoms = [f"Host(`{host}`)" for host in [*hosts[:-1], "*.a.example", "*.example", "*"]]
        atoms += ["Host(`a.example`,`*.b.example`)", "Path(`/x`)", "Method(`GET`)", "HostRegexp(`^s`)"]
        atom = st.sampled_from(atoms)
        rule = st.recursive(
            atom,
            lambda inner: st.one_of(
                inner.map("!({})".format),
                st.tuples(inner, inner).map("({0[0]}) && ({0[1]})".format),
                st.tuples(inner, inner).map("({0[0]}) || ({0[1]})".format),
            ),
            max_leaves=5,
        )
        texts = data.draw(st.lists(rule, max_size=8))
        priorities = data.draw(st.lists(st.integers(1, 4), min_size=len(texts), max_size=len(texts)))
        pairs = zip(texts, priorities, strict=True)
        routes = [route(text, f"r{number}", priority) for number, (text, priority) in enumerate(pairs)]
        routes.sort(key=precedence)
        # Before, there were some of them, others by their names, and others.
        index = None
        for _ in range(data.draw(st.integers(1, 3))):
            were = {one.name: one for one in (data.draw(st.lists(st.sampled_from(routes))) if routes else [])}
            for number, text in enumerate(data.draw(st.lists(rule, max_size=8))):
                other = route(text, f"r{number}", data.draw(st.integers(1, 4)))
                were.setdefault(other.name, next((one for one in routes if one == other), other))
            index = RouteIndex(sorted(were.values(), key=precedence), index)
            index.find(request("s.a.example"))
        index = RouteIndex(routes, index)
        in_order = [(compile_rule(one.rule), one) for one in routes]
        for host in [*hosts, *hosts]:
            for path in (b"/x", b"/y"):
                one = request(host, path)
                expected = next((found for predicate, found in in_order if predicate(one)), None)
                self.assertIs(index.find(one), expected)
