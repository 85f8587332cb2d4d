"""Tests for swarmgate.middlewares.digest_auth."""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.http.message import field_values
from swarmgate.limits.local import LocalLimits
from swarmgate.limits.shared import SharedLimits
from swarmgate.middlewares import add_prefix, digest_auth
from swarmgate.middlewares.digest_auth import Nonces, parameters_of, parse_users
from swarmgate.structure import structure
from tests.exchanges import Kept, MemoryClient, Origin, context_of, exchange_of, lead


def md5(*parts: str) -> str:
    return hashlib.md5(":".join(parts).encode()).hexdigest()


BOB = "bob:traefik:" + md5("bob", "traefik", "secret")


class Browser:
    """Answers as RFC 7616 says, apart from what the test changes."""

    def __init__(self, challenge: bytes, password: str = "secret") -> None:
        self.challenge = dict(re.findall(r'(\w+)="?([^",]*)"?', challenge.decode().partition(" ")[2]))
        self.password = password
        self.count = 0

    def answer(self, uri: str = "/", method: str = "GET", **changed: str) -> tuple[str, str]:
        self.count += 1
        said = {
            "username": "bob",
            "realm": self.challenge["realm"],
            "nonce": self.challenge["nonce"],
            "uri": uri,
            "qop": "auth",
            "nc": f"{self.count:08x}",
            "cnonce": "0a4f113b",
            "opaque": self.challenge["opaque"],
        } | changed
        ha1 = md5(said["username"], said["realm"], self.password)
        right = md5(ha1, said["nonce"], said["nc"], said["cnonce"], said["qop"], md5(method, said["uri"]))
        said.setdefault("response", right)
        bare = ("qop", "nc", "algorithm")
        text = ", ".join(
            f"{key}={value}" if key in bare else f'{key}="{value}"' for key, value in said.items() if value
        )
        return "Authorization", f"Digest {text}"


class DigestAuthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.patch(digest_auth.time, "time", self.clock.seconds)
        self.kept = Kept()
        self.limits: Any = LocalLimits()
        self.origin = Origin()

    def auth(self, name: str = "step@test", **options: Any) -> Any:
        options.setdefault("users", BOB)
        context = context_of(self.clock, self.kept, name, limits=self.limits)
        return digest_auth.build(structure(digest_auth.Settings, options, "digestAuth"), context)

    def ask(self, auth: Any, *fields: tuple[str, str], target: str = "/", **more: Any) -> MemoryClient:
        return lead(exchange_of(target, *fields, **more), auth, origin=self.origin)

    def challenge(self, auth: Any) -> bytes:
        challenge = self.ask(auth).value(b"WWW-Authenticate")
        assert challenge is not None
        return challenge

    def is_stale(self, client: MemoryClient) -> bool:
        return b"stale=true" in (client.value(b"WWW-Authenticate") or b"")

    def test_challenge(self) -> None:
        """Without an answer, or with something else, clients are asked for one."""
        auth = self.auth()
        for fields in (
            (),
            (("Authorization", "Basic x"),),
            (("Authorization", "Digest"),),
            (("Authorization", "Digest =="),),
        ):
            client = self.ask(auth, *fields)
            self.assertEqual((client.status, client.body), (401, b"401 Unauthorized\n"))
            self.assertRegex(
                client.value(b"WWW-Authenticate") or b"",
                rb'^Digest realm="traefik", nonce="[\w=-]+", opaque="[0-9a-f]{32}", algorithm=MD5, qop="auth"$',
            )
        self.assertEqual(self.origin.reached, [])

    def test_right(self) -> None:
        """The right password passes, again and again with one nonce."""
        auth = self.auth()
        browser = Browser(self.challenge(auth))
        for _ in range(3):
            self.assertEqual(self.ask(auth, browser.answer()).status, 200)
        self.assertEqual([one.user for one in self.origin.reached], ["bob"] * 3)

    def test_wrong(self) -> None:
        """Whatever of an answer is wrong or missing, nobody passes."""
        auth = self.auth()
        browser = Browser(self.challenge(auth))
        for changed in (
            {"username": "eve"},
            {"username": ""},
            {"realm": "other"},
            {"realm": ""},
            {"response": "0" * 32},
            {"response": ""},
            {"response": "x"},
            {"qop": "auth-int"},
            {"qop": ""},
            {"nc": ""},
            {"nc": "1"},
            {"nc": "0000000G"},
            {"cnonce": ""},
            {"opaque": "0"},
            {"algorithm": "SHA-256"},
            {"algorithm": "MD5-sess"},
            {"userhash": "true"},
        ):
            client = self.ask(auth, browser.answer(**changed))
            self.assertEqual((client.status, self.is_stale(client)), (401, False), changed)
        browser.password = "Secret"
        client = self.ask(auth, browser.answer())
        self.assertEqual((client.status, self.is_stale(client)), (401, False))
        self.assertEqual(self.origin.reached, [])

    def test_without_opaque(self) -> None:
        """Some clients leave out what they need not send."""
        auth = self.auth()
        browser = Browser(self.challenge(auth))
        self.assertEqual(self.ask(auth, browser.answer(opaque="", algorithm="md5")).status, 200)

    def test_replay(self) -> None:
        """An answer is taken once; so is another one with its counter."""
        auth = self.auth()
        browser = Browser(self.challenge(auth))
        answer = browser.answer()
        self.assertEqual(self.ask(auth, answer).status, 200)
        for again in (answer, browser.answer(nc="00000001", cnonce="other")):
            client = self.ask(auth, again)
            self.assertEqual((client.status, self.is_stale(client)), (401, True))
        self.assertEqual(len(self.origin.reached), 1)
        # Whoever was asked anew gets in with that.
        self.assertEqual(self.ask(auth, Browser(client.value(b"WWW-Authenticate") or b"").answer()).status, 200)

    def test_out_of_order(self) -> None:
        """Requests of several connections overtake each other."""
        auth = self.auth()
        browser = Browser(self.challenge(auth))
        answers = [browser.answer() for _ in range(20)]
        self.assertEqual({self.ask(auth, answer).status for answer in reversed(answers)}, {200})

    def test_replay_at_another_worker(self) -> None:
        """A nonce is good in all workers, and each answer in one of them."""
        descriptor = SharedLimits.create(2)
        self.addCleanup(os.close, descriptor)
        auths = []
        for worker in range(2):
            self.limits = SharedLimits(descriptor, worker, self.clock.seconds)
            self.addCleanup(self.limits.close)
            self.kept = Kept()
            auths.append(self.auth())
        browser = Browser(self.challenge(auths[0]))
        for auth in auths:
            answer = browser.answer()
            self.assertEqual(self.ask(auth, answer).status, 200)
            for other in auths:
                self.assertEqual(self.ask(other, answer).status, 401)

    def test_expiry(self) -> None:
        """A nonce has its time, and the user is not asked again after it."""
        auth = self.auth()
        browser = Browser(self.challenge(auth))
        first = browser.answer()
        self.assertEqual(self.ask(auth, first).status, 200)
        self.clock.advance(59)
        self.assertEqual(self.ask(auth, browser.answer()).status, 200)
        self.assertEqual(self.ask(auth, first).status, 401)
        self.clock.advance(1)
        for answer in (first, browser.answer()):
            client = self.ask(auth, answer)
            self.assertEqual((client.status, self.is_stale(client)), (401, True))

    def test_nonce_of_another(self) -> None:
        """What another middleware, another gate or nobody has made is no nonce."""
        auth = self.auth()
        other = self.challenge(self.auth("other@test"))
        self.limits = LocalLimits()
        stranger = self.challenge(self.auth("step@test"))
        for challenge in (other, stranger):
            self.assertEqual(self.ask(auth, Browser(challenge).answer()).status, 401)
        browser = Browser(self.challenge(auth))
        nonce = browser.challenge["nonce"]
        for changed in ("x", "", "A" * 44, nonce[:-2], ("B" if nonce[0] == "A" else "A") + nonce[1:], "é" * 22):
            self.assertEqual(self.ask(auth, browser.answer(nonce=changed or "-")).status, 401, changed)
        self.assertEqual(self.origin.reached, [])

    def test_uri(self) -> None:
        """An answer is for one path and query, however it is spelled; for another it is a bad request."""
        auth = self.auth()
        browser = Browser(self.challenge(auth))
        for uri, target, status in (
            ("/a?b=c", "/a?b=c", 200),
            ("/%61?b=c", "/%61?b=c", 200),
            ("/a/./b", "/a/./b", 200),
            ("http://a.example/a", "/a", 200),
            ("http://a.example", "/", 200),
            ("http://b.example/a", "/a", 400),
            ("/a", "/b", 400),
            ("/a?b=c", "/a", 400),
            ("/a", "/a?", 400),
            ("x", "/x", 400),
            ("/../..", "/", 400),
        ):
            self.assertEqual(self.ask(auth, browser.answer(uri), target=target).status, status, uri)

    def test_method(self) -> None:
        """An answer is for one method."""
        auth = self.auth()
        browser = Browser(self.challenge(auth))
        self.assertEqual(self.ask(auth, browser.answer(method="GET"), method="DELETE").status, 401)
        self.assertEqual(self.ask(auth, browser.answer(method="DELETE"), method="DELETE").status, 200)

    def test_changed_path(self) -> None:
        """A middleware before it may have changed the path that the client asked for."""
        auth = self.auth()
        prefix = add_prefix.build(structure(add_prefix.Settings, {"prefix": "/p"}, ""), context_of())
        browser = Browser(self.challenge(auth))
        self.assertEqual(lead(exchange_of("/a", browser.answer("/a")), prefix, auth, origin=self.origin).status, 200)

    def test_two_answers(self) -> None:
        """With two answers nobody passes."""
        auth = self.auth()
        browser = Browser(self.challenge(auth))
        self.assertEqual(self.ask(auth, browser.answer(), ("Authorization", "Basic x")).status, 401)

    def test_server_is_told(self) -> None:
        """headerField tells the server the user, whom no client can forge; removeHeader keeps the answer from it."""
        auth = self.auth(headerField="X-User", removeHeader="true")
        browser = Browser(self.challenge(auth))
        self.ask(auth, browser.answer(), ("X-User", "root"), ("X_USER", "root"))
        fields = self.origin.reached[0].request.fields
        self.assertEqual(field_values(fields, b"x-user"), [b"bob"])
        self.assertEqual(field_values(fields, b"x_user"), [])
        self.assertEqual(field_values(fields, b"authorization"), [])

    def test_names(self) -> None:
        """Names may hold what has to be escaped, and any letters."""
        for name in ('a\\"b', "jörg"):
            auth = self.auth(users=f"{name}:traefik:{md5(name, 'traefik', 'secret')}")
            browser = Browser(self.challenge(auth))
            header, value = browser.answer(username=name)
            if "\\" in name:
                value = value.replace(name, 'a\\\\\\"b')
            self.assertEqual(self.ask(auth, (header, value.encode().decode("latin-1"))).status, 200, name)
            self.assertEqual(self.origin.reached[-1].user, name)


