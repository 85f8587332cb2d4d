"""``redirectRegex``: a request whose URL matches is sent to another one.

The expression sees the whole URL, ``scheme://host:port/path?query``, without the scheme's own port. ``$1`` and
``${name}`` in the replacement are groups of the expression. A URL that stays the same passes. The answer's status is
as with ``redirectScheme``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import attrs

from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.middlewares.patterns import pattern_of, replacement_of
from swarmgate.middlewares.redirect_scheme import redirect, without_default_port
from swarmgate.structure import option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange

KIND = "redirectRegex"


@attrs.frozen
class Settings:
    """Options of ``redirectRegex``."""

    regex: str = option(doc="A regular expression (RE2); it may match anywhere unless anchored.")
    replacement: str = option(doc="What takes the place of each match.")
    permanent: bool = option(default=False, doc="Answer 301 or 308, which clients remember.")


def _in_a_url(text: str) -> str:
    return quote(text, safe="/%:?#[]@!$&'()*+,;=~")


class RedirectRegex(Middleware):
    """Sends requests whose URL matches elsewhere."""

    __slots__ = ("_pattern", "_permanent", "_replacement")

    def __init__(self, settings: Settings) -> None:
        self._pattern = pattern_of(settings.regex, "regex")
        self._replacement = replacement_of(settings.replacement.strip(), self._pattern, _in_a_url)
        self._permanent = settings.permanent

    def request(self, exchange: Exchange) -> None:
        request = exchange.request
        authority = without_default_port(request.authority, request.scheme)
        url = (b"%b://%b%b" % (request.scheme, authority, request.target)).decode("ascii")
        if not self._pattern.search(url):
            return
        location = self._pattern.sub(self._replacement, url)
        if location != url:
            redirect(exchange, location.encode("ascii"), self._permanent)


def build(settings: Settings, context: Context) -> Middleware:
    """The redirection for one route.

    :raises ValueError: the expression is none.
    """
    return RedirectRegex(settings)
