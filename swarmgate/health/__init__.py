"""Servers are asked, again and again, whether they are well (Traefik ``loadBalancer.healthCheck``)."""
