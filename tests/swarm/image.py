"""The gate's image, built from the project's recipe in a laboratory that reaches no registry, and one to be routed to.

What takes long to get is kept in ``$XDG_CACHE_HOME/swarmgate``, else ``~/.cache/swarmgate``: the base, made of Debian's
packages by debootstrap, the wheels, which come from wherever pip is told to look, and the images built of them. Base
and wheels are got by the machine; the engines, whose namespaces reach nothing, only build.
"""

from __future__ import annotations

import configparser
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.swarm.lab import APP, Engine, Lab, LabError, run

BASE = "sgl/base:1"
GATE = "sgl/swarmgate:1"
EXAMPLE = "sgl/example:1"  # the test application as an image that needs nothing but itself
ROOT = Path(__file__).resolve().parent.parent.parent
_PACKAGES = "python3,python3-venv,ca-certificates"
_NEEDLESS = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")
_TOLD_EVERY = 15.0  # seconds


@contextmanager
def told(what: str) -> Iterator[None]:
    """Print what is being done, and how long it took."""
    began = time.monotonic()
    print(f"{what} ...", flush=True)
    yield
    print(f"{what}: {time.monotonic() - began:.0f} s", flush=True)


def run_telling(*command: str, seconds: float) -> None:
    """Run a command that takes long, and print the last line of its output every now and then.

    :raises LabError: it failed, or took more than ``seconds``; the message has the end of its output.
    """
    began = printed = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while process.poll() is None and time.monotonic() - began < seconds:
                time.sleep(0.2)
                if time.monotonic() - printed >= _TOLD_EVERY:
                    printed = time.monotonic()
                    print(f"  {printed - began:.0f} s: {_end(output.fileno(), 300).rpartition(chr(10))[2]}", flush=True)
        finally:
            late = process.poll() is None
            if late:
                process.kill()
                process.wait()
        if late or process.returncode:
            fault = f"not done within {seconds:g} s" if late else f"exit code {process.returncode}"
            raise LabError(f"{' '.join(command)}: {fault}; its output ends with:\n{_end(output.fileno(), 2000)}")


def _end(file: int, size: int) -> str:
    """Return the end of a file, at most ``size`` bytes."""
    return os.pread(file, size, max(0, os.fstat(file).st_size - size)).decode(errors="replace").rstrip()


def cache() -> Path:
    """Return the folder for what takes long to get."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(home) / "swarmgate"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def alone() -> Iterator[None]:
    """Let nobody else make what is kept meanwhile: of two suites that begin together, one makes it and one waits."""
    with open(cache() / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def debian() -> tuple[str, list[str]]:
    """Return this machine's release of Debian, and debootstrap's argument for the mirror that its apt uses.

    The list is empty where apt names none: then debootstrap has a default of its own.
    """
    facts = platform.freedesktop_os_release()
    release = facts.get("VERSION_CODENAME", "")
    if facts.get("ID") != "debian" or not release:
        release = "bookworm"
    fields = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    listed = run("apt-get", "indextargets", "--format", fields, "Created-By: Packages", check=False)
    found = [line.split() for line in listed.splitlines()]
    mirrors = [each[0] for each in found if each[1:] == [release, "main"]]
    return release, mirrors[:1]


def base_archive() -> Path:
    """Return a tar archive of a small Debian with Python; made if there is none yet, which takes a minute."""
    release, mirror = debian()
    archive = cache() / f"base-{release}-1.tar"
    if archive.exists():
        return archive
    with tempfile.TemporaryDirectory(prefix="sgl-base-") as parent, told("the image's base, by debootstrap"):
        folder = f"{parent}/root"
        command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", release, folder, *mirror]
        # In a mount namespace of its own: what debootstrap mounts is gone with it, however it ends.
        run_telling("unshare", "--mount", *command, seconds=900)
        for needless in _NEEDLESS:
            shutil.rmtree(Path(folder) / needless, ignore_errors=True)
        unfinished = archive.with_suffix(f".{os.getpid()}.part")
        run("tar", "-C", folder, "--exclude=./dev/*", "-cf", str(unfinished), ".", timeout=300)
        unfinished.rename(archive)
    return archive


def requirements() -> list[str]:
    """Return what the image installs, and what building it needs, as pip wants it."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["install_requires"].strip().splitlines()
    listed += setup["options.extras_require"]["tracing"].strip().splitlines()
    build = re.search(r'^requires = \["(.*)"\]$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    if build is None:
        raise LabError("pyproject.toml: no build-system.requires of one line")
    return [*listed, *build.group(1).split('", "'), "wheel"]


def wheels(python: str) -> Path:
    """Return a folder with the wheels of all requirements; they are got anew when those, or the Python, change.

    :param python: the base's version of Python, as ``3.11``.
    """
    wanted = requirements()
    key = hashlib.sha256("\n".join([python, *wanted]).encode()).hexdigest()[:12]
    folder = cache() / f"wheels-{key}"
    if folder.exists():
        return folder
    for outdated in cache().glob("wheels-*"):
        shutil.rmtree(outdated, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".wheels-", dir=cache()) as parent, told("the wheels"):
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-input"]
        command += ["--only-binary=:all:", "--python-version", python, "--dest", f"{parent}/wheels"]
        run_telling(*command, *wanted, seconds=600)
        Path(parent, "wheels").rename(folder)
    return folder


def gather(context: Path) -> None:
    """Copy what the gate's image is made of to *context*."""
    for name in ("LICENSE", "MANIFEST.in", "README.rst", "pyproject.toml", "setup.cfg", "setup.py"):
        shutil.copy(ROOT / name, context)
    for name in ("swarmgate", "twisted", "deploy"):
        shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("__pycache__", "*.cache", "*.so"))


