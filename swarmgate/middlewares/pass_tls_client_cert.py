"""``passTLSClientCert``: servers are told of the certificate that the client has shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ssl import DER_cert_to_PEM_cert
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import attrs
from cryptography.x509 import (
    Certificate,
    DNSName,
    ExtensionNotFound,
    GeneralName,
    IPAddress,
    Name,
    ObjectIdentifier,
    RFC822Name,
    SubjectAlternativeName,
    UniformResourceIdentifier,
    load_der_x509_certificate,
)
from cryptography.x509.oid import NameOID

from swarmgate.http.message import without
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.structure import option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange
    from swarmgate.http.message import Fields

KIND = "passTLSClientCert"

_PEM = b"X-Forwarded-Tls-Client-Cert"
_INFO = b"X-Forwarded-Tls-Client-Cert-Info"
#: Certificates of which is remembered what is told.
_REMEMBERED = 1024
#: Parts of names in the order in which they are told: option, type and what it is called.
_PARTS: tuple[tuple[str, ObjectIdentifier, str], ...] = (
    ("domain_component", NameOID.DOMAIN_COMPONENT, "DC"),
    ("country", NameOID.COUNTRY_NAME, "C"),
    ("province", NameOID.STATE_OR_PROVINCE_NAME, "ST"),
    ("locality", NameOID.LOCALITY_NAME, "L"),
    ("organization", NameOID.ORGANIZATION_NAME, "O"),
    ("organizational_unit", NameOID.ORGANIZATIONAL_UNIT_NAME, "OU"),
    ("serial_number", NameOID.SERIAL_NUMBER, "SN"),
    ("common_name", NameOID.COMMON_NAME, "CN"),
)
#: Kinds of alternative names, in that order.
_KINDS: tuple[type[GeneralName], ...] = (DNSName, RFC822Name, IPAddress, UniformResourceIdentifier)


@attrs.frozen
class Issuer:
    """What is told of the name of its issuer."""

    country: bool = option(default=False, doc="``C``")
    province: bool = option(default=False, doc="``ST``")
    locality: bool = option(default=False, doc="``L``")
    organization: bool = option(default=False, doc="``O``")
    common_name: bool = option(default=False, doc="``CN``")
    serial_number: bool = option(default=False, doc="``SN``")
    domain_component: bool = option(default=False, doc="``DC``")


@attrs.frozen
class Subject(Issuer):
    """What is told of the name that it is for."""

    organizational_unit: bool = option(default=False, doc="``OU``")


@attrs.frozen
class Info:
    """What is told of it in ``X-Forwarded-Tls-Client-Cert-Info``."""

    not_after: bool = option(default=False, doc="``NA``: until when it is valid, in seconds since 1970.")
    not_before: bool = option(default=False, doc="``NB``: from when on.")
    sans: bool = option(default=False, doc="``SAN``: its alternative names.")
    serial_number: bool = option(default=False, doc="``SerialNumber``: its number.")
    subject: Subject | None = option(default=None, doc="Which parts of the name that it is for.")
    issuer: Issuer | None = option(default=None, doc="Which parts of the name of its issuer.")


@attrs.frozen
class Settings:
    """Options of ``passTLSClientCert``."""

    pem: bool = option(
        default=False,
        doc="The certificate itself in ``X-Forwarded-Tls-Client-Cert``: PEM without its first and last line.",
    )
    info: Info | None = option(default=None, doc="What is told of it.")


class PassTLSClientCert(Middleware):
    """Adds fields to requests that came over TLS from a client with a certificate."""

    __slots__ = ("_known", "_settings")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[bytes, Fields] = {}

    def request(self, exchange: Exchange) -> None:
        client: Any = exchange.client
        # A stream has a connection.
        transport = getattr(getattr(client, "connection", client), "transport", None)
        shown: Callable[[], bytes] | None = getattr(transport, "peer_certificate", None)
        certificate = shown() if shown is not None else b""
        if not certificate:
            return
        told = self._known.get(certificate)
        if told is None:
            told = told_of(certificate, self._settings)
            if len(self._known) < _REMEMBERED:
                self._known[certificate] = told
        for name, value in told:
            exchange.request.fields = [*without(exchange.request.fields, name.lower()), (name, value)]


def told_of(der: bytes, settings: Settings) -> Fields:
    """The fields that tell of the certificate *der* (Traefik ``passTLSClientCert``); what can't be read is left out."""
    fields = []
    if settings.pem:
        fields.append((_PEM, "".join(DER_cert_to_PEM_cert(der).splitlines()[1:-1]).encode("ascii")))
    if settings.info is not None:
        try:
            info = ";".join(_info(load_der_x509_certificate(der), settings.info))
        except ValueError:
            info = ""
        fields.append((_INFO, quote_plus(info).encode("ascii")))
    return fields


def _info(certificate: Certificate, info: Info) -> Iterator[str]:
    for word, options, name in (
        ("Subject", info.subject, certificate.subject),
        ("Issuer", info.issuer, certificate.issuer),
    ):
        parts = ",".join(_parts(name, options)) if options is not None else ""
        if parts:
            yield f'{word}="{parts}"'
    if info.serial_number:
        yield f'SerialNumber="{certificate.serial_number}"'
    if info.not_before:
        yield f'NB="{int(certificate.not_valid_before_utc.timestamp())}"'
    if info.not_after:
        yield f'NA="{int(certificate.not_valid_after_utc.timestamp())}"'
    if info.sans:
        yield f'SAN="{",".join(_sans(certificate))}"'


def _parts(name: Name, options: Issuer) -> Iterator[str]:
    for key, kind, word in _PARTS:
        if getattr(options, key, False):
            for part in name.get_attributes_for_oid(kind):
                yield f"{word}={part.value!s}"


def _sans(certificate: Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        return []
    return [str(name.value) for kind in _KINDS for name in names if isinstance(name, kind)]


def build(settings: Settings, context: Context) -> Middleware:
    """What tells for one route."""
    return PassTLSClientCert(settings)
