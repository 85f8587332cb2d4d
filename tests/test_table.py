"""All providers' configurations become one table, and what is wrong in them stays where it is."""

from __future__ import annotations

import pickle
from typing import Any

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.composition import (
    Child,
    Composition,
    Failover,
    HighestRandomWeight,
    Mirror,
    Mirroring,
    Weighted,
    children_first,
)
from swarmgate.dynamic.description import describe_changes
from swarmgate.dynamic.model import Balancing, Configuration, Middleware, Problem, Router, Server, Service
from swarmgate.dynamic.observability import Observability
from swarmgate.dynamic.table import (
    HIGHEST_PRIORITY,
    HIGHEST_USER_PRIORITY,
    Compiler,
    EntryPointFacts,
    Route,
    RoutingTable,
    compile_table,
)
from swarmgate.dynamic.tls import RouterTLS, ServersTransport, TLSConfiguration, TLSOptions

WEB = {"web": EntryPointFacts()}
SHOP = Service("shop", (Server("http://10.0.0.2:80", task="shop.1"), Server("http://10.0.0.3:80")))


def configuration(*parts: Router | Service | Middleware) -> Configuration:
    """What a provider publishes, from its parts."""

    def those(kind: Any) -> dict[str, Any]:
        return {part.name: part for part in parts if isinstance(part, kind)}

    return Configuration(those(Router), those(Service), those(Middleware))


def router(name: str = "web", rule: str = "Host(`a.example`)", service: str = "shop", **more: Any) -> Router:
    """A router of a Swarm service's."""
    return Router(name, rule, service, origin="service shop_web", **more)


@attrs.frozen
class ErrorPages:
    """Settings of a middleware that leads to a service."""

    service: str


def middleware(name: str, settings: Any = "settings") -> Middleware:
    """A middleware of no real kind."""
    return Middleware(name, "headers", settings)


class ResolvingTests(SynchronousTestCase):
    """What a sound configuration becomes."""

    def only_route(self, table: RoutingTable, entry_point: str = "web") -> Route:
        self.assertEqual(table.problems, ())
        (route,) = table.routes[entry_point]
        return route

    def test_names_are_those_of_the_same_provider(self) -> None:
        """A name without @provider means the router's own provider's."""
        swarm = configuration(router(middlewares=("auth", "limit@file")), SHOP, middleware("auth"))
        file = configuration(middleware("limit"), middleware("auth"), Service("shop"))
        route = self.only_route(compile_table({"swarm": swarm, "file": file}, WEB))
        self.assertEqual((route.name, route.provider, route.problem), ("web@swarm", "swarm", None))
        self.assertEqual([one.name for one in route.middlewares], ["auth@swarm", "limit@file"])
        self.assertEqual((route.service_name, route.service), ("shop@swarm", attrs.evolve(SHOP, name="shop@swarm")))

    def test_service_of_another_provider(self) -> None:
        """A router of labels can lead to a service of a file."""
        tables = {"swarm": configuration(router(service="shop@file")), "file": configuration(SHOP)}
        self.assertEqual(self.only_route(compile_table(tables, WEB)).service_name, "shop@file")

    def test_traefik_v2_called_the_provider_docker(self) -> None:
        """References with @docker, as v2 wanted them in Swarm mode, find what is now @swarm."""
        parts = configuration(router(service="shop@docker", middlewares=("auth@docker",)), SHOP, middleware("auth"))
        route = self.only_route(compile_table({"swarm": parts}, WEB))
        self.assertEqual((route.service_name, route.middlewares[0].name), ("shop@swarm", "auth@swarm"))

    def test_resource_of_the_gate(self) -> None:
        """A router can lead to a resource of the gate's own."""
        ping = Router("ping", "PathPrefix(`/ping`)", "ping@internal", priority=HIGHEST_PRIORITY)
        route = self.only_route(compile_table({"internal": configuration(ping)}, WEB, {"ping@internal"}))
        self.assertEqual((route.service, route.service_name, route.priority), (None, "ping@internal", HIGHEST_PRIORITY))

    def test_default_entry_points(self) -> None:
        """A router that names no entry point is on all of them, but not on the gate's own."""
        points = {
            "web": EntryPointFacts(),
            "other": EntryPointFacts(),
            "traefik": EntryPointFacts(),
            "metrics": EntryPointFacts(internal=True),
        }
        table = compile_table({"swarm": configuration(router(), SHOP)}, points)
        self.assertEqual([name for name, routes in table.routes.items() if routes], ["web", "other"])
        points["other"] = EntryPointFacts(as_default=True)
        table = compile_table({"swarm": configuration(router(), SHOP)}, points)
        self.assertEqual([name for name, routes in table.routes.items() if routes], ["other"])

    def test_middlewares_of_the_entry_point_come_first(self) -> None:
        """What an entry point asks of every request is asked before what a router asks."""
        swarm = configuration(router(middlewares=("auth",)), SHOP, middleware("auth"))
        points = {"web": EntryPointFacts(middlewares=("limit@file",))}
        table = compile_table({"swarm": swarm, "file": configuration(middleware("limit"))}, points)
        self.assertEqual([one.name for one in self.only_route(table).middlewares], ["limit@file", "auth@swarm"])

    def test_priority(self) -> None:
        """Without a priority it is the rule's length in octets, and routes stand in the order of theirs."""
        parts = configuration(
            router("short", "Path(`/é`)"), router("long", "Path(`/long`)"), router("first", priority=99), SHOP
        )
        routes = compile_table({"swarm": parts}, WEB).routes["web"]
        self.assertEqual([(one.name, one.priority) for one in routes], [
            ("first@swarm", 99), ("long@swarm", 13), ("short@swarm", 11)
        ])  # fmt: skip

    def test_service_without_servers_stays(self) -> None:
        """A service that has no task right now keeps its route."""
        route = self.only_route(compile_table({"swarm": configuration(router(), Service("shop"))}, WEB))
        self.assertEqual((route.service, route.problem), (Service("shop@swarm"), None))

    def test_table_is_a_plain_value(self) -> None:
        """Equal configurations give equal tables, and a table can be handed to another process."""
        tables = [compile_table({"swarm": configuration(router(), SHOP)}, WEB) for _ in range(2)]
        self.assertEqual(tables[0], tables[1])
        self.assertEqual(pickle.loads(pickle.dumps(tables[0])), tables[0])
        self.assertNotEqual(tables[0], compile_table({"swarm": configuration(router(), Service("shop"))}, WEB))


