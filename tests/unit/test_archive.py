"""The result zip, made from zips and listings of all kinds.

The three callables are plain functions here; what StorageHub itself sends is in
tests/contract/test_storagehub.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import io
import logging
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from die_algorithm.archive import build_archive
from die_algorithm.archive.names import entry_paths, safe_name
from die_algorithm.errors import (
    ArchiveError,
    ArchiveIncomplete,
    ArchiveTooLarge,
    DamagedDownload,
    DiskTrouble,
    ItemUnusable,
    NoRoom,
    ResultUnwritable,
    StorageHubUnavailable,
)
from die_algorithm.job_in_hand import JobMark, job_in_hand
from die_algorithm.models import Item, ListedItem, ResultFile

TOP = "die-1"
Path_ = tuple[str, ...]


def listed(path: Path_, size: int | None = None, *, folder: bool = False) -> ListedItem:
    item = Item(
        id="-".join(path).encode(errors="surrogatepass").hex(),
        name=path[-1],
        path="",
        owner="ada",
        parent_id=None,
        is_folder=folder,
        trashed=False,
        hidden=False,
        size=size,
        mime_type=None,
        modified=1_600_000_000_000,
    )
    return ListedItem(path=path, item=item)


def make_zip(entries: Sequence[tuple[str | zipfile.ZipInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in entries:
            target.writestr(name, content)
    return buffer.getvalue()


@dataclasses.dataclass
class Folder:
    """A folder as StorageHub would give it. Change a field to make it misbehave."""

    files: dict[Path_, bytes]
    folders: Sequence[Path_] = ()
    #: Instead of the right zip.
    zip_bytes: bytes | None = None
    #: Left out of StorageHub's zip.
    skipped: Sequence[Path_] = ()
    #: Called before each listing, with its number.
    on_listing: Callable[[int], None] = lambda _number: None
    listings: int = 0
    zips: int = 0
    singles: list[str] = dataclasses.field(default_factory=list)

    def listing(self) -> list[ListedItem]:
        self.listings += 1
        self.on_listing(self.listings)
        parts = [listed(path, folder=True) for path in self.folders]
        return parts + [listed(path, len(content)) for path, content in self.files.items()]

    def right_zip(self) -> bytes:
        entries: list[tuple[str | zipfile.ZipInfo, bytes]] = [(f"{TOP}/", b"")]
        entries += [("/".join((TOP, *path)) + "/", b"") for path in self.folders]
        entries += [
            ("/".join((TOP, *path)), content)
            for path, content in self.files.items()
            if path not in self.skipped
        ]
        return make_zip(entries)

    @contextlib.contextmanager
    def folder_zip(self) -> Iterator[Iterable[bytes]]:
        self.zips += 1
        content = self.right_zip() if self.zip_bytes is None else self.zip_bytes
        yield (content[start : start + 1000] for start in range(0, len(content), 1000))

    @contextlib.contextmanager
    def single_file(self, item: Item) -> Iterator[Iterable[bytes]]:
        self.singles.append(item.name)
        for path, content in self.files.items():
            if listed(path).item.id == item.id:
                yield [content[:1], content[1:]]
                return
        raise ItemUnusable("gone")

    def build(
        self, destination: Path, *, top: str = TOP, max_size: int = 10**9, max_files: int = 100_000
    ) -> ResultFile:
        return build_archive(
            destination,
            top=top,
            listing=self.listing,
            folder_zip=self.folder_zip,
            single_file=self.single_file,
            max_size=max_size,
            max_files=max_files,
        )


FILES: dict[Path_, bytes] = {
    ("elements.txt",): b"b\na\n" * 500,
    ("empty",): b"",
    ("sub", "plot.png"): os.urandom(5000),
    ("sub", "deeper", "grüße 漢字.txt"): b"x" * 10,
}
FOLDERS = [("sub",), ("sub", "deeper"), ("nothing here",)]


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "results" / "die-1.zip"


@pytest.fixture(autouse=True)
def _results_folder(destination: Path) -> Iterator[None]:
    """Nothing but the result, if any, may remain in its folder."""
    destination.parent.mkdir()
    yield
    assert [path for path in destination.parent.iterdir() if path != destination] == []


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as source:
        assert source.testzip() is None
        names = source.namelist()
        assert len(names) == len(set(names))
        return {name: source.read(name) for name in names if not name.endswith("/")}


def expected(files: dict[Path_, bytes]) -> dict[str, bytes]:
    return {"/".join((TOP, *path)): content for path, content in files.items()}


def check(result: ResultFile, destination: Path, files: dict[Path_, bytes]) -> None:
    data = destination.read_bytes()
    assert result.name == destination.name
    assert result.size == len(data)
    assert result.sha256 == hashlib.sha256(data).hexdigest()
    assert result.files == len(files)


# -- the straight way


def test_a_whole_zip_is_published_byte_for_byte(destination: Path) -> None:
    folder = Folder(FILES, FOLDERS)
    folder.zip_bytes = folder.right_zip()
    result = folder.build(destination)
    assert destination.read_bytes() == folder.zip_bytes
    assert result.notes == ()
    assert (folder.zips, folder.listings, folder.singles) == (1, 2, [])
    check(result, destination, FILES)


def test_an_empty_folder_gives_storagehubs_own_zip_with_a_note(destination: Path) -> None:
    result = Folder({}).build(destination)
    assert zipfile.ZipFile(destination).namelist() == [f"{TOP}/"]
    assert result.files == 0
    assert result.notes == ("The folder holds no files.",)


def test_an_earlier_result_is_replaced_and_leftovers_of_a_killed_try_go(destination: Path) -> None:
    destination.write_bytes(b"old")
    destination.with_name(f".{destination.name}.0011aabb.part").write_bytes(b"left over")
    check(Folder(FILES, FOLDERS).build(destination), destination, FILES)


def test_more_entries_than_a_plain_zip_can_count(destination: Path) -> None:
    files: dict[Path_, bytes] = {(f"f{number}",): b"" for number in range(65_600)}
    folder = Folder(files)
    folder.zip_bytes = folder.right_zip()
    result = folder.build(destination)
    assert result.files == 65_600
    assert destination.read_bytes() == folder.zip_bytes


@pytest.mark.slow
def test_appending_beyond_what_a_plain_zip_can_count(destination: Path) -> None:
    files: dict[Path_, bytes] = {(f"f{number}",): b"" for number in range(65_534)}
    files |= {(f"g{number}",): b"x" for number in range(10)}
    result = Folder(files, skipped=[(f"g{number}",) for number in range(10)]).build(destination)
    assert result.files == 65_544
    with zipfile.ZipFile(destination) as source:
        assert len(source.namelist()) == 65_545
        assert source.read(f"{TOP}/g9") == b"x"


# -- what StorageHub leaves out or damages


def test_a_skipped_entry_is_fetched_singly_and_added(destination: Path) -> None:
    folder = Folder(FILES, FOLDERS, skipped=[("sub", "plot.png"), ("empty",)])
    result = folder.build(destination)
    assert contents(destination) == expected(FILES)
    assert sorted(folder.singles) == ["empty", "plot.png"]
    assert result.notes == ()
    check(result, destination, FILES)


def test_folders_without_files_are_not_lost(destination: Path) -> None:
    folder = Folder(FILES, FOLDERS)
    folder.zip_bytes = make_zip([(name, data) for name, data in expected(FILES).items()])
    folder.build(destination)
    assert f"{TOP}/nothing here/" in zipfile.ZipFile(destination).namelist()


def damage(kind: str) -> Callable[[bytes], bytes]:
    def flip(data: bytes, position: int) -> bytes:
        return data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :]

    return {
        "nothing": lambda _data: b"",
        "HTML page": lambda _data: b"<html><body>Sorry</body></html>" * 20,
        "cut in half": lambda data: data[: len(data) // 2],
        "cut by one byte": lambda data: data[:-1],
        "cut in the end record": lambda data: data[:-15],
        "bit flipped in a content": lambda data: flip(data, data.index(b"plot.png") + 2000),
        "bit flipped in a local name": lambda data: flip(data, data.index(b"plot.png")),
        "bit flipped in the directory": lambda data: flip(data, data.rindex(b"plot.png") - 20),
        "bit flipped in an offset": lambda data: flip(
            data, data.rindex(b"plot.png") - len(TOP) - 6
        ),
        "zeros in the middle": lambda data: data[:3000] + bytes(1000) + data[4000:],
        "rubbish in front": lambda data: b"x" * 1000 + data,
        "rubbish behind": lambda data: data + b"x" * 1000,
        "twice": lambda data: data + data,
    }[kind]


KINDS = [
    "nothing",
    "HTML page",
    "cut in half",
    "cut by one byte",
    "cut in the end record",
    "bit flipped in a content",
    "bit flipped in a local name",
    "bit flipped in the directory",
    "bit flipped in an offset",
    "zeros in the middle",
    "rubbish in front",
    "rubbish behind",
    "twice",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_zip_is_never_served(kind: str, destination: Path) -> None:
    folder = Folder(FILES, FOLDERS)
    folder.zip_bytes = damage(kind)(folder.right_zip())
    result = folder.build(destination)
    assert contents(destination) == expected(FILES)
    check(result, destination, FILES)
    subprocess.run(["unzip", "-tq", str(destination)], check=True)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_change_of_bytes_comes_through(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = Folder({("a",): b"abc" * 40, ("b", "c"): bytes(range(200))}, [("b",)])
    right = bytearray(folder.right_zip())
    for _ in range(data.draw(st.integers(1, 3))):
        right[data.draw(st.integers(0, len(right) - 1))] = data.draw(st.integers(0, 255))
    folder.zip_bytes = bytes(right[: data.draw(st.integers(0, len(right)))])
    target = tmp_path_factory.mktemp("fuzz") / "die-1.zip"
    folder.build(target)
    assert contents(target) == expected(folder.files)
    assert list(target.parent.iterdir()) == [target]
    shutil.rmtree(target.parent)


def test_a_zip_that_breaks_off_is_replaced_by_single_files(destination: Path) -> None:
    class Breaks(Folder):
        @contextlib.contextmanager
        def folder_zip(self) -> Iterator[Iterable[bytes]]:
            def chunks() -> Iterator[bytes]:
                yield self.right_zip()[:3000]
                raise DamagedDownload("broke off")

            yield chunks()

    Breaks(FILES, FOLDERS).build(destination)
    assert contents(destination) == expected(FILES)


def test_a_zip_that_is_refused_is_replaced_by_single_files(destination: Path) -> None:
    class Refuses(Folder):
        @contextlib.contextmanager
        def folder_zip(self) -> Iterator[Iterable[bytes]]:
            raise ItemUnusable("no zip")
            yield []

    check(Refuses(FILES, FOLDERS).build(destination), destination, FILES)


def test_a_zip_that_is_unavailable_is_left_to_the_caller(destination: Path) -> None:
    class Away(Folder):
        @contextlib.contextmanager
        def folder_zip(self) -> Iterator[Iterable[bytes]]:
            raise StorageHubUnavailable("away")
            yield []

    folder = Away(FILES, FOLDERS)
    with pytest.raises(StorageHubUnavailable):
        folder.build(destination)
    assert folder.singles == []


def test_a_file_that_stays_wrong_is_an_incomplete_archive(destination: Path) -> None:
    class Short(Folder):
        @contextlib.contextmanager
        def single_file(self, item: Item) -> Iterator[Iterable[bytes]]:
            self.singles.append(item.name)
            yield [b"half"]

    folder = Short(FILES, FOLDERS, zip_bytes=b"")
    with pytest.raises(ArchiveIncomplete, match=r"elements\.txt"):
        folder.build(destination)
    assert folder.singles == ["elements.txt"] * 3
    assert not destination.exists()


def test_what_was_written_anew_is_read_again(
    destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the disk had lost a bit."""
    real = zipfile.ZipFile.close

    def forgetful(self: zipfile.ZipFile) -> None:
        writes = self.mode == "w" and self.fp is not None
        name = self.filename
        real(self)
        if writes and name:
            data = bytearray(Path(name).read_bytes())
            data[data.index(b"elements.txt") + 15] ^= 1
            Path(name).write_bytes(data)

    folder = Folder(FILES, FOLDERS, zip_bytes=b"")
    monkeypatch.setattr(zipfile.ZipFile, "close", forgetful)
    with pytest.raises(ArchiveIncomplete):
        folder.build(destination)
    assert not destination.exists()


