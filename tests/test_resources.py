"""The resource tree: routes to leaves, ordinary resources, and the tree in an ordinary Site."""

from __future__ import annotations

import functools
import gc
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from twisted.web.static import Data
from twisted.web.test.requesthelper import DummyChannel

from swarmgate.balancing.strategies import in_turns
from swarmgate.dynamic.model import Configuration, Router, Server, Service
from swarmgate.dynamic.model import Middleware as ConfiguredMiddleware
from swarmgate.dynamic.table import Compiler, EntryPointFacts, compile_table
from swarmgate.http.upstream import UpstreamSettings
from swarmgate.middlewares import basic_auth, rate_limit
from swarmgate.middlewares.chain import Chain
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.resources.bridge import ResourceLeaf
from swarmgate.resources.gate import Gate
from swarmgate.resources.ping import PingResource
from swarmgate.resources.tree import NotFound
from swarmgate.structure import structure
from tests.exchanges import exchange_of
from tests.memory_network import GET, OK, MemoryGate, MemoryNetwork
from tests.test_basic_auth import SHA1


def leaf_gate(resource: Any) -> MemoryGate:
    """A gate with nothing but *resource*."""
    gate = MemoryGate()
    gate.leaf = ResourceLeaf("test@internal", resource)
    return gate


class Form(Resource):
    """Tells what it was asked."""

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        request.setHeader(b"X-Seen", request.getHeader(b"x-asked") or b"")
        request.addCookie(b"a", b"b")
        peer = request.getClientAddress().host
        return repr((request.path, request.args, request.content.read(), request.getRequestHostname(), peer)).encode()


