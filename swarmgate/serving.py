"""What serves: entry points, TLS, the gate's resource tree, and what is told of each request.

A process that only serves, and one that looks at the Swarm as well, have the same :class:`Serving`. It knows no
provider: tables, and what health checks say, are given to it.
"""

from __future__ import annotations

import gc
import resource
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool

from swarmgate.config.model import CollectorTLS, StaticConfiguration
from swarmgate.config.model import EntryPoint as EntryPointOptions
from swarmgate.config.model import Tracing as TracingOptions
from swarmgate.dynamic.observability import Observed
from swarmgate.dynamic.table import Route, RoutingTable
from swarmgate.dynamic.tls import ServersTransport, is_pem
from swarmgate.http.admission import Admission, make_room, room_for
from swarmgate.http.client import ClientSettings
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.entry_point import EntryPoint, LifeCycle
from swarmgate.http.exchange import NOT_COUNTED, NOT_LOGGED, NOT_TRACED, Exchange
from swarmgate.http.forwarded import ForwardedPolicy, Networks
from swarmgate.http.paths import PathPolicy
from swarmgate.http.per_address import ConnectionsPerAddress
from swarmgate.http.request_head import HeadLimits
from swarmgate.http.upstream import UpstreamSettings
from swarmgate.http2.client import Http2Settings
from swarmgate.limits.interface import Limits
from swarmgate.limits.local import LocalLimits
from swarmgate.middlewares.chain import Leaf
from swarmgate.middlewares.interface import Context
from swarmgate.observe.access_log import AccessLog, AccessLogSettings
from swarmgate.observe.lag import ReactorLag
from swarmgate.observe.output import Output
from swarmgate.observe.summary import BOUNDS
from swarmgate.observe.told import Told
from swarmgate.observe.traffic import Traffic
from swarmgate.overload import (
    Bounds,
    Guard,
    State,
    container_memory,
    descriptors_in_use,
    give_back_memory,
    memory_bound,
    resident_memory,
)
from swarmgate.resources.gate import Gate
from swarmgate.resources.reach import Reaching, idle_connections
from swarmgate.resources.tree import NotFound, Untold, untold
from swarmgate.tls.acceptor import Acceptors
from swarmgate.tls.challenges import Challenges, Shown
from swarmgate.tls.contexts import ServerContexts, Staples, check_authorities
from swarmgate.tls.tickets import TicketKeys
from swarmgate.transport.native import NativeNetwork
from swarmgate.transport.network import Network
from swarmgate.transport.sockets import take

if TYPE_CHECKING:
    from swarmgate.observe.tracing import Sending, Tracing

#: What is spoken over TLS, best first, as ALPN calls it.
PROTOCOLS = ("h2", "http/1.1")
#: Seconds between two attempts to have less memory, while there is too little.
_MAKE_ROOM_EVERY = 5.0
#: Seconds that the last spans have to be sent in.
_LAST_SPANS_WITHIN = 3.0


@attrs.frozen
class Report:
    """How serving goes, at one moment; a plain value.

    :ivar connections: open ones, by entry point.
    :ivar refusals: requests that were refused before they were one, by entry point and reason.
    :ivar refused_share: of new requests, from 0 to 1, because of overload.
    :ivar requests: that are being answered, by entry point.
    :ivar in_flight: requests that servers are answering, by URL.
    :ivar troubles: why servers can't be asked, by URL.
    :ivar draining: servers that get no new requests and finish those that they have: the service, the server's URL,
        task and node, and how many requests.
    :ivar redis: by rate limit: whether its Redis decides, how often it has, and how often it had to be done without.
    """

    connections: Mapping[str, int] = attrs.field(factory=dict)
    refusals: Mapping[str, Mapping[str, int]] = attrs.field(factory=dict)
    in_flight: Mapping[str, int] = attrs.field(factory=dict)
    troubles: Mapping[str, str] = attrs.field(factory=dict)
    draining: Sequence[tuple[str, str, str, str, int]] = ()
    redis: Mapping[str, tuple[bool, int, int]] = attrs.field(factory=dict)
    refused_share: float = 0.0
    requests: Mapping[str, int] = attrs.field(factory=dict)


