"""What the provider needs of a Swarm: :class:`ISwarm`.

It has two implementations, held to one suite of tests: :class:`swarmgate.providers.swarm.engine.Engine` speaks to a
Docker engine, :class:`swarmgate.testing.MemorySwarm` is a Swarm in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from swarmgate.providers.swarm.snapshot import Snapshot, Task

if TYPE_CHECKING:
    from swarmgate.providers.swarm.operate import Log, Operation


class SwarmError(Exception):
    """The Swarm can't be looked at; the message tells people what was asked, what came back, and what to do."""


class Refused(SwarmError):
    """The engine does not do what it was asked to; the message is its own.

    :ivar status: of its answer, as 404.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ISwarm(Interface):
    """A Swarm, as seen from a manager. Only :meth:`operate` changes it, and nothing blocks."""

    own_container: str = Attribute("""The id of the container that this process runs in, ``""`` outside of one.""")

    def look() -> Deferred[Snapshot]:
        """Return all that is known now: services, tasks, networks and nodes.

        Fails with :class:`SwarmError`; it never gives a part for the whole.
        """

    def tasks() -> Deferred[tuple[Task, ...]]:
        """Return the tasks that are wanted to run, of all services, sorted by id: a cheap look at what changes most.

        A task is missing from it as soon as its desired state is no longer ``running``, which is before its
        container is told to stop. Fails with :class:`SwarmError`.
        """

    def subscribe(ring: Callable[[], None], lost: Callable[[SwarmError], None]) -> Callable[[], None]:
        """Tell of changes to services, networks and nodes; of tasks Docker tells nothing.

        :param ring: called once when telling begins (what was before that, only a look can say), and whenever there
            may be something new; several changes may ring once.
        :param lost: called at most once, when telling has ended by itself or could not begin; no ring follows.
        :return: what ends it; after that neither is called. To call it twice does no harm.
        """

    def failed() -> Deferred[tuple[Task, ...]]:
        """Return the tasks that have failed or were rejected and that the engine still remembers, sorted by id.

        Fails with :class:`SwarmError`.
        """

    def operate(operation: Operation) -> Deferred[None]:
        """Change the Swarm; fires when the engine has taken the change, which is before it has taken effect.

        Fails with :class:`Refused` where the engine does not take it, else with :class:`SwarmError`.
        """

    def log(service: str, tail: int, task: str = "") -> Deferred[Log]:
        """Return the last lines that the tasks of a service have logged.

        :param service: name or id.
        :param tail: how many lines at most.
        :param task: the id of a task, for its lines alone.

        Fails as :meth:`operate` does.
        """

    def close() -> Deferred[None]:
        """End subscriptions, and fire when nothing is under way any more. Looks asked for later fail."""
