"""What a replica tells another of its traffic: lines of JSON, so that reading them can be left and taken up again.

The first line is about all of them, each other one about an entry point, a service or a server. It comes from another
machine: :func:`reading` takes only what is exactly as it should be.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import attrs

#: Octets that a document has at most: enough for some 100,000 servers.
LONGEST = 16 * 1024 * 1024
_MOST_BOUNDS = 200
_LARGEST = 2**53


class BadDocument(ValueError):
    """What a replica has answered is no document of one; the text says what is wrong."""


@attrs.frozen
class Counted:
    """What was counted of an entry point, a service or a server.

    :ivar counts: how many took at most as long as each bound, without those before, and how many longer.
    """

    requests: int
    errors: int
    in_flight: int
    counts: Sequence[int]


#: What something is counted by: an entry point's name and ``("", "")``; ``""``, a service and ``""`` or a server's URL.
Place = tuple[str, str, str]


@attrs.frozen
class Document:
    """A replica's traffic since it has started.

    :ivar at: when it was so, and ``since``: when it has started, in seconds since 1970.
    :ivar seconds: how long that is.
    :ivar bounds: upper bounds in seconds that it counts by.
    """

    at: float
    since: float
    seconds: float
    bounds: tuple[float, ...]
    places: Mapping[Place, Counted] = attrs.field(factory=dict)


def document_of(told: Mapping[str, Any]) -> Generator[None, None, Document]:
    """The document of what :class:`~swarmgate.observe.summary.Meter` tells of all time."""
    places: dict[Place, Counted] = {}

    def put(place: Place, one: Mapping[str, Any]) -> None:
        places[place] = Counted(one["requests"], one["errors"], one["inFlight"], one["counts"])

    for name, one in told["entryPoints"].items():
        put((name, "", ""), one)
    for service, one in told["services"].items():
        put(("", service, ""), one)
        for url, server in told["servers"].get(service, {}).items():
            put(("", service, url), server)
            yield
        yield
    return Document(told["at"], told["since"], told["seconds"], tuple(told["bounds"]), places)


def writing(document: Document) -> Generator[None, None, bytes]:
    """*document* as it is sent."""
    lines = [json.dumps([document.at, document.since, document.seconds, document.bounds], separators=(",", ":"))]
    for place, one in document.places.items():
        # Most buckets are empty.
        some = [pair for pair in enumerate(one.counts) if pair[1]]
        lines.append(json.dumps([*place, one.requests, one.errors, one.in_flight, some], separators=(",", ":")))
        yield
    return "\n".join(lines).encode()


def reading(body: bytes) -> Generator[None, None, Document]:
    """The document that was sent.

    :raises BadDocument: it is none.
    """
    try:
        lines = body.split(b"\n")
        at, since, seconds, bounds = json.loads(lines[0])
        if not isinstance(bounds, list) or not 0 < len(bounds) <= _MOST_BOUNDS:
            raise ValueError("expected bounds")
        times = [_number(one) for one in (at, since, seconds, *bounds)]
        if times[3:] != sorted(set(times[3:])):
            raise ValueError("expected ascending bounds")
        places: dict[Place, Counted] = {}
        for line in lines[1:]:
            place, counted = _line(line, len(bounds) + 1)
            places[place] = counted
            yield
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadDocument(f"its answer can't be read: {str(error) or type(error).__name__:.200}") from error
    return Document(times[0], times[1], times[2], tuple(times[3:]), places)


def _line(line: bytes, buckets: int) -> tuple[Place, Counted]:
    entry_point, service, server, requests, errors, in_flight, some = json.loads(line)
    for name in (entry_point, service, server):
        if type(name) is not str:
            raise ValueError("expected names")
    if bool(entry_point) == bool(service) or (server and not service):
        raise ValueError("expected an entry point or a service")
    counts = [0] * buckets
    for index, count in some:
        if not 0 <= _count(index) < buckets:
            raise ValueError("expected a bucket")
        counts[index] = _count(count)
    return (entry_point, service, server), Counted(_count(requests), _count(errors), _count(in_flight), counts)


def _count(value: Any) -> int:
    # JSON's true is a number to Python.
    if type(value) is not int or not 0 <= value < _LARGEST:
        raise ValueError("expected a number of requests")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise ValueError("expected a number from 0 on")
    return float(value)
