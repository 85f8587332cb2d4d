"""Tests for swarmgate.middlewares.source."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.middlewares.source import IPStrategy, address_of, masked, within
from swarmgate.structure import IPNetwork, StructureError, structure, structure_as
from tests.exchanges import exchange_of

CHAIN = "10.9.9.9, 203.0.113.5, 10.0.0.2, 10.0.0.1"


def address(chain: str | None = CHAIN, *, peer: str = "192.0.2.7", trusted: bool = True, **tree: Any) -> str:
    fields = [("X-Forwarded-For", chain)] if chain is not None else []
    exchange = exchange_of("/", *fields, peer=peer, trusted=trusted)
    return address_of(structure(IPStrategy, tree))(exchange.request)


class AddressTests(SynchronousTestCase):
    def test_peer(self) -> None:
        """Without options it is the peer's address, whatever X-Forwarded-For says."""
        self.assertEqual(address(), "192.0.2.7")
        self.assertEqual(address_of(None)(exchange_of(peer="192.0.2.8").request), "192.0.2.8")

    def test_depth(self) -> None:
        """depth counts from the right."""
        self.assertEqual(address(depth="1"), "10.0.0.1")
        self.assertEqual(address(depth="3"), "203.0.113.5")

    def test_depth_beyond(self) -> None:
        """Fewer addresses than depth: unknown."""
        self.assertEqual(address(depth="5"), "")
        self.assertEqual(address(None, depth="2"), "")

    def test_untrusted_peer(self) -> None:
        """A client cannot choose its address by sending X-Forwarded-For itself."""
        self.assertEqual(address(depth="1", trusted=False), "")
        self.assertEqual(address(excludedIPs="10.0.0.0/8", trusted=False), "")

    def test_excluded(self) -> None:
        """excludedIPs skips known proxies, from the right."""
        self.assertEqual(address(excludedIPs="10.0.0.1,10.0.0.2"), "203.0.113.5")
        self.assertEqual(address("10.0.0.2,,  10.0.0.1", excludedIPs="10.0.0.0/8"), "")

    def test_depth_before_excluded(self) -> None:
        """depth wins over excludedIPs."""
        self.assertEqual(address(depth="2", excludedIPs="10.0.0.0/8"), "10.0.0.2")

    def test_subnet(self) -> None:
        """ipv6Subnet makes all addresses of a network one, and leaves IPv4 alone."""
        self.assertEqual(address(peer="2001:db8:1:2:3::4", ipv6Subnet="64"), "2001:db8:1:2::")
        self.assertEqual(address(peer="192.0.2.7", ipv6Subnet="64"), "192.0.2.7")
        self.assertEqual(address("2001:db8:1:2:3::4", depth="1", ipv6Subnet="32"), "2001:db8::")
        self.assertEqual(masked("::ffff:192.0.2.1", 64), "::ffff:192.0.2.1")
        self.assertEqual(masked("unknown", 64), "unknown")

    def test_bad_options(self) -> None:
        """A negative depth and an impossible prefix are refused."""
        for tree in ({"depth": "-1"}, {"ipv6Subnet": "0"}, {"ipv6Subnet": "129"}, {"excludedIPs": "no"}):
            self.assertRaises(StructureError, structure, IPStrategy, tree)


class WithinTests(SynchronousTestCase):
    def test_within(self) -> None:
        """Addresses are compared as numbers, an IPv4 address in IPv6 clothes as what it is."""
        inside = within(structure_as(tuple[IPNetwork, ...], "10.0.0.0/8,2001:db8::/32"))
        for one in ("10.255.0.1", "2001:db8::1", "::ffff:10.1.1.1", "2001:db8::1%eth0"):
            self.assertTrue(inside(one), one)
        for one in ("11.0.0.1", "2001:db9::", "::ffff:11.1.1.1", "", "10.0.0.1:80", "ten"):
            self.assertFalse(inside(one), one)
