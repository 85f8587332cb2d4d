"""What a running gate does with connections, failures and streams."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.corpus import answers, echo
from tests.e2e.gate import Gate, free_port, routes
from tests.e2e.wires import PATIENCE, Client, Origin, barrier, connect
from tests.wire import Message, read_request

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"Connection: close\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def one_request(reader: asyncio.StreamReader) -> Message | None:
    """The next request, with its body; None at the connection's end."""
    buffer = b""
    while data := await reader.read(65536):
        buffer += data
        found = read_request(buffer)
        if found is not None:
            return found[0]
    return None


async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve a connection: every request gets what it was taken for."""
    while (message := await one_request(reader)) is not None:
        body = echo(message)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def sends(sent: bytes) -> Serve:
    """A backend that answers every request with *sent*."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await one_request(reader) is not None:
            writer.write(sent)

    return serve


def reset(writer: asyncio.StreamWriter) -> None:
    """Break a connection off, so that the other side can't take that for a good end (RST)."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Fixture(SynchronousTestCase):
    """A gate that all tests of a class share, and a backend that each makes for itself.

    The host ``a`` is routed to it. ``dead`` has a server that refuses connections beside it, ``refused`` only that one,
    and ``empty`` has none.
    """

    options: tuple[str, ...] = ()
    uvloop = True
    gate: Gate | None = None
    backend_port = 0

    def setUp(self) -> None:
        """Start the gate for the first test."""
        kind = type(self)
        if kind.gate is None:
            kind.backend_port, dead = free_port(), free_port()
            services = {"a": [kind.backend_port], "dead": [dead, kind.backend_port], "refused": [dead], "empty": []}
            kind.gate = Gate(routes(services, {name: name for name in services}), *kind.options, uvloop=kind.uvloop)

    @property
    def running(self) -> Gate:
        """The gate."""
        assert self.gate is not None
        return self.gate

    def play(self, scenario: Coroutine[Any, Any, None]) -> None:
        """Run *scenario* to its end, once the gate has noticed that the backend of the test before is gone."""

        async def all_of_it() -> None:
            self._clients: list[Client] = []
            async with asyncio.timeout(60):
                await barrier(self.running.port)
                await scenario
            for client in self._clients:
                client.transport.abort()

        try:
            asyncio.run(all_of_it())
        except BaseException:
            print(self.running.said())
            raise

    def backend(self, serve: Serve) -> Origin:
        """A backend, for ``async with``."""
        return Origin(self.backend_port, serve)

    async def client(self, sent: bytes = b"", address: str = "127.0.0.1") -> Client:
        """A connection to the gate, over which *sent* has been sent."""
        client = await connect(self.running.port, address)
        self._clients.append(client)
        client.send(sent)
        return client

    async def ask(self, sent: bytes, address: str = "127.0.0.1", method: bytes = b"GET") -> Message:
        """The answer to the request *sent*, over a connection of its own."""
        client = await self.client(sent, address)
        await client.until(lambda: bool(answers(bytes(client.received), [method], client.closed)[0]))
        finals, _, left = answers(bytes(client.received), [method], client.closed)
        client.transport.abort()
        self.assertEqual((len(finals), left), (1, b""), bytes(client.received))
        return finals[0]

    async def until(self, client: Client, measure: Callable[[bytes], int], enough: int) -> None:
        """Wait until *measure* finds *enough* in all that *client* got."""
        self.assertTrue(await client.until(lambda: measure(bytes(client.received)) >= enough), bytes(client.received))

    async def got(self, client: Client, data: bytes) -> None:
        """Wait until all that *client* got ends with *data*."""
        self.assertTrue(await client.until(lambda: client.received.endswith(data)), bytes(client.received))
        self.assertTrue(client.received.endswith(data), bytes(client.received))


class ConnectionTests(Fixture):
    """Connections to clients and backends."""

    def test_backend_connection_is_kept(self) -> None:
        """Clients that come one after another are served over one connection to the backend."""

        async def scenario() -> None:
            async with self.backend(answer_all) as backend:
                for _ in range(20):
                    self.assertEqual((await self.ask(GET)).body, b"GET / 0")
                self.assertEqual(backend.connections, 1)

        self.play(scenario())

    def test_backend_that_closes_idle_connections(self) -> None:
        """A backend that closes each connection after an answer, without saying so, fails no client."""

        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if await one_request(reader) is not None:
                writer.write(OK)

        async def scenario() -> None:
            async with self.backend(once):
                client = await self.client()
                for number in range(1, 51):
                    client.send(GET)
                    await self.until(client, lambda got: got.count(b"\r\n\r\nok"), number)
                finals, _, _ = answers(bytes(client.received), [], False)
                self.assertEqual([message.status for message in finals], [200] * 50)

        self.play(scenario())

    def test_answers_come_in_order(self) -> None:
        """Of requests sent at once, the first is answered first, however long it takes."""
        hold = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while (message := await one_request(reader)) is not None:
                if message.start[1] == b"/0":
                    await hold.wait()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(message.start[1]), message.start[1])
                )

        async def scenario() -> None:
            async with self.backend(serve):
                client = await self.client(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(20)))
                await barrier(self.running.port)
                self.assertEqual(client.received, b"")
                hold.set()
                await self.got(client, b"/19")
                finals, _, _ = answers(bytes(client.received), [], False)
                self.assertEqual([message.body for message in finals], [b"/%d" % number for number in range(20)])

        self.play(scenario())

    def test_answer_that_nobody_asked_for(self) -> None:
        """What a backend sends on an idle connection is nobody's answer, and the connection is not used again."""
        idle = asyncio.Event()
        spoilt = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await one_request(reader)
            writer.write(OK)
            if not spoilt.is_set():
                await idle.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
                spoilt.set()
                self.assertIsNone(await one_request(reader))

        async def scenario() -> None:
            async with self.backend(serve):
                self.assertEqual((await self.ask(GET)).body, b"ok")
                idle.set()
                await spoilt.wait()
                self.assertEqual((await self.ask(GET)).body, b"ok")

        self.play(scenario())

    def test_client_leaves(self) -> None:
        """When a client leaves before its answer, the backend's connection ends: nobody works for nobody."""
        asked, left = asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await one_request(reader)
            asked.set()
            try:
                await reader.read()
            except ConnectionError:
                pass
            finally:
                left.set()

        async def scenario() -> None:
            async with self.backend(serve):
                client = await self.client(GET)
                await asked.wait()
                client.transport.abort()
                async with asyncio.timeout(PATIENCE):
                    await left.wait()

        self.play(scenario())

    def test_http_1_0(self) -> None:
        """A client of HTTP/1.0 gets bodies of unknown length up to the connection's end, and no interim answers."""
        begun = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await one_request(reader)
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            await begun.wait()
            writer.write(b"7\r\n, world\r\n0\r\n\r\n")

        async def scenario() -> None:
            async with self.backend(serve):
                for fields in (b"", b"Connection: keep-alive\r\n"):
                    begun.clear()
                    client = await self.client(b"GET / HTTP/1.0\r\nHost: a\r\n" + fields + b"\r\n")
                    await self.until(client, lambda got: got.count(b"hello"), 1)
                    begun.set()
                    await client.until(lambda: False)
                    self.assertTrue(client.closed)
                    self.assertEqual(client.received.count(b"HTTP/1."), 1)
                    head, _, body = client.received.partition(b"\r\n\r\n")
                    self.assertEqual(body, b"hello, world")
                    self.assertNotIn(b"transfer-encoding", head.lower())

        self.play(scenario())

    def test_http_1_0_kept(self) -> None:
        """A client of HTTP/1.0 that asks for it may send another request, where the length is known."""

        async def scenario() -> None:
            async with self.backend(answer_all):
                request = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
                client = await self.client(request)
                await self.got(client, b"GET / 0")
                self.assertIn(b"connection: keep-alive", client.received.lower())
                client.send(request)
                await client.until(lambda: client.received.count(b"GET / 0") == 2)
                self.assertEqual(client.received.count(b"GET / 0"), 2)
                self.assertFalse(client.closed)

        self.play(scenario())


