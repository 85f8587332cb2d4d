"""Clients that abuse HTTP/2: the connection is closed, and the reason counted; nothing is left behind."""

from __future__ import annotations

import itertools

from h2.errors import ErrorCodes
from hpack import Encoder
from twisted.trial.unittest import SynchronousTestCase

from tests.http2_peers import HEAD, POST, Http2Client, frame, gate_of
from tests.memory_network import OK

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, _, PING, _, WINDOW_UPDATE, CONTINUATION = range(10)


class FloodTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.gate = gate_of()
        self.client = Http2Client(self.gate)

    def _assert_closed(self, reason: str, error: int = ErrorCodes.ENHANCE_YOUR_CALM) -> None:
        self.assertEqual([refusal.reason for refusal in self.gate.refusals][-1:], [reason])
        self.assertEqual([error for _, error in self.client.goaways], [error])
        self.assertIn(self.client.transport.closed, ("lost", "aborted"))
        self.client.transport.settle()
        for server in self.gate.network.servers:
            if server.closed:
                server.settle()
        self.assertEqual(self.gate.connections, set())

    def _flood(self, octets: bytes, count: int) -> int:
        """Send *octets* up to *count* times, until the connection is closed; how often they were sent."""
        for number in range(count):
            if self.client.transport.closed:
                return number
            self.client.send(octets)
        return count

    def test_rapid_reset(self) -> None:
        """Requests that are taken back at once, again and again, reach few servers (CVE-2023-44487)."""
        client = self.client
        for _ in range(1000):
            if client.transport.closed:
                break
            client.h2.reset_stream(client.ask())
            client.flush()
        self.assertTrue(100 < len(self.gate.network.servers) < 205)
        self._assert_closed("http2: too many resets")
        self.assertTrue(all(server.closed for server in self.gate.network.servers))

    def test_resets_with_the_requests(self) -> None:
        """Requests that are taken back before they were looked at reach no server at all."""
        client = self.client
        for _ in range(1000):
            if client.transport.closed:
                break
            stream = client.h2.get_next_available_stream_id()
            client.h2.send_headers(stream, HEAD, end_stream=True)
            client.h2.reset_stream(stream)
            client.flush()
        self._assert_closed("http2: too many resets")
        self.assertEqual(self.gate.network.servers, [])

    def test_honest_resets(self) -> None:
        """A client that takes back a third of its requests, and lets the others be answered, is served for ever."""
        client = self.client
        for number in range(3000):
            stream = client.ask()
            if number % 3 == 0:
                client.h2.reset_stream(stream)
                client.flush()
                self.gate.server.settle()
            else:
                self.gate.server.receive(OK)
                client.flush()
        self.assertIsNone(client.transport.closed)
        self.assertEqual(len(client.ended), 2000)

    def test_resets_that_the_gate_is_made_to_send(self) -> None:
        """It does not help to send what has to be reset, in place of resets (CVE-2025-8671)."""
        client = self.client
        for _ in range(2000):
            if client.transport.closed:
                break
            stream = client.ask(POST, ends=False)
            client.h2.streams[stream].outbound_flow_control_window = 2**31 - 1
            client.send(frame(WINDOW_UPDATE, 0, stream, (2**31 - 1).to_bytes(4, "big")))
        self._assert_closed("http2: too many stream errors")

    def test_malformed_requests(self) -> None:
        """Requests that are none are not answered for ever."""
        for _ in range(1000):
            if self.client.transport.closed:
                break
            self.client.ask([*HEAD, (b"X-Upper", b"1")])
        self._assert_closed("http2: too many stream errors")

    def test_settings(self) -> None:
        """Settings, each of which has to be acknowledged, do not come without end."""
        self.assertLess(self._flood(frame(SETTINGS, 0, 0, b"\x00\x03\x00\x00\x00\x64"), 100), 30)
        self._assert_closed("http2: too many settings")

    def test_pings(self) -> None:
        """Neither do pings."""
        self.assertLess(self._flood(frame(PING, 0, 0, bytes(8)), 1000), 600)
        self._assert_closed("http2: too many pings")

    def test_pings_beside_data(self) -> None:
        """A client that measures the path while it uploads is served for ever."""
        client = self.client
        stream = client.ask(POST, b"a", ends=False)
        for _ in range(2000):
            client.h2.send_data(stream, b"a")
            client.h2.ping(bytes(8))
            client.flush()
        self.assertIsNone(client.transport.closed)

    def test_empty_data(self) -> None:
        """Frames that carry nothing and end nothing do not come without end."""
        stream = self.client.ask(POST, b"a", ends=False)
        self.assertLess(self._flood(frame(DATA, 0, stream), 1000), 150)
        self._assert_closed("http2: too many empty frames")

    def test_padding(self) -> None:
        """Nor do frames that carry padding alone."""
        stream = self.client.ask(POST, b"a", ends=False)
        self.assertLess(self._flood(frame(DATA, 0x8, stream, b"\x01\x00"), 1000), 150)
        self._assert_closed("http2: too many empty frames")

    def test_priorities(self) -> None:
        """Nor do priorities, which nobody looks at."""
        self.assertLess(self._flood(frame(PRIORITY, 0, 1, bytes(5)), 3000), 1100)
        self._assert_closed("http2: too many priorities")

    def test_window_updates(self) -> None:
        """Nor do windows that are opened by an octet."""
        stream = self.client.ask()
        self.assertLess(self._flood(frame(WINDOW_UPDATE, 0, stream, b"\x00\x00\x00\x01"), 5000), 2100)
        self._assert_closed("http2: too many window updates")

    def test_unknown_frames(self) -> None:
        """Nor do frames of a kind that does not exist."""
        self.assertLess(self._flood(frame(0xBB, 0, 0, b"x"), 500), 110)
        self._assert_closed("http2: too many unknown frames")

    def test_continuation(self) -> None:
        """A field section that never ends is cut off (VU#421644)."""
        self.client.send(frame(HEADERS, 0, 1, Encoder().encode(HEAD)))
        self.assertLess(self._flood(frame(CONTINUATION, 0, 1, b"\x00\x03x-a\x01b" * 500), 200), 25)
        self._assert_closed("http2: field section too long")

    def test_empty_continuation(self) -> None:
        """Even if the frames are empty."""
        self.client.send(frame(HEADERS, 0, 1, Encoder().encode(HEAD)))
        self.assertLess(self._flood(frame(CONTINUATION, 0, 1), 10_000), 70)
        self.assertIn(self.client.transport.closed, ("lost", "aborted"))

    def test_section_that_trickles(self) -> None:
        """A field section that is not complete in its time is not waited for."""
        self.client.send(frame(HEADERS, 0, 1, Encoder().encode(HEAD)))
        for _ in range(12):
            self.gate.advance(1)
            if self.client.transport.closed:
                break
            self.client.send(frame(CONTINUATION, 0, 1, b""))
        self.client.read()
        self._assert_closed("http2: frame not complete in time")

    def test_bomb(self) -> None:
        """A few octets that stand for megabytes of fields are not unpacked."""
        encoder = Encoder()
        name, value = b"x-bomb", b"a" * 3500
        first = encoder.encode([*HEAD, (name, value)])
        again = encoder.encode([*HEAD, *([(name, value)] * 1000)])
        self.client.send(frame(HEADERS, 0x5, 1, first))
        self.assertIsNone(self.client.transport.closed)
        self.client.send(frame(HEADERS, 0x5, 3, again))
        self._assert_closed("http2: field section too long")
        self.assertEqual(len(self.gate.network.servers), 1)

    def test_frame_too_long(self) -> None:
        """A frame that is longer than was agreed is not read."""
        self.client.send(frame(DATA, 0, 1, b"a" * 16385))
        self._assert_closed("http2: frame too long", ErrorCodes.FRAME_SIZE_ERROR)

    def test_nonsense(self) -> None:
        """What is no HTTP/2 ends the connection."""
        self.client.send(frame(DATA, 0, 0, b"a"))
        self._assert_closed("http2: protocol error", ErrorCodes.PROTOCOL_ERROR)

    def test_acknowledgements_that_nobody_reads(self) -> None:
        """A client that makes the gate write and reads nothing is not written to without end."""
        self.client.transport.producer.pauseProducing()
        stream = self.client.ask(POST, b"a", ends=False)
        for _ in range(400):
            self.client.transport.receive(frame(PING, 0, 0, bytes(8)) + frame(DATA, 0, stream, b"a"))
        self.gate.advance(61)
        self.client.read()
        self.assertEqual(self.client.transport.closed, "aborted")
        self.assertLess(len(self.client.transport.written), 100_000)

    def test_others_are_served(self) -> None:
        """While one client floods, another's requests are answered."""
        other = Http2Client(self.gate)
        stream = other.ask()
        self._flood(frame(PING, 0, 0, bytes(8)), 1000)
        self.gate.network.servers[0].receive(OK)
        other.flush()
        self.assertEqual(other.bodies[stream], b"ok")
        self.assertIsNone(other.transport.closed)


