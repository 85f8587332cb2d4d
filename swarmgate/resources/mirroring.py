"""The leaf of a service of whose requests other ones get copies (Traefik ``mirroring``).

A copy is sent when the client has its answer, and what is answered to it is thrown away. It must not cost the client
anything: the request is not held up for its body to be kept, and what would be too much, of bodies or of copies under
way, is not mirrored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from swarmgate.dynamic.composition import Mirroring
from swarmgate.http.between import Asking
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.exchange import CLIENT_CLOSED_REQUEST, Exchange, Onlooker
from swarmgate.middlewares.again import copied
from swarmgate.resources.composed import ServiceLeaf

if TYPE_CHECKING:
    from swarmgate.http.message import Request

_log = Logger()

#: Octets of all bodies together that are kept for copies.
KEPT_AT_MOST = 64 * 1024 * 1024
#: Copies to one mirror of one service that are under way.
COPIES_AT_MOST = 100
#: How long a mirror may take for the whole of its answer. Seconds.
COPY_WITHIN = 60.0
#: Of an exchange that waits for no server: it has done so before.
_LONG_AGO = -1.0


class Copies:
    """Which requests a service's mirrors get, and the copies that are under way; outlives the tables.

    :ivar under_way: by the mirror's name.
    """

    def __init__(self) -> None:
        self.under_way: dict[str, int] = {}
        self._credit: dict[str, int] = {}

    def due(self, name: str, percent: int) -> bool:
        """Whether the next request goes to the mirror of that *name* too: so many *percent*, evenly spread."""
        credit = self._credit.get(name, 99) + percent
        self._credit[name] = credit - 100 if credit >= 100 else credit
        return credit >= 100

    def begun(self, name: str, more: int = 1) -> None:
        """One *more* is under way."""
        self.under_way[name] = self.under_way.get(name, 0) + more


class MirroringResource:
    """Has the first child answer, and others get copies.

    :param service: the qualified name.
    :param copies: of requests, to mirrors; outlives the tables.
    """

    def __init__(
        self,
        service: str,
        mirroring: Mirroring,
        children: Mapping[str, ServiceLeaf],
        copies: Copies,
        deadlines: Deadlines,
        clock: IReactorTime,
    ) -> None:
        self.service = service
        self._main = children[mirroring.service]
        self._children = children
        self._mirroring = mirroring
        self._copies = copies
        self._deadlines = deadlines
        self._clock = clock

    def is_up(self) -> bool:
        return self._main.is_up()

    def may_answer(self) -> bool:
        return self._main.may_answer()

    def serve(self, exchange: Exchange) -> None:
        """Hand it to the first child; to mirrors later."""
        if not exchange.request.upgrade:
            seen: _Seen | None = exchange.recall(self)
            if seen is None:
                seen = self._begin(exchange)
            if seen is not None:
                seen.watch(exchange)
        self._main.serve(exchange)

    def _begin(self, exchange: Exchange) -> _Seen | None:
        mirroring = self._mirroring
        due = [mirror.name for mirror in mirroring.mirrors if self._copies.due(mirror.name, mirror.percent)]
        too_long = mirroring.mirror_body and exchange.request.length > mirroring.max_body_size >= 0
        if not due or too_long:
            return None
        seen = _Seen(copied(exchange.request), due, mirroring.mirror_body, mirroring.max_body_size)
        exchange.remember(self, seen)
        exchange.hold(self, (seen, exchange))
        return seen

    def leave(self, place: tuple[_Seen, Exchange]) -> None:
        """The exchange has ended."""
        seen, exchange = place
        if seen.whole and exchange.status not in (0, CLIENT_CLOSED_REQUEST):
            self._clock.callLater(0, self._send, seen, exchange.entry_point)
        else:
            seen.drop()

    def _send(self, seen: _Seen, entry_point: str) -> None:
        body = b"".join(seen.pieces)
        seen.uses = 1
        for name in seen.due:
            child = self._children[name]
            if self._copies.under_way.get(name, 0) < COPIES_AT_MOST and child.is_up():
                copy = _Copy(seen, entry_point, self._copies, name, self._deadlines)
                try:
                    copy.ask(child.serve, body)
                except Exception:
                    _log.failure("{service} could not be mirrored to {mirror}", service=self.service, mirror=name)
                    copy.cancel()
        seen.used()


class _Seen(Onlooker):
    """A request that is to be mirrored, and what was seen of its body.

    :param request: as the first child got it.
    :ivar due: the mirrors that get it.
    :ivar whole: all of the body is there that mirrors get.
    :ivar uses: by how many the body is needed.
    """

    kept = 0  # Octets of all of them.

    __slots__ = ("_at_most", "_has_body", "_size", "due", "pieces", "request", "uses", "whole")

    def __init__(self, request: Request, due: list[str], has_body: bool, at_most: int) -> None:
        self.request = request
        self.due = due
        self.whole = False
        self.pieces: list[bytes] = []
        self.uses = 0
        self._has_body = has_body
        self._at_most = at_most if at_most >= 0 else KEPT_AT_MOST
        self._size = 0

    def watch(self, exchange: Exchange) -> None:
        """See the body of *exchange*, from its beginning on."""
        self.drop()
        if exchange.pending and self._has_body:
            self.feed(exchange.pending)
        if exchange.body_done or not self._has_body:
            self.end()
        else:
            exchange.show_body(self)

    def feed(self, data: bytes) -> bytes:
        if data and self._size >= 0:
            self._size += len(data)
            _Seen.kept += len(data)
            self.pieces.append(data)
            if self._size > self._at_most or _Seen.kept > KEPT_AT_MOST:
                self.drop()
                self._size = -1  # It is not to be mirrored.
        return data

    def end(self) -> bytes:
        self.whole = self._size >= 0
        return b""

    def used(self) -> None:
        """One less needs it."""
        self.uses -= 1
        if not self.uses:
            self.drop()

    def drop(self) -> None:
        """Forget what is there."""
        _Seen.kept -= max(self._size, 0)
        self.pieces, self._size, self.whole = [], 0, False


class _Copy(Asking):
    """A request to a mirror. Nobody wants its answer."""

    def __init__(self, seen: _Seen, entry_point: str, copies: Copies, name: str, deadlines: Deadlines) -> None:
        request = copied(seen.request)
        request.expects_continue = False
        Asking.__init__(self, request, entry_point)
        self.exchange.wait_until = _LONG_AGO
        self._seen = seen
        self._copies = copies
        self._name = name
        self._deadlines = deadlines
        copies.begun(name)
        seen.uses += 1
        deadlines.add(self)
        self.deadline = deadlines.now + COPY_WITHIN

    def overdue(self) -> None:
        """Called by :class:`~swarmgate.http.deadlines.Deadlines`."""
        self.cancel()

    def _end(self) -> None:
        if not self.over:
            self._deadlines.discard(self)
            self._copies.begun(self._name, -1)
            self._seen.used()
        Asking._end(self)
