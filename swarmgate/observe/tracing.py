"""Traces of requests by OpenTelemetry: who called, which server was asked how often, and how long that took.

A request has a span as the gate's server side sees it, and one for each try on a server, so that retries are seen.
Names of attributes are those of OpenTelemetry's semantic conventions for HTTP, the stable ones; what the gate alone
knows is named as Traefik names it. What a client sends as its trace (W3C Trace Context) is gone on with, its decision
on sampling included, and passed on to the servers.

The path of a request has nothing of the SDK on it. Whether a trace is recorded is read from random bits before there
is anything to record; what is not recorded costs one field in the request. What is recorded is noted down as it is,
and becomes spans in the thread that sends them: that waits for a collector, and no request waits for it. What does
not get through, or is more than the bound, is lost.

Nothing of this is imported where ``tracing`` is not configured.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import getrandbits
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote_plus, urlsplit

import attrs
import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from twisted.logger import Logger
from urllib3.exceptions import InsecureRequestWarning

from swarmgate.http.exchange import CLIENT_CLOSED_REQUEST, NOT_TRACED, Exchange
from swarmgate.http.message import Fields, Request, Response, field, field_values
from swarmgate.http.moment import moment
from swarmgate.http.refused import RefusedRequest
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
#: What their names begin with.
_T = (b"t"[0], b"T"[0])
# W3C Trace Context, 3.2: version 00 ends here, of a later one what follows is left alone.
_PARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_PARENT_SIZE = 55
#: The last digits of flags that say that the trace is recorded.
_ODD = b"13579bdf"
# And 3.3.1.
_MEMBER = re.compile(
    rb"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    rb"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MEMBERS_AT_MOST = 32
_REDACTED = b"REDACTED"
_SEPARATOR = re.compile(rb"[&;]")
_MISDIRECTED = 421
#: Requests that may wait to be sent, those that are sent together, and seconds between two times.
_WAITING_AT_MOST = 4096
_BATCH = 128
_SEND_EVERY = 2.0
#: Spans are made of so many requests in a row; then the thread pauses for so many seconds, and the reactor's goes on.
_AT_ONCE = 8
_PAUSE = 0.0005
#: Seconds that a collector has to take a batch, repetitions included.
_SENT_WITHIN = 10.0
#: Seconds between two lines about spans that do not get through.
_COMPLAIN_EVERY = 60.0
#: Where collectors take traces, if the endpoint names no path (OTLP/HTTP).
_PATH = "/v1/traces"
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope("swarmgate")
_FAILED = Status(StatusCode.ERROR)
_UNSET = Status(StatusCode.UNSET)


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
    """Where spans are sent to, by OTLP (Traefik ``tracing.otlp``).

    :ivar endpoint: a URL, for OTLP over HTTP; without a path ``/v1/traces`` is meant. Over gRPC: host and port.
    :ivar headers: what is sent with them.
    :ivar ca: file of the authorities that its certificate is checked by, ``""`` for those of Python's certifi.
    :ivar cert: and :ivar key: files of the gate's own certificate, ``""`` for none.
    :ivar verify: whether its certificate is checked; over gRPC it always is.
    :ivar grpc: it is spoken to over gRPC; :ivar secure: and over TLS.
    """

    endpoint: str
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True
    grpc: bool = False
    secure: bool = True

    @property
    def url(self) -> str:
        """The endpoint with its path."""
        return self.endpoint.rstrip("/") + _PATH if urlsplit(self.endpoint).path in ("", "/") else self.endpoint


class Trace:
    """What is known of an exchange's trace, recorded or not.

    :ivar context: the trace and the exchange's own part of it, as ``traceparent`` writes it.
    """

    __slots__ = ("context",)

    def __init__(self, context: bytes) -> None:
        self.context = context

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return self.context[3:35].decode("ascii")

    @property
    def span_id(self) -> str:
        """16 of them, for the exchange's own part."""
        return self.context[36:52].decode("ascii")


