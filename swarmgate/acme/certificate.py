"""Certificates as frozen values, and the X.509 that is needed to make and read them."""

from __future__ import annotations

import hashlib
import ipaddress
from datetime import UTC, datetime, timedelta
from functools import cached_property

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from swarmgate.acme.challenge import Challenge

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

KEY_TYPES = ("EC256", "EC384", "RSA2048", "RSA4096", "RSA8192")
"""Kinds of keys that a certificate may have (Traefik ``acme.keyType``)."""

_ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")


@attrs.frozen
class Certificate:
    """A certificate with its chain and key.

    :ivar domains: what it is good for: the main domain, then the others, as they were ordered.
    :ivar chain_pem: the certificate, then those that lead to a trusted one.
    :ivar key_pem: its key, PKCS#8 in PEM.
    :ivar not_before: when it begins to be valid, in seconds since 1970.
    :ivar not_after: when it ends.
    :ivar origin: where it comes from, for people, as ``resolver le``.
    :ivar resolver: the ``certificatesResolvers`` entry that it belongs to, ``""`` for none.
    """

    domains: tuple[str, ...]
    chain_pem: bytes = attrs.field(repr=False)
    key_pem: bytes = attrs.field(repr=False)
    not_before: float
    not_after: float
    origin: str = ""
    resolver: str = ""

    @property
    def lifetime(self) -> float:
        """How long it is valid from its first second to its last, in seconds."""
        return self.not_after - self.not_before

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names in the certificate itself, in lower case."""
        return tuple(name.lower() for name in names_in(x509.load_pem_x509_certificate(self.chain_pem)))

    @cached_property
    def kind(self) -> str:
        """The kind of its key: ``EC`` or ``RSA``."""
        public = x509.load_pem_x509_certificate(self.chain_pem).public_key()
        return "RSA" if isinstance(public, rsa.RSAPublicKey) else "EC"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in hexadecimal digits."""
        return x509.load_pem_x509_certificate(self.chain_pem).fingerprint(hashes.SHA256()).hex()


def make_key(key_type: str) -> PrivateKey:
    """A new key.

    :param key_type: one of :data:`KEY_TYPES`.
    """
    if key_type.startswith("EC"):
        return ec.generate_private_key(ec.SECP256R1() if key_type == "EC256" else ec.SECP384R1())
    return rsa.generate_private_key(65537, int(key_type.removeprefix("RSA")))


def key_pem(key: PrivateKey) -> bytes:
    """*key* as PKCS#8 in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_from(
    chain_pem: bytes, key: bytes, domains: tuple[str, ...] = (), origin: str = "", resolver: str = ""
) -> Certificate:
    """The certificate whose chain and key are given in PEM.

    :param domains: as they were ordered; ``()``: those in the certificate.
    :raises ValueError: what is given is no certificate, no key, or they don't belong together.
    """
    try:
        leaf = x509.load_pem_x509_certificate(chain_pem)
    except ValueError as error:
        raise ValueError(f"no certificate in PEM: {error}") from None
    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"no unencrypted private key in PEM: {error}") from None
    if _public(private.public_key()) != _public(leaf.public_key()):
        raise ValueError("the key is not that of the certificate")
    return Certificate(
        domains or names_in(leaf),
        chain_pem,
        key,
        leaf.not_valid_before_utc.timestamp(),
        leaf.not_valid_after_utc.timestamp(),
        origin,
        resolver,
    )


def names_in(leaf: x509.Certificate) -> tuple[str, ...]:
    """The domains and addresses that a certificate is good for, the main one first."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    except x509.ExtensionNotFound:
        found = []
    common = [str(name.value) for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return tuple(dict.fromkeys([name for name in common if name in found or not found] + found))


def signing_request(key: PrivateKey, domains: tuple[str, ...], common_name: bool) -> bytes:
    """A certificate signing request for *domains*, in PEM.

    :param common_name: put the main domain in the subject too, if it is short enough (RFC 5280, 64 characters).
    """
    main = [x509.NameAttribute(NameOID.COMMON_NAME, domains[0])] if common_name and len(domains[0]) <= 64 else []
    names = [_general_name(domain) for domain in domains]
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(main))
    request = request.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def tls_alpn_challenge(domain: str, key_authorization: str, now: float) -> Challenge:
    """The certificate that answers a TLS-ALPN-01 challenge (RFC 8737, section 3).

    :param now: in seconds since 1970; it is valid for a day around that.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    digest = hashlib.sha256(key_authorization.encode()).digest()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ACME challenge")])
    at = datetime.fromtimestamp(now, UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - timedelta(hours=12))
        .not_valid_after(at + timedelta(hours=12))
        .add_extension(x509.SubjectAlternativeName([_general_name(domain)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(_ACME_IDENTIFIER, b"\x04\x20" + digest), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Challenge(domain, certificate.public_bytes(serialization.Encoding.PEM), key_pem(key))


def issuers(chain_pem: bytes) -> tuple[str, ...]:
    """The common names of whoever issued the certificates of a chain, the top one last."""
    return tuple(
        str(name.value)
        for one in x509.load_pem_x509_certificates(chain_pem)
        for name in one.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    )


def _general_name(domain: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(domain))
    except ValueError:
        return x509.DNSName(domain)


def _public(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
