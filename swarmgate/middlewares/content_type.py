"""``contentType``: an answer without ``Content-Type`` gets one by what its body begins with.

Without this middleware nothing is guessed. What is known are the formats that browsers guess too (MIME Sniffing
Standard, as Go's ``DetectContentType``): HTML, XML, PDF, images, sound, video, fonts and archives by their first
octets; else text is ``text/plain; charset=utf-8``, and anything else ``application/octet-stream``. Answers that are
encoded, as with gzip, are left as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from swarmgate.http.between import Between
from swarmgate.http.message import Fields, Response, field
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.structure import option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Client, Exchange

KIND = "contentType"

#: Octets that are looked at.
_LOOKED_AT = 512
_BLANK = b"\t\n\x0c\r "
#: Tags that HTML begins with, in upper case; a blank or ``>`` follows.
_TAGS = (
    b"<!DOCTYPE HTML", b"<HTML", b"<HEAD", b"<SCRIPT", b"<IFRAME", b"<H1", b"<DIV", b"<FONT", b"<TABLE", b"<A",
    b"<STYLE", b"<TITLE", b"<B", b"<BODY", b"<BR", b"<P", b"<!--",
)  # fmt: skip
_BEGINNINGS = (
    (b"%PDF-", "application/pdf"),
    (b"%!PS-Adobe-", "application/postscript"),
    (b"\xfe\xff", "text/plain; charset=utf-16be"),
    (b"\xff\xfe", "text/plain; charset=utf-16le"),
    (b"\xef\xbb\xbf", "text/plain; charset=utf-8"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"\x00\x00\x02\x00", "image/x-icon"),
    (b"BM", "image/bmp"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"ID3", "audio/mpeg"),
    (b"OggS\x00", "application/ogg"),
    (b"MThd\x00\x00\x00\x06", "audio/midi"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"\x00\x01\x00\x00", "font/ttf"),
    (b"OTTO", "font/otf"),
    (b"ttcf", "font/collection"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"\x1f\x8b\x08", "application/x-gzip"),
    (b"PK\x03\x04", "application/zip"),
    (b"Rar!\x1a\x07\x00", "application/x-rar-compressed"),
    (b"Rar!\x1a\x07\x01\x00", "application/x-rar-compressed"),
    (b"\x00asm", "application/wasm"),
)
#: Containers: what begins them, and what they are by their ninth octet on.
_CONTAINERS = (
    (b"RIFF", b"WEBPVP", "image/webp"),
    (b"RIFF", b"WAVE", "audio/wave"),
    (b"RIFF", b"AVI ", "video/avi"),
    (b"FORM", b"AIFF", "audio/aiff"),
)
#: Octets that no text has.
_BINARY = frozenset((*range(9), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20)))


@attrs.frozen
class Settings:
    """Options of ``contentType``."""

    auto_detect: bool | None = option(
        default=None, doc="Deprecated by Traefik, and better not given; ``false``: nothing is guessed."
    )


def type_of(data: bytes) -> str:
    """The media type of a body that begins with *data*."""
    data = data[:_LOOKED_AT]
    text = data.lstrip(_BLANK)
    upper = text[:32].upper()
    for tag in _TAGS:
        end = upper[len(tag) : len(tag) + 1]
        if upper.startswith(tag) and (end == b">" or end == b" " or (tag == b"<!--" and end != b"")):
            return "text/html; charset=utf-8"
    if upper == b"<!--":
        return "text/html; charset=utf-8"
    if text.startswith(b"<?xml"):
        return "text/xml; charset=utf-8"
    for beginning, media_type in _BEGINNINGS:
        if data.startswith(beginning):
            return media_type
    for beginning, inner, media_type in _CONTAINERS:
        if data.startswith(beginning) and data[8:].startswith(inner):
            return media_type
    if _is_mp4(data):
        return "video/mp4"
    return "application/octet-stream" if _BINARY.intersection(text) else "text/plain; charset=utf-8"


def _is_mp4(data: bytes) -> bool:
    size = int.from_bytes(data[:4], "big")
    if len(data) < 12 or len(data) < size or size % 4 or data[4:8] != b"ftyp":
        return False
    return any(data[at : at + 3] == b"mp4" for at in range(8, size, 4) if at != 12)


class ContentType(Middleware):
    """Says what answers are."""

    __slots__ = ()

    def take(self, exchange: Exchange, response: Response) -> _Beginning | None:
        if response.status in (204, 304) or exchange.request.method == b"HEAD" or response.length == 0:
            return None
        if field(response.fields, b"content-type") is not None or field(response.fields, b"content-encoding"):
            return None
        return _Beginning(exchange.client, exchange)


class _Beginning(Between):
    """Takes an answer until its body begins."""

    def __init__(self, client: Client, exchange: Exchange) -> None:
        Between.__init__(self, client)
        self._exchange = exchange
        self._response: Any = None
        self._producer: Any = None

    def send_head(self, exchange: Exchange, response: Response, data: bytes, done: bool) -> None:
        self._response = response
        if data or done:
            self._pass_on(data, done)

    def send_data(self, data: bytes) -> None:
        self._pass_on(data, False)

    def send_end(self, trailers: Fields) -> None:
        self._pass_on(b"", not trailers)
        if trailers:
            self._exchange.end(trailers)

    def abort(self) -> None:
        """It breaks off before it has begun."""
        self._exchange.take_back()
        self._exchange.fail(502)

    def feed_from(self, producer: Any) -> None:
        self._producer = producer

    def _pass_on(self, data: bytes, done: bool) -> None:
        exchange, response = self._exchange, self._response
        if data:
            response.fields.append((b"Content-Type", type_of(data).encode("ascii")))
        exchange.take_back()
        exchange.pass_on(response, data, done)
        if self._producer is not None and not done and not exchange.ended:
            exchange.client.feed_from(self._producer)


class Nothing(Middleware):
    """What ``autoDetect: false`` asks for."""

    __slots__ = ()


def build(settings: Settings, context: Context) -> Middleware:
    """The step for one route."""
    return Nothing() if settings.auto_detect is False else ContentType()
