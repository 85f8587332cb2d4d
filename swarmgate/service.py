"""The composition root: the one place that knows all others.

:func:`make_service` builds the gate that a static configuration describes; :func:`run` runs it until it is told to
stop.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client.metrics_core import Metric
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from swarmgate import __version__
from swarmgate.acme import resolvers as acme
from swarmgate.acme.answers import PATH as CHALLENGE_PATH
from swarmgate.acme.answers import ChallengeLeaf
from swarmgate.acme.certificate import Certificate, Challenge
from swarmgate.acme.wanted import wishes_of
from swarmgate.api.feed import Feed
from swarmgate.api.operations import Operations
from swarmgate.api.resource import ApiResource, Recent
from swarmgate.api.views import Known
from swarmgate.config.load import ConfigurationError
from swarmgate.config.model import EntryPoint as EntryPointOptions
from swarmgate.config.model import EntryPointRedirection, PrometheusMetrics, StaticConfiguration
from swarmgate.config.model import SwarmProvider as SwarmProviderOptions
from swarmgate.config.model import Tracing as TracingOptions
from swarmgate.config.reload import Change, compare
from swarmgate.dashboard.resource import DashboardResource
from swarmgate.dynamic.model import Configuration, Middleware, Router
from swarmgate.dynamic.rules import RuleError
from swarmgate.dynamic.table import EntryPointFacts, RoutingTable, describe_changes
from swarmgate.dynamic.tls import Certificate as ServedCertificate
from swarmgate.dynamic.tls import ServersTransport, TLSConfiguration, is_pem
from swarmgate.health.ask import Asker
from swarmgate.health.checker import Checker
from swarmgate.health.https import TransportPolicy
from swarmgate.http.client import ClientSettings
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.entry_point import EntryPoint, LifeCycle
from swarmgate.http.errors import BadRequest
from swarmgate.http.exchange import Exchange
from swarmgate.http.forwarded import ForwardedPolicy
from swarmgate.http.paths import PathPolicy
from swarmgate.http.request_head import HeadLimits
from swarmgate.http.upstream import UpstreamSettings
from swarmgate.http2.client import Http2Settings
from swarmgate.middlewares import KINDS, redirect_scheme
from swarmgate.middlewares.interface import Context
from swarmgate.observe.access_log import AccessLog, AccessLogSettings
from swarmgate.observe.logs import Logging, start_logging
from swarmgate.observe.output import Output
from swarmgate.observe.prometheus import Labels, MetricsResource, ReactorLag, State, families
from swarmgate.observe.summary import BOUNDS, InFlight, Meter
from swarmgate.observe.traffic import Traffic
from swarmgate.providers.aggregator import Aggregator
from swarmgate.providers.file import FileProvider
from swarmgate.providers.swarm.decide import Options as SwarmOptions
from swarmgate.providers.swarm.engine import Endpoint, Engine, find_own_container
from swarmgate.providers.swarm.interface import ISwarm
from swarmgate.providers.swarm.watcher import SwarmProvider
from swarmgate.resources.gate import Gate
from swarmgate.resources.noop import Noop
from swarmgate.resources.ping import PingResource
from swarmgate.resources.reach import Reaching, idle_connections
from swarmgate.resources.tree import NotFound
from swarmgate.tls.acceptor import Acceptors
from swarmgate.tls.certificates import read_chain
from swarmgate.tls.challenges import Challenges
from swarmgate.tls.contexts import ServerContexts
from swarmgate.tls.responder import Responders
from swarmgate.tls.stapling import Stapler
from swarmgate.tls.tickets import TicketKeys
from swarmgate.transport.classic import ReactorNetwork
from swarmgate.transport.native import NativeNetwork
from swarmgate.transport.network import Network
from swarmgate.why.services import World

if TYPE_CHECKING:
    from swarmgate.observe.tracing import Sending, Tracing

_log = Logger("swarmgate")

API = "api@internal"
DASHBOARD = "dashboard@internal"
PING = "ping@internal"
PROMETHEUS = "prometheus@internal"
NOOP = "noop@internal"
ACME_HTTP = "acme-http@internal"
#: What is spoken over TLS, best first, as ALPN calls it.
PROTOCOLS = ("h2", "http/1.1")
#: Above any priority that a router may be given (Traefik ``ping``).
_HIGHEST_PRIORITY = 2**63 - 1
#: Seconds that entry points wait for the providers' first looks before they listen all the same, and ping says 503. An
#: engine that starts answers for the Swarm after some 5 s.
_FIRST_LOOKS_WITHIN = 10.0
#: Seconds that stand for no limit where a library wants a number.
_NO_TIMEOUT = 86400.0
#: Seconds that the last spans have to be sent in.
_LAST_SPANS_WITHIN = 3.0


class GateService(Service):
    """A running gate.

    :ivar is_terminating: it has been told to stop.
    """

    def __init__(
        self,
        configuration: StaticConfiguration,
        reactor: Any,
        swarm: ISwarm | None = None,
        logging: Logging | None = None,
    ) -> None:
        self._configuration = configuration
        self._logging = logging
        self._reactor = reactor
        self.is_terminating = False
        self._challenges = Challenges()
        self._obtained: dict[Certificate, ServedCertificate] = {}
        self.deadlines = Deadlines(reactor)
        self._access_log = _access_log(configuration, reactor)
        self._tracing: Tracing | None = None
        self._sending: Sending | None = None
        if configuration.tracing is not None:
            fault = _tracing_fault(configuration)
            if fault:
                raise ValueError(fault)
            self._tracing, self._sending = _tracing(configuration.tracing, reactor)
        self._traffic: Traffic | None = None
        self._lag: ReactorLag | None = None
        self._reloads, self._last_reload = 0, 0.0
        resources: dict[str, Any] = {NOOP: Noop()}
        metrics = configuration.metrics
        prometheus = None if metrics is None else metrics.prometheus
        self._meter: Meter | None = None
        if prometheus is not None or configuration.api is not None:
            self._traffic = Traffic(
                () if prometheus is None else prometheus.buckets,
                metrics is not None and metrics.add_internals,
                finer=() if configuration.api is None else BOUNDS,
            )
        if prometheus is not None and self._traffic is not None:
            self._lag = ReactorLag(reactor)
            tell = self._metrics(prometheus, self._traffic, self._lag)
            resources[PROMETHEUS] = MetricsResource(tell, self._in_thread, reactor.seconds)
        if configuration.ping is not None:
            resources[PING] = PingResource(self._ping_status)
        if configuration.api is not None and self._traffic is not None:
            self._meter = Meter(self._traffic, self._in_flight, time.time, reactor.seconds)
        self.feed = Feed(reactor, self._meter)
        if swarm is None and configuration.providers.swarm is not None:
            swarm = Engine(reactor, _endpoint(configuration.providers.swarm), find_own_container())
        self._audit = _audit(configuration)
        if configuration.api is not None:
            recent = Recent(self.known, self._marks, reactor.seconds)
            operations = None
            if configuration.api.operations:
                operations = Operations(swarm, self._audit.write if self._audit is not None else None, time.time)
            dashboard = DashboardResource() if configuration.api.dashboard else None
            if dashboard is not None:
                resources[DASHBOARD] = dashboard
            resources[API] = ApiResource(recent, self.feed, swarm, operations, reactor.seconds, dashboard)
        self.resolvers = self._resolvers(configuration)
        if self.resolvers is not None:
            resources[ACME_HTTP] = ChallengeLeaf(self.resolvers.thumbprint)
        self._terminating_status = configuration.ping.terminating_status_code if configuration.ping else 503
        network = network_of(reactor)
        settings = _upstream_settings(configuration)
        servers_transport = _servers_transport(configuration)
        self._policy = TransportPolicy(servers_transport)
        self.checker = Checker(reactor, Asker(reactor, self._policy), self._judge)
        self.gate = Gate(
            configuration.entry_points,
            network,
            reactor,
            self.deadlines,
            settings,
            resources,
            self._context,
            self.checker.watch,
            Reaching(network, self.deadlines, servers_transport),
            None if self._tracing is None else self._tracing.watch,
            NotFound(self._is_routed),
        )
        self._stapler = _stapler(configuration, reactor)
        staples = None if self._stapler is None else self._stapler.staple
        self._acceptors = Acceptors(
            ServerContexts(PROTOCOLS, TicketKeys(_ticket_secret(configuration)), staples),
            [name for name, options in configuration.entry_points.items() if options.http.tls is not None],
            time.time,
            self._challenges,
        )
        self._aggregator = Aggregator(_facts(configuration), resources, self._apply)
        self.entry_points = [
            self._entry_point(name, options, network, configuration)
            for name, options in configuration.entry_points.items()
        ]
        self._apply_tls(RoutingTable())
        self.providers = self._providers(configuration, swarm)
        if self.resolvers is not None:
            self.providers.append(self.resolvers)
        self._aggregator.publish("internal", _internal(configuration))

    # What it is made of.

    def _entry_point(
        self, name: str, options: EntryPointOptions, network: Network, configuration: StaticConfiguration
    ) -> EntryPoint:
        settings = _client_settings(name, options, configuration)
        entry_point = EntryPoint(
            network,
            self._reactor,
            options.address.host,
            options.address.port,
            settings,
            self.deadlines,
            self._traced(self.gate.roots[name].serve),
            self._record(),
            _life_cycle(options),
            options.reuse_port,
            self._traced(self.gate.secure_roots[name].serve),
            None if self._access_log is None else self._access_log.record,
        )
        if settings.http2 is not None:
            entry_point.protocols[b"h2"] = settings.http2
        return entry_point

    def _traced(self, serve: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
        return serve if self._tracing is None else self._tracing.traced(serve)

    def _record(self) -> Callable[[Exchange], None] | None:
        """What is to be told of each exchange that has ended; None if nobody wants to know."""
        wanted: list[Callable[[Exchange], None]] = []
        if self._tracing is not None:
            wanted.append(self._tracing.finished)
        if self._traffic is not None:
            wanted.append(self._traffic.record)
        if self._access_log is not None:
            wanted.append(self._access_log.record)
        if len(wanted) < 2:
            return wanted[0] if wanted else None
        first, second, *more = wanted

        def record(exchange: Exchange) -> None:
            first(exchange)
            second(exchange)
            for one in more:
                one(exchange)

        return record

    def _apply(self, table: RoutingTable) -> None:
        self._policy.transports = {
            server.url.partition("://")[2].rpartition(":")[0].strip("[]"): service.transport
            for service in table.services.values()
            if service.transport is not None
            for server in service.servers
        }
        self.gate.apply(table)
        self._apply_tls(table)
        self._reloads, self._last_reload = self._reloads + 1, time.time()
        if self._traffic is not None:
            routers = {route.name for routes in table.routes.values() for route in routes}
            servers = {name: {one.url for one in service.servers} for name, service in table.services.items()}
            self._traffic.keep(routers, servers)
        if self._configuration.api is not None:
            self.feed.tell(describe_changes(self._aggregator.table, table))
        if self.resolvers is not None:
            self.resolvers.want(wishes_of(route for routes in table.routes.values() for route in routes))

    def _apply_tls(self, table: RoutingTable) -> None:
        acceptors = self._acceptors.of(table.tls)
        if self._stapler is not None:
            default = () if table.tls.default is None else (table.tls.default,)
            self._stapler.watch((*table.tls.certificates, *default))
        for name, entry_point in zip(self.gate.roots, self.entry_points, strict=True):
            entry_point.acceptor = acceptors.get(name)

    def _providers(self, configuration: StaticConfiguration, swarm: ISwarm | None) -> list[Any]:
        providers: list[Any] = []
        options = configuration.providers.swarm
        if options is not None:
            assert swarm is not None
            providers.append(
                SwarmProvider(
                    self._reactor,
                    swarm,
                    lambda published: self._aggregator.publish("swarm", published),
                    _swarm_options(options),
                    watch=options.watch,
                    refresh=options.refresh_seconds,
                    apart=self._in_thread,
                )
            )
        if configuration.providers.file is not None:
            providers.append(
                FileProvider(
                    self._reactor, configuration.providers.file, KINDS, self._aggregator.publish, self._in_thread
                )
            )
        return providers

    def _resolvers(self, configuration: StaticConfiguration) -> acme.Resolvers | None:
        if not configuration.certificates_resolvers:
            return None
        return acme.Resolvers(self._reactor, configuration, endpoint_of(configuration), self._publish_certificates)

    def _publish_certificates(self, certificates: tuple[Certificate, ...], challenges: tuple[Challenge, ...]) -> None:
        self._challenges.show(challenges)
        before, self._obtained = self._obtained, {}
        for one in certificates:
            # Checked when it was read from the store, in a thread: to load a large key takes its time.
            self._obtained[one] = before.get(one) or ServedCertificate(
                one.chain_pem.decode("ascii"),
                one.key_pem.decode("ascii"),
                one.names,
                one.not_before,
                one.not_after,
                one.kind,
                one.origin,
            )
        self._aggregator.publish("acme", Configuration(tls=TLSConfiguration(tuple(self._obtained.values()))))

    def _context(self, **given: Any) -> Context:
        return Context(in_thread=self._in_thread, **given)

    def _in_thread(self, call: Any, *given: Any, **options: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), call, *given, **options)

    def _judge(self, service: str, url: str, is_well: bool) -> None:
        self.gate.judge(service, url, is_well)

    # What it tells.

    def known(self) -> Known:
        """What the gate knows now, for the API."""
        table = self._aggregator.table
        upstreams = {upstream.url: upstream for upstream in self.gate.upstreams()}
        reasons = {}
        for name, service in table.services.items():
            for server in service.servers:
                upstream = upstreams.get(server.url)
                if upstream is not None and upstream.is_silent:
                    reasons[name, server.url] = "it takes connections and says nothing"
                elif upstream is not None and upstream.failures:
                    reasons[name, server.url] = "connections to it fail"
        for health in self.checker.state():
            if health.is_well is not True:
                failed = health.is_well is False
                told = f"its health check fails: {health.reason}" if failed else "it is not yet checked"
                reasons[health.service, health.url] = told
        world = None
        for provider in self.providers:
            if isinstance(provider, SwarmProvider) and provider.seen is not None:
                world = World(*provider.seen, table, provider.own_service)
        return Known(
            table,
            self._aggregator.configurations,
            {name: str(options.address) for name, options in self._configuration.entry_points.items()},
            __version__,
            reasons,
            {url: upstream.in_flight for url, upstream in upstreams.items()},
            world,
            self._access_log is not None,
            "" if self._tracing is None else "OTLP",
            "" if self._lag is None else "Prometheus",
            self._configuration.api is not None and self._configuration.api.operations,
            self._configuration.api is not None and self._configuration.api.logs,
            [
                (name, server.url, server.task, server.node, upstream.in_flight)
                for name, server, upstream in self.gate.draining()
            ],
            {name: _normaliser(options) for name, options in self._configuration.entry_points.items()},
            dict if self._meter is None else self._meter.altogether,
        )

    def _in_flight(self) -> InFlight:
        """How many requests are being answered, by whom."""
        busy = {upstream.url: upstream.in_flight for upstream in self.gate.upstreams() if upstream.in_flight}
        servers = {(name, server.url): upstream.in_flight for name, server, upstream in self.gate.draining()}
        if busy:
            for name, service in self._aggregator.table.services.items():
                for server in service.servers:
                    if server.url in busy:
                        servers[name, server.url] = busy[server.url]
        return InFlight({str(one.name): one.in_flight for one in self.entry_points}, servers)

    def _metrics(
        self, options: PrometheusMetrics, traffic: Traffic, lag: ReactorLag
    ) -> Callable[[], Callable[[], Iterable[Metric]]]:
        """What takes down how things are, and gives what tells of it in another thread."""
        labels = Labels(options.add_entry_points_labels, options.add_routers_labels, options.add_services_labels)

        def tell() -> Callable[[], Iterable[Metric]]:
            state, longest = self._state(), lag.take()
            return lambda: families(options.prefix, labels, traffic, state, longest)

        return tell

    def _state(self) -> State:
        known = self.known()
        table = known.table
        ages = [provider.look_age for provider in self.providers if isinstance(provider, SwarmProvider)]
        return State(
            self._reloads,
            self._last_reload,
            {str(entry_point.name): len(entry_point) for entry_point in self.entry_points},
            {str(entry_point.name): dict(entry_point.refusals) for entry_point in self.entry_points},
            {
                (name, server.url): ((name, server.url) not in known.reasons, known.in_flight.get(server.url, 0))
                for name, service in table.services.items()
                for server in service.servers
            },
            len(known.draining),
            table.tls.certificates,
            ages[0] if ages else None,
        )

    def _marks(self) -> tuple[object, ...]:
        """What the answers of the API are made of but for numbers: other objects, other answers."""
        seen = [provider.seen for provider in self.providers if isinstance(provider, SwarmProvider)]
        return (self._aggregator.table, *(one for pair in seen for one in pair or ()))

    def _ping_status(self) -> int:
        if self.is_terminating:
            return self._terminating_status
        return 200 if self._is_ready() else 503

    # Its life.

    @inlineCallbacks
    def start(self) -> Any:
        """Start to serve. Returns a Deferred that fails with :exc:`OSError` if an address can't be had."""
        self.running = True
        if self._access_log is not None:
            self._access_log.start()
        if self._lag is not None:
            self._lag.start()
        if self._audit is not None:
            self._audit.start()
        for provider in self.providers:
            provider.startService()
        yield self._first_looks()
        for entry_point in self.entry_points:
            if not self.running:
                return
            try:
                yield entry_point.listen()
            except OSError as error:
                raise OSError(f"entry point {entry_point.name}: {error.strerror or error}") from error
        # Exchanges leave no cycles behind. What is there now stays, so the collector need not look at it each time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)

    @inlineCallbacks
    def _first_looks(self) -> Any:
        """Wait, for a while, until routes are known: whoever comes before that would be told that there are none."""
        until = self._reactor.seconds() + _FIRST_LOOKS_WITHIN
        while self.running and not self._is_ready() and self._reactor.seconds() < until:
            yield deferLater(self._reactor, 0.02)

    def _is_ready(self) -> bool:
        return all(provider.is_ready for provider in self.providers)

    def _is_routed(self) -> bool:
        """Whether all routers are known."""
        return all(provider.is_ready for provider in self.providers if provider is not self.resolvers)

    def startService(self) -> None:
        Service.startService(self)
        self.start().addErrback(self._cannot_start)

    def _cannot_start(self, failure: Any) -> None:
        _log.critical("{reason}", reason=failure.getErrorMessage())
        self._reactor.stop()

    @inlineCallbacks
    def stopService(self) -> Any:
        """Drain and stop. Returns a Deferred that fires when all is done that was under way, or its time is over."""
        Service.stopService(self)
        self.is_terminating = True
        yield DeferredList([entry_point.stopService() for entry_point in self.entry_points])
        yield DeferredList([_deferred(provider.stopService()) for provider in self.providers])
        self.checker.stop()
        if self._stapler is not None:
            self._stapler.stop()
        for upstream in self.gate.upstreams():
            upstream.retire()
        self.deadlines.stop()
        if self._lag is not None:
            self._lag.stop()
        if self._access_log is not None:
            self._access_log.stop()
        if self._audit is not None:
            self._audit.close()
        yield self._send_last_spans()

    @inlineCallbacks
    def _send_last_spans(self) -> Any:
        if self._tracing is None or self._sending is None:
            return
        sent: Deferred[None] = Deferred()
        self._sending.end(self._tracing, lambda: self._reactor.callFromThread(sent.callback, None))
        too_late: Deferred[None] = deferLater(self._reactor, _LAST_SPANS_WITHIN)
        yield DeferredList([sent, too_late], fireOnOneCallback=True)
        too_late.addErrback(lambda failure: None).cancel()
        self._sending.give_up()

    def reopen_logs(self) -> None:
        """Open the log files anew, after they were moved away."""
        if self._audit is not None:
            self._audit.reopen()
        if self._access_log is not None:
            self._access_log.reopen()
        if self._logging is not None:
            self._logging.reopen()

    def reload(self, configuration: StaticConfiguration) -> None:
        """Put in force what of *configuration* needs no restart, and tell what does.

        :raises OSError: the new access log can't be opened; nothing has been changed then.
        """
        difference = compare(self._configuration, configuration)
        wanted = difference.configuration
        before = self._access_log
        if wanted.access_log != self._configuration.access_log:
            access_log = _access_log(wanted, self._reactor)
            if access_log is not None:
                access_log.start()
            self._access_log = access_log
        for entry_point in self.entry_points:
            name = str(entry_point.name)
            options = wanted.entry_points[name]
            entry_point.reconfigure(
                _client_settings(name, options, wanted),
                _life_cycle(options),
                self._record(),
                None if self._access_log is None else self._access_log.record,
            )
        if before is not None and before is not self._access_log:
            before.stop()
        self.gate.reconfigure(_upstream_settings(wanted))
        self._terminating_status = wanted.ping.terminating_status_code if wanted.ping else 503
        self._aggregator.reconfigure(_facts(wanted))
        swarm = wanted.providers.swarm
        for provider in self.providers:
            if isinstance(provider, SwarmProvider) and swarm is not None:
                provider.reconfigure(_swarm_options(swarm), swarm.refresh_seconds)
        if self._logging is not None:
            self._logging.change_level(wanted.log.level)
        self._configuration = wanted
        self._tell(difference.changes)

    @staticmethod
    def _tell(changes: Sequence[Change]) -> None:
        for change in changes:
            if change.is_live:
                _log.info("in force now: {change}", change=str(change))
            else:
                _log.warn("needs a restart: {change}", change=str(change))
        if not changes:
            _log.info("the configuration was read again: nothing has changed")


