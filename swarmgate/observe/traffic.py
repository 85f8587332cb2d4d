"""How much traffic there was, and how fast it was answered: plain numbers, added to as each exchange ends."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple

from swarmgate.http.exchange import NOT_COUNTED, Exchange

#: Upper bounds in seconds, fine enough to tell quantiles by.
FINE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

#: What stands for a client that has gone before an answer was begun.
_CLIENT_GONE = 499
_METHODS = {
    name: name.decode() for name in (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE")
}
_OTHER_METHOD = "EXTENSION_METHOD"


class Kind(NamedTuple):
    """What exchanges are told apart by; what they have not come to, as a server, is ``""``."""

    entry_point: str
    router: str
    service: str
    server: str
    method: str
    status: int
    protocol: str


class Tally:
    """What has become of exchanges of one kind.

    :ivar counts: how many took how long: one number for each bucket, and the last for those above all.
    :ivar seconds: how long they took together.
    :ivar received: octets of the requests' bodies; :ivar sent: of the answers'.
    :ivar retries: how many servers were tried in vain.
    """

    __slots__ = ("counts", "received", "retries", "seconds", "sent")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * (buckets + 1)
        self.seconds = 0.0
        self.received = 0
        self.sent = 0
        self.retries = 0

    def add(self, other: Tally) -> None:
        """Take in what *other* has counted by the same buckets."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.seconds += other.seconds
        self.received += other.received
        self.sent += other.sent
        self.retries += other.retries

    @property
    def requests(self) -> int:
        """How many exchanges there were."""
        return sum(self.counts)


class Totals(NamedTuple):
    """What has become of requests since the start, by entry point, by service, and by service and server's URL.

    :ivar errors: how many were answered with 5xx, beside each tally.
    """

    entry_points: dict[str, tuple[Tally, int]]
    services: dict[str, tuple[Tally, int]]
    servers: dict[tuple[str, str], tuple[Tally, int]]


class Traffic:
    """Counts exchanges by kind.

    :param buckets: upper bounds in seconds, ascending.
    :param now: the clock that :attr:`.Exchange.started` is by.
    """

    def __init__(
        self,
        buckets: Sequence[float],
        internals: bool = False,
        now: Callable[[], float] = perf_counter,
    ) -> None:
        self.buckets = tuple(buckets)
        self._internals = internals
        self._now = now
        self._tallies: dict[tuple[object, ...], Tally] = {}

    def record(self, exchange: Exchange) -> None:
        """Count *exchange*, which has ended."""
        if exchange.untold & NOT_COUNTED:
            return
        request = exchange.request
        status = exchange.status
        service = exchange.service
        # The fastest key that there is: a plain tuple, whose strings know their hashes.
        key = (exchange.entry_point, exchange.router, service, exchange.server, request.method, status, request.major)
        tally = self._tallies.get(key)
        if tally is None:
            if service.endswith("@internal") and not self._internals:
                return
            tally = self._first(exchange, key)
        seconds = self._now() - exchange.started
        tally.counts[bisect_left(self.buckets, seconds)] += 1
        tally.seconds += seconds
        tally.received += exchange.received
        tally.sent += exchange.sent
        tally.retries += exchange.retries

    def _first(self, exchange: Exchange, key: tuple[object, ...]) -> Tally:
        """The tally for a key that there is none for yet; of methods that clients make up there is one in all."""
        if exchange.request.method not in _METHODS:
            key = (*key[:4], b"", *key[5:])
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally(len(self.buckets))
        return tally

    def take(self) -> dict[tuple[object, ...], Tally]:
        """What was counted since this was last called, which is forgotten here: for another's :meth:`add`."""
        taken, self._tallies = self._tallies, {}
        return taken

    def add(self, taken: Mapping[tuple[object, ...], Tally]) -> None:
        """Count what another process has counted by the same buckets."""
        for key, tally in taken.items():
            total = self._tallies.get(key)
            if total is None:
                self._tallies[key] = tally
            else:
                total.add(tally)

    def kinds(self) -> list[tuple[Kind, Tally]]:
        """What was counted, by kind. May be called in any thread."""
        return [(_kind(key), tally) for key, tally in list(self._tallies.items())]

    def totals(self) -> Totals:
        """The sums, by what people ask for."""
        totals = Totals({}, {}, {})
        places: tuple[dict[Any, tuple[Tally, int]], ...] = totals
        for kind, tally in self.kinds():
            errors = tally.requests if kind.status >= 500 else 0
            served = (kind.service, kind.server) if kind.server else None
            for place, name in zip(places, (kind.entry_point, kind.service, served), strict=True):
                if name:
                    total, failed = place.get(name) or (Tally(len(self.buckets)), 0)
                    total.add(tally)
                    place[name] = total, failed + errors
        return totals

    def keep(self, routers: Collection[str], servers: Mapping[str, Collection[str]]) -> None:
        """Let go what routers, services and servers have that are no more; what contains them keeps its sums.

        :param servers: the URLs of each service's.
        """
        for key, tally in list(self._tallies.items()):
            entry_point, router, service, server, method, status, major = key
            if router and router not in routers:
                router = service = server = ""
            own = str(service).endswith("@internal")
            if service and service not in servers and not own:
                service = server = ""
            if server and server not in servers.get(str(service), ()):
                server = ""
            kept = (entry_point, router, service, server, method, status, major)
            if kept != key:
                del self._tallies[key]
                self._tallies.setdefault(kept, Tally(len(self.buckets))).add(tally)


def _kind(key: tuple[object, ...]) -> Kind:
    entry_point, router, service, server, method, status, _ = key
    assert isinstance(method, bytes) and isinstance(status, int)
    protocol = "websocket" if status == 101 else "http"
    name = _METHODS.get(method, _OTHER_METHOD)
    return Kind(str(entry_point), str(router), str(service), str(server), name, status or _CLIENT_GONE, protocol)


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float:
    """The time in seconds that a *share* of requests, from 0 to 1, did not exceed, by linear interpolation; 0 for none.

    :param counts: of each bucket, and of what is above all *bounds*, for which the highest bound stands.
    """
    wanted = share * sum(counts)
    if not wanted:
        return 0.0
    passed, lower = 0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if passed + count >= wanted:
            return lower + (bound - lower) * (wanted - passed) / count
        passed, lower = passed + count, bound
    return lower
