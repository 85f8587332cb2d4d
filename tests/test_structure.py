"""From trees of options to values, and what people are told when that fails."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Mapping
from typing import Any, Literal

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.structure import (
    Address,
    Described,
    Duration,
    Fault,
    Given,
    IPNetwork,
    Repeated,
    SignedDuration,
    StructureError,
    at_least,
    bare,
    between,
    describe,
    expected_of,
    insert,
    merge,
    nearest_of,
    not_yet,
    option,
    origin_of,
    refused,
    structure,
    structure_as,
)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Cookie:
    name: str = option(default="sid", doc="Its name.")
    secure: bool = option(default=False, doc="Over TLS only.")


@attrs.frozen
class Range:
    first: int = option(default=0, doc="The first.", validator=at_least(0))
    last: int = option(default=9, doc="The last.")

    def __attrs_post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError("last is before first")


@refused({"secret": "not for configuration"})
@not_yet("http2", "http3")
@attrs.frozen
class Door:
    address: Address = option(doc="Where it is.")
    wait_time: Duration = option(default=Duration(90), doc="How long it waits.")
    flush: SignedDuration = option(default=SignedDuration(0.1), doc="How often it flushes.")
    mode: Literal["keep", "drop"] = option(default="keep", doc="What it does.")
    colour: Colour = option(default=Colour.RED, doc="How it looks.")
    share: float = option(default=0.5, doc="How much.")
    count: int = option(default=1, doc="How many.", validator=between(1, 10))
    trusted_ips: tuple[IPNetwork, ...] = option(default=(), doc="Whom it trusts.", key="trustedIPs")
    words: tuple[str, ...] = option(default=(), doc="Words.")
    ranges: tuple[Range, ...] = option(default=(), doc="Ranges.")
    cookie: Cookie | None = option(default=None, doc="Its cookie.")
    range: Range = option(factory=Range, doc="Its range.")
    headers: Mapping[str, str] = option(factory=dict, doc="A header.")
    password: str = option(default="", doc="A password.", secret=True, validator=None, parse=lambda text: _long(text))
    anything: Any = option(default=None, doc="Whatever.")
    limit: int | None = option(default=None, doc="Perhaps a limit.")


@attrs.frozen
class House:
    doors: Mapping[str, Door] = option(factory=dict, doc="Its doors.")


def _long(text: str) -> str:
    if len(text) < 8:
        raise ValueError("at least 8 characters")
    return text


def door(**tree: Any) -> Door:
    """The door that a tree with an address describes."""
    return structure(Door, {"address": ":80", **tree})


def faults(tree: Any, cls: type[Any] = Door, path: str = "doors.web") -> list[str]:
    """What people are told of a tree that is wrong."""
    try:
        structure(cls, tree, path)
    except StructureError as error:
        return [str(fault) for fault in error.faults]
    raise AssertionError(f"{tree} was taken")


class ValueTests(SynchronousTestCase):
    """Right values of each type."""

    def test_scalars(self) -> None:
        """Text, as labels and options have it, and values as TOML has them, give the same."""
        table: list[tuple[str, Any, Any]] = [
            ("waitTime", "1m30s", Duration(90)),
            ("waitTime", 5, Duration(5)),
            ("flush", "-1ms", SignedDuration(-0.001)),
            ("mode", "DROP", "drop"),
            ("colour", "Blue", Colour.BLUE),
            ("share", "0.25", 0.25),
            ("share", 1, 1.0),
            ("count", "+7", 7),
            ("count", 7, 7),
            ("limit", "3", 3),
            ("password", "long enough", "long enough"),
        ]
        for key, given_value, expected in table:
            value = door(**{key: given_value})
            name = {"waitTime": "wait_time"}.get(key, key)
            self.assertEqual(getattr(value, name), expected, (key, given_value))
            self.assertIs(type(getattr(value, name)), type(expected), (key, given_value))

    def test_bool_as_go_reads_it(self) -> None:
        """What Go's ParseBool takes is taken."""
        for text, expected in [("true", True), ("1", True), ("T", True), ("False", False), ("0", False), ("f", False)]:
            self.assertEqual(structure(Cookie, {"secure": text}).secure, expected, text)
        self.assertTrue(structure(Cookie, {"secure": True}).secure)

    def test_names_without_regard_to_case(self) -> None:
        """Options are found however their names are written."""
        self.assertEqual(door(WAITtime="5s").wait_time, 5)
        self.assertEqual(door(trustedips="10.0.0.0/8").trusted_ips, (ipaddress.ip_network("10.0.0.0/8"),))

    def test_lists(self) -> None:
        """A list is a list, text with commas, numbered names, or several options."""
        for words in (
            ["a", "b"],
            "a, b",
            {"1": "b", "0": "a"},
            Repeated((Given("a"), Given("b"))),
            Repeated((Given("a,b"),)),
        ):
            self.assertEqual(door(words=words).words, ("a", "b"), words)
        for nothing in ("", None, [], {}):
            self.assertEqual(door(words=nothing).words, (), nothing)

    def test_lists_of_groups(self) -> None:
        """Each item of a list can have options of its own."""
        tree = {"0": {"first": "1"}, "10": {"first": "3"}, "2": {"first": "2"}}
        self.assertEqual([one.first for one in door(ranges=tree).ranges], [1, 2, 3])
        self.assertEqual(door(ranges=[{"last": 5}]).ranges, (Range(last=5),))

    def test_networks(self) -> None:
        """An address is the network of itself, and host bits don't matter."""
        networks = door(trustedIPs="10.0.0.1, 10.1.2.3/8, 2001:db8::1").trusted_ips
        self.assertEqual([str(one) for one in networks], ["10.0.0.1/32", "10.0.0.0/8", "2001:db8::1/128"])

    def test_group_switched_on(self) -> None:
        """An optional group's name alone is enough to have it, and false is none."""
        for on in ("true", "", "{}", {}, None, True, Given({}, "x")):
            self.assertEqual(door(cookie=on).cookie, Cookie(), on)
        for off in ("false", False):
            self.assertIsNone(door(cookie=off).cookie)
        self.assertEqual(door(cookie={"name": "x"}).cookie, Cookie(name="x"))

    def test_mapping_keeps_names(self) -> None:
        """Names that users choose keep their case."""
        self.assertEqual(door(headers={"X-Frame": "deny"}).headers, {"X-Frame": "deny"})

    def test_repeated_scalar(self) -> None:
        """Of an option that takes one value and is given twice, the last counts."""
        self.assertEqual(door(count=Repeated((Given("1"), Given("2")))).count, 2)

    def test_any(self) -> None:
        """A field of any type gets its part of the tree untouched."""
        tree = {"a": Given("1", "x")}
        self.assertIs(door(anything=tree).anything, tree)

    def test_other_types(self) -> None:
        """A tree can describe a list or mapping too."""
        self.assertEqual(structure_as(tuple[int, ...], "1,2"), (1, 2))
        self.assertEqual(structure_as(Mapping[str, Range], {"a": {"first": 2}}), {"a": Range(first=2)})
        self.assertRaises(StructureError, structure_as, tuple[int, ...], "1,x")


