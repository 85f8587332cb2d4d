"""Services that are made of other services, their children (Traefik ``weighted``, ``highestRandomWeight``, ``failover``
and ``mirroring``).

What names a child may be spelled with or without ``@provider``; the table qualifies it, and leaves out whom it does
not know. An empty name stands for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import ClassVar, Protocol, Self

import attrs

from swarmgate.dynamic.cookie import StickyCookie
from swarmgate.structure import StatusRange


@attrs.frozen
class Child:
    """One of those that share a service's requests.

    :ivar weight: its share beside the others; 0 or less: no new clients.
    """

    name: str
    weight: int = 1


@attrs.frozen
class _Shared:
    """Children that share the requests."""

    kind: ClassVar[str]
    children: tuple[Child, ...] = ()

    @property
    def references(self) -> tuple[tuple[str, str], ...]:
        """The key and the name of each child."""
        return tuple((f"services[{place}].name", child.name) for place, child in enumerate(self.children))

    @property
    def lack(self) -> str:
        """Why nobody can answer, as a sentence part; ``""`` if somebody can."""
        if not self.children:
            return "it has no service that could answer"
        return "" if any(child.weight > 0 for child in self.children) else "no service of it has a weight above 0"

    def qualified(self, names: Mapping[str, str]) -> Self:
        """The same with the names that *names* has for those here, and without children that it has none for."""
        children = (attrs.evolve(child, name=names[child.name]) for child in self.children if child.name in names)
        return attrs.evolve(self, children=tuple(children))

    def __str__(self) -> str:
        return f"{self.kind}: {_listed(f'{child.name} (weight {child.weight})' for child in self.children)}"


@attrs.frozen
class Weighted(_Shared):
    """They take turns by weight (Traefik ``weighted``).

    :ivar sticky: the cookie that leads a client back to the child that it had.
    """

    kind: ClassVar[str] = "weighted"
    sticky: StickyCookie | None = None


@attrs.frozen
class HighestRandomWeight(_Shared):
    """The client's address decides, by weight (Traefik ``highestRandomWeight``)."""

    kind: ClassVar[str] = "highestRandomWeight"


@attrs.frozen
class Failover:
    """One, and another one while that is down (Traefik ``failover``).

    :ivar statuses: answers of the first in place of which the second is asked (``errors.status``).
    :ivar max_request_body_bytes: a longer request is answered 413 if there are :ivar statuses:; -1: no limit.
    """

    kind: ClassVar[str] = "failover"
    service: str
    fallback: str = ""
    statuses: tuple[StatusRange, ...] = ()
    max_request_body_bytes: int = -1

    @property
    def references(self) -> tuple[tuple[str, str], ...]:
        """The key and the name of each child."""
        both = (("service", self.service), ("fallback", self.fallback))
        return tuple((key, name) for key, name in both if name)

    @property
    def lack(self) -> str:
        """See :attr:`Weighted.lack`."""
        return "" if self.service or self.fallback else "it has no service that could answer"

    def qualified(self, names: Mapping[str, str]) -> Failover:
        """See :meth:`Weighted.qualified`."""
        return attrs.evolve(self, service=names.get(self.service, ""), fallback=names.get(self.fallback, ""))

    def __str__(self) -> str:
        return f"{self.kind}: {self.service or 'nobody'}, and {self.fallback or 'nobody'} while that is down"


@attrs.frozen
class Mirror:
    """One that gets copies of requests.

    :ivar percent: of all requests, from 0 to 100.
    """

    name: str
    percent: int = 0


