"""The package as it is written, where some of its modules have been compiled: with ``PURE_PYTHON=1``.

For profilers and debuggers, which don't see into compiled modules, and for tests that both do the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType


class Sources(MetaPathFinder):
    """Finds the package's modules as sources."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's source, None for what is not of the package."""
        if not fullname.startswith("swarmgate."):
            return None
        for folder in path or ():
            spec = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(fullname)
            if spec is not None:
                return spec
        return None


def is_compiled() -> bool:
    """Whether the modules that are run for each request are compiled."""
    from swarmgate.http import client

    return not (client.__file__ or "").endswith(".py")
