"""The ``swarmgate`` command's first step: what the engine asks every few seconds needs nothing of the rest."""

from __future__ import annotations

import sys


def main() -> int:
    """Carry out the command; see :mod:`swarmgate.cli`."""
    if sys.argv[1:] == ["healthcheck"]:
        from swarmgate import healthcheck

        url = healthcheck.noted(1)
        if url:
            return healthcheck.tell(url)
    from swarmgate import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
