"""Frames of HTTP/2 (RFC 9113, 4 and 6): their numbers, how they are written, and the fault that ends a connection."""

from __future__ import annotations

from collections.abc import Iterable

from swarmgate.http2.octets import frame_head

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

#: Errors (RFC 9113, 7).
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)

#: Settings (RFC 9113, 6.5.2; RFC 8441, 3).
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = range(1, 5)
MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 5, 6
ENABLE_CONNECT_PROTOCOL = 8

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: Octets of a frame's payload that the gate takes and sends (SETTINGS_MAX_FRAME_SIZE, its smallest and default value).
FRAME_AT_MOST = 16384
HIGHEST_STREAM = 2**31 - 1
#: What a window can be at most; and what it is before anything else is said.
WINDOW_AT_MOST = 2**31 - 1
FIRST_WINDOW = 65535


class Fault(Exception):
    """What a peer sends is no HTTP/2, so that the connection ends.

    :ivar error: what it is told.
    :ivar reason: what is counted by.
    """

    def __init__(self, error: int, reason: str = "http2: protocol error") -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason


def reset(stream_id: int, error: int) -> bytes:
    """A RST_STREAM frame."""
    return frame_head(4, RST_STREAM, 0, stream_id) + error.to_bytes(4, "big")


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    """A SETTINGS frame."""
    payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values)
    return frame_head(len(payload), SETTINGS, 0, 0) + payload


SETTINGS_ACK = frame_head(0, SETTINGS, ACK, 0)


def window_update(stream_id: int, size: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame_head(4, WINDOW_UPDATE, 0, stream_id) + size.to_bytes(4, "big")


def goaway(last_stream: int, error: int) -> bytes:
    """A GOAWAY frame."""
    return frame_head(8, GOAWAY, 0, 0) + last_stream.to_bytes(4, "big") + error.to_bytes(4, "big")


PING_FRAME = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00swrmgate"
