"""What tracing costs a request in the process that serves: the gate's own path in memory, with tracing and without.

``python -m bench.tracing``: rounds of all variants in turn, so that what else the machine does meets all alike; the
median of the differences to the round without tracing, in microseconds of CPU for each request. Of what is recorded
the thread's part, making spans and writing them as OTLP, is measured by itself.
"""

from __future__ import annotations

import time
from statistics import median

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from swarmgate.observe.tracing import Recording, Spans, Tracing, TracingSettings
from tests.memory_network import OK, MemoryGate

_REQUESTS = 1000
_ROUNDS = 60
_LINES = (
    "GET /x?page=2 HTTP/1.1",
    "Host: a.example",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64)",
    "Accept: text/html,application/xhtml+xml",
    "Accept-Language: en",
    "Accept-Encoding: gzip, br",
    "Cookie: session=5f8b7c",
)
_PARENT = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"


def _head(*more: str) -> bytes:
    return "\r\n".join((*_LINES, *more, "", "")).encode("ascii")


class Variant:
    """A gate in memory that is asked *head* again and again; *rate* is None where nothing is traced."""

    def __init__(self, rate: float | None, head: bytes) -> None:
        self._head = head
        self.gate = MemoryGate()
        self.gate.finished = lambda exchange: None  # type: ignore[method-assign]
        self.noted: list[Recording] = []
        if rate is not None:
            tracing = Tracing(TracingSettings(sample_rate=rate), self._take)
            self.gate.serve = tracing.leaf(self.gate).serve  # type: ignore[method-assign]
            self.gate.finished = tracing.finished  # type: ignore[method-assign]
            tracing.watch(self.gate.upstreams[0])
        self._client = self.gate.client()
        self._client.receive(head)
        self.gate.server.receive(OK)

    def _take(self, noted: Recording) -> None:
        self.noted = [noted]

    def round(self) -> float:
        """Microseconds for each request."""
        client, server, head = self._client, self.gate.server, self._head
        begun = time.process_time()
        for _ in range(_REQUESTS):
            client.receive(head)
            server.receive(OK)
            client.written = server.written = b""
        return (time.process_time() - begun) / _REQUESTS * 1e6


def _thread(noted: Recording) -> float:
    spans = Spans(TracingSettings())
    begun = time.process_time()
    for _ in range(10):
        encode_spans([span for _ in range(128) for span in spans.of(noted)]).SerializeToString()
    return (time.process_time() - begun) / 1280 * 1e6


def main() -> None:
    """Measure, and print what came of it."""
    variants = {
        "off": Variant(None, _head()),
        "on, of 100 one is recorded": Variant(0.01, _head()),
        "on, none is recorded": Variant(0.0, _head()),
        "off, the client sends a trace": Variant(None, _head(_PARENT + "0")),
        "on, the client's trace is not recorded": Variant(1.0, _head(_PARENT + "0")),
        "on, all are recorded": Variant(1.0, _head()),
    }
    for variant in variants.values():
        variant.round()
    took: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(_ROUNDS):
        for name, variant in variants.items():
            took[name].append(variant.round())
    for name, times in took.items():
        against = took["off, the client sends a trace" if "client" in name else "off"]
        more = median(one - other for one, other in zip(times, against, strict=True))
        print(f"{name:42} {median(times):7.2f} us  {more:+6.2f}")
    print(f"{'the thread, of one that is recorded':42} {_thread(variants['on, all are recorded'].noted[0]):7.2f} us")


if __name__ == "__main__":
    main()
