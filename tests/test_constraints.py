"""Constraints choose the Swarm services that are looked at."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from swarmgate.dynamic.constraints import parse_constraints
from swarmgate.dynamic.rules import RuleError

LABELS = {"public": "yes", "stage": "testing-2"}


class ConstraintTests(SynchronousTestCase):
    def test_expressions(self) -> None:
        """Labels are compared whole, or searched; what isn't there is empty."""
        for text, expected in {
            "": True,
            "  ": True,
            "Label(`public`,`yes`)": True,
            'Label("public", "ye")': False,
            "Label(`missing`,``)": True,
            "!Label(`missing`,``)": False,
            "LabelRegex(`stage`,`^test`)": True,
            "LabelRegex(`stage`,`[0-9]$`) && Label(`public`,`no`)": False,
            "LabelRegex(`stage`,`^prod`) || Label(`public`,`yes`)": True,
            "LabelRegex(`missing`,`.`)": False,
            "labelregex(`stage`,`2`) && !(LABEL(`public`,`no`) || Label(`stage`,`x`))": True,
        }.items():
            self.assertIs(parse_constraints(text)(LABELS), expected, text)

    def test_faults(self) -> None:
        """A constraint that can't be read says where and why."""
        for text, (position, part) in {
            "Lable(`a`,`b`)": (0, "did you mean Label?"),
            "Label(`a`)": (0, "expected 2 values"),
            "Label(``,`b`)": (6, "without the name of a label"),
            "LabelRegex(`a`,`(`)": (15, "no regular expression"),
            "Label(`a`,`b`) Label(`a`,`b`)": (15, "&& or ||"),
            "Host(`a`)": (0, "expected Label or LabelRegex"),
        }.items():
            error = self.assertRaises(RuleError, parse_constraints, text)
            self.assertEqual((error.position, part in str(error)), (position, True), f"{text}: {error}")

    @settings(max_examples=100, deadline=None)
    @given(st.text(alphabet='Label(`",)&|! Regex', max_size=40))
    def test_any_text(self, text: str) -> None:
        """Whatever is given, it is a constraint or refused with a reason."""
        try:
            self.assertIn(parse_constraints(text)(LABELS), (True, False))
        except RuleError as error:
            self.assertTrue(error.reason)
