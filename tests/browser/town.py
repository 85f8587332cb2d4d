"""A gate, as a process, on a Swarm in memory that can be operated and has something to tell."""

from __future__ import annotations

import sys
from collections.abc import Callable

from twisted.internet import reactor

from swarmgate import service
from swarmgate.config.load import load
from swarmgate.testing import MemorySwarm


def swarm() -> MemorySwarm:
    """Two nodes, a service that logs and one whose task has failed."""
    made = MemorySwarm()
    made.add_node("n2")
    for name in ("shop", "golf"):
        labels = {
            "traefik.enable": "true",
            f"traefik.http.routers.{name}.rule": f"Host(`{name}.example`)",
            f"traefik.http.services.{name}.loadbalancer.server.port": "80",
        }
        made.add_service(name, labels, replicas=2)
    for number in range(30):
        made.say("shop", f"order {number} is paid")
    made.say("shop", "timeout while asking the database", "stderr")
    made.fail_task("golf", "task: non-zero exit (3)", 3)
    return made


def metropolis() -> MemorySwarm:
    """Five nodes and 2,000 services of three tasks each."""
    made = MemorySwarm()
    for number in range(2, 6):
        made.add_node(f"n{number}")
    for number in range(2000):
        labels = {
            "traefik.enable": "true",
            f"traefik.http.routers.s{number}.rule": f"Host(`s{number}.example`)",
            f"traefik.http.services.s{number}.loadbalancer.server.port": "80",
        }
        made.add_service(f"s{number}", labels, replicas=3, image=f"example/s{number}:1")
    return made


def main(made: Callable[[], MemorySwarm] = swarm) -> None:
    """Run a gate on it with the options of the command line, until SIGTERM."""
    sys.exit(service.run(load(sys.argv[2:], {}), reactor, made()))
