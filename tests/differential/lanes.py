"""Sequences of octets through a gate to servers of all kinds, and what each of them saw.

Each server has a lane: an entry point of the gate that leads to it alone, and a relay between the two that keeps what
the gate sends. One connection at a time goes through a lane, so all that comes out of it belongs to what went in.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import attrs

from tests.differential.grammar import sequence
from tests.differential.meaning import Meaning, Meant, completed, fingerprint
from tests.differential.origins import Origin
from tests.wire import Malformed, Message, read_request, read_response

#: Seconds in which all answers to a sequence must be there.
PATIENCE = 15.0


@attrs.frozen
class Finding:
    """Something that should not be.

    :ivar number: of the sequence, by which it can be repeated.
    """

    origin: str
    number: int
    what: str
    octets: bytes

    def __str__(self) -> str:
        return f"{self.origin} #{self.number}: {self.what[:300]}\n    {self.octets[:600]!r}"


class _Side(asyncio.Protocol):
    """One of the two connections of a relay: what comes goes to the other one."""

    def __init__(self, kept: bytearray | None, other: Any = None, relay: Any = None) -> None:
        self.kept = kept
        self._relay = relay
        self.other = other
        self.transport: Any = None
        self.early = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.kept is not None:
            if not self.kept and data == self._relay.question:
                # Of a server that takes long to answer the gate finds out whether it is there. No client's request is
                # passed on as that, and no server shall count it.
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                self.transport.close()
                return
            self.kept += data
        elif self._relay.change is not None:
            data = self._relay.change(data)
        if self.other is None or self.other.transport is None:
            self.early += data
        elif not self.other.transport.is_closing():
            self.other.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class Relay:
    """Stands between the gate and a server.

    :ivar change: makes something else of what the server says, for tests of the test.
    """

    def __init__(self, port: int, to: int) -> None:
        #: The gate's connections that are open, or were since the last look.
        self._sides: list[_Side] = []
        self.change: Any = None
        self.port = port
        self.question = b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n" % port
        self._to = to
        self._server: Any = None
        self._tasks: set[Any] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.get_running_loop().create_server(self._accepted, "127.0.0.1", self.port)

    def _accepted(self) -> _Side:
        gate = _Side(bytearray(), relay=self)
        self._sides.append(gate)
        task = asyncio.ensure_future(self._connect(gate))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return gate

    async def _connect(self, gate: _Side) -> None:
        server = _Side(None, gate, self)
        await asyncio.get_running_loop().create_connection(lambda: server, "127.0.0.1", self._to)
        gate.other = server
        server.transport.write(gate.early)
        if gate.transport.is_closing():
            server.transport.close()

    def taken(self) -> list[bytes]:
        """What the gate has sent over each of its connections since the last call."""
        taken = [bytes(side.kept) for side in self._sides if side.kept]
        self._sides = [side for side in self._sides if side.transport is None or not side.transport.is_closing()]
        for side in self._sides:
            side.kept = bytearray()
        return taken

    def stop(self) -> None:
        """Listen no more."""
        self._server.close()


class _Client(asyncio.Protocol):
    """A connection to the gate."""

    def __init__(self) -> None:
        self.received = b""
        self.ended = False
        self.transport: Any = None
        self._news: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._tell()

    def eof_received(self) -> bool:
        self.ended = True
        self._tell()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = True
        self._tell()

    def write(self, data: bytes) -> None:
        """Send *data*, unless the gate has ended the connection."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def news(self, patience: float) -> bool:
        """Wait for more, or the end; False if there is none in time."""
        if self.ended:
            return True
        self._news = asyncio.get_running_loop().create_future()
        timer = asyncio.get_running_loop().call_later(patience, self._tell_late, self._news)
        try:
            await self._news
        except TimeoutError:
            return False
        finally:
            timer.cancel()
        return True

    @staticmethod
    def _tell_late(news: asyncio.Future[None]) -> None:
        if not news.done():
            news.set_exception(TimeoutError())


