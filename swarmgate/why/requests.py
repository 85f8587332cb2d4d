"""Which router takes a request, which were close, and which servers could answer: :func:`why`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

import attrs

from swarmgate.dynamic.composition import answering_children, made_of
from swarmgate.dynamic.matching import compile_rule
from swarmgate.dynamic.rules import And, Matcher, Not, Rule
from swarmgate.dynamic.table import INTERNAL, Route, RoutingTable, hosts_of, precedence
from swarmgate.structure import nearest_of

_CLOSE = 5  # Routers that are told of beside the one that took the request.


@attrs.define
class Question:
    """A request that is asked about; rules can be matched against it.

    :ivar secure: it would come over TLS.
    :ivar host: lower case, without port and trailing dot.
    :ivar port: that the URL names, or its scheme's.
    """

    method: bytes
    host: bytes
    routing_path: bytes
    query: bytes | None = None
    fields: list[tuple[bytes, bytes]] = attrs.field(factory=list)
    client_ip: str = ""
    secure: bool = False
    port: int = 80
    authority: bytes = b""
    upgrade: bytes = b""


def question(url: str, method: str = "GET", headers: Sequence[str] = (), client_ip: str = "") -> Question:
    """The request that a URL and fields written ``Name: value`` describe.

    :raises ValueError: they describe none; the text says what was expected.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f'"{url}": expected a port from 0 to 65535') from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f'"{url}": expected a URL as https://shop.example/path')
    fields = []
    host = parts.hostname
    for line in headers:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise ValueError(f'"{line}": expected a header as Name: value')
        if name.strip().lower() == "host":
            host = urlsplit(f"//{value.strip()}").hostname or ""
        else:
            fields.append((_octets(name.strip()), _octets(value.strip())))
    upgrade = next((value.lower() for name, value in fields if name.lower() == b"upgrade"), b"")
    secure = parts.scheme == "https"
    name_of_host = host.rstrip(".").lower()
    return Question(
        _octets(method.upper()),
        _octets(name_of_host),
        _octets(parts.path or "/"),
        _octets(parts.query) if "?" in url else None,
        fields,
        client_ip,
        secure,
        port if port is not None else 443 if secure else 80,
        _octets(name_of_host),
        upgrade,
    )


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@attrs.frozen
class Close:
    """A router that did not take the request.

    :ivar reasons: sentence parts: what of its rule did not match, or which router was asked before it.
    """

    router: str
    entry_point: str
    rule: str
    priority: int
    reasons: tuple[str, ...]


@attrs.frozen
class ServerState:
    """A server, or a task that is none, of the service.

    :ivar reason: why it can't answer, ``""`` if it can.
    """

    url: str
    task: str = ""
    node: str = ""
    reason: str = ""


@attrs.frozen
class Answer:
    """What becomes of a request on one entry point.

    :ivar router: qualified name of the one that takes it, ``""`` for none: it is answered 404.
    :ivar problem: why the router answers 404 all the same, ``""`` if it does not.
    :ivar refused: why the entry point itself answers 400, before any router is asked; ``""`` if it does not.
    :ivar made_of: the services that the service is made of, for people, ``""`` if it has servers of its own; their
        :ivar servers: are then told of.
    :ivar is_own: the router is one that the gate has of itself, as for its API, or to redirect a whole entry point.
    :ivar middlewares: qualified names, in order.
    """

    entry_point: str
    router: str = ""
    rule: str = ""
    priority: int = 0
    problem: str = ""
    middlewares: tuple[str, ...] = ()
    service: str = ""
    servers: tuple[ServerState, ...] = ()
    close: tuple[Close, ...] = ()
    refused: str = ""
    made_of: str = ""
    is_own: bool = False

    @property
    def is_routed(self) -> bool:
        """Whether a router that somebody has configured takes the request and passes it on."""
        return bool(self.router) and not self.problem and not self.is_own

    def sentences(self) -> Iterator[str]:
        """The same for people, a line each."""
        if self.refused:
            yield f"On {self.entry_point} no router is asked: it is answered 400: {self.refused}."
        elif not self.router:
            yield f"On {self.entry_point} no router takes it: it is answered 404."
        else:
            router = "the gate's own router" if self.is_own else "router"
            yield f"On {self.entry_point} {router} {self.router} takes it, by {self.rule} (priority {self.priority})."
            if self.problem:
                yield f"  It answers 404: {self.problem}."
            if self.middlewares:
                yield f"  Middlewares, in order: {', '.join(self.middlewares)}."
            if self.service:
                yield f"  Service {self.service}{f', {self.made_of}' if self.made_of else ''}."
            for server in self.servers:
                name = " ".join(filter(None, (server.url, server.task, server.node and f"on {server.node}")))
                yield f"    {name}: {server.reason or 'can answer'}"
            served = self.service and not self.service.endswith("@internal") and not self.problem
            if served and all(server.reason for server in self.servers):
                yield "  No server can answer: it is answered 503."
        for close in self.close:
            yield f"  Router {close.router}, {close.rule}, does not: {'; '.join(close.reasons)}."


