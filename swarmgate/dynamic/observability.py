"""What is told of requests: said of entry points, and of routers, which have the last word."""

from __future__ import annotations

from typing import Literal

import attrs

from swarmgate.structure import option


@attrs.frozen
class Observed:
    """What is told of a route's requests (Traefik ``observability``).

    :ivar detailed: the router and the service have spans of their own in traces (``traceVerbosity``).
    """

    access_logs: bool = True
    metrics: bool = True
    tracing: bool = True
    detailed: bool = False


@attrs.frozen
class Observability:
    """``routers.X.observability``, and that of entry points: what is told of requests; what isn't said is inherited."""

    access_logs: bool | None = option(default=None, doc="Whether they are in the access log; by default they are.")
    metrics: bool | None = option(default=None, doc="Whether metrics count them; by default they do.")
    tracing: bool | None = option(default=None, doc="Whether they are traced; by default they are.")
    trace_verbosity: Literal["minimal", "detailed"] | None = option(
        default=None, doc="``detailed``: traces show router and service, too; by default they are ``minimal``."
    )

    def over(self, inherited: Observed) -> Observed:
        """What is in force where *inherited* holds unless something is said."""
        verbosity = self.trace_verbosity
        return Observed(
            inherited.access_logs if self.access_logs is None else self.access_logs,
            inherited.metrics if self.metrics is None else self.metrics,
            inherited.tracing if self.tracing is None else self.tracing,
            inherited.detailed if verbosity is None else verbosity == "detailed",
        )
