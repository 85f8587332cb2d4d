"""Bodies of HTTP/1.1 messages: found in the stream, checked, and framed anew.

A reader is fed what arrives and gives back the body's octets; ``done`` tells that the body has ended, and ``rest``
what arrived after its end. Chunks are read strictly (RFC 9112, 7.1): a line ends with CR LF and nothing else, since
whoever takes less for a line end sees other messages than the gate.
"""

from __future__ import annotations

import re
from typing import Protocol

from swarmgate.http.errors import MessageError
from swarmgate.http.fields import may_trail, split_fields
from swarmgate.http.message import Fields
from swarmgate.http.octets import whole_chunks

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15}+)(?:[ \t]*+;[\t\x20-\x7e\x80-\xff]*+)?+\r\n")
#: What a chunk's first line can look like as long as it is not complete.
_SIZE_START = re.compile(rb"[0-9A-Fa-f]{0,15}+(?:[ \t]*+(?:;[\t\x20-\x7e\x80-\xff]*+)?+)\r?")
_HOPELESS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r[^\n]")
#: Octets of a chunk's first line, extensions included.
LONGEST_SIZE_LINE = 256
#: Octets of all trailer fields together.
LONGEST_TRAILERS = 8192

LAST_CHUNK = b"0\r\n\r\n"


class BodyReader(Protocol):
    """Finds a body's end in what arrives."""

    done: bool
    rest: bytes
    trailers: Fields

    def feed(self, data: bytes) -> bytes:
        """The body's octets in *data*.

        :raises MessageError: the body is framed wrongly.
        """


class SizedBody:
    """A body of a length that its head told."""

    __slots__ = ("done", "remaining", "rest", "trailers")

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.done = length == 0
        self.rest = b""
        self.trailers: Fields = []

    def feed(self, data: bytes) -> bytes:
        size = len(data)
        if size < self.remaining:
            self.remaining -= size
            return data
        self.done = True
        if size > self.remaining:
            self.rest = data[self.remaining :]
            data = data[: self.remaining]
        self.remaining = 0
        return data


class OpenBody:
    """A body that ends with its connection."""

    __slots__ = ("done", "rest", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.trailers: Fields = []

    def feed(self, data: bytes) -> bytes:
        return data


class ChunkedBody:
    """A body that comes in chunks."""

    __slots__ = ("_held", "_remaining", "_trailing", "done", "rest", "trailers")

    def __init__(self) -> None:
        self._held = b""
        #: Octets of the chunk that are still to come, its line end included; 0 between chunks.
        self._remaining = 0
        self._trailing = False
        self.done = False
        self.rest = b""
        self.trailers: Fields = []

    def feed(self, data: bytes) -> bytes:
        seen = len(self._held)
        if seen:
            data = self._held + data
            self._held = b""
        size = len(data)
        at = 0
        pieces: list[bytes] = []
        while at < size and not self.done:
            if self._trailing:
                at = self._read_trailers(data, at, seen)
            elif self._remaining > 2:
                piece = data[at : at + self._remaining - 2]
                pieces.append(piece)
                at += len(piece)
                self._remaining -= len(piece)
            elif self._remaining:
                ending = data[at : at + self._remaining]
                if not b"\r\n"[2 - self._remaining :].startswith(ending):
                    raise MessageError("chunk does not end where its size says")
                at += len(ending)
                self._remaining -= len(ending)
            else:
                # Somebody may send millions of chunks of an octet each.
                whole = whole_chunks(data, at, LONGEST_SIZE_LINE, pieces)
                at = whole if whole > at else self._read_size(data, at)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_size(self, data: bytes, at: int) -> int:
        found = _SIZE_LINE.match(data, at, at + LONGEST_SIZE_LINE)
        if found is None:
            start = data[at : at + LONGEST_SIZE_LINE]
            if len(start) == LONGEST_SIZE_LINE:
                raise MessageError("chunk size line too long")
            if _SIZE_START.fullmatch(start) is None:
                raise MessageError("malformed chunk size")
            self._held = start
            return len(data)
        chunk = int(found[1], 16)
        if chunk:
            self._remaining = chunk + 2
        else:
            self._trailing = True
        return found.end()

    def _read_trailers(self, data: bytes, at: int, seen: int) -> int:
        if data.startswith(b"\r\n", at):
            end = at + 2
        else:
            found = data.find(b"\r\n\r\n", at, at + LONGEST_TRAILERS)
            if found < 0:
                if len(data) - at >= LONGEST_TRAILERS:
                    raise MessageError("trailers too long")
                if _HOPELESS.search(data, max(at, seen - 1)):
                    raise MessageError("malformed trailers")
                self._held = data[at:]
                return len(data)
            end = found + 4
            try:
                fields = split_fields(data[at:end])
            except ValueError:
                raise MessageError("malformed trailers") from None
            self.trailers = [pair for pair in fields if may_trail(pair[0])]
        self.done = True
        self.rest = data[end:]
        return end


def chunk(data: bytes) -> bytes:
    """*data* as one chunk; it must not be empty, for an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Fields) -> bytes:
    """The end of a chunked body."""
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n" + b"".join(b"%b: %b\r\n" % pair for pair in trailers) + b"\r\n"
