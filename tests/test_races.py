"""Clients, servers and the clock, in any order: whatever happens when, no answer goes astray."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import attrs
from twisted.internet.error import ConnectionLost
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.balancing.strategies import Rotation
from swarmgate.dynamic.model import Balancing
from swarmgate.http.client import ClientConnection
from swarmgate.http.exchange import Exchange
from swarmgate.http.upstream import Upstream, UpstreamSettings
from swarmgate.resources.proxy import ReverseProxyResource
from swarmgate.transport.network import ConnectTimeout
from tests.memory_network import GET, OK, MemoryGate, MemoryNetwork, MemoryTransport, members_of
from tests.wire import Malformed, Message, read_request, read_response

_TARGET = re.compile(rb"[A-Z]+ /([0-9]+) HTTP/1\.1\r\n")
#: The answer that nobody has asked for.
EVIL = b"HTTP/1.1 200 OK\r\nX-Answer: 0\r\nContent-Length: 4\r\n\r\nevil"


_ALL = 1_000_000
_OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"requests_at_most": 2},
    {"seconds_at_most": 3.0},
    {"request_timeout": 5.0},
    {"answer_timeout": 5.0},
)
#: What clients ask, with the length of the body.
_KINDS = (
    *(("get", 0), ("get", 0), ("get", 0), ("old", 0), ("head", 0), ("close", 0), ("own", 0), ("upgrade", 0)),
    *(("post", 1), ("post", 5000), ("post", 20000), ("old post", 3), ("expect", 3), ("own", 3)),
    *(("chunked", 1), ("chunked", 5000), ("chunked", 20000), ("broken", 3), ("broken", 20000)),
)
#: How servers answer.
_ANSWERS = (
    *("length", "length", "chunked", "trailers", "close", "none", "old"),
    *("excess", "broken", "garbage", "early", "continue"),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """*data* in pieces, none of them empty, cut at *places*."""
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(marks)]


class Line(MemoryTransport):
    """The gate's end of a connection, as exacting as a loop's own: what the loop forbids is a fault.

    Octets that come while the gate does not read wait in :attr:`inbox`; what comes after it has closed is lost. That
    a connection which it has closed is closed, it is told later, by :meth:`settle`.

    :ivar clogged: the other end takes nothing for now.
    """

    def __init__(self, protocol: Any, peer: str, faults: list[str]) -> None:
        super().__init__(protocol, peer)
        self.inbox: list[bytes | None] = []
        self.clogged = False
        #: Something is left to be sent that the other end does not take.
        self._is_stuck = False
        self.has_ended = False
        self._faults = faults

    @property
    def is_open(self) -> bool:
        """Whether the other end can still say something."""
        return not self.closed and not self._gone and not self.has_ended

    def write(self, data: bytes) -> None:
        # What is written between an abort and the news of it is dropped by every loop.
        if self._gone or self.closed == "lost" or self.half_closed:
            self._faults.append(f"{self.protocol!r} wrote {data[:60]!r} to a transport that was closed")
        if not data:
            self._faults.append(f"{self.protocol!r} wrote nothing")
        super().write(data)
        self._is_stuck = self.clogged

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            self._faults.append(f"{self.protocol!r} has a producer registered already")
        super().registerProducer(producer, streaming)
        if self.disconnecting:
            producer.stopProducing()
        elif self.clogged:
            producer.pauseProducing()

    def stopProducing(self) -> None:
        self.loseConnection()

    def clog(self, clogged: bool) -> None:
        """The other end takes nothing more, or takes it again."""
        if self.clogged != clogged and not self._gone:
            self.clogged = clogged
            self._is_stuck = self._is_stuck and clogged
            if self.producer is not None and clogged:
                self.producer.pauseProducing()
            elif self.producer is not None:
                self.producer.resumeProducing()

    def send(self, data: bytes | None) -> None:
        """The other end sends *data*; None: and nothing after it."""
        if self.is_open:
            self.has_ended = data is None
            self.inbox.append(data)
            self.pump()

    def pump(self) -> bool:
        """Let the gate read what there is. Returns whether it did."""
        moved = False
        while self.inbox and not self.paused and not self.closed and not self._gone:
            moved = True
            item = self.inbox.pop(0)
            if item is None:
                self.end()
            else:
                self.receive(item)
        return moved

    def settle(self) -> None:
        if self.closed == "lost" and self._is_stuck:
            return
        if self.closed == "aborted" and not self._gone:
            self._gone = True
            self.protocol.connectionLost(Failure(ConnectionLost()))
        super().settle()

    @property
    def gone(self) -> bool:
        """Whether the gate has been told that the connection is closed."""
        return self._gone


class Network(MemoryNetwork):
    """A network with exacting transports, on which connects are answered in any order."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__()
        self.accepts = False
        self._faults = faults

    def accept_any(self, place: int) -> Line:
        """The connect at *place* succeeds."""
        host, _, protocol, _ = self.connecting.pop(place)
        line = Line(protocol, host, self._faults)
        protocol.makeConnection(line)
        return line

    def fail_any(self, place: int, error: Exception) -> None:
        """The connect at *place* fails."""
        self.connecting.pop(place)[3](error)


