"""A Swarm's configs and an authority in memory, for our tests and other people's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from swarmgate.acme.authority import AuthorityError, IAuthority, Pending, Renewal, Token
from swarmgate.acme.certificate import Certificate, certificate_from, key_pem, make_key
from swarmgate.acme.records import Account
from swarmgate.acme.wanted import identity_of
from swarmgate.config.acme import ACME
from swarmgate.providers.swarm.configs import LARGEST, Config, IConfigs
from swarmgate.providers.swarm.interface import SwarmError

T = TypeVar("T")


class MemoryLog:
    """What the managers of a Swarm in memory have in common; each replica has its own :class:`MemoryConfigs` of it.

    :ivar configs: by name.
    :ivar writes: when there were any, by the clock, and what: ``create``, ``update`` or ``remove``, with the name.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self.configs: dict[str, Config] = {}
        self.writes: list[tuple[float, str, str]] = []
        self.listeners: list[tuple[Callable[[], None], Callable[[SwarmError], None]]] = []
        self.index = itertools.count(11)

    def changed(self, what: str, name: str) -> None:
        """Note a write, and ring."""
        self.writes.append((self.clock.seconds(), what, name))
        for ring, _ in list(self.listeners):
            ring()


@implementer(IConfigs)
class MemoryConfigs:
    """The configs of a Swarm in memory, as one replica sees them.

    :ivar failure: why every call fails, ``""`` while they don't.
    :ivar finds: what was looked for.
    """

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.failure = ""
        self.finds: list[tuple[str, ...]] = []
        self._mine: list[tuple[Callable[[], None], Callable[[SwarmError], None]]] = []
        self._closed = False

    def find(self, prefixes: Sequence[str]) -> Deferred[tuple[Config, ...]]:
        """See :meth:`IConfigs.find`."""
        self.finds.append(tuple(prefixes))
        found = [config for name, config in sorted(self.log.configs.items()) if name.startswith(tuple(prefixes))]
        return self._answer(lambda: tuple(found))

    def create(self, name: str, labels: Mapping[str, str], data: bytes) -> Deferred[bool]:
        """See :meth:`IConfigs.create`."""

        def create() -> bool:
            if name in self.log.configs:
                return False
            if not 0 < len(data) <= LARGEST:
                raise SwarmError(f"{name}: {len(data)} octets of data: expected 1 to {LARGEST}")
            index = next(self.log.index)
            now = self.log.clock.seconds()
            self.log.configs[name] = Config(f"config{index}", name, index, dict(labels), data, now)
            self.log.changed("create", name)
            return True

        return self._answer(create)

    def relabel(self, config: Config, labels: Mapping[str, str]) -> Deferred[bool]:
        """See :meth:`IConfigs.relabel`."""

        def relabel() -> bool:
            there = self.log.configs.get(config.name)
            if there is None or there.id != config.id or there.version != config.version:
                return False
            self.log.configs[config.name] = attrs.evolve(there, labels=dict(labels), version=next(self.log.index))
            self.log.changed("update", config.name)
            return True

        return self._answer(relabel)

    def remove(self, config: Config) -> Deferred[None]:
        """See :meth:`IConfigs.remove`."""

        def remove() -> None:
            there = self.log.configs.get(config.name)
            if there is not None and there.id == config.id:
                del self.log.configs[config.name]
                self.log.changed("remove", config.name)

        return self._answer(remove)

    def subscribe(self, ring: Callable[[], None], lost: Callable[[SwarmError], None]) -> Callable[[], None]:
        """See :meth:`IConfigs.subscribe`."""
        listener = (ring, lost)

        def cancel() -> None:
            if listener in self.log.listeners:
                self.log.listeners.remove(listener)

        if self.failure or self._closed:
            lost(SwarmError(self.failure or "the Swarm has been closed"))
        else:
            self.log.listeners.append(listener)
            self._mine.append(listener)
            ring()
        return cancel

    def close(self) -> Deferred[None]:
        """See :meth:`IConfigs.close`."""
        self._closed = True
        for listener in self._mine:
            if listener in self.log.listeners:
                self.log.listeners.remove(listener)
        return succeed(None)

    def _answer(self, call: Callable[[], T]) -> Deferred[T]:
        if self._closed or self.failure:
            return fail(SwarmError(self.failure or "the Swarm has been closed"))
        try:
            return succeed(call())
        except SwarmError as error:
            return fail(error)


