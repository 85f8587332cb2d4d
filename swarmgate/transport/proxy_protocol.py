"""Who a connection's client is, as a proxy says before all else that it sends (the PROXY protocol, HAProxy's
``doc/proxy-protocol.txt``, 2.1 and 2.2).
"""

from __future__ import annotations

import re
import socket

import attrs

#: Octets of a header of version 1, the end of its line included (2.1).
LONGEST_LINE = 107
#: Octets of a header of version 2; its vectors (2.2), which say more of the client, are skipped.
LONGEST_HEADER = 4096

_BEGIN_OF_LINE = b"PROXY "
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = 16
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
#: The highest address family and transport protocol that there are: AF_UNIX, DGRAM.
_FAMILIES, _TRANSPORTS = 3, 2
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")


@attrs.frozen
class ProxyHeader:
    """What a proxy has said.

    :ivar size: in octets; 0: the connection begins with something else.
    :ivar source: the client's address and port; None: they are those of the connection.
    """

    size: int = 0
    source: tuple[str, int] | None = None


class MalformedHeader(Exception):
    """It begins as a header and is none; says why, for people."""


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header that *data*, all that a peer has sent, begins with; None if it is not complete yet.

    :raises MalformedHeader: the peer does not know the protocol.
    """
    if data.startswith(_BEGIN_OF_LINE):
        return _line(data)
    if data.startswith(_SIGNATURE):
        return _binary(data)
    if _BEGIN_OF_LINE.startswith(data) or _SIGNATURE.startswith(data):
        return None
    return ProxyHeader()


def _line(data: bytes) -> ProxyHeader | None:
    """A header of version 1 (2.1)."""
    end = data.find(b"\r\n", 0, LONGEST_LINE)
    if end < 0:
        if len(data) >= LONGEST_LINE:
            raise MalformedHeader(f"no end of the line in {LONGEST_LINE} octets")
        return None
    size = end + 2
    family, *told = data[len(_BEGIN_OF_LINE) : end].split(b" ")
    if family == b"UNKNOWN":
        return ProxyHeader(size)
    if family not in (b"TCP4", b"TCP6"):
        raise MalformedHeader("neither TCP4, TCP6 nor UNKNOWN")
    if len(told) != 4:
        raise MalformedHeader("not two addresses and two ports")
    kind = socket.AF_INET if family == b"TCP4" else socket.AF_INET6
    host, _ = _address(kind, told[0]), _address(kind, told[1])
    port, _ = _port(told[2]), _port(told[3])
    return ProxyHeader(size, (host, port))


def _address(kind: socket.AddressFamily, text: bytes) -> str:
    try:
        return socket.inet_ntop(kind, socket.inet_pton(kind, text.decode("ascii")))
    except (OSError, ValueError):
        raise MalformedHeader("not an address of its family") from None


def _port(text: bytes) -> int:
    if _PORT.fullmatch(text) is None or int(text) > 65535:
        raise MalformedHeader("not a port")
    return int(text)


def _binary(data: bytes) -> ProxyHeader | None:
    """A header of version 2 (2.2)."""
    if len(data) < _FIXED:
        return None
    command, family = data[12], data[13]
    size = _FIXED + int.from_bytes(data[14:_FIXED], "big")
    if command not in (_LOCAL, _PROXY):
        raise MalformedHeader("neither LOCAL nor PROXY of version 2")
    if command == _PROXY and (family >> 4 > _FAMILIES or family & 15 > _TRANSPORTS):
        raise MalformedHeader("no family or transport that there is")
    if size > LONGEST_HEADER:
        raise MalformedHeader(f"longer than {LONGEST_HEADER} octets")
    if len(data) < size:
        return None
    if command == _PROXY and family == _TCP4:
        return ProxyHeader(size, _source(socket.AF_INET, 4, data[_FIXED:size]))
    if command == _PROXY and family == _TCP6:
        return ProxyHeader(size, _source(socket.AF_INET6, 16, data[_FIXED:size]))
    return ProxyHeader(size)


def _source(kind: socket.AddressFamily, length: int, told: bytes) -> tuple[str, int]:
    """Out of both addresses, of that *length* each, and both ports."""
    if len(told) < 2 * length + 4:
        raise MalformedHeader("too short for its addresses")
    return socket.inet_ntop(kind, told[:length]), int.from_bytes(told[2 * length : 2 * length + 2], "big")
