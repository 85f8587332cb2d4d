"""Servers are asked at once and again and again, and each change of what they say is told once."""

from __future__ import annotations

from typing import Any

import attrs
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded
from twisted.internet import error
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.model import Balancing, Configuration, HealthCheck, Router, Server, Service
from swarmgate.dynamic.table import EntryPointFacts, compile_table
from swarmgate.health.checker import Checker
from swarmgate.health.grpc import GrpcQuestion
from swarmgate.health.probe import Outcome, outcome_of, outcome_of_failure, outcome_of_grpc, probe_of
from swarmgate.http.upstream import UpstreamSettings
from swarmgate.resources.gate import Gate, checks_of
from tests.memory_network import GET, OK, MemoryGate, MemoryNetwork

ONE, TWO = "http://10.0.0.1:80", "http://10.0.0.2:80"
WELL, ILL = Outcome(True), Outcome(False, "it is not")
CHECK = HealthCheck("/up", interval=10.0, unhealthy_interval=2.0, timeout=5.0)


class ProbeTests(SynchronousTestCase):
    def test_whom_and_what(self) -> None:
        """A probe asks the server itself, or the port and with the scheme, host and fields that the check says."""
        plain = probe_of(HealthCheck("/up?x=1"), "http://[fd00::1]:8080")
        self.assertEqual(
            (plain.url, plain.host, plain.authority), ("http://[fd00::1]:8080/up?x=1", "fd00::1", "[fd00::1]:8080")
        )
        check = HealthCheck("/", "http", "https", 81, "a.example", "HEAD", headers=(("X-A", "1"),), timeout=2.0)
        probe = probe_of(check, "http://10.0.0.1:80")
        self.assertEqual((probe.url, probe.authority, probe.method), ("https://10.0.0.1:81/", "a.example", "HEAD"))
        self.assertEqual((probe.fields, probe.timeout), ((("X-A", "1"),), 2.0))
        self.assertEqual(probe_of(HealthCheck(port=81), ONE).authority, "10.0.0.1:81")

    def test_status(self) -> None:
        """From 200 to 399 a server is well, unless one status is wanted; the reason is for people."""
        probe = probe_of(CHECK, ONE)
        for status, well in ((199, False), (200, True), (399, True), (400, False), (503, False)):
            self.assertEqual(outcome_of(CHECK, probe, status).is_well, well, status)
        only = HealthCheck(status=204)
        self.assertEqual([outcome_of(only, probe, status).is_well for status in (200, 204)], [False, True])
        self.assertEqual(
            outcome_of(CHECK, probe, 500).reason, "GET http://10.0.0.1:80/up was answered 500, expected 200 to 399"
        )
        self.assertEqual(outcome_of_failure(probe, None).reason, "http://10.0.0.1:80/up: no answer within 5 s")
        self.assertIn("refused", outcome_of_failure(probe, error.ConnectionRefusedError()).reason)

    def test_grpc(self) -> None:
        """Only SERVING is well."""
        probe = probe_of(HealthCheck(mode="grpc"), ONE)
        self.assertEqual(outcome_of_grpc(probe, 0, 1), WELL)
        self.assertIn("NOT_SERVING", outcome_of_grpc(probe, 0, 2).reason)
        self.assertIn("status 12", outcome_of_grpc(probe, 12, 0).reason)


class CheckerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[tuple[float, str]] = []
        self.answers: dict[str, list[Any]] = {}
        self.told: list[tuple[str, str, bool]] = []
        self.checker = Checker(self.clock, self.ask, lambda *told: self.told.append(told), lambda: 0.0)

    def ask(self, check: HealthCheck, probe: Any) -> Deferred[Outcome]:
        self.asked.append((self.clock.seconds(), probe.host))
        answers = self.answers.get(probe.host) or [WELL]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer if isinstance(answer, Deferred) else succeed(answer)

    def pass_(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)

    def test_times(self) -> None:
        """A server is asked at once, then at its interval, or at the other while it is not well."""
        self.answers["10.0.0.1"] = [WELL, ILL, ILL, WELL]
        self.checker.watch({"app": (CHECK, [ONE])})
        self.pass_(25)
        self.assertEqual([at for at, _ in self.asked], [0, 10, 12, 14, 24])
        self.assertEqual(self.told, [("app", ONE, True), ("app", ONE, False), ("app", ONE, True)])

    def test_jitter(self) -> None:
        """Servers that came together do not stay together."""
        checker = Checker(self.clock, self.ask, lambda *told: None, lambda: 1.0)
        checker.watch({"app": (CHECK, [ONE])})
        self.pass_(11)
        self.assertEqual([at for at, _ in self.asked], [0, 10.5])

    def test_slow_answers_do_not_pile_up(self) -> None:
        """While a probe is under way there is no other of the same server."""
        slow: Deferred[Outcome] = Deferred()
        self.answers["10.0.0.1"] = [slow, WELL]
        self.checker.watch({"app": (CHECK, [ONE])})
        self.pass_(60)
        self.assertEqual(len(self.asked), 1)
        slow.callback(ILL)
        self.pass_(2)
        self.assertEqual(len(self.asked), 2)

    def test_state_is_kept(self) -> None:
        """A new table asks nobody anew that it has in common with the old one."""
        self.checker.watch({"app": (CHECK, [ONE])})
        self.pass_(3)
        self.checker.watch({"app": (CHECK, [ONE, TWO])})
        self.assertEqual(self.asked, [(0, "10.0.0.1"), (3, "10.0.0.2")])
        self.pass_(7)
        self.assertEqual(self.asked[2:], [(10, "10.0.0.1")])
        self.assertEqual([(one.url, one.is_well, one.since) for one in self.checker.state()],
                         [(ONE, True, 0.0), (TWO, True, 3.0)])  # fmt: skip

    def test_gone_during_a_probe(self) -> None:
        """Of a server that leaves nothing is told any more; when it comes back it is asked at once."""
        cancelled: list[Any] = []
        self.answers["10.0.0.1"] = [Deferred(cancelled.append), WELL]
        self.checker.watch({"app": (CHECK, [ONE])})
        self.checker.watch({})
        self.assertEqual((len(cancelled), self.told, self.checker.state()), (1, [], []))
        self.checker.watch({"app": (CHECK, [ONE])})
        self.assertEqual(self.told, [("app", ONE, True)])

    def test_other_check(self) -> None:
        """A check that is changed is made at once, and its first outcome told."""
        self.checker.watch({"app": (CHECK, [ONE])})
        self.checker.watch({"app": (attrs.evolve(CHECK, path="/other"), [ONE])})
        self.assertEqual(len(self.asked), 2)
        self.assertEqual(self.told, [("app", ONE, True)] * 2)

    def test_stop(self) -> None:
        """After the end nobody is asked."""
        self.checker.watch({"app": (CHECK, [ONE])})
        self.checker.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_fault_in_a_probe(self) -> None:
        """A probe that fails in a way that nobody foresaw says that the server is not well, and is made again."""
        self.answers["10.0.0.1"] = [fail(RuntimeError("odd")), WELL]
        self.checker.watch({"app": (CHECK, [ONE])})
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.pass_(2)
        self.assertEqual(self.told, [("app", ONE, False), ("app", ONE, True)])


