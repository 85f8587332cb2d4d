"""Paths that middlewares rewrite.

A path that begins anew after a rewrite can be another one than was routed, checked and logged: ``/api../admin``
without ``/api`` leads to ``/admin`` on many a server. So each rewritten path is brought to normal form again, and if
that still changes it, the request is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from swarmgate.http.errors import BadRequest
from swarmgate.http.exchange import NO_SNIFFING, PLAIN_TEXT
from swarmgate.http.paths import PathPolicy

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange

# Escapes that an entry point has let pass are none of a rewrite's business.
_POLICY = PathPolicy(refused=())


def rewrite(exchange: Exchange, path: bytes) -> bool:
    """Forward *path* in place of the present one. Returns False if it was refused, with 400."""
    try:
        accepted = path.startswith(b"/") and path == _POLICY.normalise(path)
    except BadRequest:
        accepted = False
    if accepted:
        exchange.request.set_path(path)
    else:
        exchange.answer(400, b"Bad Request\n", (PLAIN_TEXT, NO_SNIFFING))
    return accepted


def quoted(text: str) -> str:
    """*text* as it is spelled in paths; escapes in it stay."""
    return quote(text, safe="/%:@!$&'()*+,;=~")


def path_of(text: str, name: str) -> bytes:
    """What an option says, as paths of requests are spelled: in normal form, with escapes.

    :param name: the option, for the error.
    :raises ValueError: it is no path that a request could have.
    """
    try:
        if not text.startswith("/"):
            raise BadRequest("it does not begin with /")
        if "?" in text or "#" in text:
            raise BadRequest("? or # in it")
        path = _POLICY.normalise(quoted(text).encode("ascii"))
    except BadRequest as error:
        raise ValueError(f'{name}: "{text}" is no path: {error.reason}; expected one such as /api') from None
    return path
