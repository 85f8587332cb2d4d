"""Certificates in the Swarm: configs, which the managers' replicated log keeps for all replicas.

Each record is a config of its own, named by its number, ``swarmgate.c.00000042``; who comes second with a number is
refused. Its content is encrypted, since whoever may use the API can read configs. Challenges, which live for a minute,
are ``swarmgate.t.00000001`` and so on; the lease is the labels of ``swarmgate.lease``.

A cheap look asks for the lease, the challenges and the next number alone: there is next to nothing to transfer, however
many certificates there are. One in :data:`FRESH` seconds reads everything.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from zope.interface import implementer

from swarmgate.acme.sealing import Keys, SealError
from swarmgate.acme.store import CHALLENGE, KINDS, Contents, Failure, IStore, Lease, Record, StoreError
from swarmgate.providers.swarm.configs import LARGEST, Config, IConfigs
from swarmgate.providers.swarm.interface import SwarmError

FRESH = 600.0
"""Seconds after which a cheap look is a full one anyway."""

_HOLDER = "swarmgate.holder"
_TURN = "swarmgate.turn"
_FAILURES = "swarmgate.failures"
_LAST = "swarmgate.last"
_WRITES = "swarmgate.writes"
_KIND = "swarmgate.kind"
_TITLE = "swarmgate.title"
_KEY = "swarmgate.key"
_AGAIN = 5.0  # Seconds until events are listened for again when that has ended.
_MOST_FAILURES = 200  # In the labels of the lease.


@implementer(IStore)
class SwarmStore:
    """A store in a Swarm's configs.

    :param reactor: for its clock.
    :param keys: what contents are encrypted with.
    :param name: what the configs' names begin with: gates with the same one share what is in them.
    :ivar spread: seconds until all replicas have seen what was written.
    """

    spread = 4.0

    def __init__(self, reactor: Any, configs: Any, keys: Keys, name: str = "swarmgate") -> None:
        self._reactor = reactor
        self._configs: IConfigs = configs
        self._keys = keys
        self._name = name
        self._found: dict[str, Config] = {}
        self._opened: dict[str, Record] = {}
        self._last = 0
        self._told: Contents | None = None
        self._looking = DeferredLock()
        self._read_at: float | None = None
        self._subscriptions: list[_Subscription] = []

    def __repr__(self) -> str:
        return f"<SwarmStore {self._name} in {self._configs!r}>"

    def look(self, fresh: bool) -> Deferred[Contents]:
        """See :meth:`IStore.look`."""
        # One at a time: an older answer must not take the place of a newer one.
        return self._looking.run(lambda: Deferred.fromCoroutine(self._look(fresh)))

    async def _look(self, fresh: bool) -> Contents:
        records, challenges, lease = f"{self._name}.c.", f"{self._name}.t.", f"{self._name}.lease"
        seconds = self._reactor.seconds()
        if fresh or self._read_at is None or seconds - self._read_at > FRESH:
            found = await self._call(self._configs.find([records, challenges, lease]))
            self._found = {config.name: config for config in found}
            self._read_at = seconds
        else:
            last = self._last + 1
            found = await self._call(self._configs.find([challenges, lease, f"{records}{last:08}"]))
            known = self._found.get(lease)
            before = self._found
            kept = {name: config for name, config in before.items() if name.startswith(records)}
            self._found = kept | {config.name: config for config in found}
            if self._found == before and self._told is not None:
                # Nothing is as frequent as that nothing has happened.
                return self._told
            while f"{records}{last:08}" in self._found:
                last += 1
                for config in await self._call(self._configs.find([f"{records}{last:08}"])):
                    self._found[config.name] = config
            now = self._found.get(lease)
            if now is not None and now != known and not now.labels.get(_HOLDER):
                # Whoever had the lease is done: whatever was missed on the way is found now.
                return await self._look(True)
        self._told = self._contents()
        return self._told

    def _contents(self) -> Contents:
        faults: list[str] = []
        records: list[Record] = []
        opened: dict[str, Record] = {}
        lease = Lease()
        for name, config in self._found.items():
            if name == f"{self._name}.lease":
                lease = _lease(config)
                # Records may have been removed from the end.
                self._last = max(self._last, _number(config.labels.get(_LAST, "")))
                continue
            number = name.rpartition(".")[2]
            if not number.isdigit() or config.labels.get(_KIND) not in KINDS:
                continue
            record = self._opened.get(config.id)
            if record is None:
                try:
                    content = self._keys.open(config.data, name)
                except SealError as error:
                    faults.append(str(error))
                    if ".c." in name:
                        self._last = max(self._last, int(number))
                    continue
                kind, title = config.labels[_KIND], config.labels.get(_TITLE, "")
                stale = not self._keys.is_current(config.labels.get(_KEY, ""))
                record = Record(int(number), kind, title, content, config.created, stale)
            opened[config.id] = record
            records.append(record)
        self._opened = opened
        records.sort(key=lambda one: one.number)
        kept = tuple(one for one in records if one.kind != CHALLENGE)
        self._last = max([self._last, *(one.number for one in kept)])
        challenges = tuple(one for one in records if one.kind == CHALLENGE)
        return Contents(kept, challenges, lease, tuple(faults), self._last)

    def subscribe(self, ring: Callable[[], None]) -> Callable[[], None]:
        """See :meth:`IStore.subscribe`."""
        subscription = _Subscription(self._reactor, self._configs, ring)
        self._subscriptions.append(subscription)
        subscription.begin()
        return subscription.cancel

    def put(self, number: int, kind: str, title: str, content: bytes) -> Deferred[bool]:
        """See :meth:`IStore.put`.

        Fails with :exc:`StoreError` if it is too large for a config.
        """
        return Deferred.fromCoroutine(self._put(number, kind, title, content))

    async def _put(self, number: int, kind: str, title: str, content: bytes) -> bool:
        name = f"{self._name}.{'t' if kind == CHALLENGE else 'c'}.{number:08}"
        sealed = self._keys.seal(content, name)
        if len(sealed) > LARGEST:
            raise StoreError(f"{title}: {len(sealed)} octets are more than the {LARGEST} that a config may have")
        labels = {_KIND: kind, _TITLE: title[:200], _KEY: self._keys.id}
        done: bool = await self._call(self._configs.create(name, labels, sealed))
        return done

    def remove(self, record: Record) -> Deferred[None]:
        """See :meth:`IStore.remove`."""
        return Deferred.fromCoroutine(self._remove(record))

    async def _remove(self, record: Record) -> None:
        for config_id, known in list(self._opened.items()):
            if known.number == record.number and (known.kind == CHALLENGE) == (record.kind == CHALLENGE):
                for name, config in list(self._found.items()):
                    if config.id == config_id:
                        await self._call(self._configs.remove(config))
                        self._found.pop(name, None)
                        self._told = None
                        self._opened.pop(config_id, None)

    def swap_lease(self, seen: Lease, wanted: Lease) -> Deferred[Lease | None]:
        """See :meth:`IStore.swap_lease`."""
        return Deferred.fromCoroutine(self._swap_lease(seen, wanted))

    async def _swap_lease(self, seen: Lease, wanted: Lease) -> Lease | None:
        name = f"{self._name}.lease"
        config = self._found.get(name)
        if seen.version == 0:
            labels = self._labels(wanted, 1)
            if not await self._call(self._configs.create(name, labels, b"See the labels: whose turn it is to order.")):
                return None
        else:
            if config is None or config.version != seen.version:
                return None
            turn = _number(config.labels.get(_TURN, "")) + 1
            if not await self._call(self._configs.relabel(config, self._labels(wanted, turn))):
                return None
        for config in await self._call(self._configs.find([name])):
            self._found[name] = config
            self._told = None
            lease = _lease(config)
            return lease if lease.holder == wanted.holder else None
        return None

    def _labels(self, lease: Lease, turn: int) -> dict[str, str]:
        latest = sorted(lease.failures.items(), key=lambda pair: -pair[1].retry_at)[:_MOST_FAILURES]
        told = {key: [failure.count, round(failure.retry_at)] for key, failure in latest}
        # The turn makes each change a change: labels that stay the same would be no sign of life.
        known = {_HOLDER: lease.holder, _TURN: str(turn), _LAST: str(self._last)}
        return {**known, _FAILURES: json.dumps(told, sort_keys=True), _WRITES: json.dumps(lease.writes)}

    def close(self) -> Deferred[None]:
        """See :meth:`IStore.close`."""
        for subscription in self._subscriptions:
            subscription.cancel()
        self._subscriptions.clear()
        return self._configs.close()

    async def _call(self, call: Deferred[Any]) -> Any:
        try:
            return await call
        except SwarmError as error:
            raise StoreError(str(error)) from error


class _Subscription:
    """Listens for events, again and again."""

    def __init__(self, reactor: Any, configs: IConfigs, ring: Callable[[], None]) -> None:
        self._reactor = reactor
        self._configs = configs
        self._ring = ring
        self._cancel: Callable[[], None] | None = None
        self._again: Any = None
        self._over = False

    def begin(self) -> None:
        """Listen."""
        self._again = None
        self._cancel = self._configs.subscribe(self._ring, self._lost)

    def _lost(self, error: SwarmError) -> None:
        if not self._over:
            self._again = self._reactor.callLater(_AGAIN, self.begin)

    def cancel(self) -> None:
        """Listen no more."""
        self._over = True
        if self._again is not None and self._again.active():
            self._again.cancel()
        if self._cancel is not None:
            self._cancel()


def _lease(config: Config) -> Lease:
    failures: dict[str, Failure] = {}
    writes: tuple[int, ...] = ()
    try:
        told = json.loads(config.labels.get(_FAILURES) or "{}")
        failures = {str(key): Failure(int(count), float(at)) for key, (count, at) in told.items()}
        writes = tuple(int(at) for at in json.loads(config.labels.get(_WRITES) or "[]"))
    except (ValueError, TypeError, AttributeError):
        # Written by hand: what has failed is found out again.
        failures = {}
    return Lease(config.labels.get(_HOLDER, ""), config.version, failures, writes)


def _number(text: str) -> int:
    """A number that may have been written by hand."""
    return int(text) if text.isdigit() else 0
