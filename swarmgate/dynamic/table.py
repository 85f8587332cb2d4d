"""The routing table: all providers' configurations merged, resolved and checked.

A table is a plain value. What serves requests needs nothing else to know where they go; two equal tables route alike,
which is how "nothing has changed" is told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import attrs

from swarmgate.dynamic.model import Balancing, Configuration, Middleware, Problem, Router, Server, Service
from swarmgate.dynamic.observability import Observability, Observed
from swarmgate.dynamic.rules import And, Matcher, Not, Rule, RuleError, parse_rule
from swarmgate.dynamic.tls import Certificate, RouterTLS, ServersTransport, TLSOptions
from swarmgate.structure import nearest_of

HIGHEST_PRIORITY = 2**63 - 1
"""Of the gate's own routers, such as ping."""

HIGHEST_USER_PRIORITY = HIGHEST_PRIORITY - 1000
"""What users can give at most (Traefik keeps the rest for its own routers)."""

INTERNAL = "internal"
"""The provider of what the gate brings itself."""

K = TypeVar("K", bound=Any)
V = TypeVar("V")

_PRECEDENCE = {"swarm": 0, "file": 1, INTERNAL: 2}
_SHOWN = 5  # Names in a line of the log.
_MOST_COMPARISONS = 20  # References of one table for which the nearest name is looked for,
_COMPARED = 300  # among so many names.


@attrs.frozen
class EntryPointFacts:
    """What the table has to know of an entry point.

    :ivar as_default: routers that name no entry points are on it (Traefik ``entryPoints.X.asDefault``).
    :ivar middlewares: names, each with ``@provider``, that come before those of each router.
    :ivar tls: of all routers that have no own (Traefik ``entryPoints.X.http.tls``).
    :ivar observability: what is told of requests, unless their routers say otherwise.
    :ivar internal: made by the gate for itself, so that no router is on it that doesn't name it.
    """

    as_default: bool = False
    middlewares: tuple[str, ...] = ()
    internal: bool = False
    tls: RouterTLS | None = None
    observability: Observability = attrs.field(factory=Observability)


@attrs.frozen
class Route:
    """A router of the table with everything resolved, for one entry point.

    :ivar name: the router's, qualified, as ``web@swarm``.
    :ivar rule_text: the rule as it was written.
    :ivar priority: the effective one.
    :ivar middlewares: in order, those of the entry point first; names qualified.
    :ivar service: None if the route leads to a resource of the gate's own, and if it has a problem.
    :ivar service_name: qualified, as ``shop@swarm`` or ``ping@internal``; ``""`` if it can't be told.
    :ivar problem: why the route must not be passed, None if it may. It still matches, so that no less specific router
        gets its requests: they are answered 404.
    :ivar tls: it takes requests that came over TLS; None: only others.
    :ivar observed: what is told of its requests.
    """

    name: str
    entry_point: str
    rule: Rule
    rule_text: str
    priority: int
    middlewares: tuple[Middleware, ...]
    service: Service | None
    service_name: str
    provider: str
    problem: str | None = None
    tls: RouterTLS | None = None
    observed: Observed = attrs.field(factory=Observed)


@attrs.frozen
class TLSTable:
    """What TLS clients get.

    :ivar default: the certificate for hosts that none of the others is for, None for one that the gate makes itself.
    :ivar options: by qualified name, but for ``default``.
    :ivar hosts: of each entry point with a router that has TLS: names of the options of those hosts that have others
        than ``default``. ``*.`` in a host stands for any one label.
    """

    certificates: tuple[Certificate, ...] = ()
    default: Certificate | None = None
    options: Mapping[str, TLSOptions] = attrs.field(factory=dict)
    hosts: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)


@attrs.frozen
class RoutingTable:
    """Where requests go.

    :ivar routes: of each entry point by its name, in the order in which they are asked.
    :ivar services: by qualified name.
    """

    routes: Mapping[str, tuple[Route, ...]] = attrs.field(factory=dict)
    services: Mapping[str, Service] = attrs.field(factory=dict)
    problems: tuple[Problem, ...] = ()
    tls: TLSTable = attrs.field(factory=TLSTable)


