"""The h2 library's connection, and what stands before it: frames, taken from what arrives one by one.

h2 ends a whole connection where RFC 9113 asks for the end of one stream only, and can send nothing any more after a
GOAWAY in either direction. What is overridden or kept from it is in this module alone.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection
from h2.settings import SettingCodes, Settings
from h2.stream import StreamInputs

from swarmgate.http2.compression import Decoder, Encoder

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: Octets of a frame's payload that the gate takes (SETTINGS_MAX_FRAME_SIZE, its smallest and default value).
FRAME_AT_MOST = 16384
HIGHEST_STREAM = 2**31 - 1


def _nothing(*given: Any) -> None:
    pass


class Codec(H2Connection):
    """h2's connection, with the streams' number and their bodies' lengths left to the user.

    :param stream_window: octets that the peer may send on a stream before it is told that they were taken.
    :param connection_window: the same on the whole connection.
    :param streams_at_most: what the peer is told of the number of its streams.
    :param header_list_at_most: octets of a decoded field section; more end the connection.
    :param decoder_table: octets of the table for decoding; :param encoder_table: the most of that for encoding.
    :param websockets: tell the client that extended CONNECT is served (RFC 8441).
    """

    MAX_CLOSED_STREAMS = 1024

    def __init__(
        self,
        is_client: bool,
        stream_window: int,
        connection_window: int,
        streams_at_most: int,
        header_list_at_most: int,
        decoder_table: int = 4096,
        encoder_table: int = 4096,
        websockets: bool = False,
    ) -> None:
        super().__init__(
            H2Configuration(
                client_side=is_client,
                header_encoding=None,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        values = {
            SettingCodes.INITIAL_WINDOW_SIZE: stream_window,
            SettingCodes.MAX_HEADER_LIST_SIZE: header_list_at_most,
            SettingCodes.HEADER_TABLE_SIZE: decoder_table,
        }
        if is_client:
            values[SettingCodes.ENABLE_PUSH] = 0
        else:
            values[SettingCodes.MAX_CONCURRENT_STREAMS] = streams_at_most
            if websockets:
                values[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
        self.local_settings = Settings(client=is_client, initial_values=values)
        self.decoder: Any = Decoder(header_list_at_most, decoder_table)
        self.encoder: Any = Encoder()
        self._encoder_table = encoder_table
        self._is_over = False
        if encoder_table < self.encoder.header_table_size:
            self.encoder.header_table_size = encoder_table
        self.initiate_connection()
        self.increment_flow_control_window(connection_window - 65535)

    def forget(self, stream_id: int) -> None:
        """The stream has ended: keep of it only how."""
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            self._closed_streams[stream_id] = stream.closed_by

    def is_open(self, stream_id: int) -> bool:
        """Whether something can still be sent or received on the stream."""
        stream = self.streams.get(stream_id)
        return stream is not None and not stream.closed and not self._is_over

    def room(self, stream_id: int) -> int:
        """How many octets the peer still takes on the stream, and on the connection."""
        room = min(self.outbound_flow_control_window, self.streams[stream_id].outbound_flow_control_window)
        return room if room > 0 else 0

    # What h2 does with more objects than are needed: its states and windows are kept, the frames written at once.

    def send_headers(self, stream_id: int, headers: Any, end_stream: bool = False, *priority: Any) -> None:
        stream = self.streams.get(stream_id)
        if stream is None or priority:
            super().send_headers(stream_id, headers, end_stream, *priority)
            return
        self.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
        name, value = headers[0]
        is_interim = name == b":status" and value[:1] == b"1"
        states = stream.state_machine
        states.process_input(StreamInputs.SEND_INFORMATIONAL_HEADERS if is_interim else StreamInputs.SEND_HEADERS)
        if end_stream:
            states.process_input(StreamInputs.SEND_END_STREAM)
        section = self.encoder.encode(headers)
        at_most = self.max_outbound_frame_size
        kind, flags = HEADERS, END_STREAM if end_stream else 0
        while len(section) > at_most:
            self._data_to_send += frame_head(at_most, kind, flags, stream_id) + section[:at_most]
            section = section[at_most:]
            kind, flags = CONTINUATION, 0
        self._data_to_send += frame_head(len(section), kind, flags | END_HEADERS, stream_id) + section

    def send_data(self, stream_id: int, data: Any, end_stream: bool = False, pad_length: Any = None) -> None:
        stream = self.streams.get(stream_id)
        size = len(data)
        if (
            stream is None
            or pad_length is not None
            or size > self.room(stream_id)
            or size > self.max_outbound_frame_size
        ):
            super().send_data(stream_id, data, end_stream, pad_length)
            return
        self.state_machine.process_input(ConnectionInputs.SEND_DATA)
        stream.state_machine.process_input(StreamInputs.SEND_DATA)
        if end_stream:
            stream.state_machine.process_input(StreamInputs.SEND_END_STREAM)
        stream.outbound_flow_control_window -= size
        self.outbound_flow_control_window -= size
        self._data_to_send += frame_head(size, DATA, END_STREAM if end_stream else 0, stream_id) + data

    # What h2 does otherwise.

    def _terminate_connection(self, error_code: Any) -> None:
        # It can send nothing after that, not even resets.
        self._is_over = True
        super()._terminate_connection(error_code)

    def _open_streams(self, remainder: int) -> int:
        # It looks at all streams for each new one, and ends the connection where there are too many.
        return 0

    def _begin_new_stream(self, stream_id: int, allowed_ids: Any) -> Any:
        # A wrong Content-Length ends the connection; here, as in RFC 9113, 8.1.1, its stream.
        stream: Any = super()._begin_new_stream(stream_id, allowed_ids)
        stream._initialize_content_length = _nothing
        stream._track_content_length = _nothing
        return stream

    def _acknowledge_settings(self) -> Any:
        frames = super()._acknowledge_settings()
        if self.encoder.header_table_size > self._encoder_table:
            self.encoder.header_table_size = self._encoder_table
        return frames


def frame_head(size: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The first nine octets of a frame with *size* octets of payload (RFC 9113, 4.1)."""
    return (size << 48 | kind << 40 | flags << 32 | stream_id).to_bytes(9, "big")


def goaway(last_stream: int, error: int) -> bytes:
    """A GOAWAY frame."""
    return b"\x00\x00\x08\x07\x00\x00\x00\x00\x00%b%b" % (last_stream.to_bytes(4, "big"), int(error).to_bytes(4, "big"))


PING_FRAME = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00swrmgate"


class Frames:
    """Takes frames from what arrives.

    :ivar rest: octets of a frame that is not complete, and of those that were not taken.
    """

    __slots__ = ("rest",)

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> Generator[tuple[int, int, int, bytes], None, None]:
        """The complete frames: type, flags, stream and the whole frame as it came.

        Those that are left when the iterator is closed come with the next call.

        :raises ValueError: a frame is longer than it may be.
        """
        if self.rest:
            data = self.rest + data
        self.rest = b""
        size = len(data)
        at = 0
        try:
            while size - at >= 9:
                begin = at
                length = int.from_bytes(data[at : at + 3], "big")
                if length > FRAME_AT_MOST:
                    raise ValueError
                end = at + 9 + length
                if end > size:
                    break
                at = end
                yield (
                    data[begin + 3],
                    data[begin + 4],
                    int.from_bytes(data[begin + 5 : begin + 9], "big") & HIGHEST_STREAM,
                    data[begin:end],
                )
        finally:
            self.rest = data[at:] if at else data
