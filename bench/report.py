"""What a run is told as: medians with their spread, sentences on who is ahead, and tables, as text and for the docs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from bench.load import WORKS
from bench.measure import Sample
from bench.memory import MemorySample
from bench.proxies import PROXIES, TITLES

#: Who is compared with everybody else.
OURS = "swarmgate"
_ORDER = [proxy.name for proxy in PROXIES]


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

    def touches(self, other: Spread) -> bool:
        """Whether some round of either lies within the rounds of the other."""
        return self.low <= other.high and other.low <= self.high


@attrs.frozen
class Row:
    """One proxy under one kind of load, over all rounds: units as in :class:`~bench.measure.Sample`."""

    proxy: str
    work: str
    title: str
    rounds: int
    rate: Spread
    throughput: Spread
    cpu: Spread
    busy: Spread
    p50: Spread
    p99: Spread


@attrs.frozen
class MemoryRow:
    """What one proxy needs at rest, in bytes, over all rounds.

    :ivar worker: the largest of its worker processes after load; None if it has none.
    :ivar plain: for each idle connection, :ivar secure: for each with TLS, :ivar plain_total: for all without.
    """

    proxy: str
    rounds: int
    started: Spread
    rested: Spread
    rested_proportional: Spread
    worker: Spread | None
    plain: Spread
    secure: Spread
    plain_total: Spread


def rows(samples: Sequence[Sample]) -> list[Row]:
    """One row per kind of load and proxy, in the order of both."""
    grouped: dict[tuple[str, str], list[Sample]] = {}
    for taken in samples:
        grouped.setdefault((taken.work, taken.proxy), []).append(taken)
    made = []
    for work in WORKS:
        for name in _ORDER:
            if group := grouped.get((work.name, name)):
                spreads = {
                    figure: Spread.of([getattr(taken, figure) for taken in group])
                    for figure in ("rate", "throughput", "cpu", "busy", "p50", "p99")
                }
                made.append(Row(name, work.name, work.title, len(group), **spreads))
    return made


def memory_rows(samples: Sequence[MemorySample]) -> list[MemoryRow]:
    """One row per proxy."""
    made = []
    for name in _ORDER:
        group = [taken for taken in samples if taken.proxy == name]
        if group:
            workers = [max(taken.rested.workers) for taken in group if taken.rested.workers]
            made.append(
                MemoryRow(
                    proxy=name,
                    rounds=len(group),
                    started=Spread.of([taken.started.resident for taken in group]),
                    rested=Spread.of([taken.rested.resident for taken in group]),
                    rested_proportional=Spread.of([taken.rested.proportional for taken in group]),
                    worker=Spread.of(workers) if workers else None,
                    plain=Spread.of([taken.plain for taken in group]),
                    secure=Spread.of([taken.secure for taken in group]),
                    plain_total=Spread.of([taken.plain_total for taken in group]),
                )
            )
    return made


@attrs.frozen
class Column:
    """One figure of a table.

    :ivar title: with its unit, which is *unit* of what rows have.
    :ivar more_is_better: False: less is.
    """

    title: str
    figure: Callable[[Any], Spread]
    digits: int
    unit: float = 1
    more_is_better: bool = False

    def cell(self, row: Any) -> str:
        """The median, and what is between the least and the most of the rounds, if that is anything."""
        spread = self.figure(row)
        values = (spread.low, spread.median, spread.high)
        low, middle, high = (f"{value / self.unit:,.{self.digits}f}" for value in values)
        return middle if low == high else f"{middle} ({low} to {high})"

    def median(self, row: Any) -> str:
        """The median alone."""
        return f"{self.figure(row).median / self.unit:,.{self.digits}f}"


_RATE = Column("requests/s", lambda row: row.rate, 0, more_is_better=True)
_MEGABYTES = Column("MB/s", lambda row: row.throughput, 0, 1e6, more_is_better=True)
_CPU = Column("CPU for each, µs", lambda row: row.cpu, 1)
_BUSY = Column("cores used", lambda row: row.busy, 2)
_P50 = Column("p50, ms", lambda row: row.p50, 2)
_P99 = Column("p99, ms", lambda row: row.p99, 2)

#: The columns of each load, and how many of them, from the first on, it is about.
_COLUMNS: dict[str, tuple[tuple[Column, ...], int]] = {
    "10m": ((_MEGABYTES, _CPU, _BUSY, _P50, _P99), 2),
    "1000": ((_P99, _P50, _CPU), 1),
}
_USUAL = ((_RATE, _CPU, _BUSY, _P50, _P99), 2)
_MEMORY = (
    Column("started, MB", lambda row: row.started, 1, 1e6),
    Column("after load, MB", lambda row: row.rested, 1, 1e6),
    Column("of that its own share, MB", lambda row: row.rested_proportional, 1, 1e6),
    Column("kB for each idle connection", lambda row: row.plain, 1, 1e3),
    Column("kB for each with TLS", lambda row: row.secure, 1, 1e3),
)


@attrs.frozen
class Section:
    """One load: its table, head first, and what is to be said of it."""

    title: str
    sentences: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def sections(table: Sequence[Row], memory: Sequence[MemoryRow]) -> list[Section]:
    """A section for each kind of load that was measured, and one for memory."""
    made = []
    for work in WORKS:
        shown = [row for row in table if row.work == work.name]
        columns, headlines = _COLUMNS.get(work.name, _USUAL)
        if shown:
            made.append(_section(work.title, shown, columns, columns[:headlines]))
    if memory:
        made.append(_section("Memory", memory, _MEMORY, (_MEMORY[1], *_MEMORY[3:])))
    return made


def _section(title: str, shown: Sequence[Any], columns: Sequence[Column], headlines: Sequence[Column]) -> Section:
    head = ("proxy", *(column.title for column in columns))
    body = [(TITLES[row.proxy], *(column.cell(row) for column in columns)) for row in shown]
    said = [one for one in (sentence(column, shown) for column in headlines) if one]
    return Section(title, tuple(said), (head, *body))


def sentence(column: Column, shown: Sequence[Any]) -> str:
    """Whom swarmgate is ahead of, level with and behind; nothing if it, or everybody else, is not among *shown*.

    Level is who has rounds within the spread of swarmgate's.
    """
    ours = next((row for row in shown if row.proxy == OURS), None)
    others = [row for row in shown if not row.proxy.startswith(OURS)]
    if ours is None or not others:
        return ""
    mine = column.figure(ours)
    said: dict[str, list[str]] = {"ahead of": [], "level with": [], "behind": []}
    for row in others:
        its = column.figure(row)
        if mine.touches(its):
            how = "level with"
        else:
            how = "ahead of" if (mine.median > its.median) == column.more_is_better else "behind"
        factor = f"{mine.median / its.median:.2f} times" if its.median else "which has next to none"
        said[how].append(f"{TITLES[row.proxy]} ({factor})")
    parts = [f"{how} {_listed(names)}" for how, names in said.items() if names]
    return f"{column.title[:1].upper()}{column.title[1:]}: swarmgate is {_listed(parts)}."


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def overview(table: Sequence[Row], memory: Sequence[MemoryRow], swarm: Sequence[Any]) -> list[tuple[str, ...]]:
    """Everything in one table, head first: a line for each figure, a column for each proxy, medians alone.

    :param swarm: :class:`~bench.journal.Moved`, by the proxies' titles.
    """
    names = [name for name in _ORDER if any(row.proxy == name for row in (*table, *memory))]
    lines: list[tuple[str, ...]] = [("", *(TITLES[name] for name in names))]
    for work in WORKS:
        columns, headlines = _COLUMNS.get(work.name, _USUAL)
        for column in columns[:headlines]:
            found = {row.proxy: column.median(row) for row in table if row.work == work.name}
            if found:
                lines.append((f"{work.title}: {column.title}", *(found.get(name, "") for name in names)))
    for column in _MEMORY:
        found = {row.proxy: column.median(row) for row in memory}
        if found:
            lines.append((f"memory: {column.title}", *(found.get(name, "") for name in names)))
    for change in dict.fromkeys(one.change for one in swarm):
        told = {one.proxy: f"{one.failed} of {one.asked}" for one in swarm if one.change == change}
        cells = [
            next((text for title, text in told.items() if title.split(",")[0] == TITLES[name]), "") for name in names
        ]
        lines.append((f"{change}: failed requests", *cells))
    return lines


def text(lines: Sequence[tuple[str, ...]]) -> str:
    """A table for a terminal."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def list_table(lines: Sequence[tuple[str, ...]]) -> str:
    """A table for the documentation."""
    told = [".. list-table::", "   :header-rows: 1", ""]
    for first, *others in lines:
        told += [f"   * - {first}".rstrip(), *(f"     - {cell}".rstrip() for cell in others)]
    return "\n".join((*told, ""))
