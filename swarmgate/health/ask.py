"""Asks servers over the network."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin, urlsplit

from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool, ResponseNeverReceived
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IPolicyForHTTPS

from swarmgate.dynamic.model import HealthCheck
from swarmgate.health.grpc import GrpcQuestion
from swarmgate.health.probe import USER_AGENT, Outcome, Probe, outcome_of, outcome_of_failure, outcome_of_grpc

#: Octets of an answer's body that are read to be polite to its server; of longer ones no more is wanted.
_READ_AT_MOST = 65536
_REDIRECTS_AT_MOST = 5
#: Questions that are under way at a time: of a Swarm that has just been seen all servers are asked at once.
_TOGETHER = 100


class Asker:
    """Asks probes, each over a connection of its own, which is what a client of the server would need."""

    def __init__(self, reactor: Any, policy: IPolicyForHTTPS | None = None) -> None:
        """
        :param policy: how servers that speak TLS are verified; by name and the system's authorities if it isn't given.
        """
        self._reactor = reactor
        # The probe's own timeout ends a connect that hangs.
        pool = HTTPConnectionPool(reactor, persistent=False)
        agent = Agent(reactor, policy or BrowserLikePolicyForHTTPS(), pool=pool)
        # What one server wants to be remembered is none of the others' business.
        nobody = IndexableCookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
        self._client = HTTPClient(agent, cookiejar=nobody)
        self._places = DeferredSemaphore(_TOGETHER)

    def __call__(self, check: HealthCheck, probe: Probe) -> Deferred[Outcome]:
        """The outcome of *probe*; it never fails, unless it is cancelled, and then an outcome says nothing."""
        return self._places.run(self._ask, check, probe)

    def _ask(self, check: HealthCheck, probe: Probe) -> Deferred[Outcome]:
        asking: Deferred[Outcome] = self._grpc(probe) if probe.mode == "grpc" else self._http(check, probe)
        asking.addTimeout(probe.timeout, self._reactor, lambda result, timeout: outcome_of_failure(probe, None))
        asking.addErrback(self._no_answer, probe)
        return asking

    def _http(self, check: HealthCheck, probe: Probe) -> Deferred[Outcome]:
        headers = Headers({"Host": [probe.authority], "User-Agent": [USER_AGENT]})
        for name, value in probe.fields:
            headers.setRawHeaders(name, [value])
        return self._request(check, probe, probe.url, headers, _REDIRECTS_AT_MOST if probe.follow_redirects else 0)

    def _request(
        self, check: HealthCheck, probe: Probe, url: str, headers: Headers, redirects: int
    ) -> Deferred[Outcome]:
        asking: Deferred[Any] = self._client.request(
            probe.method, url, headers=headers, allow_redirects=False, unbuffered=True
        )

        def answered(response: Any) -> Outcome | Deferred[Outcome]:
            there = _redirected(url, response) if redirects else ""
            if response.length is UNKNOWN_LENGTH or response.length:
                response.deliverBody(_Unread(self._reactor, probe.timeout))
            if there:
                return self._request(check, probe, there, headers, redirects - 1)
            return outcome_of(check, probe, response.code)

        return asking.addCallback(answered)

    def _grpc(self, probe: Probe) -> Deferred[Outcome]:
        question = GrpcQuestion(probe.authority)
        endpoint = HostnameEndpoint(self._reactor, probe.host, probe.port, timeout=probe.timeout)
        connecting: Deferred[Any] = connectProtocol(endpoint, question)
        connecting.addCallback(lambda _: question.answer)
        connecting.addCallback(lambda told: outcome_of_grpc(probe, *told))
        return connecting

    def _no_answer(self, failure: Failure, probe: Probe) -> Outcome | Failure:
        if failure.check(defer.CancelledError, ConnectingCancelledError):
            return failure
        error = failure.value
        if isinstance(error, ResponseNeverReceived) and error.reasons:
            error = error.reasons[0].value
        return outcome_of_failure(probe, error if isinstance(error, Exception) else None)


def _redirected(url: str, response: Any) -> str:
    """Where a redirect leads to, ``""`` if it is none or leads to somebody else.

    A server could else have the gate ask whomever it likes, from where only the gate can reach them; its redirect to
    elsewhere is then the answer.
    """
    location = (response.headers.getRawHeaders("location") or [""])[0]
    if response.code not in (301, 302, 303, 307, 308) or not location:
        return ""
    there = urljoin(url, location)
    return there if urlsplit(there)[:2] == urlsplit(url)[:2] else ""


class _Unread(Protocol):
    """Reads a short body to its end, and ends the connection of a long or a slow one."""

    def __init__(self, reactor: Any, timeout: float) -> None:
        self._seen = 0
        self._too_late = reactor.callLater(timeout, self._break_off)

    def dataReceived(self, data: bytes) -> None:
        self._seen += len(data)
        if self._seen > _READ_AT_MOST:
            self._break_off()

    def connectionLost(self, reason: Any = None) -> None:
        if self._too_late.active():
            self._too_late.cancel()

    def _break_off(self) -> None:
        self._seen = 0
        if self.transport is not None:
            self.transport.loseConnection()
