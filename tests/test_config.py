"""The static configuration: where it is from, what wins, and what its author is told."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.config.load import ConfigurationError, load, read_text
from swarmgate.config.model import StaticConfiguration, StatusRange
from swarmgate.config.reference import help_text, reference_page
from swarmgate.structure import Address, describe

_PAGE = Path(__file__).parent.parent / "docs" / "reference" / "static.rst"


def loaded(
    argv: Sequence[str] | str = (), environ: Mapping[str, str] | None = None, **files: str
) -> StaticConfiguration:
    """The configuration of a command line, an environment and a file ``gate_yml`` or ``gate_toml``."""

    def read_file(path: str) -> str:
        try:
            return files[path.replace(".", "_")]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory", path) from None

    words = argv.split() if isinstance(argv, str) else argv
    named = [f"--config={name.replace('_', '.')}" for name in files]
    return load([*named, *words], environ or {}, read_file)


def told(argv: Sequence[str] | str = (), environ: Mapping[str, str] | None = None, **files: str) -> list[str]:
    """The lines that the author of a wrong configuration gets."""
    try:
        loaded(argv, environ, **files)
    except ConfigurationError as error:
        return [str(fault) for fault in error.faults]
    raise AssertionError("it was taken")


class SourceTests(SynchronousTestCase):
    """The three places."""

    def test_traefik_v2_command(self) -> None:
        """The command list of a Traefik v2.10 stack file starts swarmgate as it is."""
        configuration = loaded(
            "--providers.docker --providers.docker.swarmMode --entrypoints.web.address=:80 "
            "--providers.docker.exposedbydefault=false --providers.docker.network=golf --api.dashboard=true "
            "--ping.entryPoint=web --accessLog={}"
        )
        self.assertEqual(list(configuration.entry_points), ["web"])
        self.assertEqual(configuration.entry_points["web"].address, Address("", 80))
        swarm = configuration.providers.swarm
        assert swarm is not None and configuration.ping is not None and configuration.access_log is not None
        self.assertFalse(swarm.exposed_by_default)
        self.assertEqual(swarm.network, "golf")
        self.assertEqual(swarm.endpoint, "unix:///var/run/docker.sock")
        self.assertEqual(configuration.ping.entry_point, "web")
        self.assertEqual(configuration.notices, ())

    def test_what_wins(self) -> None:
        """Options win over the environment, the environment over the file, and what one doesn't say stays."""
        file = "log: {level: ERROR, format: json, filePath: a.log}\nproviders: {swarm: {network: file}}\n"
        environ = {"SWARMGATE_LOG_LEVEL": "WARN", "SWARMGATE_LOG_FORMAT": "common", "OTHER": "x"}
        configuration = loaded(["--LOG.level=debug"], environ, gate_yml=file)
        self.assertEqual(configuration.log.level, "DEBUG")
        self.assertEqual(configuration.log.format, "common")
        self.assertEqual(configuration.log.file_path, "a.log")

    def test_same_from_all(self) -> None:
        """File, environment and options describe the same in their own ways."""
        yaml = """
            entryPoints:
              web:
                address: ":8080"
                forwardedHeaders: {trustedIPs: [10.0.0.0/8, 192.168.1.1]}
                proxyProtocol: {trustedIPs: [10.0.0.5, "2001:db8::/64"]}
            ping: {entryPoint: web}
            accessLog: {}
            """
        toml = """
            [entryPoints.web]
            address = ":8080"
            forwardedHeaders.trustedIPs = ["10.0.0.0/8", "192.168.1.1"]
            proxyProtocol.trustedIPs = ["10.0.0.5", "2001:db8::/64"]
            [ping]
            entryPoint = "web"
            [accessLog]
            """
        environ = {
            "SWARMGATE_ENTRYPOINTS_WEB_ADDRESS": ":8080",
            "SWARMGATE_ENTRYPOINTS_WEB_FORWARDEDHEADERS_TRUSTEDIPS": "10.0.0.0/8, 192.168.1.1",
            "SWARMGATE_ENTRYPOINTS_WEB_PROXYPROTOCOL_TRUSTEDIPS": "10.0.0.5,2001:db8::/64",
            "SWARMGATE_PING_ENTRYPOINT": "web",
            "SWARMGATE_ACCESSLOG": "true",
        }
        options = (
            "--entrypoints.web.address :8080 --entrypoints.web.forwardedheaders.trustedips=10.0.0.0/8 "
            "--entryPoints.web.forwardedHeaders.trustedIPs=192.168.1.1 -ping.entryPoint web --accesslog "
            "--entryPoints.web.proxyProtocol.trustedIPs=10.0.0.5,2001:db8::/64"
        )
        expected = loaded(gate_yml=yaml)
        self.assertEqual(
            expected.entry_points["web"].forwarded_headers.trusted_ips,
            (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("192.168.1.1/32")),
        )
        proxied = expected.entry_points["web"].proxy_protocol
        assert proxied is not None
        self.assertEqual([str(one) for one in proxied.trusted_ips], ["10.0.0.5/32", "2001:db8::/64"])
        self.assertEqual(loaded(gate_toml=toml), expected)
        self.assertEqual(loaded((), environ), expected)
        self.assertEqual(loaded(options), expected)

    def test_file_named_by_environment(self) -> None:
        """SWARMGATE_CONFIG names the file where --config doesn't."""
        configuration = load([], {"SWARMGATE_CONFIG": "x.yml"}, {"x.yml": "log: {level: WARN}"}.__getitem__)
        self.assertEqual(configuration.log.level, "WARN")

    def test_templates_and_rules_survive(self) -> None:
        """Values with braces, dots, equals signs and blanks come through whole."""
        rule = "Host(`{{ normalize .Name }}.golf.example`) && !Header(`a`, `b=c`)"
        for configuration in (
            loaded([f"--providers.swarm.defaultRule={rule}"]),
            loaded(["--providers.swarm.defaultRule", rule]),
            loaded((), {"SWARMGATE_PROVIDERS_SWARM_DEFAULTRULE": rule}),
            loaded(gate_yml=f'providers: {{swarm: {{defaultRule: "{rule}"}}}}'),
        ):
            assert configuration.providers.swarm is not None
            self.assertEqual(configuration.providers.swarm.default_rule, rule)

    @given(st.text(max_size=30))
    def test_any_value_survives(self, text: str) -> None:
        """Whatever text an option is given is what it has."""
        configuration = loaded([f"--log.filepath={text}"])
        self.assertEqual(configuration.log.file_path, text)

    def test_read_text(self) -> None:
        """A real file is read, in UTF-8."""
        path = self.mktemp()
        Path(path).write_text("é", "utf-8")
        self.assertEqual(read_text(path), "é")


