"""``buffering``: a server gets requests whole, and a client answers whole: who is slow holds only the gate up.

A body is kept in memory, or, if it is longer than *memRequestBodyBytes* or *memResponseBodyBytes*, in a temporary file
without a name. All bodies together take 64 MiB of each worker's memory and 1 GiB of the folder that ``TMPDIR`` names
(``/tmp``); what does not fit in there is answered 503. A request that is too long is answered 413, as soon as its
``Content-Length`` says so; in place of an answer that is too long goes a 500.

By *retryExpression* a request is asked again, body and all, up to ten times; another server may answer then. It is
made of ``IsNetworkError()``, which holds if no server has answered (502 or 504), and ``Attempts()`` and
``ResponseCode()``, which are compared with numbers by ``==``, ``!=``, ``<``, ``<=``, ``>`` and ``>=``; and of ``&&``,
``||``, ``!`` and parentheses. Servers may act on each attempt, whatever the method: that is for the expression to know.

Left as they are, without limits: tunnels (WebSockets), and answers that are streams: ``text/event-stream`` and gRPC.
Requests of gRPC are kept like others, so that streams from the client don't work with this middleware.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from swarmgate.http.between import Between
from swarmgate.http.exchange import reason_of
from swarmgate.http.message import UNKNOWN, Fields, Response, field
from swarmgate.middlewares.again import Again
from swarmgate.middlewares.expressions import Condition, Measure, condition_of
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.middlewares.spool import Spool
from swarmgate.structure import at_least, option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Client, Exchange

KIND = "buffering"

_log = Logger()
#: Attempts at most, the first included (Traefik).
_ATTEMPTS_AT_MOST = 10


@attrs.frozen
class Settings:
    """Options of ``buffering``."""

    max_request_body_bytes: int = option(
        default=0, validator=at_least(0), doc="A longer request is answered 413; 0: no limit."
    )
    mem_request_body_bytes: int = option(
        default=1048576, validator=at_least(0), doc="A longer request is kept in a file until all of it is here."
    )
    max_response_body_bytes: int = option(
        default=0, validator=at_least(0), doc="In place of a longer answer 500 is sent; 0: no limit."
    )
    mem_response_body_bytes: int = option(
        default=1048576, validator=at_least(0), doc="A longer answer is kept in a file until all of it is here."
    )
    retry_expression: str = option(
        default="", doc="When a request is asked again, as ``IsNetworkError() && Attempts() < 3``; empty: never."
    )


@attrs.frozen
class Attempt:
    """What an expression is about: the number of the attempt, from 1, and the status of its answer."""

    number: int
    status: int


_MEASURES = {
    one.name.lower(): one
    for one in (
        Measure("IsNetworkError", lambda: lambda attempt: attempt.status in (502, 504), is_truth=True),
        Measure("Attempts", lambda: lambda attempt: attempt.number),
        Measure("ResponseCode", lambda: lambda attempt: attempt.status),
    )
}
_EXAMPLE = "IsNetworkError(), Attempts() < 3 or ResponseCode() == 503"


def retry_condition(text: str) -> Condition | None:
    """What *text*, a retryExpression, asks of an :class:`Attempt`; None if it is empty.

    :raises ValueError: it is none; says what was expected.
    """
    return condition_of(text, "retryExpression", _MEASURES, _EXAMPLE) if text.strip() else None


class Buffering(Middleware):
    """Keeps bodies until they are whole."""

    __slots__ = ("condition", "context", "settings")

    def __init__(self, settings: Settings, context: Context) -> None:
        self.settings = settings
        self.context = context
        self.condition = retry_condition(settings.retry_expression)

    def request(self, exchange: Exchange) -> Deferred[None] | None:
        request = exchange.request
        if request.upgrade:
            return None
        at_most = self.settings.max_request_body_bytes
        size = len(exchange.pending) if exchange.body_done else request.length
        if at_most and size > at_most:
            exchange.answer(413, reason_of(413))
            return None
        buffered = _Buffered(self, exchange)
        exchange.remember(self, buffered)
        if exchange.body_done:
            buffered.body = exchange.pending
            buffered.is_ready(exchange)
            return None
        return buffered.gather()

    def take(self, exchange: Exchange, response: Response) -> _Answer | None:
        buffered: _Buffered | None = exchange.recall(self)
        if buffered is None or not buffered.ready or _is_stream(response):
            return None
        return _Answer(exchange.client, exchange, buffered)

    def spool(self, exchange: Exchange, in_memory: int, hold: Any) -> Spool:
        """A spool for a body of *exchange*."""
        spool = Spool(in_memory, self.context.in_thread, hold)
        exchange.hold(spool, None)
        return spool


def _is_stream(response: Response) -> bool:
    kind = (field(response.fields, b"content-type") or b"").strip().lower()
    return kind.startswith((b"text/event-stream", b"application/grpc"))


class _Buffered:
    """What is kept of one exchange.

    :ivar body: of the request, None if it is in a file.
    :ivar ready: the body is here.
    :ivar again: the request as it is asked, None before that, and if it never is again.
    """

    __slots__ = ("_exchange", "_replay", "again", "attempts", "body", "ready", "step")

    def __init__(self, step: Buffering, exchange: Exchange) -> None:
        self.step = step
        self.attempts = 1
        self.body: bytes | None = None
        self.ready = False
        self.again: Again | None = None
        self._exchange = exchange
        self._replay: _Replay | None = None

    def gather(self) -> Deferred[None]:
        """Wait until the request's body is here."""
        exchange = self._exchange
        intake = _Intake(self.step, exchange)
        ready = intake.ready.addCallback(self._gathered, exchange.answers)
        intake.start()
        return ready

    def _gathered(self, spool: Spool, answers: int) -> None:
        exchange = self._exchange
        if exchange.ended or exchange.answers != answers:
            return
        request = exchange.request
        if request.length == UNKNOWN and not exchange.trailers:
            request.length = spool.size
        if spool.is_in_memory:
            # The spool goes on counting it, until the exchange has ended.
            self.body = spool.octets()
            exchange.give_back(self.body)
        else:
            exchange.give_back(b"")
            self._replay = _Replay(exchange.client, exchange, spool)
            exchange.client = self._replay
            self._replay.rewind()
        self.is_ready(exchange)

    def is_ready(self, exchange: Exchange) -> None:
        """The body is here, and the request goes on."""
        self.ready = True
        if self.step.condition is not None:
            self.again = Again(exchange)

    def wants_again(self, status: int) -> bool:
        """Whether the request is to be asked again after an answer of *status*."""
        condition = self.step.condition
        return condition is not None and self.attempts < _ATTEMPTS_AT_MOST and condition(Attempt(self.attempts, status))

    def ask_again(self) -> None:
        """Ask, from outside of whatever tells of the answer."""
        exchange = self._exchange
        self.attempts += 1
        pause = _Pause()
        exchange.connection = pause
        pause.call = self.step.context.clock.callLater(0, self._ask, pause)

    def _ask(self, pause: _Pause) -> None:
        exchange = self._exchange
        if exchange.ended or exchange.connection is not pause:
            return
        exchange.taken = False
        if self._replay is None:
            exchange.pending = self.body or b""
        else:
            self._replay.rewind()
        assert self.again is not None
        self.again.ask(exchange)


