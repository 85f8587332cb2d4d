"""Tests for swarmgate.acme.file_store, swarm_store and sealing: what is kept, and that nobody else can read it."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from swarmgate.acme.file_store import FileStore
from swarmgate.acme.memory import MemoryConfigs, MemoryLog
from swarmgate.acme.sealing import Keys, SealError
from swarmgate.acme.store import CERTIFICATE, StoreError
from swarmgate.acme.swarm_store import SwarmStore
from swarmgate.providers.swarm.interface import SwarmError
from tests.contract_store import ConfigsContract, StoreContract

KEY = "q7yc0Q1mYXlJ8mCq8m9t2nZ5wYp3r0b1xVt4hJk6sLE="
NEW_KEY = "Zb3fH2kLw9XyT5uRq0sMvEoC7dJ1nPaGi4hB6tWzUcY="


def at_once(call: Any, *given: Any) -> Deferred[Any]:
    """Do in this thread what a thread is for."""
    return maybeDeferred(call, *given)


class LateConfigs(MemoryConfigs):
    """Configs whose answers take their time: the first of three takes longest."""

    def __init__(self, log: MemoryLog, clock: Clock) -> None:
        super().__init__(log)
        self._clock = clock
        self._number = 0

    def find(self, prefixes: Any) -> Deferred[Any]:
        self._number += 1
        late: Deferred[Any] = Deferred()
        self._clock.callLater(3 - self._number % 3, super().find(prefixes).chainDeferred, late)
        return late


async def _last(store: SwarmStore) -> int:
    return (await store.look(False)).last


class FileStoreTests(StoreContract, TestCase):
    """The file keeps the contract."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.store = FileStore(str(self.path), at_once, lambda: 1000.0)

    def another(self) -> FileStore:
        store = FileStore(str(self.path), at_once, lambda: 1000.0)
        return store

    async def test_mode(self) -> None:
        """Only its owner can read the file, also if it was readable for others before."""
        self.path.touch(0o644)
        await self.store.put(1, CERTIFICATE, "x", b"secret")
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))

    async def test_damaged(self) -> None:
        """A file that is damaged or somebody else's is not overwritten, and the error names it."""
        for text in ("{", '{"le": {"Account": null}}', "[]", '{"format": "swarmgate-certificates-1"}'):
            self.path.write_text(text)
            error = await self.assertFailure(self.store.look(True), StoreError)
            self.assertIn(str(self.path), str(error))
            await self.assertFailure(self.store.put(1, CERTIFICATE, "x", b"y"), StoreError)
            self.assertEqual(text, self.path.read_text())

    async def test_no_folder(self) -> None:
        """A folder that isn't there is an error that names the file, and no crash."""
        store = FileStore(f"{self.path}/none/acme.json", at_once)
        error = await self.assertFailure(store.put(1, CERTIFICATE, "x", b"y"), StoreError)
        self.assertIn("none/acme.json", str(error))

    async def test_left_behind(self) -> None:
        """Nothing but the file and its lock is left in the folder."""
        await self.store.put(1, CERTIFICATE, "x", b"y")
        found = sorted(path.name for path in self.path.parent.glob(f"*{self.path.name}*"))
        self.assertEqual(sorted([self.path.name, f"{self.path.name}.lock"]), found)


