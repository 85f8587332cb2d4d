"""From a tree of options to frozen attrs values, with errors for people.

A *tree* is what labels, files, environment variables and command lines are read into: dicts from names to trees,
lists of trees, and scalars. Names are matched without regard to case. Anything in it may be wrapped as
:class:`Given`, which says where it was written; errors then tell.

What options there are, their types, defaults and documentation, is said by attrs classes whose fields are made with
:func:`option`::

    @attrs.frozen
    class Ping:
        entry_point: str = option(default="traefik", doc="Name of the entry point that answers /ping.")

    ping = structure(Ping, {"entrypoint": Given("web", "option --ping.entryPoint")}, "ping")

Field types: ``str``, ``bool``, ``int``, ``float``, :class:`Duration`, :class:`SignedDuration`, :class:`Address`,
:data:`IPNetwork`, ``Literal`` and ``Enum`` choices, any class with a ``from_text(text)`` class method,
``tuple[T, ...]``, ``Mapping[str, T]``, other attrs classes, ``T | None``, and ``Any``, which gets its part of the tree
as it is. A ``Something | None`` of an attrs class can be switched on with its name alone (Traefik's allowEmpty):
``true``, ``{}`` and nothing give its defaults, ``false`` gives None.
"""

from __future__ import annotations

import difflib
import enum
import functools
import ipaddress
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Literal, TypeVar, Union

import attrs
import cattrs

T = TypeVar("T")

Tree = Any
"""A dict of trees, a list of trees, a scalar, or one of these as :class:`Given`."""

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
"""A network, or an address as the network of one."""

_DEEPEST = 32  # More dots than any option has; bounds the recursion over trees that strangers write.
_LONGEST = 120  # Characters of a given value that an error repeats.


@attrs.frozen
class Given:
    """A part of a tree together with where it was written.

    :ivar origin: for people, as ``option --ping.entryPoint`` or ``file gate.yml, line 7``.
    """

    value: Any
    origin: str = ""


@attrs.frozen
class Repeated:
    """A scalar that was given several times: a list option takes all of them, any other the last."""

    values: tuple[Given, ...]


def _without_password(text: str | None) -> str | None:
    """*text*, with what stands before the host of a URL left out."""
    return text if text is None or "@" not in text else re.sub(r"(?<=://)\S*@", "***@", text)


@attrs.frozen
class Fault:
    """One thing that is wrong with a tree; ``str()`` of it is one line for people.

    :ivar key: the option's dotted name, in its canonical spelling where it is known; ``""`` for what is wrong with a
        whole file.
    :ivar given: the value at fault, None where it is not the value that is wrong; a URL's user and password are not
        repeated.
    :ivar origin: where it was written, ``""`` if that isn't known.
    :ivar expected: what would do, as ``a duration such as 10s``; ``""`` where :attr:`problem` says all.
    :ivar nearest: the nearest right name or value, ``""`` if none is near.
    :ivar problem: what is wrong when it is not the value, as ``unknown option``.
    """

    key: str
    given: str | None = attrs.field(default=None, converter=_without_password)
    origin: str = ""
    expected: str = ""
    nearest: str = ""
    problem: str = ""

    @property
    def reason(self) -> str:
        """What is wrong, without key, given value, origin and nearest name: a part of a sentence."""
        expected = f"expected {self.expected}" if self.expected else ""
        return ": ".join(part for part in (self.problem, expected) if part)

    def __str__(self) -> str:
        nearest = f"; did you mean {self.nearest}?" if self.nearest else ""
        if not self.key:
            return _one_line(f"{self.origin}: {self.reason}{nearest}")
        if self.given is not None:
            origin = f" from {self.origin}" if self.origin else ""
            return _one_line(f"{self.key}: {_quoted(self.given)}{origin}: {self.reason}{nearest}")
        origin = f", from {self.origin}" if self.origin else ""
        expected = f": expected {self.expected}" if self.expected else ""
        return _one_line(f"{self.key}: {self.problem}{origin}{expected}{nearest}")


