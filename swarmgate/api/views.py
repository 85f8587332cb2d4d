"""What the API shows, as functions from what is known to values that JSON can hold.

Names and shapes are those of Traefik's API (``/api/http/routers`` and so on). Secrets stay out: users of an
authentication, and the values of fields that are added to messages.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import attrs

from swarmgate.dynamic.composition import (
    Composition,
    Failover,
    Mirroring,
    Weighted,
    answering_children,
    children_of,
    made_of,
)
from swarmgate.dynamic.model import Configuration, Service
from swarmgate.dynamic.table import RoutingTable
from swarmgate.dynamic.tls import Certificate
from swarmgate.providers.swarm.snapshot import SwarmService, Task
from swarmgate.structure import key_of
from swarmgate.why.requests import ServerState
from swarmgate.why.services import World, problems_of_services

JSON = Any
_REDACTED = "redacted"
_SECRETS = ("users", "headers", "password", "secret", "token", "key")
#: Options that only name headers.
_NAMES = ("auth_request_headers", "auth_response_headers", "error_request_headers")
_MOST_FAILED = 5  # Tasks of a service that have failed.
_PAGE = 100  # Items of a page by default (Traefik ``per_page``).
_DAY = 86400.0  # Seconds.
_EXPIRES_SOON = 14 * _DAY


@attrs.frozen
class Known:
    """What the gate knows at one moment.

    :ivar configurations: by the provider's name.
    :ivar entry_points: their addresses, by name.
    :ivar reasons: why servers can't be asked, by qualified service and URL.
    :ivar in_flight: requests that servers are answering, by URL.
    :ivar world: the Swarm, None without one.
    :ivar at: when all this was so, in seconds since 1970.
    :ivar operations: the Swarm can be changed by the API; ``logs``: what services log can be read.
    :ivar draining: servers that get no new requests and finish those that they have: the service, the server's URL,
        task and node, and how many requests.
    :ivar paths: bring the path of a request to the form that each entry point routes by.
    :ivar traffic: gives how much there was since the gate has started.
    :ivar usage: how much is in use, as the API tells it, by the id of a node, of a task and of a service.
    :ivar of_table: views that were made of the table, kept for as long as that stays.
    :ivar of_moment: views that were made of all of this.
    """

    table: RoutingTable
    configurations: Mapping[str, Configuration]
    entry_points: Mapping[str, str]
    version: str
    reasons: Mapping[tuple[str, str], str] = attrs.field(factory=dict)
    in_flight: Mapping[str, int] = attrs.field(factory=dict)
    world: World | None = None
    access_log: bool = False
    tracing: str = ""
    metrics: str = ""
    at: float = 0.0
    operations: bool = False
    logs: bool = False
    draining: Sequence[tuple[str, str, str, str, int]] = ()
    paths: Mapping[str, Callable[[bytes], bytes]] = attrs.field(factory=dict)
    traffic: Callable[[], JSON] = attrs.field(default=dict, eq=False, repr=False)
    usage: Mapping[str, Mapping[str, JSON]] = attrs.field(factory=dict)
    of_table: MutableMapping[str, JSON] = attrs.field(factory=dict, eq=False, repr=False)
    of_moment: MutableMapping[str, JSON] = attrs.field(factory=dict, eq=False, repr=False)


@attrs.frozen
class BadQuestion(ValueError):
    """A query that can't be understood; the text says what was expected."""

    reason: str

    def __str__(self) -> str:
        return self.reason


View = Callable[[Known], list[dict[str, JSON]]]


def _kept(of: Callable[[Known], MutableMapping[str, JSON]]) -> Callable[[View], View]:
    """A view that is made once for each table, or moment, whatever *of* says; nobody may change what it gives."""

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def once(known: Known) -> list[dict[str, JSON]]:
            kept = of(known)
            if view.__name__ not in kept:
                kept[view.__name__] = view(known)
            return kept[view.__name__]  # type: ignore[no-any-return]

        return once

    return decorate


