"""Octets put together, compiled or not."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.octets import decimal, has_either, joined
from swarmgate.http2.octets import frame_head


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

    @given(st.integers(0, 2**24 - 1), st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**32 - 1))
    def test_frame_head(self, size: int, kind: int, flags: int, stream_id: int) -> None:
        """A frame's head has its numbers at their widths, the highest octet first."""
        parts = (size.to_bytes(3, "big"), bytes((kind, flags)), stream_id.to_bytes(4, "big"))
        self.assertEqual(frame_head(size, kind, flags, stream_id), b"".join(parts))