class Sizeless(Folder):
    """The listing tells no sizes, but of a file called ``listed``."""

    def listing(self) -> list[ListedItem]:
        return [
            listed(path, len(content) if path == ("listed",) else None)
            for path, content in self.files.items()
        ]


def test_a_file_of_unlisted_size_is_taken_as_it_comes(destination: Path) -> None:
    files: dict[Path_, bytes] = {("a",): b"aa", ("b",): b"bb"}
    Sizeless(files, skipped=[("b",)]).build(destination)
    assert contents(destination) == expected(files)


@pytest.mark.parametrize("error", [StorageHubUnavailable("away"), DamagedDownload("broke")])
def test_errors_of_the_callables_pass_unchanged(error: Exception, destination: Path) -> None:
    class Fails(Folder):
        @contextlib.contextmanager
        def single_file(self, item: Item) -> Iterator[Iterable[bytes]]:  # noqa: ARG002
            def chunks() -> Iterator[bytes]:
                yield b"b"
                raise error

            yield chunks()

    with pytest.raises(type(error)) as caught:
        Fails(FILES, FOLDERS, zip_bytes=b"").build(destination)
    assert caught.value is error
    assert not destination.exists()


# -- a folder that changes


def test_a_change_while_fetching_repeats_the_fetching(destination: Path) -> None:
    files = dict(FILES)

    def change(number: int) -> None:
        if number == 2:
            files["new",] = b"new"

    folder = Folder(files, FOLDERS, on_listing=change)
    result = folder.build(destination)
    assert contents(destination) == expected(files)
    assert result.notes == ()
    assert (folder.zips, folder.listings) == (2, 3)


