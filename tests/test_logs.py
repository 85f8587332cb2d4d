"""Tests for swarmgate.observe.logs."""

from __future__ import annotations

import json
from typing import Any

from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from swarmgate.observe.logs import FORMATS, LineObserver, level_of, make_logging

EVENT: Any = {
    "log_time": 1784887200.25,
    "log_level": LogLevel.warn,
    "log_namespace": "swarmgate.x",
    "log_format": "router {name} is gone",
    "name": "web@swarm",
}


class LogsTests(SynchronousTestCase):
    def logger(self, level: str = "INFO", form: str = "common", namespace: str = "swarmgate.x") -> Logger:
        self.lines: list[bytes] = []
        observer = LineObserver(self.lines.append, level_of(level), FORMATS[form])
        return Logger(namespace, observer=observer)

    def test_interface(self) -> None:
        """It can be given to anything that takes observers, twistd for one."""
        verifyObject(ILogObserver, LineObserver(lambda line: None, LogLevel.info, FORMATS["json"]))

    def test_human(self) -> None:
        """A line says when, how grave, who and what."""
        self.logger().observer(EVENT)
        self.assertEqual(self.lines, [b"2026-07-24T10:00:00.250Z warn     swarmgate.x: router web@swarm is gone\n"])

    def test_one_line(self) -> None:
        """What others have chosen can't end a line."""
        self.logger().info("path {path}", path="a\nb\x1b[2J\x85é")
        self.assertTrue(self.lines[0].endswith(": path a\\nb\\x1b[2J\\x85é\n".encode()), self.lines)

    def test_json(self) -> None:
        """In JSON a line is one object."""
        self.logger(form="json").observer({**EVENT, "log_format": "router {name}\n"})
        self.assertEqual(
            json.loads(self.lines[0]),
            {
                "level": "warn",
                "time": "2026-07-24T10:00:00.250Z",
                "namespace": "swarmgate.x",
                "message": "router web@swarm\n",
            },
        )
        self.assertEqual(self.lines[0].count(b"\n"), 1)

    def test_levels(self) -> None:
        """Only what is grave enough is written, by Traefik's names of levels."""
        for name, written in (
            ("TRACE", 5), ("DEBUG", 5), ("INFO", 4), ("warn", 3), ("ERROR", 2), ("FATAL", 1), ("PANIC", 1),
        ):  # fmt: skip
            log = self.logger(name)
            for emit in (log.debug, log.info, log.warn, log.error, log.critical):
                emit("x")
            self.assertEqual(len(self.lines), written, name)
        self.assertRaises(ValueError, level_of, "loud")

    def test_twisted_talks_less(self) -> None:
        """What Twisted tells of itself is for those who look closely; its warnings are for all."""
        log = self.logger(namespace="twisted.internet.protocol.Factory")
        log.info("Starting factory")
        log.warn("trouble")
        self.assertEqual(len(self.lines), 1)
        self.logger("DEBUG", namespace="twisted.internet.protocol.Factory").info("Starting factory")
        self.assertEqual(len(self.lines), 1)

    def failed(self, log: Any, **more: Any) -> str:
        try:
            raise OSError("no such thing")
        except OSError:
            log.failure("look failed", **more)
        return b"".join(self.lines).decode()

    def test_failures(self) -> None:
        """What nobody reckoned with comes with its traceback; what somebody did is one line, except for debugging."""
        for form in ("common", "json"):
            self.assertIn("Traceback", self.failed(self.logger(form=form)))
            expected = self.failed(self.logger(form=form), level=LogLevel.error)
            self.assertNotIn("Traceback", expected)
            self.assertIn("no such thing", expected)
            self.assertEqual(expected.count("\n"), 1)
            self.assertIn("Traceback", self.failed(self.logger("DEBUG", form), level=LogLevel.error))

    def test_traceback_is_indented(self) -> None:
        """The lines of a traceback can be told from others."""
        first, *rest = self.failed(self.logger()).splitlines()
        self.assertIn("look failed", first)
        self.assertTrue(rest)
        self.assertTrue(all(line.startswith("    ") for line in rest))

    def test_file(self) -> None:
        """Logging to a file writes there, and to a new one after it was moved away."""
        path = self.mktemp()
        logging = make_logging("INFO", "common", path)
        Logger("swarmgate.x", observer=logging.observer).info("hello")
        logging.reopen()
        Logger("swarmgate.x", observer=logging.observer).info("again")
        logging.stop()
        with open(path) as file:
            self.assertEqual([line.split(": ")[1] for line in file.read().splitlines()], ["hello", "again"])

    def test_bad_settings(self) -> None:
        """A level or format that there is not is an error."""
        self.assertRaises(ValueError, make_logging, "loud")
        self.assertRaises(ValueError, make_logging, "INFO", "xml")
