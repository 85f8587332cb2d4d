"""The two ways between an exchange and a twisted.web ``Request``.

:class:`ResourceLeaf` answers an exchange with an ordinary resource, which is rendered with a real ``Request``.
:func:`render_exchange` renders a ``Request`` of an ordinary ``Site`` with what answers exchanges.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET, Request, Site, version
from zope.interface import implementer

from swarmgate.http import message
from swarmgate.http.errors import BadRequest
from swarmgate.http.exchange import Exchange
from swarmgate.http.message import UNKNOWN, Fields, Response
from swarmgate.http.paths import PathPolicy
from swarmgate.http.request_head import parse_host

#: What twisted.web says of itself unless a resource says otherwise; the gate does not tell strangers its version.
_SERVER = version
#: Octets of a request's body that an ordinary resource is given; it is in memory or a temporary file meanwhile.
_LONGEST_BODY = 16 * 1024 * 1024


class ResourceLeaf:
    """Answers exchanges with *resource*, which may have children."""

    def __init__(self, name: str, resource: IResource) -> None:
        self._name = name
        self._site = Site(resource)

    def serve(self, exchange: Exchange) -> None:
        exchange.service = self._name
        channel = _Channel(exchange, self._site)
        body = exchange.connect(channel)
        if body:
            channel.body_data(body)
        if exchange.body_done:
            channel.body_end(exchange.trailers)
        elif not exchange.status:
            if exchange.request.expects_continue:
                exchange.client.send_interim(Response(100, b"Continue", [], 0))
            exchange.client.resume_body()


class _Channel:
    """What a ``Request`` takes for twisted.web's channel, and an exchange for a server."""

    def __init__(self, exchange: Exchange, site: Site) -> None:
        self.site = site
        self.disconnecting = False
        self._exchange = exchange
        self._chunked = False
        self._head: Response | None = None
        self._producer: Any = None
        self._received = 0
        source = exchange.request
        request: Any = Request(self)
        request.exchange = exchange
        self._request = request
        for name, value in source.fields:
            request.requestHeaders.addRawHeader(name, value)
        request.requestHeaders.setRawHeaders(b"Host", [source.authority])
        if source.length > 0:
            request.requestHeaders.setRawHeaders(b"Content-Length", [b"%d" % source.length])
        request.parseCookies()
        request.gotLength(source.length if source.length >= 0 else None)

    @property
    def transport(self) -> _Channel:
        # Not an attribute: what is done with needs no collector.
        return self

    # From the exchange.

    def body_data(self, data: bytes) -> None:
        if self.disconnecting:
            return
        self._received += len(data)
        if self._received > _LONGEST_BODY:
            self._exchange.fail(413)
        else:
            self._request.handleContentChunk(data)

    def body_end(self, trailers: Fields) -> None:
        if self.disconnecting:
            return
        source = self._exchange.request
        self._request.requestReceived(source.method, source.target, b"HTTP/1.%d" % source.minor)

    def cancel(self) -> None:
        self.disconnecting = True
        request, self._request = self._request, None
        request.connectionLost(Failure(ConnectionLost()))

    # From the request.

    def getPeer(self) -> Any:
        # Not of a transport: a stream of HTTP/2 has none of its own.
        host = self._exchange.request.client_ip
        return (IPv6Address if ":" in host else IPv4Address)("TCP", host, 0)

    def getHost(self) -> Any:
        return IPv4Address("TCP", "", 443 if self._exchange.request.secure else 80)

    def isSecure(self) -> bool:
        return self._exchange.request.secure

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        pairs = headers.getAllRawHeaders() if isinstance(headers, Headers) else headers
        fields: Fields = []
        length = UNKNOWN
        for name, value in ((name, value) for name, values in pairs for value in _listed(values)):
            key = name.lower()
            if key == b"content-length":
                length = int(value)
            elif key == b"transfer-encoding":
                self._chunked = True
            elif key != b"connection" and (key, value) != (b"server", _SERVER):
                fields.append((name, value))
        self._head = Response(int(code), reason, fields, length)

    def write(self, data: bytes) -> None:
        if self._chunked:
            return  # The end of a chunked body: the client's connection writes its own.
        self._send(data)

    def writeSequence(self, pieces: Any) -> None:
        if self._chunked:
            _, _, data, _ = pieces  # Framed as a chunk; the client's connection does that itself.
            self._send(data)
        else:
            self._send(b"".join(pieces))

    def _send(self, data: bytes) -> None:
        head, self._head = self._head, None
        if head is not None:
            self._exchange.respond(head, data, False)
        elif data:
            self._exchange.data(data)

    def requestDone(self, request: Any) -> None:
        exchange = self._exchange
        exchange.connection = self._request = None
        head, self._head = self._head, None
        if head is not None:
            exchange.respond(head, b"", True)
        else:
            exchange.end([])

    def loseConnection(self) -> None:
        self._exchange.fail(500)

    abortConnection = loseConnection

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if streaming:
            self._exchange.client.feed_from(producer)
        else:
            self._producer = _Pulled(producer)
            self._exchange.client.feed_from(self._producer)
            self._producer.resumeProducing()

    def unregisterProducer(self) -> None:
        if self._producer is not None:
            self._producer.done = True
            self._producer = None
        self._exchange.client.feed_from(None)


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


