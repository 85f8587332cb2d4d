"""The static configuration: what the process is started with, as frozen values.

Names, structure and defaults are Traefik's; where a default differs, or an option is swarmgate's own, its
documentation says so. ``swarmgate --help`` and the reference page are made from this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from swarmgate.config.acme import CertificatesResolver
from swarmgate.dynamic.observability import Observability
from swarmgate.dynamic.tls import RouterTLS
from swarmgate.structure import (
    Address,
    Duration,
    IPNetwork,
    StatusRange,
    at_least,
    between,
    not_yet,
    option,
    refused,
)


def _tcp(instance: object, attribute: object, address: Address) -> None:
    if address.protocol != "tcp":
        raise ValueError("an address for TCP: there are no UDP entry points in swarmgate yet")


# ---- entry points


@attrs.frozen
class RespondingTimeouts:
    """Deadlines of an entry point's connections, in seconds; 0 means none."""

    read_timeout: Duration = option(
        default=Duration(0),
        doc="Longest time from a request's head to the end of its body, however steadily it comes; 0: no limit but "
        "bodyProgressTimeout. Traefik's default is 60s, which cuts long uploads.",
    )
    write_timeout: Duration = option(
        default=Duration(0), doc="Longest time for writing an answer, from its head to its end; 0: no limit."
    )
    idle_timeout: Duration = option(
        default=Duration(180), doc="How long a kept-alive connection may wait for its next request; 0: no limit."
    )
    head_timeout: Duration = option(
        default=Duration(10),
        doc="Longest time for a request's head, from its first byte on, however steadily it trickles; 0: no limit. "
        "swarmgate's own.",
    )


@attrs.frozen
class LifeCycle:
    """What an entry point does at the end of the process, in seconds."""

    request_accept_grace_timeout: Duration = option(
        default=Duration(0),
        doc="How long requests are still accepted after SIGTERM, while ping already says that the end is near.",
    )
    grace_time_out: Duration = option(
        default=Duration(10), doc="How long requests under way are then given to finish.", key="graceTimeOut"
    )


@attrs.frozen
class Transport:
    """How an entry point treats its connections."""

    responding_timeouts: RespondingTimeouts = option(factory=RespondingTimeouts, doc="Deadlines.")
    life_cycle: LifeCycle = option(factory=LifeCycle, doc="The end of the process.")
    keep_alive_max_time: Duration = option(
        default=Duration(0), doc="Age after which a connection is closed with its next answer; 0: no limit."
    )
    keep_alive_max_requests: int = option(
        default=0, doc="Requests after which a connection is closed; 0: no limit.", validator=at_least(0)
    )


@not_yet("connection", "addXForwardedSchemeHeaders")
@attrs.frozen
class ForwardedHeaders:
    """Whose X-Forwarded-* headers are believed."""

    insecure: bool = option(default=False, doc="Believe the X-Forwarded-* headers of everybody.")
    trusted_ips: tuple[IPNetwork, ...] = option(
        default=(), doc="Addresses and networks whose X-Forwarded-* headers are believed.", key="trustedIPs"
    )
    not_append_x_forwarded_for: bool = option(
        default=False, doc="Do not append the client's address to X-Forwarded-For."
    )


@attrs.frozen
class EncodedCharacters:
    """Which percent-encoded characters a path may have; one that it may not have is answered with 400."""

    allow_encoded_slash: bool = option(default=False, doc="Allow %2F in paths. Traefik's default is true.")
    allow_encoded_back_slash: bool = option(default=False, doc="Allow %5C in paths. Traefik's default is true.")
    allow_encoded_null_character: bool = option(default=False, doc="Allow %00 in paths. Traefik's default is true.")
    allow_encoded_semicolon: bool = option(default=True, doc="Allow %3B in paths.")
    allow_encoded_percent: bool = option(default=True, doc="Allow %25 in paths.")
    allow_encoded_question_mark: bool = option(default=True, doc="Allow %3F in paths.")
    allow_encoded_hash: bool = option(default=True, doc="Allow %23 in paths.")