def _deferred(result: Any) -> Deferred[Any]:
    if isinstance(result, Deferred):
        return result
    fired: Deferred[Any] = Deferred()
    fired.callback(result)
    return fired


def network_of(reactor: Any) -> Network:
    """The fastest network that *reactor* has."""
    loop = getattr(reactor, "_asyncioEventloop", None)
    if loop is not None and type(loop).__module__.startswith("uvloop"):
        return NativeNetwork(loop)
    return ReactorNetwork(reactor)


def _internal(configuration: StaticConfiguration) -> Configuration:
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
    challenged = acme.challenge_entry_points(configuration)
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


def _facts(configuration: StaticConfiguration) -> dict[str, EntryPointFacts]:
    return {
        name: EntryPointFacts(options.as_default, options.http.middlewares, name == "traefik", options.http.tls)
        for name, options in configuration.entry_points.items()
    }


def _life_cycle(options: EntryPointOptions) -> LifeCycle:
    life_cycle = options.transport.life_cycle
    return LifeCycle(life_cycle.request_accept_grace_timeout, life_cycle.grace_time_out)


def _path_policy(options: EntryPointOptions) -> PathPolicy:
    escapes = options.http.encoded_characters
    allowed = (
        (b"%2F", escapes.allow_encoded_slash),
        (b"%5C", escapes.allow_encoded_back_slash),
        (b"%00", escapes.allow_encoded_null_character),
        (b"%3B", escapes.allow_encoded_semicolon),
        (b"%25", escapes.allow_encoded_percent),
        (b"%3F", escapes.allow_encoded_question_mark),
        (b"%23", escapes.allow_encoded_hash),
    )
    return PathPolicy(tuple(escape for escape, is_allowed in allowed if not is_allowed), options.http.sanitize_path)


