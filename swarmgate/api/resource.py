"""The API as a twisted.web resource: ``api@internal``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

import attrs
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from swarmgate.api import views
from swarmgate.api.feed import Feed
from swarmgate.api.views import BadQuestion, Known
from swarmgate.why.requests import question, why
from swarmgate.why.services import why_service

LISTS: dict[str, Callable[[Known], list[dict[str, Any]]]] = {
    "/api/entrypoints": views.entry_points,
    "/api/http/routers": views.routers,
    "/api/http/services": views.services,
    "/api/http/middlewares": views.middlewares,
}
"""What is given in pages, and item by item."""

DOCUMENTS: dict[str, Callable[[Known], Any]] = {
    "/api/overview": views.overview,
    "/api/version": views.version,
    "/api/rawdata": views.raw_data,
    "/api/swarm": views.swarm,
}
"""What is given as a whole."""


class ApiResource(Resource):
    """Answers GET and HEAD below ``/api``.

    :param known: what the gate knows now.
    """

    isLeaf = True

    def __init__(self, known: Callable[[], Known], feed: Feed) -> None:
        Resource.__init__(self)
        self._known = known
        self._feed = feed

    def render(self, request: Any) -> Any:
        path, _, _ = request.uri.partition(b"?")
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD")
            return self._answer(request, 405, {"message": "expected GET or HEAD"})
        if path == b"/api/events" and request.method == b"GET":
            if self._feed.show(request):
                return NOT_DONE_YET
            return self._answer(request, 503, {"message": "too many viewers"})
        query = {
            name.decode("utf-8", "replace"): [value.decode("utf-8", "replace") for value in values]
            for name, values in request.args.items()
        }
        try:
            status, value, next_page = answer(path.decode("utf-8", "replace"), query, self._known())
        except (BadQuestion, ValueError) as error:
            return self._answer(request, 400, {"message": str(error)})
        if next_page:
            request.setHeader(b"X-Next-Page", b"%d" % next_page)
        return self._answer(request, status, value)

    @staticmethod
    def _answer(request: Any, status: int, value: Any) -> bytes:
        request.setResponseCode(status)
        request.setHeader(b"Content-Type", b"application/json")
        request.setHeader(b"Cache-Control", b"no-store")
        body = json.dumps(value, separators=(",", ":")).encode()
        request.setHeader(b"Content-Length", b"%d" % len(body))
        return b"" if request.method == b"HEAD" else body


def answer(path: str, query: dict[str, list[str]], known: Known) -> tuple[int, Any, int]:
    """Status, value and number of the next page (0 where there are no pages) for a path with a query.

    :raises ValueError: the query can't be understood; the text says why.
    """
    path = path.rstrip("/")
    if path in DOCUMENTS:
        return 200, DOCUMENTS[path](known), 0
    if path in LISTS:
        items, next_page = views.page(LISTS[path](known), {name: values[-1] for name, values in query.items()})
        return 200, items, next_page
    if path == "/api/why":
        return 200, _why(query, known), 0
    if path == "/api/openapi.json":
        return 200, openapi(), 0
    of, _, name = path.rpartition("/")
    if of in LISTS:
        wanted = unquote(name)
        for item in LISTS[of](known):
            if item["name"] == wanted:
                return 200, item, 0
        return 404, {"message": f"{of.rpartition('/')[2]}: there is no {wanted}"}, 0
    return 404, {"message": f"there is nothing at {path}; /api/openapi.json tells what there is"}, 0


def _why(query: dict[str, list[str]], known: Known) -> Any:
    names = query.get("service")
    if names:
        if known.world is None:
            raise BadQuestion("service: this gate looks at no Swarm")
        findings = why_service(names[-1], known.world)
        return {"service": names[-1], "findings": [attrs.asdict(one) for one in findings]}
    urls = query.get("url")
    if not urls:
        raise BadQuestion("expected url=https://shop.example/path or service=NAME")
    asked = question(urls[-1], query.get("method", ["GET"])[-1], query.get("header", ()), query.get("client", [""])[-1])
    ports = {name: _port(address) for name, address in known.entry_points.items()}
    answers = why(asked, known.table, ports, known.reasons, views.absent_tasks(known))
    return {"answers": [{**attrs.asdict(one), "sentences": list(one.sentences())} for one in answers]}


def _port(address: str) -> int:
    text = address.partition("/")[0].rpartition(":")[2]
    return int(text) if text.isdecimal() else 0


def openapi() -> Any:
    """The OpenAPI document of what is served."""

    def operation(summary: str, parameters: Sequence[str], required: str = "", kind: str = "application/json") -> Any:
        return {
            "get": {
                "summary": summary,
                "parameters": [
                    {
                        "name": name,
                        "in": "path" if name == required else "query",
                        "required": name == required,
                        "schema": {"type": "array", "items": {"type": "string"}}
                        if name == "header"
                        else {"type": "string"},
                    }
                    for name in parameters
                ],
                "responses": {
                    "200": {"description": "OK", "content": {kind: {"schema": {}}}},
                    "400": {"description": "the query can't be understood"},
                    "404": {"description": "there is no such thing"},
                    "503": {"description": "too many viewers"},
                },
            }
        }

    paths: dict[str, Any] = {}
    for path, show in DOCUMENTS.items():
        paths[path] = operation(_summary(show), ())
    for path, show_list in LISTS.items():
        paths[path] = operation(_summary(show_list), ("search", "status", "page", "per_page"))
        paths[f"{path}/{{name}}"] = operation(f"One of {path}", ("name",), "name")
    paths["/api/why"] = operation(
        "What becomes of a request, or why a service is not routed", ("url", "method", "header", "client", "service")
    )
    paths["/api/events"] = operation("Changes as they happen", (), kind="text/event-stream")
    paths["/api/openapi.json"] = operation("This document", ())
    return {"openapi": "3.1.0", "info": {"title": "swarmgate", "version": "1"}, "paths": paths}


def _summary(view: Callable[[Known], Any]) -> str:
    return (view.__doc__ or "").strip().partition("\n")[0]
