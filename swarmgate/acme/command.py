"""``swarmgate certs``: what lies in the stores, shown, taken out, and put in."""

from __future__ import annotations

import base64
import binascii
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from cryptography.hazmat.primitives import serialization
from josepy.jwk import JWK

from swarmgate.acme.certificate import Certificate, certificate_from, issuers, key_pem
from swarmgate.acme.records import Account, decode_account, decode_certificate, encode
from swarmgate.acme.resolvers import Threads, acme_options, fault_of, make_store, storage_of
from swarmgate.acme.sealing import SealError
from swarmgate.acme.store import ACCOUNT, CERTIFICATE, Contents, StoreError
from swarmgate.acme.wanted import Order, identity_of
from swarmgate.config.acme import ACME
from swarmgate.config.model import StaticConfiguration
from swarmgate.providers.swarm.engine import Endpoint
from swarmgate.structure import nearest_of

VERBS = ("list", "show", "export", "import", "rekey")

USAGE = """\
usage: swarmgate certs list [OPTIONS]                   what lies in the stores of the certificatesResolvers
       swarmgate certs show DOMAIN [OPTIONS]            all that is known of a certificate, but its key
       swarmgate certs export DOMAIN FOLDER [OPTIONS]   write DOMAIN.crt, with the chain, and DOMAIN.key
       swarmgate certs import FILE [OPTIONS]            take over the certificates and accounts of an acme.json of
                                                        Traefik's, for the resolvers that have the same names here
       swarmgate certs rekey [OPTIONS]                  encrypt everything with the first key of storageKeyFile

OPTIONS are those of the gate; in its container they need not be given.
"""


class CommandError(Exception):
    """The command can't be carried out; the message is for people."""


@attrs.frozen
class Found:
    """A certificate in a store.

    :ivar number: of its record.
    :ivar is_newest: there is none for the same domains that was written later.
    """

    storage: str
    number: int
    certificate: Certificate
    is_newest: bool


class Stores:
    """The stores of a configuration, for one command.

    :raises CommandError: there are none, or they can't be opened.
    """

    def __init__(self, reactor: Any, configuration: StaticConfiguration, endpoint: Endpoint | None) -> None:
        resolvers = acme_options(configuration)
        if not resolvers:
            raise CommandError("there are no certificatesResolvers among the options")
        fault = fault_of(configuration)
        if fault:
            raise CommandError(fault)
        in_thread = Threads(reactor, "certs")
        self.resolvers: Mapping[str, ACME] = resolvers
        self.storages = {name: storage_of(options, endpoint is not None) for name, options in resolvers.items()}
        self.stores: dict[str, Any] = {}
        for name, storage in self.storages.items():
            if storage not in self.stores:
                self.stores[storage] = make_store(reactor, storage, resolvers[name], endpoint, in_thread)

    async def found(self) -> tuple[list[Found], list[str]]:
        """All certificates, the newest of the same domains first; and what can't be read, a line each."""
        found: list[Found] = []
        faults: list[str] = []
        for storage, store in self.stores.items():
            contents = await store.look(True)
            faults += contents.faults
            keys: set[str] = set()
            for record in reversed(contents.of_kind(CERTIFICATE)):
                try:
                    certificate = decode_certificate(record.content)
                except ValueError as error:
                    faults.append(f"{storage}: record {record.number}: {error}")
                    continue
                key = Order(certificate.resolver, certificate.domains).key
                found.append(Found(storage, record.number, certificate, key not in keys))
                keys.add(key)
        found.sort(key=lambda one: (one.certificate.domains, -one.number))
        return found, faults

    async def close(self) -> None:
        """Close the stores."""
        for store in self.stores.values():
            await store.close()


async def run(
    reactor: Any,
    words: Sequence[str],
    configuration: StaticConfiguration,
    endpoint: Endpoint | None,
    say: Callable[[str], None],
) -> None:
    """Carry out a command.

    :param words: a verb and what it wants.
    :param say: takes the lines of the answer.
    :raises CommandError: it can't be carried out.
    """
    verb, given = check(words)
    try:
        stores = Stores(reactor, configuration, endpoint)
        try:
            await _VERBS[verb](stores, given, say)
        finally:
            await stores.close()
    except (StoreError, SealError) as error:
        raise CommandError(str(error)) from error


