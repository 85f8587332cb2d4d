"""A network in memory: the gate's own protocols, with tests as clients and servers at the other ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from swarmgate.balancing.member import Member
from swarmgate.balancing.strategies import Rotation
from swarmgate.dynamic.model import Balancing, Server
from swarmgate.http.client import ClientConnection, ClientSettings
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.errors import BadRequest
from swarmgate.http.exchange import Exchange
from swarmgate.http.forwarded import ForwardedPolicy
from swarmgate.http.upstream import Upstream, UpstreamSettings
from swarmgate.http2.upstream import Http2Upstream
from swarmgate.resources.proxy import ReverseProxyResource
from swarmgate.resources.waiting import WaitingRoom
from swarmgate.transport.turn_end import TurnEnd


class MemoryTurn:
    """A turn of a loop that the test ends."""

    def __init__(self) -> None:
        self._calls: list[Any] = []
        self.turn_end = TurnEnd(self._calls.append)

    def end(self) -> None:
        """All that has come in the turn was read."""
        while self._calls:
            self._calls.pop(0)()


class MemoryTransport:
    """One end of a connection; the test plays the other.

    :ivar written: what the protocol has sent, when the turn of the loop has ended: to look at it ends the turn.
    :ivar paused: the protocol reads no more for now.
    :ivar closed: how the protocol has closed: ``None``, ``"lost"`` or ``"aborted"``.
    :ivar half_closed: it has said that it sends no more.
    """

    def __init__(self, protocol: Any, peer: str = "192.0.2.7", turn: MemoryTurn | None = None) -> None:
        self.protocol = protocol
        self.writes: list[bytes] = []
        self._turn = turn or MemoryTurn()
        self.paused = False
        self.closed: str | None = None
        self.half_closed = False
        self.disconnecting = False
        self.producer: Any = None
        self._peer = IPv4Address("TCP", peer, 50000)
        self._gone = False

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        if not self.closed:
            self.writes.append(data)

    @property
    def written(self) -> bytes:
        self._turn.end()
        return b"".join(self.writes)

    def take(self) -> bytes:
        """What was written since the last call."""
        written, self.writes = self.written, []
        return written

    def loseConnection(self) -> None:
        if not self.closed:
            self.closed = "lost"
            self.disconnecting = True

    def abortConnection(self) -> None:
        if self.closed != "aborted":
            self.closed = "aborted"
            self.disconnecting = True

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def getPeer(self) -> Any:
        return self._peer

    getHost = getPeer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    # What the other end does.

    def receive(self, data: bytes) -> None:
        """The other end has sent *data*."""
        self.protocol.dataReceived(data)

    def settle(self) -> None:
        """Tell the protocol that the connection it has closed is closed."""
        if self.closed and not self._gone:
            self._gone = True
            self.protocol.connectionLost(Failure(ConnectionDone()))

    def end(self) -> None:
        """The other end closes in good order."""
        if not self._gone:
            if hasattr(self.protocol, "readConnectionLost"):
                self.protocol.readConnectionLost()
            else:
                self._gone = True
                self.protocol.connectionLost(Failure(ConnectionDone()))

    def reset(self) -> None:
        """The connection breaks."""
        if not self._gone:
            self._gone = True
            self.closed = "aborted"
            self.protocol.connectionLost(Failure(ConnectionLost()))


class MemoryNetwork:
    """A network on which the test decides what becomes of each connect.

    :ivar connecting: ``(host, port, protocol, failed)`` of connects that have no answer yet.
    :ivar servers: the gate's ends of the connections that were made, in order.
    :ivar accepts: whether connects succeed at once.
    """

    turn_end = None

    def __init__(self, turn: MemoryTurn | None = None) -> None:
        self._turn = turn
        self.connecting: list[tuple[str, int, Any, Any]] = []
        self.servers: list[MemoryTransport] = []
        self.accepts = True

    def listen(self, *args: Any, **options: Any) -> Any:
        raise AssertionError("a network in memory is not listened on: MemoryGate.client() makes connections")

    def connect(self, host: str, port: int, timeout: float, protocol: Any, failed: Any) -> None:
        self.connecting.append((host, port, protocol, failed))
        if self.accepts:
            self.accept()

    def accept(self) -> MemoryTransport:
        """The oldest connect succeeds."""
        host, _, protocol, _ = self.connecting.pop(0)
        transport = MemoryTransport(protocol, host, self._turn)
        self.servers.append(transport)
        protocol.makeConnection(transport)
        return transport

    def refuse(self, error: Exception | None = None) -> None:
        """The oldest connect fails."""
        self.connecting.pop(0)[3](error or ConnectionRefusedError("refused"))


def members_of(upstreams: Iterable[Upstream], weights: Mapping[str, int] | None = None) -> list[Member]:
    """A member for each of *upstreams*, of weight 1 if *weights* does not say otherwise of its URL."""
    return [Member(Server(one.url, (weights or {}).get(one.url, 1)), one, lambda: 0.5) for one in upstreams]


class MemoryGate:
    """An entry point and one service on a network in memory.

    :ivar finished: the exchanges that have ended.
    :ivar refusals: the errors of requests that were refused.
    """

    draining = False

    def __init__(
        self,
        servers: tuple[str, ...] = ("http://10.0.0.1:80",),
        upstream: UpstreamSettings | None = None,
        trusted: bool = False,
        balancing: Balancing | None = None,
        **client: Any,
    ) -> None:
        self.clock = Clock()
        self.turn = MemoryTurn()
        self.deadlines = Deadlines(self.clock, turn_end=self.turn.turn_end)
        self.network = MemoryNetwork(self.turn)
        self.settings = ClientSettings("web", ForwardedPolicy(b"gate", insecure=trusted), **client)
        self.upstreams = [
            (Http2Upstream if url.startswith("h2c:") else Upstream)(
                url, self.network, self.deadlines, upstream or UpstreamSettings()
            )
            for url in servers
        ]
        self.leaf: Any = ReverseProxyResource(
            "app@test", members_of(self.upstreams), Rotation(), WaitingRoom(self.deadlines), balancing or Balancing()
        )
        self.finished_exchanges: list[Exchange] = []
        self.refusals: list[BadRequest] = []
        self.connections: set[ClientConnection] = set()

    def client(self) -> MemoryTransport:
        """A new client's connection, as seen from the gate's end."""
        protocol = ClientConnection(self, self.settings, self.deadlines)
        transport = MemoryTransport(protocol, turn=self.turn)
        protocol.makeConnection(transport)
        return transport

    @property
    def server(self) -> MemoryTransport:
        """The newest connection to a server."""
        return self.network.servers[-1]

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass, tick by tick."""
        for _ in range(int(seconds / 0.25)):
            self.clock.advance(0.25)

    def serve(self, exchange: Exchange) -> None:
        self.leaf.serve(exchange)

    def opened(self, connection: ClientConnection) -> None:
        self.connections.add(connection)

    def closed(self, connection: ClientConnection) -> None:
        self.connections.discard(connection)

    def finished(self, exchange: Exchange) -> None:
        self.finished_exchanges.append(exchange)

    def refused(self, connection: ClientConnection, error: BadRequest) -> None:
        self.refusals.append(error)


GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
