"""When a worker, or the fork server, that has died is started again."""

from __future__ import annotations

import attrs

#: Who has lived so long was well: the next one is started at once. Seconds.
_WELL_AFTER = 10.0
#: Seconds before the second attempt in a row; each further one doubles them, up to the longest.
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 10.0


@attrs.frozen
class Restarts:
    """How often in a row a process has died young.

    :ivar deaths: so many.
    """

    deaths: int = 0

    def died(self, lived: float) -> Restarts:
        """After it has died once more, having *lived* so many seconds."""
        return Restarts(1 if lived >= _WELL_AFTER else self.deaths + 1)

    @property
    def pause(self) -> float:
        """Seconds to wait before it is started again: none at first."""
        if self.deaths < 2:
            return 0.0
        return min(_FIRST_PAUSE * 2.0 ** min(self.deaths - 2, 20), _LONGEST_PAUSE)

    @property
    def is_loop(self) -> bool:
        """Whether it dies again and again."""
        return self.deaths >= 3

    @property
    def said(self) -> str:
        """What comes next, for people."""
        again = f"it is started again in {self.pause:g} s" if self.pause else "it is started again"
        return f"{again}: it has died {self.deaths} times in a row" if self.is_loop else again
