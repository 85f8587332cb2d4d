"""Mutated requests through the gate to servers of other makers; ``make test-differential`` does it at length."""

from __future__ import annotations

import itertools

import uvloop
from twisted.trial.unittest import SynchronousTestCase

from tests.differential.__main__ import gate_for
from tests.differential.lanes import Lane, run
from tests.differential.origins import running

#: Of all servers together, and how long they may take at most, in seconds.
REQUESTS = 20_000
SECONDS = 20.0


class DifferentialTests(SynchronousTestCase):
    def test_servers_see_what_the_gate_means(self) -> None:
        """No server sees another number of requests, method, path, host or body; of what is refused it sees nothing."""
        with running() as origins:
            self.assertTrue(origins)
            gate, lanes = gate_for(origins)
            try:
                uvloop.run(run(lanes, 2, itertools.count(), REQUESTS, SECONDS))
            finally:
                gate.stop()
        self.assertEqual([str(finding) for lane in lanes for finding in lane.findings], [])
        for lane in lanes:
            self.assertGreater(lane.tally["forwarded"], 20, lane.origin.name)
            self.assertGreater(lane.tally["refused 400"], 20, lane.origin.name)

    def test_what_differs_is_found(self) -> None:
        """A server that counts a request too many, or sees another path, doesn't go unnoticed."""
        with running(("h11",)) as origins:
            gate, lanes = gate_for(origins)
            lane = lanes[0]
            try:
                uvloop.run(_told_otherwise(lane))
            finally:
                gate.stop()
        complaints = [finding.what for finding in lane.findings]
        self.assertEqual(len(complaints), 2, complaints)
        self.assertIn("it saw", complaints[0])
        self.assertIn("came after number", complaints[1])


async def _told_otherwise(lane: Lane) -> None:
    """Play sequences while the server's words are changed on their way."""
    await lane.relay.start()
    await lane.play(1, b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
    lane.relay.change = lambda data: data.replace(b"/b|", b"/c|")
    await lane.play(2, b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
    lane.relay.change = None
    await lane.play(3, b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
    lane.relay.change = lambda data: data.replace(b"X-Saw: 4|", b"X-Saw: 5|").replace(b"x-saw: 4|", b"x-saw: 5|")
    await lane.play(4, b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
    lane.drop()
    lane.relay.stop()
