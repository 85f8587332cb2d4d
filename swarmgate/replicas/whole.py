"""The whole gate's traffic in JSON's terms: this replica's and what the others have told, added up: :class:`Whole`."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import Deferred, succeed

from swarmgate.observe.summary import Meter
from swarmgate.observe.turns import Turns, encoding
from swarmgate.replicas.document import Document, document_of, writing
from swarmgate.replicas.peers import Peers
from swarmgate.replicas.sums import adding, subtracting, telling

_MOST_SERVICES = 250  # That viewers of events are told of each time.
_FRESH = 1.0  # Seconds for which the sums are told again: many may ask.
#: Seconds for which what other replicas are told is told again.
ASKED_FRESH = 0.5
_SOON = 0.3  # Seconds that they may wait for it,
_OLD = 10.0  # and seconds after which what was written last is no answer any more.
_SELF = ""  # What stands for this replica where others stand by their tasks' ids.


class Whole:
    """Tells of the traffic of all replicas as :class:`~swarmgate.observe.summary.Meter` does of this one's.

    :param peers: the other replicas; None: it tells of this one alone.
    :param is_only: nobody else asks the meter for what was lately: it may be left to that, which is cheap, while there
        are no others.
    :param seconds: of a clock that never goes back.
    """

    def __init__(
        self, meter: Meter, peers: Peers | None, seconds: Callable[[], float], turns: Turns, is_only: bool = True
    ) -> None:
        self._meter = meter
        self._peers = peers
        self._seconds = seconds
        self._turns = turns
        self._is_only = is_only
        self._is_left = False  # to the meter
        self._before: dict[str, Document] = {}
        self._told: dict[str, Any] | None = None
        self._body = b""
        self._fresh_until = 0.0
        self._waiting: list[Deferred[bytes]] = []
        self._written = b""  # for other replicas
        self._written_until = 0.0
        self._took = 0.0
        self._is_writing = False
        self._waiting_others: list[Deferred[bytes]] = []

    # Of all time.

    def altogether(self) -> Deferred[bytes]:
        """What there was since the replicas have started, as JSON; of a second ago at most.

        It is computed once for all who ask meanwhile.
        """
        waiting: Deferred[bytes] = Deferred()
        if self._body and self._seconds() < self._fresh_until:
            waiting.callback(self._body)
            return waiting
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            asking: Deferred[Any] = self._ask(_FRESH)
            asking.addCallback(lambda own: self._turns.run(self._altogether(own)))
            asking.addCallbacks(self._answer, self._fail)
        return waiting

    def _ask(self, age: float) -> Deferred[bytes]:
        """Have what all replicas tell be of now, and give what this one tells as JSON."""
        own = self._meter.altogether(age)
        if self._peers is None:
            return own
        peers = self._peers
        return peers.ask().addCallback(lambda _: own)

    def _altogether(self, body: bytes) -> Generator[None, None, bytes]:
        own = self._meter.told
        documents, silent = self._documents_of_others()
        header: dict[str, Any] = {"replicas": 1 + len(documents), "silent": silent}
        if documents:
            mine = yield from document_of(own)
            sums = yield from adding([mine, *documents.values()], mine.bounds)
            summed = yield from telling(sums, mine.bounds, with_counts=True)
            told = {**header, **own, **summed}
            body = yield from encoding(told)
        else:
            told = {**header, **own}
            body = _with(header, body)
        self._told, self._body, self._fresh_until = told, body, self._seconds() + _FRESH
        return body

    def _documents_of_others(self) -> tuple[dict[str, Document], list[str]]:
        if self._peers is None:
            return {}, []
        told = self._peers.told()
        return told.documents, list(told.silent)

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
        """What :meth:`altogether` has last told, as values."""
        if self._told is None:
            return {**self._meter.told, "replicas": 1, "silent": self._documents_of_others()[1]}
        return self._told

    # Lately.

    def begin(self) -> None:
        """Have :meth:`lately` tell of what comes from now on."""
        self._before = {}
        self._is_left = self._has_no_others()
        if self._is_left:
            self._meter.begin()
        else:
            self._by_difference()

    def lately(self) -> Deferred[bytes]:
        """What there was since this was last called, or :meth:`begin`, as JSON; of the busiest services only."""
        if not self._has_no_others():
            self._is_left = False
            return self._by_difference()
        if not self._is_left:
            self.begin()
        header = {"replicas": 1, "silent": []}
        return self._meter.lately().addCallback(lambda body: _with(header, body))

    def _has_no_others(self) -> bool:
        return self._is_only and (self._peers is None or not self._peers.others)

    def _by_difference(self) -> Deferred[bytes]:
        asking: Deferred[Any] = self._ask(0.0)
        return asking.addCallback(lambda _: self._turns.run(self._difference()))

    def _difference(self) -> Generator[None, None, bytes]:
        own = yield from document_of(self._meter.told)
        others, silent = self._documents_of_others()
        now = {_SELF: own, **others}
        before, self._before = self._before, now
        changes: list[Document] = []
        for name, document in now.items():
            # Of one that has told nothing before, nobody knows since when it tells.
            if name in before:
                changes.append((yield from subtracting(document, before[name])))
        sums = yield from adding(changes, own.bounds)
        told = yield from telling(sums, own.bounds, _MOST_SERVICES)
        seconds = own.seconds - before[_SELF].seconds if _SELF in before else 0.0
        header = {"at": own.at, "seconds": round(seconds, 3), "replicas": len(now), "silent": silent}
        return (yield from encoding({**header, **told}))

    # For the others.

    def for_others(self) -> Deferred[bytes]:
        """What another replica is told: this one's alone, of half a second ago at most.

        Where it takes long to write that, as with many thousands of servers, it is what was written last, at once,
        while the next is written: others don't wait for long.
        """
        now = self._seconds()
        if now >= self._written_until and not self._is_writing:
            self._write()
        is_soon = self._took < _SOON or now >= self._written_until + _OLD
        if self._is_writing and (is_soon or not self._written):
            waiting: Deferred[bytes] = Deferred()
            self._waiting_others.append(waiting)
            return waiting
        return succeed(self._written)

    def _write(self) -> None:
        began = self._seconds()
        self._is_writing = True

        def write() -> Generator[None, None, bytes]:
            document = yield from document_of(self._meter.told)
            return (yield from writing(document))

        def over(result: Any) -> None:
            self._is_writing = False
            waiting, self._waiting_others = self._waiting_others, []
            if isinstance(result, bytes):
                self._written, self._took = result, self._seconds() - began
                self._written_until = self._seconds() + ASKED_FRESH
            for one in waiting:
                one.callback(result) if isinstance(result, bytes) else one.errback(result)

        asking: Deferred[Any] = self._meter.altogether(ASKED_FRESH)
        asking.addCallback(lambda _: self._turns.run(write())).addBoth(over)


def _with(header: dict[str, Any], body: bytes) -> bytes:
    """The object that JSON has, with more members."""
    return json.dumps(header, separators=(",", ":")).encode()[:-1] + b"," + body[1:]
