"""That a disk is not about to be full."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from die_algorithm.archive import LEAST_FREE

#: MiB of a disk that must be free, so that jobs can be recorded; results leave as much.
_ROOM = LEAST_FREE // 2**20


def demand_room(folder: Path) -> None:
    """See that a disk is not about to be full.

    Raises:
        OSError: it is.
    """
    if shutil.disk_usage(folder).free < LEAST_FREE:
        raise OSError(errno.ENOSPC, f"less than {_ROOM} MiB of the disk are free")
