"""Tests for swarmgate.middlewares.ip_allow_list and ip_white_list."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.middlewares import KINDS, build
from swarmgate.structure import StructureError, structure
from tests.exchanges import MemoryClient, context_of, exchange_of, lead

NETWORKS = "10.0.0.0/8,2001:db8::/32,192.0.2.7"


def answer(kind: str = "ipallowlist", chain: str = "", options: Any = None, **more: Any) -> MemoryClient:
    settings = structure(KINDS[kind], {"sourceRange": NETWORKS, **(options or {})}, kind)
    fields = [("X-Forwarded-For", chain)] if chain else []
    return lead(exchange_of("/", *fields, **more), build(kind, settings, context_of()))


class IPAllowListTests(SynchronousTestCase):
    def test_allowed(self) -> None:
        """Addresses of the list pass."""
        for peer in ("10.1.2.3", "2001:db8::7", "192.0.2.7"):
            self.assertEqual(answer(peer=peer).status, 200, peer)

    def test_refused(self) -> None:
        """Others are answered 403, and so are those whose address is unknown."""
        for peer in ("192.0.2.8", "::1", ""):
            client = answer(peer=peer)
            self.assertEqual((client.status, client.body), (403, b"Forbidden"), peer)

    def test_status(self) -> None:
        """rejectStatusCode is the answer instead."""
        client = answer(peer="::1", options={"rejectStatusCode": "404"})
        self.assertEqual((client.status, client.body), (404, b"Not Found"))

    def test_behind_proxies(self) -> None:
        """ipStrategy finds the client behind trusted proxies; nobody else can claim to be behind one."""
        depth = {"ipStrategy": {"depth": "2"}}
        self.assertEqual(answer(chain="10.0.0.1, 203.0.113.9", options=depth, trusted=True).status, 200)
        self.assertEqual(answer(chain="203.0.113.9, 10.0.0.1", options=depth, trusted=True).status, 403)
        self.assertEqual(answer(chain="10.0.0.1, 203.0.113.9", options=depth, peer="10.0.0.1").status, 403)
        excluded = {"ipStrategy": {"excludedIPs": "203.0.113.0/24"}}
        self.assertEqual(answer(chain="10.0.0.1, 203.0.113.9", options=excluded, trusted=True).status, 200)

    def test_strange_chain(self) -> None:
        """Something that is no address is in no network."""
        depth = {"ipStrategy": {"depth": "1"}}
        for chain in ("10.0.0.1:80", "unknown", "_hidden", "10.0.0", "0x0a000001"):
            self.assertEqual(answer(chain=chain, options=depth, trusted=True).status, 403, chain)

    def test_bad_options(self) -> None:
        """An empty list, something that is no network, or no status is refused."""
        for options in ({"sourceRange": ""}, {"sourceRange": "ten"}, {"rejectStatusCode": "99"}):
            self.assertRaises(StructureError, answer, options=options)
        self.assertRaises(StructureError, structure, KINDS["ipallowlist"], {})

    def test_old_name(self) -> None:
        """ipWhiteList, the old name, does the same."""
        self.assertEqual(answer("ipwhitelist", peer="10.1.2.3").status, 200)
        self.assertEqual(answer("ipwhitelist", peer="::1").status, 403)
