"""Servers as the gate knows them at run time: their connections, pooled, and whether they can be reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from swarmgate.http.deadlines import NEVER, Deadlines
from swarmgate.http.exchange import Exchange
from swarmgate.http.moment import moment
from swarmgate.http.server_connection import ServerConnection
from swarmgate.http.tries import Chooser, is_own_fault, status_of
from swarmgate.transport.network import Network
from swarmgate.transport.tls import HandshakeError


@attrs.frozen
class UpstreamSettings:
    """How servers are connected to (Traefik ``serversTransport``); times in seconds.

    :ivar connect_timeout: until a connection is there (``forwardingTimeouts.dialTimeout``).
    :ivar response_timeout: from the request to the head of its answer (``responseHeaderTimeout``); 0 for ever.
    :ivar silence_timeout: a server that says nothing for so long, though it was asked, is asked whether it is there;
        0 for never.
    :ivar progress_timeout: the longest pause within a body, in either direction; 0 for ever.
    :ivar idle_timeout: how long an unused connection is kept (``idleConnTimeout``); 0 for ever.
    :ivar idle_connections: how many unused ones are kept for each server (``maxIdleConnsPerHost``).
    """

    connect_timeout: float = 3.0
    response_timeout: float = 60.0
    silence_timeout: float = 1.0
    progress_timeout: float = 60.0
    idle_timeout: float = 90.0
    idle_connections: int = 200


#: How long a server that could not be reached is left alone at first, and at most; each failure doubles it. Seconds.
_OUT_AT_FIRST = 0.25
_OUT_AT_MOST = 10.0
#: For so many seconds a new server is taken to be starting: it is tried often.
_STARTING = 10.0
#: Seconds after which a server that is starting is tried again.
_STARTS_AFTER = 0.1
#: So many connections in a row that break before an answer cost a server its place.
_BREAKS_AT_MOST = 3
#: Seconds that a silent server has to show that it is there, and for which it is then taken to be.
_SHOW_WITHIN = 1.5
_SHOWN_FOR = 3.0


class Upstream:
    """A server as the gate knows it at run time: its connections, and what they have taught.

    :ivar url: of the server.
    :ivar settings: see :meth:`reconfigure`.
    :ivar response_timeout: as its settings have it, but :data:`.NEVER` for ever; :ivar silence_timeout: when an answer
        that has not come is looked for.
    :ivar in_flight: exchanges that it is answering.
    :ivar failures: how often in a row it could not be used. While it is not 0 the server is out of the rotation.
    :ivar is_silent: it takes requests, or seems to, and says nothing, not even on being asked whether it is there.
    :ivar is_troubled: something went wrong since its last answer.
    :ivar is_doubtful: it has closed its connections, and it is not known yet whether it accepts others.
    :ivar heard: when it last answered, in seconds of :attr:`Deadlines.now`.
    :ivar watch: gets each exchange before it is sent, with whoever is to be told how it goes, and gives who is to be
        told in place of that; None if nobody wants to know.
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
        self.deadlines = deadlines
        self.reconfigure(settings)
        self.in_flight = 0
        self.watch: Callable[[Exchange, Chooser, Upstream], Chooser] | None = None
        self.retired = False
        self._network = network
        self._idle: list[ServerConnection] = []
        # What is known of how it does.
        self.failures = 0
        self.is_silent = False
        self.is_troubled = False
        self.is_doubtful = False
        self.heard = -NEVER
        self._breaks = 0
        self._shown = -NEVER
        self._questioned = False
        self._born = deadlines.now
        self._out_until = 0.0

    def reconfigure(self, settings: UpstreamSettings) -> None:
        """Go by *settings* from now on."""
        self.settings = settings
        self.response_timeout = settings.response_timeout or NEVER
        self.silence_timeout = settings.silence_timeout or self.response_timeout
        self._idle_timeout = settings.idle_timeout or NEVER
        self._idle_connections = settings.idle_connections

    def send(self, exchange: Exchange, chooser: Chooser, fresh: bool = False) -> None:
        """Ask the server, over a kept connection if there is one and *fresh* does not forbid it."""
        if self.watch is not None:
            chooser = self.watch(exchange, chooser, self)
        exchange.server = self.url
        exchange.origin_started = moment()
        self.in_flight += 1
        if self.failures:
            self._begin_trial()
        if self._idle and not fresh:
            self._idle.pop().send(exchange, chooser)
        else:
            self._connect(exchange, chooser)

    def _connect(self, exchange: Exchange, chooser: Chooser) -> None:
        connection = ServerConnection(self)
        connecting = _Connecting()
        exchange.connection = connecting

        def made() -> None:
            self._reached()
            if connecting.cancelled:
                self.in_flight -= 1
                self.release(connection)
            else:
                connection.send(exchange, chooser)

        def failed(error: Exception) -> None:
            self.in_flight -= 1
            self._not_reached(error)
            if not connecting.cancelled:
                exchange.connection = None
                chooser.try_next(exchange, status_of(error))

        connection.made = made
        within = self.settings.connect_timeout * chooser.share_of_time(exchange)
        self._network.connect(self.host, self.port, within, connection, failed)

    # How it does.

    def _begin_trial(self) -> None:
        """An exchange is its trial; until that has ended there is no other."""
        self._out_until = max(self._out_until, self.deadlines.now + self.settings.connect_timeout)

    def probe(self) -> None:
        """Leave the server out until it accepts a connection, which is then kept for the first exchange."""
        connection = ServerConnection(self)

        def made() -> None:
            self._reached()
            self.release(connection)

        self._leave_for_trial()
        connection.made = made
        self._network.connect(self.host, self.port, self.settings.connect_timeout, connection, self._probe_failed)

    def _probe_failed(self, error: Exception) -> None:
        self._not_reached(error)
        if self.deadlines.now - self._born < _STARTING:
            # It will soon listen, and shall then not have to wait for a request to find out.
            self.deadlines.call_later(_STARTS_AFTER, self._probe_again)

    def _probe_again(self) -> None:
        if self.failures and not self.retired and self._out_until != NEVER:
            self.probe()

    def _leave_for_trial(self) -> None:
        self.failures = max(self.failures, 1)
        self.is_troubled = True
        self._out_until = NEVER

    def question(self) -> None:
        """The server has been silent: find out whether it is there at all.

        It is asked ``OPTIONS *``, which is made for that (RFC 9110, 9.3.7); whatever it says, or if it just closes the
        connection, it is there. A process that is paused, or a machine that is unplugged, says nothing.
        """
        now = self.deadlines.now
        recently = now - self.heard < self.settings.silence_timeout or now - self._shown < _SHOWN_FOR
        if self._questioned or self.is_silent or recently:
            return
        self._ask()

    def _ask(self) -> None:
        self._questioned = True
        question = _Question(self)
        self.deadlines.add(question)
        self._network.connect(self.host, self.port, _SHOW_WITHIN, question, question.failed)

    def question_octets(self) -> bytes:
        """What it is asked."""
        return b"OPTIONS * HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % self.authority

    def showed(self, is_there: bool) -> None:
        """It was questioned, and has shown to be there, or not."""
        self._questioned = False
        if is_there:
            self._shown = self.deadlines.now
            if self.is_silent:
                self.recovered()
            return
        self.is_silent = True
        self._failed()
        self._drop_idle()

    def may_be_tried(self) -> bool:
        """Whether a server that is out may get an exchange now, as its trial.

        One that could not be reached is tried without an exchange first, which asking sets off when it is time.
        """
        if self.deadlines.now < self._out_until:
            return False
        if self._breaks:
            return True
        if self.is_silent:
            self._out_until = NEVER
            self._ask()
        else:
            self.probe()
        return False

    def doubt(self) -> None:
        """A kept connection turned out closed: see whether it accepts another before it gets requests over one.

        Most servers close what is idle for long; but one whose container was killed would keep whoever connects to it
        waiting, for nobody is there to refuse.
        """
        if not self._idle and not self.failures:
            self.failures = 1
            self.is_doubtful = self.is_troubled = True
            self._out_until = -NEVER

    def broke(self) -> None:
        """It has taken a request over a new connection and broken that before it answered."""
        self._breaks += 1
        self.is_troubled = True
        if self._breaks >= _BREAKS_AT_MOST:
            self._leave_out()

    def recovered(self) -> None:
        """It has answered."""
        self.failures = self._breaks = 0
        self.is_silent = self.is_doubtful = self.is_troubled = False

    def _reached(self) -> None:
        """It has accepted a connection; whether it answers is another question if that was its trouble."""
        if not self._breaks:
            self.recovered()

    def _not_reached(self, error: Exception) -> None:
        if not is_own_fault(error):
            self._failed()
        elif self.failures:
            # Nothing was learned from the trial: the next one may begin soon.
            self._out_until = self.deadlines.now + _OUT_AT_FIRST

    def _failed(self) -> None:
        """It could not be reached."""
        self._breaks = 0
        self._leave_out()

    def _leave_out(self) -> None:
        now = self.deadlines.now
        self.is_doubtful = False
        self.failures += 1
        self.is_troubled = True
        out = min(_OUT_AT_MOST, _OUT_AT_FIRST * 2 ** min(self.failures - 1, 10))
        self._out_until = now + (_OUT_AT_FIRST if now - self._born < _STARTING else out)

    # Its connections.

    def release(self, connection: ServerConnection) -> None:
        """Keep *connection*, which has nothing under way, for the next exchange."""
        if self.retired or len(self._idle) >= self._idle_connections:
            connection.close()
            return
        connection.deadline = self.deadlines.now + self._idle_timeout
        connection.was_kept = True
        self._idle.append(connection)

    def forget(self, connection: ServerConnection) -> None:
        """*connection* is no more, at our own wish."""
        if connection in self._idle:
            self._idle.remove(connection)

    def lost(self, connection: ServerConnection) -> None:
        """The server has closed *connection*, which was kept; if that was the last, perhaps because it has ended."""
        if connection in self._idle:
            self._idle.remove(connection)
            self.doubt()

    def retire(self) -> None:
        """Take no new exchanges, close what is idle; what is under way is finished."""
        self.retired = True
        self._drop_idle()

    def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def idle(self) -> int:
        """How many connections are kept."""
        return len(self._idle)

    def __repr__(self) -> str:
        state = "retired" if self.retired else "in use"
        return f"<Upstream {self.url} {state}: {self.in_flight} in flight, {len(self._idle)} idle>"


@implementer(IProtocol)
class _Question:
    """A connection that asks a server whether it is there."""

    factory = None

    def __init__(self, upstream: Upstream) -> None:
        self._upstream: Upstream | None = upstream
        self._deadlines = upstream.deadlines
        self.deadline = self._deadlines.now + _SHOW_WITHIN
        self.transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        if self._upstream is None:  # A handshake may have taken longer than there was time.
            self.transport.abortConnection()
        else:
            self.transport.write(self._upstream.question_octets())

    def failed(self, error: Exception) -> None:
        """There is no connection. Who refuses a handshake is there, however."""
        self._told(isinstance(error, HandshakeError) or is_own_fault(error))

    def dataReceived(self, data: bytes) -> None:
        self._told(True)
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        self._told(True)

    def overdue(self) -> None:
        """Called by :class:`~swarmgate.http.deadlines.Deadlines`."""
        self._told(False)
        if self.transport is not None:
            self.transport.abortConnection()

    def _told(self, is_there: bool) -> None:
        self._deadlines.discard(self)
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.showed(is_there)


class _Connecting:
    """Stands in for a connection that is not there yet."""

    __slots__ = ("cancelled",)

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
