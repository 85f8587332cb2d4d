"""Requests as they come from careless and hostile clients, hostile answers of backends, and what is right for each.

Every case says why it is there and where that is written: in an RFC, or in the record of a fault that it caused
elsewhere. The verdict is about what can be seen from outside: what the client gets, and what a backend is sent.
:func:`judge` compares the two, whoever has run the case and over whatever transport.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

import attrs

from tests.wire import Malformed, Message, read_response

#: The hosts that a gate under test routes to the backend. Any other has no router.
HOSTS = (b"a", b"b")

#: What no forwarded request may carry beside what the gate writes itself.
HOP_BY_HOP = (b"keep-alive", b"proxy-connection", b"proxy-authorization", b"transfer-encoding", b"te", b"trailer")


@attrs.frozen
class Refused:
    """The gate answers with one of *statuses* and closes; the backend is sent nothing."""

    statuses: frozenset[int]


@attrs.frozen
class Answered:
    """The gate answers by itself; the backend is sent nothing.

    :ivar closes: whether the connection ends with the answer; None if that is the gate's affair.
    """

    statuses: frozenset[int]
    closes: bool | None = False


@attrs.frozen
class Forwarded:
    """The backend sees exactly this, and the client gets its answer.

    :ivar fields: pairs that are there, names in lower case.
    :ivar lacks: names, in lower case, that are not.
    :ivar closes: the connection ends with the answer.
    """

    method: bytes = b"GET"
    target: bytes = b"/"
    host: bytes = b"a"
    body: bytes = b""
    fields: tuple[tuple[bytes, bytes], ...] = ()
    lacks: tuple[bytes, ...] = ()
    closes: bool = False


@attrs.frozen
class Either:
    """More than one is right."""

    choices: tuple[Refused | Answered | Forwarded, ...]


Plain = Refused | Answered | Forwarded
Verdict = Plain | Either


@attrs.frozen
class Case:
    """What a client sends over one connection, and what is right for it.

    :ivar name: its letter tells the family: A lengths and codings, B chunks, C request line, D host, E fields,
        F connection and forwarding, G paths, H sequences.
    :ivar request: the octets.
    :ivar verdicts: one for each request that *request* should be taken for.
    :ivar rest: octets that are sent once a 100 (Continue) has come.
    """

    name: str
    request: bytes
    verdicts: tuple[Verdict, ...]
    why: str
    rest: bytes = b""

    @property
    def refused(self) -> bool:
        """Whether its last verdict is that it is refused, with no other choice."""
        return isinstance(self.verdicts[-1], Refused)


REFUSED_400 = Refused(frozenset({400}))


def refuse(name: str, request: bytes, why: str, *statuses: int) -> Case:
    """A case that is refused, with 400 if no other status is named."""
    return Case(name, request, (Refused(frozenset(statuses or (400,))),), why)


def answer(name: str, request: bytes, why: str, status: int, closes: bool | None = None) -> Case:
    """A case that the gate answers by itself."""
    return Case(name, request, (Answered(frozenset({status}), closes),), why)


def forward(name: str, request: bytes, why: str, expected: Forwarded, rest: bytes = b"") -> Case:
    """A case that is forwarded."""
    return Case(name, request, (expected,), why, rest)


def either(name: str, request: bytes, why: str, *choices: Plain) -> Case:
    """A case where more than one verdict is right."""
    return Case(name, request, (Either(choices),), why)


def post(fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    """A POST to host ``a`` with *fields*, given as they stand on the wire without the last line's end."""
    return b"POST / HTTP/" + version + b"\r\nHost: a\r\n" + fields + b"\r\n\r\n" + body


