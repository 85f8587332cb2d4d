"""Field sections of HTTP/2: checked, and taken to and from the gate's requests and responses.

What HTTP/2 says of its own (RFC 9113, 8.2 and 8.3) is checked here. What is left of a request is then read by the same
:class:`~swarmgate.http.request_head.RequestHeads` as an HTTP/1.1 head, so that no check holds for one version only.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from os import urandom

from swarmgate.http.errors import BadRequest, BadResponse
from swarmgate.http.fields import LONGEST_REMEMBERED, REMEMBERED, TOKEN, may_trail, tokens
from swarmgate.http.message import UNKNOWN, FieldBlock, Fields, Request, Response
from swarmgate.http.request_head import RequestHeads

_NAME = re.compile(rb"(?:(?![A-Z])" + TOKEN + rb")++")
_METHOD = re.compile(TOKEN + rb"++")
#: Between line feeds, which no value may have: a control character, or white space at an end of a value.
_BAD_VALUES = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\n[\t ]|[\t ]\n")
#: Fields that belong to one connection, which HTTP/2 frames itself (RFC 9113, 8.2.2).
_OF_CONNECTION = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
_COLON = 0x3A
_SCHEMES = frozenset((b"http", b"https"))
_REMEMBERED = 4096
#: Octets of a path that is remembered.
_LONGEST_PATH = 256

Field = tuple[bytes, bytes]


class Malformed(BadRequest):
    """A message that is none by RFC 9113, 8.1.1: its stream is reset with PROTOCOL_ERROR."""


class _Names(dict[bytes, bool]):
    """Whether a name is a field's: made of a token's characters, none in upper case, and not one of a connection's."""

    def __missing__(self, name: bytes) -> bool:
        fits = _NAME.fullmatch(name) is not None and name not in _OF_CONNECTION
        if len(self) < _REMEMBERED and len(name) < 64:
            self[name] = fits
        return fits


_names = _Names()


