"""The leaf of a service among whose children the client's address decides (Traefik ``highestRandomWeight``)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from swarmgate.balancing.strategies import score
from swarmgate.dynamic.composition import HighestRandomWeight
from swarmgate.http.exchange import Exchange
from swarmgate.resources.composed import Choosing, ServiceLeaf


class HighestRandomWeightResource(Choosing):
    """Has the same child answer the same client for as long as that is up (rendezvous hashing).

    Of the clients of a child that goes down, each moves to another; nobody else moves.
    """

    def __init__(self, service: str, shared: HighestRandomWeight, children: Mapping[str, ServiceLeaf]) -> None:
        self._weights = {child.name: child.weight for child in shared.children if child.weight > 0}
        Choosing.__init__(self, service, [children[name] for name in self._weights])

    def choose(self, exchange: Exchange, passed: Collection[str] = ()) -> ServiceLeaf | None:
        client = exchange.request.client_ip
        up = [child for child in self.children if child.service not in passed and child.is_up()]
        return max(up, key=lambda child: score(client, child.service, self._weights[child.service]), default=None)
