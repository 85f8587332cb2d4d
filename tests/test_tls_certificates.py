"""Certificates are checked, put in order, and found by host."""

from __future__ import annotations

import ssl

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.tls import DEFAULT_NAME, Certificate, doubts_about
from swarmgate.tls.certificates import (
    CertificateError,
    answer,
    make_default_certificate,
    read_certificate,
    read_chain,
)
from swarmgate.tls.store import CertificateStore
from swarmgate.tls.tickets import ROTATE_EVERY, TicketKeys
from tests.pki import NOW, START, Authority, authority, key_pem


def read(*names: str, **issue: object) -> Certificate:
    pair = authority().issue(*names, **issue)  # type: ignore[arg-type]
    return Certificate(*read_certificate(pair.chain, pair.key, "a.crt", "a.key"))


class CertificateTests(SynchronousTestCase):
    def test_names(self) -> None:
        """A certificate is for the names in it, and for as long as it says."""
        certificate = read("A.example", "*.B.example", "10.0.0.1", days=10)
        self.assertEqual(certificate.names, ("a.example", "*.b.example", "10.0.0.1"))
        self.assertEqual(certificate.not_after - certificate.not_before, 10 * 86400)
        self.assertEqual((certificate.kind, certificate.origin), ("EC", "a.crt"))
        self.assertEqual(read("a.example", kind="RSA").kind, "RSA")
        identity = (certificate.common_name, certificate.serial.isdigit(), certificate.issuer)
        self.assertEqual(identity, ("A.example", True, "test root"))

    def test_order(self) -> None:
        """Whatever its order in the file, the certificate is served first, then its issuers, without the root."""
        between = Authority("between", authority())
        pair = between.issue("a.example")
        leaf, issuer = pair.chain.split("-----END CERTIFICATE-----\n")[:2]
        end = "-----END CERTIFICATE-----\n"
        mixed = authority().pem + issuer + end + leaf + end
        self.assertEqual(read_certificate(mixed, pair.key, "a.crt")[0], pair.chain)

    def test_faults(self) -> None:
        """What is wrong is told with the file in which it is."""
        pair, other = authority().issue("a.example"), authority().issue("b.example")
        locked = key_pem(ec.generate_private_key(ec.SECP256R1()), b"password")
        for chain, key, message in (
            (pair.chain, other.key, "a.key: the key does not fit the certificate of a.crt"),
            (pair.chain, locked, "a.key: the key has a password: expected one without"),
            (pair.chain, pair.chain, "a.key: no private key in PEM (it holds a certificate)"),
            (pair.chain, "", "a.key: no private key in PEM"),
            (pair.key, pair.key, "a.crt: no certificate in PEM (it holds a private key)"),
            ("", pair.key, "a.crt: no certificate in PEM"),
            (pair.chain[:200], pair.key, "a.crt: no certificate in PEM"),
        ):
            error = self.assertRaises(CertificateError, read_certificate, chain, key, "a.crt", "a.key")
            self.assertEqual(str(error), message)

    def test_unknown_version(self) -> None:
        """A certificate that the library refuses in a way of its own costs itself, and no other."""
        pair = authority().issue("a.example")
        der = ssl.PEM_cert_to_DER_cert(pair.chain)
        version = b"\xa0\x03\x02\x01"
        self.assertEqual(der.count(version + b"\x02"), 1)
        strange = ssl.DER_cert_to_PEM_cert(der.replace(version + b"\x02", version + b"\x01"))
        written = ((strange, pair.key, "s.crt", "s.key"), (pair.chain, pair.key, "a.crt", "a.key"))
        (said, fields), own = answer(written, NOW, DEFAULT_NAME)
        self.assertTrue(isinstance(said, str) and said.startswith("s.crt: it can't be read: "), said)
        self.assertEqual((Certificate(*fields).names, Certificate(*own).common_name), (("a.example",), DEFAULT_NAME))

    def test_doubts(self) -> None:
        """One that has expired, is not valid yet or names nobody is told."""
        certificate = read("a.example", days=30)
        begin = START.timestamp()
        self.assertEqual(doubts_about(certificate, begin + 10), "")
        self.assertEqual(doubts_about(certificate, begin + 31 * 86400), "the certificate expired on 2025-01-31")
        self.assertEqual(doubts_about(certificate, begin - 1), "the certificate is not valid before 2025-01-01")

    def test_secrets(self) -> None:
        """A key is shown nowhere."""
        certificate = read("a.example")
        self.assertNotIn("PRIVATE", repr(certificate))
        self.assertNotIn("PRIVATE", repr(authority().issue("a.example").chain))

    def test_default(self) -> None:
        """The gate's own certificate is marked as such, and OpenSSL takes it."""
        certificate = Certificate(*make_default_certificate(NOW, DEFAULT_NAME))
        self.assertEqual((certificate.kind, doubts_about(certificate, NOW)), ("EC", ""))
        subject = read_chain(certificate.chain, "")[0].subject.rfc4514_string()
        self.assertEqual(subject, f"CN={DEFAULT_NAME}")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificate.chain)


class StoreTests(SynchronousTestCase):
    def certificate(self, *names: str, **given: object) -> Certificate:
        return Certificate("".join(names), str(given), names, **{"not_after": NOW + 1000, **given})  # type: ignore[arg-type]

    def test_by_host(self) -> None:
        """A host's own certificate comes before one for any label, and that stands for one label alone."""
        default = self.certificate("default")
        own, wild = self.certificate("a.example"), self.certificate("*.example", "example")
        store = CertificateStore((wild, own), default, NOW)
        for name, expected in (
            ("a.example", (own,)),
            ("b.example", (wild,)),
            ("example", (wild,)),
            ("a.b.example", None),
            (".example", None),
            ("", None),
            ("*.example", (wild,)),
        ):
            self.assertEqual(store.find(name), expected, name)
        self.assertEqual(store.default, (default,))

    def test_several(self) -> None:
        """Of several for one name, the valid one that lives longest is served, one for each kind of key."""
        expired = self.certificate("a", not_after=NOW - 1)
        short, long = self.certificate("a", not_after=NOW + 10), self.certificate("a", not_after=NOW + 20)
        early = self.certificate("a", not_before=NOW + 5, not_after=NOW + 30)
        rsa = self.certificate("a", kind="RSA")
        found = CertificateStore((expired, short, long, early, rsa), expired, NOW).find("a")
        self.assertEqual(set(found or ()), {long, rsa})


class TicketTests(SynchronousTestCase):
    def test_keys(self) -> None:
        """Who has the same secret has the same keys; another time or purpose has others."""
        one, same, other = TicketKeys(b"a" * 32), TicketKeys(b"a" * 32), TicketKeys(b"b" * 32)
        self.assertEqual(one.key(1, "x"), same.key(1, "x"))
        keys = {one.key(1, "x"), other.key(1, "x"), one.key(2, "x"), one.key(1, "y")}
        self.assertEqual((len(keys), {len(key) for key in keys}), (4, {80}))
        self.assertEqual(one.period(NOW) + 1, one.period(NOW + ROTATE_EVERY))
        # As cryptography derives it: replicas of another version have the same.
        derived = HKDF(hashes.SHA256(), 80, None, b"swarmgate session tickets 1 x").derive(b"a" * 32)
        self.assertEqual(one.key(1, "x"), derived)

    def test_short_secret(self) -> None:
        """A secret that could be guessed is refused."""
        self.assertRaises(ValueError, TicketKeys, b"a" * 31)
