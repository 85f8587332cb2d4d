"""What a snapshot of a Swarm means: :func:`decide` makes a configuration of it, and does nothing else.

Each service's *share* is decided by itself: whether it is exposed, what its labels say, over which network and port
its tasks are reached. Then the shares are merged, oldest service first, so that who was there first keeps a name that
two claim. What can't be decided is a problem, with what mends it; it is never guessed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import attrs

from swarmgate.dynamic.constraints import Constraint, parse_constraints
from swarmgate.dynamic.default_rule import DefaultRule, normalize, parse_default_rule
from swarmgate.dynamic.labels import Labelled, LabelledService, decode
from swarmgate.dynamic.model import Configuration, Middleware, Problem, Router, Server, Service
from swarmgate.providers.swarm.agents import is_agent
from swarmgate.providers.swarm.snapshot import Network, Node, Snapshot, SwarmService, Task, own_task
from swarmgate.structure import nearest_of

V = TypeVar("V", Router, Service, Middleware)

_STACK = "com.docker.stack.namespace"


@attrs.frozen
class Options:
    """What the provider's options say about the configuration (Traefik ``providers.swarm``).

    :ivar kinds: the middlewares that there are: settings classes by option name in lower case.
    :ivar network: name of the network that tasks are reached on where no label names one.
    :ivar default_rule: template of the rule of routers that have none.
    :ivar constraints: expression that a service's labels have to satisfy, ``""`` for none.
    :ivar prefixes: what labels begin with, the preferred one first.
    :raises RuleError: the template or the expression can't be understood.
    """

    kinds: Mapping[str, type[Any]] = attrs.field(factory=dict)
    exposed_by_default: bool = True
    network: str = ""
    default_rule: str = "Host(`{{ normalize .Name }}`)"
    constraints: str = ""
    prefixes: tuple[str, ...] = ("swarmgate", "traefik")
    rule: DefaultRule = attrs.field(init=False, eq=False, repr=False)
    admits: Constraint = attrs.field(init=False, eq=False, repr=False)

    @rule.default
    def _rule(self) -> DefaultRule:
        return parse_default_rule(self.default_rule)

    @admits.default
    def _admits(self) -> Constraint:
        return parse_constraints(self.constraints)


@attrs.frozen
class Share:
    """What one Swarm service contributes.

    :ivar service: as it was when this was decided, and ``tasks``: its tasks.
    :ivar labelled: what its labels say, None if they were not read.
    """

    service: SwarmService
    tasks: tuple[Task, ...] = ()
    labelled: Labelled | None = None
    routers: tuple[Router, ...] = ()
    services: tuple[Service, ...] = ()
    middlewares: tuple[Middleware, ...] = ()
    problems: tuple[Problem, ...] = ()


@attrs.frozen
class Surroundings:
    """What all services' shares depend on besides themselves.

    :ivar own: ids of the networks that the gate is attached to, None if that isn't known.
    """

    options: Options
    networks: tuple[Network, ...]
    nodes: tuple[Node, ...]
    own: frozenset[str] | None


@attrs.frozen
class Decision:
    """A configuration, and what the next decision builds on.

    :ivar shares: by the service's id.
    :ivar notices: what people should know that is no fault of any service; sentences for the log.
    """

    configuration: Configuration
    shares: Mapping[str, Share]
    surroundings: Surroundings
    notices: tuple[str, ...] = ()


def decide(
    snapshot: Snapshot,
    options: Options,
    own: frozenset[str] | None = None,
    previous: Decision | None = None,
    own_container: str = "",
) -> Decision:
    """Return what a snapshot means.

    :param own: ids of the networks that the gate is attached to, None if that isn't known.
    :param previous: the last decision: what can't be read now stays as it was then, and what has not changed is taken
        from it. If nothing has, its very configuration is.
    :param own_container: id of the container that the gate runs in, ``""`` for none.
    """
    surroundings = Surroundings(options, snapshot.networks, snapshot.nodes, own)
    reusable = previous is not None and previous.surroundings == surroundings
    before: Mapping[str, Share] = previous.shares if previous is not None else {}
    tasks: dict[str, list[Task]] = {}
    for task in snapshot.tasks:
        tasks.setdefault(task.service_id, []).append(task)
    world = _World(surroundings)
    shares: dict[str, Share] = {}
    for service in snapshot.services:
        mine = tuple(tasks.get(service.id, ()))
        old = before.get(service.id)
        if reusable and old is not None and old.service == service and old.tasks == mine:
            shares[service.id] = old
        else:
            shares[service.id] = world.share(service, mine, old)
    configuration = merge(shares.values())
    if previous is not None and previous.configuration == configuration:
        configuration = previous.configuration
    notice = ingress_notice(snapshot, own_container)
    return Decision(configuration, shares, surroundings, (notice,) if notice else ())


def own_networks(snapshot: Snapshot, own_container: str) -> frozenset[str] | None:
    """Return the ids of the networks that the gate's own task is attached to; None if it is in no task of the Swarm."""
    task = own_task(snapshot, own_container)
    return None if task is None else frozenset(address.network for address in task.addresses)


