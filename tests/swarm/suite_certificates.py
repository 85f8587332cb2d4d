"""Certificates on a real Swarm: its configs keep the contract, and three replicas share what Pebble signs."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from swarmgate.acme.certificate import names_in
from swarmgate.acme.sealing import Keys
from swarmgate.acme.store import CERTIFICATE
from swarmgate.acme.swarm_store import SwarmStore
from swarmgate.providers.swarm.configs import DockerConfigs
from swarmgate.providers.swarm.engine import Endpoint
from tests.contract_store import ConfigsContract, StoreContract
from tests.e2e.pebble import Pebble
from tests.e2e.test_certificates import AuthorityCase
from tests.swarm.lab import ADDRESSES, Engine
from tests.swarm.shared import lab
from tests.test_acme_stores import KEY

_names = itertools.count(1)


def pause() -> Deferred[None]:
    """Wait a moment."""
    return deferLater(reactor, 0.05, lambda: None)  # type: ignore[arg-type]


class ConfigsTests(ConfigsContract, TestCase):
    """The configs of a real Swarm keep the contract that those in memory keep."""

    timeout = 120

    def setUp(self) -> None:
        self.lab = lab()
        self.prefix = f"c{os.getpid()}-{next(_names)}"
        # A manager that is not the leader.
        self.configs = DockerConfigs(reactor, Endpoint(url=self.lab.engines[-1].endpoint))
        self.addCleanup(self.clear)

    async def clear(self) -> None:
        for config in await self.configs.find([self.prefix]):
            await self.configs.remove(config)
        await self.configs.close()

    def pause(self) -> Deferred[None]:
        return pause()


class StoreTests(StoreContract, TestCase):
    """A store in a real Swarm keeps the contract; each replica sees it through another manager."""

    timeout = 120

    def setUp(self) -> None:
        self.lab = lab()
        self.name = f"s{os.getpid()}-{next(_names)}"
        self.turns = itertools.count()
        self.store = self.another()
        self.addCleanup(clear, self.lab.engines[0].endpoint, self.name)

    def another(self) -> SwarmStore:
        engine = self.lab.engines[next(self.turns) % 3]
        store = SwarmStore(
            reactor, DockerConfigs(reactor, Endpoint(url=engine.endpoint)), Keys.from_text(KEY, "test"), self.name
        )
        self.addCleanup(store.close)
        return store

    async def rung(self, true: Any) -> None:
        for _ in range(100):
            if true():
                return
            await pause()
        raise AssertionError("no ring")

    async def test_thousand(self) -> None:
        """A thousand certificates fit, are read at once by a replica that starts, and cheap looks stay cheap."""
        content = os.urandom(5000)
        for first in range(1, 1001, 20):
            for number in range(first, first + 20):
                self.assertTrue(await self.store.put(number, CERTIFICATE, f"n{number}.example", content))
        other = self.another()
        began = time.monotonic()
        seen = await other.look(True)
        print(f"\n1000 certificates read in {time.monotonic() - began:.2f} s")
        self.assertEqual(1000, len(seen.records))
        began = time.monotonic()
        for _ in range(10):
            await other.look(False)
        print(f"a cheap look takes {(time.monotonic() - began) * 100:.1f} ms")


class ReplicasTests(AuthorityCase):
    """Three replicas, each at the manager of its own node."""

    timeout = 300

    def setUp(self) -> None:
        super().setUp()
        self.lab = lab()
        self.name = f"r{os.getpid()}-{next(_names)}"
        self.addCleanup(clear, self.lab.engines[0].endpoint, self.name)

    def store(self, number: int) -> SwarmStore:
        configs = DockerConfigs(reactor, Endpoint(url=self.lab.engines[number % 3].endpoint))
        return SwarmStore(reactor, configs, Keys.from_text(KEY, "test"), self.name)

    async def test_three(self) -> None:
        """Each certificate is ordered once, and all replicas serve it within five seconds of its being signed."""
        pebble = self.authority()
        self.start(pebble, 3, {"httpChallenge": {"entryPoint": "web"}})
        wanted = [(f"n{number}.gate.example",) for number in range(5)]
        self.want(*wanted)
        first: dict[tuple[str, ...], float] = {}
        last: dict[tuple[str, ...], float] = {}

        def served() -> bool:
            for one in wanted:
                having = sum(one in [each.domains for each in replica.certificates] for replica in self.replicas)
                if having:
                    first.setdefault(one, time.monotonic())
                if having == 3:
                    last.setdefault(one, time.monotonic())
            return len(last) == len(wanted)

        await self.until(served)
        self.assertEqual(len(wanted), pebble.log().count("Issued certificate serial"))
        slowest = max(last[one] - first[one] for one in wanted)
        print(f"\nserved by all {slowest:.2f} s after it was served by one")
        self.assertLess(slowest, 5)
        told = await deferToThread(
            self.lab.docker, "config", "inspect", *(await self.names()), "--format", "{{json .Spec}}"
        )
        self.assertNotIn("PRIVATE", told)
        self.assertNotIn("LS0tLS1CRUdJTi", told)

    async def names(self) -> list[str]:
        """Return the names of the configs of this test."""
        told = await deferToThread(self.lab.docker, "config", "ls", "--format", "{{.Name}}")
        return [name for name in told.split() if name.startswith(self.name)]

    async def test_leader_killed(self) -> None:
        """The replica that orders vanishes in the middle of it, and another obtains the certificate."""
        await self.kill_leader()


ROUTES = """\
http:
  routers:
