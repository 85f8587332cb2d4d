"""A leaf for routers whose middlewares answer every request, as a redirection does (Traefik ``noop@internal``)."""

from __future__ import annotations

from swarmgate.http.exchange import Exchange, reason_of


class Noop:
    """Answers 418 to what the middlewares have let pass."""

    def serve(self, exchange: Exchange) -> None:
        exchange.answer(418, reason_of(418))
