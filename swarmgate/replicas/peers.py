"""Asks the gate's other replicas for their traffic, and keeps what they have told last: :class:`Peers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from swarmgate.fetch import NoAnswer
from swarmgate.observe.turns import Turns
from swarmgate.providers.swarm.replicas import Replica
from swarmgate.replicas.document import LONGEST, BadDocument, Document, reading

_log = Logger("swarmgate")

EVERY = 1.0  # Seconds from one question to the next, at the least;
_SLACK = 0.1  # one that comes by the clock may be early by this.
WITHIN = 0.8  # Seconds that a replica may take to answer.
PATIENCE = 0.4  # Seconds of them that whoever wants to know waits for, if the replica has answered the last time.

Ask = Callable[..., Deferred[bytes]]


class _Peer:
    """What is known of a replica.

    :ivar document: the last that it has told, None for nothing.
    :ivar at: when, in seconds since 1970.
    :ivar error: why it did not answer the last time, ``""`` if it did.
    """

    def __init__(self) -> None:
        self.document: Document | None = None
        self.at: float | None = None
        self.error = "it was not asked yet"
        self.asking: Deferred[None] | None = None
        self.question: Deferred[Any] | None = None


@attrs.frozen
class Told:
    """What replicas have told, at one moment.

    :ivar documents: by the task's id.
    :ivar silent: names of those that did not answer the last time; what they have told before counts all the same, but
        for requests that they were answering.
    """

    documents: dict[str, Document]
    silent: tuple[str, ...]


class Peers:
    """Keeps what the other replicas tell.

    :param replicas: gives those that run, see :func:`~swarmgate.providers.swarm.replicas.replicas_of`.
    :param port: that each of them listens on.
    :param wall: seconds since 1970.
    :ivar answers: how many questions they have answered; ``silences``: and not.
    """

    def __init__(
        self,
        clock: IReactorTime,
        fetch: Ask,
        replicas: Callable[[], tuple[Replica, ...]],
        port: int,
        wall: Callable[[], float],
        turns: Turns,
    ) -> None:
        self._clock = clock
        self._fetch = fetch
        self._replicas = replicas
        self._port = port
        self._wall = wall
        self._turns = turns
        self._known: dict[str, _Peer] = {}
        self._last = -EVERY
        self._late: Any = None  # Ends the wait for those who are asked now.
        self._waiting: list[Deferred[None]] = []
        self.answers = self.silences = 0

    @property
    def others(self) -> tuple[Replica, ...]:
        """The other replicas."""
        return tuple(one for one in self._replicas() if not one.is_self)

    def ask(self) -> Deferred[None]:
        """Have what they tell be of now; fires when they have answered, or those that do so have had their time.

        It asks once a second at most, however many want to know. It never fails.
        """
        if self._late is not None:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            return waiting
        now = self._clock.seconds()
        others = self.others
        self._known = {one.task: self._known.get(one.task) or _Peer() for one in others}
        if not others or now - self._last < EVERY - _SLACK:
            return succeed(None)
        self._last = now
        waited = []
        for one in others:
            known = self._known[one.task]
            if known.asking is None:
                # Who was silent the last time holds nobody up.
                well = not known.error or (known.document is None and known.at is None)
                asking = self._ask_one(one, known)
                if well:
                    waited.append(asking)
        if not waited:
            return succeed(None)
        result: Deferred[None] = Deferred()
        self._waiting.append(result)
        late = self._late = self._clock.callLater(PATIENCE, self._over)
        DeferredList(waited).addCallback(lambda _: self._over() if late is self._late else None)
        return result

    def stop(self) -> None:
        """Wait for nobody any more."""
        if self._late is not None:
            self._over()
        for known in self._known.values():
            if known.question is not None:
                known.question.cancel()

    def _over(self) -> None:
        late, self._late = self._late, None
        if late.active():
            late.cancel()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    def _ask_one(self, replica: Replica, known: _Peer) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        known.asking = done

        def over(_: Any) -> None:
            known.asking = known.question = None
            done.callback(None)

        if not replica.address:
            known.error = "it shares no network with this one"
            over(None)
            return done
        host = f"[{replica.address}]" if ":" in replica.address else replica.address
        asking: Deferred[Any] = self._fetch(f"http://{host}:{self._port}/traffic", seconds=WITHIN, longest=LONGEST)
        known.question = asking
        asking.addCallback(lambda body: self._turns.run(reading(body)))
        asking.addCallbacks(self._answered, self._failed, (known,), {}, (known,), {})
        asking.addErrback(lambda failure: _log.failure("while asking a replica", failure))
        asking.addCallback(over)
        return done

    def _answered(self, document: Document, known: _Peer) -> None:
        self.answers += 1
        known.document, known.at, known.error = document, self._wall(), ""

    def _failed(self, failure: Any, known: _Peer) -> None:
        self.silences += 1
        known.error = str(failure.value) or "it does not answer"
        known.at = known.at or 0.0  # It was asked.
        if not failure.check(NoAnswer, BadDocument):
            _log.failure("while asking a replica", failure)

    # What is told.

    def told(self) -> Told:
        """What they have told, and who is silent."""
        documents, silent = {}, []
        for one in self.others:
            known = self._known.get(one.task) or _Peer()
            if known.error:
                silent.append(one.name)
            if known.document is not None:
                documents[one.task] = known.document if not known.error else _idle(known.document)
        return Told(documents, tuple(silent))

    def listed(self) -> list[dict[str, Any]]:
        """The replicas as the API lists them, this one first."""
        found = []
        for one in self._replicas():
            known = self._known.get(one.task) or _Peer()
            found.append(
                {
                    "task": one.name,
                    "node": one.node,
                    "address": one.address,
                    "self": one.is_self,
                    "answered": one.is_self or not known.error,
                    "at": round(self._wall(), 3) if one.is_self else round(known.at, 3) if known.at else None,
                    "error": None if one.is_self else known.error or None,
                }
            )
        return found


def _idle(document: Document) -> Document:
    """*document* without the requests that were being answered: of a silent replica nobody knows."""
    if not any(one.in_flight for one in document.places.values()):
        return document
    places = {place: attrs.evolve(one, in_flight=0) for place, one in document.places.items()}
    return attrs.evolve(document, places=places)
