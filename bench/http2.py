"""``python -m bench.http2``: HTTP/2 clients, many streams on few connections, in clear text, beside Traefik's."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench import load, measure
from bench.processes import Failed, Running, free_port, start
from bench.proxies import HOST, PROXIES, Place

_DONE = re.compile(r"finished in ([0-9.]+)(s|ms), ")
_REQUESTS = re.compile(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")
_NAMES = ("swarmgate", "traefik")


def h2load(port: int, path: str, count: int, core: int) -> tuple[int, float]:
    """The requests that were answered as they should be, and the seconds that they took.

    :raises Failed: one was not.
    """
    command = ("taskset", "-c", str(core), "h2load", "-n", str(count), "-c", "10", "-m", "100")
    url = f"http://127.0.0.1:{port}{path}"
    done = subprocess.run(
        [*command, "-H", f":authority: {HOST}", url],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    time_taken, outcome = _DONE.search(done.stdout), _REQUESTS.search(done.stdout)
    if time_taken is None or outcome is None:
        raise Failed(f"h2load did not finish: {(done.stdout + done.stderr)[-500:]}")
    succeeded, *others = map(int, outcome.groups())
    if succeeded != count or any(others):
        raise Failed(f"{count - succeeded} of {count} requests were not answered as they should be: {outcome[0]}")
    return succeeded, float(time_taken[1]) / (1 if time_taken[2] == "s" else 1000)


def main() -> int:
    """Run it; 1 and the reason on standard error where it can't be done."""
    parser = argparse.ArgumentParser(prog="python -m bench.http2", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20_000)
    chosen = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    started: list[Running] = []
    with tempfile.TemporaryDirectory(prefix="swarmgate-bench-") as name:
        folder = Path(name)
        try:
            (folder / "backend").mkdir()
            backend, port = load.start_backend(folder / "backend", cores[-1])
            started.append(backend)
            running: dict[str, tuple[Running, Place]] = {}
            for proxy in PROXIES:
                if proxy.name not in _NAMES:
                    continue
                home = folder / proxy.name
                home.mkdir()
                place = Place(home, free_port(), free_port(), port)
                one = start(proxy.name, measure.launch(proxy, place), home, cores[0], proxy.environment)
                started.append(one)
                one.wait_until_listening(place.port)
                running[proxy.name] = one, place
            time.sleep(3)  # Files of routes may be read a moment after the port has been opened.
            figures: dict[str, list[tuple[float, float]]] = {name: [] for name in running}
            for number in range(chosen.rounds + 1):
                for name, (one, place) in running.items():
                    before = one.usage().cpu
                    count, seconds = h2load(place.port, "/60", chosen.requests if number else 2000, cores[-1])
                    cpu = one.usage().cpu - before
                    if number:
                        figures[name].append((count / seconds, count / cpu))
                        print(f"{name}: {count / seconds:,.0f} requests/s, {count / cpu:,.0f} per second of its CPU")
            for name, measured in figures.items():
                per_core = median(cpu for _, cpu in measured)
                print(f"{name}: {median(rate for rate, _ in measured):,.0f} requests/s, {per_core:,.0f} per core")
        except Failed as reason:
            print(f"bench: {reason}", file=sys.stderr)
            return 1
        finally:
            for one in reversed(started):
                one.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
