"""The API: what it shows, and what it keeps to itself."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.test.requesthelper import DummyRequest

from swarmgate.api.feed import Feed
from swarmgate.api.resource import ApiResource, answer, openapi
from swarmgate.api.views import BadQuestion, Known
from swarmgate.config.load import load
from swarmgate.dynamic.table import EntryPointFacts
from swarmgate.middlewares import KINDS
from swarmgate.providers.swarm.decide import Options
from swarmgate.testing import service, snapshot, task
from swarmgate.why import command
from swarmgate.why.services import World


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
    world = World.of(snapshot(good, bad, task(good), task(good, 2)), Options(kinds=KINDS), {"web": EntryPointFacts()})
    return Known(
        world.table,
        {"swarm": world.decision.configuration},
        {"web": ":80"},
        "1",
        {down: "its health check fails"},
        {"http://10.0.0.2:80": 3},
        world,
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
        self.assertRaises(BadQuestion, answer, "/api/http/routers", {"page": ["x"]}, known())

    def test_swarm(self) -> None:
        """Tasks are shown with their state, their addresses and the requests that they are answering."""
        (web,) = [one for one in get("/api/swarm")["services"] if one["name"] == "web"]
        self.assertEqual([one["inFlight"] for one in web["tasks"]], [0, 3])
        self.assertEqual(web["tasks"][0]["reason"], "its health check fails")
        self.assertEqual(web["tasks"][1]["networks"], {"golf": "10.0.0.2"})

    def test_why(self) -> None:
        """A request and a service can be asked about."""
        (asked,) = get("/api/why", url="http://web.example/")["answers"]
        self.assertEqual(asked["router"], "web@swarm")
        self.assertIn("no such middleware", json.dumps(get("/api/why", service="bad")))

    def test_openapi(self) -> None:
        """All that the document tells of is served, and what it does not tell of is not."""
        for path in openapi()["paths"]:
            if path != "/api/events":
                name = "web" if "entrypoints" in path else "auth@swarm" if "middlewares" in path else "web@swarm"
                get(path.replace("{name}", name), url="http://web.example/")
        self.assertEqual(answer("/api/nothing", {}, known())[0], 404)


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


class FeedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.feed = Feed(self.clock)

    def view(self, last: bytes = b"") -> Any:
        request: Any = DummyRequest([b"api"])
        if last:
            request.requestHeaders.setRawHeaders(b"Last-Event-ID", [last])
        request.registerProducer = lambda producer, streaming: setattr(request, "viewer", producer)
        self.assertTrue(self.feed.show(request))
        return request

    def test_live(self) -> None:
        """A change is seen at once, and silence is broken by a heartbeat."""
        request = self.view()
        self.feed.tell(["route added"])
        self.assertIn(b'id: 1\nevent: change\ndata: {"change": "route added"}\n\n', b"".join(request.written))
        self.clock.advance(15)
        self.assertTrue(request.written[-1].startswith(b":"))

    def test_again(self) -> None:
        """A viewer that comes again sees what it has missed, or that too much was missed."""
        self.feed.tell(["one", "two"])
        self.assertEqual(b"".join(self.view(b"1").written).count(b"event: change"), 1)
        self.feed.tell([str(number) for number in range(2000)])
        self.assertIn(b"event: reset", b"".join(self.view(b"1").written))

    def test_slow(self) -> None:
        """Nothing is written to a viewer that does not read; it goes on where it was."""
        request = self.view()
        request.viewer.pauseProducing()
        before = len(request.written)
        self.feed.tell(["one"])
        self.assertEqual(len(request.written), before)
        request.viewer.resumeProducing()
        self.assertIn(b'"one"', request.written[-1])

    def test_gone(self) -> None:
        """Once the last viewer is gone nothing is left to do."""
        self.view().processingFailed(Exception())
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
