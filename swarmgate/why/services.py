"""Why a Swarm service is not routed, in sentences: :func:`why_service`."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping

import attrs

from swarmgate.dynamic.model import Configuration
from swarmgate.dynamic.rules import And, Matcher, Not, Or, Rule, regular_expression
from swarmgate.dynamic.table import EntryPointFacts, Route, RoutingTable, compile_table, precedence
from swarmgate.providers.swarm.decide import Decision, Options, Share, decide, network_of
from swarmgate.providers.swarm.snapshot import Snapshot, SwarmService, Task
from swarmgate.structure import nearest_of
from swarmgate.why.requests import with_servers


@attrs.frozen
class Finding:
    """Something about a service that keeps requests from it, or may.

    :ivar sentence: for people, with what mends it.
    :ivar is_hint: it works all the same.
    """

    service: str
    sentence: str
    is_hint: bool = False

    def __str__(self) -> str:
        return f"{self.service}: {'hint: ' if self.is_hint else ''}{self.sentence}"


@attrs.frozen
class World:
    """What is known when the question is asked.

    :ivar gate: name of the gate's own Swarm service, ``""`` if it isn't known.
    """

    snapshot: Snapshot
    decision: Decision
    table: RoutingTable
    gate: str = ""

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        options: Options,
        entry_points: Mapping[str, EntryPointFacts],
        own: frozenset[str] | None = None,
        others: Mapping[str, Configuration] | None = None,
        resources: Collection[str] = (),
        gate: str = "",
    ) -> World:
        """The world that a gate would see.

        :param own: ids of the networks that the gate is on, None if that isn't known.
        :param others: configurations of other providers, by name.
        """
        decision = decide(snapshot, options, own)
        table = compile_table({"swarm": decision.configuration, **(others or {})}, entry_points, resources)
        return cls(snapshot, decision, table, gate)


def why_service(name: str, world: World) -> tuple[Finding, ...]:
    """What keeps a Swarm service from being routed, what costs most first; nothing if all is well.

    :param name: as ``docker service ls`` shows it.
    """
    services = {service.name: service for service in world.snapshot.services}
    service = services.get(name)
    if service is None:
        near = nearest_of(name, list(services)) or next((one for one in services if one.endswith(f"_{name}")), "")
        hint = f"; did you mean {near}?" if near else ""
        return (Finding(name, f"there is no such service in the Swarm{hint}"),)
    share = world.decision.shares[service.id]
    tasks = tuple(task for task in world.snapshot.tasks if task.service_id == service.id)
    faults = [*_labels(service, world), *_problems(service, share, world), *_exposure(service, share, world)]
    # Nobody asks the tasks of a service whose labels make nothing but services that are made of others.
    only_made = bool(share.services) and all(one.composition is not None for one in share.services)
    is_asked = bool(share.routers) and not only_made
    if is_asked:
        faults += [*_network(service, share, world), *_tasks(service, share, tasks, world)]
    if share.routers:
        faults += _shadowed(share, world)
    hints = _hints(service, share) if is_asked else ()
    findings = [Finding(name, one) for one in dict.fromkeys(faults)]
    return (*findings, *(Finding(name, one, is_hint=True) for one in hints))


def _labels(service: SwarmService, world: World) -> Iterator[str]:
    """What is wrong with where labels are and how they begin."""
    prefixes = world.decision.surroundings.options.prefixes
    for label, _ in service.labels:
        first, _, rest = label.partition(".")
        near = _nearest_prefix(first.strip(), prefixes)
        if first.lower() not in prefixes and near:
            meant = (
                f"{near}.{rest}" if rest else f"{near}{first.strip()[len(near) :].replace('-', '.').replace('_', '.')}"
            )
            yield f'label "{label}" is misspelt and not read: did you mean {meant}?'
    own = dict(service.labels)
    misplaced = [
        label
        for label, _ in service.container_labels
        if label.partition(".")[0].lower() in prefixes and label not in own
    ]
    if misplaced:
        yield (
            f"{', '.join(misplaced)}: these are labels of its containers, which are not read: in the stack file move "
            f"them from labels: to deploy.labels:, or docker service update --label-add LABEL=VALUE {service.name}"
        )


@functools.lru_cache(1000)
def _nearest_prefix(word: str, prefixes: tuple[str, ...]) -> str:
    return nearest_of(word, prefixes)


def problems_of_services(world: World) -> dict[str, tuple[str, ...]]:
    """What is wrong with the labels of Swarm services, by the service's name; those that are well are left out.

    It says less than :func:`why_service`, and of all services at once.
    """
    found: dict[str, list[str]] = {}
    for service in world.snapshot.services:
        if wrong := list(_labels(service, world)):
            found[service.name] = wrong
    for problem in world.table.problems:
        kind, _, name = problem.origin.partition(" ")
        if kind == "service":
            found.setdefault(name, []).append(str(problem))
    return {name: tuple(dict.fromkeys(problems)) for name, problems in found.items()}


def _exposure(service: SwarmService, share: Share, world: World) -> Iterator[str]:
    options = world.decision.surroundings.options
    if share.labelled is None:
        return
    prefix = options.prefixes[0]
    if share.labelled.enable is False:
        yield f"it is not enabled: a label {prefix}.enable, or of another prefix, says so; expected true"
    elif share.labelled.enable is None and not options.exposed_by_default:
        yield (
            "it is not enabled: providers.swarm.exposedByDefault is false, and no label enables it: "
            f"docker service update --label-add {prefix}.enable=true {service.name}"
        )
    elif not options.admits(dict(service.labels)):
        yield f"its labels do not satisfy providers.swarm.constraints: {options.constraints}"
    elif not share.routers and not share.problems:
        yield "it makes no router: it has labels of TCP or UDP alone"


def _problems(service: SwarmService, share: Share, world: World) -> Iterator[str]:
    """What the decision and the table have found."""
    for problem in share.labelled.problems if share.labelled is not None else ():
        yield str(problem)
    mine = {f"service {each.name}@swarm" for each in share.services}
    for problem in world.table.problems:
        if problem.origin == f"service {service.name}" or (
            problem.origin == "provider swarm" and problem.subject in mine
        ):
            yield str(problem)


def _network(service: SwarmService, share: Share, world: World) -> Iterator[str]:
    surroundings = world.decision.surroundings
    wanted = share.labelled.network if share.labelled is not None else ""
    network, _ = network_of(surroundings, service, wanted)
    if network and surroundings.own is not None and network not in surroundings.own:
        name = next((each.name for each in surroundings.networks if each.id == network), network)
        gate = world.gate or "GATE"
        yield f"the gate is not on its network {name}: docker service update --network-add {name} {gate}"
    elif network and surroundings.own is None and not any(each.id == network for each in surroundings.networks):
        yield f"its network {network} is not known to the Swarm"


def _tasks(service: SwarmService, share: Share, tasks: tuple[Task, ...], world: World) -> Iterator[str]:
    if not any(router.service and not router.service.endswith("@internal") for router in share.routers):
        return
    running = [task for task in tasks if task.is_running]
    if not running and service.replicas == 0:
        yield f"no task of it runs: it is scaled to 0: docker service scale {service.name}=1"
    elif not running:
        states = ", ".join(sorted({task.state or "unknown" for task in tasks})) or "none is there"
        errors = "; ".join(sorted({task.error for task in tasks if task.error}))
        why = f": {errors}" if errors else f": docker service ps --no-trunc {service.name} tells why"
        yield f"no task of it runs ({states}){why}"


def _shadowed(share: Share, world: World) -> Iterator[str]:
    """Which rules are never reached because other routers are asked before.

    Unless these lead to a service that this one's is a part of: so a new release gets its share.
    """
    mine = {f"{router.name}@swarm" for router in share.routers}
    for entry_point, routes in world.table.routes.items():
        ordered = sorted(routes, key=precedence)
        for place, route in enumerate(ordered):
            if route.name not in mine:
                continue
            before = _cover(route, ordered[:place])
            if before is not None and route.service_name not in with_servers(world.table, before.service_name):
                yield (
                    f"router {route.name} gets no request on {entry_point}: {before.name}, of priority "
                    f"{before.priority}, is asked before it (its own is {route.priority}) and takes all that "
                    f"{route.rule_text} matches: give it a higher priority"
                )


def _cover(route: Route, earlier: list[Route]) -> Route | None:
    return next(
        (one for one in earlier if (one.tls is None) == (route.tls is None) and implies(route.rule, one.rule)), None
    )


def implies(narrow: Rule, wide: Rule) -> bool:
    """Whether *wide* surely matches each request that *narrow* matches; False also where that can't be told."""
    if narrow == wide:
        return True
    if isinstance(narrow, Or):
        return all(implies(one, wide) for one in narrow.rules)
    if isinstance(wide, And):
        return all(implies(narrow, one) for one in wide.rules)
    if isinstance(wide, Or) and any(implies(narrow, one) for one in wide.rules):
        return True
    if isinstance(wide, Matcher) and _matches_all(wide):
        return True
    if isinstance(narrow, And):
        return any(implies(one, wide) for one in narrow.rules)
    if isinstance(narrow, Not) or not isinstance(wide, Matcher):
        return False
    return _matcher_implies(narrow, wide)


