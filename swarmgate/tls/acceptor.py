"""What a TLS client gets: which certificate, under which options."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Mapping

import attrs
from twisted.logger import Logger

from swarmgate.dynamic.table import TLSTable
from swarmgate.dynamic.tls import TLSOptions
from swarmgate.tls.contexts import ContextError, ServerContexts
from swarmgate.tls.store import Certificates, CertificateStore
from swarmgate.transport.client_hello import ClientHello

_log = Logger("swarmgate.tls")

DEFAULT = "default"
"""The options of hosts that no router names others for."""


@attrs.frozen
class Accepted:
    """How a client's handshake goes on.

    :ivar options: the name of the options that the connection is under.
    """

    context: ssl.SSLContext
    options: str


class HostOptions:
    """The options of each host of an entry point, as its routers name them.

    :param hosts: names of options by host; ``*.`` stands for any one label.
    """

    def __init__(self, hosts: Mapping[str, str]) -> None:
        self._exact = {host: options for host, options in hosts.items() if not host.startswith("*.")}
        self._parents = {host[2:]: options for host, options in hosts.items() if host.startswith("*.")}

    def of(self, host: str) -> str:
        """The name of the options of *host*, in lower case."""
        found = self._exact.get(host)
        if found is None and self._parents:
            label, _, parent = host.partition(".")
            found = self._parents.get(parent) if label else None
        return found or DEFAULT


class Acceptor:
    """Decides what a client gets, by what it asks for.

    :param hosts: the options of each host.
    :param options: by name; ``default`` among them.
    :param clock: gives the time in seconds since 1970.
    :param challenge: is asked first, for certificates that answer a challenge and are no part of the store; None is
        what it says to an ordinary client.
    """

    def __init__(
        self,
        hosts: HostOptions,
        options: Mapping[str, TLSOptions],
        store: CertificateStore,
        contexts: ServerContexts,
        clock: Callable[[], float],
        challenge: Callable[[ClientHello], ssl.SSLContext | None] | None = None,
    ) -> None:
        self._hosts = hosts
        self._options = options
        self._store = store
        self._contexts = contexts
        self._clock = clock
        self._challenge = challenge

    def options_of(self, host: str) -> str:
        """The name of the options that a connection has to be under for requests to *host*."""
        return self._hosts.of(host)

    def accept(self, hello: ClientHello) -> Accepted | None:
        """How the handshake of a client that says *hello* goes on, None for not at all."""
        if self._challenge is not None:
            context = self._challenge(hello)
            if context is not None:
                return Accepted(context, DEFAULT)
        name = self._hosts.of(hello.server_name)
        options = self._options[name]
        certificates = self._store.find(hello.server_name)
        if certificates is None:
            if options.sni_strict or not self._store.default:
                return None
            certificates = self._store.default
        context = self._context(options, certificates)
        return None if context is None else Accepted(context, name)

    def _context(self, options: TLSOptions, certificates: Certificates) -> ssl.SSLContext | None:
        now = self._clock()
        try:
            return self._contexts.get(options, certificates, now)
        except ContextError as error:
            _log.error("{reason}; the default certificate is served", reason=str(error))
        try:
            return self._contexts.get(options, self._store.default, now)
        except ContextError as error:
            _log.error("{reason}", reason=str(error))
            return None


class Acceptors:
    """Makes the acceptors of all entry points.

    :param always: entry points that speak TLS whatever routers there are.
    :param clock: gives the time in seconds since 1970.
    :param challenge: see :class:`Acceptor`.
    """

    def __init__(
        self,
        contexts: ServerContexts,
        always: Collection[str],
        clock: Callable[[], float],
        challenge: Callable[[ClientHello], ssl.SSLContext | None] | None = None,
    ) -> None:
        self._contexts = contexts
        self._challenge = challenge
        self._always = frozenset(always)
        self._clock = clock

    def of(self, table: TLSTable) -> Mapping[str, Acceptor]:
        """The acceptor of each entry point that speaks TLS under *table*, by its name."""
        names = {*table.hosts, *self._always}
        if not names:
            return {}
        default = () if table.default is None else (table.default,)
        self._contexts.forget_others((*table.certificates, *default))
        store = CertificateStore(table.certificates, table.default, self._clock())
        options = {DEFAULT: TLSOptions(), **table.options}
        return {
            name: Acceptor(
                HostOptions(table.hosts.get(name, {})), options, store, self._contexts, self._clock, self._challenge
            )
            for name in names
        }
