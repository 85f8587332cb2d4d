"""Whether the figures are what swarmgate is to be, and by how much: decided from medians alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from bench.load import WORKS
from bench.proxies import TITLES
from bench.report import MemoryRow, Row

#: Small requests, as many as will go: what they cost is asked for each of them.
SMALL = tuple(work.name for work in WORKS if work.size < 4096 and work.rate is None and not work.anew)


@attrs.frozen
class Verdict:
    """One figure and its bound.

    :ivar at_least: the bound is the least; otherwise the most.
    """

    what: str
    figure: float
    bound: float
    unit: str = ""
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the figure is within its bound."""
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound

    @property
    def told(self) -> tuple[str, str, str, str]:
        """What, figure, bound, and ``yes`` or ``NO``."""
        unit = f" {self.unit}" if self.unit else ""
        word = "at least" if self.at_least else "at most"
        return self.what, f"{self.figure:.2f}{unit}", f"{word} {self.bound:g}{unit}", "yes" if self.holds else "NO"


def verdicts(rows: Sequence[Row], memory: Sequence[MemoryRow]) -> list[Verdict]:
    """All verdicts for which *rows* and *memory* have the figures."""
    return [*_small(rows), *_large(rows), *_paced(rows), *_workers(rows), *_memory(memory)]


def _small(rows: Sequence[Row]) -> Iterable[Verdict]:
    for work in SMALL:
        ours = _row(rows, work, "swarmgate")
        if ours is None:
            continue
        for other, bound in (("traefik", 3.5), ("nginx", 0.9)):
            beside = _row(rows, work, other)
            if beside is not None:
                what = f"{ours.title}: requests/s of one core, beside {TITLES[other]}"
                yield Verdict(what, ours.rate.median / beside.rate.median, bound, at_least=True)
        beside = _row(rows, work, "haproxy")
        if beside is not None:
            what = f"{ours.title}: CPU per request, beside HAProxy"
            yield Verdict(what, ours.cpu.median / beside.cpu.median, 1.15)


def _large(rows: Sequence[Row]) -> Iterable[Verdict]:
    ours = _row(rows, "10m", "swarmgate")
    for other in ("traefik", "nginx"):
        beside = _row(rows, "10m", other)
        if ours is not None and beside is not None:
            what = f"{ours.title}: throughput, beside {TITLES[other]}"
            yield Verdict(what, ours.throughput.median / beside.throughput.median, 1.0, at_least=True)


def _paced(rows: Sequence[Row]) -> Iterable[Verdict]:
    ours, beside = (_row(rows, "1000", name) for name in ("swarmgate", "nginx"))
    if ours is not None and beside is not None:
        yield Verdict(f"{ours.title}: p99 beyond nginx's", ours.p99.median - beside.p99.median, 1.0, "ms")


def _workers(rows: Sequence[Row]) -> Iterable[Verdict]:
    for work in SMALL:
        one, two = (_row(rows, work, name) for name in ("swarmgate", "swarmgate-2"))
        if one is not None and two is not None:
            what = f"{one.title}: requests of 2 workers per second of CPU for each, beside one worker's"
            yield Verdict(what, 2 * one.cpu.median / two.cpu.median, 1.8, at_least=True)


def _memory(memory: Sequence[MemoryRow]) -> Iterable[Verdict]:
    for row in memory:
        if row.proxy == "swarmgate-2" and row.worker is not None:
            yield Verdict("idle: one worker of two, resident", row.worker.median / 1e6, 60, "MB")
        if row.proxy == "swarmgate":
            yield Verdict("idle: the one process of workers: 1, resident", row.started.median / 1e6, 60, "MB")
            yield Verdict("10,000 idle connections add", row.plain_total.median / 1e6, 50, "MB")


def _row(rows: Sequence[Row], work: str, proxy: str) -> Row | None:
    return next((row for row in rows if (row.work, row.proxy) == (work, proxy)), None)
