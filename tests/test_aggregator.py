"""What providers publish comes into force, once, and is told in the log."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.model import Configuration, Router, Server, Service
from swarmgate.dynamic.table import EntryPointFacts, RoutingTable
from swarmgate.providers.aggregator import Aggregator


def shop(*urls: str, rule: str = "Host(`a.example`)") -> Configuration:
    """One router and its service."""
    service = Service("shop", tuple(map(Server, urls)))
    return Configuration({"web": Router("web", rule, "shop")}, {"shop": service})


class AggregatorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.applied: list[RoutingTable] = []
        self.events: list[dict[str, Any]] = []
        log = Logger("routes", observer=self.events.append)
        self.aggregator = Aggregator({"web": EntryPointFacts()}, {"ping@internal"}, self.applied.append, log)

    def lines(self, level: LogLevel = LogLevel.info) -> list[str]:  # type: ignore[valid-type]
        return [formatEvent(event) for event in self.events if event["log_level"] == level]

    def test_what_is_published_is_applied(self) -> None:
        """A new route is in force at once, and stands in the log."""
        self.aggregator.publish("swarm", shop("http://10.0.0.2:80"))
        self.assertEqual(self.applied, [self.aggregator.table])
        self.assertEqual([route.name for route in self.aggregator.table.routes["web"]], ["web@swarm"])
        self.assertIn("route web@swarm on web added: Host(`a.example`) -> shop@swarm (1 server)", self.lines())

    def test_the_same_again_changes_nothing(self) -> None:
        """A provider that says the same again causes no work and no line."""
        self.aggregator.publish("swarm", shop("http://10.0.0.2:80"))
        before = list(self.events)
        self.aggregator.publish("swarm", shop("http://10.0.0.2:80"))
        self.assertEqual((len(self.applied), self.events), (1, before))

    def test_providers_add_up(self) -> None:
        """One provider's news leaves what the others said in force."""
        self.aggregator.publish("swarm", shop("http://10.0.0.2:80"))
        self.aggregator.publish("file", shop("http://10.0.0.3:80", rule="Path(`/x`)"))
        self.assertEqual(set(self.applied[-1].services), {"shop@swarm", "shop@file"})
        self.aggregator.publish("swarm", Configuration())
        self.assertEqual([route.name for route in self.applied[-1].routes["web"]], ["web@file"])

    def test_problems_are_warnings(self) -> None:
        """What is wrong is told as a warning, once."""
        for _ in range(2):
            self.aggregator.publish("swarm", shop("http://10.0.0.2:80", rule="Hots(`a`)"))
        (line,) = self.lines(LogLevel.warn)
        self.assertIn("router web@swarm", line)
        self.assertIn("did you mean Host?", line)

    def test_table_that_cannot_be_applied(self) -> None:
        """If a table can't be put in force, the last one stays, and the next attempt is a new one."""
        failing = [True]

        def apply(table: RoutingTable) -> None:
            if failing:
                raise RuntimeError(failing.pop())
            self.applied.append(table)

        log = Logger("routes", observer=self.events.append)
        aggregator = Aggregator({"web": EntryPointFacts()}, (), apply, log)
        aggregator.publish("swarm", shop("http://10.0.0.2:80"))
        self.assertEqual(aggregator.table, RoutingTable())
        self.assertEqual(len(self.lines(LogLevel.critical)), 1)
        aggregator.publish("swarm", shop("http://10.0.0.2:80"))
        self.assertEqual(self.applied, [aggregator.table])

    def test_the_log_is_bounded(self) -> None:
        """A table of thousands of routes doesn't flood the log, nor hide its problems."""
        routers = {f"r{number}": Router(f"r{number}", "Host(`a`)", "shop") for number in range(2000)}
        routers["bad"] = Router("bad", "Host(", "shop")
        self.aggregator.publish("swarm", Configuration(routers, {"shop": Service("shop")}))
        self.assertEqual(len(self.lines(LogLevel.warn)), 1)
        self.assertEqual(self.lines()[-1], "and 1501 changes more")
        self.assertEqual(len(self.lines()), 501)
