"""TLS on connections in memory: what both sides are told, and when."""

from __future__ import annotations

import _ssl
import contextlib
import ctypes
import ssl
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.table import TLSTable
from swarmgate.dynamic.tls import CIPHER_SUITES, Certificate, ServersTransport, TLSOptions
from swarmgate.http.client import ClientSettings
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.entry_point import EntryPoint
from swarmgate.http.exchange import Exchange
from swarmgate.http.forwarded import ForwardedPolicy
from swarmgate.http.secure_network import SecureNetwork
from swarmgate.tls.acceptor import Acceptors
from swarmgate.tls.certificates import read_certificate
from swarmgate.tls.contexts import ContextError, ServerContexts, client_context, server_context
from swarmgate.tls.tickets import ROTATE_EVERY, TicketKeys
from swarmgate.transport.tls import HandshakeError, TLSTransport, registered_name
from tests.memory_network import MemoryNetwork, MemoryTransport
from tests.pki import NOW, Pair, authority

PAIR = authority().issue("a.example", "10.0.0.1")
CERTIFICATE = Certificate(*read_certificate(PAIR.chain, PAIR.key, "a.crt"))


class Recorder:
    """A protocol that remembers what it is told."""

    factory = None

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.lost: Any = None
        self.half_closed = False
        self.transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)

    def readConnectionLost(self) -> None:
        self.half_closed = True

    def connectionLost(self, reason: Failure) -> None:
        self.lost = reason.value


class Peer:
    """A TLS client at the other end of a transport in memory."""

    def __init__(self, wire: MemoryTransport, name: str | None = "a.example", shown: Pair | None = None) -> None:
        context = client_context(ServersTransport(root_cas=(authority().pem,)), ("h2", "http/1.1"))
        context.check_hostname = False
        self.wire = wire
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)

    def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
                self.flush()
                return
            except ssl.SSLWantReadError:
                self.flush()
                answered = self.wire.take()
                if not answered:
                    raise
                self.incoming.write(answered)

    def flush(self) -> None:
        if self.outgoing.pending:
            self.wire.receive(self.outgoing.read())

    def update_key(self) -> None:
        """Write under another key from now on, and want the same of the gate (RFC 8446, 4.6.3)."""
        library = ctypes.CDLL(_ssl.__file__)
        # CPython's object: its head, the socket, then OpenSSL's connection.
        inner = self.tls._sslobj  # type: ignore[attr-defined]
        connection = ctypes.c_void_p.from_address(id(inner) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p))
        assert library.SSL_key_update(connection, 1) == 1
        self.tls.do_handshake()
        self.flush()

    def send(self, *pieces: bytes) -> None:
        """In one segment, a record for each."""
        for piece in pieces:
            self.tls.write(piece)
        self.flush()

    def read(self) -> bytes:
        """All that has come."""
        self.incoming.write(self.wire.take())
        data = b""
        while True:
            try:
                piece = self.tls.read(65536)
            except ssl.SSLWantReadError:
                return data
            if not piece:
                return data + b"<end>"
            data += piece


