"""HTTP/2 with other people's clients, and with clients that attack, against a gate that runs."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import Gate, free_port, routes
from tests.e2e.http2_attacker import ATTACKS
from tests.e2e.http2_server import BIG, serve
from tests.e2e.programs import needed
from tests.http2_peers import HEAD

PATIENCE = 30.0
#: Requests that the honest client sends while it is quiet, and under each attack, where its latency is measured: so
#: many as ``SWARMGATE_TEST_ATTACKS`` says. It takes a quiet machine with two cores, so it is done where that is set.
SAMPLES = int(os.environ.get("SWARMGATE_TEST_ATTACKS", "0"))
#: What an attack, until its connection is closed, may cost the gate at most: so many requests of an honest client's.
COSTS = 2000


def run(*command: str) -> subprocess.CompletedProcess[bytes]:
    """Run *command* to its end."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=PATIENCE)


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


class AttackTests(SynchronousTestCase):
    """What an attack costs the gate, and with it those who share it; each peer in a process of its own."""

    def setUp(self) -> None:
        ports = free_port(), free_port()
        self.gate = Gate(routes({"s": [ports[0]], "t": [ports[1]]}, {"a.example": "s", "attacked.example": "t"}))
        self.addCleanup(self.gate.stop)
        self.cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(self.gate.process.pid, self.cores[:1])
        for port, policy in zip(ports, (os.SCHED_OTHER, os.SCHED_IDLE), strict=True):
            self.start("http2_server", policy, str(port))

    def start(self, program: str, policy: int, *given: str) -> subprocess.Popen[bytes]:
        """Start one of the programs of these tests, on another core than the gate's if there is one.

        What the attacker's side does runs when nobody else does (``SCHED_IDLE``): it must not take the honest side's
        time by itself, only by what it makes the gate do.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", f"tests.e2e.{program}", *given],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parent.parent.parent,
        )
        os.sched_setaffinity(process.pid, self.cores[-1:])
        self.addCleanup(self._stop, process)
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), b"begins\n")
        os.sched_setscheduler(process.pid, policy, os.sched_param(0))
        return process

    def _stop(self, process: subprocess.Popen[bytes]) -> bytes:
        """End *process*; what it has said."""
        process.kill()
        process.wait()
        assert process.stdout is not None
        if process.stdout.closed:
            return b""
        with process.stdout as said:
            return said.read()

    def cpu(self) -> float:
        """Seconds of CPU that the gate has taken (the first figure of proc(5)'s ``schedstat``)."""
        return int(Path(f"/proc/{self.gate.process.pid}/schedstat").read_text().split()[0]) / 1e9

    def ask(self, count: int) -> list[float]:
        """The seconds that each of *count* requests took, one after the other on one connection, shortest first."""
        taken = []
        with socket.create_connection(("127.0.0.1", self.gate.port), PATIENCE) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            h2 = H2Connection(H2Configuration(client_side=True))
            h2.initiate_connection()
            for _ in range(count):
                began = perf_counter()
                stream = h2.get_next_available_stream_id()
                h2.send_headers(stream, HEAD, end_stream=True)
                client.sendall(h2.data_to_send())
                done = False
                while not done:
                    data = client.recv(65536)
                    assert data, "the honest client was sent away"
                    done = any(isinstance(event, StreamEnded) for event in h2.receive_data(data))
                    client.sendall(h2.data_to_send())
                taken.append(perf_counter() - began)
                sleep(0.003)
        return sorted(taken)

    def _attack_once(self, name: str) -> None:
        self.ask(50)
        before = self.cpu()
        self.ask(200)
        request = (self.cpu() - before) / 200
        before = self.cpu()
        attacker = self.start("http2_attacker", os.SCHED_OTHER, str(self.gate.port), name, "once")
        if name == "unread answers":
            # That is not forbidden, but it comes to rest: but for what the gate does by itself.
            spent = -1.0
            while self.cpu() - before > spent + 0.02:
                spent = self.cpu() - before
                sleep(1)
        else:
            self.assertEqual(attacker.wait(PATIENCE), 0)
            self.assertEqual(self._stop(attacker), b"lost\n")
        cost = (self.cpu() - before) / request
        print(f"{name}: {cost * request * 1000:.0f} ms of the gate's CPU, as much as {cost:.0f} requests")
        self.assertLess(cost, COSTS)
        self.ask(1)

    def _attack_always(self, name: str) -> None:
        self.ask(100)
        taken: dict[bool, list[float]] = {False: [], True: []}
        lost, share = 0, []
        # In turns, so that what else the machine does is in both.
        for _ in range(3):
            taken[False] += self.ask(SAMPLES)
            attacker = self.start("http2_attacker", os.SCHED_IDLE, str(self.gate.port), name, "always")
            before, began = self.cpu(), perf_counter()
            taken[True] += self.ask(SAMPLES)
            share.append((self.cpu() - before) / (perf_counter() - began))
            lost += self._stop(attacker).count(b"lost")
        quiet, busy = (sorted(times)[int(len(times) * 0.99)] * 1000 for times in (taken[False], taken[True]))
        print(
            f"{name}: p99 {quiet:.2f} ms quiet, {busy:.2f} ms under attack ({busy / quiet:.2f}); "
            f"{lost} connections lost, {median(share):.0%} of the gate's core"
        )
        self.assertLessEqual(busy, 1.5 * quiet)


def _test(name: str) -> Callable[[AttackTests], None]:
    def test(self: AttackTests) -> None:
        if SAMPLES:
            self._attack_always(name)
        else:
            self._attack_once(name)

    test.__doc__ = ATTACKS[name][0].__doc__
    return test


for _name in ATTACKS:
    setattr(AttackTests, f"test_{_name.replace(' ', '_')}", _test(_name))
