"""Certificates on a real Swarm: its configs keep the contract, and three replicas share what Pebble signs."""

from __future__ import annotations

import itertools
import os
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from swarmgate.acme.sealing import Keys
from swarmgate.acme.store import CERTIFICATE
from swarmgate.acme.swarm_store import SwarmStore
from swarmgate.providers.swarm.configs import DockerConfigs
from swarmgate.providers.swarm.engine import Endpoint
from tests.contract_store import ConfigsContract, StoreContract
from tests.e2e.test_certificates import AuthorityCase
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


async def clear(endpoint: str, prefix: str) -> None:
    """Remove configs."""
    configs = DockerConfigs(reactor, Endpoint(url=endpoint))
    for config in await configs.find([prefix]):
        await configs.remove(config)
    await configs.close()
