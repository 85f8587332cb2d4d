"""Options, certificates and transports on their way from files and labels to the table."""

from __future__ import annotations

import itertools
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.description import describe_changes
from swarmgate.dynamic.file_format import decode_file, merge_files
from swarmgate.dynamic.model import Configuration, Router, Server, Service
from swarmgate.dynamic.rules import parse_rule
from swarmgate.dynamic.table import EntryPointFacts, RoutingTable, compile_table, hosts_of
from swarmgate.dynamic.tls import Certificate, ClientAuth, RouterTLS, ServersTransport, TLSConfiguration, TLSOptions
from swarmgate.structure import StructureError, structure

SERVICE = {"app": Service("app", (Server("http://10.0.0.1:80"),))}
MTLS = TLSOptions(min_version="VersionTLS13")


def table_of(
    routers: dict[str, tuple[str, RouterTLS | None]], facts: EntryPointFacts | None = None, **configuration: Any
) -> RoutingTable:
    made = {name: Router(name, rule, "app", tls=tls) for name, (rule, tls) in routers.items()}
    given = Configuration(made, SERVICE, **{"tls": TLSConfiguration(options={"m": MTLS}), **configuration})
    return compile_table({"file": given}, {"web": facts or EntryPointFacts()})


class TableTests(SynchronousTestCase):
    def test_hosts(self) -> None:
        """Hosts have the options that their routers name."""
        table = table_of({
            "a": ("Host(`a.example`) || Host(`*.b.example`)", RouterTLS(options="m")),
            "c": ("Host(`c.example`)", RouterTLS(options="m@file")),
            "d": ("Host(`d.example`)", RouterTLS()),
            "e": ("Host(`e.example`)", None),
        })  # fmt: skip
        self.assertEqual(
            table.tls.hosts, {"web": {"a.example": "m@file", "*.b.example": "m@file", "c.example": "m@file"}}
        )
        self.assertEqual(set(table.tls.options), {"default", "m@file"})
        self.assertEqual(table.problems, ())
        tls = {route.name: route.tls for route in table.routes["web"]}
        self.assertEqual(tls["e@file"], None)
        self.assertEqual(tls["d@file"], RouterTLS(options="default"))

    def test_conflict(self) -> None:
        """Where routers of a host disagree, the default options are in force, and both are told."""
        table = table_of({
            "a": ("Host(`a.example`) && Path(`/x`)", RouterTLS(options="m")),
            "b": ("Host(`a.example`)", RouterTLS()),
        })  # fmt: skip
        self.assertEqual(table.tls.hosts, {"web": {}})
        self.assertIn("router a@file has other TLS options for a.example", str(table.problems[0]))

    def test_missing_options(self) -> None:
        """A router whose options are missing answers 404, and the nearest name is told."""
        table = table_of({"a": ("Host(`a.example`)", RouterTLS(options="n"))})
        self.assertEqual(table.routes["web"][0].problem, "there are no TLS options n")
        self.assertIn("no such TLS options", table.problems[0].reason)

    def test_rules_without_host(self) -> None:
        """A router that could be reached under other options than its own answers 404."""
        for rule, is_limited in (
            ("PathPrefix(`/x`)", False),
            ("HostRegexp(`.*`)", False),
            ("Host(`a.example`) || Path(`/x`)", False),
            ("!Host(`a.example`)", False),
            ("Host(`*`)", False),
            ("Host(`a.example`) && Path(`/x`)", True),
            ("Host(`a.example`) || Host(`b.example`) && Path(`/x`)", True),
        ):
            table = table_of({"a": (rule, RouterTLS(options="m"))})
            self.assertEqual(table.routes["web"][0].problem is None, is_limited, rule)
            self.assertIsNone(table_of({"a": (rule, RouterTLS())}).routes["web"][0].problem)

    def test_entry_point(self) -> None:
        """An entry point's TLS is that of its routers that have none of their own."""
        table = table_of(
            {"a": ("Host(`a.example`)", None), "b": ("Host(`b.example`)", RouterTLS())},
            EntryPointFacts(tls=RouterTLS(options="m@file")),
        )
        self.assertEqual(table.tls.hosts, {"web": {"a.example": "m@file"}})
        self.assertEqual([route.tls is not None for route in table.routes["web"]], [True, True])

    def test_without_tls(self) -> None:
        """An entry point without a router that has TLS has none itself."""
        self.assertEqual(table_of({"a": ("Host(`a.example`)", None)}).tls.hosts, {})

    def test_transports(self) -> None:
        """A service is reached as the transport says that it names, or not at all."""
        blind = ServersTransport(insecure_skip_verify=True)
        services = {
            "app": Service("app", servers_transport="blind"),
            "lost": Service("lost", servers_transport="blnd@file"),
        }
        routers = {name: Router(name, f"Host(`{name}`)", name) for name in services}
        given = Configuration(routers, services, servers_transports={"blind": blind})
        table = compile_table({"file": given}, {"web": EntryPointFacts()})
        self.assertEqual(table.services["app@file"].transport, blind)
        problems = {route.name: route.problem for route in table.routes["web"]}
        self.assertEqual(problems, {"app@file": None, "lost@file": "there is no serversTransport blnd@file"})
        self.assertEqual(table.problems[0].nearest, "blind@file")

    def test_changes(self) -> None:
        """The log tells of certificates that come, go and are replaced, without their keys."""
        first, second = (Certificate(text, "KEY", ("a.example",), origin="a.crt") for text in "12")
        tables = [table_of({}, tls=TLSConfiguration(certificates)) for certificates in ((), (first,), (second,), ())]
        told = [describe_changes(*pair) for pair in itertools.pairwise(tables)]
        self.assertEqual(
            [lines[0] for lines in told],
            [
                "certificate for a.example added: a.crt",
                "certificate for a.example replaced: a.crt",
                "certificate for a.example removed: a.crt",
            ],
        )
        self.assertNotIn("KEY", str(told))

    def test_hosts_of(self) -> None:
        """A rule's hosts are those that it asks for, not those that it excludes."""
        rule = parse_rule("(Host(`A.example`) || Host(`b.example`)) && !Host(`c.example`) && Path(`/x`)", "v3")
        self.assertEqual(hosts_of(rule), {"a.example", "b.example"})


