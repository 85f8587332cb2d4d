"""What fuzzing begins with: octets of the kind that each target reads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import hpack

from tests import corpus
from tests.http2_peers import HEAD, POST, frame
from tests.test_client_hello import hello
from tests.test_proxy_protocol import GET, HEADERS, MALFORMED

_RESPONSES = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a=b\r\nConnection: close, X-A\r\nX-A: y\r\n\r\n",
    b"HTTP/1.0 200\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
)
_RULES = (
    b"Host(`a.example`) && (PathPrefix(`/x`) || !Method(`GET`, `POST`)) && Query(`a`, `b`) && ClientIP(`10.0.0.0/8`)",
    b"HostRegexp(`^[a-z]+\\.example$`) || HeaderRegexp(`X-A`, `b.*`) || PathRegexp(`^/(a|b)`) || Header(`A`, `b`)",
    b'Host("a", "b") && Headers(`X`, `y`) && HostSNI(`*`) && Path(`/{id:[0-9]+}/x`)',
)
_LABELS = (
    b"traefik.enable=true\nrouters.web.rule=Host(`a.example`)\nservices.web.loadbalancer.server.port=80\nrouters.web.priority=x",
    b"middlewares.a.headers.customRequestHeaders.X-A=b\nmiddlewares.b.stripprefix.prefixes=/a,/b\nrouters.a.middlewares=a,b@swarm",
    b"services.a.loadbalancer.sticky.cookie.name=a\nservices.a.loadbalancer.healthcheck.path=/h\nrouters.a.tls.domains[0].main=a",
    b"middlewares.r.ratelimit.average=10\nmiddlewares.r.ratelimit.period=1s\nmiddlewares.i.ipallowlist.sourcerange=10.0.0.0/8",
)
_FORWARDED = (
    b"X-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nForwarded: for=1.2.3.4;proto=https\r\nX-Real-Ip: 9.9.9.9",
    b"X_Forwarded_For: 1.2.3.4\r\nConnection: X-Forwarded-Host\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Prefix: /adm",
)
_PATHS = (b"a/../b/./c//d", b"%2e%2e/%2F", b"a%3fb;c=%zz", b"..;/admin%5c%00", b"a/%41%C3%A4")


def of(target: str) -> Iterator[bytes]:
    """The seeds for that target."""
    if target in ("request_head", "request_stream"):
        for case in corpus.CASES:
            if len(case.request) < 1500:
                head, end, _ = case.request.partition(b"\r\n\r\n")
                yield head + end if target == "request_head" else case.request
    elif target == "chunked_body":
        for case in corpus.CASES:
            if case.name.startswith("B") and len(case.request) < 1500:
                yield case.request.partition(b"\r\n\r\n")[2]
    elif target == "hpack_section":
        encoder = hpack.Encoder()
        yield encoder.encode(HEAD)
        yield encoder.encode([*POST, (b"x-a", b"b" * 40), (b"cookie", b"a=b")])
        yield hpack.Encoder().encode(POST) + b"\xff\xff\xff" + encoder.encode(HEAD, huffman=False)
    elif target == "http2_frames":
        encoder = hpack.Encoder()
        for kind, stream in itertools.product(range(11), (0, 1, 3)):
            yield frame(kind, 4, stream, bytes(8))
        yield frame(0, 1, 3, b"abc") + frame(1, 5, 5, encoder.encode(HEAD)) + frame(3, 0, 5, bytes(4))
    elif target == "client_hello":
        yield from (hello(), hello(None, ()), hello("x" * 60 + ".example"), b"GET / HTTP/1.1\r\n\r\n")
    elif target == "proxy_header":
        yield from (header + GET for header in (*HEADERS, *MALFORMED) if len(header) < 1000)
    elif target == "cookies":
        yield from (b"s=abc; t=d", b's="x"', b"=; s = y;;s=z")
    else:
        yield from {
            "response_head": _RESPONSES,
            "rule": _RULES,
            "labels": _LABELS,
            "forwarded": _FORWARDED,
            "path": _PATHS,
        }[target]