def _normaliser(options: EntryPointOptions) -> Callable[[bytes], bytes]:
    """Brings a path to the form that an entry point routes by; raises ValueError for one that it does not take."""
    normalise = _path_policy(options).normalise

    def normalised(path: bytes) -> bytes:
        try:
            return normalise(path)
        except BadRequest as error:
            raise ValueError(error.reason) from None

    return normalised


def _client_settings(name: str, options: EntryPointOptions, configuration: StaticConfiguration) -> ClientSettings:
    http = options.http
    timeouts = options.transport.responding_timeouts
    return ClientSettings(
        entry_point=name,
        forwarded=ForwardedPolicy(
            socket.gethostname().encode("ascii", "replace"),
            options.forwarded_headers.insecure,
            options.forwarded_headers.trusted_ips,
            not options.forwarded_headers.not_append_x_forwarded_for,
        ),
        limits=HeadLimits(http.max_request_line_bytes, http.max_header_bytes, http.max_header_fields),
        paths=_path_policy(options),
        underscores=http.underscore_headers_strategy,
        head_timeout=timeouts.head_timeout,
        idle_timeout=timeouts.idle_timeout,
        progress_timeout=configuration.servers_transport.forwarding_timeouts.body_progress_timeout,
        request_timeout=timeouts.read_timeout,
        answer_timeout=timeouts.write_timeout,
        requests_at_most=options.transport.keep_alive_max_requests,
        seconds_at_most=options.transport.keep_alive_max_time,
        http2=Http2Settings(
            options.http2.max_concurrent_streams,
            options.http2.max_decoder_header_table_size,
            options.http2.max_encoder_header_table_size,
            options.http2.websockets,
        ).connection,
    )


