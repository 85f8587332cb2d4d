"""``python -m bench.crowd PORT COUNT [--tls]``: connections that have asked once and then say nothing.

A process of its own, since each has as many descriptors as the proxy has. It prints ``open`` when all of them are, and
holds them until its standard input ends. Sources are several loopback addresses: one has too few ports for all.
"""

from __future__ import annotations

import argparse
import resource
import socket
import ssl
import sys

from bench.proxies import HOST

_FOR_EACH_SOURCE = 5000
#: So many are asked for at once.
_AT_ONCE = 100
_REQUEST = f"GET /60 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def _opened(port: int, number: int, context: ssl.SSLContext | None) -> socket.socket:
    """A connection that has asked, and has not read its answer yet."""
    client = socket.socket()
    client.settimeout(20)
    client.bind((f"127.0.1.{number // _FOR_EACH_SOURCE + 1}", 0))
    client.connect(("127.0.0.1", port))
    if context is not None:
        client = context.wrap_socket(client, server_hostname=HOST)
    client.sendall(_REQUEST)
    return client


def _answered(client: socket.socket) -> None:
    answer = b""
    while not (answer.startswith(b"HTTP/1.1 200 ") and len(answer.partition(b"\r\n\r\n")[2]) >= 60):
        more = client.recv(4096)
        if not more:
            raise ConnectionError(f"a connection was closed after {answer[:80]!r}")
        answer += more


def main() -> int:
    """Open them, and wait; 1 and the reason on standard error where they can't be opened."""
    parser = argparse.ArgumentParser(prog="python -m bench.crowd", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--tls", action="store_true")
    chosen = parser.parse_args()
    highest = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
    context = None
    if chosen.tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    held: list[socket.socket] = []
    try:
        while len(held) < chosen.count:
            numbers = range(len(held), min(len(held) + _AT_ONCE, chosen.count))
            asked = [_opened(chosen.port, number, context) for number in numbers]
            for client in asked:
                _answered(client)
            held += asked
    except OSError as error:
        print(f"{len(held)} of {chosen.count} connections, then: {error!r}", file=sys.stderr)
        return 1
    print("open", flush=True)
    sys.stdin.read()
    # A proxy that has closed some of them in the meantime had not that many.
    for client in held:
        client.setblocking(False)
        try:
            if not isinstance(client, ssl.SSLSocket) and client.recv(1, socket.MSG_PEEK) == b"":
                print("a connection was closed by the proxy", file=sys.stderr)
                return 1
        except BlockingIOError:
            continue
    return 0


if __name__ == "__main__":
    sys.exit(main())
