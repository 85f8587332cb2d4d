"""The API: what it shows, and what it keeps to itself."""

from __future__ import annotations

import functools
import json
import tempfile
import urllib.error
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
from jsonschema_rs import Draft202012Validator
from twisted.internet.defer import succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import NOT_DONE_YET
from twisted.web.test.requesthelper import DummyRequest

from swarmgate.api import views
from swarmgate.api.feed import Feed
from swarmgate.api.openapi import openapi
from swarmgate.api.operations import AUTHENTICATING, NotAllowed, Operations, authenticated
from swarmgate.api.resource import DOCUMENTS, LISTS, ApiLeaf, ApiResource, Recent, answer
from swarmgate.api.views import BadQuestion, Known
from swarmgate.config.load import load
from swarmgate.dynamic.file_format import decode_file
from swarmgate.dynamic.table import EntryPointFacts, compile_table
from swarmgate.dynamic.tls import Certificate
from swarmgate.http.exchange import Exchange
from swarmgate.middlewares import KINDS
from swarmgate.observe.summary import BOUNDS, InFlight, Meter
from swarmgate.observe.traffic import Traffic
from swarmgate.observe.turns import Turns
from swarmgate.providers.swarm.decide import Options
from swarmgate.providers.swarm.snapshot import UpdateStatus
from swarmgate.replicas.whole import Whole
from swarmgate.resources.bridge import ResourceLeaf
from swarmgate.testing import MemorySwarm, network, node, service, snapshot, task
from swarmgate.tls.certificates import read_certificate
from swarmgate.why import command
from swarmgate.why.services import World
from tests.exchanges import MemoryClient, client_of, exchange_of
from tests.pki import START, authority


@functools.cache
def certificate(name: str, days: int) -> Certificate:
    """A certificate that ends *days* after START."""
    pair = authority().issue(name, f"www.{name}", days=90, start=START)
    read = Certificate(*read_certificate(pair.chain, pair.key, f"{name}.crt"))
    return attrs.evolve(read, not_after=START.timestamp() + days * 86400)


def known() -> Known:
    """A gate with a router that is served, one that is not, and a middleware with a secret."""
    good = service(
        "web",
        {
            "traefik.http.routers.web.rule": "Host(`web.example`)",
            "traefik.http.routers.web.middlewares": "auth",
            "traefik.http.middlewares.auth.basicauth.users": "ann:$2y$05$SECRETHASH",
            "traefik.http.services.web.loadbalancer.server.port": "80",
        },
    )
    bad = service(
        "bad",
        {
            "traefik.http.routers.bad.rule": "Host(`bad.example`)",
            "traefik.http.routers.bad.middlewares": "nobody",
            "traefik.http.services.bad.loadbalancer.server.port": "80",
        },
    )
    down = ("web@swarm", "http://10.0.0.1:80")
    served = tuple(certificate(name, days) for name, days in (("c.example", 60), ("b.example", 5), ("a.example", 0)))
    world = World.of(snapshot(good, bad, task(good), task(good, 2)), Options(kinds=KINDS), {"web": EntryPointFacts()})
    table = attrs.evolve(world.table, tls=attrs.evolve(world.table.tls, certificates=served, default=served[0]))
    clock = Clock()
    traffic = Traffic(BOUNDS, now=clock.seconds)
    for status in (200, 200, 502):
        exchange = exchange_of()
        exchange.entry_point, exchange.service, exchange.server = "web", "web@swarm", "http://10.0.0.2:80"
        exchange.status, exchange.started = status, -0.25
        traffic.record(exchange)
    busy = InFlight({"web": 3}, {("web@swarm", "http://10.0.0.2:80"): 3})
    return Known(
        table,
        {"swarm": world.decision.configuration},
        {"web": ":80"},
        "1",
        {down: "its health check fails"},
        {"http://10.0.0.2:80": 3},
        world,
        traffic=lambda: (
            Whole(
                Meter(traffic, lambda: busy, clock.seconds, clock.seconds, Turns(clock)),
                None,
                clock.seconds,
                Turns(clock),
            ).told
        ),
    )


def get(path: str, **query: str) -> Any:
    status, value, _ = answer(path, {name: [one] for name, one in query.items()}, known())
    assert status == 200, value
    return json.loads(json.dumps(value))


