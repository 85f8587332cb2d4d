"""Several processes serve: what one of them does not see, the others make good."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import statistics
import time
import urllib.request
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.workers.restarts import Restarts
from tests.e2e.gate import Gate, free_port, name_of, routes, seconds_of
from tests.e2e.test_restarts import Users, serve

#: How often workers are killed, and gates replaced; the long form has 10.
TIMES = int(os.environ.get("E2E_RESTARTS", "2"))


def ask(port: int, path: str, host: str = "api") -> Any:
    """What is answered, from JSON where it is that."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read().decode()
    return json.loads(text) if text.startswith(("{", "[")) else text


class WorkersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.backend = free_port()
        self.routes = routes({"app": [self.backend]}, {"a": "app", "api": "api@internal"})

    def gate(self, *options: str, port: int = 0) -> Gate:
        gate = Gate(self.routes, "--workers=2", "--api", *options, port=port)
        self.addCleanup(gate.stop)
        return gate

    def play(self, scenario: Coroutine[Any, Any, None]) -> None:
        async def with_backend() -> None:
            server = await asyncio.start_server(serve, "127.0.0.1", self.backend, backlog=1024)
            try:
                await scenario
            finally:
                server.close()
                others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)

        asyncio.run(with_backend())

    def until(self, what: str, holds: Any) -> None:
        deadline = time.monotonic() + 20
        while not holds():
            self.assertLess(time.monotonic(), deadline, f"never: {what}")
            time.sleep(0.05)  # Another process does it.

    def test_all_serve(self) -> None:
        """Each worker gets its share of the connections, and what they count is one number."""
        gate = self.gate("--metrics.prometheus", "--metrics.prometheus.entryPoint=web")

        async def scenario() -> None:
            async with Users(gate.port) as users:
                await asyncio.sleep(1)
            self.assertEqual(users.failures, [])
            await asyncio.sleep(1.5)
            told = await asyncio.to_thread(ask, gate.port, "/metrics")
            (count,) = re.findall(r'traefik_service_requests_total\{code="200",.*service="app@file"\} (\S+)', told)
            self.assertEqual(float(count), users.asked)
            traffic = await asyncio.to_thread(ask, gate.port, "/api/traffic")
            self.assertEqual(traffic["services"]["app@file"]["requests"], users.asked)

        self.play(scenario())
        times = [seconds_of(process) for process in gate.workers()]
        self.assertEqual(len(times), 2)
        self.assertGreater(min(times), 0.2 * max(times), f"CPU seconds of the workers: {times}")

    def test_killed(self) -> None:
        """SIGKILL of a worker costs what it was doing and no more; it is back within a second."""
        gate = self.gate()

        async def scenario() -> None:
            async with Users(gate.port) as users:
                await asyncio.sleep(0.5)
                away: list[float] = []
                took: list[float] = []
                lost: list[int] = []
                # Who dies young again and again is waited for, the longer the more often.
                young = [Restarts(), Restarts()]
                for number in range(max(4, TIMES)):
                    young[number % 2] = young[number % 2].died(0.0)
                    victim = gate.workers()[number % 2]
                    before = len(users.failures)
                    began = time.monotonic()
                    os.kill(victim, signal.SIGKILL)
                    await asyncio.to_thread(
                        self.until, "2 workers", lambda n=number: gate.said(100_000).count("serves again") == n + 1
                    )
                    away.append(time.monotonic() - began - young[number % 2].pause)
                    self.assertLess(away[-1], 3)
                    took.append(seconds_of(gate.workers()[number % 2]))
                    # Each user has one connection at a time: who had one to the victim has lost it, and nobody else.
                    lost.append(len(users.failures) - before)
                    self.assertLessEqual(lost[-1], 8)
                    await asyncio.sleep(0.3)
                    settled = len(users.failures)
                    await asyncio.sleep(0.5)
                    self.assertEqual(len(users.failures), settled, users.failures[settled:])
            self.assertLess(statistics.median(away), 1)
            # Whatever else the machine does: a new interpreter that imports everything takes half a second of CPU.
            self.assertLess(min(took), 0.3)
            back = f"{min(away):.2f} to {max(away):.2f} s and the pause of a loop, {min(took):.2f} s of CPU"
            print(f"{len(away)} killed, back after {back}: {lost} of {users.asked} lost")

        self.play(scenario())

    def test_fork_server_killed(self) -> None:
        """SIGKILL of the fork server costs no request; there is another one, and workers come back as before."""
        gate = self.gate()

        async def scenario() -> None:
            async with Users(gate.port) as users:
                await asyncio.sleep(0.5)
                server, workers = gate.fork_server(), gate.workers()
                os.kill(server, signal.SIGKILL)
                await asyncio.to_thread(self.until, "another", lambda: gate.fork_server() not in (0, server))
                await asyncio.sleep(1)
                self.assertEqual((users.failures, users.asked > 100), ([], True))
                self.assertEqual([name_of(worker) for worker in workers], ["worker 0", "worker 1"])
                for number, victim in enumerate(workers):
                    os.kill(victim, signal.SIGKILL)
                    await asyncio.to_thread(
                        self.until, "2 workers", lambda n=number: gate.said(100_000).count("serves again") == n + 1
                    )
                # Each user has one connection at a time, which each of the two may have had.
                self.assertLessEqual(len(users.failures), 8 * len(workers))
            self.assertIn(f"the fork server, process {server}, has ended: by SIGKILL", gate.said(100_000))
            self.assertIn(f"worker 1, process {workers[1]}, has ended: nobody has seen how", gate.said(100_000))
            self.assertEqual(len(gate.workers()), 2)
            os.kill(gate.workers()[0], signal.SIGKILL)
            await asyncio.to_thread(self.until, "how", lambda: "by SIGKILL; it is started" in gate.said(1000))

        self.play(scenario())

    def test_worker_has_its_own(self) -> None:
        """A worker has no descriptor but its own, and the fork server none of theirs."""
        gate = self.gate()
        server, workers = gate.fork_server(), gate.workers()

        def links(process: int) -> list[str]:
            found = []
            for one in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    found.append(os.readlink(one))
            return found

        def pipes(process: int) -> set[str]:
            return {link for link in links(process) if link.startswith(("pipe:", "socket:"))}

        self.assertEqual(pipes(workers[0]) & pipes(workers[1]), set())
        self.assertEqual(pipes(server) & (pipes(workers[0]) | pipes(workers[1])), set())
        # To the parent, and what signals wake it up with.
        self.assertEqual(len(pipes(server)), 3, links(server))

    def test_upgrade(self) -> None:
        """SIGUSR2: a new process takes the place of the old one with its sockets; nobody is refused or cut off."""
        gate = self.gate()

        async def scenario() -> None:
            async with Users(gate.port) as users:
                process = gate.process.pid
                for number in range(TIMES):
                    os.kill(process, signal.SIGUSR2)
                    await asyncio.to_thread(
                        self.until, "a new one", lambda n=number: gate.said(1 << 20).count("this one ends") == n + 1
                    )
                    process = int(re.findall(r"process (\d+) serves; this one ends", gate.said(1 << 20))[-1])
                    self.addCleanup(self.end, process)
                    if number == 0:
                        self.assertEqual(await asyncio.to_thread(gate.process.wait, 20), 0)
                await asyncio.sleep(0.5)
            print(f"{TIMES} taken over: of {users.asked} requests {len(users.failures)} failed")
            self.assertEqual((users.failures, users.asked > 100), ([], True))

        self.play(scenario())

    def end(self, process: int) -> None:
        """End a process that is nobody's child here, if it is still there."""
        try:
            os.kill(process, signal.SIGTERM)
        except ProcessLookupError:
            return
        self.until(
            "its end",
            lambda: not Path(f"/proc/{process}/cmdline").exists() or not Path(f"/proc/{process}/cmdline").read_bytes(),
        )

    def test_reload(self) -> None:
        """SIGHUP and new routes reach all workers."""
        gate = self.gate()

        async def scenario() -> None:
            async with Users(gate.port) as users:
                for number in range(5 * TIMES):
                    gate.rewrite(
                        routes({"app": [self.backend]}, {"a": "app", "api": "api@internal", f"b{number}": "app"})
                    )
                    gate.process.send_signal(signal.SIGHUP)
                    await asyncio.to_thread(
                        self.until, "the route", lambda n=number: f"Host(`b{n}`)" in gate.said(1 << 20)
                    )
                    for _ in range(8):
                        self.assertEqual(await asyncio.to_thread(ask, gate.port, "/", f"b{number}"), "ok")
            self.assertEqual((users.failures, users.asked > 100), ([], True))

        self.play(scenario())

    def test_parent_gone(self) -> None:
        """Workers whose parent was killed finish and end: nothing of the gate stays behind."""
        gate = self.gate()
        processes = [gate.fork_server(), *gate.workers()]
        self.assertEqual(len(processes), 3)
        gate.process.kill()
        gate.process.wait()
        self.until("their end", lambda: not any(name_of(process) for process in processes))

    def test_ended(self) -> None:
        """SIGTERM of a whole process group, as systemd sends it, is a drain like any other."""
        gate = self.gate()
        processes = [gate.fork_server(), *gate.workers()]
        for process in processes:
            os.kill(process, signal.SIGTERM)
        gate.process.send_signal(signal.SIGTERM)
        self.assertEqual(gate.process.wait(20), 0)
        self.assertFalse(any(name_of(process) for process in processes))
        self.assertNotIn("the fork server", gate.said(100_000))

    def test_crash_loop(self) -> None:
        """A worker that dies again and again is started at growing intervals, says the log, and leaves nothing."""
        gate = self.gate()
        before = gate.descriptors()
        for number in range(3):
            self.until("2 workers", lambda: len(gate.workers()) == 2)
            os.kill(gate.workers()[0], signal.SIGKILL)
            self.until("told", lambda n=number: gate.said(100_000).count("by SIGKILL") == n + 1)
        self.assertIn("it is started again in 0.5 s: it has died 3 times in a row", gate.said(100_000))
        self.until("the last one", lambda: "serves again" in gate.said(100_000).rpartition("by SIGKILL")[2])
        self.until("nothing is left", lambda: gate.descriptors() == before)

    def test_logs_are_moved(self) -> None:
        """SIGUSR1 has workers open their logs anew, and SIGHUP tells them of another level."""
        folder = Path(self.mktemp())
        folder.mkdir()
        log, moved = folder / "gate.log", folder / "gate.log.1"
        gate = Gate(self.routes, "--workers=2", f"--log.filePath={log.resolve()}", log=log)
        self.addCleanup(gate.stop)
        log.rename(moved)
        gate.process.send_signal(signal.SIGUSR1)
        self.until("a new log", log.exists)

        def names() -> list[str]:
            return [os.readlink(f"/proc/{worker}/fd/{one}") for worker in gate.workers() for one in fds(worker)]

        def fds(worker: int) -> list[str]:
            return os.listdir(f"/proc/{worker}/fd")

        self.until("workers have it", lambda: names().count(str(log.resolve())) == 2)
        self.assertEqual(names().count(str(moved.resolve())), 0)