def _access_log(configuration: StaticConfiguration, reactor: Any) -> AccessLog | None:
    options = configuration.access_log
    if options is None:
        return None
    settings = AccessLogSettings(
        format=options.format,
        statuses=options.filters.status_codes,
        retried=options.filters.retry_attempts,
        min_duration=options.filters.min_duration,
        default_mode=options.fields.default_mode,
        names=options.fields.names,
        header_mode=options.fields.headers.default_mode,
        headers=options.fields.headers.names,
        keep_query=options.fields.query_parameters.default_mode == "keep",
        internals=options.add_internals,
    )
    return AccessLog(Output(options.file_path), settings, reactor)


def _tracing(options: TracingOptions, reactor: Any) -> tuple[Tracing, Sending]:
    # Not everybody has it, and to load it takes its time.
    from swarmgate.observe.tracing import Collector, Sending, Tracing, TracingSettings

    http = options.otlp.http
    tls = http.tls
    if tls is None:
        collector = Collector(http.endpoint, http.headers)
    else:
        collector = Collector(http.endpoint, http.headers, tls.ca, tls.cert, tls.key, not tls.insecure_skip_verify)
    settings = TracingSettings(
        service_name=options.service_name,
        resource_attributes=options.resource_attributes,
        sample_rate=options.sample_rate,
        request_headers=options.captured_request_headers,
        response_headers=options.captured_response_headers,
        safe_query=options.safe_query_params,
        internals=options.add_internals,
    )
    sending = Sending(collector, reactor)
    return Tracing(settings, sending.processor), sending


