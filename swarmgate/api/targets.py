"""Tasks as targets for Prometheus (HTTP service discovery): those of services with the label ``prometheus.port``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from swarmgate.api.views import Known
from swarmgate.providers.swarm.snapshot import SwarmService, Task

_STACK = "com.docker.stack.namespace"


def targets(known: Known) -> list[dict[str, Any]]:
    """Every running task of the services that have the label, each a group of its own; none without a Swarm.

    The labels are ``service``, ``task``, ``node``, ``stack`` and ``slot``, these two where there are any;
    ``prometheus.path`` and ``prometheus.scheme`` become ``__metrics_path__`` and ``__scheme__``. Services whose port is
    none, or which are not on the network of ``prometheus.network``, have no targets.
    """
    if known.world is None:
        return []
    snapshot = known.world.snapshot
    names = {network.id: network.name for network in snapshot.networks}
    hosts = {node.id: node.hostname for node in snapshot.nodes}
    services = {service.id: service for service in snapshot.services}
    found = []
    for task in snapshot.tasks:
        service = services.get(task.service_id)
        if service is None or not task.is_running:
            continue
        labels = dict(service.labels)
        port = labels.get("prometheus.port", "")
        if not (port.isascii() and port.isdecimal() and len(port) < 6 and 0 < int(port) < 65536):
            continue
        address = _address(task, labels, names, known.world.decision.surroundings.own or ())
        if address:
            host = f"[{address}]" if ":" in address else address
            found.append(
                {"targets": [f"{host}:{int(port)}"], "labels": _labels(service, task, hosts.get(task.node_id, ""))}
            )
    return sorted(found, key=lambda one: (one["labels"]["service"], one["targets"]))


def _address(task: Task, labels: Mapping[str, str], names: Mapping[str, str], own: Collection[str]) -> str:
    """Where a task is reached: in the network that is asked for, else in one of the gate's, else in any."""
    wanted = labels.get("prometheus.network", "")
    if wanted:
        fitting = {wanted, f"{labels.get(_STACK, '')}_{wanted}"}
        return next((one.ip for one in task.addresses if names.get(one.network) in fitting), "")
    addresses = sorted(task.addresses, key=lambda one: one.network not in own)
    return addresses[0].ip if addresses else ""


def _labels(service: SwarmService, task: Task, node: str) -> dict[str, str]:
    labels = dict(service.labels)
    told = {
        "service": service.name,
        "task": f"{service.name}.{task.slot or task.id}",
        "node": node,
        "stack": labels.get(_STACK, ""),
        "slot": str(task.slot or ""),
        "__metrics_path__": labels.get("prometheus.path", ""),
        "__scheme__": labels.get("prometheus.scheme", ""),
    }
    # To Prometheus a label without a value is none.
    return {name: value for name, value in told.items() if value}
