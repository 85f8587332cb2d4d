"""The leaf that sends requests on to a service's servers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import gcd
from typing import Any

from twisted.web.resource import Resource

from swarmgate.http.exchange import Exchange
from swarmgate.http.upstream import Upstream
from swarmgate.resources.bridge import render_exchange
from swarmgate.resources.waiting import WaitingRoom, answer_no_server

_TRIES_AT_MOST = 3


_ROUND_AT_MOST = 1024


def in_turns(weights: Sequence[int]) -> list[int]:
    """The order in which servers of these *weights* take turns, as their places in the list (Traefik ``weight``).

    Whoever has twice the weight has twice the turns, spread over the round; 0 or less has none.
    """
    wanted = {place: weight for place, weight in enumerate(weights) if weight > 0}
    divisor = gcd(*wanted.values())
    total = sum(wanted.values()) // divisor if wanted else 0
    shares = {
        place: weight // divisor
        if total <= _ROUND_AT_MOST
        else max(1, weight // divisor * _ROUND_AT_MOST // 2 // total)
        for place, weight in wanted.items()
    }
    credit = dict.fromkeys(shares, 0)
    order: list[int] = []
    for _ in range(min(sum(shares.values()), max(_ROUND_AT_MOST, len(shares)))):
        for place, share in shares.items():
            credit[place] += share
        place = max(credit, key=lambda place: credit[place])
        credit[place] -= sum(shares.values())
        order.append(place)
    return order


class Rotation:
    """Whose turn it is among a service's servers; outlives the tables."""

    __slots__ = ("turn",)

    def __init__(self) -> None:
        self.turn = -1


class ReverseProxyResource(Resource):
    """Sends requests to *upstreams* in turn, each to one that can be reached.

    :param room: where exchanges may wait while there is none.
    """

    isLeaf = True

    def __init__(
        self,
        service: str,
        upstreams: Sequence[Upstream],
        rotation: Rotation,
        room: WaitingRoom,
        pass_host_header: bool = True,
    ) -> None:
        Resource.__init__(self)
        self.service = service
        self.upstreams = tuple(upstreams)
        self._rotation = rotation
        self._pass_host_header = pass_host_header
        self.room = room

    def serve(self, exchange: Exchange) -> None:
        """Ask the server whose turn it is."""
        exchange.service = self.service
        upstreams = self.upstreams
        if not upstreams:
            if self.room.admits():
                self.room.enter(exchange)
            else:
                answer_no_server(exchange)
            return
        rotation = self._rotation
        turn = rotation.turn = (rotation.turn + 1) % len(upstreams)
        upstream = upstreams[turn]
        if upstream.failures and not upstream.is_due_for_trial():
            reachable = self._next(())
            if reachable is None and self.room.admits():
                self.room.enter(exchange)
                return
            # If all are out, it is better to try one than to give up without.
            upstream = reachable or upstream
        self._send(exchange, upstream)

    def try_next(self, exchange: Exchange, status: int) -> None:
        """The last server could not be reached: ask the next one that was not asked yet, or answer *status*."""
        tried = exchange.tried
        if tried is None:
            tried = exchange.tried = set()
        tried.add(exchange.server)
        upstream = self._next(tried) if len(tried) < _TRIES_AT_MOST else None
        if upstream is not None:
            exchange.retries += 1
            self._send(exchange, upstream)
        elif self.room.admits():
            self.room.enter(exchange)
        else:
            exchange.fail(status)

    def _next(self, tried: Collection[str]) -> Upstream | None:
        """The next server in turn that can be reached, as far as is known, and is not among *tried*."""
        rotation = self._rotation
        count = len(self.upstreams)
        for step in range(1, count + 1):
            turn = (rotation.turn + step) % count
            upstream = self.upstreams[turn]
            if upstream.url not in tried and (not upstream.failures or upstream.is_due_for_trial()):
                rotation.turn = turn
                return upstream
        return None

    def _send(self, exchange: Exchange, upstream: Upstream) -> None:
        if not self._pass_host_header:
            exchange.request.authority = upstream.authority
        upstream.send(exchange, self)

    def render(self, request: Any) -> Any:
        """Answer a twisted.web request."""
        return render_exchange(request, self)
