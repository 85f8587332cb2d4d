"""What is said of a rollout's requests: reading the load generator's file, summing up, and the table."""

from __future__ import annotations

import csv
import io

from twisted.trial.unittest import SynchronousTestCase

from bench.rollout import __main__ as program
from bench.rollout import proxies, report, scenarios
from bench.rollout.load import Answer, pairs, read

HEAD = "metric_name,timestamp,metric_value,scenario,extra_tags,metadata\n"


def answer(began: float, seconds: float = 0.01, status: int = 200, error: int = 0, **more: str) -> Answer:
    return Answer(began, seconds, more.get("method", "GET"), status, error, more.get("id", "f1"), kept=False)


def summed(answers: list[Answer], processed: tuple[str, ...] = (), **more: float) -> report.Outcome:
    return report.outcome(
        "roll", "gate", 1, answers, [], processed, (1003.0, 1010.0), more.get("stopped", 1030.0), more.get("usual", 0.0)
    )


class ReadTests(SynchronousTestCase):
    """The file that the load generator writes."""

    def test_answers(self):
        """A request's time, method, status and id are as they were written; other metrics are no requests."""
        lines = [
            HEAD,
            "http_reqs,1000500,1.000000,fresh,,\n",
            "answer,1000500,250.000000,kept,code=502&error=1502&method=POST,id=k7\n",
        ]
        answers, unsent = read(lines)
        self.assertEqual([Answer(1000.25, 0.25, "POST", 502, 1502, "k7", kept=True)], answers)
        self.assertEqual([], unsent)

    def test_unsent(self):
        """Requests for which there was no user left are counted one by one."""
        _, unsent = read([HEAD, "dropped_iterations,1000500,3.000000,fresh,,\n"])
        self.assertEqual([1000.5] * 3, unsent)

    def test_pairs(self):
        """Tags are told apart, and there may be none."""
        self.assertEqual({"a": "1", "b": "2=3"}, pairs("a=1&b=2=3"))
        self.assertEqual({}, pairs(""))


class FaultTests(SynchronousTestCase):
    """What went wrong with a request."""

    def test_words(self):
        """Hung, refused and broken requests, and answers of another status, are told apart."""
        self.assertEqual("", answer(0).fault)
        self.assertEqual("502", answer(0, status=502, error=1502).fault)
        self.assertEqual("hung", answer(0, 10.0, 0, 1050).fault)
        self.assertEqual("refused", answer(0, status=0, error=1212).fault)
        self.assertEqual("k6 error 1999", answer(0, status=0, error=1999).fault)

    def test_half_an_answer(self):
        """A status of 200 whose body never came is a failure."""
        self.assertTrue(answer(0, status=200, error=1220).failed)
        self.assertEqual("reset", answer(0, status=200, error=1220).fault)


class OutcomeTests(SynchronousTestCase):
    """One load, summed up."""

    def test_counts(self):
        """Failed and slow requests are counted, and found in the second in which they began."""
        told = summed(
            [answer(1000.0), answer(1002.5, status=502), answer(1004.1, 1.5), answer(1005.9, 10.0, 0, 1050)],
        )
        self.assertEqual((4, 2, 1, 1), (told.asked, told.failed, told.hung, told.slow))
        self.assertEqual((1, 0), told.timeline[2])
        self.assertEqual((0, 1), told.timeline[4])
        self.assertEqual((1, 0), told.timeline[5])
        self.assertEqual(3, sum(failed + slow for failed, slow in told.timeline))
        self.assertEqual((3.0, 10.0), told.change)
        self.assertEqual(1.5, told.slowest)

    def test_too_late(self):
        """A request that may have been broken off by the end of the load counts neither as failed nor as asked."""
        told = summed([answer(1000.0), answer(1025.0, 5.0, 0, 1050)])
        self.assertEqual((1, 0), (told.asked, told.failed))

    def test_none(self):
        """A load without a request that counts is not reported as one without failures."""
        self.assertRaises(ValueError, summed, [answer(1025.0)])

    def test_posts(self):
        """A POST processed twice is noticed, and one that was answered but not processed."""
        posts = [answer(1000.0 + n, method="POST", id=f"f{n}") for n in range(3)]
        told = summed(posts, ("f0", "f0", "f1"))
        self.assertEqual((1, 1), (told.twice, told.lost))

    def test_usually_slow(self):
        """Where the application takes 5 s, an answer after 5.2 s is not slow."""
        told = summed([answer(1000.0, 5.2), answer(1001.0, 6.5)], usual=5.0)
        self.assertEqual(1, told.slow)


class TableTests(SynchronousTestCase):
    """The report."""

    def outcomes(self) -> list[report.Outcome]:
        good = summed([answer(1000.0), answer(1001.0)])
        bad = summed([answer(1000.0), answer(1001.0, status=502), answer(1002.0, 10.0, 0, 1050)])
        return [good, report.attrs.evolve(bad, proxy="other"), report.attrs.evolve(bad, proxy="other", round=2)]

    def test_rounds(self):
        """Rounds of the same scenario and proxy are one row with the sum of their requests."""
        groups = report.grouped(self.outcomes())
        self.assertEqual([1, 2], [len(group) for group in groups])
        row = report.cells(groups[1], {"other": "Other"})
        self.assertEqual(("roll", "Other", "6", "4", "2 502, 2 hung"), row[:5])

    def test_table(self):
        """Every row of the table has as many cells as its head."""
        text = report.table(self.outcomes(), {}, {"Rounds": "2"})
        rows = text.split("   * - ")[1:]
        self.assertEqual(3, len(rows))
        self.assertEqual({rows[0].count("\n     -")}, {row.count("\n     -") for row in rows})

    def test_comma_separated(self):
        """The CSV has one record for each round, with a figure under each name."""
        records = list(csv.DictReader(io.StringIO(report.comma_separated(self.outcomes()))))
        self.assertEqual(["0", "2", "2"], [record["failed"] for record in records])
        self.assertEqual("1 502, 1 hung", records[2]["faults"])


class ChoiceTests(SynchronousTestCase):
    """What the command line asks for."""

    def test_all(self):
        """Without options everything is run, each scenario under a name of its own."""
        picked, beside = program.chosen(program.parse([]))
        self.assertEqual(scenarios.SCENARIOS, tuple(picked))
        self.assertEqual(proxies.PROXIES, tuple(beside))
        self.assertEqual(len(picked), len({each.name for each in picked}))

    def test_short(self):
        """A short run does less, and what is named is done all the same."""
        picked, beside = program.chosen(program.parse(["--short"]))
        self.assertLess(len(picked), len(scenarios.SCENARIOS))
        self.assertEqual(["swarmgate", "traefik"], [each.name for each in beside])
        picked, beside = program.chosen(program.parse(["--short", "--scenario", "cut", "--proxy", "traefik-1s"]))
        self.assertEqual((["cut"], ["traefik-1s"]), ([each.name for each in picked], [each.name for each in beside]))

    def test_same_treatment(self):
        """All proxies get the same options, but for how often the Swarm is asked and what each needs to run."""
        self.patch(proxies, "traefik", lambda: proxies.Path("/opt/x/traefik"))
        made = [proxies.command(proxy, "/socket", "7") for proxy in proxies.PROXIES]
        flags = [{part for part in command if part.startswith(("--providers", "--entry"))} for command in made]
        self.assertEqual(flags[0], flags[1])
        self.assertEqual({"--providers.swarm.refreshseconds=1"}, flags[2] - flags[1])
