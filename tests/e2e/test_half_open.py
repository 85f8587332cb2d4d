"""A thousand handshakes that nobody finishes, and what others notice of them."""

from __future__ import annotations

import asyncio
import resource
import ssl

import uvloop
from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import Gate, free_port, routes
from tests.test_client_hello import hello

HANDSHAKES = 1000
#: Requests per second of those who mean well, and for how many seconds they ask, before and during.
RATE = 200
SECONDS = 4.0
#: By how much the slowest hundredth of them may become slower, in seconds.
AT_MOST = 0.020
ATTEMPTS = 3


def _slowest_hundredth(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


async def _ask(port: int) -> list[float]:
    """How long requests take over kept connections, over TLS, from the times on when they were due."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[float] = asyncio.Queue()
    times: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        while (due := await waiting.get()) >= 0:
            writer.write(b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 404 "), head
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            await reader.readexactly(length)
            times.append(loop.time() - due)
        writer.close()

    clients = [asyncio.ensure_future(client()) for _ in range(8)]
    begun = loop.time()
    for number in range(int(RATE * SECONDS)):
        due = begun + number / RATE
        await asyncio.sleep(max(0.0, due - loop.time()))
        waiting.put_nowait(due)
    for _ in clients:
        waiting.put_nowait(-1.0)
    await asyncio.gather(*clients)
    return times


async def _begin_handshakes(port: int, opened: list[asyncio.StreamWriter]) -> None:
    """Every other one has said all of its hello, and takes the answer; the rest stop in the middle of it."""
    octets = hello("a.example")
    for number in range(HANDSHAKES):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(octets if number % 2 else octets[: len(octets) // 2])
        opened.append(writer)
        await asyncio.sleep(SECONDS / 2 / HANDSHAKES)


class HalfOpenTests(SynchronousTestCase):
    def test_others_notice_nothing(self) -> None:
        """A thousand handshakes that stop in their middle make nobody else's requests slower by more than 20 ms."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        port = free_port()
        gate = Gate(
            routes({"app": []}, {"a": "app"}),
            f"--entrypoints.safe.address=127.0.0.1:{port}",
            "--entrypoints.safe.http.tls=true",
        )
        self.addCleanup(gate.stop)

        async def measure() -> tuple[float, float, int]:
            before = _slowest_hundredth(await _ask(port))
            opened: list[asyncio.StreamWriter] = []
            times, _ = await asyncio.gather(_ask(port), _begin_handshakes(port, opened))
            held = sum(not writer.transport.is_closing() for writer in opened)
            for writer in opened:
                writer.transport.abort()
            return before, _slowest_hundredth(times), held

        # Others use this machine, too: what holds once was no accident, since nothing makes an attack cheaper.
        measured = []
        for _ in range(ATTEMPTS):
            before, during, held = uvloop.run(measure())
            self.assertGreater(held, HANDSHAKES * 9 // 10)
            measured.append(f"{before * 1000:.1f} ms before, {during * 1000:.1f} ms during")
            if during - before <= AT_MOST:
                print(f"slowest hundredth: {measured[-1]}")
                return
        self.fail("; ".join(measured))
