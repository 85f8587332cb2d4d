"""What an agent tells Prometheus. A task's label is its slot, which its successors share: series stay few."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from swarmgate.agent.containers import Containers, Running
from swarmgate.agent.document import Document, TaskCounters

PREFIX = "swarmgate"


def families(name: str, document: Document, containers: Containers) -> Iterator[Metric]:
    """Everything, by metric.

    :param name: of the node.
    """
    node = document.node

    def gauge(of: str, help_: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"{PREFIX}_node_{of}", help_, labels=("node",))
        family.add_metric((name,), value)
        return family

    def counter(of: str, help_: str, value: float) -> Metric:
        family = CounterMetricFamily(f"{PREFIX}_node_{of}", help_, labels=("node",))
        family.add_metric((name,), value)
        return family

    yield gauge("cpus", "Processors.", node.cpus)
    yield counter("cpu_seconds", "Seconds that processors were not idle for.", node.busy)
    for minutes, load in zip((1, 5, 15), node.load, strict=True):
        yield gauge(f"load{minutes}", f"Processes that wanted a processor, on average of {minutes} min.", load)
    yield gauge("memory_bytes", "Memory.", node.memory_total)
    yield gauge("memory_used_bytes", "Memory that is not available.", node.memory_used)
    if node.received is not None and node.sent is not None:
        yield counter("network_received_bytes", "Octets received by network cards.", node.received)
        yield counter("network_sent_bytes", "Octets sent by network cards.", node.sent)
    yield gauge("disk_bytes", "Size of the file system that containers are on.", node.disk_total)
    yield gauge("disk_used_bytes", "What of it is in use.", node.disk_used)
    yield counter("disk_read_bytes", "Octets read from disks.", node.read)
    yield counter("disk_written_bytes", "Octets written to disks.", node.written)
    yield gauge("engine_up", "Whether the engine tells of containers.", float(not document.fault))
    yield from _tasks(name, containers)


def _tasks(name: str, containers: Containers) -> Iterator[Metric]:
    labels = ("node", "service", "task")
    # While a task is replaced there may be two: of counters the newer one's begin anew, as they should.
    newest: dict[tuple[str, str, str], tuple[Running, TaskCounters]] = {}
    for task, counters in containers.counters.items():
        one = containers.running[task]
        key = (name, one.service, task_label(one, name))
        if key not in newest or newest[key][0].created < one.created:
            newest[key] = one, counters
    for of, kind, help_, field in (
        ("cpu_seconds", CounterMetricFamily, "Seconds of processors' time.", "cpu"),
        ("memory_bytes", GaugeMetricFamily, "Memory in use, without files that were not used lately.", "memory"),
        ("memory_limit_bytes", GaugeMetricFamily, "Memory that it may take.", "memory_limit"),
        ("network_received_bytes", CounterMetricFamily, "Octets received.", "received"),
        ("network_sent_bytes", CounterMetricFamily, "Octets sent.", "sent"),
        ("disk_read_bytes", CounterMetricFamily, "Octets read from disks.", "read"),
        ("disk_written_bytes", CounterMetricFamily, "Octets written to disks.", "written"),
    ):
        family = kind(f"{PREFIX}_task_{of}", help_, labels=labels)
        for key, (_, counters) in newest.items():
            value = getattr(counters, field)
            if value is not None:
                family.add_metric(key, value)
        yield family


def task_label(task: Running, node: str) -> str:
    """``SERVICE.SLOT``; a global service's task has its node's name in place of the number."""
    return f"{task.service}.{task.slot if task.slot.isdecimal() else node}"
