"""Keeps asking servers whether they are well, and tells of each change."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from swarmgate.dynamic.model import HealthCheck
from swarmgate.health.probe import Outcome, Probe, outcome_of_failure, probe_of

_log = Logger()
#: What an interval is lengthened by at most, so that servers that came together are not asked together for ever.
_JITTER = 0.05


@attrs.frozen
class Health:
    """What is known of a server.

    :ivar is_well: None before the first outcome.
    :ivar since: when that became so, seconds of the clock.
    """

    service: str
    url: str
    is_well: bool | None
    reason: str
    since: float


class Checker:
    """Asks the servers of all services that have a health check.

    :param ask: asks a probe; returns a Deferred with its outcome, which may be cancelled.
    :param changed: called with service, URL and whether the server is well, at the first outcome and at each change.
    :param chance: gives numbers from 0 to 1, for the jitter.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ask: Callable[[HealthCheck, Probe], Deferred[Outcome]],
        changed: Callable[[str, str, bool], object],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._ask = ask
        self._changed = changed
        self._chance = chance
        self._watched: dict[tuple[str, str], _Watch] = {}

    def watch(self, checks: Mapping[str, tuple[HealthCheck, Sequence[str]]]) -> None:
        """Watch these servers and no others; what is known of those that stay, stays.

        :param checks: check and servers' URLs of each service.
        """
        wanted = {(service, url): check for service, (check, urls) in checks.items() for url in urls}
        for key, watch in list(self._watched.items()):
            if wanted.get(key) != watch.check:
                del self._watched[key]
                watch.stop()
        for (service, url), check in wanted.items():
            if (service, url) not in self._watched:
                watch = self._watched[service, url] = _Watch(self, service, url, check)
                watch.probe()

    def state(self) -> list[Health]:
        """What is known of each server."""
        return [watch.health for watch in self._watched.values()]

    def stop(self) -> None:
        """Ask nobody any more."""
        self.watch({})

    def _seconds(self) -> float:
        return self._clock.seconds()

    def _later(self, watch: _Watch, seconds: float) -> IDelayedCall:
        return self._clock.callLater(seconds * (1 + _JITTER * self._chance()), watch.probe)


class _Watch:
    """One server of one service."""

    def __init__(self, checker: Checker, service: str, url: str, check: HealthCheck) -> None:
        self.check = check
        self.health = Health(service, url, None, "", checker._seconds())
        self._checker = checker
        self._probe = probe_of(check, url)
        self._asking: Deferred[Outcome] | None = None
        self._timer: IDelayedCall | None = None
        self._stopped = False

    def probe(self) -> None:
        """Ask now, and again after each outcome."""
        self._timer = None
        asking = self._checker._ask(self.check, self._probe)
        self._asking = asking
        asking.addErrback(self._failed)
        asking.addCallback(self._told)

    def stop(self) -> None:
        """Ask no more, and let go of what is under way."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._asking is not None:
            self._asking.cancel()

    def _failed(self, failure: Failure) -> Outcome:
        if not (self._stopped and failure.check(CancelledError)):
            _log.failure("a health check of {service} failed", failure=failure, service=self.health.service)
        error = failure.value
        return outcome_of_failure(self._probe, error if isinstance(error, Exception) else None)

    def _told(self, outcome: Outcome) -> None:
        self._asking = None
        if self._stopped:
            return
        check, before = self.check, self.health
        interval = check.interval if outcome.is_well else check.unhealthy_interval or check.interval
        self._timer = self._checker._later(self, interval)
        if before.is_well is outcome.is_well:
            self.health = attrs.evolve(before, reason=outcome.reason)
            return
        self.health = attrs.evolve(
            before, is_well=outcome.is_well, reason=outcome.reason, since=self._checker._seconds()
        )
        if not outcome.is_well:
            _log.warn(
                "service {service}: server {url} is not well: {reason}",
                service=before.service,
                url=before.url,
                reason=outcome.reason,
            )
        elif before.is_well is not None:
            _log.info("service {service}: server {url} is well again", service=before.service, url=before.url)
        self._checker._changed(before.service, before.url, outcome.is_well)
