"""The gate's own routers: ping, metrics, API, dashboard, redirections of whole entry points."""

from __future__ import annotations

from swarmgate.acme.answers import PATH as CHALLENGE_PATH
from swarmgate.config.model import EntryPointRedirection, StaticConfiguration
from swarmgate.dynamic.model import Configuration, Middleware, Router
from swarmgate.middlewares import redirect_scheme

API = "api@internal"
DASHBOARD = "dashboard@internal"
PING = "ping@internal"
PROMETHEUS = "prometheus@internal"
NOOP = "noop@internal"
ACME_HTTP = "acme-http@internal"
#: Above any priority that a router may be given (Traefik ``ping``).
_HIGHEST_PRIORITY = 2**63 - 1


def internal(configuration: StaticConfiguration) -> Configuration:
    """The gate's own routers."""
    routers: dict[str, Router] = {}
    middlewares: dict[str, Middleware] = {}
    for name, options in configuration.entry_points.items():
        redirection = options.http.redirections.entry_point
        if redirection is not None:
            router, middleware = _redirection(name, redirection, configuration)
            routers[router.name], middlewares[middleware.name] = router, middleware
    ping = configuration.ping
    if ping is not None and not ping.manual_routing:
        routers["ping"] = Router(
            name="ping",
            rule="PathPrefix(`/ping`)",
            service=PING,
            entry_points=(ping.entry_point,),
            priority=_HIGHEST_PRIORITY,
            origin="ping",
        )
    metrics = configuration.metrics.prometheus if configuration.metrics is not None else None
    if metrics is not None and not metrics.manual_routing:
        routers["prometheus"] = Router(
            name="prometheus",
            rule="PathPrefix(`/metrics`)",
            service=PROMETHEUS,
            entry_points=(metrics.entry_point,),
            priority=_HIGHEST_PRIORITY,
            origin="metrics.prometheus",
        )
    if configuration.api is not None and configuration.api.insecure:
        routers["api"] = Router(
            name="api",
            rule="PathPrefix(`/api`)",
            service=API,
            entry_points=("traefik",),
            priority=_HIGHEST_PRIORITY - 1,
            origin="api.insecure",
        )
        if configuration.api.dashboard:
            routers["dashboard"] = Router(
                name="dashboard",
                rule="PathPrefix(`/`)",
                service=DASHBOARD,
                entry_points=("traefik",),
                priority=_HIGHEST_PRIORITY - 2,
                origin="api.insecure",
            )
    challenged: tuple[str, ...] = ()
    if configuration.certificates_resolvers:
        # Not everybody has them, and what speaks to authorities takes 25 MB.
        from swarmgate.acme.resolvers import challenge_entry_points

        challenged = challenge_entry_points(configuration)
    if challenged:
        routers["acme-http"] = Router(
            name="acme-http",
            rule=f"PathPrefix(`{CHALLENGE_PATH}`)",
            service=ACME_HTTP,
            entry_points=challenged,
            priority=_HIGHEST_PRIORITY,
            origin="certificatesResolvers",
        )
    return Configuration(routers, middlewares=middlewares)


def _redirection(
    entry_point: str, options: EntryPointRedirection, configuration: StaticConfiguration
) -> tuple[Router, Middleware]:
    """The router that sends all requests of an entry point on (Traefik ``http.redirections.entryPoint``)."""
    there = configuration.entry_points.get(options.to)
    port = options.to.removeprefix(":") if there is None else str(there.address.port)
    name = f"{entry_point}-to-{options.to.removeprefix(':')}"
    middleware = Middleware(
        f"redirect-{name}",
        redirect_scheme.KIND.lower(),
        redirect_scheme.Settings(scheme=options.scheme, port=port, permanent=options.permanent),
    )
    router = Router(
        name,
        rule="PathPrefix(`/`)",
        service=NOOP,
        entry_points=(entry_point,),
        middlewares=(middleware.name,),
        priority=options.priority,
        origin=f"entryPoints.{entry_point}.http.redirections",
    )
    return router, middleware
