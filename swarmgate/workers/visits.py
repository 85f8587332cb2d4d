"""Requests that a worker has its parent answer: for the API, the dashboard, metrics and challenges.

Each connection is a pair of sockets, of which the worker sends one end to the parent (``SCM_RIGHTS``, unix(7)). So
there is no address at which anybody else could knock, and what a worker says of a request's user is believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocol

from swarmgate.http.client import ClientSettings
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.entry_point import EntryPoint
from swarmgate.http.exchange import Exchange
from swarmgate.http.forwarded import ForwardedPolicy
from swarmgate.http.message import Response
from swarmgate.http.paths import PathPolicy
from swarmgate.http.request_head import HeadLimits
from swarmgate.http.upstream import Upstream, UpstreamSettings
from swarmgate.middlewares.chain import Leaf
from swarmgate.transport.native import NativeTransport

#: The field in which a worker tells of a request what its octets don't.
_FIELD = b"Swarmgate-Visit"
#: Sockets that are taken at once.
_AT_ONCE = 32
#: What has passed a worker's limits passes here.
_LIMITS = HeadLimits(1 << 20, 1 << 24, 10_000)
_SETTINGS = UpstreamSettings(
    connect_timeout=5.0, response_timeout=0.0, silence_timeout=0.0, progress_timeout=0.0, idle_timeout=10.0
)


class VisitingNetwork:
    """A :class:`~swarmgate.transport.network.Network` whose only server is the parent.

    :param door: the socket that ends of connections are sent through.
    """

    turn_end = None

    def __init__(self, loop: asyncio.AbstractEventLoop, door: socket.socket) -> None:
        self._loop = loop
        self._door = door
        self._connecting: set[asyncio.Task[None]] = set()

    def listen(self, *given: Any, **options: Any) -> Deferred[Any]:
        """Nobody comes this way."""
        raise NotImplementedError

    def connect(
        self, host: str, port: int, timeout: float, protocol: IProtocol, failed: Callable[[Exception], None]
    ) -> None:
        """Connect *protocol* to the parent."""
        task = self._loop.create_task(self._connect(protocol, failed))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, protocol: IProtocol, failed: Callable[[Exception], None]) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            socket.send_fds(self._door, [b"v"], [theirs.fileno()])
            await self._loop.create_unix_connection(lambda: NativeTransport(protocol), sock=ours)  # type: ignore[type-var]
        except OSError as error:
            ours.close()
            failed(error)
        finally:
            theirs.close()


class Visit:
    """A leaf of a worker's tree: its requests are answered by the parent.

    :param name: the qualified name of the service.
    """

    listens = False

    def __init__(self, name: str, parent: Upstream) -> None:
        self._name = name
        self._parent = parent

    def serve(self, exchange: Exchange) -> None:
        """Send *exchange* on."""
        request = exchange.request
        told = (
            self._name,
            exchange.entry_point,
            exchange.router,
            exchange.user,
            request.client_ip,
            request.forwarded_for.decode("latin-1"),
            request.secure,
        )
        request.fields = [pair for pair in request.fields if pair[0].lower() != _FIELD.lower()]
        request.fields.append((_FIELD, json.dumps(told).encode("ascii")))
        exchange.service = self._name
        self._parent.send(exchange, self)
        exchange.server = ""

    # What chooses among servers (tries.Chooser): there is one.

    def try_next(self, exchange: Exchange, status: int, was_sent: bool = False) -> None:
        exchange.fail(503)

    def has_next(self, exchange: Exchange) -> bool:
        return False

    def share_of_time(self, exchange: Exchange) -> float:
        return 1.0

    def answered(self, exchange: Exchange, response: Response) -> None:
        """Nobody listens."""

    def broke(self, exchange: Exchange) -> None:
        """Nobody listens."""


def parent_upstream(loop: asyncio.AbstractEventLoop, door: socket.socket, deadlines: Deadlines) -> Upstream:
    """The parent, as a server that a worker can ask."""
    return Upstream("http://parent:80", VisitingNetwork(loop, door), deadlines, _SETTINGS)


class Reception:
    """Answers what workers send.

    :param leaves: what answers, by the qualified names of the gate's own services.
    """

    def __init__(
        self, reactor: Any, loop: asyncio.AbstractEventLoop, deadlines: Deadlines, leaves: Mapping[str, Leaf]
    ) -> None:
        self._reactor = reactor
        self._loop = loop
        self._leaves = leaves
        self._adopting: set[asyncio.Task[None]] = set()
        self._doors: set[_Door] = set()
        settings = ClientSettings(
            entry_point="parent",
            forwarded=ForwardedPolicy(b"", insecure=True, append=False),
            limits=_LIMITS,
            paths=PathPolicy((), False),
            underscores="keep",
        )
        self._entry_point = EntryPoint(_NoNetwork(), reactor, "", 0, settings, deadlines, self._serve)

    def open(self) -> socket.socket:
        """The end of a new door that is a worker's."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        door = _Door(ours, self._receive, self._closed)
        self._doors.add(door)
        self._reactor.addReader(door)
        return theirs

    def close(self) -> None:
        """Let nobody in any more."""
        for door in list(self._doors):
            self._closed(door)

    def _closed(self, door: _Door) -> None:
        self._doors.discard(door)
        self._reactor.removeReader(door)
        door.socket.close()

    def _receive(self, descriptor: int) -> None:
        connection = socket.socket(fileno=descriptor)
        connection.setblocking(False)
        task = self._loop.create_task(self._adopt(connection))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def _adopt(self, connection: socket.socket) -> None:
        await self._loop.connect_accepted_socket(lambda: NativeTransport(self._entry_point.plain()), connection)  # type: ignore[type-var]

    def _serve(self, exchange: Exchange) -> None:
        request = exchange.request
        told = next((value for name, value in request.fields if name == _FIELD), None)
        if told is None:
            exchange.fail(400)
            return
        request.fields = [pair for pair in request.fields if pair[0] != _FIELD]
        name, exchange.entry_point, exchange.router, exchange.user, client_ip, forwarded_for, secure = json.loads(told)
        request.client_ip, request.forwarded_for, request.secure = client_ip, forwarded_for.encode("latin-1"), secure
        self._leaves[name].serve(exchange)


class _Door:
    """What the reactor looks at (IReadDescriptor)."""

    def __init__(self, door: socket.socket, receive: Callable[[int], None], closed: Callable[[_Door], None]) -> None:
        self.socket = door
        self._receive = receive
        self._closed = closed

    def fileno(self) -> int:
        return self.socket.fileno()

    def logPrefix(self) -> str:
        return "visits"

    def doRead(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self.socket, 16, _AT_ONCE)
        except BlockingIOError:
            return
        for descriptor in descriptors:
            self._receive(descriptor)
        if not data and not descriptors:
            self._closed(self)

    def connectionLost(self, reason: object) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._closed(self)


class _NoNetwork:
    turn_end = None

    def listen(self, *given: Any, **options: Any) -> Deferred[Any]:
        return succeed(None)

    def connect(self, *given: Any) -> None:
        raise NotImplementedError
