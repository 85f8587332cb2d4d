"""Tests for swarmgate.middlewares.headers."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.message import field, field_values
from swarmgate.middlewares import headers, redirect_scheme
from swarmgate.middlewares.interface import Middleware
from swarmgate.structure import structure
from tests.exchanges import MemoryClient, Origin, context_of, exchange_of, lead


def middleware(**options: Any) -> Middleware:
    return headers.build(structure(headers.Settings, options, "headers"), context_of())


def answer(*fields: tuple[str, str], origin: Origin | None = None, more: Any = None, **options: Any) -> MemoryClient:
    return lead(exchange_of("/", *fields, **(more or {})), middleware(**options), origin=origin)


class RequestTests(SynchronousTestCase):
    def seen(self, *fields: tuple[str, str], **options: Any) -> Any:
        exchange = exchange_of("/", *fields)
        lead(exchange, middleware(**options))
        return exchange.request

    def test_set_and_removed(self) -> None:
        """A value replaces all that the client sent under the name, an empty one removes it."""
        request = self.seen(
            ("x-a", "1"), ("X-A", "2"), ("X-Gone", "3"), customRequestHeaders={"X-A": "new", "X-Gone": ""}
        )
        self.assertEqual(field_values(request.fields, b"x-a"), [b"new"])
        self.assertEqual(field_values(request.fields, b"x-gone"), [])

    def test_aliases(self) -> None:
        """A client can't add a field that the server takes for the one that was set or removed."""
        request = self.seen(
            ("X_User", "admin"),
            ("x.USER", "admin"),
            ("X_Gone", "1"),
            customRequestHeaders={"X-User": "bob", "X-Gone": ""},
        )
        names = [name.lower() for name, _ in request.fields if not name.startswith(b"X-Forwarded")]
        self.assertEqual(names, [b"x-real-ip", b"x-user"])

    def test_host(self) -> None:
        """Host is what the server is told, not another field."""
        request = self.seen(customRequestHeaders={"Host": "other.example:81"})
        self.assertEqual(request.authority, b"other.example:81")
        self.assertIsNone(field(request.fields, b"host"))

    def test_forwarded(self) -> None:
        """The gate's own X-Forwarded fields can be replaced and removed."""
        request = self.seen(customRequestHeaders={"X-Forwarded-For": "", "X-Forwarded-Proto": "https"})
        self.assertEqual(field_values(request.fields, b"x-forwarded-for"), [])
        self.assertEqual(field_values(request.fields, b"x-forwarded-proto"), [b"https"])

    def test_forwarded_proto_is_the_scheme(self) -> None:
        """A scheme that is set here is the one that redirectScheme sees."""
        redirect = redirect_scheme.build(redirect_scheme.Settings(scheme="https"), context_of())
        step = middleware(customRequestHeaders={"X-Forwarded-Proto": "https"})
        self.assertEqual(lead(exchange_of(), step, redirect).status, 200)

    def test_allowed_hosts(self) -> None:
        """Hosts that aren't listed are answered 500, as with Traefik."""
        client = answer(allowedHosts="good.example")
        self.assertEqual((client.status, client.body), (500, b"Bad Host\n"))
        for host in ("good.example", "GOOD.example:8080"):
            self.assertEqual(answer(allowedHosts="good.example", more={"host": host}).status, 200, host)
        self.assertEqual(answer(allowedHosts="good.example", isDevelopment="true").status, 200)

    def test_hosts_proxy_headers(self) -> None:
        """A field that tells the host comes before Host."""
        options = {"allowedHosts": "good.example", "hostsProxyHeaders": "X-Original-Host"}
        self.assertEqual(answer(("X-Original-Host", "good.example"), **options).status, 200)
        client = answer(("X-Original-Host", "bad.example"), more={"host": "good.example"}, **options)
        self.assertEqual(client.status, 500)


