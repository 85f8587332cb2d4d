"""The values of TLS: certificates, options and how servers are reached; and how files write them (Traefik ``tls``)."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Literal

import attrs

from swarmgate.structure import Duration, not_yet, option

_Version = Literal["VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13"]

VERSIONS = ("VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13")
"""From the oldest to the newest, as Go calls them."""

CIPHER_SUITES: Mapping[str, str] = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    # TLS 1.3's are always there, as in Go.
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
}
"""Cipher suites by Go's names, with OpenSSL's."""

DEFAULT_NAME = "SWARMGATE DEFAULT CERT"
"""The common name of the certificate that the gate makes itself."""

INTERMEDIATE = tuple(dict.fromkeys(list(CIPHER_SUITES.values())[:6]))
"""The cipher suites of Mozilla's intermediate profile for TLS 1.2, by OpenSSL's names."""

CURVES: Mapping[str, str] = {
    "X25519": "X25519",
    "CurveP256": "P-256",
    "CurveP384": "P-384",
    "CurveP521": "P-521",
    "secp256r1": "P-256",
    "secp384r1": "P-384",
    "secp521r1": "P-521",
}
"""Curves by Go's names, with OpenSSL's."""

_SUITES = {name.lower(): name for name in CIPHER_SUITES}
_CURVES = {name.lower(): name for name in CURVES}


def _cipher_suite(text: str) -> str:
    if text.lower() not in _SUITES:
        raise ValueError("a cipher suite by Go's name, such as TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")
    return _SUITES[text.lower()]


def _curve(text: str) -> str:
    if text.lower() not in _CURVES:
        raise ValueError("a curve: X25519, CurveP256, CurveP384 or CurveP521")
    return _CURVES[text.lower()]


def _protocol(text: str) -> str:
    if not 0 < len(text.encode()) < 256 or not text.isascii():
        raise ValueError("the name of a protocol, such as http/1.1")
    return text


@attrs.frozen(cache_hash=True)
class ClientAuth:
    """``tls.options.X.clientAuth``"""

    ca_files: tuple[str, ...] = option(
        default=(), doc="Authorities whose certificates clients may show: files, or their text (PEM)."
    )
    client_auth_type: Literal[
        "NoClientCert",
        "RequestClientCert",
        "RequireAnyClientCert",
        "VerifyClientCertIfGiven",
        "RequireAndVerifyClientCert",
    ] = option(default="NoClientCert", doc="Whether clients are asked for a certificate, and whether it is verified.")


@attrs.frozen(cache_hash=True)
class TLSOptions:
    """``tls.options.X``: what is asked of TLS clients. Without any, it is Mozilla's intermediate profile."""

    min_version: _Version = option(default="VersionTLS12", doc="The oldest version that is spoken.")
    max_version: Literal["", "VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13"] = option(
        default="", doc="The newest version that is spoken; none: the newest there is."
    )
    cipher_suites: tuple[str, ...] = option(
        default=(), parse=_cipher_suite, doc="The cipher suites of TLS 1.2 and older, by Go's names; none: Mozilla's."
    )
    curve_preferences: tuple[str, ...] = option(
        default=(), parse=_curve, doc="The curves, best first; none: X25519, CurveP256, CurveP384."
    )
    client_auth: ClientAuth = option(factory=ClientAuth, doc="Certificates of clients.")
    sni_strict: bool = option(
        default=False, doc="Refuse clients whose host no certificate is for; false: they get the default one."
    )
    alpn_protocols: tuple[str, ...] = option(
        default=(), parse=_protocol, doc="The protocols that are offered, best first; none: all that swarmgate speaks."
    )
    disable_session_tickets: bool = option(default=False, doc="Clients can't take up sessions again.")
    prefer_server_cipher_suites: bool | None = option(default=None, doc="Taken as Traefik takes it, without effect.")

    def __attrs_post_init__(self) -> None:
        if self.max_version and VERSIONS.index(self.max_version) < VERSIONS.index(self.min_version):
            raise ValueError(f"maxVersion {self.max_version} is older than minVersion {self.min_version}")
        mode = self.client_auth.client_auth_type
        if mode in ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert") and not self.client_auth.ca_files:
            raise ValueError(f"clientAuth.clientAuthType {mode} needs caFiles")


@attrs.frozen
class CertificateFiles:
    """``tls.certificates[n]``: a certificate that has still to be read."""

    cert_file: str = option(doc="The certificate and the authorities' between it and the root: a file, or its text.")
    key_file: str = option(secret=True, doc="Its private key: a file, or its text.")
    stores: tuple[str, ...] = option(default=(), doc="Taken; default is the only store that there is.")


