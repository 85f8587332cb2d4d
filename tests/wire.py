"""HTTP/1.1 as an outsider reads it: the strict reader that judges what the gate sends to either side.

It shares nothing with the gate's own parser, so that a fault there cannot hide here. It takes only what a careful
sender writes (RFC 9112): anything else is :exc:`Malformed`.
"""

from __future__ import annotations

import re

import attrs

Fields = tuple[tuple[bytes, bytes], ...]

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-~]+) HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9]) ([\t \x21-\x7e\x80-\xff]*)")
_FIELD = re.compile(
    rb"(" + _TOKEN + rb"): ?((?:[\x21-\x7e\x80-\xff](?:[\t \x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)"
)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")


class Malformed(Exception):
    """Something that no careful sender writes."""


@attrs.frozen
class Message:
    """A whole request or response.

    :ivar start: the groups of its first line: method, target, minor version; or minor version, status, reason.
    :ivar framing: ``b"length"``, ``b"chunked"``, ``b"none"`` or ``b"close"``.
    :ivar trailers: what followed a chunked body.
    """

    start: tuple[bytes, bytes, bytes]
    fields: Fields
    body: bytes
    framing: bytes
    trailers: Fields = ()

    def values(self, name: bytes) -> list[bytes]:
        """The values of the fields called *name* (lower case)."""
        return [value for key, value in self.fields if key.lower() == name]

    @property
    def status(self) -> int:
        """The status code of a response."""
        return int(self.start[1])

    @property
    def closes(self) -> bool:
        """Whether the sender says that its connection ends with this message."""
        return b"close" in [
            option.strip().lower() for value in self.values(b"connection") for option in value.split(b",")
        ]


def read_request(data: bytes) -> tuple[Message, bytes] | None:
    """The first request in *data* and what follows it; None while it is not whole."""
    head = _head(data, _REQUEST_LINE)
    if head is None:
        return None
    start, fields, rest = head
    framing, length = _framing(fields)
    if framing == b"close":
        framing = b"none"
    return _body(start, fields, framing, length, rest, ended=False)


def read_response(data: bytes, method: bytes, ended: bool) -> tuple[Message, bytes] | None:
    """The first response in *data*, to a request of that *method*, and what follows it; None while it is not whole.

    :param ended: the sender has closed the connection, cleanly.
    """
    head = _head(data, _STATUS_LINE)
    if head is None:
        return None
    start, fields, rest = head
    status = int(start[1])
    framing, length = _framing(fields)
    if status < 200 and framing != b"close":
        raise Malformed(f"a body is announced with status {status}")
    if method == b"HEAD" or status < 200 or status in (204, 304):
        if status == 204 and framing != b"close":
            raise Malformed("a body is announced with status 204")
        framing = b"none"
    return _body(start, fields, framing, length, rest, ended)


def _head(data: bytes, line: re.Pattern[bytes]) -> tuple[tuple[bytes, bytes, bytes], Fields, bytes] | None:
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    first, *lines = head.split(b"\r\n")
    found = line.fullmatch(first)
    if found is None:
        raise Malformed(f"first line {first[:80]!r}")
    return (found[1], found[2], found[3]), _fields(lines), rest


def _fields(lines: list[bytes]) -> Fields:
    pairs = []
    for one in lines:
        found = _FIELD.fullmatch(one)
        if found is None:
            raise Malformed(f"field line {one[:80]!r}")
        pairs.append((found[1], found[2]))
    return tuple(pairs)


def _framing(fields: Fields) -> tuple[bytes, int]:
    lengths = [value for key, value in fields if key.lower() == b"content-length"]
    codings = [value for key, value in fields if key.lower() == b"transfer-encoding"]
    if codings:
        if lengths or codings != [b"chunked"]:
            raise Malformed(f"Transfer-Encoding {codings} with Content-Length {lengths}")
        return b"chunked", 0
    if lengths:
        if len(lengths) > 1 or not re.fullmatch(rb"0|[1-9][0-9]{0,17}", lengths[0]):
            raise Malformed(f"Content-Length {lengths}")
        return b"length", int(lengths[0])
    return b"close", 0


def _body(
    start: tuple[bytes, bytes, bytes], fields: Fields, framing: bytes, length: int, rest: bytes, ended: bool
) -> tuple[Message, bytes] | None:
    if framing == b"none":
        return Message(start, fields, b"", framing), rest
    if framing == b"length":
        if len(rest) < length:
            return None
        return Message(start, fields, rest[:length], framing), rest[length:]
    if framing == b"close":
        return (Message(start, fields, rest, framing), b"") if ended else None
    body = b""
    while True:
        found = _CHUNK.match(rest)
        if found is None:
            if re.match(rb"[0-9A-Fa-f]{0,8}\r?\Z", rest):
                return None
            raise Malformed(f"chunk size {rest[:40]!r}")
        size, rest = int(found[1], 16), rest[found.end() :]
        if not size:
            break
        if len(rest) < size + 2:
            return None
        if rest[size : size + 2] != b"\r\n":
            raise Malformed(f"{rest[size : size + 2]!r} after a chunk's data")
        body, rest = body + rest[:size], rest[size + 2 :]
    if rest.startswith(b"\r\n"):
        return Message(start, fields, body, framing), rest[2:]
    trailers, end, rest = rest.partition(b"\r\n\r\n")
    if not end:
        return None
    return Message(start, fields, body, framing, _fields(trailers.split(b"\r\n"))), rest
