"""``basicAuth``: only users with a password pass.

Hashes are those of ``htpasswd``: bcrypt (``$2y$``), MD5 (``$apr1$``, ``$1$``) and SHA-1 (``{SHA}``). Verifying a good
hash takes long on purpose. So it is done in a thread, once for all requests with the same credentials at a time, and
credentials that were right are not verified again for a minute. What is kept meanwhile is a keyed digest of them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import bcrypt
from passlib.hash import apr_md5_crypt, md5_crypt
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from swarmgate.http.exchange import reason_of
from swarmgate.http.message import field_values
from swarmgate.middlewares.fields import name_of, spelling, value_of, without
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.middlewares.users import lines_of
from swarmgate.structure import option

if TYPE_CHECKING:
    from swarmgate.http.exchange import Exchange

KIND = "basicAuth"

_REMEMBERED_FOR = 60.0
_REMEMBERED_AT_MOST = 4096
#: Verifications that may wait for a thread; more are answered 503, so that guessing can't fill the memory.
_WAITING_AT_MOST = 256


@attrs.frozen
class Settings:
    """Options of ``basicAuth``."""

    users: tuple[str, ...] = option(default=(), secret=True, doc="Users, each as name:hash.")
    users_file: str = option(
        default="",
        doc="A file with such users, one a line; it comes before users, and is read whenever the configuration is.",
    )
    realm: str = option(default="traefik", doc="What the client's browser says the password is for.")
    remove_header: bool = option(default=False, doc="Keep Authorization from the server.")
    header_field: str = option(default="", doc="The request field that tells the server the user's name.")


def parse_users(lines: Iterable[tuple[str, str]]) -> dict[bytes, bytes]:
    """Hashes by name, of pairs of where a user was written and what was written.

    :raises ValueError: something is no user; the text has no hash in it.
    """
    users: dict[bytes, bytes] = {}
    for origin, line in lines:
        name, colon, secret = line.strip().partition(":")
        if not colon or not name or ":" in secret or not name.isprintable():
            raise ValueError(f"{origin}: expected a user as name:hash, as htpasswd prints it")
        if secret.startswith("$$"):
            raise ValueError(f"{origin}: the hash begins with $$; $ is doubled only where a stack file is read")
        if not secret.startswith(tuple(_VERIFIERS)):
            raise ValueError(
                f"{origin}: the hash of {name} is of an unknown kind, expected bcrypt, MD5 ($apr1$) or SHA-1 ({{SHA}})"
            )
        users[name.encode("utf-8")] = secret.encode("utf-8")
    return users


def _is_bcrypt(password: bytes, secret: bytes) -> bool:
    try:
        # bcrypt sees no more of a password; what comes after has never counted.
        return bcrypt.checkpw(password[:72], secret)
    except ValueError:
        return False


def _is_md5(password: bytes, secret: bytes) -> bool:
    scheme: Any = apr_md5_crypt if secret.startswith(b"$apr1$") else md5_crypt
    try:
        return bool(scheme.verify(password, secret.decode("utf-8")))
    except ValueError:
        return False


def _is_sha1(password: bytes, secret: bytes) -> bool:
    digest = base64.b64encode(hashlib.sha1(password, usedforsecurity=False).digest())
    return hmac.compare_digest(digest, secret[len(b"{SHA}") :])


_VERIFIERS = {
    "$2a$": _is_bcrypt,
    "$2b$": _is_bcrypt,
    "$2x$": _is_bcrypt,
    "$2y$": _is_bcrypt,
    "$apr1$": _is_md5,
    "$1$": _is_md5,
    "{SHA}": _is_sha1,
}


def verify(password: bytes, secret: bytes) -> bool:
    """Whether *secret* is the hash of *password*. It may take a second."""
    text = secret.decode("utf-8")
    return next(is_right for prefix, is_right in _VERIFIERS.items() if text.startswith(prefix))(password, secret)


def credentials_of(authorization: bytes) -> tuple[bytes, bytes] | None:
    """Name and password of an Authorization field (RFC 7617, 2); None if it holds none."""
    scheme, _, text = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        name, colon, password = base64.b64decode(text.strip(b" "), validate=True).partition(b":")
    except binascii.Error:
        return None
    return (name, password) if colon else None


class Verifier:
    """Knows the users, and which credentials were right lately. It outlives tables."""

    def __init__(self, users: Mapping[bytes, bytes], clock: IReactorTime, in_thread: Any) -> None:
        self._users = users
        self._clock = clock
        self._in_thread = in_thread
        # Nobody's password is verified against somebody's hash, so that it takes as long as a wrong one.
        self._nobodys = next(iter(users.values()))
        self._key = os.urandom(32)
        self._right: dict[bytes, tuple[bytes, float]] = {}
        self._under_way: dict[bytes, list[Deferred[bytes]]] = {}

    def remembered(self, authorization: bytes) -> bytes:
        """The user of an Authorization field that was right lately, else ``b""``."""
        found = self._right.get(self._digest(authorization))
        return found[0] if found is not None and self._clock.seconds() < found[1] else b""

    def verify(self, authorization: bytes) -> Deferred[bytes] | None:
        """The user of an Authorization field, ``b""`` if it is wrong; None while too many others are waiting."""
        digest = self._digest(authorization)
        waiting = self._under_way.get(digest)
        if waiting is None:
            if len(self._under_way) >= _WAITING_AT_MOST:
                return None
            self._under_way[digest] = waiting = []
            verified = self._start(authorization)
            result: Deferred[bytes] = Deferred()
            waiting.append(result)
            verified.addBoth(self._finished, digest)
            return result
        result = Deferred()
        waiting.append(result)
        return result

    def _start(self, authorization: bytes) -> Deferred[bytes]:
        if self._in_thread is not None:
            started: Deferred[bytes] = self._in_thread(self._user_of, authorization)
            return started
        return maybeDeferred(self._user_of, authorization)

    def _user_of(self, authorization: bytes) -> bytes:
        credentials = credentials_of(authorization)
        if credentials is None:
            return b""
        name, password = credentials
        secret = self._users.get(name)
        is_right = verify(password, self._nobodys if secret is None else secret)
        return name if is_right and secret is not None else b""

    def _finished(self, outcome: bytes | Failure, digest: bytes) -> None:
        waiting = self._under_way.pop(digest)
        if isinstance(outcome, bytes) and outcome:
            if len(self._right) >= _REMEMBERED_AT_MOST:
                self._right.clear()
            self._right[digest] = (outcome, self._clock.seconds() + _REMEMBERED_FOR)
        for one in waiting:
            if not one.called:
                one.callback(outcome)  # A Failure becomes an errback.

    def _digest(self, authorization: bytes) -> bytes:
        return hashlib.blake2b(authorization, key=self._key, digest_size=32).digest()

    def __repr__(self) -> str:
        return f"<Verifier of {len(self._users)} users>"


class BasicAuth(Middleware):
    """Lets users pass whose password is right."""

    __slots__ = ("_challenge", "_remove", "_told", "_told_spelling", "_verifier")

    def __init__(self, settings: Settings, verifier: Verifier) -> None:
        self._verifier = verifier
        realm = value_of(settings.realm, "realm").replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        self._challenge = ((b"Content-Type", b"text/plain"), (b"WWW-Authenticate", b'Basic realm="%b"' % realm))
        self._remove = settings.remove_header
        self._told = name_of(settings.header_field, "headerField") if settings.header_field else b""
        self._told_spelling = spelling(self._told)

    def request(self, exchange: Exchange) -> Deferred[None] | None:
        given = field_values(exchange.request.fields, b"authorization")
        if len(given) != 1:
            # With two, the server might take the other one.
            self._refuse(exchange)
            return None
        user = self._verifier.remembered(given[0])
        if user:
            self._accept(exchange, user)
            return None
        if credentials_of(given[0]) is None:
            self._refuse(exchange)
            return None
        verified = self._verifier.verify(given[0])
        if verified is None:
            exchange.answer(503, reason_of(503), ((b"Retry-After", b"1"),))
            return None
        return verified.addCallback(self._decide, exchange)

    def _decide(self, user: bytes, exchange: Exchange) -> None:
        if exchange.ended:
            return
        if user:
            self._accept(exchange, user)
        else:
            self._refuse(exchange)

    def _accept(self, exchange: Exchange, user: bytes) -> None:
        request = exchange.request
        exchange.user = user.decode("utf-8", "backslashreplace")
        if self._remove:
            request.fields = [pair for pair in request.fields if pair[0].lower() != b"authorization"]
        if self._told:
            request.fields = without(request.fields, (self._told_spelling,))
            request.fields.append((self._told, user))

    def _refuse(self, exchange: Exchange) -> None:
        exchange.answer(401, b"401 Unauthorized\n", self._challenge)


def files(settings: Settings) -> tuple[str, ...]:
    """The files that it is made from."""
    return (settings.users_file,) if settings.users_file else ()


def build(settings: Settings, context: Context) -> Middleware:
    """The check for one route; what was verified is known to all routes with the same users.

    :raises ValueError: there are no users, or some are written wrongly, or their file can't be read.
    """
    users = parse_users(lines_of(settings.users, settings.users_file))
    if not users:
        raise ValueError("basicAuth: no users, expected users or usersFile")
    known_by = hashlib.sha256(repr(users).encode("utf-8")).digest()
    verifier = context.keep((KIND, context.name, known_by), lambda: Verifier(users, context.clock, context.in_thread))
    return BasicAuth(settings, verifier)
