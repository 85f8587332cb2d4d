"""Certificates read, and made, where what that takes does not stay: in a process that ends when it has answered.

The ``cryptography`` library takes 12 MB, and is needed for some milliseconds of a gate's life. A process that has it
for something else needs no other one.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.logger import Logger

from swarmgate.dynamic.tls import DEFAULT_NAME, Certificate
from swarmgate.processes import command_of

if TYPE_CHECKING:
    from swarmgate.tls.certificates import Answer, Written

#: Seconds: some thousand certificates take one.
_WITHIN = 60.0

#: The gate's own certificate: made by the first process that reads others, since another process would take its time.
_own: list[Certificate] = []

_log = Logger("swarmgate.tls")


def read(many: Sequence[Written]) -> list[Certificate | str]:
    """The certificate of each, or what is wrong with it, for people. Blocks: call it in a thread."""
    if not many:
        return []
    read, own = _apart(many, time.time()) or _here(many, time.time())
    _own[:] = _own or [Certificate(*own)]
    return [one if isinstance(one, str) else Certificate(*one) for one in read]


def own_certificate() -> Certificate:
    """A certificate that the gate makes itself, once, for clients that no other is for. Blocks: call it in a thread."""
    if not _own:
        _, own = _apart((), time.time()) or _here((), time.time())
        _own[:] = _own or [Certificate(*own)]
    return _own[0]


def _apart(many: Sequence[Written], now: float) -> Answer | None:
    """What another process answers; None where this one has what it takes, or there can be no other."""
    if "cryptography" in sys.modules:
        return None
    command, environ = command_of("swarmgate.tls.certificates")
    asked = pickle.dumps((many, now, DEFAULT_NAME))
    try:
        done = subprocess.run(  # noqa: S603 -- the program that this one is
            command, input=asked, stdout=subprocess.PIPE, env=environ, check=True, timeout=_WITHIN
        )
        answer: Answer = pickle.loads(done.stdout)  # noqa: S301 -- of our own other process
    except (OSError, EOFError, pickle.UnpicklingError, subprocess.SubprocessError) as error:
        _log.warn("certificates are read in the gate's own process: {why}", why=str(error))
        return None
    return answer


def _here(many: Sequence[Written], now: float) -> Answer:
    from swarmgate.tls.certificates import answer

    return answer(many, now, DEFAULT_NAME)
