"""Answers to HTTP-01 challenges (RFC 8555, section 8.3; Traefik ``acme-http@internal``)."""

from __future__ import annotations

import re
from collections.abc import Callable

from swarmgate.http.exchange import NO_SNIFFING, PLAIN_TEXT, Exchange

PATH = "/.well-known/acme-challenge/"
"""What the path of every HTTP-01 challenge begins with."""

_TOKEN = re.compile(rb"/\.well-known/acme-challenge/([A-Za-z0-9_-]{16,256})")


class ChallengeLeaf:
    """Answers with the token and the account's thumbprint; 404 where no account is known.

    Nobody has to tell it which tokens there are, so each replica answers what the authority has arranged with any
    other. Whoever asks with a token of their own making learns the thumbprint, which is no secret.

    :param thumbprint: of the account that has ordered for a host by an entry point, None if there is none.
    """

    def __init__(self, thumbprint: Callable[[str, str], str | None]) -> None:
        self._thumbprint = thumbprint

    def serve(self, exchange: Exchange) -> None:
        """Answer *exchange*."""
        request = exchange.request
        found = _TOKEN.fullmatch(request.path)
        host = request.host.decode("ascii", "replace")
        known = self._thumbprint(host, exchange.entry_point) if found is not None else None
        if found is None or known is None:
            exchange.answer(404, b"no such challenge\n", (PLAIN_TEXT, NO_SNIFFING))
        else:
            kind = (b"Content-Type", b"application/octet-stream")
            exchange.answer(200, found[1] + b"." + known.encode(), (kind, NO_SNIFFING))
