"""Tests for swarmgate.workers and what they are told with: values, on no process but this one."""

from __future__ import annotations

import asyncio
import gc
import pickle
import socket
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.config.load import load
from swarmgate.dynamic.composition import Child, Composition, Failover, HighestRandomWeight, Mirror, Mirroring, Weighted
from swarmgate.dynamic.cookie import StickyCookie
from swarmgate.dynamic.difference import applied, difference
from swarmgate.dynamic.model import Configuration, Router, Server, Service
from swarmgate.dynamic.table import EntryPointFacts, RoutingTable, compile_table
from swarmgate.observe.traffic import Tally, Traffic
from swarmgate.serving import Report
from swarmgate.structure import StatusRange
from swarmgate.transport.sockets import bind, dealt, handed_over, take
from swarmgate.upgrade import started_with
from swarmgate.workers import messages
from swarmgate.workers.cores import quota_of, usable_cores
from swarmgate.workers.parent import Workers, sum_of
from swarmgate.workers.restarts import Restarts

ENTRY_POINTS = {"web": EntryPointFacts(), "other": EntryPointFacts()}


def table(world: dict[int, tuple[int, int, bool]]) -> RoutingTable:
    """A table with a router and a service for each number: its servers, its priority, whether it is on both."""
    routers, services = {}, {}
    for number, (servers, priority, both) in world.items():
        name = f"s{number}"
        on = ("web", "other") if both else ("web",)
        routers[name] = Router(name, f"Host(`{name}.example`)", name, entry_points=on, priority=priority)
        services[name] = Service(name, tuple(Server(f"http://10.0.{number}.{one}:80") for one in range(servers)))
        if both:
            other = f"both{number}"
            weighted = Weighted((Child(name, priority), Child(f"s{number - 1}")), StickyCookie(other))
            made_of: tuple[Composition, ...] = (
                weighted,
                Failover(name, f"s{number - 1}", (StatusRange(500, 599),)),
                Mirroring(name, (Mirror(f"s{number - 1}", priority),)),
                HighestRandomWeight(weighted.children),
            )
            services[other] = Service(other, composition=made_of[priority % 4])
    return compile_table({"file": Configuration(routers, services)}, ENTRY_POINTS)


worlds = st.dictionaries(
    st.integers(0, 12), st.tuples(st.integers(1, 3), st.integers(0, 5), st.booleans()), max_size=10
)


class DifferenceTests(SynchronousTestCase):
    @given(worlds, worlds)
    def test_any_change(self, before: Any, after: Any) -> None:
        """Whatever changes, whoever is told the difference by way of a pipe has the same table."""
        old, new = table(before), table(after)
        changes = pickle.loads(pickle.dumps(difference(old, new)))
        self.assertEqual(applied(old, changes), RoutingTable(new.routes, new.services, (), new.tls))

    def test_small(self) -> None:
        """Of many routers only those that have changed are told of."""
        world = dict.fromkeys(range(200), (2, 0, True))
        changes = difference(table(world), table({**world, 7: (3, 0, True)}))
        self.assertEqual((set(changes.routes["web"]), set(changes.services)), ({"s7@file"}, {"s7@file"}))
        self.assertIsNone(changes.tls)
        self.assertLess(len(pickle.dumps(changes)), 5000)

    def test_equal(self) -> None:
        """Equal tables differ in nothing."""
        changes = difference(table({1: (1, 0, False)}), table({1: (1, 0, False)}))
        self.assertEqual((changes.routes, changes.services, changes.tls), ({}, {}, None))


