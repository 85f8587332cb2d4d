"""How another process of this program is started."""

from __future__ import annotations

import os
import sys


def command_of(module: str, *words: str) -> tuple[list[str], dict[str, str]]:
    """The command that runs *module* with *words*, and its environment: it imports what this process would.

    Without ``-P`` it would import what lies in the current directory, whoever has put it there.
    """
    path = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return [sys.executable, "-P", "-m", module, *words], {**os.environ, "PYTHONPATH": path}
