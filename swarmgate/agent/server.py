"""Answers for an agent: ``/usage`` to gates, ``/metrics`` to Prometheus, ``/ping`` to health checks."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from swarmgate.agent.containers import Containers
from swarmgate.agent.document import Document, NodeCounters, encoded
from swarmgate.agent.metrics import families
from swarmgate.agent.proof import is_proof

_log = Logger("swarmgate")

_FRESH = 1.0  # Seconds for which a sample is told again: many may ask.
_LONGEST_TOKEN = 4096


def read_token(path: str) -> bytes:
    """The token in a file, without white space around it; ``b""`` if there is no path.

    :raises OSError: it can't be read.
    :raises ValueError: it has none; the text says what was expected.
    """
    if not path:
        return b""
    with Path(path).open("rb") as file:
        token = file.read(_LONGEST_TOKEN).strip()
    if len(token) < 16 or not token.isascii() or any(octet <= 32 for octet in token):
        raise ValueError(f'"{path}": expected a file with a text of at least 16 ASCII characters without spaces')
    return token


@attrs.frozen
class Sample:
    """What was found at one moment."""

    document: Document
    containers: Containers


class Sampler:
    """Looks at the node and its containers when somebody asks, once a second at most.

    :param node: looks at the node, in a thread.
    :param look: looks at the containers, given how much memory the node has.
    :param wall: seconds since 1970, and *seconds*: of a clock that never goes back.
    """

    def __init__(
        self,
        node: Callable[[], Deferred[NodeCounters]],
        look: Callable[[int], Deferred[Containers]],
        wall: Callable[[], float],
        seconds: Callable[[], float],
    ) -> None:
        self._node = node
        self._look = look
        self._wall = wall
        self._seconds = seconds
        self._last: Sample | None = None
        self._until = 0.0
        self._waiting: list[Deferred[Sample]] = []
        self._fault = ""

    def sample(self) -> Deferred[Sample]:
        """What there is; it fails with :exc:`OSError` if the node can't be looked at."""
        waiting: Deferred[Sample] = Deferred()
        if self._last is not None and self._seconds() < self._until:
            waiting.callback(self._last)
            return waiting
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            self._node().addCallback(self._looked).addCallbacks(self._arrived, self._failed)
        return waiting

    def _looked(self, node: NodeCounters) -> Deferred[Sample]:
        at, seconds = self._wall(), self._seconds()

        def told(containers: Containers) -> Sample:
            if containers.fault != self._fault:
                self._fault = containers.fault
                if self._fault:
                    _log.error("containers are not told of: {reason}", reason=self._fault)
                else:
                    _log.info("containers are told of again")
            document = Document(at, seconds, node, containers.counters, containers.fault[:500])
            return Sample(document, containers)

        return self._look(node.memory_total).addCallback(told)

    def _arrived(self, sample: Sample) -> None:
        self._last, self._until = sample, self._seconds() + _FRESH
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(sample)

    def _failed(self, failure: Any) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.errback(failure)


class AgentResource(Resource):
    """What an agent answers.

    :param name: of the node, as metrics call it.
    :param token: that whoever asks has to know, ``b""`` for none. ``/ping`` needs none.
    :param wall: seconds since 1970.
    """

    isLeaf = True

    def __init__(self, sampler: Sampler, name: str, token: bytes, wall: Callable[[], float]) -> None:
        Resource.__init__(self)
        self._sampler = sampler
        self._name = name
        self._token = token
        self._wall = wall
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)

    def render(self, request: Any) -> Any:
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD")
            return self._answer(request, 405, b"expected GET or HEAD\n")
        path = request.path
        if path == b"/ping":
            return self._answer(request, 200, b"OK")
        if path not in (b"/usage", b"/metrics"):
            return self._answer(request, 404, b"there are /usage, /metrics and /ping\n")
        if self._token and not self._knows_token(request):
            request.setHeader(b"WWW-Authenticate", b'Bearer realm="swarmgate"')
            return self._answer(
                request, 401, b"expected the token of agent.tokenFile, or what a gate makes of it now\n"
            )
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def told(status: int, body: bytes, kind: bytes) -> None:
            if not gone:
                request.write(self._answer(request, status, body, kind))
                request.finish()

        def failed(failure: Any) -> None:
            _log.failure("the node can't be looked at", failure)
            told(503, b"the node can't be looked at: the agent's log says why\n", b"text/plain")

        write = self._usage if path == b"/usage" else self._metrics
        self._sampler.sample().addCallback(lambda sample: told(200, *write(sample))).addErrback(failed)
        return NOT_DONE_YET

    def _knows_token(self, request: Any) -> bool:
        given = request.getHeader(b"authorization") or b""
        if hmac.compare_digest(given, b"Bearer " + self._token):
            return True
        own = request.getHost()
        return is_proof(given, self._token, own.host, own.port, self._wall())

    @staticmethod
    def _usage(sample: Sample) -> tuple[bytes, bytes]:
        return encoded(sample.document), b"application/json"

    def _metrics(self, sample: Sample) -> tuple[bytes, bytes]:
        registry = CollectorRegistry()
        registry.register(_Told(list(families(self._name, sample.document, sample.containers))))
        body: bytes = generate_latest(registry) + generate_latest(self._process)
        return body, b"text/plain; version=0.0.4; charset=utf-8"

    @staticmethod
    def _answer(request: Any, status: int, body: bytes, kind: bytes = b"text/plain") -> bytes:
        request.setResponseCode(status)
        request.setHeader(b"Content-Type", kind)
        request.setHeader(b"Cache-Control", b"no-store")
        request.setHeader(b"Content-Length", b"%d" % len(body))
        return b"" if request.method == b"HEAD" else body


class _Told:
    """A collector of prometheus_client for what has been told."""

    def __init__(self, told: list[Metric]) -> None:
        self._told = told

    def collect(self) -> list[Metric]:
        return self._told