class Recording(Trace):
    """What is noted down of one exchange that is recorded; it does not keep the exchange.

    :ivar parent: the span of the client that this one is below, as ``traceparent`` writes it; ``b""`` for none.
    :ivar state: what ``tracestate`` says.
    :ivar detailed: router and service have spans as well (Traefik ``traceVerbosity``).
    :ivar attempt: the try on a server that has not ended, None if there is none; :ivar tries: all of them.
    :ivar begun: and :ivar ended: in nanoseconds since the epoch.

    What is left is the request's as it came, and the answer's; see :class:`~swarmgate.http.exchange.Exchange`.
    """

    __slots__ = (
        "attempt",
        "authority",
        "begun",
        "client_ip",
        "detailed",
        "ended",
        "entry_point",
        "fields",
        "forwarded_for",
        "method",
        "parent",
        "path",
        "query",
        "received",
        "refused",
        "response_fields",
        "router",
        "scheme",
        "sent",
        "service",
        "state",
        "status",
        "tries",
        "version",
    )

    def __init__(self, context: bytes, parent: bytes, state: bytes, begun: int, exchange: Exchange) -> None:
        request = exchange.request
        self.context = context
        self.parent = parent
        self.state = state
        self.begun = begun
        self.detailed = False
        self.attempt: Attempt | None = None
        self.tries: list[Try] = []
        # The request, before middlewares change it.
        self.entry_point = exchange.entry_point
        self.method = request.method
        self.scheme = request.scheme
        self.authority = request.authority
        self.path = request.path
        self.query = request.query
        self.client_ip = request.client_ip
        self.forwarded_for = request.forwarded_for
        self.version = f"1.{request.minor}" if request.major == 1 else "2"
        self.fields = tuple(request.fields)

    def finish(self, exchange: Exchange, ended: int) -> None:
        """Note down how *exchange* has ended."""
        if self.attempt is not None:
            self.attempt.end(exchange)
            self.attempt = None
        self.ended = ended
        self.router = exchange.router
        self.service = exchange.service
        self.status = exchange.status
        self.received = exchange.received
        self.sent = exchange.sent
        self.response_fields = None if exchange.response is None else exchange.response.fields
        request = exchange.request
        self.refused = request.reason if isinstance(request, RefusedRequest) else ""
        if self.status == _MISDIRECTED and not self.service:
            self.refused = "the connection is under another host's TLS options"


class Try:
    """What is noted down of one try on a server.

    :ivar span: its number, 16 hexadecimal digits.
    :ivar begun: and :ivar ended: in nanoseconds since the epoch.
    :ivar status: of the server's answer, 0 for none.
    :ivar error: what went wrong, ``""`` if nothing did.
    """

    __slots__ = (
        "authority",
        "begun",
        "ended",
        "error",
        "host",
        "method",
        "path",
        "port",
        "query",
        "scheme",
        "span",
        "status",
    )

    def __init__(self, span: str, begun: int, request: Request, upstream: Upstream) -> None:
        self.span = span
        self.begun = begun
        self.ended = 0
        self.status = 0
        self.error = ""
        self.method = request.method
        self.path = request.path
        self.query = request.query
        self.scheme = "https" if upstream.scheme == "https" else "http"
        self.authority = upstream.authority
        self.host = upstream.host
        self.port = upstream.port


class Attempt:
    """A try on a server: it listens in between the server's connection and *chooser*, and notes down how it goes."""

    __slots__ = ("_noted", "_wall", "chooser")

    listens = True

    def __init__(self, chooser: Chooser, noted: Try, wall: Callable[[], int]) -> None:
        self.chooser = chooser
        self._noted = noted
        self._wall = wall

    # server_connection's Chooser.

    def try_next(self, exchange: Exchange, status: int, was_sent: bool = False) -> None:
        self._fails("timeout" if status == 504 else self._noted.error or "connection_failed")
        self.end(exchange)
        self.chooser.try_next(exchange, status, was_sent)

    def has_next(self, exchange: Exchange) -> bool:
        return self.chooser.has_next(exchange)

    def share_of_time(self, exchange: Exchange) -> float:
        return self.chooser.share_of_time(exchange)

    def answered(self, exchange: Exchange, response: Response) -> None:
        if not self._noted.ended:
            self._noted.status = response.status
        if self.chooser.listens:
            self.chooser.answered(exchange, response)

    def broke(self, exchange: Exchange) -> None:
        self._fails("connection_broken")
        if self.chooser.listens:
            self.chooser.broke(exchange)

    def _fails(self, error: str) -> None:
        if not self._noted.ended:
            self._noted.error = error

    # Its end.

    def end(self, exchange: Exchange) -> None:
        """Nothing more is to come of it."""
        noted = self._noted
        if noted.ended:
            return
        if noted.error == "connection_broken" and exchange.status == 504:
            noted.error = "timeout"
        if not noted.error and exchange.status == CLIENT_CLOSED_REQUEST:
            noted.error = "cancelled"
        noted.ended = self._wall()


