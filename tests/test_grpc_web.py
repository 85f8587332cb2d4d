"""Tests for swarmgate.middlewares.grpc_web."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.exchange import Exchange
from swarmgate.http.message import UNKNOWN, Response, field, field_values
from swarmgate.middlewares import grpc_web
from swarmgate.middlewares.chain import Chain
from swarmgate.middlewares.grpc_web import decode, form_of, frame_of
from swarmgate.structure import structure
from tests.exchanges import MemoryClient, Origin, client_of, context_of, exchange_of

MESSAGE = b"\x00\x00\x00\x00\x05hello"
TRAILERS = [(b"Grpc-Status", b"0"), (b"grpc-message", b"fine")]
FRAME = b"\x80\x00\x00\x00\x24grpc-status: 0\r\ngrpc-message: fine\r\n"


class Service:
    """A gRPC service: takes a body, and answers when it is told to."""

    def __init__(self) -> None:
        self.exchange: Any = None
        self.body = b""
        self.done = False

    def serve(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.body = exchange.connect(self)
        self.done = exchange.body_done

    def body_data(self, data: bytes) -> None:
        self.body += data

    def body_end(self, trailers: Any) -> None:
        self.done = True

    def cancel(self) -> None:
        self.exchange = None

    def answer(self, *fields: tuple[bytes, bytes]) -> None:
        self.exchange.respond(
            Response(200, b"", [(b"Content-Type", b"application/grpc+proto"), *fields], UNKNOWN), b"", False
        )


class GrpcWebTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.service = Service()

    def lead(self, exchange: Exchange, leaf: Any = None, **options: Any) -> MemoryClient:
        options.setdefault("allowOrigins", "https://shop.example")
        step = grpc_web.build(structure(grpc_web.Settings, options, "grpcWeb"), context_of())
        Chain("r@test", (step,), leaf or self.service).serve(exchange)
        return client_of(exchange)

    def post(self, kind: str, *fields: tuple[str, str]) -> Exchange:
        length = ("Transfer-Encoding", "chunked")
        return exchange_of(
            "/echo.Echo/Say", ("Content-Type", kind), ("X-Grpc-Web", "1"), length, *fields, method="POST"
        )

    def test_binary(self) -> None:
        """A call of the binary form, with trailers in the last frame of its answer."""
        exchange = self.post("application/grpc-web+proto")
        client = self.lead(exchange)
        exchange.body_data(MESSAGE, True, [])
        fields = exchange.request.fields
        self.assertEqual((self.service.body, self.service.done), (MESSAGE, True))
        self.assertEqual(field_values(fields, b"content-type"), [b"application/grpc+proto"])
        self.assertEqual((field(fields, b"te"), field(fields, b"x-grpc-web")), (b"trailers", None))
        self.service.answer()
        exchange.data(MESSAGE)
        exchange.end(list(TRAILERS))
        self.assertEqual(client.value(b"Content-Type"), b"application/grpc-web+proto")
        self.assertEqual((client.body, client.trailers, client.done), (MESSAGE + FRAME, [], True))

    def test_text(self) -> None:
        """A call of the text form, with messages that were padded each for itself, cut wherever."""
        exchange = self.post("application/grpc-web-text")
        client = self.lead(exchange)
        sent = base64.b64encode(MESSAGE) + base64.b64encode(MESSAGE + b"x")
        for start in range(0, len(sent), 3):
            exchange.body_data(sent[start : start + 3], False, [])
        exchange.body_data(b"", True, [])
        self.assertEqual((self.service.body, self.service.done), (MESSAGE + MESSAGE + b"x", True))
        self.service.answer()
        exchange.data(MESSAGE)
        self.assertEqual(client.body, base64.b64encode(MESSAGE))
        exchange.end(list(TRAILERS))
        self.assertEqual(client.value(b"Content-Type"), b"application/grpc-web-text+proto")
        self.assertEqual(decode(client.body), MESSAGE + FRAME)

    def test_no_base64(self) -> None:
        """What is not base64 is answered 400, when it comes early, late or is cut off; no half of it is a call."""
        for pieces, early in (((b"****",), True), ((b"****",), False), ((b"AAA",), False), ((b"AA==", b"=AAA"), False)):
            self.service = Service()
            exchange = self.post("application/grpc-web-text")
            if early:
                exchange.body_data(pieces[0], True, [])
                client = self.lead(exchange)
                self.assertIsNone(self.service.exchange)
            else:
                client = self.lead(exchange)
                for piece in pieces:
                    exchange.body_data(piece, False, [])
                exchange.body_data(b"", True, [])
            self.assertEqual((client.status, client.done), (400, True))

    def test_trailers_only(self) -> None:
        """A call that failed at once has its status in the head."""
        exchange = self.post("application/grpc-web")
        client = self.lead(exchange)
        exchange.body_data(MESSAGE, True, [])
        head = Response(200, b"", [(b"content-type", b"application/grpc"), (b"grpc-status", b"5")], UNKNOWN)
        exchange.respond(head, b"", True)
        self.assertEqual((client.value(b"grpc-status"), client.body, client.done), (b"5", b"", True))

    def test_other_requests(self) -> None:
        """Others pass as they are, gRPC itself included."""
        for kind in ("application/grpc", "application/json", "application/grpc-webx", ""):
            exchange = self.post(kind)
            client = self.lead(exchange)
            self.assertEqual(field(exchange.request.fields, b"content-type"), kind.encode())
            self.assertEqual(field(exchange.request.fields, b"x-grpc-web"), b"1")
            self.service.answer()
            exchange.end(list(TRAILERS))
            self.assertEqual((client.body, client.trailers), (b"", TRAILERS))

    def test_other_answers(self) -> None:
        """An answer that is not of gRPC stays what it is."""
        client = self.lead(
            self.post("application/grpc-web-text"), Origin(502, ((b"Content-Type", b"text/plain"),), b"no")
        )
        self.assertEqual((client.status, client.value(b"Content-Type"), client.body), (502, b"text/plain", b"no"))

    def test_preflight(self) -> None:
        """Browsers are told what pages may ask, if they may."""
        for origin, options, allowed, credentials in (
            ("https://shop.example", {}, b"https://shop.example", b"true"),
            ("https://evil.example", {}, None, None),
            ("null", {}, None, None),
            ("https://evil.example", {"allowOrigins": "*"}, b"https://evil.example", None),
            ("https://shop.example", {"allowOrigins": ""}, None, None),
        ):
            exchange = exchange_of(
                "/echo.Echo/Say",
                ("Origin", origin),
                ("Access-Control-Request-Method", "POST"),
                ("Access-Control-Request-Headers", "content-type,x-grpc-web"),
                method="OPTIONS",
            )
            client = self.lead(exchange, **options)
            self.assertEqual((client.status, self.service.exchange), (204, None))
            self.assertEqual(client.value(b"Access-Control-Allow-Origin"), allowed)
            self.assertEqual(client.value(b"Access-Control-Allow-Credentials"), credentials)
            if allowed:
                self.assertEqual(client.value(b"Access-Control-Allow-Headers"), b"content-type,x-grpc-web")
                self.assertEqual(client.value(b"Access-Control-Allow-Methods"), b"POST")

    def test_other_options(self) -> None:
        """Any other OPTIONS is the service's."""
        self.lead(exchange_of("/", ("Origin", "https://shop.example"), method="OPTIONS"))
        self.assertIsNotNone(self.service.exchange)

    def test_reading(self) -> None:
        """A page that may ask may read the answer and its fields; another may not."""
        for origin, allowed in (("https://shop.example", b"https://shop.example"), ("https://evil.example", None)):
            exchange = self.post("application/grpc-web", ("Origin", origin))
            client = self.lead(exchange)
            self.service.answer((b"X-A", b"1"))
            self.assertEqual(client.value(b"Access-Control-Allow-Origin"), allowed)
            if allowed:
                exposed = client.value(b"Access-Control-Expose-Headers") or b""
                self.assertEqual(exposed, b"content-type, grpc-message, grpc-status, x-a")


class FormTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """The type tells the form, and what messages are written in."""
        for kind, expected in (
            (b"application/grpc-web", (False, b"")),
            (b"Application/gRPC-Web+json; charset=utf-8", (False, b"+json")),
            (b"application/grpc-web-text+proto", (True, b"+proto")),
            (b"application/grpc-web-texts", None),
            (b"application/grpc", None),
        ):
            form = form_of(kind)
            self.assertEqual(form and (form.is_text, form.suffix), expected, kind)

    def test_frame(self) -> None:
        self.assertEqual(frame_of(TRAILERS), FRAME)

    @given(st.lists(st.binary(max_size=20)))
    def test_decode(self, messages: list[bytes]) -> None:
        """Messages that are padded each for itself are read one after the other."""
        self.assertEqual(decode(b"".join(map(base64.b64encode, messages))), b"".join(messages))

    @given(st.binary(max_size=40))
    def test_decode_any(self, text: bytes) -> None:
        """Anything else is refused, and nothing worse."""
        try:
            decode(text)
        except binascii.Error:
            return
