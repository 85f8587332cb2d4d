"""The ways to choose a server (Traefik ``loadBalancer.strategy``).

A strategy is made anew with each table, for members that outlive it; what it has to remember itself is a
:class:`Rotation`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from hashlib import blake2b
from math import gcd, log
from random import randrange
from typing import Protocol

from swarmgate.balancing.member import Member
from swarmgate.http.exchange import Exchange

_ROUND_AT_MOST = 1024
#: Clients of which the order of servers is remembered.
_CLIENTS_AT_MOST = 4096


class Rotation:
    """Whose turn it is among a service's servers; outlives the tables."""

    __slots__ = ("turn",)

    def __init__(self) -> None:
        self.turn = -1


class Strategy(Protocol):
    """Chooses among a service's members."""

    def choose(self, exchange: Exchange, tried: Collection[str] = ()) -> Member | None:
        """Who is asked next, among those that can be and whose URL is not among *tried*; None if nobody is left."""


def in_turns(weights: Sequence[int]) -> list[int]:
    """The order in which servers of these *weights* take turns, as their places in the list (Traefik ``weight``).

    Whoever has twice the weight has twice the turns, spread over the round; 0 or less has none.
    """
    wanted = {place: weight for place, weight in enumerate(weights) if weight > 0}
    divisor = gcd(*wanted.values())
    total = sum(wanted.values()) // divisor if wanted else 0
    shares = {
        place: weight // divisor
        if total <= _ROUND_AT_MOST
        else max(1, weight // divisor * _ROUND_AT_MOST // 2 // total)
        for place, weight in wanted.items()
    }
    credit = dict.fromkeys(shares, 0)
    order: list[int] = []
    for _ in range(min(sum(shares.values()), max(_ROUND_AT_MOST, len(shares)))):
        for place, share in shares.items():
            credit[place] += share
        place = max(credit, key=lambda place: credit[place])
        credit[place] -= sum(shares.values())
        order.append(place)
    return order


def can_be_asked(member: Member, tried: Collection[str] = ()) -> bool:
    """Whether *member* may be chosen: nothing keeps requests from it, and it is not among *tried*."""
    upstream = member.upstream
    if tried and upstream.url in tried:
        return False
    # A mere doubt is no reason to keep a request from the only server.
    if upstream.failures and not (member.is_alone and upstream.is_doubtful) and not upstream.may_be_tried():
        return False
    return not member.restricted or member.admits()


class WeightedRoundRobin:
    """``wrr``: in turns, as many as each one's weight."""

    def __init__(self, members: Sequence[Member], rotation: Rotation) -> None:
        self._order = [members[place] for place in in_turns([member.server.weight for member in members])]
        self._rotation = rotation

    def choose(self, exchange: Exchange, tried: Collection[str] = ()) -> Member | None:
        order, rotation = self._order, self._rotation
        count = len(order)
        if not count:
            return None
        turn = rotation.turn = (rotation.turn + 1) % count
        member = order[turn]
        if not (member.restricted or member.upstream.failures or tried):
            return member
        for step in range(count):
            place = (turn + step) % count
            if can_be_asked(order[place], tried):
                rotation.turn = place
                return order[place]
        return None


class _Compared:
    """Takes the one of which least is asked; among equals it goes in turns.

    :ivar load: tells what is asked of a member.
    """

    load: Callable[[Member], float]

    def __init__(self, members: Sequence[Member], rotation: Rotation) -> None:
        self._members = [member for member in members if member.server.weight > 0]
        self._rotation = rotation

    def choose(self, exchange: Exchange, tried: Collection[str] = ()) -> Member | None:
        members, rotation = self._members, self._rotation
        count = len(members)
        chosen, least = -1, 0.0
        for step in range(1, count + 1):
            place = (rotation.turn + step) % count
            member = members[place]
            if can_be_asked(member, tried):
                load = self.load(member)
                if chosen < 0 or load < least:
                    chosen, least = place, load
        if chosen < 0:
            return None
        rotation.turn = chosen
        return members[chosen]


class LeastConnections(_Compared):
    """``leastconn``: who has the fewest requests under way for its weight (HAProxy ``leastconn``)."""

    @staticmethod
    def load(member: Member) -> float:
        return (1 + member.upstream.in_flight) / member.server.weight


class LeastTime(_Compared):
    """``leasttime``: who begins its answers soonest, times its requests under way, for its weight."""

    @staticmethod
    def load(member: Member) -> float:
        return member.seconds * (1 + member.upstream.in_flight) / member.server.weight


class PowerOfTwoChoices:
    """``p2c``: of two at random the one with fewer requests under way for its weight."""

    def __init__(self, members: Sequence[Member], rotation: Rotation, below: Callable[[int], int] = randrange) -> None:
        self._members = [member for member in members if member.server.weight > 0]
        self._below = below

    def choose(self, exchange: Exchange, tried: Collection[str] = ()) -> Member | None:
        members = [member for member in self._members if can_be_asked(member, tried)]
        if len(members) < 2:
            return members[0] if members else None
        first = self._below(len(members))
        second = self._below(len(members) - 1)
        one, other = members[first], members[second + (second >= first)]
        return other if LeastConnections.load(other) < LeastConnections.load(one) else one


class HighestRandomWeight:
    """``hrw``: by the client's address (rendezvous hashing): the same server for as long as it is there.

    Of the clients of a server that goes, each moves to another; nobody else moves.
    """

    def __init__(self, members: Sequence[Member], rotation: Rotation) -> None:
        self._members = [member for member in members if member.server.weight > 0]
        self._orders: dict[str, list[Member]] = {}

    def choose(self, exchange: Exchange, tried: Collection[str] = ()) -> Member | None:
        for member in self._order(exchange.request.client_ip):
            if can_be_asked(member, tried):
                return member
        return None

    def _order(self, client: str) -> list[Member]:
        """The members, best first for *client*."""
        order = self._orders.get(client)
        if order is None:
            if len(self._orders) >= _CLIENTS_AT_MOST:
                self._orders.clear()
            order = self._orders[client] = sorted(self._members, key=lambda member: -_score(client, member))
        return order


def _score(client: str, member: Member) -> float:
    # By the slot, where there is one: the client of a task comes to the task that takes its place.
    return score(client, member.server.task or member.server.url, member.server.weight)


def score(client: str, name: str, weight: int) -> float:
    """How good something of that *name*, and a *weight* above 0, is for *client*: the best of several is its own."""
    digest = blake2b(f"{client} {name}".encode(), digest_size=8).digest()
    return -weight / log((int.from_bytes(digest, "big") + 1) / (2**64 + 1))


#: By the option's value.
STRATEGIES: dict[str, Callable[[Sequence[Member], Rotation], Strategy]] = {
    "wrr": WeightedRoundRobin,
    "p2c": PowerOfTwoChoices,
    "hrw": HighestRandomWeight,
    "leasttime": LeastTime,
    "leastconn": LeastConnections,
}
