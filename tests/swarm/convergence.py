"""How long it takes until a change of the Swarm is seen by clients, or by whoever else listens."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from swarmgate.providers.swarm.decode import nanoseconds
from tests.swarm.lab import Lab, LabError, Namespace

PROBE = Path(__file__).with_name("probe.py")


def running_since(lab: Lab, service: str) -> float:
    """Return since when a service's first task that runs now has been running, in seconds since 1970.

    It is the node's own word: when the process had started and its health check, if it has one, had passed.

    :raises LabError: no task runs.
    """
    times = [nanoseconds(task["Status"]["Timestamp"]) / 1e9 for task in lab.running(service)]
    if not times:
        raise LabError(f"no task of {service} runs")
    return min(times)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of the values that so many percent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(percent) // 100) - 1)]


class Probe:
    """Clients that ask a gate for hosts all the time, between ``with Probe(...) as probe:`` and its end.

    :param at: addresses and ports of the gate's replicas, as ``198.18.0.11:80``.
    :param where: the namespace to ask from, as ``lab.lan``.
    :param interval: seconds between two requests for one host at one address.
    :ivar told: each change of an answer's status: ``time``, ``at``, ``host``, ``status`` and ``task``.
    :ivar asked: after the end, the number of requests; ``failed``: those without answer, or with one of 5xx.
    """

    def __init__(self, where: Namespace, at: Sequence[str], hosts: Sequence[str], interval: float = 0.02) -> None:
        self.told: list[dict[str, Any]] = []
        self.asked = self.failed = 0
        self._command = [sys.executable, "-u", str(PROBE), "--interval", str(interval), ",".join(at), *hosts]
        self._where = where

    def __enter__(self) -> Self:
        self._process = self._where.popen(*self._command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(10)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if "asked" in told:
                self.asked, self.failed = told["asked"], told["failed"]
            else:
                self.told.append(told)

    def wait(self, host: str, status: int, after: float = 0.0, seconds: float = 30.0) -> float:
        """Block until an answer for a host has this status everywhere; return when the last place began to say so.

        :param after: only answers later than this count, in seconds since 1970.
        :raises LabError: it has not come within ``seconds``.
        """
        deadline = time.monotonic() + seconds
        places = set(self._command[5].split(","))
        while True:
            now = {told["at"]: told for told in list(self.told) if told["host"] == host and told["time"] >= after}
            if {at for at, told in now.items() if told["status"] == status} == places:
                return float(max(told["time"] for told in now.values()))
            if time.monotonic() > deadline:
                raise LabError(f"waited {seconds:g} s for {host} to answer {status}; it was last {list(now.values())}")
            time.sleep(0.01)
