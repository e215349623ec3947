"""The place of the one worker of a jobs' database on this machine: whoever holds the file's lock."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from pathlib import Path

LOGGER = logging.getLogger(__name__)

_LOOK_AGAIN = 1.0


class WorkerPlace:
    """Held by one process at a time; when it dies, however it dies, the next one gets it.

    Args:
        path: the lock file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        # A forked child inherits the lock, and would keep it when this process is long gone.
        os.register_at_fork(after_in_child=self.leave)

    def take(self, stopping: threading.Event) -> bool:
        """Wait for the place.

        Returns:
            Whether it was taken; False if ``stopping`` was set before.
        """
        complained = False
        while not stopping.is_set():
            try:
                self._lock()
            except BlockingIOError:
                pass  # somebody else has it
            except OSError:
                self.leave()
                if not complained:
                    LOGGER.exception("The worker's place cannot be taken; it is tried again.")
                complained = True
            else:
                return True
            stopping.wait(_LOOK_AGAIN)
        return False

    def leave(self) -> None:
        """Let the next one have it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _lock(self) -> None:
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