class TurnTests(SynchronousTestCase):
    """What one client sends at once does not keep the others waiting."""

    def setUp(self) -> None:
        self.gate = gate_of()
        self.client = Http2Client(self.gate)
        self.encoder = Encoder()

    def _turn(self) -> bool:
        """Let the reactor make a turn; whether there was anything to do."""
        clock = self.gate.clock
        waiting = [call for call in clock.getDelayedCalls() if call.getTime() <= clock.seconds()]
        for call in waiting:
            # Not by the clock, which would go on with what these calls ask for.
            run, args = call.func, call.args
            call.cancel()
            run(*args)
        return bool(waiting)

    def _requests(self, count: int, after: bytes = b"") -> bytes:
        """So many requests, and as many times *after*, in which ``%b`` stands for the stream."""
        streams = range(1, 2 * count, 2)
        heads = [frame(HEADERS, 5, stream, self.encoder.encode(HEAD)) for stream in streams]
        return b"".join(heads) + b"".join(frame(RST_STREAM, 0, stream, after) for stream in streams if after)

    def test_many_requests(self) -> None:
        """Requests that come with one read are served some at a time, and in the meantime nothing more is read."""
        self.client.transport.receive(self._requests(200))
        seen = [len(self.gate.network.servers)]
        self.assertTrue(self.client.transport.paused)
        while self._turn():
            seen.append(len(self.gate.network.servers))
        self.assertFalse(self.client.transport.paused)
        self.assertEqual(seen[-1], 200)
        self.assertGreater(len(seen), 8)
        self.assertLessEqual(max(after - before for before, after in itertools.pairwise([0, *seen])), 16)

    def test_many_frames(self) -> None:
        """So are frames, and none of them is lost."""
        stream = self.client.ask(POST, ends=False)
        self.client.transport.receive(frame(DATA, 0, stream, b"a") * 1000 + frame(DATA, 1, stream, b"end"))
        server = self.gate.network.servers[0]
        turns = 0
        while self.client.transport.paused:
            turns += 1
            # What comes nevertheless, decrypted already, say, waits with the others.
            self.client.transport.receive(frame(PING, 0, 0, bytes(8)))
            self.assertTrue(self._turn())
        self.assertGreater(turns, 5)
        self.assertEqual(server.written.count(b"1\r\na\r\n"), 1000)
        self.assertTrue(server.written.endswith(b"3\r\nend\r\n0\r\n\r\n"))
        server.receive(OK)
        self.client.flush()
        self.assertEqual(self.client.bodies[stream], b"ok")

    def test_many_requests_that_are_taken_back(self) -> None:
        """All that has come is read before the first request is served: what was taken back reaches no server."""
        self.client.transport.receive(self._requests(150, b"\x00\x00\x00\x08"))
        while self._turn():
            pass
        self.assertIsNone(self.client.transport.closed)
        self.assertEqual(self.gate.network.servers, [])

    def test_client_that_leaves(self) -> None:
        """A client that is gone when its turn comes is forgotten."""
        self.client.transport.receive(self._requests(200))
        self.client.transport.reset()
        begun = len(self.gate.network.servers)
        self.assertTrue(self._turn())
        self.assertFalse(self._turn())
        self.assertEqual(len(self.gate.network.servers), begun)
        self.assertEqual(self.gate.connections, set())

    def _ask_at_length(self, size: int, count: int) -> int:
        """Ask *count* times with a field of *size* octets, each time answered; how often, before the end came."""
        for number in range(count):
            if self.client.transport.closed:
                return number
            section = self.encoder.encode([*HEAD, (b"x-long", b"Z" * size)], huffman=False)
            self.client.transport.receive(frame(HEADERS, 5, 2 * number + 1, section))
            if not self.client.transport.closed:
                self.gate.network.servers[-1].receive(OK)
        return count

    def test_long_field_sections(self) -> None:
        """Whoever sends long field sections all the time loses the connection."""
        self.assertTrue(200 < self._ask_at_length(15_000, 1000) < 400)
        self.assertEqual([refusal.reason for refusal in self.gate.refusals], ["http2: too much in field sections"])

    def test_many_cookies(self) -> None:
        """A client whose every request has long cookies, and whose requests are answered, is served for ever."""
        self.assertEqual(self._ask_at_length(8000, 1000), 1000)
        self.assertIsNone(self.client.transport.closed)
