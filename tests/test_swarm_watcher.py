"""Tests for swarmgate.providers.swarm.watcher: a Swarm in memory is followed, whatever happens to it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.model import Configuration
from swarmgate.providers.swarm import watcher
from swarmgate.providers.swarm.decide import Options
from swarmgate.providers.swarm.watcher import SwarmProvider
from swarmgate.testing import MemorySwarm

LABELS = {"traefik.enable": "true", "traefik.http.services.web.loadbalancer.server.port": "80"}


class WatcherCase(SynchronousTestCase):
    """A provider on a Swarm in memory, with a clock that the test moves."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.swarm = MemorySwarm()
        self.published: list[Configuration] = []

    def provider(self, **options: Any) -> SwarmProvider:
        """Return a provider that publishes into the test's list, without jitter."""
        options.setdefault("chance", lambda: 0.0)
        return SwarmProvider(self.clock, self.swarm, self.published.append, Options(), **options)

    def follow(self, **options: Any) -> SwarmProvider:
        """Start a provider, and let it come to rest."""
        provider = self.provider(**options)
        provider.startService()
        self.pass_time(watcher.SETTLE)
        return provider

    def pass_time(self, seconds: float, step: float = 0.01) -> None:
        """Let time pass in small steps."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def urls(self, name: str = "web") -> list[str]:
        """Return the servers of a service, as published last."""
        return [server.url for server in self.published[-1].services[name].servers]


class FollowingTests(WatcherCase):
    """Changes are seen in time, and looked for at a bounded cost."""

    def test_first(self) -> None:
        """The first look is published, and from then on the provider is ready."""
        self.swarm.add_service("web", LABELS)
        self.swarm.hold()
        provider = self.provider()
        ready = provider.when_ready()
        provider.startService()
        self.assertNoResult(ready)
        self.assertFalse(provider.is_ready)
        self.swarm.release()
        self.successResultOf(ready)
        self.assertTrue(provider.is_ready)
        self.assertEqual(1, len(self.urls()))
        self.successResultOf(provider.when_ready())

    def test_empty(self) -> None:
        """A Swarm without services is a success: an empty configuration is published."""
        provider = self.follow()
        self.assertEqual([Configuration()], self.published)
        self.assertTrue(provider.is_ready)

    def test_all_removed(self) -> None:
        """When the last service is removed, an empty configuration is published."""
        self.swarm.add_service("web", LABELS)
        self.follow()
        self.swarm.remove_service("web")
        self.pass_time(2 * watcher.SETTLE)
        self.assertEqual(Configuration(), self.published[-1])

    def test_event(self) -> None:
        """A service that is created, changed or removed is in force a moment later, without waiting for a poll."""
        self.follow()
        self.swarm.add_service("web", LABELS)
        self.pass_time(2 * watcher.SETTLE)
        self.assertIn("web", self.published[-1].services)
        self.swarm.remove_service("web")
        self.pass_time(2 * watcher.SETTLE)
        self.assertNotIn("web", self.published[-1].services)

    def test_convergence(self) -> None:
        """How long a change took is counted from the first that was heard of it; what changes nothing is not."""
        provider = self.follow()
        self.assertEqual(sum(provider.convergence.counts), 0)
        self.swarm.add_service("web", LABELS)
        self.pass_time(2 * watcher.SETTLE)
        self.assertEqual(sum(provider.convergence.counts), 1)
        self.assertAlmostEqual(provider.convergence.seconds, watcher.SETTLE, 1)
        self.swarm.ring()
        self.pass_time(2.0)
        self.swarm.hold()
        self.swarm.remove_service("web")
        self.pass_time(2.0)
        self.swarm.release()
        self.pass_time(2 * watcher.SETTLE)
        self.assertEqual(sum(provider.convergence.counts), 2)
        self.assertAlmostEqual(provider.convergence.seconds, 2 * watcher.SETTLE + 2.0, 0)
        counts, seconds = provider.convergence.told()
        self.assertEqual((counts[0], counts[-1], seconds), (("0.1", 1), ("+Inf", 0), provider.convergence.seconds))

    def test_other_options(self) -> None:
        """Other options are in force a moment later, though the Swarm is as it was; equal ones change nothing."""
        self.swarm.add_service("web", LABELS)
        self.swarm.add_service("shy", {})
        provider = self.follow()
        self.assertIn("shy", self.published[-1].routers)
        provider.reconfigure(Options(exposed_by_default=False), 1.0)
        self.pass_time(2 * watcher.SETTLE)
        self.assertEqual(["web"], list(self.published[-1].routers))
        published = len(self.published)
        provider.reconfigure(Options(exposed_by_default=False), 0.5)
        self.pass_time(2 * watcher.SETTLE)
        self.assertEqual(published, len(self.published))

    def test_many_events(self) -> None:
        """Many events in a moment are one look."""
        self.follow()
        before = self.swarm.looks
        for number in range(100):
            self.swarm.add_service(f"web{number}")
        self.pass_time(2 * watcher.SETTLE)
        self.assertEqual(before + 1, self.swarm.looks)

    def test_tasks(self) -> None:
        """A task that starts or stops, of which Docker tells nothing, is seen within the refresh interval."""
        self.swarm.add_service("web", LABELS)
        self.follow()
        started = self.swarm.start_task("web", "10.9.9.9", state="starting")
        self.pass_time(1.0)
        self.assertNotIn("http://10.9.9.9:80", self.urls())
        self.swarm.set_task(started, state="running")
        self.pass_time(1.0)
        self.assertIn("http://10.9.9.9:80", self.urls())
        self.pass_time(30)
        self.swarm.stop_task(started)
        self.pass_time(1.01)
        self.assertNotIn("http://10.9.9.9:80", self.urls())

    def test_told_of_each_change(self) -> None:
        """Who wants to know hears of a Swarm that has changed though no route has, and of no other look."""
        self.swarm.add_service("web", LABELS)
        told: list[int] = []
        self.follow(changed=lambda: told.append(len(self.published)))
        self.pass_time(30)
        self.assertEqual(told, [1])
        started = self.swarm.start_task("web", "10.9.9.9", state="preparing")
        self.pass_time(1.0)
        told.clear()
        published = len(self.published)
        self.swarm.set_task(started, state="starting")
        self.pass_time(1.0)
        self.assertEqual(told, [published])
        self.swarm.set_task(started, state="running")
        self.pass_time(1.0)
        self.assertEqual(told, [published, published + 1])

    def test_no_change(self) -> None:
        """While nothing changes nothing is published, and tasks are looked at once per interval."""
        self.swarm.add_service("web", LABELS)
        self.follow(refresh=2.0)
        self.pass_time(watcher.BUSY + 2)
        published, looks = len(self.published), self.swarm.task_looks
        self.pass_time(20)
        self.assertEqual(published, len(self.published))
        self.assertIn(self.swarm.task_looks - looks, (9, 10))

    def test_busy(self) -> None:
        """After a change tasks are looked at more often, for a while: more changes are likely."""
        self.follow()
        self.pass_time(watcher.BUSY + 2)
        quiet = self.swarm.task_looks
        self.pass_time(4)
        self.assertIn(self.swarm.task_looks - quiet, (4, 5))
        self.swarm.add_service("web", LABELS)
        busy = self.swarm.task_looks
        self.pass_time(4)
        self.assertGreaterEqual(self.swarm.task_looks - busy, 12)

    def test_slow_swarm(self) -> None:
        """Where a look takes long, the next one waits in proportion: the time spent looking stays bounded."""
        self.follow()
        self.pass_time(watcher.BUSY + 2)
        looks = self.swarm.task_looks + self.swarm.looks
        for _ in range(10):
            self.swarm.hold()
            self.pass_time(5)
            self.swarm.release()
        looks = self.swarm.task_looks + self.swarm.looks - looks
        self.assertLessEqual(looks, 11)

    def test_unknown_service(self) -> None:
        """A task of a service that nobody has rung for makes for a full look at once."""
        self.follow()
        self.swarm.deafen()
        self.swarm.add_service("web", LABELS)
        self.pass_time(1.0 + 2 * watcher.SETTLE)
        self.assertEqual(1, len(self.urls()))

    def test_ring_during_look(self) -> None:
        """A ring during a look means another look after it, for that one may have been too early."""
        self.follow()
        self.swarm.hold()
        self.swarm.ring()
        self.pass_time(2 * watcher.SETTLE)
        self.swarm.add_service("web", LABELS)
        self.swarm.release()
        self.assertNotIn("web", self.published[-1].services)
        self.pass_time(0.5)
        self.assertIn("web", self.published[-1].services)

    def test_one_look_at_a_time(self) -> None:
        """While a look is under way there is no other, however often it rings."""
        self.follow()
        self.swarm.hold()
        before = self.swarm.looks + self.swarm.task_looks
        for _ in range(20):
            self.swarm.ring()
            self.pass_time(0.1)
        self.assertEqual(before + 1, self.swarm.looks + self.swarm.task_looks)

    def test_once(self) -> None:
        """Told not to watch, it looks once, and then leaves the Swarm alone."""
        self.swarm.add_service("web", LABELS)
        provider = self.follow(watch=False)
        self.swarm.add_service("other", LABELS)
        self.pass_time(60)
        self.assertEqual((1, 0, 0), (self.swarm.looks, self.swarm.task_looks, self.swarm.subscriptions))
        self.assertEqual(1, len(self.published))
        self.assertTrue(provider.is_ready)

    def test_own_networks_remembered(self) -> None:
        """While the gate's own task is being replaced, and is no longer told of, tasks are reached as before."""
        self.swarm.own_container = "c0ffee"
        self.swarm.add_network("other")
        self.swarm.add_service("web", LABELS, networks=["golf", "other"])
        self.swarm.add_service("gate", {"traefik.enable": "false"})
        (own,) = self.swarm.tasks_of("gate")
        self.swarm.set_task(own, container="c0ffee" + "0" * 58)
        self.follow()
        before = self.urls()
        self.assertEqual(1, len(before))
        self.swarm.stop_task(own)
        self.swarm.start_task("web", "10.7.7.7")
        self.pass_time(1.1)
        self.assertEqual([*before, "http://10.7.7.7:80"], self.urls())

    def test_decided_apart(self) -> None:
        """Deciding may take its time elsewhere: it counts as a part of the look."""
        waiting: list[tuple[Deferred[Any], Any, tuple[Any, ...]]] = []

        def apart(call: Any, *given: Any) -> Deferred[Any]:
            deferred: Deferred[Any] = Deferred()
            waiting.append((deferred, call, given))
            return deferred

        self.swarm.add_service("web", LABELS)
        provider = self.follow(apart=apart)
        self.pass_time(5)
        self.assertEqual((1, []), (self.swarm.looks, self.published))
        ((deferred, call, given),) = waiting
        deferred.callback(call(*given))
        self.assertTrue(provider.is_ready)
        self.assertEqual(1, len(self.urls()))