def test_a_folder_that_never_rests_is_delivered_with_a_note(destination: Path) -> None:
    files = {("log",): b""}

    def change(_number: int) -> None:
        files["log",] += b"line\n"

    folder = Folder(files, on_listing=change)  # type: ignore[arg-type]
    result = folder.build(destination)
    assert folder.zips == 3
    assert contents(destination)[f"{TOP}/log"]
    assert "changed" in result.notes[0]


def test_a_file_that_goes_away_meanwhile_is_no_error(destination: Path) -> None:
    files = dict(FILES)

    class Removes(Folder):
        @contextlib.contextmanager
        def single_file(self, item: Item) -> Iterator[Iterable[bytes]]:
            if item.name == "plot.png":
                files.pop(("sub", "plot.png"), None)
            with super().single_file(item) as chunks:
                yield chunks

    Removes(files, FOLDERS, skipped=[("sub", "plot.png")]).build(destination)
    assert contents(destination) == expected(files)
    assert ("sub", "plot.png") not in files


def test_a_file_that_is_listed_but_cannot_be_had_is_an_error_at_once(destination: Path) -> None:
    class Refuses(Folder):
        @contextlib.contextmanager
        def single_file(self, item: Item) -> Iterator[Iterable[bytes]]:
            self.singles.append(item.name)
            raise ItemUnusable("no")
            yield []

    folder = Refuses(FILES, FOLDERS, skipped=[("empty",)])
    with pytest.raises(ItemUnusable):
        folder.build(destination)
    assert folder.singles == ["empty"]