class Gate(MemoryGate):
    """A gate that counts its exchanges, answers requests for the host ``own`` itself, and changes its servers."""

    def __init__(self, faults: list[str], **client: Any) -> None:
        super().__init__((), **client)
        self.network = Network(faults)
        self.rotation = Rotation()
        self.begun: list[Exchange] = []
        self.known: list[Upstream] = []
        self._faults = faults
        self._made = 0

    def client(self) -> Line:
        line = Line(ClientConnection(self, self.settings, self.deadlines), "192.0.2.7", self._faults)
        line.protocol.makeConnection(line)
        return line

    def saw(self, exchange: Exchange | None) -> None:
        """*exchange*, if it is one, has begun."""
        if exchange is not None and all(one is not exchange for one in self.begun):
            self.begun.append(exchange)

    def serve(self, exchange: Exchange) -> None:
        self.saw(exchange)
        if exchange.request.host == b"own":
            exchange.answer(404, b"404 page not found\n")
        else:
            super().serve(exchange)

    def change(self, kept: int, added: int, is_first: bool = False) -> None:
        """Keep the servers whose bits are set in *kept*, retire the others and add *added* new ones."""
        before = self.upstreams
        stay = [upstream for place, upstream in enumerate(before) if kept >> place & 1]
        for _ in range(added):
            self._made += 1
            url = f"http://10.0.0.{self._made}:80"
            upstream = Upstream(url, self.network, self.deadlines, UpstreamSettings(idle_connections=2))
            self.known.append(upstream)
            if stay:
                upstream.probe()
            stay.append(upstream)
        self.upstreams = stay
        room = self.leaf.room
        self.leaf = ReverseProxyResource("app@test", members_of(stay), self.rotation, room, Balancing())
        for upstream in before:
            if upstream not in stay:
                upstream.retire()
        room.changed(self.leaf, 5.0, False, not is_first)


@attrs.define(eq=False)
class Asked:
    """A request as its client has sent it.

    :ivar start: where it begins in what the client has sent.
    :ivar arrivals: the server's ends at which its head has arrived.
    """

    tag: int
    kind: str
    method: bytes
    body: bytes = attrs.field(repr=False)
    start: int
    end: int
    arrivals: list[Served] = attrs.field(factory=list, repr=False)


@attrs.define(eq=False)
class Answer:
    """An answer as a server sends it.

    :ivar pieces: what is still to be sent.
    :ivar whole: all of it was sent, and its end with it.
    """

    number: int
    asked: Asked
    pieces: list[bytes]
    body: bytes
    ends_with_connection: bool = False
    is_broken: bool = False
    whole: bool = False


class Visitor:
    """A client, and what it knows of its own requests."""

    def __init__(self, line: Line, world: World) -> None:
        self.line = line
        self.world = world
        self.asked: list[Asked] = []
        self.outgoing = b""
        self.queued = 0
        self.sent = 0
        self.answered = 0
        self.received = b""
        self.tunnel: Served | None = None
        #: What it has said, and heard, through the tunnel.
        self.spoken = b""
        self.tunnelled = b""
        #: Nothing that it sends from now on is a request: it has sent something malformed, or has asked for a tunnel.
        self.is_done = False

    def ask(self, asked: Asked, octets: bytes) -> None:
        """Put a request in the queue."""
        self.asked.append(asked)
        self.outgoing += octets
        self.queued += len(octets)

    def push(self, size: int) -> None:
        """Send *size* octets of the queue."""
        data, self.outgoing = self.outgoing[:size], self.outgoing[size:]
        if data:
            self.sent += len(data)
            self.line.send(data)

    def read(self) -> None:
        """Take what has come, and check it."""
        self.received += self.line.take()
        ended = self.line.closed == "lost" or (self.line.half_closed and self.line.closed is None)
        while self.tunnel is None:
            asked = self.asked[self.answered] if self.answered < len(self.asked) else None
            # Half a head is refused without regard to its method.
            method = asked.method if asked is not None and self.sent >= asked.end else b"GET"
            try:
                found = read_response(self.received, method, ended)
            except Malformed as error:
                self.world.faults.append(f"a client got something malformed: {error}")
                self.received = b""
                return
            if found is None:
                break
            message, self.received = found
            if asked is None or self.sent <= asked.start:
                self.world.faults.append(f"a client got an answer to nothing: {message}")
                return
            if message.status == 101:
                if asked.kind != "upgrade":
                    self.world.faults.append(f"101 to a request that asked for none: {asked}")
                    return
                self.answered += 1
                self.tunnel = asked.arrivals[-1]
            elif message.status >= 200:
                self.answered += 1
                self.world.check(asked, message)
        if self.tunnel is not None:
            self.tunnelled += self.received
            self.received = b""
            if not self.tunnel.spoken.startswith(self.tunnelled):
                self.world.faults.append(f"a tunnel said {self.tunnelled!r} for {self.tunnel.spoken!r}")
        elif ended and self.received:
            self.world.faults.append(f"an answer ends in good order amid its octets: {self.received[-200:]!r}")
            self.received = b""