def _matches_all(matcher: Matcher) -> bool:
    return (matcher.name == "PathPrefix" and "/" in matcher.args) or (matcher.name == "Host" and "*" in matcher.args)


def _matcher_implies(narrow: Matcher, wide: Matcher) -> bool:
    if narrow.name == wide.name == "Host":
        return all(
            host in wide.args or (not host.startswith("*") and f"*.{host.partition('.')[2]}" in wide.args)
            for host in narrow.args
        )
    if wide.name == "HostRegexp" and narrow.name == "Host" and not any("*" in host for host in narrow.args):
        search = regular_expression(wide.args[0]).search
        return all(search(host.encode()) is not None for host in narrow.args)
    if wide.name == "PathPrefix" and narrow.name in ("Path", "PathPrefix"):
        return all(path.startswith(wide.args) for path in narrow.args)
    alternatives = ("Path", "Method")
    return narrow.name == wide.name and narrow.name in alternatives and set(narrow.args) <= set(wide.args)


def _hints(service: SwarmService, share: Share) -> Iterator[str]:
    meshed = [port for port in service.ports if port.mode == "ingress" and port.protocol == "tcp"]
    if meshed:
        names = ", ".join(str(port.published or port.target) for port in meshed)
        yield (
            f"it publishes {names} in ingress mode, so that clients can pass the gate by: the gate reaches its tasks "
            "by their network and needs no published port"
        )
    if not service.has_health_check and not any(each.balancing.health_check for each in share.services):
        yield (
            "it sets no health check: unless its image has one, a task gets requests as soon as it has started, "
            "ready or not"
        )
