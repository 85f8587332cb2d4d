"""Services without a rule get one from their name."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.default_rule import normalize, parse_default_rule
from swarmgate.dynamic.rules import RuleError

LABELS = {"host": "Shop.example", "com.docker.stack.namespace": "my_stack", "empty": ""}


def rendered(template: str) -> str:
    """The rule of a service called my_stack_web.v1."""
    return parse_default_rule(template).render("my_stack_web.v1", LABELS, "my_stack_web.v1.3")


class DefaultRuleTests(SynchronousTestCase):
    def test_templates(self) -> None:
        """Traefik's templates that make names work as they are."""
        for template, expected in {
            "Host(`{{ normalize .Name }}`)": "Host(`my-stack-web-v1`)",
            "Host(`{{ .Name }}.example`)": "Host(`my-stack-web-v1.example`)",
            "Host(`{{.ContainerName | normalize}}`)": "Host(`my-stack-web-v1-3`)",
            "Host(`{{ index .Labels \"host\" }}`)": "Host(`Shop.example`)",
            "Host(`{{ index .Labels `com.docker.stack.namespace` | normalize }}.x`)": "Host(`my-stack.x`)",
            "Host(`{{ .Labels.host | lower }}`)": "Host(`shop.example`)",
            "Host(`{{ .Name | trimPrefix \"my-\" | trimSuffix \"-v1\" | upper }}`)": "Host(`STACK-WEB`)",
            "Host(`{{ .Name | replace \"-\" \".\" }}`)": "Host(`my.stack.web.v1`)",
            "Host(`{{ trimPrefix (index .Labels \"com.docker.stack.namespace\") \"my_stack_x\" }}`)": "Host(`_x`)",
            "Host(`{{ index .Labels \"none\" | default \"a.b\" }}`)": "Host(`a.b`)",
            "Host(`{{ default (lower .Name) .Labels.empty }}`)": "Host(`my-stack-web-v1`)",
            "Host(`{{ trunc 2 .Name }}{{ .Name | trunc -2 }}`)": "Host(`myv1`)",
            "  Host(`{{- .Name -}}  `) ": "Host(`my-stack-web-v1`)",
            "Host(`plain`)": "Host(`plain`)",
            "{{ index .Labels \"none\" }}": "",
            "": "",
        }.items():  # fmt: skip
            self.assertEqual(rendered(template), expected, template)

    def test_normalize(self) -> None:
        """Runs of what is neither letter nor digit become one dash, and none at the ends."""
        for name, expected in {
            "my_stack_web.v1": "my-stack-web-v1",
            "__a--b__": "a-b",
            "Käse/Brot": "Käse-Brot",
            "a": "a",
            "_": "",
        }.items():
            self.assertEqual(normalize(name), expected)

    def test_faults(self) -> None:
        """A template that can't be read says where, why, and what was probably meant."""
        for template, (position, part) in {
            "Host(`{{ normalise .Name }}`)": (9, "did you mean normalize?"),
            "Host(`{{ .Nmae }}`)": (9, "did you mean .Name?"),
            "Host(`{{ .Name ": (6, "a {{ without its }}"),
            "{{ }}": (3, "nothing in a template"),
            "{{ .Name .Name }}": (9, "expected | or }}"),
            "{{ .Name | .Name }}": (11, "a pipe into what is no function"),
            "{{ normalize }}": (3, "expected 1 value"),
            "{{ replace .Name }}": (3, "expected 3 values"),
            "{{ index .Name `x` }}": (9, "index of something else"),
            "{{ .Labels }}": (3, "a label is written"),
            "{{ .Labels.a.b }}": (3, "a label is written"),
            "{{ trunc .Name .Name }}": (9, "a whole number"),
            "{{ lower 5 }}": (9, "a field such as .Name"),
            "{{ (.Name }}": (3, "a ( without its )"),
            "{{ $x := 1 }}": (3, "expected a field"),
            "{{ range .Labels }}{{ end }}": (3, "unknown function range"),
            '{{ lower "\\q" }}': (10, "escape"),
            "{{ " + "(" * 100 + ".Name": (0, "without its }}"),
            "{{ " + "(" * 100 + " }}": (35, "levels of parentheses"),
        }.items():
            error = self.assertRaises(RuleError, parse_default_rule, template)
            self.assertEqual((error.position, part in str(error)), (position, True), f"{template}: {error}")

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.sampled_from(["{{", "}}", ".Name", "lower", "index", ".Labels", "|", "(", ")", '"', "`", " ", "-", "x", "1"]), max_size=14))  # fmt: skip  # noqa: E501
    def test_any_text(self, pieces: list[str]) -> None:
        """Whatever is given, it is a template or refused with a reason."""
        try:
            self.assertIsInstance(rendered("".join(pieces)), str)
        except RuleError as error:
            self.assertTrue(error.reason)
