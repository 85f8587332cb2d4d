"""What a Swarm looks like at one moment, as frozen values.

Only what routing needs is in it, sorted: two looks at the same world give equal snapshots, so that ``==`` tells
whether anything has changed. How the values are read from what the Docker API answers is in :mod:`.decode`.
"""

from __future__ import annotations

import attrs


@attrs.frozen(order=False)
class Port:
    """A port that a service publishes (Docker API ``Endpoint.Ports``).

    :ivar target: where the container listens.
    :ivar published: where the nodes listen, 0 when Docker has not chosen one yet.
    :ivar mode: ``ingress`` or ``host``.
    :ivar protocol: ``tcp``, ``udp`` or ``sctp``.
    """

    target: int
    published: int = 0
    mode: str = "ingress"
    protocol: str = "tcp"


@attrs.frozen(order=False)
class Address:
    """An address in a network.

    :ivar network: the network's id.
    :ivar ip: without the length of a prefix.
    """

    network: str
    ip: str


@attrs.frozen(order=False)
class UpdateStatus:
    """How far the last update of a service is (Docker API ``Service.UpdateStatus``).

    :ivar state: ``updating``, ``paused``, ``completed``, ``rollback_started``, ``rollback_paused`` or
        ``rollback_completed``.
    :ivar message: the engine's words.
    :ivar started: nanoseconds since 1970, 0 where it is not told; ``completed`` likewise.
    """

    state: str
    message: str = ""
    started: int = 0
    completed: int = 0


@attrs.frozen(order=False)
class SwarmService:
    """A Swarm service (``GET /services``).

    :ivar name: with the stack's prefix, as ``shop_web``.
    :ivar labels: the service's own (``deploy.labels`` in a stack file), sorted by name.
    :ivar created: nanoseconds since 1970.
    :ivar networks: ids of the networks that its tasks are attached to, ``ingress`` not among them.
    :ivar endpoint_mode: ``vip`` or ``dnsrr``.
    :ivar vips: its virtual addresses.
    :ivar replicas: how many tasks are wanted, None where each node has one.
    :ivar container_labels: those of its containers (``labels`` in a stack file), which route nothing, sorted by name.
    :ivar has_health_check: whether it sets one itself; its image may have another, which the API does not tell.
    :ivar spec: a digest of what its tasks are made by; tasks with another are older than its last update.
    :ivar fault: why what the API told of it can't be read, ``""`` when it can; the other fields but ``id`` and
        ``name`` then say nothing.
    :ivar update: how far its last update is, None if there was none.
    """

    id: str
    name: str
    version: int = 0
    created: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    image: str = ""
    networks: tuple[str, ...] = ()
    endpoint_mode: str = "vip"
    vips: tuple[Address, ...] = ()
    ports: tuple[Port, ...] = ()
    replicas: int | None = 1
    container_labels: tuple[tuple[str, str], ...] = ()
    has_health_check: bool = False
    spec: str = ""
    fault: str = ""
    update: UpdateStatus | None = None


#: The states on a task's way to ``running`` that show a node to have it (Docker API, TaskState).
_COMING = frozenset(("assigned", "accepted", "preparing", "ready", "starting"))


@attrs.frozen(order=False)
class Task:
    """A task that its service still wants to run (``GET /tasks``, desired state ``running``).

    :ivar slot: its number among the service's replicas, 0 for a global service's.
    :ivar state: as Docker spells it: ``running``, ``starting``, ``preparing`` and so on.
    :ivar container: its container's id, ``""`` before there is one.
    :ivar addresses: where it is reached, one for each network, sorted.
    :ivar fault: why what the API told of it can't be read, ``""`` when it can; the other fields but ``id`` and
        ``service_id`` then say nothing.
    :ivar error: why it does not run, in the engine's words.
    :ivar exit_code: of its container, None unless that has ended.
    :ivar ended: when it failed or was rejected, in nanoseconds since 1970; 0: it was not.
    :ivar spec: a digest of what it was made by, its service's unless an update is still to replace it.
    """

    id: str
    service_id: str
    slot: int = 0
    node_id: str = ""
    state: str = "running"
    container: str = ""
    addresses: tuple[Address, ...] = ()
    fault: str = ""
    error: str = ""
    exit_code: int | None = None
    ended: int = 0
    spec: str = ""

    @property
    def is_running(self) -> bool:
        """Whether it takes requests: it runs (its health check, if it has one, has passed), and is wanted to."""
        return self.state == "running" and not self.fault

    @property
    def has_failed(self) -> bool:
        """Whether its container ended with an error, or could not be started."""
        return self.state in ("failed", "rejected")

    @property
    def is_coming(self) -> bool:
        """Whether it is being started, so that it may soon take requests."""
        return self.state in _COMING and not self.fault


@attrs.frozen(order=False)
class Network:
    """A network that reaches across nodes (``GET /networks``).

    :ivar name: as ``docker network ls`` shows it, with the stack's prefix.
    :ivar ingress: whether it is the routing mesh's own.
    """

    id: str
    name: str
    driver: str = "overlay"
    ingress: bool = False


@attrs.frozen(order=False)
class Node:
    """A machine of the Swarm (``GET /nodes``).

    :ivar availability: ``active``, ``pause`` or ``drain``.
    :ivar state: ``ready``, ``down``, ``disconnected`` or ``unknown``.
    :ivar role: ``manager`` or ``worker``; ``leader`` is the manager that the others have elected.
    """

    id: str
    hostname: str
    availability: str = "active"
    state: str = "ready"
    role: str = "worker"
    leader: bool = False


@attrs.frozen(order=False)
class Snapshot:
    """Everything that is known of a Swarm at one moment, each part sorted by id."""

    services: tuple[SwarmService, ...] = ()
    tasks: tuple[Task, ...] = ()
    networks: tuple[Network, ...] = ()
    nodes: tuple[Node, ...] = ()


def own_task(snapshot: Snapshot, container: str) -> Task | None:
    """Return the task that runs in this container, None if none does.

    :param container: a container's id or the beginning of it, ``""`` for none.
    """
    if not container:
        return None
    return next((task for task in snapshot.tasks if task.container.startswith(container)), None)
