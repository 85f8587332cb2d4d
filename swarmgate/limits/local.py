"""Limits of one process, in its own memory."""

from __future__ import annotations

import os

from twisted.internet.interfaces import IReactorTime

from swarmgate.limits.interface import Buckets, Counts, Rate, Source
from swarmgate.limits.token_bucket import TokenBuckets

#: Sources whose buckets a limit remembers.
MOST_SOURCES = 65536


class LocalBuckets:
    """Token buckets in the process's own memory."""

    __slots__ = ("_buckets", "_seconds")

    def __init__(self, rate: Rate, clock: IReactorTime, most: int = MOST_SOURCES) -> None:
        """
        :param most: how many sources are remembered.
        """
        self._seconds = clock.seconds
        self._buckets = TokenBuckets(rate.tokens, rate.burst, self._seconds(), rate.longest_wait, most)

    def take(self, source: Source) -> float:
        return self._buckets.reserve(source, self._seconds())

    def learn(self, source: Source, full_in: float) -> None:
        self._buckets.learn(source, full_in, self._seconds())

    def __repr__(self) -> str:
        return f"<LocalBuckets {self._buckets!r}>"


class LocalCounts:
    """Counts in the process's own memory; a source of which none is under way leaves nothing behind."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[Source, int] = {}

    def enter(self, source: Source, at_most: int) -> Source | None:
        count = self._counts.get(source, 0)
        if count >= at_most:
            return None
        self._counts[source] = count + 1
        return source

    def leave(self, place: Source) -> None:
        count = self._counts[place] - 1
        if count:
            self._counts[place] = count
        else:
            del self._counts[place]

    def __len__(self) -> int:
        """How many are under way."""
        return sum(self._counts.values())


class LocalLimits:
    """Each limit counts what this process does."""

    def __init__(self) -> None:
        self.secret = os.urandom(16)

    def buckets(self, name: str, rate: Rate, clock: IReactorTime) -> Buckets:
        return LocalBuckets(rate, clock)

    def counts(self, name: str) -> Counts:
        return LocalCounts()
