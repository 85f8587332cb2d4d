"""Waiting for the whole of a request's body before the request goes on."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed

from swarmgate.http.exchange import Exchange
from swarmgate.http.message import Fields, Response

#: Octets of all bodies together that are being waited for; beyond that bodies go on as they come.
TOGETHER_AT_MOST = 64 * 1024 * 1024


class _Held:
    """Octets that are being held in this process."""

    octets = 0

    @classmethod
    def leave(cls, size: int) -> None:
        """Whoever has held so many has no use for them any more."""
        cls.octets -= size


def gather(exchange: Exchange, at_most: int) -> Deferred[bool]:
    """Wait until all of the request's body is here.

    :param at_most: octets that are waited for; a longer body goes on as it comes.
    :returns: fires with whether all of it is here.
    """
    if exchange.body_done:
        return succeed(len(exchange.pending) <= at_most)
    if exchange.request.length > at_most:
        return succeed(False)
    gathering = _Gathering(exchange, at_most)
    gathering.body_data(exchange.connect(gathering))
    if exchange.request.expects_continue:
        # The server never sees the expectation met: it gets the body at once.
        exchange.client.send_interim(Response(100, b"Continue", [], 0))
        exchange.request.expects_continue = False
    if not gathering.waiting.called:
        exchange.client.resume_body()
    return gathering.waiting


class _Gathering:
    """Takes a body, as a server does, and gives it back."""

    def __init__(self, exchange: Exchange, at_most: int) -> None:
        self.waiting: Deferred[bool] = Deferred()
        self._exchange = exchange
        self._at_most = at_most
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_over = False

    def body_data(self, data: bytes) -> None:
        if self.waiting.called:
            return
        self._pieces.append(data)
        self._size += len(data)
        _Held.octets += len(data)
        if self._size > self._at_most or _Held.octets > TOGETHER_AT_MOST:
            self._give_back(False)

    def body_end(self, trailers: Fields) -> None:
        if not self.waiting.called:
            self._give_back(True)

    def cancel(self) -> None:
        """The client has left; who waits is told by the exchange."""
        if not self._is_over:
            self._let_go()

    def _let_go(self) -> None:
        self._is_over = True
        _Held.octets -= self._size
        self._pieces = []

    def _give_back(self, whole: bool) -> None:
        body = b"".join(self._pieces)
        self._let_go()
        if whole and body:
            # It is kept for as long as the exchange may need it.
            _Held.octets += len(body)
            self._exchange.hold(_Held, len(body))
        self._exchange.give_back(body)
        self.waiting.callback(whole)
