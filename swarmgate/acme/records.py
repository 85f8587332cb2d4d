"""What is kept in records: accounts, certificates and challenges as JSON."""

from __future__ import annotations

import json
from typing import Any

import attrs

from swarmgate.acme.certificate import Certificate, certificate_from
from swarmgate.acme.challenge import Challenge


@attrs.frozen
class Account:
    """An account with an authority.

    :ivar authority: the URL of the authority's directory.
    :ivar uri: of the account.
    :ivar key_pem: its key, PKCS#8 in PEM.
    :ivar thumbprint: of its key (RFC 7638), in base64url: what answers to HTTP-01 challenges end with.
    :ivar identity: what it was made for, see :func:`swarmgate.acme.wanted.identity_of`.
    """

    authority: str
    uri: str
    key_pem: bytes = attrs.field(repr=False)
    thumbprint: str
    identity: str = ""
    email: str = ""


def encode(value: Account | Certificate | Challenge) -> bytes:
    """*value* as :func:`decode_account` and :func:`decode_certificate` read it."""
    fields = attrs.asdict(
        value, recurse=False, value_serializer=lambda _, __, one: one.decode("ascii") if isinstance(one, bytes) else one
    )
    return json.dumps(fields, sort_keys=True).encode()


def decode_account(content: bytes) -> Account:
    """The account that was encoded.

    :raises ValueError: it was not.
    """
    fields = _object(content)
    try:
        return Account(
            str(fields["authority"]),
            str(fields["uri"]),
            fields["key_pem"].encode("ascii"),
            str(fields["thumbprint"]),
            str(fields.get("identity", "")),
            str(fields.get("email", "")),
        )
    except (KeyError, AttributeError, UnicodeError) as error:
        raise ValueError(f"no account: {type(error).__name__}") from None


def decode_certificate(content: bytes) -> Certificate:
    """The certificate that was encoded.

    :raises ValueError: it was not, or its key is not its own.
    """
    fields = _object(content)
    try:
        chain, key = fields["chain_pem"].encode("ascii"), fields["key_pem"].encode("ascii")
        domains = tuple(str(domain) for domain in fields["domains"])
        return certificate_from(chain, key, domains, str(fields.get("origin", "")), str(fields.get("resolver", "")))
    except (KeyError, AttributeError, TypeError, UnicodeError) as error:
        raise ValueError(f"no certificate: {type(error).__name__}") from None


def encode_challenges(challenges: tuple[Challenge, ...]) -> bytes:
    """The challenges of one order, as :func:`decode_challenges` reads them."""
    return json.dumps({"challenges": [json.loads(encode(one)) for one in challenges]}).encode()


def decode_challenges(content: bytes) -> tuple[Challenge, ...]:
    """The challenges that were encoded.

    :raises ValueError: they were not.
    """
    try:
        return tuple(
            Challenge(str(one["domain"]), one["cert_pem"].encode("ascii"), one["key_pem"].encode("ascii"))
            for one in _object(content)["challenges"]
        )
    except (KeyError, AttributeError, TypeError, UnicodeError) as error:
        raise ValueError(f"no challenges: {type(error).__name__}") from None


def _object(content: bytes) -> dict[str, Any]:
    fields = json.loads(content)
    if not isinstance(fields, dict):
        raise ValueError("no JSON object")
    return fields
