"""Limits of a gate with two worker processes hold for both together, also when one of them is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import ssl
import time
import urllib.request
from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import PATIENCE, Gate, free_port, routes

#: Seconds that a crowd asks for, and how often in each.
SECONDS = 4
OFFERED = 400
#: How many may be under way.
AMOUNT = 10


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that answers at once, but for ``/slow``, which it never answers."""
    with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
        while (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET / "):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()
    writer.close()


class WorkerLimitTests(SynchronousTestCase):
    def gate(self, limit: str, *options: str) -> Gate:
        """A gate with two workers, and the port of its server in :attr:`port`."""
        self.port = free_port()
        text = routes({"app": [self.port]}, {"a": "app"}).replace(
            "service: app", "service: app\n      middlewares: [limit]"
        )
        text = text.replace(
            "  services:", "    secure:\n      rule: Host(`b`)\n      service: app\n      tls: {}\n  services:"
        )
        gate = Gate(text + f"  middlewares:\n    limit:\n      {limit}\n", "--workers=2", *options)
        self.addCleanup(gate.stop)
        return gate

    async def ask(self, gate: Gate, path: str = "/") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        streams = await asyncio.open_connection("127.0.0.1", gate.port)
        streams[1].write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        return streams

    async def status(self, reader: asyncio.StreamReader) -> int:
        """The status of the next answer, of which all is read."""
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        return int(head[9:12])

    def test_rate(self) -> None:
        """Of 400 requests a second, offered to two workers, as many pass as one bucket lets pass."""
        gate = self.gate("rateLimit: {average: 100, burst: 50}")
        seen: Counter[int] = Counter()

        async def crowd() -> None:
            async with await asyncio.start_server(answer, "127.0.0.1", self.port):
                loop = asyncio.get_running_loop()
                # One connection after another: the kernel spreads them over the workers.
                clients = [await asyncio.open_connection("127.0.0.1", gate.port) for _ in range(16)]
                begin = loop.time() + 0.1

                async def ask(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    for at in range(number, OFFERED * SECONDS, len(clients)):
                        await asyncio.sleep(begin + at / OFFERED - loop.time())
                        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                        seen[await self.status(reader)] += 1
                    writer.close()

                await asyncio.gather(*(ask(number, *client) for number, client in enumerate(clients)))

        asyncio.run(crowd())
        wanted = 50 + 100 * SECONDS
        print(f"admitted {seen[200]}, wanted {wanted}", end=" ")
        self.assertEqual((set(seen), seen.total()), ({200, 429}, OFFERED * SECONDS))
        self.assertLess(abs(seen[200] - wanted), 0.05 * wanted)

    def test_in_flight(self) -> None:
        """So many are under way in both workers together; what a killed one had is given back, and no more."""
        gate = self.gate(f"inFlightReq: {{amount: {AMOUNT}}}")
        found = re.search(r"processes (\d+), (\d+)", gate.said())
        assert found is not None, gate.said()
        victims = [int(found[1]), int(found[2])]

        async def fill() -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
            """Ask until nothing more is let pass. Returns the connections of requests that are under way."""
            asked = [await self.ask(gate, "/slow") for _ in range(3 * AMOUNT)]
            refused = [asyncio.create_task(self.status(reader)) for reader, _ in asked]
            done, _ = await asyncio.wait(refused, timeout=1)
            for task in done:
                assert task.exception() is not None or task.result() == 429
            held = []
            for task, (reader, writer) in zip(refused, asked, strict=True):
                if task in done:
                    writer.close()
                else:
                    task.cancel()
                    held.append((reader, writer))
            await asyncio.gather(*refused, return_exceptions=True)
            return held

        async def everything() -> None:
            async with await asyncio.start_server(answer, "127.0.0.1", self.port):
                held = await fill()
                self.assertEqual(len(held), AMOUNT)
                given_back = []
                for number, victim in enumerate(victims, 1):
                    os.kill(victim, signal.SIGKILL)
                    deadline = time.monotonic() + PATIENCE
                    while gate.said(100_000).count("serves again") < number:
                        assert time.monotonic() < deadline, gate.said()
                        await asyncio.sleep(0.05)
                    # Those of the other worker are still under way.
                    lost = [await gone(reader) for reader, _ in held]
                    again = await fill()
                    self.assertEqual(len(again), sum(lost))
                    given_back.append(len(again))
                    held = [one for one, is_lost in zip(held, lost, strict=True) if not is_lost] + again
                    self.assertEqual(len(held), AMOUNT)
                print(f"given back by those that were killed: {given_back}", end=" ")
                self.assertGreater(sum(given_back), 0)
                for _, writer in held:
                    writer.close()
                # Whoever has left has left its place, after the second for which half closed connections are answered.
                await asyncio.sleep(2)
                rest = await fill()
                self.assertEqual(len(rest), AMOUNT)
                for _, writer in rest:
                    writer.close()

        async def gone(reader: asyncio.StreamReader) -> bool:
            """Whether the connection is no more."""
            try:
                return not await asyncio.wait_for(reader.read(1), 0.1)
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        asyncio.run(everything())

    def test_connections(self) -> None:
        """So many connections of one address are served by both workers together, with TLS and without."""
        gate = self.gate(
            "headers: {}", "--entryPoints.web.inFlightConn.amount=6", "--metrics.prometheus.entryPoint=web"
        )
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE

        async def connect(secure: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
            """A connection that is served, None if it is closed."""
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", gate.port, ssl=tls if secure else None)
                writer.write(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
                status = await self.status(reader)
            except (OSError, asyncio.IncompleteReadError):
                return None
            self.assertIn(status, (200, 404))
            return reader, writer

        async def everything() -> None:
            for _ in range(3):
                found = [await connect(secure) for _ in range(5) for secure in (False, True)]
                served = [one for one in found if one is not None]
                self.assertEqual(len(served), 6)
                for _, writer in served:
                    writer.close()
                    with contextlib.suppress(OSError, ssl.SSLError):
                        await writer.wait_closed()
                await asyncio.sleep(0.5)

        asyncio.run(everything())
        time.sleep(1)  # Workers tell twice a second.
        with urllib.request.urlopen(f"http://127.0.0.1:{gate.port}/metrics", timeout=PATIENCE) as answer:
            said = answer.read().decode()
        self.assertIn('reason="too many connections of one address"} 12.0', said)
