"""What a decision of each limit costs: ``python -m bench.limits``, with redis-server installed for the last rows."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import DeferredList, inlineCallbacks
from twisted.internet.task import deferLater

from swarmgate.limits.interface import Limits, Rate
from swarmgate.limits.local import LocalLimits
from swarmgate.limits.redis import Redis, RedisBuckets, RedisSettings
from swarmgate.limits.shared import SharedLimits
from swarmgate.transport.reactor import install_reactor
from tests.e2e.redis_server import PASSWORD, RedisServer

TIMES = 100_000
ROUNDS = 5


def per_call(call: Callable[[int], object]) -> float:
    """Processor seconds of *call*, the best of some rounds."""
    rounds = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        for number in range(TIMES):
            call(number)
        rounds.append((time.process_time() - begin) / TIMES)
    return min(rounds)


def tell(what: str, seconds: float) -> None:
    print(f"{what:48}{seconds * 1e6:8.2f} µs")


def in_memory(name: str, limits: Limits, clock: Any) -> None:
    one, refusing, many = (
        limits.buckets(str(rate), rate, clock) for rate in (Rate(1e9, 5), Rate(0.001, 1), Rate(1.0, 5))
    )
    sources = [f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}" for number in range(TIMES)]
    counts = limits.counts("c")
    tell(f"{name}: one source", per_call(lambda number: one.take("192.0.2.1")))
    tell(f"{name}: one source, refused", per_call(lambda number: refusing.take("192.0.2.1")))
    tell(f"{name}: {TIMES:,} sources", per_call(lambda number: many.take(sources[number])))
    tell(f"{name}: under way, begin and end", per_call(lambda number: counts.leave(counts.enter("a.example", 10))))


@inlineCallbacks
def in_redis(running: Any) -> Any:
    from swarmgate.serving import network_of  # It may import the reactor.

    server = RedisServer()
    try:
        settings = RedisSettings("127.0.0.1", server.port, password=PASSWORD, decision_timeout=1.0)
        redis = Redis(settings, network_of(running), running, "the benchmark")
        yield deferLater(running, 0.5)
        buckets = RedisBuckets(redis, "b", Rate(1e6, 5, 0.01), None)
        for at_once in (1, 50):
            begin, began = time.process_time(), time.perf_counter()
            for _ in range(5000 // at_once):
                yield DeferredList([buckets.take("192.0.2.1") for _ in range(at_once)])  # type: ignore[list-item]
            tell(f"Redis: {at_once} at a time, processor time", (time.process_time() - begin) / 5000)
            tell(f"Redis: {at_once} at a time, by the clock", (time.perf_counter() - began) / 5000)
        redis.close()
    finally:
        server.stop()


@inlineCallbacks
def measure(running: Any) -> Any:
    in_memory("one process", LocalLimits(), running)
    descriptor = SharedLimits.create(2)
    in_memory("workers", SharedLimits.open(descriptor, 0), running)
    os.close(descriptor)
    if shutil.which("redis-server"):
        yield in_redis(running)


def main() -> None:
    install_reactor()
    from twisted.internet import reactor

    running: Any = reactor

    def run() -> None:
        measured = measure(running)
        measured.addErrback(lambda failure: failure.printTraceback())
        measured.addBoth(lambda _: running.stop())

    running.callWhenRunning(run)
    running.run()


if __name__ == "__main__":
    main()
