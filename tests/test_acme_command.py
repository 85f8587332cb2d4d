"""Tests for swarmgate.acme.command and resolvers: certificates listed, shown, taken out and put in."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from swarmgate.acme.certificate import Certificate, certificate_from
from swarmgate.acme.command import CommandError, check, run
from swarmgate.acme.file_store import FileStore
from swarmgate.acme.memory import MemoryAuthority, MemoryConfigs, MemoryLog
from swarmgate.acme.records import decode_account, encode
from swarmgate.acme.resolvers import fault_of
from swarmgate.acme.sealing import Keys
from swarmgate.acme.store import CERTIFICATE
from swarmgate.acme.swarm_store import SwarmStore
from swarmgate.config.load import load
from tests.test_acme_service import options
from tests.test_acme_stores import KEY, NEW_KEY


def signed(*domains: str, days: float = 90, at: float = 2_000_000_000) -> Certificate:
    """Return a certificate of the resolver le."""
    clock = Clock()
    clock.advance(at)
    return MemoryAuthority(clock, "le", options(), days=days).sign(domains)


def traefik(certificate: Certificate) -> dict[str, Any]:
    """Return a certificate as it stands in Traefik's acme.json."""
    main, *sans = certificate.domains
    return {
        "domain": {"main": main, **({"sans": sans} if sans else {})},
        "certificate": base64.b64encode(certificate.chain_pem).decode(),
        "key": base64.b64encode(certificate.key_pem).decode(),
        "Store": "default",
    }


class CommandTests(TestCase):
    """``swarmgate certs`` with a file as storage."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "store.json"
        self.said: list[str] = []

    async def do(self, *words: str, **more: str) -> list[str]:
        """Return the lines that a command says."""
        given = [
            "--entryPoints.web.address=:80",
            f"--certificatesResolvers.le.acme.storage={self.path}",
            "--certificatesResolvers.le.acme.httpChallenge.entryPoint=web",
            "--certificatesResolvers.le.acme.caServer=https://ca.example/dir",
        ]
        said: list[str] = []
        await run(reactor, words, load(given, {}), None, said.append)
        return said

    async def keep(self, certificate: Certificate) -> None:
        """Put a certificate into the store."""
        store = FileStore(str(self.path), maybeDeferred)
        last = (await store.look(True)).last
        await store.put(last + 1, CERTIFICATE, certificate.domains[0], encode(certificate))

    async def test_list(self) -> None:
        """Each certificate is a line, of those for the same domains the newest; no key is in it."""
        for one in (signed("a.example", "www.a.example"), signed("b.example", at=1e9), signed("b.example")):
            await self.keep(one)
        lines = await self.do("list")
        self.assertEqual(3, len(lines), lines)
        self.assertTrue(lines[1].startswith("a.example, www.a.example  le"), lines)
        self.assertIn("2033-08-16", lines[1])
        self.assertNotIn("(over)", lines[2])

    async def test_show(self) -> None:
        """A certificate is told of with its dates and issuer, found by any of its domains, without its key."""
        certificate = signed("a.example", "www.a.example")
        await self.keep(certificate)
        told = "\n".join(await self.do("show", "www.a.example"))
        self.assertIn(certificate.fingerprint, told)
        self.assertIn("memory", told)
        self.assertNotIn("PRIVATE", told)
        error = await self.assertFailure(_deferred(self.do("show", "w.a.example")), CommandError)
        self.assertIn("did you mean www.a.example?", str(error))

    async def test_export(self) -> None:
        """The files that are written belong together, and the key is for its owner alone."""
        certificate = signed("*.a.example")
        await self.keep(certificate)
        for _ in range(2):
            await self.do("export", "*.a.example", str(self.folder))
        chain, key = (self.folder / "_.a.example.crt").read_bytes(), (self.folder / "_.a.example.key").read_bytes()
        self.assertEqual(certificate.chain_pem, certificate_from(chain, key).chain_pem)
        self.assertEqual(0o600, stat.S_IMODE((self.folder / "_.a.example.key").stat().st_mode))
        error = await self.assertFailure(_deferred(self.do("export", "*.a.example", "/nowhere")), CommandError)
        self.assertIn("/nowhere", str(error))

    async def test_import(self) -> None:
        """Certificates and the account of Traefik's file are there afterwards; a second import changes nothing."""
        account = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        tree = {
            "le": {
                "Account": {
                    "Email": "a@x.example",
                    "Registration": {"body": {"status": "valid"}, "uri": "https://ca.example/acct/7"},
                    "PrivateKey": base64.b64encode(account).decode(),
                    "KeyType": "4096",
                },
                "Certificates": [
                    traefik(signed("a.example", "www.a.example")),
                    {"domain": {"main": "broken.example"}, "certificate": "AAAA", "key": "AAAA"},
                    {"nothing": 1},
                ],
            },
            "other": {"Account": None, "Certificates": None},
        }
        file = self.folder / "acme.json"
        file.write_text(json.dumps(tree))
        said = await self.do("import", str(file))
        self.assertEqual(2, sum(line.startswith("imported") for line in said), said)
        self.assertEqual(3, sum(line.startswith("passed over") for line in said), said)
        self.assertIn("a.example, www.a.example", (await self.do("list"))[1])
        again = await self.do("import", str(file))
        self.assertFalse([line for line in again if line.startswith("imported")], again)
        (record,) = (await FileStore(str(self.path), maybeDeferred).look(True)).of_kind("account")
        self.assertEqual("https://ca.example/acct/7", decode_account(record.content).uri)

    async def test_no_file(self) -> None:
        """What can't be imported is said with its name, and nothing is written."""
        (self.folder / "text").write_text("hello")
        (self.folder / "list").write_text("[]")
        for name in ("none", "text", "list"):
            error = await self.assertFailure(_deferred(self.do("import", str(self.folder / name))), CommandError)
            self.assertIn(name, str(error))
        self.assertFalse(self.path.exists())

    def test_words(self) -> None:
        """What is no command is told with the nearest that is one."""
        for words, hint in ((["lst"], "did you mean list?"), ([], "expected list"), (["show"], "expected DOMAIN")):
            error = self.assertRaises(CommandError, check, words)
            self.assertIn(hint, str(error))
        self.assertRaises(CommandError, check, ["list", "x"])

    async def test_rekey(self) -> None:
        """Everything is under the first key afterwards; what was superseded is gone rather than newest."""
        from swarmgate.acme import command

        clock = Clock()
        clock.advance(1e9)
        log = MemoryLog(clock)
        old, new = signed("a.example", at=1e9), signed("a.example")
        first = SwarmStore(clock, MemoryConfigs(log), Keys.from_text(KEY, "k"))
        for number, one in enumerate((old, new), 1):
            await first.put(number, CERTIFICATE, "a.example", encode(one))
        both = SwarmStore(clock, MemoryConfigs(log), Keys.from_text(f"{NEW_KEY}\n{KEY}", "k"))
        stores = command.Stores.__new__(command.Stores)
        stores.stores = {"swarm": both}
        said: list[str] = []
        await command._rekey(stores, (), said.append)
        last = SwarmStore(clock, MemoryConfigs(log), Keys.from_text(NEW_KEY, "k"))
        (record,) = (await last.look(True)).records
        self.assertEqual(encode(new), record.content)
        self.assertEqual("swarm: 2 of 2 records were under an older key", said[-1])


