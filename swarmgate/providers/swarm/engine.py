"""The Swarm behind a Docker engine: :class:`Engine`, the real :class:`~.interface.ISwarm`.

The ``docker`` package's client blocks, so its calls are made in threads, a few of the engine's own, and what they
answer is made into frozen values there. The event stream has a thread to itself. Every call has its socket timeouts;
the event stream has none, as it may be silent for hours: whoever relies on it polls besides.

Asked for are ``/version``, ``/services``, ``/tasks``, ``/networks``, ``/nodes`` and ``/events``, and nothing else, so
a socket proxy has to allow just these. They are asked for in the newest version of the API that the engine speaks, of
which 1.40 is the oldest that will do. Operations ask besides for ``GET /services/ID``, ``POST /services/ID/update``,
``GET /nodes/ID`` and ``POST /nodes/ID/update``, logs for ``GET /services/ID/logs`` and ``GET /tasks/ID/logs``.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import attrs
import docker
import docker.errors
import docker.tls
import docker.utils
import requests
from docker.types.daemon import CancellableStream
from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from swarmgate.providers.swarm.decode import (
    ListDecoder,
    network_from,
    node_from,
    refuse,
    service_fault,
    service_from,
    task_fault,
    task_from,
)
from swarmgate.providers.swarm.interface import ISwarm, Refused, SwarmError
from swarmgate.providers.swarm.operate import Log, Operation, changed, log_lines
from swarmgate.providers.swarm.snapshot import Network, Node, Snapshot, SwarmService, Task

T = TypeVar("T")

OLDEST_API = (1, 40)  # Docker 19.03
_WANTED_TASKS = {"desired-state": ["running"]}
_ENDED_TASKS = {"desired-state": ["shutdown"]}
_SWARM_NETWORKS = {"scope": ["swarm"]}
_TOLD_EVENTS = {"type": ["service", "network", "node"]}
_PATIENCE = 2.0  # seconds that close() waits for calls under way
_NETWORK_PAUSES = (0.1, 0.4, 1.0)  # seconds until missing networks are asked for again
_ATTEMPTS = 3  # at a change that somebody else's comes before
_LOG_BYTES = 2 * 1024 * 1024
_LOG_SECONDS = 8.0  # that all lines may take to come
_LOG_SILENCE = 3.0  # seconds without any, after which no more are waited for
_LOGS_AT_ONCE = 2  # so that there are threads left to look
# What a socket proxy calls the permission for a path (the environment variables of the usual ones).
_PERMISSIONS = {"/version": "VERSION", "/services": "SERVICES", "/tasks": "TASKS"} | {
    "/networks": "NETWORKS",
    "/nodes": "NODES",
    "/events": "EVENTS",
}


@attrs.frozen
class Endpoint:
    """Where a Docker engine is reached, and how.

    :ivar url: ``unix://``, ``tcp://``, ``http(s)://`` or ``ssh://``; ``""`` means what ``environ`` says by DOCKER_HOST
        (with DOCKER_TLS_VERIFY and DOCKER_CERT_PATH), or else the usual socket.
    :ivar ca: file with the authorities that sign the engine's certificate; ``""``: those that the machine trusts.
    :ivar cert: file with the client's certificate; ``key``: file with its key.
    :ivar tls: whether a ``tcp://`` endpoint speaks TLS; it does if any of ``ca``, ``cert`` and ``key`` is given.
    :ivar insecure_skip_verify: take any certificate of the engine.
    :ivar username: for a proxy before the socket that wants one, with ``password``; sent only if both are given.
    :ivar timeout: seconds until a connect, or a silence within an answer, is given up.
    """

    url: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    tls: bool = False
    insecure_skip_verify: bool = False
    username: str = ""
    password: str = attrs.field(default="", repr=False)
    timeout: float = 10.0
    environ: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    def options(self) -> dict[str, Any]:
        """Return the options of ``docker.APIClient`` for it.

        :raises docker.errors.TLSParameterError: a file with a certificate is not there.
        """
        if not self.url:
            # Given an empty mapping the package would read the process's own environment.
            return dict(docker.utils.kwargs_from_env(self.environ)) if self.environ else {}
        options: dict[str, Any] = {"base_url": self.url}
        if self.tls or self.ca or self.cert or self.key or self.insecure_skip_verify:
            options["tls"] = docker.tls.TLSConfig(
                client_cert=(self.cert, self.key) if self.cert or self.key else None,
                ca_cert=self.ca or None,
                verify=not self.insecure_skip_verify,
            )
        return options

    def __str__(self) -> str:
        return self.url or self.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


@attrs.frozen
class _Connection:
    """A client, and what all paths begin with: where the API is, in the version that was agreed on."""

    client: docker.APIClient
    base: str


@implementer(ISwarm)
class Engine:
    """A Swarm seen through the engine of one of its managers.

    :param reactor: for its clock, and to come back to from threads (IReactorTime, IReactorFromThreads).
    :param own_container: see :meth:`ISwarm.own_container`; :func:`find_own_container` finds it.
    """

    def __init__(self, reactor: Any, endpoint: Endpoint, own_container: str = "") -> None:
        self.own_container = own_container
        self._reactor = reactor
        self._endpoint = endpoint
        self._pool = ThreadPool(0, 4, "swarm")
        self._pool.threadFactory = _DaemonThread
        self._connection: _Connection | None = None
        self._decoding = threading.Lock()
        self._services = ListDecoder[SwarmService](service_from, service_fault)
        self._tasks = ListDecoder[Task](task_from, task_fault)
        self._failed = ListDecoder[Task](task_from, task_fault)
        self._logs_under_way = 0
        self._networks = ListDecoder[Network](network_from, refuse, first="Name")
        self._nodes = ListDecoder[Node](node_from, refuse)
        self._missing: set[str] = set()  # networks that services are on and the engine does not tell of
        self._under_way: set[Deferred[Any]] = set()
        self._subscriptions: set[_Subscription] = set()
        self._closed = False
        self._closing = threading.Event()

    def __repr__(self) -> str:
        return f"<Engine {self._endpoint}{' closed' if self._closed else ''}>"

    def look(self) -> Deferred[Snapshot]:
        """See :meth:`ISwarm.look`."""
        return self._in_thread(self._look)

    def tasks(self) -> Deferred[tuple[Task, ...]]:
        """See :meth:`ISwarm.tasks`."""
        return self._in_thread(self._list_tasks)

    def failed(self) -> Deferred[tuple[Task, ...]]:
        """See :meth:`ISwarm.failed`."""
        return self._in_thread(
            lambda: tuple(one for one in self._list("/tasks", _ENDED_TASKS, self._failed) if one.has_failed)
        )

    def operate(self, operation: Operation) -> Deferred[None]:
        """See :meth:`ISwarm.operate`."""
        return self._in_thread(lambda: self._operate(operation))

    def log(self, service: str, tail: int, task: str = "") -> Deferred[Log]:
        """See :meth:`ISwarm.log`. It takes 8 s and 2 MiB at most; there are two at once at most."""
        if self._logs_under_way >= _LOGS_AT_ONCE:
            return fail(Refused(503, "other logs are being read, ask again in a moment"))
        self._logs_under_way += 1

        def over(result: Any) -> Any:
            self._logs_under_way -= 1
            return result

        return self._in_thread(lambda: self._log(service, tail, task)).addBoth(over)

    def subscribe(self, ring: Callable[[], None], lost: Callable[[SwarmError], None]) -> Callable[[], None]:
        """See :meth:`ISwarm.subscribe`."""
        subscription = _Subscription(self._reactor, ring, lost, self._subscriptions.discard)
        if self._closed:
            subscription.end(SwarmError("the Swarm has been closed"))
        else:
            self._subscriptions.add(subscription)
            _DaemonThread(target=self._listen, args=(subscription,), name="swarm-events").start()
        return subscription.cancel

    def close(self) -> Deferred[None]:
        """See :meth:`ISwarm.close`. A call that hangs is waited for 2 s; then its thread is left to itself."""
        if self._closed:
            return succeed(None)
        self._closed = True
        self._closing.set()
        for subscription in list(self._subscriptions):
            subscription.cancel()
        finished: Deferred[Any] = DeferredList(list(self._under_way))
        finished.addTimeout(_PATIENCE, self._reactor)
        # Threads that hang are left to themselves: to join them would block the reactor.
        return finished.addCallbacks(self._stop_pool, lambda _: None)

    def _stop_pool(self, _: Any) -> None:
        if self._pool.started:
            self._pool.stop()  # its threads have nothing to do: they end at once
        if self._connection is not None:
            self._connection.client.close()

    def _in_thread(self, call: Callable[[], T]) -> Deferred[T]:
        if self._closed:
            return fail(SwarmError("the Swarm has been closed"))
        if not self._pool.started:
            self._pool.start()
        result: Deferred[T] = Deferred()
        finished: Deferred[None] = Deferred()
        self._under_way.add(finished)

        def arrived(good: bool, value: Any) -> None:
            # Whoever waits for the result may have cancelled it, which ends no thread: what has finished is told apart.
            (result.callback if good else result.errback)(value)
            self._under_way.discard(finished)
            finished.callback(None)

        self._pool.callInThreadWithCallback(
            lambda good, value: self._reactor.callFromThread(arrived, good, value), call
        )
        return result

    # From here on in threads.

    def _look(self) -> Snapshot:
        nodes = self._list("/nodes", None, self._nodes)
        services = self._list("/services", None, self._services)
        networks = self._list_networks(services)
        # Tasks last: a task whose service is missing would have to wait for the next look.
        return Snapshot(services, self._list_tasks(), networks, nodes)

    def _list_networks(self, services: tuple[SwarmService, ...]) -> tuple[Network, ...]:
        """List the networks, again after a pause while one that a service is on is newly missing.

        An engine that can't reach the managers, as one that has just started, answers with the networks that it knows
        by itself and no error. Some are always missing: the nodes' own, as ``host``.
        """
        wanted = {network for service in services for network in service.networks}
        for pause in (*_NETWORK_PAUSES, 0.0):
            networks = self._list("/networks", _SWARM_NETWORKS, self._networks)
            missing = wanted.difference(network.id for network in networks)
            if missing <= self._missing:
                break
            self._closing.wait(pause)
        self._missing = missing
        return networks

    def _list_tasks(self) -> tuple[Task, ...]:
        return self._list("/tasks", _WANTED_TASKS, self._tasks)

    def _list(self, path: str, filters: Any, decode: ListDecoder[T]) -> tuple[T, ...]:
        try:
            connection = self._connection
            if connection is None:
                connection = self._connection = self._connect()
            with self._get(connection, path, filters, self._endpoint.timeout) as response:
                body = b"".join(response.iter_content(1 << 16))
            with self._decoding:
                return decode(body)
        except (docker.errors.DockerException, requests.RequestException, OSError, ValueError, SwarmError) as error:
            # An engine that went away may come back as another version: the next call negotiates again.
            self._connection = None
            raise self._explain(path, error) from error

    def _operate(self, operation: Operation) -> None:
        kind = "nodes" if operation.is_of_node else "services"
        path = f"/{kind}/{quote(operation.name, safe='')}"
        for attempt in range(1, _ATTEMPTS + 1):
            told = self._ask(path)
            try:
                spec, query = changed(told, operation)
                version, where = told["Version"]["Index"], f"/{kind}/{told['ID']}/update"
            except (KeyError, TypeError) as error:
                raise SwarmError(f"{self._endpoint}: GET {path}: unreadable: {error}") from error
            try:
                self._call("POST", where, {"version": str(version), **query}, spec).close()
                return
            except Refused as error:
                # Somebody else has changed it meanwhile; Docker has no status of its own for that, and answers 500.
                if "update out of sequence" not in str(error) or attempt == _ATTEMPTS:
                    raise

    def _log(self, service: str, tail: int, task: str) -> Log:
        path = f"/services/{quote(service, safe='')}"
        if task:
            # A task's own lines, once it is known to be the service's.
            filters = json.dumps({"service": [service], "id": [task]})
            if not any(one.get("ID") == task for one in self._ask("/tasks", {"filters": filters})):
                raise Refused(404, f"{service} has no task {task}")
            path = f"/tasks/{quote(task, safe='')}"
        options = {"stdout": "1", "stderr": "1", "timestamps": "1", "details": "1", "tail": str(tail)}
        until = time.monotonic() + _LOG_SECONDS
        data, is_complete = bytearray(), True
        with self._call("GET", f"{path}/logs", options, silence=_LOG_SILENCE) as response:
            try:
                for piece in response.iter_content(1 << 14):
                    data += piece
                    if len(data) > _LOG_BYTES or time.monotonic() > until:
                        is_complete = False
                        break
            except (requests.RequestException, OSError):
                is_complete = False  # A node is silent: what the others have said is worth telling.
        lines = sorted(log_lines(bytes(data)), key=lambda line: line.time)
        return Log(tuple(lines[-tail:]), is_complete)

    def _ask(self, path: str, query: Any = None) -> Any:
        """What the engine tells under a path, decoded; raises as :meth:`_call` does."""
        try:
            with self._call("GET", path, query) as response:
                return response.json()
        except (requests.RequestException, OSError, ValueError) as error:
            raise SwarmError(f"{self._endpoint}: GET {path}: {reason(error)}") from error

    def _call(
        self, method: str, path: str, query: Any = None, body: Any = None, silence: float = 0.0
    ) -> requests.Response:
        """Make a call; the answer's body is still to be read.

        :raises Refused: the answer is not 200.
        :raises SwarmError: there is none.
        """
        try:
            connection = self._connection
            if connection is None:
                connection = self._connection = self._connect()
            response: requests.Response = connection.client.request(
                method,
                connection.base + path,
                params=query,
                json=body,
                timeout=(self._endpoint.timeout, silence or self._endpoint.timeout),
                stream=True,
            )
            if response.status_code == 200:
                return response
            with response:
                raise Refused(response.status_code, _own_words(method, path, response.status_code, response.content))
        except Refused:
            raise
        except (docker.errors.DockerException, requests.RequestException, OSError, ValueError, SwarmError) as error:
            self._connection = None
            raise SwarmError(f"{self._endpoint}: {method} {path}: {reason(error)}") from error

    def _connect(self) -> _Connection:
        # Named here is the version that is asked for where none is named; the package asks for nothing by itself then.
        client = docker.APIClient(
            version=".".join(map(str, OLDEST_API)),
            timeout=self._endpoint.timeout,
            user_agent="swarmgate",
            **self._endpoint.options(),
        )
        # Otherwise REQUESTS_CA_BUNDLE would replace the authority that is configured, and HTTP_PROXY be in between.
        client.trust_env = False
        if self._endpoint.username and self._endpoint.password:
            client.auth = (self._endpoint.username, self._endpoint.password)
        with self._get(_Connection(client, client.base_url), "/version", None, self._endpoint.timeout) as response:
            told = response.json()
        version = told.get("ApiVersion") if isinstance(told, dict) else None
        if not isinstance(version, str) or not re.fullmatch(r"\d+\.\d+", version):
            raise SwarmError(f"GET /version has no ApiVersion such as 1.44 in it, but {version!r}")
        if tuple(int(part) for part in version.split(".")) < OLDEST_API:
            raise SwarmError(f"its API is {version}, and {OLDEST_API[0]}.{OLDEST_API[1]} (Docker 19.03) is needed")
        return _Connection(client, f"{client.base_url}/v{version}")

    def _get(self, connection: _Connection, path: str, filters: Any, silence: float | None) -> requests.Response:
        """Ask for a path; the answer's body is still to be read.

        :raises SwarmError: the answer is not 200.
        """
        response: requests.Response = connection.client.get(
            connection.base + path,
            params={"filters": json.dumps(filters)} if filters else None,
            timeout=(self._endpoint.timeout, silence),
            stream=True,
        )
        if response.status_code != 200:
            with response:
                raise SwarmError(refusal(path, response.status_code, response.content))
        return response

    def _listen(self, subscription: _Subscription) -> None:
        connection = None
        try:
            connection = self._connect()
            with self._get(connection, "/events", _TOLD_EVENTS, None) as response:
                subscription.begun(response)
                # What an event says is not read: that there was one is enough. A chunk is an event; without chunks
                # (an HTTP/1.0 proxy) only single bytes come as soon as they are sent.
                for _ in response.iter_content(None if getattr(response.raw, "chunked", True) else 1):
                    subscription.ring()
            subscription.end(SwarmError(f"{self._endpoint}: the event stream has ended"))
        except Exception as error:  # whatever it is, the subscriber has to be told that no event will come
            subscription.end(self._explain("/events", error))
        finally:
            if connection is not None:
                connection.client.close()

    def _explain(self, path: str, error: Exception) -> SwarmError:
        return SwarmError(f"{self._endpoint}: GET {path}: {reason(error)}")


class _Subscription:
    """One subscriber to the event stream: its callbacks, and the way from the thread that reads to the reactor's."""

    def __init__(
        self,
        reactor: Any,
        ring: Callable[[], None],
        lost: Callable[[SwarmError], None],
        forget: Callable[[_Subscription], None],
    ) -> None:
        self._reactor = reactor
        self._ring = ring
        self._lost = lost
        self._forget = forget
        self._stream: CancellableStream | None = None
        self._lock = threading.Lock()
        self._ringing = False
        self._over = False

    def begun(self, response: requests.Response) -> None:
        """In the thread: the stream is open."""
        with self._lock:
            self._stream = CancellableStream(iter(()), response)
        if self._over:
            self._close_stream()
        self.ring()

    def ring(self) -> None:
        """In the thread: ring on the reactor's, unless a ring is already on its way."""
        if not self._ringing:
            self._ringing = True
            self._reactor.callFromThread(self._rung)

    def _rung(self) -> None:
        self._ringing = False
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