class FailureTests(Fixture):
    """What a client gets when there is nobody to answer."""

    def test_no_router(self) -> None:
        """A host that is not routed gets Traefik's 404."""

        async def scenario() -> None:
            answer = await self.ask(b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n")
            self.assertEqual((answer.status, answer.body), (404, b"404 page not found\n"))
            self.assertEqual(answer.values(b"content-type"), [b"text/plain; charset=utf-8"])
            self.assertEqual(answer.values(b"x-content-type-options"), [b"nosniff"])

        self.play(scenario())

    def test_no_server(self) -> None:
        """A service without a server answers Traefik's 503."""

        async def scenario() -> None:
            answer = await self.ask(b"GET / HTTP/1.1\r\nHost: empty\r\n\r\n")
            self.assertEqual((answer.status, answer.body), (503, b"no available server\n"))
            self.assertEqual(answer.values(b"content-type"), [b"text/plain; charset=utf-8"])
            self.assertEqual(answer.values(b"x-content-type-options"), [b"nosniff"])

        self.play(scenario())

    def test_refused(self) -> None:
        """Where all servers refuse the connection, the answer is 502."""

        async def scenario() -> None:
            answer = await self.ask(b"GET / HTTP/1.1\r\nHost: refused\r\n\r\n")
            self.assertEqual((answer.status, answer.body), (502, b"Bad Gateway"))

        self.play(scenario())

    def test_next_server(self) -> None:
        """Where one server refuses the connection, another serves: nothing had been sent, whatever the method."""

        async def scenario() -> None:
            async with self.backend(answer_all):
                for _ in range(10):
                    answer = await self.ask(b"GET / HTTP/1.1\r\nHost: dead\r\n\r\n")
                    self.assertEqual((answer.status, answer.body), (200, b"GET / 0"))
                    answer = await self.ask(b"POST / HTTP/1.1\r\nHost: dead\r\nContent-Length: 5\r\n\r\nAAAAA")
                    self.assertEqual((answer.status, answer.body), (200, b"POST / 5"))

        self.play(scenario())

    def test_backend_dies_within_the_body(self) -> None:
        """A client notices that an answer is not whole, whichever way its end was announced."""
        framings = (
            (b"Content-Length: 100", b"hello"),
            (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n"),
            (b"X: until the end", b"hello"),
        )

        async def scenario() -> None:
            for fields, start in framings:
                seen = asyncio.Event()
                await self._death(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\n" + start, seen)

        self.play(scenario())

    async def _death(self, sent: bytes, seen: asyncio.Event) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await one_request(reader)
            writer.write(sent)
            await seen.wait()
            reset(writer)

        async with self.backend(serve):
            client = await self.client(GET)
            await client.until(lambda: b"hello" in client.received)
            seen.set()
            self.assertTrue(await client.until(lambda: False), "the connection stays open")
            finals, _, _ = answers(bytes(client.received), [], client.closed)
            self.assertEqual(finals, [], bytes(client.received))

    def test_backend_resets(self) -> None:
        """A backend that breaks the connection instead of answering is a bad gateway."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await one_request(reader)
            reset(writer)

        async def scenario() -> None:
            async with self.backend(serve):
                answer = await self.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nA", method=b"POST")
                self.assertEqual((answer.status, answer.body), (502, b"Bad Gateway"))

        self.play(scenario())


class StreamTests(Fixture):
    """Bodies and tunnels, as they are sent."""

    def test_events_arrive_as_they_are_sent(self) -> None:
        """Each of a backend's server-sent events reaches the client before the next is made."""
        arrived = asyncio.Queue[int]()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await one_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for number in range(20):
                event = b"data: %d\n\n" % number
                writer.write(b"%x\r\n%s\r\n" % (len(event), event))
                self.assertEqual(await arrived.get(), number)
            writer.write(b"0\r\n\r\n")

        async def scenario() -> None:
            async with self.backend(serve):
                client = await self.client(GET)
                for number in range(20):
                    event = b"data: %d\n\n" % number
                    await self.until(client, lambda got: got.count(b"data: "), number + 1)
                    self.assertIn(event, client.received)
                    arrived.put_nowait(number)
                await self.got(client, b"0\r\n\r\n")

        self.play(scenario())

    def test_body_arrives_as_it_is_sent(self) -> None:
        """A backend gets the beginning of a large upload while the client still has the rest."""
        part = b"A" * 200_000
        begun = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            self.assertEqual(await reader.readexactly(len(part)), part)
            begun.set()
            self.assertEqual(await reader.readexactly(len(part)), part)
            writer.write(OK)

        async def scenario() -> None:
            async with self.backend(serve):
                head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (2 * len(part))
                client = await self.client(head + part)
                async with asyncio.timeout(PATIENCE):
                    await begun.wait()
                client.send(part)
                await self.got(client, b"\r\n\r\nok")

        self.play(scenario())

    def test_answer_before_the_body(self) -> None:
        """A backend that answers while the upload still runs is heard."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
            await reader.read()

        async def scenario() -> None:
            async with self.backend(serve):
                client = await self.client(
                    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"A" * 100_000
                )
                await client.until(lambda: b"\r\n\r\nbig" in client.received)
                finals, _, _ = answers(bytes(client.received), [], False)
                self.assertEqual([(message.status, message.body) for message in finals], [(413, b"big")])

        self.play(scenario())

    def test_client_waits_for_100(self) -> None:
        """A client that waits is told to go on, once, and its body reaches the backend."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"100-continue" in head.lower():
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.assertEqual(await reader.readexactly(5), b"AAAAA")
            writer.write(OK)

        async def scenario() -> None:
            async with self.backend(serve):
                client = await self.client(
                    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
                )
                await client.until(lambda: client.received.endswith(b"\r\n\r\n"))
                client.send(b"AAAAA")
                await self.got(client, b"\r\n\r\nok")
                _, interims, _ = answers(bytes(client.received), [], False)
                self.assertEqual(interims, 1)

        self.play(scenario())

    def test_backend_does_not_want_the_body(self) -> None:
        """A client that waits gets the backend's refusal."""
        sent = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(sent)

        async def scenario() -> None:
            async with self.backend(serve):
                client = await self.client(
                    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
                )
                await client.until(lambda: b"\r\n\r\nbig" in client.received)
                finals, _, _ = answers(bytes(client.received), [], False)
                self.assertEqual([(message.status, message.body) for message in finals], [(413, b"big")])

        self.play(scenario())

    def test_tunnel(self) -> None:
        """After 101, octets pass both ways as they are, from the very first on, until either side ends."""
        pattern = bytes(range(256)) * 64

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            self.assertIn(b"\r\nupgrade: websocket\r\n", head)
            self.assertIn(b"\r\nconnection: upgrade\r\n", head)
            self.assertIn(b"\r\nx-forwarded-proto: ws\r\n", head)
            switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            writer.write(switching + b"Sec-WebSocket-Accept: x\r\n\r\nearly")
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

        async def scenario() -> None:
            async with self.backend(serve):
                client = await self.client(
                    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"
                )
                await self.got(client, b"\r\n\r\nearly")
                head = bytes(client.received).lower()
                self.assertTrue(head.startswith(b"http/1.1 101 "))
                for field in (b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-accept: x"):
                    self.assertIn(b"\r\n" + field + b"\r\n", head)
                before = len(client.received)
                for size in (1, 2, 125, 126, 127, 4096, 16384):
                    client.send(pattern[:size])
                    before += size
                    await self.until(client, len, before)
                    self.assertEqual(client.received[-size:], pattern[:size])
                self.assertEqual(len(client.received), before)
                client.transport.write_eof()
                self.assertTrue(await client.until(lambda: False))

        self.play(scenario())

    def test_tunnel_leaves_nothing(self) -> None:
        """Once a tunnel has ended, whoever ended it and however, the gate holds no socket of it any more."""
        request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        backend_ends = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
            ended = asyncio.create_task(backend_ends.wait())
            read = asyncio.create_task(reader.read())
            await asyncio.wait((ended, read), return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            read.cancel()

        async def scenario() -> None:
            async with self.backend(serve):
                before = self.running.descriptors()
                for end in (
                    lambda client: client.transport.write_eof(),
                    lambda client: client.transport.abort(),
                    lambda _: backend_ends.set(),
                ):
                    client = await self.client(request)
                    await self.got(client, b"\r\n\r\nearly")
                    end(client)
                    self.assertTrue(await client.until(lambda: False))
                deadline = asyncio.get_running_loop().time() + PATIENCE
                while self.running.descriptors() > before:
                    self.assertLess(asyncio.get_running_loop().time(), deadline, "sockets stay open")
                    await barrier(self.running.port)

        self.play(scenario())

    def test_tunnel_refused(self) -> None:
        """A backend that does not want to change protocols answers as ever, and the connection goes on."""

        async def scenario() -> None:
            async with self.backend(answer_all):
                request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                client = await self.client(request)
                await self.got(client, b"\r\n\r\nGET / 0")
                client.send(GET)
                await client.until(lambda: client.received.count(b"GET / 0") == 2)
                self.assertEqual(client.received.count(b"GET / 0"), 2)

        self.play(scenario())


class TrustTests(Fixture):
    """Forwarded fields of a peer that is trusted, and of one that isn't."""

    options = ("--entrypoints.web.forwardedHeaders.trustedIPs=127.0.0.7,127.1.0.0/16",)

    SENT = (
        b"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: front.example\r\n"
        b"X-Forwarded-Port: 8443\r\nX-Forwarded-Prefix: /p\r\nX-Forwarded-Server: spoof\r\nX-Real-Ip: 1.2.3.4\r\n"
    )

    def _fields(self, address: str, sent: bytes) -> dict[bytes, list[bytes]]:
        """What the backend sees of a request with the fields *sent* from *address*, by name in lower case."""
        seen: list[Message] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while (message := await one_request(reader)) is not None:
                seen.append(message)
                writer.write(OK)

        async def scenario() -> None:
            async with self.backend(serve):
                await self.ask(b"GET / HTTP/1.1\r\nHost: a\r\n" + sent + b"\r\n", address)

        self.play(scenario())
        (message,) = seen
        return {name.lower(): message.values(name.lower()) for name, _ in message.fields}

    def test_trusted(self) -> None:
        """A trusted peer's word is kept, and its own address is added."""
        for address in ("127.0.0.7", "127.1.2.3"):
            fields = self._fields(address, self.SENT)
            self.assertEqual(fields[b"x-forwarded-for"], [b"1.2.3.4, " + address.encode()])
            self.assertEqual(fields[b"x-forwarded-proto"], [b"https"])
            self.assertEqual(fields[b"x-forwarded-host"], [b"front.example"])
            self.assertEqual(fields[b"x-forwarded-port"], [b"8443"])
            self.assertEqual(fields[b"x-forwarded-prefix"], [b"/p"])
            self.assertEqual(fields[b"x-real-ip"], [b"1.2.3.4"])
            self.assertNotIn(b"spoof", fields[b"x-forwarded-server"])

    def test_not_trusted(self) -> None:
        """Anybody else's is dropped."""
        fields = self._fields("127.0.0.8", self.SENT)
        self.assertEqual(fields[b"x-forwarded-for"], [b"127.0.0.8"])
        self.assertEqual(fields[b"x-forwarded-proto"], [b"http"])
        self.assertEqual(fields[b"x-forwarded-host"], [b"a"])
        self.assertEqual(fields[b"x-forwarded-port"], [b"80"])
        self.assertEqual(fields[b"x-real-ip"], [b"127.0.0.8"])
        self.assertNotIn(b"x-forwarded-prefix", fields)
        self.assertNotIn(b"spoof", fields[b"x-forwarded-server"])

    def test_trusted_with_nothing_to_say(self) -> None:
        """A trusted peer that says nothing is a client like any other."""
        fields = self._fields("127.0.0.7", b"X: y\r\n")
        self.assertEqual(fields[b"x-forwarded-for"], [b"127.0.0.7"])
        self.assertEqual(fields[b"x-real-ip"], [b"127.0.0.7"])
        self.assertEqual(fields[b"x-forwarded-proto"], [b"http"])

    def test_several_proxies_before(self) -> None:
        """The addresses of several lines are one list."""
        fields = self._fields("127.0.0.7", b"X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nX-Forwarded-For: 3.3.3.3\r\n")
        self.assertEqual(fields[b"x-forwarded-for"], [b"1.1.1.1, 2.2.2.2, 3.3.3.3, 127.0.0.7"])

    def test_connection_names_them(self) -> None:
        """Not even a trusted peer's Connection can take away what the gate adds."""
        fields = self._fields("127.0.0.7", b"Connection: X-Forwarded-For, X-Real-Ip\r\n")
        self.assertEqual(fields[b"x-forwarded-for"], [b"127.0.0.7"])
        self.assertEqual(fields[b"x-real-ip"], [b"127.0.0.7"])
