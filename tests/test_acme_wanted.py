"""Tests for swarmgate.acme.wanted and decide: which certificates routers want, and when what is done about it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.acme.certificate import Certificate
from swarmgate.acme.decide import (
    LEASE,
    LONG_LEASE,
    OFTEN,
    WRITES,
    Decision,
    Held,
    Obtain,
    Release,
    Remove,
    Renew,
    Take,
    World,
    after_failure,
    decide,
    renewal_time,
    waste,
)
from swarmgate.acme.memory import MemoryAuthority
from swarmgate.acme.store import CERTIFICATE, Failure, Lease, Record
from swarmgate.acme.wanted import Domain, Order, Wish, covers, hosts_of, wanted, wishes_of
from swarmgate.dynamic.rules import parse_rule
from tests.test_acme_service import DAY, options

DNS = options(httpChallenge=None, dnsChallenge={"provider": "exec"})
HTTP = options()
RESOLVERS = {"le": HTTP, "dns": DNS}


def domains(*wishes: Wish) -> list[tuple[str, ...]]:
    """Return what is ordered for these wishes."""
    return [order.domains for order in wanted(wishes, RESOLVERS).orders]


def problems(*wishes: Wish) -> list[str]:
    """Return what can't be ordered, as lines."""
    return [f"{router}: {reason}" for router, reason in wanted(wishes, RESOLVERS).problems]


class WantedTests(SynchronousTestCase):
    """From routers to orders."""

    def test_hosts(self) -> None:
        """The domains are those of the rule's Host matchers, but for negated ones and regular expressions."""
        for rule, hosts in (
            ("Host(`a.example`)", ("a.example",)),
            ("Host(`B.example`) || Host(`a.example`) && PathPrefix(`/x`)", ("b.example", "a.example")),
            ("Host(`a.example`) && !Host(`b.example`)", ("a.example",)),
            ("HostRegexp(`.+`)", ()),
            ("PathPrefix(`/`)", ()),
        ):
            self.assertEqual(hosts, hosts_of(parse_rule(rule)))

    def test_one_rule_one_certificate(self) -> None:
        """The domains of a rule are in one certificate, those of another in another."""
        found = domains(Wish("r1", "le", ("a.example", "b.example")), Wish("r2", "le", ("c.example",)))
        self.assertEqual([("a.example", "b.example"), ("c.example",)], found)

    def test_same_domains(self) -> None:
        """Routers with the same domains, in whatever order and spelling, share a certificate."""
        found = domains(Wish("r1", "le", ("a.example", "B.example.")), Wish("r2", "le", ("b.example", "A.example")))
        self.assertEqual([("a.example", "b.example")], found)

    def test_covered(self) -> None:
        """What a wildcard or a larger set of the same resolver brings is not ordered besides."""
        found = domains(
            Wish("r1", "dns", (), (Domain("*.x.example", ("x.example",)),)),
            Wish("r2", "dns", ("a.x.example",)),
            Wish("r3", "dns", ("a.b.x.example",)),
            Wish("r4", "dns", ("x.example",)),
            Wish("r5", "le", ("a.x.example",)),
        )
        self.assertEqual([("*.x.example", "x.example"), ("a.b.x.example",), ("a.x.example",)], found)
        self.assertEqual([("*.x.example",)], domains(Wish("r", "dns", ("a.x.example", "*.x.example"))))

    def test_refused(self) -> None:
        """What no authority would sign costs the domain at fault alone, and its router is told why."""
        wish = Wish("r@swarm", "le", ("good.example", "*.good.example", "bad_host!", "x" * 300))
        self.assertEqual([("good.example",)], domains(wish))
        told = problems(wish)
        self.assertEqual(3, len(told))
        self.assertIn("a wildcard needs dnsChallenge", told[0])
        (line,) = problems(Wish("r@swarm", "le"))
        self.assertIn("no Host in its rule", line)
        (line,) = problems(Wish("r@swarm", "nobody", ("a.example",)))
        self.assertIn("le, dns", line)

    def test_covers(self) -> None:
        """A wildcard is good for one label in its place."""
        self.assertTrue(covers(("*.a.example",), "x.a.example"))
        self.assertFalse(covers(("*.a.example",), "a.example"))
        self.assertFalse(covers(("*.a.example",), "x.y.a.example"))
        self.assertTrue(covers(("a.example",), "a.example"))

    def test_routes(self) -> None:
        """Routes with a resolver wish; those without, or with a problem, don't; on two entry points it is one wish."""
        rule = parse_rule("Host(`a.example`)")
        tls = SimpleNamespace(cert_resolver="le", domains=())
        route = SimpleNamespace(name="r@swarm", rule=rule, problem=None, tls=tls)
        plain = SimpleNamespace(name="p@swarm", rule=rule, problem=None, tls=None)
        broken = SimpleNamespace(name="b@swarm", rule=rule, problem="no service", tls=tls)
        self.assertEqual((Wish("r@swarm", "le", ("a.example",)),), wishes_of([route, route, plain, broken]))

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["le", "dns"]),
                st.lists(st.sampled_from(["a.x", "b.x", "*.x", "x", "c.a.x", "*.a.x"]), max_size=4),
            ),
            max_size=6,
        )
    )
    @settings(max_examples=200, deadline=None)
    def test_everything_is_covered(self, given_wishes: list[tuple[str, list[str]]]) -> None:
        """Whatever routers wish, each domain that can be had is in some certificate, and none is ordered twice."""
        wishes = [Wish(f"r{n}", resolver, tuple(names)) for n, (resolver, names) in enumerate(given_wishes)]
        orders = wanted(wishes, RESOLVERS).orders
        for wish in wishes:
            for host in wish.hosts:
                if wish.resolver == "dns" or not host.startswith("*."):
                    self.assertTrue(any(covers(one.domains, host) for one in orders if one.resolver == wish.resolver))
        self.assertEqual(len(orders), len({order.key for order in orders}))
        self.assertEqual(orders, wanted(reversed(wishes), RESOLVERS).orders)


