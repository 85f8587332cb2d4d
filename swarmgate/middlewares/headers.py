"""``headers``: adds, changes and removes header fields, answers CORS preflights, sets the fields of browser security.

An empty value in *customRequestHeaders* or *customResponseHeaders* removes the field. A request field that is set or
removed takes with it those that a server could mistake for it, as ``X_User`` for ``X-User``. ``Host`` among the
request's fields is what the server is told as the host. Fields that frame a message or belong to one connection are
written by the gate alone and cannot be set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from swarmgate.http.errors import BadRequest
from swarmgate.http.exchange import NO_SNIFFING, PLAIN_TEXT
from swarmgate.http.message import Fields, Request, Response, field, field_values
from swarmgate.http.request_head import parse_host
from swarmgate.middlewares.fields import fields_of, name_of, spelling, value_of, without
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.middlewares.patterns import pattern_of
from swarmgate.middlewares.redirect_scheme import split_authority
from swarmgate.structure import at_least, option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange

KIND = "headers"

_HTTP_SCHEMES = {b"http": b"http", b"https": b"https", b"ws": b"http", b"wss": b"https"}
_NO_EFFECT = "Deprecated, without effect."


@attrs.frozen
class Settings:
    """Options of ``headers``."""

    custom_request_headers: Mapping[str, str] = option(
        factory=dict, doc="Fields of the request, as the server gets it; an empty value removes the field."
    )
    custom_response_headers: Mapping[str, str] = option(
        factory=dict, doc="Fields of the answer, as the client gets it; an empty value removes the field."
    )
    access_control_allow_credentials: bool = option(
        default=False, doc="Send Access-Control-Allow-Credentials: the client may send its credentials."
    )
    access_control_allow_headers: tuple[str, ...] = option(
        default=(), doc="Access-Control-Allow-Headers of a preflight's answer."
    )
    access_control_allow_methods: tuple[str, ...] = option(
        default=(), doc="Access-Control-Allow-Methods of a preflight's answer."
    )
    access_control_allow_origin_list: tuple[str, ...] = option(
        default=(), doc="Origins that Access-Control-Allow-Origin says are allowed; * for all."
    )
    access_control_allow_origin_list_regex: tuple[str, ...] = option(
        default=(), doc="Regular expressions (RE2) for such origins; they may match anywhere unless anchored."
    )
    access_control_expose_headers: tuple[str, ...] = option(default=(), doc="Access-Control-Expose-Headers.")
    access_control_max_age: int = option(
        default=0, doc="Access-Control-Max-Age of a preflight's answer: seconds that it may be remembered."
    )
    add_vary_header: bool = option(default=False, doc="Add Origin to the answer's Vary.")
    allowed_hosts: tuple[str, ...] = option(default=(), doc="Hosts that may be asked for; others are answered 500.")
    hosts_proxy_headers: tuple[str, ...] = option(
        default=(), doc="Request fields that say which host was asked for, before Host does."
    )
    ssl_proxy_headers: Mapping[str, str] = option(
        factory=dict, doc="Request fields whose given value says that the client's request came over TLS."
    )
    sts_seconds: int = option(
        default=0, validator=at_least(0), doc="max-age of Strict-Transport-Security; 0: it is not sent."
    )
    sts_include_subdomains: bool = option(default=False, doc="Add includeSubDomains to Strict-Transport-Security.")
    sts_preload: bool = option(default=False, doc="Add preload to Strict-Transport-Security.")
    force_sts_header: bool = option(
        default=False, key="forceSTSHeader", doc="Send Strict-Transport-Security without TLS too."
    )
    frame_deny: bool = option(default=False, doc="Send X-Frame-Options: DENY.")
    custom_frame_options_value: str = option(default="", doc="Send X-Frame-Options with this value.")
    content_type_nosniff: bool = option(default=False, doc="Send X-Content-Type-Options: nosniff.")
    browser_xss_filter: bool = option(default=False, doc="Send X-XSS-Protection: 1; mode=block.")
    custom_browser_xss_value: str = option(
        default="", key="customBrowserXSSValue", doc="Send X-XSS-Protection with this value."
    )
    content_security_policy: str = option(default="", doc="Content-Security-Policy.")
    content_security_policy_report_only: str = option(default="", doc="Content-Security-Policy-Report-Only.")
    public_key: str = option(default="", doc="Public-Key-Pins, sent over TLS only.")
    referrer_policy: str = option(default="", doc="Referrer-Policy.")
    permissions_policy: str = option(default="", doc="Permissions-Policy.")
    is_development: bool = option(
        default=False, doc="Check no allowedHosts; send neither Strict-Transport-Security nor Public-Key-Pins."
    )
    feature_policy: str = option(default="", doc=f"{_NO_EFFECT} permissionsPolicy has taken its place.")
    ssl_redirect: bool = option(default=False, doc=f"{_NO_EFFECT} Use redirectScheme.")
    ssl_temporary_redirect: bool = option(default=False, doc=f"{_NO_EFFECT} Use redirectScheme.")
    ssl_host: str = option(default="", doc=f"{_NO_EFFECT} Use redirectRegex.")
    ssl_force_host: bool = option(default=False, doc=f"{_NO_EFFECT} Use redirectRegex.")


class Headers(Middleware):
    """Changes the fields of requests and of their answers."""

    __slots__ = (
        "_allowed_hosts",
        "_authority",
        "_hosts_fields",
        "_is_cors",
        "_origins",
        "_patterns",
        "_plain",
        "_preflight",
        "_removed",
        "_scheme",
        "_set",
        "_tls",
        "_tls_fields",
        "_vary",
    )

    def __init__(self, settings: Settings) -> None:
        custom = fields_of(settings.custom_request_headers, "customRequestHeaders")
        self._authority = b""
        self._scheme = b""
        for name, value in custom:
            if name.lower() == b"host" and value:
                self._authority = _authority_of(value)
            elif name.lower() == b"x-forwarded-proto":
                self._scheme = _HTTP_SCHEMES.get(value.lower(), b"")
        custom = [pair for pair in custom if pair[0].lower() != b"host"]
        self._removed = frozenset(spelling(name) for name, _ in custom)
        self._set = [pair for pair in custom if pair[1]]
        self._allowed_hosts: frozenset[bytes] = frozenset()
        if not settings.is_development:
            self._allowed_hosts = frozenset(
                value_of(host.lower(), "allowedHosts").rstrip(b".") for host in settings.allowed_hosts
            )
        self._hosts_fields = [name_of(name, "hostsProxyHeaders").lower() for name in settings.hosts_proxy_headers]
        self._tls_fields = [
            (name_of(name, "sslProxyHeaders").lower(), value_of(value, f"sslProxyHeaders.{name}"))
            for name, value in settings.ssl_proxy_headers.items()
        ]
        self._is_cors = _is_cors(settings)
        self._origins = [
            value_of(one, "accessControlAllowOriginList") for one in settings.access_control_allow_origin_list
        ]
        self._patterns = [
            pattern_of(one, "accessControlAllowOriginListRegex")
            for one in settings.access_control_allow_origin_list_regex
        ]
        self._preflight = _preflight(settings)
        self._vary = settings.add_vary_header
        self._plain = _Change(settings, tls=False)
        self._tls = _Change(settings, tls=True)

    @property
    def changes_requests(self) -> bool:
        """Whether it does something before the answer."""
        return bool(self._is_cors or self._removed or self._authority or self._allowed_hosts)

    @property
    def changes_answers(self) -> bool:
        """Whether it does something with the answer."""
        return bool(self._is_cors or self._plain.removed or self._tls.removed)

    def request(self, exchange: Exchange) -> None:
        request = exchange.request
        if self._is_cors and request.method == b"OPTIONS" and self._answer_preflight(exchange):
            return
        if self._removed:
            request.fields = without(request.fields, self._removed) + self._set
            if self._scheme:
                request.scheme = self._scheme
        if self._authority:
            request.authority = self._authority
        if self._allowed_hosts and not self._is_allowed(request):
            exchange.answer(500, b"Bad Host\n", (PLAIN_TEXT, NO_SNIFFING))

    def response(self, exchange: Exchange, response: Response) -> None:
        change = self._tls if self._is_tls(exchange.request) else self._plain
        removed = change.removed
        fields = [pair for pair in response.fields if pair[0].lower() not in removed] if removed else response.fields
        fields = fields + change.set
        if self._is_cors:
            origin = self._allowed_origin(field(exchange.request.fields, b"origin") or b"")
            if origin:
                fields = [pair for pair in fields if pair[0].lower() != b"access-control-allow-origin"]
                fields.append((b"Access-Control-Allow-Origin", origin))
            if self._vary:
                fields = _with_vary(fields)
        response.fields = fields

    def _answer_preflight(self, exchange: Exchange) -> bool:
        origin = field(exchange.request.fields, b"origin")
        if not origin or not field(exchange.request.fields, b"access-control-request-method"):
            return False
        allowed = self._allowed_origin(origin)
        fields = list(self._preflight)
        if allowed:
            fields.append((b"Access-Control-Allow-Origin", allowed))
        exchange.answer(200, b"", fields)
        return True

    def _allowed_origin(self, origin: bytes) -> bytes:
        """What Access-Control-Allow-Origin says to *origin*, ``b""`` if nothing."""
        for one in self._origins:
            if one in (b"*", origin):
                return one
        text = origin.decode("latin-1")
        return origin if any(pattern.search(text) for pattern in self._patterns) else b""

    def _is_allowed(self, request: Request) -> bool:
        for name in self._hosts_fields:
            told = field(request.fields, name)
            if told:
                return told.lower() in self._allowed_hosts
        authority = request.authority.lower()
        return authority in self._allowed_hosts or split_authority(authority)[0].rstrip(b".") in self._allowed_hosts

    def _is_tls(self, request: Request) -> bool:
        if request.scheme == b"https":
            return True
        return any(value in field_values(request.fields, name) for name, value in self._tls_fields)


class _RequestOnly(Headers):
    """Leaves answers alone, and costs them nothing."""

    __slots__ = ()
    response = Middleware.response


class _ResponseOnly(Headers):
    """Leaves requests alone, and costs them nothing."""

    __slots__ = ()
    request = Middleware.request  # type: ignore[assignment]


class _Change:
    """What is done with an answer: the names (lower case) that are removed, the fields that are set."""

    __slots__ = ("removed", "set")

    def __init__(self, settings: Settings, tls: bool) -> None:
        # The later one counts: what the user wrote comes after the fields of browser security, CORS after both.
        fields: dict[bytes, tuple[bytes, bytes]] = {}
        for name, value in (
            *_security_fields(settings, tls),
            *fields_of(settings.custom_response_headers, "customResponseHeaders"),
            *_cors_fields(settings),
        ):
            fields[name.lower()] = (name, value)
        self.removed = frozenset(fields)
        self.set = [pair for pair in fields.values() if pair[1]]


def _security_fields(settings: Settings, tls: bool) -> Fields:
    fields = []
    production = not settings.is_development
    if settings.sts_seconds and production and (tls or settings.force_sts_header):
        subdomains = "; includeSubDomains" if settings.sts_include_subdomains else ""
        preload = "; preload" if settings.sts_preload else ""
        fields.append(("Strict-Transport-Security", f"max-age={settings.sts_seconds}{subdomains}{preload}"))
    frame = settings.custom_frame_options_value or ("DENY" if settings.frame_deny else "")
    xss = settings.custom_browser_xss_value or ("1; mode=block" if settings.browser_xss_filter else "")
    fields += [
        ("X-Frame-Options", frame),
        ("X-Content-Type-Options", "nosniff" if settings.content_type_nosniff else ""),
        ("X-XSS-Protection", xss),
        ("Public-Key-Pins", settings.public_key if tls and production else ""),
        ("Content-Security-Policy", settings.content_security_policy),
        ("Content-Security-Policy-Report-Only", settings.content_security_policy_report_only),
        ("Referrer-Policy", settings.referrer_policy),
        ("Permissions-Policy", settings.permissions_policy),
    ]
    return fields_of({name: value for name, value in fields if value}, "headers")


def _cors_fields(settings: Settings) -> Fields:
    fields = []
    if settings.access_control_allow_credentials:
        fields.append((b"Access-Control-Allow-Credentials", b"true"))
    if settings.access_control_expose_headers:
        exposed = value_of(",".join(settings.access_control_expose_headers), "accessControlExposeHeaders")
        fields.append((b"Access-Control-Expose-Headers", exposed))
    return fields


def _preflight(settings: Settings) -> Fields:
    fields = _cors_fields(settings)
    for name, key, values in (
        (b"Access-Control-Allow-Headers", "accessControlAllowHeaders", settings.access_control_allow_headers),
        (b"Access-Control-Allow-Methods", "accessControlAllowMethods", settings.access_control_allow_methods),
    ):
        if values:
            fields.append((name, value_of(",".join(values), key)))
    fields.append((b"Access-Control-Max-Age", b"%d" % settings.access_control_max_age))
    return fields


def _is_cors(settings: Settings) -> bool:
    return bool(
        settings.access_control_allow_credentials
        or settings.access_control_allow_headers
        or settings.access_control_allow_methods
        or settings.access_control_allow_origin_list
        or settings.access_control_allow_origin_list_regex
        or settings.access_control_expose_headers
        or settings.access_control_max_age
        or settings.add_vary_header
    )


def _with_vary(fields: Fields) -> Fields:
    values = field_values(fields, b"vary")
    members = [member.strip().lower() for value in values for member in value.split(b",")]
    if b"origin" in members or b"*" in members:
        return fields
    fields = [pair for pair in fields if pair[0].lower() != b"vary"]
    fields.append((b"Vary", b",".join([*values, b"Origin"])))
    return fields


def _authority_of(value: bytes) -> bytes:
    try:
        return parse_host(value)[0]
    except BadRequest:
        told = value.decode("latin-1")
        raise ValueError(f"customRequestHeaders.Host: {told!r} is no host, expected one such as a.example:80") from None


def build(settings: Settings, context: Context) -> Middleware:
    """The changes for one route.

    :raises ValueError: a name, a value or an expression is none, or nothing is asked for.
    """
    if settings == Settings():
        raise ValueError("headers: none of its options is given, expected at least one")
    headers = Headers(settings)
    if not headers.changes_answers:
        return _RequestOnly(settings)
    return headers if headers.changes_requests else _ResponseOnly(settings)
