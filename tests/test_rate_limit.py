"""Tests for swarmgate.middlewares.rate_limit."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.middlewares import KINDS, build, rate_limit
from swarmgate.structure import StructureError, structure
from tests.exchanges import Kept, Origin, client_of, context_of, exchange_of, lead


def settings_of(**tree: Any) -> rate_limit.Settings:
    return structure(rate_limit.Settings, tree, "rateLimit")


class RateLimitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.kept = Kept()

    def limit(self, name: str = "limit@test", **tree: Any) -> Any:
        return build("ratelimit", settings_of(**tree), context_of(self.clock, self.kept, name))

    def statuses(self, limit: Any, count: int, *fields: tuple[str, str], **more: Any) -> list[int]:
        return [lead(exchange_of("/", *fields, **more), limit).status for _ in range(count)]

    def test_listed(self) -> None:
        """The option rateLimit is known."""
        self.assertIs(KINDS["ratelimit"], rate_limit.Settings)

    def test_burst_then_refused(self) -> None:
        """A burst passes, what follows is told to come back later."""
        limit = self.limit(average=1, period="10s", burst=2)
        self.assertEqual(self.statuses(limit, 2), [200, 200])
        self.clock.advance(0.02)
        origin = Origin()
        client = lead(exchange_of(), limit, origin=origin)
        self.assertEqual((client.status, client.body), (429, b"Too Many Requests"))
        self.assertEqual(client.value(b"Retry-After"), b"10")
        self.assertEqual(client.value(b"X-Retry-In"), b"9.98s")
        self.assertEqual(origin.reached, [])

    def test_waits_a_little(self) -> None:
        """A request that comes a moment too early is delayed, not refused."""
        limit = self.limit(average=100)
        self.assertEqual(self.statuses(limit, 1), [200])
        self.clock.advance(0.006)
        exchange = exchange_of()
        client = lead(exchange, limit)
        self.assertEqual(client.status, 0)
        self.clock.advance(0.003)
        self.assertEqual(client.status, 0)
        self.clock.advance(0.0011)
        self.assertEqual(client.status, 200)

    def test_client_leaves_while_waiting(self) -> None:
        """A client that leaves while its request waits is forgotten: nothing reaches the server."""
        limit = self.limit(average=100)
        self.statuses(limit, 1)
        self.clock.advance(0.006)
        origin, exchange = Origin(), exchange_of()
        lead(exchange, limit, origin=origin)
        exchange.client_gone()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1)
        self.assertEqual((origin.reached, client_of(exchange).status), ([], 0))

    def test_one_after_another(self) -> None:
        """A client that insists gets 101 answers from a limit of 100 a second in a second, not sooner."""
        limit = self.limit(average=100)
        answered = 0
        while answered < 101:
            client = lead(exchange_of(), limit)
            while not client.status:
                self.clock.advance(0.0005)
            answered += client.status == 200
            self.clock.advance(0.0005)
        self.assertGreaterEqual(self.clock.seconds(), 0.99)
        self.assertLess(self.clock.seconds(), 1.02)

    def test_no_limit(self) -> None:
        """average 0 limits nothing."""
        self.assertEqual(self.statuses(self.limit(), 50), [200] * 50)

    def test_new_table_keeps_buckets(self) -> None:
        """A change of something else gives nobody a new bucket; a change of the limit does."""
        self.statuses(self.limit(average=1, period="1m"), 1)
        self.assertEqual(self.statuses(self.limit(average=1, period="1m"), 1), [429])
        self.assertEqual(self.statuses(self.limit(average=2, period="1m"), 1), [200])

    def test_other_middleware_has_its_own(self) -> None:
        """Two limits that look the same count for themselves."""
        self.statuses(self.limit(average=1, period="1m"), 1)
        self.assertEqual(self.statuses(self.limit("other@test", average=1, period="1m"), 1), [200])

    def test_by_address(self) -> None:
        """Each address has its own bucket."""
        limit = self.limit(average=1, period="1m")
        self.assertEqual(self.statuses(limit, 1, peer="192.0.2.1"), [200])
        self.assertEqual(self.statuses(limit, 1, peer="192.0.2.2"), [200])
        self.assertEqual(self.statuses(limit, 1, peer="192.0.2.1"), [429])

    def test_by_header(self) -> None:
        """requestHeaderName: each value has its own bucket, and those without a value share one."""
        limit = self.limit(average=1, period="1m", sourceCriterion={"requestHeaderName": "X-Key"})
        self.assertEqual(self.statuses(limit, 2, ("x-key", "a")), [200, 429])
        self.assertEqual(self.statuses(limit, 2, ("x-key", "b" * 5000)), [200, 429])
        self.assertEqual(self.statuses(limit, 1, ("x-key", "b" * 5000 + "c")), [200])
        self.assertEqual(self.statuses(limit, 1, peer="192.0.2.1"), [200])
        self.assertEqual(self.statuses(limit, 1, peer="192.0.2.2"), [429])

    def test_by_host(self) -> None:
        """requestHost: no spelling of a host gives it a second bucket."""
        limit = self.limit(average=1, period="1m", sourceCriterion={"requestHost": "true"})
        self.assertEqual(self.statuses(limit, 1, host="a.example"), [200])
        self.assertEqual(self.statuses(limit, 1, host="A.Example:80"), [429])
        self.assertEqual(self.statuses(limit, 1, host="b.example"), [200])

    def test_two_criteria(self) -> None:
        """Two ways to tell sources apart contradict each other, and the message names them."""
        with self.assertRaises(ValueError) as caught:
            self.limit(average=1, sourceCriterion={"requestHost": "true", "ipStrategy": {"depth": "1"}})
        self.assertIn("ipStrategy and requestHost", str(caught.exception))
        # Not even when there is nothing to limit.
        self.assertRaises(ValueError, self.limit, sourceCriterion={"requestHost": "true", "requestHeaderName": "X-Key"})

    def test_negative(self) -> None:
        """A negative period, average or burst is refused."""
        for tree in ({"period": "-1s"}, {"average": "-1"}, {"burst": "-1"}):
            self.assertRaises(StructureError, settings_of, **tree)

    def test_zeros_are_defaults(self) -> None:
        """period 0 is a second and burst 0 is one, as with Traefik."""
        limit = self.limit(average=1, period="0s", burst=0)
        self.assertEqual(self.statuses(limit, 2), [200, 429])
        self.clock.advance(1.001)
        self.assertEqual(self.statuses(limit, 1), [200])
