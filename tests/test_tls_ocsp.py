"""Tests for OCSP stapling: which answers are shown to clients, when responders are asked, and what OpenSSL shows."""

from __future__ import annotations

import datetime
import itertools
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.tls import Certificate, TLSOptions
from swarmgate.tls.certificates import read_certificate
from swarmgate.tls.contexts import server_context
from swarmgate.tls.ocsp import OCSPError, Question, question_about, refresh_after, staple_of
from swarmgate.tls.stapling import Stapler
from tests.pki import NOW, START, Authority, authority

URL = "http://ocsp.example/"
ISSUER = Authority("ocsp intermediate", authority())
MOMENT = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
DAY = 86400.0


def certificate(
    name: str = "a.example", responder: str = URL, issuer: Authority = ISSUER, kind: str = "EC"
) -> Certificate:
    pair = issuer.issue(name, responder=responder, kind=kind)
    return Certificate(*read_certificate(pair.chain, pair.key, f"{name}.crt"))


def question(one: Certificate) -> Question:
    asked = question_about(one.chain)
    assert asked is not None
    return asked


def answer(
    about: Question,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    begin: float = -DAY,
    end: float | None = DAY,
    key: ec.EllipticCurvePrivateKey = ISSUER.key,
    issuer: x509.Certificate = ISSUER.certificate,
    signer: x509.Certificate = ISSUER.certificate,
) -> bytes:
    """What a responder says, DER; *begin* and *end* in seconds from now on."""
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = ocsp.OCSPResponseBuilder().add_response(
        about.leaf,
        issuer,
        hashes.SHA1(),
        status,
        MOMENT + datetime.timedelta(seconds=begin),
        None if end is None else MOMENT + datetime.timedelta(seconds=end),
        MOMENT if revoked else None,
        x509.ReasonFlags.key_compromise if revoked else None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer)
    if signer is not ISSUER.certificate:
        builder = builder.certificates([signer])
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def delegate(usage: x509.ObjectIdentifier, by: Authority = ISSUER, days: int = 3650) -> tuple[Any, Any]:
    """A certificate that answers may be signed with, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "responder")]))
        .issuer_name(by.name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(START + datetime.timedelta(days=days))
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .sign(by.key, hashes.SHA256())
    )
    return made, key


class DecisionTests(SynchronousTestCase):
    """What is asked, and which answers are taken."""

    def setUp(self) -> None:
        self.question = question(certificate())

    def refused(self, body: bytes) -> str:
        return str(self.assertRaises(OCSPError, staple_of, self.question, body, NOW))

    def test_question(self) -> None:
        """The responder that the certificate names is asked about it; without one, or without an issuer, nobody."""
        self.assertEqual(URL, self.question.url)
        request = ocsp.load_der_ocsp_request(self.question.body)
        self.assertEqual(self.question.leaf.serial_number, request.serial_number)
        self.assertIsNone(question_about(certificate(responder="").chain))
        self.assertIsNone(question_about(certificate(issuer=authority()).chain))
        self.assertIsNone(question_about(certificate(responder="ldap://ocsp.example/").chain))

    def test_good(self) -> None:
        """An answer that says good, signed by the issuer, is shown until it says that there is a newer one."""
        body = answer(self.question)
        staple = staple_of(self.question, body, NOW)
        self.assertEqual((body, NOW + DAY), (staple.response, staple.until))
        self.assertEqual(NOW, staple_of(self.question, answer(self.question, end=None, begin=0.0), NOW).until - DAY)

    def test_delegate(self) -> None:
        """An answer of somebody whom the issuer lets answer is good, that of another is not."""
        signer, key = delegate(ExtendedKeyUsageOID.OCSP_SIGNING)
        self.assertEqual(NOW + DAY, staple_of(self.question, answer(self.question, key=key, signer=signer), NOW).until)
        for one in (
            delegate(ExtendedKeyUsageOID.SERVER_AUTH),
            delegate(ExtendedKeyUsageOID.OCSP_SIGNING, Authority("stranger")),
            delegate(ExtendedKeyUsageOID.OCSP_SIGNING, days=10),
        ):
            self.assertIn("not signed", self.refused(answer(self.question, key=one[1], signer=one[0])))

    def test_refused(self) -> None:
        """What is not good, not from the authority, not of now or not about this certificate is not shown."""
        stranger = Authority("ocsp intermediate")
        self.assertIn("revoked", self.refused(answer(self.question, ocsp.OCSPCertStatus.REVOKED)))
        self.assertIn("does not know", self.refused(answer(self.question, ocsp.OCSPCertStatus.UNKNOWN)))
        self.assertIn("not signed", self.refused(answer(self.question, key=stranger.key, signer=stranger.certificate)))
        self.assertIn("no longer", self.refused(answer(self.question, begin=-2 * DAY, end=-1.0)))
        self.assertIn("yet to come", self.refused(answer(self.question, begin=DAY, end=2 * DAY)))
        self.assertIn("another certificate", self.refused(answer(question(certificate("b.example")))))
        self.assertIn("another certificate", self.refused(answer(self.question, issuer=stranger.certificate)))
        unwell = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
        self.assertIn("try later", self.refused(unwell.public_bytes(serialization.Encoding.DER)))
        self.assertIn("can't be read", self.refused(b"<html>"))
        self.assertIn("can't be read", self.refused(b""))

    def test_refresh(self) -> None:
        """A new answer is got at half of the old one's life, more or less."""
        staple = staple_of(self.question, answer(self.question, begin=0.0), NOW)
        self.assertEqual(
            [0.4 * DAY, 0.5 * DAY, 0.6 * DAY], [round(refresh_after(staple, NOW, chance), 3) for chance in (0, 0.5, 1)]
        )


