"""A program that goes on in the background, found again by a mark in its environment."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

#: Names the state folder and the program; set for such programs only.
_MARK = "BACKGROUND_PROCESS"
_SHOWN_LINES = 20
#: Each signal, and how many seconds it is given.
_ENDINGS = ((signal.SIGTERM, 35.0), (signal.SIGKILL, 10.0))


class BackgroundProcess:
    """One program, at most one of it for a state folder.

    It is found again even if the folder has been deleted meanwhile, and a process that only has the
    id of one that ended is not taken for it, as could happen with a file of its id.

    Args:
        name: of the program and its log.
        state: the folder of the log.
    """

    def __init__(self, name: str, state: Path) -> None:
        self.name = name
        self.log = state / f"{name}.log"
        self._mark = f"{state.resolve() / name}"

    @property
    def pid(self) -> int | None:
        """Its process id, or None if it does not run; not that of a process that it started."""
        pids = set(self._pids())
        return next((pid for pid in pids if _parent(pid) not in pids), None)

    @property
    def environment(self) -> dict[str, str] | None:
        """The environment that it was started with, or None if it does not run."""
        pid = self.pid
        environment = {} if pid is None else _environment(pid)
        return environment if environment.pop(_MARK, None) else None

    def start(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        is_ready: Callable[[], bool],
        patience: float = 60.0,
    ) -> None:
        """Start it and wait until it is ready.

        Raises:
            RuntimeError: it ended, or was not ready in time; names its log and holds its end.
        """
        with self.log.open("ab") as log:
            begin = log.tell()
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **environment, _MARK: self._mark},
            )  # fmt: skip
        deadline = time.monotonic() + patience
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"The program '{self.name}' did not start. {self._said(begin)}")
            time.sleep(0.05)
        process.returncode = 0  # it outlives us: nobody waits for it here

    def stop(self) -> None:
        """End it: SIGTERM first, SIGKILL after its patience; then what it has left."""
        pid = self.pid
        for each in ([] if pid is None else [pid]) + list(self._pids()):
            self._end(each)

    def _end(self, pid: int) -> None:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            for number, patience in _ENDINGS:
                if not self._is_it(pid):  # else the handle may be of one that took over the id
                    return
                signal.pidfd_send_signal(handle, number)
                if ended.poll(patience * 1000):
                    return
        except ProcessLookupError:
            return
        finally:
            os.close(handle)

    def _pids(self) -> Iterator[int]:
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and self._is_it(int(entry.name)):
                yield int(entry.name)

    def _is_it(self, pid: int) -> bool:
        return _environment(pid).get(_MARK) == self._mark

    def _said(self, begin: int) -> str:
        """What it has logged from a byte of its log on."""
        lines = self.log.read_bytes()[begin:].decode(errors="replace").splitlines()
        if not lines:
            return f"It wrote nothing into its log, {self.log}."
        return "\n".join([f"The end of its log, {self.log}:", *lines[-_SHOWN_LINES:]])


def _parent(pid: int) -> int:
    """The process that a process was started by; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[1])


def _environment(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty if it ended or is another user's."""
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (os.fsdecode(pair).partition("=") for pair in content.split(b"\0") if pair)
    return {name: value for name, _, value in pairs}
