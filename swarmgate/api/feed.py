"""Changes as server-sent events (WHATWG HTML, 9.2): :class:`Feed` keeps the last ones for viewers."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.task import LoopingCall
from zope.interface import implementer

_KEPT = 1000  # Events that a viewer may be behind.
_HEARTBEAT = 15.0  # Seconds; proxies close what is silent for a minute.
_MOST_VIEWERS = 500
_TRAFFIC_EVERY = 1.0  # Seconds.
_SWARM_EVERY = 0.7  # Seconds from one event to the next: a rollout changes the Swarm all the time.
_SWARM = b"event: swarm\ndata: {}\n\n"


class Traffic(Protocol):
    """Tells how much there was."""

    def begin(self) -> None:
        """Have :meth:`lately` tell of what comes from now on."""

    def lately(self) -> Deferred[bytes]:
        """What there was since this was last called, as JSON."""


class Feed:
    """The last changes, in one ring for all viewers: one that is slow costs no memory.

    :param clock: the reactor's clock.
    :param wall: seconds since 1970.
    """

    def __init__(self, clock: IReactorTime, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._events: deque[tuple[int, bytes]] = deque(maxlen=_KEPT)
        self._last = 0
        self._viewers: set[_Viewer] = set()
        self._pulses: dict[bytes, _Pulse] = {}  # By what is asked for as ?replica.
        self._clock = clock
        self._swarm_told = -_SWARM_EVERY
        self._swarm_due: IDelayedCall | None = None
        self._heart = LoopingCall(self._beat)
        self._heart.clock = clock

    def measure(self, traffic: Traffic, alone: Traffic | None = None) -> None:
        """Tell viewers that ask for it (``?traffic=true``) of *traffic* once a second: measured once for all of them,
        and only while there are any.

        What a viewer can't take at that moment it does not get later.

        :param alone: what those are told of who ask for this replica alone (``&replica=self``).
        """
        of_all = _Pulse(self._clock, traffic)
        of_self = of_all if alone is None or alone is traffic else _Pulse(self._clock, alone)
        self._pulses = {b"": of_all, b"self": of_self}

    def tell(self, lines: Sequence[str]) -> None:
        """Tell all viewers of a change, each line of it an event."""
        at = round(self._wall(), 3)
        for line in lines:
            self._last += 1
            data = json.dumps({"change": line, "at": at}).encode()
            self._events.append((self._last, b"id: %d\nevent: change\ndata: %s\n\n" % (self._last, data)))
        for viewer in list(self._viewers):
            viewer.read_on()

    def swarm_changed(self) -> None:
        """Tell viewers that ask for it (``?swarm=true``) that the Swarm is another one, of many changes together."""
        if self._swarm_due is None and any(viewer.of_swarm for viewer in self._viewers):
            wait = max(0.0, self._swarm_told + _SWARM_EVERY - self._clock.seconds())
            self._swarm_due = self._clock.callLater(wait, self._tell_of_swarm)

    def _tell_of_swarm(self) -> None:
        self._swarm_due = None
        self._swarm_told = self._clock.seconds()
        for viewer in list(self._viewers):
            viewer.tell_of_swarm()

    def after(self, seen: int) -> tuple[bytes, int]:
        """What has happened after event *seen*, and the last event's number.

        What is no longer known is told by an event ``reset``: the viewer has to ask for everything anew.
        """
        if seen == self._last:
            return b"", seen
        first = self._events[0][0] if self._events else self._last + 1
        if seen > self._last or seen + 1 < first:
            return b"id: %d\nevent: reset\ndata: {}\n\n" % self._last, self._last
        return b"".join(text for number, text in self._events if number > seen), self._last

    def show(self, request: Any) -> bool:
        """Send events to *request*, from its Last-Event-ID on, until it is gone; False: too many do.

        Without one it gets what happens from now on, with ``?past=true`` what is still known of the past, too.
        """
        if len(self._viewers) >= _MOST_VIEWERS:
            return False
        text = (request.getHeader(b"last-event-id") or "").strip() if hasattr(request, "getHeader") else ""
        text = text.decode("ascii", "replace") if isinstance(text, bytes) else text
        seen = int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else self._last
        arguments = getattr(request, "args", None) or {}
        if not text and arguments.get(b"past") == [b"true"] and self._events:
            seen = self._events[0][0] - 1
        request.setHeader(b"Content-Type", b"text/event-stream")
        request.setHeader(b"Cache-Control", b"no-store")
        viewer = _Viewer(self, request, seen, arguments.get(b"swarm") == [b"true"])
        self._viewers.add(viewer)
        pulse = self._pulses.get(arguments.get(b"replica", [b""])[-1])
        if pulse is not None and arguments.get(b"traffic") == [b"true"]:
            pulse.add(viewer)
        if not self._heart.running:
            self._heart.start(_HEARTBEAT, now=False)
        request.notifyFinish().addBoth(lambda _: self._gone(viewer))
        request.write(b": swarmgate\n\n")
        request.registerProducer(viewer, True)
        viewer.read_on()
        return True

    def _gone(self, viewer: _Viewer) -> None:
        self._viewers.discard(viewer)
        if not self._viewers and self._heart.running:
            self._heart.stop()
        if not self._viewers and self._swarm_due is not None:
            self._swarm_due.cancel()
            self._swarm_due = None
        for pulse in self._pulses.values():
            pulse.discard(viewer)

    def _beat(self) -> None:
        for viewer in list(self._viewers):
            viewer.write(b": still there\n\n")


class _Pulse:
    """Tells viewers of traffic once a second, while there are any."""

    def __init__(self, clock: IReactorTime, traffic: Traffic) -> None:
        self._traffic = traffic
        self._viewers: set[_Viewer] = set()
        self._telling = LoopingCall(self._tell)
        self._telling.clock = clock

    def add(self, viewer: _Viewer) -> None:
        self._viewers.add(viewer)
        if not self._telling.running:
            self._traffic.begin()
            self._telling.start(_TRAFFIC_EVERY, now=False)

    def discard(self, viewer: _Viewer) -> None:
        self._viewers.discard(viewer)
        if not self._viewers and self._telling.running:
            self._telling.stop()

    def _tell(self) -> Deferred[None]:
        return self._traffic.lately().addCallback(self._show)

    def _show(self, told: bytes) -> None:
        # Without a number: it is not kept for those who come again.
        text = b"event: traffic\ndata: %s\n\n" % told
        for viewer in list(self._viewers):
            viewer.write(text)


@implementer(IPushProducer)
class _Viewer:
    """
    :ivar of_swarm: whether it asks for changes of the Swarm.
    """

    def __init__(self, feed: Feed, request: Any, seen: int, of_swarm: bool) -> None:
        self.of_swarm = of_swarm
        self._feed = feed
        self._request = request
        self._seen = seen
        self._swarm_changed = False
        self._paused = False

    def tell_of_swarm(self) -> None:
        self._swarm_changed = self.of_swarm
        self.read_on()

    def read_on(self) -> None:
        """Write what has happened since, unless the connection is full."""
        if not self._paused:
            text, self._seen = self._feed.after(self._seen)
            if self._swarm_changed:
                self._swarm_changed = False
                text += _SWARM
            if text:
                self._request.write(text)

    def write(self, text: bytes) -> None:
        if not self._paused:
            self._request.write(text)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self.read_on()

    def stopProducing(self) -> None:
        self._paused = True
        self._feed._gone(self)
