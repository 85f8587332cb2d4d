"""What to do next about certificates: a decision from values, without I/O.

The rules:

* Only who holds the lease writes, and orders one certificate after the other.
* The lease is taken when there is something to do, and given back when there is nothing more: a Swarm whose
  certificates are all good is not written to at all.
* A lease that has not changed for its length, as seen by this replica's own clock, is over: its holder is gone.
* Fewer than :data:`WRITES` writes an hour; what does not fit waits.
* What has failed waits longer each time, and an authority that can't be reached is left alone by all orders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

import attrs

from swarmgate.acme.certificate import Certificate
from swarmgate.acme.store import Failure, Lease, Record
from swarmgate.acme.wanted import Order

WRITES = 45
"""So many writes of the store an hour, of all kinds; an order that takes long may need some more for the lease."""

LEASE = 45.0
"""Length of a lease, in seconds: so long an order waits whose replica is gone."""

LONG_LEASE = 240.0
"""Its length where there were :data:`OFTEN` writes in the hour: who renews it seldom writes seldom."""

OFTEN = 15
"""Writes in an hour from which on leases are long. An order that never ends costs 43 in its first hour."""

SUPERSEDED = 3600.0
"""Seconds that a record is kept after a newer one has taken its place."""

_LONGEST = 600.0  # Seconds after which it is decided anew though nothing has happened.
_FULL = 60.0  # Seconds until it is looked whether there can be more writes.
_SESSION = 6  # Writes that a session may cost: lease taken, account, challenge and its end, certificate, lease ended.
_EXPIRED = 7 * 86400.0  # Seconds that a certificate which nobody wants any more is kept after its end.


@attrs.frozen
class Take:
    """Take the lease."""


@attrs.frozen
class Renew:
    """Show that the holder of the lease is alive."""


@attrs.frozen
class Release:
    """Give the lease back."""


@attrs.frozen
class Ask:
    """Ask the authority when a certificate should be renewed."""

    order: Order


@attrs.frozen
class Obtain:
    """Obtain a certificate."""

    order: Order


@attrs.frozen
class Remove:
    """Remove a record that nobody needs."""

    record: Record


@attrs.frozen
class Reseal:
    """Write a record anew, under the key that seals now."""

    record: Record


Step = Take | Renew | Release | Ask | Obtain | Remove | Reseal


@attrs.frozen
class Held:
    """The newest certificate of an order.

    :ivar renew_at: when it should be renewed, in seconds since 1970.
    :ivar ask_at: when the authority should be asked about that.
    """

    record: Record
    certificate: Certificate
    renew_at: float
    ask_at: float = float("inf")


@attrs.frozen
class World:
    """All that a decision depends on.

    :ivar me: this replica's id.
    :ivar now: in seconds since 1970.
    :ivar orders: what is wanted.
    :ivar held: the newest certificates by their order's key.
    :ivar waste: records that nobody needs, see :func:`waste`.
    :ivar stale: records to be written anew.
    :ivar authorities: of each resolver, what its failures are kept under.
    :ivar lease_age: seconds since the lease was seen to change, by this replica's own clock.
    :ivar failures: of orders and authorities.
    :ivar busy: a certificate is being obtained.
    :ivar writes: of the last hour, by anybody.
    """

    me: str
    now: float
    orders: tuple[Order, ...] = ()
    held: Mapping[str, Held] = attrs.field(factory=dict)
    waste: tuple[Record, ...] = ()
    stale: tuple[Record, ...] = ()
    authorities: Mapping[str, str] = attrs.field(factory=dict)
    lease: Lease = attrs.field(factory=Lease)
    lease_age: float = 0.0
    failures: Mapping[str, Failure] = attrs.field(factory=dict)
    busy: bool = False
    writes: int = 0


@attrs.frozen
class Decision:
    """What to do now, None for nothing; and after how many seconds something will be due by itself."""

    step: Step | None
    wake: float = _LONGEST


def lease_length(lease: Lease) -> float:
    """Seconds after which *lease* is over if it does not change: the same for all replicas, whatever their clocks."""
    return LEASE if len(lease.writes) < OFTEN else LONG_LEASE


def _renewed_after(lease: Lease) -> float:
    """Seconds after which its holder renews *lease*: early enough for a second attempt."""
    return LEASE / 3 if len(lease.writes) < OFTEN else LONG_LEASE / 2


def decide(world: World) -> Decision:
    """The next step. When it is done, or something has changed, decide again."""
    length, renewed_after = lease_length(world.lease), _renewed_after(world.lease)
    mine = world.lease.holder == world.me
    left = WRITES - world.writes
    work = _work(world, left - 1)
    if mine:
        if world.lease_age > renewed_after and (world.busy or work is not None):
            return Decision(Renew())
        if world.busy:
            return Decision(None, max(renewed_after - world.lease_age, 1.0))
        return Decision(work if work is not None else Release())
    asked = _question(world)
    if asked is not None:
        return Decision(asked)
    if world.busy:
        # The lease was lost in the middle of an order; what it brings is written if nobody was faster.
        return Decision(None, length)
    if work is not None and left >= _SESSION:
        if not world.lease.holder or world.lease_age >= length:
            return Decision(Take())
        return Decision(None, length - world.lease_age)
    return Decision(None, _FULL if work is not None else _next(world))


def _work(world: World, left: int) -> Step | None:
    """What the holder of the lease would do, with so many writes left for it."""
    due = [order for order in world.orders if _due_at(world, order) <= world.now]
    if due and left >= _SESSION - 2:
        return Obtain(min(due, key=lambda order: _urgency(world, order)))
    if world.waste and left >= 1:
        return Remove(world.waste[0])
    if world.stale and left >= 2:
        return Reseal(world.stale[0])
    return None


def _urgency(world: World, order: Order) -> tuple[float, tuple[str, ...]]:
    held = world.held.get(order.key)
    return (held.certificate.not_after if held is not None else 0.0, order.domains)


def _due_at(world: World, order: Order) -> float:
    """When an order is to be carried out, in seconds since 1970."""
    held = world.held.get(order.key)
    due = held.renew_at if held is not None else 0.0
    for key in (order.key, world.authorities.get(order.resolver, "")):
        failure = world.failures.get(key)
        if failure is not None:
            due = max(due, failure.retry_at)
    return due


def _question(world: World) -> Ask | None:
    for order in world.orders:
        held = world.held.get(order.key)
        if held is not None and held.ask_at <= world.now < held.certificate.not_after:
            return Ask(order)
    return None


def _next(world: World) -> float:
    times = [_due_at(world, order) for order in world.orders]
    times += [held.ask_at for held in world.held.values()]
    return min(max(min(times, default=float("inf")) - world.now, 1.0), _LONGEST)


def waste(records: Iterable[tuple[Record, str, float]], wanted: frozenset[str], now: float) -> tuple[Record, ...]:
    """Records that nobody needs: superseded for a while, or neither wanted nor valid any more.

    :param records: each with what it is for, and the time until which it is good; of two for the same thing the one
        with the higher number has taken the other's place.
    :param wanted: what certificates are for that are wanted.
    """
    every = sorted(records, key=lambda one: one[0].number)
    newest = {purpose: record for record, purpose, _ in every}
    return tuple(
        record
        for record, purpose, until in every
        if (newest[purpose] is not record and newest[purpose].created + SUPERSEDED < now)
        or (newest[purpose] is record and purpose not in wanted and until + _EXPIRED < now)
    )


def newest_of(records: Iterable[tuple[Record, str, float]]) -> tuple[Record, ...]:
    """Of records as :func:`waste` takes them, those that no other has taken the place of, the oldest first."""
    every = sorted(records, key=lambda one: one[0].number)
    newest = {purpose: record for record, purpose, _ in every}
    return tuple(sorted(newest.values(), key=lambda record: record.number))


def renewal_time(certificate: Certificate, key: str) -> float:
    """When a certificate is renewed of whose authority nothing else is known, in seconds since 1970.

    When a third of its life is left, half of it for one that lives shorter than 10 days; a little earlier, by chance
    that is the same for all replicas, so that certificates ordered together are not renewed together.
    """
    lifetime = certificate.lifetime
    left = lifetime / 3 if lifetime >= 10 * 86400 else lifetime / 2
    return certificate.not_after - left - 0.05 * lifetime * fraction(f"{key} {certificate.not_after}")


def fraction(text: str) -> float:
    """A number from 0 to 1, always the same for the same text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def after_failure(
    before: Failure | None, now: float, retry_after: float, first: float, longest: float, random: Callable[[], float]
) -> Failure:
    """The failure that follows another, or none: twice as long until the next attempt as before, with jitter.

    :param retry_after: seconds that the authority asks for at least, 0 for none.
    :param first: seconds after the first failure; ``longest``: at most.
    """
    count = 1 if before is None else before.count + 1
    pause = min(first * 2 ** min(count - 1, 30), longest) * (0.75 + 0.5 * random())
    return Failure(count, now + max(pause, retry_after))
