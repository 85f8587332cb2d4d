"""The configs of a Swarm: small texts that its managers keep in their replicated log, and that can be read by the API.

:class:`IConfigs` has two implementations, held to one suite of tests: :class:`DockerConfigs` speaks to a Docker engine,
:class:`swarmgate.acme.memory.MemoryConfigs` has them in memory.

Asked for are ``GET /version``, ``GET /configs``, ``POST /configs/create``, ``POST /configs/ID/update``,
``DELETE /configs/ID`` and ``GET /events``. A config's data can't be changed, its labels can: the update names the
version that it is based on and is refused if there is a newer one, so that labels are a register with
compare-and-swap. There are no two configs of one name: to create one is to put it if it is absent.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import attrs
import docker
import docker.errors
import requests
from docker.types.daemon import CancellableStream
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.python.threadpool import ThreadPool
from zope.interface import Interface, implementer

from swarmgate.providers.swarm.engine import OLDEST_API, Endpoint, reason
from swarmgate.providers.swarm.interface import SwarmError

T = TypeVar("T")

LARGEST = 500 * 1024 - 1
"""Octets that a config's data may have (older engines; newer ones take twice as much)."""

_PATIENCE = 2.0  # Seconds that close() waits for calls under way.


@attrs.frozen
class Config:
    """A config as it was when it was looked at.

    :ivar version: what it was changed last by: a number of the replicated log.
    :ivar created: in seconds since 1970, by the manager's clock.
    """

    id: str
    name: str
    version: int
    labels: Mapping[str, str]
    data: bytes = attrs.field(repr=False)
    created: float = 0.0


class IConfigs(Interface):
    """The configs of a Swarm. Nothing blocks; everything fails with :exc:`SwarmError`."""

    def find(prefixes: Sequence[str]) -> Deferred[tuple[Config, ...]]:
        """The configs whose names begin with any of *prefixes*, sorted by name."""

    def create(name: str, labels: Mapping[str, str], data: bytes) -> Deferred[bool]:
        """Create a config; False if there is one of this name."""

    def relabel(config: Config, labels: Mapping[str, str]) -> Deferred[bool]:
        """Replace the labels; False if it was changed since it was looked at, or is gone."""

    def remove(config: Config) -> Deferred[None]:
        """Remove a config; one that is gone already is no error."""

    def subscribe(ring: Callable[[], None], lost: Callable[[SwarmError], None]) -> Callable[[], None]:
        """Tell of changes to configs, as :meth:`.ISwarm.subscribe` does of others."""

    def close() -> Deferred[None]:
        """End subscriptions, and fire when nothing is under way any more. Calls made later fail."""


