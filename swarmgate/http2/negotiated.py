"""Servers behind TLS: whether they speak HTTP/2 is agreed on in the handshake (ALPN, RFC 7301; RFC 9113, 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swarmgate.http.deadlines import Deadlines
from swarmgate.http.exchange import Exchange
from swarmgate.http.server_connection import ServerConnection
from swarmgate.http.tries import Chooser
from swarmgate.http.upstream import Upstream, UpstreamSettings
from swarmgate.http2.upstream import Attempt, Http2Upstream
from swarmgate.transport.network import Network


class NegotiatedUpstream(Http2Upstream):
    """A server of which the first handshake tells what it speaks.

    :param network: offers HTTP/1.1 alone, for websockets and for a server that speaks nothing else.
    :param negotiating: offers HTTP/2 too.
    """

    def __init__(
        self, url: str, network: Network, negotiating: Network, deadlines: Deadlines, settings: UpstreamSettings
    ) -> None:
        super().__init__(url, network, deadlines, settings)
        self._negotiating = negotiating
        #: None before the first handshake.
        self._speaks_http2: bool | None = None

    def send(self, exchange: Exchange, chooser: Chooser, fresh: bool = False) -> None:
        if self._speaks_http2 is False:
            Upstream.send(self, exchange, chooser, fresh)
        else:
            super().send(exchange, chooser, fresh)

    def probe(self) -> None:
        if self._speaks_http2 is False:
            Upstream.probe(self)
        else:
            super().probe()

    def question_octets(self) -> bytes:
        # It is asked over a connection that was made for HTTP/1.1.
        return Upstream.question_octets(self)

    def connect(self, attempt: Attempt, within: float, failed: Callable[[Exception], None]) -> None:
        self._negotiating.connect(self.host, self.port, within, _Negotiation(self, attempt), failed)  # type: ignore[arg-type]

    def agreed(self, attempt: Attempt, negotiated: bytes | None) -> Any:
        """The handshake is over. Returns the connection's protocol."""
        self._speaks_http2 = negotiated == b"h2"
        if self._speaks_http2:
            return attempt.connection
        connection = ServerConnection(self)
        connection.made = lambda: self._connected(attempt, connection)
        return connection

    def _connected(self, attempt: Attempt, connection: ServerConnection) -> None:
        """A connection that speaks HTTP/1.1 has been made: it is for the first who waits, others get their own."""
        self._reached()
        self.over(attempt)
        is_taken = False
        for waiting in attempt.waiting:
            waiting.is_over = True
            if waiting.cancelled:
                self.in_flight -= 1
            elif not is_taken:
                is_taken = True
                connection.send(waiting.exchange, waiting.chooser)
            else:
                self.in_flight -= 1
                Upstream.send(self, waiting.exchange, waiting.chooser)
        if not is_taken:
            self.release(connection)


class _Negotiation:
    """Stands in for a connection's protocol until it is known which that is."""

    __slots__ = ("_attempt", "_upstream")

    def __init__(self, upstream: NegotiatedUpstream, attempt: Attempt) -> None:
        self._upstream = upstream
        self._attempt = attempt

    def agreed(self, negotiated: bytes | None) -> Any:
        """What the handshake has agreed on; returns the connection's protocol."""
        return self._upstream.agreed(self._attempt, negotiated)
