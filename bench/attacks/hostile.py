"""What a server must not say, and what a client may get of it."""

from __future__ import annotations

from collections.abc import Callable

import attrs

_OK = b"HTTP/1.1 200 OK\r\n"
#: An answer that nobody has asked for; it must not become anybody's.
SMUGGLED = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nX-Smuggled: 1\r\n\r\nsmuggled"


def refused(got: bytes) -> str:
    """``""`` if *got* is the gate's own 502, whatever informational answers have come before it."""
    while got.startswith(b"HTTP/1.1 103 "):
        got = got.partition(b"\r\n\r\n")[2]
    return "" if got.startswith(b"HTTP/1.1 502 ") and b"smuggled" not in got else f"not 502: {got[:80]!r}"


def truncated(got: bytes) -> str:
    """``""`` if *got* cannot be taken for a whole answer, or is the gate's own 502."""
    if b"smuggled" in got:
        return f"another's answer: {got[-80:]!r}"
    head, _, body = got.partition(b"\r\n\r\n")
    if got.startswith(b"HTTP/1.1 502 ") or not head.startswith(b"HTTP/1.1 "):
        return ""
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        return "" if not body.endswith(b"0\r\n\r\n") else f"looks whole: {got[:80]!r}"
    length = lower.partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return "" if length and len(body) < int(length) else f"looks whole: {got[:80]!r}"


def only_first(got: bytes) -> str:
    """``""`` if *got* is the first answer alone, whatever came behind it."""
    return "" if got.startswith(_OK) and got.endswith(b"first") and b"smuggled" not in got else f"{got[:80]!r}"


def chunks_alone(got: bytes) -> str:
    """``""`` if *got* is a 502, or empty as the chunks said, and not as long as the length did (RFC 9112, 6.3)."""
    empty = got.startswith(_OK) and got.endswith(b"\r\n\r\n") and b"Content-Length: 5" not in got
    return "" if empty else refused(got)


@attrs.frozen
class Answer:
    """Something that a server says.

    :ivar closes: the server closes the connection after it.
    :ivar verdict: ``""`` if what the client got is right, else what is wrong with it.
    """

    name: str
    octets: bytes
    verdict: Callable[[bytes], str] = refused
    closes: bool = True


ANSWERS = (
    Answer("nothing at all", b""),
    Answer("no HTTP", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    Answer("another version", b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    Answer("version in lower case", b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    Answer("status of two digits", b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok"),
    Answer("status of four digits", b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok"),
    Answer("status that is no number", b"HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok"),
    Answer("status below 100", b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok"),
    Answer("head cut short", b"HTTP/1.1 200 OK\r\nContent-Le"),
    Answer("bare line feeds", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    Answer("space before the colon", _OK + b"Content-Length : 2\r\n\r\nok"),
    Answer("folded field", _OK + b"X-A: 1\r\n folded\r\nContent-Length: 2\r\n\r\nok"),
    Answer("octet zero in a field", _OK + b"X-A: 1\x002\r\nContent-Length: 2\r\n\r\nok"),
    Answer("carriage return in a field", _OK + b"X-A: 1\r2\r\nContent-Length: 2\r\n\r\nok"),
    Answer("field without a name", _OK + b": 1\r\nContent-Length: 2\r\n\r\nok"),
    Answer("field without a colon", _OK + b"nonsense\r\nContent-Length: 2\r\n\r\nok"),
    Answer("two lengths", _OK + b"Content-Length: 2\r\nContent-Length: 30\r\n\r\nok"),
    Answer("negative length", _OK + b"Content-Length: -2\r\n\r\nok"),
    Answer("length with a sign", _OK + b"Content-Length: +2\r\n\r\nok"),
    Answer("length in hexadecimal", _OK + b"Content-Length: 0x2\r\n\r\nok"),
    Answer("length beyond all measure", _OK + b"Content-Length: " + b"9" * 40 + b"\r\n\r\nok"),
    Answer(
        "length and chunks", _OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", chunks_alone
    ),
    Answer("an unknown coding", _OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    Answer("chunked twice", _OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    Answer(
        "101 that nobody asked for", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
    ),
    Answer("informational answers without end", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 200),
    Answer("a head without end", _OK + b"X-A: " + b"a" * 100_000),
    Answer("body shorter than its length", _OK + b"Content-Length: 100\r\n\r\nshort", truncated),
    Answer("chunks cut short", _OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n", truncated),
    Answer("chunk longer than its size", _OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nfirst\r\n0\r\n\r\n", truncated),
    Answer("chunk size that is no number", _OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\nfirst\r\n", truncated),
    Answer(
        "chunk size beyond all measure", _OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n", truncated
    ),
    Answer("a second answer behind", _OK + b"Content-Length: 5\r\n\r\nfirst" + SMUGGLED, only_first, closes=False),
)
