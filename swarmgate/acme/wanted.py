"""Which certificates are wanted: from routers and resolvers to orders. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import attrs

from swarmgate.config.acme import ACME
from swarmgate.dynamic.rules import And, Matcher, Not, Or, Rule

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)*{_LABEL}")
_MOST_DOMAINS = 100  # In one certificate: what public authorities sign at most.


@attrs.frozen
class Domain:
    """Domains of one certificate (Traefik ``tls.domains[n]``)."""

    main: str
    sans: tuple[str, ...] = ()


@attrs.frozen
class Wish:
    """What a router says of its certificates.

    :ivar router: its qualified name.
    :ivar resolver: what ``tls.certResolver`` names.
    :ivar hosts: the domains of its rule, see :func:`hosts_of`; they count if ``domains`` is empty.
    :ivar domains: what ``tls.domains`` says: one certificate each.
    """

    router: str
    resolver: str
    hosts: tuple[str, ...] = ()
    domains: tuple[Domain, ...] = ()


@attrs.frozen
class Order:
    """A certificate that is wanted.

    :ivar domains: the main one first.
    """

    resolver: str
    domains: tuple[str, ...]

    @cached_property
    def key(self) -> str:
        """What tells it from others, short enough for a label: the same domains in any order are the same order."""
        text = "\n".join([self.resolver, *sorted(self.domains)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@attrs.frozen
class Wanted:
    """What routers want.

    :ivar orders: without those that another one covers.
    :ivar problems: router and sentence part, for what can't be ordered.
    """

    orders: tuple[Order, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()


def hosts_of(rule: Rule) -> tuple[str, ...]:
    """The values of a rule's ``Host`` matchers that are not negated, in order."""
    if isinstance(rule, Matcher):
        return rule.args if rule.name == "Host" else ()
    if isinstance(rule, Not):
        return ()
    assert isinstance(rule, And | Or)
    return tuple(dict.fromkeys(host for part in rule.rules for host in hosts_of(part)))


def wanted(wishes: Iterable[Wish], resolvers: Mapping[str, ACME]) -> Wanted:
    """The orders that follow from what routers wish.

    As in Traefik, the domains of one rule are one certificate, and each entry of ``tls.domains`` is one; domains that
    another certificate of the same resolver covers, as by a wildcard, get none of their own.
    """
    problems: list[tuple[str, str]] = []
    found: dict[str, Order] = {}
    for wish in sorted(wishes, key=lambda wish: wish.router):
        options = resolvers.get(wish.resolver)
        if options is None:
            names = ", ".join(resolvers) or "there are none"
            problems.append((wish.router, f'tls.certResolver names "{wish.resolver}": expected one of: {names}'))
            continue
        sets = [(one.main, *one.sans) for one in wish.domains] if wish.domains else [wish.hosts]
        for given in sets:
            domains = []
            for name in dict.fromkeys(_normal(name) for name in given if name):
                fault = _fault(name, options)
                if fault:
                    problems.append((wish.router, f"{name}: {fault}"))
                else:
                    domains.append(name)
            domains = [name for name in domains if not _covered(name, [other for other in domains if other != name])]
            if len(domains) > _MOST_DOMAINS:
                problems.append((wish.router, f"{len(domains)} domains in one certificate: expected {_MOST_DOMAINS}"))
            elif domains:
                order = Order(wish.resolver, tuple(domains))
                found.setdefault(order.key, order)
        if not wish.domains and not wish.hosts:
            problems.append((wish.router, "there is no Host in its rule: expected tls.domains, or a rule with Host"))
    orders = sorted(found.values(), key=lambda order: (order.resolver, order.domains))
    by_name: dict[tuple[str, str], list[Order]] = {}
    for order in orders:
        for name in order.domains:
            by_name.setdefault((order.resolver, name), []).append(order)
    kept = [order for order in orders if not _redundant(order, by_name)]
    return Wanted(tuple(kept), tuple(dict.fromkeys(problems)))


def wishes_of(routes: Iterable[Any]) -> tuple[Wish, ...]:
    """What the routes of a table wish.

    :param routes: each with ``name``, ``rule``, ``problem`` and ``tls``, which is None or has ``cert_resolver`` and
        ``domains``.
    """
    wishes = []
    for route in routes:
        tls = getattr(route, "tls", None)
        if tls is not None and tls.cert_resolver and route.problem is None:
            domains = tuple(Domain(one.main, tuple(one.sans)) for one in tls.domains)
            wishes.append(Wish(route.name, tls.cert_resolver, hosts_of(route.rule), domains))
    return tuple(dict.fromkeys(wishes))


def covers(domains: Iterable[str], host: str) -> bool:
    """Is a certificate for *domains* good for *host* (RFC 6125: ``*`` stands for one label)?"""
    return _covered(host, domains)


def identity_of(options: ACME) -> str:
    """What an account is made for: resolvers with the same authority, address and binding share one."""
    kid = options.eab.kid if options.eab is not None else ""
    return hashlib.sha256("\n".join([options.ca_server, options.email, kid]).encode()).hexdigest()[:16]


def _normal(name: str) -> str:
    return name.strip().rstrip(".").lower()


def _fault(name: str, options: ACME) -> str:
    """Why a domain can't be ordered, ``""`` if it can."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        return "" if options.challenge != "dns-01" else "an address can't be proven by dnsChallenge"
    if len(name) > 253 or not _DOMAIN.fullmatch(name):
        return "expected a domain such as shop.example or *.shop.example"
    if name.startswith("*.") and options.challenge != "dns-01":
        return f"a wildcard needs dnsChallenge, and this resolver has {options.challenge}"
    return ""


def _covered(name: str, others: Iterable[str]) -> bool:
    wildcard = "*." + name.partition(".")[2]
    return any(other == name or (other == wildcard and not name.startswith("*.")) for other in others)


def _redundant(order: Order, by_name: Mapping[tuple[str, str], list[Order]]) -> bool:
    """Does another order of the resolver bring all of its domains?

    Of two equal sets the keys are equal, so one is left; a smaller set gives way to a larger one.
    """
    name = order.domains[0]
    wildcard = "*." + name.partition(".")[2]
    candidates = [*by_name.get((order.resolver, name), ()), *by_name.get((order.resolver, wildcard), ())]
    return any(
        other is not order
        and len(set(other.domains) | set(order.domains)) > len(order.domains)
        and all(_covered(each, other.domains) for each in order.domains)
        for other in candidates
    )
