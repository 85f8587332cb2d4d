"""The swarmgate command, and twistd's."""

from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.application.service import IServiceMaker
from twisted.internet import asyncioreactor
from twisted.logger import Logger, LogLevel
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from swarmgate import __version__, cli, demo, service, tap
from swarmgate.agent import run as agent_run
from swarmgate.config.load import load, load_agent
from swarmgate.config.model import StaticConfiguration
from swarmgate.transport import reactor as transport_reactor
from swarmgate.transport.reactor import install_reactor


class CommandCase(SynchronousTestCase):
    """Runs commands, and has what they print."""

    def setUp(self) -> None:
        self.patch(sys, "stdout", io.StringIO())
        self.patch(sys, "stderr", io.StringIO())
        self.patch(cli.os, "environ", {})

    def printed(self) -> list[str]:
        """The lines on standard output."""
        return sys.stdout.getvalue().splitlines()  # type: ignore[attr-defined]

    def complained(self) -> list[str]:
        """The lines on standard error."""
        return sys.stderr.getvalue().splitlines()  # type: ignore[attr-defined]


class MainTests(CommandCase):
    """What each command does and how it ends."""

    def setUp(self) -> None:
        super().setUp()
        self.reactor = object()
        self.ran: list[tuple[StaticConfiguration, Any]] = []
        self.patch(cli, "start_reactor", lambda: self.reactor)
        self.patch(service, "run", self.run_gate)

    def run_gate(self, configuration: StaticConfiguration, reactor: Any, read: Any) -> int:
        """Stands in for the gate, which would run until it is stopped, and read its configuration again meanwhile."""
        self.ran.append((configuration, reactor))
        self.assertEqual(read(), configuration)
        return 7

    def test_run(self) -> None:
        """The gate runs with the options given, with or without the word, and its status is the process's."""
        for words in (["--log.level=WARN"], ["run", "--log.level=WARN"]):
            self.assertEqual(cli.main(words), 7)
        self.assertEqual(self.ran, [(load(["--log.level=WARN"], {}), self.reactor)] * 2)

    def test_environment(self) -> None:
        """The process's environment counts."""
        cli.os.environ["SWARMGATE_LOG_LEVEL"] = "ERROR"
        cli.main(["run"])
        self.assertEqual(self.ran[0][0].log.level, "ERROR")

    def test_wrong_configuration(self) -> None:
        """Nothing runs with a wrong configuration: a line for each fault, and status 2."""
        for command in ([], ["run"], ["check"], ["healthcheck"]):
            self.assertEqual(cli.main([*command, "--ping.entryPont=web", "--log.level=LOUD"]), 2)
        self.assertEqual(
            self.complained()[:2],
            [
                "swarmgate: ping.entryPont: unknown option, from option --ping.entryPont; did you mean entryPoint?",
                'swarmgate: log.level: "LOUD" from option --log.level: '
                "expected TRACE, DEBUG, INFO, WARN, ERROR, FATAL or PANIC",
            ],
        )
        self.assertEqual(len(self.complained()), 8)
        self.assertEqual((self.ran, self.printed()), ([], []))

    def test_check(self) -> None:
        """check says that all is well, and what its author should know, and runs nothing."""
        path = self.mktemp() + ".yml"
        Path(path).write_text("entryPoints: {web: {address: ':80'}}\nproviders: {swarm: {}}\napi: {insecure: true}\n")
        self.assertEqual(cli.main(["check", "--config", path]), 0)
        self.assertEqual(
            self.printed(),
            [
                "api.insecure: whoever reaches the entry point traefik can read all routes and tasks",
                "configuration is valid: entry points web (:80), traefik (:8080)",
            ],
        )
        self.assertEqual((self.ran, self.complained()), ([], []))

    def test_check_finds_the_line(self) -> None:
        """check names the line of a file that is wrong."""
        path = self.mktemp() + ".yml"
        Path(path).write_text("entryPoints:\n  web:\n    adress: ':80'\n")
        self.assertEqual(cli.main(["check", f"--config={path}"]), 2)
        self.assertEqual(
            self.complained(),
            [f"swarmgate: entryPoints.web.adress: unknown option, from file {path}, line 3; did you mean address?"],
        )

    def test_check_reads_files(self) -> None:
        """check reads the files of the provider, too: one with a mistake would not be in force."""
        path = Path(self.mktemp() + ".yml").absolute()
        words = ["check", f"--providers.file.filename={path}"]
        self.assertEqual(cli.main(words), 2)
        path.write_text("http:\n  routers:\n    shop:\n      rul: Host(`shop.example`)\n")
        self.assertEqual(cli.main(words), 2)
        missing, *faults = self.complained()
        self.assertIn("can't be read", missing)
        self.assertIn("line 4: http.routers.shop.rul: unknown option (did you mean rule?)", faults[0])
        path.write_text(
            "http:\n  routers:\n    shop: {rule: Host(`shop.example`), service: shop}\ntcp: {routers: {a: {}}}\n"
        )
        self.assertEqual(cli.main(words), 0)
        self.assertIn("an option of Traefik's that swarmgate does not have yet", self.printed()[-2])

    def test_unknown_option(self) -> None:
        """An option that is near to none is told as it was written, with those that there are."""
        self.assertEqual(cli.main(["check", "-x"]), 2)
        (told,) = self.complained()
        self.assertTrue(
            told.startswith("swarmgate: x: unknown option, from option -x: expected accessLog, agent, "), told
        )

    def test_files(self) -> None:
        """A file that can't be opened is told with its option and its path, without numbers of errors."""
        expected = 'agent.tokenFile: "/none/token": expected a file that can be opened (No such file or directory)'
        self.assertEqual(cli.main(["check", "--agent.tokenfile=/none/token"]), 2)
        self.assertEqual(cli.main(["agent", "--agent.tokenfile=/none/token"]), 1)
        self.assertEqual(self.complained(), [f"swarmgate: {expected}", f"swarmgate agent: {expected}"])

    def test_agent_without_psutil(self) -> None:
        """An agent without the library that looks at its node says how to get it."""
        package = sys.modules["swarmgate.agent"]
        with mock.patch.dict(sys.modules, {"psutil": None}), mock.patch.object(package, "run"):
            del package.run
            for name in ("run", "node"):
                sys.modules.pop(f"swarmgate.agent.{name}")
            self.assertEqual(cli.main(["agent"]), 1)
        self.assertIn("pip install psutil", self.complained()[0])

    def test_help(self) -> None:
        """--help lists commands and options, wherever it stands."""
        for words in (["--help"], ["-h"], ["run", "--ping", "--help"], ["help"]):
            self.assertEqual(cli.main(words), 0)
            printed = self.printed()
            self.assertIn("usage: swarmgate [run] [OPTIONS]", printed[0])
            self.assertIn("  --entryPoints.<name>.address  (address, required)", printed)
            sys.stdout = io.StringIO()
        self.assertEqual(self.ran, [])

    def test_version(self) -> None:
        """The version is told, in both ways of asking."""
        cli.main(["version"])
        cli.main(["--version"])
        self.assertEqual(self.printed(), [f"swarmgate {__version__}"] * 2)

    def test_unknown_command(self) -> None:
        """A misspelt command gets the one that was meant."""
        self.assertEqual(cli.main(["chek"]), 2)
        self.assertEqual(
            self.complained(),
            [
                'swarmgate: "chek" is no command: expected run, check, healthcheck, certs, why, lint, agent, demo, '
                "version or help; did you mean check?"
            ],
        )

    def test_demo(self) -> None:
        """demo runs the demo on the same reactor."""
        self.patch(demo, "run", lambda reactor: 3 if reactor is self.reactor else 4)
        self.assertEqual(cli.main(["demo"]), 3)

    def test_agent(self) -> None:
        """An agent runs with its options; they have a help of their own, and a gate's are none of them."""
        ran: list[Any] = []
        self.patch(agent_run, "run", lambda configuration, reactor: ran.append(configuration) or 7)
        self.assertEqual(cli.main(["agent", "--agent.address=:9999"]), 7)
        self.assertEqual(ran, [load_agent(["--agent.address=:9999"], {})])
        self.assertEqual(cli.main(["agent", "--ping"]), 2)
        self.assertIn("ping: unknown option", self.complained()[0])
        self.assertEqual(cli.main(["agent", "--help"]), 0)
        text = "\n".join(self.printed())
        self.assertIn("--agent.tokenFile", text)
        self.assertNotIn("--entryPoints", text)

    def test_healthcheck_without_ping(self) -> None:
        """Asking a gate that has no ping says so, and is no health."""
        self.assertEqual(cli.main(["healthcheck"]), 1)
        self.assertEqual(self.complained(), ["swarmgate: healthcheck: ping is off: expected --ping among the options"])


