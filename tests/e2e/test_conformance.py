"""The corpus of requests, played to the gate in every form."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from tests import corpus
from tests.e2e.gate import Gate, free_port, routes
from tests.e2e.wires import rehearse

#: Whoever begins a connection so is spoken to in HTTP/2; behind a request it is none.
_HTTP2 = ("C16", "H05")
FIRST = tuple(case for case in corpus.CASES if case.name not in _HTTP2)


class ConformanceTests(SynchronousTestCase):
    """Each case is judged by what its client gets, and by what the backend is sent."""

    gate: Gate | None = None
    backend_port = 0

    def rehearse(self, plays: Iterable[corpus.Play]) -> None:
        """Play them through a gate that all tests here share, and fail with all that went wrong."""
        kind = type(self)
        if kind.gate is None:
            kind.backend_port = free_port()
            hosts = {host.decode(): "echo" for host in corpus.HOSTS}
            kind.gate = Gate(routes({"echo": [self.backend_port]}, hosts))
        complaints = asyncio.run(rehearse(kind.gate.port, kind.backend_port, plays))
        if complaints:
            self.fail(f"{corpus.summary(complaints)}\n{kind.gate.said()}")

    def test_alone(self) -> None:
        """A request that comes by itself gets the right verdict."""
        self.rehearse(corpus.alone(case) for case in FIRST)

    def test_followed(self) -> None:
        """A request right behind it is taken for what it is after a good one, and never read after a bad one."""
        self.rehearse(corpus.followed(case) for case in FIRST)

    def test_after_an_answered_request(self) -> None:
        """On a connection that has served a request, the verdict is the same."""
        self.rehearse(corpus.preceded(case, wait=True) for case in corpus.CASES)

    def test_right_behind_a_request(self) -> None:
        """In the same packet as another request, the verdict is the same, and that one is answered first."""
        self.rehearse(corpus.preceded(case, wait=False) for case in corpus.CASES)

    def test_octet_by_octet(self) -> None:
        """However slowly a request comes, the verdict is the same.

        Bodies that are refused late are left to the tests in memory: the gate holds a request back for some time, so
        that nothing of a bad one reaches a backend, but not for as long as this may take.
        """
        self.rehearse(
            corpus.bytewise(case)
            for case in FIRST
            if len(case.request) <= 400 and not (case.name.startswith("B") and case.refused)
        )

    def test_cut_everywhere(self) -> None:
        """Wherever the network cuts a request in two, the verdict is the same."""
        self.rehearse(corpus.cut(case, place) for case in FIRST for place in corpus.cuts(case))
