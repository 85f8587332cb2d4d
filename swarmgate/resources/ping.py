"""Whether the gate is ready, for those who choose among gates (Traefik ``ping``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.web.resource import Resource

from swarmgate.http.exchange import PLAIN_TEXT, Exchange, reason_of


class PingResource(Resource):
    """Answers 200 ``OK`` to any method while *status* says 200, else the status it says."""

    isLeaf = True

    def __init__(self, status: Callable[[], int]) -> None:
        Resource.__init__(self)
        self._status = status

    def serve(self, exchange: Exchange) -> None:
        """Answer *exchange*."""
        status = self._status()
        exchange.answer(status, b"OK" if status == 200 else reason_of(status), (PLAIN_TEXT,))

    def render(self, request: Any) -> bytes:
        status = self._status()
        request.setResponseCode(status)
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        return b"OK" if status == 200 else reason_of(status)
