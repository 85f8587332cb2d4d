"""What ``--help`` and the reference page say about the options, made from their documentation.

``python -m swarmgate.config.reference`` prints the page ``docs/reference/static.rst``.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable
from typing import Any

from swarmgate.config.agent import AgentConfiguration
from swarmgate.config.model import StaticConfiguration
from swarmgate.config.sources import PREFIX
from swarmgate.structure import Described, describe

_INTRODUCTION = f"""\
Options
=======

.. This page is made by ``python -m swarmgate.config.reference``.

Options come from three places: a YAML or TOML file, environment variables, and the command line. They add up; where
two of them say something, the command line wins over the environment, and the environment over the file. Names are
matched without regard to case::

    --entryPoints.web.address=:80

    {PREFIX}ENTRYPOINTS_WEB_ADDRESS=:80

    entryPoints:
      web:
        address: ":80"

The file is named by ``--config`` or ``{PREFIX}CONFIG``. Lists are separated by commas, or given by several options;
durations are written as ``1m30s``, ``500ms``, or as a whole number of seconds. An option that is "on or off" is
switched on by its name alone, or by any option below it.
"""


_AGENT = """
.. _agent-options:

Options of ``swarmgate agent``
------------------------------

An agent takes these, and ``log``, from the same places. What it is for is in :doc:`/agent`.
"""


def help_text(of: type[Any] = StaticConfiguration) -> str:
    """The options as ``--help`` lists them: a line of name, type and default for each, and what it is for below."""
    lines = []
    for one in describe(of):
        default = one.default if one.default == "required" else f"default {one.default}" if one.default else ""
        lines.append(f"  --{one.key}  ({', '.join(part for part in (one.type, default) if part)})")
        doc = one.doc.replace("``", "")
        lines.extend(textwrap.wrap(doc, 100, initial_indent=" " * 8, subsequent_indent=" " * 8))
    return "\n".join(lines) + "\n"


def reference_page() -> str:
    """The page of the documentation that lists all options, in reStructuredText."""
    agents = [one for one in describe(AgentConfiguration) if one.key.startswith("agent.")]
    return "\n".join([_INTRODUCTION, *_table(describe(StaticConfiguration)), _AGENT, *_table(agents)]) + "\n"


def _table(options: Iterable[Described]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 40 15 15 60", ""]
    rows = [("Option", "Type", "Default", "What it is for")]
    for one in options:
        default = one.default if one.default in ("", "required") else _literal(one.default)
        rows.append((_literal(one.key), one.type, default, one.doc))
    for row in rows:
        for index, cell in enumerate(row):
            lines.append(f"   {'*' if index == 0 else ' '} - {cell}".rstrip())
    return lines


def _literal(text: str) -> str:
    # Backticks within would end the literal: a space beside them keeps them in.
    return f"``{text} ``" if text.endswith("`") else f"``{text}``"


if __name__ == "__main__":
    sys.stdout.write(reference_page())