def precedence(route: Route) -> tuple[int, int, str, str]:
    """Sort key: the route that is asked first is the least.

    By priority, higher first (Traefik ``routers.X.priority``); then by provider, ``swarm`` before ``file``
    (Traefik ``providers.precedence``); then by name, so that a tie has always the same winner.
    """
    return (-route.priority, _PRECEDENCE.get(route.provider, len(_PRECEDENCE)), route.provider, route.name)


def compile_table(
    configurations: Mapping[str, Configuration],
    entry_points: Mapping[str, EntryPointFacts],
    resources: Collection[str] = (),
) -> RoutingTable:
    """The table that follows from what all providers say.

    What is wrong with a router costs that router alone, and is told in the table's problems.

    :param configurations: by the provider's name.
    :param entry_points: by name.
    :param resources: names of the gate's own resources that routers can lead to, as ``ping@internal``.
    """
    world = _World(configurations, entry_points, frozenset(resources))
    routes: dict[str, list[Route]] = {name: [] for name in entry_points}
    for provider, configuration in configurations.items():
        world.problems.extend(configuration.problems)
        for name in sorted(configuration.routers):
            for route in world.routes_of(provider, name, configuration.routers[name]):
                routes[route.entry_point].append(route)
    ordered = {name: tuple(sorted(of_one, key=precedence)) for name, of_one in routes.items()}
    tls = world.tls(ordered)
    return RoutingTable(ordered, dict(sorted(world.services.items())), tuple(dict.fromkeys(world.problems)), tls)


