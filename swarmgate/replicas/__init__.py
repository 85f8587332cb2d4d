"""Replicas of the gate tell each other of their traffic, so that each of them can show the whole gate's."""
