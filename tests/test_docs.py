"""What the documentation and the README show works as it is shown."""

from __future__ import annotations

import base64
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import attrs
import yaml
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate import service
from swarmgate.api import targets
from swarmgate.config.agent import AgentConfiguration
from swarmgate.config.load import load, load_agent
from swarmgate.config.model import StaticConfiguration
from swarmgate.dynamic.file_format import decode_file
from swarmgate.dynamic.labels import decode
from swarmgate.dynamic.rules import RuleError, parse_rule
from swarmgate.middlewares import KINDS, build
from swarmgate.middlewares.interface import Context
from swarmgate.providers.swarm import agents
from swarmgate.structure import describe

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.rst", *sorted(DOCS.glob("*.rst")))
STACKS = sorted((ROOT / "deploy").glob("*.yml"))

_PREFIXES = ("swarmgate", "traefik")
_COMMAND = re.compile(r"(?:\$ )?((?:SWARMGATE_\w+=\S+ )*)(?:\S*/)?(?:twistd \S+ )?swarmgate( .*)?")
_LABEL = re.compile(r"((?:swarmgate|traefik)\.[\w.\[\]-]+)=(.*)")
_LITERAL = re.compile(r"``([^`]+(?:`[^`]+`[^`]*)*?)``(?!`)")


@attrs.frozen
class Block:
    """A literal block of a page.

    :ivar language: ``""`` where none is said.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}, line {self.line}"


def blocks() -> Iterator[Block]:
    """The literal blocks of all pages."""
    for page in PAGES:
        lines = page.read_text("utf-8").splitlines()
        for number, line in enumerate(lines):
            directive = re.fullmatch(r"( *)\.\. code-block:: (\w+)", line)
            if directive is None and not (line.endswith("::") and not line.lstrip().startswith("..")):
                continue
            margin = len(line) - len(line.lstrip())
            below = []
            for following in lines[number + 1 :]:
                if following.strip() and len(following) - len(following.lstrip()) <= margin:
                    break
                below.append(following)
            text = "\n".join(below).strip("\n")
            indent = min((len(one) - len(one.lstrip()) for one in text.splitlines() if one.strip()), default=0)
            text = "\n".join(one[indent:] for one in text.splitlines())
            yield Block(page.name, number + 1, directive[2] if directive else "", text)


def commands(block: Block) -> Iterator[tuple[list[str], dict[str, str], str]]:
    """Each ``swarmgate`` command of a block: its words, its environment, and what it is shown to print."""
    shown = block.text.replace("\\\n", " ").splitlines()
    for number, line in enumerate(shown):
        found = _COMMAND.fullmatch(line.split("   #")[0].strip())
        if found is None or line.startswith("swarmgate:"):
            continue
        words = shlex.split(found[2] or "")
        environment = dict(one.split("=", 1) for one in shlex.split(found[1]))
        following = shown[number + 1] if number + 1 < len(shown) else ""
        yield words, environment, "" if following.startswith("$") else following


def trees(block: Block) -> Iterator[Mapping[str, Any]]:
    """What a block of YAML says."""
    if block.language == "yaml":
        yield yaml.safe_load(block.text)


def labels_of(stack: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The labels of each service of a stack file."""
    for one in stack["services"].values():
        labels = one.get("deploy", {}).get("labels")
        if labels:
            yield {name: str(value).replace("$$", "$") for name, value in labels.items()}


def context(name: str) -> Context:
    """What a middleware is built with."""
    return Context(name=name, router="web@swarm", clock=Clock(), keep=lambda key, make: make())