class ViewTests(SynchronousTestCase):
    def test_router(self) -> None:
        """A router is shown with its status, its entry points and what is wrong with it."""
        self.assertEqual(get("/api/http/routers/web@swarm")["status"], "enabled")
        bad = get("/api/http/routers/bad@swarm")
        self.assertEqual((bad["status"], bad["using"]), ("disabled", ["web"]))
        self.assertIn("no such middleware", bad["error"][0])

    def test_service(self) -> None:
        """A service is shown with each server's state and the routers that lead to it."""
        web = get("/api/http/services/web@swarm")
        self.assertEqual(web["serverStatus"], {"http://10.0.0.1:80": "DOWN", "http://10.0.0.2:80": "UP"})
        self.assertEqual(web["usedBy"], ["web@swarm"])

    def test_no_secrets(self) -> None:
        """No answer has the users of a middleware in it."""
        for path in ("/api/http/middlewares", "/api/rawdata", "/api/http/middlewares/auth@swarm"):
            self.assertNotIn("SECRETHASH", json.dumps(get(path)))
        self.assertEqual(get("/api/http/middlewares/auth@swarm")["basicauth"]["users"], "redacted")

    def test_overview(self) -> None:
        """The overview counts what is wrong."""
        self.assertEqual(get("/api/overview")["http"]["routers"], {"total": 2, "warnings": 0, "errors": 1})

    def test_pages(self) -> None:
        """Lists come in pages, and can be searched."""
        status, items, next_page = answer("/api/http/routers", {"per_page": ["1"]}, known())
        self.assertEqual((status, len(items), next_page), (200, 1, 2))
        _, items, next_page = answer("/api/http/routers", {"per_page": ["1"], "page": ["2"]}, known())
        self.assertEqual((items[0]["name"], next_page), ("web@swarm", 1))
        self.assertEqual([one["name"] for one in get("/api/http/routers", search="bad.ex")], ["bad@swarm"])
        self.assertEqual([one["name"] for one in get("/api/http/routers", status="enabled")], ["web@swarm"])
        backwards = answer("/api/http/routers", {"sortBy": ["name"], "direction": ["desc"]}, known())[1]
        self.assertEqual([one["name"] for one in backwards], ["web@swarm", "bad@swarm"])
        self.assertRaises(BadQuestion, answer, "/api/http/routers", {"page": ["x"]}, known())

    def test_swarm(self) -> None:
        """Tasks are shown with their state, their addresses and the requests that they are answering."""
        (web,) = [one for one in get("/api/swarm")["services"] if one["name"] == "web"]
        self.assertEqual([one["inFlight"] for one in web["tasks"]], [0, 3])
        self.assertEqual(web["tasks"][0]["reason"], "its health check fails")
        self.assertEqual(web["tasks"][1]["networks"], {"golf": "10.0.0.2"})

    def test_traffic(self) -> None:
        """Entry points, services and tasks are shown with their requests, errors and how long they took."""
        told = get("/api/traffic")
        self.assertEqual(told["entryPoints"]["web"]["requests"], 3)
        server = told["servers"]["web@swarm"]["http://10.0.0.2:80"]
        self.assertEqual((server["requests"], server["errors"], server["inFlight"]), (3, 1, 3))
        place = next(index for index, bound in enumerate(told["bounds"]) if bound >= 0.25)
        self.assertEqual((server["counts"][place], sum(server["counts"])), (3, 3))
        self.assertEqual(len(server["counts"]), len(told["bounds"]) + 1)
        shown = get("/api/http/services/web@swarm")
        self.assertEqual((shown["requests"], shown["errors"]), (3, 1))
        self.assertNotIn("requests", get("/api/http/services/bad@swarm"))
        (web,) = [one for one in get("/api/swarm")["services"] if one["name"] == "web"]
        self.assertNotIn("requests", web["tasks"][0])
        self.assertEqual((web["tasks"][1]["requests"], web["tasks"][1]["errors"]), (3, 1))
        latency = web["tasks"][1]["latency"]
        self.assertTrue(0.2 < latency["p50"] <= latency["p95"] <= latency["p99"] <= 0.33, latency)

    def test_outdated_tasks(self) -> None:
        """Tasks of before a service's update are told from those of after it."""
        shop = service("shop", spec="new")
        world = World.of(
            snapshot(shop, task(shop, spec="old"), task(shop, 2, spec="new")),
            Options(kinds=KINDS),
            {"web": EntryPointFacts()},
        )
        (told,) = answer("/api/swarm", {}, attrs.evolve(known(), world=world))[1]["services"]
        self.assertEqual([True, False], [one["outdated"] for one in told["tasks"]])
        self.assertIsNone(told["update"])

    def test_update(self) -> None:
        """How far a service's update is is told in the engine's words, and who leads the Swarm."""
        shop = service("shop", update=UpdateStatus("updating", "update in progress", 2_500_000_000))
        leader = node("n1", role="manager", leader=True)
        world = World.of(snapshot(shop, leader), Options(kinds=KINDS), {"web": EntryPointFacts()})
        told = answer("/api/swarm", {}, attrs.evolve(known(), world=world))[1]
        expected = {"state": "updating", "message": "update in progress", "started": 2.5, "completed": 0.0}
        self.assertEqual(expected, told["services"][0]["update"])
        self.assertEqual(("manager", True), (told["nodes"][0]["role"], told["nodes"][0]["leader"]))

    def test_problems_of_services(self) -> None:
        """A Swarm service tells of labels that are misspelt; one that is well is silent."""
        wrong = {"trafik.enable": "true", "traefik.http.routers.shop.rulle": "Host(`shop.example`)"}
        shop, other = service("shop", wrong), service("other", {"com.docker.stack.namespace": "x"}, ports=[80])
        world = World.of(snapshot(shop, other), Options(kinds=KINDS), {"web": EntryPointFacts()})
        told = answer("/api/swarm", {}, attrs.evolve(known(), world=world))[1]["services"]
        problems = {one["name"]: " ".join(one["problems"]) for one in told}
        self.assertEqual("", problems["other"])
        self.assertIn("did you mean traefik.enable?", problems["shop"])
        self.assertIn("did you mean rule?", problems["shop"])

    def test_targets(self) -> None:
        """Prometheus is told of running tasks whose service has a port for it, and by names that people know."""
        stack = {"com.docker.stack.namespace": "shop"}
        shop = service("shop_web", {"prometheus.port": "9100", "prometheus.network": "back", **stack})
        mine = service("mine", {"prometheus.port": "80", "prometheus.path": "/m"})
        lost = service("lost", {"prometheus.port": "80", "prometheus.network": "back"})
        wrong = service("wrong", {"prometheus.port": "70000"})
        six = service("six", {"prometheus.port": "80", "prometheus.network": "shop_back", "prometheus.scheme": "https"})
        world = World.of(
            snapshot(
                *(shop, mine, lost, wrong, six, service("none"), network("golf"), network("shop_back"), node("n1")),
                *(task(shop, 3, state="starting"), task(lost, 8), task(wrong, 4), task("none", 5)),
                task(shop, 2, networks={"golf": "10.0.0.2", "shop_back": "10.0.9.2"}),
                task(mine, 6, networks={"shop_back": "10.0.9.6", "golf": "10.0.0.6"}),
                task(six, 0, networks={"golf": "10.0.0.7", "shop_back": "fd00::7"}),
            ),
            Options(),
            {},
            frozenset({"net-golf"}),
        )
        told = answer("/api/prometheus/targets", {}, attrs.evolve(known(), world=world))[1]
        labels = {"service": "shop_web", "task": "shop_web.2", "node": "n1", "stack": "shop", "slot": "2"}
        self.assertEqual(
            told,
            [
                {
                    "targets": ["10.0.0.6:80"],
                    "labels": {
                        "service": "mine",
                        "task": "mine.6",
                        "node": "n1",
                        "slot": "6",
                        "__metrics_path__": "/m",
                    },
                },
                {"targets": ["10.0.9.2:9100"], "labels": labels},
                {
                    "targets": ["[fd00::7]:80"],
                    "labels": {"service": "six", "task": "six.task-six-0", "node": "n1", "__scheme__": "https"},
                },
            ],
        )
        self.assertEqual(answer("/api/prometheus/targets", {}, attrs.evolve(known(), world=None))[1], [])

    def test_draining(self) -> None:
        """A task that finishes its last requests is told of as draining."""
        gone = ("web@swarm", "http://10.0.0.9:80", "web.9", "n1", 2)
        now = attrs.evolve(known(), draining=[gone])
        told = answer("/api/why", {"url": ["http://web.example/"]}, now)[1]
        (server,) = [one for one in told["answers"][0]["servers"] if one["task"] == "web.9"]
        self.assertEqual(server["reason"], "it is draining: it finishes 2 requests and gets no new ones")
        (web,) = [one for one in answer("/api/swarm", {}, now)[1]["services"] if one["name"] == "web"]
        self.assertEqual([one["state"] for one in web["tasks"]], ["running", "running", "draining"])

    def test_why(self) -> None:
        """A request and a service can be asked about."""
        (asked,) = get("/api/why", url="http://web.example/")["answers"]
        self.assertEqual(asked["router"], "web@swarm")
        self.assertIn("no such middleware", json.dumps(get("/api/why", service="bad")))

    def test_certificates(self) -> None:
        """Certificates are shown by their end: that one has expired or is about to is said, a key is not."""
        now = attrs.evolve(known(), at=START.timestamp() + 60)
        _, items, _ = answer("/api/certificates", {}, now)
        self.assertEqual(
            [(one["name"], one["status"], one["isDefault"]) for one in items],
            [("a.example", "disabled", False), ("b.example", "warning", False), ("c.example", "enabled", True)],
        )
        self.assertIn("it has expired on", items[0]["error"][0])
        self.assertIn("in less than 5 days", items[1]["error"][0])
        self.assertEqual((items[2]["issuer"], items[2]["origin"]), ("test root", "c.example.crt"))
        self.assertNotIn("PRIVATE", json.dumps(items))
        _, found, _ = answer("/api/certificates", {"search": ["www.b."]}, now)
        self.assertEqual([one["name"] for one in found], ["b.example"])
        early = attrs.evolve(now, at=START.timestamp() - 60)
        self.assertIn("not valid before", answer("/api/certificates/c.example", {}, early)[1]["error"][0])

    def test_openapi(self) -> None:
        """All that the document tells of is served, and what it does not tell of is not."""
        for path in openapi()["paths"]:
            if path not in ("/api/events", "/api/operations", "/api/swarm/services/{name}/logs"):
                names = {"entrypoints": "web", "middlewares": "auth@swarm", "certificates": "a.example"}
                name = names.get(path.split("/")[-2], "web@swarm")
                get(path.replace("{name}", name), url="http://web.example/")
        self.assertEqual(answer("/api/nothing", {}, known())[0], 404)


