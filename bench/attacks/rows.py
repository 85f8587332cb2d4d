"""The rows: what is done to the gate, and the figures that must hold.

Each row's function gets the folder that it may use and its numbers, and ends by itself.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from bench.attacks.wire import Wire
from bench.attacks.world import Figure, World
from bench.processes import Failed

Numbers = Mapping[str, float]
MIB = 2**20


@attrs.frozen
class Row:
    """A row of the table.

    :ivar number: it is known by.
    :ivar full: its numbers, and :ivar quick: those for a few seconds' run.
    """

    number: int
    name: str
    run: Callable[[Path, Numbers], list[Figure]]
    full: Numbers
    quick: Numbers


def beside(world: World, numbers: Numbers, begin: Callable[[], Any]) -> tuple[Any, list[Figure]]:
    """The honest before, and beside what *begin* starts; returns that, and the honest's figures."""
    seconds = numbers["seconds"]
    world.honest(0.3)
    before = world.honest(seconds)["p99"]
    begun = begin()
    during = world.honest(seconds)["p99"]
    return begun, honest_figures(before, during, numbers)


def honest_figures(before: float, during: float, numbers: Numbers) -> list[Figure]:
    """What has become of the honest's p99."""
    # A run of a few seconds on a machine that does other things beside has more noise.
    bound = max(1.5 * before, before + numbers.get("slack", 20.0))
    return [
        Figure("honest p99 before", before, unit="ms"),
        Figure("honest p99 during", during, bound, "ms"),
    ]


def slow_heads(folder: Path, numbers: Numbers) -> list[Figure]:
    """Heads that never end, from many clients."""
    deadline = numbers["deadline"]
    option = f"--entryPoints.web.transport.respondingTimeouts.headTimeout={deadline:g}s"
    with World(folder, option) as world:
        attack, figures = beside(world, numbers, lambda: world.attack("slow_heads", count=int(numbers["count"])))
        time.sleep(max(0.0, deadline + 2 - numbers["seconds"]))
        seen = attack.finish()
        return [
            *figures,
            Figure("connections", seen["opened"], numbers["count"], at_least=True),
            Figure("of them ended by the gate", seen["ended"], numbers["count"], at_least=True),
            Figure("longest life of one", seen["longest"], deadline + 1, "s"),
        ]


def slow_bodies(folder: Path, numbers: Numbers) -> list[Figure]:
    """Bodies that come an octet at a time."""
    with World(folder) as world:
        memory = world.memory()
        attack, figures = beside(world, numbers, lambda: world.attack("slow_bodies", count=int(numbers["count"])))
        growth, stats = world.memory() - memory, world.stats()
        seen = attack.finish()
        # They are passed on as they come, as by Traefik: who wants whole bodies only has the middleware buffering.
        return [
            *figures,
            Figure("connections", seen["opened"], numbers["count"], at_least=True),
            Figure("connections to the backend", stats["open"] - 1),
            Figure("memory for each", growth / numbers["count"] / 1000, 40.0, "kB"),
        ]


def slow_readers(folder: Path, numbers: Numbers) -> list[Figure]:
    """Large answers that are read by the drop."""
    with World(folder) as world:
        world.honest(0.5)  # What a gate needs for its first requests is not what the slow ones cost.
        memory, kernel = world.memory(), world.kernel_memory()
        count, size = int(numbers["count"]), int(numbers["size"])
        attack, figures = beside(world, numbers, lambda: world.attack("slow_readers", count=count, size=size))
        growth = world.memory() - memory
        kept = world.kernel_memory() - kernel
        seen = attack.finish()
        return [
            *figures,
            Figure("connections", count),
            Figure("broken off by the gate", seen["lost"], 0),
            Figure("growth of memory", growth / 1e6, 100.0 * numbers.get("share", 1.0), "MB"),
            Figure("kept by the kernel for each, at both ends and the backend's", kept / count / 1e6, unit="MB"),
        ]


def stopped_reader(folder: Path, numbers: Numbers) -> list[Figure]:
    """A client that reads nothing of a large answer."""
    size = int(numbers["size"])
    with World(folder) as world:
        world.honest(0.5)
        memory = world.memory()
        attack = world.attack("slow_readers", count=1, size=size, every=1000.0)
        sent = _settled(lambda: world.stats().get("sent", 0))
        growth = world.memory() - memory
        attack.finish()
        return [
            Figure("growth of memory", growth / 1e6, 2.0, "MB"),
            Figure("sent by the backend until it was stopped", sent / 1e6, 16.0, "MB"),
            Figure("size of the answer", size / 1e6, unit="MB"),
        ]


