"""One GET over HTTP whose answer is bounded in time and size: what agents, other replicas and an engine are asked by.

Twisted's own client does: there are no redirects to follow, no cookies to keep and nothing to be unpacked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    HTTPConnectionPool,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

_CONNECT_WITHIN = 5.0  # Seconds; whoever asks has a limit of their own.
_KEPT_FOR = 60  # Seconds that a connection waits for the next question.


class NoAnswer(Exception):
    """There is no answer that can be used; the text says why, for people."""


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Connects to what a URL names, or to a Unix socket in its place."""

    def __init__(self, reactor: Any, socket: str, source: Callable[[], str]) -> None:
        self._reactor = reactor
        self._socket = socket
        self._source = source

    def endpointForURI(self, uri: URI) -> Any:
        if self._socket:
            return UNIXClientEndpoint(self._reactor, self._socket, timeout=_CONNECT_WITHIN)
        host, source = uri.host.decode("ascii").strip("[]"), self._source()
        bind = (source, 0) if source else None
        return HostnameEndpoint(self._reactor, host, uri.port, timeout=_CONNECT_WITHIN, bindAddress=bind)


class Fetch:
    """Asks.

    :param socket: the path of a Unix socket that is asked, whatever URLs say; ``""`` for none.
    :param most: connections that are kept to the same place.
    :param source: gives the address of this machine that connections are made from, ``""`` for whichever the kernel
        takes.
    """

    def __init__(self, reactor: Any, socket: str = "", most: int = 1, source: Callable[[], str] = lambda: "") -> None:
        self._reactor = reactor
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = most
        self._pool.cachedConnectionTimeout = _KEPT_FOR
        self._agent = Agent.usingEndpointFactory(reactor, _Endpoints(reactor, socket, source), pool=self._pool)

    def __call__(
        self, url: str, *, seconds: float, longest: int, fields: Mapping[str, str] | None = None
    ) -> Deferred[bytes]:
        """The body of the answer of *url*, over HTTP without TLS.

        :param seconds: that all of it may take.
        :param longest: octets that it may have.

        Fails with :exc:`NoAnswer`.
        """
        headers = Headers({name: [value] for name, value in (fields or {}).items()})
        asking: Deferred[Any] = self._agent.request(b"GET", url.encode("ascii"), headers)
        asking.addCallback(_body_of, longest)
        asking.addTimeout(seconds, self._reactor, lambda *_: Failure(NoAnswer(f"no answer within {seconds:g} s")))
        return asking.addErrback(_told)

    def close(self) -> Deferred[Any]:
        """End the connections that are kept."""
        closing: Deferred[Any] = self._pool.closeCachedConnections()
        return closing


def _body_of(response: Any, longest: int) -> Deferred[bytes]:
    reading = _Body(response.code, longest)
    response.deliverBody(reading)
    return reading.read


class _Body(Protocol):
    """Reads a body to its end; of one that is too long, or that nobody waits for any more, it ends the connection."""

    def __init__(self, status: int, longest: int) -> None:
        self.read: Deferred[bytes] = Deferred(lambda _: self._break_off())
        self._status = status
        self._longest = longest
        self._body = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > self._longest and not self.read.called:
            self.read.errback(NoAnswer(f"its answer has more than {self._longest} octets"))
            self._break_off()

    def connectionLost(self, reason: Any = None) -> None:
        if self.read.called:
            return
        if reason is None or not reason.check(ResponseDone, PotentialDataLoss):
            self.read.errback(NoAnswer("it has closed the connection"))
        elif self._status != 200:
            text = bytes(self._body[:200]).decode("utf-8", "replace").strip()
            more = f": {text}" if text and text.isprintable() else ""
            self.read.errback(NoAnswer(f"it answers {self._status}{more}"))
        else:
            self.read.callback(bytes(self._body))

    def _break_off(self) -> None:
        self._body.clear()
        if self.transport is not None:
            self.transport.loseConnection()


def _told(failure: Failure) -> Failure:
    """What has gone wrong, as :exc:`NoAnswer`."""
    if failure.check(NoAnswer):
        return failure
    error: Any = failure.value
    if isinstance(error, ResponseFailed) and error.reasons:
        error = error.reasons[0].value
    if isinstance(error, ConnectError):
        why = error.args[0] if error.args and isinstance(error.args[0], str) else ""
        return Failure(NoAnswer(why.lower() or "it can't be connected to"))
    if isinstance(error, ConnectionClosed):
        return Failure(NoAnswer("it has closed the connection"))
    if isinstance(error, defer.CancelledError):
        return Failure(NoAnswer("nobody waits for its answer any more"))
    return Failure(NoAnswer(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__))
