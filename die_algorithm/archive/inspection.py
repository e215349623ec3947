"""What StorageHub's zip is good for: each entry compared with the listing, read, and verified."""

from __future__ import annotations

import dataclasses
import logging
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from die_algorithm.archive.entries import Entry
from die_algorithm.archive.names import safe_name

LOGGER = logging.getLogger(__name__)

_CHUNK = 2**20
_THREADS = 2
_MANY_BYTES = 32 * 2**20
_ENCRYPTED = 0x1
_LOCAL_HEAD = 30
#: What ``zipfile`` raises for a file that is damaged, or no zip that it can read.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """The outcome. Without arguments: the zip is good for nothing."""

    #: Entries that are whole, by the name that StorageHub gave them.
    whole: Mapping[str, zipfile.ZipInfo] = dataclasses.field(default_factory=dict)
    #: Everything in it is whole, has a safe name, and is listed.
    clean: bool = False
    #: Number of entries that the listing does not name.
    unlisted: int = 0


def inspect(path: Path, top: str, entries: Sequence[Entry], *, max_size: int) -> Inspection:
    """Inspect a zip.

    Args:
        path: the file.
        top: the folder's name, the first part of every entry's name.
        entries: what the zip should hold.
        max_size: an entry whose size is not listed may have that many bytes.
    """
    try:
        with zipfile.ZipFile(path) as source:
            return _inspect(source, top, entries, max_size)
    except _DAMAGE as error:
        LOGGER.info("StorageHub's zip cannot be read: %s", type(error).__name__)
        return Inspection()


def _inspect(
    source: zipfile.ZipFile, top: str, entries: Sequence[Entry], max_size: int
) -> Inspection:
    infos = source.infolist()
    _check_overlaps(infos, source.start_dir)
    listed = Counter(entry.given for entry in entries)
    present = Counter(info.orig_filename for info in infos)
    expected = {entry.given: entry for entry in entries if listed[entry.given] == 1}
    fitting = [
        info
        for info in infos
        if info.orig_filename in expected
        and present[info.orig_filename] == 1
        and _fits(info, expected[info.orig_filename], max_size)
    ]
    whole = {info.orig_filename: info for info in _reading_well(source, fitting)}
    unlisted = sum(name not in listed and name != f"{top}/" for name in present.elements())
    others = [info for info in infos if info.orig_filename not in whole]
    clean = (
        safe_name(top) == top
        and all(_is_plain(info) for info in infos)
        and all(expected[name].safe == name for name in whole)
        and all(info.orig_filename == f"{top}/" for info in others)
    )
    return Inspection(whole=whole, clean=clean, unlisted=unlisted)


def _check_overlaps(infos: Sequence[zipfile.ZipInfo], end: int) -> None:
    """Refuse entries that share bytes, the trick of zip bombs (CVE-2024-0450)."""
    for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
        if info.header_offset + _LOCAL_HEAD + info.compress_size > end:
            raise zipfile.BadZipFile("entries overlap")
        end = info.header_offset


def _fits(info: zipfile.ZipInfo, entry: Entry, max_size: int) -> bool:
    """Whether an entry announces what the listing says; looked at before anything is unpacked."""
    if entry.item.is_folder:
        return info.file_size == 0
    if entry.item.size is None:
        return info.file_size <= max_size
    return info.file_size == entry.item.size


def _is_plain(info: zipfile.ZipInfo) -> bool:
    """Whether an entry is a file or folder by its attributes too, and no link or device."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    return kind in ({0, stat.S_IFDIR} if info.is_dir() else {0, stat.S_IFREG})


def _reading_well(
    source: zipfile.ZipFile, infos: Sequence[zipfile.ZipInfo]
) -> Iterator[zipfile.ZipInfo]:
    """The entries that unpack as they say; many bytes are shared between threads."""
    count = _THREADS if sum(info.file_size for info in infos) > _MANY_BYTES else 1
    by_size = sorted(infos, key=lambda info: info.file_size)
    shares = [by_size[start::count] for start in range(count)]
    with ThreadPoolExecutor(count) as threads:
        for share in threads.map(
            lambda share: [i for i in share if _reads_well(source, i)], shares
        ):
            yield from share


def _reads_well(source: zipfile.ZipFile, info: zipfile.ZipInfo) -> bool:
    """Whether an entry unpacks to as many bytes as it says, with the right checksum."""
    if info.flag_bits & _ENCRYPTED:
        return False
    size = 0
    try:
        with source.open(info) as content:
            while chunk := content.read(_CHUNK):
                size += len(chunk)
    except _DAMAGE as error:
        LOGGER.info("An entry of StorageHub's zip is damaged: %s", type(error).__name__)
        return False
    return size == info.file_size
