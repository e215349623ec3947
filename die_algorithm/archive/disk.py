"""What an error of the disk means for a result."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from die_algorithm.errors import NoRoom, ResultUnwritable

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Turn errors of the disk on which results are published into ours.

    Raises:
        NoRoom: the disk is full.
        ResultUnwritable: it is not, but the result cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoRoom("The disk of the results has no room left.") from None
        # Without the file's name: whoever knows it may fetch the result.
        reason = error.strerror or type(error).__name__
        raise ResultUnwritable(f"The folder of the results cannot be written: {reason}.") from None
