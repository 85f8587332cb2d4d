"""Twisted protocols on the transports of an asyncio loop, uvloop's above all.

uvloop calls a protocol's ``data_received``, which it looks up once per connection: giving it the Twisted protocol's
``dataReceived``, and the protocol the loop's own ``write``, leaves nothing in between on the path of the data.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IProtocol, IPushProducer
from twisted.python.failure import Failure

from swarmgate.transport.network import ConnectTimeout
from swarmgate.transport.turn_end import TurnEnd

_DONE = Failure(ConnectionDone())
#: How many connections wait with the kernel at most until they are accepted.
_QUEUE = 1024


def _address(name: Any) -> IAddress:
    if isinstance(name, tuple):
        return IPv6Address("TCP", name[0], name[1]) if ":" in name[0] else IPv4Address("TCP", name[0], name[1])
    return UNIXAddress(name or None)


class NativeTransport:
    """An asyncio protocol to the loop, a Twisted transport to the protocol.

    :param is_clients: who does not read what was written is not read either, unless a producer is held back for it.
    :ivar full: the peer has more than 64 KiB to read yet.
    """

    __slots__ = (
        *("_ended", "_gives_way", "_is_clients", "_paused", "_peer", "_producer", "_protocol", "_socket"),
        *("data_received", "disconnecting", "full", "write"),
    )

    def __init__(self, protocol: IProtocol, is_clients: bool = False) -> None:
        self._protocol: Any = protocol
        self._is_clients = is_clients
        self._producer: IPushProducer | None = None
        self._socket: Any = None
        self._peer: IAddress | None = None
        self._paused = self._gives_way = self._ended = self.full = False
        self.disconnecting = False
        self.data_received = protocol.dataReceived

    # What the loop calls.

    def connection_made(self, transport: Any) -> None:
        self._socket = transport
        self.write = transport.write
        self._protocol.makeConnection(self)

    def connection_lost(self, error: Exception | None) -> None:
        protocol, self._protocol, self._producer = self._protocol, None, None
        self.disconnecting = True
        del self.data_received
        if protocol is not None:
            protocol.connectionLost(_DONE if error is None else Failure(ConnectionLost(str(error))))

    def eof_received(self) -> bool:
        self._ended = True
        half_closed = getattr(self._protocol, "readConnectionLost", None)
        if half_closed is None or self.disconnecting:
            return False
        half_closed()
        return True

    def pause_writing(self) -> None:
        self.full = True
        if self._producer is not None:
            self._producer.pauseProducing()
        elif self._is_unread():
            self._socket.pause_reading()

    def resume_writing(self) -> None:
        self.full = False
        self._read_on()
        if self._producer is not None:
            self._producer.resumeProducing()

    def _is_unread(self) -> bool:
        """Nothing is held back for a client that does not read: at least it shall not ask for more."""
        return self.full and self._is_clients and self._producer is None

    def _read_on(self) -> None:
        # After the peer's end there is nothing to read, but the loop would tell of that end again.
        if not (self._paused or self._gives_way or self._is_unread() or self._ended or self._socket.is_closing()):
            self._socket.resume_reading()

    # What the protocol calls.

    def switch(self, protocol: IProtocol) -> None:
        """From now on it is *protocol* that is told what happens."""
        self._protocol = protocol
        self._producer = None
        self.data_received = protocol.dataReceived
        # The loop looks a protocol's methods up when it is given one.
        self._socket.set_protocol(self)

    def speaks_for(self, peer: IAddress) -> None:
        """From now on it is *peer* that is at the other end, whoever the socket's is."""
        self._peer = peer

    def writeSequence(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def loseConnection(self) -> None:
        self.disconnecting = True
        self._socket.close()

    def abortConnection(self) -> None:
        self.disconnecting = True
        self._socket.abort()

    def loseWriteConnection(self) -> None:
        if not self._socket.is_closing():
            with contextlib.suppress(OSError):
                self._socket.write_eof()

    def getPeer(self) -> IAddress:
        return self._peer or _address(self._socket.get_extra_info("peername"))

    def getHost(self) -> IAddress:
        return _address(self._socket.get_extra_info("sockname"))

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Pause and resume *producer*, a push producer, as the buffer of what is written fills and empties."""
        if not streaming:
            raise ValueError("only push producers are supported")
        self._producer = producer
        if self.disconnecting:
            producer.stopProducing()
        elif self._socket.get_write_buffer_size() > self._socket.get_write_buffer_limits()[1]:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        self._producer = None
        if self._is_unread() and not self._socket.is_closing():
            self._socket.pause_reading()

    def pauseProducing(self) -> None:
        self._paused = True
        if not self._socket.is_closing():
            self._socket.pause_reading()

    def resumeProducing(self) -> None:
        self._paused = False
        self._read_on()

    def give_way(self) -> None:
        """See :func:`~swarmgate.transport.network.give_way`."""
        if not self._gives_way and not self._socket.is_closing():
            self._gives_way = True
            self._socket.pause_reading()
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._gives_way = False
        self._read_on()

    def stopProducing(self) -> None:
        self.loseConnection()


class NativeListening:
    """A :class:`~swarmgate.transport.network.ListeningSocket`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        server: asyncio.AbstractServer,
        make: Callable[[], NativeTransport],
        is_shared: bool = False,
    ) -> None:
        self._is_shared = is_shared
        self._loop = loop
        self._servers = [server]
        self._make = make
        self._adopting: set[asyncio.Task[None]] = set()
        self._paused = self._closed = False
        self._spare: socket.socket | None = None
        bound = server.sockets[0]  # type: ignore[attr-defined]
        self._port = int(bound.getsockname()[1])
        # The same socket once more: what waits in its queue can be taken after the server has been closed.
        self._queue = socket.socket(fileno=os.dup(bound.fileno()))

    def port(self) -> int:
        return self._port

    def shared(self) -> socket.socket:
        return self._queue

    def turn_away(self) -> None:
        steer_to_next(self._queue)

    def pause(self) -> None:
        if not self._paused and not self._closed:
            # The loop can't be told to accept nobody, but to close. The socket lives on in its duplicates, and so does
            # its queue. The one for later is made now: later there may be no descriptor for it.
            if self._spare is None:
                try:
                    self._spare = self._queue.dup()
                except OSError:
                    return
            self._paused = True
            # Not at once: the loop may be about to hand over a connection.
            for server in self._servers:
                self._loop.call_soon(server.close)
            self._servers = []

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            task = self._loop.create_task(self._accept_again())
            self._adopting.add(task)
            task.add_done_callback(self._adopting.discard)

    async def _accept_again(self) -> None:
        if self._paused or self._spare is None:
            return
        spare, self._spare = self._spare, None
        if self._closed:
            spare.close()
            return
        server = await self._loop.create_server(
            self._make,  # type: ignore[arg-type]
            sock=spare,
            backlog=_QUEUE,
        )
        if self._accepts():
            self._servers.append(server)
        else:
            server.close()

    def _accepts(self) -> bool:
        return not self._paused and not self._closed

    def close(self) -> None:
        self._closed = True
        for server in self._servers:
            server.close()
        if self._spare is not None:
            # As long as one duplicate is open, the socket listens.
            self._spare.close()
            self._spare = None
        for accepted in rest_of(self._queue, self._is_shared):
            task = self._loop.create_task(self._adopt(accepted))
            self._adopting.add(task)
            task.add_done_callback(self._adopting.discard)

    async def _adopt(self, accepted: socket.socket) -> None:
        await self._loop.connect_accepted_socket(self._make, accepted)  # type: ignore[type-var]