_HIGHEST_PRIORITY = 2**63 - 1


def _priority(instance: object, attribute: object, value: int) -> None:
    if not 0 < value <= _HIGHEST_PRIORITY:
        raise ValueError(f"a number from 1 to {_HIGHEST_PRIORITY}")


@attrs.frozen
class EntryPointRedirection:
    """Requests are sent on to another entry point, by a redirection."""

    to: str = option(doc="The entry point that they are sent to, or a port such as ``:443``.")
    scheme: str = option(default="https", doc="The scheme there.")
    permanent: bool = option(default=True, doc="Answer 301 or 308, which clients remember, not 302 or 307.")
    priority: int = option(
        default=_HIGHEST_PRIORITY - 1, doc="The priority of the router that does it.", validator=_priority
    )


@attrs.frozen
class Redirections:
    """Redirections of all requests of an entry point."""

    entry_point: EntryPointRedirection | None = option(default=None, doc="To another entry point.")


@not_yet("encodeQuerySemicolons")
@attrs.frozen
class EntryPointHTTP:
    """What holds for all HTTP requests of an entry point."""

    redirections: Redirections = option(factory=Redirections, doc="Where all requests are sent.")
    tls: RouterTLS | None = option(default=None, doc="TLS for all routers on it that have none of their own.")

    middlewares: tuple[str, ...] = option(
        default=(), doc="Middlewares, as name@provider, that come before those of each router."
    )
    encoded_characters: EncodedCharacters = option(factory=EncodedCharacters, doc="Percent-encoded characters.")
    sanitize_path: bool = option(
        default=True, doc="Resolve ``.``, ``..`` and ``//`` in paths before routing and forwarding."
    )
    max_header_bytes: int = option(
        default=32768,
        doc="Most bytes of a request's head; more are answered with 431. Traefik's default is 1048576.",
        validator=at_least(1024),
    )
    max_request_line_bytes: int = option(
        default=8192,
        doc="Most bytes of a request line; more are answered with 414. swarmgate's own.",
        validator=at_least(256),
    )
    max_header_fields: int = option(
        default=100,
        doc="Most header fields of a request; more are answered with 431. swarmgate's own.",
        validator=at_least(1),
    )
    underscore_headers_strategy: Literal["keep", "delete", "reject"] = option(
        default="keep", doc="What becomes of header fields with an underscore in their name; reject answers 400."
    )


@attrs.frozen
class HTTP2:
    """What holds for clients that speak HTTP/2."""

    max_concurrent_streams: int = option(
        default=250, doc="Most requests that a connection may have under way.", validator=at_least(1)
    )
    max_decoder_header_table_size: int = option(
        default=4096, doc="Bytes of the table that clients' header fields are compressed with.", validator=at_least(0)
    )
    max_encoder_header_table_size: int = option(
        default=4096,
        doc="Most bytes of the table that answers' header fields are compressed with.",
        validator=at_least(0),
    )
    websockets: bool = option(
        default=False, doc="Serve websockets over HTTP/2, by extended CONNECT (RFC 8441). swarmgate's own."
    )


@attrs.frozen
class InFlightConn:
    """How many connections clients of one address may have on an entry point; swarmgate's own."""

    amount: int = option(
        default=0, doc="Connections of one address; one more is closed. 0: no limit.", validator=at_least(0)
    )
    ipv6_subnet: int = option(
        default=64,
        key="ipv6Subnet",
        doc="IPv6 addresses whose first bits, so many, are the same are one.",
        validator=between(1, 128),
    )


