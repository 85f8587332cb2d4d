"""The certificates there are, and which of them are for a host (Traefik ``tls.stores``)."""

from __future__ import annotations

from collections.abc import Iterable

from swarmgate.dynamic.tls import Certificate

Certificates = tuple[Certificate, ...]
"""Certificates for one host: at most one of each kind of key, of which OpenSSL takes the one that a client knows."""


class CertificateStore:
    """Finds certificates by host.

    :param default: for hosts that none of the others is for.
    :param now: seconds since 1970: of several for one name, those that are valid come before others, and then those
        that are valid longest.
    """

    def __init__(self, certificates: Iterable[Certificate], default: Certificate | None, now: float) -> None:
        exact: dict[str, list[Certificate]] = {}
        parents: dict[str, list[Certificate]] = {}
        for certificate in certificates:
            for name in certificate.names:
                if name.startswith("*."):
                    parents.setdefault(name[2:], []).append(certificate)
                else:
                    exact.setdefault(name, []).append(certificate)
        self.default: Certificates = () if default is None else (default,)
        self._exact = {name: _best(several, now) for name, several in exact.items()}
        self._parents = {name: _best(several, now) for name, several in parents.items()}

    def find(self, name: str) -> Certificates | None:
        """The certificates for the host *name*, in lower case: its own, or those for any one label in its place.

        None if there are none: it gets the default one, or is refused.
        """
        found = self._exact.get(name)
        if found is None:
            label, _, parent = name.partition(".")
            found = self._parents.get(parent) if label else None
        return found


def _best(several: list[Certificate], now: float) -> Certificates:
    several = sorted(several, key=lambda one: (one.not_before <= now <= one.not_after, one.not_after), reverse=True)
    return tuple({one.kind: one for one in reversed(several)}.values())
