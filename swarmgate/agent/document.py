"""What an agent tells: counters and amounts, as frozen values, and as the JSON that a gate reads.

An agent keeps nothing from one question to the next: it tells counters, and whoever wants rates asks twice. What a gate
reads was sent by another machine, so :func:`decoded` takes only what is exactly as it should be.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import attrs
import cattrs

#: Tasks of a node that are told of at most; Docker's own limit for bridges is about a thousand.
MOST_TASKS = 1000
#: Octets that a document has at most: some 300 for each task.
LONGEST = 512 * 1024
_LONGEST_TEXT = 500
_LARGEST = 2**63


class BadDocument(ValueError):
    """What an agent has answered is no document of one; the text says what is wrong."""


def _amount(instance: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and 0 <= value < _LARGEST):
        raise ValueError(f"{attribute.name}: expected a number from 0 on")


def _short(instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
    if len(value) > _LONGEST_TEXT:
        raise ValueError(f"{attribute.name}: expected no more than {_LONGEST_TEXT} characters")


def _loads(instance: object, attribute: attrs.Attribute[Any], value: tuple[float, ...]) -> None:
    for one in value:
        _amount(instance, attribute, one)


def _few(instance: object, attribute: attrs.Attribute[Any], value: Mapping[str, Any]) -> None:
    if len(value) > MOST_TASKS:
        raise ValueError(f"{attribute.name}: expected no more than {MOST_TASKS}")


@attrs.frozen
class TaskCounters:
    """How much a task has used.

    :ivar cpu: seconds of processors' time.
    :ivar memory: octets in use, without what is only kept of files; ``memory_limit``: None for no limit.
    :ivar received: and ``sent``: octets over all of its networks.
    :ivar read: and ``written``: octets of disks.
    """

    cpu: float = attrs.field(validator=_amount)
    memory: int = attrs.field(validator=_amount)
    memory_limit: int | None = attrs.field(default=None, validator=_amount)
    received: int = attrs.field(default=0, validator=_amount)
    sent: int = attrs.field(default=0, validator=_amount)
    read: int = attrs.field(default=0, validator=_amount)
    written: int = attrs.field(default=0, validator=_amount)


@attrs.frozen
class NodeCounters:
    """How much of a node was used, and is in use.

    :ivar cpus: how many processors it has.
    :ivar busy: seconds that all of them together were not idle for.
    :ivar load: how many processes wanted one, on average of one, five and fifteen minutes.
    :ivar received: and ``sent``: octets over its network cards; None where the agent sees none of them.
    :ivar disk_total: octets of the file system that containers are on.
    :ivar read: and ``written``: octets of all disks.
    """

    cpus: int = attrs.field(validator=_amount)
    busy: float = attrs.field(validator=_amount)
    load: tuple[float, float, float] = attrs.field(validator=_loads)
    memory_total: int = attrs.field(validator=_amount)
    memory_used: int = attrs.field(validator=_amount)
    disk_total: int = attrs.field(validator=_amount)
    disk_used: int = attrs.field(validator=_amount)
    received: int | None = attrs.field(default=None, validator=_amount)
    sent: int | None = attrs.field(default=None, validator=_amount)
    read: int = attrs.field(default=0, validator=_amount)
    written: int = attrs.field(default=0, validator=_amount)


@attrs.frozen
class Document:
    """All that an agent tells.

    :ivar at: when it was so, in seconds since 1970; ``seconds``: by a clock that nobody sets.
    :ivar tasks: by the task's id.
    :ivar fault: why there are no tasks, ``""`` if there is no reason.
    """

    at: float = attrs.field(validator=_amount)
    seconds: float = attrs.field(validator=_amount)
    node: NodeCounters
    tasks: Mapping[str, TaskCounters] = attrs.field(factory=dict, validator=_few)
    fault: str = attrs.field(default="", validator=_short)


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)

    def exactly(kinds: tuple[type, ...]) -> Any:
        def check(value: Any, _: Any) -> Any:
            # JSON's true is a number to Python.
            if type(value) not in kinds:
                raise ValueError(f"expected {' or '.join(one.__name__ for one in kinds)}, not {value!r:.40}")
            return value

        return check

    converter.register_structure_hook(int, exactly((int,)))
    converter.register_structure_hook(float, exactly((float, int)))
    converter.register_structure_hook(str, exactly((str,)))
    return converter


_CONVERTER = _converter()


def encoded(document: Document) -> bytes:
    """*document* as JSON."""
    return json.dumps(_CONVERTER.unstructure(document), separators=(",", ":")).encode()


def decoded(body: bytes) -> Document:
    """The document that JSON tells. What newer agents tell besides is left alone.

    :raises BadDocument: it is none.
    """
    try:
        told = json.loads(body)
        if not isinstance(told, dict):
            raise ValueError("expected an object")
        return _CONVERTER.structure(told, Document)
    except KeyError as error:
        raise BadDocument(f"its answer can't be read: there is no {error.args[0]}") from error
    except (
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
        cattrs.BaseValidationError,
    ) as error:
        raise BadDocument(f"its answer can't be read: {str(error) or type(error).__name__:.200}") from error
