"""What names the host of a request and is not in force because of an error: :func:`disabled`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import attrs

from swarmgate.dynamic.matching import compile_rule
from swarmgate.dynamic.model import Configuration
from swarmgate.dynamic.rules import Matcher, Not, Rule, RuleError, parse_rule
from swarmgate.dynamic.table import RoutingTable
from swarmgate.why.requests import Question, missed
from swarmgate.why.services import World, why_service

_MOST = 10


@attrs.frozen
class Disabled:
    """A router, or a Swarm service without any, that names the host.

    :ivar name: as ``router web@file`` or ``service shop_web``.
    :ivar rule: of the router, as it was written.
    :ivar reasons: what is wrong, each a sentence part.
    """

    name: str
    reasons: tuple[str, ...]
    rule: str = ""

    def sentence(self) -> str:
        """The same for people."""
        kind, _, name = self.name.partition(" ")
        rule = f", {self.rule}," if self.rule else ""
        effect = "is disabled" if kind == "router" else "names the host and has no router"
        return f"{kind.capitalize()} {name}{rule} {effect}: {'; '.join(self.reasons)}."


def disabled(
    request: Question,
    table: RoutingTable,
    configurations: Mapping[str, Configuration],
    world: World | None = None,
) -> tuple[Disabled, ...]:
    """Routers and Swarm services that were meant for the request's host, as it seems, and get none; a few of them.

    :param configurations: that the table was made of, by provider.
    """
    found = [*_routers(request, table, configurations), *(() if world is None else _services(request, world))]
    return tuple(found[:_MOST])


def _routers(request: Question, table: RoutingTable, configurations: Mapping[str, Configuration]) -> Iterator[Disabled]:
    problems: dict[str, list[str]] = {}
    for problem in table.problems:
        problems.setdefault(problem.subject, []).append(str(problem).removeprefix(f"{problem.subject}: "))
    in_force: set[str] = set()
    faults: dict[str, str] = {}
    for routes in table.routes.values():
        for route in routes:
            in_force.add(route.name)
            if route.problem:
                faults[route.name] = route.problem
    for provider, configuration in configurations.items():
        for router in configuration.routers.values():
            name = f"{router.name}@{provider}"
            if (name in in_force and name not in faults) or not _is_for(router.rule, router.syntax, request):
                continue
            reasons = problems.get(f"router {name}") or [faults.get(name) or "it is on no entry point"]
            yield Disabled(f"router {name}", tuple(reasons), router.rule)


def _services(request: Question, world: World) -> Iterator[Disabled]:
    for service in world.snapshot.services:
        share = world.decision.shares.get(service.id)
        if share is None or share.routers or not any(_names(text, request) for _, text in service.labels):
            continue
        reasons = [one.sentence for one in why_service(service.name, world) if not one.is_hint]
        if reasons:
            yield Disabled(f"service {service.name}", tuple(reasons))


def _is_for(text: str, syntax: str, request: Question) -> bool:
    """Whether a rule, be it a right one or not, is meant for the host of a request."""
    try:
        rule = parse_rule(text, syntax)
    except RuleError:
        return _names(text, request)
    hosts = list(_host_matchers(rule))
    return any(compile_rule(one)(request) for one in hosts) if hosts else not missed(rule, request)


def _host_matchers(rule: Rule) -> Iterator[Matcher]:
    if isinstance(rule, Matcher):
        if rule.name in ("Host", "HostRegexp"):
            yield rule
    elif not isinstance(rule, Not):
        for one in rule.rules:
            yield from _host_matchers(one)


def _names(text: str, request: Question) -> bool:
    """Whether the host occurs in a text, as a whole."""
    host = request.host.decode("utf-8", "replace")
    text = text.lower()
    return host in text and re.search(rf"(?<![\w.-]){re.escape(host)}(?![\w.-])", text) is not None
