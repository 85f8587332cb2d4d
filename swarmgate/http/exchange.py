"""One request and its answer on their way through the gate.

An exchange stands between a client, whose connection it came over, and whatever answers: a server's connection, a
middleware, a resource of the gate. Either side tells it what has come, and it passes that on to the other through
the route's middlewares. It knows no HTTP version: an HTTP/1.1 connection is a client, and so is any stream of
another protocol that has :class:`Client`'s methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from http.client import responses
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from swarmgate.http.message import UNKNOWN, Fields, Request, Response
from swarmgate.http.moment import moment

if TYPE_CHECKING:
    from swarmgate.middlewares.interface import BodyTransform

_log = Logger()

PLAIN_TEXT = (b"Content-Type", b"text/plain; charset=utf-8")
NO_SNIFFING = (b"X-Content-Type-Options", b"nosniff")
#: What is not told of an exchange, as flags that are added up.
NOT_LOGGED, NOT_COUNTED, NOT_TRACED = 1, 2, 4
#: What is answered for a server that has not answered.
_OF_SERVERS = (502, 504)
#: What is logged for a request whose client left before the answer began (nginx, Traefik).
CLIENT_CLOSED_REQUEST = 499


class Client(Protocol):
    """Where a request came from and its answer goes to."""

    def send_head(self, exchange: Exchange, response: Response, data: bytes, done: bool) -> None:
        """Begin the answer with *data*, the first of its body; *done*: and the whole of it."""

    def send_interim(self, response: Response) -> None:
        """Send an informational (1xx) answer."""

    def send_data(self, data: bytes) -> None:
        """Send a piece of the answer's body, not empty."""

    def send_end(self, trailers: Fields) -> None:
        """End the answer."""

    def abort(self) -> None:
        """Break the answer off, so that it cannot be taken for a whole one."""

    def switch(self, response: Response, server: Any) -> None:
        """Answer 101 and pass octets both ways from now on."""

    def feed_from(self, producer: Any) -> None:
        """Pause and resume *producer*, a push producer of the answer, as the client takes it; None for no more."""

    def pause_body(self) -> None:
        """Take no more of the request's body for now."""

    def resume_body(self) -> None:
        """Take the request's body again."""


class Waiting(Protocol):
    """What an exchange waits for."""

    def cancel(self) -> None:
        """The client has left, or has been answered otherwise."""


class Server(Waiting, Protocol):
    """What answers an exchange."""

    def body_data(self, data: bytes) -> None:
        """A piece of the request's body, not empty."""

    def body_end(self, trailers: Fields) -> None:
        """The request's body has ended."""


class Taker(Client, Protocol):
    """Gets an answer in the client's place, to pass it on later, another one, or none: the request is asked again.

    :ivar client: whose place it has.
    """

    client: Client


class Route(Protocol):
    """What an exchange goes through before it is answered, and on the way back."""

    def response_head(self, exchange: Exchange, response: Response) -> Taker | None:
        """Lead the head of an answer back through the middlewares that the request has passed.

        Returns what takes the answer, None for nothing. The middlewares before that have not seen the answer.
        """

    def go_on(self, exchange: Exchange, step: int) -> None:
        """Lead the request through the middlewares from *step* on."""


class Traced(Protocol):
    """What is recorded of an exchange in traces (W3C Trace Context, 3.2.2).

    :ivar trace_id: 32 hexadecimal digits; :ivar span_id: of the gate's own part, 16 of them.
    """

    trace_id: str
    span_id: str


class Places(Protocol):
    """Where exchanges that are under way have places."""

    def leave(self, place: Any) -> None:
        """Whoever has had *place* has no use for it any more."""


class Onlooker:
    """Sees a request's body on its way to a server, and leaves it as it is; see :meth:`Exchange.show_body`."""

    __slots__ = ()

    def feed(self, data: bytes) -> bytes:
        """The next piece, which it returns."""
        return data

    def end(self) -> bytes:
        """That was all of it; it returns nothing."""
        return b""


class Retrying(Protocol):
    """What may have a request asked again instead of passing a server's answer on; never a middleware's."""

    def takes(self, exchange: Exchange, status: int) -> bool:
        """Whether the answer of *status*, of which nothing was sent, is given up: the request is asked again."""

    def takes_unreached(self, exchange: Exchange) -> bool:
        """The same where no server could be reached."""

    def passes(self, exchange: Exchange, response: Response) -> None:
        """A server's answer was not given up, and is passed on: the last look at its head."""


