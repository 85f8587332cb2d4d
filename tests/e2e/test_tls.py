"""What TLS clients get from a running gate, and servers that speak TLS."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import attrs
from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.tls import DEFAULT_NAME
from tests.e2e.gate import PATIENCE, Gate, free_port
from tests.e2e.programs import needed
from tests.pki import Authority, Pair, authority

#: As many as ``SWARMGATE_TEST_ROTATIONS`` says, for a longer look.
ROTATIONS = int(os.environ.get("SWARMGATE_TEST_ROTATIONS", "8"))

ROUTES = """\
http:
  routers:
    a: {rule: "Host(`a.example`) || Host(`b.w.example`)", service: app, tls: {}}
    plain: {rule: Host(`plain.example`), service: app}
    both-plain: {rule: Host(`both.example`), service: app, middlewares: [hsts]}
    both-secure: {rule: Host(`both.example`), service: secure, tls: {}, middlewares: [hsts]}
    mtls: {rule: Host(`m.w.example`), service: app, tls: {options: mtls}}
    given: {rule: Host(`given.w.example`), service: app, tls: {options: given}}
    asked: {rule: Host(`asked.w.example`), service: app, tls: {options: asked}}
    any: {rule: Host(`any.w.example`), service: app, tls: {options: any}}
    new: {rule: Host(`new.w.example`), service: app, tls: {options: new}}
    old: {rule: Host(`old.w.example`), service: app, tls: {options: old}}
    strict: {rule: Host(`strict.other`), service: app, tls: {options: strict}}
    lost: {rule: Host(`lost.w.example`), service: app, tls: {options: nowhere}}
    https: {rule: Host(`https.example`), service: verified}
    https-unverified: {rule: Host(`https-unverified.example`), service: unverified}
    https-unknown: {rule: Host(`https-unknown.example`), service: unknown}
    https-well: {rule: Host(`https-well.example`), service: well}
    https-sick: {rule: Host(`https-sick.example`), service: sick}
    https-client: {rule: Host(`https-client.example`), service: shows}
  middlewares:
    hsts: {headers: {stsSeconds: 300}}
  services:
    app: {loadBalancer: {servers: [{url: "http://127.0.0.1:%(plain)d"}]}}
    secure: {loadBalancer: {servers: [{url: "http://127.0.0.1:%(plain)d"}]}}
    verified: {loadBalancer: {serversTransport: good, servers: [{url: "https://127.0.0.1:%(https)d"}]}}
    unverified: {loadBalancer: {serversTransport: blind, servers: [{url: "https://127.0.0.1:%(https)d"}]}}
    unknown: {loadBalancer: {servers: [{url: "https://127.0.0.1:%(https)d"}]}}
    shows: {loadBalancer: {serversTransport: shows, servers: [{url: "https://127.0.0.1:%(mtls)d"}]}}
    well:
      loadBalancer:
        {serversTransport: shows, servers: [{url: "https://127.0.0.1:%(mtls)d"}], healthCheck: {path: /, interval: 1s}}
    sick:
      loadBalancer:
        {servers: [{url: "https://localhost:%(https)d"}], waitForServer: 0s, healthCheck: {path: /, interval: 1s}}
  serversTransports:
    good: {serverName: backend.example, rootCAs: ["%(root)s"]}
    blind: {insecureSkipVerify: true}
    shows:
      serverName: backend.example
      rootCAs: ["%(root)s"]
      certificates: [{certFile: "%(client)s.crt", keyFile: "%(client)s.key"}]
tls:
  certificates:
    - {certFile: "%(folder)s/a.crt", keyFile: "%(folder)s/a.key"}
    - {certFile: "%(folder)s/w.crt", keyFile: "%(folder)s/w.key"}
  options:
    mtls: {clientAuth: {caFiles: ["%(root)s"], clientAuthType: RequireAndVerifyClientCert}}
    given: {clientAuth: {caFiles: ["%(root)s"], clientAuthType: VerifyClientCertIfGiven}}
    asked: {clientAuth: {clientAuthType: RequestClientCert}}
    any: {clientAuth: {clientAuthType: RequireAnyClientCert}}
    new: {minVersion: VersionTLS13}
    old: {maxVersion: VersionTLS12, cipherSuites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]}
    strict: {sniStrict: true}
