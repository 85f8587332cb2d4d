"""A wire between two network namespaces that is slow and loses packets: ``python -m bench.attacks.wire ...``.

Both ends are TUN devices of this process, moved to namespaces that it has made; a packet that one of them is given
comes out of the other one later, or not at all. It needs root, and no module of the kernel but ``tun``.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import struct
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.processes import Failed, Running, start

#: ``linux/if_tun.h``.
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_LONGEST_PACKET = 65536
_ROOT = Path(__file__).resolve().parent.parent.parent


class Wire:
    """Two namespaces, and the wire between them, for as long as the ``with`` statement lasts.

    :ivar near: what a command begins with that runs where clients and gate are; :ivar far: where the servers are.
    :ivar server: the servers' address.
    """

    server = "10.231.77.2"

    def __init__(self, folder: Path, delay: float, loss: float) -> None:
        """
        :param delay: of each packet, in seconds.
        :param loss: the share of packets that are lost.
        """
        self._names = (f"gate-{os.getpid()}-near", f"gate-{os.getpid()}-far")
        self.near = ("ip", "netns", "exec", self._names[0])
        self.far = ("ip", "netns", "exec", self._names[1])
        self._folder = folder / "wire"
        self._delay, self._loss = delay, loss
        self._relay: Running | None = None

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir()
            for name in self._names:
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            self._relay = start(
                "wire",
                (sys.executable, "-m", "bench.attacks.wire", *self._names, str(self._delay), str(self._loss)),
                self._folder,
                sorted(os.sched_getaffinity(0))[-1:],
                {"PYTHONPATH": str(_ROOT)},
            )
            stdout = self._folder / "stdout"
            while "ready" not in stdout.read_text():
                if self._relay.process.poll() is not None:
                    raise Failed(f"there is no wire: {self._relay.complaint()}")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._relay is not None:
            self._relay.stop()
        for name in self._names:
            with contextlib.suppress(Failed):
                _ip("netns", "delete", name)

    def counts(self) -> tuple[int, int]:
        """How many packets were passed on, and how many lost."""
        assert self._relay is not None
        self._relay.stop()
        passed, lost = (self._folder / "stdout").read_text().split()[-2:]
        return int(passed), int(lost)


def _ip(*words: str) -> None:
    done = subprocess.run(("ip", *words), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _device(namespace: str, address: str) -> int:
    """An end of the wire in *namespace*: its descriptor here."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    # Unlike any other on the machine, however many of these run.
    name = f"wire{os.getpid() % 100000}{address[-1]}"
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    _ip("link", "set", name, "netns", namespace)
    _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", name)
    _ip("-n", namespace, "link", "set", name, "up", "mtu", "1500")
    return device


async def relay(near: str, far: str, delay: float, loss: float) -> None:
    """Pass packets on until SIGTERM; then tell how many were passed on, and how many lost."""
    loop = asyncio.get_running_loop()
    ends = _device(near, "10.231.77.1"), _device(far, Wire.server)
    counts = [0, 0]
    over = asyncio.Event()
    loop.add_signal_handler(15, over.set)

    def deliver(there: int, packet: bytes) -> None:
        with contextlib.suppress(OSError):  # a device that is down, or full
            os.write(there, packet)

    def arrived(here: int, there: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = os.read(here, _LONGEST_PACKET)
                if random.random() < loss:
                    counts[1] += 1
                else:
                    counts[0] += 1
                    loop.call_later(delay, deliver, there, packet)

    loop.add_reader(ends[0], arrived, *ends)
    loop.add_reader(ends[1], arrived, *ends[::-1])
    print("ready", flush=True)
    await over.wait()
    print(*counts, flush=True)


if __name__ == "__main__":
    asyncio.run(relay(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
