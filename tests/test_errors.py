"""Tests for swarmgate.middlewares.errors."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.model import Configuration, Problem, Router, Server, Service
from swarmgate.dynamic.model import Middleware as Named
from swarmgate.dynamic.table import EntryPointFacts, RoutingTable, compile_table
from swarmgate.http.exchange import Exchange
from swarmgate.http.message import UNKNOWN, Response, field_values
from swarmgate.middlewares import basic_auth, buffering, compress, errors
from swarmgate.middlewares.chain import Chain
from swarmgate.middlewares.interface import Middleware
from swarmgate.structure import structure
from tests.exchanges import MemoryClient, Origin, client_of, context_of, exchange_of
from tests.memory_network import GET, MemoryGate

BAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nbad"


def settings_of(**options: Any) -> errors.Settings:
    return structure(errors.Settings, {"service": "pages", "status": "500-599,404"} | options, "errors")


class Fixture(SynchronousTestCase):
    def setUp(self) -> None:
        self.origin = Origin(503, body=b"bad", fields=[(b"X-Bad", b"1")])
        self.pages = Origin(200, body=b"sorry", fields=[(b"X-Page", b"1")])
        self.asked: list[str] = []

    def step(self, **options: Any) -> Middleware:
        def answer(name: str, exchange: Exchange) -> None:
            self.asked.append(name)
            self.pages.serve(exchange)

        return errors.build(settings_of(**options), context_of(answer=answer))

    def lead(self, exchange: Exchange, *steps: Middleware) -> MemoryClient:
        Chain("r@test", steps or (self.step(),), self.origin).serve(exchange)
        return client_of(exchange)


class ErrorsTests(Fixture):
    def test_page(self) -> None:
        """In place of such an answer goes the page, with its fields and the answer's status."""
        client = self.lead(exchange_of("/a"))
        self.assertEqual((client.status, client.body, client.done), (503, b"sorry", True))
        self.assertEqual((client.value(b"X-Page"), client.value(b"X-Bad")), (b"1", None))
        self.assertEqual(self.asked, ["pages"])

    def test_other_status(self) -> None:
        """Other answers pass."""
        self.origin = Origin(200)
        self.assertEqual(self.lead(exchange_of("/a")).body, b"hello")
        self.assertEqual(self.asked, [])

    def test_query(self) -> None:
        """The page is asked for with the statuses and what was asked for."""
        for query, rewrites, expected in (
            ("/{status}.html", {}, b"/503.html"),
            ("/e?s={status}&o={originalStatus}&u={url}", {"500-504": "418"}, b"/e?s=418&o=503&u=%2Fa+b%3Fc%3Dd%26e"),
            ("x", {}, b"/x"),
        ):
            step = self.step(query=query, statusRewrites=rewrites)
            client = self.lead(exchange_of("/a+b?c=d&e"), step)
            target = expected.replace(b"a+b", b"a%2Bb")
            self.assertEqual(self.pages.reached[-1].request.target, target)
            self.assertEqual(client.status, 418 if rewrites else 503)

    def test_request(self) -> None:
        """The page is asked for with GET, the client's fields and without its body; never for a part of it."""
        exchange = exchange_of(
            "/a",
            ("Cookie", "a=b"),
            ("Range", "bytes=0-1"),
            ("If-None-Match", "*"),
            ("Content-Length", "2"),
            method="POST",
        )
        exchange.body_data(b"ab", True, [])
        client = self.lead(exchange)
        request = self.pages.reached[0].request
        self.assertEqual((request.method, request.length, request.authority), (b"GET", 0, b"a.example"))
        self.assertEqual(field_values(request.fields, b"cookie"), [b"a=b"])
        self.assertEqual(field_values(request.fields, b"x-forwarded-for"), [b"192.0.2.7"])
        for name in (b"range", b"if-none-match"):
            self.assertEqual(field_values(request.fields, name), [])
        self.assertEqual(client.status, 503)

    def test_request_headers(self) -> None:
        """errorRequestHeaders are all that it is asked with, though none may be named."""
        for given, names in (("cookie", [b"Cookie"]), ([], [])):
            self.lead(exchange_of("/a", ("Cookie", "a=b"), ("X-A", "1")), self.step(errorRequestHeaders=given))
            self.assertEqual([name for name, _ in self.pages.reached[-1].request.fields], names)

    def test_head(self) -> None:
        """HEAD gets the page's head, and no body."""
        client = self.lead(exchange_of("/a", method="HEAD"))
        self.assertEqual((client.status, client.body, client.done), (503, b"", True))

    def test_page_fails(self) -> None:
        """A page that fails goes out with the answer's status all the same, and is not replaced by another."""
        self.pages = Origin(500, body=b"no page")
        client = self.lead(exchange_of("/a"))
        self.assertEqual((client.status, client.body, len(self.asked)), (503, b"no page", 1))

    def test_middleware_after_it(self) -> None:
        """What a middleware after it answers is replaced, and nothing passes for that; before it nothing is."""
        users = structure(basic_auth.Settings, {"users": "bob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="}, "")
        auth = basic_auth.build(users, context_of())
        step = self.step(status="401")
        client = self.lead(exchange_of("/a"), step, auth)
        self.assertEqual((client.status, client.body, self.origin.reached), (401, b"sorry", []))
        client = self.lead(exchange_of("/a"), auth, step)
        self.assertEqual((client.status, client.body, self.origin.reached), (401, b"401 Unauthorized\n", []))

    def test_slow_page(self) -> None:
        """Nothing passes while the page is awaited, though the step that has answered is over."""
        users = structure(basic_auth.Settings, {"users": "bob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="}, "")
        waiting: list[Exchange] = []
        later = context_of(answer=lambda name, exchange: waiting.append(exchange))
        step = errors.build(settings_of(status="401"), later)
        exchange = exchange_of("/a", ("Authorization", "Basic Ym9iOng="))
        client = self.lead(exchange, step, basic_auth.build(users, context_of()))
        self.assertEqual((client.status, self.origin.reached, len(waiting)), (0, [], 1))
        self.pages.serve(waiting[0])
        self.assertEqual((client.status, client.body, self.origin.reached), (401, b"sorry", []))

    def test_client_leaves(self) -> None:
        """A client that leaves before the page came needs none."""
        waiting: list[Exchange] = []
        later = context_of(answer=lambda name, exchange: waiting.append(exchange))
        exchange = exchange_of("/a")
        client = self.lead(exchange, errors.build(settings_of(), later))
        exchange.client_gone()
        self.assertTrue(waiting[0].ended)
        self.pages.serve(waiting[0])
        self.assertEqual((client.status, exchange.status), (0, 499))

    def test_page_streams(self) -> None:
        """A page goes out as it comes; one that breaks off is broken off."""
        for breaks in (False, True):
            waiting: list[Exchange] = []
            later = context_of(answer=lambda name, exchange, found=waiting: found.append(exchange))
            client = self.lead(exchange_of("/a"), errors.build(settings_of(), later))
            [page] = waiting
            page.respond(Response(200, b"", [], UNKNOWN), b"a", False)
            self.assertEqual((client.status, client.body, client.done), (503, b"a", False))
            if breaks:
                page.fail(502)
                self.assertTrue(client.aborted)
            else:
                page.data(b"b")
                page.end([(b"X-T", b"1")])
                self.assertEqual((client.body, client.trailers), (b"ab", [(b"X-T", b"1")]))

    def test_fails(self) -> None:
        """If asking for the page fails, the client gets a 500."""

        def broken(name: str, exchange: Exchange) -> None:
            raise ZeroDivisionError

        client = self.lead(exchange_of("/a"), errors.build(settings_of(), context_of(answer=broken)))
        self.assertEqual((client.status, client.done), (500, True))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_composes(self) -> None:
        """Pages are compressed, kept and replaced themselves by what comes before."""
        self.pages = Origin(200, body=b"sorry " * 1000)
        packing = compress.build(structure(compress.Settings, {}, ""), context_of())
        keeping = buffering.build(structure(buffering.Settings, {}, ""), context_of(Clock()))
        exchange = exchange_of("/a", ("Accept-Encoding", "gzip"))
        client = self.lead(exchange, packing, keeping, self.step(), self.step(status="503"))
        self.assertEqual((client.status, client.value(b"Content-Encoding"), len(self.asked)), (503, b"gzip", 2))

    def test_server(self) -> None:
        """Of an answer of a server that is replaced nothing is read, and nothing of it reaches the client."""
        for rest in (b"", b"bad"):
            gate = MemoryGate()
            gate.leaf = Chain("r@test", (self.step(),), gate.leaf)
            client = gate.client()
            client.receive(GET)
            gate.server.receive(BAD[:-3] + rest)
            self.assertEqual(gate.server.closed, None if rest else "aborted")
            self.assertTrue(client.take().endswith(b"\r\n\r\nsorry"))
            self.assertEqual(gate.upstreams[0].in_flight, 0)

    def test_settings(self) -> None:
        """Mistakes are told."""
        for options in (
            {"query": "/a b"},
            {"query": "/a#b"},
            {"query": "/ä"},
            {"statusRewrites": {"x": "500"}},
            {"statusRewrites": {"500": "99"}},
            {"errorRequestHeaders": "a b"},
        ):
            self.assertRaises(ValueError, self.step, **options)


