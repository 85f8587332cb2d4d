"""What the gate's own metrics tell of usage: by node, and by the services that take the most."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from swarmgate.usage.watch import Measured

#: Services that are told of at most: those with the most memory.
MOST_SERVICES = 500


def families(prefix: str, measured: Measured) -> Iterator[Metric]:
    """Everything, by metric; nothing where nobody has ever been asked.

    :param prefix: what the names begin with.
    """
    if not measured.nodes and not measured.answers and not measured.silences:
        return
    asked = CounterMetricFamily(f"{prefix}_agent_questions", "What agents were asked.", labels=("outcome",))
    asked.add_metric(("answered",), measured.answers)
    asked.add_metric(("failed",), measured.silences)
    yield asked
    up = GaugeMetricFamily(f"{prefix}_node_agent_up", "Whether a node's agent answers.", labels=("node",))
    for name, (_, answers) in measured.nodes.items():
        up.add_metric((name,), float(answers))
    yield up
    # What an agent that is silent has told last would look like now.
    nodes = {name: usage for name, (usage, answers) in measured.nodes.items() if usage is not None and answers}
    of_nodes: tuple[tuple[str, str, Callable[[Any], float | None]], ...] = (
        ("cpus", "Processors.", lambda one: one.cpus),
        ("cpu_used", "Processors that are busy.", lambda one: one.cpu * one.cpus),
        ("load1", "Processes that want a processor, on average of a minute.", lambda one: one.load[0]),
        ("memory_bytes", "Memory.", lambda one: one.memory_total),
        ("memory_used_bytes", "Memory that is not available.", lambda one: one.memory_used),
        ("network_received_bytes_per_second", "By network cards.", lambda one: one.network and one.network.here),
        ("network_sent_bytes_per_second", "By network cards.", lambda one: one.network and one.network.there),
        ("disk_bytes", "Size of the file system that containers are on.", lambda one: one.disk_total),
        ("disk_used_bytes", "What of it is in use.", lambda one: one.disk_used),
        ("disk_read_bytes_per_second", "From disks.", lambda one: one.disk.here),
        ("disk_written_bytes_per_second", "To disks.", lambda one: one.disk.there),
    )
    for key, help_, of in of_nodes:
        family = GaugeMetricFamily(f"{prefix}_node_{key}", help_, labels=("node",))
        for name, usage in nodes.items():
            value = of(usage)
            if value is not None:
                family.add_metric((name,), value)
        yield family
    services = heapq.nlargest(MOST_SERVICES, measured.services.items(), lambda pair: (pair[1].memory, pair[0]))
    of_services: tuple[tuple[str, str, Callable[[Any], float]], ...] = (
        ("cpu_used", "Processors that its tasks keep busy.", lambda one: one.cpu),
        ("memory_used_bytes", "Memory of its tasks.", lambda one: one.memory),
        ("network_received_bytes_per_second", "By its tasks.", lambda one: one.network.here),
        ("network_sent_bytes_per_second", "By its tasks.", lambda one: one.network.there),
        ("disk_read_bytes_per_second", "By its tasks.", lambda one: one.disk.here),
        ("disk_written_bytes_per_second", "By its tasks.", lambda one: one.disk.there),
    )
    for key, help_, take in of_services:
        family = GaugeMetricFamily(f"{prefix}_swarm_service_{key}", help_, labels=("service",))
        for name, one in services:
            family.add_metric((name,), take(one))
        yield family
