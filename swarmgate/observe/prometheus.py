"""Metrics in Prometheus' text format, by Traefik's names and with its labels (Traefik ``metrics.prometheus``)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from swarmgate.dynamic.tls import Certificate
from swarmgate.http.exchange import PLAIN_TEXT, Exchange
from swarmgate.observe.exposition import exposition
from swarmgate.observe.traffic import Kind, Tally, Traffic

_log = Logger()

_CONTENT_TYPE = (b"Content-Type", b"text/plain; version=0.0.4; charset=utf-8")
_FRESH = 0.5  # Seconds for which what was written is shown again: many may ask.


@attrs.frozen
class State:
    """What metrics tell beside traffic, at one moment.

    :ivar reloads: how many routing tables were put in force, :ivar last_reload: when the last one was.
    :ivar connections: open ones, by entry point.
    :ivar refusals: requests that were refused before they were one, by entry point and reason.
    :ivar servers: by service and URL: whether it is up, and how many requests it is answering.
    :ivar draining: how many servers finish what they are answering, and get nothing new.
    :ivar look_age: seconds since the Swarm was looked at successfully, None without one.
    :ivar convergence: how many changes of the Swarm took how long to be in force: by upper bound in seconds, ascending,
        the last for those above all; and how long they took together.
    :ivar redis: by rate limit: whether its Redis decides, how often it has, and how often it had to be done without.
    :ivar refused_share: of new requests, because of overload, from 0 to 1.
    """

    reloads: int
    last_reload: float
    connections: Mapping[str, int] = attrs.field(factory=dict)
    refusals: Mapping[str, Mapping[str, int]] = attrs.field(factory=dict)
    servers: Mapping[tuple[str, str], tuple[bool, int]] = attrs.field(factory=dict)
    draining: int = 0
    certificates: Sequence[Certificate] = ()
    look_age: float | None = None
    redis: Mapping[str, tuple[bool, int, int]] = attrs.field(factory=dict)
    refused_share: float = 0.0
    convergence: tuple[Sequence[tuple[str, int]], float] | None = None


@attrs.frozen
class Labels:
    """Which of the metrics there are (Traefik ``addEntryPointsLabels`` and so on)."""

    entry_points: bool = True
    routers: bool = False
    services: bool = True


def families(prefix: str, labels: Labels, traffic: Traffic, state: State, lag: float) -> Iterator[Metric]:
    """Everything that is told, by metric.

    :param prefix: what the names begin with.
    :param lag: seconds that the reactor has been late by.
    """
    yield CounterMetricFamily(f"{prefix}_config_reloads", "Routing tables put in force.", state.reloads)
    yield GaugeMetricFamily(
        f"{prefix}_config_last_reload_success", "When the last one was, in seconds since 1970.", state.last_reload
    )
    family = GaugeMetricFamily(
        f"{prefix}_open_connections", "Connections that are open.", labels=("entrypoint", "protocol")
    )
    for name, count in state.connections.items():
        family.add_metric((name, "TCP"), count)
    yield family
    family = GaugeMetricFamily(
        f"{prefix}_tls_certs_not_after",
        "When certificates expire, in seconds since 1970.",
        labels=("cn", "serial", "sans"),
    )
    for certificate in state.certificates:
        sans = ",".join(certificate.names)
        family.add_metric((certificate.common_name, certificate.serial, sans), certificate.not_after)
    yield family
    yield from _traffic(prefix, labels, traffic)
    if labels.services:
        up = GaugeMetricFamily(f"{prefix}_service_server_up", "Whether servers are up.", labels=("service", "url"))
        busy = GaugeMetricFamily(
            f"{prefix}_service_server_in_flight", "Requests that servers are answering.", labels=("service", "url")
        )
        for (service, url), (is_up, in_flight) in state.servers.items():
            up.add_metric((service, url), float(is_up))
            busy.add_metric((service, url), in_flight)
        yield up
        yield busy
    yield GaugeMetricFamily(
        f"{prefix}_draining_servers", "Servers that finish what they are answering.", state.draining
    )
    refused = CounterMetricFamily(
        f"{prefix}_entrypoint_refused",
        "Requests that were refused: before they were one, or because of overload.",
        labels=("entrypoint", "reason"),
    )
    for name, reasons in state.refusals.items():
        for reason, count in reasons.items():
            refused.add_metric((name, reason), count)
    yield refused
    if state.redis:
        up = GaugeMetricFamily(f"{prefix}_rate_limit_redis_up", "Whether Redis decides.", labels=("middleware",))
        decided = CounterMetricFamily(
            f"{prefix}_rate_limit_redis_decisions",
            "Decisions of rate limits that are in Redis, and who has made them.",
            labels=("middleware", "by"),
        )
        for name, (is_up, by_redis, without) in state.redis.items():
            up.add_metric((name,), float(is_up))
            decided.add_metric((name, "redis"), by_redis)
            decided.add_metric((name, "gate"), without)
        yield up
        yield decided
    yield GaugeMetricFamily(f"{prefix}_reactor_lag_seconds", "How late the reactor was since the last scrape.", lag)
    yield GaugeMetricFamily(
        f"{prefix}_overload_refused_share", "Share of new requests refused because of overload.", state.refused_share
    )
    if state.look_age is not None:
        yield GaugeMetricFamily(
            f"{prefix}_swarm_look_age_seconds", "How long ago the Swarm was looked at successfully.", state.look_age
        )
    if state.convergence is not None:
        counts, seconds = state.convergence
        totals = itertools.accumulate(count for _, count in counts)
        yield HistogramMetricFamily(
            f"{prefix}_swarm_convergence_seconds",
            "How long changes of the Swarm took to be in force, from the first that was heard of them.",
            [(bound, total) for (bound, _), total in zip(counts, totals, strict=True)],
            seconds,
        )


def _traffic(prefix: str, labels: Labels, traffic: Traffic) -> Iterator[Metric]:
    kinds = traffic.kinds()
    if labels.entry_points:
        yield from _parts(f"{prefix}_entrypoint", ("entrypoint",), lambda kind: (kind.entry_point,), kinds, traffic)
    if labels.routers:
        routed = [pair for pair in kinds if pair[0].router]
        yield from _parts(
            f"{prefix}_router", ("router", "service"), lambda kind: (kind.router, kind.service), routed, traffic
        )
    if labels.services:
        served = [pair for pair in kinds if pair[0].service]
        yield from _parts(f"{prefix}_service", ("service",), lambda kind: (kind.service,), served, traffic)
        retries = CounterMetricFamily(
            f"{prefix}_service_retries", "Servers that were tried in vain.", labels=("service",)
        )
        counts: dict[str, int] = {}
        for kind, tally in served:
            counts[kind.service] = counts.get(kind.service, 0) + tally.retries
        for service, count in counts.items():
            retries.add_metric((service,), count)
        yield retries


def _parts(
    prefix: str,
    names: tuple[str, ...],
    of: Callable[[Kind], tuple[str, ...]],
    kinds: Iterable[tuple[Kind, Tally]],
    traffic: Traffic,
) -> Iterator[Metric]:
    """The four metrics that there are of entry points, routers and services alike."""
    sums: dict[tuple[str, ...], Tally] = {}
    for kind, tally in kinds:
        labels = (str(kind.status), kind.method, kind.protocol, *of(kind))
        sums.setdefault(labels, Tally(len(traffic.bounds))).add(tally)
    all_names = ("code", "method", "protocol", *names)
    requests = CounterMetricFamily(f"{prefix}_requests", "Requests that were answered.", labels=all_names)
    durations = HistogramMetricFamily(
        f"{prefix}_request_duration_seconds", "How long requests took to be answered.", labels=all_names
    )
    received = CounterMetricFamily(f"{prefix}_requests_bytes", "Octets of requests' bodies.", labels=all_names)
    sent = CounterMetricFamily(f"{prefix}_responses_bytes", "Octets of answers' bodies.", labels=all_names)
    shown = set(traffic.buckets)
    bounds = [*(str(float(bound)) if bound in shown else "" for bound in traffic.bounds), "+Inf"]
    for labels, tally in sums.items():
        so_far, buckets = 0, []
        for bound, count in zip(bounds, tally.counts, strict=True):
            so_far += count
            if bound:
                buckets.append((bound, so_far))
        requests.add_metric(labels, so_far)
        durations.add_metric(labels, buckets, tally.seconds)
        received.add_metric(labels, tally.received)
        sent.add_metric(labels, tally.sent)
    yield from (requests, durations, received, sent)


class MetricsLeaf:
    """Answers with all metrics, to GET and HEAD (``prometheus@internal``).

    They are written in a thread: with thousands of services that takes its time.

    :param tell: gives what is told; called on the reactor's thread, its result made use of in another one.
    :param in_thread: runs a call in a thread and gives its result as a Deferred.
    :param seconds: a clock's.
    """

    def __init__(
        self,
        tell: Callable[[], Callable[[], Iterable[Metric]]],
        in_thread: Callable[..., Deferred[Any]],
        seconds: Callable[[], float],
    ) -> None:
        self._tell = tell
        self._in_thread = in_thread
        self._seconds = seconds
        self._written = b""
        self._until = -1.0
        self._waiting: list[Exchange] = []
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)

    def serve(self, exchange: Exchange) -> None:
        """Answer *exchange*."""
        if exchange.request.method not in (b"GET", b"HEAD"):
            exchange.answer(405, b"expected GET or HEAD\n", (PLAIN_TEXT, (b"Allow", b"GET, HEAD")))
            return
        if self._seconds() < self._until:
            self._show(exchange)
            return
        self._waiting.append(exchange)
        if len(self._waiting) == 1:
            written = self._in_thread(self._write, self._tell())
            written.addCallbacks(self._arrived, self._failed)
            written.addErrback(lambda failure: _log.failure("metrics can't be written", failure))

    def _write(self, tell: Callable[[], Iterable[Metric]]) -> bytes:
        return exposition(itertools.chain(tell(), self._process.collect()))

    def _arrived(self, written: bytes) -> None:
        self._written = written
        self._until = self._seconds() + _FRESH
        waiting, self._waiting = self._waiting, []
        for exchange in waiting:
            self._show(exchange)

    def _failed(self, failure: Failure) -> Failure:
        waiting, self._waiting = self._waiting, []
        for exchange in waiting:
            exchange.fail(500)
        return failure

    def _show(self, exchange: Exchange) -> None:
        exchange.answer(200, self._written, (_CONTENT_TYPE, (b"Cache-Control", b"no-store")))
