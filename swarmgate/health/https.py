"""How servers that speak TLS are asked: under the transport of their service, as requests are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from swarmgate.dynamic.tls import ServersTransport

_BEGIN = "-----BEGIN CERTIFICATE-----"


@implementer(IPolicyForHTTPS)
class TransportPolicy:
    """Verifies servers as their transports say.

    :ivar transports: by the host of the servers' URLs; those that are not there get *default*.
    """

    def __init__(self, default: ServersTransport) -> None:
        self.transports: Mapping[str, ServersTransport] = {}
        self._default = default

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        """What makes the TLS of a connection to *hostname*."""
        host = hostname.decode("ascii").strip("[]")
        transport = self.transports.get(host, self._default)
        shown = None
        if transport.certificates:
            pair = transport.certificates[0]
            shown = PrivateCertificate.loadPEM((pair.key_file + pair.cert_file).encode())
        if transport.insecure_skip_verify:
            return _Unverified(shown)
        authorities = [
            Certificate.loadPEM((_BEGIN + text).encode())
            for pem in transport.root_cas
            for text in pem.split(_BEGIN)[1:]
        ]
        root = trustRootFromCertificates(authorities) if authorities else platformTrust()
        return optionsForClientTLS(transport.server_name or host, trustRoot=root, clientCertificate=shown)


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """TLS with whoever is there."""

    def __init__(self, shown: PrivateCertificate | None) -> None:
        options = shown.options() if shown is not None else CertificateOptions()
        self._context = options.getContext()
        self._context.set_verify(SSL.VERIFY_NONE)

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """OpenSSL's connection, in memory."""
        return SSL.Connection(self._context, None)
