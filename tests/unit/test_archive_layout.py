"""Zips that hold one thing for one reader and another for the next are not published as they came.

They are written here byte by byte, for no library would write most of them.
"""

from __future__ import annotations

import dataclasses
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from die_algorithm.archive.entries import entries_of
from die_algorithm.archive.inspection import Inspection, inspect
from die_algorithm.models import Item, ListedItem

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

TOP = "die-1"
FILES = {"a.txt": b"aaa" * 30, "grüße.txt": b"bbb"}


@dataclasses.dataclass
class Raw:
    """An entry. Change a field to make it odd."""

    name: bytes
    content: bytes
    flags: int = 0x800
    method: int = zipfile.ZIP_DEFLATED
    system: int = 3
    attributes: int = (stat.S_IFREG | 0o644) << 16
    #: In the head in front, and in the directory.
    extra: bytes = b""
    central_extra: bytes = b""
    comment: bytes = b""
    #: CRC, packed size and size in the head in front, if they are not the right ones.
    sums: tuple[int, int, int] | None = None
    #: Comes behind the content.
    behind: bytes = b""

    @property
    def packed(self) -> bytes:
        if self.method == zipfile.ZIP_STORED:
            return self.content
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return deflater.compress(self.content) + deflater.flush()

    @property
    def right_sums(self) -> tuple[int, int, int]:
        return zlib.crc32(self.content), len(self.packed), len(self.content)

    def local(self) -> bytes:
        sums = self.right_sums if self.sums is None else self.sums
        head = (b"PK\3\4", 20, 0, self.flags, self.method, 0, 33, *sums)
        lengths = (len(self.name), len(self.extra))
        front = struct.pack("<4s2B4H3L2H", *head, *lengths)
        return front + self.name + self.extra + self.packed + self.behind

    def central(self, offset: int) -> bytes:
        head = (b"PK\1\2", 20, self.system, 20, 0, self.flags, self.method, 0, 33, *self.right_sums)
        lengths = (len(self.name), len(self.central_extra), len(self.comment))
        front = struct.pack("<4s4B4H3L5H2L", *head, *lengths, 0, 0, self.attributes, offset)
        return front + self.name + self.central_extra + self.comment


def entries() -> list[Raw]:
    return [Raw(f"{TOP}/{name}".encode(), content) for name, content in FILES.items()]


End = Callable[[int, int, int], bytes]


def plain_end(count: int, size: int, offset: int) -> bytes:
    return struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, size, offset, 0)


def zip64_end(count: int, size: int, offset: int, *, wrong: str = "") -> bytes:
    told = [count + (wrong == "count"), size, offset + (wrong == "offset")]
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, told[0], *told)
    at = offset + size + (wrong == "locator")
    return (
        record
        + struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
        + plain_end(0xFFFF, size + (wrong == "size"), 0xFFFFFFFF)
    )


def write(raws: Sequence[Raw], end: End = plain_end, *, before: bytes = b"") -> bytes:
    """A zip; ``before`` comes between the last entry and the directory."""
    body, directory = b"", b""
    for raw in raws:
        directory += raw.central(len(body))
        body += raw.local()
    body += before
    return body + directory + end(len(raws), len(directory), len(body))


def inspected(data: bytes, path: Path, files: dict[str, bytes] = FILES) -> Inspection:
    path.write_bytes(data)
    listing = [
        ListedItem(
            path=(name,),
            item=Item(
                id=name,
                name=name,
                path="",
                owner="ada",
                parent_id=None,
                is_folder=False,
                trashed=False,
                hidden=False,
                size=len(content),
                mime_type=None,
                modified=None,
            ),
        )
        for name, content in files.items()
    ]
    return inspect(path, TOP, entries_of(TOP, listing), max_size=10**6)


def descriptor(raw: Raw, form: str, *, signature: bytes = b"PK\7\10") -> bytes:
    return signature + struct.pack(form, *raw.right_sums)


def field(kind: int, content: bytes) -> bytes:
    return struct.pack("<HH", kind, len(content)) + content


def unicode_field(kind: int, name: bytes, other: str) -> bytes:
    """Info-ZIP's field with another name or comment (4.6.8, 4.6.9)."""
    return field(kind, struct.pack("<BL", 1, zlib.crc32(name)) + other.encode())


# -- what honest programs write


def test_a_zip_written_byte_by_byte_is_clean(tmp_path: Path) -> None:
    found = inspected(write(entries()), tmp_path / "a.zip")
    assert (found.clean, len(found.whole)) == (True, 2)


@pytest.mark.parametrize("form", ["<3L", "<L2Q"])
@pytest.mark.parametrize("signature", [b"PK\7\10", b""])
def test_sums_behind_the_content_are_clean(form: str, signature: bytes, tmp_path: Path) -> None:
    """As Java's ZipOutputStream writes them, which StorageHub uses."""
    raws = entries()
    for raw in raws:
        raw.flags |= 0x8
        raw.sums = (0, 0, 0)
        raw.behind = descriptor(raw, form, signature=signature)
    assert inspected(write(raws), tmp_path / "a.zip").clean


