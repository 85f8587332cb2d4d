"""The end of the loop's turn, at which connections write what they have gathered in it: one write for many messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger

_log = Logger()


class Gathering(Protocol):
    """What gathers what it is to write."""

    def turn_ends(self) -> None:
        """Write it."""


class TurnEnd:
    """Lets connections write when all that has come in a turn of the loop was read, before the loop waits again.

    :param soon: makes a call then.
    """

    def __init__(self, soon: Callable[[Callable[[], object]], object]) -> None:
        self._soon = soon
        self._gathering: list[Gathering] = []

    def add(self, connection: Gathering) -> None:
        """Let *connection* write at the end of this turn, after those that were added before."""
        if not self._gathering:
            self._soon(self._write)
        self._gathering.append(connection)

    def _write(self) -> None:
        gathering, self._gathering = self._gathering, []
        for connection in gathering:
            try:
                connection.turn_ends()
            except Exception:
                # A fault of one is none of the others'.
                _log.failure("what a connection has gathered could not be written")
