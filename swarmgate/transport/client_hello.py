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
        have = len(data) - at
        if (have > 0 and data[at] != HANDSHAKE) or (have > 1 and data[at + 1] != 3) or len(data) > 2 * LONGEST_HELLO:
            raise NotTLS
        if have < 5:
            return None
        size = data[at + 3] << 8 | data[at + 4]
        if not size or size > LONGEST_HELLO:
            raise NotTLS
        message += data[at + 5 : at + 5 + size]
        if message and message[0] != _CLIENT_HELLO:
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


def _read(body: bytes) -> ClientHello:
    # Octet by octet, for this is a handshake's largest part in Python. Compiled, nothing keeps an index within the
    # message but what is said here.
    octets, end = body, len(body)
    at = 2 + 32  # The version, and what is random.
    if at + 1 > end:
        raise NotTLS
    at += 1 + octets[at]  # The session's name,
    if at + 2 > end:
        raise NotTLS
    at += 2 + (octets[at] << 8 | octets[at + 1])  # ciphers,
    if at + 1 > end:
        raise NotTLS
    at += 1 + octets[at]  # compression methods.
    if at == end:
        return ClientHello()
    if at + 2 > end:
        raise NotTLS
    size = octets[at] << 8 | octets[at + 1]
    at += 2
    if at + size > end:
        raise NotTLS
    end = at + size
    server_name = ""
    protocols: tuple[bytes, ...] = ()
    # Twenty of them or so, of which two are wanted.
    while at < end:
        if at + 4 > end:
            raise NotTLS
        kind = octets[at] << 8 | octets[at + 1]
        start = at + 4
        at = start + (octets[at + 2] << 8 | octets[at + 3])
        if at > end:
            raise NotTLS
        if kind == _SERVER_NAME:
            server_name = _server_name(body[start:at])
        elif kind == _ALPN:
            protocols = _protocols(body[start:at])
    return ClientHello(server_name, protocols)


def _server_name(value: bytes) -> str:
    octets, end = value, _end_of_list(value)
    at = 2
    while at < end:
        if at + 3 > end:
            raise NotTLS
        kind = octets[at]
        start = at + 3
        at = start + (octets[at + 1] << 8 | octets[at + 2])
        if at > end:
            raise NotTLS
        if kind == 0:
            try:
                return value[start:at].decode("ascii").lower().rstrip(".")
            except UnicodeDecodeError:
                raise NotTLS from None
    return ""


def _protocols(value: bytes) -> tuple[bytes, ...]:
    octets, end = value, _end_of_list(value)
    protocols = []
    at = 2
    while at < end:
        start = at + 1
        at = start + octets[at]
        if at > end:
            raise NotTLS
        protocols.append(value[start:at])
    return tuple(protocols)


def _end_of_list(value: bytes) -> int:
    """Where a list ends whose length in two octets *value* begins with."""
    if len(value) < 2:
        raise NotTLS
    end = 2 + (value[0] << 8 | value[1])
    if end > len(value):
        raise NotTLS
    return end