class StructureError(ValueError):
    """A tree doesn't describe what it should; :attr:`faults` has everything that is wrong with it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults: tuple[Fault, ...] = tuple(faults)


# ---- what options there are


def option(
    *,
    default: Any = attrs.NOTHING,
    factory: Callable[[], Any] | None = None,
    doc: str,
    key: str | None = None,
    parse: Callable[[str], Any] | None = None,
    secret: bool = False,
    validator: Any = None,
) -> Any:
    """A keyword-only attrs field that :func:`structure` fills from a tree.

    :param default: its value when it isn't given; without *default* and *factory* it is required.
    :param factory: makes the default, for defaults that are no constants.
    :param doc: one or two sentences for ``--help`` and the reference page.
    :param key: its name in trees where that isn't the field's name in camelCase, as ``trustedIPs``.
    :param parse: makes the value from text (of each item, if it is a tuple), in place of the type's own way; raises
        ``ValueError`` with what is expected, as ``"a regular expression"``.
    :param secret: errors never repeat the value, nor does the ``repr()`` of what holds it.
    :param validator: attrs validators; a ``ValueError`` of theirs says what is expected.
    """
    metadata = {"doc": doc, "key": key, "parse": parse, "secret": secret}
    if factory is not None:
        return attrs.field(factory=factory, metadata=metadata, validator=validator, kw_only=True, repr=not secret)
    return attrs.field(default=default, metadata=metadata, validator=validator, kw_only=True, repr=not secret)


def not_yet(*keys: str) -> Callable[[type[T]], type[T]]:
    """A class decorator: options that Traefik has here and swarmgate has not; they are refused by name."""
    return refused(dict.fromkeys(keys, "an option of Traefik's that swarmgate does not have yet"))


def refused(reasons: Mapping[str, str]) -> Callable[[type[T]], type[T]]:
    """A class decorator: options that are refused, and the reason of each, as part of a sentence."""

    def mark(cls: type[T]) -> type[T]:
        earlier = getattr(cls, "__refused__", {})
        cls.__refused__ = {**earlier, **reasons}  # type: ignore[attr-defined]
        return cls

    return mark


def at_least(least: float) -> Callable[[Any, Any, Any], None]:
    """A validator for numbers that are no less than *least*."""

    def check(instance: Any, attribute: Any, value: float) -> None:
        if value < least:
            raise ValueError(f"at least {least}")

    return check


def between(least: float, most: float) -> Callable[[Any, Any, Any], None]:
    """A validator for numbers from *least* to *most*, both included."""

    def check(instance: Any, attribute: Any, value: float) -> None:
        if not least <= value <= most:
            raise ValueError(f"a number from {least} to {most}")

    return check


def key_of(attribute: attrs.Attribute[Any]) -> str:
    """The name of a field in trees: its own in camelCase, or as :func:`option` was told."""
    explicit: str | None = attribute.metadata.get("key")
    if explicit:
        return explicit
    first, *rest = attribute.name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def nearest_of(name: str, known: Sequence[str]) -> str:
    """The one of *known* that *name* was probably meant to be, ``""`` if none is near. Case doesn't count."""
    lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    return lower[found[0]] if found else ""


# ---- types of values


class Duration(float):
    """Seconds, read as Go writes durations: ``1h2m3s``, ``1.5s``, ``300ms``; a bare whole number means seconds."""

    expected = "a duration such as 10s, 1m30s or 500ms"

    @classmethod
    def from_text(cls, text: str) -> Duration:
        """The duration that *text* says, not negative.

        :raises ValueError: what is expected.
        """
        seconds = _seconds(text)
        if seconds is None:
            raise ValueError(cls.expected)
        if seconds < 0 and not issubclass(cls, SignedDuration):
            raise ValueError(f"{cls.expected}, not a negative one")
        return cls(seconds)

    def __str__(self) -> str:
        """As Go writes it: ``1m30s``."""
        if float(self) == 0.0:
            return "0s"
        sign, nanoseconds = ("-" if self < 0 else ""), round(abs(self) * 1e9)
        if nanoseconds < 10**9:
            for unit, size in (("ms", 10**6), ("us", 10**3)):
                if nanoseconds >= size:
                    return f"{sign}{_decimal(nanoseconds, size)}{unit}"
            return f"{sign}{nanoseconds}ns"
        minutes, nanoseconds = divmod(nanoseconds, 60 * 10**9)
        hours, minutes = divmod(minutes, 60)
        parts = (f"{hours}h" if hours else "", f"{minutes}m" if minutes else "")
        seconds = f"{_decimal(nanoseconds, 10**9)}s" if nanoseconds else ""
        return sign + "".join(parts) + seconds


