"""What a proxy needs when nobody asks, and what connections that are open cost it."""

from __future__ import annotations

import select
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import attrs

from bench import load
from bench.processes import Failed, Footprint, Running
from bench.proxies import Place

#: How many connections are opened: of those without TLS, and with it. A process may have 20,000 descriptors on many a
#: machine, and a proxy needs some of its own.
PLAIN, SECURE = 10_000, 5_000
#: Seconds in which a proxy comes to rest.
_SETTLE = 2.0
#: Seconds of load between the two looks at an idle proxy.
_LOAD = 2.0
#: Seconds that it may take to open the connections.
_PATIENCE = 240.0


@attrs.frozen
class MemorySample:
    """One proxy that was started anew, once; memory in bytes.

    :ivar started: before it had anything to do.
    :ivar rested: after load, with nothing to do again.
    :ivar plain: what each connection has added, and :ivar secure: what each with TLS has.
    :ivar plain_total: what all of them have added.
    """

    proxy: str
    round: int
    started: Footprint
    rested: Footprint
    plain: float
    secure: float
    plain_total: float


def sample(
    proxy: str, begin: Callable[[], AbstractContextManager[tuple[Running, Place]]], number: int, folder: Path, core: int
) -> MemorySample:
    """Measure *proxy*; *begin* starts it anew, which answers then and has nothing else to do."""
    with begin() as (running, place):
        time.sleep(_SETTLE)
        started = running.footprint()
        rested = _after_load(running, place, folder, core)
        plain = _added(running, rested, place.port, PLAIN, core)
    # In another process: what connections have left behind would be used again by others.
    with begin() as (running, place):
        secure = _added(running, _after_load(running, place, folder, core), place.tls_port, SECURE, core, "--tls")
    return MemorySample(proxy, number, started, rested, plain / PLAIN, secure / SECURE, plain)


def _after_load(running: Running, place: Place, folder: Path, core: int) -> Footprint:
    load.run(load.command_of(folder, place.port, load.WORKS[0], 64, _LOAD, core))
    time.sleep(_SETTLE)
    return running.footprint()


def _added(running: Running, before: Footprint, port: int, count: int, core: int, *options: str) -> float:
    """What *count* idle connections add to the resident memory of *running*."""
    command = ("taskset", "-c", str(core), sys.executable, "-m", "bench.crowd", str(port), str(count), *options)
    crowd = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert crowd.stdout is not None
        is_open, _, _ = select.select([crowd.stdout], [], [], _PATIENCE)
        said = crowd.stdout.readline() if is_open else ""
        if not is_open:
            crowd.kill()
        time.sleep(_SETTLE if said else 0)
        grown = running.footprint().resident - before.resident if said else 0
        _, errors = crowd.communicate("", timeout=_PATIENCE)
    finally:
        crowd.kill()
        crowd.wait()
    if crowd.returncode or not said:
        why = errors.strip() or f"{count} connections were not open after {_PATIENCE:.0f} s"
        raise Failed(f"{running.name}: {why}; {running.complaint()}")
    return float(max(0, grown))
