"""The engine on a real Swarm: it keeps the contract, and comes back when the daemon does."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from swarmgate.providers.swarm.engine import Endpoint, Engine
from swarmgate.providers.swarm.interface import SwarmError
from tests.contract_swarm import SwarmContract
from tests.swarm.lab import Lab
from tests.swarm.shared import lab


class LabWorld:
    """Changes the laboratory's Swarm, with the docker command in a thread."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def create(
        self, name: str, labels: Mapping[str, str], networks: Sequence[str], replicas: int, published: int
    ) -> Deferred[Any]:
        port = f"published={published},target={published},mode=host"
        options = ["--publish", port] if published else []
        return deferToThread(
            self.lab.service, name, labels=labels, networks=networks, replicas=replicas, options=options
        )

    def label(self, name: str, label: str, value: str) -> Deferred[Any]:
        return self._docker("service", "update", "--detach", "--quiet", "--label-add", f"{label}={value}", name)

    def scale(self, name: str, replicas: int) -> Deferred[Any]:
        return self._docker("service", "scale", "--detach", f"{name}={replicas}")

    def remove(self, name: str) -> Deferred[Any]:
        return self._docker("service", "rm", name)

    def _docker(self, *arguments: str) -> Deferred[Any]:
        return deferToThread(self.lab.docker, *arguments)


class EngineCase(TestCase):
    """A test that looks at the laboratory's Swarm, whose services are removed afterwards."""

    timeout = 120

    def setUp(self) -> None:
        self.lab = lab()
        self.lab.network("golf")
        self.addCleanup(self.lab.clear)
        self.world = LabWorld(self.lab)
        # A manager that is not the leader, and not the one that is told of changes.
        self.swarm = Engine(reactor, Endpoint(url=self.lab.engines[-1].endpoint))
        self.addCleanup(self.swarm.close)

    def pause(self) -> Deferred[None]:
        return deferLater(reactor, 0.1, lambda: None)  # type: ignore[arg-type]


class EngineContractTests(SwarmContract, EngineCase):
    """The engine keeps the contract that the Swarm in memory keeps."""


class EngineTests(EngineCase):
    """What only happens to a real daemon."""

    @inlineCallbacks
    def test_daemon_killed(self):
        """A daemon that dies fails looks and ends the subscription; once it is back looks succeed again."""
        engine = self.lab.engines[-1]
        yield self.swarm.look()
        lost: list[SwarmError] = []
        self.swarm.subscribe(lambda: None, lost.append)
        engine.kill()
        yield self.assertFailure(self.swarm.tasks(), SwarmError)
        for _ in range(50):
            if not lost:
                yield self.pause()
        self.assertEqual(1, len(lost))
        engine.start()
        yield deferToThread(engine.await_up)
        for _ in range(100):
            try:
                seen = yield self.swarm.look()
                break
            except SwarmError:
                yield self.pause()
        self.assertEqual(3, len(seen.nodes))

    @inlineCallbacks
    def test_daemon_hangs(self):
        """A daemon that hangs is given up after the timeout, and the engine can still be closed."""
        engine = self.lab.engines[-1]
        swarm = Engine(reactor, Endpoint(url=engine.endpoint, timeout=0.5))
        yield swarm.look()
        engine.signal(signal.SIGSTOP)
        try:
            error = yield self.assertFailure(swarm.tasks(), SwarmError)
            self.assertIn("no answer in time", str(error))
            yield swarm.close()
        finally:
            engine.signal(signal.SIGCONT)

    @inlineCallbacks
    def test_starting_task(self):
        """A task whose health check has not passed is told of with its container, but does not run yet."""
        options = ["--health-cmd", "exit 1", "--health-interval", "1s", "--health-retries", "100"]
        yield deferToThread(self.lab.service, "sick", networks=["golf"], options=options)
        for _ in range(100):
            tasks = yield self.swarm.tasks()
            if any(task.container for task in tasks):
                break
            yield self.pause()
        (task,) = tasks
        self.assertFalse(task.is_running)
        self.assertRegex(task.container, "^[0-9a-f]{64}$")
