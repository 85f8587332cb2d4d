"""The real gate in a Swarm that exists in memory only: ``swarmgate demo``.

The tasks are real HTTP servers, each on a loopback address of its own, and every service is rolled from time to
time as a Swarm would with ``start-first``: the new task listens, is healthy a moment later, the old one is wanted no
longer, and two seconds later its port closes. Some visitors ask them all the time, so that there is something to see;
they come by an entry point of their own, which no access log tells of.
"""

from __future__ import annotations

import datetime
import itertools
import math
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.task import LoopingCall
from twisted.web.client import Agent, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from swarmgate import service
from swarmgate.agent.containers import Containers, Running
from swarmgate.agent.document import TaskCounters
from swarmgate.agent.node import sample
from swarmgate.agent.server import AgentResource, Sampler
from swarmgate.config.load import load
from swarmgate.providers.swarm.agents import LABEL, PORT_LABEL
from swarmgate.providers.swarm.snapshot import Task, UpdateStatus
from swarmgate.testing import MemorySwarm
from swarmgate.testing import node as node_named

PORT = 8080
NODES = ("n1", "n2", "n3")
ROLL_EVERY = 20.0  # seconds
_LEAVES_AFTER = 2.0  # seconds from a task's end being wanted to its port closing, as in a Swarm
_STAGGER = 3.0  # seconds between two tasks of a roll
_HEALTHY_AFTER = 1.5  # seconds from a task's start to its first request
_VISITS_EVERY = 0.1  # seconds
_AGENTS_NET = 255  # the third number of the agents' addresses; those of tasks begin at 0


@attrs.frozen
class DemoService:
    """A service of the demo.

    :ivar about: what a visitor can see with it.
    :ivar ask: how to ask it, for ``curl``, without the gate's address.
    :ivar visits: how many requests of visitors there are at a time, on average; ``path`` is what they ask for.
    :ivar latency: how long an answer takes, in seconds, more or less.
    :ivar faulty: the share of requests that its tasks answer with 500.
    """

    name: str
    replicas: int
    labels: dict[str, str]
    about: str
    ask: str
    visits: float = 0.0
    path: str = "/"
    latency: float = 0.005
    faulty: float = 0.0


def _labels(name: str, rule: str) -> dict[str, str]:
    return {
        "traefik.enable": "true",
        f"traefik.http.routers.{name}.rule": rule,
        f"traefik.http.services.{name}.loadbalancer.server.port": "8000",
    }


SERVICES = (
    DemoService(
        "golf",
        3,
        _labels("golf", "Host(`golf.localhost`)"),
        "three tasks take turns",
        "-H 'Host: golf.localhost' {gate}/",
        visits=3.0,
        latency=0.012,
    ),
    DemoService(
        "shop",
        2,
        {
            **_labels("shop", "Host(`shop.localhost`) && PathPrefix(`/cart`)"),
            "traefik.http.routers.shop.middlewares": "cart,small,safe",
            "traefik.http.middlewares.cart.stripprefix.prefixes": "/cart",
            "traefik.http.middlewares.small.compress": "true",
            "traefik.http.middlewares.safe.headers.framedeny": "true",
        },
        "a path of a host, its prefix stripped",
        "-H 'Host: shop.localhost' {gate}/cart/7",
        visits=1.2,
        path="/cart/7",
        latency=0.04,
        faulty=0.004,
    ),
    DemoService(
        "slow",
        1,
        {
            **_labels("slow", "Host(`slow.localhost`)"),
            "traefik.http.routers.slow.middlewares": "limit",
            "traefik.http.middlewares.limit.ratelimit.average": "1",
            "traefik.http.middlewares.limit.ratelimit.burst": "3",
        },
        "a rate limit: the fourth request within a second is answered 429",
        "-i -H 'Host: slow.localhost' '{gate}/?[1-4]'",
        latency=0.2,
    ),
    DemoService(
        "misspelt",
        1,
        _labels("misspelt", "Hots(`misspelt.localhost`)"),
        "a label with a mistake: the log tells what is wrong, and 404 is answered",
        "-H 'Host: misspelt.localhost' {gate}/",
    ),
    DemoService(
        "brief",
        1,
        _labels("brief", "Host(`brief.localhost`)"),
        "a task that has failed: the dashboard tells why, and what it logged",
        "-H 'Host: brief.localhost' {gate}/",
        visits=0.3,
        latency=0.008,
    ),
)


