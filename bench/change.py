"""``python -m bench.change``: what one change of one service costs the reactor, of 10,000 routers and 5,000 services."""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import attrs
from twisted.internet.task import Clock

from swarmgate.dynamic.difference import applied, difference
from swarmgate.dynamic.model import Configuration, Router, Server, Service
from swarmgate.dynamic.table import EntryPointFacts, RoutingTable
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.upstream import UpstreamSettings
from swarmgate.providers.aggregator import Aggregator
from swarmgate.resources.gate import Gate
from tests.memory_network import MemoryNetwork


def world(routers: int, services: int) -> Configuration:
    """So many routers, shared out among so many services with a server each."""
    return Configuration(
        {
            f"r{number}": Router(f"r{number}", f"Host(`h{number}.example`)", f"s{number % services}")
            for number in range(routers)
        },
        {
            f"s{number}": Service(f"s{number}", (Server(f"http://10.{number >> 8}.{number & 255}.2:80"),))
            for number in range(services)
        },
    )


def changed(before: Configuration, number: int) -> Configuration:
    """*before*, but that one service has another server."""
    name = f"s{number % len(before.services)}"
    service = attrs.evolve(before.services[name], servers=(Server(f"http://10.200.{number >> 8}.{number & 255}:80"),))
    return attrs.evolve(before, services={**before.services, name: service})


class Laps:
    """How long each of several parts took, over all rounds."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = {}

    def measure(self, name: str, call: Callable[..., Any], *given: Any) -> Any:
        """Call, and note the milliseconds of the thread's CPU: the clock also tells of what else the machine does."""
        began = time.thread_time()
        result = call(*given)
        self.taken.setdefault(name, []).append((time.thread_time() - began) * 1000)
        return result

    def tell(self) -> None:
        for name, taken in self.taken.items():
            print(f"{name:48} {median(taken):7.1f} ms (to {max(taken):.1f})")


def main() -> None:
    """Measure, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.change", description=__doc__)
    parser.add_argument("--routers", type=int, default=10_000)
    parser.add_argument("--services", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=20)
    chosen = parser.parse_args()
    clock = Clock()
    network: Any = MemoryNetwork()
    laps = Laps()
    told: list[RoutingTable] = [RoutingTable()]
    worker_table = RoutingTable()
    gate = Gate(["web"], network, clock, Deadlines(clock), UpstreamSettings(), {})
    is_one_process = True

    def apply(table: RoutingTable) -> None:
        if is_one_process:
            gate.apply(table)
        else:
            changes.append(difference(told[-1], table))
            told[:] = [table]

    changes: list[Any] = []
    configuration = world(chosen.routers, chosen.services)
    for is_one_process, name in ((False, "the parent of workers"), (True, "workers: 1, all of it")):  # noqa: B020
        aggregator = Aggregator({"web": EntryPointFacts()}, (), apply)
        aggregator.publish("swarm", configuration)
        # As a process that has run for a while: what is there for long is looked at seldom.
        gc.collect()
        gc.freeze()
        for number in range(chosen.rounds):
            configuration = changed(configuration, number)
            laps.measure(name, aggregator.publish, "swarm", configuration)
        if not is_one_process:
            worker = Gate(["web"], network, clock, Deadlines(clock), UpstreamSettings(), {})
            for number, change in enumerate(changes):
                def take(change: Any = change) -> None:
                    nonlocal worker_table
                    worker_table = applied(worker_table, change)
                    worker.apply(worker_table)

                if number:
                    laps.measure("a worker", take)
                else:
                    take()
    laps.tell()


if __name__ == "__main__":
    main()
