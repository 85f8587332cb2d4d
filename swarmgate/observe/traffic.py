"""How much traffic there was, and how fast it was answered: plain numbers, added to as each exchange ends."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from swarmgate.http.exchange import NOT_COUNTED, Exchange
from swarmgate.http.moment import moment

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
    :ivar told: what :meth:`Traffic.changes` has told of counts, None for nothing; :ivar told_seconds: of seconds.
    """

    __slots__ = ("counts", "received", "retries", "seconds", "sent", "told", "told_seconds")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * (buckets + 1)
        self.seconds = 0.0
        self.received = 0
        self.sent = 0
        self.retries = 0
        self.told: list[int] | None = None
        self.told_seconds = 0.0

    def add(self, other: Tally) -> None:
        """Take in what *other* has counted by the same buckets."""
        self.counts = [*map(operator.add, self.counts, other.counts)]
        self.seconds += other.seconds
        self.received += other.received
        self.sent += other.sent
        self.retries += other.retries
        self.told_seconds += other.told_seconds
        if other.told is not None:
            self.told = other.told if self.told is None else [*map(operator.add, self.told, other.told)]

    @property
    def requests(self) -> int:
        """How many exchanges there were."""
        return sum(self.counts)


class Traffic:
    """Counts exchanges by kind.

    :ivar bounds: upper bounds in seconds that it counts by, ascending.
    """

    def __init__(
        self,
        buckets: Sequence[float],
        internals: bool = False,
        now: Callable[[], float] | None = None,
        finer: Iterable[float] = (),
    ) -> None:
        """
        :param buckets: upper bounds in seconds that are told to Prometheus, ascending.
        :param internals: whether the gate's own answers count.
        :param now: the clock that :attr:`.Exchange.started` is by, if that is another one than usual.
        :param finer: bounds beside those, for quantiles.
        """
        self.buckets = tuple(buckets)
        self.bounds = tuple(sorted({*self.buckets, *finer}))
        self._internals = internals
        self._now = now
        self._tallies: dict[tuple[object, ...], Tally] = {}
        #: By server the key that was counted last, with its tally: the next exchange is likely to be alike.
        self._recent: dict[str, tuple[tuple[object, ...], Tally]] = {}

    def record(self, exchange: Exchange) -> None:
        """Count *exchange*, which has ended."""
        if exchange.untold & NOT_COUNTED:
            return
        request = exchange.request
        status = exchange.status
        recent = self._recent.get(exchange.server)
        if recent is not None:
            key, tally = recent
        if (
            recent is None
            or key[0] is not exchange.entry_point
            or key[1] is not exchange.router
            or key[2] is not exchange.service
            or key[4] != request.method
            or key[5] != status
            or key[6] != request.major
        ):
            known = self._tally(exchange)
            if known is None:
                return
            tally = known
        seconds = (moment() if self._now is None else self._now()) - exchange.started
        tally.counts[_place(self.bounds, seconds)] += 1
        tally.seconds += seconds
        tally.received += exchange.received
        tally.sent += exchange.sent
        tally.retries += exchange.retries

    def _tally(self, exchange: Exchange) -> Tally | None:
        """The tally that *exchange* belongs to; None if it isn't counted."""
        request = exchange.request
        service = exchange.service
        server = exchange.server
        # The fastest key that there is: a plain tuple, whose strings know their hashes.
        key = (exchange.entry_point, exchange.router, service, server, request.method, exchange.status, request.major)
        tally = self._tallies.get(key)
        if tally is None:
            if service.endswith("@internal") and not self._internals:
                return None
            tally = self._first(exchange, key)
        self._recent[server] = (key, tally)
        return tally

    def _first(self, exchange: Exchange, key: tuple[object, ...]) -> Tally:
        """The tally for a key that there is none for yet; of methods that clients make up there is one in all."""
        if exchange.request.method not in _METHODS:
            key = (*key[:4], b"", *key[5:])
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally(len(self.bounds))
        return tally

    def take(self) -> dict[tuple[object, ...], Tally]:
        """What was counted since this was last called, which is forgotten here: for another's :meth:`add`."""
        taken, self._tallies, self._recent = self._tallies, {}, {}
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
        return list(self.each())

    def each(self) -> Iterator[tuple[Kind, Tally]]:
        """The same one by one, for one who takes its time."""
        for key, tally in list(self._tallies.items()):
            yield _kind(key), tally

    def changes(self) -> Iterator[tuple[Kind, list[int]]]:
        """What was counted since this was last asked, by kind: one number for each of :attr:`bounds`, and the last.

        It is for one who asks again and again, and may take its time. Costs next to nothing for kinds of which there
        was nothing.
        """
        for key, tally in list(self._tallies.items()):
            # The sum of seconds grows with each exchange: one look at it instead of one at each bucket. What was let
            # go meanwhile is part of another tally.
            if tally.seconds != tally.told_seconds and self._tallies.get(key) is tally:
                told, counts = tally.told, tally.counts
                tally.told, tally.told_seconds = counts[:], tally.seconds
                yield _kind(key), tally.told if told is None else [*map(operator.sub, counts, told)]

    def forget_changes(self) -> None:
        """Have :meth:`changes` tell of what comes from now on."""
        for tally in self._tallies.values():
            if tally.seconds != tally.told_seconds:
                tally.told, tally.told_seconds = tally.counts[:], tally.seconds

    def keep(self, routers: Collection[str], servers: Mapping[str, Collection[str]]) -> None:
        """Let go what routers, services and servers have that are no more; what contains them keeps its sums.

        :param servers: the URLs of each service's.
        """
        self._recent = {}
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
                self._tallies.setdefault(kept, Tally(len(self.bounds))).add(tally)


def _place(bounds: tuple[float, ...], seconds: float) -> int:
    """The place of the first of *bounds*, ascending, that is not below *seconds*; behind the last if all are."""
    place, beyond = 0, len(bounds)
    while place < beyond:
        middle = (place + beyond) >> 1
        bound = bounds[middle]
        if bound < seconds:
            place = middle + 1
        else:
            beyond = middle
    return place


def _kind(key: tuple[object, ...]) -> Kind:
    entry_point, router, service, server, method, status, _ = key
    assert isinstance(method, bytes) and isinstance(status, int)
    protocol = "websocket" if status == 101 else "http"
    name = _METHODS.get(method, _OTHER_METHOD)
    return Kind(str(entry_point), str(router), str(service), str(server), name, status or _CLIENT_GONE, protocol)