class DocumentTests(SynchronousTestCase):
    def test_shapes(self) -> None:
        """What is told of a Swarm with services, failed tasks and draining ones is of the shape that is documented."""
        failed = task("web", 3, state="failed", error="task: non-zero exit (3)", exit_code=3, ended=1)
        now = attrs.evolve(known(), draining=[("web@swarm", "http://10.0.0.9:80", "web.9", "n1", 2)])
        answers = {
            "/api/swarm": views.swarm(now, [failed]),
            "/api/why": answer("/api/why", {"url": ["http://web.example/"]}, now)[1],
        }
        for path in openapi()["paths"]:
            if path in LISTS or (path in DOCUMENTS and path != "/api/swarm"):
                answers[path] = answer(path, {}, now)[1]
        for path, value in answers.items():
            content = openapi()["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
            told = json.loads(json.dumps(value))
            faults = [str(one) for one in Draft202012Validator(content["schema"]).iter_errors(told)]
            self.assertEqual(faults, [], path)
        schema = openapi()["paths"]["/api/swarm"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        self.assertFalse(Draft202012Validator(schema).is_valid({"nodes": [{}], "services": []}))


#: Services that are made of others, as a file has them.
COMPOSED = """
http:
  routers:
    shop: {rule: Host(`shop.example`), service: shop}
  services:
    shop: {weighted: {services: [{name: web@swarm, weight: 9}, {name: next}], sticky: {cookie: {name: c}}}}
    next: {failover: {service: nobody@swarm, fallback: web@swarm, errors: {status: ["500-599", 429]}}}
    seen: {mirroring: {service: web@swarm, mirrors: [{name: empty, percent: 10}]}}
    near: {highestRandomWeight: {services: [{name: empty}]}}
    empty: {loadBalancer: {servers: []}}
    turn: {weighted: {services: [{name: turn}]}}
"""


class ComposedTests(SynchronousTestCase):
    """Services that are made of others."""

    def setUp(self) -> None:
        before = known()
        configurations = {**before.configurations, "file": decode_file(COMPOSED, "routes.yml", KINDS)}
        table = compile_table(configurations, {"web": EntryPointFacts()})
        self.known = attrs.evolve(before, table=table, configurations=configurations, of_table={}, of_moment={})

    def get(self, path: str, **query: list[str]) -> Any:
        _, value, _ = answer(path, query, self.known)
        return json.loads(json.dumps(value))

    def test_kinds(self) -> None:
        """Each kind is shown as it is configured and as Traefik shows it, with the states of its children."""
        shown = {one["name"]: one for one in self.get("/api/http/services")}
        shop = shown["shop@file"]
        self.assertEqual((shop["type"], shop["status"]), ("weighted", "enabled"))
        children = [{"name": "web@swarm", "weight": 9}, {"name": "next", "weight": 1}]
        self.assertEqual(shop["weighted"]["services"], children)
        self.assertEqual(shop["weighted"]["sticky"]["cookie"]["name"], "c")
        self.assertEqual(shop["serverStatus"], {"web@swarm": "UP", "next@file": "UP"})
        standby = shown["next@file"]
        self.assertEqual((standby["type"], standby["status"]), ("failover", "warning"))
        errors = {"status": ["500-599", "429"], "maxRequestBodyBytes": -1}
        self.assertEqual(standby["failover"], {"service": "nobody@swarm", "fallback": "web@swarm", "errors": errors})
        self.assertIn("there is no such service", standby["error"][0])
        self.assertEqual(shown["seen@file"]["mirroring"]["mirrors"], [{"name": "empty", "percent": 10}])
        self.assertEqual(shown["seen@file"]["serverStatus"], {"web@swarm": "UP", "empty@file": "DOWN"})
        self.assertEqual(shown["near@file"]["type"], "highestrandomweight")
        self.assertEqual(shown["turn@file"]["status"], "disabled")

    def test_used_by(self) -> None:
        """A service is used also by routers that lead to it by way of others."""
        shown = {one["name"]: one["usedBy"] for one in self.get("/api/http/services")}
        self.assertEqual(shown["web@swarm"], ["shop@file", "web@swarm"])
        self.assertEqual((shown["next@file"], shown["empty@file"]), (["shop@file"], []))

    def test_shape(self) -> None:
        """They are of the shape that is documented."""
        for path, query in (("/api/http/services", {}), ("/api/why", {"url": ["http://shop.example/"]})):
            content = openapi()["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
            faults = [str(one) for one in Draft202012Validator(content["schema"]).iter_errors(self.get(path, **query))]
            self.assertEqual(faults, [], path)

    def test_why(self) -> None:
        """Who asks what becomes of a request is told what the service is made of, and of the servers behind."""
        (told,) = self.get("/api/why", url=["http://shop.example/"])["answers"]
        self.assertEqual(told["made_of"], "weighted: web@swarm (weight 9), next@file (weight 1)")
        self.assertIn(f"  Service shop@file, {told['made_of']}.", told["sentences"])
        reasons = [(one["url"], one["reason"]) for one in told["servers"]]
        self.assertEqual(reasons, [("http://10.0.0.1:80", "its health check fails"), ("http://10.0.0.2:80", "")])


class ResourceTests(SynchronousTestCase):
    def test_methods(self) -> None:
        """Nothing can be changed: other methods than GET and HEAD are refused."""
        request: Any = DummyRequest([b"api"])
        request.method, request.uri = b"POST", b"/api/version"
        ApiResource(known, Feed(Clock())).render(request)
        self.assertEqual(request.responseCode, 405)

    def test_bad_question(self) -> None:
        """A query that can't be understood is answered 400 and a sentence."""
        request: Any = DummyRequest([b"api"])
        request.uri, request.args = b"/api/why", {}
        self.assertIn(b"expected url=", ApiResource(known, Feed(Clock())).render(request))
        self.assertEqual(request.responseCode, 400)


class LeafTests(SynchronousTestCase):
    """What is answered without a request of twisted.web's."""

    def setUp(self) -> None:
        self.clock = Clock()
        first = known()
        recent = Recent(lambda: attrs.evolve(first, of_moment={}), lambda: (first.table,), self.clock.seconds)
        self.looks = 0
        self.rendered: list[str] = []
        api = ApiResource(recent, Feed(Clock()), viewed=self.look)
        others = ResourceLeaf("api@internal", api)
        self.leaf = ApiLeaf("api@internal", api.written, self)
        self.others = others

    def look(self) -> None:
        self.looks += 1

    def serve(self, exchange: Exchange) -> None:
        """Stands in for the ordinary way, and goes it."""
        self.rendered.append(exchange.request.target.decode())
        self.others.serve(exchange)

    def ask(self, target: str, *fields: tuple[str, str], method: str = "GET") -> MemoryClient:
        exchange = exchange_of(target, *fields, method=method)
        self.leaf.serve(exchange)
        self.assertEqual(exchange.service, "api@internal")
        return client_of(exchange)

    def test_written(self) -> None:
        """A document that has been written is given again as it was, for as long as it tells of now."""
        first, second = self.ask("/api/overview"), self.ask("/api/overview")
        self.assertEqual(self.rendered, ["/api/overview"])
        self.assertEqual((second.status, second.body, second.done), (200, first.body, True))
        for name in (b"Content-Type", b"Cache-Control"):
            self.assertEqual(second.value(name), first.value(name))
        self.clock.advance(0.6)
        self.ask("/api/overview")
        self.assertEqual(self.rendered, ["/api/overview"] * 2)

    def test_looks(self) -> None:
        """Who is shown the Swarm looks at it, whichever way."""
        self.ask("/api/swarm")
        before = self.looks
        self.ask("/api/swarm")
        self.assertEqual((self.rendered, self.looks), (["/api/swarm"], before + 1))

    def test_others(self) -> None:
        """Everything else goes the ordinary way: queries, other methods, bodies, what has fields of its own."""
        self.ask("/api/overview")
        self.rendered.clear()
        self.ask("/api/overview?replica=self")
        self.ask("/api/overview", method="HEAD")
        self.ask("/api/overview", ("Content-Length", "1"))
        self.ask("/api/traffic")
        self.ask("/api/traffic")
        self.ask("/api/http/routers")
        self.assertEqual(len(self.rendered), 6)


class RecentTests(SynchronousTestCase):
    def test_kept(self) -> None:
        """Polling makes nothing anew for half a second; a change is seen at once."""
        clock, first = Clock(), known()
        marks: list[object] = [first.table]
        made: list[Known] = []

        def make() -> Known:
            made.append(attrs.evolve(first, of_table={}, of_moment={}))
            return made[-1]

        recent = Recent(make, lambda: tuple(marks), clock.seconds)
        self.assertIs(recent(), recent())
        routers = answer("/api/http/routers/web@swarm", {}, recent())[1]
        clock.advance(0.6)
        self.assertIs(answer("/api/http/routers/web@swarm", {}, recent())[1], routers)
        down = answer("/api/http/services/web@swarm", {}, recent())[1]["serverStatus"]
        first = attrs.evolve(first, reasons={})
        clock.advance(0.6)
        up = answer("/api/http/services/web@swarm", {}, recent())[1]["serverStatus"]
        self.assertEqual((down["http://10.0.0.1:80"], up["http://10.0.0.1:80"]), ("DOWN", "UP"))
        marks[0] = known().table
        self.assertIsNot(answer("/api/http/routers/web@swarm", {}, recent())[1], routers)
        self.assertEqual(len(made), 4)


HEADERS = {"Content-Type": "application/json", "X-Swarmgate-Operation": "1", "Host": "gate.example"}
AUTH = {
    "traefik.http.routers.api.rule": "Host(`gate.example`)",
    "traefik.http.routers.api.service": "api@internal",
    "traefik.http.routers.api.middlewares": "auth",
    "traefik.http.middlewares.auth.basicauth.users": "ann:$2y$05$SECRETHASH",
    "traefik.http.routers.open.rule": "Host(`open.example`)",
    "traefik.http.routers.open.service": "api@internal",
}


@attrs.define
class Asked:
    """What an exchange is for the API."""

    router: str = "api@swarm"
    user: str = "ann"
    entry_point: str = "web"
    request: Any = attrs.field(factory=lambda: SimpleNamespace(client_ip="192.0.2.7", forwarded_for=b"", fields=[]))


class OperationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.swarm = MemorySwarm()
        self.swarm.add_service("gate", AUTH)
        self.swarm.add_service("shop", {}, replicas=2)
        self.audit: list[dict[str, Any]] = []
        self.operations: Operations | None = Operations(
            self.swarm, lambda line: self.audit.append(json.loads(line)), lambda: 0.0
        )

    def known(self) -> Known:
        world = World.of(
            self.swarm.now(), Options(kinds=KINDS), {"web": EntryPointFacts()}, resources=("api@internal",)
        )
        return Known(world.table, {"swarm": world.decision.configuration}, {}, "1", world=world, logs=True)

    def send(
        self, body: Any, headers: dict[str, str] = HEADERS, exchange: Any = None, method: bytes = b"POST"
    ) -> tuple[int, str]:
        request: Any = DummyRequest([b"api"])
        request.method, request.uri, request.exchange = method, b"/api/operations", exchange or Asked()
        request.content = BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        for name, value in headers.items():
            request.requestHeaders.setRawHeaders(name, [value])
        answered = ApiResource(self.known, Feed(Clock()), self.swarm, self.operations).render(request)
        text = b"".join(request.written) if answered is NOT_DONE_YET else answered
        return request.responseCode, json.loads(text)["message"]

    def test_done(self) -> None:
        """A service is scaled, restarted and rolled back, a node drained and activated, each with an audit line."""
        self.assertEqual(self.send({"operation": "scale", "service": "shop", "replicas": 3})[0], 200)
        self.assertEqual(len(self.swarm.tasks_of("shop")), 3)
        self.assertEqual(self.send({"operation": "rollback", "service": "shop"})[0], 200)
        self.assertEqual(len(self.swarm.tasks_of("shop")), 2)
        before = self.swarm.tasks_of("shop")
        self.assertEqual(self.send({"operation": "restart", "service": "shop"})[0], 200)
        self.assertFalse({one.id for one in before} & {one.id for one in self.swarm.tasks_of("shop")})
        for kind, availability in (("drain", "drain"), ("activate", "active")):
            self.assertEqual(self.send({"operation": kind, "node": "n1"})[0], 200)
            self.assertEqual(self.swarm.now().nodes[0].availability, availability)
        self.assertEqual(
            [one["operation"] for one in self.audit], ["scale", "rollback", "restart", "drain", "activate"]
        )
        self.assertEqual(
            self.audit[0],
            {
                "time": "1970-01-01T00:00:00.000Z",
                "user": "ann",
                "client": "192.0.2.7",
                "operation": "scale",
                "service": "shop",
                "replicas": 3,
                "status": 200,
                "outcome": "done",
            },
        )

    def test_refused_by_the_engine(self) -> None:
        """The engine's refusal is shown as it is, with its status, and is in the audit log."""
        self.assertEqual(self.send({"operation": "restart", "service": "nobody"}), (404, "service nobody not found"))
        self.swarm.refuse(409, "the Swarm is locked")
        self.assertEqual(self.send({"operation": "restart", "service": "shop"}), (409, "the Swarm is locked"))
        self.assertEqual([one["status"] for one in self.audit], [404, 409])

    def test_nobody(self) -> None:
        """By a router without an authenticating middleware, or past all routers, nothing is changed."""
        scale = {"operation": "scale", "service": "shop", "replicas": 9}
        for exchange in (Asked("open@swarm", ""), Asked("nobody@swarm"), Asked(user="")):
            status, message = self.send(scale, exchange=exchange)
            self.assertEqual(status, 403)
            self.assertIn("nobody was authenticated", message)
        self.assertIn("basicAuth", self.send(scale, exchange=Asked("open@swarm", ""))[1])
        self.assertRaises(NotAllowed, authenticated, None, self.known().table)
        self.assertEqual(len(self.swarm.tasks_of("shop")), 2)
        self.assertEqual({one["status"] for one in self.audit}, {403})

    def test_authenticating(self) -> None:
        """What counts as authenticating are middlewares that there are, and all that tell who the user is."""
        self.assertLessEqual(set(AUTHENTICATING), set(KINDS))
        told = {kind for kind, settings in KINDS.items() if hasattr(settings, "header_field")}
        self.assertEqual({*told, *AUTHENTICATING}, set(AUTHENTICATING))

    def test_off(self) -> None:
        """Without api.operations nothing is changed."""
        self.operations = None
        status, message = self.send({"operation": "restart", "service": "shop"})
        self.assertEqual(status, 403)
        self.assertIn("api.operations", message)

    def test_other_sites(self) -> None:
        """What a page of another site can make a browser send is refused."""
        for changes, status in (
            ({"Content-Type": "text/plain"}, 415),
            ({"X-Swarmgate-Operation": ""}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "null"}, 403),
        ):
            got = self.send({"operation": "restart", "service": "shop"}, {**HEADERS, **changes})
            self.assertEqual(got[0], status, changes)
        good = {**HEADERS, "Origin": "https://gate.example", "Sec-Fetch-Site": "same-origin"}
        self.assertEqual(self.send({"operation": "restart", "service": "shop"}, good)[0], 200)

    def test_bad_bodies(self) -> None:
        """What is no operation is refused with what was expected."""
        for body, says in (
            (b"", "a JSON object"),
            (b"[" * 3000, "a JSON object"),
            ([], "a JSON object"),
            ({"operation": "scael"}, "did you mean scale?"),
            ({"operation": "scale", "service": "shop"}, "replicas: expected"),
            ({"operation": "scale", "service": "shop", "replicas": True}, "replicas: expected"),
            ({"operation": "scale", "service": "shop", "replicas": -1}, "replicas: expected"),
            ({"operation": "drain", "service": "shop"}, "drain takes node"),
            ({"operation": "restart", "service": ".."}, "is no name"),
            ({"operation": "restart", "service": 3}, "expected its name"),
        ):
            status, message = self.send(body)
            self.assertEqual(status, 400, body)
            self.assertIn(says, message)
        self.assertEqual(self.send(b" " * 5000)[0], 413)
        self.assertEqual(self.send({}, method=b"GET")[0], 405)

    def look(self, path: bytes, api: ApiResource | None = None, **query: str) -> tuple[int, Any]:
        request: Any = DummyRequest([b"api"])
        request.uri, request.args = path, {name.encode(): [value.encode()] for name, value in query.items()}
        answered = (api or ApiResource(self.known, Feed(Clock()), self.swarm)).render(request)
        text = b"".join(request.written) if answered is NOT_DONE_YET else answered
        return request.responseCode or 200, json.loads(text)

    def test_log(self) -> None:
        """The last lines of a service come with task, node and stream, and can be searched."""
        self.swarm.say("shop", "hello")
        self.swarm.say("shop", "Trouble ahead", "stderr")
        path = b"/api/swarm/services/shop/logs"
        status, told = self.look(path)
        self.assertEqual((status, [line["text"] for line in told["lines"]]), (200, ["hello", "Trouble ahead"]))
        (line,) = self.look(path, search="trouble")[1]["lines"]
        self.assertEqual((line["node"], line["stream"]), ("n1", "stderr"))
        self.assertEqual(self.look(path, tail="1")[1]["lines"], [line])
        self.assertEqual(self.look(path, tail="1001")[0], 400)
        self.assertEqual(self.look(b"/api/swarm/services/nobody/logs")[0], 404)
        quiet = ApiResource(lambda: attrs.evolve(self.known(), logs=False), Feed(Clock()), self.swarm)
        status, told = self.look(path, quiet)
        self.assertEqual(status, 403)
        self.assertIn("api.logs", told["message"])

    def test_failed_tasks(self) -> None:
        """Tasks that do not start are shown with the engine's words and their exit code."""
        self.swarm.fail_task("shop", "task: non-zero exit (3)", 3)
        _, told = self.look(b"/api/swarm")
        (shop,) = [one for one in told["services"] if one["name"] == "shop"]
        (failed,) = [one for one in shop["tasks"] if one["state"] == "failed"]
        self.assertEqual((failed["error"], failed["exitCode"]), ("task: non-zero exit (3)", 3))
        self.swarm.fail("gone")
        self.assertEqual(len(self.look(b"/api/swarm")[1]["services"]), 2)

    def test_unreachable(self) -> None:
        """An engine that can't be asked is told of as a bad gateway."""
        self.swarm.fail("the engine is gone")
        self.assertEqual(self.send({"operation": "restart", "service": "shop"}), (502, "the engine is gone"))


class FeedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.feed = Feed(self.clock, lambda: 1795893865.5)

    def view(self, last: bytes = b"", **arguments: bool) -> Any:
        request: Any = DummyRequest([b"api"])
        request.args = {name.encode(): [b"true"] for name in arguments}
        if last:
            request.requestHeaders.setRawHeaders(b"Last-Event-ID", [last])
        request.registerProducer = lambda producer, streaming: setattr(request, "viewer", producer)
        self.assertTrue(self.feed.show(request))
        return request

    def test_live(self) -> None:
        """A change is seen at once, and silence is broken by a heartbeat."""
        request = self.view()
        self.feed.tell(["route added"])
        event = b'id: 1\nevent: change\ndata: {"change": "route added", "at": 1795893865.5}\n\n'
        self.assertIn(event, b"".join(request.written))
        self.clock.advance(15)
        self.assertTrue(request.written[-1].startswith(b":"))

    def test_again(self) -> None:
        """A viewer that comes again sees what it has missed, or that too much was missed."""
        self.feed.tell(["one", "two"])
        self.assertEqual(b"".join(self.view(b"1").written).count(b"event: change"), 1)
        self.feed.tell([str(number) for number in range(2000)])
        self.assertIn(b"event: reset", b"".join(self.view(b"1").written))

    def test_past(self) -> None:
        """Who asks for the past sees what is still known of it, once; others see what happens from now on."""
        self.assertNotIn(b"event:", b"".join(self.view(past=True).written))
        self.feed.tell([str(number) for number in range(1500)])
        told = b"".join(self.view(past=True).written)
        self.assertEqual((told.count(b"event: change"), told.count(b"event: reset")), (1000, 0))
        self.assertNotIn(b"event:", b"".join(self.view().written))
        self.assertEqual(b"".join(self.view(b"1499", past=True).written).count(b"event: change"), 1)

    def test_slow(self) -> None:
        """Nothing is written to a viewer that does not read; it goes on where it was."""
        request = self.view()
        request.viewer.pauseProducing()
        before = len(request.written)
        self.feed.tell(["one"])
        self.assertEqual(len(request.written), before)
        request.viewer.resumeProducing()
        self.assertIn(b'"one"', request.written[-1])

    def test_swarm(self) -> None:
        """Viewers that ask for it are told at once that the Swarm has changed, of many changes not at each."""
        other, request = self.view(), self.view(swarm=True)
        times: list[float] = []
        request.write = lambda data: times.append(round(self.clock.seconds(), 1))
        for _ in range(20):
            self.feed.swarm_changed()
            self.clock.advance(0.1)
        self.assertEqual(times, [0.1, 0.8, 1.5])
        self.assertNotIn(b"event:", b"".join(other.written))
        self.clock.advance(0.5)
        self.assertEqual(len(times), 4)
        self.clock.advance(10)
        self.assertEqual(len(times), 4)

    def test_slow_swarm(self) -> None:
        """However often the Swarm changes, one event waits for a viewer that does not read."""
        request = self.view(swarm=True)
        before = list(request.written)
        request.viewer.pauseProducing()
        for _ in range(100):
            self.feed.swarm_changed()
            self.clock.advance(1)
        self.assertEqual(request.written, before)
        request.viewer.resumeProducing()
        self.assertEqual(request.written, [*before, b"event: swarm\ndata: {}\n\n"])

    def test_traffic(self) -> None:
        """Viewers that ask for it are told of traffic each second; it is measured once, and not at all without them."""
        asked: list[str] = []
        meter = SimpleNamespace(
            begin=lambda: asked.append("begin"), lately=lambda: succeed(b"%d" % [asked.append("lately"), len(asked)][1])
        )
        self.feed = Feed(self.clock)
        self.feed.measure(meter)
        self.clock.advance(5)
        self.assertEqual(asked, [])
        self.view()
        self.clock.advance(5)
        self.assertEqual(asked, [])
        first, second = self.view(traffic=True), self.view(traffic=True)
        self.assertEqual(asked, ["begin"])
        self.clock.advance(1)
        event = b"event: traffic\ndata: 2\n\n"
        self.assertEqual([first.written[-1], second.written[-1]], [event, event])
        first.processingFailed(Exception())
        second.processingFailed(Exception())
        self.clock.advance(5)
        self.assertEqual(len(asked), 2)

    def test_slow_traffic(self) -> None:
        """A viewer that does not read gets no traffic of seconds that are over, but every change."""
        numbers = iter(range(100))
        self.feed = Feed(self.clock)
        self.feed.measure(SimpleNamespace(begin=lambda: None, lately=lambda: succeed(b"%d" % next(numbers))))
        request = self.view(traffic=True)
        request.viewer.pauseProducing()
        self.feed.tell(["one"])
        self.clock.pump([1] * 5)
        request.viewer.resumeProducing()
        self.assertEqual(b"".join(request.written).count(b"event:"), 1)
        self.clock.advance(1)
        self.assertEqual(request.written[-1], b"event: traffic\ndata: 5\n\n")
        self.assertIn(b"event: change", b"".join(self.view(b"0").written))

    def test_gone(self) -> None:
        """Once the last viewer is gone nothing is left to do."""
        self.feed.swarm_changed()
        request = self.view(swarm=True)
        self.feed.swarm_changed()
        request.processingFailed(Exception())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class CommandTests(SynchronousTestCase):
    def test_why(self) -> None:
        """The command's status tells whether a service is routed."""
        body = json.dumps(get("/api/why", service="bad")).encode()
        asked: list[str] = []

        def fetch(url: str) -> tuple[int, bytes]:
            asked.append(url)
            return 200, body

        self.assertEqual(command.why(["--service", "bad"], fetch), 1)
        self.assertEqual(asked, ["http://127.0.0.1:8080/api/why?service=bad"])
        self.assertEqual(command.why([], fetch), 2)

    def test_why_without_a_gate(self) -> None:
        """Where no gate answers, or words are not understood, it is told what was given and what was expected."""
        told: list[str] = []
        self.patch(command.sys, "stderr", SimpleNamespace(write=told.append))

        def refuse(url: str) -> tuple[int, bytes]:
            raise urllib.error.URLError(ConnectionRefusedError(111, "Connection refused"))

        self.assertEqual(command.why(["http://a/"], refuse), 1)
        self.assertEqual(command.why(["http://a/", "--api", "http://["], refuse), 2)
        self.assertEqual(command.why(["http://a/", "--ap"], refuse), 2)
        self.assertEqual(command.lint(["/none/stack.yml"]), 2)
        for one, part in zip(
            told,
            (
                "http://127.0.0.1:8080/api/why: Connection refused: expected a gate with api.insecure there",
                '--api "http://[": expected a URL as http://127.0.0.1:8080',
                "expected URL [-X METHOD]",
                "lint: /none/stack.yml: expected a stack file that can be read (No such file or directory)",
            ),
            strict=True,
        ):
            self.assertIn(part, one)

    def test_why_a_request(self) -> None:
        """The status is 0 where a configured router takes the request; what is disabled of the host is printed."""
        printed: list[object] = []
        self.patch(command, "say", printed.append)
        for host, status in (("web", 0), ("bad", 1), ("none", 1)):
            body = json.dumps(get("/api/why", url=f"http://{host}.example/")).encode()
            self.assertEqual(command.why(["http://a.example/"], lambda url, body=body: (200, body)), status, host)
        said = "\n".join(map(str, printed))
        self.assertEqual(said.count("Router bad@swarm, Host(`bad.example`), is disabled: "), 1)

    def test_lint(self) -> None:
        """A stack file without mistakes gives status 0, another 1, none 2."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "stack.yml")
            path.write_text("services: {web: {image: b, deploy: {labels: {trafik.enable: 'true'}}}}")
            self.assertEqual(command.lint([str(path)]), 1)
            path.write_text("services: {web: {image: b, ports: ['80:80']}}")
            self.assertEqual(command.lint([str(path), "--providers.swarm", "--entrypoints.web.address=:80"]), 0)
            self.assertEqual(command.lint([f"{path}.not"]), 2)


class OptionTests(SynchronousTestCase):
    def test_insecure(self) -> None:
        """The API has an entry point of its own only if that is asked for."""
        self.assertIn("traefik", load(["--api.insecure=true"], {}).entry_points)
        self.assertNotIn("traefik", load(["--api=true"], {}).entry_points)
