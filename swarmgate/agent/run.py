"""An agent as a process: composes what the other modules have, and runs it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.web.server import Request, Site

from swarmgate import __version__
from swarmgate.agent.containers import Engine
from swarmgate.agent.node import sample
from swarmgate.agent.server import AgentResource, Sampler, read_token
from swarmgate.config.agent import Agent, AgentConfiguration
from swarmgate.config.sources import unusable
from swarmgate.fetch import Fetch
from swarmgate.healthcheck import leave_note, url_of
from swarmgate.observe.logs import start_logging

_log = Logger("swarmgate")

_TOGETHER = 8  # Connections to the engine that are kept.
_IDLE = 70.0  # Seconds that clients may be silent for: longer than a scrape's interval.


class _Bodiless(Request):
    """A request that brings no body: whoever sends one is cut off, before anything of it is kept."""

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0)  # type: ignore[no-untyped-call]
        if length != 0:
            self.channel.forceAbortClient()


class _Quiet(Site):
    """A server that logs no requests."""

    noisy = False
    requestFactory = _Bodiless

    def log(self, request: Any) -> None:
        pass


def site_of(options: Agent, reactor: Any, token: bytes) -> Site:
    """What answers for the agent that *options* describe."""
    sys_folder = Path(options.sys) if Path(options.sys).is_dir() else Path("/sys")
    scheme, _, rest = options.endpoint.partition("://")
    fetch = Fetch(reactor, rest if scheme == "unix" else "", _TOGETHER)
    engine = Engine(fetch, "http://engine" if scheme == "unix" else f"http://{rest.rstrip('/')}")
    pool = reactor.getThreadPool()
    sampler = Sampler(
        lambda: deferToThreadPool(reactor, pool, sample, sys_folder, options.disk),
        engine.look,
        time.time,
        time.monotonic,
    )
    resource = AgentResource(sampler, options.node or os.uname().nodename, token, time.time)
    return _Quiet(resource, timeout=_IDLE)  # type: ignore[no-untyped-call]


def run(configuration: AgentConfiguration, reactor: Any) -> int:
    """Run an agent until SIGTERM or SIGINT.

    :returns: the exit status: 0, or 1 if it could not start.
    """
    options, log = configuration.agent, configuration.log
    key = "agent.tokenFile"
    try:
        token = read_token(options.token_file)
        key = "log.filePath"
        logging = start_logging(log.level, log.format, log.file_path)
    except OSError as error:
        print(f"swarmgate agent: {key}: {unusable(error)}", file=sys.stderr)  # noqa: T201
        return 1
    except ValueError as error:
        print(f"swarmgate agent: {key}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    # A node's files and an engine's answers are all that is waited for in threads.
    reactor.suggestThreadPoolSize(2)
    try:
        host, port = options.address.host, options.address.port
        listening = reactor.listenTCP(port, site_of(options, reactor, token), interface=host)
    except OSError as error:
        _log.critical("agent.address: {reason}", reason=str(error))
        logging.stop()
        return 1
    _log.info(
        "swarmgate {version}, an agent, process {pid}, listens on {host}:{port}{how}",
        version=__version__,
        pid=os.getpid(),
        host=host or "*",
        port=listening.getHost().port,
        how="" if token else " and answers whoever reaches it: agent.tokenFile is not set",
    )
    leave_note(url_of(options.address))
    reactor.run()
    logging.stop()
    return 0
