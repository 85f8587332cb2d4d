"""From command line, environment and file to the static configuration."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from swarmgate.config.agent import AgentConfiguration
from swarmgate.config.model import EntryPoint, StaticConfiguration
from swarmgate.config.sources import from_environment, from_file, from_options
from swarmgate.structure import (
    Address,
    Fault,
    Given,
    Repeated,
    StructureError,
    Tree,
    bare,
    insert,
    merge,
    nearest_of,
    origin_of,
    structure,
)


class ConfigurationError(StructureError):
    """The process can't be started with this; :attr:`faults` has each reason."""


def read_text(path: str) -> str:
    """The text of a file.

    :raises OSError: it can't be read.
    :raises UnicodeDecodeError: it is no UTF-8.
    """
    return Path(path).read_text("utf-8")


def load(
    argv: Sequence[str], environ: Mapping[str, str], read_file: Callable[[str], str] = read_text
) -> StaticConfiguration:
    """What command line, environment and file say together; options win over the environment, it over the file.

    The file is the one that ``--config`` names, or else SWARMGATE_CONFIG. Where they say nothing of it, there is an
    entry point ``http`` on port 80, and one called ``traefik`` on port 8080 if ping or api.insecure is on that.

    :raises ConfigurationError: with everything that is wrong, in all of them.
    """
    tree, faults = _together(argv, environ, read_file)
    faults.extend(_understand_v2(tree))
    _honour_docker_host(tree, environ)
    try:
        configuration = structure(StaticConfiguration, tree)
    except StructureError as error:
        raise ConfigurationError([*faults, *error.faults]) from None
    configuration = with_default_entry_points(configuration)
    faults.extend(_contradictions(configuration, tree))
    if faults:
        raise ConfigurationError(faults)
    return configuration


def load_agent(
    argv: Sequence[str], environ: Mapping[str, str], read_file: Callable[[str], str] = read_text
) -> AgentConfiguration:
    """What they say together to an agent; see :func:`load`.

    :raises ConfigurationError: with everything that is wrong, in all of them.
    """
    tree, faults = _together(argv, environ, read_file)
    if environ.get("DOCKER_HOST") and _at(tree, "agent", "endpoint") is None:
        insert(tree, "agent.endpoint", environ["DOCKER_HOST"], "environment variable DOCKER_HOST")
    try:
        configuration = structure(AgentConfiguration, tree)
    except StructureError as error:
        raise ConfigurationError([*faults, *error.faults]) from None
    if faults:
        raise ConfigurationError(faults)
    return configuration


def _together(
    argv: Sequence[str], environ: Mapping[str, str], read_file: Callable[[str], str]
) -> tuple[dict[str, Tree], list[Fault]]:
    """What command line, environment and file say, as one tree, and what is wrong with how they say it."""
    options, environment = from_options(argv), from_environment(environ)
    faults = [*options.faults, *environment.faults]
    tree: dict[str, Tree] = {}
    file, origin = options.file or environment.file, options.file_origin or environment.file_origin
    if file:
        source = from_file(file, origin, read_file)
        tree = source.tree
        faults.extend(source.faults)
    return merge(merge(tree, environment.tree), options.tree), faults


def with_default_entry_points(configuration: StaticConfiguration) -> StaticConfiguration:
    """*configuration* with the entry points that are there without being given (Traefik's defaults)."""
    entry_points = dict(configuration.entry_points)
    if not entry_points:
        entry_points["http"] = EntryPoint(address=Address("", 80))
    ping = configuration.ping
    pinged = ping is not None and ping.entry_point == "traefik" and not ping.manual_routing
    metrics = configuration.metrics.prometheus if configuration.metrics is not None else None
    measured = metrics is not None and metrics.entry_point == "traefik" and not metrics.manual_routing
    if pinged or measured or (configuration.api is not None and configuration.api.insecure):
        entry_points.setdefault("traefik", EntryPoint(address=Address("", 8080)))
    return attrs.evolve(configuration, entry_points=entry_points)


