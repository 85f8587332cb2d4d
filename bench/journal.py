"""All that was measured, in a file that is whole after each sample: a run that is broken off goes on where it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import attrs

from bench.measure import Sample
from bench.memory import MemorySample
from bench.processes import Footprint


@attrs.frozen
class Moved:
    """What a real Swarm's change was like with one proxy, over all rounds.

    :ivar change: in words, as :ivar proxy:.
    :ivar failed: of the requests :ivar asked:.
    :ivar how: what went wrong with them, in words.
    :ivar slowest: seconds of the slowest that did not fail.
    """

    change: str
    proxy: str
    asked: int
    failed: int
    how: str
    slowest: float
    remark: str


@attrs.define
class Journal:
    """What a run has come to so far.

    :ivar facts: machine, versions, commands.
    :ivar settings: samples of two runs belong together if these are equal.
    :ivar not_measured: what was left out, and why.
    """

    path: Path
    settings: dict[str, Any] = attrs.field(factory=dict)
    facts: dict[str, Any] = attrs.field(factory=dict)
    samples: list[Sample] = attrs.field(factory=list)
    memory: list[MemorySample] = attrs.field(factory=list)
    swarm: list[Moved] = attrs.field(factory=list)
    not_measured: dict[str, str] = attrs.field(factory=dict)
    complete: bool = False

    @classmethod
    def read(cls, path: Path) -> Journal:
        """What *path* has, nothing if there is no such file or it is of another form."""
        try:
            told = json.loads(path.read_text())
            return cls(
                path,
                told["settings"],
                told["facts"],
                [Sample(**one) for one in told["samples"]],
                [_memory(one) for one in told["memory"]],
                [Moved(**one) for one in told["swarm"]],
                told["not_measured"],
                told["complete"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path)

    def has(self, work: str, round_: int, proxy: str) -> bool:
        """Whether there is a sample of that already."""
        return any((one.work, one.round, one.proxy) == (work, round_, proxy) for one in self.samples)

    def has_memory(self, round_: int, proxy: str) -> bool:
        """The same of memory."""
        return any((one.round, one.proxy) == (round_, proxy) for one in self.memory)

    def write(self) -> None:
        """Put all of it in the file, or leave that as it was."""
        told = {name: value for name, value in attrs.asdict(self).items() if name != "path"}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        other = self.path.with_suffix(".new")
        other.write_text(json.dumps(told, indent=1) + "\n")
        os.replace(other, self.path)


def _memory(told: dict[str, Any]) -> MemorySample:
    footprints = {
        name: Footprint(**{**told[name], "workers": tuple(told[name]["workers"])}) for name in ("started", "rested")
    }
    return MemorySample(**{**told, **footprints})
