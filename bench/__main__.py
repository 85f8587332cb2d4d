"""``python -m bench``: the comparison, from starting the programs to writing the results."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs

from bench import load, measure, report
from bench.processes import Failed, Running, free_port, start
from bench.proxies import PROXIES, Place, Proxy

RESULTS = Path(__file__).parent / "results"


def _options(arguments: list[str]) -> argparse.Namespace:
    names = ",".join(proxy.name for proxy in PROXIES)
    parser = argparse.ArgumentParser(prog="python -m bench", description="swarmgate beside Traefik, nginx and HAProxy.")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a measurement (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=64, help="kept-alive ones (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of 1 s: does it work? Results go nowhere")
    parser.add_argument("--proxies", default=names, help="which, comma separated (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder they go to (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.rounds, chosen.seconds = 1, 1.0
    if chosen.rounds < 1 or chosen.seconds < 1 or chosen.connections < 1:
        parser.error("rounds, seconds and connections must be at least 1")
    unknown = set(chosen.proxies.split(",")) - set(names.split(","))
    if unknown:
        parser.error(f"--proxies: {', '.join(sorted(unknown))} is not one of {names}")
    return chosen


def _say(line: str) -> None:
    print(line, flush=True)


@attrs.frozen
class Contender:
    """A proxy that runs, and where."""

    proxy: Proxy
    place: Place
    running: Running


def _start(proxy: Proxy, folder: Path, backend: int, core: int) -> Contender:
    home = folder / proxy.name
    home.mkdir()
    place = Place(home, free_port(), free_port(), backend)
    command = measure.launch(proxy, place)
    stdout = place.access_log if proxy.logs_to_stdout else None
    return Contender(proxy, place, start(proxy.name, command, home, core, proxy.environment, stdout))


def compare(chosen: argparse.Namespace, folder: Path) -> None:
    """Run everything below *folder*, and write what came of it.

    :raises Failed: if a program can't be started, or one answer is not what it should be.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Failed("two cores are needed: one for the proxy, one for load and backend")
    proxy_core, load_core = cores[0], cores[1]
    started: list[Running] = []
    try:
        (folder / "backend").mkdir()
        backend, port = load.start_backend(folder / "backend", load_core)
        started.append(backend)
        load.verify("the backend", port)
        contenders = []
        for proxy in PROXIES:
            if proxy.name in chosen.proxies.split(","):
                contender = _start(proxy, folder, port, proxy_core)
                started.append(contender.running)
                contender.running.wait_until_listening(contender.place.port)
                contenders.append(contender)
                _say(f"{proxy.name}: listening")
        # Configuration files may be read a moment after the port has been opened.
        before = {contender.proxy.name: _settle(contender) for contender in contenders}
        samples = _rounds(chosen, folder, contenders, load_core)
        for contender in contenders:
            _check_log(contender)
        facts = _facts(chosen, contenders, backend, folder, load_core)
    finally:
        for running in reversed(started):
            running.stop()
    lines = report.cells(report.rows(samples), before)
    _say("\n" + report.text(lines) + "\n")
    if not chosen.quick:
        for path in report.write(chosen.results, samples, facts, before):
            _say(f"written: {path}")


def _settle(contender: Contender) -> int:
    """Wait until it answers as it should; returns its resident memory before it did any work to speak of."""
    deadline = time.monotonic() + 10
    while True:
        memory = contender.running.usage().memory
        try:
            load.verify(contender.proxy.name, contender.place.port)
        except Failed:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return memory


def _rounds(chosen: argparse.Namespace, folder: Path, contenders: list[Contender], core: int) -> list[measure.Sample]:
    samples = []
    for contender in contenders:
        warm = load.wrk_command(folder, contender.place.port, load.WORKS[0], chosen.connections, 1, core)
        load.run(warm)
    for work in load.WORKS:
        for number in range(chosen.rounds):
            # Each round begins with another one: nobody always follows the same neighbour.
            turn = number % len(contenders)
            for contender in contenders[turn:] + contenders[:turn]:
                port = contender.place.tls_port if work.secure else contender.place.port
                command = load.wrk_command(folder, port, work, chosen.connections, chosen.seconds, core)
                taken = measure.sample(contender.running, work, number + 1, command)
                samples.append(taken)
                _say(
                    f"{work.name}, round {number + 1}, {taken.proxy}: {taken.rate:,.0f} requests/s, "
                    f"{taken.cpu:.1f} µs CPU each, p99 {taken.p99:.2f} ms"
                )
    return samples


def _check_log(contender: Contender) -> None:
    """An access log that isn't written would make a proxy look faster than it is."""
    log = contender.place.access_log
    if not log.exists() or log.stat().st_size < 10_000:
        raise Failed(f"{contender.proxy.name} wrote no access log: {contender.running.complaint()}")


def _facts(
    chosen: argparse.Namespace, contenders: list[Contender], backend: Running, folder: Path, core: int
) -> dict[str, Any]:
    def said(command: tuple[str, ...] | list[str]) -> str:
        return " ".join(command).replace(str(folder), "FOLDER").replace(f"{Path.cwd()}/", "")

    return {
        "when": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": f"python -m bench --rounds {chosen.rounds} --seconds {chosen.seconds:g} "
        f"--connections {chosen.connections}",
        "rounds": chosen.rounds,
        "seconds": chosen.seconds,
        "connections": chosen.connections,
        "machine": measure.machine(),
        "versions": measure.versions([contender.proxy.name for contender in contenders]),
        "commands": {
            "backend": said(backend.command),
            **{contender.proxy.name: said(contender.running.command) for contender in contenders},
            **{
                f"load, {work.name}": said(load.wrk_command(folder, 0, work, chosen.connections, chosen.seconds, core))
                for work in load.WORKS
            },
        },
        "environment": {contender.proxy.name: dict(contender.proxy.environment) for contender in contenders},
        "configuration": {
            contender.proxy.name: {
                name: text.replace(str(folder), "FOLDER")
                for name, text in contender.proxy.files(contender.place).items()
            }
            for contender in contenders
        },
    }


def main() -> int:
    """Run the comparison; 1 and the reason on standard error where it can't be made."""
    chosen = _options(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="swarmgate-bench-") as folder:
        try:
            compare(chosen, Path(folder))
        except Failed as reason:
            print(f"bench: {reason}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
