"""Load shedding: new requests that are refused, so that the others are served in time."""

from __future__ import annotations

from collections import Counter

from swarmgate.http.exchange import NO_SNIFFING, PLAIN_TEXT, Exchange

_FIELDS = (PLAIN_TEXT, NO_SNIFFING, (b"Retry-After", b"2"))


class LoadShedding:
    """Refuses a share of an entry point's requests.

    :ivar share: from 0, none, to 1, all.
    :ivar reason: why, as it is counted by.
    :ivar refusals: how many were refused, by reason.
    """

    __slots__ = ("_owed", "reason", "refusals", "share")

    def __init__(self) -> None:
        self.share = 0.0
        self.reason = ""
        self.refusals: Counter[str] = Counter()
        #: What is left to refuse: by adding up, each share comes out evenly and without chance.
        self._owed = 0.0

    def refuses(self, exchange: Exchange) -> bool:
        """Whether *exchange* is one that is refused; it has been answered then."""
        self._owed += self.share
        if self._owed < 1.0:
            return False
        self._owed -= 1.0
        self.refusals[self.reason] += 1
        exchange.answer(503, b"Service Unavailable", _FIELDS)
        return True
