"""``python -m tests.e2e.http2_server PORT``: a server of HTTP/1.1 behind the gate of the tests of HTTP/2."""

from __future__ import annotations

import asyncio
import contextlib
import sys

BIG = bytes(range(256)) * 8000


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests of HTTP/1.1: ``/big`` with much, POSTs with the size of their body, all others with ``ok``."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = b"ok"
            if head.startswith(b"GET /big "):
                body = BIG
            elif b"\r\nTransfer-Encoding: chunked" in head:
                size = 0
                while length := int(await reader.readuntil(b"\r\n"), 16):
                    await reader.readexactly(length + 2)
                    size += length
                await reader.readexactly(2)
                body = b"%d" % size
            elif b"\r\nContent-Length: " in head:
                length = int(head.partition(b"\r\nContent-Length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                body = b"%d" % length
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
    writer.close()


async def main(port: int) -> None:
    """Serve until the process is ended."""
    async with await asyncio.start_server(serve, "127.0.0.1", port, backlog=2048, limit=2**17) as server:
        print("begins", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
