"""Tests for swarmgate.http.per_address; tests/e2e/test_worker_limits.py has real connections."""

from __future__ import annotations

import ipaddress
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.per_address import ConnectionsPerAddress
from swarmgate.limits.local import LocalCounts


class Connection:
    """A protocol of a connection."""

    def __init__(self, host: str | None, port: int = 1, transport: Connection | None = None) -> None:
        self.transport: Any = None
        self._host, self._port = host, port
        if host is not None:
            self.transport = transport or self

    def getPeer(self) -> Any:
        assert self._host is not None
        return (IPv6Address if ":" in self._host else IPv4Address)("TCP", self._host, self._port)


class PerAddressTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.counts = LocalCounts()
        self.limit = ConnectionsPerAddress(self.counts, 2)
        self.port = 1

    def open(self, host: str) -> Connection | None:
        """A new connection, None if it may not be there."""
        self.port += 1
        connection = Connection(host, self.port)
        return connection if self.limit.opened(connection) else None

    def test_each_address(self) -> None:
        """Each address may have so many; who leaves makes room."""
        first, second = self.open("192.0.2.1"), self.open("192.0.2.1")
        self.assertIsNone(self.open("192.0.2.1"))
        self.assertIsNotNone(self.open("192.0.2.2"))
        assert first is not None and second is not None
        self.limit.closed(first)
        self.limit.closed(first)
        self.assertIsNotNone(self.open("192.0.2.1"))
        self.assertIsNone(self.open("192.0.2.1"))

    def test_nothing_is_left_behind(self) -> None:
        """Connections that are gone, or were refused, are forgotten."""
        connections = [self.open(f"192.0.2.{number % 8}") for number in range(100)]
        self.assertEqual(len(self.counts), 16)
        for connection in connections:
            if connection is not None:
                self.limit.closed(connection)
        self.assertEqual((len(self.counts), self.limit._held, self.limit._below), (0, {}, {}))

    def test_handed_over(self) -> None:
        """A connection that is handed from protocol to protocol stays one."""
        self.limit = ConnectionsPerAddress(self.counts, 1)
        greeting = Connection("192.0.2.1")
        self.assertTrue(self.limit.opened(greeting))
        # Told of before it has its transport, and again when it has.
        http = Connection(None)
        self.assertTrue(self.limit.opened(http))
        http.transport = greeting
        self.assertTrue(self.limit.opened(http))
        self.assertTrue(self.limit.opened(http))
        self.limit.closed(greeting)
        self.assertEqual(len(self.counts), 1)
        self.assertIsNone(self.open("192.0.2.1"))
        self.limit.closed(http)
        self.assertEqual(len(self.counts), 0)

    def test_handed_over_to_tls(self) -> None:
        """What is spoken over TLS is on the connection that the handshake was on."""
        self.limit = ConnectionsPerAddress(self.counts, 1)
        greeting, http = Connection("192.0.2.1"), Connection(None)
        http.transport = Connection("192.0.2.1", transport=greeting)
        self.assertTrue(self.limit.opened(greeting))
        self.assertTrue(self.limit.opened(http))
        self.limit.closed(greeting)
        self.limit.closed(http)
        self.assertEqual(len(self.counts), 0)

    def test_ipv6(self) -> None:
        """Who has a network of IPv6 has one address; IPv4 addresses in IPv6 are what they are."""
        self.assertEqual([self.open(f"2001:db8::{number}") is None for number in range(3)], [False, False, True])
        self.assertIsNotNone(self.open("2001:db8:0:1::1"))
        self.assertIsNotNone(self.open("::ffff:192.0.2.1"))
        self.assertIsNotNone(self.open("192.0.2.1"))
        self.assertIsNone(self.open("::ffff:192.0.2.1"))
        self.assertIsNotNone(self.open("::ffff:192.0.2.2"))

    def test_same_port(self) -> None:
        """Connections that balancers make for a client are as many as they are, whatever port it is said to have."""
        self.assertEqual([self.limit.opened(Connection("192.0.2.1", 0)) for _ in range(3)], [True, True, False])

    def test_proxies(self) -> None:
        """A load balancer may have as many as it has clients."""
        self.limit = ConnectionsPerAddress(self.counts, 1, proxies=(ipaddress.ip_network("10.0.0.0/8"),))
        self.assertNotIn(None, [self.open("10.1.2.3") for _ in range(5)])
        self.assertNotIn(None, [self.open("::ffff:10.1.2.3") for _ in range(5)])
        self.assertEqual([self.open("192.0.2.1") is None for _ in range(2)], [False, True])

    def test_many_addresses(self) -> None:
        """What is remembered of addresses is bounded."""
        for number in range(10_000):
            connection = self.open(f"2001:db8:{number:x}::1")
            assert connection is not None
            self.limit.closed(connection)
        self.assertLessEqual(len(self.limit._sources), 4096)
