"""A body kept until all of it is here: in memory, or, if it is long, in a temporary file.

A file has no name, so that nothing is left of it when the process ends in whatever way. It is written and read in
threads; whoever sends the body is paused meanwhile.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.python.failure import Failure

#: Octets of all bodies together that are kept in memory; beyond that they go to files, whatever their size.
IN_MEMORY_AT_MOST = 64 * 1024 * 1024
#: Octets of all bodies together that are kept in files.
IN_FILES_AT_MOST = 1024 * 1024 * 1024
#: Octets that are written or read at once.
PIECE = 256 * 1024


class Full(Exception):
    """There is no more room for bodies, or none can be made."""


class _Kept:
    """Octets that this process keeps."""

    in_memory = 0
    in_files = 0


class Spool:
    """One body.

    :param in_memory: octets from which on it goes to a file.
    :param in_thread: calls in a thread, see :class:`~swarmgate.middlewares.interface.Context`; None: there are none.
    :param hold: called with whether whoever sends the body is to wait, and with False if it can't be kept.
    :ivar size: octets that are there.
    :ivar failed: why it is not kept, None if it is.
    """

    def __init__(self, in_memory: int, in_thread: Any, hold: Callable[[bool], object]) -> None:
        self.size = 0
        self._in_memory = in_memory
        self._call = in_thread or maybeDeferred
        self._hold = hold
        self._pieces: list[bytes] = []
        self._pending = 0  # octets of the pieces
        self._file: Any = None
        self._in_file = 0
        self._busy = False
        self._closed = False
        self.failed: Exception | None = None
        self._whole: Deferred[None] | None = None

    @property
    def is_in_memory(self) -> bool:
        """Whether all of it is."""
        return self._file is None and not self._busy

    def write(self, data: bytes) -> None:
        """Keep *data*, which follows what is there."""
        if self._closed or self.failed is not None:
            return
        self.size += len(data)
        self._pieces.append(data)
        self._pending += len(data)
        _Kept.in_memory += len(data)
        if self._busy:
            return
        is_full = _Kept.in_memory > IN_MEMORY_AT_MOST
        if is_full or (self.size > self._in_memory and (self._file is None or self._pending >= PIECE)):
            self._flush()

    def finish(self) -> Deferred[None]:
        """No more will come. Fires when all is where it is to stay, or fails with :exc:`Full`."""
        whole: Deferred[None] = Deferred()
        self._whole = whole
        if not self._busy:
            if self.failed is None and self._file is not None and self._pieces:
                self._flush()
            else:
                self._settle()
        return whole

    def octets(self) -> bytes:
        """All of it, while it is in memory."""
        if len(self._pieces) > 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0] if self._pieces else b""

    def read(self, start: int) -> Deferred[bytes]:
        """A piece of it from *start* on; ``b""`` at its end."""
        if self._file is None:
            return succeed(self.octets()[start : start + PIECE])
        self._busy = True
        reading: Deferred[bytes] = self._call(os.pread, self._file.fileno(), PIECE, start)
        return reading.addBoth(self._has_read)

    def close(self) -> None:
        """Forget it."""
        if not self._closed:
            self._closed = True
            self._drop()
            _Kept.in_files -= self._in_file
            self._in_file = 0
            if not self._busy:  # Else the thread has the file still.
                self._close_file()

    def leave(self, place: Any) -> None:
        """The exchange that it was kept for has ended."""
        self.close()

    def _flush(self) -> None:
        data = self.octets()
        if _Kept.in_files + len(data) > IN_FILES_AT_MOST:
            self._fail(Full("bodies take all the room that there is for them"))
            return
        self._drop()
        _Kept.in_files += len(data)
        self._in_file += len(data)
        self._busy = True
        self._hold(True)
        self._call(_append, self._file, data).addCallbacks(self._written, self._not_written)

    def _written(self, file: Any) -> None:
        self._busy = False
        self._file = file
        if self._closed:
            self._close_file()
        elif self._pending >= PIECE or (self._whole is not None and self._pieces):
            self._flush()
        elif self._whole is not None:
            self._settle()
        else:
            self._hold(False)

    def _not_written(self, failure: Failure) -> None:
        self._busy = False
        if self._closed:
            self._close_file()
        else:
            self._fail(Full(f"a body can't be kept in a file: {failure.getErrorMessage()}"))

    def _has_read(self, outcome: Any) -> Any:
        self._busy = False
        if self._closed:
            self._close_file()
        return outcome

    def _fail(self, error: Exception) -> None:
        self.failed = error
        self._drop()
        if self._whole is not None:
            self._settle()
        else:
            self._hold(False)

    def _settle(self) -> None:
        whole, self._whole = self._whole, None
        if whole is None or whole.called:
            return
        if self.failed is None:
            whole.callback(None)
        else:
            whole.errback(self.failed)

    def _drop(self) -> None:
        _Kept.in_memory -= self._pending
        self._pieces, self._pending = [], 0

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _append(file: Any, data: bytes) -> Any:
    """Write *data* to the end of *file*, a new one if it is None. Returns the file. In a thread."""
    made = file if file is not None else tempfile.TemporaryFile(prefix="swarmgate-", buffering=0)  # noqa: SIM115 it outlives this
    try:
        view = memoryview(data)
        while view:
            view = view[made.write(view) :]
    except OSError:
        if file is None:
            made.close()
        raise
    return made
