"""Pictures and tables in a published zip, which clients want to have alone."""

from __future__ import annotations

import functools
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from die_algorithm.lasting_files import sync_folder
from die_algorithm.models import SingleFile

#: What DataMiner's portal shows as a picture or offers as a table (reference: dataminer-wps, 2.3). None
#: of them is anything that a browser would run.
_MEDIA_TYPES: Mapping[str, str] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".csv": "text/csv",
}
#: A document that names more is of no use to a reader.
_MOST = 20
_CHUNK = 2**20


def media_type_of(path: str) -> str | None:
    """The media type of a picture or table, by its name; None if it is neither."""
    return _MEDIA_TYPES.get(PurePosixPath(path).suffix.lower())


def extract_single_files(
    zip_path: Path, max_size: int, copy_of: Callable[[str], Path]
) -> tuple[SingleFile, ...]:
    """Copy the pictures and tables out of a zip, twenty at most.

    A server can send a copy as it lies there; for each request to a zip, its whole directory would have
    to be read, which may be large, and the file be unpacked by a thread that waits for the client.

    Args:
        zip_path: a zip that :func:`build_archive` has published.
        max_size: bytes of the largest one that is copied.
        copy_of: where the copy of a file is put, by its path below the job's folder.

    Returns:
        Those that were copied, in the order of their names.

    Raises:
        OSError: the zip cannot be read, or a copy not be written; then there is none.
        BadZipFile: the zip is damaged; nor is there any then.
    """
    with zipfile.ZipFile(zip_path) as archive:
        wanted = [info for info in archive.infolist() if _is_wanted(info, max_size)]
        wanted = sorted(wanted, key=_below_top)[:_MOST]
        copies = [copy_of(_below_top(info)) for info in wanted]
        try:
            files = tuple(map(functools.partial(_extract, archive), wanted, copies))
            if files:
                sync_folder(zip_path.parent)
        except (OSError, zipfile.BadZipFile):
            # On a full disk, what is to be written next may need their room.
            for copy in copies:
                copy.unlink(missing_ok=True)
            raise
    return files


def _is_wanted(info: zipfile.ZipInfo, max_size: int) -> bool:
    return (
        not info.is_dir()
        and media_type_of(info.filename) is not None
        and info.file_size <= max_size
    )


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, copy: Path) -> SingleFile:
    with archive.open(info) as content, copy.open("wb") as file:
        shutil.copyfileobj(content, file, _CHUNK)
        file.flush()
        os.fsync(file.fileno())
    path = _below_top(info)
    return SingleFile(path=path, size=info.file_size, media_type=media_type_of(path) or "")


def _below_top(info: zipfile.ZipInfo) -> str:
    """The name without its first part, the job's folder."""
    return info.filename.partition("/")[2]
