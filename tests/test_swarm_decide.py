"""Tests for swarmgate.providers.swarm.decide: what a snapshot means."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.composition import Child, Weighted
from swarmgate.dynamic.model import Configuration, Server
from swarmgate.dynamic.rules import RuleError
from swarmgate.middlewares import KINDS
from swarmgate.providers.swarm.decide import Decision, Options, decide, own_networks
from swarmgate.providers.swarm.snapshot import Port
from swarmgate.testing import network, node, service, snapshot, task

PORT = "traefik.http.services.{}.loadbalancer.server.port"
GOLF = frozenset({"net-golf"})


def labels(name: str = "web", port: int | None = 80, rule: str = "", **more: str) -> dict[str, str]:
    """Return labels for a router and a service of one name; ``a__b`` in a keyword stands for ``traefik.a.b``."""
    found = {f"traefik.{key.replace('__', '.')}": value for key, value in more.items()}
    if port is not None:
        found[PORT.format(name)] = str(port)
    if rule:
        found[f"traefik.http.routers.{name}.rule"] = rule
    return found


class DecideCase(SynchronousTestCase):
    """A test of one snapshot, decided on with the middlewares that there are."""

    def decide(self, *parts: Any, own: frozenset[str] | None = GOLF, **options: Any) -> Configuration:
        """Return the configuration of these parts."""
        return decide(snapshot(*parts), Options(kinds=KINDS, **options), own).configuration

    def urls(self, configuration: Configuration, name: str = "web") -> list[str]:
        """Return the servers of a service."""
        return [server.url for server in configuration.services[name].servers]

    def the_problem(self, configuration: Configuration) -> str:
        """Return the only problem."""
        self.assertEqual(1, len(configuration.problems), configuration.problems)
        return str(configuration.problems[0])


class ExposureTests(DecideCase):
    """Which services are routed."""

    def test_exposed_by_default(self) -> None:
        """Without an enable label the option decides; with one the label does."""
        for default in (True, False):
            for label, exposed in ((None, default), ("true", True), ("false", False)):
                given_labels = labels() if label is None else labels(enable=label)
                found = self.decide(service("web", given_labels), exposed_by_default=default)
                self.assertEqual(exposed, bool(found.routers), (default, label))

    def test_not_exposed_not_told(self) -> None:
        """What is wrong with a service that nobody wants to be routed is no problem."""
        self.assertEqual(Configuration(), self.decide(service("web", {}), exposed_by_default=False))

    def test_constraints(self) -> None:
        """Only services whose labels satisfy the constraints are routed."""
        configuration = self.decide(
            service("web", {**labels(), "stage": "prod"}),
            service("api", labels("api")),
            constraints="Label(`stage`,`prod`)",
        )
        self.assertEqual(["web"], list(configuration.routers))

    def test_wrong_options(self) -> None:
        """A template or an expression that can't be understood is refused before it decides anything."""
        self.assertRaises(RuleError, Options, constraints="Label(`a`")
        self.assertRaises(RuleError, Options, default_rule="{{ nothing }}")