class UsersTests(SynchronousTestCase):
    def test_file(self) -> None:
        """Users come from a file as htdigest writes it, and from the option, those of the realm only."""
        path = self.mktemp()
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"# ours\n{BOB}\n\nann:traefik:{'0' * 32}\neve:other:{'1' * 32}\n")
        lines = digest_auth.lines_of(["bob:traefik:" + "A" * 32], path)
        self.assertEqual(parse_users(lines, "traefik"), {b"bob": BOB[-32:].encode(), b"ann": b"0" * 32})

    def test_mistakes(self) -> None:
        """What is no user is told of without its digest."""
        for users, told in (
            ("bob:traefik", "users[0]: expected a user as name:realm:digest"),
            ("bob:traefik:x", "the digest of bob is none"),
            (":traefik:" + "0" * 32, "expected a user as"),
            ("bob:other:" + "0" * 32, "no users of the realm traefik, only of other"),
            ("bob:$apr1$rKdAE0Fm$bT5B4uoUTgEMLHpK93jFZ0", "expected a user as"),
        ):
            with self.assertRaises(ValueError) as caught:
                digest_auth.build(structure(digest_auth.Settings, {"users": users}, ""), context_of())
            self.assertIn(told, str(caught.exception))
            self.assertNotIn("0000", str(caught.exception))
        self.assertRaises(ValueError, digest_auth.build, structure(digest_auth.Settings, {}, ""), context_of())
        with self.assertRaises(ValueError):
            digest_auth.build(structure(digest_auth.Settings, {"usersFile": "/none"}, ""), context_of())
        self.assertNotIn("secret", repr(structure(digest_auth.Settings, {"users": "secret"}, "")))


class ParameterTests(SynchronousTestCase):
    def test_parameters(self) -> None:
        """Tokens, quoted strings and what is escaped in them."""
        self.assertEqual(
            parameters_of(b'digest A=b , c="d, \\"e\\"=f",g="", '), {b"a": b"b", b"c": b'd, "e"=f', b"g": b""}
        )
        for wrong in (
            b"Digest a",
            b"Digest a=",
            b'Digest a="b',
            b"Digest a=b c=d",
            b"Digest a=b, A=c",
            b"Digest ,,a=b",
            b"Basic a=b",
        ):
            self.assertIsNone(parameters_of(wrong), wrong)

    @given(st.binary(max_size=200) | st.text('a=," \\', max_size=60).map(str.encode))
    def test_any(self, text: bytes) -> None:
        """Whatever is sent is parameters or nothing."""
        found = parameters_of(b"Digest " + text)
        self.assertTrue(found is None or all(name == name.lower() for name in found))

    @given(st.dictionaries(st.text("abc", min_size=1, max_size=8), st.binary(max_size=20), max_size=5))
    def test_round(self, given_: dict[str, bytes]) -> None:
        """What is written as it should be is read as it was meant."""
        text = b", ".join(
            name.encode() + b'="' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
            for name, value in given_.items()
        )
        self.assertEqual(parameters_of(b"Digest " + text), {name.encode(): value for name, value in given_.items()})

    @given(st.binary(max_size=80))
    def test_nonces(self, text: bytes) -> None:
        """What nobody has made is no nonce."""
        self.assertFalse(Nonces(b"secret", b"", lambda: 0.0).is_alive(text))
