"""Authorities: :class:`IAuthority`, and :class:`AcmeAuthority`, which speaks RFC 8555 by the ``acme`` package.

The package blocks; its calls are made in threads. An order is made in two calls, so that the challenges can be
answered in between by whoever knows how.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from threading import Event
from typing import Any, TypeVar

import attrs
import requests
from acme import challenges, client, errors, messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.b64 import b64encode
from josepy.errors import Error as JoseError
from josepy.jwa import ES256, ES384, RS256
from josepy.jwk import JWKEC, JWKRSA
from requests.adapters import HTTPAdapter
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import Interface, implementer

from swarmgate.acme.certificate import (
    Certificate,
    PrivateKey,
    certificate_from,
    issuers,
    key_pem,
    make_key,
    signing_request,
)
from swarmgate.acme.dns import DNSError, Records, record_name, records_of, wait_for_record
from swarmgate.acme.records import Account
from swarmgate.acme.wanted import identity_of
from swarmgate.config.acme import ACME

_log = Logger()
T = TypeVar("T")

_NONCES = 12  # Times that a call is made anew because the authority wants another nonce (RFC 8555, section 6.5).
_POLL = 1.0  # Seconds between looks at an order.


class AuthorityError(Exception):
    """An authority has refused, or can't be reached; the message is for people.

    :ivar scope: what is to wait: ``authority`` for all its orders, ``order`` for this one; ``account`` if the account
        is known no more.
    :ivar retry_after: seconds until it may be tried again, as the authority says; 0 if it doesn't.
    """

    def __init__(self, message: str, scope: str = "order", retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.scope = scope
        self.retry_after = retry_after


@attrs.frozen
class Token:
    """A challenge to be answered.

    :ivar domain: without ``*.``.
    :ivar value: what answers it: a key authorisation, or for dns-01 the text of the record.
    """

    domain: str
    token: str
    value: str


@attrs.frozen
class Pending:
    """An order that waits for its challenges.

    :ivar tokens: of the challenges that are open; none if the authority remembers that all were met.
    :ivar state: what the authority needs to go on with it.
    """

    account: Account
    tokens: tuple[Token, ...]
    state: Any = attrs.field(repr=False, default=None)


@attrs.frozen
class Renewal:
    """What an authority says of a certificate's renewal (RFC 9773), in seconds from now.

    :ivar renew_in: when to renew it, None if it doesn't say.
    :ivar ask_in: when to ask again.
    """

    renew_in: float | None
    ask_in: float


class IAuthority(Interface):
    """Signs certificates. Everything fails with :exc:`AuthorityError`."""

    def register() -> Deferred[Account]:
        """Make an account, or find the one that an external binding names."""

    def begin(account: Account, domains: tuple[str, ...]) -> Deferred[Pending]:
        """Begin an order."""

    def prepare(pending: Pending) -> Deferred[None]:
        """Make the DNS records that the challenges ask for and wait until they are seen, if it is by those."""

    def finish(pending: Pending) -> Deferred[Certificate]:
        """Let the authority check the challenges, and obtain the certificate."""

    def clean_up(pending: Pending) -> Deferred[None]:
        """Remove what :meth:`prepare` has made; to be called whatever has happened."""

    def renewal(certificate: Certificate) -> Deferred[Renewal]:
        """Ask when a certificate should be renewed; never fails."""

    def stop() -> None:
        """Give up what is under way as soon as possible."""


@implementer(IAuthority)
class AcmeAuthority:
    """The authority of one resolver.

    :param resolver: its name, for messages.
    :param in_thread: calls a function in a thread and returns a Deferred of what it returns.
    :param environ: what DNS providers are configured by.
    """

    def __init__(
        self,
        resolver: str,
        options: ACME,
        in_thread: Callable[..., Deferred[Any]],
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._resolver = resolver
        self._options = options
        self._in_thread = in_thread
        self._environ = environ
        self._stop = Event()

    def __repr__(self) -> str:
        return f"<AcmeAuthority {self._resolver} {self._options.ca_server}>"

    def register(self) -> Deferred[Account]:
        """See :meth:`IAuthority.register`."""
        return self._in_thread(self._explained, self._register)

    def begin(self, account: Account, domains: tuple[str, ...]) -> Deferred[Pending]:
        """See :meth:`IAuthority.begin`."""
        return self._in_thread(self._explained, self._begin, account, domains)

    def prepare(self, pending: Pending) -> Deferred[None]:
        """See :meth:`IAuthority.prepare`."""
        return self._in_thread(self._explained, self._prepare, pending)

    def finish(self, pending: Pending) -> Deferred[Certificate]:
        """See :meth:`IAuthority.finish`."""
        return self._in_thread(self._explained, self._finish, pending)

    def clean_up(self, pending: Pending) -> Deferred[None]:
        """See :meth:`IAuthority.clean_up`."""
        return self._in_thread(self._explained, self._clean_up, pending)

    def renewal(self, certificate: Certificate) -> Deferred[Renewal]:
        """See :meth:`IAuthority.renewal`."""
        return self._in_thread(self._renewal, certificate)

    def stop(self) -> None:
        """See :meth:`IAuthority.stop`."""
        self._stop.set()

    # From here on in threads.

    def _explained(self, call: Callable[..., T], *given: Any) -> T:
        try:
            return call(*given)
        except (errors.Error, requests.RequestException, JoseError, DNSError, OSError, ValueError) as error:
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> AuthorityError:
        where = f"resolver {self._resolver}"
        if isinstance(error, DNSError):
            return AuthorityError(f"{where}: {error}")
        if isinstance(error, messages.Error):
            scope, told = "order", f"{error.title or ''} {error.detail or ''}".strip() or str(error.typ)
            if error.code == "accountDoesNotExist":
                scope = "account"
            elif error.code in ("rateLimited", "serverInternal", "badNonce", "externalAccountRequired", "unauthorized"):
                scope = "authority" if error.code != "rateLimited" or "new orders" in told else "order"
            return AuthorityError(f"{where}: {error.code}: {told}", scope, getattr(error, "retry_after", 0.0))
        if isinstance(error, errors.ValidationError):
            return AuthorityError(f"{where}: {_failed_challenges(error)}")
        if isinstance(error, errors.IssuanceError):
            return AuthorityError(f"{where}: {error.error.code}: {error.error.detail}")
        if isinstance(error, errors.TimeoutError):
            return AuthorityError(f"{where}: the authority has not decided within {self._options.client_timeout} s")
        if isinstance(error, requests.RequestException | OSError):
            reason = (
                "its certificate is not trusted"
                if isinstance(error, requests.exceptions.SSLError)
                else ("no answer in time" if isinstance(error, requests.Timeout) else "it can't be reached")
            )
            return AuthorityError(f"{where}: {self._options.ca_server}: {reason}", "authority")
        if isinstance(error, errors.ClientError):
            return AuthorityError(
                f"{where}: {self._options.ca_server}: unexpected answer",
                "authority",
                getattr(error, "retry_after", 0.0),
            )
        return AuthorityError(f"{where}: {type(error).__name__}: {error}")

    def _client(self, key: PrivateKey, account: Account | None = None) -> client.ClientV2:
        wrapped, algorithm = _wrapped(key)
        network = _Network(wrapped, algorithm, self._options)
        if account is not None:
            network.account = messages.RegistrationResource(body=messages.Registration(), uri=account.uri)
        try:
            directory = client.ClientV2.get_directory(self._options.ca_server, network)
        except (messages.Error, errors.ClientError) as error:
            told = getattr(error, "detail", "") or type(error).__name__
            raise AuthorityError(
                f"resolver {self._resolver}: {self._options.ca_server}: no ACME directory: {told}",
                "authority",
                getattr(error, "retry_after", 0.0),
            ) from error
        return client.ClientV2(directory, network)

    def _of(self, account: Account) -> client.ClientV2:
        key = serialization.load_pem_private_key(account.key_pem, None)
        return self._client(key, account)  # type: ignore[arg-type]

    def _register(self) -> Account:
        key = ec.generate_private_key(ec.SECP256R1())
        acme = self._client(key)
        options = self._options
        wrapped, _ = _wrapped(key)
        given: dict[str, Any] = {"terms_of_service_agreed": True}
        if options.email:
            given["email"] = options.email
        if options.eab is not None:
            given["external_account_binding"] = messages.ExternalAccountBinding.from_data(
                wrapped.public_key(), options.eab.kid, options.eab.hmac_encoded, acme.directory
            )
        registered = acme.new_account(messages.NewRegistration.from_data(**given))
        thumbprint = b64encode(wrapped.thumbprint()).decode()
        return Account(options.ca_server, registered.uri, key_pem(key), thumbprint, identity_of(options), options.email)

    def _begin(self, account: Account, domains: tuple[str, ...]) -> Pending:
        acme = self._of(account)
        key = make_key(self._options.key_type)
        request = signing_request(key, domains, not self._options.disable_common_name)
        order = acme.new_order(request, self._options.profile or None)
        wanted = self._options.challenge
        tokens, answers = [], []
        for authorization in order.authorizations:
            body = authorization.body
            if body.status == messages.STATUS_VALID:
                continue
            found = [one for one in body.challenges if _type_of(one) == wanted]
            if not found:
                offered = ", ".join(map(_type_of, body.challenges))
                raise AuthorityError(
                    f"resolver {self._resolver}: {body.identifier.value}: the authority does not offer {wanted}, "
                    f"but {offered or 'nothing'}"
                )
            chosen = found[0]
            challenge = chosen.chall
            if isinstance(challenge, challenges.UnrecognizedChallenge):
                # The package has TLS-ALPN-01 no more. Its key authorisation is that of the others (RFC 8555, 8.1).
                token = challenge.jobj["token"]
                challenge = challenges.HTTP01(token=challenges.HTTP01._fields["token"].decode(token))
            response = challenge.response(acme.net.key)
            value = response.key_authorization
            if isinstance(challenge, challenges.DNS01):
                value = challenge.validation(acme.net.key)
            tokens.append(Token(body.identifier.value, challenge.encode("token"), value))
            answers.append((chosen, response))
        return Pending(account, tuple(tokens), (acme, order, key, domains, answers))

    def _prepare(self, pending: Pending) -> None:
        options = self._options.dns_challenge
        if options is None:
            return
        records = self._records()
        for token in pending.tokens:
            records.present(record_name(token.domain), token.value)
        propagation = options.propagation
        delay = max(propagation.delay_before_checks, options.delay_before_check)
        if self._stop.wait(delay):
            raise DNSError("given up, as the gate stops")
        if not (propagation.disable_checks or options.disable_propagation_check):
            for token in pending.tokens:
                name = record_name(token.domain)
                wait_for_record(name, token.value, options.resolvers, propagation.timeout, self._stop)

    def _records(self) -> Records:
        assert self._options.dns_challenge is not None
        return records_of(self._options.dns_challenge.provider, self._environ)

    def _clean_up(self, pending: Pending) -> None:
        if self._options.dns_challenge is None:
            return
        records = self._records()
        for token in pending.tokens:
            try:
                records.clean_up(record_name(token.domain), token.value)
            except DNSError as error:
                _log.warn("resolver {resolver}: {error}", resolver=self._resolver, error=str(error))

    def _finish(self, pending: Pending) -> Certificate:
        acme, order, key, domains, answers = pending.state
        for challenge, response in answers:
            acme.answer_challenge(challenge, response)
        # The package compares with datetime.now() of its own.
        deadline = datetime.now() + timedelta(seconds=self._options.client_timeout)
        order = self._await_authorizations(acme, order, deadline)
        deadline = datetime.now() + timedelta(seconds=self._options.certificate_timeout)
        order = acme.finalize_order(order, deadline, fetch_alternative_chains=bool(self._options.preferred_chain))
        chain = order.fullchain_pem
        if self._options.preferred_chain:
            for offered in [chain, *order.alternative_fullchains_pem]:
                if self._options.preferred_chain in issuers(offered.encode()):
                    chain = offered
                    break
            else:
                _log.warn(
                    "resolver {resolver}: no chain by {preferred}: the authority's own choice is used",
                    resolver=self._resolver,
                    preferred=self._options.preferred_chain,
                )
        origin = f"resolver {self._resolver}"
        return certificate_from(chain.encode("ascii"), key_pem(key), domains, origin, self._resolver)

    def _await_authorizations(
        self, acme: client.ClientV2, order: messages.OrderResource, deadline: datetime
    ) -> messages.OrderResource:
        # As the package's poll_authorizations(), which can't be told to stop.
        failed = []
        for authorization in order.authorizations:
            while True:
                authorization, response = acme.poll(authorization)
                if authorization.body.status != messages.STATUS_PENDING:
                    break
                after = (acme.retry_after(response, 1) - datetime.now()).total_seconds()
                if datetime.now() > deadline:
                    raise errors.TimeoutError
                if self._stop.wait(min(max(after, _POLL), 30.0)):
                    raise AuthorityError("given up, as the gate stops")
            if authorization.body.status != messages.STATUS_VALID:
                failed.append(authorization)
        if failed:
            raise errors.ValidationError(failed)
        return order

    def _renewal(self, certificate: Certificate) -> Renewal:
        try:
            acme = self._client(ec.generate_private_key(ec.SECP256R1()))
            at, again = acme.renewal_time(certificate.chain_pem)
        except errors.ARIError as error:
            return Renewal(None, max((error.retry_after - datetime.now()).total_seconds(), 3600.0))
        except Exception as error:
            # A question that can't be asked costs nothing: the certificate's own dates decide.
            _log.debug("resolver {resolver}: ARI: {error}", resolver=self._resolver, error=str(error))
            return Renewal(None, 6 * 3600.0)
        pause = min(max((again - datetime.now()).total_seconds(), 60.0), 86400.0)
        if at is None:
            return Renewal(None, pause)
        now = datetime.now(at.tzinfo)
        return Renewal((at - now).total_seconds(), pause)


class _Network(client.ClientNetwork):
    """The package's way to the authority, with the options of a resolver; it asks for as many nonces as it takes."""

    def __init__(self, key: Any, algorithm: Any, options: ACME) -> None:
        super().__init__(
            key, alg=algorithm, user_agent="swarmgate", timeout=int(options.client_response_header_timeout) or 1
        )
        # Otherwise HTTPS_PROXY counts, which is meant, but REQUESTS_CA_BUNDLE would replace what is configured.
        self._options = options
        self.session.mount("https://", _Adapter(options))

    def post(self, *given: Any, **options: Any) -> Any:
        for _ in range(_NONCES):
            try:
                return self._post_once(*given, **options)
            except messages.Error as error:
                if error.code != "badNonce":
                    raise
                self._nonces.clear()
        return self._post_once(*given, **options)

    def _send_request(self, method: str, url: str, *given: Any, **options: Any) -> Any:
        response = super()._send_request(method, url, *given, **options)
        # The nonce that comes with a refusal is good (RFC 8555, section 6.5).
        if response.status_code >= 400 and self.REPLAY_NONCE_HEADER in response.headers:
            with contextlib.suppress(errors.Error):
                self._add_nonce(response)
        return response

    @classmethod
    def _check_response(cls, response: Any, content_type: Any = None) -> Any:
        try:
            return super()._check_response(response, content_type)
        except (messages.Error, errors.ClientError) as error:
            # Frozen values refuse new attributes the usual way.
            object.__setattr__(error, "retry_after", _seconds(response.headers.get("Retry-After", "")))
            raise


