"""How the health check finds out what to ask, asks, and judges."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate import __main__, cli, healthcheck
from swarmgate.config.load import load


class AskTests(SynchronousTestCase):
    """Asking, and judging the answer."""

    def url(self, *argv: str) -> str:
        """Where a gate with these options is asked."""
        return healthcheck.ping_url(load(argv, {}))

    def test_url(self) -> None:
        """The gate is asked where it listens; on all addresses means on this machine."""
        web = "--ping.entrypoint=web"
        self.assertEqual(self.url("--ping"), "http://127.0.0.1:8080/ping")
        self.assertEqual(self.url(web, "--entrypoints.web.address=:81"), "http://127.0.0.1:81/ping")
        self.assertEqual(self.url(web, "--entrypoints.web.address=0.0.0.0:81"), "http://127.0.0.1:81/ping")
        self.assertEqual(self.url(web, "--entrypoints.web.address=[::]:81"), "http://[::1]:81/ping")
        self.assertEqual(self.url(web, "--entrypoints.web.address=10.0.0.7:81"), "http://10.0.0.7:81/ping")
        self.assertEqual(self.url(), "")

    def asked(self, answer: Any) -> tuple[bool, str]:
        """What the health check of a gate comes to that answers so."""

        def get(*given: Any) -> int:
            self.assertEqual(given, ("127.0.0.1", 8080, "/ping", 5.0))
            if isinstance(answer, Exception):
                raise answer
            return int(answer)

        return healthcheck.ask_ping("http://127.0.0.1:8080/ping", get)

    def test_outcomes(self) -> None:
        """A gate whose ping says 200 is well; one that is ending, is not there, is silent or talks nonsense is not."""
        self.assertEqual(self.asked(200), (True, "healthy: http://127.0.0.1:8080/ping"))
        for answer, told in (
            (503, "status 503, expected 200"),
            (ConnectionRefusedError(111, "Connection refused"), "[Errno 111] Connection refused"),
            (TimeoutError(), "no answer within 5 s"),
            (healthcheck.NotHTTP("SSH-2.0"), "SSH-2.0"),
        ):
            self.assertEqual(self.asked(answer), (False, f"unhealthy: http://127.0.0.1:8080/ping: {told}"))


class NoteTests(SynchronousTestCase):
    """The note that a process leaves."""

    def note(self, url: str) -> str:
        """What is found after this process has left a note."""
        note = healthcheck.leave_note(url)
        assert note is not None
        self.addCleanup(os.close, note)
        return healthcheck.noted(os.getpid())

    def test_found(self) -> None:
        """Others find it."""
        self.assertEqual(self.note("http://[::1]:81/ping"), "http://[::1]:81/ping")

    def test_no_ping(self) -> None:
        """A gate without ping says so, and is taken for healthy."""
        self.patch(sys, "stdout", io.StringIO())
        self.assertEqual(healthcheck.tell(self.note("")), 0)

    def test_none(self) -> None:
        """Without a note, or without the right to look, there is nothing."""
        self.assertEqual(healthcheck.noted(os.getpid()), "")
        self.assertEqual(healthcheck.noted("nobody"), "")

    def test_told(self) -> None:
        """What it comes to is printed, and is the exit status."""
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        self.assertEqual(healthcheck.tell("http://a:1/ping", lambda url: (True, f"healthy: {url}")), 0)
        self.assertEqual(healthcheck.tell("http://a:1/ping", lambda url: (False, f"unhealthy: {url}")), 1)
        self.assertEqual(out.getvalue(), "healthy: http://a:1/ping\n")
        self.assertEqual(err.getvalue(), "unhealthy: http://a:1/ping\n")


class CommandTests(SynchronousTestCase):
    """The command's first step."""

    def setUp(self) -> None:
        self.patch(healthcheck, "noted", lambda process: self.notes.get(process, ""))
        self.patch(healthcheck, "tell", lambda url: f"asked {url}")
        self.patch(cli, "main", lambda: "the whole command")
        self.notes = {1: "http://127.0.0.1:81/ping"}

    def run_with(self, *words: str) -> Any:
        """What the command comes to."""
        self.patch(sys, "argv", ["swarmgate", *words])
        return __main__.main()

    def test_note(self) -> None:
        """Without options the first process is asked, where its note says."""
        self.assertEqual(self.run_with("healthcheck"), "asked http://127.0.0.1:81/ping")

    def test_no_note(self) -> None:
        """Where there is none, the whole command finds out what to ask."""
        self.notes = {}
        self.assertEqual(self.run_with("healthcheck"), "the whole command")

    def test_others(self) -> None:
        """With options, those count; other commands are the whole command's."""
        self.assertEqual(self.run_with("healthcheck", "--ping"), "the whole command")
        self.assertEqual(self.run_with(), "the whole command")

    def test_loads_little(self) -> None:
        """It loads nothing of the gate, and no library: it is started every few seconds."""
        script = (
            "import sys; from swarmgate import __main__, healthcheck; healthcheck.noted = lambda process: 'none';"
            "sys.argv[1:] = ['healthcheck']; assert __main__.main() == 0; print(*sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
        modules = done.stdout.splitlines()[-1].split()
        libraries = {"attr", "twisted", "yaml", "typing", "ssl", "http"}
        ours = {"swarmgate", "swarmgate.__main__", "swarmgate.healthcheck"}
        self.assertEqual({name for name in modules if name.startswith("swarmgate")}, ours)
        self.assertEqual(libraries & set(modules), set())
