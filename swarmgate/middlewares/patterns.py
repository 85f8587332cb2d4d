"""Regular expressions of options, and what they are replaced by, as Go's ``regexp`` has them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

#: A ``$$``, or a group's name or number after ``$``, in braces or not. Go takes as many word characters as there are.
_REFERENCE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})", re.ASCII)


def pattern_of(text: str, key: str) -> Any:
    """The compiled expression that is given by the option *key*. It takes linear time on any input.

    :raises ValueError: it is none.
    """
    # Loaded with the first expression: many have none, and it takes 2.5 MB.
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text.strip(), options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        told = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"{key}: {text!r} is no regular expression (RE2): {told}") from None


def replacement_of(text: str, pattern: Any, literal: Callable[[str], str]) -> Callable[[Any], str]:
    """What makes the replacement for a match of *pattern* from *text*, in which ``$1`` and ``${name}`` are groups.

    A group that there is not, or that has matched nothing, is empty.

    :param literal: how the rest of *text* is written.
    """
    parts: list[str | int] = []
    end = 0
    for found in _REFERENCE.finditer(text):
        parts.append(literal(text[end : found.start()]))
        end = found.end()
        if found[1]:
            parts.append(literal("$"))
            continue
        name = found[2] or found[3]
        group = int(name) if name.isdecimal() and len(name) < 9 else pattern.groupindex.get(name)
        if group is not None and group <= pattern.groups:
            parts.append(group)
    parts.append(literal(text[end:]))

    def expand(match: Any) -> str:
        return "".join(part if isinstance(part, str) else match.group(part) or "" for part in parts)

    return expand
