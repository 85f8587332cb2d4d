"""Attacks and loads on a gate, each with its figure and its bound: ``python -m bench.attacks``."""
