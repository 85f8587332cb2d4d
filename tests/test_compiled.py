"""Modules that are compiled, and the same as they are written."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.uncompiled import is_compiled

ROOT = Path(__file__).resolve().parent.parent
PURE = "PURE_PYTHON" in os.environ
#: What the compiled modules do, as far as it is told without a network.
TESTS = (
    "access_log",
    "balancing",
    "bodies",
    "compression",
    "heads",
    "http2_attacks",
    "http2_client",
    "http2_server",
    "http_exchange",
    "matching",
    "octets",
    "resources",
    "tls_transport",
    "traffic",
    "upstream",
)


class CompiledTests(SynchronousTestCase):
    def modules(self) -> list[Path]:
        """The sources of modules that are to be compiled."""
        return [path.with_suffix(".py") for path in sorted((ROOT / "swarmgate").rglob("*.pxd"))]

    def test_compiled(self) -> None:
        """Where there is a C compiler, what the tests run is compiled, and not from another state of the sources."""
        self.assertEqual(is_compiled(), not PURE and shutil.which("cc") is not None)
        if not is_compiled():
            return
        for source in self.modules():
            name = ".".join(source.relative_to(ROOT).with_suffix("").parts)
            compiled = Path(importlib.import_module(name).__file__ or "")
            self.assertNotEqual(compiled, source, f"{name} is not compiled: make install")
            for part in source.parent.glob(f"{source.stem}.p*"):
                self.assertLessEqual(part.stat().st_mtime, compiled.stat().st_mtime, f"{part} is newer: make install")

    def test_as_written(self) -> None:
        """The same modules pass their tests without having been compiled."""
        if PURE:
            return
        command = [sys.executable, "-m", "twisted.trial", "--temp-directory", os.path.abspath(self.mktemp())]
        done = subprocess.run(
            [*command, *(f"tests.test_{name}" for name in TESTS)],
            cwd=ROOT,
            env={**os.environ, "PURE_PYTHON": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr[-3000:])
        self.assertIn("PASSED (successes=", done.stdout)