class _World:
    """What the routers of all providers refer to, by qualified name, and the problems found so far."""

    def __init__(
        self,
        configurations: Mapping[str, Configuration],
        entry_points: Mapping[str, EntryPointFacts],
        resources: frozenset[str],
    ) -> None:
        self.problems: list[Problem] = []
        self._observed = {name: facts.observability.over(Observed()) for name, facts in entry_points.items()}
        self._comparisons = 0
        self.services: dict[str, Service] = {}
        self._middlewares: dict[str, Middleware] = {}
        self._providers = frozenset(configurations)
        self._resources = resources
        self._configurations = configurations
        self._tls_options: dict[str, TLSOptions] = {}
        transports: dict[str, ServersTransport] = {}
        for provider, one in configurations.items():
            for name, options in one.tls.options.items():
                self._tls_options.setdefault("default" if name == "default" else f"{name}@{provider}", options)
            transports.update({f"{name}@{provider}": transport for name, transport in one.servers_transports.items()})
        self._transports = transports
        #: Services that can't be reached as they should be, and why.
        self._unreachable: dict[str, str] = {}
        for provider, one in configurations.items():
            for name, service in one.services.items():
                self.services[f"{name}@{provider}"] = self._service(f"{name}@{provider}", provider, service)
        #: Middlewares that lead to a service which can't be had, and why.
        self._misled: dict[str, str] = {}
        for provider, one in configurations.items():
            for name, middleware in one.middlewares.items():
                self._middlewares[f"{name}@{provider}"] = self._middleware(f"{name}@{provider}", provider, middleware)
        self._entry_points = entry_points
        defaults = [name for name, one in entry_points.items() if one.as_default]
        ordinary = [name for name, one in entry_points.items() if not one.internal and name != "traefik"]
        self._default_entry_points = tuple(defaults or ordinary)
        self._entry_point_chains = {name: self._entry_point_chain(name, one) for name, one in entry_points.items()}

    def _service(self, name: str, provider: str, service: Service) -> Service:
        reference = service.servers_transport
        transport = None
        if reference and reference != "default@internal":
            transport = self._transports.get(self._qualified(reference, provider))
            if transport is None:
                reason = "there is no such serversTransport; its routers answer 404"
                nearest = nearest_of(reference, [*self._transports])
                self._unreachable[name] = f"there is no serversTransport {reference}"
                self.problems.append(
                    Problem(f"service {name}", f"provider {provider}", reason, "serversTransport", reference, nearest)
                )
        return attrs.evolve(service, name=name, transport=transport)

    def _middleware(self, name: str, provider: str, middleware: Middleware) -> Middleware:
        """*middleware* with qualified names, its own and that of the service that it leads to, if it has one."""
        settings = middleware.settings
        reference = getattr(settings, "service", None)
        if reference is None:
            return attrs.evolve(middleware, name=name)
        service = self._qualified(reference, provider)
        if service not in self.services and service not in self._resources:
            reason = "there is no such service; routers with this middleware answer 404"
            nearest = self._nearest(reference, provider, [*self.services, *self._resources])
            self.problems.append(
                Problem(f"middleware {name}", f"provider {provider}", reason, "service", reference, nearest)
            )
            self._misled[name] = f"middleware {name} leads to {service}, which there is not"
        elif service in self._unreachable:
            self._misled[name] = f"middleware {name} leads to {service}: {self._unreachable[service]}"
        return attrs.evolve(middleware, name=name, settings=attrs.evolve(settings, service=service))

    def tls(self, routes: Mapping[str, tuple[Route, ...]]) -> TLSTable:
        """What TLS clients get, now that all *routes* are known."""
        hosts: dict[str, dict[str, str]] = {}
        for entry_point, of_one in routes.items():
            secure = [route for route in of_one if route.tls is not None]
            if secure:
                hosts[entry_point] = self._hosts(entry_point, secure)
        configurations = self._configurations.values()
        certificates = tuple(dict.fromkeys(one for each in configurations for one in each.tls.certificates))
        default = next((each.tls.default for each in configurations if each.tls.default is not None), None)
        return TLSTable(certificates, default, {"default": TLSOptions(), **self._tls_options}, hosts)

    def _hosts(self, entry_point: str, routes: Iterable[Route]) -> dict[str, str]:
        """The options of each host; a host that routers want different ones for has the default (Traefik)."""
        found: dict[str, tuple[str, str]] = {}
        for route in routes:
            assert route.tls is not None
            options = route.tls.options or "default"
            for host in sorted(hosts_of(route.rule)):
                standing = found.setdefault(host, (options, route.name))
                if standing[0] == options or standing[0] == "":
                    continue
                reason = f"router {standing[1]} has other TLS options for {host}: default is in force for both"
                self.problems.append(
                    Problem(f"router {route.name}", f"entry point {entry_point}", reason, "tls.options")
                )
                found[host] = ("", standing[1])
        return {host: options for host, (options, _) in found.items() if options not in ("", "default")}

    def _router_tls(
        self, qualified: str, provider: str, router: Router, rule: Rule, tls: RouterTLS
    ) -> tuple[RouterTLS, str]:
        """*tls* with the qualified name of its options, and what is wrong with them."""
        reference = tls.options
        # The gate's own routers, such as ping, hold nothing that a client's certificate would be asked for.
        if reference in ("", "default") or provider == INTERNAL:
            return attrs.evolve(tls, options="default"), ""
        if not is_limited_to_hosts(rule):
            # The options follow from the host that a client names first: of other hosts it would not be asked for them.
            reason = "TLS options other than default need a rule that is limited to hosts by Host; it answers 404"
            self._tell(qualified, router, reason, "tls.options", reference)
            return attrs.evolve(tls, options="default"), "its rule is not limited to hosts, as its TLS options need"
        name = self._qualified(reference, provider)
        if name in self._tls_options:
            return attrs.evolve(tls, options=name), ""
        nearest = nearest_of(reference, [*self._tls_options])
        self._tell(
            qualified, router, "there are no such TLS options; it answers 404", "tls.options", reference, nearest
        )
        return attrs.evolve(tls, options="default"), f"there are no TLS options {reference}"

    def _entry_point_chain(self, name: str, facts: EntryPointFacts) -> tuple[tuple[Middleware, ...], str | None]:
        """The middlewares of all routes on an entry point, and what is wrong with them."""
        found: list[Middleware] = []
        fault: str | None = None
        for reference in facts.middlewares:
            qualified = self._qualified(reference, "")
            if qualified in self._middlewares:
                found.append(self._middlewares[qualified])
                fault = fault or self._misled.get(qualified)
                continue
            reason = "there is no such middleware: expected a name with its provider, as auth@file"
            nearest = self._nearest(reference, "", self._middlewares)
            key = f"entryPoints.{name}.http.middlewares"
            self.problems.append(
                Problem(f"entry point {name}", "the static configuration", reason, key, reference, nearest)
            )
            fault = fault or f"entry point {name} has no middleware {reference}"
        return tuple(found), fault

    def _qualified(self, reference: str, provider: str) -> str:
        """The name with its provider: *provider* unless it has one itself."""
        name, at, own = reference.rpartition("@")
        if not at:
            return f"{reference}@{provider}" if provider else reference
        # What Traefik v2 calls docker, in Swarm mode too, is swarm.
        return f"{name}@swarm" if own == "docker" and own not in self._providers else reference

    def routes_of(self, provider: str, name: str, router: Router) -> Iterator[Route]:
        """The router's routes, one for each of its entry points."""
        qualified = f"{name}@{provider}"
        try:
            rule = parse_rule(router.rule, router.syntax)
        except RuleError as error:
            self._tell(qualified, router, error.reason, "rule", router.rule, error.nearest)
            return
        fault: str | None = router.fault or None
        middlewares: list[Middleware] = []
        for reference in router.middlewares:
            found = self._middlewares.get(self._qualified(reference, provider))
            if found is not None:
                middlewares.append(found)
                fault = fault or self._misled.get(found.name)
                continue
            reason = "there is no such middleware; the router answers 404"
            nearest = self._nearest(reference, provider, self._middlewares)
            self._tell(qualified, router, reason, "middlewares", reference, nearest)
            fault = fault or f"there is no middleware {reference}"
        service_name = self._qualified(router.service, provider) if router.service else ""
        service = self.services.get(service_name)
        if service is None and service_name not in self._resources:
            reason = "there is no such service" if router.service else "no service is named"
            known = [*self.services, *self._resources]
            nearest = self._nearest(router.service, provider, known) if router.service else ""
            self._tell(qualified, router, f"{reason}; the router answers 404", "service", router.service, nearest)
            fault = fault or (f"there is no service {service_name}" if router.service else reason)
        fault = fault or self._unreachable.get(service_name)
        own_tls, tls_fault = (
            (None, "") if router.tls is None else self._router_tls(qualified, provider, router, rule, router.tls)
        )
        priority = router.priority or len(router.rule.encode("utf-8", "replace"))
        if priority > HIGHEST_USER_PRIORITY and provider != INTERNAL:
            reason = f"expected at most {HIGHEST_USER_PRIORITY}; the router answers 404"
            self._tell(qualified, router, reason, "priority", str(priority))
            fault = fault or "its priority is too high"
            priority = HIGHEST_USER_PRIORITY
        for entry_point in self._entry_points_of(qualified, router):
            chain, chain_fault = self._entry_point_chains[entry_point]
            observed = self._observed[entry_point]
            tls, entry_point_fault = own_tls, tls_fault
            model = self._entry_points[entry_point].tls
            if tls is None and model is not None:
                tls, entry_point_fault = self._router_tls(qualified, provider, router, rule, model)
            problem = fault or chain_fault or entry_point_fault or None
            yield Route(
                name=qualified,
                entry_point=entry_point,
                rule=rule,
                rule_text=router.rule,
                priority=priority,
                middlewares=(*chain, *middlewares),
                service=None if problem else service,
                service_name=service_name,
                provider=provider,
                problem=problem,
                tls=tls,
                observed=observed if router.observability is None else router.observability.over(observed),
            )

    def _entry_points_of(self, qualified: str, router: Router) -> Iterable[str]:
        if not router.entry_points:
            if not self._default_entry_points:
                self._tell(qualified, router, "it names no entry point, and there is none for all", "entryPoints", "")
            return self._default_entry_points
        known: list[str] = []
        for name in dict.fromkeys(router.entry_points):
            if name in self._entry_points:
                known.append(name)
                continue
            reason = f"there is no such entry point: expected {_listed(sorted(self._entry_points), 'or')}"
            self._tell(qualified, router, reason, "entryPoints", name, nearest_of(name, list(self._entry_points)))
        return known

    def _nearest(self, reference: str, provider: str, known: Collection[str]) -> str:
        """The nearest of the qualified names *known*, without provider if that is *provider*; perhaps ``""``."""
        bare = reference.rpartition("@")[0] or reference
        same = next((name for name in known if name.rpartition("@")[0] == bare), "")
        if same:
            return same
        # Comparing names is slow: a thousand wrong references to one of a thousand names must not stop the gate.
        self._comparisons += 1
        if self._comparisons > _MOST_COMPARISONS:
            return ""
        mine = f"@{provider}"
        names = [name.removesuffix(mine) for name in known]
        if len(names) > _COMPARED:
            names = [name for name in names if name[:1] == bare[:1]][:_COMPARED]
        return nearest_of(reference, names)

    def _tell(self, qualified: str, router: Router, reason: str, key: str, value: str, nearest: str = "") -> None:
        origin = router.origin or f"provider {qualified.rpartition('@')[2]}"
        self.problems.append(Problem(f"router {qualified}", origin, reason, key, value, nearest))


