"""Stack files judged before they are deployed: :func:`lint` sees the Swarm that a file would make, and asks why."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from swarmgate.config.load import ConfigurationError, load
from swarmgate.config.model import StaticConfiguration
from swarmgate.dynamic.table import EntryPointFacts
from swarmgate.middlewares import KINDS
from swarmgate.providers.swarm.decide import Options
from swarmgate.providers.swarm.snapshot import Address, Network, Node, Port, Snapshot, SwarmService, Task
from swarmgate.structure import nearest_of
from swarmgate.why.services import Finding, World, why_service

_GATES = re.compile(r"(?:^|/)(?:swarmgate|traefik)(?:[:@]|$)")
_RESOURCES = ("api@internal", "dashboard@internal", "noop@internal", "ping@internal", "prometheus@internal")
#: A dollar that begins neither ``$$`` nor a variable in braces: Docker takes what follows for a variable.
_LONE_DOLLAR = re.compile(r"(?<!\$)(?:\$\$)*\$(?![\${])")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::?[-?]([^}]*))?\}")
_PUBLISHED = re.compile(r"(?:.*:)?(?P<published>\d+):(?P<target>\d+)(?:/(?P<protocol>\w+))?$")
_SWITCHES = ("bridge", "host", "ingress", "none")


class StackError(ValueError):
    """A file that is no stack file; the text says what is wrong and where."""


def options_of(configuration: StaticConfiguration) -> Options:
    """What the options of a gate say about labels and networks."""
    swarm = configuration.providers.swarm
    if swarm is None:
        return Options(kinds=KINDS)
    return Options(
        KINDS, swarm.exposed_by_default, swarm.network, swarm.default_rule, swarm.constraints, swarm.label_prefixes
    )


def lint(text: str, stack: str = "stack", words: Sequence[str] = ()) -> tuple[Finding, ...]:
    """What is wrong with a stack file's services, in the file's order.

    A gate that the file itself deploys is looked at for its options and networks.

    :param stack: the name that it would be deployed under.
    :param words: the options of the gate, as on its command line; empty: those of the gate in the file, if there is
        one.
    :raises StackError: the text is no stack file.
    :raises ConfigurationError: *words* are no options.
    """
    try:
        document = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - it makes nothing but text, lists and mappings
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise StackError(f"line {line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise StackError(f"not YAML: {error}") from None
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict):
        raise StackError("expected a mapping with the key services, as in a compose file")
    filled = _filled_below(document)
    return _Stack(stack, filled, filled["services"], words).findings()


class _Stack:
    """A stack file as the Swarm that it would make."""

    def __init__(self, name: str, document: dict[str, Any], services: dict[str, Any], words: Sequence[str]) -> None:
        self._name = name
        self._declared = _mapping(document.get("networks"))
        self._services = {each: _mapping(told) for each, told in services.items()}
        self._found: list[Finding] = []
        self._gate = next(
            (each for each, told in self._services.items() if _GATES.search(_text(told.get("image")))), ""
        )
        self._configuration = load(words, {}) if words else self._own_configuration()

    def _own_configuration(self) -> StaticConfiguration | None:
        """The configuration of the gate in the file; None if there is none, or it can't be understood."""
        command = self._services.get(self._gate, {}).get("command")
        words = command.split() if isinstance(command, str) else _list(command)
        words = words[1:] if words and not words[0].startswith("-") else words
        if not words:
            return None
        try:
            return load(words, {})
        except ConfigurationError:
            return None

    def findings(self) -> tuple[Finding, ...]:
        """What is wrong, service by service."""
        made = [self._service(number, name, told) for number, (name, told) in enumerate(self._services.items())]
        ids = {network for service in made for network in service.networks}
        names = {self._network_name(name) for name in self._declared} | ids
        networks = tuple(Network(each, each) for each in sorted(names))
        tasks = tuple(
            Task(
                f"{service.name}.1",
                service.id,
                1,
                "node",
                addresses=tuple(Address(each, "192.0.2.1") for each in service.networks),
            )
            for service in made
            if service.replicas != 0
        )
        snapshot = Snapshot(tuple(made), tasks, networks, (Node("node", "node"),))
        gate = next((one for one in made if one.name == f"{self._name}_{self._gate}"), None)
        world = World.of(
            snapshot,
            options_of(self._configuration) if self._configuration else Options(kinds=KINDS),
            self._entry_points(made),
            frozenset(gate.networks) if gate is not None else None,
            resources=_RESOURCES,
            gate=gate.name if gate is not None else "",
        )
        for service in made:
            # A gate that nothing is to lead to is not at fault for having no port, nor is a service without labels.
            labelled = any(label != _STACK for label, _ in (*service.labels, *service.container_labels))
            if any(".http." in label for label, _ in service.labels) if service is gate else labelled:
                self._found.extend(
                    each
                    for each in why_service(service.name, world)
                    # The gate itself has to publish its ports.
                    if not (each.is_hint and service is gate)
                )
        return tuple(dict.fromkeys(self._found))

    def _entry_points(self, services: Sequence[SwarmService]) -> dict[str, EntryPointFacts]:
        """Those of the configuration; where that isn't known, all that labels name."""
        if self._configuration is not None:
            return {
                name: EntryPointFacts(options.as_default, (), name == "traefik", options.http.tls)
                for name, options in self._configuration.entry_points.items()
            }
        named = {
            name.strip(): EntryPointFacts()
            for service in services
            for label, value in service.labels
            if label.lower().endswith(".entrypoints")
            for name in value.split(",")
        }
        return named or {"web": EntryPointFacts()}

    def _tell(self, service: str, sentence: str, *, is_hint: bool = False) -> None:
        self._found.append(Finding(f"{self._name}_{service}", sentence, is_hint))

    def _service(self, number: int, name: str, told: dict[str, Any]) -> SwarmService:
        deploy = _mapping(told.get("deploy"))
        for key in told:
            if key not in _KEYS and nearest_of(key, ("deploy", "labels", "networks")):
                self._tell(name, f'"{key}" is no key of a service: did you mean {nearest_of(key, _KEYS)}?')
        for key in deploy:
            if nearest_of(key, ("labels",)) and key != "labels":
                self._tell(name, f'"deploy.{key}" is no key of a service: did you mean deploy.labels?')
        for key in _misplaced(told):
            self._tell(name, f"{key} stands among the keys of the service: labels belong below deploy.labels")
        for key in _misplaced(deploy):
            self._tell(name, f"{key} stands among the keys of deploy: labels belong below deploy.labels")
        replicas = _text(deploy.get("replicas", "1"))
        wanted = None if deploy.get("mode") == "global" else int(replicas) if replicas.isdecimal() else 1
        return SwarmService(
            id=f"{number:06}",
            name=f"{self._name}_{name}",
            created=number + 1,
            labels=self._labels(name, "deploy.labels", deploy.get("labels")),
            container_labels=self._labels(name, "labels", told.get("labels")),
            image=_text(told.get("image")),
            networks=self._networks(name, told),
            ports=tuple(self._ports(name, told.get("ports"))),
            replicas=wanted,
            has_health_check=_text(_mapping(told.get("healthcheck")).get("disable")).lower() != "true"
            and "test" in _mapping(told.get("healthcheck")),
        )

    def _labels(self, service: str, key: str, told: Any) -> tuple[tuple[str, str], ...]:
        found: dict[str, str] = {_STACK: self._name} if key == "deploy.labels" else {}
        if isinstance(told, str):
            if told:
                self._tell(service, f'{key}: expected a list or a mapping of labels, not the text "{told}"')
            return tuple(found.items())
        pairs: list[tuple[str, str]] = []
        for each in told if isinstance(told, list) else ():
            if isinstance(each, dict):
                pairs.extend((label, _text(value)) for label, value in each.items())
                wrong = next(iter(each), "")
                self._tell(service, f'{key}: "- {wrong}: ..." is no label in a list: write - {wrong}=...')
                continue
            label, equals, value = _text(each).partition("=")
            if not equals and ":" in label:
                self._tell(service, f'{key}: "{label}" has no =: in a list labels are written name=value')
                continue
            pairs.append((label, value))
        pairs.extend((label, _text(value)) for label, value in _mapping(told).items())
        for label, value in pairs:
            if _LONE_DOLLAR.search(value):
                self._tell(
                    service, f"{key}: {label}: Docker takes what follows a $ for a variable: write $$ for each $"
                )
            found[label] = _filled(value)
        return tuple(sorted(found.items()))

    def _network_name(self, key: str) -> str:
        told = _mapping(self._declared.get(key))
        external = told.get("external")
        if isinstance(external, dict) and external.get("name"):
            return _text(external["name"])
        if told.get("name"):
            return _text(told["name"])
        return key if _text(external).lower() == "true" else f"{self._name}_{key}"

    def _networks(self, service: str, told: dict[str, Any]) -> tuple[str, ...]:
        if told.get("network_mode"):
            self._tell(service, f"network_mode: {told['network_mode']}: a stack has no such key: use networks")
        keys = told.get("networks")
        names = list(keys) if isinstance(keys, dict) else _list(keys)
        found = set()
        for key in names or ["default"]:
            if key not in self._declared and key != "default":
                near = nearest_of(key, list(self._declared))
                hint = f"; did you mean {near}?" if near else ""
                self._tell(service, f"its network {key} is not declared under the file's networks{hint}")
                continue
            driver = _text(_mapping(self._declared.get(key)).get("driver"))
            if driver in _SWITCHES:
                self._tell(
                    service, f"its network {key} is of the driver {driver}, which reaches no other node: use overlay"
                )
                continue
            found.add(self._network_name(key))
        return tuple(sorted(found))

    def _ports(self, service: str, told: Any) -> Iterator[Port]:
        for each in told if isinstance(told, list) else ():
            if isinstance(each, dict):
                target, published = _text(each.get("target")), _text(each.get("published"))
                mode, protocol = _text(each.get("mode")) or "ingress", _text(each.get("protocol")) or "tcp"
                if target.isdecimal():
                    yield Port(int(target), int(published) if published.isdecimal() else 0, mode, protocol)
                continue
            match = _PUBLISHED.match(_text(each))
            if match is not None:
                yield Port(int(match["target"]), int(match["published"]), "ingress", match["protocol"] or "tcp")
            elif _text(each).isdecimal():
                yield Port(int(each))
            else:
                self._tell(service, f'ports: "{each}": expected as 8080:80', is_hint=True)


