"""``errors``: in place of answers with certain statuses clients get a page of another service.

The service is asked with GET, with the request's header fields and without its body. The client gets its page with the
status of the answer that it takes the place of, or with the one that *statusRewrites* has for that; whatever status the
page itself has. Also answers of middlewares after this one, and of the gate for servers that can't be reached, are
replaced. A service that there isn't keeps the routers from being in force.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

import attrs

from swarmgate.http.between import Between, Relay
from swarmgate.http.exchange import reason_of
from swarmgate.http.message import Request, Response
from swarmgate.middlewares.fields import name_of
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.structure import StatusRange, option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Client, Exchange

KIND = "errors"

#: Fields that say under which conditions, or in which part, the client wants what it has asked for.
_OF_THE_ANSWER = frozenset(
    (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range", b"range")
)


@attrs.frozen
class Settings:
    """Options of ``errors``."""

    status: tuple[StatusRange, ...] = option(default=(), doc="Statuses of answers that are replaced, as ``500-599``.")
    service: str = option(doc="The service that has the pages.")
    query: str = option(
        default="/",
        doc="The page: a path, perhaps with a query. ``{status}`` is the status that the client gets, "
        "``{originalStatus}`` the one before *statusRewrites*, ``{url}`` what was asked for, escaped.",
    )
    status_rewrites: Mapping[str, int] = option(
        factory=dict, doc="The status that clients get in place of one, or of a range of them, as ``500-504``."
    )
    error_request_headers: tuple[str, ...] | None = option(
        default=None, doc="Fields of the request that the service is asked with; not given: all."
    )


class Errors(Middleware):
    """Has answers replaced."""

    __slots__ = ("_answer", "_names", "_query", "_rewrites", "_service", "_statuses")

    def __init__(self, settings: Settings, answer: Callable[[str, Exchange], None]) -> None:
        """
        :param answer: has a service answer, see :class:`~swarmgate.middlewares.interface.Context`.
        """
        self._answer = answer
        self._service = settings.service
        self._statuses = settings.status
        self._query = settings.query if settings.query.startswith("/") else f"/{settings.query}"
        self._rewrites = [_rewrite(given, status) for given, status in settings.status_rewrites.items()]
        names = settings.error_request_headers
        self._names = None if names is None else {name_of(one, "errorRequestHeaders").lower() for one in names}

    def take(self, exchange: Exchange, response: Response) -> _Replacement | None:
        if not any(response.status in one for one in self._statuses):
            return None
        return _Replacement(exchange.client, self)

    def replace(self, exchange: Exchange, original: int) -> None:
        """Answer *exchange* with the page for *original*, its answer's status."""
        status = next((one for statuses, one in self._rewrites if original in statuses), original)
        page = _Page(self._request_of(exchange.request, original, status), exchange, status)
        page.ask(self._ask)

    def _ask(self, exchange: Exchange) -> None:
        self._answer(self._service, exchange)

    def _request_of(self, request: Request, original: int, status: int) -> Request:
        asked = request.path if request.asked_path is None else request.asked_path
        if request.query is not None:
            asked += b"?" + request.query
        target = (
            self._query.replace("{status}", str(status))
            .replace("{originalStatus}", str(original))
            .replace("{url}", quote_plus(asked))
        )
        path, mark, query = target.partition("?")
        fields = [
            pair
            for pair in request.fields
            if pair[0].lower() not in _OF_THE_ANSWER and (self._names is None or pair[0].lower() in self._names)
        ]
        page = Request(
            b"GET",
            path.encode("ascii"),
            query.encode("ascii") if mark else None,
            1,
            request.authority,
            request.host,
            fields,
        )
        page.client_ip, page.secure, page.scheme = request.client_ip, request.secure, request.scheme
        page.forwarded_for = request.forwarded_for
        return page


def _rewrite(given: str, status: int) -> tuple[StatusRange, int]:
    try:
        statuses = StatusRange.from_text(given)
    except ValueError as error:
        raise ValueError(f"statusRewrites.{given}: expected {error}") from None
    if not 200 <= status <= 599:
        raise ValueError(f"statusRewrites.{given}: {status}, expected a status from 200 to 599")
    return statuses, status


class _Replacement(Between):
    """Takes the answer that is to be replaced."""

    def __init__(self, client: Client, step: Errors) -> None:
        Between.__init__(self, client)
        self._step = step

    def send_head(self, exchange: Exchange, response: Response, data: bytes, done: bool) -> None:
        exchange.cancel_server()
        exchange.take_back()
        self._step.replace(exchange, response.status)


class _Page(Relay):
    """A page on its way to the client."""

    def __init__(self, request: Request, outer: Exchange, status: int) -> None:
        Relay.__init__(self, request, outer)
        self._status = status

    def began(self, response: Response, data: bytes, done: bool) -> None:
        if done:
            # A page without a body, such as a 304, may tell of the length that one would have.
            response.length = len(data)
        Relay.began(self, response, data, done)

    def changed(self, response: Response) -> None:
        response.status, response.reason = self._status, reason_of(self._status)


def build(settings: Settings, context: Context) -> Middleware:
    """The step for one route.

    :raises ValueError: options can't be followed.
    """
    if not settings.query.isascii() or any(one.isspace() or not one.isprintable() for one in settings.query):
        raise ValueError(f"query: {settings.query!r}, expected a path such as /{{status}}.html, without spaces")
    if "#" in settings.query:
        raise ValueError(f"query: {settings.query!r}, expected a path without #")
    return Errors(settings, context.answer)
