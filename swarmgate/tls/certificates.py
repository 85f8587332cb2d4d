"""Certificates and keys: read from PEM, checked, and told what is wrong with them.

What this imports takes 12 MB, so that :mod:`swarmgate.tls.reading` has it done in another process; and nothing of ours
is imported, so that this one soon has its answer.
"""

from __future__ import annotations

import datetime
import pickle
import sys
from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Written = tuple[str, str, str, str]
"""A chain and its key, PEM; where the chain was written, and where the key was."""
Fields = tuple[str, str, tuple[str, ...], float, float, str, str, str, str, str]
"""Those of a :class:`swarmgate.dynamic.tls.Certificate`, in their order."""
Answer = tuple[list[Fields | str], Fields]
"""What was read, or what is wrong with it; and a certificate of the gate's own."""


class CertificateError(ValueError):
    """A certificate or key that can't be used; says which and why, for people."""


def answer(many: Iterable[Written], now: float, common_name: str) -> Answer:
    """Each of *many* as :func:`read_certificate` reads it, and what :func:`make_default_certificate` makes."""

    def read(written: Written) -> Fields | str:
        try:
            return read_certificate(*written)
        except CertificateError as error:
            return str(error)
        except Exception as error:
            # The library has more ways to say so than it documents, and one certificate must not cost others theirs.
            return f"{written[2]}: it can't be read: {error or type(error).__name__}"

    return [read(written) for written in many], make_default_certificate(now, common_name)


def read_certificate(chain: str, key: str, origin: str, key_origin: str = "") -> Fields:
    """The certificate of *chain*, which is put in order, with its *key*.

    :param chain: PEM; the certificate and those of the authorities between it and the root, in any order.
    :param key: PEM, without a password.
    :param origin: where the certificate was written, and
    :param key_origin: where the key was, for messages.
    :raises CertificateError: what is wrong, and in which of them.
    """
    key_origin = key_origin or origin
    certificates = read_chain(chain, origin)
    try:
        private = serialization.load_pem_private_key(key.encode(), None)
    except TypeError:
        raise CertificateError(f"{key_origin}: the key has a password: expected one without") from None
    except (ValueError, UnsupportedAlgorithm):
        held = " (it holds a certificate)" if "BEGIN CERTIFICATE" in key else ""
        raise CertificateError(f"{key_origin}: no private key in PEM{held}") from None
    if isinstance(private, ec.EllipticCurvePrivateKey):
        kind = "EC"
    elif isinstance(private, rsa.RSAPrivateKey):
        kind = "RSA"
    elif isinstance(private, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        kind = "Ed25519"
    else:
        raise CertificateError(f"{key_origin}: a key for TLS is ECDSA, RSA or Ed25519")
    public = _spki(private.public_key())
    leaf = next((one for one in certificates if _spki(one.public_key()) == public), None)
    if leaf is None:
        raise CertificateError(f"{key_origin}: the key does not fit the certificate of {origin}")
    ordered = _in_order(leaf, certificates)
    return (
        "".join(one.public_bytes(serialization.Encoding.PEM).decode("ascii") for one in ordered),
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode("ascii"),
        _names(leaf),
        leaf.not_valid_before_utc.timestamp(),
        leaf.not_valid_after_utc.timestamp(),
        kind,
        origin,
        *identity_of(leaf),
    )


def read_chain(text: str, origin: str) -> list[x509.Certificate]:
    """The certificates of a PEM text.

    :raises CertificateError: there are none, or they are broken.
    """
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        held = " (it holds a private key)" if "PRIVATE KEY-----" in text else ""
        raise CertificateError(f"{origin}: no certificate in PEM{held}") from None


def identity_of(leaf: x509.Certificate) -> tuple[str, str, str]:
    """The common name of a certificate, its serial number, and its issuer's common name, else organisation."""
    return (
        _first(leaf.subject, NameOID.COMMON_NAME),
        str(leaf.serial_number),
        _first(leaf.issuer, NameOID.COMMON_NAME) or _first(leaf.issuer, NameOID.ORGANIZATION_NAME),
    )


def _first(name: x509.Name, kind: x509.ObjectIdentifier) -> str:
    found = name.get_attributes_for_oid(kind)
    return str(found[0].value) if found else ""


def make_default_certificate(now: float, common_name: str) -> Fields:
    """A certificate that the gate makes itself, for clients that no other is for: ECDSA on P-256, of its own issue.

    :param now: seconds since 1970.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    start = datetime.datetime.fromtimestamp(now, datetime.UTC).replace(microsecond=0)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - datetime.timedelta(hours=1))
        .not_valid_after(start + datetime.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("swarmgate.default")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(private, hashes.SHA256())
    )
    return read_certificate(
        certificate.public_bytes(serialization.Encoding.PEM).decode("ascii"),
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode("ascii"),
        "the gate itself",
    )


def _spki(public: object) -> bytes:
    return public.public_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _in_order(leaf: x509.Certificate, certificates: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """*leaf*, its issuer, that one's, and so on; roots and what does not belong to it left out."""
    ordered = [leaf]
    left = [one for one in certificates if one != leaf and one.subject != one.issuer]
    while left and ordered[-1].issuer != ordered[-1].subject:
        issuer = next((one for one in left if one.subject == ordered[-1].issuer), None)
        if issuer is None:
            break
        left.remove(issuer)
        ordered.append(issuer)
    return ordered


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    names: list[str] = []
    try:
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        pass
    else:
        names += alternatives.get_values_for_type(x509.DNSName)
        names += [str(address) for address in alternatives.get_values_for_type(x509.IPAddress)]
    if not names:
        names = [str(one.value) for one in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return tuple(dict.fromkeys(name.lower().rstrip(".") for name in names))


def main() -> None:
    """Answer what :mod:`swarmgate.tls.reading` asks on standard input."""
    sys.stdout.buffer.write(pickle.dumps(answer(*pickle.load(sys.stdin.buffer))))  # noqa: S301 -- of our own other process


if __name__ == "__main__":
    main()