class Served:
    """A server's end of a connection."""

    def __init__(self, line: Line, world: World) -> None:
        self.line = line
        self.world = world
        self.buffer = b""
        self.asked: Asked | None = None
        self.has_all = False
        self.has_answered = False
        self.answer: Answer | None = None
        self.is_tunnel = False
        #: What it has said, and heard, through the tunnel.
        self.spoken = b""
        self.heard = b""

    def read(self) -> None:
        """Take what has come, and check it."""
        data = self.line.take()
        if self.is_tunnel:
            self.heard += data
            return
        self.buffer += data
        while self.buffer and not self.is_tunnel:
            if self.asked is None:
                if b"\r\n\r\n" not in self.buffer:
                    self.world.faults.append(f"a server was sent part of a head: {self.buffer!r}")
                    return
                if self.buffer.startswith(b"OPTIONS * "):
                    # It is asked whether it is there: every second one is.
                    self.buffer = b""
                    if len(self.world.servers) % 2:
                        self.line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    return
                found = _TARGET.match(self.buffer)
                asked = self.world.requests.get(int(found[1])) if found else None
                if asked is None or asked.kind == "own":
                    self.world.faults.append(f"a server was asked what no client has asked: {self.buffer[:200]!r}")
                    self.buffer = b""
                    return
                self.asked = asked
                asked.arrivals.append(self)
                if asked.method == b"POST" and len(asked.arrivals) > 1:
                    self.world.faults.append(f"a POST reached servers more than once: {asked}")
            elif self.has_all:
                self.world.faults.append(f"a server was sent more while it answers: {self.buffer[:200]!r}")
                return
            try:
                whole = read_request(self.buffer)
            except Malformed as error:
                self.world.faults.append(f"a server was sent something malformed: {error}")
                self.buffer = b""
                return
            if whole is None:
                if self.has_answered and not self.line.inbox and not self.line.closed and not self.line.gone:
                    self.world.faults.append(f"a connection is kept on which {self.asked} was not sent whole")
                return
            message, self.buffer = whole
            self.has_all = True
            if message.body != self.asked.body or self.asked.kind == "broken":
                self.world.faults.append(f"a server took {message} for {self.asked}")
            self._next()

    def push(self) -> None:
        """Send the next piece of the answer."""
        answer = self.answer
        assert answer is not None
        if answer.pieces:
            if not self.line.is_open:
                answer.pieces.clear()
                return
            self.line.send(answer.pieces.pop(0))
            answer.whole = not answer.pieces and not answer.ends_with_connection and not answer.is_broken
        if answer.whole:
            self.answer = None
            self.has_answered = True
            self._next()

    def _next(self) -> None:
        """Wait for the next request, if this one was sent, and answered, to its end."""
        if self.has_all and self.has_answered:
            self.asked = None
            self.has_all = self.has_answered = False


