"""Tests for swarmgate.acme.authority, dns and certificate: what is made of an authority's refusals, and DNS records."""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path
from typing import Any

import dns.name
import dns.resolver
import requests
from acme import errors, messages
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from twisted.internet.defer import maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.acme.authority import AcmeAuthority, AuthorityError, _seconds
from swarmgate.acme.certificate import (
    KEY_TYPES,
    certificate_from,
    key_pem,
    make_key,
    names_in,
    signing_request,
    tls_alpn_challenge,
)
from swarmgate.acme.dns import DNSError, ProgramRecords, record_name, records_of
from tests.test_acme_command import signed
from tests.test_acme_service import options


class Serving:
    """A web server on loopback, in a thread, for calls that block.

    :ivar asked: method, path and body of each request.
    """

    def __init__(self, answer: Any) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        asked = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked.append((self.command, self.path, body))
                status, fields, content = answer(self.command, self.path, body)
                self.send_response(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_HEAD = do_PATCH = do_PUT = do_DELETE = do

            def log_message(self, *given: Any) -> None:
                """Nothing is logged."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


class RefusalTests(SynchronousTestCase):
    """What an authority's answer means for the next attempt."""

    def explained(self, error: Exception) -> AuthorityError:
        """Return what is made of an error."""
        return AcmeAuthority("le", options(), maybeDeferred)._explain(error)

    def test_scopes(self) -> None:
        """What is wrong with the authority makes all its orders wait; what is wrong with an order, that one alone."""
        for error, scope in (
            (messages.Error.with_code("serverInternal"), "authority"),
            (messages.Error.with_code("rateLimited", detail="too many new orders recently"), "authority"),
            (messages.Error.with_code("rateLimited", detail="too many certificates already for x"), "order"),
            (messages.Error.with_code("rejectedIdentifier"), "order"),
            (messages.Error.with_code("accountDoesNotExist"), "account"),
            (requests.ConnectionError("no"), "authority"),
            (requests.Timeout("no"), "authority"),
            (errors.TimeoutError(), "order"),
            (DNSError("no"), "order"),
        ):
            self.assertEqual(scope, self.explained(error).scope, repr(error))

    def test_retry_after(self) -> None:
        """What Retry-After says, in seconds or as a date, is kept; nonsense is 0, no date makes it wait for ever."""
        self.assertEqual([120.0, 0.0, 0.0, 604800.0], [_seconds(text) for text in ("120", "", "soon", "9" * 30)])
        self.assertGreater(_seconds("Fri, 01 Jan 2100 00:00:00 GMT"), 604000)
        self.assertEqual(0.0, _seconds("Fri, 01 Jan 2010 00:00:00 GMT"))

    def test_over_the_wire(self) -> None:
        """A refusal by the real protocol comes with the authority's own words and its Retry-After."""
        refusal = {"type": "urn:ietf:params:acme:error:rateLimited", "detail": "slow down"}

        def answer(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
            nonce = {"Replay-Nonce": "bm9uY2U"}
            if path == "/dir":
                names = ("newNonce", "newAccount", "newOrder")
                return (
                    200,
                    {"Content-Type": "application/json"},
                    json.dumps({name: f"{serving.url}/{name}" for name in names}).encode(),
                )
            if path == "/newNonce":
                return 200, nonce, b""
            fields = nonce | {"Retry-After": "77", "Content-Type": "application/problem+json"}
            return 429, fields, json.dumps(refusal).encode()

        serving = Serving(answer)
        self.addCleanup(serving.stop)
        authority = AcmeAuthority("le", options(caServer=f"{serving.url}/dir"), maybeDeferred)
        error = self.failureResultOf(authority.register(), AuthorityError).value
        self.assertEqual(77.0, error.retry_after)
        self.assertIn("slow down", str(error))
        self.assertEqual(1, sum(path == "/newAccount" for _, path, _ in serving.asked))

    def test_no_directory(self) -> None:
        """What is no ACME authority, or isn't there, is told with its URL."""
        serving = Serving(lambda method, path, body: (503, {"Retry-After": "9"}, b"<html>"))
        self.addCleanup(serving.stop)
        for url in (f"{serving.url}/dir", "http://127.0.0.1:9/dir"):
            authority = AcmeAuthority("le", options(caServer=url), maybeDeferred)
            error = self.failureResultOf(authority.register(), AuthorityError).value
            self.assertEqual("authority", error.scope)
            self.assertIn(url, str(error))

    def test_nonces(self) -> None:
        """An authority that refuses every nonce is given up after some attempts."""

        def answer(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
            nonce = {"Replay-Nonce": "bm9uY2U"}
            if path == "/dir":
                told = {name: f"{serving.url}/{name}" for name in ("newNonce", "newAccount", "newOrder")}
                return 200, {"Content-Type": "application/json"}, json.dumps(told).encode()
            if path == "/newNonce":
                return 200, nonce, b""
            return 400, nonce, json.dumps({"type": "urn:ietf:params:acme:error:badNonce"}).encode()

        serving = Serving(answer)
        self.addCleanup(serving.stop)
        authority = AcmeAuthority("le", options(caServer=f"{serving.url}/dir"), maybeDeferred)
        self.failureResultOf(authority.register(), AuthorityError)
        self.assertLess(len(serving.asked), 40)


class RecordsTests(SynchronousTestCase):
    """DNS records by a program and by dns-lexicon."""

    def test_names(self) -> None:
        """A wildcard's record is that of its domain."""
        self.assertEqual(["_acme-challenge.a.example"] * 2, [record_name("a.example"), record_name("*.a.example")])

    def test_program(self) -> None:
        """The program is told what to do; its failure is told with its last words, or that it hangs."""
        path = Path(self.mktemp())
        path.write_text(
            f'#!/bin/sh\necho "$@" >> {path.absolute()}.log\n[ "$3" != bad ] || {{ echo ouch >&2; exit 3; }}\n'
        )
        path.chmod(0o700)
        records = records_of("exec", {"EXEC_PATH": str(path.absolute())})
        records.present("_acme-challenge.a.example", "value")
        records.clean_up("_acme-challenge.a.example", "value")
        self.assertEqual(
            "present _acme-challenge.a.example. value\ncleanup _acme-challenge.a.example. value\n",
            Path(f"{path.absolute()}.log").read_text(),
        )
        error = self.assertRaises(DNSError, records.present, "x", "bad")
        self.assertIn("exit status 3: ouch", str(error))
        self.assertRaises(DNSError, ProgramRecords("/nowhere/program").present, "x", "y")
        self.assertIn("EXEC_PATH", str(self.assertRaises(DNSError, records_of, "exec", {})))

    def test_lexicon(self) -> None:
        """A provider of dns-lexicon's is configured by its variables, and makes and removes the record."""
        self.patch(dns.resolver, "zone_for_name", lambda name: dns.name.from_text("gate.example."))
        zone: dict[str, Any] = {"name": "gate.example.", "kind": "Native", "rrsets": []}

        def answer(method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
            if method == "PATCH":
                return 204, {}, b""
            told = [zone] if path.endswith("/zones") else zone
            return 200, {"Content-Type": "application/json"}, json.dumps(told).encode()

        serving = Serving(answer)
        self.addCleanup(serving.stop)
        environ = {"LEXICON_POWERDNS_PDNS_SERVER": serving.url, "LEXICON_POWERDNS_AUTH_TOKEN": "secret-token"}
        records = records_of("powerdns", environ)
        records.present("_acme-challenge.www.gate.example", "value")
        changes = [json.loads(body) for method, _, body in serving.asked if method == "PATCH"]
        (change,) = changes[0]["rrsets"]
        self.assertEqual(("_acme-challenge.www.gate.example.", "TXT"), (change["name"], change["type"]))
        self.assertIn("value", json.dumps(change))
        zone["rrsets"] = [change]
        records.clean_up("_acme-challenge.www.gate.example", "value")
        self.assertEqual(2, sum(method == "PATCH" for method, _, _ in serving.asked))

    def test_no_such_provider(self) -> None:
        """A provider that isn't there is named."""
        records = records_of("nobody", {})
        error = self.assertRaises(DNSError, records.present, "_acme-challenge.a.example", "value")
        self.assertIn("nobody", str(error))


class CertificateTests(SynchronousTestCase):
    """Keys, requests and certificates."""

    def test_requests(self) -> None:
        """A request names all domains, the main one also as common name unless that is switched off or too long."""
        for key_type in KEY_TYPES[:3]:
            key = make_key(key_type)
            request = x509.load_pem_x509_csr(signing_request(key, ("a.example", "b.example", "192.0.2.1"), True))
            self.assertTrue(request.is_signature_valid)
            self.assertEqual("CN=a.example", request.subject.rfc4514_string())
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(["a.example", "b.example"], names.get_values_for_type(x509.DNSName))
        self.assertEqual(["192.0.2.1"], [str(one) for one in names.get_values_for_type(x509.IPAddress)])
        for domains, common in ((("a.example",), False), (("a" * 60 + ".example",), True)):
            request = x509.load_pem_x509_csr(signing_request(key, domains, common))
            self.assertEqual("", request.subject.rfc4514_string())

    def test_not_its_key(self) -> None:
        """A key that is another certificate's is refused, and so is what is no PEM; neither is repeated."""
        one, other = signed("a.example"), signed("a.example")
        self.assertRaises(ValueError, certificate_from, one.chain_pem, other.key_pem)
        self.assertRaises(ValueError, certificate_from, b"nothing", one.key_pem)
        error = self.assertRaises(ValueError, certificate_from, one.chain_pem, b"topsecret")
        self.assertNotIn("topsecret", str(error))
        self.assertEqual(("a.example",), certificate_from(one.chain_pem, one.key_pem).domains)

    def test_hidden(self) -> None:
        """No key is shown by a repr."""
        one = signed("a.example")
        self.assertNotIn("PRIVATE", repr(one))
        self.assertNotIn("PRIVATE", repr(tls_alpn_challenge("a.example", "x.y", 1e9)))

    def test_challenge(self) -> None:
        """A TLS-ALPN-01 certificate has one name, and the digest in an extension that must be understood."""
        challenge = tls_alpn_challenge("a.example", "token.thumbprint", 1e9)
        leaf = x509.load_pem_x509_certificate(challenge.cert_pem)
        self.assertEqual(("a.example",), names_in(leaf))
        (extension,) = [one for one in leaf.extensions if one.oid.dotted_string == "1.3.6.1.5.5.7.1.31"]
        self.assertTrue(extension.critical)
        self.assertEqual(34, len(extension.value.public_bytes()))
        self.assertEqual(
            leaf.public_key().public_numbers(),  # type: ignore[union-attr]
            serialization.load_pem_private_key(challenge.key_pem, None).public_key().public_numbers(),  # type: ignore
        )
        self.assertTrue(key_pem(make_key("EC384")).startswith(b"-----BEGIN PRIVATE KEY-----"))
