"""All ``certificatesResolvers`` of a gate: a service for each storage, and what they have in common."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from swarmgate.acme.authority import AcmeAuthority
from swarmgate.acme.certificate import Certificate
from swarmgate.acme.challenge import Challenge
from swarmgate.acme.file_store import FileStore
from swarmgate.acme.sealing import Keys, SealError
from swarmgate.acme.service import CertificateService, Publish
from swarmgate.acme.swarm_store import SwarmStore
from swarmgate.acme.wanted import Wish
from swarmgate.config.acme import ACME
from swarmgate.config.model import StaticConfiguration
from swarmgate.providers.swarm.configs import DockerConfigs
from swarmgate.providers.swarm.engine import Endpoint
from swarmgate.structure import nearest_of

_log = Logger()
_FILE = "acme.json"
_SWARM = "swarm"


def storage_of(options: ACME, has_swarm: bool) -> str:
    """Where a resolver keeps its certificates: ``swarm``, ``swarm:NAME`` or a path."""
    return options.storage or (_SWARM if has_swarm else _FILE)


def acme_options(configuration: StaticConfiguration) -> dict[str, ACME]:
    """The options of each resolver by its name."""
    resolvers = configuration.certificates_resolvers.items()
    return {name: resolver.acme for name, resolver in resolvers if resolver.acme is not None}


def fault_of(configuration: StaticConfiguration) -> str:
    """What of the resolvers only their use shows to be wrong, as a line for people; ``""`` for nothing."""
    has_swarm = configuration.providers.swarm is not None
    for name, options in acme_options(configuration).items():
        where = f"certificatesResolvers.{name}.acme"
        storage = storage_of(options, has_swarm)
        if _is_swarm(storage):
            if not has_swarm:
                return f"{where}.storage: {storage}: there is no providers.swarm: expected that, or the path of a file"
            try:
                Keys.from_file(options.storage_key_file)
            except SealError as error:
                return f"{where}.storageKeyFile: {error}"
        elif not Path(storage).absolute().parent.is_dir():
            return f"{where}.storage: {storage}: there is no such folder"
        challenge = options.http_challenge
        if challenge is not None and challenge.entry_point not in configuration.entry_points:
            names = list(configuration.entry_points)
            nearest = nearest_of(challenge.entry_point, names)
            hint = f"; did you mean {nearest}?" if nearest else ""
            return (
                f'{where}.httpChallenge.entryPoint: "{challenge.entry_point}": expected the name of an entry point: '
                f"{', '.join(names)}{hint}"
            )
        for path in options.ca_certificates:
            if not Path(path).is_file():
                return f"{where}.caCertificates: {path}: there is no such file"
    return ""


class Threads:
    """A few threads for calls that block; they do not keep the process from ending."""

    def __init__(self, reactor: Any, name: str, most: int = 4) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, most, name)
        self._pool.threadFactory = _DaemonThread

    def __call__(self, call: Callable[..., Any], *given: Any) -> Deferred[Any]:
        """Call a function in a thread. Returns a Deferred of what it returns."""
        if not self._pool.started:
            self._pool.start()
        return deferToThreadPool(self._reactor, self._pool, call, *given)


class _DaemonThread(threading.Thread):
    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, daemon=True, **named)


def make_store(
    reactor: Any, storage: str, options: ACME, endpoint: Endpoint | None, in_thread: Callable[..., Deferred[Any]]
) -> Any:
    """The store that *storage* names.

    :param endpoint: of the Swarm; None if there is none.
    :raises SealError: the key can't be read.
    """
    if _is_swarm(storage):
        assert endpoint is not None, "fault_of() has refused it"
        name = storage.partition(":")[2] or "swarmgate"
        if options.storage_endpoint:
            endpoint = Endpoint(options.storage_endpoint, timeout=endpoint.timeout)
        return SwarmStore(reactor, DockerConfigs(reactor, endpoint), Keys.from_file(options.storage_key_file), name)
    return FileStore(storage, in_thread)


def _is_swarm(storage: str) -> bool:
    return storage == _SWARM or storage.startswith(f"{_SWARM}:")


class Resolvers(Service):
    """All resolvers of a gate.

    :param publish: takes all certificates and challenges of all of them, each time that they have changed.
    :ivar is_ready: what was there before is published, or can't be read.
    """

    def __init__(
        self, reactor: Any, configuration: StaticConfiguration, endpoint: Endpoint | None, publish: Publish
    ) -> None:
        self._publish = publish
        self._published: dict[str, tuple[tuple[Certificate, ...], tuple[Challenge, ...]]] = {}
        in_thread = Threads(reactor, "acme")
        me = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        by_storage: dict[str, dict[str, ACME]] = {}
        for name, options in acme_options(configuration).items():
            by_storage.setdefault(storage_of(options, endpoint is not None), {})[name] = options
        self.services = {
            storage: CertificateService(
                reactor,
                make_store(reactor, storage, next(iter(resolvers.values())), endpoint, in_thread),
                resolvers,
                {name: AcmeAuthority(name, options, in_thread) for name, options in resolvers.items()},
                self._publish_from(storage),
                in_thread,
                me,
            )
            for storage, resolvers in by_storage.items()
        }
        self._names = frozenset(acme_options(configuration))
        self._unknown: frozenset[tuple[str, str]] = frozenset()

    @property
    def is_ready(self) -> bool:
        """What was there before is published, or can't be read."""
        return all(service.is_ready for service in self.services.values())

    def _publish_from(self, storage: str) -> Publish:
        def publish(certificates: tuple[Certificate, ...], challenges: tuple[Challenge, ...]) -> None:
            self._published[storage] = (certificates, challenges)
            self._publish(
                tuple(one for each, _ in self._published.values() for one in each),
                tuple(one for _, each in self._published.values() for one in each),
            )

        return publish

    def want(self, wishes: Iterable[Wish]) -> None:
        """Obtain what routers wish, from now on."""
        wishes = tuple(wishes)
        unknown = frozenset((wish.router, wish.resolver) for wish in wishes if wish.resolver not in self._names)
        for router, resolver in sorted(unknown - self._unknown):
            nearest = nearest_of(resolver, sorted(self._names))
            _log.error(
                "router {router}: tls.certResolver: there is no certificatesResolvers.{resolver}{hint}",
                router=router,
                resolver=resolver,
                hint=f"; did you mean {nearest}?" if nearest else "",
            )
        self._unknown = unknown
        for service in self.services.values():
            service.want(wishes)

    def thumbprint(self, host: str, entry_point: str) -> str | None:
        """See :meth:`CertificateService.thumbprint`."""
        for service in self.services.values():
            found = service.thumbprint(host, entry_point)
            if found is not None:
                return found
        return None

    def startService(self) -> None:
        Service.startService(self)
        for service in self.services.values():
            service.startService()

    def stopService(self) -> Deferred[Any]:
        """Stop all. Returns a Deferred that fires when that is done."""
        Service.stopService(self)
        return DeferredList([service.stopService() for service in self.services.values()], consumeErrors=True)


def challenge_entry_points(configuration: StaticConfiguration) -> tuple[str, ...]:
    """The entry points on which HTTP-01 challenges are answered."""
    found: Mapping[str, None] = {
        options.http_challenge.entry_point: None
        for options in acme_options(configuration).values()
        if options.http_challenge is not None
    }
    return tuple(found)
