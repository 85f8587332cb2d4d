"""The option ``redis`` of middlewares that count: where Redis is, and what is done without it."""

from __future__ import annotations

import attrs

from swarmgate.http.deadlines import Deadlines
from swarmgate.http.secure_network import SecureNetwork
from swarmgate.limits.interface import Buckets, Rate
from swarmgate.limits.redis import Redis, RedisBuckets, RedisSettings
from swarmgate.middlewares.client_tls import context_of
from swarmgate.middlewares.interface import Context
from swarmgate.structure import Duration, at_least, option


@attrs.frozen
class RedisTLS:
    """TLS to Redis."""

    ca: str = option(
        default="",
        doc="File with Redis' authority, or its text (PEM); the system's authorities if nothing is given.",
    )
    cert: str = option(default="", doc="File with a certificate to show to Redis.")
    key: str = option(default="", secret=True, doc="File with its key.")
    insecure_skip_verify: bool = option(default=False, doc="Do not verify Redis' certificate.")

    def __attrs_post_init__(self) -> None:
        if bool(self.cert) != bool(self.key):
            raise ValueError("cert and key go together: one is given without the other")


@attrs.frozen
class RedisOptions:
    """Redis, as Traefik's options have it; those of swarmgate's own say so."""

    endpoints: tuple[str, ...] = option(
        default=("localhost:6379",), doc="Redis' host and port; one, since a cluster of Redis is not supported."
    )
    username: str = option(default="", doc="The user to be authenticated as; Redis' default user if none is given.")
    password: str = option(default="", secret=True, doc="The user's password.")
    db: int = option(default=0, validator=at_least(0), doc="The number of the database.")
    tls: RedisTLS | None = option(default=None, doc="Speak TLS with Redis.")
    pool_size: int = option(
        default=0, validator=at_least(0), doc="Connections; 0: one, which takes any number of decisions at a time."
    )
    min_idle_conns: int = option(default=0, validator=at_least(0), doc="Connections at least.")
    max_active_conns: int = option(default=0, validator=at_least(0), doc="Connections at most; 0: no limit.")
    read_timeout: Duration = option(
        default=Duration(3), doc="With writeTimeout, how long an answer may take until the connection is made anew."
    )
    write_timeout: Duration = option(default=Duration(3), doc="See readTimeout.")
    dial_timeout: Duration = option(default=Duration(5), doc="How long connecting may take.")
    decision_timeout: Duration = option(
        default=Duration(0.01),
        doc="How long a request waits for Redis' decision at most; swarmgate's own option.",
    )
    deny_on_error: bool = option(
        default=False,
        doc="Answer 503 while Redis does not decide, instead of going by this gate's own buckets; swarmgate's own.",
    )

    def __attrs_post_init__(self) -> None:
        if len(self.endpoints) != 1:
            raise ValueError(
                f"endpoints: {len(self.endpoints)} are given, expected one; a cluster of Redis is not supported"
            )
        if not self.decision_timeout or not self.dial_timeout or not self.read_timeout + self.write_timeout:
            raise ValueError("a timeout of 0: expected a time, as 10ms; nothing waits for Redis for ever")


def redis_buckets(options: RedisOptions, name: str, rate: Rate, context: Context) -> RedisBuckets | Buckets:
    """The buckets of the limit called *name*, in the Redis of *options*; the gate's own where there is no network.

    :raises ValueError: the options can't be followed: files are missing, or no certificates.
    """
    host, port = _address(options.endpoints[0])
    tls = None if options.tls is None else context_of(options.tls, "redis.tls")
    local = context.limits.buckets(name, rate, context.clock)
    network = context.network
    if network is None:
        return local
    if tls is not None:
        network = SecureNetwork(network, tls, "", Deadlines(context.clock))
    connections = max(1, options.pool_size, options.min_idle_conns)
    settings = RedisSettings(
        host,
        port,
        options.username,
        options.password,
        options.db,
        min(connections, options.max_active_conns or connections),
        options.dial_timeout,
        options.read_timeout + options.write_timeout,
        options.decision_timeout,
    )
    redis = Redis(settings, network, context.clock, f"middleware {context.name}")
    return RedisBuckets(redis, name, rate, None if options.deny_on_error else local)


def _address(endpoint: str) -> tuple[str, int]:
    host, colon, port = endpoint.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536 or not host:
        raise ValueError(f"redis.endpoints: {endpoint!r}, expected a host and a port, as redis:6379")
    return host.removeprefix("[").removesuffix("]"), int(port)
