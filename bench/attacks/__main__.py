"""``python -m bench.attacks``: the rows, one after the other, and the table of their figures."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from bench import measure
from bench.attacks.rows import ROWS, Row
from bench.attacks.world import Figure
from bench.processes import Failed

RESULTS = Path(__file__).resolve().parent.parent / "results"


def run(row: Row, quick: bool) -> list[Figure]:
    """The figures of *row*.

    :raises Failed: it could not be run, or something happened that no figure tells.
    """
    with tempfile.TemporaryDirectory(prefix="swarmgate-attack-") as folder:
        return row.run(Path(folder), row.quick if quick else row.full)


def load(path: Path) -> dict[str, Any]:
    """What was written before, for the rows that are not run this time."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    return found


def shown(value: float) -> str:
    """A figure for people."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:,.2f}"


def restructured(results: dict[str, Any]) -> str:
    """The table for the documentation."""
    machine = results["machine"]
    lines = [
        f"Measured on {machine['cores']} cores of {machine['cpu']}, {machine['kernel']}, Python {machine['python']}: "
        "the gate on one core; attackers, backends and the honest load, 200 requests a second over 20 connections, "
        "share the other. One process serves, access log, metrics and ping are on.",
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "   :widths: 6 30 32 14 18",
        "",
        *(f"   {'*' if first else ' '} - {word}" for first, word in _cells(("row", "what", "figure", "is", "bound"))),
    ]
    ordered = sorted(results["rows"].items(), key=lambda pair: int(pair[0]))
    for number, row in ordered:
        for place, figure in enumerate(row["figures"]):
            unit = f" {figure['unit']}" if figure["unit"] else ""
            bound = ""
            if figure["bound"] is not None:
                bound = f"{'at least' if figure['at_least'] else 'at most'} {shown(figure['bound'])}{unit}"
            missed = "" if figure["holds"] else " **(missed)**"
            head = (number, row["name"]) if not place else ("", "")
            cells = (*head, figure["name"], f"{shown(figure['value'])}{unit}{missed}", bound)
            lines += [f"   {'*' if first else ' '} - {word}".rstrip() for first, word in _cells(cells)]
    days: dict[str, list[str]] = {}
    for number, row in ordered:
        days.setdefault(row["when"].split()[0], []).append(number)
    lines += ["", *(f"Measured {day}: rows {', '.join(numbers)}." for day, numbers in days.items()), ""]
    return "\n".join(lines)


def _cells(words: Sequence[str]) -> list[tuple[bool, str]]:
    return [(not place, word) for place, word in enumerate(words)]


def write(folder: Path, results: dict[str, Any]) -> None:
    """``attacks.json`` and ``attacks.rst``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "attacks.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "attacks.rst").write_text(restructured(results))


def main() -> int:
    """Run what the command line asks for; 1 if a figure does not hold, or a row could not be run."""
    numbers = ",".join(str(row.number) for row in ROWS)
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description=__doc__)
    parser.add_argument("--rows", default=numbers, help="which, comma separated (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few seconds each; results go nowhere")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder they go to (default: %(default)s)")
    chosen = parser.parse_args()
    wanted = set(chosen.rows.split(","))
    if unknown := wanted - set(numbers.split(",")):
        parser.error(f"--rows: {', '.join(sorted(unknown))} is not one of {numbers}")
    results = load(chosen.results / "attacks.json")
    missed = 0
    for row in ROWS:
        if str(row.number) not in wanted:
            continue
        print(f"{row.number}: {row.name}", flush=True)
        began = time.monotonic()
        try:
            figures = run(row, chosen.quick)
        except Failed as reason:
            print(f"    failed: {reason}", flush=True)
            missed += 1
            continue
        for figure in figures:
            bound = "" if figure.bound is None else f" (bound: {shown(figure.bound)})"
            print(f"    {figure.name}: {shown(figure.value)} {figure.unit}{bound}{'' if figure.holds else '  MISSED'}")
        missed += not all(figure.holds for figure in figures)
        print(f"    took {time.monotonic() - began:.0f} s", flush=True)
        results["machine"] = measure.machine()
        results["rows"][str(row.number)] = {
            "name": row.name,
            "when": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "figures": [{**attrs.asdict(figure), "holds": figure.holds} for figure in figures],
        }
        if not chosen.quick:
            write(chosen.results, results)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
