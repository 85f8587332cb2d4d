"""``twistd swarmgate``: the same gate with the same options, run by twistd."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from swarmgate.cli import load_or_complain, start_reactor, wants_help
from swarmgate.config.load import load
from swarmgate.config.model import StaticConfiguration
from swarmgate.config.reference import help_text


class Options(usage.Options):
    """Takes what ``swarmgate run`` takes, from the command line, the environment and a file.

    twistd makes this when it meets its ``swarmgate`` command, and needs a reactor only after that: here is the last
    moment at which one can be chosen, and ``twistd --reactor`` has made its own choice before.
    """

    configuration: StaticConfiguration
    words: list[str]
    reactor: Any

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Load the configuration and install the reactor.

        :raises SystemExit: 2 for a configuration that can't be understood, 0 after having given help.
        """
        words = list(options or ())
        if wants_help(words):
            print(f"usage: twistd [twistd's options] swarmgate [OPTIONS]\n\n{help_text()}", end="")  # noqa: T201
            raise SystemExit(0)
        configuration = load_or_complain(words, os.environ)
        if configuration is None:
            raise SystemExit(2)
        self.configuration = configuration
        self.words = words
        self.reactor = start_reactor()


def makeService(options: Options) -> IService:
    """The gate as a service of twistd's."""
    from swarmgate.service import make_service  # Not before: what it imports may import the reactor.

    words = options.words
    return make_service(options.configuration, options.reactor, read=lambda: load(words, os.environ))
