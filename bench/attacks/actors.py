"""``python -m bench.attacks.actors ROLE ARGUMENTS``: an attacker, a backend, or the honest load, in its own process.

*ARGUMENTS* is a JSON object. An actor prints ``ready`` once it does what it is for, goes on until its standard input
ends, if it does not end by itself before, and then prints what it saw as one JSON object.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import resource
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from bench.attacks.hostile import ANSWERS

Seen = dict[str, Any]
Until = Awaitable[Any]

KIB = b"0123456789abcdef" * 64
BLOCK = KIB * 64
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
#: Connects that are under way at a time.
_TOGETHER = 50


def get(path: str = "/1k", host: str = "attacked.example", more: str = "") -> bytes:
    """A request."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next answer's status and body, which has a length.

    :raises OSError: the connection ended, or the answer was cut short (also ``IncompleteReadError``).
    """
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, found, rest = head.partition(b"\r\ncontent-length: ")
    body = await reader.readexactly(int(rest.partition(b"\r\n")[0])) if found else b""
    return int(head[9:12]), body


def quantile(figures: list[float], part: float) -> float:
    """The figure that *part* of all are not above; 0 if there are none."""
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


# ---- the honest load


async def honest(over: Until, port: int, seconds: float, rate: float = 200, connections: int = 20) -> Seen:
    """So many requests a second, each at its time whatever became of those before: what it takes to answer them."""
    loop = asyncio.get_running_loop()
    taken: list[float] = []
    wrong: Counter[str] = Counter()
    begin = loop.time() + 0.2

    async def visitor(first: int) -> None:
        reader = writer = None
        for number in range(first, int(seconds * rate), connections):
            due = begin + number / rate
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            try:
                async with asyncio.timeout(10):
                    if reader is None or writer is None:
                        reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(get(host="app.example"))
                    status, body = await read_answer(reader)
                    if (status, len(body)) != (200, 1024):
                        wrong[f"status {status}"] += 1
            except (OSError, EOFError) as error:
                wrong[type(error).__name__] += 1
                if writer is not None:
                    writer.close()
                reader = writer = None
            taken.append(loop.time() - due)

    say("ready")
    await asyncio.gather(*(visitor(number) for number in range(connections)))
    return {
        "requests": len(taken),
        "wrong": dict(wrong),
        "p50": quantile(taken, 0.5) * 1000,
        "p99": quantile(taken, 0.99) * 1000,
        "max": max(taken) * 1000,
    }


# ---- the backend


class Origin:
    """Serves what the attacks ask for, and counts."""

    def __init__(self, closes: float = 0.0) -> None:
        self.closes = closes
        self.counts: Counter[str] = Counter()
        self.open = 0
        self.posts: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.open += 1
        self.counts["connections"] += 1
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                while await self._one(reader, writer):
                    pass
        finally:
            self.open -= 1
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, _ = head.split(b" ", 2)
        self.counts["requests"] += 1
        if path == b"/1k":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + KIB)
        elif path == b"/stats":
            seen = {**self.counts, "open": self.open, "twice": sum(n > 1 for n in self.posts.values())}
            body = json.dumps(seen).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        elif path.startswith(b"/big/"):
            await self._big(int(path[5:]), writer)
        elif path == b"/stalled":
            await asyncio.sleep(3600)
        elif path.startswith(b"/slow/"):
            await self._slow(float(path[6:]), reader, writer)
        elif path == b"/ws":
            writer.write(SWITCHED)
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            return False
        elif path.startswith(b"/broken/"):
            return await self._broken(path, writer)
        elif path.startswith(b"/hostile/"):
            return await self._hostile(int(path.split(b"/")[2]), writer)
        elif method == b"POST":
            await self._post(head, path, reader, writer)
        else:
            # The request's own name comes back, so that nobody can be given another's answer unnoticed.
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))
        if self.closes and random.random() < self.closes:
            # At any time: with the answer, or while the connection is kept and the next request is under way.
            await asyncio.sleep(random.choice((0, 0, 0.001, 0.005, 0.02)))
            return False
        return True

    async def _big(self, size: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while size > 0:
            piece = BLOCK[:size]
            writer.write(piece)
            await writer.drain()
            size -= len(piece)
            self.counts["sent"] += len(piece)

    async def _slow(self, seconds: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer after so many seconds, if the gate still waits for it."""
        gone = asyncio.ensure_future(reader.read(1))
        done, _ = await asyncio.wait({gone}, timeout=seconds)
        if done:
            self.counts["abandoned"] += 1
            raise ConnectionResetError
        gone.cancel()
        await asyncio.wait({gone})
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n" + BLOCK)
        await writer.drain()

    async def _post(self, head: bytes, path: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.posts[path.decode()] += 1
        _, sized, rest = head.lower().partition(b"\r\ncontent-length: ")
        if sized:
            await reader.readexactly(int(rest.partition(b"\r\n")[0]))
        else:
            while size := int(await reader.readuntil(b"\n"), 16):
                await reader.readexactly(size + 2)
            await reader.readuntil(b"\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    async def _broken(self, path: bytes, writer: asyncio.StreamWriter) -> bool:
        """A reset in the middle of a body, of which the gate has had a part."""
        chunked = path.endswith(b"/chunked")
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 100000"
        part = b"1000\r\n" + BLOCK[:4096] + b"\r\n" if chunked else BLOCK[:4096]
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + part)
        await writer.drain()
        await asyncio.sleep(0.01)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        writer.transport.abort()
        return False

    async def _hostile(self, number: int, writer: asyncio.StreamWriter) -> bool:
        self.counts["hostile"] += 1
        answer = ANSWERS[number]
        writer.write(answer.octets)
        await writer.drain()
        if answer.closes:
            await asyncio.sleep(0.05)
            return False
        # What was said may have its echo on the next request over this connection: it must not come to that.
        return True


async def backend(over: Until, port: int, host: str = "127.0.0.1", closes: float = 0.0) -> Seen:
    """Serve until it is told to end; *closes*: the share of connections that are closed after an answer."""
    origin = Origin(closes)
    async with await asyncio.start_server(origin.serve, host, port, backlog=4096, limit=2**17):
        say("ready")
        await over
    return dict(origin.counts)


# ---- attackers


async def crowd(count: int, one: Callable[[int], Coroutine[Any, Any, Any]]) -> list[Any]:
    """*one* for each number below *count*, so many at a time."""
    places = asyncio.Semaphore(_TOGETHER)

    async def placed(number: int) -> Any:
        async with places:
            return await one(number)

    return await asyncio.gather(*(placed(number) for number in range(count)))


async def connect(port: int, narrow: bool = False) -> socket.socket:
    """A connection; *narrow*: with a receive buffer that is as small as it gets."""
    made = socket.socket()
    made.setblocking(False)
    if narrow:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # As over Ethernet. Loopback's own segments are so long that the kernel buffers megabytes for each client.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)
    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
    return made


async def trickle(over: Until, port: int, count: int, first: bytes, piece: bytes, every: float) -> Seen:
    """Connections that send *piece* again and again; how long the gate bears with each, answered or not."""
    loop = asyncio.get_running_loop()
    lives: list[float] = []
    statuses: Counter[str] = Counter()
    ended = asyncio.ensure_future(over)
    opened = 0

    async def one(number: int) -> None:
        nonlocal opened
        made = await connect(port)
        begin = loop.time()
        opened += 1
        got = b""
        with contextlib.suppress(OSError):
            await loop.sock_sendall(made, first)
            while not ended.done():
                try:
                    async with asyncio.timeout(every):
                        data = await loop.sock_recv(made, 4096)
                    if not data:
                        break
                    got += data
                except TimeoutError:
                    await loop.sock_sendall(made, piece)
        if not ended.done():
            lives.append(loop.time() - begin)
            statuses[got[9:12].decode() or "closed"] += 1
        made.close()

    tasks = [asyncio.ensure_future(one(number)) for number in range(count)]
    while opened < count and not ended.done() and not all(task.done() for task in tasks):
        await asyncio.sleep(0.02)
    say("ready")
    await ended
    await asyncio.gather(*tasks, return_exceptions=True)
    return {"opened": opened, "ended": len(lives), "longest": max(lives, default=0.0), "statuses": dict(statuses)}


async def slow_heads(over: Until, port: int, count: int) -> Seen:
    """Heads that never end, a field a second."""
    head = b"GET / HTTP/1.1\r\nHost: attacked.example\r\n"
    return await trickle(over, port, count, head, b"X-More: 1\r\n", 1.0)


async def slow_bodies(over: Until, port: int, count: int) -> Seen:
    """Bodies of which an octet comes a second."""
    head = b"POST /slowly HTTP/1.1\r\nHost: attacked.example\r\nContent-Length: 100000\r\n\r\n"
    return await trickle(over, port, count, head, b"x", 1.0)


async def slow_readers(over: Until, port: int, count: int, size: int, every: float = 1.0) -> Seen:
    """Large answers of which a little is read now and then."""
    loop = asyncio.get_running_loop()
    ended = asyncio.ensure_future(over)
    received = lost = 0
    sockets = await crowd(count, lambda number: connect(port, True))
    for made in sockets:
        await loop.sock_sendall(made, get(f"/big/{size}"))
    say("ready")
    while not ended.done():
        for made in sockets:
            try:
                data = made.recv(1024)
                received += len(data)
                lost += not data
            except BlockingIOError:
                pass
            except OSError:
                lost += 1
        await asyncio.wait({ended}, timeout=every)
    return {"received": received, "lost": lost}


async def stopped_upload(over: Until, port: int, size: int) -> Seen:
    """An upload to a server that reads nothing of it."""
    ended = asyncio.ensure_future(over)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST /stalled HTTP/1.1\r\nHost: attacked.example\r\nContent-Length: {size}\r\n\r\n".encode())
    sent = 0

    async def send() -> None:
        nonlocal sent
        while sent < size:
            writer.write(BLOCK)
            await writer.drain()
            sent += len(BLOCK)

    sending = asyncio.ensure_future(send())
    say("ready")
    await ended
    sending.cancel()
    writer.transport.abort()
    return {"sent": sent}


async def idle(over: Until, port: int, count: int, secure: bool = False) -> Seen:
    """Connections over which one request was answered, and then nothing comes."""
    loop = asyncio.get_running_loop()
    context = None
    if secure:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    statuses: Counter[int] = Counter()

    async def one(number: int) -> Any:
        if context is None:
            made = await connect(port)
            await loop.sock_sendall(made, get(host="app.example"))
            got = b""
            while len(got) < 1024 and (data := await loop.sock_recv(made, 4096)):
                got += data
            statuses[int(got[9:12])] += 1
            return made
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="app.example", limit=4096
        )
        writer.write(get(host="app.example"))
        statuses[(await read_answer(reader))[0]] += 1
        return writer

    held = await crowd(count, one)
    say("ready")
    await over
    lost = 0
    for made in held if context is None else ():
        with contextlib.suppress(BlockingIOError):
            lost += not made.recv(1)
    return {"statuses": dict(statuses), "lost": lost, "held": len(held)}


