"""Asks OCSP responders over HTTP (RFC 6960, appendix A)."""

from __future__ import annotations

from typing import Any

import treq
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

from swarmgate.tls.ocsp import OCSPError

#: Octets of an answer; real ones have some 2,000 at most.
_LONGEST = 65536
_HEADERS = Headers({"Content-Type": ["application/ocsp-request"]})


class Responders:
    """Sends requests to responders, each over a connection of its own."""

    def __init__(self, reactor: Any) -> None:
        self._client = HTTPClient(Agent(reactor, connectTimeout=10, pool=HTTPConnectionPool(reactor, persistent=False)))

    def __call__(self, url: str, body: bytes) -> Deferred[bytes]:
        """The body of the answer of *url* to the request *body*, both DER.

        It fails with :exc:`~swarmgate.tls.ocsp.OCSPError` if it is none, or with what has ended the connection.
        """
        asking: Deferred[Any] = self._client.post(url, data=body, headers=_HEADERS, allow_redirects=False)
        return asking.addCallback(_body_of)


def _body_of(response: Any) -> Deferred[bytes]:
    if response.code != 200:
        raise OCSPError(f"it answers {response.code}")
    pieces: list[bytes] = []
    seen = 0

    def collect(piece: bytes) -> None:
        nonlocal seen
        seen += len(piece)
        if seen > _LONGEST:
            raise OCSPError(f"its answer has more than {_LONGEST} octets")
        pieces.append(piece)

    reading: Deferred[Any] = treq.collect(response, collect)
    return reading.addCallback(lambda _: b"".join(pieces))