class ComposedTests(DecideCase):
    """Services that are made of others."""

    def canary(self, share: int, name: str = "next") -> dict[str, str]:
        """Return the labels of a new release that gets such a share."""
        return {
            **labels(name),
            "traefik.http.routers.canary.rule": "Host(`shop.example`)",
            "traefik.http.routers.canary.service": "canary",
            "traefik.http.routers.canary.priority": "1000",
            "traefik.http.services.canary.weighted.services[0].name": "shop",
            "traefik.http.services.canary.weighted.services[1].name": "next",
            "traefik.http.services.canary.weighted.services[1].weight": str(share),
        }

    def test_canary(self) -> None:
        """A service that is made of others has no servers, and is no matter of networks and ports."""
        shop = service("shop", labels("shop", rule="Host(`shop.example`)"))
        configuration = self.decide(shop, service("next", self.canary(9)), task("shop"), task("next"))
        self.assertEqual((), configuration.problems)
        made = configuration.services["canary"]
        self.assertEqual((Weighted((Child("shop"), Child("next", 9))), ()), (made.composition, made.servers))
        self.assertEqual(["canary", "shop"], sorted(configuration.routers))

    def test_without_servers(self) -> None:
        """A service may have labels of such a service alone: its own tasks are then not routed to."""
        found = {name: value for name, value in self.canary(9).items() if name != PORT.format("next")}
        configuration = self.decide(service("whole", found, networks=()), task("whole"))
        self.assertEqual((["canary"], ()), (list(configuration.services), configuration.problems))

    def test_same_twice(self) -> None:
        """Two services may say the same of it; of two different ones that of the older service is in force."""
        one = service("one", self.canary(9), created=1)
        for share, problems in ((9, 0), (8, 3)):
            two = service("two", self.canary(share, "two"), created=2)
            configuration = self.decide(one, two)
            self.assertEqual(Weighted((Child("shop"), Child("next", 9))), configuration.services["canary"].composition)
            self.assertEqual(problems, len(configuration.problems), configuration.problems)


class DefaultTests(DecideCase):
    """What need not be written."""

    def test_names(self) -> None:
        """A service that only says its port gets a router and a service by its own name, and the default rule."""
        name = "traefik.http.services.shop-web.loadbalancer.server.port"
        configuration = self.decide(service("shop_web", {name: "80"}), task("shop_web"))
        self.assertEqual(("Host(`shop-web`)", "shop-web"), attrs.astuple(configuration.routers["shop-web"])[1:3])
        self.assertEqual(["http://10.0.0.1:80"], self.urls(configuration, "shop-web"))

    def test_rule(self) -> None:
        """The default rule is a template over the service's name and labels."""
        configuration = self.decide(
            service("shop_web", {"domain": "example"}, ports=[80]),
            default_rule='Host(`{{ normalize .Name }}.{{ index .Labels "domain" }}`)',
        )
        self.assertEqual("Host(`shop-web.example`)", configuration.routers["shop-web"].rule)

    def test_no_rule(self) -> None:
        """Where the default rule comes to nothing there is no router, and that is told."""
        configuration = self.decide(service("web", labels()), default_rule="{{ index .Labels `rule` }}")
        self.assertEqual({}, configuration.routers)
        self.assertIn("comes to nothing", self.the_problem(configuration))

    def test_only_service(self) -> None:
        """A router that names no service leads to the only one there is."""
        configuration = self.decide(service("shop", labels("bank", rule="") | labels("web", None, "Host(`a`)")))
        self.assertEqual("bank", configuration.routers["web"].service)

    def test_several_services(self) -> None:
        """A router that names none of several services takes its requests, leads nowhere, and is told of."""
        configuration = self.decide(
            service("web", {**labels("one"), **labels("two"), **labels("web", None, "Host(`a`)")})
        )
        self.assertIn("one, two", configuration.routers["web"].fault)
        self.assertIn("traefik.http.routers.web.service", self.the_problem(configuration))

    def test_elsewhere(self) -> None:
        """A service whose routers all lead elsewhere needs no port of its own."""
        given_labels = labels("dash", None, "Host(`a`)", http__routers__dash__service="ping@internal")
        configuration = self.decide(service("gate", given_labels), task("gate"))
        self.assertEqual(({}, ()), (configuration.services, configuration.problems))
        self.assertEqual("ping@internal", configuration.routers["dash"].service)

    def test_other_protocols(self) -> None:
        """A service that only has labels for TCP gets no HTTP router."""
        configuration = self.decide(service("db", {"traefik.tcp.routers.db.rule": "HostSNI(`*`)"}, ports=[5432]))
        self.assertEqual({}, configuration.routers)

    def test_wrong_service(self) -> None:
        """Where the labels of its service are wrong, a router is kept with that fault, and no service made up."""
        configuration = self.decide(
            service("web", {**labels("web", None, "Host(`a`)"), PORT.format("web"): "eighty"}, ports=[80]), task("web")
        )
        self.assertEqual({}, configuration.services)
        self.assertIn("web", configuration.routers["web"].fault)
        self.assertIn("eighty", self.the_problem(configuration))

    def test_prefixes(self) -> None:
        """The same labels under either prefix mean the same."""
        old = {**labels(rule="Host(`a`)"), "traefik.enable": "true"}
        new = {key.replace("traefik.", "swarmgate."): value for key, value in old.items()}
        self.assertEqual(self.decide(service("web", old)).routers, self.decide(service("web", new)).routers)


