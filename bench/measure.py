"""One measurement: what a proxy did, and what it cost, while a load was on it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

import attrs

from bench import load
from bench.processes import Failed, Running, Usage
from bench.proxies import PROXIES, Place, Proxy, write_certificate


@attrs.frozen
class Sample:
    """One proxy under one kind of load, once.

    :ivar rate: requests per second.
    :ivar throughput: bytes received per second.
    :ivar cpu: CPU time of all the proxy's processes per request, in microseconds.
    :ivar busy: how many cores the proxy used.
    :ivar p50: median time to the whole answer, in milliseconds.
    :ivar p99: the same, of the slowest percent.
    :ivar memory: the proxy's resident memory afterwards, in bytes.
    :ivar wrong_status: answers that were not 2xx or 3xx.
    :ivar failed: connections and requests that failed or timed out.
    """

    proxy: str
    work: str
    round: int
    requests: int
    rate: float
    throughput: float
    cpu: float
    busy: float
    p50: float
    p99: float
    memory: int
    wrong_status: int
    failed: int


def sample(running: Running, work: load.Work, number: int, command: list[str]) -> Sample:
    """Send the load that *command* is through *running*. Any answer that is not a good one makes it fail."""
    before = running.usage()
    outcome = load.run(command)
    after = running.usage()
    taken = _sample(running.name, work, number, outcome, before, after)
    if running.process.poll() is not None:
        raise Failed(f"{running.name} ended under load: {running.complaint()}")
    if taken.wrong_status or taken.failed:
        raise Failed(
            f"{running.name}, {work.name}: {taken.wrong_status} answers with a wrong status and "
            f"{taken.failed} failures among {taken.requests} requests; {running.complaint()}"
        )
    return taken


def _sample(name: str, work: load.Work, number: int, outcome: load.Outcome, before: Usage, after: Usage) -> Sample:
    seconds = outcome.microseconds / 1e6
    cpu = after.cpu - before.cpu
    return Sample(
        proxy=name,
        work=work.name,
        round=number,
        requests=outcome.requests,
        rate=outcome.requests / seconds,
        throughput=outcome.bytes / seconds,
        cpu=cpu / outcome.requests * 1e6,
        busy=cpu / seconds,
        p50=outcome.p50 / 1000,
        p99=outcome.p99 / 1000,
        memory=after.memory,
        wrong_status=outcome.wrong_status,
        failed=outcome.failed,
    )


def launch(proxy: Proxy, place: Place) -> list[str]:
    """The command that starts *proxy*, its configuration written; raises :exc:`Failed` if it is not installed."""
    if proxy.program is None:
        raise Failed(f"{proxy.name} is not installed: no such program in this environment or on the path")
    write_certificate(place)
    for name, text in proxy.files(place).items():
        (place.folder / name).write_text(text)
    return [proxy.program, *proxy.arguments(place)]


def versions(names: Iterable[str]) -> dict[str, str]:
    """What each program says of its version, by name."""
    found = {}
    for proxy in PROXIES:
        if proxy.name in names and proxy.program is not None:
            said = _output([part.replace("{program}", proxy.program) for part in proxy.version])
            found[proxy.title] = said.split(" h1:")[0]
    found["wrk"] = _output(["wrk", "-v"]).partition(" Copyright")[0]
    found["h2load"] = _output(["h2load", "--version"])
    return found


def _output(command: list[str]) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=20)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return " ".join(line.strip() for line in lines[:2] if not line.startswith("Status"))


def machine() -> dict[str, object]:
    """The facts without which the figures say nothing."""
    information = Path("/proc/cpuinfo").read_text().splitlines()
    models = {line.partition(":")[2].strip() for line in information if line.startswith("model name")}
    memory = Path("/proc/meminfo").read_text().splitlines()[0].split()[1]
    return {
        "cpu": ", ".join(sorted(models)) or platform.processor(),
        "cores": os.cpu_count(),
        "memory_bytes": int(memory) * 1024,
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
