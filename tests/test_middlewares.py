"""Tests for swarmgate.middlewares as a whole: what each of them promises, and the page about them."""

from __future__ import annotations

from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

import swarmgate.middlewares
from swarmgate.middlewares import KINDS, module_of
from swarmgate.middlewares.reference import reference_page

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "middlewares.rst"
#: What lies in the package and is no middleware.
PARTS = {
    "__init__",
    "again",
    "chain",
    "client_tls",
    "expressions",
    "fields",
    "interface",
    "patterns",
    "redis_option",
    "reference",
    "rewriting",
    "source",
    "spool",
    "users",
}


class MiddlewaresTests(SynchronousTestCase):
    def test_all_are_listed(self) -> None:
        """A module that lies in the package is known."""
        folder = Path(swarmgate.middlewares.__file__).parent
        modules = {path.stem for path in folder.glob("*.py")} - PARTS
        self.assertEqual({module.__name__.rpartition(".")[2] for module in map(module_of, KINDS)}, modules)

    def test_settings(self) -> None:
        """Settings are values, and every option says what it is for."""
        for kind, settings in KINDS.items():
            self.assertEqual(kind, kind.lower())
            self.assertTrue(attrs.has(settings))
            for field in attrs.fields(settings):
                self.assertTrue(field.metadata.get("doc"), f"{kind}: {field.name}")

    def test_names(self) -> None:
        """A module is called as its option is."""
        for module in map(module_of, KINDS):
            name = module.__name__.rpartition(".")[2].replace("_", "")
            self.assertEqual(name, module.KIND.lower())

    def test_page(self) -> None:
        """The page of the documentation is made from what is in force."""
        self.assertEqual(
            PAGE.read_text("utf-8"),
            reference_page(),
            "run: python -m swarmgate.middlewares.reference > docs/reference/middlewares.rst",
        )
