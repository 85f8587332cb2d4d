"""How a gate shows an agent that it knows the token, without telling it.

The gate asks whoever says by label that it is an agent. Were the token sent, any service could have it by such a label,
and ask the agents itself. So the gate sends a keyed digest (HMAC, RFC 2104) of where it asks and when: it is of use at
that address only, where it was sent to anyway, and for some minutes.
"""

from __future__ import annotations

import hmac
import ipaddress

SCHEME = "Swarmgate"
_APART = 300  # Seconds that the clocks of two nodes may be apart.


def proof(token: bytes, host: str, port: int, now: float) -> str:
    """The field ``Authorization`` of a question to the agent at an address, ``Swarmgate TIME DIGEST``.

    :param now: seconds since 1970.
    """
    return f"{SCHEME} {int(now)} {_digest(token, host, port, int(now))}"


def is_proof(field: bytes, token: bytes, host: str, port: int, now: float) -> bool:
    """Whether a field shows that its sender knows the token, and meant this address.

    :param host: where the question has arrived, and *port*: the agent's own.
    """
    scheme, _, rest = field.decode("latin-1").partition(" ")
    time, _, digest = rest.partition(" ")
    if scheme != SCHEME or not (time.isascii() and time.isdecimal() and len(time) < 12) or not digest.isascii():
        return False
    return abs(now - int(time)) <= _APART and hmac.compare_digest(digest, _digest(token, host, port, int(time)))


def _digest(token: bytes, host: str, port: int, time: int) -> str:
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return hmac.digest(token, f"usage {address} {port} {time}".encode(), "sha256").hex()
