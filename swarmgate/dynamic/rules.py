"""Rules: which requests a router takes, as ``Host(`a.example`) && PathPrefix(`/x`)``.

:func:`parse_rule` reads the text of a rule into a small tree of frozen values, in which everything is checked and
spelled in one way; :mod:`swarmgate.dynamic.matching` makes a predicate of it. Traefik's two syntaxes give the same
trees: what only ``v2`` can say (templates such as ``{id:[0-9]+}``) is rewritten in terms of ``v3``.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from swarmgate.structure import nearest_of

SYNTAXES = ("v3", "v2")
"""The rule syntaxes there are, the default one first (Traefik ``routers.X.ruleSyntax``)."""

_DEEPEST = 64  # Levels of parentheses and "!": far more than people write, far less than the stack holds.


class RuleError(ValueError):
    """A rule that can't be understood.

    :ivar position: where in the text, in characters from 0.
    :ivar reason: what is wrong there and what was expected, with the place, as a part of a sentence.
    :ivar nearest: the nearest right name, ``""`` if none is near.
    """

    def __init__(self, problem: str, position: int, nearest: str = "") -> None:
        super().__init__(problem, position, nearest)
        self.position = position
        self.reason = f"{problem}, at character {position + 1}"
        self.nearest = nearest

    def __str__(self) -> str:
        return f"{self.reason}; did you mean {self.nearest}?" if self.nearest else self.reason


@attrs.frozen(cache_hash=True)
class Matcher:
    """A condition on one property of a request; several values are alternatives.

    :ivar name: as Traefik v3 spells it, as ``PathPrefix``.
    :ivar args: checked, and normalised where that is possible: hosts in lower case without trailing dot, methods in
        upper case. Octets that are no UTF-8 are in it as Python's ``surrogateescape`` makes them.
    """

    name: str
    args: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(_quoted, self.args))})"


@attrs.frozen(cache_hash=True)
class Not:
    """What *rule* does not match."""

    rule: Rule

    def __str__(self) -> str:
        return f"!({self.rule})" if isinstance(self.rule, (And, Or)) else f"!{self.rule}"


@attrs.frozen(cache_hash=True)
class And:
    """What all of *rules*, two or more, match."""

    rules: tuple[Rule, ...]

    def __str__(self) -> str:
        return " && ".join(f"({rule})" if isinstance(rule, (And, Or)) else str(rule) for rule in self.rules)


@attrs.frozen(cache_hash=True)
class Or:
    """What any of *rules*, two or more, matches."""

    rules: tuple[Rule, ...]

    def __str__(self) -> str:
        return " || ".join(f"({rule})" if isinstance(rule, Or) else str(rule) for rule in self.rules)


Rule = Matcher | Not | And | Or


@attrs.frozen
class Argument:
    """What stands between a matcher's quotes.

    :ivar position: of its opening quote in the text, in characters from 0.
    """

    text: str
    position: int


MakeMatcher = Callable[[str, int, tuple[Argument, ...]], Rule]
"""Makes the part of the tree for a matcher's name, the name's position and its arguments; raises :exc:`RuleError`."""


@functools.lru_cache(maxsize=32768)
def parse_rule(text: str, syntax: str = "v3") -> Rule:
    """The tree of the rule *text* (Traefik ``routers.X.rule``).

    Besides ``v3``'s forms, ``v3`` takes those of ``v2`` that can't be mistaken: several values for Host, Path,
    PathPrefix, Method and ClientIP, and the names HostHeader, Headers and HeadersRegexp.

    :param syntax: one of :data:`SYNTAXES`.
    :raises RuleError: the text is no rule.
    """
    if syntax not in SYNTAXES:
        raise RuleError(f'unknown rule syntax "{syntax}": expected {" or ".join(SYNTAXES)}', 0)
    return parse_expression(text, _v2_matcher if syntax == "v2" else _v3_matcher)


# ---- expressions: matchers with && || ! and parentheses


def parse_expression(text: str, make_matcher: MakeMatcher) -> Rule:
    """The tree of an expression of matchers, ``&&``, ``||``, ``!`` and parentheses.

    Arguments are written in backticks, or in double quotes with Go's escapes. ``!`` binds tighter than ``&&``, and
    ``&&`` tighter than ``||``.

    :param make_matcher: what matchers there are.
    :raises RuleError: the text is no such expression.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RuleError("half of a surrogate pair, which is no character", error.start) from None
    return _Expression(text, make_matcher).parse()


