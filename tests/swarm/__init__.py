"""The suite that runs on a real Swarm: its laboratory, and what is tested there.

Modules of tests are named ``suite_*.py``, so that a plain ``trial tests`` leaves them alone: they need root and
Docker's packages, and where a Swarm can't be started they fail.
"""
