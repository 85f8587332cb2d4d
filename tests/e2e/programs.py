"""Programs of others that some tests need."""

from __future__ import annotations

import shutil
import unittest


def needed(program: str, package: str) -> str:
    """The path of *program*.

    :param package: of Debian, that has it.
    :raises unittest.SkipTest: it is not installed.
    """
    found = shutil.which(program)
    if found is None:
        raise unittest.SkipTest(f"{program} is not installed (Debian: apt-get install {package})")
    return found
