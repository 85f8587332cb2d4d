"""Heads of requests: read, checked, and written anew.

What is forwarded is always written from the parts, so that a server reads what the gate has understood. Sources: RFC
9112 (3 request line, 6 framing), RFC 9110 (7.2 Host, 7.6.1 Connection, 7.8 Upgrade, 10.1.1 Expect).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv6Address

import attrs

from swarmgate.http.errors import BadRequest
from swarmgate.http.fields import (
    CODING,
    CONNECTION,
    DIGITS,
    DROP,
    EXPECT,
    FRAMING,
    HOPELESS,
    HOST_FIELD,
    LENGTH,
    LONGEST_REMEMBERED,
    MANAGED_FIELD,
    NOT_NOMINABLE,
    PLAIN,
    REMEMBERED,
    TOKEN,
    UNDERSCORE,
    UPGRADE,
    Meanings,
    request_meaning,
    split_fields,
    tokens,
)
from swarmgate.http.message import UNKNOWN, FieldBlock, Fields, Request
from swarmgate.http.octets import joined
from swarmgate.http.paths import PathPolicy


def _those(octets: Iterable[int]) -> bytes:
    """For each octet 1 if it is one of *octets*, else 0."""
    wanted = frozenset(octets)
    return bytes(octet in wanted for octet in range(256))


_VISIBLE = range(0x21, 0x7F)
_IN_METHOD = _those(octet for octet in _VISIBLE if re.match(TOKEN, bytes((octet,))))
#: A segment that begins so, and goes on so, is in normal form.
_BEGINS_SEGMENT = _those(octet for octet in _VISIBLE if octet not in b"#%/?\\.")
_IN_SEGMENT = _those(octet for octet in _VISIBLE if octet not in b"#%/?\\")
_IN_QUERY = _those(octet for octet in _VISIBLE if octet not in b"#")
_1_1, _1_0 = b" HTTP/1.1\r\n", b" HTTP/1.0\r\n"
_REQUEST_LINE = re.compile(rb"(" + TOKEN + rb"++) ([\x21-\x7e]++) HTTP/([0-9])\.([0-9])\r\n")
_HOST = re.compile(
    rb"(?:([A-Za-z0-9._~\-]++)|(\[[0-9A-Fa-f:.]++\]))(?::([0-9]{1,5}+))?+",
)
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*+)([/?].*+)?")


#: What HTTP/2's preface looks like to HTTP/1.1: a head, and something behind it (RFC 9113, 3.4).
PREFACE_HEAD = b"PRI * HTTP/2.0\r\n\r\n"


class OtherVersion(BadRequest):
    """The client speaks HTTP/2 from the first octet on."""


@attrs.frozen
class HeadLimits:
    """How long a request's head may be.

    :ivar line: octets of the request line; more is answered 414.
    :ivar head: octets of the whole head; more is answered 431.
    :ivar fields: number of field lines; more is answered 431.
    """

    line: int = 8192
    head: int = 32768
    fields: int = 100


_meanings = Meanings(request_meaning)


def refuse_early(start: bytes, limits: HeadLimits, seen: int = 0) -> None:
    """Refuse a head that is not complete yet, if nothing that follows can make it acceptable.

    :param seen: how many octets of it have been looked at before.
    :raises BadRequest: it holds an impossible byte, or is too long already.
    """
    if HOPELESS.search(start, max(0, seen - 1)):
        raise BadRequest("malformed head")
    if len(start) > limits.line and start.find(b"\r\n", 0, limits.line) < 0:
        raise BadRequest("request line too long", 414)
    if len(start) > limits.head:
        raise BadRequest("head too long", 431)


def parse_host(value: bytes) -> tuple[bytes, bytes]:
    """*value* of a Host field as it is forwarded, and its host in lower case without port and trailing dot.

    :raises BadRequest: it is none (RFC 9110, 7.2).
    """
    found = _HOST.fullmatch(value)
    if found is None or (found[3] is not None and int(found[3]) > 65535):
        raise BadRequest("bad Host")
    if found[2] is not None and not _is_ipv6(found[2][1:-1]):
        raise BadRequest("bad Host")
    return value, (found[1] or found[2]).lower().rstrip(b".")


def _is_ipv6(text: bytes) -> bool:
    try:
        IPv6Address(text.decode("ascii"))
    except AddressValueError:
        return False
    return True


class _Hosts(dict[bytes, tuple[bytes, bytes]]):
    """Host values that were parsed before, up to a bound, since clients choose them."""

    def __missing__(self, value: bytes) -> tuple[bytes, bytes]:
        parsed = parse_host(value)
        if len(self) < 4096 and len(value) < 256:
            self[value] = parsed
        return parsed


_hosts = _Hosts()


class RequestFields(FieldBlock):
    """What the field lines of a request's head say.

    :ivar octets: the lines as they are on the wire, with the minor version before them; ``b""`` if they are too long to
        be remembered.
    """

    __slots__ = (
        "authority",
        "expects_continue",
        "host",
        "keep_alive",
        "length",
        "managed",
        "name",
        "octets",
        "upgrade",
    )

    def __init__(
        self,
        octets: bytes,
        fields: Fields,
        managed: Fields | None,
        host: bytes | None,
        authority: bytes,
        name: bytes,
        length: int,
        keep_alive: bool,
        upgrade: bytes,
        expects_continue: bool,
    ) -> None:
        super().__init__(fields)
        self.octets = octets
        self.managed = managed
        self.host = host
        self.authority = authority
        self.name = name
        self.length = length
        self.keep_alive = keep_alive
        self.upgrade = upgrade
        self.expects_continue = expects_continue


class RequestHeads:
    """Reads the heads of requests.

    Clients repeat themselves: the same program sends the same field lines again and again. What was made of a block
    of lines is remembered, and a head that has the same block is spared the work.

    :param underscores: what becomes of field names with ``_``: ``keep``, ``delete`` or ``reject`` (Traefik
        ``http.underscoreHeadersStrategy``). Those that could be taken for a field that the gate acts on never pass.
    """

    def __init__(self, limits: HeadLimits, paths: PathPolicy, underscores: str = "keep") -> None:
        self.limits = limits
        self._longest_line = limits.line
        self._longest_head = limits.head
        self._normalise = paths.normalise
        self._underscores = underscores
        #: By the minor version and the lines, as they are on the wire.
        self._known: dict[bytes, RequestFields] = {}

    def read(self, block: bytes) -> Request:
        """The request whose head is *block*, from the request line to the empty line, both included.

        :raises BadRequest: it is malformed, ambiguous, too long, or of a kind that is not served.
        """
        method_end, path_end, start = usual_line(block)
        if not start:
            return self._read_unusual(block)
        if start - 2 > self._longest_line:
            raise BadRequest("request line too long", 414)
        if len(block) > self._longest_head:
            raise BadRequest("head too long", 431)
        return _usual_request(block, method_end, path_end, start, self._lines(block, start))

    def read_again(self, data: bytes, last: RequestFields | None) -> Request | None:
        """The request that *data* is, if it is a head and nothing else whose field lines were read before.

        None says nothing about what it is.

        :param last: what the field lines said that the same client has sent before, and probably sends again.
        :raises BadRequest: it is of a kind that is not served.
        """
        method_end, path_end, start = usual_line(data)
        if not start or start - 2 > self._longest_line or len(data) > self._longest_head:
            return None
        if last is None or len(last.octets) != len(data) - start + 3 or not data.endswith(last.octets):
            last = self._known.get(data[start - 3 :])
            if last is None:
                return None
        return _usual_request(data, method_end, path_end, start, last)

    def _read_unusual(self, block: bytes) -> Request:
        """As :meth:`read`, for any form of request line."""
        limits = self.limits
        line = _REQUEST_LINE.match(block)
        if line is None:
            raise _why_no_request_line(block, limits)
        method, target, major, digit = line.groups()
        start = line.end()
        if method == b"PRI" and major == b"2" and block == PREFACE_HEAD:
            raise OtherVersion("HTTP version not supported", 505)
        if start - 2 > limits.line:
            raise BadRequest("request line too long", 414)
        if len(block) > limits.head:
            raise BadRequest("head too long", 431)
        if major != b"1" or digit not in b"01":
            raise BadRequest("HTTP version not supported", 505)
        lines = self._lines(block, start)
        authority = lines.authority
        name = lines.name
        if target[:1] != b"/":
            target, host = _resolve_target(method, target, lines.host)
            if host is not lines.host:
                authority, name = _hosts[host] if host else (b"", b"")
        elif b"#" in target:
            raise BadRequest("fragment in request target")
        if method in _NOT_SERVED:
            raise BadRequest(f"method {method.decode()} is not served", _NOT_SERVED[method])
        path, mark, rest = target.partition(b"?")
        path = self._normalise(path)
        return _request_of(method, path, rest if mark else None, digit == b"1", authority, name, lines)

    def _lines(self, block: bytes, start: int) -> RequestFields:
        """What the field lines of *block* from *start* on say."""
        key = block[start - 3 :]
        lines = self._known.get(key)
        if lines is None:
            is_short = len(key) < LONGEST_REMEMBERED
            lines = self._parse(block, start, key[:1] == b"1", key if is_short else b"")
            if is_short:
                if len(self._known) >= REMEMBERED:
                    self._known.clear()
                self._known[key] = lines
        return lines

    def _parse(self, block: bytes, start: int, is_1_1: bool, octets: bytes) -> RequestFields:
        """What the field lines of *block* from *start* on say."""
        try:
            received = split_fields(block, start)
        except ValueError:
            raise BadRequest("malformed field line") from None
        if len(received) > self.limits.fields:
            raise BadRequest("too many fields", 431)
        fields: Fields = []
        managed: Fields | None = None
        host: bytes | None = None
        connection: list[bytes] | None = None
        codings: list[bytes] | None = None
        length = 0
        has_length = expects = wants_trailers = False
        upgrade = b""
        for pair in received:
            meaning = _meanings[pair[0]]
            if meaning == PLAIN:
                fields.append(pair)
            elif meaning == HOST_FIELD:
                if host is not None:
                    raise BadRequest("more than one Host")
                host = pair[1]
            elif meaning == DROP:
                pass
            elif meaning == CONNECTION:
                connection = tokens(pair[1]) if connection is None else connection + tokens(pair[1])
            elif meaning == LENGTH:
                if has_length or DIGITS.fullmatch(pair[1]) is None:
                    raise BadRequest("bad Content-Length")
                has_length = True
                length = int(pair[1])
            elif meaning == CODING:
                codings = tokens(pair[1]) if codings is None else codings + tokens(pair[1])
            elif meaning == MANAGED_FIELD:
                managed = [pair] if managed is None else [*managed, pair]
            elif meaning == UNDERSCORE:
                if self._underscores == "reject":
                    raise BadRequest("field name with an underscore")
                if self._underscores == "keep":
                    fields.append(pair)
            elif meaning == UPGRADE:
                upgrade = pair[1].strip(b" \t").lower()
            elif meaning == EXPECT:
                if pair[1].lower() != b"100-continue":
                    raise BadRequest("unknown expectation", 417)
                expects = True
            elif b"trailers" in tokens(pair[1]):  # TE
                wants_trailers = True

        if codings is not None:
            _check_coding(codings, has_length, is_1_1)
            length = UNKNOWN
        keep_alive = is_1_1
        if connection is None:
            upgrade = b""
        else:
            keep_alive = b"close" not in connection and (is_1_1 or b"keep-alive" in connection)
            if not is_1_1 or b"upgrade" not in connection:
                upgrade = b""  # RFC 9110, 7.8
            fields = _without_nominated(fields, connection)
        if host is None and is_1_1:
            raise BadRequest("no Host")
        if upgrade and length:
            raise BadRequest("upgrade with a body")
        if upgrade != b"websocket":
            # Every other protocol, h2c above all, would carry requests past the routes and their middlewares.
            upgrade = b""
        if wants_trailers:
            fields.append((b"TE", b"trailers"))
        authority, name = _hosts[host] if host else (b"", b"")
        return RequestFields(
            octets=octets,
            fields=fields,
            managed=managed,
            host=host,
            authority=authority,
            name=name,
            length=length,
            keep_alive=keep_alive,
            upgrade=upgrade,
            expects_continue=expects and is_1_1 and length != 0,
        )


def usual_line(block: bytes) -> tuple[int, int, int]:
    """Where method and path of *block*'s request line end, and where the next line begins.

    All are 0 if the line isn't like that of nearly all requests: in origin form, with a path that is in normal form
    already. It is written for the compiler, which makes a few instructions of each step; a regular expression takes ten
    times as long.
    """
    # Nothing here goes past the end of a line.
    if not block.endswith(b"\r\n"):
        return 0, 0, 0
    octets, in_method, begins_segment = block, _IN_METHOD, _BEGINS_SEGMENT
    in_segment, in_query = _IN_SEGMENT, _IN_QUERY
    at = 0
    while in_method[octets[at]]:
        at += 1
    method_end = at
    if not at or octets[at] != 0x20 or octets[at + 1] != 0x2F:  # space, slash
        return 0, 0, 0
    at += 2
    while begins_segment[octets[at]]:
        at += 1
        while in_segment[octets[at]]:
            at += 1
        if octets[at] == 0x2F:
            at += 1
    path_end = at
    if octets[at] == 0x3F:  # question mark
        at += 1
        while in_query[octets[at]]:
            at += 1
    if not block.startswith(_1_1, at) and not block.startswith(_1_0, at):
        return 0, 0, 0
    return method_end, path_end, at + 11


def _usual_request(block: bytes, method_end: int, path_end: int, start: int, lines: RequestFields) -> Request:
    """The request with *lines* whose request line is as :func:`usual_line` has found it."""
    octets = block
    method = octets[:method_end]
    if method != b"GET" and method in _NOT_SERVED:
        raise BadRequest(f"method {method.decode()} is not served", _NOT_SERVED[method])
    path = octets[method_end + 1 : path_end]
    query = octets[path_end + 1 : start - 11] if octets[path_end] == 0x3F else None
    return _request_of(method, path, query, octets[start - 3] == 0x31, lines.authority, lines.name, lines)


def _request_of(
    method: bytes,
    path: bytes,
    query: bytes | None,
    is_1_1: bool,
    authority: bytes,
    name: bytes,
    lines: RequestFields,
) -> Request:
    request = Request(method, path, query, 1 if is_1_1 else 0, authority, name, lines)
    request.forwarded = lines.managed
    request.length = lines.length
    request.keep_alive = lines.keep_alive
    request.upgrade = lines.upgrade
    request.expects_continue = lines.expects_continue
    return request


#: PRI begins HTTP/2's preface, and servers that know that take it for more than a method (RFC 9113, 11.6).
_NOT_SERVED = {b"CONNECT": 501, b"PRI": 501, b"TRACE": 405}


def _why_no_request_line(block: bytes, limits: HeadLimits) -> BadRequest:
    if block.find(b"\r\n") > limits.line:
        return BadRequest("request line too long", 414)
    return BadRequest("malformed request line")


def _check_coding(codings: list[bytes], has_length: bool, is_1_1: bool) -> None:
    """Refuse every transfer coding but a lone ``chunked`` (RFC 9112, 6.1)."""
    if has_length:
        raise BadRequest("both Transfer-Encoding and Content-Length")
    if not is_1_1:
        raise BadRequest("Transfer-Encoding in HTTP/1.0")
    if codings == [b"chunked"]:
        return
    if codings and codings[-1] == b"chunked" and codings.count(b"chunked") == 1 and b"identity" not in codings:
        raise BadRequest("transfer coding not implemented", 501)
    raise BadRequest("bad Transfer-Encoding")


def _without_nominated(fields: Fields, connection: Iterable[bytes]) -> Fields:
    """*fields* without those that a Connection field says are for this connection only (RFC 9110, 7.6.1)."""
    nominated = set(connection)
    if nominated & FRAMING:
        raise BadRequest("Connection names a field that frames the message")
    nominated -= NOT_NOMINABLE
    if not nominated:
        return fields
    return [pair for pair in fields if pair[0].lower() not in nominated]


def _resolve_target(method: bytes, target: bytes, host: bytes | None) -> tuple[bytes, bytes | None]:
    """The origin form of *target*, and the host that goes with it (RFC 9112, 3.2)."""
    if target == b"*":
        if method != b"OPTIONS":
            raise BadRequest("bad request target")
        return target, host
    if method == b"CONNECT":
        return b"/", b""
    found = _ABSOLUTE.fullmatch(target)
    if found is None or not found[1] or b"#" in target:
        raise BadRequest("bad request target")
    if host:
        parse_host(host)
    rest = found[2] or b"/"
    return (b"/" + rest if rest[:1] == b"?" else rest), found[1]


def write_request(request: Request) -> bytes:
    """The head of *request* as it is sent to a server."""
    end = b"\r\n\r\n"
    length = request.length
    if request.upgrade:
        end = b"\r\nConnection: Upgrade\r\nUpgrade: " + request.upgrade + end
    elif length > 0:
        end = b"\r\nContent-Length: %d\r\n\r\n" % length
    elif length:
        end = b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    elif request.method != b"GET" and request.method in _METHODS_WITH_BODY:
        end = b"\r\nContent-Length: 0\r\n\r\n"
    if request.expects_continue:
        end = b"\r\nExpect: 100-continue" + end
    query = request.query
    return joined(
        (
            request.method,
            b" ",
            request.path,
            b"" if query is None else b"?",
            query or b"",
            b" HTTP/1.1\r\nHost: ",
            request.authority,
            request.lines(),
            request.added_lines(),
            end,
        )
    )


_METHODS_WITH_BODY = frozenset((b"POST", b"PUT", b"PATCH"))
