"""The gate behind HAProxy, which says whose its connections are, and what others may say."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.e2e.gate import PATIENCE, Gate, free_port
from tests.e2e.programs import needed
from tests.e2e.test_tls import Backend, wait_until
from tests.pki import authority

#: Clients; whoever connects to the gate from 127.0.0.1 is a balancer.
CLIENT, OTHER = "127.0.0.9", "127.0.0.66"
ROUTES = """\
http:
  routers:
    app: {rule: Host(`a.example`), service: app}
    secure: {rule: Host(`a.example`), service: app, tls: {}}
    few: {rule: Host(`few.example`), service: app, middlewares: [few]}
    clients: {rule: "Host(`client.example`) && ClientIP(`%(client)s`)", service: app}
  middlewares:
    few: {ipAllowList: {sourceRange: [%(client)s]}}
  services:
    app: {loadBalancer: {servers: [{url: "http://127.0.0.1:%(port)d"}]}}
tls:
  certificates:
    - {certFile: "%(folder)s/a.crt", keyFile: "%(folder)s/a.key"}
"""
HAPROXY = """\
global
    maxconn 500
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen v1
    bind {host}:{v1}
    server gate 127.0.0.1:{gate} send-proxy check-send-proxy check inter 100ms
listen v2
    bind {host}:{v2}
    server gate 127.0.0.1:{gate} send-proxy-v2 proxy-v2-options crc32c check-send-proxy check inter 100ms
