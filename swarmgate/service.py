"""The composition root: the one place that knows all others.

:func:`make_service` builds the gate that a static configuration describes; :func:`run` runs it until it is told to
stop.

What only an option asks for is imported where that option is read: nobody else is to have it in memory, or to wait for
it at the start. ``tests/test_footprint.py`` holds that.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, succeed
from twisted.internet.process import reapAllProcesses
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from swarmgate import __version__
from swarmgate.acme.answers import ChallengeLeaf
from swarmgate.acme.wanted import wishes_of
from swarmgate.api.feed import Feed
from swarmgate.config.agent import PORT as AGENT_PORT
from swarmgate.config.load import ConfigurationError
from swarmgate.config.model import EntryPoint as EntryPointOptions
from swarmgate.config.model import PrometheusMetrics, StaticConfiguration
from swarmgate.config.model import SwarmProvider as SwarmProviderOptions
from swarmgate.config.reload import Change, compare
from swarmgate.config.sources import unusable
from swarmgate.dynamic.model import Configuration, HealthCheck
from swarmgate.dynamic.rules import RuleError
from swarmgate.dynamic.table import EntryPointFacts, RoutingTable
from swarmgate.dynamic.tls import DEFAULT_NAME, ServersTransport, TLSConfiguration
from swarmgate.dynamic.tls import Certificate as ServedCertificate
from swarmgate.healthcheck import leave_note, ping_url
from swarmgate.http.errors import BadRequest
from swarmgate.internal import ACME_HTTP, API, DASHBOARD, NOOP, PING, PROMETHEUS, internal
from swarmgate.middlewares import KINDS
from swarmgate.observe.logs import Logging, start_logging
from swarmgate.observe.output import Output
from swarmgate.observe.summary import InFlight, Meter
from swarmgate.observe.turns import Turns
from swarmgate.overload import raise_descriptor_limit
from swarmgate.providers.aggregator import Aggregator
from swarmgate.resources.gate import checks_of
from swarmgate.resources.noop import Noop
from swarmgate.resources.ping import PingResource
from swarmgate.serving import Report, Serving, network_of, path_policy, servers_transport
from swarmgate.transport.sockets import handed_over
from swarmgate.uncompiled import is_compiled
from swarmgate.upgrade import Upgrade, notify
from swarmgate.workers.cores import usable_cores

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from swarmgate.acme.certificate import Certificate
    from swarmgate.acme.challenge import Challenge
    from swarmgate.acme.resolvers import Resolvers
    from swarmgate.api.views import Known
    from swarmgate.health.checker import Checker
    from swarmgate.observe.prometheus import State
    from swarmgate.providers.swarm.decide import Options as SwarmOptions
    from swarmgate.providers.swarm.engine import Endpoint
    from swarmgate.providers.swarm.interface import ISwarm
    from swarmgate.providers.swarm.snapshot import Snapshot
    from swarmgate.providers.swarm.watcher import SwarmProvider
    from swarmgate.replicas.service import Replicas
    from swarmgate.tls.stapling import Stapler
    from swarmgate.usage.watch import UsageWatch
    from swarmgate.workers.parent import Workers

_log = Logger("swarmgate")

#: Seconds that entry points wait for the providers' first looks before they listen all the same, and ping says 503. An
#: engine that starts answers for the Swarm after some 5 s.
_FIRST_LOOKS_WITHIN = 10.0
#: Seconds that stand for no limit where a library wants a number.
_NO_TIMEOUT = 86400.0


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
        handed: dict[str, list[socket.socket]] | None = None,
    ) -> None:
        """
        :param handed: listening sockets that the process was started with, see :mod:`swarmgate.transport.sockets`.

        :raises ValueError: something that the configuration wants is not installed.
        """
        self._handed = handed or {}
        fault = _tracing_fault(configuration)
        if fault:
            raise ValueError(fault)
        self._configuration = configuration
        self._logging = logging
        self._reactor = reactor
        self.is_terminating = False
        self._obtained: dict[Certificate, ServedCertificate] = {}
        self._made_default: ServedCertificate | None = None
        self._making_default = False
        self._reloads, self._last_reload = 0, 0.0
        self._replicas: Replicas | None = None
        self.feed = Feed(reactor)
        if swarm is None and configuration.providers.swarm is not None:
            from swarmgate.providers.swarm.engine import Engine, find_own_container

            swarm = Engine(reactor, _endpoint(configuration.providers.swarm), find_own_container())
        self._audit = _audit(configuration)
        self._terminating_status = configuration.ping.terminating_status_code if configuration.ping else 503
        self.resolvers = self._resolvers(configuration)
        self._stapler = _stapler(configuration, reactor)
        self._usage = self._usage_watch(configuration)
        resources = self._resources(configuration, swarm)
        self.serving = self._serving(configuration, resources)
        if configuration.api is not None and self.serving.traffic is not None:
            from swarmgate.replicas.service import Replicas

            turns = Turns(reactor)
            meter = Meter(self.serving.traffic, self._in_flight, time.time, reactor.seconds, turns)
            container = "" if swarm is None else swarm.own_container
            port = configuration.api.replicas_port if configuration.api.replicas and swarm is not None else 0
            self._replicas = Replicas(reactor, meter, turns, self._snapshot, container, port, time.time)
            self.feed.measure(self._replicas.whole, self._replicas.alone)
        self._checks: _Checks | None = None
        self._aggregator = Aggregator(_facts(configuration), resources, self._apply, changed=self.feed.tell)
        self._swarm_provider = self._swarm_provider_of(configuration, swarm)
        self.providers = self._providers(configuration)
        if self.resolvers is not None:
            self.providers.append(self.resolvers)
        self._aggregator.publish("internal", internal(configuration))

    # What it is made of.

    def _serving(self, configuration: StaticConfiguration, resources: Mapping[str, Any]) -> Serving | Workers:
        """What serves: this process, or others."""
        secret = _ticket_secret(configuration)
        staples = None if self._stapler is None else self._stapler.staple
        handed = self._handed
        count = configuration.workers or usable_cores()
        loop = getattr(self._reactor, "_asyncioEventloop", None)
        if count > 1 and loop is None:
            _log.warn("workers: this reactor is not asyncio's, so the process serves alone")
        elif count > 1 and loop is not None:
            from swarmgate.workers.parent import Workers

            return Workers(
                configuration, self._reactor, loop, count, resources, self._is_ready, self._is_routed, secret, staples,
                handed,
            )  # fmt: skip
        network = network_of(self._reactor)
        return Serving(configuration, self._reactor, network, resources, self._is_routed, secret, staples, handed)

    def _resources(self, configuration: StaticConfiguration, swarm: ISwarm | None) -> dict[str, Any]:
        """What answers for the gate's own services."""
        resources: dict[str, Any] = {NOOP: Noop()}
        if configuration.ping is not None:
            resources[PING] = PingResource(self._ping_status)
        metrics = _prometheus(configuration)
        if metrics is not None:
            from swarmgate.observe.prometheus import MetricsLeaf

            tell = self._metrics(metrics)
            resources[PROMETHEUS] = MetricsLeaf(tell, self._in_thread, self._reactor.seconds)
        if configuration.api is not None:
            from swarmgate.api.operations import Operations
            from swarmgate.api.resource import Alone, ApiLeaf, ApiResource, Recent
            from swarmgate.dashboard.resource import DashboardResource
            from swarmgate.resources.bridge import ResourceLeaf

            recent = Recent(self._known_of_all, self._marks, self._reactor.seconds)
            alone = Alone(Recent(self.known, self._marks, self._reactor.seconds), self._measured_alone)
            operations = None
            if configuration.api.operations:
                operations = Operations(swarm, self._audit.write if self._audit is not None else None, time.time)
            dashboard = DashboardResource() if configuration.api.dashboard else None
            if dashboard is not None:
                resources[DASHBOARD] = dashboard
            api = ApiResource(
                recent, self.feed, swarm, operations, self._reactor.seconds, dashboard, self._measured, self._viewed,
                alone, self._listed_replicas,
            )  # fmt: skip
            resources[API] = ApiLeaf(API, api.written, ResourceLeaf(API, api))
        if self.resolvers is not None:
            resources[ACME_HTTP] = ChallengeLeaf(self.resolvers.thumbprint)
        return resources

    def _apply(self, table: RoutingTable) -> None:
        self._serve(table)
        checks = checks_of(table)
        if checks and self._checks is None:
            self._checks = _Checks(self._reactor, servers_transport(self._configuration), self.serving.judge)
        if self._checks is not None:
            self._checks.watch(table, checks)
        if self._stapler is not None:
            default = () if table.tls.default is None else (table.tls.default,)
            self._stapler.watch((*table.tls.certificates, *default))
        self._reloads, self._last_reload = self._reloads + 1, time.time()
        if self.resolvers is not None:
            self.resolvers.want(wishes_of(route for routes in table.routes.values() for route in routes))

    def _serve(self, table: RoutingTable) -> None:
        """Serve by *table*, with a certificate of the gate's own where TLS clients have no other."""
        tls, options = table.tls, self._configuration.entry_points.values()
        if tls.default is None and (tls.hosts or any(one.http.tls is not None for one in options)):
            if self._made_default is None:
                self._make_default()
            table = attrs.evolve(table, tls=attrs.evolve(tls, default=self._made_default))
        self.serving.apply(table)

    def _make_default(self) -> None:
        """Until it is made, hosts that no certificate is for are refused; nobody comes before the first look."""
        if self._making_default:
            return
        self._making_default = True
        from swarmgate.tls.reading import own_certificate

        making = self._in_thread(own_certificate)
        making.addBoth(self._default_made)
        making.addErrback(lambda failure: _log.failure("no default certificate could be made", failure=failure))

    def _default_made(self, made: ServedCertificate | Failure) -> Failure | None:
        self._making_default = False
        if isinstance(made, Failure):
            return made
        self._made_default = made
        _log.info(
            "no default certificate is configured (tls.stores.default.defaultCertificate): clients of hosts that no "
            "certificate is for get one that the gate has made itself, {name}",
            name=DEFAULT_NAME,
        )
        if not self.is_terminating:
            self._serve(self._aggregator.table)
        return None

    def _swarm_provider_of(self, configuration: StaticConfiguration, swarm: ISwarm | None) -> SwarmProvider | None:
        options = configuration.providers.swarm
        if options is None:
            return None
        from swarmgate.providers.swarm.watcher import SwarmProvider

        assert swarm is not None
        return SwarmProvider(
            self._reactor,
            swarm,
            lambda published: self._aggregator.publish("swarm", published),
            _swarm_options(options),
            watch=options.watch,
            refresh=options.refresh_seconds,
            apart=self._in_thread,
            changed=self.feed.swarm_changed,
        )

    def _providers(self, configuration: StaticConfiguration) -> list[Any]:
        providers: list[Any] = [] if self._swarm_provider is None else [self._swarm_provider]
        if configuration.providers.file is not None:
            from swarmgate.providers.file import FileProvider

            providers.append(
                FileProvider(
                    self._reactor, configuration.providers.file, KINDS, self._aggregator.publish, self._in_thread
                )
            )
        return providers

    def _resolvers(self, configuration: StaticConfiguration) -> Resolvers | None:
        if not configuration.certificates_resolvers:
            return None
        # Not everybody has them, and what speaks to authorities takes 25 MB.
        from swarmgate.acme.resolvers import Resolvers

        return Resolvers(self._reactor, configuration, endpoint_of(configuration), self._publish_certificates)

    def _usage_watch(self, configuration: StaticConfiguration) -> UsageWatch | None:
        """What asks agents, None if nobody is to."""
        if not configuration.agent.ask or configuration.providers.swarm is None:
            return None
        from swarmgate.fetch import Fetch
        from swarmgate.usage.watch import UsageWatch

        token = _agent_token(configuration)
        return UsageWatch(self._reactor, Fetch(self._reactor), self._seen, AGENT_PORT, time.time, token)

    def _seen(self) -> tuple[Snapshot, frozenset[str] | None] | None:
        """The last look at the Swarm, and the ids of the networks that the gate is attached to."""
        if self._swarm_provider is None or self._swarm_provider.seen is None:
            return None
        snapshot, decision = self._swarm_provider.seen
        return snapshot, decision.surroundings.own

    def _snapshot(self) -> Snapshot | None:
        seen = self._seen()
        return None if seen is None else seen[0]

    def _viewed(self) -> None:
        """Somebody looks at the Swarm."""
        if self._usage is not None:
            from swarmgate.usage.watch import VIEWED

            self._usage.want(VIEWED)

    def _publish_certificates(self, certificates: tuple[Certificate, ...], challenges: tuple[Challenge, ...]) -> None:
        self.serving.show(challenges)
        before, self._obtained = self._obtained, {}
        for one in certificates:
            self._obtained[one] = before.get(one) or _served(one)
        self._aggregator.publish("acme", Configuration(tls=TLSConfiguration(tuple(self._obtained.values()))))

    def _in_thread(self, call: Any, *given: Any, **options: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), call, *given, **options)

    # What it tells.

    def known(self) -> Known:
        """What the gate knows now, for the API."""
        from swarmgate.api.views import Known
        from swarmgate.why.services import World

        table, report = self._aggregator.table, self.serving.report()
        reasons = self._reasons(table, report)
        swarm = self._swarm_provider
        world = None
        if swarm is not None and swarm.seen is not None:
            world = World(*swarm.seen, table, swarm.own_service)
        return Known(
            table,
            self._aggregator.configurations,
            {name: str(options.address) for name, options in self._configuration.entry_points.items()},
            __version__,
            reasons,
            report.in_flight,
            world,
            self._configuration.access_log is not None,
            "" if self._configuration.tracing is None else "OTLP",
            "Prometheus" if _prometheus(self._configuration) is not None else "",
            time.time(),
            self._configuration.api is not None and self._configuration.api.operations,
            self._configuration.api is not None and self._configuration.api.logs,
            report.draining,
            {name: _normaliser(options) for name, options in self._configuration.entry_points.items()},
            self._told_alone,
            {} if self._usage is None else attrs.asdict(self._usage.told(), recurse=False),
        )

    def _reasons(self, table: RoutingTable, report: Report) -> dict[tuple[str, str], str]:
        """Why servers can't be asked, by qualified service and URL."""
        reasons = {
            (name, server.url): report.troubles[server.url]
            for name, service in (table.services.items() if report.troubles else ())
            for server in service.servers
            if server.url in report.troubles
        }
        for health in () if self._checks is None else self._checks.checker.state():
            if health.is_well is not True:
                failed = health.is_well is False
                told = f"its health check fails: {health.reason}" if failed else "it is not yet checked"
                reasons[health.service, health.url] = told
        return reasons

    def _told_alone(self) -> dict[str, Any]:
        return {} if self._replicas is None else self._replicas.alone.told

    def _known_of_all(self) -> Known:
        """The same, with the traffic of all replicas."""
        replicas, known = self._replicas, self.known()
        return known if replicas is None else attrs.evolve(known, traffic=lambda: replicas.whole.told)

    def _measured(self) -> Deferred[bytes]:
        """What ``/api/traffic`` says."""
        return succeed(b"{}") if self._replicas is None else self._replicas.whole.altogether()

    def _measured_alone(self) -> Deferred[bytes]:
        """The same of this replica alone."""
        return succeed(b"{}") if self._replicas is None else self._replicas.alone.altogether()

    def _listed_replicas(self) -> Deferred[list[dict[str, Any]]]:
        """What ``/api/replicas`` lists."""
        return succeed([]) if self._replicas is None else self._replicas.listed()

    def _in_flight(self) -> InFlight:
        """How many requests are being answered, by whom."""
        report = self.serving.report()
        servers = {(name, url): count for name, url, _, _, count in report.draining}
        if any(report.in_flight.values()):
            for name, service in self._aggregator.table.services.items():
                for server in service.servers:
                    count = report.in_flight.get(server.url)
                    if count:
                        servers[name, server.url] = count
        return InFlight(report.requests, servers)

    def _metrics(self, options: PrometheusMetrics) -> Callable[[], Callable[[], Iterable[Metric]]]:
        """What takes down how things are, and gives what tells of it in another thread."""
        from swarmgate.observe.prometheus import Labels, families

        labels = Labels(options.add_entry_points_labels, options.add_routers_labels, options.add_services_labels)

        def tell() -> Callable[[], Iterable[Metric]]:
            traffic = self.serving.traffic
            assert traffic is not None
            state, longest = self._state(), self.serving.take_lag()
            told: list[Callable[[], Iterable[Metric]]] = []
            if self._usage is not None:
                from swarmgate.usage import metrics as usage_metrics
                from swarmgate.usage.watch import SCRAPED

                self._usage.want(SCRAPED)
                told.append(partial(usage_metrics.families, options.prefix, self._usage.measured()))
            if self._replicas is not None:
                told.append(self._replicas.metrics(options.prefix))
            return lambda: itertools.chain(
                families(options.prefix, labels, traffic, state, longest), *(one() for one in told)
            )

        return tell

    def _state(self) -> State:
        from swarmgate.observe.prometheus import State

        table, report, swarm = self._aggregator.table, self.serving.report(), self._swarm_provider
        reasons = self._reasons(table, report)
        return State(
            self._reloads,
            self._last_reload,
            report.connections,
            report.refusals,
            {
                (name, server.url): ((name, server.url) not in reasons, report.in_flight.get(server.url, 0))
                for name, service in table.services.items()
                for server in service.servers
            },
            len(report.draining),
            table.tls.certificates,
            None if swarm is None else swarm.look_age,
            report.redis,
            report.refused_share,
            None if swarm is None else swarm.convergence.told(),
        )

    def _marks(self) -> tuple[object, ...]:
        """What the answers of the API are made of but for numbers: other objects, other answers."""
        seen = None if self._swarm_provider is None else self._swarm_provider.seen
        return (self._aggregator.table, *(seen or ()))

    def _ping_status(self) -> int:
        if self.is_terminating:
            return self._terminating_status
        return 200 if self._is_ready() and not self.serving.refuses_all else 503

    # Its life.

    @inlineCallbacks
    def start(self) -> Any:
        """Start to serve. Returns a Deferred that fails with :exc:`OSError` if an address can't be had."""
        self.running = True
        # The loop has taken the descriptor by which signals wake Twisted up, so that it hears of no child's end.
        _on_signal(self._reactor, "SIGCHLD", reapAllProcesses)
        self.serving.prepare()
        if self._audit is not None:
            self._audit.start()
        for provider in self.providers:
            provider.startService()
        if self._replicas is not None:
            self._replicas.start()
        yield self._first_looks()
        yield self.serving.listen()
        for name in self._handed:
            _log.warn("LISTEN_FDS: no entry point is for the socket {name}", name=name)
        notify(os.environ, "READY=1", f"MAINPID={os.getpid()}")

    @inlineCallbacks
    def _first_looks(self) -> Any:
        """Wait, for a while, until routes are known: whoever comes before that would be told that there are none."""
        until = self._reactor.seconds() + _FIRST_LOOKS_WITHIN
        while self.running and (not self._is_ready() or self._making_default) and self._reactor.seconds() < until:
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
        if self._usage is not None:
            self._usage.stop()
        if self._replicas is not None:
            yield self._replicas.stop()
        yield self.serving.drain()
        yield DeferredList([_deferred(provider.stopService()) for provider in self.providers])
        if self._checks is not None:
            self._checks.checker.stop()
        if self._stapler is not None:
            self._stapler.stop()
        if self._audit is not None:
            self._audit.close()
        yield self.serving.stop()

    def reopen_logs(self) -> None:
        """Open the log files anew, after they were moved away."""
        if self._audit is not None:
            self._audit.reopen()
        self.serving.reopen_logs()
        if self._logging is not None:
            self._logging.reopen()

    def reload(self, configuration: StaticConfiguration) -> None:
        """Put in force what of *configuration* needs no restart, and tell what does.

        :raises OSError: the new access log can't be opened; nothing has been changed then.
        """
        difference = compare(self._configuration, configuration)
        wanted = difference.configuration
        self.serving.reconfigure(wanted)
        self._terminating_status = wanted.ping.terminating_status_code if wanted.ping else 503
        self._aggregator.reconfigure(_facts(wanted))
        swarm = wanted.providers.swarm
        if self._swarm_provider is not None and swarm is not None:
            self._swarm_provider.reconfigure(_swarm_options(swarm), swarm.refresh_seconds)
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


