"""``python -m tests.fuzz TARGET --seconds N``: a target under atheris, from the corpus that is kept and the seeds.

What it finds is in the folder that ``--work`` names. What of it is worth to be played by the usual tests is copied to
``tests/fuzz/corpus`` by hand.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path

import atheris

CORPUS = Path(__file__).parent / "corpus"

with atheris.instrument_imports(
    include=[
        "swarmgate.http",
        "swarmgate.http2",
        "swarmgate.dynamic",
        "swarmgate.transport.client_hello",
        "swarmgate.transport.proxy_protocol",
        "swarmgate.balancing",
        "swarmgate.middlewares",
    ]
):
    from tests.fuzz.targets import TARGETS

from swarmgate.uncompiled import is_compiled  # noqa: E402
from tests.fuzz import seeds  # noqa: E402 (what is imported before is instrumented)


def main() -> None:
    """Fuzz one target; the exit code is libFuzzer's."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=[*TARGETS])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--work", type=Path, help="a folder for all that is found; it goes on with what is there")
    options = parser.parse_args()
    if is_compiled():
        parser.error("compiled modules don't tell which of their code is reached: set PURE_PYTHON=1")
    kept = CORPUS / options.target
    kept.mkdir(parents=True, exist_ok=True)
    work = options.work or Path(tempfile.mkdtemp(prefix="swarmgate-fuzz-"))
    work.mkdir(parents=True, exist_ok=True)
    for seed in seeds.of(options.target):
        (work / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    arguments = [
        *(sys.argv[0], str(work), str(kept), f"-max_total_time={options.seconds}", "-max_len=2048", "-timeout=5"),
        *("-rss_limit_mb=1024", "-print_final_stats=1", f"-artifact_prefix={work}/found-"),
    ]
    atheris.Setup(arguments, TARGETS[options.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
