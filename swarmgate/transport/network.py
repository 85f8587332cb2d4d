"""What the data plane needs of a network."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol

from swarmgate.transport.turn_end import TurnEnd


class ConnectTimeout(Exception):
    """A connect got no answer within its deadline."""


class ListeningSocket(Protocol):
    """A socket that accepts connections."""

    def port(self) -> int:
        """The port number it is bound to."""

    def shared(self) -> socket.socket:
        """The same socket, to be handed on to another process."""

    def turn_away(self) -> None:
        """Leave new connections to another process that listens on the port (``reuse_port``), if there is one."""

    def pause(self) -> None:
        """Accept nobody for now; new connections wait with the kernel, as many as its queue is long."""

    def resume(self) -> None:
        """Accept again."""

    def close(self) -> None:
        """Accept no more connections; those that were accepted live on."""


class Network(Protocol):
    """Listens and connects."""

    @property
    def turn_end(self) -> TurnEnd | None:
        """When connections write that gather what they write; None: at once."""

    def listen(
        self,
        host: str,
        port: int,
        make: Callable[[], IProtocol],
        *,
        reuse_port: bool = False,
        bound: socket.socket | None = None,
    ) -> Deferred[Any]:
        """Accept connections, each with a protocol from *make*.

        :param host: an address; ``""`` for all, IPv6 included where the machine has it.
        :param bound: a socket that listens there already.
        :returns: fires with a :class:`ListeningSocket`, or fails with :exc:`OSError`.
        """

    def connect(
        self, host: str, port: int, timeout: float, protocol: IProtocol, failed: Callable[[Exception], None]
    ) -> None:
        """Connect *protocol* to a server.

        :param timeout: seconds.
        :param failed: called with an :exc:`OSError` or a :exc:`ConnectTimeout` if it does not come about.
        """


#: Octets that came at once, from which on the loop would read more before it turns to others: uvloop's 256,000 nearly.
LARGE_READ = 250_000


def give_way(transport: Any) -> None:
    """Read no more of *transport* in this turn of the loop, however much has come.

    uvloop reads up to 8 MB of a connection at a time. Twisted's own transports read a little in each turn anyway.
    """
    gives_way = getattr(transport, "give_way", None)
    if gives_way is not None:
        gives_way()


def is_full(transport: Any) -> bool:
    """Whether the peer has much to read yet of what was written. Nobody knows it of Twisted's own transports."""
    return bool(getattr(transport, "full", False))


def hand_over(transport: Any, protocol: IProtocol) -> None:
    """Let *protocol* be told from now on what happens on *transport*; it is yet to be given the transport."""
    switch = getattr(transport, "switch", None)
    if switch is not None:
        switch(protocol)
    else:
        transport.protocol = protocol


def speak_for(transport: Any, peer: IAddress) -> None:
    """Let *transport* say from now on that it is *peer* that is at its other end."""
    speaks_for = getattr(transport, "speaks_for", None)
    if speaks_for is not None:
        speaks_for(peer)
    else:
        transport.getPeer = lambda: peer
