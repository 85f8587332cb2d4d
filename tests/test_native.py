"""A Twisted transport on a loop's own: who is read when."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.transport.native import NativeTransport
from swarmgate.transport.network import give_way, is_full
from tests.memory_network import MemoryTransport


class LoopTransport:
    """What the loop has for a connection.

    :ivar reading: it reads.
    """

    def __init__(self) -> None:
        self.reading = True
        self.closing = False

    def write(self, data: bytes) -> None:
        """Nobody looks."""

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        assert not self.closing
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.closing
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 1, 2


class NativeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.loop.close)

    def connected(self, is_clients: bool = True) -> tuple[NativeTransport, LoopTransport]:
        """A transport, and the loop's below it."""
        transport, below = NativeTransport(Protocol(), is_clients), LoopTransport()  # type: ignore[arg-type]
        transport.connection_made(below)
        return transport, below

    def turn(self, *calls: Any) -> None:
        """Make *calls* in a turn of the loop, and all that is left for the next."""

        async def play() -> None:
            for call in calls:
                call()

        self.loop.run_until_complete(play())
        self.loop.run_until_complete(asyncio.sleep(0))

    def seen_amid(self, transport: NativeTransport, below: LoopTransport, *calls: Any) -> bool:
        """Whether it is read at the end of a turn in which it gives way, and *calls* are made after that."""
        seen: list[bool] = []
        self.turn(lambda: give_way(transport), *calls, lambda: seen.append(below.reading))
        return seen[0]

    def test_gives_way(self) -> None:
        """It reads on in the next turn."""
        transport, below = self.connected()
        seen = self.seen_amid(transport, below, lambda: give_way(transport))
        self.assertEqual((seen, below.reading), (False, True))

    def test_paused_while_it_gives_way(self) -> None:
        """A protocol that wants nothing more is not given more, and one that wants it again not before its turn."""
        for last, reads in (("pauseProducing", False), ("resumeProducing", True)):
            transport, below = self.connected()
            seen = self.seen_amid(transport, below, transport.pauseProducing, getattr(transport, last))
            self.assertEqual((seen, below.reading), (False, reads))
        transport.resumeProducing()
        self.assertTrue(below.reading)

    def test_closed_while_it_gives_way(self) -> None:
        """Nothing is done to a connection that is closed, or was."""
        transport, below = self.connected()
        self.turn(lambda: give_way(transport), lambda: setattr(below, "closing", True))
        self.turn(lambda: give_way(transport))
        self.assertFalse(below.reading)

    def test_not_read(self) -> None:
        """A client that does not read is not read, whatever else is resumed meanwhile."""
        transport, below = self.connected()
        transport.pause_writing()
        self.assertEqual((below.reading, is_full(transport)), (False, True))
        transport.pauseProducing()
        transport.resumeProducing()
        self.turn(lambda: give_way(transport))
        self.assertFalse(below.reading)
        transport.resume_writing()
        self.assertEqual((below.reading, is_full(transport)), (True, False))

    def test_producer_not_read(self) -> None:
        """Where a producer is held back for it, it is read on, until there is none."""
        transport, below = self.connected()
        producer: Any = MemoryTransport(Protocol())  # A server, whose answer is held back.
        transport.registerProducer(producer, True)
        transport.pause_writing()
        self.assertEqual((producer.paused, below.reading), (True, True))
        transport.unregisterProducer()
        self.assertFalse(below.reading)
        transport.resume_writing()
        self.assertTrue(below.reading)

    def test_server_does_not_read(self) -> None:
        """A server is heard though it does not read: it may have answered already."""
        transport, below = self.connected(is_clients=False)
        transport.pause_writing()
        self.assertTrue(below.reading)
        transport.resume_writing()
        self.assertTrue(below.reading)

    def test_end(self) -> None:
        """Of a peer that has ended its side nothing is read any more."""
        transport, below = self.connected()
        transport._protocol.readConnectionLost = lambda: None
        transport.pauseProducing()
        self.assertTrue(transport.eof_received())
        transport.resumeProducing()
        self.turn(lambda: give_way(transport))
        self.assertFalse(below.reading)

    def test_others(self) -> None:
        """Transports of others know neither, and do not have to."""
        give_way(object())
        self.assertFalse(is_full(object()))