"""


@attrs.frozen
class Answered:
    """What a client saw."""

    status: int
    head: str
    body: str
    certificate: x509.Certificate | None
    version: str
    reused: bool
    cipher: str


class Backend:
    """A server that tells what it was asked, perhaps over TLS."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            wrapped = client if self._context is None else self._context.wrap_socket(client, server_side=True)
            buffer = b""
            while data := wrapped.recv(65536):
                buffer += data
                while b"\r\n\r\n" in buffer:
                    head, _, buffer = buffer.partition(b"\r\n\r\n")
                    body = b"x" * 3_000_000 if b"GET /large " in head else head
                    wrapped.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def close(self) -> None:
        self._socket.close()


def server_context(pair: Pair, folder: Path, root: Authority | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair.write(folder, "backend"))
    if root is not None:
        context.load_verify_locations(cadata=root.pem)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def ask(
    port: int,
    name: str | None,
    host: str | None = None,
    shown: tuple[str, str] | None = None,
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    session: ssl.SSLSession | None = None,
    context: ssl.SSLContext | None = None,
    path: str = "/",
    kept: list[ssl.SSLSession] | None = None,
) -> Answered:
    """What the gate answers to a client that asks for *name*; raises :exc:`ssl.SSLError` if there is no handshake."""
    context = context or client_context(shown, newest)
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as raw,
        context.wrap_socket(raw, server_hostname=name, session=session) as client,
    ):
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host or name}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := client.recv(65536):
            answer += data
        der = client.getpeercert(True)
        if kept is not None and client.session is not None:
            kept.append(client.session)
        head, _, body = answer.partition(b"\r\n\r\n")
        cipher = client.cipher()
        return Answered(
            int(head.split()[1]) if head else 0,
            head.decode("latin-1"),
            body.decode("latin-1"),
            x509.load_der_x509_certificate(der) if der else None,
            client.version() or "",
            bool(client.session_reused),
            cipher[0] if cipher else "",
        )