ORDER = Order("le", ("a.example",))
NOW = 1_000_000_000.0


def held(renew_at: float) -> dict[str, Held]:
    """Return that the order has a certificate."""
    certificate = Certificate(("a.example",), b"", b"", NOW - 60 * DAY, NOW + 30 * DAY)
    return {ORDER.key: Held(Record(1, CERTIFICATE, "a.example", b""), certificate, renew_at)}


class DecideTests(SynchronousTestCase):
    """What to do next."""

    def decision(self, **more: Any) -> Decision:
        """Return what is decided in a world where a.example is wanted, of which some is different."""
        world = World("me", NOW, (ORDER,), authorities={"le": "ca x"})
        return decide(attrs.evolve(world, **more))

    def test_missing(self) -> None:
        """What is missing is ordered: the lease is taken first."""
        self.assertEqual(Take(), self.decision().step)
        self.assertEqual(Obtain(ORDER), self.decision(lease=Lease("me", 1)).step)

    def test_theirs(self) -> None:
        """While another has the lease nothing is done, until it has not changed for its length."""
        theirs = Lease("other", 1)
        waits = self.decision(lease=theirs, lease_age=LEASE - 1)
        self.assertEqual((None, 1.0), (waits.step, waits.wake))
        self.assertEqual(Take(), self.decision(lease=theirs, lease_age=LEASE).step)

    def test_done(self) -> None:
        """When nothing is left the lease is given back, and the next renewal waited for."""
        self.assertEqual(Release(), self.decision(held=held(NOW + 5), lease=Lease("me", 1)).step)
        decided = self.decision(held=held(NOW + 500))
        self.assertEqual((None, 500.0), (decided.step, decided.wake))

    def test_busy(self) -> None:
        """During an order the lease is renewed in time, and no second order is begun."""
        mine = Lease("me", 1)
        self.assertIsNone(self.decision(lease=mine, busy=True).step)
        self.assertEqual(Renew(), self.decision(lease=mine, busy=True, lease_age=LEASE / 3 + 1).step)

    def test_many_writes(self) -> None:
        """Where there were many writes the lease is longer, for who holds it as for the others."""
        many = tuple(range(OFTEN))
        self.assertIsNone(self.decision(lease=Lease("me", 1, {}, many), busy=True, lease_age=LEASE).step)
        self.assertIsNone(self.decision(lease=Lease("other", 1, {}, many), lease_age=LONG_LEASE - 1).step)
        self.assertEqual(Take(), self.decision(lease=Lease("other", 1, {}, many), lease_age=LONG_LEASE).step)

    def test_endless(self) -> None:
        """An order that never ends costs fewer than 50 writes in any hour."""
        writes: list[int] = [0]
        for now in range(1, 4 * 3600):
            recent = tuple(at for at in writes if at > writes[-1] - 3600)
            lease = Lease("me", len(writes), {}, recent)
            if self.decision(lease=lease, busy=True, lease_age=float(now - writes[-1])).step == Renew():
                writes.append(now)
        most = max(sum(begin <= at < begin + 3600 for at in writes) for begin in writes)
        self.assertLess(most, 45)
        self.assertGreater(most, 25)

    def test_failures(self) -> None:
        """An order that has failed waits, and all orders of an authority that has."""
        for key in (ORDER.key, "ca x"):
            decided = self.decision(failures={key: Failure(1, NOW + 300)})
            self.assertEqual((None, 300.0), (decided.step, decided.wake))
            self.assertEqual(Take(), self.decision(failures={key: Failure(1, NOW)}).step)

    def test_budget(self) -> None:
        """Where the hour's writes are used up nothing is begun, and what is under way can be finished."""
        self.assertIsNone(self.decision(writes=WRITES - 5).step)
        self.assertEqual(Take(), self.decision(writes=WRITES - 6).step)
        self.assertEqual(Release(), self.decision(writes=WRITES - 1, lease=Lease("me", 1)).step)

    def test_urgent(self) -> None:
        """What has no certificate comes before what has one, and what ends sooner before what ends later."""
        other = Order("le", ("b.example",))
        decided = self.decision(orders=(ORDER, other), held=held(NOW - 1), lease=Lease("me", 1))
        self.assertEqual(Obtain(other), decided.step)

    def test_waste(self) -> None:
        """A superseded record is removed after a while, one that is neither wanted nor valid long after its end."""
        old = Record(1, CERTIFICATE, "a", b"", NOW - 80 * DAY)
        new = Record(2, CERTIFICATE, "a", b"", NOW - 60)
        both = [(old, "a", NOW + DAY), (new, "a", NOW + 90 * DAY)]
        self.assertEqual((), waste(both, frozenset("a"), NOW))
        self.assertEqual((old,), waste(both, frozenset("a"), NOW + 7200))
        self.assertEqual((), waste(both[1:], frozenset(), NOW + 91 * DAY))
        self.assertEqual((new,), waste(both[1:], frozenset(), NOW + 98 * DAY))
        self.assertEqual((), waste(both[1:], frozenset("a"), NOW + 98 * DAY))
        self.assertEqual(Remove(old), self.decision(held=held(NOW + 9), lease=Lease("me", 1), waste=(old,)).step)

    def test_renewal_time(self) -> None:
        """Renewal comes when about a third of the life is left, half of a short one; never at the same time for all."""
        for days, left in ((90, 30), (365, 365 / 3), (6, 3), (1, 0.5)):
            clock = Clock()
            certificate = MemoryAuthority(clock, "le", HTTP, days=days).sign(("a.example",))
            times = {renewal_time(certificate, f"key{number}") for number in range(20)}
            self.assertGreater(len(times), 15)
            for at in times:
                self.assertLessEqual(certificate.not_after - at, (left + 0.05 * days) * DAY + 2)
                self.assertGreaterEqual(certificate.not_after - at, left * DAY - 2)

    def test_after_failure(self) -> None:
        """Each failure in a row doubles the pause, up to a limit; what the authority asks for counts if longer."""
        failure = None
        pauses = []
        for _ in range(12):
            failure = after_failure(failure, NOW, 0, 60, 3600, lambda: 0.5)
            pauses.append(failure.retry_at - NOW)
        self.assertEqual([60, 120, 240, 480, 960, 1920, 3600, 3600], pauses[:8])
        self.assertEqual(3600, pauses[-1])
        self.assertEqual(NOW + 9999, after_failure(None, NOW, 9999, 60, 3600, lambda: 0.5).retry_at)
        spread = {after_failure(None, NOW, 0, 60, 3600, lambda chance=chance: chance).retry_at for chance in (0, 1)}
        self.assertEqual({NOW + 45, NOW + 75}, spread)
