"""What is said of attacks: whether a figure holds, whether an answer was passed on that should not have been."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from bench.attacks import hostile
from bench.attacks.__main__ import restructured, shown
from bench.attacks.actors import quantile
from bench.attacks.rows import ROWS, honest_figures
from bench.attacks.world import Figure

BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 11\r\n\r\nBad Gateway"


class FigureTests(SynchronousTestCase):
    def test_bounds(self) -> None:
        """A figure holds up to its bound, from its bound on, or always if it has none."""
        self.assertTrue(Figure("a", 5, 5).holds)
        self.assertFalse(Figure("a", 5.1, 5).holds)
        self.assertTrue(Figure("a", 5, 5, at_least=True).holds)
        self.assertFalse(Figure("a", 4, 5, at_least=True).holds)
        self.assertTrue(Figure("a", 1e9).holds)

    def test_honest(self) -> None:
        """The honest may wait half as long again, or 20 ms more, whichever is longer."""
        self.assertEqual([figure.bound for figure in honest_figures(2, 3, {})], [None, 22])
        self.assertEqual([figure.bound for figure in honest_figures(100, 3, {})], [None, 150])

    def test_quantile(self) -> None:
        """The slowest percent of a hundred is one of them."""
        self.assertEqual(quantile([float(n) for n in range(100)], 0.99), 99)
        self.assertEqual(quantile([], 0.99), 0)

    def test_rows(self) -> None:
        """Each row has its number once, and a small form of each of its numbers."""
        self.assertEqual(len({row.number for row in ROWS}), len(ROWS))
        for row in ROWS:
            self.assertLessEqual(set(row.full), set(row.quick), row.name)


class TableTests(SynchronousTestCase):
    def test_missed(self) -> None:
        """A figure beyond its bound is marked in the table."""
        figures = [Figure("p99", 30, 20, "ms"), Figure("lost", 0, 0)]
        rows = [{**attrs.asdict(figure), "holds": figure.holds} for figure in figures]
        machine = {"cores": 2, "cpu": "one", "kernel": "Linux", "python": "3.11"}
        results = {"machine": machine, "rows": {"9": {"name": "nine", "when": "2026-01-02 03:04", "figures": rows}}}
        table = restructured(results)
        self.assertIn("- 30 ms **(missed)**\n     - at most 20 ms\n", table)
        self.assertEqual(table.count("missed"), 1)
        self.assertIn("Measured 2026-01-02: rows 9.", table)

    def test_figures(self) -> None:
        """Figures are as precise as is of use."""
        self.assertEqual([shown(3.0), shown(1234.5), shown(0.123)], ["3", "1,234", "0.12"])


class VerdictTests(SynchronousTestCase):
    """Each verdict finds the fault that it is for."""

    def test_refused(self) -> None:
        """Only the gate's own 502 is a refusal, whatever informational answers come before it."""
        self.assertEqual(hostile.refused(BAD_GATEWAY), "")
        self.assertEqual(hostile.refused(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3 + BAD_GATEWAY), "")
        self.assertTrue(hostile.refused(b"HTTP/1.1 200 OK\r\n\r\n"))
        self.assertTrue(hostile.refused(b""))

    def test_truncated(self) -> None:
        """An answer that can be taken for a whole one was not cut short."""
        head = b"HTTP/1.1 200 OK\r\n"
        self.assertEqual(hostile.truncated(head + b"Content-Length: 5\r\n\r\nabc"), "")
        self.assertTrue(hostile.truncated(head + b"Content-Length: 3\r\n\r\nabc"))
        self.assertTrue(hostile.truncated(head + b"\r\nabc"))
        self.assertEqual(hostile.truncated(head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), "")
        self.assertTrue(hostile.truncated(head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
        self.assertEqual(hostile.truncated(BAD_GATEWAY), "")

    def test_only_first(self) -> None:
        """What comes behind an answer is nobody's."""
        first = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst"
        self.assertEqual(hostile.only_first(first), "")
        self.assertTrue(hostile.only_first(first + hostile.SMUGGLED))

    def test_chunks_alone(self) -> None:
        """Where length and chunks contradict each other, the chunks count."""
        self.assertEqual(hostile.chunks_alone(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "")
        self.assertTrue(hostile.chunks_alone(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"))
