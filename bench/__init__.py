"""The same work done by swarmgate, Traefik, nginx and HAProxy in one run: ``python -m bench``."""
