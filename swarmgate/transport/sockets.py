"""Listening sockets: made here, or handed over by who has started the process."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping, Sequence

from swarmgate.transport.native import listening_socket

#: The first descriptor that is handed over (sd_listen_fds(3)).
_FIRST = 3


def handed_over(environ: MutableMapping[str, str], process: int) -> dict[str, list[socket.socket]]:
    """The listening sockets that the process was started with, by entry point (``LISTEN_FDS``, sd_listen_fds(3)).

    A socket without a name in ``LISTEN_FDNAMES`` is found by its port, under the name ``":80"``. The variables are
    taken out of *environ*, so that no child takes them to be meant for itself.

    :param process: the id of this process: sockets for another one are left alone.
    :raises ValueError: what was handed over is no listening socket, or the variables can't be understood.
    """
    wanted = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if not count or (wanted and wanted != str(process)):
        return {}
    if not count.isdecimal():
        raise ValueError(f"LISTEN_FDS: expected a number, not {count!r}")
    found: dict[str, list[socket.socket]] = {}
    for place in range(int(count)):
        try:
            one = socket.socket(fileno=_FIRST + place)
            listens = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise ValueError(f"LISTEN_FDS: descriptor {_FIRST + place} is no socket: {error.strerror}") from None
        if not listens:
            raise ValueError(f"LISTEN_FDS: the socket with descriptor {_FIRST + place} does not listen")
        os.set_inheritable(one.fileno(), False)
        name = names[place] if place < len(names) else ""
        found.setdefault(name or f":{one.getsockname()[1]}", []).append(one)
    return found


def take(handed: MutableMapping[str, list[socket.socket]], name: str, port: int) -> list[socket.socket]:
    """The sockets among those *handed* over that are the entry point *name*'s, or at its *port*."""
    by_name = handed.get(name, [])
    chosen = [one for one in by_name if one.getsockname()[1] == port] or handed.get(f":{port}", [])
    for key in (name, f":{port}"):
        left = [one for one in handed.get(key, []) if one not in chosen]
        handed.pop(key, None)
        if left:
            handed[key] = left
    return chosen


def bind(
    host: str, port: int, count: int, reuse_port: bool, handed: Sequence[socket.socket] = ()
) -> list[socket.socket]:
    """*count* listening sockets of one address, among which the kernel shares out the connections (``SO_REUSEPORT``).

    :param reuse_port: other processes may listen there, too.
    :param handed: sockets of the address that are there already; they are all kept, even if there are more.
    :raises OSError: the address is taken, or not this machine's.
    """
    made = list(handed)
    if not made:
        if count == 1 or not reuse_port:
            # SO_REUSEPORT would let in any other process of this user: first see that nobody is there.
            first = listening_socket(host, port, reuse_port)
            if count == 1:
                return [first]
            port = first.getsockname()[1]
            first.close()
        made.append(listening_socket(host, port, True))
        port = made[0].getsockname()[1]
    shares = made[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    while len(made) < count and shares:
        made.append(listening_socket(host, port, True))
    return made


def dealt(sockets: Mapping[str, Sequence[socket.socket]], workers: int) -> list[dict[str, list[socket.socket]]]:
    """Which worker accepts on which sockets: each socket has one worker at least, and each worker one socket."""
    return [
        {
            name: [one for place, one in enumerate(of_one) if place % workers == worker]
            or [of_one[worker % len(of_one)]]
            for name, of_one in sockets.items()
        }
        for worker in range(workers)
    ]
