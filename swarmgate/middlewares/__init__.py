"""The middlewares, one module each.

To add one: write its module as :mod:`swarmgate.middlewares.interface` says, and list it here.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from swarmgate.middlewares import (
    add_prefix,
    basic_auth,
    buffering,
    circuit_breaker,
    compress,
    content_type,
    digest_auth,
    errors,
    forward_auth,
    grpc_web,
    headers,
    in_flight_req,
    ip_allow_list,
    ip_white_list,
    pass_tls_client_cert,
    rate_limit,
    redirect_regex,
    redirect_scheme,
    replace_path,
    replace_path_regex,
    retry,
    strip_prefix,
    strip_prefix_regex,
)
from swarmgate.middlewares.interface import Context, Middleware

_MODULES: tuple[ModuleType, ...] = (
    add_prefix,
    basic_auth,
    buffering,
    circuit_breaker,
    compress,
    content_type,
    digest_auth,
    errors,
    forward_auth,
    grpc_web,
    headers,
    in_flight_req,
    ip_allow_list,
    ip_white_list,
    pass_tls_client_cert,
    rate_limit,
    redirect_regex,
    redirect_scheme,
    replace_path,
    replace_path_regex,
    retry,
    strip_prefix,
    strip_prefix_regex,
)

#: The settings class of each kind, by its option name in lower case.
KINDS: dict[str, type[Any]] = {module.KIND.lower(): module.Settings for module in _MODULES}

_BUILDERS: dict[str, Callable[[Any, Context], Middleware]] = {module.KIND.lower(): module.build for module in _MODULES}

#: Those that are made from files, too: their modules' ``files(settings)`` names them.
_FILES: dict[str, Callable[[Any], tuple[str, ...]]] = {
    module.KIND.lower(): module.files for module in _MODULES if hasattr(module, "files")
}


def files_of(kind: str, settings: Any) -> tuple[str, ...]:
    """The files that a middleware is made from: when they change it has to be made anew."""
    find = _FILES.get(kind)
    return () if find is None else find(settings)


def build(kind: str, settings: Any, context: Context) -> Middleware:
    """The middleware of *kind*, one of :data:`KINDS`, for one route.

    :raises ValueError: the settings contradict each other; its text says how, for people.
    """
    return _BUILDERS[kind](settings, context)
