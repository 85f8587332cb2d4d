"""Answers that careless and hostile backends send, and what their clients must get.

The gate vouches for what it passes on: a client never has to guess where an answer ends, never gets another's, and
never takes half of one for the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from tests import corpus
from tests.wire import Malformed, Message

GOOD = frozenset({200})
BAD_GATEWAY = frozenset({502})
OFFERED = frozenset({200, 502})


@attrs.frozen
class Answer:
    """What a backend sends, and what is right.

    :ivar sent: the octets.
    :ivar ends: the backend closes the connection after them.
    :ivar statuses: which the client may get.
    :ivar body: what it gets where the backend's answer is passed on.
    :ivar whole: what is passed on is whole; if not, the client must be able to tell.
    :ivar fields: pairs that the client gets, names in lower case.
    :ivar lacks: names, in lower case, that it does not.
    :ivar interims: the interim answers that it gets; None for any number up to 16.
    :ivar kept: the backend's connection may serve another request.
    """

    name: str
    sent: bytes
    why: str
    statuses: frozenset[int] = GOOD
    body: bytes = b"hello"
    method: bytes = b"GET"
    ends: bool = False
    whole: bool = True
    fields: tuple[tuple[bytes, bytes], ...] = ()
    lacks: tuple[bytes, ...] = ()
    interims: int | None = 0
    kept: bool = True

    @property
    def request(self) -> bytes:
        """What a client asks to be answered so."""
        return self.method + b" /" + self.name.encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n"


def ok(fields: bytes, body: bytes = b"hello", line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """An answer with *fields*, given as they stand on the wire without the last line's end."""
    return line + b"\r\n" + fields + b"\r\n\r\n" + body


def chunked(body: bytes) -> bytes:
    """A chunked answer with *body* as it stands on the wire."""
    return ok(b"Transfer-Encoding: chunked", body)


def bad(name: str, sent: bytes, why: str, ends: bool = False) -> Answer:
    """An answer that is not passed on."""
    return Answer(name, sent, why, BAD_GATEWAY, ends=ends, kept=False)


def broken(name: str, sent: bytes, why: str, ends: bool = True) -> Answer:
    """An answer that turns out bad after it has begun: the client must notice, one way or the other."""
    return Answer(name, sent, why, OFFERED, ends=ends, whole=False, kept=False)


_FIVE = b"Content-Length: 5"
_INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x.css>\r\n\r\n"
_POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

