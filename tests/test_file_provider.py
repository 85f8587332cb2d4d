"""Files are in force within a second of being written, and a broken one costs only its own news."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.composition import Child, Failover, HighestRandomWeight, Mirror, Mirroring, Weighted
from swarmgate.dynamic.cookie import StickyCookie
from swarmgate.dynamic.file_format import decode_file
from swarmgate.dynamic.model import Balancing, Configuration, Middleware, Router, Server, Service
from swarmgate.providers.file import FileProvider
from swarmgate.structure import StatusRange, StructureError, option


@attrs.frozen
class Limit:
    """Settings of a middleware that tests need."""

    average: int = option(default=0, doc="Requests.")
    password: str = option(default="", doc="Not to be told.", secret=True)


KINDS: dict[str, type[Any]] = {"ratelimit": Limit}

GOOD = """\
http:
  routers:
    Web:
      rule: Host(`a.example`)
      entryPoints: [web, other]
      middlewares:
        - limit
        - auth@swarm
      service: shop
      priority: 7
  services:
    shop:
      loadBalancer:
        passHostHeader: false
        servers:
          - url: http://10.0.0.2:8080
          - {url: "http://Shop.example/", weight: 3}
  middlewares:
    limit:
      rateLimit:
        average: 5
"""

GOOD_TOML = """\
[http.routers.Web]
rule = "Host(`a.example`)"
entryPoints = ["web", "other"]
middlewares = ["limit", "auth@swarm"]
service = "shop"
priority = 7

[http.services.shop.loadBalancer]
passHostHeader = false
[[http.services.shop.loadBalancer.servers]]
url = "http://10.0.0.2:8080"
[[http.services.shop.loadBalancer.servers]]
url = "http://Shop.example/"
weight = 3

