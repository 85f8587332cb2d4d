"""Clients of exchanges that stand before the real one: for a while, or that are code of the gate's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swarmgate.http.exchange import Client, Exchange
from swarmgate.http.message import Fields, Request, Response


class Between:
    """Has the place of *client* and does as it would; whoever takes an answer overrides some of it.

    :ivar client: the real one.
    """

    def __init__(self, client: Client) -> None:
        self.client: Any = client

    def send_head(self, exchange: Exchange, response: Response, data: bytes, done: bool) -> None:
        """The answer begins."""
        self.client.send_head(exchange, response, data, done)

    def send_interim(self, response: Response) -> None:
        """An informational answer."""
        self.client.send_interim(response)

    def send_data(self, data: bytes) -> None:
        """More of the answer's body."""
        self.client.send_data(data)

    def send_end(self, trailers: Fields) -> None:
        """The end of the answer."""
        self.client.send_end(trailers)

    def abort(self) -> None:
        """The answer is not to be finished."""
        self.client.abort()

    def switch(self, response: Response, server: Any) -> None:
        """There is a tunnel from now on."""
        self.client.switch(response, server)

    def feed_from(self, producer: Any) -> None:
        """Who makes the answer's body."""
        self.client.feed_from(producer)

    def pause_body(self) -> None:
        """Take no more of the request's body."""
        self.client.pause_body()

    def resume_body(self) -> None:
        """Take it again."""
        self.client.resume_body()

    def __getattr__(self, name: str) -> Any:
        # Of a client's connection, which some middlewares and the access log look at.
        if name == "client":
            raise AttributeError(name)
        return getattr(self.client, name)


class Asking:
    """The client of a request of the gate's own: what answers it tells this, which says more in what it overrides.

    :ivar exchange: the request and its answer.
    :ivar over: it has ended, however.
    """

    def __init__(self, request: Request, entry_point: str) -> None:
        self.exchange = Exchange(self, request, entry_point)
        self.over = False
        self._producer: Any = None

    def ask(self, serve: Callable[[Exchange], None], body: bytes = b"") -> None:
        """Have *serve* answer the request, whose body is *body*."""
        exchange = self.exchange
        exchange.request.length = len(body)
        exchange.pending = body
        exchange.body_done = True
        serve(exchange)

    def cancel(self) -> None:
        """Nobody wants the answer any more."""
        if not self.over:
            self._end()
            self.exchange.client_gone()

    def _end(self) -> None:
        self.over = True
        self.exchange.ended = True
        self.exchange.leave()

    # What is overridden.

    def began(self, response: Response, data: bytes, done: bool) -> None:
        """The answer begins with *data*; *done*: and ends."""

    def continued(self, data: bytes) -> None:
        """There is more of its body."""

    def ended(self, trailers: Fields) -> None:
        """It has ended; not called if it began and ended at once."""

    def broke(self) -> None:
        """It will not be finished."""

    # The exchange's Client.

    def send_head(self, exchange: Exchange, response: Response, data: bytes, done: bool) -> None:
        """The answer begins."""
        if self.over:
            return
        if done:
            self._end()
        self.began(response, data, done)

    def send_interim(self, response: Response) -> None:
        """Of no interest."""

    def send_data(self, data: bytes) -> None:
        """More of the answer's body."""
        if not self.over:
            self.continued(data)

    def send_end(self, trailers: Fields) -> None:
        """The end of the answer."""
        if not self.over:
            self._end()
            self.ended(trailers)

    def abort(self) -> None:
        """The answer is not to be finished."""
        if not self.over:
            self._end()
            self.broke()

    def switch(self, response: Response, server: Any) -> None:
        """Nothing has asked for a tunnel."""
        self.abort()

    def feed_from(self, producer: Any) -> None:
        """Who makes the answer's body; it comes as it will, unless it is overridden."""

    def pause_body(self) -> None:
        """The body is here already."""

    def resume_body(self) -> None:
        """The body is here already."""


class Relay(Asking):
    """Asks in place of *outer*'s service: what is answered becomes the answer of *outer*.

    Whoever makes one overrides :meth:`changed`.
    """

    def __init__(self, request: Request, outer: Exchange) -> None:
        Asking.__init__(self, request, outer.entry_point)
        self.outer = outer

    def ask(self, serve: Callable[[Exchange], None], body: bytes = b"") -> None:
        """Have *serve* answer the request, for as long as the client waits."""
        self.outer.connection = self
        Asking.ask(self, serve, body)

    def changed(self, response: Response) -> None:
        """Change the head of the answer before it is passed on."""

    def began(self, response: Response, data: bytes, done: bool) -> None:
        """Pass the head on."""
        outer = self.outer
        self.changed(response)
        if done:
            outer.connection = None
        if outer.request.method == b"HEAD" or response.status in (204, 304):
            # The client awaits no body, whatever there is of it.
            outer.connection = None
            if not done:
                self.cancel()
            outer.pass_on(response, b"", True)
        else:
            outer.pass_on(response, data, done)

    def continued(self, data: bytes) -> None:
        """Pass more of the body on."""
        self.outer.data(data)

    def ended(self, trailers: Fields) -> None:
        """Pass the end on."""
        self.outer.connection = None
        self.outer.end(trailers)

    def broke(self) -> None:
        """Break the client's answer off too."""
        self.outer.connection = None
        self.outer.fail(502)

    def feed_from(self, producer: Any) -> None:
        """The client's connection says how fast it comes."""
        if not self.outer.ended:
            self.outer.client.feed_from(producer)

    def body_data(self, data: bytes) -> None:
        """The client's own body goes nowhere."""

    def body_end(self, trailers: Fields) -> None:
        """Nor does its end."""
