"""The leaf that sends requests on to a service's servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.web.resource import Resource

from swarmgate.http.exchange import NO_SNIFFING, PLAIN_TEXT, Exchange
from swarmgate.http.upstream import Upstream
from swarmgate.resources.bridge import render_exchange

_TRIES_AT_MOST = 3


class Rotation:
    """Whose turn it is among a service's servers; outlives the tables."""

    __slots__ = ("turn",)

    def __init__(self) -> None:
        self.turn = -1


class ReverseProxyResource(Resource):
    """Sends requests to *upstreams* in turn, each to one that can be reached."""

    isLeaf = True

    def __init__(
        self, service: str, upstreams: Sequence[Upstream], rotation: Rotation, pass_host_header: bool = True
    ) -> None:
        Resource.__init__(self)
        self.service = service
        self.upstreams = tuple(upstreams)
        self._rotation = rotation
        self._pass_host_header = pass_host_header

    def serve(self, exchange: Exchange) -> None:
        """Ask the server whose turn it is."""
        exchange.service = self.service
        upstreams = self.upstreams
        if not upstreams:
            exchange.answer(503, b"no available server\n", (PLAIN_TEXT, NO_SNIFFING))
            return
        rotation = self._rotation
        turn = rotation.turn = (rotation.turn + 1) % len(upstreams)
        upstream = upstreams[turn]
        if not self._pass_host_header:
            exchange.request.authority = upstream.authority
        upstream.send(exchange, self)

    def try_next(self, exchange: Exchange, status: int) -> None:
        """The last server could not be reached: ask the next one that was not asked yet, or answer *status*."""
        tried = exchange.tried
        if tried is None:
            tried = exchange.tried = set()
        tried.add(exchange.server)
        rotation = self._rotation
        if len(tried) < _TRIES_AT_MOST:
            count = len(self.upstreams)
            for step in range(1, count + 1):
                turn = (rotation.turn + step) % count
                upstream = self.upstreams[turn]
                if upstream.url not in tried:
                    rotation.turn = turn
                    exchange.retries += 1
                    if not self._pass_host_header:
                        exchange.request.authority = upstream.authority
                    upstream.send(exchange, self)
                    return
        exchange.fail(status)

    def render(self, request: Any) -> Any:
        """Answer a twisted.web request."""
        return render_exchange(request, self)
