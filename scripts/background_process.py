"""A program that goes on in the background, found again by its pid file and log."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_STOP_PATIENCE = 35.0


class BackgroundProcess:
    """One program, at most one of it in a state folder.

    Args:
        name: of its pid file and its log.
        state: the folder for both.
    """

    def __init__(self, name: str, state: Path) -> None:
        self.name = name
        self.log = state / f"{name}.log"
        self._pid_file = state / f"{name}.pid"

    @property
    def pid(self) -> int | None:
        """Its process id, or None if it does not run. A pid that now is another's counts as none."""
        try:
            pid, born = self._pid_file.read_text().split()
            return int(pid) if _born(int(pid)) == born else None
        except (OSError, ValueError):
            return None

    def start(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        is_ready: Callable[[], bool],
        patience: float = 60.0,
    ) -> None:
        """Start it and wait until it is ready.

        Raises:
            RuntimeError: it ended, or was not ready in time; holds the end of its log.
        """
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **environment},
            )  # fmt: skip
        self._pid_file.write_text(f"{process.pid} {_born(process.pid)}")
        deadline = time.monotonic() + patience
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} did not start:\n{self._last_words()}")
            time.sleep(0.05)
        process.returncode = 0  # it outlives us: nobody waits for it here

    def stop(self) -> None:
        """End it: SIGTERM first, SIGKILL after its patience."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_PATIENCE
            while self.pid is not None:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                _reap(pid)
                time.sleep(0.05)
        self._pid_file.unlink(missing_ok=True)

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


def _born(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None if there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _reap(pid: int) -> None:
    """Let go of a child that has ended, if it is ours."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