class Leaf(Protocol):
    """What answers exchanges."""

    def serve(self, exchange: Exchange) -> None:
        """Answer *exchange*, now or later."""


class TracedLeaf:
    """*leaf*, with a trace begun for each exchange that it is given."""

    __slots__ = ("_begin", "_serve")

    def __init__(self, leaf: Leaf, begin: Callable[[Exchange], None]) -> None:
        self._serve = leaf.serve
        self._begin = begin

    def serve(self, exchange: Exchange) -> None:
        self._begin(exchange)
        self._serve(exchange)


class Tracing:
    """Decides which exchanges are recorded, and gives what was noted down of them to *take*."""

    def __init__(
        self,
        settings: TracingSettings,
        take: Callable[[Recording], object],
        wall: Callable[[], int] = time.time_ns,
        now: Callable[[], float] = moment,
    ) -> None:
        """
        :param wall: the time of day, in nanoseconds since the epoch.
        :param now: what exchanges take their times from, in seconds.
        """
        self._take = take
        self._wall = wall
        self._now = now
        self._internals = settings.internals
        # Recorded is what has a number below this in the last 64 bits of the trace's, as OpenTelemetry's sampler by
        # ratio has it. Numbers of the same length compare as they are written.
        bound = round(settings.sample_rate * 2**64)
        self._bound = f"{bound:016x}" if bound < 2**64 else "g"

    # Where it stands in the way of exchanges.

    def is_wanted(self, service: str) -> bool:
        """Whether requests for the service of that name are traced at all: the gate's own may not be."""
        return self._internals or not service.endswith("@internal")

    def leaf(self, leaf: Leaf, detailed: bool = False) -> Leaf:
        """*leaf*, with a trace begun for each exchange; :meth:`finished` is to end that.

        :param detailed: router and service have spans as well.
        """
        return TracedLeaf(leaf, self._begin_detailed if detailed else self.begin)

    def watch(self, upstream: Upstream) -> None:
        """Note down each try on *upstream*, and let it know of the trace."""
        upstream.watch = self._sent

    def _sent(self, exchange: Exchange, chooser: Chooser, upstream: Upstream) -> Chooser:
        if exchange.trace.__class__ is Recording:
            return self._attempt(exchange.trace, exchange, chooser, upstream)
        return chooser

    def begin(self, exchange: Exchange) -> None:
        """Begin a trace, or go on with the client's, and tell it in the request."""
        fields = exchange.request.fields
        for name, _ in fields:
            if name[0] in _T and name.lower() in _CONTEXT:
                self._go_on(exchange)
                return
        # Zero, which is no number, does not come of it in the age of the world.
        digits = getrandbits(192).to_bytes(24, "big").hex()
        if digits[16:32] < self._bound:
            self._record(exchange, digits[:32], digits[32:], b"", b"")
        else:
            context = f"00-{digits[:32]}-{digits[32:]}-00".encode()
            fields.append((b"traceparent", context))
            exchange.trace = Trace(context)

    def finished(self, exchange: Exchange) -> None:
        """Note down the end of *exchange*.

        What has no trace, since no router has taken it, or it was refused before it was a request, gets one now.
        """
        trace = exchange.trace
        if trace is None:
            if exchange.router or exchange.service or exchange.untold & NOT_TRACED:
                return
            self.begin(exchange)
            trace = exchange.trace
        if trace.__class__ is not Recording:
            return
        trace.finish(exchange, self._wall())
        if self.is_wanted(exchange.service):
            self._take(trace)

    def _begin_detailed(self, exchange: Exchange) -> None:
        self.begin(exchange)
        if exchange.trace.__class__ is Recording:
            exchange.trace.detailed = True

    def _go_on(self, exchange: Exchange) -> None:
        """Go on with the trace that the client has sent; if it can't be read, begin one (W3C Trace Context, 4.3)."""
        request = exchange.request
        fields = request.fields
        parent, place, parents, states = b"", -1, 0, []
        for index, (name, value) in enumerate(fields):
            if name[0] in _T:
                key = name.lower()
                if key == b"traceparent":
                    parent, place = value, index
                    parents += 1
                elif key == b"tracestate":
                    states.append(value)
        is_read = parents == 1 and _PARENT.fullmatch(parent) and (len(parent) == _PARENT_SIZE or parent[:2] != b"00")
        state = _state(states) if states and is_read else b""
        if not is_read or (states and state != states[0]):
            request.fields = fields = [pair for pair in fields if pair[0].lower() not in _CONTEXT]
            if not is_read:
                self.begin(exchange)
                return
            if state:
                fields.append((b"tracestate", state))
        else:
            del fields[place]
        if parent[54] in _ODD:
            own = f"{getrandbits(64):016x}"
            self._record(exchange, parent[3:35].decode("ascii"), own, parent[36:52], state)
        else:
            context = b"00-%b-%016x-00" % (parent[3:35], getrandbits(64))
            fields.append((b"traceparent", context))
            exchange.trace = Trace(context)

    def _record(self, exchange: Exchange, trace_id: str, span_id: str, parent: bytes, state: bytes) -> None:
        begun = self._wall() - int((self._now() - exchange.started) * 1e9)
        context = f"00-{trace_id}-{span_id}-01".encode("ascii")
        exchange.trace = Recording(context, parent, state, begun, exchange)
        # Until a server is asked, and for what the gate itself answers.
        exchange.request.fields.append((b"traceparent", context))

    def _attempt(self, trace: Recording, exchange: Exchange, chooser: Chooser, upstream: Upstream) -> Chooser:
        """Begin a try on *upstream*, and tell it so in the request. Returns who is to be told how it goes."""
        request = exchange.request
        if isinstance(chooser, Attempt):
            chooser = chooser.chooser
        if trace.attempt is not None:
            trace.attempt.end(exchange)
        noted = Try(f"{getrandbits(64):016x}", self._wall(), request, upstream)
        trace.tries.append(noted)
        trace.attempt = Attempt(chooser, noted, self._wall)
        request.fields = [pair for pair in request.fields if pair[0].lower() != b"traceparent"]
        request.fields.append((b"traceparent", b"%b%b-01" % (trace.context[:36], noted.span.encode("ascii"))))
        return trace.attempt


