"""Ports that two sockets share, and what becomes of connections when one of them is closed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.transport.native import NativeNetwork, listening_socket, rest_of, steer_to_next


class SharedPortTests(SynchronousTestCase):
    if sys.platform != "linux":
        skip = "ports are shared so on Linux alone"

    def setUp(self) -> None:
        self.first = listening_socket("127.0.0.1", 0, True)
        self.port = self.first.getsockname()[1]
        self.second = listening_socket("127.0.0.1", self.port, True)
        self.clients: list[socket.socket] = []
        self.addCleanup(self.first.close)
        self.addCleanup(self.second.close)
        self.addCleanup(lambda: [client.close() for client in self.clients])

    def connect(self, count: int = 40) -> None:
        self.clients += [socket.create_connection(("127.0.0.1", self.port), 5) for _ in range(count)]

    def accepted(self, listening: socket.socket) -> int:
        """How many connections wait at a socket."""
        listening.setblocking(False)
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                listening.accept()[0].close()
                count += 1
        return count

    def test_turned_away(self) -> None:
        """New connections all go to the second socket, once the first turns them away."""
        steer_to_next(self.first)
        self.connect()
        self.assertEqual((self.accepted(self.first), self.accepted(self.second)), (0, 40))

    def test_nobody_else(self) -> None:
        """Where there is no second socket, the first goes on."""
        self.second.close()
        steer_to_next(self.first)
        self.connect()
        self.assertEqual(self.accepted(self.first), 40)

    def test_shared_again(self) -> None:
        """When the first is closed, those who stay share the port evenly, not one of them alone."""
        third = listening_socket("127.0.0.1", self.port, True)
        self.addCleanup(third.close)
        steer_to_next(self.first)
        self.assertEqual(rest_of(self.first), [])
        self.connect()
        shares = (self.accepted(self.second), self.accepted(third))
        self.assertEqual(sum(shares), 40)
        self.assertGreater(min(shares), 4)

    def test_rest(self) -> None:
        """Who waits in the queue of a socket that is closed is served."""
        self.second.close()
        self.connect(5)
        rest = rest_of(self.first)
        self.assertEqual(len(rest), 5)
        for end in rest:
            end.sendall(b"x")
            end.close()
        self.assertEqual([client.recv(1) for client in self.clients], [b"x"] * 5)


class _Accepted:
    """A client that was accepted, among *everybody*."""

    def __init__(self, everybody: list[Any]) -> None:
        self._everybody = everybody

    def makeConnection(self, transport: Any) -> None:
        self._everybody.append(transport)

    def dataReceived(self, data: bytes) -> None:
        """Nothing is said."""

    def connectionLost(self, reason: object) -> None:
        """It ends with the test."""


class PauseTests(SynchronousTestCase):
    """A socket that accepts nobody for a while."""

    def test_pause(self) -> None:
        """Who comes in the meantime waits, and is accepted afterwards; however often that is done."""
        try:
            import uvloop
        except ImportError:
            loop: Any = asyncio.new_event_loop()
        else:
            loop = uvloop.new_event_loop()
        self.addCleanup(loop.close)
        everybody: list[Any] = []
        clients: list[socket.socket] = []

        async def turns(wanted: int) -> None:
            for _ in range(200):
                if len(everybody) == wanted:
                    break
                await asyncio.sleep(0)
                await loop.run_in_executor(None, lambda: None)

        async def scenario() -> None:
            network: Any = NativeNetwork(loop)
            listening = await network.listen("127.0.0.1", 0, lambda: _Accepted(everybody)).asFuture(loop)
            for number in range(1, 4):
                listening.pause()
                await turns(-1)
                clients.append(socket.create_connection(("127.0.0.1", listening.port()), 5))
                await turns(-1)
                self.assertEqual(len(everybody), number - 1)
                # A change of mind, and another one, before the loop has come to anything.
                listening.resume()
                listening.pause()
                listening.resume()
                await turns(number)
                self.assertEqual(len(everybody), number)
            listening.pause()
            port = listening.port()
            listening.close()
            await turns(-1)
            self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", port), 5)
            for one in everybody:
                one.abortConnection()
            await turns(-1)

        loop.run_until_complete(scenario())
        for client in clients:
            client.close()
