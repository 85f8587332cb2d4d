"""What every store of certificates has to do: one suite of tests for all implementations of ``IStore``, and one for
those of ``IConfigs``.

A subclass with :class:`twisted.trial.unittest.TestCase` says how to get one.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from swarmgate.acme.store import ACCOUNT, CERTIFICATE, CHALLENGE, Failure, IStore, Lease
from swarmgate.providers.swarm.configs import IConfigs


class StoreContract:
    """The tests. ``another()`` returns a store that shares what is kept with ``self.store``, as another replica's."""

    store: Any

    def another(self) -> Any:
        raise NotImplementedError

    def test_interface(self) -> None:
        """It has all that the interface asks for."""
        verifyObject(IStore, self.store)

    async def test_empty(self) -> None:
        """A store that nobody has written to holds nothing, and the first number is free."""
        for fresh in (False, True):
            seen = await self.store.look(fresh)
            self.assertEqual(((), (), (), 0), (seen.records, seen.challenges, seen.faults, seen.last))
            self.assertEqual(Lease(), seen.lease)

    async def test_put(self) -> None:
        """What one replica writes, another reads as it was, by a cheap look as by a full one."""
        other = self.another()
        await other.look(False)
        content = os.urandom(5000)
        self.assertTrue(await self.store.put(1, CERTIFICATE, "shop.example", content))
        for fresh in (False, True):
            (seen,) = (await other.look(fresh)).records
            self.assertEqual(
                (1, CERTIFICATE, "shop.example", content), (seen.number, seen.kind, seen.title, seen.content)
            )
            self.assertFalse(seen.stale)
        self.assertEqual(1, (await other.look(False)).last)

    async def test_taken(self) -> None:
        """Of two replicas that write the same number one is refused, and nothing of it is kept."""
        other = self.another()
        self.assertTrue(await self.store.put(1, CERTIFICATE, "first", b"1"))
        self.assertFalse(await other.put(1, CERTIFICATE, "second", b"2"))
        self.assertEqual([b"1"], [one.content for one in (await other.look(True)).records])

    async def test_many(self) -> None:
        """Records are told in the order in which they were written, also those that came several between two looks."""
        other = self.another()
        await other.look(True)
        for number in range(1, 6):
            await self.store.put(number, ACCOUNT if number == 1 else CERTIFICATE, f"t{number}", b"%d" % number)
        seen = await other.look(False)
        self.assertEqual([1, 2, 3, 4, 5], [one.number for one in seen.records])
        self.assertEqual(["t1"], [one.title for one in seen.of_kind(ACCOUNT)])

    async def test_remove(self) -> None:
        """What is removed is gone for all at their next full look, and its number is not given again."""
        other = self.another()
        for number in (1, 2):
            await self.store.put(number, CERTIFICATE, "x", b"%d" % number)
        first, second = (await self.store.look(True)).records
        await self.store.remove(first)
        await self.store.remove(first)
        self.assertEqual((second,), (await self.store.look(False)).records)
        seen = await other.look(True)
        self.assertEqual(([2], 2), ([one.number for one in seen.records], seen.last))

    async def test_looks_at_once(self) -> None:
        """Two looks at the same time see the same, and the next number is the next one for both."""
        other = self.another()
        await other.look(True)
        for number in (1, 2):
            await self.store.put(number, CERTIFICATE, "x", b"%d" % number)
            looks = [other.look(False), other.look(False), other.look(True)]
            self.assertEqual([number] * 3, [(await look).last for look in looks])

    async def test_removed_from_the_end(self) -> None:
        """The number of the newest record is not given again after that is removed, so nobody misses the next one."""
        witness = self.another()
        lease = (await self.store.look(True)).lease
        await self.store.put(1, CERTIFICATE, "x", b"1")
        (record,) = (await self.store.look(False)).records
        await witness.look(False)
        await self.store.remove(record)
        await self.store.swap_lease(lease, Lease("", 0, {}, (7, 8)))
        last = (await self.another().look(False)).last
        self.assertEqual(1, last)
        await self.store.put(last + 1, CERTIFICATE, "x", b"2")
        self.assertEqual(b"2", (await witness.look(False)).records[-1].content)

    async def test_challenges(self) -> None:
        """Challenges come and go with the cheapest of looks, and are counted for themselves."""
        other = self.another()
        await other.look(True)
        await self.store.put(1, CERTIFICATE, "x", b"certificate")
        self.assertTrue(await self.store.put(1, CHALLENGE, "x", b"challenge"))
        self.assertFalse(await other.put(1, CHALLENGE, "x", b"another"))
        seen = await other.look(False)
        self.assertEqual([b"challenge"], [one.content for one in seen.challenges])
        await self.store.look(False)
        await self.store.remove(seen.challenges[0])
        self.assertEqual((), (await other.look(False)).challenges)
        self.assertEqual(1, len((await other.look(False)).records))

    async def test_lease(self) -> None:
        """The lease goes to the first who swaps it; who has seen an older one gets nothing."""
        other = self.another()
        nobody = (await self.store.look(False)).lease
        self.assertEqual(nobody, (await other.look(False)).lease)
        mine = await self.store.swap_lease(nobody, Lease("a", 0, {}, (7, 8)))
        self.assertEqual("a", mine.holder)
        self.assertIsNone(await other.swap_lease(nobody, Lease("b", 0, {}, (7, 8))))
        seen = (await other.look(False)).lease
        self.assertEqual(mine, seen)
        again = await self.store.swap_lease(mine, Lease("a", 0, {"k": Failure(2, 1000.0)}, (7, 8)))
        self.assertNotEqual(mine.version, again.version)
        self.assertIsNone(await other.swap_lease(seen, Lease("b", 0, {}, (7, 8))))
        seen = (await other.look(False)).lease
        self.assertEqual(("a", {"k": Failure(2, 1000.0)}, (7, 8)), (seen.holder, dict(seen.failures), seen.writes))
        taken = await other.swap_lease(seen, Lease("", 0, {}, (7, 8)))
        self.assertEqual("", taken.holder)
        self.assertEqual(taken, (await self.store.look(True)).lease)

    async def test_rings(self) -> None:
        """Whoever has subscribed is told of changes, until they don't want to be any more."""
        rings: list[int] = []
        cancel = self.store.subscribe(lambda: rings.append(1))
        before = len(rings)
        await self.store.put(1, CERTIFICATE, "x", b"1")
        await self.rung(lambda: len(rings) > before)
        cancel()
        cancel()

    async def rung(self, true: Any) -> None:
        """Wait until a ring has come."""
        self.assertTrue(true())