def test_times_and_owners_are_clean(tmp_path: Path) -> None:
    raws = entries()
    for raw in raws:
        raw.extra = field(0x5455, b"\1" + bytes(4)) + field(0x7875, b"\1\4" + bytes(4))
        raw.central_extra = field(0x5455, b"\1" + bytes(4)) + field(0x000A, bytes(32))
    assert inspected(write(raws), tmp_path / "a.zip").clean


def test_sizes_in_the_zip64_field_are_clean(tmp_path: Path) -> None:
    raws = entries()
    checksum, packed, size = raws[0].right_sums
    raws[0].sums = (checksum, 0xFFFFFFFF, 0xFFFFFFFF)
    raws[0].extra = field(0x0001, struct.pack("<2Q", size, packed))
    assert inspected(write(raws), tmp_path / "a.zip").clean


def test_an_end_record_of_zip64_is_clean(tmp_path: Path) -> None:
    assert inspected(write(entries(), zip64_end), tmp_path / "a.zip").clean


class Stream(io.RawIOBase):
    """What zipfile writes without going back."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        self.written += bytes(data)
        return len(bytes(data))


def test_a_zip_of_pythons_is_clean_written_to_a_file_or_a_stream(tmp_path: Path) -> None:
    stream, buffer = Stream(), io.BytesIO()
    for sink in (stream, buffer):
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as target:
            for name, content in FILES.items():
                with target.open(f"{TOP}/{name}", "w", force_zip64=sink is buffer) as file:
                    file.write(content)
    for data in (stream.written, buffer.getvalue()):
        assert inspected(data, tmp_path / "a.zip").clean


def test_a_zip_of_pythons_is_clean_that_is_too_long_for_its_own_end_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It writes the records of ZIP64 from 2 GiB on, and in the other one the numbers up to 4 GiB, too.
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, content in FILES.items():
            target.writestr(zipfile.ZipInfo(f"{TOP}/{name}"), content)
    monkeypatch.undo()
    assert b"PK\x06\x06" in buffer.getvalue()
    assert inspected(buffer.getvalue(), tmp_path / "a.zip").clean


# -- what is something else for another reader


def _another_name(raw: Raw) -> None:
    raw.central_extra = unicode_field(0x7075, raw.name, "../../evil")


def _another_name_in_front(raw: Raw) -> None:
    raw.extra = unicode_field(0x7075, raw.name, "../../evil")


def _another_comment(raw: Raw) -> None:
    raw.central_extra = unicode_field(0x6375, b"", "evil")


def _a_comment(raw: Raw) -> None:
    raw.comment = b"evil"


def _a_field_twice(raw: Raw) -> None:
    raw.extra = field(0x5455, b"\1" + bytes(4)) * 2


def _a_cut_field(raw: Raw) -> None:
    raw.extra = b"UT\5\0\1"


def _half_a_field_head(raw: Raw) -> None:
    raw.extra = b"UT"


def _the_label_of_a_disk(raw: Raw) -> None:
    raw.attributes |= 0x8


def _a_folder_by_attribute(raw: Raw) -> None:
    raw.attributes |= 0x10


def _a_link_of_windows(raw: Raw) -> None:
    raw.attributes |= 0x400


def _a_link(raw: Raw) -> None:
    raw.attributes = (stat.S_IFLNK | 0o777) << 16


def _rights_of_its_owner(raw: Raw) -> None:
    raw.attributes = (stat.S_IFREG | stat.S_ISUID | 0o755) << 16


def _a_system_of_other_attributes(raw: Raw) -> None:
    raw.system = 7


def _stored_without_a_size_in_front(raw: Raw) -> None:
    raw.method = zipfile.ZIP_STORED
    raw.flags |= 0x8
    raw.sums = (0, 0, 0)
    raw.behind = descriptor(raw, "<3L")


def _other_sums_in_front_of_a_descriptor(raw: Raw) -> None:
    raw.flags |= 0x8
    raw.sums = (0, 5, 5)
    raw.behind = descriptor(raw, "<3L")


def _another_size_in_the_zip64_field(raw: Raw) -> None:
    raw.sums = (raw.right_sums[0], 0xFFFFFFFF, 0xFFFFFFFF)
    raw.extra = field(0x0001, struct.pack("<2Q", len(raw.content), len(raw.packed) + 30))


def _no_zip64_field_where_the_head_says_so(raw: Raw) -> None:
    raw.sums = (raw.right_sums[0], 0xFFFFFFFF, 0xFFFFFFFF)


def _a_descriptor_of_other_sums(raw: Raw) -> None:
    raw.flags |= 0x8
    raw.behind = b"PK\7\10" + bytes(12)


def _no_descriptor(raw: Raw) -> None:
    raw.flags |= 0x8


def _a_descriptor_nobody_announced(raw: Raw) -> None:
    raw.behind = descriptor(raw, "<3L")


def _a_hidden_entry(raw: Raw) -> None:
    raw.behind = Raw(b"../../evil", b"evil").local()


def _one_byte_more(raw: Raw) -> None:
    raw.behind = b"x"


ODD = [
    _another_name,
    _another_name_in_front,
    _another_comment,
    _a_comment,
    _a_field_twice,
    _a_cut_field,
    _half_a_field_head,
    _the_label_of_a_disk,
    _a_folder_by_attribute,
    _a_link_of_windows,
    _a_link,
    _rights_of_its_owner,
    _a_system_of_other_attributes,
    _stored_without_a_size_in_front,
    _other_sums_in_front_of_a_descriptor,
    _another_size_in_the_zip64_field,
    _no_zip64_field_where_the_head_says_so,
    _a_descriptor_of_other_sums,
    _no_descriptor,
    _a_descriptor_nobody_announced,
    _a_hidden_entry,
    _one_byte_more,
]


@pytest.mark.parametrize("make_odd", ODD, ids=lambda change: change.__name__.strip("_"))
@pytest.mark.parametrize("place", [0, 1])
def test_an_entry_that_is_odd_is_kept_but_not_its_zip(
    make_odd: Callable[[Raw], None], place: int, tmp_path: Path
) -> None:
    raws = entries()
    make_odd(raws[place])
    found = inspected(write(raws), tmp_path / "a.zip")
    assert not found.clean
    assert {*found.whole} == {f"{TOP}/{name}" for name in FILES}


def test_a_name_that_is_not_told_to_be_utf_8_is_not_clean(tmp_path: Path) -> None:
    """Each reader takes the letters of its own country for it; zipfile takes those of MS-DOS."""
    raw = Raw("die-1/grün".encode("cp437"), b"x", flags=0)
    found = inspected(write([raw]), tmp_path / "a.zip", {"grün": b"x"})
    assert (found.clean, {*found.whole}) == (False, {f"{TOP}/grün"})
    raw = Raw(b"die-1/gruen", b"x", flags=0)
    assert inspected(write([raw]), tmp_path / "a.zip", {"gruen": b"x"}).clean


def test_an_entry_between_the_last_and_the_directory_is_not_clean(tmp_path: Path) -> None:
    hidden = Raw(b"../../evil", b"evil").local()
    assert not inspected(write(entries(), before=hidden), tmp_path / "a.zip").clean


def test_an_empty_directory_behind_a_hidden_entry_is_not_clean(tmp_path: Path) -> None:
    hidden = Raw(b"../../evil", b"evil").local()
    assert inspected(write([]), tmp_path / "a.zip", {}).clean
    assert not inspected(write([], before=hidden), tmp_path / "a.zip", {}).clean


@pytest.mark.parametrize("end", [plain_end, zip64_end])
def test_a_directory_of_much_else_is_not_read(
    end: End, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million entries in a hundred megabytes took half a gigabyte of memory."""
    some = [Raw(b"x" * 1000, b"") for _ in range(100)]
    found = inspected(write(entries() + some, end), tmp_path / "a.zip")
    assert (len(found.whole), found.unlisted) == (2, 100)
    opened: list[object] = []
    monkeypatch.setattr(zipfile, "ZipFile", opened.append)
    much = write(entries() + some * 11, end)
    assert inspected(much, tmp_path / "a.zip") == Inspection()
    assert opened == []


def test_a_directory_that_is_told_elsewhere_is_not_read(tmp_path: Path) -> None:
    def end(count: int, size: int, offset: int) -> bytes:
        return zip64_end(count, size, offset, wrong="locator")

    assert inspected(write(entries(), end), tmp_path / "a.zip") == Inspection()
    comment = bytes(30)
    commented = write(entries())[:-2] + struct.pack("<H", len(comment)) + comment
    assert inspected(commented, tmp_path / "a.zip") == Inspection()


def test_a_directory_of_long_names_is_read(tmp_path: Path) -> None:
    files = {f"{number:04}{'x' * 900}": b"" for number in range(2000)}
    raws = [Raw(f"{TOP}/{name}".encode(), b"") for name in files]
    assert len(inspected(write(raws), tmp_path / "a.zip", files).whole) == 2000


@pytest.mark.parametrize("wrong", ["count", "size", "offset", "locator"])
def test_an_end_that_says_two_things_is_not_clean(wrong: str, tmp_path: Path) -> None:
    def end(count: int, size: int, offset: int) -> bytes:
        return zip64_end(count, size, offset, wrong=wrong)

    assert not inspected(write(entries(), end), tmp_path / "a.zip").clean
