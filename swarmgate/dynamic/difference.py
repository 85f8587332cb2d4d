"""What has to be told to somebody who has one routing table, so that they have another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import compress
from operator import is_not
from typing import TypeVar

import attrs

from swarmgate.dynamic.model import Service
from swarmgate.dynamic.table import Route, RoutingTable, TLSTable, in_order

T = TypeVar("T")


@attrs.frozen
class TableDifference:
    """What makes one table from another; problems are left out, since nobody serves by them.

    :ivar routes: of each entry point: routes that are new or others than before, by their names, and None for those
        that are no more. An entry point that is not named here has the routes that it had.
    :ivar services: the same for services.
    :ivar tls: None: as before.
    """

    routes: Mapping[str, Mapping[str, Route | None]] = attrs.field(factory=dict)
    services: Mapping[str, Service | None] = attrs.field(factory=dict)
    tls: TLSTable | None = None


def difference(old: RoutingTable, new: RoutingTable) -> TableDifference:
    """What makes *new* from *old*."""
    routes = {}
    for name in {**old.routes, **new.routes}:
        changed = _changed(
            {route.name: route for route in apart_from(old.routes.get(name, ()), new.routes.get(name, ()))},
            {route.name: route for route in apart_from(new.routes.get(name, ()), old.routes.get(name, ()))},
        )
        if changed:
            routes[name] = changed
    return TableDifference(routes, _changed(old.services, new.services), None if old.tls == new.tls else new.tls)


def apart_from(routes: tuple[Route, ...], others: tuple[Route, ...]) -> Iterable[Route]:
    """Those of *routes* that are not the very same objects as any of *others*: they may be equal all the same."""
    if routes is others:
        return ()
    if len(routes) == len(others):
        # Mostly each has its place still, and what is at the same place needs no second look.
        differs = tuple(map(is_not, routes, others))
        routes, others = tuple(compress(routes, differs)), tuple(compress(others, differs))
    same = set(map(id, others))
    return [route for route in routes if id(route) not in same]


def applied(old: RoutingTable, changes: TableDifference) -> RoutingTable:
    """The table that *changes* make from *old*."""
    routes = dict(old.routes)
    for name, changed in changes.routes.items():
        before = routes.get(name, ())
        left = [route for route in before if route.name not in changed]
        routes[name] = in_order(left, [route for route in changed.values() if route is not None])
    services = old.services
    if changes.services:
        services = _merged(old.services, changes.services)
        if not old.services.keys() >= changes.services.keys():
            services = dict(sorted(services.items()))
    return RoutingTable(routes, services, (), old.tls if changes.tls is None else changes.tls)


def _changed(old: Mapping[str, T], new: Mapping[str, T]) -> dict[str, T | None]:
    changed: dict[str, T | None] = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if before is not value and before != value:
            changed[name] = value
    return changed


def _merged(old: Mapping[str, T], changed: Mapping[str, T | None]) -> dict[str, T]:
    merged = dict(old)
    for name, value in changed.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = value
    return merged
