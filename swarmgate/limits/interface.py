"""What a middleware that limits gets from its context, wherever the counting is done."""

from __future__ import annotations

from typing import Any, Protocol

import attrs
from twisted.internet.interfaces import IReactorTime

#: Where requests come from, as a limit tells them apart: short, and the same for all that count as one.
Source = str | bytes


@attrs.frozen
class Rate:
    """What a token bucket is like.

    :ivar tokens: so many a second.
    :ivar burst: so many it holds.
    :ivar longest_wait: seconds that a request may wait for a token that it has reserved.
    """

    tokens: float
    burst: int
    longest_wait: float = 0.0


class Buckets(Protocol):
    """A token bucket for each source."""

    def take(self, source: Source) -> float:
        """Take a token from the bucket of *source*.

        Returns the seconds to wait for it, 0.0 if it is there. If they are more than the rate's longest wait, nothing
        was taken; they then tell when it is worth trying again.
        """

    def learn(self, source: Source, full_in: float) -> None:
        """Somebody who knows better says that the bucket of *source* is full in so many seconds."""


class Counts(Protocol):
    """How many of each source are under way."""

    def enter(self, source: Source, at_most: int) -> Any:
        """Count one more of *source*, unless *at_most* are there. Returns its place, None if there is none."""

    def leave(self, place: Any) -> None:
        """The one that has *place*, which :meth:`enter` has returned, is no longer under way."""


class Limits(Protocol):
    """Makes buckets and counts. What has the same name is one limit, in every process that takes part.

    :ivar secret: what all these processes know, and nobody else.
    """

    secret: bytes

    def buckets(self, name: str, rate: Rate, clock: IReactorTime) -> Buckets:
        """The buckets of the limit called *name*."""

    def counts(self, name: str) -> Counts:
        """The counts of the limit called *name*."""
