"""What StorageHub's zip is good for: each entry compared with the listing, read, and verified."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from die_algorithm.archive.entries import Entry
from die_algorithm.archive.names import safe_name

LOGGER = logging.getLogger(__name__)

_CHUNK = 2**20
_THREADS = 2
_MANY_BYTES = 32 * 2**20
_ENCRYPTED = 0x1
#: Flags that say nothing against an entry: how it was compressed, a data descriptor, UTF-8.
_FLAGS = 0x2 | 0x4 | 0x8 | 0x800
_DESCRIPTOR = 0x8
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
#: Signature, versions, flags, method, time, date, CRC, sizes, lengths (APPNOTE 4.3.7).
_LOCAL_HEAD = struct.Struct("<4s2B4H3L2H")
#: The same with the making version in front, and the length of a comment and more behind (4.3.12).
_CENTRAL_HEAD = struct.Struct("<4s4B4H3L5H2L")
#: Signature, disks, counts, size, offset, length of the comment (APPNOTE 4.3.16).
_END = struct.Struct("<4s4H2LH")
#: What it takes to read ZIP64; more is for methods that are not accepted anyway.
_NEWEST_VERSION = 45
#: The end record of ZIP64 and its locator (4.3.14, 4.3.15).
_ZIP64_END = 56 + 20
_IN_ZIP64_2, _IN_ZIP64_4 = 0xFFFF, 0xFFFFFFFF
#: What ``zipfile`` raises for a file that is damaged, or no zip that it can read.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    LookupError,
    struct.error,
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
        with path.open("rb") as file, zipfile.ZipFile(file) as source:
            found = _inspect(source, top, entries, max_size)
            if found.clean and not _is_tidy(file, source.start_dir, source.infolist()):
                return dataclasses.replace(found, clean=False)
            return found
    except _DAMAGE as error:
        LOGGER.info("The zip cannot be read: %s", type(error).__name__)
    except OSError as error:
        if error.errno not in {None, errno.EINVAL}:  # a seek to nowhere; bad data for bz2
            raise
        LOGGER.info("The zip cannot be read: %s", error)
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
    tops = [info for info in infos if info.orig_filename == f"{top}/"]
    whole = {info.orig_filename: info for info in _reading_well(source, fitting)}
    unlisted = sum(name not in listed and name != f"{top}/" for name in present.elements())
    clean = (
        safe_name(top) == top
        and all(_is_plain(info) for info in infos)
        and all(expected[name].safe == name for name in whole)
        and len(infos) == len(whole) + len(tops)
        and len(tops) <= 1
        and all(_reads_well(source, info) for info in tops)
    )
    return Inspection(whole=whole, clean=clean, unlisted=unlisted)


def _check_overlaps(infos: Sequence[zipfile.ZipInfo], end: int) -> None:
    """Refuse entries that share bytes, the trick of zip bombs (CVE-2024-0450)."""
    for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
        if info.header_offset + _LOCAL_HEAD.size + info.compress_size > end:
            raise zipfile.BadZipFile("entries overlap")
        end = info.header_offset


def _fits(info: zipfile.ZipInfo, entry: Entry, max_size: int) -> bool:
    """Whether an entry announces what the listing says; looked at before anything is unpacked."""
    if entry.item.is_folder:
        return info.file_size == 0
    if entry.item.size is None:
        return info.file_size <= max_size
    return info.file_size == entry.item.size


def _is_tidy(file: BinaryIO, directory: int, infos: Sequence[zipfile.ZipInfo]) -> bool:
    """Whether what ``zipfile`` overlooks, but other programs read, is as it should be too.

    That is: nothing before the first entry or after the end, a directory without gaps, and heads of
    entries that agree with it.
    """
    end = file.seek(-_END.size, os.SEEK_END)
    signature, *disks, count, size, offset, comment = _END.unpack(file.read(_END.size))
    if signature != b"PK\5\6" or disks != [0, 0, count] or comment:
        return False
    if count == _IN_ZIP64_2 or _IN_ZIP64_4 in {size, offset}:
        end -= _ZIP64_END
    elif count != len(infos):
        return False
    file.seek(directory)
    for _ in infos:
        head = _CENTRAL_HEAD.unpack(file.read(_CENTRAL_HEAD.size))
        directory = file.seek(sum(head[12:15]), os.SEEK_CUR)
    if directory != end or min((info.header_offset for info in infos), default=0):
        return False
    return all(_head_agrees(file, info) for info in infos)


def _head_agrees(file: BinaryIO, info: zipfile.ZipInfo) -> bool:
    file.seek(info.header_offset)
    head = _LOCAL_HEAD.unpack(file.read(_LOCAL_HEAD.size))
    version, flags, method, sums = head[1], head[3], head[4], head[7:10]
    if info.reserved or info.volume or max(version, info.extract_version) > _NEWEST_VERSION:
        return False
    if flags != info.flag_bits or flags & ~_FLAGS or method != info.compress_type:
        return False
    right = (info.CRC, info.compress_size, info.file_size)
    return bool(flags & _DESCRIPTOR) or all(
        found in {expected, _IN_ZIP64_4} for found, expected in zip(sums, right, strict=True)
    )


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
    if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
        return False
    size = 0
    try:
        with source.open(info) as content:
            while chunk := content.read(_CHUNK):
                size += len(chunk)
    except _DAMAGE as error:
        LOGGER.info("An entry of the zip is damaged: %s", type(error).__name__)
        return False
    return size == info.file_size