async def half_open(over: Until, port: int, count: int, again: bool = False) -> Seen:
    """Connections over which nothing comes, or a request each after the sign for it: with *again*."""
    ended = asyncio.ensure_future(over)
    loop = asyncio.get_running_loop()
    sockets = []
    for _ in range(count):
        made = socket.socket()
        made.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            made.connect(("127.0.0.1", port))
        sockets.append(made)
    await asyncio.sleep(0.3)
    if again:
        for made in sockets:
            with contextlib.suppress(OSError):
                made.send(get())
    say("ready")
    begin = loop.time()
    await ended
    for made in sockets:
        made.close()
    return {"opened": count, "seconds": loop.time() - begin}


async def websockets(over: Until, port: int, count: int, rate: float, seconds: float) -> Seen:
    """Websockets that mostly wait; so many messages a second, over all of them, each of which comes back."""
    loop = asyncio.get_running_loop()

    async def one(number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
        writer.write(HANDSHAKE)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        return reader, writer

    sockets = await crowd(count, one)
    say("ready")
    taken: list[float] = []
    lost = 0

    async def message(due: float) -> None:
        nonlocal lost
        reader, writer = sockets[random.randrange(count)]
        words = b"\x82\x0e" + random.randbytes(14)
        writer.write(words)
        try:
            async with asyncio.timeout(10):
                while reader in talking:
                    await talking[reader]
                talking[reader] = loop.create_future()
                try:
                    got = await reader.readexactly(len(words))
                finally:
                    talking.pop(reader).set_result(None)
            lost += len(got) != len(words)
        except (OSError, EOFError):
            lost += 1
        taken.append(loop.time() - due)

    talking: dict[asyncio.StreamReader, asyncio.Future[None]] = {}
    begin = loop.time()
    under_way = []
    for number in range(int(rate * seconds)):
        due = begin + number / rate
        if due > loop.time():
            await asyncio.sleep(due - loop.time())
        under_way.append(asyncio.ensure_future(message(due)))
    await asyncio.gather(*under_way)
    await over
    return {"messages": len(taken), "lost": lost, "p99": quantile(taken, 0.99) * 1000, "open": count}


async def churn(over: Until, port: int, count: int, together: int = 8) -> Seen:
    """Connections one after the other, each with one request; it is told after each tenth of them."""
    loop = asyncio.get_running_loop()
    done = wrong = 0
    step = max(1, count // 10)
    request = get(host="app.example")

    async def visitor() -> None:
        nonlocal done, wrong
        while done < count:
            done += 1
            try:
                made = await connect(port)
                await loop.sock_sendall(made, request)
                got = b""
                while len(got) < 1024 and (data := await loop.sock_recv(made, 4096)):
                    got += data
                wrong += not got.startswith(b"HTTP/1.1 200 ")
                made.close()
            except OSError:
                wrong += 1
            if done % step == 0:
                say("tenth")
                # So that who measures sees the gate at rest.
                await asyncio.sleep(0.05)

    say("ready")
    await asyncio.gather(*(visitor() for _ in range(together)))
    return {"connections": done, "wrong": wrong}


async def aborts(over: Until, port: int, count: int) -> Seen:
    """Requests whose client leaves at some point: in the head, in the body, before the answer or within it."""
    loop = asyncio.get_running_loop()
    whole = [
        get("/slow/3"),
        get("/big/1000000"),
        get("/1k"),
        b"POST /p HTTP/1.1\r\nHost: attacked.example\r\nContent-Length: 50000\r\n\r\n" + BLOCK[:50000],
        b"POST /p HTTP/1.1\r\nHost: attacked.example\r\nTransfer-Encoding: chunked\r\n\r\n"
        + (b"4000\r\n" + BLOCK[:16384] + b"\r\n") * 3,
        HANDSHAKE.replace(b"app.", b"attacked."),
    ]

    async def one(number: int) -> None:
        request = whole[number % len(whole)]
        made = await connect(port)
        with contextlib.suppress(OSError, TimeoutError):
            if random.random() < 0.4:
                request = request[: random.randrange(1, len(request))]
            async with asyncio.timeout(2):
                await loop.sock_sendall(made, request)
                await asyncio.sleep(random.choice((0, 0, 0.001, 0.01, 0.1)))
                if random.random() < 0.3:
                    await loop.sock_recv(made, 1000)
        if random.random() < 0.5:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        made.close()

    say("ready")
    await crowd(count, one)
    return {"aborted": count}


async def viewers(over: Until, port: int, own: int, count: int, asks: float, scrapes: float) -> Seen:
    """Dashboards that are open: each is told of changes and traffic, hardly reads, and asks for documents now and then.

    :param own: the port of the entry point that the dashboard is on; *asks*: seconds between two questions of each.
    :param scrapes: of the metrics, a second.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.ensure_future(over)
    seen: Counter[str] = Counter()

    async def one(number: int) -> socket.socket:
        made = await connect(own, narrow=True)
        await loop.sock_sendall(made, get("/api/events?swarm=true&traffic=true", "viewer.example"))
        begun = await loop.sock_recv(made, 12)
        seen["viewers"] += begun.endswith(b"200")
        return made

    async def ask(paths: Sequence[str], every: float, first: float) -> None:
        await asyncio.sleep(first)
        reader, writer = await asyncio.open_connection("127.0.0.1", own)
        for path in itertools.cycle(paths):
            if ended.done():
                break
            begin = loop.time()
            writer.write(get(path, "viewer.example"))
            status, _ = await read_answer(reader)
            seen[f"{path} {status}"] += 1
            await asyncio.wait([ended], timeout=max(0.0, every - (loop.time() - begin)))
        writer.close()

    async def read_slowly(made: socket.socket) -> None:
        # Not all at the same moment: on the core that they share with the honest it would be these who wait for it.
        await asyncio.wait([ended], timeout=random.random())
        while not ended.done():
            await asyncio.wait([ended], timeout=1.0)
            with contextlib.suppress(BlockingIOError):
                seen["octets of changes"] += len(made.recv(100))

    held = await crowd(count, one)
    say("ready")
    await asyncio.gather(
        *(ask(("/api/overview", "/api/swarm"), asks, random.random() * asks) for _ in held),
        ask(("/metrics",), 1 / scrapes, 0.0),
        *map(read_slowly, held),
    )
    for made in held:
        made.close()
    return dict(seen)


async def gets(over: Until, port: int, count: int, connections: int = 20, posts: int = 0) -> Seen:
    """*count* GETs, each of which has to bring its own name back, and among them *posts* with unique names."""
    wrong: Counter[str] = Counter()
    done = posted = 0

    async def visitor() -> None:
        nonlocal done, posted
        reader = writer = None
        while done < count:
            done += 1
            number = done
            post = posts and number % (count // posts) == 0
            name = f"/{'post' if post else 'get'}-{number}"
            request = get(name)
            if post:
                posted += 1
                request = f"POST {name} HTTP/1.1\r\nHost: attacked.example\r\nContent-Length: 3\r\n\r\nabc".encode()
            try:
                async with asyncio.timeout(20):
                    if reader is None or writer is None:
                        reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(request)
                    status, body = await read_answer(reader)
                if status == 200 and body != name.encode():
                    wrong["another's answer"] += 1
                elif status != 200:
                    wrong[f"{'POST' if post else 'GET'} {status}"] += 1
            except (OSError, EOFError, TimeoutError) as error:
                wrong[f"{'POST' if post else 'GET'} {type(error).__name__}"] += 1
                if writer is not None:
                    writer.close()
                reader = writer = None

    say("ready")
    await asyncio.gather(*(visitor() for _ in range(connections)))
    return {"requests": done, "posts": posted, "wrong": dict(wrong)}


async def broken_bodies(over: Until, port: int, count: int) -> Seen:
    """Answers whose server breaks off: each has to look broken to the client, too."""
    ends: Counter[str] = Counter()

    async def one(number: int) -> None:
        chunked = number % 2
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get(f"/broken/{number}" + ("/chunked" if chunked else "")))
        try:
            async with asyncio.timeout(10):
                whole = await reader.read()
        except ConnectionError:
            ends["truncated"] += 1
        except TimeoutError:
            ends["hung"] += 1
        else:
            head, _, body = whole.partition(b"\r\n\r\n")
            is_whole = body.endswith(b"0\r\n\r\n") if chunked else len(body) >= 100000
            # 502 is an answer too, where nothing had been passed on yet.
            ends["clean" if is_whole else "502" if head.startswith(b"HTTP/1.1 502") else "truncated"] += 1
        writer.close()

    say("ready")
    await crowd(count, one)
    return dict(ends)


async def hostile(over: Until, port: int, rounds: int) -> Seen:
    """All bad answers, with honest requests in between that must get their own; what became of each."""
    outcomes: dict[str, str] = {}
    crossed = 0

    async def ask(request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        try:
            async with asyncio.timeout(10):
                return await reader.read()
        except (ConnectionError, TimeoutError) as error:
            return type(error).__name__.encode()
        finally:
            writer.close()

    say("ready")
    for round_ in range(rounds):
        for number, answer in enumerate(ANSWERS):
            got = await ask(get(f"/hostile/{number}", more="Connection: close\r\n"))
            bad = answer.verdict(got)
            if bad:
                outcomes[answer.name] = bad
            name = f"/own-{round_}-{number}"
            got = await ask(get(name, more="Connection: close\r\n"))
            crossed += not (got.startswith(b"HTTP/1.1 200 ") and got.endswith(name.encode()))
    return {"answers": len(ANSWERS) * rounds, "wrong": outcomes, "crossed": crossed}


ROLES: dict[str, Callable[..., Coroutine[Any, Any, Seen]]] = {
    one.__name__: one
    for one in (
        *(honest, backend, slow_heads, slow_bodies, slow_readers, stopped_upload, idle, half_open, websockets),
        *(churn, aborts, gets, broken_bodies, hostile, viewers),
    )
}


def say(word: str) -> None:
    """Print a line."""
    print(word, flush=True)


async def act(role: str, given: dict[str, Any]) -> Seen:
    """Play *role*."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()

    def ended() -> None:
        if not os.read(sys.stdin.fileno(), 100) and not over.done():
            over.set_result(None)

    loop.add_reader(sys.stdin.fileno(), ended)
    return await ROLES[role](over, **given)


def main() -> int:
    """Play the role that the command line names."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    began = time.monotonic()
    seen = asyncio.run(act(sys.argv[1], json.loads(sys.argv[2])))
    say(json.dumps({**seen, "took": time.monotonic() - began}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
