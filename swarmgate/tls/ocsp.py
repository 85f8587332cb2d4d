"""What an authority says about whether a certificate is still good (OCSP, RFC 6960), as pure decisions."""

from __future__ import annotations

import datetime

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

#: Seconds that clocks may differ by.
_SKEW = 300.0
#: Seconds that an answer is good for which does not say when there will be a newer one.
_UNSAID = 86400.0


class OCSPError(ValueError):
    """An answer that can't be shown to clients; says why, for people."""


@attrs.frozen(eq=False)
class Question:
    """What a responder is asked.

    :ivar url: of the responder that the certificate names (RFC 5280, 4.2.2.1).
    :ivar body: the request (RFC 6960, 4.1.1), DER.
    """

    leaf: x509.Certificate
    issuer: x509.Certificate
    url: str
    body: bytes


@attrs.frozen
class Staple:
    """An answer that clients can be shown.

    :ivar response: DER, as it came.
    :ivar until: seconds since 1970 when it is no longer good.
    """

    response: bytes
    until: float


def question_about(chain: str) -> Question | None:
    """What to ask about the first certificate of *chain*, PEM; its issuer is the second.

    None if it names no responder that is reached over HTTP, or its issuer is not there.
    """
    certificates = x509.load_pem_x509_certificates(chain.encode())
    if len(certificates) < 2:
        return None
    leaf, issuer = certificates[:2]
    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    for description in access:
        place = description.access_location
        if (
            description.access_method == AuthorityInformationAccessOID.OCSP
            and isinstance(place, x509.UniformResourceIdentifier)
            and place.value.startswith(("http://", "https://"))
        ):
            # SHA-1 names the issuer and secures nothing; it is what all responders know (RFC 5019, 2.1.1).
            request = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1()).build()  # noqa: S303
            return Question(leaf, issuer, place.value, request.public_bytes(serialization.Encoding.DER))
    return None


def staple_of(question: Question, answer: bytes, now: float) -> Staple:
    """The staple that *answer* is (RFC 6960, 3.2).

    :param answer: DER.
    :param now: seconds since 1970.
    :raises OCSPError: it is none, not about this certificate, not from its authority, or says that it is not good.
    """
    try:
        response = ocsp.load_der_ocsp_response(answer)
        status = response.response_status
        if status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise OCSPError(f"the responder says {status.name.lower().replace('_', ' ')}")
        _verify(question.issuer, response, now)
        single = next((one for one in response.responses if _is_about(question, one)), None)
    except OCSPError:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise OCSPError(f"the answer can't be read: {error}") from None
    if single is None:
        raise OCSPError("the answer is about another certificate")
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        raise OCSPError("the authority has revoked the certificate")
    if single.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        raise OCSPError("the responder does not know the certificate")
    begin = single.this_update_utc.timestamp()
    end = begin + _UNSAID if single.next_update_utc is None else single.next_update_utc.timestamp()
    if begin > now + _SKEW:
        raise OCSPError(f"the answer is of {single.this_update_utc:%Y-%m-%d %H:%M} UTC, which is yet to come")
    if end <= now:
        raise OCSPError("the answer is no longer good")
    return Staple(answer, end)


def refresh_after(staple: Staple, now: float, chance: float) -> float:
    """Seconds until a staple got now should be replaced: half of its life, a tenth more or less.

    :param chance: from 0 to 1.
    """
    return max(staple.until - now, 0.0) * (0.4 + 0.2 * chance)


def _is_about(question: Question, single: ocsp.OCSPSingleResponse) -> bool:
    wanted = ocsp.OCSPRequestBuilder().add_certificate(question.leaf, question.issuer, single.hash_algorithm).build()
    return (single.serial_number, single.issuer_name_hash, single.issuer_key_hash) == (
        wanted.serial_number,
        wanted.issuer_name_hash,
        wanted.issuer_key_hash,
    )


def _verify(issuer: x509.Certificate, response: ocsp.OCSPResponse, now: float) -> None:
    """The issuer has signed, or somebody whom it lets do so (RFC 6960, 4.2.2.2)."""
    for signer in (issuer, *(one for one in response.certificates if _is_delegate(issuer, one, now))):
        if _has_signed(signer, response):
            return
    raise OCSPError("the answer is not signed by the certificate's authority")


def _is_delegate(issuer: x509.Certificate, one: x509.Certificate, now: float) -> bool:
    try:
        one.verify_directly_issued_by(issuer)
        usage = one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    return ExtendedKeyUsageOID.OCSP_SIGNING in usage and one.not_valid_before_utc <= moment <= one.not_valid_after_utc


def _has_signed(signer: x509.Certificate, response: ocsp.OCSPResponse) -> bool:
    key, algorithm = signer.public_key(), response.signature_hash_algorithm
    signature, signed = response.signature, response.tbs_response_bytes
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm is not None:
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm is not None:
            key.verify(signature, signed, ec.ECDSA(algorithm))
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, signed)
        else:
            return False
    except InvalidSignature:
        return False
    return True
