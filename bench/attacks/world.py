"""What attacks are made on: a gate in production's setting, backends, and actors, each in its own process."""

from __future__ import annotations

import json
import os
import re
import resource
import select
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs

from bench.processes import PATIENCE, Failed, Running, free_port, start
from bench.proxies import Place, write_certificate

_RUN = "import sys; from swarmgate.cli import main; sys.exit(main())"
ROOT = Path(__file__).resolve().parent.parent.parent


@attrs.frozen
class Figure:
    """One figure of a row.

    :ivar bound: what it may be at most; None where nothing is asked of it.
    :ivar at_least: the bound is the least, not the most.
    """

    name: str
    value: float
    bound: float | None = None
    unit: str = ""
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether it keeps to its bound."""
        if self.bound is None:
            return True
        return self.value >= self.bound if self.at_least else self.value <= self.bound


class Actor:
    """A process that plays a role of :mod:`bench.attacks.actors`."""

    def __init__(self, core: int, role: str, prefix: tuple[str, ...] = (), **given: Any) -> None:
        self.role = role
        self._buffer = b""
        self._process = subprocess.Popen(
            [
                *(*prefix, "taskset", "-c", str(core), sys.executable, "-m", "bench.attacks.actors"),
                *(role, json.dumps(given)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def line(self, patience: float) -> str:
        """The next line that it prints.

        :raises Failed: it has ended, or says nothing for so many seconds.
        """
        assert self._process.stdout is not None
        deadline = time.monotonic() + patience
        while b"\n" not in self._buffer:
            readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._process.stdout.fileno(), 65536) if readable else b""
            if not data:
                self.kill()
                raise Failed(f"{self.role} {'has ended' if readable else f'says nothing for {patience:g} s'}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def ready(self, patience: float = 60.0) -> Self:
        """Wait until it does what it is for."""
        said = self.line(patience)
        assert said == "ready", said
        return self

    def result(self, patience: float = 60.0) -> dict[str, Any]:
        """What it saw, once it has ended by itself."""
        while not (said := self.line(patience)).startswith("{"):
            pass
        self._process.wait(PATIENCE)
        seen: dict[str, Any] = json.loads(said)
        return seen

    def finish(self, patience: float = 60.0) -> dict[str, Any]:
        """Tell it that it is over; what it saw."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self.result(patience)

    def kill(self) -> None:
        """End it, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@attrs.frozen
class Ports:
    """Where things listen on loopback: the gate in clear text, with TLS, and for itself; the two backends."""

    web: int = attrs.field(factory=free_port)
    secure: int = attrs.field(factory=free_port)
    own: int = attrs.field(factory=free_port)
    honest: int = attrs.field(factory=free_port)
    attacked: int = attrs.field(factory=free_port)


class World:
    """A gate with a backend for those who are honest and one for the attackers; ends all it has started.

    The gate has one core, everybody else the other.
    """

    def __init__(
        self, folder: Path, *options: str, descriptors: int = 0, closes: float = 0.0, prefix: tuple[str, ...] = ()
    ) -> None:
        """
        :param options: further ones, of the gate.
        :param descriptors: how many the gate may have; 0 for as many as there are.
        :param closes: the share of answers after which the attackers' backend closes the connection.
        :param prefix: what the gate's command begins with, as ``ip netns exec``.
        """
        cores = sorted(os.sched_getaffinity(0))
        self.gate_core, self.core = cores[0], cores[-1]
        self.folder = folder
        self.ports = Ports()
        self._descriptors = descriptors
        self._options = options
        self._closes = closes
        self._prefix = prefix
        self._actors: list[Actor] = []
        self.gate: Running

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _start(self) -> None:
        ports = self.ports
        place = Place(self.folder, ports.web, ports.secure, ports.honest, ports.own)
        write_certificate(place)
        self.routes(f"http://127.0.0.1:{ports.honest}", f"http://127.0.0.1:{ports.attacked}")
        self.actor("backend", port=ports.honest).ready()
        self.actor("backend", port=ports.attacked, closes=self._closes).ready()
        limit = ("prlimit", f"--nofile={self._descriptors}:{self._descriptors}") if self._descriptors else ()
        self.gate = start(
            "swarmgate",
            (
                *(*self._prefix, *limit, sys.executable, "-c", _RUN, "run"),
                *(f"--entryPoints.web.address=127.0.0.1:{ports.web}", "--ping", "--metrics.prometheus", "--workers=1"),
                f"--entryPoints.websecure.address=127.0.0.1:{ports.secure}",
                f"--entryPoints.traefik.address=127.0.0.1:{ports.own}",
                *(f"--providers.file.filename={self.folder}/routes.yml", f"--accessLog.filePath={place.access_log}"),
                *self._options,
            ),
            self.folder,
            (self.gate_core,),
            {"PYTHONPATH": str(ROOT)},
        )
        if not self._prefix:
            self.gate.wait_until_listening(ports.own)

    def routes(self, honest: str, attacked: str) -> None:
        """Write the gate's routes to these two URLs."""
        routers = ""
        for name, entry_point, tls in (("", "web", ""), ("-tls", "websecure", "      tls: {}\n")):
            for service in ("app", "attacked"):
                routers += (
                    f"    {service}{name}:\n      rule: Host(`{service}.example`)\n      service: {service}\n"
                    f"      entryPoints: [{entry_point}]\n{tls}"
                )
        services = "".join(
            f"    {name}:\n      loadBalancer:\n        servers:\n          - url: {url}\n"
            for name, url in (("app", honest), ("attacked", attacked))
        )
        certificate = self.folder / "certificate.pem"
        (self.folder / "routes.yml").write_text(
            f"http:\n  routers:\n{routers}  services:\n{services}"
            f"tls:\n  certificates:\n    - certFile: {certificate}\n      keyFile: {certificate}\n"
        )

    def stop(self) -> None:
        """End all that was started."""
        for actor in self._actors:
            actor.kill()
        if hasattr(self, "gate"):
            self.gate.stop()

    # Who does something.

    def actor(self, role: str, prefix: tuple[str, ...] = (), **given: Any) -> Actor:
        """Somebody who plays *role*; see there for what is *given*."""
        made = Actor(self.core, role, prefix, **given)
        self._actors.append(made)
        return made

    def attack(self, role: str, **given: Any) -> Actor:
        """Somebody who attacks the gate, and has begun with it."""
        return self.actor(role, port=self.ports.web, **given).ready()

    def honest(self, seconds: float, **given: Any) -> dict[str, Any]:
        """What the honest see for so many seconds.

        :raises Failed: not all was answered as it should be.
        """
        seen = self.actor("honest", port=self.ports.web, seconds=seconds, **given).result(seconds + 30)
        if seen["wrong"]:
            raise Failed(f"honest requests were not answered as they should be: {seen['wrong']}; {self.said()}")
        return seen

    # What there is to measure.

    def memory(self) -> int:
        """The gate's resident memory, in octets."""
        return self.gate.usage().memory

    def kernel_memory(self) -> int:
        """What the kernel holds for all TCP sockets of the machine, in octets."""
        found = re.search(r"(?m)^TCP: .* mem (\d+)", Path("/proc/net/sockstat").read_text())
        return int(found[1]) * os.sysconf("SC_PAGE_SIZE") if found else 0

    def descriptors(self) -> int:
        """How many files and sockets the gate holds open."""
        return len(os.listdir(f"/proc/{self._gate_pid()}/fd"))

    def _gate_pid(self) -> int:
        return self.gate.process.pid  # taskset and prlimit become what they start

    def said(self) -> str:
        """The end of what the gate has logged."""
        return "\n".join(
            (self.folder / name).read_text(errors="replace")[-1500:] for name in ("stdout", "stderr")
        ).strip()

    def stats(self) -> dict[str, int]:
        """What the attackers' backend has counted."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports.attacked}/stats", timeout=10) as answer:
            counted: dict[str, int] = json.loads(answer.read())
        return counted

    def gauges(self) -> dict[str, float]:
        """What the gate has under way: requests at servers, and clients' connections on the entry point web."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports.own}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        at_servers = sum(map(float, re.findall(r"(?m)^traefik_service_server_in_flight\{.*\} (\S+)$", text)))
        clients = re.findall(r'(?m)^traefik_open_connections\{entrypoint="web".*\} (\S+)$', text)
        return {"in flight": at_servers, "clients": float(clients[0])}

    def until(self, true: Callable[[], bool], patience: float) -> float:
        """Wait until something is *true*; how many seconds it took.

        :raises Failed: it takes longer than *patience* seconds.
        """
        begin = time.monotonic()
        while not true():
            if time.monotonic() - begin > patience:
                raise Failed(f"nothing has changed after {patience:g} s; {self.said()}")
            time.sleep(0.02)  # Between looks at another process, which has no way to tell us.
        return time.monotonic() - begin


def enough_descriptors(count: int) -> bool:
    """Whether a process may have so many."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= count
