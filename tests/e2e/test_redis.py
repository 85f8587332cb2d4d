"""Limits of several gates in one real Redis, which gets slow, freezes, is killed and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import PATIENCE, Gate, free_port, routes
from tests.e2e.redis_server import PASSWORD, RedisServer
from tests.pki import authority

#: Seconds that a crowd asks for, and how often in each.
SECONDS = 4
OFFERED = 400
METRICS = "--metrics.prometheus.entryPoint=web"
#: What a request that was not to wait may take on a machine that has other things to do.
SOON = 0.25


def text_of(redis: RedisServer, port: int, limit: str, options: str = "") -> str:
    """Routes with the limit on their only router."""
    text = routes({"app": [port]}, {"a": "app"}).replace("service: app", "service: app\n      middlewares: [limit]")
    where = f"redis: {{endpoints: ['127.0.0.1:{redis.port}'], password: {PASSWORD}{options}}}"
    return text + f"  middlewares:\n    limit:\n      rateLimit: {{{limit}, {where}}}\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that answers at once."""
    with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    # Else the gate would keep a connection at whose other end nobody is any more.
    writer.close()


def metrics_of(gate: Gate) -> str:
    """What the gate tells Prometheus."""
    with urllib.request.urlopen(f"http://127.0.0.1:{gate.port}/metrics", timeout=PATIENCE) as answer:
        return str(answer.read().decode())


class Asking:
    """A connection to a gate."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> tuple[int, float]:
        """The status of an answer, and the seconds that it has taken."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._gate.port)
        reader, writer = self._streams
        begin = time.monotonic()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        return int(head[9:12]), time.monotonic() - begin

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


class RedisTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.redis = RedisServer()
        self.addCleanup(self.redis.stop)
        self.port = free_port()

    def gate(self, limit: str, options: str = "", *more: str, **how: bool) -> Gate:
        gate = Gate(text_of(self.redis, self.port, limit, options), *more, **how)
        self.addCleanup(gate.stop)
        return gate

    def until(self, gate: Gate, words: str, times: int = 1) -> None:
        """Wait until the gate has said *words* so many times."""
        deadline = time.monotonic() + PATIENCE
        while gate.said(100_000).count(words) < times:
            if time.monotonic() > deadline:
                self.fail(f"the gate has not said {words!r} {times} times: {gate.said()}")
            time.sleep(0.05)  # The gate's log is all that tells.

    def reached(self, gate: Gate) -> None:
        """Wait until a gate that has just begun, and may already answer, has reached Redis."""
        deadline = time.monotonic() + PATIENCE
        while 'traefik_rate_limit_redis_up{middleware="limit@file"} 1.0' not in metrics_of(gate):
            self.assertLess(time.monotonic(), deadline, "the gate has not reached Redis")
            time.sleep(0.1)  # The metrics are all that tells.

    def run_with_server(self, what: Callable[[], object]) -> None:
        """Run the coroutine function *what* while a server answers."""

        async def everything() -> None:
            async with await asyncio.start_server(serve, "127.0.0.1", self.port):
                await what()  # type: ignore[misc]

        asyncio.run(everything())

    def test_three_gates(self) -> None:
        """Of 400 requests a second, offered to three gates, as many pass as one bucket lets pass."""
        # What is tested is the one limit: other work on the machine shall not make decisions late.
        gates = [
            self.gate("average: 100, burst: 50", ", decisionTimeout: 1s", uvloop=number != 1) for number in range(3)
        ]
        seen: Counter[int] = Counter()

        async def crowd() -> None:
            loop = asyncio.get_running_loop()
            # Connections to Redis are there with the first request that passed.
            clients = [Asking(gate) for gate in gates for _ in range(4)]
            begin = loop.time() + 0.2

            async def ask(client: Asking, first: int) -> None:
                for number in range(first, OFFERED * SECONDS, len(clients)):
                    await asyncio.sleep(begin + number / OFFERED - loop.time())
                    seen[(await client.ask())[0]] += 1
                client.close()

            await asyncio.gather(*(ask(client, number) for number, client in enumerate(clients)))

        self.run_with_server(crowd)
        wanted = 50 + 100 * SECONDS
        print(f"admitted {seen[200]}, wanted {wanted}", end=" ")
        self.assertEqual((set(seen), seen.total()), ({200, 429}, OFFERED * SECONDS))
        self.assertLess(abs(seen[200] - wanted), 0.05 * wanted)
        for gate in gates:
            self.assertNotIn("does not decide", gate.said())
        self.assertLessEqual(len(self.redis.names()), 1)

    def test_frozen(self) -> None:
        """A Redis that freezes costs a few requests 10 ms each, and the limit goes on; then it is asked again."""
        gate = self.gate("average: 1, period: 1m, burst: 5")
        slow: list[float] = []

        async def freeze() -> None:
            client = Asking(gate)
            self.assertEqual([(await client.ask())[0] for _ in range(6)], [200] * 5 + [429])
            self.redis.freeze()
            answers = [await client.ask() for _ in range(40)]
            client.close()
            # The gate knows what Redis has said last.
            self.assertEqual([status for status, _ in answers], [429] * 40)
            slow.extend(seconds for _, seconds in answers if seconds > 0.009)
            self.assertLess(max(seconds for _, seconds in answers), SOON)

        self.run_with_server(freeze)
        self.assertIn("does not decide (no answer within 10 ms)", gate.said())
        self.redis.thaw()
        self.until(gate, "decides again")

        async def thawed() -> None:
            client = Asking(gate)
            # Redis knows what was taken before.
            self.assertEqual((await client.ask())[0], 429)
            client.close()

        self.run_with_server(thawed)
        print(f"{len(slow)} of 40 waited, at most {1000 * max(slow):.1f} ms", end=" ")
        self.assertEqual(gate.said(100_000).count("does not decide"), 1)
        self.assertNotIn(PASSWORD, gate.said(100_000))

    def test_killed(self) -> None:
        """A Redis that is killed costs nobody anything; when it comes back, it is asked again."""
        gate = self.gate("average: 1, period: 1m, burst: 5", "", METRICS, uvloop=False)

        self.reached(gate)

        async def kill() -> None:
            client = Asking(gate)
            self.assertEqual((await client.ask())[0], 200)
            self.redis.kill()
            answers = [await client.ask() for _ in range(40)]
            client.close()
            self.assertEqual([status for status, _ in answers], [200] * 4 + [429] * 36)
            self.assertLess(max(seconds for _, seconds in answers), SOON)

        self.run_with_server(kill)
        self.until(gate, "does not decide")
        time.sleep(0.6)  # What was scraped is shown again for a while.
        said = metrics_of(gate)
        self.assertIn('traefik_rate_limit_redis_up{middleware="limit@file"} 0.0', said)
        by_redis, by_gate = (
            float(said.partition(f'redis_decisions_total{{by="{who}",middleware="limit@file"}} ')[2].split("\n")[0])
            for who in ("redis", "gate")
        )
        # On a busy machine even the first may have been late.
        self.assertEqual(by_redis + by_gate, 41)
        self.assertGreaterEqual(by_gate, 40)
        self.redis.restart()
        self.until(gate, "decides again")

        async def again() -> None:
            client = Asking(gate)
            # The new one knows nothing, not even the script.
            self.assertEqual([(await client.ask())[0] for _ in range(6)], [200] * 5 + [429])
            client.close()

        self.run_with_server(again)
        self.assertEqual(len([key for key in self.redis.names() if key != b"swarmgate:rate:try"]), 1)

    def test_clock_set_back(self) -> None:
        """When Redis' clock is set back by years, nobody waits for years."""
        gate = self.gate("average: 1, burst: 2")

        async def set_back() -> None:
            client = Asking(gate)
            await client.ask()
            (name,) = self.redis.names()
            self.redis.do(f"SET {name.decode()} 99999999999.5")
            self.assertEqual((await client.ask())[0], 429)
            await asyncio.sleep(1.6)
            self.assertEqual((await client.ask())[0], 200)
            client.close()

        self.run_with_server(set_back)
        self.assertNotIn("does not decide", gate.said())

    def test_user_and_tls(self) -> None:
        """A user that may do what the documentation says, and no more, over TLS with certificates both ways."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        root = authority()
        authority_file = folder / "ca.crt"
        authority_file.write_text(root.pem)
        server, server_key = root.issue("127.0.0.1").write(folder, "server")
        client, client_key = root.issue("gate").write(folder, "client")
        tls_port = free_port()
        redis = RedisServer(
            *("--tls-port", str(tls_port), "--tls-cert-file", server, "--tls-key-file", server_key),
            *("--tls-ca-cert-file", str(authority_file), "--tls-auth-clients", "yes"),
            *f"--user gate on >user-{PASSWORD} ~swarmgate:rate:* +evalsha +eval +time +get +set +select".split(" "),
        )
        self.addCleanup(redis.stop)
        text = text_of(self.redis, self.port, "average: 1, period: 1m, burst: 5").replace(
            f"'127.0.0.1:{self.redis.port}'], password: {PASSWORD}",
            f"'127.0.0.1:{tls_port}'], username: gate, password: user-{PASSWORD}, db: 2, "
            f"tls: {{ca: {authority_file}, cert: {client}, key: {client_key}}}",
        )
        gates = [Gate(text), Gate(text, uvloop=False)]
        for gate in gates:
            self.addCleanup(gate.stop)

        async def ask() -> None:
            clients = [Asking(gate) for gate in gates]
            # The handshake is not over with the first.
            for client in clients:
                await client.ask()
            await asyncio.sleep(1)
            statuses = [(await client.ask())[0] for _ in range(4) for client in clients]
            self.assertEqual(statuses[-3:], [429] * 3)
            self.assertLessEqual(statuses.count(200), 5)
            for client in clients:
                client.close()

        self.run_with_server(ask)
        for gate in gates:
            self.assertNotIn("does not decide", gate.said(100_000))
            self.assertNotIn(PASSWORD, gate.said(100_000))
        self.assertEqual(len(redis.names(db=2)), 1)

    def test_denied(self) -> None:
        """denyOnError: without Redis, nobody passes."""
        gate = self.gate("average: 100, burst: 50", ", denyOnError: true", METRICS)

        self.reached(gate)

        async def kill() -> None:
            client = Asking(gate)
            self.assertEqual((await client.ask())[0], 200)
            self.redis.kill()
            answers = [await client.ask() for _ in range(20)]
            client.close()
            self.assertEqual({status for status, _ in answers}, {503})
            self.assertLess(max(seconds for _, seconds in answers), SOON)

        self.run_with_server(kill)