[http.middlewares.limit.rateLimit]
average = 5
"""


def routes(name: str, rule: str = "Path(`/`)") -> str:
    """A file with one router and its service."""
    return (
        f"http:\n  routers:\n    {name}:\n      rule: {rule}\n      service: {name}\n"
        f"  services:\n    {name}:\n      loadBalancer:\n        servers:\n          - url: http://10.0.0.2:80\n"
    )


class FormatTests(SynchronousTestCase):
    """What the text of a file means."""

    def test_yaml_and_toml(self) -> None:
        """Both languages say the same in Traefik's words."""
        for text, name, line in ((GOOD, "gate.yml", 4), (GOOD_TOML, "gate.toml", 1)):
            router = Router(
                "Web",
                rule="Host(`a.example`)",
                service="shop",
                entry_points=("web", "other"),
                middlewares=("limit", "auth@swarm"),
                priority=7,
                origin=f"file {name}, line {line}",
            )
            servers = (Server("http://10.0.0.2:8080"), Server("http://shop.example:80", 3))
            expected = Configuration(
                {"Web": router},
                {"shop": Service("shop", servers, Balancing(False))},
                {"limit": Middleware("limit", "ratelimit", Limit(average=5))},
            )
            self.assertEqual(decode_file(text, name, KINDS), expected)

    def test_nothing(self) -> None:
        """An empty file, or an empty section, is no fault."""
        for text in ("", "# nothing yet\n", "http:\n", "http:\n  routers:\n"):
            self.assertEqual(decode_file(text, "gate.yml", KINDS), Configuration())

    def test_services_made_of_others(self) -> None:
        """What services are made of is read as Traefik reads it, with Traefik's defaults."""
        text = """
        [http.services.canary.weighted]
        healthCheck = {}
        services = [{name = "shop@swarm", weight = 9}, {name = "next"}]
        [http.services.canary.weighted.sticky.cookie]
        name = "c"
        [http.services.near.highestRandomWeight]
        services = [{name = "a", weight = 2}]
        [http.services.standby.failover]
        service = "a"
        fallback = "b"
        [http.services.strict.failover]
        service = "a"
        fallback = "b"
        [http.services.strict.failover.errors]
        status = ["500-504", "429"]
        maxRequestBodyBytes = 1024
        [http.services.seen.mirroring]
        service = "a"
        mirrors = [{name = "b", percent = 10}, {name = "c"}]
        [http.services.blind.mirroring]
        service = "a"
        mirrorBody = false
        maxBodySize = 7
        """
        found = decode_file(text, "gate.toml", KINDS)
        self.assertEqual(found.problems, ())
        statuses = (StatusRange(500, 504), StatusRange(429, 429))
        expected = {
            "canary": Weighted((Child("shop@swarm", 9), Child("next")), StickyCookie("c")),
            "near": HighestRandomWeight((Child("a", 2),)),
            "standby": Failover("a", "b"),
            "strict": Failover("a", "b", statuses, 1024),
            "seen": Mirroring("a", (Mirror("b", 10), Mirror("c"))),
            "blind": Mirroring("a", (), False, 7),
        }
        self.assertEqual({name: one.composition for name, one in found.services.items()}, expected)

    def test_faults_have_line_and_key(self) -> None:
        """What is wrong is told with the line, the key, what was expected and the nearest right name."""
        cases = {
            "http:\n  routers:\n    a: {rul: x, service: s}\n": ("http.routers.a.rul", 3, "rule"),
            "http:\n  routers:\n    a:\n      rule: x\n": ("http.routers.a.service", 4, ""),
            "http:\n  routers:\n    a:\n      rule: x\n      service: s\n      priority: hi\n": (
                "http.routers.a.priority", 6, ""
            ),
            "http:\n  services:\n    a:\n      loadBalancer:\n        servers: [{url: 'ftp://x'}]\n": (
                "http.services.a.loadBalancer.servers[0].url", 5, ""
            ),
            "http:\n  services:\n    a:\n      weighted: {services: [{wieght: 2}]}\n": (
                "http.services.a.weighted.services[0].wieght", 4, "weight"
            ),
            "http:\n  services:\n    a:\n      failover: {service: x}\n": ("http.services.a.failover.fallback", 4, ""),
            "http:\n  services:\n    a:\n      mirroring: {service: x, mirrors: [{name: b, percent: 101}]}\n": (
                "http.services.a.mirroring.mirrors[0].percent", 4, ""
            ),
            "http:\n  services:\n    a:\n      weighted: {}\n      failover: {}\n": ("http.services.a", 4, ""),
            "http:\n  services:\n    a: {}\n": ("http.services.a", 3, ""),
            "http:\n  midlewares: {}\n": ("http.midlewares", 2, "middlewares"),
            "htp: {}\n": ("htp", 1, "http"),
            "http:\n  middlewares:\n    a:\n      ratelimt: {}\n": ("http.middlewares.a.ratelimt", 4, "rateLimit"),
            "http:\n  middlewares:\n    a:\n      rateLimit: {}\n      headers: {}\n": ("http.middlewares.a", 4, ""),
            "http: [\n": ("", 2, ""),
        }  # fmt: skip
        for text, (key, line, nearest) in cases.items():
            faults = self.assertRaises(StructureError, decode_file, text, "gate.yml", KINDS).faults
            found = [(fault.key, fault.origin, fault.nearest) for fault in faults]
            self.assertIn((key, f"file gate.yml, line {line}", nearest), found, text)

    def test_what_swarmgate_has_not_yet(self) -> None:
        """What only Traefik has is told and left out."""
        text = GOOD.replace("passHostHeader: false", "serversTransport: t\n        responseForwarding: {}")
        text = text.replace("      priority: 7\n", "      priority: 7\n      tls: {}\n")
        text += "    auth:\n      forwardAuth: {address: 'http://x'}\ntcp:\n  routers: {a: {rule: x}}\n"
        configuration = decode_file(text, "gate.yml", KINDS)
        self.assertEqual((set(configuration.routers), set(configuration.services)), ({"Web"}, {"shop"}))
        self.assertEqual(set(configuration.middlewares), {"limit"})
        keys = [(problem.subject, problem.key) for problem in configuration.problems]
        self.assertEqual(sorted(keys), [
            ("file gate.yml", "tcp"),
            ("middleware auth@file", "http.middlewares.auth.forwardAuth"),
            ("service shop@file", "http.services.shop.loadBalancer.responseForwarding"),
        ])  # fmt: skip

    def test_secrets_are_not_repeated(self) -> None:
        """A message about a secret doesn't give it away."""
        text = "http:\n  middlewares:\n    a:\n      rateLimit: {password: [geheim], passwort: geheim}\n"
        error = self.assertRaises(StructureError, decode_file, text, "gate.yml", KINDS)
        self.assertEqual(len(error.faults), 2)
        self.assertNotIn("geheim", str(error))

    @settings(max_examples=100, deadline=None)
    @given(st.text(alphabet="http:routes-{}[]\n \"'`&*a.", max_size=60), st.sampled_from(["x.yml", "x.toml"]))
    def test_any_text(self, text: str, name: str) -> None:
        """Whatever is in a file, it is understood or refused with a reason."""
        try:
            decode_file(text, name, KINDS)
        except StructureError as error:
            self.assertTrue(error.faults)


