"""Tests for swarmgate.acme.service: replicas that share a store in memory, an authority in memory, and a clock."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.acme.authority import AuthorityError
from swarmgate.acme.certificate import Certificate
from swarmgate.acme.challenge import Challenge
from swarmgate.acme.decide import LEASE, WRITES
from swarmgate.acme.file_store import FileStore
from swarmgate.acme.memory import MemoryAuthority, MemoryConfigs, MemoryLog
from swarmgate.acme.sealing import Keys
from swarmgate.acme.service import CertificateService
from swarmgate.acme.swarm_store import SwarmStore
from swarmgate.acme.wanted import Domain, Wish
from swarmgate.config.acme import ACME
from swarmgate.structure import structure
from tests.test_acme_stores import KEY, NEW_KEY

DAY = 86400.0


def options(**more: Any) -> ACME:
    """Return the options of a resolver by HTTP-01 on the entry point web, or as ``more`` says."""
    given = {"caServer": "https://ca.example/dir", "email": "a@x.example", "httpChallenge": {"entryPoint": "web"}}
    return structure(ACME, {key: value for key, value in (given | more).items() if value is not None})


class Replica:
    """One gate's certificates."""

    def __init__(self, world: World, name: str, key: str = KEY) -> None:
        self.configs = MemoryConfigs(world.log)
        self.certificates: tuple[Certificate, ...] = ()
        self.challenges: tuple[Challenge, ...] = ()
        self.published = 0
        store = SwarmStore(world.clock, self.configs, Keys.from_text(key, "test"))
        self.authority = MemoryAuthority(world.clock, "le", world.options, world.check)
        self.service = CertificateService(
            world.clock,
            store,
            {"le": world.options},
            {"le": self.authority},
            self.publish,
            maybeDeferred,
            name,
            world.clock.seconds,
            lambda: 0.5,
        )

    def publish(self, certificates: tuple[Certificate, ...], challenges: tuple[Challenge, ...]) -> None:
        self.certificates, self.challenges = certificates, challenges
        self.published += 1

    def domains(self) -> list[str]:
        """Return the main domains of what it serves."""
        return sorted(one.domains[0] for one in self.certificates)

    def freeze(self) -> None:
        """Be held up: nothing is noticed and nothing done until it is thawed."""
        self.service._unsubscribe()
        self.service.running = 0
        if self.service._timer is not None and self.service._timer.active():
            self.service._timer.cancel()

    def thaw(self) -> None:
        """Go on where it was held up."""
        self.service.running = 1
        self.service.wake()

    def die(self) -> None:
        """End as by SIGKILL: nothing is given back, nothing is done any more."""
        self.freeze()
        self.configs.failure = "dead"


