"""Applications that tell what they saw: for servers that speak ASGI and for those that speak WSGI."""

from __future__ import annotations

import itertools
from hashlib import sha1
from typing import Any

_numbers = itertools.count(1)


def told(number: int, method: bytes, target: bytes, host: bytes, body: bytes) -> bytes:
    """The field that tells it."""
    return b"|".join((b"%d" % number, method, target, host, b"%d" % len(body), sha1(body).hexdigest().encode()))


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The application of an ASGI server."""
    number = next(_numbers)
    body, more = b"", True
    while more:
        event = await receive()
        if event["type"] != "http.request":
            return
        body += event.get("body", b"")
        more = event.get("more_body", False)
    host = b",".join(value for name, value in scope["headers"] if name == b"host")
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    saw = told(number, scope["method"].encode(), target, host, body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-saw", saw), (b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The application of a WSGI server."""
    number = next(_numbers)
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI", "")
    source = environ["wsgi.input"]
    if environ.get("wsgi.input_terminated"):
        body = source.read()
    else:
        body = source.read(int(environ.get("CONTENT_LENGTH") or 0))
    saw = told(
        number,
        environ["REQUEST_METHOD"].encode(),
        target.encode("latin-1"),
        environ.get("HTTP_HOST", "").encode("latin-1"),
        body,
    )
    start_response("200 OK", [("X-Saw", saw.decode("latin-1")), ("Content-Length", "0")])
    return [b""]