@attrs.frozen
class ProxyProtocol:
    """Whose PROXY headers are believed: they come before all else of a connection, and say who its client is."""

    insecure: bool = option(default=False, doc="Believe the PROXY headers of everybody.")
    trusted_ips: tuple[IPNetwork, ...] = option(
        default=(),
        doc="Addresses and networks whose PROXY headers are believed; those of others are taken off and ignored.",
        key="trustedIPs",
    )

    def __attrs_post_init__(self) -> None:
        if not self.insecure and not self.trusted_ips:
            raise ValueError("expected trustedIPs, or insecure=true: else no PROXY header would be believed")


@not_yet("http3", "udp", "allowACMEByPass")
@attrs.frozen
class EntryPoint:
    """A listening address, with its own limits and deadlines."""

    address: Address = option(doc="Where to listen: ``[host]:port``.", validator=_tcp)
    as_default: bool = option(
        default=False, doc="If any entry point has it, routers that name none are served by those that have it only."
    )
    reuse_port: bool = option(default=False, doc="Let several processes listen on one port (SO_REUSEPORT).")
    transport: Transport = option(factory=Transport, doc="Connections.")
    proxy_protocol: ProxyProtocol | None = option(
        default=None, doc="The PROXY protocol, versions 1 and 2, of load balancers before the gate."
    )
    forwarded_headers: ForwardedHeaders = option(factory=ForwardedHeaders, doc="X-Forwarded-* headers.")
    http: EntryPointHTTP = option(factory=EntryPointHTTP, doc="Requests.")
    http2: HTTP2 = option(factory=HTTP2, doc="HTTP/2.")
    observability: Observability = option(
        factory=Observability, doc="What is told of requests, unless their routers say otherwise."
    )
    in_flight_conn: InFlightConn = option(
        factory=InFlightConn,
        doc="Connections of one address. Those of ``forwardedHeaders.trustedIPs`` and ``proxyProtocol.trustedIPs`` are "
        "not limited. swarmgate's own.",
    )


# ---- connections to servers


@attrs.frozen
class ForwardingTimeouts:
    """Deadlines of connections to servers, in seconds; 0 means none."""

    dial_timeout: Duration = option(
        default=Duration(3), doc="Longest time for connecting to a server. Traefik's default is 30s."
    )
    response_header_timeout: Duration = option(
        default=Duration(60),
        doc="Longest wait for an answer's head, once the request is sent; 0: no limit. Traefik's default is 0.",
    )
    idle_conn_timeout: Duration = option(
        default=Duration(90), doc="How long an unused connection to a server is kept; 0: no limit."
    )
    silence_timeout: Duration = option(
        default=Duration(1),
        doc="A server that has said nothing for so long is asked whether it is there (``OPTIONS *``); 0: never. "
        "swarmgate's own.",
    )
    body_progress_timeout: Duration = option(
        default=Duration(60),
        doc="Longest pause in a body, in either direction; 0: no limit. swarmgate's own.",
    )


@not_yet("spiffe")
@attrs.frozen
class ServersTransport:
    """How servers are reached."""

    insecure_skip_verify: bool = option(default=False, doc="Do not verify the certificates of servers.")
    root_cas: tuple[str, ...] = option(
        default=(),
        key="rootCAs",
        doc="Authorities of the certificates of servers: files, or their text (PEM); none: the system's.",
    )

    max_idle_conns_per_host: int = option(
        default=200, doc="Unused connections that are kept for each server; negative: none are kept, 0: 2, as in Go."
    )
    forwarding_timeouts: ForwardingTimeouts = option(factory=ForwardingTimeouts, doc="Deadlines.")


# ---- providers


_OF_V2 = "an option of Traefik v2's that v3 and swarmgate do not have"


@refused({"caOptional": _OF_V2})
@attrs.frozen
class ClientTLS:
    """Certificates for talking to the Docker API."""

    ca: str = option(default="", doc="File with the authority's certificate.")
    cert: str = option(default="", doc="File with the client's certificate.")
    key: str = option(default="", doc="File with the client's key.")
    insecure_skip_verify: bool = option(default=False, doc="Do not verify the certificate of the Docker API.")

    def __attrs_post_init__(self) -> None:
        if bool(self.cert) != bool(self.key):
            raise ValueError("cert and key go together: one is given without the other")


