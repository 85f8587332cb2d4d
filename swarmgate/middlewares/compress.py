"""``compress``: answers are sent in fewer octets to clients that can unpack them.

The client's ``Accept-Encoding`` decides (RFC 9110, 12.5.3): what it likes best is taken, and of what it likes equally
the first of ``encodings``. Left as they are: answers to HEAD, answers without a body, parts (206), those that are
encoded already, small ones, gRPC, types that are excluded, and whatever says ``Cache-Control: no-transform``. An answer
whose length the server does not tell is a stream: each piece of it goes on at once, so events arrive as they are sent.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import brotli
import zstandard

from swarmgate.http.fields import tokens
from swarmgate.http.message import UNKNOWN, Fields, field, field_values
from swarmgate.middlewares.interface import BodyTransform, Context, Middleware
from swarmgate.structure import option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange
    from swarmgate.http.message import Response

KIND = "compress"

#: Levels at which a quarter of a megabyte takes a few milliseconds: nobody else is served meanwhile.
_GZIP_LEVEL, _BROTLI_QUALITY, _ZSTD_LEVEL = 4, 3, 3
#: A gzip member in place of zlib's own format (zlib's deflateInit2).
_GZIP = 16 + zlib.MAX_WBITS
#: Octets that are compressed at once.
_PIECE = 65536
_WEIGHT = re.compile(rb"[ \t]*;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*", re.IGNORECASE)
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
#: Statuses that have no body, or only a part of one.
_LEFT_ALONE = (101, 204, 205, 206, 304)


def _encoding(text: str) -> str:
    if text not in _PACKERS:
        raise ValueError(f"one of {', '.join(_PACKERS)}")
    return text


def _media_type(text: str) -> str:
    if _TYPE.fullmatch(text.strip().lower()) is None:
        raise ValueError("a media type, such as text/html")
    return text.strip().lower()


@attrs.frozen
class Settings:
    """Options of ``compress``."""

    excluded_content_types: tuple[str, ...] = option(
        default=(), parse=_media_type, doc="Media types that are left as they are; gRPC always is."
    )
    included_content_types: tuple[str, ...] = option(
        default=(), parse=_media_type, doc="The only media types that are compressed; not with excludedContentTypes."
    )
    min_response_body_bytes: int = option(
        default=1024, doc="Shorter answers are left as they are, where their length is known beforehand."
    )
    encodings: tuple[str, ...] = option(
        default=("gzip", "br", "zstd"), parse=_encoding, doc="What may be used; the first is preferred."
    )
    default_encoding: str = option(
        default="", doc="What is used for clients that don't say what they take, or take anything; empty: nothing."
    )


class _Deflated:
    """gzip (RFC 1952)."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP)

    def pack(self, data: bytes) -> bytes:
        return self._packer.compress(data)

    def flush(self) -> bytes:
        return self._packer.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._packer.flush()


class _Brotli:
    """br (RFC 7932)."""

    def __init__(self) -> None:
        self._packer = brotli.Compressor(quality=_BROTLI_QUALITY)

    def pack(self, data: bytes) -> bytes:
        return self._packer.process(data)  # type: ignore[no-any-return]

    def flush(self) -> bytes:
        return self._packer.flush()  # type: ignore[no-any-return]

    def end(self) -> bytes:
        return self._packer.finish()  # type: ignore[no-any-return]


class _Zstandard:
    """zstd (RFC 8878)."""

    def __init__(self) -> None:
        self._packer = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()

    def pack(self, data: bytes) -> bytes:
        return self._packer.compress(data)

    def flush(self) -> bytes:
        return self._packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def end(self) -> bytes:
        return self._packer.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)


_PACKERS: Mapping[str, Callable[[], Any]] = {"gzip": _Deflated, "br": _Brotli, "zstd": _Zstandard}


class Packing(BodyTransform):
    """A body on its way into fewer octets.

    :param streams: what has come goes on at once.
    """

    def __init__(self, encoding: str, streams: bool) -> None:
        self._packer = _PACKERS[encoding]()
        self._streams = streams

    def feed(self, data: bytes) -> bytes:
        if not data:
            return b""
        packer = self._packer
        if len(data) <= _PIECE:
            packed: bytes = packer.pack(data)
        else:
            packed = b"".join([packer.pack(data[start : start + _PIECE]) for start in range(0, len(data), _PIECE)])
        return packed + packer.flush() if self._streams else packed

    def end(self) -> bytes:
        packed: bytes = self._packer.end()
        return packed


