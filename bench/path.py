"""The path of a request in memory: what the gate's own code costs, without kernel and loop.

``python -m bench.path`` serves the same request again and again with all that a gate does in production: strict heads,
routes, balancing, the access log's line, metrics. Client, server and the log's file are left out. With ``--tls`` the
client's requests come encrypted, which is done before time is measured, and the answers are. With ``--http2`` the
client speaks HTTP/2, and each request is a stream of its own; with ``--together`` so many come in one turn of the loop.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import ssl
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import attrs
from hpack import Encoder, NeverIndexedHeaderTuple
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from swarmgate.config.load import load
from swarmgate.dynamic.file_format import decode_file
from swarmgate.dynamic.table import EntryPointFacts, compile_table
from swarmgate.dynamic.tls import RouterTLS
from swarmgate.middlewares import KINDS
from swarmgate.serving import Serving
from swarmgate.tls.reading import own_certificate
from swarmgate.transport.turn_end import TurnEnd

REQUEST = (
    b"GET /things/%d?colour=blue HTTP/1.1\r\nHost: app.example\r\nUser-Agent: wrk/4.1.0\r\nAccept: */*\r\n"
    b"Accept-Encoding: gzip, br\r\n\r\n"
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 18:47:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: %d\r\nConnection: keep-alive\r\n\r\n"
)

#: What begins a connection in HTTP/2: the preface, no settings, and a window that is never full.
BEGIN = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\xff\x00\x00"
)

_ROUTES = """
http:
  routers:
    app: {rule: Host(`app.example`), service: app}
    other: {rule: Host(`other.example`) && PathPrefix(`/x`), service: app}
  services:
    app: {loadBalancer: {servers: [{url: "http://127.0.0.2:80"}, {url: "http://127.0.0.3:80"}]}}
"""


class _Transport:
    """The loop's end of a connection: what is written is only counted."""

    disconnecting = False
    protocol: Any = None

    def __init__(self) -> None:
        self.writes = 0
        self.kept: list[bytes] | None = None

    def write(self, data: bytes) -> None:
        self.writes += 1
        if self.kept is not None:
            self.kept.append(data)

    def switch(self, protocol: Any) -> None:
        self.protocol = protocol

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass

    def getPeer(self) -> Any:
        return IPv4Address("TCP", "127.0.0.1", 50000)

    getHost = getPeer


class _Server(_Transport):
    """The loop's end of a connection to a server: who is asked is remembered.

    :ivar answer: gives the gate an answer.
    """

    def __init__(self, protocol: Any, asked: list[Callable[[bytes], None]]) -> None:
        self.answer = protocol.dataReceived
        self._asked = asked

    def write(self, data: bytes) -> None:
        self._asked.append(self.answer)


class _Network:
    """Connects at once.

    :ivar asked: of those who were asked and have not answered yet, what gives the gate their answers.
    """

    def __init__(self) -> None:
        self.asked: list[Callable[[bytes], None]] = []
        self._calls: list[Callable[[], object]] = []
        self.turn_end = TurnEnd(self._calls.append)

    def connect(self, host: str, port: int, timeout: float, protocol: Any, failed: Any) -> None:
        protocol.makeConnection(_Server(protocol, self.asked))

    def answer(self, answer: bytes) -> None:
        """Everybody answers, and the loop's turn ends."""
        for give in self.asked:
            give(answer)
        self.asked.clear()
        for call in self._calls:
            call()
        self._calls.clear()


class _Secured:
    """The client's side of TLS.

    :ivar wire: the loop's end of the connection, whose protocol is the gate's.
    """

    def __init__(self, wire: _Transport, http2: bool) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2" if http2 else "http/1.1"])
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="app.example")
        wire.kept = []
        for _ in range(2):
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
            wire.protocol.dataReceived(self._outgoing.read())
            self._incoming.write(b"".join(wire.kept))
            wire.kept.clear()
        wire.kept = None
        wire.writes = 0

    def sealed(self, head: bytes) -> bytes:
        """A record; they have to be sent in the order in which they are made."""
        self._tls.write(head)
        return self._outgoing.read()