def shaken(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> ssl.SSLObject:
    """The client's side of a handshake."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(back, there, session=session)
    server = server_side.wrap_bio(there, back, True)
    for side in (client, server, client, server, client):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    with contextlib.suppress(ssl.SSLWantReadError):
        server.unwrap()  # A session that was not ended is not taken up again.
    return client


class TransportTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.protocol = Recorder()
        self.errors: list[Exception] = []
        context = server_context(TLSOptions(), (CERTIFICATE,), ("http/1.1",), b"k" * 80)
        self.tls = TLSTransport(context, lambda tls: self.protocol, self.errors.append)
        self.wire = MemoryTransport(self.tls)
        self.tls.makeConnection(self.wire)

    def connected(self) -> Peer:
        peer = Peer(self.wire)
        peer.shake_hands()
        peer.read()
        return peer

    def test_both_ways(self) -> None:
        """What is written on one side is read on the other, and the protocol agreed on is known."""
        peer = self.connected()
        peer.send(b"ping")
        self.protocol.transport.write(b"pong")
        self.assertEqual((self.protocol.received, peer.read()), ([b"ping"], b"pong"))
        self.assertEqual(self.tls.negotiatedProtocol, b"http/1.1")
        self.assertEqual((self.tls.version(), self.tls.peer_certificate()), ("TLSv1.3", b""))

    def test_names_of_ciphers(self) -> None:
        """Ciphers are called as elsewhere, not as OpenSSL does."""
        for name, cipher in CIPHER_SUITES.items():
            if cipher and name.endswith(("SHA", "SHA256", "SHA384")):
                self.assertEqual(registered_name(cipher), name)
        self.assertEqual(registered_name("TLS_AES_128_GCM_SHA256"), "TLS_AES_128_GCM_SHA256")

    def test_one_read_is_one_call(self) -> None:
        """Records that come in one segment are one piece of data: who pauses is given nothing after it."""
        self.connected().send(b"one", b"two", b"x" * 40000)
        self.assertEqual(self.protocol.received, [b"onetwo" + b"x" * 40000])

    def test_large_writes(self) -> None:
        """A million octets are sent whole."""
        peer = self.connected()
        self.protocol.transport.write(b"x" * 1_000_000)
        self.assertEqual(peer.read(), b"x" * 1_000_000)

    def test_end_of_the_peer(self) -> None:
        """An end that is announced is one side's end; what is said after it still arrives."""
        peer = self.connected()
        peer.tls.write(b"last")
        with self.assertRaises(ssl.SSLWantReadError):
            peer.tls.unwrap()
        peer.flush()
        self.assertEqual((self.protocol.received, self.protocol.half_closed), ([b"last"], True))
        self.protocol.transport.write(b"answer")
        self.assertNotEqual(self.wire.take(), b"")

    def test_end_that_is_not_announced(self) -> None:
        """A connection that just ends may have been cut: it is lost, not ended."""
        self.connected()
        self.wire.end()
        self.assertIsInstance(self.protocol.lost, ConnectionLost)
        self.assertFalse(self.protocol.half_closed)
        self.assertEqual(self.wire.closed, "aborted")

    def test_own_end(self) -> None:
        """Whoever closes says so first."""
        peer = self.connected()
        self.protocol.transport.write(b"bye")
        self.protocol.transport.loseConnection()
        self.protocol.transport.write(b"too late")
        self.assertEqual((peer.read(), self.wire.closed), (b"bye<end>", "lost"))
        self.wire.settle()
        self.assertIsInstance(self.protocol.lost, ConnectionDone)

    def test_flood_of_key_updates(self) -> None:
        """Who updates keys again and again and sends nothing is cut off; who does so now and then is not."""
        peer = self.connected()
        for _ in range(200):
            peer.update_key()
            peer.send(b"x")
        self.assertEqual((200, None), (len(self.protocol.received), self.protocol.lost))
        updates = 0
        while self.protocol.lost is None and updates < 10_000:
            peer.update_key()
            updates += 1
        self.assertIsInstance(self.protocol.lost, ConnectionLost)
        self.assertLess(updates, 3000)
        self.assertGreater(updates, 100)

    def test_records_in_parts(self) -> None:
        """Data that comes an octet at a time is no flood."""
        peer = self.connected()
        for _ in range(6):
            peer.tls.write(b"x" * 16384)
            for octet in peer.outgoing.read():
                self.wire.receive(bytes([octet]))
        self.assertEqual((6 * 16384, None), (sum(map(len, self.protocol.received)), self.protocol.lost))

    def test_half_end(self) -> None:
        """Who has said its last still hears the other."""
        peer = self.connected()
        self.protocol.transport.loseWriteConnection()
        self.assertEqual((peer.read(), self.wire.half_closed), (b"<end>", True))
        peer.send(b"more")
        self.assertEqual(self.protocol.received, [b"more"])

    def test_damage(self) -> None:
        """A record that was tampered with ends the connection, with an alert."""
        peer = self.connected()
        peer.tls.write(b"data")
        record = bytearray(peer.outgoing.read())
        record[-1] ^= 1
        self.wire.receive(bytes(record))
        self.assertEqual((self.protocol.received, self.wire.closed), ([], "aborted"))
        self.assertIsInstance(self.protocol.lost, ConnectionLost)

    def test_no_handshake(self) -> None:
        """What is no handshake is told once, and the protocol never begins."""
        self.wire.receive(b"\x16\x03\x01\x00\x05hello")
        self.wire.settle()
        self.assertEqual(len(self.errors), 1)
        self.assertIsInstance(self.errors[0], HandshakeError)
        self.assertIsNone(self.protocol.transport)

    def test_lost_in_the_middle(self) -> None:
        """A peer that leaves during the handshake is told, once."""
        self.wire.end()
        self.wire.settle()
        self.assertEqual(len(self.errors), 1)
        self.assertIsNone(self.protocol.lost)

    def test_too_slow(self) -> None:
        """A handshake that takes too long is given up."""
        self.tls.overdue()
        self.wire.settle()
        self.assertEqual((str(self.errors[0]), self.wire.closed), ("the handshake was not over in time", "aborted"))


class EntryPointTests(SynchronousTestCase):
    """Clients of an entry point that speaks TLS."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.served: list[tuple[str, bool]] = []
        settings = ClientSettings("web", ForwardedPolicy(b"gate"))
        self.network = MemoryNetwork()
        self.point = EntryPoint(
            self.network, self.clock, "", 0, settings, self.deadlines, self.plain, serve_secure=self.secure
        )  # fmt: skip
        contexts = ServerContexts(("http/1.1",), TicketKeys(b"s" * 32))
        self.acceptors = Acceptors(contexts, ("web",), lambda: NOW + self.clock.seconds())
        table = TLSTable((CERTIFICATE,), None, {"m@file": TLSOptions()}, {"web": {"m.example": "m@file"}})
        self.point.acceptor = self.acceptors.of(table)["web"]

    def plain(self, exchange: Exchange) -> None:
        self.served.append(("plain", exchange.request.secure))
        exchange.answer(200)

    def secure(self, exchange: Exchange) -> None:
        self.served.append(("secure", exchange.request.secure))
        exchange.answer(200)

    def client(self) -> MemoryTransport:
        protocol = self.point._connection()
        wire = MemoryTransport(protocol)
        protocol.makeConnection(wire)
        return wire

    def test_first_octet(self) -> None:
        """What a client says first tells TLS from plain HTTP."""
        self.client().receive(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        peer = Peer(self.client())
        peer.shake_hands()
        peer.send(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        self.assertTrue(peer.read().startswith(b"HTTP/1.1 200 "))
        self.assertEqual(self.served, [("plain", False), ("secure", True)])
        self.assertEqual(len(self.point), 2)

    def test_no_default(self) -> None:
        """Without a default certificate hosts that none is for are refused, and served as soon as there is one."""
        self.assertRaises(ssl.SSLError, Peer(self.client(), "nowhere.example").shake_hands)
        Peer(self.client()).shake_hands()
        table = TLSTable((CERTIFICATE,), CERTIFICATE, {}, {"web": {}})
        self.point.acceptor = self.acceptors.of(table)["web"]
        Peer(self.client(), "nowhere.example").shake_hands()

    def test_misdirected(self) -> None:
        """A host of other options than the connection's is answered 421, and reaches nobody."""
        peer = Peer(self.client())
        peer.shake_hands()
        peer.send(b"GET / HTTP/1.1\r\nHost: m.example\r\n\r\n")
        self.assertTrue(peer.read().startswith(b"HTTP/1.1 421 Misdirected Request\r\n"))
        self.assertEqual(self.served, [])

    def test_silent_clients(self) -> None:
        """Who says nothing, half a hello, or does not finish the handshake, is sent away."""
        silent, half, slow = self.client(), self.client(), self.client()
        half.receive(b"\x16\x03\x01\x01")
        peer = Peer(slow)
        self.assertRaises(ssl.SSLWantReadError, peer.tls.do_handshake)
        peer.flush()
        for _ in range(44):
            self.clock.advance(0.25)
        self.assertEqual([wire.closed for wire in (silent, half, slow)], ["aborted"] * 3)
        for wire in (silent, half, slow):
            wire.settle()
        self.assertEqual((len(self.point), len(self.deadlines)), (0, 0))

    def test_other_protocols(self) -> None:
        """What ALPN agrees on decides who serves a connection."""
        made: list[Recorder] = []

        def make(site: Any, settings: ClientSettings, deadlines: Deadlines) -> Recorder:
            made.append(Recorder())
            return made[-1]

        self.point.protocols[b"http/1.1"] = make
        Peer(self.client()).shake_hands()
        self.assertEqual(made[0].transport.negotiatedProtocol, b"http/1.1")

    def test_open_connections(self) -> None:
        """A connection that is open outlives its certificate, and TLS itself."""
        peer = Peer(self.client())
        peer.shake_hands()
        self.point.acceptor = None
        peer.send(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        self.assertTrue(peer.read().startswith(b"HTTP/1.1 200 "))
        plain = self.client()
        plain.receive(b"\x16\x03\x01\x00\x05hello\r\n\r\n")
        self.assertIn(b" 400 ", plain.take())


class ContextTests(SynchronousTestCase):
    def test_kept(self) -> None:
        """A context is made once, until its ticket key is too old."""
        contexts = ServerContexts(("http/1.1",), TicketKeys(b"s" * 32))
        first = contexts.get(TLSOptions(), (CERTIFICATE,), NOW)
        self.assertIs(contexts.get(TLSOptions(), (CERTIFICATE,), NOW + 1), first)
        self.assertIsNot(contexts.get(TLSOptions(sni_strict=True), (CERTIFICATE,), NOW), first)
        self.assertIsNot(contexts.get(TLSOptions(), (CERTIFICATE,), NOW + ROTATE_EVERY), first)

    def test_forgotten(self) -> None:
        """The contexts of certificates that are gone are dropped."""
        contexts = ServerContexts(("http/1.1",), TicketKeys(b"s" * 32))
        other_pair = authority().issue("b.example")
        other = Certificate(*read_certificate(other_pair.chain, other_pair.key, "b.crt"))
        first, second = (contexts.get(TLSOptions(), (one,), NOW) for one in (CERTIFICATE, other))
        contexts.forget_others((other,))
        self.assertIsNot(contexts.get(TLSOptions(), (CERTIFICATE,), NOW), first)
        self.assertIs(contexts.get(TLSOptions(), (other,), NOW), second)

    def test_no_tickets(self) -> None:
        """Tickets can be switched off."""
        context = server_context(TLSOptions(disable_session_tickets=True), (CERTIFICATE,), (), b"k" * 80)
        self.assertEqual((context.num_tickets, bool(context.options & ssl.OP_NO_TICKET)), (0, True))

    def test_no_session_ids(self) -> None:
        """A client of TLS 1.2 without tickets can take up its session by its id, unless sessions are switched off."""
        for disabled in (False, True):
            context = server_context(TLSOptions(disable_session_tickets=disabled), (CERTIFICATE,), (), b"k" * 80)
            client = client_context(ServersTransport(insecure_skip_verify=True))
            client.maximum_version = ssl.TLSVersion.TLSv1_2
            client.options |= ssl.OP_NO_TICKET
            first = shaken(context, client)
            again = shaken(context, client, first.session)
            self.assertEqual(again.session_reused, not disabled)

    def test_faults(self) -> None:
        """What OpenSSL does not take is told with the file it is from, and without the key."""
        other = authority().issue("b.example")
        broken = Certificate(*read_certificate(PAIR.chain, PAIR.key, "a.crt"))
        object.__setattr__(broken, "key", other.key)
        error = self.assertRaises(ContextError, server_context, TLSOptions(), (broken,), (), b"k" * 80)
        self.assertIn("a.crt", str(error))
        self.assertNotIn("PRIVATE", str(error))


class SecureNetworkTests(SynchronousTestCase):
    """Servers that are reached over TLS."""

    def setUp(self) -> None:
        self.deadlines = Deadlines(Clock())
        self.network = MemoryNetwork()
        self.protocol = Recorder()
        self.failures: list[Exception] = []

    def connect(self, transport: ServersTransport, pair: Pair = PAIR) -> MemoryTransport:
        """Connect to 10.0.0.1, which shows *pair*, and go through the handshake."""
        secure = SecureNetwork(self.network, client_context(transport), transport.server_name, self.deadlines)
        secure.connect("10.0.0.1", 443, 3.0, self.protocol, self.failures.append)  # type: ignore[arg-type]
        certificate = Certificate(*read_certificate(pair.chain, pair.key, "x"))
        context = server_context(TLSOptions(), (certificate,), ("http/1.1",), b"k" * 80)
        server = TLSTransport(context, lambda tls: Recorder(), lambda error: None)  # type: ignore[arg-type, return-value]
        wire = self.network.servers[-1]
        far = MemoryTransport(server)
        server.makeConnection(far)
        while data := wire.take():
            far.receive(data)
            answer = far.take()
            if answer and not wire.closed:
                wire.receive(answer)
        wire.settle()
        return wire

    def test_verified(self) -> None:
        """A server whose certificate is right gets the request."""
        self.connect(ServersTransport(root_cas=(authority().pem,)))
        self.assertEqual(self.failures, [])
        self.assertEqual(self.protocol.transport.negotiatedProtocol, b"http/1.1")
        self.assertEqual(len(self.deadlines), 0)

    def test_wrong_name(self) -> None:
        """One whose certificate is for somebody else does not, and why is told."""
        self.connect(ServersTransport(root_cas=(authority().pem,), server_name="b.example"))
        self.assertIn("Hostname mismatch", str(self.failures[0]))
        self.assertIsNone(self.protocol.transport)
        self.assertEqual(len(self.deadlines), 0)

    def test_unknown_authority(self) -> None:
        """Nor does one whose authority is unknown, unless nobody wants to know."""
        transport = ServersTransport(root_cas=(authority("another root").pem,))
        self.connect(transport)
        self.assertIn("certificate is not accepted", str(self.failures[0]))
        self.connect(ServersTransport(insecure_skip_verify=True))
        self.assertEqual(len(self.failures), 1)
        self.assertIsNotNone(self.protocol.transport)