def _tracing_fault(configuration: StaticConfiguration) -> str:
    if configuration.tracing is None:
        return ""
    try:
        found = importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ModuleNotFoundError:
        found = None
    if found is None:
        return "tracing: OpenTelemetry is not installed; it comes with the extra: pip install 'swarmgate[tracing]'"
    tls = configuration.tracing.otlp.http.tls
    for key in ("ca", "cert", "key"):
        path = getattr(tls, key, "")
        if path and not os.access(path, os.R_OK):
            return f"tracing.otlp.http.tls.{key}: {path} can't be read"
    return ""


def _swarm_options(options: SwarmProviderOptions) -> SwarmOptions:
    return SwarmOptions(
        kinds=KINDS,
        exposed_by_default=options.exposed_by_default,
        network=options.network,
        default_rule=options.default_rule,
        constraints=options.constraints,
        prefixes=options.label_prefixes,
    )


def _endpoint(options: SwarmProviderOptions) -> Endpoint:
    tls = options.tls
    timeout = options.http_client_timeout or _NO_TIMEOUT
    if tls is None:
        return Endpoint(options.endpoint, timeout=timeout)
    return Endpoint(options.endpoint, tls.ca, tls.cert, tls.key, True, tls.insecure_skip_verify, timeout=timeout)


