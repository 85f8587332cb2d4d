"""The proxies under comparison: how each is told to do the same work.

The work: take requests for ``app.example`` (and, to make it a choice, for nine other hosts) on one loopback port and
pass them to one backend over connections that are kept alive, with one worker or thread, an access log that goes to
a file, and no limit on how many requests one connection may carry. Where a proxy can buffer its access log it does.
The same over TLS 1.2 and 1.3 on a second port, with an ECDSA certificate on P-256.
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
    """

    folder: Path
    port: int
    tls_port: int
    backend: int

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

    :ivar name: as it is printed.
    :ivar program: its executable, None if it is not installed.
    :ivar version: the command that prints its version; ``{program}`` stands for *program*.
    :ivar environment: variables beside the present ones.
    :ivar logs_to_stdout: its access log is what it prints, and goes to the file that way.
    """

    name: str
    program: str | None
    version: tuple[str, ...]
    environment: Mapping[str, str] = attrs.field(factory=dict)
    logs_to_stdout: bool = False

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


def nginx(place: Place) -> str:
    """nginx as a proxy; the other hosts get servers of their own, as they would in life."""
    location = (
        "location / { proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ''; "
        "proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; "
        "proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Real-Ip $remote_addr; }"
    )
    servers = "".join(
        f"  server {{ listen 127.0.0.1:{place.port}; listen 127.0.0.1:{place.tls_port} ssl; server_name {host}; "
        f"{location} }}\n"
        for host in HOSTS
    )
    return nginx_frame(
        place.folder,
        f"  access_log {place.access_log} combined buffer=64k flush=1s;\n"
        f"  ssl_certificate {place.certificate}; ssl_certificate_key {place.certificate};\n"
        "  ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on;\n"
        f"  upstream backend {{ server 127.0.0.1:{place.backend}; keepalive 200; keepalive_requests 1000000000; }}\n"
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
events {{ worker_connections 8192; }}
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
  maxconn 8192
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
  bind 127.0.0.1:{place.tls_port} ssl crt {place.certificate} ssl-min-ver TLSv1.2
  acl ours req.hdr(host),field(1,:),lower -m str {names}
  use_backend app if ours
backend app
  http-reuse always
  server backend 127.0.0.1:{place.backend} pool-max-conn 200
"""


COMMANDS: Mapping[str, tuple[str, ...]] = {
    "swarmgate": (
        "run",
        "--entrypoints.web.address=127.0.0.1:{port}",
        "--entrypoints.websecure.address=127.0.0.1:{tls_port}",
        "--providers.file.filename={folder}/routes.yml",
        "--accessLog.filePath={log}",
        "--ping.entryPoint=web",
        "--workers=1",
    ),
    "traefik": ("--configFile={folder}/traefik.yml",),
    "nginx": ("-c", "{folder}/nginx.conf", "-p", "{folder}", "-e", "stderr"),
    "haproxy": ("-f", "{folder}/haproxy.cfg", "-db"),
}

FILES = {
    "swarmgate": {"routes.yml": routes},
    "traefik": {"routes.yml": routes, "traefik.yml": traefik},
    "nginx": {"nginx.conf": nginx},
    "haproxy": {"haproxy.cfg": haproxy},
}

_SWARMGATE_VERSION = ("-c", "import swarmgate, sys; print('swarmgate', swarmgate.__version__, 'Python', sys.version)")

PROXIES = (
    Proxy("swarmgate", _installed("swarmgate"), (sys.executable, *_SWARMGATE_VERSION)),
    Proxy("traefik", _installed("traefik"), ("{program}", "version"), {"GOMAXPROCS": "1"}),
    Proxy("nginx", _installed("nginx"), ("{program}", "-v")),
    Proxy("haproxy", _installed("haproxy"), ("{program}", "-v"), logs_to_stdout=True),
)