class Backend(Resource):
    """A task's application: tells which task has answered."""

    isLeaf = True

    def __init__(self, reactor: Any, name: str, address: str, of: DemoService) -> None:
        Resource.__init__(self)
        self._reactor = reactor
        self._name = name
        self._address = address
        self._of = of
        self._count = itertools.count(1)

    def render(self, request: Any) -> int:
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def answer() -> None:
            if not gone:
                request.write(self._answer(request))
                request.finish()

        self._reactor.callLater(self._of.latency * random.lognormvariate(0, 0.4), answer)
        return NOT_DONE_YET

    def _answer(self, request: Any) -> bytes:
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        request.setHeader(b"Server", b"demo")
        if random.random() < self._of.faulty:  # noqa: S311
            request.setResponseCode(500)
            return b"this one went wrong, as one of some hundred does\n"
        path = request.uri.decode("ascii", "replace")
        return f"{self._name} at {self._address}: answer {next(self._count)} to {path}\n".encode()


class _QuietSite(Site):
    """A server whose access log would say what the gate's says."""

    noisy = False

    def log(self, request: Any) -> None:
        pass


def containers_of(swarm: MemorySwarm, node: str, seconds: float) -> Deferred[Containers]:
    """What the engine of *node* would tell of its tasks: they are all in this process, so their numbers are made up.

    :param seconds: since the demo has begun.
    """
    counters, running = {}, {}
    for each in SERVICES:
        for task in swarm.tasks_of(each.name):
            if task.node_id != node_named(node).id:
                continue
            # Each goes up and down at its own pace.
            pace = 0.1 + 0.03 * (int(task.id[-6:]) % 7)
            cpu = 0.08 * seconds - 0.05 / pace * math.cos(pace * seconds)
            octets = int(40_000 * seconds - 20_000 / pace * math.cos(pace * seconds)) + 1_000_000
            held = int(48e6 + 4e6 * (task.slot + math.sin(pace * seconds)))
            counters[task.id] = TaskCounters(max(0.0, cpu + 1.0), held, 128_000_000, octets, 4 * octets, 0, octets // 8)
            running[task.id] = Running(task.id, task.id, each.name, str(task.slot))
    return succeed(Containers(counters, running))


class Visitors(Service):
    """Ask the services for pages, now more of them and now fewer.

    :param gate: the URL of the entry point that they come by.
    """

    def __init__(self, reactor: Any, gate: str) -> None:
        self._gate = gate
        self._pool = HTTPConnectionPool(reactor)
        self._agent = Agent(reactor, pool=self._pool)
        self._coming = LoopingCall(self._come)
        self._coming.clock = reactor
        self._reactor = reactor

    def startService(self) -> None:
        Service.startService(self)
        self._coming.start(_VISITS_EVERY, now=False)

    def stopService(self) -> Any:
        Service.stopService(self)
        if self._coming.running:
            self._coming.stop()
        return self._pool.closeCachedConnections()

    def _come(self) -> None:
        tide = 1 + 0.5 * math.sin(self._reactor.seconds() / 25)
        for each in SERVICES:
            for _ in range(round(each.visits * tide * random.lognormvariate(0, 0.5))):
                self._visit(each)

    def _visit(self, each: DemoService) -> None:
        headers = Headers({"Host": [f"{each.name}.localhost"], "User-Agent": ["a visitor of the demo"]})
        asked = self._agent.request(b"GET", f"{self._gate}{each.path}".encode(), headers)
        # Whether it fails is for the gate to tell.
        asked.addCallback(readBody).addErrback(lambda _: None)


class Town(Service):
    """A Swarm in memory, and the servers of its tasks.

    :param say: called with each line that a visitor should see.
    :param wall: seconds since 1970.
    """

    def __init__(self, reactor: Any, say: Any = print, wall: Callable[[], float] = time.time) -> None:
        self.swarm = MemorySwarm()
        self._reactor = reactor
        self._say = say
        self._wall = wall
        self._hosts = itertools.count(2)
        self._ports: dict[str, Any] = {}
        self._editions = {each.name: 1 for each in SERVICES}
        self._rolling = LoopingCall(self._roll_next)
        self._rolling.clock = reactor
        self._turn = itertools.cycle([each for each in SERVICES if each.replicas > 1])
        for node in NODES:
            self.swarm.add_node(node, role="manager" if node == NODES[0] else "worker", leader=node == NODES[0])
        self._add_agents()
        for each in SERVICES:
            self.swarm.add_service(each.name, each.labels, replicas=0, **self._made_by(each))
            for slot in range(1, each.replicas + 1):
                self._start(each, slot)
            self.swarm.update_service(each.name, replicas=each.replicas)
        failed = self.swarm.fail_task("brief", "task: non-zero exit (3)", 3, slot=1)
        self._log("brief", failed, "the database does not answer: giving up", "stderr")

    def startService(self) -> None:
        Service.startService(self)
        self._rolling.start(ROLL_EVERY, now=False)

    def stopService(self) -> Any:
        Service.stopService(self)
        if self._rolling.running:
            self._rolling.stop()
        ports, self._ports = self._ports, {}
        return DeferredList([maybeDeferred(port.stopListening) for port in ports.values()])

    def _made_by(self, each: DemoService) -> dict[str, str]:
        """What tells the tasks of a service's present edition from older ones."""
        edition = self._editions[each.name]
        return {"image": f"demo/{each.name}:{edition}", "spec": f"edition {edition}"}

    def _start(self, each: DemoService, slot: int, state: str = "running") -> Task:
        number = next(self._hosts)
        address = f"127.100.{number // 250}.{number % 250 + 1}"
        spec = self._made_by(each)["spec"]
        task = self.swarm.start_task(each.name, address, slot=slot, state=state, spec=spec)
        backend = Backend(self._reactor, f"{each.name}.{slot}", address, each)
        site: Any = _QuietSite(backend)  # type: ignore[no-untyped-call]
        self._ports[task.id] = self._reactor.listenTCP(8000, site, interface=address)
        self._log(each.name, task, f"{each.name}.{slot} of {spec} listens on {address}:8000")
        return task

    def _add_agents(self) -> None:
        """A real agent for each node: what they tell of nodes is true of this machine, which is all of them."""
        self.swarm.add_service("agent", {LABEL: "true", PORT_LABEL: "8000"}, replicas=0)
        for number, node in enumerate(NODES, 1):
            address = f"127.100.{_AGENTS_NET}.{number}"
            task = self.swarm.start_task("agent", address, slot=number, on=node)
            site: Any = _QuietSite(AgentResource(self._sampler(node), node, b"", time.time))  # type: ignore[no-untyped-call]
            self._ports[task.id] = self._reactor.listenTCP(8000, site, interface=address)
        self.swarm.update_service("agent", replicas=None)

    def _sampler(self, node: str) -> Sampler:
        began = self._reactor.seconds()
        return Sampler(
            lambda: succeed(sample(Path("/sys"), "/")),
            lambda memory: containers_of(self.swarm, node, self._reactor.seconds() - began),
            time.time,
            time.monotonic,
        )

    def _log(self, name: str, task: Task, text: str, stream: str = "stdout") -> None:
        now = datetime.datetime.fromtimestamp(self._wall(), datetime.UTC)
        self.swarm.say(name, text, stream, by=task, at=now.isoformat(timespec="microseconds")[:26] + "Z")

    def _roll_next(self) -> None:
        each = next(self._turn)
        self._say(f"rolling {each.name}: {each.replicas} tasks are replaced, one after the other, new ones first")
        self._editions[each.name] += 1
        started = int(self._wall() * 1e9)
        update = UpdateStatus("updating", "update in progress", started)
        self.swarm.update_service(each.name, update=update, **self._made_by(each))
        tasks = self.swarm.tasks_of(each.name)
        for number, task in enumerate(tasks):
            self._reactor.callLater(number * _STAGGER, self._replace, each, task)
        self._reactor.callLater(len(tasks) * _STAGGER, self._finish, each, started)

    def _replace(self, each: DemoService, old: Task) -> None:
        if not self.running:
            return
        fresh = self._start(each, old.slot, "starting")
        self.swarm.ring()
        self._reactor.callLater(_HEALTHY_AFTER, self._take_over, each, old, fresh)

    def _take_over(self, each: DemoService, old: Task, fresh: Task) -> None:
        self.swarm.set_task(fresh, state="running")
        self.swarm.stop_task(old)
        self.swarm.ring()
        self._reactor.callLater(_LEAVES_AFTER, self._leave, old)

    def _finish(self, each: DemoService, started: int) -> None:
        update = UpdateStatus("completed", "update completed", started, int(self._wall() * 1e9))
        self.swarm.update_service(each.name, update=update)

    def _leave(self, task: Task) -> None:
        """Close a task's port."""
        port = self._ports.pop(task.id, None)
        if port is not None:
            port.stopListening()


def welcome(gate: str, dashboard: str) -> str:
    """What a visitor reads first."""
    lines = [
        f"swarmgate serves at {gate}. The Swarm behind it exists in memory; its tasks are real servers on loopback.",
        f"See it at {dashboard}/dashboard/ in a browser.",
        f"Every {ROLL_EVERY:g} s a service is rolled: no request fails. Try in another terminal, as often as you like:",
        "",
    ]
    for each in SERVICES:
        lines += [f"  curl {each.ask.format(gate=gate)}", f"      {each.about}"]
    lines += [f"  curl {gate}/ping", "      whether the gate is ready", "", "Ctrl-C ends it.", ""]
    return "\n".join(lines)


def run(reactor: Any, port: int = 0, options: Sequence[str] = ()) -> int:
    """Run the demo until it is interrupted.

    :param port: where the gate listens; 0 means the environment's PORT, or 8080. The dashboard is on the next one, and
        visitors come by the one after that.
    :param options: more options of the gate.
    :returns: the exit status.
    """
    port = port or int(os.environ.get("PORT", PORT))
    configuration = load(
        [
            f"--entrypoints.web.address=127.0.0.1:{port}",
            "--providers.swarm",
            "--providers.swarm.exposedbydefault=false",
            "--ping.entrypoint=web",
            "--workers=1",
            "--accesslog",
            f"--entrypoints.traefik.address=127.0.0.1:{port + 1}",
            f"--entrypoints.visitors.address=127.0.0.1:{port + 2}",
            "--entrypoints.visitors.observability.accesslogs=false",
            "--api.insecure",
            "--api.logs",
            *options,
        ],
        {},
    )
    try:
        town = Town(reactor)
    except OSError as error:
        print(f"swarmgate demo: its tasks listen on 127.100.0.0/16, port 8000: {error}", file=sys.stderr)
        return 1
    town.startService()
    reactor.addSystemEventTrigger("after", "shutdown", town.stopService)
    visitors = Visitors(reactor, f"http://127.0.0.1:{port + 2}")
    reactor.callWhenRunning(visitors.startService)
    reactor.addSystemEventTrigger("before", "shutdown", visitors.stopService)
    text = welcome(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}")
    reactor.callWhenRunning(lambda: print(text, flush=True))
    return service.run(configuration, reactor, town.swarm)
