"""Token buckets in Redis, for all gates that ask it, and what is done while it can't be asked.

A decision is one script, which Redis runs by itself alone: buckets are exact, however many gates there are. The time is
Redis' own (``TIME``), so that no two clocks are compared; if it is set back, a source waits no longer than an empty
bucket takes. A bucket is one number, the time at which it is full again (:mod:`swarmgate.limits.token_bucket`), under
a key that expires at that time.

No request waits for a decision longer than it may. A decision that is late is made by a bucket of the process's own, or
not at all. After several in a row, when the connection is lost, or when Redis answers with an error, Redis is not asked
for decisions any more; twice a second it is tried whether it decides in time again. What changes is logged once.
"""

from __future__ import annotations

from hashlib import blake2b, sha1
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from swarmgate.limits.interface import Buckets, Rate, Source

if TYPE_CHECKING:
    from swarmgate.transport.network import Network

_log = Logger()

#: Decisions in a row that are late before Redis is not asked any more.
_LATE_AT_MOST = 3
#: Seconds between two tries, and how many in a row have to be in time.
_TRY_EVERY = 0.5
_TRIES = 2
#: Seconds before a connection is made anew, at first and at most.
_AGAIN_AFTER = 0.25
_AGAIN_AT_MOST = 5.0
#: A late decision may be this process's own fault: if its clock is late too, it gets another turn.
_ANOTHER_TURN = 0.001

#: KEYS: the bucket. ARGV: seconds for a token, for a full bucket, and that may be waited. Returns in how many
#: microseconds the bucket is full, if it has given a token; if it hasn't, the same below -1.
_SCRIPT = b"""
local interval, depth, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local known = tonumber(redis.call('GET', KEYS[1]) or now) or now
local before = math.min(math.max(known, now), now + depth + longest)
local full = before + interval
local wait = full - now - depth
local given = wait < 0.000002 or wait <= longest
if not given then full = before end
if given or known > before then
    redis.call('SET', KEYS[1], string.format('%.6f', full), 'PX', math.ceil((full - now) * 1000))
end
local left = math.floor((full - now) * 1000000)
if given then return left end
return -1 - left
"""
#: Seconds that count as no wait: what the script rounds.
_AT_ONCE = 2e-6
_SCRIPT_NAME = sha1(_SCRIPT, usedforsecurity=False).hexdigest().encode()


class Unavailable(Exception):
    """Nobody can decide now."""


@attrs.frozen
class RedisSettings:
    """Where Redis is, and how long it may take; times in seconds.

    :ivar connections: so many are kept open; each takes any number of decisions at a time.
    :ivar dial_timeout: for a connection to be made.
    :ivar answer_timeout: for an answer, before a connection is taken for broken.
    :ivar decision_timeout: what a request waits for a decision at most.
    """

    host: str
    port: int
    username: str = ""
    password: str = attrs.field(default="", repr=False)
    db: int = 0
    connections: int = 1
    dial_timeout: float = 5.0
    answer_timeout: float = 6.0
    decision_timeout: float = 0.01

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Redis:
    """A Redis that decides, as long as it is well.

    :ivar is_well: whether it is asked.
    :ivar decided: how many decisions it has made; :ivar late: how many came too late, or never.
    """

    def __init__(self, settings: RedisSettings, network: Network, clock: Any, what: str) -> None:
        """Connect.

        :param what: decides by itself as long as Redis doesn't, for the log.
        """
        self.settings = settings
        self.clock = clock
        self.network = network
        self.is_well = False
        self.decided = 0
        self.late = 0
        self._what = what
        #: Why it is not well, once that has been told.
        self._told = ""
        self._late_in_a_row = 0
        self._good_tries = 0
        self._trial: _Decision | None = None
        self._trial_since = 0.0
        self._next_try: Any = None
        self._closed = False
        self._next = 0
        self._links = [_Link(self) for _ in range(settings.connections)]
        for link in self._links:
            link.connect()

    def decide(self, key: bytes, arguments: tuple[bytes, ...]) -> Deferred[int]:
        """Take a token from the bucket *key*. Returns what the script does, or fails with :exc:`Unavailable`."""
        return self._ask(_Decision(self, key, arguments))

    def _ask(self, decision: _Decision) -> Deferred[int]:
        answer = decision.answer
        links = self._links
        self._next += 1
        for number in range(self._next, self._next + len(links)):
            protocol = links[number % len(links)].protocol
            if protocol is not None:
                decision.ask(protocol)
                return answer
        decision.give_up("no connection")
        return answer

    # How it is.

    def connected(self) -> None:
        """A connection can be used."""
        if self._told:
            self._try_soon(0)
        else:
            self.is_well = True

    def failed(self, reason: str) -> None:
        """It can't be asked now, for *reason*, in words that hold no secret."""
        if self._closed:
            return
        self.is_well = False
        self._good_tries = 0
        if not self._told:
            self._told = reason
            _log.error(
                "Redis at {redis} does not decide ({reason}): {what} goes by this gate's own buckets, or refuses, "
                "until it does",
                redis=str(self.settings),
                reason=reason,
                what=self._what,
            )
        self._try_soon(_TRY_EVERY)

    def was_in_time(self) -> None:
        """It has decided in time."""
        self.decided += 1
        self._late_in_a_row = 0

    def was_late(self) -> None:
        """It has not decided in time."""
        self.late += 1
        self._late_in_a_row += 1
        if self._late_in_a_row >= _LATE_AT_MOST:
            self.failed(f"no answer within {self.settings.decision_timeout * 1000:g} ms")

    def _try_soon(self, seconds: float) -> None:
        if self._next_try is None and not self._closed:
            self._next_try = self.clock.callLater(seconds, self._try)

    def _try(self) -> None:
        self._next_try = None
        now = self.clock.seconds()
        if self._trial is not None and not self._trial.has_come:
            if now - self._trial_since > self.settings.answer_timeout:
                self._trial = None
                for link in self._links:
                    link.reset()
            self._try_soon(_TRY_EVERY)
            return
        self._trial = _Decision(self, b"swarmgate:rate:try", (b"0.001", b"1", b"0"))
        self._trial_since = now
        self._ask(self._trial).addCallbacks(self._tried, lambda failure: self._tried(None))

    def _tried(self, wait: int | None) -> None:
        self._good_tries = 0 if wait is None else self._good_tries + 1
        if self._good_tries >= _TRIES and not self.is_well:
            self.is_well = True
            self._told = ""
            self._late_in_a_row = 0
            _log.info("Redis at {redis} decides again for {what}", redis=str(self.settings), what=self._what)
        elif not self.is_well:
            self._try_soon(_TRY_EVERY)

    def close(self) -> None:
        """Ask it no more."""
        self._closed = True
        self.is_well = False
        if self._next_try is not None:
            self._next_try.cancel()
            self._next_try = None
        for link in self._links:
            link.close()

    @property
    def is_closed(self) -> bool:
        """Whether it is not to be asked any more."""
        return self._closed

    def __repr__(self) -> str:
        return f"<Redis {self.settings} {'well' if self.is_well else self._told or 'not connected'}>"


