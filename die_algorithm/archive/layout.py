"""Whether a zip holds the same for every reader.

Some readers go by the directory at the end, some by the heads in front of the entries; some know
extra fields and attributes that others do not. Only where all of them find the same is a zip published
as it came. Numbers in brackets are sections of PKWARE's APPNOTE.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Iterator, Sequence

from die_algorithm.archive.heads import (
    DESCRIPTOR,
    ELSEWHERE_2,
    ELSEWHERE_4,
    UTF8,
    ZIP64_FIELD,
    extra_fields,
    local_head,
    read_at,
)

_LOCAL_HEAD_SIZE = 30
#: Signature, versions, flags, method, time, date, CRC, sizes, lengths of name, extra field and
#: comment, disk, attributes, offset (4.3.12).
_CENTRAL_HEAD = struct.Struct("<4s4B4H3L5H2L")
#: Signature, disks, counts, size, offset, length of the comment (4.3.16).
_END = struct.Struct("<4s4H2LH")
#: The end record of ZIP64 (4.3.14): signature, its size, versions, disks, counts, size, offset; and
#: its locator (4.3.15): signature, disk, offset, number of disks.
_ZIP64_END = struct.Struct("<4sQ2H2L4Q4sLQL")
_ZIP64_END_SIZE, _ZIP64_LOCATOR_SIZE = 44, 20
_END_SIGNATURE = b"PK\5\6"
_ZIP64_END_SIGNATURE, _ZIP64_LOCATOR_SIGNATURE = b"PK\6\6", b"PK\6\7"
#: What the end record says of disks, counts, size and offset where that of ZIP64 counts.
_ELSEWHERE = (0, 0, ELSEWHERE_2, ELSEWHERE_2, ELSEWHERE_4, ELSEWHERE_4)
#: What is behind a content, its signature left out by some (4.3.9).
_DESCRIPTOR_SIGNATURE = b"PK\7\10"
_DESCRIPTOR_SIZE = 24

#: Systems whose attributes are looked at here: MS-DOS and Unix (4.4.2.2).
_SYSTEMS = {0, 3}
#: Attributes of MS-DOS that make a file or folder nothing else: read-only, hidden, system, archive.
_DOS_HARMLESS, _DOS_FOLDER = 0x1 | 0x2 | 0x4 | 0x20, 0x10
#: Sizes, times (NTFS, Unix) and owner. A name or comment in Unicode (0x7075, 0x6375) is not among
#: them: it counts instead of the entry's own, for those who know it.
_FIELDS = {ZIP64_FIELD, 0x000A, 0x5455, 0x7875}


def directory_size(descriptor: int) -> int:
    """How many bytes the directory has, which zipfile reads at once: as the end of the file says.

    Args:
        descriptor: the open file.

    Raises:
        BadZipFile: the end records are not where each reader finds the same.
        struct.error: the file is too short for those of ZIP64.
    """
    end = os.fstat(descriptor).st_size - _END.size
    if end < 0:
        raise zipfile.BadZipFile("too short for a zip")
    signature, *_, size, _offset, comment = _END.unpack(read_at(descriptor, end, _END.size))
    if signature != _END_SIGNATURE or comment:
        raise zipfile.BadZipFile("no end record at the end")
    start = max(end - _ZIP64_END.size, 0)
    records = read_at(descriptor, start, end - start)
    if not records[-_ZIP64_LOCATOR_SIZE:].startswith(_ZIP64_LOCATOR_SIGNATURE):
        return int(size)
    signature, *_, size, _offset, _locator, _disk, told, _disks = _ZIP64_END.unpack(records)
    if signature != _ZIP64_END_SIGNATURE or told != start:
        raise zipfile.BadZipFile("no end record of ZIP64 where it should be")
    return int(size)


def check_overlaps(infos: Sequence[zipfile.ZipInfo], directory: int) -> None:
    """Refuse entries that share bytes, the trick of zip bombs (CVE-2024-0450).

    Args:
        infos: all entries.
        directory: where the entries end.

    Raises:
        BadZipFile: some do.
    """
    for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
        if info.header_offset + _LOCAL_HEAD_SIZE + info.compress_size > directory:
            raise zipfile.BadZipFile("entries overlap")
        directory = info.header_offset


def is_tidy(descriptor: int, infos: Sequence[zipfile.ZipInfo], directory: int) -> bool:
    """Whether the entries and their directory are all there is in the file, without gaps.

    Args:
        descriptor: the open file.
        infos: all entries, in the directory's order.
        directory: where they end and the directory begins.

    Raises:
        struct.error: the file ends within a head.
    """
    end = directory
    for _ in infos:
        head = _CENTRAL_HEAD.unpack(read_at(descriptor, end, _CENTRAL_HEAD.size))
        end += _CENTRAL_HEAD.size + sum(head[12:15])
    return _ends_well(descriptor, len(infos), directory, end) and _adjoin(
        descriptor, infos, directory
    )


def is_plain(descriptor: int, info: zipfile.ZipInfo) -> bool:
    """Whether an entry is the file or folder that its name says, by whatever else it tells.

    It is no link, device or label of a disk by its attributes; its name is read alike everywhere;
    both heads tell the same sizes and nothing more than sizes, times and owner.

    Raises:
        struct.error: the file ends within its head.
    """
    head = local_head(descriptor, info)
    told = (info.CRC, info.compress_size, info.file_size)
    described = bool(info.flag_bits & DESCRIPTOR)
    return (
        _is_of_its_kind(info)
        and (bool(info.flag_bits & UTF8) or info.orig_filename.isascii())
        and not info.comment
        and all(_is_harmless(extra) for extra in (info.extra, head.extra))
        # From a stream, nobody knows where such an entry ends.
        and not (described and info.compress_type == zipfile.ZIP_STORED)
        and all(
            found == expected or (described and not found)
            for found, expected in zip(head.all_sums(), told, strict=True)
        )
    )


def _is_of_its_kind(info: zipfile.ZipInfo) -> bool:
    """Whether the attributes of Unix (above) and MS-DOS (below) say file or folder, as the name."""
    mode, dos = info.external_attr >> 16, info.external_attr & 0xFFFF
    kind, of_kind = stat.S_IFREG, 0
    if info.orig_filename.endswith("/"):
        kind, of_kind = stat.S_IFDIR, _DOS_FOLDER
    # The bits above the permissions: the kind, and whose rights a program runs with.
    return (
        info.create_system in _SYSTEMS
        and mode & ~0o777 in {0, kind}
        and not dos & ~(_DOS_HARMLESS | of_kind)
    )


def _is_harmless(extra: bytes) -> bool:
    fields = extra_fields(extra)
    return fields is not None and fields.keys() <= _FIELDS


def _ends_well(descriptor: int, count: int, directory: int, end: int) -> bool:
    """Whether the directory ends where the records at the end begin, and these say so (4.3.16)."""
    file_size = os.fstat(descriptor).st_size
    signature, *told, comment = _END.unpack(read_at(descriptor, file_size - _END.size, _END.size))
    if signature != _END_SIGNATURE or comment:
        return False
    true = [0, 0, count, count, end - directory, directory]
    # The place decides, not the numbers: some write both records before the one has no room for them.
    if end + _END.size == file_size:
        return told == true
    return (
        end + _ZIP64_END.size + _END.size == file_size
        and all(found in either for found, *either in zip(told, true, _ELSEWHERE, strict=True))
        and _zip64_end_says(read_at(descriptor, end, _ZIP64_END.size), true, end)
    )


def _zip64_end_says(records: bytes, true: Sequence[int], start: int) -> bool:
    """Whether the end record of ZIP64, which starts there, and its locator say what is true."""
    signature, size, _made_by, _needed, *rest = _ZIP64_END.unpack(records)
    return (signature, size) == (_ZIP64_END_SIGNATURE, _ZIP64_END_SIZE) and rest == [
        *true,
        *(_ZIP64_LOCATOR_SIGNATURE, 0, start, 1),
    ]


def _adjoin(descriptor: int, infos: Sequence[zipfile.ZipInfo], directory: int) -> bool:
    """Whether each entry begins where the one before it ends, and the last ends at the directory."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    starts = [*(info.header_offset for info in ordered), directory]
    return starts[0] == 0 and all(
        _reaches(descriptor, info, following)
        for info, following in zip(ordered, starts[1:], strict=True)
    )


def _reaches(descriptor: int, info: zipfile.ZipInfo, following: int) -> bool:
    """Whether an entry ends where the following begins: with its content, or a data descriptor."""
    end = local_head(descriptor, info).content + info.compress_size
    if not info.flag_bits & DESCRIPTOR:
        return end == following
    size = following - end
    return 0 < size <= _DESCRIPTOR_SIZE and read_at(descriptor, end, size) in _descriptors(info)


def _descriptors(info: zipfile.ZipInfo) -> Iterator[bytes]:
    """What may stand behind a content: with and without signature, sizes in four or eight bytes."""
    sums = (info.CRC, info.compress_size, info.file_size)
    forms = ("<L2Q",) if max(sums) > ELSEWHERE_4 else ("<3L", "<L2Q")
    for form in forms:
        plain = struct.pack(form, *sums)
        yield plain
        yield _DESCRIPTOR_SIGNATURE + plain