class DefaultTests(SynchronousTestCase):
    """What is there without being given."""

    def test_entry_points(self) -> None:
        """There is an entry point on port 80 where none is given, and ping's own where ping is on it."""
        self.assertEqual(str(loaded().entry_points["http"].address), ":80")
        self.assertEqual(list(loaded("--ping").entry_points), ["http", "traefik"])
        self.assertEqual(str(loaded("--ping").entry_points["traefik"].address), ":8080")
        self.assertEqual(list(loaded("--ping --ping.manualrouting").entry_points), ["http"])
        self.assertEqual(str(loaded("--ping --entrypoints.traefik.address=:1").entry_points["traefik"].address), ":1")

    def test_no_provider(self) -> None:
        """Who forgets to name a provider is told."""
        (notice,) = loaded().notices
        self.assertIn("--providers.swarm", notice)
        self.assertEqual(loaded("--providers.swarm").notices, ())

    def test_deadlines_and_limits(self) -> None:
        """Each deadline and limit has a safe default."""
        configuration = loaded("--entrypoints.web.address=:80 --providers.swarm")
        web = configuration.entry_points["web"]
        timeouts, forwarding = web.transport.responding_timeouts, configuration.servers_transport.forwarding_timeouts
        self.assertEqual(
            (timeouts.head_timeout, timeouts.read_timeout, timeouts.write_timeout, timeouts.idle_timeout),
            (10, 0, 0, 180),
        )
        self.assertEqual(
            (forwarding.dial_timeout, forwarding.response_header_timeout, forwarding.idle_conn_timeout), (3, 60, 90)
        )
        self.assertEqual(
            (web.http.max_header_bytes, web.http.max_request_line_bytes, web.http.max_header_fields), (32768, 8192, 100)
        )
        characters = web.http.encoded_characters
        self.assertEqual((characters.allow_encoded_slash, characters.allow_encoded_percent), (False, True))
        self.assertEqual(web.transport.life_cycle.grace_time_out, 10)
        assert configuration.providers.swarm is not None
        self.assertEqual(configuration.providers.swarm.refresh_seconds, 1)
        self.assertEqual(configuration.providers.swarm.label_prefixes, ("swarmgate", "traefik"))

    def test_docker_host(self) -> None:
        """DOCKER_HOST is the endpoint where no option names one, with Docker's certificates if it says so."""
        environ = {"DOCKER_HOST": "tcp://10.0.0.1:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"}
        for switch in (["--providers.swarm"], ["--providers.docker.swarmmode=true"], ["--providers.swarm.watch"]):
            swarm = loaded(switch, environ).providers.swarm
            assert swarm is not None and swarm.tls is not None
            self.assertEqual(swarm.endpoint, "tcp://10.0.0.1:2376")
            self.assertEqual(swarm.tls.ca, "/certs/ca.pem")
        swarm = loaded("--providers.swarm.endpoint=unix:///x.sock", environ).providers.swarm
        assert swarm is not None
        self.assertEqual((swarm.endpoint, swarm.tls), ("unix:///x.sock", None))
        self.assertIsNone(loaded("", environ).providers.swarm)
        self.assertIsNone(loaded("--providers.swarm=false", environ).providers.swarm)

    def test_global_is_silent(self) -> None:
        """What Traefik may tell its makers is taken without a word."""
        configuration = loaded("--providers.swarm --global.checknewversion=true --global.sendanonymoususage")
        self.assertEqual(configuration.notices, ())


