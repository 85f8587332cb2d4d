"""What fuzzing has found, and where it begins, played to the parsers again."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import seeds
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "fuzz" / "corpus"


class ReplayTests(SynchronousTestCase):
    def test_seeds(self) -> None:
        """Octets of the kind that each parser is for break none of them."""
        for name, target in TARGETS.items():
            found = list(seeds.of(name))
            self.assertTrue(found, name)
            for octets in found:
                target(octets)

    def test_corpus(self) -> None:
        """Octets that once reached something new, or broke it, break nothing."""
        names = {folder.name for folder in CORPUS.iterdir() if folder.is_dir()}
        self.assertLessEqual(names, set(TARGETS))
        for name in sorted(names):
            for file in sorted((CORPUS / name).iterdir()):
                TARGETS[name](file.read_bytes())
