"""The proxies under comparison: how each is told to do the same work.

The work: take requests for ``app.example`` (and, to make it a choice, for nine other hosts) on one loopback port and
pass them to one backend over connections that are kept alive, with no limit on how many requests one connection may
carry; the same over TLS 1.2 and 1.3, with HTTP/2 and an ECDSA certificate on P-256, on a second port. Each runs as it
would in production: an access log that goes to a file, buffered where the proxy can do that, its metrics on, and
whatever it checks of requests by default.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import attrs

#: The host that is measured; the others are there to be told apart from it.
HOST = "app.example"
OTHERS = tuple(f"other{n}.example" for n in range(1, 10))
HOSTS = (HOST, *OTHERS)


@attrs.frozen
class Place:
    """Where one proxy runs: what its configuration has to know.

    :ivar folder: its own, temporary.
    :ivar port: the loopback port that it listens on, and :ivar tls_port: that for TLS.
    :ivar backend: the loopback port that it forwards to.
    :ivar metrics_port: the loopback port of its metrics.
    """

    folder: Path
    port: int
    tls_port: int
    backend: int
    metrics_port: int

    @property
    def certificate(self) -> Path:
        """The certificate and its key, in one file."""
        return self.folder / "certificate.pem"

    @property
    def access_log(self) -> Path:
        """The file that its access log goes to."""
        return self.folder / "access.log"


@attrs.frozen
class Proxy:
    """One proxy, and the configuration that makes it comparable with the others.

    :ivar name: as ``--proxies`` takes it, and :ivar title: as it is printed.
    :ivar settings: what is worth knowing of its configuration, in a few words.
    :ivar program: its executable, None if it is not installed.
    :ivar version: the command that prints its version; ``{program}`` stands for *program*.
    :ivar environment: variables beside the present ones.
    :ivar logs_to_stdout: its access log is what it prints, and goes to the file that way.
    :ivar workers: how many cores it may use at once.
    """

    name: str
    title: str
    settings: str
    program: str | None
    version: tuple[str, ...]
    environment: Mapping[str, str] = attrs.field(factory=dict)
    logs_to_stdout: bool = False
    workers: int = 1

    def arguments(self, place: Place) -> list[str]:
        """The command line, without the program."""
        return [part.format(**_values(place)) for part in COMMANDS[self.name]]

    def files(self, place: Place) -> dict[str, str]:
        """The configuration: texts by file name."""
        return {name: write(place) for name, write in FILES[self.name].items()}


def _values(place: Place) -> dict[str, object]:
    return {
        "folder": place.folder,
        "port": place.port,
        "tls_port": place.tls_port,
        "backend": place.backend,
        "log": place.access_log,
        "metrics_port": place.metrics_port,
    }


def write_certificate(place: Place) -> None:
    """Make a certificate, which nobody verifies."""
    key, certificate = place.folder / "key.pem", place.folder / "leaf.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "30", "-subj", f"/CN={HOST}", "-addext", "subjectAltName=DNS:*.example"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    place.certificate.write_text(certificate.read_text() + key.read_text())


def _installed(name: str) -> str | None:
    own = Path(sysconfig.get_path("scripts"), name)
    return str(own) if own.exists() else shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def routes(place: Place) -> str:
    """The dynamic configuration that swarmgate and Traefik both read."""
    routers = "".join(
        f"    {host.split('.')[0]}{suffix}:\n      rule: Host(`{host}`)\n      service: backend\n"
        f"      entryPoints: [{entry_point}]\n{tls}"
        for suffix, entry_point, tls in (("", "web", ""), ("-tls", "websecure", "      tls: {}\n"))
        for host in HOSTS
    )
    return (
        f"http:\n  routers:\n{routers}  services:\n    backend:\n      loadBalancer:\n        servers:\n"
        f"          - url: http://127.0.0.1:{place.backend}\n"
        f"tls:\n  certificates:\n    - certFile: {place.certificate}\n      keyFile: {place.certificate}\n"
    )


def traefik(place: Place) -> str:
    """Traefik's static configuration."""
    return f"""\
entryPoints:
  web:
    address: 127.0.0.1:{place.port}
  websecure:
    address: 127.0.0.1:{place.tls_port}
  traefik:
    address: 127.0.0.1:{place.metrics_port}
metrics:
  prometheus: {{}}
providers:
  file:
    filename: {place.folder}/routes.yml
accessLog:
  filePath: {place.access_log}
  bufferingSize: 1000
serversTransport:
  maxIdleConnsPerHost: 200
global:
  checkNewVersion: false
  sendAnonymousUsage: false
log:
  level: ERROR
"""


def caddy(place: Place) -> str:
    """Caddy's Caddyfile. It buffers no access log."""
    site = (
        " {{\n  {tls}\n  log {{\n    output file {place.access_log} {{\n      roll_disabled\n    }}\n  }}\n"
        "  reverse_proxy 127.0.0.1:{place.backend} {{\n    transport http {{\n"
        "      keepalive_idle_conns_per_host 200\n    }}\n  }}\n}}\n"
    )
    plain = ", ".join(f"http://{host}:{place.port}" for host in HOSTS)
    secure = ", ".join(f"https://{host}:{place.tls_port}" for host in HOSTS)
    return (
        "{\n  admin off\n  auto_https off\n  persist_config off\n  default_bind 127.0.0.1\n"
        f"  default_sni {HOST}\n  fallback_sni {HOST}\n  metrics\n  log {{\n    level ERROR\n  }}\n"
        "  servers {\n    protocols h1 h2\n  }\n}\n"
        + plain
        + site.format(tls="", place=place)
        + secure
        + site.format(tls=f"tls {place.certificate} {place.certificate}", place=place)
        + f"http://127.0.0.1:{place.metrics_port} {{\n  metrics /metrics\n}}\n"
    )