def _check(fields: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse names and values that no field has.

    :raises Malformed: one is among *fields*.
    """
    values = [b""]
    for name, value in fields:
        if name[:1] != b":" and not _names[name]:
            why = "field of the connection" if name in _OF_CONNECTION else "malformed field name"
            raise Malformed(why)
        values.append(value)
    values.append(b"")
    block = b"\n".join(values)
    if block.count(b"\n") != len(values) - 1 or _BAD_VALUES.search(block):
        raise Malformed("malformed field value")


class _Alike:
    """What requests have in common whose field sections differ in their paths only.

    :ivar line: octets of their request lines in HTTP/1.1, and :ivar octets: of their heads, both without the path.
    """

    __slots__ = (
        "authority",
        "expects_continue",
        "fields",
        "has_length",
        "host",
        "length",
        "line",
        "managed",
        "method",
        "octets",
    )

    def __init__(self, request: Request, fields: FieldBlock, has_length: bool, line: int, octets: int) -> None:
        self.method = request.method
        self.authority = request.authority
        self.host = request.host
        self.fields = fields
        self.managed = request.forwarded
        self.length = request.length
        self.expects_continue = request.expects_continue
        self.has_length = has_length
        self.line = line
        self.octets = octets


class Requests:
    """Reads field sections of requests.

    Clients repeat themselves: the fields that come with a path are those that came with the last one. What was made of
    them, and of paths, is remembered, up to a bound.

    :param heads: reads what is left when HTTP/2's own has been taken away.
    :param websockets: whether an extended CONNECT for a websocket is served (RFC 8441).
    """

    __slots__ = ("_known", "_longest_head", "_longest_line", "_paths", "_websockets", "heads")

    def __init__(self, heads: RequestHeads, websockets: bool = False) -> None:
        self.heads = heads
        self._websockets = websockets
        self._longest_line = heads.limits.line
        self._longest_head = heads.limits.head
        #: By all fields but the path, in their order.
        self._known: dict[tuple[Field, ...], _Alike] = {}
        #: By the path as it came: what is forwarded, and the query.
        self._paths: dict[bytes, tuple[bytes, bytes | None]] = {}

    def read(self, fields: Fields, ended: bool) -> Request:
        """The request that the field section *fields* begins.

        :param ended: no body follows.
        :raises Malformed: it is none by RFC 9113.
        :raises BadRequest: it is refused as it would be in HTTP/1.1.
        """
        place = _place_of_path(fields)
        if place < 0:
            return self._read(fields, (), b"", ended)
        path = fields[place][1]
        others = (*fields[:place], *fields[place + 1 :])
        alike = self._known.get(others)
        parts = self._paths.get(path)
        if alike is None or parts is None:
            return self._read(fields, others, path, ended)
        size = len(path)
        if alike.line + size > self._longest_line or alike.octets + size > self._longest_head:
            return self._read(fields, others, path, ended)
        request = Request(alike.method, parts[0], parts[1], 1, alike.authority, alike.host, alike.fields)
        request.major = 2
        request.forwarded = alike.managed
        request.expects_continue = alike.expects_continue
        if ended:
            if alike.length:
                raise Malformed("Content-Length without a body")
        else:
            request.length = alike.length if alike.has_length else UNKNOWN
        return request

    def _read(self, fields: Fields, others: tuple[Field, ...], path: bytes, ended: bool) -> Request:
        """As :meth:`read`, for what is not known yet, and is remembered by *others* and by *path*."""
        head, upgrade, has_length = _head_of(fields, ended, self._websockets)
        request = self.heads.read(head)
        request.major = 2
        block = request.block
        if others and not upgrade and path[:1] == b"/" and block is not None:
            size = len(head) - len(path)
            if size < LONGEST_REMEMBERED:
                if len(self._known) >= REMEMBERED:
                    self._known.clear()
                line = head.index(b"\r\n") - len(path)
                self._known[others] = _Alike(request, block, has_length, line, size)
            if len(path) < _LONGEST_PATH:
                if len(self._paths) >= _REMEMBERED:
                    self._paths.clear()
                self._paths[path] = (request.path, request.query)
        if upgrade:
            request.upgrade = upgrade
            # HTTP/2 has none, and servers that speak HTTP/1.1 ask for one (RFC 8441, 5).
            request.fields.append((b"Sec-WebSocket-Key", b64encode(urandom(16))))
        elif ended:
            if request.length:
                raise Malformed("Content-Length without a body")
        elif not has_length:
            request.length = UNKNOWN
        return request


def _place_of_path(fields: Fields) -> int:
    """Where among *fields* the path is, if only other pseudo-header fields are before it; else -1."""
    for place, (name, _) in enumerate(fields):
        if name == b":path":
            return place
        if not name or name[0] != _COLON:
            break
    return -1


def _head_of(fields: Fields, ended: bool, websockets: bool) -> tuple[bytes, bytes, bool]:
    """The head in HTTP/1.1 of the request that the field section *fields* begins, the protocol that it changes to, and
    whether its length is told.

    :raises Malformed: it is none by RFC 9113.
    :raises BadRequest: it is refused as it would be in HTTP/1.1.
    """
    _check(fields)
    pseudo: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    cookies: list[bytes] = []
    host: bytes | None = None
    regular = has_length = False
    for name, value in fields:
        if name[:1] == b":":
            if regular or name in pseudo or name not in _PSEUDO:
                raise Malformed("misplaced, repeated or unknown pseudo-header field")
            pseudo[name] = value
            continue
        regular = True
        if name == b"host":
            if host is not None:
                raise Malformed("more than one Host")
            host = value
        elif name == b"cookie":
            cookies.append(value)
        elif name == b"te":
            if value.lower() != b"trailers":
                raise Malformed("TE other than trailers")
            lines.append(b"te: trailers\r\n")
        else:
            if name == b"content-length":
                has_length = True
            lines.append(b"%b: %b\r\n" % (name, value))
    if cookies:
        # They may come in crumbs, which only HTTP/2 knows (RFC 9113, 8.2.3).
        lines.append(b"cookie: %b\r\n" % b"; ".join(cookies))

    method, path, scheme = pseudo.get(b":method"), pseudo.get(b":path"), pseudo.get(b":scheme")
    authority = pseudo.get(b":authority")
    protocol = pseudo.get(b":protocol")
    if method is None or _METHOD.fullmatch(method) is None:
        raise Malformed("no method")
    if protocol is not None and (method != b"CONNECT" or not websockets):
        raise Malformed("extended CONNECT")
    if method == b"CONNECT" and protocol is None:
        if path is not None or scheme is not None or not authority:
            raise Malformed("malformed CONNECT")
        raise BadRequest("method CONNECT is not served", 501)
    if not path or scheme is None:
        raise Malformed("no path or no scheme")
    if scheme not in _SCHEMES:
        raise BadRequest("unknown scheme")
    if path[:1] != b"/" and (path != b"*" or method != b"OPTIONS"):
        raise Malformed("path does not begin with a slash")
    if authority is None:
        authority = host
    elif host is not None and host.lower() != authority.lower():
        raise Malformed(":authority and Host differ")
    if not authority:
        raise Malformed("no authority")
    upgrade = b""
    if protocol is not None:
        if protocol.lower() != b"websocket":
            raise BadRequest("protocol is not served", 501)
        if ended or has_length:
            raise Malformed("websocket with a body")
        method, upgrade = b"GET", b"websocket"
    head = b"%b %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (method, path, authority, b"".join(lines))
    return head, upgrade, has_length


def read_trailers(fields: list[tuple[bytes, bytes]]) -> Fields:
    """The trailer fields in *fields*, without those that would be acted on too late.

    :raises Malformed: they are none.
    """
    _check(fields)
    if any(name[:1] == b":" for name, _ in fields):
        raise Malformed("pseudo-header field in trailers")
    return [pair for pair in fields if may_trail(pair[0])]


class _Lowered(dict[bytes, bytes]):
    """Names in lower case; those of fields that HTTP/2 does not have are empty."""

    def __missing__(self, name: bytes) -> bytes:
        lowered = name.lower()
        if lowered in _OF_CONNECTION:
            lowered = b""
        if len(self) < _REMEMBERED and len(name) < 64:
            self[name] = lowered
        return lowered


_lowered = _Lowered()
_STATUS = {status: (b":status", b"%d" % status) for status in range(100, 1000)}


def response_fields(response: Response, length: int) -> Fields:
    """The field section of *response*; *length* of its body in octets, negative if it is not told."""
    fields = [_STATUS[response.status]]
    told = response.fields if response.block is None else response.block.fields
    fields += [(key, value) for name, value in told if (key := _lowered[name])]
    if length >= 0:
        fields.append((b"content-length", b"%d" % length))
    return fields


def lowered(fields: Fields) -> Fields:
    """*fields* with their names in lower case."""
    return [(key, value) for name, value in fields if (key := _lowered[name])]


def request_fields(request: Request) -> Fields:
    """The field section of *request*, as it is sent to a server."""
    fields = [
        (b":method", request.method),
        (b":scheme", b"http"),
        (b":authority", request.authority),
        (b":path", request.path if request.query is None else request.path + b"?" + request.query),
    ]
    fields += [(key, value) for name, value in request.fields if (key := _lowered[name])]
    if request.length > 0 or (request.length == 0 and request.method in (b"POST", b"PUT", b"PATCH")):
        fields.append((b"content-length", b"%d" % request.length))
    if request.expects_continue:
        fields.append((b"expect", b"100-continue"))
    return fields


def read_response(fields: list[tuple[bytes, bytes]]) -> Response:
    """The response that the field section *fields*, of a server, begins.

    :raises BadResponse: it is malformed.
    """
    try:
        _check(fields)
    except Malformed as error:
        raise BadResponse(error.reason) from None
    status = 0
    length = UNKNOWN
    kept: Fields = []
    for name, value in fields:
        if name[:1] == b":":
            if name != b":status" or status or kept or re.fullmatch(rb"[1-9][0-9][0-9]", value) is None:
                raise BadResponse("misplaced, repeated or unknown pseudo-header field")
            status = int(value)
        elif name == b"content-length":
            if re.fullmatch(rb"[0-9]{1,18}", value) is None or length not in (UNKNOWN, int(value)):
                raise BadResponse("bad Content-Length")
            length = int(value)
        else:
            kept.append((name, value))
    if not status or status == 101:
        raise BadResponse("no status")
    return Response(status, b"", kept, length)


def wants_trailers(fields: Fields) -> bool:
    """Whether a TE field among *fields* says that trailers are understood (RFC 9110, 6.5.1)."""
    return any(name.lower() == b"te" and b"trailers" in tokens(value) for name, value in fields)
