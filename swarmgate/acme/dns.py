"""DNS-01: TXT records made and removed by dns-lexicon's providers, or by a program. It blocks: call it in threads."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Mapping
from threading import Event
from typing import Any, Protocol

import dns.exception
import dns.nameserver
import dns.resolver

_PROGRAM = "EXEC_PATH"
_PROGRAM_SECONDS = 120.0
_EVERY = 2.0  # Seconds between looks for a record.


class DNSError(Exception):
    """A record can't be made, or isn't seen; the message says where and why."""


class Records(Protocol):
    """Makes TXT records, and removes them."""

    def present(self, name: str, value: str) -> None:
        """Make a record, beside others of that name.

        :raises DNSError: it can't be made.
        """

    def clean_up(self, name: str, value: str) -> None:
        """Remove it.

        :raises DNSError: it can't be removed.
        """


def record_name(domain: str) -> str:
    """Where the authority looks for the record of *domain* (RFC 8555, section 8.4)."""
    return f"_acme-challenge.{domain.removeprefix('*.')}"


def records_of(provider: str, environ: Mapping[str, str]) -> Records:
    """The records of a provider (Traefik ``dnsChallenge.provider``), configured by *environ*.

    :raises DNSError: there is no such provider, or what it needs is not given.
    """
    if provider == "exec":
        program = environ.get(_PROGRAM, "")
        if not program:
            raise DNSError(f"dnsChallenge.provider exec: the environment variable {_PROGRAM} is not set")
        return ProgramRecords(program)
    return LexiconRecords(provider, environ)


class ProgramRecords:
    """Records made by a program: ``PROGRAM present NAME. VALUE`` and ``PROGRAM cleanup NAME. VALUE``."""

    def __init__(self, program: str, seconds: float = _PROGRAM_SECONDS) -> None:
        self._program = program
        self._seconds = seconds

    def present(self, name: str, value: str) -> None:
        """See :class:`Records`."""
        self._run("present", name, value)

    def clean_up(self, name: str, value: str) -> None:
        """See :class:`Records`."""
        self._run("cleanup", name, value)

    def _run(self, verb: str, name: str, value: str) -> None:
        try:
            done = subprocess.run(  # noqa: S603 - the program is the operator's own
                [self._program, verb, f"{name}.", value],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self._seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DNSError(f"{self._program} {verb}: not finished after {self._seconds:g} s") from None
        except OSError as error:
            raise DNSError(f"{self._program}: {error.strerror}") from error
        if done.returncode:
            last = "".join(done.stderr.decode(errors="replace").strip().splitlines()[-1:])
            raise DNSError(f"{self._program} {verb}: exit status {done.returncode}{last and ': '}{last}")


class LexiconRecords:
    """Records made by one of dns-lexicon's providers, configured by variables ``LEXICON_PROVIDER_OPTION``."""

    def __init__(self, provider: str, environ: Mapping[str, str]) -> None:
        # Imported here: it is slow to load, and needed by those alone who have a provider.
        from lexicon.config import ConfigResolver, ConfigSource

        class Environment(ConfigSource):
            def resolve(self, key: str) -> str | None:
                return environ.get(key.replace(":", "_").upper())

        self._provider = provider

        def make(given: dict[str, Any]) -> Any:
            return ConfigResolver().with_dict(given).with_config_source(Environment())

        self._make = make

    def present(self, name: str, value: str) -> None:
        """See :class:`Records`."""
        self._do(name, lambda operations: operations.create_record("TXT", f"{name}.", value))

    def clean_up(self, name: str, value: str) -> None:
        """See :class:`Records`."""
        self._do(name, lambda operations: operations.delete_record(rtype="TXT", name=f"{name}.", content=value))

    def _do(self, name: str, call: Callable[[Any], Any]) -> None:
        from lexicon.client import Client

        # The zone is asked for by DNS; else the package would fetch a list of public suffixes from the internet.
        zone = name.removeprefix("_acme-challenge.")
        given = {"provider_name": self._provider, "domain": zone, "resolve_zone_name": True}
        try:
            with Client(self._make(given)) as operations:
                call(operations)
        except Exception as error:  # The providers raise what they like.
            # Some have their token in the query of a URL that they tell of.
            told = re.sub(r"\?\S+", "?...", str(error)) or type(error).__name__
            raise DNSError(f"dnsChallenge.provider {self._provider}: {name}: {told}") from error


def wait_for_record(name: str, value: str, resolvers: tuple[str, ...], seconds: float, stop: Event) -> None:
    """Return when the TXT record is seen.

    :param resolvers: servers to ask, as ``1.1.1.1:53``; ``()``: those of the machine.
    :param stop: set to give up.
    :raises DNSError: it is not seen within *seconds*.
    """
    resolver = dns.resolver.Resolver(configure=not resolvers)
    resolver.cache = None
    if resolvers:
        resolver.nameservers = [dns.nameserver.Do53Nameserver(*_server(one)) for one in resolvers]
    deadline = time.monotonic() + seconds
    reason = "no such record"
    while True:
        try:
            answer = resolver.resolve(f"{name}.", "TXT", lifetime=10.0, search=False)
            if any(b"".join(one.strings) == value.encode() for one in answer):
                return
            reason = "other records alone"
        except dns.exception.DNSException as error:
            reason = type(error).__name__
        if time.monotonic() > deadline:
            raise DNSError(f"{name}: the TXT record is not seen after {seconds:g} s: {reason}")
        if stop.wait(_EVERY):
            raise DNSError(f"{name}: given up, as the gate stops")


def _server(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or (":" in host and not host.endswith("]")):
        host, port = text, "53"
    return host.strip("[]"), int(port)
