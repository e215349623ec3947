"""What of a zip is listed beside it: small pictures and tables, and nothing that a browser would run."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from die_algorithm.archive import open_single_file, single_files

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


def test_pictures_and_tables_are_told_in_the_order_of_their_names(tmp_path: Path) -> None:
    path = make_zip(tmp_path, "z.csv", "sub/b.PNG", "a.jpeg", "c.gif", "d.bmp", "e.jpg")
    assert [(file.path, file.media_type) for file in single_files(path, LIMIT)] == [
        ("a.jpeg", "image/jpeg"),
        ("c.gif", "image/gif"),
        ("d.bmp", "image/bmp"),
        ("e.jpg", "image/jpeg"),
        ("sub/b.PNG", "image/png"),
        ("z.csv", "text/csv"),
    ]


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.xml", "a.js", "a.csv.html", "csv", "png/a"])
def test_nothing_else_is_told_or_given(tmp_path: Path, name: str) -> None:
    path = make_zip(tmp_path, name)
    assert single_files(path, LIMIT) == ()
    with pytest.raises(KeyError), open_single_file(path, name, LIMIT):
        pass


@pytest.mark.parametrize(("size", "is_told"), [(LIMIT, True), (LIMIT + 1, False)])
def test_the_limit_is_the_size_of_the_file(tmp_path: Path, size: int, *, is_told: bool) -> None:
    path = make_zip(tmp_path, "a.csv", size=size)
    assert bool(single_files(path, LIMIT)) is is_told
    if is_told:
        with open_single_file(path, "a.csv", LIMIT) as (file, content):
            assert (file.size, len(b"".join(content))) == (size, size)
    else:
        with pytest.raises(KeyError), open_single_file(path, "a.csv", LIMIT):
            pass


def test_twenty_are_told_and_every_one_is_given(tmp_path: Path) -> None:
    names = [f"{number:02}.csv" for number in range(25)]
    path = make_zip(tmp_path, *names)
    assert [file.path for file in single_files(path, LIMIT)] == names[:20]
    for name in names:
        with open_single_file(path, name, LIMIT) as (_, content):
            assert b"".join(content).decode() == name


@pytest.mark.parametrize("path", ["", "b.csv", "../a.csv", f"{TOP}/a.csv", "A.CSV", "a.csv/"])
def test_only_the_exact_path_is_given(tmp_path: Path, path: str) -> None:
    zip_path = make_zip(tmp_path, "a.csv")
    with pytest.raises(KeyError), open_single_file(zip_path, path, LIMIT):
        pass
