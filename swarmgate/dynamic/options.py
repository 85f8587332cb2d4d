"""The options of routers, services and middlewares, wherever they are written: in labels or in files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

import attrs

from swarmgate.dynamic.composition import Child, Composition, Failover, HighestRandomWeight, Mirror, Mirroring, Weighted
from swarmgate.dynamic.cookie import StickyCookie
from swarmgate.dynamic.model import Balancing, HealthCheck, PassiveHealthCheck
from swarmgate.dynamic.observability import Observability
from swarmgate.dynamic.tls import RouterTLS
from swarmgate.structure import (
    Duration,
    Fault,
    StatusRange,
    StructureError,
    Tree,
    at_least,
    bare,
    between,
    nearest_of,
    not_yet,
    option,
    origin_of,
    structure,
    structure_as,
)

_LATER = "an option of Traefik's that swarmgate does not have yet"

#: What a service is one of.
_SERVICE_KINDS = ("loadBalancer", "weighted", "highestRandomWeight", "failover", "mirroring")

_PORTS = {"http": 80, "https": 443, "h2c": 80}


def parse_server_url(text: str) -> str:
    """A server's URL as ``http://host:port`` (Traefik ``servers[n].url``), with the scheme's port if none is given.

    :raises ValueError: what is expected.
    """
    found = re.fullmatch(r"(?i)([a-z0-9+.-]+)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?/?", text)
    if found is None or int(found[3] or 80) not in range(1, 65536):
        raise ValueError("a URL such as http://10.0.0.2:8080, without a path")
    scheme = found[1].lower()
    if scheme not in _PORTS:
        raise ValueError("a URL that begins with http://, https:// or h2c://")
    return f"{scheme}://{found[2].lower()}:{int(found[3] or _PORTS[scheme])}"


@not_yet("parentRefs")
@attrs.frozen
class RouterOptions:
    """``routers.X``"""

    rule: str = option(default="", doc="Which requests it takes, as ``Host(`a.example`)``.")
    entry_points: tuple[str, ...] = option(default=(), doc="The entry points it is on; none: the default ones.")
    middlewares: tuple[str, ...] = option(default=(), doc="The middlewares that its requests pass, in order.")
    service: str = option(default="", doc="The service that answers.")
    priority: int = option(default=0, doc="Higher ones are asked first; 0: the length of the rule.")
    rule_syntax: Literal["v3", "v2"] = option(default="v3", doc="The syntax of the rule.")
    tls: RouterTLS | None = option(default=None, doc="It takes requests that came over TLS, and no others.")
    observability: Observability | None = option(default=None, doc="What is told of its requests.")


@attrs.frozen
class ServerOptions:
    """``loadBalancer.servers[n]`` in files."""

    url: str = option(parse=parse_server_url, doc="Where it is, as ``http://10.0.0.2:8080``.")
    weight: int = option(default=1, doc="Its share beside the others; 0 or less: never chosen.")


def parse_cookie_name(text: str) -> str:
    """The name of a cookie; characters that it can't have become ``_`` (Traefik ``sticky.cookie.name``)."""
    return re.sub(r"[^!#$%&'*+.^_`|~0-9A-Za-z-]", "_", text)


def parse_cookie_attribute(text: str) -> str:
    """The path or the domain of a cookie (RFC 6265, 4.1.1: ``path-value``).

    :raises ValueError: what is expected.
    """
    if re.search(r"[^ -~]|;", text):
        raise ValueError("characters of ASCII, without semicolons and line ends")
    return text


def parse_check_path(text: str) -> str:
    """The path of a health check, with its query (Traefik ``healthCheck.path``).

    :raises ValueError: what is expected.
    """
    if re.match(r"(?i)[a-z][a-z0-9+.-]*://", text) or text.startswith("//") or re.search(r"[^!-~]|#", text):
        raise ValueError("a path such as /health, without scheme and host")
    return text if text.startswith("/") else f"/{text}"


@attrs.frozen
class StickyCookieOptions:
    """``loadBalancer.sticky.cookie``"""

    name: str = option(default="", parse=parse_cookie_name, doc="Its name; none: one that is made of the service's.")
    secure: bool = option(default=False, doc="Sent over HTTPS alone.")
    http_only: bool = option(default=False, key="httpOnly", doc="Not for scripts to see.")
    same_site: Literal["none", "lax", "strict"] | None = option(
        default=None, doc="Whether other sites' requests have it."
    )
    max_age: int = option(default=0, doc="Seconds; 0: it ends with the browser's session, less: it is expired at once.")
    path: str = option(default="/", parse=parse_cookie_attribute, doc="The path below which it is sent.")
    domain: str = option(
        default="", parse=parse_cookie_attribute, doc="The domain that it is for; none: the one that was asked."
    )


