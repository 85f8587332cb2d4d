"""Tests for swarmgate.middlewares.redirect_scheme."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.middlewares import redirect_scheme
from swarmgate.structure import StructureError, structure
from tests.exchanges import MemoryClient, context_of, exchange_of, lead


def answer(target: str = "/a?b=1", *fields: tuple[str, str], options: dict[str, Any], **more: Any) -> MemoryClient:
    settings = structure(redirect_scheme.Settings, options, "redirectScheme")
    return lead(exchange_of(target, *fields, **more), redirect_scheme.build(settings, context_of()))


HTTPS = {"scheme": "https"}
HTTPS_8443 = {"scheme": "https", "port": "8443", "permanent": "true"}


class RedirectSchemeTests(SynchronousTestCase):
    def test_get(self) -> None:
        """A GET is sent to the same place under the other scheme, its query included."""
        client = answer(options=HTTPS)
        self.assertEqual((client.status, client.body), (302, b"Found"))
        self.assertEqual(client.value(b"Location"), b"https://a.example/a?b=1")

    def test_status(self) -> None:
        """Only GET is redirected by statuses that turn a method into GET."""
        for method, permanent, status in (
            ("GET", "false", 302),
            ("GET", "true", 301),
            ("HEAD", "false", 307),
            ("POST", "false", 307),
            ("POST", "true", 308),
        ):
            client = answer(options={**HTTPS, "permanent": permanent}, method=method)
            self.assertEqual(client.status, status, (method, permanent))

    def test_right_already(self) -> None:
        """What came over TLS passes."""
        self.assertEqual(answer(options=HTTPS, secure=True).status, 200)
        self.assertEqual(answer(options=HTTPS, secure=True, host="a.example:443").status, 200)

    def test_forwarded_proto(self) -> None:
        """What a trusted peer says about the scheme counts, a stranger's word does not."""
        for proto in ("https", "wss", "HTTPS"):
            self.assertEqual(answer("/", ("X-Forwarded-Proto", proto), options=HTTPS, trusted=True).status, 200)
        self.assertEqual(answer("/", ("X-Forwarded-Proto", "https"), options=HTTPS).status, 302)

    def test_port(self) -> None:
        """A port is part of Location unless it is the scheme's own; another port is not the right place."""
        self.assertEqual(answer(options=HTTPS_8443).value(b"Location"), b"https://a.example:8443/a?b=1")
        self.assertEqual(answer(options=HTTPS_8443).status, 301)
        self.assertEqual(answer(options=HTTPS_8443, secure=True).status, 301)
        self.assertEqual(answer(options=HTTPS_8443, secure=True, host="a.example:8443").status, 200)
        location = answer(options={**HTTPS, "port": "443"}, host="[::1]:80").value(b"Location")
        self.assertEqual(location, b"https://[::1]/a?b=1")
        client = answer(options=HTTPS, secure=True, host="a.example:8443")
        self.assertEqual(client.value(b"Location"), b"https://a.example/a?b=1")

    def test_to_http(self) -> None:
        """It works in the other direction too."""
        self.assertEqual(answer(options={"scheme": "http"}, secure=True).value(b"Location"), b"http://a.example/a?b=1")
        self.assertEqual(answer(options={"scheme": "http"}).status, 200)

    def test_no_host(self) -> None:
        """A request without a host can't be sent anywhere."""
        exchange = exchange_of("/", minor=0)
        exchange.request.authority = exchange.request.host = b""
        settings = redirect_scheme.Settings(scheme="https")
        self.assertEqual(lead(exchange, redirect_scheme.build(settings, context_of())).status, 400)

    def test_bad_options(self) -> None:
        """No scheme, or something that is no scheme or port, is refused."""
        for options in ({}, {"scheme": ""}, {"scheme": "a b"}, {**HTTPS, "port": "0"}, {**HTTPS, "port": "x"}):
            self.assertRaises(StructureError, answer, options=options)