class World:
    """A Swarm with replicas, whose time the test moves."""

    def __init__(self, replicas: int = 3, **more: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000_000)
        self.log = MemoryLog(self.clock)
        self.options = options(**more)
        self.unanswered: list[str] = []
        self.replicas: list[Replica] = []
        self.replicas = [Replica(self, f"replica{number}") for number in range(replicas)]

    def check(self, domain: str, token: str, value: str) -> bool:
        """Ask every replica that lives, as an authority might ask any."""
        living = [one for one in self.replicas if one.service.running]
        for replica in living:
            if self.options.http_challenge is not None:
                thumbprint = replica.service.thumbprint(domain, "web")
                if f"{token}.{thumbprint}" != value:
                    self.unanswered.append(replica.service._me)
            elif self.options.tls_challenge is not None and domain not in [one.domain for one in replica.challenges]:
                self.unanswered.append(replica.service._me)
        return not self.unanswered

    def start(self) -> None:
        """Start all replicas."""
        for replica in self.replicas:
            replica.service.startService()

    def want(self, *domains: str) -> None:
        """Let all replicas have a router for each of these domains."""
        wishes = [Wish(f"r-{domain}@swarm", "le", (domain,)) for domain in domains]
        for replica in self.replicas:
            replica.service.want(wishes)

    def passes(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def begun(self) -> list[tuple[str, ...]]:
        """Return the domains of all orders that were begun, by anybody."""
        return sorted(domains for replica in self.replicas for domains in replica.authority.begun)

    def writes(self, seconds: float = 3600.0) -> int:
        """Return how many writes there were lately."""
        return sum(at > self.clock.seconds() - seconds for at, _, _ in self.log.writes)


def late_by(clock: Clock, seconds: float) -> Any:
    """Return what calls a function as a thread does that takes its time."""

    def call(function: Any, *given: Any) -> Any:
        return deferLater(clock, seconds, function, *given)  # type: ignore[arg-type]

    return call


class CertificateServiceTests(SynchronousTestCase):
    """Three replicas."""

    def world(self, replicas: int = 3, **more: Any) -> World:
        """Return a world whose replicas are stopped after the test, leaving nothing on the clock."""
        world = World(replicas, **more)
        self.addCleanup(self.end, world)
        world.start()
        return world

    def end(self, world: World) -> None:
        for replica in world.replicas:
            if replica.service.running:
                stopped = replica.service.stopService()
                world.clock.advance(30)
                self.successResultOf(stopped)
        self.assertEqual([], [call for call in world.clock.getDelayedCalls() if call.active()])

    def test_one_order(self) -> None:
        """A domain is ordered once, by one replica, and all serve its certificate within five seconds."""
        world = self.world()
        world.want("a.example", "b.example")
        world.passes(30)
        self.assertEqual([("a.example",), ("b.example",)], world.begun())
        self.assertEqual(1, sum(replica.authority.accounts for replica in world.replicas))
        self.assertEqual([], world.unanswered)
        for replica in world.replicas:
            self.assertEqual(["a.example", "b.example"], replica.domains())
        self.assertEqual(1, len({replica.certificates for replica in world.replicas}))

    def test_deaf(self) -> None:
        """Without a single event a new certificate is served by all within five seconds."""
        world = self.world()
        world.passes(3)
        world.log.listeners.clear()
        world.want("a.example")
        while not any(replica.authority.finished for replica in world.replicas):
            world.passes(0.5, 0.5)
        world.passes(5)
        self.assertEqual([["a.example"]] * 3, [replica.domains() for replica in world.replicas])

    def test_newcomer(self) -> None:
        """A replica that starts later serves what the others have obtained, at once and without an order."""
        world = self.world(2)
        world.want("a.example")
        world.passes(30)
        newcomer = Replica(world, "newcomer")
        world.replicas.append(newcomer)
        newcomer.service.startService()
        self.assertEqual(["a.example"], newcomer.domains())
        self.assertTrue(newcomer.service.is_ready)
        world.want("a.example")
        world.passes(600)
        self.assertEqual([("a.example",)], world.begun())

    def test_rests(self) -> None:
        """Where all is good nothing is written, the lease is nobody's, and the authority is left alone."""
        world = self.world()
        world.want("a.example")
        world.passes(60)
        before = len(world.log.writes)
        world.passes(2 * DAY, 60)
        self.assertEqual(before, len(world.log.writes))
        self.assertEqual("", world.log.configs["swarmgate.lease"].labels["swarmgate.holder"])
        self.assertEqual([("a.example",)], world.begun())

    def test_renewal(self) -> None:
        """A certificate is renewed once, well before its end; the old one is removed after a while."""
        world = self.world()
        world.want("a.example")
        world.passes(60)
        (old,) = world.replicas[0].certificates
        while len(world.begun()) < 2:
            world.passes(3600, 600)
            self.assertLess(world.clock.seconds(), old.not_after - 29 * DAY)
        world.passes(60)
        (new,) = world.replicas[2].certificates
        self.assertGreater(new.not_after, old.not_after)
        world.passes(3 * 3600, 60)
        self.assertEqual(
            1,
            sum(".c." in name and one.labels["swarmgate.kind"] != "account" for name, one in world.log.configs.items()),
        )
        self.assertEqual(2, len(world.begun()))

    def test_told_to_renew(self) -> None:
        """An authority that wants a certificate renewed early has it renewed then."""
        world = self.world(1)
        world.want("a.example")
        world.replicas[0].authority.renew_at = world.clock.seconds() + 5 * DAY
        world.passes(DAY, 600)
        world.replicas[0].authority.renew_at = world.clock.seconds() + DAY
        world.passes(DAY - 600, 600)
        self.assertEqual(1, len(world.begun()))
        world.passes(1200, 600)
        self.assertEqual(2, len(world.begun()))
        self.assertLess(world.replicas[0].authority.questions, 20)

    def test_killed(self) -> None:
        """The replica that orders is killed in the middle of it: another one finishes."""
        world = self.world()
        for replica in world.replicas:
            replica.authority.hold()
        world.want("a.example")
        world.passes(10)
        for replica in world.replicas:
            replica.authority.release()
            replica.authority.hold()
        world.passes(10)
        (leader,) = [replica for replica in world.replicas if replica.authority.calls]
        self.assertEqual(1, len(leader.authority.begun))
        leader.die()
        world.replicas.remove(leader)
        for replica in world.replicas:
            replica.authority.release()
        world.passes(LEASE - 30)
        self.assertEqual([], world.begun())
        world.passes(60)
        self.assertEqual([("a.example",)], world.begun())
        self.assertEqual([["a.example"]] * 2, [replica.domains() for replica in world.replicas])

    def test_stopped(self) -> None:
        """A replica that is stopped in the middle of an order gives the lease back, and another goes on at once."""
        world = self.world(2)
        for replica in world.replicas:
            replica.authority.hold()
        world.want("a.example")
        world.passes(10)
        (leader,) = [replica for replica in world.replicas if replica.authority.calls]
        stopped = leader.service.stopService()
        world.passes(10)
        self.successResultOf(stopped)
        (other,) = [replica for replica in world.replicas if replica is not leader]
        other.authority.release()
        world.passes(20)
        self.assertEqual(["a.example"], other.domains())

    def test_held_up(self) -> None:
        """A replica that was frozen beyond its lease writes nothing over what another has done meanwhile."""
        world = self.world()
        for replica in world.replicas:
            replica.authority.hold()
        world.want("a.example")
        world.passes(10)
        (leader,) = [replica for replica in world.replicas if replica.authority.calls]
        leader.authority.release()
        leader.authority.hold()
        world.passes(10)
        self.assertEqual([("a.example",)], leader.authority.begun)
        leader.freeze()
        for replica in world.replicas:
            if replica is not leader:
                replica.authority.release()
        world.passes(LEASE + 30)
        (certificate,) = world.replicas[world.replicas[0] is leader].certificates
        leader.authority.release()
        leader.thaw()
        world.passes(30)
        self.assertEqual([("a.example",)], leader.authority.finished)
        self.assertEqual([(certificate,)] * 3, [replica.certificates for replica in world.replicas])
        self.assertEqual(2, len([name for name in world.log.configs if ".c." in name]), "an account, a certificate")

    def test_authority_down(self) -> None:
        """An authority that is away for ten minutes is asked a few times only, and is not stormed afterwards."""
        world = self.world()
        world.want("old.example")
        world.passes(60)
        for replica in world.replicas:
            replica.authority.refusal = AuthorityError("it can't be reached", "authority")
            del replica.authority.calls[:]
        world.want("old.example", *(f"n{number}.example" for number in range(10)))
        world.passes(600)
        self.assertLess(sum(len(replica.authority.calls) for replica in world.replicas), 6)
        self.assertEqual([["old.example"]] * 3, [replica.domains() for replica in world.replicas])
        for replica in world.replicas:
            replica.authority.refusal = None
        world.passes(3600, 2)
        self.assertEqual(11, len(world.begun()))
        self.assertEqual(11, len(world.replicas[1].domains()))
        self.assertLess(world.writes(), 50)
        self.flushLoggedErrors()

    def test_refused(self) -> None:
        """A domain that can't be proven is tried again ever more seldom, by all replicas together; others are not kept
        from being ordered."""
        world = self.world()
        for replica in world.replicas:
            replica.authority._check = lambda domain, token, value: domain != "bad.example"
        world.want("bad.example", "good.example")
        world.passes(3600, 2)
        self.assertEqual([["good.example"]] * 3, [replica.domains() for replica in world.replicas])
        tries = sum(domains == ("bad.example",) for domains in world.begun())
        self.assertIn(tries, (3, 4))
        world.passes(DAY, 60)
        self.assertLess(sum(domains == ("bad.example",) for domains in world.begun()), 12)

    def test_retry_after(self) -> None:
        """An authority that says when to come back is not asked before."""
        world = self.world()
        for replica in world.replicas:
            replica.authority.refusal = AuthorityError("rateLimited", "authority", 7200.0)
        world.want("a.example", "b.example")
        world.passes(7100, 5)
        self.assertEqual(1, sum(len(replica.authority.calls) for replica in world.replicas))

    def test_few_writes(self) -> None:
        """However many domains there are, the Swarm's log is written to fewer than 50 times in any hour."""
        self.few_writes(self.world())

    def test_few_writes_with_challenges(self) -> None:
        """That holds for challenges that are written down, too, and for orders that take their time."""
        self.few_writes(self.world(httpChallenge=None, tlsChallenge={"delay": "100s"}), 30)

    def few_writes(self, world: World, count: int = 100) -> None:
        """See that many domains are ordered with few writes."""
        world.want(*(f"n{number}.example" for number in range(count)))
        most = 0
        for _ in range(4 * 120):
            world.passes(30, 15)
            most = max(most, world.writes())
        self.assertLess(most, 50)
        self.assertGreater(most, WRITES - 10)
        self.assertEqual(count, len(world.replicas[0].domains()))
        self.assertEqual(count, len(world.begun()))

    def test_store_away(self) -> None:
        """While the Swarm's API is away certificates are served on, and afterwards things go on."""
        world = self.world()
        world.want("a.example")
        world.passes(30)
        for replica in world.replicas:
            replica.configs.failure = "the engine is gone"
        world.want("a.example", "b.example")
        world.passes(120)
        self.assertEqual([["a.example"]] * 3, [replica.domains() for replica in world.replicas])
        for replica in world.replicas:
            replica.configs.failure = ""
        world.passes(90)
        self.assertEqual([["a.example", "b.example"]] * 3, [replica.domains() for replica in world.replicas])
        self.assertEqual([("a.example",), ("b.example",)], world.begun())

    def test_store_away_in_the_middle(self) -> None:
        """A certificate that was obtained while the store is away is not lost: it is written when that is back."""
        world = self.world(1)
        (replica,) = world.replicas
        world.want("first.example")
        world.passes(30)
        replica.authority.hold()
        world.want("first.example", "a.example")
        world.passes(5)
        replica.configs.failure = "the engine is gone"
        replica.authority.release()
        world.passes(60)
        replica.configs.failure = ""
        world.passes(60)
        self.assertEqual(["a.example", "first.example"], replica.domains())
        self.assertEqual(1, replica.authority.begun.count(("a.example",)))

    def test_tls_alpn(self) -> None:
        """The certificates that answer TLS-ALPN-01 challenges are with all replicas before the authority asks, and
        gone afterwards."""
        world = self.world(httpChallenge=None, tlsChallenge=True)
        world.want("a.example")
        world.passes(30)
        self.assertEqual([], world.unanswered)
        self.assertEqual([["a.example"]] * 3, [replica.domains() for replica in world.replicas])
        self.assertEqual([()] * 3, [replica.challenges for replica in world.replicas])
        self.assertFalse([name for name in world.log.configs if ".t." in name])

    def test_shown_before_asked(self) -> None:
        """A store that answers late, and needs no time to spread, has challenges shown before the authority looks."""
        world = World(1, httpChallenge=None, tlsChallenge=True)
        (replica,) = world.replicas
        replica.service._store = FileStore(self.mktemp(), late_by(world.clock, 0.5), world.clock.seconds)
        self.addCleanup(self.end, world)
        world.start()
        world.want("a.example")
        world.passes(60, 0.25)
        self.assertEqual([], world.unanswered)
        self.assertEqual(["a.example"], replica.domains())

    def test_no_longer_wanted(self) -> None:
        """A certificate that nobody wants any more is not renewed, and removed after its end."""
        world = self.world()
        world.want("a.example")
        world.passes(30)
        world.want()
        world.passes(99 * DAY, 3600)
        self.assertEqual([("a.example",)], world.begun())
        self.assertEqual([()] * 3, [replica.certificates for replica in world.replicas])

    def test_new_key(self) -> None:
        """With a new key before the old one everything is encrypted anew, and then the old one is not needed."""
        world = self.world(2)
        world.want("a.example", "b.example")
        world.passes(60)
        for replica in list(world.replicas):
            self.successResultOf(replica.service.stopService())
        world.replicas = [Replica(world, f"new{number}", f"{NEW_KEY}\n{KEY}") for number in range(2)]
        world.start()
        world.passes(600)
        last = Replica(world, "last", NEW_KEY)
        world.replicas.append(last)
        last.service.startService()
        world.passes(10)
        self.assertEqual(["a.example", "b.example"], last.domains())
        self.assertEqual([], [replica.authority.begun for replica in world.replicas if replica.authority.begun])

    def test_new_key_after_renewal(self) -> None:
        """A certificate that was superseded is not brought back by being encrypted anew."""
        world = self.world(1)
        world.want("a.example")
        world.passes(60)
        while len(world.begun()) < 2:
            world.passes(3600, 3600)
        world.passes(60)
        (newest,) = world.replicas[0].certificates
        self.successResultOf(world.replicas[0].service.stopService())
        world.replicas = [Replica(world, "new", f"{NEW_KEY}\n{KEY}")]
        world.start()
        world.passes(7200, 30)
        self.assertEqual((newest,), world.replicas[0].certificates)

    def test_vanished(self) -> None:
        """A certificate whose config somebody has removed is served on, and ordered anew."""
        world = self.world(2)
        world.want("a.example")
        world.passes(60)
        before = world.replicas[0].certificates
        for name in [name for name in world.log.configs if ".c." in name]:
            del world.log.configs[name]
        for replica in world.replicas:
            replica.authority.hold()
        world.passes(1200, 2)
        self.assertEqual(before, world.replicas[0].certificates)
        for replica in world.replicas:
            replica.authority.release()
        world.passes(60)
        self.assertNotEqual(before, world.replicas[0].certificates)
        self.assertEqual(world.replicas[0].certificates, world.replicas[1].certificates)

    def test_account_gone(self) -> None:
        """An account that the authority knows no more is replaced by a new one."""
        world = self.world(1)
        world.want("a.example")
        world.passes(30)
        (replica,) = world.replicas
        replica.authority.refusal = AuthorityError("accountDoesNotExist", "account")
        world.want("a.example", "b.example")
        world.passes(10)
        replica.authority.refusal = None
        world.passes(900)
        self.assertEqual(["a.example", "b.example"], replica.domains())
        self.assertEqual(2, replica.authority.accounts)

    def test_unknown_host(self) -> None:
        """Challenges are answered for hosts that no router has yet, but on the resolver's entry point alone."""
        world = self.world(1)
        (replica,) = world.replicas
        self.assertIsNone(replica.service.thumbprint("a.example", "web"))
        world.want("a.example")
        world.passes(30)
        thumbprint = replica.service.thumbprint("a.example", "web")
        self.assertEqual("thumbprint-le-1", thumbprint)
        self.assertEqual(thumbprint, replica.service.thumbprint("other.example", "web"))
        self.assertIsNone(replica.service.thumbprint("a.example", "traefik"))

    def test_domains(self) -> None:
        """What tls.domains says is ordered in place of the rule's hosts."""
        world = self.world(1)
        world.replicas[0].service.want([Wish("r@file", "le", ("no.example",), (Domain("m.example", ("s.example",)),))])
        world.passes(30)
        self.assertEqual([("m.example", "s.example")], world.begun())

    def test_published_once(self) -> None:
        """What has not changed is not published again."""
        world = self.world()
        world.want("a.example")
        world.passes(30)
        before = [replica.published for replica in world.replicas]
        world.passes(3600, 2)
        self.assertEqual(before, [replica.published for replica in world.replicas])