@attrs.frozen
class Options:
    """What the provider is told."""

    filename: str = ""
    directory: str = ""
    watch: bool = True


class WatchingTests(SynchronousTestCase):
    """What the provider publishes, and when."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.clock = Clock()
        self.published: list[Configuration] = []
        self.time = 1_000_000_000

    def provider(self, options: Options, **more: Any) -> FileProvider:
        def publish(name: str, configuration: Configuration) -> None:
            self.assertEqual(name, "file")
            self.published.append(configuration)

        provider = FileProvider(self.clock, options, KINDS, publish, **more)
        provider.startService()
        self.addCleanup(provider.stopService)
        return provider

    def write(self, name: str, text: str | bytes) -> str:
        """Write a file that is newer than all before."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        self.time += 1
        os.utime(path, (self.time, self.time))
        return str(path)

    def rules(self) -> Mapping[str, str]:
        return {name: router.rule for name, router in self.published[-1].routers.items()}

    def problems(self) -> list[str]:
        return [str(problem) for problem in self.published[-1].problems]

    def wait(self, seconds: float = 1.0) -> None:
        """Let time pass as it does, and not in one leap."""
        self.clock.pump([0.05] * round(seconds / 0.05))

    def test_a_file_is_in_force_at_once(self) -> None:
        """At its start the provider publishes what the file says."""
        provider = self.provider(Options(filename=self.write("a.yml", routes("one"))))
        self.assertEqual(self.rules(), {"one": "Path(`/`)"})
        self.assertTrue(provider.is_ready)

    def test_a_change_is_live_within_a_second(self) -> None:
        """What was changed is in force before a second is over; what was not, is not published again."""
        name = self.write("a.yml", routes("one"))
        self.provider(Options(filename=name))
        self.wait(5)
        self.assertEqual(len(self.published), 1)
        self.write("a.yml", routes("two"))
        self.wait(0.9)
        self.assertEqual((len(self.published), set(self.rules())), (2, {"two"}))

    def test_a_file_that_is_being_written(self) -> None:
        """A file that is emptied and then written doesn't empty the table for a moment."""
        name = self.write("a.yml", routes("one"))
        self.provider(Options(filename=name))
        self.write("a.yml", "")
        self.wait(0.3)
        self.write("a.yml", routes("two"))
        self.wait(0.9)
        self.assertEqual([set(one.routers) for one in self.published], [{"one"}, {"two"}])

    def test_a_file_that_never_rests(self) -> None:
        """A file that is written all the time is still followed within a second."""
        name = self.write("a.yml", routes("r0"))
        self.provider(Options(filename=name))
        for number in range(1, 20):
            self.write("a.yml", routes(f"r{number}"))
            self.wait(0.2)
        self.assertGreater(len(self.published), 3)

    def test_a_broken_file_leaves_the_last_good_one_in_force(self) -> None:
        """A fault is told once with line and key, and changes nothing else; mending it works."""
        name = self.write("a.yml", routes("one"))
        provider = self.provider(Options(filename=name))
        self.write("a.yml", routes("two").replace("rule:", "rul:"))
        self.wait(5)
        self.assertEqual((len(self.published), set(self.rules())), (2, {"one"}))
        (problem, *_) = self.problems()
        for part in (f"{name}, line 4", "http.routers.two.rul", "did you mean rule?", "stays in force"):
            self.assertIn(part, problem)
        self.assertTrue(provider.is_ready)
        self.write("a.yml", routes("three"))
        self.wait()
        self.assertEqual((set(self.rules()), self.problems()), ({"three"}, []))

    def test_a_file_that_is_broken_from_the_start(self) -> None:
        """A gate whose only file is broken says so, and is not ready before it is mended."""
        provider = self.provider(Options(filename=self.write("a.yml", "http: [")))
        self.assertEqual((self.rules(), len(self.problems()), provider.is_ready), ({}, 1, False))
        self.assertNotIn("stays in force", self.problems()[0])
        self.write("a.yml", routes("one"))
        self.wait()
        self.assertEqual((set(self.rules()), provider.is_ready), ({"one"}, True))

    def test_a_file_that_is_not_there(self) -> None:
        """A missing file is a problem, and in force as soon as it is there; if it goes, it stays in force."""
        provider = self.provider(Options(filename=str(self.folder / "a.yml")))
        self.assertIn("No such file", self.problems()[0])
        self.assertFalse(provider.is_ready)
        name = self.write("a.yml", routes("one"))
        self.wait()
        self.assertEqual((set(self.rules()), self.problems()), ({"one"}, []))
        before = len(self.published)
        os.unlink(name)
        self.wait(3)
        self.assertEqual((set(self.rules()), len(self.problems()), len(self.published)), ({"one"}, 1, before + 1))
        self.assertIn("stays in force", self.problems()[0])

    def test_what_is_no_text(self) -> None:
        """Octets that are no UTF-8 are told by their place, an unknown format by what would do."""
        self.provider(Options(filename=self.write("a.yml", b"http: {}\n\xff")))
        self.assertIn("no UTF-8, at octet 10", self.problems()[0])
        self.provider(Options(filename=self.write("a.json", "{}")))
        self.assertIn(".yml", self.problems()[0])

    def test_a_folder(self) -> None:
        """All files of a folder and of those in it count, but hidden ones and those of other formats."""
        self.write("a.yml", routes("one"))
        self.write("b.toml", GOOD_TOML)
        self.write("deeper/c.yaml", routes("two"))
        self.write(".hidden.yml", routes("three"))
        self.write("notes.txt", "http: [")
        provider = self.provider(Options(directory=str(self.folder)))
        self.assertEqual((set(self.rules()), self.problems()), ({"one", "Web", "two"}, []))
        self.assertTrue(provider.is_ready)

    def test_changes_in_a_folder(self) -> None:
        """Files that come, change and go in a folder do so in the table."""
        self.provider(Options(directory=str(self.folder)))
        self.assertEqual(self.published, [Configuration()])
        name = self.write("a.yml", routes("one"))
        self.write("b.yml", routes("two"))
        self.wait(0.9)
        self.assertEqual(set(self.rules()), {"one", "two"})
        os.unlink(name)
        self.write("b.yml", routes("two", "Path(`/x`)"))
        self.wait(0.9)
        self.assertEqual(self.rules(), {"two": "Path(`/x`)"})

    def test_a_broken_file_in_a_folder_costs_only_itself(self) -> None:
        """Beside a broken file the others go on changing; what it said before stays."""
        self.write("a.yml", routes("one"))
        self.write("b.yml", routes("two"))
        self.provider(Options(directory=str(self.folder)))
        self.write("a.yml", "http: [")
        self.write("b.yml", routes("three"))
        self.wait()
        self.assertEqual(set(self.rules()), {"one", "three"})
        self.assertIn("file a.yml, line 2", self.problems()[0])

    def test_one_name_in_two_files(self) -> None:
        """The first file by name has it, and the other one's author is told."""
        self.write("b.yml", routes("one", "Path(`/b`)"))
        self.write("a.yml", routes("one", "Path(`/a`)"))
        self.provider(Options(directory=str(self.folder)))
        self.assertEqual(self.rules(), {"one": "Path(`/a`)"})
        self.assertEqual([line.partition(":")[0] for line in self.problems()], ["router one@file", "service one@file"])
        self.assertIn("file b.yml, line 4", self.problems()[0])
        self.assertIn("file a.yml has a router of that name", self.problems()[0])

    def test_not_watched(self) -> None:
        """Without watch the files are read once."""
        self.provider(Options(filename=self.write("a.yml", routes("one")), watch=False))
        self.write("a.yml", routes("two"))
        self.wait(5)
        self.assertEqual((set(self.rules()), self.clock.getDelayedCalls()), ({"one"}, []))

    def test_stopping(self) -> None:
        """A stopped provider leaves nothing behind, and waits for a look that is under way."""
        looks: list[Deferred[Any]] = []

        def apart(*call: Any) -> Deferred[Any]:
            looks.append(Deferred())
            return looks[-1]

        provider = self.provider(Options(filename=self.write("a.yml", routes("one"))), apart=apart)
        stopping = provider.stopService()
        assert stopping is not None
        self.assertNoResult(stopping)
        looks[0].errback(OSError("too late"))
        self.successResultOf(stopping)
        self.assertEqual((self.published, self.clock.getDelayedCalls()), ([], []))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_a_look_that_fails_is_not_the_last(self) -> None:
        """If looking itself breaks, the provider goes on looking."""
        failures = [RuntimeError("broken")]
        name = self.write("a.yml", routes("one"))

        def apart(call: Any, *given: Any) -> Deferred[Any]:
            done: Deferred[Any] = Deferred()
            if failures:
                done.errback(failures.pop())
            else:
                done.callback(call(*given))
            return done

        self.provider(Options(filename=name), apart=apart)
        self.assertEqual(self.published, [])
        self.wait()
        self.assertEqual(set(self.rules()), {"one"})
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