class MessagesTests(SynchronousTestCase):
    def test_pieces(self) -> None:
        """Messages arrive whole and in order, however the pipe cuts them."""
        transport = StringTransport()
        writing = messages.Messages(lambda _: None)
        writing.makeConnection(transport)
        sent = [
            messages.Start(1, load(["--entryPoints.web.address=:80"], {}), ("api@internal",), b"k" * 32),
            messages.Apply(difference(RoutingTable(), table({1: (2, 1, True)}))),
            messages.Judge("app@file", "http://10.0.0.1:80", False),
            messages.Drain(),
        ]
        for message in sent:
            writing.send(message)
        got: list[Any] = []
        reading = messages.Messages(got.append)
        reading.makeConnection(StringTransport())
        data = transport.value()
        for place in range(0, len(data), 7):
            reading.dataReceived(data[place : place + 7])
        self.assertEqual(got, sent)

    def test_secrets(self) -> None:
        """A message that is logged by mistake shows no key."""
        start = messages.Start(1, load(["--entryPoints.web.address=:80"], {}), (), b"k" * 32)
        self.assertNotIn("kkkk", repr(start))


class RestartsTests(SynchronousTestCase):
    def test_first(self) -> None:
        """A worker that dies once is back at once."""
        self.assertEqual(Restarts().died(1.0).pause, 0.0)
        self.assertEqual(Restarts().died(1000.0).pause, 0.0)

    def test_loop(self) -> None:
        """One that dies again and again is started at growing intervals, which have an end."""
        pauses, restarts = [], Restarts()
        for _ in range(9):
            restarts = restarts.died(0.1)
            pauses.append(restarts.pause)
        self.assertEqual(pauses, [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0])
        self.assertTrue(restarts.is_loop)
        self.assertFalse(restarts.died(60.0).is_loop)

    def test_said(self) -> None:
        """The log says what comes next."""
        once = Restarts().died(1.0)
        self.assertEqual(once.said, "it is started again")
        thrice = once.died(1.0).died(1.0)
        self.assertEqual(thrice.said, "it is started again in 0.5 s: it has died 3 times in a row")


class CoresTests(SynchronousTestCase):
    def test_quota(self) -> None:
        """A container's share of the machine counts, rounded up."""
        self.assertEqual([quota_of(text) for text in ("max 100000", "150000 100000", "50000 100000\n")], [None, 2, 1])
        path = Path(self.mktemp())
        path.write_text("50000 100000\n")
        self.assertEqual(usable_cores(path), 1)

    def test_no_quota(self) -> None:
        """Without a control group it is the cores that there are."""
        self.assertGreaterEqual(usable_cores(Path("/nowhere/cpu.max")), 1)


class SocketsTests(SynchronousTestCase):
    def sockets(self, *given: Any) -> list[socket.socket]:
        made = bind(*given)
        for one in made:
            self.addCleanup(one.close)
        return made

    def test_shared(self) -> None:
        """Each worker gets a socket of the same port."""
        made = self.sockets("127.0.0.1", 0, 3, False)
        self.assertEqual(len({one.getsockname()[1] for one in made}), 1)
        self.assertEqual([len(one["web"]) for one in dealt({"web": made}, 3)], [1, 1, 1])

    def test_taken(self) -> None:
        """Somebody else who shares the port is no accident that goes unnoticed."""
        (other,) = self.sockets("127.0.0.1", 0, 1, True)
        port = other.getsockname()[1]
        self.assertRaises(OSError, bind, "127.0.0.1", port, 2, False)
        self.assertEqual(len(self.sockets("127.0.0.1", port, 2, True)), 2)

    def test_fewer(self) -> None:
        """No socket that was handed over is left unanswered, and no worker without one."""
        made = self.sockets("127.0.0.1", 0, 3, False)
        self.assertEqual([len(one["web"]) for one in dealt({"web": made}, 2)], [2, 1])
        (alone,) = self.sockets("127.0.0.1", 0, 1, False)
        self.assertEqual(self.sockets("127.0.0.1", 0, 2, False, [alone]), [alone])
        self.assertEqual([one["web"] for one in dealt({"web": [alone]}, 2)], [[alone], [alone]])

    def test_handed_over(self) -> None:
        """Sockets that are for another process are left alone, and numbers that are none are told of."""
        self.assertEqual(handed_over({}, 7), {})
        environ = {"LISTEN_FDS": "1", "LISTEN_PID": "8", "PATH": "x"}
        self.assertEqual((handed_over(environ, 7), environ), ({}, {"PATH": "x"}))
        self.assertRaises(ValueError, handed_over, {"LISTEN_FDS": "many"}, 7)

    def test_take(self) -> None:
        """A socket is an entry point's by name, or else by port."""
        (web,) = self.sockets("127.0.0.1", 0, 1, False)
        (other,) = self.sockets("127.0.0.1", 0, 1, False)
        ports = web.getsockname()[1], other.getsockname()[1]
        handed = {"web": [web], f":{ports[1]}": [other]}
        self.assertEqual(take(handed, "web", ports[0]), [web])
        self.assertEqual(take(handed, "admin", ports[1]), [other])
        self.assertEqual(handed, {})

    def test_environment(self) -> None:
        """Who takes over is told which socket is whose, and where to say that it serves."""
        environ = started_with({"PATH": "x"}, ["web", "web", "admin"], "/tmp/n")
        self.assertEqual(environ["LISTEN_FDS"], "3")
        self.assertEqual((environ["LISTEN_FDNAMES"], environ["PATH"]), ("web:web:admin", "x"))


