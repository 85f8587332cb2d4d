"""``circuitBreaker``: a service that fails is left alone for a while, and then gets its requests back little by little.

While the circuit is closed all requests pass, and the expression is looked at every ``checkPeriod``. When it holds, the
circuit opens: requests are answered at once. After ``fallbackDuration`` it recovers: a share of requests that grows
from nothing to all within ``recoveryDuration`` passes, until that time is over or the expression holds again.

All routers that use a middleware share its circuit, and a new configuration keeps it if its options stay the same; with
Traefik, every change of the configuration closes it.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from swarmgate.http.exchange import reason_of
from swarmgate.middlewares import expressions
from swarmgate.middlewares.expressions import Measure
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.structure import Duration, at_least, option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange
    from swarmgate.http.message import Response
from swarmgate.http.moment import moment

KIND = "circuitBreaker"

#: Seconds whose requests the expression is about, in so many slots (Traefik's oxy: ten seconds of one each).
_SLOTS = 10
#: Upper bounds in milliseconds by which latencies are counted: each a tenth above the last.
_BOUNDS = tuple(0.1 * 1.1**number for number in range(160))


@attrs.frozen
class Settings:
    """Options of ``circuitBreaker``."""

    expression: str = option(
        doc="When the circuit opens: NetworkErrorRatio() > 0.3, ResponseCodeRatio(500, 600, 0, 600) > 0.25, "
        "LatencyAtQuantileMS(50.0) > 100, combined by && and ||."
    )
    check_period: Duration = option(default=Duration(0.1), doc="Between two looks at the expression.")
    fallback_duration: Duration = option(default=Duration(10.0), doc="How long requests are answered here.")
    recovery_duration: Duration = option(default=Duration(10.0), doc="How long it takes until all requests pass again.")
    response_code: int = option(default=503, doc="The status that they are answered with.", validator=at_least(200))


class Counted:
    """What has become of requests in one slot of time."""

    __slots__ = ("latencies", "network_errors", "requests", "statuses")

    def __init__(self) -> None:
        self.requests = 0
        self.network_errors = 0
        self.statuses: dict[int, int] = {}
        self.latencies: dict[int, int] = {}

    def add(self, status: int, is_network_error: bool, milliseconds: float) -> None:
        """Count one request."""
        self.requests += 1
        self.network_errors += is_network_error
        self.statuses[status] = self.statuses.get(status, 0) + 1
        bound = bisect_left(_BOUNDS, milliseconds)
        self.latencies[bound] = self.latencies.get(bound, 0) + 1


class Window:
    """What has become of requests lately."""

    def __init__(self) -> None:
        self._slots: list[tuple[int, Counted]] = []

    def slot(self, now: float) -> Counted:
        """Where a request of *now*, in seconds, is counted; what is too old is forgotten."""
        number = int(now)
        slots = self._slots
        if not slots or slots[-1][0] != number:
            self._slots = slots = [one for one in slots if one[0] > number - _SLOTS]
            slots.append((number, Counted()))
        return slots[-1][1]

    def lately(self, now: float) -> Sequence[Counted]:
        """The slots that are not too old."""
        return [counted for number, counted in self._slots if number > int(now) - _SLOTS]

    def clear(self) -> None:
        """Forget everything."""
        self._slots = []


Measuring = Callable[[Sequence[Counted]], float]


def network_error_ratio() -> Measuring:
    """The share of requests that no server has answered."""

    def measure(lately: Sequence[Counted]) -> float:
        requests = sum(one.requests for one in lately)
        return sum(one.network_errors for one in lately) / requests if requests else 0.0

    return measure


def response_code_ratio(least: float, below: float, of_least: float, of_below: float) -> Measuring:
    """How many statuses from *least* to *below* there are for each from *of_least* to *of_below*."""

    def count(lately: Sequence[Counted], at_least: float, less_than: float) -> int:
        return sum(count for one in lately for status, count in one.statuses.items() if at_least <= status < less_than)

    def measure(lately: Sequence[Counted]) -> float:
        of = count(lately, of_least, of_below)
        return count(lately, least, below) / of if of else 0.0

    return measure


def latency_at_quantile(percent: float) -> Measuring:
    """The milliseconds within which so many in a hundred requests were answered; up to a tenth too high."""
    if not 0 < percent <= 100:
        raise ValueError("LatencyAtQuantileMS: expected more than 0 and at most 100")

    def measure(lately: Sequence[Counted]) -> float:
        requests = sum(one.requests for one in lately)
        if not requests:
            return 0.0
        counts: dict[int, int] = {}
        for one in lately:
            for bound, count in one.latencies.items():
                counts[bound] = counts.get(bound, 0) + count
        passed = 0
        for bound in sorted(counts):
            passed += counts[bound]
            if passed >= requests * percent / 100:
                return _BOUNDS[min(bound, len(_BOUNDS) - 1)]
        return _BOUNDS[-1]

    return measure


_MEASURES = {
    one.name.lower(): one
    for one in (
        Measure("NetworkErrorRatio", network_error_ratio),
        Measure("ResponseCodeRatio", response_code_ratio, 4),
        Measure("LatencyAtQuantileMS", latency_at_quantile, 1),
    )
}
_EXAMPLE = "NetworkErrorRatio(), ResponseCodeRatio(500, 600, 0, 600) or LatencyAtQuantileMS(50)"


def condition_of(text: str) -> expressions.Condition:
    """What the expression *text* asks of the requests of late.

    :raises ValueError: it is none; says what was expected.
    """
    return expressions.condition_of(text, "expression", _MEASURES, _EXAMPLE)


class Circuit:
    """Whether requests pass.

    :param chance: gives numbers from 0 to 1.
    :ivar opened: when it was opened last; None while it is closed.
    """

    def __init__(self, settings: Settings, chance: Callable[[], float] = random.random) -> None:
        self._condition = condition_of(settings.expression)
        self._check_period = settings.check_period
        self._fallback = settings.fallback_duration
        self._recovery = settings.recovery_duration
        self._chance = chance
        self._window = Window()
        self._looked = 0.0
        self.opened: float | None = None

    def admits(self, now: float) -> bool:
        """Whether a request of *now*, in seconds, may pass."""
        if self.opened is None:
            return True
        recovering = now - self.opened - self._fallback
        if recovering < 0:
            return False
        if recovering >= self._recovery:
            self.opened = None
            return True
        return self._chance() < recovering / self._recovery

    def count(self, now: float, status: int, is_network_error: bool, milliseconds: float) -> None:
        """Count a request that has passed and was answered; look at the expression if that is due."""
        self._window.slot(now).add(status, is_network_error, milliseconds)
        if now - self._looked < self._check_period:
            return
        self._looked = now
        if self.opened is not None and now - self.opened < self._fallback:
            return  # What began before it was opened.
        if self._condition(self._window.lately(now)):
            self.opened = now
            # What has opened it must not open it again when a few have passed.
            self._window.clear()


class CircuitBreaker(Middleware):
    """Lets requests pass while the circuit admits them."""

    __slots__ = ("_circuit", "_now", "_status")

    def __init__(self, settings: Settings, context: Context) -> None:
        self._now = context.clock.seconds
        self._status = settings.response_code
        self._circuit: Circuit = context.keep((KIND, settings), lambda: Circuit(settings))

    def request(self, exchange: Exchange) -> None:
        if not self._circuit.admits(self._now()):
            exchange.answer(self._status, reason_of(self._status))

    def response(self, exchange: Exchange, response: Response) -> None:
        # A server that could not be reached, or broke off, has not answered: the status is the gate's own.
        is_network_error = not exchange.origin_status and response.status in (502, 504)
        milliseconds = 1000 * (moment() - exchange.started)
        self._circuit.count(self._now(), response.status, is_network_error, milliseconds)


def build(settings: Settings, context: Context) -> Middleware:
    """The circuit breaker for one route; its circuit is that of all routes with the same middleware.

    :raises ValueError: the expression is none.
    """
    condition_of(settings.expression)
    return CircuitBreaker(settings, context)
