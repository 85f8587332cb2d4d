"""Servers that speak HTTP/2 in clear text (Traefik ``scheme=h2c``): few connections, many exchanges on each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swarmgate.http.deadlines import Deadlines
from swarmgate.http.exchange import Exchange
from swarmgate.http.moment import moment
from swarmgate.http.tries import Chooser, status_of
from swarmgate.http.upstream import Upstream, UpstreamSettings
from swarmgate.http2.codec import PREFACE
from swarmgate.http2.server_connection import Http2ServerConnection
from swarmgate.transport.network import Network

#: Exchanges that wait for the same connection to be made.
_WAITING_AT_MOST = 100


class Http2Upstream(Upstream):
    """A server that speaks HTTP/2, with prior knowledge (RFC 9113, 3.3)."""

    def __init__(self, url: str, network: Network, deadlines: Deadlines, settings: UpstreamSettings) -> None:
        super().__init__(url, network, deadlines, settings)
        self._connections: list[Http2ServerConnection] = []
        self._attempt: Attempt | None = None

    def send(self, exchange: Exchange, chooser: Chooser, fresh: bool = False) -> None:
        if exchange.request.upgrade:
            # Websockets go over a connection of their own, as in Traefik.
            super().send(exchange, chooser, fresh)
            return
        if self.watch is not None:
            chooser = self.watch(exchange, chooser, self)
        exchange.server = self.url
        exchange.origin_started = moment()
        self.in_flight += 1
        if self.failures:
            self._begin_trial()
        for connection in self._connections:
            if connection.has_room():
                connection.send(exchange, chooser)
                return
        attempt = self._attempt
        if attempt is None or len(attempt.waiting) >= _WAITING_AT_MOST:
            attempt = self._attempt = Attempt(self)
            waiting = attempt.add(exchange, chooser)
            within = self.settings.connect_timeout * chooser.share_of_time(exchange)
            self.connect(attempt, within, attempt.failed)
        else:
            waiting = attempt.add(exchange, chooser)
        if not waiting.is_over:
            exchange.connection = waiting

    def connect(self, attempt: Attempt, within: float, failed: Callable[[Exception], None]) -> None:
        """Make the connection of *attempt* within so many seconds."""
        self._network.connect(self.host, self.port, within, attempt.connection, failed)

    def over(self, attempt: Attempt) -> None:
        """Nobody waits for *attempt* any more."""
        if self._attempt is attempt:
            self._attempt = None

    def connected(self, attempt: Attempt) -> None:
        """A connection has been made for the exchanges that wait for it."""
        self._reached()
        self.over(attempt)
        connection = attempt.connection
        if self.retired:
            connection.retire()
        else:
            self._connections.append(connection)
        for waiting in attempt.waiting:
            waiting.is_over = True
            if waiting.cancelled:
                self.in_flight -= 1
            else:
                connection.send(waiting.exchange, waiting.chooser)
        if connection.is_idle():
            self._keep(connection)

    def not_connected(self, attempt: Attempt, error: Exception) -> None:
        """The server could not be reached."""
        self.over(attempt)
        self._not_reached(error)
        for waiting in attempt.waiting:
            self.in_flight -= 1
            waiting.is_over = True
            if not waiting.cancelled:
                waiting.exchange.connection = None
                waiting.chooser.try_next(waiting.exchange, status_of(error))

    def _keep(self, connection: Http2ServerConnection) -> None:
        timeout = self.settings.idle_timeout
        if self.retired:
            connection.close()
        elif timeout:
            connection.deadline = self.deadlines.now + timeout

    def probe(self) -> None:
        self._leave_for_trial()
        attempt = Attempt(self)
        within = self.settings.connect_timeout
        self.connect(attempt, within, self._probe_failed)

    def doubt(self) -> None:
        if not self._connections:
            super().doubt()

    def question_octets(self) -> bytes:
        # Whoever speaks HTTP/2 answers the preface with settings.
        return PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"

    def ends(self, connection: Http2ServerConnection) -> None:
        """*connection* takes no more exchanges."""
        if connection in self._connections:
            self._connections.remove(connection)

    def _drop_idle(self) -> None:
        super()._drop_idle()
        for connection in list(self._connections):
            if connection.is_idle():
                connection.close()
            elif self.retired:
                connection.retire()

    def idle(self) -> int:
        return super().idle() + sum(connection.is_idle() for connection in self._connections)


class Attempt:
    """A connection that is being made, and who waits for it."""

    __slots__ = ("_upstream", "connection", "waiting")

    def __init__(self, upstream: Http2Upstream) -> None:
        self._upstream = upstream
        self.waiting: list[_Waiting] = []
        self.connection = Http2ServerConnection(upstream)
        self.connection.made = self._made

    def add(self, exchange: Exchange, chooser: Chooser) -> _Waiting:
        """Let *exchange* wait."""
        waiting = _Waiting(exchange, chooser)
        self.waiting.append(waiting)
        return waiting

    def _made(self) -> None:
        self._upstream.connected(self)

    def failed(self, error: Any) -> None:
        """It did not come about."""
        self._upstream.not_connected(self, error)


class _Waiting:
    """An exchange that waits for a connection."""

    __slots__ = ("cancelled", "chooser", "exchange", "is_over")

    def __init__(self, exchange: Exchange, chooser: Chooser) -> None:
        self.exchange = exchange
        self.chooser = chooser
        self.cancelled = False
        self.is_over = False

    def cancel(self) -> None:
        """The client has left."""
        self.cancelled = True
