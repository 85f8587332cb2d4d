"""Servers of all kinds that tell, in a field ``X-Saw`` of their answers, what request they saw.

nginx and HAProxy are Debian's; those in Python live in an environment of their own (``make test-differential`` makes
it), and so does Go's compiler. What isn't there is left out.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.gate import free_port

PROGRAMS = Path(__file__).parent / "programs"
#: Where the servers from PyPI and Go's compiler are.
ENVIRONMENT = Path(os.environ.get("ORIGINS", str(Path(sys.prefix) / "origins"))).absolute()
#: How long a server may take to start, in seconds.
PATIENCE = 20.0

_NGINX = """
daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log crit;
events {{ worker_connections 512; }}
http {{
  log_format body escape=default '$request_method\t$request_uri\t$http_host\t$request_body';
  access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; client_body_buffer_size 64k;
  fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s; underscores_in_headers on;
  keepalive_timeout 3600; keepalive_requests 100000000; merge_slashes off; ignore_invalid_headers off;
  upstream inner {{ server unix:{home}/inner; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port} default_server;
    access_log {home}/seen.log body;
    location / {{ proxy_pass http://inner; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host x; proxy_set_header Upgrade ""; proxy_method GET; rewrite ^ /in break;
      add_header X-Saw "0|$request_method|$request_uri|$http_host" always; }}
  }}
  server {{ listen unix:{home}/inner; location / {{ return 200; }} }}
}}
"""

_HAPROXY = """
global
  nbthread 1
  maxconn 500
  tune.bufsize 65536
defaults
  mode http
  timeout connect 5s
  timeout client 3600s
  timeout server 60s
  timeout http-request 60s
  timeout http-keep-alive 3600s
frontend seen
  bind 127.0.0.1:{port}
  http-request wait-for-body time 10s
  http-request return status 200 hdr X-Saw {saw}
"""
_SAW = '"%rt|%[method]|%[pathq]|%[req.fhdr(host)]|%[req.body_len]|%[req.body,sha1,hex,lower]"'


class Origin:
    """A server that runs.

    :ivar counts: its answers tell the number of the request, so that one that it saw and nobody meant is found.
    :ivar log: where it writes what it saw, one request a line, if it can't tell the body's hash.
    """

    def __init__(self, name: str, port: int, command: list[str], home: Path, log: Path | None = None) -> None:
        self.name = name
        self.port = port
        self.counts = log is None
        self.log = log
        self._errors = home / f"{name}.stderr"
        with open(self._errors, "wb") as errors:
            self.process = subprocess.Popen(
                command, cwd=PROGRAMS, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
            )
        atexit.register(self.stop)

    def wait(self) -> None:
        """Return once it accepts connections."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)  # Between attempts to reach it; it has no way to tell us.
        raise AssertionError(f"{self.name} does not start: {self._errors.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """End it."""
        atexit.unregister(self.stop)
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def _nginx(home: Path, port: int) -> Origin:
    # Its configuration is in a folder of its own.
    (home / "nginx.conf").write_text(_NGINX.format(home=home, port=port))
    log = home / "seen.log"
    return Origin("nginx", port, ["nginx", "-e", "stderr", "-c", str(home / "nginx.conf")], home, log)


def _haproxy(home: Path, port: int) -> Origin:
    (home / "haproxy.cfg").write_text(_HAPROXY.format(port=port, saw=_SAW))
    return Origin("haproxy", port, ["haproxy", "-db", "-f", str(home / "haproxy.cfg")], home)


def _go(home: Path, port: int) -> Origin | None:
    program = ENVIRONMENT / "origin-go"
    compiler = ENVIRONMENT / "bin" / "go"
    if not program.exists() or program.stat().st_mtime < (PROGRAMS / "origin.go").stat().st_mtime:
        if not compiler.exists():
            return None
        settings = {
            "GOCACHE": str(home / "go"),
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-mod=mod",
            "GO111MODULE": "off",
            "CGO_ENABLED": "0",
        }
        subprocess.run(
            [str(compiler), "build", "-p", "1", "-o", str(program), str(PROGRAMS / "origin.go")],
            env={**os.environ, **settings},
            check=True,
        )
    return Origin("go", port, [str(program), str(port)], home)


def _python(name: str, home: Path, port: int) -> Origin | None:
    python = ENVIRONMENT / "bin" / "python"
    if name == "h11" and not python.exists():
        python = Path(sys.executable)
    if not python.exists():
        return None
    if name == "gunicorn":
        command = ["-m", "gunicorn", "-k", "gthread", "-w", "1", "--threads", "4", "--keep-alive", "3600"]
        command += ["--log-level", "critical", "-b", f"127.0.0.1:{port}", "applications:wsgi"]
    else:
        command = [str(PROGRAMS / "servers.py"), name, str(port)]
    return Origin(name, port, [str(python), *command], home)


#: All kinds.
NAMES = ("nginx", "haproxy", "h11", "uvicorn", "aiohttp", "gunicorn", "waitress", "go")


@contextlib.contextmanager
def running(names: tuple[str, ...] = NAMES) -> Iterator[list[Origin]]:
    """Those of *names* that are installed here, as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="swarmgate-origins-") as folder:
        home = Path(folder)
        os.chmod(home, 0o755)  # nginx's worker is another user if it is started by root.
        found: list[Origin] = []
        try:
            for name in names:
                port = free_port()
                if name in ("nginx", "haproxy"):
                    if shutil.which(name) is None:
                        continue
                    origin: Origin | None = (_nginx if name == "nginx" else _haproxy)(home, port)
                elif name == "go":
                    origin = _go(home, port)
                else:
                    origin = _python(name, home, port)
                if origin is not None:
                    found.append(origin)
            for origin in found:
                origin.wait()
            yield found
        finally:
            for origin in found:
                origin.stop()
