"""The leaf of a service whose children take turns by weight (Traefik ``weighted``)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from swarmgate.balancing.sticky import StickyChildren
from swarmgate.balancing.strategies import Rotation, in_turns
from swarmgate.dynamic.composition import Weighted
from swarmgate.http.exchange import Exchange
from swarmgate.http.message import Response
from swarmgate.resources.composed import Choosing, Chosen, Handed, ServiceLeaf


class WeightedResource(Choosing):
    """Has children take turns, or the one answer that the client's cookie means."""

    def __init__(
        self, service: str, weighted: Weighted, children: Mapping[str, ServiceLeaf], rotation: Rotation
    ) -> None:
        """
        :param rotation: whose turn it is; outlives the tables.
        """
        order = in_turns([child.weight for child in weighted.children])
        self._order = tuple(children[weighted.children[place].name] for place in order)
        Choosing.__init__(self, service, tuple(dict.fromkeys(self._order)))
        self._rotation = rotation
        self._named = children
        self._stickiness = None if weighted.sticky is None else StickyChildren(service, weighted.sticky, children)

    def choose(self, exchange: Exchange, passed: Collection[str] = ()) -> ServiceLeaf | None:
        if self._stickiness is not None:
            child = self._named.get(self._stickiness.child(exchange.request.fields))
            if child is not None and child.service not in passed and child.is_up():
                return child
        order, rotation = self._order, self._rotation
        count = len(order)
        turn = rotation.turn + 1
        down = set(passed)
        for step in range(count):
            place = (turn + step) % count
            child = order[place]
            if child.service not in down:
                if child.is_up():
                    rotation.turn = place
                    return child
                down.add(child.service)
        return None

    def handed(self, exchange: Exchange, child: ServiceLeaf) -> Handed:
        if self._stickiness is None:
            return Chosen(self, exchange, child)
        return _Led(self, self._stickiness, exchange, child)


class _Led(Chosen):
    """Gives the client the cookie that leads to the child that answers."""

    __slots__ = ("_stickiness",)

    def __init__(
        self, service: WeightedResource, stickiness: StickyChildren, exchange: Exchange, child: ServiceLeaf
    ) -> None:
        Chosen.__init__(self, service, exchange, child)
        self._stickiness = stickiness

    def passes(self, exchange: Exchange, response: Response) -> None:
        Chosen.passes(self, exchange, response)
        if self._stickiness.child(exchange.request.fields) != self.child.service:
            self._stickiness.set(self.child.service, response.fields)
