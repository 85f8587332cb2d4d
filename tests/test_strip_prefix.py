"""Tests for swarmgate.middlewares.strip_prefix and rewriting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.errors import BadRequest
from swarmgate.http.message import field, field_values
from swarmgate.http.paths import PathPolicy
from swarmgate.middlewares import strip_prefix
from swarmgate.middlewares.rewriting import path_of
from tests.exchanges import MemoryClient, Origin, context_of, exchange_of, lead


def strip(target: str, *prefixes: str) -> tuple[MemoryClient, bytes, bytes | None]:
    """The client, what the server was asked for, and X-Forwarded-Prefix."""
    middleware = strip_prefix.build(strip_prefix.Settings(prefixes=prefixes), context_of())
    origin = Origin()
    client = lead(exchange_of(target), middleware, origin=origin)
    request = origin.reached[0].request if origin.reached else None
    if request is None:
        return client, b"", None
    return client, request.target, field(request.fields, b"x-forwarded-prefix")


class StripPrefixTests(SynchronousTestCase):
    def test_stripped(self) -> None:
        """The server sees the rest of the path, always with a slash, and is told the prefix."""
        for target, prefix, rest in (
            ("/api/x", "/api", b"/x"),
            ("/api", "/api", b"/"),
            ("/api?q=1", "/api", b"/?q=1"),
            ("/apix", "/api", b"/x"),
            ("/sl/y", "/sl/", b"/y"),
            ("/y", "/", b"/y"),
            ("/api/a%20b", "/api", b"/a%20b"),
            ("/api/a[1]", "/api", b"/a[1]"),
        ):
            client, seen, told = strip(target, prefix)
            self.assertEqual((client.status, seen, told), (200, rest, prefix.encode()), target)

    def test_first_that_fits(self) -> None:
        """The first prefix that fits is stripped, and only once."""
        self.assertEqual(strip("/a/b/a/b/c", "/x", "/a/b", "/a")[1:], (b"/a/b/c", b"/a/b"))

    def test_none_fits(self) -> None:
        """Other paths pass as they are."""
        self.assertEqual(strip("/b/api", "/api")[1:], (b"/b/api", None))
        self.assertEqual(strip("/API/x", "/api")[1:], (b"/API/x", None))

    def test_escapes(self) -> None:
        """A prefix fits however the client spells it, and exactly that is taken away."""
        self.assertEqual(strip("/%61pi/x", "/api")[1:], (b"/x", b"/api"))
        self.assertEqual(strip("/caf%c3%a9/x", "/café")[1:], (b"/x", b"/caf%C3%A9"))
        self.assertEqual(strip("/a%20b/x", "/a b")[1:], (b"/x", b"/a%20b"))
        self.assertEqual(strip("/a%3Ab/x", "/a:b")[1:], (b"/a%3Ab/x", None))

    def test_rest_leads_elsewhere(self) -> None:
        """A rest that would be another path than was checked never reaches the server."""
        for target, prefix in (("/api../admin", "/api"), ("/api./admin", "/api"), ("/api..", "/api")):
            client, seen, _ = strip(target, prefix)
            self.assertEqual((client.status, client.body, seen), (400, b"Bad Request\n", b""), target)

    def test_told_beside_an_earlier_prefix(self) -> None:
        """The prefix of a proxy further out stays."""
        middleware = strip_prefix.build(strip_prefix.Settings(prefixes=("/api",)), context_of())
        exchange = exchange_of("/api/x", ("X-Forwarded-Prefix", "/out"), trusted=True)
        lead(exchange, middleware)
        self.assertEqual(field_values(exchange.request.fields, b"x-forwarded-prefix"), [b"/out", b"/api"])

    def test_bad_prefix(self) -> None:
        """A prefix that fits no path is an error that says so."""
        for prefix in ("api", "", "/a?b", "/a%2", "/a/../../b", "/a#b"):
            with self.assertRaises(ValueError) as caught:
                strip_prefix.build(strip_prefix.Settings(prefixes=(prefix,)), context_of())
            self.assertIn(f'"{prefix}"', str(caught.exception))

    @given(st.text("/.ab%2eF", max_size=12), st.sampled_from(["/a", "/a/", "/", "/a.", "/b/a"]))
    def test_always_normal(self, path: str, prefix: str) -> None:
        """Whatever is asked for, what the server sees is in normal form."""
        try:
            PathPolicy().normalise(f"/{path}".encode())
        except BadRequest:
            return
        client, seen, _ = strip(f"/{path}", prefix)
        if client.status == 200:
            self.assertEqual(PathPolicy().normalise(seen), seen)
        else:
            self.assertEqual(client.status, 400)


class PathOfTests(SynchronousTestCase):
    def test_spelled_as_paths_are(self) -> None:
        """An option's path is compared in the spelling that requests have."""
        self.assertEqual(path_of("/a//b/./c", "path"), b"/a/b/c")
        self.assertEqual(path_of("/%7Ea%2fb", "path"), b"/~a%2Fb")
