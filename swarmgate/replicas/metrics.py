"""What metrics tell of replicas that ask each other; traffic is each replica's own, as Prometheus adds up itself."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric


def families(prefix: str, answered: int, silent: int, told: int, refused: int) -> Iterator[Metric]:
    """Everything, by metric.

    :param answered: questions of this replica that others have answered, ``silent``: and not.
    :param told: questions of others that this one has answered; ``refused``: connections from elsewhere.
    """
    for name, help_, outcomes in (
        ("replica_questions", "What other replicas were asked.", (("answered", answered), ("failed", silent))),
        ("replica_answers", "What other replicas, and others, have asked.", (("told", told), ("refused", refused))),
    ):
        family = CounterMetricFamily(f"{prefix}_{name}", help_, labels=("outcome",))
        for outcome, count in outcomes:
            family.add_metric((outcome,), count)
        yield family
