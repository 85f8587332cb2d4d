"""Configuration files, YAML and TOML, read into trees whose values know their file and line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

import attrs
import yaml

from swarmgate.structure import Fault, Given, StructureError, Tree

SUFFIXES = (".yml", ".yaml", ".toml")
"""What files that :func:`read_document` can read end with."""

_DEEPEST = 64  # Levels of a document: more than any option has.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_document(text: str, name: str) -> dict[str, Tree]:
    """The tree that a configuration file describes: empty for an empty file.

    Scalars of YAML stay as they are written (``0755`` is no number yet); what they mean is for the option to say.

    :param name: the file's name, whose end says which language it is in, and which errors repeat.
    :raises StructureError: the text is not in that language, or not a table of options.
    """
    lower = name.lower()
    if lower.endswith(".toml"):
        return _read_toml(text, name)
    if lower.endswith((".yml", ".yaml")):
        return _read_yaml(text, name)
    fault = Fault("", None, f"file {name}", f"a name that ends in {', '.join(SUFFIXES)}", problem="an unknown format")
    raise StructureError((fault,))


# ---- YAML


@attrs.define
class _Open:
    """A list or mapping whose end hasn't been seen yet."""

    value: Any
    origin: str
    anchor: str | None
    key: str | None = None
    merged: list[Tree] = attrs.field(factory=list)


def _read_yaml(text: str, name: str) -> dict[str, Tree]:
    try:
        tree = _yaml_tree(text, name)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark if error.problem_mark is not None else error.context_mark
        origin = f"file {name}, line {mark.line + 1}" if mark is not None else f"file {name}"
        # The parser has a bound of its own, and looks ahead.
        is_deep = "nesting depth" in str(error.problem)
        problem = f"more than {_DEEPEST} levels" if is_deep else f"not YAML: {error.problem}"
        raise StructureError((Fault("", None, origin, problem=problem),)) from None
    except yaml.YAMLError as error:
        problem = f"not YAML: {' '.join(str(error).split())}"
        raise StructureError((Fault("", None, f"file {name}", problem=problem),)) from None
    value = tree.value if isinstance(tree, Given) else tree
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise StructureError((Fault("", None, f"file {name}", "options with values", problem="not a table"),))
    return value


def _yaml_tree(text: str, name: str) -> Tree:
    # Made from events, not from PyYAML's nodes: those are built by recursion, in C without an end to it, and a
    # document of brackets alone would end the process.
    root: list[Tree] = []
    stack: list[_Open] = []
    anchors: dict[str, Tree] = {}
    documents = 0
    event: Any
    for event in yaml.parse(text, Loader=_LOADER):
        origin = f"file {name}, line {event.start_mark.line + 1}"
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _yaml_fault(origin, "a second document, where one is all that is read")
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise _yaml_fault(origin, f"no anchor &{event.anchor} before this")
            _put(stack, root, anchors[event.anchor], origin)
        elif isinstance(event, yaml.ScalarEvent):
            plain = event.implicit[0] and event.value in ("", "~", "null", "Null", "NULL")
            if stack and isinstance(stack[-1].value, dict) and stack[-1].key is None:
                _begin_key(stack[-1], event.value, origin)
                continue
            scalar = Given(None if plain else event.value, origin)
            if event.anchor:
                anchors[event.anchor] = scalar
            _put(stack, root, scalar, origin)
        elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            if len(stack) >= _DEEPEST:
                raise _yaml_fault(origin, f"more than {_DEEPEST} levels")
            stack.append(_Open({} if isinstance(event, yaml.MappingStartEvent) else [], origin, event.anchor))
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            done = stack.pop()
            for merged in done.merged:
                done.value.update({key: one for key, one in merged.items() if key not in done.value})
            closed = Given(done.value, done.origin)
            if done.anchor:
                anchors[done.anchor] = closed
            _put(stack, root, closed, origin)
    return root[0] if root else None


def _begin_key(mapping: _Open, key: str, origin: str) -> None:
    if key in mapping.value:
        raise StructureError((Fault(key, None, origin, problem="given twice"),))
    mapping.key = key


def _put(stack: list[_Open], root: list[Tree], tree: Tree, origin: str) -> None:
    """Add a finished part to what it is a part of."""
    if not stack:
        root.append(tree)
        return
    into = stack[-1]
    if isinstance(into.value, list):
        into.value.append(tree)
    elif into.key is None:
        raise _yaml_fault(origin, "a name that is no text")
    elif into.key == "<<":
        parts = tree.value if isinstance(tree.value, list) else [tree]
        if not all(isinstance(part.value, dict) for part in parts):
            raise _yaml_fault(origin, "<< with something that is no mapping")
        into.merged.extend(part.value for part in parts)
        into.key = None
    else:
        into.value[into.key] = tree
        into.key = None


def _yaml_fault(origin: str, problem: str) -> StructureError:
    return StructureError((Fault("", None, origin, problem=problem),))


# ---- TOML


def _read_toml(text: str, name: str) -> dict[str, Tree]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        line = re.search(r" \(at line ([0-9]+), column [0-9]+\)", message)
        origin = f"file {name}, line {line[1]}" if line else f"file {name}"
        problem = f"not TOML: {message.replace(line[0], '') if line else message}"
        raise StructureError((Fault("", None, origin, problem=problem),)) from None
    except RecursionError:
        raise StructureError((Fault("", None, f"file {name}", problem="not TOML: too many levels"),)) from None
    lines = _toml_lines(text)
    return {key: _with_lines(value, (key,), f"file {name}", 0, lines) for key, value in document.items()}


def _with_lines(value: Any, path: tuple[str, ...], file: str, line: int, lines: Mapping[tuple[str, ...], int]) -> Tree:
    line = lines.get(path, line)
    if isinstance(value, dict):
        value = {key: _with_lines(one, (*path, key), file, line, lines) for key, one in value.items()}
    elif isinstance(value, list):
        value = [_with_lines(one, (*path, str(index)), file, line, lines) for index, one in enumerate(value)]
    return Given(value, f"{file}, line {line}" if line else file)


def _toml_lines(text: str) -> dict[tuple[str, ...], int]:
    """The lines on which keys and tables begin, as well as that can be told from each line on its own.

    tomllib doesn't tell. What is missing here, as the later lines of an inline table, gets the line of what it is in.
    """
    lines: dict[tuple[str, ...], int] = {}
    counts: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]", line)
        assignment = re.match(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""", line)
        if header:
            table = _toml_names(header[2])
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, str(counts[table]))
            lines.setdefault(table, number)
        elif assignment:
            lines.setdefault((*table, *_toml_names(assignment[1])), number)
    return lines


def _toml_names(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in re.findall(r"""[\w-]+|"[^"]*"|'[^']*'""", dotted))