@attrs.frozen
class Mirroring:
    """One answers, others get copies of what it was asked (Traefik ``mirroring``).

    :ivar mirror_body: copies have the request's body.
    :ivar max_body_size: octets of a body; a request that has a longer one is not mirrored; -1: no limit.
    """

    kind: ClassVar[str] = "mirroring"
    service: str
    mirrors: tuple[Mirror, ...] = ()
    mirror_body: bool = True
    max_body_size: int = -1

    @property
    def references(self) -> tuple[tuple[str, str], ...]:
        """The key and the name of each child."""
        mirrors = tuple((f"mirrors[{place}].name", mirror.name) for place, mirror in enumerate(self.mirrors))
        return (("service", self.service), *mirrors) if self.service else mirrors

    @property
    def lack(self) -> str:
        """See :attr:`Weighted.lack`."""
        return "" if self.service else "it has no service that could answer"

    def qualified(self, names: Mapping[str, str]) -> Mirroring:
        """See :meth:`Weighted.qualified`."""
        mirrors = (attrs.evolve(one, name=names[one.name]) for one in self.mirrors if one.name in names)
        return attrs.evolve(self, service=names.get(self.service, ""), mirrors=tuple(mirrors))

    def __str__(self) -> str:
        mirrors = _listed(f"{mirror.name} ({mirror.percent} %)" for mirror in self.mirrors)
        return f"{self.kind}: {self.service or 'nobody'}, mirrored to {mirrors}"


Composition = Weighted | HighestRandomWeight | Failover | Mirroring


def _listed(names: Iterator[str]) -> str:
    return ", ".join(names) or "nobody"


def children_of(composition: Composition) -> tuple[str, ...]:
    """The names of the children, each once."""
    return tuple(dict.fromkeys(name for _, name in composition.references))


def answering_children(composition: Composition) -> tuple[str, ...]:
    """The names of the children of which clients get answers, each once."""
    if isinstance(composition, Failover):
        return children_of(composition)
    if isinstance(composition, Mirroring):
        return (composition.service,) if composition.service else ()
    return tuple(dict.fromkeys(child.name for child in composition.children if child.weight > 0))


class Made(Protocol):
    """A service, as far as it matters here."""

    @property
    def composition(self) -> Composition | None:
        """What it is made of, None if it has servers."""


def made_of(
    name: str, services: Mapping[str, Made], children: Callable[[Composition], Collection[str]] = children_of
) -> list[str]:
    """The service *name*, those that it is made of, those that these are made of and so on, each once.

    :param services: by name; others are left out.
    :param children: gives those of a composition that matter.
    """
    found: dict[str, None] = {}
    ahead = [name]
    while ahead:
        name = ahead.pop(0)
        service = services.get(name)
        if service is None or name in found:
            continue
        found[name] = None
        if service.composition is not None:
            ahead += children(service.composition)
    return list(found)


def children_first(children: Mapping[str, Collection[str]]) -> tuple[list[str], list[tuple[str, ...]]]:
    """An order in which each name comes after its children, and the circles of those that lead back to themselves.

    :param children: of each name; those that are no names here don't count. A name of a circle is in no order, and in
        one circle only.
    """
    waiting = {name: {child for child in its if child in children} for name, its in children.items()}
    parents: dict[str, list[str]] = {name: [] for name in children}
    for name, its in waiting.items():
        for child in its:
            parents[child].append(name)
    order: list[str] = []
    circles: list[tuple[str, ...]] = []
    ready = [name for name, its in waiting.items() if not its]
    while waiting:
        done = [ready.pop()] if ready else [*_circle(waiting)]
        if len(done) > 1 or waiting[done[0]]:
            circles.append(tuple(done))
        else:
            order += done
        for name in done:
            del waiting[name]
        for name in done:
            for parent in parents[name]:
                if parent in waiting:
                    waiting[parent].discard(name)
                    if not waiting[parent]:
                        ready.append(parent)
    return order, circles


def _circle(waiting: Mapping[str, Collection[str]]) -> list[str]:
    """A circle among names of which each has a child among them."""
    path: dict[str, None] = {}
    name = min(waiting)
    while name not in path:
        path[name] = None
        name = min(waiting[name])
    names = [*path]
    return names[names.index(name) :]
