"""Header fields that middlewares set, as their settings give them."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

from swarmgate.http.message import Fields

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# Servers that make variables of fields, as CGI does, write several characters as "_".
_ONE_SPELLING = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ_.", b"abcdefghijklmnopqrstuvwxyz--")
#: The gate writes these itself, or they concern one connection only (RFC 9110, 7.6.1).
_WRITTEN_BY_THE_GATE = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


def is_written_by_the_gate(name: bytes) -> bool:
    """Whether a field called so, or what a server might take for it, is not for middlewares to set."""
    return spelling(name).decode("latin-1") in _WRITTEN_BY_THE_GATE or spelling(name) == b"host"


def name_of(text: str, key: str) -> bytes:
    """A field name that is given by the option *key*.

    :raises ValueError: it is none (RFC 9110, 5.1).
    """
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"{key}: {text!r} is no name of a header field, expected one such as X-User")
    return text.encode("ascii")


def value_of(text: str, key: str) -> bytes:
    """A field value that is given by the option *key*.

    :raises ValueError: it is none (RFC 9110, 5.5).
    """
    if not _VALUE.fullmatch(text):
        raise ValueError(f"{key}: its value holds a line end or another character that no header field can hold")
    return text.encode("latin-1").strip(b" \t")


def fields_of(given: Mapping[str, str], key: str) -> Fields:
    """The fields that are given by the option *key*; those with an empty value are to be removed.

    :raises ValueError: one of them is no field, or one that is not to be set.
    """
    fields = []
    for name, value in given.items():
        if value and name.lower() in _WRITTEN_BY_THE_GATE:
            raise ValueError(f"{key}.{name}: the gate writes this field itself, it cannot be set")
        fields.append((name_of(name, key), value_of(value, f"{key}.{name}")))
    return fields


def spelling(name: bytes) -> bytes:
    """The one spelling of all field names that a server might take for *name*."""
    return name.translate(_ONE_SPELLING)


def without(fields: Fields, spellings: Container[bytes]) -> Fields:
    """*fields* without those that a server might take for one of *spellings*, made by :func:`spelling`."""
    return [pair for pair in fields if pair[0].translate(_ONE_SPELLING) not in spellings]