def compositions(references: st.SearchStrategy[str]) -> st.SearchStrategy[Composition | None]:
    """What a service may be made of; mostly it has servers of its own."""
    children = st.lists(st.builds(Child, references, st.integers(0, 2)), max_size=3).map(tuple)
    mirrors = st.lists(st.builds(Mirror, references, st.just(50)), max_size=2).map(tuple)
    return st.one_of(
        st.none(),
        st.builds(Weighted, children),
        st.builds(HighestRandomWeight, children),
        st.builds(Failover, references, references),
        st.builds(Mirroring, references, mirrors),
    )


def worlds() -> st.SearchStrategy[dict[str, Configuration]]:
    """What two providers say, of a few names that refer to each other across them, and not always to something."""
    names = st.sampled_from(["a", "b"])
    references = st.sampled_from(["a", "b", "a@file", "b@swarm", "missing", ""])
    routers = st.builds(
        Router,
        names,
        st.sampled_from(["Host(`a.example`)", "Path(`/b`)", "Hots(`a`)"]),
        references,
        st.sampled_from([(), ("web",), ("web", "wbe")]),
        st.lists(references.filter(bool), max_size=2).map(tuple),
        tls=st.sampled_from([None, RouterTLS(), RouterTLS(options="strict"), RouterTLS(options="missing")]),
    )
    services = st.builds(
        Service,
        names,
        st.sampled_from([(), (Server("http://10.0.0.2:80"),)]),
        servers_transport=st.sampled_from(["", "t@file", "missing"]),
        composition=compositions(references),
    )
    middlewares = st.builds(middleware, names, st.integers(0, 1))
    parts = st.lists(st.one_of(routers, services, middlewares), max_size=6).map(lambda all_: configuration(*all_))
    tls = st.sampled_from([TLSConfiguration(), TLSConfiguration(options={"strict": TLSOptions()})])
    transports = st.sampled_from([{}, {"t": ServersTransport()}])
    said = st.builds(
        lambda one, secure, its: attrs.evolve(one, tls=secure, servers_transports=its), parts, tls, transports
    )
    return st.fixed_dictionaries({"file": said}, optional={"swarm": said, "docker": said})