def nginx(place: Place) -> str:
    """nginx as a proxy; the other hosts get servers of their own, as they would in life."""
    location = (
        "location / { proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ''; "
        "proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; "
        "proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Real-Ip $remote_addr; }"
    )
    servers = "".join(
        f"  server {{ listen 127.0.0.1:{place.port}; listen 127.0.0.1:{place.tls_port} ssl http2; server_name {host}; "
        f"{location} }}\n"
        for host in HOSTS
    )
    return nginx_frame(
        place.folder,
        f"  access_log {place.access_log} combined buffer=64k flush=1s;\n"
        f"  ssl_certificate {place.certificate}; ssl_certificate_key {place.certificate};\n"
        "  ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on;\n"
        f"  upstream backend {{ server 127.0.0.1:{place.backend}; keepalive 200; keepalive_requests 1000000000; }}\n"
        f"  server {{ listen 127.0.0.1:{place.metrics_port}; location /metrics {{ stub_status; access_log off; }} }}\n"
        f"{servers}",
    )


def nginx_frame(folder: Path, http: str) -> str:
    """What any nginx here is run with: one worker, everything below *folder*, unlimited kept-alive requests."""
    # Started by root, its worker would be someone else, who can't read a temporary folder.
    user = "user root;\n" if os.geteuid() == 0 else ""
    return f"""\
{user}worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 16000; }}
http {{
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  sendfile on;
  tcp_nopush on;
{http}}}
"""


def haproxy(place: Place) -> str:
    """HAProxy can't write a file, but to the descriptor of one: its standard output."""
    names = " ".join(HOSTS)
    return f"""\
global
  nbthread 1
  maxconn 12000
  no strict-limits
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  option http-keep-alive
  option forwardfor
  timeout client 60s
  timeout server 60s
  timeout connect 3s
frontend web
  bind 127.0.0.1:{place.port}
  bind 127.0.0.1:{place.tls_port} ssl crt {place.certificate} ssl-min-ver TLSv1.2 alpn h2,http/1.1
  acl ours req.hdr(host),field(1,:),lower -m str {names}
  use_backend app if ours
frontend metrics
  bind 127.0.0.1:{place.metrics_port}
  no log
  http-request use-service prometheus-exporter if {{ path /metrics }}
backend app
  http-reuse always
  server backend 127.0.0.1:{place.backend} pool-max-conn 200
"""


_SWARMGATE = (
    "run",
    "--entrypoints.web.address=127.0.0.1:{port}",
    "--entrypoints.websecure.address=127.0.0.1:{tls_port}",
    "--entrypoints.traefik.address=127.0.0.1:{metrics_port}",
    "--providers.file.filename={folder}/routes.yml",
    "--accessLog.filePath={log}",
    "--metrics.prometheus",
    "--ping.entryPoint=traefik",
)

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "swarmgate": (*_SWARMGATE, "--workers=1"),
    "swarmgate-2": (*_SWARMGATE, "--workers=2"),
    "traefik": ("--configFile={folder}/traefik.yml",),
    "caddy": ("run", "--config", "{folder}/Caddyfile", "--adapter", "caddyfile"),
    "nginx": ("-c", "{folder}/nginx.conf", "-p", "{folder}", "-e", "stderr"),
    "haproxy": ("-f", "{folder}/haproxy.cfg", "-db"),
}

FILES = {
    "swarmgate": {"routes.yml": routes},
    "swarmgate-2": {"routes.yml": routes},
    "traefik": {"routes.yml": routes, "traefik.yml": traefik},
    "caddy": {"Caddyfile": caddy},
    "nginx": {"nginx.conf": nginx},
    "haproxy": {"haproxy.cfg": haproxy},
}

_SWARMGATE_VERSION = (
    sys.executable,
    "-c",
    "import swarmgate, sys; from swarmgate.http import exchange; "
    "how = '' if exchange.__file__.endswith('.py') else ', compiled'; "
    "print(f'swarmgate {swarmgate.__version__}, Python {sys.version.split()[0]}{how}')",
)
_ON = "access log, metrics for Prometheus, all checks of requests"

PROXIES = (
    Proxy("swarmgate", "swarmgate", f"workers: 1; {_ON}", _installed("swarmgate"), _SWARMGATE_VERSION),
    Proxy(
        "swarmgate-2",
        "swarmgate, 2 workers",
        f"workers: 2, on both cores, which it shares with load and backend; {_ON}",
        _installed("swarmgate"),
        _SWARMGATE_VERSION,
        workers=2,
    ),
    Proxy(
        "traefik",
        "Traefik",
        "GOMAXPROCS=1; access log, buffered by 1,000 lines; metrics for Prometheus",
        _installed("traefik"),
        ("{program}", "version"),
        {"GOMAXPROCS": "1"},
    ),
    Proxy(
        "caddy",
        "Caddy",
        "GOMAXPROCS=1; access log; metrics for Prometheus",
        _installed("caddy"),
        ("{program}", "version"),
        {"GOMAXPROCS": "1"},
    ),
    Proxy(
        "nginx",
        "nginx",
        "worker_processes 1; access log, buffered by 64 KiB and 1 s; stub_status",
        _installed("nginx"),
        ("{program}", "-v"),
    ),
    Proxy(
        "haproxy",
        "HAProxy",
        "nbthread 1; access log on standard output, into a file; metrics for Prometheus",
        _installed("haproxy"),
        ("{program}", "-v"),
        logs_to_stdout=True,
    ),
)

TITLES = {proxy.name: proxy.title for proxy in PROXIES}