_SPACE = re.compile(r"[ \t\r\n]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_QUOTED = re.compile(r"""`[^`]*`|"(?:[^"\\\n]|\\.)*\"""")


class _Expression:
    """A text and how far it has been read."""

    def __init__(self, text: str, make_matcher: MakeMatcher) -> None:
        self._text = text
        self._make_matcher = make_matcher
        self._position = 0
        self._depth = 0

    def parse(self) -> Rule:
        rule = self._alternatives()
        if self._position < len(self._text):
            raise self._unexpected("&& or || or the end")
        return rule

    def _alternatives(self) -> Rule:
        rules = [self._conjunction()]
        while self._take("||"):
            rules.append(self._conjunction())
        return rules[0] if len(rules) == 1 else Or(tuple(rules))

    def _conjunction(self) -> Rule:
        rules = [self._factor()]
        while self._take("&&"):
            rules.append(self._factor())
        return rules[0] if len(rules) == 1 else And(tuple(rules))

    def _factor(self) -> Rule:
        self._skip_space()
        start = self._position
        self._depth += 1
        if self._depth > _DEEPEST:
            raise RuleError(f"more than {_DEEPEST} levels of parentheses and !", start)
        rule: Rule
        if self._take("!"):
            rule = Not(self._factor())
        elif self._take("("):
            rule = self._alternatives()
            if not self._take(")"):
                raise self._unexpected(f"&& or || or the ) for the ( at character {start + 1}")
        else:
            rule = self._matcher()
        self._depth -= 1
        return rule

    def _matcher(self) -> Rule:
        start = self._position
        name = _NAME.match(self._text, start)
        if name is None:
            raise self._unexpected("a matcher such as Host(`a.example`), ! or (")
        self._position = name.end()
        if not self._take("("):
            raise self._unexpected(f"( after {name[0]}")
        arguments: list[Argument] = []
        if not self._take(")"):
            arguments.append(self._argument())
            while self._take(","):
                arguments.append(self._argument())
            if not self._take(")"):
                raise self._unexpected(", or )")
        return self._make_matcher(name[0], start, tuple(arguments))

    def _argument(self) -> Argument:
        self._skip_space()
        start = self._position
        quoted = _QUOTED.match(self._text, start)
        if quoted is not None:
            self._position = quoted.end()
            return Argument(unquote(quoted[0], start), start)
        if self._text[start : start + 1] in ("`", '"'):
            raise RuleError(f"a value without its closing {self._text[start]}", start)
        raise self._unexpected("a value in backticks or double quotes")

    def _take(self, token: str) -> bool:
        self._skip_space()
        if not self._text.startswith(token, self._position):
            return False
        self._position += len(token)
        self._skip_space()
        return True

    def _skip_space(self) -> None:
        space = _SPACE.match(self._text, self._position)
        assert space is not None
        self._position = space.end()

    def _unexpected(self, expected: str) -> RuleError:
        found = self._text[self._position : self._position + 1]
        given = f'"{found}"' if found.isprintable() and found else "the end" if not found else repr(found)
        return RuleError(f"{given} where {expected} was expected", self._position)


_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\\"])|x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|)", re.DOTALL
)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}


def unquote(quoted: str, position: int = 0) -> str:
    """What Go makes of a text in backticks or double quotes, the latter with its escapes.

    :param quoted: with its quotes.
    :param position: of its opening quote, for errors.
    :raises RuleError: an escape that there isn't.
    """
    text = quoted[1:-1]
    if quoted[0] == "`":
        return text.replace("\r", "")

    def octets(found: re.Match[str]) -> bytes:
        plain, hexadecimal, octal, short, long = found.groups()
        if plain:
            return _PLAIN[plain].encode()
        if hexadecimal:
            return bytes((int(hexadecimal, 16),))
        if octal and int(octal, 8) < 256:
            return bytes((int(octal, 8),))
        code = int(short or long or "110000", 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise RuleError("an escape that Go's strings don't have", position + 1 + found.start())
        return chr(code).encode()

    if "\\" not in text:
        return text
    parts: list[bytes] = []
    end = 0
    for found in _ESCAPE.finditer(text):
        parts += text[end : found.start()].encode(), octets(found)
        end = found.end()
    parts.append(text[end:].encode())
    return b"".join(parts).decode("utf-8", "surrogateescape")


def _quoted(text: str) -> str:
    if "`" not in text and "\r" not in text and not re.search("[\ud800-\udfff]", text):
        return f"`{text}`"
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    code = ord(character)
    if character in '"\\':
        return "\\" + character
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character if character.isprintable() else f"\\U{code:08x}"


# ---- regular expressions


@functools.lru_cache(maxsize=8192)
def regular_expression(pattern: str) -> Any:
    """The compiled pattern, for octets; its syntax and its linear time are those of Go's (RE2).

    :raises ValueError: it is none; the text says why.
    """
    # Loaded with the first expression: many have none, and it takes 2.5 MB.
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern.encode("utf-8", "surrogateescape"), options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        raise ValueError(reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)) from None


