"""Tests for addPrefix, replacePath, replacePathRegex, stripPrefixRegex and redirectRegex, and patterns.

Where Traefik has an opinion, the expected values are what Traefik 3.7 answered to the same request.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.message import field_values
from swarmgate.http.paths import PathPolicy
from swarmgate.middlewares import KINDS, build
from swarmgate.middlewares.patterns import pattern_of, replacement_of
from swarmgate.structure import StructureError, structure
from tests.exchanges import MemoryClient, Origin, context_of, exchange_of, lead


def ask(
    kind: str, target: str, *fields: tuple[str, str], options: dict[str, Any], **more: Any
) -> tuple[MemoryClient, str, Any]:
    """The client, what the server was asked for (``""`` if it wasn't), and the request."""
    middleware = build(kind.lower(), structure(KINDS[kind.lower()], options, kind), context_of())
    origin = Origin()
    exchange = exchange_of(target, *fields, **more)
    client = lead(exchange, middleware, origin=origin)
    return client, exchange.request.target.decode() if origin.reached else "", exchange.request


class AddPrefixTests(SynchronousTestCase):
    def test_added(self) -> None:
        """The server is asked for the path below the prefix."""
        for prefix in ("/pre", "pre/", "/pre/"):
            self.assertEqual(ask("addPrefix", "/z?k", options={"prefix": prefix})[1], "/pre/z?k")
        self.assertEqual(ask("addPrefix", "/z", options={"prefix": "/a b/c"})[1], "/a%20b/c/z")

    def test_nothing_to_add(self) -> None:
        """An empty prefix is refused."""
        for prefix in ("", "/", " "):
            self.assertRaises(StructureError, ask, "addPrefix", "/", options={"prefix": prefix})


class ReplacePathTests(SynchronousTestCase):
    def test_replaced(self) -> None:
        """The server is asked for the path, with the client's query, and told the old one."""
        _, target, request = ask("replacePath", "/z?k", options={"path": "/fixed"})
        self.assertEqual(target, "/fixed?k")
        self.assertEqual(field_values(request.fields, b"x-replaced-path"), [b"/z"])

    def test_nobody_else_tells(self) -> None:
        """What the client says was replaced doesn't reach the server."""
        fields = (("X-Replaced-Path", "/evil"), ("x_replaced_path", "/evil"))
        _, _, request = ask("replacePath", "/z", *fields, options={"path": "/fixed"})
        told = [pair for pair in request.fields if b"replaced" in pair[0].lower()]
        self.assertEqual(told, [(b"X-Replaced-Path", b"/z")])

    def test_bad_path(self) -> None:
        """Something that no request could ask for is refused."""
        for path in ("a", "", "/a?b", "/%zz", "/../a"):
            self.assertRaises(ValueError, ask, "replacePath", "/", options={"path": path})


class ReplacePathRegexTests(SynchronousTestCase):
    def replaced(self, target: str, regex: str, replacement: str) -> tuple[int, str]:
        client, seen, _ = ask("replacePathRegex", target, options={"regex": regex, "replacement": replacement})
        return client.status, seen

    def test_replaced(self) -> None:
        """What matches is replaced, groups are put in."""
        self.assertEqual(self.replaced("/a/z?k", "^/a/(.*)", "/b/$1"), (200, "/b/z?k"))
        self.assertEqual(self.replaced("/banana", "a", "/"), (200, "/b/n/n/"))
        self.assertEqual(self.replaced("/a/z?q", "^/a(.*)", "/b$1?x=1"), (200, "/b/z%3Fx=1?q"))
        self.assertEqual(self.replaced("/user/7", "^/user/(?P<id>[0-9]+)$", "/é/${id}"), (200, "/%C3%A9/7"))

    def test_no_match(self) -> None:
        """Other paths pass as they are."""
        self.assertEqual(self.replaced("/c/z", "^/a/", "/b/"), (200, "/c/z"))

    def test_leads_elsewhere(self) -> None:
        """A new path that would be another one than was checked never reaches the server."""
        for target, regex, replacement in (
            ("/a/z", "^/a(.*)", "/b/$1"),
            ("/a../z", "^/a(.*)", "/b/$1"),
            ("/x/y", "^/x", "/../admin"),
            ("/x/y", "^/x/", ""),
        ):
            self.assertEqual(self.replaced(target, regex, replacement), (400, ""), target)

    @given(st.text("/.ab", max_size=8), st.sampled_from(["a", "/", "\\.", "b*", "^/"]), st.text("/.a$0", max_size=5))
    def test_always_normal(self, path: str, regex: str, replacement: str) -> None:
        """Whatever matches, what the server sees is in normal form."""
        target = "/" + "/".join(part for part in path.split("/") if part.strip("."))
        status, seen = self.replaced(target, regex, replacement)
        if status == 200:
            self.assertEqual(PathPolicy().normalise(seen.encode()), seen.encode())
        else:
            self.assertEqual(status, 400)

    def test_bad_expression(self) -> None:
        """An expression that is none is refused, and named."""
        with self.assertRaises(ValueError) as caught:
            self.replaced("/", "(", "")
        self.assertIn("regex: '('", str(caught.exception))


class StripPrefixRegexTests(SynchronousTestCase):
    def stripped(self, target: str, regex: str) -> tuple[str, list[bytes]]:
        _, seen, request = ask("stripPrefixRegex", target, options={"regex": regex})
        return seen, field_values(request.fields, b"x-forwarded-prefix")

    def test_stripped(self) -> None:
        """What matches at the beginning is stripped, and told."""
        self.assertEqual(self.stripped("/v12/z?k", "/v[0-9]+/"), ("/z?k", [b"/v12/"]))
        self.assertEqual(self.stripped("/v12", "/v[0-9]+"), ("/", [b"/v12"]))
        self.assertEqual(self.stripped("/b/z", "/a,/b"), ("/z", [b"/b"]))

    def test_elsewhere(self) -> None:
        """What matches further inside, or matches nothing, is left alone."""
        self.assertEqual(self.stripped("/q/v12/z", "/v[0-9]+/"), ("/q/v12/z", []))
        self.assertEqual(self.stripped("/q", "x*"), ("/q", []))

    def test_leads_elsewhere(self) -> None:
        """A rest that would be another path than was checked is refused."""
        client, seen, _ = ask("stripPrefixRegex", "/v1../admin", options={"regex": "/v[0-9]"})
        self.assertEqual((client.status, seen), (400, ""))


class RedirectRegexTests(SynchronousTestCase):
    def location(self, target: str, regex: str, replacement: str, **more: Any) -> tuple[int, bytes | None]:
        options = {"regex": regex, "replacement": replacement, "permanent": more.pop("permanent", "false")}
        client, _, _ = ask("redirectRegex", target, options=options, **more)
        return client.status, client.value(b"Location")

    def test_redirected(self) -> None:
        """A URL that matches is sent to what the replacement makes of it."""
        self.assertEqual(
            self.location("/old/z?k", "^http://([^/]*)/old/(.*)", "https://$1/new/${2}", host="rx"),
            (302, b"https://rx/new/z?k"),
        )
        self.assertEqual(
            self.location("/z%20q?q", "^http://d/(.*)", "http://d/é/$1x ${1}x $$ $", host="d"),
            (302, b"http://d/%C3%A9/%20z%20q?qx%20$%20$"),
        )
        self.assertEqual(
            self.location("/x/old/old?old", "/old", "/new", host="h:8080", permanent="true"),
            (301, b"http://h:8080/x/new/new?old"),
        )

    def test_methods(self) -> None:
        """Other methods are repeated as they were."""
        self.assertEqual(self.location("/old", "/old", "/new", method="POST")[0], 307)
        self.assertEqual(self.location("/old", "/old", "/new", method="POST", permanent="true")[0], 308)

    def test_default_port(self) -> None:
        """The scheme's own port is no part of the URL."""
        self.assertEqual(self.location("/", "^http://h/", "http://g/", host="h:80")[1], b"http://g/")
        self.assertEqual(self.location("/", "^https://h/", "http://g/", host="h:443", secure=True)[1], b"http://g/")

    def test_passes(self) -> None:
        """What doesn't match, or stays the same, passes."""
        self.assertEqual(self.location("/a", "/b", "/c"), (200, None))
        self.assertEqual(self.location("/a", "/a", "/a"), (200, None))

    def test_no_forged_fields(self) -> None:
        """A replacement can't end the line that it is written in."""
        _, location = self.location("/a", "/a$", "/\r\nX: y")
        self.assertEqual(location, b"http://a.example/%0D%0AX:%20y")


class PatternTests(SynchronousTestCase):
    def expand(self, replacement: str, regex: str, text: str) -> str:
        pattern = pattern_of(regex, "regex")
        result: str = pattern.sub(replacement_of(replacement, pattern, lambda part: part), text)
        return result

    def test_as_go(self) -> None:
        """Replacements are read as Go reads them."""
        for replacement, expected in (
            ("$1", "b"),
            ("${1}x", "bx"),
            ("$1x", ""),
            ("$0$0", "abab"),
            ("$name", "b"),
            ("${name}s", "bs"),
            ("$names", ""),
            ("$9", ""),
            ("$$1", "$1"),
            ("$", "$"),
            ("$-", "$-"),
            ("${1", "${1"),
            ("${}", "${}"),
            ("\\1", "\\1"),
            ("$2", ""),
        ):
            self.assertEqual(self.expand(replacement, "a(?P<name>b)(c)?", "ab"), expected, replacement)