def _contradictions(configuration: StaticConfiguration, tree: Mapping[str, Tree]) -> list[Fault]:
    faults: list[Fault] = []
    ping, names = configuration.ping, list(configuration.entry_points)
    if ping is not None and not ping.manual_routing and ping.entry_point not in names:
        expected, nearest = f"the name of an entry point: {', '.join(names)}", nearest_of(ping.entry_point, names)
        origin = origin_of(_at(tree, "ping", "entryPoint"))
        faults.append(Fault("ping.entryPoint", ping.entry_point, origin, expected, nearest))
    metrics = configuration.metrics.prometheus if configuration.metrics is not None else None
    if metrics is not None and not metrics.manual_routing and metrics.entry_point not in names:
        expected, nearest = f"the name of an entry point: {', '.join(names)}", nearest_of(metrics.entry_point, names)
        origin = origin_of(_at(tree, "metrics", "prometheus", "entryPoint"))
        faults.append(Fault("metrics.prometheus.entryPoint", metrics.entry_point, origin, expected, nearest))
    for name, entry_point in configuration.entry_points.items():
        redirection = entry_point.http.redirections.entry_point
        if redirection is None or redirection.to in names or re.fullmatch(":[0-9]{1,5}", redirection.to):
            continue
        place = ("entryPoints", name, "http", "redirections", "entryPoint", "to")
        expected = f"a port such as :443, or the name of an entry point: {', '.join(names)}"
        nearest = nearest_of(redirection.to, names)
        faults.append(Fault(".".join(place), redirection.to, origin_of(_at(tree, *place)), expected, nearest))
    listening: dict[Address, str] = {}
    for name, entry_point in configuration.entry_points.items():
        address = entry_point.address
        other = listening.setdefault(address, name)
        if other != name and address.port and not entry_point.reuse_port:
            origin = origin_of(_at(tree, "entryPoints", name, "address"))
            expected = f"another address than that of entryPoints.{other}, or reusePort on both"
            faults.append(Fault(f"entryPoints.{name}.address", str(address), origin, expected))
    return faults


# ---- other spellings


def _understand_v2(tree: dict[str, Tree]) -> list[Fault]:
    """Make ``providers.docker.*`` of Traefik v2 into ``providers.swarm.*``, in place."""
    providers = _at(tree, "providers")
    if not isinstance(providers, dict):
        return []
    name = next((one for one in providers if one.lower() == "docker"), None)
    if name is None:
        return []
    docker = providers.pop(name)
    options = dict(bare(docker)) if isinstance(bare(docker), Mapping) else {}
    if not options and _word(docker) == "false":
        return []
    mode = _pop(options, "swarmMode")
    if _word(mode) not in ("true", "1", "t"):
        expected = "providers.swarm, or providers.docker.swarmMode=true as Traefik v2 had it"
        problem = "plain Docker, without a Swarm, is not supported"
        return [Fault("providers.docker", None, origin_of(mode) or origin_of(docker), expected, problem=problem)]
    refresh = _pop(options, "swarmModeRefreshSeconds")
    if refresh is not None:
        options.setdefault("refreshSeconds", refresh)
    given = _pop(providers, "swarm")
    if isinstance(bare(given), Mapping):
        providers["swarm"] = merge(options, bare(given))
    elif given is None or _word(given) in ("true", "{}"):
        providers["swarm"] = Given(options, origin_of(docker))
    else:
        providers["swarm"] = given
    return []


def _honour_docker_host(tree: dict[str, Tree], environ: Mapping[str, str]) -> None:
    """Take the endpoint from DOCKER_HOST where none is given, with its certificates, as Docker's own programs do."""
    swarm = _at(tree, "providers", "swarm")
    host = environ.get("DOCKER_HOST", "")
    if swarm is None or not host or _word(swarm) == "false" or _at(tree, "providers", "swarm", "endpoint") is not None:
        return
    insert(tree, "providers.swarm.endpoint", host, "environment variable DOCKER_HOST")
    certificates = environ.get("DOCKER_CERT_PATH", "")
    if environ.get("DOCKER_TLS_VERIFY") and certificates and _at(tree, "providers", "swarm", "tls") is None:
        for key in ("ca", "cert", "key"):
            path = os.path.join(certificates, f"{key}.pem")
            insert(tree, f"providers.swarm.tls.{key}", path, "environment variable DOCKER_CERT_PATH")


def _at(tree: Tree, *names: str) -> Any:
    """What a tree has under these names, None for nothing. A group is without its Given, other things with it."""
    node = tree
    for name in names:
        group = bare(node)
        if not isinstance(group, Mapping):
            return None
        node = next((child for key, child in group.items() if str(key).lower() == name.lower()), None)
    return bare(node) if isinstance(bare(node), Mapping) else node


def _pop(options: dict[str, Tree], key: str) -> Tree | None:
    name = next((one for one in options if str(one).lower() == key.lower()), None)
    return None if name is None else options.pop(name)


def _word(node: Tree) -> str:
    """A scalar in lower case, ``""`` for anything else."""
    value = bare(node)
    if isinstance(value, Repeated):
        value = bare(value.values[-1])
    return str(value).lower() if isinstance(value, (str, bool, int)) else ""
