"""What a gate has in memory only if its configuration asks for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.pki import authority

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
_WORKER = """
import sys
from swarmgate.workers.fork_server import import_reactor
import_reactor()
assert "twisted.internet.reactor" not in sys.modules
from swarmgate.workers.process import install_reactor
install_reactor()
print(*sorted(sys.modules))
"""

_FILE = """
import sys, time
from types import SimpleNamespace
from swarmgate.middlewares import KINDS
from swarmgate.providers.file import look
from swarmgate.tls.reading import own_certificate
configuration = look(SimpleNamespace(filename=sys.argv[1], directory=""), KINDS, None, time.time()).configuration
assert not configuration.problems, configuration.problems
(read,), own = configuration.tls.certificates, own_certificate()
assert (read.names, read.common_name, read.issuer) == (("a.example",), "a.example", "test root"), read
assert own.common_name == "SWARMGATE DEFAULT CERT" and "PRIVATE KEY" in own.key
print(*sorted(sys.modules))
"""

#: What only an option needs, and an option that does.
_BY_OPTION = {
    "OpenSSL": "--ocsp",
    "cryptography": "--ocsp",
    "docker": "--providers.swarm.endpoint=unix:///nowhere.sock",
    "prometheus_client": "--metrics.prometheus",
    "requests": "--providers.swarm.endpoint=unix:///nowhere.sock",
    "swarmgate.api.resource": "--api",
    "swarmgate.dashboard.resource": "--api",
    "swarmgate.observe.exposition": "--metrics.prometheus",
    "swarmgate.observe.prometheus": "--metrics.prometheus",
    "swarmgate.providers.file": "--providers.file.filename=routes.yml",
    "swarmgate.providers.swarm.watcher": "--providers.swarm.endpoint=unix:///nowhere.sock",
    "swarmgate.replicas.service": "--api",
    "swarmgate.tls.stapling": "--ocsp",
    "swarmgate.workers.parent": "--workers=2",
    "treq": "--ocsp",
    "twisted.internet.ssl": "--ocsp",
    "twisted.web.client": "--ocsp",
    "twisted.web.server": "--api",
    "urllib3": "--providers.swarm.endpoint=unix:///nowhere.sock",
}
#: What only a part of the dynamic configuration needs, an option of who serves, or another command.
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
    "swarmgate.http.proxied",
    "swarmgate.limits.redis",
    "swarmgate.middlewares.basic_auth",
    "swarmgate.middlewares.compress",
    "swarmgate.middlewares.pass_tls_client_cert",
    "swarmgate.resources.composed",
    "swarmgate.resources.failover",
    "swarmgate.resources.highest_random_weight",
    "swarmgate.resources.mirroring",
    "swarmgate.resources.weighted",
    "swarmgate.transport.classic",
    "swarmgate.transport.proxy_protocol",
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

    def test_certificates(self) -> None:
        """What certificates are read and made with is in memory for no longer than that takes."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        authority().issue("a.example").write(folder, "a")
        path = folder / "routes.yml"
        path.write_text(
            f"tls:\n  certificates: [{{certFile: {folder}/a.crt, keyFile: {folder}/a.key}}]\n"
            f"  options: {{m: {{clientAuth: {{caFiles: [{folder}/a.crt], clientAuthType: RequestClientCert}}}}}}\n"
        )
        self.assertEqual(imported(_FILE, str(path)) & {"cryptography", "OpenSSL"}, set())