def _endpoint(text: str) -> str:
    if not re.fullmatch(r"(unix:///|(tcp|https?|ssh)://[^/])\S*", text):
        raise ValueError("a Docker API such as unix:///var/run/docker.sock, tcp://host:2375 or ssh://user@host")
    return text


@not_yet("username", "password")
@attrs.frozen
class SwarmProvider:
    """Routes from the labels of a Swarm's services."""

    endpoint: str = option(
        default="unix:///var/run/docker.sock",
        doc="The Docker API of a manager: ``unix:``, ``tcp:`` or ``ssh:``. DOCKER_HOST is used where it isn't given.",
        parse=_endpoint,
    )
    tls: ClientTLS | None = option(default=None, doc="Talk TLS with a ``tcp:`` endpoint.")
    http_client_timeout: Duration = option(
        default=Duration(20), doc="Longest time for a call of the Docker API; 0: no limit. Traefik's default is 0."
    )
    watch: bool = option(default=True, doc="Follow changes; false: look once.")
    refresh_seconds: Duration = option(
        default=Duration(1), doc="How often tasks are looked at. Traefik's default is 15s.", validator=at_least(0.1)
    )
    exposed_by_default: bool = option(default=True, doc="Route services without an ``enable`` label, too.")
    network: str = option(default="", doc="The network on which tasks are reached, where no label names another.")
    default_rule: str = option(
        default="Host(`{{ normalize .Name }}`)", doc="The rule of routers that have none: a template of Traefik's."
    )
    constraints: str = option(
        default="", doc="Which services are looked at, as ``Label(`stage`,`prod`) && !LabelRegex(`team`,`^x`)``."
    )
    allow_empty_services: bool = option(
        default=True,
        doc="Taken, without effect: a service without running tasks keeps its routers and answers 503.",
    )
    use_bind_port_ip: bool = option(
        default=False,
        doc="Taken, without effect: tasks are reached by their networks.",
        key="useBindPortIP",
    )
    label_prefixes: tuple[str, ...] = option(
        default=("swarmgate", "traefik"),
        doc="What labels begin with; where both say something, the earlier wins. swarmgate's own.",
    )

    def __attrs_post_init__(self) -> None:
        if not self.label_prefixes:
            raise ValueError("labelPrefixes is empty: expected at least one, as swarmgate or traefik")


@not_yet("debugLogGeneratedTemplate")
@attrs.frozen
class FileProvider:
    """Routes from files."""

    filename: str = option(default="", doc="A file with dynamic configuration.")
    directory: str = option(default="", doc="A folder of such files; subfolders count.")
    watch: bool = option(default=True, doc="Follow changes of the files.")

    def __attrs_post_init__(self) -> None:
        if bool(self.filename) == bool(self.directory):
            raise ValueError("expected either filename or directory")


@not_yet(
    "consul",
    "consulCatalog",
    "ecs",
    "etcd",
    "http",
    "knative",
    "kubernetesCRD",
    "kubernetesGateway",
    "kubernetesIngress",
    "kubernetesIngressNGINX",
    "nomad",
    "plugin",
    "precedence",
    "redis",
    "rest",
    "zooKeeper",
)
@refused({"marathon": _OF_V2, "rancher": _OF_V2})
@attrs.frozen
class Providers:
    """Where dynamic configuration comes from."""

    swarm: SwarmProvider | None = option(
        default=None,
        doc="Route a Swarm's services. ``providers.docker.*`` with ``providers.docker.swarmMode`` is the same.",
    )
    file: FileProvider | None = option(default=None, doc="Route what files say.")
    providers_throttle_duration: Duration = option(
        default=Duration(0),
        doc="Taken, without effect: changes that come together are one new routing table anyway. Traefik's default is "
        "2s.",
    )


# ---- what it tells


