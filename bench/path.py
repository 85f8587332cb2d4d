"""The path of a request in memory: what the gate's own code costs, without kernel and loop.

``python -m bench.path`` serves the same request again and again with all that a gate does in production: strict heads,
routes, balancing, the access log's line, metrics. Client, server and the log's file are left out. With ``--tls`` the
client's requests come encrypted, which is done before time is measured, and the answers are.
"""

from __future__ import annotations

import argparse
import contextlib
import ssl
import statistics
import tempfile
from pathlib import Path
from time import process_time
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from swarmgate.config.load import load
from swarmgate.dynamic.file_format import decode_file
from swarmgate.dynamic.table import EntryPointFacts, compile_table
from swarmgate.dynamic.tls import RouterTLS
from swarmgate.middlewares import KINDS
from swarmgate.serving import Serving

REQUEST = (
    b"GET /things/%d?colour=blue HTTP/1.1\r\nHost: app.example\r\nUser-Agent: wrk/4.1.0\r\nAccept: */*\r\n"
    b"Accept-Encoding: gzip, br\r\n\r\n"
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 18:47:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: %d\r\nConnection: keep-alive\r\n\r\n"
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

    def getPeer(self) -> Any:
        return IPv4Address("TCP", "127.0.0.1", 50000)

    getHost = getPeer


class _Network:
    """Connects at once, and remembers who it was."""

    def __init__(self) -> None:
        self.newest: Any = None

    def connect(self, host: str, port: int, timeout: float, protocol: Any, failed: Any) -> None:
        protocol.makeConnection(_Transport())
        self.newest = protocol


class _Secured:
    """The client's side of TLS.

    :ivar wire: the loop's end of the connection, whose protocol is the gate's.
    """

    def __init__(self, wire: _Transport) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
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
    serving.apply(compile_table({"file": decode_file(_ROUTES, "routes.yml", KINDS)}, {"web": facts}))
    return serving


def measure(requests: int, rounds: int, secure: bool = False, size: int = 60) -> list[float]:
    """CPU microseconds of a request, in each round.

    :param secure: over TLS.
    :param size: of an answer's body, in octets.
    """
    clock, network = Clock(), _Network()
    answer = ANSWER % size + b"x" * size
    with tempfile.TemporaryDirectory() as folder:
        gate = serving(Path(folder), network, clock, secure)
        transport = _Transport()
        transport.protocol = gate.entry_points["web"]._connection()
        transport.protocol.makeConnection(transport)
        sealed = _Secured(transport).sealed if secure else bytes
        heads = [REQUEST % number for number in range(256)]
        servers = []
        for head in heads[:2]:
            transport.protocol.dataReceived(sealed(head))
            servers.append(network.newest)
            network.newest.dataReceived(answer)
        turns = len(servers)
        results = []
        ask, answers = transport.protocol.dataReceived, [server.dataReceived for server in servers]
        for _ in range(rounds):
            sent = [sealed(heads[number & 255]) for number in range(requests)]
            begun = process_time()
            for number in range(requests):
                ask(sent[number])
                answers[number % turns](answer)
            results.append((process_time() - begun) / requests * 1e6)
            clock.advance(1)
        expected = turns + requests * rounds
        if transport.writes != expected:
            raise SystemExit(f"{transport.writes} answers to {expected} requests")
    return results


def main() -> None:
    """Measure, and print the median with the least and the most."""
    parser = argparse.ArgumentParser(prog="python -m bench.path", description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tls", action="store_true", help="the client speaks TLS")
    parser.add_argument("--size", type=int, default=60, help="of an answer's body, in octets")
    options = parser.parse_args()
    results = measure(options.requests, options.rounds, options.tls, options.size)
    print(
        f"{statistics.median(results):.2f} µs a request ({min(results):.2f} - {max(results):.2f}), "
        f"{options.rounds} rounds of {options.requests:,}"
    )


if __name__ == "__main__":
    main()
