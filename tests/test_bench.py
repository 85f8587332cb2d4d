"""What is said of the comparison: reading loads' figures, who is ahead, what holds, and going on with a run."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from bench import __main__ as program
from bench import load, page, report, swarm
from bench.journal import Journal, Moved
from bench.measure import Sample
from bench.memory import MemorySample
from bench.processes import Footprint
from bench.proxies import COMMANDS, FILES, PROXIES, Place
from bench.verdicts import Verdict, verdicts

H2LOAD = """\
Application protocol: h2
finished in 1.50s, 2000.00 req/s, 2.10MB/s
requests: 3000 total, 3000 started, 3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 3.15MB (3300000) total, 50.0KB (51200) headers (space savings 90.00%), 2.93MB (3072000) data
"""
FACTS = {
    "when": "2026-01-02 03:04 UTC",
    "command": "python -m bench",
    "machine": {"cores": 2, "cpu": "one", "memory_bytes": 2**32, "kernel": "Linux"},
    "versions": {"swarmgate": "1"},
    "commands": {"swarmgate": "swarmgate run", "load: 60 B": "wrk"},
}
SETTINGS = {"rounds": 1, "seconds": 3.0, "connections": 64, "proxies": ["swarmgate", "nginx"], "loads": ["60"]}


def sample(proxy: str, work: str = "60", round_: int = 1, **figures: float) -> Sample:
    usual = {"rate": 1000.0, "throughput": 1e6, "cpu": 20.0, "busy": 1.0, "p50": 1.0, "p99": 2.0}
    return Sample(proxy, work, round_, 1000, **{**usual, **figures}, memory=1, wrong_status=0, failed=0)


def memory(proxy: str, plain: float = 2500.0, *workers: int) -> MemorySample:
    footprint = Footprint(80_000_000, 70_000_000, workers)
    return MemorySample(proxy, 1, footprint, footprint, plain, 2 * plain, 10_000 * plain)


def judged(*samples: Sample, at_rest: tuple[MemorySample, ...] = ()) -> dict[str, Verdict]:
    return {one.what: one for one in verdicts(report.rows(samples), report.memory_rows(at_rest))}


class OutcomeTests(SynchronousTestCase):
    """What the load generators print."""

    def test_wrk(self) -> None:
        """The script's line is found among what wrk says."""
        line = '{"requests": 9, "microseconds": 8, "bytes": 7, "p50": 6, "p99": 5, "wrong_status": 4, "failed": 3}'
        self.assertEqual(load.wrk_outcome(f"Running\nREPORT {line}\n"), load.Outcome(9, 8, 7, 6, 5, 4, 3))
        self.assertIsNone(load.wrk_outcome("unable to connect"))

    def test_h2load(self) -> None:
        """Percentiles come from the log of all requests, everything else from what is printed."""
        log = [f"1795894732933080\t200\t{number}\n" for number in range(1000)]
        self.assertEqual(load.h2load_outcome(H2LOAD, log), load.Outcome(3000, 1_500_000, 3_300_000, 500, 990, 0, 0))

    def test_h2load_failures(self) -> None:
        """Answers of another status, and requests without one, are counted."""
        told = load.h2load_outcome(H2LOAD.replace("0 failed, 0 errored", "2 failed, 3 errored"), ["1 404 5\n"])
        assert told is not None
        self.assertEqual((told.wrong_status, told.failed), (1, 5))

    def test_not_http2(self) -> None:
        """A proxy that has fallen back to HTTP/1.1 is not measured as HTTP/2."""
        self.assertIsNone(load.h2load_outcome(H2LOAD.replace("protocol: h2", "protocol: http/1.1"), []))


class SentenceTests(SynchronousTestCase):
    """Who is ahead."""

    def said(self, column: str, *samples: Sample) -> str:
        (section,) = report.sections(report.rows(samples), [])
        return next(one for one in section.sentences if one.startswith(column))

    def test_wins_and_losses(self) -> None:
        """Those with more requests a second are ahead, and it is told by how much."""
        samples = (sample("swarmgate"), sample("traefik", rate=250.0), sample("nginx", rate=2000.0))
        self.assertEqual(
            self.said("Requests/s", *samples),
            "Requests/s: swarmgate is ahead of Traefik (4.00 times) and behind nginx (0.50 times).",
        )

    def test_less_is_more(self) -> None:
        """Of CPU for each request, less is better."""
        samples = (sample("swarmgate"), sample("traefik", cpu=80.0), sample("nginx", cpu=10.0))
        self.assertIn("ahead of Traefik (0.25 times) and behind nginx (2.00 times)", self.said("CPU", *samples))

    def test_level(self) -> None:
        """Rounds that overlap are no win."""
        ours = [sample("swarmgate", round_=number, rate=rate) for number, rate in ((1, 900.0), (2, 1100.0))]
        its = [sample("nginx", round_=number, rate=rate) for number, rate in ((1, 800.0), (2, 950.0))]
        self.assertIn("swarmgate is level with nginx (1.14 times).", self.said("Requests/s", *ours, *its))

    def test_alone(self) -> None:
        """Without anybody else there is nothing to say; two workers are not somebody else."""
        (section,) = report.sections(report.rows([sample("swarmgate"), sample("swarmgate-2")]), [])
        self.assertEqual(section.sentences, ())