# -- limits


def test_too_many_bytes_are_refused_before_anything_is_fetched(destination: Path) -> None:
    folder = Folder(FILES, FOLDERS)
    with pytest.raises(ArchiveTooLarge, match=r"7\.01 kB.* 7 kB"):
        folder.build(destination, max_size=7000)
    assert folder.zips == 0


def test_too_many_items_are_refused_before_anything_is_fetched(destination: Path) -> None:
    folder = Folder(FILES, FOLDERS)
    with pytest.raises(ArchiveTooLarge, match="6 files and folders"):
        folder.build(destination, max_files=6)
    assert folder.zips == 0
    folder.build(destination, max_files=7)


def test_a_zip_without_end_is_stopped_and_replaced_by_single_files(destination: Path) -> None:
    sent = 0

    class Endless(Folder):
        @contextlib.contextmanager
        def folder_zip(self) -> Iterator[Iterable[bytes]]:
            def chunks() -> Iterator[bytes]:
                nonlocal sent
                while True:
                    sent += 1000
                    yield bytes(1000)

            yield chunks()

    Endless(FILES, FOLDERS).build(destination)
    assert sent < 200_000
    assert contents(destination) == expected(FILES)


@pytest.mark.parametrize(
    ("size", "error"), [(3, ArchiveIncomplete), (None, ArchiveTooLarge)], ids=["listed", "unlisted"]
)
def test_a_file_without_end_is_stopped(
    size: int | None, error: type[Exception], destination: Path
) -> None:
    class Endless(Folder):
        def listing(self) -> list[ListedItem]:
            return [listed(("a",), size)]

        @contextlib.contextmanager
        def single_file(self, item: Item) -> Iterator[Iterable[bytes]]:  # noqa: ARG002
            def chunks() -> Iterator[bytes]:
                while True:
                    yield bytes(1000)

            yield chunks()

    with pytest.raises(error):
        Endless({}, zip_bytes=b"").build(destination, max_size=100_000)


@pytest.mark.parametrize("skipped", [(), [("b",)], [("a",), ("b",)], [("listed",)]])
def test_sizes_that_are_not_listed_count_for_the_limit_wherever_they_turn_up(
    skipped: Sequence[Path_], destination: Path
) -> None:
    files: dict[Path_, bytes] = {("listed",): b"l" * 400, ("a",): b"a" * 400, ("b",): b"b" * 400}
    with pytest.raises(ArchiveTooLarge):
        Sizeless(files, skipped=skipped).build(destination, max_size=1199)
    assert not destination.exists()
    Sizeless(files, skipped=skipped).build(destination, max_size=1200)
    assert contents(destination) == expected(files)


def test_no_more_is_fetched_of_a_file_of_unlisted_size_than_there_is_room_for(
    destination: Path,
) -> None:
    taken = 0

    class Endless(Sizeless):
        @contextlib.contextmanager
        def single_file(self, item: Item) -> Iterator[Iterable[bytes]]:
            def chunks() -> Iterator[bytes]:
                nonlocal taken
                while True:
                    taken += 100
                    yield bytes(100)

            with super().single_file(item) as whole:
                yield chunks() if item.name == "b" else whole

    files: dict[Path_, bytes] = {("listed",): b"l" * 400, ("a",): b"a" * 400, ("b",): b""}
    with pytest.raises(ArchiveTooLarge):
        Endless(files, zip_bytes=b"").build(destination, max_size=1000)
    assert taken == 300


def overlapping(size: int) -> bytes:
    """Two entries that share one content (CVE-2024-0450)."""
    data = bytearray(make_zip([(f"{TOP}/a", bytes(size)), (f"{TOP}/b", bytes(size))]))
    directory = data.rindex(b"PK\1\2")
    local = data.index(b"PK\3\4", 4)
    del local
    data[directory + 42 : directory + 46] = struct.pack("<I", 0)
    return bytes(data)


def test_a_bomb_of_overlapping_entries_is_not_unpacked(destination: Path) -> None:
    files: dict[Path_, bytes] = {("a",): bytes(3000), ("b",): bytes(3000)}
    folder = Folder(files, zip_bytes=overlapping(3000))
    folder.build(destination)
    assert folder.singles == ["a", "b"]
    assert contents(destination) == expected(files)


