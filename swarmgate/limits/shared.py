"""Limits of several processes on one machine, in memory that they share.

The memory is a file without a name (memfd_create(2)), whose descriptor the processes inherit. It has two tables, of
buckets and of counts. What is remembered of a source has its place in the group that the source's digest tells, in
whichever of the group's sixteen slots is free; a digest is made with a secret, so that clients can't choose sources
that meet in one group.

* A bucket is one number, the time at which it is full again (:mod:`swarmgate.limits.token_bucket`), by the clock that
  all processes of the machine share (``CLOCK_MONOTONIC``). A bucket that is full by now is free. If all sixteen are
  taken, the one that will be full first gives way: it loses the least.
* A count has one column for each process, which alone writes to it; the sum over the columns is what is under way. A
  source of which nothing is under way is free. What a process that was killed had under way is given back by clearing
  its column.

A group is read and written under a lock on one octet of the file (fcntl(2)), which the kernel frees if the process
dies. A lock is held for a few microseconds. If it can't be had within a millisecond, since whoever has it does not run
at that very moment, nobody waits for it: what is there is read and written as it is, which at worst counts two requests
of the same moment as one; a source that is not there yet has a bucket, or a count, of this process's own.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, lockf
from hashlib import blake2b
from mmap import mmap
from typing import Any, Literal

from twisted.internet.interfaces import IReactorTime

from swarmgate.limits.interface import Buckets, Counts, Rate, Source
from swarmgate.limits.local import LocalBuckets, LocalCounts

_MAGIC = b"sglimit1"
#: Magic, columns, groups of buckets, groups of counts, the secret of the digests.
_HEADER = struct.Struct("=8sIII16s")
_HEADER_SIZE = 4096
#: Slots of a group.
_SLOTS = 16
_DIGEST = 16
_GROUP = _SLOTS * _DIGEST
#: Seconds for which a lock is waited for at most.
_LOCK_WITHIN = 0.001
#: As in :mod:`swarmgate.limits.token_bucket`.
_AT_ONCE = 1e-6


class SharedLimits:
    """One process's part in limits that several processes have in common.

    :ivar misses: how often a lock could not be had, or a table of counts was full.
    """

    def __init__(self, descriptor: int, worker: int | None, seconds: Callable[[], float] = time.monotonic) -> None:
        """
        :param descriptor: what :meth:`create` has returned, in this process or in one that it was inherited from; it
            stays open for as long as this is used.
        :param worker: which column is this process's; None for one that serves nothing, and only clears.
        :param seconds: the clock, the same for all processes.
        :raises ValueError: the descriptor is of something else, or there is no such column.
        """
        self._memory = mmap(descriptor, 0)
        magic, columns, groups, count_groups, secret = _HEADER.unpack_from(self._memory)
        if magic != _MAGIC:
            raise ValueError(f"descriptor {descriptor} is not that of shared limits")
        if worker is not None and not 0 <= worker < columns:
            raise ValueError(f"worker {worker}: expected one of 0 to {columns - 1}")
        self.descriptor = descriptor
        self.worker = worker
        self.misses = 0
        self.seconds = seconds
        self.secret = secret
        self._columns = columns
        rows = count_groups * _SLOTS
        at = _HEADER_SIZE
        view = memoryview(self._memory)
        self._views = [view]
        self.bucket_groups = groups
        self.bucket_digests = self._view(at, groups * _GROUP)
        at += groups * _GROUP
        self.bucket_times = self._view(at, groups * _SLOTS * 8, "d")
        at += groups * _SLOTS * 8
        self.count_groups = count_groups
        self.count_digests = self._view(at, count_groups * _GROUP)
        at += count_groups * _GROUP
        self.rows = rows
        self.counts_of = self._view(at, rows * columns * 4, "i")

    def _view(self, at: int, size: int, kind: Literal["B", "d", "i"] = "B") -> Any:
        view: Any = self._views[0][at : at + size].cast(kind)
        self._views.append(view)
        return view

    @staticmethod
    def create(workers: int, groups: int = 16384, count_groups: int = 4096) -> int:
        """A descriptor of new shared limits for so many workers. It is closed by whoever has asked for it.

        Memory is used as it is needed, at most 24 octets for a bucket, and 16 and 4 for each worker for a count.

        :param groups: of sixteen buckets each; all limits share them.
        :param count_groups: of sixteen counts each.
        :raises OSError: there is no memory.
        """
        descriptor = os.memfd_create("swarmgate-limits")
        try:
            size = _HEADER_SIZE + _SLOTS * (groups * (_DIGEST + 8) + count_groups * (_DIGEST + 4 * workers))
            os.ftruncate(descriptor, size)
            os.pwrite(descriptor, _HEADER.pack(_MAGIC, workers, groups, count_groups, os.urandom(16)), 0)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    @classmethod
    def open(cls, descriptor: int, worker: int | None = None) -> SharedLimits:
        """The limits that *descriptor* is of; the parameters are those of the class."""
        return cls(descriptor, worker)

    def close(self) -> None:
        """Let go of the memory; the descriptor stays open."""
        for view in reversed(self._views):
            view.release()
        self._memory.close()

    def clear(self, worker: int) -> None:
        """Give back what *worker*, a process that is no more, had under way.

        :raises ValueError: there is no such column.
        """
        if not 0 <= worker < self._columns:
            raise ValueError(f"worker {worker}: expected one of 0 to {self._columns - 1}")
        column = self.counts_of[worker * self.rows : (worker + 1) * self.rows]
        column[:] = memoryview(bytes(self.rows * 4)).cast("i")
        column.release()

    # Limits.

    def buckets(self, name: str, rate: Rate, clock: IReactorTime) -> Buckets:
        return SharedBuckets(self, name, rate, LocalBuckets(rate, clock))

    def counts(self, name: str) -> Counts:
        if self.worker is None:
            raise ValueError("a process without a column can't count")
        return SharedCounts(self, self.worker, name)

    # What buckets and counts share.

    def key(self, name: str) -> bytes:
        """What digests of the limit called *name* are made with."""
        return blake2b(name.encode("utf-8", "surrogateescape"), key=self.secret, digest_size=32).digest()

    def lock(self, at: int) -> bool:
        """Lock the octet *at*. Returns whether that has succeeded, after a millisecond at most."""
        descriptor = self.descriptor
        try:
            lockf(descriptor, LOCK_EX | LOCK_NB, 1, at)
        except OSError:
            return self._lock_late(at)
        return True

    def _lock_late(self, at: int) -> bool:
        until = time.monotonic() + _LOCK_WITHIN
        while time.monotonic() < until:
            os.sched_yield()
            try:
                lockf(self.descriptor, LOCK_EX | LOCK_NB, 1, at)
            except OSError:
                continue
            return True
        self.misses += 1
        return False

    def unlock(self, at: int) -> None:
        """Unlock the octet *at*."""
        lockf(self.descriptor, LOCK_UN, 1, at)

    def __repr__(self) -> str:
        return f"<SharedLimits {self._columns} workers, this is {self.worker}>"


def _slot_of(digest: bytes, group: bytes) -> int:
    """Where *digest* is among the digests of a group, -1 if it isn't."""
    at = group.find(digest)
    while at > 0 and at % _DIGEST:
        at = group.find(digest, at + 1)
    return at // _DIGEST if at > 0 else at