def why(
    request: Question,
    table: RoutingTable,
    ports: Mapping[str, int] | None = None,
    reasons: Mapping[tuple[str, str], str] | None = None,
    absent: Mapping[str, Sequence[ServerState]] | None = None,
    paths: Mapping[str, Callable[[bytes], bytes]] | None = None,
) -> tuple[Answer, ...]:
    """What becomes of a request, on each entry point that its URL's port leads to; on all if it leads to none.

    :param ports: of the entry points, by name.
    :param reasons: why servers can't answer, by qualified service and URL.
    :param absent: tasks of each service that are no servers of it.
    :param paths: bring a path to the form that each entry point routes by, or raise ValueError for one that it does
        not take; those that are missing take all as they are.
    """
    names = [name for name in table.routes if (ports or {}).get(name) == request.port] or list(table.routes)
    answers = []
    for name in names:
        normalise = (paths or {}).get(name)
        try:
            asked = (
                request if normalise is None else attrs.evolve(request, routing_path=normalise(request.routing_path))
            )
        except ValueError as error:
            answers.append(Answer(name, refused=str(error)))
        else:
            answers.append(_on(name, asked, table, reasons or {}, absent or {}))
    return tuple(answers)


def _on(
    entry_point: str,
    request: Question,
    table: RoutingTable,
    reasons: Mapping[tuple[str, str], str],
    absent: Mapping[str, Sequence[ServerState]],
) -> Answer:
    taken: Route | None = None
    others: list[tuple[int, Close]] = []
    for route in sorted(table.routes[entry_point], key=precedence):
        missing = missed(route.rule, request)
        if (route.tls is not None) != request.secure:
            missing = (*missing, "it takes only https" if route.tls is not None else "it takes only http")
        if not missing and taken is None:
            taken = route
            continue
        if not missing and taken is not None:
            missing = (f"it matches too, but {taken.name}, of priority {taken.priority}, is asked before it",)
        elif len(missing) > _parts(route.rule) or (len(missing) == _parts(route.rule) and not _is_near(route, request)):
            continue
        others.append((len(missing), Close(route.name, entry_point, route.rule_text, route.priority, missing)))
    close = tuple(one for _, one in sorted(others, key=lambda pair: pair[0])[:_CLOSE])
    if taken is None:
        return Answer(entry_point, close=close)
    service = table.services.get(taken.service_name)
    composition = None if service is None else service.composition
    names = with_servers(table, taken.service_name)
    servers = [
        ServerState(
            server.url,
            server.task,
            server.node,
            reasons.get((name, server.url), "") or ("its weight is 0 or less" if server.weight <= 0 else ""),
        )
        for name in names
        for server in table.services[name].servers
    ]
    return Answer(
        entry_point,
        taken.name,
        taken.rule_text,
        taken.priority,
        taken.problem or "",
        tuple(middleware.name for middleware in taken.middlewares),
        taken.service_name,
        (*servers, *(one for name in names or (taken.service_name,) for one in absent.get(name, ()))),
        close,
        made_of="" if composition is None else str(composition),
        is_own=taken.provider == INTERNAL,
    )


def with_servers(table: RoutingTable, name: str) -> list[str]:
    """The services whose servers answer for the service *name*: that itself, or those that it is made of."""
    found = made_of(name, table.services, answering_children)
    return [name for name in found if table.services[name].composition is None]


def _is_near(route: Route, request: Question) -> bool:
    """Whether a rule of one part names a host that is a slip of the pen away."""
    return bool(nearest_of(request.host.decode("utf-8", "replace"), sorted(hosts_of(route.rule))))


def _parts(rule: Rule) -> int:
    if isinstance(rule, Matcher | Not):
        return 1
    sizes = [_parts(one) for one in rule.rules]
    return sum(sizes) if isinstance(rule, And) else min(sizes)


def missed(rule: Rule, request: Question) -> tuple[str, ...]:
    """What of a rule does not match a request, each with what the request has instead; empty if the rule matches.

    Of alternatives the one that lacks least is told of.
    """
    if isinstance(rule, Matcher):
        return () if compile_rule(rule)(request) else (f"{rule} does not match {_shown(rule.name, request)}",)
    if isinstance(rule, Not):
        return () if compile_rule(rule)(request) else (f"{rule} does not match: {rule.rule} does",)
    each = [missed(one, request) for one in rule.rules]
    if isinstance(rule, And):
        return tuple(one for several in each for one in several)
    return min(each, key=len)


def _shown(matcher: str, request: Question) -> str:
    """What a request has where a matcher looks; values of fields stay out, which may be secrets."""
    if matcher in ("Host", "HostRegexp"):
        return f"the host {request.host.decode('utf-8', 'replace')}"
    if matcher in ("Path", "PathPrefix", "PathRegexp"):
        return f"the path {request.routing_path.decode('utf-8', 'replace')}"
    if matcher == "Method":
        return f"the method {request.method.decode('utf-8', 'replace')}"
    if matcher == "ClientIP":
        return f"the client's address {request.client_ip}" if request.client_ip else "a client of unknown address"
    return "the query" if matcher.startswith("Query") else "the headers"
