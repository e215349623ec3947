"""``make bench``: the service measured against the bare Swarm and against curl, as ratios in one run."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from local_stack import LocalStack
from swarm_fixture import publish_probe

from benchmarks.large_result import measure_large_result
from benchmarks.load import measure_load
from benchmarks.no_op import measure_no_op
from benchmarks.throughput import AT_ONCE, measure_throughput


def main() -> int:
    """Run all benchmarks on a stack of their own.

    Returns:
        0 if every aim is met, else 1.
    """
    state = Path(tempfile.mkdtemp(prefix="die-bench-"))
    # One user has half of the places, and is all users here.
    places = {"DIE_MAX_SYNC": str(2 * AT_ONCE), "DIE_THREADS": str(3 * AT_ONCE)}
    stack = LocalStack(state, settings=places)
    try:
        facts = stack.up()
        if stack.swarm is None:
            raise RuntimeError("The benchmarks run on a private engine only.")
        publish_probe(stack.swarm)
        docker_host = stack.swarm.docker_host
        lines = [
            *measure_no_op(facts, docker_host),
            *measure_throughput(facts, docker_host),
            *measure_large_result(facts),
        ]
    finally:
        stack.purge()
    lines += measure_load(Path(tempfile.mkdtemp(prefix="die-load-")))
    print()
    for line in lines:
        print(line)
    return 0 if all(line.met for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
