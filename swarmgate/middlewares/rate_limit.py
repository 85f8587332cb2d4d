"""``rateLimit``: each source may send so many requests in a period, and bursts beyond that.

A request takes a token from its source's bucket. If none is left it waits for the next one, but not longer than half
the time between two; otherwise it is answered 429, with ``Retry-After`` in seconds and ``X-Retry-In`` to the point.

All routers that use a middleware share its buckets, and a new configuration keeps them for as long as the middleware
itself does not change; with Traefik, each router counts for itself, and every change of the configuration fills all
buckets. A bucket is remembered until it is full again, for 65,536 sources.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from swarmgate.http.exchange import reason_of
from swarmgate.limits.interface import Buckets, Rate
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.middlewares.source import SourceCriterion, source_of
from swarmgate.structure import Duration, at_least, not_yet, option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange

KIND = "rateLimit"


@not_yet("redis")
@attrs.frozen
class Settings:
    """Options of ``rateLimit``."""

    average: int = option(default=0, validator=at_least(0), doc="Requests in a period; 0: no limit.")
    period: Duration = option(default=Duration(1), doc="What average is counted in; 0 means one second.")
    burst: int = option(default=1, validator=at_least(0), doc="How many requests may come at once; 0 is the same as 1.")
    source_criterion: SourceCriterion | None = option(
        default=None, doc="What makes requests come from the same source; the peer's address if nothing else is given."
    )


class RateLimit(Middleware):
    """Lets a request pass when its source has a token for it."""

    __slots__ = ("_buckets", "_clock", "_longest_wait", "_source")

    def __init__(self, settings: Settings, context: Context) -> None:
        self._source = source_of(settings.source_criterion)
        self._clock = context.clock
        tokens = settings.average / (settings.period or 1.0)
        # As Traefik: half the time between two tokens, and half a second where that is longer than a second.
        self._longest_wait = 0.5 if tokens < 1 else 0.5 / int(tokens)
        rate = Rate(tokens, max(1, settings.burst), self._longest_wait)
        self._buckets: Buckets = context.keep(
            (KIND, context.name, settings),
            lambda: context.limits.buckets(f"{KIND} {context.name} {settings!r}", rate, context.clock),
        )

    def request(self, exchange: Exchange) -> Deferred[None] | None:
        wait = self._buckets.take(self._source(exchange.request))
        if not wait:
            return None
        if wait <= self._longest_wait:
            return deferLater(self._clock, wait)
        retry = ((b"Retry-After", b"%d" % ceil(wait)), (b"X-Retry-In", str(Duration(wait)).encode("ascii")))
        exchange.answer(429, reason_of(429), retry)
        return None


def build(settings: Settings, context: Context) -> Middleware:
    """The limit for one route; its buckets are those of all routes with the same middleware.

    :raises ValueError: more than one source criterion is given.
    """
    if not settings.average:
        source_of(settings.source_criterion)
        return Middleware()
    return RateLimit(settings, context)
