"""Tests for swarmgate.acme.answers: what a replica says to an authority's HTTP-01 challenge."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from swarmgate.acme.answers import PATH, ChallengeLeaf
from tests.exchanges import MemoryClient, client_of, exchange_of

TOKEN = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"


class ChallengeLeafTests(SynchronousTestCase):
    """Requests below /.well-known/acme-challenge/."""

    def setUp(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.known: str | None = "thumb_-print"

    def ask(self, target: str, host: str = "a.example") -> MemoryClient:
        """Return the client after its request was answered."""
        exchange = exchange_of(target, host=host)
        ChallengeLeaf(self.thumbprint).serve(exchange)
        return client_of(exchange)

    def thumbprint(self, host: str, entry_point: str) -> str | None:
        self.asked.append((host, entry_point))
        return self.known

    def test_answer(self) -> None:
        """The answer is the token and the account's thumbprint, for the host and entry point that was asked."""
        client = self.ask(PATH + TOKEN, "A.Example:80")
        self.assertEqual((200, f"{TOKEN}.thumb_-print".encode()), (client.status, client.body))
        self.assertEqual(b"application/octet-stream", client.value(b"Content-Type"))
        self.assertEqual([("a.example", "web")], self.asked)

    def test_unknown(self) -> None:
        """Where no account is known the answer is 404."""
        self.known = None
        self.assertEqual(404, self.ask(PATH + TOKEN).status)

    def test_no_token(self) -> None:
        """What is no token is 404, and never sent back: nobody gets a script of theirs from this host."""
        for rest in ("", "short", "x" * 300, TOKEN + "/x", "%3Cscript%3Ealert(1)%3C/script%3E", TOKEN + "%0D%0Aa:b"):
            client = self.ask(PATH + rest)
            self.assertEqual(404, client.status, rest)
            self.assertNotIn(b"script", client.body)
        self.assertEqual([], self.asked)
