"""Tests for swarmgate.tls.challenges: who gets the certificate that answers a TLS-ALPN-01 challenge."""

from __future__ import annotations

import ssl

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.acme.certificate import tls_alpn_challenge
from swarmgate.acme.challenge import Challenge
from swarmgate.tls.challenges import Challenges
from swarmgate.transport.client_hello import ClientHello


class ChallengesTests(SynchronousTestCase):
    """Handshakes while an authority checks a.example."""

    def setUp(self) -> None:
        self.challenges = Challenges()
        self.challenges.show([tls_alpn_challenge(name, "token.thumb", 1.7e9) for name in ("a.example", "192.0.2.1")])

    def test_authority(self) -> None:
        """Who asks for the domain by acme-tls/1 gets a context of its own."""
        context = self.challenges(ClientHello("a.example", (b"acme-tls/1",)))
        self.assertIsInstance(context, ssl.SSLContext)
        self.assertIsNotNone(self.challenges(ClientHello("1.2.0.192.in-addr.arpa", (b"acme-tls/1",))))

    def test_others(self) -> None:
        """Ordinary clients, and who asks for another domain, get what they would get anyway."""
        for hello in (
            ClientHello("a.example", (b"h2", b"http/1.1")),
            ClientHello("a.example"),
            ClientHello("b.example", (b"acme-tls/1",)),
            ClientHello("", (b"acme-tls/1",)),
        ):
            self.assertIsNone(self.challenges(hello))

    def test_over(self) -> None:
        """When the challenge is over, so is its certificate; a broken one is told of and costs no other."""
        self.challenges.show([Challenge("b.example", b"nothing", b"nothing")])
        self.assertIsNone(self.challenges(ClientHello("a.example", (b"acme-tls/1",))))
        self.assertIsNone(self.challenges(ClientHello("b.example", (b"acme-tls/1",))))
