"""What is fuzzed: functions of octets that raise if anything but the declared happens.

Each holds its parser to more than not to break: fed in pieces it gives what it gives at once, what it makes is never
longer than what it was given, and what the gate writes of it is read again as the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import hpack
from hpack.exceptions import HPACKError, OversizedHeaderListError

from swarmgate.balancing.sticky import Stickiness
from swarmgate.dynamic.cookie import StickyCookie
from swarmgate.dynamic.labels import decode
from swarmgate.dynamic.rules import RuleError, parse_rule
from swarmgate.http.bodies import ChunkedBody, chunk, last_chunk
from swarmgate.http.errors import BadRequest, BadResponse, MessageError
from swarmgate.http.forwarded import ForwardedPolicy
from swarmgate.http.message import lines_of
from swarmgate.http.paths import PathPolicy
from swarmgate.http.request_head import HeadLimits, RequestHeads, write_request
from swarmgate.http.response_head import CHUNKED, parse_response, write_response
from swarmgate.http2.compression import Decoder
from swarmgate.middlewares import KINDS
from swarmgate.transport.client_hello import NotTLS, read_client_hello
from swarmgate.transport.proxy_protocol import LONGEST_HEADER, MalformedHeader, read_proxy_header
from tests.http2_peers import HEAD, POST, frame, gate_of
from tests.memory_network import OK, MemoryGate
from tests.wire import Malformed, Message, read_request

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
_LIMITS = HeadLimits()


def _same(one: object, other: object, what: str) -> None:
    if one != other:
        raise AssertionError(f"{what}: {one!r} is not {other!r}")


def request_head(data: bytes) -> None:
    """A request's head, which is read again as the same after the gate has written it."""
    heads = RequestHeads(_LIMITS, PathPolicy())
    try:
        request = heads.read(data)
    except BadRequest as error:
        try:
            heads.read(data)
        except BadRequest as again:
            _same(error.status, again.status, "status of the second time")
            return
        raise AssertionError("refused once, and taken the second time") from None
    again = heads.read(data)
    _same(again.fields, request.fields, "fields of the second time")
    if request.path == b"*":
        return
    # The parts of a head end where it ends: nothing in them can begin another.
    for name, value in request.fields:
        if re.search(rb"[\r\n\x00]", name + value):
            raise AssertionError(f"a field with a line end: {name!r} {value!r}")
    written = write_request(request)
    if written.find(b"\r\n\r\n") != len(written) - 4:
        raise AssertionError(f"more than a head was written: {written!r}")
    second = RequestHeads(HeadLimits(line=1 << 20, head=1 << 20), PathPolicy()).read(written)
    for part in ("method", "path", "query", "authority", "host", "length", "upgrade", "fields", "expects_continue"):
        _same(getattr(second, part), getattr(request, part), part)


