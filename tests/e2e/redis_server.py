"""A real Redis (Debian's redis-server) on a free loopback port."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import time

from tests.e2e.gate import PATIENCE, free_port

PASSWORD = "geheim"


class RedisServer:
    """A Redis that runs, asks for :data:`PASSWORD` and keeps nothing.

    :ivar port: where it listens.
    """

    def __init__(self, *options: str) -> None:
        """
        :param options: more of redis-server's own.
        """
        self.port = free_port()
        self._options = options
        self._folder = tempfile.TemporaryDirectory(prefix="swarmgate-redis-")
        self.process = self._run()

    def _run(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [
                *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder.name),
                *("--save", "", "--appendonly", "no", "--requirepass", PASSWORD, "--loglevel", "warning"),
                *self._options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as client:
                    client.sendall(b"PING\r\n")
                    if client.recv(100).startswith(b"-NOAUTH"):
                        return process
            except OSError:
                time.sleep(0.02)  # Between attempts to reach it; it has no way to tell us.
        process.kill()
        raise AssertionError("redis-server does not answer")

    def do(self, command: str, db: int = 0) -> bytes:
        """What it answers to *command* in the database *db*."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as client:
            client.sendall(f"AUTH {PASSWORD}\r\nSELECT {db}\r\n{command}\r\nQUIT\r\n".encode())
            octets = b""
            while piece := client.recv(65536):
                octets += piece
        return octets

    def names(self, db: int = 0) -> list[bytes]:
        """The keys of buckets that it has."""
        return [line for line in self.do("KEYS *", db).split(b"\r\n") if line.startswith(b"swarmgate:")]

    def freeze(self) -> None:
        """It is there, and does nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start it again after :meth:`kill`, on the same port."""
        self.process = self._run()

    def kill(self) -> None:
        """It is gone."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it for good."""
        self.kill()
        self._folder.cleanup()
