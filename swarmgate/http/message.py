"""Requests and responses, as the data plane and the middlewares see them.

A field list is a list of ``(name, value)`` pairs of bytes, in the order of the wire, names spelled as they came. It
holds end-to-end fields only: what frames a message or belongs to one connection (Host, Content-Length,
Transfer-Encoding, Connection and what it names, ...) has become an attribute and is written anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Fields = list[tuple[bytes, bytes]]

#: The length of a body that is sent in chunks, or until the connection closes: known only at its end.
UNKNOWN = -1

_colon = b": ".join
_line_ends = b"\r\n".join
_ESCAPE = re.compile(rb"%([0-9A-F]{2})")
#: Whether an octet is there is asked by its number: of bytes it takes ten times as long.
_PERCENT = ord("%")
_RESERVED = frozenset(b":/?#[]@!$&'()*+,;=%")


def field(fields: Fields, name: bytes) -> bytes | None:
    """The value of the first field called *name* (lower case), None if there is none."""
    for key, value in fields:
        if key.lower() == name:
            return value
    return None


def field_values(fields: Fields, name: bytes) -> list[bytes]:
    """The values of all fields called *name* (lower case), in order."""
    return [value for key, value in fields if key.lower() == name]


def without(fields: Fields, name: bytes) -> Fields:
    """*fields* without those called *name* (lower case), in any of its spellings with ``_`` for ``-``."""
    return [pair for pair in fields if pair[0].lower().replace(b"_", b"-") != name]


def lines_of(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """*fields* as they are written, each line with CR LF before it."""
    lines = _line_ends(map(_colon, fields))
    return b"\r\n" + lines if lines else b""


class FieldBlock:
    """Fields in both forms that are needed of them. Those that come again and again are made once.

    :ivar fields: taken apart; :ivar lines: as they are written, see :func:`lines_of`.
    """

    __slots__ = ("fields", "lines")

    def __init__(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        self.fields = tuple(fields)
        self.lines = lines_of(self.fields)


def _unescape(found: re.Match[bytes]) -> bytes:
    octet = int(found[1], 16)
    return found[0] if octet in _RESERVED else bytes((octet,))


class Request:
    """A request whose head has been read and checked.

    :ivar method: as sent; methods are case-sensitive (RFC 9110, 9.1).
    :ivar path: the path that is forwarded: normalised, its escapes in upper case, unreserved characters unescaped.
    :ivar asked_path: the path before a middleware changed it, None if none has.
    :ivar query: what follows the first ``?``, without it; None without one.
    :ivar major: the version of HTTP that it came over, 1 or 2.
    :ivar minor: the minor version of HTTP/1, 0 or 1; 1 for HTTP/2, which has all that HTTP/1.1 has.
    :ivar authority: what the Host field of the forwarded request will say.
    :ivar host: *authority* in lower case, without port and trailing dot; ``b""`` if there was none.
    :ivar fields: the end-to-end fields: a list, made when it is first asked for.
    :ivar block: the fields as they came, as long as nobody has asked for the list and may have changed it, else None.
    :ivar length: of the body in octets, 0 if there is none, :data:`UNKNOWN` if it is sent in chunks.
    :ivar client_ip: the address of the peer, as text (RFC 5952 spelling for IPv6).
    :ivar secure: whether it came over TLS.
    :ivar forwarded_for: what X-Forwarded-For said when the gate received it, if the peer is trusted, else ``b""``.
    :ivar scheme: ``http`` or ``https``; what a trusted peer's X-Forwarded-Proto says comes before *secure*.
    :ivar upgrade: the protocol that the client wants to change to, lower case; ``b""`` for none.
    :ivar expects_continue: the client waits for a 100 before it sends the body.
    :ivar keep_alive: the client's connection may be used again afterwards.
    """

    __slots__ = (
        "_added",
        "_fields",
        "_routing_path",
        "asked_path",
        "authority",
        "block",
        "client_ip",
        "expects_continue",
        "forwarded",
        "forwarded_for",
        "host",
        "keep_alive",
        "length",
        "major",
        "method",
        "minor",
        "path",
        "query",
        "scheme",
        "secure",
        "trailers_wanted",
        "upgrade",
    )

    def __init__(
        self,
        method: bytes,
        path: bytes,
        query: bytes | None,
        minor: int,
        authority: bytes,
        host: bytes,
        fields: Fields | FieldBlock,
    ) -> None:
        self.method = method
        self.path = path
        self.asked_path: bytes | None = None
        self.query = query
        self.major = 1
        self.minor = minor
        self.authority = authority
        self.host = host
        self._added: FieldBlock | None = None
        if isinstance(fields, FieldBlock):
            self.block: FieldBlock | None = fields
            self._fields: Fields | None = None
        else:
            self.block = None
            self._fields = fields
        self.forwarded: Fields | None = None
        self.length = 0
        self.client_ip = ""
        self.secure = False
        self.scheme = b"http"
        self.forwarded_for = b""
        self.upgrade = b""
        self.expects_continue = False
        self.keep_alive = True
        self.trailers_wanted = False
        self._routing_path: bytes | None = None

    @property
    def fields(self) -> Fields:
        """The end-to-end fields; whoever has the list may change it."""
        fields = self._fields
        if fields is None:
            fields = self._fields = [] if self.block is None else [*self.block.fields]
            if self._added is not None:
                fields += self._added.fields
            self.block = self._added = None
        return fields

    @fields.setter
    def fields(self, fields: Fields) -> None:
        self._fields = fields
        self.block = self._added = None

    def add(self, block: FieldBlock) -> None:
        """Add the fields of *block* after those that there are."""
        if self.block is not None and self._added is None:
            self._added = block
        else:
            self.fields += block.fields

    def lines(self) -> bytes:
        """The fields as they are written, see :func:`lines_of`, but for :meth:`added_lines`."""
        return lines_of(self.fields) if self.block is None else self.block.lines

    def added_lines(self) -> bytes:
        """The fields that follow :meth:`lines`, as they are written: they are put together where all are written."""
        return b"" if self._added is None else self._added.lines

    @property
    def target(self) -> bytes:
        """The request target that is forwarded: the path, and the query if there is one."""
        return self.path if self.query is None else self.path + b"?" + self.query

    @property
    def routing_path(self) -> bytes:
        """The path that rules are matched against: unescaped but for reserved characters (Traefik 3.4.1)."""
        if _PERCENT not in self.path:
            return self.path
        if self._routing_path is None:
            self._routing_path = _ESCAPE.sub(_unescape, self.path)
        return self._routing_path

    def set_path(self, path: bytes) -> None:
        """Forward *path*, already normalised, in place of the present one."""
        if self.asked_path is None:
            self.asked_path = self.path
        self.path = path
        self._routing_path = None

    def __repr__(self) -> str:
        return f"<Request {self.method.decode()} {self.authority.decode('latin-1')}{self.target.decode('latin-1')}>"


class Response:
    """The head of a response, on its way to the client.

    :ivar status: the code.
    :ivar reason: the phrase, which may be empty.
    :ivar fields: the end-to-end fields: a list, made when it is first asked for.
    :ivar block: the fields as they came, as long as nobody has asked for the list and may have changed it, else None.
    :ivar length: of the body in octets; :data:`UNKNOWN` if it is known only at its end.
    """

    __slots__ = ("_fields", "block", "length", "reason", "status")

    def __init__(self, status: int, reason: bytes, fields: Fields | FieldBlock, length: int) -> None:
        self.status = status
        self.reason = reason
        if isinstance(fields, FieldBlock):
            self.block: FieldBlock | None = fields
            self._fields: Fields | None = None
        else:
            self.block = None
            self._fields = fields
        self.length = length

    @property
    def fields(self) -> Fields:
        """The end-to-end fields; whoever has the list may change it."""
        fields = self._fields
        if fields is None:
            fields = self._fields = [] if self.block is None else [*self.block.fields]
            self.block = None
        return fields

    @fields.setter
    def fields(self, fields: Fields) -> None:
        self._fields = fields
        self.block = None

    def lines(self) -> bytes:
        """The fields as they are written, see :func:`lines_of`."""
        return lines_of(self.fields) if self.block is None else self.block.lines

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.length} octets>"
