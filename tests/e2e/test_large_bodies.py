"""Large bodies and readers that stop: the gate holds back whoever sends, and keeps next to nothing.

``E2E_BODY_MIB=1024`` makes the bodies a GiB each; 64 MiB otherwise.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable

from tests.e2e.test_forwarding import OK, Fixture
from tests.e2e.wires import barrier

SIZE = int(os.environ.get("E2E_BODY_MIB", "64")) * 2**20
BLOCK = bytes(range(256)) * 256
#: What the gate's memory may grow by, in bytes.
GROWTH = 8 * 2**20


def digest() -> str:
    """Of a whole body."""
    whole = hashlib.blake2b()
    for _ in range(SIZE // len(BLOCK)):
        whole.update(BLOCK)
    return whole.hexdigest()


class LargeBodyTests(Fixture):
    """A sender that is faster than its reader."""

    async def stalled(self, progress: Callable[[], int]) -> None:
        """Wait until *progress* has stood still while the gate has answered a hundred others."""
        still, before = 0, -1
        while still < 100:
            await barrier(self.running.port)
            now = progress()
            still, before = (still + 1, now) if now == before else (0, now)

    def test_download(self) -> None:
        """A client that stops reading stops the backend, and gets all of it afterwards."""
        sent = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
            while sent < SIZE:
                writer.write(BLOCK)
                await writer.drain()
                sent += len(BLOCK)
            await reader.read()

        async def scenario() -> None:
            async with self.backend(serve):
                before = self.running.memory()
                reader, writer = await asyncio.open_connection("127.0.0.1", self.running.port, limit=65536)
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
                await self.stalled(lambda: sent)
                self.assertLess(sent, min(SIZE, 2**25))
                stalled = self.running.memory()
                whole, left = hashlib.blake2b(), SIZE
                while left:
                    data = await reader.read(min(left, 65536))
                    self.assertTrue(data, f"the body ends {left} octets early")
                    whole.update(data)
                    left -= len(data)
                after = self.running.memory()
                writer.close()
                self.assertEqual(whole.hexdigest(), digest())
                self.assertLess(max(stalled, after) - before, GROWTH)

        self.play(scenario())

    def test_upload(self) -> None:
        """A backend that stops reading stops the client, and gets all of it afterwards."""
        go_on = asyncio.Event()
        arrived = hashlib.blake2b()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await go_on.wait()
            left = SIZE
            while left:
                data = await reader.read(min(left, 65536))
                self.assertTrue(data, f"the body ends {left} octets early")
                arrived.update(data)
                left -= len(data)
            writer.write(OK)

        async def scenario() -> None:
            async with self.backend(serve):
                sent = 0
                before = self.running.memory()
                reader, writer = await asyncio.open_connection("127.0.0.1", self.running.port)
                writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE)

                async def upload() -> None:
                    nonlocal sent
                    while sent < SIZE:
                        writer.write(BLOCK)
                        await writer.drain()
                        sent += len(BLOCK)

                uploading = asyncio.create_task(upload())
                await self.stalled(lambda: sent)
                self.assertLess(sent, min(SIZE, 2**25))
                stalled = self.running.memory()
                go_on.set()
                await uploading
                head = await reader.readuntil(b"\r\n\r\n")
                after = self.running.memory()
                writer.close()
                self.assertTrue(head.startswith(b"HTTP/1.1 200 "), head)
                self.assertEqual(arrived.hexdigest(), digest())
                self.assertLess(max(stalled, after) - before, GROWTH)

        self.play(scenario())
