"""Load shedding: which share of new requests is refused while there are more of them than the gate can serve.

:func:`decide` is a function of values: the state before, what was measured, and the bounds. :class:`Guard` measures a
few times a second and tells whoever acts on the outcome.

* A share is refused, not everything: what the gate can serve is served, and it does not swing between all and nothing.
* The share grows fast and falls slowly, and is left as it is between half a bound and the whole of it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
from collections.abc import Callable
from pathlib import Path

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

_log = Logger("swarmgate")

REACTOR_LAG = "overload: reactor lag"
MEMORY = "overload: memory"

#: Seconds between two looks.
EVERY = 0.25
#: So many looks in a row must find the reactor late: a pause, or another after it, is no overload.
_LATE_FOR = 3
#: What the refused share grows by with each look that finds the reactor as late as it may be; more if it is later.
_GROWS_BY = 0.15
#: What it falls by with each look that finds it in time: from all to nothing in five seconds.
_FALLS_BY = 0.05
#: Memory above its bound, as a part of it, with which all new requests are refused.
_ALL_ABOVE = 0.1
#: The least share that is refused above the bound, so that refusing has an effect.
_AT_LEAST = 0.1
#: The part of the bound that memory has to come back to.
_CALM_BELOW = 0.95
#: The part of a container's memory that the gate may take by default: the rest is the kernel's, for its sockets.
_OF_THE_CONTAINER = 0.85
#: Limits above this mean none: cgroups of version 1 tell a number near 2**63.
_NO_LIMIT = 2**60


@attrs.frozen
class Bounds:
    """What the gate may come to.

    :ivar lag: seconds that the reactor may be late by; 0 for no bound.
    :ivar memory: octets that the process may take; 0 for no bound.
    """

    lag: float = 0.0
    memory: int = 0


@attrs.frozen
class Sample:
    """What was measured.

    :ivar lag: seconds that the reactor was late by.
    :ivar memory: octets of memory that the process takes, 0 if that is not known.
    """

    lag: float
    memory: int = 0


@attrs.frozen
class State:
    """How overloaded the gate is.

    :ivar for_lag: the share of new requests that is refused because the reactor is late, from 0 to 1.
    :ivar for_memory: the same because of memory.
    :ivar late: how many looks in a row have found the reactor later than its bound.
    """

    for_lag: float = 0.0
    for_memory: float = 0.0
    late: int = 0

    @property
    def share(self) -> float:
        """The share of new requests that is refused."""
        return max(self.for_lag, self.for_memory)

    @property
    def reason(self) -> str:
        """Why, as it is counted by; ``""`` if nothing is refused."""
        if not self.share:
            return ""
        return MEMORY if self.for_memory >= self.for_lag else REACTOR_LAG

    @property
    def refuses_all(self) -> bool:
        """Whether every new request is refused, so that new connections need not be taken either."""
        return self.share >= 1.0


def decide(state: State, sample: Sample, bounds: Bounds) -> State:
    """The state after *sample*."""
    late = state.late + 1 if bounds.lag and sample.lag > bounds.lag else 0
    return State(_for_lag(state, sample, bounds, late), _for_memory(state, sample, bounds), late)


def _for_lag(state: State, sample: Sample, bounds: Bounds, late: int) -> float:
    if not bounds.lag:
        return 0.0
    if late >= _LATE_FOR:
        return min(1.0, round(state.for_lag + _GROWS_BY * sample.lag / bounds.lag, 3))
    if sample.lag < bounds.lag / 2:
        return max(0.0, round(state.for_lag - _FALLS_BY, 3))
    return state.for_lag


def _for_memory(state: State, sample: Sample, bounds: Bounds) -> float:
    if not bounds.memory or sample.memory < _CALM_BELOW * bounds.memory:
        return 0.0
    if sample.memory <= bounds.memory:
        return min(state.for_memory, _AT_LEAST)
    above = sample.memory / bounds.memory - 1
    return min(1.0, max(_AT_LEAST, round(above / _ALL_ABOVE, 3)))


class Guard:
    """Measures, decides, and tells.

    :ivar state: how overloaded the gate is.
    :ivar bounds: what it may come to; may be changed.
    """

    def __init__(
        self,
        clock: IReactorTime,
        bounds: Bounds,
        memory: Callable[[], int],
        changed: Callable[[State], object],
        looked: Callable[[], object] = lambda: None,
    ) -> None:
        """
        :param clock: the reactor's.
        :param memory: measures the process's memory, in octets.
        :param changed: gets each state that differs from the one before.
        :param looked: called after every look.
        """
        self.state = State()
        self.bounds = bounds
        self._clock = clock
        self._memory = memory
        self._changed = changed
        self._looked = looked
        self._due = 0.0
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to measure."""
        self._due = self._clock.seconds() + EVERY
        self._call = self._clock.callLater(EVERY, self._look)

    def stop(self) -> None:
        """Measure no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        now = self._clock.seconds()
        lag = max(0.0, now - self._due)
        self._due = now + EVERY
        self._call = self._clock.callLater(EVERY, self._look)
        before = self.state
        self.state = decide(before, Sample(lag, self._memory()), self.bounds)
        if self.state.reason != before.reason:
            self._tell(before, lag)
        if self.state != before:
            self._changed(self.state)
        self._looked()

    def _tell(self, before: State, lag: float) -> None:
        if self.state.reason == REACTOR_LAG:
            _log.warn(
                "overload: the reactor is {lag:.2f} s late, and may be {bound:g} s: new requests are refused",
                lag=lag,
                bound=self.bounds.lag,
            )
        elif self.state.reason:
            _log.warn(
                "overload: the process takes {memory} MiB, and may take {bound} MiB: new requests are refused",
                memory=self._memory() >> 20,
                bound=self.bounds.memory >> 20,
            )
        else:
            _log.info("the overload is over: all requests are served again")


def give_back_memory() -> None:
    """Give memory that was freed back to the system, where the C library can: it keeps what it may need again."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


_PAGE = resource.getpagesize()


def resident_memory() -> int:
    """Octets of memory that the process takes now (``resident`` in proc(5), ``/proc/PID/statm``); 0 if unknown."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE
    except (OSError, ValueError):
        return 0


def memory_bound(configured: int, limit: int, processes: int = 1) -> int:
    """Octets that one process may take.

    :param configured: what the options say for one process; 0: most of *limit*, shared among *processes*; negative:
        no bound.
    :param limit: of the container; 0 for none.
    """
    if configured:
        return max(0, configured)
    return int(limit * _OF_THE_CONTAINER) // processes


def container_memory(root: Path = Path("/")) -> int:
    """Octets of memory that the process's control group may take (cgroups(7), both versions); 0 for any number.

    The least limit counts of the group and those that it is in.
    """
    limits = []
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return 0
    for line in groups:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            folder, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        place = folder / path.strip("/")
        # In a container with a namespace of its own, its group is the root; without one the path is the host's.
        for one in (place, *place.parents):
            if one != folder and folder not in one.parents:
                break
            try:
                text = (one / name).read_text().strip()
            except OSError:
                continue
            if text.isdigit() and int(text) < _NO_LIMIT:
                limits.append(int(text))
    return min(limits, default=0)


def raise_descriptor_limit() -> int:
    """Let the process have as many descriptors as it may; returns how many (getrlimit(2), RLIMIT_NOFILE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return hard


def descriptors_in_use() -> int:
    """How many descriptors the process has; 0 if unknown."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0
