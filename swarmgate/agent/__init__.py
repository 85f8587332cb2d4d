"""A swarmgate on every node that tells how much of the node, and of its containers, is in use: ``swarmgate agent``."""