class StaplerTests(SynchronousTestCase):
    """When responders are asked."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[tuple[str, Deferred[bytes]]] = []
        self.one = certificate()
        self.stapler = self.make({})
        self.lines: list[str] = []

    def make(self, overrides: dict[str, str]) -> Stapler:
        return Stapler(self.clock, self.fetch, overrides, lambda: NOW + self.clock.seconds(), lambda: 0.5)

    def fetch(self, url: str, body: bytes) -> Deferred[bytes]:
        deferred: Deferred[bytes] = Deferred()
        self.asked.append((url, deferred))
        return deferred

    def answers(self, begin: float = 0.0, end: float = DAY) -> bytes:
        body = answer(question(self.one), begin=begin, end=end)
        self.asked[-1][1].callback(body)
        return body

    def test_staples(self) -> None:
        """A certificate has its staple as soon as the responder has answered, and those without one ask nobody."""
        self.stapler.watch([self.one, certificate("b.example", "")])
        self.clock.pump([0] * 4)
        self.assertEqual([URL], [url for url, _ in self.asked])
        self.assertIsNone(self.stapler.staple(self.one))
        body = self.answers()
        self.assertEqual(body, self.stapler.staple(self.one))

    def test_replaced(self) -> None:
        """At half of its life it is replaced; while that fails the old one is shown, until it ends."""
        self.stapler.watch([self.one])
        self.clock.pump([0] * 2)
        body = self.answers()
        self.clock.pump([DAY / 2 - 10, 0, 0])
        self.assertEqual(1, len(self.asked))
        self.clock.pump([11, 0, 0])
        self.assertEqual(2, len(self.asked))
        self.asked[-1][1].errback(OSError("unreachable"))
        self.assertEqual(body, self.stapler.staple(self.one))
        self.clock.advance(DAY / 2)
        self.assertIsNone(self.stapler.staple(self.one))
        self.clock.pump([0, 0])
        self.asked[-1][1].callback(later := answer(question(self.one), begin=0.0, end=3 * DAY))
        self.assertEqual(later, self.stapler.staple(self.one))

    def test_back_off(self) -> None:
        """A responder that does not answer is asked less and less, and a handshake waits for none."""
        self.stapler.watch([self.one])
        times = []
        for _ in range(20_000):
            before = len(self.asked)
            self.clock.advance(10)
            times += [self.clock.seconds()] * (len(self.asked) - before)
        pauses = [second - first for first, second in itertools.pairwise(times)]
        self.assertGreater(pauses[1], pauses[0])
        self.assertLess(len(times), 20)
        self.assertLess(max(pauses), 6.1 * 3600)

    def test_together(self) -> None:
        """No more than four are asked at a time, whatever the number of certificates."""
        many = [certificate(f"n{number}.example") for number in range(10)]
        self.stapler.watch(many)
        self.clock.pump([0] * 30)
        self.assertEqual(4, len(self.asked))
        self.asked[0][1].errback(OSError("unreachable"))
        self.clock.pump([0] * 30)
        self.assertEqual(5, len(self.asked))

    def test_forgotten(self) -> None:
        """Nobody is asked about certificates that are served no more."""
        self.stapler.watch([self.one])
        self.clock.pump([0] * 2)
        self.answers()
        self.stapler.watch([])
        self.assertIsNone(self.stapler.staple(self.one))
        self.assertEqual([], self.clock.getDelayedCalls())
        self.stapler.watch([certificate("b.example")])
        self.clock.pump([0] * 2)
        self.stapler.stop()
        self.clock.advance(0)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_overrides(self) -> None:
        """A responder that another is named for is not asked itself."""
        stapler = self.make({URL: "http://mirror.example/"})
        stapler.watch([self.one])
        self.clock.pump([0] * 2)
        self.assertEqual(["http://mirror.example/"], [url for url, _ in self.asked])
        stapler.stop()


class ContextTests(SynchronousTestCase):
    """What OpenSSL shows to clients that ask."""

    def shown(self, find: Callable[[Certificate], bytes | None], suites: str = "") -> str:
        """What ``openssl s_client -status`` says, played to a context in memory over a pair of sockets."""
        certificates = (certificate(), certificate(kind="RSA"))
        context = server_context(TLSOptions(), certificates, ("http/1.1",), b"k" * 80, find)
        with socket.create_server(("127.0.0.1", 0)) as server:

            def serve() -> None:
                client, _ = server.accept()
                with context.wrap_socket(client, server_side=True) as wrapped:
                    wrapped.recv(10)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            port = server.getsockname()[1]
            said = subprocess.run(
                ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-status", *suites.split()],
                input=b"Q\n",
                capture_output=True,
                timeout=20,
            )
            thread.join(20)
        return said.stdout.decode("utf-8", "replace")

    def test_shown(self) -> None:
        """A client that asks is shown the staple of the certificate that it gets, in TLS 1.2 and 1.3."""
        for suites, kind in (
            ("-tls1_3", "EC"),
            ("-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256", "EC"),
            ("-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256", "RSA"),
        ):
            asked: list[str] = []

            def find(one: Certificate, asked: list[str] = asked) -> bytes:
                asked.append(one.kind)
                return answer(question(one))

            said = self.shown(find, suites)
            self.assertIn("OCSP Response Status: successful", said)
            self.assertIn("Cert Status: good", said)
            self.assertEqual([kind], asked)

    def test_nothing(self) -> None:
        """Where there is nothing to show, or to find it fails, the handshake goes on without."""

        def fails(one: Certificate) -> bytes:
            raise RuntimeError

        for find in (lambda one: None, fails):
            said = self.shown(find)
            self.assertIn("OCSP response: no response sent", said)
            self.assertIn("Cipher is TLS_", said)