# ---- matchers and what they take


def _check_host(argument: Argument) -> str:
    host = argument.text.lower()
    if not host.isascii():
        raise RuleError(f'"{argument.text}" is not ASCII: write it as in DNS', argument.position, _punycode(host))
    host = host[:-1] if host.endswith(".") else host
    if host == "*":
        return host
    name = host[2:] if host.startswith("*.") else host
    if not re.fullmatch(r"[^\s/:?#@*\\\[\]\x00-\x20\x7f]+|\[[0-9a-f:.]+\]", name):
        expected = "a host name without port, *.name for one more label on its left, or *"
        raise RuleError(f'"{argument.text}": expected {expected}', argument.position)
    return host


def _punycode(host: str) -> str:
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return ""


def _check_path(argument: Argument) -> str:
    if not argument.text.startswith("/"):
        raise RuleError(f'"{argument.text}": expected a path that starts with /', argument.position)
    return argument.text


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _check_method(argument: Argument) -> str:
    if not _TOKEN.fullmatch(argument.text):
        raise RuleError(f'"{argument.text}": expected a method such as GET', argument.position)
    return argument.text.upper()


def _check_name(argument: Argument) -> str:
    if not _TOKEN.fullmatch(argument.text):
        raise RuleError(f'"{argument.text}": expected the name of a header', argument.position)
    return argument.text


def _check_network(argument: Argument) -> str:
    try:
        ipaddress.ip_network(argument.text, strict=False)
    except ValueError:
        expected = "an IP address or network such as 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32"
        raise RuleError(f'"{argument.text}": expected {expected}', argument.position) from None
    return argument.text


def _check_regex(argument: Argument) -> str:
    try:
        regular_expression(argument.text)
    except ValueError as error:
        raise RuleError(f'"{argument.text}" is no regular expression: {error}', argument.position) from None
    return argument.text


def _check_host_regex(argument: Argument) -> str:
    if re.search(r"\{[A-Za-z_][^{}]*\}", argument.text):
        # As a regular expression it asks for braces in a host name, so that it would never match.
        hint = "expected a regular expression; templates are of rule syntax v2 (ruleSyntax=v2)"
        raise RuleError(f'"{argument.text}": {hint}', argument.position)
    return _check_regex(argument)


def _check_nothing(argument: Argument) -> str:
    return argument.text


@attrs.frozen
class _Kind:
    """What a matcher takes.

    :ivar checks: of its arguments in order, each of which returns the argument's normal form.
    :ivar least: how many there are at least.
    :ivar many: the last one may be repeated.
    """

    checks: tuple[Callable[[Argument], str], ...]
    least: int = 1
    many: bool = False


_KINDS = {
    "Host": _Kind((_check_host,), many=True),
    "HostRegexp": _Kind((_check_host_regex,)),
    "Path": _Kind((_check_path,), many=True),
    "PathPrefix": _Kind((_check_path,), many=True),
    "PathRegexp": _Kind((_check_regex,)),
    "Method": _Kind((_check_method,), many=True),
    "Header": _Kind((_check_name, _check_nothing), 2),
    "HeaderRegexp": _Kind((_check_name, _check_regex), 2),
    "Query": _Kind((_check_nothing, _check_nothing)),
    "QueryRegexp": _Kind((_check_nothing, _check_regex), 2),
    "ClientIP": _Kind((_check_network,), many=True),
}
_ALIASES = {"HostHeader": "Host", "Headers": "Header", "HeadersRegexp": "HeaderRegexp"}
_TCP = ("HostSNI", "HostSNIRegexp", "ALPN")


def spellings(names: Sequence[str]) -> dict[str, str]:
    """Each of *names* by every spelling that Traefik takes: as it is, lower, UPPER and Title case."""
    return {way: name for name in names for way in (name, name.lower(), name.upper(), name.title())}


_SPELLINGS = {
    **spellings(tuple(_KINDS)),
    **{way: _ALIASES[name] for way, name in spellings(tuple(_ALIASES)).items()},
}
_TCP_SPELLINGS = spellings(_TCP)