class World:
    """Everything that can happen: the steps take what they need from chance, and do nothing where it makes no sense.

    :ivar ending: how a play ends: the servers ``answer``, fall ``silent``, or the clients ``leave``.
    :ivar trace: what has happened so far.
    :ivar faults: what should not have been.
    """

    def __init__(self, chance: Random) -> None:
        self.faults: list[str] = []
        self.trace: list[tuple[Any, ...]] = []
        self.requests: dict[int, Asked] = {}
        self.answers: dict[int, Answer] = {}
        self.visitors: list[Visitor] = []
        self.servers: list[Served] = []
        self.ending = chance.choice(("answer", "silent", "leave"))
        self._told: Counter[int] = Counter()
        options = chance.choice(_OPTIONS)
        self.gate = Gate(self.faults, **options)
        count = chance.randint(1, 3)
        self.trace.append(("the gate", options, count, "servers", self.ending))
        self.gate.change(0, count, is_first=True)

    def observe(self, event: Any) -> None:
        """An observer of the log, where nothing should be told of a failure."""
        if event.get("log_failure") is not None or event.get("isError"):
            self.faults.append(f"the log tells of {event}")

    # Clients.

    def _visitor(self, chance: Random) -> Visitor | None:
        """One of the clients."""
        return chance.choice(self.visitors) if self.visitors else None

    def client_comes(self, chance: Random) -> None:
        if len(self.visitors) < 4:
            self.trace.append(("client comes", len(self.visitors)))
            self.visitors.append(Visitor(self.gate.client(), self))

    def client_asks(self, chance: Random) -> None:
        """Some requests, one behind the other."""
        visitor = self._visitor(chance)
        kind, length = chance.choice(_KINDS)
        many = chance.choice((1, 1, 2, 3))
        size = chance.choice((20, 135, 170, 3000, _ALL, _ALL, _ALL, 0))
        if visitor is None or visitor.is_done:
            return
        self.trace.append(("client asks", self.visitors.index(visitor), kind, length, many, "and sends", size))
        for _ in range(many):
            if not visitor.is_done:
                self._ask(visitor, kind, b"q" * length)
        visitor.push(size)

    def _ask(self, visitor: Visitor, kind: str, body: bytes) -> None:
        tag = len(self.requests) + 1
        method = b"POST" if body else b"HEAD" if kind == "head" else b"GET"
        if body:
            body = b"%d." % tag + body + b".%d" % tag
        fields = [b"Host: " + (b"own" if kind == "own" else b"a")]
        if kind == "upgrade":
            fields += [b"Connection: Upgrade", b"Upgrade: websocket"]
        elif kind == "close":
            fields.append(b"Connection: close")
        elif kind == "expect":
            fields.append(b"Expect: 100-continue")
        framed = body
        if kind in ("chunked", "broken"):
            fields.append(b"Transfer-Encoding: chunked")
            half = len(body) // 2
            bad = b"zz\r\n" if kind == "broken" else b""
            framed = b"%x\r\n%b\r\n%b%x\r\n%b\r\n0\r\n\r\n" % (half, body[:half], bad, len(body) - half, body[half:])
        elif body:
            fields.append(b"Content-Length: %d" % len(body))
        version = b"1.0" if kind.startswith("old") else b"1.1"
        head = b"%b /%d HTTP/%b\r\n%b\r\n\r\n" % (method, tag, version, b"\r\n".join(fields))
        octets = head + framed
        start = visitor.queued
        asked = Asked(tag, kind, method, body, start, start + len(octets))
        self.requests[tag] = asked
        visitor.ask(asked, octets)
        visitor.is_done = kind in ("upgrade", "broken")

    def client_goes_on(self, chance: Random) -> None:
        visitor = self._visitor(chance)
        size = chance.choice((1, 40, 3000, _ALL))
        if visitor is None:
            return
        self.trace.append(("client goes on", self.visitors.index(visitor), size))
        visitor.push(size)
        if visitor.tunnel is not None and visitor.line.is_open:
            visitor.spoken += b"c%d." % size
            visitor.line.send(b"c%d." % size)

    def client_ends(self, chance: Random) -> None:
        self._to_line("client ends", self.visitors, chance, lambda line: line.send(None))

    def client_resets(self, chance: Random) -> None:
        self._to_line("client resets", self.visitors, chance, Line.reset)

    def client_clogs(self, chance: Random) -> None:
        self._to_line("client clogs or unclogs", self.visitors, chance, lambda line: line.clog(not line.clogged))

    def _to_line(
        self, what: str, sides: Sequence[Visitor | Served], chance: Random, do: Callable[[Line], object]
    ) -> None:
        """Do something to the line of one of *sides*."""
        if sides:
            place = chance.randrange(len(sides))
            self.trace.append((what, place))
            do(sides[place].line)

    # Servers.

    def connect_is_answered(self, chance: Random) -> None:
        outcome = chance.choice(("made", "made", "made", "made", "refused", "late"))
        count = len(self.gate.network.connecting)
        if count:
            self._connect(chance.randrange(count), outcome)

    def _connect(self, place: int, outcome: str) -> None:
        network: Any = self.gate.network
        self.trace.append(("connect", place, outcome))
        if outcome == "made":
            self.servers.append(Served(network.accept_any(place), self))
        else:
            network.fail_any(place, ConnectionRefusedError() if outcome == "refused" else ConnectTimeout("late"))

    def server_answers(self, chance: Random) -> None:
        """A server begins an answer, and sends some pieces of it."""
        asking = [
            served
            for served in self.servers
            if served.asked is not None and served.answer is None and not served.has_answered
        ]
        if not asking:
            return
        served = chance.choice(asking)
        kind = chance.choice(_ANSWERS)
        places = [chance.randrange(200) for _ in range(chance.randint(0, 3))]
        pieces = chance.randint(0, 4)
        self.trace.append(("server answers", self.servers.index(served), kind, places, pieces))
        self._answer(served, kind, chance.randint(0, 30), places)
        for _ in range(pieces):
            if served.answer is not None:
                served.push()

    def _answer(self, served: Served, kind: str, length: int, places: list[int]) -> None:
        asked = served.asked
        assert asked is not None
        number = len(self.answers) + 1
        body = b"%d." % number + b"a" * length + b".%d" % number
        if asked.kind == "upgrade" and kind == "length" and served.line.is_open:
            served.is_tunnel = True
            served.asked = None
            served.line.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            return
        head = b"HTTP/1.%d 200 OK\r\nX-Answer: %d\r\n" % (kind != "old", number)
        answer = Answer(number, asked, [], body)
        chunks = b"%x\r\n%b\r\n" % (len(body), body)
        if kind == "none":
            head = b"HTTP/1.1 204 No Content\r\nX-Answer: %d\r\n\r\n" % number
            answer.body = framed = b""
        elif kind in ("chunked", "trailers", "broken"):
            head += b"Transfer-Encoding: chunked\r\n\r\n"
            end = {"chunked": b"0\r\n\r\n", "trailers": b"0\r\nX-Sum: 1\r\n\r\n", "broken": b"zz\r\n"}[kind]
            framed = chunks + end
        elif kind == "close":
            head += b"\r\n"
            framed = body
            answer.ends_with_connection = asked.method != b"HEAD"
        elif kind == "garbage":
            head = b"SSH-2.0-OpenSSH_9.2\r\n\r\n"
            framed = b""
        else:
            head += b"Content-Length: %d\r\n\r\n" % len(body)
            framed = body
            if kind == "early":
                head = b"HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\r\n" + head
            elif kind == "continue":
                head = b"HTTP/1.1 100 Continue\r\n\r\n" + head
        if asked.method == b"HEAD":
            answer.body = framed = b""
        elif kind == "broken":
            answer.is_broken = True
        if kind == "garbage":
            answer.is_broken = True
        answer.pieces = cut(head + framed, places)
        if kind == "excess":
            # Behind the last octets, not after them: then nobody could tell it from the answer to the next request.
            answer.pieces[-1] += EVIL
        self.answers[number] = answer
        served.answer = answer

    def server_goes_on(self, chance: Random) -> None:
        if not self.servers:
            return
        served = chance.choice(self.servers)
        self.trace.append(("server goes on", self.servers.index(served)))
        if served.answer is not None:
            served.push()
        elif served.is_tunnel and served.line.is_open:
            served.spoken += b"s%d." % len(self.trace)
            served.line.send(b"s%d." % len(self.trace))

    def server_ends(self, chance: Random) -> None:
        if self.servers:
            served = chance.choice(self.servers)
            self.trace.append(("server ends", self.servers.index(served)))
            self._end(served)

    def _end(self, served: Served) -> None:
        answer = served.answer
        if answer is not None and answer.ends_with_connection and served.line.is_open:
            # Whatever was sent of the body is the whole of it.
            left = sum(map(len, answer.pieces))
            if left <= len(answer.body):
                answer.body = answer.body[: len(answer.body) - left]
                answer.whole = True
        served.line.send(None)

    def server_resets(self, chance: Random) -> None:
        self._to_line("server resets", self.servers, chance, Line.reset)

    def server_clogs(self, chance: Random) -> None:
        self._to_line("server clogs or unclogs", self.servers, chance, lambda line: line.clog(not line.clogged))

    def server_speaks_unasked(self, chance: Random) -> None:
        idle = [
            served for served in self.servers if served.asked is None and not served.is_tunnel and not served.line.inbox
        ]
        if idle:
            served = chance.choice(idle)
            self.trace.append(("server speaks unasked", self.servers.index(served)))
            served.line.send(EVIL)

    # The gate.

    def time_passes(self, chance: Random) -> None:
        seconds = chance.choice((0.25, 0.25, 1.25, 3.25, 11.0, 61.0, 95.0))
        self.trace.append(("time passes", seconds))
        self.gate.clock.advance(seconds)

    def closings_arrive(self, chance: Random) -> None:
        """The gate is told that the connections which it has closed are closed."""
        self.trace.append(("closings arrive",))
        for side in (*self.visitors, *self.servers):
            side.line.settle()

    def servers_change(self, chance: Random) -> None:
        kept, added = chance.randrange(8), chance.randrange(3)
        if len(self.gate.known) < 8:
            self.trace.append(("servers change", kept, added))
            self.gate.change(kept, added)

    def gate_drains(self, chance: Random) -> None:
        if self.visitors and not self.gate.draining:
            self.trace.append(("the gate drains",))
            self.gate.draining = True  # type: ignore[misc]
            for connection in list(self.gate.connections):
                connection.close_when_idle()

    def gate_sends_all_away(self, chance: Random) -> None:
        if self.gate.draining:
            self.trace.append(("the gate sends all away",))
            for connection in list(self.gate.connections):
                connection.abort()

    # What must hold.

    def check(self, asked: Asked, message: Message) -> None:
        """*message* came as the answer to *asked*."""
        numbers = message.values(b"x-answer")
        if not numbers:
            if message.status == 200:
                self.faults.append(f"{asked} got {message}, which no server has sent")
            return
        answer = self.answers.get(int(numbers[0]))
        self._told[int(numbers[0])] += 1
        if answer is None or answer.asked is not asked or self._told[answer.number] > 1:
            self.faults.append(f"{asked} got {message}, which is the answer {answer}")
        elif not answer.whole or message.body != answer.body:
            self.faults.append(f"{asked} got {message} as the whole of {answer}")

    def _look(self) -> bool:
        moved = False
        for side in (*self.visitors, *self.servers):
            moved = side.line.pump() or moved
        for side in (*self.visitors, *self.servers):
            side.read()
        return moved

    def look(self) -> None:
        """Let everybody take what has come, and look at what must always hold."""
        while self._look():
            pass
        for visitor in self.visitors:
            # Whose body is held back has begun, and is not served yet.
            self.gate.saw(visitor.line.protocol._exchange)
            if visitor.tunnel is not None and not visitor.spoken.startswith(visitor.tunnel.heard):
                self.faults.append(f"a tunnel was told {visitor.tunnel.heard!r} for {visitor.spoken!r}")
        for upstream in self.gate.known:
            if upstream.in_flight < 0:
                self.faults.append(f"less than nothing in flight: {upstream}")

    def finish(self) -> None:
        """Let all that is under way come to its end, and look at what is left."""
        gate = self.gate
        for side in (*self.visitors, *self.servers):
            if self.ending == "answer":
                side.line.clog(False)
        for visitor in self.visitors:
            if self.ending == "leave":
                visitor.line.reset()
            elif self.ending == "answer":
                visitor.push(len(visitor.outgoing))
        if self.ending == "answer":
            gate.change(0, 1)
        for _ in range(60):
            self._answer_all()
            gate.clock.advance(0.25)
        if self.ending == "answer":
            for visitor in self.visitors:
                if not visitor.line.closed and visitor.answered < len(visitor.asked):
                    self.faults.append(f"no answer to {visitor.asked[visitor.answered]}")
        for _ in range(200):
            if not len(gate.deadlines):
                break
            gate.clock.advance(20.0)
            self._answer_all()
        for visitor in self.visitors:
            if not visitor.line.gone:
                self.faults.append(f"still open: {visitor.line.protocol}")
        for served in self.servers:
            if not served.line.gone:
                self.faults.append(f"still open: {served.line.protocol}")
        for upstream in gate.known:
            if upstream.in_flight or upstream.idle():
                self.faults.append(f"something is left of {upstream}")
        if len(gate.deadlines) or len(gate.leaf.room) or gate.connections:
            self.faults.append(f"left: {gate.deadlines._members} {gate.connections}")
        gate.clock.advance(1)
        if gate.clock.getDelayedCalls():
            self.faults.append("the timer does not rest")
        finished = Counter(map(id, gate.finished_exchanges))
        if any(times > 1 for times in finished.values()) or not finished.keys() >= set(map(id, gate.begun)):
            self.faults.append(f"begun: {gate.begun}, finished: {gate.finished_exchanges}")

    def _answer_all(self) -> None:
        """One round of everything that can happen now, as the run is to end."""
        for _ in range(50):
            moved = self._look()
            while self.gate.network.connecting:
                self._connect(0, "made" if self.ending == "answer" else "late")
                moved = True
            for side in (*self.visitors, *self.servers):
                if side.line.closed and not side.line.gone:
                    side.line.settle()
                    moved = moved or side.line.gone
            for visitor in self.visitors:
                lines = (visitor.line, visitor.tunnel.line) if visitor.tunnel is not None else ()
                if lines and all(line.clogged and not line.gone for line in lines):
                    # Neither takes anything, so neither is listened to: a tunnel may stay like this.
                    moved = True
                    visitor.line.reset()
                for line in lines:
                    moved = moved or line.is_open
                    line.send(None)
            for served in self.servers:
                moved = (self.ending == "answer" and self._serve(served)) or moved
            self._look()
            if not moved:
                return
        self.faults.append("it never comes to rest")

    def _serve(self, served: Served) -> bool:
        """Let *served* answer what it was asked. Returns whether there was something."""
        if not served.line.is_open:
            return False
        if served.answer is None and served.asked is not None and served.has_all and not served.has_answered:
            self._answer(served, "length", 3, [])
            return True
        if served.answer is not None and served.answer.pieces:
            served.push()
            return True
        if served.answer is not None:
            self._end(served)
            return True
        return False


