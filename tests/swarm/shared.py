"""The one laboratory that all suites of a trial run share: it is started by whoever needs it first."""

from __future__ import annotations

from twisted.internet import reactor

from tests.swarm.lab import Lab

_lab: Lab | None = None


def lab() -> Lab:
    """Return the laboratory, a Swarm of three managers; it is ended with the reactor.

    :raises LabError: it can't be started, with the reason: a failure of whatever test asks for it.
    """
    global _lab
    if _lab is None:
        begun = Lab(3)
        try:
            begun.up()
        except BaseException:
            begun.down()
            raise
        reactor.addSystemEventTrigger("during", "shutdown", begun.down)  # type: ignore[attr-defined]
        _lab = begun
    return _lab
