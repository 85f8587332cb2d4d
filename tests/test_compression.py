"""Field sections as other implementations of HPACK read and write them; and those that are malformed."""

from __future__ import annotations

import hpack
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http2.compression import Decoder, Encoder, huffman_decoded

_quietly = settings(deadline=None, max_examples=150)

_names = st.sampled_from((b":path", b":status", b"accept", b"cache-control", b"x-a", b"x-b", b"set-cookie", b"x" * 40))
_values = st.one_of(
    st.sampled_from((b"", b"/", b"200", b"404", b"gzip, deflate", b"a" * 200, b"b" * 3000)), st.binary(max_size=40)
)
_sections = st.lists(st.tuples(_names, _values), max_size=12)
_table_sizes = st.sampled_from((0, 60, 200, 1000, 4096, 20000))
#: Sections, and between them sizes of the table.
_streams = st.lists(st.one_of(_sections, _sections, _sections, _table_sizes), max_size=20)
_octets = st.lists(
    st.one_of(
        st.integers(0, 255),
        st.sampled_from((0x00, 0x01, 0x02, 0x0F, 0x10, 0x20, 0x3F, 0x40, 0x41, 0x7F, 0x80, 0x82, 0x83, 0xBE, 0xFF)),
    ),
    max_size=24,
).map(bytes)


class CompressionTests(SynchronousTestCase):
    @_quietly
    @given(_streams)
    def test_sections_of_others(self, stream: list[list[tuple[bytes, bytes]] | int]) -> None:
        """What another implementation has compressed is read as it was meant, whatever the table's size."""
        encoder, decoder = hpack.Encoder(), Decoder(2**20, 20000)
        for item in stream:
            if isinstance(item, int):
                # hpack forgets to tell of a size that is set twice.
                if item != encoder.header_table_size:
                    encoder.header_table_size = item
            else:
                self.assertEqual(decoder.decode(encoder.encode(item)), item)
                self.assertEqual(decoder._used, encoder.header_table._current_size)

    @_quietly
    @given(_streams)
    def test_sections_for_others(self, stream: list[list[tuple[bytes, bytes]] | int]) -> None:
        """What is compressed here is read by another implementation as it was meant, whatever the table's size."""
        encoder, decoder = Encoder(), hpack.Decoder(2**20)
        decoder.max_allowed_table_size = 20000
        for item in stream:
            if isinstance(item, int):
                encoder.header_table_size = item
            else:
                section = encoder.encode(item)
                self.assertEqual([tuple(field) for field in decoder.decode(section, raw=True)], item)

    @_quietly
    @given(st.lists(_octets, max_size=4))
    def test_any_octets(self, sections: list[bytes]) -> None:
        """Octets of any kind are read as another implementation reads them, or refused as there."""
        ours, theirs = Decoder(500, 4096), hpack.Decoder(500)
        for section in sections:
            expected: list[tuple[bytes, bytes]] | None = None
            try:
                expected = [(bytes(name), bytes(value)) for name, value in theirs.decode(section, raw=True)]
            except hpack.HPACKError:
                self.assertRaises(hpack.HPACKError, ours.decode, section)
                return
            self.assertEqual(ours.decode(section), expected)

    @given(st.binary(max_size=60))
    def test_huffman(self, text: bytes) -> None:
        """Huffman-coded strings are read whole."""
        coded = hpack.Encoder().huffman_coder.encode(text)
        self.assertEqual(huffman_decoded(coded), text)

    def test_long_huffman(self) -> None:
        """So are long ones: of symbols with the shortest codes, and with the longest; or they are refused."""
        for text in (b"a" * 4000, bytes(range(256)) * 8):
            coded = hpack.Encoder().huffman_coder.encode(text)
            self.assertEqual(huffman_decoded(coded), text)
            for malformed in (coded + b"\x00", coded + b"\xff\xff", b"\xff\xff\xff\xff" + coded):
                self.assertRaises(hpack.HPACKDecodingError, huffman_decoded, malformed)

    def test_malformed_huffman(self) -> None:
        """A coded string that is padded with zeros, with too many ones, or that ends within, is refused."""
        for coded in (b"\x00", b"\xff", b"\x1f\xff", b"\xff\xff\xff\xfc", b"\xff\xff\xff\xff"):
            self.assertRaises(hpack.HPACKDecodingError, huffman_decoded, coded)

    def test_list_too_long(self) -> None:
        """A section whose fields are longer than is allowed is refused, to the octet."""
        section = b"\x00\x01a\x01b" * 2
        self.assertEqual(len(Decoder(68, 4096).decode(section)), 2)
        self.assertRaises(hpack.OversizedHeaderListError, Decoder(67, 4096).decode, section)

    def test_endless_integer(self) -> None:
        """A number that goes on and on is not calculated."""
        for first in (0xFF, 0x7F, 0x3F, 0x0F):
            self.assertRaises(hpack.HPACKDecodingError, Decoder(500, 4096).decode, bytes((first,)) + b"\xff" * 1000)

    def test_table_that_does_not_shrink(self) -> None:
        """A peer whose table must become smaller has to say that it did."""
        decoder = Decoder(500, 0)
        self.assertRaises(hpack.InvalidTableSizeError, decoder.decode, b"\x82")
        self.assertEqual(Decoder(500, 0).decode(b"\x20\x82"), [(b":method", b"GET")])
        self.assertRaises(hpack.InvalidTableSizeError, Decoder(500, 4096).decode, b"\x3f\xe2\x1f")

    def test_what_comes_again(self) -> None:
        """A field that was sent before takes one octet, but for those that are not to be kept."""
        encoder = Encoder()
        fields = [(b"x-a", b"some value"), (b"server", b"some name")]
        self.assertGreater(len(encoder.encode(fields)), 20)
        self.assertEqual(len(encoder.encode(fields)), 2)
        secret = [(b"set-cookie", b"session=1234567890")]
        self.assertEqual(len(encoder.encode(secret)), len(encoder.encode(secret)))