class SharedBuckets:
    """The token buckets of one limit."""

    __slots__ = ("_depth", "_digests", "_groups", "_interval", "_key", "_limits", "_local", "_longest_wait", "_times")

    def __init__(self, limits: SharedLimits, name: str, rate: Rate, local: Buckets) -> None:
        """
        :param local: decides when the memory can't.
        """
        self._limits = limits
        self._key = limits.key(name)
        self._local = local
        self._groups = limits.bucket_groups
        self._digests = limits.bucket_digests
        self._times = limits.bucket_times
        self._interval = 1 / rate.tokens
        self._depth = rate.burst / rate.tokens
        self._longest_wait = rate.longest_wait

    def _digest(self, source: Source) -> bytes:
        octets = source if isinstance(source, bytes) else source.encode("utf-8", "surrogateescape")
        return blake2b(octets, key=self._key, digest_size=_DIGEST).digest()

    def learn(self, source: Source, full_in: float) -> None:
        digest = self._digest(source)
        group = int.from_bytes(digest[:4], "little") % self._groups
        limits = self._limits
        if limits.lock(group):
            try:
                self._times[self._slot(digest, group, True)] = limits.seconds() + full_in
            finally:
                limits.unlock(group)

    def take(self, source: Source) -> float:
        digest = self._digest(source)
        group = int.from_bytes(digest[:4], "little") % self._groups
        limits = self._limits
        if limits.lock(group):
            try:
                return self._take(self._slot(digest, group, True), limits.seconds())
            finally:
                limits.unlock(group)
        slot = self._slot(digest, group, False)
        return self._local.take(source) if slot < 0 else self._take(slot, limits.seconds())

    def _slot(self, digest: bytes, group: int, make: bool) -> int:
        """Where the bucket with *digest* is among all; -1 if it isn't there and not to be made."""
        first = group * _SLOTS
        at = group * _GROUP
        slot = _slot_of(digest, self._digests[at : at + _GROUP].tobytes())
        if slot >= 0:
            return first + slot
        if not make:
            return -1
        taken = self._times[first : first + _SLOTS].tolist()
        slot = int(first + taken.index(min(taken)))
        # A process may be killed between the two: what it leaves is a bucket that is full.
        self._times[slot] = 0.0
        self._digests[slot * _DIGEST : (slot + 1) * _DIGEST] = digest
        return slot

    def _take(self, slot: int, now: float) -> float:
        before = self._times[slot]
        full = (before if before > now else now) + self._interval
        wait = full - now - self._depth
        if wait < _AT_ONCE:
            self._times[slot] = full
            return 0.0
        if wait <= self._longest_wait:
            self._times[slot] = full
        return wait

    def __repr__(self) -> str:
        return f"<SharedBuckets {1 / self._interval:g}/s>"