class FailingTests(WatcherCase):
    """Whatever fails, what was last good stays in force."""

    def test_kept(self) -> None:
        """While the Swarm can't be looked at nothing is published, and once it can, what has changed meanwhile is."""
        self.swarm.add_service("web", LABELS)
        self.follow()
        published = len(self.published)
        self.swarm.fail("the daemon is gone")
        self.swarm.drop_subscriptions()
        self.pass_time(60)
        self.assertEqual(published, len(self.published))
        self.swarm.remove_service("web")
        self.swarm.recover()
        self.pass_time(5)
        self.assertEqual(Configuration(), self.published[-1])

    def test_back_soon(self) -> None:
        """However long the Swarm was away, it is looked at within 5 s of its return, and listened to again."""
        for jitter in (0.0, 1.0):
            swarm = self.swarm = MemorySwarm()
            self.follow(chance=lambda jitter=jitter: jitter)
            swarm.fail()
            swarm.drop_subscriptions()
            self.pass_time(600, 0.1)
            swarm.recover()
            looks = swarm.looks
            self.pass_time(5)
            self.assertGreater(swarm.looks, looks)
            self.assertEqual(1, swarm.subscriptions)

    def test_back_and_deaf(self) -> None:
        """A daemon that is back but tells of no events yet is not relied on: a change is seen within two seconds."""
        self.swarm.add_service("web", LABELS)
        self.follow()
        self.swarm.fail()
        self.pass_time(10)
        self.swarm.recover()
        self.swarm.deafen()
        self.pass_time(5)
        self.swarm.update_service("web", labels={**LABELS, "traefik.http.routers.late.rule": "Host(`late`)"})
        self.pass_time(2)
        self.assertIn("late", self.published[-1].routers)

    def test_back_slowly(self) -> None:
        """A daemon that starts lets the first look hang until it is up; the next looks follow all the same."""
        self.swarm.add_service("web", LABELS)
        self.follow()
        self.swarm.fail()
        self.pass_time(10)
        self.swarm.recover()
        self.swarm.deafen()
        self.swarm.hold()
        self.pass_time(9)
        self.swarm.release()
        self.swarm.update_service("web", labels={**LABELS, "traefik.http.routers.late.rule": "Host(`late`)"})
        self.pass_time(2)
        self.assertIn("late", self.published[-1].routers)

    def test_hung_once(self) -> None:
        """A look at the tasks that hung, but did not fail, puts off the next one by seconds only."""
        self.swarm.add_service("web", LABELS)
        self.follow()
        self.swarm.deafen()
        self.pass_time(watcher.BUSY)
        self.swarm.hold()
        self.pass_time(watcher.LOOK_TIMEOUT - 1)
        self.swarm.release()
        (task,) = self.swarm.tasks_of("web")
        self.swarm.stop_task(task)
        self.pass_time(4)
        self.assertEqual([], self.urls())

    def test_back_off(self) -> None:
        """A Swarm that is away is not asked without pause, and not by all gates at the same time."""
        self.follow()
        self.swarm.fail()
        self.swarm.drop_subscriptions()
        before = self.swarm.looks
        self.pass_time(60, 0.1)
        self.assertLess(self.swarm.looks - before, 30)
        provider = self.provider(chance=lambda: 1.0)
        self.assertEqual(self.provider()._back_off(9) / 2, provider._back_off(9))

    def test_logged_once(self) -> None:
        """An absence is one line in the log, and the return another."""
        self.swarm.add_service("web", LABELS)
        self.follow()
        with capturedLogs() as logs:
            self.swarm.fail("the daemon is gone")
            self.swarm.drop_subscriptions()
            self.pass_time(60)
            self.swarm.recover()
            self.pass_time(10)
        lines = [log["log_format"].format(**log) for log in logs if log["log_level"] >= LogLevel.info]
        self.assertEqual(2, len(lines), lines)
        self.assertIn("the daemon is gone", lines[0])
        self.assertIn("stays in force", lines[0])
        self.assertIn("again", lines[1])

    def test_not_ready(self) -> None:
        """A provider that has never seen the Swarm is not ready, keeps trying, and is ready at last."""
        self.swarm.fail()
        provider = self.follow()
        self.pass_time(30)
        self.assertEqual((False, []), (provider.is_ready, self.published))
        self.swarm.recover()
        self.pass_time(5)
        self.assertTrue(provider.is_ready)

    def test_once_failing(self) -> None:
        """Even where only one look is wanted, one that fails is repeated."""
        self.swarm.fail()
        provider = self.follow(watch=False)
        self.pass_time(3)
        self.swarm.recover()
        self.pass_time(5)
        self.assertTrue(provider.is_ready)

    def test_hangs(self) -> None:
        """A look that never answers is given up, and repeated."""
        self.swarm.add_service("web", LABELS)
        self.follow()
        self.swarm.hold()
        self.pass_time(watcher.LOOK_TIMEOUT + 5)
        self.swarm.add_service("other", LABELS)
        self.swarm._holding = False  # what hung stays unanswered for ever
        self.pass_time(watcher.LOOK_TIMEOUT + 5)
        self.assertIn("other", self.published[-1].routers)

    def test_stream_ends(self) -> None:
        """An event stream that ends is opened again, and what was missed meanwhile is seen."""
        self.follow()
        self.swarm.drop_subscriptions()
        self.swarm.add_service("web", LABELS)
        self.pass_time(0.5 + 2 * watcher.SETTLE)
        self.assertEqual(1, self.swarm.subscriptions)
        self.assertIn("web", self.published[-1].services)

    def test_stream_ends_always(self) -> None:
        """An event stream that ends as soon as it is open does not lead to looks without pause."""
        self.follow()
        before = self.swarm.looks
        for _ in range(600):
            self.swarm.drop_subscriptions()
            self.pass_time(0.1, 0.05)
        self.assertLess(self.swarm.looks - before, 60)

    def test_stream_dead(self) -> None:
        """An event stream that says nothing any more is found out by a look, and opened again."""
        self.follow()
        self.pass_time(1)
        self.swarm.deafen()
        self.swarm.add_service("web", LABELS, replicas=0)
        self.pass_time(watcher.FULL_LOOK + 2)
        self.assertIn("web", self.published[-1].services)
        self.swarm.deafen(False)
        looks = self.swarm.looks
        self.pass_time(1)
        self.assertEqual(1, self.swarm.subscriptions)
        self.swarm.remove_service("web")
        self.pass_time(2 * watcher.SETTLE)
        self.assertGreater(self.swarm.looks, looks)

    def test_service_unreadable(self) -> None:
        """A service that can't be read keeps what it had, and the others change as they should."""
        self.swarm.add_service("web", LABELS)
        self.swarm.add_service("other")
        self.follow()
        before = self.urls()
        self.swarm.break_service("web", "KeyError: 'Spec'")
        self.swarm.remove_service("other")
        self.pass_time(1)
        self.assertEqual(before, self.urls())
        self.assertEqual(["web"], list(self.published[-1].routers))
        self.assertIn("KeyError", str(self.published[-1].problems))
        self.swarm.update_service("web", fault="")
        self.pass_time(1)
        self.assertEqual((), self.published[-1].problems)