@attrs.frozen
class StickyOptions:
    """``loadBalancer.sticky``"""

    cookie: StickyCookieOptions | None = option(default=None, doc="A cookie leads clients back to their server.")

    def value(self) -> StickyCookie | None:
        """The cookie, None for none."""
        cookie = self.cookie
        if cookie is None:
            return None
        return StickyCookie(
            cookie.name,
            cookie.secure,
            cookie.http_only,
            cookie.same_site or "",
            cookie.max_age,
            cookie.path,
            cookie.domain,
        )


@attrs.frozen
class HealthCheckOptions:
    """``loadBalancer.healthCheck``"""

    path: str = option(default="/", parse=parse_check_path, doc="The path that is asked for.")
    mode: Literal["http", "grpc"] = option(default="http", doc="``grpc`` speaks the grpc.health.v1 protocol.")
    scheme: Literal["http", "https", "h2c"] | None = option(default=None, doc="Another scheme than the server's.")
    port: int = option(default=0, validator=between(0, 65535), doc="Another port than the server's.")
    hostname: str = option(default="", doc="What the Host field says.")
    method: str = option(default="GET", doc="The method of the request.")
    status: int = option(default=0, doc="The one status that is well; 0: 200 to 399.")
    follow_redirects: bool = option(default=True, doc="What a redirect leads to decides.")
    headers: Mapping[str, str] = option(factory=dict, doc="Fields of the request.")
    interval: Duration = option(default=Duration(30), doc="From one probe to the next.")
    unhealthy_interval: Duration = option(default=Duration(0), doc="The same while it is not well; 0: ``interval``.")
    timeout: Duration = option(default=Duration(5), doc="How long a probe may take.")

    def value(self) -> HealthCheck:
        """What is in force: a time of 0 means the default (Traefik)."""
        return HealthCheck(
            path=self.path,
            mode=self.mode,
            scheme=self.scheme or "",
            port=self.port,
            hostname=self.hostname,
            method=self.method.upper(),
            status=self.status,
            follow_redirects=self.follow_redirects,
            headers=tuple(sorted(self.headers.items())),
            interval=float(self.interval) or 30.0,
            unhealthy_interval=float(self.unhealthy_interval),
            timeout=float(self.timeout) or 5.0,
        )


@attrs.frozen
class PassiveHealthCheckOptions:
    """``loadBalancer.passiveHealthCheck``"""

    failure_window: Duration = option(default=Duration(10), doc="How long a server is left out.")
    max_failed_attempts: int = option(
        default=1, validator=at_least(1), doc="So many failures in a row, breaks or answers of 500 and more, cost it."
    )


@attrs.frozen
class BalancingOptions:
    """What ``loadBalancer`` has in labels and in files."""

    pass_host_header: bool = option(default=True, doc="Servers get the Host that the client has sent.")
    strategy: Literal["wrr", "p2c", "hrw", "leasttime", "leastconn"] = option(
        default="wrr",
        doc="Who is next: in turns by weight; the less busy of two; by the client's address; who answers soonest; the "
        "least busy.",
    )
    sticky: StickyOptions | None = option(default=None, doc="Clients come back to the server that they had.")
    health_check: HealthCheckOptions | None = option(default=None, doc="Servers are asked whether they are well.")
    passive_health_check: PassiveHealthCheckOptions | None = option(
        default=None, doc="Servers are left out for what they answer."
    )
    wait_for_server: Duration = option(
        default=Duration(5), doc="How long a request waits for a server while there is none for the moment."
    )
    servers_transport: str = option(
        default="", doc="How servers are reached: a name of ``serversTransports``, as ``internal@file``."
    )
    slow_start: Duration = option(default=Duration(0), doc="In which a new server's share grows to what it is due.")

    def balancing(self) -> Balancing:
        """The value that these describe."""
        passive = self.passive_health_check
        return Balancing(
            pass_host_header=self.pass_host_header,
            strategy=self.strategy,
            sticky=None if self.sticky is None else self.sticky.value(),
            health_check=None if self.health_check is None else self.health_check.value(),
            passive_health_check=None
            if passive is None
            else PassiveHealthCheck(float(passive.failure_window) or 10.0, passive.max_failed_attempts),
            wait=float(self.wait_for_server),
            slow_start=float(self.slow_start),
        )


@attrs.frozen
class LoadBalancerOptions(BalancingOptions):
    """``services.X.loadBalancer`` in files."""

    servers: tuple[ServerOptions, ...] = option(default=(), doc="The servers that answer.")


