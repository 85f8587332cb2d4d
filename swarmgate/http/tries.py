"""One try of an exchange on a server, whatever HTTP it is asked in: who comes next, and how long it is waited for."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Protocol

from swarmgate.http.exchange import Exchange
from swarmgate.http.message import Response
from swarmgate.transport.network import ConnectTimeout

if TYPE_CHECKING:
    from swarmgate.http.upstream import Upstream

_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
#: Informational answers to one request.
INTERIM_AT_MOST = 16
#: How often a request without an answer is looked at, once that takes its time. Seconds.
LOOK_AGAIN = 0.5
#: How long a client that expects a 100 waits for the server's before it gets one from the gate (RFC 9110, 10.1.1).
CONTINUE_AFTER = 1.0


#: What a connect fails with where it is this machine that lacks something: descriptors, ports, memory.
_OWN = frozenset((errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM))


def is_own_fault(error: Exception) -> bool:
    """Whether a connect failed for what this process or machine lacks, so that it says nothing about the server."""
    return isinstance(error, OSError) and error.errno in _OWN


def status_of(error: Exception) -> int:
    """What a request is answered whose server could not be connected to."""
    if is_own_fault(error):
        return 503
    return 504 if isinstance(error, ConnectTimeout) else 502


class Chooser(Protocol):
    """Whoever has sent an exchange to an upstream and can send it to another."""

    #: Whether it wants to be told of answers.
    listens: bool

    def try_next(self, exchange: Exchange, status: int, was_sent: bool = False) -> None:
        """The server has not acted on the request, or may be asked twice: try another, or answer *status*.

        :param was_sent: it may have acted on it.
        """

    def has_next(self, exchange: Exchange) -> bool:
        """Whether there is another to try."""

    def share_of_time(self, exchange: Exchange) -> float:
        """The part of the time for a connection that this one may take: all tries together have no more than that."""

    def answered(self, exchange: Exchange, response: Response) -> None:
        """The server's answer begins, and has not been passed on yet. Called if it listens."""

    def broke(self, exchange: Exchange) -> None:
        """There will be no answer, or no whole one. Called if it listens."""


def may_be_repeated(exchange: Exchange) -> bool:
    """Whether a server may get the request though another may have acted on it (RFC 9110, 9.2.2)."""
    return exchange.request.method in _IDEMPOTENT and exchange.request.length == 0


def answer_due(upstream: Upstream) -> tuple[float, float]:
    """When the answer to a request that has just been sent must begin, and when it is looked at first if it has not.

    Both are times of the upstream's deadlines.
    """
    now = upstream.deadlines.now
    return now + upstream.response_timeout, now + upstream.silence_timeout


def tell_break(chooser: Chooser | None, exchange: Exchange) -> None:
    """There will be no answer, or no whole one: tell *chooser*, if it listens."""
    if chooser is not None and chooser.listens:
        chooser.broke(exchange)
