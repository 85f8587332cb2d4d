"""What proxies say of a connection's client is read as it is meant, whatever it is."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.transport.proxy_protocol import (
    LONGEST_HEADER,
    LONGEST_LINE,
    MalformedHeader,
    ProxyHeader,
    read_proxy_header,
)

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def binary(command: int, family: int, rest: bytes = b"") -> bytes:
    """A header of version 2."""
    return SIGNATURE + bytes((command, family)) + len(rest).to_bytes(2, "big") + rest


def proxied(host: str, port: int, more: bytes = b"") -> bytes:
    """A header of version 2 that names a client."""
    address = ipaddress.ip_address(host)
    ports = port.to_bytes(2, "big") + b"\x01\xbb"
    return binary(0x21, 0x11 if address.version == 4 else 0x21, 2 * address.packed + ports + more)


LINE = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"
LINE6 = b"PROXY TCP6 2001:db8::1 2001:DB8::2 4124 443\r\n"
#: What each is read as.
HEADERS = {
    LINE: ("192.0.2.1", 56324),
    LINE6: ("2001:db8::1", 4124),
    b"PROXY TCP6 2001:0DB8:0:0:0:0:0:1 ::1 0 65535\r\n": ("2001:db8::1", 0),
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n": None,
    proxied("192.0.2.1", 56324): ("192.0.2.1", 56324),
    proxied("2001:db8::1", 65535): ("2001:db8::1", 65535),
    proxied("192.0.2.1", 1, b"\x03\x00\x04abcd" + b"\x20\x00\x05" + bytes(5)): ("192.0.2.1", 1),
    proxied("192.0.2.1", 1, bytes(LONGEST_HEADER - 28)): ("192.0.2.1", 1),
    binary(0x20, 0x00): None,
    binary(0x20, 0x11, b"\xc0\x00\x02\x01" * 3): None,
    binary(0x20, 0xFF, b"abc"): None,
    binary(0x21, 0x00, b"abc"): None,
    binary(0x21, 0x12, bytes(12)): None,
    binary(0x21, 0x31, bytes(216)): None,
}
#: Why each is no header.
MALFORMED = {
    b"PROXY  TCP4 192.0.2.1 198.51.100.1 1 2\r\n": "neither TCP4, TCP6 nor UNKNOWN",
    b"PROXY / HTTP/1.1\r\n": "neither TCP4, TCP6 nor UNKNOWN",
    b"PROXY UNKNOWNS\r\n": "neither TCP4, TCP6 nor UNKNOWN",
    b"PROXY tcp4 192.0.2.1 198.51.100.1 1 2\r\n": "neither TCP4, TCP6 nor UNKNOWN",
    b"PROXY TCP4\r\n": "not two addresses and two ports",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 \r\n": "not two addresses and two ports",
    b"PROXY TCP4 192.0.2.1 198.51.100.1  1 2\r\n": "not two addresses and two ports",
    b"PROXY TCP4 192.0.2.01 198.51.100.1 1 2\r\n": "not an address of its family",
    b"PROXY TCP4 192.0.2 198.51.100.1 1 2\r\n": "not an address of its family",
    b"PROXY TCP4 192.0.2.1 2001:db8::1 1 2\r\n": "not an address of its family",
    b"PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n": "not an address of its family",
    b"PROXY TCP6 2001:db8::1%eth0 ::1 1 2\r\n": "not an address of its family",
    b"PROXY TCP4 192.0.2.\xb9 198.51.100.1 1 2\r\n": "not an address of its family",
    b"PROXY TCP4 192.0.2.1\x00 198.51.100.1 1 2\r\n": "not an address of its family",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 2\r\n": "not a port",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 1 02\r\n": "not a port",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 -1 2\r\n": "not a port",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\nGET\r\n": "not a port",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\r\n": "not a port",
    b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n": "no end of the line in 107 octets",
    binary(0x11, 0x11, bytes(12)): "neither LOCAL nor PROXY of version 2",
    binary(0x22, 0x11, bytes(12)): "neither LOCAL nor PROXY of version 2",
    binary(0x21, 0x41, bytes(12)): "no family or transport that there is",
    binary(0x21, 0x13, bytes(12)): "no family or transport that there is",
    binary(0x21, 0x11, bytes(11)): "too short for its addresses",
    binary(0x21, 0x21, bytes(35)): "too short for its addresses",
    binary(0x21, 0x11, bytes(LONGEST_HEADER - 15)): "longer than 4096 octets",
    binary(0x20, 0x00, bytes(0xFFFF)): "longer than 4096 octets",
}


class HeaderTests(SynchronousTestCase):
    def test_what_is_said(self) -> None:
        """Client and port are those that the proxy names, or nobody's; what follows the header is not looked at."""
        for data, source in HEADERS.items():
            for rest in (b"", GET, data):
                self.assertEqual(read_proxy_header(data + rest), ProxyHeader(len(data), source), data)
        self.assertEqual(len(b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n"), LONGEST_LINE)

    def test_in_pieces(self) -> None:
        """Of any beginning of it, it is known that more has to come."""
        for data in HEADERS:
            for size in range(len(data)):
                self.assertIsNone(read_proxy_header(data[:size]), data[:size])

    def test_malformed(self) -> None:
        """What begins as a header and is none is refused, and it is told why."""
        for data, why in MALFORMED.items():
            error = self.assertRaises(MalformedHeader, read_proxy_header, data)
            self.assertEqual(str(error), why, data)

    def test_no_header(self) -> None:
        """Whatever else a connection begins with is none, as soon as that is certain."""
        for data in (
            b"G",
            b"PO",
            b"PRI",
            b"PROXY\r\n",
            b"\r\nGET",
            b"\n",
            b"\x16\x03\x01",
            SIGNATURE[:-1] + b"\r",
            GET,
        ):
            self.assertEqual(read_proxy_header(data), ProxyHeader(), data)

    @given(st.ip_addresses(), st.integers(0, 65535), st.binary(max_size=40))
    def test_any_client(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, rest: bytes) -> None:
        """Both versions say the same of any client, in any spelling of its address."""
        line = f"PROXY TCP{address.version} {address.exploded} {address} {port} 443\r\n".encode()
        for header in (line, line.upper(), proxied(str(address), port, rest)):
            found = read_proxy_header(header + GET)
            assert found is not None and found.source is not None
            self.assertEqual(found.size, len(header))
            self.assertEqual((ipaddress.ip_address(found.source[0]), found.source[1]), (address, port))

    @given(st.sampled_from(sorted(HEADERS)), st.data(), st.binary(min_size=1, max_size=4))
    def test_damaged(self, header: bytes, data: st.DataObject, damage: bytes) -> None:
        """A damaged header is read, waited for or refused, and nothing else; it is never longer than it may be."""
        place = data.draw(st.integers(0, len(header) - 1))
        damaged = header[:place] + damage + header[place + len(damage) :] + bytes(LONGEST_HEADER)
        try:
            found = read_proxy_header(damaged)
        except MalformedHeader:
            return
        assert found is not None
        self.assertLessEqual(found.size, LONGEST_HEADER)
