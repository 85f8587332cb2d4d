"""What the leaves of services that are made of other services have in common.

A child that is down is passed over. One that turns out to be unreachable has had nothing of the request, so that
another one is asked. Once a server has a request, the answer is that child's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from swarmgate.http.exchange import Exchange, Retrying
from swarmgate.http.message import Response
from swarmgate.middlewares.chain import Leaf


class ServiceLeaf(Leaf, Protocol):
    """What answers for a service.

    :ivar service: its qualified name.
    """

    service: str

    def is_up(self) -> bool:
        """Whether a server can be asked now, as far as is known."""

    def may_answer(self) -> bool:
        """Whether an exchange may wait for a server, or be tried on one that could not be reached."""


class Handed:
    """Stands behind an exchange that was handed to a child: may have another one asked, before anybody else may.

    :param outer: who else may have the request asked again.
    """

    __slots__ = ("_authority", "_outer")

    def __init__(self, exchange: Exchange) -> None:
        self._outer: Retrying | None = exchange.retrying
        self._authority = exchange.request.authority

    def hand(self, exchange: Exchange, child: ServiceLeaf) -> None:
        """Have *child* answer, as if nobody else had been asked."""
        exchange.tried = None
        exchange.retries += 1
        exchange.request.authority = self._authority
        child.serve(exchange)

    def takes(self, exchange: Exchange, status: int) -> bool:
        outer = self._outer
        if outer is None:
            return False
        exchange.retrying = outer
        if outer.takes(exchange, status):
            return True
        exchange.retrying = self
        return False

    def takes_unreached(self, exchange: Exchange) -> bool:
        outer = exchange.retrying = self._outer
        return outer is not None and outer.takes_unreached(exchange)

    def passes(self, exchange: Exchange, response: Response) -> None:
        if self._outer is not None:
            self._outer.passes(exchange, response)


class Choosing:
    """Hands each exchange to one of *children*, whom :meth:`choose` chooses.

    :param service: the qualified name.
    """

    def __init__(self, service: str, children: Sequence[ServiceLeaf]) -> None:
        self.service = service
        self.children = tuple(children)

    def choose(self, exchange: Exchange, passed: Collection[str] = ()) -> ServiceLeaf | None:
        """Who is next among children that are up and whose names are not *passed*; None: nobody."""
        raise NotImplementedError

    def serve(self, exchange: Exchange) -> None:
        """Hand it to a child that is up, else to one that may answer all the same."""
        child = self.choose(exchange)
        if child is None:
            child = next((one for one in self.children if one.may_answer()), self.children[0])
        exchange.retrying = self.handed(exchange, child)
        child.serve(exchange)

    def handed(self, exchange: Exchange, child: ServiceLeaf) -> Handed:
        """What stands behind an exchange that *child* gets."""
        return Chosen(self, exchange, child)

    def is_up(self) -> bool:
        return any(child.is_up() for child in self.children)

    def may_answer(self) -> bool:
        return any(child.may_answer() for child in self.children)


class Chosen(Handed):
    """The same of an exchange for which a child was chosen."""

    __slots__ = ("_passed", "_service", "child")

    def __init__(self, service: Choosing, exchange: Exchange, child: ServiceLeaf) -> None:
        Handed.__init__(self, exchange)
        self._service = service
        self._passed: set[str] = set()
        self.child = child

    def takes_unreached(self, exchange: Exchange) -> bool:
        self._passed.add(self.child.service)
        child = self._service.choose(exchange, self._passed)
        if child is None:
            return Handed.takes_unreached(self, exchange)
        self.child = child
        self.hand(exchange, child)
        return True