def network_of(surroundings: Surroundings, service: SwarmService, wanted: str) -> tuple[str, str]:
    """Return the id of the network that a service is reached on, and ``""``; or ``""``, and why there is none.

    :param wanted: the network that its label names, ``""`` for none.
    """
    return _World(surroundings).network_of(service, wanted)


def ingress_notice(snapshot: Snapshot, own_container: str) -> str:
    """Return a warning if the gate's own ports are published by the routing mesh, else ``""``.

    The mesh rewrites the sender of each connection: every client then has an address of the Swarm's own.
    """
    task = own_task(snapshot, own_container)
    if task is None:
        return ""
    for service in snapshot.services:
        meshed = [port for port in service.ports if port.mode == "ingress" and port.protocol == "tcp"]
        if service.id == task.service_id and meshed:
            names = ", ".join(str(port.published or port.target) for port in meshed)
            changes = " ".join(
                f"--publish-rm {port.target} --publish-add published={port.published},target={port.target},mode=host"
                for port in meshed
            )
            return (
                f"service {service.name} publishes {names} in ingress mode, which hides the addresses of clients from "
                f"the gate; host mode does not: docker service update {changes} {service.name}"
            )
    return ""


class _World:
    """The surroundings of all services, made ready to be asked."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.options = surroundings.options
        self._own = surroundings.own
        self._names = {network.id: network.name for network in surroundings.networks}
        self._ingress = {network.id for network in surroundings.networks if network.ingress}
        self._hosts = {node.id: node.hostname for node in surroundings.nodes}

    def share(self, service: SwarmService, tasks: tuple[Task, ...], old: Share | None) -> Share:
        """Return a service's share; if it can't be read, that of before."""
        fault = service.fault or next((task.fault for task in tasks if task.fault), "")
        if not fault:
            return self._decided(service, tasks, old)
        kept = "; what was known of it stays in force" if old is not None and old.routers else ""
        reason = f"what Docker tells of it can't be read ({fault}){kept}"
        problem = Problem(f"service {service.name}", f"service {service.name}", reason)
        if old is None:
            return Share(service, tasks, problems=(problem,))
        good = tuple(each for each in old.problems if each.reason != reason)
        return attrs.evolve(old, service=service, tasks=tasks, problems=(*good, problem))

    def _decided(self, service: SwarmService, tasks: tuple[Task, ...], old: Share | None) -> Share:
        origin = f"service {service.name}"
        labels = dict(service.labels)
        if old is not None and old.labelled is not None and old.service.labels == service.labels:
            labelled = old.labelled
        else:
            labelled = decode(labels, self.options.prefixes, self.options.kinds, origin)
        # Agents are for gates and Prometheus: only who says so exposes them.
        by_default = self.options.exposed_by_default and not is_agent(labels)
        exposed = by_default if labelled.enable is None else labelled.enable
        if not exposed or not self.options.admits(labels):
            return Share(service, tasks, labelled)
        share = _Draft(self, service, tasks, labels, labelled)
        share.decide()
        return Share(
            service,
            tasks,
            labelled,
            tuple(share.routers),
            tuple(share.services),
            tuple(labelled.middlewares.values()),
            (*labelled.problems, *share.problems),
        )

    # Networks.

    def network_of(self, service: SwarmService, wanted: str) -> tuple[str, str]:
        """Return the id of the network that a service is reached on, and ``""``; or ``""``, and why there is none.

        By the label; else the configured one, if the service is on it; else the only one that it shares with the gate.

        :param wanted: what its label says, ``""`` for nothing.
        """
        attached = {self._names.get(each, ""): each for each in service.networks if each not in self._ingress}
        attached.pop("", None)  # the host's own network, on which a task has no address
        if wanted:
            return self._named(service, wanted, attached)
        if self.options.network in attached:
            return attached[self.options.network], ""
        shared = {name: each for name, each in attached.items() if self._own is None or each in self._own}
        if len(shared) == 1:
            return next(iter(shared.values())), ""
        label = f"{self.options.prefixes[0]}.swarm.network"
        if len(shared) > 1:
            whose = "it shares with the gate" if self._own is not None else "it is on"
            return "", f"which of the networks {_listed(shared)}, that {whose}, should be used? Say so by label {label}"
        if self._own is None:
            return "", f"it is on no overlay network: {self._add(self.options.network or 'NETWORK', service)}"
        own = sorted(self._names[each] for each in self._own if each in self._names and each not in self._ingress)
        on = f"it is on {_listed(attached)}" if attached else "it is on no overlay network"
        gate = f"the gate on {_listed(own)}" if own else "the gate on none"
        mend = self.options.network if self.options.network in own else own[0] if own else ""
        return "", f"{on}, {gate}" + (f": {self._add(mend, service)}" if mend else "")

    def _named(self, service: SwarmService, wanted: str, attached: Mapping[str, str]) -> tuple[str, str]:
        # In a stack file a network has a shorter name than the one that Docker gives it.
        stack = dict(service.labels).get(_STACK, "")
        for name in (wanted, f"{stack}_{wanted}"):
            if name in attached:
                return attached[name], ""
        names = {name: each for each, name in self._names.items()}
        if wanted in names and names[wanted] in self._ingress:
            return "", f"{wanted} is the routing mesh's own network, on which no task can be reached"
        if wanted in names:
            on = f"it is on {_listed(attached)}" if attached else "it is on no overlay network"
            return "", f"it is not on the network {wanted}, {on}: {self._add(wanted, service)}"
        return "", f"there is no network {wanted}, it is on {_listed(attached) or 'none'}"

    def nearest_network(self, wanted: str) -> str:
        """Return the name of a network that may have been meant, ``""`` if there is none."""
        names = [name for each, name in self._names.items() if each not in self._ingress]
        longer = [name for name in names if name.endswith(f"_{wanted}")]
        return longer[0] if len(longer) == 1 else nearest_of(wanted, names)

    @staticmethod
    def _add(network: str, service: SwarmService) -> str:
        return f"docker service update --network-add {network} {service.name}"

    # Tasks.

    def server(self, service: SwarmService, task: Task, url: str, weight: int) -> Server:
        """Return the server that a task is."""
        host = self._hosts.get(task.node_id, "")
        return Server(url, weight, f"{service.name}.{task.slot or host or task.id}", host)


class _Draft:
    """One service's share while it is being decided."""

    def __init__(
        self,
        world: _World,
        service: SwarmService,
        tasks: tuple[Task, ...],
        labels: Mapping[str, str],
        labelled: Labelled,
    ) -> None:
        self._world = world
        self._service = service
        self._tasks = tasks
        self._running = sorted((task for task in tasks if task.is_running), key=lambda task: (task.slot, task.id))
        self._labels = labels
        self._labelled = labelled
        self._origin = f"service {service.name}"
        prefixes = world.options.prefixes
        # Labels are spoken of in the family that the service uses.
        used = (each for each in prefixes if any(label.lower().startswith(f"{each}.") for label in labels))
        self._prefix = next(used, prefixes[0])
        self.routers: list[Router] = []
        self.services: list[Service] = []
        self.problems: list[Problem] = []

    def decide(self) -> None:
        """Decide on routers and services."""
        name = normalize(self._service.name)
        settings = dict(self._labelled.services)
        automatic = not settings and not self._labelled.dropped_services
        if automatic:
            settings[name] = LabelledService(name)
        routers = dict(self._labelled.routers)
        if not routers and not self._labelled.dropped_routers and not self._speaks_only_others():
            routers[name] = Router(name, "", "", origin=self._origin)
        for router in routers.values():
            self._route(router, sorted({*settings, *self._labelled.dropped_services}))
        served = {router.service for router in self.routers}
        for each, setting in settings.items():
            # Routers may all lead elsewhere, as to api@internal: the service nobody asked for is then not missed.
            if not automatic or each in served:
                self._serve(setting)

    def _speaks_only_others(self) -> bool:
        """Return whether there are labels for TCP or UDP and none for HTTP: a router would be no one's wish."""
        kinds = {
            parts[1]
            for label in self._labels
            if len(parts := label.lower().split(".")) > 2 and parts[0] in self._world.options.prefixes
        }
        return bool(kinds & {"tcp", "udp"}) and "http" not in kinds

    def _tell(self, subject: str, reason: str, key: str = "", value: str = "", nearest: str = "") -> None:
        self.problems.append(Problem(f"{subject}@swarm", self._origin, reason, key, value, nearest))

    def _route(self, router: Router, services: list[str]) -> None:
        subject = f"router {router.name}"
        if not router.rule:
            rule = self._world.options.rule.render(self._service.name, self._labels)
            if not rule:
                reason = f"it has no rule, and the default rule ({self._world.options.rule.text}) comes to nothing"
                self._tell(subject, reason)
                return
            router = attrs.evolve(router, rule=rule)
        if not router.service:
            if len(services) == 1:
                router = attrs.evolve(router, service=services[0])
            else:
                reason = f"which of the services {_listed(services)} should it lead to?"
                self._tell(subject, reason, f"{self._prefix}.http.routers.{router.name}.service")
                router = attrs.evolve(router, fault=router.fault or reason)
        if router.service in self._labelled.dropped_services:
            router = attrs.evolve(router, fault=router.fault or f"the labels of its service {router.service} are wrong")
        self.routers.append(router)

    def _serve(self, setting: LabelledService) -> None:
        if setting.composition is not None:
            self.services.append(Service(setting.name, composition=setting.composition))
            return
        awaited = not setting.url and any(task.is_coming for task in self._tasks)
        self.services.append(
            Service(setting.name, self._servers(setting), setting.balancing, awaited, setting.servers_transport)
        )

    def _servers(self, setting: LabelledService) -> tuple[Server, ...]:
        """Return the servers of a service, and tell why there are none."""
        subject = f"service {setting.name}"
        if setting.url:
            return (Server(setting.url, setting.weight),)
        port = setting.port or self._port(setting.name)
        wanted = self._labelled.network
        network, reason = self._world.network_of(self._service, wanted)
        if not network:
            key = f"{self._prefix}.swarm.network" if wanted else ""
            near = self._world.nearest_network(wanted) if reason.startswith("there is no network") else ""
            self._tell(subject, reason, key, wanted, near)
        if not network or not port:
            return ()
        if self._labelled.lbswarm and self._running:
            vips = [vip.ip for vip in self._service.vips if vip.network == network]
            if vips:
                return (Server(_url(setting.scheme, vips[0], port), setting.weight, self._service.name),)
            key = f"{self._prefix}.swarm.lbswarm"
            self._tell(subject, "it has no virtual address there: its tasks are used, one by one", key, "true")
        return tuple(
            self._world.server(self._service, task, _url(setting.scheme, address.ip, port), setting.weight)
            for task in self._running
            for address in task.addresses
            if address.network == network
        )

    def _port(self, name: str) -> int:
        """Return the only port that the service publishes; if there is none, or several, tell and return 0."""
        targets = sorted({port.target for port in self._service.ports if port.protocol == "tcp"})
        if len(targets) == 1:
            return targets[0]
        key = f"{self._prefix}.http.services.{name}.loadbalancer.server.port"
        if targets:
            reason = f"which of the ports {_listed(map(str, targets))}, that it publishes, should be used?"
        else:
            reason = "the port that its tasks listen on is not known, and it publishes none to go by"
        self._tell(f"service {name}", reason, key)
        return 0


