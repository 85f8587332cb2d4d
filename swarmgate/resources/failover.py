"""The leaf of a service that another one stands in for while it is down (Traefik ``failover``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from swarmgate.dynamic.composition import Failover
from swarmgate.http.exchange import Exchange, reason_of
from swarmgate.http.gathering import gather
from swarmgate.resources.composed import Handed, ServiceLeaf
from swarmgate.resources.waiting import answer_no_server

if TYPE_CHECKING:
    from twisted.python.failure import Failure

_log = Logger()


class FailoverResource:
    """Has the first of two children answer that is up; the second also in place of certain answers of the first.

    :param service: the qualified name.
    """

    def __init__(
        self, service: str, failover: Failover, children: Mapping[str, ServiceLeaf], clock: IReactorTime
    ) -> None:
        self.service = service
        self.clock = clock
        self.fallback = children.get(failover.fallback)
        self.statuses = failover.statuses
        self._main = children.get(failover.service)
        self._both = tuple(child for child in (self._main, self.fallback) if child is not None)
        self._at_most = failover.max_request_body_bytes

    def is_up(self) -> bool:
        return any(child.is_up() for child in self._both)

    def may_answer(self) -> bool:
        return any(child.may_answer() for child in self._both)

    def serve(self, exchange: Exchange) -> None:
        """Hand it to the first child that is up, else to the first that may answer all the same."""
        may_fall_over = self.statuses and self.fallback is not None and not exchange.request.upgrade
        if may_fall_over and self._main is not None and self._choose() is self._main:
            at_most = self._at_most if self._at_most >= 0 else 2**62
            gather(exchange, at_most).addCallback(self._gathered, exchange).addErrback(_failed, exchange)
        else:
            self._hand(exchange)

    def _choose(self) -> ServiceLeaf | None:
        up = (child for child in self._both if child.is_up())
        return next(up, None) or next((child for child in self._both if child.may_answer()), None)

    def _gathered(self, whole: bool, exchange: Exchange) -> None:
        if not whole and 0 <= self._at_most < max(exchange.request.length, len(exchange.pending)):
            exchange.service = self.service
            exchange.answer(413, reason_of(413))
        else:
            self._hand(exchange, exchange.pending if whole else None)

    def _hand(self, exchange: Exchange, body: bytes | None = None) -> None:
        child = self._choose()
        if child is None:
            exchange.service = self.service
            answer_no_server(exchange, b"Service Unavailable\n")
            return
        if child is not self.fallback and self.fallback is not None:
            exchange.retrying = _Guarded(self, exchange, self.fallback, body)
        child.serve(exchange)


def _failed(failure: Failure, exchange: Exchange) -> None:
    _log.failure("a request that was waited for can't be passed on", failure=failure)
    exchange.fail(500)


class _Guarded(Handed):
    """Has the fallback asked if the first child can't be reached, or its answer is one of those that don't count.

    :param body: of the request, None if it can't be sent twice.
    """

    __slots__ = ("_body", "_fallback", "_service")

    def __init__(
        self, service: FailoverResource, exchange: Exchange, fallback: ServiceLeaf, body: bytes | None = None
    ) -> None:
        Handed.__init__(self, exchange)
        self._service = service
        self._fallback = fallback
        self._body = body

    def takes_unreached(self, exchange: Exchange) -> bool:
        if not self._fallback.is_up():
            return Handed.takes_unreached(self, exchange)
        exchange.retrying = self._outer
        self.hand(exchange, self._fallback)
        return True

    def takes(self, exchange: Exchange, status: int) -> bool:
        counts = self._body is None or not any(status in one for one in self._service.statuses)
        if counts or not self._fallback.is_up():
            return Handed.takes(self, exchange, status)
        exchange.cancel_server()
        # Not from within whoever tells of the answer.
        self._service.clock.callLater(0, self._ask, exchange)
        exchange.connection = self
        return True

    def cancel(self) -> None:
        """The client has left; nobody has been asked yet."""

    def _ask(self, exchange: Exchange) -> None:
        if exchange.ended or exchange.status or exchange.connection is not self:
            return
        assert self._body is not None
        exchange.connection = None
        exchange.taken = False
        exchange.pending = self._body
        exchange.retrying = self._outer
        self.hand(exchange, self._fallback)