class _DaemonThread(threading.Thread):
    """A thread that does not keep the process from ending."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, daemon=True, **named)


@implementer(IConfigs)
class DockerConfigs:
    """The configs of the Swarm that the engine behind *endpoint* manages; its calls block, so threads make them.

    :param reactor: to come back to from threads (IReactorFromThreads), and for its clock.
    """

    def __init__(self, reactor: Any, endpoint: Endpoint) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._pool = ThreadPool(0, 2, "configs")
        self._pool.threadFactory = _DaemonThread
        self._connected: tuple[docker.APIClient, str] | None = None
        self._under_way: set[Deferred[Any]] = set()
        self._streams: set[_Listening] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<DockerConfigs {self._endpoint}{' closed' if self._closed else ''}>"

    def find(self, prefixes: Sequence[str]) -> Deferred[tuple[Config, ...]]:
        """See :meth:`IConfigs.find`."""
        return self._in_thread(lambda: self._find(tuple(prefixes)))

    def create(self, name: str, labels: Mapping[str, str], data: bytes) -> Deferred[bool]:
        """See :meth:`IConfigs.create`."""
        spec = {"Name": name, "Labels": dict(labels), "Data": base64.b64encode(data).decode()}
        return self._in_thread(lambda: self._call("POST", "/configs/create", spec, {201: True, 409: False}))

    def relabel(self, config: Config, labels: Mapping[str, str]) -> Deferred[bool]:
        """See :meth:`IConfigs.relabel`."""
        spec = {"Name": config.name, "Labels": dict(labels), "Data": base64.b64encode(config.data).decode()}
        path = f"/configs/{config.id}/update?version={config.version}"
        return self._in_thread(lambda: self._call("POST", path, spec, {200: True, 404: False}))

    def remove(self, config: Config) -> Deferred[None]:
        """See :meth:`IConfigs.remove`."""
        answers = {204: None, 404: None}
        return self._in_thread(lambda: self._call("DELETE", f"/configs/{config.id}", None, answers))

    def subscribe(self, ring: Callable[[], None], lost: Callable[[SwarmError], None]) -> Callable[[], None]:
        """See :meth:`IConfigs.subscribe`."""
        listening = _Listening(self._reactor, ring, lost, self._streams.discard)
        if self._closed:
            listening.end(SwarmError("the Swarm has been closed"))
        else:
            self._streams.add(listening)
            _DaemonThread(target=self._listen, args=(listening,), name="config-events").start()
        return listening.cancel

    def close(self) -> Deferred[None]:
        """See :meth:`IConfigs.close`. A call that hangs is waited for 2 s; then its thread is left to itself."""
        if self._closed:
            return succeed(None)
        self._closed = True
        for listening in list(self._streams):
            listening.cancel()
        finished: Deferred[Any] = DeferredList(list(self._under_way))
        finished.addTimeout(_PATIENCE, self._reactor)
        return finished.addCallbacks(self._stop, lambda _: None)

    def _stop(self, _: Any) -> None:
        if self._pool.started:
            self._pool.stop()  # Its threads have nothing to do: they end at once.
        if self._connected is not None:
            self._connected[0].close()

    def _in_thread(self, call: Callable[[], T]) -> Deferred[T]:
        if self._closed:
            return fail(SwarmError("the Swarm has been closed"))
        if not self._pool.started:
            self._pool.start()
        result: Deferred[T] = Deferred()
        finished: Deferred[None] = Deferred()
        self._under_way.add(finished)

        def arrived(good: bool, value: Any) -> None:
            (result.callback if good else result.errback)(value)
            self._under_way.discard(finished)
            finished.callback(None)

        self._pool.callInThreadWithCallback(
            lambda good, value: self._reactor.callFromThread(arrived, good, value), call
        )
        return result

    # From here on in threads.

    def _find(self, prefixes: tuple[str, ...]) -> tuple[Config, ...]:
        filters = json.dumps({"name": list(prefixes)})
        told = self._call("GET", "/configs", None, {}, params={"filters": filters})
        try:
            # Older engines match the name anywhere.
            found = [_config(one) for one in told or () if one["Spec"]["Name"].startswith(prefixes)]
        except (KeyError, TypeError, ValueError) as error:
            raise SwarmError(f"{self._endpoint}: GET /configs: unreadable: {type(error).__name__}") from error
        return tuple(sorted(found, key=lambda config: config.name))

    def _call(self, method: str, path: str, body: Any, answers: Mapping[int, Any], **options: Any) -> Any:
        """Make a call; what *answers* has under its status, the decoded body for 200 if it has nothing there."""
        try:
            if self._connected is None:
                self._connected = self._connect()
            client, base = self._connected
            response = client.request(method, base + path, json=body, timeout=self._endpoint.timeout, **options)
            if response.status_code in answers:
                return answers[response.status_code]
            if response.status_code == 200:
                return response.json()
            told = _message(response)
            if "update out of sequence" in told:
                # Docker has no status of its own for it, and answers 500.
                return False
            if response.status_code == 403:
                told = (
                    "not allowed (403); a socket proxy has to allow CONFIGS, and POST and DELETE for it; "
                    "or choose a file as storage"
                )
            raise SwarmError(f"{self._endpoint}: {method} {path.partition('?')[0]}: {told}")
        except SwarmError:
            raise
        except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
            # An engine that went away may come back as another version: the next call negotiates again.
            self._connected = None
            raise SwarmError(f"{self._endpoint}: {method} {path.partition('?')[0]}: {reason(error)}") from error

    def _connect(self) -> tuple[docker.APIClient, str]:
        client = docker.APIClient(
            version=".".join(map(str, OLDEST_API)),
            timeout=self._endpoint.timeout,
            user_agent="swarmgate",
            **self._endpoint.options(),
        )
        client.trust_env = False
        if self._endpoint.username and self._endpoint.password:
            client.auth = (self._endpoint.username, self._endpoint.password)
        response = client.get(f"{client.base_url}/version", timeout=self._endpoint.timeout)
        version = response.json().get("ApiVersion") if response.status_code == 200 else None
        if not isinstance(version, str) or not re.fullmatch(r"\d+\.\d+", version):
            raise SwarmError(f"{self._endpoint}: GET /version: {_message(response)}")
        return client, f"{client.base_url}/v{version}"

    def _listen(self, listening: _Listening) -> None:
        client = None
        try:
            client, base = self._connect()
            filters = json.dumps({"type": ["config"]})
            timeout = (self._endpoint.timeout, None)
            url = f"{base}/events"
            with client.get(url, params={"filters": filters}, stream=True, timeout=timeout) as response:
                if response.status_code != 200:
                    raise SwarmError(f"{self._endpoint}: GET /events: {_message(response)}")
                listening.begun(response)
                for _ in response.iter_content(None if getattr(response.raw, "chunked", True) else 1):
                    listening.ring()
            listening.end(SwarmError(f"{self._endpoint}: the event stream has ended"))
        except Exception as error:  # Whatever it is, the subscriber has to be told that no event will come.
            listening.end(SwarmError(f"{self._endpoint}: GET /events: {reason(error)}"))
        finally:
            if client is not None:
                client.close()


class _Listening:
    """A subscriber: its callbacks, and the way from the thread that reads to the reactor's."""

    def __init__(
        self,
        reactor: Any,
        ring: Callable[[], None],
        lost: Callable[[SwarmError], None],
        forget: Callable[[_Listening], None],
    ) -> None:
        self._reactor = reactor
        self._ring = ring
        self._lost = lost
        self._forget = forget
        self._stream: CancellableStream | None = None
        self._lock = threading.Lock()
        self._over = False

    def begun(self, response: requests.Response) -> None:
        """In the thread: the stream is open."""
        with self._lock:
            self._stream = CancellableStream(iter(()), response)
        if self._over:
            self._close_stream()
        self.ring()

    def ring(self) -> None:
        """In the thread: there is an event."""
        self._reactor.callFromThread(self._rung)

    def _rung(self) -> None:
        if not self._over:
            self._ring()

    def end(self, error: SwarmError) -> None:
        """In the thread: the stream is over."""
        self._reactor.callFromThread(self._ended, error)

    def _ended(self, error: SwarmError) -> None:
        if not self._over:
            self._over = True
            self._forget(self)
            self._lost(error)

    def cancel(self) -> None:
        """On the reactor's thread: nothing is to be called any more."""
        if not self._over:
            self._over = True
            self._forget(self)
            self._close_stream()

    def _close_stream(self) -> None:
        with self._lock:
            stream, self._stream = self._stream, None
        if stream is not None:
            try:
                stream.close()
            except (docker.errors.DockerException, OSError, AttributeError):
                # Over ssh it can't be closed from here: its thread waits for the next event, and ends then.
                return


def _config(told: Any) -> Config:
    spec = told["Spec"]
    # Nanoseconds, which datetime does not read, are cut off.
    created = datetime.fromisoformat(re.sub(r"\.(\d{1,6})\d*Z$|Z$", lambda m: f".{m[1] or 0}+00:00", told["CreatedAt"]))
    return Config(
        told["ID"],
        spec["Name"],
        int(told["Version"]["Index"]),
        dict(spec.get("Labels") or {}),
        base64.b64decode(spec.get("Data") or ""),
        created.timestamp(),
    )


def _message(response: requests.Response) -> str:
    """What an answer's body says, for people."""
    try:
        told = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        told = response.text[:200].strip()
    if response.status_code == 503 and "not a swarm manager" in told:
        return "this engine is not a manager of a Swarm; connect to a manager, or run on one"
    return f"answered {response.status_code}: {told}"
