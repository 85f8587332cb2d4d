"""One call of grpc.health.v1.Health/Check over HTTP/2 in clear text."""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.exceptions import ProtocolError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from swarmgate.health.probe import USER_AGENT

#: Of a call whose server has said nothing that can be understood (gRPC ``UNKNOWN``, ``UNAVAILABLE``).
_UNKNOWN, _UNAVAILABLE = 2, 14
_LONGEST_ANSWER = 4096


class GrpcQuestion(Protocol):
    """Asks, and closes.

    :ivar answer: fires with the call's status and the server's.
    """

    def __init__(self, authority: str) -> None:
        self.answer: Deferred[tuple[int, int]] = Deferred(lambda _: self._close())
        self._authority = authority
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._body = b""
        self._status: int | None = None

    def connectionMade(self) -> None:
        self._http.initiate_connection()
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/grpc.health.v1.Health/Check"),
            (":authority", self._authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", USER_AGENT),
        ]
        self._http.send_headers(1, fields)
        # A message without a field: it asks for the server as a whole.
        self._http.send_data(1, b"\0\0\0\0\0", end_stream=True)
        self._send()

    def dataReceived(self, data: bytes) -> None:
        try:
            events = self._http.receive_data(data)
        except ProtocolError:
            self._tell(_UNKNOWN)
            return
        for event in events:
            self._take(event)
        self._send()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self._tell(_UNAVAILABLE)

    def _take(self, event: Event) -> None:
        if isinstance(event, ResponseReceived | TrailersReceived):
            fields = dict(event.headers or ())
            told = fields.get(b"grpc-status", b"")
            if told.isdigit():
                self._status = int(told)
            elif isinstance(event, ResponseReceived) and fields.get(b":status") != b"200":
                self._tell(_UNKNOWN)
        elif isinstance(event, DataReceived):
            self._body = (self._body + (event.data or b""))[:_LONGEST_ANSWER]
        elif isinstance(event, StreamEnded):
            self._tell(_UNKNOWN if self._status is None else self._status)
        elif isinstance(event, StreamReset):
            self._tell(_UNAVAILABLE)

    def _tell(self, status: int) -> None:
        if not self.answer.called:
            self.answer.callback((status, serving_of(self._body)))
        self._close()

    def _send(self) -> None:
        if self.transport is not None and (data := self._http.data_to_send()):
            self.transport.write(data)

    def _close(self) -> None:
        transport: ITransport | None = self.transport
        if transport is not None:
            if self._http.state_machine.state.name == "OPEN":
                self._http.close_connection(ErrorCodes.NO_ERROR)
                self._send()
            transport.loseConnection()


def serving_of(body: bytes) -> int:
    """The field ``status`` of the HealthCheckResponse in *body*, one gRPC message; 0, UNKNOWN, if it says nothing."""
    message = body[5 : 5 + int.from_bytes(body[1:5], "big")]
    # A varint in field 1, the only one that there is; its values are below 128.
    return message[1] if len(message) == 2 and message[0] == 0x08 else 0
