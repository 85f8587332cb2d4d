"""Which route takes a request: rules as predicates, and an index of routes by host.

Most rules ask for a host. :class:`RouteIndex` looks the host up in a dict and asks only the routes that can match it,
so that ten thousand routes of other hosts cost nothing.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol
from urllib.parse import unquote_to_bytes

from swarmgate.dynamic.rules import And, Matcher, Not, Or, Rule, regular_expression
from swarmgate.dynamic.table import Route


class Matchable(Protocol):
    """What rules look at in a request; :class:`swarmgate.http.message.Request` has it."""

    method: bytes
    query: bytes | None
    authority: bytes
    host: bytes
    fields: list[tuple[bytes, bytes]]
    client_ip: str
    upgrade: bytes

    @property
    def routing_path(self) -> bytes:
        """The path that rules are matched against."""


Predicate = Callable[[Matchable], bool]
"""Does a request match?"""


def compile_rule(rule: Rule) -> Predicate:
    """The predicate for *rule*."""
    if isinstance(rule, Matcher):
        return _COMPILERS[rule.name](rule.args)
    if isinstance(rule, Not):
        negated = compile_rule(rule.rule)
        return lambda request: not negated(request)
    predicates = tuple(map(compile_rule, rule.rules))
    return _all_of(predicates) if isinstance(rule, And) else _any_of(predicates)


def _all_of(predicates: Sequence[Predicate]) -> Predicate:
    if len(predicates) == 2:
        first, second = predicates
        return lambda request: first(request) and second(request)

    def match(request: Matchable) -> bool:
        for predicate in predicates:  # noqa: SIM110 - a generator costs more than the loop
            if not predicate(request):
                return False
        return True

    return match


def _any_of(predicates: Sequence[Predicate]) -> Predicate:
    if len(predicates) == 2:
        first, second = predicates
        return lambda request: first(request) or second(request)

    def match(request: Matchable) -> bool:
        for predicate in predicates:  # noqa: SIM110 - a generator costs more than the loop
            if predicate(request):
                return True
        return False

    return match


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


# ---- one compiler for each matcher


def _host(args: tuple[str, ...]) -> Predicate:
    if "*" in args:
        return lambda request: True
    exact = frozenset(_octets(one) for one in args if not one.startswith("*."))
    parents = frozenset(_octets(one[2:]) for one in args if one.startswith("*."))
    if not parents and len(exact) == 1:
        (only,) = exact
        return lambda request: request.host == only
    if not parents:
        return lambda request: request.host in exact
    return lambda request: request.host in exact or _parent(request.host) in parents


def _parent(host: bytes) -> bytes:
    """*host* without its leftmost label; ``b""``, which is no host, if there is no label to leave out."""
    label, _, parent = host.partition(b".")
    return parent if label else b""


def _search(pattern: str) -> Callable[[bytes], bool]:
    search = regular_expression(pattern).search

    def found(value: bytes) -> bool:
        if not value.isascii():
            # As Go has it: an octet that is no UTF-8 is one character, so that "." can't be passed by with it.
            value = value.decode("utf-8", "replace").encode()
        return search(value) is not None

    return found


def _host_regexp(args: tuple[str, ...]) -> Predicate:
    found = _search(args[0])
    return lambda request: found(request.host)


def _path(args: tuple[str, ...]) -> Predicate:
    paths = frozenset(map(_octets, args))
    if len(paths) == 1:
        (only,) = paths
        return lambda request: request.routing_path == only
    return lambda request: request.routing_path in paths


def _path_prefix(args: tuple[str, ...]) -> Predicate:
    prefixes = tuple(map(_octets, args))
    return lambda request: request.routing_path.startswith(prefixes)


def _path_regexp(args: tuple[str, ...]) -> Predicate:
    found = _search(args[0])
    return lambda request: found(request.routing_path)


def _method(args: tuple[str, ...]) -> Predicate:
    methods = frozenset(map(_octets, args))
    if len(methods) == 1:
        (only,) = methods
        return lambda request: request.method == only
    return lambda request: request.method in methods


def _header(args: tuple[str, ...]) -> Predicate:
    name, wanted = _octets(args[0]).lower(), _octets(args[1])
    if name in _ATTRIBUTES:
        wanted = wanted.lower()
        return lambda request: wanted == _attribute(request, name)

    def match(request: Matchable) -> bool:
        for key, value in request.fields:  # noqa: SIM110 - a generator costs more than the loop
            if value == wanted and key.lower() == name:
                return True
        return False

    return match


def _header_regexp(args: tuple[str, ...]) -> Predicate:
    name, found = _octets(args[0]).lower(), _search(args[1])
    if name in _ATTRIBUTES:

        def match_attribute(request: Matchable) -> bool:
            value = _attribute(request, name)
            return value is not None and found(value)

        return match_attribute

    def match(request: Matchable) -> bool:
        for key, value in request.fields:  # noqa: SIM110 - a generator costs more than the loop
            if key.lower() == name and found(value):
                return True
        return False

    return match


#: Fields that frame a message or belong to its connection, and that rules ask for all the same: websockets.
_ATTRIBUTES = (b"upgrade", b"connection")


def _attribute(request: Matchable, name: bytes) -> bytes | None:
    if not request.upgrade:
        return None
    return request.upgrade if name == b"upgrade" else b"upgrade"


def _query(args: tuple[str, ...]) -> Predicate:
    key, wanted = _octets(args[0]), _octets(args[1]) if len(args) > 1 else b""
    return lambda request: request.query is not None and wanted in _query_values(request.query, key)


def _query_regexp(args: tuple[str, ...]) -> Predicate:
    key, found = _octets(args[0]), _search(args[1])
    return lambda request: request.query is not None and any(map(found, _query_values(request.query, key)))


def _query_values(query: bytes, key: bytes) -> list[bytes]:
    """All values that *query* has for *key*; ``;`` separates as ``&`` does (Traefik ``encodeQuerySemicolons``)."""
    values = []
    for pair in query.replace(b";", b"&").split(b"&"):
        name, _, value = pair.partition(b"=")
        if name == key or ((b"%" in name or b"+" in name) and _decoded(name) == key):
            values.append(_decoded(value))
    return values


def _decoded(part: bytes) -> bytes:
    return unquote_to_bytes(part.replace(b"+", b" "))


def _client_ip(args: tuple[str, ...]) -> Predicate:
    networks = [ipaddress.ip_network(one, strict=False) for one in args]
    ranges = [(one.version, int(one.network_address), int(one.broadcast_address)) for one in networks]

    def match(request: Matchable) -> bool:
        version, number = _address(request.client_ip)
        for its, low, high in ranges:  # noqa: SIM110 - a generator costs more than the loop
            if its == version and low <= number <= high:
                return True
        return False

    return match


@functools.lru_cache(maxsize=4096)
def _address(text: str) -> tuple[int, int]:
    """IP version and number of an address, IPv4 within IPv6 as IPv4; (0, 0) for what is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return (0, 0)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return (address.version, int(address))