class ExampleTests(SynchronousTestCase):
    """Whoever copies an example gets what it promises."""

    def loaded(self, words: list[str], environment: Mapping[str, str], where: object) -> StaticConfiguration:
        """The configuration; the test fails if there is none."""
        try:
            configuration = load(words, environment, lambda path: "{}")
        except Exception as error:
            self.fail(f"{where}: {error}")
        self.assertEqual(service.fault_of(configuration), "", where)
        return configuration

    def sound(self, labels: Mapping[str, str], where: object) -> None:
        """Fail unless labels are all in force, their rules and middlewares too."""
        labelled = decode(labels, _PREFIXES, KINDS, "service web")
        self.assertEqual([str(problem) for problem in labelled.problems], [], where)
        for router in labelled.routers.values():
            if router.rule:
                parse_rule(router.rule, router.syntax)
        for middleware in labelled.middlewares.values():
            build(middleware.kind, middleware.settings, context(middleware.name))

    def test_commands(self) -> None:
        """Commands are understood; those that are shown with a complaint give just that one."""
        seen = 0
        for block in blocks():
            for words, environment, printed in commands(block):
                command = words.pop(0) if words and not words[0].startswith("-") else "run"
                if command not in ("run", "check", "healthcheck"):
                    continue
                seen += 1
                if not printed.startswith("swarmgate: "):
                    self.loaded(words, environment, f"{block}: {' '.join(words)}")
                    continue
                with self.assertRaises(Exception) as caught:
                    load(words, environment)
                self.assertEqual(f"swarmgate: {caught.exception}", printed, block)
        self.assertGreater(seen, 10)

    def test_static_files(self) -> None:
        """Configuration files of the process are understood."""
        seen = 0
        for block in blocks():
            for tree in trees(block):
                if {"entryPoints", "providers", "accessLog"} & tree.keys():
                    seen += 1
                    configuration = load(["--config", "gate.yml"], {}, lambda path, text=block.text: text)
                    self.assertEqual(service.fault_of(configuration), "", block)
        self.assertGreater(seen, 4)

    def test_dynamic_files(self) -> None:
        """Files of the file provider are in force without a problem."""
        seen = 0
        for block in blocks():
            if block.language == "toml" or any({"http", "tls"} & tree.keys() for tree in trees(block)):
                seen += 1
                configuration = decode_file(block.text, f"routes.{block.language}", KINDS)
                self.assertEqual(configuration.problems, (), block)
                self.assertTrue(configuration.services or configuration.middlewares or configuration.tls_files, block)
        self.assertGreater(seen, 2)

    def test_yaml_and_toml_say_the_same(self) -> None:
        """The file that is shown in both languages is the same in both."""
        first, second = [one for one in blocks() if one.page == "file.rst" and one.language in ("yaml", "toml")][:2]
        one, other = (decode_file(block.text, f"routes.{block.language}", KINDS) for block in (first, second))
        routers = [{name: attrs.evolve(router, origin="") for name, router in c.routers.items()} for c in (one, other)]
        self.assertEqual(routers[0], routers[1])
        self.assertEqual((one.services, one.middlewares), (other.services, other.middlewares))

    def test_stacks(self) -> None:
        """Command lists and labels of stack files are understood, those in deploy/ too."""
        shown = [(block, tree) for block in blocks() for tree in trees(block) if "services" in tree]
        files = [(path.name, yaml.safe_load(_filled(path.read_text("utf-8")))) for path in STACKS]
        gates = labelled = 0
        for where, stack in shown + files:
            for one in stack["services"].values():
                if one.get("command"):
                    gates += 1
                    words = list(one["command"])
                    if "swarmgate-acme-key" in one.get("secrets", ()):
                        key = Path(self.mktemp())
                        key.write_text(base64.b64encode(bytes(range(32))).decode())
                        words.append(f"--certificatesresolvers.le.acme.storagekeyfile={key}")
                    if words[0] == "agent":
                        load_agent(words[1:], {})
                    else:
                        self.loaded(words, {}, where)
            for labels in labels_of(stack):
                labelled += 1
                self.sound(labels, where)
        self.assertGreater(gates, 2)
        self.assertGreater(labelled, 2)

    def test_labels(self) -> None:
        """Labels in blocks of their own are in force without a problem."""
        seen = 0
        for block in blocks():
            lines = block.text.splitlines()
            found = [_LABEL.fullmatch(line) for line in lines]
            if all(found):
                seen += len(lines)
                self.sound({one[1]: one[2] for one in found if one is not None}, block)
        self.assertGreater(seen, 12)

    def test_rules(self) -> None:
        """Rules on the page of rules are rules, of v3 unless the section is that of v2."""
        v3, _, rest = (DOCS / "rules.rst").read_text("utf-8").partition("Rule syntax v2\n")
        v2 = rest.partition("When a rule is wrong")[0]
        for text, syntax, least in ((v3, "v3", 20), (v2, "v2", 4)):
            found = [one for one in _LITERAL.findall(text) if re.match(r"!?\w+\(`", one)]
            self.assertGreaterEqual(len(found), least)
            for rule in found:
                try:
                    parse_rule(rule, syntax)
                except RuleError as error:
                    self.fail(f"{syntax}: {rule}: {error}")


def _groups(of: type[Any]) -> Iterator[type[Any]]:
    """A class of options and all those that are its options' types."""
    yield of
    attrs.resolve_types(of)
    for field in attrs.fields(of):
        for one in (field.type, *get_args(field.type)):
            if isinstance(one, type) and attrs.has(one):
                yield from _groups(one)


