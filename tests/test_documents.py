"""Configuration files become trees that know their lines."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.documents import read_document
from swarmgate.structure import Given, StructureError, bare, origin_of


def plain(tree: Any) -> Any:
    """A tree without its origins."""
    value = bare(tree)
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value


class DocumentTests(SynchronousTestCase):
    """YAML and TOML."""

    def told(self, text: str, name: str) -> str:
        """What people are told of a file that can't be read."""
        return str(self.assertRaises(StructureError, read_document, text, name))

    def test_yaml(self) -> None:
        """Scalars stay as they are written, null is nothing, and each knows its line."""
        tree = read_document("a:\n  b: 0755\n  c: yes\n  d: ~\n  e: 'null'\nf: [1, x]\ng:\n", "gate.yml")
        self.assertEqual(
            plain(tree), {"a": {"b": "0755", "c": "yes", "d": None, "e": "null"}, "f": ["1", "x"], "g": None}
        )
        self.assertEqual(origin_of(bare(tree["a"])["c"]), "file gate.yml, line 3")
        self.assertEqual(bare(tree["f"])[1], Given("x", "file gate.yml, line 6"))

    def test_yaml_anchors(self) -> None:
        """Anchors and merge keys work; what is written at the place itself wins."""
        text = "x: &base {a: 1, b: 2}\ny:\n  <<: *base\n  b: 3\nz: *base\nw:\n  <<: [*base, {c: 4}]\n"
        tree = plain(read_document(text, "a.yaml"))
        self.assertEqual(tree["y"], {"a": "1", "b": "3"})
        self.assertEqual(tree["z"], {"a": "1", "b": "2"})
        self.assertEqual(tree["w"], {"a": "1", "b": "2", "c": "4"})

    def test_toml(self) -> None:
        """TOML's values keep their types, and know their lines where a line tells."""
        text = '[a.b]\nc = 1\n"d.e" = true\n[[x]]\ny = "s"\n[[x]]\ny = ["t"]\n'
        tree = read_document(text, "gate.toml")
        self.assertEqual(plain(tree), {"a": {"b": {"c": 1, "d.e": True}}, "x": [{"y": "s"}, {"y": ["t"]}]})
        self.assertEqual(bare(bare(tree["a"])["b"])["d.e"].origin, "file gate.toml, line 3")
        self.assertEqual(bare(bare(tree["x"])[1])["y"].origin, "file gate.toml, line 7")

    def test_empty(self) -> None:
        """A file without anything in it is no fault."""
        for text, name in (("", "a.yml"), ("# nothing\n", "a.yml"), ("---\n", "a.yml"), ("", "a.toml")):
            self.assertEqual(read_document(text, name), {}, text)

    def test_syntax(self) -> None:
        """A broken file is told with its line."""
        self.assertEqual(
            self.told("a:\n  b: [", "gate.yml"), "file gate.yml, line 3: not YAML: did not find expected node content"
        )
        self.assertEqual(self.told("a = 1\nb = = 2\n", "gate.toml"), "file gate.toml, line 2: not TOML: Invalid value")
        self.assertIn("file gate.yml: not YAML: ", self.told("a: \x00", "gate.yml"))

    def test_refused(self) -> None:
        """What would be lost or guessed is refused."""
        table = {
            "a: 1\nb: 2\na: 3\n": "a: given twice, from file gate.yml, line 3",
            "- a\n": "file gate.yml: not a table: expected options with values",
            "a: *b\n": "file gate.yml, line 1: no anchor &b before this",
            "a: &x [*x]\n": "file gate.yml, line 1: no anchor &x before this",
            "a: 1\n---\nb: 2\n": "file gate.yml, line 2: a second document, where one is all that is read",
            "? [a]\n: 1\n": "file gate.yml, line 1: a name that is no text",
            "a:\n  <<: 1\n": "file gate.yml, line 2: << with something that is no mapping",
        }
        for text, told in table.items():
            self.assertEqual(self.told(text, "gate.yml"), told)
        self.assertEqual(
            self.told("", "gate.conf"),
            "file gate.conf: an unknown format: expected a name that ends in .yml, .yaml, .toml",
        )

    def test_deep(self) -> None:
        """A file of brackets alone is refused and doesn't end the process."""
        for text in ("[" * 200_000, "- " * 200_000, "{a: " * 100_000):
            self.assertEqual(self.told(text, "a.yml"), "file a.yml, line 1: more than 64 levels")
        self.assertIn("not TOML", self.told("a = " + "[" * 100_000, "a.toml"))

    @given(st.text(alphabet="ab:-&*<[]{}?,|>'\"#!%@ \n\t~1=.", max_size=40), st.sampled_from(("a.yml", "a.toml")))
    def test_any_text(self, text: str, name: str) -> None:
        """Any text is a tree or a fault, and nothing else happens."""
        try:
            self.assertIsInstance(read_document(text, name), dict)
        except StructureError as error:
            self.assertTrue(error.faults)
