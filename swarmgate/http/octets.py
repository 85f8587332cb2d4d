"""Octets put together and looked at.

This is what ``octets.pyx`` does in C's terms where it can be compiled; it is used where that can't be.
"""

from __future__ import annotations


def joined(parts: tuple[bytes, ...]) -> bytes:
    """All *parts*, one after the other."""
    return b"".join(parts)


def decimal(number: int) -> bytes:
    """*number* as it is written."""
    return b"%d" % number


def has_either(octets: bytes, one: int, other: int) -> bool:
    """Whether the octet *one* or *other* is among *octets*."""
    return one in octets or other in octets