def check(words: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The verb and what it was given.

    :raises CommandError: there is no such verb, or it wants something else.
    """
    verb, given = (words[0], tuple(words[1:])) if words else ("", ())
    if verb not in VERBS:
        nearest = nearest_of(verb, VERBS) if verb else ""
        hint = f"; did you mean {nearest}?" if nearest else ""
        raise CommandError(f'certs: "{verb}": expected {", ".join(VERBS[:-1])} or {VERBS[-1]}{hint}')
    wanted = {"show": ("DOMAIN",), "export": ("DOMAIN", "FOLDER"), "import": ("FILE",)}.get(verb, ())
    if len(given) != len(wanted):
        raise CommandError(f"certs {verb}: expected {' '.join(wanted) or 'nothing'} after it")
    return verb, given


async def _list(stores: Stores, given: Sequence[str], say: Callable[[str], None]) -> None:
    found, faults = await stores.found()
    newest = [one for one in found if one.is_newest]
    rows = [("DOMAINS", "RESOLVER", "VALID UNTIL", "STORAGE")]
    for one in newest:
        certificate = one.certificate
        until = _day(certificate.not_after) + (" (over)" if certificate.not_after < time.time() else "")
        rows.append((", ".join(certificate.domains), certificate.resolver, until, one.storage))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        say("  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]]))
    for fault in faults:
        say(f"unreadable: {fault}")


async def _show(stores: Stores, given: Sequence[str], say: Callable[[str], None]) -> None:
    for one in await _of(stores, given[0]):
        certificate = one.certificate
        say(f"domains:     {', '.join(certificate.domains)}")
        say(f"resolver:    {certificate.resolver}")
        say(f"issued by:   {', '.join(issuers(certificate.chain_pem))}")
        say(f"valid:       {_day(certificate.not_before)} to {_day(certificate.not_after)}")
        say(f"SHA-256:     {certificate.fingerprint}")
        say(f"storage:     {one.storage}, record {one.number}{'' if one.is_newest else ', superseded'}")
        say("")


async def _export(stores: Stores, given: Sequence[str], say: Callable[[str], None]) -> None:
    domain, folder = given[0], Path(given[1])
    one = (await _of(stores, domain))[0]
    name = domain.replace("*", "_")
    if "/" in name or name.startswith("."):
        raise CommandError(f"certs export: {domain}: expected a domain")
    try:
        for suffix, content, mode in (
            (".crt", one.certificate.chain_pem, 0o644),
            (".key", one.certificate.key_pem, 0o600),
        ):
            path = folder / (name + suffix)
            path.unlink(missing_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
            say(f"written: {path}")
    except OSError as error:
        raise CommandError(f"certs export: {error.filename}: {error.strerror}") from error


async def _of(stores: Stores, domain: str) -> list[Found]:
    found, _ = await stores.found()
    mine = [one for one in found if domain in one.certificate.domains]
    if not mine:
        known = sorted({name for one in found for name in one.certificate.domains})
        nearest = nearest_of(domain, known)
        hint = f"; did you mean {nearest}?" if nearest else ""
        raise CommandError(f"there is no certificate for {domain}{hint}")
    return sorted(mine, key=lambda one: (not one.is_newest, -one.number))


async def _import(stores: Stores, given: Sequence[str], say: Callable[[str], None]) -> None:
    path = Path(given[0])
    try:
        tree = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CommandError(f"certs import: {path}: {error.strerror}") from error
    except ValueError as error:
        raise CommandError(f"certs import: {path}: no JSON") from error
    if not isinstance(tree, dict) or not all(isinstance(one, dict) for one in tree.values()):
        raise CommandError(f"certs import: {path}: expected an acme.json of Traefik's, with a resolver's name on top")
    for name, content in tree.items():
        if name not in stores.resolvers:
            known = ", ".join(stores.resolvers)
            say(f"passed over: resolver {name}: there is none of this name among the options, but {known}")
            continue
        store = stores.stores[stores.storages[name]]
        account = traefik_account(content.get("Account"), stores.resolvers[name])
        contents = await store.look(True)
        if account is not None and not _has_account(contents, account.identity):
            await _put(store, ACCOUNT, account.authority, encode(account))
            say(f"imported: account {account.uri}")
        for number, told in enumerate(content.get("Certificates") or ()):
            try:
                certificate = traefik_certificate(told, name)
            except ValueError as error:
                say(f"passed over: {name}, certificate {number + 1}: {error}")
                continue
            domains = ", ".join(certificate.domains)
            contents = await store.look(False)
            if _has_better(contents, certificate):
                say(f"passed over: {domains}: there is one already that is valid as long")
                continue
            await _put(store, CERTIFICATE, domains, encode(certificate))
            say(f"imported: {domains}, valid until {_day(certificate.not_after)}")


async def _rekey(stores: Stores, given: Sequence[str], say: Callable[[str], None]) -> None:
    for storage, store in stores.stores.items():
        contents = await store.look(True)
        if contents.faults:
            raise CommandError(f"certs rekey: {storage}: {contents.faults[0]}")
        stale = [record for record in contents.records if record.stale]
        newest = _newest(contents)
        for record in stale:
            # One that was superseded is only removed: written anew it would be the newest.
            if record.number in newest:
                await _put(store, record.kind, record.title, record.content)
            await store.remove(record)
            say(f"{'encrypted anew' if record.number in newest else 'removed'}: {record.title}")
        say(f"{storage}: {len(stale)} of {len(contents.records)} records were under an older key")


_VERBS: Mapping[str, Callable[[Stores, Sequence[str], Callable[[str], None]], Any]] = {
    "list": _list,
    "show": _show,
    "export": _export,
    "import": _import,
    "rekey": _rekey,
}


async def _put(store: Any, kind: str, title: str, content: bytes) -> None:
    for _ in range(10):
        contents = await store.look(False)
        if await store.put(contents.last + 1, kind, title, content):
            return
        await store.look(True)
    raise CommandError(f"{title}: others write all the time: try again")


def _newest(contents: Contents) -> set[int]:
    newest: dict[str, int] = {}
    for record in contents.records:
        if record.kind == ACCOUNT:
            newest[f"account {decode_account(record.content).identity}"] = record.number
        else:
            certificate = decode_certificate(record.content)
            newest[Order(certificate.resolver, certificate.domains).key] = record.number
    return set(newest.values())


def _has_account(contents: Contents, identity: str) -> bool:
    return any(decode_account(record.content).identity == identity for record in contents.of_kind(ACCOUNT))


def _has_better(contents: Contents, certificate: Certificate) -> bool:
    key = Order(certificate.resolver, certificate.domains).key
    for record in contents.of_kind(CERTIFICATE):
        try:
            other = decode_certificate(record.content)
        except ValueError:
            continue
        if Order(other.resolver, other.domains).key == key and other.not_after >= certificate.not_after:
            return True
    return False


def traefik_certificate(told: Any, resolver: str) -> Certificate:
    """A certificate of Traefik's acme.json.

    :raises ValueError: it is none.
    """
    try:
        domain = told["domain"]
        domains = (str(domain["main"]), *map(str, domain.get("sans") or ()))
        chain = base64.b64decode(told["certificate"], validate=True)
        key = base64.b64decode(told["key"], validate=True)
        pem = key_pem(serialization.load_pem_private_key(key, None))  # type: ignore[arg-type]
    except (KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise ValueError("expected domain, certificate and key, these in base64") from error
    except ValueError as error:
        raise ValueError("no unencrypted private key in PEM") from error
    return certificate_from(chain, pem, tuple(dict.fromkeys(domains)), "Traefik's acme.json", resolver)


def traefik_account(told: Any, options: ACME) -> Account | None:
    """The account of Traefik's acme.json, for a resolver; None if there is none, or it is another authority's."""
    try:
        uri = str(told["Registration"]["uri"])
        key = serialization.load_der_private_key(base64.b64decode(told["PrivateKey"]), None)
        pem = key_pem(key)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error):
        return None
    if uri.split("/")[:3] != options.ca_server.split("/")[:3]:
        return None
    public = JWK.load(pem)
    thumbprint = base64.urlsafe_b64encode(public.thumbprint()).rstrip(b"=").decode()
    return Account(options.ca_server, uri, pem, thumbprint, identity_of(options), str(told.get("Email") or ""))


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