class Exchange:
    """One request and its answer.

    :ivar request: what was asked; middlewares may change it until it is forwarded.
    :ivar entry_point: the name of the entry point that it came through.
    :ivar passed: how many of the route's middlewares the request has passed.
    :ivar router: the qualified name of the router that took it, ``""`` if none did.
    :ivar service: the qualified name of the service, ``""`` if none was reached.
    :ivar server: the URL of the server that answered or was tried last, ``""`` if none was.
    :ivar user: the name that a middleware has authenticated, ``""`` for none.
    :ivar status: of the answer that was begun, 0 before.
    :ivar response: the head of the answer as it was sent, None before.
    :ivar origin_fields: of the head of the server's answer, as it came.
    :ivar origin_status: of the server's answer, 0 if no server has answered.
    :ivar tls_options: the name of the TLS options that its connection is under, ``""`` without TLS.
    :ivar wait_until: until when it waits at most while there is no server; 0 before it has waited.
    :ivar retrying: what may have the request asked again, None for nothing.
    :ivar places: what it holds for as long as it is under way, None for nothing; see :meth:`hold`.
    :ivar trace: what is recorded of it in traces, None if nothing is.
    :ivar untold: what is not told of it: :data:`NOT_LOGGED` and so on.
    :ivar retries: how many servers were tried in vain.
    :ivar received: octets of the request's body so far.
    :ivar sent: octets of the answer's body so far.
    :ivar origin_sent: octets of the server's answer's body so far.
    :ivar started: when the head was complete, and :ivar origin_started: when a server was asked, both in seconds of
        :func:`~swarmgate.http.moment.moment`; :ivar origin_seconds: how long the server took to begin its answer.
    :ivar body_done: the request's body has been received.
    :ivar pending: what is there of it and was not taken yet; :ivar taken: whether somebody takes it as it comes.
    :ivar ended: the answer has been sent, or the exchange broken off.
    :ivar answers: how often an answer to it was begun; there is more than one where one was taken, and given up.
    :ivar taker: what has taken the answer, None for nothing: the client gets it.
    :ivar remembered: what middlewares remember of it, by themselves; None: nothing.
    :ivar last_fields: the trailers of the answer, at its end; what its body is led through may take them away.
    """

    __slots__ = (
        "_request_transforms",
        "_response_transforms",
        "_waiting",
        "answers",
        "body_done",
        "client",
        "connection",
        "ended",
        "entry_point",
        "last_fields",
        "origin_fields",
        "origin_seconds",
        "origin_sent",
        "origin_started",
        "origin_status",
        "passed",
        "pending",
        "places",
        "received",
        "remembered",
        "request",
        "response",
        "retries",
        "retrying",
        "route",
        "router",
        "sent",
        "server",
        "service",
        "started",
        "status",
        "taken",
        "taker",
        "tls_options",
        "trace",
        "trailers",
        "tried",
        "untold",
        "user",
        "wait_until",
    )

    def __init__(self, client: Client, request: Request, entry_point: str) -> None:
        # Given.
        self.client = client
        self.request = request
        self.entry_point = entry_point
        self.started = moment()
        # Where it goes.
        self.route: Route | None = None
        self.passed = 0
        self.router = ""
        self.service = ""
        self.server = ""
        self.user = ""
        self.connection: Any = None  # a Server once taken, a Waiting before
        self.tried: set[Any] | None = None
        self.retries = 0
        self.retrying: Retrying | None = None
        self.trace: Any = None  # a Traced
        self.untold = 0
        self.places: list[tuple[Places, Any]] | None = None
        self.wait_until = 0.0
        self.tls_options = ""
        self._waiting: Deferred[None] | None = None
        # The request's body, as long as nobody takes it.
        self.pending = b""
        self.taken = False
        self.body_done = request.length == 0
        self.trailers: Fields = []
        self._request_transforms: tuple[BodyTransform, ...] = ()
        # The answer.
        self._response_transforms: tuple[BodyTransform, ...] = ()
        self.status = 0
        self.response: Response | None = None
        self.origin_fields: Sequence[tuple[bytes, bytes]] | None = None
        self.origin_status = 0
        self.origin_started = 0.0
        self.origin_seconds = 0.0
        self.received = 0
        self.sent = 0
        self.origin_sent = 0
        self.ended = False
        self.answers = 0
        self.taker: Taker | None = None
        self.last_fields: Fields = []
        self.remembered: dict[Any, Any] | None = None

    # The request's body, from the client to the server.

    def body_data(self, data: bytes, done: bool, trailers: Fields) -> None:
        """The client has sent *data* of the body; *done*: and its end."""
        self.received += len(data)
        for transform in self._request_transforms:
            data = transform.feed(data)
        if done:
            data += self._flush(self._request_transforms)
            self.body_done = True
            self.trailers = trailers
        connection = self.connection
        if connection is None or not self.taken:
            self.pending += data
            return
        if data:
            connection.body_data(data)
        if done:
            connection.body_end(trailers)

    def lead_request_through(self, transforms: tuple[BodyTransform, ...]) -> None:
        """Lead the request's body through *transforms*, in order, before a server gets it."""
        self._request_transforms = transforms
        if self.request.length == 0:
            return
        self.request.length = UNKNOWN
        self.received = 0
        pending, self.pending = self.pending, b""
        if pending or self.body_done:
            self.body_data(pending, self.body_done, self.trailers)

    def show_body(self, onlooker: Onlooker) -> None:
        """Let *onlooker* see what comes of the request's body from now on, as a server gets it."""
        self._request_transforms = (*self._request_transforms, onlooker)

    def read_as_it_comes(self) -> None:
        """Lead the request's body through nothing any more."""
        self._request_transforms = ()

    @property
    def is_transformed(self) -> bool:
        """Whether the request's body is led through a transform."""
        return any(not isinstance(one, Onlooker) for one in self._request_transforms)

    def give_back(self, body: bytes) -> None:
        """What took the request's body so far does no longer; *body* is what there is of it."""
        self.connection = None
        self.taken = False
        self.pending = body
        if not self.body_done:
            self.client.pause_body()

    def connect(self, connection: Server) -> bytes:
        """*connection* answers from now on. Returns what is there of the request's body."""
        self.connection = connection
        self.taken = True
        pending, self.pending = self.pending, b""
        return pending

    @staticmethod
    def _flush(transforms: tuple[BodyTransform, ...]) -> bytes:
        data = b""
        for transform in transforms:
            data = (transform.feed(data) if data else b"") + transform.end()
        return data

    # The answer, from the server to the client.

    def respond(self, response: Response, data: bytes, done: bool) -> None:
        """A server's answer has begun, with *data* of its body; *done*: and ended."""
        if self.retrying is not None and self.server:
            if self.retrying.takes(self, response.status):
                return
            self.retrying.passes(self, response)
        self.origin_status = response.status
        self.origin_fields = tuple(response.fields) if response.block is None else response.block.fields
        self.origin_seconds = moment() - self.origin_started
        self.origin_sent = len(data)
        self._send_head(response, data, done)

    def answer(self, status: int, body: bytes = b"", fields: Fields | tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """Answer from here, with the whole *body*."""
        response = Response(status, reason_of(status), list(fields), len(body))
        self.cancel_server()
        self._send_head(response, body, True)

    def _send_head(self, response: Response, data: bytes, done: bool) -> None:
        if self.ended or self.status:
            return
        self.answers += 1
        if self.passed and self.route is not None:
            try:
                taker = self.route.response_head(self, response)
                if taker is not None:
                    self._divert(taker, response, data, done)
                    return
            except Exception:
                _log.failure("a middleware of {router} failed on an answer", router=self.router)
                if self._is_passed_on():
                    # It was passed on before that.
                    self.fail(500)
                    return
                if self.taker is not None:
                    self.take_back()
                response = Response(500, reason_of(500), [], UNKNOWN)
                self._response_transforms = ()
                self.cancel_server()
                data, done = b"Internal Server Error", True
        self.status = response.status
        self.response = response
        if self._response_transforms:
            data = self._transformed(response, data, done)
        self.sent = len(data)
        self.client.send_head(self, response, data, done)

    def _is_passed_on(self) -> bool:
        """Whether the client's answer has begun."""
        return self.status != 0 and self.taker is None

    def _transformed(self, response: Response, data: bytes, done: bool) -> bytes:
        """*data*, the first of an answer's body, as the transforms make it; *done*: and the whole of it."""
        response.length = UNKNOWN
        for transform in self._response_transforms:
            data = transform.feed(data)
        return data + self._flush(self._response_transforms) if done else data

    def _divert(self, taker: Taker, response: Response, data: bytes, done: bool) -> None:
        """Give the answer to *taker*, as if it were the client."""
        self.taker, self.client = taker, taker
        self.status = response.status
        if self._response_transforms:
            data = self._transformed(response, data, done)
        taker.send_head(self, response, data, done)

    def take_back(self) -> None:
        """What has taken the answer has done so: whatever comes now goes to the client, of which it has got nothing."""
        if self.taker is not None:
            self.client, self.taker = self.taker.client, None
        self.status = 0
        self._response_transforms = ()

    def pass_on(self, response: Response, data: bytes, done: bool) -> None:
        """Begin the answer that was taken, or another, with *data* of its body; *done*: and the whole of it."""
        self._send_head(response, data, done)

    def cancel_server(self) -> None:
        """Whatever was to answer has no need to any more."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.cancel()

    def remember(self, middleware: Any, value: Any) -> None:
        """*value* is what *middleware* remembers of the exchange."""
        if self.remembered is None:
            self.remembered = {}
        self.remembered[middleware] = value

    def recall(self, middleware: Any) -> Any:
        """What *middleware* remembers of the exchange, None for nothing."""
        return None if self.remembered is None else self.remembered.get(middleware)

    def lead_response_through(self, transform: BodyTransform) -> None:
        """Lead the answer's body through *transform* too, after those that are there."""
        self._response_transforms = (*self._response_transforms, transform)

    def seconds_since_asked(self) -> float:
        """How long ago the server was asked."""
        return moment() - self.origin_started

    def data(self, data: bytes) -> None:
        """The server has sent more of the answer's body."""
        self.origin_sent += len(data)
        for transform in self._response_transforms:
            data = transform.feed(data)
        if data:
            self.sent += len(data)
            self.client.send_data(data)

    def end(self, trailers: Fields) -> None:
        """The server's answer has ended."""
        if self._response_transforms:
            self.last_fields = trailers
            data = self._flush(self._response_transforms)
            if data:
                self.sent += len(data)
                self.client.send_data(data)
            trailers = self.last_fields
        self.client.send_end(trailers)

    def fail(self, status: int, body: bytes | None = None) -> None:
        """Something went wrong: answer *status*, or, if the answer has begun, break it off."""
        if self.ended:
            return
        # What a server did not do may be asked for again; what a middleware says is final.
        retrying = self.retrying if self.server and not self.status and status in _OF_SERVERS else None
        if retrying is not None and retrying.takes(self, status):
            return
        if self.status:
            self.cancel_server()
            self.client.abort()
        else:
            self.answer(status, reason_of(status) if body is None else body)

    def unreached(self, status: int) -> None:
        """No server could be reached, so that none has acted on the request: answer *status*."""
        if self.retrying is None or not self.retrying.takes_unreached(self):
            self.fail(status)

    # Its end.

    def wait_for(self, waiting: Deferred[None]) -> None:
        """The request goes on when *waiting* fires; it is cancelled if the client leaves before."""
        self._waiting = waiting

    def hold(self, places: Places, place: Any) -> None:
        """It has *place* until it has ended, whatever way it does; ``places.leave(place)`` is called then, once."""
        if self.places is None:
            self.places = []
        self.places.append((places, place))

    def leave(self) -> None:
        """Leave the places that it has. Called by whoever sets :attr:`ended`, if there are any."""
        held, self.places = self.places, None
        for places, place in held or ():
            places.leave(place)

    def client_gone(self) -> None:
        """The client has left before the answer was sent."""
        if not self.status or self.taker is not None:
            self.status = CLIENT_CLOSED_REQUEST
        self.ended = True
        if self.places is not None:
            self.leave()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.addErrback(_ignore_cancellation)
            waiting.cancel()
        self.cancel_server()

    def __repr__(self) -> str:
        return f"<Exchange {self.request!r} {self.router or '-'} {self.server or '-'} {self.status or 'no answer yet'}>"


def _ignore_cancellation(failure: Failure) -> None:
    failure.trap(CancelledError)


_REASONS = {status: phrase.encode("ascii") for status, phrase in responses.items()}
_REASONS[CLIENT_CLOSED_REQUEST] = b"Client Closed Request"


def reason_of(status: int) -> bytes:
    """The reason phrase of *status*, ``b""`` if it has none."""
    return _REASONS.get(status, b"")