def _state(values: list[bytes]) -> bytes:
    """What fields ``tracestate`` of these *values* say together, ``b""`` if they can't be read."""
    members = [member for part in b",".join(values).split(b",") if (member := part.strip(b" \t"))]
    if len(members) > _MEMBERS_AT_MOST or not all(_MEMBER.fullmatch(member) for member in members):
        return b""
    return b",".join(members)


# What becomes of it, in another thread.


class Spans:
    """Makes spans of what was noted down."""

    def __init__(self, settings: TracingSettings) -> None:
        self._resource = Resource.create({**settings.resource_attributes, "service.name": settings.service_name})
        self._safe = frozenset(settings.safe_query)
        self._request_headers = _captured("request", settings.request_headers)
        self._response_headers = _captured("response", settings.response_headers)

    def of(self, noted: Recording) -> list[ReadableSpan]:
        """The spans of one exchange: the tries' in order, and its own last."""
        state = TraceState.from_header([noted.state.decode("ascii")]) if noted.state else TraceState()
        trace_id = int(noted.context[3:35], 16)

        def known(span_id: bytes | str, is_remote: bool = False) -> SpanContext:
            return SpanContext(trace_id, int(span_id, 16), is_remote, _SAMPLED, state)

        own = above = known(noted.context[36:52])
        spans = []
        for name, attribute, value, begun in self._within(noted):
            context = known(f"{getrandbits(64):016x}")
            told = {attribute: value}
            spans.append(self._span(name, context, above, told, SpanKind.INTERNAL, begun, noted.ended))
            above = context
        for before, one in enumerate(noted.tries):
            name = _method(one.method)
            told = self._of_try(one, before)
            context = known(one.span)
            spans.append(self._span(name, context, above, told, SpanKind.CLIENT, one.begun, one.ended, one.error))
        name = f"{_method(noted.method)} {noted.router}".rstrip()
        told = self._of_request(noted)
        parent = known(noted.parent, True) if noted.parent else None
        error = str(noted.status) if noted.status >= 500 else ""
        spans.append(self._span(name, own, parent, told, SpanKind.SERVER, noted.begun, noted.ended, error))
        return spans

    @staticmethod
    def _within(noted: Recording) -> Iterator[tuple[str, str, str, int]]:
        """What the gate has done of its own that is told in detail: name, attribute with value, begin."""
        if noted.detailed and noted.router:
            yield "Router", "traefik.router.name", noted.router, noted.begun
            if noted.service and noted.tries:
                yield "Service", "traefik.service.name", noted.service, noted.tries[0].begun

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: dict[str, Any],
        kind: SpanKind,
        begun: int,
        ended: int,
        error: str = "",
    ) -> ReadableSpan:
        if error:
            attributes.setdefault("error.type", error)
        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            kind=kind,
            status=_FAILED if error or (kind is SpanKind.CLIENT and "error.type" in attributes) else _UNSET,
            start_time=begun,
            end_time=ended,
            instrumentation_scope=_SCOPE,
        )

    def _of_request(self, noted: Recording) -> dict[str, Any]:
        host, colon, port = noted.authority.rpartition(b":")
        if not colon or not port.isdigit():
            host, port = noted.authority, b""
        forwarded = noted.forwarded_for.split(b",")[0].strip()
        attributes: dict[str, Any] = {
            **_of_method(noted.method),
            "url.scheme": noted.scheme.decode(),
            "url.path": _text(noted.path),
            "server.address": _text(host),
            "client.address": _text(forwarded) or noted.client_ip,
            "network.peer.address": noted.client_ip,
            "network.protocol.version": noted.version,
            "entry_point": noted.entry_point,
            "http.response.status_code": noted.status,
            "http.request.body.size": noted.received,
            "http.response.body.size": noted.sent,
        }
        if port:
            attributes["server.port"] = int(port)
        if noted.query is not None:
            attributes["url.query"] = self._query(noted.query)
        fields = list(noted.fields)
        agent = field(fields, b"user-agent")
        if agent is not None:
            attributes["user_agent.original"] = _text(agent)
        if noted.router:
            attributes["traefik.router.name"] = noted.router
        if noted.service:
            attributes["traefik.service.name"] = noted.service
        _capture(attributes, self._request_headers, fields)
        if noted.response_fields is not None:
            _capture(attributes, self._response_headers, noted.response_fields)
        if noted.refused:
            attributes["swarmgate.refused"] = noted.refused
        if noted.status == CLIENT_CLOSED_REQUEST:
            attributes["error.type"] = "cancelled"
        return attributes

    def _of_try(self, noted: Try, before: int) -> dict[str, Any]:
        query = "" if noted.query is None else f"?{self._query(noted.query)}"
        attributes: dict[str, Any] = {
            **_of_method(noted.method),
            "url.full": f"{noted.scheme}://{noted.authority.decode('ascii')}{_text(noted.path)}{query}",
            "url.scheme": noted.scheme,
            "server.address": noted.host,
            "server.port": noted.port,
        }
        if before:
            attributes["http.request.resend_count"] = before
        if noted.status:
            attributes["http.response.status_code"] = noted.status
        if noted.error or noted.status >= 400:
            attributes["error.type"] = noted.error or str(noted.status)
        return attributes

    def _query(self, query: bytes) -> str:
        """*query* with the values of all parameters hidden but those that are safe (Traefik ``safeQueryParams``)."""
        parts = []
        for part in _SEPARATOR.split(query):
            name, equals, _ = part.partition(b"=")
            is_safe = not equals or unquote_plus(name.decode("latin-1")) in self._safe
            parts.append(part if is_safe else name + b"=" + _REDACTED)
        return _text(b"&".join(parts))


