"""The traffic of several replicas, added up: histograms bucket by bucket. Pure, in steps that can be interrupted."""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

from swarmgate.observe.summary import busiest, quantiles
from swarmgate.replicas.document import Counted, Document, Place


def rebucketed(counts: Sequence[int], bounds: Sequence[float], wanted: Sequence[float]) -> Sequence[int]:
    """What was counted by *bounds*, by others: each bucket goes where its upper bound belongs.

    Replicas have other bounds only while an update of ``metrics.prometheus.buckets`` is under way.
    """
    if bounds == wanted:
        return counts
    found = [0] * (len(wanted) + 1)
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        found[bisect_left(wanted, bound)] += count
    return found


def adding(documents: Iterable[Document], bounds: tuple[float, ...]) -> Generator[None, None, dict[Place, Counted]]:
    """What documents tell together, counted by *bounds*."""
    sums: dict[Place, Counted] = {}
    for document in documents:
        for place, one in document.places.items():
            counts = rebucketed(one.counts, document.bounds, bounds)
            so_far = sums.get(place)
            if so_far is None:
                sums[place] = Counted(one.requests, one.errors, one.in_flight, counts)
            else:
                sums[place] = Counted(
                    so_far.requests + one.requests,
                    so_far.errors + one.errors,
                    so_far.in_flight + one.in_flight,
                    [*map(operator.add, so_far.counts, counts)],
                )
            yield
    return sums


def subtracting(now: Document, before: Document) -> Generator[None, None, Document]:
    """What has come to *before* until *now*. Of a replica that has begun anew, it is all that it tells.

    What a server had that is gone is counted by its service from then on, so differences may be below zero: those are
    none.
    """
    if now.since != before.since or now.bounds != before.bounds:
        return now
    places: dict[Place, Counted] = {}
    for place, one in now.places.items():
        old = before.places.get(place)
        if old is None:
            places[place] = one
        elif one.requests > old.requests or one.in_flight:
            counts = [max(0, count) for count in map(operator.sub, one.counts, old.counts)]
            places[place] = Counted(
                max(0, one.requests - old.requests), max(0, one.errors - old.errors), one.in_flight, counts
            )
        yield
    return Document(now.at, now.since, now.seconds - before.seconds, now.bounds, places)


def telling(
    sums: Mapping[Place, Counted], bounds: Sequence[float], most: int | None = None, with_counts: bool = False
) -> Generator[None, None, dict[str, Any]]:
    """Sums as :func:`swarmgate.observe.summary.summing` has them.

    :param most: how many services are told of at most, those with errors first, then by requests.
    """

    def told(one: Counted) -> dict[str, Any]:
        p50, p95, p99 = quantiles(bounds, one.counts, (0.5, 0.95, 0.99))
        found: dict[str, Any] = {
            "requests": one.requests, "errors": one.errors, "p50": p50, "p95": p95, "p99": p99,
            "inFlight": one.in_flight,
        }  # fmt: skip
        if with_counts:
            found["counts"] = list(one.counts)
        return found

    entry_points: dict[str, Any] = {}
    services: dict[str, Counted] = {}
    servers: dict[str, dict[str, Counted]] = {}
    for (entry_point, service, server), one in sums.items():
        if entry_point:
            entry_points[entry_point] = told(one)
        elif server:
            servers.setdefault(service, {})[server] = one
        else:
            services[service] = one
        yield
    shown = busiest(services, most)
    of_services: dict[str, Any] = {}
    of_servers: dict[str, Any] = {}
    for name in shown:
        of_services[name] = told(services[name])
        if name in servers:
            of_servers[name] = {}
            for url, one in servers[name].items():
                of_servers[name][url] = told(one)
                yield
        yield
    return {
        "entryPoints": entry_points,
        "services": of_services,
        "servers": of_servers,
        "others": len(services) - len(of_services),
    }