class FaultTests(SynchronousTestCase):
    """Each family of errors, as people read it."""

    def test_unknown(self) -> None:
        """A misspelt option is named with where it is, and the one that was meant."""
        self.assertEqual(
            faults({"adress": Given(":80", "file gate.yml, line 3")}),
            ["doors.web.adress: unknown option, from file gate.yml, line 3; did you mean address?"],
        )
        (told,) = faults({"address": ":1", "zzz": 1})
        self.assertTrue(told.startswith("doors.web.zzz: unknown option: expected address, anything, colour, "), told)

    def test_value(self) -> None:
        """A wrong value is repeated, with what would do."""
        table: list[tuple[str, Any, str]] = [
            ("waitTime", "tomorow", "a duration such as 10s, 1m30s or 500ms"),
            ("waitTime", "-1s", "a duration such as 10s, 1m30s or 500ms, not a negative one"),
            ("mode", "burn", "keep or drop"),
            ("colour", "green", "red or blue"),
            ("share", "half", "a number"),
            ("share", "nan", "a number"),
            ("count", "1.5", "a whole number"),
            ("count", "11", "a number from 1 to 10"),
            ("count", "", "a whole number"),
            ("trustedIPs", "300.1.1.1", "an IP address or network such as 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32"),
            ("address", "80", "an address such as :80, 127.0.0.1:80 or [::1]:80, with a port from 0 to 65535"),
            ("cookie", "maybe", "true, false or options below it"),
            ("range", "maybe", "options below it: first or last"),
            ("ranges", "maybe", "a list, each item with options of its own"),
            ("headers", "maybe", "names below it, each with its own value"),
        ]
        for key, value, expected in table:
            told = faults({"address": ":80", key: Given(value, "option --x")})
            self.assertEqual(told, [f'doors.web.{key}: "{value}" from option --x: expected {expected}'], key)

    def test_bool(self) -> None:
        """yes is no bool, as in Go."""
        self.assertEqual(faults({"secure": "yes"}, Cookie, "cookie"), ['cookie.secure: "yes": expected true or false'])

    def test_nearest_choice(self) -> None:
        """A misspelt choice gets the one that was meant."""
        told = faults({"address": ":80", "mode": "kepp"})
        self.assertEqual(told, ['doors.web.mode: "kepp": expected keep or drop; did you mean keep?'])

    def test_missing(self) -> None:
        """What has to be given and isn't is named, with an example."""
        self.assertEqual(
            faults({"mode": Given("keep", "option --doors.web.mode")}),
            [
                "doors.web.address: missing, from option --doors.web.mode: "
                "expected an address such as :80, 127.0.0.1:80 or [::1]:80"
            ],
        )
        self.assertEqual(expected_of(Cookie), "options below it: name or secure")

    def test_not_yet(self) -> None:
        """Traefik's options that aren't there are refused by name, in whatever case."""
        self.assertEqual(
            faults({"address": ":80", "HTTP2": {"x": Given(1, "option --y")}}),
            ["doors.web.http2: an option of Traefik's that swarmgate does not have yet, from option --y"],
        )
        self.assertEqual(faults({"address": ":80", "secret": 1}), ["doors.web.secret: not for configuration"])

    def test_shape(self) -> None:
        """A list or a group where one value belongs is told so."""
        self.assertEqual(
            faults({"address": ":80", "count": [Given("1", "o")]}),
            ["doors.web.count: has a list, from o: expected a number"],
        )
        self.assertEqual(
            faults({"address": ":80", "mode": {"x": "y"}}),
            ["doors.web.mode: has options below it: expected keep or drop"],
        )
        self.assertEqual(
            faults({"address": ":80", "words": {"x": "y"}}), ["doors.web.words: not a list: expected a list of text"]
        )

    def test_given_twice(self) -> None:
        """One option in two spellings is no guess."""
        self.assertEqual(faults({"address": ":80", "ADDRESS": ":81"}), ["doors.web.address: given twice"])

    def test_contradiction(self) -> None:
        """Options that contradict each other are told for their group, only once each is right alone."""
        self.assertEqual(
            faults({"address": ":80", "range": {"first": Given("10", "o")}}),
            ["doors.web.range: last is before first, from o"],
        )
        self.assertEqual(
            faults({"address": ":80", "range": {"first": "-1"}}), ['doors.web.range.first: "-1": expected at least 0']
        )

    def test_all_at_once(self) -> None:
        """Everything that is wrong is told at once, with the place in lists."""
        tree = {"doors": {"web": {"count": "0", "share": "x", "ranges": [{}, {"first": "a"}]}}}
        self.assertEqual(
            faults(tree, House, ""),
            [
                'doors.web.count: "0": expected a number from 1 to 10',
                'doors.web.share: "x": expected a number',
                'doors.web.ranges[1].first: "a": expected a whole number',
                "doors.web.address: missing: expected an address such as :80, 127.0.0.1:80 or [::1]:80",
            ],
        )

    def test_password_of_a_url(self) -> None:
        """The user and the password of a URL are not repeated where it is refused."""
        fault = str(Fault("servers[0].url", "http://me:pa/ss@10.0.0.2:80/x", "a.yml", "a URL"))
        self.assertIn("http://***@10.0.0.2:80/x", fault)
        self.assertNotIn("pa/ss", fault)
        self.assertIn("a@b", str(Fault("x", "a@b", "", "a URL")))

    def test_secret(self) -> None:
        """What is secret isn't repeated."""
        self.assertEqual(
            faults({"address": ":80", "password": "short"}),
            ['doors.web.password: "***": expected at least 8 characters'],
        )

    def test_hostile_values(self) -> None:
        """A line stays one short line whatever is given."""
        (told,) = faults({"address": ":80", "count": "1\n\x1b[31m" + "9" * 1000})
        self.assertTrue(told.isprintable())
        self.assertIn("1\\n\\x1b[31m999", told)
        self.assertLess(len(told), 250)

    def test_whole_file(self) -> None:
        """What is wrong with a whole file begins with the file."""
        self.assertEqual(str(Fault("", None, "file a.yml", problem="not YAML")), "file a.yml: not YAML")

    def test_error_is_all_lines(self) -> None:
        """The exception's text is all its faults."""
        error = StructureError((Fault("a", problem="x"), Fault("b", problem="y")))
        self.assertEqual(str(error), "a: x\nb: y")
        self.assertEqual(error.faults[0].reason, "x")


