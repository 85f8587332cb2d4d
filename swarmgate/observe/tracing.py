"""Traces of requests, by OpenTelemetry's SDK: who called, which server was asked how often, and how long that took.

A request has a span as the gate's server side sees it, and one for each try on a server, so that retries are seen.
Names of attributes are those of OpenTelemetry's semantic conventions for HTTP, the stable ones; what the gate alone
knows is named as Traefik names it. What a client sends as its trace (W3C Trace Context) is gone on with, its decision
on sampling included, and passed on to the servers.

Nothing of this is imported, or on the path of a request, where ``tracing`` is not configured. Spans wait in memory, up
to a bound, for a thread to send them: what does not get through is lost, and costs no request anything.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus, urlsplit

import attrs
import requests
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from twisted.logger import Logger

from swarmgate.http.exchange import CLIENT_CLOSED_REQUEST, Exchange
from swarmgate.http.message import Fields, Request, Response, field, field_values
from swarmgate.http.tries import Chooser
from swarmgate.http.upstream import Upstream

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

_log = Logger()

#: Methods that have a name of their own in traces; any other is ``_OTHER`` (semantic conventions, HTTP spans).
_METHODS = frozenset(
    (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"QUERY")
)
_CONTEXT = (b"traceparent", b"tracestate")
_REDACTED = b"REDACTED"
_SEPARATOR = re.compile(rb"[&;]")
#: Spans that may wait to be sent, those that are sent together, and seconds between two times.
_WAITING_AT_MOST = 4096
_BATCH = 512
_SEND_EVERY = 2.0
#: Seconds that a collector has to take a batch, repetitions included.
_SENT_WITHIN = 10.0
#: Seconds between two lines about spans that do not get through.
_COMPLAIN_EVERY = 60.0
#: Where collectors take traces, if the endpoint names no path (OTLP/HTTP).
_PATH = "/v1/traces"


@attrs.frozen
class TracingSettings:
    """What is traced (Traefik ``tracing``).

    :ivar service_name: what the gate is called in traces.
    :ivar resource_attributes: what is said of it beside that.
    :ivar sample_rate: the share of traces that are recorded, of those that begin here; from 0 to 1.
    :ivar request_headers: and :ivar response_headers: names of headers that become attributes.
    :ivar safe_query: names of parameters of queries whose values are shown.
    :ivar internals: whether requests for the gate's own services are traced.
    """

    service_name: str = "swarmgate"
    resource_attributes: Mapping[str, str] = attrs.field(factory=dict)
    sample_rate: float = 1.0
    request_headers: Sequence[str] = ()
    response_headers: Sequence[str] = ()
    safe_query: Sequence[str] = ()
    internals: bool = False


@attrs.frozen
class Collector:
    """Where spans are sent to, by OTLP over HTTP (Traefik ``tracing.otlp.http``).

    :ivar endpoint: a URL; without a path ``/v1/traces`` is meant.
    :ivar headers: what is sent with them.
    :ivar ca: file of the authorities that its certificate is checked by, ``""`` for those of Python's certifi.
    :ivar cert: and :ivar key: files of the gate's own certificate, ``""`` for none.
    :ivar verify: whether its certificate is checked.
    """

    endpoint: str
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True

    @property
    def url(self) -> str:
        """The endpoint with its path."""
        return self.endpoint.rstrip("/") + _PATH if urlsplit(self.endpoint).path in ("", "/") else self.endpoint


class Trace:
    """What is recorded of one exchange.

    :ivar trace_id: of the trace, 32 hexadecimal digits, and :ivar span_id: of the exchange's span, 16 of them.
    :ivar span: the exchange's own.
    :ivar context: with that span as the parent of others.
    :ivar attempt: the try on a server that has not been recorded yet, None if there is none.
    :ivar attempts: how many tries there were.
    """

    __slots__ = ("attempt", "attempts", "context", "span", "span_id", "trace_id")

    def __init__(self, span: Span, context: Context) -> None:
        told = span.get_span_context()
        self.trace_id = f"{told.trace_id:032x}"
        self.span_id = f"{told.span_id:016x}"
        self.span = span
        self.context = context
        self.attempt: Attempt | None = None
        self.attempts = 0


class Attempt:
    """A try on a server: it listens in between the server's connection and *chooser*, and ends its span."""

    __slots__ = ("_error", "_span", "_wall", "chooser")

    listens = True

    def __init__(self, chooser: Chooser, span: Span, wall: Callable[[], int]) -> None:
        self.chooser = chooser
        self._span: Span | None = span
        self._wall = wall
        self._error = ""

    # server_connection's Chooser.

    def try_next(self, exchange: Exchange, status: int, was_sent: bool = False) -> None:
        self._error = "timeout" if status == 504 else self._error or "connection_failed"
        self.end(exchange)
        self.chooser.try_next(exchange, status, was_sent)

    def has_next(self, exchange: Exchange) -> bool:
        return self.chooser.has_next(exchange)

    def share_of_time(self, exchange: Exchange) -> float:
        return self.chooser.share_of_time(exchange)

    def answered(self, exchange: Exchange, response: Response) -> None:
        span = self._span
        if span is not None:
            span.set_attribute("http.response.status_code", response.status)
            if response.status >= 400:
                _mark(span, str(response.status))
        if self.chooser.listens:
            self.chooser.answered(exchange, response)

    def broke(self, exchange: Exchange) -> None:
        self._error = "connection_broken"
        if self.chooser.listens:
            self.chooser.broke(exchange)

    # Its end.

    def end(self, exchange: Exchange) -> None:
        """Nothing more is to come of it."""
        span, self._span = self._span, None
        if span is None:
            return
        error = self._error
        if error == "connection_broken" and exchange.status == 504:
            error = "timeout"
        if not error and exchange.status == CLIENT_CLOSED_REQUEST:
            error = "cancelled"
        if error:
            _mark(span, error)
        span.end(self._wall())