class NativeNetwork:
    """A :class:`~swarmgate.transport.network.Network` on an asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # uvloop makes such calls when it has told of all that has come, and does not wait before.
        self.turn_end: TurnEnd | None = TurnEnd(loop.call_soon)
        self._connecting: set[asyncio.Task[None]] = set()

    def listen(
        self,
        host: str,
        port: int,
        make: Callable[[], IProtocol],
        *,
        reuse_port: bool = False,
        bound: socket.socket | None = None,
    ) -> Deferred[NativeListening]:
        async def start() -> NativeListening:
            def transport() -> NativeTransport:
                return NativeTransport(make(), True)

            server = await self._loop.create_server(
                transport,  # type: ignore[arg-type]
                sock=bound or listening_socket(host, port, reuse_port),
                backlog=_QUEUE,
            )
            return NativeListening(self._loop, server, transport, bound is not None)

        return Deferred.fromFuture(asyncio.ensure_future(start(), loop=self._loop))

    def connect(
        self, host: str, port: int, timeout: float, protocol: IProtocol, failed: Callable[[Exception], None]
    ) -> None:
        task = self._loop.create_task(self._connect(host, port, timeout, protocol, failed))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(
        self, host: str, port: int, timeout: float, protocol: IProtocol, failed: Callable[[Exception], None]
    ) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._loop.create_connection(  # type: ignore[type-var]
                    lambda: NativeTransport(protocol),
                    host,
                    port,
                )
        except TimeoutError:
            failed(ConnectTimeout(f"no answer from {host}:{port} within {timeout:g} s"))
        except (OSError, ValueError) as error:  # of a host that is no name, it is a ValueError
            failed(error)


#: Linux's socket(7): which socket of a port gets a connection, as a program of the classic packet filter decides.
_SO_ATTACH_REUSEPORT_CBPF, _SO_DETACH_REUSEPORT_BPF = 51, 68


def steer_to_next(listening: socket.socket, sockets: int = 1) -> None:
    """Let a port's new connections go to the process that has come second, as long as this one's sockets are open.

    :param sockets: how many of them this one has.

    Closing a socket resets the connections that are half made, which the kernel does not move to another one.
    """
    # "The one after ours": sockets are numbered as they began to listen. Where there is none, the kernel decides.
    program = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, sockets))
    with contextlib.suppress(OSError):  # another system, or a socket that shares its port with nobody
        listening.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("@HP", 1, ctypes.addressof(program))
        )


def share_again(listening: socket.socket) -> None:
    """Undo :func:`steer_to_next`: those who stay share the port among them again."""
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_DETACH_REUSEPORT_BPF, 0)


def rest_of(listening: socket.socket, is_shared: bool = False) -> list[socket.socket]:
    """The connections that wait in the queue of a socket, which is closed.

    The kernel has made them, so their clients may have sent requests already: closing the socket would reset them.

    :param is_shared: another process has the socket, too, and sees to who shares the port.
    """
    accepted: list[socket.socket] = []
    listening.setblocking(False)
    try:
        while True:
            try:
                connection, _ = listening.accept()
            except ConnectionAbortedError:
                continue
            except OSError:  # nobody is left, or there are no descriptors for them
                return accepted
            connection.setblocking(False)
            accepted.append(connection)
    finally:
        if not is_shared:
            share_again(listening)
        listening.close()


def listening_socket(host: str, port: int, reuse_port: bool) -> socket.socket:
    """A socket bound to *host* and *port*, for both IP versions where *host* is ``""`` and the machine has both.

    :raises OSError: the address is taken, or not this machine's.
    """
    if host == "" and socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", port), family=socket.AF_INET6, backlog=_QUEUE, reuse_port=reuse_port, dualstack_ipv6=True
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_QUEUE, reuse_port=reuse_port)
