"""Servers as the gate knows them at run time: their connections, pooled, and whether they can be reached."""

from __future__ import annotations

from time import perf_counter

import attrs

from swarmgate.http.deadlines import NEVER, Deadlines
from swarmgate.http.exchange import Exchange
from swarmgate.http.server_connection import Chooser, ServerConnection
from swarmgate.transport.network import ConnectTimeout, Network


@attrs.frozen
class UpstreamSettings:
    """How servers are connected to (Traefik ``serversTransport``); times in seconds.

    :ivar connect_timeout: until a connection is there (``forwardingTimeouts.dialTimeout``).
    :ivar response_timeout: from the request to the head of its answer (``responseHeaderTimeout``); 0 for ever.
    :ivar progress_timeout: the longest pause within a body, in either direction; 0 for ever.
    :ivar idle_timeout: how long an unused connection is kept (``idleConnTimeout``); 0 for ever.
    :ivar idle_connections: how many unused ones are kept for each server (``maxIdleConnsPerHost``).
    """

    connect_timeout: float = 3.0
    response_timeout: float = 60.0
    progress_timeout: float = 60.0
    idle_timeout: float = 90.0
    idle_connections: int = 200


#: How long a server that could not be reached is left alone at first, and at most; each failure doubles it. Seconds.
_OUT_AT_FIRST = 0.25
_OUT_AT_MOST = 10.0
#: For so many seconds a new server is taken to be starting: it is tried often.
_STARTING = 10.0


class Upstream:
    """A server as the gate knows it at run time: its connections, and what they have taught.

    :ivar url: of the server.
    :ivar in_flight: exchanges that it is answering.
    :ivar failures: how often in a row it could not be reached. While it is not 0 the server is out of the rotation,
        but for a single trial now and then.
    :ivar retired: no table names it any more; it is left when its last exchange has ended.
    """

    def __init__(self, url: str, network: Network, deadlines: Deadlines, settings: UpstreamSettings) -> None:
        scheme, _, authority = url.partition("://")
        self.url = url
        self.scheme = scheme
        self.authority = authority.encode("ascii")
        host, _, port = authority.rpartition(":")
        self.host = host.strip("[]")
        self.port = int(port)
        self.settings = settings
        self.deadlines = deadlines
        self.in_flight = 0
        self.failures = 0
        self.retired = False
        self._born = deadlines.now
        self._out_until = 0.0
        self._network = network
        self._idle: list[ServerConnection] = []

    def send(self, exchange: Exchange, chooser: Chooser, fresh: bool = False) -> None:
        """Ask the server, over a kept connection if there is one and *fresh* does not forbid it."""
        exchange.server = self.url
        exchange.origin_started = perf_counter()
        self.in_flight += 1
        if self._idle and not fresh:
            self._idle.pop().send(exchange, chooser)
        else:
            self._connect(exchange, chooser)

    def _connect(self, exchange: Exchange, chooser: Chooser) -> None:
        connection = ServerConnection(self)
        connecting = _Connecting()
        exchange.connection = connecting

        def made() -> None:
            self.failures = 0
            if connecting.cancelled:
                self.in_flight -= 1
                self.release(connection)
            else:
                connection.send(exchange, chooser)

        def failed(error: Exception) -> None:
            self.in_flight -= 1
            self._failed()
            if not connecting.cancelled:
                exchange.connection = None
                chooser.try_next(exchange, 504 if isinstance(error, ConnectTimeout) else 502)

        connection.made = made
        self._network.connect(self.host, self.port, self.settings.connect_timeout, connection, failed)

    def probe(self) -> None:
        """Leave the server out until it accepts a connection, which is then kept for the first exchange."""
        connection = ServerConnection(self)

        def made() -> None:
            self.failures = 0
            self.release(connection)

        self.failures = 1
        self._out_until = NEVER
        connection.made = made
        self._network.connect(
            self.host, self.port, self.settings.connect_timeout, connection, lambda error: self._failed()
        )

    def _failed(self) -> None:
        """The server could not be reached."""
        now = self.deadlines.now
        self.failures += 1
        out = min(_OUT_AT_MOST, _OUT_AT_FIRST * 2 ** min(self.failures - 1, 10))
        self._out_until = now + (_OUT_AT_FIRST if now - self._born < _STARTING else out)

    def is_due_for_trial(self) -> bool:
        """Whether a server that is out may be tried by one exchange now; asking takes the trial."""
        now = self.deadlines.now
        if now < self._out_until:
            return False
        self._out_until = now + self.settings.connect_timeout
        return True

    def release(self, connection: ServerConnection) -> None:
        """Keep *connection*, which has nothing under way, for the next exchange."""
        if self.retired or len(self._idle) >= self.settings.idle_connections:
            connection.close()
            return
        timeout = self.settings.idle_timeout
        connection.deadline = self.deadlines.now + timeout if timeout else NEVER
        connection.was_kept = True
        self._idle.append(connection)

    def forget(self, connection: ServerConnection) -> None:
        """*connection* is no more."""
        if connection in self._idle:
            self._idle.remove(connection)

    def retire(self) -> None:
        """Take no new exchanges, close what is idle; what is under way is finished."""
        self.retired = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def idle(self) -> int:
        """How many connections are kept."""
        return len(self._idle)

    def __repr__(self) -> str:
        state = "retired" if self.retired else "in use"
        return f"<Upstream {self.url} {state}: {self.in_flight} in flight, {len(self._idle)} idle>"


class _Connecting:
    """Stands in for a connection that is not there yet."""

    __slots__ = ("cancelled",)

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
