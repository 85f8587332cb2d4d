"""The options of ``certificatesResolvers``, by Traefik's names."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Literal

import attrs

from swarmgate.structure import Duration, at_least, not_yet, option


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", text):
        raise ValueError("the URL of an ACME directory, as https://acme-v02.api.letsencrypt.org/directory")
    return text


def _endpoint(text: str) -> str:
    if not re.fullmatch(r"(unix:///|(tcp|https?|ssh)://[^/])\S*", text):
        raise ValueError("a Docker API such as unix:///var/run/docker.sock, tcp://host:2375 or ssh://user@host")
    return text


def _storage(text: str) -> str:
    if not text or (re.match(r"swarm(:|$)", text) and not re.fullmatch(r"swarm(:[a-z0-9-]{1,20})?", text)):
        raise ValueError(
            "swarm, swarm:NAME with a name of up to 20 small letters, digits and hyphens, or the path of a file"
        )
    return text


def _provider(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9_-]+", text):
        raise ValueError("exec, or the name of a provider of dns-lexicon, as cloudflare or route53")
    return text


def _hmac(text: str) -> str:
    try:
        key = base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("a key in base64url, as the authority gave it")
    return text


@attrs.frozen
class ExternalAccountBinding:
    """An account that the authority knows already (RFC 8555, section 7.3.4)."""

    kid: str = option(doc="The key's id, as the authority gave it.")
    hmac_encoded: str = option(doc="The key, in base64url, as the authority gave it.", parse=_hmac, secret=True)


@attrs.frozen
class HTTPChallenge:
    """HTTP-01: the authority asks for /.well-known/acme-challenge/ on port 80."""

    entry_point: str = option(doc="The entry point that the authority reaches on port 80.")
    delay: Duration = option(default=Duration(0), doc="How long to wait before the authority is told to ask.")


@attrs.frozen
class TLSChallenge:
    """TLS-ALPN-01: the authority asks for a certificate on port 443."""

    delay: Duration = option(default=Duration(0), doc="How long to wait before the authority is told to ask.")


@not_yet("disableANSChecks", "requireAllRNS")
@attrs.frozen
class Propagation:
    """How it is told that DNS records are seen."""

    delay_before_checks: Duration = option(
        default=Duration(0), doc="How long to wait before the records are looked for."
    )
    disable_checks: bool = option(default=False, doc="Do not look for the records; wait for delayBeforeChecks alone.")
    timeout: Duration = option(
        default=Duration(120), doc="How long records are looked for before the order is given up. swarmgate's own."
    )


@attrs.frozen
class DNSChallenge:
    """DNS-01: the authority asks for a TXT record; the only way to wildcards."""

    provider: str = option(
        doc="Who serves the domains: a provider of dns-lexicon, whose options come from environment variables "
        "LEXICON_PROVIDER_OPTION, or exec: the program that EXEC_PATH names is called with present or cleanup, the "
        "record's name and its value.",
        parse=_provider,
    )
    resolvers: tuple[str, ...] = option(
        default=(), doc="DNS servers to look for the record at, as ``1.1.1.1:53``; by default those of the machine."
    )
    propagation: Propagation = option(factory=Propagation, doc="How it is told that records are seen.")
    delay_before_check: Duration = option(
        default=Duration(0), doc="The older name of propagation.delayBeforeChecks; the longer one counts."
    )
    disable_propagation_check: bool = option(default=False, doc="The older name of propagation.disableChecks.")


@attrs.frozen
class ACME:
    """An authority that signs certificates by RFC 8555."""

    email: str = option(default="", doc="Where the authority writes to.")
    ca_server: str = option(
        default="https://acme-v02.api.letsencrypt.org/directory", doc="The authority's directory.", parse=_url
    )
    storage: str = option(
        default="",
        doc="Where certificates are kept: ``swarm`` or ``swarm:NAME``, which all replicas share, or a file, for one "
        "process. By default swarm where there is ``providers.swarm``, else acme.json. Traefik's default is acme.json.",
        parse=_storage,
    )
    storage_key_file: str = option(
        default="/run/secrets/swarmgate-acme-key",
        doc="A file with the key that what is kept in the Swarm is encrypted with, a line each; the first encrypts, "
        "all decrypt. swarmgate's own.",
    )
    storage_endpoint: str = option(
        default="",
        doc="The Docker API that is written to for ``storage: swarm``; by default that of ``providers.swarm``. With "
        "two socket proxies the one for services stays read-only. swarmgate's own.",
        parse=_endpoint,
    )
    key_type: Literal["EC256", "EC384", "RSA2048", "RSA4096", "RSA8192"] = option(
        default="EC256", doc="The kind of the certificates' keys. Traefik's default is RSA4096."
    )
    certificates_duration: int = option(
        default=2160,
        doc="Taken, without effect: when a certificate is renewed follows from its own dates, or from what the "
        "authority says (ARI).",
        validator=at_least(1),
    )
    eab: ExternalAccountBinding | None = option(default=None, doc="An account that the authority knows already.")
    preferred_chain: str = option(
        default="", doc="Of the chains that the authority offers, the one with an issuer of this common name."
    )
    profile: str = option(default="", doc="The kind of certificate, of those that the authority offers.")
    email_addresses: tuple[str, ...] = option(
        default=(), doc="Taken, without effect: authorities no longer put addresses in certificates for servers."
    )
    disable_common_name: bool = option(default=False, doc="Leave the common name out of requests for certificates.")
    ca_certificates: tuple[str, ...] = option(
        default=(), doc="Files with the certificates that the authority's own is checked by.", key="caCertificates"
    )
    ca_system_cert_pool: bool = option(
        default=False, doc="Check it by those that the machine trusts as well.", key="caSystemCertPool"
    )
    ca_server_name: str = option(
        default="", doc="The name that the authority's certificate has, if not that of its URL."
    )
    client_timeout: Duration = option(
        default=Duration(120), doc="How long an order may take until it is given up.", validator=at_least(1)
    )
    client_response_header_timeout: Duration = option(
        default=Duration(30), doc="Longest wait for an answer of the authority.", validator=at_least(1)
    )
    certificate_timeout: Duration = option(
        default=Duration(30), doc="Longest wait for a certificate once all challenges are met.", validator=at_least(1)
    )
    http_challenge: HTTPChallenge | None = option(default=None, doc="HTTP-01.")
    tls_challenge: TLSChallenge | None = option(default=None, doc="TLS-ALPN-01.")
    dns_challenge: DNSChallenge | None = option(default=None, doc="DNS-01.")

    def __attrs_post_init__(self) -> None:
        given = [self.http_challenge, self.tls_challenge, self.dns_challenge]
        if sum(one is not None for one in given) != 1:
            raise ValueError("expected exactly one of httpChallenge, tlsChallenge and dnsChallenge")

    @property
    def challenge(self) -> str:
        """The type of its challenge as RFC 8555 names it, as ``http-01``."""
        if self.http_challenge is not None:
            return "http-01"
        return "tls-alpn-01" if self.tls_challenge is not None else "dns-01"


@not_yet("tailscale")
@attrs.frozen
class CertificatesResolver:
    """Where certificates come from."""

    acme: ACME | None = option(default=None, doc="An authority that signs certificates by RFC 8555.")
