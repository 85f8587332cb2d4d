"""Which agents a Swarm has: the tasks of the services that have the label ``swarmgate.agent``."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import attrs

from swarmgate.providers.swarm.snapshot import Snapshot, Task

LABEL = "swarmgate.agent"
PORT_LABEL = "swarmgate.agent.port"


@attrs.frozen
class Agent:
    """A task that tells how much of its node is in use.

    :ivar url: where, ``""`` if it can't be asked; ``fault`` then says why.
    """

    task: str
    node: str
    url: str = ""
    fault: str = ""


def is_agent(labels: Mapping[str, str]) -> bool:
    """Is a service with these labels one of agents?"""
    return labels.get(LABEL, "").strip().lower() in ("true", "t", "1")


def agents_of(snapshot: Snapshot, own: Collection[str] | None, port: int) -> dict[str, Agent]:
    """The agent of each node that has one, by the node's id; of several the one that can be asked.

    :param own: ids of the networks that the gate is attached to, None if that isn't known.
    :param port: that agents listen on where the label doesn't say it.
    """
    services = _services(snapshot)
    found: dict[str, Agent] = {}
    for task in snapshot.tasks:
        labels = services.get(task.service_id)
        if labels is not None and task.node_id:
            one = _agent(task, labels, own, port)
            if one.url or task.node_id not in found:
                found[task.node_id] = one
    return found


def has_agents(snapshot: Snapshot) -> bool:
    """Whether there is a service of agents."""
    return bool(_services(snapshot))


def _services(snapshot: Snapshot) -> dict[str, dict[str, str]]:
    """The labels of services of agents, by the service's id."""
    labelled = (one for one in snapshot.services if any(name == LABEL for name, _ in one.labels))
    return {one.id: labels for one in labelled if is_agent(labels := dict(one.labels))}


def _agent(task: Task, labels: Mapping[str, str], own: Collection[str] | None, port: int) -> Agent:
    text = labels.get(PORT_LABEL, "").strip() or str(port)
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 0 < int(text) < 65536):
        return Agent(task.id, task.node_id, fault=f"{PORT_LABEL}={text:.40}: expected a port")
    if not task.is_running:
        return Agent(task.id, task.node_id, fault=f"its agent is not running, but {task.state}")
    address = next((one.ip for one in task.addresses if own is None or one.network in own), "")
    if not address:
        return Agent(task.id, task.node_id, fault="its agent shares no network with the gate")
    host = f"[{address}]" if ":" in address else address
    return Agent(task.id, task.node_id, f"http://{host}:{int(text)}/usage")
