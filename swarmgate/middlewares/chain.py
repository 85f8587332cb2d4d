"""A route's middlewares in a row, with what answers at its end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from swarmgate.http.exchange import Exchange, Taker
from swarmgate.http.message import Response
from swarmgate.middlewares.interface import Middleware

_log = Logger()


class Leaf(Protocol):
    """What answers an exchange."""

    def serve(self, exchange: Exchange) -> None:
        """Answer *exchange*, now or later."""


class Chain:
    """Leads exchanges through *middlewares*, in order, to *leaf*, and their answers back."""

    __slots__ = ("_leaf", "_request_bodies", "_responses", "_steps", "router")

    def __init__(self, router: str, middlewares: Iterable[Middleware], leaf: Leaf) -> None:
        self.router = router
        self._leaf = leaf
        steps = tuple(middlewares)
        self._steps = tuple(_overridden(step, "request") for step in steps)
        self._responses = tuple(
            (_overridden(step, "response"), _overridden(step, "response_body"), _overridden(step, "take"))
            for step in steps
        )
        self._request_bodies = tuple(
            wrap for wrap in (_overridden(step, "request_body") for step in steps) if wrap is not None
        )

    def serve(self, exchange: Exchange) -> None:
        """Lead *exchange* through."""
        exchange.router = self.router
        if self._steps:
            exchange.route = self
            self._go_on(exchange, 0)
        else:
            self._leaf.serve(exchange)

    def _go_on(self, exchange: Exchange, step: int) -> None:
        steps = self._steps
        # Not the status tells whether a step has answered: what takes its answer may have it asked again.
        answers = exchange.answers
        try:
            while step < len(steps):
                exchange.passed = step
                look = steps[step]
                waiting: Deferred[None] | None = look(exchange) if look is not None else None
                if exchange.answers != answers or exchange.ended:
                    return
                step += 1
                if waiting is not None:
                    exchange.wait_for(waiting)
                    waiting.addCallback(self._waited, exchange, step, answers)
                    waiting.addErrback(self._failed, exchange)
                    return
            exchange.passed = step
            if self._request_bodies:
                transforms = tuple(t for t in (wrap(exchange) for wrap in self._request_bodies) if t is not None)
                if transforms:
                    exchange.lead_request_through(transforms)
                    if exchange.answers != answers or exchange.ended:
                        return  # One of them has found a fault in what was there of the body.
        except Exception:
            self._failed(Failure(), exchange)
            return
        self._leaf.serve(exchange)

    def go_on(self, exchange: Exchange, step: int) -> None:
        """Lead *exchange* through the middlewares from *step* on."""
        self._go_on(exchange, step)

    def _waited(self, _: None, exchange: Exchange, step: int, answers: int) -> None:
        if exchange.answers == answers and not exchange.ended:
            self._go_on(exchange, step)

    def _failed(self, failure: Failure, exchange: Exchange) -> None:
        """A middleware that fails must not let the request pass."""
        if failure.check(CancelledError) and exchange.ended:
            return
        _log.failure("a middleware of {router} failed", failure=failure, router=self.router)
        exchange.fail(500)

    def response_head(self, exchange: Exchange, response: Response) -> Taker | None:
        """Lead the head of an answer back through the middlewares that its request has passed.

        Returns what takes the answer; what has passed is what is before it then.
        """
        for step in range(exchange.passed - 1, -1, -1):
            look, wrap, take = self._responses[step]
            if look is not None:
                look(exchange, response)
            transform = wrap(exchange, response) if wrap is not None else None
            if transform is not None:
                exchange.lead_response_through(transform)
            taker: Taker | None = take(exchange, response) if take is not None else None
            if taker is not None:
                exchange.passed = step
                return taker
        return None


def _overridden(middleware: Middleware, name: str) -> Any:
    """The method called *name*, None where the middleware has left it as it was."""
    return getattr(middleware, name) if getattr(type(middleware), name) is not getattr(Middleware, name) else None
