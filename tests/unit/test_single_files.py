"""What of a zip lies beside it: small pictures and tables, and nothing that a browser would run."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from die_algorithm.archive import extract_single_files
from die_algorithm.models import SingleFile

LIMIT = 100
TOP = "die-1"


def make_zip(folder: Path, *names: str, size: int = 3) -> Path:
    """A zip of files that hold their own names, or are as long as wanted."""
    path = folder / "result.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir(TOP)
        for name in names:
            archive.writestr(f"{TOP}/{name}", name.encode().ljust(size, b"."))
    return path


def copy_of(folder: Path, path: str) -> Path:
    return folder / f"copy-{hashlib.sha256(path.encode()).hexdigest()}"


def extract(zip_path: Path) -> tuple[SingleFile, ...]:
    return extract_single_files(zip_path, LIMIT, lambda path: copy_of(zip_path.parent, path))


def copies(folder: Path) -> int:
    return len(list(folder.glob("copy-*")))


def test_pictures_and_tables_are_told_in_the_order_of_their_names(tmp_path: Path) -> None:
    path = make_zip(tmp_path, "z.csv", "sub/b.PNG", "a.jpeg", "c.gif", "d.bmp", "e.jpg")
    files = extract(path)
    assert [(file.path, file.media_type) for file in files] == [
        ("a.jpeg", "image/jpeg"),
        ("c.gif", "image/gif"),
        ("d.bmp", "image/bmp"),
        ("e.jpg", "image/jpeg"),
        ("sub/b.PNG", "image/png"),
        ("z.csv", "text/csv"),
    ]
    for file in files:
        content = copy_of(tmp_path, file.path).read_bytes()
        assert content == file.path.encode()
        assert file.size == len(content)


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.xml", "a.js", "a.csv.html", "csv", "png/a"])
def test_nothing_else_is_told_or_copied(tmp_path: Path, name: str) -> None:
    assert extract(make_zip(tmp_path, name)) == ()
    assert copies(tmp_path) == 0


@pytest.mark.parametrize(("size", "is_told"), [(LIMIT, True), (LIMIT + 1, False)])
def test_the_limit_is_the_size_of_the_file(tmp_path: Path, size: int, *, is_told: bool) -> None:
    assert bool(extract(make_zip(tmp_path, "a.csv", size=size))) is is_told
    assert copies(tmp_path) == is_told


def test_twenty_are_told_and_copied(tmp_path: Path) -> None:
    names = [f"{number:02}.csv" for number in range(25)]
    files = extract(make_zip(tmp_path, *reversed(names)))
    assert [file.path for file in files] == names[:20]
    assert copies(tmp_path) == 20


def test_of_a_zip_that_turns_out_damaged_no_copy_is_left(tmp_path: Path) -> None:
    path = make_zip(tmp_path, "a.csv", "b.csv")
    content = path.read_bytes()
    path.write_bytes(
        content.replace(b"b.csvb.csv", b"b.csvx.csv", 1).replace(b"/b.csvb", b"/b.csvx", 1)
    )
    with pytest.raises(zipfile.BadZipFile):
        extract(path)
    assert copies(tmp_path) == 0


def test_where_a_copy_cannot_be_written_none_is_left(tmp_path: Path) -> None:
    def lost(path: str) -> Path:
        return copy_of(tmp_path, path) if path == "a.csv" else tmp_path / "away" / "copy"

    with pytest.raises(FileNotFoundError):
        extract_single_files(make_zip(tmp_path, "a.csv", "b.csv"), LIMIT, lost)
    assert copies(tmp_path) == 0
