"""Cookies that lead clients back to their server (Traefik ``sticky.cookie``)."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable

from swarmgate.balancing.member import Member
from swarmgate.dynamic.cookie import StickyCookie
from swarmgate.dynamic.model import Server
from swarmgate.http.message import Fields, field_values


class _Cookie:
    """A service's cookie.

    :param service: the qualified name.
    """

    def __init__(self, service: str, cookie: StickyCookie) -> None:
        self.name = (cookie.name or cookie_name(service)).encode("ascii")
        self._attributes = _attributes(cookie)

    def value(self, fields: Fields) -> bytes:
        """The cookie's value in a request with *fields*, ``b""`` for none."""
        start = self.name + b"="
        for line in field_values(fields, b"cookie"):
            for pair in line.split(b";"):
                pair = pair.strip()
                if pair.startswith(start):
                    return pair[len(start) :].strip(b'"')
        return b""

    def set_value(self, value: bytes, fields: Fields) -> None:
        """Add to the answer with *fields* the cookie of that *value*."""
        fields.append((b"Set-Cookie", b"%b=%b%b" % (self.name, value, self._attributes)))


class StickyChildren(_Cookie):
    """Which child of a service that is made of others a request's cookie means, and the cookie that means a child.

    :param children: their qualified names.
    """

    def __init__(self, service: str, cookie: StickyCookie, children: Iterable[str]) -> None:
        _Cookie.__init__(self, service, cookie)
        self._children = {value: child for child in children for value in _of_text(child)}

    def child(self, fields: Fields) -> str:
        """The child that the request with *fields* asks for; ``""`` if it doesn't, or the child is gone."""
        value = self.value(fields)
        return self._children.get(value, "") if value else ""

    def set(self, child: str, fields: Fields) -> None:
        """Add to the answer with *fields* the cookie that leads to *child*."""
        self.set_value(_short(child), fields)


class Stickiness(_Cookie):
    """Which member a request's cookie means, and the cookie that means a member.

    A Swarm task's cookie means its slot: after a rolling update a client comes back to the task that took the place of
    its own. Cookies that Traefik has set, which mean a server's URL, are understood too.

    :param service: the qualified name.
    """

    def __init__(self, service: str, cookie: StickyCookie, members: Iterable[Member]) -> None:
        _Cookie.__init__(self, service, cookie)
        self._members: dict[bytes, Member] = {}
        for member in members:
            for value in (*_of_text(member.server.url), value_of(member.server)):
                self._members[value] = member

    def member(self, fields: Fields) -> Member | None:
        """The member that the request with *fields* asks for; None if it doesn't, or the member is gone."""
        value = self.value(fields)
        return self._members.get(value) if value else None

    def leads_to(self, member: Member, fields: Fields) -> bool:
        """Whether the cookie of a request with *fields* leads to *member*, in our own way of saying so."""
        return self.value(fields) == value_of(member.server)

    def set(self, member: Member, fields: Fields) -> None:
        """Add to the answer with *fields* the cookie that leads to *member*."""
        self.set_value(value_of(member.server), fields)


def cookie_name(service: str) -> str:
    """The name of a cookie that has none: as Traefik makes it of a service's qualified name."""
    return "_" + hashlib.sha1(f"_TRAEFIK_BACKEND_{service}".encode(), usedforsecurity=False).hexdigest()[:5]


def value_of(server: Server) -> bytes:
    """The cookie's value for *server*: of its slot, or its URL where it is no task."""
    return _short(server.task or server.url)


def _of_text(text: str) -> tuple[bytes, ...]:
    """The values that Traefik's releases have for a URL or a name: SHA-256, and the two kinds of FNV-64 before."""
    one = other = 0xCBF29CE484222325
    for octet in text.encode():
        one = (one * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF) ^ octet
        other = (other ^ octet) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return _short(text), b"%x" % one, b"%x" % other


@functools.lru_cache(maxsize=65536)
def _short(text: str) -> bytes:
    return hashlib.sha256(text.encode()).hexdigest()[:16].encode("ascii")


def _attributes(cookie: StickyCookie) -> bytes:
    parts = [f"Path={cookie.path or '/'}"]
    if cookie.domain:
        parts.append(f"Domain={cookie.domain}")
    if cookie.max_age:
        parts.append(f"Max-Age={max(cookie.max_age, 0)}")
    if cookie.http_only:
        parts.append("HttpOnly")
    if cookie.secure:
        parts.append("Secure")
    if cookie.same_site:
        parts.append(f"SameSite={cookie.same_site.capitalize()}")
    return "".join(f"; {part}" for part in parts).encode("ascii", "replace")
