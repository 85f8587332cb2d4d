"""Certificates obtained, kept, renewed and published: brings store, authorities and decisions together.

Rules that hold here:

* One turn at a time: look at the store, decide, do one step, decide again. An order is under way beside the turns, so
  that the lease is renewed and others' certificates are published meanwhile.
* Whatever fails is told once, and tried again later. What was published stays published.
* What lies in the store is the truth; nothing is remembered but what failed, and when to ask about a renewal.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure as TwistedFailure

from swarmgate.acme.authority import AuthorityError, IAuthority, Pending
from swarmgate.acme.certificate import Certificate, tls_alpn_challenge
from swarmgate.acme.challenge import Challenge
from swarmgate.acme.decide import (
    Ask,
    Held,
    Obtain,
    Release,
    Remove,
    Renew,
    Reseal,
    Step,
    Take,
    World,
    after_failure,
    decide,
    fraction,
    newest_of,
    renewal_time,
    waste,
)
from swarmgate.acme.records import (
    Account,
    decode_account,
    decode_certificate,
    decode_challenges,
    encode,
    encode_challenges,
)
from swarmgate.acme.store import ACCOUNT, CERTIFICATE, CHALLENGE, Contents, Failure, Lease, Record, StoreError
from swarmgate.acme.wanted import Order, Wish, covers, identity_of, wanted
from swarmgate.config.acme import ACME

_log = Logger()

POLL = 2.0
"""Seconds between cheap looks at the store."""

_HOUR = 3600.0
_STEPS = 100  # In one turn; then others have theirs.
_STORE_PAUSES = (2.0, 4.0, 8.0, 15.0, 30.0)  # Seconds after looks that failed, one after the other.
_ORDER_PAUSE, _LONGEST_ORDER_PAUSE = 300.0, 12 * 3600.0
_AUTHORITY_PAUSE, _LONGEST_AUTHORITY_PAUSE = 60.0, 3600.0
_LEFTOVER = 600.0  # Seconds after which a challenge is nobody's any more.
_PATIENCE = 5.0  # Seconds that stopService() gives to what is under way.
_KEEPING = 20  # Attempts to write a certificate that was obtained.

Publish = Callable[[tuple[Certificate, ...], tuple[Challenge, ...]], None]
"""Takes all certificates and challenges there are, each time that they have changed."""


@attrs.frozen
class _Kept:
    """A record and what it was read as.

    :ivar purpose: what it is for: of two for the same the one with the higher number counts.
    """

    record: Record
    value: Any
    purpose: str
    fault: str = ""


class CertificateService(Service):
    """Obtains what is wanted, and publishes what is in the store, whoever has put it there.

    :param reactor: IReactorTime; its clock measures how long a lease has not changed.
    :param store: :class:`~.store.IStore`.
    :param resolvers: options of the resolvers that keep their certificates there, by name.
    :param authorities: :class:`~.authority.IAuthority` of each.
    :param in_thread: calls a function in a thread and returns a Deferred of what it returns.
    :param me: this replica's id, different from any other's.
    :param wall: seconds since 1970.
    :ivar is_ready: the store has been looked at.
    """

    def __init__(
        self,
        reactor: Any,
        store: Any,
        resolvers: Mapping[str, ACME],
        authorities: Mapping[str, IAuthority],
        publish: Publish,
        in_thread: Callable[..., Deferred[Any]],
        me: str,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        # Given.
        self._reactor = reactor
        self._store = store
        self._resolvers = dict(resolvers)
        self._authorities = dict(authorities)
        self._publish = publish
        self._in_thread = in_thread
        self._me = me
        self._wall = wall
        self._chance = chance
        # What is known.
        self.is_ready = False
        self._wishes: tuple[Wish, ...] = ()
        self._orders: tuple[Order, ...] = ()
        self._contents = Contents()
        self._kept: dict[tuple[str, int], _Kept] = {}
        self._held: dict[str, Held] = {}
        self._lease = Lease()
        self._lease_seen = reactor.seconds()
        self._served: dict[str, Certificate] = {}
        self._published: Any = None
        # What has been observed.
        self._failures: dict[str, Failure] = {}
        self._renewals: dict[str, tuple[float | None, float]] = {}
        self._writes: list[int] = []
        self._told: frozenset[Any] = frozenset()
        self._down = 0
        self._spread_until = 0.0
        # What is under way.
        self._looking = DeferredLock()
        self._is_turning = False
        self._turning: Deferred[None] | None = None
        self._again = False
        self._quiet_until = 0.0
        self._timer: Any = None
        self._busy: Deferred[None] | None = None
        self._asking: set[Deferred[Any]] = set()
        self._unsubscribe: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        mine = " its turn" if self._lease.holder == self._me else ""
        return f"<CertificateService {self._me} {len(self._orders)} wanted, {len(self._held)} held{mine}>"

    # What others ask of it.

    def want(self, wishes: Iterable[Wish]) -> None:
        """Obtain what routers wish, from now on, and no more what they wished before."""
        mine = tuple(wish for wish in wishes if wish.resolver in self._resolvers)
        if mine == self._wishes:
            return
        self._wishes = mine
        found = wanted(mine, self._resolvers)
        for router, reason in found.problems:
            _log.warn("router {router}: no certificate: {reason}", router=router, reason=reason)
        if found.orders != self._orders:
            self._orders = found.orders
            self._quiet_until = 0.0
            self.wake()

    def thumbprint(self, host: str, entry_point: str) -> str | None:
        """What ends the answer to an HTTP-01 challenge for *host* on *entry_point*; None: nobody has asked for it.

        Every replica knows the accounts, so every one can answer (RFC 8555, section 8.3).
        """
        accounts = self._accounts()
        here = {
            name: options
            for name, options in self._resolvers.items()
            if options.http_challenge is not None and options.http_challenge.entry_point == entry_point
        }
        for order in self._orders:
            if order.resolver in here and covers(order.domains, host):
                account = accounts.get(identity_of(here[order.resolver]))
                if account is not None:
                    return account.thumbprint
        # A router may have gone, or not come yet, while the authority asks; where there is one account it is that.
        found = {accounts[identity].thumbprint for identity in map(identity_of, here.values()) if identity in accounts}
        return found.pop() if len(found) == 1 else None

    # Its life.

    def startService(self) -> None:
        Service.startService(self)
        self._unsubscribe = self._store.subscribe(self.wake)
        self.wake()

    async def _stop(self) -> None:
        for authority in self._authorities.values():
            authority.stop()
        for asking in list(self._asking):
            asking.cancel()
        if self._busy is not None:
            self._busy.cancel()
        for under_way in (self._busy, self._turning):
            if under_way is not None:
                await _end_of(under_way).addTimeout(_PATIENCE, self._reactor).addErrback(lambda _: None)
        if self._lease.holder == self._me:
            # Somebody else can go on at once.
            try:
                self._count()
                given_back = self._store.swap_lease(self._lease, Lease("", 0, self._failures, tuple(self._writes)))
                await given_back.addTimeout(_PATIENCE, self._reactor)
            except Exception as error:
                _log.debug("lease not given back: {error}", error=str(error))
        await self._store.close()

    def stopService(self) -> Deferred[None]:
        """Give up what is under way, and the lease. Returns a Deferred that fires when that is done."""
        Service.stopService(self)
        self._unsubscribe()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        return Deferred.fromCoroutine(self._stop())

    def wake(self) -> None:
        """Look and decide, now or after what is under way."""
        if not self.running:
            return
        if self._is_turning:
            self._again = True
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._again = False
        self._is_turning = True
        self._turning = Deferred.fromCoroutine(self._turn()).addCallbacks(self._turned, self._failed)

    def _turned(self, pause: float) -> None:
        self._is_turning = False
        if self._down:
            _log.info("{store}: can be read again", store=repr(self._store))
        self._down = 0
        if self.running:
            self._timer = self._reactor.callLater(0.0 if self._again else min(pause, POLL), self.wake)

    def _failed(self, failure: TwistedFailure) -> None:
        self._is_turning = False
        self.is_ready = True
        if not self.running:
            return
        if failure.check(StoreError) is None:
            _log.failure("certificates: a turn failed", failure)
        elif not self._down:
            _log.error("certificates: {reason}", reason=failure.getErrorMessage())
        pause = _STORE_PAUSES[min(self._down, len(_STORE_PAUSES) - 1)]
        self._down += 1
        self._timer = self._reactor.callLater(pause * (0.75 + 0.5 * self._chance()), self.wake)

    # A turn.

    async def _turn(self) -> float:
        await self._look(False)
        quiet: float = self._quiet_until - self._reactor.seconds()
        if quiet > 0:
            # Nothing has happened since it was decided that there is nothing to do.
            return quiet
        for _ in range(_STEPS):
            decision = decide(self._world())
            if decision.step is None or not self.running:
                self._quiet_until = self._reactor.seconds() + decision.wake
                return decision.wake
            await self._do(decision.step)
        return 0.0

    async def _look(self, fresh: bool) -> Contents:
        """Look, and take in what is there. One at a time: an older answer must not take a newer one's place."""
        await self._looking.acquire()
        try:
            contents: Contents = await self._store.look(fresh)
            await self._note(contents)
            return contents
        finally:
            self._looking.release()

    async def _note(self, contents: Contents) -> None:
        """Take in what the store holds, and publish it."""
        if contents.lease != self._lease:
            self._quiet_until = 0.0
            self._lease, self._lease_seen = contents.lease, self._reactor.seconds()
        if contents == self._contents:
            self.is_ready = True
            return
        self._quiet_until = 0.0
        new = []
        for record in (*contents.records, *contents.challenges):
            known = self._kept.get((record.kind, record.number))
            if known is None or known.record != record:
                new.append(record)
        if new:
            for kept in await self._in_thread(_read_all, new):
                self._kept[kept.record.kind, kept.record.number] = kept
        there = {(record.kind, record.number) for record in (*contents.records, *contents.challenges)}
        self._kept = {key: kept for key, kept in self._kept.items() if key in there}
        self._contents = contents
        faults = frozenset([*contents.faults, *(kept.fault for kept in self._kept.values() if kept.fault)])
        for fault in sorted(faults - self._told):
            _log.error("certificates: {fault}", fault=fault)
        self._told = faults
        self._arrange()
        self._publish_changes()
        self.is_ready = True

    def _publish_changes(self) -> None:
        wanted_keys = {order.key for order in self._orders}
        # What has vanished from the store, or can't be read any more, serves on until there is another.
        kept = {key: one for key, one in self._served.items() if key in wanted_keys}
        self._served = kept | {key: held.certificate for key, held in self._held.items()}
        certificates = tuple(one for _, one in sorted(self._served.items()))
        challenges = tuple(
            challenge
            for (kind, _), kept in sorted(self._kept.items())
            if kind == CHALLENGE and not kept.fault
            for challenge in kept.value
        )
        if (certificates, challenges) != self._published:
            self._published = (certificates, challenges)
            self._publish(certificates, challenges)

    def _arrange(self) -> None:
        """Find the newest certificate of each order, and when it is to be renewed."""
        newest = {
            kept.purpose: kept
            for (kind, _), kept in sorted(self._kept.items())
            if kind == CERTIFICATE and not kept.fault
        }
        before = self._held
        self._held = {}
        for key, kept in newest.items():
            known = before.get(key)
            # Spread over an hour, or less if there are few: not all replicas ask for all at once.
            spread = min(3600.0, 30.0 * len(newest))
            self._held[key] = known if known is not None and known.record is kept.record else self._hold(kept, spread)
        there = {held.certificate.fingerprint for held in self._held.values()}
        self._renewals = {name: one for name, one in self._renewals.items() if name in there}

    def _hold(self, kept: _Kept, spread: float = 0.0) -> Held:
        """A certificate with the times at which it is to be renewed, and asked about."""
        certificate: Certificate = kept.value
        at, ask_at = self._renewals.get(certificate.fingerprint, (None, None))
        if ask_at is None:
            ask_at = self._wall() + fraction(self._me + kept.purpose) * spread
            self._renewals[certificate.fingerprint] = (None, ask_at)
        if at is None:
            renew_at = renewal_time(certificate, kept.purpose)
        else:
            # Neither so late that there is no time left, nor again and again should it always say now.
            latest = certificate.not_after - certificate.lifetime / 10
            renew_at = max(min(at, latest), certificate.not_before + certificate.lifetime / 50)
        if certificate.resolver not in self._authorities:
            ask_at = float("inf")
        return Held(kept.record, certificate, renew_at, ask_at)

    def _world(self) -> World:
        now = self._wall()
        records = []
        for kept in self._kept.values():
            if kept.record.kind != CHALLENGE:
                is_certificate = kept.record.kind == CERTIFICATE and not kept.fault
                records.append((kept.record, kept.purpose, kept.value.not_after if is_certificate else float("inf")))
        leftover = (
            ()
            if self._busy
            else tuple(record for record in self._contents.challenges if record.created + _LEFTOVER < now)
        )
        mine = self._lease.holder == self._me
        lately = sum(record.created > now - _HOUR for record in self._contents.records)
        lately += sum(at > now - _HOUR for at in (self._writes if mine else self._lease.writes))
        return World(
            me=self._me,
            now=now,
            orders=self._orders,
            held=self._held,
            waste=leftover + waste(records, frozenset(order.key for order in self._orders), now),
            # One that was superseded is not written anew: it would be the newest then.
            stale=tuple(one for one in newest_of(records) if one.stale),
            authorities={name: f"ca {identity_of(options)}" for name, options in self._resolvers.items()},
            lease=self._lease,
            lease_age=self._reactor.seconds() - self._lease_seen,
            failures=self._failures if mine else self._lease.failures,
            busy=self._busy is not None,
            writes=lately,
        )

    async def _do(self, step: Step) -> None:
        if isinstance(step, Take):
            await self._take()
        elif isinstance(step, Renew):
            await self._swap(self._me)
        elif isinstance(step, Release):
            await self._swap("")
        elif isinstance(step, Ask):
            self._ask(step.order)
        elif isinstance(step, Obtain):
            self._begin(step.order)
        elif isinstance(step, Remove):
            await self._remove(step.record)
            await self._look(False)
        elif isinstance(step, Reseal):
            await self._reseal(step.record)

    async def _take(self) -> None:
        # What was seen may be older than what others have done meanwhile.
        await self._look(True)
        if isinstance(decide(self._world()).step, Take):
            self._failures, self._writes = dict(self._lease.failures), list(self._lease.writes)
            await self._swap(self._me)

    async def _swap(self, holder: str) -> None:
        self._count()
        wanted_keys = {order.key for order in self._orders}
        recent = self._wall() - 86400.0
        kept = {key: one for key, one in self._failures.items() if key in wanted_keys or one.retry_at > recent}
        recently = tuple(at for at in self._writes if at > self._wall() - _HOUR)
        lease = await self._store.swap_lease(self._lease, Lease(holder, 0, kept, recently))
        if lease is None:
            await self._look(True)
        else:
            self._lease, self._lease_seen = lease, self._reactor.seconds()
            self._contents = attrs.evolve(self._contents, lease=lease)

    async def _remove(self, record: Record) -> None:
        self._count()
        await self._store.remove(record)

    async def _reseal(self, record: Record) -> None:
        await self._store.put(self._contents.last + 1, record.kind, record.title, record.content)
        await self._look(False)
        await self._remove(record)
        await self._look(False)

    def _count(self) -> None:
        """Note a write that leaves no record."""
        self._writes.append(round(self._wall()))

    # An order.

    def _begin(self, order: Order) -> None:
        busy = Deferred.fromCoroutine(self._obtain(order))
        if busy.called:
            self._again = True
            return
        self._busy = busy

        def over(result: Any) -> None:
            self._busy = None
            self._quiet_until = 0.0
            self.wake()

        busy.addBoth(over)

    async def _obtain(self, order: Order) -> None:
        domains = ", ".join(order.domains)
        _log.info("certificate for {domains}: ordered", domains=domains)
        authority = self._authorities[order.resolver]
        authority_key = self._world().authorities[order.resolver]
        try:
            account = await self._account(order)
            pending = await authority.begin(account, order.domains)
            certificate = await self._complete(order, authority, pending)
            await self._keep(order, certificate)
        except AuthorityError as error:
            of_authority = error.scope == "authority"
            key = authority_key if of_authority else order.key
            pauses = (_AUTHORITY_PAUSE, _LONGEST_AUTHORITY_PAUSE)
            if not of_authority:
                pauses = (_ORDER_PAUSE, _LONGEST_ORDER_PAUSE)
            now = self._wall()
            failure = after_failure(self._failures.get(key), now, error.retry_after, *pauses, self._chance)
            self._failures[key] = failure
            _log.error(
                "no certificate for {domains}: {reason}; next attempt in {pause} min",
                domains=domains,
                reason=str(error),
                pause=round((failure.retry_at - now) / 60),
            )
            if error.scope == "account":
                await self._forget_account(order)
        except StoreError as error:
            failure = after_failure(self._failures.get(order.key), self._wall(), 0, 60.0, 3600.0, self._chance)
            self._failures[order.key] = failure
            _log.error("no certificate for {domains}: {reason}", domains=domains, reason=str(error))
        except CancelledError:
            _log.info("certificate for {domains}: given up, as the gate stops", domains=domains)
        except Exception:
            # A fault in here must not become a storm of orders.
            self._failures[order.key] = Failure(1, self._wall() + 3600.0)
            _log.failure("no certificate for {domains}", domains=domains)
        else:
            self._failures.pop(order.key, None)
            self._failures.pop(authority_key, None)

    async def _complete(self, order: Order, authority: IAuthority, pending: Pending) -> Certificate:
        """Have the challenges answered and checked, and what that took removed."""
        options = self._resolvers[order.resolver]
        record = None
        try:
            if pending.tokens:
                await authority.prepare(pending)
                if options.tls_challenge is not None:
                    shown = tuple(tls_alpn_challenge(one.domain, one.value, self._wall()) for one in pending.tokens)
                    record = await self._show(order, shown)
                delay = max(
                    0.0 if options.dns_challenge is not None else self._spread_until - self._reactor.seconds(),
                    options.http_challenge.delay if options.http_challenge is not None else 0.0,
                    options.tls_challenge.delay if options.tls_challenge is not None else 0.0,
                )
                if delay > 0:
                    await deferLater(self._reactor, delay, lambda: None)
            return await authority.finish(pending)
        finally:
            try:
                if pending.tokens:
                    await authority.clean_up(pending)
                if record is not None:
                    await self._remove(record)
            except (AuthorityError, StoreError) as error:
                _log.warn("{order}: not cleaned up: {reason}", order=", ".join(order.domains), reason=str(error))

    async def _show(self, order: Order, challenges: tuple[Challenge, ...]) -> Record:
        """Let all replicas show the certificates of challenges."""
        content, title = encode_challenges(challenges), order.domains[0]
        number = max([record.number for record in self._contents.challenges], default=0)
        done = False
        while not done:
            number += 1
            self._count()
            done = await self._store.put(number, CHALLENGE, title, content)
        self._written()
        # This replica answers from now on; the others do once they have seen it.
        await self._look(False)
        return Record(number, CHALLENGE, title, content)

    def _written(self) -> None:
        self._spread_until = self._reactor.seconds() + self._store.spread

    def _accounts(self) -> dict[str, Account]:
        """The newest account of each identity."""
        return {
            kept.value.identity: kept.value
            for (kind, _), kept in sorted(self._kept.items())
            if kind == ACCOUNT and not kept.fault
        }

    async def _account(self, order: Order) -> Account:
        """The account for an order, made if there is none."""
        identity = identity_of(self._resolvers[order.resolver])
        known = self._accounts().get(identity)
        if known is not None:
            return known
        account: Account = await self._authorities[order.resolver].register()
        if not await self._store.put(self._contents.last + 1, ACCOUNT, account.authority, encode(account)):
            raise StoreError("another replica has written meanwhile; its account will be used")
        self._written()
        # This replica answers from now on; the others do once they have seen it.
        await self._look(False)
        _log.info("account with {authority}", authority=account.authority)
        return account

    async def _forget_account(self, order: Order) -> None:
        identity = identity_of(self._resolvers[order.resolver])
        for kept in list(self._kept.values()):
            if kept.record.kind == ACCOUNT and not kept.fault and kept.value.identity == identity:
                await self._remove(kept.record)

    async def _keep(self, order: Order, certificate: Certificate) -> None:
        """Write a certificate; the store being away for a while costs no other order."""
        before = self._held.get(order.key)
        title, content = ", ".join(certificate.domains), encode(certificate)
        for attempt in range(_KEEPING):
            try:
                # Afresh, as another replica may have gone on where this one was held up.
                contents = await self._look(True)
                held = self._held.get(order.key)
                if held is not None and (before is None or held.record.number > before.record.number):
                    _log.info("certificate for {domains}: another replica was faster", domains=title)
                    return
                if await self._store.put(contents.last + 1, CERTIFICATE, title, content):
                    _log.info(
                        "certificate for {domains}, valid until {end}",
                        domains=title,
                        end=time.strftime("%Y-%m-%d", time.gmtime(certificate.not_after)),
                    )
                    await self._look(False)
                    return
            except StoreError:
                if attempt == _KEEPING - 1:
                    raise
                await deferLater(self._reactor, _STORE_PAUSES[min(attempt, 4)], lambda: None)
        raise StoreError("others write all the time")

    # When to renew.

    def _ask(self, order: Order) -> None:
        held = self._held[order.key]
        name = held.certificate.fingerprint
        # Until there is an answer it is not asked for again.
        self._renewals[name] = (self._renewals.get(name, (None, 0.0))[0], self._wall() + 6 * 3600.0)
        self._reconsider(order.key)
        asking = self._authorities[order.resolver].renewal(held.certificate)
        self._asking.add(asking)

        def answered(renewal: Any) -> None:
            now = self._wall()
            at = None if renewal.renew_in is None else now + renewal.renew_in
            self._renewals[name] = (at, now + renewal.ask_in)
            self._reconsider(order.key)
            self._quiet_until = 0.0
            self.wake()

        def over(result: Any) -> None:
            self._asking.discard(asking)

        asking.addCallback(answered)
        asking.addErrback(lambda failure: failure.trap(CancelledError, AuthorityError))
        asking.addBoth(over)

    def _reconsider(self, key: str) -> None:
        """Something is known of when a certificate should be renewed."""
        held = self._held.get(key)
        kept = None if held is None else self._kept.get((CERTIFICATE, held.record.number))
        if kept is not None:
            self._held[key] = self._hold(kept)


def _end_of(under_way: Deferred[Any]) -> Deferred[None]:
    """A Deferred that fires when *under_way* has, and takes nothing from it."""
    done: Deferred[None] = Deferred()

    def over(result: Any) -> Any:
        if not done.called:
            done.callback(None)
        return result

    under_way.addBoth(over)
    return done


def _read_all(records: Iterable[Record]) -> list[_Kept]:
    """What records say; to read a key takes a moment, so a thread does it."""
    readers: dict[str, Callable[[bytes], Any]] = {
        ACCOUNT: decode_account,
        CERTIFICATE: decode_certificate,
        CHALLENGE: decode_challenges,
    }
    kept = []
    for record in records:
        try:
            value = readers[record.kind](record.content)
        except ValueError as error:
            fault = f"record {record.number} ({record.title}): {error}"
            kept.append(_Kept(record, None, f"unreadable {record.number}", fault))
            continue
        purpose = "challenge"
        if isinstance(value, Account):
            purpose = f"account {value.identity}"
        elif isinstance(value, Certificate):
            purpose = Order(value.resolver, value.domains).key
        kept.append(_Kept(record, value, purpose))
    return kept
