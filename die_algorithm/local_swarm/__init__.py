"""A private Docker engine with a one-node Swarm and a registry, started for you on this machine.

It stands in for a real Swarm and for Docker Hub in the demo, in the tests and for image authors.
It lives in a network namespace of its own, so it disturbs neither an engine of the user's nor
another private one, and one state folder has one private Swarm.
"""

from die_algorithm.local_swarm.local_swarm import LocalSwarm

__all__ = ["LocalSwarm"]