def stalled_upload(folder: Path, numbers: Numbers) -> list[Figure]:
    """A large upload to a server that reads nothing."""
    with World(folder) as world:
        world.honest(0.5)
        memory = world.memory()
        attack = world.attack("stopped_upload", size=int(numbers["size"]))
        time.sleep(numbers["seconds"])
        growth = world.memory() - memory
        seen = attack.finish()
        return [
            Figure("growth of memory", growth / 1e6, 2.0, "MB"),
            Figure("sent by the client until it was stopped", seen["sent"] / 1e6, 16.0, "MB"),
        ]


def _settled(measure: Callable[[], int]) -> int:
    """What *measure* finds once it has found the same for half a second."""
    last, since = measure(), time.monotonic()
    while time.monotonic() - since < 0.5:
        time.sleep(0.05)  # Between looks at another process.
        now = measure()
        if now != last:
            last, since = now, time.monotonic()
    return last


def idle(folder: Path, numbers: Numbers) -> list[Figure]:
    """Kept connections that nothing comes over."""
    return _idle(folder, numbers, False, 5.0)


def idle_tls(folder: Path, numbers: Numbers) -> list[Figure]:
    """The same with TLS."""
    return _idle(folder, numbers, True, 60.0)


def _idle(folder: Path, numbers: Numbers, secure: bool, most: float) -> list[Figure]:
    count = int(numbers["count"])
    with World(folder) as world:
        # Both have had some connections before: what is made once is none of theirs.
        port = world.ports.secure if secure else world.ports.web
        world.actor("idle", port=port, count=50, secure=secure).ready().finish()
        at_rest = world.memory()

        def begin() -> tuple[Any, int]:
            before = world.memory()
            attack = world.actor("idle", port=port, count=count, secure=secure).ready(120)
            return attack, world.memory() - before

        (attack, growth), figures = beside(world, numbers, begin)
        seen = attack.finish(120)
        whole = [Figure("growth of memory", growth / 1e6, 50.0, "MB")] if count >= 10_000 and not secure else []
        return [
            *figures,
            Figure("connections", seen["held"], count, at_least=True),
            Figure("closed by the gate", seen["lost"], 0),
            Figure("memory at rest", at_rest / 1e6, unit="MB"),
            Figure("memory for each", growth / count / 1000, most, "kB"),
            *whole,
        ]


def websockets(folder: Path, numbers: Numbers) -> list[Figure]:
    """Websockets, most of which wait."""
    count = int(numbers["count"])
    with World(folder) as world:
        world.honest(0.5)
        memory = world.memory()
        attack = world.attack("websockets", count=count, rate=100, seconds=numbers["seconds"])
        time.sleep(0.2)
        growth = world.memory() - memory
        seen = attack.finish(numbers["seconds"] + 60)
        return [
            Figure("websockets", seen["open"], count, at_least=True),
            Figure("messages", seen["messages"], 100 * numbers["seconds"], at_least=True),
            Figure("lost", seen["lost"], 0),
            Figure("p99 there and back", seen["p99"], 50.0 + numbers.get("slack", 0.0), "ms"),
            Figure("memory for each", growth / count / 1000, unit="kB"),
        ]


def churn(folder: Path, numbers: Numbers) -> list[Figure]:
    """Connections one after the other."""
    count = int(numbers["count"])
    with World(folder) as world:
        world.attack("churn", count=int(numbers["before"])).finish(60)
        world.until(lambda: world.gauges()["clients"] == 0, 5)
        descriptors = world.descriptors()
        memory = [world.memory()]
        attack = world.attack("churn", count=count)
        for _ in range(10):
            while attack.line(numbers["patience"]) != "tenth":
                pass
            memory.append(world.memory())
        seen = attack.finish()
        world.until(lambda: world.gauges()["clients"] == 0, 5)
        # The first part fills caches.
        slope = statistics.linear_regression([n * count / 10 for n in range(2, 11)], memory[2:]).slope
        return [
            Figure("connections", seen["connections"], count, at_least=True),
            Figure("a second", seen["connections"] / seen["took"]),
            Figure("failed", seen["wrong"], 0),
            Figure("growth of memory in 100,000", slope * 100_000 / 1e6, numbers["slope"], "MB"),
            Figure("memory at the begin", memory[0] / 1e6, unit="MB"),
            Figure("memory at the end", memory[-1] / 1e6, unit="MB"),
            Figure("descriptors more than at the begin", world.descriptors() - descriptors, 4),
        ]


