"""What a parent, its fork server and its workers tell each other, as plain values between processes of one gate.

Each is pickled; on a worker's pipes, behind its length. A pickle can do whatever its writer wants: both ends are the
same program, started by the same user, and nobody else has the pipe.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.protocols.basic import Int32StringReceiver

from swarmgate.acme.challenge import Challenge
from swarmgate.config.model import StaticConfiguration
from swarmgate.dynamic.difference import TableDifference
from swarmgate.serving import Report

#: Octets of one message: a table of some 100,000 routers.
_LONGEST = 1 << 29


# From the parent.


@attrs.frozen
class Start:
    """Be ready to serve, by an empty table.

    :ivar number: of the worker, from 0.
    :ivar resources: the gate's own services that the parent answers for.
    :ivar ticket_secret: what the keys of session tickets are made of, which all workers have to be able to open.
    """

    number: int
    configuration: StaticConfiguration
    resources: Sequence[str]
    ticket_secret: bytes = attrs.field(repr=False)


@attrs.frozen
class Listen:
    """Accept clients.

    :ivar sockets: the sockets to do so on, by entry point: the places among those that the worker was forked with.
    """

    sockets: Mapping[str, Sequence[int]]


@attrs.frozen
class Apply:
    """Serve by another table."""

    changes: TableDifference = attrs.field(repr=False)


@attrs.frozen
class Judge:
    """Take what a health check says of a server."""

    service: str
    url: str
    is_well: bool


@attrs.frozen
class Know:
    """Know of the whole gate: its providers have been seen (*is_ready*), all its routers are known (*is_routed*)."""

    is_ready: bool
    is_routed: bool


@attrs.frozen
class Show:
    """Answer these challenges of authorities in handshakes, and no others."""

    challenges: Sequence[Challenge] = attrs.field(repr=False)


@attrs.frozen
class Staple:
    """Show these answers of authorities in handshakes, by the SHA-256 of each chain; the others as before."""

    responses: Mapping[bytes, bytes | None] = attrs.field(repr=False)


@attrs.frozen
class Reconfigure:
    """Put in force what needs no restart."""

    configuration: StaticConfiguration


@attrs.frozen
class ReopenLogs:
    """Log files were moved away."""


@attrs.frozen
class Drain:
    """Accept nobody any more, and end when what is under way is done."""


# From a worker.


@attrs.frozen
class Listening:
    """Clients are accepted."""


@attrs.frozen
class CannotStart:
    """They are not, and won't be."""

    reason: str


@attrs.frozen
class Tell:
    """How it goes; *traffic* is what was counted since this was last told, *lag* the longest of the reactor's."""

    report: Report
    traffic: Mapping[Any, Any] | None
    lag: float


# To the fork server, and from it: a packet each, with the descriptors of a worker beside a request for one.


@attrs.frozen
class Fork:
    """Fork a worker."""

    number: int


@attrs.frozen
class Forked:
    """It is there."""

    number: int
    process: int


@attrs.frozen
class CannotFork:
    """It is not, and won't be."""

    number: int
    reason: str


@attrs.frozen
class Ended:
    """A worker has ended; *code* is what it has exited with, negative for a signal."""

    number: int
    process: int
    code: int


class Messages(Int32StringReceiver):
    """Takes messages from what arrives, and writes messages, on a pipe.

    :param received: called with each message.
    :param lost: called when the other process has gone.
    """

    MAX_LENGTH = _LONGEST

    def __init__(self, received: Callable[[Any], object], lost: Callable[[], object] = lambda: None) -> None:
        self._received = received
        self._lost = lost

    def stringReceived(self, string: bytes) -> None:
        self._received(pickle.loads(string))  # noqa: S301 -- of our own other process

    def connectionLost(self, reason: object = None) -> None:
        self._lost()

    def send(self, message: Any) -> None:
        """Send *message*, one of this module's."""
        self.sendString(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))  # type: ignore[no-untyped-call]
