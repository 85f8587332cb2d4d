"""What a run is told as: one outcome for each scenario, proxy and round, as a table, as CSV and as a plot."""

from __future__ import annotations

import collections
import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs

from bench.rollout.load import PATIENCE, Answer

#: A request is slow if it is answered, but only after so many seconds (beyond those that the application takes).
SLOW = 1.0


@attrs.frozen
class Outcome:
    """What became of all requests of one scenario with one proxy.

    :ivar faults: how many requests failed in which way.
    :ivar hung: those of the failed that had no whole answer within ten seconds.
    :ivar slow: answered, but only after :data:`SLOW` seconds more than the application takes.
    :ivar unsent: requests that were due while too many others were waiting for their answers.
    :ivar twice: POSTs that the application has processed more than once.
    :ivar lost: POSTs that were answered 200, and the application knows nothing of.
    :ivar p50: seconds, as ``p99`` and ``slowest``, of the requests that did not fail.
    :ivar change: when the change began and ended, in seconds since the first request.
    :ivar timeline: failed and slow requests by the second in which they began.
    """

    scenario: str
    proxy: str
    round: int
    asked: int
    failed: int
    hung: int
    slow: int
    unsent: int
    twice: int
    lost: int
    p50: float
    p99: float
    slowest: float
    faults: Mapping[str, int]
    change: tuple[float, float]
    timeline: tuple[tuple[int, int], ...]
    note: str = ""

    @property
    def told(self) -> str:
        """The faults in words, the most frequent first."""
        ordered = sorted(self.faults.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{count} {fault}" for fault, count in ordered)


def outcome(
    scenario: str,
    proxy: str,
    round_: int,
    answers: Sequence[Answer],
    unsent: Sequence[float],
    processed: Iterable[str],
    change: tuple[float, float],
    stopped: float,
    usual: float = 0.0,
    note: str = "",
) -> Outcome:
    """Sum up one load.

    :param answers: all of them; those that began too late to be given up before the end don't count.
    :param processed: the ids of all POSTs that the application has seen, as often as it has seen them.
    :param change: when the change began and ended, seconds since 1970, as ``stopped``, the load's end.
    :param usual: seconds that the application takes for an answer.
    :raises ValueError: no answer counts.
    """
    last = stopped - PATIENCE - 0.5
    counted = [answer for answer in answers if answer.began <= last]
    if not counted:
        raise ValueError(f"{scenario} with {proxy}: no request was asked early enough to count")
    first = min(answer.began for answer in counted)
    failed = [answer for answer in counted if answer.failed]
    slow = [answer for answer in counted if not answer.failed and answer.seconds >= usual + SLOW]
    times = collections.Counter(processed)
    length = int(last - first) + 1
    broken = collections.Counter(int(answer.began - first) for answer in failed)
    late = collections.Counter(int(answer.began - first) for answer in slow)
    durations = sorted(answer.seconds for answer in counted if not answer.failed) or [PATIENCE]
    faults = collections.Counter(answer.fault for answer in failed)
    return Outcome(
        scenario=scenario,
        proxy=proxy,
        round=round_,
        asked=len(counted),
        failed=len(failed),
        hung=faults.get("hung", 0),
        slow=len(slow),
        unsent=sum(when <= last for when in unsent),
        twice=sum(count > 1 for id_, count in times.items() if id_),
        lost=sum(answer.method == "POST" and not answer.failed and answer.id not in times for answer in counted),
        p50=durations[len(durations) // 2],
        p99=durations[min(len(durations) - 1, len(durations) * 99 // 100)],
        slowest=durations[-1],
        faults=dict(faults),
        change=(change[0] - first, change[1] - first),
        timeline=tuple((broken[second], late[second]) for second in range(length)),
        note=note,
    )


_HEAD = ("scenario", "proxy", "requests", "failed", "how", "slow", "slowest, s", "not sent", "POSTs twice", "remark")


def table(outcomes: Sequence[Outcome], titles: Mapping[str, str], about: Mapping[str, str]) -> str:
    """Return the report as reStructuredText: what was run, and one row for each scenario and proxy over all rounds.

    :param titles: of scenarios and proxies, by name.
    :param about: what the reader has to know of the run, by term.
    """
    lines = ["Requests while the Swarm changes", "=" * 32, ""]
    lines += [f":{term}: {text}" for term, text in about.items()]
    lines += ["", ".. list-table::", "   :header-rows: 1", ""]
    lines += _row(_HEAD)
    for group in grouped(outcomes):
        lines += _row(cells(group, titles))
    return "\n".join(lines) + "\n"


def grouped(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """Return the rounds of each scenario and proxy, scenarios and their proxies in the order they were first run."""
    order = list(dict.fromkeys(outcome.scenario for outcome in outcomes))
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for each in outcomes:
        groups.setdefault((each.scenario, each.proxy), []).append(each)
    return sorted(groups.values(), key=lambda group: order.index(group[0].scenario))


def cells(group: Sequence[Outcome], titles: Mapping[str, str]) -> tuple[str, ...]:
    """Return the cells of one row: sums over the rounds, and the slowest request of all."""
    faults: collections.Counter[str] = collections.Counter()
    for each in group:
        faults.update(each.faults)
    scenario, proxy = group[0].scenario, group[0].proxy
    return (
        titles.get(scenario, scenario),
        titles.get(proxy, proxy),
        f"{sum(each.asked for each in group)}",
        f"{sum(each.failed for each in group)}",
        attrs.evolve(group[0], faults=faults).told,
        f"{sum(each.slow for each in group)}",
        f"{max(each.slowest for each in group):.2f}",
        f"{sum(each.unsent for each in group)}",
        f"{sum(each.twice for each in group)}",
        "; ".join(dict.fromkeys(each.note for each in group if each.note)),
    )


def _row(cells: Sequence[str]) -> list[str]:
    first, *others = cells
    return [f"   * - {first}", *(f"     - {cell}".rstrip() for cell in others)]


def comma_separated(outcomes: Sequence[Outcome]) -> str:
    """Return all outcomes as CSV, the timelines left out."""
    text = io.StringIO()
    names = [field.name for field in attrs.fields(Outcome) if field.name not in ("timeline", "faults", "change")]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, "faults", "change_began", "change_ended"])
    for each in outcomes:
        figures = [getattr(each, name) for name in names]
        rounded = [round(figure, 4) if isinstance(figure, float) else figure for figure in figures]
        writer.writerow([*rounded, each.told, *(round(when, 1) for when in each.change)])
    return text.getvalue()


def plot(outcomes: Sequence[Outcome], titles: Mapping[str, str], path: Path) -> None:
    """Write the plot: a row of panels for each scenario, one panel for each proxy, all on the same scale."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    scenarios = list(dict.fromkeys(each.scenario for each in outcomes))
    proxies = list(dict.fromkeys(each.proxy for each in outcomes))
    figure, panels = pyplot.subplots(
        len(scenarios),
        len(proxies),
        figsize=(4.5 * len(proxies), 1.6 * len(scenarios) + 0.8),
        squeeze=False,
        sharex="row",
        sharey="row",
    )
    for row, scenario in enumerate(scenarios):
        for column, proxy in enumerate(proxies):
            panel = panels[row][column]
            rounds = [each for each in outcomes if (each.scenario, each.proxy) == (scenario, proxy)]
            for each in rounds:
                failed = [counts[0] for counts in each.timeline]
                slow = [counts[1] for counts in each.timeline]
                seconds = range(len(failed))
                panel.axvspan(*each.change, color="0.92", zorder=0)
                panel.bar(seconds, failed, width=1, align="edge", color="tab:red", label="failed")
                panel.bar(seconds, slow, bottom=failed, width=1, align="edge", color="tab:orange", label="slow")
            panel.tick_params(labelsize=7)
            if row == 0:
                panel.set_title(titles.get(proxy, proxy), fontsize=10)
            if column == 0:
                panel.set_ylabel(_folded(titles.get(scenario, scenario)), fontsize=7)
            if rounds:
                total = f"{sum(each.failed for each in rounds)} failed, {sum(each.slow for each in rounds)} slow"
                panel.text(0.98, 0.9, total, transform=panel.transAxes, ha="right", va="top", fontsize=8)
        highest = max(sum(counts) for each in outcomes if each.scenario == scenario for counts in each.timeline)
        panels[row][0].set_ylim(0, max(5, highest * 1.2))
    for panel in panels[-1]:
        panel.set_xlabel("seconds; shaded: the change", fontsize=8)
    bars, names = panels[0][0].get_legend_handles_labels()
    figure.legend(bars[:2], names[:2], loc="upper right", fontsize=8, ncols=2)
    figure.suptitle("Requests by the second in which they began", fontsize=11)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _folded(text: str, width: int = 24) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