class HealthTests(SynchronousTestCase):
    """How the health check asks and judges."""

    def test_gate_of_the_container(self) -> None:
        """In a container the health check knows the gate's options, however it was started."""
        for words, options in (
            (["/opt/swarmgate/bin/python3", "/opt/swarmgate/bin/swarmgate", "--ping", ""], ["--ping"]),
            (["/sbin/docker-init", "--", "swarmgate", "run", "--ping"], ["--ping"]),
            (["python3", "/bin/twistd", "-n", "swarmgate", "--config", "a.yml"], ["--config", "a.yml"]),
            (["python3", "/bin/swarmgate", "healthcheck"], None),
            (["/sbin/init", "swarmgates"], None),
        ):
            self.assertEqual(cli.options_of_gate(words), options)

    def test_agent_of_the_container(self) -> None:
        """In an agent's container the health check asks the agent, and not for the ping of a gate."""
        asked: list[str] = []
        self.patch(sys, "stdout", io.StringIO())
        self.patch(cli, "tell", lambda url: asked.append(url) or 0)
        words = ["/usr/bin/python3", "/opt/swarmgate/bin/swarmgate", "agent", "--agent.address=:9999"]
        self.patch(cli, "_command_line_of_first_process", lambda: words)
        self.assertEqual(cli.main(["healthcheck"]), 0)
        self.assertEqual(asked, ["http://127.0.0.1:9999/ping"])
        self.assertIsNone(cli.options_of_gate(words))


