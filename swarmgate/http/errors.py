"""What can be wrong with a message, each with the status that answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarmgate.http.refused import RefusedRequest


class MessageError(Exception):
    """A message that is not understood, or not wanted.

    :ivar status: what a client is answered.
    :ivar reason: why, in a few words without the client's data: it is logged and counted by.
    """

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class BadRequest(MessageError):
    """A client's request that is refused.

    :ivar request: what is known of it, for the access log; None where it has another line there, or was no request.
    :ivar sent: octets of the answer's body.
    """

    request: RefusedRequest | None = None
    sent = 0


class BadResponse(MessageError):
    """A server's answer that cannot be passed on; the client gets 502."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, 502)
