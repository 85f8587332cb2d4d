"""Tests for swarmgate.limits.redis and the option redis, with a Redis whose answers the test writes; tests/e2e has a
real one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.limits.interface import Rate
from swarmgate.limits.local import LocalBuckets
from swarmgate.limits.redis import Redis, RedisBuckets, RedisSettings, Unavailable
from swarmgate.middlewares import build, files_of, rate_limit
from swarmgate.structure import StructureError, structure
from tests.exchanges import Kept, Origin, client_of, context_of, exchange_of, lead
from tests.memory_network import MemoryNetwork, MemoryTransport
from tests.pki import authority

#: A bucket that is full in 20 ms is empty.
RATE = Rate(100, 2, 0.005)


def commands(transport: MemoryTransport) -> list[list[bytes]]:
    """The commands that were written since the last call (RESP2: arrays of bulk strings)."""
    octets, found = transport.take(), []
    while octets:
        head, _, octets = octets.partition(b"\r\n")
        assert head[:1] == b"*", head
        words = []
        for _ in range(int(head[1:])):
            size, _, octets = octets.partition(b"\r\n")
            words.append(octets[: int(size[1:])])
            octets = octets[int(size[1:]) + 2 :]
        found.append(words)
    return found


class RedisTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork()
        self.said: list[str] = []
        globalLogPublisher.addObserver(self.note)
        self.addCleanup(globalLogPublisher.removeObserver, self.note)

    def note(self, event: Any) -> None:
        if event.get("log_namespace") == "swarmgate.limits.redis":
            self.said.append(event["log_format"].format(**event))

    @property
    def server(self) -> MemoryTransport:
        """The newest connection to Redis."""
        return self.network.servers[-1]

    def redis(self, **options: Any) -> Redis:
        redis = Redis(RedisSettings("redis", 6379, **options), self.network, self.clock, "middleware limit@test")
        self.addCleanup(redis.close)
        return redis

    def buckets(self, deny: bool = False, **options: Any) -> RedisBuckets:
        redis = self.redis(**options)
        local = None if deny else LocalBuckets(RATE, self.clock)
        return RedisBuckets(redis, "limit@test", RATE, local)

    def asked(self, buckets: RedisBuckets, source: str = "a") -> Deferred[float]:
        answer = buckets.take(source)
        assert isinstance(answer, Deferred), answer
        return answer


class DecisionTests(RedisTestCase):
    """Redis decides."""

    def test_one_script(self) -> None:
        """A decision is one command, with the bucket and what it is like; its answer is the time to wait."""
        buckets = self.buckets()
        answer = self.asked(buckets, "192.0.2.1")
        ((name, script, keys, key, *arguments),) = commands(self.server)
        self.assertEqual((name, keys, arguments), (b"EVALSHA", b"1", [b"0.010000000", b"0.020000000", b"0.005000000"]))
        self.assertRegex(script.decode(), "^[0-9a-f]{40}$")
        self.assertRegex(key.decode(), "^swarmgate:rate:[0-9a-f]{32}$")
        self.server.receive(b":24500\r\n")
        self.assertAlmostEqual(self.successResultOf(answer), 0.0045)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_sources_and_limits_have_their_own(self) -> None:
        """Each source of each limit has a key of its own, which does not tell what the source is."""
        first = self.buckets()
        second = RedisBuckets(first.redis, "other@test", RATE, None)
        keys = set()
        for buckets in (first, second):
            for source in ("secret", b"b", "\udcff", ""):
                buckets.take(source)
                ((_, _, _, key, *_),) = commands(self.server)
                self.assertNotIn(b"secret", key)
                keys.add(key)
        self.assertEqual(len(keys), 8)

    def test_many_at_a_time(self) -> None:
        """Decisions do not wait for each other."""
        buckets = self.buckets()
        answers = [self.asked(buckets, source) for source in "abc"]
        self.server.receive(b":20000\r\n:20100\r\n:202")
        self.assertEqual([round(self.successResultOf(answer), 6) for answer in answers[:2]], [0.0, 0.0001])
        self.assertNoResult(answers[2])
        self.server.receive(b"00\r\n")
        self.assertAlmostEqual(self.successResultOf(answers[2]), 0.0002)

    def test_script_not_known(self) -> None:
        """A Redis that was started anew is sent the script itself."""
        answer = self.asked(self.buckets())
        ((_, _, *asked),) = commands(self.server)
        self.server.receive(b"-NOSCRIPT No matching script. Please use EVAL.\r\n")
        ((name, script, *again),) = commands(self.server)
        self.assertEqual((name, again), (b"EVAL", asked))
        self.assertIn(b"redis.call('TIME')", script)
        self.server.receive(b":0\r\n")
        self.assertEqual((self.successResultOf(answer), self.said), (0.0, []))

    def test_connections(self) -> None:
        """Several connections take turns, and one that is lost is passed over."""
        buckets = self.buckets(connections=3)
        self.assertEqual(len(self.network.servers), 3)
        for _ in range(6):
            self.asked(buckets)
        self.assertEqual([len(commands(server)) for server in self.network.servers], [2, 2, 2])

    def test_user_and_database(self) -> None:
        """Nothing is asked before Redis has accepted the user and the database."""
        buckets = self.buckets(username="gate", password="geheim", db=3)
        self.assertEqual(commands(self.server), [[b"AUTH", b"gate", b"geheim"]])
        self.assertEqual(buckets.take("a"), 0.0)
        self.server.receive(b"+OK\r\n")
        self.assertEqual(commands(self.server), [[b"SELECT", b"3"]])
        self.assertFalse(buckets.redis.is_well)
        self.server.receive(b"+OK\r\n")
        self.assertTrue(buckets.redis.is_well)
        self.assertEqual(self.said, [])

    def test_password_is_not_told(self) -> None:
        """Neither the log nor a representation has the password."""
        buckets = self.buckets(username="gate", password="geheim")
        self.server.receive(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")
        self.server.settle()
        self.assertEqual(len(self.said), 1)
        self.assertIn("redis:6379 does not decide (Redis error: could not auth: WRONGPASS", self.said[0])
        self.assertIn("middleware limit@test", self.said[0])
        for text in (*self.said, repr(buckets), repr(buckets.redis.settings)):
            self.assertNotIn("geheim", text)


class TroubleTests(RedisTestCase):
    """Redis does not decide."""

    def late(self, buckets: RedisBuckets, times: int = 3) -> None:
        """So many decisions in a row are late."""
        for _ in range(times):
            answer = self.asked(buckets, "late")
            self.clock.advance(0.0099)
            self.assertNoResult(answer)
            self.clock.advance(0.0002)
            self.successResultOf(answer)

    def test_late(self) -> None:
        """A request waits 10 ms and no longer; then its own gate decides."""
        buckets = self.buckets()
        answer = self.asked(buckets)
        self.clock.advance(0.0099)
        self.assertNoResult(answer)
        self.clock.advance(0.0001)
        self.assertEqual(self.successResultOf(answer), 0.0)
        self.assertTrue(buckets.redis.is_well)
        # What comes later is nobody's answer, and the next one is its own.
        answer = self.asked(buckets)
        self.server.receive(b":24999\r\n:20007\r\n")
        self.assertAlmostEqual(self.successResultOf(answer), 7e-6)

    def test_copy(self) -> None:
        """Whoever decides without Redis knows what Redis has said last, so that nobody has a new bucket by that."""
        buckets = self.buckets()
        for answer, wait in ((b":10000\r\n", 0.0), (b":20000\r\n", 0.0), (b":-20001\r\n", 0.01)):
            asked = self.asked(buckets)
            self.server.receive(answer)
            self.assertAlmostEqual(self.successResultOf(asked), wait)
        self.server.reset()
        self.assertAlmostEqual(buckets.take("a"), 0.01)  # type: ignore[arg-type]
        self.assertEqual(buckets.take("b"), 0.0)
        self.clock.advance(0.02)
        self.assertEqual([buckets.take("a"), buckets.take("a")], [0.0, 0.0])
        self.assertAlmostEqual(buckets.take("a"), 0.01)  # type: ignore[arg-type]

    def test_refused_when_late(self) -> None:
        """Who has asked for it is refused when Redis does not decide."""
        buckets = self.buckets(deny=True)
        answer = self.asked(buckets)
        self.clock.advance(0.01)
        self.failureResultOf(answer, Unavailable)
        self.server.reset()
        self.assertRaises(Unavailable, buckets.take, "a")

    def test_not_each_request_waits(self) -> None:
        """After three in a row nobody waits any more, which is said once."""
        buckets = self.buckets()
        self.late(buckets, 3)
        commands(self.server)
        self.assertEqual([buckets.take("b"), buckets.take("b")], [0.0, 0.0])
        self.assertAlmostEqual(buckets.take("b"), 0.01)  # type: ignore[arg-type]
        self.assertEqual(commands(self.server), [])
        self.assertEqual(len(self.said), 1)
        self.assertIn("Redis at redis:6379 does not decide (no answer within 10 ms)", self.said[0])

    def test_now_and_then(self) -> None:
        """A single late answer among others changes nothing."""
        buckets = self.buckets()
        for _ in range(10):
            self.late(buckets, 2)
            answer = self.asked(buckets)
            self.server.receive(b":0\r\n" * 3)
            self.successResultOf(answer)
        self.assertTrue(buckets.redis.is_well)
        self.assertEqual((self.said, buckets.redis.decided, buckets.redis.late), ([], 10, 20))

    def test_recovery(self) -> None:
        """Once it has decided in time twice, which is tried twice a second, it is asked again; that is said, too."""
        buckets = self.buckets()
        self.late(buckets)
        commands(self.server)
        self.clock.advance(0.5)
        self.assertEqual(len(commands(self.server)), 1)
        self.server.receive(b":0\r\n" * 4)
        self.assertFalse(buckets.redis.is_well)
        self.clock.advance(0.5)
        self.server.receive(b":0\r\n")
        self.assertTrue(buckets.redis.is_well)
        self.assertEqual(self.said[1:], ["Redis at redis:6379 decides again for middleware limit@test"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        answer = self.asked(buckets)
        self.server.receive(b":20005\r\n")
        self.assertAlmostEqual(self.successResultOf(answer), 5e-6)

    def test_slow_stays_out(self) -> None:
        """A Redis that answers, but always too late, is not asked again."""
        buckets = self.buckets()
        self.late(buckets)
        self.server.receive(b":0\r\n" * 3)
        for _ in range(10):
            self.clock.advance(0.5)
            self.clock.advance(0.0101)
            self.clock.advance(0.01)
            self.server.receive(b":0\r\n")
            self.assertFalse(buckets.redis.is_well)
        self.assertEqual(len(self.said), 1)

    def test_frozen(self) -> None:
        """A Redis that says nothing is tried with one command at a time, and after 6 s on another connection."""
        buckets = self.buckets()
        self.late(buckets)
        commands(self.server)
        frozen = self.server
        for _ in range(13):
            self.clock.advance(0.5)
        self.assertEqual(len(commands(frozen)), 1)
        self.clock.advance(0.5)
        self.assertEqual(frozen.closed, "aborted")
        frozen.settle()
        self.clock.advance(0.5)
        self.assertEqual(len(self.network.servers), 2)
        for _ in range(3):
            self.clock.advance(0.5)
            self.server.receive(b":0\r\n" * len(commands(self.server)))
        self.assertTrue(buckets.redis.is_well)

    def test_connection_lost(self) -> None:
        """When the connection is lost, requests under way are decided at once, and it is made anew."""
        buckets = self.buckets()
        answer = self.asked(buckets)
        self.server.reset()
        self.assertEqual(self.successResultOf(answer), 0.0)
        self.assertIsInstance(buckets.take("a"), float)
        self.assertEqual(len(self.said), 1)
        self.network.accepts = False
        self.clock.advance(0.25)
        self.network.refuse()
        for pause in (0.5, 1, 2, 4, 5, 5):
            self.clock.advance(pause - 0.01)
            self.assertEqual(self.network.connecting, [], pause)
            self.clock.advance(0.01)
            self.network.refuse()
        self.network.accepts = True
        self.clock.advance(5)
        for _ in range(4):
            self.clock.advance(0.5)
            self.server.receive(b":0\r\n" * len(commands(self.server)))
        self.assertTrue(buckets.redis.is_well)
        self.assertEqual(len(self.said), 2)

    def test_never_there(self) -> None:
        """A gate starts without Redis, and says so."""
        self.network.accepts = False
        buckets = self.buckets()
        self.assertEqual(buckets.take("a"), 0.0)
        self.network.refuse(ConnectionRefusedError("refused"))
        self.assertEqual(len(self.said), 1)
        self.assertIn("(refused)", self.said[0])

    def test_accepts_and_says_nothing(self) -> None:
        """A Redis that takes connections and never answers the user is left after a while, and tried again."""
        buckets = self.buckets(password="geheim")
        self.clock.advance(11)
        self.assertEqual(self.server.closed, "aborted")
        self.server.settle()
        self.clock.advance(0.25)
        self.assertEqual(len(self.network.servers), 2)
        self.assertEqual((buckets.redis.is_well, len(self.said)), (False, 1))

    def test_error(self) -> None:
        """A Redis that refuses the script, as a copy that may only be read, decides nothing."""
        buckets = self.buckets()
        answer = self.asked(buckets)
        self.server.receive(b"-READONLY You can't write against a read only replica.\r\n")
        self.assertEqual(self.successResultOf(answer), 0.0)
        self.assertFalse(buckets.redis.is_well)
        self.assertIn("READONLY", self.said[0])
        for _ in range(5):
            self.clock.advance(0.5)
            self.server.receive(
                b"-READONLY You can't write against a read only replica.\r\n" * len(commands(self.server))
            )
        self.assertFalse(buckets.redis.is_well)
        self.assertEqual(len(self.said), 1)

    def test_own_fault(self) -> None:
        """If it is the gate itself that was held up, the answer that lies there already still counts."""
        buckets = self.buckets()
        answer = self.asked(buckets)
        self.clock.rightNow += 0.1
        self.clock.advance(0)
        self.assertNoResult(answer)
        self.server.receive(b":20008\r\n")
        self.assertAlmostEqual(self.successResultOf(answer), 8e-6)
        answer = self.asked(buckets)
        self.clock.rightNow += 0.1
        self.clock.advance(0)
        self.clock.advance(0.001)
        self.assertEqual(self.successResultOf(answer), 0.0)

    def test_closed(self) -> None:
        """A limit that is configured no more leaves neither connections nor timers."""
        buckets = self.buckets()
        self.asked(buckets)
        buckets.close()
        self.assertEqual(self.server.closed, "lost")
        self.server.settle()
        self.clock.advance(0.02)
        self.assertEqual((self.clock.getDelayedCalls(), len(self.network.servers), self.said), ([], 1, []))


class OptionTests(RedisTestCase):
    """``rateLimit.redis``."""

    def settings_of(self, **redis: Any) -> rate_limit.Settings:
        return structure(rate_limit.Settings, {"average": "100", "redis": redis}, "rateLimit")

    def limit(self, **redis: Any) -> Any:
        self.kept = Kept()
        return build(
            "ratelimit",
            self.settings_of(**redis),
            context_of(self.clock, self.kept, "limit@test", network=self.network),
        )

    def test_decides(self) -> None:
        """Requests pass, wait and are refused as Redis says."""
        limit = self.limit(endpoints="redis.example:6380")
        self.assertEqual(self.server.getPeer().host, "redis.example")
        clients = []
        for answer in (b":0\r\n", b":14000\r\n", b":-2500001\r\n"):
            exchange = exchange_of()
            clients.append(lead(exchange, limit))
            self.assertEqual(clients[-1].status, 0)
            self.server.receive(answer)
        self.assertEqual([client.status for client in clients], [200, 0, 429])
        self.assertEqual((clients[2].value(b"Retry-After"), clients[2].value(b"X-Retry-In")), (b"3", b"2.5s"))
        self.clock.advance(0.004)
        self.assertEqual(clients[1].status, 200)

    def test_client_leaves(self) -> None:
        """A client that leaves meanwhile is forgotten, and what Redis says for it is nobody else's."""
        limit = self.limit()
        origin, exchange = Origin(), exchange_of()
        lead(exchange, limit, origin=origin)
        exchange.client_gone()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        other = lead(exchange_of(), limit, origin=origin)
        self.server.receive(b":2500000\r\n:0\r\n")
        self.assertEqual((other.status, len(origin.reached), client_of(exchange).status), (200, 1, 0))

    def test_without_redis(self) -> None:
        """The gate's own buckets go on; with denyOnError, 503."""
        limit = self.limit()
        self.server.reset()
        self.assertEqual([lead(exchange_of(), limit).status for _ in range(2)], [200, 429])
        limit = self.limit(denyOnError="true")
        exchange = exchange_of()
        waiting = lead(exchange, limit)
        self.server.reset()
        client = lead(exchange_of(), limit)
        for one in (client, waiting):
            self.assertEqual((one.status, one.value(b"Retry-After")), (503, b"1"))

    def test_options(self) -> None:
        """Traefik's options are taken, with Traefik's defaults; secrets stay out of representations."""
        settings = self.settings_of(
            endpoints="r:1", username="u", password="geheim", db="2", poolSize="4", minIdleConns="1", maxActiveConns="3"
        )
        self.assertNotIn("geheim", repr(settings))
        redis = self.settings_of(db="0").redis
        assert redis is not None
        self.assertEqual(redis.endpoints, ("localhost:6379",))
        self.assertEqual((redis.read_timeout, redis.write_timeout, redis.dial_timeout), (3, 3, 5))
        self.limit(poolSize="4", minIdleConns="6", maxActiveConns="3")
        self.assertEqual(len(self.network.servers), 3)

    def test_timeout(self) -> None:
        """How long a request waits at most can be said."""
        limit = self.limit(decisionTimeout="50ms")
        client = lead(exchange_of(), limit)
        self.clock.advance(0.0499)
        self.assertEqual(client.status, 0)
        self.clock.advance(0.0001)
        self.assertEqual(client.status, 200)

    def test_mistakes(self) -> None:
        """What can't be is refused with what was expected, and without secrets."""
        for redis, expected in (
            ({"endpoints": "a:1,b:2"}, "cluster"),
            ({"decisionTimeout": "0s"}, "timeout of 0"),
            ({"db": "-1"}, "0"),
            ({"tls": {"cert": "x"}}, "go together"),
            ({"password": "geheim", "pasword": "geheim"}, "password"),
        ):
            with self.assertRaises(StructureError) as caught:
                self.settings_of(**redis)
            self.assertRegex(str(caught.exception), expected)
            self.assertNotIn("geheim", str(caught.exception))
        for redis, expected in (
            ({"endpoints": "redis"}, "'redis', expected a host and a port"),
            ({"endpoints": "redis:x"}, "expected a host and a port"),
            ({"tls": {"ca": "/nowhere/ca.pem"}}, "redis.tls.ca: No such file"),
            ({"tls": {"cert": "/nowhere/c", "key": "/nowhere/k"}}, "redis.tls.cert and key: No such file"),
            ({"tls": {"ca": "-----BEGIN CERTIFICATE-----\nx\n"}}, "redis.tls.ca: "),
        ):
            with self.assertRaises(ValueError) as wrong:
                self.limit(**redis)
            self.assertTrue(re.search(expected, str(wrong.exception)), wrong.exception)

    def test_files(self) -> None:
        """Files of certificates are read again when they have changed, and connections stay while they have not."""
        ca, options = self.mktemp(), self.settings_of
        tls = {"tls": {"ca": ca}}
        self.assertEqual(files_of("ratelimit", options(**tls)), (ca,))
        self.assertEqual(files_of("ratelimit", options(tls={"ca": authority("x").pem})), ())
        self.assertEqual(files_of("ratelimit", options(db="0")), ())
        kept = Kept()
        context = context_of(self.clock, kept, "limit@test", network=self.network)
        connected = []
        for root in (first := authority("a"), first, authority("b")):
            Path(ca).write_text(root.pem)
            build("ratelimit", options(**tls), context)
            connected.append(len(self.network.servers))
        self.assertEqual(connected, [1, 1, 2])

    def test_without_network(self) -> None:
        """Where nothing can be reached, as where a configuration is only looked at, buckets are those at hand."""
        limit = build("ratelimit", self.settings_of(db="0"), context_of(self.clock))
        self.assertEqual([lead(exchange_of(), limit).status for _ in range(2)], [200, 429])
