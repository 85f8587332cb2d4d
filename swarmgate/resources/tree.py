"""The root of an entry point's resource tree: finds the route of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.web.resource import IResource
from zope.interface import classImplements

from swarmgate.http.exchange import NO_SNIFFING, PLAIN_TEXT, Exchange
from swarmgate.middlewares.chain import Leaf
from swarmgate.resources.leaf import LeafResource
from swarmgate.resources.shedding import LoadShedding


class Finder(Protocol):
    """Finds the route that takes a request, by the routes' rules and priorities."""

    def find(self, request: Any) -> Any:
        """The route, which has a ``name``; None if no rule matches."""


class NotFound:
    """Answers as Traefik does where no router matches; while not all routers are known yet, that it is too early.

    :param is_complete: whether all are known.
    """

    def __init__(self, is_complete: Callable[[], bool] = lambda: True) -> None:
        self._is_complete = is_complete

    def serve(self, exchange: Exchange) -> None:
        if self._is_complete():
            exchange.answer(404, b"404 page not found\n", (PLAIN_TEXT, NO_SNIFFING))
        else:
            exchange.answer(503, b"Service Unavailable", (PLAIN_TEXT, NO_SNIFFING, (b"Retry-After", b"1")))


NOT_FOUND = NotFound()


class _Nothing:
    def find(self, request: Any) -> Any:
        return None


class Untold:
    """*leaf*, with exchanges of which *flags* are not told (:data:`~swarmgate.http.exchange.NOT_LOGGED` and so on)."""

    __slots__ = ("_flags", "_leaf")

    def __init__(self, leaf: Leaf, flags: int) -> None:
        self._leaf = leaf
        self._flags = flags

    def serve(self, exchange: Exchange) -> None:
        exchange.untold = self._flags
        self._leaf.serve(exchange)


def untold(take: Callable[[Exchange], None], flags: int) -> Callable[[Exchange], None]:
    """What *flags* are not told of the exchanges that *take* gets; nothing stands in between if there are none."""
    if not flags:
        return take

    def mark_and_take(exchange: Exchange) -> None:
        exchange.untold = flags
        take(exchange)

    return mark_and_take


class EntryPointRoot(LeafResource):
    """Leads each request to the chain of its route; replaced routes do not touch exchanges under way."""

    def __init__(self, entry_point: str, not_found: Leaf = NOT_FOUND, shedding: LoadShedding | None = None) -> None:
        """
        :param not_found: answers what no route takes.
        :param shedding: refuses requests, but those for the gate's own services.
        """
        self.entry_point = entry_point
        self._not_found = not_found
        self._shedding = shedding or LoadShedding()
        self._finder: Finder = _Nothing()
        self._chains: Mapping[str, Leaf] = {}

    def show(self, finder: Finder, chains: Mapping[str, Leaf]) -> None:
        """Use *finder* from the next request on, and the chain that *chains* has under a route's name."""
        self._finder = finder
        self._chains = chains

    def serve(self, exchange: Exchange) -> None:
        """Answer *exchange* by the route that takes it."""
        route = self._finder.find(exchange.request)
        if route is None:
            self._not_found.serve(exchange)
        elif not self._shedding.share or not route.service or not self._shedding.refuses(exchange):
            self._chains[route.name].serve(exchange)

    def render(self, request: Any) -> Any:
        """Answer a twisted.web request."""
        from swarmgate.resources.bridge import render_exchange  # with twisted.web's server, which few need

        return render_exchange(request, self, self.entry_point)


classImplements(EntryPointRoot, IResource)


class SecureEntryPointRoot(EntryPointRoot):
    """The same for requests that came over TLS.

    A route that wants certain options has them, or is not passed: hosts may overlap, and of a host's options some other
    router may have had its way, but nobody gets in without the certificate that this one asks for.
    """

    def serve(self, exchange: Exchange) -> None:
        """Answer *exchange* by the route that takes it, if its connection is under the route's options."""
        route = self._finder.find(exchange.request)
        if route is None:
            self._not_found.serve(exchange)
            return
        wanted = route.tls.options if route.tls is not None else ""
        if wanted not in ("", "default", exchange.tls_options):
            exchange.answer(421, b"Misdirected Request\n", (PLAIN_TEXT, NO_SNIFFING))
        elif not self._shedding.share or not route.service or not self._shedding.refuses(exchange):
            self._chains[route.name].serve(exchange)
