"""Certificates from a real authority, Pebble, on loopback; it refuses half of all nonces, as it may."""

from __future__ import annotations

import http.server
import itertools
import shutil
import socketserver
import ssl
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import blockingCallFromThread
from twisted.trial.unittest import SkipTest, TestCase

from swarmgate.acme import decide, service
from swarmgate.acme.answers import PATH
from swarmgate.acme.authority import AcmeAuthority
from swarmgate.acme.certificate import Certificate
from swarmgate.acme.challenge import Challenge
from swarmgate.acme.file_store import FileStore
from swarmgate.acme.memory import MemoryConfigs, MemoryLog
from swarmgate.acme.resolvers import Threads
from swarmgate.acme.sealing import Keys
from swarmgate.acme.service import CertificateService
from swarmgate.acme.swarm_store import SwarmStore
from swarmgate.acme.wanted import Domain, Wish
from swarmgate.config.acme import ACME
from swarmgate.structure import structure
from tests.e2e.pebble import Pebble
from tests.test_acme_stores import KEY

PATIENCE = 60.0


class Replica:
    """One gate's certificates, with the authority's real protocol; its answers to challenges are served by the test."""

    def __init__(self, name: str, store: Any, options: ACME, environ: dict[str, str]) -> None:
        self.certificates: tuple[Certificate, ...] = ()
        self.challenges: tuple[Challenge, ...] = ()
        threads = Threads(reactor, name)
        authority = AcmeAuthority("le", options, threads, environ)
        self.service = CertificateService(
            reactor, store, {"le": options}, {"le": authority}, self.publish, threads, name
        )

    def vanish(self) -> None:
        """End as by SIGKILL: nothing is given back, nothing is written any more."""
        self.service._unsubscribe()
        self.service.running = 0
        self.service._store.put = lambda *given: Deferred()
        self.service._store.swap_lease = lambda *given: Deferred()
        if self.service._timer is not None and self.service._timer.active():
            self.service._timer.cancel()
        if self.service._busy is not None:
            self.service._busy.cancel()

    def publish(self, certificates: tuple[Certificate, ...], challenges: tuple[Challenge, ...]) -> None:
        self.certificates, self.challenges = certificates, challenges


