"""One at a time in a folder, across processes."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Seconds after which a person wonders.
_MOMENT = 1.0


@contextmanager
def folder_lock(folder: Path, message: str) -> Iterator[None]:
    """Keep others who lock the folder waiting until the block has ended.

    The kernel lets go of the lock when the process ends, however that happens.

    Args:
        folder: made if need be; the block may delete it.
        message: printed if one has to wait longer than a moment.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _lock(descriptor, message)
            if not _is_open_as(folder, descriptor):  # deleted while we waited
                continue
            yield
            return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, message: str) -> None:
    deadline = time.monotonic() + _MOMENT
    while time.monotonic() < deadline:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return
    print(message, flush=True)
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_open_as(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False