#: A provider, what of it is another, and what that is now: a part by its name, None if it is gone.
Change = tuple[str, str, Any]

STRICT = TLSConfiguration(options={"strict": TLSOptions()})
#: What changes begin with, and mostly leave alone: everything refers to something.
WHOLE = configuration(
    router("a", service="a", middlewares=("a", "b"), tls=RouterTLS(options="strict@file")),
    router("b", "Path(`/b`)", service="b@swarm", middlewares=("b",), tls=RouterTLS()),
    Service("a", (Server("http://10.0.0.2:80"),)),
    Service("b", (Server("http://10.0.0.3:80"),), servers_transport="t@file"),
    middleware("a"),
    Middleware("b", "errors", ErrorPages(service="b")),
)


def changes() -> st.SearchStrategy[Change]:
    """One small change of what the providers say, or of the entry points."""
    names = st.sampled_from(["a", "b"])
    references = st.sampled_from(["a", "b", "a@file", "b@swarm", "missing"])
    routers = st.builds(
        router,
        st.just(""),
        st.sampled_from(["Host(`a.example`)", "Path(`/b`)"]),
        references,
        middlewares=st.lists(references, max_size=2).map(tuple),
        entry_points=st.sampled_from([(), ("web",), ("wbe",)]),
        tls=st.sampled_from([None, RouterTLS(), RouterTLS(options="strict@file")]),
    )
    services = st.builds(
        Service,
        st.just(""),
        st.sampled_from([(), (Server("http://10.0.0.2:80"),)]),
        servers_transport=st.sampled_from(["", "t@file", "missing"]),
        composition=compositions(references),
    )
    pages = st.builds(lambda one: Middleware("", "errors", ErrorPages(service=one)), references)
    middlewares = st.one_of(st.builds(middleware, st.just(""), st.integers(0, 1)), pages)

    def part(what: str, kind: st.SearchStrategy[Any]) -> st.SearchStrategy[Change]:
        named = st.builds(
            lambda name, one: (name, one if one is None else attrs.evolve(one, name=name)), names, st.none() | kind
        )
        return st.tuples(st.sampled_from(["file", "swarm"]), st.just(what), named)

    secure = st.sampled_from([TLSConfiguration(), STRICT])
    transports = st.sampled_from([{}, {"t": ServersTransport()}, {"t": ServersTransport(insecure_skip_verify=True)}])
    facts = st.builds(EntryPointFacts, st.booleans(), st.sampled_from([(), ("a@swarm",), ("b@swarm",)]), st.just(False))
    points = st.fixed_dictionaries({"web": facts}, optional={"other": facts})
    return st.one_of(
        part("routers", routers),
        part("services", services),
        part("middlewares", middlewares),
        st.tuples(st.just("file"), st.just("tls"), secure),
        st.tuples(st.just("file"), st.just("servers_transports"), transports),
        st.tuples(st.just(""), st.just("entry points"), points),
    )


