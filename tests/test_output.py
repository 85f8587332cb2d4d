"""Tests for swarmgate.observe.output. They write real files, from the real thread, and wait for it to end."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis.strategies import integers, lists, text
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.observe.output import Output, whole_lines


def fill(descriptor: int) -> int:
    """Write to a pipe until it takes no more; returns how many octets that were."""
    os.set_blocking(descriptor, False)
    written = 0
    try:
        while True:
            written += os.write(descriptor, b"f" * 4096)
    except BlockingIOError:
        os.set_blocking(descriptor, True)
        return written


class OutputTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = os.path.join(self.mktemp(), "logs", "access.log")
        self.events: list[str] = []
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)
        globalLogPublisher.addObserver(self.observe)

    def observe(self, event: dict[str, object]) -> None:
        if event.get("log_namespace") == "swarmgate.observe.output":
            self.events.append(str(event["log_format"]).format(**event))

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def test_written(self) -> None:
        """What is written arrives in the file, in order, after what is there already; folders are made."""
        for lines in ((b"a\n", b"b\n"), (b"c\n",)):
            output = Output(self.path)
            output.start()
            for line in lines:
                output.write(line)
            output.close()
        self.assertEqual(self.read(self.path), b"a\nb\nc\n")

    def test_two_on_one_pipe(self) -> None:
        """The log and the access log can share standard output: their lines are not mixed, however many at a time."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        outputs = [Output("", writer), Output("", writer)]
        for output, letter in zip(outputs, (b"a", b"b"), strict=True):
            output.start()
            for _ in range(20):
                output.write((letter * 99 + b"\n") * 1000)
        read = bytearray()
        while len(read) < 4_000_000:
            read += os.read(reader, 65536)
        for output in outputs:
            output.close()
        os.close(writer)
        self.assertEqual({b"a" * 99, b"b" * 99}, set(bytes(read).splitlines()))

    @given(lists(text("xy\n", max_size=20)), integers(1, 30))
    def test_whole_lines(self, texts: list[str], at_most: int) -> None:
        """Cutting loses nothing, cuts after line ends only, and makes parts as short as lines allow."""
        data = "".join(texts).encode()
        parts = list(whole_lines(data, at_most))
        self.assertEqual(data, b"".join(parts))
        for part in parts[:-1]:
            self.assertTrue(part.endswith(b"\n"))
        for part in parts:
            self.assertTrue(len(part) <= at_most or b"\n" not in part[:-1])

    def test_cannot_open(self) -> None:
        """A file that can't be opened is an error at once."""
        self.assertRaises(OSError, Output("/dev/null/access.log").start)

    def test_reopened(self) -> None:
        """After the file was moved away, what comes next goes to a new one, and nothing is lost."""
        output = Output(self.path)
        output.start()
        output.write(b"old\n")
        # Only once it is there can it be moved.
        os.rename(self.path, self.path + ".1")
        output.write(b"still old\n")
        output.reopen()
        output.write(b"new\n")
        output.close()
        self.assertEqual(self.read(self.path + ".1"), b"old\nstill old\n")
        self.assertEqual(self.read(self.path), b"new\n")

    def test_reader_stalls(self) -> None:
        """When nobody takes the lines, no more than the bound waits; the rest is counted and said once."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        before = fill(writing)
        output = Output(descriptor=writing, at_most=300_000)
        output.start()
        line = b"x" * 999 + b"\n"
        for _ in range(500):
            output.write(line)
        self.assertEqual(self.events, [f"{writing} is too slow: lines are lost from now on"])
        # The reader comes back; it gets whole lines, and those that come after.
        read = b""
        while len(read) < before + 300_000:
            read += os.read(reading, 65536)
        self.assertEqual(read[before:], line * 300)
        output.write(b"after\n")
        self.assertEqual(os.read(reading, 65536), b"after\n")
        output.close()
        self.assertEqual(self.events[1:], [f"{writing} takes lines again; 200 were lost in all"])

    def test_not_blocking(self) -> None:
        """A pipe that somebody has made non-blocking gets everything too."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        self.addCleanup(os.close, writing)
        self.addCleanup(os.close, reading)
        output = Output(descriptor=writing)
        output.start()
        output.write(b"y" * 300_000 + b"\n")
        read = 0
        while read < 300_001:
            read += len(os.read(reading, 65536))
        output.close()
        self.assertEqual(read, 300_001)

    def test_trouble_is_said(self) -> None:
        """A full disk is said once, and lines are taken again when it has room."""
        if not os.path.exists("/dev/full"):
            self.fail("this system has no /dev/full")
        output = Output("/dev/full")
        output.start()
        output.write(b"a\n")
        output.close()
        output.write(b"b\n")
        self.assertEqual(self.events, ["/dev/full can't be written: No space left on device; its lines are lost"])

    def test_close_twice(self) -> None:
        """Closing again does nothing."""
        output = Output(self.path)
        output.start()
        output.close()
        output.close()
        self.assertEqual(self.read(self.path), b"")