class _Checks:
    """Health checks, made when the first service has one: what asks servers takes 3 MB.

    :param default: how servers are asked whose service has no transport of its own.
    :param judge: takes what a check says of a server.
    """

    def __init__(self, reactor: Any, default: ServersTransport, judge: Callable[[str, str, bool], object]) -> None:
        from swarmgate.health.ask import Asker
        from swarmgate.health.checker import Checker
        from swarmgate.health.https import TransportPolicy

        self._policy = TransportPolicy(default)
        self.checker: Checker = Checker(reactor, Asker(reactor, self._policy), judge)

    def watch(self, table: RoutingTable, checks: Mapping[str, tuple[HealthCheck, Sequence[str]]]) -> None:
        """Do the *checks* of *table* and no others."""
        self._policy.transports = {
            server.url.partition("://")[2].rpartition(":")[0].strip("[]"): service.transport
            for service in table.services.values()
            if service.transport is not None
            for server in service.servers
        }
        self.checker.watch(checks)


def _served(one: Certificate) -> ServedCertificate:
    """A certificate that was obtained. It was checked in a thread: to load a large key takes its time."""
    from swarmgate.tls.certificates import identity_of, read_chain  # What obtains certificates has it all.

    chain = one.chain_pem.decode("ascii")
    return ServedCertificate(
        chain,
        one.key_pem.decode("ascii"),
        one.names,
        one.not_before,
        one.not_after,
        one.kind,
        one.origin,
        *identity_of(read_chain(chain, one.origin)[0]),
    )