class _Adapter(HTTPAdapter):
    """Connections whose certificates are checked as the resolver's options say."""

    def __init__(self, options: ACME) -> None:
        self._context = ssl.create_default_context()
        self._own = bool(options.ca_certificates or options.ca_server_name)
        if options.ca_certificates and not options.ca_system_cert_pool:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for path in options.ca_certificates:
            self._context.load_verify_locations(path)
        self._name = options.ca_server_name
        super().__init__()

    def init_poolmanager(self, *given: Any, **options: Any) -> Any:
        if self._own:
            options["ssl_context"] = self._context
            if self._name:
                options["server_hostname"] = options["assert_hostname"] = self._name
        return super().init_poolmanager(*given, **options)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        if not self._own:
            super().cert_verify(conn, url, verify, cert)

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        if self._own:
            pool.pop("ca_certs", None)
            pool.pop("ca_cert_dir", None)
            pool["ssl_context"] = self._context
        return host, pool


def _wrapped(key: PrivateKey) -> tuple[Any, Any]:
    """A key as josepy has them, and the algorithm that it signs by."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        by_curve = {"secp256r1": ES256, "secp384r1": ES384}
        return JWKEC(key=key), by_curve[key.curve.name]
    return JWKRSA(key=key), RS256


def _seconds(text: str) -> float:
    """What a Retry-After field says, in seconds from now, at most a week."""
    if text.isdigit():
        return min(float(text), 604800.0)
    try:
        return min(max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0), 604800.0)
    except (TypeError, ValueError):
        return 0.0


def _type_of(challenge: messages.ChallengeBody) -> str:
    """Its type as RFC 8555 names it, whether the package knows it or not."""
    if isinstance(challenge.chall, challenges.UnrecognizedChallenge):
        return str(challenge.chall.jobj.get("type"))
    return str(challenge.chall.typ)


def _failed_challenges(error: errors.ValidationError) -> str:
    told = []
    for authorization in error.failed_authzrs:
        domain = authorization.body.identifier.value
        for challenge in authorization.body.challenges:
            if challenge.error is not None:
                told.append(f"{domain}: {_type_of(challenge)}: {challenge.error.code}: {challenge.error.detail}")
    return "; ".join(told) or "the authority has refused the challenges"
