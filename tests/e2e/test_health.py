"""Health checks over real sockets: whoever is asked, and whatever it answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet import defer, protocol, reactor, task
from twisted.trial.unittest import TestCase

from swarmgate.dynamic.model import HealthCheck
from swarmgate.health.ask import Asker
from swarmgate.health.probe import Outcome, probe_of

CHECK = HealthCheck("/up?x=1", timeout=0.5, hostname="a.example", headers=(("X-Key", "1"),))


class Server(protocol.Protocol):
    """Answers what it is told to."""

    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    def __init__(self, seen: list[bytes], open_: set[Server], answer: Callable[[bytes], bytes]) -> None:
        self.seen = seen
        self.open = open_
        self.make = answer

    def connectionMade(self) -> None:
        self.open.add(self)

    def connectionLost(self, reason: Any = None) -> None:
        self.open.discard(self)

    def dataReceived(self, data: bytes) -> None:
        self.seen.append(data)
        assert self.transport is not None
        self.transport.write(self.make(data))


class AskTests(TestCase):
    def setUp(self) -> None:
        self.seen: list[bytes] = []
        self.open: set[Server] = set()
        self.answer: Callable[[bytes], bytes] = lambda data: Server.answer
        factory = protocol.ServerFactory()
        factory.protocol = lambda: Server(self.seen, self.open, lambda data: self.answer(data))  # type: ignore[assignment]
        self.port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(lambda: self.port.stopListening())
        self.url = f"http://127.0.0.1:{self.port.getHost().port}"
        self.asker = Asker(reactor)

    @defer.inlineCallbacks
    def ask(self, check: HealthCheck = CHECK, url: str = "") -> Any:
        outcome: Outcome = yield self.asker(check, probe_of(check, url or self.url))
        return outcome

    @defer.inlineCallbacks
    def test_well(self) -> Any:
        """The server is asked what the check says, and is well."""
        outcome = yield self.ask()
        self.assertEqual(outcome, Outcome(True))
        (asked,) = self.seen
        self.assertTrue(asked.startswith(b"GET /up?x=1 HTTP/1.1\r\n"), asked)
        for line in (b"Host: a.example", b"X-Key: 1", b"User-Agent: swarmgate"):
            self.assertIn(line.lower() + b"\r\n", asked.lower())

    @defer.inlineCallbacks
    def test_ill(self) -> Any:
        """An error, silence, a body without end, nonsense and a refused connection say what is wrong."""
        head = b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n"
        for answer, part in (
            (head % b"503 Oops", "was answered 503, expected 200 to 399"),
            (b"", "no answer within 0.5 s"),
            (b"HTTP/1.1 200", "no answer within 0.5 s"),
            (b"SSH-2.0-x\r\n\r\n", ""),
        ):
            self.answer = lambda data, answer=answer: answer  # type: ignore[misc]
            outcome = yield self.ask()
            self.assertFalse(outcome.is_well, answer)
            self.assertIn(part, outcome.reason)
        yield self.port.stopListening()
        outcome = yield self.ask()
        self.assertIn("refused", outcome.reason)

    @defer.inlineCallbacks
    def test_endless_body(self) -> Any:
        """The head decides; a body that does not end holds up nothing."""
        self.answer = lambda data: b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000
        outcome = yield self.ask()
        self.assertTrue(outcome.is_well)

    @defer.inlineCallbacks
    def test_stalled_body(self) -> Any:
        """A body that stalls costs its connection when the time for an answer is over."""
        self.answer = lambda data: b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 9\r\n\r\n"
        outcome = yield self.ask()
        self.assertTrue(outcome.is_well)
        self.assertEqual(len(self.open), 1)
        yield task.deferLater(reactor, 0.8, lambda: None)  # type: ignore[arg-type]  # longer than the probe's timeout
        self.assertEqual(len(self.open), 0)
        yield self.ask()
        self.assertNotIn(b"cookie", self.seen[-1].lower())
        yield task.deferLater(reactor, 0.8, lambda: None)  # type: ignore[arg-type]

    @defer.inlineCallbacks
    def test_redirect(self) -> Any:
        """What a redirect leads to decides, unless the check says otherwise."""
        self.answer = lambda data: (
            b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"
            if b" /up" in data
            else b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
        )
        outcome = yield self.ask()
        self.assertIn("answered 500", outcome.reason)
        outcome = yield self.ask(attrs.evolve(CHECK, follow_redirects=False))
        self.assertTrue(outcome.is_well)

    @defer.inlineCallbacks
    def test_redirect_elsewhere(self) -> Any:
        """A redirect to somebody else is the answer: a server can't have the gate ask others."""
        there = b"http://localhost:%d/x" % self.port.getHost().port
        self.answer = lambda data: b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % there
        outcome = yield self.ask()
        self.assertEqual((outcome.is_well, len(self.seen)), (True, 1))

    @defer.inlineCallbacks
    def test_grpc_refused(self) -> Any:
        """A server that speaks no HTTP/2, and one that is not there, are not well."""
        check = attrs.evolve(CHECK, mode="grpc")
        outcome = yield self.ask(check)
        self.assertFalse(outcome.is_well)
        yield self.port.stopListening()
        outcome = yield self.ask(check)
        self.assertIn("refused", outcome.reason)

    @defer.inlineCallbacks
    def test_cancelled(self) -> Any:
        """A probe that is not wanted any more ends at once, and asks nobody."""
        asking = self.asker(CHECK, probe_of(CHECK, self.url))
        asking.cancel()
        self.assertTrue(asking.called)
        asking.addErrback(lambda failure: failure.trap(defer.CancelledError))
        yield self.asker(CHECK, probe_of(CHECK, self.url))
        self.assertEqual(len(self.seen), 1)
