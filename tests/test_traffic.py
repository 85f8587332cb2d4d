"""Tests for swarmgate.observe.traffic and swarmgate.observe.prometheus."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.tls import Certificate
from swarmgate.http.exchange import Exchange
from swarmgate.observe.exposition import exposition
from swarmgate.observe.lag import ReactorLag
from swarmgate.observe.prometheus import Labels, MetricsLeaf, State, families
from swarmgate.observe.summary import BOUNDS as FINE
from swarmgate.observe.summary import InFlight, Meter, quantiles, summary
from swarmgate.observe.traffic import Kind, Traffic
from swarmgate.observe.turns import Turns
from tests.exchanges import MemoryClient, client_of, exchange_of
from tests.memory_network import MemoryGate
from tests.pki import authority

BOUNDS = (0.1, 1.0)


class TrafficCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.traffic = Traffic(BOUNDS, now=self.clock.seconds)

    def ended(self, status: int = 200, method: bytes = b"GET", seconds: float = 0.0, **more: Any) -> Exchange:
        """Record an exchange of the service ``app@swarm`` that has taken so long."""
        exchange = exchange_of()
        exchange.request.method = method
        exchange.entry_point, exchange.router, exchange.service = "web", "r@swarm", "app@swarm"
        exchange.server, exchange.status = "http://10.0.0.1:80", status
        for name, value in more.items():
            setattr(exchange, name, value)
        exchange.started = self.clock.seconds() - seconds
        self.traffic.record(exchange)
        return exchange

    def told(self, state: State | None = None, labels: Labels | None = None, lag: float = 0.0) -> dict[Any, float]:
        """What is told: values by name and labels."""
        made = families("traefik", labels or Labels(True, True, True), self.traffic, state or State(0, 0.0), lag)
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in made
            for sample in family.samples
        }


class CountTests(TrafficCase):
    def test_kinds(self) -> None:
        """Requests are counted by what they have come to; what they took is in the bucket that it belongs to."""
        self.ended(seconds=0.1, received=3, sent=10)
        self.ended(seconds=0.5, sent=1, retries=2)
        self.ended(seconds=5.0)
        self.ended(503)
        kinds = {kind.status: tally for kind, tally in self.traffic.kinds()}
        self.assertEqual(kinds[200].counts, [1, 1, 1])
        self.assertEqual((kinds[200].received, kinds[200].sent, kinds[200].retries), (3, 11, 2))
        self.assertAlmostEqual(kinds[200].seconds, 5.6)
        self.assertEqual(kinds[503].requests, 1)

    def test_methods_that_clients_make_up(self) -> None:
        """Whatever clients send as a method, there are no more kinds for it than one."""
        for number in range(100):
            self.ended(method=b"BREW%d" % number)
        ((kind, tally),) = self.traffic.kinds()
        self.assertEqual((kind.method, tally.requests), ("EXTENSION_METHOD", 100))

    def test_client_gone(self) -> None:
        """A client that goes before it is answered is told as 499."""
        self.ended(0)
        ((kind, _),) = self.traffic.kinds()
        self.assertEqual(kind.status, 499)

    def test_internals(self) -> None:
        """The gate's own answers are not counted unless that is asked for."""
        self.ended(service="ping@internal")
        self.assertEqual(self.traffic.kinds(), [])
        self.traffic = Traffic(BOUNDS, True, now=self.clock.seconds)
        self.ended(service="ping@internal")
        self.traffic.keep({"r@swarm"}, {})
        self.assertEqual([kind.service for kind, _ in self.traffic.kinds()], ["ping@internal"])

    def test_gone_servers(self) -> None:
        """What a server had is no longer told by itself when it is gone; its service's sums never fall."""
        self.ended()
        self.ended(server="http://10.0.0.2:80")
        self.traffic.keep({"r@swarm"}, {"app@swarm": {"http://10.0.0.2:80"}})
        self.ended(server="http://10.0.0.2:80")
        self.assertEqual(
            sorted((kind.server, tally.requests) for kind, tally in self.traffic.kinds()),
            [("", 1), ("http://10.0.0.2:80", 2)],
        )
        self.traffic.keep(set(), {})
        ((kind, tally),) = self.traffic.kinds()
        self.assertEqual((kind.entry_point, kind.router, kind.service, tally.requests), ("web", "", "", 3))