#: How often each step comes.
_WEIGHTS: dict[Callable[[World, Random], None], float] = {
    World.client_comes: 2,
    World.client_asks: 8,
    World.client_goes_on: 4,
    World.client_ends: 0.5,
    World.client_resets: 0.5,
    World.client_clogs: 1,
    World.connect_is_answered: 6,
    World.server_answers: 7,
    World.server_goes_on: 6,
    World.server_ends: 1,
    World.server_resets: 0.6,
    World.server_clogs: 1,
    World.server_speaks_unasked: 0.4,
    World.time_passes: 2,
    World.closings_arrive: 3,
    World.servers_change: 0.4,
    World.gate_drains: 0.1,
    World.gate_sends_all_away: 0.3,
}
_STEPS = list(_WEIGHTS)

#: What happens, each step with a chance of its own, so that a step does the same whatever comes before it.
Schedule = list[tuple[Callable[[World, Random], None], int]]


def draw(seed: int) -> Schedule:
    """The schedule that belongs to *seed*."""
    chance = Random(seed)
    steps = chance.choices(_STEPS, list(_WEIGHTS.values()), k=chance.randint(5, 80))
    return [(step, chance.getrandbits(32)) for step in steps]


def play(seed: int, schedule: Schedule) -> World:
    """The world after *schedule*, or after the step of it that went wrong."""
    world = World(Random(seed))
    globalLogPublisher.addObserver(world.observe)
    try:
        for step, number in schedule:
            step(world, Random(number))
            world.look()
            if world.faults:
                return world
        world.finish()
    except Exception:
        world.faults.append(Failure().getTraceback())
    finally:
        globalLogPublisher.removeObserver(world.observe)
    return world


