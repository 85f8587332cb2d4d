"""What there is to say of traffic in a few numbers for each entry point, service and server: how many requests, how
many of them failed, how long they took."""

from __future__ import annotations

import heapq
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from swarmgate.observe.traffic import Kind, Traffic

#: Bounds, in seconds, that quantiles are told by: they are wrong by half at most.
BOUNDS = tuple(round(step * 10.0**power, 6) for power in range(-4, 2) for step in (1, 1.5, 2, 3, 5, 7))
_MOST_SERVICES = 250  # That viewers are told of each time.
_QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


@attrs.frozen
class InFlight:
    """How many requests are being answered: by entry point, and by service and server's URL."""

    entry_points: Mapping[str, int] = attrs.field(factory=dict)
    servers: Mapping[tuple[str, str], int] = attrs.field(factory=dict)


class _Sum:
    """What was counted of one entry point, service or server."""

    __slots__ = ("counts", "errors", "in_flight", "requests")

    def __init__(self, buckets: int) -> None:
        self.requests = 0
        self.errors = 0
        self.in_flight = 0
        self.counts = [0] * buckets

    def add(self, requests: int, errors: int, counts: Sequence[int] | None) -> None:
        """Count as many; without *counts* nobody knows how long they took."""
        self.requests += requests
        self.errors += errors
        if counts is not None:
            self.counts = [*map(operator.add, self.counts, counts)]

    def told(self, bounds: Sequence[float]) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "requests": self.requests,
            "errors": self.errors,
            **{name: round(quantile(bounds, self.counts, share), 6) for name, share in _QUANTILES},
            "inFlight": self.in_flight,
        }


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float:
    """How long, in seconds, that *share* of requests took at most, taken as evenly spread between two bounds.

    :param counts: of requests up to each bound, and of those above all: of these nothing is known but the last bound.
    :returns: 0 if there were none.
    """
    wanted = share * sum(counts)
    below, so_far = 0.0, 0
    for bound, count in zip(bounds, counts, strict=False):
        if count and so_far + count >= wanted:
            return below + (bound - below) * (wanted - so_far) / count
        below, so_far = bound, so_far + count
    return below if wanted else 0.0


def summary(
    counted: Iterable[tuple[Kind, Sequence[int]]],
    bounds: Sequence[float],
    in_flight: InFlight,
    most: int | None = None,
) -> dict[str, Any]:
    """What JSON says of traffic, with nothing of what had none.

    :param counted: how many exchanges of each kind took how long, as :attr:`.Tally.counts` has them.
    :param most: how many services are told of at most, those with errors first, then by requests; ``others`` is how
        many were left out.
    """
    size = len(bounds) + 1
    entry_points: dict[str, _Sum] = {}
    services: dict[str, _Sum] = {}
    servers: dict[str, dict[str, _Sum]] = {}

    def entry_point_of(name: str) -> _Sum:
        return entry_points.get(name) or entry_points.setdefault(name, _Sum(size))

    def service_of(name: str) -> _Sum:
        return services.get(name) or services.setdefault(name, _Sum(size))

    def server_of(service: str, url: str) -> _Sum:
        of = servers.setdefault(service, {})
        return of.get(url) or of.setdefault(url, _Sum(size))

    for kind, counts in counted:
        requests = sum(counts)
        errors = requests if kind.status >= 500 else 0
        # How long a tunnel was open says nothing of speed.
        known = counts if kind.protocol != "websocket" else None
        entry_point_of(kind.entry_point).add(requests, errors, known)
        if kind.service:
            service_of(kind.service).add(requests, errors, known)
            if kind.server:
                server_of(kind.service, kind.server).add(requests, errors, known)
    for name, count in in_flight.entry_points.items():
        if count:
            entry_point_of(name).in_flight += count
    for (service, url), count in in_flight.servers.items():
        if count:
            service_of(service).in_flight += count
            server_of(service, url).in_flight += count
    shown: Iterable[str] = services
    if most is not None and len(services) > most:

        def rank(name: str) -> tuple[int, int, int]:
            of = services[name]
            return of.errors, of.requests, of.in_flight

        shown = heapq.nlargest(most, services, rank)
    told = {name: services[name].told(bounds) for name in shown}
    return {
        "entryPoints": {name: one.told(bounds) for name, one in entry_points.items()},
        "services": told,
        "servers": {
            name: {url: one.told(bounds) for url, one in servers[name].items()} for name in told if name in servers
        },
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
    ) -> None:
        self._traffic = traffic
        self._in_flight = in_flight
        self._wall = wall
        self._seconds = seconds
        self._since, self._started = wall(), seconds()
        self._last = self._started

    def lately(self) -> dict[str, Any]:
        """What there was since this was last called, of the busiest services."""
        now = self._seconds()
        told = summary(self._traffic.changes(), self._traffic.bounds, self._in_flight(), _MOST_SERVICES)
        last, self._last = self._last, now
        return {"at": round(self._wall(), 3), "seconds": round(now - last, 3), **told}

    def altogether(self) -> dict[str, Any]:
        """What there was since the gate has started."""
        counted = [(kind, tally.counts) for kind, tally in self._traffic.kinds()]
        return {
            "at": round(self._wall(), 3),
            "since": round(self._since, 3),
            "seconds": round(self._seconds() - self._started, 3),
            **summary(counted, self._traffic.bounds, self._in_flight()),
        }
