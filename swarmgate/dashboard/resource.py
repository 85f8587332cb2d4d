"""Serves the dashboard from the package: ``/dashboard/``, and a redirect to it from elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.web.resource import Resource

_FILES = Path(__file__).parent / "static"
_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
}
#: Nothing is loaded from elsewhere, and nobody frames it.
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@attrs.frozen
class StaticFile:
    """A file of the page.

    :ivar tag: its entity tag (RFC 9110, 8.8.3).
    """

    content: bytes = attrs.field(repr=False)
    content_type: bytes
    tag: bytes


def read_files(folder: Path = _FILES) -> dict[bytes, StaticFile]:
    """The files of the page by their paths below ``/dashboard/``; ``b""`` is the page itself."""
    files = {}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        tag = b'"%b"' % hashlib.sha256(content).hexdigest()[:16].encode("ascii")
        files[path.name.encode()] = StaticFile(content, _TYPES[path.suffix], tag)
    files[b""] = files.pop(b"index.html")
    return files


class DashboardResource(Resource):
    """Answers what is below ``/dashboard/``, and sends whoever asks for the root there."""

    isLeaf = True

    def __init__(self, files: Mapping[bytes, StaticFile] | None = None) -> None:
        Resource.__init__(self)
        self._files = read_files() if files is None else files

    def render(self, request: Any) -> bytes:
        path, _, _ = request.uri.partition(b"?")
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD")
            return self._text(request, 405, b"expected GET or HEAD\n")
        if path in (b"/", b"/dashboard"):
            prefix = (request.getHeader(b"X-Forwarded-Prefix") or b"").rstrip(b"/")
            # Only a path of this very host: two slashes would lead elsewhere.
            prefix = prefix if prefix.startswith(b"/") and not prefix.startswith((b"//", b"/\\")) else b""
            request.setHeader(b"Location", prefix + b"/dashboard/")
            return self._text(request, 302, b"")
        file = self._files.get(path.removeprefix(b"/dashboard/")) if path.startswith(b"/dashboard/") else None
        if file is None:
            return self._text(request, 404, b"404 page not found\n")
        request.setHeader(b"ETag", file.tag)
        request.setHeader(b"Cache-Control", b"no-cache")
        request.setHeader(b"Content-Security-Policy", _POLICY)
        request.setHeader(b"X-Content-Type-Options", b"nosniff")
        request.setHeader(b"Referrer-Policy", b"no-referrer")
        if request.getHeader(b"If-None-Match") == file.tag:
            request.setResponseCode(304)
            return b""
        request.setHeader(b"Content-Type", file.content_type)
        request.setHeader(b"Content-Length", b"%d" % len(file.content))
        return b"" if request.method == b"HEAD" else file.content

    @staticmethod
    def _text(request: Any, status: int, text: bytes) -> bytes:
        request.setResponseCode(status)
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        return b"" if request.method == b"HEAD" else text