class CompilerTests(SynchronousTestCase):
    """One table after the other."""

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.tuples(worlds(), st.booleans()), min_size=2, max_size=4))
    def test_like_a_new_one(self, said: list[tuple[dict[str, Configuration], bool]]) -> None:
        """Whatever was there before, a table is the one that a compiler makes who knows nothing of it."""
        compiler = Compiler({"ping@internal"})
        first = said[0][0]
        for others, is_default in said:
            # The same routers, among other services and middlewares.
            routers = {name: first.get(name, one).routers for name, one in others.items()}
            configurations = {name: attrs.evolve(one, routers=routers[name]) for name, one in others.items()}
            points = {
                "web": EntryPointFacts(as_default=is_default, middlewares=("a@file",)),
                "other": EntryPointFacts(),
            }
            made = compiler.compile(configurations, points)
            self.assertEqual(made, compile_table(configurations, points, {"ping@internal"}))

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(changes(), min_size=2, max_size=30))
    def test_change_by_change(self, said: list[Change]) -> None:
        """However a world has come about, one small change after the other, its table is as if made of it alone."""
        compiler = Compiler({"ping@internal"})
        world: dict[str, Configuration] = {"file": Configuration(tls=STRICT), "swarm": WHOLE}
        points = {"web": EntryPointFacts(), "other": EntryPointFacts()}
        for provider, what, new in said:
            if what == "entry points":
                points = new
            else:
                one = world[provider]
                if what in ("routers", "services", "middlewares"):
                    name, part = new
                    others = {key: each for key, each in getattr(one, what).items() if key != name}
                    new = {**others, **({} if part is None else {name: part})}
                world[provider] = attrs.evolve(one, **{what: new})
            made = compiler.compile(dict(world), points)
            self.assertEqual(made, compile_table(world, points, {"ping@internal"}))

    def test_the_same_objects(self) -> None:
        """What has not changed is the very same object as before; what has, and what leads to it, is not."""
        other = attrs.evolve(SHOP, name="other")
        parts = [router("r1", service="shop"), router("r2", service="other", middlewares=("m",)), SHOP, middleware("m")]
        compiler = Compiler()
        before = compiler.compile({"swarm": configuration(*parts, other)}, WEB)
        after = compiler.compile({"swarm": configuration(*parts, attrs.evolve(other, servers=()))}, WEB)
        self.assertIs(before.services["shop@swarm"], after.services["shop@swarm"])
        routes = [{route.name: route for route in table.routes["web"]} for table in (before, after)]
        self.assertIs(routes[0]["r1@swarm"], routes[1]["r1@swarm"])
        self.assertEqual(routes[1]["r2@swarm"].service, after.services["other@swarm"])
        self.assertEqual([one.servers for one in after.services.values()], [(), SHOP.servers])

    def test_each_change(self) -> None:
        """After each change, and when it is taken back, the table is that of who knows nothing of before."""
        shop = [router("r1", middlewares=("m", "pages")), router("r2", service="other"), SHOP, Service("other")]
        pages = Middleware("pages", "errors", ErrorPages(service="other"))
        first = configuration(*shop, middleware("m"), pages)
        tls = TLSConfiguration(options={"modern": TLSOptions(min_version="VersionTLS13")})
        worlds: list[tuple[Configuration, dict[str, EntryPointFacts]]] = [
            (configuration(*shop, middleware("m", "others"), pages), WEB),
            (configuration(*shop, pages), WEB),
            (configuration(*shop[:3], middleware("m"), pages), WEB),
            (configuration(*shop, middleware("m"), attrs.evolve(pages, settings=ErrorPages(service="shop"))), WEB),
            (configuration(*shop, middleware("m"), attrs.evolve(pages, settings=ErrorPages(service="gone"))), WEB),
            (configuration(*shop, attrs.evolve(SHOP, servers=()), middleware("m"), pages), WEB),
            (attrs.evolve(first, tls=tls), WEB),
            (first, {"web": EntryPointFacts(middlewares=("m@swarm",))}),
            (first, {"web": EntryPointFacts(middlewares=("gone@swarm",))}),
            (first, {"web": EntryPointFacts(tls=RouterTLS())}),
            (first, {"web": EntryPointFacts(observability=Observability(access_logs=False))}),
            (first, {"web": EntryPointFacts(), "other": EntryPointFacts()}),
        ]
        compiler = Compiler()
        for each, points in worlds:
            for world in ((first, WEB), (each, points), (each, points), (first, WEB)):
                made = compiler.compile({"swarm": world[0]}, world[1])
                self.assertEqual(made, compile_table({"swarm": world[0]}, world[1]))

    def test_children_of_a_service(self) -> None:
        """A service that is made of others is the same object for as long as it is made of the same."""
        parts = [router(), SHOP, Service("both", composition=Weighted((Child("shop"), Child("other"))))]
        compiler = Compiler()
        tables = [
            compiler.compile({"swarm": configuration(*parts, *more)}, WEB).services["both@swarm"]
            for more in ([Service("other")], [Service("other", SHOP.servers)], [], [Service("other")])
        ]
        self.assertIs(tables[0], tables[1])
        self.assertEqual(tables[2].composition, Weighted((Child("shop@swarm"),)))
        self.assertEqual(tables[3], tables[0])

    def test_pages_of_a_service_that_goes(self) -> None:
        """A router is shut as soon as the service that its middleware leads to is gone, and open when that is back."""
        parts = [router(middlewares=("pages",)), SHOP, Middleware("pages", "errors", ErrorPages(service="other"))]
        compiler = Compiler()
        for there in (True, False, False, True, True):
            world = configuration(*parts, *([Service("other")] if there else []))
            (route,) = compiler.compile({"swarm": world}, WEB).routes["web"]
            self.assertEqual(route.problem is None, there)


