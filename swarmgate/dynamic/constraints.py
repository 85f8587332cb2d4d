"""Which Swarm services are looked at: ``Label(`public`,`yes`) && !LabelRegex(`stage`,`^test`)``.

The grammar is that of rules, with matchers for labels (Traefik ``providers.swarm.constraints``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from swarmgate.dynamic.rules import (
    And,
    Argument,
    Matcher,
    Not,
    Rule,
    RuleError,
    parse_expression,
    regular_expression,
    spellings,
)
from swarmgate.structure import nearest_of

Constraint = Callable[[Mapping[str, str]], bool]
"""Is a service with these labels looked at?"""

_MATCHERS = ("Label", "LabelRegex")
_SPELLINGS = spellings(_MATCHERS)


def parse_constraints(text: str) -> Constraint:
    """The predicate that *text* describes; nothing at all is true of every service.

    A label that isn't there counts as empty. Regular expressions look anywhere in a value.

    :raises RuleError: *text* is no such expression.
    """
    if not text.strip():
        return lambda labels: True
    return _compile(parse_expression(text, _matcher))


def _matcher(given: str, position: int, arguments: tuple[Argument, ...]) -> Rule:
    name = _SPELLINGS.get(given)
    if name is None:
        problem = f"unknown matcher {given}: expected {' or '.join(_MATCHERS)}"
        raise RuleError(problem, position, nearest_of(given, _MATCHERS))
    if len(arguments) != 2:
        raise RuleError(f"{given} with {len(arguments)} values: expected 2 values", position)
    label, value = arguments
    if not label.text:
        raise RuleError(f"{given} without the name of a label", label.position)
    if name == "LabelRegex":
        try:
            regular_expression(value.text)
        except ValueError as error:
            raise RuleError(f'"{value.text}" is no regular expression: {error}', value.position) from None
    return Matcher(name, (label.text, value.text))


def _compile(rule: Rule) -> Constraint:
    if isinstance(rule, Not):
        negated = _compile(rule.rule)
        return lambda labels: not negated(labels)
    if isinstance(rule, Matcher):
        key, value = rule.args
        if rule.name == "Label":
            return lambda labels: labels.get(key, "") == value
        search = regular_expression(value).search
        return lambda labels: search(labels.get(key, "").encode("utf-8", "replace")) is not None
    parts = [_compile(one) for one in rule.rules]
    if isinstance(rule, And):
        return lambda labels: all(part(labels) for part in parts)
    return lambda labels: any(part(labels) for part in parts)
