"""A Docker engine that is none: an HTTP server on a unix socket that answers as one, for what no real one does on call.

It speaks any range of API versions, forbids paths as a socket proxy does, hangs, fails, and tells of thousands of
tasks.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import queue
import re
import socket
import socketserver
import ssl
import tempfile
import threading
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


def told_service(number: int = 1, name: str = "", **labels: str) -> dict[str, Any]:
    """Return what ``GET /services`` tells of one service."""
    return {
        "ID": f"service{number:018}",
        "Version": {"Index": 10 + number},
        "CreatedAt": "2026-01-31T12:00:00.5Z",
        "UpdatedAt": "2026-01-31T12:00:01.123456789Z",
        "Spec": {
            "Name": name or f"svc{number}",
            "Labels": {key.replace("_", "."): value for key, value in labels.items()},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "app:1", "Args": ['odd},{"ID":"x', "[", "]"], "Env": ["SECRET=x"]},
                "Networks": [{"Target": "net1", "Aliases": ["a"]}],
                "ForceUpdate": 0,
            },
            "Mode": {"Replicated": {"Replicas": 3}},
            "EndpointSpec": {"Mode": "vip"},
        },
        "Endpoint": {
            "Spec": {"Mode": "vip"},
            "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}],
            "VirtualIPs": [{"NetworkID": "net1", "Addr": "10.0.1.2/24"}],
        },
    }


def told_task(number: int = 1, service: int = 1, version: int = 0, state: str = "running") -> dict[str, Any]:
    """Return what ``GET /tasks`` tells of one task, about as long as it usually is."""
    return {
        "ID": f"task{number:021}",
        "Version": {"Index": version or 100 + number},
        "CreatedAt": "2026-01-31T12:00:00Z",
        "UpdatedAt": "2026-01-31T12:00:01.123456789Z",
        "Labels": {},
        "Spec": {
            "ContainerSpec": {
                "Image": "registry.example/team/application:1.2.3@sha256:" + "0" * 64,
                "Env": [f"VARIABLE_{each}=a value that is as long as they are" for each in range(12)],
                "Mounts": [{"Type": "bind", "Source": "/srv", "Target": "/srv"}],
                "Labels": {f"com.example.label{each}": "value" for each in range(6)},
                "Secrets": [{"File": {"Name": "key", "UID": "0"}, "SecretID": "s1", "SecretName": "key"}],
            },
            "Resources": {"Limits": {"MemoryBytes": 536870912}, "Reservations": {}},
            "Placement": {"Constraints": ["node.role==worker"]},
            "Networks": [{"Target": "net1"}],
            "ForceUpdate": 0,
        },
        "ServiceID": f"service{service:018}",
        "Slot": number,
        "NodeID": "node1",
        "Status": {
            "Timestamp": "2026-01-31T12:00:01.123456789Z",
            "State": state,
            "Message": "started",
            "ContainerStatus": {"ContainerID": f"{number:064x}", "PID": 4242},
            "PortStatus": {},
        },
        "DesiredState": "running",
        "NetworksAttachments": [
            {
                "Network": {"ID": "net1", "Version": {"Index": 7}, "Spec": {"Name": "golf", "Labels": {}}},
                "Addresses": [f"10.0.{number >> 8 & 255}.{number & 255}/16"],
            }
        ],
    }


def told_network(number: int = 1, name: str = "golf", ingress: bool = False) -> dict[str, Any]:
    """Return what ``GET /networks`` tells of one network."""
    return {"Name": name, "Id": f"net{number}", "Scope": "swarm", "Driver": "overlay", "Ingress": ingress}


def told_node(number: int = 1) -> dict[str, Any]:
    """Return what ``GET /nodes`` tells of one node."""
    return {
        "ID": f"node{number}",
        "Version": {"Index": 5},
        "Spec": {"Role": "manager", "Availability": "active"},
        "Description": {"Hostname": f"host{number}"},
        "Status": {"State": "ready", "Addr": "192.0.2.1"},
    }


class FakeDocker:
    """An engine on a unix socket of its own, between ``with FakeDocker() as engine:`` and its end.

    :param tls: listen on loopback instead, with TLS.
    :ivar lists: what the lists tell, by path without version; bytes are sent as they are.
    :ivar api: its oldest and its newest API version.
    :ivar refused: status and message by path without version.
    :ivar items: what single things tell, by path without version, as ``/services/web``; they may be bytes.
    :ivar changes: what was sent by POST: path without version, query and body; the next is answered as ``refusals``
        says, if there are any left.
    :ivar hanging: paths that get no answer until :meth:`let_go`.
    :ivar requests: the paths asked for, with version and query.
    """

    def __init__(self, api: tuple[str, str] = ("1.24", "1.45"), tls: ssl.SSLContext | None = None) -> None:
        self.api = api
        self._tls = tls
        self.port = 0
        self.lists: dict[str, Any] = {
            "/services": [told_service()],
            "/tasks": [told_task()],
            "/networks": [told_network()],
            "/nodes": [told_node()],
        }
        self.refused: dict[str, tuple[int, str]] = {}
        self.items: dict[str, Any] = {}
        self.changes: list[tuple[str, str, Any]] = []
        self.refusals: list[tuple[int, str]] = []
        self.hanging: set[str] = set()
        self.requests: list[str] = []
        self._folder = tempfile.TemporaryDirectory(prefix="fd")
        self.path = os.path.join(self._folder.name, "docker.sock")
        self._released = threading.Event()
        self._streams: list[queue.Queue[bytes]] = []
        self._connections: set[socket.socket] = set()

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"tcp://127.0.0.1:{self.port}" if self._tls else f"unix://{self.path}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Listen."""
        engine = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                engine._connections.add(self.request)
                super().setup()

            def finish(self) -> None:
                engine._connections.discard(self.request)
                with contextlib.suppress(OSError):
                    super().finish()

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                with contextlib.suppress(ConnectionError):
                    engine._answer(self)

            def do_POST(self) -> None:
                with contextlib.suppress(ConnectionError):
                    engine._change(self)

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        class SecureServer(socketserver.ThreadingTCPServer):
            daemon_threads = True

            def get_request(self) -> tuple[socket.socket, Any]:
                assert engine._tls is not None
                connection, address = super().get_request()
                return engine._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

            def handle_error(self, *_: object) -> None:
                pass  # a client that does not trust us

        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._released.clear()
        self._server: socketserver.BaseServer
        if self._tls is None:
            self._server = Server(self.path, Handler)
        else:
            self._server = SecureServer(("127.0.0.1", 0), Handler)
            self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the listening socket and all connections, as an engine that ends."""
        self._server.shutdown()
        self._server.server_close()
        self.let_go()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.end_events()
        self._thread.join()

    def let_go(self) -> None:
        """Answer what hangs."""
        self.hanging.clear()
        self._released.set()

    def event(self, kind: str = "service") -> None:
        """Tell all event streams of something."""
        text = json.dumps({"Type": kind, "Action": "update", "Actor": {"ID": "x"}}).encode() + b"\n"
        for stream in self._streams:
            stream.put(text)

    def end_events(self) -> None:
        """End all event streams."""
        streams, self._streams = self._streams, []
        for stream in streams:
            stream.put(b"")

    def _answer(self, to: http.server.BaseHTTPRequestHandler) -> None:
        self.requests.append(to.path)
        url = urlsplit(to.path)
        match = re.fullmatch(r"(?:/v(\d+\.\d+))?(/.*)", url.path)
        assert match is not None
        version, path = match.groups()
        if path in self.hanging:
            self._released.wait(20)
        if path in self.refused:
            status, message = self.refused[path]
            self._send(to, status, {"message": message})
        elif version and not (_number(self.api[0]) <= _number(version) <= _number(self.api[1])):
            word, bound = ("new", "Maximum") if _number(version) > _number(self.api[1]) else ("old", "Minimum")
            limit = self.api[1] if word == "new" else self.api[0]
            message = f"client version {version} is too {word}. {bound} supported API version is {limit}"
            self._send(to, 400, {"message": message})
        elif path == "/version":
            self._send(to, 200, {"Version": "99.0", "ApiVersion": self.api[1], "MinAPIVersion": self.api[0]})
        elif path == "/events":
            self._stream(to)
        elif path in self.items:
            self._send(to, 200, self.items[path])
        elif path.startswith(("/services/", "/nodes/")):
            self._send(to, 404, {"message": f"{path[1:]} not found"})
        elif path in self.lists:
            told = self.lists[path]
            wanted = json.loads(parse_qs(url.query).get("filters", ["{}"])[0])
            if path == "/tasks" and isinstance(told, list) and "desired-state" in wanted:
                told = [task for task in told if task.get("DesiredState") in wanted["desired-state"]]
            self._send(to, 200, told)
        else:
            self._send(to, 403, None)

    def _change(self, to: http.server.BaseHTTPRequestHandler) -> None:
        self.requests.append(to.path)
        body = json.loads(to.rfile.read(int(to.headers["Content-Length"])))
        url = urlsplit(to.path)
        path = re.sub(r"^/v\d+\.\d+", "", url.path)
        self.changes.append((path, url.query, body))
        if self.refusals:
            status, message = self.refusals.pop(0)
            self._send(to, status, {"message": message} if message else b"")
        else:
            self._send(to, 200, {"Warnings": None})

    def _send(self, to: http.server.BaseHTTPRequestHandler, status: int, told: Any) -> None:
        body = told if isinstance(told, bytes) else json.dumps(told, separators=(",", ":")).encode() + b"\n"
        to.send_response(status)
        to.send_header("Content-Type", "application/json")
        to.send_header("Content-Length", str(len(body)))
        to.end_headers()
        to.wfile.write(body)

    def _stream(self, to: http.server.BaseHTTPRequestHandler) -> None:
        events: queue.Queue[bytes] = queue.Queue()
        self._streams.append(events)  # Before anybody knows that the stream is open: an event may follow at once.
        to.send_response(200)
        to.send_header("Transfer-Encoding", "chunked")
        to.end_headers()
        while text := events.get():
            to.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
        to.wfile.write(b"0\r\n\r\n")


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
