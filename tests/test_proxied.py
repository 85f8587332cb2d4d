"""Connections that proxies make: whose they are once a header has said it, and what becomes of other headers."""

from __future__ import annotations

import ipaddress
from typing import Any

import h2.connection
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.table import TLSTable
from swarmgate.http.admission import Admission
from swarmgate.http.client import ClientSettings
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.entry_point import EntryPoint
from swarmgate.http.exchange import Exchange
from swarmgate.http.forwarded import ForwardedPolicy
from swarmgate.http.per_address import ConnectionsPerAddress
from swarmgate.http.proxied import Proxies
from swarmgate.http.request_head import write_request
from swarmgate.http2.client import Http2Settings
from swarmgate.limits.local import LocalCounts
from swarmgate.tls.acceptor import Acceptors
from swarmgate.tls.contexts import ServerContexts
from swarmgate.tls.tickets import TicketKeys
from tests.memory_network import MemoryNetwork, MemoryTransport
from tests.test_proxy_protocol import HEADERS, LINE, LINE6, binary
from tests.test_tls_transport import CERTIFICATE, NOW, Peer

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
BALANCER, STRANGER = "10.0.0.5", "192.0.2.66"


def http2_request() -> bytes:
    """All that a client of HTTP/2 sends for its first request."""
    client = h2.connection.H2Connection()
    client.initiate_connection()
    pseudo = ((":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a.example"))
    client.send_headers(1, pseudo, end_stream=True)
    return bytes(client.data_to_send())


class ProxiedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)
        self.addCleanup(self.deadlines.stop)
        #: The address and port of each request's client.
        self.served: list[tuple[str, int]] = []
        self.believe("10.0.0.0/8")

    def believe(self, *networks: str, insecure: bool = False, admission: Admission | None = None) -> None:
        """Have an entry point that believes these."""
        settings = ClientSettings("web", ForwardedPolicy(b"gate"), http2=Http2Settings().connection)
        network: Any = MemoryNetwork()
        self.point = EntryPoint(
            network, self.clock, "", 0, settings, self.deadlines, self.serve, admission=admission
        )  # fmt: skip
        self.point.protocols[b"h2"] = Http2Settings().connection
        self.point.proxied = Proxies(insecure, tuple(map(ipaddress.ip_network, networks))).connection

    def serve(self, exchange: Exchange) -> None:
        client: Any = exchange.client
        peer = getattr(client, "connection", client).transport.getPeer()
        request = exchange.request
        self.served.append((request.client_ip, peer.port))
        told = b"\r\nX-Real-Ip: %b\r\n" % request.client_ip.encode()
        self.assertIn(told, write_request(request))
        exchange.answer(200)

    def connect(self, peer: str = BALANCER) -> MemoryTransport:
        protocol = self.point._connection()
        wire = MemoryTransport(protocol, peer)
        protocol.makeConnection(wire)
        return wire

    def clients(self) -> list[tuple[str, int]]:
        """Whose the requests were since the last call."""
        served, self.served = self.served, []
        return served

    def advance(self, seconds: float) -> None:
        for _ in range(int(seconds / 0.25)):
            self.clock.advance(0.25)

    def warnings(self) -> list[str]:
        """Have the warnings of the rest of the test gathered in the list."""
        found: list[str] = []

        def observe(event: Any) -> None:
            if event["log_level"] >= LogLevel.warn:
                found.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        return found

    # Who is believed.

    def test_believed(self) -> None:
        """A request is that of the client which the balancer names; without a name, the balancer's."""
        for header, source in HEADERS.items():
            wire = self.connect()
            wire.receive(header + GET)
            wire.receive(GET)
            self.assertEqual(self.clients(), [source or (BALANCER, 50000)] * 2, header)
            self.assertEqual(wire.take().count(b"HTTP/1.1 200 OK"), 2)

    def test_in_pieces(self) -> None:
        """A header may come in any pieces, and alone."""
        for header, source in HEADERS.items():
            wire, other = self.connect(), self.connect()
            for octet in header + GET:
                wire.receive(bytes([octet]))
            other.receive(header)
            other.receive(GET)
            self.assertEqual(self.clients(), [source or (BALANCER, 50000)] * 2, header)

    def test_no_header(self) -> None:
        """A balancer that says nothing of a client is the client itself."""
        wire = self.connect()
        wire.receive(b"\r\n" + GET)
        self.assertEqual(self.clients(), [(BALANCER, 50000)])
        self.assertIn(b" 200 OK", wire.take())

    def test_stranger(self) -> None:
        """A stranger's header is taken off, and what it says is not believed."""
        for header in HEADERS:
            wire = self.connect(STRANGER)
            wire.receive(header + GET)
            self.assertEqual(self.clients(), [(STRANGER, 50000)], header)
            self.assertIn(b" 200 OK", wire.take())

    def test_insecure(self) -> None:
        """Everybody can be believed, too."""
        self.believe(insecure=True)
        self.connect(STRANGER).receive(LINE + GET)
        self.assertEqual(self.clients(), [("192.0.2.1", 56324)])

    def test_both_versions_of_ip(self) -> None:
        """An IPv4 address in IPv6's spelling is what it is: of a balancer, and of a client."""
        self.connect("::ffff:" + BALANCER).receive(b"PROXY TCP6 ::ffff:192.0.2.9 ::ffff:192.0.2.10 5 443\r\n" + GET)
        self.connect("::ffff:" + STRANGER).receive(LINE + GET)
        self.assertEqual(self.clients(), [("192.0.2.9", 5), (STRANGER, 50000)])

    def test_one_header(self) -> None:
        """A second header is no request."""
        wire = self.connect()
        wire.receive(LINE + LINE6 + GET)
        self.assertIn(b"HTTP/1.1 400 ", wire.take())
        self.assertEqual(self.clients(), [])

    # What follows.

    def test_http2(self) -> None:
        """HTTP/2 without TLS follows a header like anything else."""
        self.connect().receive(LINE6 + http2_request())
        self.assertEqual(self.clients(), [("2001:db8::1", 4124)])

    def secure(self, protocol: str) -> None:
        """Have the entry point speak TLS, and *protocol* over it."""
        acceptors = Acceptors(ServerContexts((protocol,), TicketKeys(b"s" * 32)), ("web",), lambda: NOW)
        self.point.acceptor = acceptors.of(TLSTable((CERTIFICATE,)))["web"]

    def test_tls(self) -> None:
        """The handshake comes after the header, whose it is or not."""
        for protocol, request in (("h2", http2_request()), ("http/1.1", GET)):
            self.secure(protocol)
            for name in (BALANCER, STRANGER):
                wire = self.connect(name)
                wire.receive(LINE)
                peer = Peer(wire)
                peer.shake_hands()
                peer.send(request)
            self.assertEqual(self.clients(), [("192.0.2.1", 56324), (STRANGER, 50000)])
        plain = self.connect()
        plain.receive(LINE6 + GET)
        self.assertEqual(self.clients(), [("2001:db8::1", 4124)])
        self.assertEqual(len(self.point), 5)

    # Who is not waited for.

    def test_malformed(self) -> None:
        """A malformed header ends the connection; a balancer's is told of, now and then, and all are counted."""
        found = self.warnings()
        header = b"PROXY TCP4 192.0.2.1 nowhere 1 2\r\n"
        for name in (STRANGER, BALANCER, BALANCER):
            wire = self.connect(name)
            wire.receive(header + GET)
            self.assertEqual((wire.closed, wire.take()), ("aborted", b""))
            wire.settle()
        self.assertEqual(self.clients(), [])
        self.assertEqual(self.point.refusals, {"PROXY header: not an address of its family": 3})
        self.assertEqual(
            found,
            [
                "entry point web: 10.0.0.5 begins a connection with a malformed PROXY header, not an address of its "
                f"family, and so it is closed: {header + GET[:30]!r}"
            ],
        )
        self.advance(61)
        self.connect().receive(binary(0x11, 0x11))
        self.assertEqual(len(found), 2)

    def test_slow(self) -> None:
        """Who says nothing, or not all, is sent away in time, which a header does not lengthen."""
        silent, half, late = self.connect(), self.connect(), self.connect()
        half.receive(LINE[:-1])
        self.advance(8)
        late.receive(LINE)
        self.advance(2.5)
        self.assertEqual([wire.closed for wire in (silent, half, late)], ["aborted", "aborted", "lost"])
        for wire in (silent, half, late):
            wire.settle()
        self.assertEqual((len(self.point), len(self.deadlines)), (0, 0))

    def test_slow_handshake(self) -> None:
        """The handshake has the time that the header has left."""
        self.secure("h2")
        wire = self.connect()
        self.advance(8)
        wire.receive(LINE + b"\x16\x03")
        self.advance(2.5)
        self.assertEqual(wire.closed, "aborted")

    def test_end(self) -> None:
        """Who leaves before it has said all, or breaks off, leaves nothing behind."""
        for data in (b"", LINE[:9], LINE):
            ended, broken = self.connect(), self.connect()
            for wire in (ended, broken) if data else ():
                wire.receive(data)
            ended.end()
            ended.settle()
            broken.reset()
        self.assertEqual((len(self.point), len(self.deadlines)), (0, 0))

    def test_drain(self) -> None:
        """When the gate ends, a header on its way is still heard, and nobody else is waited for."""
        silent, begun = self.connect(), self.connect()
        begun.receive(LINE[:5])
        self.assertEqual(self.point.idle(), [silent.protocol])
        self.point.draining = True
        for connection in list(self.point._connections):
            connection.close_when_idle()
        begun.receive(LINE[5:] + GET)
        self.assertIn(b"Connection: close", begun.take())
        self.advance(1.5)
        self.assertEqual(silent.closed, "aborted")

    # Who counts.

    def limit(self, amount: int) -> None:
        networks = (ipaddress.ip_network("10.0.0.0/8"),)
        self.counts = LocalCounts()
        self.point.limit_connections(ConnectionsPerAddress(self.counts, amount, proxies=networks))

    def test_connections_of_clients(self) -> None:
        """Clients behind a balancer have as many connections each as others; the balancer has any number."""
        self.limit(2)
        silent = [self.connect() for _ in range(5)]
        told = [self.connect() for _ in range(3)]
        for wire in told:
            wire.receive(LINE + GET)
        other = self.connect()
        other.receive(LINE6 + GET)
        self.assertEqual([wire.closed for wire in (*silent, *told, other)], [None] * 7 + ["aborted", None])
        self.assertEqual(self.clients(), [("192.0.2.1", 56324)] * 2 + [("2001:db8::1", 4124)])
        self.assertEqual(self.point.refusals, {"too many connections of one address": 1})
        for wire in (*silent, *told, other):
            wire.reset()
        self.assertEqual((len(self.counts), len(self.point)), (0, 0))

    def test_connections_of_strangers(self) -> None:
        """A stranger counts from the begin, whatever it says."""
        self.limit(2)
        wires = [self.connect(STRANGER) for _ in range(3)]
        self.assertEqual([wire.closed for wire in wires], [None, None, "aborted"])
        wires[2].settle()
        wires[0].receive(LINE + GET)
        self.assertEqual(self.connect(STRANGER).closed, "aborted")
        wires[1].reset()
        self.assertIsNone(self.connect(STRANGER).closed)

    def test_connections_of_anybody(self) -> None:
        """Where everybody is believed, one counts for whom it speaks, and for itself if it does not say."""
        self.believe(insecure=True)
        self.limit(1)
        silent = [self.connect(STRANGER) for _ in range(3)]
        silent[0].receive(GET)
        silent[1].receive(GET)
        silent[2].receive(LINE + GET)
        self.assertEqual([wire.closed for wire in silent], [None, "aborted", None])

    def test_turned_away(self) -> None:
        """Under overload, clients behind a balancer are answered as others are, and cut off where they speak TLS."""
        self.point.turns_away = True
        plain, secure = self.connect(), self.connect()
        plain.receive(LINE + GET)
        secure.receive(LINE + b"\x16\x03\x01")
        self.assertIn(b"HTTP/1.1 503 ", plain.take())
        self.assertEqual((plain.closed, secure.closed, secure.take()), ("lost", "aborted", b""))
        for wire in (plain, secure):
            wire.settle()
        self.assertEqual((len(self.point), len(self.deadlines)), (0, 0))

    def test_admission(self) -> None:
        """Connections whose header is still to come have their part of the room, and make room for others."""
        admission = Admission(self.deadlines, 2)
        self.believe("10.0.0.0/8", admission=admission)
        first = self.connect()
        self.connect()
        self.assertTrue(admission.is_full)
        self.advance(1.5)
        self.assertEqual(first.closed, "aborted")