@attrs.frozen
class Ping:
    """A resource for health checks."""

    entry_point: str = option(default="traefik", doc="The entry point that answers /ping.")
    manual_routing: bool = option(
        default=False, doc="No router of its own: only routers with the service ping@internal lead to it."
    )
    terminating_status_code: int = option(
        default=503, doc="The answer's status after SIGTERM.", validator=between(200, 599)
    )


@attrs.frozen
class AccessLogFilters:
    """Which requests are logged: those that any filter lets pass; without filters, all."""

    status_codes: tuple[StatusRange, ...] = option(default=(), doc="Log requests answered so, as ``404,500-599``.")
    retry_attempts: bool = option(default=False, doc="Log requests that were sent to more than one server.")
    min_duration: Duration = option(default=Duration(0), doc="Log requests that take at least this long.")


@attrs.frozen
class AccessLogHeaders:
    """Which headers are logged."""

    default_mode: Literal["keep", "drop", "redact"] = option(default="drop", doc="What becomes of headers not named.")
    names: Mapping[str, Literal["keep", "drop", "redact"]] = option(
        factory=dict, doc="What becomes of this header; redact logs REDACTED in place of its value."
    )


@attrs.frozen
class AccessLogQuery:
    """Whether queries are logged."""

    default_mode: Literal["keep", "drop"] = option(default="keep", doc="drop leaves the query out of the path.")


@attrs.frozen
class AccessLogFields:
    """Which fields are logged."""

    default_mode: Literal["keep", "drop"] = option(default="keep", doc="What becomes of fields not named.")
    names: Mapping[str, Literal["keep", "drop"]] = option(
        factory=dict, doc="What becomes of this field, as ``ClientUsername``."
    )
    headers: AccessLogHeaders = option(factory=AccessLogHeaders, doc="Headers.")
    query_parameters: AccessLogQuery = option(factory=AccessLogQuery, doc="Queries.")


@not_yet("otlp", "dualOutput")
@attrs.frozen
class AccessLog:
    """A line for each request."""

    file_path: str = option(default="", doc="Where to; empty: standard output. SIGUSR1 opens the file anew.")
    format: Literal["common", "genericCLF", "json"] = option(default="common", doc="The form of its lines.")
    buffering_size: int = option(
        default=0, doc="Taken, without effect: lines are always written in the background.", validator=at_least(0)
    )
    filters: AccessLogFilters = option(factory=AccessLogFilters, doc="Which requests.")
    fields: AccessLogFields = option(factory=AccessLogFields, doc="Which fields.")
    add_internals: bool = option(default=False, doc="Log requests for ping, too.")


@not_yet("maxSize", "maxAge", "maxBackups", "compress", "otlp")
@attrs.frozen
class Log:
    """What the process says of itself."""

    level: Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "PANIC"] = option(
        default="INFO", doc="The least important that is logged. Traefik's default is ERROR."
    )
    format: Literal["common", "json"] = option(default="common", doc="The form of its lines.")
    file_path: str = option(default="", doc="Where to; empty: standard output.")
    no_color: bool = option(default=False, doc="Taken, without effect: lines have no colors anyway.")


@attrs.frozen
class CollectorTLS:
    """Certificates for talking to a collector of traces."""

    ca: str = option(default="", doc="File with the authority's certificate.")
    cert: str = option(default="", doc="File with the client's certificate.")
    key: str = option(default="", doc="File with the client's key.")
    insecure_skip_verify: bool = option(default=False, doc="Do not verify the collector's certificate.")

    def __attrs_post_init__(self) -> None:
        if bool(self.cert) != bool(self.key):
            raise ValueError("cert and key go together: one is given without the other")


def _url(text: str) -> str:
    if re.fullmatch(r"https?://[^/\s]+(/\S*)?", text) is None:
        raise ValueError("a URL, as http://collector:4318/v1/traces")
    return text


