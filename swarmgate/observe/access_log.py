"""The access log: a line for each request, as Traefik writes it.

In the common format a line is joined from its parts while the request's connection waits, so everything that can be
known before is: seconds are written out once, names are quoted once. Lines are collected for a moment and handed over
together. What clients choose is escaped where it could end a line or a quoted part.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

import attrs
from twisted.internet.interfaces import IReactorTime

from swarmgate.http.exchange import NOT_LOGGED, Exchange
from swarmgate.http.fields import LONGEST_REMEMBERED, REMEMBERED
from swarmgate.http.message import Request
from swarmgate.http.moment import moment
from swarmgate.http.octets import decimal, has_either, joined
from swarmgate.http.refused import RefusedRequest
from swarmgate.transport.tls import TLSTransport

Mode = Literal["keep", "drop", "redact"]

_FLUSH_AFTER = 0.2
_FLUSH_AT = 256 * 1024
_REMEMBERED = 4096

_VERSIONS = (b' HTTP/1.0" ', b' HTTP/1.1" ')
_HTTP2 = b' HTTP/2.0" '
#: Whole numbers as they are written, of those that come often.
_NUMBERS = [b"%d" % number for number in range(1000)]
_NOTHING = b'"-"'
_NO_HEADERS = b' "-" "-"'
_QUOTE, _BACKSLASH = b'"\\'
_UNSAFE = re.compile(rb'["\\\x00-\x1f\x7f-\xff]')
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
#: Headers that hold secrets: kept only where their own name is told to be.
_SECRET = frozenset(("authorization", "cookie", "proxy-authorization", "set-cookie"))


@attrs.frozen
class AccessLogSettings:
    """What is logged, and how (Traefik ``accessLog``).

    :ivar format: ``common``, ``genericCLF``, which ends after the user agent, or ``json``.
    :ivar statuses: statuses of requests that are logged.
    :ivar retried: whether requests are logged that were sent to more than one server.
    :ivar min_duration: requests that took longer than these seconds are logged, 0 for none on that account. Without
        any of the three everything is logged.
    :ivar default_mode: what becomes of fields that *names* doesn't name.
    :ivar header_mode: what becomes of headers that *headers* doesn't name. What holds credentials is redacted even
        if that is ``keep``.
    :ivar keep_query: whether the query is part of the path.
    :ivar internals: whether requests for the gate's own services are logged.
    """

    format: Literal["common", "genericCLF", "json"] = "common"
    statuses: Sequence[Container[int]] = ()
    retried: bool = False
    min_duration: float = 0.0
    default_mode: Mode = "keep"
    names: Mapping[str, Mode] = attrs.field(factory=dict)
    header_mode: Mode = "drop"
    headers: Mapping[str, Mode] = attrs.field(factory=dict)
    keep_query: bool = True
    internals: bool = False


class Sink(Protocol):
    """What takes lines: :class:`~swarmgate.observe.output.Output`."""

    def start(self) -> None:
        """Get ready."""

    def write(self, lines: bytes) -> None:
        """Write *lines* soon, without blocking."""

    def reopen(self) -> None:
        """Open the file anew."""

    def close(self) -> None:
        """Write what is waiting."""


def _number(number: int) -> bytes:
    return _NUMBERS[number] if 0 <= number < 1000 else decimal(number)


class AccessLog:
    """Writes a line for each exchange to *sink*.

    :ivar count: the requests so far, the number of the last one.
    """

    def __init__(
        self,
        sink: Sink,
        settings: AccessLogSettings,
        clock: IReactorTime,
        wall: Callable[[], float] = time.time,
        now: Callable[[], float] | None = None,
    ) -> None:
        """
        :param wall: the time of day, in seconds since the epoch.
        :param now: what exchanges take their times from, if that is another clock than usual.
        """
        # Given.
        self._sink = sink
        self._settings = settings
        self._clock = clock
        self._wall = wall
        self._now = now
        # Made of the settings.
        self._statuses = frozenset(
            status for status in range(100, 1000) if any(status in one for one in settings.statuses)
        )
        self._is_filtered = bool(settings.statuses or settings.retried or settings.min_duration)
        self._modes = {name.lower(): mode for name, mode in settings.names.items()}
        self._header_modes = {name.lower(): mode for name, mode in settings.headers.items()}
        self._referer = self._header_mode("referer")
        self._agent = self._header_mode("user-agent")
        self._has_headers = self._referer != "drop" or self._agent != "drop"
        is_whole = settings.default_mode == "keep" and not self._modes
        self._is_fast = settings.format != "json" and is_whole
        self._is_generic = settings.format == "genericCLF"
        self._keep_query = settings.keep_query
        self._internals = settings.internals
        # Until the next flush.
        self._lines: list[bytes] = []
        self._size = 0
        self._offset = wall() - self._moment()
        # Remembered.
        self.count = 0
        self._second = 0
        self._stamped = b""
        self._seconds: dict[int, bytes] = {}
        self._quoted: dict[str, bytes] = {"": b" " + _NOTHING}
        self._clients: dict[str, bytes] = {}
        self._shown: dict[bytes, bytes] = {}
        self._names: dict[bytes, str] = {}
        self._subjects: dict[bytes, str] = {b"": ""}

    # Its life.

    def start(self) -> None:
        """Get ready to write.

        :raises OSError: the file can't be opened.
        """
        self._sink.start()

    def stop(self) -> None:
        """Write what is there."""
        self._flush()
        self._sink.close()

    def reopen(self) -> None:
        """Open the file anew, after it was moved away."""
        self._flush()
        self._sink.reopen()

    # Exchanges.

    def record(self, exchange: Exchange) -> None:
        """Log *exchange*, which has ended."""
        self.count = count = self.count + 1
        if exchange.untold & NOT_LOGGED or (exchange.service.endswith("@internal") and not self._internals):
            return
        seconds = self._moment() - exchange.started
        if self._is_filtered and not self._is_wanted(exchange, seconds):
            return
        if self._is_fast and exchange.request.__class__ is not RefusedRequest:
            line = self._common(exchange, seconds, count)
        else:
            data = self._data(exchange, seconds, count)
            line = self._json(data) if self._settings.format == "json" else self._common_of(data)
        lines = self._lines
        if not lines:
            self._clock.callLater(_FLUSH_AFTER, self._flush)
        lines.append(line)
        self._size += len(line)
        if self._size > _FLUSH_AT:
            self._flush()

    def _flush(self) -> None:
        # The time of day may have been set meanwhile.
        self._offset = self._wall() - self._moment()
        lines, self._lines, self._size = self._lines, [], 0
        if lines:
            self._sink.write(b"".join(lines))

    def _is_wanted(self, exchange: Exchange, seconds: float) -> bool:
        settings = self._settings
        return (
            exchange.status in self._statuses
            or (settings.retried and exchange.retries > 0)
            or (settings.min_duration > 0 and seconds > settings.min_duration)
        )

    def _moment(self) -> float:
        return moment() if self._now is None else self._now()

    # The common format.

    def _common(self, exchange: Exchange, seconds: float, count: int) -> bytes:
        request = exchange.request
        path = request.asked_path or request.path
        query = request.query
        mark = b"?"
        if query is None or not self._keep_query:
            mark = query = b""
        if has_either(path, _QUOTE, _BACKSLASH) or has_either(query, _QUOTE, _BACKSLASH):
            path = escaped(path)
            query = escaped(query)
        second = int(exchange.started + self._offset)
        if second != self._second:
            self._stamped = self._seconds.get(second) or self._stamp(second)
            self._second = second
        number = router = server = took = space = b""
        end = b"\n"
        if not self._is_generic:
            space = b" "
            number = _number(count)
            router = self._quoted.get(exchange.router) or self._quote(exchange.router)
            server = self._quoted.get(exchange.server) or self._quote(exchange.server)
            took = _number(int(seconds * 1000))
            end = b"ms\n"
        # Joined, not formatted: that takes a third of the time.
        return joined(
            (
                self._client_and_user(exchange),
                self._stamped,
                request.method,
                b" ",
                path,
                mark,
                query,
                _VERSIONS[request.minor] if request.major == 1 else _HTTP2,
                _NUMBERS[exchange.status],
                b" ",
                _number(exchange.sent),
                self._headers_of(request) if self._has_headers else _NO_HEADERS,
                space,
                number,
                router,
                server,
                space,
                took,
                end,
            )
        )

    def _client_and_user(self, exchange: Exchange) -> bytes:
        """The begin of a line, up to the time."""
        request, user = exchange.request, exchange.user
        if not request.forwarded_for and not user:
            return self._clients.get(request.client_ip) or self._client(request.client_ip)
        client = escaped(request.forwarded_for) if request.forwarded_for else request.client_ip.encode("ascii") or b"-"
        return b"%b - %b" % (client, escaped(user.encode("utf-8")) if user else b"-")

    def _client(self, address: str) -> bytes:
        if len(self._clients) >= _REMEMBERED:
            self._clients.clear()
        begin = self._clients[address] = b"%b - -" % (address.encode("ascii") or b"-")
        return begin

    def _headers_of(self, request: Request) -> bytes:
        """The referer and the user agent of *request*, as the line has them."""
        block = request.block
        if block is None:
            return self._shown_of(request.fields)
        shown = self._shown.get(block.lines)
        if shown is None:
            shown = self._shown_of(block.fields)
            if len(block.lines) < LONGEST_REMEMBERED:
                if len(self._shown) >= REMEMBERED:
                    self._shown.clear()
                self._shown[block.lines] = shown
        return shown

    def _shown_of(self, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        return b" %b %b" % self._referer_and_agent(fields)

    def _referer_and_agent(self, fields: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        referer = agent = _NOTHING
        for name, value in fields:
            size = len(name)
            if size == 10 and self._agent != "drop" and name.lower() == b"user-agent":
                agent = _shown(value, self._agent)
            elif size == 7 and self._referer != "drop" and name.lower() == b"referer":
                referer = _shown(value, self._referer)
        return referer, agent

    def _stamp(self, second: int) -> bytes:
        if len(self._seconds) > 300:
            self._seconds.clear()
        at = time.gmtime(second)
        stamp = b' [%02d/%b/%04d:%02d:%02d:%02d +0000] "' % (at[2], _MONTHS[at[1] - 1], at[0], at[3], at[4], at[5])
        self._seconds[second] = stamp
        return stamp

    def _quote(self, text: str) -> bytes:
        if len(self._quoted) > _REMEMBERED:
            self._quoted.clear()
        quoted = self._quoted[text] = b' "%b"' % escaped(text.encode("utf-8"))
        return quoted

    # Any format, with any choice of fields.

    def _data(self, exchange: Exchange, seconds: float, count: int) -> dict[str, Any]:
        """What is to be logged of *exchange*, by Traefik's names."""
        request = exchange.request
        host, port = _split(request.authority)
        if request.host != host.lower().rstrip(b"."):
            # A middleware or the service has another one for the server.
            host, port = request.host, b""
        address, client_port = request.client_ip, _client_port(exchange)
        path = request.asked_path or request.path
        if request.query is not None and self._settings.keep_query:
            path = b"%b?%b" % (path, request.query)
        start = exchange.started + self._offset
        at_origin = seconds - (exchange.origin_started - exchange.started) if exchange.origin_started else 0.0
        data = {
            "ClientAddr": _joined(address, client_port),
            "ClientHost": _text(request.forwarded_for) or address,
            "ClientPort": client_port or "-",
            "ClientUsername": exchange.user or "-",
            "DownstreamContentSize": exchange.sent,
            "DownstreamStatus": exchange.status,
            "Duration": int(seconds * 1e9),
            "OriginContentSize": exchange.origin_sent,
            "OriginDuration": int(at_origin * 1e9),
            "OriginStatus": exchange.origin_status,
            "Overhead": int((seconds - at_origin) * 1e9),
            "RequestAddr": _text(host) + (f":{_text(port)}" if port else ""),
            "RequestContentSize": exchange.received,
            "RequestCount": count,
            "RequestHost": _text(host),
            "RequestMethod": _text(request.method),
            "RequestPath": _text(path),
            "RequestPort": _text(port) or "-",
            "RequestProtocol": _protocol(request),
            "RequestScheme": _text(request.scheme),
            "RetryAttempts": exchange.retries,
            "StartLocal": _rfc3339(start, time.localtime(start)),
            "StartUTC": _rfc3339(start, time.gmtime(start)),
            "entryPointName": exchange.entry_point,
        }
        if exchange.origin_sent != exchange.sent and exchange.sent:
            data["GzipRatio"] = exchange.origin_sent / exchange.sent
        if self._modes.get("requestline") == "keep":
            data["RequestLine"] = f"{data['RequestMethod']} {data['RequestPath']} {data['RequestProtocol']}"
        transport = _transport(exchange)
        if isinstance(transport, TLSTransport):
            data["TLSVersion"] = transport.version().removeprefix("TLSv")
            data["TLSCipher"] = transport.cipher()
            subject = self._subject(transport.peer_certificate())
            if subject:
                data["TLSClientSubject"] = subject
        trace = exchange.trace
        if trace is not None:
            data["TraceId"] = data["trace_id"] = trace.trace_id
            data["SpanId"] = data["span_id"] = trace.span_id
        for name, value in (
            ("RouterName", exchange.router),
            ("ServiceName", exchange.service),
            ("ServiceURL", exchange.server),
            ("ServiceAddr", exchange.server.partition("://")[2]),
        ):
            if value:
                data[name] = value
        data = {name: value for name, value in data.items() if self._is_kept(name)}
        self._add_headers(data, "request_", request.fields, request.length)
        if exchange.origin_fields is not None:
            self._add_headers(data, "origin_", exchange.origin_fields, -1)
        if exchange.response is not None:
            self._add_headers(data, "downstream_", exchange.response.fields, exchange.response.length)
        return data

    def _subject(self, certificate: bytes) -> str:
        """The subject of a client's certificate (DER), as RFC 4514 writes it; ``""`` if it can't be read."""
        subject = self._subjects.get(certificate)
        if subject is None:
            from cryptography.x509 import load_der_x509_certificate  # 10 MB, where clients show certificates

            try:
                subject = load_der_x509_certificate(certificate).subject.rfc4514_string()
            except ValueError:
                subject = ""
            if len(self._subjects) < _REMEMBERED:
                self._subjects[certificate] = subject
        return subject

    def _is_kept(self, name: str) -> bool:
        return self._modes.get(name.lower(), self._settings.default_mode) == "keep"

    def _header_mode(self, name: str) -> Mode:
        mode = self._header_modes.get(name)
        if mode is not None:
            return mode
        return "redact" if self._settings.header_mode == "keep" and name in _SECRET else self._settings.header_mode

    def _add_headers(
        self, data: dict[str, Any], prefix: str, fields: Sequence[tuple[bytes, bytes]], length: int
    ) -> None:
        if self._settings.header_mode == "drop" and not self._header_modes:
            return
        if length > 0:
            fields = [*fields, (b"Content-Length", b"%d" % length)]
        for name, value in fields:
            mode = self._header_mode(name.lower().decode("latin-1"))
            if mode == "drop":
                continue
            key = prefix + self._canonical(name)
            shown = "REDACTED" if mode == "redact" else _text(value)
            data[key] = f"{data[key]},{shown}" if key in data and mode == "keep" else shown

    def _canonical(self, name: bytes) -> str:
        """*name* as Go spells it: ``X-Real-Ip``."""
        known = self._names.get(name)
        if known is None:
            known = "-".join(part.capitalize() for part in name.decode("latin-1").split("-"))
            if len(self._names) < _REMEMBERED:
                self._names[name] = known
        return known

    def _json(self, data: dict[str, Any]) -> bytes:
        now = self._wall()
        data.update(level="info", msg="", time=_rfc3339(now, time.localtime(now), digits=0))
        return _encode(data).encode("ascii") + b"\n"

    def _common_of(self, data: dict[str, Any]) -> bytes:
        """A line of the common format, ``-`` for what is dropped."""

        def shown(name: str) -> bytes:
            value = data.get(name, "-")
            return escaped(str(value).encode("utf-8"))

        def quoted(name: str) -> bytes:
            return b'"%b"' % shown(name)

        start = data.get("StartUTC") or data.get("StartLocal")
        stamp = _common_stamp(start) if start else b"-"
        line = b'%b - %b [%b] "%b %b %b" %b %b %b %b' % (
            shown("ClientHost"),
            shown("ClientUsername"),
            stamp,
            shown("RequestMethod"),
            shown("RequestPath"),
            shown("RequestProtocol"),
            shown("DownstreamStatus"),
            shown("DownstreamContentSize"),
            quoted("request_Referer"),
            quoted("request_User-Agent"),
        )
        if self._is_generic:
            return line + b"\n"
        milliseconds = data.get("Duration", 0) // 1_000_000
        count, router, server = shown("RequestCount"), quoted("RouterName"), quoted("ServiceURL")
        return b"%b %b %b %b %dms\n" % (line, count, router, server, milliseconds)


