"""What a peer may make the gate do for nothing, within a time: frames that cost the receiver more than the sender.

Each kind has an allowance that is spent by such frames and comes back with time, and with honest work. Whoever
overdraws it loses the connection (ENHANCE_YOUR_CALM).
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Budget:
    """An allowance.

    :ivar at_most: what can be spent at once.
    :ivar per_second: how fast it comes back.
    :ivar reason: what is said and counted when it is overdrawn.
    """

    at_most: float
    per_second: float
    reason: str


#: Streams that the client has reset before they were answered (CVE-2023-44487); every answer earns half of one.
RESETS = Budget(200, 10, "http2: too many resets")
#: Streams above the number that the client was told, and requests that are none by RFC 9113.
STREAM_ERRORS = Budget(300, 10, "http2: too many stream errors")
SETTINGS = Budget(20, 1, "http2: too many settings")
#: Every frame with data earns one: clients measure the path with them as long as data flows.
PINGS = Budget(500, 20, "http2: too many pings")
EMPTY_DATA = Budget(100, 10, "http2: too many empty frames")
PRIORITIES = Budget(1000, 50, "http2: too many priorities")
#: Every frame of an answer earns four.
WINDOW_UPDATES = Budget(2000, 100, "http2: too many window updates")
#: Octets of field sections that are long, as they come: every answer earns what an honest client's cookies take.
LONG_SECTIONS = Budget(2_000_000, 200_000, "http2: too much in field sections")
UNKNOWN_FRAMES = Budget(100, 10, "http2: too many unknown frames")


class Overdrawn(Exception):
    """An allowance is used up.

    :ivar reason: as the budget says it.
    """

    def __init__(self, budget: Budget) -> None:
        super().__init__(budget.reason)
        self.reason = budget.reason


class Allowances:
    """What one peer has left of each budget."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        #: By budget, what was left and when; what was never spent is not here.
        self._left: dict[Budget, tuple[float, float]] = {}

    def spend(self, budget: Budget, now: float, earned: float = 0.0, amount: float = 1.0) -> None:
        """Spend *amount*.

        :param earned: how much of it the peer has earned since the last call, beside what comes back with time.
        :raises Overdrawn: there was not as much.
        """
        known = self._left.get(budget)
        if known is None:
            left = budget.at_most
        else:
            left = min(budget.at_most, known[0] + (now - known[1]) * budget.per_second + earned)
        if left < amount:
            raise Overdrawn(budget)
        self._left[budget] = (left - amount, now)
