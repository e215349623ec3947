"""The file of an SQLite database: whether it is still the one that was opened.

SQLite goes on writing into a file that was removed or replaced, and what it writes is lost with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: What SQLite keeps beside the file: what is not in it yet, and who uses it.
_BESIDE = ("-wal", "-shm")

#: Device and inode.
_Identity = tuple[int, int]


class DatabaseFile:
    """Looks at the file by its name.

    Args:
        path: the database's.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: dict[str, _Identity | None] = {}

    @property
    def is_the_opened_one(self) -> bool:
        """Whether the file of that name is the one that was opened last."""
        opened = self._opened.get("")
        return opened is not None and opened == self._identity("")

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Open the database in the block, while nobody else does.

        The file is made if there is none. What lies beside it and belongs to one that is gone is
        removed before: SQLite would write it into the new one.

        Raises:
            OSError: folder or file are not there, and cannot be made.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):  # not every file system has locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._remove_remains()
            self._make()
            yield
            self._opened = {suffix: self._identity(suffix) for suffix in ("", *_BESIDE)}
        finally:
            os.close(descriptor)

    def _make(self) -> None:
        # Nobody else's to read: the folder may be open. SQLite gives the mode to what lies beside.
        flags = os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        # One that is there is not opened: to close it again would take this process all locks that SQLite
        # holds on it (sqlite.org, "How To Corrupt", 2.2), and others would remove the journal under it.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._path.resolve(), flags, 0o600))

    def _remove_remains(self) -> None:
        now = self._identity("")
        if now is not None and now == self._opened.get("", now):
            return
        for suffix in _BESIDE:
            beside = self._identity(suffix)
            if now is None or beside == self._opened.get(suffix):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    def _identity(self, suffix: str) -> _Identity | None:
        try:
            found = Path(f"{self._path}{suffix}").stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino
