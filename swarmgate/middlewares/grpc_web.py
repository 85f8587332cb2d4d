"""``grpcWeb``: browsers reach gRPC services by the gRPC-Web protocol.

Requests of ``application/grpc-web`` and ``application/grpc-web-text`` become requests of gRPC. Their answers become
answers of gRPC-Web: trailers are written at the end of the body, and the text form is encoded with base64. The service
has to be reached over HTTP/2, with the scheme ``h2c`` or ``https``. Pages of *allowOrigins* may ask and read (CORS);
their preflight requests are answered here. Other requests pass as they are.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import TYPE_CHECKING

import attrs

from swarmgate.http.fields import tokens
from swarmgate.http.message import UNKNOWN, Fields, Response, field, field_values
from swarmgate.middlewares.interface import BodyTransform, Context, Middleware
from swarmgate.structure import option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange

KIND = "grpcWeb"

_TYPE = b"application/grpc"
_WEB_TYPE = b"application/grpc-web"
_TEXT_TYPE = b"application/grpc-web-text"
#: What marks the frame of trailers.
_TRAILERS = 0x80
#: Seconds that a browser may remember what it may do.
_REMEMBERED = b"600"


@attrs.frozen
class Settings:
    """Options of ``grpcWeb``."""

    allow_origins: tuple[str, ...] = option(
        default=(), doc="Whose pages may ask, as ``https://shop.example``; ``*``: everybody's."
    )


@attrs.frozen
class _Form:
    """How the client's messages are written: *suffix* follows the type, as ``+proto``."""

    is_text: bool
    suffix: bytes


def form_of(content_type: bytes) -> _Form | None:
    """What a Content-Type says of the form, None if it is not that of gRPC-Web."""
    kind = content_type.partition(b";")[0].strip().lower()
    for prefix in (_TEXT_TYPE, _WEB_TYPE):
        rest = kind.removeprefix(prefix)
        if kind.startswith(prefix) and rest[:1] in (b"", b"+"):
            return _Form(prefix is _TEXT_TYPE, rest)
    return None


class Decoding(BodyTransform):
    """A body out of base64, which may be padded wherever a message ends."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._rest = b""
        self._is_broken = False

    def feed(self, data: bytes) -> bytes:
        if self._is_broken:
            return b""
        data = self._rest + data
        whole = len(data) // 4 * 4
        self._rest = data[whole:]
        try:
            return decode(data[:whole])
        except binascii.Error:
            return self._refuse()

    def end(self) -> bytes:
        return self._refuse() if self._rest and not self._is_broken else b""

    def _refuse(self) -> bytes:
        self._is_broken = True
        self._exchange.fail(400)
        return b""


def decode(text: bytes) -> bytes:
    """What *text*, groups of four, is base64 of; padding may stand at the end of any group.

    :raises binascii.Error: it is none.
    """
    pieces = []
    start = 0
    while start < len(text):
        padding = text.find(b"=", start)
        end = len(text) if padding < 0 else padding // 4 * 4 + 4
        pieces.append(base64.b64decode(text[start:end], validate=True))
        start = end
    return b"".join(pieces)


class Answering(BodyTransform):
    """An answer of gRPC on its way into one of gRPC-Web."""

    def __init__(self, exchange: Exchange, is_text: bool) -> None:
        self._exchange = exchange
        self._is_text = is_text

    def feed(self, data: bytes) -> bytes:
        return base64.b64encode(data) if self._is_text and data else data

    def end(self) -> bytes:
        trailers, self._exchange.last_fields = self._exchange.last_fields, []
        return self.feed(frame_of(trailers)) if trailers else b""


def frame_of(trailers: Fields) -> bytes:
    """The frame that holds *trailers* at the end of a body."""
    text = b"".join(b"%b: %b\r\n" % (name.lower(), value) for name, value in trailers)
    return struct.pack(">BI", _TRAILERS, len(text)) + text


class GrpcWeb(Middleware):
    """Speaks gRPC-Web with clients."""

    __slots__ = ("_allows_all", "_origins")

    def __init__(self, settings: Settings) -> None:
        self._allows_all = "*" in settings.allow_origins
        self._origins = frozenset(one.lower().encode("utf-8") for one in settings.allow_origins)

    def request(self, exchange: Exchange) -> None:
        request = exchange.request
        if self._is_preflight(exchange):
            self._answer_preflight(exchange)
            return
        form = form_of(field(request.fields, b"content-type") or b"") if request.method == b"POST" else None
        if form is None:
            return
        exchange.remember(self, form)
        left = (b"content-type", b"accept", b"x-grpc-web", b"te", b"content-length")
        request.fields = [pair for pair in request.fields if pair[0].lower() not in left]
        request.fields += [(b"Content-Type", _TYPE + form.suffix), (b"TE", b"trailers")]

    def request_body(self, exchange: Exchange) -> BodyTransform | None:
        form: _Form | None = exchange.recall(self)
        return Decoding(exchange) if form is not None and form.is_text else None

    def response(self, exchange: Exchange, response: Response) -> None:
        form: _Form | None = exchange.recall(self)
        if form is None:
            return
        kind = (field(response.fields, b"content-type") or b"").strip()
        is_grpc = kind.lower().startswith(_TYPE)
        if is_grpc:
            media_type = (_TEXT_TYPE if form.is_text else _WEB_TYPE) + kind[len(_TYPE) :]
            response.fields[:] = [pair for pair in response.fields if pair[0].lower() != b"content-type"]
            response.fields.append((b"Content-Type", media_type))
            response.length = UNKNOWN
            exchange.lead_response_through(Answering(exchange, form.is_text))
        origin = self._allowed(exchange)
        if origin:
            names = sorted({name.lower() for name, _ in response.fields} | {b"grpc-status", b"grpc-message"})
            response.fields += self._allowing(origin)
            response.fields.append((b"Access-Control-Expose-Headers", b", ".join(names)))

    def _is_preflight(self, exchange: Exchange) -> bool:
        fields = exchange.request.fields
        wanted = tokens(b",".join(field_values(fields, b"access-control-request-headers")))
        return (
            exchange.request.method == b"OPTIONS"
            and field(fields, b"access-control-request-method") is not None
            and b"x-grpc-web" in wanted
        )

    def _answer_preflight(self, exchange: Exchange) -> None:
        origin = self._allowed(exchange)
        fields: Fields = [(b"Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")]
        if origin:
            wanted = b", ".join(field_values(exchange.request.fields, b"access-control-request-headers"))
            fields += [
                *self._allowing(origin)[:-1],
                (b"Access-Control-Allow-Methods", b"POST"),
                (b"Access-Control-Allow-Headers", wanted),
                (b"Access-Control-Max-Age", _REMEMBERED),
            ]
        exchange.answer(204, b"", fields)

    def _allowed(self, exchange: Exchange) -> bytes:
        """The origin of the client's page, if it may ask; ``b""`` if it may not, or comes from none."""
        origin = field(exchange.request.fields, b"origin") or b""
        return origin if self._allows_all or origin.lower() in self._origins else b""

    def _allowing(self, origin: bytes) -> Fields:
        credentials: Fields = [] if self._allows_all else [(b"Access-Control-Allow-Credentials", b"true")]
        return [(b"Access-Control-Allow-Origin", origin), *credentials, (b"Vary", b"Origin")]


def build(settings: Settings, context: Context) -> Middleware:
    """The step for one route."""
    return GrpcWeb(settings)
