"""Paths in normal form, so that rules, middlewares and servers see the same one.

A path is brought to one spelling before it is routed: escapes in upper case, unreserved characters unescaped
(RFC 3986, 6.2.2), dot segments and doubled slashes removed. What still has two readings afterwards, an escaped
slash for one, is refused unless the entry point allows it.
"""

from __future__ import annotations

import re

import attrs

from swarmgate.http.errors import BadRequest

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
#: A path that needs no work: no escape, no backslash, no empty segment, none that begins with a dot.
_NORMAL = re.compile(rb"/(?:[^%\\/.][^%\\/]*+/?+)*+")

#: To servers that know parameters of path segments (RFC 3986, 3.3), ``..;a`` is ``..``; to others it is a name.
_DOTS_WITH_PARAMETER = re.compile(rb"\.\.?(?:;|%3B)")


def _respell(found: re.Match[bytes]) -> bytes:
    octet = int(found[1], 16)
    return bytes((octet,)) if octet in _UNRESERVED else b"%%%02X" % octet


@attrs.frozen
class PathPolicy:
    """Which paths an entry point takes (Traefik ``http.encodedCharacters``, ``http.sanitizePath``).

    :ivar refused: the escapes that are answered 400, in upper case.
    :ivar sanitise: whether dot segments and doubled slashes are removed.
    """

    refused: tuple[bytes, ...] = (b"%2F", b"%5C", b"%00")
    sanitise: bool = True

    def normalise(self, path: bytes) -> bytes:
        """*path* as it is routed and forwarded.

        :raises BadRequest: it has a second reading, leads above the root, or is no path.
        """
        if _NORMAL.fullmatch(path) is not None or path == b"*":
            return path
        if b"\\" in path:
            raise BadRequest("backslash in path")
        if b"%" in path:
            if _BROKEN_ESCAPE.search(path):
                raise BadRequest("broken escape in path")
            path = _ESCAPE.sub(_respell, path)
            for escape in self.refused:
                if escape in path:
                    raise BadRequest(f"escape {escape.decode()} in path")
        return self._without_dots(path) if self.sanitise else path

    @staticmethod
    def _without_dots(path: bytes) -> bytes:
        kept: list[bytes] = []
        segments = path.split(b"/")[1:]
        for segment in segments:
            if segment == b"..":
                if not kept:
                    raise BadRequest("path leads above the root")
                kept.pop()
            elif segment[:1] == b"." and _DOTS_WITH_PARAMETER.match(segment) is not None:
                raise BadRequest("parameter of a dot segment in path")
            elif segment and segment != b".":
                kept.append(segment)
        directory = segments[-1] in (b"", b".", b"..") and kept
        return b"/" + b"/".join(kept) + (b"/" if directory else b"")
