"""OpenSSL's contexts: one for each pair of options and certificates, made when a client first needs it."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from swarmgate.dynamic.tls import CIPHER_SUITES, CURVES, INTERMEDIATE, Certificate, ServersTransport, TLSOptions
from swarmgate.tls import openssl
from swarmgate.tls.store import Certificates
from swarmgate.tls.tickets import TicketKeys

#: Some 30 KB each.
_KEPT_AT_MOST = 4096
#: As Mozilla and Go order them; OpenSSL puts the longest key first, whose SHA-384 few processors are fast at.
_TLS13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
_PRIORITIZE_CHACHA = 0x200000  # SSL_OP_PRIORITIZE_CHACHA
_INTERMEDIATE_GROUPS = ("X25519", "P-256", "P-384")
_VERSIONS = {
    "VersionTLS10": ssl.TLSVersion.TLSv1,
    "VersionTLS11": ssl.TLSVersion.TLSv1_1,
    "VersionTLS12": ssl.TLSVersion.TLSv1_2,
    "VersionTLS13": ssl.TLSVersion.TLSv1_3,
}


Staples = Callable[[Certificate], bytes | None]
"""Gives what clients of a certificate are shown of its authority (an OCSP response, DER), None for nothing."""


class ContextError(ValueError):
    """OpenSSL does not take these options or certificates; says why, for people."""


class ServerContexts:
    """The contexts for clients.

    :param protocols: what is spoken, best first, as ALPN calls it (RFC 7301).
    :param tickets: where the keys of session tickets come from.
    :param staples: what clients are shown of certificates' authorities; None: nothing.
    """

    def __init__(self, protocols: Sequence[str], tickets: TicketKeys, staples: Staples | None = None) -> None:
        self._staples = staples
        self._protocols = tuple(protocols)
        self._tickets = tickets
        self._period = 0
        self._contexts: OrderedDict[tuple[TLSOptions, Certificates], ssl.SSLContext] = OrderedDict()

    def get(self, options: TLSOptions, certificates: Certificates, now: float) -> ssl.SSLContext:
        """The context for clients of *options* and *certificates*.

        :param now: seconds since 1970.
        :raises ContextError: OpenSSL does not take them.
        """
        period = self._tickets.period(now)
        if period != self._period:
            self._period = period
            self._contexts.clear()
        key = (options, certificates)
        context = self._contexts.get(key)
        if context is None:
            ticket_key = self._tickets.key(period, repr(options))
            context = self._contexts[key] = server_context(
                options, certificates, self._protocols, ticket_key, self._staples
            )
            if len(self._contexts) > _KEPT_AT_MOST:
                self._contexts.popitem(last=False)
        return context

    def forget_others(self, certificates: Collection[Certificate]) -> None:
        """Keep contexts of *certificates* alone; connections have their own hold on theirs."""
        kept = set(certificates)
        for key in [key for key in self._contexts if not kept.issuperset(key[1])]:
            del self._contexts[key]


def server_context(
    options: TLSOptions,
    certificates: Certificates,
    protocols: Sequence[str],
    ticket_key: bytes,
    staples: Staples | None = None,
) -> ssl.SSLContext:
    """A context for clients. A connection keeps the one that it has begun with.

    :param protocols: what is spoken; *options* may want less.
    :param staples: asked in each handshake whose client wants to know.
    :raises ContextError: OpenSSL does not take the options or the certificates.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.minimum_version = _VERSIONS[options.min_version]
        if options.max_version:
            context.maximum_version = _VERSIONS[options.max_version]
        ciphers = [name for name in map(CIPHER_SUITES.__getitem__, options.cipher_suites) if name] or [*INTERMEDIATE]
        if context.minimum_version < ssl.TLSVersion.TLSv1_2:
            # These versions sign with SHA-1, which OpenSSL's usual level of security excludes.
            ciphers.append("@SECLEVEL=0")
            if not options.cipher_suites:
                ciphers[-1:-1] = ["ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA", "AES128-SHA"]
        context.set_ciphers(":".join(ciphers))
        openssl.set_cipher_suites(context, _TLS13)
        # The server's order counts, as in Go, but who puts ChaCha20 first has a processor without AES.
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | _PRIORITIZE_CHACHA
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.num_tickets = 1  # As in Go; the next connection brings another.
        if options.disable_session_tickets:
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
            openssl.no_session_cache(context)  # Or TLS 1.2 goes by ids.
        _set_groups(context, tuple(map(CURVES.__getitem__, options.curve_preferences)))
        offered = (
            [name for name in options.alpn_protocols if name in protocols] if options.alpn_protocols else protocols
        )
        if offered:
            context.set_alpn_protocols(offered)
        loaded = {}
        for certificate in certificates:
            load(context, certificate.chain, certificate.key)
            loaded[openssl.loaded_certificate(context)] = certificate
        if staples is not None:
            _staple(context, loaded, staples)
        _ask_for_certificate(context, options)
    except (ssl.SSLError, ValueError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else str(error)
        origins = ", ".join(certificate.origin for certificate in certificates)
        raise ContextError(f"the certificate of {origins} can't be served: {reason}") from None
    openssl.set_ticket_key(context, ticket_key)
    openssl.release_buffers(context)
    return context


def _staple(context: ssl.SSLContext, loaded: Mapping[int | None, Certificate], staples: Staples) -> None:
    def find(certificate: int) -> bytes | None:
        shown = loaded.get(certificate)
        return None if shown is None else staples(shown)

    openssl.staple(context, find)


def _set_groups(context: ssl.SSLContext, wanted: tuple[str, ...]) -> None:
    if not openssl.set_groups(context, wanted or _INTERMEDIATE_GROUPS) and wanted:
        context.set_ecdh_curve(
            {"P-256": "prime256v1", "P-384": "secp384r1", "P-521": "secp521r1"}.get(wanted[0], wanted[0])
        )


def _ask_for_certificate(context: ssl.SSLContext, options: TLSOptions) -> None:
    mode = options.client_auth.client_auth_type
    if mode == "NoClientCert":
        return
    for authority in options.client_auth.ca_files:
        _trust(context, authority)
    if mode == "VerifyClientCertIfGiven":
        context.verify_mode = ssl.CERT_OPTIONAL
    elif mode == "RequireAndVerifyClientCert":
        context.verify_mode = ssl.CERT_REQUIRED
    elif not openssl.ask_for_any_certificate(context, mode == "RequireAnyClientCert"):
        raise ValueError(f"clientAuthType {mode} is not possible with this build of Python")


def client_context(transport: ServersTransport, protocols: Sequence[str] = ("http/1.1",)) -> ssl.SSLContext:
    """A context for servers.

    :raises ContextError: OpenSSL does not take the authorities or the certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if transport.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif transport.root_cas:
            for authority in transport.root_cas:
                _trust(context, authority)
        else:
            context.load_default_certs()
        if transport.certificates:
            load(context, transport.certificates[0].cert_file, transport.certificates[0].key_file)
        context.set_alpn_protocols([*protocols])
        openssl.release_buffers(context)
    except (ssl.SSLError, ValueError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else str(error)
        raise ContextError(f"servers can't be reached so: {reason}") from None
    return context


def check_authorities(text: str, origin: str) -> None:
    """See whether *text*, PEM, has authorities.

    :param origin: where it was written, for the message.
    :raises ContextError: it has none, or they are broken.
    """
    try:
        _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), text)
    except (ssl.SSLError, ValueError):
        held = " (it holds a private key)" if "PRIVATE KEY-----" in text else ""
        raise ContextError(f"{origin}: no certificate in PEM{held}") from None


def _trust(context: ssl.SSLContext, authorities: str) -> None:
    # What is written between them may be in any language; ssl takes ASCII alone.
    context.load_verify_locations(cadata=authorities.encode("ascii", "ignore").decode("ascii"))


def load(context: ssl.SSLContext, chain: str, key: str) -> None:
    """Let *context* show a certificate, given as PEM; ssl takes files alone, so it gets one that is on no disk.

    :raises ssl.SSLError: they don't fit.
    """
    with _in_memory(chain) as certificate, _in_memory(key) as private:
        context.load_cert_chain(certificate, private, password=lambda: "")


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[str]:
    descriptor = os.memfd_create("swarmgate")
    try:
        os.write(descriptor, text.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
