"""The provider on a real Swarm: how soon what happens in it is published."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import deferToThread

from swarmgate.dynamic.model import Configuration
from swarmgate.providers.swarm.decide import Options
from swarmgate.providers.swarm.watcher import SwarmProvider
from tests.swarm.convergence import percentile, running_since
from tests.swarm.suite_engine import EngineCase

COUNT = 20
SOON = 1.5  # seconds, for 95 % of the changes


class ProviderTests(EngineCase):
    """Services come, roll and go."""

    timeout = 300

    def setUp(self) -> Deferred[None]:
        super().setUp()
        self.published: list[tuple[float, Configuration]] = []
        self.provider = SwarmProvider(reactor, self.swarm, self.publish, Options(exposed_by_default=False))
        self.addCleanup(self.provider.stopService)
        self.provider.startService()
        return self.provider.when_ready()

    def publish(self, configuration: Configuration) -> None:
        self.published.append((time.time(), configuration))

    def servers(self, name: str) -> tuple[Any, ...]:
        """Return the servers of a service, as published last."""
        service = self.published[-1][1].services.get(name)
        return () if service is None else service.servers

    @inlineCallbacks
    def until(self, true: Any) -> Any:
        """Wait until what was published last is as it should be; return when that was."""
        for _ in range(600):
            if true():
                return self.published[-1][0]
            yield self.pause()
        self.fail(f"never published; last was {self.published[-1][1]}")

    def labels(self, name: str) -> dict[str, str]:
        return {"traefik.enable": "true", f"traefik.http.services.{name}.loadbalancer.server.port": "8083"}

    @inlineCallbacks
    def test_convergence(self):
        """Twenty services: nearly all are published 1.5 s after they run, and gone 1.5 s after they are removed."""
        came, went = [], []
        for number in range(COUNT):
            name = f"web{number}"
            yield deferToThread(self.lab.service, name, labels=self.labels(name), networks=["golf"])
            seen = yield self.until(lambda name=name: self.servers(name))
            since = yield deferToThread(running_since, self.lab, name)
            came.append(seen - since)
        for number in range(COUNT):
            name = f"web{number}"
            yield self.world.remove(name)
            removed = time.time()
            seen = yield self.until(lambda name=name: name not in self.published[-1][1].services)
            went.append(max(0.0, seen - removed))
        print(f"\npublished after running: median {percentile(came, 50):.2f} s, 95 % {percentile(came, 95):.2f} s")
        print(f"gone after removal: median {percentile(went, 50):.2f} s, 95 % {percentile(went, 95):.2f} s")
        self.assertLessEqual(percentile(came, 95), SOON)
        self.assertLessEqual(percentile(went, 95), SOON)

    @inlineCallbacks
    def test_scale_down(self):
        """A task that is to stop is out of the configuration before it is told to: Swarm waits 2 s with that."""
        yield deferToThread(self.lab.service, "web", labels=self.labels("web"), networks=["golf"], replicas=3)
        yield self.until(lambda: len(self.servers("web")) == 3)
        began = time.time()
        yield self.world.scale("web", 1)
        seen = yield self.until(lambda: len(self.servers("web")) == 1)
        self.assertLess(seen - began, 2.0)

    @inlineCallbacks
    def test_no_task(self):
        """A service without tasks keeps its router, and has no servers."""
        yield deferToThread(self.lab.service, "web", labels=self.labels("web"), networks=["golf"], replicas=0)
        yield self.until(lambda: "web" in self.published[-1][1].routers)
        self.assertEqual((), self.servers("web"))

    @inlineCallbacks
    def test_nodes(self):
        """Servers know the task and the node that they are."""
        yield deferToThread(self.lab.service, "web", labels=self.labels("web"), networks=["golf"], replicas=3)
        yield self.until(lambda: len(self.servers("web")) == 3)
        self.assertEqual({"web.1", "web.2", "web.3"}, {server.task for server in self.servers("web")})
        self.assertEqual({"n1", "n2", "n3"}, {server.node for server in self.servers("web")})

    @inlineCallbacks
    def test_one_of_two_networks(self):
        """A service on two networks is reached on the one that its label names; without a label that is a problem."""
        yield deferToThread(self.lab.network, "other")
        labels = {**self.labels("web"), "traefik.swarm.network": "golf"}
        yield deferToThread(self.lab.service, "web", labels=labels, networks=["golf", "other"])
        yield deferToThread(self.lab.service, "lost", labels=self.labels("lost"), networks=["golf", "other"])
        yield self.until(lambda: self.servers("web"))
        (task,) = yield deferToThread(self.lab.running, "web")
        (address,) = [
            attachment["Addresses"][0].partition("/")[0]
            for attachment in task["NetworksAttachments"]
            if attachment["Network"]["Spec"]["Name"] == "golf"
        ]
        self.assertEqual([f"http://{address}:8083"], [server.url for server in self.servers("web")])
        self.assertEqual((), self.servers("lost"))
        (problem,) = [str(each) for each in self.published[-1][1].problems]
        self.assertIn("golf, other", problem)

    @inlineCallbacks
    def test_daemon_gone(self):
        """While the daemon is gone all stays in force, and what has changed meanwhile is seen 5 s after its return."""
        yield deferToThread(self.lab.service, "web", labels=self.labels("web"), networks=["golf"], replicas=2)
        yield self.until(lambda: len(self.servers("web")) == 2)
        before = len(self.published)
        engine = self.lab.engines[-1]
        engine.kill()
        self.addCleanup(deferToThread, engine.await_up)
        for _ in range(60):
            yield self.pause()
        self.assertEqual(before, len(self.published))
        engine.start()
        yield deferToThread(engine.await_up)
        began = time.time()
        yield self.world.label("web", "traefik.http.routers.other.rule", "Host(`other`)")
        seen = yield self.until(lambda: "other" in self.published[-1][1].routers)
        print(f"\nback after {seen - began:.2f} s")
        self.assertLess(seen - began, 5)