"""
ROUTER = """\
    {name}:
      rule: Host(`{name}.gate.example`)
      entryPoints: [websecure]
      service: noop@internal
      tls: {{certResolver: le}}
"""


class GatesTests(TestCase):
    """Three gates, each a process on a node of its own that speaks to that node's manager; Pebble is in the LAN."""

    timeout = 420

    def setUp(self) -> None:
        if not Pebble.is_installed():
            raise SkipTest("Debian's package pebble is not installed")
        self.lab = lab()
        self.name = f"g{os.getpid()}-{next(_names)}"
        self.folder = Path(tempfile.mkdtemp(prefix="swarmgate-acme-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        (self.folder / "key").write_text(KEY)
        self.pebble = Pebble(self.folder, host=f"{ADDRESSES}.1", wrap=self.lab.lan.wrap)
        self.pebble.__enter__()
        self.addCleanup(self.pebble.__exit__, None, None, None)
        self.gates: dict[Engine, subprocess.Popen[bytes]] = {}
        self.addCleanup(clear, self.lab.engines[0].endpoint, self.name)
        self.addCleanup(lambda: [gate.wait(20) for gate in self.gates.values()])
        self.addCleanup(lambda: [gate.terminate() for gate in self.gates.values()])

    def route(self, *names: str) -> None:
        """Let all gates have routers for NAME.gate.example."""
        new = self.folder / "new"
        new.write_text(ROUTES + "".join(ROUTER.format(name=name) for name in names))
        new.rename(self.folder / "routes.yml")

    def start(self, engine: Engine, *more: str) -> None:
        """Start a gate on a node."""
        resolver = "--certificatesResolvers.le.acme"
        options = [
            f"--entryPoints.plain.address=:{self.pebble.http_port}",
            f"--entryPoints.websecure.address=:{self.pebble.tls_port}",
            f"--providers.file.filename={self.folder}/routes.yml",
            f"--providers.swarm.endpoint={engine.endpoint}",
            f"{resolver}.caServer={self.pebble.directory}",
            f"{resolver}.caCertificates={self.pebble.ca}",
            f"{resolver}.storage=swarm:{self.name}",
            f"{resolver}.storageKeyFile={self.folder}/key",
            f"{resolver}.httpChallenge.entryPoint=plain",
            *(f"{resolver}.{one}" for one in more),
        ]
        run = "import sys; from swarmgate.cli import main; sys.exit(main())"
        with open(self.folder / f"{engine.host}.log", "ab") as log:
            self.gates[engine] = engine.popen(
                *(sys.executable, "-c", run, "run", *options),
                cwd=Path(__file__).parent.parent.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def said(self, engine: Engine) -> str:
        """Return what a gate has logged."""
        return (self.folder / f"{engine.host}.log").read_text(errors="replace")

    def served(self, engine: Engine, name: str) -> bool:
        """Return whether a gate serves the certificate of NAME.gate.example to a client in the LAN."""
        command = ["openssl", "s_client", "-connect", f"{engine.address}:{self.pebble.tls_port}"]
        told = self.lab.lan.run(*command, "-servername", f"{name}.gate.example", timeout=10, check=False)
        return "Pebble Intermediate" in told and self.named(told, name)

    def named(self, told: str, name: str) -> bool:
        """Return whether the first certificate in a text is for NAME.gate.example."""
        begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
        pem = begin + told.partition(begin)[2].partition(end)[0] + end
        return f"{name}.gate.example" in names_in(x509.load_pem_x509_certificate(pem.encode()))

    async def until(self, true: Any, seconds: float) -> float:
        """Wait until it is so; return how long that took."""
        began = time.monotonic()
        while not await deferToThread(true):
            logs = "".join(self.said(engine)[-2000:] for engine in self.gates)
            self.assertLess(time.monotonic() - began, seconds, logs + self.pebble.log()[-2000:])
            await pause()
        return time.monotonic() - began

    async def test_killed(self) -> None:
        """One order for each certificate; all gates serve it; the one that orders is killed with SIGKILL in the middle:
        another finishes; and one that starts anew serves at once."""
        engines = self.lab.engines
        for name, engine in zip(("one", "two", "three", "four"), [*engines, engines[0]], strict=True):
            # Each domain leads the authority to another gate, whoever orders.
            await deferToThread(self.pebble.resolve, f"{name}.gate.example", engine.address)
        self.route("one", "two", "three")
        for engine in engines:
            self.start(engine, "httpChallenge.delay=6s")
        everywhere = [(engine, name) for engine in engines for name in ("one", "two", "three")]
        await self.until(lambda: all(self.served(*each) for each in everywhere), 90)
        self.assertEqual(3, self.pebble.log().count("Issued certificate serial"))
        self.assertNotIn("There are now 2 accounts", self.pebble.log())
        # The leader is killed in the middle of an order.
        await deferToThread(self.pebble.resolve, "four.gate.example", *(engine.address for engine in engines))
        self.route("one", "two", "three", "four")
        ordered = "certificate for four.gate.example: ordered"
        await self.until(lambda: any(ordered in self.said(engine) for engine in engines), 30)
        await self.until(lambda: "There are now 4 orders" in self.pebble.log(), 30)
        (leader,) = [engine for engine in engines if ordered in self.said(engine)]
        self.gates[leader].kill()
        await deferToThread(self.gates.pop(leader).wait, 10)
        others = [engine for engine in engines if engine is not leader]
        await deferToThread(self.pebble.resolve, "four.gate.example", *(engine.address for engine in others))
        took = await self.until(lambda: all(self.served(engine, "four") for engine in others), 260)
        self.assertEqual(4, self.pebble.log().count("Issued certificate serial"))
        # One that starts has no volume and no time to order anything: all is in the Swarm.
        self.start(leader)
        back = await self.until(lambda: all(self.served(leader, name) for name in ("one", "two", "three", "four")), 20)
        self.assertEqual(4, self.pebble.log().count("Issued certificate serial"))
        print(f"\nanother has finished {took:.0f} s after SIGKILL; a new gate serves all {back:.1f} s after its start")


async def clear(endpoint: str, prefix: str) -> None:
    """Remove configs."""
    configs = DockerConfigs(reactor, Endpoint(url=endpoint))
    for config in await configs.find([prefix]):
        await configs.remove(config)
    await configs.close()