ANSWERS: tuple[Answer, ...] = (
    Answer("R01", ok(_FIVE), "an ordinary one", fields=((b"content-length", b"5"),)),
    Answer(
        "R02",
        ok(_FIVE + b"\r\nTransfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
        "chunked overrides the length (RFC 9112 6.3)",
        kept=False,
    ),
    Answer(
        "R02a",
        ok(b"Transfer-Encoding: chunked\r\nContent-Length: 3", b"5\r\nhello\r\n0\r\n\r\n"),
        "in either order",
        kept=False,
    ),
    bad("R03", ok(b"Content-Length: 5\r\nContent-Length: 6"), "two lengths (RFC 9112 6.3)"),
    attrs.evolve(bad("R04", ok(b"Content-Length: 5\r\nContent-Length: 5"), "a length twice"), statuses=OFFERED),
    attrs.evolve(bad("R05", ok(b"Content-Length: 5, 5"), "a list of lengths"), statuses=OFFERED),
    attrs.evolve(
        bad(
            "R06",
            ok(_FIVE + b"\r\nTransfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n", b"HTTP/1.0 200 OK"),
            "a coding in 1.0 (RFC 9112 6.1)",
            ends=True,
        ),
        statuses=OFFERED,
    ),
    Answer("R07", ok(_FIVE, line=b"HTTP/1.1 200"), "no reason, and no space before it"),
    Answer("R08", ok(_FIVE, line=b"HTTP/1.1 200 "), "no reason (RFC 9112 4)"),
    Answer("R09", _INTERIM * 3 + ok(_FIVE), "interim answers (RFC 9110 15.2)", interims=3),
    Answer("R09a", _INTERIM * 1000 + ok(_FIVE), "a storm of them", BAD_GATEWAY, interims=None, kept=False),
    Answer("R09b", b"HTTP/1.1 100 Continue\r\n\r\n" + ok(_FIVE), "a 100 that nobody waits for", interims=None),
    bad("R10", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello", "101 unasked"),
    Answer(
        "R11",
        ok(_FIVE, line=b"HTTP/1.1 204 No Content"),
        "204 with a body (RFC 9112 6.3)",
        frozenset({204}),
        b"",
        lacks=(b"content-length",),
        kept=False,
    ),
    Answer(
        "R11a",
        ok(b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n", b"HTTP/1.1 204 No Content"),
        "204 with chunks",
        frozenset({204}),
        b"",
        lacks=(b"transfer-encoding",),
        kept=False,
    ),
    Answer("R11b", ok(b"X: y", b"", b"HTTP/1.1 204 No Content"), "an ordinary 204", frozenset({204}), b""),
    Answer(
        "R12",
        ok(_FIVE, line=b"HTTP/1.1 304 Not Modified"),
        "304 with a body (RFC 9112 6.3)",
        frozenset({304}),
        b"",
        kept=False,
    ),
    Answer("R12a", ok(_FIVE, b"", b"HTTP/1.1 304 Not Modified"), "an ordinary 304", frozenset({304}), b""),
    Answer("R13", ok(_FIVE), "a body after HEAD (RFC 9112 6.3)", body=b"", method=b"HEAD", kept=False),
    Answer(
        "R13a",
        ok(_FIVE, b""),
        "an ordinary one after HEAD",
        body=b"",
        method=b"HEAD",
        fields=((b"content-length", b"5"),),
    ),
    Answer("R13b", ok(b"Transfer-Encoding: chunked", b""), "after HEAD, of unknown length", body=b"", method=b"HEAD"),
    bad("R14", ok(b"X: a\rb\r\n" + _FIVE), "CR in a value"),
    bad("R15", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", "LF alone as line end"),
    bad("R15a", ok(b"X: a\nY: b\r\n" + _FIVE), "LF in the head"),
    bad("R16", ok(b"X: a\x00b\r\n" + _FIVE), "NUL in a value"),
    bad("R16a", ok(_FIVE, line=b"HTTP/1.1 200 O\x00K"), "NUL in the reason"),
    bad("R16b", ok(_FIVE, line=b"HTTP/1.1 200 O\rK"), "CR in the reason"),
    bad("R17", ok(b"X: " + b"a" * 200_000 + b"\r\n" + _FIVE), "a head over the limit"),
    bad("R17a", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000, "an endless head"),
    bad("R17b", b"HTTP/1.1 200 " + b"O" * 200_000, "an endless status line"),
    Answer("R19", ok(b"X: y"), "a body that ends with the connection", ends=True, kept=False),
    Answer("R19a", ok(b"X: y", b""), "an empty one", body=b"", ends=True, kept=False),
    broken("R21", chunked(b"5\r\nhel"), "cut off within a chunk"),
    broken("R21a", chunked(b"5\r\nhello\r\n"), "cut off before the last chunk"),
    broken("R21b", chunked(b"5\r\nhello\r\n0\r\n"), "cut off before the last line"),
    broken("R21c", chunked(b"5\r\nhello\r\n0\r\nX: y\r\n"), "cut off within the trailers"),
    broken("R22", ok(b"Content-Length: 10"), "cut off before its length"),
    Answer("R23", ok(_FIVE, b"hello, world"), "octets after the end: dropped", kept=False),
    Answer("R24", ok(_FIVE) + _POISON, "an answer that nobody asked for", kept=False),
    Answer("R25", chunked(b"5\r\nhello\r\n0\r\n\r\n") + _POISON, "behind the last chunk", kept=False),
    Answer("R25a", ok(b"Content-Length: 0", b"") + _POISON, "behind no body", body=b"", kept=False),
    Answer(
        "R26",
        ok(b"Connection: X-Frame-Options\r\nX-Frame-Options: DENY\r\nX: y\r\n" + _FIVE),
        "Connection that names a field",
        fields=((b"x", b"y"),),
    ),
    bad("R27", ok(_FIVE, line=b"HTTP/1.1 abc OK"), "a status that is no number"),
    bad("R27a", ok(_FIVE, line=b"HTTP/1.1 2000 OK"), "a status of four digits"),
    bad("R27b", ok(_FIVE, line=b"HTTP/1.1 099 OK"), "a status below 100"),
    bad("R27c", ok(_FIVE, line=b"HTTP/2.0 200 OK"), "another major version"),
    bad("R27d", ok(_FIVE, line=b"ICY 200 OK"), "another protocol"),
    bad("R27e", b"SSH-2.0-OpenSSH_9.2\r\n", "SSH", ends=True),
    bad("R27f", b"", "nothing at all", ends=True),
    bad("R27g", b"HTTP/1.1 200 OK\r\nX: y\r\n", "cut off within the head", ends=True),
    attrs.evolve(
        bad("R27h", b"HTTP/1.1 100 Continue\r\n\r\n", "an interim answer and no more", ends=True), interims=None
    ),
    bad("R27i", ok(_FIVE, line=b"HTTP/1.1  200 OK"), "two spaces"),
    bad("R27j", ok(_FIVE, line=b" HTTP/1.1 200 OK"), "space first"),
    broken("R28", chunked(b"zz\r\nhello\r\n0\r\n\r\n"), "a chunk size that is none", ends=False),
    broken("R28a", chunked(b"5\r\nhello\r\n-1\r\n\r\n"), "a later one", ends=False),
    broken("R28b", chunked(b"FFFFFFFFFFFFFFFF0\r\nhello"), "one over 2^64", ends=False),
    broken("R29", chunked(b"5\nhello\r\n0\r\n\r\n"), "LF after the size", ends=False),
    broken("R29a", chunked(b"5\r\nhello\n0\r\n\r\n"), "LF after the data", ends=False),
    broken("R29b", chunked(b"5\r\nhelloXX0\r\n\r\n"), "no line end after the data", ends=False),
    broken("R29c", chunked(b"5;" + b"a" * 50_000 + b"\r\nhello\r\n0\r\n\r\n"), "flood of extensions", ends=False),
    broken("R29d", chunked(b"5\r\nhello\r\n0\r\nX: " + b"a" * 50_000 + b"\r\n\r\n"), "flood of trailers", ends=False),
    bad("R30", ok(b"Content-Length: -5"), "negative length"),
    bad("R30a", ok(b"Content-Length: +5"), "length with a plus"),
    bad("R30b", ok(b"Content-Length: 5x"), "length with a letter"),
    bad("R30c", ok(b"Content-Length: "), "empty length"),
    bad("R30d", ok(b"Content-Length: 0x5"), "hexadecimal length"),
    bad("R31", ok(b"Transfer-Encoding: gzip"), "a coding nobody asked for", ends=True),
    bad("R32", ok(b"Transfer-Encoding: chunked, chunked", b"5\r\nhello\r\n0\r\n\r\n"), "chunked twice"),
    bad("R32a", ok(b"Transfer-Encoding: gzip, chunked", b"5\r\nhello\r\n0\r\n\r\n"), "gzip below chunked"),
    bad("R32b", ok(b"Transfer-Encoding: \x0bchunked", b"5\r\nhello\r\n0\r\n\r\n"), "VT before the coding"),
    attrs.evolve(bad("R33", ok(b"X: a\r\n b\r\n" + _FIVE), "a folded field (RFC 9112 5.2)"), statuses=OFFERED),
    attrs.evolve(bad("R34", ok(b"X : a\r\n" + _FIVE), "space before a colon (RFC 9112 5.1)"), statuses=OFFERED),
    attrs.evolve(bad("R34a", ok(b"Content-Length : 5"), "space before the length's colon"), statuses=OFFERED),
    bad("R35", ok(b"X\r\n" + _FIVE), "no colon"),
    bad("R35a", ok(b": x\r\n" + _FIVE), "no name"),
    bad("R35b", ok(b"X(y): x\r\n" + _FIVE), "a name that is no token"),
    Answer("R36", chunked(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), "trailers"),
    Answer(
        "R37",
        ok(b"Keep-Alive: timeout=5\r\nProxy-Connection: x\r\nProxy-Authenticate: x\r\nX: y\r\n" + _FIVE),
        "what belongs to one connection (RFC 9110 7.6.1)",
        fields=((b"x", b"y"),),
        lacks=(b"keep-alive", b"proxy-connection"),
    ),
    Answer("R38", ok(_FIVE, line=b"HTTP/1.0 200 OK"), "1.0 ends its connection", kept=False),
    Answer("R39", ok(b"Connection: close\r\n" + _FIVE), "so does close", kept=False),
    Answer("R39a", ok(b"Connection: Close\r\n" + _FIVE), "in any case", kept=False),
    Answer("R45", chunked(b'5;a="b"\r\nhello\r\n0\r\n\r\n'), "a chunk with an extension"),
    Answer("R46", chunked(b"0\r\n\r\n"), "no chunk but the last", body=b""),
    Answer("R47", chunked(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), "two chunks"),
    Answer("R48", ok(b"Set-Cookie: a\r\nSet-Cookie: b\r\n" + _FIVE), "a field twice", fields=((b"set-cookie", b"b"),)),
    Answer("R49", ok(_FIVE, line=b"HTTP/1.1 599 What"), "a status nobody knows", frozenset({599})),
    Answer("R50", ok(_FIVE, line=b"HTTP/1.1 418 I'm a teapot"), "a reason with a quote", frozenset({418})),
    Answer("R51", ok(b"X: caf\xe9\r\n" + _FIVE), "eight-bit octets are opaque", fields=((b"x", b"caf\xe9"),)),
    Answer(
        "R52",
        ok(b"Server: x\r\nDate: y\r\n" + _FIVE),
        "its own name and date",
        fields=((b"server", b"x"), (b"date", b"y")),
    ),
)


def judge(answer: Answer, received: bytes, closed: bool, after: bool) -> list[str]:
    """What is wrong with what a client got for *answer*; nothing, if all is well.

    :param closed: the gate has closed the connection, cleanly.
    :param after: the client has asked for ``/after`` next, over the same connection, to be its last.
    """
    try:
        finals, interims, left = corpus.answers(received, [answer.method], closed and answer.whole)
    except Malformed as error:
        return [f"the client got something malformed: {error}: {received[:200]!r}"]
    complaints = []
    most = 16 if answer.interims is None else answer.interims
    if interims > most or (answer.interims and interims != most):
        complaints.append(f"{most} interim answers expected, {interims} came")
    if not finals:
        if answer.whole:
            complaints.append(f"no whole answer came: {received[:200]!r}")
        return complaints
    first, *more = finals
    if first.status not in answer.statuses:
        complaints.append(f"status {' or '.join(map(str, sorted(answer.statuses)))} expected, got {first.status}")
    if first.status == 502 and 502 in answer.statuses:
        if first.body != b"Bad Gateway":
            complaints.append(f"'Bad Gateway' expected as body, got {first.body[:80]!r}")
    elif not answer.whole:
        complaints.append(f"half an answer was passed off as a whole one: {received[:200]!r}")
    else:
        complaints += _compare(answer, first)
    if after:
        expected = [b"GET /after 0"]
        if [message.body for message in more] != expected and not (first.closes and not more):
            complaints.append(f"the next answer on the connection was {[message.body for message in more]}")
    elif more:
        complaints.append(f"more answers than one: {received[:200]!r}")
    if left:
        complaints.append(f"octets after the answer: {left[:80]!r}")
    return complaints


def _compare(answer: Answer, got: Message) -> list[str]:
    complaints = []
    if got.framing == b"close":
        complaints.append("the client can't tell where the body ends")
    if got.body != answer.body:
        complaints.append(f"body {answer.body!r} expected, got {got.body[:80]!r}")
    present = [(key.lower(), value) for key, value in got.fields]
    complaints += [f"the client did not get {pair!r}" for pair in answer.fields if pair not in present]
    names: Sequence[bytes] = [key for key, _ in present]
    complaints += [f"the client got {name!r}" for name in answer.lacks if name in names]
    return complaints
