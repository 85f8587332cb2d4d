"""Tests for swarmgate.dashboard."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.test.requesthelper import DummyRequest

from swarmgate.api.feed import Feed
from swarmgate.api.resource import ApiResource
from swarmgate.api.views import Known
from swarmgate.dashboard.resource import DashboardResource, read_files
from swarmgate.dynamic.table import RoutingTable


def asked(resource: Resource, path: bytes, method: bytes = b"GET", **headers: bytes) -> tuple[DummyRequest, bytes]:
    """The request of *path* after its answer, and the answer's body."""
    request: Any = DummyRequest([])
    request.method = method
    request.uri = path
    for name, value in headers.items():
        request.requestHeaders.setRawHeaders(name.replace("_", "-"), [value])
    return request, resource.render(request)


class DashboardTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.resource = DashboardResource()

    def test_page(self) -> None:
        """The page and all that it names are there, and nothing is loaded from elsewhere."""
        request, page = asked(self.resource, b"/dashboard/?x=1")
        self.assertEqual(request.responseHeaders.getRawHeaders("content-type"), ["text/html; charset=utf-8"])
        named = set(re.findall(rb'(?:src|href)="([a-z][^":]*)"', page))
        self.assertGreaterEqual(named, {b"app.js", b"style.css", b"icon.svg"})
        for name in named:
            request, body = asked(self.resource, b"/dashboard/" + name)
            self.assertTrue(body, name)
            self.assertIsNone(re.search(rb'(?:src|href|from|url\()\s*["(]?https?://', body), name)
            (policy,) = request.responseHeaders.getRawHeaders("content-security-policy")
            self.assertIn("default-src 'none'", policy)

    def test_licences(self) -> None:
        """The licences of what others have made of the page come with it."""
        request, text = asked(self.resource, b"/dashboard/licences.txt")
        self.assertEqual(request.responseHeaders.getRawHeaders("content-type"), ["text/plain; charset=utf-8"])
        for name in (b"preact ", b"uplot ", b"@preact/signals "):
            self.assertIn(name, text)

    def test_redirects(self) -> None:
        """Who asks for the root is sent to the page, below the prefix that a middleware has taken off."""
        for prefix, there in (
            (b"", "/dashboard/"),
            (b"/gate/", "/gate/dashboard/"),
            (b"//evil.example", "/dashboard/"),
        ):
            request, _ = asked(self.resource, b"/", X_Forwarded_Prefix=prefix)
            self.assertEqual(request.responseCode, 302)
            self.assertEqual(request.responseHeaders.getRawHeaders("location"), [there])
        self.assertEqual(asked(self.resource, b"/dashboard")[0].responseCode, 302)

    def test_not_there(self) -> None:
        """Nothing but the page's own files is given out."""
        for path in (b"/other", b"/dashboard/../resource.py", b"/dashboard/resource.py", b"/dashboard//etc/passwd"):
            self.assertEqual(asked(self.resource, path)[0].responseCode, 404, path)

    def test_unchanged(self) -> None:
        """A browser that has a file asks whether it is still so, and is not sent it again."""
        request, _ = asked(self.resource, b"/dashboard/app.js")
        (tag,) = request.responseHeaders.getRawHeaders("etag")
        request, body = asked(self.resource, b"/dashboard/app.js", If_None_Match=tag.encode())
        self.assertEqual((request.responseCode, body), (304, b""))

    def test_methods(self) -> None:
        """Only GET and HEAD are answered, HEAD without a body."""
        self.assertEqual(asked(self.resource, b"/dashboard/", b"POST")[0].responseCode, 405)
        request, body = asked(self.resource, b"/dashboard/", b"HEAD")
        self.assertEqual(body, b"")
        length = len(read_files()[b""].content)
        self.assertEqual(request.responseHeaders.getRawHeaders("content-length"), [str(length)])

    def test_beside_the_api(self) -> None:
        """api@internal answers /dashboard/ too, as routers of Traefik's users expect, unless it is switched off."""
        feed = Feed(Clock())
        nothing: Any = None
        api = ApiResource(lambda: nothing, feed, dashboard=self.resource)
        self.assertIn(b"<title>swarmgate</title>", asked(api, b"/dashboard/")[1])
        request, _ = asked(ApiResource(lambda: Known(RoutingTable(), {}, {}, "1"), feed), b"/dashboard/")
        self.assertEqual(request.responseCode, 404)
