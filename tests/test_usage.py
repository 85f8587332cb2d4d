"""How the gate finds agents, what it makes of their answers, and when it asks."""

from __future__ import annotations

from typing import Any

import attrs
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate import demo
from swarmgate.agent.document import Document, NodeCounters, TaskCounters, encoded
from swarmgate.agent.proof import proof
from swarmgate.dynamic.table import EntryPointFacts
from swarmgate.fetch import NoAnswer
from swarmgate.middlewares import KINDS
from swarmgate.providers.swarm.agents import Agent, agents_of
from swarmgate.providers.swarm.decide import Options
from swarmgate.providers.swarm.snapshot import Snapshot
from swarmgate.testing import MemorySwarm, node, service, snapshot, task
from swarmgate.usage import metrics
from swarmgate.usage.decide import Moved, TaskUsage, total, usage_of
from swarmgate.usage.watch import EVERY, OLD, VIEWED, WITHIN, UsageWatch
from swarmgate.why.services import World

AGENT = service("agent", {"swarmgate.agent": "true"}, networks=["tell"])
GOLF = frozenset({"net-golf"})
TELL = frozenset({"net-tell", "net-golf"})


def agent_task(on: str, ip: str, **fields: Any) -> Any:
    return task(AGENT, 0, on=on, networks={"tell": ip}, id=f"agent-{on}", **fields)


def world() -> Snapshot:
    """Two nodes with an agent each, and a service with a task on each."""
    web = service("web")
    return snapshot(
        AGENT,
        web,
        node("n1"),
        node("n2"),
        agent_task("n1", "10.1.0.1"),
        agent_task("n2", "10.1.0.2"),
        task(web, 1, on="n1"),
        task(web, 2, on="n2"),
    )


def document(seconds: float, busy: float = 0.0, tasks: tuple[str, ...] = (), **changes: Any) -> Document:
    """What an agent tells after so many seconds, with so many of them busy."""
    counters = TaskCounters(busy / 2, 50, 100, int(10 * seconds), int(20 * seconds), 0, int(5 * seconds))
    moved = NodeCounters(
        4, busy, (1.0, 2.0, 3.0), 1000, 400, 9000, 3000, int(100 * seconds), int(200 * seconds), int(seconds), 0
    )
    return Document(seconds, seconds, attrs.evolve(moved, **changes), dict.fromkeys(tasks, counters))


class FindTests(SynchronousTestCase):
    def test_found(self) -> None:
        """Agents are found by their label, in a network that the gate shares with them."""
        self.assertEqual(
            agents_of(world(), TELL, 9181),
            {
                "node-n1": Agent("agent-n1", "node-n1", "http://10.1.0.1:9181/usage"),
                "node-n2": Agent("agent-n2", "node-n2", "http://10.1.0.2:9181/usage"),
            },
        )

    def test_not_asked(self) -> None:
        """One that can't be asked says why."""
        for changed, own, reason in (
            (world(), GOLF, "shares no network"),
            (snapshot(AGENT, agent_task("n1", "10.1.0.1", state="starting")), TELL, "not running, but starting"),
            (
                snapshot(
                    service("agent", {"swarmgate.agent": "true", "swarmgate.agent.port": "http"}),
                    agent_task("n1", "10.1.0.1"),
                ),
                TELL,
                "swarmgate.agent.port=http: expected a port",
            ),
        ):
            found = agents_of(changed, own, 9181)["node-n1"]
            self.assertEqual(found.url, "")
            self.assertIn(reason, found.fault)

    def test_port(self) -> None:
        """The label's port counts, and a service without the label is none of agents."""
        other = service("agent", {"swarmgate.agent": "true", "swarmgate.agent.port": "7"}, networks=["tell"])
        found = agents_of(snapshot(other, agent_task("n1", "fd00::1")), None, 9181)
        self.assertEqual(found["node-n1"].url, "http://[fd00::1]:7/usage")
        off = service("agent", {"swarmgate.agent": "false"}, networks=["tell"])
        self.assertEqual(agents_of(snapshot(off, agent_task("n1", "10.1.0.1")), None, 9181), {})

    def test_not_routed(self) -> None:
        """Nobody outside reaches an agent by accident: services are exposed by default, agents are not."""
        for label, routed in (({}, False), ({"traefik.enable": "true"}, True)):
            one = service("agent", {"swarmgate.agent": "true", **label}, ports=[9181])
            made = World.of(snapshot(one, task(one)), Options(kinds=KINDS), {"web": EntryPointFacts()})
            self.assertEqual(bool(made.table.services), routed)