class _Carrier(Getter[dict[str, list[str]]]):
    """Reads what a client has sent of its trace."""

    def get(self, carrier: dict[str, list[str]], key: str) -> list[str] | None:
        return carrier.get(key)

    def keys(self, carrier: dict[str, list[str]]) -> list[str]:
        return list(carrier)


class Tracing:
    """Records spans of exchanges, and gives them to *processor*."""

    def __init__(
        self,
        settings: TracingSettings,
        processor: SpanProcessor,
        wall: Callable[[], int] = time.time_ns,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        """
        :param wall: the time of day, in nanoseconds since the epoch.
        :param now: what exchanges take their times from, in seconds.
        """
        # Given.
        self._settings = settings
        self._wall = wall
        self._now = now
        # Made of the settings.
        resource = Resource.create({**settings.resource_attributes, "service.name": settings.service_name})
        sampler = ParentBased(TraceIdRatioBased(settings.sample_rate))
        self._provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("swarmgate")
        self._propagator = TraceContextTextMapPropagator()
        self._carrier = _Carrier()
        self._root = Context()
        self._safe = frozenset(settings.safe_query)
        self._request_headers = _captured("request", settings.request_headers)
        self._response_headers = _captured("response", settings.response_headers)

    # Where it stands in the way of exchanges.

    def traced(self, serve: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
        """*serve*, with a span for each exchange that it is given; :meth:`finished` is to end that."""

        def begin_and_serve(exchange: Exchange) -> None:
            self._begin(exchange)
            serve(exchange)

        return begin_and_serve

    def watch(self, upstream: Upstream) -> None:
        """Record each try on *upstream*, and let it know of the trace."""
        send = upstream.send

        def begin_and_send(exchange: Exchange, chooser: Chooser, fresh: bool = False) -> None:
            trace = exchange.trace
            send(exchange, self._attempt(trace, exchange, chooser, upstream) if trace is not None else chooser, fresh)

        upstream.send = begin_and_send  # type: ignore[method-assign]

    def finished(self, exchange: Exchange) -> None:
        """Record *exchange*, which has ended."""
        trace = exchange.trace
        if trace is None or not trace.span.is_recording():
            return
        if trace.attempt is not None:
            trace.attempt.end(exchange)
        if exchange.service.endswith("@internal") and not self._settings.internals:
            return  # A span that does not end is never sent.
        span = trace.span
        span.update_name(f"{_method(exchange.request)} {exchange.router}".rstrip())
        status = exchange.status
        attributes: dict[str, Any] = {
            "http.response.status_code": status,
            "http.request.body.size": exchange.received,
            "http.response.body.size": exchange.sent,
        }
        if exchange.router:
            attributes["traefik.router.name"] = exchange.router
        if exchange.service:
            attributes["traefik.service.name"] = exchange.service
        span.set_attributes(attributes)
        if exchange.response is not None:
            _capture(span, self._response_headers, exchange.response.fields)
        if status >= 500:
            _mark(span, str(status))
        elif status == CLIENT_CLOSED_REQUEST:
            span.set_attribute("error.type", "cancelled")
        span.end(self._wall())

    def shutdown(self) -> None:
        """Send what is waiting, and end the thread that does it. Blocks."""
        self._provider.shutdown()

    # What is recorded.

    def _begin(self, exchange: Exchange) -> None:
        request = exchange.request
        context = self._parent(request.fields)
        start = self._wall() - int((self._now() - exchange.started) * 1e9)
        span = self._tracer.start_span(_method(request), context, SpanKind.SERVER, start_time=start)
        exchange.trace = Trace(span, set_span_in_context(span, context))
        if span.is_recording():
            span.set_attributes(self._attributes(exchange, request))
            _capture(span, self._request_headers, request.fields)

    def _parent(self, fields: Fields) -> Context:
        """The context that a client has sent, an empty one if it has sent none, or none that can be read."""
        carrier: dict[str, list[str]] = {}
        for pair in fields:
            if _is_context(pair):
                carrier.setdefault(pair[0].lower().decode(), []).append(pair[1].decode("latin-1"))
        if len(carrier.get("traceparent", ())) != 1:
            return self._root
        return self._propagator.extract(carrier, self._root, self._carrier)

    def _attributes(self, exchange: Exchange, request: Request) -> dict[str, Any]:
        host, colon, port = request.authority.rpartition(b":")
        if not colon or not port.isdigit():
            host, port = request.authority, b""
        forwarded = request.forwarded_for.split(b",")[0].strip()
        attributes: dict[str, Any] = {
            **_of_method(request),
            "url.scheme": request.scheme.decode(),
            "url.path": _text(request.path),
            "server.address": _text(host),
            "client.address": _text(forwarded) or request.client_ip,
            "network.peer.address": request.client_ip,
            "network.protocol.version": f"1.{request.minor}" if request.major == 1 else "2",
            "entry_point": exchange.entry_point,
        }
        if port:
            attributes["server.port"] = int(port)
        if request.query is not None:
            attributes["url.query"] = self._query(request.query)
        agent = field(request.fields, b"user-agent")
        if agent is not None:
            attributes["user_agent.original"] = _text(agent)
        return attributes

    def _attempt(self, trace: Any, exchange: Exchange, chooser: Chooser, upstream: Upstream) -> Chooser:
        """Begin a try on *upstream*, and tell it so in the request. Returns who is to be told how it goes."""
        request = exchange.request
        if isinstance(chooser, Attempt):
            chooser = chooser.chooser
        if trace.attempt is not None:
            trace.attempt.end(exchange)
        context = trace.context
        told: Chooser = chooser
        if trace.span.is_recording():
            span = self._tracer.start_span(_method(request), context, SpanKind.CLIENT, start_time=self._wall())
            span.set_attributes(self._attempt_attributes(request, upstream, trace.attempts))
            trace.attempts += 1
            context = set_span_in_context(span, context)
            told = trace.attempt = Attempt(chooser, span, self._wall)
        headers: dict[str, str] = {}
        self._propagator.inject(headers, context)
        request.fields = [pair for pair in request.fields if not _is_context(pair)]
        request.fields += [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
        return told

    def _attempt_attributes(self, request: Request, upstream: Upstream, before: int) -> dict[str, Any]:
        scheme = "https" if upstream.scheme == "https" else "http"
        query = "" if request.query is None else f"?{self._query(request.query)}"
        attributes = {
            **_of_method(request),
            "url.full": f"{scheme}://{upstream.authority.decode('ascii')}{_text(request.path)}{query}",
            "url.scheme": scheme,
            "server.address": upstream.host,
            "server.port": upstream.port,
        }
        if before:
            attributes["http.request.resend_count"] = before
        return attributes

    def _query(self, query: bytes) -> str:
        """*query* with the values of all parameters hidden but those that are safe (Traefik ``safeQueryParams``)."""
        parts = []
        for part in _SEPARATOR.split(query):
            name, equals, _ = part.partition(b"=")
            is_safe = not equals or unquote_plus(name.decode("latin-1")) in self._safe
            parts.append(part if is_safe else name + b"=" + _REDACTED)
        return _text(b"&".join(parts))


def _mark(span: Span, error: str) -> None:
    span.set_attribute("error.type", error)
    span.set_status(Status(StatusCode.ERROR))


def _is_context(pair: tuple[bytes, bytes]) -> bool:
    """Whether a field tells of a client's trace."""
    return 9 < len(pair[0]) < 12 and pair[0].lower() in _CONTEXT


def _method(request: Request) -> str:
    """What a span is called at first."""
    return request.method.decode("ascii") if request.method in _METHODS else "HTTP"


def _of_method(request: Request) -> dict[str, Any]:
    if request.method in _METHODS:
        return {"http.request.method": request.method.decode("ascii")}
    return {"http.request.method": "_OTHER", "http.request.method_original": _text(request.method)}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _captured(message: str, names: Sequence[str]) -> list[tuple[bytes, str]]:
    return [(name.lower().encode("latin-1"), f"http.{message}.header.{name.lower()}") for name in names]


def _capture(span: Span, captured: list[tuple[bytes, str]], fields: Fields) -> None:
    for name, attribute in captured:
        values = field_values(fields, name)
        if values:
            span.set_attribute(attribute, [_text(value) for value in values])


# Sending.


class Complaints(logging.Handler):
    """What OpenTelemetry's SDK complains of, told in the gate's log once in a while.

    :param in_reactor: has something called in the reactor's thread.
    :param now: the time in seconds.
    """

    def __init__(self, in_reactor: Callable[..., Any], now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._in_reactor = in_reactor
        self._now = now
        self._next = float("-inf")
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of *record*, or count it."""
        now = self._now()
        if now < self._next:
            self._left_out += 1
            return
        self._next = now + _COMPLAIN_EVERY
        left_out, self._left_out = self._left_out, 0
        self._in_reactor(self._tell, record.getMessage(), left_out)

    @staticmethod
    def _tell(reason: str, left_out: int) -> None:
        _log.warn(
            "tracing: spans do not get through: {reason} ({left_out} such complaints left out)",
            reason=reason,
            left_out=left_out,
        )


class Sending:
    """Sends spans to a collector, from a thread of its own, in batches.

    :ivar processor: takes spans.
    """

    def __init__(self, collector: Collector, reactor: IReactorFromThreads) -> None:
        """
        :raises ValueError: the endpoint is no URL.
        """
        session = requests.Session()
        self._exporter = OTLPSpanExporter(
            collector.url,
            collector.ca or None,
            collector.key or None,
            collector.cert or None,
            dict(collector.headers),
            _SENT_WITHIN,
            session=session,
        )
        if not collector.verify:
            session.verify = False
        self.processor = BatchSpanProcessor(self._exporter, _WAITING_AT_MOST, _SEND_EVERY * 1000, _BATCH)
        self._complaints = Complaints(reactor.callFromThread)
        logger = logging.getLogger("opentelemetry")
        logger.addHandler(self._complaints)
        logger.propagate = False

    def end(self, tracing: Tracing, ended: Callable[[], None]) -> None:
        """Send what is waiting and call *ended*, from another thread."""

        def work() -> None:
            tracing.shutdown()
            ended()

        # Not one of the reactor's: those have to be done before a process ends, whatever a collector does.
        threading.Thread(target=work, name="sends the last spans", daemon=True).start()

    def give_up(self) -> None:
        """Send no more; what is under way is not repeated."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]
        logging.getLogger("opentelemetry").removeHandler(self._complaints)
