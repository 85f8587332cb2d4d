"""Keeps the configuration of a Swarm current: :class:`SwarmProvider`.

The rules that hold here:

* An event is a doorbell. What it says is not used; a full look decides, so that events which are lost, doubled or out
  of order can do no harm. Several rings in a short time are one look, a ring during a look means another look after.
* Docker tells of no task. A look at the tasks alone, every second, is what sees them start and stop.
* One look at a time. The next one waits as long as the last one took (a look at the tasks: three times as long), so
  that however large the Swarm, looking takes a bounded share of the time. No more than a second of the last one counts:
  an engine that is just starting lets a look hang, and the next one must not wait for that.
* A look that fails changes nothing. What was last good stays in force, one line is logged, and the next look, a full
  one, comes after a back-off with jitter that stays short: whoever comes back is seen within seconds.
* A look that succeeds and finds nothing is a configuration with nothing in it.
* An engine that answers again after looks have failed may not yet ring: for a while every look is a full one.
* The event stream ending is normal: it is opened again, which rings. One that has silently died is found out by a full
  look that finds a change nobody rang for, and is opened again as well.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from swarmgate.dynamic.model import Configuration
from swarmgate.providers.swarm.decide import Decision, Options, decide, own_networks
from swarmgate.providers.swarm.interface import ISwarm, SwarmError
from swarmgate.providers.swarm.snapshot import Snapshot, Task, own_task

SETTLE = 0.05  # seconds from a ring to the look: an update of a stack rings many times at once
FULL_LOOK = 20.0  # seconds from one full look to the next when nobody rings
DEAF = 10.0  # seconds for which an engine that answers again is not relied on to ring: it may take events up late
LOOK_TIMEOUT = 15.0  # seconds until a look that hangs is taken for failed
LOOK_SHARE = 1.0  # times its own duration that a full look is followed by none
TASKS_SHARE = 3.0  # the same for a look at the tasks
LONGEST_REST = 1.0  # seconds of a look that this goes by at most: one that hung for once tells nothing of the next
BUSY = 10.0  # seconds after a change during which tasks are looked at more often: more changes are likely
BUSY_RATE = 4  # how many times as often
BACK_OFF = (0.5, 3.0)  # seconds after the first failure, and at most; each failure doubles it
STEADY = 10.0  # seconds that an event stream has to last for the next one's back-off to begin anew
#: Upper bounds in seconds, by which :class:`Convergence` counts.
CONVERGENCE = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Convergence:
    """How long changes of the Swarm took to be in force.

    :ivar counts: how many took how long: one number for each of :data:`CONVERGENCE`, and the last for those above all.
    :ivar seconds: how long they took together.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(CONVERGENCE) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count a change that took so long."""
        self.counts[bisect_left(CONVERGENCE, seconds)] += 1
        self.seconds += seconds

    def told(self) -> tuple[list[tuple[str, int]], float]:
        """Each bound in seconds, as text, with how many are in its bucket; and the seconds of all."""
        return list(zip([*map(str, CONVERGENCE), "+Inf"], self.counts, strict=True)), self.seconds


class SwarmProvider(Service):
    """Publishes the configuration that a Swarm's services describe by their labels, and keeps it current.

    :param clock: the reactor's clock.
    :param swarm: where to look; it is closed when the service stops.
    :param publish: called with the configuration after the first look that succeeds, and with every other one after.
    :param watch: whether to go on looking after that (Traefik ``providers.swarm.watch``).
    :param refresh: seconds between looks at the tasks (Traefik ``providers.swarm.refreshSeconds``).
    :param apart: runs a call away from the reactor's thread and gives its result as a Deferred; to decide about
        thousands of services takes longer than the traffic should wait. By default it is run at once.
    :param chance: gives numbers from 0 to 1, for the back-off's jitter.
    :param changed: called when the Swarm is another one, after what it comes to is published where that is new, too.
    :ivar convergence: how long each change took from the first that was heard of it to its being in force. What is
        heard is an event, or the begin of a look that nobody had asked for; both are by this machine's own clock, so
        that clocks of other nodes don't matter.
    """

    name = "swarm"
    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        swarm: ISwarm,
        publish: Callable[[Configuration], object],
        options: Options,
        *,
        watch: bool = True,
        refresh: float = 1.0,
        apart: Callable[..., Deferred[Any]] = maybeDeferred,
        chance: Callable[[], float] = random.random,
        changed: Callable[[], object] = lambda: None,
    ) -> None:
        self._clock = clock
        self._swarm = swarm
        self._changed = changed
        self._publish = publish
        self._options = options
        self._watch = watch
        self._refresh = refresh
        self._apart = apart
        self._chance = chance
        # What is known.
        self._snapshot: Snapshot | None = None
        self._own: frozenset[str] | None = None
        self._decision: Decision | None = None
        self._is_outdated = False  # the decision was made by other options
        self._noticed: set[str] = set()
        self.convergence = Convergence()
        # Looking.
        self._heard: float | None = None  # of what no full look has been begun for
        self._since = 0.0  # what is found by the look under way may have been so
        self._timer: IDelayedCall | None = None
        self._look: Deferred[Any] | None = None
        self._under_way: Deferred[None] | None = None
        self._rung = True  # a full look is due
        self._failures = 0
        self._last_full = 0.0
        self._last_good = 0.0
        self._last_return = -DEAF
        self._last_change = 0.0
        self._full_took = 0.0
        self._tasks_took = 0.0
        # Listening.
        self._hush: Callable[[], None] | None = None
        self._listen_timer: IDelayedCall | None = None
        self._listen_failures = 0
        self._listening_since = 0.0
        self._waiting: list[Deferred[None]] = []

    def __repr__(self) -> str:
        state = "looking" if self._under_way else "waiting" if self._timer else "idle"
        return f"<SwarmProvider {state}, failures: {self._failures}, ready: {self.is_ready}>"

    @property
    def is_ready(self) -> bool:
        """Whether a look has succeeded and its configuration has been published."""
        return self._decision is not None

    @property
    def seen(self) -> tuple[Snapshot, Decision] | None:
        """The last snapshot and what was decided of it; None before the first."""
        return None if self._snapshot is None or self._decision is None else (self._snapshot, self._decision)

    @property
    def look_age(self) -> float | None:
        """Seconds since a look has succeeded, None before the first."""
        return self._clock.seconds() - self._last_good if self.is_ready else None

    @property
    def own_service(self) -> str:
        """Name of the Swarm service that the gate is a task of, ``""`` if it isn't known."""
        if self._snapshot is None:
            return ""
        task = own_task(self._snapshot, self._swarm.own_container)
        return next((one.name for one in self._snapshot.services if task and one.id == task.service_id), "")

    def when_ready(self) -> Deferred[None]:
        """Return a Deferred that fires when :attr:`is_ready`, which may be now."""
        if self.is_ready:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def startService(self) -> None:
        """Look, and listen to events."""
        Service.startService(self)
        self._step()
        if self._watch:
            self._listen()

    def stopService(self) -> Deferred[None]:
        """Stop looking and listening; fires when what was under way has ended and the Swarm has been closed."""
        Service.stopService(self)
        for timer in (self._timer, self._listen_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._listen_timer = None
        if self._hush is not None:
            self._hush()
            self._hush = None
        under_way = self._under_way or succeed(None)
        if self._look is not None:
            self._look.cancel()  # nobody waits for what it finds; that its thread ends is for close() to wait for
        closed = self._swarm.close()
        return under_way.addCallback(lambda _: closed)

    def reconfigure(self, options: Options, refresh: float) -> None:
        """Decide by other options, and look so often; what is known of the Swarm stays known."""
        self._refresh = refresh
        if options != self._options:
            self._options = options
            self._is_outdated = True
        if self.running:
            self.ring()

    # Looking.

    def ring(self) -> None:
        """Look at everything soon."""
        self._rung = True
        if self._heard is None:
            self._heard = self._clock.seconds()
        if self._under_way is None and not self._failures:
            self._schedule(max(SETTLE, min(LONGEST_REST, self._full_took) * LOOK_SHARE))

    def _schedule(self, delay: float) -> None:
        """Take the next step after ``delay`` seconds, or sooner if that was already to be."""
        if not self.running:
            return
        if self._timer is not None:
            if self._timer.getTime() <= self._clock.seconds() + delay:
                return
            self._timer.cancel()
        self._timer = self._clock.callLater(delay, self._step)

    def _step(self) -> None:
        self._timer = None
        began = self._clock.seconds()
        deaf = began - self._last_return < DEAF
        full_after = max(self._refresh, min(LONGEST_REST, self._full_took) * LOOK_SHARE) if deaf else FULL_LOOK
        full = self._rung or self._snapshot is None or began - self._last_full >= full_after
        unasked = full and not self._rung
        self._rung = False
        self._since = began
        if full:
            self._since, self._heard = began if self._heard is None else self._heard, None
        done: Deferred[None] = Deferred()
        self._under_way = done
        look: Deferred[Any] = self._swarm.look() if full else self._swarm.tasks()
        self._look = look
        look.addTimeout(LOOK_TIMEOUT, self._clock, onTimeoutCancel=_timed_out)
        look.addCallback(self._full_look if full else self._tasks_look, began, unasked)
        look.addCallbacks(self._succeeded, self._failed)
        look.addErrback(lambda failure: self.log.failure("while following the Swarm", failure))

        def over(_: None) -> None:
            self._look = self._under_way = None
            done.callback(None)

        look.addCallback(over)

    def _full_look(self, snapshot: Snapshot, began: float, unasked: bool) -> Deferred[None]:
        before = self._snapshot
        self._last_full = self._clock.seconds()
        self._full_took = self._last_full - began
        told = before is not None and (before.services, before.networks) == (snapshot.services, snapshot.networks)
        if unasked and not told:
            self._listen_again("it did not tell of a change")
        return self._seen(snapshot)

    def _tasks_look(self, tasks: tuple[Task, ...], began: float, unasked: bool) -> Deferred[None]:
        assert self._snapshot is not None
        self._tasks_took = self._clock.seconds() - began
        known = {service.id for service in self._snapshot.services}
        if any(task.service_id not in known for task in tasks):
            self._rung = True
        snapshot = self._snapshot
        return self._seen(Snapshot(snapshot.services, tasks, snapshot.networks, snapshot.nodes))

    def _seen(self, snapshot: Snapshot) -> Deferred[None]:
        """Publish what a new snapshot comes to, if it comes to something new."""
        if snapshot == self._snapshot and not self._is_outdated:
            return succeed(None)
        self._is_outdated = False
        self._last_change = self._clock.seconds()
        own = own_networks(snapshot, self._swarm.own_container)
        # While it is being replaced our own task is no longer told of; we are where we were.
        self._own = own if own is not None else self._own
        deciding = self._apart(decide, snapshot, self._options, self._own, self._decision, self._swarm.own_container)
        return deciding.addCallback(self._decided, snapshot)

    def _decided(self, decision: Decision, snapshot: Snapshot) -> None:
        before = self._decision
        self._snapshot = snapshot
        self._decision = decision
        for notice in decision.notices:
            if notice not in self._noticed:
                self._noticed.add(notice)
                self.log.warn("{notice}", notice=notice)
        if not self.running:
            return
        if before is None or before.configuration is not decision.configuration:
            self._publish(decision.configuration)
            if before is not None:
                self.convergence.add(self._clock.seconds() - self._since)
        self._changed()
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)

    def _succeeded(self, _: None) -> None:
        if self._failures:
            self.log.info("the Swarm answers again")
            self._last_return = self._clock.seconds()
        self._failures = 0
        self._last_good = self._clock.seconds()
        if not self._watch:
            return
        if self._rung:
            self._schedule(max(SETTLE, min(LONGEST_REST, self._full_took) * LOOK_SHARE))
            return
        busy = self._clock.seconds() - self._last_change < BUSY
        rest = min(LONGEST_REST, self._tasks_took) * TASKS_SHARE
        self._schedule(max(self._refresh / (BUSY_RATE if busy else 1), rest))

    def _failed(self, failure: Failure) -> None:
        if not self.running:
            return
        if not self._failures:
            if failure.check(SwarmError):
                kept = "what is known stays in force" if self.is_ready else "nothing is known yet"
                self.log.error("the Swarm can't be looked at, {kept}: {reason}", kept=kept, reason=str(failure.value))
            else:
                self.log.failure("while looking at the Swarm", failure)
        self._failures += 1
        self._rung = True
        self._schedule(self._back_off(self._failures))

    def _back_off(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row: jitter takes off up to half."""
        first, most = BACK_OFF
        return min(most, first * 2.0 ** min(failures - 1, 16)) * (1 - self._chance() / 2)

    # Listening.

    def _listen(self) -> None:
        self._listen_timer = None
        self._listening_since = self._clock.seconds()
        self._hush = self._swarm.subscribe(self.ring, self._lost)

    def _lost(self, error: SwarmError) -> None:
        if not self.running:
            return
        self._hush = None
        if self._clock.seconds() - self._listening_since >= STEADY:
            self._listen_failures = 0
        self._listen_failures += 1
        self.log.debug("no events for a moment: {reason}", reason=str(error))
        self._listen_timer = self._clock.callLater(self._back_off(self._listen_failures), self._listen)

    def _listen_again(self, reason: str) -> None:
        if self._hush is not None and self.running:
            self.log.debug("opening the event stream again: {reason}", reason=reason)
            self._hush()
            self._listen()


def _timed_out(result: Any, seconds: float) -> Any:
    """Return what a look that was cancelled after ``seconds`` has come to."""
    return Failure(SwarmError(f"no look has succeeded within {seconds:g} s"))
