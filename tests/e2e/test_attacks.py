"""What attackers, hostile servers and crowds do to a gate, with all of them in processes of their own.

Each row has a few seconds here. ``python -m bench.attacks`` has the same rows at their full size, and so has this
module with ``E2E_ATTACKS=full``.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from bench.attacks.rows import ROWS

FULL = os.environ.get("E2E_ATTACKS") == "full"


class AttackTests(SynchronousTestCase):
    """Every figure keeps to its bound."""

    def hold(self, number: int) -> None:
        """Fail if a figure of the row is beyond its bound."""
        (row,) = (row for row in ROWS if row.number == number)
        folder = tempfile.TemporaryDirectory(prefix="swarmgate-attack-")
        self.addCleanup(folder.cleanup)
        figures = row.run(Path(folder.name), row.full if FULL else row.quick)
        self.assertTrue(any(figure.bound is not None for figure in figures))
        self.assertEqual([figure for figure in figures if not figure.holds], [])

    def test_slow_heads(self) -> None:
        """Clients whose heads never end are cut off in time, and nobody else waits for them."""
        self.hold(19)

    def test_slow_bodies(self) -> None:
        """Clients whose bodies trickle in keep nobody else waiting."""
        self.hold(20)

    def test_slow_readers(self) -> None:
        """Clients that hardly read cost little memory, and keep nobody else waiting."""
        self.hold(21)

    def test_stopped_reader(self) -> None:
        """A client that stops reading stops the server, and costs no memory."""
        self.hold(22)

    def test_stalled_upload(self) -> None:
        """A server that stops reading stops the client, and costs no memory."""
        self.hold(23)

    def test_idle(self) -> None:
        """Connections that wait cost a few kilobytes each."""
        self.hold(24)

    def test_idle_tls(self) -> None:
        """So do those with TLS."""
        self.hold(25)

    def test_websockets(self) -> None:
        """Of websockets that mostly wait no message is lost or late."""
        self.hold(26)

    def test_churn(self) -> None:
        """Connections that come and go leave nothing behind."""
        self.hold(27)

    def test_descriptors(self) -> None:
        """A gate that runs out of descriptors neither ends nor spins, and serves again when the crowd has gone."""
        self.hold(28)

    def test_hostile_backend(self) -> None:
        """What is no answer is not passed on as one, and nobody gets another's."""
        self.hold(31)

    def test_broken_bodies(self) -> None:
        """An answer that its server breaks off never looks whole."""
        self.hold(32)

    def test_stale_pool(self) -> None:
        """A server that closes kept connections costs no GET, and gets no POST twice."""
        self.hold(33)

    def test_aborts(self) -> None:
        """Clients that leave at any moment leave nothing behind, at the gate or at the server."""
        self.hold(34)

    def test_lossy(self) -> None:
        """Servers behind a slow wire that loses packets are asked without an error."""
        if os.geteuid() or not os.path.exists("/dev/net/tun"):
            raise SkipTest("the wire is two network devices in namespaces: it needs root and /dev/net/tun")
        self.hold(39)

    def test_watched(self) -> None:
        """Dashboards that hardly read, and metrics that are asked for all the time, keep nobody else waiting."""
        self.hold(40)
