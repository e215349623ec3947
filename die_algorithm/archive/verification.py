"""The bytes of a zip read strictly.

``zipfile`` overlooks what other programs stumble over: heads that disagree, gaps, a compressed stream
without its end. Numbers in brackets are sections of PKWARE's APPNOTE.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

_BLOCK = 128 * 2**10
_CHUNK = 2**20
#: Flags that say nothing against an entry: how it was compressed, a data descriptor, UTF-8 (4.4.4).
_FLAGS = 0x2 | 0x4 | 0x8 | 0x800
_DESCRIPTOR, _UTF8 = 0x8, 0x800
#: What it takes to read ZIP64; more is for methods that are not accepted anyway (4.4.3).
_NEWEST_VERSION = 45
#: Signature, versions, flags, method, time, date, CRC, sizes, lengths (4.3.7).
_LOCAL_HEAD = struct.Struct("<4s2B4H3L2H")
#: The same with the making version in front, and the length of a comment and more behind (4.3.12).
_CENTRAL_HEAD = struct.Struct("<4s4B4H3L5H2L")
#: Signature, disks, counts, size, offset, length of the comment (4.3.16).
_END = struct.Struct("<4s4H2LH")
#: The end record of ZIP64 and its locator (4.3.14, 4.3.15).
_ZIP64_END = 56 + 20
#: What stands where a number is in the ZIP64 part instead.
_ELSEWHERE_2, _ELSEWHERE_4 = 0xFFFF, 0xFFFFFFFF


def check_overlaps(infos: Sequence[zipfile.ZipInfo], directory: int) -> None:
    """Refuse entries that share bytes, the trick of zip bombs (CVE-2024-0450).

    Args:
        infos: all entries.
        directory: where the entries end.

    Raises:
        BadZipFile: some do.
    """
    for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
        if info.header_offset + _LOCAL_HEAD.size + info.compress_size > directory:
            raise zipfile.BadZipFile("entries overlap")
        directory = info.header_offset


def is_tidy(descriptor: int, infos: Sequence[zipfile.ZipInfo], directory: int) -> bool:
    """Whether the entries and their directory are all there is in the file, without gaps.

    Args:
        descriptor: the open file.
        infos: all entries.
        directory: where they end and the directory begins.
    """
    end = os.fstat(descriptor).st_size - _END.size
    signature, *disks, count, size, offset, comment = _END.unpack(_read(descriptor, end, _END.size))
    if signature != b"PK\5\6" or disks != [0, 0, count] or comment:
        return False
    if count == _ELSEWHERE_2 or _ELSEWHERE_4 in {size, offset}:
        end -= _ZIP64_END
    elif count != len(infos):
        return False
    for _ in infos:
        head = _CENTRAL_HEAD.unpack(_read(descriptor, directory, _CENTRAL_HEAD.size))
        directory += _CENTRAL_HEAD.size + sum(head[12:15])
    return directory == end and not min((info.header_offset for info in infos), default=0)


def reads_well(descriptor: int, info: zipfile.ZipInfo) -> bool:
    """Whether an entry is what the directory says of it: its head, its bytes, its checksum.

    At most one byte more than it announces is unpacked, a MiB at a time.

    Raises:
        zlib.error: its content cannot be unpacked.
        struct.error: the file ends within its head.
    """
    head = _LOCAL_HEAD.unpack(_read(descriptor, info.header_offset, _LOCAL_HEAD.size))
    start = info.header_offset + _LOCAL_HEAD.size
    encoding = "utf-8" if info.flag_bits & _UTF8 else "cp437"
    name = _read(descriptor, start, head[10])
    if name != info.orig_filename.encode(encoding) or not _agrees(head, info):
        return False
    start += head[10] + head[11]
    size = checksum = 0
    for chunk in _unpacked(descriptor, info, start):
        size += len(chunk)
        checksum = zlib.crc32(chunk, checksum)
    return (size, checksum) == (info.file_size, info.CRC)


def _agrees(head: tuple[Any, ...], info: zipfile.ZipInfo) -> bool:
    """Whether the head in front of an entry agrees with the one in the directory."""
    signature, version, flags, method, sums = head[0], head[1], head[3], head[4], head[7:10]
    if signature != b"PK\3\4":
        return False
    if info.reserved or info.volume or max(version, info.extract_version) > _NEWEST_VERSION:
        return False
    if flags != info.flag_bits or flags & ~_FLAGS or method != info.compress_type:
        return False
    told = (info.CRC, info.compress_size, info.file_size)
    return bool(flags & _DESCRIPTOR) or all(
        found in {expected, _ELSEWHERE_4} for found, expected in zip(sums, told, strict=True)
    )


def _unpacked(descriptor: int, info: zipfile.ZipInfo, start: int) -> Iterator[bytes]:
    """The content of an entry; too short or too long if its stream does not end where it should."""
    packed = _blocks(descriptor, start, info.compress_size)
    if info.compress_type == zipfile.ZIP_STORED:
        yield from packed
        return
    if info.compress_type != zipfile.ZIP_DEFLATED:
        raise zlib.error("a method that is not accepted")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    left = info.file_size
    for block in packed:
        tail = block
        while tail and not inflater.eof:
            # One byte more is enough to see that there is too much.
            chunk = inflater.decompress(tail, min(left + 1, _CHUNK))
            tail = inflater.unconsumed_tail
            left -= len(chunk)
            yield chunk
            if left < 0:
                return
    if not inflater.eof or inflater.unused_data:
        raise zlib.error("a stream that ends too early or too late")


def _blocks(descriptor: int, start: int, size: int) -> Iterator[bytes]:
    while size and (block := _read(descriptor, start, min(size, _BLOCK))):
        yield block
        start += len(block)
        size -= len(block)


def _read(descriptor: int, start: int, size: int) -> bytes:
    """Read without a position of its own, so that threads share the file."""
    return os.pread(descriptor, size, start)