def _method(method: bytes) -> str:
    """What a span is called at first."""
    return method.decode("ascii") if method in _METHODS else "HTTP"


def _of_method(method: bytes) -> dict[str, Any]:
    if method in _METHODS:
        return {"http.request.method": method.decode("ascii")}
    return {"http.request.method": "_OTHER", "http.request.method_original": _text(method)}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _captured(message: str, names: Sequence[str]) -> list[tuple[bytes, str]]:
    return [(name.lower().encode("latin-1"), f"http.{message}.header.{name.lower()}") for name in names]


def _capture(attributes: dict[str, Any], captured: list[tuple[bytes, str]], fields: Fields) -> None:
    for name, attribute in captured:
        values = field_values(fields, name)
        if values:
            attributes[attribute] = tuple(_text(value) for value in values)


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


class _Session(requests.Session):
    """Has the certificates of *collector* in each request: versions of the exporter differ in whether they say so."""

    def __init__(self, collector: Collector) -> None:
        super().__init__()
        self._certificates: dict[str, Any] = {"verify": (collector.ca or True) if collector.verify else False}
        if collector.cert:
            self._certificates["cert"] = (collector.cert, collector.key)

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        with warnings.catch_warnings():
            # Whoever has asked for no verification knows.
            warnings.simplefilter("ignore", InsecureRequestWarning)
            return super().send(request, **{**options, **self._certificates})