class ServerTests(DecideCase):
    """Where requests can be sent."""

    def test_running(self) -> None:
        """Only tasks that run are servers, each with its task's and its node's name, in the order of their slots."""
        configuration = self.decide(
            service("shop_web", labels("web")),
            task("shop_web", 2, on="n2"),
            task("shop_web", 1, on="n1"),
            task("shop_web", 3, state="starting"),
            task("shop_web", 4, state="failed"),
            node("n1"),
            node("n2"),
        )
        self.assertEqual(
            (
                Server("http://10.0.0.1:80", 1, "shop_web.1", "n1"),
                Server("http://10.0.0.2:80", 1, "shop_web.2", "n2"),
            ),
            configuration.services["web"].servers,
        )

    def test_global_service(self) -> None:
        """A task without a slot is called by its node."""
        configuration = self.decide(service("web", labels(), replicas=None), task("web", 0, "10.0.0.9", on="n1"))
        self.assertEqual("web.n1", configuration.services["web"].servers[0].task)

    def test_no_task(self) -> None:
        """A service without a running task keeps its router; it has no servers, and nothing is wrong."""
        configuration = self.decide(service("web", labels()))
        self.assertEqual(
            (["web"], [], ()), (list(configuration.routers), self.urls(configuration), configuration.problems)
        )

    def test_ipv6(self) -> None:
        """IPv6 addresses are in brackets."""
        configuration = self.decide(service("web", labels()), task("web", 1, "fd00::5"))
        self.assertEqual(["http://[fd00::5]:80"], self.urls(configuration))

    def test_several_services(self) -> None:
        """Services of one Swarm service can have different ports."""
        configuration = self.decide(
            service(
                "app",
                {
                    **labels("web"),
                    **labels("admin", 9000),
                    **labels("web", None, "Host(`a`)"),
                    **labels("admin", None, "Host(`b`)"),
                    "traefik.http.routers.web.service": "web",
                    "traefik.http.routers.admin.service": "admin",
                },
            ),
            task("app"),
        )
        self.assertEqual(["http://10.0.0.1:80"], self.urls(configuration, "web"))
        self.assertEqual(["http://10.0.0.1:9000"], self.urls(configuration, "admin"))

    def test_url(self) -> None:
        """A URL in the labels is the server, whatever tasks, ports and networks there are."""
        url = "traefik.http.services.web.loadbalancer.server.url"
        configuration = self.decide(service("web", {url: "http://192.0.2.1:8080"}, networks=[]))
        self.assertEqual(["http://192.0.2.1:8080"], self.urls(configuration))

    def test_settings(self) -> None:
        """What the labels say about the service is in it."""
        given_labels = {
            **labels(),
            "traefik.http.services.web.loadbalancer.passhostheader": "false",
            "traefik.http.services.web.loadbalancer.server.weight": "3",
        }
        found = self.decide(service("web", given_labels), task("web")).services["web"]
        self.assertEqual((False, 3), (found.balancing.pass_host_header, found.servers[0].weight))

    def test_virtual_address(self) -> None:
        """With lbswarm the service's virtual address in that network is the one server, as long as a task runs."""
        web = service("web", labels(swarm__lbswarm="true"), vips={"golf": "10.0.0.100", "other": "10.1.0.100"})
        self.assertEqual(["http://10.0.0.100:80"], self.urls(self.decide(web, task("web", 1), task("web", 2))))
        self.assertEqual([], self.urls(self.decide(web)))

    def test_no_virtual_address(self) -> None:
        """A service without virtual address that asks for it is reached by its tasks, and told of."""
        web = service("web", labels(docker__lbswarm="true"), endpoint_mode="dnsrr")
        configuration = self.decide(web, task("web"))
        self.assertEqual(["http://10.0.0.1:80"], self.urls(configuration))
        self.assertIn("lbswarm", self.the_problem(configuration))