class _Pause:
    """Has the place of a server until the next one is asked."""

    call: Any = None

    def cancel(self) -> None:
        if self.call is not None and self.call.active():
            self.call.cancel()


class _Intake:
    """Takes a request's body, as a server does.

    :ivar ready: fires with the spool that all of it is in.
    """

    def __init__(self, step: Buffering, exchange: Exchange) -> None:
        self.ready: Deferred[Spool] = Deferred()
        self._exchange = exchange
        self._at_most = step.settings.max_request_body_bytes
        self._spool = step.spool(exchange, step.settings.mem_request_body_bytes, self._hold)
        self._holds = False
        self._is_over = False

    def start(self) -> None:
        exchange = self._exchange
        pending = exchange.connect(self)
        if pending:
            self.body_data(pending)
        if self._is_over:
            return
        if exchange.request.expects_continue:
            exchange.client.send_interim(Response(100, b"Continue", [], 0))
            exchange.request.expects_continue = False
        if not self._holds:
            exchange.client.resume_body()

    def body_data(self, data: bytes) -> None:
        if self._is_over:
            return
        spool = self._spool
        if self._at_most and spool.size + len(data) > self._at_most:
            self._refuse(413)
            return
        spool.write(data)

    def body_end(self, trailers: Fields) -> None:
        if not self._is_over:
            self._is_over = True
            self._spool.finish().addCallbacks(self._is_whole, self._is_full)

    def cancel(self) -> None:
        """The client has left; the spool is closed by the exchange."""
        self._is_over = True

    def _hold(self, holds: bool) -> None:
        self._holds = holds
        exchange = self._exchange
        if self._is_over or exchange.ended:
            return
        if self._spool.failed is not None:
            self._is_full(Failure(self._spool.failed))
        elif holds:
            exchange.client.pause_body()
        else:
            exchange.client.resume_body()

    def _is_whole(self, _: None) -> None:
        if not self.ready.called:
            self.ready.callback(self._spool)

    def _is_full(self, failure: Failure) -> None:
        if not self._exchange.ended:
            _log.error("a request can't be kept: {reason}", reason=failure.getErrorMessage())
            self._refuse(503)

    def _refuse(self, status: int) -> None:
        self._is_over = True
        self._spool.close()
        self._exchange.answer(status, reason_of(status))
        if not self.ready.called:
            self.ready.callback(self._spool)