def request_stream(data: bytes) -> None:
    """What a client sends, in one piece and in three: the same is forwarded, and the same refused."""
    if b"xpect" in data.lower() or data.startswith(b"PRI") or b"OPTIONS *" in data:
        # Whether a 100 is due depends on what comes with the head. HTTP/2 has a target of its own. What the gate itself
        # is asked it answers before the body has ended, and closes.
        return
    cuts = sorted({len(data) // 3, len(data) * 2 // 3})
    whole = _through([data])
    _same(_through([data[: cuts[0]], data[cuts[0] : cuts[-1]], data[cuts[-1] :]]), whole, "in three pieces")
    if len(data) < 200:
        _same(_through([data[at : at + 1] for at in range(len(data))]), whole, "octet by octet")


_DATE = re.compile(rb"Date: [^\r]*\r\n")
#: For what it is refused may depend on how much of it was there to look at.
_REFUSAL = re.compile(
    rb"HTTP/1\.1 [45][^\r]*\r\nContent-Type: text/plain; charset=utf-8\r\n[^\n]*\r\nConnection: close.*", re.S
)


def _through(pieces: list[bytes]) -> tuple[bytes, list[tuple[object, ...]], bool]:
    """What the client got, what servers were sent, and whether the connection ended."""
    gate = MemoryGate()
    client = gate.client()
    seen: list[tuple[object, ...]] = []
    left: dict[int, bytes] = {}
    for piece in pieces:
        if client.closed is None:
            client.receive(piece)
            _answer(gate, seen, left)
    client.settle()
    received = _REFUSAL.sub(b"refused", _DATE.sub(b"", client.take()))
    if any(left.values()) and not client.closed and not client.half_closed:
        left = {}  # A body that is still to come.
    closed = bool(client.closed or client.half_closed)
    return received, seen, closed


def _answer(gate: MemoryGate, seen: list[tuple[object, ...]], left: dict[int, bytes]) -> None:
    while True:
        busy = False
        for number, server in enumerate(gate.network.servers):
            data = server.take()
            if not data:
                continue
            busy = True
            left[number] = left.get(number, b"") + data
            try:
                while (found := read_request(left[number])) is not None:
                    message, left[number] = found
                    seen.append(_told(message))
                    if not server.closed:
                        server.receive(OK)
            except Malformed as error:
                raise AssertionError(f"a server was sent something malformed: {error}") from None
        if not busy:
            return


def _told(message: Message) -> tuple[object, ...]:
    fields = [pair for pair in message.fields if pair[0].lower() not in (b"content-length", b"transfer-encoding")]
    return (*message.start, fields, message.body)


def response_head(data: bytes) -> None:
    """A server's head, of which only what is understood is passed on."""
    try:
        response = parse_response(data).response()
    except BadResponse:
        return
    for name, value in response.fields:
        if re.search(rb"[\r\n\x00]", name + value):
            raise AssertionError(f"a field with a line end: {name!r} {value!r}")
    end = b"\r\n\r\n"
    if response.length == CHUNKED:
        end = b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    elif response.length >= 0 and response.status >= 200 and response.status not in (204, 304):
        end = b"\r\nContent-Length: %d\r\n\r\n" % response.length
    written = write_response(response.status, response.reason, lines_of(response.fields), end)
    if written.find(b"\r\n\r\n") != len(written) - 4:
        raise AssertionError(f"more than a head was written: {written!r}")
    second = parse_response(written).response()
    _same(second.status, response.status, "status")
    _same(second.fields, response.fields, "fields")


def _read_body(pieces: list[bytes]) -> tuple[object, ...]:
    reader = ChunkedBody()
    body = b""
    for place, piece in enumerate(pieces):
        try:
            body += reader.feed(piece)
        except MessageError:
            return ("refused",)
        if reader.done:
            return body, reader.trailers, reader.rest + b"".join(pieces[place + 1 :])
    return ("unfinished", body)


def chunked_body(data: bytes) -> None:
    """A chunked body, however it is cut to pieces."""
    whole = _read_body([data])
    _same(_read_body([data[at : at + 1] for at in range(len(data))]), whole, "octet by octet")
    half = len(data) // 2
    _same(_read_body([data[:half], data[half:]]), whole, "in two pieces")
    if len(whole) == 3:
        body, trailers, _ = whole
        assert isinstance(body, bytes) and isinstance(trailers, list)
        if len(body) > len(data):
            raise AssertionError("a body that is longer than its chunks")
        written = (chunk(body) if body else b"") + last_chunk(trailers)
        _same(_read_body([written]), (body, trailers, b""), "written and read again")


def hpack_section(data: bytes) -> None:
    """A field section as the gate reads it, and as the library does."""
    decoder, other = Decoder(65536, 4096), hpack.Decoder(65536)
    for section in data.split(b"\xff\xff\xff", 3):
        try:
            fields: object = decoder.decode(section)
        except OversizedHeaderListError:
            return
        except HPACKError:
            fields = None
        try:
            expected: object = [(bytes(name), bytes(value)) for name, value in other.decode(section, raw=True)]
        except OversizedHeaderListError:
            return
        except (HPACKError, UnicodeDecodeError):
            expected = None
        if expected is None and fields is not None:
            raise AssertionError(f"the library refuses what was read as {fields!r}")
        if fields is None:
            return  # To be stricter than the library is fine; after it nothing can be read.
        _same(fields, expected, "fields")


def http2_frames(data: bytes) -> None:
    """What a client of HTTP/2 sends behind its preface: nothing breaks, nothing is left behind."""
    encoder = hpack.Encoder()
    begin = PREFACE + frame(1, 5, 1, encoder.encode(HEAD)) + frame(1, 4, 3, encoder.encode(POST))
    for cut in (len(data), len(data) // 2):
        gate = gate_of()
        client = gate.client()
        client.receive(begin)
        for piece in (data[:cut], data[cut:]):
            if piece and not client.closed:
                client.receive(piece)
            for server in gate.network.servers:
                if not server.closed and server.take():
                    server.receive(OK)
            client.settle()
        client.reset()
        for _ in range(3):
            for server in list(gate.network.servers):
                server.reset()
        _same(gate.connections, set(), "connections that are left")
        _same([upstream.in_flight for upstream in gate.upstreams], [0] * len(gate.upstreams), "exchanges that are left")


def client_hello(data: bytes) -> None:
    """The beginning of a TLS connection; of any part of it the same is known, or not yet."""

    def read(octets: bytes) -> object:
        try:
            return read_client_hello(octets)
        except NotTLS:
            return NotTLS

    whole = read(data)
    for size in range(0, len(data), max(1, len(data) // 16)):
        part = read(data[:size])
        if part is not None and part != whole:
            raise AssertionError(f"{part!r} of {size} octets, {whole!r} of all {len(data)}")


def proxy_header(data: bytes) -> None:
    """What a proxy says of a client first; of any part of it the same is known, or not yet."""

    def read(octets: bytes) -> object:
        try:
            return read_proxy_header(octets)
        except MalformedHeader as error:
            return str(error)

    whole = read(data)
    for size in range(0, len(data), max(1, len(data) // 64)):
        part = read(data[:size])
        if part is not None and part != whole:
            raise AssertionError(f"{part!r} of {size} octets, {whole!r} of all {len(data)}")
    if whole is None and len(data) >= LONGEST_HEADER:
        raise AssertionError(f"{len(data)} octets, and more are waited for")
    try:
        header = read_proxy_header(data)
    except MalformedHeader:
        return
    if header is not None and header.source is not None:
        host, port = header.source
        line = f"PROXY TCP{6 if ':' in host else 4} {host} {host} {port} 443\r\n".encode()
        again = read_proxy_header(line + data)
        _same(again and (again.size, again.source), (len(line), header.source), "the client, named again")


def rule(data: bytes) -> None:
    """A rule, which is the same after it was written and read again."""
    text = data.decode("utf-8", "replace")
    for syntax in ("v3", "v2"):
        try:
            tree = parse_rule(text, syntax)
        except RuleError as error:
            str(error)
            continue
        _same(str(parse_rule(str(tree), "v3")), str(tree), "the rule written and read again")


def labels(data: bytes) -> None:
    """A service's labels: what is wrong with one is told, and never raised."""
    pairs = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        name, _, value = line.partition("=")
        pairs[name if name.startswith("traefik") else "traefik.http." + name] = value
    labelled = decode(pairs, ("swarmgate", "traefik"), KINDS, "service shop_web")
    for problem in labelled.problems:
        str(problem)


_cookies = Stickiness("web@test", StickyCookie(name="s"), ())


def cookies(data: bytes) -> None:
    """A Cookie field: what is found in it was there."""
    value = _cookies.value([(b"Cookie", data)])
    if value not in data:
        raise AssertionError(f"{value!r} is not in {data!r}")
    _same(_cookies.member([(b"Cookie", data)]), None, "a member of nobody")


def forwarded(data: bytes) -> None:
    """What peers say of a client: dropped of a stranger, completed of one that is trusted."""
    heads = RequestHeads(_LIMITS, PathPolicy())
    try:
        request = heads.read(b"GET / HTTP/1.1\r\nHost: a\r\n" + data + b"\r\n\r\n")
    except BadRequest:
        return
    request.client_ip = "192.0.2.7"
    received = request.forwarded or []
    stranger = ForwardedPolicy(b"gate")
    plain = [name.lower() for name, _ in request.fields]
    own = stranger.own_fields(request)
    for name, _ in own:
        if name.lower() in plain:
            raise AssertionError(f"a stranger's {name!r} passes")
    for name, value in own:
        if name != b"X-Forwarded-Host" and value not in (b"192.0.2.7", b"80", b"http", b"ws", b"gate"):
            raise AssertionError(f"{name!r} of a stranger is {value!r}")
    told = ForwardedPolicy(b"gate", insecure=True).trusted_fields(request, received)
    chain = [value for name, value in told if name.lower() == b"x-forwarded-for"]
    if len(chain) != 1 or not chain[0].endswith(b"192.0.2.7"):
        raise AssertionError(f"X-Forwarded-For of a trusted peer: {chain!r}")
    for name, value in told:
        if re.search(rb"[\r\n\x00]", name + value):
            raise AssertionError(f"a field with a line end: {name!r} {value!r}")


def path(data: bytes) -> None:
    """A path in normal form stays as it is, and leads nowhere else."""
    policy = PathPolicy()
    try:
        normal = policy.normalise(b"/" + data)
    except BadRequest:
        return
    _same(policy.normalise(normal), normal, "in normal form, brought to normal form")
    if any(segment in (b".", b"..") for segment in normal.split(b"/")) or b"//" in normal or b"\\" in normal:
        raise AssertionError(f"not in normal form: {normal!r}")


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        request_head,
        request_stream,
        response_head,
        chunked_body,
        hpack_section,
        http2_frames,
        client_hello,
        proxy_header,
        rule,
        labels,
        cookies,
        forwarded,
        path,
    )
}
