"""Sockets to play the corpus over: the backend that echoes what it saw, and clients that send piece by piece."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Self

from tests.corpus import Complaint, Play, Seen, Wait, answers, echo, judge
from tests.wire import Malformed, Message, read_request

#: How long anything that must happen may take, in seconds.
PATIENCE = 5.0

_CLIENT = re.compile(rb"(?i)\r\nx-real-ip: ([0-9.]+)\r\n")


class Backend:
    """Answers every request with what it took it for, and remembers all that it was sent.

    :ivar seen: the whole requests, by the client that the gate says they came from.
    :ivar oddities: what was no request, by client as far as that can be told.
    """

    def __init__(self) -> None:
        self.seen: dict[bytes, list[Seen]] = {}
        self.oddities: dict[bytes, list[str]] = {}
        self.connections = 0
        self.open: set[_BackendConnection] = set()

    async def listen(self, port: int) -> asyncio.Server:
        """Serve on that loopback port."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: _BackendConnection(self), "127.0.0.1", port, backlog=4096)

    def odd(self, data: bytes, what: str) -> None:
        """Remember *data* that is no request, or only a part of one."""
        found = _CLIENT.search(data)
        self.oddities.setdefault(found[1] if found else b"?", []).append(f"the backend was sent {what}: {data[:200]!r}")

    def gather(self) -> None:
        """Count what has been begun and not ended, on connections still open, as oddities."""
        for connection in self.open:
            connection.gather()


class _BackendConnection(asyncio.Protocol):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        backend.connections += 1
        self._number = backend.connections
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._backend.open.add(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while (found := read_request(self._buffer)) is not None:
                message, self._buffer = found
                self._answer(message)
        except Malformed as error:
            self._backend.odd(self._buffer, f"something malformed ({error})")
            self._buffer = b""
            self._transport.abort()

    def _answer(self, message: Message) -> None:
        seen = Seen(message, self._number)
        self._backend.seen.setdefault(seen.client, []).append(seen)
        body = echo(message)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._transport.write(head if message.start[0] == b"HEAD" else head + body)

    def abort(self) -> None:
        self._transport.abort()

    def gather(self) -> None:
        if self._buffer:
            self._backend.odd(self._buffer, "part of a request")
            self._buffer = b""

    def connection_lost(self, exc: Exception | None) -> None:
        self._backend.open.discard(self)
        self.gather()


class Client(asyncio.Protocol):
    """One connection to the gate, from a loopback address of its own.

    :ivar received: all that came.
    :ivar closed: the gate has closed the connection, cleanly.
    :ivar was_reset: the connection has been reset.
    """

    def __init__(self) -> None:
        self.received = bytearray()
        self.closed = False
        self.was_reset = False
        self._changed: asyncio.Future[None] | None = None
        self._over = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._wake()

    def eof_received(self) -> None:
        self.closed = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self.was_reset = isinstance(exc, ConnectionResetError)
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def send(self, data: bytes) -> None:
        """Send *data* by itself, unless the connection has ended."""
        if not self.transport.is_closing():
            self.transport.write(data)

    async def until(self, reached: Callable[[], bool]) -> bool:
        """Wait until *reached* or the end of the connection; False if neither comes in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while not self._over and not reached():
            self._changed = loop.create_future()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed
            except TimeoutError:
                return False
        return True


class Origin:
    """A backend that is written as a coroutine, which serves one connection; for ``async with``.

    :ivar connections: how many were made to it.
    """

    def __init__(
        self, port: int, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> None:
        self._port = port
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port, backlog=1024)
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        """Break off what is left; raise what a connection's coroutine has raised."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failures and kind is None:
            raise self._failures[0]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._one(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except Exception as error:
            self._failures.append(error)
        finally:
            writer.close()


async def connect(port: int, address: str = "127.0.0.1") -> Client:
    """A client from that loopback address."""
    loop = asyncio.get_running_loop()
    plain = socket.socket()
    plain.setblocking(False)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.bind((address, 0))
    await loop.sock_connect(plain, ("127.0.0.1", port))
    _, client = await loop.create_connection(Client, sock=plain)
    return client


async def barrier(port: int) -> None:
    """Return once the gate has read what was sent before: it reads in order of arrival, and this is the last."""
    client = await connect(port)
    client.send(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    if not await client.until(lambda: client.closed) or not client.received.startswith(b"HTTP/1.1 200"):
        raise AssertionError(f"the gate has stopped answering: {bytes(client.received)!r}")


class Stage:
    """Plays the corpus, many cases at once, through the gate on *port* to *backend*."""

    def __init__(self, port: int, backend: Backend) -> None:
        self._port = port
        self._backend = backend
        self._clients = 0

    async def perform(self, plays: Sequence[Play], together: int = 100) -> list[Complaint]:
        """What went wrong."""
        complaints: list[Complaint] = []
        for first in range(0, len(plays), together):
            complaints += await self._together(plays[first : first + together])
        return complaints

    def _address(self) -> str:
        self._clients += 1
        return f"127.{1 + (self._clients >> 16)}.{self._clients >> 8 & 255}.{self._clients & 255}"

    async def _together(self, plays: Sequence[Play]) -> list[Complaint]:
        addresses = [self._address() for _ in plays]
        clients = await asyncio.gather(*(connect(self._port, address) for address in addresses))
        for step in range(max(len(play.pieces) for play in plays)):
            await self._step(plays, clients, step)
        await asyncio.gather(*(client.until(lambda: False) for client in clients))
        self._backend.gather()
        complaints: list[Complaint] = []
        for play, client, address in zip(plays, clients, addresses, strict=True):
            name = address.encode()
            seen = self._backend.seen.pop(name, [])
            # What a client sends behind its last request meets a closed socket, which the kernel answers with a reset.
            closed = client.closed or (client.was_reset and not play.case.refused)
            found = judge(play, bytes(client.received), closed, seen, name)
            found += self._backend.oddities.pop(name, [])
            client.transport.abort()
            if found:
                complaints.append(Complaint(play, tuple(found)))
        strange = [odd for odds in self._backend.oddities.values() for odd in odds]
        strange += [f"{len(seen)} requests came from {client!r}" for client, seen in self._backend.seen.items()]
        self._backend.oddities.clear()
        self._backend.seen.clear()
        if strange:
            raise AssertionError(f"the backend saw what belongs to no case: {strange}")
        return complaints

    async def _step(self, plays: Sequence[Play], clients: Sequence[Client], step: int) -> None:
        waits = []
        sent = False
        for play, client in zip(plays, clients, strict=True):
            piece = play.pieces[step] if step < len(play.pieces) else b""
            if isinstance(piece, Wait):
                waits.append(client.until(partial(_reached, play, client, piece)))
            elif piece:
                client.send(piece)
                sent = True
        if waits:
            await asyncio.gather(*waits)
        if sent:
            await barrier(self._port)


def _reached(play: Play, client: Client, wait: Wait) -> bool:
    methods = [getattr(one, "method", b"GET") for one in play.plans[0]]
    with contextlib.suppress(Malformed):
        finals, interims, _ = answers(bytes(client.received), methods, client.closed)
        return len(finals) >= wait.finals and interims >= wait.interims
    return True


async def rehearse(port: int, backend_port: int, plays: Iterable[Play]) -> list[Complaint]:
    """Play all of *plays* through the gate on *port*, with a backend on *backend_port*; what went wrong."""
    backend = Backend()
    server = await backend.listen(backend_port)
    try:
        return await Stage(port, backend).perform(list(plays))
    finally:
        server.close()
        for connection in list(backend.open):
            connection.abort()