def weights(accepted: list[bytes]) -> dict[str, float] | None:
    """How much a client likes each coding that it names, from 0 to 1; None where it can't be understood.

    :param accepted: the values of its Accept-Encoding fields.
    """
    found: dict[str, float] = {}
    for member in tokens(b",".join(accepted)):
        name, mark, rest = member.partition(b";")
        weight = 1.0
        if mark:
            parsed = _WEIGHT.fullmatch(mark + rest)
            if parsed is None:
                return None
            weight = float(parsed[1])
        found[name.strip(b" \t").decode("latin-1")] = weight
    return found


def choose(accepted: list[bytes], settings: Settings) -> str:
    """The coding for a client, ``""`` for none.

    :param accepted: the values of its Accept-Encoding fields.
    """
    if not accepted:
        return settings.default_encoding
    wanted = weights(accepted)
    if not wanted:
        return ""
    others = wanted.get("*", 0.0)
    if "x-gzip" in wanted:  # the same (RFC 9110, 8.4.1.3)
        wanted.setdefault("gzip", wanted["x-gzip"])
    offered = [(wanted.get(name, others), name) for name in settings.encodings]
    if settings.default_encoding and others and not any(name in wanted for name in settings.encodings):
        return settings.default_encoding
    best = max((weight for weight, _ in offered), default=0.0)
    # Who likes it best as it is gets it as it is.
    if not best or wanted.get("identity", 0.0) > best:
        return ""
    return next(name for weight, name in offered if weight == best)


class Compress(Middleware):
    """Packs answers."""

    __slots__ = ("_settings",)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def response(self, exchange: Exchange, response: Response) -> None:
        if not self._may_pack(exchange, response):
            return
        _vary(response.fields)
        encoding = self._encoding_for(exchange, response)
        if not encoding:
            return
        streams = response.length == UNKNOWN
        exchange.lead_response_through(Packing(encoding, streams))
        response.length = UNKNOWN
        kept: Fields = []
        for name, value in response.fields:
            key = name.lower()
            if key == b"etag" and not value.startswith(b"W/"):
                # The octets are others: only what they mean is the same (RFC 9110, 8.8.1).
                value = b"W/" + value
            if key not in (b"accept-ranges", b"content-md5", b"digest", b"content-digest"):
                kept.append((name, value))
        kept.append((b"Content-Encoding", encoding.encode("ascii")))
        response.fields[:] = kept

    def _may_pack(self, exchange: Exchange, response: Response) -> bool:
        """Whether the answer would be packed for a client that can unpack it."""
        if response.status in _LEFT_ALONE or exchange.request.method == b"HEAD" or response.length == 0:
            return False
        if 0 < response.length < self._settings.min_response_body_bytes:
            return False
        if field(response.fields, b"content-encoding") not in (None, b"", b"identity"):
            return False
        if b"no-transform" in tokens(b",".join(field_values(response.fields, b"cache-control"))):
            return False
        kind = (field(response.fields, b"content-type") or b"").partition(b";")[0].strip().lower().decode("latin-1")
        if kind.startswith("application/grpc"):
            return False
        included = self._settings.included_content_types
        return kind in included if included else kind not in self._settings.excluded_content_types

    def _encoding_for(self, exchange: Exchange, response: Response) -> str:
        return choose(field_values(exchange.request.fields, b"accept-encoding"), self._settings)


def _vary(fields: Fields) -> None:
    """Have caches tell apart what clients accept."""
    varies = tokens(b",".join(field_values(fields, b"vary")))
    if b"accept-encoding" not in varies and b"*" not in varies:
        fields.append((b"Vary", b"Accept-Encoding"))


def build(settings: Settings, context: Context) -> Middleware:
    """The step for one route.

    :raises ValueError: the settings contradict each other.
    """
    if settings.excluded_content_types and settings.included_content_types:
        raise ValueError("includedContentTypes and excludedContentTypes: expected one of them, not both")
    if settings.min_response_body_bytes < 0:
        raise ValueError("minResponseBodyBytes: expected 0 or more")
    if not settings.encodings:
        raise ValueError("encodings: expected one of gzip, br, zstd at least")
    if settings.default_encoding and settings.default_encoding not in settings.encodings:
        raise ValueError(f"defaultEncoding: expected one of encodings, {', '.join(settings.encodings)}")
    return Compress(settings)