class TableTests(SynchronousTestCase):
    def table(self, service: str, provider: str = "swarm") -> RoutingTable:
        pages = Service("pages", (Server("http://10.0.0.1:80"),))
        swarm = Configuration(
            {"web": Router("web", "Host(`a`)", "pages", middlewares=(f"errors@{provider}",))}, {"pages": pages}
        )
        file = Configuration(services={"pages": pages})
        named = {"errors": Named("errors", "errors", settings_of(service=service))}
        if provider == "swarm":
            swarm = Configuration(swarm.routers, swarm.services, named)
        else:
            file = Configuration(services=file.services, middlewares=named)
        return compile_table({"swarm": swarm, "file": file}, {"web": EntryPointFacts()}, ["ping@internal"])

    def test_service(self) -> None:
        """A service is that of the middleware's provider, unless it names another."""
        for service, provider, expected in (
            ("pages", "swarm", "pages@swarm"),
            ("pages", "file", "pages@file"),
            ("pages@file", "swarm", "pages@file"),
            ("ping@internal", "swarm", "ping@internal"),
        ):
            table = self.table(service, provider)
            [route] = table.routes["web"]
            self.assertEqual((route.problem, route.middlewares[0].settings.service), (None, expected))
            self.assertEqual(table.problems, ())

    def test_no_service(self) -> None:
        """Without its service a router with it is not in force, and that is told."""
        table = self.table("page")
        [route] = table.routes["web"]
        self.assertIn("leads to page@swarm, which there is not", route.problem or "")
        [problem] = table.problems
        self.assertIsInstance(problem, Problem)
        self.assertEqual(
            (problem.subject, problem.value, problem.nearest), ("middleware errors@swarm", "page", "pages")
        )