@attrs.frozen
class OtlpHttp:
    """A collector that is spoken to over HTTP."""

    endpoint: str = option(
        default="https://localhost:4318",
        doc="Its URL; without a path, ``/v1/traces`` is meant.",
        parse=_url,
    )
    headers: Mapping[str, str] = option(factory=dict, doc="A header that is sent to it.", secret=True)
    tls: CollectorTLS | None = option(default=None, doc="How its certificate is checked, and which it is shown.")


def _host_and_port(text: str) -> str:
    if re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", text) is None:
        raise ValueError("a host and a port, as collector:4317")
    return text


@attrs.frozen
class OtlpGrpc:
    """A collector that is spoken to over gRPC."""

    endpoint: str = option(default="localhost:4317", doc="Its host and port.", parse=_host_and_port)
    insecure: bool = option(default=False, doc="Speak to it without TLS.")
    headers: Mapping[str, str] = option(factory=dict, doc="A header that is sent to it.", secret=True)
    tls: CollectorTLS | None = option(default=None, doc="How its certificate is checked, and which it is shown.")

    def __attrs_post_init__(self) -> None:
        if self.tls is not None and self.tls.insecure_skip_verify:
            raise ValueError(
                "tls.insecureSkipVerify is there for http only, since gRPC's library always verifies: name the"
                " certificate's authority in tls.ca, or use insecure=true for a collector without TLS"
            )


@attrs.frozen
class TracingOtlp:
    """The collector of traces."""

    http: OtlpHttp = option(factory=OtlpHttp, doc="A collector that is spoken to over HTTP.")
    grpc: OtlpGrpc | None = option(
        default=None, doc="A collector that is spoken to over gRPC, in place of HTTP; needs the extra ``grpc``."
    )


_BY_OTLP = "an option of Traefik v2's: traces are sent by OTLP, tracing.otlp"


@refused(dict.fromkeys(("datadog", "elastic", "haystack", "instana", "jaeger", "zipkin"), _BY_OTLP))
@not_yet("globalAttributes")
@attrs.frozen
class Tracing:
    """Traces of requests."""

    service_name: str = option(
        default="swarmgate", doc="What the gate is called in traces. Traefik's default is traefik."
    )
    resource_attributes: Mapping[str, str] = option(factory=dict, doc="What is said of the gate beside that.")
    sample_rate: float = option(
        default=1.0,
        doc="The share of requests that are traced, where the client has not decided it.",
        validator=between(0, 1),
    )
    captured_request_headers: tuple[str, ...] = option(default=(), doc="Headers of requests that are recorded.")
    captured_response_headers: tuple[str, ...] = option(default=(), doc="Headers of answers that are recorded.")
    safe_query_params: tuple[str, ...] = option(
        default=(), doc="Parameters of queries whose values are recorded; of others REDACTED is."
    )
    add_internals: bool = option(default=False, doc="Trace requests for ping and the API, too.")
    otlp: TracingOtlp = option(factory=TracingOtlp, doc="Where traces are sent to, by OTLP.")


@attrs.frozen
class AuditLog:
    """Who has changed the Swarm by the API, and what has come of it: a line of JSON each."""

    file_path: str = option(default="", doc="Where to; empty: the process's own log. swarmgate's own.")


def _base_path(text: str) -> str:
    if text not in ("", "/"):
        raise ValueError("/, since swarmgate has its API at /api and its dashboard at /dashboard only, as yet")
    return "/"


