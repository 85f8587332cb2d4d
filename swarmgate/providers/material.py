"""Certificates, keys and authorities that files name: read, checked, and read anew when they change.

A certificate that can't be read any more, or whose new key does not fit, costs nothing: what was good stays in force
until there is something better.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from swarmgate.dynamic.model import Configuration, Problem
from swarmgate.dynamic.tls import (
    Certificate,
    CertificateFiles,
    ServersTransport,
    TLSConfiguration,
    TLSFiles,
    TLSOptions,
    doubts_about,
    is_pem,
)
from swarmgate.tls import reading
from swarmgate.tls.contexts import ContextError, check_authorities

if TYPE_CHECKING:
    from swarmgate.tls.certificates import Written

_LARGEST = 2**20  # Octets of a file: the authorities of a whole system have less than a quarter.

Signature = tuple[int, int, int]


@attrs.frozen
class SeenPath:
    """A file as it was when it was read last.

    :ivar signature: modification time in nanoseconds, size and inode; None if it could not be looked at.
    :ivar error: why there is no text.
    """

    signature: Signature | None = None
    text: str = attrs.field(default="", repr=False)
    error: str = ""


Paths = Mapping[str, SeenPath]
Pair = tuple[str, str]
"""A certificate and a key as they are written: each a path, or the text itself."""
Readings = Mapping[Pair, Certificate | str]
"""The certificate of each pair, or why there is none."""


@attrs.frozen
class Material:
    """What was read, and what of it was good.

    :ivar paths: by path.
    :ivar readings: of these.
    :ivar certificates: the last good one of each pair.
    :ivar authorities: the last good text of each.
    """

    paths: Paths = attrs.field(factory=dict)
    readings: Readings = attrs.field(factory=dict)
    certificates: Mapping[Pair, Certificate] = attrs.field(factory=dict)
    authorities: Mapping[str, str] = attrs.field(factory=dict, repr=False)


def look_at(files: TLSFiles, transports: Mapping[str, ServersTransport], before: Paths) -> Paths:
    """What stands in the files that are named, read anew if they have changed since *before*."""
    return {path: _look_at(path, before.get(path)) for path in sorted(_paths(files, transports))}


def _pairs(files: TLSFiles, transports: Mapping[str, ServersTransport]) -> list[Pair]:
    written = (
        *files.certificates,
        *(store.default_certificate for store in files.stores.values() if store.default_certificate is not None),
        *(pair for transport in transports.values() for pair in transport.certificates),
    )
    return list(dict.fromkeys((pair.cert_file, pair.key_file) for pair in written))


def _paths(files: TLSFiles, transports: Mapping[str, ServersTransport]) -> set[str]:
    named = [path for pair in _pairs(files, transports) for path in pair]
    named += (path for options in files.options.values() for path in options.client_auth.ca_files)
    named += (path for transport in transports.values() for path in transport.root_cas)
    return {path for path in named if not is_pem(path)}


def _look_at(path: str, before: SeenPath | None) -> SeenPath:
    try:
        status = os.stat(path)
        signature = (status.st_mtime_ns, status.st_size, status.st_ino)
        if before is not None and before.signature == signature:
            return before
        if status.st_size > _LARGEST:
            return SeenPath(signature, "", f"larger than {_LARGEST} octets")
        with open(path, encoding="utf-8", errors="replace") as opened:
            return SeenPath(signature, opened.read())
    except OSError as error:
        return SeenPath(None, "", f"can't be read: {error.strerror or error}")


def read(files: TLSFiles, transports: Mapping[str, ServersTransport], paths: Paths, before: Material) -> Readings:
    """The certificates that are named, read anew if their files have changed since *before*."""
    readings: dict[Pair, Certificate | str] = {}
    anew: dict[Pair, Written] = {}
    for pair in _pairs(files, transports):
        chain, key = pair
        faults = [f"{path}: {paths[path].error}" for path in pair if not is_pem(path) and paths[path].error]
        if faults:
            readings[pair] = faults[0]
        elif pair in before.readings and all(paths.get(path) == before.paths.get(path) for path in pair):
            readings[pair] = before.readings[pair]
        else:
            anew[pair] = (_text(chain, paths), _text(key, paths), _origin(chain), _origin(key))
    readings.update(zip(anew, reading.read(list(anew.values())), strict=True))
    return readings


def _text(written: str, paths: Paths) -> str:
    return written if is_pem(written) else paths[written].text


def _origin(written: str) -> str:
    return "the text in the file" if is_pem(written) else written


def complete(
    configuration: Configuration, files: TLSFiles, paths: Paths, readings: Readings, before: Material, now: float
) -> tuple[Configuration, Material]:
    """*configuration* with what stands in the files that it names, and what was good of that.

    :param now: seconds since 1970.
    """
    completion = _Completion(paths, readings, before, now)
    certificates = [
        one
        for index, pair in enumerate(files.certificates)
        if (one := completion.certificate(pair, f"tls.certificates[{index}]")) is not None
    ]
    default = None
    for name, store in files.stores.items():
        if name == "default" and store.default_certificate is not None:
            default = completion.certificate(store.default_certificate, "tls.stores.default.defaultCertificate")
    options = {name: completion.options(name, one) for name, one in configuration.tls.options.items()}
    transports = {name: completion.transport(name, one) for name, one in configuration.servers_transports.items()}
    return (
        attrs.evolve(
            configuration,
            tls=TLSConfiguration(
                tuple(dict.fromkeys(certificates)),
                default,
                {name: one for name, one in options.items() if one is not None},
            ),
            servers_transports={name: one for name, one in transports.items() if one is not None},
            problems=(*configuration.problems, *completion.problems),
            tls_files=None,
        ),
        Material(paths, readings, completion.certificates, completion.authorities),
    )


class _Completion:
    """What was found so far."""

    def __init__(self, paths: Paths, readings: Readings, before: Material, now: float) -> None:
        self.problems: list[Problem] = []
        self.certificates: dict[Pair, Certificate] = {}
        self.authorities: dict[str, str] = {}
        self._paths = paths
        self._readings = readings
        self._before = before
        self._now = now

    def certificate(self, pair: CertificateFiles, key: str) -> Certificate | None:
        written = (pair.cert_file, pair.key_file)
        known = self._before.certificates.get(written)
        certificate = self._readings[written]
        if isinstance(certificate, str):
            self._tell(f"certificate {key}", certificate, "the one before stays in force" if known else "")
            if known is None:
                return None
            certificate = known
        else:
            doubts = doubts_about(certificate, self._now)
            if doubts:
                self._tell(f"certificate {key}", f"{certificate.origin}: {doubts}", "it is served all the same")
        self.certificates[written] = certificate
        return certificate

    def options(self, name: str, options: TLSOptions) -> TLSOptions | None:
        if not options.client_auth.ca_files:
            return options
        texts = self._authorities(options.client_auth.ca_files, f"TLS options {name}@file", "its routers answer 404")
        if texts is None:
            return None
        return attrs.evolve(options, client_auth=attrs.evolve(options.client_auth, ca_files=texts))

    def transport(self, name: str, transport: ServersTransport) -> ServersTransport | None:
        what, effect = f"serversTransport {name}@file", "its routers answer 404"
        texts = self._authorities(transport.root_cas, what, effect)
        if texts is None:
            return None
        shown = []
        for index, pair in enumerate(transport.certificates):
            one = self.certificate(pair, f"http.serversTransports.{name}.certificates[{index}]")
            if one is None:
                return None
            shown.append(CertificateFiles(cert_file=one.chain, key_file=one.key))
        return attrs.evolve(transport, root_cas=texts, certificates=tuple(shown))

    def _authorities(self, written: tuple[str, ...], what: str, effect: str) -> tuple[str, ...] | None:
        """The texts of authorities, None if one of them is missing: then none of it must be in force."""
        texts: list[str] = []
        for path in written:
            known = self._before.authorities.get(path)
            try:
                if not is_pem(path) and self._paths[path].error:
                    raise ContextError(f"{path}: {self._paths[path].error}")
                text = _text(path, self._paths)
                check_authorities(text, _origin(path))
            except ContextError as error:
                self._tell(what, error, "what it said before stays in force" if known else effect)
                if known is None:
                    return None
                text = known
            self.authorities[path] = text
            texts.append(text)
        return tuple(texts)

    def _tell(self, subject: str, reason: object, effect: str) -> None:
        self.problems.append(Problem(subject, subject, f"{reason}{'; ' if effect else ''}{effect}"))
