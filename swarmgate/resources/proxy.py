"""The leaf that sends requests on to a service's servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.web.resource import IResource
from zope.interface import classImplements

from swarmgate.balancing.member import Member
from swarmgate.balancing.sticky import Stickiness
from swarmgate.balancing.strategies import STRATEGIES, Rotation, can_be_asked
from swarmgate.dynamic.model import Balancing
from swarmgate.http.exchange import Exchange
from swarmgate.http.message import Response
from swarmgate.resources.leaf import LeafResource
from swarmgate.resources.waiting import WaitingRoom, answer_no_server

_TRIES_AT_MOST = 3


class ReverseProxyResource(LeafResource):
    """Sends requests to *members*, as *balancing* says, each to one that can be reached.

    :param service: the qualified name.
    :param room: where exchanges may wait while there is none.
    :ivar listens: no (see :class:`~swarmgate.http.server_connection.Chooser`); where answers matter, an
        :class:`Attempt` takes its place.
    """

    listens = False

    def __init__(
        self,
        service: str,
        members: Sequence[Member],
        rotation: Rotation,
        room: WaitingRoom,
        balancing: Balancing,
    ) -> None:
        self.service = service
        self.members = tuple(members)
        for member in members:
            member.is_alone = len(members) == 1
        self.room = room
        self.balancing = balancing
        self._strategy = STRATEGIES[balancing.strategy](self.members, rotation)
        self._pass_host_header = balancing.pass_host_header
        sticky = balancing.sticky
        self.stickiness = None if sticky is None else Stickiness(service, sticky, self.members)
        self._attempts = (
            sticky is not None or balancing.passive_health_check is not None or balancing.strategy == "leasttime"
        )

    def serve(self, exchange: Exchange) -> None:
        """Ask the server whose turn it is."""
        exchange.service = self.service
        member = self._choose(exchange)
        if member is not None:
            self._send(exchange, member)
        elif self.room.admits():
            self.room.enter(exchange)
        else:
            member = self._last_resort()
            if member is not None:
                self._send(exchange, member)
            else:
                answer_no_server(exchange)

    def try_next(self, exchange: Exchange, status: int, was_sent: bool = False) -> None:
        """The last server could not be reached: ask the next one that was not asked yet, or answer *status*.

        :param was_sent: a server may have had the request, so that it must not wait and be sent again and again.
        """
        tried = exchange.tried
        if tried is None:
            tried = exchange.tried = set()
        tried.add(exchange.server)
        member = self._choose(exchange) if len(tried) < _TRIES_AT_MOST else None
        if member is not None:
            exchange.retries += 1
            self._send(exchange, member)
        elif was_sent:
            exchange.fail(status)
        elif self.room.admits():
            self.room.enter(exchange)
        else:
            exchange.unreached(status)

    def has_next(self, exchange: Exchange) -> bool:
        """Whether there is another server to try."""
        tried = {*(exchange.tried or ()), exchange.server}
        return len(tried) < _TRIES_AT_MOST and any(can_be_asked(member, tried) for member in self.members)

    def share_of_time(self, exchange: Exchange) -> float:
        """The part of the time for a connection that the next try may take."""
        return 1 / max(1, min(_TRIES_AT_MOST, len(self.members)))

    def answered(self, exchange: Exchange, response: Response) -> None:
        """Nobody listens."""

    def broke(self, exchange: Exchange) -> None:
        """Nobody listens."""

    def _choose(self, exchange: Exchange) -> Member | None:
        """Who is asked next among those that can be, as far as is known; None if nobody is left."""
        tried = exchange.tried or ()
        if self.stickiness is not None:
            wanted = self.stickiness.member(exchange.request.fields)
            if wanted is not None and can_be_asked(wanted, tried):
                return wanted
        return self._strategy.choose(exchange, tried)

    def is_up(self) -> bool:
        """Whether a server can be asked now, as far as is known."""
        return any(member.is_up() for member in self.members)

    def may_answer(self) -> bool:
        """Whether an exchange may wait for a server, or be tried on one that could not be reached."""
        return self.room.admits() or self._last_resort() is not None

    def _last_resort(self) -> Member | None:
        """Whom to ask where nobody seems to be reachable: to try is better than to give up without.

        Not those whose health check says that they are not well (Traefik).
        """
        members = [member for member in self.members if member.well and member.server.weight > 0]
        return min(members, key=lambda member: member.upstream.failures, default=None)

    def _send(self, exchange: Exchange, member: Member) -> None:
        upstream = member.upstream
        if not self._pass_host_header:
            exchange.request.authority = upstream.authority
        upstream.send(exchange, Attempt(self, member) if self._attempts else self)

    def render(self, request: Any) -> Any:
        """Answer a twisted.web request."""
        from swarmgate.resources.bridge import render_exchange  # with twisted.web's server, which few need

        return render_exchange(request, self)


classImplements(ReverseProxyResource, IResource)


class Attempt:
    """One exchange with one member, of a service to which answers matter."""

    __slots__ = ("_member", "_resource")

    listens = True

    def __init__(self, resource: ReverseProxyResource, member: Member) -> None:
        self._resource = resource
        self._member = member

    def try_next(self, exchange: Exchange, status: int, was_sent: bool = False) -> None:
        self._judge(False)
        self._resource.try_next(exchange, status, was_sent)

    def has_next(self, exchange: Exchange) -> bool:
        return self._resource.has_next(exchange)

    def share_of_time(self, exchange: Exchange) -> float:
        return self._resource.share_of_time(exchange)

    def answered(self, exchange: Exchange, response: Response) -> None:
        member = self._member
        member.answered(exchange.seconds_since_asked())
        self._judge(response.status < 500)
        stickiness = self._resource.stickiness
        if stickiness is not None and not stickiness.leads_to(member, exchange.request.fields):
            stickiness.set(member, response.fields)

    def broke(self, exchange: Exchange) -> None:
        self._judge(False)

    def _judge(self, well: bool) -> None:
        check = self._resource.balancing.passive_health_check
        if check is not None:
            self._member.did(well, check)