@attrs.frozen
class API:
    """The API, for routers that lead to api@internal."""

    insecure: bool = option(
        default=False, doc="Answer /api to everybody on the entry point traefik, by default on port 8080."
    )
    operations: bool = option(
        default=False,
        doc="Change the Swarm by the API: scale, restart, roll back, drain, activate. Only routers with an "
        "authenticating middleware let it. swarmgate's own.",
    )
    logs: bool = option(
        default=False, doc="Show what services log, which may hold secrets, by the API. swarmgate's own."
    )
    audit_log: AuditLog = option(factory=AuditLog, doc="Who has changed the Swarm by the API. swarmgate's own.")
    dashboard: bool = option(
        default=True, doc="Answer /dashboard where /api is, with a page; dashboard@internal is that page alone."
    )
    replicas: bool = option(
        default=True,
        doc="In a Swarm, ask the gate's other replicas, and answer them alone, so that each tells of the whole gate. "
        "swarmgate's own.",
    )
    replicas_port: int = option(
        default=9182,
        doc="Where they are asked, at the tasks' own addresses in a network that they share. swarmgate's own.",
        validator=between(1, 65535),
    )
    debug: bool = option(default=False, doc="Taken, without effect: there is nothing at /debug.")
    disable_dashboard_ad: bool = option(default=False, doc="Taken, without effect: the dashboard advertises nothing.")
    base_path: str = option(
        default="/", doc="Taken, if it is ``/``: API and dashboard have no other place yet.", parse=_base_path
    )
    dashboard_name: str = option(default="", doc="Taken, without effect: the dashboard is called swarmgate.")


def _ascending(instance: Any, attribute: Any, value: tuple[float, ...]) -> None:
    if not value or any(bound <= 0 for bound in value) or list(value) != sorted(set(value)):
        raise ValueError("numbers of seconds above 0, each greater than the one before, as 0.1,0.3,1.2,5")


@not_yet("headerLabels")
@attrs.frozen
class PrometheusMetrics:
    """Metrics for Prometheus."""

    buckets: tuple[float, ...] = option(
        default=(0.1, 0.3, 1.2, 5.0), doc="Upper bounds of the durations' buckets, in seconds.", validator=_ascending
    )
    add_entry_points_labels: bool = option(default=True, doc="Metrics of entry points.")
    add_routers_labels: bool = option(default=False, doc="Metrics of routers.")
    add_services_labels: bool = option(default=True, doc="Metrics of services and their servers.")
    entry_point: str = option(default="traefik", doc="The entry point that answers /metrics.")
    manual_routing: bool = option(
        default=False, doc="No router of its own: only routers with the service prometheus@internal lead to it."
    )
    prefix: Literal["traefik", "swarmgate"] = option(
        default="traefik", doc="What the metrics' names begin with. swarmgate's own."
    )


@refused({"influxDB": _OF_V2})
@not_yet("datadog", "influxDB2", "otlp", "statsD")
@attrs.frozen
class Metrics:
    """Numbers about what the gate does."""

    prometheus: PrometheusMetrics | None = option(default=None, doc="Metrics for Prometheus.")
    add_internals: bool = option(default=False, doc="Count requests for ping, the API and metrics, too.")


@attrs.frozen
class Agents:
    """What the gate has to do with agents, ``swarmgate agent``, which tell how much of their nodes is in use."""

    ask: bool = option(
        default=True,
        doc="Ask the agents that the Swarm has, services with the label swarmgate.agent, while somebody wants to know. "
        "swarmgate's own.",
    )
    token_file: str = option(
        default="",
        doc="A file with the text that agents want to be known, the same as theirs; they are shown that it is known, "
        "and not told it. swarmgate's own.",
    )


@attrs.frozen
class SessionTickets:
    """With session tickets TLS clients take up sessions where they left off."""

    key_file: str = option(
        default="",
        doc="A file with at least 32 random octets, best a Docker secret; processes and replicas that have the same "
        "take up each other's sessions. None: a process takes up its own alone. swarmgate's own.",
    )


@attrs.frozen
class OCSP:
    """Clients are shown what certificates' authorities say about them (OCSP stapling)."""

    responder_overrides: Mapping[str, str] = option(
        factory=dict, doc="URLs of responders to ask, by those that certificates name."
    )