class DurationTests(SynchronousTestCase):
    """Go's durations."""

    def test_table(self) -> None:
        """Each unit, several of them, fractions, and a bare number of seconds."""
        table = {
            "0": 0.0,
            "15": 15.0,
            "1h2m3s": 3723.0,
            "1.5s": 1.5,
            ".5s": 0.5,
            "1.s": 1.0,
            "300ms": 0.3,
            "5us": 5e-6,
            "5µs": 5e-6,
            "7ns": 7e-9,
            "+2m": 120.0,
        }
        for text, seconds in table.items():
            self.assertAlmostEqual(float(Duration.from_text(text)), seconds, 12, text)

    def test_refused(self) -> None:
        """What Go refuses is refused, and so is a time before now."""
        for text in ("", " ", "1.5", "s", "1 s", "1d", "1sm", "-5s", "--1s", "1e3s", "nan", "inf", "9" * 18 + "h"):
            self.assertRaises(ValueError, Duration.from_text, text)

    @given(st.integers(0, 2**53))
    def test_text_and_back(self, nanoseconds: int) -> None:
        """A duration's text means the same duration, to the nanosecond."""
        duration = Duration(nanoseconds / 1e9)
        again = Duration.from_text(str(duration))
        self.assertLessEqual(abs(again - duration), max(1e-9, duration * 1e-15), str(duration))

    @given(st.text(max_size=20))
    def test_any_text(self, text: str) -> None:
        """Any text is a duration or is refused with a reason, and nothing else happens."""
        try:
            self.assertGreaterEqual(Duration.from_text(text), 0)
        except ValueError as error:
            self.assertIn("a duration such as", str(error))


