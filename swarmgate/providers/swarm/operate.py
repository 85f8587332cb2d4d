"""What of a Swarm is changed and read beside its routing: operations, and what services log.

How they are asked for is in :mod:`.engine`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import unquote_plus

import attrs

from swarmgate.providers.swarm.interface import Refused

Kind = Literal["scale", "restart", "rollback", "drain", "activate"]
OF_NODES = ("drain", "activate")
_LONGEST_LINE = 16 * 1024  # Characters; Docker itself cuts lines there.


@attrs.frozen
class Operation:
    """A change of a Swarm.

    :ivar name: of the service, or the host name of the node; an id will do.
    :ivar replicas: how many tasks there shall be, for ``scale``.
    """

    kind: Kind
    name: str
    replicas: int = 0

    @property
    def is_of_node(self) -> bool:
        """Whether *name* is a node's."""
        return self.kind in OF_NODES

    def __str__(self) -> str:
        return f"{self.kind} {self.name}{f' to {self.replicas}' if self.kind == 'scale' else ''}"


def changed(told: Mapping[str, Any], operation: Operation) -> tuple[dict[str, Any], dict[str, str]]:
    """The specification and the further query that the Docker API's update is asked with.

    :param told: what it tells of the service or node (``GET /services/ID``, ``GET /nodes/ID``).
    :raises Refused: the operation makes no sense for it.
    :raises KeyError, TypeError: it is told in a way that this does not know.
    """
    spec = dict(told["Spec"])
    if operation.is_of_node:
        return {**spec, "Availability": "drain" if operation.kind == "drain" else "active"}, {}
    if operation.kind == "rollback":
        return spec, {"rollback": "previous"}
    if operation.kind == "restart":
        template = dict(spec["TaskTemplate"])
        template["ForceUpdate"] = (template.get("ForceUpdate") or 0) + 1
        return {**spec, "TaskTemplate": template}, {}
    mode = spec.get("Mode") or {}
    if "Replicated" not in mode:
        raise Refused(400, f"{operation.name} can't be scaled: its mode is {', '.join(mode) or 'unknown'}")
    return {**spec, "Mode": {"Replicated": {**(mode["Replicated"] or {}), "Replicas": operation.replicas}}}, {}


@attrs.frozen
class LogLine:
    """A line that a task has logged.

    :ivar time: as the engine tells it, RFC 3339 in UTC.
    :ivar task: its id; ``node``: its node's.
    :ivar stream: ``stdout`` or ``stderr``.
    """

    time: str
    task: str
    node: str
    stream: str
    text: str


@attrs.frozen
class Log:
    """The last lines of a service, oldest first.

    :ivar is_complete: False: a node did not answer in time, or there was too much.
    """

    lines: tuple[LogLine, ...] = ()
    is_complete: bool = True


def log_lines(data: bytes) -> Iterator[LogLine]:
    """The lines in what ``GET /services/ID/logs`` answers with ``timestamps`` and ``details``.

    It is multiplexed (Docker API, ``ContainerAttach``), or just text for services with a terminal. What was cut off at
    the end is left out.
    """
    for stream, payload in _payloads(data):
        for line in payload.splitlines():
            time, _, rest = line.partition(b" ")
            details, space, text = rest.partition(b" ")
            found = {
                unquote_plus(key): unquote_plus(value)
                for key, _, value in (pair.partition("=") for pair in details.decode("utf-8", "replace").split(","))
            }
            task = found.get("com.docker.swarm.task.id", "")
            if not task or not space:
                text = rest
            yield LogLine(
                time.decode("ascii", "replace"),
                task,
                found.get("com.docker.swarm.node.id", ""),
                "stderr" if stream == 2 else "stdout",
                text.decode("utf-8", "replace")[:_LONGEST_LINE],
            )


def _payloads(data: bytes) -> Iterator[tuple[int, bytes]]:
    if data[:1] not in (b"\0", b"\1", b"\2") or data[1:4] != b"\0\0\0":
        yield 1, data
        return
    at = 0
    while at + 8 <= len(data):
        stream, size = struct.unpack_from(">BxxxI", data, at)
        if at + 8 + size > len(data):
            return
        yield stream, data[at + 8 : at + 8 + size]
        at += 8 + size
