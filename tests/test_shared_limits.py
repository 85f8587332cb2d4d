"""Tests for swarmgate.limits.shared, with two workers in one process; tests/e2e has real ones."""

from __future__ import annotations

import os
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.limits.interface import Rate
from swarmgate.limits.local import LocalBuckets
from swarmgate.limits.shared import SharedLimits
from swarmgate.limits.token_bucket import TokenBucket
from swarmgate.middlewares import build, in_flight_req, rate_limit
from swarmgate.structure import structure
from tests.exchanges import context_of, exchange_of, lead


class SharedTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(5)

    def open(self, workers: int = 2, **options: Any) -> list[SharedLimits]:
        """One for each worker, and one that only clears."""
        descriptor = SharedLimits.create(workers, **options)
        self.addCleanup(os.close, descriptor)
        opened = [SharedLimits(descriptor, worker, self.clock.seconds) for worker in [*range(workers), None]]
        for one in opened:
            self.addCleanup(one.close)
        return opened


class SharedBucketsTests(SharedTestCase):
    def test_one_bucket_for_all(self) -> None:
        """A token that one worker has given away is gone for the others."""
        first, second, _ = (one.buckets("l", Rate(1, 3), self.clock) for one in self.open())
        self.assertEqual([first.take("a"), second.take("a"), first.take("a")], [0.0] * 3)
        self.assertAlmostEqual(second.take("a"), 1.0)
        self.clock.advance(1)
        self.assertEqual(second.take("a"), 0.0)
        self.assertAlmostEqual(first.take("a"), 1.0)

    def test_each_source_and_limit_its_own(self) -> None:
        """Neither another source nor another limit costs anything."""
        limits = self.open()
        for name in ("l", "m"):
            first, second, _ = (one.buckets(name, Rate(1, 1), self.clock) for one in limits)
            for source in ("a", "b", b"c", "\udcff", ""):
                self.assertEqual(first.take(source), 0.0)
                self.assertEqual(second.take(source), 1.0)

    @settings(max_examples=100, deadline=None)
    @given(
        rate=st.integers(1, 4000).map(lambda eighths: eighths / 8),
        burst=st.integers(1, 60),
        share=st.integers(0, 8),
        steps=st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=60),
    )
    def test_as_the_local_bucket(self, rate: float, burst: int, share: int, steps: list[tuple[int, bool]]) -> None:
        """Whichever worker asks, requests pass, wait and are refused as with a bucket of one process."""
        longest = share / 8 / rate + 1e-4
        clock = Clock()
        descriptor = SharedLimits.create(2, groups=1, count_groups=1)
        opened = [SharedLimits(descriptor, worker, clock.seconds) for worker in range(2)]
        try:
            workers = [one.buckets("l", Rate(rate, burst, longest), clock) for one in opened]
            local = TokenBucket(rate, burst, 0.0, longest)
            for number, (step, which) in enumerate(steps):
                clock.advance(step / 64)
                self.assertAlmostEqual(workers[which].take("one"), local.reserve(clock.seconds()), delta=1e-5)
                if number < 15:
                    workers[not which].take(f"other {number}")
        finally:
            for one in opened:
                one.close()
            os.close(descriptor)

    def test_full_ones_give_way(self) -> None:
        """Sources that have gone leave room for others."""
        first, second, _ = (one.buckets("l", Rate(1, 1), self.clock) for one in self.open(groups=1))
        for turn in range(5):
            sources = [f"{turn} {number}" for number in range(16)]
            self.assertEqual([first.take(one) for one in sources], [0.0] * 16)
            self.assertEqual([second.take(one) for one in sources], [1.0] * 16)
            self.clock.advance(1)

    def test_the_one_that_loses_least_gives_way(self) -> None:
        """Where there is no room, a source that insists does not get a new bucket by way of a crowd."""
        first, _, _ = (one.buckets("l", Rate(1, 10), self.clock) for one in self.open(groups=1))
        for _ in range(10):
            self.assertEqual(first.take("busy"), 0.0)
        for number in range(1000):
            self.assertEqual(first.take(f"other {number}"), 0.0)
        self.assertAlmostEqual(first.take("busy"), 1.0)

    def test_learn(self) -> None:
        """What somebody who knows better says of a bucket holds for all workers, and for processes of one."""
        first, second, _ = (one.buckets("l", Rate(1, 3), self.clock) for one in self.open())
        for buckets, other in ((first, second), (local := LocalBuckets(Rate(1, 3), self.clock), local)):
            buckets.learn("a", 2.0)
            self.assertEqual(other.take("a"), 0.0)
            self.assertAlmostEqual(other.take("a"), 1.0)
            buckets.learn("a", 0.0)
            self.assertEqual([other.take("a") for _ in range(3)], [0.0] * 3)

    def test_lock_held(self) -> None:
        """While another process has the lock nobody waits, and limits still hold for all as far as they are known."""
        first, second, _ = self.open()
        one, other = (limits.buckets("l", Rate(1, 2), self.clock) for limits in (first, second))
        count, counted = first.counts("l"), second.counts("l")
        one.take("known")
        place = count.enter("known", 2)
        with patch("swarmgate.limits.shared.lockf", side_effect=BlockingIOError):
            self.assertEqual([other.take("known"), one.take("known")], [0.0, 1.0])
            self.assertEqual([counted.enter("known", 2), count.enter("known", 2)], [place, None])
            # Of what is not known, each process thinks by itself.
            self.assertEqual([one.take("new"), other.take("new"), one.take("new"), one.take("new")], [0.0] * 3 + [1.0])
            own = count.enter("new", 1)
            self.assertIsNone(count.enter("new", 1))
            self.assertIsNotNone(counted.enter("new", 1))
            self.assertEqual((first.misses, second.misses), (7, 4))
        count.leave(own)
        self.assertEqual(one.take("new"), 0.0)


