"""How much of this machine is in use: what the kernel tells every container of the whole machine.

``/proc/stat``, ``meminfo``, ``loadavg`` and ``diskstats`` are the machine's in every container, and the file system
that a container is on is the one that Docker keeps all of them on. Only network cards are hidden: they are counted
where the machine's own ``/sys`` is mounted, which shows neither processes nor secrets, as its ``/proc`` would.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from swarmgate.agent.document import NodeCounters


def sample(sys: Path, disk: str) -> NodeCounters:
    """How much there is at this moment. It reads files of the kernel, for about a millisecond.

    :param sys: where the machine's ``/sys`` is.
    :param disk: a path of the file system that is told of.
    """
    times = psutil.cpu_times()
    memory = psutil.virtual_memory()
    space = psutil.disk_usage(disk)
    disks = psutil.disk_io_counters()
    cards = octets_of_cards(sys)
    # What guests take is part of user and nice already.
    busy = times.user + times.nice + times.system + times.irq + times.softirq + times.steal
    return NodeCounters(
        cpus=psutil.cpu_count() or 1,
        busy=busy,
        load=os.getloadavg(),
        memory_total=memory.total,
        memory_used=memory.total - memory.available,
        disk_total=space.total,
        disk_used=space.used,
        received=None if cards is None else cards[0],
        sent=None if cards is None else cards[1],
        read=0 if disks is None else disks.read_bytes,
        written=0 if disks is None else disks.write_bytes,
    )


def octets_of_cards(sys: Path) -> tuple[int, int] | None:
    """Octets received and sent by the machine's network cards; None if none is seen.

    What has no device behind it (bridges, tunnels, containers' ends of wires) would count the same octets again.
    """
    received = sent = 0
    found = False
    try:
        for card in (sys / "class" / "net").iterdir():
            if (card / "device").exists():
                received += int((card / "statistics" / "rx_bytes").read_text())
                sent += int((card / "statistics" / "tx_bytes").read_text())
                found = True
    except (OSError, ValueError):
        return None
    return (received, sent) if found else None
