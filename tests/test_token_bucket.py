"""Tests for swarmgate.limits.token_bucket."""

from __future__ import annotations

import sys
import tracemalloc
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.limits.token_bucket import TokenBucket, TokenBuckets


class PlainBucket:
    """A token bucket as textbooks have it, with exact numbers: so many tokens, and when they were counted."""

    def __init__(self, rate: Fraction, burst: int, now: Fraction, longest_wait: Fraction) -> None:
        self.rate, self.burst, self.longest_wait = rate, burst, longest_wait
        self.tokens, self.counted = Fraction(burst), now

    def reserve(self, now: Fraction) -> Fraction:
        tokens = min(Fraction(self.burst), self.tokens + (now - self.counted) * self.rate)
        wait = max(Fraction(0), (1 - tokens) / self.rate)
        if wait <= self.longest_wait:
            self.tokens, self.counted = tokens - 1, now
        return wait


# Eighths and quarters are exact in binary too, so that both buckets are asked the same thing.
RATES = st.integers(1, 4000).map(lambda eighths: Fraction(eighths, 8))
STEPS = st.lists(st.one_of(st.just(0), st.integers(0, 40), st.integers(0, 100_000)), max_size=80)


class EquivalenceTests(SynchronousTestCase):
    """One number a bucket is as good as two."""

    @settings(max_examples=300, deadline=None)
    @given(rate=RATES, burst=st.integers(1, 60), share=st.integers(0, 8), steps=STEPS, start=st.integers(0, 10**6))
    def test_as_a_plain_bucket(self, rate: Fraction, burst: int, share: int, steps: list[int], start: int) -> None:
        """Requests pass, wait and are refused exactly as with a bucket that counts its tokens."""
        # Never on the very edge, where the rounding of floating point numbers would decide.
        longest = Fraction(share, 8) / rate + Fraction(1, 10**4)
        now = Fraction(start)
        plain = PlainBucket(rate, burst, now, longest)
        bucket = TokenBucket(float(rate), burst, float(now), float(longest))
        many = TokenBuckets(float(rate), burst, float(now), float(longest), most=4)
        for number, step in enumerate(steps):
            now += Fraction(step, 64)
            expected = plain.reserve(now)
            given = bucket.reserve(float(now))
            self.assertAlmostEqual(float(expected), given, delta=1e-5)
            self.assertEqual(expected <= longest, given <= float(longest))
            # Others come and go beside it, and are forgotten; it is not, as long as it is seen among them.
            many.reserve(f"other {number}", float(now))
            self.assertAlmostEqual(float(expected), many.reserve("one", float(now)), delta=1e-5)


class TokenBucketTests(SynchronousTestCase):
    def test_burst_then_rate(self) -> None:
        """A burst passes at once, then as many requests as are refilled."""
        bucket = TokenBucket(rate=100, burst=50, now=7.0)
        self.assertEqual([bucket.reserve(7.0) for _ in range(50)], [0.0] * 50)
        self.assertAlmostEqual(bucket.reserve(7.0), 0.01)
        self.assertEqual(bucket.reserve(7.0101), 0.0)

    def test_ten_seconds_of_too_much(self) -> None:
        """Of 400 requests a second against 100 and a burst of 50, 1,050 pass in ten seconds."""
        bucket = TokenBucket(rate=100, burst=50, now=0.0, longest_wait=0.005)
        passed = sum(bucket.reserve(number / 400) <= 0.005 for number in range(4000))
        self.assertAlmostEqual(passed, 1050, delta=2)

    def test_refused_takes_nothing(self) -> None:
        """Insisting does not push the next token further away."""
        bucket = TokenBucket(rate=1, burst=1, now=0.0)
        bucket.reserve(0.0)
        waits = [bucket.reserve(step / 10) for step in range(1, 10)]
        self.assertEqual([round(wait, 6) for wait in waits], [round(1 - step / 10, 6) for step in range(1, 10)])
        self.assertEqual(bucket.reserve(1.0), 0.0)

    def test_clock_set_back(self) -> None:
        """When the clock is set back an hour, nobody waits an hour, and nobody gets tokens for it."""
        bucket = TokenBucket(rate=1, burst=2, now=10_000.0)
        bucket.reserve(10_000.0)
        bucket.reserve(10_000.0)
        self.assertAlmostEqual(bucket.reserve(6_400.0), 1.0)
        self.assertAlmostEqual(bucket.reserve(6_400.5), 0.5)
        self.assertEqual(bucket.reserve(6_401.0), 0.0)

    def test_impossible(self) -> None:
        """A bucket that could never let anything pass is an error, not a lock."""
        self.assertRaises(ValueError, TokenBucket, 0, 1, 0.0)
        self.assertRaises(ValueError, TokenBucket, 1, 0, 0.0)


class TokenBucketsTests(SynchronousTestCase):
    def test_each_its_own(self) -> None:
        """One source's requests cost another nothing."""
        buckets = TokenBuckets(rate=1, burst=1, now=0.0)
        self.assertEqual(buckets.reserve("a", 0.0), 0.0)
        self.assertEqual(buckets.reserve("b", 0.0), 0.0)
        self.assertEqual(buckets.reserve("a", 0.0), 1.0)

    def test_forgotten_only_when_full(self) -> None:
        """With few sources, a bucket is remembered until it is full again, however slow that is."""
        buckets = TokenBuckets(rate=0.1, burst=3, now=0.0)
        for _ in range(3):
            buckets.reserve("a", 0.0)
        buckets.reserve("b", 25.0)
        self.assertEqual(buckets.reserve("a", 29.0), 0.0)
        self.assertEqual(buckets.reserve("a", 29.0), 0.0)
        self.assertAlmostEqual(buckets.reserve("a", 29.0), 1.0)

    def test_full_ones_are_forgotten(self) -> None:
        """Sources that have gone leave nothing behind."""
        buckets = TokenBuckets(rate=10, burst=5, now=0.0)
        for number in range(1000):
            buckets.reserve(number, 0.0)
        self.assertEqual(len(buckets), 1000)
        buckets.reserve("later", 1.0)
        buckets.reserve("later", 2.0)
        self.assertEqual(len(buckets), 1)

    def test_insistent_source_is_not_forgotten(self) -> None:
        """A source can't have a new bucket by way of hiding in a crowd while it goes on sending."""
        buckets = TokenBuckets(rate=0.001, burst=1, now=0.0, most=64)
        buckets.reserve("busy", 0.0)
        for number in range(1000):
            buckets.reserve(f"other {number}", 0.0)
            if not number % 16:
                self.assertGreater(buckets.reserve("busy", 0.0), 0.0)

    def test_million_sources(self) -> None:
        """A million addresses cost no more memory than the 65,536 that are remembered."""
        self.addCleanup(tracemalloc.stop)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        buckets = TokenBuckets(rate=0.01, burst=5, now=0.0)
        for number in range(1_000_000):
            buckets.reserve(f"2001:db8::{number:x}", number / 1_000_000)
        after, highest = (octets - before for octets in tracemalloc.get_traced_memory())
        self.assertLessEqual(len(buckets), 65_536)
        self.assertLess(after, 16_000_000)
        self.assertLess(highest, 20_000_000)
        self.assertGreater(after, sys.getsizeof(""))
