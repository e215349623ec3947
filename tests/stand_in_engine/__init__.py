"""A stand-in for the Docker engine: the API of a one-node Swarm, with simulated containers and faults.

It speaks as engine 20.10 does (``tests/contract/test_swarm.py`` holds it to the real one) and costs
next to nothing: a container that sleeps is an entry in a heap. Its programs are those of
``tests/images/probe``; those that write do it for real, to the StorageHub that their environment names.

======== ===========================================================================
engine   the whole: what tests start, ask and break
door     HTTP over Unix sockets, and what goes wrong with connections
api      the engine's paths and JSON
filters  what lists are asked for
cluster  the Swarm: services, their tasks, the containers, and what goes wrong with them
service  one service, and what makes its spec impossible
secret   one secret
task     one task and its container
image    what the registry knows
program  what a container does
upload   how it writes
schedule what happens later
======== ===========================================================================

In a test::

    with StandInEngine(tmp_path / "engine.sock") as engine:
        swarm = Swarm(engine.docker_host)

As a process of its own (``GET /_history`` and ``POST /_faults``, also at ``PATH.control``, which
answers even while the engine is away)::

    PYTHONPATH=tests python -m stand_in_engine --socket PATH
"""

from stand_in_engine.cluster import End, Start
from stand_in_engine.engine import StandInEngine

__all__ = ["End", "StandInEngine", "Start"]
