"""Certificates that files name: read with them, read anew when they change, kept when they break."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.model import Configuration
from swarmgate.providers.file import Seen, look
from tests.pki import NOW, START, authority

TEXT = """\
tls:
  certificates: [{certFile: FOLDER/a.crt, keyFile: FOLDER/a.key}]
  stores: {default: {defaultCertificate: {certFile: FOLDER/d.crt, keyFile: FOLDER/d.key}}}
  options: {m: {clientAuth: {caFiles: [FOLDER/ca.pem], clientAuthType: RequireAndVerifyClientCert}}}
http:
  serversTransports: {t: {rootCAs: [FOLDER/ca.pem], certificates: [{certFile: FOLDER/a.crt, keyFile: FOLDER/a.key}]}}
"""


@attrs.frozen
class Options:
    filename: str
    directory: str = ""
    watch: bool = True


class MaterialTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.now = NOW
        self.seen: Seen | None = None
        self.ticks = 0
        authority().issue("a.example").write(self.folder, "a")
        authority().issue("d.example").write(self.folder, "d")
        self.write("ca.pem", authority().pem)
        self.write("gate.yml", TEXT.replace("FOLDER", str(self.folder)))

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        # Two writes within one tick of the file system's clock would look alike.
        self.ticks += 1
        os.utime(path, ns=(self.ticks * 10**9, self.ticks * 10**9))

    def look(self) -> Configuration:
        self.seen = look(Options(str(self.folder / "gate.yml")), {}, self.seen, self.now)
        return self.seen.configuration

    def names(self) -> list[str]:
        return [one.names[0] for one in self.look().tls.certificates]

    def test_complete(self) -> None:
        """What stands in the files is part of the configuration."""
        configuration = self.look()
        self.assertEqual(configuration.problems, ())
        self.assertEqual([one.names for one in configuration.tls.certificates], [("a.example",)])
        assert configuration.tls.default is not None
        self.assertEqual(configuration.tls.default.names, ("d.example",))
        self.assertEqual(configuration.tls.options["m"].client_auth.ca_files, (authority().pem,))
        transport = configuration.servers_transports["t"]
        self.assertEqual(transport.root_cas, (authority().pem,))
        self.assertIn("BEGIN CERTIFICATE", transport.certificates[0].cert_file)
        self.assertNotIn("PRIVATE", repr(configuration))

    def test_nothing_new(self) -> None:
        """Files that stay the same give the same configuration, which nothing is done for."""
        self.assertEqual(self.look(), self.look())

    def test_new_certificate(self) -> None:
        """A certificate that is replaced is there at the next look."""
        self.look()
        pair = authority().issue("b.example")
        self.write("a.crt", pair.chain)
        between = self.look()
        self.assertEqual([one.names for one in between.tls.certificates], [("a.example",)])
        self.assertIn("the key does not fit", str(between.problems[0]))
        self.write("a.key", pair.key)
        self.assertEqual(self.names(), ["b.example"])
        self.assertEqual(self.look().problems, ())

    def test_file_that_goes(self) -> None:
        """A file that can't be read any more costs nothing, one that never could costs what needs it."""
        (self.folder / "d.crt").unlink()
        configuration = self.look()
        self.assertIsNone(configuration.tls.default)
        self.assertIn("d.crt: can't be read: No such file", str(configuration.problems[0]))
        (self.folder / "a.crt").unlink()
        (self.folder / "ca.pem").unlink()
        self.assertEqual(self.names(), ["a.example"])
        self.assertEqual(set(self.look().tls.options), {"m"})

    def test_missing_authority(self) -> None:
        """Options without their authority are not in force, so that nobody gets in without a certificate."""
        self.write("ca.pem", "nothing")
        configuration = self.look()
        self.assertEqual((configuration.tls.options, configuration.servers_transports), ({}, {}))
        self.assertIn("ca.pem: no certificate in PEM", str(configuration.problems[0]))

    def test_expired(self) -> None:
        """An expired certificate is served and told."""
        self.now = START.timestamp() + 3001 * 86400
        self.assertEqual(self.names(), ["a.example"])
        self.assertIn("expired on 2033-03-20; it is served all the same", str(self.look().problems[0]))

    def test_text(self) -> None:
        """A certificate may stand in the file itself."""
        pair = authority().issue("in.example")
        indented = {name: text.replace("\n", "\n        ") for name, text in (("c", pair.chain), ("k", pair.key))}
        pairs = f"    - certFile: |\n        {indented['c']}\n      keyFile: |\n        {indented['k']}\n"
        self.write("gate.yml", f"tls:\n  certificates:\n{pairs}")
        self.assertEqual(self.names(), ["in.example"])
