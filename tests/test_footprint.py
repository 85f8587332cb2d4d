"""What a gate has in memory only if its configuration asks for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

_GATE = """
import sys
from swarmgate.transport.reactor import install_reactor
install_reactor()
from twisted.internet import reactor
from swarmgate import service
from swarmgate.config.load import load
configuration = load(sys.argv[1:], {})
assert not service.fault_of(configuration)
service.make_service(configuration, reactor)
print(*sorted(sys.modules))
"""
_WORKER = "import sys, swarmgate.workers.process; print(*sorted(sys.modules))"

#: What only an option needs, and an option that does.
_BY_OPTION = {
    "docker": "--providers.swarm.endpoint=unix:///nowhere.sock",
    "prometheus_client": "--metrics.prometheus",
    "requests": "--providers.swarm.endpoint=unix:///nowhere.sock",
    "swarmgate.api.resource": "--api",
    "swarmgate.dashboard.resource": "--api",
    "swarmgate.observe.prometheus": "--metrics.prometheus",
    "swarmgate.providers.file": "--providers.file.filename=routes.yml",
    "swarmgate.providers.swarm.watcher": "--providers.swarm.endpoint=unix:///nowhere.sock",
    "swarmgate.replicas.service": "--api",
    "swarmgate.tls.stapling": "--ocsp",
    "swarmgate.workers.parent": "--workers=2",
    "treq": "--ocsp",
    "twisted.web.client": "--ocsp",
    "twisted.web.server": "--metrics.prometheus",
    "urllib3": "--providers.swarm.endpoint=unix:///nowhere.sock",
}
#: What only a part of the dynamic configuration needs, or another command.
_LATER = {
    "acme",
    "brotli",
    "josepy",
    "lexicon",
    "opentelemetry",
    "passlib",
    "psutil",
    "swarmgate.acme.resolvers",
    "swarmgate.demo",
    "swarmgate.health.ask",
    "swarmgate.middlewares.basic_auth",
    "swarmgate.middlewares.compress",
    "swarmgate.transport.classic",
    "swarmgate.usage.watch",
    "swarmgate.why.services",
    "txredisapi",
    "zstandard",
}
_PLAIN = ("--entrypoints.web.address=127.0.0.1:0", "--ping.entrypoint=web", "--accesslog", "--workers=1")


def imported(program: str, *options: str) -> set[str]:
    """The modules that a process has after *program*."""
    done = subprocess.run(
        [sys.executable, "-c", program, *options],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(done.stderr)
    return set(done.stdout.splitlines()[-1].split())


class FootprintTests(SynchronousTestCase):
    def test_without_options(self) -> None:
        """A gate without options has nothing that only an option needs."""
        modules = imported(_GATE, *_PLAIN)
        self.assertIn("swarmgate.serving", modules)
        self.assertEqual(modules & (_BY_OPTION.keys() | _LATER), set())

    def test_with_options(self) -> None:
        """With all options it has: the names are still those of what is imported."""
        modules = imported(_GATE, *_PLAIN[:-1], *set(_BY_OPTION.values()))
        self.assertEqual(_BY_OPTION.keys() - modules, set())

    def test_worker(self) -> None:
        """A worker has nothing that only its parent needs."""
        modules = imported(_WORKER)
        parents = {"swarmgate.service", "swarmgate.config.load", "swarmgate.providers", "swarmgate.documents", "yaml"}
        self.assertEqual(modules & (_BY_OPTION.keys() | _LATER | parents), set())
