"""Load shedding: how much is refused, when it begins, and that it ends."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as some
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.overload import (
    EVERY,
    MEMORY,
    REACTOR_LAG,
    Bounds,
    Guard,
    Sample,
    State,
    container_memory,
    decide,
    memory_bound,
    resident_memory,
)

BOUNDS = Bounds(lag=0.5, memory=1000)
IN_TIME, LATE, TOO_LATE = Sample(0.01, 100), Sample(0.3, 100), Sample(0.6, 100)


def after(*samples: Sample, state: State | None = None) -> State:
    """The state after *samples*."""
    state = state or State()
    for sample in samples:
        state = decide(state, sample, BOUNDS)
    return state


class DecideTests(SynchronousTestCase):
    def test_one_pause(self) -> None:
        """A pause of the process, however long, costs nobody a request, nor does another one after it."""
        self.assertEqual(after(Sample(9.0, 100), Sample(9.0, 100), IN_TIME, Sample(9.0, 100)).share, 0.0)

    def test_lag(self) -> None:
        """A reactor that stays late refuses more and more, and at last everything."""
        self.assertEqual(after(TOO_LATE, TOO_LATE).share, 0.0)
        begun = after(TOO_LATE, TOO_LATE, TOO_LATE)
        self.assertTrue(0 < begun.share < 0.3, begun)
        self.assertEqual(begun.reason, REACTOR_LAG)
        self.assertGreater(after(TOO_LATE, state=begun).share, begun.share)
        self.assertTrue(after(*[TOO_LATE] * 10).refuses_all)

    def test_hysteresis(self) -> None:
        """Between half the bound and the whole of it nothing changes; below, the refusals end, slowly."""
        refusing = after(*[TOO_LATE] * 4)
        self.assertEqual(after(*[LATE] * 100, state=refusing).share, refusing.share)
        self.assertEqual(after(*[LATE] * 100).share, 0.0)
        falling = after(IN_TIME, state=refusing)
        self.assertTrue(0 < falling.share < refusing.share)
        calm = after(*[IN_TIME] * 30, state=refusing)
        self.assertEqual((calm.share, calm.reason), (0.0, ""))

    def test_memory(self) -> None:
        """Above its bound memory has requests refused at once, a tenth above all of them."""
        self.assertEqual(after(Sample(0, 1000)).share, 0.0)
        above = after(Sample(0, 1001))
        self.assertEqual((above.share, above.reason), (0.1, MEMORY))
        self.assertEqual(after(Sample(0, 1050)).share, 0.5)
        self.assertTrue(after(Sample(0, 1100)).refuses_all)
        self.assertEqual(after(Sample(0, 990), state=above).share, 0.1)
        self.assertEqual(after(Sample(0, 940), state=above).share, 0.0)

    def test_no_bounds(self) -> None:
        """Without bounds nothing is ever refused."""
        state = State()
        for _ in range(10):
            state = decide(state, Sample(99.0, 2**60), Bounds())
        self.assertEqual(state, State())

    @given(some.lists(some.tuples(some.floats(0, 100), some.integers(0, 5000))))
    def test_always_recovers(self, measured: list[tuple[float, int]]) -> None:
        """Whatever came before, after six calm seconds everything is served, and the share is one at all times."""
        state = State()
        for lag, memory in measured:
            state = decide(state, Sample(lag, memory), BOUNDS)
            self.assertTrue(0.0 <= state.share <= 1.0)
            self.assertEqual(bool(state.share), bool(state.reason))
        self.assertEqual(after(*[IN_TIME] * int(6 / EVERY), state=state).share, 0.0)


class GuardTests(SynchronousTestCase):
    def test_looks(self) -> None:
        """Lag is how late a look is; the others are told once the outcome changes."""
        clock = Clock()
        memory, told, looks = [100], [], []
        guard = Guard(clock, BOUNDS, lambda: memory[0], told.append, lambda: looks.append(1))
        guard.start()
        clock.pump([EVERY] * 4)
        self.assertEqual((told, len(looks)), ([], 4))
        memory[0] = 2000
        clock.advance(EVERY)
        self.assertEqual([state.share for state in told], [1.0])
        memory[0] = 100
        clock.advance(EVERY)
        self.assertEqual(told[-1].share, 0.0)
        for _ in range(3):
            clock.advance(EVERY + 1)
        self.assertTrue(0 < guard.state.share < 1)
        self.assertEqual(guard.state.reason, REACTOR_LAG)
        guard.stop()
        self.assertEqual(clock.getDelayedCalls(), [])


class MemoryTests(SynchronousTestCase):
    def _root(self, files: dict[str, str]) -> Path:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        for name, text in files.items():
            path = Path(folder.name, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Path(folder.name)

    def test_container(self) -> None:
        """The limit is that of the container, wherever its group is mounted, and the least one counts."""
        own = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000\n"}
        self.assertEqual(container_memory(self._root(own)), 1000)
        nested = {
            "proc/self/cgroup": "0::/system.slice/gate\n",
            "sys/fs/cgroup/system.slice/memory.max": "2000",
            "sys/fs/cgroup/system.slice/gate/memory.max": "3000",
        }
        self.assertEqual(container_memory(self._root(nested)), 2000)
        host = {"proc/self/cgroup": "0::/docker/abc\n", "sys/fs/cgroup/memory.max": "4000\n"}
        self.assertEqual(container_memory(self._root(host)), 4000)
        old = {
            "proc/self/cgroup": "5:cpu:/x\n4:memory:/docker/abc\n",
            "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "5000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        }
        self.assertEqual(container_memory(self._root(old)), 5000)

    def test_no_container(self) -> None:
        """Without a limit there is none."""
        self.assertEqual(container_memory(self._root({})), 0)
        none = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}
        self.assertEqual(container_memory(self._root(none)), 0)

    def test_bound(self) -> None:
        """By default a process takes its part of most of the container; an option says otherwise."""
        self.assertEqual(memory_bound(0, 1000), 850)
        self.assertEqual(memory_bound(0, 1000, 2), 425)
        self.assertEqual(memory_bound(0, 0), 0)
        self.assertEqual(memory_bound(500, 1000), 500)
        self.assertEqual(memory_bound(-1, 1000), 0)

    def test_resident(self) -> None:
        """What the process takes is measured in octets."""
        self.assertTrue(5e6 < resident_memory() < 5e9)