_encode = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


def escaped(value: bytes) -> bytes:
    """*value* without anything that could end a line, or the quotes around it."""
    return _UNSAFE.sub(_escape, value)


def _escape(found: re.Match[bytes]) -> bytes:
    octet = found[0]
    return b"\\" + octet if octet in b'"\\' else b"\\x%02x" % octet[0]


def _shown(value: bytes, mode: Mode) -> bytes:
    if mode == "redact":
        return b'"REDACTED"'
    return b'"%b"' % escaped(value) if value else _NOTHING


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _split(authority: bytes) -> tuple[bytes, bytes]:
    host, colon, port = authority.rpartition(b":")
    return (host, port) if colon and port.isdigit() else (authority, b"")


def _joined(address: str, port: str) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{port}" if port else host


def _protocol(request: Request) -> str:
    if isinstance(request, RefusedRequest):
        return _text(request.protocol)
    return f"HTTP/1.{request.minor}" if request.major == 1 else "HTTP/2.0"


def _transport(exchange: Exchange) -> Any:
    """Of the connection that the request came over; None where there is none. Streams have a connection."""
    client: Any = exchange.client
    return getattr(getattr(client, "connection", client), "transport", None)


def _client_port(exchange: Exchange) -> str:
    transport = _transport(exchange)
    if transport is None:
        return ""
    return str(getattr(transport.getPeer(), "port", ""))


def _rfc3339(seconds: float, at: time.struct_time, digits: int = 9) -> str:
    day = f"{at.tm_year:04d}-{at.tm_mon:02d}-{at.tm_mday:02d}T{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d}"
    fraction = f".{int(seconds % 1 * 1e9):09d}" if digits else ""
    minutes = at.tm_gmtoff // 60
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}" if minutes else "Z"
    return day + fraction + zone


def _common_stamp(rfc3339: str) -> bytes:
    day, _, clock = rfc3339.partition("T")
    year, month, date = day.split("-")
    zone = "+0000" if clock.endswith("Z") else clock[-6:].replace(":", "")
    return f"{date}/{_MONTHS[int(month) - 1].decode()}/{year}:{clock[:8]} {zone}".encode("ascii")
