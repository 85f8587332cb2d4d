"""The reference page of the middlewares, made from their documentation.

``python -m swarmgate.middlewares.reference`` prints the page ``docs/reference/middlewares.rst``.
"""

from __future__ import annotations

import inspect
import sys

from swarmgate.middlewares import KINDS, module_of
from swarmgate.structure import describe

_INTRODUCTION = """\
Middlewares
===========

.. This page is made by ``python -m swarmgate.middlewares.reference``.

A middleware is a step between a router and its service. It is defined under a name by labels of a service::

    traefik.http.middlewares.limit.rateLimit.average=100
    traefik.http.routers.web.middlewares=limit

or in a file::

    http:
      middlewares:
        limit:
          rateLimit:
            average: 100

A router's middlewares work in the order in which it lists them, on the request, and in the reverse order on the
answer. A router that names a middleware which does not exist, or whose options contradict each other, is not in force.
"""


def reference_page() -> str:
    """The page of the documentation that lists all middlewares and their options, in reStructuredText."""
    parts = [_INTRODUCTION]
    for module in map(module_of, sorted(KINDS)):
        summary, _, rest = inspect.cleandoc(module.__doc__ or "").partition(": ")
        text = rest[:1].upper() + rest[1:] if summary == f"``{module.KIND}``" else f"{summary}: {rest}"
        rows = [("Option", "Type", "Default", "What it is for")]
        for one in describe(module.Settings):
            default = one.default if one.default in ("", "required") else f"``{one.default}``"
            rows.append((f"``{one.key}``", one.type, default, one.doc.replace("*", "\\*")))
        cells = [f"   {'*' if index == 0 else ' '} - {cell}".rstrip() for row in rows for index, cell in enumerate(row)]
        table = [".. list-table::", "   :header-rows: 1", "   :widths: 35 20 15 60", "", *cells]
        parts += [module.KIND, "-" * len(module.KIND), "", text, "", *table, ""]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(reference_page())