def client_context(
    shown: tuple[str, str] | None = None, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = newest
    context.set_alpn_protocols(["http/1.1"])
    if shown is not None:
        context.load_cert_chain(*shown)
    return context


def common_name(certificate: x509.Certificate | None) -> str:
    assert certificate is not None
    return str(certificate.subject.rfc4514_string()).removeprefix("CN=")


class World:
    """A gate with its servers and a folder of certificates, until the process ends."""

    def __init__(self, uvloop: bool) -> None:
        self.folder = folder = Path(tempfile.mkdtemp(prefix="swarmgate-tls-"))
        atexit.register(shutil.rmtree, folder, True)
        root, other = authority(), authority("another root")
        root.issue("a.example").write(folder, "a")
        root.issue("*.w.example").write(folder, "w")
        self.client = root.issue("client").write(folder, "client")
        self.stranger = other.issue("stranger").write(folder, "stranger")
        (folder / "root.pem").write_text(root.pem)
        backend = root.issue("backend.example")
        backends = {
            "plain": Backend(),
            "https": Backend(server_context(backend, folder)),
            "mtls": Backend(server_context(backend, folder, root)),
        }
        secret = folder / "secret"
        secret.write_bytes(os.urandom(48))
        self.option = f"--sessionTickets.keyFile={secret}"
        ports = {name: each.port for name, each in backends.items()}
        self.text = ROUTES % {**ports, "root": folder / "root.pem", "client": folder / "client", "folder": folder}
        self.uvloop = uvloop
        self.gate = self.start()

    def start(self) -> Gate:
        """Another gate that does the same, once it has its routes."""
        gate = Gate(self.text, self.option, "--accessLog.format=json", uvloop=self.uvloop)
        wait_until(lambda: ask(gate.port, "a.example").status == 200)
        return gate


class Fixture(SynchronousTestCase):
    """A world that all tests of a class share."""

    uvloop = True

    def setUp(self) -> None:
        """Make it for the first test."""
        kind = type(self)
        if "world" not in kind.__dict__:
            kind.world = World(kind.uvloop)  # type: ignore[attr-defined]
        world: World = kind.world  # type: ignore[attr-defined]
        self.world, self.gate, self.folder = world, world.gate, world.folder
        self.client, self.stranger = world.client, world.stranger


def wait_until(fulfilled: object, patience: float = PATIENCE) -> None:
    """Ask again and again, as there is nothing that would tell."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if fulfilled():  # type: ignore[operator]
                return
        time.sleep(0.05)
    raise AssertionError("it did not come about in time")


def plainly(port: int, host: str, path: str = "/") -> Answered:
    """What the gate answers to a client without TLS."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := client.recv(65536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    return Answered(int(head.split()[1]), head.decode("latin-1"), body.decode("latin-1"), None, "", False, "")


class ClientTests(Fixture):
    def test_certificates(self) -> None:
        """A host gets its own certificate, one for any label in its place, or the gate's own."""
        for name, expected in (
            ("a.example", "a.example"),
            ("A.Example", "a.example"),
            ("b.w.example", "*.w.example"),
            ("b.b.w.example", DEFAULT_NAME),
            ("w.example", DEFAULT_NAME),
            (None, DEFAULT_NAME),
        ):
            self.assertEqual(common_name(ask(self.gate.port, name, "a.example").certificate), expected, name)

    def test_routing(self) -> None:
        """A router with TLS takes what came over TLS alone, and one without the rest, on one port."""
        port = self.gate.port
        self.assertEqual((ask(port, "a.example").status, plainly(port, "a.example").status), (200, 404))
        self.assertEqual((ask(port, "plain.example").status, plainly(port, "plain.example").status), (404, 200))
        self.assertEqual((ask(port, "both.example").status, plainly(port, "both.example").status), (200, 200))

    def test_what_servers_are_told(self) -> None:
        """A server knows that its client came over TLS."""
        told = ask(self.gate.port, "a.example").body
        self.assertIn("X-Forwarded-Proto: https\r\n", told)
        self.assertIn("X-Forwarded-Port: 443\r\n", told)
        self.assertIn("X-Forwarded-Proto: http\r\n", plainly(self.gate.port, "plain.example").body)

    def test_access_log(self) -> None:
        """The access log says how a request came."""
        old = ssl.TLSVersion.TLSv1_2
        self.assertEqual(ask(self.gate.port, "a.example", newest=old, path="/logged").status, 200)
        wait_until(lambda: '"/logged"' in self.gate.access_log.read_text())
        line = next(line for line in self.gate.access_log.read_text().splitlines() if '"/logged"' in line)
        told = json.loads(line)
        self.assertEqual((told["TLSVersion"], told["RequestScheme"]), ("1.2", "https"))
        self.assertEqual(told["TLSCipher"], "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")
        self.assertNotIn("TLSClientSubject", told)
        self.assertEqual(ask(self.gate.port, "m.w.example", shown=self.client, path="/shown").status, 200)
        wait_until(lambda: '"/shown"' in self.gate.access_log.read_text())
        line = next(line for line in self.gate.access_log.read_text().splitlines() if '"/shown"' in line)
        certificate = x509.load_pem_x509_certificate(Path(self.client[0]).read_bytes())
        self.assertEqual(json.loads(line)["TLSClientSubject"], certificate.subject.rfc4514_string())

    def test_hsts(self) -> None:
        """Strict-Transport-Security is told over TLS, and not without."""
        self.assertIn("Strict-Transport-Security: max-age=300", ask(self.gate.port, "both.example").head)
        self.assertNotIn("Strict-Transport-Security", plainly(self.gate.port, "both.example").head)

    def test_large_answers(self) -> None:
        """Three million octets arrive whole."""
        self.assertEqual(ask(self.gate.port, "a.example", path="/large").body, "x" * 3_000_000)

    def test_misdirected(self) -> None:
        """A host that wants a certificate of its clients is not reached on another's connection."""
        port = self.gate.port
        answered = ask(port, "a.example", "m.w.example")
        self.assertEqual((answered.status, answered.body), (421, "Misdirected Request\n"))
        self.assertEqual(ask(port, None, "m.w.example").status, 421)
        self.assertEqual(ask(port, "a.example", "b.w.example").status, 200)

    def test_verified_certificates(self) -> None:
        """Who has to show a certificate gets in with a good one alone."""
        port = self.gate.port
        for newest in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            self.assertEqual(ask(port, "m.w.example", shown=self.client, newest=newest).status, 200)
            self.assertEqual(ask(port, "given.w.example", newest=newest).status, 200)
            self.assertEqual(ask(port, "given.w.example", shown=self.client, newest=newest).status, 200)
            for name, shown in (
                ("m.w.example", None),
                ("m.w.example", self.stranger),
                ("given.w.example", self.stranger),
            ):
                self.assertRaises(OSError, ask, port, name, shown=shown, newest=newest)

    def test_unverified_certificates(self) -> None:
        """Where any certificate will do, any does; where none is needed, none is."""
        port = self.gate.port
        for shown in (None, self.client, self.stranger):
            self.assertEqual(ask(port, "asked.w.example", shown=shown).status, 200)
        self.assertEqual(ask(port, "any.w.example", shown=self.stranger).status, 200)
        self.assertRaises(OSError, ask, port, "any.w.example")

    def test_versions_and_ciphers(self) -> None:
        """Versions and ciphers are those of the host's options."""
        port = self.gate.port
        self.assertEqual(ask(port, "a.example").version, "TLSv1.3")
        self.assertEqual(ask(port, "a.example", newest=ssl.TLSVersion.TLSv1_2).version, "TLSv1.2")
        self.assertRaises(ssl.SSLError, ask, port, "new.w.example", newest=ssl.TLSVersion.TLSv1_2)
        old = ask(port, "old.w.example")
        self.assertEqual((old.version, old.cipher), ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"))

    def test_strict(self) -> None:
        """Where a certificate is required, a host that has none is refused."""
        error = self.assertRaises(ssl.SSLError, ask, self.gate.port, "strict.other")
        self.assertIn("UNRECOGNIZED_NAME", str(error).upper().replace(" ", "_"))

    def test_options_that_are_not_there(self) -> None:
        """A router whose options are missing is not served without them."""
        self.assertEqual(ask(self.gate.port, "lost.w.example").status, 404)

    def test_resumption(self) -> None:
        """A session goes on, with another process of the same secret, too, but never under other options."""
        other = self.world.start()
        self.addCleanup(other.stop)
        for newest in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            context = client_context(newest=newest)
            kept: list[ssl.SSLSession] = []
            self.assertFalse(ask(self.gate.port, "a.example", context=context, kept=kept).reused)
            again = ask(self.gate.port, "a.example", context=context, session=kept[-1], kept=kept)
            self.assertEqual((again.reused, again.status), (True, 200))
            # Without this, whoever has been to one host would get to others without the certificate they want.
            self.assertRaises(OSError, ask, self.gate.port, "m.w.example", context=context, session=kept[-1])
            self.assertRaises(OSError, ask, self.gate.port, "any.w.example", context=context, session=kept[-1])
            self.assertTrue(ask(other.port, "a.example", context=context, session=kept[-1]).reused)

    def test_garbage(self) -> None:
        """What begins like TLS and is none costs its own connection."""
        for garbage in (b"\x16", b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01\xff\xff" + b"x" * 70000):
            client = socket.create_connection(("127.0.0.1", self.gate.port), PATIENCE)
            with client, contextlib.suppress(OSError):
                client.sendall(garbage)
                client.shutdown(socket.SHUT_WR)
                while client.recv(4096):
                    pass
        self.assertEqual(ask(self.gate.port, "a.example").status, 200)
        self.assertNotIn("Traceback", self.gate.said())

    def test_slow_hello(self) -> None:
        """A hello that comes octet by octet is waited for."""
        context = client_context()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="a.example")
        with socket.create_connection(("127.0.0.1", self.gate.port), PATIENCE) as wire:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    for octet in outgoing.read():
                        wire.sendall(bytes((octet,)))
                    incoming.write(wire.recv(65536))
            self.assertEqual(client.selected_alpn_protocol(), "http/1.1")

    def test_http2(self) -> None:
        """A client that offers HTTP/2 speaks it: a large answer arrives whole, and the server learns of the TLS."""
        curl = needed("curl", "curl")
        port = self.gate.port
        command = [curl, "-sk", "--http2", "--connect-to", f"a.example:443:127.0.0.1:{port}", "-w", "%{http_version}"]

        def get(path: str) -> str:
            done = subprocess.run(
                [*command, f"https://a.example{path}"], capture_output=True, timeout=PATIENCE, check=False
            )
            return done.stdout.decode("latin-1")

        told = get("/")
        self.assertIn("X-Forwarded-Proto: https\r\n", told)
        self.assertTrue(told.endswith("2"), told[-100:])
        self.assertTrue(get("/large") == "x" * 3_000_000 + "2")

    def test_curl(self) -> None:
        """curl verifies the certificate and gets the answer."""
        curl = needed("curl", "curl")
        port = self.gate.port
        done = subprocess.run(
            [
                *(curl, "-sS", "--max-time", "10", "--resolve", f"a.example:{port}:127.0.0.1"),
                *("--cacert", str(self.folder / "root.pem"), f"https://a.example:{port}/"),
            ],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertIn(b"Host: a.example", done.stdout)


class ServerTests(Fixture):
    def test_verification(self) -> None:
        """A server's certificate is verified by name and authority, unless that is switched off."""
        port = self.gate.port
        self.assertEqual(plainly(port, "https.example").status, 200)
        self.assertEqual(plainly(port, "https-unverified.example").status, 200)
        self.assertEqual(plainly(port, "https-unknown.example").status, 502)
        wait_until(lambda: "its certificate is not accepted" in self.gate.said())

    def test_certificate_for_servers(self) -> None:
        """A server that wants a certificate of the gate gets it."""
        self.assertEqual(plainly(self.gate.port, "https-client.example").status, 200)

    def test_large_answers(self) -> None:
        """Three million octets of a server that speaks TLS arrive whole."""
        self.assertEqual(plainly(self.gate.port, "https.example", "/large").body, "x" * 3_000_000)

    def test_health(self) -> None:
        """A server that speaks TLS is asked whether it is well under its service's transport."""
        port = self.gate.port
        wait_until(lambda: plainly(port, "https-well.example").status == 200)
        wait_until(lambda: plainly(port, "https-sick.example").status == 503)


class ReloadTests(Fixture):
    def test_rotations(self) -> None:
        """Certificates that are replaced cost no handshake, and no connection that is open."""
        port, failed, done, serials = self.gate.port, [], [], set()
        running, began = True, time.monotonic()

        def visit() -> None:
            while running:
                begun = time.monotonic()
                try:
                    answered = ask(port, "a.example")
                    done.append(answered.status)
                    if answered.status != 200 or answered.certificate is None:
                        raise OSError(f"status {answered.status}")
                    serials.add(answered.certificate.serial_number)
                except OSError as error:
                    failed.append(error)
                time.sleep(max(0.0, 0.05 - time.monotonic() + begun))

        open_before = client_context().wrap_socket(
            socket.create_connection(("127.0.0.1", port), PATIENCE), server_hostname="a.example"
        )
        open_before.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        self.assertIn(b" 200 ", open_before.recv(65536))
        visitors = [threading.Thread(target=visit) for _ in range(3)]
        for visitor in visitors:
            visitor.start()
        try:
            for _ in range(ROTATIONS):
                pair = authority().issue("a.example")
                pair.write(self.folder, "a")
                wanted = x509.load_pem_x509_certificate(pair.chain.encode()).serial_number
                wait_until(lambda wanted=wanted: wanted in serials, 5)
        finally:
            running = False
            for visitor in visitors:
                visitor.join()
        if ROTATIONS > 8:
            seconds = time.monotonic() - began
            print(
                f"\n{ROTATIONS} rotations, {len(done)} handshakes, {len(done) / seconds:.0f} a second, "
                f"{len(failed)} failed"
            )
        self.assertEqual(failed, [])
        open_before.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        self.assertIn(b" 200 ", open_before.recv(65536))
        open_before.close()

    def test_broken_certificate(self) -> None:
        """A key that does not fit is told, and what was there before is served."""
        before = (self.folder / "w.key").read_text()
        (self.folder / "w.key").write_text(authority().issue("x").key)
        wait_until(lambda: "the key does not fit the certificate" in self.gate.said())
        self.assertEqual(common_name(ask(self.gate.port, "b.w.example").certificate), "*.w.example")
        (self.folder / "w.key").write_text(before)


class RedirectTests(SynchronousTestCase):
    def test_to_another_entry_point(self) -> None:
        """All requests of an entry point are sent to the other; that one has TLS for routers that say nothing."""
        backend, secure = Backend(), free_port()
        text = (
            "http:\n  routers:\n    a: {rule: Host(`a.example`), service: app, entryPoints: [websecure]}\n"
            f"  services:\n    app: {{loadBalancer: {{servers: [{{url: 'http://127.0.0.1:{backend.port}'}}]}}}}\n"
        )
        gate = Gate(
            text,
            f"--entrypoints.websecure.address=127.0.0.1:{secure}",
            "--entrypoints.websecure.http.tls",
            "--entrypoints.web.http.redirections.entrypoint.to=websecure",
        )
        try:
            wait_until(lambda: ask(secure, "a.example").status == 200)
            answered = plainly(gate.port, "a.example", "/x?y=1")
            self.assertEqual(answered.status, 301)
            self.assertIn(f"Location: https://a.example:{secure}/x?y=1", answered.head)
        finally:
            gate.stop()
            backend.close()


class WithoutUvloopTests(Fixture):
    """The same on Twisted's own transports."""

    uvloop = False

    def test_clients_and_servers(self) -> None:
        """TLS with clients and servers works, and plain HTTP on the same port."""
        port = self.gate.port
        self.assertEqual(ask(port, "a.example", path="/large").body, "x" * 3_000_000)
        self.assertEqual(ask(port, "m.w.example", shown=self.client).status, 200)
        self.assertEqual(plainly(port, "https.example", "/large").body, "x" * 3_000_000)
        self.assertEqual(plainly(port, "plain.example").status, 200)
        self.assertEqual(plainly(port, "https-unknown.example").status, 502)
