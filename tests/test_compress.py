"""Answers are packed for those who can unpack them, and for nobody else."""

from __future__ import annotations

import gzip
from typing import Any

import brotli
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.middlewares import compress
from swarmgate.middlewares.chain import Chain
from swarmgate.middlewares.compress import Packing, Settings, choose, weights
from swarmgate.structure import StructureError, structure
from tests.exchanges import context_of
from tests.memory_network import MemoryGate, MemoryTransport

TEXT = b"".join(b"line %d of a text that repeats itself\n" % number for number in range(100))


def unpacked(encoding: str, data: bytes) -> bytes:
    """What *data* was, by other means than those that have packed it."""
    if encoding == "gzip":
        return gzip.decompress(data)
    if encoding == "br":
        return brotli.decompress(data)
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


def settings_of(**options: Any) -> Settings:
    found: Settings = structure(Settings, options, "compress")
    return found


class ChoiceTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        """What the client likes best is taken, among equals the first of those that are configured."""
        for accepted, chosen in (
            ("gzip, deflate, br, zstd", "gzip"),
            ("br", "br"),
            ("gzip;q=0.5, br;q=0.8", "br"),
            ("gzip;q=0, br;q=0.001", "br"),
            ("GZIP", "gzip"),
            ("x-gzip", "gzip"),
            ("deflate", ""),
            ("identity", ""),
            ("", ""),
            ("*", "gzip"),
            ("gzip;q=0, *", "br"),
            ("*;q=0", ""),
            ("br;q=0.5, identity", ""),
            ("br, identity;q=0.5", "br"),
            ("gzip;q=0", ""),
            ("gzip;q=2", ""),
            ("gzip;level=9", ""),
            ("gzip ; Q=1.000", "gzip"),
        ):
            self.assertEqual(choose([accepted.encode()], Settings()), chosen, accepted)
        self.assertEqual(choose([b"br;q=0.1", b"zstd"], Settings()), "zstd")

    def test_preferred(self) -> None:
        """The order of ``encodings`` is the gate's preference, and what is missing there is never used."""
        self.assertEqual(choose([b"gzip, br, zstd"], Settings(encodings=("zstd", "br"))), "zstd")
        self.assertEqual(choose([b"gzip"], Settings(encodings=("zstd", "br"))), "")

    def test_default(self) -> None:
        """Who says nothing gets ``defaultEncoding``, and so does who takes anything; who refuses gets nothing."""
        settings = Settings(default_encoding="br")
        self.assertEqual([choose(one, settings) for one in ([], [b"*"], [b""], [b"gzip"], [b"identity"])],
                         ["br", "br", "", "gzip", ""])  # fmt: skip
        self.assertEqual(choose([], Settings()), "")

    @given(
        st.lists(st.sampled_from(["gzip", "br", "zstd", "*", "identity", ";q=", "0", "1", ".5", ",", " ", ";", "x"]))
    )
    def test_anything(self, parts: list[str]) -> None:
        """Whatever a client sends, the choice is one of ours, and none that it forbids."""
        text = "".join(parts)
        chosen = choose([text.encode()], Settings())
        self.assertIn(chosen, ("", "gzip", "br", "zstd"))
        if chosen:
            liked = weights([text.encode()]) or {}
            self.assertGreater(liked.get(chosen, liked.get("*", 0.0)), 0.0)


class PackingTests(SynchronousTestCase):
    @given(st.sampled_from(["gzip", "br", "zstd"]), st.booleans(), st.lists(st.binary(max_size=2000), max_size=8))
    def test_any_pieces(self, encoding: str, streams: bool, pieces: list[bytes]) -> None:
        """What is unpacked is what was sent, however it came."""
        packing = Packing(encoding, streams)
        packed = b"".join([*map(packing.feed, pieces), packing.end()])
        self.assertEqual(unpacked(encoding, packed), b"".join(pieces))

    def test_large_piece(self) -> None:
        """A piece that is compressed in several turns of the packer comes out whole."""
        data = TEXT * 100
        for encoding in ("gzip", "br", "zstd"):
            packing = Packing(encoding, False)
            packed = packing.feed(data) + packing.end()
            self.assertEqual(unpacked(encoding, packed), data)
            self.assertLess(len(packed), len(data) / 10)


