"""Rules are read as Traefik reads them, and what is wrong with one is told to its author."""

from __future__ import annotations

import string

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.rules import And, Matcher, Not, Or, Rule, RuleError, parse_rule

HOST_A = Matcher("Host", ("a.example",))
HOST_B = Matcher("Host", ("b.example",))
PATH_X = Matcher("PathPrefix", ("/x",))


class ReadingTests(SynchronousTestCase):
    """What good rules mean."""

    def check(self, cases: dict[str, Rule], syntax: str = "v3") -> None:
        for text, rule in cases.items():
            self.assertEqual(parse_rule(text, syntax), rule, text)

    def test_matchers(self) -> None:
        """Each of Traefik's matchers is known, in each spelling that Traefik takes."""
        self.check(
            {
                "Host(`a.example`)": HOST_A,
                'host("a.example")': HOST_A,
                "HOST ( `A.Example.` )": HOST_A,
                "Host(`*.a.example`)": Matcher("Host", ("*.a.example",)),
                "Host(`*`)": Matcher("Host", ("*",)),
                "Host(`[::1]`)": Matcher("Host", ("[::1]",)),
                "HostRegexp(`^a+$`)": Matcher("HostRegexp", ("^a+$",)),
                "Hostregexp(`^[a-z]{1,3}$`)": Matcher("HostRegexp", ("^[a-z]{1,3}$",)),
                "Path(`/x`)": Matcher("Path", ("/x",)),
                "PATHPREFIX(`/x`)": PATH_X,
                "PathRegexp(`\\.php$`)": Matcher("PathRegexp", (r"\.php$",)),
                "Method(`get`)": Matcher("Method", ("GET",)),
                "Header(`X-A`, `b c`)": Matcher("Header", ("X-A", "b c")),
                "HeaderRegexp(`X-A`, `b|c`)": Matcher("HeaderRegexp", ("X-A", "b|c")),
                "Query(`k`)": Matcher("Query", ("k",)),
                "Query(`k`,`v`)": Matcher("Query", ("k", "v")),
                "QueryRegexp(`k`,`^v`)": Matcher("QueryRegexp", ("k", "^v")),
                "ClientIP(`10.0.0.0/8`)": Matcher("ClientIP", ("10.0.0.0/8",)),
                "ClientIP(`2001:db8::1`)": Matcher("ClientIP", ("2001:db8::1",)),
            }
        )

    def test_operators(self) -> None:
        """! binds tighter than &&, && tighter than ||, and parentheses change that."""
        self.check(
            {
                "Host(`a.example`)&&PathPrefix(`/x`)||Host(`b.example`)": Or((And((HOST_A, PATH_X)), HOST_B)),
                "Host(`a.example`) || Host(`b.example`) && PathPrefix(`/x`)": Or((HOST_A, And((HOST_B, PATH_X)))),
                "(Host(`a.example`) || Host(`b.example`))\n && PathPrefix(`/x`)": And((Or((HOST_A, HOST_B)), PATH_X)),
                "!Host(`a.example`) && PathPrefix(`/x`)": And((Not(HOST_A), PATH_X)),
                "!(Host(`a.example`) && PathPrefix(`/x`))": Not(And((HOST_A, PATH_X))),
                "! ! Host(`a.example`)": Not(Not(HOST_A)),
                "((Host(`a.example`)))": HOST_A,
            }
        )

    def test_quotes(self) -> None:
        """Double quotes have Go's escapes, backticks have none."""
        self.check(
            {
                r'Path("/\x41\u00e9\t\"\\\101")': Matcher("Path", ('/A\u00e9\t"\\A',)),
                r'Path("/\xc3\xa9")': Matcher("Path", ("/é",)),
                r'Path("/\xff")': Matcher("Path", ("/\udcff",)),
                r"PathRegexp(`^/\d+$`)": Matcher("PathRegexp", (r"^/\d+$",)),
            }
        )

    def test_forms_of_v2_under_v3(self) -> None:
        """Rules written for Traefik v2 work as they are where they can mean but one thing."""
        self.check(
            {
                "Host(`a.example`, `b.example`)": Matcher("Host", ("a.example", "b.example")),
                "HostHeader(`a.example`)": HOST_A,
                "Path(`/x`, `/y`)": Matcher("Path", ("/x", "/y")),
                "PathPrefix(`/x`,`/y`)": Matcher("PathPrefix", ("/x", "/y")),
                "Method(`GET`,`POST`)": Matcher("Method", ("GET", "POST")),
                "ClientIP(`::1`,`127.0.0.1`)": Matcher("ClientIP", ("::1", "127.0.0.1")),
                "Headers(`X-A`,`b`)": Matcher("Header", ("X-A", "b")),
                "HeadersRegexp(`X-A`,`b`)": Matcher("HeaderRegexp", ("X-A", "b")),
            }
        )

    def test_v2(self) -> None:
        """Under ruleSyntax=v2, templates and the key=value form of queries mean what they mean there."""
        self.check(
            {
                "Host(`a.example`)": HOST_A,
                "HostRegexp(`{sub:[a-z]+}.a.example`)": Matcher("HostRegexp", (r"(?i)^(?:[a-z]+)\.a\.example$",)),
                "HostRegexp(`{any}.x`,`y`)": Or(
                    (Matcher("HostRegexp", (r"(?i)^(?:[^.]+)\.x$",)), Matcher("HostRegexp", ("(?i)^y$",)))
                ),
                "Path(`/u/{id:[0-9]{2}}`)": Matcher("PathRegexp", ("^/u/(?:[0-9]{2})$",)),
                "PathPrefix(`/{a}/b`, `/x`)": Or((Matcher("PathRegexp", ("^/(?:[^/]+)/b",)), PATH_X)),
                "Query(`a=1`, `b=2`)": And((Matcher("Query", ("a", "1")), Matcher("Query", ("b", "2")))),
                "Query(`a=`)": Matcher("QueryRegexp", ("a", "^.*$")),
                "Query(`a={n:[0-9]+}`)": Matcher("QueryRegexp", ("a", "^(?:[0-9]+)$")),
            },
            "v2",
        )

    def test_octets_that_are_no_text(self) -> None:
        """A path of any octets can be written, and is shown as it was written."""
        rule = parse_rule(r'Path("/\xff")')
        self.assertEqual(str(rule), r'Path("/\xff")')


