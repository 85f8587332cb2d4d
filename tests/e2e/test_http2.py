"""HTTP/2 with other people's clients, and with clients that attack, against a gate that runs."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable
from time import perf_counter
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from hpack import Encoder
from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import Gate, free_port, routes
from tests.e2e.programs import needed
from tests.http2_peers import HEAD, frame

PATIENCE = 30.0
BIG = bytes(range(256)) * 8000
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
#: Requests that the honest client sends while it is quiet, and under each attack.
SAMPLES = 300


def run(*command: str) -> subprocess.CompletedProcess[bytes]:
    """Run *command* to its end."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=PATIENCE)


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


class GateTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.port = free_port()
        self.gate = Gate(routes({"s": [self.port]}, {"a.example": "s", "127.0.0.1": "s"}))
        self.addCleanup(self.gate.stop)
        self.url = f"http://127.0.0.1:{self.gate.port}"

    def with_server(self, act: Callable[[], Any]) -> Any:
        """What *act*, which waits for the server, or is a coroutine, comes to while the server serves."""

        async def main() -> Any:
            async with await asyncio.start_server(serve, "127.0.0.1", self.port, backlog=2048, limit=2**17):
                if asyncio.iscoroutinefunction(act):
                    return await act()
                return await asyncio.to_thread(act)

        return asyncio.run(main())


class ClientTests(GateTests):
    def test_curl(self) -> None:
        """curl gets what it asks for, and sends what it has, over HTTP/2."""
        curl = needed("curl", "curl")

        def talk() -> None:
            done = run(curl, "-s", "-w", "%{http_version} %{http_code}", "--http2-prior-knowledge", f"{self.url}/")
            self.assertEqual(done.stdout, b"ok2 200")
            done = run(curl, "-s", "--http2-prior-knowledge", f"{self.url}/big")
            self.assertTrue(done.stdout == BIG)
            for name in ("Content-Length: 3000000", "Content-Length:"):
                done = subprocess.run(
                    [curl, "-s", "--http2-prior-knowledge", "-H", name, "--data-binary", "@-", f"{self.url}/"],
                    input=b"a" * 3_000_000,
                    capture_output=True,
                    check=False,
                    timeout=PATIENCE,
                )
                self.assertEqual(done.stdout, b"3000000")

        self.with_server(talk)

    def test_curl_without_prior_knowledge(self) -> None:
        """A client that offers to upgrade is answered in HTTP/1.1."""
        done = self.with_server(
            lambda: run(needed("curl", "curl"), "-s", "-w", "%{http_version} %{http_code}", "--http2", f"{self.url}/")
        )
        self.assertEqual(done.stdout, b"ok1.1 200")

    def test_nghttp(self) -> None:
        """nghttp, which sends priorities, gets its answers, and no error."""
        done = self.with_server(lambda: run(needed("nghttp", "nghttp2-client"), "-v", "-m", "20", f"{self.url}/"))
        self.assertEqual((done.returncode, done.stdout.count(b":status: 200")), (0, 20))
        self.assertNotIn(b"recv RST_STREAM", done.stdout)

    def test_h2load(self) -> None:
        """A hundred streams on each of ten connections: every request is answered."""
        done = self.with_server(
            lambda: run(needed("h2load", "nghttp2-client"), "-n", "5000", "-c", "10", "-m", "100", f"{self.url}/")
        )
        self.assertIn(b"5000 succeeded, 0 failed, 0 errored, 0 timeout", done.stdout, done.stdout)


