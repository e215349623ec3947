"""The worker as a process of its own, started and supervised by the web process.

The two are joined by pipes, which carry hints and no more: a line to the worker says that a job was
accepted or is to be cancelled, a line from it that a job, whose id it holds, has ended, or, if it is
empty, that the worker lives. What is true stands in the database. When the web process ends, however
it does, the worker's standard input ends, and it stops. A worker process that is silent, because something
has frozen it whole, is killed and replaced. What it does is not looked at from here: one whose loop has
ended, or hangs, ends by itself, and is replaced, too.

What the web process hands over to each worker it starts, settings with their secrets among it, is in a
file that has no name and is in memory alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

LOGGER = logging.getLogger(__name__)

_HINT = b"\n"
#: Seconds until a worker that ended is started again: the first time, and after many.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
#: A worker that has lived so long was no failed start.
_GOOD_LIFE = 60.0
#: Seconds that a worker gets to end in good order.
_STOP_TIME = 5.0
#: Seconds between two signs of life.
_SIGN_OF_LIFE = 1.0
#: Milliseconds in which one must come that was silent for too long.
_LAST_CHANCE = 2000 * _SIGN_OF_LIFE


class WorkerProcess:
    """Keeps one worker process running.

    Args:
        command: starts it, followed by the number of the descriptor of what is handed over.
        handed_over: what it is to read first.
        on_end: called with the id of each job that it says has ended.
        silence: how long it may be silent before it is killed.
    """

    def __init__(
        self,
        command: Sequence[str],
        handed_over: bytes,
        on_end: Callable[[str], None],
        silence: timedelta,
    ) -> None:
        self._command = list(command)
        self._handed_over = handed_over
        self._on_end = on_end
        self._silence = silence.total_seconds()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start it, and start it again whenever it ends."""
        self._thread.start()

    def wake(self) -> None:
        """Tell it that there is something to do. Never waits."""
        with self._lock:
            process = self._process
            if process is not None and process.stdin is not None:
                with contextlib.suppress(OSError):  # it is full of hints, or the worker is gone
                    os.write(process.stdin.fileno(), _HINT)

    def end(self) -> None:
        """Ask it to end; its jobs go on at the next start. Does not wait."""
        self._stopping.set()
        with self._lock:
            if self._process is not None:
                self._process.terminate()

    def stop(self) -> None:
        """End it, and wait until it has ended. One that hangs is killed: no job is lost by that."""
        self.end()
        self._thread.join(_STOP_TIME)
        with self._lock:
            if self._process is not None:
                LOGGER.warning("The worker does not end in time; it is killed.")
                self._process.kill()
        self._thread.join()

    def _supervise(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            born = time.monotonic()
            try:
                reason = self._run_once()
            except Exception:  # the worker must be kept running, whatever nobody foresaw
                LOGGER.exception("The worker cannot be supervised.")
                reason = "was lost"
            if time.monotonic() - born > _GOOD_LIFE:
                pause = _FIRST_PAUSE
            if not self._stopping.wait(pause):
                LOGGER.error("The worker %s; it is started again.", reason)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _run_once(self) -> str:
        """Start the worker, and listen to it until it ends.

        Returns:
            How it ended.
        """
        try:
            process = self._born()
        except OSError:
            LOGGER.exception("The worker cannot be started.")
            return "was not started"
        with process:
            if process.stdin is None or process.stdout is None:
                raise AssertionError("a pipe was asked for")
            os.set_blocking(process.stdin.fileno(), False)
            with self._lock:
                self._process = process
            if self._stopping.is_set():
                process.terminate()
            is_silent = False
            try:
                is_silent = self._listen(process.stdout.fileno())
            finally:
                with self._lock:
                    if is_silent:
                        process.kill()
                    self._process = None
        return "was silent, and was killed" if is_silent else _end_of(process.returncode)

    def _born(self) -> subprocess.Popen[bytes]:
        # Anew for each: those who share a file share the place where they read it.
        with os.fdopen(os.memfd_create("die-worker"), "w+b") as file:
            file.write(self._handed_over)
            file.seek(0)
            return subprocess.Popen(
                [*self._command, str(file.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(file.fileno(),),
                # Ctrl-C is for the web process, which stops its worker in its own time.
                process_group=0,
            )

    def _listen(self, pipe: int) -> bool:
        """Take the worker's lines until it ends.

        Returns:
            Whether it has not ended, but is silent.
        """
        poll = select.poll()  # select() takes no descriptor beyond 1023, and clients may have those
        poll.register(pipe, select.POLLIN)
        rest, silence = b"", None  # how long it takes to start, nobody can say
        # Twice: where both were frozen together, the time was over before the worker could say a word.
        while poll.poll(silence) or poll.poll(_LAST_CHANCE):
            silence = self._silence * 1000
            received = os.read(pipe, 4096)
            if not received:
                return False
            *lines, rest = (rest + received).split(_HINT)
            for line in lines:
                if line:
                    self._on_end(line.decode("ascii", "replace"))
        return True


def _end_of(code: int) -> str:
    if code >= 0:
        return f"has ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def read_handed_over(descriptor: int) -> bytes:
    """What the supervisor has handed over, in the worker.

    Args:
        descriptor: the number that it was started with.
    """
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


class Supervisor:
    """The worker's end of the pipes.

    Args:
        wake: called for each hint.
        stop: called when the supervisor has gone.
    """

    def __init__(self, wake: Callable[[], None], stop: Callable[[], None]) -> None:
        self._wake = wake
        self._stop = stop
        os.set_blocking(sys.stdout.fileno(), False)
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (("hints", self._listen), ("signs of life", self._show_life))
        ]

    def listen(self) -> None:
        """Take hints, and give signs of life, from now on."""
        for thread in self._threads:
            thread.start()

    @staticmethod
    def tell(job_id: str) -> None:
        """Say that a job has ended. Never waits: a supervisor that does not listen looks by itself."""
        with contextlib.suppress(OSError):
            os.write(sys.stdout.fileno(), job_id.encode() + _HINT)

    def _show_life(self) -> None:
        while True:
            self.tell("")
            time.sleep(_SIGN_OF_LIFE)

    def _listen(self) -> None:
        while os.read(sys.stdin.fileno(), 4096):
            self._wake()
        self._stop()
