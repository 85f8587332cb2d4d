"""Bodies: found in the stream however it is cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.bodies import BodyReader, ChunkedBody, OpenBody, SizedBody, chunk, last_chunk
from swarmgate.http.errors import MessageError


def read(reader: BodyReader, pieces: list[bytes]) -> tuple[bytes, bool, bytes]:
    """The body in *pieces*, whether it has ended, and what follows it."""
    body = b""
    behind = b""
    for piece in pieces:
        if reader.done:
            behind += piece
        else:
            body += reader.feed(piece)
    return body, reader.done, reader.rest + behind


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """*data* in pieces, cut at *places*."""
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(marks)]


class ChunkedTests(SynchronousTestCase):
    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.binary(max_size=10), st.lists(st.integers(0)))
    def test_any_cut(self, chunks: list[bytes], behind: bytes, places: list[int]) -> None:
        """However the stream is cut, the body and what follows it are the same."""
        wire = b"".join(map(chunk, chunks)) + last_chunk([(b"X-Sum", b"1")]) + behind
        reader = ChunkedBody()
        self.assertEqual(read(reader, cut(wire, places)), (b"".join(chunks), True, behind))
        self.assertEqual(reader.trailers, [(b"X-Sum", b"1")])

    @given(st.binary(max_size=60), st.lists(st.integers(0), max_size=5))
    def test_any_octets(self, data: bytes, places: list[int]) -> None:
        """What is no chunked body is refused, or waits for more; and a cut does not change which."""
        outcomes = []
        for pieces in ([data] if data else [], cut(data, places)):
            try:
                outcomes.append(read(ChunkedBody(), pieces))
            except MessageError:
                outcomes.append((b"", False, b"refused"))
        self.assertEqual(*outcomes)

    def test_refused(self) -> None:
        """Lines end with CR LF, sizes are hexadecimal digits, and data is as long as its size says."""
        for data in (
            b"5\nAAAAA\r\n0\r\n\r\n",
            b"5\r\nAAAAA\n0\r\n\r\n",
            b"0\r\n\n",
            b"5;a\nb\r\nAAAAA\r\n0\r\n\r\n",
            b"0x5\r\nAAAAA\r\n0\r\n\r\n",
            b"+5\r\n",
            b"1_0\r\n",
            b"5 \r\nAAAAA\r\n0\r\n\r\n",
            b" 5\r\n",
            b"\r\n\r\n",
            b"FFFFFFFFFFFFFFFF0\r\n",
            b"5\r\nAAAAAXX0\r\n\r\n",
            b"5;" + b"a" * 300,
            b"0\r\nX: " + b"a" * 9000,
            b"0\r\nX : y\r\n\r\n",
        ):
            self.assertRaises(MessageError, read, ChunkedBody(), [data])
            self.assertRaises(MessageError, read, ChunkedBody(), [data[i : i + 1] for i in range(len(data))])

    def test_forbidden_trailers(self) -> None:
        """A field that frames, routes or authorises does not come in by the back door."""
        reader = ChunkedBody()
        reader.feed(b"0\r\nContent-Length: 5\r\nX_Forwarded_For: 1\r\nX.Real.IP: 1\r\nHOST: b\r\nX-Sum: 1\r\n\r\n")
        self.assertEqual(reader.trailers, [(b"X-Sum", b"1")])


class OtherTests(SynchronousTestCase):
    def test_sized(self) -> None:
        """A sized body ends after its size."""
        self.assertEqual(read(SizedBody(5), [b"ab", b"cdefg"]), (b"abcde", True, b"fg"))
        self.assertTrue(SizedBody(0).done)

    def test_open(self) -> None:
        """An open body ends with its connection only."""
        self.assertEqual(read(OpenBody(), [b"ab", b"c"]), (b"abc", False, b""))