class ReactorTests(CommandCase):
    """The choice of a reactor."""

    def test_present_one_stays(self) -> None:
        """Where a reactor is installed already, as here, it is kept and named."""
        from twisted.internet import reactor

        self.assertEqual(install_reactor(), type(reactor).__name__)
        self.assertIs(sys.modules["twisted.internet.reactor"], reactor)

    def installed(self, uvloop: Any) -> tuple[str, Any]:
        """The name and the loop of the reactor that would be installed in a process that has none yet."""
        loops: list[Any] = []
        # The dict itself: the import of a module that is loaded looks at no other.
        modules = mock.patch.dict(sys.modules, {"uvloop": uvloop})
        modules.start()
        self.addCleanup(modules.stop)
        sys.modules.pop("twisted.internet.reactor", None)
        self.patch(asyncioreactor, "install", loops.append)
        self.patch(asyncio, "set_event_loop", lambda loop: None)
        name = install_reactor()
        for loop in loops:
            if isinstance(loop, asyncio.AbstractEventLoop):
                loop.close()
        return name, loops[0]

    def test_uvloop(self) -> None:
        """The reactor runs on a loop of uvloop's."""

        class Uvloop:
            @staticmethod
            def new_event_loop() -> str:
                return "a loop of uvloop's"

        self.assertEqual(self.installed(Uvloop), ("uvloop", "a loop of uvloop's"))

    def test_without_uvloop(self) -> None:
        """Without uvloop it runs on asyncio's own."""
        name, loop = self.installed(None)
        self.assertEqual(name, "asyncio")
        self.assertIsInstance(loop, asyncio.SelectorEventLoop)

    def test_one_warning(self) -> None:
        """A slow reactor is warned of, once; a fast one isn't."""
        for name, warnings in (("uvloop", 0), ("asyncio", 1), ("EPollReactor", 1)):
            events: list[Any] = []
            self.patch(transport_reactor, "install_reactor", lambda name=name: name)
            self.patch(cli, "_log", Logger("swarmgate", observer=events.append))
            cli.start_reactor()
            self.assertEqual([event["log_level"] for event in events], [LogLevel.warn] * warnings, name)


class TwistdTests(CommandCase):
    """twistd swarmgate."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(tap, "start_reactor", lambda: "reactor")

    def test_plugin(self) -> None:
        """twistd finds the gate by its name."""
        (found,) = (one for one in getPlugins(IServiceMaker) if one.tapname == "swarmgate")
        self.assertIs(found.options, tap.Options)

    def test_options(self) -> None:
        """The same options as the command's lead to the same configuration."""
        words = ["--entrypoints.web.address=:80", "--ping.entrypoint", "web", "--providers.docker.swarmmode"]
        options = tap.Options()
        options.parseOptions(words)
        self.assertEqual(options.configuration, load(words, {}))
        made: list[Any] = []
        self.patch(service, "make_service", lambda *given, read: made.append((*given, read())))
        tap.makeService(options)
        self.assertEqual(made, [(options.configuration, "reactor", options.configuration)])

    def test_wrong_configuration(self) -> None:
        """A wrong configuration ends with status 2 and a line for each fault."""
        error = self.assertRaises(SystemExit, tap.Options().parseOptions, ["--ping.entryPont=web"])
        self.assertEqual(error.code, 2)
        self.assertEqual(
            self.complained(),
            ["swarmgate: ping.entryPont: unknown option, from option --ping.entryPont; did you mean entryPoint?"],
        )

    def test_help(self) -> None:
        """--help lists the options."""
        error = self.assertRaises(SystemExit, tap.Options().parseOptions, ["--help"])
        self.assertEqual(error.code, 0)
        self.assertIn("  --ping.entryPoint  (text, default traefik)", self.printed())
