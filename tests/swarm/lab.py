"""A real Docker Swarm on one machine, started for the tests and ended with them.

Each node is a network namespace (and a host name) of its own with an engine of its own in it; one more namespace,
the LAN, holds the bridge that joins them and is where the tests' clients run. No namespace has a route out of the
machine, so nothing that a test sends can leave it. Names carry the process id of whoever started the laboratory:
two of them can run side by side with the same addresses and never meet.

What has to be known to build one:

* an engine is started with ``nsenter --net``; ``ip netns exec`` would hide the cgroup mounts from it;
* overlay networks work across the nodes; virtual IPs and the ingress routing mesh do not answer where the kernel has
  no IPVS, task addresses, ``tasks.SERVICE`` names and ports in host mode do;
* nothing can be pulled: the image is an almost empty folder, imported on every node, whose programs are this
  machine's own ``/usr``, mounted read-only.

As a program, for a laboratory to try things in::

    python -m tests.swarm.lab up [NODES]     prints the folder and the engines' sockets
    python -m tests.swarm.lab shell NODE     a shell in the namespace of a node, or of "lan"
    python -m tests.swarm.lab down           ends all that were started this way, and all whose owner has died

It needs root and Debian's packages docker.io, iproute2 and iptables.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

IMAGE = "sgl/app:1"
PREFIX = "sgl"
ADDRESSES = "198.18.0"  # of the range set aside for benchmarks
POOL = "198.19.0.0/16"  # for the overlay networks
APP = Path(__file__).with_name("app.py")
_CLONE_NEWNET = 0x40000000  # linux/sched.h


class LabError(Exception):
    """The laboratory, or a command in it, does not do what it should; the message has the command's own words."""


def run(*command: str, data: bytes | None = None, timeout: float = 60.0, check: bool = True) -> str:
    """Run a command and return what it wrote to stdout.

    :raises LabError: it ended with another code than 0 (unless ``check`` is false), or not within ``timeout`` seconds.
    """
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=timeout, check=False)
    except (subprocess.TimeoutExpired, OSError) as error:
        raise LabError(f"{' '.join(command)}: {error}") from error
    if check and done.returncode:
        raise LabError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode(errors="replace")


def wait_until(true: Callable[[], bool], what: str, seconds: float = 30.0, every: float = 0.1) -> None:
    """Block until ``true()`` says so.

    :raises LabError: it has not within ``seconds``; the message says that ``what`` has not come.
    """
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise LabError(f"waited {seconds:g} s for {what}")
        time.sleep(every)


class Namespace:
    """A network namespace of the laboratory, to run programs in."""

    def __init__(self, name: str) -> None:
        self.name = name

    def wrap(self, *command: str) -> tuple[str, ...]:
        """Return the command that runs ``command`` in here."""
        return ("nsenter", f"--net=/run/netns/{self.name}", "--", *command)

    def run(self, *command: str, timeout: float = 60.0, check: bool = True) -> str:
        """As :func:`run`, in here."""
        return run(*self.wrap(*command), timeout=timeout, check=check)

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program in here; whoever starts it ends it."""
        return subprocess.Popen(self.wrap(*command), **options)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let the thread be in here: sockets that it makes, and programs that it starts, are. Paths stay as they are.

        :raises OSError: it can't (setns(2)).
        """
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.name}") as there:
            _set_namespace(there.fileno())
            try:
                yield
            finally:
                _set_namespace(home.fileno())


