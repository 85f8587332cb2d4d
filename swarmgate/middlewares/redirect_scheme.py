"""``redirectScheme``: a request that came with another scheme is sent to the right one.

The answer is 302, or 301 if *permanent*, for GET; 307 or 308 for other methods, so that these are repeated as they
were. What a trusted peer says in X-Forwarded-Proto is the scheme. A request is also sent on if it names another port
than *port*, or any port if none is given, as Traefik does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import attrs

from swarmgate.http.exchange import reason_of
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.structure import option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange

KIND = "redirectScheme"
_DEFAULT_PORTS = {b"http": b"80", b"https": b"443"}


def _scheme(instance: Any, attribute: Any, value: str) -> None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", value):
        raise ValueError("a scheme such as https")


def _port(instance: Any, attribute: Any, value: str) -> None:
    if value and not (re.fullmatch("[0-9]{1,5}", value) and 0 < int(value) < 65536):
        raise ValueError("a port from 1 to 65535")


@attrs.frozen
class Settings:
    """Options of ``redirectScheme``."""

    scheme: str = option(validator=_scheme, doc="The right scheme, as https.")
    port: str = option(
        default="", validator=_port, doc="The right port; nothing: the scheme's own, which Location does not mention."
    )
    permanent: bool = option(default=False, doc="Answer 301 or 308, which clients remember.")


def redirect(exchange: Exchange, location: bytes, permanent: bool) -> None:
    """Answer with a redirection to *location*."""
    # With 301 and 302 clients repeat other methods as GET.
    temporary, for_good = (302, 301) if exchange.request.method == b"GET" else (307, 308)
    status = for_good if permanent else temporary
    exchange.answer(status, reason_of(status), ((b"Location", location),))


class RedirectScheme(Middleware):
    """Lets a request pass when it came with the right scheme and port."""

    __slots__ = ("_permanent", "_port", "_scheme")

    def __init__(self, settings: Settings) -> None:
        self._scheme = settings.scheme.lower().encode("ascii")
        port = settings.port.encode("ascii")
        self._port = b"" if port == _DEFAULT_PORTS.get(self._scheme) else port
        self._permanent = settings.permanent

    def request(self, exchange: Exchange) -> None:
        request = exchange.request
        host = split_authority(request.authority)[0]
        if request.scheme == self._scheme:
            port = split_authority(without_default_port(request.authority, request.scheme))[1]
            if port == self._port:
                return
        if not host:
            # HTTP/1.0 without Host: there is no place to send it to.
            exchange.answer(400, reason_of(400))
            return
        end = b":" + self._port if self._port else b""
        redirect(exchange, b"%b://%b%b%b" % (self._scheme, host, end, request.target), self._permanent)


def split_authority(authority: bytes) -> tuple[bytes, bytes]:
    """Host, IPv6 in its brackets, and port of an *authority*; ``b""`` for what it doesn't say."""
    host, colon, port = authority.rpartition(b":")
    return (host, port) if colon and port.isdigit() else (authority.removesuffix(b":"), b"")


def without_default_port(authority: bytes, scheme: bytes) -> bytes:
    """*authority*, as a URL of *scheme* writes it."""
    host, port = split_authority(authority)
    return host if port == _DEFAULT_PORTS.get(scheme) else authority


def build(settings: Settings, context: Context) -> Middleware:
    """The redirection for one route."""
    return RedirectScheme(settings)
