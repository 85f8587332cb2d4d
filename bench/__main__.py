"""``python -m bench``: the comparison, from starting the programs to writing the results."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from bench import load, measure, memory, page, swarm
from bench.journal import Journal
from bench.processes import Failed, Running, free_port, start
from bench.proxies import PROXIES, Place, Proxy

RESULTS = Path(__file__).parent / "results"
_NAMES = [proxy.name for proxy in PROXIES]
_LOADS = [*(work.name for work in load.WORKS), "memory", *swarm.CHANGES]
#: Seconds at most that a measurement takes beyond its length, and that one of memory takes.
_BESIDES, _MEMORY = 0.6, 32.0
#: Minutes at most for one proxy and one change of a Swarm, and to start the Swarm.
_CHANGE, _SWARM = 2, 3
#: Rounds of memory: it hardly varies.
_MEMORY_ROUNDS = 2


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="swarmgate beside Traefik, Caddy, nginx and HAProxy."
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a measurement (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=64, help="kept-alive ones (default: %(default)s)")
    parser.add_argument("--proxies", default=",".join(_NAMES), help="which, comma separated (default: %(default)s)")
    parser.add_argument("--loads", default=",".join(_LOADS), help="which, comma separated (default: %(default)s)")
    parser.add_argument(
        "--quick", action="store_true", help="one round of 1 s, no Swarm: does it work? Results go nowhere"
    )
    parser.add_argument("--anew", action="store_true", help="don't go on with a run that was broken off")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder they go to (default: %(default)s)")
    parser.add_argument(
        "--report", action="store_true", help="only write the page anew from the samples that are there"
    )
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.rounds, chosen.seconds = 1, 1.0
    if chosen.rounds < 1 or chosen.seconds < 1 or chosen.connections < 1:
        parser.error("rounds, seconds and connections must be at least 1")
    for name, known in (("proxies", _NAMES), ("loads", _LOADS)):
        named = getattr(chosen, name).split(",")
        unknown = set(named) - set(known)
        if unknown:
            parser.error(f"--{name}: {', '.join(sorted(unknown))} is not one of {','.join(known)}")
        setattr(chosen, name, [one for one in known if one in named])
    if chosen.quick:
        chosen.loads = [one for one in chosen.loads if one not in swarm.CHANGES]
    return chosen


def _say(line: str) -> None:
    print(line, flush=True)


def minutes(chosen: argparse.Namespace) -> tuple[float, float]:
    """How long the run takes at most: what is measured here, and what is on a Swarm."""
    loads = [work for work in load.WORKS if work.name in chosen.loads]
    turns = len(chosen.proxies) * chosen.rounds
    seconds = turns * len(loads) * (chosen.seconds + _BESIDES) + 10
    if "memory" in chosen.loads:
        seconds += len(chosen.proxies) * min(chosen.rounds, _MEMORY_ROUNDS) * _MEMORY
    changes = sum(len(swarm.CHANGES[name]) for name in chosen.loads if name in swarm.CHANGES)
    on_swarm = _SWARM + 2 * changes * _CHANGE if changes and not swarm.missing() else 0
    return seconds / 60, on_swarm


@attrs.frozen
class Contender:
    """A proxy that runs, and where."""

    proxy: Proxy
    place: Place
    running: Running


class Run:
    """One run, with the folder that it may use and the journal that it fills."""

    def __init__(self, chosen: argparse.Namespace, folder: Path, journal: Journal) -> None:
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise Failed("two cores are needed: one for the proxy, one for load and backend")
        self.chosen = chosen
        self.folder = folder
        self.journal = journal
        self.cores = cores[:2]
        self.proxies = [proxy for proxy in PROXIES if proxy.name in chosen.proxies]
        self.works = [work for work in load.WORKS if work.name in chosen.loads]
        self.started = 0

    def all(self) -> None:
        """Measure what is not in the journal yet.

        :raises Failed: a program can't be started, or one answer is not what it should be.
        """
        # What can't be installed is told before anything is measured.
        for proxy in self.proxies:
            if proxy.program is None:
                raise Failed(f"{proxy.name} is not installed: no such program in this environment or on the path")
        with contextlib.ExitStack() as stack:
            (self.folder / "backend").mkdir()
            backend, port = load.start_backend(self.folder / "backend", self.cores[1:])
            stack.callback(backend.stop)
            load.verify("the backend", port)
            contenders = [stack.enter_context(self.contender(proxy, port)) for proxy in self.proxies]
            self.journal.facts = self.journal.facts or self.facts(contenders, backend)
            if self.works:
                self.rounds(contenders)
        if "memory" in self.chosen.loads:
            self.memory()
        self.swarm()
        self.journal.complete = True
        self.journal.write()

    @contextlib.contextmanager
    def contender(self, proxy: Proxy, backend: int) -> Iterator[Contender]:
        """A proxy that is started, answers as it should, and is ended."""
        self.started += 1
        home = self.folder / f"{proxy.name}-{self.started}"
        home.mkdir()
        place = Place(home, free_port(), free_port(), backend, free_port())
        command = measure.launch(proxy, place)
        stdout = place.access_log if proxy.logs_to_stdout else None
        cores = self.cores[:1] if proxy.workers == 1 else self.cores
        running = start(proxy.name, command, home, cores, proxy.environment, stdout)
        try:
            running.wait_until_listening(place.port)
            self.settle(running, place)
            yield Contender(proxy, place, running)
        finally:
            running.stop()
            # Logs of millions of requests, in memory on some machines.
            place.access_log.unlink(missing_ok=True)

    @staticmethod
    def settle(running: Running, place: Place) -> None:
        """Wait until it answers as it should: files may be read a moment after the port has been opened."""
        deadline = time.monotonic() + 10
        while True:
            try:
                return load.verify(running.name, place.port)
            except Failed:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def rounds(self, contenders: list[Contender]) -> None:
        """All loads, round by round: a run that is broken off has whole rounds of everything."""
        chosen, journal = self.chosen, self.journal
        for contender in contenders:
            warm = load.command_of(
                self.folder, contender.place.port, load.WORKS[0], chosen.connections, 1, self.cores[1]
            )
            load.run(warm)
        for number in range(1, chosen.rounds + 1):
            # Each round begins with another one: nobody always follows the same neighbour.
            turn = (number - 1) % len(contenders)
            for work in self.works:
                for contender in contenders[turn:] + contenders[:turn]:
                    if journal.has(work.name, number, contender.proxy.name):
                        continue
                    port = contender.place.tls_port if work.secure else contender.place.port
                    command = load.command_of(
                        self.folder, port, work, chosen.connections, chosen.seconds, self.cores[1]
                    )
                    taken = measure.sample(contender.running, work, number, command)
                    journal.samples.append(taken)
                    journal.write()
                    _say(
                        f"round {number} of {chosen.rounds}, {work.title}, {contender.proxy.title}: "
                        f"{taken.rate:,.0f} requests/s, {taken.cpu:.1f} µs CPU each, p99 {taken.p99:.2f} ms"
                    )
        for contender in contenders:
            _check_log(contender)

    def memory(self) -> None:
        """Idle memory and that of connections, each with a proxy that is started for it and has no neighbours."""
        home = self.folder / "backend-for-memory"
        home.mkdir()
        backend, port = load.start_backend(home, self.cores[1:])

        @contextlib.contextmanager
        def begun(proxy: Proxy) -> Iterator[tuple[Running, Place]]:
            with self.contender(proxy, port) as contender:
                yield contender.running, contender.place

        try:
            for number in range(1, min(self.chosen.rounds, _MEMORY_ROUNDS) + 1):
                for proxy in self.proxies:
                    if self.journal.has_memory(number, proxy.name):
                        continue
                    taken = memory.sample(
                        proxy.name, lambda proxy=proxy: begun(proxy), number, self.folder, self.cores[1]
                    )
                    self.journal.memory.append(taken)
                    self.journal.write()
                    _say(
                        f"round {number}, memory, {proxy.title}: {taken.started.resident / 1e6:.1f} MB, after load "
                        f"{taken.rested.resident / 1e6:.1f} MB, {taken.plain / 1e3:.1f} kB for each idle connection, "
                        f"{taken.secure / 1e3:.1f} kB with TLS"
                    )
        finally:
            backend.stop()

    def swarm(self) -> None:
        """Convergence and rolling updates, if there can be a Swarm here."""
        wanted = [name for name in self.chosen.loads if name in swarm.CHANGES]
        if not wanted or self.journal.swarm:
            return
        self.journal.not_measured = {}
        what = f"{', '.join(wanted)} (changes of a real Swarm)"
        if why := swarm.missing():
            self.journal.not_measured[what] = why
            _say(f"not measured: {what}: {why}")
            return
        try:
            self.journal.swarm = swarm.measure(wanted, self.chosen.proxies, self.folder)
        except Failed as reason:
            self.journal.not_measured[what] = str(reason)
            _say(f"not measured: {what}: {reason}")
        self.journal.write()

    def facts(self, contenders: list[Contender], backend: Running) -> dict[str, Any]:
        """What the figures say nothing without."""
        chosen = self.chosen

        def said(command: tuple[str, ...] | list[str]) -> str:
            return shlex.join(command).replace(str(self.folder), "FOLDER").replace(f"{Path.cwd()}/", "")

        return {
            "when": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "command": f"python -m bench {shlex.join(sys.argv[1:])}".strip(),
            "machine": measure.machine(),
            "versions": measure.versions(chosen.proxies),
            "commands": {
                "backend": said(backend.command),
                **{
                    contender.proxy.name: " ".join(
                        (
                            *(f"{key}={value}" for key, value in contender.proxy.environment.items()),
                            said(contender.running.command),
                        )
                    )
                    for contender in contenders
                },
                **{
                    f"load: {work.title}": said(
                        load.command_of(self.folder, 0, work, chosen.connections, chosen.seconds, self.cores[1])
                    )
                    for work in self.works
                },
            },
            "configuration": {
                contender.proxy.name: {
                    name: text.replace(str(self.folder), "FOLDER")
                    for name, text in contender.proxy.files(contender.place).items()
                }
                for contender in contenders
            },
        }


def _check_log(contender: Contender) -> None:
    """An access log that isn't written would make a proxy look faster than it is."""
    log = contender.place.access_log
    if not log.exists() or log.stat().st_size < 10_000:
        raise Failed(f"{contender.proxy.name} wrote no access log: {contender.running.complaint()}")