class SwarmStoreTests(StoreContract, TestCase):
    """Configs in memory, through the encryption, keep the contract."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.log = MemoryLog(self.clock)
        self.store = self.another()

    def another(self, keys: str = KEY) -> SwarmStore:
        return SwarmStore(self.clock, MemoryConfigs(self.log), Keys.from_text(keys, "test"))

    async def test_unreadable(self) -> None:
        """What lies in the configs has nothing of the content in it, not even its length in the clear by pattern."""
        await self.store.put(1, CERTIFICATE, "x", b"-----BEGIN PRIVATE KEY-----" * 10)
        (config,) = self.log.configs.values()
        self.assertNotIn(b"PRIVATE", config.data)
        self.assertNotIn(b"-----", config.data)

    async def test_wrong_key(self) -> None:
        """A replica without the key says which one it lacks, serves what it can read, and writes after the others."""
        await self.store.put(1, CERTIFICATE, "x", b"1")
        other = self.another(NEW_KEY)
        seen = await other.look(True)
        self.assertEqual((), seen.records)
        self.assertIn("encrypted with the key", seen.faults[0])
        self.assertEqual(1, seen.last)

    async def test_rotation(self) -> None:
        """With the new key before the old one, old records are read and marked, and new ones are under the new key."""
        await self.store.put(1, CERTIFICATE, "old", b"1")
        both = self.another(f"{NEW_KEY}\n{KEY}\n")
        await both.put(2, CERTIFICATE, "new", b"2")
        seen = await both.look(True)
        self.assertEqual([(b"1", True), (b"2", False)], [(one.content, one.stale) for one in seen.records])
        only_new = await self.another(NEW_KEY).look(True)
        self.assertEqual([b"2"], [one.content for one in only_new.records])

    async def test_exchanged(self) -> None:
        """Whoever writes one config's data into another does not get it read as that."""
        await self.store.put(1, CERTIFICATE, "x", b"1")
        data = self.log.configs["swarmgate.c.00000001"].data
        await MemoryConfigs(self.log).create("swarmgate.c.00000002", {"swarmgate.kind": CERTIFICATE}, data)
        seen = await self.another().look(True)
        self.assertEqual([1], [one.number for one in seen.records])
        self.assertIn("swarmgate.c.00000002", seen.faults[0])

    async def test_cheap(self) -> None:
        """Looks that find nothing new do not transfer the certificates that are known, however many there are."""
        for number in range(1, 51):
            await self.store.put(number, CERTIFICATE, "x", b"1")
        configs = MemoryConfigs(self.log)
        store = SwarmStore(self.clock, configs, Keys.from_text(KEY, "test"))
        await store.look(False)
        self.assertEqual(50, len(await configs.find(configs.finds[0])))
        del configs.finds[:]
        for _ in range(10):
            self.assertEqual(50, len((await store.look(False)).records))
        for asked in list(configs.finds):
            self.assertEqual((), await configs.find(asked))

    def test_answers_late(self) -> None:
        """Looks that overlap, of which the earlier is answered later, see no record twice and leave no number out."""
        configs = LateConfigs(self.log, self.clock)
        store = SwarmStore(self.clock, configs, Keys.from_text(KEY, "test"))
        looks = [Deferred.fromCoroutine(_last(store)) for _ in range(2)]
        self.clock.pump([1] * 5)
        for number in range(1, 4):
            self.successResultOf(self.store.put(number, CERTIFICATE, "x", b"1"))
            looks += [Deferred.fromCoroutine(_last(store)) for _ in range(3)]
            self.clock.pump([1] * 20)
            self.assertEqual([number] * 3, [self.successResultOf(look) for look in looks[-3:]])

    async def test_away(self) -> None:
        """While the engine is away each call fails with its reason, and what was known is there again afterwards."""
        await self.store.put(1, CERTIFICATE, "x", b"1")
        self.store._configs.failure = "the engine is gone"
        for call in (self.store.look(False), self.store.put(2, CERTIFICATE, "x", b"2")):
            error = await self.assertFailure(call, StoreError)
            self.assertIn("the engine is gone", str(error))
        self.store._configs.failure = ""
        self.assertEqual(1, len((await self.store.look(False)).records))

    async def test_too_large(self) -> None:
        """What no config can hold is refused with its size, before it is sent."""
        error = await self.assertFailure(self.store.put(1, CERTIFICATE, "big", b"x" * 600_000), StoreError)
        self.assertIn("big", str(error))
        self.assertEqual([], self.log.writes)

    async def test_listens_again(self) -> None:
        """When the event stream ends it is opened again, and rings again."""
        rings: list[int] = []
        cancel = self.store.subscribe(lambda: rings.append(1))
        ((_, lost),) = self.log.listeners
        self.log.listeners.clear()
        lost(SwarmError("ended"))
        self.clock.advance(10)
        before = len(rings)
        await self.another().put(1, CERTIFICATE, "x", b"1")
        self.assertGreater(len(rings), before)
        cancel()
        self.assertEqual([], self.clock.getDelayedCalls())

    async def test_foreign_configs(self) -> None:
        """Configs of others whose names look alike are passed over."""
        await MemoryConfigs(self.log).create("swarmgate.c.notes", {}, b"hello")
        await MemoryConfigs(self.log).create("swarmgate.c.00000007", {}, b"hello")
        seen = await self.store.look(True)
        self.assertEqual(((), ()), (seen.records, seen.faults))


class MemoryConfigsTests(ConfigsContract, TestCase):
    """The configs in memory keep the contract that a real engine keeps."""

    def setUp(self) -> None:
        clock = Clock()
        clock.advance(1_000_000)
        self.configs = MemoryConfigs(MemoryLog(clock))

    def pause(self) -> Deferred[None]:
        return succeed(None)


class KeysTests(SynchronousTestCase):
    """Keys from files, and what they seal."""

    def test_round_trip(self) -> None:
        """What is sealed can be opened, with a key of the same text, and each time looks different."""
        keys = Keys.from_text(f"# ours\n{KEY}\n", "f")
        sealed = keys.seal(b"text", "name")
        self.assertEqual(b"text", Keys.from_text(KEY, "g").open(sealed, "name"))
        self.assertNotEqual(sealed, keys.seal(b"text", "name"))

    def test_changed(self) -> None:
        """Any octet that is changed, cut off or added makes it unreadable."""
        keys = Keys.from_text(KEY, "f")
        sealed = keys.seal(b"text", "name")
        for place in range(len(sealed)):
            damaged = bytearray(sealed)
            damaged[place] ^= 1
            self.assertRaises(SealError, keys.open, bytes(damaged), "name")
        self.assertRaises(SealError, keys.open, sealed[:-1], "name")
        self.assertRaises(SealError, keys.open, sealed + b"x", "name")
        self.assertRaises(SealError, keys.open, b"", "name")

    def test_weak(self) -> None:
        """A key that can be guessed, or none, is refused with what to do, and without being repeated."""
        for text in ("", "# nothing\n", "hunter2", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"):
            error = self.assertRaises(SealError, Keys.from_text, text, "file k")
            self.assertIn("file k", str(error))
            self.assertIn("openssl rand", str(error))
            self.assertNotIn("hunter2", str(error))

    def test_no_file(self) -> None:
        """A file that isn't there is named."""
        error = self.assertRaises(SealError, Keys.from_file, "/nowhere/key")
        self.assertIn("/nowhere/key", str(error))

    def test_hidden(self) -> None:
        """Keys are not shown by their repr."""
        keys = Keys.from_text(KEY, "f")
        self.assertNotIn(repr(keys.keys[0].secret), repr(keys))
        self.assertNotIn(KEY, repr(keys))
