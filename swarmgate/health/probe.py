"""What a health check asks a server, and what its answer means. Pure."""

from __future__ import annotations

import attrs

from swarmgate.dynamic.model import HealthCheck

#: What the gate calls itself to the servers that it asks.
USER_AGENT = "swarmgate"


@attrs.frozen
class Probe:
    """One question to one server.

    :ivar scheme: ``http`` or ``https``; for ``grpc`` the connection's.
    :ivar host: the server's address, IPv6 without brackets.
    :ivar target: path and query.
    :ivar authority: what the Host field says.
    :ivar fields: more of the request's fields.
    :ivar timeout: seconds.
    """

    mode: str
    scheme: str
    host: str
    port: int
    method: str
    target: str
    authority: str
    fields: tuple[tuple[str, str], ...]
    follow_redirects: bool
    timeout: float

    @property
    def url(self) -> str:
        """Whom and what is asked."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.target}"


@attrs.frozen
class Outcome:
    """What has become of a probe.

    :ivar reason: why the server is not well, for people; ``""`` if it is.
    """

    is_well: bool
    reason: str = ""


def probe_of(check: HealthCheck, server_url: str) -> Probe:
    """What *check* asks the server at *server_url*, ``scheme://host:port``."""
    scheme, _, authority = server_url.partition("://")
    host, _, port = authority.rpartition(":")
    scheme = check.scheme or scheme
    return Probe(
        mode=check.mode,
        scheme="http" if scheme == "h2c" else scheme,
        host=host.strip("[]"),
        port=check.port or int(port),
        method=check.method,
        target=check.path,
        authority=check.hostname or (f"{host}:{check.port}" if check.port else authority),
        fields=check.headers,
        follow_redirects=check.follow_redirects,
        timeout=check.timeout,
    )


def outcome_of(check: HealthCheck, probe: Probe, status: int) -> Outcome:
    """What an answer of *status* means."""
    if status == check.status or (not check.status and 200 <= status < 400):
        return Outcome(True)
    expected = str(check.status or "200 to 399")
    return Outcome(False, f"{probe.method} {probe.url} was answered {status}, expected {expected}")


def outcome_of_grpc(probe: Probe, status: int, serving: int) -> Outcome:
    """What an answer of grpc.health.v1 means.

    :param status: of the call, 0 for OK.
    :param serving: of the server, 1 for SERVING.
    """
    if status == 0 and serving == 1:
        return Outcome(True)
    if status:
        return Outcome(False, f"grpc.health.v1 at {probe.host}:{probe.port} ended with status {status}, expected 0")
    told = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}.get(serving, str(serving))
    return Outcome(False, f"grpc.health.v1 at {probe.host}:{probe.port} says {told}, expected SERVING")


def outcome_of_failure(probe: Probe, error: Exception | None) -> Outcome:
    """What it means that there was no answer.

    :param error: what went wrong, None if the time was over.
    """
    what = probe.url if probe.mode == "http" else f"grpc.health.v1 at {probe.host}:{probe.port}"
    if error is None:
        return Outcome(False, f"{what}: no answer within {probe.timeout:g} s")
    return Outcome(False, f"{what}: {error or type(error).__name__}")