class SharedCountsTests(SharedTestCase):
    def test_one_count_for_all(self) -> None:
        """What one worker has under way counts for all, until it is over."""
        limits = self.open()
        first, second = (one.counts("l") for one in limits[:2])
        places = [first.enter("a", 2), second.enter("a", 2)]
        self.assertNotIn(None, places)
        self.assertEqual((first.enter("a", 2), second.enter("a", 2)), (None, None))
        second.leave(places[1])
        self.assertIsNotNone(first.enter("a", 2))
        self.assertIsNone(second.enter("a", 2))

    def test_each_source_and_limit_its_own(self) -> None:
        """Neither another source nor another limit takes places."""
        first, _, _ = self.open()
        for name in ("l", "m"):
            counts = first.counts(name)
            for source in ("a", b"b", "\udcff", ""):
                self.assertIsNotNone(counts.enter(source, 1))
                self.assertIsNone(counts.enter(source, 1))

    def test_clear(self) -> None:
        """What a worker that died had under way is given back, and what the others have is not."""
        first, second, parent = self.open()
        one, other = first.counts("l"), second.counts("l")
        place = one.enter("a", 3)
        other.enter("a", 3)
        other.enter("a", 3)
        self.assertIsNone(one.enter("a", 3))
        parent.clear(1)
        self.assertEqual([one.enter("a", 3) is None for _ in range(3)], [False, False, True])
        one.leave(place)
        self.assertIsNotNone(one.enter("a", 3))

    def test_no_room(self) -> None:
        """Where there is no room for another source, each worker counts for itself."""
        first, _, _ = self.open(count_groups=1)
        counts = first.counts("l")
        places = [counts.enter(f"{number}", 1) for number in range(20)]
        self.assertNotIn(None, places)
        self.assertEqual(first.misses, 4)
        self.assertEqual([counts.enter(f"{number}", 1) for number in range(20)], [None] * 20)
        for place in places:
            counts.leave(place)
        self.assertNotIn(None, [counts.enter(f"new {number}", 1) for number in range(16)])
        self.assertEqual(first.misses, 8)

    def test_all_is_given_back(self) -> None:
        """Sources that come and go leave nothing behind, however many there are."""
        first, second, _ = self.open(count_groups=2)
        counts = (first.counts("l"), second.counts("l"))
        for number in range(2000):
            which = counts[number % 2]
            which.leave(which.enter(f"{number}", 1))
        self.assertEqual((first.misses, second.misses, sum(first.counts_of)), (0, 0, 0))


class MiddlewareTests(SharedTestCase):
    """The middlewares in workers of one gate, which have built them from equal settings."""

    def steps(self, kind: str, settings: type[Any], **tree: Any) -> list[Any]:
        return [
            build(kind, structure(settings, tree, kind), context_of(self.clock, limits=limits))
            for limits in self.open()[:2]
        ]

    def test_rate_limit(self) -> None:
        """A token that one worker has given is missing in the other."""
        first, second = self.steps("ratelimit", rate_limit.Settings, average="1", period="1m", burst="2")
        statuses = [lead(exchange_of(), step).status for step in (first, second, first, second)]
        self.assertEqual(statuses, [200, 200, 429, 429])

    def test_in_flight_req(self) -> None:
        """What is under way in one worker counts in the other, until it has ended."""
        first, second = self.steps("inflightreq", in_flight_req.Settings, amount="1")
        exchange = exchange_of()
        self.assertIsNone(first.request(exchange))
        self.assertEqual(lead(exchange_of(), second).status, 429)
        exchange.client_gone()
        self.assertEqual([lead(exchange_of(), second).status for _ in range(2)], [200, 200])


class DescriptorTests(SharedTestCase):
    def test_mistakes(self) -> None:
        """A descriptor of something else, or a worker too many, is said to be that."""
        descriptor = SharedLimits.create(2)
        self.addCleanup(os.close, descriptor)
        for worker in (-1, 2):
            with self.assertRaises(ValueError) as caught:
                SharedLimits.open(descriptor, worker)
            self.assertIn("0 to 1", str(caught.exception))
        parent = SharedLimits.open(descriptor)
        self.assertRaises(ValueError, parent.clear, 2)
        self.assertRaises(ValueError, parent.counts, "l")
        other = os.memfd_create("other")
        self.addCleanup(os.close, other)
        os.ftruncate(other, 8192)
        self.assertRaises(ValueError, SharedLimits.open, other, 0)

    def test_memory(self) -> None:
        """Limits that nobody uses take no memory."""
        descriptor = SharedLimits.create(64)
        self.addCleanup(os.close, descriptor)
        limits = SharedLimits.open(descriptor, 0)
        limits.buckets("l", Rate(1, 1), self.clock).take("a")
        self.assertLess(os.fstat(descriptor).st_blocks * 512, 65536)
