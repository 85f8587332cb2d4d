"""Compression of field sections (HPACK, RFC 7541), with as little work as possible.

The tables are those of the hpack library. Here a field that is in a table costs one look-up, and Huffman coding is
decoded by four bits at a time, so that long fields of it are no attack. Of what is sent, nothing is Huffman-coded:
fields that come again are in the table, for the others it costs more than it saves.
"""

from __future__ import annotations

from collections import deque

from hpack import HPACKDecodingError, InvalidTableSizeError, OversizedHeaderListError
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from swarmgate.http2.octets import symbols

Field = tuple[bytes, bytes]

#: By index, of which 0 stands for none (RFC 7541, Appendix A).
_STATIC: list[Field] = [(b"", b""), *((bytes(name), bytes(value)) for name, value in HeaderTable.STATIC_TABLE)]
_FIRST_DYNAMIC = len(_STATIC)
_FIELDS = {field: index for index, field in reversed(list(enumerate(_STATIC))) if index}
_NAMES = {name: index for index, (name, _) in reversed(list(enumerate(_STATIC))) if index}
#: What an entry counts for beside its octets (RFC 7541, 4.1), and a field in SETTINGS_MAX_HEADER_LIST_SIZE.
_OVERHEAD = 32
#: Fields whose values seldom come twice, or are nobody else's business: they are not put into the table.
_NOT_KEPT = frozenset(
    (
        b":path",
        b"age",
        b"authorization",
        b"content-length",
        b"etag",
        b"if-modified-since",
        b"if-none-match",
        b"location",
        b"set-cookie",
    )
)
#: Octets of an integer beyond its first, so that nobody makes the gate calculate (RFC 7541, 5.1).
_LONGEST_INTEGER = 4


#: What four bits of Huffman code may complete, beside nothing: a symbol, or what no string has.
_SYMBOL, _NO_CODE = 1, 2


def _huffman_states() -> tuple[bytes, bytes, bytes, bytes]:
    """How Huffman code is read by four bits at a time.

    A state is how much of a symbol's code was read; there are as many as symbols, 256. By state and four bits: the next
    state, whether something was complete, and which symbol. By state: whether a string may end in it.
    """
    codes = {
        (length, bits): symbol
        for symbol, (bits, length) in enumerate(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True))
    }
    starts = sorted({(short, bits >> length - short) for length, bits in codes for short in range(length)})
    numbers = {start: number for number, start in enumerate(starts)}
    following, kinds, complete = bytearray(), bytearray(), bytearray()
    for start in starts:
        for four in range(16):
            length, bits = start
            kind = out = 0
            for place in (3, 2, 1, 0):
                length, bits = length + 1, bits << 1 | four >> place & 1
                symbol = codes.get((length, bits))
                if symbol is not None:
                    # The sign for a string's end is in none. No code has less than five bits, so that this comes once.
                    kind, out = (_SYMBOL, symbol) if symbol < 256 else (_NO_CODE, 0)
                    length = bits = 0
            following.append(numbers[(length, bits)])
            kinds.append(kind)
            complete.append(out)
    may_end = bytes(length < 8 and bits == (1 << length) - 1 for length, bits in starts)
    return bytes(following), bytes(kinds), bytes(complete), may_end


_NEXT, _KINDS, _COMPLETE, _MAY_END = _huffman_states()


def huffman_decoded(data: bytes) -> bytes:
    """What the Huffman-coded *data* stands for (RFC 7541, 5.2).

    :raises HPACKDecodingError: it is not coded so, or is padded with other than the fewest ones.
    """
    decoded = symbols(data, _NEXT, _KINDS, _COMPLETE, _MAY_END)
    if decoded is None:
        raise HPACKDecodingError("Huffman-coded string with its end in the middle, or without it")
    return decoded


