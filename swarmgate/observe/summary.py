"""What there is to say of traffic in a few numbers for each entry point, service and server: how many requests, how
many of them failed, how long they took."""

from __future__ import annotations

import heapq
import itertools
import operator
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from swarmgate.observe.traffic import Kind, Traffic
from swarmgate.observe.turns import Turns, encoding, finished

#: Bounds, in seconds, that quantiles are told by: they are wrong by half at most.
BOUNDS = tuple(round(step * 10.0**power, 6) for power in range(-4, 2) for step in (1, 1.5, 2.2, 3.3, 4.7, 6.8))
_MOST_SERVICES = 250  # That viewers are told of each time.
_FRESH = 1.0  # Seconds for which the sums are told again: many may ask.


@attrs.frozen
class InFlight:
    """How many requests are being answered: by entry point, and by service and server's URL."""

    entry_points: Mapping[str, int] = attrs.field(factory=dict)
    servers: Mapping[tuple[str, str], int] = attrs.field(factory=dict)


class _Sum:
    """What was counted of one entry point, service or server."""

    __slots__ = ("counts", "errors", "in_flight", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.in_flight = 0
        self.counts: Sequence[int] = ()

    def add(self, requests: int, errors: int, counts: Sequence[int]) -> None:
        """Count as many; without *counts* nobody knows how long they took. These must stay as they are."""
        self.requests += requests
        self.errors += errors
        if counts:
            self.counts = [*map(operator.add, self.counts, counts)] if self.counts else counts

    def told(self, bounds: Sequence[float], with_counts: bool) -> dict[str, Any]:
        """As JSON has it."""
        p50, p95, p99 = quantiles(bounds, self.counts, (0.5, 0.95, 0.99))
        told: dict[str, Any] = {
            "requests": self.requests,
            "errors": self.errors,
            "p50": p50,
            "p95": p95,
            "p99": p99,
            "inFlight": self.in_flight,
        }
        if with_counts:
            told["counts"] = list(self.counts) or [0] * (len(bounds) + 1)
        return told


def quantiles(bounds: Sequence[float], counts: Sequence[int], shares: Sequence[float]) -> list[float]:
    """How long, in seconds, each of these shares of requests took at most, to the microsecond.

    Requests are taken as evenly spread between two bounds.

    :param counts: of requests up to each bound, and of those above all: of these nothing is known but the last bound.
    :param shares: from above 0 to 1.
    :returns: zeros if there were none.
    """
    so_far = list(itertools.accumulate(counts))
    if not so_far or not so_far[-1]:
        return [0.0] * len(shares)
    found = []
    for share in shares:
        wanted = share * so_far[-1]
        index = bisect_left(so_far, wanted)
        if index >= len(bounds):
            found.append(bounds[-1])
            continue
        below = bounds[index - 1] if index else 0.0
        part = 1 - (so_far[index] - wanted) / counts[index]
        found.append(round(below + (bounds[index] - below) * part, 6))
    return found


def busiest(services: Mapping[str, Any], most: int | None) -> Iterable[str]:
    """The names of *most* of *services*, None for all: those with errors first, then those with most requests."""
    if most is None or len(services) <= most:
        return services

    def rank(name: str) -> tuple[int, int, int]:
        of = services[name]
        return of.errors, of.requests, of.in_flight

    return heapq.nlargest(most, services, rank)


def summary(
    counted: Iterable[tuple[Kind, Sequence[int]]],
    bounds: Sequence[float],
    in_flight: InFlight,
    most: int | None = None,
    with_counts: bool = False,
) -> dict[str, Any]:
    """What :func:`summing` gives, at once."""
    return finished(summing(counted, bounds, in_flight, most, with_counts))


def summing(
    counted: Iterable[tuple[Kind, Sequence[int]]],
    bounds: Sequence[float],
    in_flight: InFlight,
    most: int | None = None,
    with_counts: bool = False,
) -> Generator[None, None, dict[str, Any]]:
    """What JSON says of traffic, with nothing of what had none.

    :param counted: how many exchanges of each kind took how long, as :attr:`.Tally.counts` has them.
    :param most: how many services are told of at most, those with errors first, then by requests; ``others`` is how
        many were left out.
    :param with_counts: tell how many took how long, too, whose differences between two moments viewers may want.
    """
    # Kinds are many, so each is added once, and then what differs by no more than status and method.
    leaves: dict[tuple[str, str, str], _Sum] = {}
    for kind, counts in counted:
        requests = sum(counts)
        place = (kind.entry_point, kind.service, kind.server)
        leaf = leaves.get(place) or leaves.setdefault(place, _Sum())
        # How long a tunnel was open says nothing of speed.
        known = counts if kind.protocol != "websocket" else ()
        leaf.add(requests, requests if kind.status >= 500 else 0, known)
        yield
    entry_points: defaultdict[str, _Sum] = defaultdict(_Sum)
    services: defaultdict[str, _Sum] = defaultdict(_Sum)
    servers: defaultdict[str, defaultdict[str, _Sum]] = defaultdict(lambda: defaultdict(_Sum))
    for (entry_point, service, server), leaf in leaves.items():
        entry_points[entry_point].add(leaf.requests, leaf.errors, leaf.counts)
        if service:
            services[service].add(leaf.requests, leaf.errors, leaf.counts)
            if server:
                servers[service][server].add(leaf.requests, leaf.errors, leaf.counts)
        yield
    for name, count in in_flight.entry_points.items():
        if count:
            entry_points[name].in_flight += count
    for (service, server), count in in_flight.servers.items():
        if count:
            services[service].in_flight += count
            servers[service][server].in_flight += count
    shown = busiest(services, most)
    told: dict[str, Any] = {}
    of_servers: dict[str, Any] = {}
    for name in shown:
        told[name] = services[name].told(bounds, with_counts)
        if name in servers:
            of_servers[name] = {}
            for url, one in servers[name].items():
                of_servers[name][url] = one.told(bounds, with_counts)
                yield
        yield
    return {
        "entryPoints": {name: one.told(bounds, with_counts) for name, one in entry_points.items()},
        "services": told,
        "servers": of_servers,
        "others": len(services) - len(told),
    }


class Meter:
    """Tells of traffic in JSON's terms.

    :param in_flight: gives how many requests are being answered.
    :param wall: seconds since 1970, and *seconds*: of a clock that never goes back.
    """

    def __init__(
        self,
        traffic: Traffic,
        in_flight: Callable[[], InFlight],
        wall: Callable[[], float],
        seconds: Callable[[], float],
        turns: Turns,
    ) -> None:
        """
        :param turns: in which it computes.
        """
        self._traffic = traffic
        self._in_flight = in_flight
        self._wall = wall
        self._seconds = seconds
        self._since, self._started = wall(), seconds()
        self._last = self._started
        self._turns = turns
        self._told: dict[str, Any] | None = None
        self._body = b""
        self._fresh_until = self._started
        self._waiting: list[Deferred[bytes]] = []

    def begin(self) -> None:
        """Have :meth:`lately` tell of what comes from now on."""
        self._traffic.forget_changes()
        self._last = self._seconds()

    def lately(self) -> Deferred[bytes]:
        """What there was since this was last called, or :meth:`begin`, as JSON; of the busiest services only."""
        return self._turns.run(self._lately())

    def _lately(self) -> Generator[None, None, bytes]:
        now = self._seconds()
        last, self._last = self._last, now
        told = yield from summing(self._traffic.changes(), self._traffic.bounds, self._in_flight(), _MOST_SERVICES)
        return (yield from encoding({"at": round(self._wall(), 3), "seconds": round(now - last, 3), **told}))

    def altogether(self, age: float = _FRESH) -> Deferred[bytes]:
        """What there was since the gate has started, as JSON; of so many seconds ago at most, and no more than one.

        It is computed once for all who ask meanwhile.
        """
        waiting: Deferred[bytes] = Deferred()
        if self._body and self._seconds() < self._fresh_until - _FRESH + age:
            waiting.callback(self._body)
            return waiting
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            self._turns.run(self._altogether()).addCallbacks(self._answer, self._fail)
        return waiting

    def _altogether(self) -> Generator[None, None, bytes]:
        told = yield from self._summed()
        self._told, self._fresh_until = told, self._seconds() + _FRESH
        self._body = yield from encoding(told)
        return self._body

    def _summed(self) -> Generator[None, None, dict[str, Any]]:
        at, seconds = self._wall(), self._seconds() - self._started
        summed = yield from summing(self._counted(), self._traffic.bounds, self._in_flight(), with_counts=True)
        return {
            "at": round(at, 3),
            "since": round(self._since, 3),
            "seconds": round(seconds, 3),
            "bounds": self._traffic.bounds,
            **summed,
        }

    def _counted(self) -> Iterator[tuple[Kind, Sequence[int]]]:
        for kind, tally in self._traffic.each():
            yield kind, tally.counts[:]  # They go on while this is computed.

    def _answer(self, body: bytes) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(body)

    def _fail(self, failure: Any) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.errback(failure)

    @property
    def told(self) -> dict[str, Any]:
        """What :meth:`altogether` has last told, as values; computed at once if nobody has asked yet."""
        if self._told is None:
            self._told = finished(self._summed())
        return self._told
