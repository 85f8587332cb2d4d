"""What all providers publish becomes the one table that is in force."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from twisted.logger import Logger

from swarmgate.dynamic.description import describe_changes
from swarmgate.dynamic.model import Configuration
from swarmgate.dynamic.table import Compiler, EntryPointFacts, RoutingTable

_MOST_LINES = 500  # In the log for one change: ten thousand would keep the reactor busy for a second.


class Aggregator:
    """Compiles the table anew whenever a provider publishes, and applies it if it is a different one.

    :ivar table: the one in force; an empty one before the first.
    """

    def __init__(
        self,
        entry_points: Mapping[str, EntryPointFacts],
        resources: Collection[str],
        apply: Callable[[RoutingTable], None],
        log: Logger | None = None,
        changed: Callable[[tuple[str, ...]], object] = lambda lines: None,
    ) -> None:
        """
        :param resources: names of the gate's own resources that routers can lead to, as ``ping@internal``.
        :param apply: puts a table in force.
        :param changed: is told what is different in a table that was put in force, in lines for people.
        """
        self._entry_points = dict(entry_points)
        self._compiler = Compiler(resources)
        self._apply = apply
        self._changed = changed
        self._log = log or Logger("swarmgate.routes")
        self._configurations: dict[str, Configuration] = {}
        self.table = RoutingTable()

    @property
    def configurations(self) -> Mapping[str, Configuration]:
        """What each provider has said last, by its name."""
        return self._configurations

    def publish(self, provider: str, configuration: Configuration) -> None:
        """Put in force what *provider* has to say from now on, in place of what it said before.

        A table that can't be applied is logged, and the one before stays in force.
        """
        self._configurations[provider] = configuration
        self._compile()

    def reconfigure(self, entry_points: Mapping[str, EntryPointFacts]) -> None:
        """Go by other facts about the same entry points."""
        self._entry_points = dict(entry_points)
        self._compile()

    def _compile(self) -> None:
        table = self._compiler.compile(self._configurations, self._entry_points)
        if table == self.table:
            return
        try:
            self._apply(table)
        except Exception:
            self._log.failure("the new routing table can't be applied; the last one stays in force")
            return
        old, self.table = self.table, table
        lines = describe_changes(old, table)
        self._changed(lines)
        self._tell(lines)

    def _tell(self, lines: tuple[str, ...]) -> None:
        # Problems must not get lost behind many routes.
        problems = [line for line in lines if line.startswith("problem: ")]
        others = [line for line in lines if not line.startswith("problem: ")]
        for line in problems[:_MOST_LINES]:
            self._log.warn("{line}", line=line)
        for line in others[:_MOST_LINES]:
            self._log.info("{line}", line=line)
        left_out = max(0, len(problems) - _MOST_LINES) + max(0, len(others) - _MOST_LINES)
        if left_out:
            self._log.info("and {count} changes more", count=left_out)
