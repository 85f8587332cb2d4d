"""Which replicas the gate has: the running tasks of the service that it is a task of itself."""

from __future__ import annotations

import attrs

from swarmgate.providers.swarm.snapshot import Snapshot, own_task


@attrs.frozen
class Replica:
    """A task of the gate's own service.

    :ivar name: as ``gate_swarmgate.2``; the task of a global service has its node's name in place of the number.
    :ivar node: the node's host name.
    :ivar address: in a network that this replica is on too, ``""`` if they share none.
    """

    task: str
    name: str
    node: str
    address: str
    is_self: bool = False


def replicas_of(snapshot: Snapshot, own_container: str) -> tuple[Replica, ...]:
    """All replicas that run, this one first and the others by name; none if the gate is in no task of the Swarm.

    :param own_container: id of the container that the gate runs in, ``""`` for none.
    """
    own = own_task(snapshot, own_container)
    if own is None:
        return ()
    service = next((one for one in snapshot.services if one.id == own.service_id), None)
    hosts = {node.id: node.hostname for node in snapshot.nodes}
    # The mesh's own network is on all nodes, and no way from task to task.
    meshes = {network.id for network in snapshot.networks if network.ingress}
    networks = sorted({one.network for one in own.addresses} - meshes)
    found = []
    for task in snapshot.tasks:
        if task.service_id != own.service_id or not (task.is_running or task is own):
            continue
        addresses = {one.network: one.ip for one in task.addresses}
        address = next((addresses[network] for network in networks if network in addresses), "")
        host = hosts.get(task.node_id, "")
        name = f"{service.name if service is not None else own.service_id}.{task.slot or host or task.id}"
        found.append(Replica(task.id, name, host, address, task is own))
    return tuple(sorted(found, key=lambda one: (not one.is_self, one.name, one.task)))