class ChangesTests(TrafficCase):
    def changes(self) -> list[tuple[str, str, list[int]]]:
        return sorted((kind.service, kind.server, counts) for kind, counts in self.traffic.changes())

    def test_changes(self) -> None:
        """Each exchange is told once, and nothing of what had none."""
        self.ended(seconds=0.05)
        server = "http://10.0.0.1:80"
        self.assertEqual(self.changes(), [("app@swarm", server, [1, 0, 0])])
        self.assertEqual(self.changes(), [])
        self.ended(seconds=0.5)
        self.ended(seconds=0.5)
        self.ended(seconds=0.05, server="http://10.0.0.2:80")
        self.assertEqual(
            self.changes(), [("app@swarm", server, [0, 2, 0]), ("app@swarm", "http://10.0.0.2:80", [1, 0, 0])]
        )

    def test_gone_servers(self) -> None:
        """When a server is gone, as in a rolling update, what it had before is not told as if it were new."""
        self.ended(seconds=0.05)
        self.changes()
        self.ended(seconds=0.5)
        self.traffic.keep({"r@swarm"}, {"app@swarm": set()})
        self.assertEqual(self.changes(), [("app@swarm", "", [0, 1, 0])])
        self.ended(seconds=0.5, server="http://10.0.0.2:80")
        self.changes()
        self.traffic.keep({"r@swarm"}, {"app@swarm": set()})
        self.assertEqual(self.changes(), [])
        ((_, tally),) = self.traffic.kinds()
        self.assertEqual(tally.counts, [1, 2, 0])


