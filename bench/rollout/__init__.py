"""Requests that fail while a Swarm changes: swarmgate beside Traefik on a real Swarm of three managers.

``scenarios`` says what happens, ``proxies`` how each proxy is deployed, ``load`` has k6 ask and reads what it wrote,
``report`` makes a table and a plot of it, ``__main__`` does one after the other.
"""
