"""Load shedding: who is refused, how, and who is not."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.exchange import Exchange
from swarmgate.http.message import Request
from swarmgate.resources.shedding import LoadShedding
from swarmgate.resources.tree import EntryPointRoot, SecureEntryPointRoot


class _Exchange(Exchange):
    def __init__(self, path: bytes = b"/") -> None:
        client: Any = None
        super().__init__(client, Request(b"GET", path, None, 1, b"a", b"a", []), "web")
        self.answered: list[tuple[int, dict[bytes, bytes]]] = []

    def answer(self, status: int, body: bytes = b"", fields: Any = ()) -> None:
        self.answered.append((status, dict(fields)))


class _Route:
    tls = None

    def __init__(self, name: str, service: object) -> None:
        self.name = name
        self.service = service


class _Routes:
    """``/ping`` is for the gate itself, all else for a service."""

    def find(self, request: Any) -> _Route:
        return _Route("ping", None) if request.path == b"/ping" else _Route("app", object())


class _Served:
    def serve(self, exchange: Any) -> None:
        exchange.answer(200)


class SheddingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.shedding = LoadShedding()
        self.roots: list[Any] = [kind("web", shedding=self.shedding) for kind in (EntryPointRoot, SecureEntryPointRoot)]
        for root in self.roots:
            root.show(_Routes(), {"app": _Served(), "ping": _Served()})

    def _ask(self, root: Any, path: bytes = b"/") -> tuple[int, dict[bytes, bytes]]:
        exchange = _Exchange(path)
        root.serve(exchange)
        (answer,) = exchange.answered
        return answer

    def test_share(self) -> None:
        """A share of requests is refused evenly, told when to come again, and counted by reason."""
        self.shedding.share, self.shedding.reason = 0.25, "overload: memory"
        for root in self.roots:
            answers = [self._ask(root) for _ in range(8)]
            self.assertEqual([status for status, _ in answers], [200, 200, 200, 503] * 2)
            self.assertEqual(answers[3][1][b"Retry-After"], b"2")
        self.assertEqual(self.shedding.refusals, {"overload: memory": 4})

    def test_none(self) -> None:
        """Nobody is refused without a reason."""
        for root in self.roots:
            self.assertEqual({self._ask(root)[0] for _ in range(100)}, {200})

    def test_own(self) -> None:
        """Ping, metrics and the like are answered when everything else is refused."""
        self.shedding.share = 1.0
        for root in self.roots:
            self.assertEqual(self._ask(root)[0], 503)
            self.assertEqual(self._ask(root, b"/ping")[0], 200)