def endpoint_of(configuration: StaticConfiguration) -> Endpoint | None:
    """Where the Swarm's API is, None if there is no ``providers.swarm``."""
    options = configuration.providers.swarm
    return None if options is None else _endpoint(options)


def _upstream_settings(configuration: StaticConfiguration) -> UpstreamSettings:
    options = configuration.servers_transport
    timeouts = options.forwarding_timeouts
    return UpstreamSettings(
        connect_timeout=timeouts.dial_timeout,
        response_timeout=timeouts.response_header_timeout,
        silence_timeout=timeouts.silence_timeout,
        progress_timeout=timeouts.body_progress_timeout,
        idle_timeout=timeouts.idle_conn_timeout,
        idle_connections=idle_connections(options.max_idle_conns_per_host),
    )


def _servers_transport(configuration: StaticConfiguration) -> ServersTransport:
    """How servers are reached that no transport is named for.

    :raises OSError: a file of authorities can't be read.
    :raises ValueError: it holds none.
    """
    options = configuration.servers_transport
    authorities = []
    for written in options.root_cas:
        text = written if is_pem(written) else Path(written).read_text("utf-8", "replace")
        read_chain(text, "the text given" if is_pem(written) else written)
        authorities.append(text)
    return ServersTransport(insecure_skip_verify=options.insecure_skip_verify, root_cas=tuple(authorities))


