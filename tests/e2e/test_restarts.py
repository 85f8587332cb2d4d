"""A gate that ends, is replaced by another, or reads its configuration again loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import Gate, free_port, routes

#: How often a process takes over, and how often the configuration is read again.
TIMES = int(os.environ.get("E2E_RESTARTS", "3"))
#: Seconds that a slow answer takes.
SLOW = float(os.environ.get("E2E_SLOW_SECONDS", "1.5"))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A backend: ``/slow`` takes its time, an upgrade becomes an echo that says ``bye`` at its end."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            if b"pgrade: websocket" in head:
                writer.write(SWITCHED)
                while data := await reader.read(65536):
                    writer.write(data)
                break
            if b" /slow " in head:
                await asyncio.sleep(SLOW)
            writer.write(OK)
    writer.close()


class Users:
    """Clients that ask over and over, and what became of that."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked = 0
        self.failures: list[str] = []
        self._ended = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Users:
        self._tasks = [asyncio.create_task(self._ask(number % 2 == 1)) for number in range(8)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended = True
        await asyncio.gather(*self._tasks)

    async def _ask(self, keeps: bool) -> None:
        connection: Any = None
        while not self._ended:
            try:
                async with asyncio.timeout(10):
                    if connection is None:
                        connection = await asyncio.open_connection("127.0.0.1", self.port)
                    reader, writer = connection
                    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % (b"" if keeps else b"Connection: close\r\n"))
                    head = await reader.readuntil(b"\r\n\r\n")
                    body = await reader.readexactly(2)
                if not head.startswith(b"HTTP/1.1 200") or body != b"ok":
                    self.failures.append(head.decode())
                if not keeps or b"connection: close" in head.lower():
                    writer.close()
                    connection = None
            except (OSError, EOFError, TimeoutError) as error:
                self.failures.append(repr(error))
                connection = None
            self.asked += 1
            await asyncio.sleep(0.002)


class RestartTests(SynchronousTestCase):
    uvloop = True

    def setUp(self) -> None:
        self.backend = free_port()
        self.routes = routes({"app": [self.backend]}, {"a": "app"})

    def gate(self, *options: str, port: int = 0) -> Gate:
        gate = Gate(self.routes, *options, uvloop=self.uvloop, port=port)
        self.addCleanup(gate.stop)
        return gate

    def play(self, scenario: Coroutine[Any, Any, None]) -> None:
        async def with_backend() -> None:
            server = await asyncio.start_server(serve, "127.0.0.1", self.backend, backlog=1024)
            try:
                await scenario
            finally:
                server.close()
                others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)

        asyncio.run(with_backend())

    def test_takeover(self) -> None:
        """With reusePort a new process takes the place of the old one, and nobody is refused or cut off."""
        options = ("--entrypoints.web.reuseport=true", "--entrypoints.web.transport.lifecycle.gracetimeout=5")
        options = (*options, "--entrypoints.web.transport.lifecycle.requestacceptgracetimeout=300ms")
        old = self.gate(*options)

        async def scenario() -> None:
            nonlocal old
            async with Users(old.port) as users:
                for _ in range(TIMES):
                    new = await asyncio.to_thread(self.gate, *options, port=old.port)
                    old.process.send_signal(signal.SIGTERM)
                    self.assertEqual(await asyncio.to_thread(old.process.wait, 10), 0)
                    old = new
            self.assertEqual((users.failures, users.asked > 100), ([], True))

        self.play(scenario())

    def test_drain(self) -> None:
        """SIGTERM: what is under way is completed, who waits for nothing is sent away at once, and the end is good."""
        gate = self.gate("--entrypoints.web.transport.lifecycle.gracetimeout=10")

        async def slow() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            writer.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(2)
            self.assertEqual(await reader.read(), b"")
            writer.close()
            return head + body

        async def idle(told: asyncio.Event) -> float:
            reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
            await told.wait()
            began = time.monotonic()
            self.assertEqual(await reader.read(), b"")
            writer.close()
            return time.monotonic() - began

        async def scenario() -> None:
            told = asyncio.Event()
            idlers = [asyncio.create_task(idle(told)) for _ in range(500)]
            await asyncio.sleep(1)
            slows = [asyncio.create_task(slow()) for _ in range(50)]
            await asyncio.sleep(0.5)
            gate.process.send_signal(signal.SIGTERM)
            told.set()
            self.assertLess(max(await asyncio.gather(*idlers)), 1)
            for answer in await asyncio.gather(*slows):
                self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer)
                self.assertIn(b"\r\nConnection: close\r\n", answer)
            self.assertEqual(await asyncio.to_thread(gate.process.wait, 5), 0)

        self.play(scenario())

    def test_tunnel(self) -> None:
        """A tunnel lives until the end of the grace time, and is then closed with all that went through it."""
        gate = self.gate("--entrypoints.web.transport.lifecycle.gracetimeout=1")

        async def scenario() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            self.assertIn(b" 101 ", await reader.readuntil(b"\r\n\r\n"))
            gate.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            await asyncio.sleep(0.5)
            writer.write(b"still here")
            self.assertEqual(await reader.readexactly(10), b"still here")
            self.assertEqual(await reader.read(), b"")
            self.assertGreater(time.monotonic() - began, 0.9)
            writer.close()
            self.assertEqual(await asyncio.to_thread(gate.process.wait, 5), 0)

        self.play(scenario())

    def test_reload(self) -> None:
        """SIGHUP, again and again: the configuration is in force or refused as a whole, and no request fails."""
        file = Path(self.mktemp()).with_suffix(".yml")
        file.write_text("log:\n  level: INFO\n")
        gate = self.gate(f"--config={file.absolute()}")

        async def until_said(text: str) -> None:
            async with asyncio.timeout(5):
                while text not in gate.said(100_000):
                    await asyncio.sleep(0.02)

        async def scenario() -> None:
            async with Users(gate.port) as users:
                for number in range(10 * TIMES):
                    file.write_text(f"serversTransport:\n  maxIdleConnsPerHost: {number + 300}\n")
                    gate.process.send_signal(signal.SIGHUP)
                    await until_said(f"serversTransport.maxIdleConnsPerHost: {number + 299 if number else 200} -> ")
                file.write_text("log:\n  levle: DEBUG\n")
                gate.process.send_signal(signal.SIGHUP)
                await until_said("log.levle")
                file.write_text("entryPoints:\n  web:\n    reusePort: true\n    http:\n      maxHeaderFields: 3\n")
                gate.process.send_signal(signal.SIGHUP)
                await until_said("needs a restart: entryPoints.web.reusePort: false -> true")
                await until_said("in force now: entryPoints.web.http.maxHeaderFields: 100 -> 3")
            print(f"{10 * TIMES + 2} reloads: of {users.asked} requests {len(users.failures)} failed")
            self.assertEqual((users.failures, users.asked > 100), ([], True))
            reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n")
            self.assertIn(b" 431 ", await reader.readuntil(b"\r\n\r\n"))
            writer.close()

        self.play(scenario())


class RestartWithoutUvloopTests(RestartTests):
    """The same on Twisted's own transports."""

    uvloop = False