def _deferred(result: Any) -> Deferred[Any]:
    if isinstance(result, Deferred):
        return result
    fired: Deferred[Any] = Deferred()
    fired.callback(result)
    return fired


def _facts(configuration: StaticConfiguration) -> dict[str, EntryPointFacts]:
    return {
        name: EntryPointFacts(
            options.as_default, options.http.middlewares, name == "traefik", options.http.tls, options.observability
        )
        for name, options in configuration.entry_points.items()
    }


def _normaliser(options: EntryPointOptions) -> Callable[[bytes], bytes]:
    """Brings a path to the form that an entry point routes by; raises ValueError for one that it does not take."""
    normalise = path_policy(options).normalise

    def normalised(path: bytes) -> bytes:
        try:
            return normalise(path)
        except BadRequest as error:
            raise ValueError(error.reason) from None

    return normalised


def _tracing_fault(configuration: StaticConfiguration) -> str:
    if configuration.tracing is None:
        return ""
    otlp = configuration.tracing.otlp
    if not _is_installed("opentelemetry.exporter.otlp.proto.http.trace_exporter"):
        return "tracing: OpenTelemetry is not installed; it comes with the extra: pip install 'swarmgate[tracing]'"
    if otlp.grpc is not None and not _is_installed("opentelemetry.exporter.otlp.proto.grpc.trace_exporter"):
        return (
            "tracing.otlp.grpc: OpenTelemetry's exporter over gRPC is not installed; it comes with the extra:"
            " pip install 'swarmgate[tracing,grpc]'. Collectors take OTLP over HTTP, too: tracing.otlp.http"
        )
    name, tls = ("http", otlp.http.tls) if otlp.grpc is None else ("grpc", otlp.grpc.tls)
    for key in ("ca", "cert", "key"):
        path = getattr(tls, key, "")
        if path and not os.access(path, os.R_OK):
            return f"tracing.otlp.{name}.tls.{key}: {path} can't be read"
    return ""


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _prometheus(configuration: StaticConfiguration) -> PrometheusMetrics | None:
    return configuration.metrics.prometheus if configuration.metrics is not None else None