class VerdictTests(SynchronousTestCase):
    """What is wanted, and whether it is so."""

    def test_small(self) -> None:
        """Requests a second beside Traefik and nginx, CPU beside HAProxy: each may hold or not."""
        found = judged(
            sample("swarmgate"),
            sample("traefik", rate=250.0),
            sample("nginx", rate=2000.0),
            sample("haproxy", cpu=15.0),
        )
        self.assertTrue(found["60 B: requests/s of one core, beside Traefik"].holds)
        beside_nginx = found["60 B: requests/s of one core, beside nginx"]
        self.assertEqual((beside_nginx.figure, beside_nginx.bound, beside_nginx.holds), (0.5, 0.9, False))
        self.assertEqual(beside_nginx.told[1:], ("0.50", "at least 0.9", "NO"))
        self.assertFalse(found["60 B: CPU per request, beside HAProxy"].holds)

    def test_bounds(self) -> None:
        """A figure that is just what is wanted holds."""
        self.assertTrue(Verdict("a", 0.9, 0.9, at_least=True).holds)
        self.assertTrue(Verdict("a", 1.15, 1.15).holds)
        self.assertFalse(Verdict("a", 1.16, 1.15).holds)

    def test_large_and_paced(self) -> None:
        """Large bodies go by throughput, a fixed rate by the slowest percent."""
        found = judged(
            *(sample(name, "10m", throughput=rate) for name, rate in (("swarmgate", 2e9), ("nginx", 1e9))),
            *(sample(name, "1000", p99=p99) for name, p99 in (("swarmgate", 2.5), ("nginx", 0.5))),
        )
        self.assertEqual(found["10 MB: throughput, beside nginx"].figure, 2)
        paced = found["1 KiB, 1,000 requests a second: p99 beyond nginx's"]
        self.assertEqual((paced.figure, paced.holds), (2.0, False))

    def test_workers(self) -> None:
        """Two workers that need as much for a request as one give twice as much."""
        what = "60 B: requests of 2 workers per second of CPU for each, beside one worker's"
        self.assertEqual(judged(sample("swarmgate"), sample("swarmgate-2"))[what].figure, 2)
        self.assertFalse(judged(sample("swarmgate"), sample("swarmgate-2", cpu=23.0))[what].holds)

    def test_memory(self) -> None:
        """Of two workers the larger counts; with one process that process."""
        found = judged(at_rest=(memory("swarmgate", 6000.0), memory("swarmgate-2", 1.0, 55_000_000, 59_000_000)))
        self.assertEqual(found["idle: one worker of two, resident"].figure, 59)
        self.assertFalse(found["idle: the one process of workers: 1, resident"].holds)
        self.assertFalse(found["10,000 idle connections add"].holds)

    def test_nothing(self) -> None:
        """Where somebody was not measured, nothing is said of it."""
        self.assertEqual(judged(sample("swarmgate")), {})