@attrs.frozen
class ChildOptions:
    """``weighted.services[n]`` and ``highestRandomWeight.services[n]``"""

    name: str = option(doc="A service, as ``shop@swarm``.")
    weight: int = option(default=1, doc="Its share beside the others; 0 or less: no new clients.")

    def value(self) -> Child:
        """The value that these describe."""
        return Child(self.name, self.weight)


@attrs.frozen
class PropagationOptions:
    """``healthCheck`` of services that are made of others: has no options, and no effect.

    Whether they are up follows from their children without it.
    """


@attrs.frozen
class WeightedOptions:
    """``services.X.weighted``"""

    services: tuple[ChildOptions, ...] = option(default=(), doc="The services that take turns.")
    sticky: StickyOptions | None = option(default=None, doc="Clients come back to the service that they had.")
    health_check: PropagationOptions | None = option(default=None, doc="Without effect: it is so always.")

    def value(self) -> Weighted:
        """The value that these describe."""
        cookie = None if self.sticky is None else self.sticky.value()
        return Weighted(tuple(one.value() for one in self.services), cookie)


@attrs.frozen
class HighestRandomWeightOptions:
    """``services.X.highestRandomWeight``"""

    services: tuple[ChildOptions, ...] = option(default=(), doc="The services that share the clients.")
    health_check: PropagationOptions | None = option(default=None, doc="Without effect: it is so always.")

    def value(self) -> HighestRandomWeight:
        """The value that these describe."""
        return HighestRandomWeight(tuple(one.value() for one in self.services))


@attrs.frozen
class FailoverErrorsOptions:
    """``services.X.failover.errors``"""

    status: tuple[StatusRange, ...] = option(default=(), doc="Statuses that are failures, as ``500-599``.")
    max_request_body_bytes: int = option(
        default=-1, validator=at_least(-1), doc="A longer request is answered 413; -1: no limit."
    )


@attrs.frozen
class FailoverOptions:
    """``services.X.failover``"""

    service: str = option(doc="The service that answers.")
    fallback: str = option(doc="The service that answers while that one is down.")
    health_check: PropagationOptions | None = option(default=None, doc="Without effect: it is so always.")
    errors: FailoverErrorsOptions | None = option(default=None, doc="Answers that the fallback takes the place of.")

    def value(self) -> Failover:
        """The value that these describe."""
        errors = self.errors or FailoverErrorsOptions()
        return Failover(self.service, self.fallback, errors.status, errors.max_request_body_bytes)


@attrs.frozen
class MirrorOptions:
    """``services.X.mirroring.mirrors[n]``"""

    name: str = option(doc="A service, as ``shop-next@swarm``.")
    percent: int = option(default=0, validator=between(0, 100), doc="How many of the requests it gets.")


@attrs.frozen
class MirroringOptions:
    """``services.X.mirroring``"""

    service: str = option(doc="The service that answers.")
    mirrors: tuple[MirrorOptions, ...] = option(default=(), doc="The services that get copies.")
    mirror_body: bool = option(default=True, doc="Copies have the request's body.")
    max_body_size: int = option(
        default=-1, validator=at_least(-1), doc="Octets; a request with a longer body is not mirrored; -1: no limit."
    )
    health_check: PropagationOptions | None = option(default=None, doc="Without effect: it is so always.")

    def value(self) -> Mirroring:
        """The value that these describe."""
        mirrors = tuple(Mirror(one.name, one.percent) for one in self.mirrors)
        return Mirroring(self.service, mirrors, self.mirror_body, self.max_body_size)


@not_yet("middlewares")
@attrs.frozen(kw_only=True)
class ComposedOptions:
    """``services.X`` that is made of other services: one of these."""

    weighted: WeightedOptions | None = option(default=None, doc="Services that take turns.")
    highest_random_weight: HighestRandomWeightOptions | None = option(
        default=None, doc="Services among which the client's address decides."
    )
    failover: FailoverOptions | None = option(default=None, doc="A service, and another one while that is down.")
    mirroring: MirroringOptions | None = option(default=None, doc="A service, and others that get copies of requests.")

    @property
    def composition(self) -> Composition | None:
        """The services that it is made of, None if it has servers."""
        given = self.weighted or self.highest_random_weight or self.failover or self.mirroring
        return None if given is None else given.value()


@attrs.frozen(kw_only=True)
class ServiceOptions(ComposedOptions):
    """``services.X`` in files: one of these."""

    load_balancer: LoadBalancerOptions | None = option(default=None, doc="Servers that answer alike.")


