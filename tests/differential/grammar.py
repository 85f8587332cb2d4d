"""Requests as no client should send them: valid ones, and what a few mutations make of them.

The same seed and number give the same octets, so a finding can be repeated, and a run can go on where it was ended.
"""

# ruff: noqa: E501 (tables)

from __future__ import annotations

from collections.abc import Callable
from random import Random

import attrs

METHODS = (b"GET", b"GET", b"GET", b"POST", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH")
ODD_METHODS = (
    b"get",
    b"PRI",
    b"CONNECT",
    b"TRACE",
    b"PROPFIND",
    b"G",
    b"M-SEARCH",
    b"GE\tT",
    b"G\x00T",
    b"",
    b"POST,",
    b"!",
)
SEGMENTS = (
    b"a",
    b"admin",
    b"x.y",
    b"~u",
    b"a;b=c",
    b"@",
    b"a,b",
    b"a:b",
    b"!$&'()*+",
    b"%20",
    b"%C3%A4",
    b"%41",
    b"%3F",
)
ODD_SEGMENTS = (
    b"..", b".", b"", b"%2e%2e", b"%2E", b"%2f", b"%2F..%2f", b"%5c", b"\\", b"%00", b"%", b"%4", b"%zz", b"%25", b"%252e%252e",
    b"..;", b";", b"..%00", b"#", b"%23", b"\xc3\xa4", b"%0d%0a", b"%0A", b"%7f", b"%ff", b"%c0%ae", b"[", b"{", b"|", b"^", b'"', b"<",
    b"%3b", b"%09", b"..%2e", b"*", b"http:", b"?", b"??", b"%u002e", b"+",
)  # fmt: skip
QUERIES = (
    b"",
    b"?",
    b"?a=b",
    b"?a=b&c=%20",
    b"?/../x",
    b"??",
    b"?a=http://b/",
    b"?%",
    b"?%zz",
    b"?#",
    b"?a;b",
    b"?\xff",
    b"?[]|",
)
HOSTS = (b"a", b"b", b"a.example", b"a:80", b"A", b"127.0.0.1", b"[::1]", b"[::1]:8080")
ODD_HOSTS = (
    b"", b" ", b"a b", b"a,b", b"a/b", b"u@a", b"a:99999", b"a:", b":80", b"a:x", b"[::1", b"::1", b"a\x00", b"a\tb", b"a?b", b"a#b", b"a.",
    b"a..b", b"_a", b"-a", b"a%20b", b"xn--a", b"\xc3\xa4", b"a;b", b"a\\b", b"[v1.a]", b"a:080", b"a:0", b"*", b"'a'", b"a:80:80", b"http://a",
)  # fmt: skip
VERSIONS = (
    b"HTTP/1.0",
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"HTTP/1.10",
    b"http/1.1",
    b"HTTP/1.1 ",
    b"HTTP/01.1",
    b"",
    b"HTTP/1",
    b"HTTP/1,1",
    b"HTTP/1.1\x00",
)
LINE_ENDS = (
    b"\n",
    b"\r",
    b"\r\r\n",
    b"\n\r\n",
    b"",
    b"\r\n\r\n",
    b" \r\n",
    b"\r\n ",
    b"\r\n\t",
    b"\x00\r\n",
    b"\x85",
    b"\x0b\r\n",
)
SEPARATORS = (
    b":",
    b":  ",
    b":\t",
    b" : ",
    b"\t: ",
    b": \x0b",
    b":\r\n ",
    b"",
    b" ",
    b"::",
    b"\x00:",
    b": \x0c",
    b":\xa0",
    b"=",
    b":\n",
)
LENGTHS = (
    b"+%d", b"-%d", b"0%d", b"%d,%d", b"%d, %d", b"0x%x", b"%d ", b"%d.0", b"%d\x00", b"%d;", b"1_%d", b"00000000000000000%d", b"",
    b" ", b"\t%d\t", b"%d %d", b'"%d"', b"18446744073709551616", b"99999999999999999999999", b"%de0", b"%d\x0b", b"0", b"4", b"\xb2",
)  # fmt: skip
CODINGS = (
    b"chunked", b"Chunked", b"CHUNKED", b" chunked", b"chunked ", b"chunked\t", b"\tchunked", b"chunked,", b",chunked", b"chunked, chunked",
    b"identity", b"identity, chunked", b"chunked, identity", b"gzip, chunked", b"gzip", b"xchunked", b"chunkedx", b"chunked;q=1", b"chunked\x00",
    b"\x0bchunked", b"\xa0chunked", b"'chunked'", b'"chunked"', b"chunk", b"chunke\xc4\x91", b"", b"chunked\x0b", b"c\thunked", b"chu\r\n nked",
    b"deflate,chunked", b"compress, chunked", b"trailers", b"\r\n chunked", b"x-chunked",
)  # fmt: skip
CHUNK_SIZES = (
    b"0x%x", b"+%x", b"-%x", b" %x", b"%x ", b"%x\t", b"0%x", b"%x;a=b", b"%x;", b"%x ;a", b'%x;a="b\\"c"', b"%x;a\nb", b"%x;\x00", b"%x;a=\r", b"%xg",
    b"1_%x", b"0000000000000000%x", b"00000000000000000000000000000%x", b"%x,%x", b"", b"f%x", b"FFFFFFFFFFFFFFF%x", b"1000000000000000%x", b"%x\x0b",
    b"%x;" + b"e" * 200, b"%x;" + b"e" * 300, b"%x\xa0", b"\t%x", b"%x; \x7f", b"%x;\xff", b"%x#", b"%x:", b"\n%x", b"\r\n%x",
)  # fmt: skip
CHUNK_ENDS = (
    b"\n",
    b"\r",
    b"",
    b"\r\r\n",
    b"XX",
    b"X\r\n",
    b"\r\n\r\n",
    b" \r\n",
    b"\r\nX",
    b"\n\r",
    b"\x00\x00",
    b"\r\x00",
)
TRAILERS = (
    b"X: y\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n", b"X:POST / HTTP/1.1\r\n", b"GET /smuggled HTTP/1.1\r\n",
    b"X : y\r\n", b" X: y\r\n", b"X: a\r\n b\r\n", b"X: y\n", b": y\r\n", b"X\r\n", b"X: \x00\r\n", b"X: y\r", b"Authorization: a\r\n", b"X_Y: z\r\n",
    b"Connection: close\r\n", b"\n", b"\r", b"X: \xff\r\n", b"Trailer: X\r\n", b"Content_Length: 5\r\n", b"X: a\rb\r\n", b"Cookie: a=b\r\n",
)  # fmt: skip
FIELDS = (
    (b"Accept", b"*/*"), (b"User-Agent", b"x/1"), (b"Cookie", b"a=b; c=d"), (b"X-A", b"1"), (b"Content-Type", b"text/plain"),
    (b"Accept-Encoding", b"gzip"), (b"Cache-Control", b"no-cache"), (b"X-Long", b"v" * 300), (b"Referer", b"http://b/?x=1"),
    (b"Connection", b"keep-alive"), (b"X-Empty", b""), (b"Authorization", b"Basic YTpi"), (b"If-None-Match", b'"x"'),
)  # fmt: skip
ODD_FIELDS = (
    (b"Connection", b"close"), (b"Connection", b"Content-Length"), (b"Connection", b"Host"), (b"Connection", b"Transfer-Encoding"),
    (b"Connection", b"X-A, close, Cookie"), (b"Connection", b"keep-alive, X-Forwarded-For"), (b"Connection", b"\x00"), (b"Connection", b",,"),
    (b"Connection", b"Upgrade, HTTP2-Settings"), (b"Connection", b"upgrade"), (b"Connection", b"Upgrade"), (b"Proxy-Connection", b"keep-alive"),
    (b"Upgrade", b"websocket"), (b"Upgrade", b"h2c"), (b"Upgrade", b"TLS/1.0, HTTP/2.0"), (b"Upgrade", b"WebSocket"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="), (b"Sec-WebSocket-Version", b"13"), (b"HTTP2-Settings", b"AAMAAABkAAQCAAAAAAIAAAAA"),
    (b"Expect", b"100-continue"), (b"Expect", b"100-Continue"), (b"Expect", b"200-ok"), (b"Expect", b""), (b"Expect", b"100-continue, x"),
    (b"TE", b"trailers"), (b"TE", b"chunked"), (b"Trailer", b"X"), (b"Trailer", b"Content-Length"), (b"Keep-Alive", b"timeout=5"),
    (b"X-HTTP-Method-Override", b"DELETE"), (b"X-Original-URL", b"/admin"), (b"X-Forwarded-Host", b"evil"), (b"X-Forwarded-Proto", b"https"),
    (b"Forwarded", b"host=evil"), (b"X_Forwarded_For", b"1.2.3.4"), (b"Content_Length", b"5"), (b"Transfer_Encoding", b"chunked"),
    (b"Content-Length ", b"5"), (b" Content-Length", b"5"), (b"Content-Length\x00", b"5"), (b"Content\xadLength", b"5"), (b"Content-Length\t", b"5"),
    (b"X Y", b"z"), (b"", b"v"), (b"X\xff", b"v"), (b"X(", b"v"), (b"X-A", b"a\x00b"), (b"X-A", b"a\rb"), (b"X-A", b"a\nb"), (b"X-A", b"a\r\n b"),
    (b"X-A", b"a\x7f"), (b"X-A", b"\xff\xfe"), (b"X-A", b"a\r\n\tTransfer-Encoding: chunked"), (b"X-A", b"a\nTransfer-Encoding: chunked"),
    (b"X-A", b"a\rContent-Length: 5"), (b"X-A", b"\x08"), (b"X-A", b"\t"), (b"Host", b"b"), (b"host", b"a"), (b"HOST", b""), (b"Max-Forwards", b"0"),
    (b"Content-Length", b"0"), (b"Content-Length", b"5"), (b"content-length", b"0"), (b"Transfer-Encoding", b"chunked"), (b"transfer-encoding", b"identity"),
    (b"Content-Encoding", b"chunked"), (b"X-Transfer-Encoding", b"chunked"), (b"Range", b"bytes=0-0"), (b"Date", b"x"), (b"Via", b"1.1 x"), (b"Upgrade", b""),
    (b"GET /smuggled HTTP/1.1", b""), (b"X-Many", b"," * 500), (b"Proxy-Authorization", b"x"), (b"Origin", b"null"), (b"Host", b"a, b"),
)  # fmt: skip
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@attrs.define
class Draft:
    """A request in its parts, as they will stand on the wire."""

    method: bytes = b"GET"
    target: bytes = b"/"
    version: bytes = b"HTTP/1.1"
    gaps: list[bytes] = attrs.field(factory=lambda: [b" ", b" "])
    line_end: bytes = b"\r\n"
    #: Name, what separates it, value, line end.
    fields: list[list[bytes]] = attrs.field(factory=list)
    end: bytes = b"\r\n"
    body: bytes = b""
    before: bytes = b""

    def octets(self) -> bytes:
        """As it is sent."""
        lines = b"".join(b"".join(line) for line in self.fields)
        return b"".join(
            (
                *(self.before, self.method, self.gaps[0], self.target, self.gaps[1], self.version, self.line_end),
                *(lines, self.end, self.body),
            )
        )

    def lines(self, name: bytes) -> list[list[bytes]]:
        """The field lines of that name, in lower case."""
        return [line for line in self.fields if line[0].lower() == name]


def _path(random: Random, odd: float) -> bytes:
    segments = (
        random.choice(ODD_SEGMENTS) if random.random() < odd else random.choice(SEGMENTS)
        for _ in range(random.randint(0, 4))
    )
    return b"/" + b"/".join(segments)


def _data(random: Random) -> bytes:
    kind = random.random()
    if kind < 0.2:
        return SMUGGLED
    if kind < 0.3:
        return random.randbytes(random.randint(1, 3000))
    return bytes(random.choices(b"abc\r\n0:; ", k=random.randint(0, 40)))


def _chunked(random: Random, data: bytes, odd: bool) -> bytes:
    pieces: list[list[bytes]] = []
    while data:
        size = random.randint(1, len(data))
        pieces.append([b"%x" % size, b"\r\n", data[:size], b"\r\n"])
        data = data[size:]
    pieces.append([b"0", b"\r\n", b"", b"\r\n"])
    if odd:
        piece = random.choice(pieces)
        fault = random.randrange(5)
        if fault == 0:
            form = random.choice(CHUNK_SIZES)
            size = len(piece[2])
            piece[0] = form.replace(b"%x", b"%x" % size)
        elif fault == 1:
            piece[1] = random.choice(CHUNK_ENDS)
        elif fault == 2:
            piece[3] = random.choice(CHUNK_ENDS)
        elif fault == 3:
            pieces[-1][2] = b"".join(random.choices(TRAILERS, k=random.randint(1, 3)))
        else:
            piece[0] = b"%x" % max(0, len(piece[2]) + random.choice((-1, 1, 2)))
    return b"".join(octets for piece in pieces for octets in piece)


def valid(random: Random) -> Draft:
    """A request that most servers would take."""
    draft = Draft(random.choice(METHODS), _path(random, 0.03) + random.choice(QUERIES[:7]))
    if random.random() < 0.1:
        draft.target = random.choice((b"http://", b"https://", b"HTTP://")) + random.choice(HOSTS) + draft.target
    draft.fields.append([b"Host", b": ", random.choice(HOSTS), b"\r\n"])
    for name, value in random.sample(FIELDS, random.randint(0, 4)):
        draft.fields.append([name, b": ", value, b"\r\n"])
    if draft.method in (b"POST", b"PUT", b"PATCH") or random.random() < 0.1:
        data = _data(random)
        if random.random() < 0.5:
            draft.fields.append([b"Content-Length", b": ", b"%d" % len(data), b"\r\n"])
            draft.body = data
        else:
            draft.fields.append([b"Transfer-Encoding", b": ", b"chunked", b"\r\n"])
            draft.body = _chunked(random, data, odd=random.random() < 0.25)
    if random.random() < 0.2:
        random.shuffle(draft.fields)
    return draft


def _method(random: Random, draft: Draft) -> None:
    draft.method = random.choice(ODD_METHODS)


def _target(random: Random, draft: Draft) -> None:
    draft.target = _path(random, 0.6) + random.choice(QUERIES)


def _form(random: Random, draft: Draft) -> None:
    scheme = random.choice((b"http://", b"https://", b"ftp://", b"http:/", b"http:", b"//", b"HTTP://", b"ws://", b""))
    draft.target = random.choice(
        (
            scheme + random.choice(HOSTS + ODD_HOSTS) + draft.target,
            b"*",
            b"",
            b"a:80",
            draft.target[1:],
            scheme + random.choice(HOSTS),
        )
    )


def _version(random: Random, draft: Draft) -> None:
    draft.version = random.choice(VERSIONS)


def _gap(random: Random, draft: Draft) -> None:
    draft.gaps[random.randrange(2)] = random.choice(
        (b"  ", b"\t", b"", b" \t", b"\x0b", b"\r ", b"\x00", b"\xa0", b"%20")
    )


def _host(random: Random, draft: Draft) -> None:
    for line in draft.lines(b"host"):
        line[2] = random.choice(ODD_HOSTS)


def _no_host(random: Random, draft: Draft) -> None:
    draft.fields = [line for line in draft.fields if line[0].lower() != b"host"]


def _length(random: Random, draft: Draft) -> None:
    form = random.choice(LENGTHS)
    value = form.replace(b"%d", b"%d" % len(draft.body)).replace(b"%x", b"%x" % len(draft.body))
    found = draft.lines(b"content-length")
    if found and random.random() < 0.6:
        found[0][2] = value
    else:
        draft.fields.insert(random.randint(0, len(draft.fields)), [b"Content-Length", b": ", value, b"\r\n"])


def _coding(random: Random, draft: Draft) -> None:
    found = draft.lines(b"transfer-encoding")
    if found and random.random() < 0.6:
        found[0][2] = random.choice(CODINGS)
    else:
        line = [b"Transfer-Encoding", b": ", random.choice(CODINGS), b"\r\n"]
        draft.fields.insert(random.randint(0, len(draft.fields)), line)


def _chunks(random: Random, draft: Draft) -> None:
    if not draft.lines(b"transfer-encoding"):
        draft.fields = [line for line in draft.fields if line[0].lower() != b"content-length"]
        draft.fields.append([b"Transfer-Encoding", b": ", b"chunked", b"\r\n"])
    draft.body = _chunked(random, _data(random), odd=True)


def _field(random: Random, draft: Draft) -> None:
    name, value = random.choice(ODD_FIELDS)
    draft.fields.insert(random.randint(0, len(draft.fields)), [name, b": ", value, b"\r\n"])


def _upgrade(random: Random, draft: Draft) -> None:
    draft.fields.append(
        [b"Connection", b": ", random.choice((b"Upgrade", b"upgrade, close", b"keep-alive, Upgrade")), b"\r\n"]
    )
    draft.fields.append(
        [b"Upgrade", b": ", random.choice((b"websocket", b"h2c", b"WEBSOCKET", b"websocket, h2c")), b"\r\n"]
    )
    if random.random() < 0.5:
        draft.fields.append([b"Sec-WebSocket-Version", b": ", b"13", b"\r\n"])
        draft.fields.append([b"Sec-WebSocket-Key", b": ", b"dGhlIHNhbXBsZSBub25jZQ==", b"\r\n"])


def _line_end(random: Random, draft: Draft) -> None:
    place = random.randint(-2, len(draft.fields) - 1)
    end = random.choice(LINE_ENDS)
    if place == -2:
        draft.line_end = end
    elif place == -1:
        draft.end = end
    else:
        draft.fields[place][3] = end


def _separator(random: Random, draft: Draft) -> None:
    if draft.fields:
        random.choice(draft.fields)[1] = random.choice(SEPARATORS)


def _fold(random: Random, draft: Draft) -> None:
    if draft.fields:
        random.choice(draft.fields)[2] += random.choice((b"\r\n x", b"\r\n\tx: y", b"\n x", b"\r x", b"\r\n "))


def _twice(random: Random, draft: Draft) -> None:
    if draft.fields:
        draft.fields.insert(random.randint(0, len(draft.fields)), list(random.choice(draft.fields)))


def _spell(random: Random, draft: Draft) -> None:
    if draft.fields:
        line = random.choice(draft.fields)
        form: Callable[[bytes], bytes] = random.choice(
            (
                bytes.upper,
                bytes.lower,
                bytes.swapcase,
                lambda name: name.replace(b"-", b"_"),
                lambda name: name + b" ",
                lambda name: b"\t" + name,
            )
        )
        line[0] = form(line[0])


def _before(random: Random, draft: Draft) -> None:
    draft.before = random.choice((b"\r\n", b"\n", b"\r\n\r\n", b" ", b"\x00", b"\r", b"\xef\xbb\xbf", b"X"))


def _after(random: Random, draft: Draft) -> None:
    draft.body += random.choice((b"\r\n", b"x", b"\n", b"0\r\n\r\n", SMUGGLED, b"\x00", b"\r"))


MUTATIONS = (
    *(
        _method,
        _target,
        _target,
        _target,
        _form,
        _form,
        _version,
        _gap,
        _host,
        _host,
        _no_host,
        _length,
        _length,
        _coding,
        _coding,
    ),
    *(
        _chunks,
        _chunks,
        _chunks,
        _field,
        _field,
        _field,
        _field,
        _upgrade,
        _line_end,
        _separator,
        _fold,
        _twice,
        _spell,
        _before,
        _after,
    ),
)


def _damage(random: Random, octets: bytes) -> bytes:
    """*octets* with one place changed, wherever it is."""
    place = random.randrange(len(octets) + 1)
    size = random.randint(1, 4)
    kind = random.randrange(4)
    if kind == 0:
        return octets[:place] + octets[place + size :]
    if kind == 1:
        return octets[:place] + bytes(random.choices(b"\r\n\t \x00:;,0aA\x0b\xff/%.-_", k=size)) + octets[place:]
    if kind == 2:
        return octets[:place] + bytes(random.choices(b"\r\n\t \x00:;,0aA\x0b\xff/%.-_", k=1)) + octets[place + 1 :]
    return octets[:place] + octets[place : place + 12] + octets[place:]


def sequence(seed: int, number: int) -> bytes:
    """What a client sends over one connection: one to three requests, some of them mutated."""
    random = Random(seed * 1_000_000_007 + number)
    parts = []
    for _ in range(random.choice((1, 1, 1, 2, 2, 3))):
        draft = valid(random)
        for _ in range(random.choice((0, 0, 1, 1, 1, 2, 3))):
            random.choice(MUTATIONS)(random, draft)
        parts.append(draft.octets())
    octets = b"".join(parts)
    return _damage(random, octets) if random.random() < 0.12 else octets