class SummaryTests(TrafficCase):
    def kind(self, **more: Any) -> Kind:
        return Kind("web", "r@swarm", "app@swarm", "http://10.0.0.1:80", "GET", 200, "http")._replace(**more)

    def test_numbers(self) -> None:
        """Requests, errors, quantiles and those being answered are told of entry point, service and server."""
        counted = [(self.kind(), [8, 1, 0]), (self.kind(status=503, server=""), [0, 1, 0])]
        busy = InFlight({"web": 3}, {("app@swarm", "http://10.0.0.1:80"): 2, ("b@swarm", "http://10.0.0.2:80"): 0})
        told = summary(counted, BOUNDS, busy)
        whole = {"requests": 10, "errors": 1, "p50": 0.0625, "p95": 0.775, "p99": 0.955}
        self.assertEqual(told["entryPoints"], {"web": {**whole, "inFlight": 3}})
        self.assertEqual(told["services"], {"app@swarm": {**whole, "inFlight": 2}})
        (server,) = told["servers"]["app@swarm"].values()
        self.assertEqual((server["requests"], server["errors"], server["inFlight"]), (9, 0, 2))
        self.assertEqual((set(told["servers"]), told["others"]), ({"app@swarm"}, 0))

    def test_tunnels(self) -> None:
        """That a WebSocket was open for an hour does not make its service slow."""
        told = summary([(self.kind(status=101, protocol="websocket"), [0, 0, 1])], BOUNDS, InFlight())
        self.assertEqual([told["services"]["app@swarm"][name] for name in ("requests", "p50", "p99")], [1, 0.0, 0.0])

    def test_most(self) -> None:
        """Of too many services those are told that have errors, then those with most requests."""
        counted = [(self.kind(service=f"s{number}"), [number, 0, 0]) for number in range(1, 9)]
        counted.append((self.kind(service="s1", status=500), [1, 0, 0]))
        told = summary(counted, BOUNDS, InFlight(), most=3)
        self.assertEqual((list(told["services"]), told["others"]), (["s1", "s8", "s7"], 5))
        self.assertEqual(set(told["servers"]), {"s1", "s8", "s7"})

    def now(self, ask: Callable[[], Deferred[bytes]]) -> Any:
        """What a meter says, with no time in between."""
        told = ask()
        self.clock.advance(0.004)
        return json.loads(self.successResultOf(told))

    def test_meter(self) -> None:
        """Each second is told by itself, and all that there was beside it."""
        meter = Meter(
            self.traffic, InFlight, lambda: 1000.0 + self.clock.seconds(), self.clock.seconds, Turns(self.clock)
        )
        self.ended(seconds=0.05)
        self.clock.advance(1)
        told = self.now(meter.lately)
        self.assertEqual((round(told["at"], 1), round(told["seconds"], 1)), (1001.0, 1.0))
        self.assertEqual(told["services"]["app@swarm"]["requests"], 1)
        self.clock.advance(2)
        self.ended(seconds=0.5)
        self.ended(seconds=0.5)
        told = self.now(meter.lately)
        self.assertEqual((round(told["seconds"], 1), told["services"]["app@swarm"]["requests"]), (2.0, 2))
        self.assertEqual(self.now(meter.lately)["services"], {})
        self.ended(seconds=0.5)
        meter.begin()
        self.assertEqual(self.now(meter.lately)["services"], {})
        told = self.now(meter.altogether)
        self.assertEqual(
            (told["since"], round(told["seconds"], 1), told["entryPoints"]["web"]["requests"]), (1000.0, 3.0, 4)
        )

    def test_turns(self) -> None:
        """However many services there are, nothing is computed for longer than a turn, and once for all who ask."""
        for number in range(500):
            self.ended(seconds=0.05, service=f"s{number}", server=f"http://10.0.0.1:{number}")
        clock = Clock()
        busy = 0.0

        def seconds() -> float:
            # Each look at the clock takes some of a turn.
            nonlocal busy
            busy += 0.0001
            return Clock.seconds(clock) + busy

        clock.seconds = seconds  # type: ignore[method-assign]
        meter = Meter(self.traffic, InFlight, seconds, seconds, Turns(clock))
        told, other, longest = meter.altogether(), meter.altogether(), 0.0
        while not told.called:
            before = busy
            Clock.advance(clock, 0.01)
            longest = max(longest, busy - before)
        self.assertLess(longest, 0.005)
        self.assertGreater(busy, 0.02)
        self.assertIs(self.successResultOf(told), self.successResultOf(other))
        self.assertEqual(json.loads(self.successResultOf(meter.altogether())), json.loads(json.dumps(meter.told)))

    def test_quantile_of_nothing(self) -> None:
        """Without requests, and above the last bound, no number is made up."""
        self.assertEqual(quantiles(BOUNDS, [0, 0, 0], (0.5, 0.9)), [0.0, 0.0])
        self.assertEqual(quantiles(BOUNDS, [0, 0, 5], (0.5,)), [1.0])

    @given(st.lists(st.floats(0.0001, 60.0), min_size=1, max_size=50), st.sampled_from([0.5, 0.95, 0.99]))
    def test_quantile(self, times: list[float], share: float) -> None:
        """A quantile is in the bucket that the request of that rank is in, so it is wrong by its width at most."""
        counts = [0] * (len(FINE) + 1)
        for one in times:
            counts[bisect_left(FINE, one)] += 1
        exact = sorted(times)[math.ceil(share * len(times)) - 1]
        index = bisect_left(FINE, exact)
        (told,) = quantiles(FINE, counts, [share])
        self.assertGreaterEqual(told + 1e-6, FINE[index - 1] if index else 0.0)
        self.assertLessEqual(told, FINE[index] + 1e-6)