def merge(shares: Iterable[Share]) -> Configuration:
    """Return the configuration of all shares together.

    Where two services define a router, service or middleware of one name, equal definitions are one (and servers add
    up); of different ones that of the older service stays. What the younger has lost is a problem, and its routers
    that need it have a fault: they would pass what was not meant, or lead to where nobody wanted.
    """
    merged = _Merged()
    for share in sorted(shares, key=lambda share: (share.service.created, share.service.id)):
        merged.add(share)
    return Configuration(merged.routers, merged.services, merged.middlewares, tuple(merged.problems))


class _Merged:
    """The shares of the older services, merged, and whose each name is."""

    def __init__(self) -> None:
        self.routers: dict[str, Router] = {}
        self.services: dict[str, Service] = {}
        self.middlewares: dict[str, Middleware] = {}
        self.problems: list[Problem] = []
        self._owners: dict[tuple[str, str], str] = {}

    def add(self, share: Share) -> None:
        """Add the share of a younger service."""
        self.problems.extend(share.problems)
        lost: set[str] = set()
        for middleware in share.middlewares:
            if not self._claim("middleware", middleware, self.middlewares, share, _same):
                lost.add(middleware.name)
        lost_services: set[str] = set()
        for service in share.services:
            if not self._claim("service", service, self.services, share, _same_service):
                lost_services.add(service.name)
                continue
            standing = self.services[service.name]
            if standing is not service:
                known = {server.url for server in standing.servers}
                more = tuple(server for server in service.servers if server.url not in known)
                awaited = standing.awaited or service.awaited
                self.services[service.name] = attrs.evolve(standing, servers=standing.servers + more, awaited=awaited)
        for router in share.routers:
            missing = [each for each in router.middlewares if _bare(each) in lost]
            if _bare(router.service) in lost_services:
                missing.append(router.service)
            if missing:
                reason = f"what this service defines as {_listed(missing)} is not in force: an older one has the name"
                router = attrs.evolve(router, fault=router.fault or reason)
                self._tell(share, f"router {router.name}", reason)
            self._claim("router", router, self.routers, share, _same_router)

    def _claim(self, kind: str, value: V, into: dict[str, V], share: Share, same: Any) -> bool:
        """Put a value under its name; return False, and tell, if an older service has another one there."""
        standing = into.setdefault(value.name, value)
        owner = self._owners.setdefault((kind, value.name), share.service.name)
        if standing is value or same(standing, value):
            return True
        reason = f"the older service {owner} has a {kind} of this name that is different, and keeps it"
        self._tell(share, f"{kind} {value.name}", reason)
        return False

    def _tell(self, share: Share, subject: str, reason: str) -> None:
        self.problems.append(Problem(f"{subject}@swarm", f"service {share.service.name}", reason))


def _same(one: object, other: object) -> bool:
    return one == other


def _same_service(one: Service, other: Service) -> bool:
    """Whether they are the same but for their servers, which add up."""
    return attrs.evolve(one, servers=(), awaited=False) == attrs.evolve(other, servers=(), awaited=False)


def _same_router(one: Router, other: Router) -> bool:
    return attrs.evolve(one, origin="") == attrs.evolve(other, origin="")


def _bare(name: str) -> str:
    """Return a name without the provider, if that is ours."""
    return name.removesuffix("@swarm").removesuffix("@docker")


def _url(scheme: str, ip: str, port: int) -> str:
    host = f"[{ip}]" if ipaddress.ip_address(ip).version == 6 else ip
    return f"{scheme}://{host}:{port}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
