"""Waiting instead of failing, while a service has no server for the moment.

In a rolling update there can be a moment without a server that answers: the last old task is on its way out, and the
new one runs but does not listen yet. Requests of that moment wait, each for a bounded time and all in a bounded
number, before anything of them was sent. A service that has not changed for a while and of which no task is being
started has no such moment: what it can't answer is answered 502 or 503 at once.
"""

from __future__ import annotations

from swarmgate.http.deadlines import NEVER, Deadlines
from swarmgate.http.exchange import NO_SNIFFING, PLAIN_TEXT, Exchange
from swarmgate.middlewares.chain import Leaf

AT_MOST = 1000  # exchanges of a service
_LOOK_AGAIN = 0.1  # seconds from one attempt to the next


class WaitingRoom:
    """Where a service's exchanges wait for a server; outlives the tables."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.deadline = NEVER
        self._deadlines = deadlines
        self._leaf: Leaf | None = None
        self._wait = 0.0
        self._awaited = False
        self._changing_until = -NEVER
        self._waiting: dict[Exchange, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def changed(self, leaf: Leaf, wait: float, awaited: bool, others: bool) -> None:
        """The service has been given anew, and *leaf* serves it.

        :param wait: seconds that an exchange may wait.
        :param awaited: one more server is on its way.
        :param others: it has other servers than it had.
        """
        self._leaf = leaf
        self._wait = wait
        if others or self._awaited:
            self._changing_until = self._deadlines.now + wait
        self._awaited = awaited
        self._try_all()

    def close(self) -> None:
        """The service is gone: nobody has anything to wait for any more."""
        self._wait = 0.0
        self._try_all()

    def admits(self) -> bool:
        """Whether an exchange may wait now."""
        return (
            (self._awaited or self._deadlines.now < self._changing_until)
            and self._wait > 0
            and len(self._waiting) < AT_MOST
        )

    def enter(self, exchange: Exchange) -> None:
        """Let *exchange* wait: it is served again, by the newest leaf, until it has waited for long enough."""
        now = self._deadlines.now
        if not exchange.wait_until:
            exchange.wait_until = now + self._wait
        if now >= exchange.wait_until:
            answer_no_server(exchange)
            return
        if not self._waiting:
            self._deadlines.add(self)
            self.deadline = now + _LOOK_AGAIN
        self._waiting[exchange] = None
        exchange.connection = _Place(self, exchange)

    def leave(self, exchange: Exchange) -> None:
        """The client of *exchange* has left."""
        self._waiting.pop(exchange, None)
        self._rest()

    def overdue(self) -> None:
        """Called by :class:`~swarmgate.http.deadlines.Deadlines`."""
        self.deadline = self._deadlines.now + _LOOK_AGAIN
        self._try_all()

    def _try_all(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for exchange in waiting:
            exchange.connection = None
            exchange.tried = None
            if self._leaf is not None and not exchange.ended:
                self._leaf.serve(exchange)
        self._rest()

    def _rest(self) -> None:
        if not self._waiting:
            self.deadline = NEVER
            self._deadlines.discard(self)


class _Place:
    """What an exchange holds while it waits."""

    __slots__ = ("_exchange", "_room")

    def __init__(self, room: WaitingRoom, exchange: Exchange) -> None:
        self._room = room
        self._exchange = exchange

    def cancel(self) -> None:
        self._room.leave(self._exchange)


def answer_no_server(exchange: Exchange, text: bytes = b"no available server\n") -> None:
    """Answer as Traefik does where a service has no server, and that there may soon be one."""
    if exchange.retrying is not None and exchange.retrying.takes(exchange, 503):
        return
    exchange.answer(503, text, (PLAIN_TEXT, NO_SNIFFING, (b"Retry-After", b"1")))