def descriptors(folder: Path, numbers: Numbers) -> list[Figure]:
    """More clients than there are descriptors for."""
    figures = []
    with World(folder, descriptors=256) as world:
        world.honest(0.5)
        web, secure = world.ports.web, world.ports.secure
        for port, again, what in ((web, False, "silent"), (web, True, "asking"), (secure, False, "silent TLS")):
            attack = world.actor("half_open", port=port, count=1000, again=again).ready()
            time.sleep(0.5)
            before = world.gate.usage().cpu
            time.sleep(numbers["seconds"])
            busy = (world.gate.usage().cpu - before) / numbers["seconds"]
            attack.finish()
            begin = time.monotonic()
            while True:
                try:
                    world.honest(0.2)
                    break
                except Failed:
                    if time.monotonic() - begin > 20:
                        raise
            # What an honest round itself takes beside its requests: a process starts, and waits for its begin.
            figures += [
                Figure(f"CPU with 1,000 {what} clients", 100 * busy, 20.0, "%"),
                Figure(f"all served again after {what} ones", time.monotonic() - begin, 2.0, "s"),
            ]
        figures.append(Figure("the gate has ended", float(world.gate.process.poll() is not None), 0))
    return figures


def hostile_backend(folder: Path, numbers: Numbers) -> list[Figure]:
    """Servers' answers that are none."""
    with World(folder) as world:
        seen = world.attack("hostile", rounds=int(numbers["rounds"])).finish(120)
        figures = [
            Figure("bad answers", seen["answers"], 30, at_least=True),
            Figure("passed on as good", len(seen["wrong"]), 0),
            Figure("requests that got another's answer, or none", seen["crossed"], 0),
        ]
        if seen["wrong"]:
            raise Failed("\n".join(f"{name}: {what}" for name, what in seen["wrong"].items()))
        return figures


def broken_bodies(folder: Path, numbers: Numbers) -> list[Figure]:
    """Servers that break off in the middle of an answer."""
    count = int(numbers["count"])
    with World(folder) as world:
        seen = world.attack("broken_bodies", count=count).finish(120)
        told = seen.get("truncated", 0) + seen.get("502", 0)
        return [
            Figure("answers broken off by the server", count),
            Figure("seen as broken by the client", told, count, at_least=True),
            Figure("clean ends", seen.get("clean", 0), 0),
        ]


def stale_pool(folder: Path, numbers: Numbers) -> list[Figure]:
    """A server that closes kept connections at random."""
    with World(folder, closes=0.1) as world:
        seen = world.attack("gets", count=int(numbers["count"]), posts=int(numbers["posts"])).finish(250)
        stats = world.stats()
        failed = sum(number for what, number in seen["wrong"].items() if not what.startswith("POST"))
        posts = sum(number for what, number in seen["wrong"].items() if what.startswith("POST"))
        return [
            Figure("GET requests", seen["requests"] - seen["posts"]),
            Figure("of them failed", failed, 0),
            Figure("connections to the server", stats["connections"], 2, at_least=True),
            Figure("POST requests", seen["posts"]),
            Figure("of them answered with an error", posts),
            Figure("POST requests that were sent twice", stats["twice"], 0),
        ]


def aborts(folder: Path, numbers: Numbers) -> list[Figure]:
    """Clients that leave at any moment."""
    with World(folder) as world:
        world.attack("aborts", count=100).finish()
        world.until(lambda: set(world.gauges().values()) == {0.0}, 5)
        before = world.descriptors()
        memory = world.memory()
        attack = world.attack("aborts", count=int(numbers["count"]))
        attack.finish(250)
        # Gauges are told half a second late at most.
        quiet = world.until(lambda: set(world.gauges().values()) == {0.0}, 15)
        return [
            Figure("requests aborted", numbers["count"]),
            Figure("all gauges at 0 after", quiet, 1.5, "s"),
            Figure("requests abandoned at the server", world.stats().get("abandoned", 0), 1, at_least=True),
            Figure("growth of memory", (world.memory() - memory) / 1e6, numbers["memory"], "MB"),
            Figure("descriptors more than before", world.descriptors() - before, 200),
        ]


def lossy(folder: Path, numbers: Numbers) -> list[Figure]:
    """Packets to and from servers that are late, and of which some are lost."""
    with Wire(folder, delay=0.05, loss=0.01) as wire, World(folder, prefix=wire.near) as world:
        port = world.ports.honest
        world.actor("backend", prefix=wire.far, port=port, host=wire.server).ready()
        url = f"http://{wire.server}:{port}"
        world.routes(url, url)
        time.sleep(2.0)  # The gate has its routes, and has read them anew.
        given = {"port": world.ports.web, "rate": 100}
        world.actor("honest", prefix=wire.near, seconds=1, **given).result(60)
        seen = world.actor("honest", prefix=wire.near, seconds=numbers["seconds"], **given).result(120)
        passed, lost = wire.counts()
        return [
            Figure("requests", seen["requests"]),
            Figure("packets", passed + lost),
            Figure("of them lost", 100 * lost / max(1, passed + lost), unit="%"),
            Figure("requests that failed", sum(seen["wrong"].values()), 0),
            Figure("p50", seen["p50"], unit="ms"),
            Figure("p99", seen["p99"], 1000.0, "ms"),
        ]


