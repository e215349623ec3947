"""What the first start of the service makes: whether it can, seen without making anything.

Who makes a folder owns it. Were it made by whoever looks, the service's own user might have to do
without.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path


def nearest_folder(path: Path) -> Path:
    """The folder that is there already in which a file or folder would be made, its parents included."""
    parents = path.absolute().parents
    return next((parent for parent in parents if _is_there(parent)), parents[-1])


def demand_place(path: Path) -> None:
    """See that this process could make a file or folder, its parents included.

    Raises:
        OSError: it could not.
    """
    folder = nearest_folder(path)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, f"{user_name()} must not write into {folder}")


def other_owners(folders: Iterable[Path]) -> dict[Path, str]:
    """The folders of those that are there which belong to others than this process's user, and to whom."""
    return {
        folder: user_name(owner)
        for folder in folders
        if _is_there(folder) and (owner := folder.stat().st_uid) != os.geteuid()
    }


def is_root_alone(folder: Path) -> bool:
    """Whether root looks at a folder that is not there, and so belongs to nobody yet."""
    return os.geteuid() == 0 and not _is_there(folder)


def is_shared(folder: Path) -> bool:
    """Whether a folder is there that a group may write, as web and worker of two users share one."""
    return _is_there(folder) and bool(folder.stat().st_mode & stat.S_IWGRP)


def user_name(number: int | None = None) -> str:
    """The name of a user, by default this process's; the number of one without a name."""
    number = os.geteuid() if number is None else number
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # behind a folder that may not be looked into
        return False