class PortTests(DecideCase):
    """Which port tasks are reached on."""

    def test_published(self) -> None:
        """Without a label it is the only port that the service publishes, as the container has it."""
        ports = [Port(8083, 80, "ingress"), Port(8083, 8080, "host"), Port(53, 53, "host", "udp")]
        self.assertEqual(["http://10.0.0.1:8083"], self.urls(self.decide(service("web", ports=ports), task("web"))))

    def test_label_first(self) -> None:
        """A label wins over what is published."""
        self.assertEqual(
            ["http://10.0.0.1:80"], self.urls(self.decide(service("web", labels(), ports=[8083]), task("web")))
        )

    def test_unknown(self) -> None:
        """With neither, the label that is missing is named; the router is kept."""
        configuration = self.decide(service("web"), task("web"))
        self.assertEqual((["web"], []), (list(configuration.routers), self.urls(configuration)))
        self.assertIn("swarmgate.http.services.web.loadbalancer.server.port", self.the_problem(configuration))

    def test_several(self) -> None:
        """Of several ports none is picked."""
        configuration = self.decide(service("web", {"traefik.enable": "true"}, ports=[80, 443]), task("web"))
        self.assertEqual([], self.urls(configuration))
        problem = self.the_problem(configuration)
        self.assertIn("443, 80", problem)
        self.assertIn("traefik.http.services.web.loadbalancer.server.port", problem)