def _journal(chosen: argparse.Namespace, path: Path) -> Journal:
    """That of a run with the same settings that was broken off, or an empty one."""
    settings = {name: getattr(chosen, name) for name in ("rounds", "seconds", "connections", "proxies", "loads")}
    found = Journal.read(path)
    if found.settings == settings and found.samples and not found.complete and not chosen.anew:
        _say(f"going on with the run of {found.facts['when']}, which has {len(found.samples)} samples")
        return found
    return Journal(path, settings)


def main() -> int:
    """Run the comparison; 1 and the reason on standard error where it can't be made."""
    chosen = _options(sys.argv[1:])
    # Ended politely, it ends its programs too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="swarmgate-bench-") as name:
        folder = Path(name)
        path = (folder if chosen.quick else chosen.results) / "results.json"
        if chosen.report:
            journal = Journal.read(path)
        else:
            here, on_swarm = minutes(chosen)
            _say(
                f"at most {here:.0f} minutes"
                + (f", and {on_swarm:.0f} for changes of a real Swarm" if on_swarm else "")
            )
            journal = _journal(chosen, path)
            try:
                Run(chosen, folder, journal).all()
            except Failed as reason:
                print(f"bench: {reason}", file=sys.stderr)
                if journal.samples and not chosen.quick:
                    _say(f"what was measured so far is in {path}; the same command goes on with it")
                return 1
        _say("\n" + page.printed(journal) + "\n")
        if not chosen.quick:
            for written in (path, *page.write(journal)):
                _say(f"written: {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