_COMPILERS: dict[str, Callable[[tuple[str, ...]], Predicate]] = {
    "Host": _host,
    "HostRegexp": _host_regexp,
    "Path": _path,
    "PathPrefix": _path_prefix,
    "PathRegexp": _path_regexp,
    "Method": _method,
    "Header": _header,
    "HeaderRegexp": _header_regexp,
    "Query": _query,
    "QueryRegexp": _query_regexp,
    "ClientIP": _client_ip,
}


# ---- the index


def split_host(rule: Rule) -> tuple[frozenset[str] | None, Rule | None]:
    """The hosts that *rule* is limited to, and what it asks for beside that.

    A request matches *rule* exactly if its host is one of the first and it matches the second.

    :return: hosts as :class:`Host`'s arguments, ``*.name`` among them, None for any host; the rest of the rule, None
        if nothing is left to ask for.
    """
    if isinstance(rule, Matcher) and rule.name == "Host":
        return (None, None) if "*" in rule.args else (frozenset(rule.args), None)
    if isinstance(rule, Or):
        parts = [split_host(one) for one in rule.rules]
        hosts = [one for one, _ in parts if one is not None]
        if len(hosts) < len(parts):
            return None, rule
        return frozenset().union(*hosts), None if all(rest is None for _, rest in parts) else rule
    if isinstance(rule, And):
        parts = [split_host(one) for one in rule.rules]
        limited = [index for index, (hosts, _) in enumerate(parts) if hosts is not None]
        if not limited:
            return None, rule
        chosen = min(limited, key=lambda index: len(parts[index][0] or ()))
        rests = [parts[index][1] if index == chosen else one for index, one in enumerate(rule.rules)]
        left = tuple(one for one in rests if one is not None)
        return parts[chosen][0], None if not left else left[0] if len(left) == 1 else And(left)
    return None, rule


