"""Where certificates are kept: :class:`IStore`, and the values that it holds.

It has two implementations, held to one suite of tests: :class:`~.file_store.FileStore` for one process, and
:class:`~.swarm_store.SwarmStore`, which keeps them in the Swarm's replicated log for all replicas.

A store is a log: each record has a number, and a new one gets the next. Whoever writes says which number it takes; it
is refused if somebody else has taken that. So nobody can write who has not seen all that was written before, which is
what keeps a replica that was held up, and believes that it is still its turn, from doing harm.

Besides there is the lease: which replica may order, by compare-and-swap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
from twisted.internet.defer import Deferred
from zope.interface import Interface

ACCOUNT = "account"
CERTIFICATE = "certificate"
CHALLENGE = "challenge"
KINDS = (ACCOUNT, CERTIFICATE, CHALLENGE)


class StoreError(Exception):
    """The store can't be read or written; the message tells people what was tried, what came back, what to do."""


@attrs.frozen
class Record:
    """Something kept.

    :ivar number: its place in the log, from 1; those of challenges are counted for themselves.
    :ivar kind: one of :data:`KINDS`.
    :ivar title: for people, who see it in the clear: the domains of a certificate.
    :ivar created: when it was written, in seconds since 1970, by the store's clock.
    :ivar stale: it is encrypted with a key that is to be replaced.
    """

    number: int
    kind: str
    title: str
    content: bytes = attrs.field(repr=False)
    created: float = 0.0
    stale: bool = False


@attrs.frozen
class Failure:
    """What went wrong with an order or an authority.

    :ivar count: how many times in a row.
    :ivar retry_at: when it may be tried again, in seconds since 1970.
    """

    count: int
    retry_at: float


@attrs.frozen
class Lease:
    """Whose turn it is to order.

    :ivar holder: the replica's id, ``""`` if it is nobody's.
    :ivar version: changes with each change; 0: there has never been a lease.
    :ivar failures: of orders and authorities by their key, so that the next holder does not try again at once.
    :ivar writes: when there were writes that leave no record, as those of the lease itself, in seconds since 1970.
    """

    holder: str = ""
    version: int = 0
    failures: Mapping[str, Failure] = attrs.field(factory=dict)
    writes: tuple[int, ...] = ()


@attrs.frozen
class Contents:
    """All that a store holds, records by number; one that can't be read is in ``faults`` and not in ``records``.

    :ivar faults: why records can't be read, a line each.
    :ivar last: the highest number that was ever seen.
    """

    records: tuple[Record, ...] = ()
    challenges: tuple[Record, ...] = ()
    lease: Lease = attrs.field(factory=Lease)
    faults: tuple[str, ...] = ()
    last: int = 0

    def of_kind(self, kind: str) -> tuple[Record, ...]:
        """The records of one kind, the oldest first."""
        return self.challenges if kind == CHALLENGE else tuple(one for one in self.records if one.kind == kind)


class IStore(Interface):
    """Keeps records for all replicas. Nothing blocks; everything fails with :class:`StoreError`."""

    def look(fresh: bool) -> Deferred[Contents]:
        """What is kept now.

        :param fresh: read everything; False: a cheap look, which finds all that is new, but may still have what was
            removed.
        """

    def subscribe(ring: Callable[[], None]) -> Callable[[], None]:
        """Call *ring* whenever there may be something new. Returns what ends it.

        It may miss changes: whoever relies on it looks besides.
        """

    def put(number: int, kind: str, title: str, content: bytes) -> Deferred[bool]:
        """Write a record; False if the number has been taken. Numbers of challenges are counted for themselves."""

    def remove(record: Record) -> Deferred[None]:
        """Remove a record; one that is gone already is no error."""

    def swap_lease(seen: Lease, wanted: Lease) -> Deferred[Lease | None]:
        """Change the lease, if it is still as it was *seen*. Returns the new one, None if it has changed.

        :param wanted: its version is the store's to choose.
        """

    def close() -> Deferred[None]:
        """End subscriptions, and fire when nothing is under way any more."""
