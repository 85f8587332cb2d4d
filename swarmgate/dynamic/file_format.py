"""Traefik's dynamic configuration files: ``http.routers``, ``.services``, ``.middlewares``, and ``tls``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from swarmgate.documents import read_document
from swarmgate.dynamic.model import Configuration, Middleware, Problem, Router, Server, Service
from swarmgate.dynamic.options import (
    LoadBalancerOptions,
    Reading,
    RouterOptions,
    ServiceOptions,
    read_file_service,
    read_middleware,
    read_router,
)
from swarmgate.dynamic.tls import Certificate, ServersTransport, TLSConfiguration, TLSFiles
from swarmgate.structure import Fault, StructureError, Tree, bare, nearest_of, origin_of, structure

T = TypeVar("T")

_SECTIONS = ("http", "tls")
_SECTIONS_LATER = ("tcp", "udp")
_HTTP = ("routers", "services", "middlewares", "serversTransports")
_HTTP_LATER = ("models",)


def decode_file(text: str, name: str, kinds: Mapping[str, type[Any]], provider: str = "file") -> Configuration:
    """What a file says; its problems are what Traefik has and swarmgate hasn't.

    :param name: the file's name, whose end says which language it is in, and which messages repeat.
    :param kinds: the class of settings of each kind of middleware that there is, by its name in lower case.
    :param provider: whose configuration it is, for messages.
    :raises StructureError: something in it is wrong; with everything that is.
    """
    return _Decoding(name, kinds, provider).decode(read_document(text, name))


class _Decoding:
    """One file, and what was found so far."""

    def __init__(self, name: str, kinds: Mapping[str, type[Any]], provider: str) -> None:
        self._file = f"file {name}"
        self._kinds = kinds
        self._provider = provider
        self._faults: list[Fault] = []
        self._problems: list[Problem] = []

    def decode(self, tree: Tree) -> Configuration:
        sections = self._sections(tree, "", _SECTIONS, _SECTIONS_LATER)
        parts = self._sections(sections.get("http"), "http", _HTTP, _HTTP_LATER)
        routers: dict[str, Router] = {}
        services: dict[str, Service] = {}
        middlewares: dict[str, Middleware] = {}
        for name, path, node in self._named(parts, "routers"):
            router: RouterOptions | None = self._read("router", name, read_router, node, path)
            if router is not None:
                routers[name] = self._router(name, path, node, router)
        for name, path, node in self._named(parts, "services"):
            service: ServiceOptions | None = self._read("service", name, read_file_service, node, path)
            if service is not None:
                services[name] = _service(name, service)
        for name, path, node in self._named(parts, "middlewares"):
            found = self._read("middleware", name, self._read_middleware, node, path)
            if found is not None:
                middlewares[name] = Middleware(name, *found)
        transports: dict[str, ServersTransport] = {}
        for name, path, node in self._named(parts, "serversTransports"):
            transport = self._structure(ServersTransport, node, path)
            if transport is not None:
                transports[name] = transport
        files = None if sections.get("tls") is None else self._structure(TLSFiles, sections["tls"], "tls")
        if files is not None:
            key, reason = (
                "preferServerCipherSuites",
                "taken, without effect: the server's order counts",
            )
            self._problems += [
                Problem(
                    f"store {name}@{self._provider}", self._file, "there is no store but default", f"tls.stores.{name}"
                )
                for name in files.stores
                if name != "default"
            ]
            self._problems += [
                Problem(f"TLS options {name}@{self._provider}", self._file, reason, f"tls.options.{name}.{key}")
                for name, options in files.options.items()
                if options.prefer_server_cipher_suites is not None
            ]
        if self._faults:
            raise StructureError(self._faults)
        return Configuration(
            routers,
            services,
            middlewares,
            tuple(self._problems),
            TLSConfiguration(options=files.options) if files is not None else TLSConfiguration(),
            transports,
            files if files is not None else TLSFiles() if transports else None,
        )

    def _structure(self, cls: type[T], tree: Tree, path: str) -> T | None:
        try:
            return structure(cls, tree, path)
        except StructureError as error:
            self._faults += error.faults
            return None

    def _router(self, name: str, path: str, node: Tree, options: RouterOptions) -> Router:
        for key, value in (("rule", options.rule), ("service", options.service)):
            if not value:
                self._faults.append(Fault(f"{path}.{key}", None, origin_of(node), problem="missing"))
        return Router(
            name,
            rule=options.rule,
            service=options.service,
            entry_points=options.entry_points,
            middlewares=options.middlewares,
            priority=options.priority,
            syntax=options.rule_syntax,
            origin=origin_of(node) or self._file,
            tls=options.tls,
            observability=options.observability,
        )

    def _read_middleware(self, tree: Tree, path: str) -> Reading:
        return read_middleware(tree, path, self._kinds)

    def _read(self, noun: str, name: str, read: Callable[[Tree, str], Reading], node: Tree, path: str) -> Any:
        """What *read* makes of a part; its faults and notes are remembered."""
        reading = read(node, path)
        self._faults += reading.faults
        subject = f"{noun} {name}@{self._provider}"
        self._problems += [problem_of(fault, subject, self._file) for fault in reading.notes]
        return reading.value

    def _sections(self, tree: Tree, path: str, known: tuple[str, ...], later: tuple[str, ...]) -> dict[str, Tree]:
        """The options of *tree* that are *known*; what is wrong with the others is remembered."""
        found: dict[str, Tree] = {}
        for name, node in self._options(tree, path):
            key = f"{path}.{name}" if path else name
            spelled = {one.lower(): one for one in (*known, *later)}.get(name.lower())
            if spelled in found:
                self._faults.append(Fault(key, None, origin_of(node), problem="given twice"))
            elif spelled in known:
                found[spelled] = node
            elif spelled is None:
                nearest = nearest_of(name, (*known, *later))
                self._faults.append(Fault(key, None, origin_of(node), nearest=nearest, problem="unknown option"))
            elif bare(node):
                fault = Fault(
                    key, None, origin_of(node), problem="an option of Traefik's that swarmgate does not have yet"
                )
                self._problems.append(problem_of(fault, self._file, self._file))
        return found

    def _named(self, parts: Mapping[str, Tree], kind: str) -> list[tuple[str, str, Tree]]:
        """Name, path and tree of each part of a kind."""
        path = f"http.{kind}"
        return [(name, f"{path}.{name}", node) for name, node in self._options(parts.get(kind), path)]

    def _options(self, tree: Tree, path: str) -> list[tuple[str, Tree]]:
        options = bare(tree)
        if options is None:
            return []
        if not isinstance(options, Mapping):
            self._faults.append(Fault(path, None, origin_of(tree), "options below it", problem="no table"))
            return []
        return [(str(name), node) for name, node in options.items()]


def _service(name: str, options: ServiceOptions) -> Service:
    composition = options.composition
    if composition is not None:
        return Service(name, composition=composition)
    balancer = options.load_balancer or LoadBalancerOptions()
    servers = tuple(Server(one.url, one.weight) for one in balancer.servers)
    return Service(name, tuple(dict.fromkeys(servers)), balancer.balancing(), False, balancer.servers_transport)


def problem_of(fault: Fault, subject: str, file: str) -> Problem:
    """*fault* as a problem of *subject*; *file* is where it was written if the fault doesn't tell."""
    return Problem(subject, fault.origin or file, fault.reason, fault.key, fault.given or "", fault.nearest)