class Serving:
    """Serves by the table that was applied last.

    :param resources: what answers for services of the gate's own, by their qualified names.
    :param is_routed: says whether all routers are known; hosts that aren't get 503, and not 404, until they are.
    :param ticket_secret: what the keys of session tickets are made of.
    :param processes: how many of these the gate has: what is limited for all of them is shared.
    :param staples: what clients are shown of certificates' authorities; None: nothing.
    :param limits: what middlewares that limit count with; None: each in this process's memory.
    :ivar traffic: counts requests; None if nobody wants to know.
    :ivar guard: decides what is refused because of overload.
    :ivar lag: how late the reactor is; None if nobody wants to know.
    """

    def __init__(
        self,
        configuration: StaticConfiguration,
        reactor: Any,
        network: Network,
        resources: Mapping[str, Any],
        is_routed: Callable[[], bool],
        ticket_secret: bytes,
        staples: Staples | None = None,
        handed: dict[str, list[socket.socket]] | None = None,
        limits: Limits | None = None,
        processes: int = 1,
    ) -> None:
        """
        :param handed: listening sockets that the process was started with, see :mod:`swarmgate.transport.sockets`.
        """
        self._handed = handed or {}
        self._configuration = configuration
        self._processes = processes
        self._reactor = reactor
        self._network = network
        self._limits = limits or LocalLimits()
        self.deadlines = Deadlines(reactor, turn_end=network.turn_end)
        # What is told of requests.
        self._access_log = _access_log(configuration, reactor)
        self._tracing: Tracing | None = None
        self._sending: Sending | None = None
        if configuration.tracing is not None:
            self._tracing, self._sending = _tracing(configuration.tracing, reactor)
        self.traffic = traffic_of(configuration)
        measured = configuration.metrics is not None and configuration.metrics.prometheus is not None
        self.lag = ReactorLag(reactor) if measured else None
        self._untold = {
            name: _flags(options.observability.over(Observed())) for name, options in configuration.entry_points.items()
        }
        # What answers them.
        self.gate = Gate(
            configuration.entry_points,
            network,
            reactor,
            self.deadlines,
            _upstream_settings(configuration),
            resources,
            self._context,
            Reaching(network, self.deadlines, servers_transport(configuration)),
            None if self._tracing is None else self._tracing.watch,
            NotFound(is_routed),
            self._watched,
        )
        self._challenges = Challenges()
        self._acceptors = Acceptors(
            ServerContexts(PROTOCOLS, TicketKeys(ticket_secret), staples),
            [name for name, options in configuration.entry_points.items() if options.http.tls is not None],
            time.time,
            self._challenges,
        )
        # Who asks.
        self._admission = Admission(self.deadlines, _room(), self._part(configuration.overload.max_connections))
        self.guard = Guard(reactor, _bounds(configuration, processes), resident_memory, self._overloaded, self._looked)
        self._room_made = -_MAKE_ROOM_EVERY
        #: Entry points with routers of the gate's own, ping above all: those go on.
        self._own: set[str] = set()
        self.entry_points = {
            name: self._entry_point(name, options, network) for name, options in configuration.entry_points.items()
        }
        self._drained = False
        self._accept(RoutingTable())

    def _entry_point(self, name: str, options: EntryPointOptions, network: Network) -> EntryPoint:
        settings = _client_settings(name, options, self._configuration)
        entry_point = EntryPoint(
            network,
            self._reactor,
            options.address.host,
            options.address.port,
            settings,
            self.deadlines,
            untold(self.gate.roots[name].serve, self._untold[name]),
            self._record(),
            _life_cycle(options),
            options.reuse_port,
            untold(self.gate.secure_roots[name].serve, self._untold[name]),
            self._record_refused(name),
            self._admission,
        )
        connections = options.in_flight_conn
        if connections.amount:
            counts = self._limits.counts(f"inFlightConn {name}")
            entry_point.limit_connections(
                ConnectionsPerAddress(counts, connections.amount, connections.ipv6_subnet, _proxies(options))
            )
        if options.proxy_protocol is not None:
            # Few need it.
            from swarmgate.http.proxied import Proxies

            proxies = Proxies(options.proxy_protocol.insecure, options.proxy_protocol.trusted_ips)
            entry_point.proxied = proxies.connection
        if settings.http2 is not None:
            entry_point.protocols[b"h2"] = settings.http2
        return entry_point

    def _watched(self, route: Route, leaf: Leaf) -> Leaf:
        """*leaf*, which serves *route*, with its requests traced if they are to be, and told of as it says."""
        tracing, observed = self._tracing, route.observed
        if tracing is not None and observed.tracing and tracing.is_wanted(route.service_name):
            leaf = tracing.leaf(leaf, observed.detailed)
        flags = _flags(observed)
        return leaf if flags == self._untold[route.entry_point] else Untold(leaf, flags)

    def _record(self) -> Callable[[Exchange], None] | None:
        """What is to be told of each exchange that has ended; None if nobody wants to know."""
        return self._told(self.traffic)

    def _record_refused(self, entry_point: str) -> Callable[[Exchange], None] | None:
        """The same for what was refused before it was a request; metrics count that by its reason."""
        record = self._told(None)
        return None if record is None else untold(record, self._untold[entry_point])

    def _told(self, traffic: Traffic | None) -> Callable[[Exchange], None] | None:
        trace = None if self._tracing is None else self._tracing.finished
        if trace is None and traffic is None and self._access_log is None:
            return None
        return Told(trace, traffic, self._access_log).record

    def _context(self, **given: Any) -> Context:
        return Context(in_thread=self._in_thread, network=self._network, limits=self._limits, **given)

    def _in_thread(self, call: Any, *given: Any, **options: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), call, *given, **options)

    # What it is given.

    def apply(self, table: RoutingTable) -> None:
        """Serve by *table* from the next request on."""
        self.gate.apply(table)
        self._accept(table)
        self._own = {name for name, routes in table.routes.items() if any(not route.service for route in routes)}
        self._overloaded(self.guard.state)
        if self.traffic is not None:
            routers = {route.name for routes in table.routes.values() for route in routes}
            servers = {name: {one.url for one in service.servers} for name, service in table.services.items()}
            self.traffic.keep(routers, servers)

    def _accept(self, table: RoutingTable) -> None:
        acceptors = self._acceptors.of(table.tls)
        for name, entry_point in self.entry_points.items():
            entry_point.acceptor = acceptors.get(name)

    def _overloaded(self, state: State) -> None:
        """Refuse what *state* says."""
        for name, shedding in self.gate.shedding.items():
            shedding.share, shedding.reason = state.share, state.reason
            self.entry_points[name].turns_away = state.refuses_all and name not in self._own

    def _looked(self) -> None:
        self._admission.look()
        now = self._reactor.seconds()
        if self.guard.state.for_memory and now - self._room_made >= _MAKE_ROOM_EVERY:
            self._room_made = now
            make_room(self.entry_points.values())
            give_back_memory()

    def _part(self, count: int) -> int:
        """This process's part of a number that is meant for all."""
        return -(-count // self._processes)

    @property
    def refuses_all(self) -> bool:
        """Whether all new requests are refused because of overload."""
        return self.guard.state.refuses_all

    def judge(self, service: str, url: str, is_well: bool) -> None:
        """Take what a health check says of a server."""
        self.gate.judge(service, url, is_well)

    def show(self, challenges: Sequence[Shown]) -> None:
        """Answer these challenges of authorities in handshakes, and no others."""
        self._challenges.show(challenges)

    def reconfigure(self, configuration: StaticConfiguration) -> None:
        """Put in force what of *configuration* needs no restart.

        :raises OSError: the new access log can't be opened; nothing has been changed then.
        """
        before = self._access_log
        if configuration.access_log != self._configuration.access_log:
            access_log = _access_log(configuration, self._reactor)
            if access_log is not None:
                access_log.start()
            self._access_log = access_log
        for name, entry_point in self.entry_points.items():
            options = configuration.entry_points[name]
            entry_point.reconfigure(
                _client_settings(name, options, configuration),
                _life_cycle(options),
                self._record(),
                self._record_refused(name),
            )
        if before is not None and before is not self._access_log:
            before.stop()
        self.gate.reconfigure(_upstream_settings(configuration))
        self.guard.bounds = _bounds(configuration, self._processes)
        self._admission.clients_at_most = self._part(configuration.overload.max_connections)
        self._configuration = configuration

    def reopen_logs(self) -> None:
        """Open the access log's file anew, after it was moved away."""
        if self._access_log is not None:
            self._access_log.reopen()

    # What it tells.

    def report(self) -> Report:
        """How it goes."""
        troubles, in_flight = {}, {}
        for upstream in self.gate.upstreams():
            in_flight[upstream.url] = upstream.in_flight
            if upstream.is_silent:
                troubles[upstream.url] = "it takes connections and says nothing"
            elif upstream.failures:
                troubles[upstream.url] = "connections to it fail"
        return Report(
            {name: len(entry_point) for name, entry_point in self.entry_points.items()},
            {
                name: dict(entry_point.refusals + self.gate.shedding[name].refusals)
                for name, entry_point in self.entry_points.items()
            },
            in_flight,
            troubles,
            [
                (name, server.url, server.task, server.node, upstream.in_flight)
                for name, server, upstream in self.gate.draining()
            ],
            self.gate.redis(),
            self.guard.state.share,
            {name: entry_point.in_flight for name, entry_point in self.entry_points.items()},
        )

    def sockets(self) -> dict[str, list[socket.socket]]:
        """The listening sockets, by entry point."""
        return {name: entry_point.sockets() for name, entry_point in self.entry_points.items()}

    def take_lag(self) -> float:
        """The longest that the reactor was late by since this was last asked, in seconds; 0 if nobody measures it."""
        return 0.0 if self.lag is None else self.lag.take()

    # Its life.

    def prepare(self) -> None:
        """Be ready to serve, once entry points listen."""
        if self._access_log is not None:
            self._access_log.start()
        if self.lag is not None:
            self.lag.start()
        self._admission.sockets_at_most = _room()
        self.guard.start()

    @inlineCallbacks
    def listen(self, sockets: Mapping[str, Sequence[socket.socket]] | None = None) -> Any:
        """Accept clients. Returns a Deferred that fails with :exc:`OSError` if an address can't be had.

        :param sockets: that listen already, by entry point; the others' are made.
        """
        for name, entry_point in self.entry_points.items():
            if self._drained:
                return
            try:
                handed = take(self._handed, name, self._configuration.entry_points[name].address.port)
                yield entry_point.listen((sockets or {}).get(name, handed))
            except OSError as error:
                raise OSError(f"entry point {name}: {error.strerror or error}") from error
        spare_collector()

    def drain(self) -> Deferred[Any]:
        """Accept nobody any more; the Deferred fires when the last client has gone, or been sent away."""
        self._drained = True
        return DeferredList([entry_point.stopService() for entry_point in self.entry_points.values()])

    @inlineCallbacks
    def stop(self) -> Any:
        """Let go of servers and logs, after the last client has gone. Returns a Deferred."""
        for upstream in self.gate.upstreams():
            upstream.retire()
        self.deadlines.stop()
        self.guard.stop()
        if self.lag is not None:
            self.lag.stop()
        if self._access_log is not None:
            self._access_log.stop()
        yield self._send_last_spans()

    @inlineCallbacks
    def _send_last_spans(self) -> Any:
        if self._tracing is None or self._sending is None:
            return
        sent: Deferred[None] = Deferred()
        self._sending.end(lambda: self._reactor.callFromThread(sent.callback, None))
        too_late: Deferred[None] = deferLater(self._reactor, _LAST_SPANS_WITHIN)
        yield DeferredList([sent, too_late], fireOnOneCallback=True)
        too_late.addErrback(lambda failure: None).cancel()
        self._sending.give_up()


def spare_collector() -> None:
    """Have the garbage collector look at what comes from now on, and seldom: what is there now stays."""
    # Exchanges leave no cycles behind.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def network_of(reactor: Any) -> Network:
    """The fastest network that *reactor* has."""
    loop = getattr(reactor, "_asyncioEventloop", None)
    if loop is not None and type(loop).__module__.startswith("uvloop"):
        return NativeNetwork(loop)
    # With Twisted's endpoints and their TLS, which only those without uvloop need.
    from swarmgate.transport.classic import ReactorNetwork

    return ReactorNetwork(reactor)


def _room() -> int:
    """How many sockets there may be before nobody is accepted."""
    return room_for(resource.getrlimit(resource.RLIMIT_NOFILE)[0], descriptors_in_use())


def _bounds(configuration: StaticConfiguration, processes: int) -> Bounds:
    options = configuration.overload
    return Bounds(options.max_reactor_lag, memory_bound(options.max_memory, container_memory(), processes))


def traffic_of(configuration: StaticConfiguration) -> Traffic | None:
    """What counts requests; None if nobody wants to know."""
    metrics = configuration.metrics
    prometheus = None if metrics is None else metrics.prometheus
    if prometheus is None and configuration.api is None:
        return None
    return Traffic(
        () if prometheus is None else prometheus.buckets,
        metrics is not None and metrics.add_internals,
        finer=() if configuration.api is None else BOUNDS,
    )


def _flags(observed: Observed) -> int:
    """What is not told."""
    return (
        (0 if observed.access_logs else NOT_LOGGED)
        + (0 if observed.metrics else NOT_COUNTED)
        + (0 if observed.tracing else NOT_TRACED)
    )


def _life_cycle(options: EntryPointOptions) -> LifeCycle:
    life_cycle = options.transport.life_cycle
    return LifeCycle(life_cycle.request_accept_grace_timeout, life_cycle.grace_time_out)


def _proxies(options: EntryPointOptions) -> Networks:
    """Who is named as one that connects to an entry point for many clients."""
    proxied = options.proxy_protocol
    return options.forwarded_headers.trusted_ips + (() if proxied is None else proxied.trusted_ips)


def path_policy(options: EntryPointOptions) -> PathPolicy:
    """What an entry point makes of paths (Traefik ``http.encodedCharacters``, ``http.sanitizePath``)."""
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
        paths=path_policy(options),
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
    from swarmgate.observe.tracing import Collector, Sending, Spans, Tracing, TracingSettings, exporter_of

    http, grpc = options.otlp.http, options.otlp.grpc
    chosen = grpc or http
    tls = chosen.tls or CollectorTLS()
    collector = Collector(
        chosen.endpoint,
        chosen.headers,
        tls.ca,
        tls.cert,
        tls.key,
        not tls.insecure_skip_verify,
        grpc is not None,
        grpc is not None and not grpc.insecure,
    )
    settings = TracingSettings(
        service_name=options.service_name,
        resource_attributes=options.resource_attributes,
        sample_rate=options.sample_rate,
        request_headers=options.captured_request_headers,
        response_headers=options.captured_response_headers,
        safe_query=options.safe_query_params,
        internals=options.add_internals,
    )
    sending = Sending(exporter_of(collector), Spans(settings), reactor)
    return Tracing(settings, sending.take), sending


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


def servers_transport(configuration: StaticConfiguration) -> ServersTransport:
    """How servers are reached that no transport is named for.

    :raises OSError: a file of authorities can't be read.
    :raises ValueError: it holds none.
    """
    options = configuration.servers_transport
    authorities = []
    for written in options.root_cas:
        text = written if is_pem(written) else Path(written).read_text("utf-8", "replace")
        check_authorities(text, "the text given" if is_pem(written) else written)
        authorities.append(text)
    return ServersTransport(insecure_skip_verify=options.insecure_skip_verify, root_cas=tuple(authorities))
