"""Many at once: a thousand websockets, a client that asks faster than it may, and one that sends as fast as it can."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import statistics
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import Gate, free_port, routes

SOCKETS = 1000
#: For how many seconds the impatient client asks.
SECONDS = float(os.environ.get("E2E_RATE_SECONDS", "5"))

_HANDSHAKE = (
    b"GET /%d HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def answering(body: bytes, asked: Callable[[], object] = lambda: None) -> Any:
    """A server's every connection: each request is answered with that body, and *asked* is called."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                asked()
                writer.write(answer)

    return serve


class WebsocketTests(SynchronousTestCase):
    def test_thousand_echoes(self) -> None:
        """A thousand websockets are open at once, and every octet of each comes back to it in order."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        port = free_port()
        gate = Gate(routes({"echo": [port]}, {"a": "echo"}))
        self.addCleanup(gate.stop)

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_SWITCHED)
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            writer.close()

        everybody = asyncio.Event()
        opened = 0

        async def talk(number: int) -> bool:
            nonlocal opened
            reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            writer.write(_HANDSHAKE % number)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), head
            opened += 1
            if opened == SOCKETS:
                everybody.set()
            await everybody.wait()
            # Not UTF-8, not frames: what a tunnel passes is none of its business.
            frames = [bytes((0x82, number & 255)) + os.urandom(50 + number % 400) for _ in range(10)]
            for frame in frames:
                writer.write(frame)
                if await reader.readexactly(len(frame)) != frame:
                    return False
            writer.close()
            await writer.wait_closed()
            return True

        async def everything() -> list[bool]:
            async with asyncio.timeout(60):
                server = await asyncio.start_server(echo, "127.0.0.1", port, backlog=1024)
                async with server:
                    return await asyncio.gather(*(talk(number) for number in range(SOCKETS)))

        self.assertEqual(Counter(asyncio.run(everything())), Counter({True: SOCKETS}))


class FloodTests(SynchronousTestCase):
    def test_chunks(self) -> None:
        """Of a body that comes faster than it can be read a little is read at a time: others are served in between."""
        app, sink = free_port(), free_port()
        gate = Gate(routes({"app": [app], "sink": [sink]}, {"a": "app", "b": "sink"}))
        self.addCleanup(gate.stop)
        flooding = socket.create_connection(("127.0.0.1", gate.port))
        self.addCleanup(flooding.close)
        sent = 0

        def flood() -> None:
            nonlocal sent
            chunks = b"1\r\nx\r\n" * 10000
            with contextlib.suppress(OSError):
                flooding.sendall(b"POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n")
                while True:
                    flooding.sendall(chunks)
                    sent += len(chunks)

        async def drain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                while await reader.read(1 << 20):
                    pass

        async def everything() -> list[int]:
            meanwhile = []
            async with asyncio.timeout(60):
                servers = [
                    await asyncio.start_server(answering(b"ok"), "127.0.0.1", app),
                    await asyncio.start_server(drain, "127.0.0.1", sink, limit=1 << 20),
                ]
                reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
                thread = threading.Thread(target=flood)
                thread.start()
                while sent < 50_000_000:
                    await asyncio.sleep(0.01)  # In another thread it goes on.
                for _ in range(50):
                    before = sent
                    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    await reader.readuntil(b"\r\n\r\nok")
                    meanwhile.append(sent - before)
                flooding.shutdown(socket.SHUT_RDWR)
                await asyncio.to_thread(thread.join)
                writer.close()
                for server in servers:
                    server.close()
            return meanwhile

        meanwhile = statistics.median(asyncio.run(everything()))
        print(f"{meanwhile / 1e6:.1f} MB read of one during a request of another", end=" ")
        self.assertLess(meanwhile, 3_000_000)

    def test_answers_not_read(self) -> None:
        """A client that asks and asks, and reads no answer, is answered only as much as it may have to read yet."""
        app, large = free_port(), free_port()
        gate = Gate(routes({"app": [app], "large": [large]}, {"a": "app", "b": "large"}))
        self.addCleanup(gate.stop)
        asked: Counter[str] = Counter()

        async def everything() -> None:
            async with asyncio.timeout(60):
                servers = [
                    await asyncio.start_server(answering(b"ok"), "127.0.0.1", app),
                    await asyncio.start_server(
                        answering(b"x" * 40_000, lambda: asked.update(["large"])), "127.0.0.1", large
                    ),
                ]
                greedy = await asyncio.open_connection("127.0.0.1", gate.port, limit=1024)
                greedy[1].write(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n" * 5000)
                reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
                for _ in range(1000):
                    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    await reader.readuntil(b"\r\n\r\nok")
                writer.close()
                greedy[1].close()
                for each in servers:
                    each.close()

        before = gate.memory()
        asyncio.run(everything())
        print(f"{asked.total()} of 5000 were asked for", end=" ")
        self.assertLess(asked.total(), 500)
        self.assertLess(gate.memory() - before, 16_000_000)


class RateTests(SynchronousTestCase):
    def test_impatient_client(self) -> None:
        """Of 400 requests per second against average 100 and burst 50 as many pass as the bucket says."""
        port = free_port()
        text = routes({"app": [port]}, {"a": "app"}).replace("service: app", "service: app\n      middlewares: [limit]")
        text += "  middlewares:\n    limit:\n      rateLimit: {average: 100, burst: 50}\n"
        gate = Gate(text)
        self.addCleanup(gate.stop)

        seen: Counter[bytes] = Counter()

        async def ask(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], begin: float, first: int) -> None:
            """Every tenth request of the schedule, over one connection."""
            reader, writer = connection
            loop = asyncio.get_running_loop()
            for number in range(first, int(400 * SECONDS), 10):
                await asyncio.sleep(begin + number / 400 - loop.time())
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                seen[head[9:12]] += 1
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                if head[9:12] == b"429":
                    assert b"\r\nRetry-After: 1\r\n" in head, head
            writer.close()

        async def everything() -> None:
            async with await asyncio.start_server(answering(b"ok"), "127.0.0.1", port):
                connections = [await asyncio.open_connection("127.0.0.1", gate.port) for _ in range(10)]
                begin = asyncio.get_running_loop().time()
                await asyncio.gather(*(ask(each, begin, number) for number, each in enumerate(connections)))

        asyncio.run(everything())
        self.assertEqual(set(seen), {b"200", b"429"})
        self.assertEqual(seen.total(), 400 * SECONDS)
        wanted = 50 + 100 * SECONDS
        print(f"admitted {seen[b'200']}, wanted {wanted:.0f}", end=" ")
        self.assertLess(abs(seen[b"200"] - wanted), 0.05 * wanted, seen)