class CompressTests(SynchronousTestCase):
    def gate(self, **options: Any) -> tuple[MemoryGate, MemoryTransport]:
        """A gate whose only route has the middleware, and a client of it."""
        gate = MemoryGate()
        step = compress.build(settings_of(**options), context_of(gate.clock))
        gate.leaf = Chain("r@test", (step,), gate.leaf)
        return gate, gate.client()

    def ask(
        self, answer: bytes, accept: bytes = b"gzip", method: bytes = b"GET", **options: Any
    ) -> tuple[dict[bytes, bytes], bytes]:
        """The fields and the body, as the client gets them, of what the server answers."""
        gate, client = self.gate(**options)
        client.receive(method + b" / HTTP/1.1\r\nHost: a.example\r\nAccept-Encoding: " + accept + b"\r\n\r\n")
        gate.server.receive(answer)
        head, _, body = client.take().partition(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        return {name.lower(): value for name, value in fields.items()}, body

    def answer(self, body: bytes = TEXT, more: bytes = b"", status: bytes = b"200 OK") -> bytes:
        return b"HTTP/1.1 " + status + b"\r\nContent-Type: text/plain\r\n" + more + (
            b"Content-Length: %d\r\n\r\n" % len(body)) + body  # fmt: skip

    def chunks(self, body: bytes) -> bytes:
        """What the chunks of *body* hold."""
        data = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            data, body = data + body[: int(size, 16)], body[int(size, 16) + 2 :]
        return data

    def test_packed(self) -> None:
        """A text is packed, its length is not told any more, and caches are told what it depends on."""
        for encoding in ("gzip", "br", "zstd"):
            fields, body = self.ask(self.answer(more=b'ETag: "1"\r\nAccept-Ranges: bytes\r\n'), encoding.encode())
            self.assertEqual(fields[b"content-encoding"], encoding.encode())
            self.assertEqual((fields[b"vary"], fields[b"etag"]), (b"Accept-Encoding", b'W/"1"'))
            # All of it was there at once, so its new length is known.
            self.assertEqual(fields[b"content-length"], b"%d" % len(body))
            self.assertNotIn(b"accept-ranges", fields)
            self.assertEqual(unpacked(encoding, body), TEXT)

    def test_in_pieces(self) -> None:
        """An answer that comes in pieces is packed as a whole, and sent in chunks."""
        gate, client = self.gate()
        client.receive(b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
        answer = self.answer()
        for start in range(0, len(answer), 700):
            gate.server.receive(answer[start : start + 700])
        head, _, body = client.take().partition(b"\r\n\r\n")
        self.assertIn(b"Transfer-Encoding: chunked", head)
        self.assertNotIn(b"Content-Length", head)
        self.assertEqual(unpacked("gzip", self.chunks(body)), TEXT)

    def test_left_alone(self) -> None:
        """What must not, or need not, be packed is passed on as it came."""
        parts = self.answer(status=b"206 Partial Content", more=b"Content-Range: bytes 0-9/20\r\n")
        cases = {
            "small": self.answer(b"x" * 1023),
            "encoded": self.answer(more=b"Content-Encoding: br\r\n"),
            "part": parts,
            "no-transform": self.answer(more=b"Cache-Control: public, No-Transform\r\n"),
            "grpc": self.answer().replace(b"text/plain", b"application/grpc+proto"),
            "nothing": b"HTTP/1.1 204 No Content\r\n\r\n",
        }
        for name, answer in cases.items():
            fields, body = self.ask(answer)
            self.assertNotEqual(fields.get(b"content-encoding"), b"gzip", name)
            self.assertEqual(body, answer.partition(b"\r\n\r\n")[2], name)
            self.assertNotIn(b"vary", fields, name)
        fields, _ = self.ask(self.answer(b"").replace(b"Content-Length: 0", b"Content-Length: 9000"), method=b"HEAD")
        self.assertEqual(fields[b"content-length"], b"9000")

    def test_client_that_cannot(self) -> None:
        """A client that can't unpack gets it as it came, and caches know that others may get it otherwise."""
        fields, body = self.ask(self.answer(), b"identity")
        self.assertEqual((body, fields[b"vary"]), (TEXT, b"Accept-Encoding"))
        fields, _ = self.ask(self.answer(more=b"Vary: Cookie, accept-encoding\r\n"), b"identity")
        self.assertEqual(fields[b"vary"], b"Cookie, accept-encoding")

    def test_types(self) -> None:
        """Types that are excluded, or not among those that are included, are left as they are."""
        for options, is_packed in (
            ({"excludedcontenttypes": "text/plain"}, False),
            ({"excludedcontenttypes": "image/png,text/event-stream"}, True),
            ({"includedcontenttypes": "Text/Plain"}, True),
            ({"includedcontenttypes": "text/html"}, False),
        ):
            answer = self.answer().replace(b"text/plain", b"text/plain; charset=utf-8")
            fields, _ = self.ask(answer, **options)
            self.assertEqual(b"content-encoding" in fields, is_packed, options)

    def test_stream(self) -> None:
        """An event reaches the client when it was sent, and not when there are enough of them."""
        for encoding in ("gzip", "br", "zstd"):
            gate, client = self.gate()
            client.receive(b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: " + encoding.encode() + b"\r\n\r\n")
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            gate.server.receive(head)
            got = client.take().partition(b"\r\n\r\n")[2]
            seen = b""
            for number in range(3):
                event = b"data: %d\n\n" % number
                gate.server.receive(b"%x\r\n%b\r\n" % (len(event), event))
                got += client.take()
                seen += event
                self.assertEqual(self.partly(encoding, self.chunks(got)), seen)
            gate.server.receive(b"0\r\n\r\n")
            got += client.take()
            self.assertEqual(unpacked(encoding, self.chunks(got)), seen)

    @staticmethod
    def partly(encoding: str, data: bytes) -> bytes:
        """What there is to read of a stream that goes on."""
        if encoding == "gzip":
            import zlib

            return zlib.decompressobj(31).decompress(data)
        if encoding == "br":
            return bytes(brotli.Decompressor().process(data))
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)

    def test_broken_off(self) -> None:
        """An answer that the server breaks off does not look whole."""
        gate, client = self.gate()
        client.receive(b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
        gate.server.receive(self.answer()[:-10])
        gate.server.end()
        self.assertFalse(client.take().endswith(b"0\r\n\r\n"))

    def test_settings(self) -> None:
        """Settings that contradict each other, and codings that there are none of, are told of."""
        for options, said in (
            ({"excludedcontenttypes": "a/b", "includedcontenttypes": "c/d"}, "not both"),
            ({"minresponsebodybytes": "-1"}, "0 or more"),
            ({"defaultencoding": "lzma"}, "one of encodings"),
        ):
            error = self.assertRaises(ValueError, compress.build, settings_of(**options), context_of())
            self.assertIn(said, str(error))
        for options in ({"encodings": "gzip,deflate"}, {"includedcontenttypes": "text"}):
            self.assertRaises(StructureError, settings_of, **options)