class FamiliesTests(TrafficCase):
    def test_names_and_labels(self) -> None:
        """Names and labels are Traefik's, and buckets are cumulative."""
        self.ended(seconds=0.05, received=3, sent=10)
        self.ended(seconds=0.5)
        told = self.told()
        labels = (("code", "200"), ("method", "GET"), ("protocol", "http"))
        for part, own in (
            ("entrypoint", (("entrypoint", "web"),)),
            ("router", (("router", "r@swarm"), ("service", "app@swarm"))),
            ("service", (("service", "app@swarm"),)),
        ):
            both = tuple(sorted(labels + own))
            self.assertEqual(told[f"traefik_{part}_requests_total", both], 2)
            self.assertEqual(told[f"traefik_{part}_requests_bytes_total", both], 3)
            self.assertEqual(told[f"traefik_{part}_responses_bytes_total", both], 10)
            for bound, count in (("0.1", 1), ("1.0", 2), ("+Inf", 2)):
                named = tuple(sorted((*both, ("le", bound))))
                self.assertEqual(told[f"traefik_{part}_request_duration_seconds_bucket", named], count)
            self.assertAlmostEqual(told[f"traefik_{part}_request_duration_seconds_sum", both], 0.55)

    def test_finer_bounds(self) -> None:
        """Bounds that only the API counts by are not told to Prometheus, and change nothing of what it is told."""
        self.traffic = Traffic(BOUNDS, now=self.clock.seconds, finer=(0.02, 0.3, 5.0))
        for seconds in (0.01, 0.05, 0.25, 0.5, 2.0, 9.0):
            self.ended(seconds=seconds)
        buckets = {
            dict(labels)["le"]: value
            for (name, labels), value in self.told().items()
            if name == "traefik_service_request_duration_seconds_bucket"
        }
        self.assertEqual(buckets, {"0.1": 2, "1.0": 4, "+Inf": 6})

    def test_grafana(self) -> None:
        """The dashboard for Grafana asks for nothing that there isn't."""
        self.ended()
        pair = authority().issue("a.example")
        state = State(1, 2.0, {"web": 3}, {"web": {"no Host": 2}}, {("app@swarm", "http://10.0.0.1:80"): (True, 4)})
        certificate = Certificate(pair.chain, pair.key, ("a.example",), 0.0, 1234.0)
        told = {name for name, _ in self.told(attrs.evolve(state, certificates=[certificate], look_age=1.0))}
        board = Path(__file__).parent.parent / "deploy" / "monitoring" / "grafana.json"
        asked = set(re.findall(r"traefik_[a-z_]+", board.read_text()))
        self.assertGreater(len(asked), 8)
        self.assertEqual(asked - told, set())

    def test_chosen_labels(self) -> None:
        """Metrics of entry points, routers and services are there only where they are asked for."""
        self.ended()
        names = {name for name, _ in self.told(labels=Labels(False, False, False))}
        self.assertEqual({name for name in names if "_requests_total" in name or "server_up" in name}, set())

    def test_state(self) -> None:
        """Connections, refusals, servers, certificates and the age of the last look are told."""
        pair = authority().issue("a.example")
        certificate = Certificate(pair.chain, pair.key, ("a.example",), 0.0, 1234.0)
        state = State(
            7,
            99.0,
            {"web": 3},
            {"web": {"no Host": 2}},
            {("app@swarm", "http://10.0.0.1:80"): (False, 4)},
            1,
            [certificate],
            0.25,
            {"limit@swarm": (True, 40, 2)},
            convergence=([("0.1", 3), ("0.5", 1), ("+Inf", 1)], 7.5),
        )
        told = self.told(state, lag=0.5)
        server = (("service", "app@swarm"), ("url", "http://10.0.0.1:80"))
        self.assertEqual(told["traefik_config_reloads_total", ()], 7)
        self.assertEqual(told["traefik_config_last_reload_success", ()], 99.0)
        self.assertEqual(told["traefik_open_connections", (("entrypoint", "web"), ("protocol", "TCP"))], 3)
        self.assertEqual(told["traefik_entrypoint_refused_total", (("entrypoint", "web"), ("reason", "no Host"))], 2)
        self.assertEqual(told["traefik_service_server_up", server], 0)
        self.assertEqual(told["traefik_service_server_in_flight", server], 4)
        self.assertEqual(told["traefik_draining_servers", ()], 1)
        self.assertEqual(told["traefik_rate_limit_redis_up", (("middleware", "limit@swarm"),)], 1)
        for by, count in (("redis", 40), ("gate", 2)):
            key = (("by", by), ("middleware", "limit@swarm"))
            self.assertEqual(told["traefik_rate_limit_redis_decisions_total", key], count)
        self.assertEqual(told["traefik_reactor_lag_seconds", ()], 0.5)
        self.assertEqual(told["traefik_swarm_look_age_seconds", ()], 0.25)
        for bound, count in (("0.1", 3), ("0.5", 4), ("+Inf", 5)):
            self.assertEqual(told["traefik_swarm_convergence_seconds_bucket", (("le", bound),)], count)
        self.assertEqual(told["traefik_swarm_convergence_seconds_sum", ()], 7.5)
        ((labels, value),) = [(key[1], value) for key, value in told.items() if key[0] == "traefik_tls_certs_not_after"]
        self.assertEqual((dict(labels)["sans"], value), ("a.example", 1234.0))