class ResponseTests(SynchronousTestCase):
    def test_set_and_removed(self) -> None:
        """A value replaces what the server sent under the name, an empty one removes it."""
        origin = Origin(fields=[(b"x-a", b"1"), (b"X-A", b"2"), (b"Server", b"s"), (b"X-B", b"b")])
        client = answer(customResponseHeaders={"X-A": "new", "Server": ""}, origin=origin)
        self.assertEqual(client.value(b"X-A"), b"new")
        self.assertIsNone(client.value(b"Server"))
        self.assertEqual(client.value(b"X-B"), b"b")

    def test_security(self) -> None:
        """The fields of browser security are as Traefik writes them, and replace the server's."""
        client = answer(
            origin=Origin(fields=[(b"X-Frame-Options", b"SAMEORIGIN")]),
            stsSeconds="5",
            stsIncludeSubdomains="true",
            stsPreload="true",
            forceSTSHeader="true",
            frameDeny="true",
            contentTypeNosniff="true",
            browserXssFilter="true",
            contentSecurityPolicy="default-src 'self'",
            contentSecurityPolicyReportOnly="default-src 'none'",
            publicKey="pin",
            referrerPolicy="no-referrer",
            permissionsPolicy="camera=()",
        )
        assert client.response is not None
        self.assertEqual(
            sorted(client.response.fields),
            [
                (b"Content-Security-Policy", b"default-src 'self'"),
                (b"Content-Security-Policy-Report-Only", b"default-src 'none'"),
                (b"Permissions-Policy", b"camera=()"),
                (b"Referrer-Policy", b"no-referrer"),
                (b"Strict-Transport-Security", b"max-age=5; includeSubDomains; preload"),
                (b"X-Content-Type-Options", b"nosniff"),
                (b"X-Frame-Options", b"DENY"),
                (b"X-XSS-Protection", b"1; mode=block"),
            ],
        )

    def test_own_values(self) -> None:
        """customFrameOptionsValue and customBrowserXSSValue win over the switches, custom fields over all."""
        options = {"frameDeny": "true", "customFrameOptionsValue": "SAMEORIGIN", "customBrowserXSSValue": "0"}
        client = answer(**options)
        self.assertEqual((client.value(b"X-Frame-Options"), client.value(b"X-XSS-Protection")), (b"SAMEORIGIN", b"0"))
        client = answer(**options, customResponseHeaders={"X-Frame-Options": "", "x-xss-protection": "1"})
        self.assertEqual((client.value(b"X-Frame-Options"), client.value(b"X-XSS-Protection")), (None, b"1"))

    def test_only_over_tls(self) -> None:
        """Strict-Transport-Security and Public-Key-Pins are for clients that came over TLS."""
        options = {"stsSeconds": "5", "publicKey": "pin"}
        self.assertIsNone(answer(**options).value(b"Strict-Transport-Security"))
        client = answer(**options, more={"secure": True})
        self.assertEqual(client.value(b"Strict-Transport-Security"), b"max-age=5")
        self.assertEqual(client.value(b"Public-Key-Pins"), b"pin")
        client = answer(("X-Tls", "on"), **options, sslProxyHeaders={"X-TLS": "on"})
        self.assertEqual(client.value(b"Strict-Transport-Security"), b"max-age=5")
        client = answer(**options, isDevelopment="true", forceSTSHeader="true", more={"secure": True})
        self.assertIsNone(client.value(b"Strict-Transport-Security"))

    def test_answers_of_others(self) -> None:
        """Answers of middlewares further down are changed too."""
        redirect = redirect_scheme.build(redirect_scheme.Settings(scheme="https"), context_of())
        client = lead(exchange_of(), middleware(frameDeny="true"), redirect)
        self.assertEqual((client.status, client.value(b"X-Frame-Options")), (302, b"DENY"))