def shorten(seed: int, schedule: Schedule) -> World:
    """The world after a schedule with fewer steps that goes wrong too."""
    size = len(schedule)
    while size:
        start = 0
        while start < len(schedule):
            shorter = schedule[:start] + schedule[start + size :]
            if play(seed, shorter).faults:
                schedule = shorter
            else:
                start += size
        size //= 2
    return play(seed, schedule)


class RaceTests(SynchronousTestCase):
    def test_any_order(self) -> None:
        """Whatever happens when: answers go to who asked, whole or visibly cut short, and nothing stays behind."""
        start = Random().getrandbits(32)
        answered = asked = 0
        for seed in range(start, start + 4000):
            schedule = draw(seed)
            world = play(seed, schedule)
            if world.faults:
                world = shorten(seed, schedule)
                self.fail("\n".join([f"seed {seed}:", *map(str, world.trace), "", *world.faults]))
            asked += len(world.requests)
            answered += sum(visitor.answered for visitor in world.visitors)
        # Without answers nothing would be proven.
        self.assertGreater(asked, 4000)
        self.assertGreater(answered, asked / 4)


HALF_A_POST = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nhello"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class OrderTests(SynchronousTestCase):
    """Orders of events of which each has gone wrong once."""

    def setUp(self) -> None:
        self.faults: list[str] = []

    def gate(self, **client: Any) -> Gate:
        """A gate with one server."""
        gate = Gate(self.faults, **client)
        gate.change(0, 1, is_first=True)
        return gate

    def accept(self, gate: Gate) -> Line:
        """The server's connection that is being made."""
        network: Any = gate.network
        line: Line = network.accept_any(0)
        return line

    def test_server_ends_before_it_is_asked_again(self) -> None:
        """A kept connection is left alone from the moment that its server ends it, so a POST is not lost on it."""
        gate = self.gate()
        client = gate.client()
        client.receive(GET)
        server = self.accept(gate)
        server.receive(OK)
        server.end()
        client.receive(HALF_A_POST + b"world")
        self.accept(gate).receive(OK)
        self.assertEqual((server.take().count(b"HTTP/1.1"), self.faults), (1, []))
        self.assertEqual(client.take().count(b"200 OK"), 2)

    def test_probed_connection_is_closed_before_the_answer(self) -> None:
        """The first request on the connection that a probe has made is asked again, as on any kept one."""
        gate = self.gate()
        gate.change(1, 1)
        gate.change(2, 0)
        server = self.accept(gate)
        client = gate.client()
        client.receive(GET)
        server.reset()
        self.accept(gate).receive(OK)
        self.assertIn(b"200 OK", client.take())

    def test_client_ends_amid_its_body(self) -> None:
        """A client that ends amid its request's body gets nothing, and the server's connection is given up at once."""
        gate = self.gate()
        client = gate.client()
        client.receive(HALF_A_POST)
        server = self.accept(gate)
        client.end()
        self.assertEqual((client.closed, server.closed), ("lost", "aborted"))
        self.assertEqual([exchange.status for exchange in gate.finished_exchanges], [499])
        server.receive(OK)
        server.settle()
        self.assertEqual((client.take(), self.faults), (b"", []))

    def test_client_ends_amid_its_body_and_its_answer(self) -> None:
        """An answer of unknown length that will not be finished does not end in good order."""
        gate = self.gate()
        client = gate.client()
        client.receive(HALF_A_POST.replace(b"HTTP/1.1", b"HTTP/1.0"))
        self.accept(gate).receive(b"HTTP/1.1 200 OK\r\n\r\nhalf an ans")
        self.assertIn(b"half", client.take())
        client.end()
        self.assertEqual(client.closed, "aborted")

    def test_client_ends_before_its_tunnel(self) -> None:
        """Who asks for a tunnel and ends is not given one, of which nobody would ever learn that it is over."""
        gate = self.gate()
        client = gate.client()
        client.receive(UPGRADE)
        server = self.accept(gate)
        client.end()
        self.assertEqual((client.closed, server.closed), ("lost", "aborted"))

    def test_request_timeout_while_a_connection_is_made(self) -> None:
        """The time that a request may take is not forgotten while its body waits for a server, nor after that."""
        for is_chunked in (False, True):
            gate = self.gate(request_timeout=5.0)
            client = gate.client()
            if is_chunked:
                client.receive(HALF_A_POST.replace(b"Content-Length: 10", b"Transfer-Encoding: chunked")[:-5])
                client.receive(b"5\r\nhello\r\n")
            else:
                client.receive(HALF_A_POST)
            gate.advance(1.25)
            self.accept(gate)
            gate.advance(3.5)
            self.assertEqual(client.take(), b"")
            gate.advance(0.75)
            self.assertIn(b"408", client.take())

    def test_half_a_head_behind_an_answered_request(self) -> None:
        """The begin of a head that came with a request that was answered at once does not keep its connection open."""
        gate = self.gate()
        client = gate.client()
        client.receive(b"GET / HTTP/1.1\r\nHost: own\r\n\r\nGET / HT")
        self.assertIn(b"404", client.take())
        gate.advance(10.5)
        self.assertIn(b"408", client.take())
        gate.advance(1.5)
        self.assertEqual(client.closed, "aborted")

    def test_server_takes_nothing_and_answers(self) -> None:
        """A connection that is closed is gone soon, though its server never takes the rest of the request."""
        gate = self.gate()
        client = gate.client()
        client.receive(HALF_A_POST)
        server = self.accept(gate)
        server.clog(True)
        server.receive(OK)
        self.assertEqual(server.closed, "lost")
        gate.advance(10.5)
        self.assertEqual(server.closed, "aborted")

    def tunnel(self) -> tuple[Gate, Line, Line]:
        """A gate, and both ends of a tunnel through it."""
        gate = self.gate()
        client = gate.client()
        client.receive(UPGRADE)
        server = self.accept(gate)
        server.receive(SWITCH)
        return gate, client, server

    def test_tunnel_whose_client_takes_nothing_at_its_end(self) -> None:
        """A tunnel that its server has closed is gone soon, though its client never takes what is left."""
        gate, client, server = self.tunnel()
        client.clog(True)
        server.receive(b"more")
        server.reset()
        self.assertEqual(client.closed, "lost")
        gate.advance(10.5)
        self.assertEqual(client.closed, "aborted")

    def test_tunnel_whose_server_takes_nothing_at_its_end(self) -> None:
        """A tunnel that its client has closed is gone soon, though its server never takes what is left."""
        gate, client, server = self.tunnel()
        server.clog(True)
        client.receive(b"more")
        client.reset()
        self.assertEqual(server.closed, "lost")
        gate.advance(10.5)
        self.assertEqual(server.closed, "aborted")

    def test_tunnel_whose_server_has_ended(self) -> None:
        """A tunnel of which one side has ended lives on for a minute, whichever side it is."""
        for server_ends in (True, False):
            gate, client, server = self.tunnel()
            (server if server_ends else client).end()
            gate.advance(59)
            self.assertEqual((client.closed, server.closed), (None, None))
            gate.advance(1.5)
            self.assertEqual((server if server_ends else client).closed, "aborted")
            client.settle()
            server.settle()
            gate.advance(10.5)
            client.settle()
            server.settle()
            self.assertEqual((client.gone, server.gone, len(gate.deadlines)), (True, True, 0))
