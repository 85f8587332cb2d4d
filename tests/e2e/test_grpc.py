"""gRPC through the gate: grpcio as client and as server, HTTP/2 in clear text, and over TLS to the server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.gate import Gate
from tests.pki import Authority

PATIENCE = 20.0
COUNT = 200


class Echo(grpc.GenericRpcHandler):
    """A service of bytes in the four shapes of gRPC."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def service(self, details: Any) -> Any:
        return {
            "/echo/Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "/echo/Collect": grpc.stream_unary_rpc_method_handler(self.collect),
            "/echo/Count": grpc.unary_stream_rpc_method_handler(self.count),
            "/echo/Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "/echo/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "/echo/Endless": grpc.unary_stream_rpc_method_handler(self.endless),
        }.get(details.method)

    def unary(self, request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("x-after", "yes"),))
        return request

    def collect(self, requests: Iterator[bytes], context: Any) -> bytes:
        return b"%d" % sum(len(request) for request in requests)

    def count(self, request: bytes, context: Any) -> Iterator[bytes]:
        for number in range(COUNT):
            yield b"%d" % number * int(request)

    def chat(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for request in requests:
            yield request[::-1]

    def fail(self, request: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")
        raise AssertionError

    def endless(self, request: bytes, context: Any) -> Iterator[bytes]:
        context.add_callback(self.cancelled.set)
        while context.is_active():
            yield b"more" * 1000


class GrpcTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.echo = Echo()
        server = grpc.server(ThreadPoolExecutor(8), handlers=(self.echo,))
        url = self.listen(server)
        server.start()
        self.addCleanup(lambda: server.stop(None).wait(PATIENCE))
        gate = Gate(
            "http:\n"
            "  routers:\n"
            "    grpc: {rule: PathPrefix(`/`), service: echo}\n"
            "  services:\n"
            f"    echo: {{loadBalancer: {{serversTransport: trusting, servers: [{{url: '{url}'}}]}}}}\n"
            "  serversTransports:\n"
            "    trusting: {insecureSkipVerify: true}\n"
        )
        self.addCleanup(gate.stop)
        self.channel: Any = grpc.insecure_channel(f"127.0.0.1:{gate.port}")
        self.addCleanup(self.channel.close)

    def listen(self, server: Any) -> str:
        """Give the server a port. Returns its URL for the gate."""
        return f"h2c://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"

    def test_unary(self) -> None:
        """A call is answered, with what the server says after the answer."""
        answer, call = self.channel.unary_unary("/echo/Unary").with_call(b"hello", timeout=PATIENCE)
        self.assertEqual(answer, b"hello")
        self.assertIn(("x-after", "yes"), [tuple(pair) for pair in call.trailing_metadata()])

    def test_large_unary(self) -> None:
        """A message that is larger than every window passes both ways."""
        message = bytes(range(256)) * 12_000
        self.assertEqual(self.channel.unary_unary("/echo/Unary")(message, timeout=PATIENCE), message)

    def test_client_streaming(self) -> None:
        """The server gets all of many messages."""
        answer = self.channel.stream_unary("/echo/Collect")((b"x" * 10_000 for _ in range(COUNT)), timeout=PATIENCE)
        self.assertEqual(answer, b"%d" % (10_000 * COUNT))

    def test_server_streaming(self) -> None:
        """The client gets all of many messages, in order."""
        answers = list(self.channel.unary_stream("/echo/Count")(b"3000", timeout=PATIENCE))
        self.assertEqual(answers, [b"%d" % number * 3000 for number in range(COUNT)])

    def test_bidirectional_streaming(self) -> None:
        """Each message is answered before the next is sent."""
        turn = threading.Semaphore(1)

        def ask() -> Iterator[bytes]:
            for number in range(COUNT):
                turn.acquire()
                yield b"message %d" % number

        said = []
        for answer in self.channel.stream_stream("/echo/Chat")(ask(), timeout=PATIENCE):
            said.append(answer)
            turn.release()
        self.assertEqual(said, [(b"message %d" % number)[::-1] for number in range(COUNT)])

    def test_error(self) -> None:
        """An answer that is nothing but trailers keeps its status and its message."""
        error = self.assertRaises(grpc.RpcError, self.channel.unary_unary("/echo/Fail"), b"", timeout=PATIENCE)
        self.assertEqual((error.code(), error.details()), (grpc.StatusCode.FAILED_PRECONDITION, "not today"))

    def test_unknown_method(self) -> None:
        """A method that the server does not have is unimplemented, as without a gate."""
        error = self.assertRaises(grpc.RpcError, self.channel.unary_unary("/echo/Nothing"), b"", timeout=PATIENCE)
        self.assertEqual(error.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_cancel(self) -> None:
        """A client that cancels a call ends it at the server, too."""
        call = self.channel.unary_stream("/echo/Endless")(b"", timeout=PATIENCE)
        next(call)
        call.cancel()
        self.assertTrue(self.echo.cancelled.wait(PATIENCE))

    def test_many_at_once(self) -> None:
        """Calls on one connection do not get each other's answers."""
        unary = self.channel.unary_unary("/echo/Unary")
        calls = [(number, unary.future(b"%d" % number * 50, timeout=PATIENCE)) for number in range(300)]
        for number, call in calls:
            self.assertEqual(call.result(), b"%d" % number * 50)


class SecureGrpcTests(GrpcTests):
    """The same with a server that speaks HTTP/2 over TLS."""

    def listen(self, server: Any) -> str:
        pair = Authority("the servers").issue("localhost")
        credentials = grpc.ssl_server_credentials([(pair.key.encode(), pair.chain.encode())])
        return f"https://127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