class AddressTests(SynchronousTestCase):
    """Where entry points listen."""

    def test_table(self) -> None:
        """Hosts, brackets, ports and protocols."""
        table = {
            ":80": Address("", 80),
            "127.0.0.1:8080": Address("127.0.0.1", 8080),
            "[::1]:443": Address("::1", 443),
            "gate.example:0": Address("gate.example", 0),
            ":53/udp": Address("", 53, "udp"),
            ":53/TCP": Address("", 53, "tcp"),
        }
        for text, address in table.items():
            self.assertEqual(Address.from_text(text), address, text)
            self.assertEqual(Address.from_text(str(address)), address)

    def test_refused(self) -> None:
        """What can't be listened on is refused."""
        for text in ("", "80", ":", ":65536", ":-1", ":http", "::1:80", "[x]:80", "[::1]", ":80/sctp", "a b:80", ":٨٠"):
            self.assertRaises(ValueError, Address.from_text, text)


class TreeTests(SynchronousTestCase):
    """Building trees from dotted names."""

    def test_insert(self) -> None:
        """Names find each other without regard to case, indices become names."""
        tree: dict[str, Any] = {}
        insert(tree, "http.Routers.Web.rule", "a", "x")
        insert(tree, "HTTP.routers.web.domains[0].main", "b", "y")
        self.assertEqual(
            tree,
            {"http": {"Routers": {"Web": {"rule": Given("a", "x"), "domains": {"0": {"main": Given("b", "y")}}}}}},
        )

    def test_replaced_or_kept(self) -> None:
        """A second value replaces the first, or joins it where several may be given."""
        tree: dict[str, Any] = {}
        insert(tree, "a", "1", "x")
        insert(tree, "A", "2", "y")
        self.assertEqual(tree, {"a": Given("2", "y")})
        insert(tree, "a", "3", "z", append=True)
        self.assertEqual(tree, {"a": Repeated((Given("2", "y"), Given("3", "z")))})
        insert(tree, "a", "4", "z", append=True)
        self.assertEqual(len(tree["a"].values), 3)

    def test_switched_on_and_more(self) -> None:
        """A group may be switched on and also have options, in either order."""
        for keys in (("ping", "ping.x"), ("ping.x", "ping")):
            tree: dict[str, Any] = {}
            for key in keys:
                insert(tree, key, "true", "o")
            self.assertEqual(tree, {"ping": {"x": Given("true", "o")}})

    def test_value_and_group(self) -> None:
        """A name can't have a value and options."""
        for pairs in ((("a.b", "1"), ("a.b.c", "2")), (("a.b.c", "2"), ("a.b", "1"))):
            tree: dict[str, Any] = {}
            insert(tree, *pairs[0], "x")
            error = self.assertRaises(StructureError, insert, tree, *pairs[1], "y")
            self.assertIn("a.b: has a value and also options below it, from ", str(error))

    def test_malformed_names(self) -> None:
        """Names that can't be are told, not dropped."""
        table = {
            "a..b": "a..b: an empty name, from o: expected names with dots between them",
            "": ": an empty name",
            "a[x].b": 'a[x].b: not a name: "a[x]", from o: expected names with dots between them',
            ".".join("a" * 40): "too many dots, from o: expected at most 32 names",
        }
        for key, told in table.items():
            error = self.assertRaises(StructureError, insert, {}, key, "1", "o")
            self.assertIn(told if key else "an empty name", str(error))

    def test_merge(self) -> None:
        """What is over wins, name by name; a bare switch takes nothing away."""
        base = {"Ping": {"a": 1, "b": 2}, "log": "x", "on": {"y": 1}, "off": {"z": 1}}
        over = {"ping": {"B": 3}, "log": {"level": 1}, "on": Given("true"), "off": "false", "new": 1}
        self.assertEqual(
            merge(base, over),
            {"Ping": {"a": 1, "b": 3}, "log": {"level": 1}, "on": {"y": 1}, "off": "false", "new": 1},
        )
        self.assertEqual(base["Ping"], {"a": 1, "b": 2})

    def test_origin(self) -> None:
        """A group is where its first value is."""
        self.assertEqual(origin_of({"a": [1, {"b": Given(2, "here")}], "c": Given(1, "there")}), "here")
        self.assertEqual(origin_of({"a": Repeated((Given(1, "here"),))}), "here")
        self.assertEqual(origin_of({}), "")
        self.assertEqual(bare(Given(Given(1))), 1)

    @settings(max_examples=200)
    @given(
        st.dictionaries(st.lists(st.sampled_from("aAbBcd"), min_size=1, max_size=4).map(tuple), st.text(), max_size=8)
    )
    def test_insertion(self, values: dict[tuple[str, ...], str]) -> None:
        """Whatever is put in is found again under its name, or refused; no value is lost in silence."""
        tree: dict[str, Any] = {}
        last: dict[str, str] = {}
        for names, value in values.items():
            try:
                insert(tree, ".".join(names), f"v{value}")
            except StructureError:
                continue
            last[".".join(names).lower()] = f"v{value}"
        for key, value in last.items():
            node: Any = tree
            for name in key.split("."):
                (node,) = (child for one, child in node.items() if one.lower() == name)
            self.assertEqual(bare(node), value)

    @given(st.recursive(st.text(max_size=5), lambda inner: st.dictionaries(st.text(max_size=8), inner, max_size=3)))
    def test_any_tree(self, tree: Any) -> None:
        """Any tree is a value or a list of faults, each one line."""
        try:
            structure(House, {"doors": tree})
        except StructureError as error:
            for fault in error.faults:
                self.assertNotIn("\n", str(fault))


