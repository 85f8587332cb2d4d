"""Who is told of exchanges that have ended."""

from __future__ import annotations

from collections.abc import Callable

from swarmgate.http.exchange import Exchange
from swarmgate.observe.access_log import AccessLog
from swarmgate.observe.traffic import Traffic


class Told:
    """Those who are told of each exchange that has ended, in their order.

    :param trace: ends what is recorded of it in traces; each of the three may be None.
    """

    __slots__ = ("_access_log", "_trace", "_traffic")

    def __init__(
        self, trace: Callable[[Exchange], None] | None, traffic: Traffic | None, access_log: AccessLog | None
    ) -> None:
        self._trace = trace
        self._traffic = traffic
        self._access_log = access_log

    def record(self, exchange: Exchange) -> None:
        """Tell all of them of *exchange*."""
        if self._trace is not None:
            self._trace(exchange)
        if self._traffic is not None:
            self._traffic.record(exchange)
        if self._access_log is not None:
            self._access_log.record(exchange)
