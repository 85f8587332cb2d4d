"""``python -m bench.change``: the reactor's time that a change of one service takes among thousands."""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import attrs
from twisted.internet.task import Clock

from swarmgate.dynamic.difference import TableDifference, applied, difference
from swarmgate.dynamic.model import Configuration, Middleware, Router, Server, Service
from swarmgate.dynamic.table import EntryPointFacts, RoutingTable
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.upstream import UpstreamSettings
from swarmgate.middlewares import strip_prefix
from swarmgate.providers.aggregator import Aggregator
from swarmgate.resources.gate import Gate
from tests.memory_network import MemoryNetwork


def world(routers: int, services: int) -> Configuration:
    """So many routers, each with a middleware of its own, shared out among so many services with a server each."""
    settings = strip_prefix.Settings(prefixes=("/x",))
    return Configuration(
        {
            f"r{number}": Router(
                f"r{number}", f"Host(`h{number}.example`)", f"s{number % services}", middlewares=(f"m{number}",)
            )
            for number in range(routers)
        },
        {
            f"s{number}": Service(f"s{number}", (Server(f"http://10.{number >> 8}.{number & 255}.2:80"),))
            for number in range(services)
        },
        middlewares={
            f"m{number}": Middleware(f"m{number}", strip_prefix.KIND.lower(), settings) for number in range(routers)
        },
    )


def changed(before: Configuration, number: int) -> Configuration:
    """*before*, but that one service has another server."""
    name = f"s{number % len(before.services)}"
    service = attrs.evolve(before.services[name], servers=(Server(f"http://10.200.{number >> 8}.{number & 255}:80"),))
    return attrs.evolve(before, services={**before.services, name: service})


def laps(call: Callable[[Any], object], given: list[Any]) -> list[float]:
    """Milliseconds of the thread's CPU that *call* takes with each of *given* but the first, which it begins with.

    CPU, since the clock also tells of what else the machine does.
    """
    call(given[0])
    # As in a process that has run for a while: what is there for long is looked at seldom.
    gc.collect()
    gc.freeze()
    taken = []
    for one in given[1:]:
        began = time.thread_time()
        call(one)
        taken.append((time.thread_time() - began) * 1000)
    return taken


def gate() -> Gate:
    """What serves, with a network that nobody is reached on."""
    clock = Clock()
    network: Any = MemoryNetwork()
    return Gate(["web"], network, clock, Deadlines(clock), UpstreamSettings(), {})


def main() -> None:
    """Measure, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.change", description=__doc__)
    parser.add_argument("--routers", type=int, default=10_000)
    parser.add_argument("--services", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=20)
    chosen = parser.parse_args()
    gc.set_threshold(10_000, 20, 20)
    configurations = [world(chosen.routers, chosen.services)]
    for number in range(chosen.rounds):
        configurations.append(changed(configurations[-1], number))

    differences: list[TableDifference] = []
    told = RoutingTable()

    def tell(table: RoutingTable) -> None:
        nonlocal told
        differences.append(difference(told, table))
        told = table

    served, worker = RoutingTable(), gate()

    def take(one: TableDifference) -> None:
        nonlocal served
        served = applied(served, one)
        worker.apply(served)

    def publishing(apply: Callable[[RoutingTable], None]) -> Callable[[Configuration], None]:
        aggregator = Aggregator({"web": EntryPointFacts()}, (), apply)
        return lambda configuration: aggregator.publish("swarm", configuration)

    for name, taken in (
        ("workers: 1, all of it", laps(publishing(gate().apply), configurations)),
        ("the parent of workers", laps(publishing(tell), configurations)),
        ("a worker", laps(take, differences)),
    ):
        print(f"{name:24} {median(taken):6.1f} ms of the reactor's time, {min(taken):.1f} to {max(taken):.1f}")


if __name__ == "__main__":
    main()
