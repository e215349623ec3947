"""The published files on a real disk: whole or not there, and nothing else to be found."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs_fixture import make_job

from die_algorithm.models import Job, ResultFile, SingleFile
from die_algorithm.results import (
    Results,
    collection_name,
    job_id_in,
    log_name,
    new_result_key,
    single_file_path,
    zip_name,
)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "deep" / "results")


@pytest.fixture
def job() -> Job:
    return make_job(result_key=new_result_key())


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_published_is_found(results: Results, job: Job) -> None:
    results.write_log(job, "é\n")
    results.write_collection(job, b"<x/>")
    results.new_zip_path(job).write_bytes(b"PK")
    for name, content in (
        (log_name(job), "é\n".encode()),
        (collection_name(job), b"<x/>"),
        (zip_name(job), b"PK"),
    ):
        path = results.find(job.result_key, name)
        assert path is not None
        assert path.read_bytes() == content
        assert job_id_in(name) == job.id


def test_only_folders_of_jobs_in_which_nothing_has_changed_are_untouched(
    results: Results, tmp_path: Path
) -> None:
    folder, now = tmp_path / "deep" / "results", 2e9
    assert list(results.untouched(now)) == []
    jobs = {
        what: make_job(result_key=new_result_key())
        for what in ("old", "half", "new", "grows", "foreign", "empty")
    }
    for job in jobs.values():
        results.write_log(job, "")
        results.write_status(job, b"")
    half = results.zip_path(jobs["half"])
    half.with_name(f".{half.name}.0a1b2c3d.part").touch()
    (folder / jobs["foreign"].result_key / "notes.txt").touch()
    (folder / jobs["empty"].result_key / log_name(jobs["empty"])).unlink()
    (folder / "linked").mkdir()
    (folder / new_result_key()).symlink_to(folder / jobs["old"].result_key)
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (now - 100, now - 100), follow_symlinks=False)
    os.utime(folder / jobs["new"].result_key, (now, now))
    os.utime(folder / jobs["grows"].result_key / log_name(jobs["grows"]), (now, now))
    expected = {(jobs[what].result_key, jobs[what].id) for what in ("old", "half")}
    assert set(results.untouched(now - 50)) == expected


def test_what_is_not_published_yet_is_not_found(results: Results, job: Job) -> None:
    assert results.find(job.result_key, zip_name(job)) is None
    results.new_zip_path(job)
    assert results.find(job.result_key, zip_name(job)) is None


@pytest.mark.parametrize("fence", [1, 2])
def test_copies_of_single_files_go_with_the_zips_that_do_not_count(
    results: Results, tmp_path: Path, fence: int
) -> None:
    job = make_job(result_key=new_result_key(), fence=fence)
    zip_path = results.new_zip_path(job)
    former = zip_path.with_name(f"{job.service_name}.9.zip")
    long_path = "/".join(["é" * 100] * 20)
    for path in (zip_path, former):
        path.write_bytes(b"PK")
        for name in ("a.csv", "old.csv", long_path):
            single_file_path(path, name).write_bytes(name.encode())
    told = tuple(SingleFile(path=p, size=1, media_type="") for p in ("a.csv", long_path))
    result = ResultFile(name=zip_path.name, size=2, sha256="", files=3, notes=(), single_files=told)
    results.tidy(dataclasses.replace(job, result=result))
    assert len(files_in(zip_path.parent)) == 3
    for name in ("a.csv", long_path):
        copy = results.find_single_file(job.result_key, zip_path.name, name)
        assert copy is not None
        assert copy.read_bytes() == name.encode()
    for name in ("old.csv", "", ".", "../a.csv", "A.CSV", "a.csv/", "a\0.csv", "\udc80"):
        assert results.find_single_file(job.result_key, zip_path.name, name) is None
    assert results.find_single_file(job.result_key, former.name, "a.csv") is None
    assert results.find_single_file("..", zip_path.name, "a.csv") is None
    results.remove(job)
    assert files_in(tmp_path) == set()


def test_keys_cannot_be_guessed() -> None:
    keys = {new_result_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(len(key) == 32 and int(key, 16) >= 0 for key in keys)


# -- find() never leaves the folder

ID = "00000000-0000-4000-8000-000000000000"
NAME = f"die-{ID}.zip"
KEY = "0" * 32


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("..", NAME),
        (".", NAME),
        ("", NAME),
        (KEY.replace("0", "A"), NAME),
        (KEY + "\n", NAME),
        (KEY + "/.", NAME),
        (f"../results/{KEY}", NAME),
        (KEY, ""),
        (KEY, "."),
        (KEY, ".."),
        (KEY, "../secret.zip"),
        (KEY, f"../{KEY}/{NAME}"),
        (KEY, f"{NAME}\n"),
        (KEY, f"{NAME}\0"),
        (KEY, f"./{NAME}"),
        (KEY, f".{NAME}.1234"),
        (KEY, NAME.upper()),
        (KEY, f"die-{ID}.exe"),
        (KEY, "/etc/passwd"),
        (KEY, "..\\x"),
        (KEY, "%2e%2e"),
    ],
)
def test_only_the_exact_form_is_looked_for(tmp_path: Path, key: str, name: str) -> None:
    results = Results(tmp_path / "results")
    folder = tmp_path / "results" / KEY
    folder.mkdir(parents=True)
    (tmp_path / "secret.zip").write_bytes(b"secret")
    (tmp_path / "results" / NAME).write_bytes(b"secret")
    (tmp_path / NAME).write_bytes(b"secret")
    (folder / f".{NAME}.1234").write_bytes(b"half")
    (folder / f"{NAME}\n").write_bytes(b"secret")
    (folder / NAME).write_bytes(b"PK")
    assert results.find(KEY, NAME) == folder / NAME
    assert results.find(key, name) is None


@given(st.text(), st.text())
def test_no_text_leads_out_of_the_folder(key: str, name: str) -> None:
    assert Results(Path("/")).find(key, name) is None
    assert Results(Path("/")).find(KEY, name) is None
    job_id_in(name)


def test_a_folder_of_the_right_name_is_no_file(tmp_path: Path) -> None:
    (tmp_path / KEY / NAME).mkdir(parents=True)
    assert Results(tmp_path).find(KEY, NAME) is None


# -- writing


def written_while_read(path: Path, write: Callable[[bytes], None]) -> set[bytes]:
    """Write two long documents in turn; everything that a reader saw meanwhile."""
    seen: set[bytes] = set()
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            seen.add(path.read_bytes())

    write(b"a" * 200_000)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for turn in range(100):
            write((b"b" if turn % 2 else b"a") * 200_000)
    finally:
        ended.set()
        reader.join()
    return seen


def test_a_reader_sees_the_old_document_or_the_new_one_whole(tmp_path: Path) -> None:
    results = Results(tmp_path)
    job = make_job()

    def write(content: bytes) -> None:
        results.write_status(job, content)

    seen = written_while_read(tmp_path / f"{job.id}.xml", write)
    assert seen <= {b"a" * 200_000, b"b" * 200_000}
    assert files_in(tmp_path) == {f"{job.id}.xml"}


def test_a_first_status_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    results = Results(tmp_path)
    job = make_job()
    results.write_status(job, b"accepted", first=True)
    results.write_status(job, b"running")
    results.write_status(job, b"accepted", first=True)
    assert (tmp_path / f"{job.id}.xml").read_bytes() == b"running"
    assert files_in(tmp_path) == {f"{job.id}.xml"}


def test_a_disk_that_cannot_be_written_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    in_the_way = tmp_path / "results"
    in_the_way.write_bytes(b"")
    results = Results(in_the_way)
    job = make_job()
    with pytest.raises(OSError, match="results"):
        results.check()
    with pytest.raises(OSError, match="results"):
        results.write_log(job, "text")
    with pytest.raises(OSError, match="results"):
        results.write_status(job, b"")


def test_a_write_that_fails_leaves_no_part_behind(tmp_path: Path) -> None:
    results = Results(tmp_path)
    job = make_job()
    (tmp_path / f"{job.id}.xml" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match=r"\.xml"):
        results.write_status(job, b"content")
    assert files_in(tmp_path) == set()


def test_the_check_leaves_nothing_behind(tmp_path: Path) -> None:
    Results(tmp_path / "results").check()
    assert os.listdir(tmp_path / "results") == []  # noqa: PTH208 - hidden files count


def test_checks_do_not_disturb_each_other(tmp_path: Path) -> None:
    results = Results(tmp_path)

    def check_often(_number: int) -> None:
        for _ in range(100):
            results.check()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(check_often, range(8)))
