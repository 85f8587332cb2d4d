"""``inFlightReq``: each source may have so many requests under way at the same time; one more is answered 429.

A request is under way until its answer has been sent, or it or its client is gone; a websocket until it is closed. It
counts once, however often it is asked again.

All routers that use a middleware share its counts, and a new configuration keeps them, also if only the amount
changes; with Traefik, each router counts for itself, and every change of the configuration forgets what is under way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from swarmgate.http.exchange import reason_of
from swarmgate.limits.interface import Counts
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.middlewares.source import SourceCriterion, source_of
from swarmgate.structure import at_least, option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange

KIND = "inFlightReq"
_BY_HOST = SourceCriterion(request_host=True)


@attrs.frozen
class Settings:
    """Options of ``inFlightReq``."""

    amount: int = option(
        validator=at_least(0), doc="How many requests of one source may be under way; 0: none, all are refused."
    )
    source_criterion: SourceCriterion | None = option(
        default=None,
        doc="What makes requests come from the same source; the host that is asked for if nothing else is given.",
    )


class InFlightReq(Middleware):
    """Lets a request pass when its source has few enough under way."""

    __slots__ = ("_amount", "_counts", "_source")

    def __init__(self, settings: Settings, context: Context) -> None:
        self._amount = settings.amount
        criterion = settings.source_criterion
        if criterion is None or criterion == SourceCriterion():
            criterion = _BY_HOST
        self._source = source_of(criterion)
        self._counts: Counts = context.keep(
            (KIND, context.name, criterion), lambda: context.limits.counts(f"{KIND} {context.name} {criterion!r}")
        )

    def request(self, exchange: Exchange) -> None:
        counts = self._counts
        if exchange.places is not None and any(places is counts for places, _ in exchange.places):
            return  # It is asked again.
        place = counts.enter(self._source(exchange.request), self._amount)
        if place is None:
            exchange.answer(429, reason_of(429))
        else:
            exchange.hold(counts, place)


def build(settings: Settings, context: Context) -> Middleware:
    """The limit for one route; its counts are those of all routes with the same middleware.

    :raises ValueError: more than one source criterion is given.
    """
    return InFlightReq(settings, context)
