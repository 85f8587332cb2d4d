"""The same network on a reactor's own transports, for where uvloop cannot be installed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, execute, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import TimeoutError as ReactorTimeoutError
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from swarmgate.transport.native import listening_socket, rest_of, steer_to_next
from swarmgate.transport.network import ConnectTimeout
from swarmgate.transport.turn_end import TurnEnd


class ReactorListening:
    """A :class:`~swarmgate.transport.network.ListeningSocket`."""

    def __init__(self, reactor: Any, port: Any, family: int, factory: Factory, is_shared: bool = False) -> None:
        self._is_shared = is_shared
        self._reactor = reactor
        self._port = port
        self._family = family
        self._factory = factory
        self._number = int(port.getHost().port)
        self._queue = socket.socket(fileno=os.dup(port.fileno()))

    def port(self) -> int:
        return self._number

    def shared(self) -> socket.socket:
        return self._queue

    def turn_away(self) -> None:
        steer_to_next(self._queue)

    def pause(self) -> None:
        self._port.stopReading()

    def resume(self) -> None:
        self._port.startReading()

    def close(self) -> None:
        maybeDeferred(self._port.stopListening).addBoth(self._adopt_rest)

    def _adopt_rest(self, _: object) -> None:
        for accepted in rest_of(self._queue, self._is_shared):
            # The reactor takes a descriptor of its own.
            self._reactor.adoptStreamConnection(accepted.fileno(), self._family, self._factory)
            accepted.close()


class _ServerFactory(Factory):
    noisy = False

    def __init__(self, make: Callable[[], IProtocol]) -> None:
        self._make = make

    def buildProtocol(self, addr: Any) -> Any:
        return self._make()


class ReactorNetwork:
    """A :class:`~swarmgate.transport.network.Network` on a Twisted reactor."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.turn_end: TurnEnd | None = TurnEnd(lambda call: reactor.callLater(0, call))

    def listen(
        self,
        host: str,
        port: int,
        make: Callable[[], IProtocol],
        *,
        reuse_port: bool = False,
        bound: socket.socket | None = None,
    ) -> Deferred[ReactorListening]:
        def start() -> ReactorListening:
            listens = bound or listening_socket(host, port, reuse_port)
            try:
                listens.setblocking(False)
                family = socket.AF_INET6 if listens.family == socket.AF_INET6 else socket.AF_INET
                factory = _ServerFactory(make)
                listening = self._reactor.adoptStreamPort(listens.fileno(), family, factory)
                return ReactorListening(self._reactor, listening, family, factory, bound is not None)
            finally:
                listens.close()

        return execute(start)

    def connect(
        self, host: str, port: int, timeout: float, protocol: IProtocol, failed: Callable[[Exception], None]
    ) -> None:
        def on_failure(failure: Failure) -> None:
            error = failure.value
            if isinstance(error, ReactorTimeoutError):
                error = ConnectTimeout(f"no answer from {host}:{port} within {timeout:g} s")
            failed(error if isinstance(error, Exception) else Exception(str(error)))

        endpoint = HostnameEndpoint(self._reactor, host, port, timeout=timeout)
        connectProtocol(endpoint, protocol).addErrback(on_failure)
