"""Heads and paths: what is accepted, and what is made of it."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.errors import BadRequest, BadResponse
from swarmgate.http.message import UNKNOWN, Request
from swarmgate.http.paths import PathPolicy
from swarmgate.http.request_head import HeadLimits, RequestHeads, parse_host, refuse_early, usual_line, write_request
from swarmgate.http.response_head import CHUNKED, parse_response

LIMITS = HeadLimits()
PATHS = PathPolicy()
TOKEN = "!#$%&'*+-.^`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


HEADS = RequestHeads(LIMITS, PATHS)
#: What a usual request line is, once more and in other words.
USUAL_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++) "
    rb"(/(?:[!\x22$&'()*+,\-0->@-\[\]-~][!\x22$&'()*+,\-.0->@-\[\]-~]*+/?+)*+)"
    rb"(?:\?([\x21\x22\x24-\x7e]*+))?+ HTTP/1\.([01])\r\n"
)
OCTETS = [bytes((octet,)) for octet in range(256)]
USUAL_PIECES = [b"GET ", b"/", b"/a", b"?", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"."]


def parse(*lines: bytes) -> Request:
    return HEADS.read(b"\r\n".join(lines) + b"\r\n\r\n")


class RequestTests(SynchronousTestCase):
    def refused(self, status: int, *lines: bytes) -> None:
        error = self.assertRaises(BadRequest, parse, *lines)
        self.assertEqual(error.status, status, lines)

    def check_usual(self, block: bytes) -> None:
        found = USUAL_LINE.match(block) if block.endswith(b"\r\n") else None
        expected = (0, 0, 0) if found is None else (found.end(1), found.end(2), found.end())
        self.assertEqual(usual_line(block), expected, block)

    @given(st.lists(st.sampled_from(USUAL_PIECES) | st.sampled_from(OCTETS) | st.binary(max_size=3)).map(b"".join))
    def test_usual_lines(self, block: bytes) -> None:
        """A request line is taken for a usual one exactly if the grammar says so, whatever stands where."""
        for whole in (block, block + b"\r\n", b"GET /" + block + b" HTTP/1.1\r\n", b"GET /" + block + b"\r\n\r\n"):
            self.check_usual(whole)

    def test_octets_of_usual_lines(self) -> None:
        """Each octet in each place of a usual request line, and in place of each of its octets."""
        line = b"GET /a/b?c=d HTTP/1.1\r\n"
        for at in range(len(line) + 1):
            for octet in OCTETS:
                self.check_usual(line[:at] + octet + line[at:])
                self.check_usual(line[:at] + octet + line[at + 1 :])
            self.check_usual(line[:at])

    def test_again(self) -> None:
        """Data is read as a head of known lines only if it is one such head and nothing else."""
        heads = RequestHeads(LIMITS, PATHS)
        head = b"GET /%b HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"
        self.assertIsNone(heads.read_again(head % b"", None))
        last: Any = heads.read(head % b"").block
        for known in (last, None, heads.read(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n").block):
            again: Any = heads.read_again(head % b"c?d", known)
            self.assertEqual((again.path, again.query, again.host), (b"/c", b"d", b"a"))
            self.assertEqual(again.fields, [(b"X", b"y")])
            for other in (
                head % b"a" + head % b"b",
                head % b"a" + b"G",
                (head % b"a")[:-1],
                b"\r\n" + head % b"a",
                (head % b"a").replace(b"1.1", b"1.0"),
                (head % b"a").replace(b"y", b"z"),
                (head % b"a").replace(b"X", b"x"),
                (head % b"a").replace(b"\r\n\r\n", b"\n\r\n"),
                (head % b"a").replace(b"/", b"//"),
                head % b"../a",
                head % (b"a" * LIMITS.line),
            ):
                self.assertIsNone(heads.read_again(other, known), other)
            self.assertRaises(BadRequest, heads.read_again, (head % b"").replace(b"GET", b"TRACE"), known)

    def test_parts(self) -> None:
        """A head is taken apart into what routing and forwarding need."""
        request = parse(
            b"PUT /a%7Eb/../c?x=1?2 HTTP/1.1", b"Host: A.Example.:8080", b"Content-Length: 010", b"X-Y:  z \t"
        )
        self.assertEqual(request.method, b"PUT")
        self.assertEqual((request.path, request.query), (b"/c", b"x=1?2"))
        self.assertEqual((request.authority, request.host), (b"A.Example.:8080", b"a.example"))
        self.assertEqual(request.fields, [(b"X-Y", b"z")])
        self.assertEqual(request.length, 10)
        self.assertTrue(request.keep_alive)
        self.assertIn(b"\r\nContent-Length: 10\r\n", write_request(request))

    def test_connection_fields_stay_behind(self) -> None:
        """What belongs to the client's connection is not forwarded, and what Connection names neither."""
        request = parse(
            b"GET / HTTP/1.1",
            b"Host: a",
            b"Connection: close, X-Secret, Host, X-Forwarded-For",
            b"X-Secret: 1",
            b"Keep-Alive: 5",
            b"Proxy-Authorization: Basic x",
            b"TE: gzip, trailers",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AA",
            b"X-Kept: 2",
        )
        self.assertEqual(request.fields, [(b"X-Kept", b"2"), (b"TE", b"trailers")])
        self.assertEqual(request.authority, b"a")
        self.assertFalse(request.keep_alive)
        self.assertEqual(request.upgrade, b"")

    def test_spellings_with_underscores(self) -> None:
        """A name that a server could take for a field that the gate acts on is dropped; others are kept by choice."""
        lines = (
            b"GET / HTTP/1.1",
            b"Host: a",
            b"X_Forwarded_For: 1",
            b"X.Real.Ip: 1",
            b"Content_Length: 5",
            b"api_key: k",
        )
        self.assertEqual(parse(*lines).fields, [(b"api_key", b"k")])
        block = b"\r\n".join(lines) + b"\r\n\r\n"
        self.assertEqual(RequestHeads(LIMITS, PATHS, "delete").read(block).fields, [])
        self.assertRaises(BadRequest, RequestHeads(LIMITS, PATHS, "reject").read, block)

    def test_absolute_form(self) -> None:
        """The target's host comes before Host (RFC 9112, 3.2.2)."""
        request = parse(b"GET http://b.example?x HTTP/1.1", b"Host: a")
        self.assertEqual((request.authority, request.target), (b"b.example", b"/?x"))
        self.refused(400, b"GET ftp://b/ HTTP/1.1", b"Host: a")
        self.refused(400, b"GET http:///x HTTP/1.1", b"Host: a")
        self.refused(400, b"GET http://u@b/ HTTP/1.1", b"Host: a")

    def test_framing_is_unambiguous(self) -> None:
        """Nothing is accepted that two readers could frame in two ways."""
        for lines in (
            (b"Content-Length: 5", b"Content-Length: 5"),
            (b"Content-Length: 5, 5",),
            (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
            (b"Content-Length: \xb2",),
            (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
            (b"Transfer-Encoding: chunked, identity",),
            (b"Transfer-Encoding: identity",),
            (b"Transfer-Encoding:",),
            (b"Transfer-Encoding: x",),
            (b"Connection: transfer-encoding", b"Transfer-Encoding: chunked"),
        ):
            self.refused(400, b"POST / HTTP/1.1", b"Host: a", *lines)
        self.refused(501, b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: gzip, chunked")
        self.assertEqual(parse(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: Chunked\t").length, UNKNOWN)

    def test_repetition(self) -> None:
        """A head that is like another one is read afresh: what one request becomes does not touch the next."""
        lines = (b"GET /a HTTP/1.1", b"Host: a", b"X-Kept: 1", b"X-Forwarded-For: 9")
        first = parse(*lines)
        first.fields.append((b"X-Added", b"1"))
        first.set_path(b"/changed")
        second = parse(*lines)
        self.assertEqual((second.path, second.fields), (b"/a", [(b"X-Kept", b"1")]))
        self.assertTrue(second.keep_alive)
        self.assertFalse(parse(b"GET /a HTTP/1.0", *lines[1:]).keep_alive)
        self.refused(400, b"GET  /a HTTP/1.1", *lines[1:])

    def test_limits(self) -> None:
        """What is too long is refused with the status that says so, complete or not."""
        self.refused(414, b"GET /%b HTTP/1.1" % (b"a" * 9000), b"Host: a")
        self.refused(431, b"GET / HTTP/1.1", b"Host: a", b"X: %b" % (b"a" * 40000))
        self.refused(431, b"GET / HTTP/1.1", b"Host: a", *[b"X: y"] * 100)
        for start, status in ((b"G" * 9000, 414), (b"GET / HTTP/1.1\r\nX: " + b"a" * 40000, 431)):
            self.assertEqual(self.assertRaises(BadRequest, refuse_early, start, LIMITS).status, status)

    @given(st.binary(max_size=200))
    def test_any_octets(self, data: bytes) -> None:
        """No head, however odd, brings anything but a request or a refusal."""
        with contextlib.suppress(BadRequest):
            HEADS.read(data + b"\r\n\r\n")

    @given(
        st.text(TOKEN, min_size=1, max_size=8),
        st.lists(
            st.tuples(
                st.text(TOKEN, min_size=1, max_size=12).map(lambda name: "X-" + name),
                st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20),
            ),
            max_size=8,
        ),
        st.text("abcXYZ019-._~/%?=&", max_size=30),
        st.integers(0, 10**15),
    )
    def test_what_is_written_reads_the_same(
        self, method: str, fields: list[tuple[str, str]], target: str, length: int
    ) -> None:
        """A request that was accepted and written reads as the same request: there is nothing left to normalise."""
        lines = [f"{method} /{target} HTTP/1.1", "Host: a.example", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in fields]
        try:
            first = parse(*[line.encode("latin-1").replace(b"\x80", b"\xa0") for line in lines])
        except BadRequest:
            return
        second = RequestHeads(HeadLimits(head=10**6, line=10**6), PATHS).read(write_request(first))
        for name in ("method", "path", "query", "authority", "host", "fields", "length"):
            self.assertEqual(getattr(first, name), getattr(second, name), name)


class HostTests(SynchronousTestCase):
    def test_hosts(self) -> None:
        """Hosts are names or addresses with at most a port."""
        for value, host in ((b"a.B", b"a.b"), (b"a.:80", b"a"), (b"[::1]:80", b"[::1]"), (b"1.2.3.4", b"1.2.3.4")):
            self.assertEqual(parse_host(value), (value, host))
        for value in (b"u@a", b"a/b", b"[::1", b"a:99999", b"a:x", b"a,b", b"a b", b"[1.2]", b"a:", b"\xe4"):
            self.assertRaises(BadRequest, parse_host, value)


class ResponseTests(SynchronousTestCase):
    def test_parts(self) -> None:
        """An answer's framing and connection fields become attributes."""
        head = parse_response(
            b"HTTP/1.1 200\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 3\r\n"
            b"Connection: X-Gone\r\nX-Gone: 1\r\nKeep-Alive: 5\r\n\r\n"
        )
        response = head.response()
        self.assertEqual((response.status, response.reason, response.length), (200, b"", 3))
        self.assertEqual(response.fields, [(b"Set-Cookie", b"a"), (b"Set-Cookie", b"b")])
        self.assertTrue(head.is_reusable)
        self.assertEqual(head.upgrade, b"")

    def test_both_framings(self) -> None:
        """Chunked wins, and the connection is not used again (RFC 9112, 6.3)."""
        head = parse_response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n")
        self.assertEqual((head.length, head.is_reusable), (CHUNKED, False))

    def test_refused(self) -> None:
        """What a client could read in another way is not passed on."""
        for head in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/2 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        ):
            self.assertRaises(BadResponse, parse_response, head)


class PathTests(SynchronousTestCase):
    @given(st.text("ab./%2eEfF5cC0~\\?#;@[]", max_size=25))
    def test_usual_paths_are_normal(self, text: str) -> None:
        """However a request line is read, its path is the normal form, or it is refused."""
        target = b"/" + text.encode()
        path = target.partition(b"?")[0]
        try:
            request = parse(b"GET " + target + b" HTTP/1.1", b"Host: a")
        except BadRequest:
            if b"#" not in target:
                self.assertRaises(BadRequest, PATHS.normalise, path)
        else:
            self.assertNotIn(b"#", target)
            self.assertEqual(request.path, PATHS.normalise(path))
            self.assertEqual(request.query, target.partition(b"?")[2] if b"?" in target else None)

    def test_normal_form(self) -> None:
        """Paths have one spelling."""
        for given_path, normal in (
            (b"/", b"/"),
            (b"/a/../b", b"/b"),
            (b"/a//b/", b"/a/b/"),
            (b"/a/.", b"/a/"),
            (b"/a/..", b"/"),
            (b"/a/b/..", b"/a/"),
            (b"/%7euser/%c3%a4", b"/~user/%C3%A4"),
            (b"/.well-known/x", b"/.well-known/x"),
            (b"/a%3fb", b"/a%3Fb"),
            (b"/%2e%2e/..", None),
            (b"/../x", None),
            (b"/a%2fb", None),
            (b"/a%5cb", None),
            (b"/a%00", None),
            (b"/a\\b", None),
            (b"/%zz", None),
        ):
            if normal is None:
                self.assertRaises(BadRequest, PATHS.normalise, given_path)
            else:
                self.assertEqual(PATHS.normalise(given_path), normal)

    @given(st.text("ab./%2eEfF5cC0~", max_size=25))
    def test_normal_form_is_final(self, text: str) -> None:
        """A normal path has no other normal form, and no segment that leads up."""
        try:
            path = PATHS.normalise(b"/" + text.encode())
        except BadRequest:
            return
        self.assertEqual(PATHS.normalise(path), path)
        self.assertNotIn(b"..", path.split(b"/"))
