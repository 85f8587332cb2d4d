"""What a middleware is: a step between a router and its service.

A middleware's module defines

``KIND``
    its option name as Traefik spells it, as ``"rateLimit"``;
``Settings``
    a frozen attrs class, whose fields are made with :func:`swarmgate.structure.option`;
``build(settings, context)``
    the :class:`Middleware` for one route; it raises :exc:`ValueError` with a reason for people where the settings
    contradict each other. It is called again for every new table; what must outlive that (the buckets of a rate
    limit) it gets from ``context.keep``.

and is listed in :mod:`swarmgate.middlewares`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from swarmgate.limits.interface import Limits
from swarmgate.limits.local import LocalLimits

if TYPE_CHECKING:
    from swarmgate.http.deadlines import Deadlines
    from swarmgate.http.exchange import Exchange, Taker
    from swarmgate.http.message import Response
    from swarmgate.transport.network import Network

T = TypeVar("T")


class BodyTransform(Protocol):
    """A body seen, and perhaps changed, piece by piece on its way; its length becomes unknown."""

    def feed(self, data: bytes) -> bytes:
        """What goes on in place of *data*, ``b""`` for nothing yet."""

    def end(self) -> bytes:
        """What still follows at the end of the body."""


class Middleware:
    """A step of a route's chain. It overrides what it needs; what it does not override is never called."""

    __slots__ = ()

    def request(self, exchange: Exchange) -> Deferred[None] | None:
        """Look at the request before it goes on, in the chain's order.

        It may change ``exchange.request``, and it may end the chain with ``exchange.answer(...)``. It returns None,
        or a Deferred that fires when the request may go on (also cancelled when the client leaves meanwhile). An
        exception or a failure answers 500: the request never passes unprotected.
        """
        return None

    def response(self, exchange: Exchange, response: Response) -> None:
        """Look at, and perhaps change, the head of the answer, in reverse order of the chain.

        It is called for answers of the service and for those of middlewares further down the chain, not for the
        step's own.
        """

    def take(self, exchange: Exchange, response: Response) -> Taker | None:
        """What takes the answer in the client's place, None for nothing.

        It is asked after :meth:`response`, of the same answers. A :class:`~swarmgate.http.between.Between` is made for
        it.
        """
        return None

    def request_body(self, exchange: Exchange) -> BodyTransform | None:
        """What the request's body is led through, None for nothing."""
        return None

    def response_body(self, exchange: Exchange, response: Response) -> BodyTransform | None:
        """What the response's body is led through, None for nothing."""
        return None


def _no_service(name: str, exchange: Exchange) -> None:
    exchange.fail(503)


@attrs.frozen
class Context:
    """What a middleware is built with, beside its settings.

    :ivar name: its qualified name, as ``limit@swarm``.
    :ivar router: the qualified name of the router whose chain it is part of, as ``web@swarm``.
    :ivar clock: for the time, and for waiting.
    :ivar keep: ``keep(key, make)`` is the object that was kept under *key* when the last table was built, else
        ``make()``. It lives for as long as each new table asks for it; then its method ``close``, if it has one, is
        called.
    :ivar in_thread: ``in_thread(f, *args)`` calls ``f(*args)`` in a thread and is a Deferred with its result, for work
        that would hold the reactor up; None: there are no threads, and it is called at once.
    :ivar network: for connections of the middleware's own; None: there are none.
    :ivar limits: makes what limits count with: by default in this process's memory.
    :ivar deadlines: of connections; None: those of its own.
    :ivar answer: ``answer(name, exchange)`` has the service of that qualified name answer an exchange; by default
        there is none.
    """

    name: str
    router: str
    clock: IReactorTime
    keep: Callable[[Any, Callable[[], Any]], Any]
    in_thread: Callable[..., Deferred[Any]] | None = None
    network: Network | None = None
    limits: Limits = attrs.field(factory=LocalLimits)
    deadlines: Deadlines | None = None
    answer: Callable[[str, Exchange], None] = _no_service