@implementer(IAuthority)
class MemoryAuthority:
    """An authority in memory: it signs by a key of its own, and fails or waits as it is told.

    :param clock: for the dates of certificates.
    :param check: asked for each challenge whether it is answered: domain, token, expected value.
    :ivar begun: the domains of each order, in order; ``finished``: of those that were signed.
    :ivar accounts: how many were made.
    :ivar refusal: the error of every call, None while there is none.
    :ivar calls: when it was called, by the clock.
    :ivar renew_at: when it wants certificates to be renewed, in seconds since 1970; None: it doesn't say.
    :ivar questions: how many times it was asked for that.
    """

    def __init__(
        self,
        clock: IReactorTime,
        resolver: str,
        options: ACME,
        check: Callable[[str, str, str], bool] = lambda domain, token, value: True,
        days: float = 90.0,
    ) -> None:
        self._clock = clock
        self._resolver = resolver
        self._options = options
        self._check = check
        self._key = make_key("EC256")
        self._held: list[tuple[Deferred[Any], Callable[[], Any]]] = []
        self._holding = False
        self.days = days
        self.begun: list[tuple[str, ...]] = []
        self.finished: list[tuple[str, ...]] = []
        self.accounts = 0
        self.calls: list[float] = []
        self.questions = 0
        self.renew_at: float | None = None
        self.refusal: AuthorityError | None = None
        self.cleaned = 0

    def register(self) -> Deferred[Account]:
        """See :meth:`IAuthority.register`."""

        def register() -> Account:
            self.accounts += 1
            key = key_pem(make_key("EC256"))
            thumbprint = f"thumbprint-{self._resolver}-{self.accounts}"
            identity = identity_of(self._options)
            return Account(self._options.ca_server, f"memory:{self.accounts}", key, thumbprint, identity)

        return self._answer(register)

    def begin(self, account: Account, domains: tuple[str, ...]) -> Deferred[Pending]:
        """See :meth:`IAuthority.begin`."""

        def begin() -> Pending:
            self.begun.append(domains)
            token = f"token-{len(self.begun):016}"
            tokens = tuple(Token(one.removeprefix("*."), token, f"{token}.{account.thumbprint}") for one in domains)
            return Pending(account, tokens, domains)

        return self._answer(begin)

    def prepare(self, pending: Pending) -> Deferred[None]:
        """See :meth:`IAuthority.prepare`."""
        return self._answer(lambda: None)

    def finish(self, pending: Pending) -> Deferred[Certificate]:
        """See :meth:`IAuthority.finish`."""

        def finish() -> Certificate:
            for token in pending.tokens:
                if not self._check(token.domain, token.token, token.value):
                    raise AuthorityError(f"{token.domain}: the challenge is not answered")
            self.finished.append(pending.state)
            return self.sign(pending.state)

        return self._answer(finish)

    def clean_up(self, pending: Pending) -> Deferred[None]:
        """See :meth:`IAuthority.clean_up`."""
        self.cleaned += 1
        return succeed(None)

    def renewal(self, certificate: Certificate) -> Deferred[Renewal]:
        """See :meth:`IAuthority.renewal`."""
        self.questions += 1
        renew_in = None if self.renew_at is None else self.renew_at - self._clock.seconds()
        return succeed(Renewal(renew_in, 6 * 3600.0))

    def stop(self) -> None:
        """See :meth:`IAuthority.stop`."""

    def sign(self, domains: tuple[str, ...]) -> Certificate:
        """A certificate that is valid from now on."""
        key = make_key("EC256")
        now = datetime.fromtimestamp(self._clock.seconds(), UTC)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "memory")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=self.days))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in domains]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        chain = leaf.public_bytes(serialization.Encoding.PEM)
        return certificate_from(chain, key_pem(key), domains, f"resolver {self._resolver}", self._resolver)

    def hold(self) -> None:
        """Hold answers from now on."""
        self._holding = True

    def release(self) -> None:
        """Give the answers that are held, and hold none from now on."""
        self._holding = False
        held, self._held = self._held, []
        for deferred, call in held:
            if not deferred.called:
                maybeDeferred(call).chainDeferred(deferred)

    def _answer(self, call: Callable[[], T]) -> Deferred[T]:
        self.calls.append(self._clock.seconds())
        if self.refusal is not None:
            return fail(self.refusal)
        if self._holding:
            held: Deferred[T] = Deferred()
            self._held.append((held, call))
            return held
        return maybeDeferred(call)