class NetworkTests(DecideCase):
    """Which network tasks are reached on."""

    networks = (network("golf"), network("other"), network("shop_back"), network("ingress", ingress=True))
    addresses = {"golf": "10.0.0.1", "other": "10.1.0.1", "shop_back": "10.2.0.1", "ingress": "10.3.0.1"}

    def on(self, *names: str, label: str = "", own: Any = GOLF, **options: Any) -> Configuration:
        """Return the configuration of a service with a task that is on these networks."""
        given_labels = labels(swarm__network=label) if label else labels()
        given_labels["com.docker.stack.namespace"] = "shop"
        addresses = {name: self.addresses[name] for name in names}
        # The mesh's network is on a task, but not in what its service asks for.
        wanted = [name for name in names if name != "ingress"]
        parts = (
            service("shop_web", given_labels, networks=wanted),
            task("shop_web", networks=addresses),
            *self.networks,
        )
        return self.decide(*parts, own=own, **options)

    def test_label(self) -> None:
        """A label decides, whatever the gate is on."""
        for own in (GOLF, None, frozenset({"net-golf", "net-other"})):
            self.assertEqual(["http://10.1.0.1:80"], self.urls(self.on("golf", "other", label="other", own=own)))

    def test_old_label(self) -> None:
        """Traefik v2's label is understood as well."""
        web = service("web", labels(docker__network="other"), networks=["golf", "other"])
        found = self.decide(web, task("web", networks=self.addresses), *self.networks)
        self.assertEqual(["http://10.1.0.1:80"], self.urls(found))

    def test_label_of_stack(self) -> None:
        """A network of the service's own stack can be called as the stack file calls it."""
        self.assertEqual(["http://10.2.0.1:80"], self.urls(self.on("golf", "shop_back", label="back")))

    def test_configured(self) -> None:
        """Without a label it is the configured one."""
        own = frozenset({"net-golf", "net-other"})
        self.assertEqual(["http://10.1.0.1:80"], self.urls(self.on("golf", "other", network="other", own=own)))

    def test_configured_but_not_on_it(self) -> None:
        """A service that is not on the configured network is reached on the only one that it shares with the gate."""
        self.assertEqual(["http://10.0.0.1:80"], self.urls(self.on("golf", network="other")))

    def test_shared(self) -> None:
        """With neither it is the only one that is shared with the gate, and never the mesh's."""
        own = frozenset({"net-other", "net-ingress"})
        self.assertEqual(["http://10.1.0.1:80"], self.urls(self.on("ingress", "golf", "other", own=own)))

    def test_shared_several(self) -> None:
        """If several are shared none is picked; they are named, and the label that helps."""
        configuration = self.on("golf", "other", own=frozenset({"net-golf", "net-other"}))
        self.assertEqual([], self.urls(configuration))
        problem = self.the_problem(configuration)
        self.assertIn("golf, other", problem)
        self.assertIn("swarmgate.swarm.network", problem)

    def test_none_shared(self) -> None:
        """If none is shared, the command that mends it is printed."""
        configuration = self.on("other")
        self.assertEqual((["web"], []), (list(configuration.services), self.urls(configuration)))
        problem = self.the_problem(configuration)
        self.assertIn("it is on other, the gate on golf", problem)
        self.assertIn("docker service update --network-add golf shop_web", problem)

    def test_unknown_gate(self) -> None:
        """A gate that does not know its own networks takes the only one that the service has, and none of several."""
        self.assertEqual(["http://10.1.0.1:80"], self.urls(self.on("ingress", "other", own=None)))
        configuration = self.on("golf", "other", own=None)
        self.assertEqual([], self.urls(configuration))
        self.assertIn("golf, other", self.the_problem(configuration))

    def test_only_mesh(self) -> None:
        """A service that is only on the mesh's network can't be reached, and is told how it can be."""
        for own in (GOLF, None):
            configuration = self.on("ingress", own=own)
            self.assertEqual([], self.urls(configuration))
            self.assertIn("docker service update --network-add", self.the_problem(configuration))

    def test_mesh_by_label(self) -> None:
        """Not even a label makes the mesh's network be used."""
        configuration = self.on("golf", "ingress", label="ingress")
        self.assertEqual([], self.urls(configuration))
        self.assertIn("routing mesh", self.the_problem(configuration))

    def test_host_network(self) -> None:
        """A service on the host's network is on no network that is known, and that is told."""
        web = service("web", labels(), networks=["host"])
        configuration = self.decide(web, task("web", networks={}), own=None)
        self.assertIn("on no overlay network", self.the_problem(configuration))

    def test_label_not_attached(self) -> None:
        """A label that names a network which the service is not on is told with the command that mends it."""
        configuration = self.on("golf", label="other")
        self.assertEqual([], self.urls(configuration))
        problem = self.the_problem(configuration)
        self.assertIn("docker service update --network-add other shop_web", problem)
        self.assertIn("traefik.swarm.network=other", problem)

    def test_label_unknown(self) -> None:
        """A label that names a network which does not exist is told with the nearest one that does."""
        self.assertIn("did you mean golf?", self.the_problem(self.on("golf", label="gulf")))
        web = service("web", labels(swarm__network="back"), networks=["shop_back"])
        self.assertIn("did you mean shop_back?", self.the_problem(self.decide(web, *self.networks)))

    def test_task_not_there_yet(self) -> None:
        """While an update adds a network, tasks that are not on it yet are no servers."""
        web = service("web", labels(swarm__network="other"), networks=["golf", "other"])
        old, new = task("web", 1, networks={"golf": "10.0.0.1"}), task("web", 2, networks={"other": "10.1.0.2"})
        self.assertEqual(["http://10.1.0.2:80"], self.urls(self.decide(web, old, new, *self.networks)))