def _scheme(text: str) -> str:
    if text.lower() not in _PORTS:
        raise ValueError("http, https or h2c")
    return text.lower()


@attrs.frozen
class TaskServerOptions:
    """``loadbalancer.server`` in labels: how to reach each task."""

    port: int | None = option(
        default=None, validator=attrs.validators.optional(between(1, 65535)), doc="The port that the task listens on."
    )
    scheme: str = option(default="http", parse=_scheme, doc="What it speaks.")
    url: str = option(default="", parse=parse_server_url, doc="A server in place of the tasks.")
    weight: int = option(default=1, doc="Its share beside the others; 0 or less: never chosen.")


@attrs.frozen
class TaskLoadBalancerOptions(BalancingOptions):
    """``services.X.loadbalancer`` in labels."""

    server: TaskServerOptions = option(factory=TaskServerOptions, doc="How to reach each task.")


@attrs.frozen(kw_only=True)
class TaskServiceOptions(ComposedOptions):
    """``services.X`` in labels: one of these."""

    load_balancer: TaskLoadBalancerOptions = option(factory=TaskLoadBalancerOptions, doc="Tasks that answer alike.")


#: Options that do without, so that they cost no more than a word in the log.
_LOAD_BALANCER_LATER = ("responseForwarding",)
_SERVER_LATER = ("preservePath",)

#: Traefik's middlewares (HTTP).
_KINDS = (
    "addPrefix",
    "basicAuth",
    "buffering",
    "chain",
    "circuitBreaker",
    "compress",
    "contentType",
    "digestAuth",
    "encodedCharacters",
    "errors",
    "forwardAuth",
    "grpcWeb",
    "headers",
    "inFlightReq",
    "ipAllowList",
    "ipWhiteList",
    "passTLSClientCert",
    "plugin",
    "rateLimit",
    "redirectRegex",
    "redirectScheme",
    "replacePath",
    "replacePathRegex",
    "retry",
    "stripPrefix",
    "stripPrefixRegex",
)


@attrs.frozen
class Reading:
    """What a part of a tree was read as.

    :ivar value: None if there is nothing to be in force.
    :ivar faults: why it is None, or what is wrong.
    :ivar notes: what was left out of it without harm.
    """

    value: Any
    faults: tuple[Fault, ...] = ()
    notes: tuple[Fault, ...] = ()


def read_router(tree: Tree, path: str) -> Reading:
    """The :class:`RouterOptions` that *tree* describes.

    :param path: dotted name of the tree's root.
    :return: a value without faults, or faults without a value.
    """
    return _read(RouterOptions, tree, path, [])


def read_file_service(tree: Tree, path: str) -> Reading:
    """The :class:`ServiceOptions` that *tree*, of a file, describes."""

    def servers(tree: Tree, path: str) -> tuple[Tree, list[Fault]]:
        found = _child(tree, "servers")
        items = bare(_below(tree, "servers"))
        if found is None or not isinstance(items, list):
            return tree, []
        kept, notes = [], []
        for index, item in enumerate(items):
            rest, aside = _set_aside(item, _SERVER_LATER, f"{path}.servers[{index}]")
            kept.append(rest)
            notes += [fault for fault, _ in aside]
        return _with_child(tree, found, kept), notes

    reading = _read_service(ServiceOptions, tree, path, servers)
    if not _kinds_of(tree) and not reading.faults:
        expected = f"one of {', '.join(_SERVICE_KINDS)}"
        fault = Fault(path, None, origin_of(tree), expected, problem="a service of no kind")
        return Reading(None, (fault,), reading.notes)
    return reading


def read_task_service(tree: Tree, path: str) -> Reading:
    """The :class:`TaskServiceOptions` that *tree*, of labels, describes."""

    def server(tree: Tree, path: str) -> tuple[Tree, list[Fault]]:
        found = _child(tree, "server")
        if found is None:
            return tree, []
        rest, aside = _set_aside(bare(tree)[found], _SERVER_LATER, f"{path}.server")
        return _with_child(tree, found, rest), [fault for fault, _ in aside]

    reading = _read_service(TaskServiceOptions, tree, path, server)
    if reading.value is None:
        return reading
    server = _below(_below(tree, "loadBalancer"), "server")
    if _below(server, "url") is not None and any(_below(server, name) is not None for name in ("port", "scheme")):
        key, url = f"{path}.loadBalancer.server.url", _below(server, "url")
        fault = Fault(key, str(bare(url)), origin_of(url), "no port and no scheme beside it")
        return Reading(None, (fault,), reading.notes)
    return reading