class Answers(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves HTTP-01 challenges by the replicas in turn."""

    daemon_threads = True

    def __init__(self, port: int, test: AuthorityCase) -> None:
        turns = itertools.count()

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                replica = test.replicas[next(turns) % len(test.replicas)]
                host = (self.headers["Host"] or "").partition(":")[0]
                thumbprint = blockingCallFromThread(reactor, lambda: replica.service.thumbprint(host, "web"))
                body = f"{self.path.removeprefix(PATH)}.{thumbprint}".encode()
                self.send_response(200 if thumbprint else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *given: Any) -> None:
                """Nothing is logged."""

        super().__init__(("127.0.0.1", port), Answer)


class Handshakes(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Shows the certificates of TLS-ALPN-01 challenges, by the replicas in turn."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, test: AuthorityCase) -> None:
        turns = itertools.count()

        def context_of(challenge: Challenge) -> ssl.SSLContext:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_alpn_protocols(["acme-tls/1"])
            with tempfile.NamedTemporaryFile() as pair:
                pair.write(challenge.cert_pem + challenge.key_pem)
                pair.flush()
                context.load_cert_chain(pair.name)
            return context

        def chosen(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
            replica = test.replicas[next(turns) % len(test.replicas)]
            for challenge in replica.challenges:
                if challenge.domain == name:
                    connection.context = context_of(challenge)
                    return None
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

        first = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        first.set_alpn_protocols(["acme-tls/1"])
        first.sni_callback = chosen

        class Shake(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    with first.wrap_socket(self.request, server_side=True) as connection:
                        connection.recv(1)
                except OSError:
                    return

        super().__init__(("127.0.0.1", port), Shake)


class AuthorityCase(TestCase):
    """A test with Pebble and replicas, which share a Swarm in memory unless :meth:`store` says otherwise."""

    timeout = 180

    def setUp(self) -> None:
        if not Pebble.is_installed():
            raise SkipTest("Debian's package pebble is not installed")
        self.folder = Path(tempfile.mkdtemp(prefix="swarmgate-acme-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.replicas: list[Replica] = []
        self.log = MemoryLog(WallClock())

    def authority(self, **more: Any) -> Pebble:
        """Start an authority that ends with the test."""
        pebble = Pebble(self.folder, **more)
        pebble.__enter__()
        self.addCleanup(pebble.__exit__, None, None, None)
        for server in (Answers(pebble.http_port, self), Handshakes(pebble.tls_port, self)):
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            self.addCleanup(server.server_close)
            self.addCleanup(server.shutdown)
        return pebble

    def store(self, number: int) -> Any:
        """Return the store of a replica."""
        return SwarmStore(reactor, MemoryConfigs(self.log), Keys.from_text(KEY, "test"))

    def start(self, pebble: Pebble, count: int, given: dict[str, Any], file: bool = False) -> None:
        """Start replicas that all know the authority, by a challenge."""
        tree = {"caServer": pebble.directory, "email": "a@gate.example", "caCertificates": str(pebble.ca)} | given
        options = structure(ACME, tree)
        for number in range(count):
            store = FileStore(str(self.folder / "acme.json"), Threads(reactor, "file")) if file else self.store(number)
            replica = Replica(f"replica{number}", store, options, {"EXEC_PATH": str(pebble.program())})
            self.replicas.append(replica)
            replica.service.startService()
        self.addCleanup(self.stop)

    def stop(self) -> Deferred[Any]:
        """Stop the replicas."""
        stopped = DeferredList([replica.service.stopService() for replica in self.replicas if replica.service.running])
        return stopped

    def want(self, *domains: tuple[str, ...]) -> None:
        """Let all replicas have a router for each."""
        wishes = [Wish(f"r{number}", "le", (), (Domain(one[0], one[1:]),)) for number, one in enumerate(domains)]
        for replica in self.replicas:
            replica.service.want(wishes)

    async def until(self, true: Any, patience: float = PATIENCE) -> None:
        """Wait until it is so."""
        for _ in range(int(patience * 20)):
            if true():
                return
            await deferLater(reactor, 0.05, lambda: None)
        raise AssertionError(f"never came to be: {[replica.service for replica in self.replicas]}")

    def served(self, *domains: tuple[str, ...]) -> bool:
        """Do all replicas serve certificates for these?"""
        return all(sorted(one.domains for one in replica.certificates) == sorted(domains) for replica in self.replicas)

    async def kill_leader(self) -> None:
        """Let the replica that orders vanish in the middle of it, and see what comes of it."""
        pebble = self.authority()
        # The authority is told to look after 5 s, so that there is a middle.
        self.start(pebble, 3, {"httpChallenge": {"entryPoint": "web", "delay": "5s"}})
        self.want(("a.gate.example",))
        await self.until(lambda: any(replica.service._busy for replica in self.replicas))
        (leader,) = [replica for replica in self.replicas if replica.service._busy]
        await self.until(lambda: "There are now 1 orders" in pebble.log())
        leader.vanish()
        gone = time.monotonic()
        self.replicas.remove(leader)
        await self.until(lambda: self.served(("a.gate.example",)), 90)
        print(f"\nserved {time.monotonic() - gone:.1f} s after its leader was gone")
        self.assertLess(time.monotonic() - gone, 90)
        self.assertEqual(1, pebble.log().count("Issued certificate serial"))


class CertificateTests(AuthorityCase):
    """Replicas and the three kinds of challenges."""

    async def test_http(self) -> None:
        """HTTP-01, answered by any of three replicas: one order for each certificate, which all serve."""
        pebble = self.authority()
        self.start(pebble, 3, {"httpChallenge": {"entryPoint": "web"}})
        wanted = [("a.gate.example",), ("b.gate.example", "www.b.gate.example")]
        self.want(*wanted)
        await self.until(lambda: self.served(*wanted))
        self.assertEqual(2, pebble.log().count("Issued certificate serial"))
        self.assertEqual(1, pebble.log().count("There are now 1 accounts"))
        self.assertNotIn("There are now 2 accounts", pebble.log())

    async def test_tls_alpn(self) -> None:
        """TLS-ALPN-01: the certificates that answer are with all replicas before the authority looks."""
        pebble = self.authority()
        self.start(pebble, 2, {"tlsChallenge": "true"})
        wanted = [("a.gate.example", "b.gate.example")]
        self.want(*wanted)
        await self.until(lambda: self.served(*wanted))
        self.assertEqual(1, pebble.log().count("Issued certificate serial"))
        await self.until(lambda: not any(replica.challenges for replica in self.replicas))

    async def test_dns(self) -> None:
        """DNS-01 by a program, with a wildcard and its own domain in one certificate; the records are removed."""
        pebble = self.authority()
        self.start(pebble, 2, {"dnsChallenge": {"provider": "exec", "resolvers": pebble.dns}})
        wanted = [("*.gate.example", "gate.example"), ("single.other.example",)]
        self.want(*wanted)
        await self.until(lambda: self.served(*wanted))
        done = (self.folder / "records.log").read_text().splitlines()
        self.assertEqual(3, sum(line.startswith("present") for line in done), done)
        self.assertEqual(3, sum(line.startswith("cleanup") for line in done), done)

    async def test_file(self) -> None:
        """One gate with a file: what it has obtained is there after a restart, without another order."""
        pebble = self.authority()
        given = {"httpChallenge": {"entryPoint": "web"}, "keyType": "RSA2048", "preferredChain": "nobody"}
        self.start(pebble, 1, given, file=True)
        self.want(("a.gate.example",))
        await self.until(lambda: self.served(("a.gate.example",)))
        before = self.replicas.pop()
        await before.service.stopService()
        self.start(pebble, 1, given, file=True)
        self.want(("a.gate.example",))
        await self.until(lambda: self.served(("a.gate.example",)))
        self.assertEqual(before.certificates, self.replicas[0].certificates)
        self.assertEqual(1, pebble.log().count("Issued certificate serial"))

    async def test_external_account(self) -> None:
        """An account that is bound to one that the authority knows."""
        key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
        pebble = self.authority(eab={"kid-1": key})
        given = {"httpChallenge": {"entryPoint": "web"}, "eab": {"kid": "kid-1", "hmacEncoded": key}}
        self.start(pebble, 1, given)
        self.want(("a.gate.example",))
        await self.until(lambda: self.served(("a.gate.example",)))

    async def test_killed(self) -> None:
        """The replica that orders vanishes in the middle of it: another obtains the certificate."""
        self.patch(decide, "LEASE", 8.0)
        await self.kill_leader()

    async def test_away(self) -> None:
        """An authority that is away costs a line and a pause; when it is back the certificate is obtained."""
        self.patch(service, "_AUTHORITY_PAUSE", 3.0)
        pebble = self.authority()
        pebble.stop()
        self.start(pebble, 2, {"httpChallenge": {"entryPoint": "web"}})
        self.want(("a.gate.example",))
        await self.until(
            lambda: (
                "failures" in str(self.log.configs)
                and any("ca " in config.labels.get("swarmgate.failures", "") for config in self.log.configs.values())
            )
        )
        self.assertTrue(self.served())
        pebble.start()
        await self.until(lambda: self.served(("a.gate.example",)))


class WallClock(Clock):
    """The machine's clock, for configs in memory."""

    def seconds(self) -> float:
        import time

        return time.time()
