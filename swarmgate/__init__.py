"""A reverse proxy for Docker Swarm, on Twisted, that reads Traefik's labels."""

import os
import sys

__version__ = "0.1.0"

if os.environ.get("PURE_PYTHON"):
    from swarmgate.uncompiled import sources

    sys.path_hooks.insert(0, sources)