"""
#: What curl speaks, and how the gate hears of it.
SPOKEN = {
    "--http1.1": "1.1 http",
    "--http2-prior-knowledge": "2 http",
    "--http1.1 --insecure": "1.1 https",
    "--http2 --insecure": "2 https",
}


class ProxyProtocolTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="swarmgate-proxied-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        authority().issue("a.example").write(self.folder, "a")
        self.backend = Backend()
        self.addCleanup(self.backend.close)

    def gate(self, *options: str, uvloop: bool = True) -> Gate:
        text = ROUTES % {"client": CLIENT, "port": self.backend.port, "folder": self.folder}
        gate = Gate(
            text,
            "--entryPoints.web.proxyProtocol.trustedIPs=127.0.0.1",
            "--accessLog.format=json",
            *options,
            uvloop=uvloop,
        )
        self.addCleanup(gate.stop)
        return gate

    def haproxy(self, gate: Gate, host: str = "127.0.0.1") -> dict[str, int]:
        """HAProxy before *gate*: the ports where it passes connections on, with a header of either version."""
        program = needed("haproxy", "haproxy")
        ports = {"v1": free_port(), "v2": free_port()}
        file = self.folder / "haproxy.cfg"
        file.write_text(HAPROXY.format(gate=gate.port, host=host, **ports))
        with open(self.folder / "haproxy.log", "wb") as log:
            process = subprocess.Popen(
                [program, "-db", "-f", str(file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        deadline = time.monotonic() + PATIENCE
        for port in ports.values():
            while True:
                with contextlib.suppress(OSError), socket.create_connection((host.strip("[]"), port), 1):
                    break
                self.assertLess(time.monotonic(), deadline, (self.folder / "haproxy.log").read_text())
                time.sleep(0.02)  # Until it listens; it has no way to tell us.
        return ports

    def curl(self, port: int, *options: str, client: str = CLIENT, host: str = "a.example") -> str:
        """What curl prints of an answer: the head that the server was sent, HTTP's version and the status."""
        scheme = "https" if "--insecure" in options else "http"
        address = "[::1]" if ":" in client else "127.0.0.1"
        command = [needed("curl", "curl"), "-s", "-S", "--max-time", "10", "--interface", client, *options]
        command += ["-w", "\n%{http_version} %{scheme} %{http_code}", "--resolve", f"{host}:{port}:{address}"]
        done = subprocess.run(
            [*command, f"{scheme}://{host}:{port}/"], capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        return done.stdout.lower() + done.stderr

    def direct(self, gate: Gate, data: bytes, client: str) -> bytes:
        """What a *client* that sends *data* to the gate itself gets, up to an end."""
        with socket.create_connection(("127.0.0.1", gate.port), PATIENCE, (client, 0)) as connection:
            connection.sendall(data)
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := connection.recv(65536):
                    received += piece
        return received

    def check(self, gate: Gate) -> None:
        """Whatever is spoken behind a header, the client is that of the balancer."""
        ports = self.haproxy(gate)
        for version, port in ports.items():
            for options, spoken in SPOKEN.items():
                for client in (CLIENT, OTHER):
                    answer = self.curl(port, *options.split(), client=client)
                    self.assertIn(f"\nx-real-ip: {client}\n", answer, (version, options))
                    self.assertIn(f"\nx-forwarded-for: {client}\n", answer)
                    self.assertTrue(answer.endswith(f"\n{spoken} 200"), answer)
            statuses = [
                self.curl(port, client=client, host=host)[-3:]
                for host in ("few.example", "client.example")
                for client in (CLIENT, OTHER)
            ]
            self.assertEqual(statuses, ["200", "403", "200", "404"])
        count = 2 * 2 * len(SPOKEN)
        wait_until(lambda: len(self.logged(gate)) == count)
        told = self.logged(gate)
        self.assertEqual({line["ClientHost"] for line in told}, {CLIENT, OTHER})
        for line in told:
            self.assertEqual(line["ClientAddr"], f"{line['ClientHost']}:{line['ClientPort']}")
        self.assertGreater(len({line["ClientPort"] for line in told}), count // 2)

    def logged(self, gate: Gate) -> list[dict[str, str]]:
        """What the access log has of requests for a.example."""
        lines = [json.loads(line) for line in gate.access_log.read_text().splitlines()]
        return [line for line in lines if line["RequestHost"] == "a.example"]

    def test_haproxy(self) -> None:
        """Behind HAProxy, clients have their own addresses, in every protocol."""
        self.check(self.gate("--workers=1"))

    def test_haproxy_workers(self) -> None:
        """So they have with several worker processes."""
        self.check(self.gate("--workers=2"))

    def test_haproxy_without_uvloop(self) -> None:
        """So they have on Twisted's own sockets."""
        self.check(self.gate("--workers=1", uvloop=False))

    def test_ipv6(self) -> None:
        """Clients of IPv6 have theirs, though the balancer's connections are of IPv4."""
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError as error:
            raise SkipTest(f"this machine has no IPv6: {error}") from None
        for port in self.haproxy(self.gate(), "[::1]").values():
            self.assertIn("\nx-real-ip: ::1\n", self.curl(port, client="::1"))

    def test_balancer_without_a_header(self) -> None:
        """A balancer that says nothing is served by its own address, as the gate's own health check is."""
        gate = self.gate()
        answer = self.direct(gate, b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n", "127.0.0.1")
        self.assertIn(b"\r\nX-Real-Ip: 127.0.0.1", answer)

    def test_stranger(self) -> None:
        """What a stranger says of itself is not believed, and it is served."""
        gate = self.gate()
        request = b"GET / HTTP/1.1\r\nHost: few.example\r\nConnection: close\r\n\r\n"
        header = f"PROXY TCP4 {CLIENT} 127.0.0.1 1 2\r\n".encode()
        self.assertIn(b"HTTP/1.1 403 ", self.direct(gate, header + request, OTHER))
        self.assertIn(b"HTTP/1.1 200 ", self.direct(gate, header + request, "127.0.0.1"))

    def test_malformed(self) -> None:
        """A balancer that does not know the protocol is cut off, and the log says why."""
        gate = self.gate()
        self.assertEqual(self.direct(gate, b"PROXY TCP4 nonsense\r\nGET / HTTP/1.1\r\n\r\n", "127.0.0.1"), b"")
        complaint = r"entry point web: 127\.0\.0\.1 begins .* not two addresses and two ports, .*nonsense"
        wait_until(lambda: re.search(complaint, gate.said()) is not None)

    def test_slow(self) -> None:
        """Who has not said all in time is cut off."""
        gate = self.gate("--entryPoints.web.transport.respondingTimeouts.headTimeout=1s")
        for data in (b"", b"PROXY TCP4 127.0.0.9", b"PROXY TCP4 127.0.0.9 127.0.0.1 1 2\r\n"):
            begin = time.monotonic()
            self.assertEqual(self.direct(gate, data, "127.0.0.1"), b"")
            self.assertLess(time.monotonic() - begin, 5)

    def test_connections_per_address(self) -> None:
        """Connections count for the clients, in all workers together, and the balancer has any number."""
        gate = self.gate("--workers=2", "--entryPoints.web.inFlightConn.amount=4")
        port = self.haproxy(gate)["v2"]
        with contextlib.ExitStack() as open_ones:

            def ask(client: str) -> bool:
                """Whether one more connection of *client* is served."""
                connection = socket.create_connection(("127.0.0.1", port), PATIENCE, (client, 0))
                open_ones.enter_context(connection)
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
                with contextlib.suppress(ConnectionResetError):
                    return bool(re.match(rb"HTTP/1\.1 200 ", connection.recv(65536)))
                return False

            self.assertEqual([ask(CLIENT) for _ in range(6)], [True] * 4 + [False] * 2)
            self.assertEqual([ask(f"127.0.0.{number}") for number in range(20, 40)], [True] * 20)