FILE = """\
http:
  serversTransports:
    t: {serverName: s.example, rootCAs: [ca.pem], maxIdleConnsPerHost: 7, forwardingTimeouts: {dialTimeout: 2s}}
tls:
  certificates:
    - {certFile: a.crt, keyFile: a.key, stores: [default]}
  options:
    default: {minVersion: VersionTLS13}
    m:
      cipherSuites: [tls_ecdhe_rsa_with_aes_128_gcm_sha256]
      curvePreferences: [CurveP521, x25519]
      clientAuth: {caFiles: [ca.pem], clientAuthType: RequireAndVerifyClientCert}
      alpnProtocols: [http/1.1]
      sniStrict: true
      preferServerCipherSuites: true
  stores:
    default: {defaultCertificate: {certFile: d.crt, keyFile: d.key}}
    other: {}
"""


class FileTests(SynchronousTestCase):
    def test_what_files_say(self) -> None:
        """Traefik's ``tls`` is understood, and what is left to be read is known."""
        configuration = decode_file(FILE, "gate.yml", {})
        options = configuration.tls.options["m"]
        self.assertEqual(
            options,
            TLSOptions(
                cipher_suites=("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",),
                curve_preferences=("CurveP521", "X25519"),
                client_auth=ClientAuth(ca_files=("ca.pem",), client_auth_type="RequireAndVerifyClientCert"),
                alpn_protocols=("http/1.1",),
                sni_strict=True,
                prefer_server_cipher_suites=True,
            ),
        )
        self.assertEqual(configuration.servers_transports["t"].max_idle_conns_per_host, 7)
        assert configuration.tls_files is not None
        self.assertEqual([one.cert_file for one in configuration.tls_files.certificates], ["a.crt"])
        self.assertEqual(
            [problem.key for problem in configuration.problems],
            ["tls.stores.other", "tls.options.m.preferServerCipherSuites"],
        )

    def test_two_files(self) -> None:
        """Of two files with options of one name, the first by name has it."""
        one, two = (decode_file(f"tls:\n  options:\n    m: {{sniStrict: {strict}}}\n", "x.yml", {}) for strict in ("true", "false"))  # fmt: skip # noqa: E501
        merged = merge_files({"a.yml": one, "b.yml": two})
        self.assertTrue(merged.tls.options["m"].sni_strict)
        self.assertEqual([problem.subject for problem in merged.problems], ["TLS option m@file"])

    def test_faults(self) -> None:
        """What can't be is told with what could be."""
        for options, part in (
            ({"minVersion": "TLS1.2"}, "VersionTLS12"),
            ({"minVersion": "VersionTLS13", "maxVersion": "VersionTLS12"}, "older than minVersion"),
            ({"cipherSuites": ["AES128"]}, "by Go's name"),
            ({"curvePreferences": ["P-1"]}, "CurveP256"),
            ({"clientAuth": {"clientAuthType": "VerifyClientCertIfGiven"}}, "needs caFiles"),
            ({"clientAuth": {"clientAuthType": "Verify"}}, "RequireAnyClientCert"),
            ({"sniStrickt": True}, "sniStrict"),
        ):
            error = self.assertRaises(StructureError, structure, TLSOptions, options, "tls.options.m")
            self.assertIn(part, str(error))
