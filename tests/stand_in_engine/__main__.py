"""The stand-in as a process of its own, until it is sent SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from stand_in_engine.engine import StandInEngine


def main() -> None:
    """Run it; print its address when it answers."""
    parser = argparse.ArgumentParser(prog="stand_in_engine", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, help="where to listen")
    parser.add_argument("--start-delay", type=float, default=0.005, help="seconds")
    parser.add_argument("--poll", type=float, default=0.002, help="seconds")
    options = parser.parse_args()
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # for the threads to come, too
    with StandInEngine(
        options.socket, start_delay=options.start_delay, poll=options.poll
    ) as engine:
        print(engine.docker_host, flush=True)  # noqa: T201 - for whoever waits for it
        signal.sigwait(signals)


if __name__ == "__main__":
    main()
