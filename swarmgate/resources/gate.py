"""The routing table put into force: the only way from what is configured to what serves."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.resource import IResource

from swarmgate.balancing.member import Member
from swarmgate.balancing.strategies import Rotation
from swarmgate.dynamic.composition import (
    Composition,
    Failover,
    HighestRandomWeight,
    Weighted,
    children_first,
    children_of,
)
from swarmgate.dynamic.matching import RouteIndex
from swarmgate.dynamic.model import HealthCheck, Server, Service
from swarmgate.dynamic.table import Route, RoutingTable
from swarmgate.dynamic.tls import ServersTransport
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.exchange import Exchange
from swarmgate.http.upstream import Upstream, UpstreamSettings
from swarmgate.middlewares import build, files_of
from swarmgate.middlewares.chain import Chain, Leaf
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.resources.proxy import ReverseProxyResource
from swarmgate.resources.reach import Reaching, settings_of
from swarmgate.resources.shedding import LoadShedding
from swarmgate.resources.tree import NOT_FOUND, EntryPointRoot, SecureEntryPointRoot
from swarmgate.resources.waiting import WaitingRoom
from swarmgate.transport.network import Network

if TYPE_CHECKING:
    from swarmgate.resources.composed import ServiceLeaf

_log = Logger()
T = TypeVar("T")


def checks_of(table: RoutingTable) -> dict[str, tuple[HealthCheck, Sequence[str]]]:
    """The health check, and the servers' URLs, of each service that has one."""
    return {
        name: (service.balancing.health_check, [server.url for server in service.servers])
        for name, service in table.services.items()
        if service.balancing.health_check is not None
    }


def leaf_of(name: str, resource: IResource | Leaf) -> Leaf:
    """What answers exchanges with *resource*, as the service *name* of the gate's own."""
    if hasattr(resource, "serve"):
        return resource
    from swarmgate.resources.bridge import ResourceLeaf  # with twisted.web's server, which few need

    return ResourceLeaf(name, resource)


class Kept:
    """What outlives a table: objects by key, for as long as something in the table in force asks for them."""

    def __init__(self) -> None:
        self._objects: dict[Any, Any] = {}
        self._noted: dict[Any, Any] = {}
        #: By how many each is held, and those that may be held by none.
        self._held: dict[Any, int] = {}
        self._loose: dict[Any, None] = {}

    def note(self) -> dict[Any, Any]:
        """What is asked for from now on until this is called again; for :meth:`hold`."""
        self._noted = {}
        return self._noted

    def hold(self, noted: Iterable[Any]) -> None:
        """Keep all of that until it is let go."""
        for key in noted:
            self._held[key] = self._held.get(key, 0) + 1

    def let_go(self, noted: Iterable[Any]) -> None:
        """Somebody needs that no more; others may."""
        for key in noted:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
                self._loose[key] = None

    def keep(self, key: Any, make: Callable[[], T]) -> T:
        """The object under *key*, made now if there is none."""
        try:
            kept = self._objects[key]
        except KeyError:
            kept = make()
            self._objects[key] = kept
            self._loose[key] = None
        self._noted[key] = kept
        return kept  # type: ignore[no-any-return]

    def get(self, key: Any) -> Any:
        """The object under *key*, None if there is none."""
        return self._objects.get(key)

    def forget_others(self) -> list[Any]:
        """Drop what nobody holds. Returns it."""
        self._noted = {}
        loose, self._loose = self._loose, {}
        return [self._objects.pop(key) for key in loose if key not in self._held]

    def items(self) -> Collection[tuple[Any, Any]]:
        """All of it, with the keys."""
        return self._objects.items()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._objects.values())


@attrs.frozen
class _Served:
    """A service, and what has been made of it.

    :ivar kept: what was asked for to make it, and of :ivar upstreams:.
    :ivar children: what answers for the services that it is made of, by their names.
    """

    service: Service
    leaf: ServiceLeaf
    kept: dict[Any, Any]
    upstreams: dict[Any, Any]
    children: dict[str, ServiceLeaf] = attrs.field(factory=dict)


@attrs.frozen
class _File:
    """A file as it was: what changes when something else is written to it, 0 if it was not there."""

    name: str
    changed: int = 0
    size: int = 0
    inode: int = 0


