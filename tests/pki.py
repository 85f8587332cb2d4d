"""Authorities and certificates for tests, made in memory."""

from __future__ import annotations

import datetime
import functools
import ipaddress
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

#: The time at which all of it is valid, in seconds since 1970, for tests that have no clock: 2026-01-01.
NOW = 1767225600.0
#: When it begins to be valid.
START = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)


@attrs.frozen
class Pair:
    """A certificate with its key.

    :ivar chain: PEM, itself first.
    :ivar key: PEM.
    """

    chain: str
    key: str

    def write(self, folder: Path, name: str) -> tuple[str, str]:
        """Write ``name.crt`` and ``name.key``. Returns their paths."""
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        certificate.write_text(self.chain)
        key.write_text(self.key)
        return str(certificate), str(key)


class Authority:
    """Issues certificates.

    :ivar pem: its own certificate.
    """

    def __init__(self, name: str, issuer: Authority | None = None) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.issuer = issuer
        by = issuer or self
        self.certificate = (
            _builder(self.name, by.name, self.key.public_key(), 3650)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(by.key, hashes.SHA256())
        )
        self.pem = _pem(self.certificate)

    def issue(
        self, *names: str, days: int = 3000, kind: str = "EC", start: datetime.datetime = START, responder: str = ""
    ) -> Pair:
        """A certificate for *names*, hosts and addresses, that is valid for *days* from *start* on.

        :param responder: the URL of the OCSP responder that it names.
        """
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
        key = rsa_key() if kind == "RSA" else ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "nobody")])
        builder = _builder(subject, self.name, key.public_key(), days, start)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(ca=False), critical=True)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([*map(_name, names)]), critical=False)
        if responder:
            access = x509.AccessDescription(
                AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(responder)
            )
            builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
        chain = _pem(builder.sign(self.key, hashes.SHA256()))
        if self.issuer is not None:
            chain += self.pem
        return Pair(chain, key_pem(key))


@functools.cache
def authority(name: str = "test root") -> Authority:
    """The authority of that name."""
    return Authority(name)


@functools.cache
def rsa_key() -> rsa.RSAPrivateKey:
    """A key of 2048 bits: making one takes long, so that all have the same."""
    return rsa.generate_private_key(65537, 2048)


def key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> str:
    """*key* as PEM."""
    encryption = serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode("ascii")


def _builder(
    subject: x509.Name, issuer: x509.Name, public: object, days: int, start: datetime.datetime = START
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
    )


def _usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
