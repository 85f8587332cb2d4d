"""Which reactor the process runs on: asyncio's, on a loop of uvloop's where that is installed."""

from __future__ import annotations

import asyncio
import sys
from typing import Any


def install_reactor() -> str:
    """Install the fastest reactor there is, unless one is installed already; say which it is.

    It has to be called before anything imports ``twisted.internet.reactor``, for that installs a slower one.

    :return: ``uvloop``; ``asyncio`` where uvloop is not installed; the class of a reactor that was there before.
    """
    present = sys.modules.get("twisted.internet.reactor")
    if present is not None:
        return type(present).__name__
    loops, asyncioreactor = import_reactor()
    loop = loops.new_event_loop()
    asyncio.set_event_loop(loop)
    asyncioreactor.install(loop)
    return "asyncio" if loops is asyncio else "uvloop"


def import_reactor() -> tuple[Any, Any]:
    """Import what makes loops, uvloop or asyncio, and Twisted's ``asyncioreactor``; make and install nothing."""
    loops: Any
    try:
        import uvloop as loops
    except ImportError:
        loops = asyncio
    return loops, _asyncioreactor()


def _asyncioreactor() -> Any:
    """Twisted's module of that name, without pyOpenSSL.

    Twisted imports that, and cryptography with it, some 12 MB, for transports that begin TLS in mid-connection and for
    ``connectSSL``, of which nothing here makes use. HTTPS clients import it themselves: they wrap what they connect
    with.
    """
    is_hidden = sys.modules.setdefault("OpenSSL", None) is None  # type: ignore[arg-type]
    try:
        from twisted.internet import asyncioreactor
    finally:
        if is_hidden:
            del sys.modules["OpenSSL"]
    return asyncioreactor