class ConflictTests(DecideCase):
    """Two services that claim one name."""

    def test_router(self) -> None:
        """The older service keeps a router's name, the younger gets a problem, in whichever order they are told of."""
        old = service("zulu", {**labels("web", rule="Host(`old`)")}, created=1)
        new = service("alpha", {**labels("bank"), "traefik.http.routers.web.rule": "Host(`new`)"}, created=2)
        configuration = self.decide(new, old)
        self.assertEqual("Host(`old`)", configuration.routers["web"].rule)
        problem = self.the_problem(configuration)
        self.assertIn("router web@swarm", problem)
        self.assertIn("service alpha", problem)
        self.assertIn("older service zulu", problem)

    def test_same_age(self) -> None:
        """Of two services of one age the one with the lesser id is taken for the older."""
        one = service("one", labels("one") | labels("web", None, "Host(`one`)"), id="b")
        two = service("two", labels("two") | labels("web", None, "Host(`two`)"), id="a")
        self.assertEqual("Host(`two`)", self.decide(one, two).routers["web"].rule)

    def test_equal(self) -> None:
        """Equal definitions are one, and the servers of all are used: one service in two stacks."""
        one = service("one", labels("web", rule="Host(`a`)"), created=1)
        two = service("two", labels("web", rule="Host(`a`)"), created=2)
        configuration = self.decide(one, two, task(one, 1), task(two, 2), task(two, 1, "10.0.0.1", id="again"))
        self.assertEqual((), configuration.problems)
        self.assertEqual(["http://10.0.0.1:80", "http://10.0.0.2:80"], self.urls(configuration))

    def test_service(self) -> None:
        """A router never leads to another service than its own because that has the name: it gets a fault instead."""
        host = "traefik.http.services.web.loadbalancer.passhostheader"
        one = service("one", {**labels("web", rule="Host(`one`)"), host: "false"}, created=1)
        two = service("two", {**labels("web"), "traefik.http.routers.two.rule": "Host(`two`)"}, created=2)
        configuration = self.decide(one, two, task(one, 1), task(two, 2))
        self.assertEqual(["http://10.0.0.1:80"], self.urls(configuration))
        self.assertEqual("", configuration.routers["web"].fault)
        self.assertIn("web", configuration.routers["two"].fault)
        self.assertEqual(2, len(configuration.problems))

    def test_middleware(self) -> None:
        """A router is never guarded by another service's middleware of the same name: it gets a fault instead."""

        def guarded(name: str, average: str, created: int) -> Any:
            return service(
                name,
                {
                    **labels(name, rule=f"Host(`{name}`)"),
                    f"traefik.http.routers.{name}.middlewares": "limit",
                    "traefik.http.middlewares.limit.ratelimit.average": average,
                },
                created=created,
            )

        configuration = self.decide(guarded("one", "1", 1), guarded("two", "2", 2), guarded("three", "1", 3))
        faults = {name: bool(router.fault) for name, router in configuration.routers.items()}
        self.assertEqual({"one": False, "two": True, "three": False}, faults)
        self.assertEqual(1, configuration.middlewares["limit"].settings.average)

    def test_wrong_label(self) -> None:
        """A wrong label of one service is its own problem, not its neighbours'."""
        good = service("good", labels("good", rule="Host(`good`)"))
        bad = service("bad", {**labels("bad", rule="Host(`bad`)"), "traefik.http.routers.bad.priority": "high"})
        configuration = self.decide(good, bad)
        self.assertEqual("", configuration.routers["good"].fault)
        self.assertIn("high", self.the_problem(configuration))


