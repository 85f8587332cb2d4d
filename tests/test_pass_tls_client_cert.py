"""Tests for swarmgate.middlewares.pass_tls_client_cert."""

from __future__ import annotations

import datetime
import ipaddress
from typing import Any
from urllib.parse import unquote_plus

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.message import field_values
from swarmgate.middlewares import KINDS, build
from swarmgate.middlewares.pass_tls_client_cert import told_of
from swarmgate.structure import structure
from tests.exchanges import Origin, context_of, exchange_of, lead

PEM = b"x-forwarded-tls-client-cert"
INFO = b"x-forwarded-tls-client-cert-info"
WHOLE_NAME = ("country", "province", "locality", "organization", "commonName", "serialNumber", "domainComponent")
ALL = {
    "notAfter": "true",
    "notBefore": "true",
    "sans": "true",
    "serialNumber": "true",
    "subject": dict.fromkeys((*WHOLE_NAME, "organizationalUnit"), "true"),
    "issuer": dict.fromkeys(WHOLE_NAME, "true"),
}


def name(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])


def certificate() -> bytes:
    """A certificate that says much (DER)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = name(
        (NameOID.COMMON_NAME, "Zoë & co"),
        (NameOID.COUNTRY_NAME, "FR"),
        (NameOID.COUNTRY_NAME, "DE"),
        (NameOID.STATE_OR_PROVINCE_NAME, "Alsace"),
        (NameOID.LOCALITY_NAME, "Colmar"),
        (NameOID.ORGANIZATION_NAME, "Cheese"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "Soft"),
        (NameOID.SERIAL_NUMBER, "77"),
        (NameOID.DOMAIN_COMPONENT, "org"),
    )
    alternatives = [
        x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
        x509.RFC822Name("z@a.example"),
        x509.DNSName("*.a.example"),
        x509.UniformResourceIdentifier("spiffe://a/b"),
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(name((NameOID.COMMON_NAME, "root"), (NameOID.ORGANIZATIONAL_UNIT_NAME, "unsaid")))
        .public_key(key.public_key())
        .serial_number(4711)
        .not_valid_before(datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


class Transport:
    """A connection whose client has shown a certificate, or none."""

    def __init__(self, der: bytes) -> None:
        self._der = der

    def peer_certificate(self) -> bytes:
        return self._der


def told(der: bytes, options: Any, *fields: tuple[str, str], stream: bool = False) -> list[tuple[bytes, bytes]]:
    """What the server gets of a request over a connection with this certificate."""
    exchange = exchange_of("/", *fields, secure=True, trusted=True)
    client: Any = exchange.client
    if stream:
        client.connection = type("Connection", (), {"transport": Transport(der)})()
    else:
        client.transport = Transport(der)
    settings = structure(KINDS["passtlsclientcert"], options, "passTLSClientCert")
    origin = Origin()
    lead(exchange, build("passtlsclientcert", settings, context_of()), origin=origin)
    return origin.reached[0].request.fields


class PassTLSClientCertTests(SynchronousTestCase):
    def test_pem(self) -> None:
        """The certificate is one line of Base64, over HTTP/1.1 and HTTP/2, whatever the client has said itself."""
        der = certificate()
        for stream in (False, True):
            [value] = field_values(
                told(der, {"pem": "true"}, ("X-Forwarded-Tls-Client-Cert", "forged"), stream=stream), PEM
            )
            restored = b"-----BEGIN CERTIFICATE-----\n" + value + b"\n-----END CERTIFICATE-----\n"
            self.assertEqual(x509.load_pem_x509_certificate(restored).public_bytes(Encoding.DER), der)

    def test_info(self) -> None:
        """All that can be told is told in Traefik's order and spelling, escaped."""
        fields = told(certificate(), {"info": ALL})
        self.assertEqual(field_values(fields, PEM), [])
        [value] = field_values(fields, INFO)
        self.assertTrue(value.startswith(b"Subject%3D%22DC%3Dorg%2CC%3DFR"), value)
        self.assertEqual(
            unquote_plus(value.decode("ascii")),
            'Subject="DC=org,C=FR,C=DE,ST=Alsace,L=Colmar,O=Cheese,OU=Soft,SN=77,CN=Zoë & co";Issuer="CN=root";'
            'SerialNumber="4711";NB="1735689600";NA="1893456000";'
            'SAN="*.a.example,z@a.example,192.0.2.1,spiffe://a/b"',
        )

    def test_some(self) -> None:
        """What was not asked for is not told."""
        [value] = field_values(told(certificate(), {"info": {"subject": {"commonName": "true"}}}), INFO)
        self.assertEqual(unquote_plus(value.decode("ascii")), 'Subject="CN=Zoë & co"')

    def test_none(self) -> None:
        """A client without a certificate is told of by nothing."""
        fields = told(b"", {"pem": "true", "info": ALL})
        self.assertEqual(field_values(fields, PEM) + field_values(fields, INFO), [])

    def test_not_tls(self) -> None:
        """Nor is one without TLS."""
        settings = structure(KINDS["passtlsclientcert"], {"pem": "true"}, "passTLSClientCert")
        client = lead(exchange_of("/"), build("passtlsclientcert", settings, context_of()))
        self.assertEqual(client.status, 200)

    @given(st.binary(max_size=200))
    def test_any(self, der: bytes) -> None:
        """Nothing that a client shows makes a field that is none."""
        settings = structure(KINDS["passtlsclientcert"], {"pem": "true", "info": ALL}, "passTLSClientCert")
        for _, value in told_of(der, settings):
            self.assertNotRegex(value, rb"[^!-~]")
