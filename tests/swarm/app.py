"""A small HTTP server that tells who answered what: the application behind the gate in tests on a real Swarm.

Run as ``python3 app.py [--port N] [--delay S] [--start S] [--ids FOLDER] [--drain] [--ignore-term]`` with the standard
library of any Python from 3.11 on. Every answer is 200 with a JSON object of ``task``, ``node``, ``up`` (since when it
listens, seconds since 1970), ``host``, ``method``, ``path``, ``headers``, ``client`` and ``body`` (the number of its
bytes), sent in one write: two writes would cost 40 ms of delayed acknowledgement. Paths that do something else:

* ``/slow?SECONDS``: the same answer, that much later
* ``/health``: 200 once the server has been up for ``--start`` seconds, 503 before
* ``/status/NNN``: the same answer under another status
* any path with ``Upgrade: websocket``: 101, a line with the task, and from then on whatever comes goes back as it is

With ``--ids`` the value of the field ``X-Id`` of every POST becomes a line of a file there, before the answer: what was
processed can be counted. SIGTERM ends it at once, as a container's first process has to ask for; with ``--drain`` it
listens no more and ends when all that was asked is answered; ``--ignore-term`` makes it stay until it is killed.
"""

import argparse
import asyncio
import http
import json
import os
import signal
import socket
import time


class App:
    """The server's settings, and when it began."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.started = time.monotonic()
        self.task = os.environ.get("TASK", socket.gethostname())
        self.node = os.environ.get("NODE", "")
        self.answering = 0
        self.up = 0.0
        self.ids = (
            os.open(f"{options.ids}/{socket.gethostname()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            if options.ids
            else None
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests until it closes."""
        try:
            while await self.answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection stays open for another."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.answering += 1
        try:
            return await self.answer_to(head, reader, writer)
        finally:
            self.answering -= 1

    async def answer_to(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer the request with this head; return whether the connection stays open."""
        request, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, path, version = request.split(" ")
        headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines]
        fields = {name.lower(): value for name, value in headers}
        body = 0
        if "content-length" in fields:
            body = len(await reader.readexactly(int(fields["content-length"])))
        elif fields.get("transfer-encoding", "").lower() == "chunked":
            while size := int(await reader.readline(), 16):
                body += len((await reader.readexactly(size + 2))[:-2])
            await reader.readuntil(b"\r\n")
        if fields.get("upgrade", "").lower() == "websocket":
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            writer.write(f"{self.task}\n".encode())
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            return False
        if method == "POST" and self.ids is not None:
            os.write(self.ids, f"{fields.get('x-id', '')}\n".encode())
        status = 200
        if path.startswith("/slow"):
            await asyncio.sleep(float(path.partition("?")[2] or 1))
        elif path.startswith("/status/"):
            status = int(path.removeprefix("/status/"))
        elif path == "/health" and time.monotonic() - self.started < self.options.start:
            status = 503
        if self.options.delay:
            await asyncio.sleep(self.options.delay)
        told = {
            "task": self.task,
            "node": self.node,
            "up": self.up,
            "host": fields.get("host", ""),
            "method": method,
            "path": path,
            "headers": headers,
            "client": writer.get_extra_info("peername")[0],
            "body": body,
        }
        content = json.dumps(told).encode() + b"\n"
        stay = version == "HTTP/1.1" and fields.get("connection", "").lower() != "close"
        close = "" if stay else "Connection: close\r\n"
        answer = (
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n{close}\r\n"
        )
        writer.write(answer.encode() + (b"" if method == "HEAD" else content))
        await writer.drain()
        return stay


async def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8083)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--start", type=float, default=0.0, help="seconds until /health says 200")
    parser.add_argument("--ids", default="", help="the folder to note the ids of POSTs in")
    parser.add_argument("--drain", action="store_true", help="finish what is asked after SIGTERM")
    parser.add_argument("--ignore-term", action="store_true")
    options = parser.parse_args()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, (lambda: None) if options.ignore_term else ended.set)
    app = App(options)
    server = await asyncio.start_server(app.serve, "0.0.0.0", options.port, backlog=1024)
    app.up = time.time()
    await ended.wait()
    server.close()
    while options.drain and app.answering:
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main())
