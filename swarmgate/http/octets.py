"""Octets put together and looked at.

This is what ``octets.pyx`` does in C's terms where it can be compiled; it is used where that can't be.
"""

from __future__ import annotations

import re

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,7}+)(?:[ \t]*+;[\t\x20-\x7e\x80-\xff]*+)?+\r\n")


def joined(parts: tuple[bytes, ...]) -> bytes:
    """All *parts*, one after the other."""
    return b"".join(parts)


def decimal(number: int) -> bytes:
    """*number* as it is written."""
    return b"%d" % number


def has_either(octets: bytes, one: int, other: int) -> bool:
    """Whether the octet *one* or *other* is among *octets*."""
    return one in octets or other in octets


def whole_chunks(data: bytes, at: int, longest: int, pieces: list[bytes]) -> int:
    """Append what is in the chunks from *at* on to *pieces*, as long as each is whole, well formed and not the last.

    :param longest: how many octets a chunk's first line may have.
    :returns: where the first one begins that is none of these.
    """
    while found := _SIZE_LINE.match(data, at, at + longest):
        begin = found.end()
        end = begin + int(found[1], 16)
        if begin == end or data[end : end + 2] != b"\r\n":
            break
        pieces.append(data[begin:end])
        at = end + 2
    return at