def _look(names: Iterable[str]) -> tuple[_File, ...]:
    seen = []
    for name in names:
        try:
            found = os.stat(name)
        except OSError:
            seen.append(_File(name))
        else:
            seen.append(_File(name, found.st_mtime_ns, found.st_size, found.st_ino))
    return tuple(seen)


@attrs.frozen
class _Routed:
    """A route, what it leads to, and the chain that has been made of it.

    :ivar kept: what was asked for to make it.
    :ivar files: the files that its middlewares were made from, as they were.
    :ivar is_made: not if it could not be made as it should be.
    """

    route: Route
    leaf: Leaf
    chain: Leaf
    kept: dict[Any, Any]
    files: tuple[_File, ...] = ()
    is_made: bool = True


class Gate:
    """Serves by the table that was applied last.

    What stays equal from one table to the next stays as it is: its connections, turns and buckets included.

    :ivar roots: the resource tree of each entry point, by its name.
    :ivar secure_roots: those for requests that came over TLS.
    :ivar shedding: which of its requests are refused because of overload.
    """

    def __init__(
        self,
        entry_points: Iterable[str],
        network: Network,
        clock: IReactorTime,
        deadlines: Deadlines,
        upstream_settings: UpstreamSettings,
        resources: Mapping[str, IResource | Leaf],
        context: Callable[..., Context] = Context,
        reaching: Reaching | None = None,
        watch_upstream: Callable[[Upstream], object] | None = None,
        not_found: Leaf = NOT_FOUND,
        watch_route: Callable[[Route, Leaf], Leaf] | None = None,
    ) -> None:
        """
        :param reaching: makes upstreams; by default as servers are reached that no transport is named for.
        :param watch_upstream: gets each upstream when it is made.
        :param not_found: answers what no route takes.
        :param watch_route: gets each route with what serves it, and gives what is to serve it instead.
        """
        # Given.
        self.shedding = {name: LoadShedding() for name in entry_points}
        self.roots = {name: EntryPointRoot(name, not_found, shedding) for name, shedding in self.shedding.items()}
        self.secure_roots = {
            name: SecureEntryPointRoot(name, not_found, shedding) for name, shedding in self.shedding.items()
        }
        self._reaching = reaching or Reaching(network, deadlines)
        self._upstream_settings = upstream_settings
        self._clock = clock
        self._deadlines = deadlines
        self._context = context
        self._watch_upstream = watch_upstream
        self._watch_route = watch_route or (lambda route, leaf: leaf)
        # What the table in force has made.
        self._kept = Kept()
        self._upstreams = Kept()
        self._internal: dict[str, Leaf] = {name: leaf_of(name, resource) for name, resource in resources.items()}
        #: Those that somebody else answers for than did in the table in force.
        self._answered: set[str] = set()
        self._leaves: dict[str, _Served] = {}
        #: Those of them that are made of others.
        self._composed: dict[str, Service] = {}
        self._left: list[tuple[str, Server, Upstream]] = []
        self._indexes: dict[EntryPointRoot, RouteIndex] = {}
        self._chains: dict[str, dict[str, _Routed]] = {name: {} for name in self.roots}

    def answer(self, name: str, leaf: Leaf) -> None:
        """Have *leaf* answer for the gate's own service of that qualified name, in tables to come."""
        self._internal[name] = leaf
        self._answered.add(name)

    def apply(self, table: RoutingTable) -> None:
        """Serve by *table* from the next request on; requests under way finish on what they began with."""
        # Of ten thousand mostly one is another: of each no more is seen than that it is the same.
        before_leaves, leaves = self._leaves, {}
        moved = self._answered
        made: list[str] = []
        composed = {name: one for name, one in self._composed.items() if table.services.get(name) is one}
        for name, service in table.services.items():
            served = before_leaves.get(name)
            if served is None or served.service is not service:
                if service.composition is not None:
                    composed[name] = service
                    continue
                before = served
                served = self._leaf(name, service, before)
                self._kept.hold(served.kept)
                self._upstreams.hold(served.upstreams)
                made.append(name)
                if before is None or before.leaf is not served.leaf:
                    moved.add(name)
            leaves[name] = served
        self._composed = composed
        if composed:
            moved |= self._compose(before_leaves, leaves)
        self._leaves = leaves
        for name, served in before_leaves.items():
            if leaves.get(name) is not served:
                self._kept.let_go(served.kept)
                self._upstreams.let_go(served.upstreams)
        for entry_point, root in self.roots.items():
            routes = table.routes.get(entry_point, ())
            chains = self._chains[entry_point] = self._chains_of(routes, self._chains[entry_point], moved)
            its_leaves = {name: routed.chain for name, routed in chains.items()}
            plain = [route for route in routes if route.tls is None]
            secure = [route for route in routes if route.tls is not None]
            for one, its in ((root, plain), (self.secure_roots[entry_point], secure)):
                index = self._indexes[one] = RouteIndex(its, self._indexes.get(one))
                one.show(index, its_leaves)
        self._answered = set()
        dropped = self._kept.forget_others()
        retired = {upstream.url: upstream for upstream in self._upstreams.forget_others()}
        for upstream in retired.values():
            upstream.retire()
        self._left = self.draining() + [
            (name, server, retired[server.url])
            for name, served in (before_leaves.items() if retired else ())
            for server in served.service.servers
            if server.url in retired
        ]
        for kept in dropped:
            close = getattr(kept, "close", None)
            if close is not None:
                close()
        for name in made:
            known, served = before_leaves.get(name), leaves[name]
            service, leaf = served.service, served.leaf
            if isinstance(leaf, ReverseProxyResource) and (known is None or known.leaf is not leaf):
                others = known is not None and known.service.servers != service.servers
                leaf.room.changed(leaf, service.balancing.wait, service.awaited, others)

    def _compose(self, before: Mapping[str, _Served], leaves: dict[str, _Served]) -> set[str]:
        """Add to *leaves* what answers for services that are made of others. Returns the names that others answer."""
        moved = set()
        compositions = {name: one.composition for name, one in self._composed.items() if one.composition is not None}
        names = {name: children_of(one) for name, one in compositions.items() if not one.lack}
        for name in children_first(names)[0]:
            service, served = self._composed[name], before.get(name)
            children = {child: leaves[child].leaf for child in names[name]}
            if served is None or served.service != service or served.children != children:
                moved.add(name)
                kept = self._kept.note()
                leaf = self._leaf_of_children(name, compositions[name], children)
                served = _Served(service, leaf, kept, {}, children)
                self._kept.hold(kept)
            leaves[name] = served
        return moved

    def _leaf_of_children(
        self, name: str, composition: Composition, children: Mapping[str, ServiceLeaf]
    ) -> ServiceLeaf:
        if isinstance(composition, Weighted):
            from swarmgate.resources.weighted import WeightedResource  # few need any of these

            rotation = self._kept.keep(("rotation", name), Rotation)
            return WeightedResource(name, composition, children, rotation)
        if isinstance(composition, HighestRandomWeight):
            from swarmgate.resources.highest_random_weight import HighestRandomWeightResource

            return HighestRandomWeightResource(name, composition, children)
        if isinstance(composition, Failover):
            from swarmgate.resources.failover import FailoverResource

            return FailoverResource(name, composition, children, self._clock)
        from swarmgate.resources.mirroring import Copies, MirroringResource

        copies = self._kept.keep(("copies", name), Copies)
        return MirroringResource(name, composition, children, copies, self._deadlines, self._clock)

    def _leaf(self, name: str, service: Service, before: _Served | None) -> _Served:
        kept, upstreams = self._kept.note(), self._upstreams.note()
        rotation = self._kept.keep(("rotation", name), Rotation)
        room = self._kept.keep(("room", name), lambda: WaitingRoom(self._deadlines))
        new: list[Member] = []
        unknown: list[Upstream] = []
        members = [self._member(name, service.transport, server, new, unknown) for server in service.servers]
        if before is not None and before.service == service:
            return attrs.evolve(before, service=service, kept=kept, upstreams=upstreams)
        if before is not None and len(new) < len(members):
            # There are others meanwhile: a new one gets requests once it is known to listen, and to be well.
            for upstream in unknown:
                upstream.probe()
            for member in new:
                if service.balancing.health_check is not None:
                    member.judge(None)
                if service.balancing.slow_start:
                    member.start_slowly(service.balancing.slow_start)
        if service.balancing.health_check is None:
            for member in members:
                member.judge(True)
        leaf = ReverseProxyResource(name, members, rotation, room, service.balancing)
        return _Served(service, leaf, kept, upstreams)

    def _member(
        self,
        service: str,
        transport: ServersTransport | None,
        server: Server,
        new: list[Member],
        unknown: list[Upstream],
    ) -> Member:
        """The member that *server* is of *service*, added to *new* and *unknown* if it, or its upstream, is that."""

        def make_upstream() -> Upstream:
            upstream = self._reaching.upstream(server.url, transport, self._upstream_settings)
            if self._watch_upstream is not None:
                self._watch_upstream(upstream)
            unknown.append(upstream)
            return upstream

        upstream = self._upstreams.keep((server.url, transport), make_upstream)

        def make() -> Member:
            member = Member(server, upstream, random.random)
            new.append(member)
            return member

        member: Member = self._kept.keep(("member", service, server.url), make)
        member.server = server
        member.upstream = upstream
        return member

    def _chains_of(self, routes: Iterable[Route], before: dict[str, _Routed], moved: set[str]) -> dict[str, _Routed]:
        """What serves *routes* of an entry point, by name.

        :param moved: the services that another leaf answers for than before.
        """
        chains: dict[str, _Routed] = {}
        for route in routes:
            known = routed = before.get(route.name)
            if (
                routed is None
                or routed.route is not route
                or routed.files
                or not routed.is_made
                or route.service_name in moved
            ):
                routed = self._chain(route, known)
                if routed is not known:
                    self._kept.hold(routed.kept)
            chains[route.name] = routed
        for name, routed in before.items():
            if chains.get(name) is not routed:
                self._kept.let_go(routed.kept)
        return chains

    def _chain(self, route: Route, before: _Routed | None) -> _Routed:
        if route.problem is not None:
            return _Routed(route, NOT_FOUND, self._watch_route(route, NOT_FOUND), {})
        leaf = self._leaves[route.service_name].leaf if route.service else self._internal[route.service_name]
        if before is not None and (before.leaf is not leaf or not before.is_made):
            before = None
        if before is not None and before.files and _look(file.name for file in before.files) != before.files:
            before = None
        if before is not None and before.route is route:
            return before
        kept = self._kept.note()
        files = _look(name for one in route.middlewares for name in files_of(one.kind, one.settings))
        try:
            # Built even if it will not be used, so that what it keeps is asked for.
            middlewares = [self._middleware(route, middleware) for middleware in route.middlewares]
        except ValueError as error:
            _log.error("router {router} is not served: {reason}", router=route.name, reason=str(error))
            return _Routed(route, leaf, self._watch_route(route, NOT_FOUND), kept, is_made=False)
        if before is not None and before.route == route:
            return attrs.evolve(before, route=route, kept=kept)
        return _Routed(route, leaf, self._watch_route(route, Chain(route.name, middlewares, leaf)), kept, files)

    def _middleware(self, route: Route, middleware: Any) -> Middleware:
        context = self._context(
            name=middleware.name,
            router=route.name,
            clock=self._clock,
            keep=lambda key, make: self._kept.keep((middleware.name, key), make),
            deadlines=self._deadlines,
            answer=self._answer,
        )
        try:
            return build(middleware.kind, middleware.settings, context)
        except ValueError as error:
            raise ValueError(f"middleware {middleware.name}: {error}") from error

    def _answer(self, service: str, exchange: Exchange) -> None:
        """Have the service of that qualified name answer *exchange*."""
        found = self._leaves.get(service)
        leaf = found.leaf if found is not None else self._internal.get(service, NOT_FOUND)
        leaf.serve(exchange)

    def reconfigure(self, upstream_settings: UpstreamSettings) -> None:
        """Connect to servers by other settings from now on."""
        self._upstream_settings = upstream_settings
        for (_, transport), upstream in self._upstreams.items():
            upstream.reconfigure(settings_of(transport, upstream_settings))

    def judge(self, service: str, url: str, is_well: bool) -> None:
        """Take what a health check says of a server."""
        member = self._kept.get(("member", service, url))
        if member is not None:
            member.judge(is_well)

    def draining(self) -> list[tuple[str, Server, Upstream]]:
        """Servers that are in the table no longer and still answer requests, with the service that each was of."""
        self._left = [one for one in self._left if one[2].in_flight]
        return list(self._left)

    def redis(self) -> dict[str, tuple[bool, int, int]]:
        """By rate limit: whether its Redis decides, how often it has, and how often it had to be done without."""
        return {
            name: (kept.redis.is_well, kept.redis.decided, kept.alone)
            for (name, *_), kept in self._kept.items()
            if hasattr(kept, "redis")  # RedisBuckets, which few gates import
        }

    def upstreams(self) -> list[Upstream]:
        """The servers of the table in force."""
        return list(self._upstreams)