def _stapler(configuration: StaticConfiguration, reactor: Any) -> Stapler | None:
    if configuration.ocsp is None:
        return None
    return Stapler(reactor, Responders(reactor), configuration.ocsp.responder_overrides, time.time)


def _audit(configuration: StaticConfiguration) -> Output | None:
    """The file of the audit log, None if there is none."""
    options = configuration.api
    return Output(options.audit_log.file_path) if options is not None and options.audit_log.file_path else None


def _ticket_secret(configuration: StaticConfiguration) -> bytes:
    """What the keys of session tickets are made of.

    :raises OSError: its file can't be read.
    :raises ValueError: it is too short.
    """
    path = configuration.session_tickets.key_file
    if not path:
        return os.urandom(32)
    secret = Path(path).read_bytes()
    if len(secret) < 32:
        raise ValueError(f"expected at least 32 random octets in {path}, which has {len(secret)}")
    return secret


def fault_of(configuration: StaticConfiguration) -> str:
    """What of *configuration* only its use shows to be wrong, as a line for people; ``""`` for nothing."""
    options = configuration.providers.swarm
    if options is not None:
        try:
            _swarm_options(options)
        except RuleError as error:
            return f"providers.swarm: {error}"
    for key, try_out in (("serversTransport.rootCAs", _servers_transport), ("sessionTickets.keyFile", _ticket_secret)):
        try:
            try_out(configuration)
        except (OSError, ValueError) as error:
            return f"{key}: {error}"
    return _tracing_fault(configuration) or acme.fault_of(configuration)


