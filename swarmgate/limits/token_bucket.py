"""Token buckets: how many requests a source may send, and how soon the next one may go on.

A bucket holds up to *burst* tokens, begins full and is refilled at *rate* tokens a second. A request takes one. If
there is none, the request may reserve the next one to come and wait for it, unless that takes too long.

A bucket needs not remember how many tokens it has and since when: the time at which it will be full again says both,
and one number per source is all that is kept (the generic cell rate algorithm, ITU-T I.371, keeps the same number
under another name). A bucket that is full by now says nothing at all, and is forgotten.
"""

from __future__ import annotations

from collections.abc import Hashable

#: Seconds that count as no wait. Sums of floating point numbers are not exact; nobody notices a microsecond.
_AT_ONCE = 1e-6


class TokenBuckets:
    """A bucket for each source; time is passed in, in seconds of any clock.

    A clock that is set back counts as one that stands still, so that nobody is locked out by it.

    :ivar rate: tokens a second.
    :ivar burst: tokens that a bucket holds.
    :ivar longest_wait: seconds that a request may wait for a token that it has reserved.
    """

    __slots__ = (
        "_depth",
        "_half",
        "_interval",
        "_life",
        "_now",
        "_old",
        "_shift",
        "_turn",
        "_young",
        "burst",
        "longest_wait",
        "rate",
    )

    def __init__(self, rate: float, burst: int, now: float, longest_wait: float = 0.0, most: int = 65536) -> None:
        """
        :param now: the clock's time at present.
        :param most: how many sources are remembered; beyond that, those that were not seen for longest begin anew.
        :raises ValueError: *rate* or *burst* leaves no token ever.
        """
        if rate <= 0 or burst < 1:
            raise ValueError(f"a bucket of {burst} tokens with {rate} more a second never has one")
        self.rate = rate
        self.burst = burst
        self.longest_wait = longest_wait
        self._interval = 1 / rate
        self._depth = burst / rate
        # Times are kept relative to the first one: near zero, floating point numbers are finer.
        self._shift = -now
        self._now = 0.0
        # Two generations instead of an order of use: what is used goes into the young one, and when that is as old as
        # any bucket takes to be full, or has half of what is allowed, it becomes the old one. An old bucket that no
        # request has touched meanwhile is then full, and dropping it changes nothing.
        self._life = self._depth + longest_wait + self._interval
        self._half = max(1, most // 2)
        self._young: dict[Hashable, float] = {}
        self._old: dict[Hashable, float] = {}
        self._turn = self._life

    def __len__(self) -> int:
        """How many sources are remembered."""
        return len(self._young) + sum(1 for source in self._old if source not in self._young)

    def reserve(self, source: Hashable, now: float) -> float:
        """Take a token from the bucket of *source* at the time *now*.

        Returns the seconds to wait for it: 0.0 if it is there. If they are more than :attr:`longest_wait`, nothing
        was taken; they then tell when it is worth trying again.
        """
        now = self._own_time(now)
        young = self._young
        before = young.get(source)
        if before is None:
            if len(young) >= self._half:
                self._turn_over(now)
                young = self._young
            before = self._old.get(source, now)
        full = (before if before > now else now) + self._interval
        wait = full - now - self._depth
        if wait < _AT_ONCE:
            young[source] = full
            return 0.0
        # Also what is refused is seen: a source must not be forgotten because it insists.
        young[source] = full if wait <= self.longest_wait else before
        return wait

    def learn(self, source: Hashable, full_in: float, now: float) -> None:
        """The bucket of *source* is full *full_in* seconds after the time *now*, whatever was known of it."""
        now = self._own_time(now)
        if len(self._young) >= self._half and source not in self._young:
            self._turn_over(now)
        self._young[source] = now + full_in

    def _own_time(self, now: float) -> float:
        now += self._shift
        if now < self._now:
            self._shift += self._now - now
            now = self._now
        else:
            self._now = now
        if now >= self._turn:
            self._turn_over(now)
        return now

    def _turn_over(self, now: float) -> None:
        if now >= self._turn + self._life:
            self._young = {}
        self._old, self._young = self._young, {}
        self._turn = now + self._life

    def __repr__(self) -> str:
        return f"<TokenBuckets {self.rate:g}/s burst {self.burst}, {len(self)} sources>"


class TokenBucket:
    """One bucket, for a single source. See :class:`TokenBuckets`, which says what the parameters are."""

    __slots__ = ("_buckets",)

    def __init__(self, rate: float, burst: int, now: float, longest_wait: float = 0.0) -> None:
        self._buckets = TokenBuckets(rate, burst, now, longest_wait, most=2)

    def reserve(self, now: float) -> float:
        """Take a token at the time *now*. Returns what :meth:`TokenBuckets.reserve` returns."""
        return self._buckets.reserve(None, now)

    def __repr__(self) -> str:
        return f"<TokenBucket {self._buckets.rate:g}/s burst {self._buckets.burst}>"