class Attacker:
    """Does what it must not, again and again: over a new connection when it has lost one.

    :ivar lost: connections that the gate has closed.
    """

    def __init__(self, port: int, shots: Callable[[], AsyncIterator[bytes]], a_second: float) -> None:
        self.lost = 0
        self._port = port
        self._shots = shots
        self._pause = 1 / a_second

    async def run(self) -> None:
        """Attack until cancelled."""
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                await self._attack(reader, writer)
            except ConnectionError:
                self.lost += 1
            finally:
                writer.close()
            await asyncio.sleep(0.05)

    async def _attack(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        over = asyncio.ensure_future(self._drain(reader))
        try:
            writer.write(PREFACE)
            async for shot in self._shots():
                if over.done():
                    break
                writer.write(shot)
                await writer.drain()
                await asyncio.sleep(self._pause)
            await over
        finally:
            over.cancel()
        raise ConnectionResetError

    async def _drain(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass


async def resets() -> AsyncIterator[bytes]:
    """Rapid reset (CVE-2023-44487)."""
    encoder = Encoder()
    for stream in range(1, 20_000, 20):
        yield b"".join(
            frame(1, 5, one, encoder.encode(HEAD)) + frame(3, 0, one, b"\x00\x00\x00\x08")
            for one in range(stream, stream + 20, 2)
        )


async def continuations() -> AsyncIterator[bytes]:
    """A field section without an end (VU#421644)."""
    yield frame(1, 0, 1, Encoder().encode(HEAD))
    for _ in range(10_000):
        yield frame(9, 0, 1, b"\x00\x03x-a\x01b" * 100)


def _bomb() -> tuple[bytes, bytes]:
    encoder = Encoder()
    first = encoder.encode([*HEAD, (b"x-bomb", b"a" * 3500)])
    return frame(1, 5, 1, first), encoder.encode([*HEAD, *([(b"x-bomb", b"a" * 3500)] * 500)])


#: Made once: the attacker shares a process with the honest client, who should not wait for that.
_BOMB = _bomb()


async def bombs() -> AsyncIterator[bytes]:
    """Few octets that stand for many fields."""
    yield _BOMB[0]
    for stream in range(3, 10_000, 2):
        yield frame(1, 5, stream, _BOMB[1])


async def pings() -> AsyncIterator[bytes]:
    """Pings without end."""
    for _ in range(10_000):
        yield frame(6, 0, 0, bytes(8)) * 20


async def settings() -> AsyncIterator[bytes]:
    """Settings without end."""
    for _ in range(10_000):
        yield frame(4, 0, 0, b"\x00\x03\x00\x00\x00\x64")


async def empty_frames() -> AsyncIterator[bytes]:
    """A body of nothing."""
    yield frame(1, 4, 1, Encoder().encode([(b":method", b"POST"), *HEAD[1:]]))
    for _ in range(10_000):
        yield frame(0, 0, 1) * 20


async def drips() -> AsyncIterator[bytes]:
    """Windows that open by an octet."""
    yield frame(4, 0, 0, b"\x00\x04\x00\x00\x00\x00") + frame(
        1, 5, 1, Encoder().encode([*HEAD[:3], (b":path", b"/big")])
    )
    for _ in range(10_000):
        yield frame(8, 0, 1, b"\x00\x00\x00\x01") * 20


async def unread() -> AsyncIterator[bytes]:
    """Long answers that nobody lets through, as many as may be asked for at once."""
    encoder = Encoder()
    fields = [*HEAD[:3], (b":path", b"/big")]
    for stream in range(1, 500, 2):
        yield frame(1, 5, stream, encoder.encode(fields))
    while True:
        await asyncio.sleep(0.05)
        yield frame(0xAA, 0, 0)


ATTACKS = {
    "resets": (resets, 50),
    "continuations": (continuations, 200),
    "bombs": (bombs, 200),
    "pings": (pings, 50),
    "settings": (settings, 50),
    "empty frames": (empty_frames, 50),
    "window updates": (drips, 50),
    "unread answers": (unread, 200),
}


class AttackTests(GateTests):
    """The honest client is served while another attacks, and the attacker loses its connections."""

    async def _ask(self, count: int) -> list[float]:
        """The seconds that each of *count* requests took, one after the other on one connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gate.port)
        h2 = H2Connection(H2Configuration(client_side=True))
        h2.initiate_connection()
        taken = []
        for _ in range(count):
            began = perf_counter()
            stream = h2.get_next_available_stream_id()
            h2.send_headers(stream, HEAD, end_stream=True)
            writer.write(h2.data_to_send())
            done = False
            while not done:
                data = await asyncio.wait_for(reader.read(65536), PATIENCE)
                assert data, "the honest client was sent away"
                done = any(isinstance(event, StreamEnded) for event in h2.receive_data(data))
                writer.write(h2.data_to_send())
            taken.append(perf_counter() - began)
            await asyncio.sleep(0.005)
        writer.close()
        return taken

    def _attack(self, name: str) -> None:
        shots, a_second = ATTACKS[name]

        async def main() -> tuple[list[float], list[float], int]:
            await self._ask(50)
            quiet = sorted(await self._ask(SAMPLES))
            attacker = Attacker(self.gate.port, shots, a_second)
            attack = asyncio.ensure_future(attacker.run())
            busy = sorted(await self._ask(SAMPLES))
            if name != "unread answers":
                for _ in range(100):
                    if attacker.lost:
                        break
                    await self._ask(10)
            attack.cancel()
            return quiet, busy, attacker.lost

        quiet, busy, lost = self.with_server(main)
        p99 = [times[int(len(times) * 0.99)] * 1000 for times in (quiet, busy)]
        print(f"{name}: p99 {p99[0]:.2f} ms quiet, {p99[1]:.2f} ms under attack, {lost} connections lost")
        if name != "unread answers":
            self.assertGreater(lost, 0)
        # What a loaded machine does to two measurements of the same is more than what the attacks do: this is a bound
        # for what goes wrong, not the measurement.
        self.assertLess(p99[1], max(20 * p99[0], 250))


def _test(name: str) -> Callable[[AttackTests], None]:
    def test(self: AttackTests) -> None:
        self._attack(name)

    test.__doc__ = ATTACKS[name][0].__doc__
    return test


for _name in ATTACKS:
    setattr(AttackTests, f"test_{_name.replace(' ', '_')}", _test(_name))
