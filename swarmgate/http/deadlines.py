"""Deadlines of connections: one timer for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from swarmgate.transport.turn_end import TurnEnd

_log = Logger()

NEVER = float("inf")
#: How long a connection that was closed may take to send what is left. Seconds.
FLUSH_FOR = 10.0
#: How long a tunnel lives on when one side of it has ended. Seconds.
HALF_OPEN_FOR = 60.0


class Dated(Protocol):
    """Something with a deadline, in seconds of :attr:`Deadlines.now`, which it moves as it goes along."""

    deadline: float

    def overdue(self) -> None:
        """The deadline has passed. It must be moved, or the member leave."""


class Deadlines:
    """Looks at all members' deadlines a few times a second, so that moving one costs an assignment.

    A deadline is noticed up to one *tick* late, and measured from a time up to one tick old.

    :ivar now: the clock's time at the last look, in seconds.
    :ivar turn_end: when connections write that gather what they write; None: at once.
    """

    def __init__(self, clock: IReactorTime, tick: float = 0.25, turn_end: TurnEnd | None = None) -> None:
        self.now = clock.seconds()
        self.turn_end = turn_end
        self._clock = clock
        self._tick = tick
        self._stopped = False
        self._members: set[Dated] = set()
        self._call: IDelayedCall | None = None

    def add(self, member: Dated) -> None:
        """Look at *member* from now on."""
        if self._call is None:
            self.now = self._clock.seconds()
            self._call = self._clock.callLater(self._tick, self._look)
        self._members.add(member)

    def discard(self, member: Dated) -> None:
        """Look at *member* no more."""
        self._members.discard(member)

    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Make *call* after so many *seconds*, exactly, if the timer has not been stopped."""

        def due() -> None:
            if not self._stopped:
                call()

        self._clock.callLater(seconds, due)

    def stop(self) -> None:
        """End the timer; for the end of the process, and of tests."""
        self._stopped = True
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._members.clear()

    def __len__(self) -> int:
        return len(self._members)

    def _look(self) -> None:
        # The timer goes on whatever a member does, and rests while there is none.
        self._call = self._clock.callLater(self._tick, self._look) if self._members else None
        now = self.now = self._clock.seconds()
        for member in [member for member in self._members if member.deadline <= now]:
            try:
                member.overdue()
            except Exception:
                # A fault of one is none of the others'.
                _log.failure("a deadline could not be kept")
