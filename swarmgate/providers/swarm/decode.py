"""From what the Docker API answers to the values of :mod:`.snapshot`.

The lists can be large (a task is 2 to 5 kB of JSON, and there may be thousands), are asked for every second, and
hardly change from one time to the next. To parse such an answer as a whole holds the interpreter's lock all the time,
in whichever thread it is done, and so stops the traffic: 70 to 85 ms for 5,000 tasks, 9 MB. :class:`ListDecoder` cuts
the list into its elements by their text, recognises those that it has seen before by their id and version (the head of
each element; Swarm raises the version with every change), parses only the others, and lets other threads run in
between. With one task in a hundred changed, on the same machine, a look at 5,000 tasks takes 25 ms of processor time
all in all, and the reactor waits 3 ms at most.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from swarmgate.providers.swarm.snapshot import Address, Network, Node, Port, SwarmService, Task, UpdateStatus

V = TypeVar("V")

# Swarm's objects begin with these two fields, in this order.
_HEAD = re.compile(rb'\{"ID":"([^"\\]+)","Version":\{"Index":(\d+)\}')
_SLICE = 16  # elements between two chances for other threads


class ListDecoder(Generic[V]):
    """Decodes one kind of list, answer after answer. Not for several threads at a time.

    :param decode: makes the value of one element; whatever it raises becomes ``fault(element, reason)``, which may
        raise ValueError to give up on the whole list.
    :param first: the field that the engine begins each element with. An object inside an element that begins with it
        as well follows a colon, and quotes in strings are escaped; so the text between two elements is found nowhere
        else. Should an engine ever do otherwise, what is cut out is no JSON, and the list is parsed as a whole.
    """

    def __init__(self, decode: Callable[[Any], V], fault: Callable[[Any, str], V], first: str = "ID") -> None:
        self._decode = decode
        self._fault = fault
        self._between = b'},{"%s":"' % first.encode()
        self._known: dict[bytes, tuple[str, V]] = {}

    def __call__(self, body: bytes) -> tuple[V, ...]:
        """Return the values of a JSON list's elements, sorted by id.

        :raises ValueError: it is no JSON list of objects with an id.
        """
        known: dict[bytes, tuple[str, V]] = {}
        try:
            for number, (begin, end) in enumerate(elements(body, self._between)):
                match = _HEAD.match(body, begin, end)
                head = match.group() if match else b"%d" % number
                found = self._known.get(head) if match else None
                known[head] = found or self._element(json.loads(body[begin:end]))
                if number % _SLICE == _SLICE - 1:
                    time.sleep(0)  # hands over the interpreter's lock to whoever waits for it
        except (ValueError, RecursionError):
            known = {b"%d" % number: self._element(element) for number, element in enumerate(whole(body))}
        self._known = known
        return tuple(value for _, value in sorted(known.values(), key=_by_id))

    def _element(self, element: Any) -> tuple[str, V]:
        if not isinstance(element, dict) or not isinstance(identity := element.get("ID", element.get("Id")), str):
            raise ValueError("expected a list of objects that have an ID")
        try:
            return identity, self._decode(element)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return identity, self._fault(element, f"{type(error).__name__}: {error}")


def _by_id(pair: tuple[str, Any]) -> str:
    return pair[0]


def elements(body: bytes, between: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each element of a JSON list of objects begins and ends, found by the text ``between`` two of them.

    :raises ValueError: it is no list.
    """
    at, end = body.find(b"[") + 1, body.rfind(b"]")
    if not at or end < at or body[: at - 1].strip() or body[end + 1 :].strip():
        raise ValueError("expected a JSON list")
    if not body[at : at + 1].strip(b"]"):
        return
    while at < end:
        found = body.find(between, at, end)
        stop = found + 1 if found >= 0 else end
        yield at, stop
        at = stop + 1


def whole(body: bytes) -> list[Any]:
    """Return a JSON list, parsed in one go; ``null`` is Go's way to write an empty one.

    :raises ValueError: it is something else.
    """
    try:
        told = json.loads(body)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if told is not None and not isinstance(told, list):
        raise ValueError(f"expected a list, not {type(told).__name__}")
    return told or []


def service_from(told: Any) -> SwarmService:
    """Return a service as ``GET /services`` tells of it.

    :raises KeyError, TypeError, ValueError: it is told in a way that this does not know.
    """
    spec = told["Spec"]
    template = spec.get("TaskTemplate") or {}
    endpoint = told.get("Endpoint") or {}
    # Engines before API 1.25 knew networks of the service itself; stacks made then may still run.
    attached = template.get("Networks") or spec.get("Networks") or ()
    container = template.get("ContainerSpec") or {}
    ports = endpoint.get("Ports") or (spec.get("EndpointSpec") or {}).get("Ports") or ()
    replicated = (spec.get("Mode") or {}).get("Replicated")
    return SwarmService(
        id=told["ID"],
        name=spec["Name"],
        version=(told.get("Version") or {}).get("Index", 0),
        created=nanoseconds(told.get("CreatedAt") or ""),
        labels=tuple(sorted((str(name), str(value)) for name, value in (spec.get("Labels") or {}).items())),
        image=container.get("Image", ""),
        networks=tuple(sorted(network["Target"] for network in attached)),
        endpoint_mode=(spec.get("EndpointSpec") or {}).get("Mode") or "vip",
        vips=addresses_from((vip["NetworkID"], vip.get("Addr")) for vip in endpoint.get("VirtualIPs") or ()),
        ports=tuple(
            sorted(
                (
                    Port(
                        port.get("TargetPort") or 0,
                        port.get("PublishedPort") or 0,
                        port.get("PublishMode") or "ingress",
                        port.get("Protocol") or "tcp",
                    )
                    for port in ports
                ),
                key=lambda port: (port.target, port.published, port.mode, port.protocol),
            )
        ),
        replicas=None if replicated is None else replicated.get("Replicas", 0),
        container_labels=tuple(
            sorted((str(name), str(value)) for name, value in (container.get("Labels") or {}).items())
        ),
        has_health_check=bool((container.get("Healthcheck") or {}).get("Test")),
        spec=digest_of(template),
        update=update_from(told.get("UpdateStatus") or {}),
    )