class FaultTests(SynchronousTestCase):
    """What a fault costs, and what is said of it."""

    def compile(self, *parts: Router | Service | Middleware, **points: EntryPointFacts) -> RoutingTable:
        return compile_table({"swarm": configuration(*parts)}, points or WEB, {"ping@internal"})

    def check(self, table: RoutingTable, *parts: str) -> Problem:
        """The table's one problem is about router web@swarm and has *parts* in its line."""
        (problem,) = table.problems
        self.assertEqual((problem.subject, problem.origin), ("router web@swarm", "service shop_web"))
        for part in parts:
            self.assertIn(part, str(problem))
        return problem

    def test_missing_middleware_shuts_the_router(self) -> None:
        """A router whose middleware is missing takes its requests and never passes them, and says why."""
        table = self.compile(router(middlewares=("aut", "limit")), SHOP, middleware("auth"), middleware("limit"))
        problem = self.check(table, "middlewares=aut", "no such middleware", "did you mean auth?")
        self.assertEqual((problem.key, problem.value, problem.nearest), ("middlewares", "aut", "auth"))
        (route,) = table.routes["web"]
        self.assertEqual((route.service, route.problem), (None, "there is no middleware aut"))

    def test_middleware_of_another_provider_is_suggested(self) -> None:
        """Who forgets the provider of a file's middleware is told its full name."""
        parts = {"swarm": configuration(router(middlewares=("auth",)), SHOP), "file": configuration(middleware("auth"))}
        self.assertEqual(compile_table(parts, WEB).problems[0].nearest, "auth@file")

    def test_many_faults_are_told_in_time(self) -> None:
        """A thousand wrong references beside a thousand names are all told of, without comparing all with all."""
        routers = [router(f"r{number}", service=f"srvice{number}") for number in range(1000)]
        services = [Service(f"service{number}") for number in range(1000)]
        problems = self.compile(*routers, *services).problems
        self.assertEqual(len(problems), 1000)
        self.assertTrue(problems[0].nearest.startswith("service"))
        self.assertEqual(problems[-1].nearest, "")

    def test_missing_service_shuts_the_router(self) -> None:
        """A router whose service is missing takes its requests away from less specific routers too."""
        for reference, reason in (("shp", "there is no service shp@swarm"), ("", "no service is named")):
            table = self.compile(router(service=reference), SHOP)
            self.check(table, reason.partition(" shp")[0].replace("there is no", "there is no such"))
            self.assertEqual(table.routes["web"][0].problem, reason)
        self.assertEqual(self.compile(router(service="shp"), SHOP).problems[0].nearest, "shop")
        self.assertEqual(self.compile(router(service="pong@internal")).problems[0].nearest, "ping@internal")

    def test_fault_told_once(self) -> None:
        """Who has told why a router has no service need not be told that it has none."""
        table = self.compile(router(service="", fault="which of two?"), SHOP)
        self.assertEqual((table.problems, table.routes["web"][0].problem), ((), "which of two?"))

    def compose(self, **compositions: Composition) -> tuple[dict[str, str | None], list[str]]:
        """Why the routers of services that are made of others answer 404, by the service; and all problems."""
        services = [Service(name, composition=one) for name, one in compositions.items()]
        table = self.compile(*services, SHOP, *(router(name, service=name) for name in compositions))
        return {route.name.removesuffix("@swarm"): route.problem for route in table.routes["web"]}, [
            str(problem) for problem in table.problems
        ]

    def test_children(self) -> None:
        """A child that there isn't, or that is the gate's own, is told of, and the others answer without it."""
        shop = Child("shop", 3)
        cases: list[tuple[Composition, Composition, str]] = [
            (
                Weighted((shop, Child("shp"))),
                Weighted((Child("shop@swarm", 3),)),
                "service a@swarm: provider swarm: weighted.services[1].name=shp: there is no such service; "
                "it is left out (did you mean shop?)",
            ),
            (
                HighestRandomWeight((Child("ping@internal"), shop)),
                HighestRandomWeight((Child("shop@swarm", 3),)),
                "service a@swarm: provider swarm: highestRandomWeight.services[0].name=ping@internal: "
                "a service of the gate's own can't be part of another; it is left out",
            ),
            (
                Failover("none@file", "shop"),
                Failover("", "shop@swarm"),
                "service a@swarm: provider swarm: failover.service=none@file: there is no such service; it is left out",
            ),
            (
                Mirroring("shop", (Mirror("zzz", 5),)),
                Mirroring("shop@swarm"),
                "service a@swarm: provider swarm: mirroring.mirrors[0].name=zzz: there is no such service; "
                "it is left out",
            ),
        ]
        for composition, expected, told in cases:
            table = self.compile(router(service="a"), Service("a", composition=composition), SHOP)
            self.assertEqual(table.services["a@swarm"].composition, expected)
            self.assertEqual([str(problem) for problem in table.problems], [told])
            self.assertIsNone(table.routes["web"][0].problem)

    def test_nobody_left(self) -> None:
        """A service of which nobody could answer shuts its routers, and says why."""
        nobody = "it has no service that could answer"
        for composition, reason in (
            (Weighted(), nobody),
            (HighestRandomWeight((Child("gone"),)), nobody),
            (Failover("gone", "lost"), nobody),
            (Mirroring("gone", (Mirror("shop", 5),)), nobody),
            (Weighted((Child("shop", 0), Child("gone"))), "no service of it has a weight above 0"),
        ):
            routes, problems = self.compose(a=composition)
            self.assertEqual(routes, {"a": reason})
            self.assertIn(f"service a@swarm: provider swarm: {reason}; its routers answer 404", problems)

    def test_child_with_a_problem(self) -> None:
        """A child that has a problem is left out, with that."""
        parts = (
            Service("lost", servers_transport="none"),
            Service("a", composition=Weighted((Child("lost"), Child("shop")))),
        )
        table = self.compile(router(service="a"), *parts, SHOP)
        self.assertEqual(table.services["a@swarm"].composition, Weighted((Child("shop@swarm"),)))
        self.assertIn("there is no serversTransport none; it is left out", str(table.problems[-1]))

    def test_circles(self) -> None:
        """Services that lead back to themselves are told with their whole way; who leads there does without."""
        routes, problems = self.compose(
            a=Weighted((Child("b"), Child("shop"))),
            b=Failover("shop", "c"),
            c=Mirroring("a"),
            d=Weighted((Child("a"), Child("shop"))),
            e=Weighted((Child("e"),)),
        )
        way = "it leads back to itself: a@swarm -> b@swarm -> c@swarm -> a@swarm"
        itself = "it leads back to itself: e@swarm -> e@swarm"
        self.assertEqual(routes, {"a": way, "b": way, "c": way, "d": None, "e": itself})
        self.assertIn(f"service b@swarm: provider swarm: {way}; its routers answer 404", problems)
        self.assertIn(f"service d@swarm: provider swarm: weighted.services[0].name=a: {way}; it is left out", problems)

    def test_deep(self) -> None:
        """However deep services are made of others, what serves them is not deeper than it can be."""
        nested: dict[str, Composition] = {f"s{n}": Failover(f"s{n - 1}", "shop") for n in range(1, 3000)}
        routes, problems = self.compose(s0=Weighted((Child("shop"),)), **nested)
        self.assertEqual([routes["s15"], routes["s17"]], [None, None])
        self.assertIn("more than 16 deep", str(routes["s16"]))
        self.assertIn("more than 16 deep", "".join(problems))

    @given(st.dictionaries(st.integers(0, 9), st.sets(st.integers(0, 9), max_size=3)))
    def test_children_come_first(self, numbers: dict[int, set[int]]) -> None:
        """Each name comes after its children, once, unless it is in a circle; and circles are circles."""
        children = {str(name): {str(child) for child in its} for name, its in numbers.items()}
        order, circles = children_first(children)
        in_circles = [name for circle in circles for name in circle]
        self.assertEqual(sorted(order + in_circles), sorted(children))
        for circle in circles:
            for name, child in zip(circle, (*circle[1:], circle[0]), strict=True):
                self.assertIn(child, children[name])
        for place, name in enumerate(order):
            self.assertEqual({child for child in children[name] if child in order} - set(order[:place]), set())

    def test_router_with_a_fault_is_shut(self) -> None:
        """A router of which its provider has told a fault takes its requests, and passes none."""
        table = self.compile(router(fault="unknown option rul"), SHOP)
        self.assertEqual(table.problems, ())
        (route,) = table.routes["web"]
        self.assertEqual((route.service, route.problem), (None, "unknown option rul"))

    def test_rule_that_cannot_be_read_drops_the_router(self) -> None:
        """A router with a broken rule matches nothing; its neighbours are not touched."""
        table = self.compile(router(rule="Hots(`a.example`)"), router("good"), SHOP)
        self.check(table, "rule=Hots(`a.example`)", "unknown matcher", "at character 1", "did you mean Host?")
        self.assertEqual([one.name for one in table.routes["web"]], ["good@swarm"])

    def test_unknown_entry_point(self) -> None:
        """A router keeps those of its entry points that there are, and goes if none is."""
        table = self.compile(router(entry_points=("wbe", "web")), SHOP)
        self.check(table, "entryPoints=wbe", "no such entry point", "did you mean web?")
        self.assertEqual(len(table.routes["web"]), 1)
        table = self.compile(router(entry_points=("wbe",)), SHOP)
        self.check(table, "entryPoints=wbe")
        self.assertEqual(table.routes, {"web": ()})

    def test_no_entry_point_for_all(self) -> None:
        """A router that is nowhere, since the only entry point is the gate's own, is told of."""
        self.check(self.compile(router(), SHOP, traefik=EntryPointFacts()), "names no entry point")

    def test_priority_of_the_gates_own_routers(self) -> None:
        """A user's router can't come before ping, and one that tries is shut."""
        table = self.compile(router(priority=HIGHEST_USER_PRIORITY + 1), SHOP)
        self.check(table, f"priority={HIGHEST_USER_PRIORITY + 1}", f"at most {HIGHEST_USER_PRIORITY}")
        self.assertIsNotNone(table.routes["web"][0].problem)
        self.assertEqual(self.compile(router(priority=HIGHEST_USER_PRIORITY), SHOP).problems, ())

    def test_missing_middleware_of_an_entry_point(self) -> None:
        """An entry point whose middleware is missing passes nothing, and says so once."""
        parts = (router(), router("other", "Path(`/x`)"), SHOP, middleware("auth"))
        table = self.compile(*parts, web=EntryPointFacts(middlewares=("auth",)))
        (problem,) = table.problems
        self.assertEqual(problem.subject, "entry point web")
        self.assertEqual((problem.value, problem.nearest), ("auth", "auth@swarm"))
        self.assertEqual([one.problem is None for one in table.routes["web"]], [False, False])

    def test_problems_of_providers_are_passed_on(self) -> None:
        """What a provider has found is in the table's problems too."""
        problem = Problem("service x", "service x", "no network")
        table = compile_table({"swarm": Configuration(problems=(problem,))}, WEB)
        self.assertEqual(table.problems, (problem,))


