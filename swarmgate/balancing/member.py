"""A server as one of a service's: its share, and what keeps requests from it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from swarmgate.dynamic.model import PassiveHealthCheck, Server
from swarmgate.http.upstream import Upstream

#: Answers that the average of :attr:`Member.seconds` is taken of (Traefik ``leasttime``).
_ANSWERS = 100


class Member:
    """One server of one service; outlives the tables.

    :ivar server: as the table has it.
    :ivar is_alone: its service has no other.
    :ivar restricted: something beside its upstream may keep requests from it: ask :meth:`admits`.
    :ivar well: what its health check says; None: nothing yet.
    :ivar seconds: how long its last answers took to begin, on average; 0 while it has not answered.
    """

    __slots__ = (
        "_answers",
        "_chance",
        "_failures",
        "_left_out_until",
        "_sum",
        "_warm_at",
        "_warm_in",
        "is_alone",
        "restricted",
        "seconds",
        "server",
        "upstream",
        "well",
    )

    def __init__(self, server: Server, upstream: Upstream, chance: Callable[[], float]) -> None:
        self.server = server
        self.upstream = upstream
        self.is_alone = False
        self._chance = chance
        # What its health check says.
        self.well: bool | None = True
        # What it has answered.
        self.seconds = 0.0
        self._sum = 0.0
        self._answers: deque[float] = deque()
        self._failures = 0
        self._left_out_until = 0.0
        # Its start.
        self._warm_at = 0.0
        self._warm_in = 0.0
        self.restricted = False

    def start_slowly(self, seconds: float) -> None:
        """Let its share grow over so many *seconds* to what it is due."""
        self._warm_in = seconds
        self._warm_at = self.upstream.deadlines.now + seconds
        self._restrict()

    def judge(self, well: bool | None) -> None:
        """Take what its health check says; None: nothing yet."""
        self.well = well
        self._restrict()

    def admits(self) -> bool:
        """Whether it may get a request now."""
        now = self.upstream.deadlines.now
        if not self.well or now < self._left_out_until:
            return False
        if now < self._warm_at:
            return self._chance() > (self._warm_at - now) / self._warm_in
        self._restrict()
        return True

    def is_up(self) -> bool:
        """Whether it gets requests now, as far as is known, however small its share may be yet."""
        upstream = self.upstream
        if not self.well or self.server.weight <= 0 or upstream.deadlines.now < self._left_out_until:
            return False
        return not upstream.failures or (self.is_alone and upstream.is_doubtful) or upstream.may_be_tried()

    def answered(self, seconds: float) -> None:
        """It has begun an answer after *seconds*."""
        answers = self._answers
        answers.append(seconds)
        self._sum += seconds
        if len(answers) > _ANSWERS:
            self._sum -= answers.popleft()
        self.seconds = max(self._sum, 0.0) / len(answers)

    def did(self, well: bool, check: PassiveHealthCheck) -> None:
        """It has answered *well*, or not; leave it out for a while if that was too often."""
        if well:
            self._failures = 0
            return
        self._failures += 1
        if self._failures >= check.max_failed_attempts:
            self._failures = 0
            self._left_out_until = self.upstream.deadlines.now + check.failure_window
            self._restrict()

    def _restrict(self) -> None:
        now = self.upstream.deadlines.now
        self.restricted = not self.well or now < self._left_out_until or now < self._warm_at

    def __repr__(self) -> str:
        return f"<Member {self.server.url} weight {self.server.weight}{' restricted' if self.restricted else ''}>"
