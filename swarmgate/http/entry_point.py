"""A listening address with its clients, from start to drained."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from swarmgate.http.admission import Admission, TurnedAway
from swarmgate.http.client import ClientConnection, ClientSettings
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.errors import BadRequest
from swarmgate.http.exchange import Exchange
from swarmgate.http.greeting import Acceptor, Greeting, SecureSite
from swarmgate.http.per_address import ConnectionsPerAddress
from swarmgate.transport.network import ListeningSocket, Network

if TYPE_CHECKING:
    from swarmgate.http.proxied import Proxied

_log = Logger()
#: Seconds in which connections that are half made are made.
_HALF_MADE_WITHIN = 0.25
#: Seconds in which connections from the queue of a closed socket are taken over.
_QUEUE_WITHIN = 0.05
#: Seconds that a tunnel has to close, after it has been told to.
_CLOSE_WITHIN = 1.0


@attrs.frozen
class LifeCycle:
    """How an entry point ends (Traefik ``transport.lifeCycle``); seconds.

    :ivar accept_for: how long connections are still accepted (``requestAcceptGraceTimeout``).
    :ivar finish_within: how long what is under way may then take (``graceTimeOut``).
    """

    accept_for: float = 0.0
    finish_within: float = 10.0


class EntryPoint(Service):
    """Accepts clients and hands their requests to *serve*.

    :ivar draining: it is being stopped; clients are told to come back elsewhere.
    :ivar refusals: how many requests were refused, by reason.
    :ivar turns_away: new connections are answered with 503, or, if they begin with TLS, closed.
    :ivar proxied: makes the protocol for connections that may begin with a PROXY header; None: none does.
    :ivar acceptor: decides what TLS clients get, None if TLS is not spoken; for clients that are yet to come.
    :ivar protocols: what makes the protocol for clients with which ALPN has agreed on a name; all others speak
        HTTP/1.1.
    """

    def __init__(
        self,
        network: Network,
        clock: IReactorTime,
        host: str,
        port: int,
        settings: ClientSettings,
        deadlines: Deadlines,
        serve: Callable[[Exchange], None],
        record: Callable[[Exchange], None] | None = None,
        life_cycle: LifeCycle | None = None,
        reuse_port: bool = False,
        serve_secure: Callable[[Exchange], None] | None = None,
        record_refused: Callable[[Exchange], None] | None = None,
        admission: Admission | None = None,
    ) -> None:
        """
        :param admission: stops it from accepting while there is no room.
        :param serve_secure: answers requests that came over TLS; *serve* if it isn't given.
        :param record_refused: gets what is known of requests that were refused before they were one.
        """
        self.name = settings.entry_point
        # Given.
        self.serve = serve
        self.serve_secure = serve_secure or serve
        if record is not None:
            self.finished = record  # type: ignore[method-assign, assignment]
        self._record_refused = record_refused
        self._network = network
        self._clock = clock
        self._address = (host, port)
        self._settings = settings
        self._deadlines = deadlines
        self._life_cycle = life_cycle or LifeCycle()
        self._reuse_port = reuse_port
        self._admission = admission
        if admission is not None:
            admission.add(self)
        # Per process.
        self.turns_away = False
        self.proxied: Callable[[EntryPoint, Deadlines, float], Proxied] | None = None
        self.acceptor: Acceptor | None = None
        self.protocols: dict[bytes | None, Callable[[SecureSite, ClientSettings, Deadlines], Any]] = {}
        self._secure_settings = attrs.evolve(settings, secure=True)
        self._secure_sites: dict[str, SecureSite] = {}
        self.draining = False
        self.refusals: Counter[str] = Counter()
        self._listening: list[ListeningSocket] = []
        self._connections: set[ClientConnection | Greeting | Proxied] = set()
        self._empty: Deferred[None] | None = None
        self._too_late: Any = None

    def reconfigure(
        self,
        settings: ClientSettings,
        life_cycle: LifeCycle,
        record: Callable[[Exchange], None] | None,
        record_refused: Callable[[Exchange], None] | None = None,
    ) -> None:
        """Treat clients that come from now on by other settings; *record* gets all exchanges that end from now on."""
        self._record_refused = record_refused
        self._settings = settings
        self._secure_settings = attrs.evolve(settings, secure=True)
        self._life_cycle = life_cycle
        if record is not None:
            self.finished = record  # type: ignore[method-assign, assignment]
        elif "finished" in self.__dict__:
            del self.finished

    def limit_connections(self, limit: ConnectionsPerAddress) -> None:
        """Let *limit* decide which connections may be there, from now on."""

        def opened(connection: ClientConnection | Greeting | Proxied) -> None:
            self._connections.add(connection)
            if not limit.opened(connection):
                self.refusals["too many connections of one address"] += 1
                connection.abort()

        def closed(connection: ClientConnection | Greeting | Proxied) -> None:
            limit.closed(connection)
            EntryPoint.closed(self, connection)

        # Without a limit, nothing is looked at.
        self.opened = opened  # type: ignore[method-assign]
        self.closed = closed  # type: ignore[method-assign]

    # http.client's Site.

    def finished(self, exchange: Exchange) -> None:
        """Nobody wants to know. If somebody does, *record* takes this method's place."""

    def opened(self, connection: ClientConnection | Greeting | Proxied) -> None:
        self._connections.add(connection)

    def closed(self, connection: ClientConnection | Greeting | Proxied) -> None:
        self._connections.discard(connection)
        if self._admission is not None and self._admission.is_full:
            self._admission.left()
        if self._empty is not None and not self._connections:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def refused(self, connection: ClientConnection, error: BadRequest) -> None:
        self.refusals[error.reason] += 1
        _log.debug(
            "entry point {name} refused a request of {peer}: {reason}",
            name=self.name,
            peer=connection.client_ip,
            reason=error.reason,
        )
        request = error.request
        if request is not None and self._record_refused is not None:
            request.client_ip = connection.client_ip
            request.reason = error.reason
            exchange = Exchange(connection, request, self._settings.entry_point)
            exchange.status = error.status
            exchange.sent = error.sent
            self._record_refused(exchange)

    # Its life.

    @inlineCallbacks
    def listen(self, bound: Sequence[socket.socket] = ()) -> Any:
        """Start to accept clients. Returns a Deferred that fails with :exc:`OSError` if the address can't be had.

        :param bound: sockets that listen already; whoever gives them tells of it, and turns clients away from them.
        """
        host, port = self._address
        for one in bound:
            listening = yield self._network.listen(host, port, self._connection, bound=one)
            self._listening.append(listening)
        if bound:
            self._reuse_port = False
            return
        listening = yield self._network.listen(host, port, self._connection, reuse_port=self._reuse_port)
        self._listening.append(listening)
        _log.info("entry point {name} listens on {host}:{port}", name=self.name, host=host or "*", port=self.port())

    def _connection(self) -> Any:
        if self._admission is not None:
            self._admission.arrived()
        if self.proxied is not None:
            return self.proxied(self, self._deadlines, self._settings.head_timeout)
        return self.greeting()

    # What an Admission tells.

    def pause_accepting(self) -> None:
        """Leave new connections with the kernel."""
        for listening in self._listening:
            listening.pause()

    def resume_accepting(self) -> None:
        """Accept again."""
        for listening in () if self.draining else self._listening:
            listening.resume()

    def idle(self) -> list[Any]:
        """The connections that wait for a request of which nothing has come."""
        return [connection for connection in self._connections if getattr(connection, "is_idle", bool)()]

    # proxied's Door.

    def announced(self, connection: Proxied) -> None:
        """*connection* has been accepted, and its peer is about to say whose it is: until then it is nobody's."""
        self._connections.add(connection)

    def greeting(self) -> Any:
        """The protocol for a client that has said nothing yet."""
        if self.turns_away:
            self.refusals["overload: connection"] += 1
            return TurnedAway(self._deadlines)
        if self.acceptor is not None:
            return Greeting(self, self.acceptor, self._deadlines, self._settings.head_timeout)
        return self.plain()

    # greeting's Door.

    def plain(self) -> ClientConnection:
        """The protocol for a client that speaks no TLS."""
        return ClientConnection(self, self._settings, self._deadlines)

    def secured(self, options: str, negotiated: bytes | None) -> Any:
        """The protocol for a client that speaks TLS under the options of that name.

        :param negotiated: what ALPN has agreed on.
        """
        site = self._secure_sites.get(options)
        if site is None:
            site = self._secure_sites[options] = SecureSite(self, options)
        return self.protocols.get(negotiated, ClientConnection)(site, self._secure_settings, self._deadlines)

    def sockets(self) -> list[socket.socket]:
        """The sockets that it listens on."""
        return [listening.shared() for listening in self._listening]

    def port(self) -> int:
        """The port number that it listens on."""
        return self._listening[0].port()

    @inlineCallbacks
    def stopService(self) -> Any:
        """Drain. Returns a Deferred that fires when the last client has gone, or been sent away."""
        Service.stopService(self)
        if not self._listening:
            return
        self.draining = True
        if self._reuse_port:
            for listening in self._listening:
                listening.turn_away()
        if self._life_cycle.accept_for or self._reuse_port:
            yield deferLater(self._clock, max(self._life_cycle.accept_for, _HALF_MADE_WITHIN * self._reuse_port))
        for listening in self._listening:
            listening.close()
        # Those that the kernel had accepted already come in now.
        yield deferLater(self._clock, _QUEUE_WITHIN)
        for connection in list(self._connections):
            connection.close_when_idle()
        if self._connections:
            self._empty = Deferred()
            self._too_late = self._clock.callLater(self._life_cycle.finish_within, self._send_away)
            yield self._empty
            if self._too_late.active():
                self._too_late.cancel()

    def _send_away(self) -> None:
        _log.warn(
            "entry point {name}: {count} connections were not finished in time and are closed",
            name=self.name,
            count=len(self._connections),
        )
        for connection in list(self._connections):
            connection.send_away()
        # Tunnels are closed in good order, which their other ends may not answer.
        self._too_late = self._clock.callLater(_CLOSE_WITHIN, self._cut_off)

    def _cut_off(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return sum(connection.in_flight for connection in self._connections)
