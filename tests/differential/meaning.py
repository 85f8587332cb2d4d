"""What the gate takes a client's octets for: its own parsers, on the same octets, without any network."""

from __future__ import annotations

from hashlib import sha1

import attrs

from swarmgate.http.bodies import ChunkedBody, SizedBody
from swarmgate.http.errors import BadRequest, MessageError
from swarmgate.http.message import UNKNOWN
from swarmgate.http.paths import PathPolicy
from swarmgate.http.request_head import HeadLimits, OtherVersion, RequestHeads, refuse_early

_LIMITS = HeadLimits()
_HEADS = RequestHeads(_LIMITS, PathPolicy())
#: Octets that a sequence is completed with at most.
_LONGEST_FILLING = 20_000


@attrs.frozen
class Meant:
    """A request that is forwarded.

    :ivar body: its length and hash.
    """

    method: bytes
    target: bytes
    host: bytes
    body: tuple[int, str]
    upgrade: bool = False

    @property
    def seen(self) -> tuple[bytes, bytes, bytes, tuple[int, str]]:
        """What a server must see of it."""
        return self.method, self.target, self.host, self.body


@attrs.frozen
class Meaning:
    """What a client's octets are taken for.

    :ivar requests: in their order; None for one that the gate answers itself.
    :ivar methods: of all of them.
    :ivar refused: the status that the last is refused with, 0 for none.
    :ivar is_begun: the one that is refused may have begun to be forwarded, since its client asked to be told whether.
    :ivar closes: nothing behind the last is read.
    :ivar missing: octets that would complete the last, None if it is complete; too many to send: ``b""``.
    """

    requests: tuple[Meant | None, ...]
    methods: tuple[bytes, ...]
    refused: int = 0
    is_begun: bool = False
    closes: bool = False
    missing: bytes | None = None


def fingerprint(body: bytes) -> tuple[int, str]:
    """The length of *body* and its hash."""
    return len(body), sha1(body, usedforsecurity=False).hexdigest()


def meaning(data: bytes, cut: bool = False) -> Meaning:
    """What *data*, all that a client sends, is taken for.

    :param cut: it comes in pieces, so that the gate may have to tell its client to go on.

    :raises OtherVersion: it begins with HTTP/2's preface.
    """
    requests: list[Meant | None] = []
    methods: list[bytes] = []

    def ends(refused: int = 0, begun: bool = False, closes: bool = False, missing: bytes | None = None) -> Meaning:
        return Meaning(tuple(requests), tuple(methods), refused, begun, closes, missing)

    while data:
        if data[:2] == b"\r\n" and data[2:3] not in (b"", b"\r"):
            data = data[2:]
            continue
        begun = False
        try:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                refuse_early(data, _LIMITS)
                return ends(missing=b"\r\n\r\n")
            request = _HEADS.read(data[: end + 4])
            data = data[end + 4 :]
            body = b""
            if request.length:
                reader = ChunkedBody() if request.length == UNKNOWN else SizedBody(request.length)
                begun = cut and request.expects_continue
                body = reader.feed(data)
                if not reader.done:
                    return ends(missing=_filling(reader))
                data = reader.rest
        except OtherVersion as error:
            if not requests:
                raise
            return ends(error.status, closes=True)
        except BadRequest as error:
            return ends(error.status, closes=True)
        except MessageError:
            return ends(400, begun, closes=True)
        methods.append(request.method)
        target = request.path if request.query is None else request.path + b"?" + request.query
        if request.path == b"*":
            requests.append(None)
        else:
            meant = Meant(request.method, target, request.authority, fingerprint(body), bool(request.upgrade))
            requests.append(meant)
        if not request.keep_alive:
            return ends(closes=True)
    return ends()


def _filling(reader: ChunkedBody | SizedBody) -> bytes:
    if isinstance(reader, SizedBody):
        return b"f" * reader.remaining if reader.remaining <= _LONGEST_FILLING else b""
    remaining = reader._remaining
    if remaining > _LONGEST_FILLING:
        return b""
    return (
        b"f" * max(0, remaining - 2) + b"\r\n"[2 - min(remaining, 2) :] + (b"0\r\n\r\n" if remaining else b"\r\n\r\n")
    )


def completed(data: bytes, cut: bool = False) -> tuple[bytes, Meaning] | None:
    """*data* and what completes its last request, and what that means; None if that would take too much."""
    for _ in range(4):
        try:
            found = meaning(data, cut)
        except OtherVersion:
            return None
        if found.missing is None:
            return data, found
        if not found.missing:
            return None
        data += found.missing
    return None
