"""What a run is told as: rows of medians with their spread, as text, reStructuredText, JSON and a plot."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs

from bench.load import WORKS
from bench.measure import Sample

#: Who everybody's rate is compared with.
BESIDE = "traefik"


@attrs.frozen
class Spread:
    """Several rounds of one figure."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """The spread of *figures*, of which there is at least one."""
        return cls(statistics.median(figures), min(figures), max(figures))


@attrs.frozen
class Row:
    """One proxy under one kind of load, over all rounds: units as in :class:`~bench.measure.Sample`."""

    proxy: str
    work: str
    rounds: int
    rate: Spread
    throughput: Spread
    cpu: Spread
    busy: Spread
    p50: Spread
    p99: Spread
    memory: Spread


def rows(samples: Sequence[Sample]) -> list[Row]:
    """One row per kind of load and proxy, in the order in which they were first measured."""
    grouped: dict[tuple[str, str], list[Sample]] = {}
    for taken in samples:
        grouped.setdefault((taken.work, taken.proxy), []).append(taken)
    order = [work.name for work in WORKS]
    made = [_row(group) for group in grouped.values()]
    return sorted(made, key=lambda row: order.index(row.work))


def _row(group: Sequence[Sample]) -> Row:
    def spread(figure: Callable[[Sample], float]) -> Spread:
        return Spread.of([figure(taken) for taken in group])

    return Row(
        proxy=group[0].proxy,
        work=group[0].work,
        rounds=len(group),
        rate=spread(lambda taken: taken.rate),
        throughput=spread(lambda taken: taken.throughput),
        cpu=spread(lambda taken: taken.cpu),
        busy=spread(lambda taken: taken.busy),
        p50=spread(lambda taken: taken.p50),
        p99=spread(lambda taken: taken.p99),
        memory=spread(lambda taken: taken.memory),
    )


_HEAD = (
    "load",
    "proxy",
    "requests/s",
    f"beside {BESIDE}",
    "MB/s",
    "CPU µs/request",
    "core busy",
    "p50 ms",
    "p99 ms",
    "memory MB before",
    "after",
)


def cells(table: Sequence[Row], before: dict[str, int]) -> list[tuple[str, ...]]:
    """The table as text, head first. A figure is the median; what follows in brackets is the least and the most.

    :param before: each proxy's resident memory in bytes before the first request.
    """
    lines: list[tuple[str, ...]] = [_HEAD]
    for row in table:
        beside = [other.rate.median for other in table if other.work == row.work and other.proxy == BESIDE]
        lines.append(
            (
                row.work,
                row.proxy,
                _figure(row.rate, 0),
                f"{row.rate.median / beside[0]:.2f}" if beside else "",
                _figure(row.throughput, 1, 1e6),
                _figure(row.cpu, 1),
                f"{row.busy.median:.0%}",
                _figure(row.p50, 2),
                _figure(row.p99, 2),
                f"{before[row.proxy] / 1e6:.1f}",
                f"{row.memory.high / 1e6:.1f}",
            )
        )
    return lines


def _figure(spread: Spread, digits: int, unit: float = 1) -> str:
    low, middle, high = (f"{value / unit:,.{digits}f}" for value in (spread.low, spread.median, spread.high))
    return middle if low == high else f"{middle} ({low} - {high})"


def text(lines: Sequence[tuple[str, ...]]) -> str:
    """The table for a terminal."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def restructured(lines: Sequence[tuple[str, ...]], facts: dict[str, Any]) -> str:
    """The table for the documentation, with what it was measured on and how to do it again."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rule = "  ".join("=" * width for width in widths)
    body = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    machine = facts["machine"]
    conditions = (
        f"Measured {facts['when']} on {machine['cores']} cores of {machine['cpu']}, {machine['kernel']}: "
        f"{facts['rounds']} rounds of {facts['seconds']:g} s each, {facts['connections']} connections "
        f"(8 for the large body), the proxies in turn within each round. The proxy has one core to itself and one "
        f"worker or thread; wrk and the backend share the other. Everyone keeps connections to the backend alive and "
        f"writes an access log to a file. A figure is the median over the rounds, with the least and the most; memory "
        f"is the most that was seen."
    )
    versions = [f"- {name}: {version}" for name, version in facts["versions"].items()]
    return "\n".join(
        [
            conditions,
            "",
            rule,
            body[0],
            rule,
            *body[1:],
            rule,
            "",
            *versions,
            "",
            "Again with::",
            "",
            f"    {facts['command']}",
            "",
        ]
    )


def write(folder: Path, samples: Sequence[Sample], facts: dict[str, Any], before: dict[str, int]) -> list[Path]:
    """``results.json``, ``results.rst`` and ``results.svg`` in *folder*; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    table = rows(samples)
    whole = {
        **facts,
        "memory_before": before,
        "rows": [attrs.asdict(row) for row in table],
        "samples": [attrs.asdict(taken) for taken in samples],
    }
    (folder / "results.json").write_text(json.dumps(whole, indent=1) + "\n")
    (folder / "results.rst").write_text(restructured(cells(table, before), facts))
    written = [folder / "results.json", folder / "results.rst"]
    if plot(folder / "results.svg", table):
        written.append(folder / "results.svg")
    return written


def plot(path: Path, table: Sequence[Row]) -> bool:
    """Requests per second, CPU per request and p99 as bars, one line per kind of load; False without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("svg")
    # Text stays text, and the same figures give the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "swarmgate", "font.size": 9})
    from matplotlib import pyplot

    works = list(dict.fromkeys(row.work for row in table))
    figures = (("requests/s", "rate"), ("CPU µs per request", "cpu"), ("p99, ms", "p99"))
    picture, axes = pyplot.subplots(
        len(works), len(figures), figsize=(11, 1.9 * len(works)), squeeze=False, layout="constrained"
    )
    for line, work in enumerate(works):
        shown = [row for row in table if row.work == work][::-1]
        for column, (title, name) in enumerate(figures):
            axis = axes[line][column]
            spreads: list[Spread] = [getattr(row, name) for row in shown]
            medians = [spread.median for spread in spreads]
            errors = [
                [spread.median - spread.low for spread in spreads],
                [spread.high - spread.median for spread in spreads],
            ]
            colours = ["#1f6feb" if row.proxy == "swarmgate" else "#9aa4b2" for row in shown]
            axis.barh([row.proxy for row in shown], medians, xerr=errors, color=colours, ecolor="#444", capsize=2)
            axis.set_title(f"{work}: {title}", fontsize=9)
            axis.spines[["top", "right"]].set_visible(False)
    picture.savefig(path, metadata={"Date": None})
    pyplot.close(picture)
    return True