class V2Tests(SynchronousTestCase):
    """Traefik v2's spellings of the Swarm provider."""

    def test_options(self) -> None:
        """Every option of providers.docker is one of providers.swarm."""
        configuration = loaded(
            "--providers.docker.swarmMode=true --providers.docker.swarmModeRefreshSeconds=5s "
            "--providers.docker.constraints=Label(`a`,`b`) --providers.docker.useBindPortIP=true"
        )
        swarm = configuration.providers.swarm
        assert swarm is not None
        self.assertEqual((swarm.refresh_seconds, swarm.constraints), (5, "Label(`a`,`b`)"))
        from_file = loaded(gate_yml="providers: {docker: {swarmMode: true, network: golf}}").providers.swarm
        assert from_file is not None
        self.assertEqual(from_file.network, "golf")

    def test_both(self) -> None:
        """Where both spellings say something, the newer one wins."""
        swarm = loaded(
            "--providers.docker.swarmMode --providers.docker.network=a --providers.docker.watch=false "
            "--providers.swarm.network=b"
        ).providers.swarm
        assert swarm is not None
        self.assertEqual((swarm.network, swarm.watch), ("b", False))

    def test_plain_docker(self) -> None:
        """Docker without a Swarm is refused, and told what to write."""
        expected = ": expected providers.swarm, or providers.docker.swarmMode=true as Traefik v2 had it"
        problem = "providers.docker: plain Docker, without a Swarm, is not supported, from option --providers.docker"
        self.assertEqual(told("--providers.docker"), [problem + expected])
        self.assertEqual(told("--providers.docker.swarmMode=false"), [f"{problem}.swarmMode{expected}"])
        self.assertIsNone(loaded("--providers.docker=false").providers.swarm)

    def test_faults(self) -> None:
        """What is wrong in the old spelling is told with where it really is."""
        self.assertEqual(
            told("--providers.docker.swarmMode --providers.docker.netwrk=x"),
            ["providers.swarm.netwrk: unknown option, from option --providers.docker.netwrk; did you mean network?"],
        )