class Decoder:
    """Reads the field sections of one peer, in the order in which they come.

    :ivar max_header_list_size: octets of a section's fields, 32 more for each; a longer one is not read to its end.
    :ivar max_allowed_table_size: octets that the peer's table may have.
    """

    __slots__ = ("_at", "_at_most", "_table", "_used", "max_allowed_table_size", "max_header_list_size")

    def __init__(self, list_at_most: int, table_at_most: int) -> None:
        self.max_header_list_size = list_at_most
        self.max_allowed_table_size = table_at_most
        #: Octets that the table may have by the peer's last word; and those that it has.
        self._at_most = 4096
        self._used = 0
        #: Where the section is being read.
        self._at = 0
        #: The static entries, and behind them the dynamic, the newest first.
        self._table = list(_STATIC)

    def decode(self, data: bytes, at: int = 0, end: int = -1) -> list[Field]:
        """The fields of the section ``data[at:end]``, names and values as octets.

        :param end: where the section ends, -1 for where *data* does.
        :raises OversizedHeaderListError: there are too many, or they are too long.
        :raises HPACKDecodingError: it is malformed. In both cases nothing more can be read.
        """
        table = self._table
        fields: list[Field] = []
        left = self.max_header_list_size
        if end < 0:
            end = len(data)
        self._at = at
        while self._at < end:
            octet = data[self._at]
            self._at += 1
            if octet >= 0x80:
                index = self._integer(data, end, octet & 0x7F, 0x7F)
                if not 0 < index < len(table):
                    raise HPACKDecodingError("no such entry")
                field = table[index]
            elif octet & 0xE0 == 0x20:
                if fields:
                    raise HPACKDecodingError("change of the table's size after a field")
                self._resize(self._integer(data, end, octet & 0x1F, 0x1F))
                continue
            else:
                prefix = 0x3F if octet >= 0x40 else 0x0F
                index = self._integer(data, end, octet & prefix, prefix)
                if index >= len(table):
                    raise HPACKDecodingError("no such entry")
                name = table[index][0] if index else self._string(data, end)
                field = (name, self._string(data, end))
                if octet >= 0x40:
                    self._add(field)
            left -= len(field[0]) + len(field[1]) + _OVERHEAD
            if left < 0:
                raise OversizedHeaderListError(f"more than {self.max_header_list_size} octets of fields")
            fields.append(field)
        if self._at_most > self.max_allowed_table_size:
            raise InvalidTableSizeError("the table is larger than is allowed")
        return fields

    def _integer(self, data: bytes, end: int, value: int, prefix: int) -> int:
        """The integer that begins with *value*, and goes on if that is the most that its *prefix* can say."""
        if value < prefix:
            return value
        for shift in range(0, 7 * _LONGEST_INTEGER, 7):
            if self._at >= end:
                raise HPACKDecodingError("integer without its end")
            octet = data[self._at]
            self._at += 1
            value += (octet & 0x7F) << shift
            if octet < 0x80:
                return value
        raise HPACKDecodingError("integer too long")

    def _string(self, data: bytes, end: int) -> bytes:
        """The string that is next."""
        if self._at >= end:
            raise HPACKDecodingError("field without its end")
        octet = data[self._at]
        self._at += 1
        length = self._integer(data, end, octet & 0x7F, 0x7F)
        begin = self._at
        if length > end - begin:
            raise HPACKDecodingError("string without its end")
        self._at = begin + length
        value = data[begin : begin + length]
        return huffman_decoded(value) if octet >= 0x80 else value

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
    """Writes field sections for one peer.

    :ivar changes: how often the table has changed: as long as it hasn't, the same fields make the same section.
    """

    __slots__ = ("_at_most", "_entries", "_fields", "_made", "_names", "_smallest", "_used", "changes")

    def __init__(self) -> None:
        self.changes = 0
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
        self.changes += 1
        self._shrink(at_most)

    def encode(self, fields: list[Field]) -> bytes:
        """The field section of *fields*, their names in lower case."""
        out = bytearray()
        if self._smallest >= 0:
            if self._smallest < self._at_most:
                _put_integer(out, 0x20, 0x1F, self._smallest)
            _put_integer(out, 0x20, 0x1F, self._at_most)
            self._smallest = -1
            self.changes += 1
        for field in fields:
            number = _FIELDS.get(field)
            if number is None:
                number = self._fields.get(field)
                if number is None:
                    self._put_literal(out, field)
                    continue
                number = _FIRST_DYNAMIC + self._made - number
            _put_integer(out, 0x80, 0x7F, number)
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
            self.changes += 1
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