def update_from(told: Any) -> UpdateStatus | None:
    """Return how far a service's last update is, None where nothing is told of one."""
    if not told.get("State"):
        return None
    return UpdateStatus(
        told["State"],
        told.get("Message") or "",
        max(0, nanoseconds(told.get("StartedAt") or "")),
        max(0, nanoseconds(told.get("CompletedAt") or "")),
    )


def task_from(told: Any) -> Task:
    """Return a task as ``GET /tasks`` tells of it.

    :raises KeyError, TypeError, ValueError: it is told in a way that this does not know.
    """
    status = told.get("Status") or {}
    state = status.get("State") or ""
    container = status.get("ContainerStatus") or {}
    has_failed = state in ("failed", "rejected")
    attachments = told.get("NetworksAttachments") or ()
    return Task(
        id=told["ID"],
        service_id=told["ServiceID"],
        slot=told.get("Slot") or 0,
        node_id=told.get("NodeID") or "",
        state=state,
        container=container.get("ContainerID") or "",
        error=status.get("Err") or "",
        exit_code=container.get("ExitCode") if state in ("failed", "complete") else None,
        ended=nanoseconds(status.get("Timestamp") or "") if has_failed else 0,
        spec=digest_of(told.get("Spec") or {}),
        addresses=addresses_from(
            (attachment["Network"]["ID"], address)
            for attachment in attachments
            for address in attachment.get("Addresses") or ()
        ),
    )


def digest_of(template: Any) -> str:
    """Return what tells a task's or a service's template (``TaskSpec``) from others, ``""`` for none.

    Two fields are left out: where tasks may be placed, as a task that may stay where it is outlives such an update, and
    ``Runtime``, which the engine tells of services alone.
    """
    told = {name: value for name, value in template.items() if name not in ("Placement", "Runtime")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12] if told else ""


def network_from(told: Any) -> Network:
    """Return a network as ``GET /networks`` tells of it.

    :raises KeyError, TypeError, ValueError: it is told in a way that this does not know.
    """
    return Network(told["Id"], told["Name"], told.get("Driver") or "", bool(told.get("Ingress")))


def node_from(told: Any) -> Node:
    """Return a node as ``GET /nodes`` tells of it.

    :raises KeyError, TypeError, ValueError: it is told in a way that this does not know.
    """
    return Node(
        told["ID"],
        (told.get("Description") or {}).get("Hostname") or "",
        (told.get("Spec") or {}).get("Availability") or "active",
        (told.get("Status") or {}).get("State") or "unknown",
        (told.get("Spec") or {}).get("Role") or "worker",
        bool((told.get("ManagerStatus") or {}).get("Leader")),
    )


def addresses_from(told: Any) -> tuple[Address, ...]:
    """Return pairs of a network's id and an address with its prefix (``10.0.1.5/24``) as addresses, sorted.

    Of several in one network the first is taken; pairs without an address (the host network's) are left out.
    """
    found: dict[str, str] = {}
    for network, address in told:
        if address:
            found.setdefault(network, address.partition("/")[0])
    return tuple(Address(network, ip) for network, ip in sorted(found.items()))


def nanoseconds(timestamp: str) -> int:
    """Return RFC 3339's ``2026-01-31T12:00:00.123456789Z`` as nanoseconds since 1970; 0 for ``""``.

    :raises ValueError: it is no such time.
    """
    if not timestamp:
        return 0
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", timestamp)
    if match is None:
        raise ValueError(f"expected a time as 2026-01-31T12:00:00Z, not {timestamp!r}")
    seconds, fraction, zone = match.groups()
    moment = datetime.datetime.fromisoformat(seconds + ("+00:00" if zone == "Z" else zone))
    return int(moment.timestamp()) * 1_000_000_000 + int((fraction or "").ljust(9, "0"))


def service_fault(told: Any, reason: str) -> SwarmService:
    """Return what stands for a service that can't be read."""
    spec = told.get("Spec")
    name = spec.get("Name") if isinstance(spec, dict) else None
    return SwarmService(told["ID"], name if isinstance(name, str) else told["ID"], fault=reason)


def task_fault(told: Any, reason: str) -> Task:
    """Return what stands for a task that can't be read.

    :raises ValueError: not even its service is known.
    """
    if not isinstance(told.get("ServiceID"), str):
        raise ValueError(f"task {told['ID']} has no readable ServiceID")
    return Task(told["ID"], told["ServiceID"], fault=reason)


def refuse(told: Any, reason: str) -> Any:
    """Give up on a list, one element of which can't be read.

    :raises ValueError: always.
    """
    raise ValueError(f"{told.get('ID', told.get('Id'))} can't be read: {reason}")
