"""What clients say about themselves, and paths that seem to lead elsewhere: tables of both, to a backend that tells."""

# ruff: noqa: E501 (tables)

from __future__ import annotations

import re
import socket
import threading
from urllib.parse import unquote_to_bytes

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import Gate, free_port

#: By host: the middleware behind ``PathPrefix(`/pub`)``, and what begins every path that its server may be asked for.
REWRITES = {
    "plain": ("", b"/pub"),
    "strip": ("stripPrefix: {prefixes: [/pub]}", b"/"),
    "stripregex": ("stripPrefixRegex: {regex: ['/pub']}", b"/"),
    "replace": ("replacePath: {path: /fixed}", b"/fixed"),
    "regex": ("replacePathRegex: {regex: '^/pub(.*)', replacement: '/x$1'}", b"/x"),
    "add": ("addPrefix: {prefix: /pre}", b"/pre"),
}

#: None of them may lead to ``/admin`` by any server's reading.
BYPASSES = (
    b"/pub/../admin", b"/pub/%2e%2e/admin", b"/pub/%2E%2e/admin", b"/pub/.%2e/admin", b"/pub/..%2fadmin", b"/pub/%2e%2e%2fadmin",
    b"/pub/..%2Fadmin", b"/pub//../admin", b"/pub/.//../admin", b"/pub/x/../../admin", b"/pub;/../admin", b"/pub/..;/admin",
    b"/pub/..;a=b/admin", b"/pub/%2e%2e;/admin", b"/pub/.;/../admin", b"/pub/x/..;/..;/admin", b"/pub/%5c..%5cadmin", b"/pub/..%5cadmin",
    b"/pub/..\\admin", b"/pub\\..\\admin", b"/pub/..%00/admin", b"/pub/../admin%00", b"/pub../admin", b"/pub..;/admin", b"/pub%2f../admin",
    b"/pub%2e%2e/admin", b"/pub/../../admin", b"/../admin", b"/../../etc/passwd", b"/..;/admin", b"//admin", b"/./admin", b"/%61dmin", b"/%2fadmin",
    b"/admin%2f", b"/admin;x", b"/admin/", b"/admin//x", b"/admin/.", b"/admin/x/..", b"/pub/..#/admin", b"/pub/..?/../admin", b"/pub/%23/../../admin",
    b"/ADMIN", b"/pub/..%3b/admin", b"/pub/%2e%2e%3b/admin", b"/pub/./../admin", b"/pub/...//../../admin", b"/pub/..%0a/admin", b"/pub/../%61dmin",
    b"/pub/..//admin", b"http://%b/pub/../admin", b"http://%b/pub/..;/admin", b"http://%b/pub/..%2fadmin", b"/a%3fb", b"/pub%3f/../admin",
)  # fmt: skip

_MANAGED = (
    b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto", b"x-forwarded-server", b"x-forwarded-prefix", b"x-real-ip",
    b"forwarded", b"x-forwarded-method", b"x-forwarded-uri", b"x-forwarded-scheme", b"x-forwarded-tls-client-cert", b"x-scheme",
    b"x-forwarded-tls-client-cert-info",
)  # fmt: skip

#: Field lines of clients that claim to be another, or that take away what the gate says.
SPOOFS = (
    b"Connection: close, X-Forwarded-For, X-Forwarded-Host, X-Real-Ip",
    b"Connection: x-forwarded-for\r\nConnection: X-FORWARDED-PROTO, x-forwarded-server, x-forwarded-port",
    b"Connection: X-Forwarded-For\r\nX-Forwarded-For: 6.6.6.6",
    b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Prefix: /adm\r\nForwarded: for=6.6.6.6",
    b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7",
    b"x-forwarded-for: 6.6.6.6\r\nX-REAL-IP: 6.6.6.6\r\nx-Forwarded-proto: https",
    b"X_Forwarded_For: 6.6.6.6\r\nX_Real_Ip: 6.6.6.6",
    b"X-Forwarded_For: 6.6.6.6\r\nx_forwarded-host: evil\r\nX.Forwarded.For: 6.6.6.6\r\nX_Forwarded_Proto: https",
    b"X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Server: evil\r\nX-Forwarded-Proto: https",
    b"X-Forwarded-Method: DELETE\r\nX-Forwarded-Uri: /admin\r\nX-Forwarded-Scheme: https\r\nX-Scheme: https",
    b"X-Forwarded-Tls-Client-Cert: MII\r\nX-Forwarded-Tls-Client-Cert-Info: Subject=admin\r\nX_Forwarded_Tls_Client_Cert: MII",
    b"Forwarded: for=\"[2001:db8::1]\";proto=https;host=evil\r\nForwarded: by=evil\r\nX_FORWARDED_PREFIX: /adm",
)  # fmt: skip


