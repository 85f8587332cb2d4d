"""Limits of real processes: they hold for all of them together, and what a killed one had is given back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.limits.shared import SharedLimits

#: Seconds that a crowd asks for.
SECONDS = 4
_ROOT = Path(__file__).parent.parent.parent

#: Asks 200 times a second, and says how many were let pass.
_RATE = """
import sys, time
from swarmgate.limits.interface import Rate
from swarmgate.limits.shared import SharedLimits
class Clock:
    seconds = staticmethod(time.monotonic)
limits = SharedLimits.open(int(sys.argv[1]), int(sys.argv[2]))
buckets = limits.buckets("l", Rate(100, 50, 0.005), Clock)
print("ready", flush=True)
sys.stdin.readline()
begin, passed = time.monotonic(), 0
for number in range(int(200 * float(sys.argv[3]))):
    time.sleep(max(0.0, begin + number / 200 - time.monotonic()))
    passed += buckets.take("192.0.2.1") <= 0.005
print(passed, limits.misses, flush=True)
"""

#: Takes and leaves places as fast as it can, and says how many there were at most, and how often it had one.
_CROWD = """
import sys, time, random
from swarmgate.limits.shared import SharedLimits
limits = SharedLimits.open(int(sys.argv[1]), int(sys.argv[2]))
counts = limits.counts("l")
print("ready", flush=True)
sys.stdin.readline()
until, most, had, held = time.monotonic() + float(sys.argv[3]), 0, 0, []
rows = limits.rows
while time.monotonic() < until:
    place = counts.enter("a.example", 10)
    if place is not None:
        had += 1
        held.append(place)
        most = max(most, sum(limits.counts_of[place :: rows]))
    if held and (place is None or random.random() < 0.4):
        counts.leave(held.pop())
for place in held:
    counts.leave(place)
print(most, had, limits.misses, flush=True)
"""

#: Takes tokens, and places of which it leaves all but 7 again, until it is killed.
_VICTIM = """
import sys
from swarmgate.limits.interface import Rate
from swarmgate.limits.shared import SharedLimits
class Clock:
    seconds = staticmethod(lambda: 0.0)
limits = SharedLimits.open(int(sys.argv[1]), int(sys.argv[2]))
buckets, counts = limits.buckets("l", Rate(1000000, 50), Clock), limits.counts("l")
for _ in range(7):
    counts.enter("a.example", 10)
print("ready", flush=True)
while True:
    buckets.take("a")
    counts.leave(counts.enter("a.example", 10))
"""


class ProcessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.descriptor = SharedLimits.create(2)
        self.addCleanup(os.close, self.descriptor)

    def start(self, program: str, worker: int) -> subprocess.Popen[str]:
        """A process that has said that it is ready."""
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(self.descriptor), str(worker), str(SECONDS)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=(self.descriptor,),
        )
        assert process.stdin is not None and process.stdout is not None
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process

    def results(self, program: str) -> list[list[int]]:
        """What two processes that work at the same time say."""
        processes = [self.start(program, worker) for worker in range(2)]
        said = []
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            assert process.stdout is not None
            said.append([int(word) for word in process.stdout.readline().split()])
        return said

    def test_rate(self) -> None:
        """Of 400 requests a second, offered to two processes, as many pass as one bucket lets pass."""
        said = self.results(_RATE)
        passed = sum(one[0] for one in said)
        wanted = 50 + 100 * SECONDS
        print(f"admitted {passed}, wanted {wanted}, decided alone {sum(one[1] for one in said)}", end=" ")
        self.assertLess(abs(passed - wanted), 0.05 * wanted)

    def test_in_flight(self) -> None:
        """However two processes hurry, there are never more under way than the limit says, and none is left over."""
        said = self.results(_CROWD)
        print(f"most at once, places had, locks not had: {said}", end=" ")
        self.assertGreater(min(one[1] for one in said), 1000)
        # Where the other process did not run while it had the lock, one more may have passed.
        self.assertIn(max(one[0] for one in said), (10, 11) if any(one[2] for one in said) else (10,))
        parent = SharedLimits.open(self.descriptor)
        self.addCleanup(parent.close)
        self.assertFalse(any(parent.counts_of))

    def test_killed(self) -> None:
        """A process that is killed at any moment leaves no lock behind, and its places are given back."""
        parent, survivor = SharedLimits.open(self.descriptor), SharedLimits.open(self.descriptor, 0)
        self.addCleanup(parent.close)
        self.addCleanup(survivor.close)
        counts = survivor.counts("l")
        mine = [counts.enter("a.example", 10) for _ in range(2)]
        for _ in range(10):
            victim = self.start(_VICTIM, 1)
            victim.kill()
            victim.wait()
            self.assertIn(sum(parent.counts_of), (9, 10))
            parent.clear(1)
            self.assertEqual(sum(parent.counts_of), 2)
            # Every octet that is ever locked can be.
            for at in range(survivor.bucket_groups + survivor.count_groups):
                if not survivor.lock(at):
                    self.fail(f"octet {at} is still locked")
                survivor.unlock(at)
        for place in mine:
            counts.leave(place)
        self.assertEqual(
            ([counts.enter("a.example", 10) is None for _ in range(11)].count(True), survivor.misses), (1, 0)
        )
