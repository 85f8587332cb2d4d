"""The routing table: all providers' configurations merged, resolved and checked.

A table is a plain value. What serves requests needs nothing else to know where they go; two equal tables route alike,
which is how "nothing has changed" is told.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, TypeVar

import attrs

from swarmgate.dynamic.composition import Composition, children_first, children_of
from swarmgate.dynamic.model import Configuration, Middleware, Problem, Router, Service
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
_DEEPEST = 16  # Services made of services made of services.
_MANY = 20  # To find its place costs a route so many times what sorting all of them costs each.


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


def in_order(routes: Sequence[Route], more: Collection[Route]) -> tuple[Route, ...]:
    """*routes*, which are in the order in which they are asked, and *more*, each in its place."""
    if len(more) * _MANY > len(routes):
        return tuple(sorted((*routes, *more), key=precedence))
    placed = list(routes)
    for route in more:
        insort(placed, route, key=precedence)
    return tuple(placed)


def compile_table(
    configurations: Mapping[str, Configuration],
    entry_points: Mapping[str, EntryPointFacts],
    resources: Collection[str] = (),
) -> RoutingTable:
    """The table that follows from what all providers say; see :meth:`Compiler.compile`."""
    return Compiler(resources).compile(configurations, entry_points)


class Compiler:
    """Makes one table after the other.

    What follows from the same as the time before is the same object as the time before: neither made again, nor
    compared by those who get the table. Of ten thousand routers mostly one has changed.
    """

    def __init__(self, resources: Collection[str] = ()) -> None:
        """
        :param resources: names of the gate's own resources that routers can lead to, as ``ping@internal``.
        """
        self._resources = frozenset(resources)
        self._world: _World | None = None
        self._table = RoutingTable()

    def compile(
        self, configurations: Mapping[str, Configuration], entry_points: Mapping[str, EntryPointFacts]
    ) -> RoutingTable:
        """The table that follows from what all providers say.

        What is wrong with a router costs that router alone, and is told in the table's problems.

        :param configurations: by the provider's name.
        :param entry_points: by name.
        """
        world = _World(configurations, entry_points, self._resources, self._world)
        routes: dict[str, list[Route]] = {name: [] for name in entry_points}
        again = world.again()
        for provider, configuration in configurations.items():
            world.problems.extend(configuration.problems)
            for name in sorted(configuration.routers if again is None else again[provider]):
                for route in world.routes_of(provider, name, configuration.routers[name]):
                    routes[route.entry_point].append(route)
        left: Mapping[str, Sequence[Route]] = {}
        if again is not None:
            seen = {f"{name}@{provider}" for provider, names in again.items() for name in names}
            left = {
                name: [route for route in of_one if route.name not in seen]
                for name, of_one in self._table.routes.items()
            }
        ordered = {name: in_order(left.get(name, ()), of_one) for name, of_one in routes.items()}
        # In the same order as before, if they have the same names.
        names = sorted(world.services) if again is None else self._table.services
        services = {name: world.services[name] for name in names}
        tls = world.tls(ordered)
        world.forget()
        self._world = world
        self._table = RoutingTable(ordered, services, tuple(dict.fromkeys(world.problems)), tls)
        return self._table


@attrs.frozen
class _Outcome:
    """What a router has come to, without a problem.

    :ivar provider: whose it is, by its :ivar name: there.
    :ivar references: qualified names of the services and middlewares that it has come to that by.
    """

    provider: str
    name: str
    router: Router
    references: frozenset[str]
    routes: tuple[Route, ...]


class _World:
    """What the routers of all providers refer to, by qualified name, and the problems found so far."""

    def __init__(
        self,
        configurations: Mapping[str, Configuration],
        entry_points: Mapping[str, EntryPointFacts],
        resources: frozenset[str],
        before: _World | None = None,
    ) -> None:
        """
        :param before: what is equal to its own is taken from it.
        """
        self.problems: list[Problem] = []
        self._observed = {name: facts.observability.over(Observed()) for name, facts in entry_points.items()}
        self._comparisons = 0
        self.services: dict[str, Service] = {}
        self._sources: dict[str, Service] = {}
        #: Services that are made of others, with their providers, as they are configured.
        self._composed: dict[str, tuple[str, Service]] = {}
        self._middlewares: dict[str, Middleware] = {}
        self._middleware_sources: dict[str, Middleware] = {}
        self._outcomes: dict[str, _Outcome] = {}
        self._providers = frozenset(configurations)
        self._resources = resources
        self._configurations = dict(configurations)
        self._tls_options: dict[str, TLSOptions] = {}
        transports: dict[str, ServersTransport] = {}
        for provider, one in configurations.items():
            for name, options in one.tls.options.items():
                self._tls_options.setdefault("default" if name == "default" else f"{name}@{provider}", options)
            transports.update({f"{name}@{provider}": transport for name, transport in one.servers_transports.items()})
        self._transports = transports
        #: Services that can't be reached as they should be, and why.
        self._unreachable: dict[str, str] = {}
        #: The world that this one has all names of, None if there is none: what is the same there needs no look.
        self._alike = before if before is not None and self._is_alike(before) else None
        #: Services and middlewares that were looked at.
        self._seen: set[str] = set()
        if self._alike is not None:
            self.services, self._sources = self._alike.services.copy(), self._alike._sources.copy()
            self._composed = self._alike._composed.copy()
        for provider, name, service in self._unseen("services"):
            qualified = f"{name}@{provider}"
            self._composed.pop(qualified, None)
            if service.composition is not None:
                self._composed[qualified] = provider, service
            self.services[qualified] = self._service(qualified, provider, service, before)
            self._sources[qualified] = service
            self._seen.add(qualified)
        if self._composed:
            self._compose(before)
        if self._unreachable:
            self._alike = None
        #: Middlewares that lead to a service which can't be had, and why.
        self._misled: dict[str, str] = {}
        if self._alike is not None:
            self._middlewares = self._alike._middlewares.copy()
            self._middleware_sources = self._alike._middleware_sources.copy()
        for provider, name, middleware in self._unseen("middlewares"):
            qualified = f"{name}@{provider}"
            self._middlewares[qualified] = self._middleware(qualified, provider, middleware, before)
            self._middleware_sources[qualified] = middleware
            self._seen.add(qualified)
        self._entry_points = entry_points
        defaults = [name for name, one in entry_points.items() if one.as_default]
        ordinary = [name for name, one in entry_points.items() if not one.internal and name != "traefik"]
        self._default_entry_points = tuple(defaults or ordinary)
        self._entry_point_chains = {name: self._entry_point_chain(name, one) for name, one in entry_points.items()}
        self._before: dict[str, _Outcome] = {}
        self._others: set[str] = set()
        #: Routers that have come to nothing, or to a problem, with their providers.
        self._faulty: set[tuple[str, str]] = set()
        if before is None or not self._take_over(before):
            self._alike = None

    def _is_alike(self, before: _World) -> bool:
        """Whether all that *before* had names for is there still, by the same names in the same order, and no more."""

        def names(world: _World) -> Iterator[list[str]]:
            yield [*world._configurations]
            for one in world._configurations.values():
                yield from ([*one.routers], [*one.services], [*one.middlewares])

        if before._unreachable or before._misled or self._transports != before._transports:
            return False
        return all(mine == its for mine, its in zip_longest(names(self), names(before)))

    def _unseen(self, what: str) -> Iterator[tuple[str, str, Any]]:
        """The services or middlewares, each with its provider and name, that are not the same in the world alike."""
        for provider, one in self._configurations.items():
            now = getattr(one, what)
            if self._alike is None:
                yield from ((provider, name, value) for name, value in now.items())
                continue
            was = getattr(self._alike._configurations[provider], what)
            if was is not now:
                yield from ((provider, name, value) for name, value in now.items() if was[name] is not value)

    def again(self) -> dict[str, set[str]] | None:
        """By provider the names of routers that may come to something else than before; None: all may."""
        before = self._alike
        if before is None:
            return None
        found: dict[str, set[str]] = {}
        for provider, one in self._configurations.items():
            now, was = one.routers, before._configurations[provider].routers
            found[provider] = {name for name, router in now.items() if was[name] is not router}
        for provider, name in before._faulty:
            found[provider].add(name)
        if self._others:
            for outcome in before._outcomes.values():
                if not outcome.references.isdisjoint(self._others):
                    found[outcome.provider].add(outcome.name)
        self._outcomes = before._outcomes.copy()
        for provider, names in found.items():
            for name in names:
                self._outcomes.pop(f"{name}@{provider}", None)
        return found

    def _take_over(self, before: _World) -> bool:
        """Go by what *before* has found out, where everything that it follows from is the same. Says if it is."""

        def facts(world: _World) -> tuple[object, ...]:
            its = world._entry_points, world._resources, world._providers
            return (*its, world._tls_options, world._entry_point_chains)

        if facts(self) != facts(before):
            return False
        self._before = before._outcomes
        looked_at = None if self._alike is None else self._seen
        self._others = {
            *_others(before.services, self.services, looked_at),
            *_others(before._middlewares, self._middlewares, looked_at),
            *before._misled,
            *self._misled,
        }
        return True

    def forget(self) -> None:
        """Let go of what is of no use to the next one."""
        self._before, self._others, self._alike = {}, set(), None

    def _service(self, name: str, provider: str, service: Service, before: _World | None) -> Service:
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
        if before is not None and (before._sources.get(name) is service or before._sources.get(name) == service):
            known = before.services[name]
            if known.transport == transport:
                return known
        return attrs.evolve(service, name=name, transport=transport)

    def _compose(self, before: _World | None) -> None:
        """Resolve the services that are made of others."""
        self._seen.update(self._composed)
        children = {
            name: {self._qualified(one, provider) for one in children_of(service.composition)}
            for name, (provider, service) in self._composed.items()
            if service.composition is not None
        }
        order, circles = children_first(children)
        for circle in circles:
            reason = f"it leads back to itself: {' -> '.join((*circle, circle[0]))}"
            for name in circle:
                self._is_unreachable(name, reason)
                self._put(name, (), before)
        depths: dict[str, int] = {}
        for name in order:
            depths[name] = 1 + max((depths.get(child, 0) for child in children[name]), default=0)
            if depths[name] > _DEEPEST:
                self._is_unreachable(name, f"it is made of services that are made of others, more than {_DEEPEST} deep")
                self._put(name, (), before)
                depths[name] = 0
                continue
            lack = self._put(name, self._children(name), before).lack
            if lack:
                self._is_unreachable(name, lack)

    def _is_unreachable(self, name: str, reason: str) -> None:
        provider = self._composed[name][0]
        self._unreachable[name] = reason
        self.problems.append(Problem(f"service {name}", f"provider {provider}", f"{reason}; its routers answer 404"))

    def _put(self, name: str, children: Iterable[tuple[str, str]], before: _World | None) -> Composition:
        """Have the service *name* made of those *children*: the qualified name for each that it has."""
        service = self._composed[name][1]
        assert service.composition is not None
        composition = service.composition.qualified(dict(children))
        made = attrs.evolve(service, name=name, composition=composition)
        known = None if before is None else before.services.get(name)
        self.services[name] = known if known is not None and known == made else made
        return composition

    def _children(self, name: str) -> Iterator[tuple[str, str]]:
        """The names that the service *name* has for its children, and their qualified ones, without bad ones."""
        provider, service = self._composed[name]
        assert service.composition is not None
        for key, reference in service.composition.references:
            child = self._qualified(reference, provider)
            nearest = ""
            if child in self._resources:
                reason = "a service of the gate's own can't be part of another"
            elif child not in self.services:
                reason, nearest = "there is no such service", self._nearest(reference, provider, self.services)
            elif child in self._unreachable:
                reason = self._unreachable[child]
            else:
                yield reference, child
                continue
            key = f"{service.composition.kind}.{key}"
            reason = f"{reason}; it is left out"
            self.problems.append(Problem(f"service {name}", f"provider {provider}", reason, key, reference, nearest))

    def _middleware(self, name: str, provider: str, middleware: Middleware, before: _World | None) -> Middleware:
        """*middleware* with qualified names, its own and that of the service that it leads to, if it has one."""
        settings = middleware.settings
        reference = getattr(settings, "service", None)
        is_known = before is not None and before._middleware_sources.get(name) is middleware
        if reference is None:
            return before._middlewares[name] if before is not None and is_known else attrs.evolve(middleware, name=name)
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
        if before is not None and is_known and name not in self._misled and name not in before._misled:
            known = before._middlewares[name]
            if known.settings.service == service:
                return known
        return attrs.evolve(middleware, name=name, settings=attrs.evolve(settings, service=service))

    def tls(self, routes: Mapping[str, tuple[Route, ...]]) -> TLSTable:
        """What TLS clients get, now that all *routes* are known."""
        hosts: dict[str, dict[str, str]] = {}
        for entry_point, of_one in routes.items():
            secure = [route for route in of_one if route.tls is not None]
            if secure:
                of_others = any(route.tls is not None and route.tls.options != "default" for route in secure)
                hosts[entry_point] = self._hosts(entry_point, secure) if of_others else {}
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

    def routes_of(self, provider: str, name: str, router: Router) -> Iterable[Route]:
        """The router's routes, one for each of its entry points."""
        qualified = f"{name}@{provider}"
        known = self._before.get(qualified)
        if (
            known is not None
            and (known.router is router or known.router == router)
            and known.references.isdisjoint(self._others)
        ):
            self._outcomes[qualified] = known
            return known.routes
        problems = len(self.problems)
        routes = tuple(self._routes_of(provider, qualified, router))
        # What is told of a problem may have to do with anything: the nearest name, how often one was looked for.
        if len(self.problems) == problems and not any(route.problem for route in routes):
            references = {self._qualified(one, provider) for one in (*router.middlewares, router.service)}
            self._outcomes[qualified] = _Outcome(provider, name, router, frozenset(references), routes)
        else:
            self._faulty.add((provider, name))
        return routes

    def _routes_of(self, provider: str, qualified: str, router: Router) -> Iterator[Route]:
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
            if router.service or not fault:  # else it is known already why there is none
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
            reason = f"there is no such entry point: expected {listed(sorted(self._entry_points), 'or')}"
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


def _others(before: Mapping[str, V], after: Mapping[str, V], among: Collection[str] | None) -> Iterator[str]:
    """The names under which there is something else; it is so only *among* those, if they are given."""
    for name in before.keys() | after.keys() if among is None else among:
        was, now = before.get(name), after.get(name)
        if was is not now and was != now:
            yield name


def listed(names: list[str], word: str) -> str:
    """The first few of *names*, and how many there are beside them."""
    if len(names) > _SHOWN:
        return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"
    return f" {word} ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} {word} {names[-1]}"