def digest(context: Path) -> str:
    """Return what changes with anything that the images are made of."""
    found = hashlib.sha256("\n".join([sys.version, *debian()[0:1], *requirements()]).encode() + APP.read_bytes())
    for path in sorted(context.rglob("*")):
        if path.is_file():
            found.update(f"{path.relative_to(context)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return found.hexdigest()[:12]


def make_gate_wheel(context: Path, folder: Path) -> None:
    """Leave the wheel of the gate whose sources are in *context* in *folder*."""
    # What "make install" has compiled is not compiled again, unless it has changed since.
    compiled = context / "build"
    if (ROOT / "build").exists() and not os.environ.get("PURE_PYTHON"):
        shutil.copytree(ROOT / "build", compiled, ignore=shutil.ignore_patterns("temp.*", "*.py"))
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel"]
    command += ["--quiet", "--no-deps", "--wheel-dir", str(folder), str(context)]
    with told("the gate's wheel"):
        run_telling(*command, seconds=600)
    shutil.rmtree(compiled, ignore_errors=True)


def build_gate(engine: Engine, context: Path) -> None:
    """Build the image of the gate, as ``deploy/README.rst`` has it for machines without a registry."""
    version = "import sys; print(*sys.version_info[:2], sep='.')"
    python = engine.docker("run", "--rm", "--network", "none", BASE, "python3", "-c", version).strip()
    found = context / "deploy" / "wheels"
    shutil.copytree(wheels(python), found, dirs_exist_ok=True)
    options = ["--build-arg", f"BASE={BASE}"]
    options += ["--build-arg", "PIP_ARGS=--no-index --find-links=deploy/wheels"]
    # The base has no compiler: what it would compile is compiled here, if this is a Python like its own.
    if python == "{}.{}".format(*sys.version_info):
        make_gate_wheel(context, found)
        options += ["--build-arg", "SWARMGATE=swarmgate"]
    options += ["--tag", GATE, "--file", str(context / "deploy" / "Dockerfile")]
    with told("the image of the gate"):
        run_telling("docker", "--host", engine.endpoint, "build", *options, str(context), seconds=300)


def build_example(engine: Engine) -> None:
    """Build the image of the test application."""
    with tempfile.TemporaryDirectory(prefix="sgl-context-") as parent:
        shutil.copy(APP, parent)
        command = 'CMD ["python3", "-u", "/app.py"]'
        Path(parent, "Dockerfile").write_text(f"FROM {BASE}\nCOPY app.py /\nUSER 65534\n{command}\n")
        engine.docker("build", "--quiet", "--tag", EXAMPLE, parent, timeout=120)


def images(engine: Engine) -> Path:
    """Return an archive of all images; they are built on *engine* if there is none yet of what they are made of."""
    with tempfile.TemporaryDirectory(prefix="sgl-context-") as parent, alone():
        context = Path(parent)
        gather(context)
        archive = cache() / f"images-{digest(context)}.tar"
        if archive.exists():
            return archive
        for outdated in cache().glob("images-*"):
            outdated.unlink()
        engine.docker("import", str(base_archive()), BASE, timeout=300)
        build_gate(engine, context)
        build_example(engine)
        unfinished = archive.with_suffix(".part")
        engine.docker("save", "--output", str(unfinished), GATE, EXAMPLE, BASE, timeout=300)
        unfinished.rename(archive)
    return archive


def build(lab: Lab) -> None:
    """Build the images, unless they have been, and give them to every node.

    :raises LabError: one can't be built; the message has the end of what was said about it.
    """
    first = lab.engines[0]
    archive = images(first)
    with told("the images on all nodes"):
        for engine in lab.engines:
            if not engine.docker("image", "ls", "--quiet", GATE):
                engine.docker("load", "--quiet", "--input", str(archive), timeout=300)
    sizes = [int(first.docker("image", "inspect", "--format", "{{.Size}}", name)) / 1e6 for name in (GATE, BASE)]
    print(f"measured: the image has {sizes[0]:.0f} MB, {sizes[0] - sizes[1]:.0f} MB of them on top of its base")
