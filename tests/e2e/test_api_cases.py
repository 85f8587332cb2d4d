"""Many generated requests to the API of a gate that runs: each answer is as the OpenAPI document says.

``API_CASES`` is how many; 100 if it isn't set.
"""

from __future__ import annotations

import os
import urllib.request

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import Gate, free_port, routes

CASES = int(os.environ.get("API_CASES", "100"))
#: Not all texts are questions: what makes no sense may be answered 400, and queries that nobody knows are let be.
UNWANTED = [negative_data_rejection, positive_data_acceptance]


class CaseTests(SynchronousTestCase):
    def test_documented(self) -> None:
        """No generated request is answered with 5xx, or otherwise than the document says."""
        port = free_port()
        gate = Gate(
            routes({"s": [9]}, {"a.example": "s"}),
            *(f"--entrypoints.traefik.address=127.0.0.1:{port}", "--api.insecure", "--api.operations", "--api.logs"),
        )
        self.addCleanup(gate.stop)
        base = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(f"{base}/api/openapi.json", timeout=10) as answer:
            self.assertEqual(answer.status, 200)
        schema = schemathesis.openapi.from_url(f"{base}/api/openapi.json")
        # The one path that answers without end.
        operations = [one.ok() for one in schema.exclude(path="/api/events").get_all_operations()]
        strategy = st.one_of([one.as_strategy() for one in operations])
        statuses: dict[int, int] = {}

        @settings(
            max_examples=CASES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def ask(case: schemathesis.Case) -> None:
            response = case.call(timeout=10)
            statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
            self.assertLess(response.status_code, 500, response.text)
            case.validate_response(response, excluded_checks=UNWANTED)

        ask()
        self.assertGreaterEqual(sum(statuses.values()), CASES)
        self.assertGreater(statuses.get(200, 0), CASES // 10)
