"""A configuration that is read again: what is in force at once, what needs a restart, and what is never lost."""

from __future__ import annotations

import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.config.load import load
from swarmgate.config.model import StaticConfiguration
from swarmgate.config.reload import LIVE, compare
from swarmgate.structure import describe

BASE = ("--entrypoints.web.address=:80", "--providers.swarm")


def configuration(*options: str) -> StaticConfiguration:
    return load((*BASE, *options), {})


class CompareTests(SynchronousTestCase):
    def test_live(self) -> None:
        """What can be in force at once is, and is told with its old and new value."""
        for option, told in (
            ("--log.level=DEBUG", "log.level: INFO -> DEBUG"),
            ("--accesslog", "accessLog: nothing -> given"),
            ("--entrypoints.web.asdefault", "entryPoints.web.asDefault: false -> true"),
            (
                "--entrypoints.web.forwardedheaders.trustedips=10.0.0.0/8,192.0.2.1",
                "entryPoints.web.forwardedHeaders.trustedIPs: nothing -> 10.0.0.0/8, 192.0.2.1/32",
            ),
            (
                "--entrypoints.web.transport.lifecycle.gracetimeout=1m",
                "entryPoints.web.transport.lifeCycle.graceTimeOut: 10s -> 1m",
            ),
            ("--providers.swarm.network=golf", "providers.swarm.network: nothing -> golf"),
            (
                "--serverstransport.forwardingtimeouts.dialtimeout=1s",
                "serversTransport.forwardingTimeouts.dialTimeout: 3s -> 1s",
            ),
        ):
            old, new = configuration(), configuration(option)
            difference = compare(old, new)
            self.assertEqual([(str(change), change.is_live) for change in difference.changes], [(told, True)])
            self.assertEqual(difference.configuration, new)

    def test_restart(self) -> None:
        """What can't be is told, and stays as it was, while the rest of the same configuration is taken."""
        for option, told in (
            ("--entrypoints.other.address=:81", "entryPoints.other: nothing -> given"),
            ("--entrypoints.web.reuseport", "entryPoints.web.reusePort: false -> true"),
            (
                "--providers.swarm.endpoint=tcp://a:1",
                "providers.swarm.endpoint: unix:///var/run/docker.sock -> tcp://a:1",
            ),
            ("--providers.file.filename=x.yml", "providers.file: nothing -> given"),
            ("--log.format=json", "log.format: common -> json"),
        ):
            old = configuration()
            difference = compare(old, configuration(option, "--log.level=WARN"))
            self.assertIn((told, False), [(str(change), change.is_live) for change in difference.changes])
            self.assertEqual(difference.configuration, configuration("--log.level=WARN"), option)

    def test_removed_entry_point(self) -> None:
        """An entry point that is gone from the configuration serves on until the restart."""
        old = configuration("--entrypoints.other.address=:81")
        difference = compare(old, configuration())
        self.assertEqual([str(change) for change in difference.changes], ["entryPoints.other: given -> nothing"])
        self.assertEqual(difference.configuration, old)

    def test_nothing(self) -> None:
        """Of an equal configuration nothing is told."""
        self.assertEqual(compare(configuration(), configuration()).changes, ())

    def test_keys_exist(self) -> None:
        """All that is said to be live is an option, or a group of them."""
        keys: list[Any] = [re.sub("<name>", "*", one.key) for one in describe(StaticConfiguration)]
        for live in LIVE:
            self.assertTrue(any(key == live or key.startswith(f"{live}.") for key in keys), live)