def _kinds_of(tree: Tree) -> list[str]:
    """Which kinds of services *tree* is of; it should be one."""
    return [one for one in _SERVICE_KINDS if _child(tree, one) is not None]


def _read_service(cls: type[Any], tree: Tree, path: str, deeper: Any) -> Reading:
    kinds = _kinds_of(tree)
    if len(kinds) > 1:
        problem = f"a service of several kinds: {', '.join(kinds)}"
        return Reading(None, (Fault(path, None, origin_of(tree), "one, and a name for each", problem=problem),))
    found = _child(tree, "loadBalancer")
    if found is None:
        return _read(cls, tree, path, [])
    below = f"{path}.loadBalancer"
    rest, aside = _set_aside(bare(tree)[found], _LOAD_BALANCER_LATER, below)
    rest, notes = deeper(rest, below)
    return _read(cls, _with_child(tree, found, rest), path, [*(fault for fault, _ in aside), *notes])


def read_middleware(tree: Tree, path: str, kinds: Mapping[str, type[Any]]) -> Reading:
    """The ``(kind, settings)`` that *tree* describes, kind in lower case.

    :param kinds: the class of settings of each kind that there is, by its name in lower case.
    """
    options = bare(tree)
    if not isinstance(options, Mapping) or not options:
        return Reading(None, (Fault(path, None, origin_of(tree), _one_of(kinds), problem="a middleware of no kind"),))
    if len(options) > 1:
        several = ", ".join(map(str, options))
        problem = f"a middleware of several kinds: {several}"
        return Reading(None, (Fault(path, None, origin_of(tree), "one, and a name for each", problem=problem),))
    ((name, node),) = options.items()
    kind = str(name).lower()
    key = f"{path}.{name}"
    if kind not in kinds:
        if kind in {one.lower() for one in _KINDS}:
            problem = "a middleware of Traefik's that swarmgate does not have yet"
            return Reading(None, (), (Fault(key, None, origin_of(node), problem=problem),))
        nearest = nearest_of(kind, [*_spelled(kinds)])
        fault = Fault(key, None, origin_of(node), _one_of(kinds), nearest, "unknown kind of middleware")
        return Reading(None, (fault,))
    try:
        settings = structure_as(kinds[kind] | None, node, key)
    except StructureError as error:
        return Reading(None, error.faults)
    if settings is None:
        return Reading(None, (), (Fault(key, None, origin_of(node), problem="switched off"),))
    return Reading((kind, settings))


def _spelled(kinds: Collection[str]) -> list[str]:
    """*kinds* as Traefik spells them."""
    return [*(one for one in _KINDS if one.lower() in kinds), *(one for one in kinds if one not in _LOWER_KINDS)]


_LOWER_KINDS = frozenset(one.lower() for one in _KINDS)


def _one_of(kinds: Collection[str]) -> str:
    return f"one of {', '.join(_spelled(kinds))}" if kinds else "one of those that swarmgate has"


# ---- trees


def _read(cls: type[Any], tree: Tree, path: str, notes: list[Fault]) -> Reading:
    try:
        return Reading(structure(cls, tree, path), (), tuple(notes))
    except StructureError as error:
        return Reading(None, error.faults, tuple(notes))


def _set_aside(tree: Tree, names: Iterable[str], path: str) -> tuple[Tree, list[tuple[Fault, Tree]]]:
    """*tree* without the options *names*, and for each that was there a note and its value."""
    options = bare(tree)
    if not isinstance(options, Mapping):
        return tree, []
    canonical = {name.lower(): name for name in names}
    aside = [
        (Fault(f"{path}.{canonical[str(name).lower()]}", None, origin_of(node), problem=_LATER), node)
        for name, node in options.items()
        if str(name).lower() in canonical
    ]
    rest = {name: node for name, node in options.items() if str(name).lower() not in canonical}
    return (_in_place(tree, rest) if aside else tree), aside


def _child(tree: Tree, name: str) -> Any:
    """The spelling under which *tree* has the option *name*, None if it hasn't."""
    options = bare(tree)
    if not isinstance(options, Mapping):
        return None
    return next((one for one in options if str(one).lower() == name.lower()), None)


def _below(tree: Tree, name: str) -> Tree:
    """The value of *tree*'s option *name*, None if it has none."""
    found = _child(tree, name)
    return bare(tree)[found] if found is not None else None


def _with_child(tree: Tree, name: str, child: Tree) -> Tree:
    return _in_place(tree, {**bare(tree), name: child})


def _in_place(tree: Tree, value: Any) -> Tree:
    """*value* with the origin of *tree*."""
    return attrs.evolve(tree, value=value) if hasattr(tree, "origin") else value