class PreviousTests(DecideCase):
    """What is built on the decision before."""

    def next(self, before: Decision, *parts: Any) -> Decision:
        """Return the decision about these parts that follows another."""
        return decide(snapshot(*parts), Options(kinds=KINDS), GOLF, before)

    def first(self, *parts: Any) -> Decision:
        """Return a decision that follows none."""
        return decide(snapshot(*parts), Options(kinds=KINDS), GOLF)

    def test_unchanged(self) -> None:
        """If nothing has changed that matters, the very same configuration comes of it."""
        before = self.first(service("web", labels()), task("web"), task("web", 2, state="preparing"))
        after = self.next(before, service("web", labels(), version=7), task("web"), task("web", 2, state="starting"))
        self.assertIs(before.configuration, after.configuration)

    def test_unreadable(self) -> None:
        """A service that can't be read keeps what it had, and that is told, once."""
        before = self.first(service("web", labels()), task("web"), service("api", labels("api")))
        broken = service("web", fault="KeyError: 'Spec'")
        after = self.next(before, broken, service("api", labels("api", 81)), task("api", 2))
        again = self.next(after, broken, service("api", labels("api", 81)), task("api", 2), task("api", 3))
        for found in (after.configuration, again.configuration):
            self.assertEqual(["http://10.0.0.1:80"], self.urls(found))
            self.assertIn("KeyError", self.the_problem(found))
            self.assertIn("http://10.0.0.2:81", self.urls(found, "api"))
        mended = self.next(again, service("web", labels()), task("web", 5))
        self.assertEqual((["http://10.0.0.5:80"], ()), (self.urls(mended.configuration), mended.configuration.problems))

    def test_task_unreadable(self) -> None:
        """A task that can't be read leaves its service as it was, too."""
        before = self.first(service("web", labels()), task("web"))
        after = self.next(before, service("web", labels()), task("web", 2, fault="?"))
        self.assertEqual(["http://10.0.0.1:80"], self.urls(after.configuration))

    def test_unreadable_from_the_beginning(self) -> None:
        """A service that could never be read is only told of."""
        configuration = self.first(service("web", fault="?")).configuration
        self.assertEqual({}, configuration.routers)
        self.assertIn("can't be read", self.the_problem(configuration))

    def test_removed(self) -> None:
        """A service that is gone is gone: nothing of it is kept."""
        before = self.first(service("web", labels()), task("web"))
        self.assertEqual(Configuration(), self.next(before).configuration)

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.booleans()), max_size=8))
    def test_path(self, history: list[tuple[str, int, bool]]) -> None:
        """Whatever was before, a decision is the same as without it."""
        before = self.first()
        world: dict[str, tuple[int, bool]] = {}
        for name, replicas, two_networks in history:
            world[name] = (replicas, two_networks)
            parts: list[Any] = []
            for each, (count, two) in world.items():
                networks = ["golf", "other"] if two else ["golf"]
                parts.append(service(each, labels("same", rule=f"Host(`{count}`)"), networks=networks))
                parts += [task(each, slot) for slot in range(1, count + 1)]
            before = self.next(before, *parts)
            self.assertEqual(self.first(*parts).configuration, before.configuration)


class OwnTests(DecideCase):
    """What the gate knows of itself."""

    def gate(self, *ports: Port) -> Any:
        own = task("gate", networks={"golf": "10.0.0.7", "ingress": "10.3.0.7"}, container="c0ffee" + "0" * 58)
        return snapshot(service("gate", ports=ports), own)

    def test_own_networks(self) -> None:
        """The gate's networks are those of the task that runs in its container, found by the beginning of its id."""
        self.assertEqual({"net-golf", "net-ingress"}, own_networks(self.gate(), "c0ffee"))
        self.assertIsNone(own_networks(self.gate(), "decaf"))
        self.assertIsNone(own_networks(self.gate(), ""))

    def test_ingress_mode(self) -> None:
        """A gate whose ports are published by the routing mesh hears of it, with the command that mends it."""
        (notice,) = decide(self.gate(Port(8000, 80)), Options(), GOLF, None, "c0ffee").notices
        self.assertIn("hides the addresses of clients", notice)
        command = "docker service update --publish-rm 8000 --publish-add published=80,target=8000,mode=host gate"
        self.assertIn(command, notice)

    def test_host_mode(self) -> None:
        """In host mode, or when it does not know itself, there is nothing to tell."""
        self.assertEqual((), decide(self.gate(Port(8000, 80, "host")), Options(), GOLF, None, "c0ffee").notices)
        self.assertEqual((), decide(self.gate(Port(8000, 80)), Options(), GOLF, None, "").notices)