def serving(folder: Path, network: Any, clock: Any, secure: bool = False) -> Serving:
    """What serves, as in production."""
    configuration = load(
        ["--entrypoints.web.address=:80", f"--accesslog.filepath={folder}/access.log", "--metrics.prometheus=true"], {}
    )
    serving = Serving(configuration, clock, network, {}, lambda: True, bytes(32))
    facts = EntryPointFacts(as_default=True, tls=RouterTLS() if secure else None)
    table = compile_table({"file": decode_file(_ROUTES, "routes.yml", KINDS)}, {"web": facts})
    serving.apply(attrs.evolve(table, tls=attrs.evolve(table.tls, default=own_certificate())) if secure else table)
    return serving


class _Http1:
    """A client's requests in HTTP/1.1."""

    begin = b""

    def __init__(self) -> None:
        self._heads = itertools.cycle([REQUEST % number for number in range(256)])

    def requests(self, count: int) -> list[bytes]:
        """The next so many."""
        return list(itertools.islice(self._heads, count))


class _Http2:
    """The same requests in HTTP/2, with all fields but the path in the table, as browsers have them."""

    begin = BEGIN

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._stream = 1

    def requests(self, count: int) -> list[bytes]:
        """The next so many."""
        return [self._request(self._stream >> 1 & 255) for _ in range(count)]

    def _request(self, number: int) -> bytes:
        section = self._encoder.encode(
            [
                (b":method", b"GET"),
                (b":scheme", b"http"),
                (b":authority", b"app.example"),
                NeverIndexedHeaderTuple(b":path", b"/things/%d?colour=blue" % number),
                (b"user-agent", b"wrk/4.1.0"),
                (b"accept", b"*/*"),
                (b"accept-encoding", b"gzip, br"),
            ]
        )
        stream, self._stream = self._stream, self._stream + 2
        return len(section).to_bytes(3, "big") + b"\x01\x05" + stream.to_bytes(4, "big") + section


def measure(
    requests: int, rounds: int, secure: bool = False, size: int = 60, http2: bool = False, together: int = 1
) -> list[float]:
    """CPU microseconds of a request, in each round.

    :param secure: over TLS.
    :param http2: in HTTP/2.
    :param size: of an answer's body, in octets.
    :param together: requests that come, and are answered, in one turn of the loop.
    """
    clock, network = Clock(), _Network()
    answer = ANSWER % size + b"x" * size
    with tempfile.TemporaryDirectory() as folder:
        gate = serving(Path(folder), network, clock, secure)
        transport = _Transport()
        transport.protocol = gate.entry_points["web"]._connection()
        transport.protocol.makeConnection(transport)
        wire: _Http1 | _Http2 = _Http2() if http2 else _Http1()
        sealed = _Secured(transport, http2).sealed if secure else bytes
        if wire.begin:
            transport.protocol.dataReceived(sealed(wire.begin))
        for _ in range(2):
            transport.protocol.dataReceived(sealed(b"".join(wire.requests(together))))
            network.answer(answer)
        results = []
        ask = transport.protocol.dataReceived
        transport.writes = 0
        turns = requests // together
        for _ in range(rounds):
            sent = [sealed(b"".join(wire.requests(together))) for _ in range(turns)]
            begun = process_time()
            for asked in sent:
                ask(asked)
                network.answer(answer)
            results.append((process_time() - begun) / (turns * together) * 1e6)
            clock.advance(1)
        if transport.writes != turns * rounds:
            raise SystemExit(f"{transport.writes} writes in {turns * rounds} turns")
    return results


def main() -> None:
    """Measure, and print the median with the least and the most."""
    parser = argparse.ArgumentParser(prog="python -m bench.path", description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tls", action="store_true", help="the client speaks TLS")
    parser.add_argument("--http2", action="store_true", help="the client speaks HTTP/2")
    parser.add_argument("--size", type=int, default=60, help="of an answer's body, in octets")
    parser.add_argument("--together", type=int, default=1, help="with --http2: requests in one turn of the loop")
    options = parser.parse_args()
    if options.together != 1 and not options.http2:
        parser.error("--together is for --http2: a client that speaks HTTP/1.1 waits for each answer")
    results = measure(options.requests, options.rounds, options.tls, options.size, options.http2, options.together)
    print(
        f"{statistics.median(results):.2f} µs a request ({min(results):.2f} - {max(results):.2f}), "
        f"{options.rounds} rounds of {options.requests:,}"
    )


if __name__ == "__main__":
    main()