class FaultTests(SynchronousTestCase):
    """The lines for each family of errors."""

    def test_unknown(self) -> None:
        """An unknown key is told with its place and the nearest known one, from each source."""
        line = "entryPoints.web.adress: unknown option, from {}; did you mean address?"
        self.assertEqual(told("--entrypoints.web.adress=:80"), [line.format("option --entrypoints.web.adress")])
        self.assertEqual(
            told((), {"SWARMGATE_ENTRYPOINTS_WEB_ADRESS": ":80"}),
            [
                "entryPoints.web.adress: unknown option, from environment variable SWARMGATE_ENTRYPOINTS_WEB_ADRESS; "
                "did you mean address?"
            ],
        )
        self.assertEqual(
            told(gate_yml="entryPoints:\n  web:\n    adress: :80\n"), [line.format("file gate.yml, line 3")]
        )
        self.assertEqual(told(gate_toml='[entryPoints.web]\nadress = ":80"\n'), [line.format("file gate.toml, line 2")])
        self.assertEqual(told("--pong"), ["pong: unknown option, from option --pong; did you mean ping?"])

    def test_values(self) -> None:
        """A wrong type, address, duration, network or choice is told with what is expected."""
        table = {
            "entryPoints.web.address=:99999": "an address such as :80, 127.0.0.1:80 or [::1]:80, "
            "with a port from 0 to 65535",
            "entryPoints.web.address=:53/udp": "an address for TCP: there are no UDP entry points in swarmgate yet",
            "entryPoints.web.transport.respondingTimeouts.readTimeout=tomorow": "a duration such as 10s, 1m30s or "
            "500ms",
            "entryPoints.web.forwardedHeaders.trustedIPs=ten": "an IP address or network such as 10.0.0.1, "
            "10.0.0.0/8 or 2001:db8::/32",
            "entryPoints.web.http.maxHeaderBytes=10": "at least 1024",
            "providers.swarm.exposedByDefault=maybe": "true or false",
            "providers.swarm.endpoint=docker": "a Docker API such as unix:///var/run/docker.sock, tcp://host:2375 or "
            "ssh://user@host",
            "providers.swarm.refreshSeconds=0": "at least 0.1",
            "accessLog.format=xml": "common, genericCLF or json",
            "accessLog.filters.statusCodes=5xx": "a status or a range of them, such as 200 or 400-499",
            "accessLog.fields.headers.names.Cookie=hide": "keep, drop or redact",
            "ping.terminatingStatusCode=99": "a number from 200 to 599",
            "log.level=LOUD": "TRACE, DEBUG, INFO, WARN, ERROR, FATAL or PANIC",
        }
        for option, expected in table.items():
            key, _, value = option.partition("=")
            with_address = [] if key.endswith("address") else ["--entryPoints.web.address=:80"]
            self.assertEqual(
                told([*with_address, f"--{option}"]), [f'{key}: "{value}" from option --{key}: expected {expected}']
            )

    def test_nobody_believed(self) -> None:
        """The PROXY protocol without anybody who is believed is a mistake; with everybody, a risk that is told of."""
        key = "entryPoints.web.proxyProtocol"
        for option in (f"--{key}", f"--{key}.insecure=false"):
            (line,) = told(["--entryPoints.web.address=:80", option])
            self.assertEqual(
                line,
                f"{key}: expected trustedIPs, or insecure=true: else no PROXY header would be believed, "
                f"from option --{key}" + (".insecure" if "insecure" in option else ""),
            )
        configuration = load(["--entryPoints.web.address=:80", f"--{key}.insecure", "--providers.swarm"], {})
        (notice,) = configuration.notices
        self.assertIn(f"{key}.insecure: ", notice)

    def test_not_there(self) -> None:
        """Traefik's options that swarmgate doesn't have are refused by name, never swallowed."""
        refused = "an option of Traefik's that swarmgate does not have yet"
        for key in (
            "entryPoints.web.http3",
            "entryPoints.web.udp.timeout",
            "entryPoints.web.forwardedHeaders.connection",
            "serversTransport.spiffe",
            "providers.swarm.username",
            "providers.consulCatalog",
            "providers.kubernetesCRD",
            "metrics.statsD",
            "tracing.globalAttributes",
            "certificatesResolvers.le.tailscale",
            "experimental.fastProxy",
            "hostResolver.cnameFlattening",
            "core.defaultRuleSyntax",
            "accessLog.otlp",
            "log.maxSize",
        ):
            lines = told(["--entryPoints.web.address=:80", f"--{key}=1"])
            self.assertEqual(len(lines), 1, lines)
            refused_key, _, rest = lines[0].partition(": ")
            self.assertTrue(key.startswith(refused_key), lines)
            self.assertEqual(rest, f"{refused}, from option --{key}")

    def test_base_path(self) -> None:
        """A place for the API that it can't have is refused; the one that it has is taken."""
        load(["--api.basepath=/"], {})
        self.assertEqual(
            told(["--api.basepath=/gate"]),
            [
                'api.basePath: "/gate" from option --api.basepath: expected /, since swarmgate has its API at /api and '
                "its dashboard at /dashboard only, as yet"
            ],
        )

    def test_dynamic_options(self) -> None:
        """Routers in the static file are told where they belong."""
        self.assertEqual(
            told(gate_yml="http:\n  routers: {}\n"),
            [
                "http: part of the dynamic configuration: it belongs in a file of providers.file, or in labels, "
                "from file gate.yml, line 2"
            ],
        )

    def test_all_at_once(self) -> None:
        """All that is wrong, in all places, is told in one go."""
        lines = told(["--log.level=LOUD", "--a..b"], {"SWARMGATE_PONG": "1"}, gate_yml="ping: {entryPiont: web}\n")
        self.assertEqual(
            lines,
            [
                "a..b: an empty name, from option --a..b: expected names with dots between them",
                "ping.entryPiont: unknown option, from file gate.yml, line 1; did you mean entryPoint?",
                "pong: unknown option, from environment variable SWARMGATE_PONG; did you mean ping?",
                'log.level: "LOUD" from option --log.level: expected TRACE, DEBUG, INFO, WARN, ERROR, FATAL or PANIC',
            ],
        )

    def test_files(self) -> None:
        """A file that can't be read or isn't what its name says is told."""
        self.assertEqual(
            told("--config=none.yml"),
            ['config: "none.yml" from option --config: expected a file that can be read (No such file or directory)'],
        )
        self.assertEqual(
            told(gate_yml="a: [\n"), ["file gate.yml, line 2: not YAML: did not find expected node content"]
        )
        self.assertEqual(
            told(["--config=b.yml"], gate_yml=""),
            [
                'config: "b.yml" from option --config: given twice: expected one file',
                'config: "b.yml" from option --config: expected a file that can be read (No such file or directory)',
            ],
        )

        def binary(path: str) -> str:
            return b"\xff\xfe".decode("utf-8")

        error = self.assertRaises(ConfigurationError, load, ["--config", "x.yml"], {}, binary)
        self.assertEqual(str(error), 'config: "x.yml" from option --config: expected a text file in UTF-8')

    def test_words(self) -> None:
        """A word that is no option is told, not dropped."""
        self.assertEqual(told("web"), ['command line: "web" is no option: expected options such as --ping'])
        self.assertEqual(told("--"), ['command line: "--" is no option: expected options such as --ping'])

    def test_contradictions(self) -> None:
        """Options that can't be together are told."""
        self.assertEqual(
            told("--entrypoints.web.address=:80 --ping.entrypoint=wbe"),
            [
                'ping.entryPoint: "wbe" from option --ping.entrypoint: expected the name of an entry point: web; '
                "did you mean web?"
            ],
        )
        self.assertEqual(
            told("--entrypoints.a.address=:80 --entrypoints.b.address=:80"),
            [
                'entryPoints.b.address: ":80" from option --entrypoints.b.address: expected another address than '
                "that of entryPoints.a, or reusePort on both"
            ],
        )
        self.assertEqual(
            told("--providers.file"),
            ["providers.file: expected either filename or directory, from option --providers.file"],
        )
        self.assertEqual(
            told("--providers.swarm.tls.cert=/a"),
            [
                "providers.swarm.tls: cert and key go together: one is given without the other, "
                "from option --providers.swarm.tls.cert"
            ],
        )
        self.assertEqual(
            told("--providers.swarm.labelprefixes="),
            [
                "providers.swarm: labelPrefixes is empty: expected at least one, as swarmgate or traefik, "
                "from option --providers.swarm.labelprefixes"
            ],
        )


class ModelTests(SynchronousTestCase):
    """Values of the model's own types."""

    def test_status_ranges(self) -> None:
        """Statuses and ranges of them say what they contain."""
        one, many = StatusRange.from_text("404"), StatusRange.from_text("500-599")
        self.assertTrue(404 in one and 405 not in one)
        self.assertTrue(500 in many and 599 in many and 600 not in many)
        self.assertEqual((str(one), str(many)), ("404", "500-599"))
        for text in ("5xx", "599-500", "99", "200-", "1000"):
            self.assertRaises(ValueError, StatusRange.from_text, text)


class ReferenceTests(SynchronousTestCase):
    """What is told of the options."""

    def test_every_option_is_documented(self) -> None:
        """Each option has a sentence, in the help and on the page."""
        told_in_help = help_text()
        for one in describe(StaticConfiguration):
            self.assertTrue(one.doc.endswith("."), one)
            self.assertIn(f"  --{one.key}  (", told_in_help)

    def test_page_is_current(self) -> None:
        """The committed reference page says what the program says."""
        page = _PAGE.read_text("utf-8")
        self.assertEqual(page, reference_page(), "make it anew: python -m swarmgate.config.reference")
