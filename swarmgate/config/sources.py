"""The places that static configuration is written in, each read into a tree whose values tell where they are from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from swarmgate.documents import read_document
from swarmgate.structure import Fault, StructureError, Tree, insert

PREFIX = "SWARMGATE_"
"""What environment variables begin with that are options, as ``SWARMGATE_ENTRYPOINTS_WEB_ADDRESS``."""

_FILE_KEYS = ("config", "configfile")


@attrs.frozen
class Source:
    """What one place says.

    :ivar file: the configuration file that it names, ``""`` for none.
    :ivar file_origin: where that is written.
    """

    tree: dict[str, Tree]
    faults: tuple[Fault, ...] = ()
    file: str = ""
    file_origin: str = ""


def unusable(error: OSError) -> str:
    """What is wrong with a file that an option names, and can't be opened."""
    return f'"{error.filename}": expected a file that can be opened ({error.strerror or error})'


def from_options(argv: Sequence[str]) -> Source:
    """The options of a command line: ``--a.b.c=value``, ``--a.b.c value``, or ``--a.b.c`` alone for ``true``.

    One dash does as well as two, as in Go's programs. An option that is given several times adds to its list.
    """
    tree: dict[str, Tree] = {}
    faults: list[Fault] = []
    file, file_origin = "", ""
    waiting = list(reversed(argv))
    while waiting:
        word = waiting.pop()
        name, equals, value = word.partition("=")
        dashes = 2 if name.startswith("--") else 1
        key = name[dashes:]
        if not name.startswith("-") or not key:
            faults.append(Fault("", None, "command line", "options such as --ping", problem=f'"{word}" is no option'))
            continue
        origin = f"option {name}"
        if not equals:
            value = waiting.pop() if waiting and not waiting[-1].startswith("-") else "true"
        if key.lower() in _FILE_KEYS:
            if file:
                faults.append(Fault(key, value, origin, "one file", problem="given twice"))
            file, file_origin = value, origin
            continue
        try:
            insert(tree, key, value, origin, append=True)
        except StructureError as error:
            faults.extend(error.faults)
    return Source(tree, tuple(faults), file, file_origin)


def from_environment(environ: Mapping[str, str]) -> Source:
    """The options among environment variables; ``_`` stands for the dots."""
    tree: dict[str, Tree] = {}
    faults: list[Fault] = []
    file, file_origin = "", ""
    for variable in sorted(environ):
        if not variable.upper().startswith(PREFIX):
            continue
        key = variable[len(PREFIX) :].lower().replace("_", ".")
        origin = f"environment variable {variable}"
        if key in _FILE_KEYS:
            file, file_origin = environ[variable], origin
            continue
        try:
            insert(tree, key, environ[variable], origin)
        except StructureError as error:
            faults.extend(error.faults)
    return Source(tree, tuple(faults), file, file_origin)


def from_file(path: str, origin: str, read_file: Callable[[str], str]) -> Source:
    """What the configuration file at *path* says.

    :param origin: where the file is named.
    """
    try:
        return Source(read_document(read_file(path), path))
    except OSError as error:
        fault = Fault("config", path, origin, f"a file that can be read ({error.strerror or error})")
    except UnicodeDecodeError:
        fault = Fault("config", path, origin, "a text file in UTF-8")
    except StructureError as error:
        return Source({}, error.faults)
    return Source({}, (fault,))
