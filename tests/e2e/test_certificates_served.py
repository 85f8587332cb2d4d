"""A gate that obtains certificates for its routers, and serves them."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.e2e.gate import Gate
from tests.e2e.pebble import Pebble

ROUTES = """\
http:
  routers:
    shop:
      rule: Host(`shop.gate.example`)
      entryPoints: [websecure]
      service: noop@internal
      tls: {certResolver: le}
    other:
      rule: Host(`other.gate.example`)
      entryPoints: [websecure]
      service: noop@internal
      tls: {certResolver: le, domains: [{main: gate.example, sans: [other.gate.example]}]}
"""


def names_served(port: int, host: str) -> set[str]:
    """Return the names in the certificate that a client gets that asks for *host*; it checks nothing."""
    from cryptography import x509

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), 5) as connection,
        context.wrap_socket(connection, server_hostname=host) as secure,
    ):
        leaf = secure.getpeercert(binary_form=True)
    assert leaf is not None
    found = x509.load_der_x509_certificate(leaf).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return set(found.value.get_values_for_type(x509.DNSName))


class ServedTests(SynchronousTestCase):
    """One gate with a file for its certificates, and Pebble."""

    def setUp(self) -> None:
        if not Pebble.is_installed():
            raise SkipTest("Debian's package pebble is not installed")
        self.folder = Path(tempfile.mkdtemp(prefix="swarmgate-acme-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def gate(self, pebble: Pebble, *challenge: str) -> Gate:
        """Start a gate whose entry points are where the authority looks."""
        # The checks of HTTP-01 and TLS-ALPN-01 go to ports of Pebble's choice.
        resolver = "--certificatesResolvers.le.acme"
        gate = Gate(
            ROUTES,
            f"--entryPoints.plain.address=127.0.0.1:{pebble.http_port}",
            "--entryPoints.plain.http.redirections.entryPoint.to=websecure",
            f"--entryPoints.websecure.address=127.0.0.1:{pebble.tls_port}",
            f"{resolver}.caServer={pebble.directory}",
            f"{resolver}.caCertificates={pebble.ca}",
            f"{resolver}.storage={self.folder}/certificates.json",
            *(f"{resolver}.{one}" for one in challenge),
        )
        self.addCleanup(gate.stop)
        return gate

    def obtained(self, pebble: Pebble, gate: Gate) -> None:
        """See that both certificates come to be served."""
        wanted = {
            "shop.gate.example": {"shop.gate.example"},
            "other.gate.example": {"gate.example", "other.gate.example"},
        }
        deadline = time.monotonic() + 40
        while any(names_served(pebble.tls_port, host) != names for host, names in wanted.items()):
            self.assertLess(time.monotonic(), deadline, gate.said())
            time.sleep(0.1)
        self.assertEqual(2, pebble.log().count("Issued certificate serial"))
        self.assertEqual(0o600, os.stat(self.folder / "certificates.json").st_mode & 0o777)

    def test_http(self) -> None:
        """By HTTP-01 on an entry point that redirects everything else to HTTPS; after a restart nothing is ordered."""
        with Pebble(self.folder) as pebble:
            gate = self.gate(pebble, "httpChallenge.entryPoint=plain")
            self.obtained(pebble, gate)
            self.assertEqual(0, gate.stop())
            again = self.gate(pebble, "httpChallenge.entryPoint=plain")
            self.assertEqual({"shop.gate.example"}, names_served(pebble.tls_port, "shop.gate.example"))
            self.assertEqual(0, again.stop())
            self.assertEqual(2, pebble.log().count("Issued certificate serial"))

    def test_tls_alpn(self) -> None:
        """By TLS-ALPN-01 on the entry point that serves the routers themselves."""
        with Pebble(self.folder) as pebble:
            gate = self.gate(pebble, "tlsChallenge=true")
            self.obtained(pebble, gate)
            self.assertEqual(0, gate.stop())
