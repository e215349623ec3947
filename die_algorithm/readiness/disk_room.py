"""That a disk is not about to be full."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

#: MiB of a disk that must be free: enough to record jobs and to publish small results.
_ROOM = 64


def demand_room(folder: Path) -> None:
    """See that a disk is not about to be full.

    Raises:
        OSError: it is.
    """
    if shutil.disk_usage(folder).free < _ROOM * 2**20:
        raise OSError(errno.ENOSPC, f"less than {_ROOM} MiB of the disk are free")
