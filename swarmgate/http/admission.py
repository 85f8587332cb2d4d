"""How many connections the process has room for: beyond that nobody is accepted, and newcomers wait with the kernel.

Without it a process without descriptors left can't connect to its servers either, so that those clients that it has
accepted are not served. A part of the descriptors is therefore not given to clients.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from swarmgate.http.deadlines import NEVER, Deadlines
from swarmgate.http.response_head import write_response
from swarmgate.transport.client_hello import HANDSHAKE

if TYPE_CHECKING:
    from swarmgate.http.entry_point import EntryPoint

_log = Logger("swarmgate")

#: The part of the descriptors that is for servers, and the least number of them.
_FOR_SERVERS = 4
_FOR_SERVERS_AT_LEAST = 16
#: The part of the room that has to be free again before somebody is accepted, and that room is made for at first.
_FREE_AGAIN = 20
#: Seconds without a full house after which room is made gently again.
_GENTLE_AFTER = 5.0
#: Seconds between two lines in the log about it.
_TELL_EVERY = 60.0
#: Seconds in which a connection that is turned away has to send what it is answered.
_TURNED_AWAY_WITHIN = 1.0

_TURNED_AWAY = write_response(
    503,
    b"Service Unavailable",
    b"\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 2",
    b"\r\nContent-Length: 19\r\nConnection: close\r\n\r\nService Unavailable",
)


def room_for(limit: int, in_use: int) -> int:
    """How many sockets there may be before nobody is accepted any more.

    :param limit: how many descriptors the process may have; :param in_use: how many it has before it has connections.
    """
    return max(1, limit - in_use - max(_FOR_SERVERS_AT_LEAST, limit // _FOR_SERVERS))


class Admission:
    """Lets entry points accept for as long as there is room; those of one process share it.

    :ivar sockets_at_most: of clients and servers together; :ivar clients_at_most: of clients alone, 0 for any number.
    :ivar is_full: nobody is accepted.
    """

    def __init__(self, deadlines: Deadlines, sockets_at_most: int, clients_at_most: int = 0) -> None:
        """
        :param deadlines: every connection, of clients and to servers, is a member of these.
        """
        self.sockets_at_most = sockets_at_most
        self.clients_at_most = clients_at_most
        self.is_full = False
        self._deadlines = deadlines
        self._entry_points: list[EntryPoint] = []
        self._told = -NEVER
        self._crowded = -NEVER
        #: How many connections are closed next to make room: twice as many each time.
        self._wanted = 0

    def add(self, entry_point: EntryPoint) -> None:
        """Let *entry_point* share the room."""
        self._entry_points.append(entry_point)

    def arrived(self) -> None:
        """A client is accepted: if it is the last that there is room for, accept no more."""
        if not self.is_full and self._room() <= 1:
            self.is_full = True
            self._tell()
            for entry_point in self._entry_points:
                entry_point.pause_accepting()
            self._make_room()

    def look(self) -> None:
        """Accept again if there is room; to be called a few times a second."""
        if self.is_full:
            self.left()
            if self.is_full:
                self._make_room()

    def left(self) -> None:
        """Somebody has gone while it was full: accept again if there is room."""
        if self._room() > self._most() // _FREE_AGAIN:
            self.is_full = False
            for entry_point in self._entry_points:
                entry_point.resume_accepting()

    def _room(self) -> int:
        room = self.sockets_at_most - len(self._deadlines)
        return min(room, self.clients_at_most - self._clients()) if self.clients_at_most else room

    def _most(self) -> int:
        return min(self.sockets_at_most, self.clients_at_most) if self.clients_at_most else self.sockets_at_most

    def _clients(self) -> int:
        return sum(len(entry_point) for entry_point in self._entry_points)

    def _make_room(self) -> None:
        """Close some connections that nothing is under way on, those first whose own time would be over first."""
        now = self._deadlines.now
        if now - self._crowded > _GENTLE_AFTER:
            self._wanted = self._most() // _FREE_AGAIN // 2 + 1
        self._crowded = now
        self._wanted = min(2 * self._wanted, self._most() // 2 + 1)
        idle = [connection for entry_point in self._entry_points for connection in entry_point.idle()]
        idle.sort(key=_own_end)
        for connection in idle[: self._wanted]:
            connection.close_when_idle()

    def _tell(self) -> None:
        if self._deadlines.now - self._told >= _TELL_EVERY:
            self._told = self._deadlines.now
            _log.warn(
                "no more connections are accepted for now: {clients} clients are connected, and there is room for "
                "{most} connections, those to servers included",
                clients=self._clients(),
                most=self._most(),
            )


def _own_end(connection: object) -> float:
    deadline: float = getattr(connection, "deadline", NEVER)
    return deadline


def make_room(entry_points: Iterable[EntryPoint]) -> None:
    """Close all connections of clients that nothing is under way on."""
    for entry_point in entry_points:
        for connection in entry_point.idle():
            connection.close_when_idle()


@implementer(IProtocol, IHalfCloseableProtocol)
class TurnedAway:
    """A client that is answered 503, whatever it says; one that speaks TLS is cut off: a handshake costs too much."""

    __slots__ = ("_deadlines", "deadline", "transport")

    factory = None

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self.deadline = NEVER
        self.transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.deadline = self._deadlines.now + _TURNED_AWAY_WITHIN
        self._deadlines.add(self)
        self.connectionMade()

    def connectionMade(self) -> None:
        """Part of IProtocol. It is waited for the client's request, or the answer might be lost with a reset."""

    def dataReceived(self, data: bytes) -> None:
        if data[0] == HANDSHAKE:
            self.overdue()
        else:
            self.transport.write(_TURNED_AWAY)
            self.transport.loseConnection()

    def readConnectionLost(self) -> None:
        self.overdue()

    def writeConnectionLost(self) -> None:
        """Part of IHalfCloseableProtocol."""

    def connectionLost(self, reason: Failure) -> None:
        self.deadline = NEVER
        self._deadlines.discard(self)

    def overdue(self) -> None:
        """Called by :class:`~swarmgate.http.deadlines.Deadlines`."""
        self.deadline = NEVER
        self.transport.abortConnection()
