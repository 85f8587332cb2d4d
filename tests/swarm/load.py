"""Users of a gate, who ask again and again and note what becomes of each request.

Run in a namespace of the laboratory: ``python3 load.py ADDRESS:PORT[,...] HOST [--users N] [--interval S] [--posts]
[--path PATH] [--turn] [--tunnels N]``. Half of the users make a new connection for each request, the other half keep
theirs; with ``--posts`` every third request is a POST with an id of its own in the field ``X-Id`` and a body. User 0
asks at the first address, user 1 at the second, and so on; with ``--turn`` whoever is refused a connection turns to the
next address, as behind a load balancer. With ``--tunnels`` so many more users open a tunnel (``Upgrade: websocket``),
say something now and then, and open a new one when it ends.

SIGTERM ends it: no new requests, those under way are finished. Then it writes one JSON object: ``asked``, ``failed``,
``failures`` (the first 50: ``at``, ``began``, ``seconds``, ``method``, ``status``, ``reason``, ``task``), ``ids`` of
the POSTs that were answered 200, ``slowest`` in seconds, ``slow`` (those of a second and more, as failures are told),
``tasks`` (by name: when it first answered, when last, how often, and since when it listens) and ``tunnels``. Times are
in seconds since 1970; a request fails without a whole answer of 200 within 10 seconds.
With the standard library of any Python from 3.11 on.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from typing import Any

PATIENCE = 10.0


class Load:
    """What was asked, and what has become of it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.places = options.at.split(",")
        self.asked = 0
        self.failed = 0
        self.failures: list[dict[str, Any]] = []
        self.slow: list[dict[str, Any]] = []
        self.slowest = 0.0
        self.ids: list[str] = []
        self.tasks: dict[str, list[float]] = {}
        self.tunnels = {"opened": 0, "broken": 0, "refused": 0, "longest_gap": 0.0}
        self.ended = asyncio.Event()

    async def user(self, number: int) -> None:
        """Ask until told to end."""
        options = self.options
        await asyncio.sleep(options.interval * number / options.users)
        keeps = number % 2 == 1
        connection: Any = None
        round_ = 0
        while not self.ended.is_set():
            began = time.time()
            method = "POST" if options.posts and round_ % 3 == 2 else "GET"
            id_ = f"{number}-{round_}"
            status, reason, told, connection = await self.ask(number, method, id_, connection, keeps)
            round_ += 1
            self.note(number, began, method, id_, status, reason, told)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), max(0.001, options.interval - (time.time() - began)))
        if connection is not None:
            connection[1].close()

    def note(
        self, number: int, began: float, method: str, id_: str, status: int, reason: str, answer: dict[str, Any]
    ) -> None:
        """Remember what became of a request."""
        task = answer.get("task", "")
        seconds = time.time() - began
        told = {
            "at": self.places[number % len(self.places)],
            "began": began,
            "seconds": seconds,
            "method": method,
            "status": status,
            "reason": reason,
            "task": task,
            "kept": number % 2 == 1,
        }
        self.asked += 1
        self.slowest = max(self.slowest, seconds)
        if status == 200:
            first, _, count, up = self.tasks.get(task, [time.time(), 0.0, 0, answer.get("up", 0.0)])
            self.tasks[task] = [first, time.time(), count + 1, up]
            if method == "POST":
                self.ids.append(id_)
        else:
            self.failed += 1
            if len(self.failures) < 50:
                self.failures.append(told)
        if seconds >= 1 and len(self.slow) < 200:
            self.slow.append(told)

    async def connect(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection to the user's place, or, if that refuses and there is another, to the next."""
        places = self.places[number % len(self.places) :] + self.places[: number % len(self.places)]
        for place in places:
            address, _, port = place.rpartition(":")
            try:
                return await asyncio.open_connection(address, int(port))
            except ConnectionRefusedError:
                if not self.options.turn or place is places[-1]:
                    raise
        raise AssertionError("there is a place")

    async def ask(
        self, number: int, method: str, id_: str, connection: Any, keeps: bool
    ) -> tuple[int, str, dict[str, Any], Any]:
        """Return status, reason and content of an answer, and the connection if it is kept."""
        try:
            async with asyncio.timeout(PATIENCE):
                if connection is not None and (connection[0].at_eof() or connection[0].exception() is not None):
                    # It was closed between two requests, which any client notices before it asks again.
                    connection[1].close()
                    connection = None
                if connection is None:
                    connection = await self.connect(number)
                reader, writer = connection
                body = b"x" * 100 if method == "POST" else b""
                fields = [f"{method} {self.options.path} HTTP/1.1", f"Host: {self.options.host}"]
                if body:
                    fields += [f"X-Id: {id_}", f"Content-Length: {len(body)}"]
                if not keeps:
                    fields.append("Connection: close")
                writer.write("\r\n".join([*fields, "", ""]).encode() + body)
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                status = int(head.split(None, 2)[1])
                lengths = (line[15:] for line in head.split("\r\n") if line.lower().startswith("content-length"))
                length = int(next(lengths))
                content = await reader.readexactly(length)
        except (TimeoutError, OSError, EOFError, ValueError, StopIteration) as error:
            if connection is not None:
                connection[1].close()
            return 0, f"{type(error).__name__}: {error}", {}, None
        if not keeps or "connection: close" in head.lower():
            writer.close()
            connection = None
        try:
            return status, "", dict(json.loads(content)), connection
        except (ValueError, TypeError):
            return status, content[:80].decode("latin-1"), {}, connection

    async def tunnel(self, number: int) -> None:
        """Keep a tunnel open, and speak through it."""
        closed = 0.0
        while not self.ended.is_set():
            try:
                reader, writer = await self.connect(number)
            except OSError:
                self.tunnels["refused"] += 1
                continue
            try:
                fields = [
                    "GET / HTTP/1.1",
                    f"Host: {self.options.host}",
                    "Connection: Upgrade",
                    "Upgrade: websocket",
                    "",
                    "",
                ]
                writer.write("\r\n".join(fields).encode())
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
                if b" 101 " not in head:
                    self.tunnels["refused"] += 1
                    continue
                await asyncio.wait_for(reader.readuntil(b"\n"), PATIENCE)
                self.tunnels["opened"] += 1
                if closed:
                    self.tunnels["longest_gap"] = max(self.tunnels["longest_gap"], time.time() - closed)
                while not self.ended.is_set():
                    writer.write(b"hello\n")
                    line = await asyncio.wait_for(reader.readline(), PATIENCE)
                    if not line:
                        break  # closed in good order
                    if line != b"hello\n":
                        self.tunnels["broken"] += 1
                    await asyncio.sleep(0.1)
                closed = time.time()
            except (TimeoutError, OSError, EOFError):
                self.tunnels["broken"] += 1
                closed = time.time()
            finally:
                writer.close()


async def main() -> None:
    """Ask until told to end, and tell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("at")
    parser.add_argument("host")
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--interval", type=float, default=0.1, help="seconds from one of a user's requests to the next")
    parser.add_argument("--posts", action="store_true")
    parser.add_argument("--path", default="/")
    parser.add_argument("--turn", action="store_true")
    parser.add_argument("--tunnels", type=int, default=0)
    options = parser.parse_args()
    load = Load(options)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, load.ended.set)
    users = [asyncio.ensure_future(load.user(number)) for number in range(options.users)]
    users += [asyncio.ensure_future(load.tunnel(number)) for number in range(options.tunnels)]
    print("begun", flush=True)
    await asyncio.wait(users, timeout=None)
    keys = ("asked", "failed", "failures", "slow", "slowest", "ids", "tasks", "tunnels")
    print(json.dumps({key: getattr(load, key) for key in keys}), flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
