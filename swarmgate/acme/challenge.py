"""What is shown to an authority in a handshake, as a frozen value: workers get it, who have no use for X.509."""

from __future__ import annotations

import attrs


@attrs.frozen
class Challenge:
    """A TLS-ALPN-01 challenge's certificate, to be shown to who asks for *domain* by ``acme-tls/1`` (RFC 8737)."""

    domain: str
    cert_pem: bytes = attrs.field(repr=False)
    key_pem: bytes = attrs.field(repr=False)