def hosts_of(rule: Rule) -> frozenset[str]:
    """The hosts that *rule* names, in lower case; what it negates apart."""
    if isinstance(rule, Matcher):
        return frozenset(host.lower() for host in rule.args if host != "*") if rule.name == "Host" else frozenset()
    if isinstance(rule, Not):
        return frozenset()
    return frozenset().union(*map(hosts_of, rule.rules))


def is_limited_to_hosts(rule: Rule) -> bool:
    """Whether all requests that *rule* matches are for hosts that it names."""
    if isinstance(rule, Matcher):
        return rule.name == "Host" and "*" not in rule.args
    if isinstance(rule, Not):
        return False
    limited = [is_limited_to_hosts(one) for one in rule.rules]
    return any(limited) if isinstance(rule, And) else all(limited)


def _listed(names: list[str], word: str) -> str:
    if len(names) > _SHOWN:
        return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"
    return f" {word} ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} {word} {names[-1]}"


# ---- what has changed, for the log


def describe_changes(old: RoutingTable, new: RoutingTable) -> tuple[str, ...]:
    """What is different in *new*, a line for each route, service and problem."""
    return (
        *_route_changes(old, new),
        *_service_changes(old, new),
        *_tls_changes(old.tls, new.tls),
        *_problem_changes(old, new),
    )


