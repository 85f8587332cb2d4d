"""What a static configuration that was read again changes, and what of that can be in force without a restart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from swarmgate.config.model import StaticConfiguration
from swarmgate.structure import key_of

#: What takes effect at once; ``*`` stands for a name. All that is below one of these is meant, too.
LIVE = (
    "log.level",
    "accessLog",
    "entryPoints.*.asDefault",
    "entryPoints.*.transport",
    "entryPoints.*.forwardedHeaders",
    "entryPoints.*.http.middlewares",
    "entryPoints.*.http.encodedCharacters",
    "entryPoints.*.http.sanitizePath",
    "entryPoints.*.http.maxHeaderBytes",
    "entryPoints.*.http.maxRequestLineBytes",
    "entryPoints.*.http.maxHeaderFields",
    "entryPoints.*.http.underscoreHeadersStrategy",
    "serversTransport.maxIdleConnsPerHost",
    "serversTransport.forwardingTimeouts",
    "overload",
    "ping.terminatingStatusCode",
    "providers.swarm.refreshSeconds",
    "providers.swarm.exposedByDefault",
    "providers.swarm.network",
    "providers.swarm.defaultRule",
    "providers.swarm.constraints",
    "providers.swarm.labelPrefixes",
)
_LIVE = re.compile("|".join(re.escape(key).replace(r"\*", r"[^.]+") + r"(?:\..+)?" for key in LIVE))


@attrs.frozen
class Change:
    """One option that says something else than before.

    :ivar before: and :ivar after: what it says, for people; ``""`` for nothing.
    :ivar is_live: it takes effect without a restart.
    """

    key: str
    before: str
    after: str
    is_live: bool

    def __str__(self) -> str:
        return f"{self.key}: {self.before or 'nothing'} -> {self.after or 'nothing'}"


@attrs.frozen
class Difference:
    """What was changed from one configuration to another.

    :ivar configuration: the old one with all that takes effect without a restart.
    """

    changes: tuple[Change, ...]
    configuration: StaticConfiguration


def compare(old: StaticConfiguration, new: StaticConfiguration) -> Difference:
    """What has changed from *old* to *new*."""
    changes: list[Change] = []
    merged: StaticConfiguration = _merged(old, new, "", changes)
    return Difference(tuple(changes), merged)


def _merged(old: Any, new: Any, key: str, changes: list[Change], secret: bool = False) -> Any:
    """*old* with what of *new* is live; each difference is added to *changes*."""
    if old == new:
        return old
    if type(old) is type(new) and attrs.has(type(old)) and not hasattr(type(old), "from_text"):
        values = {}
        for field in attrs.fields(type(old)):
            below = f"{key}.{key_of(field)}" if key else key_of(field)
            is_secret = secret or bool(field.metadata.get("secret"))
            values[field.name] = _merged(getattr(old, field.name), getattr(new, field.name), below, changes, is_secret)
        return attrs.evolve(old, **values)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = [*old, *(name for name in new if name not in old)]
        merged = {name: _merged(old.get(name), new.get(name), f"{key}.{name}", changes, secret) for name in names}
        return {name: value for name, value in merged.items() if value is not None}
    is_live = _LIVE.fullmatch(key) is not None
    changes.append(Change(key, _shown(old, secret), _shown(new, secret), is_live))
    return new if is_live else old


def _shown(value: Any, secret: bool) -> str:
    if value is None or value == ():
        return ""
    if secret:
        return "(not shown)"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "given" if attrs.has(type(value)) and not hasattr(type(value), "from_text") else str(value)