class SharedCounts:
    """The counts of one limit. A place is the number of a row, or the source where this process counts for itself."""

    __slots__ = ("_column", "_counts", "_digests", "_groups", "_key", "_limits", "_local", "_rows")

    def __init__(self, limits: SharedLimits, worker: int, name: str) -> None:
        self._limits = limits
        self._key = limits.key(name)
        self._local = LocalCounts()
        self._groups = limits.count_groups
        self._digests = limits.count_digests
        self._counts = limits.counts_of
        self._rows = limits.rows
        self._column = worker * limits.rows

    def enter(self, source: Source, at_most: int) -> Any:
        octets = source if isinstance(source, bytes) else source.encode("utf-8", "surrogateescape")
        digest = blake2b(octets, key=self._key, digest_size=_DIGEST).digest()
        group = int.from_bytes(digest[:4], "little") % self._groups
        limits = self._limits
        lock = limits.bucket_groups + group
        if limits.lock(lock):
            try:
                row = self._row(digest, group, True)
                if row >= 0:
                    return self._enter(row, at_most)
                limits.misses += 1
            finally:
                limits.unlock(lock)
        else:
            row = self._row(digest, group, False)
            if row >= 0:
                return self._enter(row, at_most)
        return self._local.enter(source, at_most)

    def _enter(self, row: int, at_most: int) -> int | None:
        if sum(self._counts[row :: self._rows]) >= at_most:
            return None
        self._counts[self._column + row] += 1
        return row

    def _row(self, digest: bytes, group: int, make: bool) -> int:
        """The row of the source with *digest*, a free one if there is none yet and it is to be made; -1 for none."""
        first = group * _SLOTS
        at = group * _GROUP
        slot = _slot_of(digest, self._digests[at : at + _GROUP].tobytes())
        if slot >= 0:
            return first + slot
        if make:
            for row in range(first, first + _SLOTS):
                if not any(self._counts[row :: self._rows]):
                    self._digests[row * _DIGEST : (row + 1) * _DIGEST] = digest
                    return row
        return -1

    def leave(self, place: Any) -> None:
        if isinstance(place, int):
            # Nobody else writes here, and the row stays this source's until it is 0.
            self._counts[self._column + place] -= 1
        else:
            self._local.leave(place)
