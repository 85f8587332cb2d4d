"""Programs that run for the length of a benchmark, and what Linux tells of them.

Each is pinned to its cores, keeps its output in a file of its folder, and is ended by its process id.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

#: How long a program may take to listen, and to end, in seconds.
PATIENCE = 20.0

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Failed(Exception):
    """Something that makes the whole run worthless; the text says what, for people."""


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@attrs.frozen
class Usage:
    """What a program and its children have used: CPU in seconds since their start, resident memory in bytes."""

    cpu: float
    memory: int


@attrs.frozen
class Footprint:
    """Memory of a program and its children, in bytes.

    :ivar resident: pages that are in memory; one that processes share counts for each of them.
    :ivar proportional: the same, but a shared page counts for each of them by its share of it.
    :ivar workers: the resident memory of each child, in the order of their ids.
    """

    resident: int
    proportional: int
    workers: tuple[int, ...] = ()


@attrs.frozen
class Running:
    """A program that was started.

    :ivar command: as it was started, with ``taskset``.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    process: subprocess.Popen[bytes]

    def usage(self) -> Usage:
        """Read from ``/proc/PID/stat`` (fields 14, 15 and 24, proc(5)) of the program and all its children."""
        ticks = pages = 0
        for pid in _family(self.process.pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(after_name[11]) + int(after_name[12])
                pages += int(after_name[21])
        return Usage(ticks / _TICKS, pages * _PAGE)

    def footprint(self) -> Footprint:
        """Read from ``/proc/PID/smaps_rollup`` (proc(5)) of the program and all its children."""
        found: list[tuple[int, int]] = []
        for pid in _family(self.process.pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
                found.append((sizes["Rss:"], sizes["Pss:"]))
        resident, proportional = zip(*found, strict=True)
        return Footprint(sum(resident), sum(proportional), resident[1:])

    def complaint(self) -> str:
        """The last lines that it wrote to its standard error."""
        lines = (self.folder / "stderr").read_text(errors="replace").strip().splitlines()
        return "\n".join(lines[-8:]) or "it wrote nothing to its standard error"

    def wait_until_listening(self, port: int) -> None:
        """Return once *port* accepts connections; raise :exc:`Failed` if the program ends before, or takes too long."""
        deadline = time.monotonic() + PATIENCE
        while True:
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with code {self.process.returncode}: {self.complaint()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            if time.monotonic() > deadline:
                raise Failed(f"{self.name} does not listen on port {port} after {PATIENCE:.0f} s: {self.complaint()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it: asked first (SIGTERM), then by force."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _family(int(child))


def start(
    name: str,
    command: Sequence[str],
    folder: Path,
    cores: Sequence[int],
    environment: Mapping[str, str] | None = None,
    stdout: Path | None = None,
) -> Running:
    """*command* started on *cores*, its output in files of *folder* (its standard output in *stdout*, if given)."""
    pinned = ("taskset", "-c", ",".join(map(str, cores)), *command)
    with open(folder / "stderr", "wb") as errors, open(stdout or folder / "stdout", "ab") as output:
        process = subprocess.Popen(
            pinned,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            # Options of whoever runs this are not for the gate that is measured.
            env={
                **{key: value for key, value in os.environ.items() if not key.startswith("SWARMGATE_")},
                **(environment or {}),
            },
        )
    return Running(name, pinned, folder, process)