def exporter_of(collector: Collector) -> SpanExporter:
    """What sends spans to *collector*.

    :raises ValueError: the endpoint is no URL.
    :raises OSError: a file of certificates can't be read.
    """
    if collector.grpc:
        return _grpc_exporter(collector)
    return OTLPSpanExporter(
        collector.url, headers=dict(collector.headers), timeout=_SENT_WITHIN, session=_Session(collector)
    )


def _grpc_exporter(collector: Collector) -> SpanExporter:
    # Large, and in an extra of its own.
    from grpc import ssl_channel_credentials
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

    credentials = None
    if collector.secure:
        ca, key, cert = (
            Path(path).read_bytes() if path else None for path in (collector.ca, collector.key, collector.cert)
        )
        credentials = ssl_channel_credentials(ca, key, cert)
    # Names of gRPC's metadata are in lower case.
    headers = tuple((name.lower(), value) for name, value in collector.headers.items())
    return GrpcExporter(collector.endpoint, not collector.secure, credentials, headers, _SENT_WITHIN)


class Sending:
    """Sends what was noted down to a collector, in batches, from a thread of its own.

    :param exporter: what sends.
    """

    def __init__(self, exporter: SpanExporter, spans: Spans, reactor: IReactorFromThreads) -> None:
        self._exporter = exporter
        self._spans = spans
        self._waiting: deque[Recording] = deque(maxlen=_WAITING_AT_MOST)
        self._wanted = threading.Event()
        self._never = threading.Event()
        self._is_last = False
        self._ended: Callable[[], None] | None = None
        self._complaints = Complaints(reactor.callFromThread)
        self._sdk = logging.getLogger("opentelemetry")
        self._sdk.addHandler(self._complaints)
        self._sdk.propagate = False
        self._thread: threading.Thread | None = None

    def take(self, noted: Recording) -> None:
        """Send *noted* soon; if too many wait, the oldest is lost."""
        waiting = self._waiting
        waiting.append(noted)
        if self._thread is None:
            # As late as that, since a process may be split before.
            self._start()
        elif len(waiting) == _BATCH:
            self._wanted.set()

    def _start(self) -> None:
        # Not one of the reactor's: those have to be done before a process ends, whatever a collector does.
        self._thread = threading.Thread(target=self._run, name="sends spans", daemon=True)
        self._thread.start()

    def end(self, ended: Callable[[], None]) -> None:
        """Send what is waiting and call *ended*, from another thread."""
        self._ended = ended
        self._is_last = True
        self._wanted.set()
        if self._thread is None:
            self._start()

    def give_up(self) -> None:
        """Send no more; what is under way is not repeated."""
        self._is_last = True
        self._waiting.clear()
        self._wanted.set()
        self._exporter.shutdown()
        self._sdk.removeHandler(self._complaints)

    # In the thread.

    def _run(self) -> None:
        is_last = False
        while not is_last:
            self._wanted.wait(_SEND_EVERY)
            self._wanted.clear()
            is_last = self._is_last
            while self._waiting:
                self._send()
        if self._ended is not None:
            self._ended()

    def _send(self) -> None:
        """Send a batch."""
        batch: list[Recording] = []
        while self._waiting and len(batch) < _BATCH:
            try:
                batch.append(self._waiting.popleft())
            except IndexError:
                break  # Given up meanwhile.
        spans: list[ReadableSpan] = []
        try:
            for count, noted in enumerate(batch):
                spans += self._spans.of(noted)
                if count % _AT_ONCE == _AT_ONCE - 1:
                    self._never.wait(_PAUSE)
            self._exporter.export(spans)
        except Exception as error:
            # The thread has to live on, and what is told of is the kind: the text may hold what clients have sent.
            self._sdk.warning("%s", type(error).__name__)
