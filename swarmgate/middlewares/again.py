"""A request asked again, by a middleware that holds its answer back."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange
    from swarmgate.http.message import Request


class Again:
    """A request as it was when a middleware saw it: before those after it have changed it.

    :ivar request: that; what is changed of it is so each time.
    """

    __slots__ = ("_step", "request")

    def __init__(self, exchange: Exchange) -> None:
        self._step = exchange.passed
        self.request = copied(exchange.request)

    def ask(self, exchange: Exchange) -> None:
        """Lead the request through the middlewares after that one once more."""
        exchange.connection = None
        exchange.retries += 1
        exchange.tried = None
        exchange.request = copied(self.request)
        exchange.read_as_it_comes()
        assert exchange.route is not None
        exchange.route.go_on(exchange, self._step + 1)


def copied(request: Request) -> Request:
    """A copy of *request*, which is not changed where that is."""
    copied = copy(request)
    if copied.block is None:
        copied.fields = list(request.fields)
    return copied