class _Link:
    """A connection to Redis, made anew when it is lost; the factory of the library's protocol."""

    # What the protocol asks of its factory.
    isLazy = False

    def __init__(self, redis: Redis) -> None:
        self.protocol: Any = None
        self._redis = redis
        self._making: Any = None
        self._call: Any = None
        self._pause = _AGAIN_AFTER

    def connect(self) -> None:
        """Make the connection."""
        # It imports the reactor, which only the process that asks Redis has to have by then.
        from txredisapi import RedisProtocol

        redis = self._redis
        settings = redis.settings
        protocol = RedisProtocol(
            password=settings.password or None,
            username=settings.username or None,
            dbid=settings.db or None,
            convertNumbers=False,
        )
        protocol.factory = self
        protocol.whenConnected().addCallback(self._connected)
        protocol.whenDisconnected().addCallback(self._disconnected)
        self._making = protocol
        self._call = redis.clock.callLater(settings.dial_timeout + settings.answer_timeout, self.reset)
        redis.network.connect(settings.host, settings.port, settings.dial_timeout, protocol, self._not_connected)

    def _connected(self, protocol: Any) -> None:
        if protocol is self._making:
            self.protocol = protocol
            self._pause = _AGAIN_AFTER
            self._call.cancel()
            self._redis.connected()

    def _disconnected(self, protocol: Any) -> None:
        if protocol is self._making:
            self._again("the connection is lost")

    def _not_connected(self, error: Exception) -> None:
        self._again(str(error) or type(error).__name__)

    def _again(self, reason: str) -> None:
        self._making = self.protocol = None
        if self._call is not None and self._call.active():
            self._call.cancel()
        redis = self._redis
        if redis.is_closed:
            return
        redis.failed(reason)
        self._call = redis.clock.callLater(self._pause, self.connect)
        self._pause = min(_AGAIN_AT_MOST, self._pause * 2)

    def reset(self) -> None:
        """Give the connection up, and make another."""
        protocol, self._making = self._making, None
        if protocol is not None:
            if protocol.transport is not None:
                protocol.transport.abortConnection()
            self._again("no answer")

    def close(self) -> None:
        """Close the connection."""
        protocol, self._making = self._making, None
        self.protocol = None
        if self._call is not None and self._call.active():
            self._call.cancel()
        if protocol is not None and protocol.transport is not None:
            protocol.transport.loseConnection()

    # The protocol's factory.

    def stopTrying(self) -> None:
        """Redis has refused the user or the database. Both may be mended there, so it is tried again."""

    def connectionError(self, reason: str) -> None:
        """Why it was refused; the library puts Redis' own words there."""
        self._redis.failed(reason)


