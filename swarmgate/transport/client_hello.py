"""What a TLS client asks for in its first message, before anything is decided (RFC 8446, 4.1.2; RFC 5246, 7.4.1.2).

OpenSSL can change a connection's certificate once it has seen the name that the client asks for, but not whether it
wants the client's certificate, nor its versions and ciphers; and it takes a session of one name for another's. So the
message is read first, and the connection begins with the right context.
"""

from __future__ import annotations

import attrs

#: The first octet of a record that holds handshake messages (RFC 8446, 5.1). No HTTP request begins with it.
HANDSHAKE = 0x16
#: Octets of a hello that are waited for; real ones have less than 2,000.
LONGEST_HELLO = 16384

#: Records that a hello may be cut into: looking at many small ones again and again would cost much.
_RECORDS_AT_MOST = 16
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_ALPN = 16


@attrs.frozen
class ClientHello:
    """What a client asks for.

    :ivar server_name: the host, in lower case, without trailing dot; ``""`` if it names none (RFC 6066, 3).
    :ivar protocols: that it offers to speak, in its order (ALPN, RFC 7301).
    """

    server_name: str = ""
    protocols: tuple[bytes, ...] = ()


class NotTLS(Exception):
    """This is no ClientHello; OpenSSL knows what to answer."""


def read_client_hello(data: bytes) -> ClientHello | None:
    """The hello that *data*, all that a client has sent, begins with; None if it is not complete yet.

    :raises NotTLS: it is something else, or broken.
    """
    message = b""
    at = 0
    for _ in range(_RECORDS_AT_MOST):
        header = data[at : at + 5]
        if header[:1] not in (b"", b"\x16") or (len(header) > 1 and header[1] != 3) or len(data) > 2 * LONGEST_HELLO:
            raise NotTLS
        if len(header) < 5:
            return None
        size = header[3] << 8 | header[4]
        if not size or size > LONGEST_HELLO:
            raise NotTLS
        message += data[at + 5 : at + 5 + size]
        if message[0:1] not in (b"", b"\x01"):
            raise NotTLS
        if len(message) >= 4:
            length = message[1] << 16 | message[2] << 8 | message[3]
            if length > LONGEST_HELLO:
                raise NotTLS
            if len(message) >= 4 + length:
                return _read(message[4 : 4 + length])
        if len(data) < at + 5 + size:
            return None
        at += 5 + size
    raise NotTLS


class _Octets:
    """Takes a message apart, front to back."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise NotTLS
        self._at += count
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def vector(self, count: int) -> bytes:
        """What a length of *count* octets stands before."""
        return self.take(self.number(count))

    def __bool__(self) -> bool:
        return self._at < len(self._data)


def _read(body: bytes) -> ClientHello:
    try:
        at = 2 + 32  # The version, and what is random.
        at += 1 + body[at]  # The session's name,
        at += 2 + (body[at] << 8 | body[at + 1])  # ciphers,
        at += 1 + body[at]  # compression methods.
        if at == len(body):
            return ClientHello()
        size = body[at] << 8 | body[at + 1]
    except IndexError:
        raise NotTLS from None
    extensions = body[at + 2 : at + 2 + size]
    if len(extensions) < size:
        raise NotTLS
    server_name = ""
    protocols: tuple[bytes, ...] = ()
    at, end = 0, len(extensions)
    # Twenty of them or so, of which two are wanted: by hand, for this is a handshake's largest part in Python.
    while at < end:
        if at + 4 > end:
            raise NotTLS
        kind = extensions[at] << 8 | extensions[at + 1]
        start = at + 4
        at = start + (extensions[at + 2] << 8 | extensions[at + 3])
        if at > end:
            raise NotTLS
        if kind == _SERVER_NAME:
            server_name = _server_name(extensions[start:at])
        elif kind == _ALPN:
            protocols = _protocols(extensions[start:at])
    return ClientHello(server_name, protocols)


def _server_name(value: bytes) -> str:
    names = _Octets(_Octets(value).vector(2))
    while names:
        kind, name = names.number(1), names.vector(2)
        if kind == 0:
            try:
                return name.decode("ascii").lower().rstrip(".")
            except UnicodeDecodeError:
                raise NotTLS from None
    return ""


def _protocols(value: bytes) -> tuple[bytes, ...]:
    names = _Octets(_Octets(value).vector(2))
    protocols = []
    while names:
        protocols.append(names.vector(1))
    return tuple(protocols)
