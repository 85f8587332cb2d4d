"""The ``swarmgate`` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from swarmgate import __version__
from swarmgate.config.agent import AgentConfiguration
from swarmgate.config.load import ConfigurationError, load, load_agent
from swarmgate.config.model import StaticConfiguration
from swarmgate.config.reference import help_text
from swarmgate.healthcheck import NO_PING, ping_url, tell, url_of
from swarmgate.structure import nearest_of
from swarmgate.uncompiled import is_compiled

USAGE = """\
usage: swarmgate [run] [OPTIONS]          route requests
       swarmgate check [OPTIONS]          say what is wrong with the configuration, its files included, and no more
       swarmgate healthcheck [OPTIONS]    ask the ping of a gate on this machine that has the same options;
                                          without any, of the gate that is this container's first process
       swarmgate certs VERB [OPTIONS]     list, show, export, import or rekey certificates of the certificatesResolvers
       swarmgate why URL [-X METHOD] [-H 'Name: value'] | --service NAME  [--api URL]
                                          ask a running gate which router takes a request, or why a service gets none
       swarmgate lint FILE [OPTIONS]      say what is wrong with the labels and networks of a stack file
       swarmgate agent [OPTIONS]          tell gates and Prometheus how much of this node is in use; has its own --help
       swarmgate demo                     route requests in a Swarm that exists in memory only
       swarmgate version

Options come from a file, named by --config FILE, from environment variables such as
SWARMGATE_ENTRYPOINTS_WEB_ADDRESS, and from the command line, which wins. Case does not matter. Options that are
"on or off" are switched on by their name alone, or by any option below it.

  --config FILE  a YAML or TOML file with options
"""

AGENT_USAGE = """\
usage: swarmgate agent [OPTIONS]

