"""Tests for swarmgate.middlewares.content_type."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.middlewares import buffering, compress, content_type
from swarmgate.middlewares.chain import Chain
from swarmgate.middlewares.content_type import type_of
from swarmgate.structure import structure
from tests.exchanges import Origin, context_of, exchange_of, lead
from tests.memory_network import GET, MemoryGate, MemoryTransport


def step_of(**options: Any) -> Any:
    return content_type.build(structure(content_type.Settings, options, ""), context_of())


class TypeTests(SynchronousTestCase):
    def test_types(self) -> None:
        """What a body is shows in what it begins with."""
        for data, expected in (
            (b"", "text/plain; charset=utf-8"),
            (b"hello", "text/plain; charset=utf-8"),
            (b"{}", "text/plain; charset=utf-8"),
            (b"\x00\x01", "application/octet-stream"),
            (b"a\x1bb", "text/plain; charset=utf-8"),
            (b" \n<!doctype html>", "text/html; charset=utf-8"),
            (b"<HTML ", "text/html; charset=utf-8"),
            (b"<htmlx>", "text/plain; charset=utf-8"),
            (b"<!-- x -->", "text/html; charset=utf-8"),
            (b"<p>", "text/html; charset=utf-8"),
            (b"\t<?xml version", "text/xml; charset=utf-8"),
            (b"%PDF-1.7", "application/pdf"),
            (b"\x89PNG\r\n\x1a\n...", "image/png"),
            (b"GIF89a", "image/gif"),
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"RIFF....WEBPVP8 ", "image/webp"),
            (b"RIFF....WAVE", "audio/wave"),
            (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", "video/mp4"),
            (b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00isomiso2", "application/octet-stream"),
            (b"PK\x03\x04", "application/zip"),
            (b"\x1f\x8b\x08", "application/x-gzip"),
            (b"wOF2", "font/woff2"),
            (b"\xef\xbb\xbfa", "text/plain; charset=utf-8"),
        ):
            self.assertEqual(type_of(data), expected, data)

    @given(st.binary(max_size=600))
    def test_any(self, data: bytes) -> None:
        """Anything has a type, and it does not depend on what is not looked at."""
        self.assertIn("/", type_of(data))
        self.assertEqual(type_of(data[:512]), type_of(data))


class ContentTypeTests(SynchronousTestCase):
    def test_added(self) -> None:
        """An answer without one gets one; others keep theirs."""
        for fields, options, expected in (
            ((), {}, b"text/html; charset=utf-8"),
            (((b"content-type", b"a/b"),), {}, b"a/b"),
            (((b"Content-Encoding", b"gzip"),), {}, None),
            ((), {"autoDetect": "false"}, None),
            ((), {"autoDetect": "true"}, b"text/html; charset=utf-8"),
        ):
            client = lead(exchange_of("/"), step_of(**options), origin=Origin(200, fields, b"<html>"))
            self.assertEqual((client.value(b"Content-Type"), client.body, client.done), (expected, b"<html>", True))

    def test_no_body(self) -> None:
        """Where there is no body there is nothing to be seen."""
        for method, status, body in (("HEAD", 200, b"<html>"), ("GET", 304, b""), ("GET", 204, b""), ("GET", 200, b"")):
            client = lead(exchange_of("/", method=method), step_of(), origin=Origin(status, (), body))
            self.assertEqual((client.value(b"Content-Type"), client.status), (None, status))

    def gate(self, *steps: Any) -> tuple[MemoryGate, MemoryTransport]:
        gate = MemoryGate()
        gate.leaf = Chain("r@test", steps or (step_of(),), gate.leaf)
        client = gate.client()
        client.receive(GET)
        return gate, client

    def test_head_first(self) -> None:
        """A head that comes before its body waits for it, and the rest streams."""
        gate, client = self.gate()
        gate.server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n")
        self.assertEqual(client.take(), b"")
        gate.server.receive(b"<html>")
        self.assertTrue(
            client.take().endswith(b"Content-Type: text/html; charset=utf-8\r\nContent-Length: 12\r\n\r\n<html>")
        )
        self.assertIs(client.producer, gate.server.protocol)
        gate.server.receive(b"<body>")
        self.assertEqual(client.take(), b"<body>")
        self.assertEqual([one.status for one in gate.finished_exchanges], [200])
        self.assertIsNone(client.producer)

    def test_no_body_after_all(self) -> None:
        """A body that has nothing in it has no type; its trailers arrive."""
        for end, expected in (
            (b"0\r\n\r\n", b"Content-Length: 0\r\n\r\n"),
            (b"0\r\nX-T: 1\r\n\r\n", b"0\r\nX-T: 1\r\n\r\n"),
        ):
            gate, client = self.gate()
            gate.server.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            gate.server.receive(end)
            sent = client.take()
            self.assertTrue(sent.endswith(expected), sent)
            self.assertNotIn(b"Content-Type", sent)

    def test_breaks_off(self) -> None:
        """A server that breaks off between head and body has not answered."""
        gate, client = self.gate()
        gate.server.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n")
        gate.server.reset()
        self.assertTrue(client.take().startswith(b"HTTP/1.1 502 "))

    def test_composes(self) -> None:
        """compress and buffering before it see the type."""
        packing = compress.build(structure(compress.Settings, {"includedContentTypes": "text/html"}, ""), context_of())
        keeping = buffering.build(structure(buffering.Settings, {}, ""), context_of())
        exchange = exchange_of("/", ("Accept-Encoding", "gzip"))
        client = lead(exchange, packing, keeping, step_of(), origin=Origin(200, (), b"<html>" * 1000))
        self.assertEqual((client.value(b"Content-Encoding"), client.done), (b"gzip", True))