def _route_changes(old: RoutingTable, new: RoutingTable) -> Iterator[str]:
    before, after = _by_name(old), _by_name(new)
    for key in _changed(before, after):
        was, now = before.get(key), after.get(key)
        at = f"route {key[1]} on {key[0]}"
        if was is None and now is not None:
            yield f"{at} added: {now.rule_text} -> {_target(now)}"
        elif now is None and was is not None:
            yield f"{at} removed: {was.rule_text} -> {_target(was)}"
        elif was is not None and now is not None:
            differences = "; ".join(_differences(was, now))
            if differences:
                yield f"{at} changed: {differences}"


def _changed(before: Mapping[K, V], after: Mapping[K, V]) -> list[K]:
    """The keys under which there is something else, sorted. Nearly all of a large table is the very same."""
    gone = [key for key in before if key not in after]
    other = [key for key, now in after.items() if (was := before.get(key)) is not now and was != now]
    return sorted([*gone, *other])


def _tls_changes(was: TLSTable, now: TLSTable) -> Iterator[str]:
    for noun, before, after in (
        ("certificate", was.certificates, now.certificates),
        ("default certificate", (was.default,), (now.default,)),
    ):
        gone = [one for one in before if one not in after and one is not None]
        come = [one for one in after if one not in before and one is not None]
        for one in come:
            instead = any(other.names == one.names for other in gone)
            yield f"{noun} for {_listed([*one.names], 'and')} {'replaced' if instead else 'added'}: {one.origin}"
        for one in gone:
            if not any(other.names == one.names for other in come):
                yield f"{noun} for {_listed([*one.names], 'and')} removed: {one.origin}"
    for name in sorted({*was.options, *now.options}):
        if was.options.get(name) != now.options.get(name) and was.options:
            what = "removed" if name not in now.options else "changed" if name in was.options else "added"
            yield f"TLS options {name} {what}"