class _Decision:
    """One script that Redis is asked to run.

    :ivar answer: what the script returns; fails with :exc:`Unavailable`.
    :ivar has_come: Redis has answered, in time or not.
    """

    __slots__ = ("_arguments", "_call", "_due", "_protocol", "_redis", "answer", "has_come")

    def __init__(self, redis: Redis, key: bytes, arguments: tuple[bytes, ...]) -> None:
        self.answer: Deferred[int] = Deferred(self._cancelled)
        self.has_come = False
        self._redis = redis
        self._arguments = (b"1", key, *arguments)
        self._protocol: Any = None
        self._due = 0.0
        self._call: Any = None

    def ask(self, protocol: Any) -> None:
        """Ask by way of *protocol*."""
        redis = self._redis
        seconds = redis.settings.decision_timeout
        self._due = redis.clock.seconds() + seconds
        self._call = redis.clock.callLater(seconds, self._is_late)
        self._protocol = protocol
        asked = maybeDeferred(protocol.execute_command, b"EVALSHA", _SCRIPT_NAME, *self._arguments)
        asked.addCallbacks(self._came, self._failed)

    def _came(self, answer: Any) -> None:
        self.has_come = True
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
            self._redis.was_in_time()
            self.answer.callback(int(answer))

    def _failed(self, failure: Failure) -> None:
        reason = failure.getErrorMessage()
        if reason.startswith("NOSCRIPT"):
            # It has been started anew, or never been asked before.
            asked = maybeDeferred(self._protocol.execute_command, b"EVAL", _SCRIPT, *self._arguments)
            asked.addCallbacks(self._came, self._refused)
        else:
            self._refused(failure)

    def _refused(self, failure: Failure) -> None:
        self.has_come = True
        reason = failure.getErrorMessage()
        self._redis.failed(reason)
        self.give_up(reason)

    def _is_late(self) -> None:
        redis = self._redis
        if redis.clock.seconds() > self._due + redis.settings.decision_timeout / 2 and self._due:
            self._due = 0.0
            self._call = redis.clock.callLater(_ANOTHER_TURN, self._is_late)
            return
        self._call = None
        redis.was_late()
        self.answer.errback(Unavailable("no answer in time"))

    def give_up(self, reason: str) -> None:
        """There will be no answer."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        elif self._protocol is not None:
            return  # It was late, or nobody waits for it any more.
        self.has_come = True
        self.answer.errback(Unavailable(reason))

    def _cancelled(self, _: Deferred[int]) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()


class RedisBuckets:
    """A limit's token buckets in Redis, and copies of them here, for when Redis does not decide.

    :ivar alone: how often it was decided, or given up, without Redis.
    """

    def __init__(self, redis: Redis, name: str, rate: Rate, local: Buckets | None) -> None:
        """
        :param name: the same in all gates that share the limit.
        :param local: the copies; None: there are none, and nobody decides when Redis doesn't.
        """
        self.redis = redis
        self.alone = 0
        self._local = local
        self._key = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=32).digest()
        self._interval, self._depth = 1 / rate.tokens, rate.burst / rate.tokens
        self._longest_wait = rate.longest_wait
        self._arguments = tuple(b"%.9f" % seconds for seconds in (self._interval, self._depth, self._longest_wait))

    def take(self, source: Source) -> float | Deferred[float]:
        """Take a token from the bucket of *source*: the seconds to wait for it, now or a little later.

        :raises Unavailable: nobody can decide; a Deferred may fail with it, too.
        """
        if not self.redis.is_well:
            return self._take_alone(source)
        octets = source if isinstance(source, bytes) else source.encode("utf-8", "surrogateescape")
        # Sources may be secrets, such as keys of an API: Redis sees digests alone.
        key = b"swarmgate:rate:" + blake2b(octets, key=self._key, digest_size=16).hexdigest().encode()
        decision = self.redis.decide(key, self._arguments)
        return decision.addCallbacks(self._decided, self._take_alone_after, (source,), errbackArgs=(source,))

    def _decided(self, answer: int, source: Source) -> float:
        is_given = answer >= 0
        full_in = (answer if is_given else -1 - answer) / 1e6
        if self._local is not None:
            self._local.learn(source, full_in)
        if is_given:
            wait = full_in - self._depth
            return 0.0 if wait < _AT_ONCE else min(wait, self._longest_wait)
        return max(full_in + self._interval - self._depth, self._longest_wait + _AT_ONCE)

    def _take_alone(self, source: Source) -> float:
        self.alone += 1
        if self._local is None:
            raise Unavailable("Redis does not decide")
        return self._local.take(source)

    def _take_alone_after(self, failure: Failure, source: Source) -> float:
        failure.trap(Unavailable)
        return self._take_alone(source)

    def close(self) -> None:
        """Ask Redis no more."""
        self.redis.close()

    def __repr__(self) -> str:
        return f"<RedisBuckets {self.redis!r}>"