class RateTests(SynchronousTestCase):
    def test_rates(self) -> None:
        """Two documents come to shares and octets a second."""
        found = usage_of(document(10.0, 4.0, ("t1", "t2")), document(20.0, 24.0, ("t1",)), 99.0)
        assert found is not None
        told, tasks = found
        self.assertEqual((told.at, told.cpus, told.cpu), (99.0, 4, 0.5))
        self.assertEqual((told.network, told.disk), (Moved(100.0, 200.0), Moved(1.0, 0.0)))
        self.assertEqual(tasks, {"t1": TaskUsage(1.0, 50, 100, Moved(10.0, 20.0), Moved(0.0, 5.0))})

    def test_begun_anew(self) -> None:
        """A node that was restarted, or whose agent was, has no rates yet; and no share is above all."""
        self.assertIsNone(usage_of(document(10.0, 50.0), document(20.0, 4.0), 0.0))
        self.assertIsNone(usage_of(document(10.0, 4.0), document(10.0, 4.0), 0.0))
        self.assertIsNone(usage_of(document(10.0, 4.0), document(3.0, 9.0), 0.0))
        found = usage_of(document(10.0, 4.0), document(11.0, 99.0), 0.0)
        assert found is not None
        self.assertEqual(found[0].cpu, 1.0)

    def test_no_cards(self) -> None:
        """An agent that sees no network card says so."""
        found = usage_of(document(10.0), document(20.0, received=None, sent=None), 0.0)
        assert found is not None
        self.assertIsNone(found[0].network)

    def test_total(self) -> None:
        """A service uses what its tasks use; it has a limit if each of them has."""
        one = TaskUsage(1.0, 50, 100, Moved(1.0, 2.0), Moved(3.0, 4.0))
        self.assertEqual(total([one, one]), TaskUsage(2.0, 100, 200, Moved(2.0, 4.0), Moved(6.0, 8.0)))
        self.assertIsNone(attrs.evolve(total([one, attrs.evolve(one, memory_limit=None)])).memory_limit)
        self.assertIsNone(total([]))