@not_yet("defaultGeneratedCert")
@attrs.frozen
class StoreFiles:
    """``tls.stores.X``"""

    default_certificate: CertificateFiles | None = option(
        default=None, doc="The certificate for hosts that none of the others is for."
    )


@attrs.frozen
class TLSFiles:
    """``tls`` of a file."""

    certificates: tuple[CertificateFiles, ...] = option(default=(), doc="Certificates.")
    options: Mapping[str, TLSOptions] = option(factory=dict, doc="What is asked of TLS clients, by name.")
    stores: Mapping[str, StoreFiles] = option(factory=dict, doc="Only ``default``.")


@attrs.frozen
class ForwardingTimeouts:
    """``serversTransports.X.forwardingTimeouts``; seconds, 0 for ever; none: what ``serversTransport`` says."""

    dial_timeout: Duration | None = option(default=None, doc="Longest time for connecting to a server.")
    response_header_timeout: Duration | None = option(default=None, doc="Longest wait for an answer's head.")
    idle_conn_timeout: Duration | None = option(default=None, doc="How long an unused connection is kept.")


@not_yet("spiffe", "peerCertURI", "peerCertSANs", "cipherSuites", "minVersion", "maxVersion")
@attrs.frozen(cache_hash=True)
class ServersTransport:
    """``serversTransports.X``: how a service's servers are reached."""

    server_name: str = option(default="", doc="The name in the servers' certificates; none: their host.")
    insecure_skip_verify: bool = option(default=False, doc="Do not verify the servers' certificates.")
    root_cas: tuple[str, ...] = option(
        default=(), key="rootCAs", doc="Authorities of the servers' certificates; none: the system's."
    )
    certificates: tuple[CertificateFiles, ...] = option(
        default=(), doc="Certificates to show to servers; the first is used."
    )
    max_idle_conns_per_host: int | None = option(default=None, doc="Unused connections that are kept.")
    disable_http2: bool = option(default=False, key="disableHTTP2", doc="Speak HTTP/1.1 only.")
    forwarding_timeouts: ForwardingTimeouts = option(factory=ForwardingTimeouts, doc="Deadlines.")


@attrs.frozen
class Domain:
    """``tls.domains[n]`` of a router: what a certificate is asked for."""

    main: str = option(default="", doc="The certificate's name.")
    sans: tuple[str, ...] = option(default=(), doc="Other names in it.")


@attrs.frozen
class RouterTLS:
    """``routers.X.tls``: the router takes requests that came over TLS, and no others."""

    options: str = option(default="", doc="What is asked of clients, as ``strict@file``; none: ``default``.")
    cert_resolver: str = option(default="", doc="Who fetches certificates for its hosts.")
    domains: tuple[Domain, ...] = option(default=(), doc="What certificates are asked for; none: the rule's hosts.")


@attrs.frozen(cache_hash=True)
class Certificate:
    """A certificate that has been read and found to fit its key.

    :ivar chain: PEM, itself first, then each one's issuer.
    :ivar key: PEM, without a password.
    :ivar names: that it is for: hosts in lower case, ``*.`` for any one label, and addresses.
    :ivar not_before: when it begins to be valid, and :ivar not_after: when it ends; seconds since 1970.
    :ivar kind: of key: ``EC``, ``RSA`` or ``Ed25519``.
    :ivar origin: where it was read, for messages.
    :ivar common_name: of its subject; ``""`` for none.
    :ivar serial: its number, as its issuer has given it.
    :ivar issuer: who has issued it: the common name, else the organisation, ``""`` for neither.
    """

    chain: str = attrs.field(repr=False)
    key: str = attrs.field(repr=False)
    names: tuple[str, ...] = ()
    not_before: float = 0.0
    not_after: float = 0.0
    kind: str = "EC"
    origin: str = ""
    common_name: str = ""
    serial: str = ""
    issuer: str = ""


@attrs.frozen
class TLSConfiguration:
    """What a provider has to say of TLS.

    :ivar default: the certificate for hosts that none of the others is for, None for none.
    :ivar options: by name, without ``@provider``.
    """

    certificates: tuple[Certificate, ...] = ()
    default: Certificate | None = None
    options: Mapping[str, TLSOptions] = attrs.field(factory=dict)


def is_pem(text: str) -> bool:
    """Whether *text* is the thing itself, not the path of a file."""
    return "-----BEGIN" in text


def doubts_about(certificate: Certificate, now: float) -> str:
    """What is wrong with a certificate that is served all the same, ``""`` for nothing.

    :param now: seconds since 1970.
    """
    if now > certificate.not_after:
        return f"the certificate expired on {_day(certificate.not_after)}"
    if now < certificate.not_before:
        return f"the certificate is not valid before {_day(certificate.not_before)}"
    if not certificate.names:
        return "the certificate names no host: no client asks for it"
    return ""


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d")
