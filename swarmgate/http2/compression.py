"""Compression of field sections (HPACK, RFC 7541), with as little work as Python allows.

The h2 library comes with one of its own, hpack, whose tables are used here. It takes a third of the time of a request,
and so does whoever attacks with long Huffman-coded fields. Here a field that is in a table costs one look-up, and
Huffman coding is decoded octet by octet. Of what is sent, nothing is Huffman-coded: fields that come again are in the
table, for the others it costs more than it saves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from hpack import HPACKDecodingError, InvalidTableSizeError, OversizedHeaderListError
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

Field = tuple[bytes, bytes]

#: By index, of which 0 stands for none (RFC 7541, Appendix A).
_STATIC: list[Field] = [(b"", b""), *((bytes(name), bytes(value)) for name, value in HeaderTable.STATIC_TABLE)]
_FIRST_DYNAMIC = len(_STATIC)
_FIELDS = {field: index for index, field in reversed(list(enumerate(_STATIC))) if index}
_NAMES = {name: index for index, (name, _) in reversed(list(enumerate(_STATIC))) if index}
#: What an entry counts for beside its octets (RFC 7541, 4.1), and a field in SETTINGS_MAX_HEADER_LIST_SIZE.
_OVERHEAD = 32
#: Fields whose values seldom come twice, or are nobody else's business: they are not put into the table.
_NOT_KEPT = frozenset((b":path", b"age", b"authorization", b"etag", b"location", b"set-cookie"))
#: Octets of an integer beyond its first, so that nobody makes the gate calculate (RFC 7541, 5.1).
_LONGEST_INTEGER = 4


class _Row(dict[int, "tuple[_Row, bytes]"]):
    """The Huffman decoder's state after so many bits of a code: to each octet, the next state and what was complete.

    A step is worked out when it is first taken. There are no more than 256 of each of 256 states.
    """

    __slots__ = ("bits", "length")

    def __init__(self, bits: int, length: int) -> None:
        self.bits = bits
        self.length = length

    def __missing__(self, octet: int) -> tuple[_Row, bytes]:
        bits, length = self.bits, self.length
        out = b""
        for place in range(7, -1, -1):
            bits = bits << 1 | octet >> place & 1
            length += 1
            symbol = _SYMBOLS.get((length, bits))
            if symbol is not None:
                if symbol > 255:
                    raise HPACKDecodingError("the end of a Huffman-coded string in its middle")
                out += bytes((symbol,))
                bits = length = 0
        row = _ROWS.get((length, bits))
        if row is None:
            row = _ROWS[(length, bits)] = _Row(bits, length)
        step = self[octet] = row, out
        return step


_SYMBOLS = {
    (length, bits): symbol
    for symbol, (bits, length) in enumerate(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True))
}
_START = _Row(0, 0)
_ROWS = {(0, 0): _START}


def huffman_decoded(data: bytes) -> bytes:
    """What the Huffman-coded *data* stands for (RFC 7541, 5.2).

    :raises HPACKDecodingError: it is not coded so, or is padded with other than the fewest ones.
    """
    row = _START
    pieces = []
    for octet in data:
        row, out = row[octet]
        pieces.append(out)
    if row.length > 7 or row.bits != (1 << row.length) - 1:
        raise HPACKDecodingError("Huffman-coded string without its end")
    return b"".join(pieces)


def _integer(data: bytes, at: int, prefix: int) -> tuple[int, int]:
    """The integer that goes on at *at* after a *prefix* of ones, and where it ends."""
    value = prefix
    for shift in range(0, 7 * _LONGEST_INTEGER, 7):
        octet = data[at]
        at += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
    raise HPACKDecodingError("integer too long")


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    """The string at *at*, and where it ends."""
    octet = data[at]
    length = octet & 0x7F
    at += 1
    if length == 0x7F:
        length, at = _integer(data, at, length)
    end = at + length
    if end > len(data):
        raise HPACKDecodingError("string without its end")
    value = data[at:end]
    return (huffman_decoded(value) if octet >= 0x80 else value), end


class Decoder:
    """Reads the field sections of one peer, in the order in which they come. Takes the place of hpack's in h2.

    :ivar max_header_list_size: octets of a section's fields, 32 more for each; a longer one is not read to its end.
    :ivar max_allowed_table_size: octets that the peer's table may have.
    """

    def __init__(self, list_at_most: int, table_at_most: int) -> None:
        self.max_header_list_size = list_at_most
        self.max_allowed_table_size = table_at_most
        #: Octets that the table may have by the peer's last word; and those that it has.
        self._at_most = 4096
        self._used = 0
        #: The static entries, and behind them the dynamic, the newest first.
        self._table = list(_STATIC)

    def decode(self, data: bytes, raw: bool = True) -> list[Field]:
        """The fields of the section *data*, names and values as octets.

        :raises OversizedHeaderListError: there are too many, or they are too long.
        :raises HPACKDecodingError: it is malformed. In both cases nothing more can be read.
        """
        table = self._table
        fields: list[Field] = []
        left = self.max_header_list_size
        at, size = 0, len(data)
        try:
            while at < size:
                octet = data[at]
                at += 1
                if octet >= 0x80:
                    index = octet & 0x7F
                    if index == 0x7F:
                        index, at = _integer(data, at, index)
                    if not index:
                        raise HPACKDecodingError("index 0")
                    field = table[index]
                elif octet & 0xE0 == 0x20:
                    if fields:
                        raise HPACKDecodingError("change of the table's size after a field")
                    index = octet & 0x1F
                    if index == 0x1F:
                        index, at = _integer(data, at, index)
                    self._resize(index)
                    continue
                else:
                    prefix = 0x3F if octet >= 0x40 else 0x0F
                    index = octet & prefix
                    if index == prefix:
                        index, at = _integer(data, at, index)
                    if index:
                        name = table[index][0]
                    else:
                        name, at = _string(data, at)
                    value, at = _string(data, at)
                    field = (name, value)
                    if octet >= 0x40:
                        self._add(field)
                left -= len(field[0]) + len(field[1]) + _OVERHEAD
                if left < 0:
                    raise OversizedHeaderListError(f"more than {self.max_header_list_size} octets of fields")
                fields.append(field)
        except IndexError:
            raise HPACKDecodingError("field section without its end, or no such entry") from None
        if self._at_most > self.max_allowed_table_size:
            raise InvalidTableSizeError("the table is larger than is allowed")
        return fields

    def _resize(self, at_most: int) -> None:
        if at_most > self.max_allowed_table_size:
            raise InvalidTableSizeError("a table larger than is allowed")
        self._at_most = at_most
        self._shrink(at_most)

    def _add(self, field: Field) -> None:
        size = len(field[0]) + len(field[1]) + _OVERHEAD
        self._shrink(self._at_most - size)
        if size <= self._at_most:
            self._table.insert(_FIRST_DYNAMIC, field)
            self._used += size

    def _shrink(self, at_most: int) -> None:
        table = self._table
        while self._used > at_most and len(table) > _FIRST_DYNAMIC:
            name, value = table.pop()
            self._used -= len(name) + len(value) + _OVERHEAD


def _put_integer(out: bytearray, first: int, prefix: int, value: int) -> None:
    """Add *value* to *out*, behind the bits *first* of an octet, in its last, of which *prefix* has ones."""
    if value < prefix:
        out.append(first | value)
        return
    out.append(first | prefix)
    value -= prefix
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


class Encoder:
    """Writes field sections for one peer. Takes the place of hpack's in h2."""

    def __init__(self) -> None:
        self._at_most = 4096
        self._used = 0
        #: The smallest size that the table was to have since the last section; -1 if it was not changed.
        self._smallest = -1
        #: The entries, the oldest first; how many there ever were; and by field and by name the number of the last.
        self._entries: deque[Field] = deque()
        self._made = 0
        self._fields: dict[Field, int] = {}
        self._names: dict[bytes, int] = {}

    @property
    def header_table_size(self) -> int:
        """Octets that the table may have. What is set is told to the peer with the next section (RFC 7541, 4.2)."""
        return self._at_most

    @header_table_size.setter
    def header_table_size(self, at_most: int) -> None:
        if at_most == self._at_most:
            return
        self._smallest = at_most if self._smallest < 0 else min(self._smallest, at_most)
        self._at_most = at_most
        self._shrink(at_most)

    def encode(self, fields: Iterable[Field]) -> bytes:
        """The field section of *fields*, their names in lower case."""
        out = bytearray()
        if self._smallest >= 0:
            if self._smallest < self._at_most:
                _put_integer(out, 0x20, 0x1F, self._smallest)
            _put_integer(out, 0x20, 0x1F, self._at_most)
            self._smallest = -1
        for field in fields:
            index = _FIELDS.get(field)
            if index is None:
                number = self._fields.get(field)
                if number is None:
                    self._put_literal(out, field)
                    continue
                index = _FIRST_DYNAMIC + self._made - number
            if index < 0x7F:
                out.append(0x80 | index)
            else:
                _put_integer(out, 0x80, 0x7F, index)
        return bytes(out)

    def _put_literal(self, out: bytearray, field: Field) -> None:
        name, value = field
        index = _NAMES.get(name, 0)
        if not index:
            number = self._names.get(name)
            if number is not None:
                index = _FIRST_DYNAMIC + self._made - number
        size = len(name) + len(value) + _OVERHEAD
        # What would drive out most of the others is not worth it.
        if name in _NOT_KEPT or size > self._at_most // 2:
            _put_integer(out, 0x00, 0x0F, index)
        else:
            _put_integer(out, 0x40, 0x3F, index)
            self._shrink(self._at_most - size)
            self._used += size
            self._made += 1
            entry = (name, value)
            self._entries.append(entry)
            self._fields[entry] = self._names[name] = self._made
        if not index:
            _put_integer(out, 0x00, 0x7F, len(name))
            out += name
        _put_integer(out, 0x00, 0x7F, len(value))
        out += value

    def _shrink(self, at_most: int) -> None:
        entries = self._entries
        while self._used > at_most and entries:
            number = self._made - len(entries) + 1
            field = entries.popleft()
            self._used -= len(field[0]) + len(field[1]) + _OVERHEAD
            if self._fields[field] == number:
                del self._fields[field]
            if self._names[field[0]] == number:
                del self._names[field[0]]