class GrpcTests(SynchronousTestCase):
    def play(self, message: bytes, *trailers: tuple[str, str], head: str = "200") -> tuple[Any, Any]:
        """What becomes of a question that is answered so, and the request's fields."""
        question, transport = GrpcQuestion("a.example"), StringTransport()
        question.makeConnection(transport)
        server = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        server.initiate_connection()
        events = server.receive_data(transport.value())
        (request,) = [event for event in events if isinstance(event, RequestReceived)]
        self.assertTrue(any(isinstance(event, StreamEnded) for event in events))
        server.send_headers(1, [(":status", head), ("content-type", "application/grpc")])
        server.send_data(1, message)
        server.send_headers(1, [*trailers], end_stream=True) if trailers else server.reset_stream(1)
        question.dataReceived(server.data_to_send())
        self.assertTrue(transport.disconnecting)
        return self.successResultOf(question.answer), dict(request.headers or ())

    def test_serving(self) -> None:
        """The call is a right one, and its answer understood."""
        told, fields = self.play(b"\0\0\0\0\2\x08\1", ("grpc-status", "0"))
        self.assertEqual(told, (0, 1))
        self.assertEqual((fields[":path"], fields["te"], fields["content-type"]),
                         ("/grpc.health.v1.Health/Check", "trailers", "application/grpc"))  # fmt: skip
        self.assertEqual(self.play(b"\0\0\0\0\2\x08\2", ("grpc-status", "0"))[0], (0, 2))
        self.assertEqual(self.play(b"\0\0\0\0\0", ("grpc-status", "0"))[0], (0, 0))

    def test_faults(self) -> None:
        """An error of the call, an answer that is none of gRPC's, and a connection that ends say so."""
        self.assertEqual(self.play(b"", ("grpc-status", "12"))[0], (12, 0))
        self.assertEqual(self.play(b"<html>", ("x", "y"), head="404")[0][0], 2)
        self.assertEqual(self.play(b"")[0][0], 14)
        for data in (b"HTTP/1.1 400 Bad Request\r\n\r\n", None):
            question = GrpcQuestion("a.example")
            question.makeConnection(StringTransport())
            if data is not None:
                question.dataReceived(data)
            question.connectionLost()
            self.assertIn(self.successResultOf(question.answer)[0], (2, 14))


class GateTests(SynchronousTestCase):
    """What the checks say is what the gate goes by."""

    def setUp(self) -> None:
        self.memory = MemoryGate()
        self.network = MemoryNetwork()
        self.watched: Any = None
        self.gate = Gate(("web",), self.network, self.memory.clock, self.memory.deadlines, UpstreamSettings(), {})
        self.memory.leaf = self.gate.roots["web"]

    def apply(self, *urls: str, check: HealthCheck | None = CHECK) -> None:
        service = Service("app", tuple(map(Server, urls)), Balancing(health_check=check))
        configuration = Configuration({"a": Router("a", "PathPrefix(`/`)", "app")}, {"app": service})
        table = compile_table({"file": configuration}, {"web": EntryPointFacts()}, ())
        self.gate.apply(table)
        self.watched = checks_of(table)

    def servers(self, count: int) -> set[str]:
        """Who answers so many requests."""
        for _ in range(count):
            self.memory.client().receive(GET)
            for server in self.network.servers:
                if server.take():
                    server.receive(OK)
        return {exchange.server for exchange in self.memory.finished_exchanges[-count:]}

    def test_ill_server(self) -> None:
        """A server gets requests until it is known to be ill, and again when it is well, whatever tables come."""
        self.apply(ONE, TWO)
        self.assertEqual(self.watched, {"app@file": (CHECK, [ONE, TWO])})
        self.assertEqual(self.servers(4), {ONE, TWO})
        self.gate.judge("app@file", ONE, False)
        self.assertEqual(self.servers(4), {TWO})
        self.apply(ONE, TWO, "http://10.0.0.3:80")
        self.assertEqual(self.servers(4), {TWO})
        self.gate.judge("app@file", ONE, True)
        self.assertEqual(self.servers(4), {ONE, TWO})

    def test_new_server(self) -> None:
        """A new server beside others gets requests once its first probe was good."""
        self.apply(ONE)
        self.apply(ONE, TWO)
        self.assertEqual(self.servers(4), {ONE})
        self.gate.judge("app@file", TWO, True)
        self.assertEqual(self.servers(4), {ONE, TWO})

    def test_check_is_removed(self) -> None:
        """Without its check a server that was ill gets requests again."""
        self.apply(ONE, TWO)
        self.gate.judge("app@file", ONE, False)
        self.apply(ONE, TWO, check=None)
        self.assertEqual((self.servers(4), self.watched), ({ONE, TWO}, {}))
        self.gate.judge("gone@file", ONE, False)
