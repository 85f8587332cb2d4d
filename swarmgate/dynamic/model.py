"""The values that providers publish and that the routing table is compiled from.

Each is frozen and compared by value: two equal worlds give two equal configurations, which is how "nothing has
changed" is told. Names in a :class:`Configuration` are as their provider spells them, without ``@provider``; the
table qualifies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs


@attrs.frozen
class Problem:
    """Something in the configuration that is not in force, told so that its author can mend it.

    :ivar subject: what does not work because of it, as ``router web@swarm`` or ``service bank@swarm``; for a
        fault that costs nothing but itself, the thing that holds it.
    :ivar origin: where it was written, as ``service shop_web`` or ``file routes.yml, line 7``.
    :ivar key: the label or option at fault, ``""`` if it is none in particular.
    :ivar value: what was given, ``""`` for nothing.
    :ivar reason: why that does not do, a sentence part without full stop, with what is expected.
    :ivar nearest: the nearest right name, ``""`` if none is near.
    """

    subject: str
    origin: str
    reason: str
    key: str = ""
    value: str = ""
    nearest: str = ""

    def __str__(self) -> str:
        given = f": {self.key}={self.value}" if self.key and self.value else f": {self.key}" if self.key else ""
        nearest = f" (did you mean {self.nearest}?)" if self.nearest else ""
        origin = f": {self.origin}" if self.origin != self.subject else ""
        return f"{self.subject}{origin}{given}: {self.reason}{nearest}"


@attrs.frozen
class Server:
    """One place that a service's requests can be sent to.

    :ivar url: ``scheme://host:port``, IPv6 hosts in brackets.
    :ivar weight: its share beside the others; 0 or less: never chosen (Traefik ``server.weight``).
    :ivar task: the Swarm task behind it, as ``shop_web.3``; ``""`` when there is none.
    :ivar node: the host name of the node it runs on; ``""`` when unknown.
    """

    url: str
    weight: int = 1
    task: str = ""
    node: str = ""


@attrs.frozen
class Service:
    """Servers that answer alike, and how they are used (Traefik ``services.X.loadBalancer``)."""

    name: str
    servers: tuple[Server, ...] = ()
    pass_host_header: bool = True


@attrs.frozen
class Middleware:
    """A named step between router and service.

    :ivar kind: its option name in lower case, as ``ratelimit``.
    :ivar settings: the frozen ``Settings`` value of that kind's module.
    """

    name: str
    kind: str
    settings: Any


@attrs.frozen
class Router:
    """A rule and what to do with the requests that it matches.

    :ivar rule: as written; the table parses it.
    :ivar entry_points: names; empty means the default ones.
    :ivar middlewares: names in order, with or without ``@provider``.
    :ivar service: name, with or without ``@provider``.
    :ivar priority: 0 means the length of the rule (Traefik ``routers.X.priority``).
    :ivar syntax: ``v3`` or ``v2`` (Traefik ``routers.X.ruleSyntax``).
    :ivar origin: where it was written, for messages.
    :ivar fault: why it must not be passed, ``""`` if it may. It still takes its requests, so that they don't reach a
        less specific router, and answers 404.
    """

    name: str
    rule: str
    service: str
    entry_points: tuple[str, ...] = ()
    middlewares: tuple[str, ...] = ()
    priority: int = 0
    syntax: str = "v3"
    origin: str = ""
    fault: str = ""


@attrs.frozen
class Configuration:
    """What one provider has to say: everything, not a difference."""

    routers: Mapping[str, Router] = attrs.field(factory=dict)
    services: Mapping[str, Service] = attrs.field(factory=dict)
    middlewares: Mapping[str, Middleware] = attrs.field(factory=dict)
    problems: tuple[Problem, ...] = ()
