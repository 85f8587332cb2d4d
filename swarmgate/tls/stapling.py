"""Keeps what authorities say about certificates, to be shown in handshakes (OCSP stapling, RFC 6066, 8).

No handshake waits for a responder: until there is an answer, and when the last one is no longer good, none is shown.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
from cryptography.exceptions import UnsupportedAlgorithm
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from swarmgate.dynamic.tls import Certificate
from swarmgate.tls.ocsp import OCSPError, Question, Staple, question_about, refresh_after, staple_of

_log = Logger("swarmgate.tls")

_TOGETHER = 4
_WITHIN = 10.0
_FIRST_PAUSE = 60.0
_LONGEST_PAUSE = 6 * 3600.0
#: Seconds between two questions about one certificate, however short its answers live.
_SHORTEST_PAUSE = 60.0

Fetch = Callable[[str, bytes], Deferred[bytes]]
"""Sends a request to a responder's URL; gives its answer's body, or fails. It can be cancelled."""


@attrs.define(eq=False)
class _Watched:
    """What is known of a certificate that names a responder."""

    certificate: Certificate
    question: Question | None = None
    staple: Staple | None = None
    failures: int = 0
    timer: Any = None
    asking: Deferred[bytes] | None = None


class Stapler:
    """Gets staples for the certificates that are served, and replaces them before they end.

    :param reactor: IReactorTime.
    :param overrides: URLs that are asked in place of those that certificates name (Traefik
        ``ocsp.responderOverrides``).
    :param wall: gives the time in seconds since 1970.
    :param chance: gives a number from 0 to 1.
    """

    def __init__(
        self,
        reactor: Any,
        fetch: Fetch,
        overrides: Mapping[str, str],
        wall: Callable[[], float],
        chance: Callable[[], float] = random.random,
    ) -> None:
        # Given.
        self._reactor = reactor
        self._fetch = fetch
        self._overrides = dict(overrides)
        self._wall = wall
        self._chance = chance
        # What is under way.
        self._watched: dict[Certificate, _Watched] = {}
        self._due: deque[_Watched] = deque()
        self._asking = 0
        self._turn: Any = None

    def watch(self, certificates: Iterable[Certificate]) -> None:
        """Have staples for *certificates* from now on, and for no others."""
        wanted = dict.fromkeys(certificates)
        for certificate in [one for one in self._watched if one not in wanted]:
            self._forget(self._watched.pop(certificate))
        for certificate in wanted:
            if certificate not in self._watched:
                watched = self._watched[certificate] = _Watched(certificate)
                self._due.append(watched)
        self._go_on()

    def staple(self, certificate: Certificate) -> bytes | None:
        """What clients of *certificate* are shown, DER; None for nothing."""
        watched = self._watched.get(certificate)
        staple = None if watched is None else watched.staple
        return None if staple is None or staple.until <= self._wall() else staple.response

    def stop(self) -> None:
        """Ask no more."""
        self.watch(())
        if self._turn is not None and self._turn.active():
            self._turn.cancel()

    @staticmethod
    def _forget(watched: _Watched) -> None:
        if watched.timer is not None and watched.timer.active():
            watched.timer.cancel()
        if watched.asking is not None:
            watched.asking.cancel()

    def _go_on(self) -> None:
        """Ask about the next one soon: to read a certificate takes its time, so it is one a turn."""
        if self._due and self._asking < _TOGETHER and (self._turn is None or not self._turn.active()):
            self._turn = self._reactor.callLater(0, self._next)

    def _next(self) -> None:
        watched = self._due.popleft()
        if self._watched.get(watched.certificate) is watched:
            if watched.question is None:
                watched.question = _question(watched.certificate)
            if watched.question is not None:
                self._ask(watched, watched.question)
        self._go_on()

    def _ask(self, watched: _Watched, question: Question) -> None:
        url = self._overrides.get(question.url, question.url)
        self._asking += 1
        watched.asking = asking = self._fetch(url, question.body)
        asking.addTimeout(_WITHIN, self._reactor)
        checking = asking.addCallback(lambda answer: staple_of(question, answer, self._wall()))
        pausing = checking.addCallbacks(self._got, self._failed, (watched,), errbackArgs=(watched, url))
        pausing.addCallback(self._done, watched)

    def _got(self, staple: Staple, watched: _Watched) -> float:
        watched.staple, watched.failures = staple, 0
        return max(refresh_after(staple, self._wall(), self._chance()), _SHORTEST_PAUSE)

    def _failed(self, failure: Failure, watched: _Watched, url: str) -> float:
        watched.failures += 1
        if self._watched.get(watched.certificate) is watched and watched.failures == 1:
            why = str(failure.value) if failure.check(OCSPError) else failure.getErrorMessage() or "no answer"
            _log.warn(
                "nothing to staple for the certificate of {origin}: {url}: {why}",
                origin=watched.certificate.origin,
                url=url,
                why=why,
            )
        pause: float = min(_FIRST_PAUSE * 2 ** min(watched.failures - 1, 20), _LONGEST_PAUSE)
        jitter: float = 0.75 + 0.5 * self._chance()
        return jitter * pause

    def _done(self, pause: float, watched: _Watched) -> None:
        self._asking -= 1
        watched.asking = None
        if self._watched.get(watched.certificate) is watched:
            watched.timer = self._reactor.callLater(pause, self._again, watched)
        self._go_on()

    def _again(self, watched: _Watched) -> None:
        self._due.append(watched)
        self._go_on()


def _question(certificate: Certificate) -> Question | None:
    try:
        return question_about(certificate.chain)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        _log.warn("nothing to staple for {origin}: {why}", origin=certificate.origin, why=str(error))
        return None
