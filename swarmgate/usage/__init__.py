"""How much of nodes and tasks is in use, as the Swarm's agents tell the gate."""
