"""Encryption of what is kept where others can read it: AES-256-GCM under keys that come from a file.

A sealed text is ``SG1``, the key's id (8 octets), a nonce (12 octets) and the ciphertext with its tag. The name that
it is kept under is authenticated with it, so that a text can't be passed off as another's.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_MAGIC = b"SG1"
_ID = 8
_NONCE = 12
_SHORTEST = 32  # Characters: 32 octets in base64 have 44, in hexadecimal digits 64.


class SealError(Exception):
    """A sealed text can't be opened, or there are no keys; the message says what to do."""


@attrs.frozen
class Key:
    """A key, and the id by which a sealed text names it."""

    id: bytes
    secret: bytes = attrs.field(repr=False)


@attrs.frozen
class Keys:
    """The keys there are: the first seals, all open.

    :raises ValueError: there is none.
    """

    keys: tuple[Key, ...]

    def __attrs_post_init__(self) -> None:
        if not self.keys:
            raise ValueError("at least one key")

    @classmethod
    def from_text(cls, text: str, origin: str) -> Keys:
        """The keys that *text* has, one in each line; the newest first. Empty lines and ``#`` comments don't count.

        :param origin: where it is from, for errors.
        :raises SealError: there is none, or one that can be guessed.
        """
        lines = [line.strip() for line in text.splitlines()]
        wanted = f"expected a line of at least {_SHORTEST} random characters, as openssl rand -base64 32 prints"
        keys = []
        for number, line in enumerate(lines, 1):
            if not line or line.startswith("#"):
                continue
            if len(line) < _SHORTEST or len(set(line)) < 8:
                raise SealError(f"{origin}, line {number}: too weak for a key: {wanted}")
            secret = HKDF(hashes.SHA256(), 32, None, b"swarmgate certificates").derive(line.encode())
            keys.append(Key(hashlib.sha256(b"swarmgate key id" + secret).digest()[:_ID], secret))
        if not keys:
            raise SealError(f"{origin}: no key in it: {wanted}")
        return cls(tuple(keys))

    @classmethod
    def from_file(cls, path: str) -> Keys:
        """The keys of a file.

        :raises SealError: it can't be read, or has none.
        """
        try:
            text = Path(path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
            raise SealError(
                f"{path}: {reason}: expected a file with a key, such as a Docker secret mounted there; "
                "openssl rand -base64 32 makes one"
            ) from None
        return cls.from_text(text, path)

    @property
    def id(self) -> str:
        """The id of the key that seals, in hexadecimal digits."""
        return self.keys[0].id.hex()

    def seal(self, plain: bytes, name: str, random: Callable[[int], bytes] = os.urandom) -> bytes:
        """*plain* encrypted, to be kept under *name*."""
        key, nonce = self.keys[0], random(_NONCE)
        return _MAGIC + key.id + nonce + AESGCM(key.secret).encrypt(nonce, plain, _MAGIC + name.encode())

    def open(self, sealed: bytes, name: str) -> bytes:
        """What :meth:`seal` was given.

        :raises SealError: it was sealed with a key that isn't here, was changed, or was kept under another name.
        """
        key_id = sealed[len(_MAGIC) : len(_MAGIC) + _ID]
        if sealed[: len(_MAGIC)] != _MAGIC or len(sealed) < len(_MAGIC) + _ID + _NONCE + 16:
            raise SealError(f"{name}: nothing that swarmgate has encrypted")
        for key in self.keys:
            if key.id == key_id:
                nonce, rest = sealed[len(_MAGIC) + _ID :][:_NONCE], sealed[len(_MAGIC) + _ID + _NONCE :]
                try:
                    return AESGCM(key.secret).decrypt(nonce, rest, _MAGIC + name.encode())
                except InvalidTag:
                    raise SealError(f"{name}: was changed since swarmgate wrote it, or put there by others") from None
        known = ", ".join(key.id.hex() for key in self.keys)
        raise SealError(f"{name}: encrypted with the key {key_id.hex()}, which is not among those given: {known}")

    def is_current(self, key_id: str) -> bool:
        """Is this the id of the key that seals?"""
        return key_id == self.id
