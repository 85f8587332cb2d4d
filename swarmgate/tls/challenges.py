"""Certificates that answer TLS-ALPN-01 challenges (RFC 8737), for clients that ask for them and for nothing else."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterable
from typing import Protocol

from twisted.logger import Logger

from swarmgate.tls.contexts import load
from swarmgate.transport.client_hello import ClientHello

_log = Logger()
_PROTOCOL = b"acme-tls/1"


class Shown(Protocol):
    """What is shown to an authority that checks a domain."""

    @property
    def domain(self) -> str:
        """Whose control is to be shown."""

    @property
    def cert_pem(self) -> bytes:
        """The certificate, in PEM."""

    @property
    def key_pem(self) -> bytes:
        """Its key."""


class Challenges:
    """Finds the context for an authority's handshake, by the name that it asks for."""

    def __init__(self) -> None:
        self._contexts: dict[str, ssl.SSLContext] = {}

    def show(self, challenges: Iterable[Shown]) -> None:
        """Show these from now on, and no others."""
        contexts: dict[str, ssl.SSLContext] = {}
        for challenge in challenges:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols([_PROTOCOL.decode()])
            try:
                load(context, challenge.cert_pem.decode("ascii"), challenge.key_pem.decode("ascii"))
            except (ssl.SSLError, ValueError) as error:
                _log.error("challenge for {domain}: {reason}", domain=challenge.domain, reason=str(error))
                continue
            contexts[_name_of(challenge.domain)] = context
        self._contexts = contexts

    def __call__(self, hello: ClientHello) -> ssl.SSLContext | None:
        """The context for a client that says *hello*; None if it is no authority, or asks for what nobody has begun."""
        if not self._contexts or _PROTOCOL not in hello.protocols:
            return None
        return self._contexts.get(hello.server_name)


def _name_of(domain: str) -> str:
    """The name that is asked for: an address by its reverse name (RFC 8738, section 6)."""
    try:
        return ipaddress.ip_address(domain).reverse_pointer
    except ValueError:
        return domain