class DescribingTests(SynchronousTestCase):
    """What the log says when the table changes."""

    def lines(self, old: list[Any], new: list[Any]) -> list[str]:
        tables = [compile_table({"swarm": configuration(*parts)}, WEB) for parts in (old, new)]
        return list(describe_changes(*tables))

    def test_nothing(self) -> None:
        """Nothing is said of nothing."""
        self.assertEqual(self.lines([router(), SHOP], [router(), SHOP]), [])

    def test_routes(self) -> None:
        """Each route that comes, goes or changes gets a line that says how."""
        added = "route web@swarm on web added: Host(`a.example`) -> shop@swarm (2 servers)"
        self.assertEqual(self.lines([SHOP], [router(), SHOP]), [added])
        removed = "route web@swarm on web removed: Host(`a.example`) -> shop@swarm (2 servers)"
        self.assertEqual(self.lines([router(), SHOP], [SHOP]), [removed])
        other = router(rule="Path(`/`)", priority=9, middlewares=("m",))
        changed = (
            "route web@swarm on web changed: rule Host(`a.example`) -> Path(`/`); priority 17 -> 9; "
            "middlewares none -> m@swarm"
        )
        self.assertEqual(self.lines([router(), SHOP, middleware("m")], [other, SHOP, middleware("m")]), [changed])

    def test_routes_of_each_kind(self) -> None:
        """The line says where a route leads, and when it leads elsewhere."""
        other = Service("other")
        self.assertEqual(
            self.lines([router(), SHOP, other], [router(service="other"), SHOP, other]),
            ["route web@swarm on web changed: service shop@swarm -> other@swarm"],
        )
        (added, _) = self.lines([], [router()])
        self.assertIn("-> 404: there is no service shop@swarm", added)
        ping = compile_table({"swarm": configuration(router(service="ping@internal"))}, WEB, {"ping@internal"})
        self.assertIn("-> ping@internal", describe_changes(RoutingTable(), ping)[0])

    def test_changes_of_a_service(self) -> None:
        """A line stays readable however many servers there are, and says what else is different."""
        servers = tuple(Server(f"http://10.0.0.{number}:80") for number in range(9))
        (line,) = self.lines([Service("x")], [Service("x", servers)])
        self.assertTrue(line.endswith("http://10.0.0.4:80 and 4 more; 9 servers now"), line)
        (line,) = self.lines([Service("x", servers)], [Service("x", servers[::-1], Balancing(False))])
        self.assertEqual(line, "service x@swarm changed: servers in another order; other pass host header")
        self.assertEqual(self.lines([Service("x")], [Service("x", awaited=True)]), [])

    def test_compositions(self) -> None:
        """What a service is made of is told, and when it is made of something else."""
        one, other = (Service("x", composition=Weighted((Child("shop", n), Child("gone")))) for n in (1, 2))
        left = "weighted: shop@swarm (weight 1)"
        (added, _) = self.lines([SHOP], [SHOP, one])
        self.assertEqual(added, f"service x@swarm added: {left}")
        self.assertEqual(
            self.lines([SHOP, one], [SHOP, other]), ["service x@swarm changed: weighted: shop@swarm (weight 2)"]
        )
        both = [
            Service("f", composition=Failover("shop", "x")),
            Service("m", composition=Mirroring("f", (Mirror("x", 5),))),
        ]
        told = "\n".join(self.lines([SHOP, Service("x")], [SHOP, Service("x"), *both, router(service="m")]))
        self.assertIn("failover: shop@swarm, and x@swarm while that is down", told)
        self.assertIn("(mirroring: f@swarm, mirrored to x@swarm (5 %))", told)

    def test_settings_are_not_told(self) -> None:
        """That a middleware has other settings is said; what they are, passwords perhaps, is not."""
        old, new = ([router(middlewares=("m",)), SHOP, middleware("m", one)] for one in ("pass-1", "pass-2"))
        expected = "route web@swarm on web changed: other settings of middleware m@swarm"
        self.assertEqual(self.lines(old, new), [expected])

    def test_servers(self) -> None:
        """A service's line says which servers went and came."""
        after = Service("shop", (SHOP.servers[1], Server("http://10.0.0.4:80", task="shop.3")))
        expected = (
            "service shop@swarm changed: without http://10.0.0.2:80 (shop.1); "
            "with http://10.0.0.4:80 (shop.3); 2 servers now"
        )
        self.assertEqual(self.lines([router(), SHOP], [router(), after]), [expected])
        self.assertEqual(self.lines([], [Service("x")]), ["service x@swarm added: no server"])
        self.assertEqual(self.lines([Service("x")], []), ["service x@swarm removed"])

    def test_problems(self) -> None:
        """Problems are told when they come and when they are gone."""
        broken = [router(middlewares=("m",)), SHOP]
        sound = [*broken, middleware("m")]
        came = self.lines(sound, broken)
        self.assertEqual(came[0], "route web@swarm on web changed: middlewares m@swarm -> none; "
                         "answers 404: there is no middleware m")  # fmt: skip
        self.assertTrue(came[1].startswith("problem: router web@swarm: service shop_web: middlewares=m"), came)
        gone = self.lines(broken, sound)
        self.assertIn("in force again", gone[0])
        self.assertTrue(gone[1].startswith("no longer a problem: router web@swarm"), gone)
