"""A network on which servers are reached over TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger

from swarmgate.http.deadlines import NEVER, Deadlines
from swarmgate.transport.network import Network
from swarmgate.transport.tls import HandshakeError, TLSTransport

_log = Logger("swarmgate.tls")

#: Seconds from a connection's begin to the end of its handshake, beside those that connecting may take.
_HANDSHAKE_WITHIN = 10.0
#: Servers whose last failure is remembered, so that it is told once.
_TOLD_AT_MOST = 1000


class SecureNetwork:
    """A :class:`~swarmgate.transport.network.Network` that speaks TLS with the servers of another one.

    :param server_name: the name in the servers' certificates; ``""``: the host that is connected to.
    """

    def __init__(self, network: Network, context: ssl.SSLContext, server_name: str, deadlines: Deadlines) -> None:
        self.turn_end = network.turn_end
        self._network = network
        self._context = context
        self._server_name = server_name
        self._deadlines = deadlines
        self._told: dict[tuple[str, int], str] = {}

    def listen(
        self,
        host: str,
        port: int,
        make: Callable[[], IProtocol],
        *,
        reuse_port: bool = False,
        bound: socket.socket | None = None,
    ) -> Deferred[Any]:
        """Without TLS: that is decided by what a client says first."""
        return self._network.listen(host, port, make, reuse_port=reuse_port, bound=bound)

    def connect(
        self, host: str, port: int, timeout: float, protocol: IProtocol, failed: Callable[[Exception], None]
    ) -> None:
        """Connect *protocol* to a server, once the handshake is over.

        A protocol with a method ``agreed`` is only asked for the one to connect, with what ALPN has agreed on.
        """

        def secured(tls: TLSTransport) -> IProtocol:
            tls.deadline = NEVER
            self._deadlines.discard(tls)
            self._told.pop((host, port), None)
            agreed = getattr(protocol, "agreed", None)
            return protocol if agreed is None else agreed(tls.negotiatedProtocol)

        def lost(error: Exception) -> None:
            self._deadlines.discard(tls)
            if isinstance(error, HandshakeError):
                self._tell(host, port, str(error))
            failed(error)

        try:
            tls = TLSTransport(self._context, secured, lost, False, self._server_name or host)
        except ValueError as error:
            failed(HandshakeError(str(error)))
            return
        tls.deadline = self._deadlines.now + timeout + _HANDSHAKE_WITHIN
        self._deadlines.add(tls)
        self._network.connect(host, port, timeout, tls, lost)

    def _tell(self, host: str, port: int, reason: str) -> None:
        if self._told.get((host, port)) == reason:
            return
        if len(self._told) >= _TOLD_AT_MOST:
            self._told.clear()
        self._told[host, port] = reason
        _log.warn("no TLS with server {host}:{port}: {reason}", host=host, port=port, reason=reason)
