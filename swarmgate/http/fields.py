"""Field lines of HTTP/1 messages: checked, taken apart, and what their names mean to the gate.

Strictness is by construction: one regular expression says whether all lines are made of legal bytes in legal places,
a second takes them apart. Sources: RFC 9112 (2.2 line ends, 5 fields), RFC 9110 (5.5 values, 6.5.1 trailers, 7.6.1
Connection).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from swarmgate.http.message import Fields

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_FIELD_LINES = re.compile(rb"(?:" + TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+\r\n")
_FIELDS = re.compile(rb"([^:\r\n]++):[ \t]*+([^\r\n]*+)\r\n")
DIGITS = re.compile(rb"[0-9]{1,18}+")
#: A byte that no head can hold, or a line end that is not CR LF: enough to refuse before the head is complete.
HOPELESS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r[^\n]")

# What a field name means to the gate.
PLAIN, DROP, HOST_FIELD, LENGTH, CODING, CONNECTION, UPGRADE, EXPECT, TE, MANAGED_FIELD, UNDERSCORE = range(11)

#: The fields by which proxies tell of the client; the gate writes its own (Traefik's managed X- headers).
MANAGED = frozenset(
    (
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-method",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-forwarded-scheme",
        b"x-forwarded-server",
        b"x-forwarded-tls-client-cert",
        b"x-forwarded-tls-client-cert-info",
        b"x-forwarded-uri",
        b"x-real-ip",
        b"x-scheme",
        b"forwarded",
    )
)

MEANINGS = {
    b"host": HOST_FIELD,
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
    b"expect": EXPECT,
    b"te": TE,
    b"keep-alive": DROP,
    b"proxy-connection": DROP,
    b"proxy-authenticate": DROP,
    b"proxy-authorization": DROP,
    b"http2-settings": DROP,
    b"trailer": DROP,
    **dict.fromkeys(MANAGED, MANAGED_FIELD),
}
#: Names that a Connection field cannot take away: the gate itself gives them a meaning.
NOT_NOMINABLE = frozenset((b"host", b"close", b"keep-alive", b"upgrade", b"te")) | MANAGED
FRAMING = frozenset((b"content-length", b"transfer-encoding"))
#: Fields that must not come after a body, since they would be acted on too late (RFC 9110, 6.5.1).
FORBIDDEN_TRAILERS = MEANINGS.keys() | {
    b"authorization",
    b"cache-control",
    b"content-encoding",
    b"content-range",
    b"content-type",
    b"cookie",
    b"max-forwards",
    b"set-cookie",
    b"www-authenticate",
}

#: How many blocks of field lines are remembered, and how long they may be, in octets.
REMEMBERED = 1024
LONGEST_REMEMBERED = 1024


_DASHES = bytes.maketrans(b"_.", b"--")


def may_trail(name: bytes) -> bool:
    """Whether a field of this name may come after a body, however a server spells it (RFC 9110, 6.5.1)."""
    return name.lower().translate(_DASHES) not in FORBIDDEN_TRAILERS


def request_meaning(name: bytes) -> int:
    """What a request's field of this name means."""
    key = name.lower()
    meaning = MEANINGS.get(key)
    if meaning is not None:
        return meaning
    # A server that turns "-" and other marks into "_", as CGI does, would take it for the field proper.
    if key.translate(_DASHES) in MEANINGS:
        return DROP
    return UNDERSCORE if b"_" in key else PLAIN


class Meanings(dict[bytes, int]):
    """The meaning of a name by its spelling; spellings are remembered up to a bound, since strangers choose them.

    :param meaning: of a name that was not seen before.
    """

    def __init__(self, meaning: Callable[[bytes], int]) -> None:
        super().__init__()
        self._meaning = meaning

    def __missing__(self, name: bytes) -> int:
        meaning = self._meaning(name)
        if len(self) < 4096 and len(name) < 64:
            self[name] = meaning
        return meaning


def tokens(value: bytes) -> list[bytes]:
    """The members of a comma separated list, in lower case, empty ones left out."""
    return [member for member in (part.strip(b" \t") for part in value.lower().split(b",")) if member]


def split_fields(block: bytes, start: int = 0) -> Fields:
    """The field lines of *block* from *start* on, trimmed.

    :raises ValueError: one of them is none (RFC 9112, 5).
    """
    if _FIELD_LINES.fullmatch(block, start) is None:
        raise ValueError
    found: Fields = _FIELDS.findall(block, start, len(block) - 2)
    if b" \r" in block or b"\t\r" in block:
        found = [(name, value.rstrip(b" \t")) for name, value in found]
    return found
