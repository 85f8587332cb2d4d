"""The backend, and the load that is sent through each proxy to it."""

from __future__ import annotations

import http.client
import json
import subprocess
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

    :ivar path: which body of the backend is asked for.
    :ivar size: that body's size in bytes.
    :ivar connections: how many; None for as many as the run was asked for.
    :ivar rate: requests per second over all connections; None for as many as will go.
    :ivar secure: over TLS.
    :ivar anew: each request over a connection of its own: of TLS it is the handshakes that are measured.
    """

    name: str
    path: str
    size: int
    connections: int | None = None
    rate: int | None = None
    secure: bool = False
    anew: bool = False


WORKS = (
    Work("60 B", "/60", 60),
    Work("1 KiB", "/1k", 1024),
    Work("10 MB", "/10m", 10_000_000, connections=8),
    Work("1 KiB, 1,000/s", "/1k", 1024, rate=1000),
    Work("1 KiB, TLS", "/1k", 1024, secure=True),
    Work("60 B, TLS handshakes", "/60", 60, connections=16, secure=True, anew=True),
)


@attrs.frozen
class Outcome:
    """What ``wrk`` saw: times in microseconds, bytes as received with heads."""

    requests: int
    microseconds: int
    bytes: int
    p50: int
    p99: int
    wrong_status: int
    failed: int


def start_backend(folder: Path, core: int) -> tuple[Running, int]:
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
    backend = start("backend", command, folder, core)
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


def wrk_command(folder: Path, port: int, work: Work, connections: int, seconds: float, core: int) -> list[str]:
    """The load as a command; its script is written to *folder*."""
    count = work.connections or connections
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
        *("taskset", "-c", str(core), "wrk", "-t1", f"-c{count}", f"-d{round(seconds)}s", "--timeout", "10s"),
        *("-s", str(script), *fields, f"{scheme}://127.0.0.1:{port}{work.path}"),
    ]


def run(command: list[str]) -> Outcome:
    """Send the load; raise :exc:`Failed` if ``wrk`` can't or if any answer was not a good one."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    reports = [line for line in done.stdout.splitlines() if line.startswith("REPORT ")]
    if done.returncode or not reports:
        raise Failed(f"wrk failed with code {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    outcome = Outcome(**json.loads(reports[0].removeprefix("REPORT ")))
    if not outcome.requests:
        raise Failed("not one answer came")
    return outcome