def _set_namespace(file: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(file, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class _Local(http.client.HTTPConnection):
    """A connection to a server on a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine(Namespace):
    """One node: its namespace and the Docker engine in it.

    :ivar host: the node's host name, as ``n1``.
    :ivar address: its address in the LAN.
    """

    def __init__(self, lab: Lab, number: int) -> None:
        super().__init__(f"{lab.name}-n{number}")
        self.host = f"n{number}"
        self.address = f"{ADDRESSES}.{number + 10}"
        self.folder = lab.folder / self.host
        self.socket = self.folder / "docker.sock"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where its API answers, as DOCKER_HOST wants it."""
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start the engine; :meth:`await_up` tells when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = self.folder
        # A program in a namespace of host names of its own, so that the nodes can be told apart.
        script = f'hostname {self.host}; exec dockerd "$@"'
        options = ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
        options += ["--host", self.endpoint, "--shutdown-timeout", "3"]
        command = self.wrap("unshare", "--uts", "sh", "-c", script, "dockerd", *options)
        with open(folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def await_up(self) -> None:
        """Block until the API answers.

        :raises LabError: it does not, with the end of the engine's log.
        """
        try:
            wait_until(self.answers, f"the engine of {self.host}")
        except LabError as error:
            log = (self.folder / "log").read_text(errors="replace")
            raise LabError(f"{error}; its log ends with:\n{log[-2000:]}") from error

    def answers(self) -> bool:
        """Return whether the API answers."""
        if self.process is not None and self.process.poll() is not None:
            raise LabError(f"the engine of {self.host} ended with code {self.process.returncode}")
        try:
            self.docker("version", timeout=5)
        except LabError:
            return False
        return True

    def docker(self, *arguments: str, data: bytes | None = None, timeout: float = 60.0) -> str:
        """Run the docker command on this node's engine and return what it wrote, without the last line's end."""
        return run("docker", "--host", self.endpoint, *arguments, data=data, timeout=timeout).rstrip("\n")

    def ask(self, path: str, **filters: Sequence[str]) -> Any:
        """Return what this node's engine answers to GET: for what is asked many times, a process each would be dear.

        :raises LabError: it does not answer, or with another status than 200.
        """
        query = urllib.parse.urlencode({"filters": json.dumps(filters)})
        connection = _Local(str(self.socket))
        try:
            connection.request("GET", f"{path}?{query}")
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise LabError(f"{self.host}: GET {path}: {error!r}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise LabError(f"{self.host}: GET {path}: {answer.status}: {text.decode(errors='replace')}")
        return json.loads(text)

    def pid(self) -> int:
        """Return the engine's process id, 0 when there is none."""
        try:
            pid = int((self.folder / "pid").read_text())
        except (OSError, ValueError):
            return 0
        return pid if Path(f"/proc/{pid}").exists() else 0

    def signal(self, number: int) -> None:
        """Send the engine a signal: SIGSTOP and SIGCONT freeze and thaw it, SIGKILL leaves its containers running."""
        if pid := self.pid():
            os.kill(pid, number)

    def kill(self) -> None:
        """End the engine as a crash does: at once, with its containers left running."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(10)
            self.process = None
        # Its containerd ends with it, but not at once, and an engine that starts meanwhile would wait for it in vain.
        containerd = self.folder / "exec" / "containerd" / "containerd.pid"
        with contextlib.suppress(OSError, ValueError):
            pid = int(containerd.read_text())
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not alive(pid), "containerd's end", 10, 0.01)
        for leftover in (self.folder / "pid", self.socket, containerd):
            leftover.unlink(missing_ok=True)


class Lab:
    """A Swarm of ``nodes`` managers, up between ``with Lab() as lab:`` and its end.

    :ivar engines: its nodes.
    :ivar lan: the namespace for clients, which reach every node's address from there.
    """

    def __init__(self, nodes: int = 3, keep: bool = False) -> None:
        self.name = f"{PREFIX}{os.getpid()}"
        self.folder = Path(tempfile.gettempdir()) / self.name
        self.keep = keep
        self.lan = Namespace(f"{self.name}-lan")
        self.engines = [Engine(self, number + 1) for number in range(nodes)]

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.down()

    def up(self) -> None:
        """Start everything: namespaces, engines, the Swarm, the image on every node.

        :raises LabError: something does not start. What had been started is for :meth:`down` to end.
        """
        if os.geteuid():
            raise LabError("a Swarm can only be started by root")
        if missing := [name for name in ("docker", "dockerd", "ip", "iptables", "nsenter") if not shutil.which(name)]:
            raise LabError(f"not installed: {', '.join(missing)} (Debian: docker.io, iproute2, iptables, util-linux)")
        sweep()
        self.folder.mkdir()
        (self.folder / "owner").write_text("0" if self.keep else str(os.getpid()))
        self._connect()
        for engine in self.engines:
            engine.start()
        for engine in self.engines:
            engine.await_up()
        first, *others = self.engines
        first.docker("swarm", "init", "--advertise-addr", first.address, "--default-addr-pool", POOL)
        token = first.docker("swarm", "join-token", "--quiet", "manager")
        for engine in others:
            engine.docker("swarm", "join", "--token", token, f"{first.address}:2377")
        wait_until(lambda: len(self.ready_nodes()) == len(self.engines), "all nodes of the Swarm")
        image = image_of(app_folder())
        for engine in self.engines:
            engine.docker("import", "-", IMAGE, data=image)

    def _connect(self) -> None:
        """Make the namespaces, and the bridge that joins them."""
        lan = self.lan.name
        run("ip", "netns", "add", lan)
        run("ip", "-n", lan, "link", "set", "lo", "up")
        run("ip", "-n", lan, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", lan, "addr", "add", f"{ADDRESSES}.1/24", "dev", "br0")
        run("ip", "-n", lan, "link", "set", "br0", "up")
        for number, engine in enumerate(self.engines, 1):
            node = engine.name
            run("ip", "netns", "add", node)
            run("ip", "-n", node, "link", "set", "lo", "up")
            # Both ends get their namespace as they are made: the machine's own never sees them.
            peer = ("peer", "name", f"p{number}", "netns", lan)
            run("ip", "link", "add", "eth1", "netns", node, "type", "veth", *peer)
            run("ip", "-n", lan, "link", "set", f"p{number}", "master", "br0", "up")
            run("ip", "-n", node, "addr", "add", f"{engine.address}/24", "dev", "eth1")
            run("ip", "-n", node, "link", "set", "eth1", "up")
            engine.run("sysctl", "-qw", "net.ipv4.ip_forward=1")

    def down(self) -> None:
        """End everything and leave nothing behind; what is not there, or was never started, is passed over."""
        end(self.name, self.folder)
        for engine in self.engines:
            if engine.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    engine.process.wait(1)

    # What tests do with it. Every docker command goes to the first node unless another is named.

    def docker(self, *arguments: str, data: bytes | None = None, timeout: float = 60.0) -> str:
        """As :meth:`Engine.docker`, on the first node."""
        return self.engines[0].docker(*arguments, data=data, timeout=timeout)

    def ready_nodes(self) -> list[str]:
        """Return the host names of the nodes that are ready."""
        told = self.docker("node", "ls", "--format", "{{.Hostname}} {{.Status}}")
        return sorted(line.split()[0] for line in told.splitlines() if line.endswith("Ready"))

    def is_settled(self) -> bool:
        """Whether each manager sees all nodes ready and all managers, one of them the leader.

        A manager that was cut off calls for an election when it is back: for half a minute there may be no leader,
        after all nodes have seemed to be ready.
        """
        for engine in self.engines:
            try:
                told = engine.docker("node", "ls", "--format", "{{.Status}} {{.ManagerStatus}}").split("\n")
            except LabError:
                return False
            if sorted(told) != sorted(["Ready Leader", *["Ready Reachable"] * (len(self.engines) - 1)]):
                return False
        return True

    def load(self, name: str, folder: Path) -> None:
        """Import a folder as the image ``name`` on every node."""
        image = image_of(folder)
        for engine in self.engines:
            engine.docker("import", "-", name, data=image, timeout=300)

    def network(self, name: str) -> str:
        """Make an overlay network that single containers may join too, and return its id."""
        return self.docker("network", "create", "--driver", "overlay", "--attachable", name)

    def service(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        networks: Sequence[str] = (),
        replicas: int = 1,
        options: Sequence[str] = (),
        arguments: Sequence[str] = (),
    ) -> str:
        """Create a service of the test application and return its id, not waiting for its tasks.

        :param options: more options of ``docker service create``.
        :param arguments: options of ``app.py``.
        """
        command = ["service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", name]
        command += ["--replicas", str(replicas), "--stop-grace-period", "5s"]
        command += ["--env", "TASK={{.Task.Name}}", "--env", "NODE={{.Node.Hostname}}"]
        command += ["--mount", "type=bind,source=/usr,target=/usr,readonly"]
        for label, value in (labels or {}).items():
            command += ["--label", f"{label}={value}"]
        for network in networks:
            command += ["--network", network]
        return self.docker(*command, *options, IMAGE, "/usr/bin/python3", "-u", "/app/app.py", *arguments)

    def inspect(self, *names: str) -> list[Any]:
        """Return what ``docker inspect`` knows of services, tasks, networks or nodes."""
        told: list[Any] = json.loads(self.docker("inspect", *names))
        return told

    def running(self, service: str) -> list[Any]:
        """Return the inspected tasks of a service whose state and desired state are both running."""
        first = self.engines[0]
        # By its id: the filter takes names that only begin like this one, too.
        id_ = first.ask(f"/services/{service}")["ID"]
        tasks = first.ask("/tasks", **{"service": [id_], "desired-state": ["running"]})
        found = [task for task in tasks if task["Status"]["State"] == "running"]
        return sorted(found, key=lambda task: (task.get("Slot", 0), task["ID"]))

    def await_running(self, service: str, count: int = 1, seconds: float = 60.0) -> None:
        """Block until exactly ``count`` tasks of a service run."""
        wait_until(lambda: len(self.running(service)) == count, f"{count} running tasks of {service}", seconds)

    def clear(self) -> None:
        """Remove all services, and all networks that were made with :meth:`network`."""
        if services := self.docker("service", "ls", "--quiet").split():
            self.docker("service", "rm", *services)
        mine = ["network", "ls", "--filter", "driver=overlay", "--format", "{{.Name}}"]

        def gone() -> bool:
            names = [name for name in self.docker(*mine).split() if name != "ingress"]
            for name in names:
                with contextlib.suppress(LabError):  # its tasks are still leaving it
                    self.docker("network", "rm", name)
            return not names

        wait_until(gone, "the networks to be free", 60, 0.5)


def app_folder() -> Path:
    """Return a new folder to import as an image: nothing but mount points and the test application."""
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-image-"))
    for name in ("app", "etc", "proc", "sys", "dev", "tmp", "usr", "var", "run", "data"):
        (folder / name).mkdir()
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        (folder / name).symlink_to(f"usr/{name}")
    (folder / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    (folder / "etc" / "group").write_text("root:x:0:\nnogroup:x:65534:\n")
    shutil.copy(APP, folder / "app" / "app.py")
    return folder


def image_of(folder: Path) -> bytes:
    """Return a folder as a tar archive, for ``docker import``; temporary folders of ours are removed."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(folder, arcname=".")
    if folder.name.startswith(f"{PREFIX}-image-"):
        shutil.rmtree(folder)
    return archive.getvalue()


def end(name: str, folder: Path) -> None:
    """End the laboratory ``name``: its engines and whatever they started, its namespaces, mounts and folder."""
    pids = [int(file.read_text() or 0) for file in folder.glob("n*/pid")]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    # Whoever is still in one of its namespaces, or was started from its folder (an engine that was killed leaves
    # its containers' processes), ends now.
    for pid in leftovers(name, folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for file in sorted(Path("/run/netns").glob(f"{name}-*")):
        run("ip", "netns", "del", file.name, check=False)
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
        run("umount", "--lazy", mount, check=False)
    shutil.rmtree(folder, ignore_errors=True)


def alive(pid: int) -> bool:
    """Return whether there is such a process, a zombie not counted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def leftovers(name: str, folder: Path) -> Iterator[int]:
    """Yield the ids of the processes in a namespace of the laboratory, or with its folder in their command line."""
    spaces = {file.stat().st_ino for file in Path("/run/netns").glob(f"{name}-*")}
    mark = f"{folder}/".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            inside = (process / "ns" / "net").stat().st_ino in spaces
            if inside or mark in (process / "cmdline").read_bytes():
                yield int(process.name)
        except OSError:
            continue


def sweep(kept: bool = False) -> None:
    """End the laboratories whose owner has died; with ``kept`` those too that were started to stay."""
    for file in Path(tempfile.gettempdir()).glob(f"{PREFIX}[0-9]*/owner"):
        owner = int(file.read_text() or 0)
        if (kept and owner == 0) or (owner and not alive(owner)):
            end(file.parent.name, file.parent)


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; return the exit code."""
    match list(arguments):
        case ["up"] | ["up", _]:
            lab = Lab(int(arguments[1]) if len(arguments) > 1 else 3, keep=True)
            try:
                lab.up()
            except BaseException:
                lab.down()
                raise
            print(lab.folder)
            for engine in lab.engines:
                print(f"{engine.host} {engine.address} DOCKER_HOST={engine.endpoint}")
        case ["shell", node]:
            names = [file.parent.name for file in Path(tempfile.gettempdir()).glob(f"{PREFIX}[0-9]*/owner")]
            if not names:
                print("no laboratory is up", file=sys.stderr)
                return 1
            space = Namespace(f"{names[-1]}-{node}")
            shell = space.wrap(os.environ.get("SHELL", "/bin/sh"))
            socket = f"unix://{tempfile.gettempdir()}/{names[-1]}/{node}/docker.sock"
            return subprocess.call(shell, env={**os.environ, "DOCKER_HOST": socket})
        case ["down"]:
            sweep(kept=True)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
