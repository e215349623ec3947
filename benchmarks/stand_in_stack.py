"""The service with the stand-in engine, for more jobs than real containers would fit on one machine."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local_stack import LocalStack

from benchmarks.processes import family

TESTS = Path(__file__).resolve().parent.parent / "tests"


class StandIn:
    """A stand-in engine as a process of its own.

    Args:
        socket_path: where it listens.
    """

    def __init__(self, socket_path: Path) -> None:
        self.docker_host = f"unix://{socket_path}"
        self._control = f"{socket_path}.control"

    def history(self) -> dict[str, Any]:
        """What has happened: ``starts``, ``alive``, ``services``, ``calls``."""
        return dict(self._ask("GET", "/_history"))

    def fault(self, name: str, **arguments: object) -> None:
        """Let something go wrong."""
        self._ask("POST", "/_faults", json.dumps({"fault": name, **arguments}))

    def _ask(self, method: str, path: str, body: str | None = None) -> Any:  # noqa: ANN401 - JSON
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(self._control)
            connection.request(method, path, body)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


@contextmanager
def stand_in_stack(
    state: Path, settings: Mapping[str, str]
) -> Iterator[tuple[LocalStack, StandIn, dict[str, str]]]:
    """Engine, embedded StorageHub and service; gives the stack, the engine and what there is to know."""
    state.mkdir(parents=True, exist_ok=True)
    socket_path = state / "engine.sock"
    engine = subprocess.Popen(
        [sys.executable, "-m", "stand_in_engine", "--socket", socket_path],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
    )
    try:
        if engine.stdout is None or not engine.stdout.readline():
            raise RuntimeError("The stand-in engine does not start.")
        stand_in = StandIn(socket_path)
        stack = LocalStack(state, stand_in.docker_host, settings)
        try:
            yield stack, stand_in, stack.up()
        finally:
            stack.purge()
    finally:
        engine.send_signal(signal.SIGTERM)
        engine.wait()


def kill_service(pid: int) -> None:
    """End the web process as a crash would, and wait until its worker has ended as well."""
    children = family(pid)[1:]
    os.kill(pid, signal.SIGKILL)
    while any(Path(f"/proc/{child}").exists() for child in children):
        time.sleep(0.02)
