"""What ``swarmgate agent`` is started with, as frozen values; ``--help`` and the reference page are made of it."""

from __future__ import annotations

import attrs

from swarmgate.config.model import Log
from swarmgate.structure import Address, option

#: Where agents listen, unless they are told otherwise.
PORT = 9181


def _endpoint(instance: object, attribute: object, value: str) -> None:
    scheme, _, rest = value.partition("://")
    if scheme not in ("unix", "tcp", "http") or not rest:
        raise ValueError("unix:///PATH, tcp://HOST:PORT or http://HOST:PORT: the engine of the agent's own node")


@attrs.frozen
class Agent:
    """An agent, which tells how much of its node is in use."""

    address: Address = option(default=Address("", PORT), doc="Where it listens.")
    endpoint: str = option(
        default="unix:///var/run/docker.sock",
        doc="The Docker engine of its own node, or a proxy before that; DOCKER_HOST counts where it isn't given.",
        validator=_endpoint,
    )
    token_file: str = option(
        default="",
        doc="A file with a text that whoever asks has to know, best a Docker secret: Authorization: Bearer TEXT; "
        "gates show that they do.",
    )
    node: str = option(default="", doc="What metrics call the node; empty: its host name.")
    sys: str = option(
        default="/host/sys",
        doc="Where the node's /sys is mounted, for network cards; /sys itself is taken where there is no such folder.",
    )
    disk: str = option(default="/", doc="A path of the file system that is told of.")


@attrs.frozen
class AgentConfiguration:
    """All that an agent is started with."""

    agent: Agent = option(factory=Agent, doc="The agent.")
    log: Log = option(factory=Log, doc="The process's own log.")
