"""Tests for swarmgate.middlewares.basic_auth."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.message import field_values
from swarmgate.middlewares import basic_auth
from swarmgate.structure import StructureError, structure
from tests.exchanges import Kept, MemoryClient, Origin, client_of, context_of, exchange_of, lead

# All of the word "secret", as htpasswd writes it; bcrypt at its least cost.
APR1 = "$apr1$rKdAE0Fm$bT5B4uoUTgEMLHpK93jFZ0"
MD5 = "$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1"
SHA1 = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="
BCRYPT = "$2y$04$Gr0eKdpef54GxQr1gRJVnO8NripjPhLveSeCS5jXQm4/QU99Anit2"


def basic(user: str, password: str) -> tuple[str, str]:
    return "Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Threads:
    """Threads that work when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, work: Callable[..., Any], *args: Any) -> Deferred[Any]:
        result: Deferred[Any] = Deferred()
        self.waiting.append(lambda: result.callback(work(*args)))
        return result

    def work(self) -> int:
        """Do what is waiting; returns how much that was."""
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one()
        return len(waiting)


class BasicAuthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.kept = Kept()
        self.origin = Origin()

    def auth(self, in_thread: Any = None, **options: Any) -> Any:
        options.setdefault("users", f"bob:{APR1}")
        context = context_of(self.clock, self.kept, in_thread=in_thread)
        return basic_auth.build(structure(basic_auth.Settings, options, "basicAuth"), context)

    def ask(self, auth: Any, *fields: tuple[str, str]) -> MemoryClient:
        return lead(exchange_of("/", *fields), auth, origin=self.origin)

    def test_no_credentials(self) -> None:
        """Without credentials, or with something else, the client is told to send some."""
        auth = self.auth()
        for fields in (
            (),
            [("Authorization", "Bearer x")],
            [("Authorization", "Basic")],
            [("Authorization", "Basic *")],
        ):
            client = self.ask(auth, *fields)
            self.assertEqual((client.status, client.body), (401, b"401 Unauthorized\n"))
            self.assertEqual(client.value(b"WWW-Authenticate"), b'Basic realm="traefik"')
        self.assertEqual(self.origin.reached, [])

    def test_kinds_of_hashes(self) -> None:
        """A user passes with the right password and no other, whatever htpasswd made of it."""
        for secret in (APR1, MD5, SHA1, BCRYPT):
            auth = self.auth(users=f"bob:{secret}")
            self.assertEqual(self.ask(auth, basic("bob", "secret")).status, 200, secret)
            for user, password in (("bob", "Secret"), ("bob", ""), ("Bob", "secret"), ("eve", "secret"), ("", "")):
                self.assertEqual(self.ask(auth, basic(user, password)).status, 401, (secret, user, password))

    def test_long_passwords(self) -> None:
        """bcrypt takes the first 72 octets of a password; longer ones are no error."""
        auth = self.auth(users=f"bob:{BCRYPT}")
        for password in ("secret" * 100, "sec\0ret"):
            self.assertEqual(self.ask(auth, basic("bob", password)).status, 401)

    def test_two_authorizations(self) -> None:
        """With two credentials nobody passes: the server might look at the other one."""
        self.assertEqual(self.ask(self.auth(), basic("bob", "secret"), basic("eve", "x")).status, 401)

    def test_scheme_in_any_case(self) -> None:
        """The scheme's name is written in any case."""
        name, value = basic("bob", "secret")
        self.assertEqual(self.ask(self.auth(), (name, value.replace("Basic", "bASIC"))).status, 200)

    def test_realm(self) -> None:
        """The realm is a quoted string, whatever it holds."""
        client = self.ask(self.auth(realm='my "own" place'))
        self.assertEqual(client.value(b"WWW-Authenticate"), b'Basic realm="my \\"own\\" place"')

    def test_server_is_told(self) -> None:
        """headerField tells the server the user, whom no client can forge; removeHeader keeps the password from it."""
        auth = self.auth(headerField="X-User", removeHeader="true")
        self.ask(auth, basic("bob", "secret"), ("X-User", "root"), ("X_USER", "root"))
        [exchange] = self.origin.reached
        self.assertEqual(field_values(exchange.request.fields, b"x-user"), [b"bob"])
        self.assertEqual(field_values(exchange.request.fields, b"x_user"), [])
        self.assertEqual(field_values(exchange.request.fields, b"authorization"), [])
        self.assertEqual(exchange.user, "bob")

    def test_server_gets_it(self) -> None:
        """Without removeHeader the server gets the credentials."""
        self.ask(self.auth(), basic("bob", "secret"))
        self.assertEqual(len(field_values(self.origin.reached[0].request.fields, b"authorization")), 1)

    def test_in_a_thread(self) -> None:
        """A slow hash is verified in a thread, and the request waits for it."""
        threads = Threads()
        auth = self.auth(threads)
        good, bad = exchange_of("/", basic("bob", "secret")), exchange_of("/", basic("bob", "guess"))
        lead(good, auth), lead(bad, auth)
        self.assertEqual((client_of(good).status, client_of(bad).status), (0, 0))
        threads.work()
        self.assertEqual((client_of(good).status, client_of(bad).status), (200, 401))

    def test_verified_once(self) -> None:
        """Credentials that were right cost nothing for a minute, and then are verified again."""
        threads = Threads()
        auth = self.auth(threads)
        exchanges = [exchange_of("/", basic("bob", "secret")) for _ in range(3)]
        for exchange in exchanges:
            lead(exchange, auth)
        self.assertEqual(threads.work(), 1)
        self.assertEqual([client_of(exchange).status for exchange in exchanges], [200] * 3)
        # Also when a new table has been built meanwhile.
        self.assertEqual(self.ask(self.auth(threads), basic("bob", "secret")).status, 200)
        self.assertEqual(threads.work(), 0)
        self.clock.advance(61)
        self.ask(auth, basic("bob", "secret"))
        self.assertEqual(threads.work(), 1)

    def test_wrong_is_not_remembered_as_right(self) -> None:
        """A wrong password is verified each time, and a changed one no longer passes."""
        threads = Threads()
        auth = self.auth(threads)
        for _ in range(2):
            self.ask(auth, basic("bob", "guess"))
            self.assertEqual(threads.work(), 1)
        self.ask(auth, basic("bob", "secret"))
        threads.work()
        changed = self.auth(threads, users="bob:{SHA}C+7Hteo/D9vJXQ3UfzxbwnXaijM=")
        client = self.ask(changed, basic("bob", "secret"))
        threads.work()
        self.assertEqual(client.status, 401)

    def test_unknown_user_takes_as_long(self) -> None:
        """An unknown user's password is verified too, so that the time doesn't tell who exists."""
        threads = Threads()
        self.ask(self.auth(threads), basic("eve", "x"))
        verified: list[bytes] = []
        self.patch(basic_auth, "verify", lambda password, secret: verified.append(secret) or True)
        threads.work()
        self.assertEqual(verified, [APR1.encode()])
        self.assertEqual(self.origin.reached, [])

    def test_client_leaves(self) -> None:
        """A client that leaves meanwhile harms nobody who sent the same."""
        threads = Threads()
        auth = self.auth(threads)
        gone, stays = (exchange_of("/", basic("bob", "secret")) for _ in range(2))
        lead(gone, auth, origin=self.origin), lead(stays, auth, origin=self.origin)
        gone.client_gone()
        threads.work()
        self.assertEqual((client_of(gone).status, client_of(stays).status), (0, 200))
        self.assertEqual(self.origin.reached, [stays])

    def test_too_many_guesses(self) -> None:
        """Guesses wait in a queue that has an end; users who were verified pass nevertheless."""
        threads = Threads()
        auth = self.auth(threads)
        self.ask(auth, basic("bob", "secret"))
        threads.work()
        clients = [self.ask(auth, basic("bob", f"guess {number}")) for number in range(300)]
        self.assertEqual([client.status for client in clients[-3:]], [503] * 3)
        self.assertEqual(clients[0].status, 0)
        self.assertEqual(self.ask(auth, basic("bob", "secret")).status, 200)
        threads.work()
        self.assertEqual(clients[0].status, 401)

    def test_failure(self) -> None:
        """A verification that fails lets nobody pass."""
        self.patch(basic_auth, "verify", lambda password, secret: 1 // 0)
        client = self.ask(self.auth(), basic("bob", "secret"))
        self.assertEqual((client.status, self.origin.reached), (500, []))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_users_file(self) -> None:
        """Users of the file are users too, and win over those of the option."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write(f"# people\n\namy:{SHA1}\nbob:{SHA1}\n")
        auth = self.auth(usersFile=path, users="bob:{SHA}C+7Hteo/D9vJXQ3UfzxbwnXaijM=")
        self.assertEqual(self.ask(auth, basic("amy", "secret")).status, 200)
        self.assertEqual(self.ask(auth, basic("bob", "secret")).status, 200)

    def test_bad_users(self) -> None:
        """What is wrong with a user is said, and where, without the hash."""
        for user, told in (
            ("bob", "users[0]: expected a user as name:hash"),
            ("bob:plaintext", "the hash of bob is of an unknown kind"),
            ("bob:$$apr1$$x$$y", "begins with $$"),
        ):
            with self.assertRaises(ValueError) as caught:
                self.auth(users=user)
            self.assertIn(told, str(caught.exception))
            self.assertNotIn("plaintext", str(caught.exception))
        missing = os.path.join(self.mktemp(), "nothing")
        with self.assertRaises(ValueError) as caught:
            self.auth(usersFile=missing)
        self.assertIn(missing, str(caught.exception))
        self.assertRaises(ValueError, self.auth, users="")

    def test_no_secrets_in_texts(self) -> None:
        """Nothing that might be logged shows a hash."""
        settings = structure(basic_auth.Settings, {"users": f"bob:{APR1}"}, "basicAuth")
        self.ask(self.auth(), basic("bob", "secret"))
        for text in (repr(settings), repr(self.kept.things)):
            self.assertNotIn("apr1", text)
            self.assertNotIn("secret", text)
        with self.assertRaises(StructureError) as caught:
            structure(basic_auth.Settings, {"users": {"x": f"bob:{APR1}"}}, "basicAuth")
        self.assertNotIn("apr1", str(caught.exception))
