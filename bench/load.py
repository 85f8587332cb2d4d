"""The backend, and the load that is sent through each proxy to it."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import attrs

from bench.processes import Failed, Running, free_port, start
from bench.proxies import HOST, nginx_frame

#: ``wrk`` calls this once, when all is over: its figures as one line of JSON, whole and not rounded for reading.
_REPORT = """\
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'REPORT {"requests": %d, "microseconds": %d, "bytes": %d, "p50": %d, "p99": %d, '
    .. '"wrong_status": %d, "failed": %d}\\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
"""


@attrs.frozen
class Work:
    """One kind of load.

    :ivar name: as ``--loads`` takes it, and :ivar title: as it is printed.
    :ivar path: which body of the backend is asked for.
    :ivar size: that body's size in bytes.
    :ivar connections: how many; None for as many as the run was asked for.
    :ivar rate: requests per second over all connections; None for as many as will go.
    :ivar secure: over TLS.
    :ivar anew: each request over a connection of its own: of TLS it is the handshakes that are measured.
    :ivar streams: over HTTP/2, with so many requests under way on each connection; 0: over HTTP/1.1.
    """

    name: str
    title: str
    path: str
    size: int
    connections: int | None = None
    rate: int | None = None
    secure: bool = False
    anew: bool = False
    streams: int = 0


WORKS = (
    Work("60", "60 B", "/60", 60),
    Work("1k", "1 KiB", "/1k", 1024),
    Work("tls", "1 KiB over TLS", "/1k", 1024, secure=True),
    Work("http2", "1 KiB over HTTP/2 and TLS", "/1k", 1024, connections=8, secure=True, streams=8),
    Work("handshakes", "TLS handshakes", "/60", 60, connections=16, secure=True, anew=True),
    Work("10m", "10 MB", "/10m", 10_000_000, connections=8),
    Work("1000", "1 KiB, 1,000 requests a second", "/1k", 1024, rate=1000),
)


@attrs.frozen
class Outcome:
    """What the clients saw: times in microseconds, bytes as received with heads."""

    requests: int
    microseconds: int
    bytes: int
    p50: int
    p99: int
    wrong_status: int
    failed: int


def start_backend(folder: Path, cores: list[int]) -> tuple[Running, int]:
    """An nginx with one worker that answers each work's path with so many bytes, and its port."""
    port = free_port()
    root = folder / "files"
    root.mkdir()
    for work in WORKS:
        (root / work.path.lstrip("/")).write_bytes(body(work.size))
    locations = "".join(
        f'    location = {path} {{ default_type text/plain; return 200 "{body(size).decode()}"; }}\n'
        for path, size in {work.path: work.size for work in WORKS if work.size < 4096}.items()
    )
    server = f"  server {{\n    listen 127.0.0.1:{port} backlog=4096;\n    root {root};\n{locations}  }}\n"
    (folder / "nginx.conf").write_text(nginx_frame(folder, f"  access_log off;\n{server}"))
    command = ("nginx", "-c", f"{folder}/nginx.conf", "-p", str(folder), "-e", "stderr")
    backend = start("backend", command, folder, cores)
    backend.wait_until_listening(port)
    return backend, port


