"""The API as a twisted.web resource: ``api@internal``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import attrs
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from swarmgate.api import views
from swarmgate.api.feed import Feed
from swarmgate.api.openapi import openapi
from swarmgate.api.operations import Asking, NotAllowed, Operations, authenticated, check_origin, client_of, failure_of
from swarmgate.api.operations import operation_of as _operation_of
from swarmgate.api.targets import targets
from swarmgate.api.views import BadQuestion, Known
from swarmgate.providers.swarm.interface import ISwarm
from swarmgate.providers.swarm.operate import Log
from swarmgate.providers.swarm.snapshot import Task
from swarmgate.why.disabled import disabled
from swarmgate.why.requests import question, why
from swarmgate.why.services import why_service

LISTS: dict[str, Callable[[Known], list[dict[str, Any]]]] = {
    "/api/entrypoints": views.entry_points,
    "/api/http/routers": views.routers,
    "/api/http/services": views.services,
    "/api/http/middlewares": views.middlewares,
    "/api/certificates": views.certificates,
}
"""What is given in pages, and item by item."""

DOCUMENTS: dict[str, Callable[[Known], Any]] = {
    "/api/overview": views.overview,
    "/api/version": views.version,
    "/api/rawdata": views.raw_data,
    "/api/swarm": views.swarm,
    "/api/traffic": views.traffic,
    "/api/replicas": lambda known: {"replicas": []},
    "/api/prometheus/targets": targets,
    "/api/openapi.json": lambda known: openapi(),
}
"""What is given as a whole."""

_FIELDS = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))
OPERATIONS = b"/api/operations"
_SERVICES, _LOGS = "/api/swarm/services/", "/logs"
_WITH_NUMBERS = ("/api/http/services", "/api/rawdata", "/api/swarm")
_MAYBE_SILENT = ("/api/traffic", "/api/rawdata")
"""What is given with more than a body, or asked for elsewhere."""
_FRESH = 0.5  # Seconds for which an answer about the same table and Swarm is given again.
_FAILED_FRESH = 3.0  # Seconds between two questions for tasks that have failed.
_MOST_LINES = 1000


class Recent:
    """What is known, made anew when the table or the Swarm has changed, and else after half a second.

    :param known: makes it.
    :param marks: what it is made of: as long as these are the same objects, only numbers change.
    """

    def __init__(
        self, known: Callable[[], Known], marks: Callable[[], tuple[object, ...]], seconds: Callable[[], float]
    ) -> None:
        self._known = known
        self._marks = marks
        self._seconds = seconds
        self._last: Known | None = None
        self._seen: tuple[object, ...] = ()
        self._until = 0.0

    def __call__(self) -> Known:
        marks, now = self._marks(), self._seconds()
        is_same = len(marks) == len(self._seen) and all(a is b for a, b in zip(marks, self._seen, strict=True))
        if self._last is None or not is_same or now >= self._until:
            made = self._known()
            if self._last is not None and made.table is self._last.table and is_same:
                made = attrs.evolve(made, of_table=self._last.of_table)
            self._last, self._seen, self._until = made, marks, now + _FRESH
        return self._last


@attrs.frozen
class Alone:
    """What this replica knows by itself, where others are of the whole gate.

    :ivar known: gives it.
    :ivar measured: gives what ``/api/traffic`` says of it.
    """

    known: Callable[[], Known]
    measured: Callable[[], Deferred[bytes]]


class ApiResource(Resource):
    """Answers what is below ``/api``.

    :param known: what the gate knows now.
    :param swarm: asked for logs and failed tasks, None without one.
    :param operations: None: they are off.
    :param seconds: a clock's.
    :param dashboard: answers what is below ``/dashboard``, None for nobody.
    :param measured: gives what ``/api/traffic`` says, of which others show parts; None: as it is known.
    :param viewed: called when somebody looks at the Swarm.
    :param alone: the same of this replica alone, for ``?replica=self``; None: there are no others.
    :param replicas: gives what ``/api/replicas`` lists; None: nothing.
    """

    isLeaf = True

    def __init__(
        self,
        known: Callable[[], Known],
        feed: Feed,
        swarm: ISwarm | None = None,
        operations: Operations | None = None,
        seconds: Callable[[], float] = lambda: 0.0,
        dashboard: Resource | None = None,
        measured: Callable[[], Deferred[bytes]] | None = None,
        viewed: Callable[[], None] = lambda: None,
        alone: Alone | None = None,
        replicas: Callable[[], Deferred[list[dict[str, Any]]]] | None = None,
    ) -> None:
        Resource.__init__(self)
        self._known = known
        self._feed = feed
        self._swarm = swarm
        self._operations = operations
        self._seconds = seconds
        self._dashboard = dashboard
        self._measured = measured
        self._viewed = viewed
        self._alone = alone
        self._replicas = replicas
        self._failed: tuple[Task, ...] = ()
        self._failed_until = -1.0
        self._failed_asked: Deferred[tuple[Task, ...]] | None = None

    def render(self, request: Any) -> Any:
        path, _, _ = request.uri.partition(b"?")
        if self._dashboard is not None and path.startswith(b"/dashboard"):
            return self._dashboard.render(request)
        if path.rstrip(b"/") == OPERATIONS:
            return self._operate(request)
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD")
            return self._answer(request, 405, {"message": "expected GET or HEAD"})
        text = path.decode("utf-8", "replace").rstrip("/")
        try:
            query = {
                name.decode("utf-8", "replace"): [value.decode("utf-8", "replace") for value in values]
                for name, values in request.args.items()
            }
            known, measured = self._of(query.pop("replica", None))
            if path == b"/api/events":
                return self._events(request)
            if text.startswith(_SERVICES) and text.endswith(_LOGS):
                return self._log(request, unquote(text[len(_SERVICES) : -len(_LOGS)]), query)
            if text == "/api/traffic" and not query and measured is not None:
                return self._later(request, measured().addCallback(lambda body: (200, body)))
            if text == "/api/replicas" and self._replicas is not None:
                listed = self._replicas()
                return self._later(request, listed.addCallback(lambda found: (200, _encoded({"replicas": found}))))
            if text == "/api/swarm":
                self._viewed()
            if text == "/api/swarm" and self._swarm is not None:
                asked: list[Deferred[Any]] = [self._ask_for_failed()]
                if measured is not None:
                    asked.append(measured())
                both = gatherResults(asked, consumeErrors=True)
                return self._later(request, both.addCallback(lambda found: self._show_swarm(found[0], known())))
            if text.startswith(_WITH_NUMBERS) and measured is not None:
                answer_ = measured().addCallback(lambda _: self._tell(request, text, query, known()))
                return self._later(request, answer_)
        except (BadQuestion, ValueError) as error:
            return self._answer(request, 400, {"message": str(error)})
        return self._send(request, *self._tell(request, text, query, known()))

    def written(self, path: bytes) -> bytes | None:
        """The whole document at *path*, if it has been written for what is known now."""
        text = path.decode("utf-8", "replace")
        if text not in DOCUMENTS or text in _MAYBE_SILENT:
            return None
        if text == "/api/swarm":
            self._viewed()
        return self._known().of_moment.get(text)

    def _of(self, replica: list[str] | None) -> tuple[Callable[[], Known], Callable[[], Deferred[bytes]] | None]:
        """What is known, and measured, of the whole gate or of this replica alone.

        :raises BadQuestion: the query means neither.
        """
        if replica is None:
            return self._known, self._measured
        if replica[-1] != "self":
            raise BadQuestion(f"replica={replica[-1]:.40}: expected self")
        return (self._known, self._measured) if self._alone is None else (self._alone.known, self._alone.measured)

    def _tell(self, request: Any, text: str, query: dict[str, list[str]], known: Known) -> tuple[int, bytes]:
        """Status and body for a path with a query, from what is known."""
        if text.startswith(_WITH_NUMBERS):
            silent = views.traffic(known).get("silent")
            if silent:
                request.setHeader(b"X-Silent-Replicas", ", ".join(silent).encode("ascii", "replace"))
        try:
            if text in DOCUMENTS and not query:
                body: bytes | None = known.of_moment.get(text)
                if body is None:
                    body = known.of_moment[text] = _encoded(answer(text, {}, known)[1])
                return 200, body
            status, value, next_page = answer(text, query, known)
        except (BadQuestion, ValueError) as error:
            return 400, _encoded({"message": str(error)})
        if next_page:
            request.setHeader(b"X-Next-Page", b"%d" % next_page)
        return status, _encoded(value)

    def _events(self, request: Any) -> Any:
        if request.method == b"HEAD":
            request.setHeader(b"Content-Type", b"text/event-stream")
            return b""
        if self._feed.show(request):
            return NOT_DONE_YET
        return self._answer(request, 503, {"message": "too many viewers"})

    # Of the Swarm.

    def _ask_for_failed(self) -> Deferred[tuple[Task, ...]]:
        """The tasks that have failed, asked for now and then; those known before where that fails."""
        waiting: Deferred[tuple[Task, ...]] = Deferred()
        if self._seconds() < self._failed_until or self._swarm is None:
            return succeed(self._failed)
        if self._failed_asked is not None:
            self._failed_asked.chainDeferred(waiting)
            return waiting
        shared: Deferred[tuple[Task, ...]] = Deferred()
        self._failed_asked = shared
        shared.chainDeferred(waiting)

        def arrived(tasks: tuple[Task, ...] | None) -> None:
            self._failed = self._failed if tasks is None else tasks
            self._failed_until = self._seconds() + _FAILED_FRESH
            self._failed_asked = None
            shared.callback(self._failed)

        self._swarm.failed().addErrback(lambda _: None).addCallback(arrived)
        return waiting

    def _show_swarm(self, failed: tuple[Task, ...], known: Known) -> tuple[int, bytes]:
        body = known.of_moment.get("/api/swarm")
        if body is None:
            body = known.of_moment["/api/swarm"] = _encoded(views.swarm(known, failed))
        return 200, body

    def _log(self, request: Any, service: str, query: dict[str, list[str]]) -> Any:
        if not self._known().logs:
            return self._answer(request, 403, {"message": "api.logs is false: set it to show what services log"})
        tail = views.positive({name: values[-1] for name, values in query.items()}, "tail", 200)
        if tail > _MOST_LINES:
            raise BadQuestion(f"tail={tail}: expected a whole number from 1 to {_MOST_LINES}")
        search, task = query.get("search", [""])[-1].lower(), query.get("task", [""])[-1]
        world = self._known().world
        if self._swarm is None or world is None:
            return self._answer(request, 404, {"message": "this gate looks at no Swarm"})
        if not any(service in (one.name, one.id) for one in world.snapshot.services):
            return self._answer(request, 404, {"message": f"the Swarm has no service {service}"})
        if task and not ((task.isascii() and task.isalnum()) or task in {one.id for one in world.snapshot.tasks}):
            return self._answer(request, 404, {"message": f"{service} has no task {task}"})
        # What is searched for may be further up.
        asked = self._swarm.log(service, _MOST_LINES if search else tail, task)
        return self._later(request, asked.addCallback(self._show_log, search, tail))

    def _show_log(self, log: Log, search: str, tail: int) -> tuple[int, bytes]:
        world = self._known().world
        hosts = {node.id: node.hostname for node in world.snapshot.nodes} if world is not None else {}
        lines = [
            {**attrs.asdict(line), "node": hosts.get(line.node, line.node)}
            for line in log.lines
            if search in line.text.lower()
        ]
        return 200, _encoded({"lines": lines[-tail:], "complete": log.is_complete})

    # Operations.

    def _operate(self, request: Any) -> Any:
        if request.method != b"POST":
            request.setHeader(b"Allow", b"POST")
            return self._answer(request, 405, {"message": "expected POST"})
        exchange = getattr(request, "exchange", None)
        asking = Asking("", "" if exchange is None else client_of(exchange))
        try:
            if self._operations is None:
                raise NotAllowed(403, "operations are off: set api.operations to true")
            asking = Asking(authenticated(exchange, self._known().table), asking.client)
            check_origin(request.getHeader)
            operation = _operation_of(request.content.read())
        except NotAllowed as refusal:
            if self._operations is not None:
                self._operations.note(asking, {"operation": ""}, refusal.status, refusal.reason)
            return self._answer(request, refusal.status, {"message": refusal.reason})
        done = self._operations.do(operation, asking)
        return self._later(request, done.addCallback(lambda told: (told[0], _encoded({"message": told[1]}))))

    # How it is answered.

    def _later(self, request: Any, result: Deferred[tuple[int, bytes]]) -> Any:
        """Answer with a status and a body that are still to come."""
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def told(answer: tuple[int, bytes]) -> None:
            if not gone:
                request.write(self._send(request, *answer))
                request.finish()

        result.addErrback(_failed)
        result.addCallback(told)
        return NOT_DONE_YET

    def _answer(self, request: Any, status: int, value: Any) -> bytes:
        return self._send(request, status, _encoded(value))

    @staticmethod
    def _send(request: Any, status: int, body: bytes) -> bytes:
        request.setResponseCode(status)
        for name, value in _FIELDS:
            request.setHeader(name, value)
        request.setHeader(b"Content-Length", b"%d" % len(body))
        return b"" if request.method == b"HEAD" else body


class ApiLeaf:
    """Answers what many ask for, as open dashboards do, with what has been written already; else *others* answer.

    :param name: the qualified name of the service.
    :param written: gives a document, None if it isn't written; see :meth:`ApiResource.written`.
    """

    def __init__(self, name: str, written: Callable[[bytes], bytes | None], others: Any) -> None:
        self._name = name
        self._written = written
        self._others = others

    def serve(self, exchange: Any) -> None:
        """Answer *exchange*."""
        request = exchange.request
        if request.method == b"GET" and request.query is None and exchange.body_done:
            body = self._written(request.path)
            if body is not None:
                exchange.service = self._name
                exchange.answer(200, body, _FIELDS)
                return
        self._others.serve(exchange)


def _failed(failure: Failure) -> tuple[int, bytes]:
    status, message = failure_of(failure)
    return status, _encoded({"message": message})


def _encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


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
            raise BadQuestion("service: this gate looks at no Swarm, whose services it would tell of; expected url=")
        findings = why_service(names[-1], known.world)
        return {"service": names[-1], "findings": [attrs.asdict(one) for one in findings]}
    urls = query.get("url")
    if not urls:
        raise BadQuestion("expected url=https://shop.example/path or service=NAME")
    asked = question(urls[-1], query.get("method", ["GET"])[-1], query.get("header", ()), query.get("client", [""])[-1])
    ports = {name: _port(address) for name, address in known.entry_points.items()}
    answers = why(asked, known.table, ports, known.reasons, views.absent_tasks(known), known.paths)
    told = [{**attrs.asdict(one), "is_routed": one.is_routed, "sentences": list(one.sentences())} for one in answers]
    unfit = disabled(asked, known.table, known.configurations, known.world)
    return {"answers": told, "disabled": [{**attrs.asdict(one), "sentence": one.sentence()} for one in unfit]}


def _port(address: str) -> int:
    text = address.partition("/")[0].rpartition(":")[2]
    return int(text) if text.isdecimal() else 0
