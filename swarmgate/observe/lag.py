"""How late the reactor is."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import LoopingCall

_LAG_EVERY = 0.5  # Seconds.


class ReactorLag:
    """How late the reactor comes to what is due: :attr:`last`, and the longest since it was last taken.

    :param clock: the reactor's (IReactorTime).
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._due = 0.0
        self._longest = 0.0
        self.last = 0.0
        self._call = LoopingCall(self._look)
        self._call.clock = clock

    def start(self) -> None:
        """Begin to measure."""
        self._due = self._clock.seconds() + _LAG_EVERY
        self._call.start(_LAG_EVERY, now=False)

    def stop(self) -> None:
        """Measure no more."""
        if self._call.running:
            self._call.stop()

    def take(self) -> float:
        """The longest lag, in seconds, since this was last asked."""
        longest, self._longest = self._longest, 0.0
        return longest

    def _look(self) -> None:
        now = self._clock.seconds()
        self.last = max(0.0, now - self._due)
        self._longest = max(self._longest, self.last)
        self._due = now + _LAG_EVERY
