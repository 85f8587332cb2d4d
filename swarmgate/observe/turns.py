"""Long computations on the reactor's thread, cut into turns between which requests are served.

A thread would not do: its computing takes the interpreter from the reactor for longer than a turn is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator

T = TypeVar("T")

_TURN = 0.002  # Seconds.
_PAUSE = 0.004  # Seconds between two turns: it is what requests are sure to get.


class Turns:
    """Computes in turns of some two milliseconds."""

    def __init__(self, clock: IReactorTime) -> None:
        """
        :param clock: the reactor.
        """
        self._clock = clock
        # A pause before the first turn, too: several computations begin together, and share their turns.
        self._cooperator = Cooperator(self._turn, scheduler=lambda call: clock.callLater(_PAUSE, call))

    def _turn(self) -> Callable[[], bool]:
        until = self._clock.seconds() + _TURN
        return lambda: self._clock.seconds() >= until

    def run(self, computation: Generator[None, None, T]) -> Deferred[T]:
        """What *computation* returns, which yields wherever it may be interrupted."""
        found: list[T] = []

        def steps() -> Generator[None, None, None]:
            found.append((yield from computation))

        return self._cooperator.coiterate(steps()).addCallback(lambda _: found[0])


def finished(computation: Generator[None, None, T]) -> T:
    """What *computation* returns, at once."""
    while True:
        try:
            next(computation)
        except StopIteration as end:
            found: T = end.value
            return found


def encoding(value: Any, depth: int = 2) -> Generator[None, None, bytes]:
    """Writes *value* as JSON.

    :param depth: of objects in objects between whose members it may be interrupted.
    """
    if not depth or not isinstance(value, dict):
        return json.dumps(value, separators=(",", ":")).encode()
    members = []
    for name, member in value.items():
        written = yield from encoding(member, depth - 1)
        members.append(json.dumps(name).encode() + b":" + written)
        yield
    return b"{" + b",".join(members) + b"}"
