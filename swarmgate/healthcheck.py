"""``swarmgate healthcheck``: asks a gate on this machine whether it is well.

The engine starts it anew every few seconds, on machines without time to spare as well, and stops a gate whose checks
come too late, though it is only slow. So it loads nothing but what it can't do without, and it does not read the gate's
configuration to find out where to ask: the container's first process says so in a *note*, a file in its memory that
others of its user find among its descriptors (memfd_create(2), proc_pid_fd(5)), whatever its file system allows.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from swarmgate.config.model import StaticConfiguration
    from swarmgate.structure import Address

NO_PING = "none"
"""The note of a gate that can't be asked."""

_NAME = "swarmgate-ping"
_LONGEST = 4096  # Octets of a note, and of an answer's first line.
_TIMEOUT = 5.0  # Seconds.


class NotHTTP(Exception):
    """What came is no answer of HTTP."""


def url_of(address: Address) -> str:
    """Where a ping that listens on *address* is asked from its own machine."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{address.port}/ping"


def ping_url(configuration: StaticConfiguration) -> str:
    """Where the gate with this configuration answers a ping from its own machine; ``""`` if it doesn't."""
    ping = configuration.ping
    entry_point = configuration.entry_points.get(ping.entry_point) if ping is not None else None
    return "" if entry_point is None else url_of(entry_point.address)


def leave_note(url: str) -> int | None:
    """Have this process say where it is asked: at *url*, or nowhere if it is ``""``.

    :returns: the note's descriptor, which is to stay open; None where the system has no such files.
    """
    if not hasattr(os, "memfd_create"):
        return None
    note = os.memfd_create(_NAME)
    os.write(note, (url or NO_PING).encode())
    return note


def noted(process: int | str) -> str:
    """What the note of a *process* says: a URL or :data:`NO_PING`; ``""`` if it has none, or not for this user."""
    folder = f"/proc/{process}/fd"
    try:
        for name in os.listdir(folder):
            if os.readlink(f"{folder}/{name}").startswith(f"/memfd:{_NAME} "):
                with open(f"{folder}/{name}", "rb") as note:
                    return note.read(_LONGEST).decode()
    except (OSError, UnicodeDecodeError):
        pass
    return ""


def get(host: str, port: int, path: str, timeout: float) -> int:
    """The status of an answer.

    :param timeout: seconds.
    :raises OSError: there is none.
    :raises NotHTTP: something else came.
    """
    with socket.create_connection((host, port), timeout) as connection:
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            line = answer.readline(_LONGEST)
    version, _, rest = line.partition(b" ")
    status = rest[:3]
    if not version.startswith(b"HTTP/1.") or not status.isdigit():
        raise NotHTTP(line.decode("latin-1").strip() or "the connection was closed without an answer")
    return int(status)


def ask_ping(url: str, get: Callable[[str, int, str, float], int] = get) -> tuple[bool, str]:
    """Is the gate at *url* well, and a line that says so?

    :param get: asks with host, port, path and seconds that it may take, and returns the status.
    """
    authority, _, path = url.partition("://")[2].partition("/")
    host, _, port = authority.rpartition(":")
    try:
        status = get(host.strip("[]"), int(port), f"/{path}", _TIMEOUT)
    except TimeoutError:
        return False, f"unhealthy: {url}: no answer within {_TIMEOUT:g} s"
    except (OSError, NotHTTP) as error:
        return False, f"unhealthy: {url}: {error or type(error).__name__}"
    if status != 200:
        return False, f"unhealthy: {url}: status {status}, expected 200"
    return True, f"healthy: {url}"


def tell(url: str, ask: Callable[[str], tuple[bool, str]] = ask_ping) -> int:
    """Ask the gate at *url* and print what it comes to; :returns: the exit status.

    :param url: as a note has it.
    """
    if url == NO_PING:
        # The image has a health check, and a gate without ping must not be killed for it.
        print("the gate in this container has no ping, so there is nothing to ask: taken for healthy")  # noqa: T201
        return 0
    healthy, line = ask(url)
    print(line, file=sys.stdout if healthy else sys.stderr)
    return 0 if healthy else 1