class ConfigsContract:
    """What every Swarm's configs do; ``configs`` is set by the subclass, and ``prefix`` names those of this test."""

    configs: Any
    prefix = "t"

    def pause(self) -> Deferred[None]:
        raise NotImplementedError

    def test_interface(self) -> None:
        """It has all that the interface asks for."""
        verifyObject(IConfigs, self.configs)

    async def test_create(self) -> None:
        """A config is found as it was made, by the beginning of its name; a second one of the name is refused."""
        data = os.urandom(3000)
        self.assertTrue(await self.configs.create(f"{self.prefix}.c.1", {"a": "b", "c.d": "e=f"}, data))
        self.assertFalse(await self.configs.create(f"{self.prefix}.c.1", {}, b"x"))
        self.assertTrue(await self.configs.create(f"{self.prefix}.d.1", {}, b"y"))
        (found,) = await self.configs.find([f"{self.prefix}.c."])
        self.assertEqual(
            (f"{self.prefix}.c.1", {"a": "b", "c.d": "e=f"}, data), (found.name, dict(found.labels), found.data)
        )
        self.assertGreater(found.created, 0)
        both = await self.configs.find([f"{self.prefix}.c.", f"{self.prefix}.d."])
        self.assertEqual([f"{self.prefix}.c.1", f"{self.prefix}.d.1"], [one.name for one in both])
        self.assertEqual((), await self.configs.find([f"{self.prefix}.e"]))

    async def test_relabel(self) -> None:
        """Labels are replaced by who has seen the newest version, and by nobody else; the data stays."""
        await self.configs.create(f"{self.prefix}.r", {"n": "1"}, b"data")
        (seen,) = await self.configs.find([f"{self.prefix}.r"])
        self.assertTrue(await self.configs.relabel(seen, {"n": "2"}))
        self.assertFalse(await self.configs.relabel(seen, {"n": "3"}))
        (after,) = await self.configs.find([f"{self.prefix}.r"])
        self.assertEqual(({"n": "2"}, b"data"), (dict(after.labels), after.data))
        self.assertNotEqual(seen.version, after.version)
        self.assertTrue(await self.configs.relabel(after, {"n": "4"}))
        await self.configs.remove(after)
        self.assertFalse(await self.configs.relabel(after, {"n": "5"}))

    async def test_remove(self) -> None:
        """What is removed is gone; to remove it twice does no harm, and the name is free again."""
        await self.configs.create(f"{self.prefix}.x", {}, b"1")
        (seen,) = await self.configs.find([f"{self.prefix}.x"])
        await self.configs.remove(seen)
        await self.configs.remove(seen)
        self.assertEqual((), await self.configs.find([f"{self.prefix}.x"]))
        self.assertTrue(await self.configs.create(f"{self.prefix}.x", {}, b"2"))

    async def test_large(self) -> None:
        """A config takes as much as the longest certificate chain of many domains needs."""
        data = os.urandom(500 * 1024 - 1)
        self.assertTrue(await self.configs.create(f"{self.prefix}.large", {}, data))
        (found,) = await self.configs.find([f"{self.prefix}.large"])
        self.assertEqual(data, found.data)

    async def test_subscribe(self) -> None:
        """A subscriber is rung for when telling begins, and whenever a config is created."""
        rings: list[int] = []
        cancel = self.configs.subscribe(lambda: rings.append(1), lambda error: rings.clear())
        await self.eventually(lambda: bool(rings))
        before = len(rings)
        await self.configs.create(f"{self.prefix}.s", {}, b"1")
        await self.eventually(lambda: len(rings) > before)
        cancel()

    async def eventually(self, true: Any) -> None:
        """Wait until it is so."""
        for _ in range(200):
            if true():
                return
            await self.pause()
        raise AssertionError("never came to be")
