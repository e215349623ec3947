"""What a zip is good for: each entry compared with what is wanted, read, and verified."""

from __future__ import annotations

import dataclasses
import errno
import logging
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

from die_algorithm.archive.entries import Entry
from die_algorithm.archive.layout import check_overlaps, directory_size, is_plain, is_tidy
from die_algorithm.archive.names import safe_name
from die_algorithm.archive.verification import reads_well

LOGGER = logging.getLogger(__name__)

_THREADS = 2
_MANY_BYTES = 32 * 2**20
#: Bytes in a directory of an entry beside its name, and of all entries that are not listed.
_DIRECTORY_ENTRY, _DIRECTORY_MORE = 256, 2**20
#: What is raised for a file that is damaged, or no zip that can be read.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    ValueError,
    LookupError,
    OverflowError,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """The outcome. Without arguments: the zip is good for nothing."""

    #: Entries that are whole, by the name that they have in the zip.
    whole: Mapping[str, zipfile.ZipInfo] = dataclasses.field(default_factory=dict)
    #: There is nothing else in it, and each name is safe.
    clean: bool = False
    #: Number of entries that are not wanted at all.
    unlisted: int = 0


def inspect(path: Path, top: str, entries: Sequence[Entry], *, max_size: int) -> Inspection:
    """Inspect a zip.

    Args:
        path: the file.
        top: the folder's name, the first part of every entry's name.
        entries: what the zip should hold.
        max_size: all entries whose sizes are not listed may have that many bytes together.
    """
    try:
        with path.open("rb") as file:
            if directory_size(file.fileno()) > _most(entries):
                raise zipfile.BadZipFile("a directory of much else")
            with zipfile.ZipFile(file) as source:
                return _inspect(file.fileno(), source, top, entries, max_size)
    except _DAMAGE as error:
        LOGGER.info("The zip cannot be read: %s", type(error).__name__)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a seek to where nothing can be
            raise
        LOGGER.info("The zip cannot be read: it points outside itself")
    return Inspection()


def _most(entries: Sequence[Entry]) -> int:
    """The most bytes of a directory that is read: zipfile needs many times as many of memory."""
    return _DIRECTORY_MORE + sum(_DIRECTORY_ENTRY + 4 * len(entry.given) for entry in entries)


def _inspect(
    descriptor: int, source: zipfile.ZipFile, top: str, entries: Sequence[Entry], max_size: int
) -> Inspection:
    infos = source.infolist()
    check_overlaps(infos, source.start_dir)
    listed = Counter(entry.given for entry in entries)
    present = Counter(info.orig_filename for info in infos)
    expected = {
        entry.given: entry
        for entry in entries
        if listed[entry.given] == 1 and present[entry.given] == 1
    }
    fitting = [
        info
        for info in infos
        if info.orig_filename in expected and _fits(info, expected[info.orig_filename])
    ]
    unlisted_size = sum(
        info.file_size for info in fitting if expected[info.orig_filename].item.size is None
    )
    if unlisted_size > max_size:
        raise zipfile.BadZipFile("more than allowed, by its own account")
    tops = [info for info in infos if info.orig_filename == f"{top}/"]
    whole = {info.orig_filename: info for info in _reading_well(descriptor, fitting)}
    clean = (
        safe_name(top) == top
        and len(infos) == len(whole) + len(tops)
        and len(tops) <= 1
        and all(info.file_size == 0 and _reads_well(descriptor, info) for info in tops)
        and all(expected[name].safe == name for name in whole)
        and all(is_plain(descriptor, info) for info in infos)
        and is_tidy(descriptor, infos, source.start_dir)
    )
    unlisted = sum(name not in listed for name in present.elements()) - len(tops)
    return Inspection(whole=whole, clean=clean, unlisted=unlisted)


def _fits(info: zipfile.ZipInfo, entry: Entry) -> bool:
    """Whether an entry announces what the listing says; looked at before anything is unpacked."""
    if entry.item.is_folder:
        return info.file_size == 0
    return entry.item.size is None or info.file_size == entry.item.size


def _reading_well(descriptor: int, infos: Sequence[zipfile.ZipInfo]) -> Iterator[zipfile.ZipInfo]:
    """The entries that are whole; many bytes are shared between threads."""

    def whole(share: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
        return [info for info in share if _reads_well(descriptor, info)]

    count = _THREADS if sum(info.file_size for info in infos) > _MANY_BYTES else 1
    by_size = sorted(infos, key=lambda info: info.file_size)
    shares = [by_size[start::count] for start in range(count)]
    # Threads of a pool know by themselves nothing of the job that they work for, and log without it.
    contexts = [copy_context() for _ in shares]
    with ThreadPoolExecutor(count) as threads:
        for good in threads.map(lambda own, share: own.run(whole, share), contexts, shares):
            yield from good


def _reads_well(descriptor: int, info: zipfile.ZipInfo) -> bool:
    try:
        return reads_well(descriptor, info)
    except (zlib.error, struct.error, UnicodeError) as error:
        LOGGER.info("An entry of the zip is damaged: %s", type(error).__name__)
        return False