def get(fields: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    """A GET to host ``a`` with *fields* as for :func:`post`, or with another first *line*."""
    return line + b"\r\nHost: a\r\n" + fields + b"\r\n\r\n"


def first_line(line: bytes) -> bytes:
    """A request to host ``a`` with that first line."""
    return line + b"\r\nHost: a\r\n\r\n"


def target(path: bytes) -> bytes:
    """A GET of *path* from host ``a``."""
    return b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n"


def host(value: bytes) -> bytes:
    """A GET with *value* as its Host field."""
    return b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n"


def chunked(body: bytes) -> bytes:
    """A chunked POST with *body* as it stands on the wire."""
    return post(b"Transfer-Encoding: chunked", body)


POSTED = Forwarded(b"POST")
FIVE = Forwarded(b"POST", body=b"AAAAA")
NO_ROUTER = Answered(frozenset({404}))
_SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

_LENGTHS = (
    refuse("A01", post(b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"), "CL.TE (RFC 9112 6.1, 11.2)"),
    refuse("A02", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5", b"0\r\n\r\n"), "TE.CL (RFC 9112 6.1, 11.2)"),
    refuse("A03", post(b"Content-Length: 0\r\nContent-Length: 5", b"AAAAA"), "conflicting lengths (RFC 9112 6.3)"),
    refuse("A04", post(b"Content-Length: 5\r\nContent-Length: 5", b"AAAAA"), "the length twice (RFC 9112 6.3)"),
    refuse("A05", post(b"Content-Length: 5, 5", b"AAAAA"), "a list of lengths (RFC 9112 6.3)"),
    refuse("A06", post(b"Content-Length: +5", b"AAAAA"), "length with a plus (CVE-2022-24801)"),
    refuse("A07", post(b"Content-Length: -5"), "negative length"),
    refuse("A08", post(b"Content-Length: 1_0", b"0123456789"), "underscore, which Python's int takes"),
    refuse("A09", post(b"Content-Length: 0x5", b"AAAAA"), "hexadecimal length"),
    refuse("A10", post(b"Content-Length: 5.0", b"AAAAA"), "length with a fraction"),
    refuse("A11", post(b"Content-Length: 5 5", b"AAAAA"), "space within the length"),
    refuse("A12", post(b"Content-Length: "), "empty length (CVE-2023-40225)"),
    forward(
        "A13",
        post(b"Content-Length: 010", b"0123456789"),
        "leading zero: ten octets, and never eight (RFC 9110 8.6)",
        Forwarded(b"POST", body=b"0123456789", fields=((b"content-length", b"10"),)),
    ),
    refuse("A14", post(b"Content-Length: 99999999999999999999", b"AAAAA"), "length over 2^64", 400, 413),
    refuse("A15", post(b"Content-Length: 5\x00", b"AAAAA"), "NUL after the length"),
    refuse("A16", post("Content-Length: ５".encode(), b"AAAAA"), "a digit, but not of ASCII"),
    refuse("A17", post(b"Content-Length : 5", b"AAAAA"), "space before the colon (RFC 9112 5.1)"),
    forward(
        "A18",
        post(b"Content_Length: 5"),
        "alias of a framing field: dropped",
        attrs.evolve(POSTED, lacks=(b"content_length",)),
    ),
    refuse("A19", post(b"Content-Length\t: 5", b"AAAAA"), "tab before the colon (RFC 9112 5.1)"),
    refuse("A20", post(b"Content-Length: 5;", b"AAAAA"), "something after the length"),
    refuse("A21", post(b"Content-Length: 5\r\n 5", b"AAAAA"), "folded length (RFC 9112 5.2)"),
    refuse("A22", post(b"Transfer-Encoding: identity"), "identity is no coding any more (RFC 9112 7)", 400, 501),
    refuse("A23", post(b"Transfer-Encoding: identity\r\nContent-Length: 5", b"AAAAA"), "identity with a length"),
    refuse(
        "A24", post(b"Transfer-Encoding: chunked, identity", b"0\r\n\r\n"), "chunked not last (RFC 9112 6.3)", 400, 501
    ),
    refuse("A25", post(b"Transfer-Encoding: gzip, chunked", b"0\r\n\r\n"), "unknown coding (RFC 9112 6.1)", 501),
    refuse("A26", post(b"Transfer-Encoding: \x0bchunked", b"0\r\n\r\n"), "VT is no white space"),
    forward("A27", post(b"Transfer-Encoding: chunked\t", b"0\r\n\r\n"), "tab after the value is (sozu 726)", POSTED),
    refuse("A28", post(b"Transfer-Encoding: \xa0chunked", b"0\r\n\r\n"), "neither is NBSP", 400, 501),
    refuse("A29", post(b"Transfer-Encoding: chunked, chunked", b"0\r\n\r\n"), "chunked twice (RFC 9112 7.1)", 400, 501),
    refuse(
        "A30",
        post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
        "chunked twice, on two lines",
        400,
        501,
    ),
    refuse("A31", post(b"Transfer-Encoding : chunked", b"0\r\n\r\n"), "space before the colon (RFC 9112 5.1)"),
    refuse("A32", post(b"Transfer-Encoding: xchunked", b"0\r\n\r\n"), "almost chunked", 400, 501),
    refuse("A33", post(b'Transfer-Encoding: "chunked"', b"0\r\n\r\n"), "quoted coding", 400, 501),
    refuse("A34", post(b"Transfer-Encoding:\r\n chunked", b"0\r\n\r\n"), "folded coding (RFC 9112 5.2)"),
    forward(
        "A35",
        post(b"transfer_encoding: chunked\r\nContent-Length: 5", b"AAAAA"),
        "alias of a framing field: dropped",
        attrs.evolve(FIVE, lacks=(b"transfer_encoding",)),
    ),
    refuse("A36", post(b"Transfer-Encoding: chunked", b"0\r\n\r\n", b"1.0"), "coding in 1.0 (RFC 9112 6.1)"),
    forward("A37", get(b"Content-Length: 5") + b"AAAAA", "GET with a body", Forwarded(body=b"AAAAA")),
    forward(
        "A38",
        get(b"Content-Length: 5", b"HEAD / HTTP/1.1") + b"AAAAA",
        "HEAD with a body",
        Forwarded(b"HEAD", body=b"AAAAA"),
    ),
    refuse("A39", post(b"Transfer-Encoding: "), "empty coding", 400, 501),
    refuse("A40", post(b"Transfer-Encoding: chunked;q=1", b"0\r\n\r\n"), "parameter on chunked", 400, 501),
    forward("A41", post(b"Transfer-Encoding: cHuNkEd", b"0\r\n\r\n"), "codings have no case (RFC 9112 7)", POSTED),
    forward("A42", post(b"Transfer-Encoding:chunked", b"0\r\n\r\n"), "no space is needed (RFC 9112 5)", POSTED),
    either(
        "A43",
        post(b"Transfer-Encoding: , chunked", b"0\r\n\r\n"),
        "empty list element (RFC 9110 5.6.1)",
        POSTED,
        Refused(frozenset({400, 501})),
    ),
    forward(
        "A44",
        get(b"Transfer-Encoding: chunked") + b"5\r\nAAAAA\r\n0\r\n\r\n",
        "GET with a chunked body",
        Forwarded(body=b"AAAAA"),
    ),
    refuse("A45", post(b"Transfer-Encoding: \x00chunked", b"0\r\n\r\n"), "NUL before the coding"),
    refuse("A46", post(b"Transfer-Encoding\x00: chunked", b"0\r\n\r\n"), "NUL in the name"),
    refuse(
        "A47",
        post(b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n", b"1.0"),
        "CL.TE in 1.0 (CVE-2026-2835)",
    ),
    refuse(
        "A48",
        post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"0\r\n\r\n"),
        "chunked hidden by a second line (RFC 9112 6.3)",
        400,
        501,
    ),
    forward("A49", post(b"Content-Length: 5 ", b"AAAAA"), "white space after the value (RFC 9110 5.5)", FIVE),
    forward("A50", post(b"Content-Length:5", b"AAAAA"), "no space is needed", FIVE),
    forward("A51", post(b"Content-Length: 0"), "no body", POSTED),
    forward("A52", post(b"X: y"), "neither length nor coding: no body (RFC 9112 6.3)", POSTED),
    refuse("A53", post(b"Content-Length: -0"), "minus nought"),
    refuse("A54", post(b"Content-Length: 5\r\nContent-Length: ", b"AAAAA"), "a length, and an empty one"),
    refuse("A55", post(b"Content-Length: 5e0", b"AAAAA"), "exponent"),
    refuse("A56", post(b"Content-Length: \xb2", b"AA"), "superscript two in Latin-1"),
    refuse("A57", post(b"Content-Length: 5,", b"AAAAA"), "list with an empty element"),
    refuse("A58", post(b"Content-Length: \x0b5", b"AAAAA"), "VT before the length"),
    refuse("A59", post(b"Transfer-Encoding: chunked\x00", b"0\r\n\r\n"), "NUL after the coding"),
    refuse("A60", post(b"Transfer-Encoding: chunked, gzip", b"0\r\n\r\n"), "chunked not last (RFC 9112 6.3)", 400, 501),
    refuse("A61", post(b"Transfer-Encoding: chun\tked", b"0\r\n\r\n"), "tab within the coding", 400, 501),
    refuse("A62", post(b"Transfer-Encoding\t: chunked", b"0\r\n\r\n"), "tab before the colon"),
    refuse("A63", post(b"X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 5", b"AAAAA"), "coding in a fold"),
    refuse("A64", post(b"Transfer-Encoding: gzip"), "unknown coding, not chunked at all", 400, 501),
    refuse(
        "A65",
        get(b"Content-Length: 5\r\nTransfer-Encoding: chunked") + b"0\r\n\r\n",
        "CL.TE on GET",
    ),
    refuse(
        "A66",
        post(b"CONTENT-LENGTH: 5\r\ntransfer-ENCODING: chunked", b"0\r\n\r\n"),
        "CL.TE in other spellings (RFC 9110 5.1)",
    ),
    forward(
        "A67",
        post(b"Transfer_Encoding: chunked\r\nContent_Length: 9"),
        "both aliases, no framing: both dropped, no body",
        attrs.evolve(POSTED, lacks=(b"transfer_encoding", b"content_length")),
    ),
    refuse(
        "A68", post(b"Content-Length: 00000000000000000000000000000000000000000005X", b"AAAAA"), "zeros, then no digit"
    ),
)

_CHUNKS = (
    refuse("B01", chunked(b"5\nAAAAA\r\n0\r\n\r\n"), "LF after the size (CVE-2025-22871)"),
    refuse("B02", chunked(b"5\r\nAAAAA\n0\r\n\r\n"), "LF after the data (RFC 9112 7.1)"),
    refuse("B03", chunked(b"0\r\n\n"), "LF as the last line"),
    refuse("B04", chunked(b"5;a\nb\r\nAAAAA\r\n0\r\n\r\n"), "LF in an extension (CVE-2025-55315)"),
    refuse("B05", chunked(b"5;a\rb\r\nAAAAA\r\n0\r\n\r\n"), "CR in an extension"),
    refuse("B06", chunked(b"5\r\r\nAAAAA\r\n0\r\n\r\n"), "CR CR LF after the size"),
    refuse("B07", chunked(b"-5\r\nAAAAA\r\n0\r\n\r\n"), "negative size"),
    refuse("B08", chunked(b"0x5\r\nAAAAA\r\n0\r\n\r\n"), "0x before the size"),
    refuse("B09", chunked(b"+5\r\nAAAAA\r\n0\r\n\r\n"), "plus before the size"),
    refuse("B10", chunked(b" 5\r\nAAAAA\r\n0\r\n\r\n"), "space before the size"),
    refuse("B11", chunked(b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n"), "underscore, which Python's int takes"),
    refuse("B12", chunked(b"5\x00\r\nAAAAA\r\n0\r\n\r\n"), "NUL after the size"),
    refuse("B13", chunked(b"5 \r\nAAAAA\r\n0\r\n\r\n"), "space after the size"),
    refuse("B14", chunked(b"\r\n\r\n"), "no size"),
    refuse("B15", chunked(b"5g\r\nAAAAA\r\n0\r\n\r\n"), "a size as far as it goes"),
    refuse("B16", chunked(b"FFFFFFFFFFFFFFFF0\r\nAAAAA\r\n0\r\n\r\n"), "size over 2^64", 400, 413),
    refuse("B17", chunked(b"10000000000000005\r\nAAAAA\r\n0\r\n\r\n"), "size that is 5 modulo 2^64", 400, 413),
    refuse("B18", chunked(b"5\r\nAAAAAX\r\n0\r\n\r\n"), "data longer than the size"),
    refuse("B19", chunked(b"5\r\nAAAAAXX0\r\n\r\n"), "two octets, but not CR LF, after the data (CVE-2025-43859)"),
    forward("B20", chunked(b"5;a=b\r\nAAAAA\r\n0\r\n\r\n"), "extension: ignored (RFC 9112 7.1.1)", FIVE),
    forward(
        "B21",
        chunked(b"0\r\nContent-Length: 5\r\n\r\n"),
        "framing as a trailer: dropped (RFC 9110 6.5.1)",
        attrs.evolve(POSTED, lacks=(b"content-length",)),
    ),
    forward("B22", chunked(b"0\r\nX:POST / HTTP/1.1\r\n\r\n"), "trailer like a request (CVE-2023-40175)", POSTED),
    refuse("B23", chunked(b"0\r\nX: a\r\n b\r\n\r\n"), "folded trailer"),
    refuse("B24", chunked(b"5;" + b"a" * 20000 + b"\r\nAAAAA\r\n0\r\n\r\n"), "flood of extensions (CVE-2023-39326)"),
    forward("B25", chunked(b'5;a="x;y"\r\nAAAAA\r\n0\r\n\r\n'), "quoted extension (RFC 9112 7.1.1)", FIVE),
    forward("B26", chunked(b"0005\r\nAAAAA\r\n0\r\n\r\n"), "zeros before the size", FIVE),
    forward("B27", chunked(b"000\r\n\r\n"), "last chunk of several zeros (RFC 9112 7.1)", POSTED),
    refuse("B28", chunked(b"0\r\nX: a\nY: b\r\n\r\n"), "LF in the trailers"),
    refuse("B29", chunked(b"0\r\nX : a\r\n\r\n"), "space before a trailer's colon"),
    forward(
        "B30",
        chunked(b"0\r\nTransfer-Encoding: chunked\r\nHost: b\r\nX-Forwarded-For: 6.6.6.6\r\nAuthorization: x\r\n\r\n"),
        "trailers that could change what the request means: dropped (RFC 9110 6.5.1)",
        POSTED,
    ),
    refuse("B31", chunked(b"0\r\nX: " + b"a" * 20000 + b"\r\n\r\n"), "flood of trailers", 400, 431),
    forward(
        "B32",
        chunked(b"a\r\n0123456789\r\nB\r\n0123456789X\r\n0\r\n\r\n"),
        "sizes in either case, two chunks",
        Forwarded(b"POST", body=b"01234567890123456789X"),
    ),
    forward(
        "B33",
        chunked(b"2\r\n\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n"),
        "line ends within the data are data",
        Forwarded(b"POST", body=b"\r\n0\r\n\r\n"),
    ),
    refuse("B34", chunked(b"5\rAAAAA\r\n0\r\n\r\n"), "CR alone after the size"),
    refuse("B35", chunked(b"5\t\r\nAAAAA\r\n0\r\n\r\n"), "tab after the size"),
    either(
        "B36", chunked(b"5 ;a\r\nAAAAA\r\n0\r\n\r\n"), "space before an extension (RFC 9112 7.1.1)", FIVE, REFUSED_400
    ),
    refuse("B37", chunked(b"5;a\x00\r\nAAAAA\r\n0\r\n\r\n"), "NUL in an extension"),
    forward(
        "B38",
        chunked(b"%x\r\n%s\r\n0\r\n\r\n" % (len(_SMUGGLED), _SMUGGLED)),
        "a request as data is data",
        Forwarded(b"POST", body=_SMUGGLED),
    ),
    refuse("B39", chunked(b"5\r\nAAAAA\r\r\n0\r\n\r\n"), "CR CR after the data"),
    refuse("B40", chunked(b"5\r\nAAAAA0\r\n\r\n"), "no line end after the data"),
    refuse("B41", chunked(b"5\r\nAAAAA\r\n0\r\nX: y\x00\r\n\r\n"), "NUL in the trailers"),
    refuse("B42", chunked(b"0\r\n: x\r\n\r\n"), "trailer without a name"),
    refuse("B43", chunked(b"0\r\nX\r\n\r\n"), "trailer without a colon"),
    refuse("B44", chunked(b"\xb2\r\nAA\r\n0\r\n\r\n"), "superscript two in Latin-1"),
    refuse("B45", chunked(b"5,5\r\nAAAAA\r\n0\r\n\r\n"), "list of sizes"),
    refuse("B46", chunked(b"\n5\r\nAAAAA\r\n0\r\n\r\n"), "empty line before the size"),
    refuse("B47", chunked(b"0" * 300 + b"5\r\nAAAAA\r\n0\r\n\r\n"), "flood of zeros"),
    refuse("B48", chunked(b"5\r\nAAAAA\r\n0;" + b"a" * 20000 + b"\r\n\r\n"), "flood in the last chunk's extension"),
)

_LINES = (
    refuse("C01", b"GET / HTTP/1.1\nHost: a\n\n", "LF alone as line end"),
    refuse("C02", b"GET / HTTP/1.1\rHost: a\r\r", "CR alone as line end (RFC 9112 2.2)"),
    refuse("C03", first_line(b"GET  / HTTP/1.1"), "two spaces (RFC 9112 3)"),
    refuse("C04", first_line(b"GET\t/\tHTTP/1.1"), "tabs for spaces"),
    refuse("C05", first_line(b" GET / HTTP/1.1"), "space first"),
    forward("C06", b"\r\n" + get(b"X: y"), "empty line first: is to be ignored (RFC 9112 2.2)", Forwarded()),
    refuse("C06a", b"\r\n\r\n" + get(b"X: y"), "two empty lines, which are a head without a request"),
    refuse("C07", first_line(b"GET / HTTP/1.1 "), "space last"),
    refuse("C08", first_line(b"GET / HTTP/1.1 x"), "four words"),
    refuse("C09", first_line(b"GET /a b HTTP/1.1"), "space in the target"),
    refuse("C10", first_line(b"GET  HTTP/1.1"), "no target"),
    refuse("C11", first_line(b"GET /"), "no version", 400, 505),
    refuse("C12", first_line(b"GET / HTTP/1.32"), "two digits of minor version", 400, 505),
    refuse("C13", first_line(b"GET / HTTP/2.0"), "another major version (RFC 9110 15.6.6)", 505),
    refuse("C14", first_line(b"GET / http/1.1"), "version in lower case (RFC 9112 2.3)"),
    refuse("C15", first_line(b"GET / XTTP/1.1"), "another protocol"),
    refuse("C16", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "preface of HTTP/2 (RFC 9113 3.4)", 505),
    refuse("C17", first_line(b"G\x00T / HTTP/1.1"), "NUL in the method"),
    refuse("C18", first_line(b'G=":<>(e),[T];?" / HTTP/1.1'), "method that is no token (RFC 9110 5.6.2)"),
    forward("C19", first_line(b"get / HTTP/1.1"), "methods have a case (RFC 9110 9.1)", Forwarded(b"get")),
    refuse("C20", target(b"/a#b"), "fragment in the target (CVE-2021-32779)"),
    refuse("C21", target(b"/a%"), "escape cut off"),
    refuse("C21a", target(b"/a%4"), "escape cut off"),
    refuse("C22", target(b"/%zz"), "escape that is none (RFC 3986 2.1)"),
    refuse("C23", target(b"/\xff"), "eight-bit octet in the target"),
    refuse("C24", target(b"/a\x00b"), "NUL in the target"),
    refuse("C24a", target(b"/a%00b"), "NUL as an escape"),
    refuse("C25", first_line(b"GET * HTTP/1.1"), "asterisk, but not OPTIONS (RFC 9112 3.2.4)"),
    answer(
        "C26a",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nAAAAA",
        "about the gate itself, with a body: no server gets it",
        200,
    ),
    answer(
        "C26b",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nAAAAA\r\n0\r\n\r\n",
        "the same, in chunks",
        200,
    ),
    refuse("C16a", first_line(b"PRI / HTTP/1.1"), "PRI is the preface of HTTP/2, and no method (RFC 9113 11.6)", 501),
    answer("C26", first_line(b"OPTIONS * HTTP/1.1"), "about the gate itself (RFC 9110 9.3.7)", 200),
    answer("C27", first_line(b"CONNECT a:80 HTTP/1.1"), "no tunnels (RFC 9110 9.3.6)", 501),
    answer("C28", first_line(b"TRACE / HTTP/1.1"), "no loop-back of what was sent (RFC 9110 9.3.8)", 405),
    forward(
        "C29",
        first_line(b"GET http://b/ HTTP/1.1"),
        "the absolute form wins (RFC 9112 3.2.2)",
        Forwarded(host=b"b"),
    ),
    forward(
        "C30", first_line(b"GET http://a/x?y HTTP/1.1"), "absolute form (RFC 9112 3.2.2)", Forwarded(target=b"/x?y")
    ),
    forward("C30a", first_line(b"GET http://a HTTP/1.1"), "absolute form without a path", Forwarded()),
    forward("C30b", first_line(b"GET HTTP://a/ HTTP/1.1"), "schemes have no case (RFC 3986 3.1)", Forwarded()),
    refuse("C31", first_line(b"GET ftp://a/ HTTP/1.1"), "another scheme"),
    refuse("C32", first_line(b"GET http://u@a/ HTTP/1.1"), "userinfo (RFC 9110 4.2.4)"),
    refuse("C32a", first_line(b"GET http://u:p@a/ HTTP/1.1"), "userinfo with a password"),
    refuse("C32b", first_line(b"GET http:///x HTTP/1.1"), "absolute form without a host (RFC 9110 4.2.1)"),
    refuse("C32c", first_line(b"GET http://a:99999/ HTTP/1.1"), "absolute form with an impossible port"),
    refuse("C32d", first_line(b"GET http:/x HTTP/1.1"), "absolute form with one slash"),
    refuse("C32e", first_line(b"GET http://a\\@b/ HTTP/1.1"), "two readings of the host"),
    refuse("C32f", first_line(b"GET http://[::1/ HTTP/1.1"), "absolute form with half a bracket"),
    refuse("C32g", first_line(b"GET http://a#b/ HTTP/1.1"), "absolute form with a fragment"),
    refuse("C32h", get(b"X: y\r\nHost: b", b"GET http://a/ HTTP/1.1"), "absolute form excuses no second Host"),
    refuse("C32i", b"GET http://a/ HTTP/1.1\r\n\r\n", "nor a missing one (RFC 9112 3.2)"),
    either("C33", target(b"//a/b"), "two slashes first: a path, no host", Forwarded(target=b"/a/b"), REFUSED_400),
    refuse("C34", target(b"/\\x"), "backslash in the path"),
    refuse("C35", target(b"a"), "path without a slash"),
    refuse("C35a", target(b"a:80"), "authority form, but not CONNECT (RFC 9112 3.2.3)"),
    refuse("C35b", target(b"?x=y"), "query without a path"),
    refuse("C36", target(b"/" + b"a" * 9000), "request line over the limit (RFC 9110 15.5.15)", 414),
    refuse("C36a", b"GET /" + b"a" * 70000, "endless request line", 414),
    refuse("C37", first_line(b"A" * 9000 + b" / HTTP/1.1"), "endless method", 400, 414, 501),
    refuse("C38", target(b"/a\tb"), "tab in the target"),
    refuse("C38a", target(b"/a\x7fb"), "DEL in the target"),
    refuse("C38b", target(b"/a\rb"), "CR in the target"),
    refuse("C38c", target(b"/a\x0bb"), "VT in the target"),
    forward("C39", first_line(b"OPTIONS /x HTTP/1.1"), "OPTIONS of a resource", Forwarded(b"OPTIONS", b"/x")),
    forward("C40", first_line(b"M-SEARCH / HTTP/1.1"), "a method nobody knows", Forwarded(b"M-SEARCH")),
    either(
        "C41",
        first_line(b"GET / HTTP/1.2"),
        "a minor version to come (RFC 9110 2.5)",
        Forwarded(),
        Refused(frozenset({400, 505})),
    ),
    refuse("C42", first_line(b"GET / HTTP/1."), "no minor version", 400, 505),
    refuse("C43", first_line(b"GET / HTTP/ 1.1"), "space in the version"),
    refuse("C44", first_line(b"GET / HTTP/1.1\x00"), "NUL after the version"),
    refuse("C45", first_line(b"GET / HTTP/1\xb9.1"), "superscript one in the version", 400, 505),
    refuse("C46", first_line(b"GET\x0b/ HTTP/1.1"), "VT for a space"),
    refuse("C47", first_line(b"GET\r / HTTP/1.1"), "CR for a space"),
    refuse("C48", first_line(b"/ HTTP/1.1"), "no method"),
    refuse("C49", first_line(b"GET / HTTP/0.9"), "0.9 with a version", 400, 505),
    refuse("C50", first_line(b"GET / HTTP/3.0"), "version 3 over TCP", 505),
)

_HOSTS = (
    refuse("D01", b"GET / HTTP/1.1\r\n\r\n", "no Host (RFC 9112 3.2)"),
    refuse("D02", get(b"Host: b"), "two Hosts (RFC 9112 3.2)"),
    refuse("D03", get(b"Host: a"), "the same Host twice"),
    refuse("D04", host(b"u@a"), "userinfo in Host"),
    refuse("D05", host(b"a/b"), "path in Host"),
    refuse("D06", host(b"a b"), "space in Host"),
    refuse("D07", host(b"a\x00.b"), "NUL in Host"),
    refuse("D08", host(b"a:99999"), "impossible port"),
    either("D09", host(b"a:"), "empty port (RFC 3986 3.2.3)", Forwarded(), Forwarded(host=b"a:"), REFUSED_400),
    refuse("D10", host(b"a,b"), "list of hosts"),
    refuse("D10a", host(b"a, b"), "list of hosts"),
    either("D11", host(b""), "empty Host: nobody's (RFC 9112 3.2)", NO_ROUTER, REFUSED_400),
    refuse("D12", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "space before the first field (RFC 9112 2.2)"),
    refuse("D13", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "space before the colon"),
    refuse("D14", b"GET / HTTP/1.1\r\nHost:\r\n a\r\n\r\n", "folded Host"),
    refuse("D15", host(b"[::1"), "half a bracket"),
    answer("D16", host(b"[::1]"), "IPv6, and no router for it", 404),
    answer("D16a", host(b"[::1]:80"), "IPv6 with a port, and no router for it", 404),
    either("D17", host(b"A"), "hosts have no case (RFC 3986 3.2.2)", Forwarded(host=b"A"), Forwarded()),
    answer("D18", b"GET / HTTP/1.0\r\n\r\n", "1.0 needs no Host, and there is no router for none", 404, True),
    either("D19", host(b"a."), "dot at the end is the same name", Forwarded(host=b"a."), Forwarded()),
    forward("D20", host(b"a:80"), "port", Forwarded(host=b"a:80")),
    forward("D20a", host(b"a:8080"), "another port", Forwarded(host=b"a:8080")),
    refuse("D21", host(b"a:8x"), "port that is no number"),
    refuse("D21a", host(b"a:-1"), "negative port"),
    refuse("D21b", host(b"a:80:80"), "two ports"),
    either("D22", host(b"%61"), "escape in Host", NO_ROUTER, REFUSED_400),
    answer("D23", host(b"unknown.example"), "no router", 404),
    refuse("D24", host(b"http://a"), "URL in Host"),
    forward("D25", b"GET / HTTP/1.1\r\nHost:\ta\r\n\r\n", "tab before the value (RFC 9110 5.5)", Forwarded()),
    forward("D26", b"GET / HTTP/1.1\r\nHOST: a\r\n\r\n", "names have no case (RFC 9110 5.1)", Forwarded()),
    refuse("D27", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "two Hosts in 1.0 (RFC 9112 3.2)"),
    refuse("D28", host(b"a\xff"), "eight-bit octet in Host"),
    refuse("D29", host(b'a"b'), "quote in Host"),
    refuse("D29a", host(b"a<b"), "angle in Host"),
    refuse("D29b", host(b"a\\b"), "backslash in Host"),
    refuse("D30", host(b"a?b"), "query in Host"),
    refuse("D30a", host(b"a#b"), "fragment in Host"),
    refuse("D31", host(b"[::1]x"), "something after the bracket"),
    refuse("D31a", host(b"[::1]:99999"), "IPv6 with an impossible port"),
    refuse("D31b", host(b"[a]"), "bracket without an address"),
    refuse("D32", host(b"a@"), "half of a userinfo"),
    refuse("D33", host(b"a\tb"), "tab in Host"),
    refuse("D34", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nHOST: b\r\n\r\n", "two Hosts in two spellings"),
    refuse("D35", b"GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", "tab before the first field"),
    answer("D36", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "an address, and no router for it", 404),
    refuse("D37", host(b"a:65536"), "port one too high"),
    refuse("D38", host(b":80"), "port without a host"),
)


def _many(count: int) -> bytes:
    return b"\r\n".join(b"X-%d: y" % number for number in range(count))


_MANAGED = (
    *(b"X-Forwarded-" + name for name in (b"For", b"Proto", b"Host", b"Port", b"Server", b"Uri", b"Method", b"Prefix")),
    *(b"X-Forwarded-" + name for name in (b"Scheme", b"Tls-Client-Cert", b"Tls-Client-Cert-Info")),
    b"X-Real-Ip",
    b"X-Scheme",
    b"Forwarded",
)
#: Managed fields that the gate writes itself; the others a backend never sees from a client that isn't trusted.
_WRITTEN = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-server")
_DROPPED = tuple(name.lower() for name in _MANAGED if name.lower() not in (*_WRITTEN, b"x-real-ip"))
_ALIASES = (
    *(name.replace(b"-", b"_") for name in _MANAGED if b"-" in name),
    b"X-Forwarded_For",
    b"X_Forwarded-For",
    b"x_FORWARDED-proto",
)

_FIELDS = (
    refuse("E01", get(b"X: a\r\n b"), "folded field (RFC 9112 5.2)"),
    refuse("E01a", get(b"X: a\r\n\tb"), "folded with a tab"),
    refuse("E02", get(b"X : a"), "space before the colon (RFC 9112 5.1)"),
    refuse("E03", get(b"X: a\rY: b"), "CR in a value (RFC 9112 2.2)"),
    refuse("E03a", get(b"X: a\r\rY: b"), "two CRs in a value"),
    refuse("E04", get(b"X: a\nY: b"), "LF in the head"),
    refuse("E05", get(b": v"), "no name (CVE-2023-25725)"),
    refuse("E06", get(b"X"), "no colon"),
    refuse("E07", get(b"X\x00: a"), "NUL in a name"),
    refuse("E08", get(b"X: a\x00b"), "NUL in a value (RFC 9110 5.5)"),
    refuse("E09", get(b"X: \x7f"), "DEL in a value"),
    refuse("E10", get(_many(100)), "a hundred and one fields", 431),
    refuse("E11", get(b"\r\n".join([b"X: " + b"a" * 1000] * 40)), "many fields, too large together", 431),
    refuse("E12", get(b"X: " + b"a" * 70000), "one field, too large", 431),
    forward(
        "E13", get(b"X: caf\xe9"), "eight-bit octets are opaque (RFC 9110 5.5)", Forwarded(fields=((b"x", b"caf\xe9"),))
    ),
    *(
        forward(
            f"E14-{name.decode()}",
            get(name + b": 6.6.6.6\r\nX: y"),
            "alias of a forwarded field: dropped (CVE-2026-33433)",
            Forwarded(fields=((b"x", b"y"),), lacks=(name.lower(),)),
        )
        for name in _ALIASES
    ),
    refuse("E15", get(b"X(y): a"), "name that is no token"),
    refuse("E15a", get(b"X y: a"), "space in a name"),
    refuse("E15b", get(b'X": a'), "quote in a name"),
    refuse("E15c", get(b"X/: a"), "slash in a name"),
    refuse("E16", get(b"\tX: a"), "tab before a name"),
    forward("E17", get(b"X: a\tb"), "tab in a value (RFC 9110 5.5)", Forwarded(fields=((b"x", b"a\tb"),))),
    forward("E18", get(b"X:"), "empty value", Forwarded(fields=((b"x", b""),))),
    forward(
        "E18a", get(b"X: \t a \t "), "white space around a value is no part of it", Forwarded(fields=((b"x", b"a"),))
    ),
    forward(
        "E19",
        get(b"My_Field: a"),
        "underscore in a name that is nobody's alias",
        Forwarded(fields=((b"my_field", b"a"),)),
    ),
    forward("E20", get(_many(99)), "a hundred fields", Forwarded(fields=((b"x-98", b"y"),))),
    refuse("E21", get(b"X: \x01"), "control character in a value"),
    refuse("E21a", get(b"X: a\x0bb"), "VT in a value"),
    refuse("E21b", get(b"X: a\x1bb"), "ESC in a value"),
    refuse("E22", get(b"X\xe9: a"), "eight-bit octet in a name"),
    refuse("E23", get(b"X: a\rContent-Length: 5") + b"AAAAA", "length behind a CR"),
    refuse("E24", get(b"X: a\r\n\rY: b"), "CR before a name"),
    refuse("E25", get(b"X: a\n"), "LF before the line end"),
    refuse("E26", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\n\r\n", "head that ends with LF CR LF"),
    refuse("E27", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\n", "head that ends with CR LF LF"),
    refuse("E28", b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n\r\n", "CR as a line"),
    forward("E29", get(b"X: a\r\nX: b"), "a field twice stays two", Forwarded(fields=((b"x", b"a"), (b"x", b"b")))),
    forward(
        "E30",
        get(b'X: "a: b", (c; d)'),
        "any visible character in a value",
        Forwarded(fields=((b"x", b'"a: b", (c; d)'),)),
    ),
    refuse("E31", b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70000, "endless field", 431),
    refuse("E32", b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 12000, "endless fields", 431),
)

_FORWARDING = (
    forward(
        "F01",
        get(b"Connection: close, X-Forwarded-For, X-Forwarded-Host, X-Real-Ip"),
        "Connection can't name what the gate adds (CVE-2024-45410)",
        Forwarded(fields=((b"x-forwarded-host", b"a"), (b"x-forwarded-proto", b"http")), closes=True),
    ),
    either("F02", get(b"Connection: Host"), "nor Host (RFC 9110 7.6.1)", Forwarded(), REFUSED_400),
    refuse("F03", post(b"Connection: Content-Length\r\nContent-Length: 5", b"AAAAA"), "nor framing"),
    refuse("F04", post(b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"), "nor framing"),
    forward(
        "F05",
        get(b"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Prefix: /adm\r\nForwarded: for=1.2.3.4"),
        "what a client says of whom it forwards for is dropped",
        Forwarded(lacks=(b"x-forwarded-prefix", b"forwarded")),
    ),
    forward(
        "F05a",
        get(b"\r\n".join(name + b": 6.6.6.6" for name in _MANAGED)),
        "all of it",
        Forwarded(
            fields=((b"x-forwarded-proto", b"http"), (b"x-forwarded-host", b"a"), (b"x-forwarded-port", b"80")),
            lacks=_DROPPED,
        ),
    ),
    forward(
        "F05b",
        get(b"\r\n".join(name.upper() + b": 6.6.6.6" for name in _MANAGED)),
        "in every spelling",
        Forwarded(fields=((b"x-forwarded-proto", b"http"),), lacks=_DROPPED),
    ),
    forward(
        "F06",
        get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
        "no change to HTTP/2 past the gate (CVE-2026-88008)",
        Forwarded(lacks=(b"upgrade", b"http2-settings", b"connection")),
    ),
    forward(
        "F06a",
        get(b"Connection: Upgrade\r\nUpgrade: h2c"),
        "without its settings neither",
        Forwarded(lacks=(b"upgrade", b"connection")),
    ),
    forward(
        "F07",
        get(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x"),
        "the change to websocket is asked for, and the backend does not want it",
        Forwarded(fields=((b"upgrade", b"websocket"), (b"sec-websocket-key", b"x"))),
    ),
    refuse(
        "F08", post(b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5", b"AAAAA"), "upgrade with a body"
    ),
    forward("F09", get(b"Upgrade: websocket"), "Upgrade without Connection is none", Forwarded(lacks=(b"upgrade",))),
    forward(
        "F10",
        post(b"Expect: 100-continue\r\nContent-Length: 5"),
        "a client that waits is told to go on (RFC 9110 10.1.1)",
        FIVE,
        rest=b"AAAAA",
    ),
    Case(
        "F11",
        post(b"Expect: 200-ok\r\nContent-Length: 0"),
        (Answered(frozenset({417}), None),),
        "unknown expectation (RFC 9110 10.1.1)",
    ),
    forward(
        "F12",
        get(b"Max-Forwards: 0"),
        "for TRACE and OPTIONS alone (RFC 9110 7.6.2)",
        Forwarded(fields=((b"max-forwards", b"0"),)),
    ),
    forward("F13", get(b"Connection: close"), "the last request", Forwarded(closes=True)),
    forward(
        "F14",
        get(
            b"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nProxy-Authorization: x\r\nTrailer: x"
        ),
        "what belongs to one connection (RFC 9110 7.6.1)",
        Forwarded(lacks=HOP_BY_HOP),
    ),
    forward(
        "F15",
        get(b"Connection: X-One, x-two\r\nX-One: 1\r\nX-TWO: 2\r\nX-Three: 3"),
        "what Connection names (RFC 9110 7.6.1)",
        Forwarded(fields=((b"x-three", b"3"),), lacks=(b"x-one", b"x-two")),
    ),
    forward("F16", get(b"Connection: keep-alive"), "what 1.1 means anyway", Forwarded()),
    forward("F17", get(b"Connection: close, keep-alive"), "close wins (RFC 9112 9.3)", Forwarded(closes=True)),
    forward("F18", get(b"Connection: CLOSE"), "options have no case", Forwarded(closes=True)),
    forward(
        "F19",
        post(b"Expect: 100-continue\r\nContent-Length: 5", b"AAAAA"),
        "a client that announces that it waits, and does not",
        FIVE,
    ),
    forward("F20", get(b"Expect: 100-continue"), "nothing to wait for", Forwarded()),
    forward(
        "F21",
        get(b"Connection: keep-alive", b"GET / HTTP/1.0"),
        "1.0 that goes on (RFC 9112 9.3)",
        Forwarded(),
    ),
    forward("F22", first_line(b"GET / HTTP/1.0"), "1.0 that ends (RFC 9112 9.3)", Forwarded(closes=True)),
    forward(
        "F23",
        get(b"Connection: Upgrade\r\nUpgrade: websocket", b"GET / HTTP/1.0"),
        "1.0 has no Upgrade (RFC 9110 7.8)",
        Forwarded(lacks=(b"upgrade",), closes=True),
    ),
    forward(
        "F24",
        get(b"Connection: X-Forwarded-Proto, X-Forwarded-Port, X-Forwarded-Server"),
        "Connection can't name what the gate adds",
        Forwarded(fields=((b"x-forwarded-proto", b"http"), (b"x-forwarded-port", b"80"))),
    ),
    refuse(
        "F25",
        post(b"Connection: close\r\nConnection: content-length\r\nContent-Length: 5", b"AAAAA"),
        "framing named on a second line",
    ),
    forward(
        "F26",
        get(b"Authorization: Basic eDp5\r\nCookie: a=b; c=d\r\nAccept: */*"),
        "what is the backend's business",
        Forwarded(fields=((b"authorization", b"Basic eDp5"), (b"cookie", b"a=b; c=d"), (b"accept", b"*/*"))),
    ),
    forward("F27", get(b"X: y"), "no User-Agent stays none", Forwarded(lacks=(b"user-agent", b"via"))),
    refuse(
        "F28",
        post(b"Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
        "upgrade with a chunked body",
    ),
    forward(
        "F29",
        b"GET / HTTP/1.1\r\nHost: a:8080\r\n\r\n",
        "the port that the client asked for",
        Forwarded(host=b"a:8080", fields=((b"x-forwarded-port", b"8080"), (b"x-forwarded-host", b"a:8080"))),
    ),
    either("F30", get(b"Connection: @"), "option that is no token", Forwarded(), REFUSED_400),
)

_PATHS = (
    forward("G01", target(b"/pub/../admin"), "dot segments (RFC 3986 5.2.4)", Forwarded(target=b"/admin")),
    forward("G02", target(b"/pub/%2e%2e/admin"), "escaped dots", Forwarded(target=b"/admin")),
    forward("G02a", target(b"/pub/.%2E/admin"), "a dot escaped", Forwarded(target=b"/admin")),
    refuse("G03", target(b"/pub/..%2fadmin"), "escaped slash (CVE-2021-29492)"),
    forward("G04", target(b"/pub//admin"), "two slashes", Forwarded(target=b"/pub/admin")),
    forward("G05", target(b"/./a"), "dot segment", Forwarded(target=b"/a")),
    forward("G06", target(b"/pub;/../admin"), "path parameter", Forwarded(target=b"/admin")),
    refuse("G07", target(b"/pub/..;/admin"), "dots with a parameter, which some servers take for the dots alone"),
    refuse("G07a", target(b"/pub/%2e%2e%3ba/admin"), "the same, escaped"),
    forward("G08", target(b"/ADMIN"), "paths have a case", Forwarded(target=b"/ADMIN")),
    refuse("G09", target(b"/pub/%5c..%5cadmin"), "escaped backslash"),
    refuse("G10", target(b"/../../etc/passwd"), "above the root"),
    refuse("G11", target(b"/%2e%2e/etc/passwd"), "above the root, escaped"),
    refuse("G11a", target(b"/a/../../etc"), "above the root, later"),
    forward("G12", target(b"/a%3fb"), "escaped question mark stays one", Forwarded(target=b"/a%3Fb")),
    refuse("G13", target(b"/a%2Fb"), "escaped slash"),
    forward(
        "G14", target(b"/%41%7e"), "unreserved characters need no escape (RFC 3986 6.2.2.2)", Forwarded(target=b"/A~")
    ),
    forward("G15", target(b"/a%3bb"), "escapes in upper case (RFC 3986 6.2.2.1)", Forwarded(target=b"/a%3Bb")),
    forward("G16", target(b"/a?x=../..&y=%2f"), "the query is left alone", Forwarded(target=b"/a?x=../..&y=%2f")),
    forward("G17", target(b"/a?b?c=//"), "the first question mark counts", Forwarded(target=b"/a?b?c=//")),
    forward("G18", target(b"/a/.."), "back to the root", Forwarded(target=b"/")),
    forward("G19", target(b"/a/b/."), "dot last", Forwarded(target=b"/a/b/")),
    forward("G20", target(b"/%25"), "escaped percent stays one", Forwarded(target=b"/%25")),
    forward(
        "G21",
        target(b"/%252e%252e%252fadmin"),
        "what is escaped twice is text",
        Forwarded(target=b"/%252e%252e%252fadmin"),
    ),
    forward("G22", target(b"/a%23b"), "escaped hash stays one", Forwarded(target=b"/a%23b")),
    forward("G23", target(b"/%ff"), "octets that are no UTF-8", Forwarded(target=b"/%FF")),
    forward("G24", target(b"/a?"), "an empty query is one", Forwarded(target=b"/a?")),
    either("G25", target(b"/a?x=%zz"), "bad escape in the query", Forwarded(target=b"/a?x=%zz"), REFUSED_400),
    forward("G26", target(b"/..."), "three dots are a name", Forwarded(target=b"/...")),
    forward(
        "G27", target(b"/a;b=c/d,e!$&'()*+=:@f"), "what a path may hold", Forwarded(target=b"/a;b=c/d,e!$&'()*+=:@f")
    ),
    refuse("G28", target(b"/a?b#c"), "fragment after a query"),
    refuse("G29", target(b"/pub/%2e%2e%2fadmin"), "escaped dots and slash"),
    forward("G30", target(b"///"), "nothing but slashes", Forwarded(target=b"/")),
)

_SEQUENCES = (
    Case(
        "H01",
        target(b"/1") + post(b"Content-Length: 5", b"AAAAA") + target(b"/3"),
        (Forwarded(target=b"/1"), FIVE, Forwarded(target=b"/3")),
        "three at once are answered in order (RFC 9112 9.3.2)",
    ),
    Case("H02", target(b"/") + b"Invalid\r\n\r\n", (Forwarded(), REFUSED_400), "a good one, then a bad one"),
    Case(
        "H03",
        post(b"Content-Length: %d" % len(_SMUGGLED), _SMUGGLED),
        (Forwarded(b"POST", body=_SMUGGLED),),
        "a request as a body is a body",
    ),
    refuse("H04", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS on a plain port"),
    refuse("H05", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "HTTP/2 with a frame", 505),
    refuse("H06", b"\x00", "one octet of nonsense"),
    refuse("H07", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "SSH"),
    refuse("H08", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + target(b"/"), "PROXY protocol from anybody"),
    Case(
        "H09",
        get(b"Content-Length: 5") + b"AAAAA" + target(b"/2"),
        (Forwarded(body=b"AAAAA"), Forwarded(target=b"/2")),
        "the body of a GET is no request",
    ),
    Case(
        "H10",
        chunked(b"5\r\nAAAAA\r\n0\r\n\r\n") + target(b"/2"),
        (FIVE, Forwarded(target=b"/2")),
        "what follows the last chunk is a request",
    ),
    Case(
        "H11",
        first_line(b"HEAD /1 HTTP/1.1") + target(b"/2"),
        (Forwarded(b"HEAD", b"/1"), Forwarded(target=b"/2")),
        "no body after HEAD",
    ),
    Case(
        "H12",
        post(b"Content-Length: 0") + b"5\r\nAAAAA\r\n0\r\n\r\n",
        (POSTED, REFUSED_400),
        "what follows an empty body is no body",
    ),
    Case(
        "H13",
        get(b"Connection: close") + target(b"/never"),
        (Forwarded(closes=True),),
        "nothing is read after the last request (RFC 9112 9.6)",
    ),
    Case(
        "H14",
        target(b"/1") + post(b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
        (Forwarded(target=b"/1"), REFUSED_400),
        "a good one, then CL.TE",
    ),
    Case(
        "H15",
        host(b"unknown.example") + target(b"/2"),
        (NO_ROUTER, Forwarded(target=b"/2")),
        "no router, then one",
    ),
    Case(
        "H16",
        post(b"Content-Length: 5\r\nX: y", b"AAAAA").replace(b"Host: a", b"Host: unknown.example") + target(b"/2"),
        (Answered(frozenset({404}), None), Forwarded(target=b"/2")),
        "a body that nobody takes is still a body",
    ),
)

CASES: tuple[Case, ...] = (
    *_LENGTHS,
    *_CHUNKS,
    *_LINES,
    *_HOSTS,
    *_FIELDS,
    *_FORWARDING,
    *_PATHS,
    *_SEQUENCES,
)

#: A request that comes before a case on the same connection, and one that comes after.
BEFORE = b"GET /before HTTP/1.1\r\nHost: a\r\n\r\n"
AFTER = b"GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
IS_BEFORE = Forwarded(target=b"/before")
IS_AFTER = Forwarded(target=b"/after", closes=True)


@attrs.frozen
class Wait:
    """Before the next piece is sent, so many final and so many interim (1xx) answers must have come."""

    finals: int
    interims: int = 0


Piece = bytes | Wait


@attrs.frozen
class Play:
    """A case as it is played over one connection.

    :ivar pieces: octets that are sent each by itself, and what is waited for in between.
    :ivar plans: the right courses of events; one of them must have happened.
    """

    case: Case
    form: str
    pieces: tuple[Piece, ...]
    plans: tuple[tuple[Plain, ...], ...]


def plans(verdicts: Iterable[Verdict]) -> tuple[tuple[Plain, ...], ...]:
    """Each way in which *verdicts* can be met; none goes on after the connection has been closed."""
    choices = [_choices(verdict) for verdict in verdicts]
    found: list[tuple[Plain, ...]] = []
    for chosen in itertools.product(*choices):
        course: list[Plain] = []
        for one in chosen:
            course.append(one)
            if isinstance(one, Refused) or one.closes:
                break
        if tuple(course) not in found:
            found.append(tuple(course))
    return tuple(found)


def _choices(verdict: Verdict) -> tuple[Plain, ...]:
    if isinstance(verdict, Either):
        return tuple(itertools.chain.from_iterable(map(_choices, verdict.choices)))
    if isinstance(verdict, Answered) and verdict.closes is None:
        return attrs.evolve(verdict, closes=False), attrs.evolve(verdict, closes=True)
    return (verdict,)


def alone(case: Case) -> Play:
    """The case by itself. Once it has been answered, a further request shows that the two still agree."""
    finals = len(case.verdicts)
    rest = (Wait(0, 1), case.rest) if case.rest else ()
    return Play(case, "alone", (case.request, *rest, Wait(finals), AFTER), plans((*case.verdicts, IS_AFTER)))


def followed(case: Case) -> Play:
    """The case with another request right behind it, in the same write."""
    return Play(case, "followed", _then_after(case, (case.request,)), plans((*case.verdicts, IS_AFTER)))


def preceded(case: Case, wait: bool) -> Play:
    """The case after a good request on the same connection; *wait*: after that has been answered."""
    first: tuple[Piece, ...] = (BEFORE, Wait(1), case.request) if wait else (BEFORE + case.request,)
    form = "after an answered request" if wait else "right behind a request"
    return Play(case, form, _then_after(case, first, 1), plans((IS_BEFORE, *case.verdicts, IS_AFTER)))


def cut(case: Case, position: int) -> Play:
    """The case in two pieces."""
    halves = (case.request[:position], case.request[position:])
    return Play(case, f"cut at {position}", _then_after(case, halves), plans((*case.verdicts, IS_AFTER)))


def bytewise(case: Case) -> Play:
    """The case one octet at a time."""
    octets = tuple(case.request[at : at + 1] for at in range(len(case.request)))
    return Play(case, "octet by octet", _then_after(case, octets), plans((*case.verdicts, IS_AFTER)))


def _then_after(case: Case, pieces: tuple[bytes | Wait, ...], finals: int = 0) -> tuple[Piece, ...]:
    if case.rest:
        return (*pieces, Wait(finals, 1), case.rest + AFTER)
    last = pieces[-1]
    assert isinstance(last, bytes)
    return (*pieces[:-1], last + AFTER)


def cuts(case: Case, most: int = 200) -> list[int]:
    """Every place at which a case can be cut, or *most* of them, evenly and near both ends."""
    size = len(case.request)
    if size > 4000:
        most //= 4
    if size - 1 <= most:
        return list(range(1, size))
    near = most // 4
    between = range(near, size - near, max(1, (size - 2 * near) // (most - 2 * near)))
    return sorted({*range(1, near), *between, *range(size - near, size)})


@attrs.frozen
class Complaint:
    """What went wrong in one play."""

    play: Play
    faults: tuple[str, ...]

    def __str__(self) -> str:
        case = self.play.case
        return f"{case.name} {self.play.form} ({case.why}): {'; '.join(self.faults)}"


def summary(complaints: Sequence[Complaint]) -> str:
    """One line for each case that went wrong: the first of its complaints, and how many there are like it."""
    grouped: dict[str, list[Complaint]] = {}
    for one in complaints:
        grouped.setdefault(one.play.case.name, []).append(one)
    lines = [f"{ones[0]}" + (f" - and in {len(ones) - 1} other forms" * (len(ones) > 1)) for ones in grouped.values()]
    return f"{len(complaints)} plays of {len(grouped)} cases went wrong:\n" + "\n".join(lines)


@attrs.frozen
class Seen:
    """A request that a backend saw, and on which of its connections."""

    message: Message
    connection: int = 0

    @property
    def client(self) -> bytes:
        """Whom the gate says that it came from."""
        return b", ".join(self.message.values(b"x-real-ip"))


def echo(message: Message) -> bytes:
    """The body that the backend answers a case's request with: what it took it for."""
    return b"%s %s %d" % (message.start[0], message.start[1], len(message.body))


def answers(received: bytes, methods: Sequence[bytes], ended: bool) -> tuple[list[Message], int, bytes]:
    """The final answers in *received*, the number of interim ones, and what is left over.

    :param methods: of the requests, in order; GET is assumed where there are too few.
    :raises Malformed: if what was received is no sequence of answers.
    """
    finals: list[Message] = []
    interims = 0
    while received:
        method = methods[len(finals)] if len(finals) < len(methods) else b"GET"
        found = read_response(received, method, ended)
        if found is None:
            break
        message, received = found
        if message.status < 200:
            interims += 1
        else:
            finals.append(message)
    return finals, interims, received


def judge(play: Play, received: bytes, closed: bool, seen: Sequence[Seen], client: bytes) -> list[str]:
    """What is wrong with how a play went; nothing, if all is well.

    :param received: all that the client got.
    :param closed: the gate has closed the connection, cleanly.
    :param seen: the requests that the backend saw from this client.
    :param client: its address, as the gate must give it.
    """
    complaints: list[str] = []
    for course in play.plans:
        found = _judge(course, received, closed, seen, client)
        if not found:
            return []
        complaints = complaints or found
    return complaints


def _judge(course: Sequence[Plain], received: bytes, closed: bool, seen: Sequence[Seen], client: bytes) -> list[str]:
    methods = [one.method if isinstance(one, Forwarded) else b"GET" for one in course]
    try:
        finals, _, left = answers(received, methods, closed)
    except Malformed as error:
        return [f"the client got something malformed: {error}: {received[:200]!r}"]
    complaints = []
    if left:
        complaints.append(f"the client got more than answers: {left[:200]!r}")
    statuses = [message.status for message in finals]
    if len(finals) != len(course):
        complaints.append(f"{len(course)} answers expected, these came: {statuses}")
    if not closed:
        complaints.append(f"the connection was not closed; answers so far: {statuses}")
    wanted = [one for one in course if isinstance(one, Forwarded)]
    if len(wanted) != len(seen):
        lines = [b" ".join(one.message.start[:2]) for one in seen]
        complaints.append(f"{len(wanted)} requests expected at the backend, these came: {lines}")
    for expected, arrived in zip(wanted, seen, strict=False):
        complaints += _compare(expected, arrived.message, client)
    backend = iter(seen)
    for want, got in zip(course, finals, strict=False):
        if isinstance(want, Forwarded):
            if got.status != 200:
                complaints.append(f"status 200 of the backend expected, got {got.status}")
            request = next(backend, None)
            if request and want.method != b"HEAD" and got.body != echo(request.message):
                complaints.append(f"the answer to {echo(request.message)!r} expected, got {got.body[:80]!r}")
        elif got.status not in want.statuses:
            complaints.append(f"status {' or '.join(map(str, sorted(want.statuses)))} expected, got {got.status}")
        elif isinstance(want, Refused) and not got.closes:
            complaints.append(f"the refusal {got.status} does not say Connection: close")
    return complaints


def _compare(want: Forwarded, got: Message, client: bytes) -> list[str]:
    complaints = []
    method, path, minor = got.start
    if (method, path) != (want.method, want.target):
        complaints.append(f"the backend saw {method!r} {path!r}, expected {want.method!r} {want.target!r}")
    if minor != b"1":
        complaints.append(f"the backend saw HTTP/1.{minor.decode()}")
    if got.values(b"host") != [want.host]:
        complaints.append(f"the backend saw Host {got.values(b'host')}, expected {want.host!r}")
    if got.body != want.body:
        complaints.append(f"the backend saw body {got.body[:80]!r}, expected {want.body[:80]!r}")
    for name in (b"x-forwarded-for", b"x-real-ip"):
        if got.values(name) != [client]:
            complaints.append(f"the backend saw {name.decode()} {got.values(name)}, expected {client!r}")
    present = [(key.lower(), value) for key, value in got.fields]
    for pair in want.fields:
        if pair not in present:
            complaints.append(f"the backend did not see {pair!r}")
    names = {key for key, _ in present} | {key.lower() for key, _ in got.trailers}
    for name in want.lacks:
        if name in names and not (name == b"transfer-encoding" and got.framing == b"chunked"):
            complaints.append(f"the backend saw {name.decode()}")
    forbidden = {b"content-length", b"transfer-encoding", b"host", b"authorization", b"x-forwarded-for"}
    if forbidden & {key.lower() for key, _ in got.trailers}:
        complaints.append(f"the backend saw trailers {got.trailers}")
    if any(b"_" in key and re.sub(rb"_", b"-", key) in (b"content-length", b"transfer-encoding") for key, _ in present):
        complaints.append("the backend saw an alias of a framing field")
    return complaints
