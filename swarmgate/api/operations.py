"""Changes of the Swarm by the API: who may ask for them, what was asked for, and the audit log."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from swarmgate.dynamic.table import Route, RoutingTable
from swarmgate.providers.swarm.interface import ISwarm, Refused, SwarmError
from swarmgate.providers.swarm.operate import OF_NODES, Operation
from swarmgate.structure import nearest_of

KINDS = ("scale", "restart", "rollback", "drain", "activate")
AUTHENTICATING = ("basicauth", "digestauth", "forwardauth")
LONGEST_BODY = 4096
MOST_REPLICAS = 10_000
FIELD = b"x-swarmgate-operation"
_LONGEST_NAME = 256
_log = Logger()


@attrs.frozen
class NotAllowed(Exception):
    """A request that is not followed.

    :ivar status: of the answer: 400, 403, 413 or 415.
    """

    status: int
    reason: str

    def __str__(self) -> str:
        return self.reason


@attrs.frozen
class Asking:
    """Who asks.

    :ivar user: the name that a middleware has authenticated.
    :ivar client: its address.
    """

    user: str
    client: str


def check_origin(field: Callable[[bytes], bytes | None]) -> None:
    """Let pass what a page of another site can't have made a browser send.

    :param field: the value of a field of the request by its name in lower case, None if it has none.
    :raises NotAllowed: it can.
    """
    kind = (field(b"content-type") or b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise NotAllowed(415, "expected Content-Type: application/json")
    if not field(FIELD):
        raise NotAllowed(403, "expected a field X-Swarmgate-Operation, with any text")
    site = field(b"sec-fetch-site")
    if site is not None and site.strip().lower() != b"same-origin":
        raise NotAllowed(403, "this comes from a page of another site (Sec-Fetch-Site)")
    origin = field(b"origin")
    if origin is not None:
        # The scheme may be another: TLS may end before the gate.
        _, _, host = origin.strip().lower().partition(b"://")
        if not host or host != (field(b"host") or b"").strip().lower():
            raise NotAllowed(403, "this comes from a page of another site (Origin)")


def authenticated(exchange: Any, table: RoutingTable) -> str:
    """The name of the user that the middlewares of the request's router have authenticated.

    :param exchange: that the request came by, None for another way.
    :raises NotAllowed: none of them authenticates, or none has.
    """
    route: Route | None = None
    if exchange is not None:
        routes = table.routes.get(exchange.entry_point, ())
        route = next((one for one in routes if one.name == exchange.router), None)
    chain = [one for one in route.middlewares if one.kind.lower() in AUTHENTICATING] if route is not None else []
    if route is None or not chain:
        name = route.name if route is not None else "it"
        raise NotAllowed(
            403,
            f"nobody was authenticated: the router {name} leads here without basicAuth, digestAuth or forwardAuth; "
            "add such a middleware to it",
        )
    if exchange.user:
        return str(exchange.user)
    for middleware in chain:
        # What the authenticating server says of the user; the middleware has removed what the client said.
        for wanted in getattr(middleware.settings, "auth_response_headers", ()):
            name = wanted.lower().encode()
            if name.endswith((b"user", b"username", b"email", b"name")):
                for key, value in exchange.request.fields:
                    if key.lower() == name and value:
                        return str(value.decode("utf-8", "backslashreplace"))
        if middleware.kind.lower() == "forwardauth":
            return "-"  # It has let the request pass, and says nothing of whose it is.
    raise NotAllowed(403, "nobody was authenticated")


def client_of(exchange: Any) -> str:
    """The client's address, as the access log has it."""
    told = getattr(exchange.request, "forwarded_for", b"") or b""
    first = told.partition(b",")[0].strip().decode("ascii", "replace")
    return first or str(exchange.request.client_ip)


def operation_of(body: bytes) -> Operation:
    """The operation that a body asks for.

    :raises NotAllowed: it asks for none; the text says what was expected.
    """
    if len(body) > LONGEST_BODY:
        raise NotAllowed(413, f"expected at most {LONGEST_BODY} octets")
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise NotAllowed(400, "expected a JSON object") from None
    if not isinstance(told, dict):
        raise NotAllowed(400, "expected a JSON object")
    kind = told.get("operation")
    if kind not in KINDS:
        near = nearest_of(kind, KINDS) if isinstance(kind, str) else ""
        hint = f"; did you mean {near}?" if near else ""
        raise NotAllowed(400, f"operation: expected one of {', '.join(KINDS)}{hint}")
    subject = "node" if kind in OF_NODES else "service"
    allowed = {"operation", subject, *(("replicas",) if kind == "scale" else ())}
    for key in told:
        if key not in allowed:
            raise NotAllowed(400, f"{key[:64]}: {kind} takes {' and '.join(sorted(allowed - {'operation'}))}")
    name = told.get(subject)
    if not isinstance(name, str) or not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise NotAllowed(400, f"{subject}: expected its name")
    if not name.strip(".") or not name.isascii():
        raise NotAllowed(400, f"{subject}: {name} is no name")
    replicas = told.get("replicas", 0)
    if kind == "scale" and ("replicas" not in told or type(replicas) is not int or not 0 <= replicas <= MOST_REPLICAS):
        raise NotAllowed(400, f"replicas: expected a whole number from 0 to {MOST_REPLICAS}")
    return Operation(kind, name, replicas)


class Operations:
    """Does what is asked for, and writes each attempt to the audit log.

    :param swarm: None without one.
    :param write: takes a line of the audit log, with its end; None: the process's log gets it.
    :param seconds: the time since 1970.
    """

    def __init__(
        self, swarm: ISwarm | None, write: Callable[[bytes], object] | None, seconds: Callable[[], float]
    ) -> None:
        self._swarm = swarm
        self._write = write
        self._seconds = seconds

    def note(self, asking: Asking, told: Mapping[str, Any], status: int, outcome: str) -> None:
        """Write a line of the audit log."""
        moment = datetime.fromtimestamp(self._seconds(), UTC).isoformat(timespec="milliseconds")
        line = {
            "time": moment.replace("+00:00", "Z"),
            "user": asking.user,
            "client": asking.client,
            **told,
            "status": status,
            "outcome": outcome,
        }
        text = json.dumps(line)
        if self._write is not None:
            self._write(text.encode() + b"\n")
        else:
            _log.info("audit: {line}", line=text)

    def do(self, operation: Operation, asking: Asking) -> Deferred[tuple[int, str]]:
        """Change the Swarm. Fires with the status and the message of the answer, once it is in the audit log."""
        told: dict[str, Any] = {"operation": operation.kind}
        told["node" if operation.is_of_node else "service"] = operation.name
        if operation.kind == "scale":
            told["replicas"] = operation.replicas
        if self._swarm is None:
            failed: Deferred[tuple[int, str]] = Deferred()
            failed.errback(Failure(Refused(503, "this gate looks at no Swarm")))
            done = failed
        else:
            done = self._swarm.operate(operation).addCallback(lambda _: (200, f"{operation}: done"))
        return done.addErrback(failure_of).addCallback(self._noted, told, asking)

    def _noted(self, answer: tuple[int, str], told: Mapping[str, Any], asking: Asking) -> tuple[int, str]:
        status, message = answer
        self.note(asking, told, status, "done" if status == 200 else message)
        return answer


def failure_of(failure: Failure) -> tuple[int, str]:
    """Status and message of the answer where the engine has refused, or could not be asked."""
    error = failure.value
    if isinstance(error, Refused):
        return error.status, str(error)
    if isinstance(error, SwarmError):
        return 502, str(error)
    _log.failure("while asking the Swarm", failure)
    return 500, "see the gate's log"
