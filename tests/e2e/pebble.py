"""Pebble, a small ACME authority for tests, and its challenge test server, as child processes on loopback.

Debian's package ``pebble`` has both.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def free_port() -> int:
    """Return a port of loopback that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Pebble:
    """An authority that checks challenges at ``http_port`` and ``tls_port`` of 127.0.0.1, whatever the domain.

    :param host: where it listens, and where challenges are checked unless :meth:`resolve` says otherwise.
    :param wrap: makes the command that runs a command where ``host`` can be reached, as in a network namespace.

    :ivar directory: the URL of its directory.
    :ivar ca: a file with the certificate that its own is checked by.
    :ivar dns: ``host:port`` of the challenge test server's DNS.
    """

    def __init__(
        self,
        folder: Path,
        *,
        eab: dict[str, str] | None = None,
        nonce_reject: int = 50,
        host: str = "127.0.0.1",
        wrap: Callable[..., Sequence[str]] = lambda *command: command,
    ) -> None:
        self.folder = folder
        self._host = host
        self._wrap = wrap
        self.http_port, self.tls_port = free_port(), free_port()
        self._port, self._dns_port, self._admin_port, self._management = (free_port() for _ in range(4))
        self.directory = f"https://{host}:{self._port}/dir"
        self.ca = folder / "pebble.pem"
        self.dns = f"{host}:{self._dns_port}"
        self._eab = eab
        self._nonce_reject = nonce_reject
        self._servers: list[subprocess.Popen[bytes]] = []
        self._pebble: subprocess.Popen[bytes] | None = None

    @staticmethod
    def is_installed() -> bool:
        """Return whether the programs are there."""
        return shutil.which("pebble") is not None and shutil.which("pebble-challtestsrv") is not None

    def __enter__(self) -> Self:
        self._make_certificate()
        config = {
            "listenAddress": f"{self._host}:{self._port}",
            "managementListenAddress": f"{self._host}:{self._management}",
            "certificate": str(self.ca),
            "privateKey": str(self.folder / "pebble.key"),
            "httpPort": self.http_port,
            "tlsPort": self.tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": self._eab is not None,
            "externalAccountMACKeys": self._eab or {},
        }
        (self.folder / "pebble.json").write_text(json.dumps({"pebble": config}))
        self._start(
            "pebble-challtestsrv",
            *("-dns01", self.dns, "-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""),
            *("-management", f"{self._host}:{self._admin_port}", "-defaultIPv4", self._host),
        )
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for server in self._servers:
            if server.poll() is None:
                server.send_signal(signal.SIGKILL)
            server.wait(10)

    def start(self) -> None:
        """Start the authority, which knows nothing of what it did before."""
        self._pebble = self._start("pebble", "-config", str(self.folder / "pebble.json"), "-dnsserver", self.dns)
        asked = self._wrap("curl", "-sf", "--max-time", "2", "--cacert", str(self.ca), self.directory)
        for _ in range(200):
            if subprocess.run(asked, stdout=subprocess.DEVNULL, check=False).returncode == 0:
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "pebble.log").read_text(errors="replace"))

    def stop(self) -> None:
        """End the authority."""
        assert self._pebble is not None
        self._pebble.kill()
        self._pebble.wait(10)

    def resolve(self, domain: str, *addresses: str) -> None:
        """Let challenges for a domain be checked at these addresses, and no others."""
        # To add them alone would leave those of before.
        for verb in ("clear-a", "add-a"):
            told = json.dumps({"host": domain, "addresses": addresses})
            url = f"http://{self._host}:{self._admin_port}/{verb}"
            subprocess.run(self._wrap("curl", "-sf", "-d", told, url), check=True, stdout=subprocess.DEVNULL)

    def log(self) -> str:
        """Return what the authority has written so far."""
        return (self.folder / "pebble.log").read_text(errors="replace")

    def program(self) -> Path:
        """Return a program for the ``exec`` provider that keeps its records in the challenge test server."""
        path = self.folder / "records.sh"
        path.write_text(
            '#!/bin/sh\n[ "$1" = present ] && verb=set-txt || verb=clear-txt\n'
            f'echo "$1 $2" >> {self.folder}/records.log\n'
            f'exec curl -sf -d "{{\\"host\\":\\"$2\\",\\"value\\":\\"$3\\"}}" http://{self._host}:{self._admin_port}/$verb\n'
        )
        path.chmod(0o700)
        return path

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        environ = {
            **os.environ,
            "PEBBLE_WFE_NONCEREJECT": str(self._nonce_reject),
            "PEBBLE_VA_NOSLEEP": "1",
            "PEBBLE_AUTHZREUSE": "0",
        }
        with open(self.folder / f"{command[0]}.log", "ab") as log:
            server = subprocess.Popen(
                self._wrap(*command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ
            )
        self._servers.append(server)
        return server

    def _make_certificate(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pebble")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(self._host))]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (self.folder / "pebble.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
