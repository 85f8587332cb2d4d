"""The import directions and house rules that docs/architecture.rst tells of."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent / "swarmgate"

#: What each part may import of the project, beside itself.
ALLOWED = {
    "structure": set(),
    "documents": {"structure"},
    "overload": set(),
    "transport": set(),
    "config": {"structure", "documents", "dynamic"},
    "dynamic": {"structure", "documents"},
    "http": {"transport"},
    "http2": {"http", "transport"},
    "balancing": {"dynamic", "http"},
    "limits": set(),
    "middlewares": {"structure", "http", "limits"},
    "health": {"dynamic"},
    "observe": {"dynamic", "http", "transport"},
    "providers": {"structure", "documents", "dynamic", "tls"},
    "resources": {"balancing", "dynamic", "http", "http2", "limits", "middlewares", "tls", "transport"},
    "tls": {"processes", "dynamic", "transport"},
    "testing": {"dynamic", "providers"},
    "internal": {"acme", "config", "dynamic", "middlewares"},
    "serving": {
        "config",
        "dynamic",
        "http",
        "http2",
        "limits",
        "middlewares",
        "observe",
        "overload",
        "resources",
        "tls",
        "transport",
    },
    "workers": {
        "processes",
        "acme",
        "config",
        "dynamic",
        "http",
        "internal",
        "limits",
        "middlewares",
        "observe",
        "resources",
        "serving",
        "tls",
        "transport",
    },
    "uncompiled": {"http"},
    "upgrade": set(),
    "fetch": set(),
    "agent": {"config", "fetch", "healthcheck", "observe"},
    "usage": {"agent", "fetch", "providers"},
    "replicas": {"fetch", "observe", "providers"},
    "service": {
        "healthcheck",
        "acme",
        "agent",
        "api",
        "config",
        "dashboard",
        "dynamic",
        "fetch",
        "health",
        "http",
        "internal",
        "middlewares",
        "observe",
        "overload",
        "providers",
        "replicas",
        "resources",
        "serving",
        "tls",
        "transport",
        "uncompiled",
        "upgrade",
        "usage",
        "why",
        "workers",
    },
    "demo": {"agent", "config", "providers", "service", "testing"},
    "acme": {"config", "dynamic", "http", "providers", "structure"},
    "why": {"config", "dynamic", "middlewares", "providers", "structure"},
    "dashboard": set(),
    "api": {"config", "dynamic", "observe", "providers", "structure", "why"},
    "tap": {"cli", "config", "service"},
    "healthcheck": set(),
    "processes": set(),
    "cli": {"acme", "agent", "config", "demo", "healthcheck", "service", "structure", "transport", "uncompiled", "why"},
    "__main__": {"cli", "healthcheck"},
    "__init__": {"uncompiled"},
}

#: Modules that only some files may import.
RESERVED = {
    "docker": {"providers/swarm/configs.py", "providers/swarm/engine.py"},
    "uvloop": {"transport/reactor.py"},
    "treq": {"health/ask.py", "tls/responder.py"},
    "opentelemetry": {"observe/tracing.py"},
    "txredisapi": {"limits/redis.py"},
    "psutil": {"agent/node.py"},
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the package, by its path below it."""
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"), str(path))


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """The full names of what a module imports, those for the type checker alone left out."""
    unwanted: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            unwanted.update(part for child in node.body for part in ast.walk(child))
    for node in ast.walk(tree):
        if node in unwanted:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node


class ArchitectureTests(SynchronousTestCase):
    def test_import_directions(self) -> None:
        """Each part imports what lies below it and nothing else."""
        faults = []
        for path, tree in modules():
            part = path.split("/")[0].removesuffix(".py")
            self.assertIn(part, ALLOWED, f"{path}: a new part has to be given its place in ALLOWED and the docs")
            for name, node in imports(tree):
                if not name.startswith("swarmgate."):
                    continue
                other = name.split(".")[1]
                if other not in {part, "__version__"} | ALLOWED[part]:
                    faults.append(f"{path}:{node.lineno}: {part} must not import {other}")
        self.assertEqual(faults, [])

    def test_dynamic_is_pure(self) -> None:
        """What decides knows neither the network nor the time."""
        for path, tree in modules():
            if path.startswith(("dynamic/", "structure")):
                for name, node in imports(tree):
                    where = f"{path}:{node.lineno}"
                    self.assertNotIn(
                        name.split(".")[0], {"twisted", "socket", "time", "os", "asyncio", "threading"}, where
                    )

    def test_reserved_imports(self) -> None:
        """A library that blocks, or that not everybody has, is imported in one place."""
        for path, tree in modules():
            for name, node in imports(tree):
                allowed = RESERVED.get(name.split(".")[0])
                if allowed is not None:
                    self.assertIn(path, allowed, f"{path}:{node.lineno}")

    def test_reactor_is_a_parameter(self) -> None:
        """Nothing but the command and twistd's plugin takes the global reactor."""
        for path, tree in modules():
            for name, node in imports(tree):
                if name in ("twisted.internet.reactor", "twisted.internet.reactor.reactor"):
                    self.assertIn(path, {"cli.py", "tap.py", "workers/process.py"}, f"{path}:{node.lineno}")

    def test_nobody_sleeps(self) -> None:
        """Nothing blocks the reactor by waiting."""
        for path, tree in modules():
            for node in ast.walk(tree):
                # sleep(0) waits for nothing: a thread hands over the interpreter's lock with it.
                if (
                    isinstance(node, ast.Call)
                    and ast.unparse(node.func) == "time.sleep"
                    and ast.unparse(node) != "time.sleep(0)"
                ):
                    self.fail(f"{path}:{node.lineno}: sleep() blocks the reactor")

    def test_docstrings(self) -> None:
        """Every module, public class and public function says what it is for."""
        missing = []
        for path, tree in modules():
            if not ast.get_docstring(tree) and tree.body:
                missing.append(path)
            for node in tree.body:
                public = isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
                if public and not ast.get_docstring(node):
                    missing.append(f"{path}: {node.name}")
        self.assertEqual(missing, [])