class FaultTests(SynchronousTestCase):
    """What is said of rules that aren't any."""

    def fault(self, text: str, syntax: str = "v3") -> RuleError:
        return self.assertRaises(RuleError, parse_rule, text, syntax)

    def test_each_fault_is_placed_and_explained(self) -> None:
        """The message says what is wrong, where, and what would do."""
        cases = {
            "": (0, "a matcher such as"),
            "   ": (3, "a matcher such as"),
            "Host": (4, "( after Host"),
            "Host(": (5, "a value in backticks"),
            "Host(`a`": (8, ", or )"),
            "Host(`a": (5, "closing `"),
            'Host("a': (5, 'closing "'),
            "Host(a)": (5, "a value in backticks"),
            "Host()": (0, "expected 1 or more values"),
            "Host(``)": (5, "empty value"),
            "Host(`.`)": (5, "expected a host name"),
            "Host(`a`) Host(`b`)": (10, "&& or || or the end"),
            "Host(`a`) & Host(`b`)": (10, "&& or || or the end"),
            "Host(`a`) &&": (12, "the end where a matcher"),
            "(Host(`a`)": (10, "the ) for the ( at character 1"),
            "Host(`a`))": (9, "&& or ||"),
            "Host(`a:80`)": (5, "host name without port"),
            "Host(`http://a`)": (5, "host name without port"),
            "Host(`a.*.b`)": (5, "*.name for one more label"),
            "Path(`x`)": (5, "a path that starts with /"),
            "Path(`/x`, `y`)": (11, "a path that starts with /"),
            "Method(`G T`)": (7, "a method such as GET"),
            "Header(`a`)": (0, "expected 2 values"),
            "Header(`a b`,`c`)": (7, "the name of a header"),
            "Query(`a`,`b`,`c`)": (0, "expected 1 or 2 values"),
            "PathRegexp(`a`,`b`)": (0, "expected 1 value"),
            "PathRegexp(`(`)": (11, "no regular expression"),
            "HeaderRegexp(`a`, `[`)": (18, "no regular expression"),
            "HostRegexp(`{a:b}.c`)": (11, "ruleSyntax=v2"),
            "ClientIP(`10.0.0.0/33`)": (9, "an IP address or network"),
            "ClientIP(`localhost`)": (9, "an IP address or network"),
            r'Path("/\q")': (7, "escape"),
            r'Path("/\ud800")': (7, "escape"),
            "Path(`/\ud800`)": (7, "surrogate"),
            "HostSNI(`a`)": (0, "TCP"),
        }
        for text, (position, part) in cases.items():
            error = self.fault(text)
            self.assertEqual((error.position, part in str(error)), (position, True), f"{text!r}: {error}")
            self.assertIn(f"at character {position + 1}", str(error))

    def test_faults_of_v2(self) -> None:
        """Broken templates are told of."""
        for text, part in {
            "Path(`/{a`)": "a { without its }",
            "Path(`/a}`)": "a } without its {",
            "Path(`/{}`)": "{name:pattern}",
            "HostRegexp(`{a:(}`)": "no regular expression",
            "Query(`a`)": "key=value",
        }.items():
            self.assertIn(part, str(self.fault(text, "v2")))

    def test_unknown_matcher_names_the_nearest(self) -> None:
        """A slip of the pen is answered with the name that was meant."""
        self.assertEqual(self.fault("Hots(`a.example`)").nearest, "Host")
        self.assertIn("did you mean PathPrefix?", str(self.fault("PathPrefx(`/a`)")))
        self.assertEqual(self.fault("hOST(`a.example`)").nearest, "Host")

    def test_name_in_letters_beyond_ascii(self) -> None:
        """An international name is refused with the spelling that works."""
        self.assertEqual(self.fault("Host(`bücher.example`)").nearest, "xn--bcher-kva.example")
        self.assertEqual(self.fault(f"Host(`{'ü' * 70}.example`)").nearest, "")

    def test_unknown_syntax(self) -> None:
        """A rule syntax that isn't one is refused."""
        self.assertIn("v3 or v2", str(self.fault("Host(`a`)", "v4")))

    def test_deep_nesting_has_an_end(self) -> None:
        """A rule that nests without end is an error, not a crash; a long one is neither."""
        for text in ("(" * 100_000, "!" * 100_000, "(" * 65 + "Host(`a`)" + ")" * 65):
            self.assertIn("levels", str(self.fault(text)))
        many = parse_rule(" || ".join(f"Host(`h{n}.example`)" for n in range(5000)))
        self.assertIsInstance(many, Or)
        self.assertEqual(len(many.rules), 5000)


