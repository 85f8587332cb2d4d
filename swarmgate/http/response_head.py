"""Heads of responses: read, checked, and written anew (RFC 9112, 4 and 6; RFC 9110, 7.6.1)."""

from __future__ import annotations

import re

from swarmgate.http.errors import BadResponse
from swarmgate.http.fields import (
    CODING,
    CONNECTION,
    DIGITS,
    DROP,
    FRAMING,
    LENGTH,
    LONGEST_REMEMBERED,
    NOT_NOMINABLE,
    PLAIN,
    REMEMBERED,
    UPGRADE,
    Meanings,
    split_fields,
    tokens,
)
from swarmgate.http.message import UNKNOWN, FieldBlock, Fields, Response
from swarmgate.http.octets import joined

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*+))?\r\n")
#: As a response's length: chunked, where :data:`UNKNOWN` means until the connection closes.
CHUNKED = -2

_RESPONSE_MEANINGS = {
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
    b"keep-alive": DROP,
    b"proxy-connection": DROP,
    b"te": DROP,
}


def _response_meaning(name: bytes) -> int:
    return _RESPONSE_MEANINGS.get(name.lower(), PLAIN)


_meanings = Meanings(_response_meaning)


class ResponseHead:
    """A head of a response, taken apart.

    :ivar octets: the head as it is on the wire; ``b""`` if it is too long to be remembered.
    :ivar length: of the body, :data:`CHUNKED` where that is how it is framed.
    :ivar is_reusable: its connection may be used again.
    :ivar upgrade: the protocol that the server wants to change to.
    """

    __slots__ = ("fields", "is_reusable", "length", "octets", "reason", "status", "upgrade")

    def __init__(
        self,
        octets: bytes,
        status: int,
        reason: bytes,
        fields: FieldBlock,
        length: int,
        is_reusable: bool,
        upgrade: bytes,
    ) -> None:
        self.octets = octets
        self.status = status
        self.reason = reason
        self.fields = fields
        self.length = length
        self.is_reusable = is_reusable
        self.upgrade = upgrade

    def response(self) -> Response:
        """The response that begins with it."""
        return Response(self.status, self.reason, self.fields, self.length)


#: Heads as they are on the wire: within a second a server often repeats itself.
_known_responses: dict[bytes, ResponseHead] = {}


def parse_response(block: bytes) -> ResponseHead:
    """What *block*, the head of a response, says.

    :raises BadResponse: it is malformed or ambiguous; nothing of it is passed on.
    """
    head = _known_responses.get(block)
    if head is None:
        is_short = len(block) < LONGEST_REMEMBERED
        head = _parse_response(block, block if is_short else b"")
        if is_short:
            if len(_known_responses) >= REMEMBERED:
                _known_responses.clear()
            _known_responses[block] = head
    return head


def _parse_response(block: bytes, octets: bytes) -> ResponseHead:
    line = _STATUS_LINE.match(block)
    if line is None:
        raise BadResponse("malformed status line")
    minor, code, reason = line.groups()
    is_1_1 = minor == b"1"
    try:
        received = split_fields(block, line.end())
    except ValueError:
        raise BadResponse("malformed field line") from None
    fields: Fields = []
    connection: list[bytes] | None = None
    length = UNKNOWN
    codings: list[bytes] | None = None
    upgrade = b""
    for pair in received:
        meaning = _meanings[pair[0]]
        if meaning == PLAIN:
            fields.append(pair)
        elif meaning == LENGTH:
            if length != UNKNOWN or DIGITS.fullmatch(pair[1]) is None:
                raise BadResponse("bad Content-Length")
            length = int(pair[1])
        elif meaning == CONNECTION:
            connection = tokens(pair[1]) if connection is None else connection + tokens(pair[1])
        elif meaning == CODING:
            codings = tokens(pair[1]) if codings is None else codings + tokens(pair[1])
        elif meaning == UPGRADE:
            upgrade = pair[1].strip(b" \t").lower()
    reusable = is_1_1
    if connection is not None:
        reusable = b"close" not in connection and (reusable or b"keep-alive" in connection)
        nominated = set(connection) - NOT_NOMINABLE - FRAMING
        if nominated:
            fields = [pair for pair in fields if pair[0].lower() not in nominated]
    if codings is not None:
        if codings != [b"chunked"]:
            raise BadResponse("transfer coding not implemented")
        if not is_1_1:
            raise BadResponse("Transfer-Encoding in HTTP/1.0")
        if length != UNKNOWN:
            # Chunked wins, but who wrote both cannot be trusted with another request (RFC 9112, 6.3).
            reusable = False
        length = CHUNKED
    return ResponseHead(octets, int(code), reason or b"", FieldBlock(fields), length, reusable, upgrade)


#: The beginnings of status lines.
_STATUS_LINES = [b"HTTP/1.1 %d " % status for status in range(1000)]


def write_response(status: int, reason: bytes, lines: bytes, end: bytes, data: bytes = b"") -> bytes:
    """The head of a response, and *data*, the first octets of its body.

    :param lines: its fields, as :func:`~swarmgate.http.message.lines_of` writes them.
    :param end: the lines that the connection adds, with the empty one.
    """
    return joined((_STATUS_LINES[status], reason, lines, end, data))
