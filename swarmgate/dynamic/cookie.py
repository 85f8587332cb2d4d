"""The cookie by which a client comes back to where it was answered first."""

from __future__ import annotations

import attrs


@attrs.frozen
class StickyCookie:
    """A cookie that leads a client back to the server that answered it first (Traefik ``sticky.cookie``).

    :ivar name: ``""`` for one that is made of the service's name.
    :ivar same_site: ``none``, ``lax`` or ``strict``, ``""`` for no such attribute.
    :ivar max_age: seconds; 0: it ends with the browser's session, less: it is expired at once.
    """

    name: str = ""
    secure: bool = False
    http_only: bool = False
    same_site: str = ""
    max_age: int = 0
    path: str = "/"
    domain: str = ""