@attrs.frozen
class Overload:
    """What the gate does when there is more to do than it can."""

    max_reactor_lag: Duration = option(
        default=Duration(0.5),
        doc="How late the gate may come to what is due; beyond that it refuses a growing share of new requests with "
        "503; 0: no limit. swarmgate's own.",
    )
    max_memory: int = option(
        default=0,
        doc="Bytes that a process, each worker, may take; beyond that new requests are refused with 503; 0: 85 % of "
        "what the container may take, if that is limited, shared among workers; negative: no limit. swarmgate's own.",
    )
    max_connections: int = option(
        default=0,
        doc="Most clients that are connected at once; more wait with the kernel; 0: as many as there are file "
        "descriptors for. swarmgate's own.",
        validator=at_least(0),
    )


@attrs.frozen
class Global:
    """What Traefik may tell its makers; swarmgate tells nobody anything."""

    check_new_version: bool = option(default=False, doc="Taken, without effect: swarmgate never asks.")
    send_anonymous_usage: bool = option(default=False, doc="Taken, without effect: swarmgate never tells.")


_DYNAMIC = "part of the dynamic configuration: it belongs in a file of providers.file, or in labels"


@refused({"http": _DYNAMIC, "tcp": _DYNAMIC, "udp": _DYNAMIC, "tls": _DYNAMIC})
@not_yet(
    "core",
    "experimental",
    "hostResolver",
    "pilot",
    "spiffe",
    "tcpServersTransport",
)
@attrs.frozen
class StaticConfiguration:
    """All that the process is started with.

    From :func:`swarmgate.config.load.load` it has at least one entry point, and the one that ping is on.
    """

    entry_points: Mapping[str, EntryPoint] = option(factory=dict, doc="Entry points by name.")
    workers: int = option(
        default=0,
        validator=at_least(0),
        doc="How many processes serve; 0: one for each core that the gate may use. With 1 the process itself does. "
        "swarmgate's own.",
    )
    providers: Providers = option(factory=Providers, doc="Providers.")
    servers_transport: ServersTransport = option(factory=ServersTransport, doc="Connections to servers.")
    certificates_resolvers: Mapping[str, CertificatesResolver] = option(
        factory=dict, doc="Where certificates come from, by name."
    )
    ping: Ping | None = option(default=None, doc="Answer /ping: 200 when routes are known, for health checks.")
    access_log: AccessLog | None = option(default=None, doc="Log each request.")
    tracing: Tracing | None = option(
        default=None, doc="Trace requests with OpenTelemetry; needs the extra ``tracing``."
    )
    metrics: Metrics | None = option(default=None, doc="Numbers about what the gate does.")
    log: Log = option(factory=Log, doc="The process's own log.")
    api: API | None = option(default=None, doc="The service api@internal, which tells what the gate knows.")
    agent: Agents = option(factory=Agents, doc="Agents on the nodes.")
    session_tickets: SessionTickets = option(factory=SessionTickets, doc="Sessions of TLS clients. swarmgate's own.")
    ocsp: OCSP | None = option(
        default=None, doc="Ask the responders that certificates name, and staple what they say to handshakes."
    )
    overload: Overload = option(factory=Overload, doc="More to do than can be done. swarmgate's own.")
    global_: Global = option(factory=Global, doc="Taken, without effect.", key="global")

    @property
    def notices(self) -> tuple[str, ...]:
        """What its author should know though it is no fault: a sentence each, without full stop."""
        notices = []
        if self.api is not None and self.api.insecure:
            notices.append("api.insecure: whoever reaches the entry point traefik can read all routes and tasks")
        for name, entry_point in self.entry_points.items():
            if entry_point.proxy_protocol is not None and entry_point.proxy_protocol.insecure:
                notices.append(
                    f"entryPoints.{name}.proxyProtocol.insecure: whoever reaches the entry point can claim any address"
                )
        if self.providers.swarm is None and self.providers.file is None:
            notices.append(
                "providers: there is none, so every request is answered with 404; "
                "--providers.swarm routes the services of a Swarm"
            )
        return tuple(notices)