def test_an_entry_larger_than_it_says_is_not_unpacked(
    destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = 0
    real = zlib.decompressobj

    class Watched:
        def __init__(self, bits: int) -> None:
            self._inflater = real(bits)

        def decompress(self, data: bytes, most: int) -> bytes:
            nonlocal unpacked
            chunk = self._inflater.decompress(data, most)
            unpacked += len(chunk)
            return chunk

        def __getattr__(self, name: str) -> object:
            return getattr(self._inflater, name)

    bomb = bytearray(make_zip([(f"{TOP}/a", bytes(5_000_000))]))
    # Announced as 3 bytes, so that it fits the listing.
    for size in (bomb.index(b"PK\3\4") + 22, bomb.rindex(b"PK\1\2") + 24):
        bomb[size : size + 4] = struct.pack("<I", 3)
    monkeypatch.setattr(zlib, "decompressobj", Watched)
    Folder({("a",): b"abc"}, zip_bytes=bytes(bomb)).build(destination)
    assert contents(destination) == {f"{TOP}/a": b"abc"}
    assert unpacked < 100


def test_what_the_threads_of_the_inspection_log_names_the_job(
    destination: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name, content = f"{TOP}/a", b"abc" * 40
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    damaged = bytearray(packed.getvalue())
    damaged[30 + len(name)] = 0xFF  # a kind of block that there is not
    caplog.set_level(logging.INFO)
    mark = JobMark()
    caplog.handler.addFilter(mark)
    folder = Folder({("a",): content}, zip_bytes=bytes(damaged))
    with job_in_hand("job-a"):
        folder.build(destination)
    caplog.handler.removeFilter(mark)
    assert [text for text in caplog.messages if "damaged" in text] == [
        "job=job-a An entry of the zip is damaged: error"
    ]


# -- the disk


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=4", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


BIG: dict[Path_, bytes] = {("big",): os.urandom(400_000)}


@pytest.mark.parametrize("way", ["whole zip", "single files", "append"])
def test_a_full_disk_leaves_nothing_behind_and_recovers(way: str, tiny_disk: Path) -> None:
    destination = tiny_disk / "die-1.zip"
    folder = Folder(BIG)
    if way == "single files":
        folder.zip_bytes = b""
    elif way == "append":
        folder.skipped = [("big",)]
    with pytest.raises(NoRoom, match="no room"):
        folder.build(destination)
    assert list(tiny_disk.iterdir()) == []
    Folder({("small",): b"x"}).build(destination)
    assert contents(destination) == {f"{TOP}/small": b"x"}


def test_no_inode_left_is_no_room(tiny_disk: Path) -> None:
    for number in range(3):
        (tiny_disk / str(number)).touch()
    with pytest.raises(NoRoom):
        Folder(FILES, FOLDERS).build(tiny_disk / "die-1.zip")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_at_the_last_moment_is_no_room(
    number: int, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(number, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoRoom):
        Folder(FILES, FOLDERS).build(destination)
    assert not destination.exists()


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EROFS, ResultUnwritable), (errno.EIO, DiskTrouble), (errno.EMFILE, DiskTrouble)],
)
def test_another_error_of_the_disk_is_not_called_no_room(
    number: int, kind: type[ArchiveError], destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_descriptor: int) -> None:
        raise OSError(number, "broken")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(kind, match="broken"):
        Folder(FILES, FOLDERS).build(destination)


# -- names

HOSTILE: list[Path_] = [
    ("../../evil",),
    ("..", "evil2"),
    ("..",),
    (".",),
    ("",),
    ("/etc/passwd",),
    ("C:\\win\\x",),
    ("C:evil",),
    ("\\\\server\\share",),
    ("a\0b.txt",),
    ("line\nbreak\r\x1b[31m",),
    ("CON",),
    ("nul.txt",),
    ("com1 .tar.gz",),
    ("COM¹",),
    ("dot.",),
    ("blank ",),
    ("  .  ",),
    ("README",),
    ("readme",),
    ("Readme",),
    ("caf\u00e9",),
    ("cafe\u0301",),
    ("stra\u00dfe",),
    ("STRASSE",),
    ("gpj.\u202eexe.txt",),
    ("\ud800lone",),
    ("\udcff",),
    ("é" * 200 + ".tar",),
    ("x" * 300,),
    ("." * 300 + "y",),
    (" " * 300 + "z",),
    ("sub",),
    ("sub", "../../../evil3"),
    ("SUB",),
    ("SUB", "other"),
    ("trailing\u2028separator",),
    ("-rf",),
    ("~root",),
    ("$(touch evil4)",),
    ("a:b?c*d<e>f|g",),
]
HOSTILE_FOLDERS = [("..",), ("sub",), ("SUB",)]


def hostile_folder() -> Folder:
    files = {path: repr(path).encode() for path in HOSTILE if path not in HOSTILE_FOLDERS}
    return Folder(files, HOSTILE_FOLDERS, zip_bytes=b"")


def unzip(archive: Path, target: Path) -> None:
    done = subprocess.run(
        ["unzip", "-o", "-q", str(archive), "-d", str(target)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def python(archive: Path, target: Path) -> None:
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(archive), str(target)], check=True)