class CORSTests(SynchronousTestCase):
    options = {
        "accessControlAllowOriginList": "https://a.example",
        "accessControlAllowOriginListRegex": r"^https://[a-z]+\.b\.example$",
        "accessControlAllowMethods": "GET,PUT",
        "accessControlAllowHeaders": "*,X-A",
        "accessControlExposeHeaders": "X-E,X-F",
        "accessControlMaxAge": "100",
        "accessControlAllowCredentials": "true",
        "addVaryHeader": "true",
    }
    asks = ("Access-Control-Request-Method", "PUT")

    def test_preflight(self) -> None:
        """A preflight is answered here, as Traefik does it."""
        origin = Origin()
        client = answer(
            ("Origin", "https://a.example"), self.asks, origin=origin, more={"method": "OPTIONS"}, **self.options
        )
        self.assertEqual((client.status, client.body, origin.reached), (200, b"", []))
        assert client.response is not None
        self.assertEqual(client.response.length, 0)
        self.assertEqual(
            sorted(client.response.fields),
            [
                (b"Access-Control-Allow-Credentials", b"true"),
                (b"Access-Control-Allow-Headers", b"*,X-A"),
                (b"Access-Control-Allow-Methods", b"GET,PUT"),
                (b"Access-Control-Allow-Origin", b"https://a.example"),
                (b"Access-Control-Expose-Headers", b"X-E,X-F"),
                (b"Access-Control-Max-Age", b"100"),
            ],
        )

    def test_preflight_of_a_stranger(self) -> None:
        """An origin that isn't listed gets no Access-Control-Allow-Origin."""
        client = answer(("Origin", "https://evil.example"), self.asks, more={"method": "OPTIONS"}, **self.options)
        self.assertEqual((client.status, client.value(b"Access-Control-Allow-Origin")), (200, None))

    def test_no_preflight(self) -> None:
        """OPTIONS without Origin or without the method asked for goes to the server."""
        for fields in ((self.asks,), (("Origin", "https://a.example"),)):
            origin = Origin()
            answer(*fields, origin=origin, more={"method": "OPTIONS"}, **self.options)
            self.assertEqual(len(origin.reached), 1)

    def test_answer(self) -> None:
        """The answer says that its origin is allowed, and that it depends on the origin."""
        for one in ("https://a.example", "https://q.b.example"):
            client = answer(("Origin", one), origin=Origin(fields=[(b"Vary", b"Accept")]), **self.options)
            self.assertEqual(client.value(b"Access-Control-Allow-Origin"), one.encode())
            self.assertEqual(client.value(b"Vary"), b"Accept,Origin")
            self.assertEqual(client.value(b"Access-Control-Expose-Headers"), b"X-E,X-F")

    def test_stranger(self) -> None:
        """Origins that only look alike aren't allowed."""
        for one in ("https://a.example.evil", "http://a.example", "https://q.b.example.evil", "null", ""):
            client = answer(("Origin", one), **self.options)
            self.assertIsNone(client.value(b"Access-Control-Allow-Origin"), one)

    def test_all(self) -> None:
        """* allows all; a server's own word is replaced, Vary is left as it is."""
        origin = Origin(fields=[(b"access-control-allow-origin", b"x"), (b"vary", b"Origin, Accept")])
        client = answer(origin=origin, accessControlAllowOriginList="*", addVaryHeader="true")
        self.assertEqual(client.value(b"Access-Control-Allow-Origin"), b"*")
        self.assertEqual(client.value(b"Vary"), b"Origin, Accept")


class SettingsTests(SynchronousTestCase):
    def test_refused(self) -> None:
        """What can't be a header field, or isn't the user's to set, is refused with its name."""
        for options, told in (
            ({"customRequestHeaders": {"X A": "1"}}, "'X A'"),
            ({"customResponseHeaders": {"X-A": "1\r\nX-B: 2"}}, "customResponseHeaders.X-A"),
            ({"customResponseHeaders": {"X-A": "1\0"}}, "customResponseHeaders.X-A"),
            ({"customRequestHeaders": {"Transfer-Encoding": "chunked"}}, "Transfer-Encoding"),
            ({"customResponseHeaders": {"content-length": "5"}}, "content-length"),
            ({"customRequestHeaders": {"Host": "a b"}}, "'a b'"),
            ({"contentSecurityPolicy": "a\nb"}, "Content-Security-Policy"),
            ({"accessControlAllowOriginListRegex": "("}, "'('"),
            ({}, "none of its options"),
        ):
            with self.assertRaises(ValueError) as caught:
                middleware(**options)
            self.assertIn(told, str(caught.exception))

    def test_nothing_to_remove(self) -> None:
        """Removing a field that never reaches a server or client is no fault."""
        self.assertEqual(answer(customRequestHeaders={"Connection": ""}).status, 200)

    def test_deprecated(self) -> None:
        """Options of old configurations are taken, and do nothing."""
        client = answer(sslRedirect="true", sslHost="b.example", featurePolicy="x", sslForceHost="true")
        assert client.response is not None
        self.assertEqual((client.status, client.response.fields), (200, []))

    def test_half_a_chain(self) -> None:
        """What is asked for in one direction only costs nothing in the other."""
        self.assertIs(type(middleware(customRequestHeaders={"X-A": "1"})).response, Middleware.response)
        self.assertIs(type(middleware(frameDeny="true")).request, Middleware.request)
