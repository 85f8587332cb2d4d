"""A reverse proxy for Docker Swarm, on Twisted, that reads Traefik's labels."""

__version__ = "0.1.0"
