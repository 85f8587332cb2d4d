"""How many cores there are for the gate."""

from __future__ import annotations

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(quota: Path = _QUOTA) -> int:
    """How many cores this process may keep busy: of its affinity, and by its control group's quota (cgroup v2)."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cores = os.cpu_count() or 1
    try:
        allowed = quota_of(quota.read_text("ascii"))
    except (OSError, ValueError):
        return cores
    return cores if allowed is None else max(1, min(cores, allowed))


def quota_of(text: str) -> int | None:
    """The whole cores of a quota as ``cpu.max`` has it, ``200000 100000``; None for ``max``.

    :raises ValueError: it is no quota.
    """
    most, _, period = text.strip().partition(" ")
    return None if most == "max" else math.ceil(int(most) / int(period or 100_000))
