"""Convergence and rolling updates: what ``bench.rollout`` measures on a real Swarm, where there can be one."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.journal import Moved
from bench.processes import Failed

#: The loads of a run that are changes of a Swarm, and the scenarios of ``bench.rollout`` that they are.
CHANGES = {"convergence": ("domain",), "rollout": ("start-first", "stop-first")}
#: Who can follow a Swarm.
_PROXIES = ("swarmgate", "traefik")
_PROGRAMS = ("dockerd", "docker", "ip", "iptables", "debootstrap")


def missing() -> str:
    """Why there can be no Swarm here; nothing if there can."""
    if os.geteuid() != 0:
        return "a Swarm in network namespaces needs root"
    lacking = [name for name in _PROGRAMS if shutil.which(name) is None]
    return f"a Swarm in network namespaces needs {', '.join(lacking)}" if lacking else ""


def measure(loads: Iterable[str], proxies: Iterable[str], folder: Path) -> list[Moved]:
    """Run the changes that *loads* names; how it gets on is printed as it does.

    :raises Failed: not all of it could be measured.
    """
    scenarios = [part for load in loads for name in CHANGES[load] for part in ("--scenario", name)]
    beside = [part for name in _PROXIES if name in proxies for part in ("--proxy", name)]
    command = [sys.executable, "-m", "bench.rollout", *scenarios, *beside, "--short", f"--results={folder}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise Failed(f"bench.rollout ended with code {done.returncode}")
    from bench.rollout.proxies import PROXIES
    from bench.rollout.scenarios import SCENARIOS

    with open(folder / "rollout.csv", newline="") as lines:
        return moved(csv.DictReader(lines), {one.name: one.title for one in (*SCENARIOS, *PROXIES)})


def moved(records: Iterable[Mapping[str, str]], titles: Mapping[str, str]) -> list[Moved]:
    """What the records of ``rollout.csv`` tell."""
    return [
        Moved(
            change=titles.get(one["scenario"], one["scenario"]),
            proxy=titles.get(one["proxy"], one["proxy"]),
            asked=int(one["asked"]),
            failed=int(one["failed"]),
            how=one["faults"],
            slowest=float(one["slowest"]),
            remark=one["note"],
        )
        for one in records
    ]