class SignedDuration(Duration):
    """A duration that may be negative, where that means something (Traefik ``flushInterval``)."""


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_DURATION_PART = r"([0-9]{1,19}\.?[0-9]{0,19}|\.[0-9]{1,19})(h|ms|m|s|us|µs|μs|ns)"
_MOST_SECONDS = (2**63 - 1) / 1e9  # As far as Go's durations reach.


def _seconds(text: str) -> float | None:
    match = re.fullmatch(r"([-+]?)([0-9]{1,19}|(?:" + _DURATION_PART.replace("(", "(?:") + r"){1,32})", text)
    if match is None:
        return None
    sign, amount = match.groups()
    if amount.isdigit():
        seconds = float(amount)
    else:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in re.findall(_DURATION_PART, amount))
    if seconds > _MOST_SECONDS:
        return None
    return -seconds if sign == "-" else seconds


def _decimal(amount: int, unit: int) -> str:
    whole, rest = divmod(amount, unit)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0").rstrip(".")


@attrs.frozen
class Address:
    """Where an entry point listens.

    :ivar host: a name or an IP address, IPv6 without brackets; ``""`` means all addresses.
    """

    host: str
    port: int
    protocol: Literal["tcp", "udp"] = "tcp"

    expected: typing.ClassVar[str] = "an address such as :80, 127.0.0.1:80 or [::1]:80"

    @classmethod
    def from_text(cls, text: str) -> Address:
        """The address that ``[host]:port[/tcp|/udp]`` says (Traefik ``entryPoints.X.address``).

        :raises ValueError: what is expected.
        """
        rest, slash, protocol = text.partition("/")
        protocol = protocol.lower() if slash else "tcp"
        if protocol not in ("tcp", "udp"):
            raise ValueError(f"{cls.expected}, with no protocol but /tcp or /udp after it")
        host, colon, port = rest.rpartition(":")
        if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError(f"{cls.expected}, with a port from 0 to 65535")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            try:
                ipaddress.IPv6Address(host)
            except ValueError:
                raise ValueError(f"{cls.expected}, with an IPv6 address in the brackets") from None
        elif not re.fullmatch(r"[A-Za-z0-9._-]*", host):
            raise ValueError(f"{cls.expected}, with IPv6 addresses in brackets")
        return cls(host, int(port), "udp" if protocol == "udp" else "tcp")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" + ("/udp" if self.protocol == "udp" else "")


@attrs.frozen
class StatusRange:
    """Answers' statuses from *first* to *last*, both included."""

    first: int
    last: int

    expected = "a status or a range of them, such as 200 or 400-499"

    @classmethod
    def from_text(cls, text: str) -> StatusRange:
        """The range that ``200`` or ``400-499`` says.

        :raises ValueError: what is expected.
        """
        match = re.fullmatch("([1-9][0-9]{2})(?:-([1-9][0-9]{2}))?", text)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(cls.expected)
        return cls(int(match[1]), int(match[2] or match[1]))

    def __contains__(self, status: object) -> bool:
        return isinstance(status, int) and self.first <= status <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def _is_group(cls: Any) -> bool:
    """Is this an attrs class with options of its own?"""
    return isinstance(cls, type) and attrs.has(cls) and not hasattr(cls, "from_text")


def _bool(text: str, _: Any = bool) -> bool:
    if text.lower() in ("true", "t", "1"):
        return True
    if text.lower() in ("false", "f", "0"):
        return False
    raise ValueError("true or false")


def _int(text: str, _: Any = int) -> int:
    if not re.fullmatch("[-+]?[0-9]{1,19}", text):
        raise ValueError("a whole number")
    return int(text)


def _float(text: str, _: Any = float) -> float:
    if not re.fullmatch(r"[-+]?([0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})([eE][-+]?[0-9]{1,2})?", text):
        raise ValueError("a number")
    return float(text)


def _network(text: str, _: Any = None) -> IPNetwork:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("an IP address or network such as 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32") from None


def _choice(text: str, cls: Any) -> Any:
    choices = _choices(cls)
    for name, value in choices.items():
        if name.lower() == text.lower():
            return value
    raise ValueError(_or(list(choices)))


