"""``digestAuth``: only users with a password pass, which is not sent itself (RFC 7616, with MD5 as Traefik has it).

Users are those of ``htdigest``: a name, a realm and a digest of both with the password. Those of another realm than
*realm* are left out.

What a client answers with holds for one request: a counter goes with it, and whoever sends the same one again has to
answer anew. What it answers to, a nonce, holds for a minute, in all workers of this gate and nowhere else; after that
clients answer to a new one, without asking their users again. Nothing is kept of nonces that nobody has answered to.
Workers count together, as rate limits do, and remember up to 262144 answers.

Browsers keep what they answer with from others, but MD5 is weak: without TLS, whoever listens can try passwords out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import attrs

from swarmgate.http.errors import BadRequest
from swarmgate.http.exchange import reason_of
from swarmgate.http.message import Request, field_values
from swarmgate.http.paths import PathPolicy
from swarmgate.limits.interface import Buckets, Rate
from swarmgate.middlewares.fields import name_of, spelling, value_of, without
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.middlewares.users import lines_of
from swarmgate.structure import option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange

KIND = "digestAuth"

#: Seconds that a nonce may be answered to.
_LIVES = 60.0
#: Seconds by which a nonce may seem to be from the future.
_AHEAD = 1.0
_LONGEST = 8192
_NONCE = struct.Struct(">d8s16s")
_HA1 = re.compile(r"[0-9a-f]{32}")
_RESPONSE = re.compile(rb"[0-9a-f]{32}")
_COUNT = re.compile(rb"[0-9a-f]{8}")
#: One parameter, and what ends it (RFC 9110, 11.2).
_PARAMETER = re.compile(
    rb"[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*=[ \t]*"
    rb'(?:"((?:[^"\\]|\\.)*+)"|([!#$%&\'*+\-.^_`|~0-9A-Za-z]+))[ \t]*(?:,|$)',
    re.DOTALL,
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_PATHS = PathPolicy()


@attrs.frozen
class Settings:
    """Options of ``digestAuth``."""

    users: tuple[str, ...] = option(default=(), secret=True, doc="Users, each as name:realm:digest.")
    users_file: str = option(
        default="",
        doc="A file with such users, one a line; it comes before users, and is read whenever the configuration is.",
    )
    realm: str = option(default="traefik", doc="What the password is for; users are of it.")
    remove_header: bool = option(default=False, doc="Keep Authorization from the server.")
    header_field: str = option(default="", doc="The request field that tells the server the user's name.")


def parse_users(lines: Iterable[tuple[str, str]], realm: str) -> dict[bytes, bytes]:
    """Digests by name of the users of *realm*, of pairs of where a user was written and what was written.

    :raises ValueError: something is no user; the text has no digest in it.
    """
    users: dict[bytes, bytes] = {}
    others: set[str] = set()
    for origin, line in lines:
        parts = line.strip().split(":")
        if len(parts) != 3 or not parts[0] or not parts[0].isprintable() or not parts[1].isprintable():
            raise ValueError(f"{origin}: expected a user as name:realm:digest, as htdigest prints it")
        name, of, digest = parts
        if not _HA1.fullmatch(digest.lower()):
            raise ValueError(f"{origin}: the digest of {name} is none, expected 32 hexadecimal digits")
        if of == realm:
            users[name.encode("utf-8")] = digest.lower().encode("ascii")
        else:
            others.add(of)
    if not users and others:
        raise ValueError(f"there are no users of the realm {realm}, only of {', '.join(sorted(others))}")
    return users


def parameters_of(authorization: bytes) -> dict[bytes, bytes] | None:
    """The parameters of an Authorization field by name in lower case; None if it is none of the scheme Digest."""
    scheme, _, text = authorization.partition(b" ")
    if scheme.lower() != b"digest" or len(text) > _LONGEST:
        return None
    found: dict[bytes, bytes] = {}
    place = 0
    text = text.rstrip(b" \t,")
    while place < len(text):
        match = _PARAMETER.match(text, place)
        if match is None:
            return None
        name = match[1].lower()
        if name in found:
            return None
        found[name] = match[3] if match[2] is None else _ESCAPED.sub(rb"\1", match[2])
        place = match.end()
    return found


def _md5(*parts: bytes) -> bytes:
    return hashlib.md5(b":".join(parts), usedforsecurity=False).hexdigest().encode("ascii")


def answer_to(digest: bytes, method: bytes, given: Mapping[bytes, bytes]) -> bytes:
    """The ``response`` of a user whose digest is *digest* (RFC 7616, 3.4.1)."""
    return _md5(digest, given[b"nonce"], given[b"nc"], given[b"cnonce"], given[b"qop"], _md5(method, given[b"uri"]))


class Nonces:
    """Makes nonces, and tells its own. Nothing is kept of them.

    :param secret: what all workers know, and nobody else.
    :param purpose: what a nonce is for: it is none for anything else.
    """

    def __init__(self, secret: bytes, purpose: bytes, wall: Callable[[], float]) -> None:
        self._key = hashlib.blake2b(purpose, key=secret, digest_size=32, person=b"digestAuth").digest()
        self._wall = wall

    def make(self) -> bytes:
        """A new one."""
        now, salt = self._wall(), os.urandom(8)
        return base64.urlsafe_b64encode(_NONCE.pack(now, salt, self._seal(now, salt)))

    def is_alive(self, nonce: bytes) -> bool:
        """Whether *nonce* was made with the same secret for the same purpose, and may still be answered to."""
        try:
            now, salt, seal = _NONCE.unpack(base64.b64decode(nonce, b"-_", validate=True))
        except (binascii.Error, struct.error, ValueError):
            return False
        return hmac.compare_digest(seal, self._seal(now, salt)) and -_AHEAD <= self._wall() - now < _LIVES

    def _seal(self, now: float, salt: bytes) -> bytes:
        return hashlib.blake2b(struct.pack(">d", now) + salt, key=self._key, digest_size=16).digest()


class DigestAuth(Middleware):
    """Lets users pass who know their password."""

    __slots__ = ("_nobodys", "_nonces", "_opaque", "_realm", "_remove", "_told", "_told_spelling", "_used", "_users")

    def __init__(self, settings: Settings, users: Mapping[bytes, bytes], nonces: Nonces, used: Buckets) -> None:
        """
        :param used: a bucket of one token for each answer: an answer is taken once.
        """
        self._users = users
        self._nonces = nonces
        self._used = used
        self._nobodys = _md5(os.urandom(16))
        self._realm = value_of(settings.realm, "realm")
        self._opaque = hashlib.sha256(self._realm).hexdigest()[:32].encode("ascii")
        self._remove = settings.remove_header
        self._told = name_of(settings.header_field, "headerField") if settings.header_field else b""
        self._told_spelling = spelling(self._told)

    def request(self, exchange: Exchange) -> None:
        authorizations = field_values(exchange.request.fields, b"authorization")
        # With two, the server might take the other one.
        given = parameters_of(authorizations[0]) if len(authorizations) == 1 else None
        if given is None or not self._is_complete(given):
            self._refuse(exchange)
            return
        user = given[b"username"]
        digest = self._users.get(user)
        expected = answer_to(self._nobodys if digest is None else digest, exchange.request.method, given)
        if not hmac.compare_digest(expected, given[b"response"]) or digest is None:
            self._refuse(exchange)
        elif not _is_about(given[b"uri"], exchange.request):
            exchange.answer(400, reason_of(400))
        elif not self._nonces.is_alive(given[b"nonce"]) or self._used.take(given[b"nonce"] + given[b"nc"]):
            self._refuse(exchange, stale=True)
        else:
            self._accept(exchange, user)

    def _is_complete(self, given: Mapping[bytes, bytes]) -> bool:
        """Whether the answer has all that an answer to this needs, and is of the kind that was asked for."""
        return (
            given.keys() >= {b"username", b"nonce", b"uri", b"response", b"cnonce", b"nc", b"qop"}
            and given[b"qop"] == b"auth"
            and given.get(b"algorithm", b"MD5").upper() == b"MD5"
            and given.get(b"realm") == self._realm
            and given.get(b"opaque", self._opaque) == self._opaque
            and given.get(b"userhash", b"false").lower() == b"false"
            and _COUNT.fullmatch(given[b"nc"]) is not None
            and _RESPONSE.fullmatch(given[b"response"]) is not None
        )

    def _accept(self, exchange: Exchange, user: bytes) -> None:
        request = exchange.request
        exchange.user = user.decode("utf-8", "backslashreplace")
        if self._remove:
            request.fields = [pair for pair in request.fields if pair[0].lower() != b"authorization"]
        if self._told:
            request.fields = without(request.fields, (self._told_spelling,))
            request.fields.append((self._told, user))

    def _refuse(self, exchange: Exchange, stale: bool = False) -> None:
        challenge = b'Digest realm="%b", nonce="%b", opaque="%b", algorithm=MD5, qop="auth"%b' % (
            self._realm.replace(b"\\", b"\\\\").replace(b'"', b'\\"'),
            self._nonces.make(),
            self._opaque,
            b", stale=true" if stale else b"",
        )
        exchange.answer(
            401, b"401 Unauthorized\n", ((b"Content-Type", b"text/plain"), (b"WWW-Authenticate", challenge))
        )


def _is_about(uri: bytes, request: Request) -> bool:
    """Whether *uri*, which a client has answered for, is what it asks for now."""
    if not uri.startswith(b"/") and uri != b"*":
        # In absolute form, as to a proxy.
        scheme, mark, rest = uri.partition(b"://")
        authority, slash, path = rest.partition(b"/")
        if not mark or scheme.lower() not in (b"http", b"https") or authority.lower() != request.authority.lower():
            return False
        uri = slash + path if slash else b"/"
    path, mark, query = uri.partition(b"?")
    asked = request.path if request.asked_path is None else request.asked_path
    if (query if mark else None) != request.query:
        return False
    if path == asked:
        return True
    try:
        return _PATHS.normalise(path) == asked
    except BadRequest:
        return False


def files(settings: Settings) -> tuple[str, ...]:
    """The files that it is made from."""
    return (settings.users_file,) if settings.users_file else ()


def build(settings: Settings, context: Context) -> Middleware:
    """The check for one route; answers are counted for all routes with the same middleware.

    :raises ValueError: there are no users, or some are written wrongly, or their file can't be read.
    """
    users = parse_users(lines_of(settings.users, settings.users_file), settings.realm)
    if not users:
        raise ValueError("digestAuth: no users, expected users or usersFile")
    nonces = Nonces(context.limits.secret, f"{context.name}\n{settings.realm}".encode(), time.time)
    used = context.keep(
        (KIND, context.name),
        lambda: context.limits.buckets(f"{KIND} {context.name}", Rate(1 / (2 * _LIVES), 1), context.clock),
    )
    return DigestAuth(settings, users, nonces, used)
