"""The rule of services that give none, from a template such as ``Host(`{{ normalize .Name }}.example`)``.

Traefik's templates are Go's (``providers.swarm.defaultRule``); here is the part of them that makes names:

* ``.Name``, the service's name, already normalised; ``.ContainerName``, its name as Docker has it; ``.Labels``;
* ``index .Labels "name"``, or ``.Labels.name`` for a label without dots; one that isn't there is empty;
* texts in double quotes or backticks, whole numbers, parentheses, and pipes: ``.Name | lower | trimSuffix "-web"``;
* the functions of :data:`FUNCTIONS`, with their arguments in Go's (sprig's) order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import attrs

from swarmgate.dynamic.rules import RuleError, unquote
from swarmgate.structure import nearest_of

_FIELDS = (".Name", ".ContainerName", ".Labels")
_DEEPEST = 32


def normalize(name: str) -> str:
    """*name* with each run of what is neither letter nor digit as one ``-``, and none at its ends (Traefik)."""
    return "-".join(part for part in re.split(r"[\W_]+", name) if part)


@attrs.frozen
class _Function:
    """What can be called, and with how many arguments."""

    call: Callable[..., str]
    arguments: int


def _default(otherwise: str, text: str) -> str:
    return text or otherwise


def _trunc(length: str, text: str) -> str:
    number = int(length)
    return text[:number] if number >= 0 else text[number:]


def _trim_prefix(prefix: str, text: str) -> str:
    return text.removeprefix(prefix)


def _trim_suffix(suffix: str, text: str) -> str:
    return text.removesuffix(suffix)


def _replace(old: str, new: str, text: str) -> str:
    return text.replace(old, new)


FUNCTIONS: Mapping[str, _Function] = {
    "normalize": _Function(normalize, 1),
    "lower": _Function(str.lower, 1),
    "upper": _Function(str.upper, 1),
    "title": _Function(str.title, 1),
    "trim": _Function(str.strip, 1),
    "trimPrefix": _Function(_trim_prefix, 2),
    "trimSuffix": _Function(_trim_suffix, 2),
    "trunc": _Function(_trunc, 2),
    "replace": _Function(_replace, 3),
    "default": _Function(_default, 2),
}
"""The functions of templates, by name."""


@attrs.frozen
class _Given:
    """What a template is filled with."""

    name: str
    container_name: str
    labels: Mapping[str, str]


_Value = Callable[[_Given], str]


@attrs.frozen
class DefaultRule:
    """A template that was understood."""

    text: str
    _parts: tuple[_Value, ...] = attrs.field(eq=False, repr=False)

    def render(self, name: str, labels: Mapping[str, str], container_name: str = "") -> str:
        """The rule for a service.

        :param name: as Docker has it; :func:`normalize` is applied to it.
        :param container_name: ``.ContainerName``; the service's own name if it isn't given.
        """
        given = _Given(normalize(name), container_name or name, labels)
        return "".join(part(given) for part in self._parts).strip()


def parse_default_rule(text: str) -> DefaultRule:
    """The template that *text* is.

    :raises RuleError: it is none; with the place, and the nearest name where one is unknown.
    """
    parts: list[_Value] = []
    end = 0
    for action in re.finditer(r"\{\{(-?)(.*?)(-?)\}\}", text, re.DOTALL):
        literal = text[end : action.start()]
        parts.append(_constant(literal.rstrip() if action[1] else literal))
        parts.append(_Action(text, action.start(2), action.end(2)).parse())
        end = action.end()
        if action[3]:
            end = len(text) - len(text[end:].lstrip())
    if "{{" in text[end:]:
        raise RuleError("a {{ without its }}", end + text[end:].index("{{"))
    parts.append(_constant(text[end:]))
    return DefaultRule(text, tuple(parts))


def _constant(text: str) -> _Value:
    return lambda given: text


_TOKEN = re.compile(
    r"""\s*(?:
        (?P<field>\.[A-Za-z_][A-Za-z_0-9]*(?:\.[A-Za-z_][A-Za-z_0-9-]*)*) |
        (?P<name>[A-Za-z_][A-Za-z_0-9]*) |
        (?P<text>"(?:[^"\\\n]|\\.)*"|`[^`]*`) |
        (?P<number>-?[0-9]{1,9}) |
        (?P<sign>[|()]) |
        (?P<end>\Z)
    )""",
    re.VERBOSE,
)


class _Action:
    """What stands between ``{{`` and ``}}``, and how far it has been read."""

    def __init__(self, text: str, start: int, end: int) -> None:
        self._text = text
        self._start = start
        self._end = end
        self._tokens: list[tuple[str, str, int]] = []
        self._depth = 0
        position = start
        while position < end:
            found = _TOKEN.match(text[:end], position)
            if found is None or found.lastgroup is None:
                position += len(text[position:end]) - len(text[position:end].lstrip())
                raise RuleError(f'"{text[position]}" in a template: expected a field, a function or a text', position)
            if found.lastgroup != "end":
                self._tokens.append((found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)))
            position = found.end()
        self._next = 0

    def parse(self) -> _Value:
        value = self._pipeline()
        kind, given, position = self._peek()
        if kind:
            raise RuleError(f'"{given}" in a template: expected | or }}}}', position)
        return value

    def _peek(self) -> tuple[str, str, int]:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("", "", self._end)

    def _pipeline(self) -> _Value:
        value = self._command(None)
        while self._peek()[1] == "|" and self._peek()[0] == "sign":
            self._next += 1
            value = self._command(value)
        return value

    def _command(self, piped: _Value | None) -> _Value:
        """A function with its arguments, the last of which is *piped*, or a value."""
        kind, given, position = self._peek()
        if kind != "name":
            if piped is not None:
                raise RuleError("a pipe into what is no function", position)
            return self._value()
        self._next += 1
        if given == "index":
            return self._index(position, piped)
        function = FUNCTIONS.get(given)
        if function is None:
            known = ["index", *FUNCTIONS]
            problem = f"unknown function {given}: expected one of {', '.join(known)}"
            raise RuleError(problem, position, nearest_of(given, known))
        arguments: list[_Value] = []
        while self._peek()[0] in ("field", "text", "number") or self._peek()[1] == "(":
            arguments.append(self._value(given == "trunc" and not arguments))
        if piped is not None:
            arguments.append(piped)
        if len(arguments) != function.arguments:
            wanted = f"{function.arguments} value{'' if function.arguments == 1 else 's'}"
            raise RuleError(f"{given} with {len(arguments)} values: expected {wanted}", position)
        call = function.call
        return lambda fill: call(*(argument(fill) for argument in arguments))

    def _index(self, position: int, piped: _Value | None) -> _Value:
        if self._peek()[1] != ".Labels":
            raise RuleError("index of something else than .Labels", self._peek()[2])
        self._next += 1
        key = piped or self._value()
        return lambda fill: fill.labels.get(key(fill), "")

    def _value(self, number: bool = False) -> _Value:
        kind, given, position = self._peek()
        self._next += 1
        if number != (kind == "number"):
            expected = "a whole number" if number else "a field such as .Name, a function or a text"
            raise RuleError(f"{self._shown(given)} in a template: expected {expected}", position)
        if kind == "field":
            return self._field(given, position)
        if kind == "text":
            return _constant(unquote(given, position))
        if kind == "number":
            return _constant(given)
        if given == "(":
            self._depth += 1
            if self._depth > _DEEPEST:
                raise RuleError(f"more than {_DEEPEST} levels of parentheses", position)
            value = self._pipeline()
            if self._peek()[1] != ")":
                raise RuleError("a ( without its )", position)
            self._next += 1
            self._depth -= 1
            return value
        expected = "a field such as .Name, a function or a text"
        raise RuleError(f"{self._shown(given)} in a template: expected {expected}", position)

    @staticmethod
    def _shown(given: str) -> str:
        return f'"{given}"' if given else "nothing"

    @staticmethod
    def _field(given: str, position: int) -> _Value:
        if given == ".Name":
            return lambda fill: fill.name
        if given == ".ContainerName":
            return lambda fill: fill.container_name
        if given.startswith(".Labels.") and given.count(".") == 2:
            key = given.removeprefix(".Labels.")
            return lambda fill: fill.labels.get(key, "")
        if given.startswith(".Labels"):
            raise RuleError(
                'a label is written .Labels.name, or index .Labels "name" if there are dots in it', position
            )
        problem = f"unknown field {given}: expected one of {', '.join(_FIELDS)}"
        raise RuleError(problem, position, nearest_of(given, _FIELDS))