class Lane:
    """The way to one server.

    :ivar tally: how often what came out.
    """

    def __init__(self, origin: Origin, port: int, relay_port: int) -> None:
        """
        :param port: of the gate's entry point.
        :param relay_port: where the gate finds the server.
        """
        self.origin = origin
        self.port = port
        self.relay = Relay(relay_port, origin.port)
        self.tally: Counter[str] = Counter()
        self.findings: list[Finding] = []
        self._client: _Client | None = None
        self._count: int | None = None
        #: For a server that tells of bodies in its log only.
        self._bodies: list[tuple[int, Meant]] = []
        self._log_from = 0

    async def play(self, number: int, octets: bytes, cuts: Random | None = None) -> None:
        """Send *octets* and judge what comes of them.

        :param cuts: where they are cut to pieces; None for nowhere.
        """
        found = completed(octets, cut=cuts is not None)
        if found is None:
            self.tally["left out"] += 1
            return
        octets, meant = found
        if not octets:
            return
        complaints = await self._perform(number, octets, meant, cuts)
        self.tally["requests"] += len(meant.requests) + bool(meant.refused)
        self.tally["sequences"] += 1
        for complaint in complaints:
            self.findings.append(Finding(self.origin.name, number, complaint, octets))
        if complaints or found[1].is_begun:
            self.drop()
            self._count = None  # It may have counted a request that never became whole.

    def drop(self) -> None:
        """Close the connection to the gate."""
        client, self._client = self._client, None
        if client is not None:
            client.transport.abort()

    async def _perform(self, number: int, octets: bytes, meant: Meaning, cuts: Random | None) -> list[str]:
        client = self._client
        if client is None or client.ended:
            self._client = client = _Client()
            await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", self.port)
        client.received = b""
        self.relay.taken()
        if cuts is not None and len(octets) > 1:
            at = 0
            for place in sorted(cuts.sample(range(1, len(octets)), min(len(octets) - 1, cuts.randint(1, 3)))):
                client.write(octets[at:place])
                at = place
                await asyncio.sleep(0.001)
            client.write(octets[at:])
        else:
            client.write(octets)
        methods = [*meant.methods, b"GET"][: len(meant.requests) + bool(meant.refused)]
        answers: list[Message] = []
        closes = bool(meant.closes)
        while len(answers) < len(methods) or (closes and not client.ended):
            try:
                while len(answers) < len(methods):
                    read = read_response(client.received, methods[len(answers)], client.ended)
                    if read is None:
                        break
                    message, client.received = read
                    if message.status >= 200:
                        answers.append(message)
                        if message.closes:
                            closes = True
            except Malformed as error:
                return [f"the client got something malformed: {error}"]
            if len(answers) == len(methods) and not (closes and not client.ended):
                break
            if client.ended:
                break
            if not await client.news(PATIENCE):
                return [f"{len(answers)} of {len(methods)} answers after {PATIENCE:.0f} s, then silence; {meant}"]
        if client.ended or closes:
            self.drop()
        return [*self._judge(number, meant, answers, self.relay.taken(), client.received, cuts is not None)]

    def _judge(
        self, number: int, meant: Meaning, answers: list[Message], sent: list[bytes], rest: bytes, is_cut: bool
    ) -> Iterator[str]:
        expected = [request for request in meant.requests if request is not None]
        if rest:
            yield f"the client got more than the answers: {rest[:200]!r}"
        # What the gate has sent.
        written: list[tuple[Any, ...]] = []
        partly = b""
        try:
            for left in sent:
                while (read := read_request(left)) is not None:
                    message, left = read
                    written.append((*message.start[:2], b",".join(message.values(b"host")), fingerprint(message.body)))
                partly = partly or left
        except Malformed as error:
            yield f"the gate sent something malformed: {error}"
            return
        # Whether what was asked is answered, by whom.
        seen: list[Any] = []
        refused_by_origin = False
        for place, answer in enumerate(answers):
            saw = answer.values(b"x-saw")
            if place >= len(meant.requests):
                # Cut to pieces, it may be refused for what is wrong with its beginning.
                if saw or answer.status < 400 or (answer.status != meant.refused and not is_cut):
                    yield f"{answer.status} where {meant.refused} was meant {saw}"
                self.tally[f"refused {answer.status}"] += 1
            elif meant.requests[place] is None:
                if saw or answer.status != 200:
                    yield f"{answer.status} of a server where the gate answers"
                self.tally["answered"] += 1
            elif not saw:
                # Not understood by this server, or turned down: it must be its answer, and not the gate's.
                refused_by_origin = True
                self.tally[f"the server says {answer.status}"] += 1
                seen.append(None)
            else:
                self.tally["forwarded"] += 1
                seen.append(saw[0])
        if partly and not meant.is_begun and not refused_by_origin:
            yield f"the gate sent part of a request: {partly[:200]!r}"
        asked = [request.seen for request in expected]
        if refused_by_origin:
            # The server may have answered, and closed the connection, before it was sent all.
            asked = [one for one in asked if one in written]
        elif len(answers) < len(meant.requests) + bool(meant.refused):
            yield f"{len(answers)} answers, but {len(meant.requests) + bool(meant.refused)} were meant"
        if written != asked and [*dict.fromkeys(written)] != [*dict.fromkeys(asked)]:
            yield f"the gate sent {written}, but meant {asked}"
        elif len(written) > len(asked):
            self.tally["repeated"] += len(written) - len(asked)
        for request, saw_ in zip(expected, seen, strict=False):
            if saw_ is not None:
                yield from self._compare(number, request, saw_)
        if refused_by_origin:
            self._count = None  # Whether it counts what it turns down is its affair.

    def _compare(self, number: int, meant: Meant, saw: bytes) -> Iterator[str]:
        method, target, host, (size, digest) = meant.seen
        if self.origin.name == "uvicorn" and target.endswith(b"?") and target.count(b"?") == 1:
            target = target[:-1]  # ASGI does not tell the difference.
        told = saw.split(b"|", 1)
        wanted = b"|".join((method, target, host))
        if self.origin.counts:
            wanted += b"|%d|%b" % (size, digest.encode())
            count = int(told[0])
            if self._count is not None and count != self._count + 1:
                yield f"its request number {count} came after number {self._count}"
            self._count = count
        else:
            self._bodies.append((number, meant))
        if told[1] != wanted:
            yield f"it saw {told[1]!r}, but {wanted!r} was meant"

    async def settle(self) -> None:
        """Compare what the server has logged with what was meant, where that is how it tells."""
        log = self.origin.log
        if log is None:
            return
        await asyncio.sleep(0.2)  # The last line is written after the answer.
        with open(log, "rb") as lines:
            lines.seek(self._log_from)
            logged = [line.rstrip(b"\n").rsplit(b"\t", 1) for line in lines]
            self._log_from = lines.tell()
        bodies, self._bodies = self._bodies, []
        good = [body for _, body in logged]
        # Requests that it refuses are logged, too, without a body.
        at = 0
        for number, meant in bodies:
            while at < len(good) and fingerprint(_unescaped(good[at])) != meant.body:
                self.tally["logged besides"] += 1
                at += 1
            if at == len(good):
                self.findings.append(Finding(self.origin.name, number, f"no log line has the body of {meant}", b""))
                return
            at += 1
        refused = sum(count for name, count in self.tally.items() if name.startswith("the server says"))
        self.tally["logged besides"] += len(good) - at
        if self.tally["logged besides"] > refused:
            what = f"{self.tally['logged besides']} requests logged besides those meant, but {refused} turned down"
            self.findings.append(Finding(self.origin.name, -1, what, b""))


