"""Octets of frames, and of strings in them.

This is what ``octets.pyx`` does in C's terms where it can be compiled; it is used where that can't be.
"""

from __future__ import annotations

from struct import Struct

#: Three octets of length with the one of the type, the flags, the stream.
_pack_head = Struct(">IBI").pack


def frame_head(size: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The first nine octets of a frame with *size* octets of payload (RFC 9113, 4.1)."""
    return _pack_head(size << 8 | kind, flags, stream_id)


def symbols(code: bytes, following: bytes, kinds: bytes, complete: bytes, may_end: bytes) -> bytes | None:
    """The symbols whose codes, of five bits at least, are in *code*, read by four bits at a time.

    :param following: the next state by a state, of which there are 256, and four bits.
    :param kinds: by the same, 1 where a symbol is complete, 2 where there is no such code.
    :param complete: by the same, the symbol.
    :param may_end: by a state, 1 where *code* may end in it.
    :returns: None if something else is in *code*.
    """
    out = bytearray()
    state = 0
    for octet in code:
        for four in (octet >> 4, octet & 0x0F):
            step = state << 4 | four
            kind = kinds[step]
            if kind == 1:
                out.append(complete[step])
            elif kind == 2:
                return None
            state = following[step]
    return bytes(out) if may_end[state] else None