def settings_of(value: Any) -> JSON:
    """A frozen value as options are written, secrets left out."""
    if attrs.has(type(value)):
        return {
            key_of(field): _REDACTED if _is_secret(field.name) and getattr(value, field.name) else settings_of(found)
            for field in attrs.fields(type(value))
            if field.init and (found := getattr(value, field.name)) not in (None, (), {}, "")
        }
    if isinstance(value, Mapping):
        return {str(name): _REDACTED if _is_secret(str(name)) else settings_of(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [settings_of(one) for one in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _is_secret(name: str) -> bool:
    return name not in _NAMES and any(word in name.lower() for word in _SECRETS)


def _errors(known: Known, subject: str) -> list[str]:
    if "problems" not in known.of_table:
        by_subject: dict[str, list[str]] = {}
        for problem in known.table.problems:
            by_subject.setdefault(problem.subject, []).append(str(problem))
        known.of_table["problems"] = by_subject
    return list(known.of_table["problems"].get(subject, ()))


def _with_status(item: dict[str, JSON], errors: Sequence[str], disabled: bool) -> dict[str, JSON]:
    item["status"] = "disabled" if disabled else "warning" if errors else "enabled"
    if errors:
        item["error"] = list(errors)
    return item


@_kept(lambda known: known.of_table)
def routers(known: Known) -> list[dict[str, JSON]]:
    """All HTTP routers (Traefik ``/api/http/routers``)."""
    on: dict[str, list[Any]] = {}
    for routes in known.table.routes.values():
        for route in routes:
            on.setdefault(route.name, []).append(route)
    items = []
    for provider, configuration in known.configurations.items():
        for router in configuration.routers.values():
            name = f"{router.name}@{provider}"
            routes_of = on.get(name, [])
            using = sorted(route.entry_point for route in routes_of)
            problem = next((route.problem for route in routes_of if route.problem), "")
            item: dict[str, JSON] = {
                "entryPoints": list(router.entry_points) or using,
                "service": router.service,
                "rule": router.rule,
                "ruleSyntax": router.syntax,
                "priority": routes_of[0].priority if routes_of else router.priority,
            }
            if router.middlewares:
                item["middlewares"] = [one if "@" in one else f"{one}@{provider}" for one in router.middlewares]
            if router.tls is not None:
                item["tls"] = settings_of(router.tls)
            if routes_of:
                observed = routes_of[0].observed
                item["observability"] = {
                    "accessLogs": observed.access_logs,
                    "metrics": observed.metrics,
                    "tracing": observed.tracing,
                    "traceVerbosity": "detailed" if observed.detailed else "minimal",
                }
            errors = _errors(known, f"router {name}") or ([problem] if problem else [])
            _with_status(item, errors, bool(problem) or not routes_of)
            items.append({**item, "using": using, "name": name, "provider": provider})
    return sorted(items, key=lambda item: str(item["name"]))


@_kept(lambda known: known.of_moment)
def services(known: Known) -> list[dict[str, JSON]]:
    """All HTTP services (Traefik ``/api/http/services``)."""
    return [_with_servers(known, item) for item in _services(known)]


def _with_servers(known: Known, item: dict[str, JSON]) -> dict[str, JSON]:
    """A service with the states of its servers, which change by themselves."""
    name = item["name"]
    item = {**item, **_numbers(traffic(known).get("services", {}).get(name))}
    service = known.table.services.get(name)
    if service is None:
        return item
    if service.composition is not None:
        states = {child: "UP" if _is_up(known, child) else "DOWN" for child in children_of(service.composition)}
    else:
        states = {one.url: "DOWN" if known.reasons.get((name, one.url)) else "UP" for one in service.servers}
    return {**item, "serverStatus": states} if states else item


def _is_up(known: Known, name: str) -> bool:
    """Whether a server of a service can be asked, or of those that it is made of."""
    service = known.table.services[name]
    if service.composition is not None:
        answering = answering_children(service.composition)
        return any(_is_up(known, child) for child in answering)
    return any(one.weight > 0 and not known.reasons.get((name, one.url)) for one in service.servers)


@_kept(lambda known: known.of_table)
def _services(known: Known) -> list[dict[str, JSON]]:
    used: dict[str, set[str]] = {}
    for routes in known.table.routes.values():
        for route in routes:
            used.setdefault(route.service_name, set()).add(route.name)
    for name, routers in [*used.items()]:
        for child in made_of(name, known.table.services)[1:]:
            used.setdefault(child, set()).update(routers)
    items = [_service(known, name, service, used.pop(name, set())) for name, service in known.table.services.items()]
    for name, users in used.items():
        if name.endswith("@internal"):
            items.append(
                {"status": "enabled", "usedBy": sorted(users), "name": name, "provider": "internal", "type": "internal"}
            )
    return sorted(items, key=lambda item: str(item["name"]))


def _service(known: Known, name: str, service: Service, users: set[str]) -> dict[str, JSON]:
    if service.composition is not None:
        return _composed(known, name, service.composition, users)
    servers = [
        {"url": server.url, "weight": server.weight, "task": server.task, "node": server.node}
        for server in service.servers
    ]
    balancing = settings_of(service.balancing)
    item = {"loadBalancer": {**balancing, "servers": servers}, "type": "loadbalancer"}
    _with_status(item, _errors(known, f"service {name}"), disabled=False)
    return {**item, "usedBy": sorted(users), "name": name, "provider": name.rpartition("@")[2]}


def _composed(known: Known, name: str, composition: Composition, users: set[str]) -> dict[str, JSON]:
    """A service that is made of others: as it is configured, also what of it is not in force."""
    bare, _, provider = name.rpartition("@")
    of_provider = known.configurations.get(provider)
    configured = None if of_provider is None else of_provider.services.get(bare)
    shown = composition if configured is None or configured.composition is None else configured.composition
    item = {composition.kind: _options(shown), "type": composition.kind.lower()}
    _with_status(item, _errors(known, f"service {name}"), disabled=bool(composition.lack))
    return {**item, "usedBy": sorted(users), "name": name, "provider": provider}


def _options(composition: Composition) -> dict[str, JSON]:
    """*composition* as it is written in files."""
    if isinstance(composition, Failover):
        options: dict[str, JSON] = {"service": composition.service, "fallback": composition.fallback}
        if composition.statuses:
            statuses = [str(one) for one in composition.statuses]
            options["errors"] = {"status": statuses, "maxRequestBodyBytes": composition.max_request_body_bytes}
        return options
    if isinstance(composition, Mirroring):
        return {
            "service": composition.service,
            "mirrors": [{"name": one.name, "percent": one.percent} for one in composition.mirrors],
            "mirrorBody": composition.mirror_body,
            "maxBodySize": composition.max_body_size,
        }
    options = {"services": [{"name": one.name, "weight": one.weight} for one in composition.children]}
    if isinstance(composition, Weighted) and composition.sticky is not None:
        options["sticky"] = {"cookie": settings_of(composition.sticky)}
    return options


@_kept(lambda known: known.of_table)
def middlewares(known: Known) -> list[dict[str, JSON]]:
    """All HTTP middlewares (Traefik ``/api/http/middlewares``)."""
    used: dict[str, set[str]] = {}
    for routes in known.table.routes.values():
        for route in routes:
            for middleware in route.middlewares:
                used.setdefault(middleware.name, set()).add(route.name)
    items = []
    for provider, configuration in known.configurations.items():
        for middleware in configuration.middlewares.values():
            name = f"{middleware.name}@{provider}"
            item = {middleware.kind: settings_of(middleware.settings), "type": middleware.kind}
            _with_status(item, _errors(known, f"middleware {name}"), disabled=False)
            items.append({**item, "usedBy": sorted(used.get(name, ())), "name": name, "provider": provider})
    return sorted(items, key=lambda item: str(item["name"]))


def certificates(known: Known) -> list[dict[str, JSON]]:
    """All certificates that TLS clients may get, the one that ends first before the others; keys are not shown.

    The one that the gate makes itself where none is configured is not among them.
    """
    tls = known.table.tls
    found = list(dict.fromkeys((*((tls.default,) if tls.default is not None else ()), *tls.certificates)))
    items = [_certificate(one, one == tls.default, known.at) for one in found]
    return sorted(items, key=lambda item: (float(item["notAfter"]), str(item["name"])))


def _certificate(certificate: Certificate, is_default: bool, now: float) -> dict[str, JSON]:
    left = certificate.not_after - now
    errors = []
    if certificate.not_before > now:
        errors.append(f"it is not valid before {_day(certificate.not_before)}")
    elif left <= 0:
        errors.append(f"it has expired on {_day(certificate.not_after)}")
    elif left < _EXPIRES_SOON:
        errors.append(f"it expires on {_day(certificate.not_after)}, in less than {int(left / _DAY) + 1} days")
    item: dict[str, JSON] = {
        "name": certificate.names[0] if certificate.names else certificate.origin,
        "names": list(certificate.names),
        "issuer": certificate.issuer,
        "notBefore": certificate.not_before,
        "notAfter": certificate.not_after,
        "kind": certificate.kind,
        "origin": "given as it is" if "-----BEGIN" in certificate.origin else certificate.origin,
        "isDefault": is_default,
    }
    _with_status(item, errors, disabled=left <= 0 or certificate.not_before > now)
    return item


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d")


def entry_points(known: Known) -> list[dict[str, JSON]]:
    """All entry points (Traefik ``/api/entrypoints``)."""
    return [{"name": name, "address": address} for name, address in sorted(known.entry_points.items())]


def overview(known: Known) -> JSON:
    """How much there is, and how much of it has problems (Traefik ``/api/overview``)."""

    def count(items: Sequence[Mapping[str, JSON]]) -> dict[str, int]:
        states = [item["status"] for item in items]
        return {"total": len(items), "warnings": states.count("warning"), "errors": states.count("disabled")}

    none = {"total": 0, "warnings": 0, "errors": 0}
    http = {
        "routers": count(routers(known)),
        "services": count(services(known)),
        "middlewares": count(middlewares(known)),
    }
    return {
        "http": http,
        "tcp": {"routers": none, "services": none, "middlewares": none},
        "udp": {"routers": none, "services": none},
        "features": {
            "tracing": known.tracing,
            "metrics": known.metrics,
            "accessLog": known.access_log,
            "operations": known.operations,
            "logs": known.logs,
        },
        "providers": [one.capitalize() for one in sorted(known.configurations) if one not in ("internal", "acme")],
    }


def raw_data(known: Known) -> JSON:
    """Everything at once, by name (Traefik ``/api/rawdata``)."""

    def by_name(items: Sequence[dict[str, JSON]]) -> dict[str, JSON]:
        return {item["name"]: {key: item[key] for key in item if key != "name"} for item in items}

    return {
        "routers": by_name(routers(known)),
        "services": by_name(services(known)),
        "middlewares": by_name(middlewares(known)),
    }


def version(known: Known) -> JSON:
    """Which program answers (Traefik ``/api/version``)."""
    return {"Version": known.version, "Codename": "swarmgate"}


def traffic(known: Known) -> JSON:
    """How many requests there were since the gate has started, and how fast they were answered."""
    if "traffic" not in known.of_moment:
        known.of_moment["traffic"] = known.traffic()
    return known.of_moment["traffic"]


def _numbers(told: JSON) -> dict[str, JSON]:
    """What :func:`traffic` tells of a service or a server, as part of it; nothing without requests."""
    if not told or not told["requests"]:
        return {}
    latency = {name: told[name] for name in ("p50", "p95", "p99")}
    return {"requests": told["requests"], "errors": told["errors"], "latency": latency}


def swarm(known: Known, failed: Sequence[Task] = ()) -> JSON:
    """Nodes, services and their tasks as the last look at the Swarm has found them; empty without a Swarm.

    :param failed: tasks that have failed; of each service the newest few are shown behind those that it has.
    """
    if known.world is None:
        return {"nodes": [], "services": [], "silent": []}
    world = known.world
    snapshot = world.snapshot
    names = {network.id: network.name for network in snapshot.networks}
    hosts = {node.id: node.hostname for node in snapshot.nodes}
    servers = {
        server.url.partition("://")[2].rpartition(":")[0].strip("[]"): (service, server.url)
        for service, each in world.table.services.items()
        for server in each.servers
    }
    told = traffic(known)
    numbers, silent = told.get("servers", {}), told.get("silent", [])

    def busy(of: tuple[str, str]) -> int:
        if told.get("replicas", 1) > 1:
            count: int = numbers.get(of[0], {}).get(of[1], {}).get("inFlight", 0)
            return count
        return known.in_flight.get(of[1], 0)

    specs = {service.id: service.spec for service in snapshot.services}
    of_nodes, of_tasks, of_services = (known.usage.get(kind, {}) for kind in ("nodes", "tasks", "services"))
    tasks: dict[str, list[JSON]] = {}
    for task in snapshot.tasks:
        reached = next((servers[address.ip] for address in task.addresses if address.ip in servers), None)
        tasks.setdefault(task.service_id, []).append(
            {
                "id": task.id,
                "slot": task.slot,
                "node": hosts.get(task.node_id, ""),
                "state": task.state,
                "error": task.error,
                "exitCode": task.exit_code,
                "networks": {names.get(one.network, one.network): one.ip for one in task.addresses},
                "url": reached[1] if reached else "",
                "reason": known.reasons.get(reached, "") if reached else "no service has it as a server",
                "inFlight": busy(reached) if reached else 0,
                "outdated": task.spec != specs.get(task.service_id, task.spec),
                "usage": of_tasks.get(task.id),
                **(_numbers(numbers.get(reached[0], {}).get(reached[1])) if reached else {}),
            }
        )
    for of, url, name, node, in_flight in known.draining:
        service_id = next((one.id for one in snapshot.services if one.name == name.partition(".")[0]), "")
        tasks.setdefault(service_id, []).append(
            {
                "id": name,
                "slot": 0,
                "node": node,
                "state": "draining",
                "error": "",
                "exitCode": None,
                "networks": {},
                "url": url,
                "reason": _draining(in_flight),
                "inFlight": in_flight,
                "outdated": False,
                "usage": None,
                **_numbers(numbers.get(of, {}).get(url)),
            }
        )
    problems = problems_of_services(world)
    shown = {task.id for task in snapshot.tasks}
    count: dict[str, int] = {}
    for task in sorted(failed, key=lambda task: task.ended, reverse=True):
        count[task.service_id] = count.get(task.service_id, 0) + 1
        if task.id not in shown and count[task.service_id] <= _MOST_FAILED:
            tasks.setdefault(task.service_id, []).append(
                {
                    "id": task.id,
                    "slot": task.slot,
                    "node": hosts.get(task.node_id, ""),
                    "state": task.state,
                    "error": task.error,
                    "exitCode": task.exit_code,
                    "networks": {},
                    "url": "",
                    "reason": f"it has {task.state}" if task.state == "failed" else f"it was {task.state}",
                    "inFlight": 0,
                    "outdated": task.spec != specs.get(task.service_id, task.spec),
                    "usage": None,
                }
            )
    return {
        "nodes": [{**attrs.asdict(node), "usage": of_nodes.get(node.id)} for node in snapshot.nodes],
        "services": [
            {
                "id": service.id,
                "name": service.name,
                "image": service.image,
                "replicas": service.replicas,
                "networks": [names.get(one, one) for one in service.networks],
                "problems": list(problems.get(service.name, ())),
                "usage": of_services.get(service.id),
                "update": _update(service),
                "tasks": tasks.get(service.id, []),
            }
            for service in snapshot.services
        ],
        "silent": silent,
    }


def _update(service: SwarmService) -> JSON:
    """How far a service's last update is, with moments in seconds since 1970; None if there was none."""
    update = service.update
    if update is None:
        return None
    started, completed = update.started / 1e9, update.completed / 1e9
    return {"state": update.state, "message": update.message, "started": started, "completed": completed}


def _draining(in_flight: int) -> str:
    return f"it is draining: it finishes {in_flight} request{'s' if in_flight != 1 else ''} and gets no new ones"


def absent_tasks(known: Known) -> dict[str, list[ServerState]]:
    """The tasks of each service of the table that are no servers of it, or not any more, and why not."""
    found: dict[str, list[ServerState]] = {}
    for service_name, url, task_name, node, in_flight in known.draining:
        found.setdefault(service_name, []).append(ServerState(url, task_name, node, _draining(in_flight)))
    if known.world is None:
        return found
    hosts = {node.id: node.hostname for node in known.world.snapshot.nodes}
    shares = known.world.decision.shares
    for task in known.world.snapshot.tasks:
        share = shares.get(task.service_id)
        for service in share.services if share is not None else ():
            standing = known.world.table.services.get(f"{service.name}@swarm")
            addresses = {address.ip for address in task.addresses}
            served = (
                {one.url.partition("://")[2].rpartition(":")[0].strip("[]") for one in standing.servers}
                if standing
                else set()
            )
            if share is None or addresses & served:
                continue
            reason = f"its state is {task.state}" if not task.is_running else "it has no address where the gate looks"
            if task.is_running and not any(one.servers for one in share.services) and share.problems:
                reason = share.problems[0].reason
            name = f"{share.service.name}.{task.slot or task.id}"
            found.setdefault(f"{service.name}@swarm", []).append(
                ServerState("", name, hosts.get(task.node_id, ""), reason)
            )
    return found


def page(items: Sequence[dict[str, JSON]], query: Mapping[str, str]) -> tuple[list[dict[str, JSON]], int]:
    """The part of a list that a query asks for, and the number of the next page, 1 if there is none.

    :param query: ``search``, ``status``, ``sortBy``, ``direction``, ``page`` and ``per_page`` as Traefik has them.
    :raises BadQuestion: a number is none, or there is no such page.
    """
    search, status = query.get("search", "").lower(), query.get("status", "")
    found = [
        item
        for item in items
        if (not status or item.get("status") == status)
        and (
            not search
            or any(
                search in str(item.get(key, "")).lower()
                for key in ("name", "names", "rule", "service", "type", "address", "issuer")
            )
        )
    ]
    key, is_descending = query.get("sortBy", ""), query.get("direction", "") == "desc"
    if key or is_descending:
        found.sort(key=lambda item: (_rank(item.get(key)), str(item["name"])), reverse=is_descending)
    number, size = positive(query, "page", 1), positive(query, "per_page", _PAGE)
    start = (number - 1) * size
    if start and start >= len(found):
        raise BadQuestion(f"page={number}: there are {len(found)} items, {size} a page")
    return found[start : start + size], number + 1 if start + size < len(found) else 1


def _rank(value: JSON) -> tuple[float, str]:
    """Where a value stands among others of any type: numbers by size, all else by its text."""
    if isinstance(value, int | float):
        return float(value), ""
    return 0.0, "" if value is None else str(value).lower()


def positive(query: Mapping[str, str], name: str, default: int) -> int:
    """A number of a query.

    :raises BadQuestion: it is none from 1 on.
    """
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text)):
        raise BadQuestion(f"{name}={text}: expected a whole number from 1")
    return int(text)