_ESCAPED = re.compile(rb"\\x([0-9A-F]{2})")


def _unescaped(logged: bytes) -> bytes:
    if logged == b"-":
        return b""
    return _ESCAPED.sub(lambda found: bytes((int(found[1], 16),)), logged)


async def run(
    lanes: list[Lane], seed: int, numbers: itertools.count[int], requests: int, seconds: float, findings: int = 20
) -> int:
    """Play sequences of that *seed*, from the next of *numbers* on, through all *lanes*.

    :param requests: how many requests, of all lanes together, are enough.
    :param seconds: how long it may take.
    :param findings: how many are enough.
    :returns: the number that comes next.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds

    async def drive(lane: Lane) -> None:
        while loop.time() < until and sum(one.tally["requests"] for one in lanes) < requests:
            if sum(len(one.findings) for one in lanes) >= findings:
                break
            number = next(numbers)
            await lane.play(number, sequence(seed, number), Random(number) if number % 8 == 0 else None)
        lane.drop()
        await lane.settle()

    for lane in lanes:
        await lane.relay.start()
    await asyncio.gather(*(drive(lane) for lane in lanes))
    for lane in lanes:
        lane.relay.stop()
    return next(numbers)


def shrunk(octets: bytes, fails: Any, attempts: int = 300) -> bytes:
    """The shortest part of *octets* that still *fails*, as far as leaving out pieces of it finds one."""
    size = len(octets) // 2
    while size and attempts:
        at = 0
        while at < len(octets) and attempts:
            attempts -= 1
            shorter = octets[:at] + octets[at + size :]
            if fails(shorter):
                octets = shorter
            else:
                at += size
        size //= 2
    return octets
