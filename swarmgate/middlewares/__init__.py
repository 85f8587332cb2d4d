"""The middlewares, one module each.

To add one: write its module as :mod:`swarmgate.middlewares.interface` says, and list it here.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from swarmgate.middlewares.interface import Context, Middleware

_NAMES = (
    "add_prefix",
    "basic_auth",
    "buffering",
    "circuit_breaker",
    "compress",
    "content_type",
    "digest_auth",
    "errors",
    "forward_auth",
    "grpc_web",
    "headers",
    "in_flight_req",
    "ip_allow_list",
    "ip_white_list",
    "pass_tls_client_cert",
    "rate_limit",
    "redirect_regex",
    "redirect_scheme",
    "replace_path",
    "replace_path_regex",
    "retry",
    "strip_prefix",
    "strip_prefix_regex",
)
#: A module is called as its option is.
_NAME_OF = {name.replace("_", ""): name for name in _NAMES}


@functools.cache
def module_of(kind: str) -> ModuleType:
    """The module of *kind*, an option name in lower case.

    It is imported when it is first asked for: few gates use more than a few kinds, and all of them, with what they
    hash and pack with, take 4 MB.

    :raises KeyError: there is no such kind.
    """
    return importlib.import_module(f"swarmgate.middlewares.{_NAME_OF[kind]}")


class _Kinds(Mapping[str, type[Any]]):
    """Imports a middleware for who wants its settings, and not for who wants to know whether there is one."""

    def __getitem__(self, kind: str) -> type[Any]:
        settings: type[Any] = module_of(kind).Settings
        return settings

    def __contains__(self, kind: object) -> bool:
        return kind in _NAME_OF

    def __iter__(self) -> Iterator[str]:
        return iter(_NAME_OF)

    def __len__(self) -> int:
        return len(_NAME_OF)


#: The settings class of each kind, by its option name in lower case.
KINDS: Mapping[str, type[Any]] = _Kinds()


def files_of(kind: str, settings: Any) -> tuple[str, ...]:
    """The files that a middleware is made from: when they change it has to be made anew."""
    if kind not in KINDS:
        return ()
    # Of a middleware that is made from files, too.
    find = getattr(module_of(kind), "files", None)
    return () if find is None else tuple(find(settings))


def build(kind: str, settings: Any, context: Context) -> Middleware:
    """The middleware of *kind*, one of :data:`KINDS`, for one route.

    :raises ValueError: the settings contradict each other; its text says how, for people.
    """
    middleware: Middleware = module_of(kind).build(settings, context)
    return middleware
