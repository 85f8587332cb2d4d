"""Octets of frames.

This is what ``octets.pyx`` does in C's terms where it can be compiled; it is used where that can't be.
"""

from __future__ import annotations

from struct import Struct

#: Three octets of length with the one of the type, the flags, the stream.
_pack_head = Struct(">IBI").pack


def frame_head(size: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The first nine octets of a frame with *size* octets of payload (RFC 9113, 4.1)."""
    return _pack_head(size << 8 | kind, flags, stream_id)
