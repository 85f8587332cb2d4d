"""How servers are reached: over which network, with which deadlines (Traefik ``serversTransports``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from swarmgate.dynamic.tls import ServersTransport
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.secure_network import SecureNetwork
from swarmgate.http.upstream import UpstreamSettings
from swarmgate.tls.contexts import client_context
from swarmgate.transport.network import Network

Reach = Callable[[str, ServersTransport | None], Network]
"""The network for servers of a URL's scheme and a transport, None for the gate's own."""


def idle_connections(configured: int) -> int:
    """How many unused connections are kept (Traefik ``maxIdleConnsPerHost``): as in Go, 0 stands for 2."""
    return max(configured, 0) or (2 if configured == 0 else 0)


class Reaching:
    """A :data:`Reach`.

    :param default: how servers are reached that no transport is named for.
    """

    def __init__(self, network: Network, deadlines: Deadlines, default: ServersTransport) -> None:
        self._network = network
        self._deadlines = deadlines
        self._default = default
        #: Made once for each, since a context reads all the system's authorities.
        self._secure: dict[ServersTransport, Network] = {}

    def __call__(self, scheme: str, transport: ServersTransport | None) -> Network:
        if scheme != "https":
            return self._network
        transport = transport or self._default
        secure = self._secure.get(transport)
        if secure is None:
            context = client_context(transport)
            secure = SecureNetwork(self._network, context, transport.server_name, self._deadlines)
            self._secure[transport] = secure
        return secure


def settings_of(transport: ServersTransport | None, settings: UpstreamSettings) -> UpstreamSettings:
    """*settings* with what *transport* says otherwise."""
    if transport is None:
        return settings
    timeouts = transport.forwarding_timeouts
    given = {
        "connect_timeout": timeouts.dial_timeout,
        "response_timeout": timeouts.response_header_timeout,
        "idle_timeout": timeouts.idle_conn_timeout,
        "idle_connections": None
        if transport.max_idle_conns_per_host is None
        else idle_connections(transport.max_idle_conns_per_host),
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return attrs.evolve(settings, **changes)
