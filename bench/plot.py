"""A run as bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.proxies import TITLES
from bench.report import Row, Spread


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

    titles = list(dict.fromkeys(row.title for row in table))
    figures = (("requests/s", "rate"), ("CPU µs for each", "cpu"), ("p99, ms", "p99"))
    picture, axes = pyplot.subplots(
        len(titles), len(figures), figsize=(11, 1.7 * len(titles)), squeeze=False, layout="constrained"
    )
    for line, title in enumerate(titles):
        shown = [row for row in table if row.title == title][::-1]
        for column, (name, figure) in enumerate(figures):
            axis = axes[line][column]
            spreads: list[Spread] = [getattr(row, figure) for row in shown]
            medians = [spread.median for spread in spreads]
            errors = [
                [spread.median - spread.low for spread in spreads],
                [spread.high - spread.median for spread in spreads],
            ]
            colours = ["#1f6feb" if row.proxy.startswith("swarmgate") else "#9aa4b2" for row in shown]
            labels = [TITLES[row.proxy] for row in shown]
            axis.barh(labels, medians, xerr=errors, color=colours, ecolor="#444", capsize=2)
            axis.set_title(f"{title}: {name}", fontsize=9)
            axis.spines[["top", "right"]].set_visible(False)
    picture.savefig(path, metadata={"Date": None})
    pyplot.close(picture)
    return True