def body(size: int) -> bytes:
    """The *size* bytes that the backend answers with."""
    line = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-"
    return (line * (size // len(line) + 1))[:size]


def verify(name: str, port: int, host: str = HOST) -> None:
    """Raise :exc:`Failed` unless *port* answers every work's path for *host* as the backend does."""
    for work in WORKS:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("GET", work.path, headers={"Host": host})
            response = connection.getresponse()
            received = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"{name} did not answer GET {work.path} for {host}: {error!r}") from error
        finally:
            connection.close()
        if response.status != 200 or received != body(work.size):
            raise Failed(
                f"{name} answered GET {work.path} for {host} with status {response.status} and {len(received)} bytes, "
                f"not 200 and the backend's {work.size}: {received[:80]!r}"
            )


def command_of(folder: Path, port: int, work: Work, connections: int, seconds: float, core: int) -> list[str]:
    """The load as a command for :func:`run`; what it reads and writes is in *folder*."""
    count = work.connections or connections
    pinned = ("taskset", "-c", str(core))
    if work.streams:
        # The log, one line for each request, has what h2load doesn't sum up: percentiles.
        return [
            *(*pinned, "h2load", "-t1", f"-c{count}", f"-m{work.streams}", f"-D{round(seconds)}"),
            *(f"--log-file={folder}/h2load.log", f"--connect-to=127.0.0.1:{port}", f"https://{HOST}{work.path}"),
        ]
    script = folder / f"wrk-{work.rate or 0}.lua"
    pace = ""
    if work.rate:
        # Each connection waits between its requests, at random so that they don't march in step.
        mean = 1000 * count / work.rate
        pace = f"function delay() return math.random(0, {round(2 * mean)}) end\n"
    script.write_text(pace + _REPORT)
    scheme = "https" if work.secure else "http"
    fields = ("-H", f"Host: {HOST}", *(("-H", "Connection: close") if work.anew else ()))
    return [
        *(*pinned, "wrk", "-t1", f"-c{count}", f"-d{round(seconds)}s", "--timeout", "10s"),
        *("-s", str(script), *fields, f"{scheme}://127.0.0.1:{port}{work.path}"),
    ]


def run(command: list[str]) -> Outcome:
    """Send the load of :func:`command_of`; raise :exc:`Failed` if it can't be, or if no answer came."""
    logs = [Path(part.partition("=")[2]) for part in command if part.startswith("--log-file=")]
    for log in logs:
        # It would be added to.
        log.unlink(missing_ok=True)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    said = done.stderr.strip() or done.stdout.strip()
    if done.returncode:
        raise Failed(f"the load failed with code {done.returncode}: {said[-500:]}")
    if logs:
        with open(logs[0]) as lines:
            outcome = h2load_outcome(done.stdout, lines)
    else:
        outcome = wrk_outcome(done.stdout)
    if outcome is None:
        raise Failed(f"the load told no figures: {said[-500:]}")
    if not outcome.requests:
        raise Failed("not one answer came")
    return outcome


def wrk_outcome(said: str) -> Outcome | None:
    """What wrk's script has reported; None if it hasn't."""
    reports = [line for line in said.splitlines() if line.startswith("REPORT ")]
    return Outcome(**json.loads(reports[0].removeprefix("REPORT "))) if reports else None


_FINISHED = re.compile(r"finished in ([0-9.]+)(us|ms|s|m)\b")
_REQUESTS = re.compile(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")
_TRAFFIC = re.compile(r"traffic: .*?\((\d+)\) total")
_PROTOCOL = re.compile(r"Application protocol: h2$", re.MULTILINE)
_UNITS = {"us": 1, "ms": 1000, "s": 1_000_000, "m": 60_000_000}


def h2load_outcome(said: str, log: Iterable[str]) -> Outcome | None:
    """What h2load has printed, with the times of its log: lines of start, status and microseconds.

    None if it has not finished, or has not spoken HTTP/2.
    """
    finished, requests, traffic = _FINISHED.search(said), _REQUESTS.search(said), _TRAFFIC.search(said)
    if finished is None or requests is None or traffic is None or not _PROTOCOL.search(said):
        return None
    answers = [line.split() for line in log]
    times = sorted(int(answer[2]) for answer in answers)
    wrong = sum(not answer[1].startswith("2") for answer in answers)
    succeeded, *others = map(int, requests.groups())
    return Outcome(
        requests=succeeded,
        microseconds=round(float(finished[1]) * _UNITS[finished[2]]),
        bytes=int(traffic[1]),
        p50=times[len(times) // 2] if times else 0,
        p99=times[len(times) * 99 // 100] if times else 0,
        wrong_status=wrong,
        failed=sum(others),
    )