def _swarm_options(options: SwarmProviderOptions) -> SwarmOptions:
    from swarmgate.providers.swarm.decide import Options as SwarmOptions

    return SwarmOptions(
        kinds=KINDS,
        exposed_by_default=options.exposed_by_default,
        network=options.network,
        default_rule=options.default_rule,
        constraints=options.constraints,
        prefixes=options.label_prefixes,
    )


def _endpoint(options: SwarmProviderOptions) -> Endpoint:
    from swarmgate.providers.swarm.engine import Endpoint

    tls = options.tls
    timeout = options.http_client_timeout or _NO_TIMEOUT
    if tls is None:
        return Endpoint(options.endpoint, timeout=timeout)
    return Endpoint(options.endpoint, tls.ca, tls.cert, tls.key, True, tls.insecure_skip_verify, timeout=timeout)


def endpoint_of(configuration: StaticConfiguration) -> Endpoint | None:
    """Where the Swarm's API is, None if there is no ``providers.swarm``."""
    options = configuration.providers.swarm
    return None if options is None else _endpoint(options)


def _stapler(configuration: StaticConfiguration, reactor: Any) -> Stapler | None:
    if configuration.ocsp is None:
        return None
    from swarmgate.tls.responder import Responders
    from swarmgate.tls.stapling import Stapler

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


