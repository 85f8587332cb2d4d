"""What the labels of a Swarm service say (Traefik's grammar, v3's with v2's ``docker.*``).

One wrong label costs the router, service or middleware that it belongs to, and nothing beside that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from swarmgate.dynamic.composition import Composition
from swarmgate.dynamic.model import Balancing, Middleware, Problem, Router
from swarmgate.dynamic.options import (
    Reading,
    RouterOptions,
    TaskServiceOptions,
    read_middleware,
    read_router,
    read_task_service,
)
from swarmgate.dynamic.tls import RouterTLS
from swarmgate.structure import Fault, StructureError, insert, nearest_of

_SECTIONS = ("enable", "docker", "swarm", "http", "tcp", "udp", "tls")
_LATER = "swarmgate has no routing of {} yet"


@attrs.frozen
class LabelledService:
    """A service as labels describe it: its servers are the tasks, or the one of :attr:`url`, or it is made of others.

    :ivar port: that the tasks listen on, None if no label says it.
    :ivar url: of a server in place of the tasks, ``""`` for none.
    :ivar weight: of each server.
    :ivar composition: the services that it is made of; None: it has servers.
    """

    name: str
    port: int | None = None
    scheme: str = "http"
    url: str = ""
    weight: int = 1
    balancing: Balancing = attrs.field(factory=Balancing)
    servers_transport: str = ""
    composition: Composition | None = None


@attrs.frozen
class Labelled:
    """What a Swarm service's labels say.

    :ivar enable: whether it is exposed, None if no label says it. A label that is neither true nor false means False.
    :ivar network: the name of the network to reach the tasks through, ``""`` if no label says it.
    :ivar lbswarm: whether the service's virtual address is used in place of the tasks', None if no label says it.
    :ivar routers: as written: the rule is ``""`` where the default rule is meant, the service ``""`` where the only
        one is. Those with a fault say so, and are to be published too.
    :ivar dropped_routers: names of routers that are not to be served, nor replaced by an automatic one.
    :ivar dropped_services: names of services that have a fault.
    """

    enable: bool | None = None
    network: str = ""
    lbswarm: bool | None = None
    routers: Mapping[str, Router] = attrs.field(factory=dict)
    services: Mapping[str, LabelledService] = attrs.field(factory=dict)
    middlewares: Mapping[str, Middleware] = attrs.field(factory=dict)
    problems: tuple[Problem, ...] = ()
    dropped_routers: tuple[str, ...] = ()
    dropped_services: tuple[str, ...] = ()


def decode(
    labels: Mapping[str, str],
    prefixes: Sequence[str],
    kinds: Mapping[str, type[Any]],
    origin: str,
    provider: str = "swarm",
) -> Labelled:
    """What *labels* say.

    :param prefixes: what labels begin with, as ``("swarmgate", "traefik")``; where two say different things, the
        earlier one wins.
    :param kinds: the class of settings of each kind of middleware that there is, by its name in lower case.
    :param origin: whose labels they are, as ``service shop_web``, for messages.
    :param provider: whose routers they make, for messages.
    """
    return _Decoding(labels, kinds, origin, provider).decode(prefixes)


@attrs.frozen
class _Label:
    """A label without its prefix.

    :ivar written: the whole label.
    :ivar names: what stands between its dots.
    """

    written: str
    names: tuple[str, ...]
    value: str

    @property
    def key(self) -> tuple[str, ...]:
        """What tells whether two labels are the same one: names of routers and the like have a case."""
        named = self.names[0].lower() in ("http", "tcp", "udp") and len(self.names) > 2
        return tuple(name if named and index == 2 else name.lower() for index, name in enumerate(self.names))


@attrs.frozen
class _Part:
    """The labels of one router, service or middleware.

    :ivar tree: of its options.
    :ivar path: its dotted name, which errors begin with.
    :ivar faults: what is wrong with how the labels fit together.
    """

    name: str
    path: str
    tree: dict[str, Any] = attrs.field(factory=dict)
    faults: list[Fault] = attrs.field(factory=list)


class _Decoding:
    """One Swarm service's labels, and what was found so far."""

    def __init__(self, labels: Mapping[str, str], kinds: Mapping[str, type[Any]], origin: str, provider: str) -> None:
        self._labels = labels
        self._kinds = kinds
        self._origin = origin
        self._provider = provider
        self._problems: list[Problem] = []
        self._parts: dict[str, dict[str, _Part]] = {"routers": {}, "services": {}, "middlewares": {}}
        self._told: set[str] = set()
        # enable, network and lbswarm by their names; of the last two, those of docker and swarm.
        self._flags: dict[str, _Label] = {}

    def decode(self, prefixes: Sequence[str]) -> Labelled:
        for label in self._distinct(prefixes):
            self._sort(label)
        routers, dropped_routers = self._routers()
        services, dropped_services = self._services()
        middlewares = self._middlewares()
        network = self._of_docker_or_swarm("network")
        return Labelled(
            enable=self._flag(self._flags.get("enable"), False),
            network=network.value.strip() if network else "",
            lbswarm=self._flag(self._of_docker_or_swarm("lbswarm"), None),
            routers=routers,
            services=services,
            middlewares=middlewares,
            problems=tuple(dict.fromkeys(self._problems)),
            dropped_routers=dropped_routers,
            dropped_services=dropped_services,
        )

    def _distinct(self, prefixes: Sequence[str]) -> Iterator[_Label]:
        """The labels with one of *prefixes*, each key once."""
        chosen: dict[tuple[str, ...], _Label] = {}
        for prefix in prefixes:
            start = prefix.lower() + "."
            for written in sorted(self._labels):
                if not written.lower().startswith(start):
                    continue
                names = tuple(written[len(start) :].split("."))
                label = _Label(written, names, self._labels[written])
                earlier = chosen.setdefault(label.key, label)
                if earlier.value != label.value:
                    reason = f"{earlier.written} says otherwise, and is in force"
                    self._tell(self._subject_of(label), label.written, self._shown(label), reason)
        yield from chosen.values()

    def _sort(self, label: _Label) -> None:
        """Put a label where it belongs."""
        section = label.names[0].lower()
        rest = label.names[1:]
        if section == "enable" and not rest:
            self._flags["enable"] = label
        elif section in ("docker", "swarm"):
            name = ".".join(rest).lower()
            if name in ("network", "lbswarm"):
                self._flags[f"{section}.{name}"] = label
            else:
                nearest = nearest_of(name, ("network", "lbswarm"))
                reason = "unknown label: expected network or lbswarm"
                self._tell(self._origin, label.written, label.value, reason, nearest)
        elif section == "http":
            self._sort_http(label, rest)
        elif section in ("tcp", "udp"):
            subject = " ".join((section, rest[0].removesuffix("s"), rest[1])) if len(rest) > 1 else section
            if subject not in self._told:
                self._told.add(subject)
                self._tell(subject, label.written, "", _LATER.format(section.upper()))
        elif section == "tls":
            reason = "expected certificates and options of TLS in a file of providers.file: labels have none"
            if ".".join(rest).lower().startswith("stores.default.defaultgeneratedcert"):
                reason = "a default certificate from a resolver is an option of Traefik's that swarmgate does not have"
            self._tell("tls", label.written, label.value, reason)
        else:
            # Traefik ignores such labels, and some are there for constraints; but not those that are slips.
            nearest = nearest_of(section, _SECTIONS)
            if nearest:
                self._tell(self._origin, label.written, "", "unknown label", nearest)

    def _sort_http(self, label: _Label, rest: tuple[str, ...]) -> None:
        kind = rest[0].lower() if rest else ""
        if kind not in self._parts:
            nearest = nearest_of(kind, list(self._parts))
            reason = "expected http.routers, http.services or http.middlewares"
            self._tell(self._origin, label.written, "", reason, nearest)
            return
        if len(rest) < 2 or not rest[1]:
            self._tell(self._origin, label.written, "", f"expected a name and an option after {kind}")
            return
        name = rest[1]
        part = self._parts[kind].setdefault(name, _Part(name, f"http.{kind}.{name}"))
        if len(rest) == 2:
            part.faults.append(Fault(part.path, None, label.written, "an option after the name"))
            return
        try:
            insert(part.tree, ".".join(rest[2:]), label.value, label.written)
        except StructureError as error:
            part.faults.extend(attrs.evolve(fault, origin=label.written) for fault in error.faults)

    # ---- what the parts are

    def _routers(self) -> tuple[dict[str, Router], tuple[str, ...]]:
        routers: dict[str, Router] = {}
        dropped = []
        for name, part in sorted(self._parts["routers"].items()):
            reading = self._read(part, "router", lambda part: read_router(part.tree, part.path))
            options = reading.value
            if options is None and not reading.faults:
                dropped.append(name)
                continue
            fault = ""
            if options is None:
                # It still takes the requests that its rule matches, so that they don't go by what it asks for.
                fault = f"{reading.faults[0].origin}: {reading.faults[0].reason}"
                options = _salvaged(part)
            routers[name] = Router(
                name,
                rule=options.rule,
                service=options.service,
                entry_points=options.entry_points,
                middlewares=options.middlewares,
                priority=options.priority,
                syntax=options.rule_syntax,
                origin=self._origin,
                fault=fault,
                tls=options.tls,
                observability=options.observability,
            )
        return routers, tuple(dropped)

    def _services(self) -> tuple[dict[str, LabelledService], tuple[str, ...]]:
        services: dict[str, LabelledService] = {}
        dropped = []
        for name, part in sorted(self._parts["services"].items()):
            value: TaskServiceOptions | None = self._read(
                part, "service", lambda part: read_task_service(part.tree, part.path)
            ).value
            if value is None:
                dropped.append(name)
                continue
            server = value.load_balancer.server
            services[name] = LabelledService(
                name,
                server.port,
                server.scheme,
                server.url,
                server.weight,
                value.load_balancer.balancing(),
                value.load_balancer.servers_transport,
                value.composition,
            )
        return services, tuple(dropped)

    def _middlewares(self) -> dict[str, Middleware]:
        middlewares: dict[str, Middleware] = {}
        for name, part in sorted(self._parts["middlewares"].items()):
            value = self._read(
                part, "middleware", lambda part: read_middleware(part.tree, part.path, self._kinds)
            ).value
            if value is not None:
                middlewares[name] = Middleware(name, *value)
        return middlewares

    def _read(self, part: _Part, noun: str, read: Any) -> Reading:
        """What a part was read as; what is wrong with it is told."""
        reading: Reading = read(part)
        if part.faults:
            reading = Reading(None, (*part.faults, *(reading.faults if part.tree else ())), reading.notes)
        subject = f"{noun} {part.name}@{self._provider}"
        for fault in (*reading.faults, *reading.notes):
            if fault.problem == "missing":
                # The label that is there is not the one that it is about.
                prefix = fault.origin[: fault.origin.lower().find(".http.")]
                self._tell(subject, f"{prefix}.{fault.key}", "", fault.reason, fault.nearest)
            else:
                self._tell(subject, fault.origin, self._given(noun, fault), fault.reason, fault.nearest)
        return reading

    def _given(self, noun: str, fault: Fault) -> str:
        """The value to repeat: of middlewares only what is known to be no secret."""
        if fault.given is not None or noun == "middleware":
            return fault.given or ""
        return self._labels.get(fault.origin, "")

    # ---- flags

    def _of_docker_or_swarm(self, name: str) -> _Label | None:
        docker, swarm = self._flags.get(f"docker.{name}"), self._flags.get(f"swarm.{name}")
        if docker is not None and swarm is not None and docker.value != swarm.value:
            reason = f"{swarm.written} says otherwise, and is in force"
            self._tell(self._origin, docker.written, docker.value, reason)
        return swarm or docker

    def _flag(self, label: _Label | None, otherwise: bool | None) -> bool | None:
        """What a label says; *otherwise* if it is neither true nor false."""
        if label is None:
            return None
        text = label.value.strip().lower()
        if text in ("true", "t", "1"):
            return True
        if text in ("false", "f", "0"):
            return False
        nearest = nearest_of(text, ("true", "false"))
        effect = "; the service is not exposed" if otherwise is False else ""
        self._tell(self._origin, label.written, label.value, f"expected true or false{effect}", nearest)
        return otherwise

    # ---- problems

    def _subject_of(self, label: _Label) -> str:
        names = label.names
        if len(names) > 2 and names[0].lower() == "http" and names[1].lower() in self._parts:
            return f"{names[1].lower().removesuffix('s')} {names[2]}@{self._provider}"
        return self._origin

    @staticmethod
    def _shown(label: _Label) -> str:
        return "" if "middlewares" in label.key[:2] else label.value

    def _tell(self, subject: str, label: str, value: str, reason: str, nearest: str = "") -> None:
        self._problems.append(Problem(subject, self._origin, reason, label, value, nearest))


def _salvaged(part: _Part) -> RouterOptions:
    """What can be told of a router that has a fault: each option that is right on its own."""
    options = RouterOptions()
    for name, node in part.tree.items():
        value = read_router({name: node}, part.path).value
        if value is not None:
            changed = {
                field.name: getattr(value, field.name)
                for field in attrs.fields(RouterOptions)
                if getattr(value, field.name) != field.default
            }
            options = attrs.evolve(options, **changed)
        elif name.lower() == "tls":
            # Requests that came over TLS are still its own.
            options = attrs.evolve(options, tls=RouterTLS())
    return options