class _Replay(Between):
    """Gives a body that is in a file to servers as they take it, in the client's place."""

    def __init__(self, client: Client, exchange: Exchange, spool: Spool) -> None:
        Between.__init__(self, client)
        self._exchange = exchange
        self._spool = spool
        self._trailers = exchange.trailers
        self._turn = 0
        self._place = 0
        self._flows = False
        self._reads = False

    def rewind(self) -> None:
        """Begin anew with the next server."""
        self._turn += 1
        self._place = 0
        self._flows = self._reads = False
        exchange = self._exchange
        exchange.pending = b""
        exchange.body_done = False
        exchange.received = 0

    def pause_body(self) -> None:
        self._flows = False

    def resume_body(self) -> None:
        self._flows = True
        self._go_on()

    def _go_on(self) -> None:
        if self._flows and not self._reads and not self._exchange.body_done:
            self._reads = True
            self._spool.read(self._place).addCallback(self._read, self._turn).addErrback(self._failed)

    def _read(self, data: bytes, turn: int) -> None:
        exchange = self._exchange
        if turn != self._turn:
            return
        self._reads = False
        if exchange.ended or not exchange.taken or exchange.connection is None:
            self._flows = False
            return
        self._place += len(data)
        done = self._place >= self._spool.size or not data
        exchange.body_data(data, done, self._trailers if done else [])
        self._go_on()

    def _failed(self, failure: Failure) -> None:
        if not self._exchange.ended:
            _log.failure("a request that is in a file can't be read", failure=failure)
            self._exchange.fail(500)