def _by_name(table: RoutingTable) -> dict[tuple[str, str], Route]:
    return {(route.entry_point, route.name): route for routes in table.routes.values() for route in routes}


def _target(route: Route) -> str:
    if route.problem:
        return f"404: {route.problem}"
    if route.service is None:
        return route.service_name
    return f"{route.service_name} ({_count(len(route.service.servers), 'server')})"


def _differences(was: Route, now: Route) -> Iterator[str]:
    if was.rule_text != now.rule_text:
        yield f"rule {was.rule_text} -> {now.rule_text}"
    if was.priority != now.priority:
        yield f"priority {was.priority} -> {now.priority}"
    if was.service_name != now.service_name:
        yield f"service {was.service_name} -> {now.service_name}"
    names_before, names_after = ([one.name for one in route.middlewares] for route in (was, now))
    if names_before != names_after:
        yield f"middlewares {', '.join(names_before) or 'none'} -> {', '.join(names_after) or 'none'}"
    else:
        for one, other in zip(was.middlewares, now.middlewares, strict=True):
            if one != other:
                # Not what they are: passwords may be among them.
                yield f"other settings of middleware {one.name}"
    if was.tls != now.tls:
        yield "no TLS" if now.tls is None else f"TLS with options {now.tls.options}"
    if was.observed != now.observed:
        yield "other things are told of its requests"
    if was.problem != now.problem:
        yield f"answers 404: {now.problem}" if now.problem else "in force again"


def _service_changes(old: RoutingTable, new: RoutingTable) -> Iterator[str]:
    for name in _changed(old.services, new.services):
        was, now = old.services.get(name), new.services.get(name)
        if was is None and now is not None:
            yield f"service {name} added: {_servers(now.servers)}"
        elif now is None:
            yield f"service {name} removed"
        elif was is not None and (differences := "; ".join(_server_differences(was, now))):
            yield f"service {name} changed: {differences}"


def _server_differences(was: Service, now: Service) -> Iterator[str]:
    before, after = frozenset(was.servers), frozenset(now.servers)
    gone = [one for one in was.servers if one not in after]
    come = [one for one in now.servers if one not in before]
    if gone:
        yield f"without {_servers(gone)}"
    if come:
        yield f"with {_servers(come)}"
    if gone or come:
        yield f"{_count(len(now.servers), 'server')} now"
    elif was.servers != now.servers:
        yield "servers in another order"
    names = [field.name for field in attrs.fields(Balancing)]
    if was.servers_transport != now.servers_transport or was.transport != now.transport:
        yield f"reached by {now.servers_transport or 'no serversTransport'}"
    if other := [name for name in names if getattr(was.balancing, name) != getattr(now.balancing, name)]:
        # Not what they are: the fields of a health check may hold a secret.
        yield f"other {_listed([name.replace('_', ' ') for name in other], 'and')}"


def _servers(servers: Iterable[Server]) -> str:
    shown = [f"{one.url} ({one.task})" if one.task else one.url for one in servers]
    return _listed(shown, "and") or "no server"


def _problem_changes(old: RoutingTable, new: RoutingTable) -> Iterator[str]:
    before, after = frozenset(old.problems), frozenset(new.problems)
    for problem in new.problems:
        if problem not in before:
            yield f"problem: {problem}"
    for problem in old.problems:
        if problem not in after:
            yield f"no longer a problem: {problem}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
