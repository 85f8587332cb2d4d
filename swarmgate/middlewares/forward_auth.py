"""``forwardAuth``: another server says of each request whether it may pass.

It is asked with the request's header fields, and with ``X-Forwarded-Method``, ``-Proto``, ``-Host``, ``-Uri`` and
``-For``, which say what the client wants. If it answers 2xx the request passes, with the fields of that answer that
*authResponseHeaders* names, and without those of the client's own that could be taken for them. Any other answer goes
to the client as it is.

Nobody passes unasked: a server that can't be reached, that breaks off, or whose answer is not whole within 30 s is
answered 500 for (Traefik). A client that leaves meanwhile takes the question back. Connections to the server are kept
and used again; each worker has its own, and as many questions at a time as there are requests.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import attrs
from twisted.internet.defer import Deferred

from swarmgate.http.between import Relay
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.exchange import Exchange, reason_of
from swarmgate.http.gathering import gather
from swarmgate.http.message import Fields, Request, Response, field, field_values
from swarmgate.http.secure_network import SecureNetwork
from swarmgate.http.upstream import Upstream, UpstreamSettings
from swarmgate.middlewares.client_tls import contents_of, context_of, files_of
from swarmgate.middlewares.fields import is_written_by_the_gate, name_of, spelling, value_of, without
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.middlewares.patterns import pattern_of
from swarmgate.structure import at_least, option

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

KIND = "forwardAuth"

#: Seconds for the whole of an answer.
_WITHIN = 30.0
_REACHED = UpstreamSettings(
    connect_timeout=10.0, response_timeout=_WITHIN, silence_timeout=0.0, progress_timeout=_WITHIN, idle_connections=256
)
#: What the auth server is told of the request, in place of what a client may have said.
_TOLD = frozenset(spelling(b"x-forwarded-" + name) for name in (b"for", b"host", b"method", b"proto", b"uri"))
_LONGEST_KEPT = 2**62


@attrs.frozen
class TLS:
    """TLS to the auth server."""

    ca: str = option(
        default="",
        doc="File with the server's authority, or its text (PEM); the system's authorities if nothing is given.",
    )
    cert: str = option(default="", doc="File with a certificate to show to the server.")
    key: str = option(default="", secret=True, doc="File with its key.")
    insecure_skip_verify: bool = option(default=False, doc="Do not verify the server's certificate.")

    def __attrs_post_init__(self) -> None:
        if bool(self.cert) != bool(self.key):
            raise ValueError("cert and key go together: one is given without the other")


@attrs.frozen
class Settings:
    """Options of ``forwardAuth``."""

    address: str = option(doc="The URL of the auth server, as ``http://auth:9000/check``.")
    tls: TLS | None = option(default=None, doc="How its certificate is verified, with https.")
    trust_forward_header: bool = option(
        default=False,
        doc="It is told what the ``X-Forwarded`` fields of the request say, where the entry point trusts the client's; "
        "else what the gate itself has seen.",
    )
    auth_response_headers: tuple[str, ...] = option(
        default=(), doc="Fields of its answer that the request passes with, in place of the client's."
    )
    auth_response_headers_regex: str = option(
        default="", doc="The same, of all fields whose name matches this regular expression."
    )
    auth_request_headers: tuple[str, ...] = option(
        default=(), doc="Fields of the request that it is asked with; none: all."
    )
    add_auth_cookies_to_response: tuple[str, ...] = option(
        default=(), doc="Cookies that its answer sets and the client gets, in place of the service's of that name."
    )
    header_field: str = option(default="", doc="The field of its answer that has the user's name, for the access log.")
    forward_body: bool = option(default=False, doc="It is asked with the request's body too, once that is whole.")
    max_body_size: int = option(
        default=-1,
        validator=at_least(-1),
        doc="A longer body is answered 401, with forwardBody; -1: what there is memory for, 64 MiB for all requests.",
    )
    max_response_body_size: int = option(
        default=-1, validator=at_least(-1), doc="An answer of it with a longer body is taken for 401; -1: no limit."
    )
    preserve_location_header: bool = option(
        default=False, doc="``Location`` of its answer stays relative, and means the client's host then."
    )
    preserve_request_method: bool = option(default=False, doc="It is asked with the request's method; else with GET.")
    auth_signin_url: str = option(
        default="", key="authSigninURL", doc="Where clients are sent (302) whom it answers 401."
    )


class AuthServer:
    """The auth server, with connections that are kept. It outlives tables.

    :param url: without path.
    """

    def __init__(self, url: str, tls: TLS | None, network: Any, deadlines: Deadlines) -> None:
        if url.startswith("https:"):
            network = SecureNetwork(network, context_of(tls or TLS(), "tls"), "", deadlines)
        self._upstream = Upstream(url, network, deadlines, _REACHED)

    listens = False

    def serve(self, exchange: Exchange) -> None:
        """Ask it."""
        self._upstream.send(exchange, self)

    def serve_afresh(self, exchange: Exchange) -> None:
        """Ask it over a new connection."""
        self._upstream.send(exchange, self, fresh=True)

    def close(self) -> None:
        """No table needs it any more."""
        self._upstream.retire()

    # The upstream's Chooser.

    def try_next(self, exchange: Exchange, status: int, was_sent: bool = False) -> None:
        """There is no other."""
        exchange.fail(status)

    def has_next(self, exchange: Exchange) -> bool:
        """There is no other."""
        return False

    def share_of_time(self, exchange: Exchange) -> float:
        """All of it."""
        return 1.0

    def answered(self, exchange: Exchange, response: Response) -> None:
        """Nobody listens."""

    def broke(self, exchange: Exchange) -> None:
        """Nobody listens."""


class ForwardAuth(Middleware):
    """Lets pass what the auth server says."""

    __slots__ = (
        "_authority",
        "_path",
        "_query",
        "_request_fields",
        "clock",
        "cookies",
        "named",
        "pattern",
        "server",
        "settings",
        "spellings",
        "user",
    )

    def __init__(self, settings: Settings, server: AuthServer, clock: IReactorTime) -> None:
        self.settings = settings
        self.server = server
        self.clock = clock
        parts = urlsplit(settings.address)
        self._authority = parts.netloc.encode("ascii")
        self._path = (parts.path or "/").encode("ascii")
        self._query = parts.query.encode("ascii") if "?" in settings.address else None
        self._request_fields = frozenset(
            name_of(name, "authRequestHeaders").lower() for name in settings.auth_request_headers
        )
        self.named = tuple(_settable(name, "authResponseHeaders") for name in settings.auth_response_headers)
        self.spellings = frozenset(spelling(name) for name in self.named)
        regex = settings.auth_response_headers_regex
        self.pattern = pattern_of(regex, "authResponseHeadersRegex") if regex else None
        self.cookies = frozenset(name.encode("utf-8") for name in settings.add_auth_cookies_to_response)
        self.user = name_of(settings.header_field, "headerField").lower() if settings.header_field else b""

    def request(self, exchange: Exchange) -> Deferred[None] | None:
        settings = self.settings
        if not settings.forward_body or exchange.request.length == 0 or exchange.request.upgrade:
            return self._ask(exchange, b"")
        at_most = settings.max_body_size if settings.max_body_size >= 0 else _LONGEST_KEPT
        if exchange.request.length > at_most:
            exchange.answer(401, reason_of(401))
            return None
        gathered = gather(exchange, at_most)
        return gathered.addCallback(self._gathered, exchange, at_most, exchange.answers)

    def _gathered(self, whole: bool, exchange: Exchange, at_most: int, answers: int) -> Deferred[None] | None:
        if exchange.ended or exchange.answers != answers:
            return None
        if not whole:
            status = 401 if len(exchange.pending) > at_most else 503
            exchange.answer(status, reason_of(status))
            return None
        return self._ask(exchange, exchange.pending)

    def _ask(self, exchange: Exchange, body: bytes) -> Deferred[None]:
        question = _Question(self, exchange, self._question_of(exchange.request), body)
        question.begin()
        return question.decided

    def _question_of(self, request: Request) -> Request:
        """What the auth server is asked for *request*."""
        fields = [
            pair
            for pair in request.fields
            if spelling(pair[0]) not in _TOLD and (not self._request_fields or pair[0].lower() in self._request_fields)
        ]
        trusts = self.settings.trust_forward_header
        peer = request.client_ip.encode("ascii")
        seen = {
            b"X-Forwarded-Method": request.method,
            b"X-Forwarded-Proto": b"https" if request.secure else b"http",
            b"X-Forwarded-Host": request.authority,
            b"X-Forwarded-Uri": request.target,
            b"X-Forwarded-For": request.forwarded_for + b", " + peer if trusts and request.forwarded_for else peer,
        }
        for name, value in seen.items():
            said = field(request.fields, name.lower()) if trusts and name != b"X-Forwarded-For" else None
            fields.append((name, said or value))
        method = request.method if self.settings.preserve_request_method else b"GET"
        question = Request(method, self._path, self._query, 1, self._authority, b"", fields)
        question.client_ip = request.client_ip
        return question

    def passes(self, exchange: Exchange, answer: Response) -> None:
        """The auth server has let *exchange* pass with *answer*."""
        request = exchange.request
        fields = without(request.fields, self.spellings)
        added = [pair for pair in answer.fields if spelling(pair[0]) in self.spellings]
        if self.pattern is not None:
            fields = [pair for pair in fields if not self._matches(pair[0])]
            added += [
                pair for pair in answer.fields if self._matches(pair[0]) and spelling(pair[0]) not in self.spellings
            ]
        request.fields = [*fields, *(pair for pair in added if not is_written_by_the_gate(pair[0]))]
        if self.user:
            exchange.user = (field(answer.fields, self.user) or b"").decode("utf-8", "backslashreplace")
        if self.cookies:
            set_cookies = field_values(answer.fields, b"set-cookie")
            exchange.remember(self, [one for one in set_cookies if _cookie_name(one) in self.cookies])

    def _matches(self, name: bytes) -> bool:
        """Whether the expression matches a field name, or what a server might take for it."""
        assert self.pattern is not None
        # As Go spells fields.
        spelled = {"-".join(part.capitalize() for part in one.split("-")) for one in _spellings(name)}
        return any(self.pattern.search(one) is not None for one in (*spelled, name.decode("latin-1")))

    def response(self, exchange: Exchange, response: Response) -> None:
        cookies: list[bytes] | None = exchange.recall(self)
        if cookies:
            names = {_cookie_name(one) for one in cookies}
            response.fields[:] = [
                pair
                for pair in response.fields
                if pair[0].lower() != b"set-cookie" or _cookie_name(pair[1]) not in names
            ] + [(b"Set-Cookie", one) for one in cookies]


def _settable(text: str, key: str) -> bytes:
    name = name_of(text, key)
    if is_written_by_the_gate(name):
        raise ValueError(f"{key}: the gate writes {text} itself, it cannot be set")
    return name


def _spellings(name: bytes) -> tuple[str, str]:
    return name.decode("latin-1").lower(), spelling(name).decode("latin-1")


def _cookie_name(set_cookie: bytes) -> bytes:
    return set_cookie.partition(b"=")[0].strip(b" \t")


class _Question(Relay):
    """What the auth server is asked about one exchange.

    :ivar decided: fires when the request may go on, or has been answered.
    """

    def __init__(self, step: ForwardAuth, exchange: Exchange, request: Request, body: bytes) -> None:
        Relay.__init__(self, request, exchange)
        self.decided: Deferred[None] = Deferred()
        self._step = step
        self._body = body
        self._asked = request
        self._is_second = False
        self._answer: Response | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._streams = False
        self._late = step.clock.callLater(_WITHIN, self._is_late)

    def begin(self) -> None:
        """Ask."""
        self.ask(self._step.server.serve, self._body)

    def cancel(self) -> None:
        self._settle()
        Relay.cancel(self)

    def began(self, response: Response, data: bytes, done: bool) -> None:
        if not self.exchange.origin_status:
            self._has_not_answered(response.status)
            return
        step = self._step
        self._answer = response
        settings = step.settings
        limit = settings.max_response_body_size
        passes = 200 <= response.status < 300
        has_body = self._asked.method != b"HEAD" and response.status != 304
        if limit >= 0 and has_body and max(response.length, len(data)) > limit:
            self._refuse(401)
        elif not passes and settings.auth_signin_url and response.status == 401:
            location = value_of(settings.auth_signin_url, "authSigninURL")
            self._end_with(302, ((b"Location", location),))
        elif not passes and (limit < 0 or done):
            self._streams = True
            Relay.began(self, response, data, done)
            self._decide(ends=done)
        else:
            self._keep(data)
            if done:
                self._is_whole()

    def continued(self, data: bytes) -> None:
        if self._streams:
            Relay.continued(self, data)
        else:
            self._keep(data)
            limit = self._step.settings.max_response_body_size
            if 0 <= limit < self._size:
                self._refuse(401)

    def ended(self, trailers: Fields) -> None:
        if self._streams:
            self._settle()
            Relay.ended(self, trailers)
        else:
            self._is_whole()

    def broke(self) -> None:
        if self._streams:
            self._settle()
            Relay.broke(self)
        else:
            self._refuse(500)

    def changed(self, response: Response) -> None:
        if self._step.settings.preserve_location_header:
            return
        address = self._step.settings.address
        response.fields[:] = [
            (name, _absolute(address, value) if name.lower() == b"location" else value)
            for name, value in response.fields
        ]

    def feed_from(self, producer: Any) -> None:
        if self._streams:
            Relay.feed_from(self, producer)

    def _keep(self, data: bytes) -> None:
        """Keep a piece of an answer, or only count it, if it is not to be passed on."""
        self._size += len(data)
        if self._answer is not None and not 200 <= self._answer.status < 300:
            self._pieces.append(data)

    def _is_whole(self) -> None:
        assert self._answer is not None
        answer = self._answer
        if 200 <= answer.status < 300:
            self.outer.connection = None
            self._step.passes(self.outer, answer)
            self._decide(ends=True)
        else:
            body = b"".join(self._pieces)
            answer.length = len(body)
            Relay.began(self, answer, body, True)
            self._decide(ends=True)

    def _has_not_answered(self, status: int) -> None:
        """The auth server could not be reached, or has broken the connection: a kept one may have been stale."""
        if status == 502 and self._body and self._asked.method == b"GET" and not self._is_second:
            self._is_second = True
            self.over = False
            self.exchange = Exchange(self, self._asked, self.outer.entry_point)
            self.ask(self._step.server.serve_afresh, self._body)
        else:
            self._refuse(500)

    def _is_late(self) -> None:
        if self._streams:
            self.cancel()
            self.outer.fail(502)
        else:
            self._refuse(500)

    def _refuse(self, status: int) -> None:
        self._end_with(status, ())

    def _end_with(self, status: int, fields: tuple[tuple[bytes, bytes], ...]) -> None:
        self.cancel()
        self.outer.connection = None
        if not self.outer.ended:
            self.outer.answer(status, reason_of(status), fields)
        self._decide(ends=True)

    def _decide(self, ends: bool) -> None:
        if ends:
            self._settle()
        if not self.decided.called:
            self.decided.callback(None)

    def _settle(self) -> None:
        if self._late.active():
            self._late.cancel()


def _absolute(address: str, location: bytes) -> bytes:
    """*location*, as the auth server at *address* means it."""
    try:
        return urljoin(address, location.decode("latin-1")).encode("latin-1")
    except ValueError:
        return location  # It leads nowhere.


def files(settings: Settings) -> tuple[str, ...]:
    """The files that it is made from."""
    return files_of(settings.tls)


def build(settings: Settings, context: Context) -> Middleware:
    """The question for one route; connections are those of all routes with the same middleware.

    :raises ValueError: the address is no URL, or other options can't be followed.
    """
    try:
        parts = urlsplit(settings.address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or not settings.address.isascii():
        raise ValueError(f"address: {settings.address!r}, expected a URL such as http://auth:9000/check")
    if any(one.isspace() or not one.isprintable() for one in settings.address) or parts.fragment:
        raise ValueError(f"address: {settings.address!r}, expected a URL without spaces and #")
    if parts.username is not None:
        raise ValueError("address: expected no user and password in it")
    value_of(settings.auth_signin_url, "authSigninURL")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    url = f"{parts.scheme}://{host}:{port or (443 if parts.scheme == 'https' else 80)}"
    tls = settings.tls
    known_by = (KIND, url, tls, contents_of(tls))
    deadlines = context.deadlines or Deadlines(context.clock)
    server = context.keep(known_by, partial(AuthServer, url, tls, context.network, deadlines))
    return ForwardAuth(settings, server, context.clock)