class JournalTests(SynchronousTestCase):
    """A run that is broken off."""

    def journal(self) -> Journal:
        path = Path(self.mktemp()) / "results.json"
        samples = [sample("swarmgate"), sample("nginx", rate=2000.0)]
        return Journal(path, SETTINGS, FACTS, samples, [memory("swarmgate"), memory("nginx", 600.0, 1)])

    def test_again(self) -> None:
        """What was written is read as it was."""
        journal = self.journal()
        journal.write()
        self.assertEqual(Journal.read(journal.path), journal)
        self.assertTrue(journal.has("60", 1, "nginx") and journal.has_memory(1, "nginx"))
        self.assertFalse(journal.has("60", 2, "nginx") or journal.has("1k", 1, "nginx"))

    def test_another_form(self) -> None:
        """Results of an older form, or none, are no results."""
        path = Path(self.mktemp())
        self.assertEqual(Journal.read(path), Journal(path))
        path.write_text('{"rows": []}')
        self.assertEqual(Journal.read(path), Journal(path))

    def test_going_on(self) -> None:
        """The same command goes on with it; others, a finished one and --anew begin from nothing."""
        said: list[str] = []
        self.patch(program, "_say", said.append)
        journal = self.journal()
        journal.write()
        arguments = ["--rounds=1", "--proxies=swarmgate,nginx", "--loads=60"]
        self.assertEqual(len(program._journal(program._options(arguments), journal.path).samples), 2)
        self.assertIn("which has 2 samples", said[0])
        for other in (["--rounds=2"], ["--anew"]):
            chosen = program._options([*arguments, *other])
            self.assertEqual(program._journal(chosen, journal.path).samples, [])
        journal.complete = True
        journal.write()
        self.assertEqual(program._journal(program._options(arguments), journal.path).samples, [])

    def test_page(self) -> None:
        """The page has wins and losses, verdicts, machine, commands, and what was not measured; each table is even."""
        journal = self.journal()
        journal.not_measured = {"rollout": "it needs root"}
        journal.swarm = [Moved("6 tasks rolled", "swarmgate", 100, 0, "", 0.1, "")]
        text = page.restructured(journal, is_plotted=False)
        for part in ("behind nginx (0.50 times)", "**The run was broken off**", "4 GiB", "it needs root", "0 of 100"):
            self.assertIn(part, text)
        self.assertIn("1 round of 3 s", text)
        self.assertNotIn("broken off", page.restructured(attrs.evolve(journal, complete=True), is_plotted=False))
        for table in text.split(".. list-table::")[1:]:
            rows = table.split("   * - ")[1:]
            self.assertEqual(len({row.split("\n\n")[0].count("\n     -") for row in rows}), 1, table)
        self.assertIn("NOT MEASURED: rollout", page.printed(journal))

    def test_overview(self) -> None:
        """All in one: a line for each figure, a column for each proxy; changes go to whoever followed them."""
        table = report.rows([sample("swarmgate"), sample("traefik", rate=250.0)])
        moved = [Moved("roll", "Traefik, refreshSeconds 15 (default)", 100, 7, "7 502", 0.1, "")]
        lines = report.overview(table, [], moved)
        self.assertEqual(lines[0], ("", "swarmgate", "Traefik"))
        self.assertEqual(lines[1], ("60 B: requests/s", "1,000", "250"))
        self.assertEqual(lines[-1], ("roll: failed requests", "", "7 of 100"))


class ChoiceTests(SynchronousTestCase):
    """What the command line asks for."""

    def test_time(self) -> None:
        """All of it, but for what needs a Swarm, takes twenty minutes at most."""
        self.patch(swarm, "missing", lambda: "")
        here, on_swarm = program.minutes(program._options([]))
        self.assertLessEqual(here, 20)
        self.assertGreater(on_swarm, 0)
        self.patch(swarm, "missing", lambda: "it needs root")
        self.assertEqual(program.minutes(program._options([])), (here, 0))

    def test_names(self) -> None:
        """Proxies and loads are chosen by name; an unknown one is refused."""
        chosen = program._options(["--proxies", "nginx,swarmgate", "--loads", "10m,60"])
        self.assertEqual((chosen.proxies, chosen.loads), (["swarmgate", "nginx"], ["60", "10m"]))
        self.patch(sys, "stderr", io.StringIO())
        for wrong in ("--proxies=apache", "--loads=20m", "--rounds=0"):
            self.assertRaises(SystemExit, program._options, [wrong])

    def test_proxies(self) -> None:
        """Everybody has a command and files, an access log and metrics."""
        place = Place(Path("/x"), 1, 2, 3, 4747)
        for proxy in PROXIES:
            self.assertIn(proxy.name, COMMANDS)
            configuration = " ".join((*proxy.arguments(place), *proxy.files(place).values()))
            self.assertIn("4747", configuration, proxy.name)
            self.assertTrue(proxy.logs_to_stdout or "access.log" in configuration, proxy.name)
        self.assertEqual(set(COMMANDS), set(FILES))

    def test_swarm(self) -> None:
        """Records of the rollout benchmark are told by their titles."""
        record = {"scenario": "a", "proxy": "b", "asked": "9", "failed": "1", "faults": "1 502", "slowest": "0.5"}
        (told,) = swarm.moved([{**record, "note": "", "round": "1"}], {"a": "A"})
        self.assertEqual(told, Moved("A", "b", 9, 1, "1 502", 0.5, ""))
