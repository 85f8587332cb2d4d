"""How servers are reached: over which network, with which deadlines (Traefik ``serversTransports``)."""

from __future__ import annotations

from typing import Any

import attrs

from swarmgate.dynamic.tls import ServersTransport
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.secure_network import SecureNetwork
from swarmgate.http.upstream import Upstream, UpstreamSettings
from swarmgate.http2.negotiated import NegotiatedUpstream
from swarmgate.http2.upstream import Http2Upstream
from swarmgate.tls.contexts import client_context
from swarmgate.transport.network import Network


def idle_connections(configured: int) -> int:
    """How many unused connections are kept (Traefik ``maxIdleConnsPerHost``): as in Go, 0 stands for 2."""
    return max(configured, 0) or (2 if configured == 0 else 0)


class Reaching:
    """Makes upstreams: over which network a server is reached, and in which version of HTTP.

    :param default: how servers are reached that no transport is named for.
    """

    def __init__(self, network: Network, deadlines: Deadlines, default: ServersTransport | None = None) -> None:
        self._network = network
        self._deadlines = deadlines
        self._default = default or ServersTransport()
        #: Made once for each, since a context reads all the system's authorities.
        self._secure: dict[tuple[ServersTransport, tuple[str, ...]], Network] = {}

    def upstream(self, url: str, transport: ServersTransport | None, settings: UpstreamSettings) -> Upstream:
        """The server at *url*, reached as *transport* says, or as the default does if there is none."""
        scheme = url.partition(":")[0]
        settings = settings_of(transport, settings)
        if scheme == "h2c":
            return Http2Upstream(url, self._network, self._deadlines, settings)
        if scheme != "https":
            return Upstream(url, self._network, self._deadlines, settings)
        transport = transport or self._default
        network = self._secured(transport, ("http/1.1",))
        if transport.disable_http2:
            return Upstream(url, network, self._deadlines, settings)
        negotiating = self._secured(transport, ("h2", "http/1.1"))
        return NegotiatedUpstream(url, network, negotiating, self._deadlines, settings)

    def _secured(self, transport: ServersTransport, protocols: tuple[str, ...]) -> Network:
        secure = self._secure.get((transport, protocols))
        if secure is None:
            context = client_context(transport, protocols)
            secure = SecureNetwork(self._network, context, transport.server_name, self._deadlines)
            self._secure[transport, protocols] = secure
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