@implementer(IPushProducer)
class _Pulled:
    """A pull producer, pulled for as long as its consumer takes what it gives."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._paused = False
        self.done = False

    def resumeProducing(self) -> None:
        self._paused = False
        while not self._paused and not self.done:
            self._producer.resumeProducing()

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self.done = True
        self._producer.stopProducing()


def render_exchange(request: Any, leaf: Any, entry_point: str = "") -> Any:
    """Answer *request* of a twisted.web ``Site`` with *leaf*, which answers exchanges."""
    path, _, query = request.uri.partition(b"?")
    host = request.requestHeaders.getRawHeaders(b"Host", [b""])[0]
    try:
        authority, name = parse_host(host) if host else (b"", b"")
        path = PathPolicy().normalise(path)
    except BadRequest as error:
        request.setResponseCode(error.status)
        return b""
    skipped = (b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"keep-alive")
    fields = [
        (key, value)
        for key, values in request.requestHeaders.getAllRawHeaders()
        for value in values
        if key.lower() not in skipped
    ]
    source = message.Request(request.method, path, query if b"?" in request.uri else None, 1, authority, name, fields)
    source.client_ip = getattr(request.client, "host", "") or ""
    source.secure = request.isSecure()
    body = request.content.read()
    source.length = len(body)
    exchange = Exchange(_RequestClient(request), source, entry_point)
    exchange.body_data(body, True, [])
    leaf.serve(exchange)
    return NOT_DONE_YET


class _RequestClient:
    """A twisted.web ``Request`` as an exchange's client."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._exchange: Exchange | None = None
        request.notifyFinish().addErrback(self._gone)

    def _gone(self, failure: Failure) -> None:
        failure.trap(ConnectionLost, PotentialDataLoss, Exception)
        if self._exchange is not None and not self._exchange.ended:
            self._exchange.client_gone()

    @property
    def transport(self) -> Any:
        return self._request.transport

    def send_head(self, exchange: Exchange, response: Response, data: bytes, done: bool) -> None:
        self._exchange = exchange
        request = self._request
        request.setResponseCode(response.status, response.reason)
        request.responseHeaders.removeHeader(b"server")
        for name, value in response.fields:
            request.responseHeaders.addRawHeader(name, value)
        if response.length >= 0:
            request.responseHeaders.setRawHeaders(b"Content-Length", [b"%d" % response.length])
        request.write(data)
        if done:
            self.send_end([])

    def send_interim(self, response: Response) -> None:
        """twisted.web has no informational answers."""

    def send_data(self, data: bytes) -> None:
        self._request.write(data)

    def send_end(self, trailers: Fields) -> None:
        if self._exchange is not None:
            self._exchange.ended = True
            self._exchange.leave()
        self._request.finish()

    def abort(self) -> None:
        self._request.loseConnection()

    def switch(self, response: Response, server: Any) -> None:
        raise AssertionError("an upgrade is not asked for")

    def feed_from(self, producer: Any) -> None:
        if producer is None:
            self._request.unregisterProducer()
        else:
            self._request.registerProducer(producer, True)

    def pause_body(self) -> None:
        """The body is here already."""

    def resume_body(self) -> None:
        """The body is here already."""
