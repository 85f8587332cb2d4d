"""Exchanges in memory: a client that remembers what it was sent, and middlewares at work between it and a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.task import Clock

from swarmgate.http.exchange import Exchange
from swarmgate.http.forwarded import ForwardedPolicy
from swarmgate.http.message import Fields, Response
from swarmgate.http.paths import PathPolicy
from swarmgate.http.request_head import HeadLimits, RequestHeads
from swarmgate.middlewares.chain import Chain
from swarmgate.middlewares.interface import Context, Middleware

Pairs = Iterable[tuple[bytes, bytes]]


class MemoryClient:
    """A client that remembers its answer.

    :ivar response: the head, None before it came.
    :ivar interim: the informational answers.
    :ivar body: what has come of the body.
    :ivar done: the answer is whole.
    :ivar aborted: it was broken off.
    """

    def __init__(self) -> None:
        self.response: Response | None = None
        self.interim: list[Response] = []
        self.body = b""
        self.trailers: Fields = []
        self.done = False
        self.aborted = False
        self.exchange: Exchange | None = None

    @property
    def status(self) -> int:
        """Of the answer, 0 before it came."""
        return self.response.status if self.response is not None else 0

    def values(self, name: bytes) -> list[bytes]:
        """The values of the answer's fields called *name*, in any case."""
        assert self.response is not None, "not answered"
        return [value for key, value in self.response.fields if key.lower() == name.lower()]

    def value(self, name: bytes) -> bytes | None:
        """The value of the answer's only field called *name*, None if there is none."""
        values = self.values(name)
        assert len(values) < 2, f"{name!r} came {len(values)} times"
        return values[0] if values else None

    def send_head(self, exchange: Exchange, response: Response, data: bytes, done: bool) -> None:
        assert self.response is None, "answered twice"
        self.exchange, self.response, self.body = exchange, response, data
        if done:
            self.send_end([])

    def send_interim(self, response: Response) -> None:
        self.interim.append(response)

    def send_data(self, data: bytes) -> None:
        self.body += data

    def send_end(self, trailers: Fields) -> None:
        assert not self.done, "ended twice"
        self.done, self.trailers = True, trailers
        assert self.exchange is not None
        self.exchange.ended = True
        self.exchange.leave()

    def abort(self) -> None:
        self.aborted = True

    def switch(self, response: Response, server: Any) -> None:
        self.response = response

    def feed_from(self, producer: Any) -> None:
        """There is always room."""

    def pause_body(self) -> None:
        """The body is what the test sends."""

    def resume_body(self) -> None:
        """The body is what the test sends."""


def exchange_of(
    target: str = "/",
    *fields: tuple[str, str],
    method: str = "GET",
    host: str = "a.example",
    peer: str = "192.0.2.7",
    trusted: bool = False,
    secure: bool = False,
    minor: int = 1,
) -> Exchange:
    """An exchange as an entry point begins it, of a client that sent this head.

    :param trusted: what the client says in X-Forwarded fields is believed.
    """
    lines = [f"{method} {target} HTTP/1.{minor}", f"Host: {host}", *(f"{name}: {value}" for name, value in fields)]
    head = "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")
    request = RequestHeads(HeadLimits(), PathPolicy()).read(head)
    request.client_ip = peer
    request.secure = secure
    if secure:
        request.scheme = b"https"
    received, request.forwarded = request.forwarded, None
    policy = ForwardedPolicy(b"gate", insecure=trusted)
    request.fields += policy.trusted_fields(request, received or []) if trusted else policy.own_fields(request)
    return Exchange(MemoryClient(), request, "web")


def client_of(exchange: Exchange) -> MemoryClient:
    """The client of an exchange that was made by :func:`exchange_of`."""
    assert isinstance(exchange.client, MemoryClient)
    return exchange.client


class Origin:
    """What answers at the end of a chain: it remembers what reached it, and answers at once.

    :ivar reached: the exchanges that reached it, in order.
    """

    def __init__(self, status: int = 200, fields: Pairs = (), body: bytes = b"hello") -> None:
        self.reached: list[Exchange] = []
        self._answer = (status, tuple(fields), body)

    def serve(self, exchange: Exchange) -> None:
        """Answer."""
        self.reached.append(exchange)
        status, fields, body = self._answer
        exchange.service, exchange.server = "app@test", "http://10.0.0.9:80"
        exchange.origin_started = exchange.started
        exchange.respond(Response(status, b"", list(fields), len(body)), body, True)


class Kept:
    """What is kept from one table to the next: a ``Context.keep``."""

    def __init__(self) -> None:
        self.things: dict[Any, Any] = {}

    def __call__(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self.things:
            self.things[key] = make()
        return self.things[key]


def context_of(clock: Clock | None = None, keep: Kept | None = None, name: str = "step@test", **more: Any) -> Context:
    """A context to build middlewares with."""
    return Context(name, "router@test", clock or Clock(), keep or Kept(), **more)  # type: ignore[arg-type]


def lead(exchange: Exchange, *middlewares: Middleware, origin: Origin | None = None) -> MemoryClient:
    """Lead *exchange* through *middlewares* to *origin*; returns its client."""
    Chain("router@test", middlewares, origin or Origin()).serve(exchange)
    return client_of(exchange)
