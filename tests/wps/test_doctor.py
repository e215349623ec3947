"""The doctor looks and leaves everything as it is, whoever asks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctor_fixture import ask_doctor
from open_folder import open_to_all

from die_algorithm.runtime import job_store
from die_algorithm.settings import Settings

NOBODY = 65534


@pytest.fixture(autouse=True)
def _open_to_all(tmp_path: Path) -> None:
    """Let other users look into the test's folder."""
    open_to_all(tmp_path)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Be another user, as far as files go."""
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def everything_in(folder: Path) -> dict[Path, tuple[int, int, int, int]]:
    """Whose each file is, who may read it, how long it is, and when it was written."""
    found = [(path, path.lstat()) for path in folder.rglob("*")]
    return {path: (s.st_uid, s.st_mode, s.st_size, s.st_mtime_ns) for path, s in found}


def test_in_an_empty_place_the_doctor_leaves_nothing_behind(tmp_path: Path) -> None:
    _, output = ask_doctor(data_dir=tmp_path / "a" / "data")
    assert "ok    jobs' database" in output
    assert "The first start makes jobs.sqlite and token.key, and can." in output
    assert "The first start makes the folder of the results, and can." in output
    assert everything_in(tmp_path) == {}


def test_that_a_proxy_before_the_service_is_not_trusted_is_told(tmp_path: Path) -> None:
    def is_told(**settings: str) -> bool:
        return "warn  proxies: " in ask_doctor(data_dir=tmp_path, **settings)[1]

    assert is_told(url="https://wps.example")
    assert not is_told(url="https://wps.example", trusted_proxies="10.0.0.1")
    assert not is_told(url="http://wps.example")


def test_root_is_told_that_the_folder_is_nobodys_yet(tmp_path: Path) -> None:
    _, output = ask_doctor(data_dir=tmp_path / "data")
    assert ("warn  user: " in output) is (os.geteuid() == 0)


@pytest.mark.parametrize("file", ["jobs.sqlite", "token.key"])
def test_what_is_lost_is_not_made_again(tmp_path: Path, file: str) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    job_store(settings).close()
    settings.results_path.mkdir()
    (settings.data_dir / file).unlink()
    before = everything_in(settings.data_dir)
    _, output = ask_doctor(data_dir=settings.data_dir)
    assert f"The first start makes {file}, and can." in output
    assert everything_in(settings.data_dir).keys() == before.keys()


def test_a_place_that_the_user_must_not_write_is_told(tmp_path: Path) -> None:
    with as_nobody():
        code, output = ask_doctor(data_dir=tmp_path / "data")
    assert code == 1
    assert f"database cannot be written: nobody must not write into {tmp_path}." in output
    assert f"folder of the results: nobody must not write into {tmp_path}." in output


def test_who_asks_as_another_user_than_the_services_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    with as_nobody():
        job_store(Settings(data_dir=folder)).close()
    # What two users share belongs to neither.
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    with as_nobody():
        _, output = ask_doctor(data_dir=folder, results_dir=shared)
    assert "warn  user: " not in output
    (folder / "results").mkdir()
    os.chown(folder / "results", NOBODY, NOBODY)
    before = everything_in(tmp_path)
    _, output = ask_doctor(data_dir=folder)
    assert f"warn  user: {folder} belongs to nobody; what is said here holds for root." in output
    assert {path: facts[:2] for path, facts in everything_in(tmp_path).items()} == {
        path: facts[:2] for path, facts in before.items()
    }
    with as_nobody():
        _, output = ask_doctor(data_dir=folder)
    assert "ok    jobs' database" in output
    assert "warn  user" not in output


@pytest.mark.parametrize("way", ["engine", "http://127.0.0.1:9"])
def test_the_doctor_says_what_nobody_learns_where_only_the_engine_asks(
    tmp_path: Path, way: str
) -> None:
    _, output = ask_doctor(data_dir=tmp_path / "data", docker_hub_url=way)
    assert ("warn  registries: Only the engine asks about images." in output) is (way == "engine")
    assert ("want the token in a file" in output) is (way == "engine")
