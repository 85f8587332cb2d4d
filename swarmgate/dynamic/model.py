"""The values that providers publish and that the routing table is compiled from.

Each is frozen and compared by value: two equal worlds give two equal configurations, which is how "nothing has
changed" is told. Names in a :class:`Configuration` are as their provider spells them, without ``@provider``; the
table qualifies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from swarmgate.dynamic.composition import Composition
from swarmgate.dynamic.cookie import StickyCookie
from swarmgate.dynamic.observability import Observability
from swarmgate.dynamic.tls import RouterTLS, ServersTransport, TLSConfiguration, TLSFiles


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
class HealthCheck:
    """How servers are asked, again and again, whether they are well (Traefik ``loadBalancer.healthCheck``).

    :ivar path: with the query, if any.
    :ivar mode: ``http``, or ``grpc`` for the grpc.health.v1 protocol.
    :ivar scheme: ``""`` for the server's own, and so the :ivar port: 0.
    :ivar hostname: what the Host field says, ``""`` for the server's address.
    :ivar status: the one status that is well, 0 for all from 200 to 399.
    :ivar interval: seconds from one probe to the next, and :ivar unhealthy_interval: that of a server that is not
        well, 0 for the same.
    :ivar timeout: seconds that a probe may take.
    """

    path: str = "/"
    mode: str = "http"
    scheme: str = ""
    port: int = 0
    hostname: str = ""
    method: str = "GET"
    status: int = 0
    follow_redirects: bool = True
    headers: tuple[tuple[str, str], ...] = ()
    interval: float = 30.0
    unhealthy_interval: float = 0.0
    timeout: float = 5.0


@attrs.frozen
class PassiveHealthCheck:
    """When a server is left out for what it answered (Traefik ``loadBalancer.passiveHealthCheck``).

    :ivar failure_window: seconds that it is left out for.
    :ivar max_failed_attempts: so many failures in a row, connections that broke or answers of 500 and more, cost it.
    """

    failure_window: float = 10.0
    max_failed_attempts: int = 1


@attrs.frozen
class Balancing:
    """How a service's servers are used (Traefik ``services.X.loadBalancer``).

    :ivar pass_host_header: servers get the Host that the client has sent.
    :ivar strategy: ``wrr``, ``p2c``, ``hrw``, ``leasttime`` or ``leastconn``.
    :ivar wait: seconds that a request waits for a server while the service has none for the moment.
    :ivar slow_start: seconds in which a new server's share grows to what it is due.
    """

    pass_host_header: bool = True
    strategy: str = "wrr"
    sticky: StickyCookie | None = None
    health_check: HealthCheck | None = None
    passive_health_check: PassiveHealthCheck | None = None
    wait: float = 5.0
    slow_start: float = 0.0


@attrs.frozen
class Service:
    """Servers that answer alike, and how they are used.

    :ivar awaited: there will soon be another server: a task of it is being started.
    :ivar servers_transport: the name of what says how they are reached, ``""`` for the gate's own way.
    :ivar transport: what is meant by that name; the table knows it.
    :ivar composition: the services that it is made of in place of servers; None: it has servers of its own.
    """

    name: str
    servers: tuple[Server, ...] = ()
    balancing: Balancing = attrs.field(factory=Balancing)
    awaited: bool = False
    servers_transport: str = ""
    transport: ServersTransport | None = None
    composition: Composition | None = None


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
    :ivar tls: it takes requests that came over TLS, and no others; None: only others, unless its entry point says that
        all its routers have TLS.
    :ivar observability: what is told of its requests, None for what its entry points say.
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
    tls: RouterTLS | None = None
    observability: Observability | None = None


@attrs.frozen
class Configuration:
    """What one provider has to say: everything, not a difference.

    :ivar servers_transports: how servers are reached, by name.
    :ivar tls_files: what names files that have still to be read, as a provider of files finds it.
    """

    routers: Mapping[str, Router] = attrs.field(factory=dict)
    services: Mapping[str, Service] = attrs.field(factory=dict)
    middlewares: Mapping[str, Middleware] = attrs.field(factory=dict)
    problems: tuple[Problem, ...] = ()
    tls: TLSConfiguration = attrs.field(factory=TLSConfiguration)
    servers_transports: Mapping[str, ServersTransport] = attrs.field(factory=dict)
    tls_files: TLSFiles | None = None