def merge_files(files: Mapping[str, Configuration]) -> Configuration:
    """What several files say together; where two use one name, the first file by name has it.

    :param files: by the file's name.
    """
    nouns = ("router", "service", "middleware", "serversTransport", "TLS option")
    merged: dict[str, dict[str, Any]] = {noun: {} for noun in nouns}
    certificates: list[Certificate] = []
    default: Certificate | None = None
    problems: list[Problem] = []
    owners: dict[tuple[str, str], str] = {}
    for file in sorted(files):
        configuration = files[file]
        problems += configuration.problems
        certificates += configuration.tls.certificates
        default = default or configuration.tls.default
        kinds: tuple[Mapping[str, Any], ...] = (
            configuration.routers,
            configuration.services,
            configuration.middlewares,
            configuration.servers_transports,
            configuration.tls.options,
        )
        for noun, parts in zip(nouns, kinds, strict=True):
            for name, part in parts.items():
                owner = owners.setdefault((noun, name), file)
                if owner == file:
                    merged[noun][name] = part
                    continue
                reason = f"file {owner} has a {noun} of that name already, which is in force"
                origin = getattr(part, "origin", "") or f"file {file}"
                key = f"tls.options.{name}" if noun == "TLS option" else f"http.{noun}s.{name}"
                problems.append(Problem(f"{noun} {name}@file", origin, reason, key))
    return Configuration(
        merged["router"],
        merged["service"],
        merged["middleware"],
        tuple(problems),
        TLSConfiguration(tuple(dict.fromkeys(certificates)), default, merged["TLS option"]),
        merged["serversTransport"],
    )