class DemoTests(SynchronousTestCase):
    def test_counters(self) -> None:
        """The demo's tasks have numbers that only counters have: they never fall."""
        swarm = MemorySwarm()
        for each in demo.SERVICES:
            swarm.add_service(each.name, replicas=each.replicas)
        before: dict[str, Any] = {}
        for second in range(120):
            told = self.successResultOf(demo.containers_of(swarm, "n1", float(second))).counters
            self.assertEqual(len(told), sum(each.replicas for each in demo.SERVICES))
            for name, one in told.items():
                earlier = before.get(name, one)
                for field in ("cpu", "received", "sent", "written"):
                    self.assertGreaterEqual(getattr(one, field), getattr(earlier, field))
            before = dict(told)


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.world: Snapshot | None = world()
        self.asked: list[tuple[str, Deferred[bytes]]] = []
        self.fields: list[Any] = []
        self.watch = UsageWatch(self.clock, self.fetch, self.seen, 9181, self.clock.seconds)

    def fetch(self, url: str, *, seconds: float, longest: int, fields: Any) -> Deferred[bytes]:
        self.assertEqual(seconds, WITHIN)
        self.fields.append(fields)
        answer: Deferred[bytes] = Deferred()
        self.asked.append((url, answer))
        return answer

    def seen(self) -> Any:
        return None if self.world is None else (self.world, TELL)

    def answer(self, busy: float, **changes: Any) -> None:
        """Let all who were asked answer, each with all tasks."""
        asked, self.asked = self.asked, []
        names = ("task-web-1", "task-web-2")
        for _, answer in asked:
            answer.callback(encoded(document(self.clock.seconds(), busy, names, **changes)))

    def test_only_wanted(self) -> None:
        """Nobody is asked before somebody looks, nor for long after."""
        self.clock.pump([1.0] * 60)
        self.assertEqual(self.asked, [])
        self.watch.want(VIEWED)
        self.assertEqual(len(self.asked), 2)
        count = 0
        for second in range(200):
            self.clock.advance(1.0)
            count = second if self.asked else count
            self.answer(float(second))
        self.assertTrue(VIEWED - EVERY <= count <= VIEWED + 1, count)
        self.assertFalse(self.clock.getDelayedCalls())

    def test_told(self) -> None:
        """After two answers it is known how much is in use; each agent is believed of its own node's tasks alone."""
        self.watch.want(VIEWED)
        self.answer(100.0)
        self.assertEqual(self.watch.told().nodes, {})
        self.clock.advance(1.0)
        self.answer(102.0)
        told = self.watch.told()
        self.assertEqual(told.nodes["node-n1"]["cpu"], 0.5)
        self.assertEqual(told.nodes["node-n1"]["at"], 1001.0)
        self.assertIsNone(told.nodes["node-n1"]["error"])
        self.assertEqual(told.tasks["task-web-1"]["cpu"], 1.0)
        # Both agents tell of both tasks: each counts once.
        self.assertEqual(told.services["svc-web"]["cpu"], 2.0)
        self.assertEqual(told.services["svc-web"]["memoryLimit"], 200)

    def test_how_often(self) -> None:
        """An agent is asked every few seconds, however many look, and never while it has not answered."""
        self.watch.want(VIEWED)
        self.answer(100.0)
        self.clock.advance(1.0)
        self.answer(102.0)
        times = []
        for _ in range(20):
            self.clock.advance(1.0)
            self.watch.want(VIEWED)
            if self.asked:
                times.append(self.clock.seconds())
                self.answer(self.clock.seconds())
        self.assertEqual(times, [1006.0, 1011.0, 1016.0, 1021.0])
        self.clock.pump([1.0] * 20)
        self.assertEqual(len(self.asked), 2)

    def test_silent(self) -> None:
        """An agent that is silent is said to be, with what it has told last and when; the others go on."""
        self.watch.want(VIEWED)
        self.answer(100.0)
        self.clock.advance(1.0)
        self.answer(102.0)
        self.clock.advance(EVERY)
        (_, first), (_, second) = self.asked
        self.asked = []
        first.errback(NoAnswer("no answer within 3 s"))
        second.callback(b"{}")
        told = self.watch.told()
        self.assertIn("no answer within 3 s", told.nodes["node-n1"]["error"])
        self.assertIn("can't be read", told.nodes["node-n2"]["error"])
        self.assertEqual(told.nodes["node-n1"]["at"], 1001.0)
        self.assertEqual((dict(told.tasks), dict(told.services)), ({}, {}))
        self.clock.advance(EVERY)
        self.answer(110.0)
        self.assertIsNone(self.watch.told().nodes["node-n1"]["error"])
        self.assertEqual(self.watch.measured().silences, 2)

    def test_never_answered(self) -> None:
        """Of an agent that has never answered there is nothing but why."""
        self.watch.want(VIEWED)
        for _, answer in self.asked:
            answer.errback(NoAnswer("connection refused"))
        told = self.watch.told().nodes["node-n1"]
        self.assertIsNone(told["cpu"])
        self.assertIn("connection refused", told["error"])

    def test_gone(self) -> None:
        """A node whose agent is gone says so; without any service of agents there is nothing to say."""
        self.watch.want(VIEWED)
        self.answer(100.0)
        self.clock.advance(1.0)
        self.answer(102.0)
        before = world()
        self.world = attrs.evolve(before, tasks=tuple(one for one in before.tasks if one.id != "agent-n2"))
        self.clock.advance(1.0)
        self.assertEqual(self.watch.told().nodes["node-n2"]["error"], "no agent runs on it")
        self.assertIsNone(self.watch.told().nodes["node-n1"]["error"])
        self.world = snapshot(node("n1"))
        self.clock.advance(1.0)
        self.assertEqual(self.watch.told().nodes, {})

    def test_told_before_it_is_known(self) -> None:
        """Who looks in the moment between agents' end and its being noticed does not make others see the old."""
        self.watch.want(VIEWED)
        self.answer(100.0)
        self.clock.advance(1.0)
        self.answer(102.0)
        self.world = snapshot(node("n1"))
        self.assertIn("node-n1", self.watch.told().nodes)
        self.clock.advance(1.0)
        self.assertEqual(self.watch.told().nodes, {})

    def test_looked_again(self) -> None:
        """What was told long before somebody looks again is not shown as what is."""
        self.watch.want(VIEWED)
        self.answer(100.0)
        self.clock.advance(1.0)
        self.answer(102.0)
        for second in range(int(VIEWED + OLD) + 10):
            self.clock.advance(1.0)
            self.answer(103.0 + second)
        self.watch.want(VIEWED)
        self.assertEqual(self.watch.told().nodes, {})

    def test_token(self) -> None:
        """With each question it is shown that the token is known, for that agent alone; the token is not sent."""
        watch = UsageWatch(self.clock, self.fetch, self.seen, 9181, self.clock.seconds, b"0123456789abcdef")
        watch.want(VIEWED)
        expected = [proof(b"0123456789abcdef", host, 9181, 1000.0) for host in ("10.1.0.1", "10.1.0.2")]
        self.assertEqual([one["Authorization"] for one in self.fields], expected)

    def test_metrics(self) -> None:
        """Metrics have node and service by name; of a silent node there is that it is silent."""
        self.watch.want(VIEWED)
        self.answer(100.0)
        self.clock.advance(1.0)
        self.answer(102.0)
        text = self.metrics()
        self.assertIn('traefik_node_cpu_used{node="n1"} 2.0', text)
        self.assertIn('traefik_swarm_service_memory_used_bytes{service="web"} 100.0', text)
        self.clock.advance(EVERY)
        for _, answer in self.asked:
            answer.errback(NoAnswer("x"))
        text = self.metrics()
        self.assertIn('traefik_node_agent_up{node="n1"} 0.0', text)
        self.assertNotIn('traefik_node_cpu_used{node="n1"}', text)
        self.assertIn('traefik_agent_questions_total{outcome="failed"} 2.0', text)

    def metrics(self) -> str:
        registry = CollectorRegistry()
        measured = self.watch.measured()

        class Told:
            def collect(self) -> Any:
                return metrics.families("traefik", measured)

        registry.register(Told())
        text: bytes = generate_latest(registry)
        return text.decode()

    def test_many_services(self) -> None:
        """There are no more series than a Prometheus can bear: the services with the most memory have them."""
        measured = attrs.evolve(
            self.watch.measured(),
            answers=1,
            services={f"s{number}": TaskUsage(0.0, number) for number in range(metrics.MOST_SERVICES + 50)},
        )
        family = next(one for one in metrics.families("x", measured) if one.name == "x_swarm_service_memory_used_bytes")
        self.assertEqual(len(family.samples), metrics.MOST_SERVICES)
        self.assertEqual(min(one.value for one in family.samples), 50)

    def test_stopped(self) -> None:
        """A gate that stops asks nobody any more."""
        self.watch.want(VIEWED)
        for _, answer in self.asked:
            answer._canceller = lambda one: one.errback(NoAnswer("nobody waits"))
        self.watch.stop()
        self.assertTrue(all(answer.called for _, answer in self.asked))
        self.assertFalse(self.clock.getDelayedCalls())