def naive(archive: Path, target: Path) -> None:
    """An unzipper that trusts every name."""
    with zipfile.ZipFile(archive) as source:
        for info in source.infolist():
            path = target / info.filename
            if info.is_dir():
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                assert not path.exists()
                path.write_bytes(source.read(info))


def seven_zip(archive: Path, target: Path) -> None:
    subprocess.run(["7z", "x", "-y", f"-o{target}", str(archive)], check=True)


@pytest.mark.parametrize("extract", [unzip, python, naive, seven_zip])
def test_hostile_names_stay_inside_the_target(
    extract: Callable[[Path, Path], None], destination: Path, tmp_path: Path
) -> None:
    folder = hostile_folder()
    result = folder.build(destination)
    target = tmp_path / "a" / "b" / "c" / "target"
    target.mkdir(parents=True)
    before = {path for path in tmp_path.rglob("*") if target not in path.parents}
    extract(destination, target)
    after = {path for path in tmp_path.rglob("*") if target not in path.parents}
    assert after == before
    found = [path for path in target.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sorted(path.read_bytes() for path in found) == sorted(folder.files.values())
    assert result.files == len(folder.files)


def test_each_changed_name_has_a_note_up_to_a_limit(destination: Path) -> None:
    result = hostile_folder().build(destination)
    assert result.notes[2] == (
        '"../../evil" is called "die-1/.._.._evil" in the zip, because its name is not safe or not '
        "distinct on every system."
    )
    assert "more names were replaced" in result.notes[20]
    assert len(result.notes) == 21
    assert all(note.isprintable() for note in result.notes)


def test_a_hostile_name_in_storagehubs_own_zip_is_replaced_without_fetching_again(
    destination: Path,
) -> None:
    files: dict[Path_, bytes] = {("../evil",): b"evil", ("good",): b"good"}
    folder = Folder(files)
    result = folder.build(destination)
    assert contents(destination) == {f"{TOP}/.._evil": b"evil", f"{TOP}/good": b"good"}
    assert folder.singles == []
    assert len(result.notes) == 1
    check(result, destination, files)


def test_a_hostile_name_of_the_folder_itself_is_replaced(destination: Path) -> None:
    folder = Folder({("a",): b"a"}, zip_bytes=make_zip([("../", b""), ("../a", b"a")]))
    folder.build(destination, top="..")
    assert zipfile.ZipFile(destination).namelist() == ["__/", "__/a"]
    folder.files.clear()
    folder.zip_bytes = make_zip([("../", b"")])
    folder.build(destination, top="..")
    assert zipfile.ZipFile(destination).namelist() == ["__/"]


def test_a_link_in_storagehubs_zip_becomes_a_file(destination: Path) -> None:
    link = zipfile.ZipInfo(f"{TOP}/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    folder = Folder({("link",): b"/etc/passwd"}, zip_bytes=make_zip([(link, b"/etc/passwd")]))
    folder.build(destination)
    info = zipfile.ZipFile(destination).getinfo(f"{TOP}/link")
    assert stat.S_ISREG(info.external_attr >> 16)


def test_a_second_name_for_some_readers_is_dropped_without_fetching_again(
    destination: Path,
) -> None:
    name = f"{TOP}/a.txt"
    entry = zipfile.ZipInfo(name)
    other = struct.pack("<BL", 1, zlib.crc32(name.encode())) + b"../../evil"
    entry.extra = struct.pack("<HH", 0x7075, len(other)) + other
    folder = Folder({("a.txt",): b"abc"}, zip_bytes=make_zip([(entry, b"abc")]))
    result = folder.build(destination)
    assert b"evil" not in destination.read_bytes()
    assert contents(destination) == {name: b"abc"}
    assert folder.singles == []
    check(result, destination, folder.files)


def test_entries_that_are_not_listed_are_left_out(destination: Path) -> None:
    folder = Folder(FILES, FOLDERS)
    extra = [("../evil", b"x"), (f"{TOP}/extra", b"x"), ("other/", b"")]
    entries = [*expected(FILES).items(), *extra, (f"{TOP}/nothing here/", b"")]
    folder.zip_bytes = make_zip(entries)
    result = folder.build(destination)
    assert contents(destination) == expected(FILES)
    assert result.notes[0].startswith("3 entries of StorageHub's zip were left out")


def test_an_entry_of_another_length_than_listed_is_fetched_singly(destination: Path) -> None:
    folder = Folder({("log",): b"new and longer"}, zip_bytes=make_zip([(f"{TOP}/log", b"old")]))
    folder.build(destination)
    assert folder.singles == ["log"]
    assert contents(destination) == {f"{TOP}/log": b"new and longer"}


@pytest.mark.parametrize("zip_bytes", [None, b""], ids=["zip", "single files"])
def test_items_without_content_are_left_out_with_a_note(
    zip_bytes: bytes | None, destination: Path
) -> None:
    class Records(Folder):
        def listing(self) -> list[ListedItem]:
            paths = [("sub", "record"), *((f"link{number}",) for number in range(6))]
            records = [listed(path) for path in paths]
            return super().listing() + [
                dataclasses.replace(
                    record, item=dataclasses.replace(record.item, has_content=False)
                )
                for record in records
            ]

    folder = Records({("a",): b"a"}, [("sub",)], zip_bytes=zip_bytes)
    result = folder.build(destination)
    assert zipfile.ZipFile(destination).namelist() == [f"{TOP}/", f"{TOP}/sub/", f"{TOP}/a"]
    assert contents(destination) == {f"{TOP}/a": b"a"}
    assert (result.files, result.left_out) == (1, 7)
    (note,) = result.notes
    assert '"record", "link0", "link1", "link2", "link3" and 2 more' in note


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_twice_in_the_zip_is_fetched_singly(destination: Path) -> None:
    folder = Folder({("a",): b"right"})
    folder.zip_bytes = make_zip([(f"{TOP}/a", b"wrong"), (f"{TOP}/a", b"right")])
    folder.build(destination)
    assert folder.singles == ["a"]
    assert contents(destination) == {f"{TOP}/a": b"right"}


@pytest.mark.parametrize(
    "name",
    [
        "elements.txt",
        "grüße 漢字.txt",
        ".hidden",
        "a b",
        "x.tar.gz",
        "CONsole",
        "ab:c?",
        "-x",
        "é" * 100,
    ],
)
def test_an_honest_name_stays(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("", "_"),
        ("..", "__"),
        ("../x", ".._x"),
        ("C:evil", "C_evil"),
        ("c:\\win", "c__win"),
        ("a\0b", "a_b"),
        ("a\nb", "a_b"),
        ("x. . ", "x____"),
        ("con", "_con"),
        ("LPT1.txt", "_LPT1.txt"),
        ("NUL .a.b", "_NUL .a.b"),
        ("a\u202eb", "a_b"),
        ("\udc80", "_"),
        ("x" * 300 + ".nc", "x" * 252 + ".nc"),
        ("é" * 200, "é" * 127),
    ],
)
def test_a_hostile_name_is_replaced(name: str, safe: str) -> None:
    assert safe_name(name) == safe


NAMES = st.text(st.characters(), max_size=300)
#: Few names, of which many are the same for some reader, or get what another has.
TWINS = st.sampled_from(
    [
        *("a", "A", "a (2)", "a_b", "a:b", "a?b", 'A"b', "a/b", "a.", "a_", "_deep", "CON", "_CON"),
        *("é", "e\u0301", "É", "ß", "SS", "\u017fs", "≮", "<\u0338", "_\u0338"),
        *("ω\u0345\u0301", "ω\u0301\u0345"),  # which only a decomposition shows to be one
        *("x" * 255, "x" * 300),
    ]
)
Tree = list[ListedItem]


@st.composite
def trees(draw: st.DrawFn, names: st.SearchStrategy[str]) -> Tree:
    """A listing in any order, but for a folder's coming before what is in it."""
    listing: Tree = []
    folders: list[Path_] = [()]
    for _ in range(draw(st.integers(0, 12))):
        path = (*draw(st.sampled_from(folders)), draw(names))
        is_folder = draw(st.booleans())
        if any(other.path == path and other.item.is_folder == is_folder for other in listing):
            continue
        listing.append(listed(path, None if is_folder else len(repr(path)), folder=is_folder))
        if is_folder:
            folders.append(path)
    return listing


@dataclasses.dataclass
class Listed(Folder):
    """A folder with a listing of its own; each file holds its path."""

    tree: Tree = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.folders = [entry.path for entry in self.tree if entry.item.is_folder]
        self.files = {
            entry.path: repr(entry.path).encode(errors="surrogatepass")
            for entry in self.tree
            if not entry.item.is_folder
        }

    def listing(self) -> Tree:
        return [
            listed(entry.path, len(self.files[entry.path])) if not entry.item.is_folder else entry
            for entry in self.tree
        ]


FORBIDDEN_BY_WINDOWS = re.compile(r'[:?*<>|"]')


def readings(path: str) -> list[str]:
    """How readers may take a path: without regard to case and form, its characters replaced."""
    path = FORBIDDEN_BY_WINDOWS.sub("_", path)
    folded = unicodedata.normalize("NFD", path).casefold()
    composed = unicodedata.normalize("NFC", path)
    return [unicodedata.normalize("NFC", folded), composed, composed.lower()]


def check_unpacks_alike(archive: Path) -> None:
    """No two entries are one for any reader, and none is a file here and a folder there."""
    names = zipfile.ZipFile(archive).namelist()
    assert len(names) == len(set(names))
    files = {name for name in names if not name.endswith("/")}
    folders = {name.rstrip("/") for name in names if name.endswith("/")}
    for name in names:
        parts = name.rstrip("/").split("/")
        folders |= {"/".join(parts[:count]) for count in range(1, len(parts))}
    for read in zip(*(readings(path) for path in [*files, *folders]), strict=True):
        assert len(set(read)) == len(files) + len(folders)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@settings(max_examples=200, deadline=None)
@given(
    st.tuples(trees(NAMES), st.just(b"")) | st.tuples(trees(TWINS), st.sampled_from([None, b""]))
)
def test_a_published_archive_unpacks_alike_everywhere(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[Tree, bytes | None]
) -> None:
    tree, zip_bytes = case
    folder = Listed({}, tree=tree, zip_bytes=zip_bytes)
    target = tmp_path_factory.mktemp("names") / "die-1.zip"
    folder.build(target)
    check_unpacks_alike(target)
    assert sorted(contents(target).values()) == sorted(folder.files.values())
    shutil.rmtree(target.parent)


@settings(max_examples=300, deadline=None)
@given(trees(NAMES) | trees(TWINS), NAMES)
def test_every_listing_gives_safe_names(tree: Tree, top: str) -> None:
    safe = entry_paths(top, tree)
    assert len(safe) == len(tree)
    for path in safe:
        path.encode()
        assert len(path.encode()) <= 3300
        for part in path.split("/"):
            assert safe_name(part) == part
            assert 0 < len(part.encode()) <= 255


def files(*paths: Path_) -> Tree:
    return [listed(path, 0) for path in paths]


def test_many_equal_names_are_numbered_in_short_time() -> None:
    started = time.monotonic()
    safe = entry_paths(TOP, files(("same.txt",)) * 20_000)
    assert safe[:3] == [f"{TOP}/same.txt", f"{TOP}/same (2).txt", f"{TOP}/same (3).txt"]
    assert len(set(safe)) == 20_000
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("file_first", [True, False])
def test_a_file_and_a_folder_of_one_name_stand_side_by_side(file_first: bool) -> None:
    folder = listed(("a",), folder=True)
    pair = [*files(("a",)), folder] if file_first else [folder, *files(("a",))]
    of_file, of_folder = ("a", "a (2)") if file_first else ("a (2)", "a")
    safe = entry_paths(TOP, [*pair, *files(("a", "x"))])
    assert set(safe) == {f"{TOP}/{of_file}", f"{TOP}/{of_folder}", f"{TOP}/{of_folder}/x"}


@pytest.mark.parametrize("twin", ["12_30.png", "12?30.png", "12:30.PNG"])
def test_names_that_windows_would_write_alike_are_numbered(twin: str) -> None:
    safe = entry_paths(TOP, files(("12:30.png",), (twin,)))
    stem, _, extension = twin.partition(".")
    assert safe == [f"{TOP}/12:30.png", f"{TOP}/{stem} (2).{extension}"]


def deep_tree(names: str = "d", levels: int = 39) -> Tree:
    return [listed((names * 200,) * depth, folder=True) for depth in range(1, levels + 1)]


def test_a_path_too_long_to_unpack_moves_near_the_top() -> None:
    safe = entry_paths(TOP, deep_tree())
    assert max(len(path) for path in safe) <= 3300
    assert any(path.startswith(f"{TOP}/_deep/") for path in safe)


@pytest.mark.parametrize("is_folder", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_what_moves_near_the_top_gets_a_folder_that_nothing_else_has(
    is_folder: bool, first: bool, destination: Path
) -> None:
    own = [listed(("_Deep",), None if is_folder else 0, folder=is_folder)]
    if is_folder:
        own.append(listed(("_Deep", "x"), 0))
    deep = [*deep_tree(), *files(("d" * 200,) * 39 + ("f",))]
    folder = Listed({}, tree=own + deep if first else deep + own)
    folder.build(destination)
    check_unpacks_alike(destination)
    tops = {
        name.split("/")[1] for name in zipfile.ZipFile(destination).namelist() if name != f"{TOP}/"
    }
    assert tops == {"d" * 200, *(("_Deep", "_deep (2)") if first else ("_deep", "_Deep (2)"))}


# -- speed and memory


def test_half_a_gigabyte_passes_through_a_small_memory(destination: Path) -> None:
    """Measured in a process of its own, by its peak."""
    script = f"""
import contextlib, resource, sys, zipfile, pathlib, os
from die_algorithm.archive import build_archive
from die_algorithm.models import Item, ListedItem
big = pathlib.Path({str(destination.parent)!r}) / "source.zip"
block = os.urandom(1 << 20)
with zipfile.ZipFile(big, "w") as target, target.open("die-1/big", "w") as entry:
    for _ in range(500):
        entry.write(block)
item = Item(id="i", name="big", path="", owner="", parent_id=None, is_folder=False, trashed=False,
            hidden=False, size=500 << 20, mime_type=None, modified=None)
@contextlib.contextmanager
def chunks():
    with big.open("rb") as file:
        yield iter(lambda: file.read(1 << 20), b"")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
result = build_archive(pathlib.Path({str(destination)!r}), top="die-1",
    listing=lambda: [ListedItem(path=("big",), item=item)], folder_zip=chunks,
    single_file=None, max_size=10**10, max_files=10)
big.unlink()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, result.files)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    kilobytes, files = map(int, done.stdout.split())
    assert files == 1
    assert kilobytes < 64 * 1024
