"""A service that fails is left alone, and gets its requests back."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.middlewares import circuit_breaker
from swarmgate.middlewares.chain import Chain
from swarmgate.middlewares.circuit_breaker import Circuit, Counted, Settings, condition_of, latency_at_quantile
from swarmgate.structure import StructureError, structure
from tests.exchanges import context_of
from tests.memory_network import GET, OK, MemoryGate

ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


def settings_of(**options: Any) -> Settings:
    found: Settings = structure(Settings, options, "circuitBreaker")
    return found


def counted(*requests: tuple[int, bool, float]) -> list[Counted]:
    """One slot with requests of these statuses, network errors and milliseconds."""
    slot = Counted()
    for request in requests:
        slot.add(*request)
    return [slot]


class ExpressionTests(SynchronousTestCase):
    def test_measures(self) -> None:
        """Each measure tells what its name says of the requests of late."""
        lately = counted((200, False, 10.0), (200, False, 20.0), (500, False, 30.0), (502, True, 3000.0))
        for text, holds in (
            ("NetworkErrorRatio() == 0.25", True),
            ("NetworkErrorRatio() > 0.25", False),
            ("ResponseCodeRatio(500, 600, 0, 600) >= 0.5", True),
            ("ResponseCodeRatio(500, 501, 200, 300) == 0.5", True),
            ("ResponseCodeRatio(500, 600, 300, 400) > 0", False),
            ("LatencyAtQuantileMS(50.0) >= 20", True),
            ("LatencyAtQuantileMS(50.0) > 23", False),
            ("LatencyAtQuantileMS(100) > 2999", True),
            ("NetworkErrorRatio() > 0.5 || LatencyAtQuantileMS(75) > 29", True),
            ("NetworkErrorRatio() > 0.5 && LatencyAtQuantileMS(75) > 29", False),
            ("!(NetworkErrorRatio() > 0.5) && networkerrorratio() != 1", True),
            ("NetworkErrorRatio() < 1 && NetworkErrorRatio() <= .25 || NetworkErrorRatio() > 1", True),
        ):
            self.assertEqual(condition_of(text)(lately), holds, text)

    def test_nothing(self) -> None:
        """Without requests nothing has failed, and nothing was slow."""
        for text in ("NetworkErrorRatio() > 0", "ResponseCodeRatio(0, 600, 0, 600) > 0", "LatencyAtQuantileMS(99) > 0"):
            self.assertFalse(condition_of(text)([]), text)

    def test_mistakes(self) -> None:
        """An expression that is none says what was expected where."""
        for text, said in (
            ("", "NetworkErrorRatio()"),
            ("NetworkErrorRate() > 1", "expected NetworkErrorRatio()"),
            ("NetworkErrorRatio()", "a comparison"),
            ("NetworkErrorRatio() > many", "a number"),
            ("NetworkErrorRatio(1) > 1", "takes 0 numbers"),
            ("ResponseCodeRatio(500, 600) > 1", "takes 4 numbers"),
            ("LatencyAtQuantileMS(0) > 1", "at most 100"),
            ("(NetworkErrorRatio() > 1", "expected ), not the end"),
            ("NetworkErrorRatio() > 1 NetworkErrorRatio() > 2", "&&, ||"),
            ("NetworkErrorRatio() > 1 & x", "can't be understood"),
            ("(" * 200 + "NetworkErrorRatio() > 1" + ")" * 200, "within each other"),
        ):
            error = self.assertRaises(ValueError, condition_of, text)
            self.assertIn(said, str(error), text)

    @given(st.text("NetworkErrorRatio() ResponseCodeRatio(0,600,1,2)<>=!&|.5", max_size=60))
    def test_anything(self, text: str) -> None:
        """Whatever is written is understood, or refused in words."""
        try:
            condition = condition_of(text)
        except ValueError as error:
            self.assertIn(
                "expected", str(error).replace("can't be understood", "expected").replace("takes", "expected")
            )
        else:
            self.assertIn(condition(counted((200, False, 1.0))), (True, False))

    @given(st.lists(st.floats(0.2, 60_000), min_size=1, max_size=60), st.integers(1, 100))
    def test_quantile(self, latencies: list[float], percent: int) -> None:
        """A latency is told at most a tenth too high, and never too low."""
        told = latency_at_quantile(percent)(counted(*((200, False, one) for one in latencies)))
        wanted = sorted(latencies)[max(0, -(-len(latencies) * percent // 100) - 1)]
        self.assertTrue(wanted <= told <= 1.1 * wanted + 1e-6, (wanted, told))


class CircuitTests(SynchronousTestCase):
    def test_course(self) -> None:
        """It opens, answers nobody, lets a growing share pass, and is closed again."""
        chance = [0.0]
        circuit = Circuit(settings_of(expression="NetworkErrorRatio() > 0.5", checkperiod="0"), lambda: chance[0])
        for status in (200, 502, 502):
            self.assertTrue(circuit.admits(100.0))
            circuit.count(100.0, status, status == 502, 1.0)
        self.assertFalse(circuit.admits(100.0))
        self.assertFalse(circuit.admits(109.9))
        for now, share in ((112.0, 0.2), (115.0, 0.5), (119.0, 0.9)):
            chance[0] = share - 0.01
            self.assertTrue(circuit.admits(now))
            chance[0] = share + 0.01
            self.assertFalse(circuit.admits(now))
        self.assertTrue(circuit.admits(120.0))
        self.assertIsNone(circuit.opened)

    def test_again(self) -> None:
        """What fails while it recovers opens it again, for the whole time; what began before it was opened does not."""
        circuit = Circuit(settings_of(expression="NetworkErrorRatio() > 0.5"), lambda: 0.0)
        circuit.count(100.0, 502, True, 1.0)
        circuit.count(105.0, 502, True, 1.0)
        self.assertEqual(circuit.opened, 100.0)
        self.assertTrue(circuit.admits(115.0))
        circuit.count(115.0, 502, True, 1.0)
        self.assertFalse(circuit.admits(124.9))

    def test_old_requests(self) -> None:
        """What failed more than ten seconds ago is forgotten."""
        circuit = Circuit(settings_of(expression="ResponseCodeRatio(500, 600, 0, 600) > 0.5", checkperiod="1s"))
        circuit.count(0.5, 500, False, 1.0)
        circuit.count(0.6, 500, False, 1.0)
        circuit.count(11.0, 200, False, 1.0)
        self.assertIsNone(circuit.opened)


class MiddlewareTests(SynchronousTestCase):
    def test_server_fails(self) -> None:
        """A server that answers with errors is not asked any more, for as long as it is told; then it is."""
        gate = MemoryGate()
        options = {"expression": "ResponseCodeRatio(500, 600, 0, 600) > 0.3", "fallbackduration": "5s"}
        step = circuit_breaker.build(
            settings_of(**options, recoveryduration="1ms", responsecode="504"), context_of(gate.clock)
        )
        gate.leaf = Chain("r@test", (step,), gate.leaf)
        gate.clock.advance(1)
        client = gate.client()
        client.receive(GET)
        gate.server.receive(ERROR)
        self.assertTrue(client.take().startswith(b"HTTP/1.1 500 "))
        gate.server.take()
        client.receive(GET)
        self.assertTrue(client.take().startswith(b"HTTP/1.1 504 "))
        self.assertEqual(gate.server.take(), b"")
        gate.clock.advance(5.1)
        client.receive(GET)
        gate.server.receive(OK)
        self.assertEqual(client.take(), OK)

    def test_unreachable(self) -> None:
        """A server that can't be reached is a network error."""
        gate = MemoryGate()
        gate.network.accepts = False
        step = circuit_breaker.build(settings_of(expression="NetworkErrorRatio() > 0.3"), context_of(gate.clock))
        gate.leaf = Chain("r@test", (step,), gate.leaf)
        gate.clock.advance(1)
        client = gate.client()
        client.receive(GET)
        for *_, failed in list(gate.network.connecting):
            failed(OSError("refused"))
        self.assertTrue(client.take().startswith(b"HTTP/1.1 502 "))
        client.receive(GET)
        self.assertTrue(client.take().startswith(b"HTTP/1.1 503 "))

    def test_settings(self) -> None:
        """A mistake in the expression costs the middleware alone, and is told of."""
        self.assertRaises(ValueError, circuit_breaker.build, settings_of(expression="x"), context_of())
        self.assertRaises(StructureError, settings_of)
