"""The bytes of a zip read strictly.

``zipfile`` overlooks what other programs stumble over: heads that disagree, gaps, a compressed stream
without its end. Numbers in brackets are sections of PKWARE's APPNOTE.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator

from die_algorithm.archive.heads import (
    DESCRIPTOR,
    ELSEWHERE_4,
    UTF8,
    LocalHead,
    local_head,
    read_at,
)

_BLOCK = 128 * 2**10
_CHUNK = 2**20
#: Flags that say nothing against an entry: how it was compressed, a data descriptor, UTF-8 (4.4.4).
_FLAGS = 0x2 | 0x4 | DESCRIPTOR | UTF8
#: What it takes to read ZIP64; more is for methods that are not accepted anyway (4.4.3).
_NEWEST_VERSION = 45


def reads_well(descriptor: int, info: zipfile.ZipInfo) -> bool:
    """Whether an entry is what the directory says of it: its head, its bytes, its checksum.

    At most one byte more than it announces is unpacked, a MiB at a time.

    Raises:
        zlib.error: its content cannot be unpacked.
        struct.error: the file ends within its head.
    """
    head = local_head(descriptor, info)
    encoding = "utf-8" if info.flag_bits & UTF8 else "cp437"
    if head.name != info.orig_filename.encode(encoding) or not _agrees(head, info):
        return False
    size = checksum = 0
    for chunk in _unpacked(descriptor, info, head.content):
        size += len(chunk)
        checksum = zlib.crc32(chunk, checksum)
    return (size, checksum) == (info.file_size, info.CRC)


def _agrees(head: LocalHead, info: zipfile.ZipInfo) -> bool:
    """Whether the head in front of an entry agrees with the one in the directory."""
    if head.signature != b"PK\3\4":
        return False
    if info.reserved or info.volume or max(head.version, info.extract_version) > _NEWEST_VERSION:
        return False
    if head.flags != info.flag_bits or head.flags & ~_FLAGS or head.method != info.compress_type:
        return False
    told = (info.CRC, info.compress_size, info.file_size)
    return bool(head.flags & DESCRIPTOR) or all(
        found in {expected, ELSEWHERE_4} for found, expected in zip(head.sums, told, strict=True)
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
    while size and (block := read_at(descriptor, start, min(size, _BLOCK))):
        yield block
        start += len(block)
        size -= len(block)