def make_service(
    configuration: StaticConfiguration,
    reactor: Any,
    swarm: ISwarm | None = None,
    logging: Logging | None = None,
    read: Callable[[], StaticConfiguration] | None = None,
) -> GateService:
    """The gate that *configuration* describes.

    :param swarm: the Swarm to look at in place of the one behind ``providers.swarm.endpoint``.
    :param logging: the process's own log; None under twistd, which has its own.
    :param read: reads the configuration again, for SIGHUP; raises ConfigurationError.
    """
    for notice in configuration.notices:
        _log.warn("{notice}", notice=notice)
    service = GateService(configuration, reactor, swarm, logging)
    _on_signal(reactor, "SIGUSR1", service.reopen_logs)
    if read is not None:
        _on_signal(reactor, "SIGHUP", lambda: read_again(service, read))
    return service


def _on_signal(reactor: Any, name: str, call: Callable[[], object]) -> None:
    number = getattr(signal, name, None)
    if number is not None:
        signal.signal(number, lambda *_: reactor.callFromThread(call))


def read_again(service: GateService, read: Callable[[], StaticConfiguration]) -> None:
    """Read the configuration again; one that is wrong is told of, and changes nothing."""
    try:
        configuration = read()
        fault = fault_of(configuration)
        if fault:
            raise ValueError(fault)
        service.reload(configuration)
    except ConfigurationError as error:
        for each in error.faults:
            _log.error("the configuration that was read again is not taken: {fault}", fault=str(each))
    except (OSError, ValueError) as error:
        _log.error("the configuration that was read again is not taken: {fault}", fault=str(error))


def run(
    configuration: StaticConfiguration,
    reactor: Any,
    swarm: ISwarm | None = None,
    read: Callable[[], StaticConfiguration] | None = None,
) -> int:
    """Run a gate until SIGTERM or SIGINT has been sent and what is under way is done.

    :param read: reads the configuration again, for SIGHUP.

    :returns: the exit status: 0, or 1 if it could not start.
    """
    try:
        logging = start_logging(configuration.log.level, configuration.log.format, configuration.log.file_path)
    except OSError as error:
        print(f"swarmgate: log.filePath: {error}", file=sys.stderr)  # noqa: T201
        return 1
    service = make_service(configuration, reactor, swarm, logging, read)
    failed: list[Any] = []

    def cannot_start(failure: Any) -> None:
        failed.append(failure)
        _log.critical("{reason}", reason=failure.getErrorMessage())
        reactor.stop()

    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.callWhenRunning(lambda: service.start().addErrback(cannot_start))
    _log.info("swarmgate {version}, process {pid}", version=__version__, pid=os.getpid())
    reactor.run()
    logging.stop()
    return 1 if failed else 0
