"""A run as a page of the documentation, and as what is printed at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench import plot, report
from bench.journal import Journal, Moved
from bench.proxies import PROXIES, TITLES
from bench.verdicts import Verdict, verdicts

_VERDICT_HEAD = ("what", "figure", "wanted", "is it so")
_SWARM_HEAD = ("change", "proxy", "failed requests", "how", "slowest of the others, s", "remark")


def printed(journal: Journal) -> str:
    """All tables and verdicts for a terminal."""
    table, memory = report.rows(journal.samples), report.memory_rows(journal.memory)
    parts = []
    for section in report.sections(table, memory):
        parts.append("\n".join((f"== {section.title}", report.text(section.lines), *section.sentences)))
    if journal.swarm:
        parts.append(f"== A Swarm that changes\n{report.text(_swarm(journal.swarm))}")
    parts.append(f"== All in one\n{report.text(report.overview(table, memory, journal.swarm))}")
    parts += [f"NOT MEASURED: {what}: {why}" for what, why in journal.not_measured.items()]
    judged = verdicts(table, memory)
    if judged:
        parts.append(f"== What is wanted\n{report.text(_verdicts(judged))}")
    return "\n\n".join(parts)


def write(journal: Journal) -> list[Path]:
    """Write page and plot beside the journal; returns what was written."""
    folder = journal.path.parent
    table = report.rows(journal.samples)
    page, picture = folder / "results.rst", folder / "results.svg"
    written = [page]
    is_plotted = bool(table) and plot.plot(picture, table)
    if is_plotted:
        written.append(picture)
    page.write_text(restructured(journal, is_plotted))
    return written


def restructured(journal: Journal, is_plotted: bool) -> str:
    """The page, which is included by one that has a title."""
    table, memory = report.rows(journal.samples), report.memory_rows(journal.memory)
    judged = verdicts(table, memory)
    parts = [conditions(journal)]
    if not journal.complete:
        parts.append("**The run was broken off**: some figures are of fewer rounds, or missing.\n")
    parts += [_title("All in one"), report.list_table(report.overview(table, memory, journal.swarm))]
    parts += [f"Not measured: {what}: {why}.\n" for what, why in journal.not_measured.items()]
    if judged:
        missed = sum(not one.holds for one in judged)
        said = f"Of {len(judged)} figures {len(judged) - missed} are as wanted, {missed} are not.\n"
        parts += [_title("What is wanted"), said, report.list_table(_verdicts(judged))]
    for section in report.sections(table, memory):
        parts.append(_title(section.title))
        parts += [f"{sentence}\n" for sentence in section.sentences]
        parts.append(report.list_table(section.lines))
    if journal.swarm:
        parts += [_title("A Swarm that changes"), report.list_table(_swarm(journal.swarm))]
    if is_plotted:
        parts += [
            _title("As bars"),
            ".. image:: ../bench/results/results.svg\n   :alt: The figures of the tables as bars.\n",
        ]
    parts += [_title("How it was measured"), _how(journal)]
    return "\n".join(parts)


def conditions(journal: Journal) -> str:
    """Where, when and how often, in a paragraph."""
    facts, settings = journal.facts, journal.settings
    machine = facts["machine"]
    rounds = f"{settings['rounds']} round{'s' if settings['rounds'] != 1 else ''}"
    return (
        f"Measured {facts['when']} on {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB, {machine['kernel']}: {rounds} of "
        f"{settings['seconds']:g} s for each proxy and load, the proxies in turn within each round, every round "
        f"beginning with another one; {settings['connections']} connections unless it is said otherwise. A proxy with "
        "one worker or thread has a core to itself; the load and the backend share the other one. The one with two "
        "workers has both cores and shares them with load and backend: what counts there is CPU for each request. A "
        "figure is the median of the rounds, with the least and the most.\n"
    )


def _how(journal: Journal) -> str:
    facts = journal.facts
    proxies = [(proxy.title, proxy.settings) for proxy in PROXIES if proxy.name in journal.settings["proxies"]]
    lines = ["Each proxy as it would run in production; ``bench/proxies.py`` has all of each configuration:", ""]
    lines += [report.list_table((("proxy", "settings"), *proxies))]
    lines += ["Versions:", "", *(f"* {name}: {said}" for name, said in facts["versions"].items()), ""]
    lines += ["Commands::", ""]
    lines += [f"    # {TITLES.get(name, name)}\n    {command}" for name, command in facts["commands"].items()]
    lines += [
        "",
        "Memory is that of all processes of a proxy that was started for it, as ``/proc/PID/smaps_rollup`` tells "
        "it (Rss; the own share is Pss), before and after 2 s of load. Idle connections have asked once each: 10,000 "
        "without TLS, or 5,000 with it.",
        "",
        "Again with::",
        "",
        f"    {facts['command']}",
        "",
    ]
    return "\n".join(lines)


def _title(text: str) -> str:
    return f"{text}\n{'-' * len(text)}\n"


def _verdicts(judged: Sequence[Verdict]) -> list[tuple[str, ...]]:
    return [_VERDICT_HEAD, *(one.told for one in judged)]


def _swarm(moved: Sequence[Moved]) -> list[tuple[str, ...]]:
    body = [
        (one.change, one.proxy, f"{one.failed} of {one.asked}", one.how, f"{one.slowest:.2f}", one.remark)
        for one in moved
    ]
    return [_SWARM_HEAD, *body]