class Backend:
    """A server that answers each request with its head."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = lines.readline()
                    if not line:
                        return
                    head += line
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))


def lenient(target: bytes) -> bytes:
    """The path that a careless server takes *target* for."""
    path = unquote_to_bytes(target.partition(b"?")[0]).replace(b"\\", b"/")
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        segment = segment.partition(b";")[0].partition(b"\x00")[0]
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    return b"/" + b"/".join(kept)


class SpoofingTests(SynchronousTestCase):
    """One gate and one backend for all."""

    gate: Gate
    trusted = 0

    def setUp(self) -> None:
        kind = type(self)
        if kind.trusted:
            return
        trusted = free_port()
        routers, middlewares = [], ["    nobody: {ipAllowList: {sourceRange: [192.0.2.1]}}"]
        for host, (middleware, _) in REWRITES.items():
            uses = f", middlewares: [{host}]" if middleware else ""
            routers.append(f"    {host}: {{rule: 'Host(`{host}`) && PathPrefix(`/pub`)', service: app{uses}}}")
            routers.append(
                f"    {host}-admin: {{rule: 'Host(`{host}`) && PathPrefix(`/admin`)', service: app, middlewares: [nobody]}}"
            )
            if middleware:
                middlewares.append(f"    {host}: {{{middleware}}}")
        server = f"    app: {{loadBalancer: {{servers: [{{url: 'http://127.0.0.1:{Backend().port}'}}]}}}}"
        text = "\n".join(["http:", "  routers:", *routers, "  middlewares:", *middlewares, "  services:", server, ""])
        kind.gate = Gate(
            text,
            f"--entrypoints.trusted.address=127.0.0.1:{trusted}",
            "--entrypoints.trusted.forwardedHeaders.trustedIPs=127.0.0.0/8",
        )
        kind.trusted = trusted

    def ask(self, octets: bytes, port: int = 0) -> tuple[int, bytes]:
        """The status, and the head that the backend saw, empty if it saw none."""
        with socket.create_connection(("127.0.0.1", port or self.gate.port), 10) as client:
            client.sendall(octets)
            client.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        status = int(answer[9:12])
        return status, answer.partition(b"\r\n\r\n")[2] if status == 200 else b""

    def test_paths(self) -> None:
        """No spelling of a path leads a server to what another router protects, whatever a middleware makes of it."""
        wrong = []
        for host, (_, begin) in REWRITES.items():
            for path in BYPASSES:
                target = path.replace(b"%b", host.encode()) if path.startswith(b"http:") else path
                status, head = self.ask(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host.encode()))
                seen = head.split(b" ")[1] if head else b""
                reading = lenient(seen)
                if status not in (200, 400, 403, 404) or (
                    seen
                    and (
                        re.match(rb"/admin(?![a-z])", reading)
                        or not reading.startswith(begin)
                        or not seen.startswith(begin)
                    )
                ):
                    wrong.append(f"{host} {target!r}: {status}, the server was asked for {seen!r}")
        self.assertEqual(wrong, [], "\n".join(wrong))

    def test_paths_that_are_meant(self) -> None:
        """What is no trick passes, and is protected where it should be."""
        for host, expected in (
            ("plain", b"/pub/x"), ("strip", b"/x"), ("stripregex", b"/x"), ("replace", b"/fixed"), ("regex", b"/x/x"), ("add", b"/pre/pub/x"),
        ):  # fmt: skip
            status, head = self.ask(b"GET /pub/x HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode())
            self.assertEqual((status, head.split(b" ")[1]), (200, expected))
            self.assertEqual(self.ask(b"GET /admin HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode()), (403, b""))

    def told(self, spoof: bytes, port: int) -> dict[bytes, list[bytes]]:
        """What the backend is told about the client, by the names as a careless server spells them."""
        status, head = self.ask(b"GET /pub HTTP/1.1\r\nHost: plain\r\n%b\r\n\r\n" % spoof, port)
        self.assertEqual(status, 200, spoof)
        told: dict[bytes, list[bytes]] = {}
        for line in head.split(b"\r\n")[1:-2]:
            name, _, value = line.partition(b": ")
            name = re.sub(rb"[^a-z0-9]", b"-", name.lower())
            if name in _MANAGED:
                told.setdefault(name, []).append(value)
        return told

    def test_strangers(self) -> None:
        """Whatever a client says of itself, or takes away, the server is told by the gate alone."""
        server_name = socket.gethostname().encode()
        for spoof in SPOOFS:
            self.assertEqual(
                self.told(spoof, self.gate.port),
                {
                    b"x-forwarded-for": [b"127.0.0.1"],
                    b"x-forwarded-host": [b"plain"],
                    b"x-forwarded-port": [b"80"],
                    b"x-forwarded-proto": [b"http"],
                    b"x-forwarded-server": [server_name],
                    b"x-real-ip": [b"127.0.0.1"],
                },
                spoof,
            )

    def test_trusted_peers(self) -> None:
        """What a trusted peer says is passed on and completed; it can't be taken away, nor said by other spellings."""
        for spoof in SPOOFS:
            told = self.told(spoof, self.trusted)
            said: dict[bytes, list[bytes]] = {}
            for line in spoof.split(b"\r\n"):
                name, _, value = line.partition(b": ")
                said.setdefault(name.lower(), []).append(value)
            chain = b", ".join([*said.get(b"x-forwarded-for", []), b"127.0.0.1"])
            self.assertEqual(told[b"x-forwarded-for"], [chain], spoof)
            self.assertEqual(told[b"x-forwarded-server"], [socket.gethostname().encode()], spoof)
            for name, otherwise in (
                (b"x-forwarded-host", b"plain"),
                (b"x-forwarded-proto", b"http"),
                (b"x-real-ip", b"127.0.0.1"),
            ):
                self.assertEqual(told[name], said.get(name, [otherwise]), (spoof, name))
            for name, values in told.items():
                if name not in (
                    b"x-forwarded-for",
                    b"x-forwarded-server",
                    b"x-forwarded-port",
                    b"x-forwarded-host",
                    b"x-forwarded-proto",
                    b"x-real-ip",
                ):
                    self.assertEqual(values, said.get(name), (spoof, name))
