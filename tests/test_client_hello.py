"""What a TLS client asks for is read from its first octets, whatever they are."""

from __future__ import annotations

import itertools
import ssl

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.transport.client_hello import ClientHello, NotTLS, read_client_hello


def hello(name: str | None = "a.example", protocols: tuple[str, ...] = ("h2", "http/1.1")) -> bytes:
    """The first octets of OpenSSL's client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols([*protocols])
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake with nobody")


HELLO = hello()


class HelloTests(SynchronousTestCase):
    def test_what_is_asked_for(self) -> None:
        """Name and protocols are those that the client has sent."""
        self.assertEqual(read_client_hello(HELLO), ClientHello("a.example", (b"h2", b"http/1.1")))
        self.assertEqual(read_client_hello(hello("A.Example.")), ClientHello("a.example", (b"h2", b"http/1.1")))
        self.assertEqual(read_client_hello(hello(None, ())), ClientHello())

    def test_more_after_it(self) -> None:
        """What follows the hello is none of its business."""
        self.assertEqual(read_client_hello(HELLO + b"\x17\x03\x03\x00\x01x"), read_client_hello(HELLO))

    def test_incomplete(self) -> None:
        """Of any beginning of it, it is known that more has to come."""
        for size in range(len(HELLO)):
            self.assertIsNone(read_client_hello(HELLO[:size]), size)

    @given(st.lists(st.integers(1, len(HELLO) - 6), max_size=4))
    def test_in_several_records(self, cuts: list[int]) -> None:
        """A hello may be spread over records as its sender likes."""
        message = HELLO[5:]
        places = sorted({0, *cuts, len(message)})
        pieces = [message[begin:end] for begin, end in itertools.pairwise(places)]
        spread = b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)
        self.assertEqual(read_client_hello(spread), read_client_hello(HELLO))

    def test_other_things(self) -> None:
        """What is no hello is said to be none."""
        for data in (
            b"GET / HTTP/1.1\r\n",
            b"\x16\x02\x01\x00\x05hello",
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\xff\xff",
            b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
            b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        ):
            self.assertRaises(NotTLS, read_client_hello, data)

    @given(st.integers(0, len(HELLO) - 1), st.binary(min_size=1, max_size=4))
    def test_damaged(self, place: int, damage: bytes) -> None:
        """A damaged hello is read, waited for or refused, and nothing else."""
        data = HELLO[:place] + damage + HELLO[place + len(damage) :]
        try:
            found = read_client_hello(data)
        except NotTLS:
            return
        self.assertIsInstance(found, ClientHello | None)

    @given(st.binary(max_size=300))
    def test_anything(self, data: bytes) -> None:
        """Nor does anything else do harm."""
        try:
            read_client_hello(b"\x16\x03\x01" + data)
        except NotTLS:
            return
