"""What the gate knows, as JSON over HTTP: Traefik's read API, the Swarm, and changes as they happen."""
