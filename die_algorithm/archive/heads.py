"""The heads in front of a zip's entries, and the parts of their extra fields.

Numbers in brackets are sections of PKWARE's APPNOTE.
"""

from __future__ import annotations

import dataclasses
import os
import struct
import zipfile

#: What stands where a number is in the ZIP64 field or end record instead (4.4.1.4).
ELSEWHERE_2, ELSEWHERE_4 = 0xFFFF, 0xFFFFFFFF
#: The flags of a data descriptor behind the content, and of a name in UTF-8 (4.4.4).
DESCRIPTOR, UTF8 = 0x8, 0x800
#: The field with the sizes that are too large for the head (4.5.3).
ZIP64_FIELD = 0x0001

#: Signature, versions, flags, method, time, date, CRC, sizes, lengths (4.3.7).
_LOCAL_HEAD = struct.Struct("<4s2B4H3L2H")
#: Id and length of a part of an extra field (4.5.1).
_FIELD_HEAD = struct.Struct("<2H")
_SIZES_8 = struct.Struct("<2Q")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalHead:
    """The head in front of an entry's content, as it stands there."""

    signature: bytes
    version: int
    flags: int
    method: int
    #: CRC, packed size and size; zeros, if they come behind the content.
    sums: tuple[int, int, int]
    name: bytes
    extra: bytes
    #: Where the content begins.
    content: int

    def all_sums(self) -> tuple[int, int, int]:
        """The sums; where the sizes stand in the ZIP64 field, those (4.5.3)."""
        field = (extra_fields(self.extra) or {}).get(ZIP64_FIELD, b"")
        if self.sums[1:] != (ELSEWHERE_4, ELSEWHERE_4) or len(field) < _SIZES_8.size:
            return self.sums
        size, packed_size = _SIZES_8.unpack_from(field)
        return self.sums[0], packed_size, size


def local_head(descriptor: int, info: zipfile.ZipInfo) -> LocalHead:
    """Read the head in front of an entry.

    Args:
        descriptor: the open file.
        info: what the directory says of the entry.

    Raises:
        struct.error: the file ends within it.
    """
    start = info.header_offset
    signature, version, _system, flags, method, _time, _date, *sums, name_size, extra_size = (
        _LOCAL_HEAD.unpack(read_at(descriptor, start, _LOCAL_HEAD.size))
    )
    start += _LOCAL_HEAD.size
    names = read_at(descriptor, start, name_size + extra_size)
    return LocalHead(
        signature=signature,
        version=version,
        flags=flags,
        method=method,
        sums=(sums[0], sums[1], sums[2]),
        name=names[:name_size],
        extra=names[name_size:],
        content=start + name_size + extra_size,
    )


def extra_fields(extra: bytes) -> dict[int, bytes] | None:
    """The parts of an extra field by their ids (4.5.1); None if one is cut, or there twice."""
    fields: dict[int, bytes] = {}
    while extra:
        if len(extra) < _FIELD_HEAD.size:
            return None
        kind, size = _FIELD_HEAD.unpack_from(extra)
        content, extra = extra[_FIELD_HEAD.size :][:size], extra[_FIELD_HEAD.size + size :]
        if len(content) < size or kind in fields:
            return None
        fields[kind] = content
    return fields


def read_at(descriptor: int, start: int, size: int) -> bytes:
    """Read without a position of its own, so that threads share the file."""
    return os.pread(descriptor, size, start)
