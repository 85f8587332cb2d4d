"""TLS to a server that a middleware asks for itself, as Traefik's options have it."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path
from typing import Any, Protocol


class ClientTLS(Protocol):
    """The options; *ca*, *cert* and *key* name files, or are the text itself (PEM)."""

    @property
    def ca(self) -> str:
        """Of whom the server's certificate is; ``""``: of the system's authorities."""

    @property
    def cert(self) -> str:
        """The certificate to show."""

    @property
    def key(self) -> str:
        """Its key."""

    @property
    def insecure_skip_verify(self) -> bool:
        """Whether anybody will do."""


def files_of(options: ClientTLS | None) -> tuple[str, ...]:
    """The files among them, which may change."""
    given = () if options is None else (options.ca, options.cert, options.key)
    return tuple(one for one in given if one and "-----BEGIN" not in one)


def contents_of(options: ClientTLS | None) -> bytes:
    """A digest of what is in the files, so that a new one is noticed."""
    digest = hashlib.sha256()
    for name in files_of(options):
        try:
            digest.update(Path(name).read_bytes())
        except OSError:
            digest.update(b"\0")  # Whoever needs it tells.
        digest.update(name.encode())
    return digest.digest()


def context_of(options: ClientTLS, option: str) -> ssl.SSLContext:
    """What handshakes with the server go by.

    :param option: what gives the options, as ``redis.tls``.
    :raises ValueError: files are missing, or no certificates.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    what = f"{option}.ca"
    try:
        if options.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif options.ca:
            given: dict[str, Any] = {"cadata" if "-----BEGIN" in options.ca else "cafile": options.ca}
            context.load_verify_locations(**given)
        else:
            context.load_default_certs()
        what = f"{option}.cert and key"
        if options.cert:
            context.load_cert_chain(options.cert, options.key, password=lambda: "")
    except ssl.SSLError as error:
        raise ValueError(f"{what}: {error.reason or 'not as expected'}") from None
    except OSError as error:
        raise ValueError(f"{what}: {error.strerror or 'not readable'}") from None
    return context
