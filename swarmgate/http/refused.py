"""What can be told of a request that was refused, for the access log.

It is read without mercy or trust from what was not accepted as a request: nothing of it may be acted on.
"""

from __future__ import annotations

import re

from swarmgate.http.message import Fields, Request, field

_LONGEST_LINE = 8192
_LONGEST_WORD = 64
_LONGEST_HEAD = 65536
_FIELDS_AT_MOST = 100
_FIELD = re.compile(rb"^([!-9;-~]{1,256}):[ \t]*([^\r\n]*?)[ \t]*\r?$")


class RefusedRequest(Request):
    """A request that was refused, as far as it is known.

    :ivar protocol: the version of HTTP as the client has said it, ``b"-"`` if it has not.
    :ivar reason: why it was refused.
    """

    __slots__ = ("protocol", "reason")

    def __init__(
        self, method: bytes, target: bytes, protocol: bytes, authority: bytes, fields: Fields, secure: bool
    ) -> None:
        path, mark, query = target[:_LONGEST_LINE].partition(b"?")
        host, colon, port = authority.rpartition(b":")
        if not colon or not port.isdigit():
            host = authority
        super().__init__(
            method[:_LONGEST_WORD] or b"-",
            path or b"-",
            query if mark else None,
            1,
            authority,
            host.lower().rstrip(b"."),
            fields,
        )
        self.secure = secure
        if secure:
            self.scheme = b"https"
        self.protocol = protocol[:_LONGEST_WORD] or b"-"
        self.reason = ""


def refused_before(request: Request) -> RefusedRequest:
    """What *request* tells, which came over HTTP/2 and was refused before it was served."""
    return RefusedRequest(
        request.method, request.target, b"HTTP/2.0", request.authority, request.fields, request.secure
    )


def refused_head(data: bytes, secure: bool) -> RefusedRequest:
    """What *data*, the begin of an HTTP/1 request, tells; *secure*: it came over TLS."""
    lines = data[:_LONGEST_HEAD].split(b"\n", _FIELDS_AT_MOST + 1)
    words = lines[0].rstrip(b"\r").split(b" ")
    fields = [(found[1], found[2]) for line in lines[1:-1] if (found := _FIELD.match(line))]
    return RefusedRequest(
        words[0],
        words[1] if len(words) > 1 else b"",
        words[-1] if len(words) > 2 and words[-1].startswith(b"HTTP/") else b"",
        field(fields, b"host") or b"",
        fields,
        secure,
    )


def refused_section(section: Fields, secure: bool) -> RefusedRequest:
    """What *section*, a request's field section in HTTP/2, tells; *secure*: it came over TLS."""
    return RefusedRequest(
        field(section, b":method") or b"",
        field(section, b":path") or b"",
        b"HTTP/2.0",
        field(section, b":authority") or field(section, b"host") or b"",
        [pair for pair in section[:_FIELDS_AT_MOST] if pair[0][:1] != b":"],
        secure,
    )
