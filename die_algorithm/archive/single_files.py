"""Pictures and tables in a published zip, which clients want to have alone."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from die_algorithm.models import SingleFile

#: What DataMiner's portal shows as a picture or offers as a table (reference: dataminer-wps, 2.3). None
#: of them is anything that a browser would run.
MEDIA_TYPES: Mapping[str, str] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".csv": "text/csv",
}
#: A document that names more is of no use to a reader.
_MOST = 20
_CHUNK = 64 * 1024


def single_files(zip_path: Path, max_size: int) -> tuple[SingleFile, ...]:
    """The pictures and tables in a zip, in the order of their names, twenty at most.

    Args:
        zip_path: a zip that :func:`build_archive` has published.
        max_size: bytes of the largest one that is told.

    Raises:
        OSError: the zip cannot be read.
    """
    with zipfile.ZipFile(zip_path) as archive:
        found = [_single_file(info) for info in archive.infolist() if _is_told(info, max_size)]
    return tuple(sorted(found, key=lambda file: file.path)[:_MOST])


@contextlib.contextmanager
def open_single_file(
    zip_path: Path, path: str, max_size: int
) -> Iterator[tuple[SingleFile, Iterator[bytes]]]:
    """Open one of them; the zip stays open within the context.

    Args:
        zip_path: the zip.
        path: below the job's folder, as :func:`single_files` tells it.
        max_size: as there.

    Yields:
        The file, and its content piece by piece.

    Raises:
        KeyError: there is none.
        OSError: the zip cannot be read.
    """
    with zipfile.ZipFile(zip_path) as archive:
        for info in archive.infolist():
            if _is_told(info, max_size) and _below_top(info) == path:
                with archive.open(info) as content:
                    yield _single_file(info), iter(lambda: content.read(_CHUNK), b"")
                return
    raise KeyError(path)


def _is_told(info: zipfile.ZipInfo, max_size: int) -> bool:
    return not info.is_dir() and _suffix(info) in MEDIA_TYPES and info.file_size <= max_size


def _single_file(info: zipfile.ZipInfo) -> SingleFile:
    media_type = MEDIA_TYPES[_suffix(info)]
    return SingleFile(path=_below_top(info), size=info.file_size, media_type=media_type)


def _suffix(info: zipfile.ZipInfo) -> str:
    return PurePosixPath(info.filename).suffix.lower()


def _below_top(info: zipfile.ZipInfo) -> str:
    """The name without its first part, the job's folder."""
    return info.filename.partition("/")[2]
