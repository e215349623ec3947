"""What an error of the disk means for a result."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from die_algorithm.errors import DiskTrouble, NoRoom, ResultUnwritable

#: Bytes of a disk that results leave free, so that jobs can be recorded where the database lies there, too.
LEAST_FREE = 64 * 2**20
#: Of a small disk, they leave this part.
_LEAST_PART = 20
_FULL = {errno.ENOSPC, errno.EDQUOT}
#: What another moment may bring: the disk's own errors and those of a network before it, and what the machine
#: is short of.
_PASSING = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
}


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Turn errors of the disk on which results are published into ours.

    Raises:
        NoRoom: the disk is full.
        DiskTrouble: the result cannot be written, but that may pass.
        ResultUnwritable: it cannot be written, and will not be.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoRoom("The disk of the results has no room left.") from None
        # Without the file's name: whoever knows it may fetch the result.
        reason = error.strerror or type(error).__name__
        kind = DiskTrouble if error.errno in _PASSING else ResultUnwritable
        raise kind(f"The folder of the results cannot be written: {reason}.") from None


def leave_room(folder: Path, size: int) -> None:
    """See that a result does not take the last of its disk.

    Args:
        folder: on the disk.
        size: bytes that are to be written.

    Raises:
        OSError: it would, as if the disk were full.
    """
    disk = shutil.disk_usage(folder)
    if disk.free - size < min(LEAST_FREE, disk.total // _LEAST_PART):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
