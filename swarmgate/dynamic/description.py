"""What is different in a new routing table, in lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import attrs

from swarmgate.dynamic.difference import apart_from
from swarmgate.dynamic.model import Balancing, Server, Service
from swarmgate.dynamic.table import Route, RoutingTable, TLSTable, listed

K = TypeVar("K", bound=Any)
V = TypeVar("V", bound=Any)


def describe_changes(old: RoutingTable, new: RoutingTable) -> tuple[str, ...]:
    """What is different in *new*, a line for each route, service and problem."""
    return (
        *_route_changes(old, new),
        *_service_changes(old, new),
        *_tls_changes(old.tls, new.tls),
        *_problem_changes(old, new),
    )


def _route_changes(old: RoutingTable, new: RoutingTable) -> Iterator[str]:
    before, after = _by_name(old, new), _by_name(new, old)
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
    """The keys under which there is something else, sorted."""
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
            yield f"{noun} for {listed([*one.names], 'and')} {'replaced' if instead else 'added'}: {one.origin}"
        for one in gone:
            if not any(other.names == one.names for other in come):
                yield f"{noun} for {listed([*one.names], 'and')} removed: {one.origin}"
    for name in sorted({*was.options, *now.options}):
        if was.options.get(name) != now.options.get(name) and was.options:
            what = "removed" if name not in now.options else "changed" if name in was.options else "added"
            yield f"TLS options {name} {what}"


def _by_name(table: RoutingTable, other: RoutingTable) -> dict[tuple[str, str], Route]:
    """The routes of *table*, but for those that *other* has too. Nearly all of a large table is the very same."""
    return {
        (route.entry_point, route.name): route
        for name, routes in table.routes.items()
        for route in apart_from(routes, other.routes.get(name, ()))
    }


def _target(route: Route) -> str:
    if route.problem:
        return f"404: {route.problem}"
    if route.service is None:
        return route.service_name
    return f"{route.service_name} ({route.service.composition or _count(len(route.service.servers), 'server')})"


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
            yield f"service {name} added: {now.composition or _servers(now.servers)}"
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
    if was.composition != now.composition:
        yield str(now.composition or "no others' any more")
    names = [field.name for field in attrs.fields(Balancing)]
    if was.servers_transport != now.servers_transport or was.transport != now.transport:
        yield f"reached by {now.servers_transport or 'no serversTransport'}"
    if other := [name for name in names if getattr(was.balancing, name) != getattr(now.balancing, name)]:
        # Not what they are: the fields of a health check may hold a secret.
        yield f"other {listed([name.replace('_', ' ') for name in other], 'and')}"


def _servers(servers: Iterable[Server]) -> str:
    shown = [f"{one.url} ({one.task})" if one.task else one.url for one in servers]
    return listed(shown, "and") or "no server"


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