class SumTests(SynchronousTestCase):
    def test_reports(self) -> None:
        """What workers tell is one number for the gate."""
        one = Report({"web": 2}, {"web": {"bad": 1}}, {"u": 3}, {}, [("s", "u", "t", "n", 1)], requests={"web": 1})
        other = Report(
            {"web": 5},
            {"web": {"bad": 1, "long": 1}},
            {"u": 1},
            {"u": "why"},
            [("s", "u", "t", "n", 2)],
            requests={"web": 2},
        )
        self.assertEqual(
            sum_of([one, other]),
            Report(
                {"web": 7},
                {"web": {"bad": 2, "long": 1}},
                {"u": 4},
                {"u": "why"},
                [("s", "u", "t", "n", 3)],
                requests={"web": 3},
            ),
        )

    def test_redis(self) -> None:
        """Redis decides for the gate if it does for every worker."""
        one, other = Report(redis={"l": (True, 5, 1), "m": (True, 1, 0)}), Report(redis={"l": (False, 2, 4)})
        self.assertEqual(sum_of([one, other]).redis, {"l": (False, 7, 5), "m": (True, 1, 0)})

    def test_traffic(self) -> None:
        """What a worker has counted is taken once, and added to what others have."""
        worker, parent = Traffic((0.1,)), Traffic((0.1,))
        key = ("web", "r", "s", "u", b"GET", 200, 1)
        for _ in range(2):
            tally = Tally(1)
            tally.counts[0], tally.seconds = 2, 0.5
            worker._tallies[key] = tally
            parent.add(pickle.loads(pickle.dumps(worker.take())))
            self.assertEqual(worker.take(), {})
        ((_, total),) = parent.kinds()
        self.assertEqual((total.requests, total.seconds), (4, 1.0))


class ParentTests(SynchronousTestCase):
    def test_collector_is_spared(self) -> None:
        """Once workers serve, the collector takes the parent no time for what is there already."""
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.addCleanup(gc.unfreeze)
        gc.unfreeze()
        workers = Workers(
            load(["--entryPoints.web.address=127.0.0.1:0"], {}), Clock(), loop, 2, {}, lambda: True, lambda: True, b""
        )
        self.addCleanup(workers._close, workers._sockets.values())
        for worker in workers._workers:
            self.patch(worker, "start", lambda sockets: succeed(None))
        self.successResultOf(workers.listen())
        self.assertGreater(gc.get_freeze_count(), 10_000)
        self.assertGreaterEqual(gc.get_threshold()[0], 10_000)
