"""``rateLimit``: each source may send so many requests in a period, and bursts beyond that.

A request takes a token from its source's bucket. If none is left it waits for the next one, but not longer than half
the time between two; otherwise it is answered 429, with ``Retry-After`` in seconds and ``X-Retry-In`` to the point.

All routers that use a middleware share its buckets, and a new configuration keeps them for as long as the middleware
itself does not change; with Traefik, each router counts for itself, and every change of the configuration fills all
buckets. A bucket is remembered until it is full again, for 65,536 sources.

With *redis*, all gates that use the same Redis, and the same middleware with equal options, share its buckets. Redis
decides by its own clock, in one step, so that the limit is exact however many gates there are. A request waits for
that no longer than *decisionTimeout*; a decision that does not come in time is made by this gate's own buckets, or,
with *denyOnError*, the request is answered 503. A Redis that is slow or gone is not asked for each request: it is
tried twice a second, and asked again when it has decided in time twice. Both changes are logged.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from swarmgate.http.exchange import reason_of
from swarmgate.limits.interface import Buckets, Rate
from swarmgate.limits.redis import RedisBuckets, Unavailable
from swarmgate.middlewares.client_tls import contents_of, files_of
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.middlewares.redis_option import RedisOptions, redis_buckets
from swarmgate.middlewares.source import SourceCriterion, source_of
from swarmgate.structure import Duration, at_least, option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange

KIND = "rateLimit"


@attrs.frozen
class Settings:
    """Options of ``rateLimit``."""

    average: int = option(default=0, validator=at_least(0), doc="Requests in a period; 0: no limit.")
    period: Duration = option(default=Duration(1), doc="What average is counted in; 0 means one second.")
    burst: int = option(default=1, validator=at_least(0), doc="How many requests may come at once; 0 is the same as 1.")
    source_criterion: SourceCriterion | None = option(
        default=None, doc="What makes requests come from the same source; the peer's address if nothing else is given."
    )
    redis: RedisOptions | None = option(
        default=None, doc="Where the buckets are that all gates share; none: each gate has its own."
    )


class _RateLimit(Middleware):
    """What both kinds of rate limits have in common."""

    __slots__ = ("_clock", "_longest_wait", "_name", "_rate", "_source")

    def __init__(self, settings: Settings, context: Context) -> None:
        self._source = source_of(settings.source_criterion)
        self._clock = context.clock
        tokens = settings.average / (settings.period or 1.0)
        # As Traefik: half the time between two tokens, and half a second where that is longer than a second.
        self._longest_wait = 0.5 if tokens < 1 else 0.5 / int(tokens)
        self._rate = Rate(tokens, max(1, settings.burst), self._longest_wait)
        self._name = f"{KIND} {context.name} {attrs.evolve(settings, redis=None)!r}"

    def _wait(self, wait: float, exchange: Exchange) -> Deferred[None] | None:
        if not wait:
            return None
        if wait <= self._longest_wait:
            return deferLater(self._clock, wait)
        retry = ((b"Retry-After", b"%d" % ceil(wait)), (b"X-Retry-In", str(Duration(wait)).encode("ascii")))
        exchange.answer(429, reason_of(429), retry)
        return None


class RateLimit(_RateLimit):
    """Lets a request pass when its source has a token for it."""

    __slots__ = ("_buckets",)

    def __init__(self, settings: Settings, context: Context) -> None:
        super().__init__(settings, context)
        self._buckets: Buckets = context.keep(
            (KIND, context.name, settings),
            lambda: context.limits.buckets(self._name, self._rate, context.clock),
        )

    def request(self, exchange: Exchange) -> Deferred[None] | None:
        wait = self._buckets.take(self._source(exchange.request))
        return self._wait(wait, exchange) if wait else None


class RedisRateLimit(_RateLimit):
    """Lets a request pass when its source has a token for it in Redis."""

    __slots__ = ("_buckets",)

    def __init__(self, settings: Settings, options: RedisOptions, context: Context) -> None:
        super().__init__(settings, context)
        self._buckets: RedisBuckets | Buckets = context.keep(
            (KIND, context.name, settings, contents_of(options.tls)),
            lambda: redis_buckets(options, self._name, self._rate, context),
        )

    def request(self, exchange: Exchange) -> Deferred[None] | None:
        try:
            decision = self._buckets.take(self._source(exchange.request))
        except Unavailable:
            _refuse(exchange)
            return None
        if isinstance(decision, float):
            return self._wait(decision, exchange)
        return decision.addCallbacks(self._wait, self._failed, (exchange,), errbackArgs=(exchange,))

    @staticmethod
    def _failed(failure: Failure, exchange: Exchange) -> None:
        failure.trap(Unavailable)
        _refuse(exchange)


def _refuse(exchange: Exchange) -> None:
    exchange.answer(503, reason_of(503), ((b"Retry-After", b"1"),))


def files(settings: Settings) -> tuple[str, ...]:
    """The files that it is made from."""
    return () if settings.redis is None else files_of(settings.redis.tls)


def build(settings: Settings, context: Context) -> Middleware:
    """The limit for one route; its buckets are those of all routes with the same middleware.

    :raises ValueError: more than one source criterion is given, or Redis can't be reached so.
    """
    if not settings.average:
        source_of(settings.source_criterion)
        return Middleware()
    if settings.redis is not None:
        return RedisRateLimit(settings, settings.redis, context)
    return RateLimit(settings, context)