class StoppingTests(WatcherCase):
    """Stopping leaves nothing behind."""

    def test_stopped(self) -> None:
        """A provider that is stopped has no timer left, and neither looks nor listens."""
        provider = self.follow()
        self.pass_time(3)
        self.successResultOf(provider.stopService())
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual(0, self.swarm.subscriptions)
        looks = self.swarm.looks
        self.swarm.add_service("web", LABELS)
        self.pass_time(30)
        self.assertEqual(looks, self.swarm.looks)

    def test_stopped_while_looking(self) -> None:
        """What is under way when it is stopped has no consequences."""
        provider = self.follow()
        published = len(self.published)
        self.swarm.add_service("web", LABELS)
        self.swarm.hold()
        self.pass_time(1)
        stopped = provider.stopService()
        self.swarm.release()
        self.successResultOf(stopped)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual(published, len(self.published))

    def test_stopped_while_failing(self) -> None:
        """Stopping ends the back-off of looks and of the event stream."""
        provider = self.follow()
        self.swarm.fail()
        self.swarm.drop_subscriptions()
        self.pass_time(10)
        self.successResultOf(provider.stopService())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stopped_while_deciding(self) -> None:
        """Stopping waits for a decision that is being made elsewhere, and does not publish it."""
        deciding: Deferred[Any] = Deferred(lambda _: None)
        provider = self.follow(apart=lambda *_: deciding)
        stopped = provider.stopService()
        if not deciding.called:
            deciding.callback(None)
        self.successResultOf(stopped)
        self.assertEqual([], self.published)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.flushLoggedErrors()
