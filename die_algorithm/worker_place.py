"""The place of the one worker on this machine: whoever holds the file's lock.

The file holds the worker's name, so that the one who gets the place after a crash knows what its
forerunner held. It also says which file it is, and since which start of the machine: whoever finds himself
with a copy, of the file or of the whole machine, must not go by the name of the one who has the original.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import uuid
from contextlib import suppress
from pathlib import Path

LOGGER = logging.getLogger(__name__)

_LOOK_AGAIN = 1.0
_LONGEST = 200
#: Made anew at each start of the machine (random(4)); containers see their host's.
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class WorkerPlace:
    """Held by one process at a time; when it dies, however it dies, the next one gets it.

    Args:
        path: the lock file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        #: What the worker is called in the jobs' database; known once the place is taken.
        self.name = ""
        # A forked child inherits the lock, and would keep it when this process is long gone.
        os.register_at_fork(after_in_child=self.leave)

    def take(self, stopping: threading.Event) -> bool:
        """Wait for the place.

        Returns:
            Whether it was taken; False if ``stopping`` was set before.
        """
        waits = complained = False
        while not stopping.is_set():
            try:
                self._lock()
            except BlockingIOError:
                if not waits:
                    LOGGER.info("Another worker has the place here; this one waits until it ends.")
                waits = True
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
        here = _mark(self._descriptor)
        name, _, there = (
            os.pread(self._descriptor, _LONGEST, 0).decode("ascii", "replace").partition(" ")
        )
        if there != here:
            name = str(uuid.uuid4())
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{name} {here}".encode(), 0)
        self.name = name


def _mark(descriptor: int) -> str:
    """What tells an open file from all copies of it."""
    boot_id = ""
    with suppress(OSError):  # not every sandbox has one
        boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
    file = os.fstat(descriptor)
    return f"{boot_id} {file.st_dev} {file.st_ino}"
