"""Expressions of options, in Traefik's language: measures, compared with numbers, combined by ``&&`` and ``||``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from swarmgate.structure import nearest_of

#: What an expression asks of something.
Condition = Callable[[Any], bool]

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    "==": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
}
_TOKEN = re.compile(r"\s*(?:(&&|\|\||[<>=!]=|[<>!(),])|([0-9]+(?:\.[0-9]*)?|\.[0-9]+)|([A-Za-z]+))")
_DEEPEST = 50  # Parentheses within each other.
_LONGEST = 4096


@attrs.frozen
class Measure:
    """A function that an expression may name.

    :ivar name: as it is spelled.
    :ivar arguments: how many numbers it takes.
    :ivar make: called with them, gives what measures something.
    :ivar is_truth: it is true or false, and compared with nothing.
    """

    name: str
    make: Callable[..., Callable[[Any], Any]]
    arguments: int = 0
    is_truth: bool = False


def condition_of(text: str, key: str, measures: Mapping[str, Measure], example: str) -> Condition:
    """What the expression *text*, given by the option *key*, asks.

    :param measures: what it may name, by name in lower case.
    :param example: uses of them, for people.
    :raises ValueError: it is none; says what was expected.
    """
    return _Parser(text, key, measures, example).parse()


class _Parser:
    """Reads an expression: measures and comparisons of them with numbers, ``&&``, ``||``, ``!`` and parentheses."""

    def __init__(self, text: str, key: str, measures: Mapping[str, Measure], example: str) -> None:
        if len(text) > _LONGEST:
            raise ValueError(f"{key}: expected at most {_LONGEST} characters")
        self._text = text
        self._key = key
        self._measures = measures
        self._example = example
        self._tokens: list[str] = []
        place = 0
        while text[place:].strip():
            found = _TOKEN.match(text, place)
            if found is None:
                raise ValueError(f"{key}: {text!r} can't be understood from {text[place:].strip()!r} on")
            self._tokens.append(found[0].strip())
            place = found.end()
        self._place = 0
        self._depth = 0

    def parse(self) -> Condition:
        condition = self._any()
        if self._place < len(self._tokens):
            raise self._unexpected("&&, || or the end")
        return condition

    def _any(self) -> Condition:
        conditions = [self._all()]
        while self._take("||"):
            conditions.append(self._all())
        return conditions[0] if len(conditions) == 1 else lambda given: any(one(given) for one in conditions)

    def _all(self) -> Condition:
        conditions = [self._one()]
        while self._take("&&"):
            conditions.append(self._one())
        return conditions[0] if len(conditions) == 1 else lambda given: all(one(given) for one in conditions)

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(f"{self._key}: expected at most {_DEEPEST} parentheses within each other")
        try:
            if self._take("!"):
                negated = self._one()
                return lambda given: not negated(given)
            if self._take("("):
                inner = self._any()
                self._expect(")")
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Condition:
        measure, is_truth = self._measure()
        if is_truth:
            return measure
        compare = _COMPARISONS.get(self._next())
        if compare is None:
            self._place -= 1
            raise self._unexpected("a comparison such as >")
        number = self._number()
        return lambda given: compare(measure(given), number)

    def _measure(self) -> tuple[Callable[[Any], Any], bool]:
        name = self._next()
        known = self._measures.get(name.lower())
        if known is None:
            self._place -= 1
            raise self._unexpected(self._example, nearest_of(name, [one.name for one in self._measures.values()]))
        self._expect("(")
        given: list[float] = []
        while not self._take(")"):
            if given:
                self._expect(",")
            given.append(self._number())
        if len(given) != known.arguments:
            raise ValueError(f"{self._key}: {name} takes {known.arguments} numbers, not {len(given)}")
        return known.make(*given), known.is_truth

    def _number(self) -> float:
        token = self._next()
        try:
            return float(token)
        except ValueError:
            self._place -= 1
            raise self._unexpected("a number") from None

    def _next(self) -> str:
        token = self._tokens[self._place] if self._place < len(self._tokens) else ""
        self._place += 1
        return token

    def _take(self, token: str) -> bool:
        if self._place < len(self._tokens) and self._tokens[self._place] == token:
            self._place += 1
            return True
        return False

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise self._unexpected(token)

    def _unexpected(self, expected: str, nearest: str = "") -> ValueError:
        found = self._tokens[self._place] if self._place < len(self._tokens) else "the end"
        hint = f" (did you mean {nearest}?)" if nearest else ""
        return ValueError(f"{self._key}: {self._text!r}: expected {expected}, not {found}{hint}")
