"""Certificates in a file, for a gate of one process."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from swarmgate.acme.store import CHALLENGE, Contents, Failure, IStore, Lease, Record, StoreError

T = TypeVar("T")
_FORMAT = "swarmgate-certificates-1"


@implementer(IStore)
class FileStore:
    """A store in one file, which only its owner may read; it is replaced in one step and never half written.

    :param wall: seconds since 1970.
    :param in_thread: calls a function in a thread and returns a Deferred of what it returns.
    :ivar spread: seconds until all who share the store have seen what was written: nobody does.
    """

    spread = 0.0

    def __init__(
        self, path: str, in_thread: Callable[..., Deferred[Any]], wall: Callable[[], float] = time.time
    ) -> None:
        self.path = Path(path)
        self._wall = wall
        self._in_thread = in_thread
        self._rings: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<FileStore {self.path}>"

    def look(self, fresh: bool) -> Deferred[Contents]:
        """See :meth:`IStore.look`."""
        return self._in_thread(self._read)

    def subscribe(self, ring: Callable[[], None]) -> Callable[[], None]:
        """See :meth:`IStore.subscribe`. Tells of this process's own changes."""
        self._rings.append(ring)

        def cancel() -> None:
            if ring in self._rings:
                self._rings.remove(ring)

        return cancel

    def put(self, number: int, kind: str, title: str, content: bytes) -> Deferred[bool]:
        """See :meth:`IStore.put`."""

        def change(contents: Contents) -> tuple[Contents | None, bool]:
            others = contents.challenges if kind == CHALLENGE else contents.records
            if any(one.number == number for one in others):
                return None, False
            record = Record(number, kind, title, content, self._wall())
            return _with(contents, kind, sorted((*others, record), key=lambda one: one.number)), True

        return self._changed(change)

    def remove(self, record: Record) -> Deferred[None]:
        """See :meth:`IStore.remove`."""

        def change(contents: Contents) -> tuple[Contents | None, None]:
            others = contents.challenges if record.kind == CHALLENGE else contents.records
            return _with(contents, record.kind, [one for one in others if one.number != record.number]), None

        return self._changed(change)

    def swap_lease(self, seen: Lease, wanted: Lease) -> Deferred[Lease | None]:
        """See :meth:`IStore.swap_lease`."""

        def change(contents: Contents) -> tuple[Contents | None, Lease | None]:
            if contents.lease.version != seen.version:
                return None, None
            lease = attrs.evolve(wanted, version=seen.version + 1)
            return attrs.evolve(contents, lease=lease), lease

        return self._changed(change)

    def close(self) -> Deferred[None]:
        """See :meth:`IStore.close`."""
        self._rings.clear()
        return succeed(None)

    def _changed(self, change: Callable[[Contents], tuple[Contents | None, T]]) -> Deferred[T]:
        def tell(result: T) -> T:
            for ring in list(self._rings):
                ring()
            return result

        done: Deferred[T] = self._in_thread(self._change, change)
        return done.addCallback(tell)

    # From here on in threads.

    def _change(self, change: Callable[[Contents], tuple[Contents | None, T]]) -> T:
        with self._locked():
            after, result = change(self._read())
            if after is not None:
                self._write(after)
            return result

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes, such as the command line's, from writing."""
        try:
            lock = os.open(f"{self.path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _read(self) -> Contents:
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return Contents()
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error
        if not text.strip():
            return Contents()
        try:
            tree = json.loads(text)
            if not isinstance(tree, dict) or tree.get("format") != _FORMAT:
                raise StoreError(
                    f"{self.path}: not written by swarmgate; for an acme.json of Traefik's name another file as "
                    "storage, and take its certificates over with swarmgate certs import"
                )
            lease = tree["lease"]
            failures = {key: Failure(*one) for key, one in lease["failures"].items()}
            records = tuple(map(_record, tree["records"]))
            last = max([tree["last"], *(one.number for one in records)])
            return Contents(
                records,
                tuple(map(_record, tree["challenges"])),
                Lease(lease["holder"], lease["version"], failures, tuple(lease["writes"])),
                (),
                last,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{self.path}: damaged ({type(error).__name__}): restore it, or remove it") from error

    def _write(self, contents: Contents) -> None:
        lease = contents.lease
        tree = {
            "format": _FORMAT,
            "last": max([contents.last, *(one.number for one in contents.records)]),
            "records": [_tree(one) for one in contents.records],
            "challenges": [_tree(one) for one in contents.challenges],
            "lease": {
                "holder": lease.holder,
                "version": lease.version,
                "writes": lease.writes,
                "failures": {key: [one.count, one.retry_at] for key, one in lease.failures.items()},
            },
        }
        try:
            # mkstemp gives it the mode 0600.
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
            try:
                with os.fdopen(handle, "w") as file:
                    json.dump(tree, file, indent=1)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(name, self.path)
            except BaseException:
                os.unlink(name)
                raise
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error


def _with(contents: Contents, kind: str, records: Iterable[Record]) -> Contents:
    """*contents* with these records, or challenges, in place of those that it has."""
    if kind == CHALLENGE:
        return attrs.evolve(contents, challenges=tuple(records))
    return attrs.evolve(contents, records=tuple(records))


def _tree(record: Record) -> dict[str, Any]:
    return {
        "number": record.number,
        "kind": record.kind,
        "title": record.title,
        "created": record.created,
        "content": base64.b64encode(record.content).decode(),
    }


def _record(tree: dict[str, Any]) -> Record:
    content = base64.b64decode(tree["content"])
    return Record(int(tree["number"]), str(tree["kind"]), str(tree["title"]), content, float(tree["created"]))