def watched(folder: Path, numbers: Numbers) -> list[Figure]:
    """Dashboards that are open and hardly read what they are told, and metrics that are asked for all the time."""
    with World(folder, "--api.insecure", "--workers=2") as world:
        honest = f"http://127.0.0.1:{world.ports.honest}"
        seconds, memory = numbers["seconds"], 0
        world.honest(1.0)
        before, during = [], []
        for _ in range(int(numbers["rounds"])):
            before.append(world.honest(seconds)["p99"])
            memory = memory or world.memory()
            given = {"own": world.ports.own, "count": int(numbers["count"]), "asks": 2.5, "scrapes": 10.0}
            # They would have cores of their own: here they give way to the honest, who share theirs.
            attack = world.attack("viewers", prefix=("chrt", "--idle", "0"), **given)
            # Something to tell of: the attackers' service changes its server.
            world.routes(honest, honest)
            during.append(world.honest(seconds)["p99"])
            seen = attack.finish()
            world.routes(honest, f"http://127.0.0.1:{world.ports.attacked}")
        was, now = statistics.median(before), statistics.median(during)
        asked = seen.get("/api/overview 200", 0) + seen.get("/api/swarm 200", 0)
        return [
            Figure("honest p99 before, median", was, unit="ms"),
            Figure("honest p99 during, median", now, max(1.1 * was, was + numbers.get("slack", 0.0)), "ms"),
            Figure("viewers", seen["viewers"], numbers["count"], at_least=True),
            Figure("scrapes of the metrics a second", seen.get("/metrics 200", 0) / seconds, 8, at_least=True),
            Figure("questions for documents a second", asked / seconds),
            Figure("growth of memory", (world.memory() - memory) / 1e6, 60, "MB"),
        ]


ROWS = (
    Row(
        19,
        "2,000 clients whose heads never end",
        slow_heads,
        {"count": 2000, "deadline": 10, "seconds": 8},
        {"count": 200, "deadline": 2, "seconds": 1, "slack": 500},
    ),
    Row(
        20,
        "1,000 clients whose bodies come by the octet",
        slow_bodies,
        {"count": 1000, "seconds": 10},
        {"count": 100, "seconds": 1, "slack": 500},
    ),
    Row(
        21,
        "500 clients that read 10 MB by the drop",
        slow_readers,
        {"count": 500, "size": 10_000_000, "seconds": 10},
        {"count": 50, "size": 10_000_000, "seconds": 1, "slack": 500, "share": 0.2},
    ),
    Row(
        22,
        "a client that stops reading 1 GiB",
        stopped_reader,
        {"size": 1024 * MIB},
        {"size": 64 * MIB},
    ),
    Row(
        23,
        "1 GiB for a server that reads nothing",
        stalled_upload,
        {"size": 1024 * MIB, "seconds": 5},
        {"size": 64 * MIB, "seconds": 1},
    ),
    Row(
        24,
        "10,000 idle connections",
        idle,
        {"count": 10_000, "seconds": 10},
        {"count": 1000, "seconds": 1, "slack": 500},
    ),
    Row(
        25,
        "5,000 idle connections with TLS",
        idle_tls,
        {"count": 5000, "seconds": 10},
        {"count": 200, "seconds": 1, "slack": 500},
    ),
    Row(
        26,
        "5,000 websockets, 100 messages a second",
        websockets,
        {"count": 5000, "seconds": 30},
        {"count": 200, "seconds": 1, "slack": 500},
    ),
    Row(
        27,
        "1,000,000 connections one after the other",
        churn,
        {"count": 1_000_000, "before": 20_000, "patience": 300, "slope": 1.0},
        {"count": 20_000, "before": 5000, "patience": 60, "slope": 4.0},
    ),
    Row(28, "1,000 clients, 256 descriptors", descriptors, {"seconds": 5}, {"seconds": 1}),
    Row(31, "33 bad answers of a server", hostile_backend, {"rounds": 10}, {"rounds": 1}),
    Row(32, "1,000 answers broken off by the server", broken_bodies, {"count": 1000}, {"count": 100}),
    Row(
        33,
        "50,000 requests to a server that closes connections at random",
        stale_pool,
        {"count": 50_000, "posts": 5000},
        {"count": 1000, "posts": 200},
    ),
    Row(34, "10,000 clients that leave", aborts, {"count": 10_000, "memory": 8}, {"count": 300, "memory": 8}),
    Row(
        39,
        "servers behind 100 ms and 1 % loss",
        lossy,
        {"seconds": 30},
        {"seconds": 4},
    ),
    Row(
        40,
        "200 dashboards that hardly read, 10 scrapes a second",
        watched,
        {"count": 200, "seconds": 8, "rounds": 5},
        {"count": 50, "seconds": 1, "rounds": 1, "slack": 500},
    ),
)