class _DaemonThread(threading.Thread):
    """A thread that does not keep the process from ending."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, daemon=True, **named)


def refusal(path: str, status: int, body: bytes) -> str:
    """Return for people what an answer other than 200 means; the engine's own words are in its body."""
    try:
        told = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        told = body[:200].decode(errors="replace").strip()
    if status == 403:
        return f"not allowed (403); a socket proxy has to allow {_PERMISSIONS.get(path, path)}"
    if status == 503 and "not a swarm manager" in told:
        return "this engine is not a manager of a Swarm; connect to a manager, or run on one"
    return f"answered {status}: {told}"


def _own_words(method: str, path: str, status: int, body: bytes) -> str:
    """What an engine says for itself, or what a socket proxy means that says nothing."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        if status == 403:
            needed = _PERMISSIONS.get(f"/{path.split('/')[1]}", path)
            more = " and POST" if method == "POST" else ""
            return f"not allowed (403); a socket proxy has to allow {needed}{more}"
        return body[:200].decode(errors="replace").strip() or f"the engine has answered {status}"


def reason(error: BaseException) -> str:
    """Return for people why a call failed: the innermost error that the operating system or the engine gave."""
    seen: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in seen:
        seen.append(at)
        at = at.__cause__ or at.__context__
    for inner in seen:
        if isinstance(inner, SwarmError):
            return str(inner)
    for inner in seen:
        if isinstance(inner, TimeoutError | requests.Timeout):
            return "no answer in time"
    for inner in reversed(seen):
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def find_own_container(proc: Path = Path("/proc"), hostname: str = "") -> str:
    """Return the id of the container that this process runs in, or the first 12 digits of it; ``""`` if in none.

    Docker mounts a container's ``/etc/hostname`` and ``/etc/resolv.conf`` from a folder that is named by its id; a
    host name of 12 hexadecimal digits is Docker's default for a container.

    :param hostname: the machine's as the process sees it, ``""`` to ask.
    """
    try:
        mounts = (proc / "self" / "mountinfo").read_text(errors="replace")
    except OSError:
        mounts = ""
    if found := re.search(r"/containers/([0-9a-f]{64})/(?:hostname|resolv\.conf|hosts) /etc/", mounts):
        return found.group(1)
    hostname = hostname or os.uname().nodename
    return hostname if re.fullmatch(r"[0-9a-f]{12}", hostname) else ""