def _agent_token(configuration: StaticConfiguration) -> bytes:
    """What agents want to be shown, ``b""`` for nothing.

    :raises OSError: its file can't be read.
    :raises ValueError: it has none.
    """
    path = configuration.agent.token_file
    if not path:
        return b""
    from swarmgate.agent.server import read_token

    return read_token(path)


def fault_of(configuration: StaticConfiguration) -> str:
    """What of *configuration* only its use shows to be wrong, as a line for people; ``""`` for nothing."""
    options = configuration.providers.swarm
    if options is not None:
        try:
            _swarm_options(options)
        except RuleError as error:
            return f"providers.swarm: {error}"
    for key, try_out in (
        ("serversTransport.rootCAs", servers_transport),
        ("sessionTickets.keyFile", _ticket_secret),
        ("agent.tokenFile", _agent_token),
    ):
        try:
            try_out(configuration)
        except OSError as error:
            return f"{key}: {unusable(error)}"
        except ValueError as error:
            return f"{key}: {error}"
    return _tracing_fault(configuration) or _acme_fault(configuration)


def file_problems(configuration: StaticConfiguration) -> tuple[list[str], bool]:
    """What is wrong in the files of ``providers.file``, and whether one of them would not be in force for it.

    Names of what other files or providers have are not looked up.
    """
    options = configuration.providers.file
    if options is None:
        return [], False
    from swarmgate.providers.file import look

    seen = look(options, KINDS, None, time.time())
    broken = bool(seen.problems) or any(file.good is None for file in seen.files.values())
    return [str(problem) for problem in seen.configuration.problems], broken


