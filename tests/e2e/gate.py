"""A gate that runs as a process, on a free port, with a file of routes."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: How long the gate may take to start and to stop, in seconds.
PATIENCE = 20.0

_RUN = "import sys; from swarmgate.cli import main; sys.exit(main())"
_WITHOUT_UVLOOP = "import sys; sys.modules['uvloop'] = None; from swarmgate.cli import main; sys.exit(main())"


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def routes(services: dict[str, list[int]], hosts: dict[str, str], extra: str = "") -> str:
    """A file of routes.

    :param services: the ports of each service's servers.
    :param hosts: the service that each host is routed to.
    :param extra: YAML that is added to each service's loadBalancer, indented as it stands.
    """
    lines = ["http:", "  routers:"]
    for number, (host, service) in enumerate(hosts.items()):
        lines += [f"    router{number}:", f"      rule: Host(`{host}`)", f"      service: {service}"]
    lines.append("  services:")
    for name, ports in services.items():
        lines += [f"    {name}:", "      loadBalancer:", "        servers:" + ("" if ports else " []")]
        lines += [f"          - url: http://127.0.0.1:{port}" for port in ports]
    return "\n".join(lines) + "\n" + extra


def children(process: int) -> list[int]:
    """The ids of the children of a process's first thread; none if it is no more."""
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def name_of(process: int) -> str:
    """What a process calls itself (``comm``, proc(5)); empty if it is no more."""
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def seconds_of(process: int) -> float:
    """The CPU that a process has taken since it was made, in seconds."""
    ticks = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


class Gate:
    """A gate that runs.

    :ivar port: of the entry point ``web``.
    """

    def __init__(
        self, text: str, *options: str, uvloop: bool = True, port: int = 0, program: str = "", log: Path | None = None
    ) -> None:
        """Start it with the routes *text* and further *options*; return once it answers.

        :param uvloop: False: as on a machine where uvloop is not installed.
        :param port: 0: one that is free.
        :param log: the file that its options have it log to, if not to standard error.
        :param program: Python that runs a gate with the options of the command line, for one of another kind.
        """
        self.port = port or free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="swarmgate-e2e-")
        home = Path(self._folder.name)
        (home / "routes.yml").write_text(text)
        self.access_log = home / "access.log"
        self._log = log or home / "stderr"
        with open(home / "stderr", "wb") as errors:
            self.process = subprocess.Popen(
                [
                    *(
                        sys.executable,
                        "-c",
                        program or (_RUN if uvloop else _WITHOUT_UVLOOP),
                        "run",
                        f"--entrypoints.web.address=127.0.0.1:{self.port}",
                    ),
                    *(f"--providers.file.filename={home}/routes.yml", f"--accessLog.filePath={self.access_log}"),
                    *("--ping.entryPoint=web", f"--workers={os.environ.get('E2E_WORKERS', '1')}", *options),
                ],
                # Options of whoever runs the tests are not for this gate.
                env={name: value for name, value in os.environ.items() if not name.startswith("SWARMGATE_")},
                cwd=Path(__file__).parent.parent.parent,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
        atexit.register(self.stop)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        request = b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the gate ended with code {self.process.returncode}: {self.said()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as client:
                client.sendall(request)
                # Another gate may listen on the same port.
                if client.recv(100).startswith(b"HTTP/1.1 200") and "listens on" in self.said(100_000):
                    return
            time.sleep(0.02)  # Between attempts to reach it; it has no way to tell us.
        self.stop()
        raise AssertionError(f"the gate does not answer after {PATIENCE:.0f} s: {self.said()}")

    def said(self, characters: int = 3000) -> str:
        """The end of what it has logged."""
        return self._log.read_text(errors="replace")[-characters:] if self._log.exists() else ""

    def memory(self) -> int:
        """Its resident memory in bytes (``VmRSS``, proc(5))."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def descriptors(self) -> int:
        """How many files and sockets it holds open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def fork_server(self) -> int:
        """The id of the process that its workers are forked from; 0 if there is none."""
        found = [child for child in children(self.process.pid) if name_of(child) == "fork server"]
        return found[0] if found else 0

    def workers(self) -> list[int]:
        """The ids of its workers that have been forked by its fork server, by their numbers."""
        server = self.fork_server()
        found = {name_of(child): child for child in (children(server) if server else ())}
        return [found[name] for name in sorted(found) if name.startswith("worker ")]

    def rewrite(self, text: str) -> None:
        """Replace its file of routes; it follows by itself."""
        (Path(self._folder.name) / "routes.yml").write_text(text)

    def stop(self) -> int:
        """End it, if it still runs; its exit code."""
        atexit.unregister(self.stop)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        said = self.said()
        self._folder.cleanup()
        if "Unhandled error" in said or "Traceback" in said:
            print(said, file=sys.stderr)
        return self.process.returncode
