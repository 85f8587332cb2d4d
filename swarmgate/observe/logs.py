"""What the gate says of itself: Twisted's log events as lines for people, or as JSON for programs."""

from __future__ import annotations

import atexit
import json
import time
from collections.abc import Callable
from typing import Any, Literal

from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogBeginner
from zope.interface import implementer

from swarmgate.observe.output import Output

#: Traefik's names of levels, in lower case, and the nearest of Twisted's.
LEVELS = {
    "trace": LogLevel.debug,
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "warning": LogLevel.warn,
    "error": LogLevel.error,
    "fatal": LogLevel.critical,
    "panic": LogLevel.critical,
    "critical": LogLevel.critical,
}

_FLUSH_SECONDS = 2.0


def level_of(name: str) -> Any:
    """The level that *name* says, Traefik's or Twisted's, in any case.

    :raises ValueError: what is expected.
    """
    try:
        return LEVELS[name.lower()]
    except KeyError:
        raise ValueError("a level: TRACE, DEBUG, INFO, WARN, ERROR, FATAL or PANIC") from None


def human_line(event: dict[str, Any], with_traceback: bool) -> str:
    """An event as a line for people: when, how grave, who, what. A traceback follows on lines of its own."""
    line = (
        f"{_timestamp(event)} {_level(event).name:8} {event.get('log_namespace') or '-'}: "
        f"{_one_line(formatEvent(event))}"
    )
    failure = event.get("log_failure")
    if failure is not None:
        if not with_traceback:
            return f"{line}: {_one_line(failure.getErrorMessage())}\n"
        trace = failure.getTraceback().rstrip("\n").replace("\n", "\n    ")
        return f"{line}\n    {trace}\n"
    return f"{line}\n"


def json_line(event: dict[str, Any], with_traceback: bool) -> str:
    """An event as a line of JSON, with ``level``, ``time``, ``namespace``, ``message`` and ``error``, ``traceback``."""
    data = {
        "level": _level(event).name,
        "time": _timestamp(event),
        "namespace": event.get("log_namespace") or "-",
        "message": formatEvent(event),
    }
    failure = event.get("log_failure")
    if failure is not None:
        data["error"] = failure.getErrorMessage()
        if with_traceback:
            data["traceback"] = failure.getTraceback()
    return json.dumps(data, separators=(",", ":")) + "\n"


FORMATS: dict[str, Callable[[dict[str, Any], bool], str]] = {"common": human_line, "json": json_line}


@implementer(ILogObserver)
class LineObserver:
    """Writes events of at least :attr:`level` as lines.

    What Twisted says about its own doings (a factory starts, a port is listened on) counts as ``debug``.
    """

    def __init__(
        self, write: Callable[[bytes], object], level: Any, line: Callable[[dict[str, Any], bool], str]
    ) -> None:
        self._write = write
        self.level = level
        self._line = line

    def __call__(self, event: dict[str, Any]) -> None:
        level = _level(event)
        if level is LogLevel.info and str(event.get("log_namespace", "")).startswith(("twisted.", "log_legacy")):
            level = LogLevel.debug
        if level < self.level:
            return
        # A failure that was logged as an error is one that was reckoned with; what nobody expected is critical.
        with_traceback = self.level is LogLevel.debug or level is LogLevel.critical
        self._write(self._line(event, with_traceback).encode("utf-8", "backslashreplace"))


class Logging:
    """Logging that has been started.

    :ivar observer: what events are given to.
    """

    def __init__(self, output: Output, observer: LineObserver) -> None:
        self._output = output
        self.observer = observer

    def reopen(self) -> None:
        """Open the log file anew, after it was moved away."""
        self._output.reopen()

    def change_level(self, level: str) -> None:
        """Write what is at least so grave from now on; see :func:`make_logging`."""
        self.observer.level = level_of(level)

    def stop(self) -> None:
        """Write what is waiting; nothing is written any more afterwards."""
        self._output.close(_FLUSH_SECONDS)


def make_logging(
    level: str = "INFO",
    format: Literal["common", "json"] = "common",  # noqa: A002  # Traefik's name of the option
    path: str = "",
    descriptor: int = 1,
) -> Logging:
    """Logging to the file *path*, or to *descriptor* (1: standard output, 2: standard error) if *path* is empty.

    Its observer is still to be registered: ``twistd`` does that itself.

    :param level: the least grave that is written; Traefik's names or Twisted's.
    :raises ValueError: there is no such level or format.
    :raises OSError: the file can't be opened.
    """
    if format not in FORMATS:
        raise ValueError("a format: common or json")
    threshold = level_of(level)
    output = Output(path, descriptor)
    output.start()
    # Also what is said while the process ends for another reason is written.
    atexit.register(output.close, _FLUSH_SECONDS)
    return Logging(output, LineObserver(output.write, threshold, FORMATS[format]))


def start_logging(
    level: str = "INFO",
    format: Literal["common", "json"] = "common",  # noqa: A002
    path: str = "",
    descriptor: int = 1,
) -> Logging:
    """Begin to log; what was logged before is written too. See :func:`make_logging` for what can be given."""
    logging = make_logging(level, format, path, descriptor)
    globalLogBeginner.beginLoggingTo([logging.observer], redirectStandardIO=False)
    return logging


def _level(event: dict[str, Any]) -> Any:
    level = event.get("log_level")
    return LogLevel.info if level is None else level


def _timestamp(event: dict[str, Any]) -> str:
    seconds = event.get("log_time")
    if seconds is None:
        seconds = time.time()
    at = time.gmtime(seconds)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', at)}.{int(seconds % 1 * 1000):03d}Z"


def _one_line(text: str) -> str:
    return text if text.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