def _choices(cls: Any) -> dict[str, Any]:
    """The choices of a Literal or Enum by what they are written as; none for other types."""
    if typing.get_origin(cls) is Literal:
        return {str(value): value for value in typing.get_args(cls)}
    if isinstance(cls, type) and issubclass(cls, enum.Enum):
        return {str(member.value): member for member in cls}
    return {}


def _or(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _scalar_converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    converter.register_structure_hook(str, lambda text, _: text)
    converter.register_structure_hook(bool, _bool)
    converter.register_structure_hook(int, _int)
    converter.register_structure_hook(float, _float)
    converter.register_structure_hook_func(lambda cls: bool(_choices(cls)), _choice)
    converter.register_structure_hook_func(lambda cls: bool(cls == IPNetwork), _network)
    return converter


_scalars = _scalar_converter()


# ---- from tree to value


def structure(cls: type[T], tree: Tree, path: str = "") -> T:
    """The value of the attrs class *cls* that *tree* describes.

    :param path: dotted name of the tree's root, which errors begin with.
    :raises StructureError: with everything that is wrong, not just the first.
    """
    faults: list[Fault] = []
    value = _fill(cls, tree, path, faults)
    if faults:
        raise StructureError(faults)
    return typing.cast(T, value)


def structure_as(kind: Any, tree: Tree, path: str = "") -> Any:
    """The value of any type that fields can have, as ``tuple[str, ...]`` or ``Mapping[str, Router]``.

    :raises StructureError: with everything that is wrong.
    """
    faults: list[Fault] = []
    value = _structure(kind, tree, path, None, faults)
    if faults:
        raise StructureError(faults)
    return value


def _structure(kind: Any, node: Tree, path: str, attribute: attrs.Attribute[Any] | None, faults: list[Fault]) -> Any:
    """The value of any type; None, with something added to *faults*, where the tree doesn't describe one."""
    if kind is Any:
        return node
    inner = _unless_none(kind)
    if inner is not kind:
        if _is_group(inner):
            return _fill_if_on(inner, node, path, faults)
        return _structure(inner, node, path, attribute, faults)
    origin = typing.get_origin(kind)
    if origin is tuple:
        return _fill_tuple(typing.get_args(kind)[0], node, path, attribute, faults)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _fill_mapping(typing.get_args(kind)[1], node, path, attribute, faults)
    if _is_group(kind):
        return _fill(kind, node, path, faults)
    return _scalar(kind, node, path, attribute, faults)


def _fill(cls: type[Any], node: Tree, path: str, faults: list[Fault]) -> Any:
    origin, value = origin_of(node), bare(node)
    if isinstance(value, Repeated):
        value = bare(value.values[-1])
    if not isinstance(value, Mapping):
        if not _is_nothing(value):
            faults.append(Fault(path, _shown(value), origin, f"options below it: {_or(list(_fields(cls)))}"))
            return None
        value = {}
    fields = _fields(cls)
    by_lower = {key.lower(): key for key in fields}
    reasons: Mapping[str, str] = getattr(cls, "__refused__", {})
    given: dict[str, Any] = {}
    before = len(faults)
    for name, child in value.items():
        lower = str(name).lower()
        key = by_lower.get(lower)
        if key is None:
            faults.append(_unknown(str(name), child, path, reasons, list(fields)))
        elif key in given:
            faults.append(Fault(_below(path, key), None, origin_of(child), problem="given twice"))
        else:
            field = fields[key]
            faults_before = len(faults)
            given[key] = _structure(field.type, child, _below(path, key), field, faults)
            if len(faults) == faults_before:
                _validate(field, given[key], child, _below(path, key), faults)
    misspelt = {fault.nearest for fault in faults[before:]}
    for key, field in fields.items():
        if field.default is attrs.NOTHING and key not in given and key not in misspelt:
            expected = expected_of(field.type)
            faults.append(Fault(_below(path, key), None, origin, expected, problem="missing"))
    if len(faults) > before:
        return None
    try:
        return cls(**{fields[key].alias or fields[key].name: one for key, one in given.items()})
    except ValueError as error:
        faults.append(Fault(path, None, origin, problem=str(error)))
        return None


def _unknown(name: str, child: Tree, path: str, reasons: Mapping[str, str], known: Sequence[str]) -> Fault:
    for key, reason in reasons.items():
        if key.lower() == name.lower():
            return Fault(_below(path, key), None, origin_of(child), problem=reason)
    nearest = nearest_of(name, [*known, *reasons])
    expected = _or(sorted(known, key=str.lower)) if known and not nearest else ""
    return Fault(_below(path, name), None, origin_of(child), expected, nearest, problem="unknown option")


def _validate(field: attrs.Attribute[Any], value: Any, node: Tree, path: str, faults: list[Fault]) -> None:
    if field.validator is None:
        return
    try:
        # Constructing the class validates too, but could not tell which field of a fault is the one.
        field.validator(None, field, value)
    except ValueError as error:
        shown = "***" if field.metadata.get("secret") else _shown(bare(node))
        faults.append(Fault(path, shown, origin_of(node), str(error)))


def _fill_if_on(cls: type[Any], node: Tree, path: str, faults: list[Fault]) -> Any:
    value = bare(node)
    if isinstance(value, Repeated):
        value = bare(value.values[-1])
    if isinstance(value, Mapping):
        return _fill(cls, node, path, faults)
    text = _text(value)
    if text is not None and (text == "" or text.lower() in ("{}", "true")):
        return _fill(cls, Given({}, origin_of(node)), path, faults)
    if text is not None and text.lower() == "false":
        return None
    faults.append(Fault(path, _shown(value), origin_of(node), "true, false or options below it"))
    return None


def _fill_tuple(
    kind: Any, node: Tree, path: str, attribute: attrs.Attribute[Any] | None, faults: list[Fault]
) -> tuple[Any, ...]:
    value = bare(node)
    items: list[tuple[str, Tree]]
    if isinstance(value, Repeated):
        return tuple(one for part in value.values for one in _fill_tuple(kind, part, path, attribute, faults))
    if isinstance(value, Mapping):
        if not all(re.fullmatch("[0-9]{1,9}", str(index)) for index in value):
            faults.append(Fault(path, None, origin_of(node), expected_of(tuple[kind, ...]), problem="not a list"))
            return ()
        items = [(f"{path}[{index}]", value[index]) for index in sorted(value, key=int)]
    elif isinstance(value, (list, tuple)):
        items = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    elif _is_group(kind):
        if not _is_nothing(value):
            faults.append(Fault(path, _shown(value), origin_of(node), "a list, each item with options of its own"))
        return ()
    else:
        text = _text(value) or ""
        items = [(path, Given(item.strip(), origin_of(node))) for item in text.split(",")] if text.strip() else []
    return tuple(_structure(kind, item, key, attribute, faults) for key, item in items)


def _fill_mapping(
    kind: Any, node: Tree, path: str, attribute: attrs.Attribute[Any] | None, faults: list[Fault]
) -> dict[str, Any]:
    value = bare(node)
    if isinstance(value, Mapping):
        return {
            str(name): _structure(kind, child, _below(path, str(name)), attribute, faults)
            for name, child in value.items()
        }
    if not _is_nothing(value):
        faults.append(Fault(path, _shown(value), origin_of(node), "names below it, each with its own value"))
    return {}


def _scalar(kind: Any, node: Tree, path: str, attribute: attrs.Attribute[Any] | None, faults: list[Fault]) -> Any:
    value, origin = bare(node), origin_of(node)
    if isinstance(value, Repeated):
        return _scalar(kind, value.values[-1], path, attribute, faults)
    text = _text(value)
    if text is None:
        shape = "a list" if isinstance(value, (list, tuple)) else "options below it"
        faults.append(Fault(path, None, origin, expected_of(kind), problem=f"has {shape}"))
        return None
    parse = attribute.metadata.get("parse") if attribute is not None else None
    try:
        if parse is not None:
            return parse(text)
        # Before cattrs: it would take a Duration for the float that it is too.
        return kind.from_text(text) if hasattr(kind, "from_text") else _scalars.structure(text, kind)
    except ValueError as error:
        secret = attribute is not None and attribute.metadata.get("secret")
        nearest = nearest_of(text, list(_choices(kind)))
        faults.append(Fault(path, "***" if secret else text, origin, str(error), nearest))
        return None


def _fields(cls: type[Any]) -> dict[str, attrs.Attribute[Any]]:
    return _fields_of(cls)  # type: ignore[arg-type]  # mypy: a type[Any] might be unhashable


@functools.cache
def _fields_of(cls: type[Any]) -> dict[str, attrs.Attribute[Any]]:
    attrs.resolve_types(cls)
    return {key_of(field): field for field in attrs.fields(cls) if field.init}


def _unless_none(kind: Any) -> Any:
    """*T* of ``T | None``, else *kind* itself."""
    if typing.get_origin(kind) not in (Union, types.UnionType):
        return kind
    rest = [one for one in typing.get_args(kind) if one is not type(None)]
    if len(rest) == len(typing.get_args(kind)):
        return kind
    return rest[0] if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007


def bare(node: Tree) -> Any:
    """*node* without its :class:`Given`."""
    while isinstance(node, Given):
        node = node.value
    return node


def origin_of(node: Tree) -> str:
    """Where *node*, or the first thing in it that tells, was written; ``""`` if nothing tells."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Given):
            if one.origin:
                return one.origin
            waiting.append(one.value)
        elif isinstance(one, Mapping):
            waiting.extend(reversed(list(one.values())))
        elif isinstance(one, Repeated):
            waiting.extend(one.values)
        elif isinstance(one, (list, tuple)):
            waiting.extend(reversed(one))
    return ""


def _text(value: Any) -> str | None:
    """A scalar as it would be written on a command line; None if it is no scalar."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, (Mapping, list, tuple, Repeated)):
        return None
    return str(value)


def _shown(value: Any) -> str:
    text = _text(value)
    if text is not None:
        return text
    return "{...}" if isinstance(value, Mapping) else "[...]"


def _is_nothing(value: Any) -> bool:
    return value is None or value == "" or value == "{}"


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _quoted(text: str) -> str:
    return f'"{text}"' if len(text) <= _LONGEST else f'"{text[:_LONGEST]}..."'


def _one_line(text: str) -> str:
    """*text* with what would break or colour a line of a log written out."""
    return text if text.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


# ---- building trees


def insert(tree: MutableMapping[str, Tree], key: str, value: Any, origin: str = "", *, append: bool = False) -> None:
    """Put *value* into *tree* under a dotted key, as ``http.services.web.x[0].y``.

    Names that are there already are found without regard to case; new ones keep theirs. A value that is there
    already is replaced. ``true`` or nothing for something that has options below it changes nothing, and the other way
    round.

    :param append: keep what is there too, as :class:`Repeated`.
    :raises StructureError: an empty name in *key*, too many of them, or a key with a value and options below it.
    """
    names = _split(key, origin)
    node: MutableMapping[str, Tree] = tree
    for index, name in enumerate(names[:-1]):
        spelled = _spelling(node, name)
        child = bare(node.get(spelled))
        if not isinstance(child, MutableMapping):
            if spelled in node and not _is_on(child):
                at = ".".join(names[: index + 1])
                problem = "has a value and also options below it"
                raise StructureError((Fault(at, None, origin_of(node[spelled]) or origin, problem=problem),))
            child = {}
            node[spelled] = child
        node = child
    spelled = _spelling(node, names[-1])
    old, new = node.get(spelled), Given(value, origin)
    if isinstance(bare(old), Mapping):
        if isinstance(value, Mapping):
            node[spelled] = merge(bare(old), value)
        elif not _is_on(value):
            raise StructureError((Fault(key, None, origin, problem="has a value and also options below it"),))
    elif append and spelled in node:
        earlier = old.values if isinstance(old, Repeated) else (old if isinstance(old, Given) else Given(old),)
        node[spelled] = Repeated((*earlier, new))
    else:
        node[spelled] = new


def merge(base: Mapping[str, Tree], over: Mapping[str, Tree]) -> dict[str, Tree]:
    """Both trees in one; where both say something, *over* wins. Names are matched without regard to case."""
    merged = dict(base)
    for name, new in over.items():
        spelled = _spelling(merged, name)
        old = merged.get(spelled)
        if isinstance(bare(old), Mapping) and isinstance(bare(new), Mapping):
            merged[spelled] = merge(bare(old), bare(new))
        elif not (isinstance(bare(old), Mapping) and _is_on(new)):
            merged[spelled] = new
    return merged


def _split(key: str, origin: str) -> list[str]:
    names: list[str] = []
    for part in key.split("."):
        match = re.fullmatch(r"([^\[\]]+)((?:\[[0-9]{1,9}\])*)", part)
        if match is None:
            problem = "an empty name" if not part else f"not a name: {_quoted(part)}"
            raise StructureError((Fault(key, None, origin, "names with dots between them", problem=problem),))
        names.append(match[1])
        names.extend(re.findall("[0-9]+", match[2]))
    if len(names) > _DEEPEST:
        raise StructureError((Fault(key, None, origin, f"at most {_DEEPEST} names", problem="too many dots"),))
    return names


def _spelling(node: Mapping[str, Tree], name: str) -> str:
    """The spelling under which *node* has *name* already, else *name*."""
    if name in node:
        return name
    lower = name.lower()
    return next((one for one in node if str(one).lower() == lower), name)


def _is_on(node: Tree) -> bool:
    """Is it what switches a group of options on without giving any: ``true``, ``{}``, nothing?"""
    value = bare(node)
    if isinstance(value, Repeated):
        return all(map(_is_on, value.values))
    text = _text(value)
    return text is not None and text.lower() in ("", "true", "{}")


# ---- telling about options


@attrs.frozen
class Described:
    """One option, for help and reference pages.

    :ivar key: its dotted name; ``<name>`` stands for a name of the user's choice, ``[n]`` for an index.
    :ivar type: its type for people.
    :ivar default: as it would be written; ``""`` for empty, ``required`` if it has to be given.
    """

    key: str
    type: str
    default: str
    doc: str


def describe(cls: type[Any], path: str = "") -> Iterator[Described]:
    """Each option of *cls* and of the classes below it, in the order of their fields."""
    for key, field in _fields(cls).items():
        yield from _describe(field.type, _below(path, key), field)


def _describe(kind: Any, key: str, field: attrs.Attribute[Any]) -> Iterator[Described]:
    doc = field.metadata.get("doc", "")
    inner = _unless_none(kind)
    origin = typing.get_origin(inner)
    if _is_group(inner):
        if inner is not kind:
            yield Described(key, "on or off", "off" if field.default is None else "on", doc)
        yield from describe(inner, key)
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        value = typing.get_args(inner)[1]
        if _is_group(value):
            yield from describe(value, f"{key}.<name>")
        else:
            yield Described(f"{key}.<name>", type_text(value), "", doc)
    elif origin is tuple and _is_group(typing.get_args(inner)[0]):
        yield from describe(typing.get_args(inner)[0], f"{key}[n]")
    else:
        yield Described(key, type_text(inner), _default_text(field), doc)


def type_text(kind: Any) -> str:
    """A type's name for people."""
    kind = _unless_none(kind)
    origin = typing.get_origin(kind)
    if origin is tuple:
        item = typing.get_args(kind)[0]
        return "list" if _is_group(item) else f"list of {type_text(item)}"
    if kind == IPNetwork:
        return "IP network"
    if _choices(kind):
        return " | ".join(_choices(kind))
    names: dict[Any, str] = {str: "text", int: "number", float: "decimal number", bool: "true | false"}
    if kind in names:
        return names[kind]
    return (
        "duration" if isinstance(kind, type) and issubclass(kind, Duration) else getattr(kind, "__name__", "").lower()
    )


def expected_of(kind: Any) -> str:
    """What a value of a type looks like, after ``expected``."""
    kind = _unless_none(kind)
    if hasattr(kind, "expected"):
        return str(kind.expected)
    if _choices(kind):
        return _or(list(_choices(kind)))
    if _is_group(kind):
        return f"options below it: {_or(list(_fields(kind)))}"
    name = type_text(kind)
    return {"true | false": "true or false", "text": "text"}.get(name, f"a {name}")


def _default_text(field: attrs.Attribute[Any]) -> str:
    default: Any = field.default
    if default is attrs.NOTHING:
        return "required"
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = default.factory()
    if isinstance(default, enum.Enum):
        default = default.value
    if isinstance(default, tuple):
        return ",".join(str(one) for one in default)
    return _text(default) or ""
