"""Octets put together, compiled or not."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.octets import decimal, has_either, joined, whole_chunks
from swarmgate.http2.octets import frame_head

EXTENSIONS = (b"", b";", b" ;a", b"\t \t;a=b", b';a="\x80\xff"', b";" + b"x" * 200)
#: What is no whole chunk, or the last one, or none that is usual.
TAILS = (
    *(b"", b"1", b"1\r", b"1\r\n", b"1\r\nx", b"1\r\nx\r", b"2\r\nx\r\n", b"1\r\nxy\r\n", b"1\nx\r\n", b"1\r\nx\n\n"),
    *(b"0\r\n\r\n", b"00\r\n\r\n", b"00000001\r\nx\r\n", b"-1\r\nx\r\n", b" 1\r\nx\r\n", b"1 \r\nx\r\n", b"g\r\nx\r\n"),
    *(
        b"1;\x00\r\nx\r\n",
        b"1;\x7f\r\nx\r\n",
        b"1;a\nx\r\n",
        b"1;a",
        b"1;a\r",
        b"1;" + b"x" * 255 + b"\r\nx\r\n",
        b"@\r\nx\r\n",
    ),
)


class OctetsTests(SynchronousTestCase):
    @given(st.lists(st.binary()))
    def test_joined(self, parts: list[bytes]) -> None:
        """All parts are there, in their order, whatever they hold."""
        self.assertEqual(joined(tuple(parts)), b"".join(parts))

    def test_nothing_else(self) -> None:
        """What is no bytes is not joined."""
        wrong: Any
        for wrong in ("a", 1, None):
            self.assertRaises(TypeError, joined, (b"a", wrong))

    @given(st.integers(-(2**63), 2**63 - 1))
    def test_decimal(self, number: int) -> None:
        """A number is written as Python writes it."""
        self.assertEqual(decimal(number), b"%d" % number)

    @given(st.binary(), st.integers(0, 255), st.integers(0, 255))
    def test_has_either(self, octets: bytes, one: int, other: int) -> None:
        """Either is looked for in all of it, behind a NUL as well."""
        self.assertEqual(has_either(octets, one, other), one in octets or other in octets)

    @given(
        st.binary(max_size=3),
        st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.sampled_from(EXTENSIONS), st.booleans())),
        st.sampled_from(TAILS),
    )
    def test_whole_chunks(self, before: bytes, chunks: list[tuple[bytes, bytes, bool]], tail: bytes) -> None:
        """What is in whole chunks is found, up to the first that is no such one."""
        data = before + b"".join(
            (b"%X%b\r\n%b\r\n" if upper else b"%x%b\r\n%b\r\n") % (len(content), extension, content)
            for content, extension, upper in chunks
        )
        pieces: list[bytes] = [b"there"]
        self.assertEqual(whole_chunks(data + tail, len(before), 256, pieces), len(data))
        self.assertEqual(pieces, [b"there", *(content for content, _, _ in chunks)])

    @given(st.binary(max_size=40) | st.text("0123456789abcdefABCDEF;= \t\r\n", max_size=40).map(str.encode))
    def test_any_chunks(self, data: bytes) -> None:
        """Of whatever else nothing is taken that is no chunk, and nothing behind the octets' end is looked at."""
        pieces: list[bytes] = []
        end = whole_chunks(data, 0, 256, pieces)
        found = re.fullmatch(
            rb"(?:[0-9A-Fa-f]{1,7}(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n.+?\r\n)*", data[:end], re.DOTALL
        )
        self.assertIsNotNone(found)
        self.assertLessEqual(sum(map(len, pieces)) + 5 * len(pieces), end)

    def test_long_size_line(self) -> None:
        """A chunk's first line may have so many octets, its end included, and no more."""
        for spare, taken in ((0, True), (1, False)):
            line = b"1;" + b"x" * (252 + spare) + b"\r\n"
            self.assertEqual(whole_chunks(line + b"y\r\n", 0, 256, []) > 0, taken)

    @given(st.integers(0, 2**24 - 1), st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**32 - 1))
    def test_frame_head(self, size: int, kind: int, flags: int, stream_id: int) -> None:
        """A frame's head has its numbers at their widths, the highest octet first."""
        parts = (size.to_bytes(3, "big"), bytes((kind, flags)), stream_id.to_bytes(4, "big"))
        self.assertEqual(frame_head(size, kind, flags, stream_id), b"".join(parts))