_words = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
_characters = st.one_of(st.characters(exclude_categories=("Cs",)), st.sampled_from('`"\\\r\n\x00 '))
_values = st.text(_characters, min_size=1, max_size=8)
_paths = _values.map(lambda text: "/" + text)
_networks = st.ip_addresses().map(str)


def _matcher(name: str, *args: st.SearchStrategy[str]) -> st.SearchStrategy[Rule]:
    return st.tuples(*args).map(lambda given: Matcher(name, given))


def _several(name: str, arg: st.SearchStrategy[str]) -> st.SearchStrategy[Rule]:
    return st.lists(arg, min_size=1, max_size=3, unique=True).map(lambda given: Matcher(name, tuple(given)))


_matchers = st.one_of(
    _several("Host", _words.map(lambda word: f"{word}.example")),
    _several("Path", _paths),
    _several("PathPrefix", _paths),
    _several("Method", st.sampled_from(["GET", "POST", "PURGE"])),
    _several("ClientIP", _networks),
    _matcher("HostRegexp", _words),
    _matcher("PathRegexp", _words),
    _matcher("Header", _words, _values),
    _matcher("HeaderRegexp", _words, _words),
    _matcher("Query", _values),
    _matcher("Query", _values, _values),
    _matcher("QueryRegexp", _values, _words),
)
_rules: st.SearchStrategy[Rule] = st.recursive(
    _matchers,
    lambda rules: st.one_of(
        rules.map(Not),
        st.lists(rules, min_size=2, max_size=3).map(lambda several: And(tuple(several))),
        st.lists(rules, min_size=2, max_size=3).map(lambda several: Or(tuple(several))),
    ),
    max_leaves=6,
)
_pieces = st.lists(
    st.sampled_from(
        [
            "Host",
            "Path",
            "Query",
            "Header",
            "(",
            ")",
            "`",
            '"',
            "/",
            "\\",
            "{",
            "}",
            "&&",
            "||",
            "!",
            ",",
            " ",
            "a",
            "é",
        ]
    ),
    max_size=25,
).map("".join)


class PropertyTests(SynchronousTestCase):
    """What holds for all rules."""

    @settings(max_examples=150, deadline=None)
    @given(_rules)
    def test_written_and_read_again(self, rule: Rule) -> None:
        """A rule as the gate shows it is the rule that it follows."""
        self.assertEqual(parse_rule(str(rule)), rule)

    @settings(max_examples=200, deadline=None)
    @given(st.one_of(st.text(), _pieces), st.sampled_from(["v3", "v2"]))
    def test_anything_is_a_rule_or_a_fault(self, text: str, syntax: str) -> None:
        """Whatever stands in a label, the gate goes on."""
        try:
            rule = parse_rule(text, syntax)
        except RuleError as error:
            self.assertLessEqual(error.position, len(text))
        else:
            self.assertEqual(parse_rule(str(rule)), rule)