class FaultTests(SynchronousTestCase):
    """What is wrong with resolvers is said before the gate starts."""

    def fault(self, *words: str) -> str:
        """Return what is wrong with these options of a resolver."""
        given = ["--entryPoints.web.address=:80", *(f"--certificatesResolvers.le.acme.{word}" for word in words)]
        return fault_of(load(given + list(self.more), {}))

    def setUp(self) -> None:
        self.more: tuple[str, ...] = ()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def test_faults(self) -> None:
        """Each fault names its option, what was given and what was expected."""
        entry = "httpChallenge.entryPoint=web"
        self.assertIn("there is no providers.swarm", self.fault(entry, "storage=swarm"))
        self.assertIn("no such folder", self.fault(entry, "storage=/nowhere/acme.json"))
        self.assertEqual("", self.fault(entry, f"storage={self.folder}/acme.json"))
        fault = self.fault("httpChallenge.entryPoint=wbe", f"storage={self.folder}/acme.json")
        self.assertIn("did you mean web?", fault)
        self.assertIn("no such file", self.fault(entry, f"storage={self.folder}/a", "caCertificates=/nowhere/ca.pem"))

    def test_default(self) -> None:
        """Where there is a Swarm certificates are kept there by default, which takes a key."""
        self.more = ("--providers.swarm=true",)
        fault = self.fault("httpChallenge.entryPoint=web", "storageKeyFile=/nowhere/key")
        self.assertIn("storageKeyFile: /nowhere/key", fault)
        self.assertIn("openssl rand", fault)
        key = self.folder / "key"
        key.write_text(KEY)
        self.assertEqual("", self.fault("httpChallenge.entryPoint=web", f"storageKeyFile={key}"))


def _deferred(coroutine: Any) -> Any:
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(coroutine)
