"""Servers in Python that tell what they saw: ``servers.py KIND PORT``."""

from __future__ import annotations

import asyncio
import itertools
import sys
from typing import Any

from applications import asgi, told, wsgi

_LONG = 3600


def h11_server(port: int) -> None:
    """A server on h11 itself."""
    import h11

    numbers = itertools.count(1)

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.state = h11.Connection(h11.SERVER)
            self.request: Any = None
            self.body = b""

        def data_received(self, data: bytes) -> None:
            self.state.receive_data(data)
            self.go_on()

        def eof_received(self) -> None:
            self.transport.close()

        def go_on(self) -> None:
            while True:
                try:
                    event = self.state.next_event()
                except h11.RemoteProtocolError as error:
                    status = error.error_status_hint
                    self.transport.write(
                        b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status
                    )
                    self.transport.close()
                    return
                if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    return
                if isinstance(event, h11.Request):
                    self.request, self.body = event, b""
                elif isinstance(event, h11.Data):
                    self.body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    self.answer()

        def answer(self) -> None:
            request = self.request
            host = b",".join(value for name, value in request.headers if name == b"host")
            saw = told(next(numbers), request.method, request.target, host, self.body)
            head = h11.Response(status_code=200, headers=[(b"X-Saw", saw), (b"Content-Length", b"0")])
            self.transport.write((self.state.send(head) or b"") + (self.state.send(h11.EndOfMessage()) or b""))
            if self.state.our_state is h11.MUST_CLOSE:
                self.transport.close()
            else:
                self.state.start_next_cycle()

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port)
        await server.serve_forever()

    asyncio.run(run())


def aiohttp_server(port: int) -> None:
    """aiohttp's server."""
    from aiohttp import web

    numbers = itertools.count(1)

    async def serve(request: Any) -> Any:
        number = next(numbers)
        body = await request.read()
        host = ",".join(request.headers.getall("Host", []))
        target = request._message.path
        saw = told(
            number,
            request.method.encode(),
            target.encode("latin-1", "surrogateescape"),
            host.encode("latin-1", "replace"),
            body,
        )
        return web.Response(headers={"X-Saw": saw.decode("latin-1")})

    async def run() -> None:
        server = web.Server(serve, keepalive_timeout=_LONG, access_log=None)
        listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", port)
        await listening.serve_forever()

    asyncio.run(run())


def uvicorn_server(port: int) -> None:
    """uvicorn, on httptools."""
    import uvicorn

    uvicorn.run(
        asgi,
        port=port,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="critical",
        timeout_keep_alive=_LONG,
    )


def waitress_server(port: int) -> None:
    """waitress."""
    import waitress

    waitress.serve(wsgi, host="127.0.0.1", port=port, channel_timeout=_LONG, threads=2)


if __name__ == "__main__":
    {"h11": h11_server, "aiohttp": aiohttp_server, "uvicorn": uvicorn_server, "waitress": waitress_server}[sys.argv[1]](
        int(sys.argv[2])
    )
