"""The same gate where uvloop is not installed: on Twisted's own transports."""

from __future__ import annotations

from tests.e2e import test_forwarding, test_large_bodies


class ConnectionTests(test_forwarding.ConnectionTests):
    """Connections on Twisted's own transports."""

    uvloop = False
    gate = None

    def test_warning(self) -> None:
        """Whoever runs it is told once that it is slower."""
        self.assertEqual(self.running.said(10**6).count("uvloop is not installed"), 1)


class FailureTests(test_forwarding.FailureTests):
    """Failures on Twisted's own transports."""

    uvloop = False
    gate = None


class StreamTests(test_forwarding.StreamTests):
    """Streams on Twisted's own transports."""

    uvloop = False
    gate = None


class LargeBodyTests(test_large_bodies.LargeBodyTests):
    """Large bodies on Twisted's own transports."""

    uvloop = False
    gate = None
