"""``ipWhiteList``: the old name of ``ipAllowList``, without its *rejectStatusCode*."""

from __future__ import annotations

import attrs

from swarmgate.middlewares import ip_allow_list
from swarmgate.middlewares.interface import Context, Middleware
from swarmgate.middlewares.source import IPStrategy
from swarmgate.structure import IPNetwork, option

KIND = "ipWhiteList"


@attrs.frozen
class Settings:
    """Options of ``ipWhiteList``."""

    source_range: tuple[IPNetwork, ...] = option(
        validator=ip_allow_list.not_empty, doc="Addresses and networks whose requests pass; all others are refused."
    )
    ip_strategy: IPStrategy | None = option(default=None, doc="Which address counts as the client's.")


def build(settings: Settings, context: Context) -> Middleware:
    """The check for one route."""
    same = ip_allow_list.Settings(source_range=settings.source_range, ip_strategy=settings.ip_strategy)
    return ip_allow_list.build(same, context)
