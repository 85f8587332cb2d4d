"""``python -m bench.rollout``: the scenarios, with one proxy after the other in the same laboratory."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.rollout import load, proxies, report, scenarios
from bench.rollout.proxies import PROXIES, Proxy
from bench.rollout.report import Outcome
from bench.rollout.scenarios import APP, HOST, SCENARIOS, Scenario, Stage
from tests.swarm import image
from tests.swarm.lab import Lab, LabError, wait_until

RESULTS = Path(__file__).resolve().parent.parent / "results"
#: Seconds of load before the change, and after it; of the latter the last ten are for requests that hang.
BEFORE = 3.0
AFTER = 18.0
AFTER_SHORT = 14.0
_BEGAN = time.monotonic()


def say(text: str) -> None:
    """Print a line of progress, with the minutes since the start."""
    passed = time.monotonic() - _BEGAN
    print(f"{int(passed // 60):3d}:{int(passed % 60):02d} {text}", flush=True)


class Run:
    """One run: a laboratory, and what is measured in it."""

    def __init__(self, lab: Lab, options: argparse.Namespace) -> None:
        self.lab = lab
        self.options = options
        self.ids = lab.folder / "ids"
        self.ids.mkdir()
        self.ids.chmod(0o777)
        self.outcomes: list[Outcome] = []
        self.faults: list[str] = []

    def all(self, chosen: Sequence[Scenario], beside: Sequence[Proxy]) -> None:
        """Run all scenarios with all proxies; results are written after each."""
        for proxy in beside:
            say(f"{proxy.title}: deploying")
            self.lab.network(proxies.NETWORK)
            proxies.deploy(proxy, self.lab, self.options.debug)
            for round_ in range(1, self.options.rounds + 1):
                for scenario in chosen:
                    self.one(scenario, proxy, round_)
                    self.write()
            if self.options.debug:
                self.keep_logs(proxy)
            self.lab.clear()

    def one(self, scenario: Scenario, proxy: Proxy, round_: int) -> None:
        """Run one scenario; what goes wrong with it, other than requests, is told and costs only itself."""
        try:
            made = self.measure(scenario, proxy, round_)
        except (LabError, ValueError) as error:
            self.faults.append(f"{scenario.name} with {proxy.name}: {str(error).splitlines()[0]}")
            say(f"{proxy.name}, {scenario.name}: NOT MEASURED: {error}")
        else:
            self.outcomes.append(made)
            say(
                f"{proxy.name}, {scenario.title}: {made.failed} of {made.asked} failed"
                f"{f' ({made.told})' if made.failed else ''}, {made.slow} slow, slowest {made.slowest:.2f} s, "
                f"{made.twice} POSTs twice{f', {made.unsent} not sent' if made.unsent else ''}"
                f"{f'; {made.note}' if made.note else ''}"
            )
        finally:
            self.tidy()

    def measure(self, scenario: Scenario, proxy: Proxy, round_: int) -> Outcome:
        """Deploy the application, ask, change, and sum up."""
        # A node that was away, or an engine that lost its replica: the Swarm may need a moment.
        wait_until(self.whole, "all nodes to be ready and all managers reachable", 90, 0.5)
        self.lab.await_running(proxies.SERVICE, 2, 90)
        stage = Stage(self.lab, tuple(proxies.places(self.lab, scenario.spared)), self.options.short)
        self.deploy(scenario, stage)
        rate = min(self.options.rate, scenario.rate or self.options.rate)
        k6 = load.Load(self.lab.folder)
        k6.start(self.lab.lan, stage.places, HOST, rate, scenario.path, scenario.posts, scenario.turn)
        try:
            time.sleep(BEFORE)
            began = time.time()
            note = scenario.change(stage)
            ended = time.time()
            time.sleep(AFTER_SHORT if self.options.short else AFTER)
            answers, unsent, stopped = k6.stop()
        finally:
            k6.end()
        usual = float(scenario.path.partition("?")[2] or 0)
        processed = [id_ for file in self.ids.glob("*") for id_ in file.read_text().splitlines()]
        made = report.outcome(
            scenario.name, proxy.name, round_, answers, unsent, processed, (began, ended), stopped, usual, note
        )
        for answer in [answer for answer in answers if answer.failed and answer.began <= stopped - 10.5][
            : self.options.failures
        ]:
            say(
                f"    {answer.began - began:+7.2f} s from the change's begin ({answer.began:.3f}): {answer.method} "
                f"{answer.id} {answer.fault} after {answer.seconds:.2f} s"
            )
        return made

    def deploy(self, scenario: Scenario, stage: Stage) -> None:
        """Start the application, and block until the proxy's replicas route to it."""
        mount = f"type=bind,source={self.ids},target=/data"
        self.lab.service(
            APP,
            labels=scenarios.labels(APP),
            networks=[proxies.NETWORK],
            replicas=scenario.replicas,
            options=["--mount", mount, "--restart-delay", "1s", *scenario.options],
            arguments=["--ids", "/data", *scenario.arguments],
        )
        self.lab.await_running(APP, scenario.replicas)
        for at in stage.places:
            wait_until(lambda at=at: stage.status(at, HOST) == 200, f"{at} to route to {APP}", 40)  # type: ignore[misc]
        # Traefik asks the Swarm every so often: it is to know of all tasks, not only of the first.
        time.sleep(3)

    def tidy(self) -> None:
        """Remove what a scenario has added, and block until it is gone."""
        wait_until(self.whole, "all nodes to be ready and all managers reachable", 90, 0.5)
        names = self.lab.docker("service", "ls", "--format", "{{.Name}}").split()
        if added := [name for name in names if name != proxies.SERVICE]:
            self.lab.docker("service", "rm", *added)
        with contextlib.suppress(LabError):
            wait_until(lambda: not self.containers(), "the application's end", 30, 0.5)
        for file in self.ids.glob("*"):
            file.unlink()

    def whole(self) -> bool:
        """Return whether all nodes are ready, and all are managers that the others reach; without that a change of
        managers may cost the Swarm its quorum.
        """
        try:
            told = self.lab.docker("node", "ls", "--format", "{{.Status}} {{.ManagerStatus}}", timeout=15).splitlines()
        except LabError:
            return False
        return sorted(told) == ["Ready Leader", "Ready Reachable", "Ready Reachable"]

    def containers(self) -> list[str]:
        """Return the containers that are not the proxy's, on all nodes."""
        told = [engine.docker("ps", "--format", "{{.Names}}").split() for engine in self.lab.engines]
        return [name for names in told for name in names if not name.startswith(f"{proxies.SERVICE}.")]

    def keep_logs(self, proxy: Proxy) -> None:
        """Write what the proxy has logged to a file per container beside the results."""
        for engine in self.lab.engines:
            for name in engine.docker(
                "ps", "--all", "--filter", f"name={proxies.SERVICE}.", "--format", "{{.Names}}"
            ).split():
                path = Path(self.options.results) / f"{proxy.name}-{engine.host}-{name.split('.')[-1][:6]}.log"
                done = subprocess.run(
                    ["docker", "--host", engine.endpoint, "logs", "--timestamps", name],
                    capture_output=True, check=False, timeout=60,
                )  # fmt: skip
                path.write_bytes(done.stdout + done.stderr)
                say(f"log: {path}")

    def write(self) -> None:
        """Write what is there so far."""
        if not self.outcomes:
            return
        folder = Path(self.options.results)
        folder.mkdir(parents=True, exist_ok=True)
        titles = {each.name: each.title for each in (*SCENARIOS, *PROXIES)}
        (folder / "rollout.rst").write_text(report.table(self.outcomes, titles, self.about()))
        (folder / "rollout.csv").write_text(report.comma_separated(self.outcomes))
        report.plot(self.outcomes, titles, folder / "rollout.svg")

    def about(self) -> dict[str, str]:
        """Return what a reader of the results has to know of the run."""
        traefik = subprocess.run([proxies.traefik(), "version"], capture_output=True, text=True, check=False).stdout
        version = next((line.split()[1] for line in traefik.splitlines() if line.startswith("Version:")), "?")
        k6 = subprocess.run([load.program(), "version"], capture_output=True, text=True, check=False).stdout
        about = {
            "Load": f"{self.options.rate} requests/s (slow answers: 20), half over new connections, every third "
            "a POST; given up after 10 s",
            "Slow": f"answered, but {report.SLOW:g} s or more later than the application takes",
            "Rounds": f"{self.options.rounds}{', short' if self.options.short else ''}",
            "Versions": f"Traefik {version}, {' '.join(k6.split()[:2])}, Python {platform.python_version()}",
            "Machine": f"{os.cpu_count()} cores for three nodes, proxies, application and load; load average "
            f"{self.options.busy:.1f} in the minute before the run",
            "Command": "python -m bench.rollout " + " ".join(self.options.given),
        }
        if self.faults:
            about["Not measured"] = "; ".join(self.faults)
        return about


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    :raises SystemExit: it is wrong, with what is.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.rollout", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=[each.name for each in SCENARIOS], help="repeatable")
    parser.add_argument("--proxy", action="append", choices=[each.name for each in PROXIES], help="repeatable")
    parser.add_argument("--rate", type=int, default=200, help="requests a second (%(default)s)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--short", action="store_true", help="four scenarios, two proxies")
    parser.add_argument("--debug", action="store_true", help="the proxies log at DEBUG; their logs join the results")
    parser.add_argument("--failures", type=int, default=5, help="how many failed requests to print of each scenario")
    parser.add_argument("--results", default=str(RESULTS), help="the folder for table, CSV and plot")
    options = parser.parse_args(arguments)
    if options.rate < 2 or options.rounds < 1:
        parser.error("--rate is 2 or more, --rounds 1 or more")
    # Where the results go is nobody's business who reads them.
    given = list(arguments)
    if "--results" in given:
        del given[given.index("--results") : given.index("--results") + 2]
    options.given = [part for part in given if not part.startswith("--results=")]
    options.busy = os.getloadavg()[0]
    return options


def chosen(options: argparse.Namespace) -> tuple[list[Scenario], list[Proxy]]:
    """Return the scenarios and proxies that the options ask for, in the order they were named."""
    known = {each.name: each for each in SCENARIOS}
    columns = {each.name: each for each in PROXIES}
    shorter = [each.name for each in SCENARIOS if each.short], ["swarmgate", "traefik"]
    every = list(known), list(columns)
    names, proxies_named = shorter if options.short else every
    picked = [known[name] for name in options.scenario or names]
    beside = [columns[name] for name in options.proxy or proxies_named]
    return picked, beside


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; the exit code is 0 if all of it was measured."""
    options = parse(arguments)
    # Ended politely, it ends its laboratory too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    picked, beside = chosen(options)
    try:
        load.program()
        proxies.traefik()
        say(f"{len(picked)} scenarios, {len(beside)} proxies, {options.rounds} rounds; starting the Swarm")
        with Lab(3) as lab:
            if any(not proxy.is_traefik for proxy in beside):
                image.build(lab)
            run = Run(lab, options)
            run.all(picked, beside)
            say(f"written: {options.results}/rollout.rst, rollout.csv, rollout.svg")
            faults = run.faults
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
