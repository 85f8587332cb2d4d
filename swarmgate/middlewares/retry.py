"""``retry``: a request that reached no server, or was answered by one of *status*, is asked again.

Each attempt asks the service anew, so that another server may answer; the middlewares after this one work each time.
That no server could be reached costs nothing of the request, so that any method is asked again; by *status*, only
methods other than POST, PATCH and LOCK, unless *retryNonIdempotentMethod* says so, and for that a body is held back
until all of it is here. What another middleware answers is final. The answer of the last attempt goes out. Between
two attempts there is *initialInterval* at first, and twice that at last.

This comes on top of what happens without it: a server that can't be reached is replaced by another at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from swarmgate.http.gathering import gather
from swarmgate.middlewares.again import Again
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.structure import Duration, StatusRange, at_least, option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange
    from swarmgate.http.message import Response

KIND = "retry"
_NOT_IDEMPOTENT = frozenset((b"POST", b"PATCH", b"LOCK"))


@attrs.frozen
class Settings:
    """Options of ``retry``."""

    attempts: int = option(validator=at_least(1), doc="How often a request is asked at most, the first time included.")
    initial_interval: Duration = option(default=Duration(0), doc="The pause before the second attempt.")
    timeout: Duration = option(default=Duration(0), doc="After this time there is no further attempt; 0: no limit.")
    status: tuple[StatusRange, ...] = option(
        default=(), doc="Answers that are asked for again, as ``502,503-504``; none: no answer is."
    )
    max_request_body_bytes: int = option(
        default=2 * 1024 * 1024,
        validator=at_least(-1),
        doc="A longer body is not held back, and its request not asked again by *status*; -1: no limit.",
    )
    disable_retry_on_network_error: bool = option(
        default=False, doc="A request that reached no server is not asked again."
    )
    retry_non_idempotent_method: bool = option(
        default=False, doc="POST, PATCH and LOCK too are asked again by *status*, though a server may act on both."
    )


class Retry(Middleware):
    """Has requests asked again."""

    __slots__ = ("_clock", "_settings")

    def __init__(self, settings: Settings, context: Context) -> None:
        self._settings = settings
        self._clock = context.clock

    def request(self, exchange: Exchange) -> Deferred[None] | None:
        settings = self._settings
        if settings.attempts == 1 or exchange.request.upgrade:
            return None
        attempts = _Attempts(settings, self._clock, exchange)
        exchange.retrying = attempts
        method = exchange.request.method
        if not settings.status or (method in _NOT_IDEMPOTENT and not settings.retry_non_idempotent_method):
            return None
        if exchange.request.length == 0:
            attempts.body = b""
            return None
        at_most = settings.max_request_body_bytes
        gathering = gather(exchange, at_most if at_most >= 0 else 2**62)
        return gathering.addCallback(attempts.gathered, exchange)


class _Attempts:
    """A request's attempts.

    :ivar body: of the request, None if it can't be sent twice.
    """

    __slots__ = ("_call", "_clock", "_interval", "_left", "_request", "_settings", "_until", "body")

    def __init__(self, settings: Settings, clock: Any, exchange: Exchange) -> None:
        self.body: bytes | None = None
        self._settings = settings
        self._clock = clock
        self._left = settings.attempts - 1
        self._interval = float(settings.initial_interval)
        self._until = clock.seconds() + settings.timeout if settings.timeout else float("inf")
        self._request = Again(exchange)
        self._call: IDelayedCall | None = None

    def gathered(self, whole: bool, exchange: Exchange) -> None:
        # The client has had its 100.
        self._request.request.expects_continue = False
        if whole:
            self.body = exchange.pending

    def takes(self, exchange: Exchange, status: int) -> bool:
        if self.body is None or not any(status in wanted for wanted in self._settings.status):
            return False
        return self._again(exchange)

    def takes_unreached(self, exchange: Exchange) -> bool:
        if self._settings.disable_retry_on_network_error or (self.body is None and exchange.is_transformed):
            return False
        return self._again(exchange)

    def passes(self, exchange: Exchange, response: Response) -> None:
        """Nothing is to be done to it."""

    def _again(self, exchange: Exchange) -> bool:
        if self._left <= 0 or self._clock.seconds() + self._interval > self._until:
            return False
        self._left -= 1
        connection, exchange.connection = exchange.connection, None
        if connection is not None:
            connection.cancel()
        # Not from within whoever tells of the answer, nor before the pause is over.
        self._call = self._clock.callLater(self._interval, self._ask, exchange)
        exchange.connection = self
        self._interval *= 2 ** (1 / max(1, self._settings.attempts - 1))
        return True

    def cancel(self) -> None:
        """The client has left."""
        if self._call is not None and self._call.active():
            self._call.cancel()

    def _ask(self, exchange: Exchange) -> None:
        self._call = None
        if exchange.ended or exchange.status or exchange.connection is not self:
            return
        if self.body is not None:
            exchange.taken = False
            exchange.pending = self.body
        self._request.ask(exchange)


def build(settings: Settings, context: Context) -> Middleware:
    """The retries of one route."""
    return Retry(settings, context)