class TellingTests(SynchronousTestCase):
    """What help and reference pages are made from."""

    def test_describe(self) -> None:
        """Each option has its name, type, default and documentation."""
        described = {one.key: one for one in describe(House)}
        self.assertEqual(
            described["doors.<name>.waitTime"],
            Described("doors.<name>.waitTime", "duration", "1m30s", "How long it waits."),
        )
        table = {
            "address": ("address", "required"),
            "mode": ("keep | drop", "keep"),
            "colour": ("red | blue", "red"),
            "share": ("decimal number", "0.5"),
            "trustedIPs": ("list of IP network", ""),
            "ranges[n].first": ("number", "0"),
            "cookie": ("on or off", "off"),
            "cookie.secure": ("true | false", "false"),
            "range.last": ("number", "9"),
            "headers.<name>": ("text", ""),
            "limit": ("number", ""),
        }
        for key, (type_, default) in table.items():
            one = described[f"doors.<name>.{key}"]
            self.assertEqual((one.type, one.default), (type_, default), key)

    def test_nearest(self) -> None:
        """The nearest name is found without regard to case, and a far one isn't offered."""
        self.assertEqual(nearest_of("ENTRYPOINT", ["entryPoints", "ping"]), "entryPoints")
        self.assertEqual(nearest_of("metrics", ["entryPoints", "ping"]), "")