def _acme_fault(configuration: StaticConfiguration) -> str:
    if not configuration.certificates_resolvers:
        return ""
    from swarmgate.acme.resolvers import fault_of as fault_of_resolvers

    return fault_of_resolvers(configuration)


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
    service = GateService(configuration, reactor, swarm, logging, handed_over(os.environ, os.getpid()))
    _on_signal(reactor, "SIGUSR1", service.reopen_logs)
    _on_signal(reactor, "SIGUSR2", Upgrade(reactor, service.serving.sockets, reactor.stop).start)
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
        print(f"swarmgate: log.filePath: {unusable(error)}", file=sys.stderr)  # noqa: T201
        return 1
    raise_descriptor_limit()
    service = make_service(configuration, reactor, swarm, logging, read)
    failed: list[Any] = []

    def cannot_start(failure: Any) -> None:
        failed.append(failure)
        _log.critical("{reason}", reason=failure.getErrorMessage())
        reactor.stop()

    leave_note(ping_url(configuration))
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.callWhenRunning(lambda: service.start().addErrback(cannot_start))
    _log.info("swarmgate {version}, process {pid}", version=__version__, pid=os.getpid())
    if not is_compiled():
        _log.warn("swarmgate is not compiled and needs more CPU: install it where there is a C compiler")
    reactor.run()
    logging.stop()
    return 1 if failed else 0
