"""Hostile backends: every answer of the corpus, sent through a running gate."""

from __future__ import annotations

import asyncio

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests import answers, corpus
from tests.e2e.gate import Gate, free_port, routes
from tests.e2e.wires import Origin, barrier, connect
from tests.wire import Message, read_request


class HostileBackend:
    """Gives the answer that is asked for by name, and echoes all other requests.

    :ivar complaints: of requests that came over connections on which none should.
    """

    def __init__(self, port: int, octetwise: bool) -> None:
        self._port = port
        self._octetwise = octetwise
        self.complaints: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        spoilt = ""
        buffer = b""
        while data := await reader.read(65536):
            if spoilt:
                self.complaints.append(f"after {spoilt} the same backend connection was sent {data[:100]!r}")
                return
            buffer += data
            while (found := read_request(buffer)) is not None:
                message, buffer = found
                answer = _asked_for(message)
                if answer is None:
                    body = corpus.echo(message)
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                    continue
                await self._send(writer, answer.sent)
                if answer.ends:
                    return
                spoilt = "" if answer.kept else answer.name

    async def _send(self, writer: asyncio.StreamWriter, sent: bytes) -> None:
        if not self._octetwise or len(sent) > 300:
            writer.write(sent)
            return
        for at in range(len(sent)):
            if writer.transport.is_closing():
                return
            writer.write(sent[at : at + 1])
            await barrier(self._port)


_BY_NAME = {answer.name.encode(): answer for answer in answers.ANSWERS}


def _asked_for(message: Message) -> answers.Answer | None:
    return _BY_NAME.get(message.start[1].lstrip(b"/"))


@attrs.frozen
class _Form:
    """How the answers are asked for and sent."""

    after: bool
    octetwise: bool


class AnswerTests(SynchronousTestCase):
    """Whatever a backend sends, its client gets a whole answer, a clear failure or a broken connection."""

    gate: Gate | None = None
    backend_port = 0

    def perform(self, form: _Form) -> None:
        """Ask for every answer, and judge what came; fail with all that went wrong."""
        kind = type(self)
        if kind.gate is None:
            kind.backend_port = free_port()
            kind.gate = Gate(routes({"hostile": [self.backend_port]}, {"a": "hostile"}))
        complaints = asyncio.run(self._perform(kind.gate.port, form))
        if complaints:
            listed = "\n".join(complaints[:60])
            self.fail(f"{len(complaints)} answers went wrong:\n{listed}\n{kind.gate.said()}")

    async def _perform(self, port: int, form: _Form) -> list[str]:
        backend = HostileBackend(port, form.octetwise)
        async with Origin(self.backend_port, backend.serve):
            results = await asyncio.gather(*(self._ask(port, answer, form) for answer in answers.ANSWERS))
            # Idle connections that should not have been kept would serve these.
            await asyncio.gather(*(self._tempt(port) for _ in range(len(answers.ANSWERS))))
        return [one for result in results for one in result] + backend.complaints

    async def _ask(self, port: int, answer: answers.Answer, form: _Form) -> list[str]:
        client = await connect(port)
        after = form.after and answer.whole
        request = answer.request
        if after:
            request += corpus.AFTER
        else:
            request = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        client.send(request)
        over = await client.until(lambda: False)
        client.transport.abort()
        found = answers.judge(answer, bytes(client.received), client.closed, after)
        if not over:
            found.append(f"the connection was not closed; so far came {bytes(client.received[:200])!r}")
        return [f"{answer.name} ({answer.why}): {one}" for one in found]

    async def _tempt(self, port: int) -> None:
        client = await connect(port)
        client.send(corpus.AFTER)
        await client.until(lambda: False)
        client.transport.abort()
        self.assertEqual(bytes(client.received).partition(b"\r\n\r\n")[2], b"GET /after 0")

    def test_last_on_the_connection(self) -> None:
        """A client that asks for nothing more gets what is right, and the connection's end."""
        self.perform(_Form(after=False, octetwise=False))

    def test_not_last_on_the_connection(self) -> None:
        """The next request on the client's connection gets its own answer, not what was left of another."""
        self.perform(_Form(after=True, octetwise=False))

    def test_octet_by_octet(self) -> None:
        """However slowly an answer comes, the client gets the same."""
        self.perform(_Form(after=False, octetwise=True))