Tells how much of this node's processors, memory, network and disks is in use, and how much of them by each container
of a Swarm's task: at /usage to gates, at /metrics to Prometheus. It is made to run on every node, as a global service
with the label swarmgate.agent=true; gates that share a network with it find it by that.
"""

_COMMANDS = ("run", "check", "healthcheck", "certs", "why", "lint", "agent", "demo", "version", "help")

_log = Logger("swarmgate")


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    :param argv: its words without the program's name; None means the process's own.
    :return: the exit status: 0; 1 where something failed; 2 for a command or configuration that can't be understood,
        with a line on standard error for each thing that is wrong.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    command = words.pop(0) if words and not words[0].startswith("-") else "run"
    if command == "agent":
        return _agent(words)
    if command == "help" or (command in _COMMANDS and wants_help(words)):
        print(f"{USAGE}\n{help_text()}", end="")
        return 0
    if command == "version" or words == ["--version"]:
        print(f"swarmgate {__version__}{'' if is_compiled() else ', not compiled'}")
        return 0
    if command not in _COMMANDS:
        nearest = nearest_of(command, _COMMANDS)
        hint = f"; did you mean {nearest}?" if nearest else ""
        expected = f"{', '.join(_COMMANDS[:-1])} or {_COMMANDS[-1]}"
        print(f'swarmgate: "{command}" is no command: expected {expected}{hint}', file=sys.stderr)
        return 2
    if command == "demo":
        return _demo()
    if command in ("why", "lint"):
        from swarmgate.why import command as why  # The other commands start sooner without it.

        return why.why(words) if command == "why" else why.lint(words)
    given: list[str] = []
    while command == "certs" and words and not words[0].startswith("-"):
        given.append(words.pop(0))
    in_container = None
    if command in ("healthcheck", "certs") and not words:
        first = _command_line_of_first_process()
        agent = options_of(first, "agent")
        if command == "healthcheck" and agent is not None:
            return _healthcheck_of_agent(agent)
        in_container = options_of_gate(first)
        words = in_container or []
    configuration = load_or_complain(words, os.environ)
    if configuration is None:
        return 2
    if command == "check":
        return _check(configuration)
    if command == "certs":
        return _certs(configuration, given)
    if command == "healthcheck":
        return _healthcheck(configuration, in_container is not None)
    return _run(configuration, words)


def _command_line_of_first_process() -> list[str]:
    try:
        return Path("/proc/1/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return []


def options_of_gate(words: Sequence[str]) -> list[str] | None:
    """The options in a gate's command line, None if it is no gate's.

    In a container the gate is the first process, so that a health check of the image finds out what to ask.
    """
    options = options_of(words, "run")
    if options is None:
        options = options_of(words)
    return None if options and options[0] in _COMMANDS else options


def options_of(words: Sequence[str], *command: str) -> list[str] | None:
    """The options in a command line of swarmgate with this *command*, None if it is another."""
    for place, word in enumerate(words):
        if word.rpartition("/")[2] == "swarmgate":
            options = [word for word in words[place + 1 :] if word]
            return options[len(command) :] if options[: len(command)] == list(command) else None
    return None


def wants_help(words: Sequence[str]) -> bool:
    """Do these options ask for help?"""
    return any(word in ("--help", "-help", "-h") for word in words)


def load_or_complain(argv: Sequence[str], environ: Mapping[str, str]) -> StaticConfiguration | None:
    """The configuration; None, and a line on standard error for each thing that is wrong, if there is none."""
    try:
        return load(argv, environ)
    except ConfigurationError as error:
        for fault in error.faults:
            print(f"swarmgate: {fault}", file=sys.stderr)
        return None


def start_reactor() -> Any:
    """The reactor that the gate runs on, installed if none is; a slow one is warned of."""
    from swarmgate.transport.reactor import install_reactor  # A health check starts in a fraction of the time without.

    name = install_reactor()
    from twisted.internet import reactor  # Not before: importing it installs one.

    if name == "asyncio":
        _log.warn("uvloop is not installed: connections use Twisted's own transports, which are several times slower")
    elif name != "uvloop":
        _log.warn("The reactor is {name} and not uvloop's: connections are several times slower", name=name)
    return reactor


def _run(configuration: StaticConfiguration, words: Sequence[str]) -> int:
    reactor = start_reactor()
    from swarmgate import service  # Not before: what it imports may import the reactor.

    if _complain(service.fault_of(configuration)):
        return 2
    return service.run(configuration, reactor, read=lambda: load(words, os.environ))


def load_agent_or_complain(words: Sequence[str], environ: Mapping[str, str]) -> AgentConfiguration | None:
    """The configuration of an agent; None, and a line for each thing that is wrong, if there is none."""
    try:
        return load_agent(words, environ)
    except ConfigurationError as error:
        for fault in error.faults:
            print(f"swarmgate agent: {fault}", file=sys.stderr)
        return None


def _agent(words: Sequence[str]) -> int:
    if wants_help(words):
        print(f"{AGENT_USAGE}\n{help_text(AgentConfiguration)}", end="")
        return 0
    configuration = load_agent_or_complain(words, os.environ)
    if configuration is None:
        return 2
    # Twisted's own reactor: the agent has few clients, and is to take little memory.
    from twisted.internet import reactor

    try:
        from swarmgate.agent import run
    except ModuleNotFoundError as error:
        if error.name != "psutil":
            raise
        print(
            "swarmgate agent: psutil is not installed, by which it looks at its node: pip install psutil",
            file=sys.stderr,
        )
        return 1

    return run.run(configuration, reactor)


def _healthcheck_of_agent(words: Sequence[str]) -> int:
    configuration = load_agent_or_complain(words, os.environ)
    if configuration is None:
        return 2
    return tell(url_of(configuration.agent.address))


def _demo() -> int:
    reactor = start_reactor()
    from swarmgate import demo  # Not before: what it imports may import the reactor.

    return demo.run(reactor)


def _complain(fault: str) -> bool:
    if fault:
        print(f"swarmgate: {fault}", file=sys.stderr)
    return bool(fault)


def _check(configuration: StaticConfiguration) -> int:
    from swarmgate import service  # The other commands start sooner without it.

    if _complain(service.fault_of(configuration)):
        return 2
    problems, broken = service.file_problems(configuration)
    if broken:
        for problem in problems:
            _complain(problem)
        return 2
    for notice in (*configuration.notices, *problems):
        print(notice)
    names = ", ".join(f"{name} ({one.address})" for name, one in configuration.entry_points.items())
    print(f"configuration is valid: entry points {names}")
    return 0


def _certs(configuration: StaticConfiguration, words: Sequence[str]) -> int:
    from twisted.internet import task

    from swarmgate import service  # The other commands start sooner without these.
    from swarmgate.acme import command

    try:
        command.check(words)
    except command.CommandError as error:
        _complain(str(error))
        print(command.USAGE, end="", file=sys.stderr)
        return 2

    async def carry_out(reactor: Any) -> None:
        try:
            await command.run(reactor, words, configuration, service.endpoint_of(configuration), print)
        except command.CommandError as error:
            _complain(str(error))
            raise SystemExit(1) from None
        raise SystemExit(0)

    task.react(carry_out)


# ---- health check


def _healthcheck(configuration: StaticConfiguration, in_container: bool) -> int:
    url = ping_url(configuration)
    if not url and not in_container:
        print("swarmgate: healthcheck: ping is off: expected --ping among the options", file=sys.stderr)
        return 1
    return tell(url or NO_PING)