class ResourceLeafTests(SynchronousTestCase):
    def test_ordinary_request(self) -> None:
        """A resource gets a Request with all that was asked, and its answer reaches the client."""
        client = leaf_gate(Form()).client()
        client.receive(
            b"POST /x?y=1 HTTP/1.1\r\nHost: a.example\r\nX-Asked: this\r\nContent-Length: 3\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\nz="
        )
        client.receive(b"2")
        answer = client.take()
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertIn(b"X-Seen: this\r\n", answer)
        self.assertIn(b"Set-Cookie: a=b\r\n", answer)
        self.assertTrue(
            answer.endswith(b"(b'/x', {b'y': [b'1'], b'z': [b'2']}, b'z=2', b'a.example', '192.0.2.7')"), answer
        )

    def test_children(self) -> None:
        """A resource may be a tree of its own, and what is not in it is not found."""
        root = Resource()
        root.putChild(b"page", Data(b"here", "text/plain"))
        client = leaf_gate(root).client()
        client.receive(GET.replace(b"/ ", b"/page "))
        self.assertTrue(client.take().endswith(b"\r\n\r\nhere"))
        client.receive(GET.replace(b"/ ", b"/other "))
        self.assertTrue(client.take().startswith(b"HTTP/1.1 404 Not Found\r\n"))
        client.receive(GET.replace(b"GET / ", b"HEAD /page "))
        self.assertTrue(client.take().endswith(b"Content-Length: 4\r\n\r\n"))

    def test_answer_in_pieces(self) -> None:
        """What a resource writes bit by bit arrives so."""
        requests = []

        class Slow(Resource):
            isLeaf = True

            def render_GET(self, request: Any) -> Any:
                requests.append(request)
                return NOT_DONE_YET

        client = leaf_gate(Slow()).client()
        client.receive(GET)
        requests[0].write(b"one")
        self.assertTrue(client.take().endswith(b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n"))
        requests[0].write(b"two")
        requests[0].finish()
        self.assertEqual(client.take(), b"3\r\ntwo\r\n0\r\n\r\n")

    def test_client_leaves(self) -> None:
        """A resource is told when nobody waits for its answer any more."""
        told: list[Any] = []

        class Slow(Resource):
            isLeaf = True

            def render_GET(self, request: Any) -> Any:
                request.notifyFinish().addErrback(told.append)
                return NOT_DONE_YET

        client = leaf_gate(Slow()).client()
        client.receive(GET)
        client.reset()
        self.assertEqual(len(told), 1)

    def test_nothing_for_the_collector(self) -> None:
        """A request that is done with is let go at once: a hundred viewers' questions are no work for the collector."""

        class Slow(Resource):
            isLeaf = True

            def render_GET(self, request: Any) -> Any:
                request.notifyFinish().addErrback(lambda _: None)
                requests.append(request)
                return NOT_DONE_YET

        requests: list[Any] = []
        client, slow, leaving = leaf_gate(Form()).client(), leaf_gate(Slow()).client(), leaf_gate(Slow()).client()
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        client.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na")
        slow.receive(GET)
        requests.pop().finish()
        leaving.receive(GET)
        requests.pop()
        leaving.reset()
        self.assertEqual(gc.collect(), 0)

    def test_endless_body(self) -> None:
        """A body that is too long for an ordinary resource is refused, and what is still under way is let go."""
        client = leaf_gate(Form()).client()
        client.receive(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"100000\r\n" + b"a" * 2**20 + b"\r\n"
        for _ in range(17):
            client.receive(piece)
        client.receive(b"0\r\n\r\n")
        self.assertTrue(client.take().startswith(b"HTTP/1.1 413 "))

    def test_too_early(self) -> None:
        """While routers are still missing nobody is told that his page is not there."""
        known: list[bool] = []
        leaf = NotFound(lambda: bool(known))
        early, later = exchange_of(), exchange_of()
        leaf.serve(early)
        self.assertEqual((early.status, early.client.values(b"Retry-After")), (503, [b"1"]))
        known.append(True)
        leaf.serve(later)
        self.assertEqual(later.status, 404)

    def test_ping(self) -> None:
        """Ping says OK while the gate is ready, and the name of its trouble otherwise."""
        status = [200]
        client = leaf_gate(PingResource(lambda: status[0])).client()
        client.receive(GET)
        self.assertTrue(client.take().endswith(b"\r\n\r\nOK"))
        status[0] = 503
        client.receive(GET.replace(b"GET", b"PURGE"))
        answer = client.take()
        self.assertTrue(answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n"))
        self.assertTrue(answer.endswith(b"\r\n\r\nService Unavailable"))


def table(*routers: Router, servers: tuple[str, ...] = ("http://10.0.0.1:80",)) -> Any:
    configuration = Configuration(
        routers={router.name: router for router in routers},
        services={"app": Service("app", tuple(map(Server, servers)))},
    )
    return compile_table({"file": configuration}, {"web": EntryPointFacts()}, ("hello@internal",))


class GateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.memory = MemoryGate()
        self.network = MemoryNetwork()
        self.gate = Gate(
            ("web",),
            self.network,
            self.memory.clock,
            self.memory.deadlines,
            UpstreamSettings(),
            {"hello@internal": PingResource(lambda: 200)},
        )
        self.memory.leaf = self.gate.roots["web"]
        self.client = self.memory.client()

    def advance(self, seconds: float) -> None:
        self.memory.advance(seconds)

    def ask(self, host: bytes = b"a.example") -> bytes:
        self.client.receive(GET.replace(b"a.example", host))
        for server in self.network.servers:
            if server.take():
                server.receive(OK)
        return self.client.take()

    def test_routes(self) -> None:
        """Requests go where the table says, to servers and to resources of the gate's own."""
        self.gate.apply(
            table(
                Router("a", "Host(`a.example`)", "app"),
                Router("b", "Host(`b.example`)", "hello@internal"),
                Router("c", "Host(`c.example`)", "nobody"),
                Router("all", "PathPrefix(`/`)", "app"),
            )
        )
        self.assertEqual(self.ask(), OK)
        self.assertTrue(self.ask(b"b.example").endswith(b"\r\n\r\nOK"))
        self.assertTrue(self.ask(b"c.example").endswith(b"404 page not found\n"))
        self.assertEqual(self.ask(b"d.example"), OK)
        self.assertEqual([e.router for e in self.memory.finished_exchanges], ["a@file", "b@file", "", "all@file"])

    def test_files_of_middlewares(self) -> None:
        """Users of a file that has changed are in force with the next table, whatever else has changed."""
        path = self.mktemp()
        users = structure(basic_auth.Settings, {"usersFile": path}, "basicAuth")
        guarded = Configuration(
            routers={"a": Router("a", "Host(`a.example`)", "app", middlewares=("auth",))},
            services={"app": Service("app", (Server("http://10.0.0.1:80"),))},
            middlewares={"auth": ConfiguredMiddleware("auth", "basicauth", users)},
        )
        compiler, facts = Compiler(), {"web": EntryPointFacts()}
        asked = GET[:-2] + b"Authorization: Basic Ym9iOnNlY3JldA==\r\n\r\n"  # bob:secret
        for line, status in (
            (f"bob:{SHA1}\n", b"200"),
            (f"amy:{SHA1}\n", b"401"),
            ("nonsense", b"404"),
            (f"bob:{SHA1}", b"200"),
        ):
            Path(path).write_text(line)
            self.gate.apply(compiler.compile({"file": guarded}, facts))
            self.client.receive(asked)
            for server in self.network.servers:
                if server.take():
                    server.receive(OK)
            self.assertEqual(self.client.take()[9:12], status, line)

    def test_nothing_matches(self) -> None:
        """Without a route the answer is Traefik's."""
        self.assertEqual(
            self.ask(),
            b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"X-Content-Type-Options: nosniff\r\nContent-Length: 19\r\n\r\n404 page not found\n",
        )

    def gate_that_connects(self) -> Gate:
        """A gate whose middlewares can connect."""
        return Gate(
            ("web",),
            self.network,
            self.memory.clock,
            self.memory.deadlines,
            UpstreamSettings(),
            {},
            functools.partial(Context, network=self.network),
        )

    def test_limits(self) -> None:
        """What a limit keeps stays with it from table to table, and its Redis is left when the limit is gone."""
        gate = self.gate_that_connects()
        tree = {"average": "1", "redis": {"endpoints": "redis:6379"}}
        limit = structure(rate_limit.Settings, tree, "rateLimit")
        limited = Configuration(
            routers={"a": Router("a", "Host(`a.example`)", "app", middlewares=("limit",))},
            services={"app": Service("app", (Server("http://10.0.0.1:80"),))},
            middlewares={"limit": ConfiguredMiddleware("limit", "ratelimit", limit)},
        )
        facts = {"web": EntryPointFacts()}
        # Tables of equal routes, and of the very same ones.
        compiler = Compiler()
        for number, compiled in enumerate((compile_table, compile_table, *[compiler.compile] * 3)):
            other = Configuration(services={f"other{number}": Service("other", ())})
            gate.apply(compiled({"file": limited, "swarm": other}, facts))
            self.assertEqual([one.getPeer().host for one in self.network.servers], ["redis"])
            self.assertEqual(gate.redis(), {"limit@file": (True, 0, 0)})
        gate.apply(compile_table({}, facts, ()))
        self.assertEqual((self.network.servers[0].closed, gate.redis()), ("lost", {}))
        self.network.servers[0].settle()
        self.memory.clock.advance(60)
        self.assertEqual(len(self.network.servers), 1)

    def test_shared_limit(self) -> None:
        """What a limit keeps stays for as long as one of its routers is there, whichever change, go and come."""
        gate = self.gate_that_connects()
        limit = structure(rate_limit.Settings, {"average": "1", "redis": {"endpoints": "redis:6379"}}, "rateLimit")
        compiler = Compiler()

        def apply(**paths: str) -> None:
            configuration = Configuration(
                routers={
                    name: Router(name, f"Path(`/{path}`)", "app", middlewares=("limit",))
                    for name, path in paths.items()
                },
                services={"app": Service("app", (Server("http://10.0.0.1:80"),))},
                middlewares={"limit": ConfiguredMiddleware("limit", "ratelimit", limit)},
            )
            gate.apply(compiler.compile({"file": configuration}, {"web": EntryPointFacts()}))

        for paths in ({"a": "x", "b": "x"}, {"a": "y", "b": "x"}, {"b": "x"}, {"b": "y"}, {"c": "y"}):
            apply(**paths)
            (redis,) = self.network.servers
            self.assertFalse(redis.closed, paths)
        apply()
        self.assertEqual((redis.closed, gate.redis()), ("lost", {}))

    def test_draining(self) -> None:
        """A server that has left the table is told of as draining until its last request is answered."""
        self.gate.apply(table(Router("a", "Host(`a.example`)", "app")))
        self.client.receive(GET)
        self.gate.apply(table(servers=()))
        ((name, server, upstream),) = self.gate.draining()
        self.assertEqual((name, upstream.url, upstream.in_flight), ("app@file", server.url, 1))
        self.gate.apply(table(servers=()))
        self.assertEqual(len(self.gate.draining()), 1)
        for one in self.network.servers:
            if one.take():
                one.receive(OK)
        self.assertEqual(self.client.take(), OK)
        self.assertEqual(self.gate.draining(), [])

    def test_weights(self) -> None:
        """Servers get requests in proportion to their weights, evenly spread; none without weight."""
        self.assertEqual(in_turns([1, 1, 1]), [0, 1, 2])
        self.assertEqual(in_turns([4, 2, 0]), [0, 1, 0])
        self.assertEqual(in_turns([5, 1, 1]), [0, 0, 1, 0, 2, 0, 0])
        self.assertEqual(in_turns([-1, 0]), [])
        uneven = in_turns([10**9, 1])
        self.assertLessEqual(len(uneven), 1024)
        self.assertEqual(set(uneven), {0, 1})

    def test_change_keeps_connections(self) -> None:
        """A new table that keeps a server keeps its connections; one that drops it closes the idle ones."""
        router = Router("a", "Host(`a.example`)", "app")
        self.gate.apply(table(router))
        self.ask()
        self.gate.apply(table(router, Router("b", "Host(`b.example`)", "app")))
        self.ask()
        self.assertEqual(len(self.network.servers), 1)
        self.gate.apply(table(router, servers=("http://10.0.0.2:80",)))
        self.assertEqual(self.network.servers[0].closed, "lost")
        self.ask()
        self.assertEqual(self.memory.finished_exchanges[-1].server, "http://10.0.0.2:80")

    def test_change_during_a_request(self) -> None:
        """A request ends on the server that it began with, though no table names it any more."""
        router = Router("a", "Host(`a.example`)", "app")
        self.gate.apply(table(router))
        self.client.receive(GET)
        self.gate.apply(table(router, servers=()))
        self.network.servers[0].receive(OK)
        self.assertEqual(self.client.take(), OK)
        self.assertEqual(self.network.servers[0].closed, "lost")

    def test_service_without_servers(self) -> None:
        """A service that has had no server for a while is answered for at once; one that just lost its last waits."""
        router = Router("a", "Host(`a.example`)", "app")
        self.gate.apply(table(router, servers=()))
        self.assertIn(b"503 Service Unavailable", self.ask())
        self.gate.apply(table(router))
        self.gate.apply(table(router, servers=()))
        self.assertEqual(self.ask(), b"")
        self.advance(6)
        self.assertIn(b"503 Service Unavailable", self.client.take())
        self.assertIn(b"503 Service Unavailable", self.ask())

    def test_wait_for_a_server(self) -> None:
        """A request of the moment between two servers gets its answer from the new one, with its body."""
        router = Router("a", "Host(`a.example`)", "app")
        self.gate.apply(table(router))
        self.gate.apply(table(router, servers=()))
        self.client.receive(b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nab")
        self.assertTrue(self.client.paused)
        self.gate.apply(table(router, servers=("http://10.0.0.2:80",)))
        self.client.receive(b"c")
        self.assertTrue(self.network.servers[0].take().endswith(b"\r\n\r\nabc"))
        self.network.servers[0].receive(OK)
        self.assertEqual(self.client.take(), OK)

    def test_wait_for_a_server_to_listen(self) -> None:
        """A task that runs but does not listen yet costs no answer, if there was another before."""
        router = Router("a", "Host(`a.example`)", "app")
        self.gate.apply(table(router))
        self.gate.apply(table(router, servers=("http://10.0.0.2:80",)))
        self.network.accepts = False
        self.client.receive(GET)
        self.network.refuse()
        self.assertEqual(self.client.take(), b"")
        self.advance(1)
        self.network.accept()
        self.advance(0.25)
        self.network.servers[0].receive(OK)
        self.assertEqual(self.client.take(), OK)

    def test_not_sent_again_and_again(self) -> None:
        """A request that servers may have had is sent three times at most, whoever is on the way; none waits twice."""
        router = Router("a", "Host(`a.example`)", "app")
        self.gate.apply(table(router))
        self.gate.apply(table(router, servers=("http://10.0.0.2:80",)))
        self.client.receive(GET.replace(b"GET", b"DELETE"))
        for _ in range(20):
            if not self.network.servers[-1].closed:
                self.network.servers[-1].reset()
            self.advance(0.25)
        self.assertIn(b"HTTP/1.1 502 ", self.client.take())
        self.assertLessEqual(len(self.network.servers), 3)

    def test_waits_once(self) -> None:
        """However often its attempts fail, a request waits no longer than it may."""
        router = Router("a", "Host(`a.example`)", "app")
        self.gate.apply(table(router))
        self.gate.apply(table(router, servers=()))
        self.client.receive(GET)
        self.advance(3)
        self.network.accepts = False
        self.gate.apply(table(router, servers=("http://10.0.0.2:80",)))
        for _ in range(12):
            while self.network.connecting:
                self.network.refuse()
            self.advance(0.25)
        self.assertIn(b"HTTP/1.1 50", self.client.take())

    def test_service_removed_while_waiting(self) -> None:
        """A service that loses its last server and is then removed keeps nobody waiting."""
        self.gate.apply(table(Router("a", "Host(`a.example`)", "app")))
        self.gate.apply(table(Router("a", "Host(`a.example`)", "app"), servers=()))
        self.assertEqual(self.ask(), b"")
        self.gate.apply(compile_table({}, {"web": EntryPointFacts()}, ()))
        self.assertIn(b"503 Service Unavailable", self.client.take())
        self.assertIn(b"404 Not Found", self.ask())

    def test_client_leaves_while_waiting(self) -> None:
        """Who has left is not waited for."""
        router = Router("a", "Host(`a.example`)", "app")
        self.gate.apply(table(router))
        self.gate.apply(table(router, servers=()))
        self.client.receive(GET)
        self.client.reset()
        self.gate.apply(table(router))
        self.assertEqual(self.network.servers, [])
        self.assertEqual([e.status for e in self.memory.finished_exchanges], [499])

    def test_new_server_is_probed(self) -> None:
        """Beside others a new server gets requests once it accepts connections, and keeps the one it accepted."""
        router = Router("a", "Host(`a.example`)", "app")
        self.gate.apply(table(router))
        self.ask()
        self.network.accepts = False
        self.gate.apply(table(router, servers=("http://10.0.0.1:80", "http://10.0.0.2:80")))
        for _ in range(3):
            self.assertEqual(self.ask(), OK)
        self.assertEqual({e.server for e in self.memory.finished_exchanges}, {"http://10.0.0.1:80"})
        self.network.accept()
        self.ask()
        self.ask()
        self.assertEqual(
            {e.server for e in self.memory.finished_exchanges[-2:]}, {f"http://10.0.0.{n}:80" for n in (1, 2)}
        )
        self.assertEqual(len(self.network.servers), 2)

    def test_unreachable_server_is_left_out(self) -> None:
        """A server that refused is not asked again for a moment, then by one request, then as before."""
        router = Router("a", "Host(`a.example`)", "app")
        both = ("http://10.0.0.1:80", "http://10.0.0.2:80")
        self.gate.apply(table(router, servers=both))
        self.network.accepts = False
        self.client.receive(GET)
        self.network.refuse()
        self.network.accept()
        self.network.servers[0].receive(OK)
        self.assertEqual(self.client.take(), OK)
        for _ in range(3):
            self.assertEqual(self.ask(), OK)
        self.assertEqual(self.network.connecting, [])
        self.advance(1)
        self.network.accepts = True
        self.ask()
        self.ask()
        self.assertEqual({e.server for e in self.memory.finished_exchanges[-2:]}, set(both))

    def test_in_an_ordinary_site(self) -> None:
        """The tree is an ordinary resource: any Site can serve it."""
        self.gate.apply(table(Router("a", "Host(`a.example`)", "app")))
        channel = DummyChannel()
        channel.site = Site(self.gate.roots["web"])
        request: Any = channel.site.requestFactory(channel)
        request.requestHeaders.setRawHeaders(b"host", [b"a.example"])
        request.gotLength(3)
        request.handleContentChunk(b"abc")
        request.requestReceived(b"POST", b"/x?y", b"HTTP/1.1")
        sent = self.network.servers[0].take()
        self.assertTrue(sent.startswith(b"POST /x?y HTTP/1.1\r\nHost: a.example\r\n"))
        self.assertTrue(sent.endswith(b"Content-Length: 3\r\n\r\nabc"))
        self.network.servers[0].receive(OK)
        written = channel.transport.written.getvalue()
        self.assertTrue(written.startswith(b"HTTP/1.1 200 OK\r\n"), written)
        self.assertTrue(written.endswith(b"\r\n\r\nok"), written)


class Recorder(Middleware):
    """A middleware that notes what it sees, and does as it is told."""

    def __init__(self, name: str, notes: list[str], result: Any = None) -> None:
        self.name = name
        self.notes = notes
        self.result = result

    def request(self, exchange: Any) -> Any:
        self.notes.append(f"{self.name} asked")
        if isinstance(self.result, Exception):
            raise self.result
        if isinstance(self.result, int):
            exchange.answer(self.result, b"no")
            return None
        return self.result

    def response(self, exchange: Any, response: Any) -> None:
        self.notes.append(f"{self.name} answered")
        response.fields.append((b"X-By", self.name.encode()))


class Upper:
    """A body in capitals, with an end."""

    def feed(self, data: bytes) -> bytes:
        return data.upper()

    def end(self) -> bytes:
        return b"!"


class Wrapper(Middleware):
    """Leads both bodies through a transform."""

    def request_body(self, exchange: Any) -> Upper:
        return Upper()

    def response_body(self, exchange: Any, response: Any) -> Upper:
        return Upper()


@attrs.frozen
class _Case:
    result: Any
    status: int
    notes: list[str]


class ChainTests(SynchronousTestCase):
    def chain(self, *middlewares: Middleware) -> MemoryGate:
        gate = MemoryGate()
        gate.leaf = Chain("r@test", middlewares, gate.leaf)
        return gate

    def test_order(self) -> None:
        """Requests pass the middlewares in order, answers in reverse, and nobody sees its own answer again."""
        for case in (
            _Case(None, 200, ["a asked", "b asked", "b answered", "a answered"]),
            _Case(418, 418, ["a asked", "b asked", "a answered"]),
        ):
            notes: list[str] = []
            gate = self.chain(Recorder("a", notes), Recorder("b", notes, case.result))
            client = gate.client()
            client.receive(GET)
            for server in gate.network.servers:
                server.receive(OK)
            self.assertEqual(notes, case.notes)
            self.assertIn(b"HTTP/1.1 %d " % case.status, client.take())

    def test_failure_protects(self) -> None:
        """A middleware that fails answers 500: the request reaches no server."""
        gate = self.chain(Recorder("a", [], RuntimeError("broken")))
        client = gate.client()
        client.receive(GET)
        self.assertIn(b"HTTP/1.1 500 Internal Server Error", client.take())
        self.assertEqual(gate.network.servers, [])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_waiting(self) -> None:
        """A request waits as long as its middleware does, and not longer than its client."""
        waiting: Deferred[None] = Deferred()
        gate = self.chain(Recorder("a", [], waiting))
        client = gate.client()
        client.receive(GET)
        self.assertEqual(gate.network.servers, [])
        waiting.callback(None)
        gate.server.receive(OK)
        self.assertIn(b"X-By: a\r\n", client.take())

        cancelled: list[Any] = []
        gate = self.chain(Recorder("a", [], Deferred(cancelled.append)))
        client = gate.client()
        client.receive(GET)
        client.reset()
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(gate.network.servers, [])
        self.assertEqual([e.status for e in gate.finished_exchanges], [499])

    def test_wrapped_bodies(self) -> None:
        """Bodies can be led through a transform, in both directions, whatever their framing."""
        gate = self.chain(Wrapper())
        client = gate.client()
        client.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        self.assertTrue(gate.server.take().endswith(b"Transfer-Encoding: chunked\r\n\r\n2\r\nAB\r\n"))
        client.receive(b"cd")
        self.assertEqual(gate.server.take(), b"3\r\nCD!\r\n0\r\n\r\n")
        gate.server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok")
        self.assertTrue(client.take().endswith(b"Transfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n"))
        gate.server.receive(b"ay")
        self.assertEqual(client.take(), b"2\r\nAY\r\n1\r\n!\r\n0\r\n\r\n")
        client.receive(GET)
        gate.server.receive(OK)
        self.assertTrue(client.take().endswith(b"Content-Length: 3\r\n\r\nOK!"))
