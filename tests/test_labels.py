"""Labels mean what they mean to Traefik, and a wrong one costs what it belongs to."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.composition import Child, Failover, HighestRandomWeight, Mirror, Mirroring, Weighted
from swarmgate.dynamic.labels import Labelled, LabelledService, decode
from swarmgate.dynamic.model import (
    Balancing,
    HealthCheck,
    Middleware,
    PassiveHealthCheck,
    Problem,
    Router,
    StickyCookie,
)
from swarmgate.dynamic.observability import Observability
from swarmgate.dynamic.tls import Domain, RouterTLS
from swarmgate.structure import StatusRange, option


@attrs.frozen
class Limit:
    """Settings of a middleware that tests need."""

    average: int = option(default=0, doc="Requests.")
    sources: tuple[str, ...] = option(default=(), doc="Whose.")
    users: str = option(default="", doc="Not to be told.", secret=True)


KINDS: dict[str, type[Any]] = {"ratelimit": Limit}
ORIGIN = "service shop_web"


def read(*labels: str) -> Labelled:
    """What ``name=value`` labels say."""
    pairs = dict(label.split("=", 1) for label in labels)
    return decode(pairs, ("swarmgate", "traefik"), KINDS, ORIGIN)


class ReadingTests(SynchronousTestCase):
    """What sound labels say."""

    def test_everything(self) -> None:
        """A service as people label it becomes routers, services and middlewares."""
        labelled = read(
            "traefik.enable=true",
            "traefik.swarm.network=golf",
            "traefik.swarm.lbswarm=false",
            "traefik.http.routers.web.rule=Host(`a.example`) && Query(`a=b`)",
            "traefik.http.routers.web.entrypoints=web, other",
            "traefik.http.routers.web.priority=-3",
            "traefik.http.routers.web.middlewares=limit,auth@file",
            "traefik.http.routers.web.service=shop",
            "traefik.http.routers.web.rulesyntax=v2",
            "traefik.http.services.shop.loadbalancer.server.port=8080",
            "traefik.http.services.shop.loadbalancer.server.scheme=http",
            "traefik.http.services.shop.loadbalancer.server.weight=2",
            "traefik.http.services.shop.loadbalancer.passhostheader=false",
            "traefik.http.middlewares.limit.ratelimit.average=5",
            "traefik.http.middlewares.limit.ratelimit.sources[0]=a",
            "traefik.http.middlewares.limit.ratelimit.sources[1]=b",
            "com.example.other=thing",
        )
        router = Router(
            "web",
            rule="Host(`a.example`) && Query(`a=b`)",
            service="shop",
            entry_points=("web", "other"),
            middlewares=("limit", "auth@file"),
            priority=-3,
            syntax="v2",
            origin=ORIGIN,
        )
        expected = Labelled(
            enable=True,
            network="golf",
            lbswarm=False,
            routers={"web": router},
            services={"shop": LabelledService("shop", 8080, "http", "", 2, Balancing(False))},
            middlewares={"limit": Middleware("limit", "ratelimit", Limit(average=5, sources=("a", "b")))},
        )
        self.assertEqual(labelled, expected)

    def test_nothing(self) -> None:
        """A service without such labels says nothing, nor do labels that only look like some."""
        for labels in ((), ("a=b",), ("traefikk.enable=true",), ("traefik.constraint-label=public",)):
            self.assertEqual(read(*labels), Labelled())

    def test_case(self) -> None:
        """Options are written in any case; the names of routers keep theirs."""
        labelled = read("Traefik.HTTP.Routers.MyWeb.EntryPoints=web", "traefik.http.routers.myweb.RULE=Path(`/`)")
        self.assertEqual(set(labelled.routers), {"MyWeb", "myweb"})
        self.assertEqual(labelled.routers["MyWeb"].entry_points, ("web",))

    def test_labels_of_v2(self) -> None:
        """What v2 called docker is understood."""
        labelled = read("traefik.docker.network=golf", "traefik.docker.lbswarm=true")
        self.assertEqual((labelled.network, labelled.lbswarm, labelled.problems), ("golf", True, ()))

    def test_both_prefixes(self) -> None:
        """swarmgate's own labels add to Traefik's; where they differ they win, and that is told."""
        labelled = read(
            "swarmgate.enable=true",
            "traefik.enable=true",
            "swarmgate.http.routers.web.rule=Path(`/s`)",
            "traefik.http.routers.web.rule=Path(`/t`)",
            "traefik.http.routers.web.service=shop",
        )
        self.assertEqual((labelled.enable, labelled.routers["web"].rule), (True, "Path(`/s`)"))
        self.assertEqual(labelled.routers["web"].service, "shop")
        (problem,) = labelled.problems
        self.assertEqual((problem.subject, problem.key), ("router web@swarm", "traefik.http.routers.web.rule"))
        self.assertIn("swarmgate.http.routers.web.rule says otherwise", problem.reason)

    def test_both_names_of_the_provider(self) -> None:
        """docker and swarm may both be there; where they differ, swarm wins, and that is told."""
        self.assertEqual(read("traefik.docker.network=a", "traefik.swarm.network=a").problems, ())
        labelled = read("traefik.docker.network=a", "traefik.swarm.network=b")
        self.assertEqual((labelled.network, labelled.problems[0].key), ("b", "traefik.docker.network"))

    def test_one_prefix(self) -> None:
        """Prefixes that aren't asked for are other people's."""
        labelled = decode({"traefik.enable": "false", "gate.enable": "true"}, ("gate",), KINDS, ORIGIN)
        self.assertTrue(labelled.enable)

    def test_url(self) -> None:
        """A service can have a server of its own in place of the tasks."""
        labelled = read("traefik.http.services.s.loadbalancer.server.url=http://10.0.0.9:81")
        self.assertEqual(labelled.services["s"].url, "http://10.0.0.9:81")


class FaultTests(SynchronousTestCase):
    """What wrong labels cost, and what is said of them."""

    def problem(self, labelled: Labelled) -> Problem:
        (problem,) = labelled.problems
        self.assertEqual(problem.origin, ORIGIN)
        return problem

    def test_wrong_option_of_a_router(self) -> None:
        """The router is shut but keeps what it matches; its neighbour goes on; the author is told the right name."""
        labelled = read(
            "traefik.http.routers.web.rule=Path(`/a`)",
            "traefik.http.routers.web.middelwares=auth",
            "traefik.http.routers.other.rule=Path(`/b`)",
        )
        expected = Problem(
            "router web@swarm",
            ORIGIN,
            "unknown option",
            "traefik.http.routers.web.middelwares",
            "auth",
            "middlewares",
        )
        self.assertEqual(self.problem(labelled), expected)
        web, other = labelled.routers["web"], labelled.routers["other"]
        self.assertEqual((web.rule, bool(web.fault)), ("Path(`/a`)", True))
        self.assertEqual((other.rule, other.fault), ("Path(`/b`)", ""))

    def test_wrong_value_of_a_router(self) -> None:
        """A value that can't be is told with what could be."""
        labelled = read("traefik.http.routers.web.rule=Path(`/a`)", "traefik.http.routers.web.priority=high")
        problem = self.problem(labelled)
        self.assertEqual((problem.value, problem.reason), ("high", "expected a whole number"))
        self.assertIn("expected a whole number", labelled.routers["web"].fault)
        self.assertEqual(labelled.routers["web"].rule, "Path(`/a`)")
        nearest = self.problem(read("traefik.http.routers.w.rulesyntax=v4")).reason
        self.assertIn("v3 or v2", nearest)

    def test_router_with_tls(self) -> None:
        """A router has TLS, with what it says of it, and never loses it to a slip."""
        for label, tls in (
            ("tls=true", RouterTLS()),
            ("tls.options=strict@file", RouterTLS(options="strict@file")),
            ("tls.certresolver=le", RouterTLS(cert_resolver="le")),
            ("tls.domains[0].main=a", RouterTLS(domains=(Domain(main="a"),))),
            ("tls.domains[0].sans=a,b", RouterTLS(domains=(Domain(sans=("a", "b")),))),
            ("tls=false", None),
        ):
            labelled = read("traefik.http.routers.web.rule=Path(`/a`)", f"traefik.http.routers.web.{label}")
            self.assertEqual((labelled.routers["web"].tls, labelled.problems), (tls, ()))
        labelled = read("traefik.http.routers.web.rule=Path(`/a`)", "traefik.http.routers.web.tls.optoins=strict")
        self.assertEqual(self.problem(labelled).nearest, "options")
        self.assertEqual(labelled.routers["web"].tls, RouterTLS())
        self.assertTrue(labelled.routers["web"].fault)

    def test_certificates(self) -> None:
        """Labels have no certificates, and say so."""
        labelled = read("traefik.tls.stores.default.defaultgeneratedcert.resolver=le")
        self.assertIn("does not have", self.problem(labelled).reason)

    def test_options_that_can_be_done_without(self) -> None:
        """What swarmgate lacks without harm is told, and the rest works."""
        labelled = read(
            "traefik.http.routers.web.rule=Path(`/a`)",
            "traefik.http.services.s.loadbalancer.server.port=80",
            "traefik.http.services.s.loadbalancer.server.preservepath=true",
            "traefik.http.services.s.loadbalancer.responseforwarding.flushinterval=1s",
        )
        self.assertEqual(labelled.routers["web"].fault, "")
        self.assertEqual(labelled.services["s"], LabelledService("s", 80))
        self.assertEqual(len(labelled.problems), 2)
        for problem in labelled.problems:
            self.assertIn("does not have yet", problem.reason)

    def test_observability(self) -> None:
        """What is told of a router's requests can be said in part; a misspelt option is named."""
        start = "traefik.http.routers.web."
        labelled = read(
            f"{start}rule=Path(`/a`)",
            f"{start}observability.accesslogs=false",
            f"{start}observability.metrics=true",
            f"{start}observability.traceverbosity=detailed",
        )
        self.assertEqual(labelled.problems, ())
        self.assertEqual(
            labelled.routers["web"].observability,
            Observability(access_logs=False, metrics=True, trace_verbosity="detailed"),
        )
        labelled = read(f"{start}rule=Path(`/a`)", f"{start}observability.acceslogs=false")
        self.assertEqual(self.problem(labelled).nearest, "accessLogs")

    def test_balancing(self) -> None:
        """All that can be said of how a service's tasks are used is read, spelled as Traefik spells it."""
        start = "traefik.http.services.s.loadbalancer."
        options = {
            "sticky.cookie": "true",
            "sticky.cookie.name": "my cookie",
            "sticky.cookie.secure": "true",
            "sticky.cookie.httponly": "true",
            "sticky.cookie.samesite": "lax",
            "sticky.cookie.maxage": "60",
            "sticky.cookie.path": "/a",
            "sticky.cookie.domain": "a.example",
            "healthcheck.path": "up?x=1",
            "healthcheck.mode": "grpc",
            "healthcheck.scheme": "https",
            "healthcheck.port": "81",
            "healthcheck.hostname": "h.example",
            "healthcheck.method": "head",
            "healthcheck.status": "204",
            "healthcheck.followredirects": "false",
            "healthcheck.headers.X-One": "1",
            "healthcheck.interval": "10s",
            "healthcheck.unhealthyinterval": "500ms",
            "healthcheck.timeout": "2",
            "passivehealthcheck.failurewindow": "20s",
            "passivehealthcheck.maxfailedattempts": "3",
            "strategy": "p2c",
            "passhostheader": "false",
            "waitforserver": "1m",
            "slowstart": "30s",
        }
        labelled = read(*(f"{start}{name}={value}" for name, value in options.items()))
        self.assertEqual(labelled.problems, ())
        self.assertEqual(
            labelled.services["s"].balancing,
            Balancing(
                False,
                "p2c",
                StickyCookie("my_cookie", True, True, "lax", 60, "/a", "a.example"),
                HealthCheck(
                    "/up?x=1", "grpc", "https", 81, "h.example", "HEAD", 204, False, (("X-One", "1"),), 10.0, 0.5, 2.0
                ),
                PassiveHealthCheck(20.0, 3),
                60.0,
                30.0,
            ),
        )
        for label, part in (
            ("healthcheck.path=http://10.0.0.1/up", "without scheme and host"),
            ("strategy=random", "wrr"),
            ("sticky.cookie.samesite=maybe", "lax"),
            ("passivehealthcheck.maxfailedattempts=0", "at least 1"),
            ("sticky.cookie.path=/\r\nX: y", "without semicolons and line ends"),
            ("sticky.cookie.domain=a; b", "without semicolons and line ends"),
        ):
            self.assertIn(part, self.problem(read(f"{start}{label}")).reason)

    def test_wrong_service(self) -> None:
        """A service with a fault is dropped, its neighbours are not."""
        for label, value, part in (
            ("server.port", "0", "from 1 to 65535"),
            ("server.port", "http", "a whole number"),
            ("server.prot", "80", "unknown option"),
            ("server.scheme", "ftp", "http, https or h2c"),
            ("server.url", "ftp://10.0.0.1", "begins with http://"),
            ("server.url", "http://10.0.0.1/path", "without a path"),
            ("passhostheader", "maybe", "true or false"),
        ):
            labelled = read(
                f"traefik.http.services.s.loadbalancer.{label}={value}",
                "traefik.http.services.t.loadbalancer.server.port=80",
            )
            self.assertEqual((set(labelled.services), labelled.dropped_services), ({"t"}, ("s",)))
            problem = self.problem(labelled)
            self.assertEqual((problem.subject, problem.value), ("service s@swarm", value))
            self.assertIn(part, problem.reason)

    def test_service_made_of_others(self) -> None:
        """A service can be made of others, whose weights and so on are as in files."""
        labelled = read(
            "traefik.http.services.a.weighted.services[0].name=old",
            "traefik.http.services.a.weighted.services[0].weight=90",
            "traefik.http.services.a.weighted.services[1].name=new@swarm",
            "traefik.http.services.a.weighted.sticky.cookie.name=release",
            "traefik.http.services.b.highestrandomweight.services[0].name=old",
            "traefik.http.services.c.failover.service=old",
            "traefik.http.services.c.failover.fallback=new",
            "traefik.http.services.c.failover.errors.status=500-599",
            "traefik.http.services.d.mirroring.service=old",
            "traefik.http.services.d.mirroring.mirrors[0].name=new",
            "traefik.http.services.d.mirroring.mirrors[0].percent=10",
            "traefik.http.services.new.loadbalancer.server.port=80",
        )
        self.assertEqual(labelled.problems, ())
        self.assertEqual(
            {name: one.composition for name, one in labelled.services.items()},
            {
                "a": Weighted((Child("old", 90), Child("new@swarm")), StickyCookie("release")),
                "b": HighestRandomWeight((Child("old"),)),
                "c": Failover("old", "new", (StatusRange(500, 599),)),
                "d": Mirroring("old", (Mirror("new", 10),)),
                "new": None,
            },
        )

    def test_service_of_two_kinds(self) -> None:
        """A service that has servers is not made of others; one that lacks what it needs is told of."""
        for label, part in (
            ("traefik.http.services.s.weighted.services[0].name=a", "one, and a name for each"),
            ("traefik.http.services.s.failover.service=a", "traefik.http.services.s.failover.fallback: missing"),
            ("traefik.http.services.s.weighted.services[0].wieght=a", "did you mean weight?"),
        ):
            server = ["traefik.http.services.s.loadbalancer.server.port=80"] * ("weighted.services[0].name" in label)
            labelled = read(label, *server, "traefik.http.services.t.loadbalancer.server.port=80")
            self.assertEqual((set(labelled.services), labelled.dropped_services), ({"t"}, ("s",)))
            self.assertIn(part, "\n".join(map(str, labelled.problems)))

    def test_url_and_port(self) -> None:
        """A server's URL excludes a port beside it."""
        labelled = read(
            "traefik.http.services.s.loadbalancer.server.port=80",
            "traefik.http.services.s.loadbalancer.server.url=http://a",
        )
        problem = self.problem(labelled)
        self.assertEqual((problem.key, problem.value), ("traefik.http.services.s.loadbalancer.server.url", "http://a"))
        self.assertEqual(labelled.dropped_services, ("s",))

    def test_middlewares_bound_to_a_service(self) -> None:
        """A service that is to be protected is not served unprotected."""
        labelled = read(
            "traefik.http.services.s.middlewares=auth", "traefik.http.services.s.loadbalancer.server.port=1"
        )
        self.assertEqual(labelled.dropped_services, ("s",))

    def test_wrong_middleware(self) -> None:
        """A middleware that can't be is missing, so that what names it is shut; others are there."""
        for label, part, nearest in (
            ("m.forwardauth.address=http://x", "Traefik's that swarmgate does not have yet", ""),
            ("m.plugin.waf.level=1", "Traefik's that swarmgate does not have yet", ""),
            ("m.ratelimt.average=5", "unknown kind", "rateLimit"),
            ("m.ratelimit.averag=5", "unknown option", "average"),
            ("m.ratelimit.average=x", "a whole number", ""),
            ("m.ratelimit=false", "switched off", ""),
            ("m=true", "an option after the name", ""),
        ):
            labelled = read(f"traefik.http.middlewares.{label}", "traefik.http.middlewares.n.ratelimit.average=5")
            self.assertEqual(set(labelled.middlewares), {"n"}, label)
            problem = self.problem(labelled)
            self.assertEqual((problem.subject, problem.nearest), ("middleware m@swarm", nearest))
            self.assertIn(part, problem.reason)
        both = read("traefik.http.middlewares.m.ratelimit.average=5", "traefik.http.middlewares.m.headers.x=5")
        self.assertIn("several kinds", self.problem(both).reason)

    def test_secrets_are_not_repeated(self) -> None:
        """What may be a password is in no message."""
        for labels in (
            ("traefik.http.middlewares.m.ratelimit.users.x=geheim",),
            ("traefik.http.middlewares.m.ratelimit.user=geheim",),
            ("traefik.http.middlewares.m.basicauth.users=geheim",),
            ("swarmgate.http.middlewares.m.ratelimit.users=a", "traefik.http.middlewares.m.ratelimit.users=geheim"),
            ("traefik.http.middlewares.m.ratelimit.users=a", "swarmgate.http.middlewares.m.ratelimit.users=geheim"),
        ):
            labelled = read(*labels)
            self.assertNotIn("geheim", str(self.problem(labelled)))

    def test_switches(self) -> None:
        """A service whose enable label can't be read is not exposed, to be on the safe side."""
        labelled = read("traefik.enable=ture")
        self.assertIs(labelled.enable, False)
        self.assertEqual((self.problem(labelled).nearest, self.problem(labelled).value), ("true", "ture"))
        labelled = read("traefik.swarm.lbswarm=yes")
        self.assertIsNone(labelled.lbswarm)
        self.assertIn("true or false", self.problem(labelled).reason)

    def test_other_labels(self) -> None:
        """TCP, UDP and TLS are told once for each router; slips are told with what was meant."""
        labelled = read(
            "traefik.tcp.routers.db.rule=HostSNI(`*`)",
            "traefik.tcp.routers.db.entrypoints=db",
            "traefik.udp.services.dns.loadbalancer.server.port=53",
            "traefik.tls.stores.default.defaultgeneratedcert.resolver=le",
        )
        subjects = [problem.subject for problem in labelled.problems]
        self.assertEqual(sorted(subjects), ["tcp router db", "tls", "udp service dns"])
        for label, nearest in {
            "traefik.enabled": "enable",
            "traefik.htp.routers.x.rule": "http",
            "traefik.http.router.x.rule": "routers",
            "traefik.swarm.netwrok": "network",
        }.items():
            self.assertEqual(self.problem(read(f"{label}=x")).nearest, nearest, label)

    def test_broken_names(self) -> None:
        """Labels with empty names or none are told of."""
        for label in ("traefik.http.routers..rule", "traefik.http.routers", "traefik.http.routers.web"):
            self.assertTrue(self.problem(read(f"{label}=x")).reason)
        labelled = read("traefik.http.routers.web..rule=x", "traefik.http.routers.web.rule=Path(`/`)")
        self.assertEqual((labelled.routers["web"].rule, bool(labelled.routers["web"].fault)), ("Path(`/`)", True))
        deep = "traefik.http.routers.web." + ".".join("a" * 1000)
        self.assertTrue(read(f"{deep}=x").routers["web"].fault)

    _names = st.lists(
        st.sampled_from(["http", "routers", "services", "middlewares", "web", "rule", "loadbalancer", "server", "port"])
        | st.sampled_from(["ratelimit", "average", "sources[0]", "tls", "sticky", "enable", "swarm", "", "[", "a b"]),
        max_size=7,
    )

    @settings(max_examples=200, deadline=None)
    @given(st.dictionaries(_names.map(".".join), st.sampled_from(["", "true", "x", "80", "a,b"]), max_size=6))
    def test_any_labels(self, labels: dict[str, str]) -> None:
        """Whatever labels a stranger gives a service, the gate goes on and gives reasons."""
        labelled = decode({f"traefik.{key}": value for key, value in labels.items()}, ("traefik",), KINDS, ORIGIN)
        for problem in labelled.problems:
            self.assertTrue(problem.reason)
        for router in labelled.routers.values():
            self.assertTrue(not router.fault or labelled.problems)