class _Answer(Between):
    """Takes an answer until it is whole."""

    def __init__(self, client: Client, exchange: Exchange, buffered: _Buffered) -> None:
        Between.__init__(self, client)
        self._exchange = exchange
        self._buffered = buffered
        step = buffered.step
        self._at_most = step.settings.max_response_body_bytes
        self._kept: Spool | None = None
        self._response: Any = None
        self._producer: Any = None
        self._holds = False
        self._is_over = False

    def send_head(self, exchange: Exchange, response: Response, data: bytes, done: bool) -> None:
        self._response = response
        if self._buffered.wants_again(response.status):
            self._give_up()
            self._buffered.ask_again()
            return
        has_body = exchange.request.method != b"HEAD" and response.status not in (204, 304)
        if has_body and self._at_most and max(response.length, len(data)) > self._at_most:
            self._refuse(500)
        elif not has_body or (done and len(data) <= self._buffered.step.settings.mem_response_body_bytes):
            self._is_over = True
            if has_body:
                response.length = len(data)
            exchange.take_back()
            exchange.pass_on(response, data, done)
        else:
            if data:
                self.send_data(data)
            if done:
                self.send_end([])

    @property
    def _spool(self) -> Spool:
        """Where it is kept; most are whole at once, and need none."""
        if self._kept is None:
            step = self._buffered.step
            self._kept = step.spool(self._exchange, step.settings.mem_response_body_bytes, self._hold)
        return self._kept

    def send_data(self, data: bytes) -> None:
        if self._is_over:
            return
        spool = self._spool
        if self._at_most and spool.size + len(data) > self._at_most:
            self._refuse(500)
            return
        spool.write(data)

    def send_end(self, trailers: Fields) -> None:
        if not self._is_over:
            self._is_over = True
            self._producer = None
            if self._exchange.connection is None:
                self._exchange.connection = self  # Until it is written.
            kept = self._spool.finish().addCallbacks(self._is_whole, self._is_full, (trailers,))
            kept.addErrback(self._failed)

    def abort(self) -> None:
        """The server has broken off: as if it had not answered."""
        if self._is_over:
            return
        self._give_up()
        if self._buffered.wants_again(502):
            self._buffered.ask_again()
        else:
            self._exchange.fail(502)

    def feed_from(self, producer: Any) -> None:
        self._producer = producer
        if producer is not None and self._holds:
            producer.pauseProducing()

    def cancel(self) -> None:
        """The client has left."""
        self._is_over = True

    def _hold(self, holds: bool) -> None:
        if self._spool.failed is not None and not self._is_over:
            self._is_full(Failure(self._spool.failed))
        if self._holds == holds:
            return
        self._holds = holds
        producer = self._producer
        if producer is not None and not self._is_over:
            (producer.pauseProducing if holds else producer.resumeProducing)()

    def _give_up(self) -> None:
        """Let go of the answer."""
        self._is_over = True
        if self._kept is not None:
            self._kept.close()
        self._exchange.cancel_server()
        self._exchange.take_back()

    def _refuse(self, status: int) -> None:
        self._give_up()
        self._exchange.fail(status)

    def _is_full(self, failure: Failure) -> None:
        if not self._exchange.ended:
            _log.error("an answer can't be kept: {reason}", reason=failure.getErrorMessage())
            self._refuse(503)

    def _failed(self, failure: Failure) -> None:
        _log.failure("an answer that was kept can't be passed on", failure=failure)
        if not self._exchange.ended:
            if self._exchange.taker is self:
                self._exchange.take_back()
            self._exchange.fail(500)

    def _is_whole(self, _: None, trailers: Fields) -> None:
        exchange, spool, response = self._exchange, self._spool, self._response
        if exchange.ended:
            return
        exchange.connection = None
        exchange.take_back()
        response.length = UNKNOWN if trailers else spool.size
        if not spool.is_in_memory:
            _Pour(exchange, spool, trailers).begin(response)
            return
        body = spool.octets()
        spool.close()
        if trailers:
            exchange.pass_on(response, body, False)
            exchange.end(trailers)
        else:
            exchange.pass_on(response, body, True)


class _Pour:
    """Sends an answer that is in a file, as the client takes it. Its producer, and what the exchange waits for."""

    def __init__(self, exchange: Exchange, spool: Spool, trailers: Fields) -> None:
        self._exchange = exchange
        self._spool = spool
        self._trailers = trailers
        self._origin_sent = exchange.origin_sent
        self._place = 0
        self._flows = True
        self._reads = False
        self._is_over = False

    def begin(self, response: Response) -> None:
        exchange = self._exchange
        exchange.connection = self
        exchange.pass_on(response, b"", False)
        if exchange.connection is self and not exchange.ended:
            exchange.client.feed_from(self)
            self._go_on()

    def pauseProducing(self) -> None:
        self._flows = False

    def resumeProducing(self) -> None:
        self._flows = True
        self._go_on()

    def stopProducing(self) -> None:
        self._is_over = True

    def cancel(self) -> None:
        """Nobody wants it any more."""
        if not self._is_over:
            self._is_over = True
            self._exchange.client.feed_from(None)

    def _go_on(self) -> None:
        if self._flows and not self._reads and not self._is_over:
            self._reads = True
            self._spool.read(self._place).addCallback(self._read).addErrback(self._failed)

    def _read(self, data: bytes) -> None:
        self._reads = False
        exchange = self._exchange
        if self._is_over or exchange.ended or exchange.connection is not self:
            return
        self._place += len(data)
        if data:
            exchange.data(data)
            exchange.origin_sent = self._origin_sent
        if self._is_over or exchange.ended or exchange.connection is not self:
            return
        if data and self._place < self._spool.size:
            self._go_on()
            return
        self._is_over = True
        exchange.client.feed_from(None)
        exchange.connection = None
        exchange.end(self._trailers)

    def _failed(self, failure: Failure) -> None:
        if not self._exchange.ended and not self._is_over:
            _log.failure("an answer that is in a file can't be read", failure=failure)
            self._exchange.fail(500)


def build(settings: Settings, context: Context) -> Middleware:
    """The step for one route.

    :raises ValueError: the expression is none.
    """
    return Buffering(settings, context)
