"""The corpus of requests, played to the gate's protocols in memory."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.exchange import Exchange
from tests import corpus
from tests.memory_network import MemoryGate, MemoryTransport
from tests.wire import Malformed, read_request

#: Where all clients of a gate in memory come from.
CLIENT = b"192.0.2.7"


class Gate(MemoryGate):
    """A gate that routes the corpus's hosts, and no other."""

    def serve(self, exchange: Exchange) -> None:
        if exchange.request.host in corpus.HOSTS:
            super().serve(exchange)
        else:
            exchange.answer(404, b"404 page not found\n")


class Stage:
    """One play, and the backend that answers in it."""

    def __init__(self, play: corpus.Play) -> None:
        self._play = play
        self._gate = Gate()
        self._client = self._gate.client()
        self._received = b""
        self._left: dict[int, bytes] = {}
        self._complaints: list[str] = []
        self._seen: list[corpus.Seen] = []

    def perform(self) -> list[str]:
        """What went wrong."""
        for piece in self._play.pieces:
            if isinstance(piece, bytes) and not self._over():
                self._client.receive(piece)
                self._settle()
        for rest in self._left.values():
            if rest:
                self._complaints.append(f"the backend was sent part of a request: {rest[:200]!r}")
        closed = self._client.half_closed or self._client.closed == "lost"
        return corpus.judge(self._play, self._received, closed, self._seen, CLIENT) + self._complaints

    def _over(self) -> bool:
        return self._client.closed is not None

    def _settle(self) -> None:
        while any(self._serve(number, server) for number, server in enumerate(self._gate.network.servers)):
            pass
        self._received += self._client.take()

    def _serve(self, number: int, server: MemoryTransport) -> bool:
        """Answer what *server* was sent; whether it was anything."""
        data = server.take()
        if not data:
            return False
        buffer = self._left.get(number, b"") + data
        try:
            while (found := read_request(buffer)) is not None:
                message, buffer = found
                self._seen.append(corpus.Seen(message, number))
                body = corpus.echo(message)
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
                server.receive(head if message.start[0] == b"HEAD" else head + body)
        except Malformed as error:
            self._complaints.append(f"the backend was sent something malformed: {error}")
        self._left[number] = buffer
        return True


class CorpusTests(SynchronousTestCase):
    """Each case is judged by what its client gets, and by what the backend is sent."""

    def perform(self, plays: Iterable[corpus.Play]) -> None:
        """Play them, each to a gate of its own, and fail with all that went wrong."""
        complaints = []
        for play in plays:
            found = Stage(play).perform()
            if found:
                complaints.append(corpus.Complaint(play, tuple(found)))
        if complaints:
            self.fail(corpus.summary(complaints))

    def test_names_are_unique(self) -> None:
        """A complaint names one case."""
        names = [case.name for case in corpus.CASES]
        self.assertEqual(len(names), len(set(names)))

    def test_alone(self) -> None:
        """A request that comes by itself gets the right verdict."""
        self.perform(corpus.alone(case) for case in corpus.CASES)

    def test_followed(self) -> None:
        """A request right behind it is taken for what it is after a good one, and never read after a bad one."""
        self.perform(corpus.followed(case) for case in corpus.CASES)

    def test_after_a_request(self) -> None:
        """On a connection that has served a request, or is about to, the verdict is the same."""
        self.perform(corpus.preceded(case, wait) for case in corpus.CASES for wait in (True, False))

    def test_octet_by_octet(self) -> None:
        """However a request is cut to pieces, the verdict is the same."""
        self.perform(corpus.bytewise(case) for case in corpus.CASES if len(case.request) <= 400)

    def test_cut_everywhere(self) -> None:
        """Wherever a request is cut in two, the verdict is the same."""
        self.perform(corpus.cut(case, place) for case in corpus.CASES for place in corpus.cuts(case))
