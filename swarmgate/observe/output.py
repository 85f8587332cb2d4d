"""Where lines go: a file or standard output, written by a thread of its own.

A disk that stalls, or a program that does not read what is piped to it, must not hold up who has something to say. So
lines wait in memory for the thread to write them, up to a bound; beyond it they are lost, which is counted and said.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from collections.abc import Iterator
from queue import SimpleQueue

from twisted.logger import Logger

_log = Logger()

_WAITING_AT_MOST = 16 * 1024 * 1024
_REOPEN = b"\0"


def whole_lines(data: bytes, at_most: int) -> Iterator[bytes]:
    """Cut *data* after line ends, into parts of at most *at_most* octets, or of one longer line."""
    begin = 0
    while len(data) - begin > at_most:
        end = data.rfind(b"\n", begin, begin + at_most) + 1 or data.find(b"\n", begin) + 1 or len(data)
        yield data[begin:end]
        begin = end
    if begin < len(data):
        yield data[begin:]


class Output:
    """Lines on their way to the file *path*, or to *descriptor* where *path* is empty."""

    def __init__(self, path: str = "", descriptor: int = 1, at_most: int = _WAITING_AT_MOST) -> None:
        """
        :param at_most: octets that may wait to be written.
        """
        # Given.
        self._path = path
        self._descriptor = descriptor
        self._at_most = at_most
        # Until it is closed.
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        # Octets, each counted by one thread only; their difference waits.
        self._taken = 0
        self._done = 0
        self._lost = 0
        self._is_losing = False
        self._trouble = ""
        self._told_trouble = ""

    def start(self) -> None:
        """Open the file.

        :raises OSError: that can't be done.
        """
        if self._path:
            self._descriptor = self._open()
        self._start_thread()

    def write(self, lines: bytes) -> None:
        """Write *lines*, each with its line end, soon. Never blocks."""
        if self._taken - self._done + len(lines) > self._at_most:
            self._lose(lines)
            return
        if self._is_losing:
            self._is_losing = False
            _log.warn("{output} takes lines again; {lost} were lost in all", output=self, lost=self._lost)
        self._taken += len(lines)
        self._queue.put(lines)
        thread = self._thread
        if thread is not None and not thread.is_alive():
            # The process has forked, and threads stay behind.
            self._start_thread()
        trouble = self._trouble
        if trouble != self._told_trouble:
            self._told_trouble = trouble
            if trouble:
                _log.error("{output} can't be written: {reason}; its lines are lost", output=self, reason=trouble)

    def reopen(self) -> None:
        """Open the file anew, after it was moved away; what was said before goes to the old one."""
        if self._path:
            self._queue.put(_REOPEN)

    def close(self, seconds: float = 2.0) -> None:
        """Write what is waiting, for no longer than *seconds*."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._queue.put(None)
        thread.join(seconds)

    def _lose(self, lines: bytes) -> None:
        self._lost += lines.count(b"\n")
        if not self._is_losing:
            self._is_losing = True
            _log.error("{output} is too slow: lines are lost from now on", output=self)

    def _start_thread(self) -> None:
        self._thread = threading.Thread(target=self._work, name=f"writes {self}", daemon=True)
        self._thread.start()

    # In the thread.

    def _work(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                break
            if item is _REOPEN:
                self._reopen()
                continue
            try:
                self._write_all(item)
                self._trouble = ""
            except OSError as error:
                self._trouble = error.strerror or str(error)
            self._done += len(item)
        if self._path:
            os.close(self._descriptor)

    def _write_all(self, data: bytes) -> None:
        # A pipe keeps only so much together. What is longer would be mixed with what others write to it meanwhile: the
        # log and the access log usually share standard output.
        is_pipe = stat.S_ISFIFO(os.fstat(self._descriptor).st_mode)
        for part in whole_lines(data, select.PIPE_BUF) if is_pipe else (data,):
            rest = memoryview(part)
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError:
                    # Somebody who shares our standard output has made it so.
                    select.select([], [self._descriptor], [], 1.0)

    def _open(self) -> int:
        folder = os.path.dirname(self._path)
        if folder:
            os.makedirs(folder, exist_ok=True)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def _reopen(self) -> None:
        try:
            descriptor = self._open()
        except OSError as error:
            # The old one is still open, and better than nothing.
            self._trouble = error.strerror or str(error)
            return
        os.close(self._descriptor)
        self._descriptor = descriptor

    def __str__(self) -> str:
        return self._path or {1: "standard output", 2: "standard error"}.get(self._descriptor, str(self._descriptor))

    def __repr__(self) -> str:
        return f"<Output {self} {self._taken - self._done} octets waiting>"