class ExpositionTests(TrafficCase):
    @given(
        st.lists(st.text('nN \\\n"{}=,\xe9'), min_size=2, max_size=2),
        st.text('nN \\\n"'),
        st.floats() | st.integers(-(10**12), 10**12),
    )
    def test_as_others_write_it(self, texts: list[str], help_: str, value: float) -> None:
        """Whatever labels, help and numbers there are, each octet is as prometheus_client writes it."""
        counter = CounterMetricFamily("requests", help_, labels=("url", "by"))
        counter.add_metric(texts, value)
        gauge = GaugeMetricFamily("up", help_, value)
        histogram = HistogramMetricFamily("seconds", help_, labels=("url", "by"))
        histogram.add_metric(texts, [("0.1", 1), ("+Inf", 2)], value)
        empty = GaugeMetricFamily("nothing", help_, labels=("url",))
        made = [counter, gauge, histogram, empty]

        class Made:
            def collect(self) -> Any:
                return made

        registry = CollectorRegistry()
        registry.register(Made())
        self.assertEqual(exposition(made), generate_latest(registry))


class LagTests(SynchronousTestCase):
    def test_lag(self) -> None:
        """A reactor that was busy is told as late, once."""
        clock = Clock()
        lag = ReactorLag(clock)
        lag.start()
        clock.advance(0.5)
        self.assertEqual(lag.take(), 0.0)
        clock.advance(2.0)
        clock.advance(0.0)
        self.assertEqual(lag.take(), 1.5)
        self.assertEqual(lag.take(), 0.0)
        lag.stop()
        self.assertEqual(clock.getDelayedCalls(), [])


class MetricsLeafTests(TrafficCase):
    def setUp(self) -> None:
        super().setUp()
        self.calls: list[tuple[Deferred[Any], Any]] = []
        tell = lambda: lambda: families("traefik", Labels(), self.traffic, State(1, 2.0), 0.0)  # noqa: E731
        self.leaf = MetricsLeaf(tell, self.in_thread, self.clock.seconds)

    def in_thread(self, call: Any, *given: Any) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        self.calls.append((deferred, lambda: call(*given)))
        return deferred

    def asked(self, method: str = "GET") -> Exchange:
        exchange = exchange_of("/metrics", method=method)
        self.leaf.serve(exchange)
        return exchange

    def scraped(self, method: str = "GET") -> MemoryClient:
        return client_of(self.asked(method))

    def end_thread(self) -> None:
        deferred, call = self.calls.pop()
        deferred.callback(call())

    def test_scrape(self) -> None:
        """What is written can be read by Prometheus, and who asks at the same moment is served by the same thread."""
        self.ended()
        first, second = self.scraped(), self.scraped()
        self.assertEqual((len(self.calls), first.status), (1, 0))
        self.end_thread()
        self.assertEqual((first.status, second.status), (200, 200))
        self.assertEqual(first.body, second.body)
        self.assertEqual(first.value(b"Content-Type"), b"text/plain; version=0.0.4; charset=utf-8")
        self.assertEqual(first.value(b"Cache-Control"), b"no-store")
        read = {family.name for family in text_string_to_metric_families(first.body.decode())}
        self.assertLessEqual({"traefik_entrypoint_requests", "python_info", "traefik_config_reloads"}, read)
        again = self.scraped()
        self.assertEqual((self.calls, again.body), ([], first.body))
        self.clock.advance(1)
        self.asked()
        self.assertEqual(len(self.calls), 1)

    def test_gone(self) -> None:
        """A scraper that goes away meanwhile hurts nobody else."""
        first, second = self.asked(), self.asked()
        first.client_gone()
        self.end_thread()
        self.assertEqual((client_of(first).status, client_of(first).body), (0, b""))
        self.assertTrue(client_of(second).body)

    def test_other_methods(self) -> None:
        """Only GET and HEAD are answered, HEAD without a body."""
        other = self.scraped("POST")
        self.assertEqual((other.status, other.value(b"Allow")), (405, b"GET, HEAD"))
        gate = MemoryGate()
        gate.leaf = self.leaf
        head = gate.client()
        head.receive(b"HEAD /metrics HTTP/1.1\r\nHost: a.example\r\n\r\n")
        self.end_thread()
        fields, _, body = head.take().partition(b"\r\n\r\n")
        self.assertTrue(fields.startswith(b"HTTP/1.1 200 OK\r\n"), fields)
        self.assertIn(b"Content-Length: %d" % len(self.scraped().body), fields)
        self.assertEqual(body, b"")

    def test_failed(self) -> None:
        """If it can't be written the scraper is told, and the next one asks again."""
        client = self.scraped()
        deferred, _ = self.calls.pop()
        deferred.errback(ValueError("no"))
        self.assertEqual(client.status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.asked()
        self.assertEqual(len(self.calls), 1)