def _kind_of(given: str, position: int, arguments: tuple[Argument, ...]) -> str:
    """The name of the matcher that *given* means; also checks what holds for the arguments of all matchers."""
    name = _SPELLINGS.get(given)
    if name is None:
        if given in _TCP_SPELLINGS:
            raise RuleError(f"{given} is a matcher for TCP routers", position)
        known = ", ".join(_KINDS)
        raise RuleError(f"unknown matcher {given}: expected one of {known}", position, nearest_of(given, [*_KINDS]))
    for argument in arguments:
        if not argument.text:
            raise RuleError(f"{given} with an empty value", argument.position)
    return name


def _v3_matcher(given: str, position: int, arguments: tuple[Argument, ...]) -> Rule:
    name = _kind_of(given, position, arguments)
    kind = _KINDS[name]
    most = len(kind.checks)
    if len(arguments) < kind.least or (len(arguments) > most and not kind.many):
        wanted = (
            f"{kind.least} or more" if kind.many else str(most) if kind.least == most else f"{kind.least} or {most}"
        )
        plural = "" if wanted == "1" else "s"
        raise RuleError(f"{given} with {len(arguments)} values: expected {wanted} value{plural}", position)
    checks = kind.checks + kind.checks[-1:] * (len(arguments) - most)
    # A value that is given twice says no more than once, but for the two values of a header or query.
    checked = [check(argument) for check, argument in zip(checks, arguments, strict=False)]
    return Matcher(name, tuple(dict.fromkeys(checked)) if kind.many else tuple(checked))


# ---- what only rule syntax v2 has


def _v2_matcher(given: str, position: int, arguments: tuple[Argument, ...]) -> Rule:
    name = _kind_of(given, position, arguments)
    if name == "HostRegexp" and arguments:
        # gorilla/mux, which v2 is built on, compares without regard to case, and whole names.
        return _any(Matcher(name, (f"(?i)^{_template(one, '[^.]+')}$",)) for one in arguments)
    if name in ("Path", "PathPrefix") and any("{" in one.text or "}" in one.text for one in arguments):
        return _any(_v2_path(name, one) for one in arguments)
    if name == "Query" and arguments:
        return _all(_v2_query(one) for one in arguments)
    return _v3_matcher(given, position, arguments)


def _v2_path(name: str, argument: Argument) -> Rule:
    path = _check_path(argument)
    if "{" not in path and "}" not in path:
        return Matcher(name, (path,))
    return Matcher("PathRegexp", (f"^{_template(argument, '[^/]+')}{'$' if name == 'Path' else ''}",))


def _v2_query(argument: Argument) -> Rule:
    key, equals, value = argument.text.partition("=")
    if not equals or not key:
        raise RuleError(f'"{argument.text}": expected key=value', argument.position)
    if value and "{" not in value and "}" not in value:
        return Matcher("Query", (key, value))
    pattern = _template(Argument(value, argument.position), ".*") if value else ".*"
    return Matcher("QueryRegexp", (key, f"^{pattern}$"))


def _template(argument: Argument, default: str) -> str:
    """The regular expression for a template such as ``{name:pattern}.example``, without anchors."""
    parts: list[str] = []
    depth = start = 0
    for index, character in enumerate(argument.text + "{"):
        if character == "{":
            if depth == 0:
                parts.append(re.escape(argument.text[start:index]))
                start = index + 1
            depth += 1
        elif character == "}":
            depth -= 1
            if depth < 0:
                raise RuleError(f'"{argument.text}": a }} without its {{', argument.position)
            if depth == 0:
                parts.append(_variable(argument, argument.text[start:index], default))
                start = index + 1
    if depth != 1:
        raise RuleError(f'"{argument.text}": a {{ without its }}', argument.position)
    pattern = "".join(parts)
    _check_regex(Argument(pattern, argument.position))
    return pattern


def _variable(argument: Argument, inside: str, default: str) -> str:
    name, colon, pattern = inside.partition(":")
    if not name or (colon and not pattern):
        raise RuleError(f'"{argument.text}": expected {{name}} or {{name:pattern}}', argument.position)
    _check_regex(Argument(pattern, argument.position))
    return f"(?:{pattern or default})"


def _any(rules: Any) -> Rule:
    several = tuple(dict.fromkeys(rules))
    return several[0] if len(several) == 1 else Or(several)


def _all(rules: Any) -> Rule:
    several = tuple(dict.fromkeys(rules))
    return several[0] if len(several) == 1 else And(several)