def _filled(text: str) -> str:
    """A stack file with its variables' defaults."""
    return re.sub(r"\$\{\w+(?::-([^}]*)|:\?[^}]*)\}", lambda found: found[1] or "given", text)


class FactTests(SynchronousTestCase):
    """What the pages say about the program is so."""

    def test_defaults(self) -> None:
        """The table of deadlines and limits has the program's options and defaults."""
        text = (DOCS / "operations.rst").read_text("utf-8").partition(".. _limits:")[2]
        rows = re.findall(r"\* - ``([\w.<>]+)``\n +- ``(\w+)``", text)
        known = {one.key: one.default for one in describe(StaticConfiguration)}
        self.assertGreater(len(rows), 12)
        for key, default in rows:
            self.assertEqual(known.get(key), default, key)

    def test_options_exist(self) -> None:
        """An option that is spelled out in the text is one that there is."""
        known = {one.key for of in (StaticConfiguration, AgentConfiguration) for one in describe(of)}
        groups = {".".join(key.split(".")[:size]) for key in known for size in range(1, key.count(".") + 2)}
        ends = {".".join(key.split(".")[start:]) for key in groups for start in range(key.count(".") + 1)}
        inner = {part for key in known for part in key.split(".")[:-1]}
        # Labels that look like options.
        ends |= {agents.LABEL, agents.PORT_LABEL}
        ends |= set(re.findall(r'"(prometheus\.\w+)"', Path(targets.__file__).read_text("utf-8")))
        seen = 0
        for page in PAGES:
            if page.name == "file.rst":
                continue  # Its http.* are those of files.
            told = page.read_text("utf-8").partition("What is not there yet\n---")[0]
            for literal in re.findall(r"``([A-Za-z]+\.[\w.<>]+)(?:=\S*)?``", told):
                if literal.split(".")[0] in inner and not literal.endswith((".yml", ".py", ".rst")):
                    seen += 1
                    self.assertIn(literal, ends, f"{page.name}: {literal}")
        self.assertGreater(seen, 40)

    def test_options_that_are_missing(self) -> None:
        """The page for those who come from Traefik names all options that are refused, or have no effect."""
        text = (DOCS / "traefik.rst").read_text("utf-8").partition("What is not there yet\n---")[2]
        told = {part for literal in _LITERAL.findall(text) for part in literal.split(".")}
        without_effect = {one.key for one in describe(StaticConfiguration) if "without effect" in one.doc}
        of_files = {"http", "tcp", "tls", "udp"}
        self.assertGreater(len(without_effect), 8)
        self.assertEqual({key for key in without_effect if key.split(".")[-1] not in told}, set())
        refused = {key for of in _groups(StaticConfiguration) for key in getattr(of, "__refused__", ())}
        self.assertGreater(len(refused), 40)
        self.assertEqual(refused - told - of_files, set())

    def test_kinds(self) -> None:
        """The page of labels names every middleware that there is, and none that there isn't among them."""
        text = (DOCS / "labels.rst").read_text("utf-8")
        there = text.partition("has the kinds and their options:")[2].partition("\n\n")[0]
        self.assertEqual({one.lower() for one in re.findall(r"``(\w+)``", there)}, set(KINDS))

    def test_paths(self) -> None:
        """Files of the project that the pages name are there."""
        folders = ("docs", "deploy", "swarmgate", "tests", "bench", "newsfragments", "twisted")
        for page in PAGES:
            for path in re.findall(rf"``((?:{'|'.join(folders)})/[\w./-]*)``", page.read_text("utf-8")):
                if path.startswith("bench/results") or "KIND" in path or path == "docs/_build/":
                    continue
                self.assertTrue((ROOT / path).exists(), f"{page.name}: {path}")

    def test_pictures(self) -> None:
        """Pictures are well-formed, and can be understood by those who don't see them."""
        pictures = sorted((DOCS / "images").glob("*.svg"))
        self.assertTrue(pictures)
        for picture in pictures:
            root = ElementTree.parse(picture).getroot()
            told = root.find("{http://www.w3.org/2000/svg}desc")
            self.assertIsNotNone(told, picture.name)


class BuildTests(SynchronousTestCase):
    def test_no_warnings(self) -> None:
        """The pages are made without a warning."""
        with tempfile.TemporaryDirectory() as folder:
            made = subprocess.run(
                [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", f"{folder}/trees", DOCS, folder],
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            self.assertEqual((made.returncode, made.stderr), (0, ""))
            self.assertTrue(Path(folder, "index.html").exists())
