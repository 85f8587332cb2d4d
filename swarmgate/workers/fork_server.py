"""The fork server: a process that has in memory all that a worker imports, and forks one whenever the parent asks.

What it has imported is there for its workers at once, and once for all of them. It has no threads, no reactor and no
event loop, none of which would survive a fork. Workers are its children: it tells the parent how they end.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import select
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from swarmgate.transport.reactor import import_reactor
from swarmgate.workers import messages, process

#: The descriptor of the socket to the parent.
CONTROL = 3
#: Octets of a message on it, and descriptors that come with one (SCM_MAX_FD, unix(7)).
LONGEST, MOST_DESCRIPTORS = 4096, 253
_NAME = Path("/proc/self/comm")


def fork_workers(control: socket.socket) -> Sequence[int] | None:
    """Fork a worker for each message from *control*.

    It returns more than once: in each worker with the descriptors that are the worker's, and with None in the fork
    server, when the parent is no more.
    """
    woken, waking = socket.socketpair()
    waking.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    numbers: dict[int, int] = {}

    def tell(message: Any) -> None:
        with contextlib.suppress(OSError):  # A parent that has gone is seen by the end of what it says.
            control.send(pickle.dumps(message))

    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            woken.recv(LONGEST)
            for child, code in _ended():
                tell(messages.Ended(numbers.pop(child), child, code))
        if control not in ready:
            continue
        data, descriptors, _, _ = socket.recv_fds(control, LONGEST, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return None
        fork: messages.Fork = pickle.loads(data)  # noqa: S301 -- of our own other process
        try:
            child = os.fork()
        except OSError as error:
            tell(messages.CannotFork(fork.number, error.strerror or str(error)))
        else:
            if not child:
                signal.set_wakeup_fd(-1)
                for one in (control, woken, waking):
                    one.close()
                set_name(f"worker {fork.number}")
                return descriptors
            numbers[child] = fork.number
            tell(messages.Forked(fork.number, child))
        for descriptor in descriptors:
            os.close(descriptor)


def _ended() -> Iterator[tuple[int, int]]:
    """The children that have ended, and with which exit codes: negative for signals."""
    with contextlib.suppress(ChildProcessError):
        while True:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                return
            yield child, os.waitstatus_to_exitcode(status)


def set_name(name: str) -> None:
    """Have ``ps`` and ``top`` tell this process from others of the same command line."""
    with contextlib.suppress(OSError):  # not on Linux
        _NAME.write_text(name)


def main() -> None:
    """Fork workers until the parent is no more; be a worker, in each of them."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        # They are meant for the parent: a terminal and systemd send them to all.
        signal.signal(number, signal.SIG_IGN)
    set_name("fork server")
    if "--without-uvloop" in sys.argv:
        sys.modules["uvloop"] = None  # type: ignore[assignment]
    import_reactor()
    # Pages that the collector writes to would not be shared.
    gc.collect()
    gc.freeze()
    descriptors = fork_workers(socket.socket(fileno=CONTROL))
    if descriptors is None:
        return
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    process.run(descriptors)


if __name__ == "__main__":
    main()
