"""The keys of session tickets, which let a client take up a session where it left off (RFC 8446, 2.2; RFC 5077).

Whoever has the same secret has the same keys: other workers, other replicas. They change with time, so that a key that
has leaked opens no older sessions; a ticket of an older key costs its client a full handshake, and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac

from swarmgate.tls.openssl import TICKET_KEY

ROTATE_EVERY = 12 * 3600.0
"""Seconds for which a key is used."""


class TicketKeys:
    """Makes the keys.

    :param secret: at least 32 octets that nobody else knows.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 32:
            raise ValueError(f"a secret of at least 32 octets, not {len(secret)}")
        self._secret = secret

    @staticmethod
    def period(now: float) -> int:
        """In which period *now*, in seconds since 1970, is: each has its own keys."""
        return int(now // ROTATE_EVERY)

    def key(self, period: int, purpose: str) -> bytes:
        """The key of a period.

        :param purpose: what sessions are for. Those of another purpose have another key: a session that has begun
            without a client's certificate must not go on where one is required.
        """
        info = f"swarmgate session tickets {period} {purpose}".encode()
        return _hkdf(self._secret, info, TICKET_KEY)


def _hkdf(secret: bytes, info: bytes, length: int) -> bytes:
    """A key derived from *secret*: HKDF with SHA-256 and no salt (RFC 5869), without the 10 MB of cryptography."""
    extracted = hmac.digest(bytes(hashlib.sha256().digest_size), secret, "sha256")
    key = block = b""
    number = 1
    while len(key) < length:
        block = hmac.digest(extracted, block + info + bytes((number,)), "sha256")
        key += block
        number += 1
    return key[:length]
