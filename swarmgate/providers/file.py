"""Routes from files that are watched (Traefik ``providers.file``).

Looking is cheap: the files' times, sizes and inodes tell whether one has changed. A changed file is read when it has
stayed the same from one look to the next, so that one that is just being written is not taken for a short one. A file
that is broken keeps what it last said in force, and costs nothing but that.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from swarmgate.documents import SUFFIXES
from swarmgate.dynamic.file_format import decode_file, merge_files, problem_of
from swarmgate.dynamic.model import Configuration, Problem
from swarmgate.providers.material import Material, complete, look_at, read
from swarmgate.structure import StructureError

LOOK_EVERY = 0.25
"""Seconds between two looks."""

_REST = 20  # A look that takes long is followed by a rest of so many times that long.
_LOOKS_AT_MOST = 2  # After so many looks, a file that never stays the same is read all the same.
_LARGEST = 16 * 2**20  # Octets of a file: more would take minutes to read.
_KEPT = "what it said before stays in force"

_log = Logger("swarmgate.file")


class FileOptions(Protocol):
    """What the provider is told.

    :ivar filename: a file; ``""`` if it is a folder.
    :ivar directory: a folder, subfolders included; ``""`` if it is a file.
    :ivar watch: look more than once.
    """

    @property
    def filename(self) -> str: ...
    @property
    def directory(self) -> str: ...
    @property
    def watch(self) -> bool: ...


Signature = tuple[int, int, int]
"""Modification time in nanoseconds, size in octets, inode: a file whose signature is the same is the same."""


@attrs.frozen
class SeenFile:
    """A file as far as the provider knows it.

    :ivar signature: of the content that was read last, None if there was none.
    :ivar latest: the signature at the last look, None if there was no such file.
    :ivar looks: for how many looks the content that was read last is no longer the latest.
    :ivar good: what it last said without fault, None for nothing so far.
    :ivar problems: why what it says now is not in force.
    """

    signature: Signature | None = None
    latest: Signature | None = None
    looks: int = 0
    good: Configuration | None = None
    problems: tuple[Problem, ...] = ()


@attrs.frozen
class Seen:
    """All files as far as the provider knows them.

    :ivar files: by name.
    :ivar problems: why they couldn't be looked at.
    :ivar material: what stands in the files that they name.
    :ivar completed: what each of the files says with that; those that name none apart.
    """

    files: Mapping[str, SeenFile] = attrs.field(factory=dict)
    problems: tuple[Problem, ...] = ()
    material: Mapping[str, Material] = attrs.field(factory=dict)
    completed: Mapping[str, Configuration] = attrs.field(factory=dict)

    @property
    def configuration(self) -> Configuration:
        """What the files say together."""
        good = {name: file.good for name, file in self.files.items() if file.good is not None}
        merged = merge_files({name: self.completed.get(name, one) for name, one in good.items()})
        broken = tuple(problem for _, file in sorted(self.files.items()) for problem in file.problems)
        return attrs.evolve(merged, problems=(*self.problems, *broken, *merged.problems))


def look(options: FileOptions, kinds: Mapping[str, type[Any]], before: Seen | None, now: float = 0.0) -> Seen:
    """Look at the files, and read those that have changed.

    :param kinds: the class of settings of each kind of middleware that there is, by its name in lower case.
    :param before: the outcome of the last look, None if this is the first.
    :param now: seconds since 1970, by which certificates are valid.
    """
    try:
        signatures = _signatures(options)
    except OSError as error:
        where = options.filename or options.directory
        noun = "file" if options.filename else "folder"
        kept = f"; {_KEPT}" if before is not None and before.files else ""
        problem = Problem(f"{noun} {where}", f"{noun} {where}", f"can't be read: {error.strerror or error}{kept}")
        return attrs.evolve(before or Seen(), problems=(problem,))
    files: dict[str, SeenFile] = {}
    known = before.files if before is not None else {}
    for name in sorted({*known, *signatures}):
        path, signature = signatures.get(name, ("", None))
        file = known.get(name, SeenFile())
        if signature == file.signature:
            files[name] = attrs.evolve(file, latest=signature, looks=0)
        elif before is not None and signature != file.latest and file.looks + 1 < _LOOKS_AT_MOST:
            files[name] = attrs.evolve(file, latest=signature, looks=file.looks + 1)
        elif signature is not None:
            files[name] = _read(name, path, signature, kinds, file)
        # Else it has gone, and what it said with it.
    return _with_material(files, before or Seen(), now)


def _with_material(files: Mapping[str, SeenFile], before: Seen, now: float) -> Seen:
    """Read what the files name, too; what has stayed the same is not taken apart again."""
    material: dict[str, Material] = {}
    completed: dict[str, Configuration] = {}
    for name, file in files.items():
        good = file.good
        if good is None or good.tls_files is None:
            continue
        known = before.material.get(name, Material())
        paths = look_at(good.tls_files, good.servers_transports, known.paths)
        earlier = before.files.get(name)
        if name in before.completed and earlier is not None and earlier.good is good and paths == known.paths:
            material[name], completed[name] = known, before.completed[name]
        else:
            readings = read(good.tls_files, good.servers_transports, paths, known)
            completed[name], material[name] = complete(good, good.tls_files, paths, readings, known, now)
    return Seen(files, (), material, completed)


def _signatures(options: FileOptions) -> dict[str, tuple[str, Signature]]:
    """Path and signature of each file, by the name that messages call it."""
    if options.filename:
        return {options.filename: (options.filename, _signature(os.stat(options.filename)))}
    return dict(_in_folder(options.directory, ""))


def _in_folder(folder: str, prefix: str) -> Iterator[tuple[str, tuple[str, Signature]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    yield from _in_folder(entry.path, f"{prefix}{entry.name}/")
                elif entry.name.lower().endswith(SUFFIXES) and stat.S_ISREG(entry.stat().st_mode):
                    yield prefix + entry.name, (entry.path, _signature(entry.stat()))
            except FileNotFoundError:
                continue  # It has gone meanwhile.


def _signature(status: os.stat_result) -> Signature:
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _read(name: str, path: str, signature: Signature, kinds: Mapping[str, type[Any]], before: SeenFile) -> SeenFile:
    file = f"file {name}"
    kept = f"; {_KEPT}" if before.good is not None else ""
    problems: tuple[Problem, ...]
    try:
        if signature[1] > _LARGEST:
            raise OSError(None, f"it is larger than {_LARGEST} octets")
        with open(path, encoding="utf-8-sig") as opened:
            good = decode_file(opened.read(), name, kinds)
    except StructureError as error:
        faults = [problem_of(fault, file, file) for fault in error.faults]
        problems = tuple(attrs.evolve(problem, reason=problem.reason + kept) for problem in faults)
    except UnicodeDecodeError as error:
        problems = (Problem(file, file, f"no UTF-8, at octet {error.start + 1}{kept}"),)
    except OSError as error:
        problems = (Problem(file, file, f"can't be read: {error.strerror or error}{kept}"),)
    else:
        return SeenFile(signature, signature, 0, good)
    return SeenFile(signature, signature, 0, before.good, problems)


class FileProvider(Service):
    """Publishes what the files say, at its start and whenever that has changed.

    :ivar is_ready: all files have been looked at, and at least one is in force if there is but one.
    """

    def __init__(
        self,
        clock: IReactorTime,
        options: FileOptions,
        kinds: Mapping[str, type[Any]],
        publish: Callable[[str, Configuration], None],
        apart: Callable[..., Deferred[Any]] = maybeDeferred,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        :param kinds: the class of settings of each kind of middleware that there is, by its name in lower case.
        :param publish: gets ``"file"`` and the configuration.
        :param apart: calls a function, which reads files, and returns a Deferred of its result: in a thread, where
            files are large; at once if it isn't given.
        :param now: the time in seconds since 1970, by which certificates are valid.
        """
        self._clock = clock
        self._options = options
        self._kinds = kinds
        self._publish = publish
        self._apart = apart
        self._now = now
        self.is_ready = False
        self._seen: Seen | None = None
        self._published: Configuration | None = None
        self._took = 0.0
        self._waiting: IDelayedCall | None = None
        self._looking: Deferred[None] | None = None

    def startService(self) -> None:
        """Look for the first time, and go on looking."""
        Service.startService(self)
        self._look()

    def stopService(self) -> Deferred[None] | None:
        """Look no more. Returns a Deferred that fires when a look that is under way has ended."""
        Service.stopService(self)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()
        return self._looking

    def _look(self) -> None:
        self._waiting = None
        looking = self._apart(self._look_now)
        looking.addCallback(self._looked)
        looking.addErrback(self._failed)
        self._looking = looking
        looking.addCallback(lambda _: self._rest())

    def _look_now(self) -> Seen:
        """In a thread of its own; what counts is what others could have used: not to wait for another process."""
        started = time.thread_time()
        try:
            return look(self._options, self._kinds, self._seen, self._now())
        finally:
            self._took = time.thread_time() - started

    def _looked(self, seen: Seen) -> None:
        self._seen = seen
        configuration = seen.configuration
        if configuration != self._published and self.running:
            self._publish("file", configuration)
            self._published = configuration
        self.is_ready = bool(self._options.directory and not seen.problems) or any(
            file.good is not None for file in seen.files.values()
        )

    def _failed(self, failure: Failure) -> None:
        _log.failure("looking at files failed", failure=failure)

    def _rest(self) -> None:
        self._looking = None
        if self.running and self._options.watch:
            self._waiting = self._clock.callLater(max(LOOK_EVERY, self._took * _REST), self._look)