class _Candidate:
    """A route and how to find out whether it takes a request of a host that it is listed under.

    :ivar rank: its place in the order in which routes are asked.
    :ivar exact: hosts that it is limited to, None for any; :ivar parents: those of which it takes all that are one
        label longer.
    """

    __slots__ = ("_predicate", "_rest", "exact", "parents", "rank", "route")

    def __init__(self, route: Route) -> None:
        self.rank = 0
        self.route = route
        hosts, self._rest = split_host(route.rule)
        self.exact = None if hosts is None else tuple(_octets(host) for host in hosts if not host.startswith("*."))
        self.parents = tuple(_octets(host[2:]) for host in hosts or () if host.startswith("*."))
        self._predicate: Predicate | None = None

    @property
    def predicate(self) -> Predicate | None:
        """None if there is nothing to ask. Made when first needed: most routes of a large table are asked rarely."""
        if self._predicate is None and self._rest is not None:
            self._predicate = compile_rule(self._rest)
        return self._predicate


_Choices = tuple[tuple[Predicate | None, Route], ...]

_MOST_MERGED = 200_000  # Entries of all merged lists together, some 10 MB.


class RouteIndex:
    """The routes of one entry point, to be found by request.

    :param routes: in the order in which they are asked: where several match, the first is found.
    :param previous: the index before, from which is taken what has stayed.
    """

    def __init__(self, routes: Iterable[Route], previous: RouteIndex | None = None) -> None:
        known = {} if previous is None else previous._candidates
        self._candidates: dict[str, _Candidate] = {}
        # The index before is asked no more, once it has made way for this one: what it has may change.
        self._exact: dict[bytes, list[_Candidate]] = {} if previous is None else previous._exact
        self._parents: dict[bytes, list[_Candidate]] = {} if previous is None else previous._parents
        self._general: list[_Candidate] = []
        come: list[_Candidate] = []
        for rank, route in enumerate(routes):
            candidate = known.get(route.name)
            if candidate is None or (candidate.route is not route and candidate.route != route):
                candidate = _Candidate(route)
                come.append(candidate)
            candidate.rank = rank
            self._candidates[route.name] = candidate
            if candidate.exact is None:
                self._general.append(candidate)
        self._leave_out({one for name, one in known.items() if self._candidates.get(name) is not one})
        for candidate in come:
            for host in candidate.exact or ():
                self._exact.setdefault(host, []).append(candidate)
            for host in candidate.parents:
                self._parents.setdefault(host, []).append(candidate)
        # What is merged is kept for hosts that rules name, never for what strangers ask for.
        self._merged_exact: dict[bytes, _Choices] = {}
        self._merged_parents: dict[bytes, _Choices] = {}
        self._merged_entries = 0
        self._choices_of_others = self._merge()

    def _leave_out(self, gone: set[_Candidate]) -> None:
        for listed, hosts in (
            (self._exact, {host for one in gone for host in one.exact or ()}),
            (self._parents, {host for one in gone for host in one.parents}),
        ):
            for host in hosts:
                left = [one for one in listed[host] if one not in gone]
                if left:
                    listed[host] = left
                else:
                    del listed[host]

    def find(self, request: Matchable) -> Route | None:
        """The route that takes *request*, None if none does."""
        host = request.host
        choices = self._merged_exact.get(host)
        if choices is None:
            choices = self._choices(host)
        for predicate, route in choices:
            if predicate is None or predicate(request):
                return route
        return None

    def _choices(self, host: bytes) -> _Choices:
        if host in self._exact:
            of_parent = self._parents.get(_parent(host), ())
            return self._keep(self._merged_exact, host, self._merge(self._exact[host], of_parent))
        if not self._parents:
            return self._choices_of_others
        parent = _parent(host)
        choices = self._merged_parents.get(parent)
        if choices is not None:
            return choices
        if parent not in self._parents:
            return self._choices_of_others
        return self._keep(self._merged_parents, parent, self._merge(self._parents[parent]))

    def _merge(self, *lists: Iterable[_Candidate]) -> _Choices:
        """The candidates of *lists* and the general ones in order, up to the first that takes any request."""
        unique = {one.rank: one for candidates in (*lists, self._general) for one in candidates}
        choices = []
        for rank in sorted(unique):
            candidate = unique[rank]
            choices.append((candidate.predicate, candidate.route))
            if candidate.predicate is None:
                break
        return tuple(choices)

    def _keep(self, merged: dict[bytes, _Choices], key: bytes, choices: _Choices) -> _Choices:
        if self._merged_entries + len(choices) > _MOST_MERGED:
            self._merged_exact.clear()
            self._merged_parents.clear()
            self._merged_entries = 0
        self._merged_entries += len(choices)
        merged[key] = choices
        return choices
