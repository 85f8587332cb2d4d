"""Tests for swarmgate.middlewares.forward_auth."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http import gathering
from swarmgate.http.deadlines import Deadlines
from swarmgate.http.exchange import Exchange
from swarmgate.http.message import field_values
from swarmgate.middlewares import buffering, forward_auth
from swarmgate.middlewares.chain import Chain
from swarmgate.middlewares.interface import Middleware
from swarmgate.structure import StructureError, structure
from tests.exchanges import Kept, MemoryClient, Origin, client_of, context_of, exchange_of
from tests.memory_network import MemoryNetwork, MemoryTransport

ADDRESS = "http://auth:9000/check"
YES = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Fixture(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork()
        self.deadlines = Deadlines(self.clock)
        self.kept = Kept()
        self.origin = Origin()

    def step(self, **options: Any) -> Middleware:
        options.setdefault("address", ADDRESS)
        context = context_of(self.clock, self.kept, network=self.network, deadlines=self.deadlines)
        return forward_auth.build(structure(forward_auth.Settings, options, "forwardAuth"), context)

    def lead(self, exchange: Exchange, *steps: Middleware) -> MemoryClient:
        Chain("r@test", steps or (self.step(),), self.origin).serve(exchange)
        return client_of(exchange)

    @property
    def auth(self) -> MemoryTransport:
        """The newest connection to the auth server."""
        return self.network.servers[-1]

    def asked(self) -> dict[str, list[str]]:
        """The fields that the auth server was asked with, names in lower case; the line under "" ."""
        line, *lines = self.auth.take().decode("latin-1").partition("\r\n\r\n")[0].split("\r\n")
        found: dict[str, list[str]] = {"": [line]}
        for one in lines:
            name, _, value = one.partition(": ")
            found.setdefault(name.lower(), []).append(value)
        return found

    def assert_kept_out(self, client: MemoryClient, status: int) -> None:
        self.assertEqual((client.status, client.done, self.origin.reached), (status, True, []))


class QuestionTests(Fixture):
    def test_what_it_is_asked(self) -> None:
        """It is asked with GET at its address, with the client's fields, and told what the client wants."""
        exchange = exchange_of("/a?b=c", ("Authorization", "Bearer x"), ("X-A", "1"), method="DELETE", secure=True)
        client = self.lead(exchange)
        asked = self.asked()
        self.assertEqual(asked[""], ["GET /check HTTP/1.1"])
        for name, value in (
            ("host", "auth:9000"),
            ("authorization", "Bearer x"),
            ("x-a", "1"),
            ("x-forwarded-method", "DELETE"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.example"),
            ("x-forwarded-uri", "/a?b=c"),
            ("x-forwarded-for", "192.0.2.7"),
        ):
            self.assertEqual(asked[name], [value], name)
        self.assertEqual((client.status, self.origin.reached), (0, []))
        self.auth.receive(YES)
        self.assertEqual((client.status, self.origin.reached), (200, [exchange]))

    def test_what_clients_say(self) -> None:
        """What clients say is believed with trustForwardHeader only, of those that the entry point trusts."""
        said = [("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-Method", "PUT"), ("X-Forwarded-Uri", "/x")]
        said += [("X-Forwarded-Host", "b.example"), ("X-Forwarded-Proto", "https")]
        own = ("GET", "/", "a.example", "http", "192.0.2.7")
        for trusted, option, expected in (
            (False, "false", own),
            (False, "true", own),
            (True, "false", own),
            (True, "true", ("PUT", "/x", "b.example", "https", "198.51.100.1, 192.0.2.7")),
        ):
            self.lead(exchange_of("/", *said, trusted=trusted), self.step(trustForwardHeader=option))
            asked = self.asked()
            names = ("method", "uri", "host", "proto", "for")
            self.assertEqual([asked[f"x-forwarded-{name}"] for name in names], [[one] for one in expected])

    def test_request_headers(self) -> None:
        """authRequestHeaders are the client's only fields that it is asked with."""
        step = self.step(authRequestHeaders="cookie,X-A")
        self.lead(exchange_of("/", ("Cookie", "a=b"), ("X-B", "1"), ("x-a", "2"), ("X_A", "3")), step)
        asked = self.asked()
        self.assertEqual((asked["cookie"], asked["x-a"]), (["a=b"], ["2"]))
        self.assertFalse({"x-b", "x_a", "x-real-ip"} & set(asked))
        self.assertIn("x-forwarded-method", asked)

    def test_method(self) -> None:
        """preserveRequestMethod asks with the client's method."""
        self.lead(exchange_of("/", method="POST"), self.step(preserveRequestMethod="true"))
        self.assertEqual(self.asked()[""], ["POST /check HTTP/1.1"])

    def test_body(self) -> None:
        """forwardBody asks with the whole body, which the server gets too."""
        exchange = exchange_of("/", ("Content-Length", "4"), method="POST")
        client = self.lead(exchange, self.step(forwardBody="true"))
        exchange.body_data(b"ab", False, [])
        self.assertEqual(self.network.servers, [])
        exchange.body_data(b"cd", True, [])
        sent = self.auth.take()
        self.assertTrue(sent.startswith(b"GET /check ") and sent.endswith(b"Content-Length: 4\r\n\r\nabcd"), sent)
        self.auth.receive(YES)
        self.assertEqual((client.status, exchange.pending), (200, b"abcd"))

    def test_body_stays(self) -> None:
        """Without forwardBody it is asked at once, and without the body."""
        self.lead(exchange_of("/", ("Content-Length", "4"), method="POST"))
        self.assertNotIn("content-length", self.asked())

    def test_long_body(self) -> None:
        """A body of more than maxBodySize is refused, by its head or when it is too long."""
        step = self.step(forwardBody="true", maxBodySize="3")
        self.assert_kept_out(self.lead(exchange_of("/", ("Content-Length", "4"), method="POST"), step), 401)
        exchange = exchange_of("/", ("Transfer-Encoding", "chunked"), method="POST")
        client = self.lead(exchange, step)
        exchange.body_data(b"abcd", False, [])
        self.assert_kept_out(client, 401)
        self.assertEqual(self.network.servers, [])

    def test_no_memory_for_bodies(self) -> None:
        """A body for which there is no memory does not pass unasked."""
        self.patch(gathering, "TOGETHER_AT_MOST", 2)
        exchange = exchange_of("/", ("Content-Length", "4"), method="POST")
        client = self.lead(exchange, self.step(forwardBody="true"))
        exchange.body_data(b"abcd", True, [])
        self.assert_kept_out(client, 503)

    def test_stale_connection(self) -> None:
        """A kept connection that turns out closed costs nobody, with a body or without."""
        for fields, body in (((), b""), ((("Content-Length", "2"),), b"ab")):
            self.setUp()
            step = self.step(forwardBody="true")
            self.lead(exchange_of("/"), step)
            self.auth.receive(YES)
            exchange = exchange_of("/", *fields, method="POST" if body else "GET")
            client = self.lead(exchange, step)
            if body:
                exchange.body_data(body, True, [])
            self.assertEqual(len(self.network.servers), 1)
            self.auth.reset()
            self.assertEqual(len(self.network.servers), 2)
            self.assertTrue(self.auth.take().endswith(b"\r\n\r\n" + body))
            self.auth.receive(YES)
            self.assertEqual(client.status, 200)

    def test_connections_are_kept(self) -> None:
        """One question after the other goes over one connection; those at a time have their own."""
        step = self.step()
        for _ in range(3):
            self.lead(exchange_of("/"), step)
            self.auth.receive(YES)
        self.assertEqual(len(self.network.servers), 1)
        # Also when the table is made anew.
        exchanges = [exchange_of("/") for _ in range(3)]
        for exchange in exchanges:
            self.lead(exchange, self.step())
        self.assertEqual(len(self.network.servers), 3)
        for transport in reversed(self.network.servers):
            transport.receive(YES)
        self.assertEqual([client_of(one).status for one in exchanges], [200] * 3)

    def test_dropped(self) -> None:
        """What no table needs any more closes its connections."""
        self.lead(exchange_of("/"), self.step())
        self.auth.receive(YES)
        [server] = self.kept.things.values()
        server.close()
        self.assertEqual(self.auth.closed, "lost")


class PassingTests(Fixture):
    def passing(self, answer: bytes, *fields: tuple[str, str], **options: Any) -> Exchange:
        exchange = exchange_of("/", *fields)
        self.lead(exchange, self.step(**options))
        self.auth.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + answer + b"\r\n")
        self.assertEqual(client_of(exchange).status, 200)
        return exchange

    def test_response_headers(self) -> None:
        """Fields of its answer go to the server in place of the client's, also where it does not set them."""
        exchange = self.passing(
            b"X-User: ann\r\nx-group: a\r\nX-Group: b\r\nX-Other: 1\r\n",
            ("X-User", "root"),
            ("x_user", "root"),
            ("X-Role", "admin"),
            ("X.Role", "admin"),
            ("X-Keep", "1"),
            authResponseHeaders="X-User,X-Group,X-Role",
        )
        fields = exchange.request.fields
        self.assertEqual(field_values(fields, b"x-user"), [b"ann"])
        self.assertEqual(field_values(fields, b"x-group"), [b"a", b"b"])
        self.assertEqual(field_values(fields, b"x-keep"), [b"1"])
        for name in (b"x_user", b"x-role", b"x.role", b"x-other"):
            self.assertEqual(field_values(fields, name), [], name)

    def test_regex(self) -> None:
        """The same of all fields that an expression matches, in whatever spelling."""
        exchange = self.passing(
            b"X-Auth-User: ann\r\nX-Else: 1\r\nHost: evil\r\n",
            ("x-auth-user", "root"),
            ("X_Auth_Role", "admin"),
            ("X-Keep", "1"),
            authResponseHeadersRegex="^X-Auth-|^Host",
        )
        fields = exchange.request.fields
        self.assertEqual(
            [name for name, _ in fields if name.lower().startswith((b"x-auth", b"x_auth"))], [b"X-Auth-User"]
        )
        self.assertEqual(field_values(fields, b"x-auth-user"), [b"ann"])
        self.assertEqual(field_values(fields, b"host") + field_values(fields, b"x-else"), [])
        self.assertEqual(field_values(fields, b"x-keep"), [b"1"])

    def test_user(self) -> None:
        """headerField tells the access log who it was; the client does not."""
        self.assertEqual(self.passing(b"X-User: ann\r\n", headerField="X-User").user, "ann")
        self.assertEqual(self.passing(b"", ("X-User", "root"), headerField="X-User").user, "")

    def test_cookies(self) -> None:
        """Cookies of its answer get to the client, in place of the service's of that name."""
        self.origin = Origin(fields=[(b"Set-Cookie", b"session=old"), (b"Set-Cookie", b"lang=en")])
        exchange = self.passing(
            b"Set-Cookie: session=new; HttpOnly\r\nSet-Cookie: other=1\r\n", addAuthCookiesToResponse="session,none"
        )
        self.assertEqual(client_of(exchange).values(b"Set-Cookie"), [b"lang=en", b"session=new; HttpOnly"])

    def test_whole(self) -> None:
        """A 200 counts when it is whole; its body goes nowhere."""
        exchange = exchange_of("/")
        client = self.lead(exchange)
        self.auth.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        self.assertEqual(self.origin.reached, [])
        self.auth.receive(b"0\r\n\r\n")
        self.assertEqual((client.status, client.body), (200, b"hello"))

    def test_head_and_interim(self) -> None:
        """A HEAD that is asked with HEAD; an interim answer says nothing."""
        exchange = exchange_of("/", method="HEAD")
        self.lead(exchange, self.step(preserveRequestMethod="true"))
        self.auth.receive(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        self.assertEqual(self.origin.reached, [])
        self.auth.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
        self.assertEqual(self.origin.reached, [exchange])


class RefusalTests(Fixture):
    def refused(self, answer: bytes, exchange: Exchange | None = None, **options: Any) -> MemoryClient:
        client = self.lead(exchange or exchange_of("/"), self.step(**options))
        self.auth.receive(answer)
        return client

    def test_answer_goes_out(self) -> None:
        """Any other answer goes to the client, head and body."""
        client = self.refused(
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"
            b"Content-Length: 4\r\n\r\nnope"
        )
        self.assert_kept_out(client, 401)
        self.assertEqual((client.body, client.value(b"WWW-Authenticate")), (b"nope", b"Basic"))
        self.assertIsNone(client.value(b"X-Hop"))

    def test_stream(self) -> None:
        """A long answer goes out as it comes; its end, and that it breaks off, are told."""
        for rest in (b"2\r\ncd\r\n0\r\n\r\n", None):
            client = self.refused(b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
            self.assertEqual((client.status, client.body, client.done), (403, b"ab", False))
            if rest is None:
                self.auth.reset()
                self.assertTrue(client.aborted)
            else:
                self.auth.receive(rest)
                self.assertEqual((client.body, client.done), (b"abcd", True))
        self.assertEqual((self.origin.reached, self.clock.getDelayedCalls()[1:]), ([], []))

    def test_redirect(self) -> None:
        """Location means what it means to the auth server, unless preserveLocationHeader; nobody follows it."""
        for location, preserve, expected in (
            (b"/login?a=b", "false", b"http://auth:9000/login?a=b"),
            (b"login", "false", b"http://auth:9000/login"),
            (b"https://sso.example/", "false", b"https://sso.example/"),
            (b"/login", "true", b"/login"),
        ):
            client = self.refused(
                b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location,
                preserveLocationHeader=preserve,
            )
            self.assert_kept_out(client, 302)
            self.assertEqual(client.value(b"Location"), expected)

    def test_broken_location(self) -> None:
        """A Location that is none keeps the request out all the same."""
        client = self.refused(b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n")
        self.assert_kept_out(client, 302)

    def test_signin(self) -> None:
        """authSigninURL takes the place of a 401."""
        client = self.refused(
            b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", authSigninURL="https://sso.example/in"
        )
        self.assert_kept_out(client, 302)
        self.assertEqual(client.value(b"Location"), b"https://sso.example/in")

    def test_no_body(self) -> None:
        """To HEAD, and with 304, there is no body."""
        client = self.refused(
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 400\r\n\r\nno", exchange_of("/", method="HEAD")
        )
        self.assert_kept_out(client, 403)
        self.assertEqual(client.body, b"")
        client = self.refused(b"HTTP/1.1 304 Not Modified\r\n\r\n")
        self.assert_kept_out(client, 304)

    def test_long_answer(self) -> None:
        """An answer of more than maxResponseBodySize is a 401, whatever it says."""
        for answer in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ):
            self.assert_kept_out(self.refused(answer, maxResponseBodySize="2"), 401)
        client = self.refused(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\na", maxResponseBodySize="2")
        self.assertEqual(client.status, 0)
        self.auth.receive(b"b")
        self.assert_kept_out(client, 403)
        self.assertEqual(client.body, b"ab")

    def test_not_there(self) -> None:
        """A server that can't be reached keeps everybody out."""
        self.network.accepts = False
        client = self.lead(exchange_of("/"))
        self.network.refuse()
        self.assert_kept_out(client, 500)

    def test_breaks_off(self) -> None:
        """So does one that breaks off before its answer, or within it, or answers what is no HTTP."""
        for begin in (
            b"",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            b"HTTP/1.1 200 OK\r\nX-User: a\nX-Admin: 1\r\n\r\n",
            b"220 mail.example ESMTP\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        ):
            client = self.lead(exchange_of("/"))
            transport = self.auth
            if begin:
                transport.receive(begin)
            transport.reset()
            while not client.status and self.auth is not transport:
                transport = self.auth
                transport.reset()
            self.assert_kept_out(client, 500)

    def test_slow(self) -> None:
        """An answer that is not whole in time keeps the request out, however it trickles in."""
        for begin in (b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
            client = self.lead(exchange_of("/"))
            if begin:
                self.auth.receive(begin)
            for _ in range(29):
                self.clock.advance(1)
                if begin:
                    self.auth.receive(b"1\r\na\r\n")
            self.assertEqual(client.status, 0)
            self.clock.advance(1)
            self.assert_kept_out(client, 500)
            self.assertEqual(self.auth.closed, "aborted")

    def test_slow_refusal(self) -> None:
        """A refusal that trickles in has an end too."""
        client = self.refused(b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        self.clock.advance(30)
        self.assertTrue(client.aborted)

    def test_client_leaves(self) -> None:
        """A client that leaves takes its question back."""
        for begin in (b"", b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\na"):
            exchange = exchange_of("/")
            self.lead(exchange)
            if begin:
                self.auth.receive(begin)
            exchange.client_gone()
            self.assertEqual(self.auth.closed, "aborted")
            self.assertEqual((exchange.status, self.origin.reached), (403 if begin else 499, []))

    def test_nobody_passes_by_asking_again(self) -> None:
        """A middleware before it that has a refused request asked again does not let it pass."""
        settings = structure(buffering.Settings, {"retryExpression": "ResponseCode() >= 400"}, "")
        step = buffering.build(settings, context_of(self.clock))
        client = self.lead(exchange_of("/"), step, self.step())
        for number in range(10):
            self.assertEqual((client.status, self.origin.reached), (0, []), number)
            self.auth.receive(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
            self.clock.advance(0)
        self.assert_kept_out(client, 401)


class SettingsTests(Fixture):
    def test_addresses(self) -> None:
        """An address is a URL; what is none is told."""
        for address in (
            "auth:9000",
            "/check",
            "ftp://a/",
            "http://",
            "http://a:x/",
            "http://a/ b",
            "http://ann:x@a/",
            "http://a/#b",
            "http://ä/",
        ):
            self.assertRaises(ValueError, self.step, address=address)
        for address, host in (("http://auth", b"auth"), ("http://[::1]:80/x?y=z", b"[::1]:80")):
            self.lead(exchange_of("/"), self.step(address=address))
            self.assertIn(b"\r\nHost: %b\r\n" % host, self.auth.take())

    def test_names(self) -> None:
        """Fields that the gate writes itself can't be had from it."""
        for name in ("Content-Length", "Host", "Transfer-Encoding", "content_length", "a b"):
            self.assertRaises(ValueError, self.step, authResponseHeaders=name)
        self.assertRaises(ValueError, self.step, authResponseHeadersRegex="(")
        self.assertRaises(ValueError, self.step, authSigninURL="a\nb")

    def test_tls(self) -> None:
        """Files of TLS have to be there, and go together."""
        with self.assertRaises(ValueError) as caught:
            self.step(address="https://auth", tls={"ca": "/none"})
        self.assertIn("tls.ca", str(caught.exception))
        with self.assertRaises(StructureError):
            self.step(address="https://auth", tls={"cert": "/none"})
        self.assertNotIn("geheim", repr(structure(forward_auth.TLS, {"cert": "a", "key": "geheim"}, "")))
        self.step(address="https://auth", tls={"insecureSkipVerify": "true"})