_STACK = "com.docker.stack.namespace"
_PREFIXES = ("swarmgate", "traefik")
#: The keys of a service that slips are compared with.
_KEYS = (
    "build",
    "command",
    "configs",
    "deploy",
    "environment",
    "expose",
    "healthcheck",
    "image",
    "label_file",
    "labels",
    "links",
    "network_mode",
    "networks",
    "ports",
    "secrets",
    "volumes",
)


def _misplaced(told: Mapping[str, Any]) -> list[str]:
    return [key for key in told if key.partition(".")[0] in _PREFIXES]


def _mapping(told: Any) -> dict[str, Any]:
    return told if isinstance(told, dict) else {}


def _list(told: Any) -> list[str]:
    return [_text(each) for each in told] if isinstance(told, list) else []


def _text(told: Any) -> str:
    return told if isinstance(told, str) else ""


def _filled_below(told: Any) -> Any:
    """*told* with its variables filled in, but for labels, in which the dollars are looked at."""
    if isinstance(told, dict):
        return {key: one if key == "labels" else _filled_below(one) for key, one in told.items()}
    if isinstance(told, list):
        return [_filled_below(one) for one in told]
    return _filled(told) if isinstance(told, str) else told


def _filled(value: str) -> str:
    """*value* as Docker deploys it, variables at their defaults, or named after themselves where they have none."""
    return _VARIABLE.sub(lambda found: found[2] or found[1].lower(), value.replace("$$", "\0")).replace("\0", "$")
