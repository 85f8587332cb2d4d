"""The real gate in a Swarm that exists in memory only: ``swarmgate demo``.

The tasks are real HTTP servers, each on a loopback address of its own, and every service is rolled from time to
time as a Swarm would with ``start-first``: the new task listens, the old one is wanted no longer, and two seconds
later its port closes.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.task import LoopingCall
from twisted.web.resource import Resource
from twisted.web.server import Site

from swarmgate import service
from swarmgate.agent.containers import Containers, Running
from swarmgate.agent.document import TaskCounters
from swarmgate.agent.node import sample
from swarmgate.agent.server import AgentResource, Sampler
from swarmgate.config.load import load
from swarmgate.providers.swarm.agents import LABEL, PORT_LABEL
from swarmgate.providers.swarm.snapshot import Task
from swarmgate.testing import MemorySwarm

PORT = 8080
ROLL_EVERY = 20.0  # seconds
_LEAVES_AFTER = 2.0  # seconds from a task's end being wanted to its port closing, as in a Swarm
_STAGGER = 1.0  # seconds between two tasks of a roll
_AGENT_NET = 255  # the third number of the agent's address; those of tasks begin at 0


@attrs.frozen
class DemoService:
    """A service of the demo.

    :ivar about: what a visitor can see with it.
    :ivar ask: how to ask it, for ``curl``, without the gate's address.
    """

    name: str
    replicas: int
    labels: dict[str, str]
    about: str
    ask: str


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
    ),
    DemoService(
        "shop",
        2,
        {
            **_labels("shop", "Host(`shop.localhost`) && PathPrefix(`/cart`)"),
            "traefik.http.routers.shop.middlewares": "cart",
            "traefik.http.middlewares.cart.stripprefix.prefixes": "/cart",
        },
        "a path of a host, its prefix stripped",
        "-H 'Host: shop.localhost' {gate}/cart/7",
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
    ),
    DemoService(
        "misspelt",
        1,
        _labels("misspelt", "Hots(`misspelt.localhost`)"),
        "a label with a mistake: the log tells what is wrong, and 404 is answered",
        "-H 'Host: misspelt.localhost' {gate}/",
    ),
)


class Backend(Resource):
    """A task's application: tells which task has answered."""

    isLeaf = True

    def __init__(self, name: str, address: str) -> None:
        Resource.__init__(self)
        self._name = name
        self._address = address
        self._count = itertools.count(1)

    def render(self, request: Any) -> bytes:
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        request.setHeader(b"Server", b"demo")
        path = request.uri.decode("ascii", "replace")
        return f"{self._name} at {self._address}: answer {next(self._count)} to {path}\n".encode()


class _QuietSite(Site):
    """A server whose access log would say what the gate's says."""

    noisy = False

    def log(self, request: Any) -> None:
        pass


def containers_of(swarm: MemorySwarm, seconds: float, memory: int) -> Deferred[Containers]:
    """What an engine would tell of the tasks: they are all in this process, so their numbers are made up.

    :param seconds: since the demo has begun.
    """
    counters, running = {}, {}
    for each in SERVICES:
        for task in swarm.tasks_of(each.name):
            # Each goes up and down at its own pace.
            pace = 0.1 + 0.03 * (int(task.id[-6:]) % 7)
            cpu = 0.08 * seconds - 0.05 / pace * math.cos(pace * seconds)
            octets = int(40_000 * seconds - 20_000 / pace * math.cos(pace * seconds)) + 1_000_000
            held = int(48e6 + 4e6 * (task.slot + math.sin(pace * seconds)))
            counters[task.id] = TaskCounters(max(0.0, cpu + 1.0), held, 128_000_000, octets, 4 * octets, 0, octets // 8)
            running[task.id] = Running(task.id, task.id, each.name, str(task.slot))
    return succeed(Containers(counters, running))


class Town(Service):
    """A Swarm in memory, and the servers of its tasks.

    :param say: called with each line that a visitor should see.
    """

    def __init__(self, reactor: Any, say: Any = print) -> None:
        self.swarm = MemorySwarm()
        self._reactor = reactor
        self._say = say
        self._hosts = itertools.count(2)
        self._ports: dict[str, Any] = {}
        self._rolling = LoopingCall(self._roll_next)
        self._rolling.clock = reactor
        self._turn = itertools.cycle([each for each in SERVICES if each.replicas > 1])
        self._add_agent()
        for each in SERVICES:
            self.swarm.add_service(each.name, each.labels, replicas=0)
            for slot in range(1, each.replicas + 1):
                self._start(each.name, slot)
            self.swarm.update_service(each.name, replicas=each.replicas)

    def startService(self) -> None:
        Service.startService(self)
        self._rolling.start(ROLL_EVERY, now=False)

    def stopService(self) -> Any:
        Service.stopService(self)
        if self._rolling.running:
            self._rolling.stop()
        ports, self._ports = self._ports, {}
        return DeferredList([port.stopListening() for port in ports.values()])

    def _start(self, name: str, slot: int) -> Task:
        number = next(self._hosts)
        address = f"127.100.{number // 250}.{number % 250 + 1}"
        task = self.swarm.start_task(name, address, slot=slot)
        site: Any = _QuietSite(Backend(f"{name}.{slot}", address))  # type: ignore[no-untyped-call]
        self._ports[task.id] = self._reactor.listenTCP(8000, site, interface=address)
        return task

    def _add_agent(self) -> None:
        """A real agent: what it tells of the node is true."""
        address = f"127.100.{_AGENT_NET}.1"
        self.swarm.add_service("agent", {LABEL: "true", PORT_LABEL: "8000"}, replicas=0)
        task = self.swarm.start_task("agent", address, slot=1)
        self.swarm.update_service("agent", replicas=None)
        began = self._reactor.seconds()
        sampler = Sampler(
            lambda: succeed(sample(Path("/sys"), "/")),
            lambda memory: containers_of(self.swarm, self._reactor.seconds() - began, memory),
            time.time,
            time.monotonic,
        )
        site: Any = _QuietSite(AgentResource(sampler, "n1", b""))  # type: ignore[no-untyped-call]
        self._ports[task.id] = self._reactor.listenTCP(8000, site, interface=address)

    def _roll_next(self) -> None:
        each = next(self._turn)
        self._say(f"rolling {each.name}: {each.replicas} tasks are replaced, one after the other, new ones first")
        for number, task in enumerate(self.swarm.tasks_of(each.name)):
            self._reactor.callLater(number * _STAGGER, self._replace, each.name, task)

    def _replace(self, name: str, old: Task) -> None:
        if not self.running:
            return
        self._start(name, old.slot)
        self.swarm.stop_task(old)
        self.swarm.ring()
        self._reactor.callLater(_LEAVES_AFTER, self._leave, old)

    def _leave(self, task: Task) -> None:
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


def run(reactor: Any, port: int = 0) -> int:
    """Run the demo until it is interrupted.

    :param port: where the gate listens; 0 means the environment's PORT, or 8080. The dashboard is on the next one.
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
            "--api.insecure",
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
    text = welcome(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}")
    reactor.callWhenRunning(lambda: print(text, flush=True))
    return service.run(configuration, reactor, town.swarm)
