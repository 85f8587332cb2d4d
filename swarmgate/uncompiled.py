"""The package as it is written, where some of its modules have been compiled: with ``PURE_PYTHON=1``.

For profilers and debuggers, which don't see into compiled modules, and for tests that both do the same.
"""

from __future__ import annotations

from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)


def sources(folder: str) -> FileFinder:
    """What finds modules in *folder*, if it is of the package: sources alone. It is a path hook.

    So a finder that changes what it loads, as fuzzers' do, gets the sources, too.
    """
    if not folder.startswith(_PACKAGE):
        raise ImportError(f"{folder} is not in {_PACKAGE}")
    return FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES))


def is_compiled() -> bool:
    """Whether the modules that are run for each request are compiled."""
    from swarmgate.http import client

    return not (client.__file__ or "").endswith(".py")
